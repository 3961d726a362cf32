//! The border between the ways in (UDP, TCP, HTTP) and the node: requests in, answers out.
//!
//! ```text
//!   udp ─┐            ┌─ requests ─▶ ingest_verify ─▶ admission ── Reply::send ──┐
//!   tcp ─┼─NodeHandle─┤                                                          ├─▶ the client
//!   http ┘            ├─ queries ──▶ api_execute ───▶ execution ── oneshot ──────┤
//!                     └─ proofs ───▶ api_prove ─────▶ prover ───── oneshot ──────┘
//!                     ▲ StatusBoard, AdmissionBoard, Metrics: published by the node, read by the edge
//! ```
//!
//! Nothing here waits. A full queue is an answer (`busy`), counted; a full outbox closes its
//! connection. So a slow client costs nobody else anything.

mod budget;
mod reply;
mod status;
pub mod text;

pub use budget::{Budget, Hold};
pub(crate) use reply::UdpReply;
pub use reply::{OUTBOX_BYTES_MAX, Outbox, OutboxCounters, Reply, UdpAnswer};
pub use status::{
    Admission, BackendStatus, LaneStatus, PacketBoard, PacketStatus, PeerStatus, QueueStatus,
    Status, StatusBoard, VerdictCount,
};

use crate::{
    admission::AdmissionBoard, evidence, metrics::Metrics, prover::Question, refusal::Refusal,
    stage::prove::Asked, terms::Terms,
};
use crossbeam::channel::{Sender, TrySendError};
use ledger::{Digest, Height, Outcome, PublicKey, Transaction};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{oneshot, watch};

/// A client is told to come back after this time when a queue is full: some batches later.
pub const RETRY_MS: u32 = 100;

/// The link that the author's next transaction must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its sequence.
    pub sequence: u64,
    /// The id that it names as previous.
    pub previous: Digest,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The transaction is on its way; it is not final yet.
    Accepted {
        /// Its id.
        id: Digest,
    },
    /// The transaction is not taken.
    Refused {
        /// Its id; zero where the bytes are not a transaction of this network.
        id: Digest,
        /// Why.
        refusal: Refusal,
        /// The link that would be taken, where the author is known.
        expected: Option<Expected>,
        /// When to try again; 0 where the same bytes will never be taken.
        retry_ms: u32,
    },
    /// The transaction is final and durable here.
    Final {
        /// Its id.
        id: Digest,
        /// The height at which it was executed.
        height: Height,
        /// What became of it.
        outcome: Outcome,
    },
    /// Nothing is known of a watched transaction yet; it stays watched.
    Unknown {
        /// Its id.
        id: Digest,
    },
}

impl Answer {
    /// Returns the id that it speaks of.
    pub const fn id(&self) -> Digest {
        match self {
            Self::Accepted { id }
            | Self::Refused { id, .. }
            | Self::Final { id, .. }
            | Self::Unknown { id } => *id,
        }
    }
}

/// A transaction that a client hands in, undecoded.
#[derive(Debug)]
pub struct Submission {
    /// Its bytes, within the limits of [`Limits`].
    pub bytes: Vec<u8>,
    /// Where the answers go: first exactly one of accepted, refused and final, later final where
    /// it is wanted.
    pub reply: Reply,
    /// Its share of the queue's budget, given back when the submission leaves the queue and this
    /// is dropped.
    pub hold: Hold,
}

impl Submission {
    /// A submission that counts toward no budget.
    pub const fn new(bytes: Vec<u8>, reply: Reply) -> Self {
        Self { bytes, reply, hold: Hold::none() }
    }
}

/// What the edge asks of admission, by the queue `ingest_verify`.
#[derive(Debug)]
pub enum Request {
    /// Take this transaction.
    Submit(Submission),
    /// Say when this transaction is final; at once if it is.
    Watch {
        /// Its id.
        id: Digest,
        /// Where the answers go.
        reply: Reply,
    },
}

