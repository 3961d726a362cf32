//! Secret random coefficients of bulk checks, from one operating-system seed per verifier.

use std::sync::atomic::{AtomicU64, Ordering};

use chacha20::ChaCha20Rng;
use curve25519_dalek::scalar::Scalar;
use rand_core::{Rng, SeedableRng};

/// The secret of one verifier: a ChaCha20 key, and which of its 2^64 streams comes next.
///
/// The seed is drawn once, at start, so that a check can neither fail nor wait for the operating
/// system. No output ever leaves the crate: callers see verdicts, and those do not depend on it.
pub(crate) struct Secret {
    seed: [u8; 32],
    stream_next: AtomicU64,
}

/// The coefficients of one chunk: a stream that no other chunk of this verifier uses.
pub(crate) struct Coefficients(ChaCha20Rng);

impl Secret {
    /// Takes a seed from `fill`, which is the operating system's generator outside tests.
    ///
    /// Errors: those of `fill`.
    pub(crate) fn new(
        fill: impl FnOnce(&mut [u8]) -> Result<(), getrandom::Error>,
    ) -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        fill(&mut seed)?;
        Ok(Self { seed, stream_next: AtomicU64::new(0) })
    }

    /// Opens the next stream. To be called after the chunk's items were decoded and hashed, never
    /// before.
    pub(crate) fn coefficients(&self) -> Coefficients {
        // Relaxed: the number orders nothing, it only has to differ from every other.
        let stream = self.stream_next.fetch_add(1, Ordering::Relaxed);
        let mut generator = ChaCha20Rng::from_seed(self.seed);
        generator.set_stream(stream);
        Coefficients(generator)
    }
}

impl Coefficients {
    /// Draws 128 uniform bits as a scalar.
    ///
    /// Bounds: below 2^128, hence below L; a wrong item then passes with probability 2^-128,
    /// because times 8 every point lies in the group of prime order L > 2^128, where at most one
    /// coefficient of a term cancels the others.
    pub(crate) fn draw(&mut self) -> Scalar {
        let high = u128::from(self.0.next_u64()) << 64;
        Scalar::from(high | u128::from(self.0.next_u64()))
    }

    /// Draws 128 uniform bits, the lower word first.
    pub(crate) fn draw_words(&mut self) -> [u64; 2] {
        [self.0.next_u64(), self.0.next_u64()]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret::new(|seed| {
            seed.fill(byte);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn no_two_coefficients_are_equal_and_all_have_128_bits() {
        let mut seen = HashSet::new();
        for secret in [secret(1), secret(2)] {
            for _ in 0..8 {
                let mut coefficients = secret.coefficients();
                for _ in 0..64 {
                    let bytes = coefficients.draw().to_bytes();
                    assert_eq!(bytes[16..], [0; 16], "a coefficient is below 2^128");
                    assert!(seen.insert(bytes), "a coefficient came twice");
                }
            }
        }
        // Of 1,024 numbers some use the highest and some the lowest bit.
        assert!(seen.iter().any(|bytes| bytes[15] >> 7 == 1));
        assert!(seen.iter().any(|bytes| bytes[0] & 1 == 1));
        assert!(seen.iter().any(|bytes| bytes[0] & 1 == 0));
    }

    #[test]
    fn a_missing_seed_is_an_error() {
        let error = Secret::new(|_| Err(getrandom::Error::UNSUPPORTED)).err().unwrap();
        assert!(matches!(crate::Error::from(error), crate::Error::Seed(_)));
    }
}
