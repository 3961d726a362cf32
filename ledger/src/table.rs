//! A table of entries by public key: dense, in the order in which keys came, with a number for each.
//!
//! ```text
//!  key ─keyed hash─▶ index: numbers ─▶ entries: key and value, one behind the other
//! ```
//!
//! A ledger's accounts do not fit a core's cache, so that a look costs what the memory's answers cost: one
//! for the index, one for the entry. Of many looks together ([`Table::find_all`]) the answers are
//! waited for at once. Who keeps an entry's number needs the first no more: execution hands the numbers of
//! changed accounts on, and admission, whose table grows in the same order, finds them there.

use hashbrown::HashTable;
use std::hash::BuildHasher as _;
use std::hint::black_box;

use crate::codec::index;
use crate::digest::{Keyed, PublicKey};

/// Entries that are waited for together: as many as a core has misses outstanding, and a few more.
pub const TOGETHER: usize = 32;

/// Parts of the index, by bits of the hash. Each grows by itself, so that no single entry waits while
/// millions are entered anew; and many entries are entered part by part, each of which fits a core's
/// cache even when the whole index does not. Measured with ten million keys: 0.7 s in place of 1.7 s.
const PARTS: usize = 256;

/// Keys that are sorted into parts together: 16,000 for each part, in 64 MiB that are given back.
const SEGMENT: usize = 1 << 22;

/// A key and its value.
pub(crate) type Entry<V> = (PublicKey, V);

/// Entries, found by key or number; none is ever removed.
#[derive(Clone, Debug)]
pub struct Table<V> {
    keyed: Keyed,
    index: Vec<HashTable<u32>>,
    entries: Vec<Entry<V>>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { keyed: Keyed::default(), index: vec![HashTable::new(); PARTS], entries: Vec::new() }
    }
}

impl<V> Table<V> {
    /// Numbers keys in their order, or returns none when a key is there twice.
    pub(crate) fn of_entries(entries: Vec<Entry<V>>) -> Option<Self> {
        Self::of_segments(entries, SEGMENT)
    }

    fn of_segments(entries: Vec<Entry<V>>, segment_entries: usize) -> Option<Self> {
        let keyed = Keyed::default();
        let each = entries.len().div_ceil(PARTS);
        // Hashes are spread evenly, but for a little.
        let part = HashTable::with_capacity(if each > 64 { each + each / 16 } else { each });
        let mut numbers = vec![part; PARTS];
        let mut parts: [Vec<(u64, u32)>; PARTS] = std::array::from_fn(|_| Vec::new());
        for (segment, first) in entries.chunks(segment_entries).zip((0..).step_by(segment_entries))
        {
            for (number, (key, _)) in (first..).zip(segment) {
                let hash = keyed.hash_one(key);
                parts[part_of(hash)].push((hash, number_u32(number)));
            }
            for (found, part) in parts.iter_mut().zip(&mut numbers) {
                for (hash, number) in found.drain(..) {
                    let key = &entries[index(number)].0;
                    if part.find(hash, |other| entries[index(*other)].0 == *key).is_some() {
                        return None;
                    }
                    part.insert_unique(hash, number, |other| {
                        keyed.hash_one(entries[index(*other)].0)
                    });
                }
            }
        }
        Some(Self { keyed, index: numbers, entries })
    }

    /// Makes a table of the same keys, with the same numbers and other values.
    pub fn map<W>(&self, value: impl Fn(&PublicKey, &V) -> W) -> Table<W> {
        let entries = self.entries.iter().map(|(key, old)| (*key, value(key, old)));
        // The index holds for these keys under the secret with which it was made, and no key is hashed.
        Table { keyed: self.keyed.clone(), index: self.index.clone(), entries: entries.collect() }
    }

    /// Returns the number of a key's entry.
    pub fn find(&self, key: &PublicKey) -> Option<u32> {
        let hash = self.keyed.hash_one(key);
        let part = &self.index[part_of(hash)];
        part.find(hash, |number| self.entries[index(*number)].0 == *key).copied()
    }

    /// Returns the number of each key's entry, and has the entries near when it returns.
    pub fn find_all<'a>(
        &'a self,
        keys: impl Iterator<Item = PublicKey> + 'a,
    ) -> impl Iterator<Item = Option<u32>> + 'a {
        let mut keys = keys.fuse();
        let mut found = [None; TOGETHER];
        let mut waiting = 0..0;
        std::iter::from_fn(move || {
            if waiting.is_empty() {
                let mut count = 0;
                for (place, key) in found.iter_mut().zip(keys.by_ref().take(TOGETHER)) {
                    *place = self.find(&key);
                    count += 1;
                }
                waiting = 0..count;
            }
            waiting.next().map(|place| found[place])
        })
    }

    /// Has the entries with these numbers near when it returns.
    pub fn touch(&self, numbers: impl Iterator<Item = u32>) {
        let near = numbers.filter_map(|number| self.entries.get(index(number)));
        black_box(near.fold(0, |sum: u8, (key, _)| sum.wrapping_add(key.0[0])));
    }

    /// Returns the entry with this number.
    pub fn get(&self, number: u32) -> (&PublicKey, &V) {
        let (key, value) = &self.entries[index(number)];
        (key, value)
    }

    /// Returns the entry with this number, to be changed.
    pub fn get_mut(&mut self, number: u32) -> (&PublicKey, &mut V) {
        let (key, value) = &mut self.entries[index(number)];
        (key, value)
    }

    /// Adds the entry of a key that has none; returns its number.
    pub fn push(&mut self, key: PublicKey, value: V) -> u32 {
        let number = number_u32(self.entries.len());
        let hash = self.keyed.hash_one(key);
        let Self { keyed, index: numbers, entries } = self;
        entries.push((key, value));
        numbers[part_of(hash)]
            .insert_unique(hash, number, |number| keyed.hash_one(entries[index(*number)].0));
        number
    }

    /// Returns how many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns all entries by number, as they lie.
    pub(crate) fn entries(&self) -> &[Entry<V>] {
        &self.entries
    }

    /// Returns all entries by number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&PublicKey, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }
}

