//! The council: who decides in this epoch and at what rates, who follows, and what its members moved to change.
//!
//! ```text
//!  a member's vote ─▶ motion ─▶ approvals of a quorum ┐
//!  the newcomer's word that it is ready ──────────────┴▶ deciding height ─▶ next term ─▶ turn of the epoch
//! ```
//!
//! Whoever is to be added says itself, by a transaction of its own, that it follows the ledger: nobody becomes a
//! member who is not there. What a quorum of the members approves of by the deciding height of an epoch is in effect
//! from the next one on, motion by motion in the order in which they came up, as far as it still applies. A vote
//! counts while its author is a member.

mod change;

pub use change::{Addresses, BALLOT_BYTES_MAX, Ballot, Change, Member, Rates};

use crate::codec::{Reader, count_u32, index};
use crate::digest::{Digest, PublicKey, domain};
use crate::epochs::Epochs;
use crate::genesis::{Genesis, KeyCheck, Parameters};
use crate::limits::VALIDATORS_MAX;
use crate::reject::Reject;
use crate::set::{Bitmap, ValidatorSet};

/// Motions that a member may approve of at a time: enough for every change that is under way, while what all of
/// them leave open stays small.
pub const APPROVALS_MAX: usize = 4;

/// Motions that can be open.
pub const MOTIONS_MAX: usize = VALIDATORS_MAX * APPROVALS_MAX;

/// Who decides in an epoch, and at what rates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    members: Vec<Member>,
    set: ValidatorSet,
    rates: Rates,
}

impl Term {
    /// Puts the members, by strictly ascending key, and the rates together.
    ///
    /// Errors: [`Reject::ValidatorOrder`], [`Reject::BallotBody`] for rates outside their ranges.
    fn new(members: Vec<Member>, rates: Rates) -> Result<Self, Reject> {
        let set = ValidatorSet::new(members.iter().map(|member| member.key).collect())?;
        rates.check()?;
        Ok(Self { members, set, rates })
    }

    /// Returns the members by their index in the set.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the validator set.
    pub const fn set(&self) -> &ValidatorSet {
        &self.set
    }

    /// Returns what things cost, and the other parameters that a vote may change.
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Returns the term with a change, or none where the change does not apply to it.
    pub fn with(&self, change: &Change) -> Option<Self> {
        let mut members = self.members.clone();
        let mut rates = self.rates;
        let place = |members: &[Member], key: &PublicKey| {
            members.binary_search_by_key(key, |member| member.key)
        };
        match change {
            Change::Add(member) => {
                let at = place(&members, &member.key).err()?;
                members.insert(at, *member);
            }
            Change::Remove(key) => {
                members.remove(place(&members, key).ok()?);
            }
            Change::Replace(key, member) => {
                members.remove(place(&members, key).ok()?);
                let at = place(&members, &member.key).err()?;
                members.insert(at, *member);
            }
            Change::Rates(new) => rates = *new,
        }
        Self::new(members, rates).ok().filter(|term| term != self)
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&count_u32(self.members.len()).to_le_bytes());
        self.members.iter().for_each(|member| member.encode_into(bytes));
        self.rates.encode_into(bytes);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let count = index(reader.u32()?);
        if count > VALIDATORS_MAX {
            return Err(Reject::ValidatorOrder);
        }
        let members = (0..count).map(|_| Member::read(reader)).collect::<Result<_, _>>()?;
        Self::new(members, Rates::read(reader)?)
    }
}

/// A change that at least one member approves of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Motion {
    /// What is to change.
    pub change: Change,
    /// The members that approve, by their index in the set of the epoch.
    pub approvals: Bitmap,
}

/// All that decides who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Council {
    epochs: Epochs,
    epoch: u64,
    term: Term,
    /// Who follows, once that is decided.
    next: Option<Term>,
    motions: Vec<Motion>,
    /// Keys of newcomers that say that they follow the ledger, ascending.
    ready: Vec<PublicKey>,
}

