//! The decisions of the load as a plain state machine: time, answers and signed transactions in,
//! actions out.

mod echoes;
mod hostile;
mod ready;
mod refused;
mod timers;

use super::report::{Lateness, Measured};
use super::{Acknowledged, Counts, LATE_MAX, Latency, Snapshot, TargetSnapshot};
use crate::client::author::Turn;
use crate::client::workload::{Class, Share, Treatment};
use crate::handle::Answer;
use echoes::Echoes;
use ledger::{Digest, Keyed};
use ready::Ready;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use timers::Timers;

/// Microseconds since the first transaction was due.
pub(super) type Micros = u64;

/// Without an answer for this long, another validator is asked.
const ANSWER_TIME: Micros = 2_000_000;
/// Accepted but not final for this long: another validator is asked. Longer, since asking twice adds
/// to the load of validators that are slow because of it.
const FINAL_TIME: Micros = 10_000_000;
/// A validator that is behind is asked again after this time at least.
const BEHIND_TIME: Micros = 100_000;
/// While no validator is connected, what is under way is looked at this often.
const OFFLINE_TIME: Micros = 200_000;
/// A transaction is signed again for another place in its author's chain this often at most.
const RESIGNED_MAX: u8 = 3;

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Sign the author's transaction for a place, and give it back by [`Core::signed`].
    Sign { author: u32, turn: Turn },
    /// Send these bytes; those with a wrong signature over the connection, since a session ends by one.
    Submit { target: usize, id: Digest, bytes: Arc<[u8]>, is_invalid: bool },
    /// Ask for news of a transaction.
    Watch { target: usize, id: Digest },
}

/// A transaction that can leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) author: u32,
    pub(super) id: Digest,
    pub(super) bytes: Arc<[u8]>,
    pub(super) class: Class,
}

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Transactions a second.
    pub(super) rate: u64,
    /// Transactions to offer in all.
    pub(super) offers: u64,
    /// Authors that take turns.
    pub(super) authors: u32,
    /// Those that begin; another one begins when one will never be taken again.
    pub(super) beginning: u32,
    /// The first ones, which send more than others.
    pub(super) hot_authors: u32,
    /// The share that they send.
    pub(super) hot_share: Share,
    /// Validators.
    pub(super) targets: usize,
}

struct Author {
    turn: Turn,
    /// Whether its place in its chain is known from a final transaction.
    is_settled: bool,
    /// Set while a transaction is signed again for an offer that was made.
    reoffer: Option<Offer>,
}

/// A place in the schedule that a transaction fills.
#[derive(Clone, Copy)]
struct Offer {
    intended: Micros,
    resigned: u8,
}

struct Flight {
    signed: Signed,
    offer: Offer,
    target: usize,
    /// Where a copy went at the same time, until that validator refuses it or is asked like any other.
    second: Option<usize>,
    /// Whether there was one.
    is_doubled: bool,
    attempts: u32,
    /// Who took it first.
    taken_by: Option<usize>,
    /// Whether some validator took it: it may become final whatever others say.
    is_accepted: bool,
    /// Whether the validator that was asked last has answered.
    is_answered: bool,
    /// When to look at it again; other timers of it are old.
    due: Micros,
}

struct Target {
    is_connected: bool,
    /// Whether its connection has no room: it takes no more for now.
    is_full: bool,
    last_final: Micros,
    longest_pause: Micros,
}

/// Why transactions leave late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The generator's own thread came late.
    Schedule,
    /// Signing is behind.
    Signing,
    /// Every author waits for a validator.
    Authors,
    /// No validator is connected.
    Offline,
}

/// Everything that the load knows.
pub(super) struct Core {
    rate: u64,
    /// Transactions to offer in all.
    offers: u64,
    authors: Vec<Author>,
    /// The next author that begins.
    beginner: u32,
    hot_share: Share,
    ready: Ready,
    signing: usize,
    /// Offers whose transaction is being signed again.
    reoffers: usize,
    flights: HashMap<Digest, Flight, Keyed>,
    timers: Timers,
    echoes: Echoes,
    targets: Vec<Target>,
    counts: Counts,
    measured: Measured,
    lateness: Lateness,
    cause: Cause,
    actions: Vec<Action>,
    last_snapshot: Micros,
    is_closed: bool,
}

