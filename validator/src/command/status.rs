//! `status`: what validators say about themselves.

use super::Exit;
use super::network::Network;
use super::terminal::{self, Paint, Side, Table, printable, say, say_json, short, thousands};
use crate::client::{Api, Url};
use crate::handle::Status;
use std::path::PathBuf;
use std::time::Duration;

/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Validators to ask, as http://host:port
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        env = "ALTHING_TO",
        required_unless_present = "data"
    )]
    to: Vec<Url>,
    /// Folder of a network: ask all of its validators, whatever --to or its variable says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// Errors: network, when a validator does not answer; those that do are shown first.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    let urls = match &arguments.data {
        None => arguments.to.clone(),
        Some(folder) => {
            let members = Network::open(folder)?.validators;
            members.iter().map(|member| Url::from(member.http)).collect()
        }
    };
    let mut answers = Vec::new();
    let mut failures = Vec::new();
    for url in urls {
        match Api::new(url.clone(), TIMEOUT).status() {
            Ok(status) => answers.push((url, status)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if arguments.json {
        let all: Vec<&Status> = answers.iter().map(|(_, status)| status).collect();
        say_json(&serde_json::to_value(all).expect("a status has a JSON form"));
    } else if let [(url, status)] = answers.as_slice() {
        say(&render(url, status, Paint::stdout()));
    } else if !answers.is_empty() {
        say(&render_all(&answers, Paint::stdout()));
    }
    if failures.is_empty() { Ok(()) } else { Err(Exit::network(failures.join("; "))) }
}

/// One line for each validator.
fn render_all(answers: &[(Url, Status)], paint: Paint) -> String {
    use Side::{Left, Right};
    let mut table = Table::new(&[Left, Left, Left, Right, Right, Right, Left]);
    table.row(["validator", "url", "ready", "height", "view", "transactions", "history root"]);
    for (url, status) in answers {
        table.row([
            place(status),
            url.to_string(),
            if status.ready { paint.good("yes") } else { paint.bad("no") },
            thousands(status.height),
            thousands(status.view),
            thousands(status.finalized_transactions),
            short(&status.history_root.to_string()),
        ]);
    }
    table.render()
}

/// The place in the set, where it has one.
pub(super) fn place(status: &Status) -> String {
    status.validator.map_or_else(|| "follower".to_string(), |place| place.to_string())
}

fn render(url: &Url, status: &Status, paint: Paint) -> String {
    let mut table = Table::new(&[Side::Left, Side::Left]);
    let name = format!("{} of {}", place(status), printable(&status.name));
    table.row(["validator".to_string(), name]);
    table.row(["url".to_string(), url.to_string()]);
    table.row(["version".to_string(), printable(&status.version)]);
    table.row(["network".to_string(), status.network.to_string()]);
    table.row(["key".to_string(), status.key.to_string()]);
    let ready = if status.ready {
        paint.good("yes")
    } else {
        let reasons: Vec<String> = status.reasons.iter().map(|text| printable(text)).collect();
        format!("{}: {}", paint.bad("no"), reasons.join("; "))
    };
    table.row(["ready".to_string(), ready]);
    let height = format!(
        "{} final, {} executed, view {}",
        thousands(status.height),
        thousands(status.executed_height),
        thousands(status.view)
    );
    table.row(["height".to_string(), height]);
    let epoch = format!("{}, to height {}", thousands(status.epoch), thousands(status.epoch_ends));
    table.row(["epoch".to_string(), epoch]);
    table.row(["transactions".to_string(), thousands(status.finalized_transactions)]);
    table.row(["history root".to_string(), status.history_root.to_string()]);
    let uptime = Duration::from_secs(status.uptime_ms / 1_000);
    table.row(["uptime".to_string(), clock(uptime)]);
    for backend in &status.backends {
        let text = format!("{} ({})", printable(&backend.backend), printable(&backend.reason));
        table.row([printable(&backend.stage), text]);
    }
    if status.damaged_groups > 0 {
        let (damaged, repaired) = (status.damaged_groups, status.repaired_groups);
        let text =
            format!("{} damaged groups, {} repaired", thousands(damaged), thousands(repaired));
        let text = if repaired < damaged { paint.bad(&text) } else { text };
        table.row(["ledger".to_string(), text]);
    }
    format!("{}\n{}\n{}", table.render(), lanes(status, paint), queues(status))
}

fn lanes(status: &Status, paint: Paint) -> String {
    use Side::{Left, Right};
    let mut table = Table::new(&[Right, Right, Right, Right, Left, Left]);
    table.row(["lane", "held", "certified", "finalized", "owner", "key"]);
    for lane in &status.lanes {
        let peer = status.peers.iter().find(|peer| peer.index == lane.lane);
        let (state, key) = match peer {
            None if Some(lane.lane) == status.validator => {
                ("this".to_string(), status.key.to_string())
            }
            None => (String::new(), String::new()),
            Some(peer) if peer.connected => (paint.good("connected"), peer.key.to_string()),
            Some(peer) => (paint.bad("away"), peer.key.to_string()),
        };
        table.row([
            lane.lane.to_string(),
            thousands(lane.sequence),
            thousands(lane.certified),
            thousands(lane.finalized),
            state,
            short(&key),
        ]);
    }
    table.render()
}

fn queues(status: &Status) -> String {
    let mut table = Table::new(&[Side::Left, Side::Right, Side::Right]);
    table.row(["queue", "waiting", "at most"]);
    for queue in &status.queues {
        table.row([
            printable(&queue.name),
            terminal::bytes(queue.bytes),
            terminal::bytes(queue.limit_bytes),
        ]);
    }
    table.render()
}

/// Writes a long time in its two largest units.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::handle::{BackendStatus, LaneStatus, PeerStatus, QueueStatus};
    use ledger::{Digest, PublicKey};

    /// A status for tests of whatever reads one.
    pub(in crate::command) fn status() -> Status {
        Status {
            name: "here\x1b[2J".into(),
            version: "0.1.0".into(),
            network: Digest([1; 32]),
            validator: Some(0),
            key: PublicKey([2; 32]),
            height: 1_234,
            view: 1_300,
            epoch: 2,
            epoch_ends: 1_999,
            finalized_transactions: 56_789,
            executed_height: 1_233,
            history_root: Digest([3; 32]),
            lanes: (0..2)
                .map(|lane| LaneStatus { lane, sequence: 9, certified: 8, finalized: 7_000 })
                .collect(),
            peers: vec![PeerStatus { index: 1, key: PublicKey([4; 32]), connected: false }],
            backends: vec![BackendStatus {
                stage: "sigverify".into(),
                backend: "portable".into(),
                reason: "no other".into(),
            }],
            packets: Default::default(),
            queues: vec![QueueStatus { name: "a_b".into(), bytes: 0, limit_bytes: 1 << 20 }],
            damaged_groups: 2,
            repaired_groups: 1,
            ready: false,
            reasons: vec!["12 heights behind".into()],
            uptime_ms: 61_500,
        }
    }

    #[test]
    fn a_status_is_a_quiet_table() {
        let url: Url = "http://127.0.0.1:9".parse().unwrap();
        let text = render(&url, &status(), Paint::PLAIN);
        for part in [
            "0 of here\u{fffd}[2J",
            "no: 12 heights behind",
            "1,234 final, 1,233 executed, view 1,300",
            "56,789",
            "sigverify     portable (no other)",
            "1 min 1 s",
            "away",
            "this",
            "1.0 MiB",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\x1b'), "foreign text does not reach the terminal raw");
        let all = render_all(&[(url, status())], Paint::PLAIN);
        assert!(all.contains("03030303") && all.lines().count() == 2, "{all}");
    }

    #[test]
    fn long_times_take_two_units() {
        let written = [59, 60, 3_660, 90_000].map(|seconds| clock(Duration::from_secs(seconds)));
        assert_eq!(written, ["59 s", "1 min 0 s", "1 h 1 min", "1 d 1 h"]);
    }
}
