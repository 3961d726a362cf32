//! Executes finalized cuts in order: which batches, which transactions, which roots.
//!
//! A cut commits the batches up to its tips. Each lane, in the rotation of the height, has its
//! committed batches executed by sequence, as long as they fit its quota of bytes, but at least one
//! when any is pending. What does not fit stays committed and is executed by the next cuts.
//!
//! The quota of a lane starts at the genesis parameter. After a cut that executed something of the
//! lane it is halved, but never below one batch, when more than a quarter of those bytes paid
//! nothing (stale, forked, expired, ahead); otherwise it is doubled up to the parameter.
//!
//! With the last height of an epoch its lanes end: what they committed and no cut has executed is void. The chain
//! then stands at the start of the next epoch, with new lanes, the next council and its rates.

use std::borrow::Borrow;
use std::collections::VecDeque;

use crate::batch::Batch;
use crate::block::{Cut, Tip, Tips, rotation};
use crate::checkpoint::Checkpoint;
use crate::codec::{count_u32, index, length_u64};
use crate::digest::{Digest, Height, PublicKey};
use crate::genesis::Genesis;
use crate::history::{History, HistoryRecord};
use crate::limits::{BATCH_BODY_BYTES_MAX, EXECUTION_LAG_MAX};
use crate::outcome::{self, Outcome};
use crate::reject::Reject;
use crate::set::ValidatorSet;
use crate::state::{Account, Lane, State, StateProof};

/// What one cut executed of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutedLane {
    /// The lane.
    pub lane: u32,
    /// The sequence of the first batch.
    pub first: u64,
    /// The sequence of the last batch.
    pub last: u64,
    /// How many transactions they had.
    pub transactions: u64,
    /// How many bytes their bodies had.
    pub bytes: u64,
    /// How many of these bytes paid nothing.
    pub unpaid_bytes: u64,
}

/// A cut whose transactions have had their effect and whose roots are not computed.
///
/// A chain that has made one does nothing else until it gets it back.
#[derive(Debug)]
#[must_use = "the chain stands still until this is sealed"]
pub struct Unsealed {
    height: Height,
    cut_digest: Digest,
    run: Run,
}

/// What executing one cut did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The height.
    pub height: Height,
    /// What the history keeps of it.
    pub record: HistoryRecord,
    /// Id and outcome in the order of execution.
    pub outcomes: Vec<(Digest, Outcome)>,
    /// The numbers of the accounts that changed, ascending, each once.
    pub changed: Vec<u32>,
    /// The history root after this height.
    pub history_root: Digest,
    /// What was executed of each lane, in the order of execution; lanes with nothing are left out.
    pub lanes: Vec<ExecutedLane>,
    /// Whether the epoch ended: what comes next is of new lanes, and perhaps of another set.
    pub turned: bool,
}

impl Executed {
    /// Writes the outcome list that is stored for the height.
    pub fn encode_outcomes(&self) -> Vec<u8> {
        outcome::encode_outcomes(self.height, &self.record.cut, &self.history_root, &self.outcomes)
    }
}

/// Everything that a validator knows after it executed a height.
#[derive(Clone, Debug)]
pub struct Chain {
    network: Digest,
    state: State,
    history: History,
    height: Height,
    cut_digest: Digest,
    state_root: Digest,
    /// History and state root after each of the last heights; the last is that of `height`.
    roots: VecDeque<(Digest, Digest)>,
    /// The height that was applied and waits for its seal.
    applied: Option<Height>,
}

/// Heights whose roots are kept: a cut declares one at most the lag behind its own.
pub(crate) const ROOTS_MAX: u64 = EXECUTION_LAG_MAX + 1;

impl Chain {
    /// Starts at the genesis block.
    pub fn genesis(genesis: &Genesis) -> Self {
        let cut = Cut::genesis(genesis);
        let mut state = State::genesis(genesis);
        // So that the first checkpoint hashes what changed, as all others do.
        assert_eq!(state.update_root(), cut.state_root, "one state has one root");
        Self {
            network: cut.network,
            state,
            history: History::new(),
            height: cut.height,
            cut_digest: cut.digest(),
            state_root: cut.state_root,
            roots: VecDeque::from([(cut.history_root, cut.state_root)]),
            applied: None,
        }
    }

