//! One engine for each epoch, over channels of its own: the next starts when the last block of the epoch is durable.
//!
//! ```text
//! lanes turn ─▶ engine of the epoch before ends ─▶ its successor starts with that epoch's last block
//! vote of a later epoch ─▶ whoever sent it has the last block of this one: it is asked for it
//! ```
//!
//! Messages name their epoch: an engine blocks whoever sends it those of another. Until the next epoch begins the
//! engine's leaders propose the last block again and again, so nothing is ordered behind it.

use super::{
    Application, Block, Turn,
    block::{Digest, engine_digest},
    engine::Observer,
    heard::Heard,
    paced::{Mute, Paced},
    patient::Patient,
    scheme::{self, Scheme},
};
use crate::{signer::Signer, terms::Terms};
use commonware_consensus::{
    Reporters,
    marshal::{
        core::Mailbox as Marshal,
        standard::{Inline, Standard},
    },
    simplex::{
        self, Floor, ForwardPolicy, SkipBudget, SkipPolicy, elector::RoundRobin,
        types::Finalization,
    },
    types::{Epoch, FixedEpocher, Height, ViewDelta},
};
use commonware_cryptography::{Sha256, certificate::Scheme as _, ed25519::PublicKey};
use commonware_p2p::{
    Blocker, Message, Receiver, Sender,
    utils::mux::{Builder as _, MuxHandle, Muxer, SubReceiver, SubSender},
};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Clock, Handle, Metrics, Spawner, Storage, Supervisor as _, buffer::paged::CacheRef,
};
use commonware_utils::{NZUsize, NonZeroDuration, vec::NonEmptyVec};
use rand_core::CryptoRng;
use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// Messages in a mailbox between actors.
const MAILBOX: usize = 1_024;
/// Buffers of the engine's journal, in bytes.
const BUFFER_BYTES: usize = 1 << 20;
/// Time from one certificate of a kind to the next: whoever missed votes is late by about so much.
const PACE_MAX: Duration = Duration::from_millis(100);
/// Time between two questions for the last block of an epoch.
const HINT: Duration = Duration::from_millis(200);

/// The engine's callbacks, marshal's part of them included.
type Callbacks<E> = Inline<Patient<E>, Scheme, Application, Block, FixedEpocher>;

/// What every engine is started with.
pub(super) struct Conductor<E, B>
where
    E: Clock + CryptoRng + Spawner + Storage + Metrics,
{
    pub(super) signer: Signer,
    pub(super) terms: Terms,
    pub(super) turns: watch::Receiver<Turn>,
    pub(super) namespace: Vec<u8>,
    pub(super) callbacks: Callbacks<E>,
    pub(super) marshal: Marshal<Scheme, Standard<Block>>,
    pub(super) blocker: B,
    pub(super) observer: Observer,
    pub(super) partition: String,
    /// The oldest epoch of which votes may be left.
    pub(super) oldest: u64,
    pub(super) page_cache: CacheRef,
    pub(super) view_timeout: Duration,
    /// The newest certificate of the ledger.
    pub(super) newest: Option<Finalization<Scheme, Digest>>,
}

/// The three channels that engines share.
struct Channels<S: Sender> {
    votes: MuxHandle<S>,
    certificates: MuxHandle<S>,
    resolver: MuxHandle<S>,
    heard: Heard,
}

/// Messages that came before an engine was there to take them.
#[derive(Debug)]
struct Kept {
    messages: VecDeque<Message<PublicKey>>,
    inner: SubReceiver<PublicKey>,
    epoch: u64,
    heard: Heard,
}

impl Kept {
    fn new(inner: SubReceiver<PublicKey>, epoch: u64, heard: Heard) -> Self {
        Self { messages: VecDeque::new(), inner, epoch, heard }
    }

    async fn next(&mut self) -> Result<Message<PublicKey>, <Self as Receiver>::Error> {
        let message = self.inner.recv().await?;
        self.heard.note(&message.0, self.epoch);
        Ok(message)
    }

    /// Keeps the next message that comes; answers who sent it, or nothing where none can come.
    async fn keep(&mut self) -> Option<PublicKey> {
        let message = self.next().await.ok()?;
        let from = message.0.clone();
        if self.messages.len() < self.inner.capacity().get() {
            self.messages.push_back(message);
        }
        Some(from)
    }
}

impl Receiver for Kept {
    type Error = <SubReceiver<PublicKey> as Receiver>::Error;
    type PublicKey = PublicKey;

