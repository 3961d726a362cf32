//! The document of `GET /council`.

use crate::handle::text;
use ledger::{Addresses, Change, Member, PublicKey, Rates, Term};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Who decides, who follows, and what members moved to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Council {
    /// The epoch of the next height.
    pub epoch: u64,
    /// The height after whose execution it is settled who decides in the next epoch.
    pub decides_at: u64,
    /// The last height of the epoch.
    pub ends_at: u64,
    /// How many members must approve of a change.
    pub quorum: u64,
    /// Who decides in this epoch.
    pub members: Vec<Validator>,
    /// At what rates.
    pub rates: Parameters,
    /// Who decides in the next one, and at what rates, once that is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// What is moved and not decided, oldest first.
    pub motions: Vec<Motion>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Who decides.
    pub members: Vec<Validator>,
    /// At what rates.
    pub rates: Parameters,
}

/// A member of the council, or who would be one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// Its key.
    #[serde(with = "text")]
    pub key: PublicKey,
    /// Its consensus socket; none where the genesis named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consensus: Option<SocketAddr>,
    /// Its lanes socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<SocketAddr>,
    /// Its history socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<SocketAddr>,
}

/// The parameters that a vote may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the genesis")]
pub struct Parameters {
    pub base_fee: u64,
    pub fee_per_byte: u64,
    pub account_deposit: u64,
    pub retention: u64,
    pub lane_quota_bytes: u64,
}

/// A change that members approve of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Motion {
    /// `add`, `remove`, `replace` or `rates`.
    pub change: String,
    /// Who would leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves: Option<Validator>,
    /// Who would be a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joins: Option<Validator>,
    /// Whether it has said that it follows the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// The rates that would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Parameters>,
    /// The places in the set of the members that approve.
    pub approvals: Vec<u32>,
}

impl Council {
    /// Describes a council.
    pub fn new(council: &ledger::Council) -> Self {
        let (epochs, epoch) = (council.epochs(), council.epoch());
        let motion = |motion: &ledger::Motion| {
            let joins = motion.change.newcomer();
            Motion {
                change: name_of(&motion.change).to_owned(),
                leaves: leaver(&motion.change).map(|key| Validator::key(*key)),
                joins: joins.map(Validator::new),
                ready: joins.map(|it| council.is_ready(&it.key)),
                rates: match &motion.change {
                    Change::Rates(rates) => Some(Parameters::new(rates)),
                    Change::Add(_) | Change::Remove(_) | Change::Replace(..) => None,
                },
                approvals: motion.approvals.iter().collect(),
            }
        };
        let term = council.term();
        Self {
            epoch,
            decides_at: epochs.deciding(epoch).get(),
            ends_at: epochs.last(epoch).get(),
            quorum: term.set().quorum() as u64,
            members: validators(term),
            rates: Parameters::new(term.rates()),
            next: council.next().map(|next| Next {
                members: validators(next),
                rates: Parameters::new(next.rates()),
            }),
            motions: council.motions().iter().map(motion).collect(),
        }
    }
}

fn validators(term: &Term) -> Vec<Validator> {
    term.members().iter().map(Validator::new).collect()
}

/// The name of a kind of change.
pub fn name_of(change: &Change) -> &'static str {
    match change {
        Change::Add(_) => "add",
        Change::Remove(_) => "remove",
        Change::Replace(..) => "replace",
        Change::Rates(_) => "rates",
    }
}

fn leaver(change: &Change) -> Option<&PublicKey> {
    match change {
        Change::Remove(key) | Change::Replace(key, _) => Some(key),
        Change::Add(_) | Change::Rates(_) => None,
    }
}

impl Validator {
    const fn key(key: PublicKey) -> Self {
        Self { key, consensus: None, lanes: None, history: None }
    }

    fn new(member: &Member) -> Self {
        match member.addresses {
            None => Self::key(member.key),
            Some(Addresses { consensus, lanes, history }) => Self {
                key: member.key,
                consensus: Some(consensus),
                lanes: Some(lanes),
                history: Some(history),
            },
        }
    }
}

impl Parameters {
    const fn new(rates: &Rates) -> Self {
        let Rates { base_fee, fee_per_byte, account_deposit, retention, lane_quota_bytes } = *rates;
        Self { base_fee, fee_per_byte, account_deposit, retention, lane_quota_bytes }
    }

    /// The rates.
    pub const fn rates(&self) -> Rates {
        let Self { base_fee, fee_per_byte, account_deposit, retention, lane_quota_bytes } = *self;
        Rates { base_fee, fee_per_byte, account_deposit, retention, lane_quota_bytes }
    }
}
