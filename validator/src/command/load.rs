//! `load`: offers signed transactions at a constant rate and measures what becomes of them.

use super::Exit;
use super::network::{Member, Network};
use super::terminal::{self, Paint, complain, say, say_json, thousands};
use crate::client::load::{self, Control, Options, Report, Snapshot, Target, Transport, UdpTarget};
use crate::client::workload::{self, Workload};
use crate::client::{Api, Url};
use crate::config::identity::load_genesis;
use ledger::{Digest, Genesis};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Time for a validator to say who it is.
const ASK: Duration = Duration::from_secs(5);

/// The arguments of `load`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Validators to send to, as tcp://host:port
    #[arg(
        long,
        value_name = "TCP",
        value_delimiter = ',',
        env = "ALTHING_LOAD_TO",
        required_unless_present = "data",
        requires = "genesis"
    )]
    to: Vec<String>,
    /// Their UDP addresses in the same order, for --transport udp
    #[arg(long, value_name = "UDP", value_delimiter = ',', requires = "http")]
    udp: Vec<String>,
    /// Their HTTP addresses in the same order, for --transport udp: they publish the keys of sessions
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    http: Vec<Url>,
    /// The genesis file of their network
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Folder of a network: send to all of its validators, from its funded authors
    #[arg(long, value_name = "DIR", conflicts_with_all = ["to", "genesis", "udp", "http"])]
    data: Option<PathBuf>,
    /// Transactions a second
    #[arg(long, value_name = "TX/S", default_value_t = 1_000)]
    rate: u64,
    /// How long to offer, such as 20s, 500ms or 2m; until Ctrl-C without it
    #[arg(long, value_parser = terminal::parse_duration)]
    duration: Option<Duration>,
    /// Bytes of a whole transaction
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    size: usize,
    /// File that says what the transactions are, as those in mixes/
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "transfers"])]
    mix: Option<PathBuf>,
    /// Authors that take turns; four for each transaction a second, at least 4,096, without it
    #[arg(long, value_name = "N")]
    authors: Option<u32>,
    /// Seed of the authors' keys and of the transactions
    #[arg(long)]
    seed: Option<u64>,
    /// How transactions travel
    #[arg(long, value_enum, default_value = "tcp")]
    transport: Way,
    /// Sign everything before the start: for peak rates, which signing would take cores from
    #[arg(long, requires = "duration")]
    presign: bool,
    /// Share of transfers in percent; the others are records
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    transfers: u8,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Way {
    Tcp,
    Udp,
}

/// Runs the command.
///
/// Errors: usage, config, network; a check failed, when the rate could not be kept or a validator took what
/// it must not take.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    let options = options(arguments)?;
    let control = Arc::new(Control::default());
    super::testnet::signals::on_stop({
        let control = Arc::clone(&control);
        move || control.stop()
    })?;
    let quiet = arguments.json;
    let mut on_tick = |snapshot: &Snapshot| {
        if !quiet {
            say(&line(snapshot));
        }
    };
    let report = load::run(&options, &control, &mut on_tick, &mut |_| {}).map_err(exit_of)?;
    print(&report, arguments.json)
}

/// Turns the end of a load into the end of a command.
pub(super) fn exit_of(error: load::Error) -> Exit {
    match error {
        load::Error::Options(_) => Exit::usage(error.to_string()),
        load::Error::Unreachable(_) | load::Error::Target { .. } => {
            Exit::network(error.to_string())
        }
        load::Error::System(_) => Exit::host_unfit(error.to_string()),
    }
}

/// Reads the mix of a file, or makes the plain one of the command line.
///
/// Errors: config, with one line that names the key and what to write.
pub(super) fn workload(
    mix: Option<&Path>,
    seed: u64,
    size: usize,
    transfers_percent: u8,
) -> Result<Workload, Exit> {
    let Some(file) = mix else {
        return Ok(Workload::plain(seed, size, transfers_percent));
    };
    let text = crate::config::read_text(file, workload::FILE_BYTES_MAX);
    let mix = text.and_then(|text| workload::parse(&text));
    let mix = mix.map_err(|why| Exit::config(format!("mix {}: {why}", file.display())))?;
    Ok(Workload { seed, mix })
}

fn print(report: &Report, json: bool) -> Result<(), Exit> {
    if json {
        say_json(&report.json());
    } else {
        say(&report.table(Paint::stdout()));
    }
    if let Some(error) = report.errors().into_iter().next() {
        return Err(Exit::check_failed(error));
    }
    match &report.verdict {
        load::Verdict::Valid => Ok(()),
        load::Verdict::Invalid { side, .. } => {
            Err(Exit::check_failed(format!("the rate was not kept: the bottleneck is the {side}")))
        }
    }
}

fn line(snapshot: &Snapshot) -> String {
    let latency = match snapshot.latency {
        Some(latency) => {
            let (p50, p99) = (terminal::duration(latency.p50), terminal::duration(latency.p99));
            format!("p50 {p50:>8}  p99 {p99:>8}")
        }
        None => "nothing became final".into(),
    };
    format!(
        "{:>5} s  {:>8} tx/s final  {latency}  {:>7} under way  {:>7} rejected\n",
        snapshot.elapsed.as_secs(),
        thousands(per_second(snapshot)),
        thousands(snapshot.in_flight),
        thousands(snapshot.counts.rejected_total()),
    )
}

/// Returns the final transactions a second of the last interval.
pub(super) fn per_second(snapshot: &Snapshot) -> u64 {
    terminal::per_second(snapshot.finalized_recently, snapshot.interval)
}

