//! `submit`: signs one record or transfer, hands it in, and waits until it is final.

use super::Exit;
use super::network::{CLIENT_KEY, Network};
use super::terminal::{read_bytes, say, say_json, thousands};
use crate::api::document::{FINAL, Submitted};
use crate::client::author::Link;
use crate::client::{Api, Url, api};
use crate::config::identity::load_genesis;
use crate::key::{KeyFile, Source};
use crate::refusal::Refusal;
use ledger::{Digest, Draft, Height, Kind, Outcome, PublicKey, Transfer};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Time for one request: the validator itself stops waiting a little earlier.
const REQUEST: Duration = Duration::from_secs(35);
/// Time between two attempts that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// The arguments of `submit`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["file", "transfer"])))]
pub struct Arguments {
    /// Keep this file as a record; - reads standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Move an amount to the account of this public key
    #[arg(long, value_name = "KEY", requires = "amount")]
    transfer: Option<PublicKey>,
    /// The amount to move
    #[arg(long, value_name = "N", requires = "transfer")]
    amount: Option<u64>,
    /// Validators to hand it to, as http://host:port; the next one when one does not answer
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        env = "ALTHING_TO",
        required_unless_present = "data"
    )]
    to: Vec<Url>,
    /// The author's key file; the funded client's of the network, where that is known
    #[arg(long, value_name = "FILE", env = "ALTHING_KEY")]
    key: Option<PathBuf>,
    /// Read the key's passphrase from this open file descriptor; the terminal is asked without it
    #[arg(long, value_name = "N", value_parser = super::key::descriptor())]
    passphrase_fd: Option<i32>,
    /// Folder of a network, for its validators and its funded client's key
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Refuse validators of any other network than this genesis file's
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// The last height at which it may be executed; for ever without it
    #[arg(long, value_name = "HEIGHT")]
    valid_until: Option<u64>,
    /// How long to wait until it is final
    #[arg(long, value_parser = super::terminal::parse_duration, default_value = "60s")]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A transaction that is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Final {
    pub(super) id: Digest,
    pub(super) height: u64,
    pub(super) outcome: Outcome,
}

/// Runs the command.
///
/// Errors: usage and config; network, when it is not final in time; a check failed, when it is
/// refused or did not apply.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    let network = arguments.data.as_deref().map(Network::open).transpose()?;
    let urls = match &network {
        Some(network) if arguments.to.is_empty() => {
            network.validators.iter().map(|member| Url::from(member.http)).collect()
        }
        _ => arguments.to.clone(),
    };
    let key = key_file(arguments, network.as_ref(), &urls)?;
    let secret = KeyFile::read(&key)?.open(&key, &Source::of_flag(arguments.passphrase_fd))?;
    let body = body(arguments)?;
    let pinned = match (&arguments.genesis, &network) {
        (Some(file), _) => Some(load_genesis(file)?.digest()),
        (None, Some(network)) => Some(network.network),
        (None, None) => None,
    };
    let kind = if arguments.transfer.is_some() { Kind::Transfer } else { Kind::Record };
    let valid_until = Height(arguments.valid_until.unwrap_or(u64::MAX));
    let mut door = Door::new(urls, arguments.timeout);
    let known = door.submit(
        pinned,
        &|network, link| {
            let Link { sequence, previous } = link;
            let author = secret.public();
            let draft = Draft { kind, author, sequence, previous, valid_until, body: &body };
            draft.sign(network, |message| secret.sign(message)).map_err(|reject| {
                Exit::usage(format!(
                    "{} bytes do not make a transaction: {reject} (at most {} bytes)",
                    thousands(u64::try_from(body.len()).unwrap_or(u64::MAX)),
                    ledger::limits::TRANSACTION_BODY_BYTES_MAX
                ))
            })
        },
        &secret.public(),
    )?;
    print(&known, arguments.json);
    match known.outcome {
        Outcome::Applied => Ok(()),
        outcome => Err(Exit::check_failed(format!(
            "it is final and had no effect: {}{}",
            outcome.as_str(),
            if outcome == Outcome::Failed { " (the balance does not cover it)" } else { "" }
        ))),
    }
}

fn print(known: &Final, json: bool) {
    let Final { id, height, outcome } = known;
    if json {
        let (id, outcome) = (id.to_string(), outcome.as_str());
        say_json(&json!({ "id": id, "height": height, "outcome": outcome }));
    } else {
        say(&format!("height   {height}\nid       {id}\noutcome  {}\n", outcome.as_str()));
    }
}

/// Finds the author's key: given, of the given network, or of a test network that listens there.
fn key_file(
    arguments: &Arguments,
    network: Option<&Network>,
    urls: &[Url],
) -> Result<PathBuf, Exit> {
    if let Some(file) = &arguments.key {
        return Ok(file.clone());
    }
    if let Some(network) = network {
        return Ok(network.client_key());
    }
    let found = urls.first().and_then(Network::search);
    found.map(|network| network.client_key()).ok_or_else(|| {
        Exit::usage(format!(
            "whose transaction is it? Give --key FILE, or --data DIR of a network with a {CLIENT_KEY}"
        ))
    })
}

fn body(arguments: &Arguments) -> Result<Vec<u8>, Exit> {
    if let (Some(to), Some(amount)) = (arguments.transfer, arguments.amount) {
        return Ok(Transfer { to, amount }.encode().to_vec());
    }
    let file = arguments.file.as_deref().expect("the command line requires one of the two");
    read_record(file)
}

