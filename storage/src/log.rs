//! The log between its callers and its writer: queue, watermark, waiters, callbacks, poison.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};

use hdrhistogram::Histogram;

use crate::catalog::Catalog;
use crate::disk::Waker;
use crate::error::Error;
use crate::frame::record_bytes;
use crate::options::Choice;
use crate::plan::{Group, Plan};
use crate::record::{Record, Ticket};
use crate::writer::{Durable, Poison, Writer};

/// Called on the storage thread once the records of its call are durable, or never will be.
pub type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A group that still takes records is written beside others in flight only from this size on: a
/// smaller one gains nothing, since it could not be durable before the sync that is under way.
const EAGER_BYTES: u64 = 256 << 10;
/// Latencies are counted in microseconds up to ten minutes, to three digits.
const LATENCY_US_MAX: u64 = 600_000_000;

/// What a store has written since it was opened.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Records that became durable.
    pub records: u64,
    /// Groups that became durable, those without records included.
    pub groups: u64,
    /// Their bytes, padding included.
    pub bytes: u64,
    /// Segments that were begun.
    pub segments: u64,
    /// Bytes that are accepted but not yet durable.
    pub queued_bytes: u64,
    /// Microseconds from a group's submission to its durability; empty in a simulation.
    pub durable_us: Histogram<u64>,
}

/// Everything that callers and writer share.
pub(crate) struct Log {
    state: Mutex<State>,
    /// The writer waits here for something to do.
    work: Condvar,
    /// Callers wait here for durability and for room.
    progress: Condvar,
    pub(crate) catalog: RwLock<Catalog>,
    pub(crate) choice: Choice,
    waker: Waker,
    queue_bytes_max: u64,
}

struct State {
    plan: Plan,
    durable: u64,
    queued_bytes: u64,
    callbacks: VecDeque<(u64, Done)>,
    poison: Option<Poison>,
    phase: Phase,
    /// Whether the writer waits for the disk and would rather write another group.
    wakeable: bool,
    stats: Stats,
}

/// The life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Takes appends.
    Running,
    /// Writes what it has, then a closing group.
    Closing,
    /// Writes what it has, and no more: the last handle is gone.
    Stopping,
    /// Has closed or stopped.
    Ended,
}

/// What the writer does next.
enum Task {
    Write(Group),
    Complete,
    Call,
    Idle,
    Stop,
}

impl Log {
    pub(crate) fn new(
        plan: Plan,
        catalog: Catalog,
        choice: Choice,
        waker: Waker,
        queue_bytes_max: usize,
    ) -> Self {
        let durable_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        let stats = Stats {
            records: 0,
            groups: 0,
            bytes: 0,
            segments: 0,
            queued_bytes: 0,
            durable_us: durable_us.expect("the bounds are constants in range"),
        };
        let state = State {
            durable: plan.records(),
            plan,
            queued_bytes: 0,
            callbacks: VecDeque::new(),
            poison: None,
            phase: Phase::Running,
            wakeable: false,
            stats,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            catalog: RwLock::new(catalog),
            choice,
            waker,
            queue_bytes_max: queue_bytes_max as u64,
        }
    }

    /// Accepts the records of one call; `may_wait` says whether it waits for room.
    pub(crate) fn append(
        &self,
        records: Vec<Record>,
        done: Option<Done>,
        may_wait: bool,
    ) -> Result<Ticket, Error> {
        let records: Vec<Arc<Record>> = records.into_iter().map(Arc::new).collect();
        let bytes: u64 = records.iter().map(|record| record_bytes(record.body.size() as u64)).sum();
        let mut state = self.lock();
        loop {
            state.refuse()?;
            // A call above the limit is taken alone, or it would wait for ever.
            let fits = state.queued_bytes + bytes <= self.queue_bytes_max;
            if fits || state.queued_bytes == 0 || !may_wait {
                break;
            }
            state = self.progress.wait(state).expect("no holder of the state panics");
        }
        let places = state.plan.append(&records)?;
        let ticket = Ticket(state.plan.records());
        state.queued_bytes += bytes;
        if let Some(done) = done {
            state.callbacks.push_back((ticket.0, done));
        }
        let mut catalog = self.catalog.write().expect("no holder of the catalog panics");
        for (record, place) in records.iter().zip(places) {
            catalog.index.insert(&record.header(), place);
            catalog.pending.insert((place.segment, place.offset), Arc::clone(record));
        }
        drop(catalog);
        if state.wakeable && state.is_ripe(true) {
            state.wakeable = false;
            self.waker.wake();
        }
        drop(state);
        self.work.notify_one();
        Ok(ticket)
    }

