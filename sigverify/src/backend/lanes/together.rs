//! Many points times their scalars in one sum, and whether that is the neutral point after times 8.
//!
//! Pippenger's method. A scalar has digits; the points with the same digit of the same place go into
//! one bucket, and the buckets of a place are added up so that each counts as often as its digit
//! says. Here eight buckets are filled side by side: of eight places, in the order of their sizes,
//! so that the lanes have equally much to do. A bucket's sum stays in registers until it is done.
//!
//! ```text
//! digits ──▶ count, sort by (place, digit) ──▶ buckets by size, eight at a time: Σ points
//!        ──▶ per place, eight places at a time: Σ digit·bucket ──▶ doublings between places
//! ```
//!
//! Source: N. Pippenger, "On the evaluation of powers and monomials", 1980, has the method; the lanes
//! are ours.

#![expect(clippy::cast_possible_truncation, reason = "a chunk's counts are far below 2^31")]

use super::digits::Digits;
use super::point::{Affine, AffineRow, Extended, Row};
use super::scalar::Scalars;
use super::vector::Mask;

/// A sum under construction: points and the digits of their scalars.
///
/// Shape: first all points with short scalars, then all with long ones.
pub(super) struct Sum {
    short: Digits,
    long: Digits,
    /// Points with short scalars.
    shorts: usize,
    points: Vec<AffineRow>,
    /// For each place the digits of all points that have it, in the order of the points.
    places: Vec<Vec<i16>>,
}

impl Sum {
    /// Starts a sum of about so many points.
    pub(super) fn new(shorts: usize, longs: usize) -> Self {
        let width = width(shorts, longs);
        let (short, long) = (Digits::of_coefficients(width), Digits::of_scalars(width));
        let capacity = |place: usize| if place < short.count { shorts + longs } else { longs };
        Self {
            short,
            long,
            shorts: 0,
            points: Vec::with_capacity(shorts + longs),
            places: (0..long.count).map(|place| Vec::with_capacity(capacity(place) + 8)).collect(),
        }
    }

    #[cfg(test)]
    pub(super) fn short_digits(&self) -> Digits {
        self.short
    }

    vector! {
        /// Adds up to eight points with short scalars, given as sums with their digits' constant; answers
        /// the scalars' own values modulo L.
        pub(super) fn add_short(&mut self, points: &[AffineRow], sums: &Scalars) -> Scalars {
            assert_eq!(self.shorts, self.points.len(), "short ones come first");
            self.add(points, sums, self.short);
            self.shorts += points.len();
            sums.plus(self.short.order_less_constant())
        }
    }

    vector! {
        /// Adds up to eight points with scalars below 2^253 + 2^250.
        pub(super) fn add_long(&mut self, points: &[AffineRow], scalars: &Scalars) {
            self.add(points, &scalars.plus(self.long.constant()), self.long);
        }
    }

    vector! {
        fn add(&mut self, points: &[AffineRow], sums: &Scalars, digits: Digits) {
            self.points.extend_from_slice(points);
            for (index, place) in self.places[..digits.count].iter_mut().enumerate() {
                let signed = sums.signed_digit(digits, index);
                place.extend_from_slice(&signed[..points.len()]);
            }
        }
    }

    vector! {
        /// Whether eight times the sum is the neutral point.
        pub(super) fn is_small(&self) -> bool {
            let half = self.long.half();
            // Lane `l` of round `r` has place `r + rounds·l`: doublings within a lane come first.
            let rounds = self.long.count.div_ceil(8);
            let mut buckets = Buckets::new(half);
            let mut lanes = Extended::identity();
            for round in (0..rounds).rev() {
                buckets.clear();
                for lane in 0..8 {
                    let place = round + rounds * lane;
                    if let Some(digits) = self.places.get(place) {
                        let first = if place < self.short.count { 0 } else { self.shorts };
                        buckets.sort(lane, digits, first);
                    }
                }
                buckets.fill(&self.points);
                if round + 1 < rounds {
                    lanes = lanes.double_times(self.long.width);
                }
                lanes = lanes.add(&buckets.weighted().cached()).extended();
            }
            let rows = lanes.to_rows();
            let lane = |lane: usize| Extended::from_rows([&rows[lane]; 8]);
            let mut total = lane(7);
            for next in (0..7).rev() {
                total = total.double_times(self.long.width * rounds);
                total = total.add(&lane(next).cached()).extended();
            }
            total.double_times(3).projective().is_identity() == u8::MAX
        }
    }
}

/// Bits of a digit, the best of a measurement over all.
const fn width(shorts: usize, longs: usize) -> usize {
    match shorts + 2 * longs {
        0..96 => 4,
        96..300 => 5,
        300..700 => 6,
        700..2_000 => 7,
        2_000..8_000 => 8,
        _ => 9,
    }
}