    async fn recv(&mut self) -> Result<Message<PublicKey>, Self::Error> {
        match self.messages.pop_front() {
            Some(message) => Ok(message),
            None => self.next().await,
        }
    }

    fn capacity(&self) -> NonZeroUsize {
        self.inner.capacity()
    }
}

/// Both ends of an epoch's part of a channel.
type Part<S> = (SubSender<S>, SubReceiver<PublicKey>);

/// The parts of one epoch.
struct Parts<S: Sender> {
    votes: (SubSender<S>, Kept),
    certificates: Part<S>,
    resolver: Part<S>,
}

impl<S: Sender<PublicKey = PublicKey>> Channels<S> {
    /// Opens the parts of an epoch; nothing where the node is stopping.
    async fn open(&mut self, epoch: u64) -> Option<Parts<S>> {
        let (votes, from_peers) = self.votes.register(epoch).await.ok()?;
        Some(Parts {
            votes: (votes, Kept::new(from_peers, epoch, self.heard.clone())),
            certificates: self.certificates.register(epoch).await.ok()?,
            resolver: self.resolver.register(epoch).await.ok()?,
        })
    }
}

impl<E, B> Conductor<E, B>
where
    E: Clock + CryptoRng + Spawner + Storage + Metrics,
    B: Blocker<PublicKey = PublicKey>,
{
    /// Runs the engine of this epoch, then that of the next, and so on; ends when one of them does.
    pub(super) fn start<S, R>(
        mut self,
        context: Patient<E>,
        votes: (S, R),
        certificates: (S, R),
        resolver: (S, R),
    ) -> Handle<()>
    where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        let (mux, votes, early) =
            Muxer::builder(context.child("votes"), votes.0, votes.1).with_backup().build();
        mux.start();
        let (mux, certificates) =
            Muxer::new(context.child("certificates"), certificates.0, certificates.1);
        mux.start();
        let (mux, resolver) = Muxer::new(context.child("resolver"), resolver.0, resolver.1);
        mux.start();
        let heard = self.observer.heard();
        let mut channels = Channels { votes, certificates, resolver, heard: heard.clone() };
        let mut hints = Hints {
            terms: self.terms.clone(),
            marshal: self.marshal.clone(),
            next: BTreeMap::new(),
        };
        let turns = self.turns.clone();
        context.child("hints").spawn({
            let mut hints = hints.clone();
            async move |context: Patient<E>| {
                let mut early = early;
                while let Some((epoch, (from, _))) = early.recv().await {
                    heard.note(&from, epoch);
                    let own = turns.borrow().epoch;
                    if epoch > own {
                        hints.hint(own, from, context.current());
                    }
                }
            }
        });
        context.spawn(move |context| async move {
            let mut early: Option<(u64, Parts<S>)> = None;
            loop {
                let turn = *self.turns.borrow_and_update();
                self.forget(&context, turn.epoch).await;
                let parts = match early.take().filter(|(epoch, _)| *epoch == turn.epoch) {
                    Some((_, parts)) => Some(parts),
                    None => channels.open(turn.epoch).await,
                };
                let Some(parts) = parts else { return };
                let mut engine = self.engine(&context, turn, parts);
                let (turns, terms) = (&mut self.turns, self.terms.clone());
                let (channels, early) = (&mut channels, &mut early);
                let (clock, hints) = (&context, &mut hints);
                let next = async move {
                    // Others may turn first: what they send waits here for the engine.
                    let next = turn.epoch + 1;
                    let mut news = terms.subscribe();
                    while terms.settled() < next {
                        if news.changed().await.is_err() {
                            return false;
                        }
                    }
                    let Some(mut parts) = channels.open(next).await else { return false };
                    let is_next = loop {
                        commonware_macros::select! {
                            is_next = async {
                                turns.wait_for(|turn: &Turn| turn.epoch >= next).await.is_ok()
                            } => break is_next,
                            from = parts.votes.1.keep() => match from {
                                // Whoever votes there has the last block of this epoch.
                                Some(from) => hints.hint(turn.epoch, from, clock.current()),
                                None => break false,
                            },
                        }
                    };
                    *early = Some((next, parts));
                    is_next
                };
                commonware_macros::select! {
                    is_next = next => {
                        engine.abort();
                        // Nothing of it signs any more when the next one does.
                        let _ = (&mut engine).await;
                        if !is_next {
                            return;
                        }
                    },
                    _ = &mut engine => return,
                }
            }
        })
    }

    /// Starts the engine of an epoch.
    fn engine<S: Sender<PublicKey = PublicKey>>(
        &mut self,
        context: &Patient<E>,
        turn: Turn,
        parts: Parts<S>,
    ) -> Handle<()> {
        let Turn { epoch, after } = turn;
        let set = self.terms.set(epoch).expect("lanes turn to a set that is settled");
        let keys = scheme::keys(&set);
        let scheme = Scheme::signer(&self.namespace, keys.clone(), self.signer.clone(), epoch)
            .unwrap_or_else(|| Scheme::verifier(&self.namespace, keys));
        let newest = self.newest.clone().filter(|it| it.proposal.round.epoch().get() == epoch);
        let floor = newest.map_or(Floor::Genesis(engine_digest(after)), Floor::Finalized);
        let Parts { votes, certificates: (certificates, from_peers), resolver } = parts;
        let config = simplex::Config {
            scheme,
            elector: RoundRobin::<Sha256>::default(),
            blocker: self.blocker.clone(),
            automaton: self.callbacks.clone(),
            relay: self.callbacks.clone(),
            reporter: Reporters::from((self.callbacks.clone(), self.observer.clone())),
            partition: self.votes_of(epoch),
            mailbox_size: NZUsize!(MAILBOX),
            epoch: Epoch::new(epoch),
            floor,
            replay_buffer: NZUsize!(BUFFER_BYTES),
            write_buffer: NZUsize!(BUFFER_BYTES),
            page_cache: self.page_cache.clone(),
            leader_timeout: self.view_timeout,
            certification_timeout: self.view_timeout * 5 / 4,
            timeout_retry: self.view_timeout * 5 / 4,
            view_retention: ViewDelta::new(32),
            skip: SkipPolicy::Enabled {
                // Each turn of a leader that is away costs a view's time: after the first one or two,
                // in which nothing was heard from it, its turns are passed over.
                timeout: self.view_timeout * 3 / 2,
                budget: SkipBudget::Participants,
            },
            // Whoever does not answer within a view is asked last.
            fetch_timeout: NonZeroDuration::new(self.view_timeout).expect("a view takes time"),
            fetch_retry_delay: Duration::from_millis(100),
            forward: ForwardPolicy::SilentVoters,
            track_historical_votes: true,
            strategy: Sequential,
        };
        let (voter, pace) = (self.signer.clone(), PACE_MAX.min(self.view_timeout / 8));
        // Whoever only follows has nothing to say to all.
        let is_member = config.scheme.me().is_some();
        let mute: Mute = Arc::new(move || !is_member || voter.is_silent(epoch) || voter.is_quiet());
        let context = context.child("epoch").with_attribute("epoch", epoch);
        tracing::info!(epoch, validators = set.len(), "epoch");
        // All that it starts ends with this task.
        context.spawn(move |context| async move {
            let clock = context.child("clock");
            let certificates =
                Paced::start(context.child("paced"), clock, certificates, pace, mute);
            let engine = simplex::Engine::new(context.child("simplex"), config);
            let _ = engine.start(votes, (certificates, from_peers), resolver).await;
        })
    }

    fn votes_of(&self, epoch: u64) -> String {
        format!("{}-simplex-{epoch}", self.partition)
    }

    /// Removes the votes of the epoch before the last, and of what was left behind by catching up: the ledger is
    /// beyond it for good.
    async fn forget(&mut self, context: &Patient<E>, epoch: u64) {
        let first = epoch.min(self.oldest).saturating_sub(4);
        for old in first..epoch.saturating_sub(1) {
            // Most have been removed before.
            let _ = context.remove(&self.votes_of(old), None).await;
        }
        self.oldest = epoch;
    }
}

/// Asks for the last block of an epoch whoever is beyond it.
#[derive(Clone)]
struct Hints {
    terms: Terms,
    marshal: Marshal<Scheme, Standard<Block>>,
    /// When each may be asked next: one that sends much does not speak for the others.
    next: BTreeMap<PublicKey, SystemTime>,
}

impl Hints {
    /// Somebody is in a later epoch than this.
    fn hint(&mut self, epoch: u64, from: PublicKey, now: SystemTime) {
        // A clock that was set back must not keep it from asking.
        if self.next.get(&from).is_some_and(|next| now < *next && *next <= now + HINT) {
            return;
        }
        // Only whoever is connected is heard of: few at a time.
        self.next.retain(|_, next| now < *next && *next <= now + HINT);
        self.next.insert(from.clone(), now + HINT);
        let last = self.terms.epochs().last(epoch);
        self.marshal.hint_finalized(Height::new(last.get()), NonEmptyVec::new(from));
    }
}
