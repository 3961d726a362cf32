//! The handle of a store: open, append, wait, find, read, close.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLockReadGuard, mpsc};
use std::thread::{self, JoinHandle, ThreadId};

use crate::anchor::Anchor;
use crate::catalog::{Catalog, View, Walk};
use crate::disk::{self, Disk};
use crate::encoder::{Encoded, Encoder};
use crate::error::Error;
use crate::log::{Done, Log, Stats};
use crate::options::{Choice, Options};
use crate::plan::{Begin, Plan};
use crate::record::{Place, Record, RecordHeader, Ticket};
use crate::recover::{self, Depth, Recovery, Scanned};
use crate::writer::{Refused, Settings, Writer};

/// An open store; a cheap handle that any thread may clone and use.
///
/// When the last handle goes without [`close`](Store::close), what was appended is still written,
/// but the store is not marked as closed in good order.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<Log>,
    mode: Mode,
}

/// Who runs the writer.
enum Mode {
    /// A thread of its own.
    Thread(Mutex<Option<JoinHandle<()>>>, ThreadId),
    /// Whoever calls.
    Inline(Box<Mutex<Option<Pipe>>>),
}

/// Both ends of the write path.
struct Pipe {
    encoder: Encoder,
    writer: Writer,
    /// A first group for which the disk had no room when the store was opened.
    waiting: Option<Encoded>,
}