/// Reads a record.
fn read_record(file: &Path) -> Result<Vec<u8>, Exit> {
    let bytes_max = ledger::limits::TRANSACTION_BODY_BYTES_MAX;
    let bytes = read_bytes(file, bytes_max)?;
    if bytes.len() > bytes_max {
        return Err(Exit::usage(format!(
            "{} has more than {} bytes, the most that one record holds: split it",
            file.display(),
            thousands(u64::try_from(bytes_max).unwrap_or(u64::MAX))
        )));
    }
    Ok(bytes)
}

/// Signs a transaction for a network and a place in the author's chain.
pub(super) type Sign<'a> = dyn Fn(&Digest, Link) -> Result<(Vec<u8>, Digest), Exit> + 'a;

/// Several validators as one: the next is asked when one does not answer.
pub(super) struct Door {
    validators: Vec<Api>,
    current: usize,
    until: Instant,
}

impl Door {
    pub(super) fn new(urls: Vec<Url>, timeout: Duration) -> Self {
        assert!(!urls.is_empty(), "the command line requires one");
        let each = REQUEST.min(timeout);
        let validators = urls.into_iter().map(|url| Api::new(url, each)).collect();
        Self { validators, current: 0, until: Instant::now() + timeout }
    }

    /// Signs for the author's next place, hands in the same bytes until they are final.
    pub(super) fn submit(
        &mut self,
        pinned: Option<Digest>,
        sign: &Sign<'_>,
        author: &PublicKey,
    ) -> Result<Final, Exit> {
        let network = self.ask(|validator| validator.status())?.network;
        if let Some(pinned) = pinned.filter(|pinned| *pinned != network) {
            return Err(Exit::network(format!(
                "{}: it serves network {network}, not {pinned}",
                self.validators[self.current].url()
            )));
        }
        // Signed again only when every validator says for certain that the bytes were not taken.
        loop {
            let account = self.ask(|validator| validator.account(author))?.ok_or_else(|| {
                Exit::check_failed(format!(
                    "{author} has no account: transfer an amount to it first"
                ))
            })?;
            let link = Link { sequence: account.pending_sequence, previous: account.pending_head };
            let (bytes, id) = sign(&network, link)?;
            if let Some(known) = self.hand_in(&bytes, &id)? {
                return Ok(known);
            }
        }
    }

    /// Hands in bytes until they are final; none when their place was taken by others.
    fn hand_in(&mut self, bytes: &[u8], id: &Digest) -> Result<Option<Final>, Exit> {
        let mut was_sent = false;
        loop {
            let url = self.validators[self.current].url().clone();
            match self.validators[self.current].submit(bytes) {
                Ok(answer) => match final_of(&answer) {
                    Some(known) => return Ok(Some(known)),
                    // Accepted, and not final within the time that the validator waits.
                    None => was_sent = true,
                },
                Err(error) => match error.refusal() {
                    // It may be final by way of another validator, or of a lost answer.
                    Some(Refusal::Stale | Refusal::Forked | Refusal::Duplicate) => {
                        if let Some(known) = self.find(id)? {
                            return Ok(Some(known));
                        }
                        let is_taken = error.refusal() != Some(Refusal::Duplicate);
                        if is_taken && !was_sent {
                            return Ok(None);
                        }
                    }
                    Some(refusal) if !refusal.retryable() => {
                        return Err(Exit::check_failed(error.to_string()));
                    }
                    Some(_) => {}
                    None => {
                        // The bytes may have arrived although the answer did not.
                        was_sent = true;
                        self.next();
                    }
                },
            }
            if Instant::now() + PAUSE >= self.until {
                return Err(Exit::network(format!(
                    "{url}: {id} is not final in time; hand the same in again later, or look with \
                     GET /transaction/{id}"
                )));
            }
            thread::sleep(PAUSE);
        }
    }

    fn find(&mut self, id: &Digest) -> Result<Option<Final>, Exit> {
        let found = self.ask(|validator| validator.transaction(id))?;
        let Some(place) = found.and_then(|transaction| transaction.place) else {
            return Ok(None);
        };
        let outcome = outcome_of(&place.outcome);
        Ok(outcome.map(|outcome| Final { id: *id, height: place.height, outcome }))
    }

    /// Asks the current validator, and the others when it does not answer.
    fn ask<T>(&mut self, ask: impl Fn(&mut Api) -> Result<T, api::Error>) -> Result<T, Exit> {
        let mut failures = Vec::new();
        for _ in 0..self.validators.len() {
            match ask(&mut self.validators[self.current]) {
                Ok(answer) => return Ok(answer),
                Err(error) => failures.push(error.to_string()),
            }
            self.next();
        }
        Err(Exit::network(failures.join("; ")))
    }

    fn next(&mut self) {
        self.current = (self.current + 1) % self.validators.len();
    }
}

fn final_of(answer: &Submitted) -> Option<Final> {
    let outcome = outcome_of(answer.outcome.as_deref()?)?;
    let height = answer.height?;
    (answer.status == FINAL).then_some(Final { id: answer.id, height, outcome })
}

fn outcome_of(name: &str) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == name)
}

#[cfg(test)]
mod tests;
