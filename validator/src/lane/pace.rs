//! How much of the own lane is under way: enough to be as fast as the network is, and no queue beyond.
//!
//! What is sealed and not yet committed is as old as the lane's rate makes it. Past what the network needs
//! to be busy, more of it does not make the lane faster, only later for everyone in it. So twice the rate's
//! product with the shortest time to commitment is allowed, as long as it is not very little.
//!
//! Source: Kleinrock's operating point, as in Cardwell et al., "BBR: Congestion-Based Congestion Control",
//! ACM Queue 14(5), 2016.

/// Bytes that are always allowed: some full batches, so that a lane finds out what it can do.
const BYTES_MIN: u64 = 2 << 20;
/// Time that what is allowed lasts at least: blocks come and go unevenly.
const TIME_MIN_NS: u64 = 250_000_000;
/// The rate is taken over intervals of this length.
const INTERVAL_NS: u64 = 200_000_000;
/// In this time the shortest one comes most of the way to longer ones: minutes of load hardly pass for a
/// longer way, and a way that has become longer is noticed in the end.
const LONGER_NS: u64 = 600_000_000_000;
/// So much of it counts between two batches at most: a quiet hour says nothing.
const STEP_NS_MAX: u64 = 1_000_000_000;

/// What is known of the way of the own batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// Bytes committed since the interval began, and when that was.
    committed: u64,
    since: u64,
    /// Bytes a second, the best of late.
    rate: u64,
    /// Nanoseconds from seal to commitment, the least; none before the first.
    shortest: Option<u64>,
    /// When the newest batch was committed.
    newest: u64,
}

impl Pace {
    /// A batch of so many bytes, sealed then, is committed.
    pub(super) fn committed(&mut self, now: u64, sealed: u64, bytes: usize) {
        let time = now.saturating_sub(sealed);
        let shortest = self.shortest.get_or_insert(time);
        *shortest = match time.checked_sub(*shortest) {
            None => time,
            Some(longer) => {
                let step = now.saturating_sub(self.newest).min(STEP_NS_MAX);
                let more = u128::from(longer) * u128::from(step) / u128::from(LONGER_NS);
                *shortest + u64::try_from(more).unwrap_or(longer)
            }
        };
        self.newest = now;
        self.committed += u64::try_from(bytes).unwrap_or(u64::MAX);
        let passed = now.saturating_sub(self.since);
        if passed >= INTERVAL_NS {
            let rate = u128::from(self.committed) * 1_000_000_000 / u128::from(passed);
            // A slower one is believed by an eighth each time.
            self.rate = u64::try_from(rate).unwrap_or(u64::MAX).max(self.rate - self.rate / 8);
            (self.committed, self.since) = (0, now);
        }
    }

    /// Bytes that may be under way.
    pub(super) fn allowed(&self, most: usize) -> usize {
        let time = self.shortest.unwrap_or(0).saturating_mul(2).max(TIME_MIN_NS);
        let bytes = u128::from(self.rate) * u128::from(time) / 1_000_000_000;
        usize::try_from(bytes.max(BYTES_MIN.into())).unwrap_or(most).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MOST: usize = 64 << 20;

    /// Commits `rate` bytes a second in batches of half a MiB for some seconds, each `time` after its seal.
    fn run(pace: &mut Pace, start: u64, seconds: u64, rate: u64, time: u64) -> u64 {
        let batch = 512 << 10;
        let count = seconds * rate / batch;
        let end = start + seconds * SECOND;
        for number in 1..=count {
            let now = start + number * (end - start) / count;
            pace.committed(now, now - time, usize::try_from(batch).unwrap());
        }
        end
    }

    #[test]
    fn a_lane_starts_with_some_batches_and_is_never_allowed_more_than_the_most() {
        let mut pace = Pace::default();
        assert_eq!(pace.allowed(MOST), 2 << 20);
        assert_eq!(pace.allowed(1 << 20), 1 << 20);
        run(&mut pace, SECOND, 5, 1 << 30, SECOND / 2);
        assert_eq!(pace.allowed(MOST), MOST);
    }

    #[test]
    fn it_lasts_for_twice_the_shortest_way_at_the_best_rate() {
        let mut pace = Pace::default();
        let near = |pace: &Pace, bytes: u64| {
            let allowed = u64::try_from(pace.allowed(MOST)).unwrap();
            assert!(allowed.abs_diff(bytes) < bytes / 8, "{allowed} is not near {bytes}");
        };
        // A long way at 16 MiB/s: 0.3 s, so 0.6 s of it.
        let now = run(&mut pace, SECOND, 5, 16 << 20, 3 * SECOND / 10);
        near(&pace, (16 << 20) * 6 / 10);
        // Half a minute of a queue that doubles the time changes little.
        let now = run(&mut pace, now, 30, 16 << 20, 6 * SECOND / 10);
        near(&pace, (16 << 20) * 6 / 10);
        // A short way is found at once; the least time stands in for it.
        let now = run(&mut pace, now, 5, 16 << 20, SECOND / 50);
        near(&pace, (16 << 20) / 4);
        // Slower, it shrinks within seconds to what is always allowed.
        run(&mut pace, now, 20, 1 << 20, SECOND / 50);
        assert_eq!(pace.allowed(MOST), 2 << 20);
    }

    #[test]
    fn a_way_that_has_become_longer_is_believed_in_the_end() {
        let mut pace = Pace::default();
        let now = run(&mut pace, SECOND, 1, 64 << 20, SECOND / 10);
        let now = run(&mut pace, now, 300, 64 << 20, SECOND);
        assert!(pace.shortest.unwrap() < SECOND / 2, "{pace:?}");
        run(&mut pace, now, 1_200, 64 << 20, SECOND);
        assert!(pace.shortest.unwrap() > 8 * SECOND / 10, "{pace:?}");
    }
}
