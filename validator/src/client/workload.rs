//! What the transactions of a load are: a mix, and how each of them is made from a seed.
//!
//! An author, a place in its chain and a seed decide everything about a transaction: what it asks for,
//! how large it is, who receives, whether its signature holds and whether it is sent twice. So a run can
//! be repeated, and what was signed before the start is what would be signed later.

mod file;
mod share;

pub use file::{FILE_BYTES_MAX, parse};
pub use share::Share;

use super::author::Turn;
use crate::key::Secret;
use ledger::limits::TRANSACTION_OVERHEAD;
use ledger::transaction::TRANSFER_BYTES;
use ledger::{Digest, Draft, Height, Kind, PublicKey, Transfer};

/// Separates what the transactions are made of from every other use of the hash.
const CONTEXT: &str = "althing 2026 load transaction v2";
/// What a transfer of the load moves: enough to be one, little enough to go on for years.
const AMOUNT: u64 = 1;
/// Where a signature has its scalar.
const SCALAR: usize = 32;
/// Bytes of the scalar in which any flipped bit leaves it below the group's order, so that the validator
/// must do the whole work to find out.
const SCALAR_LOW_BYTES: usize = 31;

/// A size of records, and how many have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSize {
    /// Bytes of the whole transaction.
    pub bytes: usize,
    /// Its share of the records.
    pub share: Share,
}

/// Accounts that receive more than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotReceivers {
    /// Their share of the transfers.
    pub share: Share,
    /// How many they are.
    pub count: u32,
}

/// Authors that send more than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotAuthors {
    /// Their share of the authors.
    pub authors: Share,
    /// Their share of the transactions.
    pub transactions: Share,
}

impl HotAuthors {
    /// Returns how many they are: the first ones, one at least.
    pub fn count(&self, authors: u32) -> u32 {
        let count = self.authors.of(authors.into()).max(1);
        u32::try_from(count).unwrap_or(authors)
    }
}

/// Shares of everything that transactions differ in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Its name; none for what the command line says.
    pub name: Option<String>,
    /// The sizes of records; their shares add up to everything.
    pub records: Vec<RecordSize>,
    /// The share of transfers; the others are records.
    pub transfers: Share,
    /// Accounts that receive more than others, if there are such.
    pub hot_receivers: Option<HotReceivers>,
    /// The share of the transfers that goes to accounts that do not exist yet.
    pub new_receivers: Share,
    /// Authors that send more than others, if there are such.
    pub hot_authors: Option<HotAuthors>,
    /// The share of transactions with a wrong signature.
    pub invalid: Share,
    /// The share of transactions that are sent to two validators at the same time.
    pub duplicates: Share,
}

/// Transactions of one mix, from one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Names the authors and, with an author's place, every transaction.
    pub seed: u64,
    /// What they are.
    pub mix: Mix,
}

/// What a transaction asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// To keep a record.
    Record,
    /// To pay the next author.
    Transfer,
    /// To pay one of the hot receivers.
    TransferToHot,
    /// To pay an account that does not exist yet.
    TransferToNew,
}

/// What is done with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is sent.
    Plain,
    /// It is sent with a signature in which one bit is wrong.
    Invalid,
    /// It is sent to two validators.
    Duplicate,
}

/// Everything that is known of a transaction before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// What it asks for.
    pub content: Content,
    /// What is done with it.
    pub treatment: Treatment,
}

/// Who signs, and among whom.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Its key.
    pub secret: &'a Secret,
    /// Its place among the authors.
    pub place: usize,
    /// The keys of all of them, in order.
    pub authors: &'a [PublicKey],
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its id.
    pub id: Digest,
    /// What it is.
    pub class: Class,
}

impl Mix {
    /// Records of one size, and transfers to the next author.
    pub fn plain(size: usize, transfers: Share) -> Self {
        Self {
            name: None,
            records: vec![RecordSize { bytes: size, share: Share::ALL }],
            transfers,
            hot_receivers: None,
            new_receivers: Share::NONE,
            hot_authors: None,
            invalid: Share::NONE,
            duplicates: Share::NONE,
        }
    }

