//! What can go wrong on the machine's or the operator's side; each prints as one clear line.

use std::{io, net::SocketAddr};

/// A failure of the machine, or a setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be bound to its address.
    #[error("cannot listen on UDP {address}: {}", bind_advice(.source))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },
    /// An option of a socket could not be set or read.
    #[error("UDP {address}: {operation} failed: {source}")]
    Socket {
        /// The address of the socket.
        address: SocketAddr,
        /// What was attempted.
        operation: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Receiving failed for a reason that waiting does not cure.
    #[error("UDP {address}: receiving failed: {source}")]
    Receive {
        /// The address of the socket.
        address: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The interface named for XDP is not there.
    #[error("no network interface {name:?}; this machine has: {}", existing.join(", "))]
    Interface {
        /// The name asked for.
        name: String,
        /// The names that exist, sorted.
        existing: Vec<String>,
    },
    /// The facts of an interface could not be read.
    #[error("network interface {name:?}: {operation} failed: {source}")]
    Facts {
        /// The name asked for; empty for those of the whole machine.
        name: String,
        /// What was attempted.
        operation: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// An AF_XDP ring could not be made, or its counters not be read.
    #[error("AF_XDP on interface {interface_index}, queue {queue}: {operation} failed: {source}")]
    Ring {
        /// The number of the interface.
        interface_index: u32,
        /// The receive queue.
        queue: u32,
        /// What was attempted.
        operation: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A rate or burst lies outside its range.
    #[error("limit {field} is {value}; it must be 1 to {max}")]
    Limit {
        /// The field of [`Limits`](crate::policy::Limits), as `tier.field`.
        field: &'static str,
        /// The value found.
        value: u64,
        /// The largest value allowed.
        max: u64,
    },
    /// More addresses of this host than the filter tells apart.
    #[error("{count} addresses of this host; the filter knows {max} of each family: listen on one")]
    LocalCount {
        /// How many there are, of the larger family.
        count: usize,
        /// How many fit.
        max: usize,
    },
}

/// Says what a failed bind means to an operator.
fn bind_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use by another process; stop it or choose another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; choose one of its own, or 0.0.0.0".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bind_failure_says_what_to_do_in_one_line() {
        for (code, expected) in [
            (libc::EADDRINUSE, "in use by another process"),
            (libc::EADDRNOTAVAIL, "no such address"),
            (libc::EACCES, "CAP_NET_BIND_SERVICE"),
            (libc::ENOMEM, "os error 12"),
        ] {
            let error = Error::Bind {
                address: "10.0.0.1:80".parse().unwrap(),
                source: io::Error::from_raw_os_error(code),
            };
            let line = error.to_string();
            assert!(line.starts_with("cannot listen on UDP 10.0.0.1:80: "), "{line}");
            assert!(line.contains(expected), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
