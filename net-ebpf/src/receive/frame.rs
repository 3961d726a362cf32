//! A frame from the card, taken apart into one UDP datagram.
//!
//! The kernel's own stack never sees these frames, so what it would check about UDP is checked
//! here: the lengths, and the checksum over addresses, ports and payload. The sum that IPv4 has
//! over its header is left to UDP's, which covers every field used here but the header's own
//! length; a wrong one moves the payload, and the sum no longer fits.

mod checksum;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Why a frame is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// It holds no whole UDP datagram for the socket's port.
    Foreign = 0,
    /// Its UDP checksum is wrong, or missing where IPv6 demands one.
    Checksum = 1,
}

impl Fault {
    /// Every fault, in the order of the counters.
    pub const ALL: [Self; 2] = [Self::Foreign, Self::Checksum];

    /// The name of the fault: stable, `snake_case`, the value of a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Checksum => "checksum",
        }
    }

    /// The place of the fault in [`Self::ALL`] and among the counters.
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }
}

/// One datagram in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    /// Where it says it comes from.
    pub(super) source: SocketAddr,
    /// Where it goes.
    pub(super) destination: SocketAddr,
    /// Where its payload starts in the frame.
    pub(super) payload: usize,
    /// The size of its payload.
    pub(super) size: usize,
}

/// How the frames of an interface are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// The number of the interface: the scope of its link-local addresses.
    pub(super) scope: u32,
    /// Whether a checksum that its sender left to a card that it never passed is taken too.
    pub(super) checksum_partial: bool,
}

const ETHERNET_SIZE: usize = 14;
const VLAN_SIZE: usize = 4;
/// The most tags in front of the address family: one of the provider's and one of the customer's.
const VLAN_TAGS_MAX: usize = 2;
const TYPE_V4: u16 = 0x0800;
const TYPE_V6: u16 = 0x86dd;
const TYPE_VLAN: u16 = 0x8100;
const TYPE_QINQ: u16 = 0x88a8;
const V4_SIZE_MIN: usize = 20;
const V6_SIZE: usize = 40;
const UDP_SIZE: usize = 8;
const UDP: u8 = 17;
/// The bits of IPv4's fragment field that are set in every fragment: more to come, or an offset.
const V4_FRAGMENT: u16 = 0x3fff;

/// Finds the datagram of a frame and checks its lengths and its checksum.
///
/// Errors: [`Fault::Foreign`] for all that is no whole, unfragmented UDP datagram of IPv4 or IPv6
/// behind at most two VLAN tags; extension headers of IPv6 are not followed.
pub(super) fn parse(frame: &[u8], rules: Rules) -> Result<Datagram, Fault> {
    find(frame, rules).ok_or(Fault::Foreign).and_then(|(datagram, addresses)| {
        let start = datagram.payload - UDP_SIZE;
        let udp = &frame[start..datagram.payload + datagram.size];
        let may_lack = datagram.source.is_ipv4();
        match checksum::check(&frame[addresses..][..if may_lack { 8 } else { 32 }], udp) {
            checksum::Verdict::Whole => Ok(datagram),
            checksum::Verdict::Absent if may_lack => Ok(datagram),
            checksum::Verdict::Partial if rules.checksum_partial => Ok(datagram),
            checksum::Verdict::Absent | checksum::Verdict::Partial | checksum::Verdict::Wrong => {
                Err(Fault::Checksum)
            }
        }
    })
}

/// Finds a datagram and the place of its two IP addresses, which lie side by side.
fn find(frame: &[u8], rules: Rules) -> Option<(Datagram, usize)> {
    let mut at = ETHERNET_SIZE;
    let mut ethertype = word(frame, at - 2)?;
    for _ in 0..VLAN_TAGS_MAX {
        if ethertype == TYPE_VLAN || ethertype == TYPE_QINQ {
            at += VLAN_SIZE;
            ethertype = word(frame, at - 2)?;
        }
    }
    match ethertype {
        TYPE_V4 => find_v4(frame, at),
        TYPE_V6 => find_v6(frame, at, rules.scope),
        _ => None,
    }
}

fn find_v4(frame: &[u8], at: usize) -> Option<(Datagram, usize)> {
    let header: &[u8; V4_SIZE_MIN] = frame.get(at..)?.first_chunk()?;
    let header_size = usize::from(header[0] & 0xf) * 4;
    let total = usize::from(word(header, 2)?);
    let fragment = word(header, 6)? & V4_FRAGMENT != 0;
    if header[0] >> 4 != 4 || header_size < V4_SIZE_MIN || fragment || header[9] != UDP {
        return None;
    }
    let addresses = at + 12;
    let address = |at| Some(IpAddr::V4(Ipv4Addr::from(*frame.get(at..)?.first_chunk::<4>()?)));
    let ends = [address(addresses)?, address(addresses + 4)?];
    let size = total.checked_sub(header_size)?;
    Some((find_udp(frame, at + header_size, size, ends, 0)?, addresses))
}

fn find_v6(frame: &[u8], at: usize, scope: u32) -> Option<(Datagram, usize)> {
    let header: &[u8; V6_SIZE] = frame.get(at..)?.first_chunk()?;
    if header[0] >> 4 != 6 || header[6] != UDP {
        return None;
    }
    let size = usize::from(word(header, 4)?);
    let addresses = at + 8;
    let address = |at| Some(IpAddr::V6(Ipv6Addr::from(*frame.get(at..)?.first_chunk::<16>()?)));
    let ends = [address(addresses)?, address(addresses + 16)?];
    Some((find_udp(frame, at + V6_SIZE, size, ends, scope)?, addresses))
}

/// Reads the UDP header at a place; `size` is what IP says of the bytes from there on.
fn find_udp(
    frame: &[u8],
    at: usize,
    size: usize,
    [from, to]: [IpAddr; 2],
    scope: u32,
) -> Option<Datagram> {
    let header: &[u8; UDP_SIZE] = frame.get(at..)?.first_chunk()?;
    let udp_size = usize::from(word(header, 4)?);
    if udp_size < UDP_SIZE || udp_size > size || udp_size > frame.len() - at {
        return None;
    }
    Some(Datagram {
        source: end(from, word(header, 0)?, scope),
        destination: end(to, word(header, 2)?, scope),
        payload: at + UDP_SIZE,
        size: udp_size - UDP_SIZE,
    })
}

/// Puts an address together as the kernel's sockets would: link-local ones with their interface.
fn end(ip: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(ip, port),
    }
}

/// The two bytes at a place, in the order of the network.
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(super) mod tests;
