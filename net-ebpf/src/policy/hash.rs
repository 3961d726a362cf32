//! SipHash-2-4 over whole words: cookies and tokens, which a stranger cannot guess.

/// A secret key; who does not know it can tell the hash of nothing.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    low: u64,
    high: u64,
}

impl Key {
    /// Reads a key from 16 secret bytes.
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        let seed = u128::from_le_bytes(seed);
        let low = u64::try_from(seed & u128::from(u64::MAX)).expect("masked to 64 bits");
        let high = u64::try_from(seed >> 64).expect("shifted to 64 bits");
        Self { low, high }
    }

    /// Takes a key of two words.
    pub(crate) fn from_words([low, high]: [u64; 2]) -> Self {
        Self { low, high }
    }

    /// Hashes up to 31 words, each of which stands for 8 little-endian bytes.
    ///
    /// Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", section 2.
    pub(crate) fn hash<const N: usize>(self, words: [u64; N]) -> u64 {
        const { assert!(N < 32, "the length has one byte") };
        let mut state = [
            self.low ^ 0x736f_6d65_7073_6575,
            self.high ^ 0x646f_7261_6e64_6f6d,
            self.low ^ 0x6c79_6765_6e65_7261,
            self.high ^ 0x7465_6462_7974_6573,
        ];
        // The last word carries the input's length in its top byte.
        for word in words.into_iter().chain([(N as u64 * 8) << 56]) {
            state[3] ^= word;
            round(&mut state);
            round(&mut state);
            state[0] ^= word;
        }
        state[2] ^= 0xff;
        for _ in 0..4 {
            round(&mut state);
        }
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

/// One SipRound.
fn round(state: &mut [u64; 4]) {
    let [a, b, c, d] = state;
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::Hasher as _;

    #[test]
    fn the_reference_vector_for_sixteen_bytes() {
        // From the table that the authors publish with their C code: key 00..0f, input 00..0f.
        let key = Key::new(std::array::from_fn(|index| index.to_le_bytes()[0]));
        let words = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(key.hash(words), 0x3f2a_cc7f_57c2_9bdb);
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(low: u64, high: u64, words: [u64; 2]) {
            #[expect(deprecated, reason = "the only SipHash-2-4 with a settable key in std")]
            let mut hasher = std::hash::SipHasher::new_with_keys(low, high);
            hasher.write(&words[0].to_le_bytes());
            hasher.write(&words[1].to_le_bytes());
            let mut seed = [0; 16];
            seed[..8].copy_from_slice(&low.to_le_bytes());
            seed[8..].copy_from_slice(&high.to_le_bytes());
            prop_assert_eq!(Key::new(seed).hash(words), hasher.finish());
        }
    }
}
