//! `xdp status`: what the packet path of validators lets in and drops.

use super::Exit;
use super::terminal::{Side, Table, printable, say, say_json, thousands};
use crate::client::{Api, Url};
use crate::handle::{PacketStatus, Status, VerdictCount};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `xdp`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what carries datagrams, and how many were let in and dropped, and why
    Status(StatusArguments),
}

#[derive(Debug, clap::Args)]
struct StatusArguments {
    /// Validators to ask, as http://host:port
    #[arg(long, value_name = "URL", value_delimiter = ',', env = "ALTHING_TO", required = true)]
    to: Vec<Url>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// Errors: network, when a validator does not answer; those that do are shown first.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    let Command::Status(StatusArguments { to, json }) = &arguments.command;
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for url in to {
        match Api::new(url.clone(), TIMEOUT).status() {
            Ok(status) => answers.push((url, status)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if *json {
        let all: Vec<serde_json::Value> =
            answers.iter().map(|(_, status)| document(status)).collect();
        say_json(&serde_json::Value::from(all));
    } else {
        let texts: Vec<String> = answers.iter().map(|(url, status)| render(url, status)).collect();
        if !texts.is_empty() {
            say(&texts.join("\n"));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Exit::network(failures.join("; "))) }
}

/// What carries datagrams and why.
fn carrier(status: &Status) -> (String, String) {
    let net = status.backends.iter().find(|backend| backend.stage == "net");
    net.map(|net| (net.backend.clone(), net.reason.clone())).unwrap_or_default()
}

fn document(status: &Status) -> serde_json::Value {
    let (mode, reason) = carrier(status);
    serde_json::json!({
        "validator": status.validator,
        "mode": mode,
        "reason": reason,
        "packets": status.packets,
    })
}

fn render(url: &Url, status: &Status) -> String {
    let PacketStatus { interface, policy, sessions, blocked, kernel, process } = &status.packets;
    let (mode, reason) = carrier(status);
    let mut facts = Table::new(&[Side::Left, Side::Left]);
    facts.row(["validator".to_string(), format!("{} at {url}", super::status::place(status))]);
    facts.row(["datagrams".to_string(), format!("{} ({})", printable(&mode), printable(&reason))]);
    let filter = match (interface, policy) {
        (Some(interface), Some(policy)) => {
            format!("{} on {}", printable(policy), printable(interface))
        }
        _ => "in the process alone".to_string(),
    };
    facts.row(["filter".to_string(), filter]);
    facts.row(["sessions".to_string(), thousands(*sessions)]);
    facts.row(["blocked sources".to_string(), thousands(*blocked)]);
    let mut names: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for (place, counts) in [kernel, process].into_iter().enumerate() {
        for VerdictCount { verdict, count } in counts {
            names.entry(verdict).or_default()[place] = *count;
        }
    }
    if names.is_empty() {
        return format!("{}\nno packets yet\n", facts.render());
    }
    let mut table = Table::new(&[Side::Left, Side::Right, Side::Right]);
    table.row(["verdict", "kernel", "process"]);
    let mut rows: Vec<(&str, [u64; 2])> = names.into_iter().collect();
    rows.sort_by_key(|(_, [kernel, process])| std::cmp::Reverse(*kernel.max(process)));
    for (name, [kernel, process]) in rows {
        table.row([printable(name), thousands(kernel), thousands(process)]);
    }
    format!("{}\n{}", facts.render(), table.render())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::BackendStatus;

    #[test]
    fn verdicts_of_both_sides_stand_side_by_side() {
        let count = |verdict: &str, count| VerdictCount { verdict: verdict.into(), count };
        let backend = BackendStatus {
            stage: "net".into(),
            backend: "xdp_driver".into(),
            reason: "xdp on eth0: enforce, 2 AF_XDP rings (copy)".into(),
        };
        let packets = PacketStatus {
            interface: Some("eth0".into()),
            policy: Some("enforce".into()),
            sessions: 1_234,
            blocked: 5,
            kernel: vec![count("token", 9_876_543), count("submit", 20)],
            process: vec![count("submit", 20), count("tag\x1b[2J", 1)],
        };
        let status = Status { backends: vec![backend], packets, ..crate::handle::tests::status() };
        let url: Url = "http://127.0.0.1:9".parse().unwrap();
        let text = render(&url, &status);
        for part in ["xdp_driver (xdp on eth0: enforce", "enforce on eth0", "1,234", "9,876,543"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(text.find("token").unwrap() < text.find("submit").unwrap(), "most first\n{text}");
        assert!(!text.contains('\x1b'), "foreign text does not reach the terminal raw");
        assert_eq!(document(&status)["packets"]["kernel"][0]["count"], 9_876_543);
        let quiet = Status { packets: PacketStatus::default(), ..status };
        let text = render(&url, &quiet);
        assert!(text.contains("in the process alone") && text.contains("no packets yet"), "{text}");
    }
}
