//! Two reports side by side: faster, slower or no difference, and how sure that is.
//!
//! Rows are matched by name. A row with a baseline is judged by its ratio to that baseline, taken
//! in its own run, so that a machine that was busier in one of the runs does not cry wolf. The
//! baselines themselves are shown, and judged only when absolute figures are asked for. A row that
//! has no rival is always judged by its figures.

use crate::report::{Measure, Report, Row, RowState, table};
use crate::suite::Better;

/// Differences below this are none, however narrow the intervals are: two builds of one source
/// differ as much by where the linker puts things.
const CHANGE_MIN: f64 = 0.02;

/// What figures are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Ratios to the baseline of the same run, where a row has one.
    Ratio,
    /// The figures themselves: for comparing machines.
    Absolute,
}

/// One metric of one row in both reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The row's name.
    pub name: String,
    /// The metric's name.
    pub metric: String,
    /// How many times better the second report is, by the basis that was used.
    pub times: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the verdict counts: a baseline's does not, when ratios to it are judged.
    pub counts: bool,
    /// The lower of both intervals' confidences.
    pub confidence: f64,
}

/// What can be said of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The second report's interval lies on the better side of the first one's.
    Faster,
    /// It lies on the worse side.
    Slower,
    /// The intervals overlap, or the change is too small to matter.
    NoDifference,
    /// One side has no figure that can be believed.
    Unknown(String),
}

/// Compares every row of the first report with the row of that name in the second.
///
/// Shape: in the order of the first report; rows that only one of them has are left out.
pub fn compare(first: &Report, second: &Report, basis: Basis) -> Vec<Change> {
    let mut changes = Vec::new();
    for row in first.rows() {
        if let Some(other) = second.rows().find(|other| other.name == row.name) {
            let is_baseline = first.rows().any(|it| it.baseline.as_ref() == Some(&row.name));
            let counts = basis == Basis::Absolute || !is_baseline;
            compare_rows(row, other, basis, counts, &mut changes);
        }
    }
    changes
}

/// Whether anything that counts became slower.
pub fn is_slower(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.counts && change.verdict == Verdict::Slower)
}

/// Writes the changes as an aligned table.
pub fn render(changes: &[Change]) -> String {
    let mut lines = table::Table::default();
    for change in changes {
        let (verdict, note) = match &change.verdict {
            Verdict::Faster => ("faster", ""),
            Verdict::Slower => ("SLOWER", ""),
            Verdict::NoDifference => ("no difference", ""),
            Verdict::Unknown(reason) => ("unknown", reason.as_str()),
        };
        let confidence = match change.verdict {
            Verdict::Unknown(_) => String::new(),
            _ => format!("{:.0} %", change.confidence * 100.0),
        };
        lines.line([
            change.name.clone(),
            change.metric.clone(),
            change.times.map(|times| format!("{}x", table::number(times))).unwrap_or_default(),
            verdict.to_owned(),
            String::new(),
            confidence,
            if change.counts { String::new() } else { "baseline".to_owned() },
            note.to_owned(),
        ]);
    }
    lines.render()
}

fn compare_rows(first: &Row, second: &Row, basis: Basis, counts: bool, changes: &mut Vec<Change>) {
    let doubt = doubt(first, "first").or_else(|| doubt(second, "second"));
    for measure in &first.measures {
        let Some(other) = second.measure(&measure.metric) else {
            continue;
        };
        if measure.better == Better::Neither {
            continue;
        }
        let mut change = judge(measure, other, basis);
        change.name.clone_from(&first.name);
        change.counts = counts;
        if let Some(reason) = &doubt {
            change.verdict = Verdict::Unknown(reason.clone());
        }
        changes.push(change);
    }
}

/// Why a row's figures prove nothing, if so; noise only widens its interval.
fn doubt(row: &Row, which: &str) -> Option<String> {
    match row.state {
        RowState::Ok | RowState::Noisy => None,
        RowState::Invalid => Some(format!("the {which} is invalid")),
        RowState::Skipped => Some(format!("the {which} was skipped")),
        RowState::Failed => Some(format!("the {which} failed")),
    }
}

/// A figure with its interval, turned so that more is better.
struct Figure {
    median: f64,
    low: f64,
    high: f64,
    confidence: f64,
}

fn judge(first: &Measure, second: &Measure, basis: Basis) -> Change {
    let (first_figure, second_figure) = figures(first, second, basis);
    let times = second_figure.median / first_figure.median;
    let verdict = if !times.is_finite() {
        Verdict::Unknown("a figure is 0".to_owned())
    } else if second_figure.low > first_figure.high && times > 1.0 + CHANGE_MIN {
        Verdict::Faster
    } else if second_figure.high < first_figure.low && times < 1.0 / (1.0 + CHANGE_MIN) {
        Verdict::Slower
    } else {
        Verdict::NoDifference
    };
    Change {
        name: String::new(),
        metric: first.metric.clone(),
        times: times.is_finite().then_some(times),
        verdict,
        counts: true,
        confidence: first_figure.confidence.min(second_figure.confidence),
    }
}

fn figures(first: &Measure, second: &Measure, basis: Basis) -> (Figure, Figure) {
    match (basis, first.ratio, second.ratio) {
        (Basis::Ratio, Some(first), Some(second)) => {
            let figure = |ratio: crate::report::Ratio| Figure {
                median: ratio.median,
                low: ratio.low,
                high: ratio.high,
                confidence: ratio.confidence,
            };
            (figure(first), figure(second))
        }
        _ => (absolute(first), absolute(second)),
    }
}

