//! Entries that are dearer in one group than one by one: none, once they are decoded. Calls of so few
//! items do not come this far, the oracle judges them.

use super::chunk::Decoded;
use crate::Verdict;

/// Leaves all entries to the groups.
pub(super) const fn judge(_: &Decoded, _: &mut &[usize], _: usize, _: &mut [Verdict]) {}
