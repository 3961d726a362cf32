//! The Merkle tree over pages of accounts, of which only what changed is hashed again.
//!
//! ```text
//!   levels[2]             n              the top
//!                    ┌────┴────┐
//!   levels[1]        n         │         shape and nodes as in `merkle`: an odd one is promoted
//!                 ┌──┴──┐      │
//!   levels[0]    leaf  leaf   leaf       one for each page
//!                 │     │      │
//!   accounts    0..8  8..16  16..19      by number; a page is the entries of its accounts
//! ```
//!
//! Accounts keep their numbers and none is ever removed, so a change touches one page and the nodes
//! above it, and a new account touches the last page or begins one. A binary tree by level needs no
//! rebuilding to grow: a node that was promoted gets its sibling when that comes to be, and the new
//! sibling has the path to the top done again. Pages of eight accounts make the tree as large as the
//! eighth part of the accounts: 80 MB beside 800 MB for ten million.

use crate::codec::{count_u32, index};
use crate::digest::{Digest, PublicKey, domain};
use crate::limits::{ACCOUNT_BYTES, STATE_ENTRY_BYTES};
use crate::merkle;
use crate::table::Entry;

use super::Account;
use super::order::Order;

/// Accounts of a page.
pub(super) const PAGE_ACCOUNTS: usize = 8;

/// Bytes of a whole page: eleven blocks of the hash function, which go side by side.
pub(super) const PAGE_BYTES: usize = PAGE_ACCOUNTS * STATE_ENTRY_BYTES;

const _: () = assert!(PAGE_BYTES == 704);

/// Bits of a word of the map.
const WORD_BITS: usize = 64;

/// The nodes of the tree, and which pages changed since they were computed.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    /// One bit for each page.
    changed: Vec<u64>,
    /// From the leaves up; the last holds the top alone, or nothing when there are no accounts.
    levels: Vec<Vec<Digest>>,
}

impl Pages {
    /// Starts a tree over accounts none of which was hashed yet.
    pub(super) fn new(accounts: usize) -> Self {
        let pages = accounts.div_ceil(PAGE_ACCOUNTS);
        let mut changed = vec![u64::MAX; pages.div_ceil(WORD_BITS)];
        if let (Some(last), rest @ 1..) = (changed.last_mut(), pages % WORD_BITS) {
            *last = (1 << rest) - 1;
        }
        Self { changed, levels: Vec::new() }
    }

    /// Notes that the account with this number changed or came to be.
    pub(super) fn mark(&mut self, number: u32) {
        let page = index(number) / PAGE_ACCOUNTS;
        let word = page / WORD_BITS;
        if word >= self.changed.len() {
            self.changed.resize(word + 1, 0);
        }
        self.changed[word] |= 1 << (page % WORD_BITS);
    }

    /// Computes the Merkle root over all pages; every account that changed or was linked anew was marked.
    pub(super) fn root(&mut self, accounts: &[Entry<Account>], order: &Order) -> Digest {
        let count = accounts.len().div_ceil(PAGE_ACCOUNTS);
        let mut changed = self.take_changed();
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        grow(&mut self.levels[0], count);
        hash_pages(accounts, order, &changed, &mut self.levels[0]);
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

    /// Returns the siblings of a page on its way up, as of the last root.
    pub(super) fn siblings(&self, page: u32) -> Vec<Digest> {
        let mut place = index(page);
        let mut siblings = Vec::new();
        for level in &self.levels {
            siblings.extend(level.get(place ^ 1));
            place /= 2;
        }
        siblings
    }

    /// Returns the pages that changed, ascending, and forgets them.
    fn take_changed(&mut self) -> Vec<u32> {
        let count = self.changed.iter().map(|word| index(word.count_ones())).sum();
        let mut pages = Vec::with_capacity(count);
        for (first, word) in (0..).step_by(WORD_BITS).zip(&mut self.changed) {
            let mut bits = std::mem::take(word);
            while bits != 0 {
                pages.push(first + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        pages
    }
}

/// Makes room for new nodes. All of them are computed before they are read: their pages are marked.
fn grow(level: &mut Vec<Digest>, length: usize) {
    // By an eighth and not by half: at ten million accounts every second byte would be for later.
    let missing = length - level.len();
    if missing > level.capacity() - level.len() {
        level.reserve_exact(missing.max(level.len() / 8));
    }
    level.resize(length, Digest::ZERO);
}

fn hash_pages(accounts: &[Entry<Account>], order: &Order, changed: &[u32], leaves: &mut [Digest]) {
    let (pages, last) = accounts.as_chunks::<PAGE_ACCOUNTS>();
    // The last page may be a part of one, which does not fit beside whole ones.
    let whole = changed.partition_point(|page| index(*page) < pages.len());
    let (whole, part) = changed.split_at(whole);
    domain::STATE_PAGE.digests_of_blocks::<PAGE_BYTES>(
        whole.len(),
        |place, bytes| write_page(whole[place], &pages[index(whole[place])], order, bytes),
        |place, digest| leaves[index(whole[place])] = digest,
    );
    for page in part {
        let mut bytes = [0; PAGE_BYTES];
        write_page(*page, last, order, &mut bytes);
        let bytes = &bytes[..last.len() * STATE_ENTRY_BYTES];
        leaves[index(*page)] = domain::STATE_PAGE.digest(&[bytes]);
    }
}

fn write_page(page: u32, accounts: &[Entry<Account>], order: &Order, bytes: &mut [u8; PAGE_BYTES]) {
    let (places, _) = bytes.as_chunks_mut::<STATE_ENTRY_BYTES>();
    let numbers = page * count_u32(PAGE_ACCOUNTS)..;
    for ((place, number), (key, account)) in places.iter_mut().zip(numbers).zip(accounts) {
        write_entry(key, account, order.next(number), place);
    }
}

/// Writes an account as it stands in a page: [`Account::encode`], then the number of who follows it, u64.
pub(super) fn write_entry(
    key: &PublicKey,
    account: &Account,
    next: u32,
    bytes: &mut [u8; STATE_ENTRY_BYTES],
) {
    let (encoded, link) = bytes.split_at_mut(ACCOUNT_BYTES);
    account.encode_into(key, encoded.first_chunk_mut().expect("an entry has an account's bytes"));
    link.copy_from_slice(&u64::from(next).to_le_bytes());
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

#[cfg(test)]
mod tests;
