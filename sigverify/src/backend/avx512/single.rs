//! One signature: the four coordinates of a point side by side, two points in a register.
//!
//! A group of eight with seven idle lanes would take as long as eight signatures. Here −k·A runs in
//! the lower half of the register and S·B in the upper one, by the same instructions: each half has
//! X, Y, Z, T in its four lanes, and the four multiplications of a formula are one.
//!
//! Source: the lanes' order follows Hisil, Wong, Carter, Dawson, "Twisted Edwards Curves Revisited",
//! 2008, section 4, which gives the formulas for four processors.

use std::arch::x86_64::{
    _mm512_add_epi64, _mm512_mask_add_epi64, _mm512_mask_mov_epi64, _mm512_mask_sub_epi64,
    _mm512_maskz_permutex_epi64, _mm512_permutex_epi64, _mm512_setr_epi64, _mm512_shuffle_i64x2,
};

use super::base;
use super::digits::Digits;
use super::field::{Element, LARGE_P, Wide, carry, mul, negate, select};
use super::point::{AffineRow, Row, TWICE_D};
use super::scalar::Scalars;
use super::vector::{Mask, splat, store};

/// Digits of both scalars.
const DIGITS: Digits = Digits::of_scalars(5);

/// Two points: X, Y, Z, T in lanes 0 to 3 and in lanes 4 to 7, carried.
#[derive(Clone, Copy)]
struct Points(Element);

/// Two points as doubling takes them: X, Y, Z, X in either half, carried.
#[derive(Clone, Copy)]
struct Doubling(Element);

/// The four factors of two results: G, H, F, E in either half, carried.
struct Factors(Wide);

/// Two points to be added: Y − X, Y + X, 2Z, 2dT in either half, carried.
#[derive(Clone, Copy)]
struct Terms(Element);

/// The lanes of the lower half, of the upper one, and of one place in both.
const LOWER: Mask = 0x0f;
const UPPER: Mask = 0xf0;
const LANE_0: Mask = 0x11;
const LANE_1: Mask = 0x22;
const LANE_2: Mask = 0x44;
const LANE_3: Mask = 0x88;

/// Within each half, lane `n` takes the lane that digit `n` names, the first digit lowest.
const fn order(lanes: [i32; 4]) -> i32 {
    lanes[0] | lanes[1] << 2 | lanes[2] << 4 | lanes[3] << 6
}

vector! {
    /// `S·B − k·A` in the coordinates of a [`Row`].
    ///
    /// Shape: k in lane 0 and S in lane 1 of the scalars, both below 2^253 + 2^250.
    pub(super) fn recompute(key: &AffineRow, scalars: &Scalars) -> Row {
        let multiples = multiples(Terms::of_rows(key, &base::multiples()[1]));
        let sums = scalars.plus(const { DIGITS.constant() });
        let term = |index: usize| {
            let [challenge, response, ..] = store(sums.unsigned_digit(DIGITS, index));
            let (challenge, challenge_negative) = signed(challenge);
            let (response, response_negative) = signed(response);
            let lower = &multiples[challenge].0;
            let upper = &multiples[response].0;
            // Minus k·A: what is positive is subtracted.
            let negative =
                if challenge_negative { 0 } else { LOWER } | if response_negative { UPPER } else { 0 };
            Terms(select(UPPER, lower, upper)).negate_lanes(negative)
        };
        let mut factors = Points::identity().add(&term(DIGITS.count - 1));
        for index in (0..DIGITS.count - 1).rev() {
            for _ in 0..DIGITS.width {
                factors = factors.doubling().double();
            }
            factors = factors.points().add(&term(index));
        }
        factors.points().halves_added()
    }
}

/// The magnitude of an unsigned digit made signed, and whether it is negative.
fn signed(digit: u64) -> (usize, bool) {
    let digit = usize::try_from(digit).expect("a digit is small");
    (digit.abs_diff(DIGITS.half()), digit < DIGITS.half())
}

vector! {
    /// None to sixteen times both points.
    fn multiples(once: Terms) -> [Terms; DIGITS.half() + 1] {
        let mut points = Points::identity();
        let mut multiples = [points.terms(); DIGITS.half() + 1];
        for multiple in &mut multiples[1..] {
            points = points.add(&once).points();
            *multiple = points.terms();
        }
        multiples
    }
}

vector! {
    /// Lanes of every limb in another order within each half.
    fn permute<const ORDER: i32>(limbs: &Wide) -> Wide {
        Wide(limbs.0.map(|limb| _mm512_permutex_epi64::<ORDER>(limb)))
    }
}

vector! {
    /// Lanes of every limb in another order within each half, zero outside the mask.
    fn permute_some<const ORDER: i32>(mask: Mask, limbs: &Wide) -> Wide {
        Wide(limbs.0.map(|limb| _mm512_maskz_permutex_epi64::<ORDER>(mask, limb)))
    }
}

vector! {
    /// Negated in the lanes of the mask.
    fn negate_some(mask: Mask, limbs: &Wide) -> Wide {
        Wide(std::array::from_fn(|limb| {
            _mm512_mask_sub_epi64(limbs.0[limb], mask, splat(LARGE_P[limb]), limbs.0[limb])
        }))
    }
}

vector! {
    /// `a + b`, not carried.
    fn sum(a: &Wide, b: &Wide) -> Wide {
        Wide(std::array::from_fn(|limb| _mm512_add_epi64(a.0[limb], b.0[limb])))
    }
}

