//! The lane stage: own batches, others' batches, acks, availability certificates, fetching.
//!
//! ```text
//! transactions ─▶ own: seal ─▶ durable ─▶ batch to all ─▶ acks ─▶ certificate to all ──┐
//! peer's batch ─▶ window ─▶ verify stage ─▶ pool ─▶ link ─▶ durable ─▶ ack             ├▶ consensus
//! peer's certificate ─────────────────────────────────────────────────▶ newest of lane ┘
//! finalized cut ─▶ resolve: walk each lane from its tip to the last one, fetch what is missing
//!               ─▶ cut and batches, in order of height, to the execute stage
//! ```
//!
//! A plain state machine: bytes and time in, [`Action`]s out. It signs, and reads its own store;
//! it never waits. Whatever must be durable first comes back through [`Core::durable`].

mod hold;
mod own;
mod pace;
mod resolve;
mod serve;
#[cfg(test)]
mod tests;
mod turn;

use crate::{
    cost::Meter,
    held::{Held, SharedBytes},
    message::{Control, Request},
    record,
    signer::{LanePlace, Marks, Signer, Statement},
    stage::evidence::Witness,
    terms::Terms,
};
use ledger::{
    Ack, AvailabilityCertificate, BatchHeader, Cut, Digest, Evidence, Finality, Height, Offence,
    PublicKey, Signature, Signatures, SignedHeader, Tip, Tips, ValidatorSet,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use storage::{Body, Record};

pub use resolve::{Finalized, Ready};

use pace::Pace;
use turn::{Early, peers};

/// Batches of one lane above its finalized tip that are held: with full batches 32 MiB a lane.
pub const WINDOW_BATCHES: u64 = 512;
/// Bytes of one lane above its finalized tip that are held.
pub const WINDOW_BYTES: usize = 32 * 1024 * 1024;
/// Own batches above the finalized tip: less than the window, since others' tips may lag ours.
pub const OWN_BATCHES_MAX: usize = 256;
/// Own bytes above the finalized tip.
pub const OWN_BYTES_MAX: usize = WINDOW_BYTES / 2;
/// Verified transactions that wait for a place in a batch, in bytes; beyond it ingest refuses.
pub const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// An unanswered batch, certificate or request is sent again after this time.
const RETRY_NS: u64 = 400_000_000;
/// After an epoch's last block it is looked so often whether that is stored.
const TURN_NS: u64 = 5_000_000;
/// How long a validator that left a request unanswered is asked last.
const SILENT_NS: u64 = 10_000_000_000;
/// How long nothing is taken from a validator that sent what no honest one sends.
const MUTE_NS: u64 = 10_000_000_000;

/// Time for which a validator may tell one piece of evidence, and how many it may tell at once.
const EVIDENCE_NS: u64 = 250_000_000;
const EVIDENCE_BURST: u64 = 64;

/// Who is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Every other validator.
    All,
    /// The validator with this index.
    One(u32),
}

/// Why a validator is blamed; counted, and the message dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message that does not decode.
    Malformed,
    /// A batch with a bad signature, its owner's or a transaction's.
    BadBatch,
    /// An ack or certificate with a bad signature.
    BadAck,
    /// Two batches for one place in a lane.
    Fork,
    /// A batch or ack that nobody asked for: another's lane, or outside the window.
    Unasked,
}

impl Fault {
    /// The stable name, a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadBatch => "bad_batch",
            Self::BadAck => "bad_ack",
            Self::Fork => "fork",
            Self::Unasked => "unasked",
        }
    }
}

/// What the shell must do for the core, in this order.
pub enum Action {
    /// Send a small message.
    Send(To, Control),
    /// Send a batch.
    SendBatch(To, Arc<Held>),
    /// Send a batch to one validator as the store has it.
    SendStored(u32, Vec<u8>),
    /// Have the verify stage check form and signatures of a batch that came from a validator.
    Verify(Unverified),
    /// Write records; when they are durable call [`Core::durable`] with the second part.
    Append(Vec<Record>, Durable),
    /// A newer certificate of a lane, for the next cut.
    Certified(Arc<AvailabilityCertificate>),
    /// A finalized cut with all that it needs.
    Execute(Box<Ready>),
    /// Count a fault of a validator.
    Blame(u32, Fault),
    /// A validator may be proved to misbehave: who keeps evidence checks that.
    Accuse(Witness),
}

