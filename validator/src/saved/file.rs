//! One file: a head, the chain's checkpoint, accounts by number, and a digest over all of it.
//!
//! ```text
//!   0  magic        8   "althsave"
//!   8  version      u8 = 1
//!   9  reserved     7   zero
//!  16  network      32  genesis digest
//!  48  height       u64
//!  56  previous     u64 height of the file before it; 0: it has every account
//!  64  transactions u64 with a final outcome, up to this height
//!  72  content      u64 newest height that advanced a lane or executed something
//!  80  entries      u64
//!  88  length       u32 of the checkpoint
//!  92  reserved     4   zero
//!  96  checkpoint       a ledger::Checkpoint
//!  ..  entries          number u32, account 80, ascending by number
//!  ..  digest       32  BLAKE3 of all bytes before it
//! ```

use super::Error;
use ledger::limits::{ACCOUNT_BYTES, CHECKPOINT_BYTES_MAX};
use ledger::{Account, Checkpoint, Digest, Height, PublicKey};
use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"althsave";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 96;
const ENTRY_BYTES: usize = 4 + ACCOUNT_BYTES;
/// Separates the digest from every other use of the hash.
const CONTEXT: &str = "althing 2026 saved state file v1";
/// Bytes that are hashed, read or written at once: the hash function works on many blocks side by side.
const PIECE_BYTES: usize = 1 << 20;
/// Whole pieces that are synced together, so that no burst stands in the ledger's way.
const SYNC_PIECES: u32 = 8;

/// What a file is called after its name until it is whole.
pub(super) const PART: &str = "part";

/// An account and its number.
pub type Entry = (u32, PublicKey, Account);

/// What is kept of a height beside its accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The chain.
    pub checkpoint: Checkpoint,
    /// Transactions with a final outcome, as far as this validator counted.
    pub transactions: u64,
    /// Newest height that advanced a lane or executed something.
    pub content: Height,
}

/// The head of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) network: Digest,
    pub(super) previous: u64,
    pub(super) entries: u64,
    pub(super) mark: Mark,
}

impl Head {
    pub(super) fn height(&self) -> u64 {
        self.mark.checkpoint.height().get()
    }

    fn encode(&self) -> Vec<u8> {
        let checkpoint = self.mark.checkpoint.encode();
        let length = u32::try_from(checkpoint.len()).expect("a checkpoint is capped");
        let mut bytes = Vec::with_capacity(HEAD_BYTES + checkpoint.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(self.network.as_bytes());
        for field in [
            self.height(),
            self.previous,
            self.mark.transactions,
            self.mark.content.get(),
            self.entries,
        ] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&checkpoint);
        bytes
    }

    /// Reads the fixed part; answers the head without its checkpoint, and the checkpoint's length.
    fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<(Digest, [u64; 5], usize), &'static str> {
        if bytes[..8] != *MAGIC || bytes[8] != VERSION || bytes[9..16] != [0; 7] {
            return Err("it is no file of this version");
        }
        let network = Digest(*bytes[16..].first_chunk().expect("within the head"));
        let field = |place: usize| {
            u64::from_le_bytes(*bytes[48 + 8 * place..].first_chunk().expect("within the head"))
        };
        let length = u32::from_le_bytes(*bytes[88..].first_chunk().expect("within the head"));
        let length = usize::try_from(length).expect("32 bits fit");
        if length > CHECKPOINT_BYTES_MAX || bytes[92..] != [0; 4] {
            return Err("its head is damaged");
        }
        Ok((network, std::array::from_fn(field), length))
    }
}

/// Writes a file beside its final name, which it gets when it is whole and durable.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    hasher: blake3::Hasher,
    piece: Vec<u8>,
    pieces: u32,
}

impl Writer {
    /// Starts it.
    ///
    /// Errors: [`Error::File`].
    pub(super) fn create(path: &Path, head: &Head) -> Result<Self, Error> {
        let temporary = path.with_extension(PART);
        let file = File::create(&temporary).map_err(|error| Error::file(&temporary, error))?;
        let mut piece = Vec::with_capacity(PIECE_BYTES + HEAD_BYTES + CHECKPOINT_BYTES_MAX);
        piece.extend_from_slice(&head.encode());
        let hasher = blake3::Hasher::new_derive_key(CONTEXT);
        Ok(Self { file, path: path.to_owned(), hasher, piece, pieces: 0 })
    }

