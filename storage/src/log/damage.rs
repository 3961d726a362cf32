//! What was found damaged, by whoever met it.

use std::collections::BTreeSet;
use std::sync::MutexGuard;

use super::Log;

/// What was found damaged.
#[derive(Default)]
pub(super) struct Damages {
    /// Groups that are not repaired, by segment and offset.
    groups: BTreeSet<(u64, u64)>,
    pub(super) found: u64,
    pub(super) repaired: u64,
}

impl Log {
    /// The groups that were found damaged and are not repaired.
    pub(crate) fn damaged(&self) -> BTreeSet<(u64, u64)> {
        self.damages().groups.clone()
    }

    /// Notes the group that holds a byte, if it is durable and was not pruned meanwhile.
    pub(crate) fn note_damage(&self, segment: u64, offset: u64) {
        let catalog = self.catalog.read().expect("no holder of the catalog panics");
        let group = catalog.segment(segment).and_then(|found| found.doubt(offset));
        let Some(group) = group else { return };
        // The catalog is held: pruning forgets damage after it has taken the segment out.
        let mut damage = self.damages();
        if damage.groups.insert((segment, group)) {
            damage.found += 1;
        }
    }

    /// A group was put back.
    pub(crate) fn mended(&self, segment: u64, offset: u64) {
        let mut damage = self.damages();
        if damage.groups.remove(&(segment, offset)) {
            damage.repaired += 1;
        }
    }

    /// A segment is gone, and its damage with it.
    pub(crate) fn forget_damage(&self, segment: u64) {
        self.damages().groups.retain(|(other, _)| *other != segment);
    }

    pub(super) fn damages(&self) -> MutexGuard<'_, Damages> {
        self.damage.lock().expect("no holder of the damages panics")
    }
}
