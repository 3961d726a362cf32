//! The batch: what one validator's lane carries to all others, numbered, linked and signed.
//!
//! ```text
//!   0  version   u8 = 1
//!   1  reserved  3    zero
//!   4  lane      u32  index of the owner in the validator set
//!   8  network   32   genesis digest
//!  40  epoch     u64
//!  48  sequence  u64  the first of a lane is 1
//!  56  previous  32   digest of the lane's previous batch, zero for the first
//!  88  root      32   Merkle root of the transactions
//! 120  count     u32  transactions in the body, at least 1
//! 124  bytes     u32  length of the body
//! 128  signature 64   over `"althing/batch1\0"` and the digest of bytes 0..128, by the owner
//! 192  body           the transactions, one after the other
//! ```
//!
//! The digest covers the header alone, so two headers with one number prove a cheating owner in a
//! few hundred bytes. A Merkle leaf is the digest of a transaction's id, its signature and 32 zeros:
//! it covers every byte of the transaction, and no byte of a body is hashed twice. The zeros make it
//! two whole blocks of the hash function, which go side by side with those of other leaves.

use std::borrow::Cow;

use crate::codec::{Reader, count_u32, index};
use crate::digest::{Digest, Signature, domain};
use crate::limits::{
    BATCH_BODY_BYTES_MAX, BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BATCH_TRANSACTIONS_MAX,
    SIGNATURE_BYTES, VALIDATORS_MAX,
};
use crate::merkle;
use crate::reject::Reject;
use crate::signatures::{BATCH_TAG, MESSAGE_BYTES, message};
use crate::transaction::{self, Transaction};

const VERSION: u8 = 1;
const BODY: usize = BATCH_HEADER_BYTES + SIGNATURE_BYTES;

/// Bytes of an encoded header.
pub const HEADER_BYTES: usize = BATCH_HEADER_BYTES;

/// What the owner of a lane signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The genesis digest.
    pub network: Digest,
    /// The epoch whose validator set numbers the lanes.
    pub epoch: u64,
    /// The index of the owner.
    pub lane: u32,
    /// The place in the lane; the first is 1.
    pub sequence: u64,
    /// The digest of the lane's previous batch; zero for the first.
    pub previous: Digest,
    /// The Merkle root of the transactions.
    pub root: Digest,
    /// How many transactions the body has.
    pub count: u32,
    /// How many bytes the body has.
    pub bytes: u32,
}

