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

use crate::{record, signer::Signer, terms::Terms};
use ledger::{Ack, Batch, BatchHeader, Digest, ack_signing_message, batch::HEADER_BYTES};
use message::{Message, Name};
use std::collections::{BTreeMap, BTreeSet};
use storage::{Damaged, DamagedRecord, Store};

/// Without any piece in this time the next validator is asked.
const ANSWER_NS: u64 = 1_000_000_000;
/// A validator has so long for all that a group needs of it, whatever it sends meanwhile...
const PEER_NS: u64 = 5_000_000_000;
/// ... and so much longer for each record, and for each KiB: as fast as it may be asked, and slower.
const PEER_RECORD_NS: u64 = 40_000_000;
const PEER_KIB_NS: u64 = 2_000_000;
/// A group that no validator could help with is tried again after this time, then after twice as
/// much, and so on.
const AGAIN_NS: u64 = 2_000_000_000;
/// The longest such time.
const AGAIN_NS_MAX: u64 = 64_000_000_000;
/// Time between two questions to one validator: 50 a second, which its quota and share allow.
const QUESTION_NS: u64 = 20_000_000;
/// After a pause so many may follow each other at once.
const BURST: u64 = 25;
/// Questions about one group that may be unanswered at once.
const ASKED_MAX: usize = 8;
/// Groups that are worked on at once: each holds up to a few copies of itself in memory.
const JOBS_MAX: usize = 4;
/// Bodies kept for one record, from whoever sent different ones.
const CANDIDATES_MAX: usize = 4;
/// Choices of bodies that are tried before the next validator is asked: each costs a hash of the group.
const ATTEMPTS_MAX: usize = 256;

/// What the stage is given at start.
pub struct Config {
    /// Genesis digest.
    pub network: Digest,
    /// Who decides when.
    pub terms: Terms,
    /// Own index among those who are asked.
    pub me: u32,
    /// How many validators there are.
    pub validators: u32,
    /// Signs acks as they were signed before.
    pub signer: Signer,
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
    /// Bodies that came whole.
    received: u64,
}

/// A group under repair.
struct Job {
    damaged: Damaged,
    /// Bodies that others sent, for each record, the newest first.
    candidates: Vec<Vec<Vec<u8>>>,
    /// Validators asked so far; the next is chosen by it.
    asked: u32,
    /// The validator that is asked now.
    peer: u32,
    /// The record to be asked for next.
    at: usize,
    /// Records that are asked for, with what has come of each.
    partial: BTreeMap<usize, Vec<u8>>,
    /// When the validator counts as silent, and when its time is over.
    due: u64,
    over: u64,
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
            received: 0,
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

    /// How many bodies have come: whether it gets on.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Takes up damage that the store has noted, and asks on where nobody answers.
    pub fn tick(&mut self, now: u64) {
        let damaged: BTreeSet<_> = self.config.store.damaged().into_iter().collect();
        self.later.retain(|place, _| damaged.contains(place));
        self.jobs.retain(|place, _| damaged.contains(place));
        for place in damaged {
            let waits = self.later.get(&place).is_some_and(|(until, _)| now < *until);
            if self.jobs.len() < JOBS_MAX && !waits && !self.jobs.contains_key(&place) {
                self.begin(now, place);
            }
        }
        let silent =
            |(place, job): (&(u64, u64), &Job)| (now >= job.due.min(job.over)).then_some(*place);
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
        let (partial, due, over) = (BTreeMap::new(), 0, 0);
        let job = Job { candidates, damaged, asked: 0, peer: 0, at: 0, partial, due, over };
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
        // Jobs begin with different validators: one that is slow holds up one of them.
        let turn = u32::try_from((place.0 + place.1 / 4096) % u64::from(validators - 1));
        let turn = (job.asked - 1 + turn.expect("below 100")) % (validators - 1);
        job.peer = (me + 1 + turn) % validators;
        job.at = 0;
        job.partial.clear();
        let (records, kib) = (job.damaged.records.len() as u64, job.damaged.bytes / 1024);
        job.over = now + PEER_NS + records * PEER_RECORD_NS + kib * PEER_KIB_NS;
        job.due = now + ANSWER_NS;
        self.ask(now, place);
    }

    /// Asks for further records; tries when there are no more.
    fn ask(&mut self, now: u64, place: (u64, u64)) {
        let job = self.jobs.get_mut(&place).expect("the caller has seen it");
        let mut questions = Vec::new();
        while job.partial.len() < ASKED_MAX
            && let Some(it) = job.damaged.records.get(job.at)
        {
            // At first only for what does not prove itself.
            let proven = job.asked == 1 && proves_itself(it, &self.config.network);
            if name(it).is_shared() && !proven && it.bytes > 0 {
                job.partial.insert(job.at, Vec::new());
                questions.push(name(it));
            }
            job.at += 1;
        }
        let done = job.partial.is_empty();
        for name in questions {
            self.question(now, place, name, 0);
        }
        if done {
            self.next_peer(now, place);
        }
    }

