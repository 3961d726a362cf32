//! `ledger`: reads and checks a stored ledger, offline, without trust in whoever wrote it.

#[cfg(test)]
pub(crate) mod fixture;
pub mod info;
pub mod show;
pub mod store;
pub mod verify;

use super::Exit;
use clap::Subcommand;
use std::path::PathBuf;

/// The arguments of `ledger`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check every byte, link, root, signature and certificate, from genesis on
    Verify {
        /// The data folder of a stopped validator
        folder: PathBuf,
        /// The genesis file, if not the copy in the folder
        #[arg(long, value_name = "FILE")]
        genesis: Option<PathBuf>,
        /// Threads that check signatures; 0 for one on each core
        #[arg(long, value_name = "N", default_value_t = 0)]
        threads: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is stored
    Info {
        /// The data folder of a validator, also of a running one
        folder: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a block or a transaction
    Show {
        /// The data folder of a validator, also of a running one
        folder: PathBuf,
        /// A height, or the id of a transaction
        what: show::What,
        /// Write the body of the transaction to standard output, and nothing else
        #[arg(long, conflicts_with = "json")]
        body: bool,
        /// Transactions of a block to show
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// Errors: data corrupt, with the place; config, when there is no ledger.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    match &arguments.command {
        Command::Verify { folder, genesis, threads, json } => {
            verify::run(folder, genesis.as_deref(), *threads, *json)
        }
        Command::Info { folder, json } => info::run(folder, *json),
        Command::Show { folder, what, body, limit, json } => {
            show::run(folder, what, *body, *limit, *json)
        }
    }
}
