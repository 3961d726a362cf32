//! The ways in for clients' transactions: datagrams and connections; HTTP has its own module.
//!
//! Binding and running are apart, so that a port in use is one clear line before any thread starts.
//! Everything that a stranger can make this side keep has a limit here, beside its reason.

pub mod tcp;
pub mod udp;

pub(crate) mod seats;

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

/// Bytes of transactions that wait in the queue `ingest_verify`, at most: a second and a half of
/// 20,000 transactions of 1 KiB. Full: refused as `busy` and counted.
pub const BYTES_MAX: usize = 32 << 20;

/// Connections that the kernel holds until they are accepted: as many as are ever served, so that a
/// burst of them while the thread is busy is not delayed by a second of repeated handshakes.
const BACKLOG: i32 = 1_024;

/// A listening socket could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {name} {address}: {}", advice(source))]
pub struct BindError {
    /// What it was for: `tcp` or `http`.
    pub name: &'static str,
    /// The address asked for.
    pub address: SocketAddr,
    /// What the kernel answered.
    pub source: io::Error,
}

/// Binds a socket for connections; port 0 takes a free port.
///
/// Errors: [`BindError`], one line that says what to do.
pub fn listen(name: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).map_err(|source| BindError { name, address, source })
}

/// Hands a bound socket to the caller's runtime.
pub(crate) fn accept_on(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    // Listening again only makes the kernel's queue longer.
    rustix::net::listen(&listener, BACKLOG)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Says what a failed bind means to an operator.
fn advice(error: &io::Error) -> String {
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
    fn a_port_in_use_is_one_line_that_says_what_to_do() {
        let first = listen("tcp", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let line = listen("http", address).unwrap_err().to_string();
        let expected = format!(
            "cannot listen on http {address}: the port is in use by another process; \
             stop it or choose another port"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn an_address_of_another_machine_is_one_line_that_says_what_to_do() {
        // 192.0.2.0/24 is set aside for documentation, RFC 5737.
        let line = listen("tcp", "192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
        assert!(line.contains("this machine has no such address"), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }

    #[test]
    fn other_failures_keep_the_kernels_words() {
        let denied =
            advice(&io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error()));
        assert!(denied.contains("CAP_NET_BIND_SERVICE"), "{denied}");
        let other = advice(&io::Error::from_raw_os_error(rustix::io::Errno::NOMEM.raw_os_error()));
        assert!(other.contains("os error 12"), "{other}");
    }
}
