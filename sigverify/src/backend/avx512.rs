//! The backend for AVX-512 with IFMA: eight items side by side, one in each 64-bit lane.

#![expect(unsafe_code, reason = "entering code for CPU features that the token proves")]

mod alone;
mod base;
mod cache;
mod field;
mod hot;
mod lanes;
mod point;
mod scalar;
mod sha512;
mod single;
#[cfg(test)]
mod tests;
mod together;

use std::arch::x86_64::_mm512_mask_mov_epi64;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use cache::{Cache, Hot};
use lanes::{load, splat, store, transpose};
use point::{AffineRow, Extended, decompress};
use scalar::Scalars;
use together::Sum;

use crate::batch::{Price, Prices};
use crate::coefficients::Coefficients;
use crate::keys::{Distinct, KeyHash};
use crate::rule::{encoding_is_allowed, response_is_allowed, split};
use crate::{Item, Verdict};

/// The token: whoever holds one knows that the CPU has the features.
#[derive(Clone, Copy)]
pub(crate) struct Backend(());

/// A chunk's admitted items: their claims, and each distinct key once.
pub(crate) struct Decoded {
    /// The points R, an entry each.
    commitments: Vec<AffineRow>,
    /// The rest of each entry.
    claims: Vec<Claim>,
    keys: Vec<Key>,
}

/// An entry's scalars, and the index of its key in [`Decoded::keys`].
struct Claim {
    key_index: usize,
    /// k·R of Montgomery's products, limbs.
    challenge_times_r: [u64; 8],
    /// S, words.
    response: [u64; 8],
}

/// A distinct key of the chunk.
struct Key {
    hash: KeyHash,
    bytes: [u8; 32],
    point: AffineRow,
    /// Whether it came from the cache, so that it need not be put there.
    cached: bool,
}

impl Backend {
    /// Makes the token if the CPU has the features.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512ifma")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw");
        found.then_some(Self(()))
    }
}

impl super::Backend for Backend {
    type Decoded = Decoded;
    type Cache = Cache;

    const PRICES: Prices = Prices {
        alone: 2_900,
        together: &[
            Price { items: 24, each: 2_400 },
            Price { items: 64, each: 1_450 },
            Price { items: 256, each: 950 },
            Price { items: 1_024, each: 710 },
        ],
    };

