//! The reference backend: curve25519-dalek's multiscalar multiplication, on any CPU.

use std::ops::Range;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};

use crate::batch::{Price, Prices};
use crate::coefficients::Coefficients;
use crate::keys::{Distinct, KeyHash, Keys};
use crate::rule::{Claim, challenge_digest, decode_point};
use crate::{Item, Verdict};

/// The token. It needs no CPU feature: dalek looks for AVX2 by itself and has its own plain twin.
#[derive(Clone, Copy)]
pub(crate) struct Backend(());

/// A chunk's admitted items: their claims, and each distinct key once.
pub(crate) struct Decoded {
    claims: Vec<KeyedClaim>,
    keys: Vec<Key>,
}

/// A claim and the index of its key in [`Decoded::keys`].
struct KeyedClaim {
    claim: Claim,
    key_index: usize,
}

/// A distinct key of the chunk.
#[derive(Default)]
struct Key {
    hash: KeyHash,
    bytes: [u8; 32],
    point: EdwardsPoint,
    /// Whether it came from the cache, so that it need not be put there.
    cached: bool,
}

impl Backend {
    /// Makes the token; nothing can be missing.
    pub(crate) fn detect() -> Self {
        Self(())
    }
}

impl super::Backend for Backend {
    type Decoded = Decoded;
    type Cache = Keys<EdwardsPoint>;

    // Of one Zen 4 core, once decoded.
    const PRICES: Prices = Prices {
        alone: 34_000,
        together: &[
            Price { items: 4, each: 21_000 },
            Price { items: 16, each: 14_000 },
            Price { items: 64, each: 12_500 },
            Price { items: 1_024, each: 8_000 },
        ],
    };

    const ORACLE_ITEMS_MAX: usize = 0;

    fn new_cache(self) -> Self::Cache {
        Keys::new()
    }

    fn challenges(self, items: &[Item<'_>]) -> Vec<[u8; 64]> {
        items.iter().map(challenge_digest).collect()
    }

    fn decode(
        self,
        items: &[Item<'_>],
        cache: &Keys<EdwardsPoint>,
        admitted: &mut Vec<usize>,
    ) -> Decoded {
        assert!(admitted.is_empty());
        let mut distinct = Distinct::new(items.len());
        let mut places = Vec::with_capacity(items.len());
        places.extend(items.iter().map(|item| distinct.place(cache.hash(item.key), item.key)));
        // A key that is not allowed is refused only once.
        let find = |(hash, bytes): &(KeyHash, &[u8; 32])| Key::find(*hash, bytes, cache);
        let found: Vec<Option<Key>> = distinct.keys.iter().map(find).collect();
        let mut claims = Vec::with_capacity(items.len());
        for ((index, item), place) in items.iter().enumerate().zip(places) {
            if found[place].is_none() {
                continue;
            }
            let Some(claim) = Claim::decode(item) else { continue };
            claims.push(KeyedClaim { claim, key_index: place });
            admitted.push(index);
        }
        // One that is not allowed has no claims; its place stays.
        let keys = found.into_iter().map(Option::unwrap_or_default).collect();
        Decoded { claims, keys }
    }

    /// Checks 8·(Σ z·R + Σ (Σ z·k)·A − (Σ z·S)·B) = 0, the inner sum over all claims of one key.
    ///
    /// Bounds: each scalar is reduced modulo L; see the crate's rule for why that is harmless
    /// before times 8.
    fn hold_together(
        self,
        decoded: &Decoded,
        range: Range<usize>,
        coefficients: &mut Coefficients,
    ) -> bool {
        let claims = &decoded.claims[range];
        let points_max = 1 + claims.len() + claims.len().min(decoded.keys.len());
        let mut scalars = Vec::with_capacity(points_max);
        let mut points = Vec::with_capacity(points_max);
        let mut key_scalars = vec![Scalar::ZERO; decoded.keys.len()];
        let mut base_scalar = Scalar::ZERO;
        for KeyedClaim { claim, key_index } in claims {
            let coefficient = coefficients.draw();
            base_scalar += coefficient * claim.response;
            key_scalars[*key_index] += coefficient * claim.challenge;
            scalars.push(coefficient);
            points.push(&claim.commitment);
        }
        scalars.push(-base_scalar);
        points.push(&ED25519_BASEPOINT_POINT);
        for (scalar, key) in key_scalars.iter().zip(&decoded.keys) {
            // A zero multiple adds nothing: this leaves out the keys that have no claim in the
            // range.
            if *scalar != Scalar::ZERO {
                scalars.push(*scalar);
                points.push(&key.point);
            }
        }
        let sum = EdwardsPoint::vartime_multiscalar_mul(&scalars, points);
        sum.mul_by_cofactor().is_identity()
    }

    fn hold_alone(
        self,
        decoded: &Decoded,
        range: Range<usize>,
        _cache: &Keys<EdwardsPoint>,
        verdicts: &mut [Verdict],
    ) {
        assert_eq!(range.len(), verdicts.len());
        for (KeyedClaim { claim, key_index }, verdict) in decoded.claims[range].iter().zip(verdicts)
        {
            *verdict = Verdict::of(claim.holds_for(&decoded.keys[*key_index].point));
        }
    }

    fn remember(self, decoded: &Decoded, verdicts: &[Verdict], cache: &Keys<EdwardsPoint>) {
        assert_eq!(decoded.claims.len(), verdicts.len());
        let mut valid = vec![false; decoded.keys.len()];
        for (claim, verdict) in decoded.claims.iter().zip(verdicts) {
            valid[claim.key_index] |= verdict.is_valid();
        }
        for (key, valid) in decoded.keys.iter().zip(valid) {
            if valid && !key.cached {
                cache.see(key.hash, &key.bytes, &key.point);
            }
        }
    }
}

impl Key {
    /// Takes a key from the cache or decodes it; `None` when it is not allowed.
    fn find(hash: KeyHash, bytes: &[u8; 32], cache: &Keys<EdwardsPoint>) -> Option<Self> {
        let found = cache.get(hash, bytes);
        let cached = found.is_some();
        let point = found.or_else(|| decode_point(bytes))?;
        Some(Self { hash, bytes: *bytes, point, cached })
    }
}
