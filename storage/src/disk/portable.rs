//! The plain way to the disk, `pwrite` and `fdatasync`: what io_uring is compared with.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::folder::Folder;
use crate::disk::{Completion, Disk, Files, Source, Waker, Write, short_write, sync_written};
use crate::options::Choice;

/// Writes at once, syncs when completions are asked for.
#[derive(Debug)]
pub(crate) struct Portable {
    pub(crate) folder: Folder,
    reason: Option<String>,
    file: Option<(u64, File)>,
    written: Vec<Completion>,
}

impl Portable {
    /// Takes the folder, and why io_uring was not taken.
    pub(crate) fn new(folder: Folder, reason: Option<String>) -> Self {
        Self { folder, reason, file: None, written: Vec::new() }
    }

    fn write(&mut self, write: &Write) -> io::Result<()> {
        if self.file.as_ref().is_none_or(|(segment, _)| *segment != write.segment) {
            assert!(self.written.is_empty(), "writes of two segments are never in flight together");
            self.file = Some((write.segment, self.folder.open_writer(write.segment)?));
        }
        let (_, file) = self.file.as_ref().expect("opened above");
        // One call, not `write_all_at`: a short write is a failure, never continued.
        let written = file.write_at(&write.bytes, write.offset)?;
        if written == write.bytes.len() {
            Ok(())
        } else {
            Err(short_write(written, write.bytes.len()))
        }
    }
}

impl Disk for Portable {
    fn choice(&self) -> Choice {
        Choice { name: "portable", reason: self.reason.clone() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path()
    }

    fn lock(&mut self) -> io::Result<()> {
        self.folder.lock()
    }

    fn segments(&mut self) -> io::Result<Vec<(u64, u64)>> {
        self.folder.segments()
    }

    fn create(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        self.folder.create(segment, bytes)
    }

    fn prepare(&mut self, segment: u64, bytes: u64) {
        self.folder.prepare(segment, bytes);
    }

    fn open(&self, segment: u64) -> io::Result<Arc<dyn Source>> {
        self.folder.open(segment)
    }

    fn epoch(&mut self) -> io::Result<u64> {
        self.folder.epoch()
    }

    fn submit(&mut self, write: Write) {
        let result = self.write(&write);
        self.written.push(Completion { ticket: write.ticket, bytes: write.bytes, result });
    }

    fn complete(&mut self, done: &mut Vec<Completion>) {
        let file = &self.file;
        sync_written(&mut self.written, || match file {
            Some((_, file)) => file.sync_data(),
            None => Ok(()),
        });
        done.append(&mut self.written);
    }

    fn waker(&self) -> Waker {
        Waker::none()
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.folder.files())
    }
}
