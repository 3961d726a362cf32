//! Why a transaction is not taken: stable codes and names, and what each means to a client.

use std::fmt;

/// The reason why a transaction is refused at the door; it has no effect on the ledger.
///
/// The code stands in answers over TCP and UDP, the name in answers over HTTP and in metrics.
/// Neither ever changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Refusal {
    /// The bytes are not one transaction.
    Malformed = 1,
    /// The transaction names another network.
    WrongNetwork = 2,
    /// The transaction is longer than this way in, or this network, allows.
    TooLarge = 3,
    /// The author has no account.
    UnknownAuthor = 4,
    /// The author's balance does not cover the cost.
    Unfunded = 5,
    /// The sequence was used before.
    Stale = 6,
    /// A transaction of the author with a lower sequence is missing.
    Ahead = 7,
    /// The transaction names another previous one than the author's newest.
    Forked = 8,
    /// The last height at which it may be executed has passed.
    Expired = 9,
    /// The same transaction was taken before.
    Duplicate = 10,
    /// The signature does not hold.
    InvalidSignature = 11,
    /// A queue is full.
    Busy = 12,
    /// This validator's lane has as much under way as it may.
    LaneFull = 13,
    /// The source sends faster than it may.
    RateLimited = 14,
    /// This validator is still catching up.
    NotReady = 15,
    /// This validator is stopping.
    Stopping = 16,
    /// This validator's disk is almost full.
    StorageFull = 17,
}

impl Refusal {
    /// Every reason by rising code; codes start at 1.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::WrongNetwork,
        Self::TooLarge,
        Self::UnknownAuthor,
        Self::Unfunded,
        Self::Stale,
        Self::Ahead,
        Self::Forked,
        Self::Expired,
        Self::Duplicate,
        Self::InvalidSignature,
        Self::Busy,
        Self::LaneFull,
        Self::RateLimited,
        Self::NotReady,
        Self::Stopping,
        Self::StorageFull,
    ];

    /// Returns the code on the wire, never zero.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Reads a code; none for a number that no reason has.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// Returns the place in [`Self::ALL`], for a table of counters.
    pub const fn index(self) -> usize {
        self as usize - 1
    }

    /// Returns the name: `snake_case`, the `code` of a problem document and the label of a metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongNetwork => "wrong_network",
            Self::TooLarge => "too_large",
            Self::UnknownAuthor => "unknown_author",
            Self::Unfunded => "unfunded",
            Self::Stale => "stale",
            Self::Ahead => "ahead",
            Self::Forked => "forked",
            Self::Expired => "expired",
            Self::Duplicate => "duplicate",
            Self::InvalidSignature => "invalid_signature",
            Self::Busy => "busy",
            Self::LaneFull => "lane_full",
            Self::RateLimited => "rate_limited",
            Self::NotReady => "not_ready",
            Self::Stopping => "stopping",
            Self::StorageFull => "storage_full",
        }
    }

    /// Reads a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.as_str() == name)
    }

    /// Returns whether only a sender who means harm, or whose software is broken, sends such bytes.
    pub const fn is_hostile(self) -> bool {
        matches!(self, Self::Malformed | Self::InvalidSignature)
    }

    /// Returns one sentence that says what is wrong and what the client can do.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Malformed => "The bytes are not one transaction; check their encoding.",
            Self::WrongNetwork => {
                "The transaction was made for another network; sign it with this network's genesis."
            }
            Self::TooLarge => "The transaction is too large; split the record or send it by TCP.",
            Self::UnknownAuthor => "The author has no account; transfer an amount to it first.",
            Self::Unfunded => "The balance does not cover fee and amount; fund the author first.",
            Self::Stale => "The sequence was used before; sign again with the expected link.",
            Self::Ahead => {
                "An earlier transaction of the author is missing; send it first, then this again."
            }
            Self::Forked => {
                "The previous transaction is not the author's newest; sign with the expected link."
            }
            Self::Expired => "Its last valid height has passed; sign again with a later one.",
            Self::Duplicate => "The same transaction was taken before; wait until it is final.",
            Self::InvalidSignature => "The signature does not hold; sign the id of these bytes.",
            Self::Busy => "The validator has more to do than it can; send it again a little later.",
            Self::LaneFull => {
                "The validator's lane is full; send it again later or to another validator."
            }
            Self::RateLimited => "The source sends faster than it may; slow down.",
            Self::NotReady => {
                "The validator is catching up; send it again later or to another validator."
            }
            Self::Stopping => "The validator is stopping; send it to another validator.",
            Self::StorageFull => {
                "The validator's disk is full; send it later or to another validator."
            }
        }
    }

    /// Returns the HTTP status.
    ///
    /// Source: RFC 9110, section 15; RFC 6585, section 4 (429); RFC 4918, section 11.5 (507).
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::UnknownAuthor | Self::Unfunded => 403,
            Self::Stale | Self::Ahead | Self::Forked | Self::Duplicate => 409,
            Self::TooLarge => 413,
            Self::WrongNetwork | Self::Expired | Self::InvalidSignature => 422,
            Self::RateLimited => 429,
            Self::Busy | Self::LaneFull | Self::NotReady | Self::Stopping => 503,
            Self::StorageFull => 507,
        }
    }

    /// Returns whether the very same bytes may be taken when they are sent again later.
    pub const fn retryable(self) -> bool {
        match self {
            Self::Ahead
            | Self::Busy
            | Self::LaneFull
            | Self::RateLimited
            | Self::NotReady
            | Self::Stopping
            | Self::StorageFull => true,
            Self::Malformed
            | Self::WrongNetwork
            | Self::TooLarge
            | Self::UnknownAuthor
            | Self::Unfunded
            | Self::Stale
            | Self::Forked
            | Self::Expired
            | Self::Duplicate
            | Self::InvalidSignature => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_places_from_one_and_no_other_code_is_read() {
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), place);
            assert_eq!(usize::from(refusal.code()), place + 1);
        }
        let read: Vec<Refusal> = (0..=u8::MAX).filter_map(Refusal::from_code).collect();
        assert_eq!(read, Refusal::ALL);
    }

    #[test]
    fn names_are_distinct_snake_case_and_read_back() {
        let mut names = BTreeSet::new();
        for refusal in Refusal::ALL {
            let name = refusal.as_str();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(names.insert(name), "{name} twice");
            assert_eq!(Refusal::from_name(name), Some(refusal));
            assert_eq!(refusal.to_string(), name);
        }
        assert_eq!(Refusal::from_name("no_such_reason"), None);
    }

    #[test]
    fn every_help_is_one_sentence_in_one_line() {
        for refusal in Refusal::ALL {
            let help = refusal.help();
            assert!(help.starts_with(|first: char| first.is_ascii_uppercase()), "{help}");
            assert!(help.ends_with('.') && help.matches('.').count() == 1, "{help}");
            assert!(help.len() < 100 && !help.contains('\n'), "{help}");
        }
    }

    #[test]
    fn only_the_clients_own_mistakes_are_four_hundreds_without_a_retry() {
        for refusal in Refusal::ALL {
            let status = refusal.http_status();
            assert!((400..600).contains(&status));
            let is_ours = status >= 500 || status == 429;
            assert_eq!(refusal.retryable(), is_ours || refusal == Refusal::Ahead, "{refusal}");
        }
    }
}
