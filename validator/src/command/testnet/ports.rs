//! Free ports for a network, where no outgoing connection takes them later.

use crate::command::Exit;
use crate::command::network::{PORTS, listen_from};
use crate::config::Listen;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

/// Below are ports of well-known services.
const FIRST: u16 = 10_000;
/// Where outgoing connections begin, if the kernel does not say.
const OUTGOING_FIRST: u16 = 32_768;

/// Finds five free ports in a row for each validator.
///
/// A validator that starts again needs the same ports: one that the kernel gives to outgoing
/// connections could be taken in the meantime, so those are avoided.
///
/// Errors: network, when there are none.
pub(in crate::command) fn free(host: IpAddr, validators: u16) -> Result<Vec<Listen>, Exit> {
    let end = outgoing_first().unwrap_or(OUTGOING_FIRST).max(FIRST);
    let places = (end - FIRST) / PORTS;
    let mut lot = [0; 2];
    // Another start for each run, so that runs side by side seldom meet.
    getrandom::fill(&mut lot)
        .map_err(|error| Exit::host_unfit(format!("no random numbers: {error}")))?;
    let start = u16::from_le_bytes(lot).checked_rem(places).unwrap_or(0);
    let found: Vec<Listen> = (0..places)
        .map(|step| FIRST + PORTS * ((start + step) % places))
        .filter(|base| are_free(&listen_from(host, *base)))
        .take(validators.into())
        .map(|base| listen_from(host, base))
        .collect();
    if found.len() < usize::from(validators) {
        return Err(Exit::network(format!(
            "no {} free ports from {FIRST} to {end}: give --base-port",
            u32::from(PORTS) * u32::from(validators)
        )));
    }
    Ok(found)
}

/// Tries each socket in its own protocol.
fn are_free(listen: &Listen) -> bool {
    let Listen { consensus, lanes, udp, tcp, http, history } = listen;
    let is_free = |address: &&SocketAddr| TcpListener::bind(**address).is_ok();
    [consensus, lanes, tcp, http, history].iter().all(is_free) && UdpSocket::bind(udp).is_ok()
}

/// Returns the first port that the kernel gives to outgoing connections.
fn outgoing_first() -> Option<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn ports_are_free_and_distinct_and_not_those_of_outgoing_connections() {
        let found = free(HOST, 7).unwrap();
        let ports: BTreeSet<u16> = found.iter().map(|listen| listen.consensus.port()).collect();
        assert_eq!(ports.len(), 7);
        let end = outgoing_first().unwrap_or(OUTGOING_FIRST);
        assert!(ports.iter().all(|port| (FIRST..=end - PORTS).contains(port)), "{ports:?}");
    }

    #[test]
    fn a_port_in_use_is_noticed_in_its_own_protocol() {
        let base = free(HOST, 1).unwrap()[0].consensus.port();
        let listen = listen_from(HOST, base);
        let taken = TcpListener::bind(listen.http).unwrap();
        assert!(!are_free(&listen));
        drop(taken);
        let taken = UdpSocket::bind(listen.udp).unwrap();
        assert!(!are_free(&listen));
        drop(taken);
        assert!(are_free(&listen));
    }
}