/// A batch on its way through the verify stage.
pub struct Unverified {
    /// Who sent it.
    pub from: u32,
    /// Digest of its header.
    pub digest: Digest,
    /// Key of the lane's owner.
    pub owner: PublicKey,
    /// Header, signature and body.
    pub bytes: Vec<u8>,
}

/// What a completed append was for.
pub enum Durable {
    /// The own batch of this epoch and sequence, with the own ack.
    Own(u64, u64),
    /// Acks that may now leave.
    Acks(Vec<Ack>),
    /// Nothing waits for it.
    Batch,
}

/// What the stage is given at start.
pub struct Config {
    /// Genesis digest.
    pub network: Digest,
    /// Who decides when.
    pub terms: Terms,
    /// A transaction waits at most this long for its batch, in nanoseconds.
    pub batch_delay_ns: u64,
    /// Signs batches and acks.
    pub signer: Signer,
    /// Judges signatures.
    pub signatures: Arc<dyn Signatures>,
    /// Batches of the past.
    pub store: storage::Store,
    /// Bytes of verified transactions on their way into batches; raised by admission.
    pub waiting_bytes: Arc<AtomicUsize>,
    /// Counts costs.
    pub meter: Meter,
}

/// What recovery found above the executed tips.
#[derive(Default)]
pub struct Recovered {
    /// What this validator acknowledged, by lane and sequence.
    pub acked: BTreeMap<u32, BTreeMap<u64, Digest>>,
    /// Batches that are durable and not yet finalized.
    pub held: Vec<Arc<Held>>,
}

/// What is known of one lane.
struct Lane {
    /// Newest tip whose cut went to execution.
    committed: Tip,
    /// Newest place acknowledged: every batch up to it is held and durable or about to be.
    acked: Tip,
    /// The digests acknowledged above the committed tip.
    acks: BTreeMap<u64, Digest>,
    /// Newest place whose ack is durable and may be repeated.
    acks_durable: u64,
    /// Held batches above the committed tip: more than one digest at a place is a fork.
    places: BTreeMap<u64, Vec<Digest>>,
    /// Bytes of the held batches.
    bytes: usize,
    /// Newest certificate known.
    certificate: Option<Arc<AvailabilityCertificate>>,
    /// Newest place of which a fork was seen.
    forked: u64,
}

impl Lane {
    fn new(tip: &Tip) -> Self {
        Self {
            committed: *tip,
            acked: *tip,
            acks: BTreeMap::new(),
            acks_durable: tip.sequence,
            places: BTreeMap::new(),
            bytes: 0,
            certificate: None,
            forked: 0,
        }
    }
}

/// A batch in the verify stage.
struct Verifying {
    from: u32,
    bytes: usize,
}

/// The state machine.
pub struct Core {
    config: Config,
    /// Epoch of the lanes, its validators, and the own index among them, if this is one of them.
    epoch: u64,
    set: Arc<ValidatorSet>,
    me: Option<u32>,
    /// The validators, and behind them others who may ask for batches: what `u32` of a message means.
    peers: Vec<PublicKey>,
    /// The last block of the epoch, once it was handed on: what follows waits for the turn.
    ended: Option<(Height, Digest)>,
    /// What came of the next epoch, with who sent it.
    early: Vec<(PublicKey, Early)>,
    own: own::Own,
    lanes: Vec<Lane>,
    pool: HashMap<Digest, Arc<Held>>,
    verifying: HashMap<Digest, Verifying>,
    wanted: HashMap<Digest, resolve::Want>,
    queue: VecDeque<resolve::Pending>,
    /// Tips after the newest cut of the queue.
    queued_tips: Tips,
    serving: serve::Serving,
    /// Newest executed sequence of each lane: windows are measured from it, so that a lane of junk,
    /// whose execution is slow, cannot commit faster than it is executed.
    executed: Vec<u64>,
    /// Until when others are asked first: this one did not answer.
    silent: Vec<u64>,
    /// Until when nothing is taken from a validator that sent what no honest one sends.
    muted: Vec<u64>,
    /// Until when each validator has used up what it may tell of others.
    told: Vec<u64>,
    /// Where what was signed in each lane is forgotten: nothing is signed before finalized tips are above it.
    floor: Marks,
    /// The newest time that was told.
    now: u64,
    actions: Vec<Action>,
}

