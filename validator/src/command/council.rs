//! `council`: shows who decides, and votes to change that.

use super::Exit;
use super::submit::{Door, Final};
use super::terminal::{Side, Table, say, say_json, thousands};
use crate::api::document::council::{Council, Motion, Validator};
use crate::client::author::Link;
use crate::client::{Api, Url};
use crate::key::{KeyFile, Source};
use clap::Subcommand;
use ledger::{Addresses, Ballot, Change, Draft, Height, Kind, Member, Outcome, PublicKey, Rates};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Time for a validator to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The arguments of `council`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show who decides, who follows, and what is moved
    Show {
        /// A validator, as http://host:port
        #[arg(long, value_name = "URL", env = "ALTHING_TO")]
        to: Url,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Approve of a new validator; the first to do so moves it
    Add {
        /// Its public key
        key: PublicKey,
        #[command(flatten)]
        addresses: At,
        #[command(flatten)]
        vote: Vote,
    },
    /// Approve that a validator leaves
    Remove {
        /// Its public key
        key: PublicKey,
        #[command(flatten)]
        vote: Vote,
    },
    /// Approve that a validator gets another key, or other addresses
    Replace {
        /// Its public key
        key: PublicKey,
        /// The public key that takes its place; the same for other addresses
        #[arg(long, value_name = "KEY")]
        by: PublicKey,
        #[command(flatten)]
        addresses: At,
        #[command(flatten)]
        vote: Vote,
    },
    /// Approve of other fees, quotas or retention; what is not given stays
    Rates {
        #[arg(long, value_name = "N")]
        base_fee: Option<u64>,
        #[arg(long, value_name = "N")]
        fee_per_byte: Option<u64>,
        #[arg(long, value_name = "N")]
        account_deposit: Option<u64>,
        #[arg(long, value_name = "HEIGHTS")]
        retention: Option<u64>,
        #[arg(long, value_name = "BYTES")]
        lane_quota_bytes: Option<u64>,
        #[command(flatten)]
        vote: Vote,
    },
    /// Say that the validator of this key follows the ledger and would be a member
    Ready {
        #[command(flatten)]
        vote: Vote,
    },
}

/// Where a new validator listens.
#[derive(Clone, Copy, Debug, clap::Args)]
struct At {
    /// Its consensus socket
    #[arg(long, value_name = "IP:PORT")]
    consensus: SocketAddr,
    /// Its lanes socket
    #[arg(long, value_name = "IP:PORT")]
    lanes: SocketAddr,
    /// Its history socket
    #[arg(long, value_name = "IP:PORT")]
    history: SocketAddr,
}

impl At {
    fn member(self, key: PublicKey) -> Member {
        let Self { consensus, lanes, history } = self;
        Member { key, addresses: Some(Addresses { consensus, lanes, history }) }
    }
}

/// Whose vote it is, and where it goes.
#[derive(Clone, Debug, clap::Args)]
struct Vote {
    /// The validator's key file; its account pays for the vote
    #[arg(long, value_name = "FILE", env = "ALTHING_KEY")]
    key_file: PathBuf,
    /// Read the key's passphrase from this open file descriptor; the terminal is asked without it
    #[arg(long, value_name = "N", value_parser = super::key::descriptor())]
    passphrase_fd: Option<i32>,
    /// Validators to hand it to, as http://host:port; the next one when one does not answer
    #[arg(long, value_name = "URL", value_delimiter = ',', env = "ALTHING_TO", required = true)]
    to: Vec<Url>,
    /// Take an approval back
    #[arg(long)]
    withdraw: bool,
    /// How long to wait until it is final
    #[arg(long, value_parser = super::terminal::parse_duration, default_value = "60s")]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// Errors: usage and config; network, when it is not final in time; a check failed, when it is refused or had no
/// effect.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    match &arguments.command {
        Command::Show { to, json } => {
            let council = ask(to)?;
            if *json {
                say_json(&json!(council))
            } else {
                say(&render(&council))
            }
            Ok(())
        }
        Command::Add { key, addresses, vote } => vote.cast(Change::Add(addresses.member(*key))),
        Command::Remove { key, vote } => vote.cast(Change::Remove(*key)),
        Command::Replace { key, by, addresses, vote } => {
            vote.cast(Change::Replace(*key, addresses.member(*by)))
        }
        Command::Rates {
            base_fee,
            fee_per_byte,
            account_deposit,
            retention,
            lane_quota_bytes,
            vote,
        } => {
            let first = vote.to.first().expect("the command line requires one");
            let now = ask(first)?.rates.rates();
            vote.cast(Change::Rates(Rates {
                base_fee: base_fee.unwrap_or(now.base_fee),
                fee_per_byte: fee_per_byte.unwrap_or(now.fee_per_byte),
                account_deposit: account_deposit.unwrap_or(now.account_deposit),
                retention: retention.unwrap_or(now.retention),
                lane_quota_bytes: lane_quota_bytes.unwrap_or(now.lane_quota_bytes),
            }))
        }
        Command::Ready { vote } if vote.withdraw => {
            Err(Exit::usage("who is ready takes nothing back: members withdraw their approval"))
        }
        Command::Ready { vote } => vote.say(&Ballot::Ready),
    }
}

