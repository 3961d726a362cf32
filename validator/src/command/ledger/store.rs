//! A stored ledger as blocks and transactions: records found, decoded, and never trusted.

use crate::command::Exit;
use crate::config::identity::load_genesis;
use crate::record;
use ledger::limits::BATCH_HEADER_BYTES;
use ledger::{BatchHeader, Cut, Digest, Genesis, Height, OutcomeList, Tip};
use std::path::{Path, PathBuf};
use storage::{Place, Reader};

/// Where a ledger and its genesis lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The folder of the segments.
    pub segments: PathBuf,
    /// The copy of the genesis file, if there is one.
    pub genesis: Option<PathBuf>,
}

impl Location {
    /// Finds the ledger of a data folder, of a validator's folder, or in the folder itself.
    ///
    /// Errors: config, when there is none.
    pub fn find(folder: &Path) -> Result<Self, Exit> {
        for data in [folder.to_path_buf(), folder.join("data")] {
            let segments = data.join("ledger");
            if segments.is_dir() {
                let genesis = Some(data.join("genesis.json")).filter(|file| file.is_file());
                return Ok(Self { segments, genesis });
            }
        }
        let holds_segments = std::fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| entry.path().extension().is_some_and(|end| end == "seg"))
            })
        });
        if holds_segments {
            return Ok(Self { segments: folder.to_path_buf(), genesis: None });
        }
        Err(Exit::config(format!("{}: no ledger here (no ledger/*.seg)", folder.display())))
    }

    /// Loads the genesis: the given file, or the copy beside the ledger.
    ///
    /// Errors: config, when there is neither.
    pub fn load_genesis(&self, given: Option<&Path>) -> Result<Genesis, Exit> {
        match given.or(self.genesis.as_deref()) {
            Some(file) => load_genesis(file),
            None => Err(Exit::config(format!(
                "{}: no genesis.json beside it: give --genesis FILE",
                self.segments.display()
            ))),
        }
    }
}

/// Says what a failure of the store means to a command.
pub fn exit_of(segments: &Path, error: &storage::Error) -> Exit {
    use storage::Error;
    let line = format!("{}: {error}", segments.display());
    match error {
        Error::Corrupt { .. } | Error::Anchor => Exit::data_corrupt(line),
        Error::TornTail { .. } => Exit::data_corrupt(format!(
            "{line}: the end is damaged, or the validator was killed: starting it cuts this off"
        )),
        Error::OtherNetwork { .. } => Exit::config(line),
        Error::Locked { .. } => Exit::host_unfit(format!("{error}: stop the validator first")),
        Error::Folder { .. } | Error::Disk { .. } => Exit::host_unfit(line),
        Error::Poisoned { .. }
        | Error::Closed { .. }
        | Error::TooLarge { .. }
        | Error::NoRecord { .. }
        | Error::Options { .. }
        | Error::Backend { .. } => Exit::data_corrupt(line),
    }
}

/// A ledger that is read.
pub struct Ledger {
    reader: Reader,
    segments: PathBuf,
}

/// The stored parts of one block.
#[derive(Clone, Debug, Default)]
pub struct StoredBlock {
    /// The encoded cut.
    pub cut: Vec<u8>,
    /// Its own finality certificate.
    pub certificate: Option<Vec<u8>>,
    /// The encoded outcome list; empty where there is none.
    pub outcomes: Vec<u8>,
    /// The encoded set that decides from the next height on, where it is another.
    pub set: Option<Vec<u8>>,
}

impl Ledger {
    /// Opens the segments of a location; checks every group's hash.
    ///
    /// Errors: those of [`exit_of`].
    pub fn open(location: &Location, network: Option<&Digest>) -> Result<Self, Exit> {
        let segments = location.segments.clone();
        let reader = Reader::open(&segments, network.map(|network| *network.as_bytes()))
            .map_err(|error| exit_of(&segments, &error))?;
        Ok(Self { reader, segments })
    }

