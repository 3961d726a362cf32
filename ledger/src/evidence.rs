//! Evidence: what one validator signed and no honest one does, for anyone who has the genesis file.
//!
//! ```text
//!   0  version    u8 = 1
//!   1  kind       u8
//!   2  reserved   2    zero
//!   4  validator  u32  whom it is about
//!   8  network    32   genesis digest
//!  40  epoch      u64
//!  48  by kind:
//!
//!   1 notarize          view u64; twice: parent view u64, payload 32, signature 64
//!   2 finalize          the same
//!   3 nullify_finalize  view u64, signature 64; parent view u64, payload 32, signature 64
//!   4 fork              twice: batch header 128, signature 64; of one place in the validator's lane
//!   5 ack               lane u32, sequence u64; twice: digest 32, signature 64
//!   6 batch             batch header 128, signature 64; index u32, bytes u32, the transaction,
//!                       siblings 32 each, in the batch's tree, from the leaf up
//! ```
//!
//! 1 to 3 are votes of the consensus engine: an honest validator notarizes and finalizes one proposal of a
//! view at most, and does not finalize in a view that it has voted to skip. 4 and 5: it makes one batch for each
//! place of its lane, and acknowledges one. 6: it signs no batch with a transaction whose author did not sign.
//! Of what stands twice, the smaller bytes come first, so that two finders find the same.
//!
//! The signatures are all that counts: nobody else can make them, so no honest validator can be accused.

use crate::ack::ack_signing_message;
use crate::batch::{self, BatchHeader, batch_signing_message, transaction_leaf};
use crate::codec::{Reader, count_u32, index};
use crate::digest::{Digest, PublicKey, Signature, View, domain};
use crate::finality::{finalize_message, notarize_message, nullify_message};
use crate::limits::{EVIDENCE_BYTES_MAX, TRANSACTION_BYTES_MAX};
use crate::merkle;
use crate::reject::Reject;
use crate::set::ValidatorSet;
use crate::signatures::{self, Signatures, SignedItem};
use crate::transaction::{Transaction, signing_message};

const VERSION: u8 = 1;

/// A signed vote for a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    /// The view of the parent proposal.
    pub parent_view: View,
    /// The digest of the proposed block.
    pub payload: Digest,
    /// The signature.
    pub signature: Signature,
}

/// A signed batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHeader {
    /// The header.
    pub header: BatchHeader,
    /// The owner's signature.
    pub signature: Signature,
}

/// What a validator did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It notarized two proposals of one view.
    Notarize(View, [Vote; 2]),
    /// It finalized two proposals of one view.
    Finalize(View, [Vote; 2]),
    /// It voted to skip a view, and finalized a proposal of it.
    NullifyFinalize(View, Signature, Vote),
    /// It made two batches for one place of its lane.
    Fork(Box<[SignedHeader; 2]>),
    /// It acknowledged two batches for one place of a lane.
    Ack {
        /// The lane.
        lane: u32,
        /// The place.
        sequence: u64,
        /// The digests, and the signatures under their acknowledgement.
        acks: [(Digest, Signature); 2],
    },
    /// It signed a batch with a transaction whose author did not sign.
    Batch {
        /// The batch.
        batch: Box<SignedHeader>,
        /// The bytes of the transaction.
        transaction: Vec<u8>,
        /// Its place in the batch.
        place: merkle::Proof,
    },
}

/// An offence and who is guilty of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    network: Digest,
    epoch: u64,
    validator: u32,
    offence: Offence,
}

impl Evidence {
    /// Puts evidence together; whether it holds, [`Evidence::check`] says.
    pub fn new(network: Digest, epoch: u64, validator: u32, mut offence: Offence) -> Self {
        match &mut offence {
            Offence::Notarize(_, votes) | Offence::Finalize(_, votes) => votes.sort_unstable(),
            Offence::Fork(batches) => batches.sort_unstable_by_key(SignedHeader::encode),
            Offence::Ack { acks, .. } => acks.sort_unstable(),
            Offence::NullifyFinalize(..) | Offence::Batch { .. } => {}
        }
        Self { network, epoch, validator, offence }
    }

