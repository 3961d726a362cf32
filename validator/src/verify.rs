//! The verify stage: client transactions and peers' batches, their signatures checked together.

use crate::{
    admit::{self, Admitted},
    handle::Request,
    held::{Held, SignedMessages},
    lane::Unverified,
};
use ledger::{Digest, Signatures};
use std::{ops::Range, sync::Arc};

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
    /// Signatures checked, and how many of them hold.
    pub signatures: (u64, u64),
}

/// Checks one round: everything cheap first, then all signatures in one call.
pub fn round(
    core: &mut admit::Core,
    network: &Digest,
    signatures: &dyn Signatures,
    now: u64,
    requests: Vec<Request>,
    unverified: Vec<Unverified>,
) -> Verified {
    let mut messages = SignedMessages::default();
    let candidates = core.sift(now, requests, &mut messages);
    let client_items = messages.len();
    let decoded: Vec<_> =
        unverified.into_iter().map(|batch| decode(batch, network, &mut messages)).collect();
    let items = messages.items();
    let verdicts = if items.is_empty() { Vec::new() } else { signatures.verify(&items) };
    assert_eq!(verdicts.len(), items.len(), "one verdict for every item");
    let valid = verdicts.iter().filter(|valid| **valid).count();
    let admitted = core.settle(now, candidates, &verdicts[..client_items]);
    let judge = |batch: Decoded| {
        let whole = |(_, range): &(Held, Range<usize>)| verdicts[range.clone()].iter().all(|v| *v);
        (batch.digest, batch.held.filter(whole).map(|(held, _)| Arc::new(held)))
    };
    Verified {
        admitted,
        batches: decoded.into_iter().map(judge).collect(),
        signatures: (verdicts.len() as u64, valid as u64),
    }
}

struct Decoded {
    digest: Digest,
    held: Option<(Held, Range<usize>)>,
}

fn decode(batch: Unverified, network: &Digest, messages: &mut SignedMessages) -> Decoded {
    let Unverified { digest, owner, bytes, .. } = batch;
    let held = Held::decode(bytes, network).ok().map(|held| {
        let first = messages.len();
        let count = messages.push_batch(&held, owner.as_bytes());
        (held, first..first + count)
    });
    Decoded { digest, held }
}
