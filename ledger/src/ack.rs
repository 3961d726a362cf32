//! Acknowledgements of batches, and the certificates that a quorum of them makes.
//!
//! ```text
//! acknowledgement                          availability certificate
//!   0  version   u8 = 1                      0  lane       u32
//!   1  reserved  3   zero                    4  epoch      u64
//!   4  lane      u32                        12  sequence   u64
//!   8  epoch     u64                        20  digest     32
//!  16  sequence  u64                        52  signers    u128, bit i: validator i
//!  24  digest    32  of the batch           68  signatures 64 each, by rising signer
//!  56  validator u32 who acknowledges
//!  60  signature 64
//! ```
//!
//! Both are signed over `"althing/ack/v1\0"` and the digest (domain `althing 2026 ack v1`) of
//! network 32, epoch u64, lane u32, sequence u64, digest 32. An acknowledgement promises that its
//! signer holds the batch and all before it, checked and durable, and that it never signs another
//! digest for the same place. So the certified batches of a lane lie on one chain.

use crate::codec::{Reader, index};
use crate::digest::{Digest, Signature, domain};
use crate::limits::{
    ACK_BYTES, AVAILABILITY_BYTES_MAX, AVAILABILITY_HEADER_BYTES, SIGNATURE_BYTES, VALIDATORS_MAX,
};
use crate::reject::Reject;
use crate::set::{Bitmap, ValidatorSet};
use crate::signatures::{self, ACK_TAG, MESSAGE_BYTES, Signatures, SignedItem, message};

const VERSION: u8 = 1;

/// Returns the bytes that an acknowledging validator signs.
pub fn ack_signing_message(
    network: &Digest,
    epoch: u64,
    lane: u32,
    sequence: u64,
    digest: &Digest,
) -> [u8; MESSAGE_BYTES] {
    let acknowledged = domain::ACK.digest(&[
        &network.0,
        &epoch.to_le_bytes(),
        &lane.to_le_bytes(),
        &sequence.to_le_bytes(),
        &digest.0,
    ]);
    message(ACK_TAG, &acknowledged)
}

/// One validator's word that it holds a batch and all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The epoch whose set numbers lanes and validators.
    pub epoch: u64,
    /// The lane.
    pub lane: u32,
    /// The place in the lane.
    pub sequence: u64,
    /// The digest of the batch.
    pub digest: Digest,
    /// The index of who acknowledges.
    pub validator: u32,
    /// Its signature.
    pub signature: Signature,
}

impl Ack {
    /// Writes the acknowledgement.
    pub fn encode(&self) -> [u8; ACK_BYTES] {
        let mut bytes = [0; ACK_BYTES];
        bytes[0] = VERSION;
        bytes[4..8].copy_from_slice(&self.lane.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.digest.0);
        bytes[56..60].copy_from_slice(&self.validator.to_le_bytes());
        bytes[60..].copy_from_slice(&self.signature.0);
        bytes
    }

    /// Reads an acknowledgement.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::TrailingBytes`], [`Reject::UnknownVersion`],
    /// [`Reject::ReservedNotZero`], [`Reject::UnknownValidator`], [`Reject::SequenceZero`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        reader.zeros::<3>()?;
        let lane = reader.u32()?;
        let ack = Self {
            lane,
            epoch: reader.u64()?,
            sequence: reader.u64()?,
            digest: reader.digest()?,
            validator: reader.u32()?,
            signature: reader.signature()?,
        };
        reader.finish()?;
        if index(ack.lane) >= VALIDATORS_MAX || index(ack.validator) >= VALIDATORS_MAX {
            return Err(Reject::UnknownValidator);
        }
        if ack.sequence == 0 {
            return Err(Reject::SequenceZero);
        }
        Ok(ack)
    }

    /// Returns the bytes that its signature covers on this network.
    pub fn signing_message(&self, network: &Digest) -> [u8; MESSAGE_BYTES] {
        ack_signing_message(network, self.epoch, self.lane, self.sequence, &self.digest)
    }

    fn place(&self) -> (u64, u32, u64, Digest) {
        (self.epoch, self.lane, self.sequence, self.digest)
    }
}

/// A quorum's word that a batch, and with it all before it in its lane, can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailabilityCertificate {
    /// The epoch whose set numbers lanes and validators.
    pub epoch: u64,
    /// The lane.
    pub lane: u32,
    /// The place in the lane.
    pub sequence: u64,
    /// The digest of the batch.
    pub digest: Digest,
    /// Who signed.
    pub signers: Bitmap,
    /// Their signatures, by rising signer.
    pub signatures: Vec<Signature>,
}

