//! The 32- and 64-byte values, the numbers that must not be swapped, and one hash domain per use.

mod keyed;
mod many;

pub use keyed::{Keyed, KeyedHasher};

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::OnceLock;

use blake3::Hasher;
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A BLAKE3-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// An Ed25519 public key as 32 bytes; whether they decode to a point is judged with a signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// An Ed25519 signature as 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);

/// The number of a block; the genesis block has number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height(pub u64);

/// A round of the consensus engine; every epoch starts at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View(pub u64);

/// Text that is not the hexadecimal form of the wanted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits, found {found}")]
pub struct HexError {
    expected: usize,
    found: Found,
}

/// What stood where hexadecimal digits were expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Length(usize),
    Character(char),
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(formatter, "{length}"),
            Self::Character(character) => write!(formatter, "{character:?}"),
        }
    }
}

fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let mut bytes = [0; N];
    let error = |found| HexError { expected: 2 * N, found };
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(hex::FromHexError::InvalidHexCharacter { c, .. }) => Err(error(Found::Character(c))),
        Err(hex::FromHexError::OddLength | hex::FromHexError::InvalidStringLength) => {
            Err(error(Found::Length(text.len())))
        }
    }
}

fn write_hex(bytes: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 128];
    let text = &mut text[..2 * bytes.len()];
    hex::encode_to_slice(bytes, text).expect("the text is twice as long as the bytes");
    formatter.pad(std::str::from_utf8(text).expect("hexadecimal digits are ASCII"))
}

impl Digest {
    /// The digest that stands for "none": no parent, no previous transaction, no next set.
    pub const ZERO: Self = Self([0; 32]);

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first eight bytes: what a transaction carries of its network's digest.
    pub fn hint(&self) -> [u8; 8] {
        *self.0.first_chunk().expect("a digest has 32 bytes")
    }
}

impl PublicKey {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Signature {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl Height {
    /// The height of the genesis block.
    pub const ZERO: Self = Self(0);

    /// Returns the number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns the height after this one.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("no chain has 2^64 blocks"))
    }
}

impl View {
    /// The view of the genesis block.
    pub const ZERO: Self = Self(0);

    /// Returns the number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns the view after this one.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("no engine runs 2^64 views"))
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<[u8; 64]> for Signature {
    fn from(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }
}

impl From<u64> for Height {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<u64> for View {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl FromStr for Digest {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        from_hex(text).map(Self)
    }
}

impl FromStr for PublicKey {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        from_hex(text).map(Self)
    }
}

impl FromStr for Signature {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        from_hex(text).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Display for Height {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(HexVisitor(PhantomData))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(HexVisitor(PhantomData))
    }
}

/// Reads hexadecimal text without a copy of it.
struct HexVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err = HexError>> Visitor<'_> for HexVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// One use of the hash function: digests of two domains never meet.
///
/// Source: BLAKE3 specification, section 2.3 (the mode `derive_key`). The key of the context is
/// computed once, since it would double the work of a digest of 64 bytes or less.
pub(crate) struct Domain {
    context: &'static str,
    key: OnceLock<ContextKey>,
}

impl Domain {
    /// Names the domain.
    pub(crate) const fn new(context: &'static str) -> Self {
        Self { context, key: OnceLock::new() }
    }

    fn key(&self) -> &ContextKey {
        self.key.get_or_init(|| hash_derive_key_context(self.context))
    }

    /// Starts a digest.
    pub(crate) fn hasher(&self) -> Hasher {
        Hasher::new_from_context_key(self.key())
    }

