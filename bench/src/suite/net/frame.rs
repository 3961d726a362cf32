//! Frames as a network card would hand them over: Ethernet, IP, UDP or TCP, and a datagram.

use std::net::Ipv4Addr;

/// The validator.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where all honest packets come from.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Where attacks come from that do not forge their source.
pub(super) const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 66);
/// The validator's port for datagrams.
pub(super) const PORT: u16 = 9_000;
/// The clients' port: as on the wire, 0x0010.
pub(super) const CLIENT_PORT: u16 = 0x1000;

/// Kinds of datagrams.
pub(super) const SUBMIT: u8 = 1;
/// Asks for a cookie.
pub(super) const HELLO: u8 = 3;
/// Brings a cookie back.
pub(super) const HANDSHAKE: u8 = 5;

/// Bytes of a header.
pub(super) const HEADER_SIZE: usize = 48;
/// Bytes of the smallest submit.
pub(super) const SUBMIT_SIZE: usize = 204;
/// Bytes of a handshake.
pub(super) const HANDSHAKE_SIZE: usize = 160;

/// A header as six words, which is how it travels.
pub(super) type Header = [u64; HEADER_SIZE / 8];

/// Puts a header together.
pub(super) fn header(kind: u8, session: u32, counter: u64, token: u64) -> Header {
    let start = 0x0001_6c61 | u64::from(kind) << 24 | u64::from(session) << 32;
    [start, counter, token, 0, 0, 0]
}

/// The session of this index, first generation.
pub(super) fn session(index: u32) -> u32 {
    assert!(index < 1 << 20, "an index has 20 bits");
    1 << 20 | index
}

/// A datagram of this size: the header, then zeros.
pub(super) fn datagram(header: &Header, size: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(size, 0);
    bytes
}

/// A UDP packet over IPv4 to the validator's port.
pub(super) fn udp(from: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::with_capacity(8 + payload.len());
    segment.extend(CLIENT_PORT.to_be_bytes());
    segment.extend(PORT.to_be_bytes());
    segment.extend(size_of_be(8 + payload.len()));
    segment.extend([0, 0]);
    segment.extend(payload);
    ipv4(from, 17, &segment)
}

/// A UDP packet over IPv6 to the validator's port; its checksum is not filled in.
pub(super) fn udp_v6(payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet([0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(size_of_be(8 + payload.len()));
    frame.extend([17, 64]);
    frame.extend(CLIENT.to_ipv6_mapped().octets().map(|byte| byte | 0x20));
    frame.extend(SERVER_V6);
    frame.extend(CLIENT_PORT.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend(size_of_be(8 + payload.len()));
    frame.extend([0xff, 0xff]);
    frame.extend(payload);
    frame
}

/// The validator's address for IPv6.
pub(super) const SERVER_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The first packet of a TCP connection to this port.
pub(super) fn syn(from: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut segment = Vec::from(CLIENT_PORT.to_be_bytes());
    segment.extend(port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    ipv4(from, 6, &segment)
}

fn ipv4(from: Ipv4Addr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let mut frame = ethernet([8, 0]);
    frame.extend([0x45, 0]);
    frame.extend(size_of_be(20 + segment.len()));
    frame.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    frame.extend(from.octets());
    frame.extend(SERVER.octets());
    frame.extend(segment);
    frame
}

fn ethernet(kind: [u8; 2]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(kind);
    frame
}

fn size_of_be(size: usize) -> [u8; 2] {
    u16::try_from(size).expect("packets are small").to_be_bytes()
}
