//! Replays a ledger from genesis and names the first thing that is wrong.
//!
//! The caller reads blocks from wherever they lie and hands over bytes. For each block the auditor
//! checks, in this order: the cut's form, links, rotation and availability certificates; the roots
//! it declares, against the auditor's own execution; the batches it commits, each one's owner,
//! place and link; every transaction's signature; the outcomes, against its own; and the finality
//! certificate, when the block has one. A block without one is covered by that of a descendant.
//!
//! Batches that a lane's quota leaves for later stay with the auditor, decoded. Who decides in which epoch is what the
//! auditor's own execution gives; a stored validator set is held against that.

mod bodies;

pub use bodies::{Bodies, Sets};

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::batch::Batch;
use crate::block::{Cut, Tip, Tips};
use crate::codec::{count_u32, index, length_u64};
use crate::digest::{Digest, Height};
use crate::execute::{Chain, Executed, next_tip};
use crate::finality::Finality;
use crate::genesis::Genesis;
use crate::outcome::{Outcome, OutcomeList};
use crate::reject::Reject;
use crate::set::ValidatorSet;
use crate::signatures::Signatures;

/// The stored parts of one block.
#[derive(Clone, Copy, Debug)]
pub struct AuditBlock<'a> {
    /// The encoded cut.
    pub cut: &'a [u8],
    /// Its own finality certificate, if it has one.
    pub certificate: Option<&'a [u8]>,
    /// The encoded outcome list.
    pub outcomes: &'a [u8],
    /// The encoded batches that this cut commits, in any order.
    pub batches: &'a [&'a [u8]],
    /// The encoded validator set that decides from the next height on, stored where it is another.
    pub set: Option<&'a [u8]>,
}

/// What a checked block contained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSummary {
    /// Its height.
    pub height: Height,
    /// The digest of its cut.
    pub cut: Digest,
    /// The history root after it.
    pub history_root: Digest,
    /// How many transactions it executed.
    pub transactions: u64,
    /// How many signatures were checked.
    pub signatures: u64,
    /// How many bytes were checked.
    pub bytes: u64,
    /// Whether it carries a finality certificate of its own.
    pub certified: bool,
}

/// What a whole checked ledger contained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many blocks were checked: the height of the last one.
    pub blocks: u64,
    /// How many transactions were executed.
    pub transactions: u64,
    /// How many signatures were checked.
    pub signatures: u64,
    /// How many bytes were checked.
    pub bytes: u64,
    /// How many transactions had each outcome, by [`Outcome::code`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// The history root after the last block.
    pub history_root: Digest,
    /// The state root of the last checkpoint.
    pub state_root: Digest,
}

/// Which part of a block is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The cut.
    Cut,
    /// The batch at this place of the list that was handed over.
    Handed {
        /// The place; the first is 0.
        index: usize,
    },
    /// A batch.
    Batch {
        /// Its lane.
        lane: u32,
        /// Its place in the lane.
        sequence: u64,
    },
    /// A transaction of a batch.
    Transaction {
        /// The lane of the batch.
        lane: u32,
        /// The batch's place in the lane.
        sequence: u64,
        /// Its place in the batch; the first is 0.
        index: usize,
    },
    /// The outcome list.
    Outcomes,
    /// An entry of the outcome list.
    Outcome {
        /// The place; the first is 0.
        index: usize,
    },
    /// The finality certificate.
    Certificate,
    /// The validator set that follows.
    Set,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => formatter.write_str("cut"),
            Self::Handed { index } => write!(formatter, "batch record {index}"),
            Self::Batch { lane, sequence } => write!(formatter, "lane {lane} batch {sequence}"),
            Self::Transaction { lane, sequence, index } => {
                write!(formatter, "lane {lane} batch {sequence} transaction {index}")
            }
            Self::Outcomes => formatter.write_str("outcomes"),
            Self::Outcome { index } => write!(formatter, "outcome {index}"),
            Self::Certificate => formatter.write_str("certificate"),
            Self::Set => formatter.write_str("validator set"),
        }
    }
}

