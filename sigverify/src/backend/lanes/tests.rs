//! The vector arithmetic against plain arithmetic, at the edges of its bounds and at random.
//!
//! Whole verdicts are compared with the oracle's in the tests of all backends.

#![expect(unsafe_code, reason = "tests enter vector code after asking the CPU")]

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use num_bigint::BigUint;
use proptest::prelude::*;
use sha2::{Digest, Sha512};

use super::chunk::{Backend, decode_points};
use super::digits::Digits;
use super::field::{self, CARRIED_BELOW, Element, Wide};
use super::point::AffineRow;
use super::scalar::Scalars;
use super::vector::{load, splat, store};
use super::{base, sha512};
use crate::Item;

#[path = "tests/extremes.rs"]
mod extremes;

/// Runs a test's body where the CPU has the features.
fn where_it_runs(body: impl Fn()) {
    match Backend::detect() {
        Some(_) => body(),
        None => println!("skipped: the CPU lacks this backend's features"),
    }
}

fn prime() -> BigUint {
    (BigUint::from(1_u8) << 255) - 19_u8
}

fn order() -> BigUint {
    (BigUint::from(1_u8) << 252) + 27_742_317_777_372_353_535_851_937_790_883_648_493_u128
}

/// The number whose limbs of `bits` are in one lane.
fn number(limbs: &[[u64; 8]], bits: usize, lane: usize) -> BigUint {
    let place = |(index, limb): (usize, &[u64; 8])| BigUint::from(limb[lane]) << (bits * index);
    limbs.iter().enumerate().map(place).sum()
}

/// Five limbs for each lane.
type Limbs = [[u64; 8]; 5];

fn limbs(at_most: u64) -> impl Strategy<Value = Limbs> {
    // Edges as often as all the rest.
    let limb = prop_oneof![Just(at_most), Just(at_most - 1), Just(0), Just(1), 0..=at_most];
    prop::array::uniform5(prop::array::uniform8(limb))
}

const ELEMENT: u64 = (1 << 52) - 1;
/// 2^61.2.
const WIDE: u64 = (1 << 61) + (1 << 58) + (1 << 57);

/// A lane operation on two groups of five limbs.
type Operation = fn(&Limbs, &Limbs) -> Limbs;

/// An operation of the field on its own types.
macro_rules! operation {
    (|$a:ident: $first:ident, $b:ident: $second:ident| $result:expr) => {{
        vector! {
            fn run(a: &Limbs, b: &Limbs) -> Limbs {
                let $a = $first::of_limbs(a.map(|limb| load(&limb)));
                let $b = $second::of_limbs(b.map(|limb| load(&limb)));
                $result.limbs().map(|limb| store(limb))
            }
        }
        // SAFETY: every test that uses it asked `detect` first.
        (|a, b| unsafe { run(a, b) }) as Operation
    }};
}

/// Compares an operation with plain arithmetic modulo p, and its limbs with a bound.
fn expect(
    operation: Operation,
    a: &Limbs,
    b: &Limbs,
    below: u64,
    plain: impl Fn(BigUint, BigUint) -> BigUint,
) {
    let result = operation(a, b);
    for lane in 0..8 {
        let expected = plain(number(a, 51, lane), number(b, 51, lane)) % prime();
        assert_eq!(number(&result, 51, lane) % prime(), expected, "lane {lane} of {a:x?} {b:x?}");
        for limb in result {
            assert!(limb[lane] < below, "{:x} in lane {lane} of {a:x?} {b:x?}", limb[lane]);
        }
    }
}

/// Everything that takes two elements.
fn check_elements(a: &Limbs, b: &Limbs) {
    let product = operation!(|a: Element, b: Element| field::mul(&a, &b));
    expect(product, a, b, 1 << 61, |a, b| a * b);
    let square = operation!(|a: Element, _b: Element| field::square(&a));
    expect(square, a, b, 1 << 61, |a, _| &a * &a);
    let carried = operation!(|a: Element, b: Element| field::product(&a, &b));
    expect(carried, a, b, CARRIED_BELOW, |a, b| a * b);
}

/// Everything that takes two products.
fn check_wides(a: &Limbs, b: &Limbs) {
    let carry = operation!(|a: Wide, _b: Wide| field::carry(a));
    expect(carry, a, b, CARRIED_BELOW, |a, _| a);
    let sum = operation!(|a: Wide, b: Wide| field::add(a, b));
    expect(sum, a, b, CARRIED_BELOW, |a, b| a + b);
    let difference = operation!(|a: Wide, b: Wide| field::sub(a, b));
    expect(difference, a, b, CARRIED_BELOW, |a, b| a + (prime() << 12) - b);
    let canonical = operation!(|a: Wide, _b: Wide| field::canonical(a));
    expect(canonical, a, b, 1 << 51, |a, _| a);
    for (lane, limbs) in (0..8).map(|lane| (lane, canonical(a, b))) {
        assert!(number(&limbs, 51, lane) < prime(), "canonical");
    }
}

