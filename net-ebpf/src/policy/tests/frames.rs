//! Frames for tests, right by default, with everything about them that can be made wrong.

use std::net::{IpAddr, SocketAddr};

/// Random numbers of a seed. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", figure 16.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.word() % limit as u64).unwrap()
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What a frame is made of.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) protocol: u8,
    /// Types of VLAN tags before the IP header.
    pub(crate) tags: Vec<u16>,
    /// Words of IPv4 options.
    pub(crate) options: u8,
    /// IPv6 extension headers: protocol and size in its own unit.
    pub(crate) extensions: Vec<(u8, u8)>,
    /// IPv4: the 16 bits of flags and offset. IPv6: those of each fragment header.
    pub(crate) fragment: u16,
    /// What follows the UDP header, or the whole TCP segment from its sequence number on.
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn udp(source: SocketAddr, destination: SocketAddr, body: &[u8]) -> Self {
        let (tags, extensions, body) = (Vec::new(), Vec::new(), body.to_vec());
        let (protocol, options, fragment) = (17, 0, 0);
        Self { source, destination, protocol, tags, options, extensions, fragment, body }
    }

    pub(crate) fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        let mut body = vec![0; 16];
        body[8..10].copy_from_slice(&[0x50, flags]);
        Self { protocol: 6, ..Self::udp(source, destination, &body) }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in &self.tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 7]);
        }
        let transport = self.transport();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let size = 20 + 4 * usize::from(self.options) + transport.len();
                let mut header = vec![0x45 + self.options, 0];
                header.extend(u16::try_from(size).unwrap().to_be_bytes());
                header.extend([0, 1]);
                header.extend(self.fragment.to_be_bytes());
                header.extend([57, self.protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.resize(header.len() + 4 * usize::from(self.options), 1);
                let sum = crate::frame::checksum(header.iter().copied());
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                bytes.extend([8, 0]);
                bytes.extend(header);
            }
            (source, destination) => {
                let octets = |ip: IpAddr| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                let mut chain = Vec::new();
                for (place, &(kind, units)) in self.extensions.iter().enumerate() {
                    let next = self.extensions.get(place + 1).map_or(self.protocol, |next| next.0);
                    let size = match kind {
                        44 => 8,
                        51 => (usize::from(units) + 2) * 4,
                        _ => (usize::from(units) + 1) * 8,
                    };
                    let start = chain.len();
                    chain.extend([next, units]);
                    chain.resize(start + size.max(8), 0);
                    if kind == 44 {
                        chain[start + 2..start + 4].copy_from_slice(&self.fragment.to_be_bytes());
                    }
                }
                let first = self.extensions.first().map_or(self.protocol, |first| first.0);
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                let size = chain.len() + transport.len();
                bytes.extend(u16::try_from(size).unwrap().to_be_bytes());
                bytes.extend([first, 57]);
                bytes.extend(octets(source));
                bytes.extend(octets(destination));
                bytes.extend(chain);
            }
        }
        bytes.extend(transport);
        bytes
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = self.source.port().to_be_bytes().to_vec();
        bytes.extend(self.destination.port().to_be_bytes());
        if self.protocol == 17 {
            bytes.extend(u16::try_from(8 + self.body.len()).unwrap().to_be_bytes());
            bytes.extend([0, 0]);
        }
        bytes.extend(&self.body);
        bytes
    }
}

/// The header of a datagram.
pub(crate) fn header(kind: u8, session: u32, counter: u64, token: u64) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..4].copy_from_slice(&[0x61, 0x6c, 1, kind]);
    bytes[4..8].copy_from_slice(&session.to_le_bytes());
    bytes[8..16].copy_from_slice(&counter.to_le_bytes());
    bytes[16..24].copy_from_slice(&token.to_le_bytes());
    bytes
}

/// A datagram of this size.
pub(crate) fn datagram(kind: u8, session: u32, counter: u64, token: u64, size: usize) -> Vec<u8> {
    let mut bytes = header(kind, session, counter, token).to_vec();
    bytes.resize(size.max(48), 0x5a);
    bytes
}
