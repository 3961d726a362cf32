//! The simulated shell: the cores of one validator, called one after the other, no threads.

use ledger::{Digest, Genesis, Height, PublicKey, Tips};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicUsize},
};
use storage::{Options, Simulated, Store};
use tokio::sync::mpsc;
use validator::{
    admit,
    consensus::Board,
    cost::Meter,
    execute::{self, Done},
    handle::{AccountView, Reply, Request, Submission},
    lane::{self, Finalized},
    network::lanes::{Incoming, Outgoing},
    node::{Delivered, recover},
    saved::Folder,
    signer::Signer,
    terms::Terms,
    verify,
    votes::Judge,
};

/// Small segments, so that a run crosses many of their borders.
const SEGMENT_BYTES: u64 = 1 << 20;

/// What one validator finalized, height by height; it outlives crashes.
#[derive(Clone, Default)]
pub struct Finals(Arc<Mutex<BTreeMap<u64, (Digest, usize)>>>);

impl Finals {
    /// Newest durable height.
    pub fn height(&self) -> u64 {
        self.0.lock().expect("one thread").last_key_value().map_or(0, |(height, _)| *height)
    }

    /// History root after each height.
    pub fn roots(&self) -> BTreeMap<u64, Digest> {
        let finals = self.0.lock().expect("one thread");
        finals.iter().map(|(height, (root, _))| (*height, *root)).collect()
    }

    /// Transactions applied in all heights.
    pub fn applied(&self) -> usize {
        self.0.lock().expect("one thread").values().map(|(_, applied)| applied).sum()
    }

    fn record(&self, done: &Done) {
        let applied = done.outcomes.iter().filter(|(_, outcome)| outcome.pays()).count();
        let entry = (done.history_root, applied);
        let before = self.0.lock().expect("one thread").insert(done.height.get(), entry);
        // A height that is final twice, before and after a crash, must be the same.
        assert!(before.is_none_or(|before| before == entry), "height {} changed", done.height);
    }
}

/// The stages of one validator.
pub struct Stages {
    network: Digest,
    admit: admit::Core,
    lane: lane::Core,
    execute: execute::Core,
    store: Store,
    judge: Arc<Judge>,
    sources: verify::Sources,
    /// Clients' transactions that wait for the next round.
    gathered: Vec<Request>,
    board: Board,
    delivered: Delivered,
    outgoing: mpsc::Sender<Outgoing>,
    finals: Finals,
    lane_durable: Arc<Mutex<Vec<lane::Durable>>>,
    execute_durable: Arc<Mutex<Vec<Height>>>,
}

/// What [`Stages::open`] needs.
pub struct Setup<'a> {
    /// The network.
    pub genesis: &'a Genesis,
    /// This validator's disk.
    pub disk: Simulated,
    /// Judges signatures.
    pub signatures: Arc<Judge>,
    /// Signs batches and acks.
    pub signer: Signer,
    /// Where finalized heights are noted.
    pub finals: Finals,
}

/// What the engine of a validator is connected to.
pub struct Ends {
    /// Who decides when.
    pub terms: Terms,
    /// Certificates and roots.
    pub board: Board,
    /// Deliveries that wait for their acknowledgement.
    pub delivered: Delivered,
    /// Messages to peers.
    pub outgoing: mpsc::Receiver<Outgoing>,
    /// The block store.
    pub store: Store,
}

