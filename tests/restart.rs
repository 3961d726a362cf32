//! What goes wrong: one validator of a test network is killed, and comes back by itself.

use std::time::Duration;
use tempfile::TempDir;
use tests::{
    cluster::{alone, verify},
    process::{Finished, command, finish},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// 20 s of load, the time to start, settle and compare, and patience with a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// `ALTHING_ROUNDS=10` runs more.
fn rounds() -> usize {
    let count = std::env::var("ALTHING_ROUNDS").ok();
    count.map_or(1, |count| count.parse().expect("ALTHING_ROUNDS is a number"))
}

fn testnet(folder: &TempDir, more: &[&str]) -> Finished {
    let data = folder.path().join("network");
    let mut command = command(PROGRAM);
    command.arg("testnet").arg("--data").arg(data);
    // The smallest segments: eight of the usual ones take a while to zero.
    command.env("ALTHING_STORAGE_SEGMENT_BYTES", "8388608");
    finish(command.args(["--load", "300"]).args(more), LIMIT)
}

#[test]
fn a_killed_validator_catches_up_and_the_others_go_on() {
    let _machine = alone();
    for round in 1..=rounds() {
        print!("round {round}: ");
        kill_one();
    }
}

fn kill_one() {
    let folder = TempDir::with_prefix("althing-tests-").expect("a temporary folder");
    let run = testnet(&folder, &["--duration", "20s", "--kill", "5s", "--json"]).expect_code(0);
    let text = run.text();
    let summary: serde_json::Value = serde_json::from_str(&text).expect("one JSON document");
    assert_eq!(summary["good"], true, "{text}");
    let kill = &summary["kill"];
    assert_eq!(kill["validator"], 1, "{text}");
    let caught_up = kill["caught_up_us"].as_u64().expect("it caught up");
    let pause = kill["longest_pause_us"].as_u64().expect("it was measured");
    // Two view timeouts are two seconds; the rest is for a machine that does other things too.
    assert!(pause < 4_000_000, "the others paused for {pause} us\n{text}");
    let height = summary["common_height"].as_u64().expect("a height");
    for validator in summary["validators"].as_array().expect("a list") {
        assert!(validator["height"].as_u64().is_some_and(|own| own >= height), "{text}");
    }
    assert_eq!(summary["validators"].as_array().map(Vec::len), Some(4), "{text}");
    assert!(summary["history_root"].is_string(), "all agree: {text}");
    let told = summary["acknowledged"].as_u64().expect("a number");
    assert!(told > 3_000, "300/s for 20 s make 6,000, {told} were told final\n{text}");
    println!("caught up after {caught_up} us, longest pause {pause} us, {told} told final");
}

#[test]
fn the_summary_says_so_in_words() {
    let _machine = alone();
    let folder = TempDir::with_prefix("althing-tests-").expect("a temporary folder");
    let run = testnet(&folder, &["--duration", "17s", "--kill", "2s"]).expect_code(0);
    let text = run.text();
    let parts = [
        "validator 1 killed at",
        "started again at",
        "caught up",
        "all 4 agree after height",
        "transactions that a client was told are final: all in every ledger",
    ];
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let data = folder.path().join("network/validator-1/data");
    let verified = verify(PROGRAM, &data).expect_code(0);
    assert!(verified.text().contains("good: everything holds"), "{}", verified.text());
}
