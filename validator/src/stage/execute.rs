//! The thread around execution: cuts in, blocks durable, answers out.

use super::{
    Clock,
    poll::Poll,
    verify::{Lookup, Update, seconds},
};
use crate::{
    archive::Archive,
    consensus::Board,
    cost::Cost,
    execute::{Action, Core, Done},
    handle::{Query, TransactionView, Unreadable},
    lane::Ready,
    metrics::{Metrics, OutcomeLabel},
    node::{Delivered, fatal},
    prover::Question,
    saved::Change,
};
use crossbeam::channel::{Receiver, Sender, never, select};
use ledger::{Digest, Height, Outcome};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// How often a full disk is looked at again, and one that is not.
const FULL: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_secs(1);
/// The stage and its queues.
pub struct Stage {
    /// The state machine.
    pub core: Core,
    /// The block store, to be read.
    pub archive: Archive,
    /// The node's clock.
    pub clock: Clock,
    /// How long it looks before it sleeps.
    pub poll: Poll,
    /// `lane_execute`.
    pub ready: Receiver<Box<Ready>>,
    /// `storage_execute`.
    pub durable: (Sender<Height>, Receiver<Height>),
    /// `api_execute`.
    pub queries: Receiver<Query>,
    /// `verify_execute`.
    pub lookups: Receiver<Lookup>,
    /// `execute_verify`.
    pub verify: Sender<Update>,
    /// `execute_checkpoint`.
    pub checkpoint: Option<Sender<Change>>,
    /// `execute_prove`: dropped when full, what is missing comes from the store.
    pub leaves: Sender<(Height, Digest)>,
    /// Where consensus finds roots.
    pub board: Board,
    /// Deliveries of the engine that wait for their acknowledgement.
    pub delivered: Delivered,
    /// The block store.
    pub store: storage::Store,
    /// Counters of the process.
    pub metrics: Arc<Metrics>,
    /// For the status page.
    pub report: Arc<Mutex<Report>>,
}

/// What the status page shows of execution.
#[derive(Clone, Debug)]
pub struct Report {
    /// Newest height that is final and durable.
    pub height: Height,
    /// History root after it.
    pub history_root: Digest,
    /// Transactions with a final outcome.
    pub transactions: u64,
    /// When the newest height became durable, in nanoseconds of the node's clock.
    pub at: u64,
}

impl Stage {
    /// Runs until the lane stage is gone.
    pub fn run(mut self) {
        let counters = self.metrics.stage("execute");
        let meter = self.core.meter();
        meter.open();
        let nothing = never();
        loop {
            let idle = self.clock.now();
            let mut start = idle;
            let mut waited = |clock: &Clock| {
                start = clock.now();
                counters.waited.inc_by(seconds(start - idle));
            };
            // What is executed ends in the store: on a full disk only questions are answered.
            let full = self.store.is_full();
            let ready = if full { &nothing } else { &self.ready };
            self.poll.spin(&self.clock, meter, u64::MAX, || {
                !self.durable.1.is_empty()
                    || !ready.is_empty()
                    || !self.queries.is_empty()
                    || !self.lookups.is_empty()
            });
            select! {
                recv(self.durable.1) -> height => {
                    waited(&self.clock);
                    self.core.durable(height.expect("this stage holds a sender"));
                }
                recv(ready) -> ready => {
                    waited(&self.clock);
                    let Ok(ready) = ready else { return };
                    counters.taken.inc();
                    if let Err(reject) = self.core.ready(*ready) {
                        fatal(&format!("a finalized block does not follow: {reject}"));
                    }
                }
                recv(self.queries) -> query => {
                    waited(&self.clock);
                    match query {
                        Ok(query) => self.answer(query),
                        // The edge ends before this stage does.
                        Err(_) => self.queries = never(),
                    }
                }
                recv(self.lookups) -> lookup => {
                    waited(&self.clock);
                    let Ok(Lookup { id, reply }) = lookup else { return };
                    let located = Update::Located(id, reply, self.core.locate(&id));
                    if self.verify.send(located).is_err() {
                        return;
                    }
                }
                default(if full { FULL } else { LOOK }) => waited(&self.clock),
            }
            if !self.act() {
                return;
            }
            meter.charge(Cost::Execute);
            counters.busy.inc_by(seconds(self.clock.now() - start));
        }
    }

