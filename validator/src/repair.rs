//! Repair: groups of the own store whose bytes went bad, put back with what other validators hold.
//!
//! ```text
//! scrub, or a reading ─▶ damaged group ─▶ its records, from the index ─▶ ask a validator for each
//!                    hash of the group ◀─ bodies: theirs, own acks signed again, what still reads
//!                         └─ right: written back, read back    └─ wrong: the next validator
//! ```
//!
//! Nobody is believed: a group is written only when its old hash comes out. A plain state machine
//! like the other stages: it reads and mends its own store, and never waits.

pub mod message;
mod serve;
#[cfg(test)]
mod tests;

use crate::record;
use ledger::{Ack, BatchHeader, Digest, Signature, ack_signing_message, batch::HEADER_BYTES};
use message::{Message, Name};
use std::collections::BTreeMap;
use storage::{Damaged, DamagedRecord, Store};

/// A question that is not answered in this time goes to the next validator.
const ANSWER_NS: u64 = 1_000_000_000;
/// A group that no validator could help with is tried again after this time, then after twice as
/// much, and so on.
const AGAIN_NS: u64 = 2_000_000_000;
/// The longest such time.
const AGAIN_NS_MAX: u64 = 64_000_000_000;
/// Time between two questions to one validator: 125 a second, which its quota and share allow.
const QUESTION_NS: u64 = 8_000_000;
/// After a pause so many may follow each other at once.
const BURST: u64 = 25;
/// Groups that are worked on at once: each holds up to a few copies of itself in memory.
const JOBS_MAX: usize = 4;
/// Bodies kept for one record, from whoever sent different ones.
const CANDIDATES_MAX: usize = 8;

/// Signs the 47-byte messages of this project with the validator's key.
pub type Sign = Box<dyn Fn(&[u8; 47]) -> Signature + Send>;

/// What the stage is given at start.
pub struct Config {
    /// Genesis digest.
    pub network: Digest,
    /// Epoch of the lanes.
    pub epoch: u64,
    /// Own index in the set.
    pub me: u32,
    /// How many validators there are.
    pub validators: u32,
    /// Signs acks as they were signed before.
    pub sign: Sign,
    /// The block store.
    pub store: Store,
}

/// The state machine.
pub struct Core {
    config: Config,
    jobs: BTreeMap<(u64, u64), Job>,
    /// When a group that could not be repaired is tried again, and how often it was tried.
    later: BTreeMap<(u64, u64), (u64, u32)>,
    serving: serve::Serving,
    /// Answers, and questions with the time from which they may leave.
    outgoing: Vec<(u64, u32, Message)>,
    /// When each validator may be asked next.
    free: Vec<u64>,
    /// Groups that no validator could help with, each time it was found out.
    failed: u64,
}

/// A group under repair.
struct Job {
    damaged: Damaged,
    /// Bodies that others sent, and those that can be made here, for each record.
    candidates: Vec<Vec<Vec<u8>>>,
    /// Validators asked so far; the next is chosen by it.
    asked: u32,
    /// The validator that is asked now.
    peer: u32,
    /// The record that is asked for now, and what has come of it.
    at: usize,
    partial: Vec<u8>,
    /// When the question counts as unanswered.
    due: u64,
}

impl Core {
    /// Starts with nothing to do.
    pub fn new(config: Config) -> Self {
        let validators = usize::try_from(config.validators).expect("at most 100 validators");
        Self {
            serving: serve::Serving::new(validators),
            free: vec![0; validators],
            config,
            jobs: BTreeMap::new(),
            later: BTreeMap::new(),
            outgoing: Vec::new(),
            failed: 0,
        }
    }

    /// Takes messages for other validators that may leave by now.
    pub fn take_outgoing(&mut self, now: u64) -> Vec<(u32, Message)> {
        let due = self.outgoing.extract_if(.., |(from, _, _)| *from <= now);
        due.map(|(_, to, message)| (to, message)).collect()
    }

    /// How often a group was given up for the time being.
    pub const fn failed(&self) -> u64 {
        self.failed
    }

    /// Takes up damage that the store has noted, and asks on where nobody answers.
    pub fn tick(&mut self, now: u64) {
        let damaged = self.config.store.damaged();
        self.later.retain(|place, _| damaged.contains(place));
        self.jobs.retain(|place, _| damaged.contains(place));
        for place in damaged {
            let waits = self.later.get(&place).is_some_and(|(until, _)| now < *until);
            if self.jobs.len() < JOBS_MAX && !waits && !self.jobs.contains_key(&place) {
                self.begin(now, place);
            }
        }
        let silent = |(place, job): (&(u64, u64), &Job)| (now >= job.due).then_some(*place);
        let silent: Vec<_> = self.jobs.iter().filter_map(silent).collect();
        for place in silent {
            self.next_peer(now, place);
        }
    }

