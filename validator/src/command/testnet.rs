//! `testnet`: a whole network on this machine, under load, watched, and checked at the end.
//!
//! Every validator is a process of its own, as in a real network: it can be killed, and what it wrote
//! is read back from its files. No process outlives this one: the kernel stops them when it ends.

mod acknowledged;
mod compare;
mod kill;
pub mod liar;
mod live;
mod meters;
pub(super) mod ports;
mod process;
pub mod signals;
mod summary;
mod watch;
mod wipe;

use super::Exit;
use super::network::{Member, Network, Plan, consecutive};
use super::terminal::{self, Paint, complain, say, say_json};
use crate::client::load::{self, Control, Options, Report, Snapshot, Transport};
use crate::client::workload::Workload;
use acknowledged::Acknowledgements;
use crossbeam::channel::{Receiver, bounded};
use kill::Kill;
use live::Live;
use meters::{Costs, Meters};
use process::Processes;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use summary::Summary;
use watch::{View, Watch};

/// How the folders of test networks begin.
pub const PREFIX: &str = "althing-testnet-";

/// Where the validators listen.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Time until all validators must be ready.
const READY: Duration = Duration::from_secs(30);
/// A killed validator starts again after this time.
const AWAY: Duration = Duration::from_secs(10);
/// A validator whose height stays while others go on is stalled.
const STALLED: Duration = Duration::from_secs(10);
/// Time for all heights to become equal once the load has ended.
const SETTLE: Duration = Duration::from_secs(20);
/// How often this process looks around.
const LOOK: Duration = Duration::from_millis(50);
/// 64 MiB: short runs need little, and zeroing ahead costs every validator.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The arguments of `testnet`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many validators
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    validators: u16,
    /// Folder for everything, which must be new; one below the system's temporary folder without it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// First port, each validator takes six; 0 finds free ones
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    base_port: u16,
    /// Transactions a second to offer; 0 for none
    #[arg(long, value_name = "TX/S", default_value_t = 2_000)]
    load: u64,
    /// Bytes of a whole transaction
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    size: usize,
    /// File that says what the transactions are, as those in mixes/
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "transfers"])]
    mix: Option<PathBuf>,
    /// Authors that take turns; four for each transaction a second, at least 4,096, without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    authors: Option<u32>,
    /// Sign everything before the start: for peak rates, which signing would take cores from
    #[arg(long, requires = "duration")]
    presign: bool,
    /// Share of transfers in percent; the others are records
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    transfers: u8,
    /// How long, such as 20s or 2m; until Ctrl-C without it
    #[arg(long, value_parser = terminal::parse_duration)]
    duration: Option<Duration>,
    /// Kill one validator at this time and start it again 10 seconds later
    #[arg(long, value_name = "AT", value_parser = terminal::parse_duration)]
    kill: Option<Duration>,
    /// Remove its ledger and journal while it is away: it rebuilds them from the others
    #[arg(long, requires = "kill")]
    wipe: bool,
    /// Have one of those whom it asks for that lie to it
    #[arg(long, requires = "wipe")]
    liar: bool,
    /// Heights of an epoch, after which the validator set may be another
    #[arg(long, value_name = "HEIGHTS", value_parser = super::network::epoch_length())]
    epoch_length: Option<u64>,
    /// Seed of the authors' keys and of the transactions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the summary as JSON, and nothing else on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// Errors: usage, config; a check failed, when validators disagree, stop, stall, lose something or take what