    /// Goes on from a checkpoint and the accounts at its height, by number.
    ///
    /// What goes wrong is seen before anything is executed: the accounts, the lanes and what was burned
    /// have the checkpoint's state root. That the checkpoint is one of the network's, its caller knows.
    ///
    /// Errors: [`Reject::WrongNetwork`], [`Reject::WrongEpoch`], [`Reject::WrongHeight`],
    /// [`Reject::CountMismatch`], [`Reject::LaneState`], [`Reject::SupplyMismatch`],
    /// [`Reject::AccountRepeated`], [`Reject::RootMismatch`].
    pub fn restore(
        genesis: &Genesis,
        checkpoint: Checkpoint,
        accounts: Vec<(PublicKey, Account)>,
    ) -> Result<Self, Reject> {
        check_checkpoint(genesis, &checkpoint)?;
        if length_u64(accounts.len()) != checkpoint.accounts {
            return Err(Reject::CountMismatch);
        }
        check_supply(genesis, checkpoint.burned, &accounts)?;
        let state_root = checkpoint.state_root();
        let Checkpoint {
            network, height, cut_digest, burned, lanes, history, roots, council, ..
        } = checkpoint;
        let mut state = State::restore(genesis, council, accounts, lanes, burned)?;
        if state.update_root() != state_root {
            return Err(Reject::RootMismatch);
        }
        Ok(Self {
            network,
            state,
            history,
            height,
            cut_digest,
            state_root,
            roots: roots.into(),
            applied: None,
        })
    }

