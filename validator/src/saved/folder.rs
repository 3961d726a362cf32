//! The folder of the files: which there are, which of them can be used, and how they become a state.

use super::{
    Error,
    file::{Head, Mark, PART, Reader},
};
use ledger::{Account, Digest, PublicKey};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// How the files are named: `state-` and the height.
const PREFIX: &str = "state-";

/// The folder, or none for a node that keeps no files.
#[derive(Clone, Debug)]
pub struct Folder {
    path: Option<PathBuf>,
    network: Digest,
}

/// A state that was read back.
#[derive(Debug)]
pub struct Loaded {
    /// The chain and what is kept beside it.
    pub mark: Mark,
    /// Every account by number.
    pub accounts: Vec<(PublicKey, Account)>,
}

/// What is known of a file without its entries.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) previous: u64,
    pub(super) entries: u64,
    pub(super) mark: Mark,
}

impl Folder {
    /// The folder at a path, for one network; it is made when the first file is written.
    pub fn new(path: PathBuf, network: Digest) -> Self {
        Self { path: Some(path), network }
    }

    /// No folder: nothing is kept, and every start replays the ledger.
    pub const fn none(network: Digest) -> Self {
        Self { path: None, network }
    }

    /// Returns whether files are kept.
    pub const fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) fn network(&self) -> Digest {
        self.network
    }

    pub(super) fn file(&self, height: u64) -> PathBuf {
        let folder = self.path.as_deref().unwrap_or(Path::new(""));
        folder.join(format!("{PREFIX}{height}"))
    }

    /// Makes the folder.
    ///
    /// Errors: [`Error::File`].
    pub(super) fn make(&self) -> Result<(), Error> {
        let Some(path) = &self.path else { return Ok(()) };
        fs::create_dir_all(path).map_err(|error| Error::file(path, error))
    }

    /// The files whose heads can be read and are this network's, by height.
    pub(super) fn files(&self) -> BTreeMap<u64, Known> {
        let names = self.names().unwrap_or_default();
        let known = names.into_iter().filter_map(|height| {
            let reader = Reader::open(&self.file(height)).ok()?;
            let Head { network, previous, entries, mark } = reader.head().clone();
            let is_ours = network == self.network && mark.checkpoint.height().get() == height;
            is_ours.then_some((height, Known { previous, entries, mark }))
        });
        known.collect()
    }

    fn names(&self) -> io::Result<Vec<u64>> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let mut heights = Vec::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            let height = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            heights.extend(height.and_then(|height| height.parse::<u64>().ok()));
        }
        Ok(heights)
    }

    /// Removes every file but these.
    pub(super) fn keep(&self, heights: &[u64]) {
        for height in self.names().unwrap_or_default() {
            if !heights.contains(&height) {
                // One that stays takes room, and is passed over as long as it is of no use.
                let _ = fs::remove_file(self.file(height));
            }
        }
    }

    /// Removes what was not finished: nobody may be writing.
    pub(super) fn clean(&self) {
        let Some(path) = &self.path else { return };
        let Ok(entries) = fs::read_dir(path) else { return };
        let parts = entries.flatten().map(|entry| entry.path());
        for part in parts.filter(|path| path.extension().is_some_and(|it| it == PART)) {
            // It is written over when its turn comes.
            let _ = fs::remove_file(part);
        }
    }

    /// Reads the newest state that `is_final` vouches for; what is damaged on the way is passed over.
    pub fn load(&self, mut is_final: impl FnMut(&Mark) -> bool) -> Option<Loaded> {
        let files = self.files();
        for height in files.keys().rev() {
            let Some(chain) = chain(&files, *height) else { continue };
            let mark = &files[height].mark;
            if !is_final(mark) {
                continue;
            }
            match self.read(&chain) {
                Ok(loaded) => return Some(loaded),
                Err(error) => tracing::warn!(%error, "a saved state is passed over"),
            }
        }
        None
    }

    /// Reads a chain of files, the one with every account first.
    fn read(&self, heights: &[u64]) -> Result<Loaded, Error> {
        let mut accounts: Vec<(PublicKey, Account)> = Vec::new();
        let mut newest = None;
        for height in heights {
            let path = self.file(*height);
            let mut reader = Reader::open(&path)?;
            // As many as the file's size has shown, and of the first file all are new.
            let new =
                reader.head().mark.checkpoint.accounts().saturating_sub(accounts.len() as u64);
            let new = new.min(reader.head().entries);
            accounts.reserve_exact(usize::try_from(new).expect("accounts have 32-bit numbers"));
            while let Some((number, key, account)) = reader.next()? {
                let number = usize::try_from(number).expect("memory has more than 32 bits");
                if number == accounts.len() {
                    accounts.push((key, account));
                } else if let Some(place) = accounts.get_mut(number) {
                    *place = (key, account);
                } else {
                    return Err(Error::damaged(&path, "accounts are missing in it"));
                }
            }
            newest = Some(reader.finish()?.mark);
        }
        let mark = newest.ok_or_else(|| Error::damaged(&self.file(0), "there is none"))?;
        Ok(Loaded { mark, accounts })
    }
}

/// The heights from a file with every account up to one, if they are all there.
pub(super) fn chain(files: &BTreeMap<u64, Known>, height: u64) -> Option<Vec<u64>> {
    let mut heights = vec![height];
    loop {
        let file = files.get(heights.last()?)?;
        if file.previous == 0 {
            heights.reverse();
            return Some(heights);
        }
        // Below it, as the reader has seen: this ends.
        heights.push(file.previous);
    }
}
