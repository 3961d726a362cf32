//! The end of the log: where the next commit goes, and how.

use super::{
    LOG_BYTES, ZEROS_BYTES,
    log::{self, FRAME_BYTES, frame},
};
use crate::consensus::patient::PatientBlob;
use commonware_runtime::{Blob, Error, IoBufs, WriteOptions};

/// Where the next commit goes.
pub(super) struct Log<B> {
    pub(super) key: log::Key,
    /// Each with its length: what may be written over.
    pub(super) files: Vec<(PatientBlob<B>, usize)>,
    pub(super) generation: u64,
    pub(super) commit: u64,
    pub(super) at: usize,
    /// Where the file is full.
    pub(super) turn_at: usize,
}

impl<B: Blob> Log<B> {
    /// Whether a commit of so many bytes has no place in the file any more.
    pub(super) fn is_full(&self, payload: usize) -> bool {
        self.at + FRAME_BYTES + payload > self.turn_at
    }

    /// Begins the other file with everything as it stands.
    pub(super) async fn begin(&mut self, snapshot: &[u8]) -> Result<(), Error> {
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

    /// Writes a commit behind the last.
    pub(super) async fn append(&mut self, payload: &[u8]) -> Result<(), Error> {
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
