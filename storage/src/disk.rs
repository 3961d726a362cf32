//! The seam to the disk: one trait, and its real, portable and simulated implementors.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::OwnedFd;

use crate::anchor::SLOT_BYTES;
use crate::buffer::Buffer;
use crate::options::{Backend, Choice, Options};
use crate::ring::{Events, Ring};
use crate::segment::map::Map;

pub(crate) mod folder;
mod portable;
mod simulated;

pub(crate) use portable::Portable;
pub use simulated::{Fault, Simulated};

/// The disk under one store: a folder of numbered segments with one writer.
///
/// Promises to the store:
/// * [`create`](Disk::create) is atomic and durable: after a crash the segment is whole or absent.
/// * A write is acknowledged by a [`Completion`] only after a sync that began when it was complete
///   has succeeded. One sync is under way at a time: the kernel reports a failed write-back to one
///   caller only, so of two syncs at once one could claim what the other saw lost.
/// * Nothing is retried. After an error the store takes no more acknowledgements.
pub trait Disk: Send {
    /// Which backend this is, and why not a faster one.
    fn choice(&self) -> Choice;

    /// The folder, for messages.
    fn path(&self) -> PathBuf;

    /// Claims the folder for this process until the disk is dropped.
    ///
    /// Errors: [`io::ErrorKind::WouldBlock`] when another holds it.
    fn lock(&mut self) -> io::Result<()>;

    /// The segments that exist, as (number, bytes), ascending.
    fn segments(&mut self) -> io::Result<Vec<(u64, u64)>>;

    /// Makes a zeroed segment, durably; one of that number and size that exists already is known
    /// to be zero and is taken as it is, one of another size is replaced.
    fn create(&mut self, segment: u64, bytes: u64) -> io::Result<()>;

    /// Says that this segment will be wanted soon; may begin to make it, must not wait.
    fn prepare(&mut self, segment: u64, bytes: u64);

    /// Opens a segment for reading by any thread.
    fn open(&self, segment: u64) -> io::Result<Arc<dyn Source>>;

    /// A number that no earlier segment had: it keeps stale bytes from ever being valid.
    fn epoch(&mut self) -> io::Result<u64>;

    /// Begins a write. Writes of two segments are never in flight together.
    ///
    /// Errors: none here; a write that cannot begin completes with its error.
    fn submit(&mut self, write: Write);

    /// Waits until a write is durable or failed, and hands back all such, in any order.
    ///
    /// Shape: at least one write is in flight; returns without any after [`Waker::wake`].
    fn complete(&mut self, done: &mut Vec<Completion>);

    /// What ends a waiting [`complete`](Disk::complete) early.
    fn waker(&self) -> Waker;

    /// What any thread may do to segments beside the newest one's writes.
    fn files(&self) -> Arc<dyn Files>;
}

/// What any thread may do to segments while one thread writes to the newest.
pub trait Files: Send + Sync {
    /// Writes a durable group again where it was, and returns when it is durable.
    fn rewrite(&self, segment: u64, offset: u64, bytes: &Buffer) -> io::Result<()>;

    /// Fills a buffer from the medium, past any cache where that can be.
    ///
    /// Shape: whole pages.
    fn probe(&self, segment: u64, offset: u64, bytes: u64, into: &mut Buffer) -> io::Result<()>;

    /// The file of a segment, to be read; it becomes no other segment's as long as it is held. None on a disk
    /// without files.
    fn lease(&self, segment: u64) -> io::Result<Option<File>>;

    /// The file that says where a store begins, two slots; none where there is no such file.
    fn anchor(&self) -> io::Result<Option<Vec<u8>>>;

    /// Writes one of its slots, durably; where the file exists, that needs no room.
    fn set_anchor(&self, slot: usize, bytes: &[u8; SLOT_BYTES]) -> io::Result<()>;

    /// Removes a segment that the store has no more; `unused` says that no map of it is left, so
    /// that its file may become another segment's.
    fn retire(&self, segment: u64, unused: bool) -> io::Result<()>;

