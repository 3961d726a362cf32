//! The signed document by which clients know a validator's admission key, and the board it hangs on.
//!
//! A session of the datagram protocol is opened towards an X25519 key that the validator makes when it
//! starts and replaces from time to time. Clients know the validator by the Ed25519 key of the genesis;
//! this document binds one to the other, for a time. It is published over HTTP, which need not be
//! trusted: whoever holds another key cannot sign.

use crate::{handle::text, key::Secret};
use ledger::{Digest, PublicKey, Signature};
use serde::{Deserialize, Serialize};
use sigverify::{Item, verify_one};
use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

/// The layout of the document.
const VERSION: u32 = 1;
/// The clocks of client and validator may differ by so much.
pub const CLOCK_SLACK_MS: u64 = 60_000;

/// What every signed message starts with.
///
/// The ledger's own messages have 47 bytes; the engine's start with the length of a name and the
/// name, of which none starts with an "l".
const DOMAIN: &[u8; 24] = b"althing/admission/v1\0\0\0\0";
const MESSAGE_BYTES: usize = DOMAIN.len() + 3 * 32 + 2 * 8;

/// Why a document is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    /// Its layout is another.
    #[error("the admission document has a version that is not known here")]
    Version,
    /// It is of another network.
    #[error("the admission document is of another network")]
    Network,
    /// It is of another validator.
    #[error("the admission document is of another validator")]
    Validator,
    /// Its time has not come.
    #[error("the admission document is not valid yet: compare the clocks")]
    Early,
    /// Its time is over.
    #[error("the admission document has expired: compare the clocks")]
    Expired,
    /// The validator has not signed it.
    #[error("the signature of the admission document does not hold")]
    Signature,
}

/// The document of `GET /admission`.
///
/// What is signed, all numbers little-endian:
///
/// ```text
///   "althing/admission/v1" and four zeros, 24 | network 32 | validator 32 | admission key 32
///   | valid from u64 | valid until u64
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    version: u32,
    /// The genesis digest.
    #[serde(with = "text")]
    pub network: Digest,
    /// The key by which the network knows the validator.
    #[serde(with = "text")]
    pub validator: PublicKey,
    /// The X25519 key towards which sessions are opened.
    #[serde(with = "key_text")]
    pub admission_key: [u8; 32],
    /// The first moment at which it may be used, in milliseconds since 1970.
    pub valid_from_ms: u64,
    /// The last one.
    pub valid_until_ms: u64,
    /// The validator's signature.
    #[serde(with = "text")]
    pub signature: Signature,
}

impl Admission {
    /// Signs a document for an admission key and the time in which clients may use it.
    pub fn sign(
        secret: &Secret,
        network: Digest,
        admission_key: [u8; 32],
        valid_ms: Range<u64>,
    ) -> Self {
        let mut admission = Self {
            version: VERSION,
            network,
            validator: secret.public(),
            admission_key,
            valid_from_ms: valid_ms.start,
            valid_until_ms: valid_ms.end,
            signature: Signature([0; 64]),
        };
        admission.signature = secret.sign(&admission.message());
        admission
    }

    /// Checks that the validator of a network has signed this, and for now.
    ///
    /// Units: `now_ms` is the time of day in milliseconds since 1970.
    /// Errors, cheapest first: every [`Reject`].
    pub fn verify(
        &self,
        network: &Digest,
        validator: &PublicKey,
        now_ms: u64,
    ) -> Result<(), Reject> {
        if self.version != VERSION {
            return Err(Reject::Version);
        }
        if self.network != *network {
            return Err(Reject::Network);
        }
        if self.validator != *validator {
            return Err(Reject::Validator);
        }
        if now_ms.saturating_add(CLOCK_SLACK_MS) < self.valid_from_ms {
            return Err(Reject::Early);
        }
        if now_ms > self.valid_until_ms.saturating_add(CLOCK_SLACK_MS) {
            return Err(Reject::Expired);
        }
        let message = self.message();
        let (key, signature) = (validator.as_bytes(), self.signature.as_bytes());
        let verdict = verify_one(&Item { key, message: &message, signature });
        verdict.is_valid().then_some(()).ok_or(Reject::Signature)
    }

    fn message(&self) -> [u8; MESSAGE_BYTES] {
        let mut message = [0; MESSAGE_BYTES];
        let (domain, rest) = message.split_at_mut(DOMAIN.len());
        domain.copy_from_slice(DOMAIN);
        let (keys, times) = rest.split_at_mut(3 * 32);
        keys[..32].copy_from_slice(self.network.as_bytes());
        keys[32..64].copy_from_slice(self.validator.as_bytes());
        keys[64..].copy_from_slice(&self.admission_key);
        times[..8].copy_from_slice(&self.valid_from_ms.to_le_bytes());
        times[8..].copy_from_slice(&self.valid_until_ms.to_le_bytes());
        message
    }
}

/// The present document, written by whoever makes the keys and read by the edge.
#[derive(Debug, Default)]
pub struct AdmissionBoard {
    current: Mutex<Option<Arc<Admission>>>,
}

impl AdmissionBoard {
    /// Starts without a document.
    pub const fn new() -> Self {
        Self { current: Mutex::new(None) }
    }

    /// Replaces the document.
    pub fn publish(&self, admission: Admission) {
        let fresh = Some(Arc::new(admission));
        let old = std::mem::replace(&mut *self.lock(), fresh);
        // Freed after the lock is.
        drop(old);
    }

    /// Returns the document; none while there is no key.
    pub fn current(&self) -> Option<Arc<Admission>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Admission>>> {
        self.current.lock().expect("nothing panics while it holds the board")
    }
}

