//! What one network may have: so many handshakes a second, and its share of the sessions.

use std::{collections::HashMap, net::IpAddr};

use super::lists::{Links, List};
use crate::policy::{Pace, Rate, hash};

/// Handshakes of one network: 16 a second restart a hall of a thousand clients in a minute, and
/// use a thirtieth of the CPU that all may.
pub(super) const RATE: Rate = Rate { packets_per_second: 16, burst_packets: 64 };
/// One network has at most one of so many sessions.
pub(super) const SHARE: usize = 16;

/// Buckets for the rate: 32 KiB. A sender here has proved its address, so forged ones fill none.
const BUCKETS: usize = 1 << 12;
/// Sessions of a network that are looked at for one that gives way to another of its own.
const STEPS_MAX: usize = 32;

/// An IPv4 /24 or an IPv6 /64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Network {
    is_ipv4: bool,
    prefix: u64,
}

impl From<IpAddr> for Network {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self { is_ipv4: true, prefix: u64::from(ip.to_bits() >> 8) },
            IpAddr::V6(ip) => {
                let prefix = u64::try_from(ip.to_bits() >> 64).expect("64 bits are left");
                Self { is_ipv4: false, prefix }
            }
        }
    }
}

/// All networks that have sessions, and the rates of those that ask.
pub(super) struct Networks {
    /// The sessions of each network, oldest first.
    lists: HashMap<Network, List>,
    links: Links,
    share: usize,
    buckets: Box<[u64]>,
    pace: Pace,
    key: hash::Key,
}

impl Networks {
    /// `key` are 16 random bytes that decide which networks meet in a bucket.
    pub(super) fn new(sessions: usize, key: [u8; 16]) -> Self {
        let pace = Pace::new(RATE, ["network.packets_per_second", "network.burst_packets"]);
        Self {
            // Twice the members: what the map does not reuse at once it then cleans in place, and
            // never grows.
            lists: HashMap::with_capacity(2 * sessions),
            links: Links::new(sessions),
            share: sessions / SHARE,
            buckets: vec![0; BUCKETS].into_boxed_slice(),
            pace: pace.expect("a constant within its range"),
            key: hash::Key::new(key),
        }
    }

    /// The most memory that is held. A map has a control byte beside each entry and leaves an
    /// eighth of them empty.
    pub(super) fn memory_bytes(&self) -> usize {
        let entries = (self.lists.capacity() * 8).div_ceil(7).next_power_of_two();
        entries * (size_of::<(Network, List)>() + 1)
            + self.links.memory_bytes()
            + size_of_val(&*self.buckets)
    }

    /// Takes one handshake of a network's rate; says whether there was one.
    pub(super) fn take(&mut self, now_ns: u64, network: Network) -> bool {
        let hash = self.key.hash([u64::from(network.is_ipv4), network.prefix]);
        let slot = usize::try_from(hash % BUCKETS as u64).expect("below a few thousand");
        let Some(bucket) = self.pace.take(self.buckets[slot], now_ns) else { return false };
        self.buckets[slot] = bucket;
        true
    }

    /// Says whether a network has its share.
    pub(super) fn is_full(&self, network: Network) -> bool {
        self.lists.get(&network).is_some_and(|list| list.count() >= self.share)
    }

    /// The oldest session of a network that is worth nothing; `None` when those looked at are
    /// worth something, the next call looks at others.
    pub(super) fn least(
        &mut self,
        network: Network,
        mut worth: impl FnMut(usize) -> u32,
    ) -> Option<usize> {
        let list = self.lists.get_mut(&network)?;
        for _ in 0..list.count().min(STEPS_MAX) {
            let index = list.first()?;
            if worth(index) == 0 {
                return Some(index);
            }
            self.links.remove(list, index);
            self.links.push_back(list, index);
        }
        None
    }

    /// Enters a session of a network.
    pub(super) fn insert(&mut self, network: Network, index: usize) {
        self.links.push_back(self.lists.entry(network).or_default(), index);
    }

    /// Takes a session of a network out.
    pub(super) fn remove(&mut self, network: Network, index: usize) {
        let list = self.lists.get_mut(&network).expect("a network with a session has a list");
        self.links.remove(list, index);
        if list.count() == 0 {
            self.lists.remove(&network);
        }
    }
}
