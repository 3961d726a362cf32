//! Token buckets of one word each.
//!
//! A bucket is the time at which it will be full again. A packet moves that time forward by the
//! pace's interval and passes if the time then lies no further ahead than the burst allows. This is
//! a token bucket without a division, and one compare-and-swap wide, so that a kernel program can
//! keep the same table. Source: the virtual scheduling algorithm of ITU-T I.371, annex A.

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
pub(crate) struct Pace {
    interval_ns: u64,
    depth_ns: u64,
}

impl Pace {
    /// Checks a rate; the two names are for the error.
    pub(crate) fn new(rate: Rate, fields: [&'static str; 2]) -> Result<Self, Error> {
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

    /// Reads a pace from a table.
    pub(crate) fn from_ns(interval_ns: u64, depth_ns: u64) -> Self {
        Self { interval_ns, depth_ns }
    }

    /// The time from one packet to the next.
    pub(crate) fn interval_ns(self) -> u64 {
        self.interval_ns
    }

    /// The time that a full bucket is worth.
    pub(crate) fn depth_ns(self) -> u64 {
        self.depth_ns
    }

    /// Returns the bucket after one more packet, or `None` when it is empty.
    pub(crate) fn take(self, bucket: u64, now_ns: u64) -> Option<u64> {
        let next = bucket.max(now_ns).saturating_add(self.interval_ns);
        (next - now_ns <= self.depth_ns).then_some(next)
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
