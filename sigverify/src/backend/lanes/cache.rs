//! What is remembered of keys: their points, and tables for those that keep being checked alone.
//!
//! ```text
//! unknown ──valid once──▶ decoded ──valid alone 8 times of late──▶ waiting ──budget──▶ hot
//!                                                                             ◀──room──┘
//! ```
//!
//! Valid signatures under fresh keys cost an attacker little, so use alone buys no table: making
//! tables gets a twentieth of the time that checks alone take, and no more, and the tables have a
//! fixed number of places, where the least used of late goes first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::hot::{TABLE_BYTES, Table};
use super::point::AffineRow;
use crate::keys::{KeyHash, Keys};

/// Most keys with tables: 512 of 37 KB are 19 MB.
const HOT_KEYS_MAX: usize = 512;
const _: () = assert!(HOT_KEYS_MAX * TABLE_BYTES < 20 << 20);
/// Valid checks alone after which a key may get a table; making one costs as much as four.
const USES_MIN: u32 = 8;
/// Counters of uses, each for the keys of one hash.
const COUNTERS: usize = 1 << 14;
/// Keys that wait for a table; further ones are counted anew.
const WAITING_MAX: usize = 64;
/// A check alone in units of the budget; a twentieth of the time of all goes to tables.
const CHECK_PRICE: u64 = 1;
/// Making up to eight tables: measured as 26 checks alone, times twenty.
pub(super) const BUILD_PRICE: u64 = 20 * 26;
/// Unused budget is not kept beyond this, so that a quiet hour does not pay for a storm of tables.
const BUDGET_MAX: u64 = 4 * BUILD_PRICE;

/// Points and tables of keys.
pub(crate) struct Cache {
    /// Decoded keys.
    pub(super) points: Keys<AffineRow>,
    tables: RwLock<HashMap<[u8; 32], Arc<Hot>>>,
    /// Number of tables, so that nothing is locked while there are none.
    count: AtomicUsize,
    counters: Box<[AtomicU32]>,
    waiting: Mutex<Vec<([u8; 32], AffineRow)>>,
    budget: AtomicU64,
}

/// A key's table and how often it was used of late.
pub(super) struct Hot {
    pub(super) table: Table,
    uses: AtomicU32,
}