    /// A message of another validator.
    ///
    /// Errors: it is none; whoever sent it is at fault.
    pub fn message(&mut self, now: u64, from: u32, bytes: &[u8]) -> Result<(), ledger::Reject> {
        match Message::decode(bytes)? {
            Message::Ask(name, offset) => {
                let store = &self.config.store;
                if let Some(answer) = self.serving.answer(now, store, from, name, offset) {
                    self.outgoing.push((now, from, answer));
                }
            }
            Message::Piece { name, offset, total, bytes } => {
                self.piece(now, from, name, (offset, total), &bytes);
            }
        }
        Ok(())
    }

    fn begin(&mut self, now: u64, place: (u64, u64)) {
        let damaged = match self.config.store.examine(place) {
            Ok(Some(damaged)) => damaged,
            // Its index is on its way to the disk, or damaged itself and next in turn.
            Ok(None) | Err(_) => return self.put_off(now, place),
        };
        tracing::warn!(segment = place.0, offset = place.1, "a stored group is damaged");
        let candidates = vec![Vec::new(); damaged.records.len()];
        let job =
            Job { candidates, damaged, asked: 0, peer: 0, at: 0, partial: Vec::new(), due: 0 };
        self.jobs.insert(place, job);
        // What is damaged in the frame alone needs nobody.
        self.next_peer(now, place);
    }

    /// Tries what there is, then asks the next validator for everything.
    fn next_peer(&mut self, now: u64, place: (u64, u64)) {
        if self.finish(now, place) {
            return;
        }
        let Config { me, validators, .. } = self.config;
        let job = self.jobs.get_mut(&place).expect("the caller has seen it");
        job.asked += 1;
        if job.asked >= validators {
            tracing::error!(
                segment = place.0,
                offset = place.1,
                "no validator could help to repair a damaged group; it is tried again later"
            );
            self.jobs.remove(&place);
            self.failed += 1;
            return self.put_off(now, place);
        }
        job.peer = (me + job.asked) % validators;
        job.at = 0;
        self.ask(now, place);
    }

    /// Asks for the next record that is asked for at all; after the last one tries.
    fn ask(&mut self, now: u64, place: (u64, u64)) {
        let job = self.jobs.get_mut(&place).expect("the caller has seen it");
        job.partial.clear();
        while let Some(it) = job.damaged.records.get(job.at) {
            let name = name(it);
            if name.is_shared() {
                return self.question(now, place, name, 0);
            }
            job.at += 1;
        }
        self.next_peer(now, place);
    }

    /// Asks a job's validator, no faster than it answers.
    fn question(&mut self, now: u64, place: (u64, u64), name: Name, offset: u32) {
        let job = self.jobs.get_mut(&place).expect("the caller has seen it");
        let free = &mut self.free[job.peer as usize];
        *free = (*free).max(now.saturating_sub(BURST * QUESTION_NS)) + QUESTION_NS;
        let leaves = (*free).max(now);
        job.due = leaves + ANSWER_NS;
        self.outgoing.push((leaves, job.peer, Message::Ask(name, offset)));
    }

    /// Tries a group again later.
    fn put_off(&mut self, now: u64, place: (u64, u64)) {
        let (until, tries) = self.later.entry(place).or_default();
        *until = now + AGAIN_NS.saturating_mul(1 << (*tries).min(5)).min(AGAIN_NS_MAX);
        *tries += 1;
    }

    fn piece(&mut self, now: u64, from: u32, of: Name, (offset, total): (u32, u32), bytes: &[u8]) {
        let awaited = |(place, job): (&(u64, u64), &mut Job)| {
            let it = job.damaged.records.get(job.at)?;
            let fits =
                job.peer == from && name(it) == of && job.partial.len() as u64 == u64::from(offset);
            fits.then_some(*place)
        };
        let Some(place) = self.jobs.iter_mut().find_map(awaited) else { return };
        let job = self.jobs.get_mut(&place).expect("found above");
        let wanted = job.damaged.records[job.at].bytes;
        let whole = if total == wanted && !bytes.is_empty() {
            job.partial.extend_from_slice(bytes);
            job.partial.len() as u64 == u64::from(total)
        } else {
            // It has none, or another: on to the next record.
            job.partial.clear();
            true
        };
        if whole {
            let body = std::mem::take(&mut job.partial);
            let candidates = &mut job.candidates[job.at];
            if body.len() == wanted as usize {
                // The newest first: what one validator sends is tried together.
                candidates.retain(|other| *other != body);
                candidates.truncate(CANDIDATES_MAX - 1);
                candidates.insert(0, body);
            }
            job.at += 1;
            self.ask(now, place);
        } else {
            let next = u32::try_from(job.partial.len()).expect("at most the total");
            self.question(now, place, of, next);
        }
    }

