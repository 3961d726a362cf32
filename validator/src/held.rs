//! A batch that this validator holds: its bytes, checked once, shared from then on.

use ledger::{
    Batch, BatchHeader, Digest, Reject, Unhashed, batch_signing_message, signing_message,
};
use std::sync::Arc;

/// An owned batch whose form was checked; its signatures are checked by the verify stage.
#[derive(Debug)]
pub struct Held(Batch<'static>);

impl Held {
    /// Checks everything of a batch but its signatures.
    ///
    /// Errors: the [`Reject`] that its decoder names.
    pub fn decode(bytes: Vec<u8>, network: &Digest) -> Result<Self, Reject> {
        Batch::decode_owned(bytes, network).map(Self)
    }

    /// Checks the form of a batch: the first part of [`Held::decode`].
    ///
    /// Errors: the [`Reject`] that its decoder names.
    pub fn read(bytes: Vec<u8>, network: &Digest) -> Result<Unhashed<'static>, Reject> {
        Batch::read_owned(bytes, network)
    }

    /// Computes the digests of a batch: the second part.
    ///
    /// Errors: [`Reject::RootMismatch`].
    pub fn hash(unhashed: Unhashed<'static>) -> Result<Self, Reject> {
        unhashed.hash().map(Self)
    }

    /// Holds a batch that this validator sealed.
    pub const fn sealed(batch: Batch<'static>) -> Self {
        Self(batch)
    }

    /// Header, signature and body.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// What the owner signed.
    pub fn header(&self) -> &BatchHeader {
        self.0.header()
    }

    /// Digest of the header.
    pub fn digest(&self) -> Digest {
        self.0.digest()
    }

    /// The checked batch.
    pub const fn batch(&self) -> &Batch<'static> {
        &self.0
    }

    /// Memory that the bytes occupy.
    pub fn size(&self) -> usize {
        self.0.bytes().len()
    }
}

/// A held batch as a buffer for the disk and the network, without a copy.
#[derive(Clone, Debug)]
pub struct SharedBytes(pub Arc<Held>);

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A key, a message of this project's 47-byte shape, and the signature.
pub type Signed = ([u8; 32], [u8; 47], [u8; 64]);

/// Signed messages, kept while their signatures are checked.
#[derive(Default)]
pub struct SignedMessages {
    entries: Vec<Signed>,
}

impl SignedMessages {
    /// Makes room for so many more, at once.
    pub fn reserve(&mut self, count: usize) {
        self.entries.reserve(count);
    }

    /// Adds a message.
    pub fn push(&mut self, key: [u8; 32], message: [u8; 47], signature: [u8; 64]) {
        self.entries.push((key, message, signature));
    }

    /// Adds the owner's signature and every author's signature of a batch; answers their count.
    pub fn push_batch(&mut self, held: &Held, owner: &[u8; 32]) -> usize {
        let before = self.entries.len();
        let batch = held.batch();
        self.reserve(batch.count() + 1);
        self.push(*owner, batch_signing_message(&held.digest()), batch.signature().0);
        for (transaction, id) in batch.transactions().zip(batch.ids()) {
            let signature = *transaction.signature_bytes();
            self.push(*transaction.author_bytes(), signing_message(id), signature);
        }
        self.entries.len() - before
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All, in the order in which they were added.
    pub fn entries(&self) -> &[Signed] {
        &self.entries
    }
}