impl Store {
    /// Opens the store in a folder, making both if need be; what is checked now, and what when it is
    /// read, is under *Recovery* on the page of this crate.
    ///
    /// Errors: [`Error::Locked`] when another process has it open, [`Error::OtherNetwork`],
    /// [`Error::Corrupt`] with the place of the damage, [`Error::Options`], [`Error::Backend`]
    /// when io_uring was demanded and does not run, and the machine's.
    pub fn open(directory: &Path, options: &Options) -> Result<(Self, Recovery), Error> {
        options.check()?;
        let (send, receive) = mpsc::sync_channel(1);
        let folder = directory.to_owned();
        let settings = options.clone();
        // Recovery runs there too: a ring serves only the thread that has enabled it.
        let start_and_run = move || {
            let opened = disk::open(&folder, &settings)
                .map_err(|reason| Error::Backend { backend: "io_uring", reason })
                .and_then(|disk| start(disk, &settings, true));
            match opened {
                // The receiver waits below.
                Ok((log, pipe, recovery)) => {
                    let started = || drop(send.send(Ok((Arc::clone(&log), recovery))));
                    if let Err(error) = run(&log, pipe, started) {
                        let _ = send.send(Err(thread_failed(&folder)(error)));
                    }
                }
                Err(error) => drop(send.send(Err(error))),
            }
        };
        let failed = thread_failed(directory);
        let thread = thread::Builder::new()
            .name("storage".to_owned())
            .spawn(start_and_run)
            .map_err(&failed)?;
        let opened = receive.recv().unwrap_or_else(|_| {
            Err(failed(io::Error::other("the storage thread ended while it opened the store")))
        });
        let (log, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // It ends by itself; afterwards the folder's lock is free again.
                let _ = thread.join();
                return Err(error);
            }
        };
        let id = thread.thread().id();
        let mode = Mode::Thread(Mutex::new(Some(thread)), id);
        Ok((Self { inner: Arc::new(Inner { log, mode }) }, recovery))
    }

    /// Opens the store on a given disk without any thread: an append has written and synced when
    /// it returns, and callbacks run before it returns.
    ///
    /// Errors: those of [`open`](Store::open).
    pub fn open_inline(disk: Box<dyn Disk>, options: &Options) -> Result<(Self, Recovery), Error> {
        options.check()?;
        let (log, pipe, recovery) = start(disk, options, false)?;
        let mode = Mode::Inline(Box::new(Mutex::new(Some(pipe))));
        Ok((Self { inner: Arc::new(Inner { log, mode }) }, recovery))
    }

    /// Appends records and returns before they are durable; they can be found and read at once.
    ///
    /// Shape: the records of one call stay in order, and in one group when they fit into one:
    /// then a crash keeps all or none of them, otherwise a prefix. `done` is called once they are
    /// durable, or with the error when they never will be, on the storage thread and in the order
    /// of the calls; it must be quick, and may append but not wait. Appending none is allowed:
    /// `done` then follows everything before.
    /// Errors: [`Error::Poisoned`] after a failed write or sync, [`Error::Closed`],
    /// [`Error::TooLarge`]; nothing was appended and `done` is dropped. An inline store returns
    /// [`Error::Poisoned`] also for the failure of this very call; then `done` was called with it.
    pub fn append(&self, records: Vec<Record>, done: Option<Done>) -> Result<Ticket, Error> {
        let log = &self.inner.log;
        match &self.inner.mode {
            Mode::Thread(_, id) => {
                // A callback that waited for room would wait for itself.
                let may_wait = thread::current().id() != *id;
                log.append(records, done, may_wait)
            }
            Mode::Inline(pipe) => {
                let ticket = log.append(records, done, false)?;
                drain(log, pipe);
                log.poisoned()?;
                Ok(ticket)
            }
        }
    }

    /// Waits until everything up to a ticket is durable.
    ///
    /// Errors: [`Error::Poisoned`] when it never will be.
    pub fn wait(&self, ticket: Ticket) -> Result<(), Error> {
        if let Mode::Thread(_, id) = &self.inner.mode {
            assert!(thread::current().id() != *id, "a callback cannot wait for its own thread");
        }
        self.inner.log.wait(ticket)
    }

    /// The number of records that are durable; it only grows.
    pub fn durable(&self) -> u64 {
        self.inner.log.durable()
    }

    /// The newest record with this kind and key.
    pub fn find(&self, kind: u8, key: &[u8; 32]) -> Option<Place> {
        self.catalog().index.find(kind, key)
    }

    /// The newest record with this kind and height.
    pub fn at_height(&self, kind: u8, height: u64) -> Option<Place> {
        self.catalog().index.at_height(kind, height)
    }

    /// The greatest height of this kind.
    pub fn last_height(&self, kind: u8) -> Option<u64> {
        self.catalog().index.last_height(kind)
    }

    /// The body of the record at a place that this store gave.
    ///
    /// Its group was checked against its hash when it was copied from the medium, now or, for the few
    /// groups that were read last, before; what is not durable yet comes from memory. A whole group is
    /// read for it: [`view`](Store::view) is for small records far apart.
    ///
    /// Errors: [`Error::Corrupt`], [`Error::NoRecord`], and the machine's.
    pub fn read(&self, place: Place) -> Result<Vec<u8>, Error> {
        let located = self.catalog().locate(place)?;
        self.noted(located.read(place))
    }

    /// The body of the record at a place that this store gave, without a copy where its segment is
    /// sealed; see [`View`] for what that asks of the medium.
    ///
    /// Errors: those of [`read`](Store::read).
    pub fn view(&self, place: Place) -> Result<View, Error> {
        let located = self.catalog().locate(place)?;
        self.noted(located.view(place))
    }

    /// The file of a sealed segment, for whoever reads bodies by means of its own, at their
    /// [`Place::body_offset`]: what it gets was not checked against any hash. None for a segment that is not sealed
    /// or not here, and on a disk without files.
    ///
    /// Errors: the machine's.
    pub fn sealed_file(&self, segment: u64) -> io::Result<Option<File>> {
        let is_sealed = self.catalog().segment(segment).is_some_and(|it| it.is_sealed());
        if is_sealed { self.inner.log.files.lease(segment) } else { Ok(None) }
    }

    /// The newest record of each height in a range, ascending; no body is read.
    pub fn in_heights(&self, kind: u8, heights: RangeInclusive<u64>) -> Vec<(u64, Place)> {
        self.catalog().index.in_heights(kind, heights)
    }

    /// How many records of a kind can be found by key, and how many by height: what differs there was not
    /// entered under both.
    pub fn count(&self, kind: u8) -> (usize, usize) {
        self.catalog().index.count(kind)
    }

    /// Every record, from the first to the last at the time of this call, in order.
    ///
    /// Shape: place, header and body; ends after an error. Each group is checked as it is read.
    pub fn records(
        &self,
    ) -> impl Iterator<Item = Result<(Place, RecordHeader, Vec<u8>), Error>> + Send + use<> {
        let store = self.clone();
        let mut walk = Walk::new(store.inner.log.records());
        std::iter::from_fn(move || {
            let next = walk.next(|with| with(&store.catalog()))?;
            Some(store.noted(next))
        })
    }

    /// Whether what was appended waits because the disk has no room for the next segment: it goes on
    /// by itself when there is room, and until then appends wait or only fill the queue.
    pub fn is_full(&self) -> bool {
        self.inner.log.is_full()
    }

    /// The way to the disk that runs.
    pub fn backend(&self) -> Choice {
        self.inner.log.choice.clone()
    }

    /// What was written since the store was opened.
    pub fn stats(&self) -> Stats {
        self.inner.log.stats()
    }

    /// Writes everything, marks the store as closed in good order, and ends its thread.
    ///
    /// Other handles get [`Error::Closed`] from then on, but may still read.
    ///
    /// Errors: [`Error::Poisoned`], also when the disk is full and something waits for room;
    /// [`Error::Closed`] when it was closed before.
    pub fn close(self) -> Result<(), Error> {
        // The folder's lock outlives what is done to its files.
        let _alone = self.alone();
        self.inner.log.end(true)?;
        self.inner.finish();
        self.inner.log.poisoned()
    }

    fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.inner.log.catalog.read().expect("no holder of the catalog panics")
    }
}