fn ask(to: &Url) -> Result<Council, Exit> {
    Api::new(to.clone(), ANSWER).council().map_err(|error| Exit::network(error.to_string()))
}

impl Vote {
    fn cast(&self, change: Change) -> Result<(), Exit> {
        match self.withdraw {
            true => self.say(&Ballot::Withdraw(change)),
            false => self.say(&Ballot::Approve(change)),
        }
    }

    /// Signs and hands in what is said, and waits until it is final.
    fn say(&self, ballot: &Ballot) -> Result<(), Exit> {
        let source = Source::of_flag(self.passphrase_fd);
        let secret = KeyFile::read(&self.key_file)?.open(&self.key_file, &source)?;
        let body = ballot.encode();
        let mut door = Door::new(self.to.clone(), self.timeout);
        let known = door.submit(
            None,
            &|network, Link { sequence, previous }| {
                let (author, valid_until) = (secret.public(), Height(u64::MAX));
                let kind = Kind::Council;
                let draft = Draft { kind, author, sequence, previous, valid_until, body: &body };
                draft
                    .sign(network, |message| secret.sign(message))
                    .map_err(|reject| Exit::usage(format!("this is no change: {reject}")))
            },
            &secret.public(),
        )?;
        let Final { id, height, outcome } = known;
        if self.json {
            let (id, outcome) = (id.to_string(), outcome.as_str());
            say_json(&json!({ "id": id, "height": height, "outcome": outcome }));
        } else {
            say(&format!("height   {height}\nid       {id}\noutcome  {}\n", outcome.as_str()));
        }
        if outcome == Outcome::Applied {
            return Ok(());
        }
        Err(Exit::check_failed(
            "it is final and had no effect: this key has no such vote now (not a member, said before, too many \
             motions open, or the change does not apply), or its balance does not cover the fee",
        ))
    }
}

fn render(council: &Council) -> String {
    let mut facts = Table::new(&[Side::Left, Side::Left]);
    let of = council.members.len();
    facts.row(["epoch".to_string(), thousands(council.epoch)]);
    let heights = format!(
        "who follows is settled at height {}, the epoch ends with {}",
        thousands(council.decides_at),
        thousands(council.ends_at)
    );
    facts.row(["heights".to_string(), heights]);
    facts.row(["to change".to_string(), format!("{} of {of} approve", council.quorum)]);
    let rates = &council.rates;
    let fees = format!(
        "{} and {} a byte; {} for an account",
        thousands(rates.base_fee),
        thousands(rates.fee_per_byte),
        thousands(rates.account_deposit)
    );
    facts.row(["fees".to_string(), fees]);
    let mut text = format!("{}\n{}", facts.render(), members(&council.members));
    if let Some(next) = council.next.as_ref().filter(|next| next.members != council.members) {
        text.push_str(&format!("\nfrom the next epoch on\n{}", members(&next.members)));
    }
    if council.motions.is_empty() {
        text.push_str("\nnothing is moved\n");
    }
    for motion in &council.motions {
        text.push_str(&format!("\n{}\n", describe(motion, of)));
    }
    text
}

fn members(members: &[Validator]) -> String {
    let mut table = Table::new(&[Side::Right, Side::Left, Side::Left, Side::Left, Side::Left]);
    table.row(["validator", "key", "consensus", "lanes", "history"]);
    for (place, member) in members.iter().enumerate() {
        let address = |it: Option<SocketAddr>| it.map_or_else(String::new, |it| it.to_string());
        table.row([
            place.to_string(),
            member.key.to_string(),
            address(member.consensus),
            address(member.lanes),
            address(member.history),
        ]);
    }
    table.render()
}

fn describe(motion: &Motion, of: usize) -> String {
    let key =
        |it: &Option<Validator>| it.as_ref().map_or_else(String::new, |it| it.key.to_string());
    let what = match motion.change.as_str() {
        "add" => format!("add {}", key(&motion.joins)),
        "remove" => format!("remove {}", key(&motion.leaves)),
        "replace" => format!("replace {} by {}", key(&motion.leaves), key(&motion.joins)),
        other => {
            format!("{other} {}", motion.rates.map_or_else(String::new, |it| format!("{it:?}")))
        }
    };
    let waits =
        if motion.ready == Some(false) { ", and it has not said that it is ready" } else { "" };
    format!(
        "moved: {what}\n  approved by {} of {of}: {:?}{waits}",
        motion.approvals.len(),
        motion.approvals
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::Terms;
    use ledger::{Genesis, Parameters};

    #[test]
    fn a_council_is_shown_and_comes_back_as_json() {
        let keys = (1..=4).map(|byte| PublicKey([byte; 32])).collect();
        let genesis =
            Genesis::new("t".into(), keys, vec![], Parameters::default(), |_| true).unwrap();
        let council = Council::new(&Terms::genesis(&genesis).council());
        let text = render(&council);
        assert!(text.contains("3 of 4 approve") && text.contains("nothing is moved"), "{text}");
        let json = serde_json::to_string(&council).unwrap();
        assert_eq!(serde_json::from_str::<Council>(&json).unwrap(), council);
        assert_eq!(council.rates.rates(), Rates::of(&Parameters::default()));
    }
}
