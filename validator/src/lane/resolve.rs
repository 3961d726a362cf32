//! Finalized cuts wait here for their batches; what is missing is fetched by digest.

use super::{Action, Certificate, Core, RETRY_NS, SILENT_NS, SharedCut};
use crate::held::Held;
use ledger::{BatchHeader, Digest, Tip, Tips};
use std::sync::Arc;

/// Requests sent by one tick at most, the lowest sequences first.
const REQUESTS_MAX: usize = 32;
/// Digests of one lane wanted at most on the word of a batch alone.
const NEAR_WANTS_MAX: usize = 64;

/// A cut that the engine finalized.
pub struct Finalized {
    /// The cut.
    pub cut: SharedCut,
    /// Its digest.
    pub digest: Digest,
    /// Its own certificate; without one, a later cut's covers it.
    pub certificate: Certificate,
    /// Names this delivery when it is acknowledged to the engine.
    pub token: u64,
}

/// A finalized cut with every batch that it newly commits.
pub struct Ready {
    /// The cut.
    pub finalized: Finalized,
    /// Per lane the newly committed batches, oldest first.
    pub batches: Vec<Vec<Arc<Held>>>,
}

/// A cut in the queue and how far each of its lanes is resolved.
pub(super) struct Pending {
    finalized: Finalized,
    walks: Vec<Walk>,
}

impl Pending {
    /// The cut, as it came.
    pub(super) fn into_finalized(self) -> Finalized {
        self.finalized
    }
}

/// The walk from a lane's new tip back to its last one.
struct Walk {
    lane: u32,
    from: Tip,
    next: Digest,
    sequence: u64,
    /// Newest first.
    found: Vec<Arc<Held>>,
}

/// A digest to ask for.
pub(super) struct Want {
    lane: u32,
    sequence: u64,
    floor: u64,
    due: u64,
    asked: u32,
    /// Who was asked last.
    peer: Option<u32>,
    /// Whether a certificate leads to it, not only some batch's word.
    certified: bool,
}

impl Want {
    /// Sequence that is held already: predecessors are wanted down to it.
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether a certificate leads to it.
    pub(super) const fn is_certified(&self) -> bool {
        self.certified
    }

    /// Whether a header stands where the wanted batch must stand.
    pub(super) fn fits(&self, header: &BatchHeader) -> bool {
        (self.lane, self.sequence) == (header.lane, header.sequence)
    }

    /// The answer was bad: ask another at once.
    pub(super) fn refused(&mut self, now: u64) {
        self.due = now;
        self.peer = None;
    }
}

impl Core {
    /// A finalized cut, in order of height.
    pub fn finalized(&mut self, now: u64, finalized: Finalized) {
        if finalized.cut.epoch != self.epoch {
            // Of the next epoch: its lanes begin with it.
            self.queue.push_back(Pending { finalized, walks: Vec::new() });
            return;
        }
        let mut walks = Vec::new();
        for certificate in &finalized.cut.lanes {
            let queued = &mut self.queued_tips.0[certificate.lane as usize];
            let tip = Tip { sequence: certificate.sequence, digest: certificate.digest };
            let from = std::mem::replace(queued, tip);
            walks.push(Walk {
                lane: certificate.lane,
                from,
                next: tip.digest,
                sequence: tip.sequence,
                found: Vec::new(),
            });
        }
        self.queue.push_back(Pending { finalized, walks });
        self.resolve(now);
    }

    /// Tips after the newest queued cut.
    pub fn queued_tips(&self) -> &Tips {
        &self.queued_tips
    }

    /// Continues every walk and hands on what is complete.
    pub(super) fn resolve(&mut self, now: u64) {
        let mut queue = std::mem::take(&mut self.queue);
        let epoch = self.epoch;
        let is_now = move |pending: &Pending| pending.finalized.cut.epoch == epoch;
        for pending in queue.iter_mut().filter(|pending| is_now(pending)) {
            for walk in &mut pending.walks {
                self.walk(now, walk);
            }
        }
        let is_complete = |it: &Pending| is_now(it) && it.walks.iter().all(Walk::complete);
        while queue.front().is_some_and(is_complete) {
            let pending = queue.pop_front().expect("the front was just seen");
            self.hand_on(pending);
        }
        self.queue = queue;
        self.own_committed(now);
    }