    /// Returns all but the accounts, at a height whose state root was computed; at any other, and at
    /// genesis, which needs none, nothing.
    ///
    /// Panics: between [`Chain::apply`] and [`Chain::seal`].
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        assert_eq!(self.applied, None, "a checkpoint is of a height, not of a part of one");
        let interval = self.state.parameters().checkpoint_interval;
        if self.height == Height::ZERO || !self.height.0.is_multiple_of(interval) {
            return None;
        }
        Some(Checkpoint {
            network: self.network,
            epoch: self.epoch(),
            height: self.height,
            cut_digest: self.cut_digest,
            accounts: length_u64(self.state.table().len()),
            burned: self.state.burned(),
            lanes: self.state.lanes.clone(),
            history: self.history.clone(),
            roots: self.roots.iter().copied().collect(),
            council: self.state.council().clone(),
        })
    }

    /// Returns the genesis digest.
    pub fn network(&self) -> Digest {
        self.network
    }

    /// Returns the epoch of the next height.
    pub const fn epoch(&self) -> u64 {
        self.state.council().epoch()
    }

    /// Returns the validators that decide the next height.
    pub const fn set(&self) -> &ValidatorSet {
        self.state.council().term().set()
    }

    /// Returns the digest of the set that decides the next epoch, once that is settled.
    pub fn next_set(&self) -> Option<Digest> {
        self.state.council().next().map(|term| term.set().digest())
    }

    /// Returns the last executed height.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Returns the digest of the last executed cut.
    pub fn cut_digest(&self) -> Digest {
        self.cut_digest
    }

    /// Returns accounts and lanes.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the newest committed batch of every lane.
    pub fn tips(&self) -> Tips {
        self.state.committed()
    }

    /// Returns the newest executed batch of every lane.
    pub fn executed_tips(&self) -> Tips {
        self.state.executed()
    }

    /// Returns whether a lane has committed batches that are still to be executed, so that cuts are
    /// needed even when no lane advances.
    pub fn has_backlog(&self) -> bool {
        self.state.lanes().iter().any(|lane| lane.executed != lane.committed)
    }

    /// Returns the history root after the last executed height.
    pub fn history_root(&self) -> Digest {
        self.history.root()
    }

    /// Returns the state root of the last checkpoint height at or below the last executed height.
    pub fn state_root(&self) -> Digest {
        self.state_root
    }

    /// Shows what the state of [`Chain::state_root`] says of a key.
    ///
    /// Panics: between [`Chain::apply`] and [`Chain::seal`].
    pub fn prove(&self, key: &PublicKey) -> StateProof {
        assert_eq!(self.applied, None, "a proof is of a height, not of a part of one");
        self.state.prove(key)
    }

    /// Returns the history and state root to declare for `height`, or none when it is not executed
    /// yet or too long ago.
    pub fn roots_at(&self, height: Height) -> Option<(Digest, Digest)> {
        let ago = usize::try_from(self.height.0.checked_sub(height.0)?).ok()?;
        let place = self.roots.len().checked_sub(1)?.checked_sub(ago)?;
        self.roots.get(place).copied()
    }

    /// Executes the next cut: [`Chain::apply`], then [`Chain::seal`].
    ///
    /// Errors: those of [`Chain::apply`].
    pub fn execute<'a, B: Borrow<Batch<'a>>>(
        &mut self,
        cut: &Cut,
        cut_digest: &Digest,
        batches: &[Vec<B>],
    ) -> Result<Executed, Reject> {
        let unsealed = self.apply(cut, cut_digest, batches)?;
        Ok(self.seal(unsealed))
    }

    /// Has the transactions of the next cut take effect; its roots are left to [`Chain::seal`], which comes
    /// next.
    ///
    /// `cut` was checked and finalized, `cut_digest` is its digest, and `batches` holds for every
    /// lane the batches after the executed tip up to the tip that is committed with this cut,
    /// without a gap, every signature in them checked. On an error nothing has changed.
    ///
    /// Errors: [`Reject::WrongNetwork`], [`Reject::WrongEpoch`], [`Reject::WrongHeight`],
    /// [`Reject::WrongParent`], [`Reject::WrongSet`], [`Reject::UnknownValidator`], [`Reject::TipNotAdvanced`],
    /// [`Reject::BatchMissing`], [`Reject::BatchUnlinked`].
    ///
    /// Panics: when the cut before was applied and not sealed.
    pub fn apply<'a, B: Borrow<Batch<'a>>>(
        &mut self,
        cut: &Cut,
        cut_digest: &Digest,
        batches: &[Vec<B>],
    ) -> Result<Unsealed, Reject> {
        assert_eq!(self.applied, None, "each cut is sealed before the next");
        assert_eq!(batches.len(), self.state.lanes.len(), "one list for each lane");
        self.check_cut(cut)?;
        let committed = self.tips().after(cut)?;
        for ((lane, tip), batches) in (0..).zip(&committed.0).zip(batches) {
            self.check_batches(lane, tip, batches)?;
        }
        for (lane, tip) in self.state.lanes.iter_mut().zip(committed.0) {
            lane.committed = tip;
        }
        let mut run = Run::default();
        for lane in rotation(cut.height, count_u32(batches.len())) {
            run.lane(&mut self.state, lane, &batches[index(lane)], cut.height);
        }
        self.applied = Some(cut.height);
        Ok(Unsealed { height: cut.height, cut_digest: *cut_digest, run })
    }

    /// Computes what is kept of an applied cut: its outcomes' root, the history and, at a checkpoint height,
    /// the state root.
    ///
    /// Panics: when it is not what this chain applied last.
    pub fn seal(&mut self, unsealed: Unsealed) -> Executed {
        let Unsealed { height, cut_digest, run } = unsealed;
        assert_eq!(self.applied.take(), Some(height), "a chain seals what it applied");
        let outcomes_root = outcome::outcomes_root(&run.outcomes);
        let turned = self.state.end_height(height);
        let record = HistoryRecord { height, cut: cut_digest, outcomes_root };
        self.history.append(&record.leaf());
        self.height = height;
        self.cut_digest = cut_digest;
        if height.0.is_multiple_of(self.state.parameters().checkpoint_interval) {
            self.state_root = self.state.update_root();
        }
        let history_root = self.history.root();
        self.roots.push_back((history_root, self.state_root));
        if length_u64(self.roots.len()) > ROOTS_MAX {
            self.roots.pop_front();
        }
        let Run { outcomes, mut changed, lanes } = run;
        changed.sort_unstable();
        changed.dedup();
        Executed { height, record, outcomes, changed, history_root, lanes, turned }
    }

    fn check_cut(&self, cut: &Cut) -> Result<(), Reject> {
        if cut.network != self.network {
            return Err(Reject::WrongNetwork);
        }
        if cut.epoch != self.epoch() {
            return Err(Reject::WrongEpoch);
        }
        if cut.height != self.height.next() {
            return Err(Reject::WrongHeight);
        }
        if cut.parent != self.cut_digest {
            return Err(Reject::WrongParent);
        }
        let set = self.set().digest();
        let is_last = self.state.council().epochs().is_last(cut.height);
        let next = if is_last { self.next_set() } else { Some(set) };
        if cut.set != set || Some(cut.next_set) != next {
            return Err(Reject::WrongSet);
        }
        Ok(())
    }

    /// Checks that the batches reach from the executed tip to `committed`, link by link.
    fn check_batches<'a, B: Borrow<Batch<'a>>>(
        &self,
        lane: u32,
        committed: &Tip,
        batches: &[B],
    ) -> Result<(), Reject> {
        let mut tip = self.state.lanes[index(lane)].executed;
        if length_u64(batches.len()) != committed.sequence - tip.sequence {
            return Err(Reject::BatchMissing);
        }
        for batch in batches {
            tip = next_tip(&tip, self.network, self.epoch(), lane, batch.borrow())?;
        }
        if tip == *committed { Ok(()) } else { Err(Reject::BatchUnlinked) }
    }
}

