//! The configuration of a validator: all of it is checked here, before any thread starts.

pub mod cores;
pub mod identity;
pub mod layers;
pub mod schema;

use crate::command::Exit;
use crate::key::Source;
use layers::{Flags, Layers, PeerEntry};
use ledger::PublicKey;
use net_ebpf::filter::{Action, Wanted};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use cores::{Cores, Cpus};
pub use identity::Identity;

/// Bytes of a config file at most: a hundred peers take some 20 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything that the config file, the environment and the flags say, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The genesis file.
    pub genesis: PathBuf,
    /// The key file of this validator.
    pub key: PathBuf,
    /// Where the passphrase comes from, if the key file is encrypted.
    pub key_passphrase: Source,
    /// The data folder: `ledger/`, `consensus/` and a copy of the genesis file.
    pub data: PathBuf,
    /// Where this validator listens.
    pub listen: Listen,
    /// Where the validators are found, in the order of the file.
    pub peers: Vec<Peer>,
    /// Sessions and rates of datagrams.
    pub ingest: Ingest,
    /// The network interface that the kernel filters for us.
    pub net: Net,
    /// How signatures are checked.
    pub sigverify: Sigverify,
    /// How the disk is written.
    pub storage: Storage,
    /// The pace of consensus.
    pub consensus: Consensus,
    /// Where threads run, and how they wait.
    pub cores: Cores,
    /// What is logged, and how.
    pub log: Log,
}

/// Where a validator listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Votes and cut blocks (TCP).
    pub consensus: SocketAddr,
    /// Batches and acknowledgements (TCP).
    pub lanes: SocketAddr,
    /// Transactions in datagrams.
    pub udp: SocketAddr,
    /// Transactions over connections.
    pub tcp: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
    /// Old blocks.
    pub history: SocketAddr,
}

/// Where a validator of the set is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its key, as in the genesis file.
    pub key: PublicKey,
    /// Its consensus socket.
    pub consensus: SocketAddr,
    /// Its lanes socket.
    pub lanes: SocketAddr,
    /// Its history socket, where old blocks are asked for; none where it is not known.
    pub history: Option<SocketAddr>,
}

/// Sessions and rates of datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingest {
    /// Transactions a second that one session may send in datagrams.
    pub packets_per_session: u64,
    /// Transactions that it may send at once after a pause.
    pub burst: u64,
    /// Sessions at once.
    pub sessions: u32,
}

/// The kernel's packet path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// The interface to filter on, if any.
    pub xdp: Option<String>,
    /// Where the filter runs.
    pub mode: Wanted,
    /// What it does.
    pub policy: Action,
}

/// How signatures are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sigverify {
    /// A backend by name; none for the best that this machine has.
    pub backend: Option<String>,
    /// Threads; 0 for one on each core.
    pub threads: usize,
}

/// How the disk is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The way to write.
    pub backend: StorageBackend,
    /// Size of one segment file.
    pub segment_bytes: u64,
    /// Writes under way at once.
    pub groups_in_flight: usize,
    /// Bytes that are checked for rot each second; 0 for none.
    pub scrub_bytes: u64,
    /// Bytes of old blocks that others may fetch each second.
    pub history_bytes: u64,
}

/// The ways to write the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageBackend {
    /// The best that this machine permits.
    Auto,
    /// Completion queues of the kernel.
    IoUring,
    /// Plain blocking calls.
    Portable,
}

/// The pace of consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consensus {
    /// How long a leader may take.
    pub view_timeout_ms: u64,
    /// How long an idle leader waits before it proposes; below the view timeout.
    pub heartbeat_ms: u64,
    /// How long a batch waits for more transactions.
    pub batch_delay_ms: u64,
    /// How long after a block the next one waits for busy lanes; at most half the view timeout.
    pub cut_delay_ms: u64,
    /// Threads that move votes, blocks and batches.
    pub threads: usize,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// A filter of `tracing`.
    pub filter: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// A configuration together with the origin of each of its values.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every value with its origin.
    pub layers: Layers,
}