fn number_u32(number: usize) -> u32 {
    u32::try_from(number).expect("memory ends before 2^32 accounts")
}

/// The part of a hash: by other bits than those by which a hash table finds its places.
fn part_of(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[5])
}

impl<V> FromIterator<(PublicKey, V)> for Table<V> {
    /// Numbers distinct keys in their order.
    fn from_iter<I: IntoIterator<Item = (PublicKey, V)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        let mut table = Self::default();
        let (least, _) = entries.size_hint();
        table.entries.reserve(least);
        for part in &mut table.index {
            part.reserve(least / PARTS, |_| unreachable!("nothing is in there yet"));
        }
        for (key, value) in entries {
            table.push(key, value);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn key(number: u32) -> PublicKey {
        let mut key = [0; 32];
        key[14..18].copy_from_slice(&number.to_le_bytes());
        PublicKey(key)
    }

    #[test]
    fn it_finds_what_a_map_finds() {
        let (mut table, mut map) = (Table::default(), HashMap::new());
        for number in 0..5_000_u32 {
            let key = key(number.wrapping_mul(7_919) % 3_000);
            match table.find(&key) {
                Some(place) => *table.get_mut(place).1 += number,
                None => assert_eq!(table.push(key, number), u32::try_from(map.len()).unwrap()),
            }
            map.entry(key).and_modify(|value| *value += number).or_insert(number);
        }
        assert_eq!((table.len(), table.is_empty()), (map.len(), false));
        assert!(table.iter().all(|(key, value)| map[key] == *value));
        for number in 0..4_000 {
            let found = table.find(&key(number)).map(|place| table.get(place));
            assert_eq!(found.map(|(_, value)| value), map.get(&key(number)));
            assert!(found.is_none_or(|(found, _)| *found == key(number)));
        }
    }

    fn numbered(count: u32) -> Vec<(PublicKey, u32)> {
        (0..count).map(|number| (key(number), number)).collect()
    }

    #[test]
    fn a_table_of_entries_is_that_of_pushes() {
        for count in [0, 1, 2, 100, 5_000] {
            let mut table = Table::of_entries(numbered(count)).unwrap();
            assert_eq!(table.entries(), numbered(count));
            assert_eq!(table.push(key(count), count), count);
            for number in 0..=count {
                assert_eq!(table.find(&key(number)), Some(number));
            }
            assert_eq!(table.find(&key(count + 1)), None);
        }
    }

    #[test]
    fn segments_go_on_where_the_last_one_ended() {
        for segment in [1, 7, 100, 999, 1_000, 1_001] {
            let table = Table::of_segments(numbered(1_000), segment).unwrap();
            let found = (0..1_001).filter_map(|number| table.find(&key(number)));
            assert!(found.eq(0..1_000), "segments of {segment}");
            let mut entries = numbered(1_000);
            entries[990].0 = key(3);
            assert!(Table::of_segments(entries, segment).is_none(), "segments of {segment}");
        }
    }

    #[test]
    fn a_repeated_key_makes_no_table() {
        for (first, second) in [(0, 1), (0, 999), (500, 501), (998, 999)] {
            let mut entries = numbered(1_000);
            entries[second].0 = entries[first].0;
            assert!(Table::of_entries(entries).is_none(), "{first} and {second}");
        }
    }

    #[test]
    fn a_mapped_table_has_the_same_numbers_and_grows_on_its_own() {
        let table = Table::of_entries(numbered(1_000)).unwrap();
        let mut mapped = table.map(|key, value| (key.0[14], u64::from(*value) * 2));
        for number in 0..1_000 {
            assert_eq!(mapped.find(&key(number)), Some(number));
            let expected = (number.to_le_bytes()[0], u64::from(number) * 2);
            assert_eq!(mapped.get(number), (&key(number), &expected));
        }
        for number in 1_000..5_000 {
            assert_eq!(mapped.find(&key(number)), None);
            assert_eq!(mapped.push(key(number), (0, 0)), number);
        }
        assert!((0..5_000).all(|number| mapped.find(&key(number)) == Some(number)));
        assert_eq!((table.len(), table.find(&key(1_000))), (1_000, None));
        let empty: Table<u32> = Table::<u32>::default().map(|_, value| *value);
        assert!(empty.is_empty());
    }

    #[test]
    fn looks_together_are_looks_one_by_one() {
        let table: Table<u32> = (0..100).map(|number| (key(number), number)).collect();
        for count in [0, 1, 31, 32, 33, 64, 200] {
            let found: Vec<_> = table.find_all((0..count).map(|n| key(n * 2))).collect();
            let alone: Vec<_> = (0..count).map(|n| table.find(&key(n * 2))).collect();
            assert_eq!(found, alone);
        }
        table.touch(0..1_000);
    }
}