#[test]
fn limbs_at_their_bounds_do_not_overflow() {
    where_it_runs(|| {
        check_elements(&[[ELEMENT; 8]; 5], &[[ELEMENT; 8]; 5]);
        check_wides(&[[WIDE; 8]; 5], &[[WIDE; 8]; 5]);
        check_wides(&[[0; 8]; 5], &[[WIDE; 8]; 5]);
        let negation = operation!(|a: Element, _b: Element| field::negate(&a));
        let largest = [[CARRIED_BELOW - 1; 8]; 5];
        expect(negation, &largest, &largest, 1 << 52, |a, _| (prime() << 2) - a);
        expect(negation, &[[0; 8]; 5], &largest, 1 << 52, |a, _| (prime() << 2) - a);
    });
}

#[test]
fn zero_and_p_and_what_is_near_have_one_canonical_form() {
    where_it_runs(|| {
        let canonical = operation!(|a: Wide, _b: Wide| field::canonical(a));
        let mask = (1 << 51) - 1;
        for start in [0, 1, 18, 19, 20, mask - 19, mask - 18, mask - 17, mask, mask + 1, 1 << 61] {
            for rest in [0, mask, mask + 1, 1 << 61] {
                let a = [[start; 8], [rest; 8], [rest; 8], [rest; 8], [rest; 8]];
                expect(canonical, &a, &a, 1 << 51, |a, _| a);
                assert!(number(&canonical(&a, &a), 51, 7) < prime(), "{start:x} {rest:x}");
            }
        }
    });
}

proptest! {
    #[test]
    fn elements_multiply_as_numbers(a in limbs(ELEMENT), b in limbs(ELEMENT)) {
        where_it_runs(|| check_elements(&a, &b));
    }

    #[test]
    fn products_add_and_carry_as_numbers(a in limbs(WIDE), b in limbs(WIDE)) {
        where_it_runs(|| check_wides(&a, &b));
    }

    #[test]
    fn points_decode_as_the_reference_decodes_them(bytes in any::<[[u8; 32]; 8]>()) {
        where_it_runs(|| check_points(&bytes));
    }

    #[test]
    fn scalars_multiply_modulo_the_order(a in any::<[u64; 8]>(), b in any::<[u64; 4]>()) {
        where_it_runs(|| check_scalars(a, b));
    }

    #[test]
    fn digits_add_up_to_their_scalar(words in any::<[u64; 4]>(), width in 4..=12_usize) {
        where_it_runs(|| check_digits(words, width));
    }

    #[test]
    fn eight_messages_of_any_lengths_have_their_hashes(
        lengths in prop::array::uniform8(0..600_usize),
        seed in any::<u8>(),
    ) {
        where_it_runs(|| check_hashes(lengths, seed));
    }
}

/// Decodes eight encodings as points, some of which exist.
fn check_points(bytes: &[[u8; 32]; 8]) {
    // SAFETY: the caller asked `detect` first.
    let points = unsafe { decode_points(bytes, 0) };
    let (rows, exists) = points;
    for ((encoding, row), exists) in bytes.iter().zip(rows).zip(exists) {
        let point = exists.then_some(row);
        let expected = CompressedEdwardsY(*encoding).decompress();
        assert_eq!(point.is_some(), expected.is_some(), "{encoding:x?}");
        let (Some(AffineRow([low, high])), Some(expected)) = (point, expected) else { continue };
        let row = [low, high].concat();
        let value = |from: usize| {
            let limbs = row[from..from + 5].iter().enumerate();
            limbs.map(|(index, limb)| BigUint::from(*limb) << (51 * index)).sum::<BigUint>()
        };
        let (sum, difference, t2d) = (value(0), value(5), value(10));
        // 2y tells y; the sign of x is told by 2x; and t2d = 2dxy.
        let half = |value: BigUint| -> BigUint { value * ((prime() + 1_u8) >> 1) % prime() };
        let y = half(&sum + &difference);
        let x: BigUint = half(sum + (prime() << 2) - difference);
        let mut encoded = [0; 32];
        let digits = y.to_bytes_le();
        encoded[..digits.len()].copy_from_slice(&digits);
        encoded[31] |= u8::from(x.bit(0)) << 7;
        assert_eq!(encoded, expected.compress().to_bytes());
        let inverse = BigUint::from(121_666_u32).modpow(&(prime() - 2_u8), &prime());
        let d = (prime() - 121_665_u32) * inverse % prime();
        assert_eq!(t2d % prime(), d * 2_u8 * x * y % prime());
    }
}

