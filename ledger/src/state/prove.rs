//! What the state root says of one key: its account, or that it has none.
//!
//! ```text
//!   0  key       32   of the account, or of none
//!  32  accounts  u64  how many there are
//!  40  lanes     32   digest of the lanes
//!  72  burned    u64
//!  80  number    u32  of the account; of an absent key, of who is before it in the ring (see `order`)
//!  84  page           of that number
//!  ..  page           of an absent key, of who is after it, if that is another page
//!
//!  page: its accounts, key 32, balance u64, sequence u64, head 32, next u64 each; siblings 32 each
//! ```
//!
//! What is there, and how many siblings, is known from the number and how many accounts there are. Without
//! any account, what shows that a key has none ends after `burned`.

use super::pages::{PAGE_ACCOUNTS, write_entry};
use super::{Account, Rooted, State};
use crate::codec::{Reader, count_u32, index};
use crate::digest::{Digest, PublicKey, domain};
use crate::limits::{ACCOUNT_BYTES, STATE_ENTRY_BYTES};
use crate::merkle;
use crate::reject::Reject;

/// An account as it stands in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whose it is.
    pub(crate) key: PublicKey,
    /// What it has.
    pub(crate) account: Account,
    /// The number of who has the next larger key.
    pub(crate) next: u64,
}

/// A page of accounts and its way to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    pub(crate) siblings: Vec<Digest>,
}

/// What the state says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateProof {
    pub(crate) key: PublicKey,
    pub(crate) rooted: Rooted,
    pub(crate) place: Place,
}

/// Where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The key has the account with this number.
    Account { number: u32, page: Page },
    /// The key is between two neighbours of the ring; the second page is none where it is the first.
    Between { number: u32, page: Page, other: Option<Page> },
    /// There are no accounts.
    Nobody,
}

impl State {
    /// Shows what the state of the last root says of a key.
    pub(crate) fn prove(&self, key: &PublicKey) -> StateProof {
        let there = |number: &u32| *number < self.frozen.count();
        let place = match self.accounts.find(key).filter(there) {
            Some(number) => Place::Account { number, page: self.page(number) },
            None => match self.order.predecessor(self.accounts.entries(), key) {
                None => Place::Nobody,
                Some(number) => {
                    let next = self.order.next(number);
                    let other = (page_of(next) != page_of(number)).then(|| self.page(next));
                    Place::Between { number, page: self.page(number), other }
                }
            },
        };
        StateProof { key: *key, rooted: self.rooted, place }
    }

    /// The page of an account, as it was when the root was computed.
    fn page(&self, number: u32) -> Page {
        let first = page_of(number) * count_u32(PAGE_ACCOUNTS);
        let end = self.frozen.count().min(first.saturating_add(count_u32(PAGE_ACCOUNTS)));
        let entries = (first..end).map(|number| {
            let (key, account) = self.accounts.get(number);
            let account = *self.frozen.find(number).unwrap_or(account);
            Entry { key: *key, account, next: u64::from(self.order.next(number)) }
        });
        Page { entries: entries.collect(), siblings: self.pages.siblings(page_of(number)) }
    }
}

fn page_of(number: u32) -> u32 {
    number / count_u32(PAGE_ACCOUNTS)
}

impl Page {
    /// Computes the root of the pages from this one, of `accounts` accounts in all.
    ///
    /// Errors: [`Reject::ProofShape`].
    fn root(&self, number: u32, accounts: u32) -> Result<Digest, Reject> {
        let mut bytes = Vec::with_capacity(PAGE_ACCOUNTS * STATE_ENTRY_BYTES);
        self.entries.iter().for_each(|entry| entry.encode_into(&mut bytes));
        let proof = merkle::Proof {
            index: page_of(number),
            count: accounts.div_ceil(count_u32(PAGE_ACCOUNTS)),
            siblings: self.siblings.clone(),
        };
        proof.root(&domain::STATE_PAGE.digest(&[&bytes]))
    }

    /// Returns the entry of a number that stands in this page.
    ///
    /// Errors: [`Reject::ProofShape`].
    fn entry(&self, number: u32) -> Result<&Entry, Reject> {
        self.entries.get(index(number) % PAGE_ACCOUNTS).ok_or(Reject::ProofShape)
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        self.entries.iter().for_each(|entry| entry.encode_into(bytes));
        self.siblings.iter().for_each(|sibling| bytes.extend_from_slice(&sibling.0));
    }

    fn read(reader: &mut Reader<'_>, number: u32, accounts: u32) -> Result<Self, Reject> {
        let (page, whole) = (page_of(number), count_u32(PAGE_ACCOUNTS));
        let entries = (accounts - page * whole).min(whole);
        let entries = (0..entries).map(|_| Entry::read(reader)).collect::<Result<_, _>>()?;
        let siblings = merkle::siblings(page, accounts.div_ceil(whole));
        let siblings = (0..siblings).map(|_| reader.digest()).collect::<Result<_, _>>()?;
        Ok(Self { entries, siblings })
    }
}

