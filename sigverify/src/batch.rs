//! One chunk of items: all checked at once, and the bad ones found at a bounded price.

use std::ops::Range;

use crate::backend::{Backend, Job};
use crate::coefficients::{Coefficients, Secret};
use crate::keys::Keys;
use crate::{Item, Verdict};

/// Most items of one bulk check.
///
/// Measured, µs an item, one core, keys unknown / known / 64 in all: 512 items 17.5 / 12.5 / 9.0,
/// 1,024 items 16.5 / 11.8 / 8.9, 2,048 items 16.6 / 11.5 / 8.5, 4,096 items 16.1 / 11.2 / 7.5. The
/// last few percent are not worth a four times larger target: one bad item doubles the price of its
/// whole chunk.
pub const CHUNK_ITEMS_MAX: usize = 1_024;

/// Fewest items that are checked in bulk.
///
/// Measured, µs an item: 4 items hold together in 30 instead of 43 alone, 2 items in 38, but a pair
/// made to fail costs 71.
const BULK_ITEMS_MIN: usize = 4;

/// Items of one group of a failed chunk: 14 µs an item in bulk once decoded, 34 alone; larger
/// groups gain little.
const GROUP_ITEMS: usize = 16;

/// Fewest groups that are tried one by one; with fewer a failed try weighs more than the rest can
/// win back.
const GROUPS_MIN: usize = 4;

/// Groups of a failed chunk for each failed try that is allowed in advance.
const GROUPS_PER_CREDIT: usize = 8;

const _: () = assert!(BULK_ITEMS_MIN >= 2);
const _: () = assert!(CHUNK_ITEMS_MAX.is_multiple_of(GROUP_ITEMS));

/// What all chunks of one verifier share.
pub(crate) struct Shared {
    /// The cache of decoded keys.
    pub(crate) keys: Keys,
    /// Where coefficients come from.
    pub(crate) secret: Secret,
}

/// The job of judging one chunk: `verdicts[i]` answers `items[i]`.
pub(crate) struct Chunk<'a, 'b> {
    /// At most [`CHUNK_ITEMS_MAX`] items.
    pub(crate) items: &'a [Item<'b>],
    /// As many verdicts.
    pub(crate) verdicts: &'a mut [Verdict],
    /// The verifier's cache and secret.
    pub(crate) shared: &'a Shared,
}

impl Job for Chunk<'_, '_> {
    type Output = ();

    fn run<B: Backend>(self, backend: B) {
        let Chunk { items, verdicts, shared } = self;
        assert_eq!(items.len(), verdicts.len());
        assert!(items.len() <= CHUNK_ITEMS_MAX);
        let mut admitted = Vec::with_capacity(items.len());
        let decoded = backend.decode(items, &shared.keys, &mut admitted);
        // Only now, when nobody can change what was decoded and hashed, is the stream of
        // coefficients opened.
        let mut coefficients = shared.secret.coefficients();
        let mut answers = vec![Verdict::Invalid; admitted.len()];
        judge(backend, &decoded, &mut coefficients, &mut answers);
        backend.remember(&decoded, &answers, &shared.keys);
        verdicts.fill(Verdict::Invalid);
        for (index, answer) in admitted.into_iter().zip(answers) {
            verdicts[index] = answer;
        }
    }
}

/// Judges all decoded items: together if that holds, otherwise by parts.
fn judge<B: Backend>(
    backend: B,
    decoded: &B::Decoded,
    coefficients: &mut Coefficients,
    answers: &mut [Verdict],
) {
    let all = 0..answers.len();
    if all.len() < BULK_ITEMS_MIN {
        backend.hold_alone(decoded, all, answers);
    } else if backend.hold_together(decoded, all, coefficients) {
        answers.fill(Verdict::Valid);
    } else {
        find_invalid(backend, decoded, coefficients, answers);
        // Equations that hold one by one add up to one that holds: only broken arithmetic gets here
        // otherwise.
        assert!(answers.contains(&Verdict::Invalid), "a batch that fails has an invalid item");
    }
}

/// Finds the invalid items of a chunk that failed as a whole: by groups in bulk while that pays,
/// otherwise each alone.
///
/// Bounds: every item is checked alone at most once. A group that holds earns a credit, a group
/// that fails costs one, and a group without credit is not tried in bulk, so the failed tries
/// exceed the others by at most an eighth of the groups. A try that holds saves more (20 µs an
/// item) than one that fails wastes (14): whatever is wrong with the items, the whole costs at most
/// those tries more than individual checks. The first group is drawn in secret, or spoiling just
/// the first few groups would use up the credit.
fn find_invalid<B: Backend>(
    backend: B,
    decoded: &B::Decoded,
    coefficients: &mut Coefficients,
    answers: &mut [Verdict],
) {
    let groups = answers.len().div_ceil(GROUP_ITEMS);
    let mut credit = credit_first(groups);
    let first = coefficients.draw_index(groups);
    for step in 0..groups {
        let range = group_range((first + step) % groups, answers.len());
        let group = &mut answers[range.clone()];
        if credit > 0 && backend.hold_together(decoded, range.clone(), coefficients) {
            group.fill(Verdict::Valid);
            credit += 1;
        } else {
            backend.hold_alone(decoded, range, group);
            credit = credit.saturating_sub(1);
        }
    }
}

/// The failed tries that a chunk of so many groups may have before any has held.
fn credit_first(groups: usize) -> usize {
    if groups < GROUPS_MIN { 0 } else { groups.div_ceil(GROUPS_PER_CREDIT) }
}

/// The entries of one group of a chunk with `count` entries.
fn group_range(group: usize, count: usize) -> Range<usize> {
    let start = group * GROUP_ITEMS;
    start..count.min(start + GROUP_ITEMS)
}

#[cfg(test)]
mod tests;
