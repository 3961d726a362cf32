//! Counts of what the transactions of a run were, and of what must not have become of them.

use super::super::workload::{Class, Content, Treatment};
use serde_json::{Value, json};

/// Counts by what transactions are and what was done with them.
///
/// Shape: records, transfers and those with a wrong signature are all that were sent, but for those that
/// were being signed again when the run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Records with a signature that holds.
    pub records: u64,
    /// Transfers with a signature that holds.
    pub transfers: u64,
    /// Of the transfers, those to hot receivers.
    pub transfers_to_hot: u64,
    /// Of the transfers, those that create an account.
    pub transfers_creating: u64,
    /// Transactions with a wrong signature.
    pub invalid: u64,
    /// Those of them that were refused for it, as asked.
    pub invalid_refused: u64,
    /// Those of them that a validator took: an error.
    pub invalid_taken: u64,
    /// Transactions that were sent to two validators at the same time.
    pub duplicates: u64,
    /// Those of them that both took.
    pub duplicates_taken_twice: u64,
    /// Those of them that are final without having been executed, or of which two validators say
    /// different things: an error.
    pub duplicates_wrong: u64,
    /// Transactions that hot authors sent.
    pub by_hot_authors: u64,
}

impl Kinds {
    /// One left, also to a second validator.
    pub(super) fn launched(&mut self, class: Class, is_doubled: bool) {
        self.change(class, |count| *count += 1);
        self.duplicates += u64::from(is_doubled);
    }

    /// It is signed again, perhaps as something else.
    pub(super) fn taken_back(&mut self, class: Class, is_doubled: bool) {
        self.change(class, |count| *count -= 1);
        self.duplicates -= u64::from(is_doubled);
    }

    fn change(&mut self, class: Class, change: impl Fn(&mut u64)) {
        if class.treatment == Treatment::Invalid {
            return change(&mut self.invalid);
        }
        match class.content {
            Content::Record => change(&mut self.records),
            Content::Transfer => change(&mut self.transfers),
            Content::TransferToHot => {
                change(&mut self.transfers);
                change(&mut self.transfers_to_hot);
            }
            Content::TransferToNew => {
                change(&mut self.transfers);
                change(&mut self.transfers_creating);
            }
        }
    }

    /// Says what went wrong, a sentence each.
    pub(super) fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.invalid_taken > 0 {
            errors.push(format!(
                "{} of {} transactions with a wrong signature were accepted or became final",
                self.invalid_taken, self.invalid
            ));
        }
        if self.duplicates_wrong > 0 {
            errors.push(format!(
                "{} of {} transactions that were sent to two validators were not executed exactly once",
                self.duplicates_wrong, self.duplicates
            ));
        }
        errors
    }

    /// Returns the counts that people are shown, with their names; those inside others are indented.
    pub(super) fn rows(&self) -> [(&'static str, u64); 8] {
        [
            ("records", self.records),
            ("transfers", self.transfers),
            ("  to hot receivers", self.transfers_to_hot),
            ("  creating accounts", self.transfers_creating),
            ("wrong signatures", self.invalid),
            ("  refused as asked", self.invalid_refused),
            ("sent to two", self.duplicates),
            ("  taken by both", self.duplicates_taken_twice),
        ]
    }

    pub(super) fn json(&self) -> Value {
        let Self {
            records,
            transfers,
            transfers_to_hot,
            transfers_creating,
            invalid,
            invalid_refused,
            invalid_taken,
            duplicates,
            duplicates_taken_twice,
            duplicates_wrong,
            by_hot_authors,
        } = self;
        json!({
            "records": records,
            "transfers": transfers,
            "transfers_to_hot": transfers_to_hot,
            "transfers_creating": transfers_creating,
            "invalid": invalid,
            "invalid_refused": invalid_refused,
            "invalid_taken": invalid_taken,
            "duplicates": duplicates,
            "duplicates_taken_twice": duplicates_taken_twice,
            "duplicates_wrong": duplicates_wrong,
            "by_hot_authors": by_hot_authors,
        })
    }
}
