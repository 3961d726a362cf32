//! The JSON documents of the HTTP interface, for the server that writes and the client that reads.
//!
//! Digests, keys and ids are lower-case hexadecimal text; numbers are unsigned, of up to 64 bits.

pub mod council;

use crate::handle::text;
use ledger::{Digest, PublicKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The status of a transaction that was taken and is not final.
pub const ACCEPTED: &str = "accepted";
/// The status of a transaction that is final.
pub const FINAL: &str = "final";
/// The status of a transaction of which nothing final is known here.
pub const UNKNOWN: &str = "unknown";

/// The answer to `POST /transaction`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The id of the transaction.
    #[serde(with = "text")]
    pub id: Digest,
    /// [`ACCEPTED`] or [`FINAL`].
    pub status: String,
    /// The height that executed it, when it is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// What became of it, when it is final: a name of `ledger::Outcome`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// The answer to `GET /transaction/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The id.
    #[serde(with = "text")]
    pub id: Digest,
    /// [`FINAL`] or [`UNKNOWN`].
    pub status: String,
    /// Where it was executed, when it is final.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What it says, when its bytes are kept.
    #[serde(flatten)]
    pub content: Option<Content>,
}

/// Where a transaction was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The height of the block.
    pub height: u64,
    /// Its place in the order of the block's execution.
    pub index: u32,
    /// What became of it: a name of `ledger::Outcome`.
    pub outcome: String,
}

/// What a transaction says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// `record` or `transfer`.
    pub kind: String,
    /// The author's key.
    #[serde(with = "text")]
    pub author: PublicKey,
    /// Its place in the author's chain.
    pub sequence: u64,
    /// The id of the one before.
    #[serde(with = "text")]
    pub previous: Digest,
    /// The last height at which it could be executed.
    pub valid_until: u64,
    /// Bytes of the whole transaction.
    pub size: u64,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Of a transfer.
    #[serde(flatten)]
    pub transfer: Option<Transfer>,
}

/// The body of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Who receives.
    #[serde(with = "text")]
    pub to: PublicKey,
    /// How much.
    pub amount: u64,
}

/// The answer to `GET /account/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The key.
    #[serde(with = "text")]
    pub key: PublicKey,
    /// The balance.
    pub balance: u64,
    /// The sequence after the last executed transaction.
    pub sequence: u64,
    /// The id of the last executed transaction; zeros before the first.
    #[serde(with = "text")]
    pub head: Digest,
    /// The sequence that the next transaction must carry, those under way counted.
    pub pending_sequence: u64,
    /// The id that the next transaction must name as previous.
    #[serde(with = "text")]
    pub pending_head: Digest,
}

/// The answer to `GET /block/{height}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its number.
    pub height: u64,
    /// Its digest.
    #[serde(with = "text")]
    pub digest: Digest,
    /// The epoch.
    pub epoch: u64,
    /// The view in which it was proposed.
    pub view: u64,
    /// The digest of the block before.
    #[serde(with = "text")]
    pub parent: Digest,
    /// When the proposer says that it proposed, in milliseconds since 1970.
    pub time_ms: u64,
    /// The height whose execution it declares.
    pub executed_height: u64,
    /// The history root after that height.
    #[serde(with = "text")]
    pub history_root: Digest,
    /// The state root of the last checkpoint at or below that height.
    #[serde(with = "text")]
    pub state_root: Digest,
    /// The digest of the validator set of the epoch.
    #[serde(with = "text")]
    pub set: Digest,
    /// The digest of the set that decides the next height.
    #[serde(with = "text")]
    pub next_set: Digest,
    /// Bytes of its encoding.
    pub size: u64,
    /// Whether it has a finality certificate of its own; if not, a later block's covers it.
    pub certificate: bool,
    /// The lanes that advanced, in the order of execution.
    pub lanes: Vec<Lane>,
    /// Transactions that it executed.
    pub transactions_count: u32,
    /// How many of them had each outcome.
    pub outcomes: BTreeMap<String, u32>,
    /// One page of them, from the place that was asked for.
    pub transactions: Vec<Executed>,
    /// Where the next page begins; absent after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
}

/// A lane that a block advanced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// The lane: the place of its owner in the set.
    pub lane: u32,
    /// Its newest batch.
    pub sequence: u64,
    /// The digest of that batch.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Validators whose signatures say that they hold it.
    pub signers: u32,
}

/// A transaction of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// Its place in the order of execution.
    pub index: u32,
    /// Its id.
    #[serde(with = "text")]
    pub id: Digest,
    /// What became of it: a name of `ledger::Outcome`.
    pub outcome: String,
}

/// The answer to `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether the validator keeps up and takes part.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// Evidence against a validator, as `GET /evidence` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Its name; `GET /evidence/{digest}` is the file.
    #[serde(with = "text")]
    pub digest: Digest,
    /// The place of the validator in the set of the epoch.
    pub validator: u32,
    /// The epoch.
    pub epoch: u64,
    /// What the validator did: a name of `ledger::Evidence::kind`.
    pub kind: String,
    /// The view of the engine in which it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<u64>,
    /// The lane in which it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<u32>,
    /// The place in that lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

impl Evidence {
    /// Describes evidence.
    pub fn new(digest: Digest, evidence: &ledger::Evidence) -> Self {
        let (view, lane, sequence) = match evidence.place() {
            ledger::evidence::Place::View(view) => (Some(view.get()), None, None),
            ledger::evidence::Place::Lane(lane, sequence) => (None, Some(lane), Some(sequence)),
        };
        let (validator, epoch) = (evidence.validator(), evidence.epoch());
        Self { digest, validator, epoch, kind: evidence.kind().to_owned(), view, lane, sequence }
    }
}
