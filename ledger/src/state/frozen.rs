//! What accounts were when the root was computed last: proofs speak of that state, while execution goes on.
//!
//! ```text
//!   newest: one place for each page  ─▶  olds: number, account, place of the page's one before
//! ```
//!
//! An account is kept here when it changes for the first time since the root. So each takes its room once
//! between two roots, and finding one is a walk of at most a page's accounts.

use super::Account;
use super::pages::PAGE_ACCOUNTS;
use crate::codec::{count_u32, index};

/// No place.
const NONE: u32 = u32::MAX;

/// An account before it changed.
#[derive(Clone, Copy, Debug)]
struct Old {
    number: u32,
    /// The place of the one that was kept of this page before.
    before: u32,
    account: Account,
}

/// The accounts that changed since the last root, as they were.
#[derive(Clone, Debug, Default)]
pub(super) struct Frozen {
    /// Accounts that there were.
    count: u32,
    newest: Vec<u32>,
    olds: Vec<Old>,
}

impl Frozen {
    /// Starts anew: everything is as it is now.
    pub(super) fn freeze(&mut self, count: usize) {
        for old in self.olds.drain(..) {
            self.newest[index(old.number) / PAGE_ACCOUNTS] = NONE;
        }
        self.count = count_u32(count);
        self.newest.resize(count.div_ceil(PAGE_ACCOUNTS), NONE);
    }

    /// Returns how many accounts there were.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Keeps an account that is about to change.
    pub(super) fn keep(&mut self, number: u32, account: &Account) {
        if number >= self.count || self.find(number).is_some() {
            return;
        }
        let newest = &mut self.newest[index(number) / PAGE_ACCOUNTS];
        let before = std::mem::replace(newest, count_u32(self.olds.len()));
        self.olds.push(Old { number, before, account: *account });
    }

    /// Returns the account as it was, if it has changed since.
    pub(super) fn find(&self, number: u32) -> Option<&Account> {
        let mut place = *self.newest.get(index(number) / PAGE_ACCOUNTS)?;
        while place != NONE {
            let old = &self.olds[index(place)];
            if old.number == number {
                return Some(&old.account);
            }
            place = old.before;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(balance: u64) -> Account {
        Account { balance, ..Account::default() }
    }

    #[test]
    fn the_first_value_since_the_root_is_kept() {
        let mut frozen = Frozen::default();
        frozen.keep(0, &account(1));
        assert_eq!(frozen.find(0), None, "it was not there");
        frozen.freeze(20);
        for number in (0..20).rev() {
            frozen.keep(number, &account(u64::from(number)));
            frozen.keep(number, &account(77));
        }
        frozen.keep(20, &account(20));
        for number in 0..20 {
            assert_eq!(frozen.find(number), Some(&account(u64::from(number))));
        }
        assert_eq!((frozen.find(20), frozen.find(1_000), frozen.count()), (None, None, 20));
        frozen.freeze(21);
        assert!((0..21).all(|number| frozen.find(number).is_none()));
        frozen.keep(20, &account(5));
        assert_eq!(frozen.find(20), Some(&account(5)));
    }
}
