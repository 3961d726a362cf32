//! Accounts, fees and the rules by which a transaction changes them.
//!
//! The order of the rules is part of the format, since every validator must give the same answer:
//!
//! 1. `valid_until` below the height: *expired*. It comes first because it needs no account: anyone
//!    who has the transaction and the height can tell. So a late copy of an applied transaction is
//!    expired, not stale.
//! 2. The author has no account: *ahead*, since a transfer may still create it.
//! 3. The sequence is below the expected one: *stale*; above it: *ahead*.
//! 4. The link is not the author's head: *forked*.
//! 5. The sequence is consumed. The fee is burned, at most the whole balance; a balance below the
//!    fee: *failed*.
//! 6. A ballot has its effect, if its author may say that (see [`crate::council`]); if not: *failed*.
//! 7. A transfer needs its amount, and the deposit, which is burned, when it creates the receiver's
//!    account. What cannot be paid: *failed*. Everything else: *applied*.
//!
//! The sum of all balances and of what was burned never changes.
//!
//! The state root covers the accounts by number, the ring of their keys, the lanes and what was burned. It is
//! computed from nothing ([`State::root`]), or from the tree of the last time and what changed since (`pages`).
//! What it says of a key is proved from it alone (`prove`), also while execution goes on (`frozen`).

mod frozen;
mod order;
mod pages;
mod prove;
mod tree;

use std::cmp::Ordering;

use crate::block::{Tip, Tips};
use crate::codec::{Reader, index, length_u64};
use crate::council::{Ballot, Council, at_rates};
use crate::digest::{Digest, Height, PublicKey, domain};
use crate::genesis::{Genesis, KeyCheck, Parameters};
use crate::limits::{ACCOUNT_BYTES, BATCH_BODY_BYTES_MAX, LANE_BYTES, LANE_QUOTA_BYTES_MAX};
use crate::merkle;
use crate::outcome::Outcome;
use crate::reject::Reject;
use crate::table::Table;
use crate::transaction::{Transaction, Transfer};

use frozen::Frozen;
use order::Order;
use pages::{PAGE_ACCOUNTS, hash_pages};
pub use prove::StateProof;
use tree::Tree;

/// What an author has and where its chain stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What it can spend.
    pub balance: u64,
    /// The sequence that is due next.
    pub sequence: u64,
    /// The id of the last transaction that consumed a sequence; zero before the first.
    pub head: Digest,
}

impl Account {
    /// Writes the account with its key.
    ///
    /// Shape: key 32, balance u64, sequence u64, head 32.
    pub fn encode(&self, key: &PublicKey) -> [u8; ACCOUNT_BYTES] {
        let mut bytes = [0; ACCOUNT_BYTES];
        self.encode_into(key, &mut bytes);
        bytes
    }

    /// Reads an account with its key; there are no bytes that are none.
    pub fn decode(bytes: &[u8; ACCOUNT_BYTES]) -> (PublicKey, Self) {
        let number = |offset: usize| {
            u64::from_le_bytes(*bytes[offset..].first_chunk().expect("the array is long enough"))
        };
        let wide = |offset: usize| *bytes[offset..].first_chunk().expect("as above");
        let account = Self { balance: number(32), sequence: number(40), head: Digest(wide(48)) };
        (PublicKey(wide(0)), account)
    }

    fn encode_into(&self, key: &PublicKey, bytes: &mut [u8; ACCOUNT_BYTES]) {
        bytes[..32].copy_from_slice(&key.0);
        bytes[32..40].copy_from_slice(&self.balance.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[48..].copy_from_slice(&self.head.0);
    }
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The newest batch that was executed.
    pub executed: Tip,
    /// The newest batch that a finalized block has committed.
    pub committed: Tip,
    /// Bytes that the next block executes of it at most.
    pub quota_bytes: u64,
}

impl Lane {
    /// A lane without batches.
    fn empty(parameters: &Parameters) -> Self {
        let (executed, committed) = (Tip::EMPTY, Tip::EMPTY);
        Self { executed, committed, quota_bytes: parameters.lane_quota_bytes }
    }

