//! The ring of all accounts by key, which shows that a key has no account.
//!
//! ```text
//!   number    0     1     2     3        in the order in which accounts came to be
//!   key       c     a     d     b
//!   next      2     3     1     0        a → b → c → d → a: two neighbours enclose every key that has none
//! ```
//!
//! The links have a tree of their own, whose leaves are 64 of them: a new account changes a link anywhere, and
//! should not have the page of some other account hashed for it. They change only when accounts come to be, and
//! are brought up to date when the root is: what is between two roots costs nothing. 12 bytes for each account.

use super::Account;
use super::tree::Tree;
use crate::codec::{count_u32, index};
use crate::digest::{Digest, PublicKey, domain};
use crate::table::Entry;

/// Links of a leaf.
pub(super) const LEAF_LINKS: usize = 64;

const LEAF_BYTES: usize = LEAF_LINKS * 4;

/// The links, as of the last root.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// All numbers, by rising key: above each, the first bytes of its key, which mostly tell.
    sorted: Vec<u64>,
    /// By number: who has the next larger key; of the largest, who has the smallest.
    next: Vec<u32>,
    tree: Tree,
}

impl Order {
    /// Links these accounts.
    pub(super) fn of(entries: &[Entry<Account>]) -> Self {
        let mut order = Self::default();
        order.extend(entries);
        order
    }

    /// Returns who follows an account in the ring.
    pub(super) fn next(&self, number: u32) -> u32 {
        self.next[index(number)]
    }

    /// Returns the links of a leaf.
    pub(super) fn leaf(&self, leaf: u32) -> &[u32] {
        let first = index(leaf) * LEAF_LINKS;
        &self.next[first..self.next.len().min(first + LEAF_LINKS)]
    }

    /// Returns the siblings of a leaf on its way up.
    pub(super) fn siblings(&self, leaf: u32) -> Vec<Digest> {
        self.tree.siblings(leaf)
    }

    /// Returns whose key is the largest below `key`, or the largest of all when there is none; nothing when
    /// there are no accounts.
    pub(super) fn predecessor(&self, entries: &[Entry<Account>], key: &PublicKey) -> Option<u32> {
        let place = self.sorted.partition_point(|packed| is_below(entries, *packed, key));
        let last = self.sorted.len().checked_sub(1)?;
        Some(number_of(self.sorted[place.checked_sub(1).unwrap_or(last)]))
    }

    /// Links the accounts that came since the last time.
    pub(super) fn extend(&mut self, entries: &[Entry<Account>]) {
        let (old, all) = (self.next.len(), entries.len());
        if old == all {
            return;
        }
        let new = sorted_from(entries, old);
        self.next.resize(all, 0);
        if old == 0 {
            self.tree = Tree::new(all.div_ceil(LEAF_LINKS));
            self.sorted = new;
            (0..all).for_each(|place| self.link(place));
            return;
        }
        (old..all)
            .step_by(LEAF_LINKS)
            .chain([all - 1])
            .for_each(|it| self.tree.mark(it / LEAF_LINKS));
        for place in self.merge(entries, &new) {
            self.link(place);
            // Who was there has another neighbour now.
            self.link(place.checked_sub(1).unwrap_or(all - 1));
        }
    }

    /// Links the one at a place of the ring to the next.
    fn link(&mut self, place: usize) {
        let after = self.sorted.get(place + 1).unwrap_or(&self.sorted[0]);
        let number = index(number_of(self.sorted[place]));
        self.next[number] = number_of(*after);
        self.tree.mark(number / LEAF_LINKS);
    }

    /// Puts sorted new ones among the old; returns where they stand.
    fn merge(&mut self, entries: &[Entry<Account>], new: &[u64]) -> Vec<usize> {
        let mut end = self.sorted.len();
        self.sorted.resize(end + new.len(), 0);
        let mut places = Vec::with_capacity(new.len());
        // From the largest on, so that every old one moves once, to its last place.
        for (before, packed) in new.iter().enumerate().rev() {
            let key = &entries[index(number_of(*packed))].0;
            let place = last_below(&self.sorted[..end], |old| is_below(entries, old, key));
            self.sorted.copy_within(place..end, place + before + 1);
            self.sorted[place + before] = *packed;
            places.push(place + before);
            end = place;
        }
        places
    }

    /// Computes the root over all links.
    pub(super) fn root(&mut self) -> Digest {
        let Self { next, tree, .. } = self;
        tree.root(next.len().div_ceil(LEAF_LINKS), |changed, leaves| hash(next, changed, leaves))
    }
}

fn hash(links: &[u32], changed: &[u32], leaves: &mut [Digest]) {
    let (blocks, last) = links.as_chunks::<LEAF_LINKS>();
    let whole = changed.partition_point(|leaf| index(*leaf) < blocks.len());
    let (whole, part) = changed.split_at(whole);
    domain::STATE_LINKS.digests_of_blocks::<LEAF_BYTES>(
        whole.len(),
        |place, bytes| {
            let (places, _) = bytes.as_chunks_mut::<4>();
            for (place, link) in places.iter_mut().zip(&blocks[index(whole[place])]) {
                *place = link.to_le_bytes();
            }
        },
        |place, digest| leaves[index(whole[place])] = digest,
    );
    for leaf in part {
        leaves[index(*leaf)] = hash_leaf(last);
    }
}