impl Factors {
    vector! {
        /// Multiplied out: X, Y, Z, T = EF, GH, FG, EH.
        fn points(&self) -> Points {
            let first = Element(permute::<{ order([3, 0, 2, 3]) }>(&self.0).0);
            let second = Element(permute::<{ order([2, 1, 0, 1]) }>(&self.0).0);
            Points(carry(mul(&first, &second)))
        }
    }

    vector! {
        /// Multiplied out for the next doubling: X, Y, Z, X.
        fn doubling(&self) -> Doubling {
            let first = Element(permute::<{ order([3, 0, 2, 3]) }>(&self.0).0);
            let second = Element(permute::<{ order([2, 1, 0, 2]) }>(&self.0).0);
            Doubling(carry(mul(&first, &second)))
        }
    }
}

impl Doubling {
    vector! {
        /// Both doubled.
        fn double(&self) -> Factors {
            let second = Element(permute::<{ order([0, 1, 2, 1]) }>(&self.0.into()).0);
            // XX, YY, ZZ, XY.
            let squares = mul(&self.0, &second);
            // G = YY − XX, H = YY + XX, F = 2ZZ − G, E = 2XY.
            let left = permute::<{ order([1, 1, 2, 3]) }>(&squares);
            let left = left.0.map(|limb| _mm512_mask_add_epi64(limb, LANE_2 | LANE_3, limb, limb));
            let right = permute_some::<{ order([0, 0, 1, 3]) }>(!LANE_3, &squares);
            let right = negate_some(LANE_0 | LANE_2, &right);
            let rest = permute_some::<{ order([0, 0, 0, 0]) }>(LANE_2, &squares);
            Factors(carry(sum(&Wide(left), &sum(&right, &rest))).into())
        }
    }
}

impl Points {
    vector! {
        /// The neutral point twice.
        fn identity() -> Self {
            let none = splat(0);
            Self(Element([_mm512_setr_epi64(0, 1, 1, 0, 0, 1, 1, 0), none, none, none, none]))
        }
    }

    vector! {
        /// Y − X, Y + X, Z, T.
        fn turned(&self) -> Element {
            let point = Wide::from(self.0);
            let left = permute::<{ order([1, 1, 2, 3]) }>(&point);
            let right = permute_some::<{ order([0, 0, 2, 3]) }>(LANE_0 | LANE_1, &point);
            carry(sum(&left, &negate_some(LANE_0, &right)))
        }
    }

    vector! {
        /// Each plus its term.
        fn add(&self, terms: &Terms) -> Factors {
            // A, B, D, C.
            let products = mul(&self.turned(), &terms.0);
            // G = D + C, H = B + A, F = D − C, E = B − A.
            let left = permute::<{ order([2, 1, 2, 1]) }>(&products);
            let right = permute::<{ order([3, 0, 3, 0]) }>(&products);
            Factors(carry(sum(&left, &negate_some(LANE_2 | LANE_3, &right))).into())
        }
    }

    vector! {
        /// Ready to be added.
        fn terms(&self) -> Terms {
            let limb = |limb: usize| {
                let (one, two) = (i64::from(limb == 0), 2 * i64::from(limb == 0));
                let d = TWICE_D[limb].cast_signed();
                _mm512_setr_epi64(one, one, two, d, one, one, two, d)
            };
            Terms(carry(mul(&self.turned(), &Element(std::array::from_fn(limb)))))
        }
    }

    vector! {
        /// The sum of the two.
        fn halves_added(&self) -> Row {
            let term = self.terms().0;
            // The halves change places: 128-bit blocks 2, 3, 0, 1.
            let swapped = term.0.map(|limb| _mm512_shuffle_i64x2::<0x4e>(limb, limb));
            let sum = self.add(&Terms(Element(swapped))).points().0;
            let limbs = sum.0.map(|limb| store(limb));
            let mut row = [[0; 8]; 3];
            for (place, word) in row.as_flattened_mut()[..20].iter_mut().enumerate() {
                *word = limbs[place % 5][place / 5];
            }
            Row(row)
        }
    }
}

impl Terms {
    vector! {
        /// One affine point in either half.
        fn of_rows(lower: &AffineRow, upper: &AffineRow) -> Self {
            let (lower, upper) = (lower.0.as_flattened(), upper.0.as_flattened());
            // A row has the sum, the difference and 2dxy.
            let limb = |limb: usize| {
                let two = 2 * i64::from(limb == 0);
                let word = |row: &[u64], part: usize| row[5 * part + limb].cast_signed();
                _mm512_setr_epi64(
                    word(lower, 1),
                    word(lower, 0),
                    two,
                    word(lower, 2),
                    word(upper, 1),
                    word(upper, 0),
                    two,
                    word(upper, 2),
                )
            };
            Self(Element(std::array::from_fn(limb)))
        }
    }

    vector! {
        /// Negated in the halves of the mask.
        fn negate_lanes(&self, mask: Mask) -> Self {
            let negated = negate(&self.0);
            let swapped = permute::<{ order([1, 0, 2, 3]) }>(&self.0.into());
            Self(Element(std::array::from_fn(|limb| {
                let other = _mm512_mask_mov_epi64(swapped.0[limb], LANE_3, negated.0[limb]);
                _mm512_mask_mov_epi64(self.0.0[limb], mask, other)
            })))
        }
    }
}
