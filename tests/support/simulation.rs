//! A whole cluster in one thread: seeded time, lossy links, crashes, one digest of everything.

use crate::inline::{Finals, Setup, Shared, Stages};
use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::{Signer as _, ed25519};
use commonware_p2p::simulated::{Config, Control, Link, Network, Oracle};
use commonware_runtime::{
    Clock, Handle, Quota, Runner as _, Spawner as _, Supervisor as _, deterministic,
};
use commonware_utils::{NZU32, NZUsize, probability};
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::{
    Cut, Digest, Draft, Genesis, GenesisAccount, Height, Kind, Parameters, PublicKey, Signature,
};
use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use storage::Simulated;
use validator::{
    consensus::{Application, Block, application::Pace, engine},
    key::Secret,
    network::lanes,
    node::{Handover, Stored},
    signer::Signer,
    votes::Judge,
};

/// Messages a second on each channel: more than is sent; mailboxes are sized by it.
const QUOTA: Quota = Quota::per_second(NZU32!(2_000));
/// Heights of an epoch: as few as there may be.
const EPOCH: u64 = 128;
/// Accounts that send transactions.
const AUTHORS: u8 = 16;
/// Time between two ticks of the stages.
const TICK: Duration = Duration::from_millis(5);
/// A validator that has crashed comes back after this time.
const AWAY: Duration = Duration::from_secs(3);

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Number of validators.
    pub validators: u8,
    /// Heights that every validator must reach after the last fault.
    pub heights: u64,
    /// Whether each validator crashes once and comes back.
    pub crashes: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Digest of the whole trace: equal for equal plans.
    pub trace: String,
    /// Heights that all validators share.
    pub height: u64,
    /// History root after the shared height.
    pub history_root: Digest,
    /// Transactions applied up to there.
    pub applied: usize,
}

type Context = deterministic::Context;

/// Runs a plan to its end.
///
/// Panics where two validators differ, or where the cluster stands still.
pub fn run(plan: Plan) -> Outcome {
    let config = deterministic::Config::new()
        .with_seed(plan.seed)
        .with_timeout(Some(Duration::from_secs(600)));
    deterministic::Runner::new(config).start(|context| async move {
        let cluster = Cluster::start(context.child("cluster"), plan).await;
        let outcome = cluster.play().await;
        Outcome { trace: context.auditor().state(), ..outcome }
    })
}

struct Cluster {
    context: Context,
    plan: Plan,
    genesis: Arc<Genesis>,
    keys: Vec<SigningKey>,
    authors: Vec<SigningKey>,
    oracle: Oracle<ed25519::PublicKey, Context>,
    signatures: Arc<Judge>,
    disks: Vec<Simulated>,
    finals: Vec<Finals>,
    running: Vec<Option<(Handle<()>, Shared)>>,
}

