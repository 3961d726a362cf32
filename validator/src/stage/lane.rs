//! The thread around the lane core: its queues, the disk, the network, the engine.

use super::{Clock, FromPeer, evidence::Witnesses, poll::Poll, verify::seconds};
use crate::{
    admit::Admitted,
    consensus::Board,
    cost::Cost,
    held::Held,
    lane::{Action, Core, Durable, Finalized, Ready, To, Unverified},
    metrics::Metrics,
    network::lanes::{Outgoing, Recipient},
    node::fatal,
    record,
};
use crossbeam::channel::{Receiver, Sender, select};
use ledger::Digest;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// What the verify stage hands on.
pub enum FromVerify {
    /// Client transactions for the own lane.
    Admitted(Vec<Admitted>),
    /// A peer's batch, if all of it holds.
    Batch(Digest, Option<Arc<Held>>),
}

/// Messages taken from one queue before the others are looked at.
const TURN: usize = 256;

/// How often a full disk is looked at again.
const FULL: Duration = Duration::from_millis(50);

/// The stage and its queues.
pub struct Stage {
    /// The state machine.
    pub core: Core,
    /// The node's clock.
    pub clock: Clock,
    /// How long it looks before it sleeps.
    pub poll: Poll,
    /// `verify_lane`.
    pub verified: Receiver<FromVerify>,
    /// `peers_lane`.
    pub peers: Receiver<FromPeer>,
    /// `engine_lane`.
    pub finalized: Receiver<Finalized>,
    /// `storage_lane`.
    pub durable: (Sender<Durable>, Receiver<Durable>),
    /// `lane_verify`.
    pub verify: Sender<Unverified>,
    /// `lane_execute`.
    pub execute: Sender<Box<Ready>>,
    /// `lane_peers`: dropped and counted when full.
    pub outgoing: mpsc::Sender<Outgoing>,
    /// Where consensus finds certificates and the epoch.
    pub board: Board,
    /// The block store.
    pub store: storage::Store,
    /// `witnesses`: dropped when full.
    pub witnesses: Witnesses,
    /// Counters of the process.
    pub metrics: Arc<Metrics>,
    /// Lane positions and held bytes, for the status page.
    pub report: Arc<std::sync::Mutex<Report>>,
}

/// What the status page shows of the lanes.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Newest held, certified and committed sequence of each lane.
    pub positions: Vec<(u64, u64, u64)>,
    /// Bytes of batches in memory.
    pub held_bytes: usize,
    /// Whether the own lane takes nothing, since what was signed for it is forgotten.
    pub is_closed: bool,
}

impl Stage {
    /// Runs until the engine is gone.
    pub fn run(mut self) {
        let counters = self.metrics.stage("lane");
        let meter = self.core.meter();
        meter.open();
        let mut reported = 0;
        loop {
            while self.store.is_full() {
                // Everything else here ends in the store: only what it has done is taken.
                if let Ok(durable) = self.durable.1.recv_timeout(FULL) {
                    self.core.durable(self.clock.now(), durable);
                }
            }
            let now = self.clock.now();
            let deadline = self.core.deadline(now);
            self.poll.spin(&self.clock, meter, deadline, || self.has_work());
            let wait = Duration::from_nanos(deadline.saturating_sub(self.clock.now()));
            select! {
                recv(self.durable.1) -> durable => {
                    self.core.durable(self.clock.now(), durable.expect("this stage holds a sender"));
                }
                recv(self.finalized) -> finalized => match finalized {
                    Ok(finalized) => self.core.finalized(self.clock.now(), finalized),
                    Err(_) => return,
                },
                recv(self.verified) -> verified => match verified {
                    Ok(verified) => self.verified(verified),
                    Err(_) => return,
                },
                recv(self.peers) -> message => match message {
                    Ok(message) => self.peer(message),
                    Err(_) => return,
                },
                default(wait) => {}
            }
            let start = self.clock.now();
            counters.waited.inc_by(seconds(start - now));
            self.turn();
            let (epoch, tips) = self.board.executed_tips();
            self.core.executed(epoch, &tips);
            self.core.tick(self.clock.now());
            if !self.act() {
                return;
            }
            if let Some(turn) = self.core.turn(self.clock.now(), self.board.durable()) {
                self.board.turned(self.core.lanes(), turn);
                if !self.act() {
                    return;
                }
            }
            meter.charge(Cost::Lane);
            let end = self.clock.now();
            counters.busy.inc_by(seconds(end - start));
            if end > reported + 200_000_000 {
                reported = end;
                self.core.welcome();
                let report = Report {
                    positions: self.core.positions(),
                    held_bytes: self.core.held_bytes(),
                    is_closed: !self.core.is_open(),
                };
                *self.report.lock().expect("no holder panics") = report;
            }
        }
    }

