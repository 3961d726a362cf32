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

/// Who is checked together with whom: all that are not suspected, in one; forgeries of one source make no
/// other's checks dearer but for the round that finds them.
#[derive(Default)]
pub struct Sources {
    /// All clients: a forgery costs its sender nothing, and one more address neither.
    clients: Source,
    /// The validators that sent a bad signature of late: each is checked by itself, as are the clients
    /// while they are suspected.
    suspects: HashMap<u32, Source>,
}

/// A sender of a round, and which of the round's items are its own.
#[derive(Clone, Debug)]
struct Share {
    /// The validator; none for all clients.
    from: Option<u32>,
    items: Range<usize>,
}

impl Sources {
    /// Judges all items: those of clients come first, then each batch's.
    ///
    /// Shape: verdict `i` answers `items[i]`; every item is in one of the shares.
    fn judge(&mut self, judge: &Judge, items: &[SignedItem<'_>], shares: &[Share]) -> Vec<Verdict> {
        let (alone, trusted): (Vec<_>, Vec<_>) =
            shares.iter().partition(|share| self.suspect(share).is_some());
        // Nobody in here is known for forgeries, and whoever turns out to be is counted below.
        let unsuspected = Source::new();
        let mut verdicts = if alone.is_empty() {
            judge.verify_from(&unsuspected, items)
        } else {
            let mut verdicts = vec![Verdict::Invalid; items.len()];
            let together: Vec<_> =
                trusted.iter().flat_map(|share| &items[share.items.clone()]).copied().collect();
            let mut found = judge.verify_from(&unsuspected, &together).into_iter();
            for share in &trusted {
                let next = || found.next().expect("one verdict for every item");
                verdicts[share.items.clone()].fill_with(next);
            }
            verdicts
        };
        for Share { from, items } in trusted {
            let verdicts = &verdicts[items.clone()];
            if !verdicts.iter().all(|verdict| verdict.is_valid()) {
                match from {
                    None => self.clients.count(verdicts),
                    Some(from) => self.suspects.entry(*from).or_default().count(verdicts),
                }
            }
        }
        for share in alone {
            let source = self.suspect(share).expect("it was one above");
            let found = judge.verify_from(source, &items[share.items.clone()]);
            verdicts[share.items.clone()].copy_from_slice(&found);
        }
        self.suspects.retain(|_, source| source.is_suspected());
        verdicts
    }

    /// The source of a share, if it is suspected.
    fn suspect(&self, share: &Share) -> Option<&Source> {
        match &share.from {
            None => Some(&self.clients).filter(|clients| clients.is_suspected()),
            Some(from) => self.suspects.get(from),
        }
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
    let sent = decoded.iter().filter_map(|batch| {
        let (_, items) = batch.held.as_ref()?;
        Some(Share { from: Some(batch.from), items: items.clone() })
    });
    let shares: Vec<_> =
        std::iter::once(Share { from: None, items: 0..clients }).chain(sent).collect();
    let verdicts = sources.judge(judge, &messages.items(), &shares);
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