impl Core {
    /// Starts with every author at the first place of its chain.
    pub(super) fn new(setup: Setup) -> Self {
        let author = || Author { turn: Turn::FIRST, is_settled: false, reoffer: None };
        let target =
            || Target { is_connected: false, is_full: false, last_final: 0, longest_pause: 0 };
        let mut core = Self {
            rate: setup.rate,
            offers: setup.offers,
            authors: (0..setup.authors).map(|_| author()).collect(),
            beginner: 0,
            hot_share: setup.hot_share,
            ready: Ready::new(setup.hot_authors),
            signing: 0,
            reoffers: 0,
            flights: HashMap::default(),
            timers: Timers::default(),
            echoes: Echoes::default(),
            targets: (0..setup.targets).map(|_| target()).collect(),
            counts: Counts::default(),
            measured: Measured::new(),
            lateness: Lateness::default(),
            cause: Cause::Schedule,
            actions: Vec::new(),
            last_snapshot: 0,
            is_closed: false,
        };
        for _ in 0..setup.beginning {
            core.begin();
        }
        core
    }

    /// Returns what is to be done, once.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Returns how many transactions are being signed.
    pub(super) fn signing(&self) -> usize {
        self.signing
    }

    /// Returns whether a validator is connected.
    pub(super) fn is_online(&self) -> bool {
        self.targets.iter().any(|target| target.is_connected)
    }

    /// Returns whether nothing is under way and nothing will leave any more.
    pub(super) fn is_done(&self) -> bool {
        (self.is_closed || self.counts.sent == self.offers)
            && self.flights.is_empty()
            && self.reoffers == 0
    }

    /// Returns how many transactions are final.
    pub(super) fn finalized_total(&self) -> u64 {
        self.counts.finalized_total()
    }

    /// A connection was made.
    pub(super) fn connected(&mut self, target: usize, now: Micros) {
        self.targets[target].is_connected = true;
        self.targets[target].last_final = now;
    }