    /// Returns the bytes of the largest transaction.
    pub fn bytes_max(&self) -> usize {
        let transfer = (!self.transfers.is_none()).then_some(TRANSACTION_OVERHEAD + TRANSFER_BYTES);
        let records = (self.transfers < Share::ALL).then_some(&self.records);
        let records = records.into_iter().flatten().map(|size| size.bytes);
        records.chain(transfer).max().unwrap_or(TRANSACTION_OVERHEAD)
    }

    /// Returns the mean bytes of a record, rounded down.
    pub fn record_bytes_mean(&self) -> u64 {
        let sizes = self.records.iter().map(|size| (u64::try_from(size.bytes), size.share));
        // In thousandths, so that many small shares do not lose a byte each.
        let parts = sizes.map(|(bytes, share)| share.of(bytes.unwrap_or(u64::MAX / 1_000) * 1_000));
        parts.sum::<u64>() / 1_000
    }

    /// Returns the mean bytes of a transaction.
    pub fn bytes_mean(&self) -> f64 {
        let transfer = (TRANSACTION_OVERHEAD + TRANSFER_BYTES) as f64;
        let transfers = self.transfers.fraction();
        transfers * transfer + (1.0 - transfers) * self.record_bytes_mean() as f64
    }

    fn check_sizes(&self, most: usize) -> Result<(), String> {
        let is_wrong = |size: &RecordSize| size.bytes < TRANSACTION_OVERHEAD || size.bytes > most;
        match self.records.iter().find(|size| is_wrong(size)) {
            None => Ok(()),
            Some(size) => Err(format!(
                "the size must be {TRANSACTION_OVERHEAD} to {most} bytes, not {}",
                size.bytes
            )),
        }
    }
}

impl Workload {
    /// Records of one size, and transfers to the next author in percent.
    pub fn plain(seed: u64, size: usize, transfers_percent: u8) -> Self {
        Self { seed, mix: Mix::plain(size, Share::percent(transfers_percent)) }
    }

    /// Checks that it can be offered: by so many authors, to so many validators, and no larger than this.
    ///
    /// Errors: a sentence that says what must change.
    pub fn check(&self, authors: u32, validators: usize, bytes_max: usize) -> Result<(), String> {
        self.mix.check_sizes(bytes_max)?;
        if self.mix.transfers > Share::ALL {
            return Err("the share of transfers must be 0 to 100 percent".into());
        }
        if !self.mix.duplicates.is_none() && validators < 2 {
            return Err("duplicates go to two validators at once: there is only one here".into());
        }
        if let Some(hot) = self.mix.hot_receivers.filter(|hot| hot.count > authors) {
            return Err(format!(
                "{} hot receivers are among the authors: there must be as many, not {authors}",
                hot.count
            ));
        }
        if self.mix.hot_authors.is_some_and(|hot| hot.count(authors) >= authors) {
            return Err(format!("{authors} authors are too few for some of them to be hot"));
        }
        Ok(())
    }

    /// Returns how many of the authors are hot; they are the first ones.
    pub fn hot_authors(&self, authors: u32) -> u32 {
        self.mix.hot_authors.map_or(0, |hot| hot.count(authors))
    }

