//! Several files into one that has every account: by number, the newest value of each.

use super::{
    Error,
    file::{Entry, Head, Reader, Writer},
};
use std::path::{Path, PathBuf};

/// A merge that is under way, done piece by piece beside other work.
#[derive(Debug)]
pub(super) struct Merge {
    /// The newest first: where two have a number, the first one's value counts.
    sources: Vec<Source>,
    writer: Writer,
    next: u32,
    /// The next account that is in another than the oldest.
    changed_next: Option<u32>,
    accounts: u64,
}

/// A file, and the entry at its front.
#[derive(Debug)]
struct Source {
    reader: Reader,
    front: Option<Entry>,
}

impl Source {
    fn open(path: &Path) -> Result<Self, Error> {
        let mut reader = Reader::open(path)?;
        let front = reader.next()?;
        Ok(Self { reader, front })
    }

    /// Takes the entry of a number, if it is the next.
    fn take(&mut self, number: u32) -> Result<Option<Entry>, Error> {
        let Some(entry) = self.front.take_if(|entry| entry.0 == number) else { return Ok(None) };
        self.front = self.reader.next()?;
        Ok(Some(entry))
    }
}

impl Merge {
    /// Opens the files, the newest first, and starts the one that they become.
    ///
    /// Errors: those of reading and writing.
    pub(super) fn start(files: &[PathBuf], path: &Path) -> Result<Self, Error> {
        let sources: Vec<Source> =
            files.iter().map(|file| Source::open(file)).collect::<Result<_, _>>()?;
        let newest = sources.first().ok_or_else(|| Error::damaged(path, "it has no sources"))?;
        let newest = newest.reader.head();
        let accounts = newest.mark.checkpoint.accounts();
        let head = Head { previous: 0, entries: accounts, ..newest.clone() };
        let writer = Writer::create(path, &head)?;
        let mut merge = Self { sources, writer, next: 0, changed_next: None, accounts };
        merge.changed_next = merge.find_changed();
        Ok(merge)
    }

    fn find_changed(&self) -> Option<u32> {
        let (_, changed) = self.sources.split_last()?;
        changed.iter().filter_map(|source| source.front.as_ref()).map(|entry| entry.0).min()
    }

    /// How many accounts it will have.
    pub(super) const fn accounts(&self) -> u64 {
        self.accounts
    }

    /// Writes so many entries more; answers whether all are written.
    ///
    /// Errors: those of reading and writing; [`Error::Damaged`], when an account is in none of the files.
    pub(super) fn step(&mut self, entries: u32) -> Result<bool, Error> {
        for _ in 0..entries {
            if u64::from(self.next) == self.accounts {
                break;
            }
            // Most accounts are in the oldest alone, which has all that were there at its time.
            if self.changed_next != Some(self.next) {
                let oldest = self.sources.last_mut().map(|source| source.take(self.next));
                if let Some(entry) = oldest.transpose()?.flatten() {
                    self.writer.push(&entry)?;
                    self.next += 1;
                    continue;
                }
            }
            let mut newest = None;
            for source in &mut self.sources {
                let entry = source.take(self.next)?;
                newest = newest.or(entry);
            }
            self.changed_next = self.find_changed();
            let Some(entry) = newest else {
                let what = format!("account {} is in no file", self.next);
                return Err(Error::damaged(self.writer.path(), what));
            };
            self.writer.push(&entry)?;
            self.next += 1;
        }
        Ok(u64::from(self.next) == self.accounts)
    }

    /// Ends it, once every source has shown that it is what was written.
    ///
    /// Errors: those of reading and writing.
    pub(super) fn finish(self) -> Result<(), Error> {
        for source in self.sources {
            source.reader.finish()?;
        }
        self.writer.finish()
    }
}