impl Config {
    /// Reads and checks a config file, with the process's environment and `flags` above it.
    ///
    /// Errors: config, with the file, the line and what to do.
    pub fn load(file: &Path, flags: &Flags) -> Result<Loaded, Exit> {
        Self::load_with(file, &|name| std::env::var(name).ok(), flags)
    }

    /// Reads and checks a config file with an environment that the caller provides.
    ///
    /// Errors: config, with the file, the line and what to do.
    pub fn load_with(
        file: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
        flags: &Flags,
    ) -> Result<Loaded, Exit> {
        let refuse = |why: String| Exit::config(format!("config {}: {why}", file.display()));
        let text = read_text(file, FILE_BYTES_MAX).map_err(refuse)?;
        let layers = Layers::read(&text, environment, flags).map_err(refuse)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let config = Self::from_layers(&layers, folder).map_err(refuse)?;
        Ok(Loaded { config, layers })
    }

    /// Returns the configuration of an empty file in `folder`.
    pub fn default_in(folder: &Path) -> Self {
        let layers = Layers::read("", &|_| None, &[]).expect("the defaults are tested");
        Self::from_layers(&layers, folder).expect("the defaults are tested")
    }

    fn from_layers(layers: &Layers, folder: &Path) -> Result<Self, String> {
        let address = |dotted| -> SocketAddr {
            layers.text(dotted).parse().expect("the shape of an address was checked")
        };
        let size = |dotted| {
            usize::try_from(layers.number(dotted)).map_err(|_| format!("{dotted} is too large"))
        };
        let cpus =
            |dotted| Cpus::parse(layers.text(dotted)).expect("the shape of CPUs was checked");
        let some = |dotted, none: &str| {
            Some(layers.text(dotted)).filter(|text| *text != none).map(str::to_string)
        };
        let config = Self {
            genesis: folder.join(layers.text("genesis")),
            key: folder.join(layers.text("key")),
            key_passphrase: Source::parse(layers.text("key_passphrase"))
                .expect("the shape of a source was checked"),
            data: folder.join(layers.text("data")),
            listen: Listen {
                consensus: address("listen.consensus"),
                lanes: address("listen.lanes"),
                udp: address("listen.udp"),
                tcp: address("listen.tcp"),
                http: address("listen.http"),
                history: address("listen.history"),
            },
            peers: layers.peers().iter().map(parse_peer).collect::<Result<_, _>>()?,
            ingest: Ingest {
                packets_per_session: layers.number("ingest.packets_per_session"),
                burst: layers.number("ingest.burst"),
                sessions: u32::try_from(layers.number("ingest.sessions"))
                    .expect("the range was checked"),
            },
            net: Net {
                xdp: some("net.xdp", ""),
                mode: match layers.text("net.xdp_mode") {
                    "driver" => Wanted::Driver,
                    "generic" => Wanted::Generic,
                    "off" => Wanted::Off,
                    _ => Wanted::Auto,
                },
                policy: match layers.text("net.xdp_policy") {
                    "observe" => Action::Observe,
                    _ => Action::Enforce,
                },
            },
            sigverify: Sigverify {
                backend: some("sigverify.backend", "auto"),
                threads: size("sigverify.threads")?,
            },
            storage: Storage {
                backend: match layers.text("storage.backend") {
                    "io_uring" => StorageBackend::IoUring,
                    "portable" => StorageBackend::Portable,
                    _ => StorageBackend::Auto,
                },
                segment_bytes: layers.number("storage.segment_bytes"),
                groups_in_flight: size("storage.groups_in_flight")?,
                scrub_bytes: layers.number("storage.scrub_mib_per_second") << 20,
                history_bytes: layers.number("storage.history_mib_per_second") << 20,
            },
            consensus: Consensus {
                view_timeout_ms: layers.number("consensus.view_timeout_ms"),
                heartbeat_ms: layers.number("consensus.heartbeat_ms"),
                batch_delay_ms: layers.number("consensus.batch_delay_ms"),
                cut_delay_ms: layers.number("consensus.cut_delay_ms"),
                threads: size("consensus.threads")?,
            },
            cores: Cores {
                verify: cpus("cores.verify"),
                stages: cpus("cores.stages"),
                storage: cpus("cores.storage"),
                network: cpus("cores.network"),
                busy_poll_us: layers.number("cores.busy_poll_us"),
                huge_pages: layers.text("cores.huge_pages") == "on",
            },
            log: Log {
                format: match layers.text("log.format") {
                    "human" => LogFormat::Human,
                    "json" => LogFormat::Json,
                    _ => LogFormat::Auto,
                },
                filter: layers.text("log.filter").to_string(),
            },
        };
        config.check()?;
        Ok(config)
    }

