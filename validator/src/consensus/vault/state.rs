//! What a vault holds in memory, and how a log leads to it.

use super::log::{self, Change, Changes};
use crate::consensus::patient::PatientBlob;
use commonware_runtime::{Blob, BlobVersion, Error, ReadOptions};
use commonware_utils::channel::oneshot;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// The blobs, what is to be written of them, and who waits for it.
#[derive(Default)]
pub(super) struct State {
    pub(super) partitions: BTreeMap<String, BTreeMap<Vec<u8>, Entry>>,
    pub(super) next_id: u64,
    /// Records that no commit has taken yet.
    pub(super) pending: Vec<u8>,
    /// The number of the newest record, and of the newest that is durable.
    pub(super) newest: u64,
    pub(super) durable: u64,
    pub(super) waiters: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Why nothing is durable any more.
    pub(super) failed: Option<Error>,
    /// Blobs that are files, by partition, of partitions that were looked for on the disk.
    pub(super) files: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// Whether new blobs are files.
    pub(super) is_large: bool,
}

/// A blob in its partition.
pub(super) struct Entry {
    pub(super) version: BlobVersion,
    pub(super) kept: Arc<Kept>,
    pub(super) open: Weak<()>,
}

/// One blob.
pub(super) struct Kept {
    pub(super) id: u64,
    pub(super) inner: Mutex<Content>,
}

/// Its bytes.
#[derive(Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// The number of the newest record about it.
    pub(super) newest: u64,
    pub(super) is_removed: bool,
}

impl State {
    /// Makes a blob, without a record of it.
    pub(super) fn make(
        &mut self,
        id: u64,
        partition: &str,
        name: &[u8],
        version: BlobVersion,
    ) -> Arc<Kept> {
        let kept = Arc::new(Kept { id, inner: Mutex::default() });
        let entry = Entry { version, kept: kept.clone(), open: Weak::new() };
        self.partitions.entry(partition.to_owned()).or_default().insert(name.to_vec(), entry);
        self.next_id = self.next_id.max(id + 1);
        kept
    }

    /// Removes a blob, or all of a partition.
    ///
    /// Errors: there is none.
    pub(super) fn remove(&mut self, partition: &str, name: Option<&[u8]>) -> Result<(), Error> {
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
    pub(super) fn record(&mut self, change: &Change<'_>) -> u64 {
        change.encode(&mut self.pending);
        self.newest += 1;
        self.newest
    }

    /// Records that lead to all of this from nothing.
    pub(super) fn snapshot(&self) -> Vec<u8> {
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

impl Kept {
    /// The bytes, for a moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, Content> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    /// Writes, with zeros where nothing was; nothing where the end cannot be counted.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        let end = offset.checked_add(bytes.len())?;
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        Some(())
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
pub(super) async fn recover<B: Blob>(
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
