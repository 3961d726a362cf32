//! One validator with many accounts, from the start of its process until it votes again.
//!
//! The ledger is made once: a test network of one validator takes transfers to accounts that do not exist
//! yet. Each round starts the validator on it anew, with the files in the system's cache as after a crash
//! of the process, and ends when it says that it is ready, which it does when it has finalized a block of
//! its own since the start. Half of the rounds end by SIGTERM, half by SIGKILL, so that half of the starts
//! find files that nobody closed.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{self, Running};
use super::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Settings, Suite,
};

/// New accounts a second while the ledger is made.
const RATE: u64 = 80_000;
/// Most of them come to be: a schedule that is a little late does not matter here.
const ACCOUNTS_PERCENT_MIN: u64 = 95;
/// A validator that is not ready after this is not started again.
const READY: Duration = Duration::from_secs(120);
/// Time between two questions.
const LOOK: Duration = Duration::from_millis(10);

const METRICS: [Metric; 4] = [
    Metric::new("ready", "s", Better::Lower),
    Metric::new("resident", "MiB", Better::Lower),
    Metric::new("accounts", "", Better::Neither),
    Metric::new("replayed", "heights", Better::Neither),
];

/// The suite.
pub struct Restart;

impl Suite for Restart {
    fn name(&self) -> &'static str {
        "restart"
    }

    fn about(&self) -> &'static str {
        "one validator with millions of accounts, from its start until it votes again"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        settings.has_validator()?;
        let rounds = settings.scale.pick(
            Rounds { min: 4, max: 8 },
            Rounds { min: 4, max: 4 },
            Rounds { min: 1, max: 1 },
        );
        let accounts = settings.scale.pick(10_000_000, 1_000_000, 1_000);
        let parameters = vec![("accounts", accounts.to_string())];
        let node = Node {
            validator: settings.validator.clone(),
            data: settings.data.clone(),
            accounts,
            ledger: None,
            starts: 0,
        };
        let open = move || {
            let contenders: Vec<Box<dyn Contender>> = vec![Box::new(node)];
            Ok(Group { rounds, contenders, skipped: Vec::new() })
        };
        Ok(vec![Plan { parameters, open: Box::new(open) }])
    }
}

/// A validator with a ledger.
struct Node {
    validator: PathBuf,
    data: PathBuf,
    accounts: u64,
    ledger: Option<TempDir>,
    starts: u32,
}

impl Node {
    /// Makes the ledger, once.
    fn make(&mut self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.ledger {
            return Ok(member(folder.path()));
        }
        let failed = |error| Failure::machine("prepare a ledger", error);
        let data = fs::canonicalize(&self.data).map_err(failed)?;
        let folder = tempfile::tempdir_in(data).map_err(failed)?;
        let mix = folder.path().join("new.toml");
        let text =
            "version = 1\nname = \"new-accounts\"\n[transfers]\npercent = 100\nnew_percent = 100\n";
        fs::write(&mix, text).map_err(failed)?;
        let seconds = self.accounts.div_ceil(RATE).max(1);
        let rate = self.accounts.div_ceil(seconds);
        let network = folder.path().join("network");
        let arguments = [
            ("--mix", mix.display().to_string()),
            ("--load", rate.to_string()),
            ("--duration", format!("{seconds}s")),
            ("--data", network.display().to_string()),
        ];
        let words = ["testnet", "--validators", "1", "--authors", "65536", "--presign"];
        let running = Running::start_in(&self.validator, folder.path(), &words, &arguments)?;
        // A core signs 50,000 a second.
        let ended = running.run(Duration::from_secs(seconds + self.accounts / 25_000))?;
        let summary: serde_json::Value = serde_json::from_str(&ended.output).map_err(|error| {
            Failure::Machine(format!("no ledger was made ({error}): {}", ended.complaint))
        })?;
        let made = summary["load"]["finalized"].as_u64().unwrap_or(0);
        if made * 100 < self.accounts * ACCOUNTS_PERCENT_MIN || summary["good"] != true {
            let wanted = self.accounts;
            return Err(Failure::Machine(format!("{made} of {wanted} accounts were made")));
        }
        self.accounts = made;
        let folder = self.ledger.insert(folder);
        Ok(member(folder.path()))
    }
}

/// The folder of the validator.
fn member(folder: &Path) -> PathBuf {
    folder.join("network").join("validator-0")
}