impl Stages {
    /// Recovers from the disk and starts.
    pub fn open(setup: Setup<'_>) -> (Self, Ends) {
        let network = setup.genesis.digest();
        let mut options = Options::new(*network.as_bytes());
        options.segment_bytes = SEGMENT_BYTES;
        let opened = Store::open_inline(Box::new(setup.disk), &options);
        let (store, _) = opened.expect("a store that crashed opens");
        let recovered = recover::recover(&store, setup.genesis, &Folder::none(network))
            .expect("what was durable replays");
        let recover::State { execute, lanes, recent, .. } = recovered;
        let chain = execute.chain();
        let terms = execute.terms().clone();
        let turn = recover::turn(&store, setup.genesis, chain);
        let board = Board::new(chain.set().len(), recent, turn);
        let delivered = Delivered::new(execute.chain().height());
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let admit = admit::Core::new(
            network,
            *execute.chain().state().parameters(),
            execute.chain().height(),
            execute.chain().state().table(),
            waiting_bytes.clone(),
            lane::WAITING_BYTES_MAX,
        );
        let tips: Tips = execute.chain().tips();
        let config = lane::Config {
            network,
            terms: terms.clone(),
            batch_delay_ns: 20_000_000,
            signer: setup.signer,
            signatures: setup.signatures.clone(),
            store: store.clone(),
            waiting_bytes,
            meter: Meter::OFF,
        };
        let (sender, outgoing) = mpsc::channel(4_096);
        let ends_store = store.clone();
        let stages = Self {
            network,
            admit,
            lane: lane::Core::new(config, execute.chain().epoch(), tips, lanes),
            execute,
            store,
            judge: setup.signatures,
            sources: verify::Sources::default(),
            gathered: Vec::new(),
            board: board.clone(),
            delivered: delivered.clone(),
            outgoing: sender,
            finals: setup.finals,
            lane_durable: Arc::default(),
            execute_durable: Arc::default(),
        };
        (stages, Ends { terms, board, delivered, outgoing, store: ends_store })
    }

    /// A client hands in a transaction: it gathers with others until a batch comes or time passes.
    pub fn submit(&mut self, bytes: Vec<u8>) {
        self.gathered.push(Request::Submit(Submission::new(bytes, Reply::None)));
    }

    /// Checks what has gathered, with what peers sent.
    fn round(&mut self, now: u64, batches: Vec<lane::Unverified>) {
        let gathered = std::mem::take(&mut self.gathered);
        let Self { admit, network, judge, sources, .. } = self;
        let verified = verify::round(admit, network, judge, sources, now, gathered, batches);
        for (digest, held) in verified.batches {
            self.lane.verified(now, &digest, held);
        }
        if !verified.admitted.is_empty() {
            self.lane.transactions(now, verified.admitted);
        }
    }

    /// An account as this validator sees it.
    pub fn account(&self, key: &PublicKey) -> Option<AccountView> {
        self.admit.account(key)
    }

    /// Time passes.
    pub fn tick(&mut self, now: u64) {
        if !self.gathered.is_empty() {
            self.round(now, Vec::new());
        }
        self.lane.tick(now);
        self.pump(now);
    }

    /// The engine finalized a cut.
    pub fn finalized(&mut self, now: u64, finalized: Finalized) {
        self.lane.finalized(now, finalized);
        self.pump(now);
    }

    /// A batch came from a peer.
    pub fn batch(&mut self, now: u64, from: PublicKey, bytes: Vec<u8>) {
        let Some(from) = self.lane.peer(&from) else { return };
        self.lane.batch(now, from, bytes);
        self.pump(now);
    }

    /// A small message came from a peer.
    pub fn control(&mut self, now: u64, from: PublicKey, bytes: &[u8]) {
        let Some(from) = self.lane.peer(&from) else { return };
        self.lane.control(now, from, bytes);
        self.pump(now);
    }

    /// Does what the cores ask for until they ask for nothing more.
    fn pump(&mut self, now: u64) {
        loop {
            let actions = self.lane.take_actions();
            let lane_idle = actions.is_empty();
            for action in actions {
                self.act(now, action);
            }
            for durable in std::mem::take(&mut *self.lane_durable.lock().expect("one thread")) {
                self.lane.durable(now, durable);
            }
            let actions = self.execute.take_actions();
            let execute_idle = actions.is_empty();
            for action in actions {
                self.act_execute(now, action);
            }
            for height in std::mem::take(&mut *self.execute_durable.lock().expect("one thread")) {
                self.execute.durable(height);
            }
            let chain = self.execute.chain();
            self.lane.executed(chain.epoch(), &chain.executed_tips());
            if lane_idle && execute_idle {
                if let Some(turn) = self.lane.turn(now, self.board.durable()) {
                    self.board.turned(self.lane.lanes(), turn);
                    continue;
                }
                return;
            }
        }
    }

