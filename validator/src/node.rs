//! One validator: builds queues and stages in the order in which data flows, and ends them.
//!
//! Privileged work comes first, in one thread: files, sockets, the kernel's filter. Then the
//! capabilities are dropped, then threads start: those of the store and of signature checks, then the
//! stages, which only this module starts.

mod behind;
mod cores;
mod delivered;
mod doors;
mod guard;
mod mend;
mod pages;
mod peers;
pub mod recover;
mod room;
mod status;
mod stored;
mod threads;

pub use delivered::{Delivered, Handover, certificate};
pub use stored::Stored;
pub use threads::fatal;
pub(crate) use threads::{end, give_way, take_what_is_left};

use crate::{
    admission::{self, AdmissionBoard},
    admit,
    archive::Archive,
    command::Exit,
    config::{Config, identity::GENESIS_COPY},
    consensus::{Application, Block, Board, application::Pace, engine},
    cost::Meter,
    evidence, execute,
    handle::{Admission, Budget, NodeHandle, StatusBoard, Stop},
    ingest, lane,
    metrics::Metrics,
    network, prover,
    saved::{Folder, Saver},
    signer::Signer,
    stage::{self, Clock},
    terms::Terms,
    votes::Judge,
};
use commonware_runtime::{Runner as _, Spawner as _, Supervisor as _, tokio};
use crossbeam::channel::bounded;
use ledger::{Cut, Genesis};
use std::{
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};
use threads::Threads;

/// How long the engine may take to end before the process goes on without it.
const STOP: Duration = Duration::from_secs(3);

/// Runs a validator until it is told to stop; the process may start itself again first.
///
/// Errors: whatever keeps it from starting, as one line and an exit code; once it runs, a machine
/// that breaks ends the process with an error of its own.
pub fn start(config: &Config) -> Result<(), Exit> {
    if config.cores.huge_pages {
        pages::ask();
    }
    run(config, None)
}

/// Runs a validator, and beside it what hands in transactions without any socket.
///
/// Errors: those of [`start`].
pub fn start_with(
    config: &Config,
    feed: impl FnOnce(NodeHandle, Stop) + Send + 'static,
) -> Result<(), Exit> {
    run(config, Some(Box::new(feed)))
}

/// What hands in transactions inside the process.
type Feed = Box<dyn FnOnce(NodeHandle, Stop) + Send>;

fn run(config: &Config, feed: Option<Feed>) -> Result<(), Exit> {
    cores::check(&config.cores)?;
    let identity = config.identity()?;
    threads::refuse_unverified(identity.genesis.name(), config)?;
    config.adopt_data_folder(&identity.genesis)?;
    let admission = Arc::new(AdmissionBoard::default());
    let mut doors = doors::Doors::open(config, &identity, announcer(&identity, &admission))?;
    // A thread keeps the rights that it was started with: none has been started yet.
    threads::drop_capabilities()?;
    let store = open_store(config, &identity.genesis)?;
    let network = identity.genesis.digest();
    let guard = guard::bind(&config.key, &config.data, network, store.durable() > 0)?;
    let secret = crate::key::Secret::from_seed(&identity.secret.seed());
    let signer = Signer::guarded(secret, guard);
    let verifier = threads::verifier(config)?;
    // Before anybody can see that it runs, and ask it to stop.
    let stop = Stop::new();
    threads::watch_signals(&stop)?;
    let mut threads = Threads::default();
    // First of all: others that are behind may be waiting for just what is here.
    let history = doors.serve_history(config, &mut threads, network, &store, &stop);
    let backends = status::backends(&doors.gate, &verifier, &store, &history);
    tracing::info!(backends = %status::line(&backends), "accelerators");
    cores::tell(&config.cores);
    let signatures = Arc::new(Judge::metered(verifier, Meter::ON));
    let recovered = recovered(config, &identity, &signer, &store)?;
    let recovered = behind::catch_up(
        behind::Setup { config, identity: &identity, signer: &signer, store: &store, stop: &stop },
        recovered,
    )?;
    if stop.is_stopped() {
        // Nothing was signed, and nobody takes part yet.
        threads.join(STOP);
        signer.close();
        return store.close().map_err(threads::store_error);
    }
    let height = recovered.execute.chain().height();
    let from = recovered.loaded.unwrap_or(0);
    let (epoch, view) = recovered.round;
    tracing::info!(height = height.get(), from, epoch, view, "recovered");
    Node { config, identity, signer, store, backends, admission, signatures }.run(
        recovered,
        doors,
        (threads, stop),
        feed,
    )
}

