//! The memory that the kernel program and its twin judge by: layouts, sizes, and how both are filled.
//!
//! Everything is 64-bit words, so that one set of accessors serves the kernel's maps, which are
//! mapped into this process, and plain memory:
//!
//! ```text
//!   control   0      clock: 0 for the kernel's own two, else the time in ns (tests)
//!             1      cookie key, 2 words
//!             3      hash key: exclusive-or and odd multiplier, 2 words
//!             5      flags u32 | IPv4 addresses u32
//!             6      IPv6 addresses u32 | UDP port u16 | first TCP port u16     ports as on the wire
//!             7      second TCP port u16 | unused u16 | tick of the kernel's clock in ns u32
//!             8      paces of hello, handshake, reply, peer SYN and SYN: interval and depth in ns each
//!            18      IPv4 addresses: address u32 | ports u32, 16 words
//!            34      IPv6 addresses: address 2 words, ports, 16 times
//!            82      known peers: 1,024 sets of 4 words, hash << 24 | 1
//!          4178      blocked sources: 1,024 sets of 4 words, hash << 24 | until
//!   state     0      buckets of hellos, 65,536
//!         65536      buckets of handshakes, 16,384
//!         81920      buckets of peers' SYNs, 1,024
//!         82944      buckets of others' SYNs, 16,384
//!         99328      budgets of 256 CPUs for hellos
//!         99584      their budgets for handshakes
//!   generations 0    16 bits for each session, four to a word: who held the place last, or 0
//!   tokens    0      1,024 words for each session: the token that a slot waits for, or 0
//!   counts    0      64 words for each CPU: how often each verdict was given
//! ```
//!
//! `program/filter.h` has the same layout; a test holds the two to the same verdicts and state.
//! Single words are read and written whole, so a reader sees an old entry or a new one, never half.

mod map;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

pub use map::Words;

use crate::{
    Counters, Error,
    abi::Session,
    policy::{Limits, Pace},
    session::{Tokens, WINDOW},
};

/// Addresses of this host that are told apart, of each family.
pub const LOCAL_MAX: usize = 16;
/// Words for known peers: with 100 of them a set of four overflows once in 10,000 starts.
pub const PEERS_MAX: usize = 4_096;
/// Blocked sources that are kept.
pub const BLOCKED_MAX: usize = 4_096;
/// Entries that share a place: a fifth of one place takes the one that ends first.
const WAYS: usize = 4;

/// Buckets for hellos: 512 KiB, which stays in a second-level cache.
pub(crate) const HELLO_SLOTS: usize = 1 << 16;
/// Buckets for handshakes: each came with a cookie, so forged sources reach none of them.
pub(crate) const HANDSHAKE_SLOTS: usize = 1 << 14;
/// Buckets for known peers' attempts to connect: 10 for each of 100 validators.
pub(crate) const PEER_SYN_SLOTS: usize = 1 << 10;
/// Buckets for other networks' attempts to connect.
pub(crate) const SYN_SLOTS: usize = 1 << 14;
/// CPUs with a reply budget of their own; those above share.
pub(crate) const CPUS: usize = 256;
/// Places for verdicts.
pub(crate) const COUNTERS: usize = 64;

const CLOCK_AT: usize = 0;
const COOKIE_KEY_AT: usize = 1;
const HASH_KEY_AT: usize = 3;
const FLAGS_AT: usize = 5;
const PORTS_AT: usize = 6;
const PACES_AT: usize = 8;
const LOCAL4_AT: usize = 18;
const LOCAL6_AT: usize = LOCAL4_AT + LOCAL_MAX;
const PEERS_AT: usize = LOCAL6_AT + 3 * LOCAL_MAX;
const BLOCKED_AT: usize = PEERS_AT + PEERS_MAX;
pub(crate) const CONTROL_WORDS: usize = BLOCKED_AT + BLOCKED_MAX;

pub(crate) const HANDSHAKE_AT: usize = HELLO_SLOTS;
pub(crate) const PEER_SYN_AT: usize = HANDSHAKE_AT + HANDSHAKE_SLOTS;
pub(crate) const SYN_AT: usize = PEER_SYN_AT + PEER_SYN_SLOTS;
pub(crate) const REPLY_AT: usize = SYN_AT + SYN_SLOTS;
pub(crate) const CHECK_AT: usize = REPLY_AT + CPUS;
pub(crate) const STATE_WORDS: usize = CHECK_AT + CPUS;

const _: () = assert!(CONTROL_WORDS == 8_274 && STATE_WORDS == 99_840);

