//! The signatures that all contenders check: equal bytes for everyone, decided by the seed.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

/// How many signers there are when there are few.
const KEYS_FEW: usize = 64;
/// What commonware puts before a message: the length of its name space, then the name space.
/// Messages begin with it, so that commonware can check the very bytes that the others check.
pub(super) const NAMESPACE: &[u8; 14] = b"althing/bench\0";
/// Bytes before the part of a message that commonware is given.
const PREFIX: usize = 1 + NAMESPACE.len();

/// Who signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Somebody else each time, never seen before.
    Distinct,
    /// The same 64 signers again and again, known beforehand.
    Few,
}

impl Keys {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Distinct => "distinct",
            Self::Few => "64",
        }
    }
}

/// What is checked in one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Items of one call.
    pub(super) items: usize,
    /// Who signed.
    pub(super) keys: Keys,
    /// Length of each message.
    pub(super) message_bytes: usize,
    /// Of a hundred items so many are forged, spread evenly.
    pub(super) invalid_percent: usize,
    /// Threads that share a call.
    pub(super) threads: usize,
}

/// A pool of signatures, and how many of them a call checks.
#[derive(Clone)]
pub(super) struct Inputs {
    pub(super) shape: Shape,
    /// Entry `i` of each list belongs to signature `i`.
    pub(super) keys: Vec<[u8; 32]>,
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) signatures: Vec<[u8; 64]>,
    /// What each one is.
    pub(super) expected: Vec<bool>,
    /// Where the keys are known beforehand: what dalek decoded from them.
    pub(super) decoded: Option<Vec<VerifyingKey>>,
}

impl Inputs {
    /// Signs a pool of messages; a multiple of the items of a call in number.
    pub(super) fn new(seed: u64, shape: Shape, count: usize) -> Self {
        assert!(count.is_multiple_of(shape.items), "every call is full");
        let mut random = Random::new(seed);
        let signers: usize = match shape.keys {
            Keys::Distinct => count,
            Keys::Few => KEYS_FEW,
        };
        let signers: Vec<SigningKey> =
            (0..signers).map(|_| SigningKey::from_bytes(&random.next())).collect();
        let mut inputs = Self {
            shape,
            keys: Vec::new(),
            messages: Vec::new(),
            signatures: Vec::new(),
            expected: vec![true; count],
            decoded: None,
        };
        for signer in signers.iter().cycle().take(count) {
            let message = message(&random.next(), shape.message_bytes);
            inputs.keys.push(signer.verifying_key().to_bytes());
            inputs.signatures.push(signer.sign(&message).to_bytes());
            inputs.messages.push(message);
        }
        inputs.decoded = match shape.keys {
            Keys::Distinct => None,
            Keys::Few => Some(inputs.decode()),
        };
        let percent = shape.invalid_percent;
        let forged = (0..count).filter(|place| place * percent % 100 < percent);
        forged.for_each(|place| inputs.forge(place));
        inputs
    }

    /// The number of signatures.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// The same, with one more message changed after it was signed.
    pub(super) fn with_forgery(&self, place: usize) -> Self {
        let mut inputs = self.clone();
        inputs.forge(place);
        inputs
    }

    fn forge(&mut self, place: usize) {
        if std::mem::replace(&mut self.expected[place], false) {
            *self.messages[place].last_mut().expect("messages are not empty") ^= 1;
        }
    }

    /// The signer's part of one message: what commonware is given beside the name space.
    #[cfg(feature = "rivals")]
    pub(super) fn payload(&self, place: usize) -> &[u8] {
        &self.messages[place][PREFIX..]
    }

    fn decode(&self) -> Vec<VerifyingKey> {
        let mut known = BTreeMap::new();
        let decode = |key: &[u8; 32]| VerifyingKey::from_bytes(key).expect("made from a signer");
        self.keys.iter().map(|key| *known.entry(*key).or_insert_with(|| decode(key))).collect()
    }
}

fn message(seed: &[u8; 32], bytes: usize) -> Vec<u8> {
    assert!(bytes >= PREFIX + 16, "room for what differs");
    let mut message = vec![0; bytes];
    message[0] = u8::try_from(NAMESPACE.len()).expect("a short name");
    message[1..PREFIX].copy_from_slice(NAMESPACE);
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut message[PREFIX..]);
    message
}

/// A stream of bytes that the seed decides.
struct Random {
    stream: blake3::OutputReader,
}

impl Random {
    fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("althing bench signatures v1");
        hasher.update(&seed.to_le_bytes());
        Self { stream: hasher.finalize_xof() }
    }

    fn next(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.stream.fill(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shape(keys: Keys, invalid_percent: usize) -> Shape {
        Shape { items: 4, keys, message_bytes: 47, invalid_percent, threads: 1 }
    }

    #[test]
    fn the_seed_decides_every_byte() {
        let inputs = |seed| Inputs::new(seed, shape(Keys::Distinct, 0), 8);
        assert_eq!(inputs(1).signatures, inputs(1).signatures);
        assert_ne!(inputs(1).keys, inputs(2).keys);
        assert_ne!(inputs(1).messages, inputs(2).messages);
    }

    #[test]
    fn keys_are_as_many_as_promised() {
        let inputs = |keys| Inputs::new(7, shape(keys, 0), 128);
        let count = |keys| inputs(keys).keys.iter().collect::<BTreeSet<_>>().len();
        assert_eq!(count(Keys::Distinct), 128);
        assert_eq!(count(Keys::Few), 64);
        let few = inputs(Keys::Few);
        let decoded = few.decoded.as_ref().unwrap();
        assert!(decoded.iter().zip(&few.keys).all(|(key, bytes)| key.as_bytes() == bytes));
        assert!(inputs(Keys::Distinct).decoded.is_none());
    }

    #[test]
    fn a_forgery_changes_one_message_only() {
        let inputs = Inputs::new(1, shape(Keys::Few, 0), 8);
        let forged = inputs.with_forgery(5);
        for place in 0..8 {
            assert_eq!(inputs.messages[place] == forged.messages[place], place != 5);
            assert_eq!(forged.expected[place], place != 5);
        }
        assert_eq!(inputs.signatures, forged.signatures);
    }

    #[test]
    fn forged_items_are_as_many_as_promised() {
        for percent in [0, 1, 50, 100] {
            let inputs = Inputs::new(1, shape(Keys::Few, percent), 400);
            let forged = inputs.expected.iter().filter(|valid| !**valid).count();
            assert_eq!(forged, 4 * percent);
        }
    }
}