/// What is wrong with a part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// Its bytes are refused, or it breaks a rule.
    #[error("refused: {0}")]
    Refused(Reject),
    /// The signature of its author or owner does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// The declared roots are not those of the execution.
    #[error("the declared roots are not those of the execution")]
    Roots,
    /// The cut commits it and it is not there.
    #[error("committed but absent")]
    Absent,
    /// The cut does not commit it.
    #[error("not committed by this block")]
    Uncommitted,
    /// It is there twice.
    #[error("present twice")]
    Repeated,
    /// It is not what the execution gives.
    #[error("differs from the execution")]
    Differs,
    /// It certifies another block.
    #[error("certifies another block")]
    OtherBlock,
    /// No certificate of this block or of a descendant covers it.
    #[error("no finality certificate covers this block")]
    Uncovered,
}

/// The first thing that is wrong with a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("height {height}, {place}: {what}")]
pub struct Finding {
    /// The height of the block.
    pub height: Height,
    /// Which part of it.
    pub place: Place,
    /// What is wrong with that part.
    pub what: What,
}

/// Replays a ledger block by block.
#[derive(Clone)]
pub struct Auditor<'a> {
    signatures: &'a dyn Signatures,
    chain: Chain,
    parent: Cut,
    pending: Vec<VecDeque<Batch<'static>>>,
    certified: Height,
    summary: Summary,
}

/// A place and what is wrong there; the height is added by the caller.
type Wrong = (Place, What);

impl<'a> Auditor<'a> {
    /// Starts at genesis.
    pub fn new(genesis: &Genesis, signatures: &'a dyn Signatures) -> Self {
        let chain = Chain::genesis(genesis);
        let summary = Summary {
            blocks: 0,
            transactions: 0,
            signatures: 0,
            bytes: 0,
            outcomes: [0; Outcome::ALL.len()],
            history_root: chain.history_root(),
            state_root: chain.state_root(),
        };
        Self {
            signatures,
            chain,
            parent: Cut::genesis(genesis),
            pending: vec![VecDeque::new(); genesis.set().len()],
            certified: Height::ZERO,
            summary,
        }
    }

    /// Returns what the auditor knows after the last good block.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Returns the validator sets of this epoch and, once it is settled, of the next.
    pub fn sets(&self) -> Sets {
        let (council, mut sets) = (self.chain.state().council(), Sets::default());
        sets.insert(council.epoch(), self.chain.set().clone());
        if let Some(next) = council.next() {
            sets.insert(council.epoch() + 1, next.set().clone());
        }
        sets
    }

    /// Checks the next block.
    ///
    /// Errors: the first thing that is wrong with it; the auditor is of no further use then.
    pub fn block(&mut self, block: &AuditBlock<'_>) -> Result<BlockSummary, Finding> {
        let batches = block.batches.iter().map(|batch| batch.to_vec()).collect();
        let network = self.parent.network;
        let bodies = Bodies::check(&network, &self.sets(), vec![batches], self.signatures);
        self.block_checked(block, bodies.into_iter().next().expect("one block was checked"))
    }

    /// Checks the next block, whose batches were checked before: those of `block` are not looked at.
    ///
    /// Errors: those of [`Auditor::block`].
    pub fn block_checked(
        &mut self,
        block: &AuditBlock<'_>,
        bodies: Bodies,
    ) -> Result<BlockSummary, Finding> {
        let height = self.chain.height().next();
        let result = self.check_block(block, bodies);
        result.map_err(|(place, what)| Finding { height, place, what })
    }

    /// Ends the replay.
    ///
    /// Errors: a finding when the last blocks are covered by no certificate.
    pub fn finish(self) -> Result<Summary, Finding> {
        if self.certified < self.chain.height() {
            let height = self.certified.next();
            return Err(Finding { height, place: Place::Certificate, what: What::Uncovered });
        }
        Ok(self.summary)
    }

