//! Epochs: which heights a council decides, and at which of them it is settled who follows.
//!
//! ```text
//!   epoch 0                     epoch 1
//!   0 ────────── D ──── L │ L+1 ────────── D ──── L │ …
//!                │      └ its header names the set of the next epoch; a quorum of this one finalizes it
//!                └ after this height is executed nothing changes any more who follows
//! ```
//!
//! Between `D` and `L` lie as many heights as an execution may lag: so whoever checks the header of `L` has
//! executed `D`. Epochs turn at their heights, whether anybody voted or not.

use crate::digest::Height;
use crate::limits::EXECUTION_LAG_MAX;

/// How heights fall into epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    length: u64,
}

impl Epochs {
    /// Takes how many heights an epoch has: more than an execution may lag.
    pub const fn new(length: u64) -> Self {
        assert!(length > EXECUTION_LAG_MAX, "the genesis was checked");
        Self { length }
    }

    /// Returns how many heights an epoch has.
    pub const fn length(self) -> u64 {
        self.length
    }

    /// Returns the epoch that a height is in.
    pub const fn of(self, height: Height) -> u64 {
        height.0 / self.length
    }

    /// Returns the last height of an epoch.
    pub const fn last(self, epoch: u64) -> Height {
        Height(epoch.saturating_add(1).saturating_mul(self.length) - 1)
    }

    /// Returns the height after whose execution it is settled who decides in the next epoch.
    pub const fn deciding(self, epoch: u64) -> Height {
        Height(self.last(epoch).0 - EXECUTION_LAG_MAX)
    }

    /// Returns whether a height is the last of its epoch.
    pub const fn is_last(self, height: Height) -> bool {
        height.0 % self.length == self.length - 1
    }

    /// Returns whether a height is the deciding one of its epoch.
    pub const fn is_deciding(self, height: Height) -> bool {
        self.deciding(self.of(height)).0 == height.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_fall_into_epochs() {
        let epochs = Epochs::new(100);
        assert_eq!(
            (epochs.of(Height(0)), epochs.of(Height(99)), epochs.of(Height(100))),
            (0, 0, 1)
        );
        assert_eq!((epochs.last(0), epochs.last(2)), (Height(99), Height(299)));
        assert_eq!((epochs.deciding(0), epochs.deciding(1)), (Height(35), Height(135)));
        for height in (0..500).map(Height) {
            let epoch = epochs.of(height);
            assert_eq!(epochs.is_last(height), epochs.last(epoch) == height);
            assert_eq!(epochs.is_deciding(height), epochs.deciding(epoch) == height);
        }
        assert_eq!(Epochs::new(u64::MAX / 2).last(u64::MAX), Height(u64::MAX - 1));
    }
}
