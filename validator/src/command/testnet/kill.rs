//! A validator that is killed under load and started again: when, and when it had caught up.

use super::watch::View;
use crate::command::terminal;
use std::time::{Duration, Instant};

/// So long before the kill the load is steady.
const STEADY: Duration = Duration::from_secs(10);
const HALF: Duration = Duration::from_millis(500);

/// A validator that was killed and started again. Times count from the start of the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kill {
    /// Which one.
    pub(super) validator: usize,
    /// When it was killed.
    pub(super) killed: Duration,
    /// When it was started again.
    pub(super) restarted: Option<Duration>,
    /// How long it then took to be where the others were.
    pub(super) caught_up: Option<Duration>,
    /// The longest time for which the others had no news of finality since the kill.
    pub(super) longest_pause: Duration,
    /// Whether its ledger and journal were removed.
    pub(super) is_wiped: bool,
    /// How many transactions there were when it had caught up.
    pub(super) transactions: u64,
    /// 99th percentiles of the clients' latencies, medians of seconds: before the kill, and while it caught up.
    pub(super) p99: Option<(Duration, Duration)>,
    /// Where the others were last, and when that was known.
    goal: Option<(Instant, u64)>,
    /// When it was started again, by this machine's clock.
    started: Option<Instant>,
}

impl Kill {
    pub(super) fn new(validator: usize, killed: Duration, is_wiped: bool) -> Self {
        Self {
            validator,
            killed,
            restarted: None,
            caught_up: None,
            longest_pause: Duration::ZERO,
            is_wiped,
            transactions: 0,
            p99: None,
            goal: None,
            started: None,
        }
    }

    /// It was started again.
    pub(super) fn restart(&mut self, elapsed: Duration, now: Instant) {
        (self.restarted, self.started) = (Some(elapsed), Some(now));
    }

    /// How many transactions a second it has taken in again, if it had lost them all.
    pub(super) fn per_second(&self) -> Option<u64> {
        let time = self.caught_up.filter(|_| self.is_wiped)?;
        Some(terminal::per_second(self.transactions, time))
    }

    /// Whether it runs again and is not yet where the others are.
    pub(super) fn is_catching_up(&self) -> bool {
        self.restarted.is_some() && self.caught_up.is_none()
    }

    /// Looks whether it is where the others were a look before.
    ///
    /// The validators are not looked at in the same moment, and the height moves tens of times a second: of two
    /// that are equally far, one seems behind. So it is measured by a height that the others had before it was
    /// asked.
    pub(super) fn look(&mut self, views: &[View], now: Instant) {
        if !self.is_catching_up() {
            return;
        }
        let own = &views[self.validator];
        let is_asked_since = |(since, _): &(Instant, u64)| own.asked.is_some_and(|at| at >= *since);
        if let Some((_, height)) = self.goal.filter(is_asked_since) {
            // One that lost everything takes no transactions before the next epoch, but keeps up.
            let is_there = own.is_ready || (self.is_wiped && own.is_up);
            if is_there && own.height >= height {
                self.transactions = own.transactions;
                self.catch_up(now);
            }
            self.goal = None;
        }
        if self.goal.is_none() {
            let others = views.iter().enumerate().filter(|(index, _)| *index != self.validator);
            self.goal = others.map(|(_, view)| view.height).max().map(|height| (now, height));
        }
    }

    /// What clients felt of it: the seconds of a load, each with the 99th percentile of its latencies.
    pub(super) fn with_latencies(mut self, seconds: &[(Duration, Duration)]) -> Self {
        let between = |from: Duration, until: Duration| {
            let mut found: Vec<Duration> = seconds
                .iter()
                // A second belongs to where most of it lies.
                .filter(|(end, _)| *end >= from + HALF && *end < until + HALF)
                .map(|(_, p99)| *p99)
                .collect();
            found.sort_unstable();
            found.get(found.len() / 2).copied()
        };
        let before = between(self.killed.saturating_sub(STEADY), self.killed);
        let back = self.restarted.zip(self.caught_up).map(|(from, time)| (from, from + time));
        let during = back.and_then(|(from, until)| between(from, until));
        self.p99 = before.zip(during);
        self
    }

