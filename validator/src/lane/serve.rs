//! Batches for validators that ask: an equal share of each period for every asker.
//!
//! What exceeds an asker's share of this period waits for its next one. A request that was dropped
//! would cost the asker a whole retry time, and a validator that catches up asks for far more than
//! one period gives.

use super::{Action, Core, To};
use crate::message::{REQUEST_BATCHES_MAX, Request};
use std::collections::VecDeque;

/// Batches served to one validator in a period: 64 full ones are 32 MiB.
const SERVED_MAX: u32 = 64;
/// A period.
const PERIOD_NS: u64 = 100_000_000;
/// Requests of one validator that wait for its next period; it repeats what finds no room.
const WAITING_MAX: usize = 256;

/// What every validator was served, and what it waits for.
pub(super) struct Serving {
    since: u64,
    askers: Vec<Asker>,
}

#[derive(Clone, Default)]
struct Asker {
    served: u32,
    waiting: VecDeque<Request>,
}

impl Serving {
    pub(super) fn new(validators: usize) -> Self {
        Self { since: 0, askers: vec![Asker::default(); validators] }
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
        self.serving.since = now;
        for asker in 0..self.config.set.len() {
            self.serving.askers[asker].served = 0;
            self.serve_waiting(u32::try_from(asker).expect("at most 100 validators"));
        }
    }

    pub(super) fn serve_deadline(&self) -> u64 {
        let waits = self.serving.askers.iter().any(|asker| !asker.waiting.is_empty());
        if waits { self.serving.since + PERIOD_NS } else { u64::MAX }
    }

    fn serve_waiting(&mut self, from: u32) {
        loop {
            let asker = &mut self.serving.askers[from as usize];
            let left = SERVED_MAX - asker.served;
            if left == 0 {
                return;
            }
            let Some(mut request) = asker.waiting.pop_front() else { return };
            request.count = request.count.min(REQUEST_BATCHES_MAX);
            let mut served = 0;
            while request.count > 0 && served < left {
                let Some(held) = self.find(&request.digest) else { break };
                let header = held.header();
                if header.lane != request.lane || header.sequence <= request.floor {
                    break;
                }
                request.digest = header.previous;
                request.count -= 1;
                served += 1;
                self.actions.push(Action::SendBatch(To::One(from), held));
            }
            let asker = &mut self.serving.askers[from as usize];
            // A look into the store costs as much as an answer, found or not.
            asker.served += served.max(1);
            if served == left && request.count > 0 {
                asker.waiting.push_front(request);
            }
        }
    }
}