    /// The name that it gets.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an entry.
    ///
    /// Errors: [`Error::File`].
    pub(super) fn push(&mut self, (number, key, account): &Entry) -> Result<(), Error> {
        self.piece.extend_from_slice(&number.to_le_bytes());
        self.piece.extend_from_slice(&account.encode(key));
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        self.flush()?;
        self.pieces += 1;
        if self.pieces.is_multiple_of(SYNC_PIECES) {
            self.file.sync_data().map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Ends it: whole, durable, under its name.
    ///
    /// Errors: [`Error::File`].
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        let digest = *self.hasher.finalize().as_bytes();
        let written = self.file.write_all(&digest).and_then(|()| self.file.sync_all());
        written.map_err(|error| self.failed(error))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::rename(self.path.with_extension(PART), &self.path)
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|error| self.failed(error))
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.hasher.update(&self.piece);
        let written = self.file.write_all(&self.piece);
        self.piece.clear();
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::file(&self.path, error)
    }
}

/// Reads a file from its front; what it says is true once [`Reader::finish`] has agreed.
#[derive(Debug)]
pub(super) struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    hasher: blake3::Hasher,
    head: Head,
    left: u64,
    piece: Vec<u8>,
    at: usize,
    last: Option<u32>,
}

impl Reader {
    /// Opens it and reads the head.
    ///
    /// Errors: [`Error::File`], [`Error::Damaged`].
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::file(path, error);
        let damaged = |what: &str| Error::damaged(path, what);
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        // All of it will be read, in order; where the system takes no advice it is read as it comes.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed);
        let mut file = BufReader::with_capacity(PIECE_BYTES, file);
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        let mut bytes = [0; HEAD_BYTES];
        file.read_exact(&mut bytes).map_err(|_| damaged("it is too short"))?;
        hasher.update(&bytes);
        let (network, fields, length) = Head::decode(&bytes).map_err(damaged)?;
        let mut checkpoint = vec![0; length];
        file.read_exact(&mut checkpoint).map_err(|_| damaged("it is too short"))?;
        hasher.update(&checkpoint);
        let checkpoint = Checkpoint::decode(&checkpoint)
            .map_err(|reject| Error::damaged(path, format!("its checkpoint: {reject}")))?;
        let [height, previous, transactions, content, entries] = fields;
        let mark = Mark { checkpoint, transactions, content: Height(content) };
        let head = Head { network, previous, entries, mark };
        let bytes = entries.checked_mul(ENTRY_BYTES as u64);
        let whole = bytes.and_then(|bytes| bytes.checked_add((HEAD_BYTES + length + 32) as u64));
        let is_sound = head.height() == height
            && previous < height
            && entries <= head.mark.checkpoint.accounts()
            && (previous > 0 || entries == head.mark.checkpoint.accounts())
            && head.mark.checkpoint.network() == network;
        if !is_sound || whole != Some(size) {
            return Err(damaged("its head is damaged"));
        }
        let (path, left) = (path.to_owned(), entries);
        Ok(Self { file, path, hasher, head, left, piece: Vec::new(), at: 0, last: None })
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// The next entry; none at the end.
    ///
    /// Errors: [`Error::File`], [`Error::Damaged`].
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        if self.at == self.piece.len() && !self.fill()? {
            return Ok(None);
        }
        let entry = &self.piece[self.at..self.at + ENTRY_BYTES];
        self.at += ENTRY_BYTES;
        let number = u32::from_le_bytes(*entry.first_chunk().expect("an entry is longer"));
        if self.last.is_some_and(|last| last >= number) {
            return Err(Error::damaged(&self.path, "its entries are out of order"));
        }
        self.last = Some(number);
        let (key, account) = Account::decode(entry[4..].first_chunk().expect("an entry's length"));
        Ok(Some((number, key, account)))
    }

    /// Reads whole entries; answers whether there were any.
    fn fill(&mut self) -> Result<bool, Error> {
        let count = self.left.min((PIECE_BYTES / ENTRY_BYTES) as u64);
        self.left -= count;
        self.at = 0;
        let count = usize::try_from(count).expect("a piece fits memory");
        self.piece.resize(count * ENTRY_BYTES, 0);
        let read = self.file.read_exact(&mut self.piece);
        read.map_err(|error| Error::file(&self.path, error))?;
        self.hasher.update(&self.piece);
        Ok(count > 0)
    }

    /// Reads the rest, and holds all of it against the digest.
    ///
    /// Errors: [`Error::File`], [`Error::Damaged`].
    pub(super) fn finish(mut self) -> Result<Head, Error> {
        while self.fill()? {}
        let mut digest = [0; 32];
        let read = self.file.read_exact(&mut digest);
        read.map_err(|error| Error::file(&self.path, error))?;
        if digest != *self.hasher.finalize().as_bytes() {
            return Err(Error::damaged(&self.path, "it does not have its digest"));
        }
        Ok(self.head)
    }
}