/// A 512-bit number, reduced and multiplied.
fn check_scalars(wide: [u64; 8], other: [u64; 4]) {
    vector! {
        fn run(wide: [u64; 8], other: [u64; 4]) -> [Limbs; 3] {
            let times_r = Scalars::from_wide_times_r(wide.map(|word| splat(word)));
            let other = Scalars::from_words(other.map(|word| splat(word)));
            let sums = Scalars::from_sums(other.limbs().map(|limb| splat(limb[0] << 11)));
            [times_r.without_r().limbs(), times_r.times(&other).limbs(), sums.limbs()]
        }
    }
    // `times` takes numbers below 2^255.
    let other = [other[0], other[1], other[2], other[3] >> 1];
    // SAFETY: the caller asked `detect` first.
    let [reduced, product, sums] = unsafe { run(wide, other) };
    let bytes =
        |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let (wide, other) =
        (BigUint::from_bytes_le(&bytes(&wide)), BigUint::from_bytes_le(&bytes(&other)));
    for lane in [0, 7] {
        let found = number(&reduced, 52, lane);
        assert!(found < (order() << 1));
        assert_eq!(found % order(), &wide % order());
        let found = number(&product, 52, lane);
        assert!(found < (BigUint::from(1_u8) << 253) + (BigUint::from(1_u8) << 250));
        assert_eq!(found % order(), &wide * &other % order());
        assert_eq!(number(&sums, 52, lane) % order(), (&other << 11) % order());
    }
}

/// Digits of a scalar below 2^253 and of a coefficient.
fn check_digits(words: [u64; 4], width: usize) {
    vector! {
        fn run(digits: Digits, words: [u64; 4], add: bool) -> (Vec<i16>, Limbs) {
            let scalar = Scalars::from_words(words.map(|word| splat(word)));
            let sum = if add { scalar.plus(digits.constant()) } else { scalar };
            let signed = (0..digits.count).map(|index| sum.signed_digit(digits, index)[3]);
            let own = if add { scalar } else { scalar.plus(digits.order_less_constant()) };
            (signed.collect(), own.limbs())
        }
    }
    let scalar = [words[0], words[1], words[2], words[3] & ((1 << 61) - 1)];
    for (digits, words, add) in [
        (Digits::of_scalars(width), scalar, true),
        (Digits::of_coefficients(width), [words[0], words[1], 0, 0], false),
    ] {
        // SAFETY: the caller asked `detect` first.
        let (signed, own) = unsafe { run(digits, words, add) };
        // Kept positive by a multiple of the order.
        let mut sum = order() << 32;
        for (index, digit) in signed.iter().enumerate() {
            let half = digits.half();
            assert!(usize::from(digit.unsigned_abs()) <= half, "{digit} of {width} bits");
            let offset = usize::from(digit.unsigned_abs());
            match digit.is_negative() {
                true => sum -= BigUint::from(offset) << (width * index),
                false => sum += BigUint::from(offset) << (width * index),
            }
        }
        assert_eq!(sum % order(), number(&own, 52, 3) % order());
    }
}

/// Eight hashes at once, each of another length.
fn check_hashes(lengths: [usize; 8], seed: u8) {
    vector! {
        fn run(items: &[&Item<'_>; 8]) -> [[u64; 8]; 8] {
            sha512::challenges(items).map(|word| store(word))
        }
    }
    let bytes = |count: usize, salt: u8| -> Vec<u8> {
        let step = |last: &u8| Some(last.wrapping_mul(31).wrapping_add(7));
        std::iter::successors(Some(seed ^ salt), step).take(count).collect()
    };
    let (key, signature) = (bytes(32, 1).try_into().unwrap(), bytes(64, 2).try_into().unwrap());
    let messages = lengths.map(|length| bytes(length, 3));
    let items: [Item<'_>; 8] = std::array::from_fn(|lane| Item {
        key: &key,
        message: &messages[lane],
        signature: &signature,
    });
    // SAFETY: the caller asked `detect` first.
    let words = unsafe { run(&items.each_ref()) };
    for (lane, message) in messages.iter().enumerate() {
        let hash = Sha512::new().chain_update(&signature[..32]).chain_update(key);
        let expected = hash.chain_update(message).finalize();
        let found: Vec<u8> = words.iter().flat_map(|word| word[lane].to_le_bytes()).collect();
        assert_eq!(found, expected[..], "{} bytes in lane {lane}", message.len());
    }
}

#[test]
fn a_hash_of_every_length_around_its_blocks() {
    where_it_runs(|| {
        for start in (0..320).step_by(8) {
            check_hashes(std::array::from_fn(|lane| start + lane), 7);
        }
    });
}

#[test]
fn multiples_of_the_base_point_are_that() {
    where_it_runs(|| {
        let encodings: Vec<_> = (1..=513_u64)
            .map(|number| {
                let point = curve25519_dalek::EdwardsPoint::mul_base(&Scalar::from(number));
                point.compress().to_bytes()
            })
            .collect();
        // SAFETY: `detect` found the CPU features.
        let decoded = unsafe { decode_points(&encodings, 0).0 };
        // SAFETY: as above.
        let multiples = unsafe { base::multiples() };
        for (row, expected) in multiples[1..].iter().zip(decoded) {
            assert_eq!(row.0, expected.0);
        }
    });
}