    fn check_block(
        &mut self,
        block: &AuditBlock<'_>,
        mut bodies: Bodies,
    ) -> Result<BlockSummary, Wrong> {
        self.check_turn()?;
        let set = self.chain.set().clone();
        let (cut, tips) = self.check_cut(block.cut)?;
        let digest = cut.digest();
        let mut signatures = cut.lanes.iter().map(|lane| length_u64(lane.signatures.len())).sum();
        let verdict = bodies.judge_owners(self.chain.set(), self.signatures);
        let bytes = bodies.bytes;
        let batches = self.link_batches(&cut, &tips, bodies.batches)?;
        signatures += verdict?;
        for batch in batches {
            self.pending[index(batch.header().lane)].push_back(batch);
        }
        let executed = self.execute(&cut, &digest)?;
        check_outcomes(&executed, block.outcomes)?;
        self.check_set(&cut, block.set)?;
        if let Some(bytes) = block.certificate {
            signatures += self.check_certificate(&cut, &digest, &set, bytes)?;
            self.certified = cut.height;
        }
        self.parent = cut;
        Ok(self.sum_up(block, bytes, &executed, signatures))
    }

    /// A set that decides from this height on was voted for in blocks that those before it made final: otherwise it
    /// would vouch for how it came to be.
    fn check_turn(&self) -> Result<(), Wrong> {
        let (parent, epochs) = (&self.parent, self.chain.state().council().epochs());
        let is_another = epochs.is_last(parent.height) && parent.next_set != parent.set;
        if is_another && self.certified < epochs.deciding(parent.epoch) {
            return Err((Place::Certificate, What::Uncovered));
        }
        Ok(())
    }

    /// Checks the cut and the roots that it declares; returns the tips after it.
    fn check_cut(&self, bytes: &[u8]) -> Result<(Cut, Tips), Wrong> {
        let wrong = |reject| (Place::Cut, What::Refused(reject));
        let cut = Cut::decode(bytes).map_err(wrong)?;
        let (parent_digest, tips) = (self.chain.cut_digest(), self.chain.tips());
        let epochs = self.chain.state().council().epochs();
        let tips = cut
            .check(&self.parent, &parent_digest, &tips, (epochs, self.chain.set()), self.signatures)
            .map_err(wrong)?;
        let declared = (cut.history_root, cut.state_root);
        if self.chain.roots_at(cut.executed) != Some(declared) {
            return Err((Place::Cut, What::Roots));
        }
        Ok((cut, tips))
    }

