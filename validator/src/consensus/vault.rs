//! The engine's blobs in memory, made durable by one log with group commit.
//!
//! In each view the engine makes a file for its votes, writes blocks, certificates and small values to others,
//! syncs each, and removes a file. Here all of that are records of one log:
//!
//! ```text
//!  write, resize, make, remove ─▶ memory, and a record ──┐
//!  sync ─▶ waits ────────────────────────────────────────┴▶ commit: all records so far, one write, one sync
//!                                                            ─▶ whoever waited goes on
//!  a file of the log that is full ─▶ everything as it stands into the other file, and on from there
//! ```
//!
//! What is durable is always a prefix of what was done, over all blobs: more than a file system promises.
//! A blob that was made or removed is so once anything after it is durable. The log's files are
//! written with zeros before they are used, so that a commit changes no metadata of the file system.
//!
//! Who syncs a blob of votes waits for its commit. Who syncs another goes on at once: it is durable before the
//! next vote is, in 20 ms at the latest. What is lost with it in a crash is as if it had not come: no vote
//! of ours speaks of it, and what is final is told to clients only when the ledger has it.
//!
//! All that is kept is in memory, and written again whenever a file is full. It is small as long as execution
//! follows; when it does not, what is made beyond [`KEPT_BYTES_MAX`] is a file, but votes never are.
//!
//! A commit writes over bytes that are there, for which no disk is too full, unless its file system copies what
//! is written over: there a full disk ends the process, as any other failed sync does.

mod log;
#[cfg(test)]
mod tests;

use super::patient::{Patient, PatientBlob};
use commonware_runtime::{
    Blob, BlobVersion, Buf as _, BufMut as _, Error, Handle, IoBufMut, IoBufs, IoBufsMut,
    Clock, ReadOptions, Spawner, Storage, Supervisor as _, WriteOptions,
};
use commonware_utils::channel::oneshot;
use log::{Change, Changes, FRAME_BYTES, frame};
use rand_core::{CryptoRng, Rng as _};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::Notify;

/// Bytes of a file of the log before the other takes its place, unless what is kept is much more.
const LOG_BYTES: usize = 8 << 20;
/// Zeros that are written at once.
const ZEROS_BYTES: usize = 1 << 20;
/// Records that nobody waits for are written when they are so many bytes.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// Bytes in memory beyond which new blobs are files: a hundred times what a network of four keeps.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// When the latest of what nobody waits for is durable.
const SETTLE: Duration = Duration::from_millis(20);
/// Names of the log's files: generation `g` is in file `g % 2`.
const FILES: [&[u8]; 2] = [b"0", b"1"];
/// The blob with the log's secret, durable before a frame is.
const KEY: &[u8] = b"key";
/// The blob that says that both files have been begun.
const BEGUN: &[u8] = b"begun";
/// What begins the log makes so many generations before a vote can be in it.
const FIRST_GENERATIONS: u64 = 2;

/// The kept blobs of one engine; clones share them.
#[derive(Clone)]
pub(super) struct Vault {
    shared: Arc<Shared>,
}

struct Shared {
    /// What the names of the engine's partitions start with.
    prefix: String,
    state: Mutex<State>,
    /// Tells the committer that somebody waits, or that much is pending.
    wake: Notify,
    /// Tells it that something is to be durable soon.
    settle: Notify,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<String, BTreeMap<Vec<u8>, Entry>>,
    next_id: u64,
    /// Records that no commit has taken yet.
    pending: Vec<u8>,
    /// The number of the newest record, and of the newest that is durable.
    newest: u64,
    durable: u64,
    waiters: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Why nothing is durable any more.
    failed: Option<Error>,
    /// Blobs that are files, by partition, of partitions that were looked for on the disk.
    files: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// Whether new blobs are files.
    is_large: bool,
}

struct Entry {
    version: BlobVersion,
    kept: Arc<Kept>,
    open: Weak<()>,
}

