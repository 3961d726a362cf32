//! Every key of the config file, once: name, default, range and meaning.

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any text.
    Text,
    /// Text that names a file or folder, relative to the config file.
    Path,
    /// An IP address and a port, as `127.0.0.1:4000` or `[::1]:4000`.
    Address,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A whole number, smallest and largest.
    Number(u64, u64),
    /// A whole number like the other, and a multiple of 4096.
    Pages(u64, u64),
    /// CPUs in the kernel's notation, as `0-3,8`, or none.
    Cpus,
    /// Where a passphrase comes from, as `fd:3` or `credential:NAME`, or none.
    Passphrase,
}

/// One key of the config file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its place: `table.name`, or the name alone above the first table.
    pub dotted: &'static str,
    /// Its value where nothing else is said, as it would stand in the file.
    pub default: &'static str,
    /// What it must be.
    pub shape: Shape,
    /// One sentence on what it is for.
    pub help: &'static str,
}

const fn key(dotted: &'static str, default: &'static str, shape: Shape, help: &'static str) -> Key {
    Key { dotted, default, shape, help }
}

/// A segment holds at least two full groups, and stays below 4 GiB; whole pages only.
const SEGMENT_BYTES: Shape = Shape::Pages(2 * storage::GROUP_BYTES_MAX as u64, (4 << 30) - 4_096);

/// All keys but those of `[[peers]]`, in the order of the file.
pub const KEYS: [Key; 36] = [
    key(
        "genesis",
        "\"genesis.json\"",
        Shape::Path,
        "What every validator of the network starts from.",
    ),
    key(
        "key",
        "\"validator.key\"",
        Shape::Path,
        "This validator's key file, readable by its owner alone.",
    ),
    key(
        "key_passphrase",
        "\"\"",
        Shape::Passphrase,
        "Where an encrypted key's passphrase is read: fd:N, credential:NAME of systemd, or empty for the terminal.",
    ),
    key(
        "data",
        "\"data\"",
        Shape::Path,
        "The folder that holds the ledger and the engine's journal.",
    ),
    key(
        "listen.consensus",
        "\"0.0.0.0:4000\"",
        Shape::Address,
        "Votes and cut blocks of the other validators (TCP).",
    ),
    key(
        "listen.lanes",
        "\"0.0.0.0:4001\"",
        Shape::Address,
        "Batches and acknowledgements of the other validators (TCP).",
    ),
    key(
        "listen.udp",
        "\"0.0.0.0:4002\"",
        Shape::Address,
        "Transactions of clients, one in each datagram.",
    ),
    key(
        "listen.tcp",
        "\"0.0.0.0:4003\"",
        Shape::Address,
        "Transactions of clients over a connection, with news of finality.",
    ),
    key(
        "listen.http",
        "\"127.0.0.1:4004\"",
        Shape::Address,
        "HTTP: submit, account, block, status, health and metrics.",
    ),
    key(
        "listen.history",
        "\"0.0.0.0:4005\"",
        Shape::Address,
        "Old blocks for whoever catches up or keeps a copy (TCP).",
    ),
    key(
        "ingest.packets_per_session",
        "50000",
        Shape::Number(1, net_ebpf::policy::PACKETS_PER_SECOND_MAX),
        "Transactions a second that one session of a client may send in datagrams.",
    ),
    key(
        "ingest.burst",
        "10000",
        Shape::Number(1, net_ebpf::policy::BURST_PACKETS_MAX),
        "Transactions that it may send at once after a pause.",
    ),
    key(
        "ingest.sessions",
        "4096",
        Shape::Number(64, 1 << 20),
        "Sessions of clients at once; each takes 8.5 KiB, and 8 KiB more in the kernel's filter.",
    ),
    key(
        "net.xdp",
        "\"\"",
        Shape::Text,
        "Interface whose packets the kernel filters before its firewall; empty for none.",
    ),
    key(
        "net.xdp_mode",
        "\"auto\"",
        Shape::Choice(&["auto", "driver", "generic", "off"]),
        "Where the filter runs: auto, driver, generic, or off.",
    ),
    key(
        "net.xdp_policy",
        "\"enforce\"",
        Shape::Choice(&["enforce", "observe"]),
        "What the filter does: enforce, or observe to count and drop nothing.",
    ),
    key(
        "sigverify.backend",
        "\"auto\"",
        Shape::Text,
        "How signatures are checked: auto, or a backend by name.",
    ),
    key(
        "sigverify.threads",
        "0",
        Shape::Number(0, 1_024),
        "Threads that check signatures; 0 for one on each core that they may use.",
    ),
    key(
        "storage.backend",
        "\"auto\"",
        Shape::Choice(&["auto", "io_uring", "portable"]),
        "How the disk is written: auto, io_uring or portable.",
    ),
    key("storage.segment_bytes", "268435456", SEGMENT_BYTES, "Size of one segment file, in bytes."),
    key(
        "storage.groups_in_flight",
        "8",
        Shape::Number(1, 64),
        "Writes under way at once: more for throughput, fewer for latency.",
    ),
    key(
        "storage.scrub_mib_per_second",
        "4",
        Shape::Number(0, 100_000),
        "How much of the ledger is checked for rot each second; 0 for none.",
    ),
    key(
        "storage.history_mib_per_second",
        "64",
        Shape::Number(1, 100_000),
        "How much of old blocks others may fetch from here each second.",
    ),
    key(
        "consensus.view_timeout_ms",
        "700",
        Shape::Number(50, 60_000),
        "How long a leader may take: more than the heartbeat and a round trip to the farthest validator.",
    ),
    key(
        "consensus.heartbeat_ms",
        "400",
        Shape::Number(10, 59_999),
        "How long an idle leader waits before it proposes an empty block.",
    ),
    key(
        "consensus.threads",
        "2",
        Shape::Number(1, 64),
        "Threads that move votes, blocks and batches between validators.",
    ),
    key(
        "consensus.batch_delay_ms",
        "25",
        Shape::Number(1, 10_000),
        "How long a batch waits for more transactions.",
    ),
    key(
        "consensus.cut_delay_ms",
        "25",
        Shape::Number(0, 10_000),
        "How long after a block the next one waits for lanes that are busy; less costs more for each second.",
    ),
    key(
        "cores.verify",
        "\"\"",
        Shape::Cpus,
        "CPUs for the checks of transactions and signatures, such as 0-3,8; empty for all.",
    ),
    key(
        "cores.stages",
        "\"\"",
        Shape::Cpus,
        "CPUs for lanes and execution, and for checkpoints and repair beside them.",
    ),
    key("cores.storage", "\"\"", Shape::Cpus, "CPUs for the threads that write the disk."),
    key(
        "cores.network",
        "\"\"",
        Shape::Cpus,
        "CPUs for what moves votes, batches and the bytes of clients.",
    ),
    key(
        "cores.busy_poll_us",
        "0",
        Shape::Number(0, 1_000),
        "How long a stage looks at its queues before it sleeps: up to a core for each of three.",
    ),
    key(
        "cores.huge_pages",
        "\"off\"",
        Shape::Choice(&["off", "on"]),
        "Whether to ask for huge pages: on has the process start itself again once.",
    ),
    key(
        "log.format",
        "\"auto\"",
        Shape::Choice(&["auto", "human", "json"]),
        "Log lines: human, json, or auto for human on a terminal.",
    ),
    key(
        "log.filter",
        "\"info,commonware_consensus=warn,commonware_p2p=warn\"",
        Shape::Text,
        "What is logged, such as info or validator=debug,warn.",
    ),
];