    /// Writes the lane: executed sequence u64 and digest 32, committed sequence u64 and digest 32, quota u64.
    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>) {
        for tip in [&self.executed, &self.committed] {
            bytes.extend_from_slice(&tip.sequence.to_le_bytes());
            bytes.extend_from_slice(&tip.digest.0);
        }
        bytes.extend_from_slice(&self.quota_bytes.to_le_bytes());
    }

    /// Reads a lane and checks that one could stand like this.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::LaneState`].
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let lane = Self {
            executed: Tip { sequence: reader.u64()?, digest: reader.digest()? },
            committed: Tip { sequence: reader.u64()?, digest: reader.digest()? },
            quota_bytes: reader.u64()?,
        };
        let Self { executed, committed, quota_bytes } = &lane;
        let quotas = length_u64(BATCH_BODY_BYTES_MAX)..=length_u64(LANE_QUOTA_BYTES_MAX);
        let tips = match executed.sequence.cmp(&committed.sequence) {
            Ordering::Less => true,
            Ordering::Equal => executed.digest == committed.digest,
            Ordering::Greater => false,
        };
        let empty = [executed, committed]
            .iter()
            .all(|tip| (tip.sequence == 0) == (tip.digest == Digest::ZERO));
        if tips && empty && quotas.contains(quota_bytes) {
            Ok(lane)
        } else {
            Err(Reject::LaneState)
        }
    }
}

/// What a transaction did.
pub(crate) struct Applied {
    pub(crate) outcome: Outcome,
    /// The number of the author's account, if it changed.
    pub(crate) author: Option<u32>,
    /// The number of the receiver's account, if it changed.
    pub(crate) receiver: Option<u32>,
}

/// All that decides what the next transaction does.
#[derive(Clone, Debug)]
pub struct State {
    parameters: Parameters,
    key_check: KeyCheck,
    council: Council,
    accounts: Table<Account>,
    order: Order,
    pages: Tree,
    frozen: Frozen,
    pub(crate) lanes: Vec<Lane>,
    burned: u64,
    /// What the last root covers beside the accounts and their links.
    rooted: Rooted,
    /// The root of the links.
    links: Digest,
}

/// What the state root covers beside the accounts and their links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rooted {
    /// How many accounts there are.
    pub(crate) accounts: u64,
    /// The digest of the lanes.
    pub(crate) lanes: Digest,
    /// What was burned.
    pub(crate) burned: u64,
    /// The digest of the council.
    pub(crate) council: Digest,
}

impl Rooted {
    /// Computes the state root.
    pub(crate) fn root(&self, pages: &Digest, links: &Digest) -> Digest {
        domain::STATE.digest(&[
            &self.accounts.to_le_bytes(),
            &pages.0,
            &links.0,
            &self.lanes.0,
            &self.burned.to_le_bytes(),
            &self.council.0,
        ])
    }
}

impl State {
    /// Returns the state before the first block.
    pub fn genesis(genesis: &Genesis) -> Self {
        let lane = Lane::empty(genesis.parameters());
        let accounts = genesis.accounts().iter().map(|account| {
            (account.key, Account { balance: account.balance, ..Account::default() })
        });
        let accounts: Table<Account> = accounts.collect();
        Self {
            parameters: *genesis.parameters(),
            key_check: genesis.key_check(),
            council: Council::genesis(genesis),
            order: Order::default(),
            pages: Tree::new(accounts.len().div_ceil(PAGE_ACCOUNTS)),
            frozen: Frozen::default(),
            accounts,
            lanes: vec![lane; genesis.set().len()],
            burned: 0,
            rooted: Rooted::default(),
            links: Digest::ZERO,
        }
    }

    /// Puts a state together from what it was; the caller compares its root.
    ///
    /// Errors: [`Reject::AccountRepeated`].
    pub(crate) fn restore(
        genesis: &Genesis,
        council: Council,
        accounts: Vec<(PublicKey, Account)>,
        lanes: Vec<Lane>,
        burned: u64,
    ) -> Result<Self, Reject> {
        let parameters = at_rates(genesis.parameters(), council.term().rates());
        let key_check = genesis.key_check();
        let pages = Tree::new(accounts.len().div_ceil(PAGE_ACCOUNTS));
        let accounts = Table::of_entries(accounts).ok_or(Reject::AccountRepeated)?;
        let (order, frozen) = (Order::default(), Frozen::default());
        let (rooted, links) = (Rooted::default(), Digest::ZERO);
        Ok(Self {
            parameters,
            key_check,
            council,
            accounts,
            order,
            pages,
            frozen,
            lanes,
            burned,
            rooted,
            links,
        })
    }

