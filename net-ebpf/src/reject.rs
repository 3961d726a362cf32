//! Why a packet is not let in: stable numbers and names, and a counter for each.

use crate::tables::COUNTERS;

/// The reason a packet is dropped.
///
/// The number is the place of the reason's counter and never changes its meaning; the name is the
/// value of a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reject {
    /// Shorter than a frame of its kind can be.
    TooShort = 0,
    /// Longer than a frame of its kind can be.
    TooLong = 1,
    /// Does not start with the protocol's two bytes.
    Magic = 2,
    /// A version that this build does not speak.
    Version = 3,
    /// A kind that is unknown, or that only the other side sends.
    Kind = 4,
    /// Reserved bytes that are not zero.
    Reserved = 5,
    /// Names no session where one belongs, one that does not exist, or one where none belongs.
    Session = 6,
    /// A token that is missing, spent or not the one of its counter, or a token or tag where none
    /// belongs.
    Token = 7,
    /// The body of an answer contradicts itself or has an unknown status (seen by clients only).
    Body = 8,
    /// The source cannot be a sender: unspecified, multicast or broadcast address, or port 0.
    SourceInvalid = 9,
    /// The source lies in a prefix of the deny list.
    SourceDenied = 10,
    /// The source (/32 or /64) is above its rate.
    SourceRate = 11,
    /// The source's network (/24 or /48) is above its rate.
    NetworkRate = 12,
    /// All sources together are above the node's rate.
    GlobalRate = 13,
    /// An IPv4 packet with options, or an IPv6 packet with extension headers.
    Header = 14,
    /// The first fragment of a packet that was cut on its way.
    Fragment = 15,
    /// The lengths in its IP and UDP headers contradict each other or its frame.
    Length = 16,
    /// A handshake whose cookie is not the one of its addresses and this time.
    Cookie = 17,
    /// A hello or a handshake above what this CPU looks at.
    ReplyRate = 18,
    /// A connection attempt of a known peer's address above its rate.
    PeerSynRate = 19,
    /// A connection attempt of any other network above its rate.
    SynRate = 20,
    /// The UDP checksum is wrong, or IPv6 has none.
    Checksum = 21,
    /// A handshake for an admission key that is not ours, or no longer.
    KeyId = 22,
    /// A handshake from a network (/24 or /64) above its rate.
    HandshakeRate = 23,
    /// A handshake while all of them together have used their share of a CPU.
    HandshakeCpu = 24,
    /// A handshake from a network whose share of the sessions is taken and in use.
    SessionShare = 25,
    /// A handshake while every session looked at is in use.
    SessionsFull = 26,
    /// A handshake or welcome whose Noise message does not open.
    Noise = 27,
    /// A counter outside the window of its session, or a label of no request of ours.
    Counter = 28,
    /// A tag that is not the one of its datagram.
    Tag = 29,
}

impl Reject {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 30] = [
        Self::TooShort,
        Self::TooLong,
        Self::Magic,
        Self::Version,
        Self::Kind,
        Self::Reserved,
        Self::Session,
        Self::Token,
        Self::Body,
        Self::SourceInvalid,
        Self::SourceDenied,
        Self::SourceRate,
        Self::NetworkRate,
        Self::GlobalRate,
        Self::Header,
        Self::Fragment,
        Self::Length,
        Self::Cookie,
        Self::ReplyRate,
        Self::PeerSynRate,
        Self::SynRate,
        Self::Checksum,
        Self::KeyId,
        Self::HandshakeRate,
        Self::HandshakeCpu,
        Self::SessionShare,
        Self::SessionsFull,
        Self::Noise,
        Self::Counter,
        Self::Tag,
    ];

    /// The name of the reason: stable, `snake_case`, the value of a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::Magic => "magic",
            Self::Version => "version",
            Self::Kind => "kind",
            Self::Reserved => "reserved",
            Self::Session => "session",
            Self::Token => "token",
            Self::Body => "body",
            Self::SourceInvalid => "source_invalid",
            Self::SourceDenied => "source_denied",
            Self::SourceRate => "source_rate",
            Self::NetworkRate => "network_rate",
            Self::GlobalRate => "global_rate",
            Self::Header => "header",
            Self::Fragment => "fragment",
            Self::Length => "length",
            Self::Cookie => "cookie",
            Self::ReplyRate => "reply_rate",
            Self::PeerSynRate => "peer_syn_rate",
            Self::SynRate => "syn_rate",
            Self::Checksum => "checksum",
            Self::KeyId => "key_id",
            Self::HandshakeRate => "handshake_rate",
            Self::HandshakeCpu => "handshake_cpu",
            Self::SessionShare => "session_share",
            Self::SessionsFull => "sessions_full",
            Self::Noise => "noise",
            Self::Counter => "counter",
            Self::Tag => "tag",
        }
    }

    /// The place of the reason in [`Self::ALL`] and among the counters.
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }
}

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not for any of our ports: it passes untouched.
    Other,
    /// A submit whose token its slot was waiting for: it goes on.
    Submit,
    /// A handshake with its cookie: it goes on.
    Handshake,
    /// A hello: answered with a cookie.
    Cookie,
    /// A known peer's attempt to connect, within its rate: it goes on.
    PeerSyn,
    /// Anybody else's attempt to connect, within its network's rate: it goes on.
    Syn,
    /// A hello within its budgets, where the program does not answer: it goes on.
    Hello,
    /// It ends here, for this reason.
    Drop(Reject),
}

