//! Where the newest transactions were executed: 16 bytes for each.
//!
//! Each transaction of every lane goes in here, at a place that no cache holds: what it costs is the memory's
//! pages and misses, so that an entry is small and nothing is ever looked for to be removed.

use ledger::{Digest, Height, Keyed, Outcome};
use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, Hasher},
    mem,
};

/// Transactions whose place is kept in memory, the newest: from half of so many to all, in about 70 MB.
pub const INDEX_TRANSACTIONS_MAX: usize = 1 << 21;

/// Bytes of them: two generations of entries, in tables that are at least 7/16 full.
pub const INDEX_BYTES_MAX: usize = INDEX_TRANSACTIONS_MAX * (2 * 17 + 2);

/// Where a transaction was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its block.
    pub height: Height,
    /// Its place among the outcomes of the block.
    pub index: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// Places by transaction, in two generations: when the younger is full, the older one is emptied whole.
///
/// An id stands here as 64 bits of a secretly keyed hash. That an unknown id is taken for one of these happens
/// once in 2^43 questions, and nobody who does not know the secret can make it happen more often.
#[derive(Default)]
pub(super) struct Index {
    keyed: Keyed,
    young: Generation,
    old: Generation,
}

/// Places from one height on.
#[derive(Default)]
struct Generation {
    first: u64,
    places: HashMap<u64, Packed, BuildHasherDefault<Same>>,
}

/// A place in eight bytes, its height counted from the generation's first.
#[derive(Clone, Copy)]
struct Packed(u64);

/// Bits of an outcome's code, and of a place in its block: more than the quotas of all lanes let in.
const OUTCOME_BITS: u32 = 4;
const INDEX_BITS: u32 = 24;
/// Heights of one generation, at most.
const HEIGHTS_MAX: u64 = 1 << (64 - INDEX_BITS - OUTCOME_BITS);

impl Generation {
    fn get(&self, hash: u64) -> Option<Location> {
        self.places.get(&hash).map(|packed| packed.location(self.first))
    }

    fn is_full(&self, height: u64) -> bool {
        self.places.len() >= INDEX_TRANSACTIONS_MAX / 2 || height - self.first >= HEIGHTS_MAX
    }
}

impl Packed {
    /// Panics: a place of 2^24 or more, which no block has.
    fn new(location: &Location, first: u64) -> Self {
        let (height, index) = (location.height.get() - first, u64::from(location.index));
        assert!(height < HEIGHTS_MAX, "a generation is left before it has more heights");
        assert!(index >> INDEX_BITS == 0, "a block has fewer than 2^24 outcomes");
        Self((height << INDEX_BITS | index) << OUTCOME_BITS | u64::from(location.outcome.code()))
    }

    fn location(self, first: u64) -> Location {
        let code = self.0 & ((1 << OUTCOME_BITS) - 1);
        let outcome = Outcome::ALL.into_iter().find(|outcome| u64::from(outcome.code()) == code);
        let index = self.0 >> OUTCOME_BITS & ((1 << INDEX_BITS) - 1);
        Location {
            height: Height(first + (self.0 >> (INDEX_BITS + OUTCOME_BITS))),
            index: u32::try_from(index).expect("24 bits"),
            outcome: outcome.expect("it was packed"),
        }
    }
}

impl Index {
    /// Where a transaction was executed, if it is one of the newest.
    pub(super) fn locate(&self, id: &Digest) -> Option<Location> {
        self.find(self.keyed.hash_one(id))
    }

    fn find(&self, hash: u64) -> Option<Location> {
        self.young.get(hash).or_else(|| self.old.get(hash))
    }

    /// Remembers where a transaction was executed, the first time; heights come in order.
    pub(super) fn insert(&mut self, id: &Digest, location: &Location) {
        let hash = self.keyed.hash_one(id);
        // What pays is executed once. A later copy of it is stale: the first outcome counts.
        if !location.outcome.pays() && self.find(hash).is_some() {
            return;
        }
        let height = location.height.get();
        if self.young.is_full(height) {
            // Its room is kept, so that it is not made anew, page by page.
            self.old.places.clear();
            self.old.first = height;
            mem::swap(&mut self.young, &mut self.old);
        }
        let packed = Packed::new(location, self.young.first);
        self.young.places.insert(hash, packed);
    }
}

/// What is a hash already stands for itself.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole words are hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Digest {
        let mut id = [0; 32];
        id[9..17].copy_from_slice(&number.to_le_bytes());
        Digest(id)
    }

    #[test]
    fn a_place_comes_back_as_it_was() {
        for first in [0, 5, u64::MAX - HEIGHTS_MAX] {
            for height in [0, 1, 77, HEIGHTS_MAX - 1].map(|above| Height(first + above)) {
                for index in [0, 1, (1 << INDEX_BITS) - 1] {
                    for outcome in Outcome::ALL {
                        let location = Location { height, index, outcome };
                        assert_eq!(Packed::new(&location, first).location(first), location);
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "fewer than 2^24")]
    fn a_place_beyond_what_fits_is_a_mistake() {
        let outcome = Outcome::Applied;
        Packed::new(&Location { height: Height(1), index: 1 << INDEX_BITS, outcome }, 0);
    }

    #[test]
    fn no_height_is_too_high() {
        let mut index = Index::default();
        let at = |height| Location { height: Height(height), index: 1, outcome: Outcome::Applied };
        let heights = [0, HEIGHTS_MAX - 1, HEIGHTS_MAX, 2 * HEIGHTS_MAX - 1, 1 << 50, u64::MAX];
        for (number, height) in heights.into_iter().enumerate() {
            index.insert(&id(number), &at(height));
            assert_eq!(index.locate(&id(number)), Some(at(height)));
            if let Some(before) = number.checked_sub(1) {
                assert_eq!(index.locate(&id(before)), Some(at(heights[before])));
            }
        }
        assert_eq!(index.locate(&id(0)), None, "the third generation took its place");
    }

    #[test]
    fn the_first_outcome_counts_and_the_oldest_are_forgotten() {
        let mut index = Index::default();
        let at = |height, outcome| Location { height: Height(height), index: 3, outcome };
        index.insert(&id(0), &at(1, Outcome::Applied));
        index.insert(&id(0), &at(2, Outcome::Stale));
        assert_eq!(index.locate(&id(0)), Some(at(1, Outcome::Applied)));
        for number in 1..INDEX_TRANSACTIONS_MAX / 2 {
            index.insert(&id(number), &at(3, Outcome::Applied));
        }
        // In the older generation it is still known, and still the first that counts.
        index.insert(&id(INDEX_TRANSACTIONS_MAX), &at(4, Outcome::Failed));
        index.insert(&id(0), &at(4, Outcome::Stale));
        assert_eq!(index.locate(&id(0)), Some(at(1, Outcome::Applied)));
        for number in 1..=INDEX_TRANSACTIONS_MAX / 2 {
            index.insert(&id(INDEX_TRANSACTIONS_MAX + number), &at(5, Outcome::Applied));
        }
        assert_eq!(index.locate(&id(0)), None);
        let newest = id(INDEX_TRANSACTIONS_MAX + INDEX_TRANSACTIONS_MAX / 2);
        assert_eq!(index.locate(&newest), Some(at(5, Outcome::Applied)));
    }
}
