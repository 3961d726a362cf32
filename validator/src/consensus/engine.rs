//! Wires simplex, marshal, block broadcast and backfill over one runtime and one network.

use super::{
    Application, Block, Turn,
    block::Digest,
    conductor::Conductor,
    finals::{FinalBlocks, FinalCertificates, Ledger},
    heard::Heard,
    offence,
    patient::{Patient, Room},
    scheme::{Scheme, Schemes},
};
use crate::{
    signer::Signer,
    stage::evidence::{Witness, Witnesses},
    terms::Terms,
};
use commonware_broadcast::buffered;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::{
    Reporter,
    marshal::{
        self, Start, Update,
        core::Actor as Marshal,
        resolver::p2p as resolver,
        standard::{Inline, Standard},
    },
    simplex::{
        self,
        types::{Activity, Attributable, Finalization},
    },
    types::{FixedEpocher, Height, View, ViewDelta},
};
use commonware_cryptography::{Digested, Digestible as _, certificate, ed25519::PublicKey};
use commonware_p2p::{Blocker, Provider, Receiver, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Clock, Handle, Metrics, Spawner, Storage, Supervisor as _, buffer::paged::CacheRef,
};
use commonware_storage::{archive::prunable, translator::EightCap};
use commonware_utils::{NZDuration, NZU16, NZU64, NZUsize, acknowledgement::Exact};
use rand_core::CryptoRng;
use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Delivered blocks that execution has not acknowledged, at most: marshal waits beyond it.
pub const PENDING_ACKS_MAX: usize = 64;
/// Messages in a mailbox between actors.
const MAILBOX: usize = 1_024;
/// Buffers of the engine's journals, in bytes.
const BUFFER_BYTES: usize = 1 << 20;
/// Blocks of one sender that wait for their votes.
const BROADCAST_BLOCKS: usize = 32;

/// Both ends of a channel of the consensus network.
pub type Channel<S, R> = (S, R);

/// The channels of the consensus network, each with a quota of its own.
pub struct Channels<S, R> {
    /// Votes.
    pub votes: Channel<S, R>,
    /// Certificates.
    pub certificates: Channel<S, R>,
    /// Certificates of views that were missed.
    pub resolver: Channel<S, R>,
    /// Finalized blocks that were missed.
    pub backfill: Channel<S, R>,
    /// Blocks as they are proposed.
    pub blocks: Channel<S, R>,
}

/// What the engine is started with.
pub struct Setup<P, B, D> {
    /// The validator's own votes.
    pub signer: Signer,
    /// Who decides when.
    pub terms: Terms,
    /// The epoch that the lanes are in.
    pub turns: watch::Receiver<Turn>,
    /// Namespace of votes and certificates.
    pub namespace: Vec<u8>,
    /// The genesis cut.
    pub genesis: Block,
    /// Builds and checks blocks.
    pub application: Application,
    /// Who is a peer.
    pub provider: P,
    /// Blocks a peer that sends provably bad data.
    pub blocker: B,
    /// Gets finalized blocks in order.
    pub deliver: D,
    /// Has what is final and durable.
    pub ledger: Arc<dyn Ledger>,
    /// Observes views, for the status page and stuck views.
    pub observer: Observer,
    /// Prefix of every file of the engine.
    pub partition: String,
    /// How long a view waits for its leader.
    pub view_timeout: Duration,
    /// Says whether the disk is full, and is told when the engine waits for it.
    pub room: Arc<dyn Room>,
}

/// A finalized block on its way to the stages.
pub struct Delivery {
    /// The block.
    pub block: Block,
    /// Its own certificate, if marshal has one.
    pub finalization: Option<Finalization<Scheme, Digest>>,
    /// To be acknowledged when the block is durable here.
    pub acknowledgement: Exact,
}

/// Takes finalized blocks, in order, perhaps more than once.
pub trait Deliver: Send + 'static {
    /// Called for each block; must not wait.
    fn deliver(&mut self, delivery: Delivery);
}

/// Newest view seen and votes missed, shared with the status page.
#[derive(Clone, Default)]
pub struct Observer {
    state: Arc<Mutex<Observed>>,
    /// Who keeps evidence, and the network that it is for.
    witnesses: Option<(Witnesses, ledger::Digest)>,
    heard: Heard,
}

/// What an observer has seen.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The epoch of views and votes.
    pub epoch: u64,
    /// Newest view with a notarization, nullification or finalization.
    pub view: u64,
    /// Newest height that is known to be final.
    pub tip: u64,
    /// Newest view in which each validator was seen to vote, by its place in the set.
    pub votes: Vec<u64>,
    /// Views that ended without a block.
    pub nullified: u64,
    /// Contradictions seen, by validator and kind.
    pub equivocations: BTreeMap<(u32, &'static str), u64>,
}

