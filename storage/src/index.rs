//! From key and height to place, in memory, rebuilt from record headers at every opening.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use crate::frame::has_height;
use crate::record::{Place, RecordHeader};

/// Finds records by kind and key, and by kind and height; the newest of equals wins.
///
/// Units: a record with a key costs 64 bytes and one control byte per slot of a table that is
/// filled between 7/16 and 7/8, 74 to 149 bytes; one with a height costs 40 bytes in tree nodes
/// that are at least half full, 40 to 80 bytes. A record with neither costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: HashMap<(u8, [u8; 32]), Place>,
    heights: BTreeMap<(u8, u64), Place>,
}

// The figures of the doc above.
const _: () = assert!(size_of::<((u8, [u8; 32]), Place)>() == 64);
const _: () = assert!(size_of::<((u8, u64), Place)>() == 40);

impl Index {
    /// Enters a record under its key and height, where it has them.
    pub(crate) fn insert(&mut self, header: &RecordHeader, place: Place) {
        if header.key != [0; 32] {
            self.keys.insert((header.kind, header.key), place);
        }
        if has_height(header) {
            self.heights.insert((header.kind, header.height), place);
        }
    }

    /// Takes a record out, where it is the newest of its key and of its height.
    pub(crate) fn remove(&mut self, header: &RecordHeader, place: Place) {
        let key = (header.kind, header.key);
        if self.keys.get(&key) == Some(&place) {
            self.keys.remove(&key);
        }
        let height = (header.kind, header.height);
        if self.heights.get(&height) == Some(&place) {
            self.heights.remove(&height);
        }
    }

    /// Takes every record of a segment out.
    pub(crate) fn forget(&mut self, segment: u64) {
        self.keys.retain(|_, place| place.segment != segment);
        self.heights.retain(|_, place| place.segment != segment);
    }

    pub(crate) fn find(&self, kind: u8, key: &[u8; 32]) -> Option<Place> {
        self.keys.get(&(kind, *key)).copied()
    }

    pub(crate) fn at_height(&self, kind: u8, height: u64) -> Option<Place> {
        self.heights.get(&(kind, height)).copied()
    }

    /// The newest record of each height in a range, ascending.
    pub(crate) fn in_heights(&self, kind: u8, heights: RangeInclusive<u64>) -> Vec<(u64, Place)> {
        let range = (kind, *heights.start())..=(kind, *heights.end());
        if range.is_empty() {
            return Vec::new();
        }
        self.heights.range(range).map(|((_, height), place)| (*height, *place)).collect()
    }

    /// How many records of a kind can be found by key, and how many by height.
    pub(crate) fn count(&self, kind: u8) -> (usize, usize) {
        let keys = self.keys.keys().filter(|(one, _)| *one == kind).count();
        (keys, self.heights.range((kind, 0)..=(kind, u64::MAX)).count())
    }

    pub(crate) fn last_height(&self, kind: u8) -> Option<u64> {
        let range = (kind, 0)..=(kind, u64::MAX);
        self.heights.range(range).next_back().map(|((_, height), _)| *height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Place {
        Place { segment: 1, offset, bytes: 3 }
    }

    #[test]
    fn newest_wins_and_kinds_are_apart() {
        let mut index = Index::default();
        let header = RecordHeader { kind: 1, height: 5, key: [9; 32] };
        index.insert(&header, place(8));
        index.insert(&header, place(16));
        index.insert(&RecordHeader { height: 4, ..header }, place(24));
        index.insert(&RecordHeader { kind: 2, height: 70, key: [8; 32] }, place(32));
        assert_eq!(index.find(1, &[9; 32]), Some(place(24)));
        assert_eq!(index.at_height(1, 5), Some(place(16)));
        assert_eq!(index.last_height(1), Some(5));
        assert_eq!(index.find(2, &[9; 32]), None);
        assert_eq!(index.last_height(0), None);
        assert_eq!(index.last_height(3), None);
        let heights =
            |range| index.in_heights(1, range).iter().map(|one| one.0).collect::<Vec<_>>();
        assert_eq!((heights(0..=9), heights(5..=5)), (vec![4, 5], vec![5]));
        let backwards = std::ops::RangeInclusive::new(9, 0);
        assert_eq!((heights(6..=9), heights(backwards)), (vec![], vec![]));
        assert_eq!((index.count(1), index.count(2), index.count(3)), ((1, 2), (1, 1), (0, 0)));
    }

    #[test]
    fn what_is_taken_out_is_gone_unless_something_newer_stands_there() {
        for forget in [false, true] {
            let mut index = Index::default();
            let header = |height| RecordHeader { kind: 1, height, key: [9; 32] };
            index.insert(&header(5), place(8));
            let newer = Place { segment: 2, ..place(8) };
            index.insert(&header(6), newer);
            if forget {
                index.forget(1);
            } else {
                index.remove(&header(5), place(8));
            }
            assert_eq!((index.find(1, &[9; 32]), index.at_height(1, 5)), (Some(newer), None));
            index.remove(&header(6), newer);
            assert_eq!((index.find(1, &[9; 32]), index.last_height(1)), (None, None));
        }
    }

    #[test]
    fn absent_key_and_height_are_not_entered() {
        let mut index = Index::default();
        let header = RecordHeader { kind: 1, height: crate::NO_HEIGHT, key: [0; 32] };
        index.insert(&header, place(8));
        assert_eq!(index.find(1, &[0; 32]), None);
        assert_eq!(index.at_height(1, crate::NO_HEIGHT), None);
        assert!(index.keys.is_empty() && index.heights.is_empty());
    }
}
