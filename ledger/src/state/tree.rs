//! A Merkle tree over leaves that are numbered, of which only what changed is hashed again.
//!
//! ```text
//!   levels[2]             n              the top
//!                    ┌────┴────┐
//!   levels[1]        n         │         shape and nodes as in `merkle`: an odd one is promoted
//!                 ┌──┴──┐      │
//!   levels[0]    leaf  leaf   leaf
//! ```
//!
//! Leaves keep their numbers and none is ever removed, so a change touches one leaf and the nodes
//! above it, and a new leaf is the last one. A binary tree by level needs no
//! rebuilding to grow: a node that was promoted gets its sibling when that comes to be, and the new
//! sibling has the path to the top done again.

use crate::codec::{count_u32, index};
use crate::digest::Digest;
use crate::merkle;

/// Bits of a word of the map.
const WORD_BITS: usize = 64;

/// The nodes of the tree, and which leaves changed since they were computed.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// One bit for each leaf.
    changed: Vec<u64>,
    /// From the leaves up; the last holds the top alone, or nothing when there are no leaves.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// Starts a tree over leaves none of which was hashed yet.
    pub(super) fn new(leaves: usize) -> Self {
        let mut changed = vec![u64::MAX; leaves.div_ceil(WORD_BITS)];
        if let (Some(last), rest @ 1..) = (changed.last_mut(), leaves % WORD_BITS) {
            *last = (1 << rest) - 1;
        }
        Self { changed, levels: Vec::new() }
    }

    /// Notes that a leaf changed or came to be.
    pub(super) fn mark(&mut self, leaf: usize) {
        let word = leaf / WORD_BITS;
        if word >= self.changed.len() {
            self.changed.resize(word + 1, 0);
        }
        self.changed[word] |= 1 << (leaf % WORD_BITS);
    }

    /// Computes the Merkle root over `count` leaves; every one that changed was marked, and `hash` writes the
    /// digests of those that it is given, ascending, to their places.
    pub(super) fn root(
        &mut self,
        count: usize,
        hash: impl FnOnce(&[u32], &mut [Digest]),
    ) -> Digest {
        let mut changed = self.take_changed();
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        grow(&mut self.levels[0], count);
        hash(&changed, &mut self.levels[0]);
        let mut level = 0;
        while self.levels[level].len() > 1 {
            if self.levels.len() == level + 1 {
                self.levels.push(Vec::new());
            }
            let (below, above) = self.levels.split_at_mut(level + 1);
            let (below, above) = (&below[level], &mut above[0]);
            grow(above, below.len().div_ceil(2));
            for place in &mut changed {
                *place /= 2;
            }
            changed.dedup();
            hash_nodes(below, &changed, above);
            level += 1;
        }
        let top = self.levels[level].first().unwrap_or(&Digest::ZERO);
        merkle::finish(count_u32(count), top)
    }

    /// Returns for how many nodes there is room.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.levels.iter().map(Vec::capacity).sum()
    }

    /// Returns the siblings of a leaf on its way up, as of the last root.
    pub(super) fn siblings(&self, leaf: u32) -> Vec<Digest> {
        let mut place = index(leaf);
        let mut siblings = Vec::new();
        for level in &self.levels {
            siblings.extend(level.get(place ^ 1));
            place /= 2;
        }
        siblings
    }

    /// Returns the leaves that changed, ascending, and forgets them.
    fn take_changed(&mut self) -> Vec<u32> {
        let count = self.changed.iter().map(|word| index(word.count_ones())).sum();
        let mut leaves = Vec::with_capacity(count);
        for (first, word) in (0..).step_by(WORD_BITS).zip(&mut self.changed) {
            let mut bits = std::mem::take(word);
            while bits != 0 {
                leaves.push(first + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        leaves
    }
}

/// Makes room for new nodes. All of them are computed before they are read: their leaves are marked.
fn grow(level: &mut Vec<Digest>, length: usize) {
    // By an eighth and not by half: at ten million accounts every second byte would be for later.
    let missing = length - level.len();
    if missing > level.capacity() - level.len() {
        level.reserve_exact(missing.max(level.len() / 8));
    }
    level.resize(length, Digest::ZERO);
}

fn hash_nodes(below: &[Digest], changed: &[u32], above: &mut [Digest]) {
    let (pairs, odd) = below.as_chunks::<2>();
    let whole = changed.partition_point(|place| index(*place) < pairs.len());
    let (whole, promoted) = changed.split_at(whole);
    merkle::nodes(
        whole.len(),
        |place| &pairs[index(whole[place])],
        |place, digest| above[index(whole[place])] = digest,
    );
    for (place, digest) in promoted.iter().zip(odd) {
        above[index(*place)] = *digest;
    }
}