/// The store has it, but its bytes are damaged or cannot be read: they are fetched from other
/// validators, and it can be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What the edge asks of execution, by the queue `api_execute`.
#[derive(Debug)]
pub enum Query {
    /// The account of a key.
    Account {
        /// The key.
        key: PublicKey,
        /// None: there is no account.
        reply: oneshot::Sender<Option<AccountView>>,
    },
    /// A final transaction.
    Transaction {
        /// Its id.
        id: Digest,
        /// None: it is not final here.
        reply: oneshot::Sender<Result<Option<TransactionView>, Unreadable>>,
    },
    /// What the state of the last checkpoint says of a key, to be proved.
    State {
        /// The key.
        key: PublicKey,
        /// The question for [`NodeHandle::proofs`].
        reply: oneshot::Sender<Question>,
    },
    /// A finalized and executed block.
    Block {
        /// Its height.
        height: Height,
        /// None: there is none yet, or it is kept no more.
        reply: oneshot::Sender<Result<Option<BlockView>, Unreadable>>,
    },
}

/// An account as executed, and the link that its author's next transaction must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// The balance.
    pub balance: u64,
    /// The sequence after the last executed transaction.
    pub sequence: u64,
    /// The id of the last executed transaction; zero before the first.
    pub head: Digest,
    /// The sequence that the next transaction must carry, those under way counted.
    pub pending_sequence: u64,
    /// The id that the next transaction must name as previous.
    pub pending_head: Digest,
}

/// A final transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionView {
    /// Its id.
    pub id: Digest,
    /// The block that executed it.
    pub height: Height,
    /// Its place among the outcomes of the block.
    pub index: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// Its bytes, where they are still kept.
    pub bytes: Option<Vec<u8>>,
}

/// A finalized block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockView {
    /// Its number.
    pub height: Height,
    /// Its digest.
    pub digest: Digest,
    /// The encoding of its `ledger::Cut`.
    pub cut: Vec<u8>,
    /// Its own finality certificate; none where a descendant's covers it.
    pub certificate: Option<Vec<u8>>,
    /// Id and outcome in the order of execution.
    pub outcomes: Vec<(Digest, Outcome)>,
}

/// What the edge enforces before the node sees a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a transaction at most.
    pub transaction_bytes_max: u32,
    /// Bytes of transactions that wait for admission or for a place in a batch, each; with more of either
    /// nothing is taken until some have left.
    pub waiting_bytes: usize,
}

/// Two rounds of checks of 512-byte transactions: enough that no stage behind runs dry at any rate, and
/// little enough that whoever is taken is final in good time. More would only make all wait.
const WAITING_BYTES: usize = 2 << 20;

impl Default for Limits {
    fn default() -> Self {
        // 65,536 fits; a compile-time fact, but conversions are not `const` yet.
        let transaction_bytes_max = u32::try_from(ledger::limits::TRANSACTION_BYTES_MAX)
            .expect("the limit of the format has 17 bits");
        Self { transaction_bytes_max, waiting_bytes: WAITING_BYTES }
    }
}

/// Everything that the edge knows of the node.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    /// The queue `ingest_verify`; full: refused as `busy` and counted.
    pub requests: Sender<Request>,
    /// The bytes that submissions in that queue may hold.
    pub requests_budget: Arc<Budget>,
    /// Bytes that are admitted and wait for a place in a batch.
    pub waiting_bytes: Arc<AtomicUsize>,
    /// The queue `api_execute`; full: refused as `busy` and counted.
    pub queries: Sender<Query>,
    /// The queue `api_prove`; full: refused as `busy` and counted.
    pub proofs: Sender<Asked>,
    /// Evidence against validators.
    pub evidence: Arc<evidence::Board>,
    /// Who decides, and what is moved to change that.
    pub terms: Terms,
    /// What the node publishes about itself.
    pub status: Arc<StatusBoard>,
    /// The document towards whose key sessions are opened.
    pub admission: Arc<AdmissionBoard>,
    /// The counters of the process.
    pub metrics: Arc<Metrics>,
    /// The genesis digest.
    pub network: Digest,
    /// The file with the genesis.
    pub genesis: Arc<Path>,
    /// What is refused at the door.
    pub limits: Limits,
}

impl NodeHandle {
    /// Hands a transaction to the node, or answers at once why not.
    pub fn submit(&self, bytes: Vec<u8>, reply: Reply) {
        if self.is_congested() && self.status.admission().refusal().is_none() {
            self.metrics.tx_received.inc();
            return self.refuse(&bytes, &reply, Refusal::Busy);
        }
        self.take(bytes, reply);
    }