/// they must not take.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    let workload = check(arguments)?;
    let network = create(arguments)?;
    let is_stopped = Arc::new(AtomicBool::new(false));
    let control = Arc::new(Control::default());
    signals::on_stop({
        let (is_stopped, control) = (Arc::clone(&is_stopped), Arc::clone(&control));
        move || {
            is_stopped.store(true, Ordering::Relaxed);
            control.stop();
        }
    })?;
    let say = |text: &str| if arguments.json { complain(text.trim_end()) } else { say(text) };
    say(&introduction(&network));
    let mut processes = Processes::start(&network)?;
    let watch = Watch::start(&network);
    if let Err(exit) = wait_until_ready(&mut processes, &watch, &is_stopped) {
        processes.stop();
        return Err(Exit::new(
            exit.code(),
            format!("{exit}; data: {}", network.folder().display()),
        ));
    }
    let mut run = Run {
        arguments,
        workload,
        network: &network,
        processes,
        watch,
        is_stopped,
        control,
        kill: None,
        latencies: Vec::new(),
        costs: Costs::default(),
        problems: Vec::new(),
    };
    let report = run.under_load(&say)?;
    let summary = run.finish(report)?;
    if arguments.json {
        say_json(&summary.json());
    } else {
        terminal::say(&summary.table(Paint::stdout()));
    }
    summary.result()
}

/// Finds what cannot work before anything is started.
fn check(arguments: &Arguments) -> Result<Workload, Exit> {
    let Arguments { seed, size, transfers, .. } = *arguments;
    let workload = super::load::workload(arguments.mix.as_deref(), seed, size, transfers)?;
    let validators = usize::from(arguments.validators);
    workload
        .check(authors(arguments), validators, ledger::limits::TRANSACTION_BYTES_MAX)
        .map_err(Exit::usage)?;
    let Some(at) = arguments.kill else {
        return Ok(workload);
    };
    if arguments.validators < 4 {
        return Err(Exit::usage(format!(
            "{} validators cannot go on without one: --kill needs at least 4",
            arguments.validators
        )));
    }
    if arguments.duration.is_some_and(|duration| duration <= at + AWAY) {
        return Err(Exit::usage(format!(
            "a validator that is killed at {} comes back {} later: --duration must be longer",
            terminal::duration(at),
            terminal::duration(AWAY)
        )));
    }
    Ok(workload)
}

fn authors(arguments: &Arguments) -> u32 {
    arguments.authors.unwrap_or_else(|| load::authors_for(arguments.load))
}

/// Names a folder below the system's temporary one that nobody has.
///
/// Errors: host unfit, where the system gives no random numbers.
pub(super) fn fresh_folder() -> Result<PathBuf, Exit> {
    let mut lot = [0; 4];
    getrandom::fill(&mut lot)
        .map_err(|error| Exit::host_unfit(format!("no random numbers: {error}")))?;
    Ok(std::env::temp_dir().join(format!("{PREFIX}{}", hex::encode(lot))))
}

fn create(arguments: &Arguments) -> Result<Network, Exit> {
    let folder = match &arguments.data {
        Some(folder) => folder.clone(),
        None => fresh_folder()?,
    };
    let listen = match arguments.base_port {
        0 => ports::free(HOST, arguments.validators)?,
        base => consecutive(HOST, base, arguments.validators)?,
    };
    // The validators share the cores: threads beyond them only cut batches into dearer pieces.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = cores / usize::from(arguments.validators);
    let plan = Plan {
        name: "testnet".into(),
        listen,
        authors: authors(arguments),
        seed: arguments.seed,
        epoch_length: arguments.epoch_length,
        settings: vec![
            ("storage.segment_bytes", SEGMENT_BYTES.to_string()),
            ("log.format", "\"human\"".into()),
            ("sigverify.threads", share.max(1).to_string()),
            ("consensus.threads", share.clamp(1, 2).to_string()),
        ],
    };
    Network::create(&folder, &plan)
}

fn introduction(network: &Network) -> String {
    let mut table = terminal::Table::new(&[terminal::Side::Left; 4]).indent(2);
    for (index, member) in network.validators.iter().enumerate() {
        table.row([
            index.to_string(),
            format!("http://{}", member.http),
            format!("tcp://{}", member.tcp),
            format!("udp://{}", member.udp),
        ]);
    }
    let (folder, first) = (network.folder().display(), network.validators[0].http);
    format!(
        "network {} in {folder}\n{}\ntry, in another terminal:\n\
         \x20 validator submit --file README.md --to http://{first} --key {}\n\
         \x20 validator status --data {folder}\n\n",
        network.network,
        table.render(),
        network.client_key().display()
    )
}

