//! A network of real validator processes in a temporary folder, watched through its own interface.

use crate::process::{Finished, Process, command, finish, free_ports};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use validator::{
    client::{Api, Url},
    command::network::{Member, Network, Plan},
    config::Listen,
    handle::Status,
    key::KeyFile,
};

/// Time for all validators to be ready: debug builds on a busy machine need seconds.
pub const READY: Duration = Duration::from_secs(60);
/// Time for a validator to stop in good order.
pub const STOP: Duration = Duration::from_secs(20);
/// Time for a command that asks or shows something.
pub const COMMAND: Duration = Duration::from_secs(60);
/// Time for one answer of a validator.
const ANSWER: Duration = Duration::from_secs(5);
/// How often validators are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// 8 MiB, the smallest that there is: ledgers of the tests are small.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Seed of the authors of the load.
pub const SEED: u64 = 1;

/// Waits until no other test of this file uses the machine.
pub fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    // A test that failed says nothing about the next one.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A network whose validators run, or do not.
pub struct Cluster {
    program: String,
    network: Network,
    members: Vec<Option<Process>>,
    /// Settings of single validators: index, environment variable, value.
    settings: Vec<(usize, &'static str, &'static str)>,
    /// Goes last: processes write into it.
    _folder: TempDir,
}

impl Cluster {
    /// Makes a network of four validators on free ports; none of them runs yet.
    pub fn create(program: &str, authors: u32) -> Self {
        Self::create_at(program, authors, free_ports(4))
    }

    /// Makes a network whose validators listen there; none of them runs yet.
    pub fn create_at(program: &str, authors: u32, listen: Vec<Listen>) -> Self {
        Self::create_all(program, authors, listen, None)
    }

    /// Makes a network of four whose epochs have so many heights; none of them runs yet.
    pub fn create_with(program: &str, authors: u32, epoch_length: u64) -> Self {
        Self::create_all(program, authors, free_ports(4), Some(epoch_length))
    }

    fn create_all(
        program: &str,
        authors: u32,
        listen: Vec<Listen>,
        epoch_length: Option<u64>,
    ) -> Self {
        let folder = TempDir::with_prefix("althing-tests-").expect("a temporary folder");
        let plan = Plan {
            name: "tests".to_owned(),
            listen,
            authors,
            seed: SEED,
            epoch_length,
            settings: vec![
                ("storage.segment_bytes", SEGMENT_BYTES.to_string()),
                ("log.format", "\"human\"".to_owned()),
            ],
        };
        let network = Network::create(folder.path(), &plan).expect("an empty folder");
        let members = plan.listen.iter().map(|_| None).collect();
        Self {
            program: program.to_owned(),
            network,
            members,
            settings: Vec::new(),
            _folder: folder,
        }
    }

    /// Makes the files of one more validator, which is none before it is voted in; it does not run yet.
    pub fn join(&mut self) -> (usize, Listen) {
        let (place, listen) = (self.size(), free_ports(1).remove(0));
        let folder = self.network.member_folder(place);
        let (path, genesis) = (folder.to_str().expect("a path"), self.network.genesis());
        let genesis = genesis.to_str().expect("a path");
        self.run(&["init", path, "--genesis", genesis]).expect_code(0);
        let first = std::fs::read_to_string(self.network.config(0)).expect("a config");
        let (_, peers) = first.split_once("\n[[peers]]").expect("a network has peers");
        let Listen { consensus, lanes, udp, tcp, http, history } = listen.clone();
        let text = format!(
            "genesis = \"genesis.json\"\nkey = \"validator.key\"\ndata = \"data\"\n\n[listen]\n\
             consensus = \"{consensus}\"\nlanes = \"{lanes}\"\nudp = \"{udp}\"\ntcp = \"{tcp}\"\n\
             http = \"{http}\"\nhistory = \"{history}\"\n\n[storage]\nsegment_bytes = {SEGMENT_BYTES}\n\n\
             [log]\nformat = \"human\"\n\n[[peers]]{peers}"
        );
        std::fs::write(self.network.config(place), text).expect("the folder is ours");
        let file = self.network.config(place).with_file_name("validator.key");
        let key = KeyFile::read(&file).expect("it was just made").public();
        self.network.validators.push(Member { key, http, tcp, udp });
        self.members.push(None);
        (place, listen)
    }

    /// Its files and addresses.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The data folder of a validator.
    pub fn data(&self, index: usize) -> PathBuf {
        self.network.data(index)
    }

    /// How many validators there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// The command that starts a validator; the kernel ends it should this thread end first.
    pub fn start_command(&self, index: usize, program: &[&str]) -> Command {
        let (first, rest) = program.split_first().expect("a program");
        let mut command = command(first);
        command.args(rest).arg("start").arg("--config").arg(self.network.config(index));
        command.args(["--exit-with-parent", &std::process::id().to_string()]);
        for (_, variable, value) in self.settings.iter().filter(|(whose, ..)| *whose == index) {
            command.env(variable, value);
        }
        command
    }

    /// Gives one validator a setting of its own from its next start on, by environment variable.
    pub fn set(&mut self, index: usize, variable: &'static str, value: &'static str) {
        self.settings.push((index, variable, value));
    }

    /// Starts a validator.
    pub fn start(&mut self, index: usize) {
        let mut command = self.start_command(index, &[&self.program]);
        self.start_with(index, &mut command);
    }

