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

    /// Draws an index below `count`, nearly uniform, which is all that a starting place needs.
    pub(crate) fn draw_index(&mut self, count: usize) -> usize {
        assert!(count > 0, "an index below zero does not exist");
        let count_wide = u64::try_from(count).expect("a usize has at most 64 bits");
        let index = self.0.next_u64() % count_wide;
        usize::try_from(index).expect("it is below a usize")
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
    fn an_index_stays_below_its_count_and_reaches_every_value() {
        let secret = secret(3);
        let mut coefficients = secret.coefficients();
        for count in 1..20 {
            let seen: HashSet<_> = (0..1_000).map(|_| coefficients.draw_index(count)).collect();
            assert_eq!(seen, (0..count).collect());
        }
    }

    #[test]
    fn a_missing_seed_is_an_error() {
        let error = Secret::new(|_| Err(getrandom::Error::UNSUPPORTED)).err().unwrap();
        assert!(matches!(crate::Error::from(error), crate::Error::Seed(_)));
    }
}
