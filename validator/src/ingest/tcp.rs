//! Transactions over connections: many in flight, each answered, and told again when it is final.
//!
//! One task serves a connection. It reads into one large buffer that all connections share, decodes
//! every frame that is there, and writes all answers that wait with one call. A quiet connection
//! keeps no buffer at all.
//!
//! What a stranger can cost:
//!
//! | he | and we |
//! |---|---|
//! | opens many connections | keep [`CONNECTIONS_MAX`], the quietest goes for a newcomer |
//! | says nothing, or half a frame | close after [`HELLO_TIME_MAX`], [`FRAME_TIME_MAX`] |
//! | announces a huge frame, sends garbage | close at once |
//! | sends more than can be done | read him later, then refuse a buffer full twice a second |
//! | does not read | hold 8 MiB of answers, then close; 64 MiB for all |
//! | vanishes | notice by keep-alive probes and close |

mod session;

use super::seats::{Seats, affordable};
use crate::{
    handle::{Budget, NodeHandle, OutboxCounters, Stop},
    metrics::{PathLabel, TrafficLabel},
};
use prometheus_client::metrics::counter::Counter;
use std::{io, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Connections at the same time, at most, where the limit of open files allows as many.
pub const CONNECTIONS_MAX: usize = 1_000;
/// Bytes of answers that wait for all clients together, at most.
pub const OUTBOXES_BYTES_MAX: usize = 64 << 20;
/// Time for the first eight bytes.
pub const HELLO_TIME_MAX: Duration = Duration::from_secs(5);
/// Time for the rest of a frame once it has begun: 64 KiB over a line of 30 kbit/s.
pub const FRAME_TIME_MAX: Duration = Duration::from_secs(20);
/// Time for a client to take the answers of one write, at most 8 MiB.
pub const WRITE_TIME_MAX: Duration = Duration::from_secs(20);
/// Time without a frame or an answer after which a connection is closed.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(300);
/// Time between two turns of one connection, unless more waits than one turn reads: under load the
/// frames and answers of a millisecond cost one call each way, and the first of them never waits.
const TURN_PAUSE: Duration = Duration::from_millis(1);
/// The same after a turn that moved [`BUSY_BYTES`]: a client with thousands of transactions a
/// second does not notice the delay, and costs a half.
const BUSY_TURN_PAUSE: Duration = Duration::from_millis(2);
/// Bytes of a busy turn: two transactions of 512 bytes in a millisecond.
const BUSY_BYTES: usize = 1_024;
/// A congested node lets clients wait this long before it reads on and refuses what it reads: most never
/// notice, and who sends more than can be done is slowed down by his own connection.
const HELD_TIME_MAX: Duration = Duration::from_millis(500);
/// Time between two looks at whether it still is.
const HELD_PAUSE: Duration = Duration::from_millis(2);
/// Bytes that the kernel holds of one client, at most (it doubles them for its own use): what lies there
/// counts as sent for the client and grows old.
const RECEIVE_BYTES: usize = 256 << 10;
/// Time for the last answers when the validator stops.
const STOP_TIME_MAX: Duration = Duration::from_millis(500);
/// Pause after a failed accept, such as too many open files: trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PATH: &str = "tcp";

/// How long a client may take; tests take less.
#[derive(Clone, Copy, Debug)]
struct Times {
    hello: Duration,
    frame: Duration,
    write: Duration,
    idle: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            hello: HELLO_TIME_MAX,
            frame: FRAME_TIME_MAX,
            write: WRITE_TIME_MAX,
            idle: IDLE_TIME_MAX,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    handle: NodeHandle,
    seats: Arc<Seats>,
    outboxes: Arc<Budget>,
    counters: OutboxCounters,
    frames: Counter,
    stop: Stop,
    times: Times,
}

/// Serves connections until `stop`, then writes the answers that wait and closes them.
///
/// It runs on the caller's runtime, which must have time and I/O enabled.
///
/// Errors: the listener cannot be used by this runtime.
pub async fn serve(
    listener: std::net::TcpListener,
    handle: NodeHandle,
    stop: Stop,
) -> io::Result<()> {
    let wanted_total = CONNECTIONS_MAX + crate::api::CONNECTIONS_MAX;
    let seats = affordable(CONNECTIONS_MAX, wanted_total);
    serve_with(listener, handle, stop, seats, Times::default()).await
}

async fn serve_with(
    listener: std::net::TcpListener,
    handle: NodeHandle,
    stop: Stop,
    seats: usize,
    times: Times,
) -> io::Result<()> {
    let listener = super::accept_on(listener)?;
    let metrics = Arc::clone(&handle.metrics);
    let packets = |dir| metrics.net_packets.get_or_create_owned(&TrafficLabel { dir, path: PATH });
    let shared = Arc::new(Shared {
        seats: Seats::new(PATH, seats, Arc::clone(&metrics)),
        outboxes: Arc::new(Budget::new(OUTBOXES_BYTES_MAX)),
        counters: OutboxCounters {
            sent: packets("out"),
            dropped: metrics.net_answers_dropped.get_or_create_owned(&PathLabel { path: PATH }),
        },
        frames: packets("in"),
        handle,
        stop: stop.clone(),
        times,
    });
    let mut sessions = tokio::task::JoinSet::new();
    let stopped = stop.stopped();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            // Ended sessions are forgotten as they end, so that the set holds the open ones alone.
            Some(_) = sessions.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some(seat) = shared.seats.take(Instant::now()) {
                        sessions.spawn(session::run(Arc::clone(&shared), stream, seat));
                    }
                }
                Err(_) => {
                    shared.seats.count_closed("accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests;