    fn walk(&mut self, now: u64, walk: &mut Walk) {
        while !walk.complete() {
            let Some(held) = self.find(&walk.next) else {
                let tip = Tip { sequence: walk.sequence, digest: walk.next };
                return self.want(walk.lane, tip, walk.from.sequence, now, true);
            };
            // A certified tip certifies its prefix: fewer than f+1 faulty cannot break this.
            assert_eq!(held.header().sequence, walk.sequence, "a certified lane counts by one");
            walk.next = held.header().previous;
            walk.sequence -= 1;
            walk.found.push(held);
        }
        assert_eq!(walk.next, walk.from.digest, "two certified tips of a lane lie on one chain");
    }

    fn hand_on(&mut self, pending: Pending) {
        let mut batches = vec![Vec::new(); self.lanes.len()];
        for mut walk in pending.walks {
            walk.found.reverse();
            let index = walk.lane as usize;
            let tip = walk.found.last().expect("a cut advances every lane that it names");
            self.lanes[index].committed =
                Tip { sequence: tip.header().sequence, digest: tip.digest() };
            self.forget(index);
            self.relink(index);
            batches[index] = walk.found;
        }
        let (height, digest) = (pending.finalized.cut.height, pending.finalized.digest);
        if self.config.terms.epochs().is_last(height) {
            self.ended = Some((height, digest));
        }
        let ready = Ready { finalized: pending.finalized, batches };
        self.actions.push(Action::Execute(Box::new(ready)));
    }

    /// Notes a digest to be asked for at `due`, the earlier of two dates.
    ///
    /// Wants that only a batch names are limited for each lane; those of certificates are as many as
    /// the queue has lanes to walk.
    pub(super) fn want(&mut self, lane: u32, tip: Tip, floor: u64, due: u64, certified: bool) {
        let Tip { sequence, digest } = tip;
        if self.verifying.contains_key(&digest) || self.pool.contains_key(&digest) {
            return;
        }
        if let Some(want) = self.wanted.get_mut(&digest) {
            want.certified |= certified;
            if want.asked == 0 {
                want.due = want.due.min(due);
            }
            return;
        }
        let crowd = self.wanted.values().filter(|want| want.lane == lane && !want.certified);
        if certified || crowd.count() < NEAR_WANTS_MAX {
            let want = Want { lane, sequence, floor, due, asked: 0, peer: None, certified };
            self.wanted.insert(digest, want);
        }
    }

    pub(super) fn fetch_tick(&mut self, now: u64) {
        let me = self.me;
        let validators = u32::try_from(self.set.len()).expect("at most 100 validators");
        let lanes = &self.lanes;
        self.wanted.retain(|_, want| want.sequence > lanes[want.lane as usize].committed.sequence);
        // Certified ones first, the lowest first: execution waits for them.
        let mut due: Vec<(bool, u64, Digest)> = self
            .wanted
            .iter()
            .filter(|(_, want)| want.due <= now)
            .map(|(digest, want)| (!want.certified, want.sequence, *digest))
            .collect();
        due.sort_unstable();
        for (_, _, digest) in due.into_iter().take(REQUESTS_MAX) {
            let Some(want) = self.wanted.get_mut(&digest) else { continue };
            if let Some(peer) = want.peer {
                self.silent[peer as usize] = now + SILENT_NS;
            }
            // The owner first, then the others in turn: an owner may be the one that is down. Who did
            // not answer of late, or is not heard, comes after the others.
            let turn = want.asked + want.lane;
            let peers = (0..validators).map(|step| (turn + step) % validators);
            let peers = peers.filter(|peer| Some(*peer) != me);
            let answers = |peer: &u32| {
                let peer = *peer as usize;
                self.silent[peer] <= now && self.muted[peer] <= now
            };
            let Some(peer) = peers.clone().find(answers).or_else(|| peers.clone().next()) else {
                return;
            };
            want.asked += 1;
            want.peer = Some(peer);
            want.due = now + RETRY_NS;
            let (lane, floor) = (want.lane, want.floor);
            self.request(peer, lane, digest, floor);
        }
    }

    pub(super) fn fetch_deadline(&self) -> u64 {
        self.wanted.values().map(|want| want.due).min().unwrap_or(u64::MAX)
    }
}

impl Walk {
    const fn complete(&self) -> bool {
        self.sequence == self.from.sequence
    }
}
