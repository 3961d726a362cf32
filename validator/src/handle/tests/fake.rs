//! A node that answers by simple rules, for the checks of everything that stands before it.

use super::super::*;
use crate::prover::Failure;
use crossbeam::channel::{self, Receiver};
use ledger::{AvailabilityCertificate, Cut, Draft, Genesis, Kind, Signature, View};
use std::thread::JoinHandle;

pub(crate) const NETWORK: Digest = Digest([42; 32]);

/// `valid_until` of a transaction tells the fake node what to answer.
pub(crate) const TAKEN: u64 = 1_000;
pub(crate) const TAKEN_NEVER_FINAL: u64 = 1_001;
pub(crate) const FORGOTTEN: u64 = 1_002;
pub(crate) const REFUSED: u64 = 1_003;
pub(crate) const KNOWN_FINAL: u64 = 1_004;

/// A transaction as any client would send it; its signature is nobody's.
pub(crate) fn transaction(sequence: u64, valid_until: u64, body: &[u8]) -> (Vec<u8>, Digest) {
    let author = PublicKey([7; 32]);
    let (kind, previous, valid_until) = (Kind::Record, Digest::ZERO, Height(valid_until));
    let draft = Draft { kind, author, sequence, previous, valid_until, body };
    draft.sign(&NETWORK, |_| Signature([9; 64])).unwrap()
}

pub(crate) fn status() -> Status {
    let queue = QueueStatus { name: "ingest_verify".to_owned(), bytes: 3, limit_bytes: 10 };
    let backend = BackendStatus {
        stage: "sigverify".to_owned(),
        backend: "portable".to_owned(),
        reason: "no \"avx512\"\nhere".to_owned(),
    };
    Status {
        name: "test".to_owned(),
        version: "0.1.0".to_owned(),
        network: NETWORK,
        validator: Some(2),
        epoch: 3,
        epoch_ends: 400,
        key: PublicKey([3; 32]),
        height: 12,
        view: 15,
        finalized_transactions: 99,
        executed_height: 3,
        history_root: Digest([0xab; 32]),
        lanes: vec![LaneStatus { lane: 0, sequence: 5, certified: 4, finalized: 3 }],
        peers: vec![
            PeerStatus { index: 0, key: PublicKey([1; 32]), connected: true },
            PeerStatus { index: 1, key: PublicKey([2; 32]), connected: false },
        ],
        backends: vec![backend],
        packets: PacketStatus::default(),
        queues: vec![queue],
        damaged_groups: 1,
        repaired_groups: 1,
        ready: true,
        reasons: Vec::new(),
        uptime_ms: 1_500,
    }
}

/// A handle whose queues nobody reads yet.
pub(crate) fn handle(
    requests_max: usize,
    bytes_max: usize,
) -> (NodeHandle, Receiver<Request>, Receiver<Query>) {
    let (requests, requests_out) = channel::bounded(requests_max);
    let (queries, queries_out) = channel::bounded(4);
    let handle = NodeHandle {
        requests,
        requests_budget: Arc::new(Budget::new(bytes_max)),
        waiting_bytes: Arc::default(),
        queries,
        proofs: channel::bounded(4).0,
        terms: Terms::of(&[PublicKey([9; 32])]),
        evidence: Arc::default(),
        genesis: Arc::from(Path::new("/nowhere/genesis.json")),
        status: Arc::new(StatusBoard::new(status())),
        admission: Arc::default(),
        metrics: Arc::new(Metrics::new()),
        network: NETWORK,
        limits: Limits::default(),
    };
    (handle, requests_out, queries_out)
}

/// A thread that answers as a node would, by simple rules.
pub(crate) struct FakeNode {
    pub(crate) handle: NodeHandle,
    thread: Option<(channel::Sender<()>, JoinHandle<()>)>,
}

impl FakeNode {
    pub(crate) fn start() -> Self {
        let (mut handle, requests, queries) = handle(32 * 1_024, 64 << 20);
        let (proofs, asked) = channel::bounded(4);
        handle.proofs = proofs;
        let (stop, stopped) = channel::bounded(1);
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            let mut waits = 2;
            loop {
                channel::select! {
                    recv(requests) -> request => answer(request.unwrap(), &mut kept),
                    recv(queries) -> query => answer_query(query.unwrap()),
                    recv(asked) -> asked => answer_proof(asked.unwrap(), &mut waits),
                    recv(stopped) -> _ => return,
                }
            }
        });
        Self { handle, thread: Some((stop, thread)) }
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        let (stop, thread) = self.thread.take().unwrap();
        drop(stop);
        let ended = thread.join();
        assert!(std::thread::panicking() || ended.is_ok(), "the fake node panicked");
    }
}

pub(crate) const EXPECTED: Expected = Expected { sequence: 5, previous: Digest([5; 32]) };

fn answer(request: Request, kept: &mut Vec<Reply>) {
    let (bytes, reply) = match request {
        Request::Submit(submission) => (submission.bytes, submission.reply),
        Request::Watch { id, reply } if id == WATCHED_FINAL => return reply.send(applied(id)),
        Request::Watch { id, reply } => {
            reply.send(Answer::Unknown { id });
            return kept.push(reply);
        }
    };
    let refuse = |id, refusal, expected, retry_ms| {
        reply.send(Answer::Refused { id, refusal, expected, retry_ms });
    };
    let Ok(transaction) = Transaction::decode(&bytes) else {
        return refuse(Digest::ZERO, Refusal::Malformed, None, 0);
    };
    let id = transaction.id(&NETWORK);
    match transaction.valid_until().get() {
        FORGOTTEN => drop(reply),
        REFUSED => refuse(id, Refusal::Ahead, Some(EXPECTED), 50),
        KNOWN_FINAL => reply.send(applied(id)),
        until => {
            reply.send(Answer::Accepted { id });
            if until == TAKEN_NEVER_FINAL {
                kept.push(reply);
            } else if reply.wants_final() {
                reply.send(applied(id));
            }
        }
    }
}

