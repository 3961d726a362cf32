//! The suite against programs that stand in for the validator.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::suite::Scale;

const SUMMARY: &str = r#"{
  "version": 1, "good": true, "problems": [], "acknowledged": 100,
  "load": {
    "duration_us": 1000000, "offered": 100, "accepted": 100, "finalized": 100,
    "finalized_per_second": 100, "rejected": 0, "rejected_by_reason": {}, "lost": 0,
    "latency_accepted": {"p50_us": 1, "p99_us": 2, "p99_9_us": 3, "max_us": 4},
    "latency_final": {"p50_us": 1, "p99_us": 2, "p99_9_us": 3, "max_us": 4},
    "valid": true, "bottleneck": null, "invalid_because": null
  }
}"#;

/// A folder with a script in place of the validator.
fn stand_in(script: &str) -> (tempfile::TempDir, Settings) {
    let folder = tempfile::tempdir().unwrap();
    let validator = folder.path().join("validator");
    fs::write(&validator, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&validator, fs::Permissions::from_mode(0o700)).unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let settings = Settings { scale: Scale::Smoke, rounds: None, seed: 3, data, validator };
    (folder, settings)
}

fn contender(settings: &Settings) -> Box<dyn Contender> {
    let plan = Cluster.plan(settings).unwrap().pop().unwrap();
    assert_eq!(plan.parameters[1], ("load", "200".to_owned()));
    (plan.open)().unwrap().contenders.pop().unwrap()
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn without_the_binary_the_suite_is_skipped_with_what_to_do() {
    let (_folder, mut settings) = stand_in("true");
    settings.validator = settings.data.join("absent");
    let reason = Cluster.plan(&settings).map(|_| ()).unwrap_err();
    assert!(reason.contains("build it with cargo build --release"), "{reason}");
}

#[test]
fn a_round_is_the_summary_and_the_time_of_the_children() {
    // Four children that work for a while, and the arguments written where they are seen.
    let script = format!(
        "[ \"$2\" = --help ] && exit 0
         echo \"$@\" > \"$(dirname \"$0\")/arguments\"
         work() {{ count=0; while [ $count -lt 400000 ]; do count=$((count + 1)); done; }}
         work & work & work & work & wait
         cat <<'END'\n{SUMMARY}\nEND"
    );
    let (folder, settings) = stand_in(&script);
    let mut contender = contender(&settings);
    contender.check().unwrap();
    contender.warm_up().unwrap();
    let round = contender.round().unwrap();
    let value =
        |name: &str| round.values[METRICS.iter().position(|metric| metric.name == name).unwrap()];
    assert_eq!(value("finalized_rate"), 100.0);
    assert!(value("cpu_us_per_validator") > 0.0, "{round:?}");
    let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
    let expected = "testnet --validators 4 --load 200 --size 512 --authors 65536 --duration 1s --seed 3 --presign \
         --json --data /";
    assert!(arguments.starts_with(expected), "{arguments}");
    assert_eq!(count(&settings.data), 0, "the network's folder is gone");
}

#[test]
fn a_network_without_a_summary_fails_with_its_last_words() {
    let (_folder, settings) = stand_in("echo port in use >&2; exit 7");
    let failure = contender(&settings).round().unwrap_err();
    assert!(matches!(failure, Failure::Machine(_)));
    assert!(failure.to_string().contains("port in use"), "{failure}");
    assert_eq!(count(&settings.data), 0);
}

#[test]
fn full_runs_rise_to_the_rate_that_is_promised_and_beyond() {
    let (_folder, mut settings) = stand_in("true");
    settings.scale = Scale::Full;
    let plans = Cluster.plan(&settings).unwrap();
    let rates: Vec<u32> = plans.iter().map(|plan| plan.parameters[1].1.parse().unwrap()).collect();
    assert!(rates.is_sorted());
    assert_eq!(rates.last_chunk(), Some(&[60_000, 90_000]));
}
