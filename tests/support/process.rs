//! Real processes under test: started with a log, waited for with a limit, and never left behind.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};
use validator::{
    command::network::{PORTS, listen_from},
    config::{Listen, schema},
};

/// How often an end is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of a log that a failed test shows.
const TAIL_LINES: usize = 30;
/// Below the ports that the kernel gives to outgoing connections, above those of services.
const PORTS_FIRST: u16 = 10_000;
const PORTS_END: u16 = 32_000;
/// Where validators of the tests listen.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A process that runs until it is told to end; it is killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command whose output goes to the end of a log.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let output = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let errors = output.try_clone().expect("a second handle of the log");
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process is ours")
    }

    /// Sends SIGKILL and does not wait: the caller may have more to kill at the same moment.
    pub fn shoot(&mut self) {
        self.child.kill().expect("the process is ours");
    }

    /// Asks it to stop in good order.
    pub fn ask_to_stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the process is ours");
    }

    /// Stands still until [`Self::resume`], as one whose machine does.
    pub fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("the process is ours");
    }

    /// Goes on.
    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("the process is ours");
    }

    /// Waits until it has ended.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "it did not end in {limit:?}; its log:\n{}", self.tail());
            thread::sleep(LOOK);
        }
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// All of its log.
    pub fn text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is no error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What became of a command.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Panics unless the command ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        let text = self.text();
        assert_eq!(self.code, Some(code), "stdout:\n{text}\nstderr:\n{}", self.stderr);
        self
    }

    /// Panics unless the command ended with this code and one line that says these things.
    #[track_caller]
    pub fn expect_refusal(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one line, not:\n{}", self.stderr);
        assert!(lines[0].starts_with("validator: "), "{}", lines[0]);
        for part in parts {
            assert!(lines[0].contains(part), "{part:?} is not in: {}", lines[0]);
        }
    }
}

/// Runs a command to its end.
pub fn finish(command: &mut Command, limit: Duration) -> Finished {
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    let handle = |file: &File| file.try_clone().expect("a second handle");
    command.stdin(Stdio::null()).stdout(handle(&stdout)).stderr(handle(&stderr));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait().expect("the process is ours") {
            Some(status) => break Some(status),
            None if Instant::now() > end => break None,
            None => thread::sleep(LOOK),
        }
    };
    if status.is_none() {
        drop(child.kill());
        drop(child.wait());
    }
    let (stdout, stderr) = (contents(&mut stdout), contents(&mut stderr));
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    let Some(status) = status else {
        let text = String::from_utf8_lossy(&stdout);
        panic!("{command:?} did not end in {limit:?}\nstdout:\n{text}\nstderr:\n{stderr}");
    };
    Finished { code: status.code(), stdout, stderr }
}

fn contents(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("a file can be read again");
    file.read_to_end(&mut bytes).expect("a file can be read again");
    bytes
}

/// A command that nothing in the environment of the tests changes.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for key in &schema::KEYS {
        command.env_remove(key.variable());
    }
    for name in ["ALTHING_CONFIG", "ALTHING_TO", "ALTHING_KEY", "CREDENTIALS_DIRECTORY"] {
        command.env_remove(name);
    }
    command
}

/// Finds free ports for some validators: other ones for each call, and for each process of tests.
pub fn free_ports(validators: usize) -> Vec<Listen> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let places = (PORTS_END - PORTS_FIRST) / PORTS;
    let lot = u16::try_from(std::process::id() % 7_919).expect("below 7,919");
    let mut found = Vec::new();
    for _ in 0..places {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = lot.wrapping_mul(131).wrapping_add(step) % places;
        let listen = listen_from(HOST, PORTS_FIRST + PORTS * place);
        if are_free(&listen) {
            found.push(listen);
        }
        if found.len() == validators {
            return found;
        }
    }
    panic!("no {validators} times {PORTS} free ports from {PORTS_FIRST} to {PORTS_END}");
}

fn are_free(listen: &Listen) -> bool {
    let Listen { consensus, lanes, udp, tcp, http, history } = listen;
    let is_free = |address: &&SocketAddr| TcpListener::bind(**address).is_ok();
    [consensus, lanes, tcp, http, history].iter().all(is_free) && UdpSocket::bind(udp).is_ok()
}
