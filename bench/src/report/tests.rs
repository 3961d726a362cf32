//! A report with a value in every place, and what becomes of it on the way to a file and back.

use super::*;
use crate::hardware::{Build, Cpu, Disk};

/// A row with two rounds of one metric.
pub(crate) fn row(name: &str, baseline: Option<&str>, samples: [f64; 2], ratio: f64) -> Row {
    let metric = Metric { name: "time_us", unit: "us", better: Better::Lower };
    let mut measure = Measure::new(&metric, samples.to_vec());
    measure.ratio =
        baseline.map(|_| Ratio { median: ratio, low: ratio, high: ratio, confidence: 0.5 });
    let label = Label::new(name).with("items", "8");
    let mut row = Row::empty(&Vec::new(), &label, RowState::Ok);
    row.baseline = baseline.map(ToOwned::to_owned);
    row.rounds = 2;
    row.measures = vec![measure];
    row
}

/// A report with a value in every place, at least in one of its rows.
pub(crate) fn sample() -> Report {
    let text = |text: &str| Some(text.to_owned());
    let mut invalid = row("b::work", Some("a::work/items=8"), [2.0, 4.0], 0.5);
    invalid.state = RowState::Invalid;
    invalid.reason = text("sent 9 of 10 in time");
    invalid.bottleneck = text("generator");
    invalid.notes = vec!["rejected: 3 busy".to_owned()];
    Report {
        schema: SCHEMA.to_owned(),
        schema_version: SCHEMA_VERSION,
        started: "2026-11-23T14:05:00Z".to_owned(),
        started_unix_s: 1_795_442_700,
        elapsed_s: 1.5,
        command: vec!["bench".to_owned(), "run".to_owned()],
        options: Options {
            scale: "smoke".to_owned(),
            rounds: Some(2),
            seed: u64::MAX,
            validator: "target/release/validator".to_owned(),
        },
        machine: Machine {
            fingerprint: "0123456789abcdef".to_owned(),
            cpu: Cpu {
                model: text("Test CPU"),
                features: vec!["avx2".to_owned()],
                microcode: text("0x1"),
                logical: 2,
                usable: 2,
                smt: Some(false),
                numa_nodes: Some(1),
                governor: text("performance"),
                turbo: Some(true),
                frequency_max_mhz: Some(3_000),
                caches: vec!["L1 data 32K".to_owned()],
                virtualized: Some(true),
            },
            mitigations: [("meltdown".to_owned(), "Not affected".to_owned())].into(),
            memory_bytes: Some(1 << 34),
            memory_available_bytes: Some(1 << 33),
            kernel: text("6.18.0"),
            os: text("Test OS"),
            load_average: Some(0.25),
            disk: Disk {
                path: "/data".to_owned(),
                mount: text("/"),
                file_system: text("ext4"),
                device: text("/dev/vda"),
                options: text("rw"),
                free_bytes: Some(1 << 40),
                model: text("disk"),
                rotational: Some(false),
                sync_us_p50: Some(400.0),
                sync_us_p99: Some(900.0),
            },
            build: Build {
                version: "0.1.0".to_owned(),
                commit: text("0bfb901"),
                modified: Some(false),
                rustc: "rustc 1.95.0".to_owned(),
                profile: "release".to_owned(),
                opt_level: "3".to_owned(),
                target: "x86_64-unknown-linux-gnu".to_owned(),
                rustflags: String::new(),
                rivals: false,
            },
        },
        warnings: vec!["other work was running".to_owned()],
        suites: vec![SuiteReport {
            name: "work".to_owned(),
            state: SuiteState::Interrupted,
            reason: text("stopped after 1 of 2 groups"),
            elapsed_s: 1.0,
            steal_ratio: Some(0.0),
            rows: vec![row("a::work", None, [1.0, 2.0], 1.0), invalid],
        }],
    }
}

#[test]
fn a_written_report_is_read_back_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.json");
    let report = sample();
    report.write(&path).unwrap();
    assert_eq!(Report::read(&path).unwrap(), report);
}

#[test]
fn what_is_no_report_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.json");
    let absent = Report::read(&path).unwrap_err();
    assert!(matches!(absent, Error::File { action: "read", .. }), "{absent}");
    fs::write(&path, "{").unwrap();
    let broken = Report::read(&path).unwrap_err();
    assert!(matches!(broken, Error::Shape { .. }), "{broken}");
    fs::write(&path, "{\"schema\": \"other\"}").unwrap();
    let other = Report::read(&path).unwrap_err();
    assert!(matches!(other, Error::Schema { .. }), "{other}");
    assert!(other.to_string().contains("result.json"), "{other}");
    let unwritable = sample().write(&folder.path().join("no/such/folder")).unwrap_err();
    assert!(matches!(unwritable, Error::File { action: "write", .. }), "{unwritable}");
}

#[test]
fn another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.json");
    let mut report = sample();
    report.schema_version = 2;
    fs::write(&path, serde_json::to_string(&report).unwrap()).unwrap();
    let other = Report::read(&path).unwrap_err();
    assert!(other.to_string().contains("version 2"), "{other}");
}

#[test]
fn invalid_failed_and_interrupted_reports_are_not_sound() {
    let mut report = sample();
    assert!(!report.is_sound());
    report.suites[0].state = SuiteState::Run;
    assert!(!report.is_sound(), "a row is invalid");
    for (state, sound) in [
        (RowState::Ok, true),
        (RowState::Noisy, true),
        (RowState::Skipped, true),
        (RowState::Invalid, false),
        (RowState::Failed, false),
    ] {
        report.suites[0].rows[1].state = state;
        assert_eq!(report.is_sound(), sound, "{state:?}");
    }
}

#[test]
fn names_of_rows_are_operation_and_parameters() {
    let shared = vec![("items", "8".to_owned()), ("keys", "64".to_owned())];
    let label = Label::new("sigverify::verify_many").with("backend", "portable");
    let row = Row::empty(&shared, &label, RowState::Ok);
    assert_eq!(row.name, "sigverify::verify_many/items=8 keys=64 backend=portable");
    assert_eq!(row.parameters["backend"], "portable");
    assert_eq!(Row::empty(&Vec::new(), &Label::new("a::b"), RowState::Ok).name, "a::b");
}

#[test]
fn ratios_follow_the_direction_of_the_metric() {
    let measure = |better, samples: [f64; 2]| {
        let metric = Metric { name: "rate", unit: "x", better };
        Measure::new(&metric, samples.to_vec())
    };
    for (better, expected) in
        [(Better::Lower, Some(0.5)), (Better::Higher, Some(2.0)), (Better::Neither, None)]
    {
        let mut subject = measure(better, [4.0, 8.0]);
        subject.compare(&measure(better, [2.0, 4.0]));
        assert_eq!(subject.ratio.map(|ratio| ratio.median), expected);
    }
}