    /// Returns the index of the validator that it is about.
    pub const fn validator(&self) -> u32 {
        self.validator
    }

    /// Returns the epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns what the validator did.
    pub const fn offence(&self) -> &Offence {
        &self.offence
    }

    /// Returns the name of the kind, stable, fit for a metric label.
    pub const fn kind(&self) -> &'static str {
        match self.offence {
            Offence::Notarize(..) => "notarize",
            Offence::Finalize(..) => "finalize",
            Offence::NullifyFinalize(..) => "nullify_finalize",
            Offence::Fork(_) => "fork",
            Offence::Ack { .. } => "ack",
            Offence::Batch { .. } => "batch",
        }
    }

    /// Returns where it happened: a view, or the lane and the place in it.
    pub fn place(&self) -> Place {
        match &self.offence {
            Offence::Notarize(view, _)
            | Offence::Finalize(view, _)
            | Offence::NullifyFinalize(view, ..) => Place::View(*view),
            Offence::Fork(batches) => {
                Place::Lane(batches[0].header.lane, batches[0].header.sequence)
            }
            Offence::Ack { lane, sequence, .. } => Place::Lane(*lane, *sequence),
            Offence::Batch { batch, .. } => Place::Lane(batch.header.lane, batch.header.sequence),
        }
    }

    /// Computes the digest that names it.
    pub fn digest(&self) -> Digest {
        domain::EVIDENCE.digest(&[&self.encode()])
    }

    /// Checks that the validator is guilty, given the set of its epoch.
    ///
    /// Under another set it does not hold, or speaks of somebody who is guilty all the same: its key made both
    /// signatures, for this epoch.
    ///
    /// Errors: [`Reject::WrongNetwork`], [`Reject::UnknownValidator`],
    /// [`Reject::NoOffence`], [`Reject::BadSignature`], [`Reject::ProofShape`], [`Reject::ProofRoot`], and those
    /// of [`Transaction::decode`].
    pub fn check(
        &self,
        network: &Digest,
        set: &ValidatorSet,
        signatures: &dyn Signatures,
    ) -> Result<(), Reject> {
        if self.network != *network {
            return Err(Reject::WrongNetwork);
        }
        let key = set.key(self.validator).ok_or(Reject::UnknownValidator)?;
        match &self.offence {
            Offence::Notarize(view, votes) => {
                self.check_votes(key, *view, votes, notarize_message, signatures)
            }
            Offence::Finalize(view, votes) => {
                self.check_votes(key, *view, votes, finalize_message, signatures)
            }
            Offence::NullifyFinalize(view, nullify, Vote { parent_view, payload, signature }) => {
                let skipped = nullify_message(network, self.epoch, *view);
                let finalized = finalize_message(network, self.epoch, *view, *parent_view, payload);
                let items = [
                    SignedItem::new(key, &skipped, nullify),
                    SignedItem::new(key, &finalized, signature),
                ];
                all(&signatures::verify_votes(signatures, &items))
            }
            Offence::Fork(batches) => self.check_fork(key, batches, signatures),
            Offence::Ack { lane, sequence, acks } => {
                let [(first, one), (second, other)] = acks;
                if first >= second {
                    return Err(Reject::NoOffence);
                }
                if set.key(*lane).is_none() {
                    return Err(Reject::UnknownValidator);
                }
                let message =
                    |digest| ack_signing_message(network, self.epoch, *lane, *sequence, digest);
                let messages = [message(first), message(second)];
                let items = [
                    SignedItem::new(key, &messages[0], one),
                    SignedItem::new(key, &messages[1], other),
                ];
                all(&signatures::verify(signatures, &items))
            }
            Offence::Batch { batch, transaction, place } => {
                self.check_batch(key, batch, transaction, place, signatures)
            }
        }
    }

    fn check_votes(
        &self,
        key: &PublicKey,
        view: View,
        votes: &[Vote; 2],
        message: fn(&Digest, u64, View, View, &Digest) -> Vec<u8>,
        signatures: &dyn Signatures,
    ) -> Result<(), Reject> {
        let [one, other] = votes;
        // Two signatures under one proposal are no offence.
        if (one.parent_view, one.payload) >= (other.parent_view, other.payload) {
            return Err(Reject::NoOffence);
        }
        let message =
            |vote: &Vote| message(&self.network, self.epoch, view, vote.parent_view, &vote.payload);
        let messages = [message(one), message(other)];
        let items = [
            SignedItem::new(key, &messages[0], &one.signature),
            SignedItem::new(key, &messages[1], &other.signature),
        ];
        all(&signatures::verify_votes(signatures, &items))
    }

    fn check_fork(
        &self,
        key: &PublicKey,
        batches: &[SignedHeader; 2],
        signatures: &dyn Signatures,
    ) -> Result<(), Reject> {
        let [one, other] = batches;
        let is_in_order = one.header.encode() < other.header.encode();
        if !is_in_order || one.header.sequence != other.header.sequence {
            return Err(Reject::NoOffence);
        }
        self.check_headers(key, batches, signatures)
    }

    fn check_batch(
        &self,
        key: &PublicKey,
        batch: &SignedHeader,
        transaction: &[u8],
        place: &merkle::Proof,
        signatures: &dyn Signatures,
    ) -> Result<(), Reject> {
        let transaction = Transaction::decode(transaction)?;
        let id = transaction.id(&self.network);
        if place.count != batch.header.count {
            return Err(Reject::ProofShape);
        }
        place.check(&transaction_leaf(&id, transaction.signature_bytes()), &batch.header.root)?;
        self.check_headers(key, std::slice::from_ref(batch), signatures)?;
        let message = signing_message(&id);
        let verdicts = signatures::verify(signatures, &[transaction.signed_item(&message)]);
        if verdicts == [false] { Ok(()) } else { Err(Reject::NoOffence) }
    }

    /// Checks that the validator signed these batches of its own lane.
    fn check_headers(
        &self,
        key: &PublicKey,
        batches: &[SignedHeader],
        signatures: &dyn Signatures,
    ) -> Result<(), Reject> {
        let owner = (self.network, self.epoch, self.validator);
        let is_own = |SignedHeader { header, .. }: &SignedHeader| {
            (header.network, header.epoch, header.lane) == owner
        };
        if !batches.iter().all(is_own) {
            return Err(Reject::NoOffence);
        }
        let messages: Vec<_> =
            batches.iter().map(|batch| batch_signing_message(&batch.header.digest())).collect();
        let items: Vec<SignedItem<'_>> = batches
            .iter()
            .zip(&messages)
            .map(|(batch, message)| SignedItem::new(key, message, &batch.signature))
            .collect();
        all(&signatures::verify(signatures, &items))
    }

    /// Writes the evidence.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.code(), 0, 0];
        bytes.extend_from_slice(&self.validator.to_le_bytes());
        bytes.extend_from_slice(&self.network.0);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        match &self.offence {
            Offence::Notarize(view, votes) | Offence::Finalize(view, votes) => {
                bytes.extend_from_slice(&view.0.to_le_bytes());
                votes.iter().for_each(|vote| vote.encode_into(&mut bytes));
            }
            Offence::NullifyFinalize(view, nullify, finalize) => {
                bytes.extend_from_slice(&view.0.to_le_bytes());
                bytes.extend_from_slice(&nullify.0);
                finalize.encode_into(&mut bytes);
            }
            Offence::Fork(batches) => {
                batches.iter().for_each(|batch| bytes.extend_from_slice(&batch.encode()));
            }
            Offence::Ack { lane, sequence, acks } => {
                bytes.extend_from_slice(&lane.to_le_bytes());
                bytes.extend_from_slice(&sequence.to_le_bytes());
                for (digest, signature) in acks {
                    bytes.extend_from_slice(&digest.0);
                    bytes.extend_from_slice(&signature.0);
                }
            }
            Offence::Batch { batch, transaction, place } => {
                bytes.extend_from_slice(&batch.encode());
                bytes.extend_from_slice(&place.index.to_le_bytes());
                bytes.extend_from_slice(&count_u32(transaction.len()).to_le_bytes());
                bytes.extend_from_slice(transaction);
                place.siblings.iter().for_each(|digest| bytes.extend_from_slice(&digest.0));
            }
        }
        bytes
    }

    const fn code(&self) -> u8 {
        match self.offence {
            Offence::Notarize(..) => 1,
            Offence::Finalize(..) => 2,
            Offence::NullifyFinalize(..) => 3,
            Offence::Fork(_) => 4,
            Offence::Ack { .. } => 5,
            Offence::Batch { .. } => 6,
        }
    }

    /// Reads evidence and checks what can be seen without the validators.
    ///
    /// Errors: [`Reject::TooLong`], [`Reject::Truncated`], [`Reject::TrailingBytes`],
    /// [`Reject::UnknownVersion`], [`Reject::ReservedNotZero`], [`Reject::NoOffence`],
    /// [`Reject::ProofShape`], and those of [`BatchHeader::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let kind = reader.u8()?;
        reader.zeros::<2>()?;
        let (validator, network, epoch) = (reader.u32()?, reader.digest()?, reader.u64()?);
        let offence = Offence::read(kind, &mut reader)?;
        reader.finish()?;
        Ok(Self { network, epoch, validator, offence })
    }
}

