//! Checks of whole runs of mixes, against validators that look at signatures and some that do not.

use super::*;
use crate::client::workload::{HotAuthors, parse};
use crate::command::terminal::Paint;

/// A ledger whose validators refuse wrong signatures.
pub(super) fn strict() -> Arc<Ledger> {
    let ledger = Arc::new(Ledger::default());
    ledger.books.lock().unwrap().is_strict = true;
    ledger
}

fn hostile(ledger: &Arc<Ledger>) -> Options {
    let mix = parse(include_str!("../../../../../mixes/hostile.toml")).unwrap();
    let workload = Workload { seed: 1, mix };
    Options { workload, ..options(&[validator(ledger), validator(ledger)]) }
}

fn check_hostile(report: &Report, finals: &HashSet<Digest>, ledger: &Ledger) {
    let (counts, kinds) = (&report.counts, report.counts.kinds);
    assert_eq!((counts.offered, counts.sent, counts.lost), (1_000, 1_000, 0));
    assert_eq!(counts.rejected_total(), 0);
    assert_eq!(kinds.invalid_refused, kinds.invalid);
    assert!((250..350).contains(&kinds.invalid), "{kinds:?}");
    assert!((150..250).contains(&kinds.duplicates), "{kinds:?}");
    assert_eq!(kinds.records + kinds.transfers + kinds.invalid, 1_000);
    assert_eq!(counts.finalized_total(), 1_000 - kinds.invalid);
    assert_eq!(*finals, ledger.known());
    assert_eq!(report.errors(), Vec::<String>::new());
}

#[test]
fn forgeries_are_refused_and_duplicates_are_final_once() {
    let ledger = strict();
    let (report, finals) = run_all(&hostile(&ledger));
    check_hostile(&report, &finals, &ledger);
    let text = report.table(Paint::PLAIN);
    for part in ["mix hostile, seed 1", "wrong signatures", "refused as asked", "sent to two"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("creating accounts") && !text.contains("ERROR"), "{text}");
    let (json, kinds) = (report.json(), report.counts.kinds);
    assert_eq!((&json["mix"], &json["size"]), (&"hostile".into(), &512.into()));
    assert_eq!(json["kinds"]["invalid_refused"], kinds.invalid);
    assert_eq!(json["kinds"]["duplicates"], kinds.duplicates);
    assert_eq!(json["errors"], serde_json::json!([]));
    assert_eq!(json["hot_authors"], serde_json::Value::Null);
}

#[test]
fn what_is_signed_before_the_start_is_the_same_mix() {
    let ledger = strict();
    // Few authors, so that each has several turns and some are refused.
    let options = Options { presigned: true, authors: 200, ..hostile(&ledger) };
    let (report, finals) = run_all(&options);
    check_hostile(&report, &finals, &ledger);
}

#[test]
fn a_validator_that_takes_forgeries_is_an_error_of_the_run() {
    let ledger = Arc::new(Ledger::default());
    let (report, _) = run_all(&hostile(&ledger));
    let kinds = report.counts.kinds;
    assert_eq!((kinds.invalid_taken, kinds.invalid_refused), (kinds.invalid, 0));
    let errors = report.errors();
    let expected = format!("{0} of {0} transactions with a wrong signature", kinds.invalid);
    assert!(errors.len() == 1 && errors[0].starts_with(&expected), "{errors:?}");
    assert!(report.table(Paint::PLAIN).contains(&format!("ERROR: {expected}")));
    assert_eq!(report.json()["errors"][0], errors[0]);
}

#[test]
fn hot_authors_and_new_accounts_are_reported() {
    let ledger = strict();
    let mut options = options(&[validator(&ledger)]);
    options.workload.mix = parse(include_str!("../../../../../mixes/transfers.toml")).unwrap();
    options.workload.mix.hot_authors =
        Some(HotAuthors { authors: Share::percent(10), transactions: Share::percent(20) });
    let (report, _) = run_all(&options);
    let (counts, kinds) = (&report.counts, report.counts.kinds);
    assert_eq!(counts.finalized_total(), 1_000);
    // Answers are there at once, so the hot ones are free nearly always.
    assert!((150..=200).contains(&kinds.by_hot_authors), "{kinds:?}");
    assert!((15..60).contains(&kinds.transfers_creating), "{kinds:?}");
    let text = report.table(Paint::PLAIN);
    assert!(
        text.contains("creating accounts") && text.contains("wanted 20%, 60 authors"),
        "{text}"
    );
    let json = report.json();
    assert_eq!(json["hot_authors"]["authors"], 60);
    assert_eq!(json["hot_authors"]["sent"], kinds.by_hot_authors);
    assert_eq!(json["size"], 537, "the mean");
}
