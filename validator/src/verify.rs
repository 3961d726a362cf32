//! The verify stage: client transactions and peers' batches, their signatures checked together.

mod checked;
mod sources;
#[cfg(test)]
mod tests;

use crate::{
    admit::{self, Admitted},
    cost::{Cost, Meter},
    handle::Request,
    held::{Held, SignedMessages},
    lane::Unverified,
    votes::Judge,
};
use ledger::{Digest, Evidence, Offence, SignedHeader, batch::transaction_leaf, merkle};
use sources::{Judged, Share};
use std::{ops::Range, sync::Arc};

pub use checked::CHECKED_BYTES_MAX;
pub use sources::{Counts, Sources};

/// Requests taken into one round, at most: a round of this size takes about 30 ms of one core.
pub const ROUND_REQUESTS_MAX: usize = 2_048;
/// Bytes of batches taken into one round, at most.
pub const ROUND_BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a round of checks found.
pub struct Verified {
    /// Client transactions for the own lane, in order.
    pub admitted: Vec<Admitted>,
    /// Each batch's digest, and the batch if all of it holds.
    pub batches: Vec<(Digest, Option<Arc<Held>>)>,
    /// Against owners of batches that hold what no author signed.
    pub evidence: Vec<Evidence>,
    /// How many signatures there were.
    pub signatures: Counts,
}

/// Checks one round: everything cheap first, then the signatures, as many together as their senders permit.
pub fn round(
    core: &mut admit::Core,
    network: &Digest,
    judge: &Judge,
    sources: &mut Sources,
    now: u64,
    requests: Vec<Request>,
    unverified: Vec<Unverified>,
) -> Verified {
    let meter = judge.meter();
    let mut messages = SignedMessages::default();
    let candidates = core.sift(now, requests, &mut messages);
    let clients = messages.len();
    let decoded: Vec<_> =
        unverified.into_iter().map(|batch| decode(batch, network, &mut messages, meter)).collect();
    let sent = decoded.iter().filter_map(|batch| {
        let (_, items) = batch.held.as_ref()?;
        Some(Share { from: Some(batch.from), items: items.clone() })
    });
    let shares: Vec<_> =
        std::iter::once(Share { from: None, items: 0..clients }).chain(sent).collect();
    let Judged { verdicts, signatures } = sources.judge(judge, messages.entries(), &shares);
    meter.charge(Cost::Verify);
    let admitted = core.settle(now, candidates, &verdicts[..clients]);
    meter.charge(Cost::Admit);
    let mut evidence = Vec::new();
    let judge = |batch: Decoded| {
        let held = batch.held.and_then(|(held, range)| {
            let verdicts = &verdicts[range];
            if verdicts.iter().all(|verdict| *verdict) {
                return Some(Arc::new(held));
            }
            evidence.extend(accuse(&held, verdicts));
            None
        });
        (batch.digest, held)
    };
    let batches = decoded.into_iter().map(judge).collect();
    Verified { admitted, batches, evidence, signatures }
}

/// The first transaction of a batch that its author did not sign, where the owner signed the batch.
fn accuse(held: &Held, verdicts: &[bool]) -> Option<Evidence> {
    let (owner, transactions) = verdicts.split_first()?;
    let at = transactions.iter().position(|verdict| !verdict).filter(|_| *owner)?;
    let batch = held.batch();
    let leaves: Vec<Digest> = batch
        .transactions()
        .zip(batch.ids())
        .map(|(transaction, id)| transaction_leaf(id, transaction.signature_bytes()))
        .collect();
    let header = *batch.header();
    let offence = Offence::Batch {
        batch: Box::new(SignedHeader { header, signature: batch.signature() }),
        transaction: batch.transactions().nth(at)?.bytes().to_vec(),
        place: merkle::prove(&leaves, at)?,
    };
    Some(Evidence::new(header.network, header.epoch, header.lane, offence))
}

struct Decoded {
    digest: Digest,
    from: u32,
    held: Option<(Held, Range<usize>)>,
}

fn decode(
    batch: Unverified,
    network: &Digest,
    messages: &mut SignedMessages,
    meter: Meter,
) -> Decoded {
    let Unverified { from, digest, owner, bytes } = batch;
    let unhashed = Held::read(bytes, network);
    meter.charge(Cost::Decode);
    let held = unhashed.and_then(Held::hash).ok().map(|held| {
        let first = messages.len();
        let count = messages.push_batch(&held, owner.as_bytes());
        (held, first..first + count)
    });
    meter.charge(Cost::Hash);
    Decoded { digest, from, held }
}