    /// Puts the group back if its bodies are known by now.
    fn finish(&mut self, now: u64, place: (u64, u64)) -> bool {
        let job = &self.jobs[&place];
        let choices: Vec<Vec<Vec<u8>>> =
            (0..job.damaged.records.len()).map(|at| self.choices(job, at)).collect();
        let Some(repaired) = self.attempt(&job.damaged, &choices) else { return false };
        self.jobs.remove(&place);
        match repaired {
            Ok(()) => {
                tracing::info!(segment = place.0, offset = place.1, "a stored group is repaired")
            }
            Err(error) => {
                tracing::error!(%error, "a damaged group cannot be written again");
                self.put_off(now, place);
            }
        }
        true
    }

    /// Every body that a record may have had, the likeliest first.
    fn choices(&self, job: &Job, at: usize) -> Vec<Vec<u8>> {
        let it = &job.damaged.records[at];
        let mut others = job.candidates[at].clone();
        match it.header.kind {
            record::ACK => others.extend(self.ack(job, it)),
            record::CERTIFICATE => others.extend(self.stored(record::CERTIFICATE_AGAIN, it)),
            record::CERTIFICATE_AGAIN => others.extend(self.stored(record::CERTIFICATE, it)),
            _ => {}
        }
        let found = it.found.clone();
        // Most of a group still reads as it was; what others have as well comes from them.
        let own_first = matches!(it.header.kind, record::CERTIFICATE | record::CERTIFICATE_AGAIN);
        if own_first {
            found.into_iter().chain(others).collect()
        } else {
            others.into_iter().chain(found).collect()
        }
    }

    /// The own ack of a batch, signed again.
    fn ack(&self, job: &Job, it: &DamagedRecord) -> Option<Vec<u8>> {
        let digest = Digest(it.header.key);
        let here = job.damaged.records.iter().position(|other| {
            other.header.kind == record::BATCH && other.header.key == it.header.key
        });
        let header = |body: &[u8]| {
            let header = BatchHeader::decode(body.get(..HEADER_BYTES)?).ok()?;
            (header.digest() == digest).then_some(header)
        };
        let bodies = here.into_iter().flat_map(|at| {
            let found = job.damaged.records[at].found.iter();
            job.candidates[at].iter().chain(found)
        });
        let found = bodies.map(Vec::as_slice).find_map(header).or_else(|| {
            let store = &self.config.store;
            let place = store.find(record::BATCH, digest.as_bytes())?;
            header(&store.read(place).ok()?)
        })?;
        let Config { network, epoch, me, sign, .. } = &self.config;
        let (lane, sequence) = (found.lane, found.sequence);
        let message = ack_signing_message(network, *epoch, lane, sequence, &digest);
        let signature = sign(&message);
        let ack = Ack { epoch: *epoch, lane, sequence, digest, validator: *me, signature };
        Some(ack.encode().to_vec())
    }

    /// The same body under another kind, from elsewhere in the store.
    fn stored(&self, kind: u8, it: &DamagedRecord) -> Option<Vec<u8>> {
        let place = self.config.store.at_height(kind, it.header.height)?;
        self.config.store.read(place).ok()
    }

    /// Tries the likeliest bodies, then with each other choice of one record, then every second
    /// choice; none where nothing gives the group's hash.
    fn attempt(
        &self,
        damaged: &Damaged,
        choices: &[Vec<Vec<u8>>],
    ) -> Option<Result<(), storage::Error>> {
        if choices.iter().any(Vec::is_empty) {
            return None;
        }
        let try_these = |bodies: &[&[u8]]| match self.config.store.repair(damaged, bodies) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
        let mut bodies: Vec<&[u8]> = choices.iter().map(|choice| choice[0].as_slice()).collect();
        if let Some(done) = try_these(&bodies) {
            return Some(done);
        }
        for (at, choice) in choices.iter().enumerate() {
            for other in &choice[1..] {
                bodies[at] = other;
                if let Some(done) = try_these(&bodies) {
                    return Some(done);
                }
            }
            bodies[at] = &choice[0];
        }
        let second: Vec<&[u8]> =
            choices.iter().map(|choice| choice.get(1).unwrap_or(&choice[0]).as_slice()).collect();
        try_these(&second)
    }
}

fn name(it: &DamagedRecord) -> Name {
    let storage::RecordHeader { kind, height, key } = it.header;
    Name { kind, height, key }
}