/// Drops are counted from this place on.
const DROPS_AT: usize = 8;
// There is a place for each.
const _: () = assert!(DROPS_AT + Reject::ALL.len() <= COUNTERS);

impl Verdict {
    /// Every verdict that is not a drop, in the order of the counters.
    pub const PASSES: [Self; 7] = [
        Self::Other,
        Self::Submit,
        Self::Handshake,
        Self::Cookie,
        Self::PeerSyn,
        Self::Syn,
        Self::Hello,
    ];

    /// The place of the verdict's counter: stable.
    pub fn index(self) -> usize {
        match self {
            Self::Other => 0,
            Self::Submit => 1,
            Self::Handshake => 2,
            Self::Cookie => 3,
            Self::PeerSyn => 4,
            Self::Syn => 5,
            Self::Hello => 6,
            Self::Drop(reject) => DROPS_AT + reject.index(),
        }
    }

    /// The name of the verdict: stable, `snake_case`, the value of a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Submit => "submit",
            Self::Handshake => "handshake",
            Self::Cookie => "cookie_sent",
            Self::PeerSyn => "peer_syn",
            Self::Syn => "syn",
            Self::Hello => "hello",
            Self::Drop(reject) => reject.name(),
        }
    }

    /// Every verdict, in the order of the counters.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PASSES.into_iter().chain(Reject::ALL.into_iter().map(Self::Drop))
    }
}

/// How often each verdict was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([u64; COUNTERS]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; COUNTERS])
    }
}

impl Counters {
    /// Counts one verdict.
    pub fn count(&mut self, verdict: Verdict) {
        let counter = &mut self.0[verdict.index()];
        *counter = counter.saturating_add(1);
    }

    /// Adds what another place counted; it is asked with the place of each verdict.
    pub(crate) fn add(&mut self, counted: impl Fn(usize) -> u64) {
        for (place, counter) in self.0.iter_mut().enumerate() {
            *counter = counter.saturating_add(counted(place));
        }
    }

    /// How often this verdict was given.
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.0[verdict.index()]
    }

    /// Packets dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.0[DROPS_AT..].iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Every verdict with its count, in the order of the counters.
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::all().map(|verdict| (verdict, self.of(verdict)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_are_places_and_names_are_distinct_snake_case() {
        let mut names = BTreeSet::new();
        for (place, reject) in Reject::ALL.into_iter().enumerate() {
            assert_eq!(reject.index(), place);
            let name = reject.name();
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(names.insert(name), "{name} twice");
        }
    }

    #[test]
    fn each_verdict_is_counted_under_its_own_name() {
        let mut counters = Counters::default();
        for (times, verdict) in Verdict::all().enumerate() {
            (0..=times).for_each(|_| counters.count(verdict));
        }
        let mut names = BTreeSet::new();
        for (times, (verdict, count)) in counters.iter().enumerate() {
            assert_eq!(count, times as u64 + 1);
            assert!(names.insert(verdict.name()), "{} twice", verdict.name());
        }
        let passes = Verdict::PASSES.len() as u64;
        let all = passes + Reject::ALL.len() as u64;
        assert_eq!(counters.dropped_total(), (passes + 1..=all).sum::<u64>());
        let mut twice = counters.clone();
        twice.add(|place| counters.0[place]);
        assert_eq!(twice.of(Verdict::Syn), 2 * counters.of(Verdict::Syn));
    }
}