impl Inner {
    /// Waits until the writer has ended and its disk is closed.
    fn finish(&self) {
        match &self.mode {
            Mode::Thread(handle, id) => {
                let handle = handle.lock().expect("no holder of the handle panics").take();
                if let Some(handle) = handle
                    && thread::current().id() != *id
                {
                    // Its panic, if any, was reported there, and the waiters were told.
                    let _ = handle.join();
                }
            }
            Mode::Inline(pipe) => {
                drain(&self.log, pipe);
                pipe.lock().expect("no holder of the writer panics").take();
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // An error says that the store was closed before.
        if self.log.end(false).is_ok() {
            self.finish();
        }
    }
}

/// Writes what an inline store has, then calls back without any lock held.
fn drain(log: &Log, pipe: &Mutex<Option<Pipe>>) {
    let calls = match &mut *pipe.lock().expect("no holder of the writer panics") {
        Some(Pipe { encoder, writer, .. }) => {
            let (mut calls, refused) = log.drain(writer, encoder);
            if let Some(refused) = refused {
                // Nobody would make room meanwhile.
                calls.append(&mut log.poison(refused.poison));
            }
            calls
        }
        None => Vec::new(),
    };
    for (done, result) in calls {
        done(result);
    }
}

/// The storage thread from here on: writes what a hash thread beside it encodes, and calls
/// `started` when both run.
///
/// Errors: the machine gave no second thread; then `started` was not called.
fn run(log: &Arc<Log>, pipe: Pipe, started: impl FnOnce()) -> io::Result<()> {
    let Pipe { mut encoder, mut writer, waiting } = pipe;
    let (send, receive) = mpsc::sync_channel(log.messages_max());
    let encoding = Arc::clone(log);
    let encode = move || encoding.encode(&mut encoder, &send);
    let hash = thread::Builder::new().name("storage-hash".to_owned()).spawn(encode)?;
    started();
    log.run(&mut writer, &receive, waiting);
    // The log has ended, so it ends too; its panic, if any, was reported there.
    let _ = hash.join();
    Ok(())
}

/// The error of a thread that the machine did not give.
fn thread_failed(directory: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = directory.to_owned();
    move |source| {
        let action = "start the storage threads for";
        Error::Folder { path: path.clone(), action, source: Arc::new(source) }
    }
}

/// Locks, checks and settles what is there, and makes the first segment where there is none.
fn start(
    mut disk: Box<dyn Disk>,
    options: &Options,
    timed: bool,
) -> Result<(Arc<Log>, Pipe, Recovery), Error> {
    let path = disk.path();
    let failed = |action| {
        let path = path.clone();
        move |source| Error::Folder { path, action, source: Arc::new(source) }
    };
    disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { path: path.clone() },
        _ => failed("lock")(error),
    })?;
    let segments = disk.segments().map_err(failed("list"))?;
    let files = disk.files();
    let anchor =
        Anchor::decode(files.anchor().map_err(failed("read the beginning of"))?.as_deref())?;
    let mut scanned = scan(&mut *disk, &segments, &anchor, options)?;
    recover::settle(&mut *disk, &scanned)?;
    for (number, _) in segments.iter().filter(|(number, _)| *number < anchor.segment) {
        // Pruning was cut short.
        files.retire(*number, true).map_err(failed("remove pruned segments of"))?;
    }
    let recovery = scanned.recovery.clone();
    let catalog = std::mem::take(&mut scanned.catalog);
    let end = scanned.end;
    let settings = Settings {
        network: options.network,
        segment_bytes_next: options.segment_bytes,
        groups_in_flight: options.groups_in_flight,
        timed,
    };
    let (choice, waker) = (disk.choice(), disk.waker());
    let drawn = Writer::new(disk, &settings, &end).map_err(failed("draw an epoch for"));
    let (mut writer, mut encoder) = drawn?;
    let begin = Begin {
        segment: end.segment,
        segment_bytes: end.segment_bytes.filter(|_| end.offset > 0),
        offset: end.offset,
        records: recovery.records,
        groups: end.lines.len() as u64,
        entries: end.entries,
        closed: recovery.clean && recovery.groups > 0,
        sealed: end.sealed,
        seal: end.seal,
    };
    let plan = Plan::new(options, begin);
    let log = Log::new(plan, catalog, (choice, waker), files, options);
    // Nobody has a handle yet, so there are no callbacks.
    let (_, refused) = log.drain(&mut writer, &mut encoder);
    let waiting = match refused {
        // On a thread of its own it waits: what is there can be read meanwhile, and pruned.
        Some(Refused { encoded: Some(group), .. }) if timed && recovery.groups > 0 => Some(*group),
        Some(refused) => {
            log.poison(refused.poison);
            None
        }
        None => None,
    };
    log.poisoned()?;
    Ok((Arc::new(log), Pipe { encoder, writer, waiting }, recovery))
}

/// Reads what is there; openings and seals that are damaged are put back on the way.
fn scan(
    disk: &mut dyn Disk,
    segments: &[(u64, u64)],
    anchor: &Anchor,
    options: &Options,
) -> Result<Scanned, Error> {
    let mut mended = 0;
    loop {
        let network = Some(options.network);
        let scanned =
            recover::scan(segments, anchor, network, Depth::Tail, |number| disk.open(number));
        match scanned {
            Ok(mut scanned) => {
                scanned.recovery.mended = mended;
                return Ok(scanned);
            }
            // Each segment has one opening and one seal.
            Err(
                error @ (Error::Corrupt { segment, offset, .. }
                | Error::Disk { segment, offset, action: "read", .. }),
            ) if mended <= 2 * segments.len() as u64 => {
                // What it would be rebuilt from may be damaged as well: the first damage is told.
                match recover::mend(disk, segments, anchor, segment, offset) {
                    Ok(true) => mended += 1,
                    Ok(false) | Err(Error::Corrupt { .. } | Error::Disk { action: "read", .. }) => {
                        return Err(error);
                    }
                    Err(other) => return Err(other),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

mod upkeep;

pub use upkeep::Scrub;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;
