//! One client's connection: the opening bytes, then frames in and answers out until one side ends.

use super::{
    BUSY_BYTES, BUSY_TURN_PAUSE, HELD_PAUSE, HELD_TIME_MAX, RECEIVE_BYTES, STOP_TIME_MAX, Shared,
    TURN_PAUSE,
};
use crate::{
    cost::{Cost, Meter},
    handle::{OUTBOX_BYTES_MAX, Outbox, Reply},
    ingest::seats::Seat,
    wire::{self, Call, Frames, HELLO, Reject, Welcome},
};
use rustix::net::sockopt;
use std::{cell::RefCell, io, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};

/// Bytes taken with one read: 125 transactions of 512 bytes, so that the cost of a call vanishes
/// beside the cost of its frames. One buffer serves all connections of the thread.
const READ_BYTES: usize = 64 << 10;
/// Answers' memory that a connection keeps while it is quiet.
const SPARE_BYTES: usize = 16 << 10;
/// When the kernel asks a silent client whether it is there, how often it repeats that, and after
/// how many questions the connection ends: a vanished one is noticed within a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client went; that is its right and not counted.
    Client,
    /// The validator stops.
    Stopped,
    /// The seat went to another, which is counted where it is given.
    Evicted,
    /// The client took too long, for this.
    Late(&'static str),
    /// The client does not read its answers.
    Unread,
    /// The bytes are not the protocol.
    Rejected(Reject),
}

impl From<Reject> for End {
    fn from(reject: Reject) -> Self {
        Self::Rejected(reject)
    }
}

/// Serves a connection to its end.
pub(super) async fn run(shared: Arc<Shared>, stream: TcpStream, mut seat: Seat) {
    let end = match open(&shared, stream, &mut seat).await {
        Ok(session) => session.run(&mut seat).await,
        Err(end) => end,
    };
    match end {
        End::Client | End::Stopped | End::Evicted => {}
        End::Late(what) => shared.seats.count_closed(what),
        End::Unread => shared.seats.count_closed("unread"),
        End::Rejected(reject) => shared.seats.count_closed(reject.as_str()),
    }
}

/// Exchanges the opening bytes.
async fn open(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    seat: &mut Seat,
) -> Result<Session, End> {
    prepare(&stream).map_err(|_| End::Client)?;
    let mut hello = [0; HELLO.len()];
    let arrival = tokio::select! {
        () = shared.stop.stopped() => return Err(End::Stopped),
        () = seat.evicted() => return Err(End::Evicted),
        arrival = timeout(shared.times.hello, stream.read_exact(&mut hello)) => arrival,
    };
    match arrival {
        Err(_) => return Err(End::Late("hello_timeout")),
        Ok(Err(_)) => return Err(End::Client),
        Ok(Ok(_)) if hello != HELLO => return Err(Reject::Hello.into()),
        Ok(Ok(_)) => seat.touch(Instant::now()),
    }
    let transaction_bytes_max = shared.handle.limits.transaction_bytes_max;
    let welcome = Welcome { hint: shared.handle.network.hint(), transaction_bytes_max };
    Ok(Session::new(Arc::clone(shared), stream, &welcome))
}

/// Sets what the kernel shall do: send at once, and notice a client that vanished.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    stream.set_nodelay(true)?;
    sockopt::set_socket_recv_buffer_size(stream, RECEIVE_BYTES)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    Ok(())
}

/// An open connection.
struct Session {
    shared: Arc<Shared>,
    stream: TcpStream,
    frames: Frames,
    outbox: Arc<Outbox>,
    /// Answers taken from the outbox, and how many of their bytes are written.
    writing: Vec<u8>,
    written: usize,
    /// Bytes of `writing` that did not come from the outbox: the welcome.
    foreign: usize,
    /// Whether answers wait in the outbox until `writing` is done.
    waiting: bool,
    /// When the frame that is not complete began, when `writing` did, and the last useful thing.
    frame_began: Instant,
    write_began: Instant,
    active: Instant,
    /// Since when nothing is read, because the node has too much to do.
    held: Option<Instant>,
}

