//! What a node publishes about itself, and the board on which the edge reads it.

use super::text;
use crate::refusal::Refusal;
use ledger::{Digest, PublicKey};
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU8, Ordering},
};

/// The state of a node at one moment: the document of `GET /status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The network's name, from its genesis.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The genesis digest.
    #[serde(with = "text")]
    pub network: Digest,
    /// The validator's place in the set of this epoch; none of one that only follows.
    pub validator: Option<u32>,
    /// Its public key.
    #[serde(with = "text")]
    pub key: PublicKey,
    /// The newest finalized height.
    pub height: u64,
    /// The view of the consensus engine.
    pub view: u64,
    /// The epoch.
    #[serde(default)]
    pub epoch: u64,
    /// The last height of the epoch.
    #[serde(default)]
    pub epoch_ends: u64,
    /// Transactions that are final, whatever became of them.
    pub finalized_transactions: u64,
    /// The newest height that is executed and durable.
    pub executed_height: u64,
    /// The history root after that height: equal roots are equal ledgers.
    #[serde(with = "text")]
    pub history_root: Digest,
    /// Every lane.
    pub lanes: Vec<LaneStatus>,
    /// Every other validator.
    pub peers: Vec<PeerStatus>,
    /// What does each accelerated task, and why.
    pub backends: Vec<BackendStatus>,
    /// The way of clients' datagrams.
    #[serde(default)]
    pub packets: PacketStatus,
    /// Every queue.
    pub queues: Vec<QueueStatus>,
    /// Groups of records in the store that were found damaged since the start.
    pub damaged_groups: u64,
    /// Of these, those that were repaired.
    pub repaired_groups: u64,
    /// Whether this validator keeps up and takes part.
    pub ready: bool,
    /// Why not; empty when it does.
    pub reasons: Vec<String>,
    /// Time since the process started.
    pub uptime_ms: u64,
}

/// The state of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// The lane: the place of its owner in the set.
    pub lane: u32,
    /// The newest batch held here.
    pub sequence: u64,
    /// The newest batch known to be certified.
    pub certified: u64,
    /// The newest batch under a finalized block.
    pub finalized: u64,
}

/// The state of the connection to another validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its place in the set.
    pub index: u32,
    /// Its public key.
    #[serde(with = "text")]
    pub key: PublicKey,
    /// Whether there is a connection.
    pub connected: bool,
}

/// What does an accelerated task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// The task: `sigverify`, `net` or `storage`.
    pub stage: String,
    /// What does it.
    pub backend: String,
    /// Why this one.
    pub reason: String,
}

/// The state of the packet path: the kernel's filter and its twin in the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketStatus {
    /// The interface on which the kernel filters, if it does.
    pub interface: Option<String>,
    /// `enforce`, or `observe` where it only counts.
    pub policy: Option<String>,
    /// Sessions of clients.
    pub sessions: u64,
    /// Sources that are not listened to for a while.
    pub blocked: u64,
    /// Packets by verdict of the kernel's program, those that there were.
    pub kernel: Vec<VerdictCount>,
    /// Datagrams by verdict of the process, those that there were.
    pub process: Vec<VerdictCount>,
}

/// How often a verdict was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCount {
    /// The verdict: a name of `net_ebpf::Verdict`.
    pub verdict: String,
    /// How often.
    pub count: u64,
}

/// Where the packet path publishes its state.
#[derive(Debug, Default)]
pub struct PacketBoard(Mutex<PacketStatus>);

impl PacketBoard {
    /// Replaces the state.
    pub fn update(&self, status: PacketStatus) {
        *self.0.lock().expect("nothing panics while it holds the board") = status;
    }

    /// Returns the newest state.
    pub fn snapshot(&self) -> PacketStatus {
        self.0.lock().expect("nothing panics while it holds the board").clone()
    }
}

/// How full a queue is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its name, `from_to`.
    pub name: String,
    /// What waits in it.
    pub bytes: u64,
    /// The most that may wait in it.
    pub limit_bytes: u64,
}

/// Whether transactions are taken at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Admission {
    /// They are.
    Open = 0,
    /// Not before the validator has caught up.
    NotReady = 1,
    /// Not any more.
    Stopping = 2,
    /// Not before the disk has room.
    Full = 3,
}

impl Admission {
    /// Returns the reason that a client is told.
    pub const fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Open => None,
            Self::NotReady => Some(Refusal::NotReady),
            Self::Stopping => Some(Refusal::Stopping),
            Self::Full => Some(Refusal::StorageFull),
        }
    }
}

/// The board: one snapshot, replaced as a whole a few times a second, and the door's state.
#[derive(Debug)]
pub struct StatusBoard {
    snapshot: Mutex<Arc<Status>>,
    admission: AtomicU8,
}

impl StatusBoard {
    /// Starts with this snapshot and an open door.
    pub fn new(status: Status) -> Self {
        Self {
            snapshot: Mutex::new(Arc::new(status)),
            admission: AtomicU8::new(Admission::Open as u8),
        }
    }

    /// Replaces the snapshot.
    pub fn publish(&self, status: Status) {
        let fresh = Arc::new(status);
        let old = std::mem::replace(&mut *self.lock(), fresh);
        // Freed after the lock is.
        drop(old);
    }

    /// Returns the newest snapshot.
    pub fn snapshot(&self) -> Arc<Status> {
        Arc::clone(&self.lock())
    }

    /// Opens or shuts the door.
    pub fn set_admission(&self, admission: Admission) {
        self.admission.store(admission as u8, Ordering::Relaxed);
    }

    /// Shuts an open door because the disk is full, or opens it again; answers whether it moved.
    pub fn set_full(&self, full: bool) -> bool {
        let (from, to) = if full {
            (Admission::Open, Admission::Full)
        } else {
            (Admission::Full, Admission::Open)
        };
        let relaxed = Ordering::Relaxed;
        self.admission.compare_exchange(from as u8, to as u8, relaxed, relaxed).is_ok()
    }

    /// Shuts an open door because nothing can be signed for what comes in, or opens it again.
    pub fn set_closed(&self, closed: bool) {
        let (from, to) = if closed {
            (Admission::Open, Admission::NotReady)
        } else {
            (Admission::NotReady, Admission::Open)
        };
        let relaxed = Ordering::Relaxed;
        // It may be shut for another reason.
        let _ = self.admission.compare_exchange(from as u8, to as u8, relaxed, relaxed);
    }

    /// Returns the state of the door.
    pub fn admission(&self) -> Admission {
        match self.admission.load(Ordering::Relaxed) {
            0 => Admission::Open,
            1 => Admission::NotReady,
            3 => Admission::Full,
            _ => Admission::Stopping,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Status>> {
        self.snapshot.lock().expect("nothing panics while it holds the board")
    }
}
