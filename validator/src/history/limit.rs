//! How many bytes may leave: a bucket that fills at a rate, from which answers are paid.

/// What is paid for any part: a small one costs the disk as much.
const PART_COST: u64 = 4_096;

/// A bucket of bytes.
#[derive(Debug)]
pub(super) struct Bucket {
    bytes_per_second: u64,
    /// When all that was taken is paid for, in nanoseconds.
    paid_at: u64,
}

impl Bucket {
    pub(super) const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid_at: 0 }
    }

    /// Pays for so many bytes; answers how long to wait before they are sent, in nanoseconds.
    ///
    /// Shape: a tenth of a second's worth may leave at once after a pause.
    pub(super) fn take(&mut self, now: u64, bytes: usize) -> u64 {
        let cost = (bytes as u64).max(PART_COST);
        let time = u128::from(cost) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        self.paid_at = self.paid_at.max(now.saturating_sub(100_000_000)).saturating_add(time);
        self.paid_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_at_the_rate_and_a_little_at_once() {
        let mut bucket = Bucket::new(1_000_000_000);
        let second = 1_000_000_000;
        assert_eq!(bucket.take(10 * second, 100_000_000), 0);
        assert_eq!(bucket.take(10 * second, 50_000_000), second / 20);
        // However long the pause was.
        assert_eq!(bucket.take(90 * second, 100_000_000), 0);
        assert_eq!(bucket.take(90 * second, 1), PART_COST);
        let mut sent = 0;
        let mut now = 100 * second;
        while now < 110 * second {
            now += bucket.take(now, 512 << 10);
            sent += 512 << 10;
        }
        assert!((9_900_000_000..10_200_000_000_u64).contains(&sent), "{sent}");
    }
}