    /// A connection broke: what was sent over it goes to another validator.
    pub(super) fn disconnected(&mut self, target: usize, now: Micros) {
        self.targets[target].is_connected = false;
        for flight in self.flights.values_mut() {
            // A copy that went there is as if it had never been sent.
            flight.second = flight.second.filter(|second| *second != target);
        }
        let mut orphans: Vec<Digest> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.target == target)
            .map(|(id, _)| *id)
            .collect();
        // A map's order differs from run to run.
        orphans.sort_unstable();
        for id in orphans {
            self.resubmit(&id, now);
        }
    }

    /// The connection to a validator has room for more, or none.
    pub(super) fn set_full(&mut self, target: usize, is_full: bool) {
        self.targets[target].is_full = is_full;
    }

    /// A transaction was signed.
    pub(super) fn signed(&mut self, signed: Signed, now: Micros) {
        self.signing -= 1;
        match self.authors[place(signed.author)].reoffer.take() {
            None => self.ready.push(signed),
            Some(offer) => {
                self.reoffers -= 1;
                self.launch(signed, offer, now);
            }
        }
    }

    /// Sends what is due and looks after what is under way.
    pub(super) fn step(&mut self, now: Micros) {
        while let Some(intended) = self.next_intended().filter(|intended| *intended <= now) {
            if self.is_closed {
                break;
            }
            if !self.is_online() {
                self.cause = Cause::Offline;
                break;
            }
            let wants_hot = self.hot_share.takes(self.counts.sent);
            let Some(signed) = self.ready.pop(wants_hot) else {
                // Whoever has most of the authors is the one who is slow.
                let is_signing = self.signing > self.flights.len();
                self.cause = if is_signing { Cause::Signing } else { Cause::Authors };
                break;
            };
            self.measure_lateness(now - intended);
            self.counts.sent += 1;
            let target = self.connected_from(place(signed.author) % self.targets.len());
            if target.is_some_and(|target| self.targets[target].is_full) {
                // Refused without a word: the author has it for its next turn.
                self.counts.held_back += 1;
                self.ready.push(signed);
                continue;
            }
            self.counts.kinds.by_hot_authors += u64::from(self.ready.is_hot(signed.author));
            self.launch(signed, Offer { intended, resigned: 0 }, now);
        }
        while let Some((due, id)) = self.timers.pop(now) {
            if self.flights.get(&id).is_some_and(|flight| flight.due == due) {
                self.resubmit(&id, now);
            }
        }
    }

    /// Returns when [`Core::step`] has something to do at the latest.
    pub(super) fn next_step(&self) -> Option<Micros> {
        let offer = self.next_intended().filter(|_| !self.is_closed);
        [offer, self.timers.next()].into_iter().flatten().min()
    }

    /// A validator answered.
    ///
    /// Shape: returns what it acknowledged as final, if it did.
    pub(super) fn answered(
        &mut self,
        target: usize,
        answer: Answer,
        now: Micros,
    ) -> Option<Acknowledged> {
        match answer {
            Answer::Accepted { id } => self.accepted(&id, target, now),
            Answer::Unknown { id } => {
                if let Some(flight) = self.flights.get_mut(&id) {
                    flight.is_answered = true;
                }
            }
            Answer::Refused { id, refusal, expected, retry_ms } => {
                self.refused(&id, target, refusal, expected, retry_ms, now);
            }
            Answer::Final { id, height, outcome } => {
                let known = Acknowledged { id, height, outcome };
                self.finalized(target, &known, now);
                return Some(known);
            }
        }
        None
    }

    /// Offers nothing more; what is late and never left is counted.
    pub(super) fn close(&mut self, now: Micros) {
        if !self.is_closed {
            self.is_closed = true;
            // What was due a moment ago would still have left in time.
            let late = u64::try_from(LATE_MAX.as_micros()).expect("a constant of milliseconds");
            let due = self.due(now.saturating_sub(late));
            self.offers = due.min(self.offers).max(self.counts.sent);
        }
    }

    /// Ends the run: what has no answer is lost, and as old as it is now in the latency.
    pub(super) fn finish(mut self, now: Micros) -> (Counts, Measured, Lateness) {
        // One with a wrong signature never becomes final: its age says nothing of finality.
        let flights = self.flights.values().filter(|flight| !flight.is_invalid());
        let flights = flights.map(|flight| flight.offer);
        let offers = flights.chain(self.authors.iter().filter_map(|author| author.reoffer));
        for offer in offers {
            self.measured.lost(now.saturating_sub(offer.intended));
        }
        self.counts.lost = count(self.flights.len() + self.reoffers);
        self.counts.offered = self.due(now).min(self.offers).max(self.counts.sent);
        self.counts.unsent = self.counts.offered - self.counts.sent;
        self.lateness.never_left(self.counts.unsent, self.cause);
        (self.counts, self.measured, self.lateness)
    }

    /// Measures pauses from now on.
    pub(super) fn mark(&mut self, now: Micros) {
        for target in &mut self.targets {
            target.last_final = now;
            target.longest_pause = 0;
        }
    }

    /// Returns the state, and starts the next interval.
    pub(super) fn snapshot(&mut self, now: Micros) -> Snapshot {
        let mut counts = self.counts.clone();
        counts.offered = self.due(now).min(self.offers).max(counts.sent);
        let (finalized_recently, latency): (u64, Option<Latency>) = self.measured.take_recent();
        let interval = Duration::from_micros(now - self.last_snapshot);
        self.last_snapshot = now;
        let targets = self.targets.iter().map(|target| TargetSnapshot {
            is_connected: target.is_connected,
            longest_pause: Duration::from_micros(
                target.longest_pause.max(now.saturating_sub(target.last_final)),
            ),
        });
        Snapshot {
            elapsed: Duration::from_micros(now),
            counts,
            in_flight: count(self.flights.len()),
            finalized_recently,
            interval,
            latency,
            targets: targets.collect(),
        }
    }

    /// Returns how many transactions were due at a time.
    fn due(&self, now: Micros) -> u64 {
        let due = u128::from(now) * u128::from(self.rate) / 1_000_000 + 1;
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    /// Returns the time of the next transaction that has not left.
    fn next_intended(&self) -> Option<Micros> {
        if self.counts.sent >= self.offers {
            return None;
        }
        let micros = (u128::from(self.counts.sent) * 1_000_000).div_ceil(u128::from(self.rate));
        u64::try_from(micros).ok()
    }

    fn measure_lateness(&mut self, lag: Micros) {
        if Duration::from_micros(lag) > LATE_MAX {
            self.lateness.late(self.cause);
        } else {
            self.cause = Cause::Schedule;
        }
    }

    fn sign(&mut self, author: u32) {
        self.signing += 1;
        let turn = self.authors[place(author)].turn;
        self.actions.push(Action::Sign { author, turn });
    }

    /// Lets another author begin, if there is one.
    fn begin(&mut self) {
        if place(self.beginner) < self.authors.len() {
            self.beginner += 1;
            self.sign(self.beginner - 1);
        }
    }

    fn launch(&mut self, signed: Signed, offer: Offer, now: Micros) {
        let home = place(signed.author) % self.targets.len();
        let id = signed.id;
        let flight = Flight {
            signed,
            offer,
            target: home,
            second: None,
            is_doubled: false,
            attempts: 0,
            taken_by: None,
            is_accepted: false,
            is_answered: false,
            due: 0,
        };
        let class = flight.signed.class;
        self.flights.insert(id, flight);
        let target = self.connected_from(home);
        self.submit(&id, target, now);
        let second = target.filter(|_| class.treatment == Treatment::Duplicate);
        let second = second.and_then(|first| self.submit_copy(&id, first));
        self.counts.kinds.launched(class, second.is_some());
    }

    /// Sends the same bytes to the next validator that is connected, if there is another.
    fn submit_copy(&mut self, id: &Digest, first: usize) -> Option<usize> {
        let next = self.connected_from((first + 1) % self.targets.len());
        let target = next.filter(|next| *next != first)?;
        let flight = self.flights.get_mut(id).expect("the caller has seen it");
        flight.second = Some(target);
        flight.is_doubled = true;
        let bytes = Arc::clone(&flight.signed.bytes);
        self.actions.push(Action::Submit { target, id: *id, bytes, is_invalid: false });
        Some(target)
    }

    /// Finds a connected validator, this one first.
    fn connected_from(&self, first: usize) -> Option<usize> {
        let count = self.targets.len();
        (0..count)
            .map(|step| (first + step) % count)
            .find(|target| self.targets[*target].is_connected)
    }

    fn resubmit(&mut self, id: &Digest, now: Micros) {
        let Some(flight) = self.flights.get(id) else {
            return;
        };
        let target = self.connected_from((flight.target + 1) % self.targets.len());
        self.submit(id, target, now);
    }

    /// Sends a transaction under way, or waits when no validator is connected.
    fn submit(&mut self, id: &Digest, target: Option<usize>, now: Micros) {
        let Some(target) = target else {
            return self.look_again(id, now, OFFLINE_TIME);
        };
        let flight = self.flights.get_mut(id).expect("the caller has seen it");
        if flight.attempts > 0 {
            self.counts.resubmitted += 1;
        }
        flight.attempts += 1;
        flight.target = target;
        flight.second = flight.second.filter(|second| *second != target);
        flight.is_answered = false;
        let (bytes, is_invalid) = (Arc::clone(&flight.signed.bytes), flight.is_invalid());
        self.actions.push(Action::Submit { target, id: *id, bytes, is_invalid });
        self.look_again(id, now, ANSWER_TIME);
    }

    fn look_again(&mut self, id: &Digest, now: Micros, delay: Micros) {
        let flight = self.flights.get_mut(id).expect("the caller has seen it");
        flight.due = now + delay;
        self.timers.add(now, delay, *id);
    }

    fn accepted(&mut self, id: &Digest, target: usize, now: Micros) {
        let Some(flight) = self.flights.get_mut(id) else {
            return;
        };
        if flight.is_invalid() {
            return self.invalid_taken(id);
        }
        flight.is_answered = true;
        let first = *flight.taken_by.get_or_insert(target);
        let is_copy = |second: usize| first != target && [first, target].contains(&second);
        if flight.second.is_some_and(is_copy) {
            // Both have it: from now on it is like one that was sent twice.
            flight.second = None;
            self.counts.kinds.duplicates_taken_twice += 1;
        }
        if !flight.is_accepted {
            flight.is_accepted = true;
            self.counts.accepted += 1;
            self.measured.accepted(now.saturating_sub(flight.offer.intended));
        }
        flight.due = now + FINAL_TIME;
        self.timers.add(now, FINAL_TIME, *id);
    }

    fn finalized(&mut self, target: usize, known: &Acknowledged, now: Micros) {
        let from = &mut self.targets[target];
        from.longest_pause = from.longest_pause.max(now.saturating_sub(from.last_final));
        from.last_final = now;
        let Some(flight) = self.flights.get(&known.id) else {
            return self.echoed(target, known);
        };
        if flight.is_invalid() {
            return self.invalid_taken(&known.id);
        }
        let flight = self.flights.remove(&known.id).expect("it was just seen");
        if flight.is_doubled {
            self.finalized_copy(target, *known, now);
        }
        self.counts.finalized[usize::from(known.outcome.code())] += 1;
        if !flight.is_accepted {
            self.counts.accepted += 1;
        }
        self.measured.finalized(now.saturating_sub(flight.offer.intended));
        let author = &mut self.authors[place(flight.signed.author)];
        author.is_settled = true;
        if known.outcome.pays() {
            author.turn = author.turn.after(known.id);
        }
        if !self.is_closed {
            self.sign(flight.signed.author);
        }
    }
}

fn place(index: u32) -> usize {
    usize::try_from(index).expect("a place in memory has at least 32 bits")
}

fn count(length: usize) -> u64 {
    u64::try_from(length).expect("a length has at most 64 bits")
}

#[cfg(test)]
mod tests;
