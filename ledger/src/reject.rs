//! The reasons for which bytes or values from outside are refused, each with a stable name.

use std::fmt;

/// Why input was refused; the name is stable and fits a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// The bytes end before the layout does.
    Truncated,
    /// Bytes follow after the end of the layout.
    TrailingBytes,
    /// The whole is longer than its limit.
    TooLong,
    /// The version byte is not one that this program knows.
    UnknownVersion,
    /// The kind of transaction is not one that this version knows.
    UnknownKind,
    /// A reserved field is not zero.
    ReservedNotZero,
    /// The body of a transfer does not have exactly 40 bytes.
    TransferBody,
    /// The body of a council transaction is no ballot.
    BallotBody,
    /// The value belongs to another network.
    WrongNetwork,
    /// The value belongs to another epoch.
    WrongEpoch,
    /// A batch without transactions.
    EmptyBatch,
    /// A batch names another number of bytes than it has.
    BodyLength,
    /// A batch or list names another number of entries than it has, or too many.
    CountMismatch,
    /// A Merkle root is not that of the entries.
    RootMismatch,
    /// A sequence of zero, where numbers start at one.
    SequenceZero,
    /// The first of a lane names a previous batch, or a later one names none.
    FirstLink,
    /// A lane or validator that the set does not have.
    UnknownValidator,
    /// A set of validators that is empty, too large, or not strictly ascending.
    ValidatorOrder,
    /// Acks of one certificate that differ in what they acknowledge, or repeat a validator.
    AckMismatch,
    /// Fewer signers than a quorum.
    QuorumMissing,
    /// A signature that the rule refuses.
    BadSignature,
    /// A block names another validator set than the one that decides, or that follows.
    WrongSet,
    /// The parent is another block.
    WrongParent,
    /// The height does not follow the parent's.
    WrongHeight,
    /// The view does not follow the parent's.
    WrongView,
    /// The time is before the parent's.
    TimeBackwards,
    /// The executed height is below the parent's, not below the block's, or too far behind it.
    ExecutedRange,
    /// The declared roots differ from those of the same executed height.
    DeclaredRoots,
    /// The lanes of a cut do not follow its rotation.
    LaneOrder,
    /// The tip of a lane does not advance.
    TipNotAdvanced,
    /// The batches given for a lane do not reach from its executed to its committed tip.
    BatchMissing,
    /// A batch does not link to the one before it or is not the certified one.
    BatchUnlinked,
    /// The tips of a lane contradict each other, or its quota is outside its range.
    LaneState,
    /// Two accounts with one key.
    AccountRepeated,
    /// Balances and what was burned are together not what the genesis gave out.
    SupplyMismatch,
    /// An outcome code that does not exist.
    UnknownOutcome,
    /// A proof whose shape does not fit its index and count.
    ProofShape,
    /// A proof that leads to another root.
    ProofRoot,
    /// A proof whose pages speak of another key, or of neighbours that do not enclose it.
    ProofKey,
    /// The kind of proof is not one that this version knows.
    ProofKind,
    /// Evidence of what is no offence.
    NoOffence,
}

impl Reject {
    /// All reasons, in the order of the declaration.
    pub const ALL: [Self; 41] = [
        Self::Truncated,
        Self::TrailingBytes,
        Self::TooLong,
        Self::UnknownVersion,
        Self::UnknownKind,
        Self::ReservedNotZero,
        Self::TransferBody,
        Self::BallotBody,
        Self::WrongNetwork,
        Self::WrongEpoch,
        Self::EmptyBatch,
        Self::BodyLength,
        Self::CountMismatch,
        Self::RootMismatch,
        Self::SequenceZero,
        Self::FirstLink,
        Self::UnknownValidator,
        Self::ValidatorOrder,
        Self::AckMismatch,
        Self::QuorumMissing,
        Self::BadSignature,
        Self::WrongSet,
        Self::WrongParent,
        Self::WrongHeight,
        Self::WrongView,
        Self::TimeBackwards,
        Self::ExecutedRange,
        Self::DeclaredRoots,
        Self::LaneOrder,
        Self::TipNotAdvanced,
        Self::BatchMissing,
        Self::BatchUnlinked,
        Self::LaneState,
        Self::AccountRepeated,
        Self::SupplyMismatch,
        Self::UnknownOutcome,
        Self::ProofShape,
        Self::ProofRoot,
        Self::ProofKey,
        Self::ProofKind,
        Self::NoOffence,
    ];

    /// Returns the stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing_bytes",
            Self::TooLong => "too_long",
            Self::UnknownVersion => "unknown_version",
            Self::UnknownKind => "unknown_kind",
            Self::ReservedNotZero => "reserved_not_zero",
            Self::TransferBody => "transfer_body",
            Self::BallotBody => "ballot_body",
            Self::WrongNetwork => "wrong_network",
            Self::WrongEpoch => "wrong_epoch",
            Self::EmptyBatch => "empty_batch",
            Self::BodyLength => "body_length",
            Self::CountMismatch => "count_mismatch",
            Self::RootMismatch => "root_mismatch",
            Self::SequenceZero => "sequence_zero",
            Self::FirstLink => "first_link",
            Self::UnknownValidator => "unknown_validator",
            Self::ValidatorOrder => "validator_order",
            Self::AckMismatch => "ack_mismatch",
            Self::QuorumMissing => "quorum_missing",
            Self::BadSignature => "bad_signature",
            Self::WrongSet => "wrong_set",
            Self::WrongParent => "wrong_parent",
            Self::WrongHeight => "wrong_height",
            Self::WrongView => "wrong_view",
            Self::TimeBackwards => "time_backwards",
            Self::ExecutedRange => "executed_range",
            Self::DeclaredRoots => "declared_roots",
            Self::LaneOrder => "lane_order",
            Self::TipNotAdvanced => "tip_not_advanced",
            Self::BatchMissing => "batch_missing",
            Self::BatchUnlinked => "batch_unlinked",
            Self::LaneState => "lane_state",
            Self::AccountRepeated => "account_repeated",
            Self::SupplyMismatch => "supply_mismatch",
            Self::UnknownOutcome => "unknown_outcome",
            Self::ProofShape => "proof_shape",
            Self::ProofRoot => "proof_root",
            Self::ProofKey => "proof_key",
            Self::ProofKind => "proof_kind",
            Self::NoOffence => "no_offence",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl std::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_fit_a_label() {
        let names: BTreeSet<&str> = Reject::ALL.iter().map(|reject| reject.as_str()).collect();
        assert_eq!(names.len(), Reject::ALL.len());
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        }
    }

    #[test]
    fn the_list_is_in_order_and_complete() {
        assert!(Reject::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(Reject::ALL.len(), Reject::NoOffence as usize + 1);
        assert_eq!(Reject::ProofRoot.to_string(), "proof_root");
    }
}
