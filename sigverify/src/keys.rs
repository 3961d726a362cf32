//! Bounded cache of decoded public keys: a hit saves a decompression, a miss only costs it.

use std::hash::{BuildHasher, RandomState};
use std::sync::RwLock;

/// Most public keys that one verifier remembers decoded.
///
/// 65,536 x 192 bytes = 12.6 MB, with either backend's points. With one transaction in flight per author, 10,000 transactions a
/// second that take a second or two to become final have 10,000 to 20,000 authors at once; this is
/// three times that. A miss costs one decompression (4 us of about 14), never a different answer.
pub const KEYS_CACHED_MAX: usize = 65_536;

/// Keys that share one lock. Four keep both the set's scan and the number of early evictions small.
const WAYS: usize = 4;

const _: () = assert!((KEYS_CACHED_MAX / WAYS).is_power_of_two());

/// The cache: sets of [`WAYS`] keys, a set chosen by a secretly keyed hash, so that nobody can aim
/// at one set.
///
/// Threads never wait here: a set that another thread is writing counts as a miss, or is left as it
/// is.
pub(crate) struct Keys<P> {
    sets: Box<[RwLock<Set<P>>]>,
    hasher: RandomState,
}

/// A few keys and which of them is replaced next.
struct Set<P> {
    entries: [Entry<P>; WAYS],
    used: usize,
    replace_next: usize,
}

/// One key: its bytes as they arrive and the point they decode to.
#[derive(Clone, Copy)]
struct Entry<P> {
    key: [u8; 32],
    point: P,
}

impl<P: Copy + Default> Keys<P> {
    /// Makes an empty cache of the full size; all its memory is taken now.
    pub(crate) fn new() -> Self {
        Self::with_sets(KEYS_CACHED_MAX / WAYS)
    }

    /// Makes an empty cache of `count` sets, a power of two.
    fn with_sets(count: usize) -> Self {
        assert!(count.is_power_of_two());
        let sets = (0..count).map(|_| RwLock::new(Set::new())).collect();
        Self { sets, hasher: RandomState::new() }
    }

    /// The hash that chunks use too, for their own maps of keys.
    pub(crate) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// Finds the point of a key that was inserted, comparing all 32 bytes.
    pub(crate) fn get(&self, key: &[u8; 32]) -> Option<P> {
        // A failed `try_read` means that a writer is inside (or that one panicked there): a miss.
        let set = self.set(key).try_read().ok()?;
        set.entries[..set.used].iter().find(|entry| entry.key == *key).map(|entry| entry.point)
    }

    /// Remembers the point that a key decodes to.
    ///
    /// To be called for keys of valid signatures only: junk must not push out the keys of those who
    /// pay.
    pub(crate) fn insert(&self, key: &[u8; 32], point: &P) {
        if let Ok(mut set) = self.set(key).try_write() {
            set.insert(Entry { key: *key, point: *point });
        }
    }

    fn set(&self, key: &[u8; 32]) -> &RwLock<Set<P>> {
        let mask = u64::try_from(self.sets.len() - 1).expect("a usize has at most 64 bits");
        let index = usize::try_from(self.hasher.hash_one(key) & mask).expect("it is below a usize");
        &self.sets[index]
    }
}

impl<P: Copy + Default> Set<P> {
    fn new() -> Self {
        let vacant = Entry { key: [0; 32], point: P::default() };
        Self { entries: [vacant; WAYS], used: 0, replace_next: 0 }
    }

    /// Adds an entry, in place of the oldest when all are used.
    fn insert(&mut self, entry: Entry<P>) {
        if self.entries[..self.used].iter().any(|known| known.key == entry.key) {
            return;
        }
        if self.used < WAYS {
            self.entries[self.used] = entry;
            self.used += 1;
        } else {
            self.entries[self.replace_next] = entry;
            self.replace_next = (self.replace_next + 1) % WAYS;
        }
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::edwards::EdwardsPoint;
    use curve25519_dalek::scalar::Scalar;

    use super::*;

    fn pair(number: u64) -> ([u8; 32], EdwardsPoint) {
        let point = EdwardsPoint::mul_base(&Scalar::from(number + 1));
        (point.compress().to_bytes(), point)
    }

    fn count(keys: &Keys<EdwardsPoint>) -> usize {
        keys.sets.iter().map(|set| set.read().unwrap().used).sum()
    }

    #[test]
    fn a_key_is_found_only_by_all_of_its_bytes() {
        // One set: every key is compared with every other.
        let keys = Keys::with_sets(1);
        let (key, point) = pair(7);
        keys.insert(&key, &point);
        assert_eq!(keys.get(&key), Some(point));
        for bit in 0..256 {
            let mut other = key;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.get(&other), None, "bit {bit}");
        }
        assert_eq!(keys.get(&[0; 32]), None, "an unused place is no key");
    }

    #[test]
    fn what_is_found_was_inserted_and_the_limit_holds() {
        let keys = Keys::with_sets(8);
        let pairs: Vec<_> = (0..200).map(pair).collect();
        for (number, (key, point)) in pairs.iter().enumerate() {
            keys.insert(key, point);
            keys.insert(key, point);
            assert_eq!(keys.get(key), Some(*point), "the newest is kept");
            assert!(count(&keys) <= (number + 1).min(8 * WAYS));
        }
        let kept = pairs.iter().filter(|(key, _)| keys.get(key).is_some()).count();
        assert_eq!(kept, count(&keys));
        for (key, point) in &pairs {
            assert!(keys.get(key).is_none_or(|found| found == *point));
        }
    }

    #[test]
    fn the_oldest_of_a_set_goes_first() {
        let keys = Keys::with_sets(1);
        let pairs: Vec<_> = (0..7).map(pair).collect();
        for (key, point) in &pairs {
            keys.insert(key, point);
        }
        let kept: Vec<_> = pairs.iter().map(|(key, _)| keys.get(key).is_some()).collect();
        assert_eq!(kept, [false, false, false, true, true, true, true]);
    }

    #[test]
    fn threads_that_meet_in_one_set_see_whole_entries() {
        let keys = Keys::with_sets(2);
        let pairs: Vec<_> = (0..32).map(pair).collect();
        std::thread::scope(|scope| {
            for start in 0..4 {
                let (keys, pairs) = (&keys, &pairs);
                scope.spawn(move || {
                    for step in 0..4_000 {
                        let (key, point) = &pairs[(start * 8 + step) % pairs.len()];
                        assert!(keys.get(key).is_none_or(|found| found == *point));
                        keys.insert(key, point);
                    }
                });
            }
        });
        assert!(count(&keys) <= 2 * WAYS);
    }

    #[test]
    fn a_set_that_is_being_written_is_a_miss_and_nobody_waits() {
        let keys = Keys::with_sets(1);
        let (key, point) = pair(1);
        keys.insert(&key, &point);
        let guard = keys.sets[0].write().unwrap();
        assert_eq!(keys.get(&key), None);
        let (other, other_point) = pair(2);
        keys.insert(&other, &other_point);
        drop(guard);
        assert_eq!(keys.get(&key), Some(point));
        assert_eq!(keys.get(&other), None);
    }

    #[test]
    fn a_full_cache_has_the_stated_capacity() {
        assert_eq!(Keys::<EdwardsPoint>::new().sets.len() * WAYS, KEYS_CACHED_MAX);
        assert_eq!(size_of::<Entry<EdwardsPoint>>(), 192, "the limit's reason quotes it");
    }
}
