//! Collects what execution changes and writes it now and then; a plain state machine but for its files.

use super::{
    Error, Folder,
    file::{Entry, Head, Mark, Writer},
    folder::{Known, chain},
    merge::Merge,
};
use std::sync::Arc;

/// Time between two files: at the next start what was executed since the last is executed again, in a
/// second or two at the highest rates.
const PERIOD_NS: u64 = 10_000_000_000;
/// Files in a row before they are merged, whatever they hold: each is opened at a start.
const FILES_MAX: usize = 32;
/// Entries that are merged at a time: some milliseconds.
const MERGE_ENTRIES: u32 = 8_192;

/// Heights that must follow a state before a start uses it.
const FOLLOWED_MIN: u64 = crate::consensus::PROGRESS_MAX as u64;
/// Changes that are kept one by one; with more, only the newest of each account is.
const CHANGES_MAX: usize = 1 << 20;
/// Bytes of them, and of the reduced ones while a file is written, where no more accounts change.
pub const CHANGES_BYTES_MAX: usize = 2 * CHANGES_MAX * size_of::<Entry>();

/// What a height changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// Accounts by number, as they are after it.
    pub accounts: Arc<[Entry]>,
    /// The chain, at a checkpoint height.
    pub mark: Option<Box<Mark>>,
}

/// Where the files stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    height: u64,
    previous: u64,
    entries: u64,
}

/// The state machine.
pub struct Saver {
    folder: Folder,
    /// What changed since the newest file, oldest first, as it came.
    changes: Vec<Arc<[Entry]>>,
    /// Entries that came since they were last reduced, and how many were left then.
    added: usize,
    reduced: usize,
    /// The files that make the newest state up, the one with every account first.
    files: Vec<Written>,
    /// Files before those: a start uses none that the ledger does not follow far enough.
    spare: Vec<Written>,
    merge: Option<(Merge, Written)>,
    written: u64,
    /// Whether the last attempt failed; it is said once.
    is_failing: bool,
    /// Whether a file that all later ones build on is damaged: the next start makes new ones.
    is_stopped: bool,
}

impl Saver {
    /// Starts with what changed since the state that this start was loaded from; with every account, where
    /// it was loaded from none.
    pub fn new(folder: Folder, now: u64, loaded: Option<u64>, changed: Vec<Entry>) -> Self {
        let known = folder.files();
        let files = loaded.and_then(|height| chain(&known, height)).unwrap_or_default();
        folder.keep(&files);
        folder.clean();
        let written = |height: &u64| {
            let Known { previous, entries, .. } = known[height];
            Written { height: *height, previous, entries }
        };
        Self {
            files: files.iter().map(written).collect(),
            folder,
            added: 0,
            reduced: changed.len(),
            changes: vec![changed.into()],
            spare: Vec::new(),
            merge: None,
            written: now,
            is_failing: false,
            is_stopped: false,
        }
    }

    /// Takes what a durable height changed, and writes a file when it is time and the height has a mark.
    pub fn changed(&mut self, now: u64, change: &Change) {
        if self.folder.path().is_none() || self.is_stopped {
            return;
        }
        if !change.accounts.is_empty() {
            self.added += change.accounts.len();
            self.changes.push(Arc::clone(&change.accounts));
        }
        // As much again as is left each time: the work stays in proportion to what changes.
        if self.added > CHANGES_MAX.max(self.reduced) {
            self.changes = vec![self.newest().into_iter().copied().collect()];
            (self.added, self.reduced) = (0, self.changes[0].len());
        }
        let Some(mark) = &change.mark else { return };
        if now < self.written + PERIOD_NS {
            return;
        }
        self.written = now;
        let saved = self.save(mark);
        self.note(saved);
    }

    /// Returns whether [`Saver::work`] has something to do.
    pub const fn is_busy(&self) -> bool {
        self.merge.is_some()
    }

    /// Does a piece of what is under way.
    pub fn work(&mut self) {
        let Some((mut merge, written)) = self.merge.take() else { return };
        match merge.step(MERGE_ENTRIES) {
            Ok(false) => self.merge = Some((merge, written)),
            Ok(true) => {
                let merged = merge.finish().map(|()| self.merged(written));
                self.note(merged);
            }
            Err(error) => self.note(Err(error)),
        }
    }