impl Council {
    /// Returns the council that the genesis names.
    pub fn genesis(genesis: &Genesis) -> Self {
        let member = |key: &PublicKey| Member { key: *key, addresses: None };
        let members = genesis.set().keys().iter().map(member).collect();
        let term = Term::new(members, Rates::of(genesis.parameters()));
        Self {
            epochs: genesis.parameters().epochs(),
            epoch: 0,
            term: term.expect("the genesis was checked"),
            next: None,
            motions: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Returns how heights fall into epochs.
    pub const fn epochs(&self) -> Epochs {
        self.epochs
    }

    /// Returns the epoch of the next height.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns who decides in this epoch.
    pub const fn term(&self) -> &Term {
        &self.term
    }

    /// Returns who decides in the next epoch, once that is decided.
    pub const fn next(&self) -> Option<&Term> {
        self.next.as_ref()
    }

    /// Returns what members moved to change and is not decided, oldest first.
    pub fn motions(&self) -> &[Motion] {
        &self.motions
    }

    /// Returns whether a newcomer says that it follows the ledger.
    pub fn is_ready(&self, key: &PublicKey) -> bool {
        self.ready.binary_search(key).is_ok()
    }

    /// Returns those who would be members by what was decided, or by a motion that an honest member approves
    /// of, and are none: they may follow.
    pub fn newcomers(&self) -> impl Iterator<Item = &Member> {
        let faults = self.term.set.faults_max();
        let wanted = self.motions.iter().filter(move |motion| motion.approvals.count() > faults);
        let moved = wanted.filter_map(|motion| motion.change.newcomer());
        let decided = self.next.iter().flat_map(|next| &next.members);
        decided.chain(moved).filter(|member| self.term.set.index_of(&member.key).is_none())
    }

    /// Takes what an author says; answers whether it may say that.
    pub(crate) fn vote(&mut self, author: &PublicKey, ballot: &Ballot, check: KeyCheck) -> bool {
        match ballot {
            Ballot::Approve(change) => self.approve(author, change, check).is_some(),
            Ballot::Withdraw(change) => self.withdraw(author, change).is_some(),
            Ballot::Ready => self.say_ready(author),
        }
    }

    fn approve(&mut self, author: &PublicKey, change: &Change, check: KeyCheck) -> Option<()> {
        let member = self.term.set.index_of(author)?;
        let open = self.motions.iter().filter(|motion| motion.approvals.contains(member)).count();
        // What was decided may have made it impossible; it is judged by who follows.
        self.next.as_ref().unwrap_or(&self.term).with(change)?;
        if open >= APPROVALS_MAX || change.newcomer().is_some_and(|new| !(check.0)(&new.key.0)) {
            return None;
        }
        if let Some(motion) = self.motions.iter_mut().find(|motion| motion.change == *change) {
            return motion.approvals.insert(member).then_some(());
        }
        let mut approvals = Bitmap::default();
        approvals.insert(member);
        self.motions.push(Motion { change: change.clone(), approvals });
        Some(())
    }

    fn withdraw(&mut self, author: &PublicKey, change: &Change) -> Option<()> {
        let member = self.term.set.index_of(author)?;
        let motion = self.motions.iter_mut().find(|motion| motion.change == *change)?;
        if !motion.approvals.remove(member) {
            return None;
        }
        self.tidy();
        Some(())
    }

    fn say_ready(&mut self, author: &PublicKey) -> bool {
        let is_wanted = |motion: &Motion| {
            motion.change.newcomer().is_some_and(|newcomer| newcomer.key == *author)
        };
        if !self.motions.iter().any(is_wanted) {
            return false;
        }
        match self.ready.binary_search(author) {
            Ok(_) => false,
            Err(place) => {
                self.ready.insert(place, *author);
                true
            }
        }
    }

    /// Settles who follows: the deciding height was executed.
    pub(crate) fn decide(&mut self) {
        let mut next = self.term.clone();
        let quorum = self.term.set.quorum();
        let Self { motions, ready, term, .. } = self;
        motions.retain(|motion| {
            let is_there = motion.change.newcomer().is_none_or(|newcomer| {
                term.set.index_of(&newcomer.key).is_some()
                    || ready.binary_search(&newcomer.key).is_ok()
            });
            if motion.approvals.count() < quorum || !is_there {
                return true;
            }
            match next.with(&motion.change) {
                Some(changed) => {
                    next = changed;
                    false
                }
                None => true,
            }
        });
        self.next = Some(next);
        self.tidy();
    }

    /// Begins the next epoch.
    ///
    /// Panics: when it is not decided who follows.
    pub(crate) fn turn(&mut self) {
        let next = self.next.take().expect("the deciding height is before the last");
        let before = std::mem::replace(&mut self.term, next);
        self.epoch += 1;
        for motion in &mut self.motions {
            let keys = motion.approvals.iter().filter_map(|member| before.set.key(member));
            let members = keys.filter_map(|key| self.term.set.index_of(key));
            let mut approvals = Bitmap::default();
            members.for_each(|member| {
                approvals.insert(member);
            });
            motion.approvals = approvals;
        }
        let term = &self.term;
        self.motions.retain(|motion| term.with(&motion.change).is_some());
        self.tidy();
    }

    /// Forgets what nobody approves of, and newcomers whom nobody wants.
    fn tidy(&mut self) {
        self.motions.retain(|motion| motion.approvals.count() > 0);
        let Self { motions, ready, .. } = self;
        ready.retain(|key| {
            let newcomers = motions.iter().filter_map(|motion| motion.change.newcomer());
            newcomers.into_iter().any(|newcomer| newcomer.key == *key)
        });
    }

    /// Computes the digest that the state root covers.
    pub(crate) fn digest(&self) -> Digest {
        domain::COUNCIL.digest(&[&self.encode()])
    }

    /// Writes all but the epoch.
    ///
    /// Shape: the term; u8 1 and the next term, or u8 0; motions u32, for each the change and u128 approvals;
    /// ready u32, keys 32 each. A term: members u32, for each key 32 and its addresses (see [`Member`]); the rates,
    /// u64 each.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256 + 64 * self.term.members.len());
        self.term.encode_into(&mut bytes);
        bytes.push(u8::from(self.next.is_some()));
        self.next.iter().for_each(|term| term.encode_into(&mut bytes));
        bytes.extend_from_slice(&count_u32(self.motions.len()).to_le_bytes());
        for motion in &self.motions {
            motion.change.encode_into(&mut bytes);
            bytes.extend_from_slice(&motion.approvals.0.to_le_bytes());
        }
        bytes.extend_from_slice(&count_u32(self.ready.len()).to_le_bytes());
        self.ready.iter().for_each(|key| bytes.extend_from_slice(&key.0));
        bytes
    }

    /// Reads what [`Council::encode`] writes, for an epoch.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::ValidatorOrder`], [`Reject::BallotBody`],
    /// [`Reject::CountMismatch`], [`Reject::ReservedNotZero`].
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        epochs: Epochs,
        epoch: u64,
    ) -> Result<Self, Reject> {
        let term = Term::read(reader)?;
        let next = match reader.u8()? {
            0 => None,
            1 => Some(Term::read(reader)?),
            _ => return Err(Reject::BallotBody),
        };
        let count = index(reader.u32()?);
        if count > MOTIONS_MAX {
            return Err(Reject::CountMismatch);
        }
        let motion =
            |_| Ok(Motion { change: Change::read(reader)?, approvals: Bitmap(reader.u128()?) });
        let motions = (0..count).map(motion).collect::<Result<Vec<_>, Reject>>()?;
        let count = index(reader.u32()?);
        if count > MOTIONS_MAX {
            return Err(Reject::CountMismatch);
        }
        let ready = (0..count).map(|_| reader.array().map(|key| PublicKey(*key)));
        let ready = ready.collect::<Result<_, _>>()?;
        Ok(Self { epochs, epoch, term, next, motions, ready })
    }
}

/// The parameters of a network, as far as a vote may change them.
pub(crate) fn at_rates(parameters: &Parameters, rates: &Rates) -> Parameters {
    let Rates { base_fee, fee_per_byte, account_deposit, retention, lane_quota_bytes } = *rates;
    Parameters {
        base_fee,
        fee_per_byte,
        account_deposit,
        retention,
        lane_quota_bytes,
        ..*parameters
    }
}

#[cfg(test)]
mod tests;
