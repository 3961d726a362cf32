//! `evidence`: what validators are proved to have done, and whether a file of it holds.

use super::Exit;
use super::terminal::{Side, Table, say, say_json};
use super::verify_proof::judge;
use crate::api::document;
use crate::client::{Api, Url, api};
use crate::config::identity::load_genesis;
use crate::evidence::{self, files};
use clap::Subcommand;
use ledger::{Evidence, Genesis};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for a validator to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The arguments of `evidence`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what a validator keeps
    List {
        /// The data folder of a validator, also of a running one; each file in it is checked
        #[arg(required_unless_present = "to")]
        folder: Option<PathBuf>,
        /// A running validator, as http://host:port
        #[arg(long, value_name = "URL", conflicts_with = "folder")]
        to: Option<Url>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a file, offline, with nothing but the genesis file
    Verify {
        /// The evidence
        file: PathBuf,
        /// The genesis file: all that is taken on trust
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// Errors: usage and config; network, when the validator does not answer; a check failed, when a file does not hold.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    match &arguments.command {
        Command::List { folder, to, json } => {
            let (kept, refused) = match (folder, to) {
                (Some(folder), _) => kept_in(folder)?,
                (None, Some(url)) => {
                    (Api::new(url.clone(), ANSWER).evidence().map_err(exit_of)?, None)
                }
                (None, None) => unreachable!("the command line requires one of the two"),
            };
            list(&kept, *json);
            refused.map_or(Ok(()), Err)
        }
        Command::Verify { file, genesis, json } => verify(file, genesis, *json),
    }
}

fn exit_of(error: api::Error) -> Exit {
    match error {
        api::Error::Problem { .. } => Exit::check_failed(error.to_string()),
        api::Error::Http(_) | api::Error::Unexpected { .. } => Exit::network(error.to_string()),
    }
}

/// What a data folder has, and the first file that does not hold.
type KeptIn = (Vec<document::Evidence>, Option<Exit>);

/// Reads and checks every file of a data folder.
fn kept_in(folder: &Path) -> Result<KeptIn, Exit> {
    let data = [folder.to_path_buf(), folder.join("data")];
    let data = data.iter().find(|data| data.join("genesis.json").is_file()).ok_or_else(|| {
        Exit::config(format!(
            "{}: no data folder of a validator (no genesis.json)",
            folder.display()
        ))
    })?;
    let genesis = load_genesis(&data.join("genesis.json"))?;
    let (mut kept, mut refused) = (Vec::new(), None);
    for file in files(&data.join("evidence")) {
        match read(&file, &genesis) {
            Ok(evidence) => kept.push(document::Evidence::new(evidence.digest(), &evidence)),
            Err(exit) => {
                refused.get_or_insert(exit);
            }
        }
    }
    Ok((kept, refused))
}

/// Reads a file and checks that it holds.
fn read(file: &Path, genesis: &Genesis) -> Result<Evidence, Exit> {
    let path = file.display();
    let bytes = evidence::read(file).map_err(|error| Exit::usage(format!("{path}: {error}")))?;
    let refused = |reject| Exit::check_failed(format!("{path}: refused: {reject}"));
    let evidence = Evidence::decode(&bytes).map_err(refused)?;
    evidence.check(&genesis.digest(), genesis.set(), &judge()).map_err(refused)?;
    Ok(evidence)
}

fn list(kept: &[document::Evidence], json: bool) {
    if json {
        return say_json(&json!(kept));
    }
    if kept.is_empty() {
        return say("no evidence against any validator\n");
    }
    let mut table = Table::new(&[Side::Right, Side::Left, Side::Left, Side::Left]);
    table.row(["validator", "kind", "where", "digest"]);
    for one in kept {
        let place = place(one);
        table.row([one.validator.to_string(), one.kind.clone(), place, one.digest.to_string()]);
    }
    say(&table.render());
}

fn place(one: &document::Evidence) -> String {
    match (one.view, one.lane, one.sequence) {
        (Some(view), ..) => format!("view {view}"),
        (None, Some(lane), Some(sequence)) => format!("lane {lane} batch {sequence}"),
        (None, ..) => String::new(),
    }
}

fn verify(file: &Path, genesis: &Path, json: bool) -> Result<(), Exit> {
    let genesis = load_genesis(genesis)?;
    let evidence = read(file, &genesis)?;
    let document = document::Evidence::new(evidence.digest(), &evidence);
    let key = genesis.set().key(evidence.validator()).expect("the check found it");
    if json {
        let mut value = json!(document);
        value["verified"] = json!(true);
        value["key"] = json!(key.to_string());
        say_json(&value);
        return Ok(());
    }
    say(&format!(
        "verified: validator {} {}\nkey        {key}\nwhere      {}\ndigest     {}\nnetwork    {} ({})\n",
        document.validator,
        what(&document.kind),
        place(&document),
        document.digest,
        genesis.digest(),
        genesis.name()
    ));
    Ok(())
}

/// What a kind means, in words.
fn what(kind: &str) -> &'static str {
    match kind {
        "notarize" => "has notarized two blocks of one view",
        "finalize" => "has finalized two blocks of one view",
        "nullify_finalize" => "has voted to skip a view and finalized a block of it",
        "fork" => "has made two batches for one place of its lane",
        "ack" => "has acknowledged two batches for one place of a lane",
        "batch" => "has signed a batch with a transaction that its author did not sign",
        _ => "has done what no honest validator does",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/golden");
        let text = std::fs::read_to_string(format!("{folder}/{name}.hex")).unwrap();
        hex::decode(text.replace('\n', "")).unwrap()
    }

    #[test]
    fn a_folder_is_listed_and_each_of_its_files_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let kept = data.join("evidence");
        std::fs::create_dir_all(&kept).unwrap();
        let genesis = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/golden/proof_genesis.json");
        std::fs::copy(genesis, data.join("genesis.json")).unwrap();
        let kinds = ["notarize", "finalize", "nullify_finalize", "fork", "ack", "batch"];
        for kind in kinds {
            let file = kept.join(kind).with_extension(crate::evidence::SUFFIX);
            std::fs::write(&file, golden(&format!("evidence_{kind}"))).unwrap();
            verify(&file, Path::new(genesis), false).unwrap();
            assert_ne!(what(kind), what("another"));
        }
        let (found, refused) = kept_in(folder.path()).unwrap();
        assert_eq!(refused, None);
        let mut found: Vec<&str> = found.iter().map(|one| one.kind.as_str()).collect();
        found.sort_unstable();
        let mut expected = kinds;
        expected.sort_unstable();
        assert_eq!(found, expected);
        let file = kept.join("fork").with_extension(crate::evidence::SUFFIX);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let (kept, refused) = kept_in(folder.path()).unwrap();
        assert_eq!(kept.len(), kinds.len() - 1, "the others are listed");
        let exit = refused.unwrap();
        assert_eq!(exit.code(), super::super::Code::CheckFailed);
        assert!(exit.message().contains("fork.evidence: refused"), "{exit}");
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(kept_in(empty.path()).unwrap_err().code(), super::super::Code::Config);
    }
}
