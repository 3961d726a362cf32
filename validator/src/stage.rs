//! Threads around the cores: each takes up to a limit from its queues, works, passes on.
//!
//! ```text
//! udp, tcp, http ─ingest_verify─▶ verify ─verify_lane─▶ lane ─lane_execute─▶ execute
//! peers ────────────peers_lane──────────────────────────▲ │ ▲                  │ │
//!                                  ▲──────lane_verify─────┘ │ engine_lane      │ │
//!                                  ▲──────execute_verify──────── engine ◀──────┘ │
//!                                  storage_lane, storage_execute ◀── storage ◀───┘
//!                            execute ──execute_checkpoint──▶ checkpoint    (to files of its own)
//!                            execute ──execute_prove──▶ prove ◀──api_prove── http      (from the store)
//!                            engine, lane, verify ──witnesses──▶ evidence ──lane_peers──▶ peers
//! peers ──peers_repair──▶ repair ──repair_peers──▶ peers        (beside them, on the store alone)
//! ```
//!
//! Queues inside the node wait when full; those that face the network drop and count. No two
//! stages wait for each other: what flows back (`storage_*`, `verify_lane` for batches) has room
//! for everything that may be under way.

pub mod checkpoint;
pub mod evidence;
pub mod execute;
pub mod guard;
pub mod lane;
pub mod poll;
pub mod prove;
pub mod repair;
pub mod verify;

use crate::handle::Hold;
use ledger::PublicKey;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Requests of clients that wait for the verify stage; full: drop and count.
pub const INGEST_VERIFY: usize = 16 * 1_024;
/// Batches that wait for the verify stage: their bytes are limited by the lane stage, so that this
/// never fills.
pub const LANE_VERIFY: usize = 16 * 1_024;
/// Groups of transactions and checked batches on their way to the lane stage; full: wait.
pub const VERIFY_LANE: usize = 16 * 1_024;
/// Messages of peers; full: drop and count, peers repeat.
pub const PEERS_LANE: usize = 8 * 1_024;
/// Bytes of messages of peers.
pub const PEERS_LANE_BYTES: usize = 64 * 1_024 * 1_024;
/// Finalized blocks: more than the engine delivers without an acknowledgement.
pub const ENGINE_LANE: usize = 4 * crate::consensus::engine::PENDING_ACKS_MAX;
/// Cuts with their batches; full: wait.
pub const LANE_EXECUTE: usize = 2 * crate::consensus::engine::PENDING_ACKS_MAX;
/// Executed heights and account questions; full: wait.
pub const EXECUTE_VERIFY: usize = 1_024;
/// Changes of executed heights on their way to disk, which share the memory of others; full: no more are
/// taken until the next start.
pub const EXECUTE_CHECKPOINT: usize = 4 * 1_024;
/// Leaves of durable heights on their way to the file of nodes; full: dropped, the store has them.
pub const EXECUTE_PROVE: usize = 4 * 1_024;
/// Evidence that was found here, on its way to who checks and keeps it; full: dropped and counted.
pub const WITNESSES_FOUND: usize = 256;
/// Evidence that others tell, of 72 KiB at most each; full: dropped, it is told again.
pub const WITNESSES_TOLD: usize = 64;
/// Questions for proofs; full: drop and count.
pub const API_PROVE: usize = 64;
/// Questions whether a transaction is final already: as many as clients can ask before they are read, such as
/// all that one asks whose connection broke; full: drop, they ask again.
pub const VERIFY_EXECUTE: usize = 64 * 1_024;
/// Questions of the HTTP interface; full: drop and count.
pub const API_EXECUTE: usize = 1_024;
/// Completed appends: more than may be under way.
pub const STORAGE_STAGE: usize = 64 * 1_024;
/// Messages to peers that wait for the network; full: drop and count, the lane stage repeats.
pub const LANE_PEERS: usize = 4 * 1_024;

/// Messages of peers about stored records; full: drop and count, peers repeat.
pub const PEERS_REPAIR: usize = 256;
/// Bytes of such messages.
pub const PEERS_REPAIR_BYTES: usize = 16 * 1_024 * 1_024;
/// Questions and answers about stored records that wait for the network.
pub const REPAIR_PEERS: usize = 256;

/// A message of a peer, with its share of the budget.
pub enum FromPeer {
    /// A batch.
    Batch(PublicKey, Vec<u8>, Hold),
    /// An ack, certificate or request.
    Control(PublicKey, Vec<u8>, Hold),
}

/// The only clock that stages see: nanoseconds since the node started.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    wall: Duration,
}

impl Clock {
    /// Starts at zero.
    #[expect(clippy::disallowed_methods, reason = "this is where the time of day enters")]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), wall }
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("584 years have not passed")
    }

    /// Time of day as it was at the start, plus the time since: it never goes backwards.
    pub fn wall(&self) -> Duration {
        self.wall + self.start.elapsed()
    }
}
