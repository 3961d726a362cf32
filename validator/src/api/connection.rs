//! HTTP connections under a time limit that slow senders and slow readers meet alike.
//!
//! One rule: a connection that has written nothing for [`PROGRESS_TIME_MAX`] ends. It covers half a
//! header, half a body, a client that does not read, one that vanished, and a kept-alive one that
//! nobody uses. Before that, a quiet connection makes room for a newcomer: see
//! [`crate::ingest::seats`].

use super::{ANSWER_TIME_MAX, BODY_TIME_MAX, FINAL_TIME_MAX};
use crate::ingest::seats::{Mark, Seat, Seats};
use axum::{extract::connect_info::Connected, serve::IncomingStream};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep},
};

/// Time without a byte written after which a connection ends: the longest request and some more.
pub(super) const PROGRESS_TIME_MAX: Duration = Duration::from_secs(50);
const _: () = assert!(
    PROGRESS_TIME_MAX.as_secs()
        > BODY_TIME_MAX.as_secs() + ANSWER_TIME_MAX.as_secs() + FINAL_TIME_MAX.as_secs()
);

/// Pause after a failed accept, such as too many open files: trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for which there is a seat.
pub(super) struct Listener {
    listener: TcpListener,
    seats: Arc<Seats>,
    progress_time_max: Duration,
}

impl Listener {
    pub(super) const fn new(
        listener: TcpListener,
        seats: Arc<Seats>,
        progress_time_max: Duration,
    ) -> Self {
        Self { listener, seats, progress_time_max }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                self.seats.count_closed("accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Some(seat) = self.seats.take(Instant::now()) else {
                continue;
            };
            // Small answers must not wait for the acknowledgement of earlier ones; without the
            // option they are late, not wrong.
            drop(stream.set_nodelay(true));
            let progress_time_max = self.progress_time_max;
            let alarm = Box::pin(sleep(progress_time_max));
            return (Connection { stream, seat, alarm, progress_time_max }, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What a handler knows of its connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) mark: Mark,
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self { mark: stream.io().seat.mark() }
    }
}

/// A connection with its seat and its alarm.
pub(super) struct Connection {
    stream: TcpStream,
    seat: Seat,
    alarm: Pin<Box<Sleep>>,
    progress_time_max: Duration,
}

impl Connection {
    /// Ends the connection when its seat was given away or its time is over.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.seat.poll_evicted(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if self.alarm.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Notes that bytes were written.
    fn progress(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            let now = Instant::now();
            self.alarm.as_mut().reset(now + self.progress_time_max);
            self.seat.touch(now);
        }
        written
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.progress(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        this.progress(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