    /// Makes the folder of a snapshot, on the same file system.
    ///
    /// Errors: the machine's, [`io::ErrorKind::AlreadyExists`] when it holds a store,
    /// [`io::ErrorKind::Unsupported`] on a disk without names.
    fn begin_links(&self, directory: &Path) -> io::Result<()>;

    /// Gives a segment a second name there.
    fn link(&self, segment: u64, directory: &Path) -> io::Result<()>;

    /// Ends a snapshot with the slot that says where it begins: only now the folder has its name.
    fn finish_links(
        &self,
        directory: &Path,
        slot: usize,
        bytes: &[u8; SLOT_BYTES],
    ) -> io::Result<()>;
}

/// Read access to one segment.
pub trait Source: Send + Sync {
    /// Fills the buffer from this offset on.
    ///
    /// Errors: the medium's, and [`io::ErrorKind::UnexpectedEof`] past the segment's end.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// A map of the whole segment, where the disk has one; only asked for once it is sealed.
    fn map(&self) -> io::Result<Option<Map>>;
}

/// One write, owned until its completion.
#[derive(Debug)]
pub struct Write {
    /// The caller's name for it.
    pub ticket: u64,
    /// The segment to write to.
    pub segment: u64,
    /// Where in the segment.
    pub offset: u64,
    /// What to write, whole pages; comes back with the completion.
    pub bytes: Buffer,
}

/// The end of one write: durable, or failed.
#[derive(Debug)]
pub struct Completion {
    /// The name given at [`Disk::submit`].
    pub ticket: u64,
    /// The write's buffer for reuse; may be empty.
    pub bytes: Buffer,
    /// Whether the bytes are durable.
    pub result: io::Result<()>,
}

/// Ends a waiting [`Disk::complete`] from another thread.
#[derive(Clone, Debug, Default)]
pub struct Waker(Option<Arc<OwnedFd>>);

impl Waker {
    /// One that does nothing, for disks whose waits end by themselves.
    pub fn none() -> Self {
        Self(None)
    }

    /// One that adds to an eventfd.
    pub(crate) fn event(event: Arc<OwnedFd>) -> Self {
        Self(Some(event))
    }

    /// Ends the wait that is under way, or else the next one.
    pub fn wake(&self) {
        if let Some(event) = &self.0 {
            // Any count wakes, whatever the byte order; fails only when the counter is full, and
            // then the wait ends anyway.
            let _ = rustix::io::write(&**event, &1u64.to_le_bytes());
        }
    }
}

/// The error of a write that the disk took only a part of.
pub(crate) fn short_write(written: usize, wanted: usize) -> io::Error {
    io::Error::new(io::ErrorKind::WriteZero, format!("short write: {written} of {wanted} bytes"))
}

/// Syncs what was written, unless a write failed: then those before it stay unacknowledged too.
pub(crate) fn sync_written(written: &mut [Completion], sync: impl FnOnce() -> io::Result<()>) {
    let failed = written.iter().any(|completion| completion.result.is_err());
    let outcome =
        if failed { Err(io::Error::other("not synced: another write failed")) } else { sync() };
    if let Err(error) = outcome {
        for completion in written.iter_mut().filter(|completion| completion.result.is_ok()) {
            completion.result = Err(copy(&error));
        }
    }
}

/// The same error for one more write.
pub(crate) fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Opens the real disk: the gate between io_uring and its portable twin.
///
/// Errors: when io_uring was demanded and does not run here, its reason.
pub(crate) fn open(directory: &Path, options: &Options) -> Result<Box<dyn Disk>, String> {
    let folder = folder::Folder::new(directory);
    let events = match options.backend {
        Backend::Portable => Err("chosen by option".to_owned()),
        Backend::IoUring | Backend::Auto => Events::new(options.groups_in_flight),
    };
    match (events, options.backend) {
        (Ok(events), _) => Ok(Box::new(Ring::new(folder, events))),
        (Err(reason), Backend::IoUring) => Err(reason),
        (Err(reason), Backend::Auto | Backend::Portable) => {
            Ok(Box::new(Portable::new(folder, Some(reason))))
        }
    }
}