    /// Does what the core asks for; answers whether admission still listens.
    fn act(&mut self) -> bool {
        for action in self.core.take_actions() {
            match action {
                Action::Executed(progress) => self.board.executed(*progress),
                Action::Append(records, height) => self.append(records, height),
                Action::Final(done) => {
                    if !self.finish(Arc::from(done)) {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn append(&self, records: Vec<storage::Record>, height: Height) {
        let durable = self.durable.0.clone();
        let (metrics, clock, start) = (self.metrics.clone(), self.clock, self.clock.now());
        let done = move |result: Result<(), storage::Error>| match result {
            Ok(()) => {
                metrics.storage_sync.observe(seconds(clock.now() - start));
                // The stage may have stopped meanwhile: then nobody needs to know.
                let _ = durable.send(height);
            }
            // The node is stopping: what was not written was told to nobody.
            Err(storage::Error::Closed { .. }) => {}
            Err(error) => fatal(&error),
        };
        match self.store.append(records, Some(Box::new(done))) {
            Ok(_) | Err(storage::Error::Closed { .. }) => {}
            Err(error) => fatal(&error),
        }
    }

    fn finish(&mut self, done: Arc<Done>) -> bool {
        self.metrics.execute_blocks.inc();
        let age = self.clock.wall().saturating_sub(Duration::from_millis(done.time_ms));
        self.metrics.consensus_finality.observe(age.as_secs_f64());
        let mut counts = [0_u64; Outcome::ALL.len()];
        for (_, outcome) in &done.outcomes {
            counts[usize::from(outcome.code())] += 1;
        }
        for outcome in Outcome::ALL {
            let count = counts[usize::from(outcome.code())];
            if count > 0 {
                let label = OutcomeLabel { outcome: outcome.as_str() };
                self.metrics.tx_outcomes.get_or_create(&label).inc_by(count);
            }
            if outcome.pays() {
                self.metrics.tx_committed.inc_by(count);
            }
        }
        *self.report.lock().expect("no holder panics") = Report {
            height: done.height,
            history_root: done.history_root,
            transactions: self.core.transactions(),
            at: self.clock.now(),
        };
        self.board.stored(done.height);
        self.delivered.acknowledge(done.height);
        let change = Change { accounts: Arc::clone(&done.accounts), mark: done.mark.clone() };
        if let Some(checkpoint) = &self.checkpoint
            && checkpoint.try_send(change).is_err()
        {
            // Execution waits for no file: with a change missing the next ones would be wrong.
            tracing::warn!(
                "the state is saved no more: the disk is too slow; the next start replays more"
            );
            self.checkpoint = None;
        }
        // The other end stops with this one, and takes from the store what it missed.
        let _ = self.leaves.try_send((done.height, done.leaf));
        self.verify.send(Update::Done(done)).is_ok()
    }

    fn answer(&self, query: Query) {
        // Whoever asked may have gone: then the answer is dropped.
        match query {
            Query::Account { key, reply } => {
                if let Err(crossbeam::channel::TrySendError::Full(_)) =
                    self.verify.try_send(Update::Account(key, reply))
                {
                    self.metrics.count_dropped("api", "busy");
                }
            }
            Query::Transaction { id, reply } => drop(reply.send(self.transaction(&id))),
            Query::Block { height, reply } => drop(reply.send(self.archive.block(height))),
            Query::State { key, reply } => {
                let chain = self.core.chain();
                let interval = chain.state().parameters().checkpoint_interval;
                let height = chain.height().get();
                let question = Question::State {
                    state: Box::new(chain.prove(&key)),
                    root: chain.state_root(),
                    height: Height(height - height % interval),
                };
                drop(reply.send(question));
            }
        }
    }

    fn transaction(&self, id: &Digest) -> Result<Option<TransactionView>, Unreadable> {
        let Some(location) = self.core.locate(id) else { return Ok(None) };
        let bytes = match self.core.batch_of(&location) {
            Some((digest, index)) => self.archive.transaction_of(&digest, index)?,
            // Executed before this start.
            None => self.archive.search(location.height, id)?,
        };
        let crate::execute::Location { height, index, outcome } = location;
        Ok(Some(TransactionView { id: *id, height, index, outcome, bytes }))
    }
}
