//! The thread around repair: scrubs the store at its pace, talks to other validators.

use super::Clock;
use crate::{
    handle::{Hold, Stop},
    metrics::Metrics,
    repair::Core,
};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use std::{sync::Arc, time::Duration};
use storage::{Scrub, Store};
use tokio::sync::mpsc;

/// How often the core looks for damage and for answers that do not come.
const TURN: Duration = Duration::from_millis(100);
const TURN_NS: u64 = 100_000_000;
const TURNS_PER_SECOND: u64 = 1_000_000_000 / TURN_NS;
/// Rest after the whole store was scrubbed: a small one is not read all the time.
const PAUSE_NS: u64 = 10_000_000_000;
/// Bytes that are scrubbed in one go, at most.
const SCRUB_BYTES_MAX: u64 = 8 << 20;

/// A message of another validator about stored records, with its share of the budget.
pub struct FromPeer {
    /// Who sent it.
    pub from: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its share of the queue's budget.
    pub hold: Hold,
}

/// How far a scrub has come, and when it goes on.
#[derive(Debug, Default)]
pub struct Pace {
    scrub: Scrub,
    due: u64,
}

/// The stage and its queues.
pub struct Stage {
    /// The state machine.
    pub core: Core,
    /// The block store.
    pub store: Store,
    /// The node's clock.
    pub clock: Clock,
    /// `peers_repair`.
    pub incoming: Receiver<FromPeer>,
    /// `repair_peers`: dropped when full, the question is asked again.
    pub outgoing: mpsc::Sender<(u32, Vec<u8>)>,
    /// Bytes that are scrubbed in a second; 0 for none.
    pub scrub_bytes: u64,
    /// How far the scrub has come, and when it goes on.
    pub pace: Pace,
    /// Counters of the process.
    pub metrics: Arc<Metrics>,
}

impl Stage {
    /// Runs until told to stop.
    pub fn run(mut self, stop: &Stop) {
        let mut ticked = 0;
        while !stop.is_stopped() {
            match self.incoming.recv_timeout(TURN) {
                Ok(message) => self.take(&message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = self.clock.now();
            if now >= ticked + TURN_NS {
                ticked = now;
                self.scrub(now);
                self.core.tick(now);
            }
            self.send(now);
        }
    }

    /// Checks some groups, if any are due: never more than the pace allows over time.
    fn scrub(&mut self, now: u64) {
        if self.scrub_bytes == 0 || now < self.pace.due {
            return;
        }
        let passes = self.pace.scrub.passes;
        let wanted = (self.scrub_bytes / TURNS_PER_SECOND).clamp(1, SCRUB_BYTES_MAX);
        let done = self.store.scrub(&mut self.pace.scrub, wanted);
        self.metrics.storage_scrubbed_bytes.inc_by(done);
        let took = done.saturating_mul(1_000_000_000) / self.scrub_bytes;
        let rest = if self.pace.scrub.passes > passes { PAUSE_NS } else { 0 };
        self.pace.due = now + took.max(rest);
    }

    fn take(&mut self, message: &FromPeer) {
        let now = self.clock.now();
        if let Err(reject) = self.core.message(now, message.from, &message.bytes) {
            self.metrics.count_dropped("repair", reject.as_str());
        }
    }

    fn send(&mut self, now: u64) {
        for (to, message) in self.core.take_outgoing(now) {
            if self.outgoing.try_send((to, message.encode())).is_err() {
                self.metrics.count_dropped("repair", "network_full");
            }
        }
    }
}
