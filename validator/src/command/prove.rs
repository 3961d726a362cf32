//! `prove`: fetches a proof from a validator and keeps it as a file that convinces anyone.

use super::Exit;
use super::network::Network;
use super::terminal::{self, say, say_json};
use super::verify_proof::Read;
use crate::client::{Api, Url, api};
use crate::config::identity::load_genesis;
use clap::Subcommand;
use ledger::{Digest, PublicKey};
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
    #[arg(long, conflicts_with = "out")]
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
    let bytes = fetch(&urls, &path)?;
    // Nobody gets a file that convinces nobody.
    let read = Read::check(&bytes, &genesis).map_err(|reject| {
        Exit::check_failed(format!("the validator's proof is refused: {reject}"))
    })?;
    let file = from.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.proof")));
    if file == Path::new("-") {
        let mut stdout = std::io::stdout().lock();
        return stdout
            .write_all(&bytes)
            .and_then(|()| stdout.flush())
            .map_err(|error| Exit::host_unfit(format!("standard output: {error}")));
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

/// Asks one validator after another.
fn fetch(urls: &[Url], path: &str) -> Result<Vec<u8>, Exit> {
    let mut last = None;
    for url in urls {
        match Api::new(url.clone(), ANSWER).proof(path) {
            Ok(bytes) => return Ok(bytes),
            Err(error @ api::Error::Problem { .. }) => {
                last = Some(Exit::check_failed(error.to_string()))
            }
            Err(error) => {
                // What a validator says weighs more than that another says nothing.
                last.get_or_insert_with(|| Exit::network(error.to_string()));
            }
        }
    }
    Err(last.unwrap_or_else(|| Exit::usage("no validator to ask")))
}

fn write_new(file: &Path, bytes: &[u8]) -> Result<(), Exit> {
    let refuse = |error: std::io::Error| Exit::usage(format!("{}: {error}", file.display()));
    let mut created = std::fs::File::create_new(file).map_err(refuse)?;
    created.write_all(bytes).map_err(refuse)
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
        let exit = fetch(&[closed.clone(), closed], "/proof/account/x").unwrap_err();
        assert_eq!(exit.code(), super::super::Code::Network);
    }
}
