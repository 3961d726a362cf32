//! The ring of all accounts by key, which shows that a key has no account.
//!
//! ```text
//!   number    0     1     2     3        in the order in which accounts came to be
//!   key       c     a     d     b
//!   next      2     3     1     0        a → b → c → d → a: two neighbours enclose every key that has none
//! ```
//!
//! The links stand in the pages beside the accounts, so the state root covers them. They change only when
//! accounts come to be, and are brought up to date when the root is: what is between two roots costs nothing.
//! Two numbers for each account, 80 MB for ten million.

use super::Account;
use crate::codec::index;
use crate::digest::PublicKey;
use crate::table::Entry;

/// The links, as of the last root.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// All numbers, by rising key.
    sorted: Vec<u32>,
    /// By number: who has the next larger key; of the largest, who has the smallest.
    next: Vec<u32>,
}

impl Order {
    /// Returns who follows an account in the ring.
    pub(super) fn next(&self, number: u32) -> u32 {
        self.next[index(number)]
    }

    /// Returns whose key is the largest below `key`, or the largest of all when there is none; nothing when
    /// there are no accounts.
    pub(super) fn predecessor(&self, entries: &[Entry<Account>], key: &PublicKey) -> Option<u32> {
        let place = self.place(entries, key, self.sorted.len());
        let last = self.sorted.len().checked_sub(1)?;
        Some(self.sorted[place.checked_sub(1).unwrap_or(last)])
    }

    /// How many of the first `end` have a smaller key.
    fn place(&self, entries: &[Entry<Account>], key: &PublicKey, end: usize) -> usize {
        self.sorted[..end].partition_point(|number| entries[index(*number)].0 < *key)
    }

    /// Links the accounts that came since the last time; `relinked` gets those that were there and have
    /// another neighbour now.
    pub(super) fn extend(&mut self, entries: &[Entry<Account>], mut relinked: impl FnMut(u32)) {
        let (old, all) = (self.next.len(), entries.len());
        if old == all {
            return;
        }
        let new = sorted_from(entries, old);
        self.next.resize(all, 0);
        let places = self.merge(entries, &new);
        for place in places {
            let number = self.sorted[place];
            let before = self.sorted[place.checked_sub(1).unwrap_or(all - 1)];
            let after = self.sorted[if place + 1 == all { 0 } else { place + 1 }];
            self.next[index(number)] = after;
            self.next[index(before)] = number;
            if index(before) < old {
                relinked(before);
            }
        }
    }

    /// Puts sorted new numbers among the old ones; returns where they stand.
    fn merge(&mut self, entries: &[Entry<Account>], new: &[u32]) -> Vec<usize> {
        let mut end = self.sorted.len();
        self.sorted.resize(end + new.len(), 0);
        let mut places = Vec::with_capacity(new.len());
        // From the largest on, so that every old number moves once, to its last place.
        for (before, number) in new.iter().enumerate().rev() {
            let place = self.place(entries, &entries[index(*number)].0, end);
            self.sorted.copy_within(place..end, place + before + 1);
            self.sorted[place + before] = *number;
            places.push(place + before);
            end = place;
        }
        places
    }
}

/// The numbers from `first` on, by rising key.
///
/// Sorted by the first bytes of the keys, which are at hand; only keys that share them are looked up.
fn sorted_from(entries: &[Entry<Account>], first: usize) -> Vec<u32> {
    let prefix =
        |key: &PublicKey| u64::from_be_bytes(*key.0.first_chunk().expect("a key has 32 bytes"));
    let numbers = (crate::codec::count_u32(first)..).zip(&entries[first..]);
    let mut keys: Vec<(u64, u32)> =
        numbers.map(|(number, (key, _))| (prefix(key), number)).collect();
    let key = |number: u32| &entries[index(number)].0;
    keys.sort_unstable_by(|(one, left), (other, right)| {
        one.cmp(other).then_with(|| key(*left).cmp(key(*right)))
    });
    keys.into_iter().map(|(_, number)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn check(order: &Order, entries: &[Entry<Account>]) {
        let mut sorted: Vec<u32> = (0..crate::codec::count_u32(entries.len())).collect();
        sorted.sort_by_key(|number| entries[index(*number)].0);
        assert_eq!(order.sorted, sorted);
        for (place, number) in sorted.iter().enumerate() {
            assert_eq!(order.next(*number), sorted[(place + 1) % sorted.len()]);
        }
    }

    #[test]
    fn a_ring_that_grows_is_the_ring_of_all() {
        let mut numbers = Numbers::new(5);
        for round in 0..40 {
            let entries = entries(200, round);
            let (mut order, mut there) = (Order::default(), 0);
            while there < entries.len() {
                let before = order.next.clone();
                there += index(1 + numbers.below(if round % 2 == 0 { 3 } else { 90 }));
                there = there.min(entries.len());
                let mut relinked = Vec::new();
                order.extend(&entries[..there], |number| relinked.push(number));
                check(&order, &entries[..there]);
                for (number, next) in before.iter().enumerate() {
                    let is_same = order.next[number] == *next;
                    assert_eq!(is_same, !relinked.contains(&crate::codec::count_u32(number)));
                }
            }
            order.extend(&entries, |_| panic!("nothing came to be"));
        }
    }

    #[test]
    fn a_key_is_enclosed_by_its_neighbours() {
        let entries: Vec<_> = [30, 10, 40, 20].map(|byte| entry([byte; 32])).into();
        let mut order = Order::default();
        assert_eq!(order.predecessor(&[], &PublicKey([9; 32])), None);
        order.extend(&entries, |_| {});
        for (key, before) in [(9, 2), (11, 1), (25, 3), (39, 0), (41, 2), (255, 2), (0, 2)] {
            assert_eq!(order.predecessor(&entries, &PublicKey([key; 32])), Some(before), "{key}");
        }
        let mut one = Order::default();
        one.extend(&entries[..1], |_| panic!("there is no other"));
        assert_eq!(one.next(0), 0);
    }
}
