//! What is signed and who judges it: the verifier is a parameter of everything in this crate.

use crate::digest::{Digest, PublicKey, Signature};

/// Bytes of every message that this crate defines for signing: a tag of 15 and a digest of 32.
///
/// Ed25519 hashes R and A (64 bytes) before the message, and SHA-512 pads with 17 at least:
/// 64 + 47 + 17 = 128, so a check hashes exactly one block.
pub const MESSAGE_BYTES: usize = 47;

const TAG_BYTES: usize = 15;

pub(crate) const TRANSACTION_TAG: &[u8; TAG_BYTES] = b"althing/tx/v1\0\0";
pub(crate) const BATCH_TAG: &[u8; TAG_BYTES] = b"althing/batch1\0";
pub(crate) const ACK_TAG: &[u8; TAG_BYTES] = b"althing/ack/v1\0";

const _: () = assert!(64 + MESSAGE_BYTES + 17 == 128);

/// Puts a tag before a digest.
pub(crate) fn message(tag: &[u8; TAG_BYTES], digest: &Digest) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    message[..TAG_BYTES].copy_from_slice(tag);
    message[TAG_BYTES..].copy_from_slice(&digest.0);
    message
}

/// One signature to judge.
#[derive(Clone, Copy, Debug)]
pub struct SignedItem<'a> {
    /// Who should have signed.
    pub key: &'a [u8; 32],
    /// The bytes that should have been signed.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a [u8; 64],
}

impl<'a> SignedItem<'a> {
    /// Puts the three together.
    pub fn new(key: &'a PublicKey, message: &'a [u8], signature: &'a Signature) -> Self {
        Self { key: key.as_bytes(), message, signature: signature.as_bytes() }
    }
}

/// The judge of signatures.
///
/// Shape: both functions answer `items[i]` at place `i`; any number of items, also none.
pub trait Signatures: Send + Sync {
    /// Judges by the ledger's rule: cofactored, canonical encodings only.
    fn verify(&self, items: &[SignedItem<'_>]) -> Vec<bool>;

    /// Judges by the consensus engine's rule: pure ZIP 215, for votes and finality certificates.
    fn verify_votes(&self, items: &[SignedItem<'_>]) -> Vec<bool>;
}

/// Asks for verdicts and refuses an answer of another length.
pub(crate) fn verify(signatures: &dyn Signatures, items: &[SignedItem<'_>]) -> Vec<bool> {
    let verdicts = signatures.verify(items);
    assert_eq!(verdicts.len(), items.len(), "a verifier answers every item");
    verdicts
}

/// Asks for verdicts on votes and refuses an answer of another length.
pub(crate) fn verify_votes(signatures: &dyn Signatures, items: &[SignedItem<'_>]) -> Vec<bool> {
    let verdicts = signatures.verify_votes(items);
    assert_eq!(verdicts.len(), items.len(), "a verifier answers every vote");
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_tag_and_its_digest() {
        let message = message(TRANSACTION_TAG, &Digest([9; 32]));
        assert_eq!(&message[..15], b"althing/tx/v1\0\0");
        assert_eq!(message[15..], [9; 32]);
    }

    #[test]
    fn tags_differ() {
        assert_ne!(TRANSACTION_TAG, BATCH_TAG);
        assert_ne!(TRANSACTION_TAG, ACK_TAG);
        assert_ne!(BATCH_TAG, ACK_TAG);
    }
}