    fn new_cache(self) -> Self::Cache {
        Cache::new()
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
            valid[claim.key_index] |= verdict.is_valid();
        }
        for (key, valid) in decoded.keys.iter().zip(valid) {
            if valid && !key.cached {
                cache.points.see(key.hash, &key.bytes, &key.point);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
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
    let look_up = |(hash, bytes): &(KeyHash, &[u8; 32])| cache.points.get(*hash, bytes);
    let cached: Vec<Option<AffineRow>> = distinct.keys.iter().map(look_up).collect();
    let unknown = distinct.keys.iter().zip(&cached).filter(|(_, cached)| cached.is_none());
    encodings.extend(unknown.map(|((_, bytes), _)| **bytes));
    let points = decode_points(&encodings);
    let (commitments, unknown) = points.split_at(candidates.len());
    let mut unknown = unknown.iter();
    let mut exists = Vec::with_capacity(cached.len());
    let mut keys = Vec::with_capacity(cached.len());
    for ((hash, bytes), cached) in distinct.keys.into_iter().zip(cached) {
        let point = cached.or_else(|| *unknown.next().expect("each one was decoded"));
        exists.push(point.is_some());
        // One that does not exist has no claims.
        let point = point.unwrap_or(AffineRow::IDENTITY);
        keys.push(Key { hash, bytes: *bytes, point, cached: cached.is_some() });
    }
    let mut decoded = Decoded {
        commitments: Vec::with_capacity(candidates.len()),
        claims: Vec::with_capacity(candidates.len()),
        keys,
    };
    for ((index, key), commitment) in candidates.into_iter().zip(commitments) {
        let Some(commitment) = commitment.filter(|_| exists[key]) else { continue };
        admitted.push(index);
        decoded.commitments.push(commitment);
        decoded.claims.push(Claim {
            key_index: key,
            challenge_times_r: [0; 8],
            response: words(split(items[index].signature).1),
        });
    }
    for (group, claims) in admitted.chunks(8).zip(decoded.claims.chunks_mut(8)) {
        let item = |lane: usize| &items[group[lane.min(group.len() - 1)]];
        let words = sha512::challenges(&std::array::from_fn(item));
        let Scalars([l0, l1, l2, l3, l4]) = Scalars::from_wide_times_r(words);
        let none = splat(0);
        let rows = transpose([l0, l1, l2, l3, l4, none, none, none]);
        for (claim, row) in claims.iter_mut().zip(rows) {
            claim.challenge_times_r = store(row);
        }
    }
    decoded
}

/// The rows of encoded points, sixteen at a time; `None` where there is no such point.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn decode_points(encodings: &[[u8; 32]]) -> Vec<Option<AffineRow>> {
    let mut points = Vec::with_capacity(encodings.len().next_multiple_of(8));
    let mut take = |(decoded, found): (point::Decoded, u8)| {
        let rows = decoded.affine().to_rows().into_iter().enumerate();
        points.extend(rows.map(|(lane, row)| (found >> lane & 1 == 1).then_some(row)));
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
    points.truncate(encodings.len());
    points
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn hold_together(decoded: &Decoded, range: Range<usize>, coefficients: &mut Coefficients) -> bool {
    let claims = &decoded.claims[range.clone()];
    let commitments = &decoded.commitments[range];
    let mut sum = Sum::new(claims.len(), claims.len().min(decoded.keys.len()) + 1);
    let mut key_sums = vec![[0_u64; 8]; decoded.keys.len()];
    let mut base_sum = [0_u64; 5];
    for (claims, commitments) in claims.chunks(8).zip(commitments.chunks(8)) {
        let mut low = [0; 8];
        let mut high = [0; 8];
        for (low, high) in low.iter_mut().zip(&mut high).take(claims.len()) {
            [*low, *high] = coefficients.draw_words();
        }
        let words = [load(&low), load(&high), splat(0), splat(0)];
        let coefficients = sum.add_short(commitments, &Scalars::from_words(words));
        let row = |lane: usize| claims[lane.min(claims.len() - 1)].challenge_times_r;
        let challenges = from_rows(std::array::from_fn(row)).times(&coefficients).limbs();
        let row = |lane: usize| claims[lane.min(claims.len() - 1)].response;
        let [w0, w1, w2, w3, ..] = transpose(std::array::from_fn(|lane| load(&row(lane))));
        let responses = Scalars::from_words([w0, w1, w2, w3]).times(&coefficients).limbs();
        for (lane, claim) in claims.iter().enumerate() {
            let key_sum = &mut key_sums[claim.key_index];
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
            points[lane] = decoded.keys[*key].point;
            sums[lane] = key_sums[*key];
        }
        let Scalars(limbs) = from_rows(sums);
        sum.add_long(&points[..group.len()], &Scalars::from_sums(limbs));
    }
    let base = Scalars::from_sums(base_sum.map(|limb| splat(limb))).restored();
    sum.add_long(&[*base::negative()], &base);
    sum.is_small()
}

/// Entries that are dearer in one group than one by one.
const SINGLE_MAX: usize = 2;

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn hold_alone(decoded: &Decoded, range: Range<usize>, cache: &Cache, verdicts: &mut [Verdict]) {
    let start = range.start;
    let mut tables: HashMap<usize, Option<Arc<Hot>>> = HashMap::new();
    let (mut hot, mut cold) = (Vec::new(), Vec::with_capacity(range.len()));
    if !cache.has_tables() {
        cold.extend(range.clone());
    }
    for entry in range.skip(cold.len()) {
        let key = decoded.claims[entry].key_index;
        let table = tables.entry(key).or_insert_with(|| cache.table(&decoded.keys[key].bytes));
        if table.is_some() { hot.push(entry) } else { cold.push(entry) }
    }
    // Rows of one table, one after the other.
    hot.sort_by_key(|entry| decoded.claims[*entry].key_index);
    for group in hot.chunks(8) {
        let table = |lane: usize| {
            let key = decoded.claims[group[lane.min(group.len() - 1)]].key_index;
            &tables[&key].as_ref().expect("it was just found").table
        };
        let hold = hot::hold(&std::array::from_fn(table), &equations(decoded, group));
        for (lane, entry) in group.iter().enumerate() {
            verdicts[entry - start] = Verdict::of(hold >> lane & 1 == 1);
        }
    }
    if cold.len() <= SINGLE_MAX {
        for entry in &cold {
            verdicts[entry - start] = Verdict::of(hold_single(decoded, *entry));
        }
    } else {
        for group in cold.chunks(8) {
            let hold = alone::hold(&equations(decoded, group));
            for (lane, entry) in group.iter().enumerate() {
                verdicts[entry - start] = Verdict::of(hold >> lane & 1 == 1);
            }
        }
    }
    for entry in cold {
        if verdicts[entry - start].is_valid() {
            let key = &decoded.keys[decoded.claims[entry].key_index];
            cache.count_use(key.hash, &key.bytes, &key.point);
        }
    }
    let waiting = cache.take_waiting();
    if !waiting.is_empty() {
        let (keys, points): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        cache.keep(keys.into_iter().zip(hot::build(&points)));
    }
}

/// The equations of up to eight entries; lanes that are left over repeat the last one.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn equations<'a>(decoded: &'a Decoded, group: &[usize]) -> alone::Equations<'a> {
    let entry = |lane: usize| group[lane.min(group.len() - 1)];
    let claim = |lane: usize| &decoded.claims[entry(lane)];
    let [w0, w1, w2, w3, ..] = transpose(std::array::from_fn(|lane| load(&claim(lane).response)));
    alone::Equations {
        keys: std::array::from_fn(|lane| &decoded.keys[claim(lane).key_index].point),
        commitments: std::array::from_fn(|lane| &decoded.commitments[entry(lane)]),
        challenges: from_rows(std::array::from_fn(|lane| claim(lane).challenge_times_r))
            .without_r(),
        responses: Scalars::from_words([w0, w1, w2, w3]),
    }
}

/// Judges one entry.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn hold_single(decoded: &Decoded, entry: usize) -> bool {
    let claim = &decoded.claims[entry];
    let Scalars(mut scalars) = from_rows([claim.challenge_times_r; 8]).without_r();
    let [w0, w1, w2, w3, ..] = claim.response.map(|word| splat(word));
    let Scalars(responses) = Scalars::from_words([w0, w1, w2, w3]);
    for (scalar, response) in scalars.iter_mut().zip(responses) {
        *scalar = _mm512_mask_mov_epi64(*scalar, 0b10, response);
    }
    let key = &decoded.keys[claim.key_index].point;
    let row = single::recompute(key, &Scalars(scalars));
    let found = Extended::from_rows([&row; 8]);
    alone::agree(&found, [&decoded.commitments[entry]; 8]) & 1 == 1
}

/// The limbs of one scalar a row, five of eight words.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn from_rows(rows: [[u64; 8]; 8]) -> Scalars {
    let [l0, l1, l2, l3, l4, ..] = transpose(rows.map(|row| load(&row)));
    Scalars([l0, l1, l2, l3, l4])
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