fn seeded(purpose: u8, index: u8) -> SigningKey {
    let mut seed = [purpose; 32];
    seed[0] = index;
    SigningKey::from_bytes(&seed)
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn genesis(keys: &[SigningKey], authors: &[SigningKey]) -> Genesis {
    let validators = keys.iter().map(public).collect();
    let mut accounts: Vec<GenesisAccount> = authors
        .iter()
        .map(|author| GenesisAccount { key: public(author), balance: 1_000_000_000 })
        .collect();
    accounts.sort_by_key(|account| account.key);
    let parameters =
        Parameters { checkpoint_interval: 8, epoch_length: EPOCH, ..Parameters::default() };
    Genesis::new("simulation".to_owned(), validators, accounts, parameters, sigverify::key_is_sound)
        .expect("a small genesis")
}

impl Cluster {
    async fn start(context: Context, plan: Plan) -> Self {
        let mut keys: Vec<SigningKey> =
            (0..plan.validators).map(|index| seeded(7, index)).collect();
        keys.sort_by_key(public);
        let authors: Vec<SigningKey> = (0..AUTHORS).map(|index| seeded(9, index)).collect();
        let peers: Vec<ed25519::PublicKey> = keys.iter().map(engine_public).collect();
        let (network, oracle) = Network::new_with_peers(
            context.child("network"),
            Config {
                max_size: 1 << 20,
                max_peers_per_set: NZUsize!(16),
                disconnect_on_block: true,
                tracked_peer_sets: NZUsize!(3),
            },
            peers.clone(),
        )
        .await;
        network.start();
        for from in &peers {
            for to in peers.iter().filter(|to| *to != from) {
                let link = Link {
                    latency: Duration::from_millis(20),
                    jitter: Duration::from_millis(10),
                    success_rate: probability!(0.9),
                };
                oracle.add_link(from.clone(), to.clone(), link).await.expect("both are peers");
            }
        }
        let verifier = sigverify::Verifier::new(&sigverify::Options { backend: None, threads: 1 });
        let verifier = verifier.expect("the portable backend runs everywhere");
        let genesis = Arc::new(genesis(&keys, &authors));
        let count = keys.len();
        let disk =
            |index: usize| Simulated::new(plan.seed.wrapping_mul(31).wrapping_add(index as u64));
        let mut cluster = Self {
            context,
            plan,
            genesis,
            keys,
            authors,
            oracle,
            signatures: Arc::new(Judge::new(Arc::new(verifier))),
            disks: (0..count).map(disk).collect(),
            finals: vec![Finals::default(); count].iter().map(|_| Finals::default()).collect(),
            running: (0..count).map(|_| None).collect(),
        };
        for index in 0..count {
            cluster.boot(index).await;
        }
        cluster
    }

    async fn boot(&mut self, index: usize) {
        let context = self.context.child("validator").with_attribute("index", index);
        let key = self.keys[index].clone();
        let control = self.oracle.control(engine_public(&key));
        let (stages, ends) = Stages::open(Setup {
            genesis: &self.genesis,
            disk: self.disks[index].restart(),
            signatures: self.signatures.clone(),
            signer: signer(&key),
            finals: self.finals[index].clone(),
        });
        let clock = self.context.child("clock");
        let shared = Shared::new(stages, move || nanoseconds(&clock));
        let node = Node {
            genesis: self.genesis.clone(),
            index,
            signer: signer(&self.keys[index]),
            control,
            manager: self.oracle.manager(),
            signatures: self.signatures.clone(),
        };
        let stages = shared.clone();
        let handle = context.spawn(move |context| node.run(context, ends, stages));
        self.running[index] = Some((handle, shared));
    }

    fn crash(&mut self, index: usize) {
        let (handle, shared) = self.running[index].take().expect("it runs");
        shared.kill();
        handle.abort();
        self.disks[index] = self.disks[index].crash();
    }

    /// Sends transactions, crashes every validator once, then waits until all agree.
    async fn play(mut self) -> Outcome {
        let count = self.keys.len();
        let mut sent = 0;
        if self.plan.crashes {
            for victim in 0..count {
                sent = self.load(Duration::from_secs(2), sent).await;
                self.crash(victim);
                sent = self.load(AWAY, sent).await;
                self.boot(victim).await;
            }
        }
        let goal = self.finals.iter().map(Finals::height).max().unwrap_or(0) + self.plan.heights;
        let patience = Duration::from_secs(120);
        let end = self.context.current() + patience;
        while self.finals.iter().any(|finals| finals.height() < goal) {
            sent = self.load(Duration::from_millis(500), sent).await;
            let heights: Vec<u64> = self.finals.iter().map(Finals::height).collect();
            assert!(self.context.current() < end, "seed {}: stuck at {heights:?}", self.plan.seed);
        }
        self.agree()
    }

    /// Sends records round robin for some time; answers how many were sent in all.
    async fn load(&self, duration: Duration, mut sent: usize) -> usize {
        let end = self.context.current() + duration;
        while self.context.current() < end {
            let author = &self.authors[sent % self.authors.len()];
            let index = sent % self.keys.len();
            if let Some((_, shared)) = &self.running[index] {
                shared.with(|stages, _| self.send(stages, author, sent));
            }
            sent += 1;
            self.context.sleep(Duration::from_millis(10)).await;
        }
        sent
    }

    fn send(&self, stages: &mut Stages, author: &SigningKey, number: usize) {
        let key = public(author);
        let account = stages.account(&key).expect("authors are in the genesis");
        let body = number.to_le_bytes();
        let draft = Draft {
            kind: Kind::Record,
            author: key,
            sequence: account.pending_sequence,
            previous: account.pending_head,
            valid_until: Height(u64::MAX),
            body: &body,
        };
        let sign = |message: &[u8; 47]| Signature(author.sign(message).to_bytes());
        let (bytes, _) = draft.sign(&self.genesis.digest(), sign).expect("a small record");
        stages.submit(bytes);
    }

    fn agree(&self) -> Outcome {
        let height = self.finals.iter().map(Finals::height).min().expect("validators");
        let first = self.finals[0].roots();
        for finals in &self.finals[1..] {
            for (height, root) in finals.roots() {
                if let Some(other) = first.get(&height) {
                    assert_eq!(*other, root, "seed {}: height {height} differs", self.plan.seed);
                }
            }
        }
        let applied = self.finals.iter().map(Finals::applied).max().unwrap_or(0);
        assert!(applied > 0, "seed {}: nothing was applied", self.plan.seed);
        Outcome { trace: String::new(), height, history_root: first[&height], applied }
    }
}

/// One validator of the cluster.
struct Node {
    genesis: Arc<Genesis>,
    index: usize,
    signer: Signer,
    control: Control<ed25519::PublicKey, Context>,
    manager: commonware_p2p::simulated::Manager<ed25519::PublicKey, Context>,
    signatures: Arc<Judge>,
}

impl Node {
    async fn run(self, context: Context, ends: crate::inline::Ends, stages: Shared) {
        let mut channels = Vec::new();
        for channel in 0..7 {
            let registered = self.control.register(channel, QUOTA).await;
            channels.push(registered.expect("the network runs"));
        }
        let mut next = channels.into_iter();
        let mut channel = || next.next().expect("seven were registered");
        let consensus = engine::Channels {
            votes: channel(),
            certificates: channel(),
            resolver: channel(),
            backfill: channel(),
            blocks: channel(),
        };
        let lane_channels = lanes::Channels { batches: channel(), control: channel() };
        lanes::start(&context, lane_channels, ends.outgoing, stages.clone());

        let (network, turns) = (self.genesis.digest(), ends.board.turns());
        let application = Application::new(
            network,
            ends.terms.clone(),
            self.signatures,
            ends.board,
            Pace { heartbeat: Duration::from_millis(400), cut_delay: Duration::from_millis(25) },
        );
        let ledger = Stored {
            store: ends.store,
            delivered: ends.delivered.clone(),
            genesis: Block::new(Cut::genesis(&self.genesis)),
            terms: ends.terms.clone(),
        };
        let sink = stages.clone();
        let hand = move |finalized| sink.with(|stages, now| stages.finalized(now, finalized));
        let engine = engine::start(
            context.child("engine"),
            engine::Setup {
                signer: self.signer,
                terms: ends.terms,
                turns,
                namespace: ledger::engine_namespace(&network),
                genesis: Block::new(Cut::genesis(&self.genesis)),
                application,
                provider: self.manager,
                blocker: self.control,
                deliver: Handover::new(ends.delivered, hand),
                ledger: Arc::new(ledger),
                observer: engine::Observer::default(),
                partition: format!("validator-{}", self.index),
                view_timeout: Duration::from_millis(700),
                room: Arc::new(()),
            },
            consensus,
        )
        .await
        .expect("a simulated log is whole");
        context.child("ticks").spawn(move |context| async move {
            loop {
                context.sleep(TICK).await;
                stages.with(|stages, now| stages.tick(now));
            }
        });
        // The engine ends only when this task is aborted.
        drop(engine.await);
    }
}

fn nanoseconds(clock: &Context) -> u64 {
    let since = clock.current().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).expect("virtual time is short")
}

fn signer(key: &SigningKey) -> Signer {
    Signer::unguarded(Secret::from_seed(&key.to_bytes()))
}

fn engine_private(key: &SigningKey) -> ed25519::PrivateKey {
    ed25519::PrivateKey::decode(Copying(&key.to_bytes())).expect("any 32 bytes are a seed")
}

fn engine_public(key: &SigningKey) -> ed25519::PublicKey {
    engine_private(key).public_key()
}