/// Generations have 12 bits, and 16 here.
pub(crate) const GENERATIONS_PER_WORD: usize = 4;
const GENERATION_MASK: u64 = 0xffff;

const FLAG_ENFORCE: u64 = 1;
const FLAG_REDIRECT: u64 = 2;
const FLAG_ANSWER: u64 = 4;
const LOW_HALF: u64 = 0xffff_ffff;

/// Sets the domain of IPv4 addresses apart from that of IPv6 prefixes.
const DOMAIN_IPV4: u64 = 0xffff_ffff_0000_0000;

/// One of our ports, as a bit beside the addresses that it is open at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Port {
    /// The datagrams of clients.
    Udp = 1,
    /// The first of the validators' own ports.
    TcpFirst = 2,
    /// The second.
    TcpSecond = 4,
}

/// Secrets by which sources are placed and cookies made; random, and known to nobody else.
#[derive(Clone, Copy)]
pub struct Keys {
    cookie: [u64; 2],
    hash: [u64; 2],
}

impl Keys {
    /// Takes them from 32 random bytes.
    pub fn new(seed: [u8; 32]) -> Self {
        let word = |at: usize| {
            u64::from_le_bytes(
                seed[at..at + 8].try_into().expect("eight bytes of a range of eight"),
            )
        };
        // An even multiplier would lose bits.
        Self { cookie: [word(0), word(8)], hash: [word(16), word(24) | 1] }
    }
}

/// What the filter is told once, before packets come.
#[derive(Clone)]
pub struct Setup {
    /// Secrets.
    pub keys: Keys,
    /// Rates.
    pub limits: Limits,
    /// Where clients' datagrams arrive, in host order.
    pub udp_port: u16,
    /// Where validators connect, in host order; 0 for none.
    pub tcp_ports: [u16; 2],
    /// Addresses of this host and the ports open at each, as sums of [`Port`].
    pub local: Vec<(IpAddr, u32)>,
    /// Addresses of known peers.
    pub peers: Vec<IpAddr>,
}

/// What the program does with its verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Drops what is to be dropped; otherwise everything passes, and is counted as if not.
    pub enforce: bool,
    /// Hands what it lets in to the ring of its queue, where there is one.
    pub redirect: bool,
    /// Answers hellos itself; otherwise they pass within the same budgets.
    pub answer: bool,
}

/// The five tables, in the kernel's memory or in this process's own.
pub struct Tables {
    pub(crate) control: Words,
    pub(crate) state: Words,
    pub(crate) generations: Words,
    pub(crate) tokens: Words,
    pub(crate) counts: Words,
}

impl Tables {
    /// Makes tables in plain memory, for so many sessions.
    pub fn plain(sessions: u32) -> Self {
        let sessions = usize::try_from(sessions).expect("this program needs 64-bit addresses");
        Self {
            control: Words::plain(CONTROL_WORDS),
            state: Words::plain(STATE_WORDS),
            generations: Words::plain(sessions.div_ceil(GENERATIONS_PER_WORD)),
            tokens: Words::plain(sessions * window()),
            counts: Words::plain(COUNTERS),
        }
    }

    /// Writes what is known from the start.
    ///
    /// Errors: [`Error::Limit`] for a rate out of range; [`Error::LocalCount`] for more addresses
    /// than there is room for.
    pub fn set_up(&self, setup: &Setup) -> Result<(), Error> {
        let paces = setup.limits.paces()?;
        self.control[COOKIE_KEY_AT].store(setup.keys.cookie[0], Relaxed);
        self.control[COOKIE_KEY_AT + 1].store(setup.keys.cookie[1], Relaxed);
        self.control[HASH_KEY_AT].store(setup.keys.hash[0], Relaxed);
        self.control[HASH_KEY_AT + 1].store(setup.keys.hash[1], Relaxed);
        for (pair, pace) in self.control[PACES_AT..LOCAL4_AT].chunks_exact(2).zip(paces) {
            pair[0].store(pace.interval_ns(), Relaxed);
            pair[1].store(pace.depth_ns(), Relaxed);
        }
        let wire = |port: u16| u64::from(port.to_be());
        let [first, second] = setup.tcp_ports;
        self.control[PORTS_AT].store(wire(setup.udp_port) << 32 | wire(first) << 48, Relaxed);
        let tick = self.control[PORTS_AT + 1].load(Relaxed) & !LOW_HALF;
        self.control[PORTS_AT + 1].store(tick | wire(second), Relaxed);
        self.set_peers(&setup.peers);
        self.set_local(&setup.local)
    }

