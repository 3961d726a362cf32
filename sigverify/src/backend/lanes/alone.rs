//! Eight signatures, each judged by its own equation: R' = S·B − k·A, then R' = R or 8·(R' − R) = 0.
//!
//! Straus's method: the doublings are shared by the two products of a lane. The key's multiples are
//! made on the spot, five bits a digit; the base point's are the process's, ten bits a digit.

use super::base;
use super::digits::Digits;
use super::point::{Affine, AffineRow, Cached, Extended, Row};
use super::scalar::Scalars;
use super::vector::Mask;

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

vector! {
    /// The lanes whose equation holds.
    pub(super) fn hold(equations: &Equations<'_>) -> Mask {
        agree(&recompute(equations), equations.commitments)
    }
}

vector! {
    /// The lanes where what was recomputed is R, or differs from it by a point of small order only.
    pub(super) fn agree(found: &Extended, commitments: [&AffineRow; 8]) -> Mask {
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
}

vector! {
    /// `S·B − k·A`.
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
            let (magnitudes, negative) = challenges.split_digit(DIGITS, index);
            let rows = std::array::from_fn(|lane| &multiples[magnitudes[lane]][lane]);
            // Minus k·A: what is positive is subtracted.
            let term = Cached::from_rows(rows).negate_lanes(!negative);
            sum = sum.add(&term).extended();
            if index % 2 == 0 {
                let (magnitudes, negative) = responses.split_digit(base::DIGITS, index / 2);
                let rows = magnitudes.map(|magnitude| &bases[magnitude]);
                let term = Affine::from_rows(rows).negate_lanes(negative);
                sum = sum.add_affine(&term).extended();
            }
        }
        sum
    }
}

vector! {
    /// `0·A` to `16·A`, each lane's in its own row.
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
}
