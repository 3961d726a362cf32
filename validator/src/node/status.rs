//! What the node publishes about itself, a few times a second.

use super::{Delivered, guard, room::Disk};
use crate::{
    admit,
    consensus::Turn,
    consensus::engine::Observer,
    execute as execute_core,
    handle::{
        BackendStatus, Budget, LaneStatus, PacketBoard, PeerStatus, QueueStatus, Status,
        StatusBoard, Stop,
    },
    history, ingest,
    lane::{OWN_BYTES_MAX, WAITING_BYTES_MAX, WINDOW_BYTES},
    metrics::{EquivocationLabel, Metrics},
    saved,
    signer::Signer,
    stage::{self, Clock, execute, lane},
    terms::Terms,
    verify,
};
use ledger::{Digest, PublicKey, ValidatorSet};
use net_ebpf::filter;
use prometheus_client::metrics::counter::Counter;
use sigverify::Verifier;
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use storage::{Stats, Store};
use tokio::sync::watch;

/// Time between two snapshots.
const PERIOD: Duration = Duration::from_millis(200);
/// Snapshots between two looks at what threads have spent.
const LOOK_PERIODS: u32 = 5;
/// A validator whose newest vote is older than this many views counts as away.
const AWAY_VIEWS: u64 = 16;
/// A node that finalized nothing for this long is not ready.
const SILENT: u64 = 10_000_000_000;
/// A node further behind the newest delivered block than this is not ready.
const BEHIND_MAX: u64 = 32;

/// Names the backend of each accelerated stage.
pub(super) fn backends(
    gate: &filter::Choice,
    verifier: &Verifier,
    store: &Store,
    history: &history::Backend,
) -> Vec<BackendStatus> {
    let status = |stage: &str, backend: &str, reason: String| BackendStatus {
        stage: stage.to_owned(),
        backend: backend.to_owned(),
        reason,
    };
    let disk = store.backend();
    let checks = verifier.backend();
    vec![
        status("sigverify", checks.name, checks.reason.to_string()),
        status("net", gate.mode.name(), gate.reason.clone()),
        status("storage", disk.name, disk.reason.unwrap_or_else(|| "permitted here".to_owned())),
        status("history", history.name, history.reason.clone()),
    ]
}

/// All backends and why, in one line: `sigverify=portable (..) net=socket (..) storage=io_uring (..)`.
pub(super) fn line(backends: &[BackendStatus]) -> String {
    let part = |status: &BackendStatus| {
        let BackendStatus { stage, backend, reason } = status;
        format!("{stage}={backend} ({reason})")
    };
    backends.iter().map(part).collect::<Vec<_>>().join(" ")
}

/// Collects snapshots.
pub(super) struct Reporter {
    /// The network's name.
    pub(super) name: String,
    /// Genesis digest.
    pub(super) network: Digest,
    /// Who decides when, and the epoch that it is in.
    pub(super) terms: Terms,
    pub(super) turns: watch::Receiver<Turn>,
    /// What does each accelerated task.
    pub(super) backends: Vec<BackendStatus>,
    /// Queues with a byte budget of their own.
    pub(super) budgets: Vec<(&'static str, Arc<Budget>)>,
    /// What the packet path publishes.
    pub(super) packets: Arc<PacketBoard>,
    /// Bytes admitted and not yet in a batch.
    pub(super) waiting_bytes: Arc<AtomicUsize>,
    /// What the lane stage reports.
    pub(super) lanes: Arc<Mutex<lane::Report>>,
    /// What the execute stage reports.
    pub(super) execute: Arc<Mutex<execute::Report>>,
    /// What the engine was seen doing.
    pub(super) observer: Observer,
    /// Who signs.
    pub(super) signer: Signer,
    /// The data folder.
    pub(super) data: PathBuf,
    /// Whether it is noted that the ledger has records.
    pub(super) has_begun: bool,
    /// Blocks between engine and stages.
    pub(super) delivered: Delivered,
    /// The block store.
    pub(super) store: Store,
    /// The disk that it is on.
    pub(super) room: Arc<Disk>,
    /// Bytes of groups that the store has under way, at most.
    pub(super) store_bytes: usize,
    /// With less than this free, no transactions are taken.
    pub(super) reserve_bytes: u64,
    /// Counters of the process.
    pub(super) metrics: Arc<Metrics>,
    /// The node's clock.
    pub(super) clock: Clock,
}

impl Reporter {
    /// Publishes until told to stop.
    pub(super) fn run(&mut self, board: &StatusBoard, stop: &Stop) {
        let mut periods = 0;
        while !stop.is_stopped() {
            self.look_at_disk(board);
            board.set_closed(self.lanes.lock().expect("no holder panics").is_closed);
            let stored = self.store.stats();
            let status = self.status(&stored);
            self.metrics.observe(&status);
            board.publish(status);
            self.count(&stored);
            self.begin();
            periods = (periods + 1) % LOOK_PERIODS;
            if periods == 0 {
                crate::cost::look();
            }
            std::thread::sleep(PERIOD);
        }
    }

