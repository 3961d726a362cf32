//! The kernel program: loaded, its maps mapped into this process, attached by a link.
//!
//! Everything privileged happens in [`Kernel::load`], [`Kernel::attach`] and [`Kernel::register`].
//! Afterwards tokens, lists, addresses and counters are words in mapped memory: no `bpf` call is made.
//! The link is not pinned and its descriptor is closed on exec, so that the program is gone with the process,
//! however that ends.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd, BorrowedFd, RawFd},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapData, XskMap},
    programs::{
        ProgramError, TestRun as _, TestRunOptions, Xdp, XdpMode, links::FdLink, xdp::XdpLink,
    },
};

use crate::tables::{self, Tables, Words};

/// The program as clang wrote it; `program/build.sh` rebuilds it bit for bit.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../program/filter.bpf.o");

/// The name of the program in its object.
const PROGRAM: &str = "althing";
/// Queues that can have a ring: the size of the map.
pub const RINGS_MAX: u32 = 64;

/// Where in the receive path a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In the driver, before the kernel makes anything of a packet.
    Driver,
    /// In the generic path, for drivers without support.
    Generic,
}

/// Why the kernel path is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel refuses the program or a map.
    #[error("the kernel refuses {what}: {source}")]
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// Another program is there, and is left alone.
    #[error("another XDP program is attached; it is left alone")]
    Occupied,
    /// The driver or the kernel cannot attach it so.
    #[error("not supported {hook}: {source}")]
    Unsupported {
        /// Where it was to be attached.
        hook: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel knows no links: a program would outlive a process that is killed.
    #[error("this kernel attaches XDP programs without links only")]
    NoLinks,
}

impl Hook {
    fn describe(self) -> &'static str {
        match self {
            Self::Driver => "by the driver",
            Self::Generic => "in the generic path",
        }
    }
}

/// The loaded program.
pub struct Kernel {
    ebpf: Ebpf,
    link: Option<FdLink>,
}

/// What one run of the program by hand gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// The number of the action: 0 aborted, 1 drop, 2 pass, 3 transmit, 4 redirect.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

impl Kernel {
    /// Loads the program, for so many sessions, and maps its maps.
    ///
    /// Errors: [`KernelError::Refused`].
    pub fn load(sessions: u32) -> Result<(Self, Tables), KernelError> {
        let window = u32::try_from(tables::window()).expect("a thousand");
        let tokens = sessions.checked_mul(window).expect("at most 2^20 sessions of 2^10 tokens");
        let cpus = cpus().map_err(refused("the number of CPUs"))?;
        let mut loader = EbpfLoader::new();
        let per_word = u32::try_from(tables::GENERATIONS_PER_WORD).expect("four");
        let generations = sessions.div_ceil(per_word);
        loader
            .map_max_entries("GENERATIONS", generations)
            .map_max_entries("TOKENS", tokens)
            .map_max_entries("COUNTS", cpus);
        let mut ebpf = loader.load(OBJECT).map_err(|error| refusal("the maps", error))?;
        let words = |name, count: usize| {
            Words::mapped(descriptor(&ebpf, name), count).map_err(refused("to map its maps"))
        };
        let cpus = usize::try_from(cpus).expect("few CPUs");
        let tables = Tables {
            control: words("CONTROL", tables::CONTROL_WORDS)?,
            state: words("STATE", tables::STATE_WORDS)?,
            generations: words("GENERATIONS", usize::try_from(generations).expect("18 bits"))?,
            tokens: words("TOKENS", usize::try_from(tokens).expect("32 bits"))?,
            counts: words("COUNTS", cpus * tables::COUNTERS)?,
        };
        tables.set_tick(tick_ns().map_err(refused("its tick"))?);
        program(&mut ebpf)
            .load()
            .map_err(|error| refusal("the program", EbpfError::ProgramError(error)))?;
        Ok((Self { ebpf, link: None }, tables))
    }