    /// Hands a transaction to the node although it may be congested: whoever reads many at once looks
    /// before the first of them. Where there is no room at all it is refused.
    pub fn take(&self, bytes: Vec<u8>, reply: Reply) {
        self.metrics.tx_received.inc();
        if let Err(refusal) = self.check_size(bytes.len()) {
            return self.refuse(&bytes, &reply, refusal);
        }
        if let Some(refusal) = self.status.admission().refusal() {
            return self.refuse(&bytes, &reply, refusal);
        }
        let Some(hold) = Hold::take(&self.requests_budget, bytes.len()) else {
            return self.refuse(&bytes, &reply, Refusal::Busy);
        };
        let request = Request::Submit(Submission { bytes, reply, hold });
        let (request, refusal) = match self.requests.try_send(request) {
            Ok(()) => return,
            Err(TrySendError::Full(request)) => (request, Refusal::Busy),
            Err(TrySendError::Disconnected(request)) => (request, Refusal::Stopping),
        };
        let Request::Submit(Submission { bytes, reply, hold: _ }) = request else {
            unreachable!("the channel hands back what it was given");
        };
        self.refuse(&bytes, &reply, refusal);
    }

    /// Returns whether more comes in than the node gets done: what is handed in now is refused as `busy`,
    /// and a way in that can make its client wait does that first.
    pub fn is_congested(&self) -> bool {
        let most = self.limits.waiting_bytes;
        self.requests_budget.used_bytes() >= most
            || self.waiting_bytes.load(Ordering::Relaxed) >= most
            // A quarter is left for questions, which are never turned away for what others hand in.
            || self.requests.capacity().is_some_and(|room| self.requests.len() > room - room / 4)
    }

    /// Asks to be told when a transaction is final; a full queue answers `busy`.
    pub fn watch(&self, id: Digest, reply: Reply) {
        let request = Request::Watch { id, reply: reply.clone() };
        let refusal = match self.requests.try_send(request) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => Refusal::Busy,
            Err(TrySendError::Disconnected(_)) => Refusal::Stopping,
        };
        let retry_ms = RETRY_MS;
        self.metrics.count_dropped("ingest", refusal.as_str());
        reply.send(Answer::Refused { id, refusal, expected: None, retry_ms });
    }

    /// Puts a question to execution.
    ///
    /// Errors: [`Refusal::Busy`] when the queue is full, [`Refusal::Stopping`] when nobody reads.
    pub fn query(&self, query: Query) -> Result<(), Refusal> {
        self.ask(&self.queries, query)
    }

    /// Asks for a proof.
    ///
    /// Errors: as [`Self::query`].
    pub fn prove(&self, asked: Asked) -> Result<(), Refusal> {
        self.ask(&self.proofs, asked)
    }

    fn ask<T>(&self, queue: &Sender<T>, question: T) -> Result<(), Refusal> {
        let refusal = match queue.try_send(question) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => Refusal::Busy,
            Err(TrySendError::Disconnected(_)) => Refusal::Stopping,
        };
        self.metrics.count_dropped("api", refusal.as_str());
        Err(refusal)
    }

    /// Checks the length alone, before any byte is looked at.
    fn check_size(&self, size: usize) -> Result<(), Refusal> {
        if size < ledger::limits::TRANSACTION_OVERHEAD {
            return Err(Refusal::Malformed);
        }
        if u32::try_from(size).is_ok_and(|size| size <= self.limits.transaction_bytes_max) {
            return Ok(());
        }
        Err(Refusal::TooLarge)
    }

    /// Answers for the node; the id is computed only here, where the client must know which one.
    fn refuse(&self, bytes: &[u8], reply: &Reply, refusal: Refusal) {
        self.metrics.count_dropped("ingest", refusal.as_str());
        let id = Transaction::decode(bytes).map_or(Digest::ZERO, |one| one.id(&self.network));
        let retry_ms = if refusal.retryable() { RETRY_MS } else { 0 };
        reply.send(Answer::Refused { id, refusal, expected: None, retry_ms });
    }
}

/// Tells every thread and task of the edge to end.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Nobody is told to end yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Tells everyone.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Returns whether [`Self::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until [`Self::stop`] is called; on any runtime.
    pub async fn stopped(&self) {
        let told = self.0.subscribe().wait_for(|stopped| *stopped).await.is_ok();
        assert!(told, "the sender lives as long as this value");
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
pub(crate) mod tests;
