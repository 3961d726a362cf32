//! Token buckets of one word each, in direct-mapped tables that never grow.
//!
//! A bucket is the time at which it will be full again. A packet moves that time forward by the
//! pace's interval and passes if the time then lies no further ahead than the burst allows. This is
//! a token bucket without a division, and one compare-and-swap wide, so that a kernel program can
//! keep the same table. Source: the virtual scheduling algorithm of ITU-T I.371, annex A.

use super::hash::Key;
use crate::Error;

/// The fastest rate that can be asked for: one packet every 100 ns.
pub const PACKETS_PER_SECOND_MAX: u64 = 10_000_000;
/// The largest burst that can be asked for.
pub const BURST_PACKETS_MAX: u64 = 1 << 24;

const SECOND_NS: u64 = 1_000_000_000;
// The longest time that a bucket can take to fill still leaves 2^63 ns for the clock.
const _: () = assert!(SECOND_NS * BURST_PACKETS_MAX < 1 << 63);

/// How fast packets may come.
///
/// The interval between packets is a whole number of nanoseconds, rounded up: the true rate is at
/// most 1% below the one asked for at the fastest rate, and within 0.1% up to a million a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Packets a second in the long run: 1 to [`PACKETS_PER_SECOND_MAX`].
    pub packets_per_second: u64,
    /// Packets at once after a pause: 1 to [`BURST_PACKETS_MAX`].
    pub burst_packets: u64,
}

/// A rate in the form that buckets use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    interval_ns: u64,
    depth_ns: u64,
}

impl Pace {
    /// Checks a rate; the two names are for the error.
    pub(super) fn new(rate: Rate, fields: [&'static str; 2]) -> Result<Self, Error> {
        let limits = [
            (fields[0], rate.packets_per_second, PACKETS_PER_SECOND_MAX),
            (fields[1], rate.burst_packets, BURST_PACKETS_MAX),
        ];
        for (field, value, max) in limits {
            if value == 0 || value > max {
                return Err(Error::Limit { field, value, max });
            }
        }
        let interval_ns = SECOND_NS.div_ceil(rate.packets_per_second);
        Ok(Self { interval_ns, depth_ns: interval_ns * rate.burst_packets })
    }

    /// Returns the bucket after one more packet, or `None` when it is empty.
    fn take(self, bucket: u64, now_ns: u64) -> Option<u64> {
        let next = bucket.max(now_ns).saturating_add(self.interval_ns);
        (next - now_ns <= self.depth_ns).then_some(next)
    }
}

/// A clock that never goes back: a step back of the caller's clock becomes a pause of no length.
///
/// Without it, a bucket written before a step back would stay empty for as long as the step was.
#[derive(Default)]
pub(super) struct Steady {
    last_ns: u64,
    offset_ns: u64,
}

impl Steady {
    /// Turns the caller's time into one that is never below an earlier one.
    pub(super) fn advance(&mut self, now_ns: u64) -> u64 {
        let steady_ns = now_ns.saturating_add(self.offset_ns);
        if steady_ns < self.last_ns {
            self.offset_ns = self.last_ns - now_ns;
            return self.last_ns;
        }
        self.last_ns = steady_ns;
        steady_ns
    }
}

/// Buckets of one pace, found by a keyed hash. Sources that meet in a bucket share it.
pub(super) struct Table {
    buckets: Box<[u64]>,
    pace: Pace,
    key: Key,
}

impl Table {
    /// Makes a table of full buckets; `slots` is a power of two.
    pub(super) fn new(slots: usize, pace: Pace, key: Key) -> Self {
        assert!(slots.is_power_of_two());
        Self { buckets: vec![0; slots].into_boxed_slice(), pace, key }
    }

    /// The bucket of a source: `prefix` is its address, cut, and `domain` says of which form.
    pub(super) fn slot(&self, domain: u64, prefix: u64) -> usize {
        let mask = self.buckets.len() as u64 - 1;
        let slot = self.key.hash([domain, prefix]) & mask;
        usize::try_from(slot).expect("masked to the length of a slice")
    }

    /// Says what the bucket would be after one more packet; `None` when it is empty.
    pub(super) fn take(&self, slot: usize, now_ns: u64) -> Option<u64> {
        self.pace.take(self.buckets[slot], now_ns)
    }

