//! A connection to one validator that is made again whenever it breaks.

use crate::handle::Answer;
use crate::wire::{self, Call, Frames, HELLO, WELCOME_BYTES, Welcome};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

/// Time between two attempts to connect.
pub(super) const RECONNECT: Duration = Duration::from_millis(200);
/// Time for one attempt.
const CONNECT: Duration = Duration::from_secs(2);
/// Bytes that may wait for a validator that does not read; then the connection is given up.
const OUTGOING_BYTES_MAX: usize = 64 << 20;
/// Bytes that wait when the next transactions are held back: what lies here has not been handed in, and
/// grows old. Enough for some milliseconds of the highest rates.
const FULL_BYTES: usize = 256 << 10;
/// Bytes that the kernel holds on their way, at most (it doubles them for its own use).
const SEND_BYTES: usize = 256 << 10;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// News from a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// It was made.
    Connected(usize, Welcome),
    /// It broke, or could not be made.
    Gone(usize, String),
    /// Answers arrived.
    Answers(usize, Vec<Answer>),
}

/// The sending side of a connection.
#[derive(Clone, Default)]
pub(super) struct Outgoing {
    bytes: Arc<Mutex<Vec<u8>>>,
    wake: Arc<Notify>,
}

impl Outgoing {
    /// Adds a frame; it leaves at the next [`Outgoing::flush`].
    pub(super) fn push(&self, call: &Call<'_>) {
        call.encode_into(&mut self.lock());
    }

    /// Sends what was added.
    pub(super) fn flush(&self) {
        if !self.lock().is_empty() {
            self.wake.notify_one();
        }
    }

    /// Returns whether the validator takes no more for now.
    pub(super) fn is_full(&self) -> bool {
        self.lock().len() >= FULL_BYTES
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection for as long as the events are read.
pub(super) async fn keep(
    index: usize,
    address: SocketAddr,
    outgoing: Outgoing,
    events: mpsc::Sender<Event>,
) {
    while !events.is_closed() {
        let end = match tokio::time::timeout(CONNECT, open(address)).await {
            Ok(Ok((stream, welcome))) => {
                // What was meant for the connection before is sent again by whoever sent it.
                outgoing.lock().clear();
                if events.send(Event::Connected(index, welcome)).await.is_err() {
                    return;
                }
                serve(index, stream, &outgoing, &events).await
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::from(io::ErrorKind::TimedOut),
        };
        let reason = format!("{address}: {end}");
        if events.send(Event::Gone(index, reason)).await.is_err() {
            return;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn open(address: SocketAddr) -> io::Result<(TcpStream, Welcome)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BYTES)?;
    stream.write_all(&HELLO).await?;
    let mut bytes = [0; WELCOME_BYTES];
    stream.read_exact(&mut bytes).await?;
    let welcome = Welcome::decode(&bytes).map_err(io::Error::other)?;
    Ok((stream, welcome))
}

/// Serves both directions at once, so that a validator that does not read can still be read.
async fn serve(
    index: usize,
    stream: TcpStream,
    outgoing: &Outgoing,
    events: &mpsc::Sender<Event>,
) -> io::Error {
    let (reader, writer) = stream.into_split();
    tokio::select! {
        error = read(index, reader, events) => error,
        error = write(writer, outgoing) => error,
    }
}

async fn read(index: usize, mut reader: OwnedReadHalf, events: &mpsc::Sender<Event>) -> io::Error {
    let mut frames = Frames::new(wire::ANSWER_BYTES_MAX);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) => return io::Error::from(io::ErrorKind::UnexpectedEof),
            Ok(count) => count,
            Err(error) => return error,
        };
        let mut answers = Vec::new();
        let fed = frames.feed(&buffer[..count], |frame| {
            answers.push(wire::decode_answer(frame)?);
            Ok(())
        });
        if let Err(reject) = fed {
            return io::Error::other(reject);
        }
        if !answers.is_empty() && events.send(Event::Answers(index, answers)).await.is_err() {
            return io::Error::from(io::ErrorKind::BrokenPipe);
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, outgoing: &Outgoing) -> io::Error {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        std::mem::swap(&mut bytes, &mut outgoing.lock());
        if bytes.is_empty() {
            outgoing.wake.notified().await;
            continue;
        }
        let sent = writer.write_all(&bytes);
        tokio::select! {
            result = sent => if let Err(error) = result { return error },
            () = clogged(outgoing) => return io::Error::other("the validator does not read"),
        }
    }
}

/// Ends when too much waits.
async fn clogged(outgoing: &Outgoing) {
    while outgoing.lock().len() < OUTGOING_BYTES_MAX {
        tokio::time::sleep(RECONNECT).await;
    }
}