    /// Says what the program does with its verdicts.
    pub fn set_flags(&self, flags: Flags) {
        let Flags { enforce, redirect, answer } = flags;
        let bits = [(enforce, FLAG_ENFORCE), (redirect, FLAG_REDIRECT), (answer, FLAG_ANSWER)];
        let bits: u64 = bits.into_iter().map(|(set, bit)| u64::from(set) * bit).sum();
        let counts = self.control[FLAGS_AT].load(Relaxed) & !LOW_HALF;
        self.control[FLAGS_AT].store(counts | bits, Relaxed);
    }

    /// Whether drops happen.
    pub(crate) fn enforces(&self) -> bool {
        self.control[FLAGS_AT].load(Relaxed) & FLAG_ENFORCE != 0
    }

    /// Whether hellos are answered where they are judged.
    pub(crate) fn answers(&self) -> bool {
        self.control[FLAGS_AT].load(Relaxed) & FLAG_ANSWER != 0
    }

    /// Sets the time that stands in the place of the kernel's clock; 0 for the clock itself.
    pub fn set_clock(&self, now_ns: u64) {
        self.control[CLOCK_AT].store(now_ns, Relaxed);
    }

    /// Says how long a tick of the kernel's clock is, which the program counts time by.
    pub(crate) fn set_tick(&self, tick_ns: u32) {
        let port = self.control[PORTS_AT + 1].load(Relaxed) & LOW_HALF;
        self.control[PORTS_AT + 1].store(port | u64::from(tick_ns) << 32, Relaxed);
    }

