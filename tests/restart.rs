//! What goes wrong: validators are killed and come back by themselves, from what their disks still say.

use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;
use tests::{
    cluster::{Cluster, alone, verify},
    load::{Load, Offer},
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

/// Heights after which some state was saved ten seconds ago and is followed by what a start replays.
const HEIGHT: u64 = 900;
/// Time for them, on a machine that does other things too.
const HEIGHTS: Duration = Duration::from_secs(240);

/// From which saved height a validator's last start went on.
fn recovered_from(cluster: &Cluster, index: usize) -> u64 {
    let log = cluster.log(index);
    let line = log.lines().rfind(|line| line.contains("recovered")).expect("each start says so");
    let (_, from) = line.split_once("from").expect("it says from where");
    let digits = from.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().expect("a height")
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("a file of the validator");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("a file of the validator");
}

#[test]
fn a_start_goes_on_from_the_saved_state_and_from_genesis_when_that_is_damaged() {
    let _machine = alone();
    let mut cluster = Cluster::create(PROGRAM, 800);
    cluster.start_all();
    cluster.wait_ready();
    let load =
        Load::start(&cluster, Offer { rate: 400, size: 300, drain: Duration::from_secs(20) });
    load.wait_for(200, HEIGHTS);
    let early = load.told()[100];
    cluster.wait_height(HEIGHT, HEIGHTS);
    let (_, told) = load.stop();
    cluster.kill_all();
    for damaged in [false, true] {
        if damaged {
            for entry in fs::read_dir(cluster.data(0).join("state")).expect("states are saved") {
                let file = entry.expect("an entry").path();
                let size = fs::read(&file).expect("a file").len();
                flip(&file, size / 2);
            }
        }
        cluster.start_all();
        cluster.wait_ready();
        for index in 0..cluster.size() {
            let from = recovered_from(&cluster, index);
            assert_eq!(from == 0, damaged && index == 0, "validator {index} went on from {from}");
            // What was final before the saved state is still told, with all that it holds.
            let mut api = cluster.api(index);
            for known in [&early, told.last().expect("many are told")] {
                let found = api.transaction(&known.id).expect("an answer").expect("it is known");
                let place = found.place.expect("it is final");
                assert_eq!(place.height, known.height.get(), "validator {index}");
                let (height, from) = (known.height, recovered_from(&cluster, index));
                let is_there = found.content.is_some();
                assert!(is_there, "validator {index} from {from} has none of height {height}");
            }
        }
        // They agree on what follows, so they agree on the state that they went on from.
        let heights = cluster.views().into_iter().flatten().map(|view| view.height);
        let newest = heights.max().expect("four of them");
        cluster.wait_height(newest + 10, HEIGHTS);
        if damaged {
            cluster.stop_all();
        } else {
            cluster.kill_all();
        }
    }
    cluster.verify(0).expect_code(0);
}

#[test]
fn a_damaged_log_of_votes_is_one_line_and_no_vote() {
    let _machine = alone();
    let mut cluster = Cluster::create(PROGRAM, 10);
    cluster.start_all();
    cluster.wait_ready();
    cluster.wait_height(5, HEIGHTS);
    cluster.stop_all();
    let folder = cluster.data(2).join("consensus").join("althing-log");
    for name in ["30", "31"] {
        let file = folder.join(name);
        let bytes = fs::read(&file).expect("both halves of the log are there");
        let end = bytes.iter().rposition(|byte| *byte != 0);
        // In the middle of what was written: what follows it is whole, so it is no torn end.
        if let Some(end) = end {
            flip(&file, end / 2);
        }
    }
    let ended = finish(&mut cluster.start_command(2, &[PROGRAM]), LIMIT).expect_code(5);
    let lines: Vec<&str> =
        ended.stderr.lines().filter(|line| line.starts_with("validator:")).collect();
    assert_eq!(lines.len(), 1, "{}", ended.stderr);
    assert!(lines[0].contains("the engine's votes"), "{}", lines[0]);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
