//! The line that a running test network prints every second.

use super::watch::View;
use crate::client::load::Snapshot;
use crate::command::load::per_second;
use crate::command::terminal::{Paint, duration, thousands};
use std::time::Duration;

/// Prints what happened in the last second.
pub(super) struct Live {
    with_load: bool,
    paint: Paint,
    lines: u64,
    /// Final transactions at the last line.
    transactions: u64,
}

impl Live {
    pub(super) const fn new(with_load: bool, paint: Paint) -> Self {
        Self { with_load, paint, lines: 0, transactions: 0 }
    }

    /// Returns the head of the columns.
    pub(super) fn head(&self) -> String {
        let latency =
            if self.with_load { format!("{:>9}  {:>9}  ", "p50", "p99") } else { String::new() };
        let (time, height, rate) = ("time", "height", "final tx/s");
        let head = format!("{time:>8}  {height:>9}  {rate:>10}  {latency}height of each validator");
        format!("{}\n", self.paint.dim(&head))
    }

    /// Returns whether another second has passed, where no load says so.
    pub(super) fn is_due(&self, elapsed: Duration) -> bool {
        elapsed.as_secs() > self.lines
    }

    /// Returns the line of a second.
    pub(super) fn line(
        &mut self,
        elapsed: Duration,
        snapshot: Option<&Snapshot>,
        views: &[View],
    ) -> String {
        self.lines += 1;
        let height = views.iter().map(|view| view.height).max().unwrap_or(0);
        let transactions = views.iter().map(|view| view.transactions).max().unwrap_or(0);
        let recent = transactions.saturating_sub(self.transactions);
        self.transactions = transactions.max(self.transactions);
        let rate = snapshot.map_or(recent, per_second);
        let mut line = format!(
            "{:>6} s  {:>9}  {:>10}  ",
            elapsed.as_secs(),
            thousands(height),
            thousands(rate)
        );
        if self.with_load {
            let latency = snapshot.and_then(|snapshot| snapshot.latency);
            let cell = |time: Option<Duration>| time.map_or("-".to_string(), duration);
            let (p50, p99) =
                (latency.map(|latency| latency.p50), latency.map(|latency| latency.p99));
            line.push_str(&format!("{:>9}  {:>9}  ", cell(p50), cell(p99)));
        }
        let cells = views.iter().map(|view| match (view.is_up, view.is_ready) {
            (false, _) => self.paint.bad("down"),
            (true, false) => self.paint.dim(&format!("{}~", thousands(view.height))),
            (true, true) => self.paint.good(&thousands(view.height)),
        });
        let cells: Vec<String> = cells.collect();
        line.push_str(&cells.join("  "));
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_heights_and_who_is_down() {
        let view = |is_up, height| View {
            is_up,
            is_ready: is_up,
            height,
            transactions: 10 * height,
            ..View::default()
        };
        let mut live = Live::new(false, Paint::PLAIN);
        assert!(!live.is_due(Duration::from_millis(999)));
        assert!(live.is_due(Duration::from_secs(1)));
        let line = live.line(Duration::from_secs(1), None, &[view(true, 1_200), view(false, 900)]);
        assert_eq!(line, "     1 s      1,200      12,000  1,200  down\n");
        let line = live.line(Duration::from_secs(2), None, &[view(true, 1_300), view(true, 1_299)]);
        assert_eq!(line, "     2 s      1,300       1,000  1,300  1,299\n");
        assert!(!live.head().contains("p99"));
        let mut live = Live::new(true, Paint::PLAIN);
        assert!(live.head().contains("p99"));
        let line = live.line(Duration::from_secs(1), None, &[]);
        assert_eq!(line.matches('-').count(), 2, "{line}");
    }
}