    fn act(&mut self, now: u64, action: lane::Action) {
        match action {
            // A full network loses messages, as it may.
            lane::Action::Send(to, control) => {
                let to = self.key(to);
                drop(self.outgoing.try_send(Outgoing::Control(to, control)));
            }
            lane::Action::SendBatch(to, held) => {
                let to = self.key(to);
                drop(self.outgoing.try_send(Outgoing::Batch(to, held)));
            }
            lane::Action::SendStored(to, bytes) => {
                let to = self.lane.key(to);
                drop(self.outgoing.try_send(Outgoing::Stored(to, bytes)));
            }
            lane::Action::Verify(batch) => self.round(now, vec![batch]),
            lane::Action::Append(records, then) => {
                let durable = self.lane_durable.clone();
                self.append(records, move || durable.lock().expect("one thread").push(then));
            }
            lane::Action::Certified(certificate) => self.board.certified(certificate),
            lane::Action::Execute(ready) => {
                self.execute.ready(*ready).expect("honest validators finalize what follows");
            }
            lane::Action::Blame(..) | lane::Action::Accuse(_) => {}
        }
    }

    fn key(&self, to: lane::To) -> Option<PublicKey> {
        match to {
            lane::To::All => None,
            lane::To::One(peer) => Some(self.lane.key(peer)),
        }
    }

    fn act_execute(&mut self, now: u64, action: execute::Action) {
        match action {
            execute::Action::Executed(progress) => self.board.executed(*progress),
            execute::Action::Append(records, height) => {
                let durable = self.execute_durable.clone();
                self.append(records, move || durable.lock().expect("one thread").push(height));
            }
            execute::Action::Final(done) => {
                self.finals.record(&done);
                self.admit.executed(now, &done);
                self.board.stored(done.height);
                self.delivered.acknowledge(done.height);
            }
        }
    }

    fn append(&self, records: Vec<storage::Record>, then: impl FnOnce() + Send + 'static) {
        let done = move |result: Result<(), storage::Error>| {
            result.expect("this disk does not fail");
            then();
        };
        self.store.append(records, Some(Box::new(done))).expect("this disk does not fail");
    }
}

/// The stages, shared by the tasks of one validator, with the runtime's clock.
#[derive(Clone)]
pub struct Shared {
    /// None once the process has crashed: its tasks may still run a step before they are gone.
    stages: Arc<Mutex<Option<Stages>>>,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Shared {
    /// Shares `stages`; `clock` gives nanoseconds of virtual time.
    pub fn new(stages: Stages, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { stages: Arc::new(Mutex::new(Some(stages))), clock: Arc::new(clock) }
    }

    /// Calls the stages, if they are alive, with the present time.
    pub fn with(&self, call: impl FnOnce(&mut Stages, u64)) {
        if let Some(stages) = &mut *self.stages.lock().expect("one thread") {
            call(stages, (self.clock)());
        }
    }

    /// The process is gone: nothing reaches its stages any more.
    pub fn kill(&self) {
        *self.stages.lock().expect("one thread") = None;
    }
}

impl Incoming for Shared {
    fn batch(&self, from: PublicKey, bytes: Vec<u8>) {
        self.with(|stages, now| stages.batch(now, from, bytes));
    }

    fn control(&self, from: PublicKey, bytes: Vec<u8>) {
        self.with(|stages, now| stages.control(now, from, &bytes));
    }
}