    fn piece(&mut self, now: u64, from: u32, of: Name, (offset, total): (u32, u32), bytes: &[u8]) {
        let awaited = |(place, job): (&(u64, u64), &mut Job)| {
            if job.peer != from {
                return None;
            }
            let fits = |(at, partial): (&usize, &Vec<u8>)| {
                let is_next = partial.len() as u64 == u64::from(offset);
                (name(&job.damaged.records[*at]) == of && is_next).then_some((*place, *at))
            };
            job.partial.iter().find_map(fits)
        };
        let Some((place, at)) = self.jobs.iter_mut().find_map(awaited) else { return };
        let job = self.jobs.get_mut(&place).expect("found above");
        let wanted = job.damaged.records[at].bytes;
        // A piece is as long as it may be: nobody gains time by sending it byte by byte.
        let left = usize::try_from(total.saturating_sub(offset)).expect("32 bits");
        if total != wanted || bytes.len() != left.min(message::PIECE_BYTES_MAX) {
            // It has none, or another.
            job.partial.remove(&at);
            return self.ask(now, place);
        }
        job.due = now + ANSWER_NS;
        let partial = job.partial.get_mut(&at).expect("found above");
        partial.extend_from_slice(bytes);
        if partial.len() < wanted as usize {
            let next = u32::try_from(partial.len()).expect("less than the total");
            return self.question(now, place, of, next);
        }
        let body = job.partial.remove(&at).expect("found above");
        self.received += 1;
        // The newest first: what one validator sends is tried together.
        let candidates = &mut job.candidates[at];
        candidates.retain(|other| *other != body);
        candidates.truncate(CANDIDATES_MAX - 1);
        candidates.insert(0, body);
        self.ask(now, place);
    }

    /// Asks a job's validator, no faster than it answers.
    fn question(&mut self, now: u64, place: (u64, u64), name: Name, offset: u32) {
        let job = self.jobs.get_mut(&place).expect("the caller has seen it");
        let free = &mut self.free[job.peer as usize];
        *free = (*free).max(now.saturating_sub(BURST * QUESTION_NS)) + QUESTION_NS;
        let leaves = (*free).max(now);
        job.due = job.due.max(leaves + ANSWER_NS);
        self.outgoing.push((leaves, job.peer, Message::Ask(name, offset)));
    }

    /// Tries a group again later.
    fn put_off(&mut self, now: u64, place: (u64, u64)) {
        let (until, tries) = self.later.entry(place).or_default();
        *until = now + AGAIN_NS.saturating_mul(1 << (*tries).min(5)).min(AGAIN_NS_MAX);
        *tries += 1;
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

    /// Every body that a record may have had, the likeliest first, each once.
    fn choices(&self, job: &Job, at: usize) -> Vec<Vec<u8>> {
        let it = &job.damaged.records[at];
        let found = it.found.clone();
        let mut choices = Vec::new();
        let twin = match it.header.kind {
            record::CERTIFICATE => Some(record::CERTIFICATE_AGAIN),
            record::CERTIFICATE_AGAIN => Some(record::CERTIFICATE),
            _ => None,
        };
        if let Some(kind) = twin {
            // What others have is another certificate, most likely.
            choices.extend(self.stored(kind, it));
            choices.extend(found);
            let twins = job.damaged.records.iter().filter(|other| {
                other.header.kind == kind && other.header.height == it.header.height
            });
            choices.extend(twins.filter_map(|twin| twin.found.clone()));
            choices.extend(job.candidates[at].iter().cloned());
        } else {
            if it.header.kind == record::ACK {
                choices.extend(self.ack(job, it));
            }
            choices.extend(job.candidates[at].iter().cloned());
            choices.extend(found);
        }
        let mut once: Vec<Vec<u8>> = Vec::new();
        for choice in choices {
            if choice.len() == it.bytes as usize && !once.contains(&choice) {
                once.push(choice);
            }
        }
        once
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
        let Config { network, terms, signer, .. } = &self.config;
        let (epoch, lane, sequence) = (found.epoch, found.lane, found.sequence);
        let validator = terms.set(epoch)?.index_of(&signer.public())?;
        let message = ack_signing_message(network, epoch, lane, sequence, &digest);
        // It stood in the store, and the hash of its group says whether it is that one: nothing new is said.
        let signature = signer.plain(&message);
        let ack = Ack { epoch, lane, sequence, digest, validator, signature };
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
        let others = choices.iter().enumerate();
        let others = others.flat_map(|(at, choice)| choice[1..].iter().map(move |it| (at, it)));
        for (at, other) in others.take(ATTEMPTS_MAX) {
            bodies[at] = other;
            if let Some(done) = try_these(&bodies) {
                return Some(done);
            }
            bodies[at] = &choices[at][0];
        }
        let second: Vec<&[u8]> =
            choices.iter().map(|choice| choice.get(1).unwrap_or(&choice[0]).as_slice()).collect();
        try_these(&second)
    }
}

/// Whether a record that still reads is what its key says: a batch, all but its signature.
fn proves_itself(it: &DamagedRecord, network: &Digest) -> bool {
    it.header.kind == record::BATCH
        && it.found.as_ref().is_some_and(|found| {
            Batch::decode(found, network).is_ok_and(|batch| batch.digest().0 == it.header.key)
        })
}

fn name(it: &DamagedRecord) -> Name {
    let storage::RecordHeader { kind, height, key } = it.header;
    Name { kind, height, key }
}