    /// Returns the account of this key.
    pub fn account(&self, key: &PublicKey) -> Option<&Account> {
        self.accounts.find(key).map(|number| self.accounts.get(number).1)
    }

    /// Returns the accounts by number, in the order in which they came to be: those of the genesis first.
    pub const fn table(&self) -> &Table<Account> {
        &self.accounts
    }

    /// Returns all accounts by number.
    pub fn accounts(&self) -> impl ExactSizeIterator<Item = (&PublicKey, &Account)> {
        self.accounts.iter()
    }

    /// Returns where every lane stands.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Returns who decides, and what is moved to change that.
    pub const fn council(&self) -> &Council {
        &self.council
    }

    /// A height was executed: what its place in its epoch asks for. Answers whether the epoch ended with it.
    ///
    /// Lanes begin anew with an epoch, and what was committed and not executed is void.
    pub(crate) fn end_height(&mut self, height: Height) -> bool {
        let epochs = self.council.epochs();
        if epochs.is_deciding(height) {
            self.council.decide();
        }
        let is_last = epochs.is_last(height);
        if is_last {
            self.council.turn();
            let term = self.council.term();
            self.parameters = at_rates(&self.parameters, term.rates());
            self.lanes = vec![Lane::empty(&self.parameters); term.set().len()];
        }
        is_last
    }

    /// Returns the parameters of the network, as they are in this epoch.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns the sum of all fees and deposits so far.
    pub fn burned(&self) -> u64 {
        self.burned
    }

    /// Returns the newest committed batch of every lane.
    pub(crate) fn committed(&self) -> Tips {
        Tips(self.lanes.iter().map(|lane| lane.committed).collect())
    }

    /// Returns the newest executed batch of every lane.
    pub(crate) fn executed(&self) -> Tips {
        Tips(self.lanes.iter().map(|lane| lane.executed).collect())
    }

    /// Executes one transaction at a height; the signature was checked before.
    pub fn apply(&mut self, transaction: &Transaction<'_>, id: &Digest, height: Height) -> Outcome {
        let author = self.accounts.find(&transaction.author());
        self.apply_from(author, transaction, id, height).outcome
    }

    /// As [`State::apply`], with the number of the author's account.
    pub(crate) fn apply_from(
        &mut self,
        author: Option<u32>,
        transaction: &Transaction<'_>,
        id: &Digest,
        height: Height,
    ) -> Applied {
        let transfer = transaction.transfer();
        let receiver =
            transfer.as_ref().map(|transfer| (self.accounts.find(&transfer.to), transfer));
        let outcome = self.pay(author, receiver, transaction, id, height);
        let applied = (outcome == Outcome::Applied).then_some(receiver).flatten();
        let receiver = applied.map(|(known, Transfer { to, amount })| {
            let number = known.unwrap_or_else(|| self.accounts.push(*to, Account::default()));
            self.pages.mark(index(number) / PAGE_ACCOUNTS);
            let (_, account) = self.accounts.get_mut(number);
            self.frozen.keep(number, account);
            account.balance = account
                .balance
                .checked_add(*amount)
                .expect("all balances together fit 64 bits since genesis");
            number
        });
        Applied { outcome, author: author.filter(|_| outcome.pays()), receiver }
    }