    /// Says whether a queue holds something.
    fn has_work(&self) -> bool {
        !self.durable.1.is_empty()
            || !self.finalized.is_empty()
            || !self.verified.is_empty()
            || !self.peers.is_empty()
    }

    /// Takes what else waits; nothing starves, since each queue has its turn.
    fn turn(&mut self) {
        for _ in 0..TURN {
            let Ok(durable) = self.durable.1.try_recv() else { break };
            self.core.durable(self.clock.now(), durable);
        }
        for _ in 0..TURN {
            let Ok(finalized) = self.finalized.try_recv() else { break };
            self.core.finalized(self.clock.now(), finalized);
        }
        for _ in 0..TURN {
            let Ok(verified) = self.verified.try_recv() else { break };
            self.verified(verified);
        }
        for _ in 0..TURN {
            let Ok(message) = self.peers.try_recv() else { break };
            self.peer(message);
        }
    }

    fn verified(&mut self, verified: FromVerify) {
        let now = self.clock.now();
        match verified {
            FromVerify::Admitted(admitted) => self.core.transactions(now, admitted),
            FromVerify::Batch(digest, held) => self.core.verified(now, &digest, held),
        }
    }

    fn peer(&mut self, message: FromPeer) {
        let now = self.clock.now();
        let (FromPeer::Batch(from, ..) | FromPeer::Control(from, ..)) = &message;
        // Who has left, or is to come: they are no peers in this epoch.
        let Some(from) = self.core.peer(from) else { return };
        match message {
            FromPeer::Batch(_, bytes, _) => self.core.batch(now, from, bytes),
            FromPeer::Control(_, bytes, _) => self.core.control(now, from, &bytes),
        }
    }

    /// Does what the core asks for; answers whether the other stages still listen.
    fn act(&mut self) -> bool {
        for action in self.core.take_actions() {
            let open = match action {
                Action::Send(to, control) => self.send(Outgoing::Control(self.key(to), control)),
                Action::SendBatch(to, held) => self.send(Outgoing::Batch(self.key(to), held)),
                Action::SendStored(to, bytes) => {
                    self.send(Outgoing::Stored(self.core.key(to), bytes))
                }
                Action::Verify(unverified) => self.verify.send(unverified).is_ok(),
                Action::Append(records, then) => self.append(records, then),
                Action::Certified(certificate) => {
                    self.board.certified(certificate);
                    true
                }
                Action::Execute(ready) => self.execute.send(ready).is_ok(),
                Action::Blame(_, fault) => {
                    self.metrics.count_dropped("lane", fault.as_str());
                    true
                }
                Action::Accuse(witness) => {
                    if !self.witnesses.send(witness) {
                        self.metrics.count_dropped("evidence", "busy");
                    }
                    true
                }
            };
            if !open {
                return false;
            }
        }
        true
    }

    fn key(&self, to: To) -> Recipient {
        match to {
            To::All => None,
            To::One(peer) => Some(self.core.key(peer)),
        }
    }

    fn send(&self, message: Outgoing) -> bool {
        match self.outgoing.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.metrics.count_dropped("lane", "network_full");
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    fn append(&self, records: Vec<storage::Record>, then: Durable) -> bool {
        let durable = self.durable.0.clone();
        let (metrics, clock, start) = (self.metrics.clone(), self.clock, self.clock.now());
        let batches = records.iter().filter(|record| record.kind == record::BATCH);
        let (count, bytes) =
            batches.fold((0, 0), |(count, bytes), batch| (count + 1, bytes + batch.body.size()));
        let done = move |result: Result<(), storage::Error>| match result {
            Ok(()) => {
                metrics.storage_sync.observe(seconds(clock.now() - start));
                metrics.lane_batches.inc_by(count);
                metrics.lane_batch_bytes.inc_by(bytes as u64);
                // The stage may have stopped meanwhile.
                drop(durable.send(then));
            }
            // The node is stopping: what was not written was told to nobody.
            Err(storage::Error::Closed { .. }) => {}
            Err(error) => fatal(&error),
        };
        match self.store.append(records, Some(Box::new(done))) {
            Ok(_) => true,
            Err(storage::Error::Closed { .. }) => false,
            Err(error) => fatal(&error),
        }
    }
}
