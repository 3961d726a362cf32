//! The naive log: one `pwrite` and one `fdatasync` for each group, into a file zeroed before.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::append::{METRICS, Meter, Size};
use crate::suite::{Contender, Failure, Label, Metric, Round};

/// What everybody writes first, and what a store has to beat.
pub(super) struct Naive {
    size: Size,
    file: File,
    /// Groups written so far; their places follow each other and begin again at the file's end.
    written: u64,
    groups_max: u64,
    /// A record, padded to a whole group.
    group: Vec<u8>,
}

impl Naive {
    /// Zeroes a file of so many groups, which has no name and goes when it is closed.
    pub(super) fn new(
        folder: &Path,
        size: Size,
        groups: u64,
        body: &[u8],
    ) -> Result<Self, Failure> {
        let make = || -> std::io::Result<File> {
            let mut file = tempfile::tempfile_in(folder)?;
            let zeros = vec![0; size.group_bytes];
            for _ in 0..groups {
                file.write_all(&zeros)?;
            }
            file.sync_all()?;
            Ok(file)
        };
        let file = make().map_err(|error| Failure::machine("zero a file", error))?;
        let mut group = body.to_vec();
        group.resize(size.group_bytes, 0);
        Ok(Self { size, file, written: 0, groups_max: groups, group })
    }

    fn append(&mut self) -> std::io::Result<Duration> {
        let began = Instant::now();
        let offset = (self.written % self.groups_max) * self.size.group_bytes_u64();
        self.file.write_all_at(&self.group, offset)?;
        self.file.sync_data()?;
        self.written += 1;
        Ok(began.elapsed())
    }
}

impl Contender for Naive {
    fn label(&self) -> Label {
        Label::new("naive::append").with("depth", "1")
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.append().map_err(|error| Failure::machine("append", error))?;
        let mut found = vec![0; self.size.group_bytes];
        self.file
            .read_exact_at(&mut found, 0)
            .map_err(|error| Failure::machine("read back", error))?;
        if found == self.group {
            Ok(())
        } else {
            Err(Failure::Wrong("other bytes were read than were written".to_owned()))
        }
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let mut meter = Meter::start(self.size);
        for _ in 0..self.size.groups {
            meter.record(self.append().map_err(|error| Failure::machine("append", error))?);
        }
        Ok(meter.finish())
    }
}
