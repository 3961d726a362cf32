//! What a run of the pipeline has shown: rate, and processor time by stage.

use crate::command::terminal::{Paint, Side, Table, thousands};
use crate::cost::{self, Cost};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The counters at one time.
pub(super) struct Mark {
    at: Instant,
    pub(super) told_final: usize,
    process: u64,
    own: u64,
    stages: [u64; Cost::ALL.len()],
}

impl Mark {
    /// Reads them, on the thread that hands in: its time is not the node's.
    pub(super) fn now(told_final: usize) -> Self {
        cost::look();
        Self {
            at: Instant::now(),
            told_final,
            process: cost::process_time(),
            own: cost::thread_time(),
            stages: Cost::ALL.map(cost::spent),
        }
    }
}

/// The result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measured {
    /// All transactions that the node said are final, warm-up and end included.
    pub(super) told_final: u64,
    /// Those of the time that was measured, and that time.
    measured: u64,
    elapsed: Duration,
    /// Microseconds per transaction, by stage, dearest first; of the node; of handing in.
    stages: Vec<(&'static str, f64)>,
    node: f64,
    feed: f64,
}

impl Measured {
    /// Takes the difference.
    pub(super) fn between(first: &Mark, last: &Mark, told_final: u64) -> Self {
        let measured = last.told_final.saturating_sub(first.told_final);
        let per_transaction = |from: u64, to: u64| {
            Duration::from_nanos(to.saturating_sub(from)).as_secs_f64() * 1e6 / measured as f64
        };
        let feed = per_transaction(first.own, last.own);
        let costs =
            first.stages.iter().zip(last.stages).map(|(from, to)| per_transaction(*from, to));
        let mut stages: Vec<_> = Cost::ALL.map(Cost::as_str).into_iter().zip(costs).collect();
        stages.sort_by(|one, other| other.1.total_cmp(&one.1));
        Self {
            told_final,
            measured: u64::try_from(measured).unwrap_or(u64::MAX),
            elapsed: last.at - first.at,
            stages,
            node: per_transaction(first.process, last.process) - feed,
            feed,
        }
    }

    fn whole_rate(&self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.measured) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }

    fn rate(&self) -> f64 {
        self.measured as f64 / self.elapsed.as_secs_f64()
    }

    /// The share of the node's time that its stages explain.
    fn explained(&self) -> f64 {
        self.stages.iter().map(|(_, cost)| cost).sum::<f64>() / self.node
    }

    /// For people.
    pub(super) fn table(&self, paint: Paint) -> String {
        let mut table = Table::new(&[Side::Left, Side::Right, Side::Right]).indent(2);
        for (stage, cost) in &self.stages {
            let share = cost / self.node * 100.0;
            table.row([(*stage).to_owned(), format!("{cost:.2} us"), format!("{share:.1}%")]);
        }
        let explained = format!("{:.1}% explained", self.explained() * 100.0);
        table.row(["all".into(), format!("{:.2} us", self.node), explained]);
        format!(
            "{} {} tx/s verified, executed and durable: {} in {:.2} s\n\
             {} of processor time for each transaction; handing in, {:.2} us, is not counted\n{}",
            paint.bold("rate"),
            thousands(self.whole_rate()),
            thousands(self.measured),
            self.elapsed.as_secs_f64(),
            paint.bold("cost"),
            self.feed,
            table.render()
        )
    }

    /// For programs.
    pub(super) fn json(&self) -> serde_json::Value {
        let stages: BTreeMap<_, _> = self.stages.iter().copied().collect();
        json!({
            "version": 1,
            "final": self.told_final,
            "measured": self.measured,
            "elapsed_us": u64::try_from(self.elapsed.as_micros()).unwrap_or(u64::MAX),
            "finalized_per_second": self.rate(),
            "us_per_transaction": stages,
            "us_per_transaction_all": self.node,
            "us_per_transaction_feed": self.feed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_between_the_marks() {
        let at = Instant::now();
        let mark = |seconds, told_final, process, own| {
            let stages = Cost::ALL.map(|cost| (cost == Cost::Verify).then_some(process / 2));
            let stages = stages.map(Option::unwrap_or_default);
            Mark { at: at + Duration::from_secs(seconds), told_final, process, own, stages }
        };
        let first = mark(1, 100, 1_000_000, 500_000);
        let last = mark(3, 1_100, 9_000_000, 2_500_000);
        let measured = Measured::between(&first, &last, 1_200);
        assert_eq!(measured.rate(), 500.0);
        assert_eq!(measured.stages[0], ("verify", 4.0));
        assert_eq!((measured.node, measured.feed), (6.0, 2.0));
        assert!((measured.explained() - 4.0 / 6.0).abs() < 1e-9);
        let table = measured.table(Paint::PLAIN);
        for part in ["500 tx/s", "1,000 in 2.00 s", "4.00 us", "66.7% explained"] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        let json = measured.json();
        assert_eq!((&json["final"], &json["measured"]), (&json!(1_200), &json!(1_000)));
        assert_eq!(json["us_per_transaction"]["verify"], 4.0);
    }
}