    /// Notes once that the ledger has records; on a full disk it is tried again.
    fn begin(&mut self) {
        if !self.has_begun && self.store.durable() > 0 {
            self.has_begun = guard::begin(&self.data).is_ok();
        }
    }

    /// Shuts the door before the disk is full, and opens it again.
    fn look_at_disk(&mut self, board: &StatusBoard) {
        let free = self.room.free_bytes();
        if let Some(free) = free {
            self.metrics.storage_free.set(free);
        }
        let short = free.is_some_and(|free| free < self.reserve_bytes) || self.store.is_full();
        if board.set_full(short) {
            let (free, reserve) = (free.unwrap_or(0), self.reserve_bytes);
            if short {
                tracing::warn!(free, reserve, "the disk is almost full: no transactions are taken");
            } else {
                tracing::info!(free, reserve, "the disk has room: transactions are taken");
            }
        }
    }

    /// Brings counters up to date that others keep.
    fn count(&mut self, stored: &Stats) {
        let catch_up = |counter: &Counter, count: u64| {
            counter.inc_by(count.saturating_sub(counter.get()));
        };
        catch_up(&self.metrics.storage_write_bytes, stored.bytes);
        catch_up(&self.metrics.storage_damaged, stored.damaged_groups);
        catch_up(&self.metrics.storage_repaired, stored.repaired_groups);
        for ((validator, kind), count) in self.observer.observed().equivocations {
            let label = EquivocationLabel { validator, kind };
            let counter = self.metrics.equivocation.get_or_create_owned(&label);
            catch_up(&counter, count);
        }
    }

    /// The byte budget of everything that grows with what others do, as printed at start: queues, and what
    /// stages keep. Accounts are not in it: they are the ledger's, some 250 bytes each.
    pub(super) fn limits(&self) -> Vec<(String, u64)> {
        let queues = self.queues().into_iter().map(|queue| (queue.name, queue.limit_bytes));
        let kept = [
            ("checked_signatures", verify::CHECKED_BYTES_MAX),
            ("client_answers", ingest::tcp::OUTBOXES_BYTES_MAX),
            ("client_waits", admit::WAITS_BYTES_MAX),
            ("engine_log", crate::consensus::vault::KEPT_BYTES_MAX),
            ("evidence", stage::WITNESSES_TOLD * ledger::limits::EVIDENCE_BYTES_MAX),
            ("executed_places", execute_core::INDEX_BYTES_MAX),
            ("saved_changes", saved::CHANGES_BYTES_MAX),
            ("store_groups", self.store_bytes),
        ];
        queues.chain(kept.map(|(name, bytes)| (name.to_owned(), bytes as u64))).collect()
    }

