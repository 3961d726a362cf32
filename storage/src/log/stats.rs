//! What a store has written, and how long that took.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::writer::Durable;

/// Latencies are counted in microseconds up to ten minutes, to three digits.
const LATENCY_US_MAX: u64 = 600_000_000;

/// What a store has written since it was opened.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Records that became durable.
    pub records: u64,
    /// Groups that became durable, those without records included.
    pub groups: u64,
    /// Their bytes, padding included.
    pub bytes: u64,
    /// Segments that were begun.
    pub segments: u64,
    /// Bytes that are accepted but not yet durable.
    pub queued_bytes: u64,
    /// Groups that were found damaged.
    pub damaged_groups: u64,
    /// Of these, those that were repaired.
    pub repaired_groups: u64,
    /// Microseconds that laying a group out and hashing it took; empty in a simulation.
    pub encode_us: Histogram<u64>,
    /// Microseconds from there to its durability; empty in a simulation.
    pub durable_us: Histogram<u64>,
}

impl Stats {
    pub(super) fn new() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in range");
        Self {
            records: 0,
            groups: 0,
            bytes: 0,
            segments: 0,
            queued_bytes: 0,
            damaged_groups: 0,
            repaired_groups: 0,
            encode_us: histogram(),
            durable_us: histogram(),
        }
    }

    pub(super) fn count(&mut self, group: &Durable, records_before: u64) {
        self.records += group.records - records_before;
        self.groups += 1;
        self.bytes += group.bytes;
        self.segments += u64::from(group.opens.is_some());
        if let Some((encoding, writing)) = group.times {
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(LATENCY_US_MAX);
            self.encode_us.saturating_record(micros(encoding));
            self.durable_us.saturating_record(micros(writing));
        }
    }
}
