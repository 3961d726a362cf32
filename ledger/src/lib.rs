//! The ledger's formats and rules: what a block is, how blocks link, how anyone checks all of it.
//!
//! ```text
//!  author's chain      tx ◀── tx ◀── tx          each signed and linked by its author
//!                       │      │
//!  a lane           batch ◀── batch ◀── batch    each signed and linked by one validator
//!                       ▲         ▲
//!                       │ availability certificate: a quorum holds it and all before it
//!  blocks     cut ◀── cut ◀── cut ◀── cut        each names its parent, tips of lanes, older roots
//!              ▲               ▲
//!              │               │ finality certificate: a quorum finalized it and all before it
//!  execution  record  record  record  record     cut, Merkle root of (transaction id, outcome)
//!                └──────┴──┬────┴───────┘
//!                    history root                declared by a later cut, so finalized with it
//! ```
//!
//! Promises to the caller:
//!
//! * Every function is pure: the same arguments give the same answer, on every machine.
//! * One decoder for each format. It never panics, caps every length before it allocates, and
//!   accepts one encoding of each value: `encode(decode(x)) == x`.
//! * A type is a proof: a [`Transaction`], [`Batch`] or [`Cut`] from its decoder has passed every
//!   check that its bytes alone allow; `check` functions say what they add.
//! * What is refused is a [`Reject`], which can be counted by its name.
//!
//! What it does not do: judge signatures (a [`Signatures`] is passed in), reach the disk or the
//! network, know the time, decide what to propose, or agree on anything.
//!
//! Modules: [`limits`], [`digest`], [`reject`], [`signatures`], [`transaction`], [`batch`],
//! [`set`], [`epochs`], [`council`], [`ack`], [`block`], [`finality`], [`merkle`], [`history`], [`genesis`],
//! [`outcome`], [`state`], [`table`], [`execute`], [`checkpoint`], [`audit`], [`proof`], [`evidence`].

#![forbid(unsafe_code)]

mod codec;
#[cfg(test)]
mod testing;

pub mod ack;
pub mod audit;
pub mod batch;
pub mod block;
pub mod checkpoint;
pub mod council;
pub mod digest;
pub mod epochs;
pub mod evidence;
pub mod execute;
pub mod finality;
pub mod genesis;
pub mod history;
pub mod limits;
pub mod merkle;
pub mod outcome;
pub mod proof;
pub mod reject;
pub mod set;
pub mod signatures;
pub mod state;
pub mod table;
pub mod transaction;

pub use ack::{Ack, AvailabilityCertificate, ack_signing_message};
pub use audit::{AuditBlock, Auditor, BlockSummary, Bodies, Finding, Sets, Summary};
pub use batch::{Batch, BatchHeader, BatchPlace, Sealer, Unhashed, batch_signing_message};
pub use block::{Cut, Header, Tip, Tips};
pub use checkpoint::Checkpoint;
pub use council::{Addresses, Ballot, Change, Council, Member, Motion, Rates, Term};
pub use digest::{Digest, Height, Keyed, PublicKey, Signature, View};
pub use epochs::Epochs;
pub use evidence::{Evidence, Offence, SignedHeader, Vote};
pub use execute::{Chain, Executed, ExecutedLane, Unsealed};
pub use finality::{
    Finality, engine_namespace, finalize_message, notarize_message, nullify_message,
};
pub use genesis::{Genesis, GenesisAccount, KeyCheck, Parameters};
pub use history::{History, HistoryProof, HistoryRecord};
pub use outcome::{Outcome, OutcomeList};
pub use proof::{Claim, Link, Proof, Proved, TransactionProof, Trusted};
pub use reject::Reject;
pub use set::{Bitmap, ValidatorSet};
pub use signatures::{MESSAGE_BYTES, Signatures, SignedItem};
pub use state::{Account, Lane, State, StateProof};
pub use table::Table;
pub use transaction::{Draft, Kind, Transaction, Transfer, signing_message};
