//! The thread around admission and signature checks.

use super::{Clock, poll::Poll};
use crate::{
    admit,
    cost::Cost,
    execute::{Done, Location},
    handle::{AccountView, Answer, Reply, Request},
    lane::Unverified,
    metrics::{Metrics, ResultLabel, StageMetrics},
    stage::{
        evidence::{Witness, Witnesses},
        lane::FromVerify,
    },
    verify::{Counts, ROUND_BATCH_BYTES_MAX, ROUND_REQUESTS_MAX, Sources, round},
    votes::Judge,
};
use crossbeam::channel::{Receiver, Sender, never, select};
use ledger::{Digest, PublicKey};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Time from one round to the next in which clients' transactions gather, if nothing else comes: signatures
/// are cheaper the more are checked together. The first after a pause does not wait.
const GATHER_NS: u64 = 4_000_000;
/// So many transactions at once are worth a round of their own.
const GATHER_REQUESTS: usize = 256;

/// Whether a round begins with what is there: peers wait for their batches, clients' transactions gather.
const fn is_due(now: u64, due: u64, requests: usize, batches: usize, is_open: bool) -> bool {
    let is_worth_it = now >= due || requests >= GATHER_REQUESTS || !is_open;
    batches > 0 || (requests > 0 && is_worth_it)
}

/// With nothing to do it looks up once in this time.
const IDLE_NS: u64 = 3_600_000_000_000;

/// What execution tells admission.
pub enum Update {
    /// A height is final and durable.
    Done(Arc<Done>),
    /// Somebody asks for an account.
    Account(PublicKey, oneshot::Sender<Option<AccountView>>),
    /// Whether a watched transaction is final already.
    Located(Digest, Reply, Option<Location>),
}

/// A question to execution: is this transaction final already?
pub struct Lookup {
    /// The transaction.
    pub id: Digest,
    /// Who asks.
    pub reply: Reply,
}

/// The stage, its queues and its counters.
pub struct Stage {
    /// Admission.
    pub core: admit::Core,
    /// Genesis digest.
    pub network: Digest,
    /// Judges signatures.
    pub judge: Arc<Judge>,
    /// Where they come from.
    pub sources: Sources,
    /// The node's clock.
    pub clock: Clock,
    /// How long it looks before it sleeps.
    pub poll: Poll,
    /// `ingest_verify`.
    pub requests: Receiver<Request>,
    /// `lane_verify`.
    pub batches: Receiver<Unverified>,
    /// `execute_verify`.
    pub updates: Receiver<Update>,
    /// `verify_lane`.
    pub lane: Sender<FromVerify>,
    /// `verify_execute`: dropped when full, the client asks again.
    pub lookups: Sender<Lookup>,
    /// `witnesses`: dropped when full.
    pub witnesses: Witnesses,
    /// Counters of the process.
    pub metrics: Arc<Metrics>,
}

impl Stage {
    /// Runs until the lane stage and execution are gone.
    pub fn run(mut self) {
        let counters = self.metrics.stage("verify");
        let meter = self.judge.meter();
        meter.open();
        let mut requests_open = true;
        // Those that gather for the next round, and when that is due.
        let (mut requests, mut due) = (Vec::new(), 0);
        loop {
            let mut batches = Vec::new();
            let before = self.clock.now();
            let is_gathering = !requests.is_empty();
            // While some gather, more of them are no news: only their time or something else is.
            let incoming =
                if requests_open && !is_gathering { self.requests.clone() } else { never() };
            let deadline = if is_gathering { due } else { u64::MAX };
            self.poll.spin(&self.clock, meter, deadline, || {
                !self.updates.is_empty() || !self.batches.is_empty() || !incoming.is_empty()
            });
            let wait = deadline.saturating_sub(self.clock.now()).min(IDLE_NS);
            select! {
                recv(self.updates) -> update => match update {
                    Ok(update) => self.update(update),
                    Err(_) => return,
                },
                recv(self.batches) -> batch => match batch {
                    Ok(batch) => batches.push(batch),
                    Err(_) => return,
                },
                recv(incoming) -> request => match request {
                    Ok(request) => requests.push(request),
                    Err(_) => requests_open = false,
                },
                default(Duration::from_nanos(wait)) => {}
            }
            counters.waited.inc_by(seconds(self.clock.now() - before));
            while let Ok(update) = self.updates.try_recv() {
                self.update(update);
            }
            self.gather(&mut requests, &mut batches);
            meter.charge(Cost::Admit);
            let now = self.clock.now();
            if !is_due(now, due, requests.len(), batches.len(), requests_open) {
                continue;
            }
            if !self.work(std::mem::take(&mut requests), batches, &counters) {
                return;
            }
            due = self.clock.now() + GATHER_NS;
        }
    }