    /// Waits until a ticket is durable.
    pub(crate) fn wait(&self, ticket: Ticket) -> Result<(), Error> {
        let mut state = self.lock();
        assert!(ticket.0 <= state.plan.records(), "a ticket is waited for where it was given");
        while state.durable < ticket.0 {
            if let Some(poison) = &state.poison {
                return Err(poison.error());
            }
            if state.phase == Phase::Ended {
                return Err(Error::Closed { records: state.durable });
            }
            state = self.progress.wait(state).expect("no holder of the state panics");
        }
        Ok(())
    }

    pub(crate) fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// The number of records appended so far.
    pub(crate) fn records(&self) -> u64 {
        self.lock().plan.records()
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.lock();
        Stats { queued_bytes: state.queued_bytes, ..state.stats.clone() }
    }

    /// The failure that stopped the writer, if there was one.
    pub(crate) fn poisoned(&self) -> Result<(), Error> {
        self.lock().poison.as_ref().map_or(Ok(()), |poison| Err(poison.error()))
    }

    /// Asks the writer to end, with or without a closing group.
    ///
    /// Errors: [`Error::Closed`] when it was asked before.
    pub(crate) fn end(&self, close: bool) -> Result<(), Error> {
        let mut state = self.lock();
        if state.phase != Phase::Running {
            return Err(Error::Closed { records: state.durable });
        }
        state.phase = if close { Phase::Closing } else { Phase::Stopping };
        drop(state);
        self.work.notify_all();
        self.progress.notify_all();
        Ok(())
    }

    /// The storage thread: writes, waits and calls back until it is asked to end.
    pub(crate) fn run(&self, writer: &mut Writer) {
        let ending = Ending(self);
        while self.step(writer, true) {}
        drop(ending);
    }

    /// Does all there is to do and returns; the thread of an inline store is its caller's.
    pub(crate) fn drain(&self, writer: &mut Writer) -> Vec<(Done, Result<(), Error>)> {
        let mut calls = Vec::new();
        loop {
            match self.task(writer, false) {
                Task::Idle => return calls,
                Task::Stop => {
                    self.ended();
                    return calls;
                }
                task => calls.append(&mut self.perform(task, writer)),
            }
        }
    }

    fn step(&self, writer: &mut Writer, wait: bool) -> bool {
        let task = self.task(writer, wait);
        if matches!(task, Task::Stop) {
            return false;
        }
        for (done, result) in self.perform(task, writer) {
            done(result);
        }
        true
    }

    /// Chooses what to do next, and waits for something where it may.
    fn task(&self, writer: &Writer, wait: bool) -> Task {
        let mut state = self.lock();
        loop {
            state.wakeable = false;
            if let Some(task) = state.task(writer) {
                return task;
            }
            if !wait {
                return Task::Idle;
            }
            state = self.work.wait(state).expect("no holder of the state panics");
        }
    }

    /// Does it, without the lock, and returns the callbacks that are due.
    fn perform(&self, task: Task, writer: &mut Writer) -> Vec<(Done, Result<(), Error>)> {
        let mut durable = Vec::new();
        let outcome = match task {
            Task::Write(group) => writer.submit(&group),
            Task::Complete => writer.complete(&mut durable),
            Task::Call | Task::Idle | Task::Stop => Ok(()),
        };
        match outcome {
            Ok(()) => self.publish(durable),
            Err(poison) => self.poison(poison),
        }
    }

