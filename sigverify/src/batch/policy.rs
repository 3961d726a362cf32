//! How large the parts are that are checked together: what that costs, and how often it fails.
//!
//! A part of n items costs n·t(n) together, and if one of them is bad n·a more, each alone. With a
//! share f of bad items, spread evenly, a part fails with the probability 1 − (1 − f)^n. The size is
//! the one of the backend's price list with the least t(n) + (1 − (1 − f)^n)·a, or none where a
//! alone is less: bad items make the parts of their source smaller, and bulk checks never a loss but
//! for the first chunks of an attack, which cost t + a at most.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Verdict;

/// Items over which a share of bad ones is remembered, about.
const MEMORY_ITEMS: f64 = 8_192.0;

/// What a backend's checks of decoded items cost, in nanoseconds of one core an item, measured.
pub(crate) struct Prices {
    /// An item alone, eight or more at a time.
    pub(crate) alone: u32,
    /// Items together, the fewest first.
    pub(crate) together: &'static [Price],
}

/// What a bulk check of so many items costs.
pub(crate) struct Price {
    /// Items checked together.
    pub(crate) items: usize,
    /// Nanoseconds an item.
    pub(crate) each: u32,
}

/// Where items come from: the share of them that was bad of late.
///
/// Items of one call are of one source, so whoever sends forgeries makes bulk checks smaller for
/// those who share the source and for nobody else. A caller that checks several senders together does it
/// with a new source, counts their verdicts itself, and gives those who forge sources of their own.
#[derive(Debug, Default)]
pub struct Source(AtomicU64);

impl Source {
    /// One that has sent nothing yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether any of the last thousands of its items was bad.
    pub fn is_suspected(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The size of the parts that `count` entries are best cut into, or `None` where each is better checked
    /// alone.
    pub(crate) fn size(&self, prices: &Prices, count: usize) -> Option<usize> {
        let share = f64::from_bits(self.0.load(Ordering::Relaxed));
        let alone = f64::from(prices.alone);
        let (mut best, mut size) = (alone, None);
        let fitting = prices.together.iter().take_while(|price| price.items <= count);
        // All in one part is the last choice, at the price of the largest size that fits.
        let whole = fitting.clone().last().map(|price| (count, price.each));
        for (items, each) in fitting.map(|price| (price.items, price.each)).chain(whole) {
            let exponent = i32::try_from(items).expect("a chunk is small");
            let fails = 1.0 - (1.0 - share).powi(exponent);
            let expected = f64::from(each) + fails * alone;
            // Equally good ones: fewer parts.
            if expected <= best {
                (best, size) = (expected, Some(items));
            }
        }
        size
    }

    /// Counts verdicts: those of a chunk, or those that a caller found of some items of a shared call.
    pub fn count(&self, verdicts: &[Verdict]) {
        let bad = verdicts.iter().filter(|verdict| !verdict.is_valid()).count();
        let before = f64::from_bits(self.0.load(Ordering::Relaxed));
        if verdicts.is_empty() || (bad == 0 && before == 0.0) {
            return;
        }
        let (bad, all) = (bad as f64, verdicts.len() as f64);
        let weight = (all / MEMORY_ITEMS).min(1.0);
        let after = before + (bad / all - before) * weight;
        // Below a bad item in a million nothing changes any more.
        let after = if after < 1e-6 { 0.0 } else { after };
        // Two threads may count at once and one be forgotten: it is an estimate.
        self.0.store(after.to_bits(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices {
        alone: 3_000,
        together: &[
            Price { items: 16, each: 2_400 },
            Price { items: 64, each: 1_400 },
            Price { items: 1_024, each: 700 },
        ],
    };

    /// Sizes chosen for a full chunk after long runs with a bad item in so many.
    fn settled(one_in: usize) -> Option<usize> {
        let source = Source::new();
        for chunk in 0..1_000 {
            let verdict = |item: usize| Verdict::of(!(chunk * 1_024 + item).is_multiple_of(one_in));
            source.count(&(0..1_024).map(verdict).collect::<Vec<_>>());
        }
        source.size(&PRICES, 1_024)
    }

    #[test]
    fn without_failures_everything_is_one_part() {
        let source = Source::new();
        for count in [16, 17, 63, 64, 500, 1_023, 1_024] {
            assert_eq!(source.size(&PRICES, count), Some(count));
        }
        for count in [0, 1, 15] {
            assert_eq!(source.size(&PRICES, count), None, "too few for any");
        }
    }

    #[test]
    fn more_bad_items_make_smaller_parts_and_then_none() {
        assert_eq!(settled(1_000_000), Some(1_024));
        assert_eq!(settled(1_000), Some(64));
        assert_eq!(settled(100), Some(64));
        assert_eq!(settled(20), None);
        assert_eq!(settled(1), None);
    }

    #[test]
    fn an_attack_is_forgotten_after_a_while() {
        let source = Source::new();
        source.count(&[Verdict::Invalid; 1_024]);
        assert_eq!(source.size(&PRICES, 1_024), None);
        let mut chunks = 0;
        while source.size(&PRICES, 1_024) != Some(1_024) {
            source.count(&[Verdict::Valid; 1_024]);
            chunks += 1;
        }
        assert!((16..200).contains(&chunks), "{chunks}");
    }

    #[test]
    fn the_share_forgets_entirely_when_nothing_is_bad() {
        let source = Source::new();
        source.count(&[Verdict::Invalid; 8]);
        for _ in 0..1_000 {
            source.count(&[Verdict::Valid; 1_024]);
        }
        assert_eq!(source.0.load(Ordering::Relaxed), 0);
    }
}
