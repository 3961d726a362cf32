//! What became of each transaction of a block, and the list of them that is stored for each height.
//!
//! ```text
//!   0  version      u8 = 1
//!   1  reserved     3    zero
//!   4  count        u32
//!   8  height       u64
//!  16  cut          32   digest of the block
//!  48  history_root 32   after this height
//!  80  entries           id 32, outcome u8; in the order of execution
//! ```
//!
//! A Merkle leaf is the digest of an entry and 31 zeros, which make it a whole block of the hash
//! function: it goes side by side with those of other leaves.

use std::fmt;

use crate::codec::{Reader, count_u32, index};
use crate::digest::{Digest, Height, domain};
use crate::limits::{OUTCOME_BYTES, OUTCOMES_HEADER_BYTES, OUTCOMES_MAX};
use crate::merkle;
use crate::reject::Reject;

const VERSION: u8 = 1;

/// What became of a transaction in one block; the same on every validator.
///
/// An id may appear in several blocks, since two lanes may carry it: the first final outcome
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It took effect.
    Applied,
    /// It had its turn and could not be paid for; the sequence is consumed.
    Failed,
    /// Its sequence was consumed before.
    Stale,
    /// Its sequence is due but its link is not the author's head.
    Forked,
    /// Its last valid height has passed.
    Expired,
    /// Its sequence is not due yet, or its author has no account yet; it may come again.
    Ahead,
}

impl Outcome {
    /// All outcomes by rising code.
    pub const ALL: [Self; 6] =
        [Self::Applied, Self::Failed, Self::Stale, Self::Forked, Self::Expired, Self::Ahead];

    /// Returns the code in formats and hashes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Applied => 0,
            Self::Failed => 1,
            Self::Stale => 2,
            Self::Forked => 3,
            Self::Expired => 4,
            Self::Ahead => 5,
        }
    }

    /// Reads a code.
    ///
    /// Errors: [`Reject::UnknownOutcome`].
    pub fn from_code(code: u8) -> Result<Self, Reject> {
        Self::ALL.get(usize::from(code)).copied().ok_or(Reject::UnknownOutcome)
    }

    /// Returns the name, stable, fit for a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Stale => "stale",
            Self::Forked => "forked",
            Self::Expired => "expired",
            Self::Ahead => "ahead",
        }
    }

    /// Returns whether this transaction can never have another outcome that matters.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Applied | Self::Failed | Self::Stale | Self::Forked | Self::Expired => true,
            Self::Ahead => false,
        }
    }

    /// Returns whether the author paid: the sequence was consumed.
    pub const fn pays(self) -> bool {
        match self {
            Self::Applied | Self::Failed => true,
            Self::Stale | Self::Forked | Self::Expired | Self::Ahead => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Bytes of a leaf before it is hashed.
const LEAF_BYTES: usize = 64;

fn write_leaf(id: &Digest, outcome: Outcome, leaf: &mut [u8; LEAF_BYTES]) {
    leaf[..32].copy_from_slice(&id.0);
    leaf[32] = outcome.code();
}

/// Computes the Merkle leaf of an outcome.
pub fn outcome_leaf(id: &Digest, outcome: Outcome) -> Digest {
    let mut leaf = [0; LEAF_BYTES];
    write_leaf(id, outcome, &mut leaf);
    domain::OUTCOME_LEAF.digest(&[&leaf])
}

/// Computes the Merkle root over outcomes in the order of execution.
pub fn outcomes_root(outcomes: &[(Digest, Outcome)]) -> Digest {
    let mut leaves = Vec::with_capacity(outcomes.len());
    domain::OUTCOME_LEAF.digests_of_blocks(
        outcomes.len(),
        |place, leaf| {
            let (id, outcome) = &outcomes[place];
            write_leaf(id, *outcome, leaf);
        },
        |_, digest| leaves.push(digest),
    );
    merkle::root(&leaves)
}

/// Writes an outcome list from its parts.
pub(crate) fn encode_outcomes(
    height: Height,
    cut: &Digest,
    history_root: &Digest,
    outcomes: &[(Digest, Outcome)],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(OUTCOMES_HEADER_BYTES + OUTCOME_BYTES * outcomes.len());
    bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
    bytes.extend_from_slice(&count_u32(outcomes.len()).to_le_bytes());
    bytes.extend_from_slice(&height.0.to_le_bytes());
    bytes.extend_from_slice(&cut.0);
    bytes.extend_from_slice(&history_root.0);
    for (id, outcome) in outcomes {
        bytes.extend_from_slice(&id.0);
        bytes.push(outcome.code());
    }
    bytes
}

/// The outcomes of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeList {
    /// The height of the block.
    pub height: Height,
    /// The digest of the block.
    pub cut: Digest,
    /// The history root after it.
    pub history_root: Digest,
    /// Id and outcome in the order of execution.
    pub outcomes: Vec<(Digest, Outcome)>,
}

impl OutcomeList {
    /// Writes the list.
    pub fn encode(&self) -> Vec<u8> {
        encode_outcomes(self.height, &self.cut, &self.history_root, &self.outcomes)
    }

    /// Reads a list.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::TrailingBytes`], [`Reject::UnknownVersion`],
    /// [`Reject::ReservedNotZero`], [`Reject::CountMismatch`], [`Reject::UnknownOutcome`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        reader.zeros::<3>()?;
        let count = index(reader.u32()?);
        let height = Height(reader.u64()?);
        let cut = reader.digest()?;
        let history_root = reader.digest()?;
        if count > OUTCOMES_MAX {
            return Err(Reject::CountMismatch);
        }
        let mut entries = Reader::new(reader.slice(count * OUTCOME_BYTES)?);
        reader.finish()?;
        let mut outcomes = Vec::with_capacity(count);
        for _ in 0..count {
            outcomes.push((entries.digest()?, Outcome::from_code(entries.u8()?)?));
        }
        Ok(Self { height, cut, history_root, outcomes })
    }

    /// Computes the Merkle root over the outcomes.
    pub fn root(&self) -> Digest {
        outcomes_root(&self.outcomes)
    }
}

#[cfg(test)]
mod tests;