/// Computes the digest of a leaf.
pub(super) fn hash_leaf(links: &[u32]) -> Digest {
    let bytes: Vec<u8> = links.iter().flat_map(|link| link.to_le_bytes()).collect();
    domain::STATE_LINKS.digest(&[&bytes])
}

/// The first bytes of a key, so that they compare as it does.
fn prefix(key: &PublicKey) -> u32 {
    u32::from_be_bytes(*key.0.first_chunk().expect("a key has 32 bytes"))
}

fn number_of(packed: u64) -> u32 {
    u32::try_from(packed & u64::from(u32::MAX)).expect("32 bits")
}

fn is_below(entries: &[Entry<Account>], packed: u64, key: &PublicKey) -> bool {
    let own = packed >> 32;
    let other = u64::from(prefix(key));
    own < other || own == other && entries[index(number_of(packed))].0 < *key
}

/// How many of a sorted list are below, looked for from its end in growing steps: new ones lie near each other.
fn last_below(sorted: &[u64], is_below: impl Fn(u64) -> bool) -> usize {
    let (mut step, mut high) = (1, sorted.len());
    let low = loop {
        let Some(low) = high.checked_sub(step) else { break 0 };
        if is_below(sorted[low]) {
            break low;
        }
        (high, step) = (low, 2 * step);
    };
    low + sorted[low..high].partition_point(|packed| is_below(*packed))
}

/// The numbers from `first` on, by rising key, packed.
fn sorted_from(entries: &[Entry<Account>], first: usize) -> Vec<u64> {
    let numbers = (count_u32(first)..).zip(&entries[first..]);
    let packed = |(number, (key, _)): (u32, &Entry<Account>)| {
        u64::from(prefix(key)) << 32 | u64::from(number)
    };
    let mut sorted: Vec<u64> = numbers.map(packed).collect();
    sorted.sort_unstable();
    // Only keys that share their first bytes are looked up.
    for alike in sorted.chunk_by_mut(|one, other| one >> 32 == other >> 32) {
        alike.sort_unstable_by_key(|packed| entries[index(number_of(*packed))].0);
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle;
    use crate::testing::Numbers;

    fn entry(key: [u8; 32]) -> Entry<Account> {
        (PublicKey(key), Account::default())
    }

    /// Keys of which many share their first bytes.
    fn entries(count: usize, seed: u64) -> Vec<Entry<Account>> {
        let mut numbers = Numbers::new(seed);
        let mut entries = Vec::new();
        while entries.len() < count {
            let mut key = [0; 32];
            key[7] = u8::try_from(numbers.below(3)).unwrap();
            key[20..24].copy_from_slice(&numbers.below(1 << 20).to_be_bytes());
            if entries.iter().all(|(other, _): &Entry<Account>| other.0 != key) {
                entries.push(entry(key));
            }
        }
        entries
    }

    fn check(order: &mut Order, entries: &[Entry<Account>]) {
        let mut sorted: Vec<u32> = (0..count_u32(entries.len())).collect();
        sorted.sort_by_key(|number| entries[index(*number)].0);
        let found: Vec<u32> = order.sorted.iter().map(|packed| number_of(*packed)).collect();
        assert_eq!(found, sorted);
        for (place, number) in sorted.iter().enumerate() {
            assert_eq!(order.next(*number), sorted[(place + 1) % sorted.len()]);
        }
        let leaves: Vec<Digest> = order.next.chunks(LEAF_LINKS).map(hash_leaf).collect();
        assert_eq!(order.root(), merkle::root(&leaves));
        for (place, _) in (0..).zip(&leaves) {
            assert_eq!(hash_leaf(order.leaf(place)), leaves[index(place)]);
            let proof = merkle::prove(&leaves, index(place)).unwrap();
            assert_eq!(order.siblings(place), proof.siblings);
        }
    }

    #[test]
    fn a_ring_that_grows_is_the_ring_of_all() {
        let mut numbers = Numbers::new(5);
        for round in 0..40 {
            let entries = entries(300, round);
            let (mut order, mut there) = (Order::default(), 0);
            while there < entries.len() {
                there += index(1 + numbers.below(if round % 2 == 0 { 3 } else { 130 }));
                there = there.min(entries.len());
                order.extend(&entries[..there]);
                check(&mut order, &entries[..there]);
            }
            order.extend(&entries);
            check(&mut order, &entries);
            assert_eq!(Order::of(&entries).next, order.next);
        }
    }

    #[test]
    fn nobody_has_the_root_of_no_links() {
        let mut order = Order::of(&[]);
        assert_eq!(order.root(), merkle::root(&[]));
    }

    #[test]
    fn a_key_is_enclosed_by_its_neighbours() {
        let entries: Vec<_> = [30, 10, 40, 20].map(|byte| entry([byte; 32])).into();
        assert_eq!(Order::default().predecessor(&[], &PublicKey([9; 32])), None);
        let order = Order::of(&entries);
        for (key, before) in [(9, 2), (11, 1), (25, 3), (39, 0), (41, 2), (255, 2), (0, 2)] {
            assert_eq!(order.predecessor(&entries, &PublicKey([key; 32])), Some(before), "{key}");
        }
        assert_eq!(Order::of(&entries[..1]).next(0), 0);
    }
}