    /// Attaches the program to an interface, by a link.
    ///
    /// Errors: all of [`KernelError`]; the interface is then as it was.
    pub fn attach(&mut self, interface: u32, hook: Hook) -> Result<(), KernelError> {
        let mode = match hook {
            Hook::Driver => XdpMode::Driver,
            Hook::Generic => XdpMode::Skb,
        };
        let program = program(&mut self.ebpf);
        let id = program.attach_to_if_index(interface, mode).map_err(|error| {
            let source = os_error(&EbpfError::ProgramError(error));
            match source.raw_os_error() {
                Some(libc::EBUSY | libc::EEXIST) => KernelError::Occupied,
                _ => KernelError::Unsupported { hook: hook.describe(), source },
            }
        })?;
        let link: XdpLink = program.take_link(id).expect("it was attached just now");
        // Dropped, the other kind of link detaches at once.
        self.link = Some(FdLink::try_from(link).map_err(|_| KernelError::NoLinks)?);
        Ok(())
    }

    /// Hands what passes on this queue to an AF_XDP socket.
    ///
    /// Errors: [`KernelError::Refused`].
    pub fn register(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        let map = self.ebpf.map_mut("RINGS").expect("the object has this map");
        let mut rings = XskMap::try_from(map).expect("it is a map of sockets");
        rings
            .set(queue, Raw(socket.as_raw_fd()), 0)
            .map_err(|error| refusal("an AF_XDP socket", EbpfError::MapError(error)))
    }

    /// Runs the program once over a frame, as if it had arrived.
    ///
    /// Errors: those of the kernel; a frame has at least 14 bytes.
    pub fn test_run(&self, frame: &[u8]) -> io::Result<TestRun> {
        // The answer is as long as the request.
        let mut out = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result = self
            .program()
            .test_run(options)
            .map_err(|error| os_error(&EbpfError::ProgramError(error)))?;
        Ok(TestRun { action: result.return_value, frame: out })
    }

    fn program(&self) -> &Xdp {
        let program = self.ebpf.program(PROGRAM).expect("the object has this program");
        program.try_into().expect("it is an XDP program")
    }
}

/// A descriptor that somebody else owns.
struct Raw(RawFd);

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

fn program(ebpf: &mut Ebpf) -> &mut Xdp {
    let program = ebpf.program_mut(PROGRAM).expect("the object has this program");
    program.try_into().expect("it is an XDP program")
}

fn descriptor<'a>(ebpf: &'a Ebpf, name: &str) -> BorrowedFd<'a> {
    match ebpf.map(name).expect("the object has this map") {
        Map::Array(data) => MapData::fd(data).as_fd(),
        _ => unreachable!("the object's maps are arrays, but for the map of sockets"),
    }
}

/// CPUs that the machine can have: each has its own counters.
fn cpus() -> io::Result<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u32>().ok());
    last.map(|last| last + 1).ok_or_else(|| io::Error::other(format!("{text:?}")))
}

/// The tick of the kernel's clock: the resolution of the clock that moves with it.
fn tick_ns() -> io::Result<u32> {
    let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    let ns = u32::try_from(tick.tv_nsec).ok().filter(|&ns| ns > 0 && tick.tv_sec == 0);
    ns.ok_or_else(|| io::Error::other(format!("{tick:?}")))
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Refused { what, source }
}

fn refusal(what: &'static str, error: EbpfError) -> KernelError {
    KernelError::Refused { what, source: os_error(&error) }
}

/// The kernel's own answer somewhere below an error of the loader, or its words.
fn os_error(error: &EbpfError) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(known) = this.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(known);
        }
        if let Some(ProgramError::LoadError { io_error, verifier_log }) = this.downcast_ref() {
            // The verifier's words are long; where there are any, they are what matters.
            let log = verifier_log.to_string();
            return match (log.trim().lines().last(), io_error.raw_os_error()) {
                (None, Some(code)) => io::Error::from_raw_os_error(code),
                (last, _) => io::Error::other(format!("{io_error}: {}", last.unwrap_or(""))),
            };
        }
        cause = this.source();
    }
    io::Error::other(error.to_string())
}
