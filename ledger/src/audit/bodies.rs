//! What blocks commit, checked without any other block: batches decoded, every signature judged.
//!
//! This is most of an audit's work, and none of it depends on what came before: so many blocks can be
//! checked at once, on many cores, and signatures of many blocks together. What is found is told when
//! the block's turn comes.

use std::collections::BTreeMap;

use super::{Place, What, Wrong};
use crate::batch::{Batch, batch_signing_message};
use crate::codec::length_u64;
use crate::digest::Digest;
use crate::reject::Reject;
use crate::set::ValidatorSet;
use crate::signatures::{self, MESSAGE_BYTES, Signatures, SignedItem};
use crate::transaction::signing_message;

/// Signatures in one question to the verifier: enough to gain all that checking in bulk gains,
/// while the messages still fit a core's cache.
pub(super) const ITEMS_MAX: usize = 4_096;

/// The validator sets of some epochs.
pub type Sets = BTreeMap<u64, ValidatorSet>;

/// The batches of one block, and what is wrong with them.
#[derive(Debug)]
pub struct Bodies {
    /// In the order in which they were handed over.
    pub(super) batches: Vec<Result<Batch<'static>, Reject>>,
    /// Bytes of all of them.
    pub(super) bytes: u64,
    /// How many signatures were judged.
    pub(super) signatures: u64,
    /// The first signature that does not hold.
    pub(super) bad: Option<Place>,
    /// Whether the owners are judged when the block's turn comes: who they are was not known yet.
    owners_later: bool,
}

impl Bodies {
    /// Decodes the batches of some blocks and judges owners' and authors' signatures, together.
    ///
    /// Shape: for each block its batches, encoded, in any order; one answer for each block. What is
    /// wrong is told by [`Auditor::block_checked`](super::Auditor::block_checked), which also judges the owners of
    /// an epoch whose set is not among `sets`.
    pub fn check(
        network: &Digest,
        sets: &Sets,
        blocks: Vec<Vec<Vec<u8>>>,
        signatures: &dyn Signatures,
    ) -> Vec<Self> {
        let mut bodies: Vec<Self> =
            blocks.into_iter().map(|batches| Self::decode(network, batches)).collect();
        let mut questions = Questions { signatures, waiting: Vec::new(), bad: Vec::new() };
        for (block, body) in bodies.iter_mut().enumerate() {
            body.owners_later = body
                .batches
                .iter()
                .flatten()
                .any(|batch| !sets.contains_key(&batch.header().epoch));
            let owners = if body.owners_later { None } else { Some(sets) };
            body.signatures = ask(owners, block, &body.batches, &mut questions);
        }
        for (block, place) in questions.finish() {
            // In order: the first of each block is told.
            bodies[block].bad.get_or_insert(place);
        }
        bodies
    }

    fn decode(network: &Digest, batches: Vec<Vec<u8>>) -> Self {
        let bytes = batches.iter().map(|batch| length_u64(batch.len())).sum();
        let decode = |bytes| Batch::decode_owned(bytes, network);
        let batches = batches.into_iter().map(decode).collect();
        Self { batches, bytes, signatures: 0, bad: None, owners_later: false }
    }

    /// What is wrong with a signature, if anything: `set` is that of the block, for owners who were not judged.
    pub(super) fn judge_owners(
        &mut self,
        set: &ValidatorSet,
        signatures: &dyn Signatures,
    ) -> Result<u64, Wrong> {
        if std::mem::take(&mut self.owners_later) {
            let mut questions = Questions { signatures, waiting: Vec::new(), bad: Vec::new() };
            for batch in ordered(&self.batches) {
                self.signatures += u64::from(ask_owner(set, 0, batch, &mut questions));
            }
            if let Some((_, place)) = questions.finish().first() {
                self.bad = Some(*place);
            }
        }
        match self.bad {
            None => Ok(self.signatures),
            Some(place) => Err((place, What::Signature)),
        }
    }
}

/// The batches that decode, lane by lane.
fn ordered<'a>(batches: &'a [Result<Batch<'static>, Reject>]) -> Vec<&'a Batch<'static>> {
    let mut ordered: Vec<&Batch<'static>> = batches.iter().flatten().collect();
    ordered.sort_by_key(|batch| (batch.header().lane, batch.header().sequence));
    ordered
}

/// Asks for the signature of a batch's owner; answers whether there is one.
fn ask_owner(
    set: &ValidatorSet,
    block: usize,
    batch: &Batch<'static>,
    questions: &mut Questions<'_>,
) -> bool {
    let header = batch.header();
    let (lane, sequence) = (header.lane, header.sequence);
    // A lane of nobody is committed by no cut: that is what is wrong then.
    let Some(owner) = set.key(lane) else { return false };
    questions.ask(Question {
        block,
        place: Place::Batch { lane, sequence },
        key: owner.0,
        message: batch_signing_message(&batch.digest()),
        signature: batch.signature().0,
    });
    true
}

/// Asks for the signatures of one block, lane by lane, those of owners where their sets are known; answers how many
/// there are.
fn ask(
    owners: Option<&Sets>,
    block: usize,
    batches: &[Result<Batch<'static>, Reject>],
    questions: &mut Questions<'_>,
) -> u64 {
    let mut asked = 0;
    for batch in ordered(batches) {
        let header = batch.header();
        let (lane, sequence) = (header.lane, header.sequence);
        if let Some(set) = owners.and_then(|sets| sets.get(&header.epoch)) {
            if !ask_owner(set, block, batch, questions) {
                continue;
            }
            asked += 1;
        }
        for (index, (transaction, id)) in batch.transactions().zip(batch.ids()).enumerate() {
            questions.ask(Question {
                block,
                place: Place::Transaction { lane, sequence, index },
                key: *transaction.author_bytes(),
                message: signing_message(id),
                signature: *transaction.signature_bytes(),
            });
        }
        asked += length_u64(batch.count());
    }
    asked
}

/// One signature that waits for its verdict.
struct Question {
    block: usize,
    place: Place,
    key: [u8; 32],
    message: [u8; MESSAGE_BYTES],
    signature: [u8; 64],
}

/// Collects signatures and asks the verifier about many at once.
struct Questions<'a> {
    signatures: &'a dyn Signatures,
    waiting: Vec<Question>,
    /// What does not hold, in the order of the questions.
    bad: Vec<(usize, Place)>,
}

impl Questions<'_> {
    fn ask(&mut self, question: Question) {
        self.waiting.push(question);
        if self.waiting.len() == ITEMS_MAX {
            self.flush();
        }
    }

    fn finish(mut self) -> Vec<(usize, Place)> {
        self.flush();
        self.bad
    }

    fn flush(&mut self) {
        let items: Vec<SignedItem<'_>> = self
            .waiting
            .iter()
            .map(|question| SignedItem {
                key: &question.key,
                message: &question.message,
                signature: &question.signature,
            })
            .collect();
        let verdicts = signatures::verify(self.signatures, &items);
        let bad = self.waiting.iter().zip(verdicts).filter(|(_, holds)| !holds);
        self.bad.extend(bad.map(|(question, _)| (question.block, question.place)));
        self.waiting.clear();
    }
}
