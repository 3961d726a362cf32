//! The rule as one scalar oracle: byte checks, decoding and the equation, each written once.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use sha2::{Digest, Sha512};

use crate::{Item, Verdict};

/// The field prime p = 2^255 − 19 as four little-endian words.
const PRIME: [u64; 4] =
    [0xffff_ffff_ffff_ffed, 0xffff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_ffff];

/// The group order L = 2^252 + 27742317777372353535851937790883648493 as four little-endian words.
const ORDER: [u64; 4] =
    [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0x0000_0000_0000_0000, 0x1000_0000_0000_0000];

/// The y-coordinates of the eight points of small order, as four little-endian words each.
///
/// Orders: 4 (both points with y = 0), 1, 2, then 8 (two points for each of the last two). A sign
/// bit is ignored when looking here, so this also refuses the encodings of y = 1 and y = −1 with a
/// sign bit on x = 0, the only non-canonical encodings with y < p.
///
/// Source: the torsion subgroup of edwards25519, multiples of a point of order 8; compared with
/// curve25519-dalek's table in the tests.
const SMALL_ORDER_Y: [[u64; 4]; 5] = [
    [0, 0, 0, 0],
    [1, 0, 0, 0],
    [0xffff_ffff_ffff_ffec, 0xffff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_ffff],
    [0xb027_b2c2_8f95_e826, 0xf098_eff2_89f4_c345, 0x3933_c6d3_05ac_dfd5, 0x05fc_536d_8802_38b1],
    [0x4fd8_4d3d_706a_17c7, 0x0f67_100d_760b_3cba, 0xc6cc_392c_fa53_202a, 0x7a03_ac92_77fd_c74e],
];

/// A signature whose encodings are allowed, decoded, with its challenge: what the equation needs
/// beside the key.
pub(crate) struct Claim {
    /// The point R, canonical and not of small order.
    pub(crate) commitment: EdwardsPoint,
    /// The scalar S, below L.
    pub(crate) response: Scalar,
    /// The challenge k = SHA-512(R ‖ A ‖ M) modulo L.
    pub(crate) challenge: Scalar,
}

/// Checks one item by itself: the oracle that every backend is compared with.
///
/// Errors: none; a bad signature is a verdict.
/// Source: RFC 8032, section 5.1.7, with the cofactor; canonical and large-order encodings only.
pub fn verify_one(item: &Item<'_>) -> Verdict {
    let Some(key) = decode_point(item.key) else {
        return Verdict::Invalid;
    };
    let Some(claim) = Claim::decode(item) else {
        return Verdict::Invalid;
    };
    Verdict::of(claim.holds_for(&key))
}

/// Says whether a public key is fit for a validator: canonical, not of small order, and free of
/// torsion.
///
/// A key that carries a small-order component may sign under this crate's rule, but other rules
/// judge its signatures differently; a member of a validator set must be beyond such doubts.
pub fn key_is_sound(key: &[u8; 32]) -> bool {
    decode_point(key).is_some_and(|point| point.is_torsion_free())
}

impl Claim {
    /// Decodes S and R and hashes the challenge; `None` when S or R is not allowed. The key's bytes
    /// are only hashed.
    pub(crate) fn decode(item: &Item<'_>) -> Option<Self> {
        let (commitment_bytes, response_bytes) = split(item.signature);
        let response = Option::from(Scalar::from_canonical_bytes(*response_bytes))?;
        let commitment = decode_point(commitment_bytes)?;
        let challenge = Scalar::from_bytes_mod_order_wide(&challenge_digest(item));
        Some(Self { commitment, response, challenge })
    }

    /// Says whether the equation of the rule holds for the key A: 8·(S·B − k·A − R) is the
    /// identity.
    pub(crate) fn holds_for(&self, key: &EdwardsPoint) -> bool {
        let difference = EdwardsPoint::vartime_double_scalar_mul_basepoint(
            &self.challenge,
            &-key,
            &self.response,
        ) - self.commitment;
        // Last of all, so that whatever the reduction of k did to a small-order part of A
        // disappears here.
        difference.mul_by_cofactor().is_identity()
    }
}

/// Computes SHA-512(R ‖ A ‖ M), which modulo L is the challenge k.
pub(crate) fn challenge_digest(item: &Item<'_>) -> [u8; 64] {
    let (commitment, _) = split(item.signature);
    let hash = Sha512::new().chain_update(commitment).chain_update(item.key);
    hash.chain_update(item.message).finalize().into()
}

/// Decodes a public key or an R; `None` unless it is canonical, on the curve and not of small
/// order.
pub(crate) fn decode_point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    if !encoding_is_allowed(bytes) {
        return None;
    }
    CompressedEdwardsY(*bytes).decompress()
}

/// Checks an encoding without arithmetic: y < p, and y is none of the small-order ones.
///
/// What passes and decompresses is canonical: with y < p the only other freedom is a sign bit on x
/// = 0, which needs y² = 1, and both such y are in the table.
pub(crate) fn encoding_is_allowed(bytes: &[u8; 32]) -> bool {
    let mut y = words(bytes);
    y[3] &= u64::MAX >> 1;
    // The two middle words of p are all ones and the top word of y cannot exceed that of p, so y <
    // p says that any one word is the smaller.
    let below_prime = y[3] < PRIME[3] || y[2] < PRIME[2] || y[1] < PRIME[1] || y[0] < PRIME[0];
    below_prime && !SMALL_ORDER_Y.contains(&y)
}

/// Says whether S is below the group order L.
pub(crate) fn response_is_allowed(bytes: &[u8; 32]) -> bool {
    let response = words(bytes);
    // The first word from the top that differs decides.
    for (word, limit) in response.iter().zip(&ORDER).rev() {
        if word != limit {
            return word < limit;
        }
    }
    false
}

/// A number as four words, the lowest first.
fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let (chunks, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty());
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

/// Splits a signature into R and S.
pub(crate) fn split(signature: &[u8; 64]) -> (&[u8; 32], &[u8; 32]) {
    let (halves, rest) = signature.as_chunks::<32>();
    assert!(rest.is_empty());
    (&halves[0], &halves[1])
}

#[cfg(test)]
mod tests;
