//! Who may be connected: a fixed number of seats, and when they are taken the quietest one goes.
//!
//! A stranger that opens connections and says nothing must not keep others out. So a newcomer takes
//! the seat of the connection that has been quiet longest, those that never asked anything useful
//! first. One that is being served, or was active a moment ago, is never thrown out; where no seat
//! can be had, the newcomer is turned away.

use crate::metrics::{Metrics, Number, PathLabel};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// A connection that was active this recently keeps its seat.
pub(crate) const QUIET_MIN: Duration = Duration::from_secs(1);

/// Connections of both kinds together are at most half of the files that the process may open:
/// the rest is for the store, the other validators and the engine.
const FILES_SHARE: usize = 2;
/// Seats of one kind at least: an operator and a few clients are served in any case.
const SEATS_MIN: usize = 16;

/// Scales a number of seats down to what the limit of open files allows.
///
/// Shape: `wanted` of `wanted_total` seats; at least [`SEATS_MIN`].
pub(crate) fn affordable(wanted: usize, wanted_total: usize) -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.and_then(|files| usize::try_from(files).ok());
    share(files.unwrap_or(usize::MAX) / FILES_SHARE, wanted, wanted_total)
}

fn share(files: usize, wanted: usize, wanted_total: usize) -> usize {
    if files >= wanted_total { wanted } else { (wanted * files / wanted_total).max(SEATS_MIN) }
}

/// The seats of one kind of connection.
#[derive(Debug)]
pub(crate) struct Seats {
    path: &'static str,
    rows: Mutex<Rows>,
    open: Number,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Rows {
    rows: Vec<Option<Row>>,
    free: Vec<usize>,
    serial: u64,
}

#[derive(Debug)]
struct Row {
    /// Tells a connection from an earlier one in the same place.
    serial: u64,
    /// Requests that are being served.
    busy: u32,
    /// Whether it ever asked something useful.
    useful: bool,
    active: Instant,
    evict: oneshot::Sender<()>,
}

impl Seats {
    /// Makes `count` free seats for connections of a way in.
    pub(crate) fn new(path: &'static str, count: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        assert!(count > 0, "without a seat nobody is served");
        let open = metrics.net_connections.get_or_create_owned(&PathLabel { path });
        let rows = Rows {
            rows: (0..count).map(|_| None).collect(),
            free: (0..count).rev().collect(),
            serial: 0,
        };
        Arc::new(Self { path, rows: Mutex::new(rows), open, metrics })
    }

    /// Takes a seat for a new connection, the quietest one's where none is free; none where nobody
    /// is quiet. Both endings are counted.
    pub(crate) fn take(self: &Arc<Self>, now: Instant) -> Option<Seat> {
        let mut rows = self.lock();
        let Some(index) = rows.free.pop().or_else(|| rows.quietest(now)) else {
            drop(rows);
            self.metrics.count_closed(self.path, "full");
            return None;
        };
        rows.serial += 1;
        let serial = rows.serial;
        let (evict, evicted) = oneshot::channel();
        let row = Row { serial, busy: 0, useful: false, active: now, evict };
        let before = rows.rows[index].replace(row);
        drop(rows);
        match before {
            Some(quietest) => {
                self.metrics.count_closed(self.path, "quiet");
                // A connection that ends at this moment anyway hears nothing.
                let _ = quietest.evict.send(());
            }
            None => drop(self.open.inc()),
        }
        Some(Seat { mark: Mark { seats: Arc::clone(self), index, serial }, evicted })
    }

    /// Counts a connection that the validator ended.
    pub(crate) fn count_closed(&self, reason: &'static str) {
        self.metrics.count_closed(self.path, reason);
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("nothing panics while it holds the seats")
    }
}

impl Rows {
    /// The place of the connection to throw out.
    fn quietest(&self, now: Instant) -> Option<usize> {
        let rows = self.rows.iter().enumerate();
        let quiet = rows.filter_map(|(index, row)| {
            let row = row.as_ref().filter(|row| row.busy == 0)?;
            let is_quiet = now.saturating_duration_since(row.active) >= QUIET_MIN;
            is_quiet.then_some((row.useful, row.active, index))
        });
        quiet.min().map(|(_, _, index)| index)
    }

    /// The row of a seat that was not given to another.
    fn row(&mut self, index: usize, serial: u64) -> Option<&mut Row> {
        self.rows[index].as_mut().filter(|row| row.serial == serial)
    }
}

/// A connection's seat; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Seat {
    mark: Mark,
    evicted: oneshot::Receiver<()>,
}

impl Seat {
    /// Notes that the connection did something useful.
    pub(crate) fn touch(&self, now: Instant) {
        let mut rows = self.mark.seats.lock();
        if let Some(row) = rows.row(self.mark.index, self.mark.serial) {
            row.useful = true;
            row.active = now;
        }
    }