    /// Returns the store.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns the network of its groups.
    pub fn network(&self) -> Option<Digest> {
        self.reader.network().map(Digest)
    }

    /// Returns the newest height.
    pub fn last_height(&self) -> u64 {
        self.reader.last_height(record::CUT).unwrap_or(0)
    }

    /// Returns the greatest height of any kind of record that belongs to a block.
    pub fn last_height_of_any(&self) -> u64 {
        [record::CUT, record::CERTIFICATE, record::OUTCOMES, record::SET]
            .into_iter()
            .filter_map(|kind| self.reader.last_height(kind))
            .max()
            .unwrap_or(0)
    }

    /// Returns the parts of a block; none when its cut is not there.
    ///
    /// Errors: those of [`exit_of`].
    pub fn block(&self, height: u64) -> Result<Option<StoredBlock>, Exit> {
        let part = |kind| self.reader.at_height(kind, height);
        let Some(cut) = part(record::CUT) else {
            return Ok(None);
        };
        let optional = |place: Option<Place>| place.map(|place| self.read(place)).transpose();
        Ok(Some(StoredBlock {
            cut: self.read(cut)?,
            certificate: optional(part(record::CERTIFICATE))?,
            outcomes: optional(part(record::OUTCOMES))?.unwrap_or_default(),
            set: optional(part(record::SET))?,
        }))
    }

    /// Returns the decoded cut of a height; none when it is not there.
    ///
    /// Errors: data corrupt, when it cannot be decoded.
    pub fn cut(&self, height: u64) -> Result<Option<Cut>, Exit> {
        let Some(place) = self.reader.at_height(record::CUT, height) else {
            return Ok(None);
        };
        Cut::decode(&self.read(place)?)
            .map(Some)
            .map_err(|reject| self.damaged(height, "cut", &reject.to_string()))
    }

    /// Returns the outcomes of a height; none when they are not there.
    ///
    /// Errors: data corrupt, when they cannot be decoded.
    pub fn outcomes(&self, height: u64) -> Result<Option<OutcomeList>, Exit> {
        let Some(place) = self.reader.at_height(record::OUTCOMES, height) else {
            return Ok(None);
        };
        OutcomeList::decode(&self.read(place)?)
            .map(Some)
            .map_err(|reject| self.damaged(height, "outcomes", &reject.to_string()))
    }

    /// Returns the bytes of a batch; none when it is not there.
    ///
    /// Errors: those of [`exit_of`].
    pub fn batch(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Exit> {
        let place = self.reader.find(record::BATCH, digest.as_bytes());
        place.map(|place| self.read(place)).transpose()
    }

    /// Returns the batches of one lane from `newest` back to `oldest`, which is not included.
    ///
    /// Shape: newest first; ends where a batch is missing or is not one, which the audit then names.
    /// Errors: those of [`exit_of`].
    pub fn lane(&self, newest: &Digest, oldest: &Tip, count: u64) -> Result<Vec<Vec<u8>>, Exit> {
        let mut batches = Vec::new();
        let mut digest = *newest;
        for _ in 0..count {
            if digest == oldest.digest {
                break;
            }
            let Some(bytes) = self.batch(&digest)? else {
                break;
            };
            let header =
                bytes.get(..BATCH_HEADER_BYTES).and_then(|head| BatchHeader::decode(head).ok());
            batches.push(bytes);
            match header {
                Some(header) => digest = header.previous,
                None => break,
            }
        }
        Ok(batches)
    }

    /// Says where a record lies that is not what it should be.
    pub fn damaged(&self, height: u64, what: &str, why: &str) -> Exit {
        let segments = self.segments.display();
        let height = Height(height);
        Exit::data_corrupt(format!("{segments}: height {height}, {what}: {why}"))
    }

    /// Reads a record.
    ///
    /// Errors: those of [`exit_of`].
    pub fn read(&self, place: Place) -> Result<Vec<u8>, Exit> {
        self.reader.read(place).map_err(|error| exit_of(&self.segments, &error))
    }
}
