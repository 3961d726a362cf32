//! Tests of the split policy, on a backend without arithmetic that counts what it is asked.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// What an item of the counting backend is, told by its message's first byte.
const REFUSED: u8 = b'r';
const VALID: u8 = b'v';
const INVALID: u8 = b'i';

/// A backend whose answers are written in the items, and which counts bulk checks, their items, and
/// items alone.
#[derive(Clone, Copy)]
struct Counting<'a>(&'a Counts);

#[derive(Default)]
struct Counts {
    together: AtomicUsize,
    together_items: AtomicUsize,
    alone_items: AtomicUsize,
    remembered: AtomicUsize,
}

impl Counts {
    fn alone(&self) -> usize {
        self.alone_items.load(Ordering::Relaxed)
    }

    fn together(&self) -> (usize, usize) {
        (self.together.load(Ordering::Relaxed), self.together_items.load(Ordering::Relaxed))
    }
}

/// Prices at which every part of four items or more is checked together at first.
const PRICES: Prices = Prices {
    alone: 3_000,
    together: &[Price { items: 4, each: 2_000 }, Price { items: 64, each: 1_000 }],
};

impl Backend for Counting<'_> {
    type Decoded = Vec<bool>;
    type Cache = ();

    const PRICES: Prices = PRICES;
    const ORACLE_ITEMS_MAX: usize = 0;

    fn new_cache(self) {}

    fn challenges(self, _: &[Item<'_>]) -> Vec<[u8; 64]> {
        unreachable!("a chunk is judged without it")
    }

    fn decode(self, items: &[Item<'_>], (): &(), admitted: &mut Vec<usize>) -> Vec<bool> {
        admitted.extend((0..items.len()).filter(|&index| items[index].message[0] != REFUSED));
        admitted.iter().map(|&index| items[index].message[0] == VALID).collect()
    }

    fn hold_together(
        self,
        decoded: &Vec<bool>,
        range: Range<usize>,
        coefficients: &mut Coefficients,
    ) -> bool {
        self.0.together.fetch_add(1, Ordering::Relaxed);
        self.0.together_items.fetch_add(range.len(), Ordering::Relaxed);
        coefficients.draw();
        decoded[range].iter().all(|valid| *valid)
    }

    fn hold_alone(
        self,
        decoded: &Vec<bool>,
        range: Range<usize>,
        (): &(),
        verdicts: &mut [Verdict],
    ) {
        self.0.alone_items.fetch_add(range.len(), Ordering::Relaxed);
        for (verdict, valid) in verdicts.iter_mut().zip(&decoded[range]) {
            *verdict = Verdict::of(*valid);
        }
    }

    fn remember(self, _: &Vec<bool>, verdicts: &[Verdict], (): &()) {
        let valid = verdicts.iter().filter(|verdict| verdict.is_valid()).count();
        self.0.remembered.fetch_add(valid, Ordering::Relaxed);
    }
}

/// What a verifier has beside its backend.
struct Shared {
    secret: Secret,
    source: Source,
}

fn shared(seed_byte: u8) -> Shared {
    let secret = Secret::new(|seed| {
        seed.fill(seed_byte);
        Ok(())
    });
    Shared { secret: secret.unwrap(), source: Source::new() }
}

/// Runs one chunk whose items are the bytes of `kinds`, checks all verdicts and returns the counts.
fn run(kinds: &[u8], shared: &Shared) -> Counts {
    let items: Vec<_> = kinds
        .chunks(1)
        .map(|message| Item { key: &[0; 32], message, signature: &[0; 64] })
        .collect();
    let counts = Counts::default();
    // The worst start: whatever is not overwritten would pass.
    let mut verdicts = vec![Verdict::Valid; items.len()];
    let Shared { secret, source } = shared;
    Chunk { items: &items, verdicts: &mut verdicts, way: Way::Together, secret, source }
        .run(Counting(&counts), &());
    for (kind, verdict) in kinds.iter().zip(verdicts) {
        assert_eq!(verdict.is_valid(), *kind == VALID);
    }
    let valid = kinds.iter().filter(|kind| **kind == VALID).count();
    assert_eq!(counts.remembered.load(Ordering::Relaxed), valid);
    counts
}

/// A small generator for patterns: no secret, the same in every run.
struct Pattern(Cell<u64>);

impl Pattern {
    fn below(&self, limit: usize) -> usize {
        let next = self.0.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0.set(next);
        usize::try_from(next >> 33).unwrap() % limit
    }
}

#[test]
fn a_chunk_of_valid_items_is_one_bulk_check_of_the_admitted() {
    let shared = shared(1);
    for count in [0, 1, 2, 3] {
        let counts = run(&vec![VALID; count], &shared);
        assert_eq!((counts.together(), counts.alone()), ((0, 0), count), "{count} items");
    }
    for count in [4, 5, 15, 16, 17, 64, 65, 1_000, CHUNK_ITEMS_MAX] {
        let counts = run(&vec![VALID; count], &shared);
        assert_eq!((counts.together(), counts.alone()), ((1, count), 0), "{count} items");
        let mut kinds = vec![VALID; count];
        kinds[0] = REFUSED;
        kinds[count / 2] = REFUSED;
        kinds[count - 1] = REFUSED;
        if count >= 3 + PRICES.together[0].items {
            assert_eq!(run(&kinds, &shared).together(), (1, count - 3), "refused ones stay out");
        }
    }
}

#[test]
fn the_first_bad_items_cost_their_chunk_twice_and_later_ones_a_small_part() {
    let shared = shared(2);
    let mut kinds = vec![VALID; CHUNK_ITEMS_MAX];
    kinds[500] = INVALID;
    let first = run(&kinds, &shared);
    assert_eq!((first.together(), first.alone()), ((1, CHUNK_ITEMS_MAX), CHUNK_ITEMS_MAX));
    for _ in 0..100 {
        run(&kinds, &shared);
    }
    let later = run(&kinds, &shared);
    assert_eq!((later.together(), later.alone()), ((16, CHUNK_ITEMS_MAX), 64));
}

#[test]
fn no_pattern_of_bad_items_costs_more_than_once_together_and_once_alone() {
    let shared = shared(3);
    let pattern = Pattern(Cell::new(99));
    for round in 0..600 {
        let count = 1 + pattern.below(CHUNK_ITEMS_MAX);
        let rarity = [1, 2, 3, 8, 16, 64, 400][round % 7];
        let stride = 1 + pattern.below(40);
        let kinds: Vec<_> = (0..count)
            .map(|index| match round % 3 {
                0 if index % stride == 0 => INVALID,
                1 if index < count / rarity => INVALID,
                2 if pattern.below(rarity) == 0 => INVALID,
                _ => VALID,
            })
            .collect();
        let counts = run(&kinds, &shared);
        assert!(counts.together().1 <= count && counts.alone() <= count, "round {round}");
    }
}

#[test]
fn while_most_items_are_bad_none_is_checked_together() {
    let shared = shared(4);
    run(&vec![INVALID; CHUNK_ITEMS_MAX], &shared);
    for count in [4, 16, 64, CHUNK_ITEMS_MAX] {
        let counts = run(&vec![INVALID; count], &shared);
        assert_eq!((counts.together(), counts.alone()), ((0, 0), count), "{count} items");
    }
}

#[test]
fn only_what_is_left_after_refusal_is_checked() {
    for kinds in [b"r".as_slice(), b"rrrr", b"rvr", b"rvrirr", b"rrvvrivvvrr"] {
        let admitted = kinds.iter().filter(|kind| **kind != REFUSED).count();
        let counts = run(kinds, &shared(6));
        assert_eq!(counts.alone(), admitted, "too few, or failed together");
    }
}

/// A backend that says no to every bulk check and yes to every item: broken arithmetic.
#[derive(Clone, Copy)]
struct Broken;

impl Backend for Broken {
    type Decoded = ();
    type Cache = ();

    const PRICES: Prices = PRICES;
    const ORACLE_ITEMS_MAX: usize = 0;

    fn new_cache(self) {}

    fn challenges(self, _: &[Item<'_>]) -> Vec<[u8; 64]> {
        unreachable!("a chunk is judged without it")
    }

    fn decode(self, items: &[Item<'_>], (): &(), admitted: &mut Vec<usize>) {
        admitted.extend(0..items.len());
    }

    fn hold_together(self, (): &(), _: Range<usize>, _: &mut Coefficients) -> bool {
        false
    }

    fn hold_alone(self, (): &(), _: Range<usize>, (): &(), verdicts: &mut [Verdict]) {
        verdicts.fill(Verdict::Valid);
    }

    fn remember(self, (): &(), _: &[Verdict], (): &()) {}
}

#[test]
#[should_panic(expected = "a part that fails has an invalid item")]
fn arithmetic_that_contradicts_itself_stops_the_process() {
    let item = Item { key: &[0; 32], message: b"", signature: &[0; 64] };
    let (items, mut verdicts) = ([item; 8], [Verdict::Invalid; 8]);
    let Shared { secret, source } = &shared(7);
    Chunk { items: &items, verdicts: &mut verdicts, way: Way::Together, secret, source }
        .run(Broken, &());
}
