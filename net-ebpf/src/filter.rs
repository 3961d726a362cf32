//! The gate in front of the kernel's packet path: what carries the packets, and why.
//!
//! A kernel program needs an interface that was asked for, privileges, and an object to load. Where
//! one is missing, plain sockets carry the packets and the reason is named: the answer of
//! [`policy`](crate::policy) is the same, only later in the packet's way.

use std::{fmt, fs, io};

use crate::Error;

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
    /// Plain UDP sockets.
    Socket,
}

impl Mode {
    /// The name of the mode, as a metric's label has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
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

/// The one place where the packet path is chosen.
pub struct Gate;

impl Gate {
    /// Chooses what carries the packets; `interface` is the one named by the operator for XDP.
    ///
    /// Errors: [`Error::Interface`] when it does not exist. Everything else is a named fallback.
    pub fn choose(interface: Option<&str>) -> Result<Choice, Error> {
        let Some(name) = interface else {
            return Ok(Choice { mode: Mode::Socket, reason: "xdp: not asked for".to_owned() });
        };
        decide(name, read_interfaces(), read_capabilities())
    }
}

/// Decides on what was read from the machine.
fn decide(
    name: &str,
    interfaces: io::Result<Vec<String>>,
    capabilities: io::Result<u64>,
) -> Result<Choice, Error> {
    let socket =
        |why: String| Choice { mode: Mode::Socket, reason: format!("xdp on {name}: {why}") };
    match interfaces {
        Ok(existing) if !existing.iter().any(|other| other == name) => {
            return Err(Error::Interface { name: name.to_owned(), existing });
        }
        Ok(_) => {}
        Err(error) => {
            let name = name.escape_debug();
            let reason = format!("xdp on {name}: cannot list interfaces: {error}");
            return Ok(Choice { mode: Mode::Socket, reason });
        }
    }
    let why = match capabilities {
        Ok(effective) => match missing(effective) {
            Some(missing) => format!("no {missing}"),
            None => "this build carries no XDP program".to_owned(),
        },
        Err(error) => format!("cannot read the process's capabilities: {error}"),
    };
    Ok(socket(why))
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

/// The names of the interfaces in the process's network namespace, sorted.
fn read_interfaces() -> io::Result<Vec<String>> {
    Ok(parse_interfaces(&fs::read_to_string("/proc/self/net/dev")?))
}

/// Reads the table of `/proc/net/dev`: two lines of heading, then `name: counters`.
fn parse_interfaces(table: &str) -> Vec<String> {
    // A name may hold a colon (an alias of old), the counters never do.
    let name = |line: &str| line.rsplit_once(':').map(|(name, _)| name.trim().to_owned());
    let mut names: Vec<_> = table.lines().skip(2).filter_map(name).collect();
    names.sort_unstable();
    names
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
mod tests {
    use super::*;

    const TABLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo: 1234 5 0 0 0 0 0 0 1234 5 0 0 0 0 0 0
  eth0:99999 5 0 0 0 0 0 0 1234 5 0 0 0 0 0 0
eth0:1: 1 5 0 0 0 0 0 0 1234 5 0 0 0 0 0 0
";
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    const BPF: u64 = 1 << 39;

    fn line(capabilities: io::Result<u64>) -> String {
        decide("eth0", Ok(parse_interfaces(TABLE)), capabilities).unwrap().to_string()
    }

    #[test]
    fn each_lack_is_named() {
        let lacks = "socket (xdp on eth0: no CAP_NET_ADMIN and CAP_BPF)";
        assert_eq!(line(Ok(0)), lacks);
        assert_eq!(line(Ok(!(NET_ADMIN | SYS_ADMIN | BPF))), lacks);
        assert_eq!(line(Ok(BPF)), "socket (xdp on eth0: no CAP_NET_ADMIN)");
        assert_eq!(line(Ok(NET_ADMIN)), "socket (xdp on eth0: no CAP_BPF)");
        let build = "socket (xdp on eth0: this build carries no XDP program)";
        assert_eq!(line(Ok(NET_ADMIN | BPF)), build);
        assert_eq!(line(Ok(SYS_ADMIN)), build);
        assert_eq!(
            line(Err(io::Error::other("gone"))),
            "socket (xdp on eth0: cannot read the process's capabilities: gone)"
        );
    }

    #[test]
    fn an_unknown_interface_is_an_error_that_lists_the_others() {
        let error = decide("eth9", Ok(parse_interfaces(TABLE)), Ok(0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no network interface \"eth9\"; this machine has: eth0, eth0:1, lo"
        );
    }

    #[test]
    fn without_a_list_of_interfaces_sockets_carry_on() {
        let choice = decide("e\n0", Err(io::Error::other("gone")), Ok(0)).unwrap();
        assert_eq!(choice.to_string(), "socket (xdp on e\\n0: cannot list interfaces: gone)");
    }

    #[test]
    fn this_machine_is_read() {
        let choice = Gate::choose(None).unwrap();
        assert_eq!(choice.to_string(), "socket (xdp: not asked for)");
        assert_eq!(choice.mode, Mode::Socket);
        let choice = Gate::choose(Some("lo")).unwrap();
        assert!(choice.to_string().starts_with("socket (xdp on lo: "), "{choice}");
        assert!(!choice.reason.contains("cannot"), "{choice}");
        assert!(matches!(Gate::choose(Some("")), Err(Error::Interface { .. })));
    }

    #[test]
    fn a_status_without_capabilities_is_noticed() {
        assert_eq!(
            parse_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            Some(0x1ff_ffff_ffff)
        );
        assert_eq!(parse_capabilities("Name:\tx\nCapEff:\tno\n"), None);
        assert_eq!(parse_capabilities("Name:\tx\n"), None);
    }
}
