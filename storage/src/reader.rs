//! Read-only access for offline tools, and the check of every byte.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::anchor::Anchor;
use crate::catalog::{Catalog, View, Walk};
use crate::disk::Source;
use crate::disk::folder::{self, LOCK};
use crate::error::Error;
use crate::record::{Place, RecordHeader};
use crate::recover::{self, Depth, Recovery};

/// A store that is only read: no lock, no thread, nothing is changed.
///
/// It shows what was there when it was opened; of a store that a process has open at the same
/// time, that is everything up to its last whole group.
pub struct Reader {
    catalog: Catalog,
    recovery: Recovery,
    network: Option<[u8; 32]>,
}

impl Reader {
    /// Reads what opening a store for writing reads: sealed segments' indexes, and every byte of what
    /// is newer. Of a sealed group the hash is checked when it is first read.
    ///
    /// Shape: without `network`, the first group says which it is.
    /// Errors: [`Error::Corrupt`] with the place of the damage, [`Error::OtherNetwork`], and the
    /// machine's; an unfinished write at the end is no error, see [`Reader::recovery`].
    pub fn open(directory: &Path, network: Option<[u8; 32]>) -> Result<Self, Error> {
        Self::open_to(Depth::Tail, directory, network)
    }

    fn open_to(depth: Depth, directory: &Path, network: Option<[u8; 32]>) -> Result<Self, Error> {
        let segments = folder::segments(directory).map_err(|source| Error::Folder {
            path: directory.to_owned(),
            action: "list",
            source: Arc::new(source),
        })?;
        let anchor = folder::anchor(directory).map_err(|source| Error::Folder {
            path: directory.to_owned(),
            action: "read the file FIRST of",
            source: Arc::new(source),
        })?;
        let anchor = Anchor::decode(anchor.as_deref())?;
        let scanned = recover::scan(&segments, &anchor, network, depth, |segment| {
            let source: Arc<dyn Source> = Arc::new(folder::lease_source(directory, segment)?);
            Ok(source)
        })?;
        let network = scanned.network;
        Ok(Self { catalog: scanned.catalog, recovery: scanned.recovery, network })
    }

    /// What was found; `cut` tells what opening it for writing would cut.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The network that the store belongs to; `None` while it has no group.
    pub fn network(&self) -> Option<[u8; 32]> {
        self.network
    }

    /// The newest record with this kind and key.
    pub fn find(&self, kind: u8, key: &[u8; 32]) -> Option<Place> {
        self.catalog.index.find(kind, key)
    }

    /// The newest record with this kind and height.
    pub fn at_height(&self, kind: u8, height: u64) -> Option<Place> {
        self.catalog.index.at_height(kind, height)
    }

    /// The greatest height of this kind.
    pub fn last_height(&self, kind: u8) -> Option<u64> {
        self.catalog.index.last_height(kind)
    }

    /// The body of the record at a place that this store gave.
    ///
    /// Errors: [`Error::Corrupt`], [`Error::NoRecord`], and the machine's.
    pub fn read(&self, place: Place) -> Result<Vec<u8>, Error> {
        self.catalog.locate(place)?.read(place)
    }

    /// The body of a record without a copy where its segment is sealed; see [`View`].
    ///
    /// Errors: those of [`read`](Reader::read).
    pub fn view(&self, place: Place) -> Result<View, Error> {
        self.catalog.locate(place)?.view(place)
    }

    /// Every record in order, as place, header and body; ends after an error.
    pub fn records(
        &self,
    ) -> impl Iterator<Item = Result<(Place, RecordHeader, Vec<u8>), Error>> + '_ {
        let mut walk = Walk::new(self.recovery.records);
        std::iter::from_fn(move || walk.next(|with| with(&self.catalog)))
    }
}

/// What a check of every byte has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Segments with groups in them.
    pub segments: u64,
    /// Groups, those without records included.
    pub groups: u64,
    /// Records that are there.
    pub records: u64,
    /// Bytes in groups; all others were found to be zero.
    pub bytes: u64,
    /// Whether the store was closed in good order: if not, its last records may be missing.
    pub clean: bool,
}

/// Checks every byte of a store that no process has open, and changes none.
///
/// Every byte is either covered by a hash or must be zero.
///
/// Errors: [`Error::Locked`] when a process has it open; [`Error::Corrupt`] or
/// [`Error::TornTail`] with the place; [`Error::OtherNetwork`]; and the machine's.
pub fn verify(directory: &Path, network: Option<[u8; 32]>) -> Result<Verified, Error> {
    let path = directory.join(LOCK);
    let failed =
        |source| Error::Folder { path: path.clone(), action: "lock", source: Arc::new(source) };
    // Opened for reading, as the store may be on a medium that cannot be written.
    let lock = match File::open(&path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if let Some(file) = &lock {
        folder::try_lock(file).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::Locked { path: directory.to_owned() },
            _ => failed(error),
        })?;
    }
    verify_unlocked(directory, network)
}

/// Checks every byte of a store, whether or not a process has it open.
///
/// Shape: of a store that is being written, the end may look unfinished.
/// Errors: those of [`verify`], less [`Error::Locked`].
pub fn verify_unlocked(directory: &Path, network: Option<[u8; 32]>) -> Result<Verified, Error> {
    let reader = Reader::open_to(Depth::All, directory, network)?;
    let Recovery { records, bytes, groups, segments, cut, clean, .. } = reader.recovery;
    match cut {
        Some(cut) => {
            Err(Error::TornTail { segment: cut.segment, offset: cut.offset, bytes: cut.bytes })
        }
        None => {
            let records = records - reader.catalog.first_record();
            Ok(Verified { segments, groups, records, bytes, clean })
        }
    }
}

#[cfg(test)]
mod tests;
