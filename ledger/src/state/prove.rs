//! What the state root says of one key: its account, or that it has none.
//!
//! ```text
//!   0  key       32   of the account, or of none
//!  32  accounts  u64  how many there are
//!  40  lanes     32   digest of the lanes
//!  72  burned    u64
//!  80  council   32   digest of the council
//!
//!  of an account:                          of an absent key:
//! 112  links     32   root of the links    112  number  u32  of who is before it in the ring (see `order`)
//! 144  number    u32                       116  leaf         of the links, of that number
//! 148  page           of that number        ..  page         of that number
//!                                           ..  page         of who is after it, if that is another
//!
//!  page: its accounts, key 32, balance u64, sequence u64, head 32 each; siblings 32 each
//!  leaf: its links, u32 each; siblings 32 each
//! ```
//!
//! What is there, and how many siblings, is known from the number and how many accounts there are. Without
//! any account, what shows that a key has none ends after `council`.

use super::order::{LEAF_LINKS, hash_leaf};
use super::pages::{PAGE_ACCOUNTS, PAGE_BYTES};
use super::{Account, Rooted, State};
use crate::codec::{Reader, count_u32, index};
use crate::digest::{Digest, PublicKey, domain};
use crate::limits::ACCOUNT_BYTES;
use crate::merkle;
use crate::reject::Reject;

/// A key and its account.
type Entry = (PublicKey, Account);

/// A page of accounts and its way to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    entries: Vec<Entry>,
    siblings: Vec<Digest>,
}

/// A leaf of links and its way to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    links: Vec<u32>,
    siblings: Vec<Digest>,
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
    /// The key has the account with this number; the root of the links stands beside.
    Account { links: Digest, number: u32, page: Page },
    /// The key is between two neighbours of the ring; the second page is none where it is the first.
    Between { number: u32, leaf: Leaf, page: Page, other: Option<Page> },
    /// There are no accounts.
    Nobody,
}

impl State {
    /// Shows what the state of the last root says of a key.
    pub(crate) fn prove(&self, key: &PublicKey) -> StateProof {
        let there = |number: &u32| *number < self.frozen.count();
        let place = match self.accounts.find(key).filter(there) {
            Some(number) => Place::Account { links: self.links, number, page: self.page(number) },
            None => match self.order.predecessor(self.accounts.entries(), key) {
                None => Place::Nobody,
                Some(number) => {
                    let next = self.order.next(number);
                    let other = (page_of(next) != page_of(number)).then(|| self.page(next));
                    let leaf = self.leaf(number);
                    Place::Between { number, leaf, page: self.page(number), other }
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
            (*key, account)
        });
        Page { entries: entries.collect(), siblings: self.pages.siblings(page_of(number)) }
    }

    /// The leaf of an account's link.
    fn leaf(&self, number: u32) -> Leaf {
        let leaf = leaf_of(number);
        Leaf { links: self.order.leaf(leaf).to_vec(), siblings: self.order.siblings(leaf) }
    }
}

fn page_of(number: u32) -> u32 {
    number / count_u32(PAGE_ACCOUNTS)
}

fn leaf_of(number: u32) -> u32 {
    number / count_u32(LEAF_LINKS)
}

/// How many things stand in the group of a number, of `each` in every group but the last.
fn in_group(number: u32, accounts: u32, each: usize) -> u32 {
    let each = count_u32(each);
    (accounts - number / each * each).min(each)
}

fn read_siblings(
    reader: &mut Reader<'_>,
    number: u32,
    accounts: u32,
    each: usize,
) -> Result<Vec<Digest>, Reject> {
    let each = count_u32(each);
    let siblings = merkle::siblings(number / each, accounts.div_ceil(each));
    (0..siblings).map(|_| reader.digest()).collect()
}

impl Leaf {
    /// Computes the root of the links from this leaf, of `accounts` accounts in all.
    ///
    /// Errors: [`Reject::ProofShape`].
    fn root(&self, number: u32, accounts: u32) -> Result<Digest, Reject> {
        let (place, count) = (leaf_of(number), accounts.div_ceil(count_u32(LEAF_LINKS)));
        let proof = merkle::Proof { index: place, count, siblings: self.siblings.clone() };
        proof.root(&hash_leaf(&self.links))
    }

    /// Returns who follows a number that stands in this leaf.
    ///
    /// Errors: [`Reject::ProofShape`].
    fn next(&self, number: u32) -> Result<u32, Reject> {
        self.links.get(index(number) % LEAF_LINKS).copied().ok_or(Reject::ProofShape)
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        self.links.iter().for_each(|link| bytes.extend_from_slice(&link.to_le_bytes()));
        self.siblings.iter().for_each(|sibling| bytes.extend_from_slice(&sibling.0));
    }

