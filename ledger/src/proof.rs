//! A proof: what a ledger says of a transaction or of a key, for who trusts nobody and has the genesis file.
//!
//! ```text
//!  transaction, outcome ─▶ outcomes of its height ─▶ record ─▶ history root ┐
//!                                                                           ├─▶ header ─▶ quorum ─▶ genesis
//!  account, or neighbours of none ─▶ page ─▶ state root ────────────────────┘
//!
//!   0  version    u8 = 2
//!   1  kind       u8: 1 transaction, 2 account, 3 absence
//!   2  reserved   2    zero
//!   4  links      u32  how many follow: changes of the validator set on the way from the genesis
//!   8  links           of each: a finalized block (below), and the set that it names as the next: validators u32,
//!                      key 32 each
//!  ..  block           the finalized block under which the claim holds
//!
//!      finalized block:
//!      header     240  see `block`
//!      lanes      32   digest of its availability certificates
//!      signers    u128 who finalized it, see `finality`
//!      view       u64  in which it was finalized
//!      parent     u64  view of the parent proposal
//!      signatures      64 each, by rising signer
//!
//!  ..  claim           of a key: see `state::prove`; of a transaction:
//!
//!      bytes      u32  of the transaction
//!      transaction     see `transaction`
//!      outcome    u8
//!      reserved   3    zero
//!      index      u32  place among the outcomes of its height
//!      count      u32  of those outcomes
//!      height     u64  that executed it, at most the one whose execution the header declares
//!      cut        32   digest of the block of that height
//!      siblings   32 each, in the tree over the outcomes, from the leaf up
//!      siblings   32 each, in the leaf's mountain of the history range, from the leaf up
//!      peaks      32 each, of the other mountains, from the left
//! ```
//!
//! How many siblings and peaks there are is known from the numbers before them, so that every proof has one
//! encoding and every bit of it matters. A header names the set that decides it: a quorum of the set that is trusted,
//! or that a link before leads to, makes it final. Epochs in which the set stays need no link.
//! The header may be any later one: the newest proves all that was
//! executed before.
//!
//! What a proof does not say: that an outcome other than *applied* is the last word (what was *ahead* may have
//! been applied later, and a copy of what was applied is *stale*), and that an account still is what it was at
//! the checkpoint: who needs the newest state asks for one of a block that is new enough.

use crate::block::Header;
use crate::codec::{Reader, count_u32, index};
use crate::digest::{Digest, Height, PublicKey, View};
use crate::finality::Finality;
use crate::genesis::Genesis;
use crate::history::{self, HistoryProof, HistoryRecord};
use crate::limits::{PROOF_BYTES_MAX, PROOF_LINKS_MAX, TRANSACTION_BYTES_MAX};
use crate::merkle;
use crate::outcome::{Outcome, outcome_leaf};
use crate::reject::Reject;
use crate::set::{Bitmap, ValidatorSet};
use crate::signatures::{self, Signatures};
use crate::state::{Account, StateProof};
use crate::transaction::{Transaction, signing_message};

const VERSION: u8 = 2;

const TRANSACTION: u8 = 1;
const ACCOUNT: u8 = 2;
const ABSENCE: u8 = 3;

/// A transaction, what became of it, and its way to a history root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionProof {
    /// The bytes of the transaction.
    pub transaction: Vec<u8>,
    /// What became of it.
    pub outcome: Outcome,
    /// Its place among the outcomes of its height.
    pub place: merkle::Proof,
    /// The digest of the block of that height.
    pub cut: Digest,
    /// The height, and its way to the root.
    pub history: HistoryProof,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// What became of a transaction.
    Transaction(TransactionProof),
    /// What a key has, or that it has no account.
    State(StateProof),
}

/// A block and the certificate of a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finalized {
    header: Header,
    finality: Finality,
}

/// The last block of an epoch, which names another set as the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    block: Finalized,
    next: ValidatorSet,
}

impl Link {
    /// Puts a link together.
    ///
    /// Errors: [`Reject::ProofShape`] when the certificate is not one of the block.
    pub fn new(header: Header, finality: Finality, next: ValidatorSet) -> Result<Self, Reject> {
        Ok(Self { block: Finalized::new(header, finality)?, next })
    }

    /// Returns the set that follows.
    pub const fn next(&self) -> &ValidatorSet {
        &self.next
    }

    /// Checks that `set` finalized it and named what follows.
    fn check(
        &self,
        network: &Digest,
        set: &ValidatorSet,
        signatures: &dyn Signatures,
    ) -> Result<(), Reject> {
        let header = &self.block.header;
        if header.next_set() != self.next.digest() || header.next_set() == header.set() {
            return Err(Reject::WrongSet);
        }
        self.block.check(network, set, signatures)
    }
}

impl Finalized {
    fn new(header: Header, finality: Finality) -> Result<Self, Reject> {
        let is_its = finality.payload == header.digest() && finality.epoch == header.epoch();
        if is_its { Ok(Self { header, finality }) } else { Err(Reject::ProofShape) }
    }

