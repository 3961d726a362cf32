//! Accounts in pages: what of the state is hashed together.
//!
//! ```text
//!   accounts    0..8  8..16  16..19      by number; a page is the encodings of its accounts
//! ```
//!
//! Accounts keep their numbers and none is ever removed, so a change touches one page, and a new account
//! touches the last page or begins one. Pages of eight accounts make the tree over them as large as the
//! eighth part of the accounts: 80 MB beside 800 MB for ten million.

use crate::codec::index;
use crate::digest::{Digest, domain};
use crate::limits::ACCOUNT_BYTES;
use crate::table::Entry;

use super::Account;

/// Accounts of a page.
pub(super) const PAGE_ACCOUNTS: usize = 8;

/// Bytes of a whole page: ten blocks of the hash function, which go side by side.
pub(super) const PAGE_BYTES: usize = PAGE_ACCOUNTS * ACCOUNT_BYTES;

const _: () = assert!(PAGE_BYTES == 640);

/// Computes the digests of changed pages.
pub(super) fn hash_pages(accounts: &[Entry<Account>], changed: &[u32], leaves: &mut [Digest]) {
    let (pages, last) = accounts.as_chunks::<PAGE_ACCOUNTS>();
    // The last page may be a part of one, which does not fit beside whole ones.
    let whole = changed.partition_point(|page| index(*page) < pages.len());
    let (whole, part) = changed.split_at(whole);
    domain::STATE_PAGE.digests_of_blocks::<PAGE_BYTES>(
        whole.len(),
        |place, bytes| write_page(&pages[index(whole[place])], bytes),
        |place, digest| leaves[index(whole[place])] = digest,
    );
    for page in part {
        let mut bytes = [0; PAGE_BYTES];
        write_page(last, &mut bytes);
        let bytes = &bytes[..last.len() * ACCOUNT_BYTES];
        leaves[index(*page)] = domain::STATE_PAGE.digest(&[bytes]);
    }
}

fn write_page(accounts: &[Entry<Account>], bytes: &mut [u8; PAGE_BYTES]) {
    let (places, _) = bytes.as_chunks_mut::<ACCOUNT_BYTES>();
    for (place, (key, account)) in places.iter_mut().zip(accounts) {
        account.encode_into(key, place);
    }
}

#[cfg(test)]
mod tests;