    /// Stores what [`Self::take`] returned.
    pub(super) fn store(&mut self, slot: usize, bucket: u64) {
        self.buckets[slot] = bucket;
    }

    /// The memory that the buckets hold.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A bucket as a textbook has it, in nanoseconds of credit; the clock only goes forward.
    struct Model {
        credit_ns: u64,
        last_ns: u64,
    }

    impl Model {
        fn take(&mut self, pace: Pace, now_ns: u64) -> bool {
            self.credit_ns = (self.credit_ns + (now_ns - self.last_ns)).min(pace.depth_ns);
            self.last_ns = now_ns;
            let enough = self.credit_ns >= pace.interval_ns;
            if enough {
                self.credit_ns -= pace.interval_ns;
            }
            enough
        }
    }

    fn pace(packets_per_second: u64, burst_packets: u64) -> Pace {
        Pace::new(Rate { packets_per_second, burst_packets }, ["rate", "burst"]).unwrap()
    }

    proptest! {
        #[test]
        fn agrees_with_a_textbook_bucket(
            rate in 1..=PACKETS_PER_SECOND_MAX,
            burst in 1..200_u64,
            start in 0..1_u64 << 60,
            steps in prop::collection::vec((0..4_usize, 0..3_000_u64), 1..400),
        ) {
            let pace = pace(rate, burst);
            let mut model = Model { credit_ns: pace.depth_ns, last_ns: start };
            let (mut bucket, mut now) = (0, start);
            for (unit, count) in steps {
                // Steps of nothing, a few nanoseconds, a few intervals, a good part of the burst.
                now += [0, count, count * pace.interval_ns / 1_000, count * pace.depth_ns / 3_000]
                    [unit];
                let taken = pace.take(bucket, now);
                prop_assert_eq!(taken.is_some(), model.take(pace, now));
                bucket = taken.unwrap_or(bucket);
            }
        }

        #[test]
        fn any_clock_is_harmless(
            rate in 1..=PACKETS_PER_SECOND_MAX,
            burst in 1..=BURST_PACKETS_MAX,
            mut bucket: u64,
            times: [u64; 16],
        ) {
            let pace = pace(rate, burst);
            let (mut clock, mut last) = (Steady::default(), 0);
            for now in times {
                let steady = clock.advance(now);
                prop_assert!(steady >= last);
                last = steady;
                bucket = pace.take(bucket, steady).unwrap_or(bucket);
            }
        }

        #[test]
        fn an_emptied_bucket_refills_at_its_rate_after_a_step_back(
            rate in 1..=PACKETS_PER_SECOND_MAX,
            burst in 1..1_000_u64,
            before in 1..1_u64 << 60,
            step_back in 1..1_u64 << 60,
        ) {
            let pace = pace(rate, burst);
            let mut clock = Steady::default();
            let mut bucket = 0;
            while let Some(next) = pace.take(bucket, clock.advance(before)) {
                bucket = next;
            }
            let after = before.saturating_sub(step_back);
            prop_assert_eq!(pace.take(bucket, clock.advance(after)), None);
            let early = after + pace.interval_ns - 1;
            prop_assert_eq!(pace.take(bucket, clock.advance(early)), None);
            let due = after + pace.interval_ns;
            prop_assert!(pace.take(bucket, clock.advance(due)).is_some());
        }
    }

    #[test]
    fn a_burst_then_the_rate() {
        let pace = pace(50_000, 10_000);
        let (mut bucket, mut passed) = (0, 0);
        // 100,000 packets a second for two seconds.
        for packet in 0..200_000_u64 {
            if let Some(next) = pace.take(bucket, packet * 10_000) {
                bucket = next;
                passed += 1;
            }
        }
        assert!((109_999..=110_000).contains(&passed), "{passed}");
    }

    #[test]
    fn rates_outside_their_range_are_named() {
        for (rate, burst, field) in [
            (0, 1, "source.rate"),
            (PACKETS_PER_SECOND_MAX + 1, 1, "source.rate"),
            (1, 0, "source.burst"),
            (1, BURST_PACKETS_MAX + 1, "source.burst"),
        ] {
            let rate = Rate { packets_per_second: rate, burst_packets: burst };
            let error = Pace::new(rate, ["source.rate", "source.burst"]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("limit {field} is ")), "{error}");
        }
    }
}