    /// Checks that `set` decides it, and did.
    fn check(
        &self,
        network: &Digest,
        set: &ValidatorSet,
        signatures: &dyn Signatures,
    ) -> Result<(), Reject> {
        self.header.check(network)?;
        if self.header.set() != set.digest() {
            return Err(Reject::WrongSet);
        }
        self.finality.check(network, set, signatures)
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        self.header.encode_into(bytes);
        let Finality { view, parent_view, signers, signatures, .. } = &self.finality;
        bytes.extend_from_slice(&signers.0.to_le_bytes());
        bytes.extend_from_slice(&view.0.to_le_bytes());
        bytes.extend_from_slice(&parent_view.0.to_le_bytes());
        signatures.iter().for_each(|signature| bytes.extend_from_slice(&signature.0));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let header = Header::read(reader)?;
        let signers = Bitmap(reader.u128()?);
        let finality = Finality {
            epoch: header.epoch(),
            payload: header.digest(),
            signers,
            view: View(reader.u64()?),
            parent_view: View(reader.u64()?),
            signatures: signers.read_signatures(reader)?,
        };
        Ok(Self { header, finality })
    }
}

/// A claim, the finalized block under which it holds, and how the set of that block came to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    links: Vec<Link>,
    block: Finalized,
    claim: Claim,
}

/// What a proof is checked against: all that is taken on trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// The genesis digest.
    pub network: Digest,
    /// The validators whose quorum decides.
    pub set: ValidatorSet,
    /// Heights between two state roots.
    pub checkpoint_interval: u64,
}

impl Trusted {
    /// Trusts a genesis, and nobody else.
    pub fn genesis(genesis: &Genesis) -> Self {
        Self {
            network: genesis.digest(),
            set: genesis.set().clone(),
            checkpoint_interval: genesis.parameters().checkpoint_interval,
        }
    }
}

/// What a checked proof has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proved<'a> {
    /// A transaction was executed.
    Transaction {
        /// Its id.
        id: Digest,
        /// The transaction.
        transaction: Transaction<'a>,
        /// What became of it.
        outcome: Outcome,
        /// The height that executed it.
        height: Height,
    },
    /// A key has an account.
    Account {
        /// The key.
        key: PublicKey,
        /// What the account was.
        account: Account,
        /// At this checkpoint height.
        height: Height,
    },
    /// A key has no account.
    Absence {
        /// The key.
        key: PublicKey,
        /// At this checkpoint height.
        height: Height,
    },
}

impl Proof {
    /// Puts a proof together; whether it holds, [`Proof::check`] says.
    ///
    /// `links` lead from the set that is trusted to that of the block.
    ///
    /// Errors: [`Reject::ProofShape`] when the certificate is not one of the block, or there are too many links.
    pub fn new(
        links: Vec<Link>,
        header: Header,
        finality: Finality,
        claim: Claim,
    ) -> Result<Self, Reject> {
        if links.len() > PROOF_LINKS_MAX {
            return Err(Reject::ProofShape);
        }
        Ok(Self { links, block: Finalized::new(header, finality)?, claim })
    }

    /// Returns the finalized block under which the claim holds.
    pub const fn header(&self) -> &Header {
        &self.block.header
    }

    /// Returns the certificate of that block.
    pub const fn finality(&self) -> &Finality {
        &self.block.finality
    }

