//! Random bytes from a seed, so that a run is decided by it; and Noise's primitives with them.

use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, Key, KeyInit as _, Nonce};
use snow::{
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

/// The bytes that one key yields before it is replaced.
const CHUNK_SIZE: usize = 64;

/// A generator whose past nobody can compute from its present.
///
/// Each key yields one stretch of ChaCha20 keystream: the next key, then output.
/// Source: Bernstein, "Fast-key-erasure random-number generators", 2017.
pub(super) struct Generator(Zeroizing<[u8; 32]>);

impl Generator {
    /// Starts from 32 random bytes that nobody else knows.
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// Fills a slice.
    pub(super) fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(CHUNK_SIZE) {
            let mut stream = Zeroizing::new([0; 32 + CHUNK_SIZE]);
            let cipher = ChaCha20Poly1305::new(&Key::from(*self.0));
            // What encrypts zeros is the keystream; the tag over it is of no use here.
            let _tag = cipher
                .encrypt_inout_detached(&Nonce::default(), &[], stream.as_mut_slice().into())
                .expect("100 bytes are no long message");
            self.0.copy_from_slice(&stream[..32]);
            chunk.copy_from_slice(&stream[32..32 + chunk.len()]);
        }
    }

    /// Draws an array.
    pub(super) fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// Draws a number.
    pub(super) fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.draw())
    }
}

impl Random for Generator {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        self.fill(out);
        Ok(())
    }
}

/// Gives Noise its primitives, and as randomness a generator of this seed.
pub(super) struct Seeded(pub(super) Zeroizing<[u8; 32]>);

impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Generator::new(*self.0)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stretch_is_the_keystream_of_the_seed() {
        // The text of an AEAD starts at block 1: RFC 8439, appendix A.1, test vector 2.
        let mut generator = Generator::new([0; 32]);
        assert_eq!(generator.draw(), [0x29, 0xb7, 0x21, 0x76, 0x9c, 0xe6, 0x4e, 0x43]);
        assert_eq!(generator.0[..8], [0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a]);
    }

    #[test]
    fn a_seed_decides_everything_and_no_stretch_comes_twice() {
        let (mut one, mut two) = (Generator::new([7; 32]), Generator::new([7; 32]));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            let word = one.word();
            assert_eq!(word, two.word());
            assert!(seen.insert(word));
        }
        assert_ne!(Generator::new([8; 32]).word(), Generator::new([7; 32]).word());
        assert_ne!(Generator::new([7; 32]).draw::<200>()[136..], [0; 64]);
    }
}
