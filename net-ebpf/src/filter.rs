//! The gate in front of the kernel's packet path: what carries the packets, and why.
//!
//! A kernel program needs an interface that was asked for, privileges, and a kernel that takes it. Where
//! one is missing, plain sockets carry the packets and the reason is named: the answer of
//! [`policy`](crate::policy) is the same, only later in the packet's way.
//!
//! [`Gate::open`] is the whole of the privileged work. What it returns needs no capability any more:
//! tables are mapped memory, rings are polled, and the link holds until the process ends, however
//! that happens.

pub mod kernel;

use std::{fmt, fs, io, os::fd::AsFd as _};

use crate::{
    Counters, Error,
    abi::Session,
    interface::{self, Interface, QueuesSource},
    receive::{Ring, RingOptions},
    session::Tokens,
    tables::{Flags, Setup, Tables},
};
use kernel::{Hook, Kernel, KernelError};

const CAP_NET_ADMIN: Capability = Capability { bit: 12, name: "CAP_NET_ADMIN" };
const CAP_SYS_ADMIN: Capability = Capability { bit: 21, name: "CAP_SYS_ADMIN" };
const CAP_BPF: Capability = Capability { bit: 39, name: "CAP_BPF" };

/// A right of the process. Source: `linux/capability.h`.
#[derive(Clone, Copy)]
struct Capability {
    bit: u32,
    name: &'static str,
}

/// What carries packets into the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The program runs in the driver.
    Driver,
    /// The program runs in the kernel's generic path.
    Generic,
    /// Plain UDP sockets.
    Socket,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Driver, Self::Generic, Self::Socket];

    /// The name of the mode, as a metric's label has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Driver => "xdp_driver",
            Self::Generic => "xdp_generic",
            Self::Socket => "socket",
        }
    }
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The driver, or else the generic path.
    Auto,
    /// The driver or nothing.
    Driver,
    /// The generic path.
    Generic,
    /// Nothing.
    Off,
}

/// What the program does with what it would drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Counts it, and lets everything pass.
    Observe,
    /// Drops it.
    Enforce,
}

impl Action {
    /// The name, as it is configured and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// What was chosen, and why; prints as `socket (xdp on eth0: no CAP_BPF)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What carries the packets.
    pub mode: Mode,
    /// Why, in a few words.
    pub reason: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.mode.name(), self.reason)
    }
}

/// What is asked of the gate.
#[derive(Clone)]
pub struct Request<'a> {
    /// The interface named by the operator, if any.
    pub interface: Option<&'a str>,
    /// Where the program is to run.
    pub wanted: Wanted,
    /// What it does.
    pub action: Action,
    /// Sessions that there is room for.
    pub sessions: u32,
    /// What the program is told.
    pub setup: &'a Setup,
}

/// The program in its place, with everything that the process needs of it.
pub struct Attached {
    /// The interface.
    pub interface: Interface,
    /// What it does.
    pub action: Action,
    tables: Tables,
    // The program and its link: gone when this is.
    _kernel: Kernel,
}

/// What the gate opened.
pub struct Opened {
    /// What carries the packets, and why.
    pub choice: Choice,
    /// The program, if it runs.
    pub attached: Option<Attached>,
    /// Rings that receive what the program lets in; what has none comes by the socket.
    pub rings: Vec<Ring>,
}

impl Attached {
    /// The program's tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What the program did.
    pub fn counters(&self) -> Counters {
        self.tables.counters()
    }
}

impl Tokens for Attached {
    fn open(&mut self, session: Session) {
        self.tables.open(session);
    }

    fn put(&mut self, slot: usize, token: u64) {
        self.tables.put(slot, token);
    }
}

/// The one place where the packet path is chosen.
pub struct Gate;

