//! The proof that a quorum finalized a block, judged by the consensus engine's rule.
//!
//! ```text
//!   0  version    u8 = 1
//!   1  reserved   7    zero
//!   8  epoch      u64
//!  16  view       u64
//!  24  parent     u64  view of the proposal that this one builds upon
//!  32  payload    32   digest of the finalized block
//!  64  signers    u128 bit i: validator i
//!  80  signatures 64 each, by rising signer
//! ```
//!
//! The signed bytes are those of a *finalize* vote of the engine, built here anew:
//!
//! ```text
//!   varint(59) | "althing/engine/v1/" | genesis digest 32 | "_FINALIZE"
//!   varint(epoch) | varint(view) | varint(parent view) | payload 32
//! ```
//!
//! A *notarize* vote has the suffix `_NOTARIZE`; a *nullify* vote `_NULLIFY`, and of the second line epoch and view
//! alone.
//!
//! Source: commonware 2026.10.0. The first line is `union_unique` of `commonware-utils` (`lib.rs`)
//! over the namespace with the suffix of `simplex/scheme/mod.rs`, as `ed25519/scheme.rs` of
//! `commonware-cryptography` signs it; the second is `Proposal` of `simplex/types.rs`, whose
//! `Round`, `Epoch` and `View` (`types.rs`) are `UInt` of `commonware-codec` (`varint.rs`): seven
//! bits a byte, the lowest first, the top bit set on all bytes but the last.

use crate::codec::{Reader, index};
use crate::digest::{Digest, Signature, View};
use crate::limits::{FINALITY_BYTES_MAX, FINALITY_HEADER_BYTES, SIGNATURE_BYTES};
use crate::reject::Reject;
use crate::set::{Bitmap, ValidatorSet};
use crate::signatures::{self, Signatures, SignedItem};

const VERSION: u8 = 1;
const NAMESPACE: &[u8] = b"althing/engine/v1/";
const NOTARIZE: &[u8] = b"_NOTARIZE";
const NULLIFY: &[u8] = b"_NULLIFY";
const FINALIZE: &[u8] = b"_FINALIZE";

/// Returns the namespace that the engine of this network is started with.
pub fn engine_namespace(network: &Digest) -> Vec<u8> {
    [NAMESPACE, &network.0].concat()
}

/// Returns the bytes that a finalize vote of the engine signs.
pub fn finalize_message(
    network: &Digest,
    epoch: u64,
    view: View,
    parent_view: View,
    payload: &Digest,
) -> Vec<u8> {
    proposal_message(network, FINALIZE, epoch, [view, parent_view], payload)
}

/// Returns the bytes that a notarize vote of the engine signs.
pub fn notarize_message(
    network: &Digest,
    epoch: u64,
    view: View,
    parent_view: View,
    payload: &Digest,
) -> Vec<u8> {
    proposal_message(network, NOTARIZE, epoch, [view, parent_view], payload)
}

/// Returns the bytes that a nullify vote of the engine signs.
pub fn nullify_message(network: &Digest, epoch: u64, view: View) -> Vec<u8> {
    let mut bytes = namespaced(network, NULLIFY);
    write_varint(&mut bytes, epoch);
    write_varint(&mut bytes, view.0);
    bytes
}

fn proposal_message(
    network: &Digest,
    suffix: &[u8],
    epoch: u64,
    views: [View; 2],
    payload: &Digest,
) -> Vec<u8> {
    let mut bytes = namespaced(network, suffix);
    write_varint(&mut bytes, epoch);
    views.iter().for_each(|view| write_varint(&mut bytes, view.0));
    bytes.extend_from_slice(&payload.0);
    bytes
}

/// Starts a message with the namespace of this network's engine.
fn namespaced(network: &Digest, suffix: &[u8]) -> Vec<u8> {
    let namespace = NAMESPACE.len() + network.0.len() + suffix.len();
    let mut bytes = Vec::with_capacity(namespace + 32 + 4 * VARINT_BYTES_MAX);
    write_varint(&mut bytes, crate::codec::length_u64(namespace));
    bytes.extend_from_slice(NAMESPACE);
    bytes.extend_from_slice(&network.0);
    bytes.extend_from_slice(suffix);
    bytes
}

// 64 bits in groups of 7.
const VARINT_BYTES_MAX: usize = 10;

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit a byte");
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// A certificate that a quorum finalized a block, and with it all blocks before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finality {
    /// The epoch whose set signed.
    pub epoch: u64,
    /// The view in which it was finalized.
    pub view: View,
    /// The view of the parent proposal.
    pub parent_view: View,
    /// The digest of the finalized block.
    pub payload: Digest,
    /// Who signed.
    pub signers: Bitmap,
    /// Their signatures, by rising signer.
    pub signatures: Vec<Signature>,
}

impl Finality {
    /// Returns how many bytes it takes.
    pub fn encoded_bytes(&self) -> usize {
        FINALITY_HEADER_BYTES + SIGNATURE_BYTES * self.signatures.len()
    }

    /// Writes the certificate.
    pub fn encode(&self) -> Vec<u8> {
        assert_eq!(self.signatures.len(), self.signers.count(), "one signature for each signer");
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.view.0.to_le_bytes());
        bytes.extend_from_slice(&self.parent_view.0.to_le_bytes());
        bytes.extend_from_slice(&self.payload.0);
        bytes.extend_from_slice(&self.signers.0.to_le_bytes());
        for signature in &self.signatures {
            bytes.extend_from_slice(&signature.0);
        }
        bytes
    }

    /// Reads a certificate.
    ///
    /// Errors: [`Reject::TooLong`], [`Reject::Truncated`], [`Reject::TrailingBytes`],
    /// [`Reject::UnknownVersion`], [`Reject::ReservedNotZero`], [`Reject::UnknownValidator`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > FINALITY_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        reader.zeros::<7>()?;
        let epoch = reader.u64()?;
        let view = View(reader.u64()?);
        let parent_view = View(reader.u64()?);
        let payload = reader.digest()?;
        let signers = Bitmap(reader.u128()?);
        let signatures = signers.read_signatures(&mut reader)?;
        reader.finish()?;
        Ok(Self { epoch, view, parent_view, payload, signers, signatures })
    }

    /// Returns the bytes that every signature covers on this network.
    pub fn signing_message(&self, network: &Digest) -> Vec<u8> {
        finalize_message(network, self.epoch, self.view, self.parent_view, &self.payload)
    }

    /// Checks that a quorum of the set signed, by the engine's rule.
    ///
    /// Errors: [`Reject::UnknownValidator`], [`Reject::QuorumMissing`], [`Reject::CountMismatch`],
    /// [`Reject::BadSignature`].
    pub fn check(
        &self,
        network: &Digest,
        set: &ValidatorSet,
        signatures: &dyn Signatures,
    ) -> Result<(), Reject> {
        self.signers.check_quorum(set)?;
        if self.signatures.len() != self.signers.count() {
            return Err(Reject::CountMismatch);
        }
        let message = self.signing_message(network);
        let keys = set.keys();
        let items: Vec<SignedItem<'_>> = self
            .signers
            .iter()
            .zip(&self.signatures)
            .map(|(signer, signature)| SignedItem::new(&keys[index(signer)], &message, signature))
            .collect();
        if signatures::verify_votes(signatures, &items).iter().all(|verdict| *verdict) {
            Ok(())
        } else {
            Err(Reject::BadSignature)
        }
    }
}

#[cfg(test)]
mod tests;