    /// It is where the others are.
    pub(super) fn catch_up(&mut self, now: Instant) {
        if self.is_catching_up() {
            self.caught_up = self.started.map(|started| now.saturating_duration_since(started));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(asked: Instant, heights: [u64; 4]) -> Vec<View> {
        let view = |height| View {
            asked: Some(asked),
            is_up: true,
            is_ready: true,
            height,
            ..View::default()
        };
        heights.map(view).into()
    }

    /// Heights that come to be until then, at 50 a second.
    fn heights(until: Duration) -> u64 {
        u64::try_from(until.as_millis()).unwrap() / 20
    }

    /// Looks of all validators every 200 ms, the killed one's `phase` earlier; the others at 50 heights a second.
    fn run(phase: Duration, own: impl Fn(Duration) -> u64) -> Kill {
        let start = Instant::now();
        let mut kill = Kill::new(1, Duration::ZERO, false);
        kill.restart(Duration::from_secs(1), start);
        for tick in 0..200_u32 {
            let now = Duration::from_millis(50) * tick;
            let looked = Duration::from_millis(200) * (tick / 4);
            let of_own = looked.saturating_sub(phase);
            let there = 1_000 + heights(looked);
            let mut seen = views(start + looked, [there, own(of_own), there - 1, there]);
            seen[1].asked = Some(start + of_own);
            kill.look(&seen, start + now);
        }
        kill
    }

    #[test]
    fn one_that_is_looked_at_earlier_than_the_others_is_not_behind() {
        for phase in [0, 50, 120, 199] {
            let there = |at: Duration| 1_000 + heights(at);
            let kill = run(Duration::from_millis(phase), there);
            let late = Duration::from_millis(600);
            assert!(kill.caught_up.is_some_and(|time| time <= late), "{phase}: {kill:?}");
        }
    }

    #[test]
    fn one_that_follows_far_behind_has_not_caught_up() {
        let behind = |at: Duration| 970 + heights(at);
        assert_eq!(run(Duration::ZERO, behind).caught_up, None);
    }

    #[test]
    fn time_counts_until_the_others_are_reached() {
        // From 500 on at three times their pace: 5 s.
        let faster = |at: Duration| (500 + 3 * heights(at)).min(1_000 + heights(at));
        let caught_up = run(Duration::ZERO, faster).caught_up.expect("it reached them");
        let allowed = Duration::from_millis(4_800)..=Duration::from_millis(5_600);
        assert!(allowed.contains(&caught_up), "{caught_up:?}");
    }

    #[test]
    fn one_that_is_not_ready_or_not_started_has_not_caught_up() {
        let start = Instant::now();
        let mut kill = Kill::new(1, Duration::ZERO, false);
        let later = |millis| start + Duration::from_millis(millis);
        kill.look(&views(later(10), [5; 4]), later(10));
        kill.catch_up(later(10));
        assert_eq!(kill.caught_up, None, "it is away");
        kill.restart(Duration::ZERO, start);
        for tick in 1..10 {
            let mut seen = views(later(100 * tick), [5; 4]);
            seen[1].is_ready = false;
            kill.look(&seen, later(100 * tick));
        }
        assert_eq!(kill.caught_up, None, "it is not ready");
        kill.catch_up(later(1_000));
        kill.catch_up(later(2_000));
        assert_eq!(kill.caught_up, Some(Duration::from_secs(1)), "the first time counts");
    }
    #[test]
    fn one_that_lost_everything_is_there_without_being_ready() {
        let start = Instant::now();
        let later = |millis| start + Duration::from_millis(millis);
        for is_wiped in [false, true] {
            let mut kill = Kill::new(1, Duration::ZERO, is_wiped);
            kill.restart(Duration::ZERO, start);
            for tick in 1..10 {
                let mut seen = views(later(100 * tick), [5; 4]);
                (seen[1].is_ready, seen[1].transactions) = (false, 77);
                kill.look(&seen, later(100 * tick));
            }
            assert_eq!((kill.caught_up.is_some(), kill.transactions > 0), (is_wiped, is_wiped));
        }
    }

    #[test]
    fn latencies_are_those_of_before_and_of_the_way_back() {
        let second = Duration::from_secs(1);
        let mut kill = Kill::new(1, 20 * second, true);
        assert_eq!(kill.clone().with_latencies(&[(second, second)]).p99, None);
        (kill.restarted, kill.caught_up) = (Some(30 * second), Some(3 * second));
        let micros = |(one, other)| (Duration::from_micros(one), Duration::from_micros(other));
        let latency = |at: u32| match at {
            11..=20 => 100,
            31 => 130,
            32 => 140,
            33 => 900,
            _ => 7_777,
        };
        let seconds: Vec<_> =
            (1..60).map(|at| (at * second, Duration::from_micros(latency(at)))).collect();
        assert_eq!(kill.with_latencies(&seconds).p99, Some(micros((100, 140))));
    }
}