impl Core {
    /// Starts above the committed tips with what recovery found.
    ///
    /// `epoch` is that of the next height.
    pub fn new(config: Config, epoch: u64, committed: Tips, recovered: Recovered) -> Self {
        let set = config.terms.set(epoch).expect("the chain was executed up to this epoch");
        let lanes: Vec<Lane> = committed.0.iter().map(Lane::new).collect();
        assert_eq!(lanes.len(), set.len(), "one lane for every validator");
        let peers = peers(&set, &config.terms);
        let mut core = Self {
            serving: serve::Serving::new(peers.len()),
            executed: committed.0.iter().map(|tip| tip.sequence).collect(),
            silent: vec![0; peers.len()],
            muted: vec![0; peers.len()],
            told: vec![0; peers.len()],
            floor: config.signer.floor(epoch),
            epoch,
            me: set.index_of(&config.signer.public()),
            set,
            peers,
            ended: None,
            early: Vec::new(),
            now: 0,
            own: own::Own::new(),
            lanes,
            pool: HashMap::new(),
            verifying: HashMap::new(),
            wanted: HashMap::new(),
            queue: VecDeque::new(),
            queued_tips: committed,
            actions: Vec::new(),
            config,
        };
        core.recover(recovered);
        core
    }

    fn recover(&mut self, recovered: Recovered) {
        for held in recovered.held {
            self.insert(held);
        }
        for (index, acks) in recovered.acked {
            let lane = &mut self.lanes[index as usize];
            lane.acks = acks.into_iter().filter(|ack| ack.0 > lane.committed.sequence).collect();
            if let Some((&sequence, &digest)) = lane.acks.last_key_value() {
                lane.acked = Tip { sequence, digest };
                lane.acks_durable = sequence;
            }
        }
        self.own_recover();
        for index in 0..self.lanes.len() {
            self.relink(index);
        }
    }

    /// Execution of an epoch has come this far: the windows move.
    pub fn executed(&mut self, epoch: u64, tips: &Tips) {
        if epoch != self.epoch {
            return;
        }
        for (index, tip) in tips.0.iter().enumerate() {
            if tip.sequence > self.executed[index] {
                self.executed[index] = tip.sequence;
                self.relink(index);
            }
        }
    }

    /// What counts its costs.
    pub const fn meter(&self) -> Meter {
        self.config.meter
    }

    /// Takes what is to be done.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// A message of the control channel.
    pub fn control(&mut self, now: u64, from: u32, bytes: &[u8]) {
        if self.is_muted(now, from) {
            return;
        }
        match Control::decode(bytes) {
            Ok(Control::Request(request)) => self.serve(from, request),
            // Guests follow, and have no say.
            Ok(_) if !self.is_member(from) => {}
            Ok(Control::Ack(ack)) => self.own_ack(from, &ack),
            Ok(Control::Certificate(certificate)) => self.certificate(now, from, certificate),
            Ok(Control::Evidence(bytes)) => self.evidence(now, from, bytes),
            Err(_) => self.blame(from, Fault::Malformed),
        }
    }