/// One blob.
struct Kept {
    id: u64,
    inner: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// The number of the newest record about it.
    newest: u64,
    is_removed: bool,
}

impl Vault {
    /// Opens the log, or begins it, and starts the task that commits.
    ///
    /// Errors: those of the storage; [`Error::PartitionCorrupt`] where the log is damaged, or where blobs
    /// that belong into it are files.
    pub(super) async fn open<E: Storage + Spawner + Clock + CryptoRng>(
        mut context: Patient<E>,
        prefix: &str,
    ) -> Result<Self, Error> {
        let partition = format!("{prefix}-log");
        let (begun, length) = context.open(&partition, BEGUN).await?;
        let (key_blob, key_length) = context.open(&partition, KEY).await?;
        let mut key = [0; 32];
        if key_length == key.len() as u64 {
            let bytes = key_blob.read_at(0, key.len(), ReadOptions::default()).await?;
            key.copy_from_slice(bytes.coalesce().as_ref());
        } else if length == 0 {
            context.fill_bytes(&mut key);
            key_blob.resize(0).await?;
            key_blob.write_at(0, IoBufs::from(key.to_vec()), WriteOptions::SYNC).await?;
            key_blob.sync().await?;
        } else {
            return Err(Error::PartitionCorrupt(format!("{partition}: its key is lost")));
        }
        let mut files = Vec::new();
        for name in FILES {
            let (file, length) = context.open(&partition, name).await?;
            let file = file.plain().expect("a context without a vault has plain blobs only");
            files.push((file, usize::try_from(length).map_err(|_| Error::OffsetOverflow)?));
        }
        let corrupt = |what: &str| Error::PartitionCorrupt(format!("{partition}: {what}"));
        let found = recover(&key, &files).await?;
        let (generation, state) = if length > 0 {
            found.ok_or_else(|| corrupt("damaged: it may hold votes"))?
        } else if found.is_some_and(|(generation, state)| {
            generation > FIRST_GENERATIONS || !state.partitions.is_empty()
        }) {
            return Err(corrupt("what says that it was begun is lost"));
        } else {
            match context.scan(&format!("{prefix}-simplex")).await {
                Err(Error::PartitionMissing(_)) => {}
                Ok(blobs) if blobs.is_empty() => {}
                Ok(_) => return Err(corrupt("the engine's votes are files of an earlier version")),
                Err(error) => return Err(error),
            }
            (0, State::default())
        };
        let mut log = Log { key, files, generation, commit: 0, at: 0, turn_at: 0 };
        // Both files are whole from here on, also before the first vote.
        for _ in 0..FIRST_GENERATIONS {
            log.begin(&state.snapshot()).await?;
        }
        if length == 0 {
            begun.write_at(0, IoBufs::from(vec![1]), WriteOptions::SYNC).await?;
        }
        let (prefix, state) = (prefix.to_owned(), Mutex::new(state));
        let (wake, settle) = (Notify::new(), Notify::new());
        let shared = Arc::new(Shared { prefix, state, wake, settle });
        let settles = shared.clone();
        context.child("settle").spawn(move |context| async move {
            loop {
                settles.settle.notified().await;
                context.sleep(SETTLE).await;
                settles.wake.notify_one();
            }
        });
        let commits = shared.clone();
        context.spawn(move |_| async move {
            loop {
                commits.wake.notified().await;
                commits.commit(&mut log).await;
            }
        });
        Ok(Self { shared })
    }

    /// Whether a partition is the engine's: its blobs are kept here, or files when there is too much.
    pub(super) fn keeps(&self, partition: &str) -> bool {
        partition.starts_with(&self.shared.prefix)
    }

    /// Whether a partition is one of votes: always in memory, and durable when they are synced.
    fn is_votes(&self, partition: &str) -> bool {
        let rest = partition.strip_prefix(&self.shared.prefix);
        rest.is_some_and(|rest| rest.starts_with("-simplex"))
    }