/// What signs an admission key and publishes it.
fn announcer(
    identity: &crate::config::Identity,
    board: &Arc<AdmissionBoard>,
) -> impl FnMut(&net_ebpf::session::AdmissionKey) + Send + 'static {
    let (network, board) = (identity.genesis.digest(), Arc::clone(board));
    let secret = crate::key::Secret::from_seed(&identity.secret.seed());
    move |key| {
        // The time of day as it is now: a clock that was set, or a machine that slept, is noticed.
        let from = u64::try_from(Clock::start().wall().as_millis()).expect("millions of years");
        // Handed out for a day, and good for an hour more.
        let until = from + ingest::udp::KEY_LIFE_NS / 1_000_000 + 3_600_000;
        board.publish(admission::Admission::sign(&secret, network, *key.public(), from..until));
    }
}

/// Recovers; what is damaged on the way is fetched from the other validators first.
fn recovered(
    config: &Config,
    identity: &crate::config::Identity,
    signer: &Signer,
    store: &storage::Store,
) -> Result<recover::State, Exit> {
    loop {
        let saved = saved(config, identity.genesis.digest());
        let error = match recover::recover(store, &identity.genesis, &saved) {
            Ok(state) => return Ok(state),
            Err(error) => error,
        };
        if store.damaged().is_empty() {
            return Err(threads::corrupt(error));
        }
        tracing::warn!(%error, "the ledger is damaged: it is repaired from the other validators");
        mend::from_peers(config, identity, signer, store)?;
    }
}

/// Where the state is kept.
fn saved(config: &Config, network: ledger::Digest) -> Folder {
    Folder::new(config.data.join("state"), network)
}

fn open_store(config: &Config, genesis: &Genesis) -> Result<storage::Store, Exit> {
    let mut options = storage::Options::new(*genesis.digest().as_bytes());
    options.segment_bytes = config.storage.segment_bytes;
    options.groups_in_flight = config.storage.groups_in_flight;
    options.backend = config.storage.backend.into();
    let folder = config.data.join("ledger");
    let opened = threads::apart(|| {
        cores::pin(&config.cores.storage);
        storage::Store::open(&folder, &options)
    });
    let (store, recovery) = opened.map_err(threads::store_error)?;
    tracing::info!(
        records = recovery.records,
        bytes = recovery.bytes,
        clean = recovery.clean,
        cut = recovery.cut.is_some(),
        mended = recovery.mended,
        "store opened"
    );
    Ok(store)
}

/// Everything that is known before threads start.
struct Node<'a> {
    config: &'a Config,
    identity: crate::config::Identity,
    signer: Signer,
    store: storage::Store,
    backends: Vec<crate::handle::BackendStatus>,
    /// The admission key, signed, for clients.
    admission: Arc<AdmissionBoard>,
    signatures: Arc<Judge>,
}

