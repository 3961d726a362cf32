//! `prove`: fetches a proof from a validator and keeps it as a file that convinces anyone.

use super::network::Network;
use super::terminal::{self, say, say_json};
use super::verify_proof::Read;
use super::{Code, Exit};
use crate::client::{Api, Url, api};
use crate::config::identity::load_genesis;
use clap::Subcommand;
use ledger::{Digest, Proved, PublicKey};
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for one validator to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The arguments of `prove`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What became of a transaction
    Transaction {
        /// Its id
        id: Digest,
        /// The height that executed it: needed when that was long ago
        #[arg(long, value_name = "HEIGHT")]
        height: Option<u64>,
        #[command(flatten)]
        from: Source,
    },
    /// What an account was at the last checkpoint
    Account {
        /// Its public key
        key: PublicKey,
        #[command(flatten)]
        from: Source,
    },
    /// That a key had no account at the last checkpoint
    Absence {
        /// The public key
        key: PublicKey,
        #[command(flatten)]
        from: Source,
    },
}

/// Where it comes from and where it goes.
#[derive(Debug, clap::Args)]
struct Source {
    /// Validators to ask, as http://host:port; the next one when one does not answer
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        env = "ALTHING_TO",
        required_unless_present = "data"
    )]
    to: Vec<Url>,
    /// Folder of a network, for its validators and its genesis file
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The genesis file that the proof must hold under
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    genesis: Option<PathBuf>,
    /// File for the proof, which must be new; - writes it to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// Errors: usage and config; network, when no validator answers; a check failed, when there is no such proof or
/// it does not hold.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    let (path, name, from) = match &arguments.what {
        What::Transaction { id, height, from } => {
            let at = height.map_or(String::new(), |height| format!("?height={height}"));
            (format!("/proof/transaction/{id}{at}"), format!("transaction-{id}"), from)
        }
        What::Account { key, from } => {
            (format!("/proof/account/{key}"), format!("account-{key}"), from)
        }
        What::Absence { key, from } => {
            (format!("/proof/absence/{key}"), format!("absence-{key}"), from)
        }
    };
    let network = from.data.as_deref().map(Network::open).transpose()?;
    let urls = match &network {
        Some(network) if from.to.is_empty() => {
            network.validators.iter().map(|member| Url::from(member.http)).collect()
        }
        _ => from.to.clone(),
    };
    let genesis = match (&from.genesis, &network) {
        (Some(file), _) => file.clone(),
        (None, Some(network)) => network.genesis(),
        (None, None) => unreachable!("the command line requires one of the two"),
    };
    let genesis = load_genesis(&genesis)?;
    let (bytes, read) = fetch(&urls, &path, |bytes| {
        // Nobody gets a file that convinces nobody, or that proves something else.
        let read = Read::check(bytes, &genesis)
            .map_err(|reject| format!("its proof is refused: {reject}"))?;
        if arguments.what.is_shown_by(&read) {
            Ok(read)
        } else {
            Err("its proof is one of something else".to_owned())
        }
    })?;
    let file = from.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.proof")));
    if file == Path::new("-") {
        return terminal::write_bytes(&bytes);
    }
    write_new(&file, &bytes)?;
    if from.json {
        let mut document = read.document(&genesis)?;
        document["file"] = json!(file.display().to_string());
        say_json(&document);
    } else {
        say(&format!(
            "{}{}\n",
            read.render(&genesis, terminal::Paint::stdout())?,
            format_args!("file       {}", file.display())
        ));
    }
    Ok(())
}

impl What {
    /// Whether a proof is the one that was asked for.
    fn is_shown_by(&self, read: &Read) -> bool {
        match (self, read.proved()) {
            (
                Self::Transaction { id, height, .. },
                Ok(Proved::Transaction { id: found, height: at, .. }),
            ) => *id == found && height.is_none_or(|height| height == at.get()),
            (Self::Account { key, .. }, Ok(Proved::Account { key: found, .. }))
            | (Self::Absence { key, .. }, Ok(Proved::Absence { key: found, .. })) => *key == found,
            _ => false,
        }
    }
}

/// Asks one validator after another, until one has a proof that passes the check.
fn fetch<T>(
    urls: &[Url],
    path: &str,
    check: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<(Vec<u8>, T), Exit> {
    let mut last: Option<Exit> = None;
    for url in urls {
        let exit = match Api::new(url.clone(), ANSWER).proof(path) {
            Ok(bytes) => match check(&bytes) {
                Ok(checked) => return Ok((bytes, checked)),
                Err(why) => Exit::check_failed(format!("{url}: {why}")),
            },
            Err(error @ api::Error::Problem { .. }) => Exit::check_failed(error.to_string()),
            Err(error) => Exit::network(error.to_string()),
        };
        // What a validator says weighs more than that another says nothing.
        if last.is_none() || exit.code() != Code::Network {
            last = Some(exit);
        }
    }
    Err(last.unwrap_or_else(|| Exit::usage("no validator to ask")))
}

fn write_new(file: &Path, bytes: &[u8]) -> Result<(), Exit> {
    let refuse = |error: std::io::Error| Exit::usage(format!("{}: {error}", file.display()));
    let mut created = std::fs::File::create_new(file).map_err(refuse)?;
    created.write_all(bytes).map_err(|error| {
        // A part of a proof is none, and would be in the way of the next try.
        let _ = std::fs::remove_file(file);
        refuse(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.proof");
        write_new(&file, b"one").unwrap();
        let exit = write_new(&file, b"two").unwrap_err();
        assert_eq!(exit.code(), super::super::Code::Usage);
        assert_eq!(std::fs::read(file).unwrap(), b"one");
    }

    #[test]
    fn nobody_who_listens_is_a_matter_of_the_network() {
        let closed: Url = "http://127.0.0.1:1".parse().unwrap();
        let exit = fetch(&[closed.clone(), closed], "/proof/account/x", |_| Ok(())).unwrap_err();
        assert_eq!(exit.code(), Code::Network);
    }

    #[test]
    fn a_proof_of_something_else_is_not_what_was_asked_for() {
        let key = PublicKey([1; 32]);
        let source =
            || Source { to: Vec::new(), data: None, genesis: None, out: None, json: false };
        let (read, id, height) = Read::golden_transaction();
        let what = |id, height| What::Transaction { id, height, from: source() };
        assert!(what(id, None).is_shown_by(&read) && what(id, Some(height)).is_shown_by(&read));
        assert!(!what(id, Some(height + 1)).is_shown_by(&read));
        assert!(!what(Digest([1; 32]), None).is_shown_by(&read));
        assert!(!What::Account { key, from: source() }.is_shown_by(&read));
        assert!(!What::Absence { key, from: source() }.is_shown_by(&read));
    }
}
