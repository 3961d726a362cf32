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

mod blob;
mod log;
mod state;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use blob::VaultBlob;

use super::patient::Patient;
use commonware_runtime::{
    Blob, BlobVersion, Clock, Error, IoBufs, ReadOptions, Spawner, Storage, Supervisor as _,
    WriteOptions,
};
use commonware_utils::channel::oneshot;
use log::Change;
use rand_core::{CryptoRng, Rng as _};
use state::{State, recover};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use writer::Log;

/// Bytes of a file of the log before the other takes its place, unless what is kept is much more.
const LOG_BYTES: usize = 8 << 20;
/// Zeros that are written at once.
const ZEROS_BYTES: usize = 1 << 20;
/// Records that nobody waits for are written when they are so many bytes.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// Bytes in memory beyond which new blobs are files: a hundred times what a network of four keeps.
pub(crate) const KEPT_BYTES_MAX: usize = 64 << 20;
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

    /// Whether a blob is kept here or will be, otherwise it is one of the storage's files: what was done here
    /// before is durable then, since the file will speak of it.
    ///
    /// Errors: the storage's, the log's.
    pub(super) async fn holds(
        &self,
        storage: &impl Storage,
        partition: &str,
        name: &[u8],
    ) -> Result<bool, Error> {
        self.look(storage, partition).await?;
        let may_be_file = !self.is_votes(partition);
        let durable = {
            let mut state = self.shared.lock();
            let is_large = state.is_large;
            if state.partitions.get(partition).is_some_and(|blobs| blobs.contains_key(name)) {
                return Ok(true);
            }
            let files = state.files.get_mut(partition).expect("it was just looked for");
            let is_file = files.contains(name) || (is_large && may_be_file);
            if !is_file {
                return Ok(true);
            }
            // From here on nothing settles: whoever syncs waits.
            files.insert(name.to_vec());
            let newest = state.newest;
            self.shared.ask(&mut state, newest)
        };
        durable.await.unwrap_or(Err(Error::Closed)).map(|()| false)
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

    /// Asks for everything up to a record to be durable.
    fn ask(&self, state: &mut State, newest: u64) -> oneshot::Receiver<Result<(), Error>> {
        let (sender, receiver) = oneshot::channel();
        if let Some(error) = &state.failed {
            let _ = sender.send(Err(error.clone()));
        } else if newest <= state.durable {
            let _ = sender.send(Ok(()));
        } else {
            state.waiters.push(sender);
            self.wake.notify_one();
        }
        receiver
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
