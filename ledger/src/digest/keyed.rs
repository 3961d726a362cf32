//! A secretly keyed hash for tables of 32-byte keys that strangers choose.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Words of a key.
const WORDS: usize = 4;

/// Makes hashers for tables of digests and public keys; each value has a secret of its own.
///
/// Multilinear hashing: the upper half of `m[0] + Σ m[i + 1] · word[i]` modulo 2^128, with random `m`. It is
/// strongly universal: of any two keys that were chosen without the secret, the hashes are as two random
/// numbers, so that nobody can aim at one place of a table. It takes two multiplications a word, a sixth of
/// the standard library's hash. Source: D. Lemire and O. Kaser, "Strongly universal string hashing is fast",
/// 2014, section 3.
///
/// A table's order differs from run to run: nothing that is hashed, signed or sent may depend on it.
#[derive(Clone, Debug)]
pub struct Keyed([u128; WORDS + 1]);

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        Self::from_words(|number| random.hash_one(number))
    }
}

impl Keyed {
    fn from_words(word: impl Fn(u64) -> u64) -> Self {
        let wide = |number| u128::from(word(number)) << 64 | u128::from(word(!number));
        Self([0, 1, 2, 3, 4].map(wide))
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        let [sum, multipliers @ ..] = self.0;
        KeyedHasher { sum, multipliers, used: 0 }
    }
}

/// The hash of one key.
#[derive(Clone, Debug)]
pub struct KeyedHasher {
    sum: u128,
    multipliers: [u128; WORDS],
    used: usize,
}

impl Hasher for KeyedHasher {
    /// Panics: when there are more than 32 bytes in all, or not whole words.
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty() && self.used + words.len() <= WORDS, "keys have 32 bytes");
        for (word, multiplier) in words.iter().zip(&self.multipliers[self.used..]) {
            let product = multiplier.wrapping_mul(u128::from(u64::from_le_bytes(*word)));
            self.sum = self.sum.wrapping_add(product);
        }
        self.used += words.len();
    }

    /// The length of an array comes before its bytes, and is the same for all keys.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        u64::try_from(self.sum >> 64).expect("the upper half")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digest, PublicKey};
    use std::collections::HashSet;

    #[test]
    fn equal_keys_hash_alike_and_others_differ() {
        let (keyed, other) = (Keyed::default(), Keyed::default());
        let mut hashes = HashSet::new();
        for byte in 0..32 {
            for bit in 0..8 {
                let mut key = [0; 32];
                key[byte] = 1 << bit;
                let hash = keyed.hash_one(Digest(key));
                assert_eq!(hash, keyed.hash_one(PublicKey(key)));
                assert_ne!(hash, other.hash_one(Digest(key)), "each table has its own secret");
                assert!(hashes.insert(hash), "byte {byte}, bit {bit}");
            }
        }
        assert!(hashes.insert(keyed.hash_one(Digest([0; 32]))));
    }

    #[test]
    fn keys_that_differ_in_one_word_spread_over_all_places() {
        // A table takes the lower bits for the place and the upper seven as its tag.
        for word in 0..WORDS {
            // Any odd constants far from a fraction of few parts would do.
            let keyed =
                Keyed::from_words(|number| (number ^ 0x5851).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (mut places, mut tags) = ([0_u32; 256], [0_u32; 128]);
            for number in 0..25_600_u64 {
                let mut key = [7; 32];
                key[8 * word..8 * word + 8].copy_from_slice(&number.to_le_bytes());
                let hash = keyed.hash_one(Digest(key));
                places[usize::try_from(hash % 256).unwrap()] += 1;
                tags[usize::try_from(hash >> 57).unwrap()] += 1;
            }
            // Words that count up are spread evenly, or as random ones are.
            let (most, most_tags) = (places.iter().max().unwrap(), tags.iter().max().unwrap());
            assert!(*most < 400 && *most_tags < 600, "word {word}: {most}, {most_tags}");
        }
    }

    #[test]
    #[should_panic(expected = "keys have 32 bytes")]
    fn a_longer_key_is_a_mistake() {
        Keyed::default().hash_one([0_u64; 5].map(u64::to_le_bytes).concat());
    }
}
