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
    "finalized_per_second": 100, "rejected": 0, "rejected_by_reason": {}, "held_back": 0, "lost": 0,
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
    let settings =
        Settings { scale: Scale::Smoke, rounds: None, seed: 3, data, validator, unverified: None };
    (folder, settings)
}

fn contender(settings: &Settings) -> Box<dyn Contender> {
    let plan = Cluster.plan(settings).unwrap().swap_remove(0);
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
    let expected = "testnet --presign --validators 4 --load 200 --size 512 --authors 65536 --duration 1s \
                    --seed 3 --data /";
    assert!(arguments.starts_with(expected) && arguments.ends_with("--json\n"), "{arguments}");
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
    let loads: Vec<&str> = plans.iter().map(|plan| &plan.parameters[1].1[..]).collect();
    let rates: Vec<u32> = loads.iter().map_while(|load| load.parse().ok()).collect();
    let knee = ["knee", "2 x knee", "5 x knee", "knee, one killed", "0.8 x knee"];
    assert_eq!(loads[rates.len()..], knee);
    assert!(rates.is_sorted());
    assert_eq!(rates.last_chunk(), Some(&[60_000, 90_000]));
}

/// A network that finalizes at most 250 a second, whatever it is offered.
const LIMITED: &str = r#"[ "$2" = --help ] && exit 0
while [ $# -gt 0 ]; do
  case "$1" in --load) rate=$2;; --kill) kill=$2;; --duration) duration=${2%s};; esac
  shift
done
final=$rate; [ $final -gt 250 ] && final=250
killed=null
[ -n "$kill" ] && killed='{"killed_us":1000000,"restarted_us":3000000,"caught_up_us":5000000,"longest_pause_us":7000}'
cat <<END
{ "version": 1, "good": true, "problems": [], "acknowledged": $final, "kill": $killed,
  "costs": { "us_per_transaction_all": 7, "resident_bytes_max": 1, "memory_budget_bytes": 2, "course": [
    {"ms": 1000, "finalized_per_second": 200, "resident_bytes": 10},
    {"ms": 2000, "finalized_per_second": 190, "resident_bytes": 10},
    {"ms": 3000, "finalized_per_second": 180, "resident_bytes": 12}]},
  "load": {
    "duration_us": ${duration}000000, "offered": $rate, "accepted": $final, "finalized": $final,
    "finalized_per_second": $final, "rejected": 0, "rejected_by_reason": {}, "held_back": 0, "lost": 0,
    "latency_accepted": {"p50_us": 1, "p99_us": 2, "p99_9_us": 3, "max_us": 4},
    "latency_final": {"p50_us": 1, "p99_us": 2, "p99_9_us": 3, "max_us": 4},
    "valid": true, "bottleneck": null, "invalid_because": null } }
END"#;

#[test]
fn the_knee_is_where_more_is_offered_than_finalized_and_the_rest_is_measured_against_it() {
    let (_folder, settings) = stand_in(LIMITED);
    let mut plans = Cluster.plan(&settings).unwrap().split_off(1).into_iter();
    let mut open = || (plans.next().unwrap().open)().unwrap().contenders.pop().unwrap();
    let (mut knee, mut twice) = (open(), open());
    // Without a knee there is nothing to be measured against.
    assert!(matches!(twice.check(), Err(Failure::Skipped(_))));
    knee.check().unwrap();
    let round = knee.round().unwrap();
    // 200, 230, 264: the third is more than it finalizes.
    assert_eq!((round.values[0], round.note.as_deref()), (250.0, Some("offered 264 a second")));
    twice.check().unwrap();
    let value = |contender: &dyn Contender, round: &Round, name: &str| {
        round.values[contender.metrics().iter().position(|one| one.name == name).unwrap()]
    };
    let round = twice.round().unwrap();
    assert_eq!(round.values.len(), twice.metrics().len());
    assert_eq!(
        (value(&*twice, &round, "offered"), value(&*twice, &round, "of_knee")),
        (500.0, 100.0)
    );
    let (_five, mut killed, mut long) = (open(), open(), open());
    let round = killed.round().unwrap();
    assert_eq!(round.values.len(), killed.metrics().len());
    assert_eq!(value(&*killed, &round, "kept_while_away"), 185.0 / 200.0 * 100.0);
    assert_eq!(
        (value(&*killed, &round, "pause"), value(&*killed, &round, "caught_up")),
        (7.0, 5.0)
    );
    let round = long.round().unwrap();
    assert_eq!(round.values.len(), long.metrics().len());
    assert_eq!(value(&*long, &round, "rate_last_of_first_third"), 90.0);
    assert_eq!(value(&*long, &round, "resident_last_of_first_third"), 120.0);
    assert_eq!(round.note.as_deref(), Some("transactions of 512 bytes"));
}
