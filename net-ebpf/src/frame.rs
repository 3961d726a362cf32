//! A frame from the wire, taken apart just as far as it takes to say whose it is.
//!
//! The twin of the parsing in `program/filter.h`: what is cut short before its port, or cannot be
//! understood, is nobody's and passes untouched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Size of an Ethernet header.
pub(crate) const ETHERNET_SIZE: usize = 14;
/// Size of a VLAN tag.
const VLAN_SIZE: usize = 4;
/// Size of an IPv4 header without options.
const IPV4_SIZE: usize = 20;
/// Size of an IPv6 header.
const IPV6_SIZE: usize = 40;
/// Size of a UDP header; of a TCP header this much tells the ports.
pub(crate) const UDP_SIZE: usize = 8;
/// Extension headers that are walked; a host may take no more (RFC 8504, section 5.3).
const EXTENSIONS_MAX: usize = 8;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPE_VLAN: u16 = 0x8100;
const TYPE_QINQ: u16 = 0x88a8;

/// The protocol number of TCP.
pub(crate) const TCP: u8 = 6;
/// The protocol number of UDP.
pub(crate) const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
/// Hop-by-hop, routing, fragment, authentication, destination, mobility, HIP, shim6.
const EXTENSIONS: [u8; 8] = [0, 43, FRAGMENT, AUTHENTICATION, 60, 135, 139, 140];

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
}

/// An IP packet with the start of a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Addresses and ports.
    pub(crate) flow: Flow,
    /// UDP, TCP or any other protocol.
    pub(crate) protocol: u8,
    /// Where the IP header starts.
    pub(crate) network: usize,
    /// Where the transport header starts; at least 8 bytes of it are there.
    pub(crate) transport: usize,
    /// Bytes after the IP header, as it says; of a plain one the transport header is the first.
    pub(crate) size: usize,
    /// Whether it has neither options nor extension headers.
    pub(crate) is_plain: bool,
    /// Whether it is the first fragment of a larger IPv4 packet.
    pub(crate) is_cut: bool,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Nothing that has ports, or too short to tell them.
    Opaque,
    /// An IPv6 packet to this address with more extension headers than are walked.
    Crowded(IpAddr),
    /// A packet with ports, perhaps.
    Packet(Parsed),
}

/// Takes a frame apart.
pub(crate) fn parse(frame: &[u8]) -> Frame {
    let Some(mut kind) = be16(frame, 12) else {
        return Frame::Opaque;
    };
    let mut network = ETHERNET_SIZE;
    for _ in 0..2 {
        if kind != TYPE_VLAN && kind != TYPE_QINQ {
            break;
        }
        let Some(next) = be16(frame, network + 2) else {
            return Frame::Opaque;
        };
        kind = next;
        network += VLAN_SIZE;
    }
    let parsed = match kind {
        TYPE_IPV4 => parse_ipv4(frame, network),
        TYPE_IPV6 => parse_ipv6(frame, network),
        _ => None,
    };
    parsed.unwrap_or(Frame::Opaque)
}

fn parse_ipv4(frame: &[u8], network: usize) -> Option<Frame> {
    let header: &[u8; IPV4_SIZE] = frame.get(network..)?.first_chunk()?;
    let header_size = usize::from(header[0] & 15) * 4;
    let fragment = be16(header, 6)?;
    let total = usize::from(be16(header, 2)?);
    let is_later = fragment & 0x1fff != 0;
    if header[0] >> 4 != 4 || header_size < IPV4_SIZE || is_later || total < header_size {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 4] = *header[at..].first_chunk()?;
        Some(Ipv4Addr::from(bytes).into())
    };
    let transport = network + header_size;
    finish(
        frame,
        address(12)?,
        address(16)?,
        header[9],
        Ends {
            network,
            transport,
            size: total - header_size,
            is_plain: header_size == IPV4_SIZE,
            is_cut: fragment & 0x2000 != 0,
        },
    )
}

fn parse_ipv6(frame: &[u8], network: usize) -> Option<Frame> {
    let header: &[u8; IPV6_SIZE] = frame.get(network..)?.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = *header[at..].first_chunk()?;
        // As it stands: an IPv4 address in IPv6 form is another one on the wire.
        Some(Ipv6Addr::from(bytes).into())
    };
    let destination = address(24)?;
    let (mut protocol, mut next) = (header[6], network + IPV6_SIZE);
    let mut ends = Ends { network, transport: 0, size: 0, is_plain: true, is_cut: false };
    for _ in 0..EXTENSIONS_MAX {
        if !EXTENSIONS.contains(&protocol) {
            break;
        }
        let extension: &[u8; 8] = frame.get(next..)?.first_chunk()?;
        let mut size = (usize::from(extension[1]) + 1) * 8;
        if protocol == FRAGMENT {
            if be16(extension, 2)? & 0xfff8 != 0 {
                return None;
            }
            size = 8;
        } else if protocol == AUTHENTICATION {
            size = (usize::from(extension[1]) + 2) * 4;
        }
        ends.is_plain = false;
        protocol = extension[0];
        next += size;
    }
    if EXTENSIONS.contains(&protocol) {
        return Some(Frame::Crowded(destination));
    }
    ends.transport = next;
    ends.size = usize::from(be16(header, 4)?);
    finish(frame, address(8)?, destination, protocol, ends)
}

/// What both families find on their way to the transport header.
struct Ends {
    network: usize,
    transport: usize,
    size: usize,
    is_plain: bool,
    is_cut: bool,
}

fn finish(
    frame: &[u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ends: Ends,
) -> Option<Frame> {
    let Ends { network, transport, size, is_plain, is_cut } = ends;
    let ports: &[u8; UDP_SIZE] = frame.get(transport..)?.first_chunk()?;
    let (source_port, destination_port) = (be16(ports, 0)?, be16(ports, 2)?);
    let flow = Flow { source, destination, source_port, destination_port };
    Some(Frame::Packet(Parsed { flow, protocol, network, transport, size, is_plain, is_cut }))
}

/// The 16-bit number at this place, most significant byte first.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The Internet checksum of these bytes; a last odd byte counts as if a zero followed.
///
/// Source: RFC 1071, section 1.
pub(crate) fn checksum(bytes: impl IntoIterator<Item = u8>) -> u16 {
    let (mut sum, mut is_high) = (0_u64, true);
    for byte in bytes {
        sum += if is_high { u64::from(byte) << 8 } else { u64::from(byte) };
        is_high = !is_high;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}