    /// Hashes the parts as one string of bytes; the caller fixes their lengths.
    pub(crate) fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut hasher = self.hasher();
        for part in parts {
            hasher.update(part);
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

/// All domains, in one list so that no two are alike.
pub(crate) mod domain {
    use super::Domain;

    pub(crate) static TRANSACTION: Domain = Domain::new("althing 2026 transaction id v1");
    pub(crate) static TRANSACTION_LEAF: Domain = Domain::new("althing 2026 transaction leaf v2");
    pub(crate) static BATCH: Domain = Domain::new("althing 2026 batch header v1");
    pub(crate) static ACK: Domain = Domain::new("althing 2026 ack v1");
    pub(crate) static CUT: Domain = Domain::new("althing 2026 cut v2");
    pub(crate) static CUT_LANES: Domain = Domain::new("althing 2026 cut lanes v1");
    pub(crate) static OUTCOME_LEAF: Domain = Domain::new("althing 2026 outcome leaf v2");
    pub(crate) static RECORD_LEAF: Domain = Domain::new("althing 2026 history record v1");
    pub(crate) static MERKLE_NODE: Domain = Domain::new("althing 2026 merkle node v1");
    pub(crate) static MERKLE_ROOT: Domain = Domain::new("althing 2026 merkle root v1");
    pub(crate) static HISTORY_NODE: Domain = Domain::new("althing 2026 history node v1");
    pub(crate) static HISTORY_ROOT: Domain = Domain::new("althing 2026 history root v1");
    pub(crate) static STATE_PAGE: Domain = Domain::new("althing 2026 state page v1");
    pub(crate) static STATE_LINKS: Domain = Domain::new("althing 2026 state links v1");
    pub(crate) static STATE_LANES: Domain = Domain::new("althing 2026 state lanes v1");
    pub(crate) static STATE: Domain = Domain::new("althing 2026 state v4");
    pub(crate) static GENESIS: Domain = Domain::new("althing 2026 genesis v2");
    pub(crate) static EVIDENCE: Domain = Domain::new("althing 2026 evidence v1");
    pub(crate) static VALIDATOR_SET: Domain = Domain::new("althing 2026 validator set v1");
    pub(crate) static COUNCIL: Domain = Domain::new("althing 2026 council v1");

    #[cfg(test)]
    pub(super) static ALL: [&Domain; 20] = [
        &TRANSACTION,
        &TRANSACTION_LEAF,
        &BATCH,
        &ACK,
        &CUT,
        &CUT_LANES,
        &OUTCOME_LEAF,
        &RECORD_LEAF,
        &MERKLE_NODE,
        &MERKLE_ROOT,
        &HISTORY_NODE,
        &HISTORY_ROOT,
        &STATE_PAGE,
        &STATE_LINKS,
        &STATE_LANES,
        &STATE,
        &GENESIS,
        &EVIDENCE,
        &VALIDATOR_SET,
        &COUNCIL,
    ];
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_domain_is_the_derive_key_mode_of_blake3() {
        let expected = blake3::derive_key("althing 2026 cut v2", b"one two");
        assert_eq!(domain::CUT.digest(&[b"one ", b"two"]), Digest(expected));
    }

    #[test]
    fn no_two_domains_are_alike() {
        let digests: BTreeSet<Digest> =
            domain::ALL.iter().map(|domain| domain.digest(&[b"same"])).collect();
        assert_eq!(digests.len(), domain::ALL.len());
    }

    #[test]
    fn hexadecimal_text_goes_there_and_back() {
        let digest = domain::CUT.digest(&[]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(format!("{digest:?}").len(), 64);
        let key = PublicKey(digest.0);
        assert_eq!(key.to_string().parse(), Ok(key));
        let signature = Signature([0xab; 64]);
        assert_eq!(signature.to_string(), "ab".repeat(64));
        assert_eq!(signature.to_string().parse(), Ok(signature));
        assert_eq!(format!("{signature:?}"), "ab".repeat(64));
        assert_eq!(format!("{key:?}"), digest.to_string());
    }

    #[test]
    fn text_that_is_not_hexadecimal_is_refused_with_its_reason() {
        let short = "ab".parse::<Digest>().unwrap_err();
        assert_eq!(short.to_string(), "expected 64 hexadecimal digits, found 2");
        let odd = "abc".parse::<PublicKey>().unwrap_err();
        assert_eq!(odd.to_string(), "expected 64 hexadecimal digits, found 3");
        let strange = "zz".repeat(64).parse::<Signature>().unwrap_err();
        assert_eq!(strange.to_string(), "expected 128 hexadecimal digits, found 'z'");
    }

    #[test]
    fn numbers_count_up() {
        assert_eq!(Height::ZERO.next(), Height::from(1));
        assert_eq!(View::ZERO.next().get(), View::from(1).get());
        assert_eq!(format!("{} {}", Height(7).next().get(), View(3)), "8 3");
        assert_eq!(Digest([7; 32]).hint(), [7; 8]);
    }
}
