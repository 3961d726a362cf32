//! Makes proofs from what is stored: beside everything else, on a thread of its own.
//!
//! ```text
//! id, height ─▶ outcomes of the height ─▶ nodes of the history ─┐
//!                                                               ├─▶ newest certified block that covers it ─▶ proof
//! key ─▶ execution: pages of the last checkpoint ───────────────┘
//! ```
//!
//! Every proof is checked before it leaves, as whoever gets it will: what a damaged disk would make of
//! one is noticed here.

mod nodes;

pub use nodes::Nodes;

use crate::{archive::Archive, handle::Unreadable, terms::Terms};
use ledger::{
    Claim, Cut, Digest, Finality, Height, HistoryProof, HistoryRecord, Link, Outcome, OutcomeList,
    Proof, Signatures, StateProof, TransactionProof, Trusted, ValidatorSet, merkle,
    outcome::outcome_leaf,
};
use std::{path::PathBuf, sync::Arc};

/// Blocks that are looked at for one that declares the state of the last checkpoint, at most: as many as may
/// lie between a checkpoint and the blocks that declare the next one.
const BLOCKS_MAX: u64 = 1_024;

/// What is to be proved.
#[derive(Clone, Debug)]
pub enum Question {
    /// What became of a transaction.
    Transaction {
        /// Its id.
        id: Digest,
        /// The height that executed it.
        height: Height,
        /// Its bytes, where they are at hand.
        bytes: Option<Vec<u8>>,
    },
    /// What the state of a checkpoint says of a key.
    State {
        /// What execution showed of it.
        state: Box<StateProof>,
        /// The root under which it holds.
        root: Digest,
        /// The height of the checkpoint.
        height: Height,
    },
}

/// Why there is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No certified block covers it yet; one comes within some blocks.
    NotYet,
    /// It was not executed at this height.
    Unknown,
    /// It was, and its bytes are kept no more.
    Pruned,
    /// Something of it was found damaged; it can be asked for again.
    Unreadable,
}

impl From<Unreadable> for Failure {
    fn from(_: Unreadable) -> Self {
        Self::Unreadable
    }
}

/// What makes proofs.
pub struct Core {
    archive: Archive,
    nodes: Nodes,
    trusted: Trusted,
    terms: Terms,
    signatures: Arc<dyn Signatures>,
    /// The newest height that is known to be durable.
    durable: u64,
    /// Whether adding to the nodes failed last: it is tried again with the next question.
    is_failing: bool,
}

impl Core {
    /// Starts with what the file of nodes has up to the newest stored height.
    pub fn new(
        archive: Archive,
        file: PathBuf,
        trusted: Trusted,
        terms: Terms,
        signatures: Arc<dyn Signatures>,
    ) -> Self {
        let newest = newest_height(&archive);
        let nodes = Nodes::open(file, newest, |height| match height {
            0 => Some(ledger::History::new().root()),
            height => Some(archive.outcomes(Height(height)).ok()??.history_root),
        });
        if nodes.heights() < newest {
            let have = nodes.heights();
            tracing::info!(have, newest, "the history's nodes are made from the ledger");
        }
        Self { archive, nodes, trusted, terms, signatures, durable: newest, is_failing: false }
    }

    /// Takes the leaf of a height that is durable; what is missing before it comes from the store.
    pub fn leaf(&mut self, height: Height, leaf: &Digest) {
        self.durable = self.durable.max(height.get());
        if height.get() == self.nodes.heights() + 1 {
            self.is_failing = self.nodes.append(leaf).is_err();
        }
    }

    /// Returns whether there are durable heights that the nodes lack and that can be added.
    pub const fn is_behind(&self) -> bool {
        !self.is_failing && self.nodes.heights() < self.durable
    }

    /// Adds one height from the store.
    pub fn catch_up(&mut self) {
        let height = Height(self.nodes.heights() + 1);
        let leaf = match self.archive.outcomes(height) {
            Ok(Some(outcomes)) => {
                let outcomes_root = outcomes.root();
                HistoryRecord { height, cut: outcomes.cut, outcomes_root }.leaf()
            }
            Ok(None) | Err(Unreadable) => {
                self.is_failing = true;
                return;
            }
        };
        self.is_failing = self.nodes.append(&leaf).is_err();
    }

    /// Answers a question with the bytes of a proof.
    ///
    /// Errors: every [`Failure`].
    pub fn answer(&mut self, question: &Question) -> Result<Vec<u8>, Failure> {
        self.is_failing = false;
        let proof = match question {
            Question::Transaction { id, height, bytes } => {
                self.transaction(id, *height, bytes.clone())?
            }
            Question::State { state, root, height } => self.state(state, root, *height)?,
        };
        if let Err(reject) = proof.check(&self.trusted, &*self.signatures) {
            tracing::error!(%reject, "a proof does not hold, and is made anew when it is asked for again");
            if matches!(question, Question::Transaction { .. }) {
                self.nodes.clear();
            }
            return Err(Failure::Unreadable);
        }
        Ok(proof.encode())
    }

    /// The way of a height to the root of `count`; none where the nodes are not made yet.
    fn prove(&mut self, height: Height, count: u64) -> Result<Option<HistoryProof>, Failure> {
        self.nodes.prove(height, count).map_err(|error| {
            tracing::warn!(%error, "the history's nodes cannot be read: they are made anew");
            self.nodes.clear();
            Failure::Unreadable
        })
    }