impl Hot {
    /// A signature was checked with it.
    pub(super) fn count_use(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            points: Keys::new(),
            tables: RwLock::default(),
            count: AtomicUsize::new(0),
            counters: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            waiting: Mutex::default(),
            budget: AtomicU64::new(0),
        }
    }

    /// Whether any key has a table.
    pub(super) fn has_tables(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// The table of a key, if it has one; nobody waits for it.
    pub(super) fn table(&self, key: &[u8; 32]) -> Option<Arc<Hot>> {
        self.tables.try_read().ok()?.get(key).cloned()
    }

    /// A valid signature of a key without a table was checked alone.
    pub(super) fn count_use(&self, hash: KeyHash, key: &[u8; 32], point: &AffineRow) {
        let earned = self.budget.load(Ordering::Relaxed) + CHECK_PRICE;
        // Lost when two threads count at once: it is an estimate.
        self.budget.store(earned.min(BUDGET_MAX), Ordering::Relaxed);
        // The counter of a hash has the tag of one key, upper 24 bits, and its uses.
        let counter = &self.counters[usize::try_from(hash.0).expect("64 bits") % COUNTERS];
        let tag = u32::try_from(hash.0 >> 40).expect("24 bits are left") << 8;
        let before = counter.load(Ordering::Relaxed);
        let uses = before & 0xff;
        let after = match before & !0xff == tag {
            _ if uses == 0 => tag | 1,
            true => tag | (uses + 1),
            // Another key's: it fades away under those that are used more.
            false => before - 1,
        };
        if after & !0xff == tag && after & 0xff >= USES_MIN {
            counter.store(tag, Ordering::Relaxed);
            self.wait_for_table(key, point);
        } else {
            counter.store(after, Ordering::Relaxed);
        }
    }

    fn wait_for_table(&self, key: &[u8; 32], point: &AffineRow) {
        let Ok(mut waiting) = self.waiting.try_lock() else { return };
        if waiting.iter().any(|(other, _)| other == key) {
            return;
        }
        if waiting.len() < WAITING_MAX {
            waiting.push((*key, *point));
        } else {
            // In anybody's place, by the secretly keyed hash: who comes first in every chunk would
            // have all places otherwise.
            let place = self.points.hash(key).0.rotate_right(29);
            waiting[usize::try_from(place).expect("64 bits") % WAITING_MAX] = (*key, *point);
        }
    }

    /// Up to eight keys whose tables the budget pays for now.
    pub(super) fn take_waiting(&self) -> Vec<([u8; 32], AffineRow)> {
        if self.budget.load(Ordering::Relaxed) < BUILD_PRICE {
            return Vec::new();
        }
        let Ok(mut waiting) = self.waiting.try_lock() else { return Vec::new() };
        // Counted as cold while another thread kept tables.
        let Ok(tables) = self.tables.try_read() else { return Vec::new() };
        waiting.retain(|(key, _)| !tables.contains_key(key));
        drop(tables);
        if !waiting.is_empty() {
            let left = self.budget.load(Ordering::Relaxed).saturating_sub(BUILD_PRICE);
            self.budget.store(left, Ordering::Relaxed);
        }
        let take = waiting.len().min(8);
        waiting.drain(..take).collect()
    }

    /// Keeps tables; the least used ones make room.
    pub(super) fn keep(&self, made: impl IntoIterator<Item = ([u8; 32], Table)>) {
        let Ok(mut tables) = self.tables.write() else { return };
        let uses = |hot: &Arc<Hot>| hot.uses.load(Ordering::Relaxed);
        let mut full = false;
        for (key, table) in made {
            if tables.len() >= HOT_KEYS_MAX && !tables.contains_key(&key) {
                let least = tables.iter().min_by_key(|(_, hot)| uses(hot)).map(|(key, _)| *key);
                tables.remove(&least.expect("it is full"));
                full = true;
            }
            let hot = Hot { table, uses: AtomicU32::new(USES_MIN) };
            tables.insert(key, Arc::new(hot));
        }
        if full {
            // Of late: what was used long ago counts less with every eviction.
            tables.values().for_each(|hot| hot.uses.store(uses(hot) / 2, Ordering::Relaxed));
        }
        self.count.store(tables.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> [u8; 32] {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    fn use_times(cache: &Cache, number: u64, times: u64) {
        for _ in 0..times {
            let hash = cache.points.hash(&key(number));
            cache.count_use(hash, &key(number), &AffineRow::IDENTITY);
        }
    }

    #[test]
    fn a_key_waits_for_a_table_once_it_was_used_often() {
        let cache = Cache::new();
        use_times(&cache, 1, u64::from(USES_MIN) - 1);
        assert!(cache.waiting.lock().unwrap().is_empty());
        use_times(&cache, 1, 1);
        assert_eq!(cache.waiting.lock().unwrap().len(), 1);
        use_times(&cache, 1, 100);
        assert_eq!(cache.waiting.lock().unwrap().len(), 1, "only once");
    }

    #[test]
    fn keys_that_are_used_once_each_buy_nothing() {
        let cache = Cache::new();
        (0..200_000).for_each(|number| use_times(&cache, number, 1));
        assert!(cache.take_waiting().is_empty());
    }

    #[test]
    fn tables_get_a_twentieth_of_the_time() {
        let cache = Cache::new();
        let mut builds = 0;
        let uses = 400_000;
        for number in 0..uses / 16 {
            use_times(&cache, number, 16);
            builds += u64::from(!cache.take_waiting().is_empty());
        }
        assert!(builds > 0);
        assert!(builds * BUILD_PRICE <= uses * CHECK_PRICE, "{builds}");
    }

    #[test]
    fn a_key_that_is_used_now_and_then_outlives_those_used_once() {
        let cache = Cache::new();
        cache.keep((0..HOT_KEYS_MAX as u64).map(|number| (key(number), Table::empty())));
        for eight in 0..1_000 {
            // As often as a new table says of itself.
            for _ in 0..USES_MIN {
                cache.table(&key(3)).expect("it is used as much as any").count_use();
            }
            let fresh = 10_000 + 8 * eight..10_008 + 8 * eight;
            cache.keep(fresh.map(|number| (key(number), Table::empty())));
        }
    }

    #[test]
    fn who_waits_late_has_a_chance_too() {
        let cache = Cache::new();
        let wait = |number: u64| cache.wait_for_table(&key(number), &AffineRow::IDENTITY);
        (0..4 * WAITING_MAX as u64).for_each(wait);
        let waiting = cache.waiting.lock().unwrap();
        assert_eq!(waiting.len(), WAITING_MAX);
        let first = (0..WAITING_MAX as u64).filter(|n| waiting.iter().any(|(k, _)| *k == key(*n)));
        assert!(first.count() < WAITING_MAX / 2, "later ones have taken places");
    }

    #[test]
    fn a_table_that_is_there_is_not_made_again() {
        let cache = Cache::new();
        cache.wait_for_table(&key(1), &AffineRow::IDENTITY);
        cache.wait_for_table(&key(2), &AffineRow::IDENTITY);
        cache.keep([(key(1), Table::empty())]);
        cache.budget.store(BUILD_PRICE, Ordering::Relaxed);
        let waiting = cache.take_waiting();
        assert_eq!(waiting.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(2)]);
    }

    #[test]
    fn tables_have_a_limit_and_the_used_ones_stay() {
        let cache = Cache::new();
        let table = || Table::empty();
        cache.keep([(key(0), table())]);
        for number in 1..=2 * HOT_KEYS_MAX as u64 {
            cache.table(&key(0)).expect("it is used all the time").count_use();
            cache.keep([(key(number), table())]);
        }
        assert_eq!(cache.tables.read().unwrap().len(), HOT_KEYS_MAX);
        assert!(cache.table(&key(2 * HOT_KEYS_MAX as u64)).is_some(), "the newest");
    }
}
