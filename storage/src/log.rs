//! The log between its callers and its writer: queue, watermark, waiters, callbacks, poison.
//!
//! ```text
//!  append ─▶ plan ─▶ hash thread: encode ─▶ channel ─▶ storage thread: submit, complete ─▶ publish
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use crate::catalog::Catalog;
use crate::disk::{Files, Waker};
use crate::encoder::{Encoded, Encoder};
use crate::error::Error;
use crate::frame::{Entry, record_bytes};
use crate::options::{Choice, Options};
use crate::plan::{Group, Plan};
use crate::record::{Record, Ticket};
use crate::writer::{Durable, Poison, Refused, Writer};

mod damage;
mod stats;

use damage::Damages;
pub use stats::Stats;

/// Called on the storage thread once the records of its call are durable, or never will be.
pub type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A group that still takes records is written beside others in flight only from this size on: a
/// smaller one gains nothing, since it could not be durable before the sync that is under way.
const EAGER_BYTES: u64 = 256 << 10;
/// How often a segment is tried to be made on a full disk.
const ROOM_AGAIN: Duration = Duration::from_millis(100);

/// Everything that callers and writer share.
pub(crate) struct Log {
    state: Mutex<State>,
    /// The hash thread waits here for something to do.
    work: Condvar,
    /// Callers wait here for durability and for room.
    progress: Condvar,
    pub(crate) catalog: RwLock<Catalog>,
    pub(crate) choice: Choice,
    waker: Waker,
    /// Whether the storage thread waits for the disk and would rather submit another group.
    wakeable: AtomicBool,
    /// Whether the storage thread waits for room for the next segment.
    full: AtomicBool,
    /// What any thread may do to segments.
    pub(crate) files: Arc<dyn Files>,
    /// Held by whoever changes segments that are durable.
    pub(crate) upkeep: Mutex<()>,
    damage: Mutex<Damages>,
    queue_bytes_max: u64,
    /// Groups that may be encoded but not yet durable.
    flying_max: usize,
}

struct State {
    plan: Plan,
    durable: u64,
    queued_bytes: u64,
    callbacks: VecDeque<(u64, Done)>,
    poison: Option<Poison>,
    phase: Phase,
    /// Groups that were taken from the plan and are not durable yet.
    flying: usize,
    /// Whether the storage thread was told that callbacks are due.
    calling: bool,
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

/// What the hash thread does next.
enum Task {
    Encode(Group),
    Call,
    Stop,
}

/// What goes from the hash thread to the storage thread.
pub(crate) enum Message {
    /// A group to write.
    Write(Encoded),
    /// Callbacks are due although nothing is in flight.
    Call,
}

/// A callback with what it is to be told.
pub(crate) type Call = (Done, Result<(), Error>);

impl Log {
    pub(crate) fn new(
        plan: Plan,
        catalog: Catalog,
        (choice, waker): (Choice, Waker),
        files: Arc<dyn Files>,
        options: &Options,
    ) -> Self {
        let state = State {
            durable: plan.records(),
            plan,
            queued_bytes: 0,
            callbacks: VecDeque::new(),
            poison: None,
            phase: Phase::Running,
            flying: 0,
            calling: false,
            stats: Stats::new(),
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            catalog: RwLock::new(catalog),
            choice,
            waker,
            wakeable: AtomicBool::new(false),
            full: AtomicBool::new(false),
            files,
            upkeep: Mutex::new(()),
            damage: Mutex::default(),
            queue_bytes_max: options.queue_bytes_max as u64,
            // One is encoded while the others are written.
            flying_max: options.groups_in_flight + 1,
        }
    }

    /// Messages from the hash thread that may wait at once: every group that may be flying, and the
    /// word that callbacks are due.
    pub(crate) fn messages_max(&self) -> usize {
        self.flying_max + 1
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
        let (damaged_groups, repaired_groups) = {
            let damage = self.damages();
            (damage.found, damage.repaired)
        };
        let state = self.lock();
        let queued_bytes = state.queued_bytes;
        Stats { queued_bytes, damaged_groups, repaired_groups, ..state.stats.clone() }
    }

    /// The records so far of the newest segment, if it is this one.
    pub(crate) fn newest_entries(&self, segment: u64) -> Vec<Entry> {
        self.lock().plan.entries(segment).to_vec()
    }