impl BatchHeader {
    /// Writes the header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[4..8].copy_from_slice(&self.lane.to_le_bytes());
        bytes[8..40].copy_from_slice(&self.network.0);
        bytes[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[56..88].copy_from_slice(&self.previous.0);
        bytes[88..120].copy_from_slice(&self.root.0);
        bytes[120..124].copy_from_slice(&self.count.to_le_bytes());
        bytes[124..128].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    /// Reads a header and checks what can be seen without its body.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::TrailingBytes`], [`Reject::UnknownVersion`],
    /// [`Reject::ReservedNotZero`], [`Reject::UnknownValidator`], [`Reject::SequenceZero`],
    /// [`Reject::FirstLink`], [`Reject::EmptyBatch`], [`Reject::CountMismatch`],
    /// [`Reject::TooLong`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let mut reader = Reader::new(bytes);
        let header = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(header)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        reader.version(VERSION)?;
        reader.zeros::<3>()?;
        let lane = reader.u32()?;
        let header = Self {
            lane,
            network: reader.digest()?,
            epoch: reader.u64()?,
            sequence: reader.u64()?,
            previous: reader.digest()?,
            root: reader.digest()?,
            count: reader.u32()?,
            bytes: reader.u32()?,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Reject> {
        if index(self.lane) >= VALIDATORS_MAX {
            return Err(Reject::UnknownValidator);
        }
        if self.sequence == 0 {
            return Err(Reject::SequenceZero);
        }
        if (self.sequence == 1) != (self.previous == Digest::ZERO) {
            return Err(Reject::FirstLink);
        }
        if self.count == 0 {
            return Err(Reject::EmptyBatch);
        }
        if index(self.count) > BATCH_TRANSACTIONS_MAX {
            return Err(Reject::CountMismatch);
        }
        if index(self.bytes) > BATCH_BODY_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        Ok(())
    }

    /// Computes the digest that names the batch.
    pub fn digest(&self) -> Digest {
        header_digest(&self.encode())
    }
}

fn header_digest(header: &[u8; HEADER_BYTES]) -> Digest {
    domain::BATCH.digest(&[header])
}

/// Returns the bytes that the owner of a batch signs.
pub fn batch_signing_message(digest: &Digest) -> [u8; MESSAGE_BYTES] {
    message(BATCH_TAG, digest)
}

/// Bytes of a leaf before it is hashed.
const LEAF_BYTES: usize = 128;

fn write_leaf(id: &Digest, signature: &[u8; 64], leaf: &mut [u8; LEAF_BYTES]) {
    leaf[..32].copy_from_slice(&id.0);
    leaf[32..96].copy_from_slice(signature);
}

/// Computes the Merkle leaf of a transaction; it covers all its bytes, signature included.
pub fn transaction_leaf(id: &Digest, signature: &[u8; 64]) -> Digest {
    let mut leaf = [0; LEAF_BYTES];
    write_leaf(id, signature, &mut leaf);
    domain::TRANSACTION_LEAF.digest(&[&leaf])
}

/// Computes the Merkle root over transactions, of which the ids and signatures are given.
fn transactions_root<'a>(ids: &[Digest], signatures: impl Iterator<Item = &'a [u8; 64]>) -> Digest {
    let signatures: Vec<&[u8; 64]> = signatures.collect();
    assert_eq!(ids.len(), signatures.len(), "every transaction is signed");
    let mut leaves = Vec::with_capacity(ids.len());
    domain::TRANSACTION_LEAF.digests_of_blocks(
        ids.len(),
        |place, leaf| write_leaf(&ids[place], signatures[place], leaf),
        |_, digest| leaves.push(digest),
    );
    merkle::root(&leaves)
}

/// A checked view over one batch, or the owner of its bytes.
///
/// Holding one proves everything but the signatures: the lengths, the count, every transaction's
/// form and network hint, and the Merkle root. The ids are computed once, on the way.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    bytes: Cow<'a, [u8]>,
    header: BatchHeader,
    digest: Digest,
    /// Where each transaction starts, and where the last one ends, in `bytes`.
    bounds: Vec<u32>,
    ids: Vec<Digest>,
}

impl<'a> Batch<'a> {
    /// Checks borrowed bytes that should be one batch of this network and nothing else.
    ///
    /// Errors: those of [`BatchHeader::decode`] and [`Transaction::decode`],
    /// [`Reject::WrongNetwork`], [`Reject::BodyLength`], [`Reject::CountMismatch`],
    /// [`Reject::RootMismatch`].
    pub fn decode(bytes: &'a [u8], network: &Digest) -> Result<Self, Reject> {
        Unhashed::read(Cow::Borrowed(bytes), network)?.hash()
    }

