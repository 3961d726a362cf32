//! Evidence against validators: found here or told by others, checked, kept, passed on.
//!
//! ```text
//! engine: two votes ─┐
//! lanes: a fork ─────┼─▶ check ─▶ new? ─▶ a file of its own ─▶ told to all ─▶ status, API, `evidence list`
//! verify: bad batch ─┤
//! another validator ─┘
//! ```
//!
//! A plain state machine, but for the files. Of each validator so much is kept and no more: one offence is as good
//! as a hundred, and who commits one can make any number of them.

use crate::terms::Terms;
use ledger::{
    Digest, Evidence, Offence, PublicKey, Reject, Signatures, Transaction,
    limits::EVIDENCE_BYTES_MAX, signing_message,
};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

/// How the files end.
pub const SUFFIX: &str = "evidence";
/// Evidence of one kind against one validator that is kept, at most.
pub const KEPT_MAX: usize = 8;
/// The same of the kind that has a transaction in it, and takes up to 72 KiB.
pub const KEPT_LARGE_MAX: usize = 2;

/// Evidence that holds.
#[derive(Debug)]
pub struct Kept {
    /// Its name.
    pub digest: Digest,
    /// What it says.
    pub evidence: Evidence,
    /// Its encoding.
    pub bytes: Vec<u8>,
}

/// What is kept, for whoever shows it.
#[derive(Debug, Default)]
pub struct Board(RwLock<Vec<Arc<Kept>>>);

impl Board {
    /// Everything that is kept, oldest first.
    pub fn all(&self) -> Vec<Arc<Kept>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, kept: Arc<Kept>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(kept);
    }
}

/// The state machine.
pub struct Core {
    folder: PathBuf,
    network: Digest,
    terms: Terms,
    me: PublicKey,
    signatures: Arc<dyn Signatures>,
    known: HashSet<Digest>,
    board: Arc<Board>,
    /// What is told again next.
    next: usize,
}

impl Core {
    /// Starts with what the folder holds; what does not hold there is passed over.
    pub fn open(
        folder: PathBuf,
        network: Digest,
        terms: Terms,
        me: PublicKey,
        signatures: Arc<dyn Signatures>,
        board: Arc<Board>,
    ) -> Self {
        let known = HashSet::new();
        let mut core = Self { folder, network, terms, me, signatures, known, board, next: 0 };
        for file in files(&core.folder) {
            let read = read(&file).map_err(|error| error.to_string());
            let taken = read.and_then(|bytes| {
                let evidence = Evidence::decode(&bytes).map_err(|reject| reject.to_string())?;
                core.take(evidence, bytes, false).map_err(|reject| reject.to_string())
            });
            if let Err(why) = taken {
                tracing::warn!(path = %file.display(), why, "evidence is passed over");
            }
        }
        core
    }

    /// Takes what was found here; answers what is to be told to the others, if it is new.
    ///
    /// Errors: those of [`Evidence::check`]: it does not hold.
    pub fn found(&mut self, evidence: Evidence) -> Result<Option<Vec<u8>>, Reject> {
        let bytes = evidence.encode();
        self.take(evidence, bytes, true)
    }

    /// Takes what another validator told; answers what is to be told to the others, if it is new.
    ///
    /// Errors: those of [`Evidence::decode`] and [`Evidence::check`].
    pub fn told(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Reject> {
        self.take(Evidence::decode(bytes)?, bytes.to_vec(), true)
    }

    /// What is told again, in turns: who was away has not heard it.
    pub fn repeat(&mut self) -> Option<Vec<u8>> {
        let all = self.board.all();
        let kept = all.get(self.next).or(all.first())?;
        self.next = (self.next + 1) % all.len();
        Some(kept.bytes.clone())
    }

    fn take(
        &mut self,
        evidence: Evidence,
        bytes: Vec<u8>,
        is_new: bool,
    ) -> Result<Option<Vec<u8>>, Reject> {
        let digest = evidence.digest();
        let set = self.terms.set(evidence.epoch()).ok_or(Reject::WrongEpoch)?;
        let key = |of: &Evidence| self.terms.set(of.epoch())?.key(of.validator()).copied();
        let offender = key(&evidence);
        // Of all epochs together: one key can sign against itself in each of them, and they go on for ever.
        let is_alike = |kept: &&Arc<Kept>| {
            kept.evidence.kind() == evidence.kind() && key(&kept.evidence) == offender
        };
        // Both are cheaper than its signatures.
        let most = match evidence.offence() {
            Offence::Batch { .. } => KEPT_LARGE_MAX,
            _ => KEPT_MAX,
        };
        if self.known.contains(&digest) || self.board.all().iter().filter(is_alike).count() >= most
        {
            return Ok(None);
        }
        evidence.check(&self.network, &set, &*self.signatures)?;
        confirm(&evidence, &self.network);
        let (validator, kind) = (evidence.validator(), evidence.kind());
        if set.index_of(&self.me) == Some(validator) {
            tracing::error!(
                kind,
                %digest,
                "this validator's own key has signed what it never does: another process has the key"
            );
        } else {
            tracing::warn!(validator, kind, %digest, "a validator is proved to misbehave");
        }
        if is_new && let Err(error) = write(&self.folder, &digest, &bytes) {
            // Others keep it, too, and tell it again.
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "evidence is not written: a start forgets it");
        }
        self.known.insert(digest);
        self.board.push(Arc::new(Kept { digest, evidence, bytes: bytes.clone() }));
        Ok(Some(bytes))
    }
}

/// A signature that does not hold convicts who signed the batch: the oracle itself says so, too.
fn confirm(evidence: &Evidence, network: &Digest) {
    let Offence::Batch { transaction, .. } = evidence.offence() else { return };
    let transaction = Transaction::decode(transaction).expect("the check has decoded it");
    let message = signing_message(&transaction.id(network));
    let item = transaction.signed_item(&message);
    let item = sigverify::Item { key: item.key, message: item.message, signature: item.signature };
    assert!(!sigverify::verify_one(&item).is_valid(), "a backend contradicts the oracle");
}

/// The files of a folder, by name; none when there is none.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == SUFFIX)).collect();
    files.sort();
    files
}

/// Reads a file, one byte further than it may be long, so that more is noticed.
///
/// Errors: those of the system.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(EVIDENCE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let mut bytes = Vec::new();
    File::open(file)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file that is whole or not there.
fn write(folder: &Path, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        let parent = folder.parent().unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    let file = folder.join(format!("{digest}.{SUFFIX}"));
    let unfinished = file.with_extension("new");
    let mut part = File::create(&unfinished)?;
    part.write_all(bytes)?;
    part.sync_all()?;
    fs::rename(&unfinished, &file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::{core_for_tests, fork_for_tests, forks_for_tests};
