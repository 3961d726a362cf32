//! Repair around a node: its core, its network, and the session that a damaged ledger starts with.

use super::peers::Directory;
use crate::{
    archive::Archive,
    command::Exit,
    config::{Config, Identity},
    handle::{Budget, Hold},
    metrics::Metrics,
    network::{self, Peer, SocketReceiver, SocketSender, lanes},
    repair,
    signer::Signer,
    stage::{self, Clock, repair::FromPeer},
    terms::Terms,
};
use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::ed25519::{PrivateKey, PublicKey};
use commonware_runtime::{Runner as _, Spawner, tokio};
use crossbeam::channel::{Receiver, Sender, bounded};
use ledger::{Digest, Height};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use storage::{Scrub, Store};

/// Without any progress in this time a damaged ledger is given up: its operator is told.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes that are scrubbed between two looks at the clock.
const SCRUB_BYTES: u64 = 64 << 20;
/// How long the network may take to end.
const STOP: Duration = Duration::from_secs(3);

/// The state machine of a validator's repairs.
pub(super) fn core(
    (network, peers): (Digest, &[Peer]),
    terms: Terms,
    signer: &Signer,
    store: &Store,
) -> repair::Core {
    let own = public_key(&signer.public());
    let me = peers.iter().position(|peer| peer.key == own).expect("it is one of them");
    repair::Core::new(repair::Config {
        network,
        terms,
        me: u32::try_from(me).expect("few peers"),
        validators: u32::try_from(peers.len()).expect("few peers"),
        signer: signer.clone(),
        store: store.clone(),
    })
}

/// Both ends of the channel of stored records.
pub(super) struct Records {
    /// `peers_repair`.
    pub(super) queue: Sender<FromPeer>,
    /// Bytes that may wait there.
    pub(super) budget: Arc<Budget>,
    /// Counters of the process.
    pub(super) metrics: Arc<Metrics>,
    /// `repair_peers`.
    pub(super) outgoing: ::tokio::sync::mpsc::Receiver<(u32, Vec<u8>)>,
}

impl Records {
    /// Moves messages both ways.
    pub(super) fn start(
        self,
        context: &impl Spawner,
        keys: Arc<[PublicKey]>,
        channel: (SocketSender, SocketReceiver),
    ) {
        let Self { queue, budget, metrics, outgoing } = self;
        let put = move |from, bytes: Vec<u8>| {
            let sent = match Hold::take(&budget, bytes.len()) {
                Some(hold) => queue.try_send(FromPeer { from, bytes, hold }).is_ok(),
                None => false,
            };
            if !sent {
                metrics.count_dropped("repair", "peers_full");
            }
        };
        lanes::start_records(context, keys, channel, outgoing, put);
    }
}

/// Repairs every damaged group of a store that nothing uses yet.
///
/// Errors: data corrupt, with the first group for which no validator had what it takes.
pub(super) fn from_peers(
    config: &Config,
    identity: &Identity,
    signer: &Signer,
    store: &Store,
) -> Result<(), Exit> {
    let mut scrub = Scrub::default();
    while scrub.passes == 0 {
        store.scrub(&mut scrub, SCRUB_BYTES);
    }
    let damaged = store.damaged();
    tracing::warn!(groups = damaged.len(), "asking the other validators for what is damaged");
    let (queue, incoming) = bounded(stage::PEERS_REPAIR);
    let (outgoing, records_out) = ::tokio::sync::mpsc::channel(stage::REPAIR_PEERS);
    let records = Records {
        queue,
        budget: Arc::new(Budget::new(stage::PEERS_REPAIR_BYTES)),
        metrics: Arc::new(Metrics::new()),
        outgoing: records_out,
    };
    let folder = config.data.join("consensus");
    let runtime = tokio::Config::new().with_storage_directory(folder).with_worker_threads(1);
    let directory = Directory::new(config, identity);
    let (key, me, peers) = (private_key(identity), directory.own(), directory.first());
    let genesis = identity.genesis.digest();
    let core = core((genesis, &peers), terms(identity, store), signer, store);
    let waiting = store.clone();
    tokio::Runner::new(runtime).start(|context| async move {
        let (lanes, mut oracle, _handle) = network::start_lanes(&context, &genesis, &key, &me);
        network::track(&mut oracle, &peers, |peer| peer.lanes);
        let keys: Arc<[PublicKey]> = peers.iter().map(|peer| peer.key.clone()).collect();
        records.start(&context, keys, lanes.records);
        let work = std::thread::spawn(move || work(core, &waiting, &incoming, &outgoing));
        while !work.is_finished() {
            ::tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(context.stop(0, Some(STOP)).await);
    });
    match store.damaged().first() {
        None => Ok(()),
        Some((segment, offset)) => Err(Exit::data_corrupt(format!(
            "ledger: segment {segment:016x} offset {offset}: damaged, and no other validator had what \
             it takes to repair it; start again when more of them run"
        ))),
    }
}

/// Lets the core work until nothing is damaged, or nothing gets better.
fn work(
    mut core: repair::Core,
    store: &Store,
    incoming: &Receiver<FromPeer>,
    outgoing: &::tokio::sync::mpsc::Sender<(u32, Vec<u8>)>,
) {
    let clock = Clock::start();
    let mut left = store.damaged().len();
    let mut received = 0;
    let mut since = Instant::now();
    while left > 0 && since.elapsed() < PATIENCE {
        if let Ok(message) = incoming.recv_timeout(Duration::from_millis(20)) {
            // Whoever sends nonsense is no help; the next one is asked in time.
            let _ = core.message(clock.now(), message.from, &message.bytes);
        }
        core.tick(clock.now());
        for (to, message) in core.take_outgoing(clock.now()) {
            // Asked again when it is lost.
            let _ = outgoing.try_send((to, message.encode()));
        }
        let now_left = store.damaged().len();
        if now_left < left || core.received() > received {
            since = Instant::now();
        }
        (left, received) = (now_left, core.received());
    }
}

/// The key for the networks.
pub(super) fn private_key(identity: &Identity) -> PrivateKey {
    PrivateKey::decode(Copying(&*identity.secret.seed())).expect("any 32 bytes are a seed")
}

/// Who decided when, as far as a ledger says that may be damaged.
fn terms(identity: &Identity, store: &Store) -> Terms {
    let archive = Archive { store: store.clone(), network: identity.genesis.digest() };
    let last = Height(store.last_height(crate::record::CUT).unwrap_or(0));
    Terms::stored(&identity.genesis, &archive, last)
        .unwrap_or_else(|_| Terms::genesis(&identity.genesis))
}

/// A key for the networks.
pub(super) fn public_key(key: &ledger::PublicKey) -> PublicKey {
    PublicKey::decode(Copying(key.as_bytes())).expect("keys of validators were checked")
}