    /// Checks bytes like [`Batch::decode`] and keeps them.
    ///
    /// Errors: those of [`Batch::decode`].
    pub fn decode_owned(bytes: Vec<u8>, network: &Digest) -> Result<Batch<'static>, Reject> {
        Batch::read_owned(bytes, network)?.hash()
    }

    /// Does the first part of [`Batch::decode_owned`]: all checks but that of the root.
    ///
    /// Errors: those of [`Batch::decode`] but for [`Reject::RootMismatch`].
    pub fn read_owned(bytes: Vec<u8>, network: &Digest) -> Result<Unhashed<'static>, Reject> {
        Unhashed::read(Cow::Owned(bytes), network)
    }

    /// Returns the header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Returns the digest of the header.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the owner's signature.
    pub fn signature(&self) -> Signature {
        let bytes = self.bytes[HEADER_BYTES..].first_chunk();
        Signature(*bytes.expect("the decoder checked the length"))
    }

    /// Returns the transactions as they stand, one after the other.
    pub fn body(&self) -> &[u8] {
        &self.bytes[BODY..]
    }

    /// Returns the whole batch.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the ids of the transactions in their order.
    pub fn ids(&self) -> &[Digest] {
        &self.ids
    }

    /// Returns how many transactions there are.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// Returns the transactions in their order.
    pub fn transactions(&self) -> impl ExactSizeIterator<Item = Transaction<'_>> {
        transactions(&self.bytes, &self.bounds)
    }

    /// Copies borrowed bytes, so that the batch may outlive them.
    pub fn into_owned(self) -> Batch<'static> {
        Batch {
            bytes: Cow::Owned(self.bytes.into_owned()),
            header: self.header,
            digest: self.digest,
            bounds: self.bounds,
            ids: self.ids,
        }
    }
}

/// Bytes with the form of a batch, of which nothing was hashed.
///
/// It is no batch yet: the body may be another than the header's root says.
#[derive(Clone, Debug)]
#[must_use = "only what was hashed is a batch"]
pub struct Unhashed<'a> {
    bytes: Cow<'a, [u8]>,
    header: BatchHeader,
    bounds: Vec<u32>,
}

impl<'a> Unhashed<'a> {
    fn read(bytes: Cow<'a, [u8]>, network: &Digest) -> Result<Self, Reject> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        let mut reader = Reader::new(&bytes);
        let header = BatchHeader::read(&mut reader)?;
        reader.signature()?;
        if header.network != *network {
            return Err(Reject::WrongNetwork);
        }
        let body = reader.rest();
        if body.len() != index(header.bytes) {
            return Err(Reject::BodyLength);
        }
        let bounds = read_body(body, index(header.count), network)?;
        Ok(Self { bytes, header, bounds })
    }

    /// Computes ids, root and digest: the second part of [`Batch::decode_owned`].
    ///
    /// Errors: [`Reject::RootMismatch`].
    pub fn hash(self) -> Result<Batch<'a>, Reject> {
        let Self { bytes, header, bounds } = self;
        let transactions: Vec<Transaction<'_>> = transactions(&bytes, &bounds).collect();
        let ids = transaction::ids(&header.network, &transactions);
        let root = transactions_root(&ids, transactions.iter().map(Transaction::signature_bytes));
        if root != header.root {
            return Err(Reject::RootMismatch);
        }
        let digest = header.digest();
        Ok(Batch { bytes, header, digest, bounds, ids })
    }
}

/// The transactions of a batch whose bounds are known.
fn transactions<'a>(
    bytes: &'a [u8],
    bounds: &'a [u32],
) -> impl ExactSizeIterator<Item = Transaction<'a>> {
    bounds.windows(2).map(|pair| Transaction::of_decoded(&bytes[index(pair[0])..index(pair[1])]))
}

/// Checks exactly `count` transactions; returns where each starts and the last one ends in the batch.
fn read_body(body: &[u8], count: usize, network: &Digest) -> Result<Vec<u32>, Reject> {
    let mut bounds = Vec::with_capacity(count + 1);
    bounds.push(count_u32(BODY));
    let mut rest = body;
    while !rest.is_empty() {
        if bounds.len() > count {
            return Err(Reject::CountMismatch);
        }
        let (transaction, after) = Transaction::decode_prefix(rest)?;
        transaction.check_network(network)?;
        rest = after;
        bounds.push(count_u32(BODY + body.len() - rest.len()));
    }
    if bounds.len() != count + 1 {
        return Err(Reject::CountMismatch);
    }
    Ok(bounds)
}

/// Where a batch stands: the lane's next place and its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// The genesis digest.
    pub network: Digest,
    /// The epoch.
    pub epoch: u64,
    /// The index of the owner.
    pub lane: u32,
    /// The place in the lane; the first is 1.
    pub sequence: u64,
    /// The digest of the lane's previous batch; zero for the first.
    pub previous: Digest,
}

