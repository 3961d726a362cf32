//! The verify stage: client transactions and peers' batches, their signatures checked together.

use crate::{
    admit::{self, Admitted},
    cost::{Cost, Meter},
    handle::Request,
    held::{Held, SignedMessages},
    lane::Unverified,
    votes::Judge,
};
use ledger::{Digest, SignedItem};
use sigverify::{Source, Verdict};
use std::{collections::HashMap, ops::Range, sync::Arc};

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

/// Who is checked together with whom: forgeries of one source make no other's checks dearer.
#[derive(Default)]
pub struct Sources {
    /// All clients: a forgery costs its sender nothing, and one more address neither.
    clients: Source,
    /// All validators but the suspected ones.
    peers: Source,
    /// The validators that sent a bad signature of late: each is checked by itself.
    suspects: HashMap<u32, Source>,
}

impl Sources {
    /// Judges the batches in `decoded`, each at its range of items; so are its verdicts.
    fn judge(
        &mut self,
        judge: &Judge,
        items: &[SignedItem<'_>],
        decoded: &[Decoded],
        verdicts: &mut [Verdict],
    ) {
        let sent: Vec<_> = decoded
            .iter()
            .filter_map(|batch| batch.held.as_ref().map(|(_, range)| (batch.from, range.clone())))
            .collect();
        let (alone, shared): (Vec<_>, Vec<_>) =
            sent.into_iter().partition(|(from, _)| self.suspects.contains_key(from));
        let together: Vec<_> =
            shared.iter().flat_map(|(_, range)| &items[range.clone()]).copied().collect();
        let mut found = judge.verify_from(&self.peers, &together).into_iter();
        for (from, range) in shared {
            let verdicts = &mut verdicts[range];
            verdicts.fill_with(|| found.next().expect("one verdict for every item"));
            if !verdicts.iter().all(|verdict| verdict.is_valid()) {
                self.suspects.entry(from).or_default().count(verdicts);
            }
        }
        for (from, range) in alone {
            let source = &self.suspects[&from];
            let found = judge.verify_from(source, &items[range.clone()]);
            verdicts[range].copy_from_slice(&found);
        }
        self.suspects.retain(|_, source| source.is_suspected());
    }
}

/// Checks one round: everything cheap first, then the signatures, each source's together.
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
    let items = messages.items();
    let mut verdicts = judge.verify_from(&sources.clients, &items[..clients]);
    verdicts.resize(items.len(), Verdict::Invalid);
    sources.judge(judge, &items, &decoded, &mut verdicts);
    let verdicts: Vec<bool> = verdicts.into_iter().map(Verdict::is_valid).collect();
    let valid = verdicts.iter().filter(|valid| **valid).count();
    meter.charge(Cost::Verify);
    let admitted = core.settle(now, candidates, &verdicts[..clients]);
    meter.charge(Cost::Admit);
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

#[cfg(test)]
mod tests;