    /// Moves the watermark and returns the callbacks that it has reached.
    fn publish(&self, durable: Vec<Durable>) -> Vec<(Done, Result<(), Error>)> {
        // Records are freed after the locks are let go.
        let mut settled = Vec::new();
        if !durable.is_empty() {
            let mut catalog = self.catalog.write().expect("no holder of the catalog panics");
            for group in &durable {
                catalog.publish(group, &mut settled);
            }
        }
        let mut state = self.lock();
        let moved = !durable.is_empty();
        for group in durable {
            let before = std::mem::replace(&mut state.durable, group.records);
            state.stats.count(&group, before);
            state.queued_bytes -= group.payload_bytes;
        }
        let mut calls = Vec::new();
        while state.callbacks.front().is_some_and(|(records, _)| *records <= state.durable) {
            let (_, done) = state.callbacks.pop_front().expect("looked at above");
            calls.push((done, Ok(())));
        }
        drop(state);
        if moved {
            self.progress.notify_all();
        }
        calls
    }

    fn poison(&self, poison: Poison) -> Vec<(Done, Result<(), Error>)> {
        let mut state = self.lock();
        let error = poison.error();
        state.poison.get_or_insert(poison);
        let callbacks = std::mem::take(&mut state.callbacks);
        drop(state);
        self.progress.notify_all();
        callbacks.into_iter().map(|(_, done)| (done, Err(error.clone()))).collect()
    }

    fn ended(&self) {
        let mut state = self.lock();
        state.phase = Phase::Ended;
        drop(state);
        self.progress.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the state panics")
    }
}

impl State {
    fn refuse(&self) -> Result<(), Error> {
        if let Some(poison) = &self.poison {
            return Err(poison.error());
        }
        match self.phase {
            Phase::Running => Ok(()),
            Phase::Closing | Phase::Stopping | Phase::Ended => {
                Err(Error::Closed { records: self.plan.records() })
            }
        }
    }

    /// Whether the next group is worth writing now.
    fn is_ripe(&self, busy: bool) -> bool {
        self.plan.next().is_some_and(|(_, bytes, open)| !open || !busy || bytes >= EAGER_BYTES)
    }

    fn task(&mut self, writer: &Writer) -> Option<Task> {
        if self.poison.is_some() {
            // The disk is kept, and its lock with it, until the store is given up.
            return (self.phase != Phase::Running).then_some(Task::Stop);
        }
        let busy = writer.is_busy();
        let accepted = self.plan.next().is_some_and(|(kind, _, _)| writer.accepts(kind));
        if accepted && self.is_ripe(busy) {
            return self.plan.pop().map(Task::Write);
        }
        if busy {
            self.wakeable = accepted || self.plan.next().is_none();
            return Some(Task::Complete);
        }
        if self.callbacks.front().is_some_and(|(records, _)| *records <= self.durable) {
            return Some(Task::Call);
        }
        match self.phase {
            Phase::Running => None,
            Phase::Closing => {
                self.plan.close();
                match self.plan.pop() {
                    Some(group) => Some(Task::Write(group)),
                    None => Some(Task::Stop),
                }
            }
            Phase::Stopping | Phase::Ended => Some(Task::Stop),
        }
    }
}

impl Stats {
    fn count(&mut self, group: &Durable, records_before: u64) {
        self.records += group.records - records_before;
        self.groups += 1;
        self.bytes += group.bytes;
        self.segments += u64::from(group.opens.is_some());
        if let Some(elapsed) = group.elapsed {
            let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(LATENCY_US_MAX);
            self.durable_us.saturating_record(elapsed_us);
        }
    }
}

/// Tells waiters when the storage thread ends, also when it ends in a panic.
struct Ending<'a>(&'a Log);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}
