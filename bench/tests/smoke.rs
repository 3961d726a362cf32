//! The whole instrument on the smallest inputs: every suite, the written report, its comparison.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use bench::comparison::{self, Basis, Verdict};
use bench::report::{Report, RowState, SuiteState, table};
use bench::runner::Session;
use bench::suite::{SUITES, Scale, Settings};

fn run(data: &Path) -> Report {
    let settings = Settings {
        scale: Scale::Smoke,
        rounds: None,
        seed: 1,
        data: data.to_owned(),
        validator: data.join("absent"),
        unverified: None,
    };
    let stop = AtomicBool::new(false);
    let mut turns = 0;
    let report = Session {
        settings: &settings,
        command: vec!["bench".to_owned()],
        stop: &stop,
        progress: &mut |_| turns += 1,
    }
    .run(&SUITES);
    assert!(turns > 50, "whoever watches is told");
    report
}

#[test]
fn all_suites_run_or_say_why_not_and_the_report_is_kept_whole() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(folder.path());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");

    let states: Vec<_> = report.suites.iter().map(|suite| (&suite.name[..], suite.state)).collect();
    // It needs privileges and tools, and says which.
    let net = report.suites[2].state;
    let expected = [
        ("sigverify", SuiteState::Run),
        ("hash", SuiteState::Run),
        ("net", net),
        ("storage", SuiteState::Run),
        ("pipeline", SuiteState::Skipped),
        ("restart", SuiteState::Skipped),
        ("cluster", SuiteState::Skipped),
    ];
    assert_eq!(states, expected);
    assert!(report.is_sound(), "{}", table::render(&report));
    let mut names: Vec<_> = report.rows().map(|row| &row.name).collect();
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "names are unique");
    for row in report.rows() {
        let is_measured = matches!(row.state, RowState::Ok | RowState::Noisy);
        assert_eq!(is_measured, !row.measures.is_empty(), "{}", row.name);
        assert!(is_measured || row.reason.is_some(), "{}", row.name);
        let is_compared = row.baseline.is_some() && is_measured;
        // The first measure is the one that all of a group have.
        let first = row.measures.first();
        assert_eq!(first.is_some_and(|measure| measure.ratio.is_some()), is_compared);
    }

    let path = folder.path().join("result.json");
    report.write(&path).unwrap();
    assert!(Report::read(&path).unwrap() == report, "what is read is what was written");

    let changes = comparison::compare(&report, &report, Basis::Ratio);
    assert!(!changes.is_empty());
    assert!(changes.iter().all(|change| change.verdict == Verdict::NoDifference));
}

/// Runs the program itself; returns its exit code and what it printed.
fn bench(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("cargo builds the program for its tests");
    let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_ends_as_scripts_expect() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = bench(folder.path(), &["list"]);
    assert_eq!((code, out.lines().count()), (Some(0), 7), "{out}");
    let (code, _, error) = bench(folder.path(), &["run", "nonsense"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("unknown suite `nonsense`"), "{error}");
    let (code, _, error) = bench(folder.path(), &["run", "cluster", "--json", "no/such/file"]);
    assert_eq!(code, Some(2), "found out before the work");
    assert!(error.contains("no/such/file"), "{error}");

    let arguments = ["run", "cluster", "--quick", "--validator", "absent", "--json", "a.json"];
    let (code, out, error) = bench(folder.path(), &arguments);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("cluster (0.0 s) skipped: no validator at absent"), "{out}");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a.json"], "the fresh data folder is gone");

    let (code, _, error) = bench(folder.path(), &["compare", "a.json", "a.json"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("no row in common"), "{error}");
}
