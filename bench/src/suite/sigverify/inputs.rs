//! The signatures that all contenders check: equal bytes for everyone, decided by the seed.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

/// Length of the messages that the ledger signs.
pub(super) const MESSAGE_BYTES: usize = 47;
/// How many signers there are when there are few.
const KEYS_FEW: usize = 64;
/// What commonware puts before a message: the length of its name space, then the name space.
/// Messages begin with it, so that commonware can check the very bytes that the others check.
pub(super) const NAMESPACE: &[u8; 14] = b"althing/bench\0";

const _: () = assert!(MESSAGE_BYTES == 1 + NAMESPACE.len() + 32);

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

/// A pool of signatures, and how many of them a call checks.
#[derive(Clone)]
pub(super) struct Inputs {
    pub(super) items_per_call: usize,
    /// Entry `i` of each list belongs to signature `i`.
    pub(super) keys: Vec<[u8; 32]>,
    pub(super) messages: Vec<[u8; MESSAGE_BYTES]>,
    pub(super) signatures: Vec<[u8; 64]>,
    /// Where the keys are known beforehand: what dalek decoded from them.
    pub(super) decoded: Option<Vec<VerifyingKey>>,
}

impl Inputs {
    /// Signs a pool of messages; a multiple of `items_per_call` in number.
    pub(super) fn new(seed: u64, keys: Keys, count: usize, items_per_call: usize) -> Self {
        assert!(count.is_multiple_of(items_per_call), "every call is full");
        let mut random = Random::new(seed);
        let signers: usize = match keys {
            Keys::Distinct => count,
            Keys::Few => KEYS_FEW,
        };
        let signers: Vec<SigningKey> =
            (0..signers).map(|_| SigningKey::from_bytes(&random.next())).collect();
        let mut inputs = Self {
            items_per_call,
            keys: Vec::new(),
            messages: Vec::new(),
            signatures: Vec::new(),
            decoded: None,
        };
        for signer in signers.iter().cycle().take(count) {
            let message = message(&random.next());
            inputs.keys.push(signer.verifying_key().to_bytes());
            inputs.messages.push(message);
            inputs.signatures.push(signer.sign(&message).to_bytes());
        }
        inputs.decoded = match keys {
            Keys::Distinct => None,
            Keys::Few => Some(inputs.decode()),
        };
        inputs
    }

    /// The number of signatures.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// The same, with one message changed after it was signed.
    pub(super) fn with_forgery(&self, place: usize) -> Self {
        let mut inputs = self.clone();
        inputs.messages[place][MESSAGE_BYTES - 1] ^= 1;
        inputs
    }

    /// The signer's part of one message: what commonware is given beside the name space.
    #[cfg(feature = "rivals")]
    pub(super) fn payload(&self, place: usize) -> &[u8] {
        &self.messages[place][1 + NAMESPACE.len()..]
    }

    fn decode(&self) -> Vec<VerifyingKey> {
        let mut known = BTreeMap::new();
        let decode = |key: &[u8; 32]| VerifyingKey::from_bytes(key).expect("made from a signer");
        self.keys.iter().map(|key| *known.entry(*key).or_insert_with(|| decode(key))).collect()
    }
}

fn message(payload: &[u8; 32]) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    message[0] = u8::try_from(NAMESPACE.len()).expect("asserted above");
    message[1..=NAMESPACE.len()].copy_from_slice(NAMESPACE);
    message[1 + NAMESPACE.len()..].copy_from_slice(payload);
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

    #[test]
    fn the_seed_decides_every_byte() {
        let inputs = |seed| Inputs::new(seed, Keys::Distinct, 8, 4);
        assert_eq!(inputs(1).signatures, inputs(1).signatures);
        assert_ne!(inputs(1).keys, inputs(2).keys);
        assert_ne!(inputs(1).messages, inputs(2).messages);
    }

    #[test]
    fn keys_are_as_many_as_promised() {
        let count = |keys| Inputs::new(7, keys, 128, 8).keys.iter().collect::<BTreeSet<_>>().len();
        assert_eq!(count(Keys::Distinct), 128);
        assert_eq!(count(Keys::Few), 64);
        let few = Inputs::new(7, Keys::Few, 128, 8);
        let decoded = few.decoded.as_ref().unwrap();
        assert!(decoded.iter().zip(&few.keys).all(|(key, bytes)| key.as_bytes() == bytes));
        assert!(Inputs::new(7, Keys::Distinct, 8, 8).decoded.is_none());
    }

    #[test]
    fn a_forgery_changes_one_message_only() {
        let inputs = Inputs::new(1, Keys::Few, 8, 4);
        let forged = inputs.with_forgery(5);
        for place in 0..8 {
            assert_eq!(inputs.messages[place] == forged.messages[place], place != 5);
        }
        assert_eq!(inputs.signatures, forged.signatures);
    }
}
