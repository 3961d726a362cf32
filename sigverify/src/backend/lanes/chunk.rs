//! A chunk of items in groups of eight: decoded, then judged together or alone.

#![expect(unsafe_code, reason = "entering code for CPU features that the token proves")]

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::cache::{Cache, Hot};
use super::point::{self, AffineRow, decompress};
use super::scalar::Scalars;
use super::together::Sum;
use super::vector::{load, splat, store, transpose};
use super::{ORACLE_ITEMS_MAX, PRICES, alone, base, few, hot, sha512};
use crate::batch::Prices;
use crate::coefficients::Coefficients;
use crate::keys::{Distinct, KeyHash};
use crate::rule::{encoding_is_allowed, response_is_allowed, split};
use crate::{Item, Verdict};

/// The token: whoever holds one knows that the CPU has the features.
#[derive(Clone, Copy)]
pub(crate) struct Backend(());

/// A chunk's admitted items: their claims, and each distinct key once.
pub(crate) struct Decoded {
    /// The points of all entries and keys, and some that nobody refers to.
    points: Vec<AffineRow>,
    pub(super) claims: Vec<Claim>,
    keys: Vec<Key>,
}

/// One entry: where its point R and its key are, and its scalars.
pub(super) struct Claim {
    /// Index in [`Decoded::points`].
    commitment: usize,
    /// Index in [`Decoded::keys`].
    key: usize,
    /// k·R of Montgomery's products, limbs.
    pub(super) challenge_times_r: [u64; 8],
    /// S, words.
    pub(super) response: [u64; 8],
}

/// A distinct key of the chunk.
struct Key {
    hash: KeyHash,
    bytes: [u8; 32],
    /// Index in [`Decoded::points`].
    point: usize,
    /// Whether it came from the cache, so that it need not be put there.
    cached: bool,
}

impl Decoded {
    pub(super) fn commitment(&self, claim: &Claim) -> &AffineRow {
        &self.points[claim.commitment]
    }

    pub(super) fn key(&self, claim: &Claim) -> &AffineRow {
        &self.points[self.keys[claim.key].point]
    }
}

impl Backend {
    /// Makes the token if the CPU has the features.
    pub(crate) fn detect() -> Option<Self> {
        super::has_features().then_some(Self(()))
    }
}

impl crate::backend::Backend for Backend {
    type Decoded = Decoded;
    type Cache = Cache;

    const PRICES: Prices = PRICES;
    const ORACLE_ITEMS_MAX: usize = ORACLE_ITEMS_MAX;

    fn new_cache(self) -> Self::Cache {
        // With the cache, so that no check waits for them.
        base::make_tables();
        Cache::new()
    }