/// Where an offence happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a view of the engine.
    View(View),
    /// In a lane, at a sequence.
    Lane(u32, u64),
}

impl Offence {
    fn read(kind: u8, reader: &mut Reader<'_>) -> Result<Self, Reject> {
        Ok(match kind {
            1 => Self::Notarize(View(reader.u64()?), [Vote::read(reader)?, Vote::read(reader)?]),
            2 => Self::Finalize(View(reader.u64()?), [Vote::read(reader)?, Vote::read(reader)?]),
            3 => {
                let (view, nullify) = (View(reader.u64()?), reader.signature()?);
                Self::NullifyFinalize(view, nullify, Vote::read(reader)?)
            }
            4 => Self::Fork(Box::new([SignedHeader::read(reader)?, SignedHeader::read(reader)?])),
            5 => {
                let (lane, sequence) = (reader.u32()?, reader.u64()?);
                let mut ack = || Ok::<_, Reject>((reader.digest()?, reader.signature()?));
                Self::Ack { lane, sequence, acks: [ack()?, ack()?] }
            }
            6 => {
                let batch = Box::new(SignedHeader::read(reader)?);
                let (place, length) = (reader.u32()?, index(reader.u32()?));
                let count = batch.header.count;
                if length > TRANSACTION_BYTES_MAX || place >= count {
                    return Err(Reject::ProofShape);
                }
                let transaction = reader.slice(length)?.to_vec();
                let siblings = (0..merkle::siblings(place, count)).map(|_| reader.digest());
                let siblings = siblings.collect::<Result<_, _>>()?;
                let place = merkle::Proof { index: place, count, siblings };
                Self::Batch { batch, transaction, place }
            }
            _ => return Err(Reject::NoOffence),
        })
    }
}

impl Vote {
    fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.parent_view.0.to_le_bytes());
        bytes.extend_from_slice(&self.payload.0);
        bytes.extend_from_slice(&self.signature.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let parent_view = View(reader.u64()?);
        Ok(Self { parent_view, payload: reader.digest()?, signature: reader.signature()? })
    }
}

impl SignedHeader {
    fn encode(&self) -> [u8; batch::HEADER_BYTES + 64] {
        let mut bytes = [0; batch::HEADER_BYTES + 64];
        bytes[..batch::HEADER_BYTES].copy_from_slice(&self.header.encode());
        bytes[batch::HEADER_BYTES..].copy_from_slice(&self.signature.0);
        bytes
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let header = BatchHeader::decode(reader.array::<{ batch::HEADER_BYTES }>()?)?;
        Ok(Self { header, signature: reader.signature()? })
    }
}

fn all(verdicts: &[bool]) -> Result<(), Reject> {
    if verdicts.iter().all(|verdict| *verdict) { Ok(()) } else { Err(Reject::BadSignature) }
}

#[cfg(test)]
mod tests;
