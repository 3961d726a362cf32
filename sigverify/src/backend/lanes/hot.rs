//! Keys that sign often: tables of their multiples, so that a check needs ten doublings instead of
//! 250.
//!
//! A table has the multiples 0 to 16 of 2^(15·p)·A for 17 places p: all digits of five bits of a
//! scalar, three rounds apart. It is 37 KB, and made eight at a time it pays after five checks.

use super::alone::{Equations, agree};
use super::base;
use super::digits::Digits;
use super::field::{Element, Wide, carry, product};
use super::point::{Affine, AffineRow, Decoded, Extended};
use super::power::invert;
use super::vector::Mask;

/// Digits of k.
const DIGITS: Digits = Digits::of_scalars(5);
/// Digits between two places of a table: each costs five doublings a check.
const ROUNDS: usize = 3;
/// Places of a table.
const PLACES: usize = DIGITS.count / ROUNDS;
const _: () = assert!(PLACES * ROUNDS == DIGITS.count);
/// Multiples of a place.
const MULTIPLES: usize = DIGITS.half() + 1;

/// The multiples of one key.
pub(super) struct Table(Box<[AffineRow]>);

/// Bytes of a table.
pub(super) const TABLE_BYTES: usize = PLACES * MULTIPLES * size_of::<AffineRow>();

vector! {
    /// Makes the tables of up to eight keys, at the price of eight.
    pub(super) fn build(keys: &[AffineRow]) -> Vec<Table> {
        assert!((1..=8).contains(&keys.len()));
        let mut place =
            Affine::from_rows(std::array::from_fn(|lane| &keys[lane.min(keys.len() - 1)])).extended();
        let mut points = Vec::with_capacity(PLACES * (MULTIPLES - 1));
        for index in 0..PLACES {
            let once = place.cached();
            let mut multiple = place;
            points.push(multiple);
            for _ in 2..MULTIPLES {
                multiple = multiple.add(&once).extended();
                points.push(multiple);
            }
            if index + 1 < PLACES {
                place = place.double_times(ROUNDS * DIGITS.width);
            }
        }
        let mut tables: Vec<_> = keys.iter().map(|_| Vec::with_capacity(PLACES * MULTIPLES)).collect();
        for (index, point) in normalize(&points).into_iter().enumerate() {
            for (table, row) in tables.iter_mut().zip(point.affine().to_rows()) {
                if index.is_multiple_of(MULTIPLES - 1) {
                    table.push(AffineRow::IDENTITY);
                }
                table.push(row);
            }
        }
        tables.into_iter().map(|table| Table(table.into())).collect()
    }
}

vector! {
    /// Divides by Z, with one inversion for all.
    ///
    /// Source: P. Montgomery, "Speeding the Pollard and elliptic curve methods of factorization", 1987,
    /// section 10.3.1.
    fn normalize(points: &[Extended]) -> Vec<Decoded> {
        let mut products: Vec<Element> = Vec::with_capacity(points.len());
        for point in points {
            let z = carry(point.z);
            products.push(products.last().map_or(z, |last| product(last, &z)));
        }
        let mut inverse = invert(products.last().expect("there are points"));
        let mut decoded = Vec::with_capacity(points.len());
        for (index, point) in points.iter().enumerate().rev() {
            let own = if index == 0 { inverse } else { product(&inverse, &products[index - 1]) };
            inverse = product(&inverse, &carry(point.z));
            let divide = |coordinate: Wide| product(&carry(coordinate), &own);
            decoded.push(Decoded { x: divide(point.x), y: divide(point.y) });
        }
        decoded.reverse();
        decoded
    }
}

vector! {
    /// The lanes whose equation holds; `equations.keys` is not looked at.
    pub(super) fn hold(tables: &[&Table; 8], equations: &Equations<'_>) -> Mask {
        let challenges = equations.challenges.plus(const { DIGITS.constant() });
        let mut sum = Extended::identity();
        for round in (0..ROUNDS).rev() {
            if round + 1 < ROUNDS {
                sum = sum.double_times(DIGITS.width);
            }
            for place in 0..PLACES {
                let index = round + ROUNDS * place;
                let (magnitudes, negative) = challenges.split_digit(DIGITS, index);
                let row = |lane: usize| &tables[lane].0[MULTIPLES * place + magnitudes[lane]];
                // Minus k·A: what is positive is subtracted.
                let term = Affine::from_rows(std::array::from_fn(row)).negate_lanes(!negative);
                sum = sum.add_affine(&term).extended();
            }
        }
        let responses = equations.responses.plus(const { base::COMB.constant() });
        for (place, multiples) in base::comb().enumerate() {
            let (magnitudes, negative) = responses.split_digit(base::COMB, place);
            let rows = magnitudes.map(|magnitude| &multiples[magnitude]);
            sum = sum.add_affine(&Affine::from_rows(rows).negate_lanes(negative)).extended();
        }
        agree(&sum, equations.commitments)
    }
}

#[cfg(test)]
impl Table {
    /// A table that is never looked into.
    pub(super) fn empty() -> Self {
        Self(Box::new([]))
    }
}
