//! `verify-proof`: checks a proof against a genesis file, offline, and says what it proves.

use super::Exit;
use super::described::{describe, describe_json};
use super::terminal::{Paint, Side, Table, read_bytes, say, say_json, thousands, write_bytes};
use crate::config::identity::load_genesis;
use crate::votes::Judge;
use ledger::limits::PROOF_BYTES_MAX;
use ledger::{Genesis, Height, Proof, Proved, Reject, Trusted};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// The arguments of `verify-proof`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The proof; - reads standard input
    file: PathBuf,
    /// The genesis file: all that is taken on trust
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Write the body of the proved transaction to standard output, and nothing else
    #[arg(long, conflicts_with = "json")]
    body: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// Errors: usage and config, when a file cannot be read; a check failed, when the proof does not hold.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    let genesis = load_genesis(&arguments.genesis)?;
    let bytes = read_bytes(&arguments.file, PROOF_BYTES_MAX)?;
    let read = match Read::check(&bytes, &genesis) {
        Ok(read) => read,
        Err(reject) => {
            if arguments.json {
                say_json(&json!({ "verified": false, "reason": reject.as_str() }));
            }
            let file = arguments.file.display();
            return Err(Exit::check_failed(format!("{file}: refused: {reject}")));
        }
    };
    if arguments.body {
        return read.write_body();
    }
    if arguments.json {
        say_json(&read.document(&genesis)?);
    } else {
        say(&read.render(&genesis, Paint::stdout())?);
    }
    Ok(())
}

/// A proof that holds.
#[derive(Debug)]
pub struct Read {
    proof: Proof,
    trusted: Trusted,
}

impl Read {
    /// Checks a proof against a genesis.
    ///
    /// Errors: those of [`Proof::decode`] and [`Proof::check`].
    pub fn check(bytes: &[u8], genesis: &Genesis) -> Result<Self, Reject> {
        let (proof, trusted) = (Proof::decode(bytes)?, Trusted::genesis(genesis));
        proof.check(&trusted, &judge())?;
        Ok(Self { proof, trusted })
    }

    /// What it proves.
    ///
    /// Errors: a check failed, which it has not before.
    pub fn proved(&self) -> Result<Proved<'_>, Exit> {
        let proved = self.proof.check(&self.trusted, &judge());
        proved.map_err(|reject| Exit::check_failed(format!("refused: {reject}")))
    }

    /// What it proves, as a document.
    ///
    /// Errors: a check failed, which it has not before.
    pub fn document(&self, genesis: &Genesis) -> Result<Value, Exit> {
        let (header, finality) = (self.proof.header(), self.proof.finality());
        let mut document = match self.proved()? {
            Proved::Transaction { id, transaction, outcome, height } => {
                let mut document = json!({
                    "proves": "transaction",
                    "id": id.to_string(),
                    "outcome": outcome.as_str(),
                    "height": height.get(),
                });
                describe_json(&transaction, &mut document);
                document
            }
            Proved::Account { key, account, height } => json!({
                "proves": "account",
                "key": key.to_string(),
                "balance": account.balance,
                "sequence": account.sequence,
                "head": account.head.to_string(),
                "height": height.get(),
            }),
            Proved::Absence { key, height } => {
                json!({ "proves": "absence", "key": key.to_string(), "height": height.get() })
            }
        };
        document["verified"] = json!(true);
        document["network"] = json!(genesis.digest().to_string());
        document["certified"] = json!({
            "height": header.height().get(),
            "digest": header.digest().to_string(),
            "time_ms": header.time_ms(),
            "signers": finality.signers.count(),
            "validators": self.trusted.set.len(),
        });
        Ok(document)
    }

    /// What it proves, in words.
    ///
    /// Errors: a check failed, which it has not before.
    pub fn render(&self, genesis: &Genesis, paint: Paint) -> Result<String, Exit> {
        let (header, finality) = (self.proof.header(), self.proof.finality());
        let mut table = Table::new(&[Side::Left, Side::Left]);
        let of =
            |height: Height| format!("height {}, the last checkpoint", thousands(height.get()));
        let what = match self.proved()? {
            Proved::Transaction { id, transaction, outcome, height } => {
                table.row(["id".to_string(), id.to_string()]);
                table.row(["outcome".to_string(), outcome.as_str().to_string()]);
                table.row(["height".to_string(), thousands(height.get())]);
                describe(&transaction, &mut table);
                "this transaction was executed"
            }
            Proved::Account { key, account, height } => {
                table.row(["key".to_string(), key.to_string()]);
                table.row(["balance".to_string(), thousands(account.balance)]);
                table.row(["sequence".to_string(), account.sequence.to_string()]);
                table.row(["head".to_string(), account.head.to_string()]);
                table.row(["at".to_string(), of(height)]);
                "this is the account of this key"
            }
            Proved::Absence { key, height } => {
                table.row(["key".to_string(), key.to_string()]);
                table.row(["at".to_string(), of(height)]);
                "this key has no account"
            }
        };
        let certified = format!(
            "block {}, finalized by {} of {} validators",
            thousands(header.height().get()),
            finality.signers.count(),
            self.trusted.set.len()
        );
        table.row(["certified".to_string(), certified]);
        table.row(["network".to_string(), format!("{} ({})", genesis.digest(), genesis.name())]);
        Ok(format!("{}: {what}\n{}", paint.good("verified"), table.render()))
    }

    fn write_body(&self) -> Result<(), Exit> {
        let Proved::Transaction { transaction, .. } = self.proved()? else {
            return Err(Exit::usage("--body needs the proof of a transaction"));
        };
        write_bytes(transaction.body())
    }
}

