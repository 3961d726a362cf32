//! A command of the validator as a process: started, watched for its children's processor time, never left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::suite::Failure;

/// Beyond the load's duration: start, last answers, settling, stopping, and reading all ledgers.
const EXTRA: Duration = Duration::from_secs(180);
/// How often processor times are read: a process that ends loses at most this much.
const LOOK: Duration = Duration::from_millis(100);
/// The end of what a process complained about, for a reason.
const COMPLAINT_BYTES: u64 = 1_024;

/// A command that runs; it is killed when this value goes.
pub(super) struct Running {
    child: Child,
    output: File,
    complaints: File,
    times: Times,
    /// Goes with this value, where it is its own.
    folder: Option<TempDir>,
}

/// What it left behind.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its standard output.
    pub(super) output: String,
    /// The end of its standard error.
    pub(super) complaint: String,
    /// What it used.
    pub(super) processor_time: ProcessorTime,
}

/// Processor time of a whole run, in user and kernel mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessorTime {
    /// Of all validators together.
    pub(super) validators: Duration,
    /// Of the process that offers the load.
    pub(super) generator: Duration,
}

/// Checks that the program runs at all, and has a command.
///
/// Errors: [`Failure::Machine`] with what it said.
pub(super) fn responds(validator: &Path, command: &str) -> Result<(), Failure> {
    let output = Command::new(validator)
        .args([command, "--help"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::machine(format!("start {}", validator.display()), error))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::Machine(format!("{} {command} --help: {complaint}", validator.display())))
}

impl Running {
    /// Starts a command with a fresh folder below `data`; it prints its summary as JSON.
    ///
    /// Errors: the machine's.
    pub(super) fn start(
        validator: &Path,
        data: &Path,
        words: &[&str],
        arguments: &[(&str, String)],
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::machine("prepare a run of the validator", error);
        // Absolute, as everything that a report names.
        let data = fs::canonicalize(data).map_err(failed)?;
        let folder = tempfile::tempdir_in(data).map_err(failed)?;
        let network = folder.path().join("network").display().to_string();
        let arguments = [arguments, &[("--data", network)]].concat();
        let mut running = Self::start_in(validator, folder.path(), words, &arguments)?;
        running.folder = Some(folder);
        Ok(running)
    }

    /// Starts a command whose arguments say where its data goes; its output is kept in a folder.
    ///
    /// Errors: the machine's.
    pub(super) fn start_in(
        validator: &Path,
        folder: &Path,
        words: &[&str],
        arguments: &[(&str, String)],
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::machine("prepare a run of the validator", error);
        // Files, so that no pipe can fill up and stop what is measured.
        let output = tempfile::tempfile_in(folder).map_err(failed)?;
        let complaints = tempfile::tempfile_in(folder).map_err(failed)?;
        let mut command = Command::new(validator);
        command
            .args(words)
            .args(arguments.iter().flat_map(|(name, value)| [*name, value]))
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(complaints.try_clone().map_err(failed)?);
        for (name, _) in std::env::vars_os() {
            // The user's own validators are configured by these; what is measured is the default.
            if name.to_str().is_some_and(|name| name.starts_with("ALTHING_")) {
                command.env_remove(name);
            }
        }
        let child = command
            .spawn()
            .map_err(|error| Failure::machine(format!("start {}", validator.display()), error))?;
        let times = Times::new(child.id());
        Ok(Self { child, output, complaints, times, folder: None })
    }

    /// Waits for its end, however it ends.
    ///
    /// Errors: [`Failure::Machine`] when it does not end in time.
    pub(super) fn run(mut self, duration: Duration) -> Result<Ended, Failure> {
        let until = Instant::now() + duration + EXTRA;
        loop {
            self.times.look();
            let status = self.child.try_wait();
            match status.map_err(|error| Failure::machine("wait for the validator", error))? {
                Some(_) => break,
                None if Instant::now() > until => {
                    let complaint = tail(&mut self.complaints);
                    return Err(Failure::Machine(format!("the validator hangs: {complaint}")));
                }
                None => std::thread::sleep(LOOK),
            }
        }
        let mut output = String::new();
        self.output
            .rewind()
            .and_then(|()| self.output.read_to_string(&mut output))
            .map_err(|error| Failure::machine("read the validator's summary", error))?;
        let complaint = tail(&mut self.complaints);
        Ok(Ended { output, complaint, processor_time: self.times.total() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended where all is well; its validators end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a file, in one line.
fn tail(file: &mut File) -> String {
    let read = |file: &mut File| -> std::io::Result<Vec<u8>> {
        let size = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(size.saturating_sub(COMPLAINT_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<_> = text.split_whitespace().collect();
    if words.is_empty() { "it said nothing".to_owned() } else { words.join(" ") }
}

/// The processor times of a process and its children, as last seen.
struct Times {
    parent: u32,
    own: u64,
    /// By process.
    children: BTreeMap<u32, u64>,
}

impl Times {
    fn new(parent: u32) -> Self {
        Self { parent, own: 0, children: BTreeMap::new() }
    }

    /// Reads the times of all processes that are there now; those that have ended keep theirs.
    fn look(&mut self) {
        let Ok(folder) = fs::read_dir("/proc") else {
            return;
        };
        for entry in folder.flatten() {
            let name = entry.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(text) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            match parse_stat(&text) {
                // A process that has ended shows no time of its own any more on some kernels.
                Some(stat) if process == self.parent => self.own = self.own.max(stat.ticks),
                Some(stat) if stat.parent == self.parent => {
                    let ticks = self.children.entry(process).or_default();
                    *ticks = stat.ticks.max(*ticks);
                }
                Some(_) | None => {}
            }
        }
    }

    fn total(&self) -> ProcessorTime {
        ProcessorTime {
            validators: duration(self.children.values().sum()),
            generator: duration(self.own),
        }
    }
}

fn duration(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1_000) / per_second)
}

/// What is read of `/proc/pid/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// In user and kernel mode, all threads.
    ticks: u64,
}

/// Source: proc(5), /proc/pid/stat: the name stands in parentheses and may hold any character.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split(' ').collect();
    // Counted from the state, which is field 3 there: parent 4, utime 14, stime 15.
    let user: u64 = fields.get(11)?.parse().ok()?;
    let kernel: u64 = fields.get(12)?.parse().ok()?;
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks: user.checked_add(kernel)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let text = "42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 1 0 100 1 1";
        assert_eq!(parse_stat(text), Some(Stat { parent: 7, ticks: 300 }));
        assert_eq!(parse_stat("42 (a) S 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_has_a_parent_and_used_time() {
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        assert_eq!(parse_stat(&text).unwrap().parent, std::os::unix::process::parent_id());
        let mut times = Times::new(std::process::id());
        let began = Instant::now();
        while times.own == 0 {
            times.look();
            assert!(began.elapsed() < Duration::from_secs(20), "a busy process uses time");
        }
        assert!(times.total().generator > Duration::ZERO);
    }

    #[test]
    fn a_program_that_does_not_run_is_named() {
        let failure = responds(Path::new("/no/such/validator"), "testnet").unwrap_err();
        assert!(failure.to_string().contains("/no/such/validator"), "{failure}");
        let failure = responds(Path::new("/bin/false"), "testnet").unwrap_err();
        assert!(failure.to_string().contains("testnet --help"), "{failure}");
    }
}