impl Entry {
    fn encode_into(&self, bytes: &mut Vec<u8>) {
        let mut entry = [0; STATE_ENTRY_BYTES];
        let next = u32::try_from(self.next).expect("it was read from, or has, 32 bits");
        write_entry(&self.key, &self.account, next, &mut entry);
        bytes.extend_from_slice(&entry);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let (key, account) = Account::decode(reader.array::<ACCOUNT_BYTES>()?);
        let next = reader.u64()?;
        // No number has more, and none is written with more.
        u32::try_from(next).map_err(|_| Reject::ProofShape)?;
        Ok(Self { key, account, next })
    }
}

impl StateProof {
    /// Returns the key of which it speaks.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns the account of the key, or none where it shows that there is none.
    pub fn account(&self) -> Option<&Account> {
        match &self.place {
            Place::Account { number, page } => page.entry(*number).ok().map(|entry| &entry.account),
            Place::Between { .. } | Place::Nobody => None,
        }
    }

    /// Whether it shows that the key has no account.
    pub const fn is_absence(&self) -> bool {
        match self.place {
            Place::Account { .. } => false,
            Place::Between { .. } | Place::Nobody => true,
        }
    }

    /// Computes the state root under which this holds.
    ///
    /// Errors: [`Reject::ProofShape`], [`Reject::ProofRoot`], [`Reject::ProofKey`].
    pub(crate) fn root(&self) -> Result<Digest, Reject> {
        let accounts = u32::try_from(self.rooted.accounts).map_err(|_| Reject::ProofShape)?;
        let pages = match &self.place {
            Place::Account { number, page } => {
                if page.entry(*number)?.key != self.key {
                    return Err(Reject::ProofKey);
                }
                page.root(*number, accounts)?
            }
            Place::Between { number, page, other } => {
                self.check_between(*number, page, other.as_ref(), accounts)?
            }
            Place::Nobody if accounts == 0 => merkle::root(&[]),
            Place::Nobody => return Err(Reject::ProofShape),
        };
        Ok(self.rooted.root(&pages))
    }

    /// Checks that the key is between an account and who follows it; returns the root of their pages.
    fn check_between(
        &self,
        number: u32,
        page: &Page,
        other: Option<&Page>,
        accounts: u32,
    ) -> Result<Digest, Reject> {
        let before = page.entry(number)?;
        let next = u32::try_from(before.next).map_err(|_| Reject::ProofShape)?;
        let root = page.root(number, accounts)?;
        let other = other.unwrap_or(page);
        if other.root(next, accounts)? != root {
            return Err(Reject::ProofRoot);
        }
        let (before, key, after) = (&before.key, &self.key, &other.entry(next)?.key);
        let is_between = match before < after {
            true => before < key && key < after,
            // The end of the ring; the largest and the smallest may be one.
            false => before < key || key < after,
        };
        if is_between { Ok(root) } else { Err(Reject::ProofKey) }
    }

    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>) {
        let Rooted { accounts, lanes, burned } = &self.rooted;
        bytes.extend_from_slice(&self.key.0);
        bytes.extend_from_slice(&accounts.to_le_bytes());
        bytes.extend_from_slice(&lanes.0);
        bytes.extend_from_slice(&burned.to_le_bytes());
        let (number, page, other) = match &self.place {
            Place::Account { number, page } => (number, page, None),
            Place::Between { number, page, other } => (number, page, other.as_ref()),
            Place::Nobody => return,
        };
        bytes.extend_from_slice(&number.to_le_bytes());
        page.encode_into(bytes);
        if let Some(other) = other {
            other.encode_into(bytes);
        }
    }

    /// Reads what shows an account, or that there is none.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::ProofShape`].
    pub(crate) fn read(reader: &mut Reader<'_>, is_absence: bool) -> Result<Self, Reject> {
        let key = PublicKey(*reader.array()?);
        let rooted =
            Rooted { accounts: reader.u64()?, lanes: reader.digest()?, burned: reader.u64()? };
        let accounts = u32::try_from(rooted.accounts).map_err(|_| Reject::ProofShape)?;
        if accounts == 0 && is_absence {
            return Ok(Self { key, rooted, place: Place::Nobody });
        }
        let number = reader.u32()?;
        if number >= accounts {
            return Err(Reject::ProofShape);
        }
        let page = Page::read(reader, number, accounts)?;
        let place = if is_absence {
            let next = u32::try_from(page.entry(number)?.next).map_err(|_| Reject::ProofShape)?;
            if next >= accounts {
                return Err(Reject::ProofShape);
            }
            let other = page_of(next) != page_of(number);
            let other = other.then(|| Page::read(reader, next, accounts)).transpose()?;
            Place::Between { number, page, other }
        } else {
            Place::Account { number, page }
        };
        Ok(Self { key, rooted, place })
    }
}

#[cfg(test)]
mod tests;
