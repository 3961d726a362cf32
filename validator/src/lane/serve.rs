//! Batches for validators that ask: a share of each period for every asker, and a limit for all.
//!
//! What exceeds an asker's share of this period waits for its next one. A request that was dropped
//! would cost the asker a whole retry time, and a validator that catches up asks for far more than
//! one period gives.

use super::{Action, Core, To};
use crate::{
    message::{REQUEST_BATCHES_MAX, Request},
    record,
};
use ledger::{BatchHeader, Digest, batch::HEADER_BYTES};
use std::collections::VecDeque;

/// Batches served to one validator in a period: 64 full ones are 32 MiB.
const SERVED_MAX: u32 = 64;
/// Bytes served to all validators in a period: more than a disk of today reads in that time, and a
/// few milliseconds of this stage, however many ask.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a look into the store counts, found or not.
const LOOK_BYTES: usize = 4 * 1024;
/// A period.
const PERIOD_NS: u64 = 100_000_000;
/// Requests of one validator that wait for its next period; it repeats what finds no room.
const WAITING_MAX: usize = 256;

/// What every validator was served, and what it waits for.
pub(super) struct Serving {
    since: u64,
    askers: Vec<Asker>,
    /// Bytes left of this period.
    bytes_left: usize,
    /// Who comes first in the next period.
    first: usize,
}

#[derive(Clone, Default)]
struct Asker {
    served: u32,
    waiting: VecDeque<Request>,
}

impl Serving {
    pub(super) fn new(validators: usize) -> Self {
        Self {
            since: 0,
            askers: vec![Asker::default(); validators],
            bytes_left: BYTES_MAX,
            first: 0,
        }
    }

    /// Forgets what those behind the validators asked for, who are others now.
    pub(super) fn resize(&mut self, validators: usize, peers: usize) {
        self.askers.truncate(validators);
        self.askers.resize(peers, Asker::default());
    }
}

impl Core {
    /// Sends a batch and its predecessors to a validator that asks.
    pub(super) fn serve(&mut self, from: u32, request: Request) {
        let waiting = &mut self.serving.askers[from as usize].waiting;
        if waiting.len() < WAITING_MAX
            && !waiting.iter().any(|other| other.digest == request.digest)
        {
            waiting.push_back(request);
        }
        self.serve_waiting(from);
    }

    pub(super) fn serve_tick(&mut self, now: u64) {
        if now < self.serving.since + PERIOD_NS {
            return;
        }
        let validators = self.peers.len();
        self.serving.since = now;
        self.serving.bytes_left = BYTES_MAX;
        for asker in &mut self.serving.askers {
            asker.served = 0;
        }
        // Where the bytes do not do for all, somebody else is first each time.
        self.serving.first = (self.serving.first + 1) % validators;
        for turn in 0..validators {
            let asker = (self.serving.first + turn) % validators;
            self.serve_waiting(u32::try_from(asker).expect("some 200 peers at most"));
        }
    }

    pub(super) fn serve_deadline(&self) -> u64 {
        let waits = self.serving.askers.iter().any(|asker| !asker.waiting.is_empty());
        if waits { self.serving.since + PERIOD_NS } else { u64::MAX }
    }

    fn serve_waiting(&mut self, from: u32) {
        loop {
            let asker = &mut self.serving.askers[from as usize];
            if asker.served >= SERVED_MAX || self.serving.bytes_left == 0 {
                return;
            }
            let Some(mut request) = asker.waiting.pop_front() else { return };
            asker.served += 1;
            self.serving.bytes_left = self.serving.bytes_left.saturating_sub(LOOK_BYTES);
            request.count = request.count.min(REQUEST_BATCHES_MAX);
            if request.count == 0 {
                continue;
            }
            let Some((header, action, bytes)) = self.stored(from, &request.digest) else {
                continue;
            };
            if request.count == 0 || header.lane != request.lane || header.sequence <= request.floor
            {
                continue;
            }
            self.actions.push(action);
            self.serving.bytes_left = self.serving.bytes_left.saturating_sub(bytes);
            request.digest = header.previous;
            request.count -= 1;
            // Its predecessors are looked at next, or in the next period.
            if request.count > 0 && header.sequence > request.floor + 1 {
                self.serving.askers[from as usize].waiting.push_front(request);
            }
        }
    }

    /// A batch for a validator, from memory or as the store has it: whoever asks checks all of it, so
    /// that only its header is looked at here.
    fn stored(&self, to: u32, digest: &Digest) -> Option<(BatchHeader, Action, usize)> {
        if let Some(held) = self.pool.get(digest) {
            let action = Action::SendBatch(To::One(to), held.clone());
            return Some((*held.header(), action, held.size()));
        }
        let place = self.config.store.find(record::BATCH, digest.as_bytes())?;
        let bytes = self.config.store.read(place).ok()?;
        let header = BatchHeader::decode(bytes.get(..HEADER_BYTES)?).ok()?;
        let size = bytes.len();
        (header.digest() == *digest).then(|| (header, Action::SendStored(to, bytes), size))
    }
}