/// The keys of each `[[peers]]` entry; all but the last are required.
pub const PEER_KEYS: [&str; 4] = ["key", "consensus", "lanes", "history"];

impl Key {
    /// Returns the environment variable that stands above the file: `ALTHING_CONSENSUS_HEARTBEAT_MS`.
    pub fn variable(&self) -> String {
        format!("ALTHING_{}", self.dotted.replace('.', "_").to_ascii_uppercase())
    }

    /// Returns the table, empty above the first, and the name in it.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.dotted.split_once('.').unwrap_or(("", self.dotted))
    }
}

/// Finds the key of a dotted name.
pub fn find(dotted: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.dotted == dotted)
}

/// Writes the default config file with a comment on every key; it reads back as the default.
pub fn default_text() -> String {
    let mut text = String::from(
        "# Configuration of one validator. Paths are relative to this file.\n\
         # A flag stands above an environment variable, that above this file, and this above the\n\
         # defaults, which are the values below.\n",
    );
    let mut table = "";
    for key in &KEYS {
        let (this_table, name) = key.split();
        if this_table != table {
            table = this_table;
            text.push_str(&format!("\n[{table}]\n"));
        } else if table.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("# {} [{}]\n", key.help, key.variable()));
        text.push_str(&format!("{name} = {}\n", key.default));
    }
    text.push_str(
        "\n# One entry for each validator of the network; an entry of this one is allowed.\n\
         # [[peers]]\n\
         # key = \"64 hexadecimal digits, as in the genesis file\"\n\
         # consensus = \"203.0.113.7:4000\"\n\
         # lanes = \"203.0.113.7:4001\"\n\
         # history = \"203.0.113.7:4005\"\n",
    );
    text
}

/// Finds the word of `known` that someone who wrote `word` most likely meant.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 3).max(2);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Counts the letters to insert, remove or replace (Levenshtein's distance), neighbours swapped
/// counting as one (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, &letter) in from.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, &other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other);
            let mut best = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            let is_swap =
                row > 0 && column > 0 && from[row - 1] == other && to[column - 1] == letter;
            if is_swap {
                best = best.min(before[column - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_are_distinct_and_few_and_stand_by_table() {
        let names: BTreeSet<&str> = KEYS.iter().map(|key| key.dotted).collect();
        assert_eq!(names.len(), KEYS.len());
        assert!(KEYS.len() + PEER_KEYS.len() <= 40, "stable keys stay few");
        let mut tables: Vec<&str> = KEYS.iter().map(|key| key.split().0).collect();
        tables.dedup();
        let distinct: BTreeSet<&str> = tables.iter().copied().collect();
        assert_eq!(tables.len(), distinct.len(), "a table appears once");
        assert!(KEYS.iter().all(|key| key.help.ends_with('.')));
    }

    #[test]
    fn variables_are_named_after_keys() {
        assert_eq!(find("net.xdp").unwrap().variable(), "ALTHING_NET_XDP");
        assert_eq!(find("data").unwrap().variable(), "ALTHING_DATA");
        assert!(find("net").is_none());
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(distance("lsiten", "listen"), 1);
    }

    #[test]
    fn a_typo_is_recognised_and_nonsense_is_not() {
        let known = KEYS.map(|key| key.split().1);
        assert_eq!(suggest("heartbeet_ms", known), Some("heartbeat_ms"));
        assert_eq!(suggest("view_timeout", known), Some("view_timeout_ms"));
        assert_eq!(suggest("thread", known), Some("threads"));
        assert_eq!(suggest("zzzzzzzz", known), None);
    }
}