    /// An append is durable.
    pub fn durable(&mut self, now: u64, what: Durable) {
        match what {
            Durable::Own(epoch, sequence) if epoch == self.epoch => self.own_durable(now, sequence),
            Durable::Own(..) => {}
            Durable::Acks(acks) => {
                // Those of an epoch that is over are of no use to anybody.
                for ack in acks.into_iter().filter(|ack| ack.epoch == self.epoch) {
                    let owner = ack.lane;
                    let lane = &mut self.lanes[owner as usize];
                    lane.acks_durable = lane.acks_durable.max(ack.sequence);
                    self.actions.push(Action::Send(To::One(owner), Control::Ack(ack)));
                }
            }
            Durable::Batch => {}
        }
    }

    /// Time passes: seals what waited long enough and repeats what was not answered.
    pub fn tick(&mut self, now: u64) {
        self.now = now;
        self.serve_tick(now);
        self.own_tick(now);
        self.fetch_tick(now);
    }

    /// When [`Core::tick`] is due next, if nothing else happens.
    pub fn deadline(&self, now: u64) -> u64 {
        // The disk does not wake whoever waits for the turn.
        let idle = now + if self.ended.is_some() { TURN_NS } else { RETRY_NS };
        self.own_deadline().min(self.fetch_deadline()).min(self.serve_deadline()).clamp(now, idle)
    }

    /// Newest own place, newest certified and newest committed one, for the status page.
    pub fn positions(&self) -> Vec<(u64, u64, u64)> {
        let certified = |lane: &Lane| lane.certificate.as_ref().map_or(0, |c| c.sequence);
        let position = |lane: &Lane| {
            (
                lane.acked.sequence,
                certified(lane).max(lane.committed.sequence),
                lane.committed.sequence,
            )
        };
        self.lanes.iter().map(position).collect()
    }