/// Holds a checkpoint against the rules of its network.
fn check_checkpoint(genesis: &Genesis, checkpoint: &Checkpoint) -> Result<(), Reject> {
    let parameters = genesis.parameters();
    if checkpoint.network != genesis.digest() {
        return Err(Reject::WrongNetwork);
    }
    let term = checkpoint.council.term();
    if checkpoint.epoch != parameters.epochs().of(checkpoint.height.next())
        || checkpoint.council.epochs() != parameters.epochs()
    {
        return Err(Reject::WrongEpoch);
    }
    if !checkpoint.height.0.is_multiple_of(parameters.checkpoint_interval) {
        return Err(Reject::WrongHeight);
    }
    if checkpoint.lanes.len() != term.set().len() {
        return Err(Reject::CountMismatch);
    }
    if checkpoint.lanes.iter().any(|lane| lane.quota_bytes > term.rates().lane_quota_bytes) {
        return Err(Reject::LaneState);
    }
    Ok(())
}

/// Checks that nothing was made or lost since genesis: that sums fit 64 bits rests on it.
fn check_supply(
    genesis: &Genesis,
    burned: u64,
    accounts: &[(PublicKey, Account)],
) -> Result<(), Reject> {
    let given: u64 = genesis.accounts().iter().map(|account| account.balance).sum();
    let balances = accounts.iter().map(|(_, account)| account.balance);
    let found = balances.into_iter().try_fold(burned, u64::checked_add);
    if found == Some(given) { Ok(()) } else { Err(Reject::SupplyMismatch) }
}

/// Checks that a batch is the next one of its lane; returns the tip after it.
///
/// Errors: [`Reject::BatchUnlinked`].
pub(crate) fn next_tip(
    tip: &Tip,
    network: Digest,
    epoch: u64,
    lane: u32,
    batch: &Batch<'_>,
) -> Result<Tip, Reject> {
    let header = batch.header();
    let expected = (network, epoch, lane, tip.sequence + 1, tip.digest);
    let found = (header.network, header.epoch, header.lane, header.sequence, header.previous);
    if found != expected {
        return Err(Reject::BatchUnlinked);
    }
    Ok(Tip { sequence: header.sequence, digest: batch.digest() })
}

/// What has been executed of a cut so far.
#[derive(Debug, Default)]
struct Run {
    outcomes: Vec<(Digest, Outcome)>,
    changed: Vec<u32>,
    lanes: Vec<ExecutedLane>,
}

impl Run {
    /// Executes what fits of one lane and adjusts its quota.
    fn lane<'a, B: Borrow<Batch<'a>>>(
        &mut self,
        state: &mut State,
        lane: u32,
        batches: &[B],
        height: Height,
    ) {
        let Lane { executed, quota_bytes, .. } = state.lanes[index(lane)];
        let mut done = ExecutedLane {
            lane,
            first: executed.sequence + 1,
            last: executed.sequence,
            transactions: 0,
            bytes: 0,
            unpaid_bytes: 0,
        };
        for batch in batches {
            let batch = batch.borrow();
            let bytes = length_u64(batch.body().len());
            if done.bytes > 0 && done.bytes + bytes > quota_bytes {
                break;
            }
            done.bytes += bytes;
            done.unpaid_bytes += self.batch(state, batch, height);
            done.transactions += length_u64(batch.count());
            done.last = batch.header().sequence;
            state.lanes[index(lane)].executed = Tip { sequence: done.last, digest: batch.digest() };
        }
        if done.bytes > 0 {
            let most = state.parameters().lane_quota_bytes;
            state.lanes[index(lane)].quota_bytes = next_quota(quota_bytes, most, &done);
            self.lanes.push(done);
        }
    }

    /// Executes one batch; returns how many bytes paid nothing.
    fn batch(&mut self, state: &mut State, batch: &Batch<'_>, height: Height) -> u64 {
        let mut unpaid_bytes = 0;
        self.outcomes.reserve(batch.count());
        let keys = batch.transactions().map(|transaction| transaction.author());
        let authors: Vec<Option<u32>> = state.table().find_all(keys).collect();
        for ((transaction, id), author) in batch.transactions().zip(batch.ids()).zip(authors) {
            // A transaction before it may have made its author's account.
            let author = author.or_else(|| state.table().find(&transaction.author()));
            let applied = state.apply_from(author, &transaction, id, height);
            self.outcomes.push((*id, applied.outcome));
            if !applied.outcome.pays() {
                unpaid_bytes += length_u64(transaction.bytes().len());
            }
            self.changed.extend(applied.author);
            self.changed.extend(applied.receiver);
        }
        unpaid_bytes
    }
}

fn next_quota(quota_bytes: u64, most: u64, done: &ExecutedLane) -> u64 {
    if done.unpaid_bytes * 4 > done.bytes {
        (quota_bytes / 2).max(length_u64(BATCH_BODY_BYTES_MAX))
    } else {
        (quota_bytes * 2).min(most)
    }
}

#[cfg(test)]
mod tests;