pub(crate) const WATCHED_FINAL: Digest = Digest([1; 32]);
pub(crate) const PRUNED: Digest = Digest([2; 32]);
pub(crate) const DAMAGED: Digest = Digest([3; 32]);
pub(crate) const KNOWN_KEY: PublicKey = PublicKey([1; 32]);
/// Transactions of the block that the fake node knows.
pub(crate) const BLOCK_TRANSACTIONS: usize = 2_500;
/// Its height, and that of a block whose bytes are damaged.
pub(crate) const BLOCK_HEIGHT: Height = Height(3);
pub(crate) const BLOCK_DAMAGED: Height = Height(4);
/// The height of a block that waits for its repair.
pub(crate) const BLOCK_UNREADABLE: Height = Height(5);

pub(super) fn applied(id: Digest) -> Answer {
    Answer::Final { id, height: Height(9), outcome: Outcome::Applied }
}

fn answer_query(query: Query) {
    // A client that has gone needs no answer.
    match query {
        Query::Account { key, reply } => drop(reply.send((key == KNOWN_KEY).then_some(ACCOUNT))),
        Query::Transaction { id, reply } => drop(reply.send(Ok(known_transaction(id)))),
        Query::Block { height, reply } => drop(reply.send(match height {
            BLOCK_UNREADABLE => Err(Unreadable),
            height => Ok(known_block(height)),
        })),
        Query::State { key, reply } => drop(reply.send(known_state(&key))),
    }
}

/// What a chain at its genesis shows, with an account for the one key that is known.
fn known_state(key: &PublicKey) -> Question {
    let account = ledger::GenesisAccount { key: KNOWN_KEY, balance: 1 };
    let (keys, parameters) = (vec![PublicKey([9; 32])], ledger::Parameters::default());
    let genesis = Genesis::new("fake".into(), keys, vec![account], parameters, |_| true);
    let chain = ledger::Chain::genesis(&genesis.unwrap());
    let (state, root) = (Box::new(chain.prove(key)), chain.state_root());
    Question::State { state, root, height: Height(0) }
}

/// The height under which nothing is certified yet.
pub(crate) const UNCOVERED_HEIGHT: Height = Height(6);
/// One that is certified after two looks.
pub(crate) const LATE_HEIGHT: Height = Height(7);

fn answer_proof(asked: Asked, waits: &mut u32) {
    let proof = match asked.question {
        Question::State { state, .. } => Ok(state.key().0.to_vec()),
        Question::Transaction { id, height, bytes } => match height {
            UNCOVERED_HEIGHT => Err(Failure::NotYet),
            LATE_HEIGHT if *waits > 0 => {
                *waits -= 1;
                Err(Failure::NotYet)
            }
            BLOCK_HEIGHT | LATE_HEIGHT => Ok(id.0.to_vec()),
            // That of the one transaction that is stored, whose bytes come with the question.
            Height(8) => bytes.ok_or(Failure::Pruned),
            BLOCK_UNREADABLE => Err(Failure::Unreadable),
            _ => Err(Failure::Unknown),
        },
    };
    drop(asked.reply.send(proof));
}

pub(crate) const ACCOUNT: AccountView = AccountView {
    balance: u64::MAX,
    sequence: 3,
    head: Digest([4; 32]),
    pending_sequence: 5,
    pending_head: Digest([5; 32]),
};

/// The one transaction whose bytes the fake node knows: a record of five bytes.
pub(crate) fn stored() -> (Vec<u8>, Digest) {
    transaction(6, 77, b"hello")
}

fn known_transaction(id: Digest) -> Option<TransactionView> {
    let bytes = match id {
        PRUNED => None,
        DAMAGED => Some(vec![1, 2, 3]),
        id if id == stored().1 => Some(stored().0),
        _ => return None,
    };
    Some(TransactionView { id, height: Height(8), index: 1, outcome: Outcome::Failed, bytes })
}

pub(crate) fn cut() -> Cut {
    let lane = AvailabilityCertificate {
        epoch: 1,
        lane: 3,
        sequence: 17,
        digest: Digest([8; 32]),
        signers: ledger::Bitmap(0b1011),
        signatures: vec![Signature([1; 64]); 3],
    };
    Cut {
        network: NETWORK,
        epoch: 1,
        height: BLOCK_HEIGHT,
        view: View(5),
        parent: Digest([6; 32]),
        time_ms: 1_700_000_000_000,
        executed: Height(2),
        history_root: Digest([10; 32]),
        state_root: Digest([11; 32]),
        set: Digest([12; 32]),
        next_set: Digest([13; 32]),
        lanes: vec![lane],
    }
}

fn known_block(height: Height) -> Option<BlockView> {
    let cut_bytes = match height {
        BLOCK_HEIGHT => cut().encode(),
        BLOCK_DAMAGED => vec![0; 10],
        _ => return None,
    };
    let outcome = |index| {
        if index == 0 { Outcome::Stale } else { Outcome::Applied }
    };
    let outcomes = (0..BLOCK_TRANSACTIONS).map(|index| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(index as u64).to_le_bytes());
        (Digest(id), outcome(index))
    });
    let (digest, certificate) = (cut().digest(), Some(vec![1]));
    Some(BlockView { height, digest, cut: cut_bytes, certificate, outcomes: outcomes.collect() })
}
