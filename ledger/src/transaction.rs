//! The signed transaction: fields, bytes on the wire, bytes that are signed.
//!
//! ```text
//!   0  version   u8 = 1
//!   1  kind      u8: 1 record, 2 transfer, 3 council
//!   2  body_len  u16
//!   4  network   8   the first bytes of the genesis digest
//!  12  author    32  Ed25519 public key
//!  44  sequence  u64 0 for the author's first transaction
//!  52  previous  32  id of the author's previous transaction, zero for the first
//!  84  valid_until u64  last height at which it may be executed
//!  92  body      body_len bytes; of a transfer: to 32, amount u64; of council: see `council`
//!  ..  signature 64  over `"althing/tx/v1\0\0"` and the id, by the author
//! ```
//!
//! The id is the digest (domain `althing 2026 transaction id v1`) of the full genesis digest and
//! all bytes before the signature. So the 8 bytes of hint route and refuse early, and a signature
//! still holds on one network only.

use crate::codec::Reader;
use crate::council::{BALLOT_BYTES_MAX, Ballot};
use crate::digest::{Digest, Height, PublicKey, Signature, domain};
use crate::limits::{
    SIGNATURE_BYTES, TRANSACTION_BODY_BYTES_MAX, TRANSACTION_HEADER_BYTES, TRANSACTION_OVERHEAD,
};
use crate::reject::Reject;
use crate::signatures::{MESSAGE_BYTES, SignedItem, TRANSACTION_TAG, message};

const VERSION: u8 = 1;
const NETWORK: usize = 4;
const AUTHOR: usize = 12;
const SEQUENCE: usize = 44;
const PREVIOUS: usize = 52;
const VALID_UNTIL: usize = 84;

/// Bytes of the body of a transfer.
pub const TRANSFER_BYTES: usize = 40;

/// What a transaction asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Keeps opaque data.
    Record,
    /// Moves an amount to another account.
    Transfer,
    /// Says what a validator, or who would be one, wants of the council.
    Council,
}

impl Kind {
    /// Returns the code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::Transfer => 2,
            Self::Council => 3,
        }
    }

    fn from_code(code: u8) -> Result<Self, Reject> {
        match code {
            1 => Ok(Self::Record),
            2 => Ok(Self::Transfer),
            3 => Ok(Self::Council),
            _ => Err(Reject::UnknownKind),
        }
    }
}

/// The body of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who receives.
    pub to: PublicKey,
    /// How much.
    pub amount: u64,
}

impl Transfer {
    /// Writes the body.
    pub fn encode(&self) -> [u8; TRANSFER_BYTES] {
        let mut body = [0; TRANSFER_BYTES];
        body[..32].copy_from_slice(&self.to.0);
        body[32..].copy_from_slice(&self.amount.to_le_bytes());
        body
    }
}

/// A checked view over exactly one transaction's bytes.
///
/// Holding one proves that every length and code is right. It proves nothing about the signature,
/// the network or the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction<'a> {
    bytes: &'a [u8],
}

