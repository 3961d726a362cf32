//! The genesis file: the network's name, first validators, first balances and its parameters.
//!
//! The file is JSON for people; its digest, which names the network, is taken over one binary form:
//!
//! ```text
//! version u8 = 2 | name length u32, name | validators u32, key 32 each
//! accounts u32, key 32 and balance u64 each
//! base_fee u64 | fee_per_byte u64 | account_deposit u64 | checkpoint_interval u64
//! retention u64 | lane_quota_bytes u64 | epoch_length u64
//! ```

use serde::{Deserialize, Serialize};

use crate::codec::{count_u32, length_u64};
use crate::digest::{Digest, PublicKey, domain};
use crate::epochs::Epochs;
use crate::limits::{
    BATCH_BODY_BYTES_MAX, EPOCH_LENGTH_MAX, EPOCH_LENGTH_MIN, GENESIS_ACCOUNTS_MAX,
    GENESIS_NAME_BYTES_MAX, LANE_QUOTA_BYTES_MAX, VALIDATORS_MAX,
};
use crate::set::ValidatorSet;

const VERSION: u8 = 2;

/// The largest fee or deposit: so large that nobody pays it, so small that sums cannot overflow.
const PRICE_MAX: u64 = 1 << 40;

/// The largest number of heights in a parameter: 2^40 blocks take centuries.
const HEIGHTS_MAX: u64 = 1 << 40;

/// Why a genesis file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not JSON of the right shape; the reason names line and column.
    #[error("genesis: {0}")]
    Json(String),
    /// The name is empty, too long or not printable ASCII.
    #[error("genesis: name: expected 1 to {GENESIS_NAME_BYTES_MAX} printable ASCII characters")]
    Name,
    /// No validators or too many.
    #[error("genesis: validators: expected 1 to {VALIDATORS_MAX}, found {found}")]
    ValidatorCount {
        /// How many there are.
        found: usize,
    },
    /// A key that is not above the one before it.
    #[error("genesis: validators[{index}]: keys must strictly ascend")]
    ValidatorOrder {
        /// Its place.
        index: usize,
    },
    /// A key that the check refuses.
    #[error("genesis: validators[{index}]: not a canonical, torsion-free Ed25519 key")]
    ValidatorKey {
        /// Its place.
        index: usize,
    },
    /// Too many accounts.
    #[error("genesis: accounts: expected at most {GENESIS_ACCOUNTS_MAX}, found {found}")]
    AccountCount {
        /// How many there are.
        found: usize,
    },
    /// A key that is not above the one before it.
    #[error("genesis: accounts[{index}].key: keys must strictly ascend")]
    AccountOrder {
        /// Its place.
        index: usize,
    },
    /// The balances do not fit 64 bits together.
    #[error("genesis: accounts[{index}].balance: the sum of all balances exceeds 2^64 - 1")]
    Supply {
        /// The place at which the sum overflows.
        index: usize,
    },
    /// A parameter outside its range.
    #[error("genesis: parameters.{name}: expected {least} to {most}, found {found}")]
    Parameter {
        /// Its name in the file.
        name: &'static str,
        /// The least value allowed.
        least: u64,
        /// The largest value allowed.
        most: u64,
        /// The value in the file.
        found: u64,
    },
}

/// Says whether a validator's key is canonical and torsion-free, which the engine's rule does not ask for.
#[derive(Clone, Copy, Debug)]
pub struct KeyCheck(pub fn(&[u8; 32]) -> bool);

impl PartialEq for KeyCheck {
    /// A check is part of the program, not of what it checked.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for KeyCheck {}

/// The rules that a network starts with; a vote may change all but the checkpoint interval and the length of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// What every transaction costs.
    pub base_fee: u64,
    /// What every byte of it costs on top.
    pub fee_per_byte: u64,
    /// What the transfer that creates an account costs on top.
    pub account_deposit: u64,
    /// Heights between two state roots.
    pub checkpoint_interval: u64,
    /// Heights that a pruned validator keeps below a checkpoint.
    pub retention: u64,
    /// Bytes of a lane that one block executes at most.
    pub lane_quota_bytes: u64,
    /// Heights for which one validator set decides.
    pub epoch_length: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            base_fee: 10,
            fee_per_byte: 1,
            account_deposit: 1_000,
            checkpoint_interval: 256,
            retention: 100_000,
            lane_quota_bytes: 16 * 1024 * 1024,
            epoch_length: 4_096,
        }
    }
}

impl Parameters {
    /// Returns what a transaction of this length costs.
    pub fn fee(&self, transaction_bytes: usize) -> u64 {
        let bytes = self.fee_per_byte.saturating_mul(length_u64(transaction_bytes));
        self.base_fee.saturating_add(bytes)
    }

    /// Returns how heights fall into epochs.
    pub const fn epochs(&self) -> Epochs {
        Epochs::new(self.epoch_length)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let quota_least = length_u64(BATCH_BODY_BYTES_MAX);
        let quota_most = length_u64(LANE_QUOTA_BYTES_MAX);
        let ranges = [
            ("base_fee", self.base_fee, 0, PRICE_MAX),
            ("fee_per_byte", self.fee_per_byte, 0, PRICE_MAX),
            ("account_deposit", self.account_deposit, 0, PRICE_MAX),
            ("checkpoint_interval", self.checkpoint_interval, 1, HEIGHTS_MAX),
            ("retention", self.retention, 1, HEIGHTS_MAX),
            ("lane_quota_bytes", self.lane_quota_bytes, quota_least, quota_most),
            ("epoch_length", self.epoch_length, EPOCH_LENGTH_MIN, EPOCH_LENGTH_MAX),
        ];
        for (name, found, least, most) in ranges {
            if !(least..=most).contains(&found) {
                return Err(Error::Parameter { name, least, most, found });
            }
        }
        Ok(())
    }
}

