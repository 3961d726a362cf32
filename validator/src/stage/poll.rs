//! Looks at queues again and again for a moment, so that what comes soon wakes nobody up.

use super::Clock;
use crate::cost::{Cost, Meter};

/// How long a stage looks before it sleeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Poll {
    /// Nanoseconds; 0 to sleep at once.
    time: u64,
}

impl Poll {
    /// Looks for so many microseconds.
    pub fn new(microseconds: u64) -> Self {
        Self { time: microseconds * 1_000 }
    }

    /// Returns once something is ready, when the time is over, or at `until` of the node's clock, when
    /// the stage has something to do anyway.
    ///
    /// A queue whose senders are gone is not ready: whoever waits for it afterwards sees that.
    pub fn spin(self, clock: &Clock, meter: Meter, until: u64, is_ready: impl Fn() -> bool) {
        if self.time == 0 || is_ready() {
            return;
        }
        let end = until.min(clock.now() + self.time);
        meter.aside(Cost::Spin, || {
            while clock.now() < end && !is_ready() {
                std::hint::spin_loop();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::spent;
    use std::{cell::Cell, time::Duration};

    const LONG: u64 = 60_000_000;

    #[test]
    fn without_a_time_nothing_is_looked_at() {
        let is_ready = || panic!("looked");
        Poll::default().spin(&Clock::start(), Meter::ON, u64::MAX, is_ready);
        Poll::new(0).spin(&Clock::start(), Meter::ON, u64::MAX, is_ready);
    }

    #[test]
    fn what_is_there_is_seen_at_once() {
        let looks = Cell::new(0);
        let is_ready = || {
            looks.set(looks.get() + 1);
            true
        };
        Poll::new(LONG).spin(&Clock::start(), Meter::OFF, u64::MAX, is_ready);
        assert_eq!(looks.get(), 1);
    }

    #[test]
    fn what_comes_meanwhile_ends_it() {
        let (sender, queue) = crossbeam::channel::bounded(1);
        let clock = Clock::start();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                sender.send(7).unwrap();
            });
            Poll::new(LONG).spin(&clock, Meter::OFF, u64::MAX, || !queue.is_empty());
        });
        assert_eq!(queue.try_recv(), Ok(7));
        assert!(clock.now() >= 20_000_000);
        assert!(clock.now() < LONG * 1_000);
    }

    #[test]
    fn the_time_that_passes_in_vain_is_bounded_and_charged() {
        let (clock, before) = (Clock::start(), spent(Cost::Spin));
        Poll::new(20_000).spin(&clock, Meter::ON, u64::MAX, || false);
        assert!(clock.now() >= 20_000_000);
        let after = spent(Cost::Spin);
        // This thread may have been one of many on its core.
        assert!(after > before && after - before <= clock.now(), "{before} {after}");

        // What the stage has to do anyway comes first.
        let looks = Cell::new(0);
        let is_ready = || {
            looks.set(looks.get() + 1);
            false
        };
        Poll::new(LONG).spin(&clock, Meter::OFF, clock.now(), is_ready);
        assert_eq!(looks.get(), 1);
    }
}
