//! Bounded cache of decoded public keys: a hit saves a decompression, a miss only costs it.

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// Most public keys that one verifier remembers decoded.
///
/// 65,536 of them take 15 MB, locks and tags included, with either backend's points. With one transaction in flight per
/// author, 10,000 transactions a second that take a second or two to become final have 10,000 to
/// 20,000 authors at once; this is three times that. A miss costs one decompression (0.2 us of 1.3
/// with eight lanes, 4 of 14 without), never a different answer.
pub const KEYS_CACHED_MAX: usize = 65_536;

/// Keys that share one lock. Four keep both the set's scan and the number of early evictions small.
const WAYS: usize = 4;

const _: () = assert!((KEYS_CACHED_MAX / WAYS).is_power_of_two());

/// The cache: sets of [`WAYS`] keys, a set chosen by a secretly keyed hash, so that nobody can aim
/// at one set.
///
/// Threads never wait here: a set that another thread is writing counts as a miss, or is left as it
/// is. A key is stored when it is seen for the second time, and what is not stored is told from a
/// table of tags that fits a core's own cache: keys that come once cost next to nothing.
pub(crate) struct Keys<P> {
    sets: Box<[RwLock<Set<P>>]>,
    /// For each set 16 bits of the hash of each of its keys, zero for none.
    tags: Box<[AtomicU64]>,
    /// For each hash, modulo their number, 16 bits of the last key seen once.
    seen: Box<[AtomicU16]>,
    hasher: RandomState,
}

const _: () = assert!(WAYS * 16 == 64);

/// A key's hash: the set's number in the lower bits, the tag in the upper ones.
#[derive(Clone, Copy, Default)]
pub(crate) struct KeyHash(pub(crate) u64);

impl KeyHash {
    /// 16 bits that are not used for the place, never zero.
    fn tag(self) -> u16 {
        u16::try_from(self.0 >> 48).expect("16 bits are left").max(1)
    }