    fn save(&mut self, mark: &Mark) -> Result<(), Error> {
        self.folder.make()?;
        let entries = self.newest();
        let count = entries.len() as u64;
        let accounts = mark.checkpoint.accounts();
        // All of them make a file that needs none before it.
        let previous = match self.files.last() {
            Some(last) if count < accounts => last.height,
            Some(_) | None => 0,
        };
        let network = self.folder.network();
        let head = Head { network, previous, entries: count, mark: mark.clone() };
        let height = head.height();
        let mut writer = Writer::create(&self.folder.file(height), &head)?;
        for entry in entries {
            writer.push(entry)?;
        }
        writer.finish()?;
        self.changes.clear();
        (self.added, self.reduced) = (0, 0);
        if previous == 0 {
            self.merge = None;
            self.spare.append(&mut self.files);
        }
        self.files.push(Written { height, previous, entries: count });
        self.tidy();
        self.merge_if_due()
    }

    /// The newest value of every account that changed, by number.
    fn newest(&self) -> Vec<&Entry> {
        let all = || self.changes.iter().rev().flat_map(|change| change.iter());
        let numbers = all().map(|entry| entry.0).max().map_or(0, |most| most as usize + 1);
        let mut changed = vec![0_u64; numbers.div_ceil(64)];
        let place = |entry: &Entry| (entry.0 as usize / 64, 1_u64 << (entry.0 % 64));
        for (word, bit) in all().map(place) {
            changed[word] |= bit;
        }
        // An account's place is known from how many before it changed: nothing is copied or sorted.
        let mut before = Vec::with_capacity(changed.len());
        let mut count = 0;
        for word in &changed {
            before.push(count);
            count += word.count_ones() as usize;
        }
        let mut newest = vec![None; count];
        for entry in all() {
            let (word, bit) = place(entry);
            let before = before[word] + (changed[word] & (bit - 1)).count_ones() as usize;
            newest[before].get_or_insert(entry);
        }
        newest.into_iter().flatten().collect()
    }

    /// Starts a merge when the files after the first have as much as it has.
    fn merge_if_due(&mut self) -> Result<(), Error> {
        let [whole, rest @ ..] = self.files.as_slice() else { return Ok(()) };
        let changed: u64 = rest.iter().map(|file| file.entries).sum();
        if self.merge.is_some() || (changed < whole.entries && self.files.len() < FILES_MAX) {
            return Ok(());
        }
        let newest = *self.files.last().expect("there is a first one");
        let paths: Vec<_> = self.files.iter().rev().map(|it| self.folder.file(it.height)).collect();
        // Beside the file that it replaces, which stays until the merged one is whole.
        let merge = Merge::start(&paths, &self.folder.file(newest.height))?;
        let entries = merge.accounts();
        self.merge = Some((merge, Written { entries, ..newest }));
        Ok(())
    }

    /// The file of a height has every account now.
    fn merged(&mut self, whole: Written) {
        let later = self.files.iter().position(|file| file.height > whole.height);
        let later = self.files.split_off(later.unwrap_or(self.files.len()));
        self.files.pop();
        self.spare.append(&mut self.files);
        self.files.push(Written { previous: 0, ..whole });
        self.files.extend(later);
        self.tidy();
    }

    /// Keeps what the newest state is made of, and from the newest one that a start would use.
    fn tidy(&mut self) {
        let newest = self.files.last().map_or(0, |file| file.height);
        let all = || self.spare.iter().chain(&self.files);
        let usable = all().filter(|file| file.height.saturating_add(FOLLOWED_MIN) <= newest);
        let mut first = usable.map(|file| file.height).max().unwrap_or(0);
        while let Some(file) = all().find(|file| file.height == first && file.previous > 0) {
            first = file.previous;
        }
        self.spare.retain(|file| file.height >= first);
        let kept: Vec<u64> = self.spare.iter().chain(&self.files).map(|file| file.height).collect();
        self.folder.keep(&kept);
    }

    /// A failure costs the next start some time: it is said, and tried again.
    fn note(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => self.is_failing = false,
            Err(error @ Error::Damaged { .. }) => {
                self.is_stopped = true;
                self.changes.clear();
                tracing::warn!(%error, "the state is saved no more: the next start replays more, and begins anew");
            }
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!(%error, "the state is not saved: the next start replays more");
            }
            Err(_) => {}
        }
    }
}