impl AvailabilityCertificate {
    /// Puts acknowledgements of one batch together; whether they are enough, and good, is for
    /// [`AvailabilityCertificate::check`] to say.
    ///
    /// Errors: [`Reject::AckMismatch`] when they differ in what they acknowledge, repeat a
    /// validator or are none; [`Reject::UnknownValidator`].
    pub fn assemble(acks: &[Ack]) -> Result<Self, Reject> {
        let first = acks.first().ok_or(Reject::AckMismatch)?;
        let mut sorted: Vec<&Ack> = acks.iter().collect();
        sorted.sort_unstable_by_key(|ack| ack.validator);
        let mut signers = Bitmap::default();
        for ack in &sorted {
            if index(ack.validator) >= VALIDATORS_MAX {
                return Err(Reject::UnknownValidator);
            }
            if ack.place() != first.place() || !signers.insert(ack.validator) {
                return Err(Reject::AckMismatch);
            }
        }
        Ok(Self {
            epoch: first.epoch,
            lane: first.lane,
            sequence: first.sequence,
            digest: first.digest,
            signers,
            signatures: sorted.iter().map(|ack| ack.signature).collect(),
        })
    }

    /// Returns how many bytes it takes.
    pub fn encoded_bytes(&self) -> usize {
        AVAILABILITY_HEADER_BYTES + SIGNATURE_BYTES * self.signatures.len()
    }

    /// Appends the certificate to the bytes.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        assert_eq!(self.signatures.len(), self.signers.count(), "one signature for each signer");
        bytes.extend_from_slice(&self.lane.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.digest.0);
        bytes.extend_from_slice(&self.signers.0.to_le_bytes());
        for signature in &self.signatures {
            bytes.extend_from_slice(&signature.0);
        }
    }

    /// Writes the certificate alone.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        self.encode_into(&mut bytes);
        bytes
    }

    /// Reads a certificate that stands alone.
    ///
    /// Errors: those of [`AvailabilityCertificate::decode_prefix`] and [`Reject::TrailingBytes`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > AVAILABILITY_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        let (certificate, rest) = Self::decode_prefix(bytes)?;
        if rest.is_empty() { Ok(certificate) } else { Err(Reject::TrailingBytes) }
    }

    /// Reads a certificate at the start of the bytes and returns what follows it.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::UnknownValidator`], [`Reject::SequenceZero`].
    pub fn decode_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), Reject> {
        let mut reader = Reader::new(bytes);
        let lane = reader.u32()?;
        let epoch = reader.u64()?;
        let sequence = reader.u64()?;
        let digest = reader.digest()?;
        let signers = Bitmap(reader.u128()?);
        if index(lane) >= VALIDATORS_MAX {
            return Err(Reject::UnknownValidator);
        }
        if sequence == 0 {
            return Err(Reject::SequenceZero);
        }
        let signatures = signers.read_signatures(&mut reader)?;
        let certificate = Self { epoch, lane, sequence, digest, signers, signatures };
        Ok((certificate, reader.rest()))
    }

    /// Returns the bytes that every signature covers on this network.
    pub fn signing_message(&self, network: &Digest) -> [u8; MESSAGE_BYTES] {
        ack_signing_message(network, self.epoch, self.lane, self.sequence, &self.digest)
    }

    /// Checks that a quorum of the set signed.
    ///
    /// Errors: [`Reject::UnknownValidator`], [`Reject::QuorumMissing`], [`Reject::BadSignature`].
    pub fn check(
        &self,
        network: &Digest,
        set: &ValidatorSet,
        signatures: &dyn Signatures,
    ) -> Result<(), Reject> {
        check_all(&[self], network, set, signatures)
    }

    /// Checks all but the signatures.
    fn check_signers(&self, set: &ValidatorSet) -> Result<(), Reject> {
        if index(self.lane) >= set.len() {
            return Err(Reject::UnknownValidator);
        }
        self.signers.check_quorum(set)?;
        if self.signatures.len() != self.signers.count() {
            return Err(Reject::CountMismatch);
        }
        Ok(())
    }
}

/// Checks many certificates with one question to the verifier.
///
/// Errors: those of [`AvailabilityCertificate::check`].
pub(crate) fn check_all(
    certificates: &[&AvailabilityCertificate],
    network: &Digest,
    set: &ValidatorSet,
    signatures: &dyn Signatures,
) -> Result<(), Reject> {
    let mut messages = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        certificate.check_signers(set)?;
        messages.push(certificate.signing_message(network));
    }
    let mut items = Vec::new();
    for (certificate, message) in certificates.iter().zip(&messages) {
        for (signer, signature) in certificate.signers.iter().zip(&certificate.signatures) {
            let key = set.key(signer).expect("the bitmap was checked against the set");
            items.push(SignedItem::new(key, message, signature));
        }
    }
    if signatures::verify(signatures, &items).iter().all(|verdict| *verdict) {
        Ok(())
    } else {
        Err(Reject::BadSignature)
    }
}

#[cfg(test)]
mod tests;
