//! Says whether the disk of a folder is full, and counts who waits for it.
//!
//! For the shell (`node/`): the engine gets it as a [`Room`].

use crate::consensus::patient::Room;
use commonware_runtime::Error;
use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Less than this counts as full: a blob's header is one page, its folder grows by another.
const FULL_BYTES: u64 = 1 << 20;
/// With less than this and one segment free no transactions are taken: what is under way, the engine's
/// journals and the empty blocks that follow go on for minutes.
pub(super) const RESERVE_BYTES: u64 = 4 << 20;

/// The disk that a folder is on.
pub(super) struct Disk {
    folder: PathBuf,
    waiting: AtomicUsize,
}

impl Disk {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, waiting: AtomicUsize::new(0) }
    }

    /// Whether the engine waits for room.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes that are free; none where the system does not say.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

impl Room for Disk {
    fn is_full(&self) -> bool {
        // Some file systems do not count inodes: they have none, and none free.
        rustix::fs::statvfs(&self.folder).is_ok_and(|disk| {
            disk.f_bavail.saturating_mul(disk.f_frsize) < FULL_BYTES
                || (disk.f_files != 0 && disk.f_favail == 0)
        })
    }

    fn waiting(&self, error: &Error) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(%error, "consensus waits: the disk is full");
        }
    }

    fn resumed(&self) {
        if self.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::info!("consensus goes on: the disk has room");
        }
    }
}