/// One thread checks a proof's few signatures sooner than many begin to.
pub(super) fn judge() -> Judge {
    let options = sigverify::Options { backend: None, threads: 1 };
    let verifier =
        sigverify::Verifier::new(&options).expect("the portable backend runs everywhere");
    Judge::new(Arc::new(verifier))
}

#[cfg(test)]
impl Read {
    /// A proof of a transaction, its id and its height.
    pub(super) fn golden_transaction() -> (Self, ledger::Digest, u64) {
        let read = Self::check(&tests::golden("proof_transaction"), &tests::genesis()).unwrap();
        match read.proved().unwrap() {
            Proved::Transaction { id, height, .. } => {
                let (id, height) = (id, height.get());
                (read, id, height)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: &str = include_str!("../../../ledger/golden/proof_genesis.json");

    pub(super) fn golden(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../ledger/golden");
        let text = std::fs::read_to_string(format!("{folder}/{name}.hex")).unwrap();
        hex::decode(text.replace('\n', "")).unwrap()
    }

    pub(super) fn genesis() -> Genesis {
        Genesis::from_json(GENESIS, sigverify::key_is_sound).unwrap()
    }

    #[test]
    fn a_proof_that_holds_says_what_it_proves() {
        let genesis = genesis();
        for (name, kind, words) in [
            ("proof_transaction", "transaction", "this transaction was executed"),
            ("proof_account", "account", "this is the account of this key"),
            ("proof_absence", "absence", "this key has no account"),
        ] {
            let read = Read::check(&golden(name), &genesis).unwrap();
            let text = read.render(&genesis, Paint::PLAIN).unwrap();
            assert!(text.starts_with(&format!("verified: {words}\n")), "{text}");
            assert!(text.contains("finalized by 3 of 4 validators"), "{text}");
            let document = read.document(&genesis).unwrap();
            assert_eq!((&document["verified"], &document["proves"]), (&json!(true), &json!(kind)));
            assert_eq!(document["network"], json!(genesis.digest().to_string()));
        }
    }

    #[test]
    fn another_network_and_every_other_byte_are_refused() {
        let genesis = genesis();
        let bytes = golden("proof_transaction");
        let other = GENESIS.replace("\"test\"", "\"toast\"");
        let other = Genesis::from_json(&other, sigverify::key_is_sound).unwrap();
        assert_eq!(Read::check(&bytes, &other).unwrap_err(), Reject::WrongNetwork);
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x10;
            assert!(Read::check(&changed, &genesis).is_err(), "byte {place}");
        }
    }
}