    fn queues(&self) -> Vec<QueueStatus> {
        let held = self.lanes.lock().expect("no holder panics").held_bytes;
        let queue = |name: &str, bytes: usize, limit: usize| QueueStatus {
            name: name.to_owned(),
            bytes: bytes as u64,
            limit_bytes: limit as u64,
        };
        let mut queues: Vec<QueueStatus> = self
            .budgets
            .iter()
            .map(|(name, budget)| queue(name, budget.used_bytes(), budget.limit_bytes()))
            .collect();
        let waiting = self.waiting_bytes.load(Ordering::Relaxed);
        queues.push(queue("verify_lane", waiting, WAITING_BYTES_MAX));
        let others = self.present().1.len().saturating_sub(1);
        queues.push(queue("lane_pool", held, OWN_BYTES_MAX + others * WINDOW_BYTES));
        queues
    }

    /// The epoch, and the validators of it.
    fn present(&self) -> (u64, Arc<ValidatorSet>) {
        let epoch = self.turns.borrow().epoch;
        (epoch, self.terms.set(epoch).expect("lanes turn to a set that is settled"))
    }

    /// A snapshot of now.
    pub(super) fn status(&mut self, stored: &Stats) -> Status {
        let (execute, lanes) = (
            self.execute.lock().expect("no holder panics").clone(),
            self.lanes.lock().expect("no holder panics").clone(),
        );
        let observed = self.observer.observed();
        let handed = self.delivered.handed().get();
        let now = self.clock.now();
        let mut reasons = Vec::new();
        if execute.at == 0 {
            reasons.push("no block was finalized since the start".to_owned());
        } else if now > execute.at + SILENT {
            reasons.push("no block was finalized for ten seconds".to_owned());
        }
        if handed > execute.height.get() + BEHIND_MAX {
            reasons.push("finalized blocks wait for their batches or their execution".to_owned());
        }
        let (epoch, set) = self.present();
        let own = self.signer.public();
        let me = set.index_of(&own);
        if me.is_none() {
            reasons.push("it is no validator of this epoch: it follows without a vote".to_owned());
        } else if self.signer.is_silent(epoch) {
            reasons.push(silent(self.signer.is_to_watch()).to_owned());
        } else if lanes.is_closed {
            let why = "what it signed for its lane is forgotten: it takes no transactions until the next epoch";
            reasons.push(why.to_owned());
        }
        if self.store.is_full() || self.room.is_waited_for() {
            reasons.push("the disk is full: it goes on when there is room".to_owned());
        } else if self.room.free_bytes().is_some_and(|free| free < self.reserve_bytes) {
            reasons.push("the disk is almost full: no transactions are taken".to_owned());
        }
        let lane =
            |(index, (sequence, certified, finalized)): (usize, &(u64, u64, u64))| LaneStatus {
                lane: index_u32(index),
                sequence: *sequence,
                certified: *certified,
                finalized: *finalized,
            };
        let peer = |(index, key): (usize, &PublicKey)| PeerStatus {
            index: index_u32(index),
            key: *key,
            connected: observed
                .votes
                .get(index)
                .is_some_and(|vote| vote + AWAY_VIEWS >= observed.view),
        };
        let others = set.keys().iter().enumerate().filter(|(_, key)| **key != own);
        Status {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: self.network,
            validator: me,
            key: own,
            height: handed.max(execute.height.get()),
            view: observed.view,
            epoch,
            epoch_ends: self.terms.epochs().last(epoch).get(),
            finalized_transactions: execute.transactions,
            executed_height: execute.height.get(),
            history_root: execute.history_root,
            lanes: lanes.positions.iter().enumerate().map(lane).collect(),
            peers: others.map(peer).collect(),
            backends: self.backends.clone(),
            packets: self.packets.snapshot(),
            queues: self.queues(),
            damaged_groups: stored.damaged_groups,
            repaired_groups: stored.repaired_groups,
            ready: reasons.is_empty(),
            reasons,
            uptime_ms: now / 1_000_000,
        }
    }
}

/// Why a validator signs nothing.
const fn silent(could_not_watch: bool) -> &'static str {
    if could_not_watch {
        "nobody could be asked whether another process signs with its key: it follows without a vote"
    } else {
        "its guard was lost: it follows without a vote until the next epoch"
    }
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("at most 100 validators")
}