/// Collects verified transactions and seals them into a batch.
#[derive(Clone, Debug)]
pub struct Sealer {
    /// The body, behind room for the header and the signature.
    bytes: Vec<u8>,
    /// Where each transaction starts, and where the last one ends.
    bounds: Vec<u32>,
    ids: Vec<Digest>,
    signatures: Vec<[u8; 64]>,
}

impl Default for Sealer {
    fn default() -> Self {
        Self::new()
    }
}

impl Sealer {
    /// Starts an empty batch.
    pub fn new() -> Self {
        Self::with_room(0)
    }

    /// Starts an empty batch with memory for a body of so many bytes.
    pub fn with_room(body_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(BODY + body_bytes.min(BATCH_BODY_BYTES_MAX));
        bytes.resize(BODY, 0);
        Self { bytes, bounds: vec![count_u32(BODY)], ids: Vec::new(), signatures: Vec::new() }
    }

    /// Adds a transaction with its id, or returns false when the body is full.
    ///
    /// The id must be that of the transaction: other validators compute it themselves and refuse
    /// the batch when it is not.
    pub fn push(&mut self, transaction: &Transaction<'_>, id: &Digest) -> bool {
        if self.body_bytes() + transaction.bytes().len() > BATCH_BODY_BYTES_MAX {
            return false;
        }
        self.bytes.extend_from_slice(transaction.bytes());
        self.bounds.push(count_u32(self.bytes.len()));
        self.ids.push(*id);
        self.signatures.push(*transaction.signature_bytes());
        true
    }

    /// Returns how many bytes the body has.
    pub fn body_bytes(&self) -> usize {
        self.bytes.len() - BODY
    }

    /// Returns how many transactions the body has.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// Returns whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Writes the header, has it signed, and returns the batch's bytes and digest; the sealer is
    /// empty again.
    ///
    /// Errors: [`Reject::EmptyBatch`], [`Reject::UnknownValidator`], [`Reject::SequenceZero`],
    /// [`Reject::FirstLink`].
    pub fn seal(
        &mut self,
        place: &BatchPlace,
        sign: impl FnOnce(&[u8; MESSAGE_BYTES]) -> Signature,
    ) -> Result<(Vec<u8>, Digest), Reject> {
        let batch = self.seal_batch(place, sign)?;
        Ok((batch.bytes.into_owned(), batch.digest))
    }

    /// Seals as [`Sealer::seal`] does, and returns the batch as everyone else decodes it: whoever made it
    /// need not hash it again.
    ///
    /// Errors: those of [`Sealer::seal`], [`Reject::WrongNetwork`].
    pub fn seal_batch(
        &mut self,
        place: &BatchPlace,
        sign: impl FnOnce(&[u8; MESSAGE_BYTES]) -> Signature,
    ) -> Result<Batch<'static>, Reject> {
        for transaction in transactions(&self.bytes, &self.bounds) {
            transaction.check_network(&place.network)?;
        }
        let header = BatchHeader {
            network: place.network,
            epoch: place.epoch,
            lane: place.lane,
            sequence: place.sequence,
            previous: place.previous,
            root: transactions_root(&self.ids, self.signatures.iter()),
            count: count_u32(self.count()),
            bytes: count_u32(self.body_bytes()),
        };
        header.check()?;
        let encoded = header.encode();
        let digest = header_digest(&encoded);
        let signature = sign(&batch_signing_message(&digest));
        let Self { mut bytes, bounds, ids, .. } = std::mem::take(self);
        bytes[..HEADER_BYTES].copy_from_slice(&encoded);
        bytes[HEADER_BYTES..BODY].copy_from_slice(&signature.0);
        Ok(Batch { bytes: Cow::Owned(bytes), header, digest, bounds, ids })
    }
}

#[cfg(test)]
mod tests;