    /// Makes an author's transaction; a seed gives the same bytes again.
    pub fn sign(&self, network: &Digest, writer: &Writer<'_>, turn: Turn) -> Made {
        let mut random = self.random(writer, turn);
        let mut lots = [0; LOTS * 4];
        random.fill(&mut lots);
        let (lots, _) = lots.as_chunks::<4>();
        let [treatment, kind, receiver, choice, bit] =
            std::array::from_fn(|place| u32::from_le_bytes(lots[place]));
        let class =
            Class { content: self.content(kind, receiver), treatment: self.treatment(treatment) };
        let (kind, body) = match self.receiver(class.content, writer, choice, &mut random) {
            Some(to) => (Kind::Transfer, Transfer { to, amount: AMOUNT }.encode().to_vec()),
            None => {
                let mut body = vec![0; self.record_bytes(choice) - TRANSACTION_OVERHEAD];
                random.fill(&mut body);
                (Kind::Record, body)
            }
        };
        let draft = Draft {
            kind,
            author: writer.secret.public(),
            sequence: turn.link.sequence,
            previous: turn.link.previous,
            // A load that expires would be rejected for another reason than the one it measures.
            valid_until: Height(u64::MAX),
            body: &body,
        };
        let (mut bytes, id) = draft
            .sign(network, |message| writer.secret.sign(message))
            .expect("the size was checked against the limits of the format");
        if class.treatment == Treatment::Invalid {
            flip(&mut bytes, bit);
        }
        Made { bytes, id, class }
    }

    /// The attempt is part of it: a transaction that is refused for its signature shares its id, which
    /// does not cover the signature, with none that is to be taken.
    fn random(&self, writer: &Writer<'_>, turn: Turn) -> blake3::OutputReader {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(writer.secret.public().as_bytes());
        hasher.update(&turn.link.sequence.to_le_bytes());
        hasher.update(&turn.attempt.to_le_bytes());
        hasher.finalize_xof()
    }

    fn treatment(&self, lot: u32) -> Treatment {
        let Mix { invalid, duplicates, .. } = self.mix;
        if invalid.holds(lot) {
            Treatment::Invalid
        } else if invalid.and(duplicates).holds(lot) {
            Treatment::Duplicate
        } else {
            Treatment::Plain
        }
    }

    fn content(&self, kind: u32, receiver: u32) -> Content {
        let hot = self.mix.hot_receivers.map_or(Share::NONE, |hot| hot.share);
        if !self.mix.transfers.holds(kind) {
            Content::Record
        } else if hot.holds(receiver) {
            Content::TransferToHot
        } else if hot.and(self.mix.new_receivers).holds(receiver) {
            Content::TransferToNew
        } else {
            Content::Transfer
        }
    }

    /// Who receives; none for a record.
    fn receiver(
        &self,
        content: Content,
        writer: &Writer<'_>,
        choice: u32,
        random: &mut blake3::OutputReader,
    ) -> Option<PublicKey> {
        let count = writer.authors.len();
        match content {
            Content::Record => None,
            Content::Transfer => Some(writer.authors[(writer.place + 1) % count]),
            Content::TransferToHot => {
                // The last ones, since the first may be the hot authors.
                let hot = self.mix.hot_receivers.map_or(1, |hot| hot.count);
                let hot = usize::try_from(hot).unwrap_or(count).min(count);
                Some(writer.authors[count - 1 - below(choice, hot)])
            }
            Content::TransferToNew => {
                let mut key = [0; 32];
                random.fill(&mut key);
                Some(PublicKey(key))
            }
        }
    }

    fn record_bytes(&self, lot: u32) -> usize {
        let mut until = Share::NONE;
        let sizes = &self.mix.records;
        let found = sizes.iter().find(|size| {
            until = until.and(size.share);
            until.holds(lot)
        });
        found.or(sizes.last()).map_or(TRANSACTION_OVERHEAD, |size| size.bytes)
    }
}

/// Numbers that are drawn for each transaction.
const LOTS: usize = 5;

/// Draws one of `count` places from a lot of all that 32 bits hold.
fn below(lot: u32, count: usize) -> usize {
    let place = (u64::from(lot) * u64::try_from(count).unwrap_or(u64::MAX)) >> 32;
    usize::try_from(place).expect("it is below a length in memory")
}

/// Makes the signature at the end wrong by one bit of its scalar, whichever the lot says.
fn flip(bytes: &mut [u8], lot: u32) {
    let bit = below(lot, SCALAR_LOW_BYTES * 8);
    let signature = bytes.len() - ledger::limits::SIGNATURE_BYTES;
    bytes[signature + SCALAR + bit / 8] ^= 1 << (bit % 8);
}

#[cfg(test)]
mod tests;