fn options(arguments: &Arguments) -> Result<Options, Exit> {
    let mix = arguments.mix.as_deref();
    // Read before anyone is asked anything.
    let workload = workload(mix, 1, arguments.size, arguments.transfers)?;
    let Source { targets, network, seed, authors } = source(arguments)?;
    let wanted = arguments.authors.unwrap_or_else(|| load::authors_for(arguments.rate));
    if let Some(funded) = authors.filter(|funded| *funded < wanted) {
        if funded == 0 {
            return Err(Exit::usage(
                "the genesis of this network funds no authors: make it with `init --authors N`",
            ));
        }
        complain(&format!("only {} authors are funded", thousands(funded.into())));
    }
    let authors = authors.map_or(wanted, |funded| funded.min(wanted));
    let seed = arguments.seed.unwrap_or(seed);
    Ok(Options {
        targets,
        network,
        rate: arguments.rate,
        duration: arguments.duration,
        workload: Workload { seed, ..workload },
        authors,
        presigned: arguments.presign,
        transport: match arguments.transport {
            Way::Tcp => Transport::Tcp,
            Way::Udp => Transport::Udp,
        },
        drain: load::DRAIN,
    })
}

struct Source {
    targets: Vec<Target>,
    network: Digest,
    seed: u64,
    /// Authors that are funded, if that is known.
    authors: Option<u32>,
}

fn source(arguments: &Arguments) -> Result<Source, Exit> {
    if let Some(folder) = &arguments.data {
        let network = Network::open(folder)?;
        return Ok(Source {
            targets: network.validators.iter().map(Member::target).collect(),
            network: network.network,
            seed: network.seed,
            authors: Some(network.authors),
        });
    }
    let by_udp = matches!(arguments.transport, Way::Udp);
    let count = arguments.to.len();
    if by_udp && (arguments.udp.len(), arguments.http.len()) != (count, count) {
        return Err(Exit::usage("--transport udp needs one --udp and one --http for each of --to"));
    }
    let genesis = arguments.genesis.as_ref().expect("the command line requires it with --to");
    let genesis = load_genesis(genesis)?;
    let mut targets = Vec::new();
    for (index, to) in arguments.to.iter().enumerate() {
        let tcp = resolve(to, "tcp")?;
        let udp = match by_udp {
            true => Some(udp_target(&arguments.udp[index], &arguments.http[index], &genesis)?),
            false => None,
        };
        targets.push(Target { tcp, udp });
    }
    Ok(Source { targets, network: genesis.digest(), seed: 1, authors: None })
}

/// Asks who is there: any validator of the network will do.
fn udp_target(udp: &str, http: &Url, genesis: &Genesis) -> Result<UdpTarget, Exit> {
    let address = resolve(udp, "udp")?;
    let status = Api::new(http.clone(), ASK).status();
    let key = status.map_err(|error| Exit::network(error.to_string()))?.key;
    if genesis.set().index_of(&key).is_none() {
        return Err(Exit::network(format!("{http}: {key} is no validator of the genesis file")));
    }
    Ok(UdpTarget { address, http: http.clone(), key })
}

fn resolve(text: &str, scheme: &str) -> Result<SocketAddr, Exit> {
    let rest = match text.split_once("://") {
        None => text,
        Some((found, rest)) if found == scheme => rest,
        Some(_) => {
            return Err(Exit::usage(format!("`{text}` is not an address of {scheme}://host:port")));
        }
    };
    rest.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| Exit::usage(format!("`{text}` is not an address of {scheme}://host:port")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Code;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(more: &[&str]) -> Result<Arguments, clap::Error> {
        let line = ["load", "--data", "net"].iter().chain(more);
        Line::try_parse_from(line).map(|line| line.arguments)
    }

    #[test]
    fn a_mix_takes_the_place_of_size_and_transfers() {
        assert!(parse(&["--mix", "a"]).unwrap().mix.is_some());
        assert!(parse(&["--size", "200", "--transfers", "5"]).unwrap().mix.is_none());
        for flag in ["--size", "--transfers"] {
            let error = parse(&["--mix", "a", flag, "50"]).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
        }
    }

    #[test]
    fn a_mix_is_read_from_its_file_and_a_wrong_one_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mix.toml");
        std::fs::write(&file, include_str!("../../../mixes/hot.toml")).unwrap();
        let read = workload(Some(&file), 7, 512, 0).unwrap();
        assert_eq!((read.seed, read.mix.name.as_deref()), (7, Some("hot")));
        assert_eq!(workload(None, 7, 512, 30).unwrap(), Workload::plain(7, 512, 30));
        std::fs::write(&file, "version = 1\nnmae = \"x\"\n").unwrap();
        let exit = workload(Some(&file), 7, 512, 0).unwrap_err();
        assert_eq!(exit.code(), Code::Config);
        let expected =
            format!("mix {}: line 2: unknown key nmae; did you mean name?", file.display());
        assert_eq!(exit.message(), expected);
        std::fs::remove_file(&file).unwrap();
        let exit = workload(Some(&file), 7, 512, 0).unwrap_err();
        assert!(exit.message().contains("cannot be opened"), "{exit}");
    }

    #[test]
    fn addresses_need_the_right_scheme_or_none() {
        let address: SocketAddr = "127.0.0.1:7".parse().unwrap();
        assert_eq!(resolve("tcp://127.0.0.1:7", "tcp").unwrap(), address);
        assert_eq!(resolve("127.0.0.1:7", "udp").unwrap(), address);
        for wrong in ["http://127.0.0.1:7", "nowhere", ""] {
            assert!(resolve(wrong, "tcp").unwrap_err().message().contains("is not an address"));
        }
    }
}