impl<'a> Transaction<'a> {
    /// Checks bytes that should be one transaction and nothing else.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::TrailingBytes`], [`Reject::TooLong`],
    /// [`Reject::UnknownVersion`], [`Reject::UnknownKind`], [`Reject::TransferBody`], [`Reject::BallotBody`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Reject> {
        let (transaction, rest) = Self::decode_prefix(bytes)?;
        if rest.is_empty() { Ok(transaction) } else { Err(Reject::TrailingBytes) }
    }

    /// Checks one transaction at the start of the bytes and returns what follows it.
    ///
    /// Errors: those of [`Transaction::decode`] but for the trailing bytes.
    pub fn decode_prefix(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Reject> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let kind = Kind::from_code(reader.u8()?)?;
        let body_bytes = usize::from(u16::from_le_bytes(*reader.array()?));
        if body_bytes > TRANSACTION_BODY_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        if kind == Kind::Transfer && body_bytes != TRANSFER_BYTES {
            return Err(Reject::TransferBody);
        }
        if kind == Kind::Council && body_bytes > BALLOT_BYTES_MAX {
            return Err(Reject::BallotBody);
        }
        let length = TRANSACTION_OVERHEAD + body_bytes;
        let (bytes, rest) = bytes.split_at_checked(length).ok_or(Reject::Truncated)?;
        let transaction = Self { bytes };
        if kind == Kind::Council {
            Ballot::decode(transaction.body())?;
        }
        Ok((transaction, rest))
    }

    /// Takes bytes that a batch has decoded before.
    pub(crate) fn of_decoded(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn field<const N: usize>(&self, offset: usize) -> &'a [u8; N] {
        self.bytes[offset..].first_chunk().expect("the decoder checked the length")
    }

    /// Returns all bytes, signature included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        Kind::from_code(self.bytes[1]).expect("the decoder checked the kind")
    }

    /// Returns the first eight bytes of the genesis digest that the author meant.
    pub fn network_hint(&self) -> [u8; 8] {
        *self.field(NETWORK)
    }

    /// Returns who signs.
    pub fn author(&self) -> PublicKey {
        PublicKey(*self.author_bytes())
    }

    /// Returns the key of who signs as it stands in the bytes.
    pub fn author_bytes(&self) -> &'a [u8; 32] {
        self.field(AUTHOR)
    }

    /// Returns the place in the author's chain; the first is 0.
    pub fn sequence(&self) -> u64 {
        u64::from_le_bytes(*self.field(SEQUENCE))
    }

    /// Returns the id of the author's previous transaction; zero for the first.
    pub fn previous(&self) -> Digest {
        Digest(*self.field(PREVIOUS))
    }

    /// Returns the last height at which it may be executed.
    pub fn valid_until(&self) -> Height {
        Height(u64::from_le_bytes(*self.field(VALID_UNTIL)))
    }

    /// Returns the body.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[TRANSACTION_HEADER_BYTES..self.bytes.len() - SIGNATURE_BYTES]
    }

    /// Returns what a council transaction says, or none for another kind.
    pub fn ballot(&self) -> Option<Ballot> {
        match self.kind() {
            Kind::Record | Kind::Transfer => None,
            Kind::Council => {
                Some(Ballot::decode(self.body()).expect("the decoder checked the ballot"))
            }
        }
    }

    /// Returns the body of a transfer, or none for another kind.
    pub fn transfer(&self) -> Option<Transfer> {
        match self.kind() {
            Kind::Record | Kind::Council => None,
            Kind::Transfer => {
                let amount = self.field(TRANSACTION_HEADER_BYTES + 32);
                Some(Transfer {
                    to: PublicKey(*self.field(TRANSACTION_HEADER_BYTES)),
                    amount: u64::from_le_bytes(*amount),
                })
            }
        }
    }

    /// Returns the signature.
    pub fn signature(&self) -> Signature {
        Signature(*self.signature_bytes())
    }

    /// Returns the signature as it stands in the bytes.
    pub fn signature_bytes(&self) -> &'a [u8; 64] {
        self.bytes.last_chunk().expect("the decoder checked the length")
    }

    /// Refuses a transaction that was made for another network.
    ///
    /// Errors: [`Reject::WrongNetwork`].
    pub fn check_network(&self, network: &Digest) -> Result<(), Reject> {
        if self.network_hint() == network.hint() { Ok(()) } else { Err(Reject::WrongNetwork) }
    }

    /// Computes the id on the network with this genesis digest.
    pub fn id(&self, network: &Digest) -> Digest {
        id_of(network, self.unsigned())
    }

    /// Returns what the id covers beside the genesis digest.
    fn unsigned(&self) -> &'a [u8] {
        &self.bytes[..self.bytes.len() - SIGNATURE_BYTES]
    }

    /// Returns what a verifier judges; the message is [`signing_message`] of the id.
    pub fn signed_item<'b>(&self, message: &'b [u8; MESSAGE_BYTES]) -> SignedItem<'b>
    where
        'a: 'b,
    {
        SignedItem { key: self.author_bytes(), message, signature: self.signature_bytes() }
    }
}

fn id_of(network: &Digest, unsigned: &[u8]) -> Digest {
    domain::TRANSACTION.digest(&[&network.0, unsigned])
}

/// Computes the ids of many transactions, several at a time.
///
/// Shape: `ids[i]` is that of `transactions[i]`.
pub fn ids(network: &Digest, transactions: &[Transaction<'_>]) -> Vec<Digest> {
    let inputs = transactions.iter().map(|transaction| [&network.0[..], transaction.unsigned()]);
    domain::TRANSACTION.digests(inputs)
}

/// Returns the bytes that an author signs.
pub fn signing_message(id: &Digest) -> [u8; MESSAGE_BYTES] {
    message(TRANSACTION_TAG, id)
}

/// A transaction before its signature.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// What it asks for.
    pub kind: Kind,
    /// Who will sign.
    pub author: PublicKey,
    /// The place in the author's chain.
    pub sequence: u64,
    /// The id of the author's previous transaction; zero for the first.
    pub previous: Digest,
    /// The last height at which it may be executed.
    pub valid_until: Height,
    /// The body; [`Transfer::encode`] for a transfer.
    pub body: &'a [u8],
}

impl Draft<'_> {
    /// Writes the transaction, has it signed, and returns its bytes and its id.
    ///
    /// Errors: [`Reject::TooLong`], [`Reject::TransferBody`] and [`Reject::BallotBody`].
    pub fn sign(
        &self,
        network: &Digest,
        sign: impl FnOnce(&[u8; MESSAGE_BYTES]) -> Signature,
    ) -> Result<(Vec<u8>, Digest), Reject> {
        if self.body.len() > TRANSACTION_BODY_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        if self.kind == Kind::Transfer && self.body.len() != TRANSFER_BYTES {
            return Err(Reject::TransferBody);
        }
        if self.kind == Kind::Council {
            Ballot::decode(self.body)?;
        }
        let body_bytes = u16::try_from(self.body.len()).expect("the limit fits 16 bits");
        let mut bytes = Vec::with_capacity(TRANSACTION_OVERHEAD + self.body.len());
        bytes.extend_from_slice(&[VERSION, self.kind.code()]);
        bytes.extend_from_slice(&body_bytes.to_le_bytes());
        bytes.extend_from_slice(&network.hint());
        bytes.extend_from_slice(&self.author.0);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.previous.0);
        bytes.extend_from_slice(&self.valid_until.0.to_le_bytes());
        bytes.extend_from_slice(self.body);
        let id = id_of(network, &bytes);
        bytes.extend_from_slice(&sign(&signing_message(&id)).0);
        Ok((bytes, id))
    }
}

#[cfg(test)]
mod tests;
