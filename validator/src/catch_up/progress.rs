//! How far it is: a line that is written over on a terminal, otherwise a line a minute.

use crate::command::terminal::{StatusLine, per_second, thousands};
use std::time::{Duration, Instant};

/// Time between two lines of a log.
const LOG: Duration = Duration::from_secs(60);
/// Time between two looks of a terminal's line.
const LOOK: Duration = Duration::from_millis(250);
/// Columns of the bar.
const BAR: u64 = 30;

/// Shows how far it is.
pub(super) struct Progress {
    from: u64,
    start: Instant,
    next: Instant,
    line: Option<StatusLine>,
    transactions: u64,
}

impl Progress {
    pub(super) fn new(from: u64, newest: u64) -> Self {
        let now = Instant::now();
        let line = StatusLine::stderr();
        let next = if line.is_some() { now } else { now + LOG };
        tracing::debug!(from, newest, "catching up");
        Self { from, start: now, next, line, transactions: 0 }
    }

    /// It has come this far.
    pub(super) fn show(&mut self, height: u64, newest: u64, transactions: u64) {
        self.transactions = transactions;
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let elapsed = self.start.elapsed();
        let left = left(elapsed, height - self.from, newest.saturating_sub(height));
        let rate = per_second(transactions, elapsed);
        match &mut self.line {
            Some(line) => {
                self.next = now + LOOK;
                line.write(&format!(
                    "catching up {} {} of {} blocks  {} transactions/s  {} left",
                    bar(height - self.from, newest.max(height) - self.from),
                    thousands(height),
                    thousands(newest),
                    thousands(rate),
                    left.map_or_else(|| "?".to_owned(), |left| format!("{} s", left.as_secs())),
                ));
            }
            None => {
                self.next = now + LOG;
                let left_s = left.map_or(0, |left| left.as_secs());
                tracing::info!(height, newest, rate, left_s, "catching up");
            }
        }
    }

    /// It has ended at this height.
    pub(super) fn end(&mut self, height: u64) {
        if let Some(line) = &mut self.line {
            line.clear();
        }
        let elapsed = self.start.elapsed();
        tracing::info!(
            height,
            blocks = height - self.from,
            transactions = self.transactions,
            rate = per_second(self.transactions, elapsed),
            time_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "caught up"
        );
    }
}

/// The time left at the pace so far; none before there is any.
fn left(elapsed: Duration, done: u64, left: u64) -> Option<Duration> {
    let millis = elapsed.as_millis() * u128::from(left);
    let millis = millis.checked_div(u128::from(done))?;
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

fn bar(done: u64, all: u64) -> String {
    let filled = (done.min(all) * BAR).checked_div(all).unwrap_or(BAR);
    let columns = (0..BAR).map(|column| if column < filled { '#' } else { '.' });
    format!("[{}]", columns.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_the_pace() {
        let second = Duration::from_secs(1);
        assert_eq!(left(second, 0, 10), None);
        assert_eq!(left(second, 10, 100), Some(10 * second));
        assert_eq!(left(second, 10, 0), Some(Duration::ZERO));
    }

    #[test]
    fn the_bar_fills() {
        assert_eq!(bar(0, 0), format!("[{}]", "#".repeat(30)));
        assert_eq!(bar(0, 9), format!("[{}]", ".".repeat(30)));
        assert_eq!(bar(1, 2), format!("[{}{}]", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(9, 9), format!("[{}]", "#".repeat(30)));
    }
}