    /// Refuses what only an open store may do.
    pub(crate) fn refuse(&self) -> Result<(), Error> {
        self.lock().refuse()
    }

    /// Ends the newest segment, unless nothing is in it.
    pub(crate) fn seal(&self) -> Result<(), Error> {
        let mut state = self.lock();
        state.refuse()?;
        state.plan.seal_early();
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Waits until the segment that is being filled is durable from its beginning: all before it are
    /// sealed.
    pub(crate) fn wait_sealed(&self) -> Result<(), Error> {
        let mut state = self.lock();
        let newest = state.plan.segment();
        loop {
            let durable = self.catalog.read().expect("no holder of the catalog panics").newest();
            if durable.is_some_and(|durable| durable >= newest) {
                return Ok(());
            }
            if let Some(poison) = &state.poison {
                return Err(poison.error());
            }
            if state.phase == Phase::Ended {
                return Err(Error::Closed { records: state.durable });
            }
            state = self.progress.wait(state).expect("no holder of the state panics");
        }
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

    /// The hash thread: encodes groups for the storage thread until there are no more.
    pub(crate) fn encode(&self, encoder: &mut Encoder, groups: &SyncSender<Message>) {
        loop {
            let message = match self.next() {
                Task::Encode(group) => encoder.encode(&group).map(Message::Write),
                Task::Call => Some(Message::Call),
                Task::Stop => None,
            };
            let Some(message) = message else { return };
            // There is room for as many as may be flying; without a receiver there is no disk.
            if groups.send(message).is_err() {
                return;
            }
            fence(Ordering::SeqCst);
            if self.wakeable.swap(false, Ordering::SeqCst) {
                self.waker.wake();
            }
        }
    }

    /// The storage thread: writes, waits and calls back until the hash thread has ended.
    ///
    /// `next` is a group for which there was no room yet.
    pub(crate) fn run(
        &self,
        writer: &mut Writer,
        groups: &Receiver<Message>,
        next: Option<Encoded>,
    ) {
        let ending = Ending(self);
        let mut next = next.map(Message::Write);
        loop {
            if next.is_none() {
                next = match self.receive(writer, groups) {
                    Ok(message) => message,
                    Err(Gone) if writer.is_busy() => None,
                    Err(Gone) => break,
                };
            }
            let calls = match next.take() {
                Some(Message::Call) => self.publish(Vec::new()),
                Some(Message::Write(group)) if writer.accepts(group.header.kind) => {
                    match self.submit(writer, group) {
                        Ok(()) => Vec::new(),
                        Err(Refused { poison, encoded: Some(group) }) => {
                            next = Some(Message::Write(*group));
                            if self.wait_for_room() { Vec::new() } else { self.poison(poison) }
                        }
                        Err(Refused { poison, encoded: None }) => self.poison(poison),
                    }
                }
                waiting => {
                    next = waiting;
                    self.complete(writer)
                }
            };
            for (done, result) in calls {
                done(result);
            }
            if self.poisoned().is_err() {
                // The disk is kept, and its lock with it, until the store is given up.
                writer.give_up();
                while groups.recv().is_ok() {}
                break;
            }
        }
        drop(ending);
    }

    /// The next message; none when the disk had better be waited for.
    fn receive(
        &self,
        writer: &Writer,
        groups: &Receiver<Message>,
    ) -> Result<Option<Message>, Gone> {
        if !writer.is_busy() {
            return groups.recv().map(Some).map_err(|_| Gone);
        }
        // Said before looking: whoever sends after the look sees it and wakes the disk's wait.
        self.wakeable.store(writer.has_room(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let found = groups.try_recv();
        if found.is_ok() {
            self.wakeable.store(false, Ordering::SeqCst);
        }
        match found {
            Ok(message) => Ok(Some(message)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Gone),
        }
    }

    /// Does all there is to do and returns the callbacks; the thread of an inline store is its
    /// caller's. Also returns the group for which the disk has no room.
    pub(crate) fn drain(
        &self,
        writer: &mut Writer,
        encoder: &mut Encoder,
    ) -> (Vec<Call>, Option<Refused>) {
        let mut calls = Vec::new();
        while self.poisoned().is_ok() {
            let task = self.lock().task(self.flying_max);
            match task {
                Some(Task::Encode(group)) => {
                    let group = encoder.encode(&group).expect("the writer is here");
                    while !writer.accepts(group.header.kind) && self.poisoned().is_ok() {
                        calls.append(&mut self.complete(writer));
                    }
                    if self.poisoned().is_ok()
                        && let Err(refused) = self.submit(writer, group)
                    {
                        if refused.encoded.is_some() {
                            return (calls, Some(refused));
                        }
                        calls.append(&mut self.poison(refused.poison));
                    }
                }
                Some(Task::Call) => calls.append(&mut self.publish(Vec::new())),
                Some(Task::Stop) => {
                    while writer.is_busy() && self.poisoned().is_ok() {
                        calls.append(&mut self.complete(writer));
                    }
                    self.ended();
                    return (calls, None);
                }
                None if writer.is_busy() => calls.append(&mut self.complete(writer)),
                None => return (calls, None),
            }
        }
        if self.lock().phase != Phase::Running {
            self.ended();
        }
        (calls, None)
    }

    /// Waits for the hash thread's next task.
    fn next(&self) -> Task {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.task(self.flying_max) {
                return task;
            }
            state = self.work.wait(state).expect("no holder of the state panics");
        }
    }

    fn submit(&self, writer: &mut Writer, group: Encoded) -> Result<(), Refused> {
        let submitted = writer.submit(group);
        if submitted.is_ok() {
            self.full.store(false, Ordering::Relaxed);
        }
        submitted
    }

    /// Whether nothing more becomes durable before the disk has room.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Waits a while for room; false when the store is to end meanwhile.
    fn wait_for_room(&self) -> bool {
        self.full.store(true, Ordering::Relaxed);
        let state = self.lock();
        let ends = |state: &mut State| state.phase == Phase::Running;
        let (state, _) = self
            .progress
            .wait_timeout_while(state, ROOM_AGAIN, ends)
            .expect("no holder of the state panics");
        state.phase == Phase::Running
    }

    fn complete(&self, writer: &mut Writer) -> Vec<Call> {
        let mut durable = Vec::new();
        match writer.complete(&mut durable) {
            Ok(()) => self.publish(durable),
            Err(poison) => self.poison(poison),
        }
    }

    /// Moves the watermark and returns the callbacks that it has reached.
    fn publish(&self, durable: Vec<Durable>) -> Vec<Call> {
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
        state.flying -= durable.len();
        state.calling = false;
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
            self.work.notify_one();
        }
        calls
    }

    pub(crate) fn poison(&self, poison: Poison) -> Vec<Call> {
        let mut state = self.lock();
        let error = poison.error();
        state.poison.get_or_insert(poison);
        self.full.store(false, Ordering::Relaxed);
        let callbacks = std::mem::take(&mut state.callbacks);
        drop(state);
        self.progress.notify_all();
        self.work.notify_one();
        callbacks.into_iter().map(|(_, done)| (done, Err(error.clone()))).collect()
    }

    fn ended(&self) {
        let mut state = self.lock();
        state.phase = Phase::Ended;
        drop(state);
        self.progress.notify_all();
        self.work.notify_one();
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

    /// What is to be done now, if anything.
    fn task(&mut self, flying_max: usize) -> Option<Task> {
        if self.poison.is_some() || self.phase == Phase::Ended {
            return (self.phase != Phase::Running).then_some(Task::Stop);
        }
        if self.phase == Phase::Closing && self.flying == 0 && self.plan.next().is_none() {
            self.plan.close();
        }
        let Some((_, bytes, open)) = self.plan.next() else {
            let due = self.callbacks.front().is_some_and(|(records, _)| *records <= self.durable);
            if due && self.flying == 0 && !self.calling {
                self.calling = true;
                return Some(Task::Call);
            }
            return match self.phase {
                Phase::Running => None,
                // The closing group comes when all else is durable.
                Phase::Closing if self.flying > 0 => None,
                Phase::Closing | Phase::Stopping | Phase::Ended => Some(Task::Stop),
            };
        };
        // Alone it is written at once; beside others when it will not grow, or is large.
        let ripe = !open || self.flying == 0 || bytes >= EAGER_BYTES;
        if !ripe || self.flying >= flying_max {
            return None;
        }
        self.flying += 1;
        self.plan.pop().map(Task::Encode)
    }
}

/// The hash thread has ended, and nothing more will come.
struct Gone;

/// Tells waiters when the storage thread ends, also when it ends in a panic.
struct Ending<'a>(&'a Log);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}