    /// What the author's account has of a transaction.
    fn pay(
        &mut self,
        author: Option<u32>,
        receiver: Option<(Option<u32>, &Transfer)>,
        transaction: &Transaction<'_>,
        id: &Digest,
        height: Height,
    ) -> Outcome {
        if transaction.valid_until() < height {
            return Outcome::Expired;
        }
        let Some(author) = author else { return Outcome::Ahead };
        let (_, account) = self.accounts.get_mut(author);
        match transaction.sequence().cmp(&account.sequence) {
            Ordering::Less => return Outcome::Stale,
            Ordering::Greater => return Outcome::Ahead,
            Ordering::Equal => {}
        }
        if transaction.previous() != account.head {
            return Outcome::Forked;
        }
        self.pages.mark(index(author) / PAGE_ACCOUNTS);
        self.frozen.keep(author, account);
        account.sequence =
            account.sequence.checked_add(1).expect("no author makes 2^64 transactions");
        account.head = *id;
        let fee = self.parameters.fee(transaction.bytes().len());
        let paid = fee.min(account.balance);
        account.balance -= paid;
        self.burned += paid;
        if paid < fee {
            return Outcome::Failed;
        }
        if let Some(ballot) = transaction.ballot() {
            return self.vote(transaction, &ballot);
        }
        let Some((known, transfer)) = receiver else {
            return Outcome::Applied;
        };
        // Burned for the account that the transfer creates.
        let deposit = if known.is_some() { 0 } else { self.parameters.account_deposit };
        let needed = transfer.amount.checked_add(deposit);
        let Some(rest) = needed.and_then(|needed| account.balance.checked_sub(needed)) else {
            return Outcome::Failed;
        };
        account.balance = rest;
        self.burned += deposit;
        Outcome::Applied
    }

    fn vote(&mut self, transaction: &Transaction<'_>, ballot: &Ballot) -> Outcome {
        match self.council.vote(&transaction.author(), ballot, self.key_check) {
            true => Outcome::Applied,
            false => Outcome::Failed,
        }
    }

    /// Computes the digest over the accounts, the lanes, what was burned and the council, from nothing.
    ///
    /// Shape (domain `althing 2026 state v4`): accounts u64, root of the pages 32, root of the links 32, digest
    /// of the lanes 32, burned u64, digest of the council 32 (`althing 2026 council v1`). The roots are those
    /// of Merkle trees (see [`merkle`]). The accounts stand by number, eight to a page, [`Account::encode`]
    /// each (leaves: domain `althing 2026 state page v1`). The
    /// links stand by number, 64 to a leaf, each the number of who has the next larger key, u32; of the
    /// largest key, of who has the smallest (`althing 2026 state links v1`). In the last page and leaf stands what
    /// is left. The digest of the lanes (`althing 2026 state lanes v1`): for each, executed sequence u64
    /// and digest 32, committed sequence u64 and digest 32, quota u64.
    pub fn root(&self) -> Digest {
        let mut leaves = Vec::new();
        for accounts in self.accounts.entries().chunks(PAGE_ACCOUNTS) {
            let page: Vec<u8> =
                accounts.iter().flat_map(|(key, account)| account.encode(key)).collect();
            leaves.push(domain::STATE_PAGE.digest(&[&page]));
        }
        let links = Order::of(self.accounts.entries()).root();
        self.beside_accounts().root(&merkle::root(&leaves), &links)
    }

    /// Returns what [`State::root`] does, and hashes only what changed since the last call. Proofs speak of
    /// this state from now on.
    pub(crate) fn update_root(&mut self) -> Digest {
        let Self { accounts, order, pages, .. } = self;
        let entries = accounts.entries();
        let pages = pages.root(entries.len().div_ceil(PAGE_ACCOUNTS), |changed, leaves| {
            hash_pages(entries, changed, leaves);
        });
        order.extend(entries);
        let links = order.root();
        self.frozen.freeze(self.accounts.len());
        self.rooted = self.beside_accounts();
        self.links = links;
        self.rooted.root(&pages, &links)
    }

    fn beside_accounts(&self) -> Rooted {
        let mut bytes = Vec::with_capacity(LANE_BYTES * self.lanes.len());
        for lane in &self.lanes {
            lane.encode_into(&mut bytes);
        }
        Rooted {
            accounts: length_u64(self.accounts.len()),
            lanes: domain::STATE_LANES.digest(&[&bytes]),
            burned: self.burned,
            council: self.council.digest(),
        }
    }
}

#[cfg(test)]
mod tests;
