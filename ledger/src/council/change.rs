//! What a vote says, and its bytes: the body of a council transaction.
//!
//! ```text
//!   0  ballot     u8: 1 approve, 2 withdraw, 3 ready
//!   1  reserved   7  zero
//!   8  of approve and withdraw: the change
//!
//!  change
//!   0  kind       u8: 1 add, 2 remove, 3 replace, 4 rates
//!   1  reserved   7  zero
//!   8  of add: member | of remove: key 32 | of replace: key 32, member | of rates: base_fee, fee_per_byte,
//!      account_deposit, retention, lane_quota_bytes, u64 each
//!
//!  member: key 32 | u8 1, and for consensus, lanes and history an address 16 (IPv6, or an IPv4 one mapped into it)
//!          and port u16; or u8 0, where the genesis named it
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::codec::Reader;
use crate::digest::PublicKey;
use crate::genesis::{self, Parameters};
use crate::reject::Reject;

/// Bytes of a ballot at most: a replacement.
pub const BALLOT_BYTES_MAX: usize = 8 + 8 + 32 + 32 + 1 + 3 * 18;

/// Where a validator listens for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For votes and blocks.
    pub consensus: SocketAddr,
    /// For batches.
    pub lanes: SocketAddr,
    /// For whoever wants old blocks.
    pub history: SocketAddr,
}

/// A validator of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its key.
    pub key: PublicKey,
    /// Where it listens; none for those that the genesis named, whose operators tell each other.
    pub addresses: Option<Addresses>,
}

impl Member {
    pub(super) fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.key.0);
        bytes.push(u8::from(self.addresses.is_some()));
        let Some(Addresses { consensus, lanes, history }) = self.addresses else { return };
        for address in [consensus, lanes, history] {
            let ip = match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            bytes.extend_from_slice(&ip.octets());
            bytes.extend_from_slice(&address.port().to_le_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let key = PublicKey(*reader.array()?);
        let addresses = match reader.u8()? {
            0 => None,
            1 => {
                let mut address = || {
                    let ip = Ipv6Addr::from(*reader.array::<16>()?).to_canonical();
                    let port = u16::from_le_bytes(*reader.array()?);
                    if port == 0 || ip.is_unspecified() || ip.is_multicast() {
                        return Err(Reject::BallotBody);
                    }
                    Ok(SocketAddr::new(ip, port))
                };
                Some(Addresses { consensus: address()?, lanes: address()?, history: address()? })
            }
            _ => return Err(Reject::BallotBody),
        };
        Ok(Self { key, addresses })
    }
}

/// The parameters that a vote may change; see [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the parameters")]
pub struct Rates {
    pub base_fee: u64,
    pub fee_per_byte: u64,
    pub account_deposit: u64,
    pub retention: u64,
    pub lane_quota_bytes: u64,
}

impl Rates {
    /// Takes the part of the parameters that a vote may change.
    pub const fn of(parameters: &Parameters) -> Self {
        let Parameters {
            base_fee, fee_per_byte, account_deposit, retention, lane_quota_bytes, ..
        } = *parameters;
        Self { base_fee, fee_per_byte, account_deposit, retention, lane_quota_bytes }
    }

    /// Refuses what no genesis may have either.
    ///
    /// Errors: [`Reject::BallotBody`].
    pub(super) fn check(&self) -> Result<(), Reject> {
        let parameters = super::at_rates(&Parameters::default(), self);
        let checked: Result<(), genesis::Error> = parameters.check();
        checked.map_err(|_| Reject::BallotBody)
    }

    pub(super) fn encode_into(&self, bytes: &mut Vec<u8>) {
        let Self { base_fee, fee_per_byte, account_deposit, retention, lane_quota_bytes } = self;
        for number in [base_fee, fee_per_byte, account_deposit, retention, lane_quota_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        Ok(Self {
            base_fee: reader.u64()?,
            fee_per_byte: reader.u64()?,
            account_deposit: reader.u64()?,
            retention: reader.u64()?,
            lane_quota_bytes: reader.u64()?,
        })
    }
}

/// A change of the council or of what it decides on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member.
    Add(Member),
    /// A member leaves.
    Remove(PublicKey),
    /// A member leaves, and another takes its place; or it gets other addresses, where both have one key.
    Replace(PublicKey, Member),
    /// Other rates.
    Rates(Rates),
}

impl Change {
    /// Returns who would be a member.
    pub const fn newcomer(&self) -> Option<&Member> {
        match self {
            Self::Add(member) | Self::Replace(_, member) => Some(member),
            Self::Remove(_) | Self::Rates(_) => None,
        }
    }

    pub(super) fn encode_into(&self, bytes: &mut Vec<u8>) {
        let kind = match self {
            Self::Add(_) => 1,
            Self::Remove(_) => 2,
            Self::Replace(..) => 3,
            Self::Rates(_) => 4,
        };
        bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        match self {
            Self::Add(member) => member.encode_into(bytes),
            Self::Remove(key) => bytes.extend_from_slice(&key.0),
            Self::Replace(key, member) => {
                bytes.extend_from_slice(&key.0);
                member.encode_into(bytes);
            }
            Self::Rates(rates) => rates.encode_into(bytes),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let kind = reader.u8()?;
        reader.zeros::<7>()?;
        let change = match kind {
            1 => Self::Add(Member::read(reader)?),
            2 => Self::Remove(PublicKey(*reader.array()?)),
            3 => Self::Replace(PublicKey(*reader.array()?), Member::read(reader)?),
            4 => Self::Rates(Rates::read(reader)?),
            _ => return Err(Reject::BallotBody),
        };
        // Whoever is voted in is found by all: its addresses are part of the vote.
        if change.newcomer().is_some_and(|member| member.addresses.is_none()) {
            return Err(Reject::BallotBody);
        }
        if let Self::Rates(rates) = &change {
            rates.check()?;
        }
        Ok(change)
    }
}

/// What the author of a council transaction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ballot {
    /// It wants this change; the first to say so moves it.
    Approve(Change),
    /// It does not want this change any more.
    Withdraw(Change),
    /// It follows the ledger, and would be a member.
    Ready,
}

impl Ballot {
    /// Writes the body of the transaction.
    pub fn encode(&self) -> Vec<u8> {
        let (code, change) = match self {
            Self::Approve(change) => (1, Some(change)),
            Self::Withdraw(change) => (2, Some(change)),
            Self::Ready => (3, None),
        };
        let mut bytes = vec![code, 0, 0, 0, 0, 0, 0, 0];
        change.iter().for_each(|change| change.encode_into(&mut bytes));
        bytes
    }

    /// Reads the body of a council transaction.
    ///
    /// Errors: [`Reject::BallotBody`] for everything but the one encoding of a ballot.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        Self::read(bytes).map_err(|_| Reject::BallotBody)
    }

    fn read(bytes: &[u8]) -> Result<Self, Reject> {
        let mut reader = Reader::new(bytes);
        let code = reader.u8()?;
        reader.zeros::<7>()?;
        let ballot = match code {
            1 => Self::Approve(Change::read(&mut reader)?),
            2 => Self::Withdraw(Change::read(&mut reader)?),
            3 => Self::Ready,
            _ => return Err(Reject::BallotBody),
        };
        reader.finish()?;
        // An address has one form on the wire.
        if ballot.encode() == bytes { Ok(ballot) } else { Err(Reject::BallotBody) }
    }
}