    /// Bytes of batches held in memory.
    pub fn held_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.bytes).sum()
    }

    fn blame(&mut self, validator: u32, fault: Fault) {
        // What honest validators never send costs its sender a hearing; the rest is only counted.
        if matches!(fault, Fault::Malformed | Fault::BadBatch | Fault::BadAck) {
            self.muted[validator as usize] = self.now + MUTE_NS;
        }
        self.actions.push(Action::Blame(validator, fault));
    }

    /// Whether nothing is taken from this validator now.
    fn is_muted(&mut self, now: u64, validator: u32) -> bool {
        self.now = now;
        now < self.muted[validator as usize]
    }

    /// Whether anything may be signed for this lane: not below what is forgotten, since it may contradict that.
    ///
    /// Not even above it on top of what is not final: whoever certifies a batch certifies all before it.
    fn may_sign(&self, lane: u32) -> bool {
        self.me.is_some()
            && !self.config.signer.is_silent(self.epoch)
            && self.lanes[lane as usize].committed.sequence >= self.floor.lane(lane)
    }

    /// Whether the own lane takes transactions.
    pub fn is_open(&self) -> bool {
        self.me.is_some_and(|me| self.may_sign(me))
    }

    fn lane_of(&self, index: u32) -> Option<&Lane> {
        self.lanes.get(index as usize)
    }

    /// A held batch, from memory or from the own store.
    fn find(&self, digest: &Digest) -> Option<Arc<Held>> {
        if let Some(held) = self.pool.get(digest) {
            return Some(held.clone());
        }
        let place = self.config.store.find(record::BATCH, digest.as_bytes())?;
        let bytes = self.config.store.read(place).ok()?;
        let held = Held::decode(bytes, &self.config.network).ok()?;
        (held.digest() == *digest).then(|| Arc::new(held))
    }

    /// Puts a verified batch into the pool.
    fn insert(&mut self, held: Arc<Held>) {
        let (sequence, digest) = (held.header().sequence, held.digest());
        let lane = &mut self.lanes[held.header().lane as usize];
        if sequence <= lane.committed.sequence || self.pool.contains_key(&digest) {
            return;
        }
        let places = lane.places.entry(sequence).or_default();
        let other = places.first().copied();
        places.push(digest);
        lane.bytes += held.size();
        if let Some(other) = other {
            self.accuse_fork(&other, *held.header(), held.batch().signature());
        }
        self.pool.insert(digest, held);
    }

    /// A validator tells evidence: an honest one does so some times at once, and then once in a while.
    fn evidence(&mut self, now: u64, from: u32, bytes: Vec<u8>) {
        let told = &mut self.told[from as usize];
        if *told > now + EVIDENCE_BURST * EVIDENCE_NS {
            return self.blame(from, Fault::Unasked);
        }
        *told = now.max(*told) + EVIDENCE_NS;
        self.actions.push(Action::Accuse(Witness::Told(bytes)));
    }

    /// A batch stands where a held one does. Of one place once: whoever forks may do so without end.
    fn accuse_fork(&mut self, held: &Digest, header: BatchHeader, signature: Signature) {
        let forked = &mut self.lanes[header.lane as usize].forked;
        if *forked >= header.sequence {
            return;
        }
        let Some(held) = self.pool.get(held) else { return };
        *forked = header.sequence;
        let one = SignedHeader { header: *held.header(), signature: held.batch().signature() };
        let batches = Box::new([one, SignedHeader { header, signature }]);
        self.accuse(header.lane, Offence::Fork(batches));
    }

    /// A validator acknowledged what it must not, beside what it has acknowledged.
    fn accuse_ack(&mut self, one: &Ack, other: &Ack) {
        let Ack { lane, sequence, validator, .. } = *one;
        let acks = [one, other].map(|ack| (ack.digest, ack.signature));
        self.accuse(validator, Offence::Ack { lane, sequence, acks });
    }

    fn accuse(&mut self, validator: u32, offence: Offence) {
        let evidence = Evidence::new(self.config.network, self.epoch, validator, offence);
        self.actions.push(Action::Accuse(Witness::Found(Box::new(evidence))));
    }

    /// Forgets the batches of a lane up to its committed tip; the store has them.
    fn forget(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        lane.acks = lane.acks.split_off(&(lane.committed.sequence + 1));
        let above = lane.places.split_off(&(lane.committed.sequence + 1));
        for digest in std::mem::replace(&mut lane.places, above).into_values().flatten() {
            if let Some(held) = self.pool.remove(&digest) {
                lane.bytes -= held.size();
            }
        }
    }

    fn request(&mut self, to: u32, lane: u32, digest: Digest, floor: u64) {
        let count = crate::message::REQUEST_BATCHES_MAX;
        let request = Control::Request(Request { lane, digest, floor, count });
        self.actions.push(Action::Send(To::One(to), request));
    }

    fn sign_ack(&self, lane: u32, tip: &Tip) -> Ack {
        let Config { network, signer, .. } = &self.config;
        let validator = self.me.expect("whoever is no validator signs nothing");
        let (epoch, Tip { sequence, digest }) = (self.epoch, *tip);
        let message = ledger::ack_signing_message(network, epoch, lane, sequence, &digest);
        let place = LanePlace { epoch, lane, sequence, digest };
        let signature = signer.place(Statement::Ack, &place, &message);
        Ack { epoch, lane, sequence, digest, validator, signature }
    }
}

fn ack_record(ack: &Ack) -> Record {
    Record {
        kind: record::ACK,
        height: record::lane_height(ack.epoch, ack.lane, ack.sequence),
        key: *ack.digest.as_bytes(),
        body: ack.encode().to_vec().into(),
    }
}

/// The record of a batch.
pub(crate) fn batch_record(held: &Arc<Held>) -> Record {
    let body = Body::new(SharedBytes(held.clone()));
    let header = held.header();
    let height = record::lane_height(header.epoch, header.lane, header.sequence);
    Record { kind: record::BATCH, height, key: *held.digest().as_bytes(), body }
}

/// Certificate of a finalized cut, if it has its own.
pub type Certificate = Option<Finality>;

/// A cut shared between the engine and the stages.
pub type SharedCut = Arc<Cut>;

/// Lowers the count of waiting bytes; it cannot underflow, since admission raised it before.
fn lower(waiting: &AtomicUsize, bytes: usize) {
    let before = waiting.fetch_sub(bytes, Ordering::Relaxed);
    assert!(before >= bytes, "waiting bytes were counted before they came");
}