/// An account with its first balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// Who owns it.
    pub key: PublicKey,
    /// What it holds at the start.
    pub balance: u64,
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    validators: Vec<PublicKey>,
    accounts: Vec<GenesisAccount>,
    #[serde(default)]
    parameters: Parameters,
}

/// A checked genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    name: String,
    set: ValidatorSet,
    accounts: Vec<GenesisAccount>,
    parameters: Parameters,
    digest: Digest,
    key_check: KeyCheck,
}

impl Genesis {
    /// Checks the parts and puts them together.
    ///
    /// `key_check` is asked for the keys of later validators, too.
    ///
    /// Errors: every [`Error`] but that of the JSON form.
    pub fn new(
        name: String,
        validators: Vec<PublicKey>,
        accounts: Vec<GenesisAccount>,
        parameters: Parameters,
        key_check: fn(&[u8; 32]) -> bool,
    ) -> Result<Self, Error> {
        check_name(&name)?;
        let set = check_validators(validators, key_check)?;
        check_accounts(&accounts)?;
        parameters.check()?;
        let digest = digest(&name, &set, &accounts, &parameters);
        Ok(Self { name, set, accounts, parameters, digest, key_check: KeyCheck(key_check) })
    }

    /// Reads the file.
    ///
    /// Errors: every [`Error`], with the field and the reason.
    pub fn from_json(text: &str, key_check: fn(&[u8; 32]) -> bool) -> Result<Self, Error> {
        let file: File =
            serde_json::from_str(text).map_err(|error| Error::Json(error.to_string()))?;
        Self::new(file.name, file.validators, file.accounts, file.parameters, key_check)
    }

    /// Writes the file.
    pub fn to_json(&self) -> String {
        let file = File {
            name: self.name.clone(),
            validators: self.set.keys().to_vec(),
            accounts: self.accounts.clone(),
            parameters: self.parameters,
        };
        let mut text =
            serde_json::to_string_pretty(&file).expect("text and numbers always have a JSON form");
        text.push('\n');
        text
    }

    /// Returns the digest that names the network.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the first validators.
    pub fn set(&self) -> &ValidatorSet {
        &self.set
    }

    /// Returns the first accounts, by ascending key.
    pub fn accounts(&self) -> &[GenesisAccount] {
        &self.accounts
    }

    /// Returns what judges the keys of validators.
    pub const fn key_check(&self) -> KeyCheck {
        self.key_check
    }

    /// Returns the parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let printable = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if name.is_empty() || name.len() > GENESIS_NAME_BYTES_MAX || !printable {
        return Err(Error::Name);
    }
    Ok(())
}

fn check_validators(
    keys: Vec<PublicKey>,
    key_check: fn(&[u8; 32]) -> bool,
) -> Result<ValidatorSet, Error> {
    let found = keys.len();
    if let Some(pair) = keys.windows(2).position(|pair| pair[0] >= pair[1]) {
        return Err(Error::ValidatorOrder { index: pair + 1 });
    }
    // The order is right, so only the count is left to be refused.
    let set = ValidatorSet::new(keys).map_err(|_| Error::ValidatorCount { found })?;
    match set.keys().iter().position(|key| !key_check(key.as_bytes())) {
        Some(index) => Err(Error::ValidatorKey { index }),
        None => Ok(set),
    }
}

fn check_accounts(accounts: &[GenesisAccount]) -> Result<(), Error> {
    if accounts.len() > GENESIS_ACCOUNTS_MAX {
        return Err(Error::AccountCount { found: accounts.len() });
    }
    if let Some(pair) = accounts.windows(2).position(|pair| pair[0].key >= pair[1].key) {
        return Err(Error::AccountOrder { index: pair + 1 });
    }
    let mut supply: u64 = 0;
    for (index, account) in accounts.iter().enumerate() {
        supply = supply.checked_add(account.balance).ok_or(Error::Supply { index })?;
    }
    Ok(())
}

fn digest(
    name: &str,
    set: &ValidatorSet,
    accounts: &[GenesisAccount],
    parameters: &Parameters,
) -> Digest {
    let mut bytes = Vec::with_capacity(256 + 32 * set.len() + 40 * accounts.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&count_u32(name.len()).to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&count_u32(set.len()).to_le_bytes());
    for key in set.keys() {
        bytes.extend_from_slice(&key.0);
    }
    bytes.extend_from_slice(&count_u32(accounts.len()).to_le_bytes());
    for account in accounts {
        bytes.extend_from_slice(&account.key.0);
        bytes.extend_from_slice(&account.balance.to_le_bytes());
    }
    let Parameters {
        base_fee,
        fee_per_byte,
        account_deposit,
        checkpoint_interval,
        retention,
        lane_quota_bytes,
        epoch_length,
    } = parameters;
    for number in [
        base_fee,
        fee_per_byte,
        account_deposit,
        checkpoint_interval,
        retention,
        lane_quota_bytes,
        epoch_length,
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    domain::GENESIS.digest(&[&bytes])
}

#[cfg(test)]
mod tests;
