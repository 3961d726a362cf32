//! Nanoseconds per packet of the filter's twin in user space, which judges what sockets bring.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use net_ebpf::Reject;
use net_ebpf::abi::Session;
use net_ebpf::policy::{Admitted, BURST_PACKETS_MAX, Limits, PACKETS_PER_SECOND_MAX, Policy, Rate};
use net_ebpf::session::{Tokens as _, slot};
use net_ebpf::tables::{Flags, Keys, Port, Setup, Tables};

use super::frame::{
    CLIENT, CLIENT_PORT, HANDSHAKE, HANDSHAKE_SIZE, HEADER_SIZE, HELLO, PORT, SERVER, SUBMIT,
    SUBMIT_SIZE, datagram, header, session,
};
use super::program::{SESSIONS, WINDOW};
use super::stage::{COUNTER, TOKEN, thread_time};
use crate::suite::{Better, Contender, Failure, Label, Metric, Round};

const METRICS: [Metric; 1] = [Metric { name: "packet_ns", unit: "ns", better: Better::Lower }];

/// What a packet's verdict must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Submit,
    Cookie,
    Drop(Reject),
}

/// What differs from packet to packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    Session,
    Source,
}

/// One row.
pub(super) struct Twin {
    policy: Policy,
    label: Label,
    datagram: Vec<u8>,
    change: Change,
    expected: Expected,
    repeat: u32,
    /// The state of a small generator of random numbers.
    random: u64,
    now_ns: u64,
}

/// All rows.
///
/// Errors: none that a machine could cause.
pub(super) fn contenders(repeat: u32) -> Result<Vec<Box<dyn Contender>>, Failure> {
    let submit = |token| datagram(&header(SUBMIT, session(1), COUNTER, token), SUBMIT_SIZE);
    let garbage = datagram(&[0x9e37_79b9_7f4a_7c15; 6], SUBMIT_SIZE);
    let hello = datagram(&header(HELLO, 0, 7, 0), HEADER_SIZE);
    let handshake = datagram(&header(HANDSHAKE, 0, 7, !TOKEN), HANDSHAKE_SIZE);
    let drop = Expected::Drop;
    let rows = [
        ("garbage", garbage, Change::Nothing, drop(Reject::Magic)),
        ("forged", submit(!TOKEN), Change::Nothing, drop(Reject::Token)),
        ("forged", submit(!TOKEN), Change::Session, drop(Reject::Token)),
        ("accepted", submit(TOKEN), Change::Nothing, Expected::Submit),
        ("accepted", submit(TOKEN), Change::Session, Expected::Submit),
        ("hello", hello.clone(), Change::Nothing, Expected::Cookie),
        ("hello", hello, Change::Source, Expected::Cookie),
        ("handshake", handshake, Change::Source, drop(Reject::Cookie)),
    ];
    let row = |(packet, datagram, change, expected)| -> Result<Box<dyn Contender>, Failure> {
        let label = Label::new("net::twin").with("packet", packet);
        let label = match change {
            Change::Nothing => label,
            Change::Session => label.with("sessions", SESSIONS.to_string()),
            Change::Source => label.with("sources", "random"),
        };
        let policy = policy()?;
        let (random, now_ns) = (1, 1 << 40);
        Ok(Box::new(Twin { policy, label, datagram, change, expected, repeat, random, now_ns }))
    };
    rows.into_iter().map(row).collect()
}

/// One token for every slot, and no rate that is reached.
fn policy() -> Result<Policy, Failure> {
    let rate =
        Rate { packets_per_second: PACKETS_PER_SECOND_MAX, burst_packets: BURST_PACKETS_MAX };
    let limits = Limits { hello: rate, handshake: rate, reply: rate, peer_syn: rate, syn: rate };
    let setup = Setup {
        keys: Keys::new([7; 32]),
        limits,
        udp_port: PORT,
        tcp_ports: [0, 0],
        local: vec![(IpAddr::from(SERVER), Port::Udp as u32)],
        peers: Vec::new(),
    };
    let mut tables = Tables::plain(SESSIONS);
    tables.set_up(&setup).map_err(|error| Failure::machine("set the twin up", error))?;
    tables.set_flags(Flags { enforce: true, redirect: false, answer: true });
    for index in 0..SESSIONS {
        tables.open(Session::new(index, 1));
    }
    for slot in 0..SESSIONS as usize * WINDOW as usize {
        tables.put(slot, TOKEN);
    }
    Ok(Policy::new(tables))
}

impl Twin {
    /// Judges one packet and puts back what it spent.
    fn judge(&mut self) -> Expected {
        // Xorshift64 (Marsaglia, section 3): a few instructions.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let low = u32::try_from(self.random & 0xff_ffff).expect("masked to 24 bits");
        let mut index = 1;
        let mut source = CLIENT;
        match self.change {
            Change::Nothing => {}
            Change::Session => {
                index = low % SESSIONS;
                self.datagram[4..8].copy_from_slice(&session(index).to_le_bytes());
            }
            Change::Source => source = Ipv4Addr::from_bits(11 << 24 | low),
        }
        // A microsecond a packet: below every rate.
        self.now_ns += 1_000;
        let source = SocketAddr::new(source.into(), CLIENT_PORT);
        let destination = SocketAddr::new(SERVER.into(), PORT);
        match self.policy.admit(self.now_ns, source, destination, &self.datagram) {
            Ok(Admitted::Submit) => {
                let session = Session::new(index, 1);
                self.policy.tables_mut().put(slot(session, COUNTER), TOKEN);
                Expected::Submit
            }
            Ok(Admitted::Cookie(cookie)) => {
                std::hint::black_box(cookie);
                Expected::Cookie
            }
            // No row brings a cookie that is right.
            Ok(Admitted::Handshake) => Expected::Drop(Reject::Kind),
            Err(reject) => Expected::Drop(reject),
        }
    }
}

impl Contender for Twin {
    fn label(&self) -> Label {
        self.label.clone()
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        for _ in 0..100 {
            let (found, expected) = (self.judge(), self.expected);
            if found != expected {
                return Err(Failure::Wrong(format!("{found:?} instead of {expected:?}")));
            }
        }
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let began = thread_time();
        for _ in 0..self.repeat {
            std::hint::black_box(self.judge());
        }
        let took = thread_time().saturating_sub(began);
        Ok(Round::valid(vec![took.as_secs_f64() * 1e9 / f64::from(self.repeat)]))
    }
}
