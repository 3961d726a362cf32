//! Eight signatures, each judged by its own equation: R' = S·B − k·A, then R' = R or 8·(R' − R) = 0.
//!
//! Straus's method: the doublings are shared by the two products of a lane. The key's multiples are
//! made on the spot, five bits a digit; the base point's are the process's, ten bits a digit.

use std::arch::x86_64::{__mmask8, _mm512_abs_epi64, _mm512_cmplt_epu64_mask, _mm512_sub_epi64};

use super::base;
use super::lanes::{Lanes, splat, store};
use super::point::{Affine, AffineRow, Cached, Extended, Row};
use super::scalar::{Digits, Scalars};

/// Digits of k.
const DIGITS: Digits = Digits::of_scalars(5);
/// A digit of S stands over two of k.
const _: () = assert!(base::DIGITS.width == 2 * DIGITS.width);

/// What the equation of eight items takes.
pub(super) struct Equations<'a> {
    /// The keys A.
    pub(super) keys: [&'a AffineRow; 8],
    /// The points R.
    pub(super) commitments: [&'a AffineRow; 8],
    /// The challenges k, below 2^254.
    pub(super) challenges: Scalars,
    /// The responses S, below L.
    pub(super) responses: Scalars,
}

/// The lanes whose equation holds.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(super) fn hold(equations: &Equations<'_>) -> __mmask8 {
    agree(&recompute(equations), equations.commitments)
}

/// The lanes where what was recomputed is R, or differs from it by a point of small order only.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(super) fn agree(found: &Extended, commitments: [&AffineRow; 8]) -> __mmask8 {
    let expected = Affine::from_rows(commitments);
    let equal = found.equals(&expected);
    if equal == u8::MAX {
        return equal;
    }
    let negated = expected.negate_lanes(u8::MAX);
    let mut difference = found.add_affine(&negated).projective();
    for _ in 0..3 {
        difference = difference.double().projective();
    }
    equal | difference.is_identity()
}

/// `S·B − k·A`.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn recompute(equations: &Equations<'_>) -> Extended {
    let multiples = key_multiples(equations.keys);
    let bases = base::multiples();
    let challenges = equations.challenges.plus(const { DIGITS.constant() });
    let responses = equations.responses.plus(const { base::DIGITS.constant() });
    let mut sum = Extended::identity();
    for index in (0..DIGITS.count).rev() {
        if index + 1 < DIGITS.count {
            sum = sum.double_times(DIGITS.width);
        }
        let digit = DIGITS.unsigned(&challenges, index);
        let (magnitudes, negative) = signed(digit, DIGITS);
        let rows = std::array::from_fn(|lane| &multiples[magnitudes[lane]][lane]);
        // Minus k·A: what is positive is subtracted.
        let term = Cached::from_rows(rows).negate_lanes(!negative);
        sum = sum.add(&term).extended();
        if index % 2 == 0 {
            let digit = base::DIGITS.unsigned(&responses, index / 2);
            let (magnitudes, negative) = signed(digit, base::DIGITS);
            let rows = magnitudes.map(|magnitude| &bases[magnitude]);
            let term = Affine::from_rows(rows).negate_lanes(negative);
            sum = sum.add_affine(&term).extended();
        }
    }
    sum
}

/// `0·A` to `16·A`, each lane's in its own row.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn key_multiples(keys: [&AffineRow; 8]) -> [[Row; 8]; DIGITS.half() + 1] {
    let key = Affine::from_rows(keys);
    let mut multiples = [Cached::identity().to_rows(); DIGITS.half() + 1];
    let mut point = key.extended();
    multiples[1] = point.cached().to_rows();
    for multiple in &mut multiples[2..] {
        point = point.add_affine(&key).extended();
        *multiple = point.cached().to_rows();
    }
    multiples
}

/// The magnitudes of unsigned digits made signed, and the lanes where they are negative.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(super) fn signed(unsigned: Lanes, digits: Digits) -> ([usize; 8], __mmask8) {
    let half = splat(digits.half() as u64);
    let negative = _mm512_cmplt_epu64_mask(unsigned, half);
    let magnitudes = store(_mm512_abs_epi64(_mm512_sub_epi64(unsigned, half)));
    let magnitude = |word: u64| usize::try_from(word).expect("a digit is small");
    (magnitudes.map(magnitude), negative)
}