impl Session {
    fn new(shared: Arc<Shared>, stream: TcpStream, welcome: &Welcome) -> Self {
        let now = Instant::now();
        let budget = Arc::clone(&shared.outboxes);
        let outbox = Outbox::new(OUTBOX_BYTES_MAX, budget, shared.counters.clone());
        let writing = welcome.encode().to_vec();
        let frame_bytes_max = wire::call_bytes_max(welcome.transaction_bytes_max);
        Self {
            shared,
            stream,
            frames: Frames::new(frame_bytes_max),
            outbox: Arc::new(outbox),
            foreign: writing.len(),
            writing,
            written: 0,
            waiting: false,
            frame_began: now,
            write_began: now,
            active: now,
            held: None,
        }
    }

    async fn run(mut self, seat: &mut Seat) -> End {
        let end = match self.serve(seat).await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        if end == End::Stopped {
            // Whether the client still listens is its own affair.
            drop(timeout(STOP_TIME_MAX, self.finish()).await);
        }
        self.outbox.close();
        end
    }

    async fn serve(&mut self, seat: &mut Seat) -> Result<std::convert::Infallible, End> {
        let (stop, outbox) = (self.shared.stop.clone(), Arc::clone(&self.outbox));
        let stopped = stop.stopped();
        let alarm = sleep_until(self.deadline().0);
        let pause = sleep_until(Instant::now());
        tokio::pin!(stopped, alarm, pause);
        let mut is_paused = false;
        loop {
            let is_turn = tokio::select! {
                () = &mut stopped => return Err(End::Stopped),
                () = seat.evicted() => return Err(End::Evicted),
                () = &mut alarm => {
                    self.check_time()?;
                    false
                }
                ready = self.stream.readable(), if !is_paused => {
                    ready.map_err(|_| End::Client)?;
                    true
                }
                () = outbox.wait(), if !is_paused => true,
                ready = self.stream.writable(), if self.is_writing() => {
                    ready.map_err(|_| End::Client)?;
                    self.write()?;
                    false
                }
                () = &mut pause, if is_paused => {
                    is_paused = false;
                    false
                }
            };
            if is_turn {
                if let Some(rest) = self.turn(seat)? {
                    pause.as_mut().reset(Instant::now() + rest);
                    is_paused = true;
                } else {
                    // A client that always has more to say gets one buffer a turn: without this
                    // the others, and the timers, would wait until it pauses.
                    tokio::task::yield_now().await;
                }
            }
            self.set_alarm(alarm.as_mut());
        }
    }

    /// Reads what has arrived and writes what waits; answers how long to pause, if at all.
    fn turn(&mut self, seat: &Seat) -> Result<Option<Duration>, End> {
        let is_held = self.is_held();
        // What is read after the client has waited long enough is refused, if it still must be.
        let is_late = self.held.is_some();
        let read = if is_held { 0 } else { self.read(seat, is_late)? };
        Meter::ON.charge(Cost::Receive);
        if !self.outbox.is_open() {
            return Err(End::Unread);
        }
        let written = self.take();
        self.write()?;
        Meter::ON.charge(Cost::Client);
        Ok(match read + written {
            _ if read == READ_BYTES => None,
            _ if is_held => Some(HELD_PAUSE),
            0..BUSY_BYTES => Some(TURN_PAUSE),
            _ => Some(BUSY_TURN_PAUSE),
        })
    }

    /// Returns whether the client is to wait until the node has less to do; not for long at a time.
    fn is_held(&mut self) -> bool {
        if !self.shared.handle.is_congested() {
            self.held = None;
            return false;
        }
        let now = Instant::now();
        let since = *self.held.get_or_insert(now);
        let is_held = now < since + HELD_TIME_MAX;
        if !is_held {
            // What is read now is refused; then it waits again.
            self.held = Some(now);
        }
        is_held
    }

