//! What clients were told is final, kept in a file and looked up in every ledger at the end.
//!
//! ```text
//! offset  size  field of an entry
//!      0    32  id
//!     32     8  height, little-endian
//!     40     1  outcome
//!     41     7  zero
//! ```

use crate::client::load::Acknowledged;
use crate::command::Exit;
use crate::command::ledger::store::{Ledger, Location};
use crate::command::network::Network;
use ledger::{Digest, Height, Outcome};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// The file in the network's folder.
const FILE: &str = "acknowledged";
const ENTRY_BYTES: usize = 48;
/// Entries that are looked up at once: 48 MB of memory, whatever the length of the run.
const ENTRIES_AT_ONCE: usize = 1_000_000;

/// The entries of a run, being written or whole.
pub(super) struct Acknowledgements {
    file: PathBuf,
    writer: BufWriter<File>,
    count: u64,
    failure: Option<io::Error>,
}

/// What looking them all up has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// Entries looked up in every ledger.
    pub(super) count: u64,
    /// What is missing, a sentence for each ledger.
    pub(super) problems: Vec<String>,
}

impl Acknowledgements {
    /// Starts the file.
    ///
    /// Errors: config, when it exists or cannot be made.
    pub(super) fn create(folder: &Path) -> Result<Self, Exit> {
        let file = folder.join(FILE);
        let opened = File::create_new(&file)
            .map_err(|error| Exit::config(format!("{}: {error}", file.display())))?;
        Ok(Self { file, writer: BufWriter::new(opened), count: 0, failure: None })
    }

    /// Adds an entry; a failure shows at the end.
    pub(super) fn add(&mut self, known: &Acknowledged) {
        let mut entry = [0; ENTRY_BYTES];
        entry[..32].copy_from_slice(known.id.as_bytes());
        entry[32..40].copy_from_slice(&known.height.get().to_le_bytes());
        entry[40] = known.outcome.code();
        self.count += 1;
        if self.failure.is_none() {
            self.failure = self.writer.write_all(&entry).err();
        }
    }

    /// Ends the file.
    ///
    /// Errors: host unfit, when an entry could not be written.
    pub(super) fn finish(&mut self) -> Result<(), Exit> {
        let failure = self.failure.take().or_else(|| self.writer.flush().err());
        match failure {
            None => Ok(()),
            Some(error) => Err(Exit::host_unfit(format!("{}: {error}", self.file.display()))),
        }
    }

    /// Looks every entry up in the ledger of every validator.
    ///
    /// Errors: host unfit, when the file cannot be read back.
    pub(super) fn check(&self, network: &Network) -> Result<Checked, Exit> {
        let mut checked = Checked { count: self.count, problems: Vec::new() };
        for index in 0..network.validators.len() {
            let found = Location::find(&network.data(index))
                .and_then(|location| Ledger::open(&location, Some(&network.network)))
                .and_then(|stored| self.check_one(&stored));
            match found {
                Ok(missing) if missing.count == 0 => {}
                Ok(Missing { count, first }) => checked.problems.push(format!(
                    "validator {index} lacks {count} transactions that a client was told are final, \
                     the first: {first}"
                )),
                // An unreadable ledger is told by the comparison.
                Err(_) => {}
            }
        }
        Ok(checked)
    }

    fn check_one(&self, stored: &Ledger) -> Result<Missing, Exit> {
        let unreadable =
            |error: io::Error| Exit::host_unfit(format!("{}: {error}", self.file.display()));
        let mut reader = BufReader::new(File::open(&self.file).map_err(unreadable)?);
        let mut missing = Missing::default();
        loop {
            let mut entries = read_some(&mut reader).map_err(unreadable)?;
            if entries.is_empty() {
                return Ok(missing);
            }
            // By height, so that every block is read about once.
            entries.sort_unstable_by_key(|entry| entry.height);
            for block in entries.chunk_by(|one, other| one.height == other.height) {
                missing.look_up(block, &outcomes(stored, block[0].height)?);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Missing {
    count: u64,
    first: String,
}

impl Missing {
    fn look_up(&mut self, entries: &[Acknowledged], outcomes: &HashMap<Digest, Outcome>) {
        for Acknowledged { id, height, outcome } in entries {
            if outcomes.get(id) != Some(outcome) {
                if self.count == 0 {
                    self.first = format!("{id} ({} at height {height})", outcome.as_str());
                }
                self.count += 1;
            }
        }
    }
}

/// Returns what a ledger says of one height; nothing when it does not reach there.
fn outcomes(stored: &Ledger, height: Height) -> Result<HashMap<Digest, Outcome>, Exit> {
    let list = stored.outcomes(height.get())?.map(|list| list.outcomes).unwrap_or_default();
    let mut outcomes = HashMap::with_capacity(list.len());
    for (id, outcome) in list {
        if outcome.is_final() {
            // The first time counts: a second copy is stale.
            outcomes.entry(id).or_insert(outcome);
        }
    }
    Ok(outcomes)
}

fn read_some(reader: &mut impl Read) -> io::Result<Vec<Acknowledged>> {
    let mut entries = Vec::new();
    let mut entry = [0; ENTRY_BYTES];
    while entries.len() < ENTRIES_AT_ONCE {
        match reader.read_exact(&mut entry) {
            Ok(()) => entries.push(decode(&entry)?),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(entries)
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> io::Result<Acknowledged> {
    let (id, rest) = entry.split_first_chunk::<32>().expect("an entry has 48 bytes");
    let (height, rest) = rest.split_first_chunk::<8>().expect("an entry has 48 bytes");
    let outcome = Outcome::from_code(rest[0])
        .map_err(|reject| io::Error::new(ErrorKind::InvalidData, reject.to_string()))?;
    Ok(Acknowledged { id: Digest(*id), height: Height(u64::from_le_bytes(*height)), outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(number: u8, height: u64, outcome: Outcome) -> Acknowledged {
        Acknowledged { id: Digest([number; 32]), height: Height(height), outcome }
    }

    #[test]
    fn entries_come_back_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut written = Acknowledgements::create(folder.path()).unwrap();
        let entries = [
            known(1, 7, Outcome::Applied),
            known(2, u64::MAX, Outcome::Failed),
            known(3, 0, Outcome::Stale),
        ];
        for entry in &entries {
            written.add(entry);
        }
        written.finish().unwrap();
        let bytes = std::fs::read(folder.path().join(FILE)).unwrap();
        assert_eq!(bytes.len(), 3 * ENTRY_BYTES);
        assert_eq!(read_some(&mut bytes.as_slice()).unwrap(), entries);
        assert!(Acknowledgements::create(folder.path()).is_err(), "never replaced");
        let mut wrong = bytes;
        wrong[40] = 99;
        assert!(read_some(&mut wrong.as_slice()).is_err());
    }

    #[test]
    fn what_is_absent_or_became_something_else_is_missing() {
        let outcomes: HashMap<Digest, Outcome> =
            [(Digest([1; 32]), Outcome::Applied), (Digest([2; 32]), Outcome::Stale)].into();
        let mut missing = Missing::default();
        missing.look_up(&[known(1, 7, Outcome::Applied)], &outcomes);
        assert_eq!(missing.count, 0);
        let block = [known(2, 7, Outcome::Applied), known(3, 7, Outcome::Applied)];
        missing.look_up(&block, &outcomes);
        assert_eq!(missing.count, 2);
        assert!(missing.first.contains("applied at height 7"), "{}", missing.first);
    }
}