/// The buckets of eight places.
struct Buckets {
    /// Buckets of a place.
    half: usize,
    /// Points of each lane's place, sorted by bucket: index and, lowest bit, whether negative.
    entries: [Vec<u32>; 8],
    /// Buckets that have points.
    lists: Vec<List>,
    /// Their order, largest first.
    order: Vec<u32>,
    /// Sums: eight lanes of the first bucket, then of the second.
    sums: Vec<Row>,
    counts: Vec<u32>,
}

/// Where a bucket's points are.
#[derive(Clone, Copy)]
struct List {
    lane: u32,
    /// Counted from zero: bucket `n` is for the digit `n + 1`.
    bucket: u32,
    start: u32,
    length: u32,
}

impl Buckets {
    fn new(half: usize) -> Self {
        Self {
            half,
            entries: Default::default(),
            lists: Vec::with_capacity(8 * half),
            order: Vec::with_capacity(8 * half),
            sums: vec![Row::IDENTITY; 8 * half],
            counts: vec![0; half + 2],
        }
    }

    fn clear(&mut self) {
        self.entries.iter_mut().for_each(Vec::clear);
        self.lists.clear();
    }

    /// Sorts the digits of a place, those of the points from `first` on, into a lane's buckets.
    fn sort(&mut self, lane: usize, digits: &[i16], first: usize) {
        let counts = &mut self.counts[..=self.half];
        counts.fill(0);
        for digit in digits {
            counts[usize::from(digit.unsigned_abs())] += 1;
        }
        // Zero digits add nothing; they are sorted to the end and cut off.
        let zeros = counts[0];
        let mut start = 0;
        for (bucket, count) in counts[1..].iter_mut().enumerate() {
            let length = *count;
            self.lists.push(List { lane: lane as u32, bucket: bucket as u32, start, length });
            *count = start;
            start += length;
        }
        counts[0] = start;
        let entries = &mut self.entries[lane];
        entries.resize((start + zeros) as usize, 0);
        for (index, digit) in digits.iter().enumerate() {
            let place = &mut counts[usize::from(digit.unsigned_abs())];
            entries[*place as usize] = ((first + index) as u32) << 1 | u32::from(*digit < 0);
            *place += 1;
        }
    }

    vector! {
        /// Adds up the points of every bucket.
        fn fill(&mut self, points: &[AffineRow]) {
            self.order_by_length();
            self.sums.fill(Row::IDENTITY);
            for group in self.order.chunks(8) {
                let mut lists = [&[][..]; 8];
                for (list, index) in lists.iter_mut().zip(group) {
                    let List { lane, start, length, .. } = self.lists[*index as usize];
                    *list = &self.entries[lane as usize][start as usize..(start + length) as usize];
                }
                if lists[0].is_empty() {
                    break;
                }
                let sums = add_up(&lists, points).to_rows();
                for (sum, index) in sums.into_iter().zip(group) {
                    let List { lane, bucket, .. } = self.lists[*index as usize];
                    self.sums[(8 * bucket + lane) as usize] = sum;
                }
            }
        }
    }

    fn order_by_length(&mut self) {
        let longest = self.lists.iter().map(|list| list.length).max().unwrap_or(0) as usize;
        let mut counts = vec![0_u32; longest + 1];
        for list in &self.lists {
            counts[longest - list.length as usize] += 1;
        }
        let mut start = 0;
        for count in &mut counts {
            start += std::mem::replace(count, start);
        }
        self.order.clear();
        self.order.resize(self.lists.len(), 0);
        for (index, list) in self.lists.iter().enumerate() {
            let place = &mut counts[longest - list.length as usize];
            self.order[*place as usize] = index as u32;
            *place += 1;
        }
    }

    vector! {
        /// In every lane Σ digit·bucket: each bucket is in as many partial sums as its digit says.
        fn weighted(&self) -> Extended {
            let (mut above, mut sum) = (Extended::identity(), Extended::identity());
            let (rows, _) = self.sums.as_chunks::<8>();
            for rows in rows.iter().rev() {
                let bucket = Extended::from_rows(rows.each_ref());
                above = above.add(&bucket.cached()).extended();
                sum = sum.add(&above.cached()).extended();
            }
            sum
        }
    }
}

vector! {
    /// The sums of eight lists of points, the first the longest.
    fn add_up(lists: &[&[u32]; 8], points: &[AffineRow]) -> Extended {
        let mut sum = take(lists, 0, points).extended();
        for step in 1..lists[0].len() {
            sum = sum.add_affine(&take(lists, step, points)).extended();
        }
        sum
    }
}

vector! {
    /// Entry `step` of each list; the neutral point where there is none.
    fn take(lists: &[&[u32]; 8], step: usize, points: &[AffineRow]) -> Affine {
        let mut negative: Mask = 0;
        let rows = std::array::from_fn(|lane| match lists[lane].get(step) {
            Some(entry) => {
                negative |= ((entry & 1) as u8) << lane;
                &points[(entry >> 1) as usize]
            }
            None => &AffineRow::IDENTITY,
        });
        Affine::from_rows(rows).negate_lanes(negative)
    }
}