    /// Starts a validator by a command of the caller's.
    pub fn start_with(&mut self, index: usize, command: &mut Command) {
        assert!(self.members[index].is_none(), "validator {index} runs");
        self.members[index] = Some(Process::start(command, &self.network.log(index)));
    }

    /// Starts all validators that do not run.
    pub fn start_all(&mut self) {
        for index in 0..self.size() {
            if self.members[index].is_none() {
                self.start(index);
            }
        }
    }

    /// Has a validator stand still, or go on.
    pub fn pause(&self, index: usize, is_paused: bool) {
        let member = self.members[index].as_ref().expect("it runs");
        if is_paused { member.pause() } else { member.resume() }
    }

    /// Kills a validator.
    pub fn kill(&mut self, index: usize) {
        // Dropped, it is killed and waited for.
        self.members[index] = None;
    }

    /// Kills all validators at one moment, as a power cut would.
    pub fn kill_all(&mut self) {
        for member in self.members.iter_mut().flatten() {
            member.shoot();
        }
        for member in &mut self.members {
            *member = None;
        }
    }

    /// Stops all validators in good order.
    pub fn stop_all(&mut self) {
        for member in self.members.iter().flatten() {
            member.ask_to_stop();
        }
        for (index, member) in self.members.iter_mut().enumerate() {
            if let Some(mut process) = member.take() {
                let status = process.wait(STOP);
                let tail = process.tail();
                assert!(status.success(), "validator {index} stopped with {status}:\n{tail}");
            }
        }
    }

    /// What a validator has logged since its first start.
    pub fn log(&self, index: usize) -> String {
        std::fs::read_to_string(self.network.log(index)).unwrap_or_default()
    }

    /// A client of a validator's interface.
    pub fn api(&self, index: usize) -> Api {
        Api::new(self.url(index), ANSWER)
    }

    /// The address of a validator's interface.
    pub fn url(&self, index: usize) -> Url {
        Url::from(self.network.validators[index].http)
    }

    /// What each validator says about itself; none for one that does not answer.
    pub fn views(&self) -> Vec<Option<Status>> {
        (0..self.size()).map(|index| self.api(index).status().ok()).collect()
    }

    /// Waits until something holds for what the validators say about themselves.
    #[track_caller]
    pub fn wait(&mut self, what: &str, limit: Duration, holds: impl Fn(&[Option<Status>]) -> bool) {
        self.wait_through(what, limit, Self::views, holds);
    }

    /// Waits in the same way, with another way to ask.
    #[track_caller]
    pub fn wait_through(
        &mut self,
        what: &str,
        limit: Duration,
        ask: impl Fn(&Self) -> Vec<Option<Status>>,
        holds: impl Fn(&[Option<Status>]) -> bool,
    ) {
        let end = Instant::now() + limit;
        loop {
            let views = ask(self);
            if holds(&views) {
                return;
            }
            let death = self.find_death();
            if death.is_some() || Instant::now() > end {
                let seen: Vec<String> = views.iter().map(line).collect();
                let death = death.unwrap_or_default();
                panic!("{what}: not in {limit:?}; {death}\n{}\n{}", seen.join("\n"), self.tails());
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until every validator is ready.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        self.wait("all are ready", READY, |views| {
            views.iter().all(|view| view.as_ref().is_some_and(|status| status.ready))
        });
    }

    /// Waits until every validator has executed this height.
    #[track_caller]
    pub fn wait_height(&mut self, height: u64, limit: Duration) {
        self.wait(&format!("all have executed height {height}"), limit, |views| {
            views.iter().all(|view| reached(view, height))
        });
    }

    /// Runs a command of the validator's program to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        finish(command(&self.program).args(arguments), COMMAND)
    }

    /// Checks a stopped validator's ledger with the program's own command.
    pub fn verify(&self, index: usize) -> Finished {
        verify(&self.program, &self.data(index))
    }

    fn find_death(&mut self) -> Option<String> {
        self.members.iter_mut().enumerate().find_map(|(index, member)| {
            let status = member.as_mut()?.ended()?;
            Some(format!("validator {index} ended by itself: {status}"))
        })
    }

    fn tails(&self) -> String {
        let tail = |(index, member): (usize, &Option<Process>)| {
            let tail = member.as_ref().map(Process::tail).unwrap_or_default();
            format!("--- validator {index}\n{tail}")
        };
        let tails: Vec<String> = self.members.iter().enumerate().map(tail).collect();
        tails.join("\n")
    }
}

/// Whether a validator has executed a height.
pub fn reached(view: &Option<Status>, height: u64) -> bool {
    view.as_ref().is_some_and(|status| status.executed_height >= height)
}

/// The height that a validator has executed; 0 for one that does not answer.
pub fn executed(view: &Option<Status>) -> u64 {
    view.as_ref().map_or(0, |status| status.executed_height)
}

/// Runs `ledger verify`.
pub fn verify(program: &str, data: &Path) -> Finished {
    finish(command(program).args(["ledger", "verify"]).arg(data), COMMAND)
}

fn line(view: &Option<Status>) -> String {
    match view {
        None => "no answer".to_owned(),
        Some(status) => format!(
            "validator {:?}: epoch {}, executed {} of {}, view {}, {} transactions, ready {} {:?}",
            status.validator,
            status.epoch,
            status.executed_height,
            status.height,
            status.view,
            status.finalized_transactions,
            status.ready,
            status.reasons
        ),
    }
}