    fn transaction(
        &mut self,
        id: &Digest,
        height: Height,
        bytes: Option<Vec<u8>>,
    ) -> Result<Proof, Failure> {
        if height.get() > newest_height(&self.archive) {
            return Err(Failure::NotYet);
        }
        let outcomes = self.archive.outcomes(height)?.ok_or(Failure::Unknown)?;
        let place = place_of(&outcomes, id).ok_or(Failure::Unknown)?;
        // Those before the newest declare nothing newer.
        let covers = |cut: &Cut| if cut.executed >= height { Look::Found } else { Look::Nowhere };
        let (cut, finality) = self.newest(covers)?;
        let Some(history) = self.prove(height, cut.executed.get())? else {
            return Err(Failure::NotYet);
        };
        let bytes = match bytes {
            Some(bytes) => Some(bytes),
            None => self.archive.search(height, id)?,
        };
        let leaves: Vec<Digest> =
            outcomes.outcomes.iter().map(|(id, outcome)| outcome_leaf(id, *outcome)).collect();
        let claim = TransactionProof {
            transaction: bytes.ok_or(Failure::Pruned)?,
            outcome: outcomes.outcomes[place].1,
            place: merkle::prove(&leaves, place).expect("it was found among them"),
            cut: outcomes.cut,
            history,
        };
        self.proof(&cut, finality, Claim::Transaction(claim))
    }

    /// Puts a proof together, with what leads from the genesis to the set of its block.
    fn proof(&self, cut: &Cut, finality: Finality, claim: Claim) -> Result<Proof, Failure> {
        let links = self.links(cut)?;
        Proof::new(links, cut.header(), finality, claim).map_err(|reject| {
            let height = cut.height.get();
            tracing::error!(height, %reject, "a stored certificate is not its block's");
            Failure::Unreadable
        })
    }

    /// The last blocks of the epochs that another set followed, from the genesis to the set of a block.
    fn links(&self, cut: &Cut) -> Result<Vec<Link>, Failure> {
        if cut.set == self.trusted.set.digest() {
            // It decides again, or still: whoever knows it needs no way to it.
            return Ok(Vec::new());
        }
        let link = |(first, next): (u64, Arc<ValidatorSet>)| {
            let last = self.terms.epochs().last(first - 1);
            let cut = self.archive.cut(last)?.ok_or(Failure::Pruned)?;
            let finality = self.archive.certificate(last)?.ok_or(Failure::Pruned)?;
            Link::new(cut.header(), finality, (*next).clone()).map_err(|_| Failure::Unreadable)
        };
        self.terms.changes(cut.epoch).into_iter().map(link).collect()
    }

    fn state(&self, state: &StateProof, root: &Digest, height: Height) -> Result<Proof, Failure> {
        let (cut, finality) = self.newest(|cut| match cut.state_root == *root {
            true => Look::Found,
            // One behind the checkpoint has only such before it; one ahead of it declares a later state.
            false if cut.executed < height => Look::Nowhere,
            false => Look::Before,
        })?;
        self.proof(&cut, finality, Claim::State(state.clone()))
    }

    /// The newest block with a certificate of its own that is the one looked for.
    fn newest(&self, look: impl Fn(&Cut) -> Look) -> Result<(Cut, Finality), Failure> {
        let newest = newest_height(&self.archive);
        for height in (newest.saturating_sub(BLOCKS_MAX)..=newest).rev().map(Height) {
            if !self.archive.is_certified(height) {
                continue;
            }
            let Some(cut) = self.archive.cut(height)? else { break };
            match look(&cut) {
                Look::Nowhere => break,
                Look::Before => {}
                // One that is damaged is as good as none, until it is repaired.
                Look::Found => {
                    if let Ok(Some(certificate)) = self.archive.certificate(height) {
                        return Ok((cut, certificate));
                    }
                }
            }
        }
        Err(Failure::NotYet)
    }
}

/// Where to look for a block after seeing one.
enum Look {
    /// This is it.
    Found,
    /// It may be before this one.
    Before,
    /// There is none yet.
    Nowhere,
}

/// The place of a transaction in its height. One that comes by two lanes may stand there twice: what consumed its
/// turn counts, then what is final.
fn place_of(outcomes: &OutcomeList, id: &Digest) -> Option<usize> {
    let places = outcomes.outcomes.iter().enumerate().filter(|(_, (other, _))| other == id);
    let weight = |outcome: &Outcome| (!outcome.pays(), !outcome.is_final());
    places.min_by_key(|(place, (_, outcome))| (weight(outcome), *place)).map(|(place, _)| place)
}

/// The newest height whose outcomes are stored.
fn newest_height(archive: &Archive) -> u64 {
    archive.store.last_height(crate::record::OUTCOMES).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_transaction_that_stands_twice_what_took_effect_counts() {
        let (id, other) = (Digest([1; 32]), Digest([2; 32]));
        let list = |outcomes: &[(Digest, Outcome)]| OutcomeList {
            height: Height(1),
            cut: other,
            history_root: other,
            outcomes: outcomes.to_vec(),
        };
        let (ahead, stale) = ((id, Outcome::Ahead), (id, Outcome::Stale));
        let (applied, foreign) = ((id, Outcome::Applied), (other, Outcome::Applied));
        assert_eq!(place_of(&list(&[ahead, foreign, applied, stale]), &id), Some(2));
        assert_eq!(place_of(&list(&[foreign, ahead, stale]), &id), Some(2));
        assert_eq!(place_of(&list(&[stale, foreign, stale]), &id), Some(0));
        assert_eq!(place_of(&list(&[ahead]), &id), Some(0));
        assert_eq!(place_of(&list(&[foreign]), &id), None);
    }
}