impl Contender for Node {
    fn label(&self) -> Label {
        Label::new("validator::start")
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        process::responds(&self.validator, "start")
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let folder = self.make()?;
        let config = folder.join("config.toml");
        let text = fs::read_to_string(&config)
            .map_err(|error| Failure::machine("read the validator's configuration", error))?;
        let http = http_address(&text).ok_or_else(|| {
            Failure::Machine("the validator's configuration names no http address".to_owned())
        })?;
        let before = Instant::now();
        let log = tempfile::tempfile_in(&folder)
            .map_err(|error| Failure::machine("prepare a log", error))?;
        let child = Command::new(&self.validator)
            .args(["start", "--log-format", "json", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone().map_err(|error| Failure::machine("prepare a log", error))?)
            .spawn()
            .map_err(|error| Failure::machine("start the validator", error))?;
        let mut child = Started(child);
        while get(http, "/readyz").is_none() {
            let ended =
                child.0.try_wait().map_err(|error| Failure::machine("wait for it", error))?;
            if ended.is_some() || before.elapsed() > READY {
                let seconds = before.elapsed().as_secs_f64();
                return Err(Failure::Machine(format!("it was not ready after {seconds:.1} s")));
            }
            std::thread::sleep(LOOK);
        }
        let ready = before.elapsed();
        let page = get(http, "/metrics").unwrap_or_default();
        let resident = value(&page, "process_resident_memory_bytes").unwrap_or(0.0);
        self.starts += 1;
        child.stop(self.starts.is_multiple_of(2));
        let replayed = replayed(log).ok_or_else(|| {
            Failure::Wrong("the validator does not say from where it recovered".to_owned())
        })?;
        Ok(Round::valid(vec![
            ready.as_secs_f64(),
            resident / f64::from(1 << 20),
            self.accounts as f64,
            replayed as f64,
        ]))
    }
}

/// A process that does not outlive this value.
struct Started(Child);

impl Started {
    fn stop(mut self, kill: bool) {
        if !kill {
            let process = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(process) = process {
                // What does not end is killed below.
                let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
                let until = Instant::now() + Duration::from_secs(20);
                while Instant::now() < until && matches!(self.0.try_wait(), Ok(None)) {
                    std::thread::sleep(LOOK);
                }
            }
        }
        drop(self);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The body of a good answer.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    // In one piece, as any client sends it.
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split_whitespace().nth(1).filter(|status| *status == "200")?;
    Some(body.to_owned())
}

fn http_address(config: &str) -> Option<SocketAddr> {
    let line = config.lines().find_map(|line| line.strip_prefix("http = \""))?;
    line.strip_suffix('"')?.parse().ok()
}

fn value(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

/// Heights between the saved state and the newest, as the log says.
fn replayed(mut log: fs::File) -> Option<u64> {
    use std::io::Seek;
    let mut text = String::new();
    log.rewind().and_then(|()| log.read_to_string(&mut text)).ok()?;
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    let line = lines.into_iter().find(|line: &serde_json::Value| line["message"] == "recovered")?;
    line["height"].as_u64()?.checked_sub(line["from"].as_u64()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_validator_says_is_read() {
        let config =
            "data = \"data\"\n[listen]\ntcp = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:4004\"\n";
        assert_eq!(http_address(config), "127.0.0.1:4004".parse().ok());
        assert_eq!(http_address("[listen]"), None);
        let page = "process_resident_memory_bytes_x 5\nprocess_resident_memory_bytes 4096\n";
        assert_eq!(value(page, "process_resident_memory_bytes"), Some(4096.0));
        let mut log = tempfile::tempfile().unwrap();
        log.write_all(b"no json\n{\"message\":\"store opened\"}\n").unwrap();
        log.write_all(b"{\"message\":\"recovered\",\"height\":700,\"from\":512}\n").unwrap();
        assert_eq!(replayed(log), Some(188));
        assert_eq!(replayed(tempfile::tempfile().unwrap()), None);
    }

    #[test]
    fn an_answer_that_is_not_good_is_none() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = std::thread::spawn(move || {
            for status in ["200 OK", "503 Service Unavailable"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1_024];
                let size = stream.read(&mut request).unwrap();
                assert!(request[..size].starts_with(b"GET /readyz HTTP/1.1\r\n"));
                write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\nbody").unwrap();
            }
        });
        assert_eq!(get(address, "/readyz").as_deref(), Some("body"));
        assert_eq!(get(address, "/readyz"), None);
        serve.join().unwrap();
        assert_eq!(get(address, "/readyz"), None, "nobody is there");
    }
}