    fn place(self, places: usize) -> usize {
        usize::try_from(self.0 & 0xffff_ffff).expect("32 bits fit") % places
    }
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
        Self {
            sets: (0..count).map(|_| RwLock::new(Set::new())).collect(),
            tags: (0..count).map(|_| AtomicU64::new(0)).collect(),
            seen: (0..count * WAYS).map(|_| AtomicU16::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The secretly keyed hash of a key, for chunks' own tables too.
    pub(crate) fn hash(&self, key: &[u8; 32]) -> KeyHash {
        KeyHash(self.hasher.hash_one(key))
    }

    /// Finds the point of a key that is stored, comparing all 32 bytes.
    pub(crate) fn get(&self, hash: KeyHash, key: &[u8; 32]) -> Option<P> {
        let place = hash.place(self.sets.len());
        let tags = self.tags[place].load(Ordering::Relaxed);
        // Two keys of one set with one tag: the second is a miss, once in 2^14.
        let way = (0..WAYS).find(|way| tag_at(tags, *way) == hash.tag())?;
        // A failed `try_read` means that a writer is inside (or that one panicked there): a miss.
        let set = self.sets[place].try_read().ok()?;
        let entry = &set.entries[way];
        (way < set.used && entry.key == *key).then_some(entry.point)
    }

    /// Remembers the point that a key decodes to, from the second time on.
    ///
    /// To be called for keys of valid signatures only: junk must not push out the keys of those who
    /// pay.
    pub(crate) fn see(&self, hash: KeyHash, key: &[u8; 32], point: &P) {
        let seen = &self.seen[hash.place(self.seen.len())];
        if seen.load(Ordering::Relaxed) == hash.tag() {
            self.store(hash, key, point);
        } else {
            seen.store(hash.tag(), Ordering::Relaxed);
        }
    }

    fn store(&self, hash: KeyHash, key: &[u8; 32], point: &P) {
        let place = hash.place(self.sets.len());
        if let Ok(mut set) = self.sets[place].try_write() {
            let Some(way) = set.insert(Entry { key: *key, point: *point }) else { return };
            // Only whoever holds the lock writes the set's tags.
            let tags = self.tags[place].load(Ordering::Relaxed);
            let others = tags & !(0xffff << (16 * way));
            let tags = others | u64::from(hash.tag()) << (16 * way);
            self.tags[place].store(tags, Ordering::Relaxed);
        }
    }
}

/// The tag of one way.
fn tag_at(tags: u64, way: usize) -> u16 {
    u16::try_from(tags >> (16 * way) & 0xffff).expect("16 bits are left")
}

impl<P: Copy + Default> Set<P> {
    fn new() -> Self {
        let vacant = Entry { key: [0; 32], point: P::default() };
        Self { entries: [vacant; WAYS], used: 0, replace_next: 0 }
    }

    /// Adds an entry, in place of the oldest when all are used; answers its way, unless the key is
    /// there already.
    fn insert(&mut self, entry: Entry<P>) -> Option<usize> {
        if self.entries[..self.used].iter().any(|known| known.key == entry.key) {
            return None;
        }
        let way = if self.used < WAYS {
            self.used += 1;
            self.used - 1
        } else {
            let way = self.replace_next;
            self.replace_next = (way + 1) % WAYS;
            way
        };
        self.entries[way] = entry;
        Some(way)
    }
}

/// The distinct keys of one chunk, in the order in which they come.
pub(crate) struct Distinct<'a> {
    places: HashTable<usize>,
    pub(crate) keys: Vec<(KeyHash, &'a [u8; 32])>,
}

impl<'a> Distinct<'a> {
    /// Room for the keys of so many items.
    pub(crate) fn new(items: usize) -> Self {
        let places = if items <= Self::FEW { 0 } else { items };
        Self { places: HashTable::with_capacity(places), keys: Vec::with_capacity(items) }
    }

    /// So many keys are looked through sooner than a table is made.
    const FEW: usize = 8;

    /// The place of a key, a new one if it did not come before.
    pub(crate) fn place(&mut self, hash: KeyHash, key: &'a [u8; 32]) -> usize {
        let Self { places, keys } = self;
        if keys.capacity() <= Self::FEW {
            let known = keys.iter().position(|(_, known)| *known == key);
            return known.unwrap_or_else(|| {
                keys.push((hash, key));
                keys.len() - 1
            });
        }
        let equal = |place: &usize| keys[*place].1 == key;
        let entry = places.entry(hash.0, equal, |place| keys[*place].0.0);
        let place = *entry.or_insert(keys.len()).get();
        if place == keys.len() {
            keys.push((hash, key));
        }
        place
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

    fn get(keys: &Keys<EdwardsPoint>, key: &[u8; 32]) -> Option<EdwardsPoint> {
        keys.get(keys.hash(key), key)
    }

    fn store(keys: &Keys<EdwardsPoint>, key: &[u8; 32], point: &EdwardsPoint) {
        keys.store(keys.hash(key), key, point);
    }

    fn count(keys: &Keys<EdwardsPoint>) -> usize {
        keys.sets.iter().map(|set| set.read().unwrap().used).sum()
    }

    #[test]
    fn a_key_is_found_only_by_all_of_its_bytes() {
        // One set: every key is compared with every other.
        let keys = Keys::with_sets(1);
        let (key, point) = pair(7);
        store(&keys, &key, &point);
        assert_eq!(get(&keys, &key), Some(point));
        for bit in 0..256 {
            let mut other = key;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(get(&keys, &other), None, "bit {bit}");
        }
        assert_eq!(get(&keys, &[0; 32]), None, "an unused place is no key");
    }

    #[test]
    fn what_is_found_was_inserted_and_the_limit_holds() {
        let keys = Keys::with_sets(8);
        let pairs: Vec<_> = (0..200).map(pair).collect();
        for (number, (key, point)) in pairs.iter().enumerate() {
            store(&keys, key, point);
            store(&keys, key, point);
            assert_eq!(get(&keys, key), Some(*point), "the newest is kept");
            assert!(count(&keys) <= (number + 1).min(8 * WAYS));
        }
        let kept = pairs.iter().filter(|(key, _)| get(&keys, key).is_some()).count();
        assert_eq!(kept, count(&keys));
        for (key, point) in &pairs {
            assert!(get(&keys, key).is_none_or(|found| found == *point));
        }
    }

    #[test]
    fn the_oldest_of_a_set_goes_first() {
        let keys = Keys::with_sets(1);
        let pairs: Vec<_> = (0..7).map(pair).collect();
        for (key, point) in &pairs {
            store(&keys, key, point);
        }
        let kept: Vec<_> = pairs.iter().map(|(key, _)| get(&keys, key).is_some()).collect();
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
                        assert!(get(keys, key).is_none_or(|found| found == *point));
                        store(keys, key, point);
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
        store(&keys, &key, &point);
        let guard = keys.sets[0].write().unwrap();
        assert_eq!(get(&keys, &key), None);
        let (other, other_point) = pair(2);
        store(&keys, &other, &other_point);
        drop(guard);
        assert_eq!(get(&keys, &key), Some(point));
        assert_eq!(get(&keys, &other), None);
    }

    #[test]
    fn a_key_is_stored_when_it_is_seen_again() {
        let keys = Keys::with_sets(8);
        let (key, point) = pair(1);
        keys.see(keys.hash(&key), &key, &point);
        assert_eq!(get(&keys, &key), None);
        keys.see(keys.hash(&key), &key, &point);
        assert_eq!(get(&keys, &key), Some(point));
    }

    #[test]
    fn a_full_cache_has_the_stated_capacity() {
        assert_eq!(Keys::<EdwardsPoint>::new().sets.len() * WAYS, KEYS_CACHED_MAX);
        assert_eq!(size_of::<Entry<EdwardsPoint>>(), 192, "the limit's reason quotes it");
    }
}