impl Gate {
    /// Chooses what carries the packets, and does everything for it that needs privileges.
    ///
    /// Errors: [`Error::Interface`] when the interface does not exist; [`Error::Limit`]. Everything
    /// else is a named fallback.
    pub fn open(request: &Request<'_>) -> Result<Opened, Error> {
        let socket = |reason: String| {
            let choice = Choice { mode: Mode::Socket, reason };
            Ok(Opened { choice, attached: None, rings: Vec::new() })
        };
        let name = match request.interface {
            None => return socket("xdp: not asked for".to_owned()),
            Some(_) if request.wanted == Wanted::Off => {
                return socket("xdp: turned off".to_owned());
            }
            Some(name) => name,
        };
        let because = |why: &dyn fmt::Display| format!("xdp on {}: {why}", name.escape_debug());
        let interface = match Interface::read(name) {
            Ok(interface) => interface,
            Err(error @ Error::Interface { .. }) => return Err(error),
            Err(error) => return socket(because(&error)),
        };
        match read_capabilities() {
            Ok(effective) => {
                if let Some(missing) = missing(effective) {
                    return socket(because(&format!("no {missing}")));
                }
            }
            Err(error) => {
                let why = format!("cannot read the process's capabilities: {error}");
                return socket(because(&why));
            }
        }
        let (mut kernel, tables) = match Kernel::load(request.sessions) {
            Ok(loaded) => loaded,
            Err(error) => return socket(because(&error)),
        };
        match tables.set_up(request.setup) {
            Ok(()) => {}
            Err(error @ Error::LocalCount { .. }) => return socket(because(&error)),
            Err(error) => return Err(error),
        }
        let (hook, note) = match attach(&mut kernel, &interface, request.wanted) {
            Ok(attached) => attached,
            Err(error) => return socket(because(&error)),
        };
        let (rings, receive) = match request.action {
            Action::Enforce => open_rings(&mut kernel, &interface, hook),
            Action::Observe => (Vec::new(), "sockets".to_owned()),
        };
        // The driver of paired virtual interfaces drops what is sent back unless the other end polls,
        // which cannot be seen from here: there the process answers.
        let answer = hook == Hook::Generic || interface.is_hardware();
        let (enforce, redirect) = (request.action == Action::Enforce, !rings.is_empty());
        tables.set_flags(Flags { enforce, redirect, answer });
        let what = format!("{}, {receive}{note}{}", request.action.name(), syn_cookies());
        let mode = match hook {
            Hook::Driver => Mode::Driver,
            Hook::Generic => Mode::Generic,
        };
        let choice = Choice { mode, reason: because(&what) };
        let attached = Attached { interface, action: request.action, tables, _kernel: kernel };
        Ok(Opened { choice, attached: Some(attached), rings })
    }
}

/// Attaches where it is wanted, and says in a few words what was tried in vain.
fn attach(
    kernel: &mut Kernel,
    interface: &Interface,
    wanted: Wanted,
) -> Result<(Hook, String), KernelError> {
    if wanted == Wanted::Generic {
        return kernel
            .attach(interface.index, Hook::Generic)
            .map(|()| (Hook::Generic, String::new()));
    }
    match kernel.attach(interface.index, Hook::Driver) {
        Ok(()) => Ok((Hook::Driver, String::new())),
        Err(error @ KernelError::Unsupported { .. }) if wanted == Wanted::Auto => {
            kernel.attach(interface.index, Hook::Generic)?;
            Ok((Hook::Generic, format!("; {error}")))
        }
        Err(error) => Err(error),
    }
}

/// Opens a ring on every queue and registers it; says what came of it.
fn open_rings(kernel: &mut Kernel, interface: &Interface, hook: Hook) -> (Vec<Ring>, String) {
    let mut rings: Vec<Ring> = Vec::new();
    let mut failure = None;
    for queue in 0..interface.queues_count.min(kernel::RINGS_MAX) {
        let opened = Ring::open(RingOptions {
            interface_index: interface.index,
            queue,
            zero_copy: hook == Hook::Driver,
            checksum_partial: interface.leaves_checksums_partial(),
        });
        match opened {
            Ok(ring) => match kernel.register(queue, ring.as_fd()) {
                Ok(()) => rings.push(ring),
                Err(error) => failure = Some(error.to_string()),
            },
            // A count that is only an upper bound ends where the driver has no more queues.
            Err(Error::Ring { source, .. })
                if queue > 0
                    && interface.queues_source == QueuesSource::Allocated
                    && source.raw_os_error() == Some(libc::EINVAL) =>
            {
                break;
            }
            Err(error) => failure = Some(error.to_string()),
        }
    }
    let how = if rings.iter().all(Ring::is_zero_copy) { "zero-copy" } else { "copy" };
    let text = match (rings.len(), failure) {
        (0, None) => "sockets".to_owned(),
        (0, Some(failure)) => format!("sockets ({failure})"),
        (count, None) => format!("{count} AF_XDP {} ({how})", plural(count)),
        (count, Some(failure)) => {
            format!("{count} AF_XDP {} ({how}), sockets for the rest ({failure})", plural(count))
        }
    };
    (rings, text)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "ring" } else { "rings" }
}

/// What an operator should know of the kernel's own defence behind the budget for SYNs.
fn syn_cookies() -> &'static str {
    match interface::has_syn_cookies() {
        Ok(false) => "; net.ipv4.tcp_syncookies is 0: turn it on",
        Ok(true) | Err(_) => "",
    }
}

/// Names what the process lacks to load and attach a program.
///
/// `CAP_SYS_ADMIN` stands for both, as in kernels that knew no `CAP_BPF`.
fn missing(effective: u64) -> Option<String> {
    let has = |capability: Capability| effective >> capability.bit & 1 == 1;
    if has(CAP_SYS_ADMIN) {
        return None;
    }
    let lacking = [CAP_NET_ADMIN, CAP_BPF].into_iter().filter(|&capability| !has(capability));
    let names: Vec<_> = lacking.map(|capability| capability.name).collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

/// The effective capabilities of the process, one bit each.
fn read_capabilities() -> io::Result<u64> {
    parse_capabilities(&fs::read_to_string("/proc/self/status")?)
        .ok_or_else(|| io::Error::other("/proc/self/status has no CapEff"))
}

/// Finds the line `CapEff:` of a process's status.
fn parse_capabilities(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests;