impl Observer {
    /// One that hands on what proves a validator's misbehaviour; dropped when the queue is full.
    pub fn telling(witnesses: Witnesses, network: ledger::Digest) -> Self {
        Self { witnesses: Some((witnesses, network)), ..Self::default() }
    }

    fn tip(&self, height: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tip = state.tip.max(height);
    }

    /// In which epoch each validator was heard last.
    pub fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// What was seen so far.
    pub fn observed(&self) -> Observed {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observed {
    fn vote(&mut self, signer: u32, view: View) {
        let signer = signer as usize;
        if self.votes.len() <= signer {
            self.votes.resize(signer + 1, 0);
        }
        self.votes[signer] = self.votes[signer].max(view.get());
    }
}

impl Observed {
    fn equivocate(&mut self, conflict: &impl Attributable, kind: &'static str) {
        *self.equivocations.entry((conflict.signer().get(), kind)).or_default() += 1;
    }
}

impl Reporter for Observer {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> commonware_actor::Feedback {
        use commonware_consensus::{Epochable as _, Viewable as _};
        if let Some((witnesses, network)) = &self.witnesses
            && let Some(evidence) = offence::evidence(network, &activity)
            && !witnesses.send(Witness::Found(Box::new(evidence)))
        {
            tracing::warn!("evidence is lost: more of it comes in than is checked");
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = activity.epoch().get();
        if epoch > state.epoch {
            // Views and places in the set are those of another epoch.
            (state.epoch, state.view) = (epoch, 0);
            state.votes.clear();
        } else if epoch < state.epoch {
            return commonware_actor::Feedback::Ok;
        }
        match &activity {
            Activity::Notarization(_) | Activity::Certification(_) | Activity::Finalization(_) => {
                state.view = state.view.max(activity.view().get());
            }
            Activity::Nullification(_) => {
                state.view = state.view.max(activity.view().get());
                state.nullified += 1;
            }
            Activity::ConflictingNotarize(conflict) => state.equivocate(conflict, "notarize"),
            Activity::ConflictingFinalize(conflict) => state.equivocate(conflict, "finalize"),
            Activity::NullifyFinalize(conflict) => state.equivocate(conflict, "nullify_finalize"),
            Activity::Notarize(vote) => state.vote(vote.attestation.signer.get(), vote.view()),
            Activity::Nullify(vote) => state.vote(vote.attestation.signer.get(), vote.view()),
            Activity::Finalize(vote) => state.vote(vote.attestation.signer.get(), vote.view()),
        }
        commonware_actor::Feedback::Ok
    }
}

/// Passes marshal's updates into a task that adds the certificate.
#[derive(Clone)]
struct Updates {
    blocks: mpsc::Sender<(Digested<Block>, Exact)>,
    observer: Observer,
}

impl Reporter for Updates {
    type Activity = Update<Block>;

    fn report(&mut self, activity: Self::Activity) -> commonware_actor::Feedback {
        match activity {
            Update::Tip(_, height, _) => self.observer.tip(height.get()),
            // Room for every unacknowledged block is reserved: only a stopped task is left.
            Update::Block(block, acknowledgement) => {
                if self.blocks.try_send((block, acknowledgement)).is_err() {
                    return commonware_actor::Feedback::Closed;
                }
            }
        }
        commonware_actor::Feedback::Ok
    }
}

/// Largest payload of the consensus network for `validators` validators, in bytes.
pub fn payload_bytes_max(validators: u32) -> usize {
    simplex::max_payload_size::<Scheme, Digest>(validators)
        .max(marshal::max_payload_size::<Standard<Block>, Scheme>(validators, &()))
}

/// Starts the engine; the handle ends when the engine does.
///
/// Errors: the log of the engine's votes cannot be read, or is damaged.
pub async fn start<E, S, R, P, B, D>(
    context: E,
    setup: Setup<P, B, D>,
    channels: Channels<S, R>,
) -> Result<Handle<()>, commonware_runtime::Error>
where
    E: Clock + CryptoRng + Spawner + Storage + Metrics,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    P: Provider<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
    D: Deliver,
{
    let context = Patient::new(context, setup.room).with_vault(&setup.partition).await?;
    let public_key = PublicKey::decode(Copying(setup.signer.public().as_bytes()))
        .expect("the key of a signer is one");
    // 4,096 pages of 4 KiB: the newest of every journal.
    let page_cache = CacheRef::new(NZU16!(4_096), NZUsize!(4_096));
    let length = NonZeroU64::new(setup.terms.epochs().length()).expect("the genesis was checked");
    let epocher = FixedEpocher::new(length);

    let backfill = resolver::init(
        context.child("backfill"),
        resolver::Config {
            public_key: public_key.clone(),
            peer_provider: setup.provider.clone(),
            blocker: setup.blocker.clone(),
            mailbox_size: NZUsize!(MAILBOX),
            fetch_timeout: NZDuration!(Duration::from_secs(1)),
            fetch_retry_delay: Duration::from_millis(100),
            priority_requests: false,
            priority_responses: false,
        },
        channels.backfill,
    );
    let (broadcast, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        buffered::Config {
            public_key,
            mailbox_size: NZUsize!(MAILBOX),
            deque_size: BROADCAST_BLOCKS,
            priority: true,
            codec_config: (),
            peer_provider: setup.provider,
            strategy: Sequential,
        },
    );
    broadcast.start(channels.blocks);

    let finalizations = prunable::Archive::init(
        context.child("finalizations"),
        archive(
            &setup.partition,
            "final-certificates",
            page_cache.clone(),
            <Scheme as certificate::Verifier>::certificate_codec_config_unbounded(),
        ),
    )
    .await
    .expect("the engine's folder can be read and written");
    let blocks = prunable::Archive::init(
        context.child("blocks"),
        archive(&setup.partition, "final-blocks", page_cache.clone(), ()),
    )
    .await
    .expect("the engine's folder can be read and written");
    let genesis_digest = setup.genesis.digest();
    // What the ledger has is final: neither is asked for again, and no view of it is voted in, which matters where
    // the log of votes was lost. Without any certificate all begins with the genesis.
    let heights = (1..=setup.ledger.height()).rev();
    let newest = heights.filter_map(|height| setup.ledger.certificate(height)).next();
    let start = match &newest {
        Some(newest) => Start::Floor(newest.clone()),
        None => Start::Genesis(Digested::precomputed(setup.genesis, genesis_digest)),
    };
    let (actor, mailbox, _) = Marshal::init(
        context.child("marshal"),
        FinalCertificates::new(finalizations, setup.ledger.clone()),
        FinalBlocks::new(blocks, setup.ledger),
        marshal::Config {
            provider: Schemes::new(setup.namespace.clone(), setup.terms.clone()),
            epocher: epocher.clone(),
            start,
            partition_prefix: format!("{}-marshal", setup.partition),
            mailbox_size: NZUsize!(MAILBOX),
            view_retention: ViewDelta::new(32),
            // The newest views are cached in memory: two sections of them at most.
            prunable_items_per_section: NZU64!(64),
            page_cache: page_cache.clone(),
            replay_buffer: NZUsize!(BUFFER_BYTES),
            key_write_buffer: NZUsize!(BUFFER_BYTES),
            value_write_buffer: NZUsize!(BUFFER_BYTES),
            block_codec_config: (),
            max_repair: NZUsize!(256),
            max_pending_acks: NZUsize!(PENDING_ACKS_MAX),
            strategy: Sequential,
        },
    )
    .await;
    let (updates, mut delivered) = mpsc::channel(2 * PENDING_ACKS_MAX);
    let updates = Updates { blocks: updates, observer: setup.observer.clone() };
    actor.start(updates, buffer, backfill);

    let mut deliver = setup.deliver;
    let certificates = mailbox.clone();
    context.child("deliver").spawn(move |_| async move {
        while let Some((block, acknowledgement)) = delivered.recv().await {
            let height = Height::new(block.inner().cut().height.get());
            let finalization = certificates.get_finalization(height).await;
            let block = block.inner().clone();
            deliver.deliver(Delivery { block, finalization, acknowledgement });
        }
    });

    let conductor = Conductor {
        oldest: setup.signer.known_round().0,
        signer: setup.signer,
        terms: setup.terms,
        turns: setup.turns,
        namespace: setup.namespace,
        callbacks: Inline::new(
            context.child("inline"),
            setup.application,
            mailbox.clone(),
            epocher,
        ),
        marshal: mailbox,
        blocker: setup.blocker,
        observer: setup.observer,
        partition: setup.partition,
        page_cache,
        view_timeout: setup.view_timeout,
        newest,
    };
    let Channels { votes, certificates, resolver, .. } = channels;
    Ok(conductor.start(context, votes, certificates, resolver))
}

fn archive<C>(
    partition: &str,
    name: &str,
    page_cache: CacheRef,
    codec_config: C,
) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{partition}-{name}-metadata"),
        key_partition: format!("{partition}-{name}-key"),
        key_page_cache: page_cache,
        value_partition: format!("{partition}-{name}-value"),
        compression: None,
        codec_config,
        items_per_section: NZU64!(64),
        key_write_buffer: NZUsize!(BUFFER_BYTES),
        value_write_buffer: NZUsize!(BUFFER_BYTES),
        replay_buffer: NZUsize!(BUFFER_BYTES),
    }
}