    /// Takes what else waits, up to the limits of a round.
    fn gather(&self, requests: &mut Vec<Request>, batches: &mut Vec<Unverified>) {
        let mut bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        while bytes < ROUND_BATCH_BYTES_MAX
            && let Ok(batch) = self.batches.try_recv()
        {
            bytes += batch.bytes.len();
            batches.push(batch);
        }
        let room = ROUND_REQUESTS_MAX - requests.len();
        requests.extend(self.requests.try_iter().take(room));
    }

    /// One round; answers whether the lane stage still listens.
    fn work(
        &mut self,
        requests: Vec<Request>,
        batches: Vec<Unverified>,
        counters: &StageMetrics,
    ) -> bool {
        let start = self.clock.now();
        counters.taken.inc_by((requests.len() + batches.len()) as u64);
        for request in &requests {
            if let Request::Watch { id, reply } = request {
                let lookup = Lookup { id: *id, reply: reply.clone() };
                // A client whose question is lost here asks again.
                drop(self.lookups.try_send(lookup));
            }
        }
        let Self { core, network, judge, sources, .. } = self;
        let verified = round(core, network, judge, sources, start, requests, batches);
        self.count(verified.signatures);
        for (refusal, count) in self.core.take_refused() {
            let label = crate::metrics::DropLabel { stage: "verify", reason: refusal.as_str() };
            self.metrics.tx_dropped.get_or_create(&label).inc_by(count);
        }
        for evidence in verified.evidence {
            if !self.witnesses.send(Witness::Found(Box::new(evidence))) {
                self.metrics.count_dropped("evidence", "busy");
            }
        }
        let end = self.clock.now();
        counters.busy.inc_by(seconds(end - start));
        let mut open = true;
        for (digest, held) in verified.batches {
            open &= self.lane.send(FromVerify::Batch(digest, held)).is_ok();
        }
        if !verified.admitted.is_empty() {
            self.metrics.tx_accepted.inc_by(verified.admitted.len() as u64);
            counters.passed.inc_by(verified.admitted.len() as u64);
            open &= self.lane.send(FromVerify::Admitted(verified.admitted)).is_ok();
        }
        counters.backpressure.inc_by(seconds(self.clock.now() - end));
        open
    }

    fn count(&self, signatures: Counts) {
        let Counts { checked, valid, repeated } = signatures;
        if checked > 0 {
            self.metrics.sigverify_batch_size.observe(checked as f64);
        }
        let count = |result, count| {
            if count > 0 {
                let label = ResultLabel { result };
                self.metrics.sigverify_signatures.get_or_create(&label).inc_by(count);
            }
        };
        count("valid", valid);
        count("invalid", checked - valid);
        count("repeated", repeated);
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Done(done) => {
                self.judge.meter().charge(Cost::Admit);
                self.core.executed(self.clock.now(), &done);
                self.judge.meter().charge(Cost::Client);
                for latency in self.core.take_latencies() {
                    self.metrics.tx_commit_latency.observe(seconds(latency));
                }
            }
            // The asker may have gone.
            Update::Account(key, reply) => drop(reply.send(self.core.account(&key))),
            Update::Located(id, reply, location) => {
                let answer = match location {
                    Some(Location { height, outcome, .. }) => {
                        self.core.located(&id);
                        Answer::Final { id, height, outcome }
                    }
                    None => Answer::Unknown { id },
                };
                reply.send(answer);
            }
        }
    }
}

/// Nanoseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "counters of seconds need no nanosecond")]
pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_gather_for_a_while_and_nobody_else_waits() {
        assert!(!is_due(9, 9, 0, 0, true), "nothing is there");
        assert!(!is_due(8, 9, 1, 0, true) && is_due(9, 9, 1, 0, true), "until it is time");
        assert!(!is_due(8, 9, GATHER_REQUESTS - 1, 0, true));
        assert!(is_due(8, 9, GATHER_REQUESTS, 0, true), "many are enough");
        assert!(is_due(8, 9, 0, 1, true) && is_due(8, 9, 1, 1, true), "a batch does not wait");
        assert!(is_due(8, 9, 1, 0, false), "no more can come");
    }
}