impl Node<'_> {
    fn run(
        self,
        recovered: recover::State,
        doors: doors::Doors,
        (mut threads, stop): (Threads, Stop),
        feed: Option<Feed>,
    ) -> Result<(), Exit> {
        let clock = Clock::start();
        let poll = stage::poll::Poll::new(self.config.cores.busy_poll_us);
        let metrics = Arc::new(Metrics::new());
        let network = self.identity.genesis.digest();
        let recover::State { mut execute, lanes, recent, round: _, loaded, changed } = recovered;
        execute.measure(Meter::ON);
        let terms = execute.terms().clone();
        let turn = recover::turn(&self.store, &self.identity.genesis, execute.chain());
        let board = Board::new(execute.chain().set().len(), recent, turn);
        let directory = peers::Directory::new(self.config, &self.identity);
        let records_peers = directory.first();
        let delivered = Delivered::new(execute.chain().height());
        let waiting_bytes = Arc::new(AtomicUsize::new(0));

        // Queues, in the order in which data flows.
        let (ingest_verify, requests) = bounded(stage::INGEST_VERIFY);
        let (lane_verify, batches) = bounded(stage::LANE_VERIFY);
        let (execute_verify, updates) = bounded(stage::EXECUTE_VERIFY);
        let (verify_lane, verified) = bounded(stage::VERIFY_LANE);
        let (verify_execute, lookups) = bounded(stage::VERIFY_EXECUTE);
        let (peers_lane, peers) = bounded(stage::PEERS_LANE);
        let (engine_lane, finalized) = bounded(stage::ENGINE_LANE);
        let (lane_execute, ready) = bounded(stage::LANE_EXECUTE);
        let (api_execute, queries) = bounded(stage::API_EXECUTE);
        let (execute_checkpoint, changes) = bounded(stage::EXECUTE_CHECKPOINT);
        let (execute_prove, leaves) = bounded(stage::EXECUTE_PROVE);
        let (api_prove, questions) = bounded(stage::API_PROVE);
        let (witnesses, witnessed) = stage::evidence::witnesses();
        let (lane_peers, outgoing) = ::tokio::sync::mpsc::channel(stage::LANE_PEERS);
        let (peers_repair, records) = bounded(stage::PEERS_REPAIR);
        let (repair_peers, records_out) = ::tokio::sync::mpsc::channel(stage::REPAIR_PEERS);
        let requests_budget = Arc::new(Budget::new(ingest::BYTES_MAX));
        let peers_budget = Arc::new(Budget::new(stage::PEERS_LANE_BYTES));
        let records_budget = Arc::new(Budget::new(stage::PEERS_REPAIR_BYTES));

        let mut admission = admit::Core::new(
            network,
            *execute.chain().state().parameters(),
            execute.chain().height(),
            execute.chain().state().table(),
            waiting_bytes.clone(),
            lane::WAITING_BYTES_MAX,
        );
        admission.measure(Meter::ON);
        let verify = stage::verify::Stage {
            core: admission,
            network,
            judge: self.signatures.clone(),
            sources: crate::verify::Sources::default(),
            clock,
            poll,
            requests,
            batches,
            updates,
            lane: verify_lane,
            lookups: verify_execute,
            witnesses: witnesses.clone(),
            metrics: metrics.clone(),
        };
        let lane_core = self.lane_core(&execute, lanes, waiting_bytes.clone());
        let is_closed = !lane_core.is_open();
        let first = stage::lane::Report { is_closed, ..stage::lane::Report::default() };
        let lane_report = Arc::new(Mutex::new(first));
        let lane = stage::lane::Stage {
            core: lane_core,
            clock,
            poll,
            verified,
            peers,
            finalized,
            durable: bounded(stage::STORAGE_STAGE),
            verify: lane_verify,
            execute: lane_execute,
            outgoing: lane_peers.clone(),
            board: board.clone(),
            store: self.store.clone(),
            witnesses: witnesses.clone(),
            metrics: metrics.clone(),
            report: lane_report.clone(),
        };
        let execute_report = Arc::new(Mutex::new(stage::execute::Report {
            height: execute.chain().height(),
            history_root: execute.chain().history_root(),
            transactions: execute.transactions(),
            at: 0,
        }));
        let archive = Archive { store: self.store.clone(), network };
        let execute = stage::execute::Stage {
            core: execute,
            archive: archive.clone(),
            clock,
            poll,
            ready,
            durable: bounded(stage::STORAGE_STAGE),
            queries,
            lookups,
            verify: execute_verify,
            checkpoint: Some(execute_checkpoint),
            leaves: execute_prove,
            board: board.clone(),
            delivered: delivered.clone(),
            store: self.store.clone(),
            metrics: metrics.clone(),
            report: execute_report.clone(),
        };

        let checkpoint = stage::checkpoint::Stage {
            saver: Saver::new(saved(self.config, network), clock.now(), loaded, changed),
            clock,
            changes,
        };
        let prove = stage::prove::Stage {
            core: prover::Core::new(
                archive,
                self.config.data.join("history"),
                ledger::Trusted::genesis(&self.identity.genesis),
                terms.clone(),
                self.signatures.clone(),
            ),
            leaves,
            questions,
        };
        let repair = stage::repair::Stage {
            core: mend::core((network, &records_peers), terms.clone(), &self.signer, &self.store),
            store: self.store.clone(),
            clock,
            incoming: records,
            outgoing: repair_peers,
            scrub_bytes: self.config.storage.scrub_bytes,
            pace: stage::repair::Pace::default(),
            metrics: metrics.clone(),
        };

        let proved = Arc::new(evidence::Board::default());
        let evidence = stage::evidence::Stage {
            core: evidence::Core::open(
                self.config.data.join("evidence"),
                network,
                terms.clone(),
                self.signer.public(),
                // Its own, so that hostile signatures push nothing out of what others know.
                Arc::new(Judge::new(self.signatures.verifier())),
                proved.clone(),
            ),
            witnessed,
            outgoing: lane_peers,
            repeat: stage::evidence::REPEAT,
            metrics: metrics.clone(),
        };

        let room = Arc::new(room::Disk::new(self.config.data.clone()));
        let observer = engine::Observer::telling(witnesses, network);
        let mut reporter = status::Reporter {
            name: self.identity.genesis.name().to_owned(),
            network,
            terms: terms.clone(),
            turns: board.turns(),
            backends: self.backends.clone(),
            budgets: vec![
                ("ingest_verify", requests_budget.clone()),
                ("peers_lane", peers_budget.clone()),
                ("peers_repair", records_budget.clone()),
            ],
            packets: doors.packets.clone(),
            waiting_bytes: waiting_bytes.clone(),
            lanes: lane_report,
            execute: execute_report,
            observer: observer.clone(),
            signer: self.signer.clone(),
            data: self.config.data.clone(),
            has_begun: false,
            delivered: delivered.clone(),
            store: self.store.clone(),
            room: room.clone(),
            store_bytes: self.config.storage.groups_in_flight * 2 * storage::GROUP_BYTES_MAX,
            reserve_bytes: self.config.storage.segment_bytes + room::RESERVE_BYTES,
            metrics: metrics.clone(),
            clock,
        };
        let status = Arc::new(StatusBoard::new(reporter.status(&self.store.stats())));
        // Before anything comes in that could never leave.
        status.set_closed(is_closed);
        let handle = NodeHandle {
            requests: ingest_verify,
            requests_budget,
            waiting_bytes: waiting_bytes.clone(),
            queries: api_execute,
            proofs: api_prove,
            evidence: proved,
            terms: terms.clone(),
            genesis: Arc::from(self.config.data.join(GENESIS_COPY)),
            status: status.clone(),
            metrics: metrics.clone(),
            admission: self.admission.clone(),
            network,
            limits: crate::handle::Limits::default(),
        };
        let mut budget_bytes = crate::metrics::resident_bytes();
        for (name, budget) in reporter.limits() {
            tracing::info!(queue = name, limit_bytes = budget, "budget");
            budget_bytes += budget;
        }
        // What is there before anything comes in, accounts included, and all that may come.
        metrics.memory_budget.set(budget_bytes);
        tracing::info!(total_bytes = budget_bytes, "memory budget");

        let groups = &self.config.cores;
        threads.start_bulk("verify", cores::on(&groups.verify, move || verify.run()));
        threads.start("lane", cores::on(&groups.stages, move || lane.run()));
        threads.start("execute", cores::on(&groups.stages, move || execute.run()));
        threads.start_bulk("checkpoint", cores::on(&groups.stages, move || checkpoint.run()));
        threads.start_bulk("prove", cores::on(&groups.stages, move || prove.run()));
        threads.start_bulk("evidence", cores::on(&groups.stages, move || evidence.run()));
        let guard = stage::guard::Stage {
            signer: self.signer.clone(),
            observer: observer.clone(),
            delivered: delivered.clone(),
            terms: terms.clone(),
            turns: board.turns(),
        };
        let guard_stop = stop.clone();
        threads.start("guard", move || guard.run(&guard_stop));
        let repair_stop = stop.clone();
        let repair = move || repair.run(&repair_stop);
        threads.start_bulk("repair", cores::on(&groups.stages, repair));
        if let Some(feed) = feed {
            let (handle, stop) = (handle.clone(), stop.clone());
            threads.start("feed", move || feed(handle, stop));
        }
        let (board_stop, publish) = (stop.clone(), status.clone());
        threads.start("status", move || reporter.run(&publish, &board_stop));
        // From here on every thread that is started takes part in the network, this one too.
        cores::pin(&groups.network);
        doors.serve(&mut threads, handle, &stop)?;
        let listen = &self.config.listen;
        tracing::info!(
            validator = %self.signer.public(),
            %network,
            http = %listen.http,
            tcp = %listen.tcp,
            udp = %listen.udp,
            "running"
        );

        let records = mend::Records {
            queue: peers_repair,
            budget: records_budget,
            metrics: metrics.clone(),
            outgoing: records_out,
        };
        let incoming = threads::Incoming { queue: peers_lane, budget: peers_budget, metrics };
        let hand = threads::hand_over(engine_lane);
        let setup = EngineSetup {
            terms,
            directory,
            records_peers,
            board,
            observer,
            delivered,
            outgoing,
            incoming,
            records,
            room,
            hand,
        };
        self.run_engine(setup, &stop);

        status.set_admission(Admission::Stopping);
        tracing::info!("stopping");
        threads.join(STOP);
        self.signer.close();
        self.store.close().map_err(threads::store_error)?;
        tracing::info!("stopped");
        Ok(())
    }

    fn lane_core(
        &self,
        execute: &execute::Core,
        recovered: lane::Recovered,
        waiting_bytes: Arc<AtomicUsize>,
    ) -> lane::Core {
        let config = lane::Config {
            network: self.identity.genesis.digest(),
            terms: execute.terms().clone(),
            batch_delay_ns: self.config.consensus.batch_delay_ms * 1_000_000,
            signer: self.signer.clone(),
            signatures: self.signatures.clone(),
            store: self.store.clone(),
            waiting_bytes,
            meter: Meter::ON,
        };
        let chain = execute.chain();
        lane::Core::new(config, chain.epoch(), chain.tips(), recovered)
    }

    /// Runs the engine on this thread until the node is told to stop.
    fn run_engine<H>(&self, setup: EngineSetup<H>, stop: &Stop)
    where
        H: FnMut(lane::Finalized) + Send + 'static,
    {
        let folder = self.config.data.join("consensus");
        let runtime = tokio::Config::new()
            .with_storage_directory(folder)
            .with_worker_threads(self.config.consensus.threads);
        let genesis = &self.identity.genesis;
        let network = genesis.digest();
        let (key, terms) = (mend::private_key(&self.identity), setup.terms);
        let turns = setup.board.turns();
        let application = Application::new(
            network,
            terms.clone(),
            self.signatures.clone(),
            setup.board,
            Pace {
                heartbeat: Duration::from_millis(self.config.consensus.heartbeat_ms),
                cut_delay: Duration::from_millis(self.config.consensus.cut_delay_ms),
            },
        );
        let view_timeout = Duration::from_millis(self.config.consensus.view_timeout_ms);
        let genesis_block = Block::new(Cut::genesis(genesis));
        let ledger = Stored {
            store: self.store.clone(),
            delivered: setup.delivered.clone(),
            genesis: genesis_block.clone(),
            terms: terms.clone(),
        };
        let (stop, signer) = (stop.clone(), self.signer.clone());
        tokio::Runner::new(runtime).start(|context| async move {
            let networks = network::start(&context, &network, &key, &setup.directory.own());
            let keys = setup.records_peers.into_iter().map(|peer| peer.key);
            let network::Lanes { lanes, records } = networks.lanes;
            setup.records.start(&context, keys.collect(), records);
            network::lanes::start(&context, lanes, setup.outgoing, setup.incoming);
            let follow = setup.directory.follow(terms.clone(), networks.trackers);
            context.child("peers").spawn(|_| follow);
            let engine = engine::start(
                context.child("engine"),
                engine::Setup {
                    signer,
                    terms,
                    turns,
                    namespace: ledger::engine_namespace(&network),
                    genesis: genesis_block,
                    application,
                    provider: networks.oracle.clone(),
                    blocker: networks.oracle,
                    deliver: Handover::new(setup.delivered, setup.hand),
                    ledger: Arc::new(ledger),
                    observer: setup.observer,
                    partition: "althing".to_owned(),
                    view_timeout,
                    room: setup.room,
                },
                networks.consensus,
            )
            .await
            .unwrap_or_else(|error| threads::damaged(&error));
            commonware_macros::select! {
                _ = stop.stopped() => {},
                _ = engine => fatal(&"the consensus engine has ended by itself"),
            }
            // What is in flight may end; nothing that was promised depends on it.
            drop(context.stop(0, Some(STOP)).await);
        });
    }
}

/// What the engine is connected to.
struct EngineSetup<H> {
    terms: Terms,
    directory: peers::Directory,
    records_peers: Vec<network::Peer>,
    board: Board,
    observer: engine::Observer,
    delivered: Delivered,
    outgoing: ::tokio::sync::mpsc::Receiver<network::lanes::Outgoing>,
    incoming: threads::Incoming,
    records: mend::Records,
    room: Arc<room::Disk>,
    hand: H,
}
