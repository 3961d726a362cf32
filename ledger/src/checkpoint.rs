//! The checkpoint: all that a chain is at a checkpoint height, except for its accounts.
//!
//! ```text
//!   0  version   u8 = 2
//!   1  reserved  3    zero
//!   4  lanes     u32
//!   8  network   32   genesis digest
//!  40  epoch     u64  of the next height
//!  48  height    u64  at least 1
//!  56  cut       32   digest of the block
//!  88  accounts  u64  how many there are
//!  96  burned    u64
//! 104  lanes          executed sequence u64 and digest 32, committed sequence u64 and digest 32,
//!                     quota u64 each
//!  ..  peaks          32 each, of the history range: as many as the height has one bits
//!  ..  roots          history root 32, state root 32 each: after each of the last heights, the last is
//!                     `height`; 65 of them, or all from genesis on
//!  ..  epoch_length u64
//!  ..  council          see [`Council`]
//! ```
//!
//! The accounts go beside it, by number, [`Account::encode`](crate::Account::encode) each.
//! [`Chain::restore`](crate::Chain::restore) holds them, the lanes and what was burned against the state
//! root. Nothing in a checkpoint vouches for the block, the roots and the peaks: who has one from
//! elsewhere compares the cut and the roots with what a quorum has finalized.

use crate::codec::{Reader, count_u32, index};
use crate::council::Council;
use crate::digest::{Digest, Height};
use crate::epochs::Epochs;
use crate::execute::ROOTS_MAX;
use crate::history::History;
use crate::limits::{CHECKPOINT_BYTES_MAX, EPOCH_LENGTH_MAX, EPOCH_LENGTH_MIN, VALIDATORS_MAX};
use crate::reject::Reject;
use crate::state::Lane;

const VERSION: u8 = 2;

/// What a chain is at a checkpoint height, except for its accounts.
///
/// Holding one proves that its counts and lanes are possible and that its peaks have its history root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub(crate) network: Digest,
    pub(crate) epoch: u64,
    pub(crate) height: Height,
    pub(crate) cut_digest: Digest,
    pub(crate) accounts: u64,
    pub(crate) burned: u64,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) history: History,
    /// History and state root after each of the last heights; the last is that of `height`.
    pub(crate) roots: Vec<(Digest, Digest)>,
    pub(crate) council: Council,
}

impl Checkpoint {
    /// Returns the genesis digest.
    pub fn network(&self) -> Digest {
        self.network
    }

    /// Returns the epoch of the next height.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the height.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Returns the digest of the cut of that height.
    pub fn cut_digest(&self) -> Digest {
        self.cut_digest
    }

    /// Returns how many accounts there are.
    pub fn accounts(&self) -> u64 {
        self.accounts
    }

    /// Returns the history root after that height.
    pub fn history_root(&self) -> Digest {
        self.newest().0
    }

    /// Returns the state root after that height.
    pub fn state_root(&self) -> Digest {
        self.newest().1
    }

    fn newest(&self) -> (Digest, Digest) {
        *self.roots.last().expect("the roots of the height itself are there")
    }

    /// Writes the checkpoint.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CHECKPOINT_BYTES_MAX);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&count_u32(self.lanes.len()).to_le_bytes());
        bytes.extend_from_slice(&self.network.0);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.height.0.to_le_bytes());
        bytes.extend_from_slice(&self.cut_digest.0);
        bytes.extend_from_slice(&self.accounts.to_le_bytes());
        bytes.extend_from_slice(&self.burned.to_le_bytes());
        for lane in &self.lanes {
            lane.encode_into(&mut bytes);
        }
        for peak in self.history.peaks() {
            bytes.extend_from_slice(&peak.0);
        }
        for (history_root, state_root) in &self.roots {
            bytes.extend_from_slice(&history_root.0);
            bytes.extend_from_slice(&state_root.0);
        }
        bytes.extend_from_slice(&self.council.epochs().length().to_le_bytes());
        bytes.extend_from_slice(&self.council.encode());
        assert!(bytes.len() <= CHECKPOINT_BYTES_MAX, "every list of a chain is capped");
        bytes
    }

    /// Reads a checkpoint and checks what can be seen without the genesis and the accounts.
    ///
    /// Errors: [`Reject::TooLong`], [`Reject::Truncated`], [`Reject::TrailingBytes`],
    /// [`Reject::UnknownVersion`], [`Reject::ReservedNotZero`], [`Reject::CountMismatch`],
    /// [`Reject::WrongHeight`], [`Reject::WrongEpoch`], [`Reject::LaneState`], [`Reject::RootMismatch`],
    /// [`Reject::ValidatorOrder`], [`Reject::BallotBody`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > CHECKPOINT_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        reader.zeros::<3>()?;
        let lanes = index(reader.u32()?);
        let (network, epoch, height) = (reader.digest()?, reader.u64()?, Height(reader.u64()?));
        let (cut_digest, accounts, burned) = (reader.digest()?, reader.u64()?, reader.u64()?);
        if lanes > VALIDATORS_MAX || u32::try_from(accounts).is_err() {
            return Err(Reject::CountMismatch);
        }
        // The genesis is no checkpoint, and a height must follow.
        if height == Height::ZERO || height.0 == u64::MAX {
            return Err(Reject::WrongHeight);
        }
        let lanes = (0..lanes).map(|_| Lane::read(&mut reader)).collect::<Result<_, _>>()?;
        let peaks = (0..height.0.count_ones()).map(|_| reader.digest());
        let history = History::of_peaks(height.0, peaks.collect::<Result<_, _>>()?);
        let roots = (0..roots_count(height)).map(|_| Ok((reader.digest()?, reader.digest()?)));
        let roots: Vec<(Digest, Digest)> = roots.collect::<Result<_, _>>()?;
        let length = reader.u64()?;
        if !(EPOCH_LENGTH_MIN..=EPOCH_LENGTH_MAX).contains(&length) {
            return Err(Reject::WrongEpoch);
        }
        let council = Council::read(&mut reader, Epochs::new(length), epoch)?;
        reader.finish()?;
        let checkpoint = Self {
            network,
            epoch,
            height,
            cut_digest,
            accounts,
            burned,
            lanes,
            history,
            roots,
            council,
        };
        if checkpoint.history.root() != checkpoint.history_root() {
            return Err(Reject::RootMismatch);
        }
        Ok(checkpoint)
    }
}

/// How many heights a chain keeps the roots of: genesis has roots, too.
fn roots_count(height: Height) -> u64 {
    height.next().0.min(ROOTS_MAX)
}

#[cfg(test)]
mod tests;