    /// Returns whether the seat went to another connection, and wakes the task when it does.
    pub(crate) fn poll_evicted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.evicted).poll(context).map(drop)
    }

    /// Waits until the seat goes to another connection.
    pub(crate) async fn evicted(&mut self) {
        std::future::poll_fn(|context| self.poll_evicted(context)).await;
    }

    /// A mark by which others can say that the connection is being served.
    pub(crate) fn mark(&self) -> Mark {
        self.mark.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Mark { seats, index, serial } = &self.mark;
        let mut rows = seats.lock();
        if rows.row(*index, *serial).is_some() {
            rows.rows[*index] = None;
            rows.free.push(*index);
            drop(rows);
            seats.open.dec();
        }
    }
}

/// Names a connection's seat.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    seats: Arc<Seats>,
    index: usize,
    serial: u64,
}

impl Mark {
    /// Keeps the connection in its seat until the answer is dropped.
    pub(crate) fn serve(&self) -> Served {
        if let Some(row) = self.seats.lock().row(self.index, self.serial) {
            row.busy += 1;
            row.useful = true;
        }
        Served(self.clone())
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(crate) struct Served(Mark);

impl Drop for Served {
    fn drop(&mut self) {
        let Mark { seats, index, serial } = &self.0;
        if let Some(row) = seats.lock().row(*index, *serial) {
            row.busy -= 1;
            row.active = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CloseLabel;

    fn seats(count: usize) -> Arc<Seats> {
        Seats::new("tcp", count, Arc::new(Metrics::new()))
    }

    fn closed(seats: &Seats, reason: &'static str) -> u64 {
        seats
            .metrics
            .net_connections_closed
            .get_or_create(&CloseLabel { path: "tcp", reason })
            .get()
    }

    fn is_evicted(seat: &mut Seat) -> bool {
        seat.evicted.try_recv().is_ok()
    }

    #[test]
    fn a_freed_seat_is_given_again_and_the_gauge_follows() {
        let seats = seats(2);
        let now = Instant::now();
        let (first, second) = (seats.take(now).unwrap(), seats.take(now).unwrap());
        assert_eq!(seats.open.get(), 2);
        assert!(seats.take(now).is_none());
        assert_eq!(closed(&seats, "full"), 1);
        drop(first);
        assert_eq!(seats.open.get(), 1);
        let third = seats.take(now).unwrap();
        drop((second, third));
        assert_eq!(seats.open.get(), 0);
        assert_eq!(closed(&seats, "quiet"), 0);
    }

    #[test]
    fn the_quietest_goes_and_those_that_never_asked_go_first() {
        let seats = seats(3);
        let start = Instant::now();
        let mut useful = seats.take(start).unwrap();
        useful.touch(start);
        let mut older = seats.take(start + QUIET_MIN / 4).unwrap();
        let mut newer = seats.take(start + QUIET_MIN / 2).unwrap();
        assert!(seats.take(start + QUIET_MIN / 2).is_none(), "nobody is quiet yet");
        let late = start + 2 * QUIET_MIN;
        let fourth = seats.take(late).unwrap();
        assert!(is_evicted(&mut older) && !is_evicted(&mut newer) && !is_evicted(&mut useful));
        let fifth = seats.take(late).unwrap();
        assert!(is_evicted(&mut newer) && !is_evicted(&mut useful));
        let sixth = seats.take(late).unwrap();
        assert!(is_evicted(&mut useful));
        assert_eq!(closed(&seats, "quiet"), 3);
        // Those that were thrown out free nothing when they end.
        drop((older, newer, useful));
        assert_eq!(seats.open.get(), 3);
        assert!(seats.take(late).is_none());
        drop((fourth, fifth, sixth));
        assert_eq!(seats.open.get(), 0);
    }

    #[test]
    fn a_connection_that_is_served_keeps_its_seat_however_long_it_takes() {
        let seats = seats(1);
        let start = Instant::now();
        let mut seat = seats.take(start).unwrap();
        let served = seat.mark().serve();
        let late = start + 100 * QUIET_MIN;
        assert!(seats.take(late).is_none());
        drop(served);
        assert!(seats.take(late).is_some());
        assert!(is_evicted(&mut seat));
    }

    #[test]
    fn seats_follow_the_limit_of_open_files() {
        assert_eq!(share(512, 1_000, 1_256), 407);
        assert_eq!(share(512, 256, 1_256), 104);
        assert_eq!(share(1_256, 256, 1_256), 256);
        assert_eq!(share(usize::MAX, 1_000, 1_256), 1_000);
        assert_eq!(share(0, 1_000, 1_256), SEATS_MIN);
        assert!(affordable(1_000, 1_256) >= SEATS_MIN);
    }
}