    fn read(reader: &mut Reader<'_>, number: u32, accounts: u32) -> Result<Self, Reject> {
        let links = (0..in_group(number, accounts, LEAF_LINKS)).map(|_| reader.u32());
        let links = links.collect::<Result<_, _>>()?;
        Ok(Self { links, siblings: read_siblings(reader, number, accounts, LEAF_LINKS)? })
    }
}

impl Page {
    /// Computes the root of the pages from this one, of `accounts` accounts in all.
    ///
    /// Errors: [`Reject::ProofShape`].
    fn root(&self, number: u32, accounts: u32) -> Result<Digest, Reject> {
        let mut bytes = Vec::with_capacity(PAGE_BYTES);
        self.entries.iter().for_each(|(key, account)| bytes.extend(account.encode(key)));
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
        self.entries.iter().for_each(|(key, account)| bytes.extend(account.encode(key)));
        self.siblings.iter().for_each(|sibling| bytes.extend_from_slice(&sibling.0));
    }

    fn read(reader: &mut Reader<'_>, number: u32, accounts: u32) -> Result<Self, Reject> {
        let entries = (0..in_group(number, accounts, PAGE_ACCOUNTS))
            .map(|_| Ok(Account::decode(reader.array::<ACCOUNT_BYTES>()?)));
        let entries = entries.collect::<Result<_, _>>()?;
        Ok(Self { entries, siblings: read_siblings(reader, number, accounts, PAGE_ACCOUNTS)? })
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
            Place::Account { number, page, .. } => {
                page.entry(*number).ok().map(|(_, account)| account)
            }
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
        let (pages, links) = match &self.place {
            Place::Account { links, number, page } => {
                if page.entry(*number)?.0 != self.key {
                    return Err(Reject::ProofKey);
                }
                (page.root(*number, accounts)?, *links)
            }
            Place::Between { number, leaf, page, other } => {
                let pages = self.check_between(*number, leaf, page, other.as_ref(), accounts)?;
                (pages, leaf.root(*number, accounts)?)
            }
            Place::Nobody if accounts == 0 => (merkle::root(&[]), merkle::root(&[])),
            Place::Nobody => return Err(Reject::ProofShape),
        };
        Ok(self.rooted.root(&pages, &links))
    }

    /// Checks that the key is between an account and who follows it; returns the root of their pages.
    fn check_between(
        &self,
        number: u32,
        leaf: &Leaf,
        page: &Page,
        other: Option<&Page>,
        accounts: u32,
    ) -> Result<Digest, Reject> {
        let (before, _) = page.entry(number)?;
        let next = leaf.next(number)?;
        let root = page.root(number, accounts)?;
        let other = other.unwrap_or(page);
        if other.root(next, accounts)? != root {
            return Err(Reject::ProofRoot);
        }
        let (key, (after, _)) = (&self.key, other.entry(next)?);
        let is_between = match before < after {
            true => before < key && key < after,
            // The end of the ring; the largest and the smallest may be one.
            false => before < key || key < after,
        };
        if is_between { Ok(root) } else { Err(Reject::ProofKey) }
    }

    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>) {
        let Rooted { accounts, lanes, burned, council } = &self.rooted;
        bytes.extend_from_slice(&self.key.0);
        bytes.extend_from_slice(&accounts.to_le_bytes());
        bytes.extend_from_slice(&lanes.0);
        bytes.extend_from_slice(&burned.to_le_bytes());
        bytes.extend_from_slice(&council.0);
        match &self.place {
            Place::Account { links, number, page } => {
                bytes.extend_from_slice(&links.0);
                bytes.extend_from_slice(&number.to_le_bytes());
                page.encode_into(bytes);
            }
            Place::Between { number, leaf, page, other } => {
                bytes.extend_from_slice(&number.to_le_bytes());
                leaf.encode_into(bytes);
                page.encode_into(bytes);
                if let Some(other) = other {
                    other.encode_into(bytes);
                }
            }
            Place::Nobody => {}
        }
    }

    /// Reads what shows an account, or that there is none.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::ProofShape`].
    pub(crate) fn read(reader: &mut Reader<'_>, is_absence: bool) -> Result<Self, Reject> {
        let key = PublicKey(*reader.array()?);
        let rooted = Rooted {
            accounts: reader.u64()?,
            lanes: reader.digest()?,
            burned: reader.u64()?,
            council: reader.digest()?,
        };
        let accounts = u32::try_from(rooted.accounts).map_err(|_| Reject::ProofShape)?;
        if accounts == 0 && is_absence {
            return Ok(Self { key, rooted, place: Place::Nobody });
        }
        let links = (!is_absence).then(|| reader.digest()).transpose()?;
        let number = reader.u32()?;
        if number >= accounts {
            return Err(Reject::ProofShape);
        }
        let place = match links {
            Some(links) => {
                Place::Account { links, number, page: Page::read(reader, number, accounts)? }
            }
            None => {
                let leaf = Leaf::read(reader, number, accounts)?;
                let next = leaf.next(number)?;
                if next >= accounts {
                    return Err(Reject::ProofShape);
                }
                let page = Page::read(reader, number, accounts)?;
                let other = page_of(next) != page_of(number);
                let other = other.then(|| Page::read(reader, next, accounts)).transpose()?;
                Place::Between { number, leaf, page, other }
            }
        };
        Ok(Self { key, rooted, place })
    }
}

#[cfg(test)]
mod tests;