fn absolute(measure: &Measure) -> Figure {
    let Measure { median, low, high, confidence, .. } = *measure;
    match measure.better {
        Better::Lower => {
            Figure { median: 1.0 / median, low: 1.0 / high, high: 1.0 / low, confidence }
        }
        Better::Higher | Better::Neither => Figure { median, low, high, confidence },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Ratio;
    use crate::report::tests::sample;

    /// A report whose second row has this time and this ratio to the first row.
    fn report(time: f64, ratio: f64) -> Report {
        let mut report = sample();
        let row = &mut report.suites[0].rows[1];
        row.state = RowState::Ok;
        let measure = &mut row.measures[0];
        (measure.median, measure.low, measure.high) = (time, time * 0.99, time * 1.01);
        measure.ratio =
            Some(Ratio { median: ratio, low: ratio * 0.99, high: ratio * 1.01, confidence: 0.96 });
        report
    }

    fn verdict(first: &Report, second: &Report, basis: Basis) -> Verdict {
        compare(first, second, basis)[1].verdict.clone()
    }

    #[test]
    fn ratios_of_the_own_run_decide_so_that_a_busy_machine_is_no_regression() {
        let first = report(10.0, 2.0);
        let busy = report(30.0, 2.0);
        assert_eq!(verdict(&first, &busy, Basis::Ratio), Verdict::NoDifference);
        assert_eq!(verdict(&first, &busy, Basis::Absolute), Verdict::Slower);
        assert!(!is_slower(&compare(&first, &busy, Basis::Ratio)));
        assert!(is_slower(&compare(&first, &busy, Basis::Absolute)));
    }

    #[test]
    fn a_change_must_be_sure_and_large_enough() {
        let first = report(10.0, 2.0);
        assert_eq!(verdict(&first, &report(10.0, 2.2), Basis::Ratio), Verdict::Faster);
        assert_eq!(verdict(&first, &report(10.0, 1.8), Basis::Ratio), Verdict::Slower);
        assert_eq!(verdict(&first, &report(10.0, 2.02), Basis::Ratio), Verdict::NoDifference);
        let mut narrow = report(10.0, 1.99);
        let ratio = narrow.suites[0].rows[1].measures[0].ratio.as_mut().unwrap();
        (ratio.low, ratio.high) = (1.989, 1.991);
        let mut first = first;
        let ratio = first.suites[0].rows[1].measures[0].ratio.as_mut().unwrap();
        (ratio.low, ratio.high) = (1.999, 2.001);
        assert_eq!(verdict(&first, &narrow, Basis::Ratio), Verdict::NoDifference);
    }

    #[test]
    fn baselines_are_shown_but_do_not_count_by_ratio() {
        let (first, mut second) = (report(10.0, 2.0), report(10.0, 2.0));
        let measure = &mut second.suites[0].rows[0].measures[0];
        (measure.median, measure.low, measure.high) = (9.0, 9.0, 9.0);
        measure.ratio = None;
        let changes = compare(&first, &second, Basis::Ratio);
        assert_eq!((&changes[0].verdict, changes[0].counts), (&Verdict::Slower, false));
        assert!(!is_slower(&changes));
        assert!(render(&changes).contains("baseline"));
    }

    #[test]
    fn a_row_without_rivals_is_judged_by_its_figures() {
        let (mut first, mut second) = (report(10.0, 2.0), report(10.0, 2.0));
        first.suites[0].rows.truncate(1);
        second.suites[0].rows.truncate(1);
        let measure = &mut second.suites[0].rows[0].measures[0];
        (measure.median, measure.low, measure.high) = (9.0, 9.0, 9.0);
        assert!(is_slower(&compare(&first, &second, Basis::Ratio)));
    }

    #[test]
    fn rows_without_believable_figures_are_unknown() {
        let first = report(10.0, 2.0);
        let states = [
            (RowState::Invalid, "the second is invalid"),
            (RowState::Skipped, "the second was skipped"),
            (RowState::Failed, "the second failed"),
        ];
        for (state, reason) in states {
            let mut second = report(10.0, 0.1);
            second.suites[0].rows[1].state = state;
            let expected = Verdict::Unknown(reason.to_owned());
            assert_eq!(verdict(&first, &second, Basis::Ratio), expected);
        }
        let zero = report(0.0, 0.0);
        assert!(matches!(verdict(&zero, &zero, Basis::Ratio), Verdict::Unknown(_)));
    }

    #[test]
    fn only_rows_of_both_reports_are_compared() {
        let (first, mut second) = (report(10.0, 2.0), report(10.0, 2.0));
        second.suites[0].rows.remove(0);
        assert_eq!(compare(&first, &second, Basis::Ratio).len(), 1);
    }

    #[test]
    fn the_table_says_what_was_found() {
        let changes = compare(&report(10.0, 2.0), &report(10.0, 1.0), Basis::Ratio);
        let text = render(&changes);
        assert!(text.contains("b::work/items=8"), "{text}");
        assert!(text.contains("0.500x"), "{text}");
        assert!(text.contains("SLOWER"), "{text}");
    }
}