    fn challenges(self, items: &[Item<'_>]) -> Vec<[u8; 64]> {
        // SAFETY: the token says that the CPU has the features.
        unsafe { challenges(items) }
    }

    fn decode(self, items: &[Item<'_>], cache: &Cache, admitted: &mut Vec<usize>) -> Decoded {
        assert!(admitted.is_empty());
        // SAFETY: the token says that the CPU has the features.
        unsafe { decode(items, cache, admitted) }
    }

    fn hold_together(
        self,
        decoded: &Decoded,
        range: Range<usize>,
        coefficients: &mut Coefficients,
    ) -> bool {
        // SAFETY: the token says that the CPU has the features.
        unsafe { hold_together(decoded, range, coefficients) }
    }

    fn hold_alone(
        self,
        decoded: &Decoded,
        range: Range<usize>,
        cache: &Cache,
        verdicts: &mut [Verdict],
    ) {
        assert_eq!(range.len(), verdicts.len());
        // SAFETY: the token says that the CPU has the features.
        unsafe { hold_alone(decoded, range, cache, verdicts) }
    }

    fn remember(self, decoded: &Decoded, verdicts: &[Verdict], cache: &Cache) {
        assert_eq!(decoded.claims.len(), verdicts.len());
        let mut valid = vec![false; decoded.keys.len()];
        for (claim, verdict) in decoded.claims.iter().zip(verdicts) {
            valid[claim.key] |= verdict.is_valid();
        }
        for (key, valid) in decoded.keys.iter().zip(valid) {
            if valid && !key.cached {
                cache.points.see(key.hash, &key.bytes, &decoded.points[key.point]);
            }
        }
    }
}

vector! {
    fn challenges(items: &[Item<'_>]) -> Vec<[u8; 64]> {
        let mut digests = Vec::with_capacity(items.len().next_multiple_of(8));
        for group in items.chunks(8) {
            let item = |lane: usize| &group[lane.min(group.len() - 1)];
            let words = sha512::challenges(&std::array::from_fn(item));
            digests.extend(transpose(words).map(|row| bytes(store(row))));
        }
        digests.truncate(items.len());
        digests
    }
}

vector! {
    fn decode(items: &[Item<'_>], cache: &Cache, admitted: &mut Vec<usize>) -> Decoded {
        let mut distinct = Distinct::new(items.len());
        // First what bytes alone decide; then all points at once, each a place in `encodings`.
        let mut candidates = Vec::with_capacity(items.len());
        let mut encodings = Vec::with_capacity(2 * items.len());
        for (index, item) in items.iter().enumerate() {
            let (commitment, response) = split(item.signature);
            if response_is_allowed(response)
                && encoding_is_allowed(commitment)
                && encoding_is_allowed(item.key)
            {
                encodings.push(*commitment);
                let key = distinct.place(cache.points.hash(item.key), item.key);
                candidates.push((index, key));
            }
        }
        // Behind the points that are decoded come those that are known.
        let mut known = Vec::new();
        let mut keys = Vec::with_capacity(distinct.keys.len());
        for (hash, bytes) in distinct.keys {
            let cached = cache.points.get(hash, bytes);
            let point = encodings.len();
            match cached {
                Some(row) => known.push((keys.len(), row)),
                None => encodings.push(*bytes),
            }
            keys.push(Key { hash, bytes: *bytes, point, cached: cached.is_some() });
        }
        let (mut points, exists) = decode_points(&encodings, known.len());
        for (key, row) in known {
            keys[key].point = points.len();
            points.push(row);
        }
        let mut decoded = Decoded { points, claims: Vec::with_capacity(candidates.len()), keys };
        for (commitment, (index, key)) in candidates.into_iter().enumerate() {
            let Key { point, cached, .. } = decoded.keys[key];
            if exists[commitment] && (cached || exists[point]) {
                admitted.push(index);
                decoded.claims.push(Claim {
                    commitment,
                    key,
                    challenge_times_r: [0; 8],
                    response: words(split(items[index].signature).1),
                });
            }
        }
        // By length: a long message keeps eight lanes busy, so it had better be among its like.
        let mut order: Vec<usize> = (0..admitted.len()).collect();
        order.sort_by_key(|entry| sha512::blocks(items[admitted[*entry]].message.len()));
        for group in order.chunks(8) {
            let item = |lane: usize| &items[admitted[group[lane.min(group.len() - 1)]]];
            let words = sha512::challenges(&std::array::from_fn(item));
            let rows = Scalars::from_wide_times_r(words).to_rows();
            for (entry, row) in group.iter().zip(rows) {
                decoded.claims[*entry].challenge_times_r = row;
            }
        }
        decoded
    }
}

vector! {
    /// The rows of encoded points, sixteen at a time, and whether there is such a point; with room for
    /// more rows.
    pub(super) fn decode_points(encodings: &[[u8; 32]], more: usize) -> (Vec<AffineRow>, Vec<bool>) {
        let rows = encodings.len().next_multiple_of(8);
        let mut points = Vec::with_capacity(rows + more);
        let mut exists = Vec::with_capacity(rows);
        let mut take = |(decoded, found): (point::Decoded, u8)| {
            points.extend(decoded.affine().to_rows());
            exists.extend((0..8).map(|lane| found >> lane & 1 == 1));
        };
        for group in encodings.chunks(16) {
            // Lanes that are left over repeat the last one.
            let eight =
                |first: usize| std::array::from_fn(|lane| group[(first + lane).min(group.len() - 1)]);
            if group.len() <= 8 {
                let [first] = decompress(&[eight(0)]);
                take(first);
            } else {
                let [first, second] = decompress(&[eight(0), eight(8)]);
                take(first);
                take(second);
            }
        }
        (points, exists)
    }
}

vector! {
    fn hold_together(decoded: &Decoded, range: Range<usize>, coefficients: &mut Coefficients) -> bool {
        let claims = &decoded.claims[range];
        let mut sum = Sum::new(claims.len(), claims.len().min(decoded.keys.len()) + 1);
        let mut key_sums = vec![[0_u64; 8]; decoded.keys.len()];
        let mut base_sum = [0_u64; 5];
        for claims in claims.chunks(8) {
            let mut commitments = [AffineRow::IDENTITY; 8];
            for (row, claim) in commitments.iter_mut().zip(claims) {
                *row = *decoded.commitment(claim);
            }
            let mut low = [0; 8];
            let mut high = [0; 8];
            for (low, high) in low.iter_mut().zip(&mut high).take(claims.len()) {
                [*low, *high] = coefficients.draw_words();
            }
            let words = [load(&low), load(&high), splat(0), splat(0)];
            let coefficients = sum.add_short(&commitments[..claims.len()], &Scalars::from_words(words));
            let claim = |lane: usize| &claims[lane.min(claims.len() - 1)];
            let rows = std::array::from_fn(|lane| &claim(lane).challenge_times_r);
            let challenges = Scalars::from_rows(rows).times(&coefficients).limbs();
            let rows = std::array::from_fn(|lane| load(&claim(lane).response));
            let [w0, w1, w2, w3, ..] = transpose(rows);
            let responses = Scalars::from_words([w0, w1, w2, w3]).times(&coefficients).limbs();
            for (lane, claim) in claims.iter().enumerate() {
                let key_sum = &mut key_sums[claim.key];
                for limb in 0..5 {
                    key_sum[limb] += challenges[limb][lane];
                    base_sum[limb] += responses[limb][lane];
                }
            }
        }
        let mut used = Vec::with_capacity(decoded.keys.len());
        used.extend((0..decoded.keys.len()).filter(|key| key_sums[*key] != [0; 8]));
        for group in used.chunks(8) {
            let mut points = [AffineRow::IDENTITY; 8];
            let mut sums = [[0; 8]; 8];
            for (lane, key) in group.iter().enumerate() {
                points[lane] = decoded.points[decoded.keys[*key].point];
                sums[lane] = key_sums[*key];
            }
            let [l0, l1, l2, l3, l4, ..] = transpose(sums.map(|row| load(&row)));
            sum.add_long(&points[..group.len()], &Scalars::from_sums([l0, l1, l2, l3, l4]));
        }
        let base = Scalars::from_sums(base_sum.map(|limb| splat(limb))).restored();
        sum.add_long(&[*base::negative()], &base);
        sum.is_small()
    }
}

vector! {
    fn hold_alone(decoded: &Decoded, range: Range<usize>, cache: &Cache, verdicts: &mut [Verdict]) {
        let start = range.start;
        let mut tables: HashMap<usize, Option<Arc<Hot>>> = HashMap::new();
        let (mut hot, mut cold) = (Vec::new(), Vec::with_capacity(range.len()));
        if !cache.has_tables() {
            cold.extend(range.clone());
        }
        for entry in range.skip(cold.len()) {
            let key = decoded.claims[entry].key;
            let table = tables.entry(key).or_insert_with(|| cache.table(&decoded.keys[key].bytes));
            match table {
                Some(table) => {
                    table.count_use();
                    hot.push(entry);
                }
                None => cold.push(entry),
            }
        }
        // Rows of one table, one after the other.
        hot.sort_by_key(|entry| decoded.claims[*entry].key);
        for group in hot.chunks(8) {
            let table = |lane: usize| {
                let key = decoded.claims[group[lane.min(group.len() - 1)]].key;
                &tables[&key].as_ref().expect("it was just found").table
            };
            let hold = hot::hold(&std::array::from_fn(table), &equations(decoded, group));
            for (lane, entry) in group.iter().enumerate() {
                verdicts[entry - start] = Verdict::of(hold >> lane & 1 == 1);
            }
        }
        let mut cold_left = cold.as_slice();
        few::judge(decoded, &mut cold_left, start, verdicts);
        for group in cold_left.chunks(8) {
            let hold = alone::hold(&equations(decoded, group));
            for (lane, entry) in group.iter().enumerate() {
                verdicts[entry - start] = Verdict::of(hold >> lane & 1 == 1);
            }
        }
        for entry in cold {
            if verdicts[entry - start].is_valid() {
                let key = &decoded.keys[decoded.claims[entry].key];
                cache.count_use(key.hash, &key.bytes, &decoded.points[key.point]);
            }
        }
        let waiting = cache.take_waiting();
        if !waiting.is_empty() {
            let (keys, points): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
            cache.keep(keys.into_iter().zip(hot::build(&points)));
        }
    }
}

vector! {
    /// The equations of up to eight entries; lanes that are left over repeat the last one.
    fn equations<'a>(decoded: &'a Decoded, group: &[usize]) -> alone::Equations<'a> {
        let claim = |lane: usize| &decoded.claims[group[lane.min(group.len() - 1)]];
        let [w0, w1, w2, w3, ..] = transpose(std::array::from_fn(|lane| load(&claim(lane).response)));
        alone::Equations {
            keys: std::array::from_fn(|lane| decoded.key(claim(lane))),
            commitments: std::array::from_fn(|lane| decoded.commitment(claim(lane))),
            challenges: Scalars::from_rows(std::array::from_fn(|lane| {
                &claim(lane).challenge_times_r
            }))
            .without_r(),
            responses: Scalars::from_words([w0, w1, w2, w3]),
        }
    }
}

/// Little-endian words as bytes.
fn bytes(words: [u64; 8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    bytes
}

/// A 32-byte number as four words of eight.
fn words(bytes: &[u8; 32]) -> [u64; 8] {
    let (chunks, _) = bytes.as_chunks::<8>();
    let mut words = [0; 8];
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}
