//! Why a packet is not let in: stable numbers and names, and a counter for each.

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
    /// Names a session, and none exists.
    Session = 6,
    /// Carries a token or a tag without a session.
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
}

impl Reject {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 14] = [
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
    /// It goes on to the next stage.
    Pass,
    /// It ends here, for this reason.
    Drop(Reject),
}

/// How many packets passed, and how many were dropped for each reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    passed: u64,
    dropped: [u64; Reject::ALL.len()],
}

impl Counters {
    /// Counts one verdict.
    pub fn count(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Pass => &mut self.passed,
            Verdict::Drop(reject) => &mut self.dropped[reject.index()],
        };
        *counter = counter.saturating_add(1);
    }

    /// Packets that passed.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Packets dropped for this reason.
    pub fn dropped(&self, reject: Reject) -> u64 {
        self.dropped[reject.index()]
    }

    /// Packets dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Every reason with its count, in the order of [`Reject::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Reject, u64)> + '_ {
        Reject::ALL.into_iter().zip(self.dropped)
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
    fn each_verdict_is_counted_under_its_own_reason() {
        let mut counters = Counters::default();
        counters.count(Verdict::Pass);
        for reject in Reject::ALL {
            for _ in 0..=reject.index() {
                counters.count(Verdict::Drop(reject));
            }
        }
        assert_eq!(counters.passed(), 1);
        for (reject, count) in counters.iter() {
            assert_eq!(count, reject.index() as u64 + 1);
            assert_eq!(count, counters.dropped(reject));
        }
        assert_eq!(counters.dropped_total(), (1..=14).sum::<u64>());
    }
}