    /// Replaces the addresses of this host. One that appears twice has the ports of both entries.
    ///
    /// While they are replaced a packet may find fewer of them, and passes as a stranger's.
    ///
    /// Errors: [`Error::LocalCount`].
    pub fn set_local(&self, local: &[(IpAddr, u32)]) -> Result<(), Error> {
        let mut v4: Vec<(u32, u32)> = Vec::new();
        let mut v6: Vec<([u64; 2], u32)> = Vec::new();
        for &(address, ports) in local {
            match address.to_canonical() {
                IpAddr::V4(ip) => merge(&mut v4, wire_v4(ip), ports),
                IpAddr::V6(ip) => merge(&mut v6, wire_v6(ip), ports),
            }
        }
        if v4.len() > LOCAL_MAX || v6.len() > LOCAL_MAX {
            return Err(Error::LocalCount { count: v4.len().max(v6.len()), max: LOCAL_MAX });
        }
        let flags = self.control[FLAGS_AT].load(Relaxed) & LOW_HALF;
        let ports = self.control[PORTS_AT].load(Relaxed) & !LOW_HALF;
        // None matches while they are written; a run under way may see an old entry or a mixed one.
        self.control[FLAGS_AT].store(flags, Relaxed);
        self.control[PORTS_AT].store(ports, Relaxed);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        for (word, (address, ports)) in self.control[LOCAL4_AT..].iter().zip(&v4) {
            word.store(u64::from(*address) | u64::from(*ports) << 32, Relaxed);
        }
        for (words, (address, ports)) in self.control[LOCAL6_AT..].chunks_exact(3).zip(&v6) {
            words[0].store(address[0], Relaxed);
            words[1].store(address[1], Relaxed);
            words[2].store(u64::from(*ports), Relaxed);
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.control[FLAGS_AT].store(flags | (v4.len() as u64) << 32, Relaxed);
        self.control[PORTS_AT].store(ports | v6.len() as u64, Relaxed);
        Ok(())
    }

    /// Replaces the addresses of known peers. One whose place is full counts as a stranger, who has
    /// a budget too.
    pub fn set_peers(&self, peers: &[IpAddr]) {
        let words = &self.control[PEERS_AT..BLOCKED_AT];
        words.iter().for_each(|word| word.store(0, Relaxed));
        for peer in peers {
            let hash = self.mix(host_of(peer.to_canonical()));
            let mut set = set_of(words, hash).iter();
            if let Some(free) = set.find(|word| word.load(Relaxed) == 0) {
                free.store(hash >> 24 << 24 | 1, Relaxed);
            }
        }
    }

    /// Lists a proved source until a time: the first with four others in its place takes that of
    /// the one which ends first.
    pub fn block(&self, source: IpAddr, now_ns: u64, until_ns: u64) {
        let (hash, now) = (self.mix(host_of(source.to_canonical())), now_ns >> 30);
        let set = set_of(&self.control[BLOCKED_AT..], hash);
        // At least one unit ahead, at most half of what 24 bits tell apart.
        let units = (until_ns >> 30).saturating_sub(now).clamp(1, 0x7f_ffff);
        let left = |word: &AtomicU64| {
            let word = word.load(Relaxed);
            if word == 0 { 0 } else { left_of(word, now).unwrap_or(0) }
        };
        let same = set.iter().find(|word| word.load(Relaxed) >> 24 == hash >> 24);
        let place = same.or_else(|| set.iter().min_by_key(|word| left(word)));
        let place = place.expect("a set has four words");
        place.store(hash >> 24 << 24 | (now + units) & 0xff_ffff, Relaxed);
    }

    /// Takes entries that have ended off the list, and returns how many stand on it.
    pub fn expire(&self, now_ns: u64) -> usize {
        let mut listed = 0;
        for word in &self.control[BLOCKED_AT..] {
            let value = word.load(Relaxed);
            if value != 0 && left_of(value, now_ns >> 30).is_none() {
                // Whoever wrote it since keeps it.
                let _ = word.compare_exchange(value, 0, Relaxed, Relaxed);
            } else if value != 0 {
                listed += 1;
            }
        }
        listed
    }

    /// Whether a source, as its hash, is listed.
    pub(crate) fn is_blocked(&self, hash: u64, now_ns: u64) -> bool {
        set_of(&self.control[BLOCKED_AT..], hash).iter().any(|word| {
            let word = word.load(Relaxed);
            word != 0 && word >> 24 == hash >> 24 && left_of(word, now_ns >> 30).is_some()
        })
    }

    /// Whether a source, as its hash, is a known peer.
    pub(crate) fn is_peer(&self, hash: u64) -> bool {
        set_of(&self.control[PEERS_AT..BLOCKED_AT], hash).iter().any(|word| {
            let word = word.load(Relaxed);
            word != 0 && word >> 24 == hash >> 24
        })
    }

    /// The ports of ours at an address, as a sum of [`Port`]; 0 where the address is not ours.
    pub(crate) fn local_ports(&self, address: IpAddr) -> u32 {
        let found = match address {
            IpAddr::V4(ip) => {
                let count = self.control[FLAGS_AT].load(Relaxed) >> 32;
                let words = self.control[LOCAL4_AT..LOCAL6_AT].iter().zip(0..count);
                let mut words = words.map(|(word, _)| word.load(Relaxed));
                words.find(|word| word & LOW_HALF == u64::from(wire_v4(ip))).map(|word| word >> 32)
            }
            IpAddr::V6(ip) => {
                let count = self.control[PORTS_AT].load(Relaxed) & LOW_HALF;
                let entries = self.control[LOCAL6_AT..PEERS_AT].chunks_exact(3).zip(0..count);
                let [first, second] = wire_v6(ip);
                let mut entries = entries.map(|(words, _)| words);
                entries
                    .find(|words| {
                        words[0].load(Relaxed) == first && words[1].load(Relaxed) == second
                    })
                    .map(|words| words[2].load(Relaxed))
            }
        };
        u32::try_from(found.unwrap_or(0)).expect("ports have 32 bits")
    }

    /// Which of our ports this is, as a bit of [`Port`]; the port is in host order.
    pub(crate) fn udp_port(&self, port: u16) -> u32 {
        let ours = self.control[PORTS_AT].load(Relaxed) >> 32 & 0xffff;
        if ours == u64::from(port.to_be()) { Port::Udp as u32 } else { 0 }
    }

    /// Which of our ports this is, as a bit of [`Port`]; the port is in host order.
    pub(crate) fn tcp_port(&self, port: u16) -> u32 {
        let port = u64::from(port.to_be());
        if self.control[PORTS_AT].load(Relaxed) >> 48 == port {
            Port::TcpFirst as u32
        } else if self.control[PORTS_AT + 1].load(Relaxed) & 0xffff == port {
            Port::TcpSecond as u32
        } else {
            0
        }
    }

    /// The key of cookies.
    pub(crate) fn cookie_key(&self) -> [u64; 2] {
        [COOKIE_KEY_AT, COOKIE_KEY_AT + 1].map(|at| self.control[at].load(Relaxed))
    }

    /// The pace with this place: hello, handshake, reply, peer SYN, SYN.
    pub(crate) fn pace(&self, place: usize) -> Pace {
        let word = |offset: usize| self.control[PACES_AT + 2 * place + offset].load(Relaxed);
        Pace::from_ns(word(0), word(1))
    }

    /// Places a prefix where a stranger cannot aim: two rounds of a keyed multiplication.
    ///
    /// It is no cryptographic hash: who breaks it can share a bucket of unproved sources, and
    /// nothing else.
    pub(crate) fn mix(&self, word: u64) -> u64 {
        let [low, odd] = [HASH_KEY_AT, HASH_KEY_AT + 1].map(|at| self.control[at].load(Relaxed));
        let mut hash = (word ^ low).wrapping_mul(odd);
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(odd);
        hash ^ hash >> 29
    }

    /// What was counted until now, all CPUs together.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        for row in self.counts.chunks_exact(COUNTERS) {
            counters.add(|place| row[place].load(Relaxed));
        }
        counters
    }

    /// The generation of the session at a place, if there is such a place; 0 when it never had one.
    pub(crate) fn generation(&self, index: u32) -> Option<u32> {
        let (word, shift) = generation_place(index);
        let word = self.generations.get(word)?.load(Relaxed);
        Some(u32::try_from(word >> shift & GENERATION_MASK).expect("16 bits"))
    }

    /// The memory of all five.
    pub fn memory_bytes(&self) -> usize {
        let tables = [&self.control, &self.state, &self.generations, &self.tokens, &self.counts];
        tables.into_iter().map(|words| size_of_val::<[AtomicU64]>(words)).sum()
    }
}