    /// Puts the batches that the cut commits in order, lane by lane.
    fn link_batches(
        &self,
        cut: &Cut,
        tips: &Tips,
        handed: Vec<Result<Batch<'static>, Reject>>,
    ) -> Result<Vec<Batch<'static>>, Wrong> {
        let mut found = BTreeMap::new();
        for (index, batch) in handed.into_iter().enumerate() {
            let batch = batch.map_err(|reject| (Place::Handed { index }, What::Refused(reject)))?;
            let key = (batch.header().lane, batch.header().sequence);
            if found.insert(key, batch).is_some() {
                return Err((Place::Handed { index }, What::Repeated));
            }
        }
        let mut batches = Vec::with_capacity(found.len());
        for ((lane, tip), after) in (0..).zip(&self.chain.tips().0).zip(&tips.0) {
            self.link_lane(cut, lane, (tip, after), &mut found, &mut batches)?;
        }
        match found.keys().next() {
            None => Ok(batches),
            Some((lane, sequence)) => {
                let place = Place::Batch { lane: *lane, sequence: *sequence };
                Err((place, What::Uncommitted))
            }
        }
    }

    /// Moves one lane's batches from `found` to `batches`, from its old tip to its new one.
    fn link_lane(
        &self,
        cut: &Cut,
        lane: u32,
        (before, after): (&Tip, &Tip),
        found: &mut BTreeMap<(u32, u64), Batch<'static>>,
        batches: &mut Vec<Batch<'static>>,
    ) -> Result<(), Wrong> {
        let mut tip = *before;
        while tip.sequence < after.sequence {
            let sequence = tip.sequence + 1;
            let place = Place::Batch { lane, sequence };
            let batch = found.remove(&(lane, sequence)).ok_or((place, What::Absent))?;
            tip = next_tip(&tip, cut.network, cut.epoch, lane, &batch)
                .map_err(|reject| (place, What::Refused(reject)))?;
            batches.push(batch);
        }
        if tip != *after {
            let place = Place::Batch { lane, sequence: tip.sequence };
            return Err((place, What::Refused(Reject::BatchUnlinked)));
        }
        Ok(())
    }

    fn execute(&mut self, cut: &Cut, digest: &Digest) -> Result<Executed, Wrong> {
        let pending: Vec<Vec<&Batch<'static>>> =
            self.pending.iter().map(|lane| lane.iter().collect()).collect();
        let executed = self
            .chain
            .execute(cut, digest, &pending)
            .map_err(|reject| (Place::Cut, What::Refused(reject)))?;
        if executed.turned {
            // What they left is void.
            self.pending = vec![VecDeque::new(); self.chain.set().len()];
        }
        for (lane, tip) in self.pending.iter_mut().zip(&self.chain.executed_tips().0) {
            while lane.front().is_some_and(|batch| batch.header().sequence <= tip.sequence) {
                lane.pop_front();
            }
        }
        Ok(executed)
    }

    /// Holds a stored validator set against who follows; it is stored only where that is another.
    fn check_set(&self, cut: &Cut, stored: Option<&[u8]>) -> Result<(), Wrong> {
        match stored {
            None if cut.next_set == cut.set => Ok(()),
            None => Err((Place::Set, What::Absent)),
            Some(_) if cut.next_set == cut.set => Err((Place::Set, What::Uncommitted)),
            Some(bytes) if bytes == self.chain.set().encode() => Ok(()),
            Some(_) => Err((Place::Set, What::Differs)),
        }
    }

    /// Checks a finality certificate; returns how many signatures it has.
    fn check_certificate(
        &self,
        cut: &Cut,
        digest: &Digest,
        set: &ValidatorSet,
        bytes: &[u8],
    ) -> Result<u64, Wrong> {
        let wrong = |reject| (Place::Certificate, What::Refused(reject));
        let certificate = Finality::decode(bytes).map_err(wrong)?;
        if certificate.payload != *digest {
            return Err((Place::Certificate, What::OtherBlock));
        }
        if certificate.epoch != cut.epoch {
            return Err(wrong(Reject::WrongEpoch));
        }
        certificate.check(&cut.network, set, self.signatures).map_err(wrong)?;
        Ok(length_u64(certificate.signatures.len()))
    }

    fn sum_up(
        &mut self,
        block: &AuditBlock<'_>,
        batches: u64,
        executed: &Executed,
        signatures: u64,
    ) -> BlockSummary {
        let certificate = block.certificate.map_or(0, <[u8]>::len);
        let bytes = length_u64(block.cut.len() + block.outcomes.len() + certificate) + batches;
        let transactions = length_u64(executed.outcomes.len());
        self.summary.blocks = executed.height.0;
        self.summary.transactions += transactions;
        self.summary.signatures += signatures;
        self.summary.bytes += bytes;
        self.summary.history_root = executed.history_root;
        self.summary.state_root = self.chain.state_root();
        for (_, outcome) in &executed.outcomes {
            self.summary.outcomes[usize::from(outcome.code())] += 1;
        }
        BlockSummary {
            height: executed.height,
            cut: executed.record.cut,
            history_root: executed.history_root,
            transactions,
            signatures,
            bytes,
            certified: block.certificate.is_some(),
        }
    }
}

/// Holds a stored outcome list against the execution.
fn check_outcomes(executed: &Executed, bytes: &[u8]) -> Result<(), Wrong> {
    let list =
        OutcomeList::decode(bytes).map_err(|reject| (Place::Outcomes, What::Refused(reject)))?;
    let different = list.outcomes.iter().zip(&executed.outcomes).position(|(one, two)| one != two);
    if let Some(index) = different {
        return Err((Place::Outcome { index }, What::Differs));
    }
    let found = (list.height, list.cut, list.history_root, count_u32(list.outcomes.len()));
    let count = count_u32(executed.outcomes.len());
    if found != (executed.height, executed.record.cut, executed.history_root, count) {
        return Err((Place::Outcomes, What::Differs));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
