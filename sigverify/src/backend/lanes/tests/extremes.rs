//! Equations with scalars that no signer can aim at: zero, the order's neighbours, powers of two,
//! equal digits; and points with a part of small order. Compared with dalek's points.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity, IsIdentity};
use num_bigint::BigUint;
use rand_core::{Rng, SeedableRng};

use super::super::chunk::{Backend, decode_points};
use super::super::digits::Digits;
use super::super::point::AffineRow;
use super::super::scalar::Scalars;
use super::super::together::Sum;
use super::super::vector::{load, splat};
use super::super::{alone, hot};
use super::order;

struct Source(chacha20::ChaCha8Rng);

impl Source {
    fn new(seed: u64) -> Self {
        Self(chacha20::ChaCha8Rng::seed_from_u64(seed))
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.next_u64() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// A number below `limit`, mostly an awkward one.
    fn scalar(&mut self, limit: &BigUint) -> BigUint {
        let one = BigUint::from(1_u8);
        let number = match self.below(12) {
            0 => BigUint::ZERO,
            1 => one,
            2 => order() - (1 + self.below(100)),
            3 => order() + self.below(100),
            4 => limit - 1_u8,
            5 => one << self.below(253),
            6 => (one << (1 + self.below(252))) - 1_u8,
            7 | 8 => {
                let width = [5, 8, 10][self.below(3)];
                let half = 1_usize << (width - 1);
                let digit = [half, half - 1, 2 * half - 1, self.below(2 * half)][self.below(4)];
                (0..252 / width).map(|place| BigUint::from(digit) << (width * place)).sum()
            }
            _ => {
                let mut bytes = [0; 32];
                self.0.fill_bytes(&mut bytes);
                BigUint::from_bytes_le(&bytes)
            }
        };
        number % limit
    }

    fn torsion(&mut self) -> EdwardsPoint {
        EIGHT_TORSION[self.below(8)]
    }

    fn point(&mut self) -> EdwardsPoint {
        let base = ED25519_BASEPOINT_POINT;
        let point = match self.below(5) {
            0 => base,
            1 => -base,
            _ => base * Scalar::from(1 + self.0.next_u64() / 2).invert(),
        };
        point + self.torsion()
    }
}

/// The multiple as it is, not modulo the order: points with a part of small order tell the two
/// apart.
fn times(number: &BigUint, point: &EdwardsPoint) -> EdwardsPoint {
    let mut sum = EdwardsPoint::identity();
    for bit in (0..number.bits()).rev() {
        sum = sum + sum;
        if number.bit(bit) {
            sum += point;
        }
    }
    sum
}

fn words(number: &BigUint) -> [u64; 4] {
    let mut words = number.to_u64_digits();
    words.resize(4, 0);
    words.try_into().unwrap()
}

/// The words of eight numbers, as [`Scalars::from_words`] wants them.
fn lanes(numbers: &[BigUint; 8]) -> [[u64; 8]; 4] {
    std::array::from_fn(|word| std::array::from_fn(|lane| words(&numbers[lane])[word]))
}

fn rows(points: &[EdwardsPoint]) -> Vec<AffineRow> {
    let encodings: Vec<_> = points.iter().map(|point| point.compress().to_bytes()).collect();
    // SAFETY: every test asked `detect` first.
    let (rows, exists) = unsafe { decode_points(&encodings, 0) };
    assert!(exists[..points.len()].iter().all(|exists| *exists));
    rows
}

vector! {
    /// What each way says of eight equations.
    fn judge(
        keys: &[AffineRow],
        commitments: &[AffineRow],
        challenges: &[[u64; 8]; 4],
        responses: &[[u64; 8]; 4],
    ) -> [u8; 2] {
        let equations = alone::Equations {
            keys: std::array::from_fn(|lane| &keys[lane]),
            commitments: std::array::from_fn(|lane| &commitments[lane]),
            challenges: Scalars::from_words(challenges.map(|word| load(&word))),
            responses: Scalars::from_words(responses.map(|word| load(&word))),
        };
        let tables = hot::build(&keys[..8]);
        let tables = std::array::from_fn(|lane| &tables[lane]);
        [alone::hold(&equations), hot::hold(&tables, &equations)]
    }
}

#[test]
fn equations_alone_hold_at_extreme_scalars_and_no_others_do() {
    if Backend::detect().is_none() {
        println!("skipped: the CPU lacks this backend's features");
        return;
    }
    let mut source = Source::new(6);
    for round in 0..150 {
        let keys: [EdwardsPoint; 8] = std::array::from_fn(|_| source.point());
        let challenges = std::array::from_fn(|_| source.scalar(&(order() + 1_u8)));
        let responses = std::array::from_fn(|_| source.scalar(&order()));
        let mut expected = 0;
        let commitments: [EdwardsPoint; 8] = std::array::from_fn(|lane| {
            let exact = times(&responses[lane], &ED25519_BASEPOINT_POINT)
                - times(&challenges[lane], &keys[lane]);
            let wrong = match source.below(6) {
                0 => ED25519_BASEPOINT_POINT,
                1 => keys[lane],
                2 if !exact.mul_by_cofactor().is_identity() => -(exact + exact),
                _ => EdwardsPoint::identity(),
            };
            if wrong.mul_by_cofactor().is_identity() {
                expected |= 1 << lane;
            }
            exact + wrong + source.torsion()
        });
        let (keys, commitments) = (rows(&keys), rows(&commitments));
        // SAFETY: `detect` said so.
        let found = unsafe { judge(&keys, &commitments, &lanes(&challenges), &lanes(&responses)) };
        assert_eq!(found, [expected; 2], "round {round}: {challenges:?} {responses:?}");
    }
}

/// Terms of a sum: places in a list of points, and their scalars.
struct Terms {
    short: Vec<(usize, u128)>,
    long: Vec<(usize, BigUint)>,
}

vector! {
    fn sum_is_small(points: &[AffineRow], terms: &Terms, last: &AffineRow) -> bool {
        let mut sum = Sum::new(terms.short.len(), terms.long.len());
        for group in terms.short.chunks(8) {
            let rows: Vec<AffineRow> = group.iter().map(|(place, _)| points[*place]).collect();
            let (mut low, mut high) = ([0; 8], [0; 8]);
            for (lane, (_, scalar)) in group.iter().enumerate() {
                low[lane] = u64::try_from(scalar & u128::from(u64::MAX)).unwrap();
                high[lane] = u64::try_from(scalar >> 64).unwrap();
            }
            let words = [load(&low), load(&high), splat(0), splat(0)];
            sum.add_short(&rows, &Scalars::from_words(words));
        }
        for group in terms.long.chunks(8) {
            let rows: Vec<AffineRow> = group.iter().map(|(place, _)| points[*place]).collect();
            let scalar = |lane: usize| match group.get(lane) {
                Some((_, scalar)) => scalar.clone(),
                None => BigUint::ZERO,
            };
            let words = lanes(&std::array::from_fn(scalar)).map(|word| load(&word));
            sum.add_long(&rows, &Scalars::from_words(words));
        }
        let one = [splat(1), splat(0), splat(0), splat(0)];
        sum.add_long(std::slice::from_ref(last), &Scalars::from_words(one));
        sum.is_small()
    }
}

#[test]
fn sums_are_small_at_extreme_coefficients_and_in_one_bucket() {
    if Backend::detect().is_none() {
        println!("skipped: the CPU lacks this backend's features");
        return;
    }
    let mut source = Source::new(7);
    for round in 0..80 {
        let points: Vec<_> = (0..24).map(|_| source.point()).collect();
        let short = [1, 8, 24, 25, 64, 100, 257, 600, 1_023, 1_024][source.below(10)];
        let long = [1, 1 + source.below(short), short + 1][source.below(3)];
        // All terms in one bucket, now and then.
        let same = source.below(4) == 0;
        let place = |source: &mut Source| if same { 0 } else { source.below(points.len()) };
        let equal = [0, u128::MAX, 1 << 127][source.below(3)];
        let terms = Terms {
            short: (0..short)
                .map(|_| {
                    let place = place(&mut source);
                    let random = u128::from(source.0.next_u64()) << 64;
                    let power = 1 << source.below(128);
                    let choice = [0, u128::MAX, power, random][source.below(4)];
                    (place, if same { equal } else { choice })
                })
                .collect(),
            long: (0..long)
                .map(|_| (place(&mut source), source.scalar(&(BigUint::from(9_u8) << 250))))
                .collect(),
        };
        // A short scalar stands for itself less the constant of its digits.
        let constant = constant(Sum::new(short, long).short_digits());
        let mut factors = vec![BigUint::ZERO; points.len()];
        for (place, scalar) in &terms.short {
            factors[*place] += *scalar + order() - &constant;
        }
        for (place, scalar) in &terms.long {
            factors[*place] += scalar;
        }
        // What the reduction does to parts of small order goes with the cofactor.
        let multiples = factors.iter().zip(&points).map(|(factor, point)| times(factor, point));
        let total: EdwardsPoint = multiples.sum();
        let points = rows(&points);
        for (wrong, expected) in
            [(EdwardsPoint::identity(), true), (ED25519_BASEPOINT_POINT, false)]
        {
            let last = rows(&[-total + wrong + source.torsion()])[0];
            // SAFETY: `detect` said so.
            let found = unsafe { sum_is_small(&points, &terms, &last) };
            assert_eq!(found, expected, "round {round}: {short} and {long}, same {same}");
        }
    }
}

fn constant(digits: Digits) -> BigUint {
    let bytes: Vec<u8> = digits.constant().iter().flat_map(|word| word.to_le_bytes()).collect();
    BigUint::from_bytes_le(&bytes)
}