fn wait_until_ready(
    processes: &mut Processes,
    watch: &Watch,
    is_stopped: &AtomicBool,
) -> Result<(), Exit> {
    let until = Instant::now() + READY;
    while !watch.views().iter().all(|view| view.is_ready) {
        if let Some(death) = processes.find_death() {
            return Err(Exit::check_failed(death));
        }
        if is_stopped.load(Ordering::Relaxed) {
            return Err(Exit::check_failed("stopped before the validators were ready"));
        }
        if Instant::now() > until {
            let views = watch.views();
            let late = views.iter().position(|view| !view.is_ready).unwrap_or(0);
            let why = match views[late].reasons.join("; ") {
                reasons if reasons.is_empty() => "no answer".to_string(),
                reasons => reasons,
            };
            return Err(Exit::check_failed(format!(
                "validator {late} is not ready after {} s ({why}); the end of its log:\n{}",
                READY.as_secs(),
                processes.log_tail(late)
            )));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// A network that is up.
struct Run<'a> {
    arguments: &'a Arguments,
    workload: Workload,
    network: &'a Network,
    processes: Processes,
    watch: Watch,
    is_stopped: Arc<AtomicBool>,
    control: Arc<Control>,
    kill: Option<Kill>,
    /// For each second of the load when it was, and the 99th percentile of its latencies.
    latencies: Vec<(Duration, Duration)>,
    costs: Costs,
    problems: Vec<String>,
}

/// What the load's thread brings back.
type Loaded = Result<(Report, Acknowledgements), Exit>;

impl Run<'_> {
    /// Runs load, kill and live lines to their end.
    fn under_load(
        &mut self,
        say: &dyn Fn(&str),
    ) -> Result<Option<(Report, Acknowledgements)>, Exit> {
        let (ticks, loaded) = self.start_load()?;
        // Where everything is signed first, the time counts from the first transaction.
        let presigns = self.arguments.presign && self.arguments.load > 0;
        let mut start = (!presigns).then(Instant::now);
        if presigns {
            complain("signing all transactions before the first is sent");
        }
        self.watch.mark();
        let meters = Meters::start(self.network);
        let mut live = Live::new(self.arguments.load > 0, Paint::stdout());
        say(&live.head());
        loop {
            let elapsed = start.map_or(Duration::ZERO, |start| start.elapsed());
            self.kill_or_restart(elapsed);
            self.look_for_problems();
            match &ticks {
                Some(ticks) => {
                    for snapshot in ticks.try_iter() {
                        start.get_or_insert_with(|| Instant::now() - snapshot.elapsed);
                        self.measure_pause(Some(&snapshot));
                        let latency = snapshot.latency.as_ref().map(|latency| latency.p99);
                        self.latencies.extend(latency.map(|p99| (snapshot.elapsed, p99)));
                        say(&live.line(snapshot.elapsed, Some(&snapshot), &self.watch.views()));
                    }
                }
                None if live.is_due(elapsed) => {
                    self.measure_pause(None);
                    say(&live.line(elapsed, None, &self.watch.views()));
                }
                None => {}
            }
            let is_over = match &loaded {
                Some(thread) => thread.is_finished(),
                None => self.arguments.duration.is_some_and(|duration| elapsed >= duration),
            };
            if !self.problems.is_empty() {
                // The rest of the run would say nothing new; what was written still counts.
                self.control.stop();
            }
            let is_stopped = self.is_stopped.load(Ordering::Relaxed) || !self.problems.is_empty();
            if is_over || (loaded.is_none() && is_stopped) {
                break;
            }
            thread::sleep(LOOK);
        }
        if let Some(start) = start {
            let end = self.arguments.duration.map_or_else(Instant::now, |length| start + length);
            self.costs = meters.between(start, end);
        }
        match loaded.map(thread::JoinHandle::join) {
            None => Ok(None),
            Some(Ok(Ok(loaded))) => Ok(Some(loaded)),
            Some(Ok(Err(exit))) => {
                self.problems.push(exit.to_string());
                Ok(None)
            }
            Some(Err(_)) => Err(Exit::check_failed("the load ended by a panic")),
        }
    }

    #[expect(clippy::type_complexity, reason = "two ends of one thread, taken apart at once")]
    fn start_load(
        &self,
    ) -> Result<(Option<Receiver<Snapshot>>, Option<thread::JoinHandle<Loaded>>), Exit> {
        if self.arguments.load == 0 {
            return Ok((None, None));
        }
        let options = Options {
            targets: self.network.validators.iter().map(Member::target).collect(),
            network: self.network.network,
            rate: self.arguments.load,
            duration: self.arguments.duration,
            workload: self.workload.clone(),
            authors: self.network.authors,
            presigned: self.arguments.presign,
            transport: Transport::Tcp,
            drain: load::DRAIN,
        };
        let mut acknowledged = Acknowledgements::create(self.network.folder())?;
        // A line that is not printed in time is not printed.
        let (sender, ticks) = bounded(4);
        let control = Arc::clone(&self.control);
        let run = move || {
            let mut on_tick = |snapshot: &Snapshot| drop(sender.try_send(snapshot.clone()));
            let mut on_final = |known: &load::Acknowledged| acknowledged.add(known);
            let report = load::run(&options, &control, &mut on_tick, &mut on_final)
                .map_err(super::load::exit_of)?;
            acknowledged.finish()?;
            Ok((report, acknowledged))
        };
        let thread = thread::Builder::new().name("load".into()).spawn(run);
        let thread = thread.map_err(|error| Exit::host_unfit(format!("no thread: {error}")))?;
        Ok((Some(ticks), Some(thread)))
    }

    /// Kills and starts the one validator when its time has come.
    fn kill_or_restart(&mut self, elapsed: Duration) {
        let Some(at) = self.arguments.kill else {
            return;
        };
        match &mut self.kill {
            None if elapsed >= at => {
                let validator = 1;
                self.processes.kill(validator);
                self.control.mark();
                self.watch.mark();
                self.kill = Some(Kill::new(validator, elapsed, self.arguments.wipe));
                if self.arguments.wipe
                    && let Err(exit) = wipe::wipe(self.network, validator, self.arguments.liar)
                {
                    self.problems.push(exit.to_string());
                }
            }
            Some(kill) if kill.restarted.is_none() && elapsed >= kill.killed + AWAY => {
                kill.restart(elapsed, Instant::now());
                let validator = kill.validator;
                if let Err(exit) = self.processes.restart(self.network, validator) {
                    self.problems.push(exit.to_string());
                }
                self.watch.expect(validator);
            }
            Some(kill) => kill.look(&self.watch.views(), Instant::now()),
            None => {}
        }
    }

    /// Remembers the longest time for which the other validators had no news, since the kill.
    fn measure_pause(&mut self, snapshot: Option<&Snapshot>) {
        let Some(kill) = &mut self.kill else {
            return;
        };
        let is_offered = snapshot.is_none_or(|snapshot| {
            self.arguments.duration.is_none_or(|duration| snapshot.elapsed <= duration)
        });
        if !is_offered || self.is_stopped.load(Ordering::Relaxed) {
            return;
        }
        let pauses: Vec<Duration> = match snapshot {
            Some(snapshot) => snapshot.targets.iter().map(|target| target.longest_pause).collect(),
            None => self.watch.views().iter().map(|view| view.longest_still).collect(),
        };
        let others = pauses.iter().enumerate().filter(|(index, _)| *index != kill.validator);
        kill.longest_pause = others.map(|(_, pause)| *pause).max().unwrap_or_default();
    }

    /// A validator that ends or stalls by itself is a finding.
    fn look_for_problems(&mut self) {
        if !self.problems.is_empty() {
            return;
        }
        if let Some(death) = self.processes.find_death() {
            self.problems.push(death);
            return;
        }
        for (index, view) in self.watch.views().iter().enumerate() {
            if view.still >= self.patience(index) {
                let stalled = terminal::duration(view.still);
                self.problems.push(format!(
                    "validator {index} stalled: its height {} did not move for {stalled}; the end of \
                     its log:\n{}",
                    view.height,
                    self.processes.log_tail(index)
                ));
                return;
            }
        }
    }

    /// How long the height of a validator may stay: longer while it is away or starts again.
    fn patience(&self, index: usize) -> Duration {
        match &self.kill {
            Some(kill) if kill.validator == index && kill.caught_up.is_none() => AWAY + READY,
            Some(_) | None => STALLED,
        }
    }

    /// Lets the validators settle, stops them, and reads what they wrote.
    fn finish(mut self, loaded: Option<(Report, Acknowledgements)>) -> Result<Summary, Exit> {
        self.bring_back();
        if self.problems.is_empty() {
            self.settle();
            let wiped = self.kill.as_ref().filter(|kill| kill.is_wiped);
            self.problems.extend(wiped.and_then(|it| wipe::unheard(self.network, it.validator)));
        }
        let is_whole = self.problems.is_empty() && !self.is_stopped.load(Ordering::Relaxed);
        let behind = self.kill.as_ref().filter(|kill| is_whole && kill.caught_up.is_none());
        if let Some(validator) = behind.map(|kill| kill.validator) {
            self.problems.push(format!("validator {validator} did not catch up after its kill"));
        }
        drop(self.watch);
        self.problems.extend(self.processes.stop());
        let compared = compare::read(self.network);
        self.problems.extend(compared.problems.iter().cloned());
        let (report, acknowledged) = loaded.unzip();
        self.problems.extend(report.iter().flat_map(Report::errors));
        let acknowledged = match acknowledged {
            None => None,
            Some(acknowledged) => {
                let checked = acknowledged.check(self.network)?;
                self.problems.extend(checked.problems.iter().cloned());
                Some(checked)
            }
        };
        Ok(Summary {
            folder: self.network.folder().to_path_buf(),
            report,
            compared,
            acknowledged,
            kill: self.kill.map(|kill| kill.with_latencies(&self.latencies)),
            costs: self.costs,
            problems: self.problems,
        })
    }

    /// Starts the killed validator when the run was stopped before its time had come.
    fn bring_back(&mut self) {
        if let Some(kill) = self.kill.as_mut().filter(|kill| kill.restarted.is_none()) {
            if let Err(exit) = self.processes.restart(self.network, kill.validator) {
                self.problems.push(exit.to_string());
            }
            self.watch.expect(kill.validator);
        }
    }

    /// Waits until all validators are there and their heights are equal, by looks of this time: an older one
    /// may be equal because it is old.
    fn settle(&mut self) {
        let since = Instant::now();
        let until = since + SETTLE;
        loop {
            let views = self.watch.views();
            let heights: Vec<u64> = views.iter().map(|view| view.height).collect();
            let is_fresh = |view: &View| view.is_up && view.asked.is_some_and(|at| at >= since);
            if views.iter().all(is_fresh) && heights.iter().all(|height| *height == heights[0]) {
                self.kill.iter_mut().for_each(|kill| kill.catch_up(Instant::now()));
                return;
            }
            if Instant::now() > until {
                let heights: Vec<String> =
                    heights.iter().map(|height| terminal::thousands(*height)).collect();
                self.problems.push(format!(
                    "the heights did not become equal within {} s: {}",
                    SETTLE.as_secs(),
                    heights.join(", ")
                ));
                return;
            }
            thread::sleep(LOOK);
        }
    }
}