/// A key as 64 hexadecimal digits.
mod key_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer>(
        key: &[u8; 32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(key))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let mut key = [0; 32];
        hex::decode_to_slice(&*text, &mut key).map_err(D::Error::custom)?;
        Ok(key)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const NETWORK: Digest = Digest([1; 32]);
    const FROM: u64 = 1_700_000_000_000;
    const UNTIL: u64 = FROM + 86_400_000;

    fn secret() -> Secret {
        Secret::from_seed(&[2; 32])
    }

    pub(crate) fn sample() -> Admission {
        Admission::sign(&secret(), NETWORK, [3; 32], FROM..UNTIL)
    }

    fn verify(admission: &Admission, now_ms: u64) -> Result<(), Reject> {
        admission.verify(&NETWORK, &secret().public(), now_ms)
    }

    #[test]
    fn the_signed_bytes_are_as_printed() {
        let validator = secret().public();
        let golden = [
            hex::encode("althing/admission/v1"),
            "00000000".into(),
            "01".repeat(32),
            validator.to_string(),
            "03".repeat(32),
            "0068e5cf8b010000".into(),
            "00c40bd58b010000".into(),
        ];
        assert_eq!(hex::encode(sample().message()), golden.concat());
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["network"], "01".repeat(32));
        assert_eq!(json["validator"], validator.to_string());
        assert_eq!(json["admission_key"], "03".repeat(32));
        assert_eq!(json["valid_from_ms"], FROM);
        assert_eq!(json["valid_until_ms"], UNTIL);
        assert_eq!(json["signature"], sample().signature.to_string());
        assert_eq!(serde_json::from_value::<Admission>(json).unwrap(), sample());
    }

    #[test]
    fn it_is_good_in_its_time_and_a_minute_around_it() {
        assert_eq!(CLOCK_SLACK_MS, 60_000);
        for now in [FROM - 60_000, FROM, UNTIL, UNTIL + 60_000] {
            assert_eq!(verify(&sample(), now), Ok(()), "{now}");
        }
        assert_eq!(verify(&sample(), FROM - 60_001), Err(Reject::Early));
        assert_eq!(verify(&sample(), UNTIL + 60_001), Err(Reject::Expired));
        let always = Admission::sign(&secret(), NETWORK, [3; 32], 0..u64::MAX);
        for now in [0, u64::MAX] {
            assert_eq!(verify(&always, now), Ok(()));
        }
    }

    #[test]
    fn another_network_validator_or_version_is_refused() {
        let (admission, validator) = (sample(), secret().public());
        let other = PublicKey([2; 32]);
        let refused = admission.verify(&Digest([2; 32]), &validator, FROM);
        assert_eq!(refused, Err(Reject::Network));
        assert_eq!(admission.verify(&NETWORK, &other, FROM), Err(Reject::Validator));
        let later = Admission { version: 2, ..admission };
        assert_eq!(verify(&later, FROM), Err(Reject::Version));
    }

    /// Refused as it stands, and also by the signature alone where the field is what one wants.
    #[test]
    fn every_flipped_bit_is_refused() {
        let good = sample();
        let flip = |bytes: &mut [u8], bit: usize| bytes[bit / 8] ^= 1 << (bit % 8);
        for bit in 0..256 {
            let mut bad = good.clone();
            flip(&mut bad.network.0, bit);
            assert_eq!(verify(&bad, FROM), Err(Reject::Network));
            let refused = bad.verify(&bad.network, &secret().public(), FROM);
            assert_eq!(refused, Err(Reject::Signature));
            let mut bad = good.clone();
            flip(&mut bad.validator.0, bit);
            assert_eq!(verify(&bad, FROM), Err(Reject::Validator));
            assert_eq!(bad.verify(&NETWORK, &bad.validator, FROM), Err(Reject::Signature));
            let mut bad = good.clone();
            flip(&mut bad.admission_key, bit);
            assert_eq!(verify(&bad, FROM), Err(Reject::Signature));
        }
        for bit in 0..512 {
            let mut bad = good.clone();
            flip(&mut bad.signature.0, bit);
            assert_eq!(verify(&bad, FROM), Err(Reject::Signature));
        }
        for bit in 0..64 {
            let bad = Admission { valid_from_ms: good.valid_from_ms ^ 1 << bit, ..good.clone() };
            assert!(verify(&bad, FROM).is_err());
            let bad = Admission { valid_until_ms: good.valid_until_ms ^ 1 << bit, ..good.clone() };
            assert!(verify(&bad, FROM).is_err());
        }
        assert_eq!(verify(&good, FROM), Ok(()));
    }

    #[test]
    fn a_signature_is_good_for_nothing_else() {
        // What validators sign with this key besides: 47 bytes, or the length of a name and the name.
        assert_ne!(MESSAGE_BYTES, ledger::MESSAGE_BYTES);
        let engine = ledger::engine_namespace(&NETWORK);
        assert_ne!(engine.first(), sample().message().get(1));
    }

    #[test]
    fn broken_text_is_no_document() {
        let good = serde_json::to_string(&sample()).unwrap();
        for (from, to) in [("\"03", "\"0"), ("\"03", "\"zz"), ("version", "vision")] {
            let bad = good.replacen(from, to, 1);
            assert!(bad != good && serde_json::from_str::<Admission>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_board_shows_the_newest_document() {
        let board = AdmissionBoard::new();
        assert_eq!(board.current(), None);
        board.publish(sample());
        let next = Admission::sign(&secret(), NETWORK, [4; 32], FROM..UNTIL);
        board.publish(next.clone());
        assert_eq!(board.current().as_deref(), Some(&next));
    }
}
