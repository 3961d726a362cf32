//! The command line of the instrument: `bench run`, `bench list`, `bench compare`.

use std::env;
use std::io::{IsTerminal, Write as _, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use bench::comparison::{self, Basis};
use bench::native;
use bench::report::{Report, table};
use bench::runner::{Progress, ROUNDS_MAX, Session};
use bench::suite::{self, SUITES, Scale, Settings};
use bench::unverified;
use clap::{Args, Parser, Subcommand};

/// A check that failed: a wrong result, an invalid run, a regression.
const EXIT_CHECK: u8 = 1;
/// A request that makes no sense.
const EXIT_USAGE: u8 = 2;

/// Measures the parts and the whole, beside their rivals, and says how sure it is.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a suite, or `all` of them, and prints medians, intervals and ratios.
    Run(Run),
    /// Lists the suites.
    List,
    /// Says what became faster or slower from one report to another; exit code 1 if slower.
    Compare(Compare),
}

#[derive(Args)]
struct Run {
    /// The suite's name, or `all`.
    suite: String,
    /// Writes the report to a file too; its keys are documented in schema.md.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Runs once more, with everything built for this machine's CPU; needs cargo and the sources.
    #[arg(long)]
    native: bool,
    /// Less work: minutes for all suites, wider intervals.
    #[arg(long)]
    quick: bool,
    /// Exactly so many rounds of everything, instead of as many as it takes.
    #[arg(long, value_name = "N", value_parser = rounds())]
    rounds: Option<u32>,
    /// Decides all inputs.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where files are written; a fresh folder in the current one, removed at the end, by default.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The validator's release binary; the one beside this program by default.
    #[arg(long, value_name = "PATH")]
    validator: Option<PathBuf>,
    /// Measures beside it a build that checks no client's signature; needs cargo and the sources.
    #[arg(long)]
    unverified: bool,
}

#[derive(Args)]
struct Compare {
    /// The earlier report.
    first: PathBuf,
    /// The later report.
    second: PathBuf,
    /// Compares figures, not ratios to the baseline of the same run: for different machines.
    #[arg(long)]
    absolute: bool,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::List => Ok(list()),
        Command::Compare(arguments) => compare(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        // Nobody to tell if this fails too.
        let _ = writeln!(stderr(), "bench: {error:#}");
        ExitCode::from(EXIT_USAGE)
    })
}

fn rounds() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX))
}

fn run(arguments: Run) -> Result<ExitCode> {
    let suites = suite::find(&arguments.suite).map_err(anyhow::Error::msg)?;
    if let Some(path) = &arguments.json {
        writable(path)?;
    }
    let data = Data::open(arguments.data.as_deref())?;
    let settings = Settings {
        scale: if arguments.quick { Scale::Quick } else { Scale::Full },
        rounds: arguments.rounds,
        seed: arguments.seed,
        data: data.path().to_owned(),
        validator: arguments.validator.clone().map_or_else(validator_beside, Ok)?,
        unverified: arguments.unverified.then(unverified::build).transpose()?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The first one ends the run at its next turn, with a report; the second one at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .context("cannot watch for signals")?;
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .context("cannot watch for signals")?;
    }
    let mut line = Line::new();
    let report = Session {
        settings: &settings,
        command: env::args().collect(),
        stop: &stop,
        progress: &mut |progress| line.show(progress),
    }
    .run(&suites);
    line.clear();
    print(&table::render(&report))?;
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    if arguments.native && !stop.load(Ordering::Relaxed) {
        print("\nonce more, built for the native CPU (RUSTFLAGS=\"-C target-cpu=native\")\n\n")?;
        let given: Vec<_> = env::args_os().skip(1).collect();
        if !native::repeat(&given, arguments.json.as_deref())?.success() {
            return Ok(ExitCode::from(EXIT_CHECK));
        }
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CHECK) })
}

fn list() -> ExitCode {
    let width = SUITES.iter().map(|suite| suite.name().len()).max().unwrap_or(0);
    for suite in SUITES {
        // A reader that has gone away needs no list.
        let _ = print(&format!("{:width$}  {}\n", suite.name(), suite.about()));
    }
    ExitCode::SUCCESS
}

fn compare(arguments: &Compare) -> Result<ExitCode> {
    let (first, second) = (Report::read(&arguments.first)?, Report::read(&arguments.second)?);
    if first.options.scale != second.options.scale {
        let (first, second) = (&first.options.scale, &second.options.scale);
        bail!("a {first} run and a {second} run do not compare");
    }
    let basis = if arguments.absolute { Basis::Absolute } else { Basis::Ratio };
    let changes = comparison::compare(&first, &second, basis);
    if changes.is_empty() {
        bail!("the two reports have no row in common");
    }
    let same = first.machine.fingerprint == second.machine.fingerprint;
    print(if same { "same machine\n" } else { "different machines\n" })?;
    print(&comparison::render(&changes))?;
    let slower = comparison::is_slower(&changes);
    Ok(if slower { ExitCode::from(EXIT_CHECK) } else { ExitCode::SUCCESS })
}

/// Finds out before hours of work whether its result can be kept; an existing report stays as it is
/// until there is a new one.
fn writable(path: &Path) -> Result<()> {
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("{}: cannot write the report there", path.display()))?;
    Ok(())
}

fn validator_beside() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    Ok(own.with_file_name("validator"))
}

fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot print")
}

/// The folder for files: the user's, or a fresh one that goes with this value.
enum Data {
    Given(PathBuf),
    Fresh(tempfile::TempDir),
}

impl Data {
    fn open(given: Option<&Path>) -> Result<Self> {
        if let Some(path) = given {
            let failed = || format!("{}: cannot make the data folder", path.display());
            std::fs::create_dir_all(path).with_context(failed)?;
            return Ok(Self::Given(path.to_owned()));
        }
        // Not the system's folder for temporary files, which often lies in memory.
        let fresh = tempfile::Builder::new().prefix("bench-data-").tempdir_in(".");
        Ok(Self::Fresh(fresh.context("cannot make a folder here; choose one with --data")?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Fresh(folder) => folder.path(),
        }
    }
}

/// One line of progress that is overwritten; silent where nobody watches.
struct Line {
    watched: bool,
    shown: String,
}

impl Line {
    fn new() -> Self {
        Self { watched: stderr().is_terminal(), shown: String::new() }
    }

    fn show(&mut self, progress: &Progress) {
        if !self.watched {
            return;
        }
        let Progress { suite, group, groups, round, rounds_max, operation } = progress;
        let text = if *round == 0 {
            format!("{suite} {group}/{groups}: preparing {operation}")
        } else {
            format!("{suite} {group}/{groups}: round {round} of at most {rounds_max}, {operation}")
        };
        if text != self.shown {
            // Progress that cannot be shown is no reason to stop.
            let _ = write!(stderr(), "\r\x1b[K{text}");
            self.shown = text;
        }
    }

    fn clear(&mut self) {
        if !self.shown.is_empty() {
            let _ = write!(stderr(), "\r\x1b[K");
            self.shown.clear();
        }
    }
}
