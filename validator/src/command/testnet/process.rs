//! The validators' processes: started, killed, started again, and never left behind.

use crate::command::Exit;
use crate::command::network::Network;
use crate::config::schema;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time for a validator to stop in good order.
const STOP: Duration = Duration::from_secs(10);
/// How often an end is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of a log that are shown when something is wrong.
const TAIL_LINES: usize = 12;
/// Bytes of a log in which they are looked for.
const TAIL_BYTES: u64 = 16 * 1024;

/// All validators of a network.
pub(super) struct Processes {
    members: Vec<Process>,
}

struct Process {
    log: PathBuf,
    /// None while it is killed.
    child: Option<Child>,
}

impl Processes {
    /// Starts every validator. The kernel stops them when the calling thread ends, so this must be
    /// the thread that lives longest.
    ///
    /// Errors: host unfit, when a process cannot be started.
    pub(super) fn start(network: &Network) -> Result<Self, Exit> {
        let mut processes = Self { members: Vec::new() };
        for index in 0..network.validators.len() {
            let child = Some(spawn(network, index)?);
            processes.members.push(Process { log: network.log(index), child });
        }
        Ok(processes)
    }

    /// Kills a validator at once, as a power cut would.
    pub(super) fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            end_now(&mut child);
        }
    }

    /// Starts a killed validator again.
    ///
    /// Errors: host unfit, when the process cannot be started.
    pub(super) fn restart(&mut self, network: &Network, index: usize) -> Result<(), Exit> {
        assert!(self.members[index].child.is_none(), "only a killed validator starts again");
        self.members[index].child = Some(spawn(network, index)?);
        Ok(())
    }

    /// Finds a validator that ended by itself, and says how.
    pub(super) fn find_death(&mut self) -> Option<String> {
        for (index, member) in self.members.iter_mut().enumerate() {
            let status = member.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = status {
                member.child = None;
                let tail = tail(&member.log);
                return Some(format!(
                    "validator {index} ended by itself ({status}); the end of its log:\n{tail}"
                ));
            }
        }
        None
    }

    /// Returns the last lines of a validator's log.
    pub(super) fn log_tail(&self, index: usize) -> String {
        tail(&self.members[index].log)
    }

    /// Stops all validators in good order.
    ///
    /// Shape: returns what went wrong, a sentence for each.
    pub(super) fn stop(&mut self) -> Vec<String> {
        for child in self.members.iter().filter_map(|member| member.child.as_ref()) {
            // One that has just ended by itself is found below.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
        let until = Instant::now() + STOP;
        let mut problems = Vec::new();
        for (index, member) in self.members.iter_mut().enumerate() {
            let Some(mut child) = member.child.take() else {
                continue;
            };
            match wait(&mut child, until) {
                Some(status) if status.success() => {}
                Some(status) => problems.push(format!(
                    "validator {index} did not stop in good order ({status}); the end of its log:\n{}",
                    tail(&member.log)
                )),
                None => {
                    end_now(&mut child);
                    let seconds = STOP.as_secs();
                    problems.push(format!(
                        "validator {index} did not stop within {seconds} s; the end of its log:\n{}",
                        tail(&member.log)
                    ));
                }
            }
        }
        problems
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            end_now(child);
        }
    }
}

fn spawn(network: &Network, index: usize) -> Result<Child, Exit> {
    let unfit = |error: std::io::Error| {
        Exit::host_unfit(format!("validator {index} cannot be started: {error}"))
    };
    let program = std::env::current_exe().map_err(unfit)?;
    let log =
        OpenOptions::new().create(true).append(true).open(network.log(index)).map_err(unfit)?;
    let mut command = Command::new(program);
    command
        .arg("start")
        .arg("--config")
        .arg(network.config(index))
        .args(["--exit-with-parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(unfit)?)
        .stderr(log)
        // Ctrl-C is for this process alone: it stops the validators when it has what it needs.
        .process_group(0);
    // What is different in every validator must come from its own file.
    for key in &schema::KEYS {
        if key.dotted.starts_with("listen.") || !key.dotted.contains('.') {
            command.env_remove(key.variable());
        }
    }
    command.spawn().map_err(unfit)
}

fn wait(child: &mut Child, until: Instant) -> Option<std::process::ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > until {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// Kills a process and waits until it is gone; one that is gone already is no error.
fn end_now(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn tail(log: &Path) -> String {
    let read = || {
        let mut file = std::fs::File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            let last: Vec<String> = last
                .iter()
                .map(|line| format!("  {}", crate::command::terminal::printable(line)))
                .collect();
            last.join("\n")
        }
        Err(error) => {
            let error: std::io::Error = error;
            format!("  {}: {error}", log.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, text).unwrap();
        let tail = tail(&log);
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("  line 4999"));
        assert!(super::tail(&folder.path().join("none")).contains("No such file"));
    }

    #[test]
    fn ends_are_noticed_and_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let start = |script: &str| {
            let child = Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
            Process { log: folder.path().join("log"), child: Some(child) }
        };
        let sleep = "trap 'exit 0' TERM; while true; do sleep 0.02; done";
        let mut processes = Processes {
            members: vec![
                start(sleep),
                start("trap 'exit 3' TERM; while true; do sleep 0.02; done"),
            ],
        };
        thread::sleep(Duration::from_millis(100));
        assert_eq!(processes.find_death(), None);
        let problems = processes.stop();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("validator 1 did not stop in good order"), "{problems:?}");
        processes.members[0] = start("exit 7");
        thread::sleep(Duration::from_millis(100));
        assert!(processes.find_death().unwrap().contains("exit status: 7"));
        processes.members[1] = start(sleep);
        processes.kill(1);
        assert_eq!(processes.find_death(), None, "one that was killed did not die by itself");
        assert!(processes.stop().is_empty());
    }
}
