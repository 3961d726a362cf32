//! The flood: live frames that a kernel program fills and sends, attacks and honest packets in one
//! stream.

use std::time::{Duration, Instant};

use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions};

use super::frame::{
    ATTACKER, CLIENT, CLIENT_PORT, Header, PORT, SERVER, SUBMIT_SIZE, datagram, udp,
};
use super::host::{CPU_GENERATOR, Wire, join, pin, schedule, this_thread};
use super::program::Programs;
use crate::suite::Failure;

/// The programs of a flood: what makes it, and what is known of no filter but the bench's own.
pub(super) const PROGRAMS: [&str; 3] = ["generate", "ideal", "empty_drop"];
/// Most honest packets of a round.
pub(super) const VALID_MAX: u32 = 262_144;
/// Frames that leave together.
const BATCH: u32 = 256;
/// Frames of one call. The kernel takes 20 ms to begin and end a call, in which nothing is sent.
const REPEAT: u32 = 1 << 22;
/// Words of `struct generator`.
const WORDS: usize = 16;

/// What attackers send; the numbers are those of `enum attack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Attack {
    /// Nothing.
    None = 0,
    /// Random bytes.
    Garbage = 1,
    /// Submits for existing sessions, whose generations the attacker knows, with one of their first
    /// counters and a token that was guessed.
    Forged = 2,
    /// Hellos from sources drawn at random.
    Spoofed = 3,
    /// Honest packets that were sent before.
    Replay = 4,
    /// Hellos from four sources.
    Hello = 5,
    /// Handshakes with cookies that were guessed, from sources drawn at random.
    Cookie = 6,
    /// Submits with all of session, generation, counter and token guessed: what a stranger can send.
    Session = 7,
}

impl Attack {
    /// Its name in rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Garbage => "garbage",
            Self::Forged => "forged_tokens",
            Self::Spoofed => "spoofed_sources",
            Self::Replay => "replays",
            Self::Hello => "cookie_requests",
            Self::Cookie => "forged_cookies",
            Self::Session => "forged_sessions",
        }
    }
}

/// A flood's pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flood {
    pub(super) attack: Attack,
    pub(super) duration: Duration,
    /// Attack packets a second, at most.
    pub(super) attack_rate: u32,
    /// Honest packets a second.
    pub(super) valid_rate: u32,
    /// How many of them were prepared; where they end, only the attack goes on.
    pub(super) valid_count: u32,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) attack: u64,
    pub(super) valid: u64,
    pub(super) elapsed: Duration,
}

/// Hands honest packets to the generator; their bodies are zeros.
///
/// Errors: the kernel's.
pub(super) fn prepare(programs: &mut Programs, valid: &[Header]) -> Result<(), Failure> {
    assert!(valid.len() <= VALID_MAX as usize, "there is room for so many");
    programs.fill("VALID", (0..).zip(valid.iter().copied()))
}

/// Sends for a while.
///
/// Errors: the kernel's.
pub(super) fn run(programs: &mut Programs, wire: &Wire, flood: &Flood) -> Result<Sent, Failure> {
    let settings = settings(wire, flood)?;
    programs.set("GENERATOR", 0, settings)?;
    // The frame's bytes beyond the header stay as they are here.
    let frame = udp(CLIENT, &datagram(&[0; 6], SUBMIT_SIZE));
    let program = programs.xdp("generate");
    let duration = flood.duration;
    let send = || {
        pin(None, CPU_GENERATOR)?;
        schedule(this_thread(), "-f", 4)?;
        let began = Instant::now();
        while began.elapsed() < duration {
            let options = TestRunOptions {
                data_in: Some(&frame),
                repeat: REPEAT,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::new()
            };
            program
                .test_run(options)
                .map_err(|error| Failure::machine("send live frames", error))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| join(wire.client.spawn(scope, send)))?;
    let after: [u64; WORDS] = programs.get("GENERATOR", 0)?;
    let elapsed = Duration::from_nanos(after[3].saturating_sub(after[2]).max(1));
    Ok(Sent { attack: after[8], valid: after[6], elapsed })
}

/// `struct generator` before its first packet.
fn settings(wire: &Wire, flood: &Flood) -> Result<[u64; WORDS], Failure> {
    let mut ethernet = [0; 16];
    ethernet[..6].copy_from_slice(&wire.server.mac()?);
    ethernet[6..12].copy_from_slice(&wire.client.mac()?);
    ethernet[12..14].copy_from_slice(&[8, 0]);
    let half = |at: usize| {
        let bytes = ethernet[at..at + 8].try_into().expect("eight bytes of a range of eight");
        u64::from_le_bytes(bytes)
    };
    let wire_address = |octets: [u8; 4]| u64::from(u32::from_le_bytes(octets));
    let ports = u64::from(CLIENT_PORT.to_be()) | u64::from(PORT.to_be()) << 16;
    let size = u64::try_from(8 + SUBMIT_SIZE).expect("small");
    Ok([
        half(0),
        half(8),
        0,
        0,
        0,
        1_000_000_000 / u64::from(flood.valid_rate.max(1)),
        0,
        u64::from(flood.valid_count),
        0,
        0,
        u64::from(wire.client.index()?) | u64::from(flood.attack as u8) << 32,
        wire_address(ATTACKER.octets()) | wire_address(SERVER.octets()) << 32,
        ports | size << 32,
        u64::try_from(flood.duration.as_nanos()).expect("a few seconds"),
        0,
        u64::from(flood.attack_rate),
    ])
}