    /// Whether a blob is kept here or will be, otherwise it is one of the storage's files.
    ///
    /// Errors: the storage's.
    pub(super) async fn holds(
        &self,
        storage: &impl Storage,
        partition: &str,
        name: &[u8],
    ) -> Result<bool, Error> {
        self.look(storage, partition).await?;
        let may_be_file = !self.is_votes(partition);
        let mut state = self.shared.lock();
        let is_large = state.is_large;
        if state.partitions.get(partition).is_some_and(|blobs| blobs.contains_key(name)) {
            return Ok(true);
        }
        let files = state.files.get_mut(partition).expect("it was just looked for");
        let is_file = files.contains(name) || (is_large && may_be_file);
        if is_file {
            files.insert(name.to_vec());
        }
        Ok(!is_file)
    }

    /// Finds out, once, which blobs of a partition are files.
    async fn look(&self, storage: &impl Storage, partition: &str) -> Result<(), Error> {
        if self.shared.lock().files.contains_key(partition) {
            return Ok(());
        }
        let names = match storage.scan(partition).await {
            Ok(names) => names.into_iter().collect(),
            Err(Error::PartitionMissing(_)) => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        self.shared.lock().files.entry(partition.to_owned()).or_insert(names);
        Ok(())
    }

    /// As [`Storage::open_versioned`].
    pub(super) fn open_versioned(
        &self,
        partition: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(VaultBlob, u64, BlobVersion), Error> {
        let mut state = self.shared.lock();
        let open = Arc::new(());
        let known = state.partitions.get_mut(partition).and_then(|blobs| blobs.get_mut(name));
        let (kept, version) = match known {
            Some(entry) if entry.open.strong_count() > 0 => {
                return Err(Error::BlobAlreadyOpen(partition.to_owned(), hex::encode(name)));
            }
            Some(entry) if !versions.contains(&entry.version) => {
                let found = entry.version;
                return Err(Error::BlobVersionMismatch { expected: versions, found });
            }
            Some(entry) => {
                entry.open = Arc::downgrade(&open);
                (entry.kept.clone(), entry.version)
            }
            None => {
                let version = *versions.end();
                let id = state.next_id;
                let kept = state.make(id, partition, name, version);
                let blobs = state.partitions.get_mut(partition).expect("it was just made");
                blobs.get_mut(name).expect("and this too").open = Arc::downgrade(&open);
                let change = Change::Make { id, version: version.get(), partition, name };
                kept.lock().newest = state.record(&change);
                (kept, version)
            }
        };
        let length = kept.lock().bytes.len() as u64;
        drop(state);
        let is_votes = self.is_votes(partition);
        let blob = VaultBlob { shared: self.shared.clone(), kept, is_votes, _open: open };
        Ok((blob, length, version))
    }

    /// As [`Storage::remove`].
    pub(super) async fn remove(
        &self,
        storage: &impl Storage,
        partition: &str,
        name: Option<&[u8]>,
    ) -> Result<(), Error> {
        self.look(storage, partition).await?;
        {
            let mut state = self.shared.lock();
            let files = state.files.get_mut(partition).expect("it was just looked for");
            let are_files = match name {
                Some(name) => files.remove(name),
                None => !mem::take(files).is_empty(),
            };
            if !are_files {
                return state.remove(partition, name);
            }
            // A whole partition may be both.
            if name.is_none() && state.partitions.contains_key(partition) {
                state.remove(partition, name)?;
            }
        }
        storage.remove(partition, name).await
    }

    /// As [`Storage::scan`].
    pub(super) async fn scan(
        &self,
        storage: &impl Storage,
        partition: &str,
    ) -> Result<Vec<Vec<u8>>, Error> {
        self.look(storage, partition).await?;
        let state = self.shared.lock();
        let blobs = state.partitions.get(partition);
        let files = state.files.get(partition).expect("it was just looked for");
        if blobs.is_none() && files.is_empty() {
            return Err(Error::PartitionMissing(partition.to_owned()));
        }
        let blobs = blobs.into_iter().flat_map(BTreeMap::keys);
        Ok(blobs.chain(files).cloned().collect())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything that was done so far durable, and tells those who wait.
    async fn commit<B: Blob>(&self, log: &mut Log<B>) {
        let (newest, waiters, snapshot, payload) = {
            let mut state = self.lock();
            let payload = mem::take(&mut state.pending);
            let waiters = mem::take(&mut state.waiters);
            if let Some(error) = state.failed.clone() {
                // Nothing is written behind a write of which nobody knows what it left.
                waiters.into_iter().for_each(|waiter| drop(waiter.send(Err(error.clone()))));
                return;
            }
            let snapshot = log.is_full(payload.len()).then(|| state.snapshot());
            if let Some(snapshot) = &snapshot {
                state.is_large = snapshot.len() > KEPT_BYTES_MAX;
            }
            (state.newest, waiters, snapshot, payload)
        };
        let written = match snapshot {
            Some(snapshot) => log.begin(&snapshot).await,
            None if payload.is_empty() => Ok(()),
            None => log.append(&payload).await,
        };
        let mut state = self.lock();
        match &written {
            Ok(()) => state.durable = newest,
            // What a failed sync left behind is not known: nothing after it is durable.
            Err(error) => state.failed = Some(error.clone()),
        }
        drop(state);
        for waiter in waiters {
            // Whoever waited may have been dropped.
            let _ = waiter.send(written.clone());
        }
    }
}

impl State {
    fn make(&mut self, id: u64, partition: &str, name: &[u8], version: BlobVersion) -> Arc<Kept> {
        let kept = Arc::new(Kept { id, inner: Mutex::default() });
        let entry = Entry { version, kept: kept.clone(), open: Weak::new() };
        self.partitions.entry(partition.to_owned()).or_default().insert(name.to_vec(), entry);
        self.next_id = self.next_id.max(id + 1);
        kept
    }

    fn remove(&mut self, partition: &str, name: Option<&[u8]>) -> Result<(), Error> {
        let missing = || Error::PartitionMissing(partition.to_owned());
        match name {
            Some(name) => {
                let blobs = self.partitions.get_mut(partition).ok_or_else(missing)?;
                let entry = blobs
                    .remove(name)
                    .ok_or_else(|| Error::BlobMissing(partition.to_owned(), hex::encode(name)))?;
                entry.kept.lock().is_removed = true;
                self.record(&Change::Remove { id: entry.kept.id });
            }
            None => {
                let blobs = self.partitions.remove(partition).ok_or_else(missing)?;
                blobs.values().for_each(|entry| entry.kept.lock().is_removed = true);
                self.record(&Change::RemovePartition(partition));
            }
        }
        Ok(())
    }

    /// Records a change; returns its number.
    fn record(&mut self, change: &Change<'_>) -> u64 {
        change.encode(&mut self.pending);
        self.newest += 1;
        self.newest
    }

    /// Records that lead to all of this from nothing.
    fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (partition, blobs) in &self.partitions {
            Change::Partition(partition).encode(&mut out);
            for (name, Entry { version, kept, .. }) in blobs {
                let id = kept.id;
                let make = Change::Make { id, version: version.get(), partition, name };
                make.encode(&mut out);
                Change::Write { id, offset: 0, bytes: &kept.lock().bytes }.encode(&mut out);
            }
        }
        out
    }
}

/// Applies what a log records to a state.
#[derive(Default)]
struct Replay {
    state: State,
    blobs: HashMap<u64, Arc<Kept>>,
}

impl Replay {
    /// Applies the records of one commit; nothing where one makes no sense.
    fn apply(&mut self, payload: &[u8]) -> Option<()> {
        let mut changes = Changes(payload);
        while let Some(change) = changes.next() {
            self.change(&change?)?;
        }
        Some(())
    }

    fn change(&mut self, change: &Change<'_>) -> Option<()> {
        match *change {
            Change::Partition(partition) => {
                self.state.partitions.entry(partition.to_owned()).or_default();
            }
            Change::Make { id, version, partition, name } => {
                let kept = self.state.make(id, partition, name, BlobVersion::new(version));
                self.blobs.insert(id, kept);
            }
            // What was written to a blob after it was removed was recorded for nobody.
            Change::Write { id, offset, bytes } => {
                self.blobs.get(&id)?.lock().write(usize::try_from(offset).ok()?, bytes)?;
            }
            Change::Resize { id, length } => {
                self.blobs.get(&id)?.lock().bytes.resize(usize::try_from(length).ok()?, 0);
            }
            Change::Remove { id } => {
                self.blobs.remove(&id)?;
                for blobs in self.state.partitions.values_mut() {
                    blobs.retain(|_, entry| entry.kept.id != id);
                }
            }
            Change::RemovePartition(partition) => {
                let blobs = self.state.partitions.remove(partition)?;
                blobs.values().for_each(|entry| drop(self.blobs.remove(&entry.kept.id)));
            }
        }
        Some(())
    }
}

/// Reads the log; nothing where it is damaged.
async fn recover<B: Blob>(
    key: &log::Key,
    files: &[(PatientBlob<B>, usize)],
) -> Result<Option<(u64, State)>, Error> {
    let mut contents = Vec::new();
    for (file, length) in files {
        let bytes = file.read_at(0, *length, ReadOptions::DONT_CACHE).await?;
        contents.push(bytes.coalesce());
    }
    let reads: Vec<_> = contents.iter().map(|bytes| log::read(key, bytes.as_ref())).collect();
    let generation = |read: &log::Read<'_>| read.frames.first().map(|frame| frame.generation);
    let Some(newest) = reads.iter().filter_map(generation).max() else { return Ok(None) };
    // A file that was being begun anew holds older frames; one that holds newer ones is damaged.
    if reads.iter().any(|read| read.beyond.is_some_and(|beyond| beyond >= newest)) {
        return Ok(None);
    }
    let read = reads.iter().find(|read| generation(read) == Some(newest));
    let mut replay = Replay::default();
    for frame in &read.expect("one has the newest").frames {
        if replay.apply(frame.payload).is_none() {
            return Ok(None);
        }
    }
    Ok(Some((newest, replay.state)))
}

/// Where the next commit goes.
struct Log<B> {
    key: log::Key,
    /// Each with its length: what may be written over.
    files: Vec<(PatientBlob<B>, usize)>,
    generation: u64,
    commit: u64,
    at: usize,
    /// Where the file is full.
    turn_at: usize,
}

impl<B: Blob> Log<B> {
    fn is_full(&self, payload: usize) -> bool {
        self.at + FRAME_BYTES + payload > self.turn_at
    }

    /// Begins the other file with everything as it stands.
    async fn begin(&mut self, snapshot: &[u8]) -> Result<(), Error> {
        let generation = self.generation + 1;
        let turn_at = LOG_BYTES.max(4 * snapshot.len());
        let (file, length) = &mut self.files[place(generation)];
        let is_short = *length < turn_at;
        let zeros = IoBufs::from(if is_short { vec![0; ZEROS_BYTES] } else { Vec::new() });
        while *length < turn_at {
            file.write_at(*length as u64, zeros.clone(), WriteOptions::default()).await?;
            *length += ZEROS_BYTES;
        }
        if is_short {
            file.sync().await?;
        }
        (self.generation, self.turn_at) = (generation, turn_at);
        (self.commit, self.at) = (0, 0);
        self.append(snapshot).await
    }

    async fn append(&mut self, payload: &[u8]) -> Result<(), Error> {
        let bytes = frame(&self.key, self.generation, self.commit, payload);
        let (file, length) = &self.files[place(self.generation)];
        let at = self.at;
        self.commit += 1;
        self.at += bytes.len();
        assert!(self.at <= *length, "a file is left before it is full");
        file.overwrite(at as u64, IoBufs::from(bytes)).await
    }
}

/// The file of a generation.
fn place(generation: u64) -> usize {
    usize::try_from(generation % 2).expect("zero or one")
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        let end = offset.checked_add(bytes.len())?;
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        Some(())
    }
}

/// A blob of the vault.
pub struct VaultBlob {
    shared: Arc<Shared>,
    kept: Arc<Kept>,
    is_votes: bool,
    /// Held while the blob is open.
    _open: Arc<()>,
}

impl VaultBlob {
    /// Changes the bytes and records it; what was removed is changed for its holder alone.
    fn change(
        &self,
        record: &Change<'_>,
        change: impl FnOnce(&mut Content) -> Option<()>,
    ) -> Result<(), Error> {
        let mut state = self.shared.lock();
        let mut content = self.kept.lock();
        change(&mut content).ok_or(Error::OffsetOverflow)?;
        if !content.is_removed {
            content.newest = state.record(record);
        }
        if state.pending.len() > PENDING_BYTES_MAX {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Asks for what was done to this blob to be durable.
    fn ask(&self) -> oneshot::Receiver<Result<(), Error>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.shared.lock();
        let newest = self.kept.lock().newest;
        // A file speaks of what is kept here only once that is durable: then all wait.
        let may_settle = !self.is_votes && state.files.values().all(BTreeSet::is_empty);
        if let Some(error) = &state.failed {
            let _ = sender.send(Err(error.clone()));
        } else if newest <= state.durable {
            let _ = sender.send(Ok(()));
        } else if may_settle {
            let _ = sender.send(Ok(()));
            self.shared.settle.notify_one();
        } else {
            state.waiters.push(sender);
            self.shared.wake.notify_one();
        }
        receiver
    }
}

impl Blob for VaultBlob {
    async fn read_at_buf(
        &self,
        offset: u64,
        len: usize,
        bufs: impl Into<IoBufsMut> + Send,
        _options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        let mut bufs = bufs.into();
        let content = self.kept.lock();
        let start = usize::try_from(offset).map_err(|_| Error::OffsetOverflow)?;
        let end = start.checked_add(len).ok_or(Error::OffsetOverflow)?;
        let bytes = content.bytes.get(start..end).ok_or(Error::BlobInsufficientLength)?;
        assert!(len <= bufs.capacity(), "the buffers have room");
        if bufs.len() == len {
            bufs.copy_from_slice(bytes);
        } else if let Some(buf) = bufs.as_single_mut() {
            buf.truncate(0);
            buf.put_slice(bytes);
        } else if bufs.is_empty() {
            bufs.put_slice(bytes);
        } else {
            bufs = IoBufsMut::from(bytes.to_vec());
        }
        Ok(bufs)
    }