    /// Decodes what has arrived and hands it to the node; returns how many bytes it was.
    fn read(&mut self, seat: &Seat, is_late: bool) -> Result<usize, End> {
        let Self { shared, stream, frames, outbox, .. } = self;
        let (mut count, was_partial) = (0, frames.is_partial());
        let bytes = READ_BUFFER.with_borrow_mut(|buffer| {
            let arrived = match stream.try_read(buffer) {
                Ok(0) => return Err(End::Client),
                Ok(bytes) => &buffer[..bytes],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(_) => return Err(End::Client),
            };
            frames.feed(arrived, |frame| {
                count += 1;
                let reply = Reply::Tcp(Arc::clone(outbox));
                match Call::decode(frame)? {
                    Call::Submit(bytes) if is_late => shared.handle.submit(bytes.to_vec(), reply),
                    Call::Submit(bytes) => shared.handle.take(bytes.to_vec(), reply),
                    Call::Watch(id) => shared.handle.watch(id, reply),
                }
                Ok(())
            })?;
            Ok(arrived.len())
        })?;
        let now = Instant::now();
        if count > 0 {
            shared.frames.inc_by(count);
            seat.touch(now);
            self.active = now;
        }
        if count > 0 || !was_partial {
            self.frame_began = now;
        }
        Ok(bytes)
    }

    /// Takes the waiting answers, unless a write is under way; returns how many bytes they are.
    fn take(&mut self) -> usize {
        self.waiting = self.is_writing();
        if self.waiting {
            return 0;
        }
        self.outbox.take(&mut self.writing);
        if self.is_writing() {
            self.write_began = Instant::now();
            self.active = self.write_began;
        }
        self.writing.len()
    }

    /// Writes as much as the kernel takes now.
    fn write(&mut self) -> Result<(), End> {
        while self.is_writing() {
            match self.stream.try_write(&self.writing[self.written..]) {
                Ok(0) => return Err(End::Client),
                Ok(bytes) => self.count_written(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(End::Client),
            }
        }
        Ok(())
    }

    fn count_written(&mut self, bytes: usize) {
        self.written += bytes;
        assert!(self.written <= self.writing.len(), "no more is written than there is");
        let own = bytes.saturating_sub(self.foreign);
        self.foreign -= bytes - own;
        self.outbox.written(own);
        if self.written < self.writing.len() {
            return;
        }
        self.writing.clear();
        self.writing.shrink_to(SPARE_BYTES);
        self.written = 0;
        if std::mem::take(&mut self.waiting) {
            self.take();
        }
    }

    /// Writes the answers that wait, then tells the client that there are no more.
    async fn finish(&mut self) -> io::Result<()> {
        loop {
            self.stream.write_all(&self.writing[self.written..]).await?;
            self.count_written(self.writing.len() - self.written);
            self.take();
            if !self.is_writing() {
                return self.stream.shutdown().await;
            }
        }
    }

    const fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// When the connection is overdue if nothing happens, and in what.
    fn deadline(&self) -> (Instant, &'static str) {
        let times = &self.shared.times;
        let idle = (self.active + times.idle, "idle");
        let frame = (self.frame_began + times.frame, "frame_timeout");
        let write = (self.write_began + times.write, "unread");
        let frame = self.frames.is_partial().then_some(frame);
        let write = self.is_writing().then_some(write);
        [frame, write].into_iter().flatten().fold(idle, Ord::min)
    }

    fn check_time(&self) -> Result<(), End> {
        let (deadline, what) = self.deadline();
        if Instant::now() >= deadline { Err(End::Late(what)) } else { Ok(()) }
    }

    /// Sets the alarm when it has rung or would ring too late. One that would ring too early is
    /// left alone: moving it on every event would cost more than one needless check.
    fn set_alarm(&self, alarm: Pin<&mut Sleep>) {
        let (deadline, _) = self.deadline();
        if alarm.is_elapsed() || deadline < alarm.deadline() {
            alarm.reset(deadline);
        }
    }
}