    /// Checks what no value can show alone.
    fn check(&self) -> Result<(), String> {
        let Consensus { view_timeout_ms, heartbeat_ms, .. } = self.consensus;
        if heartbeat_ms >= view_timeout_ms {
            return Err(format!(
                "consensus.heartbeat_ms ({heartbeat_ms}) must be below \
                 consensus.view_timeout_ms ({view_timeout_ms}), or an idle leader loses its turn"
            ));
        }
        let Consensus { batch_delay_ms, cut_delay_ms, .. } = self.consensus;
        if batch_delay_ms >= view_timeout_ms {
            return Err(format!(
                "consensus.batch_delay_ms ({batch_delay_ms}) must be below \
                 consensus.view_timeout_ms ({view_timeout_ms})"
            ));
        }
        if cut_delay_ms > view_timeout_ms / 2 {
            return Err(format!(
                "consensus.cut_delay_ms ({cut_delay_ms}) must be at most half of \
                 consensus.view_timeout_ms ({view_timeout_ms}), or a busy leader loses its turn"
            ));
        }
        let Listen { consensus, lanes, tcp, http, history, udp: _ } = &self.listen;
        let names = ["consensus", "lanes", "tcp", "http", "history"];
        let sockets = [consensus, lanes, tcp, http, history];
        for (place, socket) in sockets.iter().enumerate() {
            let before = sockets[..place].iter().position(|other| other == socket);
            if let Some(before) = before.filter(|_| socket.port() != 0) {
                let (first, second) = (names[before], names[place]);
                return Err(format!("listen.{first} and listen.{second} are both {socket}"));
            }
        }
        self.cores.check()?;
        for (place, peer) in self.peers.iter().enumerate() {
            if self.peers[..place].iter().any(|other| other.key == peer.key) {
                return Err(format!("two [[peers]] entries have the key {}", peer.key));
            }
        }
        Ok(())
    }

    /// Returns the folder of the segments.
    pub fn ledger_folder(&self) -> PathBuf {
        self.data.join("ledger")
    }

    /// Returns the folder of the engine's journal.
    pub fn consensus_folder(&self) -> PathBuf {
        self.data.join("consensus")
    }
}

fn parse_peer(entry: &PeerEntry) -> Result<Peer, String> {
    let at = |name: &str, why: String| format!("line {}: peers.{name} {why}", entry.line);
    let [key, consensus, lanes] = &entry.values;
    let address = |name: &str, text: &str| -> Result<SocketAddr, String> {
        text.parse().map_err(|_| {
            at(name, format!("must be an address such as \"203.0.113.7:4000\", found {text:?}"))
        })
    };
    Ok(Peer {
        key: key.parse().map_err(|error| at("key", format!("is not a key: {error}")))?,
        consensus: address("consensus", consensus)?,
        lanes: address("lanes", lanes)?,
        history: entry.history.as_deref().map(|text| address("history", text)).transpose()?,
    })
}

/// Reads a text file of bounded size.
///
/// Errors: a sentence without the file's name.
pub(crate) fn read_text(file: &Path, bytes_max: u64) -> Result<String, String> {
    use std::io::Read;
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| format!("cannot be opened: {error}"))?;
    opened
        .take(bytes_max + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(text.len()).is_ok_and(|size| size > bytes_max) {
        return Err(format!("is longer than {bytes_max} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