    async fn read_at(
        &self,
        offset: u64,
        len: usize,
        options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        self.read_at_buf(offset, len, IoBufMut::with_capacity(len), options).await
    }

    async fn write_at(
        &self,
        offset: u64,
        bufs: impl Into<IoBufs> + Send,
        options: WriteOptions,
    ) -> Result<(), Error> {
        let bytes = bufs.into().coalesce();
        if bytes.has_remaining() {
            let start = usize::try_from(offset).map_err(|_| Error::OffsetOverflow)?;
            let bytes = bytes.as_ref();
            let record = Change::Write { id: self.kept.id, offset, bytes };
            self.change(&record, |content| content.write(start, bytes))?;
        }
        if options.contains(WriteOptions::SYNC) {
            self.sync().await?;
        }
        Ok(())
    }

    async fn resize(&self, length: u64) -> Result<(), Error> {
        let size = usize::try_from(length).map_err(|_| Error::OffsetOverflow)?;
        self.change(&Change::Resize { id: self.kept.id, length }, |content| {
            content.bytes.resize(size, 0);
            Some(())
        })
    }

    async fn sync(&self) -> Result<(), Error> {
        self.ask().await.unwrap_or(Err(Error::Closed))
    }

    async fn start_sync(&self) -> Handle<()> {
        Handle::from_receiver(self.ask())
    }
}
