//! Multiples of the base point B, made once for the whole process.

#![expect(unsafe_code, reason = "tables are made by code for CPU features")]

use std::sync::LazyLock;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::traits::Identity;

use super::digits::Digits;
use super::point::{AffineRow, decompress};

/// Digits of the base point's scalar when it shares doublings with another point.
pub(super) const DIGITS: Digits = Digits::of_scalars(10);

/// `n·B` for `n` up to half of the digits' range: 513 rows of 128 bytes.
static MULTIPLES: LazyLock<Box<[AffineRow]>> = LazyLock::new(|| {
    let mut multiple = EdwardsPoint::identity();
    let mut encodings = Vec::new();
    for _ in 0..=DIGITS.half() {
        encodings.push(multiple.compress().to_bytes());
        multiple += ED25519_BASEPOINT_POINT;
    }
    rows_of(&encodings)
});

/// Digits of the base point's scalar where nothing is doubled.
pub(super) const COMB: Digits = Digits::of_scalars(8);

/// `n·2^(8·p)·B` for the 32 places p and `n` up to half of the digits' range: 528 KB.
static PLACES: LazyLock<Box<[AffineRow]>> = LazyLock::new(|| {
    let mut place = ED25519_BASEPOINT_POINT;
    let mut points = Vec::new();
    for _ in 0..COMB.count {
        let mut multiple = EdwardsPoint::identity();
        for _ in 0..=COMB.half() {
            points.push(multiple);
            multiple += place;
        }
        place = (0..COMB.width).fold(place, |point, _| point + point);
    }
    let encodings = EdwardsPoint::compress_batch_alloc(&points);
    rows_of(&encodings.iter().map(|encoding| encoding.to_bytes()).collect::<Vec<_>>())
});

/// Makes all tables, unless it was done before.
pub(super) fn make_tables() {
    for table in [&MULTIPLES, &PLACES] {
        LazyLock::force(table);
    }
    LazyLock::force(&NEGATIVE);
}

/// The rows of encoded points, which must all be points.
fn rows_of(encodings: &[[u8; 32]]) -> Box<[AffineRow]> {
    let mut rows = Vec::with_capacity(encodings.len().next_multiple_of(8));
    for group in encodings.chunks(8) {
        let mut eight = [group[0]; 8];
        eight[..group.len()].copy_from_slice(group);
        // SAFETY: only a backend's token leads here, and its `detect` found the CPU features.
        rows.extend(unsafe { rows_of_eight(&eight) });
    }
    rows.truncate(encodings.len());
    rows.into()
}

vector! {
    fn rows_of_eight(encodings: &[[u8; 32]; 8]) -> [AffineRow; 8] {
        let [(decoded, found)] = decompress(&[*encodings]);
        assert_eq!(found, u8::MAX, "a multiple of the base point is a point");
        decoded.affine().to_rows()
    }
}

vector! {
    /// `n·B` at index `n`, from zero to half of the range of [`DIGITS`].
    pub(super) fn multiples() -> &'static [AffineRow] {
        &MULTIPLES
    }
}

/// `−B`.
static NEGATIVE: LazyLock<AffineRow> =
    LazyLock::new(|| rows_of(&[(-ED25519_BASEPOINT_POINT).compress().to_bytes()])[0]);

vector! {
    /// The multiples of each place of [`COMB`], the lowest place first.
    pub(super) fn comb() -> impl Iterator<Item = &'static [AffineRow]> {
        PLACES.chunks_exact(COMB.half() + 1)
    }
}

vector! {
    /// `−B`.
    pub(super) fn negative() -> &'static AffineRow {
        &NEGATIVE
    }
}
