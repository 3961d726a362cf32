//! Blocks that were checked or built here: the tips after each, and when it was first seen.

use ledger::{Digest, Height, Tips};
use std::{collections::BTreeMap, time::SystemTime};

/// Blocks that are remembered.
const BLOCKS_MAX: usize = 512;
/// A lane that advanced in one of so many blocks is busy: its next batch is on its way.
const BUSY_BLOCKS: u64 = 8;

/// The newest blocks, by height and digest: a view that came to nothing leaves its own beside another.
#[derive(Default)]
pub(super) struct Known(BTreeMap<(Height, Digest), (Tips, SystemTime)>);

impl Known {
    /// The tips after a block.
    pub(super) fn tips(&self, height: Height, digest: Digest) -> Option<&Tips> {
        self.0.get(&(height, digest)).map(|(tips, _)| tips)
    }

    /// When a block was first seen.
    pub(super) fn seen(&self, height: Height, digest: Digest) -> Option<SystemTime> {
        self.0.get(&(height, digest)).map(|(_, seen)| *seen)
    }

    /// Remembers a block that is seen now, unless it is known; forgets the lowest beyond the limit.
    pub(super) fn remember(&mut self, height: Height, digest: Digest, tips: Tips, now: SystemTime) {
        self.0.entry((height, digest)).or_insert((tips, now));
        if self.0.len() > BLOCKS_MAX {
            self.0.pop_first();
        }
    }

    /// The lanes that advanced in one of the newest blocks up to `height`, after which they stand at `tips`;
    /// none where these blocks were not seen.
    pub(super) fn busy(&self, height: Height, tips: &Tips) -> Vec<usize> {
        let from = Height(height.get().saturating_sub(BUSY_BLOCKS));
        let oldest = self.0.range((from, Digest::ZERO)..).next();
        let Some((_, (before, _))) = oldest else { return Vec::new() };
        let both = tips.0.iter().zip(&before.0).enumerate();
        let advanced = both.filter(|(_, (tip, before))| tip.sequence > before.sequence);
        advanced.map(|(lane, _)| lane).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::Tip;
    use std::time::{Duration, UNIX_EPOCH};

    fn tips(sequences: [u64; 3]) -> Tips {
        Tips(sequences.map(|sequence| Tip { sequence, digest: Digest::ZERO }).into())
    }

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    #[test]
    fn busy_lanes_are_those_that_advanced_lately() {
        let mut known = Known::default();
        assert_eq!(known.busy(Height(5), &tips([1, 1, 1])), [0; 0]);
        known.remember(Height(1), digest(1), tips([1, 5, 9]), UNIX_EPOCH);
        known.remember(Height(2), digest(2), tips([2, 5, 9]), UNIX_EPOCH);
        known.remember(Height(2), digest(3), tips([3, 6, 9]), UNIX_EPOCH);
        assert_eq!(known.busy(Height(2), &tips([2, 5, 9])), [0]);
        assert_eq!(known.busy(Height(2), &tips([3, 6, 9])), [0, 1]);
        // What is further back than the newest blocks says nothing.
        for height in 3..20 {
            known.remember(Height(height), digest(4), tips([3, 6, 10]), UNIX_EPOCH);
        }
        assert_eq!(known.busy(Height(19), &tips([3, 6, 10])), [0; 0]);
        assert_eq!(known.busy(Height(19), &tips([3, 6, 11])), [2]);
    }

    #[test]
    fn the_first_time_counts_and_the_lowest_are_forgotten() {
        let mut known = Known::default();
        let later = UNIX_EPOCH + Duration::from_secs(1);
        known.remember(Height(1), digest(1), tips([1, 0, 0]), UNIX_EPOCH);
        known.remember(Height(1), digest(1), tips([2, 0, 0]), later);
        assert_eq!(known.seen(Height(1), digest(1)), Some(UNIX_EPOCH));
        assert_eq!(known.tips(Height(1), digest(1)), Some(&tips([1, 0, 0])));
        for height in 2..=u64::try_from(BLOCKS_MAX).unwrap() + 1 {
            known.remember(Height(height), digest(1), tips([1, 0, 0]), later);
        }
        assert_eq!(known.seen(Height(1), digest(1)), None);
        assert!(known.seen(Height(2), digest(1)).is_some());
    }
}
