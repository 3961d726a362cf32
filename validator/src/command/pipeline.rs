//! `pipeline`: one validator without peers and without sockets, as fast as this machine goes.
//!
//! Everything happens in this process: transactions signed beforehand go straight into the node's first
//! queue, and a bounded number is under way, so that the slowest stage sets the pace. What the node spends
//! is counted by stage, and what this command spends on handing in and counting is kept out.

mod feed;
mod result;

use super::network::{Network, Plan};
use super::terminal::{self, Paint, complain, say, say_json};
use super::testnet::ports;
use super::{Exit, testnet};
use crate::client::author::{self, Turn};
use crate::client::workload::{Workload, Writer};
use crate::config::Config;
use crate::node;
use ledger::{Digest, limits};
use result::Measured;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// 256 MiB as a validator has it: what is measured is not the start of segments.
const SEGMENT_BYTES: u64 = 256 << 20;

/// The arguments of `pipeline`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Transactions to hand in; they are signed and kept in memory before the start
    #[arg(long, value_name = "N", default_value_t = 1_500_000,
          value_parser = clap::value_parser!(u64).range(1_000..))]
    transactions: u64,
    /// Bytes of a whole transaction
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    size: usize,
    /// Authors that take turns
    #[arg(long, value_name = "N", default_value_t = 65_536,
          value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    authors: u32,
    /// Transactions under way at once
    #[arg(long, value_name = "N", default_value_t = 16_384,
          value_parser = clap::value_parser!(u32).range(1..=16_384))]
    window: u32,
    /// Folder for everything, which must be new; one below the system's temporary folder without it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Seed of the authors' keys and of the transactions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON, and nothing else on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// Errors: config, host unfit; a check failed, when the ledger does not hold what was counted.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    check(arguments)?;
    let (folder, is_ours) = match &arguments.data {
        Some(folder) => (folder.clone(), false),
        None => (testnet::fresh_folder()?, true),
    };
    let network = create(&folder, arguments)?;
    complain("signing all transactions");
    let transactions = sign(&network, arguments);
    let config = Config::load(&network.config(0), &[])?.config;
    let (sender, receiver) = crossbeam::channel::bounded(1);
    let window = usize::try_from(arguments.window).expect("a window fits memory");
    complain("running");
    node::start_with(&config, move |handle, stop| {
        let measured = feed::run(&handle, transactions, window);
        // The other side waits for this one.
        drop(sender.send(measured));
        stop.stop();
    })?;
    let measured = receiver.recv().map_err(|_| Exit::check_failed("the node ended early"))?;
    let measured = measured.map_err(Exit::check_failed)?;
    let checked = look_up(&network, &measured);
    if is_ours {
        // It is in the way of nobody where it cannot be removed.
        drop(std::fs::remove_dir_all(&folder));
    }
    checked?;
    if arguments.json {
        say_json(&measured.json());
    } else {
        say(&measured.table(Paint::stdout()));
    }
    Ok(())
}

fn check(arguments: &Arguments) -> Result<(), Exit> {
    let (least, most) = (limits::TRANSACTION_OVERHEAD, limits::TRANSACTION_BYTES_MAX);
    if (least..=most).contains(&arguments.size) {
        return Ok(());
    }
    Err(Exit::usage(format!(
        "--size {}: a transaction has {least} to {most} bytes",
        arguments.size
    )))
}

fn create(folder: &Path, arguments: &Arguments) -> Result<Network, Exit> {
    let plan = Plan {
        name: "pipeline".into(),
        listen: ports::free(IpAddr::V4(Ipv4Addr::LOCALHOST), 1)?,
        authors: arguments.authors,
        seed: arguments.seed,
        epoch_length: None,
        settings: vec![("storage.segment_bytes", SEGMENT_BYTES.to_string())],
    };
    Network::create(folder, &plan)
}

/// Signs every author's chain on all cores; answers in the order of handing in: all first links, then
/// all second ones.
fn sign(network: &Network, arguments: &Arguments) -> Vec<(Vec<u8>, Digest)> {
    let workload = Workload::plain(arguments.seed, arguments.size, 0);
    let (authors, all) = (u64::from(arguments.authors), arguments.transactions);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let sign = || {
        let mut chains = Vec::new();
        loop {
            let place = u64::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(u64::MAX);
            if place >= authors {
                return chains;
            }
            let index = u32::try_from(place).expect("authors have 32-bit numbers");
            let secret = author::secret(arguments.seed, index);
            let writer = Writer { secret: &secret, place: 0, authors: &[] };
            let mut at = Turn::FIRST;
            // The first authors have one more where the numbers do not divide.
            for turn in 0..(all + authors - 1 - place) / authors {
                let made = workload.sign(&network.network, &writer, at);
                at = at.after(made.id);
                let (bytes, id) = (made.bytes, made.id);
                chains.push((turn * authors + place, bytes, id));
            }
        }
    };
    let mut signed: Vec<(u64, Vec<u8>, Digest)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(sign)).collect();
        let chains = threads.into_iter().map(thread::ScopedJoinHandle::join);
        chains.flat_map(|chains| chains.expect("signing does not fail")).collect()
    });
    signed.sort_unstable_by_key(|(place, ..)| *place);
    signed.into_iter().map(|(_, bytes, id)| (bytes, id)).collect()
}

/// Counts what the ledger holds.
///
/// Errors: a check failed, when it is not what the node said; data corrupt, when it cannot be read.
fn look_up(network: &Network, measured: &Measured) -> Result<(), Exit> {
    use super::ledger::store::{Ledger, Location};
    let location = Location::find(&network.data(0))?;
    let stored = Ledger::open(&location, Some(&network.network))?;
    let mut held = 0;
    for height in 1..=stored.last_height() {
        let outcomes = stored
            .outcomes(height)?
            .ok_or_else(|| stored.damaged(height, "outcomes", "missing"))?;
        let applied = outcomes.outcomes.iter().filter(|(_, outcome)| outcome.pays());
        held += u64::try_from(applied.count()).unwrap_or(u64::MAX);
    }
    if held == measured.told_final {
        return Ok(());
    }
    Err(Exit::check_failed(format!(
        "the node said that {} transactions are final, its ledger holds {held}",
        terminal::thousands(measured.told_final)
    )))
}