    /// Returns what is claimed.
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Checks the whole against what is trusted, and nothing else; returns what it has shown.
    ///
    /// Errors: [`Reject::WrongNetwork`], [`Reject::WrongSet`], [`Reject::ExecutedRange`],
    /// [`Reject::ProofShape`], [`Reject::ProofRoot`], [`Reject::ProofKey`], [`Reject::UnknownValidator`],
    /// [`Reject::QuorumMissing`], [`Reject::BadSignature`], and those of [`Transaction::decode`].
    pub fn check(
        &self,
        trusted: &Trusted,
        signatures: &dyn Signatures,
    ) -> Result<Proved<'_>, Reject> {
        let Trusted { network, set, checkpoint_interval } = trusted;
        self.block.header.check(network)?;
        let proved = match &self.claim {
            Claim::Transaction(claim) => self.check_transaction(claim, network)?,
            Claim::State(claim) => self.check_state(claim, *checkpoint_interval)?,
        };
        // What is cheap to refuse was refused.
        let mut set = set;
        for link in &self.links {
            link.check(network, set, signatures)?;
            set = &link.next;
        }
        self.block.check(network, set, signatures)?;
        if let Proved::Transaction { id, transaction, .. } = &proved {
            let message = signing_message(id);
            let verdicts = signatures::verify(signatures, &[transaction.signed_item(&message)]);
            if verdicts != [true] {
                return Err(Reject::BadSignature);
            }
        }
        Ok(proved)
    }

    fn check_transaction<'a>(
        &self,
        claim: &'a TransactionProof,
        network: &Digest,
    ) -> Result<Proved<'a>, Reject> {
        let TransactionProof { transaction, outcome, place, cut, history } = claim;
        let (outcome, cut, height) = (*outcome, *cut, history.height);
        let transaction = Transaction::decode(transaction)?;
        transaction.check_network(network)?;
        let id = transaction.id(network);
        let outcomes_root = place.root(&outcome_leaf(&id, outcome))?;
        let record = HistoryRecord { height, cut, outcomes_root };
        // The root covers how many records there are: those up to the executed height.
        history.check(&record.leaf(), &self.block.header.history_root())?;
        Ok(Proved::Transaction { id, transaction, outcome, height })
    }

    fn check_state(&self, claim: &StateProof, interval: u64) -> Result<Proved<'_>, Reject> {
        if claim.root()? != self.block.header.state_root() {
            return Err(Reject::ProofRoot);
        }
        let executed = self.block.header.executed().0;
        let height = Height(executed - executed % interval);
        let key = *claim.key();
        Ok(match claim.account() {
            Some(account) => Proved::Account { key, account: *account, height },
            None => Proved::Absence { key, height },
        })
    }

    /// Writes the proof.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match &self.claim {
            Claim::Transaction(_) => TRANSACTION,
            Claim::State(state) if state.is_absence() => ABSENCE,
            Claim::State(_) => ACCOUNT,
        };
        let mut bytes = vec![VERSION, kind, 0, 0];
        bytes.extend_from_slice(&count_u32(self.links.len()).to_le_bytes());
        for link in &self.links {
            link.block.encode_into(&mut bytes);
            bytes.extend_from_slice(&link.next.encode());
        }
        self.block.encode_into(&mut bytes);
        match &self.claim {
            Claim::Transaction(transaction) => transaction.encode_into(&mut bytes),
            Claim::State(state) => state.encode_into(&mut bytes),
        }
        bytes
    }

    /// Reads a proof and checks what can be seen without the genesis.
    ///
    /// Errors: [`Reject::TooLong`], [`Reject::Truncated`], [`Reject::TrailingBytes`],
    /// [`Reject::UnknownVersion`], [`Reject::ReservedNotZero`], [`Reject::ProofKind`],
    /// [`Reject::CountMismatch`], [`Reject::UnknownValidator`], [`Reject::ValidatorOrder`],
    /// [`Reject::UnknownOutcome`], [`Reject::ProofShape`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let kind = reader.u8()?;
        reader.zeros::<2>()?;
        let count = index(reader.u32()?);
        if count > PROOF_LINKS_MAX {
            return Err(Reject::ProofShape);
        }
        let mut link = || {
            let block = Finalized::read(&mut reader)?;
            Ok(Link { block, next: ValidatorSet::read(&mut reader)? })
        };
        let links = (0..count).map(|_| link()).collect::<Result<_, Reject>>()?;
        let block = Finalized::read(&mut reader)?;
        let claim = match kind {
            TRANSACTION => {
                Claim::Transaction(TransactionProof::read(&mut reader, block.header.executed())?)
            }
            ACCOUNT => Claim::State(StateProof::read(&mut reader, false)?),
            ABSENCE => Claim::State(StateProof::read(&mut reader, true)?),
            _ => return Err(Reject::ProofKind),
        };
        reader.finish()?;
        Ok(Self { links, block, claim })
    }
}

impl TransactionProof {
    fn encode_into(&self, bytes: &mut Vec<u8>) {
        let Self { transaction, outcome, place, cut, history } = self;
        bytes.extend_from_slice(&count_u32(transaction.len()).to_le_bytes());
        bytes.extend_from_slice(transaction);
        bytes.extend_from_slice(&[outcome.code(), 0, 0, 0]);
        bytes.extend_from_slice(&place.index.to_le_bytes());
        bytes.extend_from_slice(&place.count.to_le_bytes());
        bytes.extend_from_slice(&history.height.0.to_le_bytes());
        bytes.extend_from_slice(&cut.0);
        for digest in place.siblings.iter().chain(&history.siblings).chain(&history.peaks) {
            bytes.extend_from_slice(&digest.0);
        }
    }

    fn read(reader: &mut Reader<'_>, executed: Height) -> Result<Self, Reject> {
        let length = index(reader.u32()?);
        if length > TRANSACTION_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        let transaction = reader.slice(length)?.to_vec();
        let outcome = Outcome::from_code(reader.u8()?)?;
        reader.zeros::<3>()?;
        let (place, count) = (reader.u32()?, reader.u32()?);
        let (height, cut) = (Height(reader.u64()?), reader.digest()?);
        if place >= count {
            return Err(Reject::ProofShape);
        }
        let (path, peaks) = history::shape(height, executed.0).ok_or(Reject::ProofShape)?;
        let mut digests =
            |count: u32| (0..count).map(|_| reader.digest()).collect::<Result<Vec<_>, _>>();
        let siblings = digests(merkle::siblings(place, count))?;
        let place = merkle::Proof { index: place, count, siblings };
        let (siblings, peaks) = (digests(path)?, digests(peaks)?);
        let history = HistoryProof { height, count: executed.0, siblings, peaks };
        Ok(Self { transaction, outcome, place, cut, history })
    }
}

#[cfg(test)]
mod tests;