impl Tokens for Tables {
    fn open(&mut self, session: Session) {
        let (word, shift) = generation_place(session.index());
        let generations = &self.generations[word];
        // Nobody else writes here: this holds the table by `&mut`, and the program only reads it.
        let others = generations.load(Relaxed) & !(GENERATION_MASK << shift);
        generations.store(others | u64::from(session.generation()) << shift, Relaxed);
    }

    fn put(&mut self, slot: usize, token: u64) {
        self.tokens[slot].store(token, Relaxed);
    }
}

/// The word of a session's generation, and how far up it stands there.
fn generation_place(index: u32) -> (usize, usize) {
    let index = usize::try_from(index).expect("20 bits");
    (index / GENERATIONS_PER_WORD, index % GENERATIONS_PER_WORD * 16)
}

/// Adds an entry, or ports to the one that is there.
fn merge<T: PartialEq>(entries: &mut Vec<(T, u32)>, address: T, ports: u32) {
    match entries.iter_mut().find(|(known, _)| *known == address) {
        Some((_, known)) => *known |= ports,
        None => entries.push((address, ports)),
    }
}

/// How long an entry stays listed, in units of 2^30 ns; `None` when it has ended.
fn left_of(word: u64, now: u64) -> Option<u64> {
    let left = word.wrapping_sub(now) & 0xff_ffff;
    (1..=0x7f_ffff).contains(&left).then_some(left)
}

/// The words of the place that a hash names; there is a power of two of places.
fn set_of(words: &[AtomicU64], hash: u64) -> &[AtomicU64] {
    let sets = words.len() / WAYS;
    let set = usize::try_from(hash & (sets as u64 - 1)).expect("below the number of sets");
    &words[set * WAYS..(set + 1) * WAYS]
}

/// What a source counts as: an IPv4 address, or an IPv6 /64.
pub(crate) fn host_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(ip) => u64::from(wire_v4(ip)) | DOMAIN_IPV4,
        IpAddr::V6(ip) => wire_v6(ip)[0],
    }
}

/// What its network counts as: the /24 or /48 around it.
pub(crate) fn network_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(ip) => u64::from(wire_v4(ip) & 0x00ff_ffff) | DOMAIN_IPV4,
        IpAddr::V6(ip) => wire_v6(ip)[0] & 0x0000_ffff_ffff_ffff,
    }
}

/// An address as the program loads it from a packet.
pub(crate) fn wire_v4(ip: Ipv4Addr) -> u32 {
    u32::from_le_bytes(ip.octets())
}

/// An address as the program loads it from a packet.
pub(crate) fn wire_v6(ip: Ipv6Addr) -> [u64; 2] {
    let bytes = u128::from_le_bytes(ip.octets());
    let low = u64::try_from(bytes & u128::from(u64::MAX)).expect("masked to 64 bits");
    let high = u64::try_from(bytes >> 64).expect("shifted to 64 bits");
    [low, high]
}

/// The tokens of a session, as an index.
pub(crate) fn window() -> usize {
    usize::try_from(WINDOW).expect("a thousand")
}

#[cfg(test)]
mod tests;
