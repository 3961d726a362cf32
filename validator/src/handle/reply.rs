//! The way back to a client: never waits, never holds more than its budget.

use super::{Answer, Budget};
use crate::wire;
use crossbeam::channel;
use net_ebpf::{
    abi,
    session::{Standing, Ticket},
};
use prometheus_client::metrics::counter::Counter;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Notify, mpsc};

/// Bytes of answers that wait for one TCP client, at most: 160,000 answers, a second of a client
/// that does not read while it has 80,000 transactions a second accepted and finalized.
pub const OUTBOX_BYTES_MAX: usize = 8 << 20;

/// Answers that wait for one HTTP request, at most: accepted and final, and one to spare.
const HTTP_ANSWERS_MAX: usize = 3;

/// Where the answers to one request go.
#[derive(Clone, Debug, Default)]
pub enum Reply {
    /// To the connection that the request came by.
    Tcp(Arc<Outbox>),
    /// To the HTTP request.
    Http(HttpReply),
    /// To the address that the packet came from; the first answer only.
    Udp(Arc<UdpReply>),
    /// Nowhere.
    #[default]
    None,
}

impl Reply {
    /// A reply to an HTTP request, and where its answers arrive.
    pub fn http(wants_final: bool) -> (Self, mpsc::Receiver<Answer>) {
        let (sender, receiver) = mpsc::channel(HTTP_ANSWERS_MAX);
        (Self::Http(HttpReply { sender, wants_final }), receiver)
    }

    /// Sends an answer without waiting. A client that is gone or does not read is no error: its
    /// answer is dropped and counted, and a TCP connection that does not read is closed.
    pub fn send(&self, answer: Answer) {
        match self {
            Self::Tcp(outbox) => outbox.send(&answer),
            // The receiver is gone, or has not looked at three answers: nobody reads this one.
            Self::Http(http) => drop(http.sender.try_send(answer)),
            Self::Udp(udp) => udp.send(&answer),
            Self::None => {}
        }
    }

    /// Returns whether the client is told again when its transaction is final.
    pub const fn wants_final(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Http(http) => http.wants_final,
            Self::Udp(_) | Self::None => false,
        }
    }

    /// Reports that the request brought a transaction which was checked and admitted: its sender
    /// earns the place of its session.
    pub fn earned(&self) {
        if let Self::Udp(udp) = self
            && let Some(ticket) = &*udp.ticket()
        {
            udp.standing.accepted(ticket.session());
        }
    }

    /// Returns whether the session that the request came by was ended for hostile transactions.
    pub fn is_revoked(&self) -> bool {
        match self {
            Self::Udp(udp) => {
                udp.ticket().as_ref().is_some_and(|one| udp.standing.has_ended(one.session()))
            }
            Self::Tcp(_) | Self::Http(_) | Self::None => false,
        }
    }

    /// Returns whether anybody may still read an answer.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Tcp(outbox) => outbox.is_open(),
            Self::Http(http) => !http.sender.is_closed(),
            Self::Udp(udp) => udp.is_open(),
            Self::None => false,
        }
    }
}

/// The way to an HTTP request that waits.
#[derive(Clone, Debug)]
pub struct HttpReply {
    sender: mpsc::Sender<Answer>,
    wants_final: bool,
}

/// Answers that wait for one TCP client, as the bytes that will be written.
///
/// Any thread adds to it; the connection's task takes everything at once, so that many answers
/// become one write.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    open: AtomicBool,
    wake: Notify,
    limit_bytes: usize,
    shared: Arc<Budget>,
    counters: OutboxCounters,
}

/// What outboxes count, all together.
#[derive(Clone, Debug, Default)]
pub struct OutboxCounters {
    /// Answers taken.
    pub sent: Counter,
    /// Answers that found no room.
    pub dropped: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Bytes that the budget knows of: the queue, and what the task has taken and not yet written.
    held_bytes: usize,
}

impl Outbox {
    /// Makes an open, empty outbox.
    ///
    /// `limit_bytes` bounds this one, `shared` bounds all together.
    pub fn new(limit_bytes: usize, shared: Arc<Budget>, counters: OutboxCounters) -> Self {
        Self {
            queue: Mutex::default(),
            open: AtomicBool::new(true),
            wake: Notify::new(),
            limit_bytes,
            shared,
            counters,
        }
    }

    /// Returns whether answers are still taken.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Adds an answer; one that finds no room closes the outbox, since a client that misses one
    /// answer can rely on none.
    pub fn send(&self, answer: &Answer) {
        let mut queue = self.lock();
        if !self.is_open() {
            return;
        }
        let before = queue.bytes.len();
        wire::encode_answer(answer, &mut queue.bytes);
        let added = queue.bytes.len() - before;
        let fits = queue.held_bytes + added <= self.limit_bytes && self.shared.take(added);
        if fits {
            queue.held_bytes += added;
            self.counters.sent.inc();
        } else {
            queue.bytes.truncate(before);
            self.open.store(false, Ordering::Release);
            self.counters.dropped.inc();
        }
        drop(queue);
        // The task takes everything that is there, so only the first after a taking must wake it.
        if before == 0 || !fits {
            self.wake.notify_one();
        }
    }

    /// Waits until there is something to take, or the outbox was closed.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Moves everything that waits to the end of `bytes`.
    pub fn take(&self, bytes: &mut Vec<u8>) {
        let mut queue = self.lock();
        if bytes.is_empty() {
            std::mem::swap(bytes, &mut queue.bytes);
        } else {
            bytes.append(&mut queue.bytes);
        }
    }

    /// Gives back the budget of bytes that were taken and are now written.
    pub fn written(&self, bytes: usize) {
        let mut queue = self.lock();
        assert!(bytes <= queue.held_bytes, "more was written than was taken");
        queue.held_bytes -= bytes;
        self.shared.give(bytes);
    }

    /// Takes no more answers and forgets those that wait: the node may keep this value for as long
    /// as it waits for finality, and must not keep answers that nobody will read.
    pub fn close(&self) {
        let mut queue = self.lock();
        self.open.store(false, Ordering::Release);
        self.shared.give(queue.held_bytes);
        *queue = Queue::default();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds an outbox")
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let held_bytes = self.lock().held_bytes;
        self.shared.give(held_bytes);
    }
}

/// An answer on its way to the address that a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpAnswer {
    /// Where it goes.
    pub address: SocketAddr,
    /// Its bytes.
    pub bytes: [u8; abi::ANSWER_SIZE],
}

/// The way back to the sender of one packet: one answer, so that a forged source gains nothing.
///
/// What the node finds in the transaction is reported to the session that it came from.
#[derive(Debug)]
pub struct UdpReply {
    address: SocketAddr,
    /// Taken by the first answer.
    ticket: Mutex<Option<Ticket>>,
    standing: Arc<Standing>,
    answers: channel::Sender<UdpAnswer>,
    dropped: Counter,
}

impl UdpReply {
    /// A reply to the packet with this ticket from this address; `dropped` counts answers that
    /// found the queue full.
    pub(crate) fn new(
        address: SocketAddr,
        ticket: Ticket,
        standing: Arc<Standing>,
        answers: channel::Sender<UdpAnswer>,
        dropped: Counter,
    ) -> Self {
        Self { address, ticket: Mutex::new(Some(ticket)), standing, answers, dropped }
    }

    fn is_open(&self) -> bool {
        self.ticket().is_some()
    }

    fn send(&self, answer: &Answer) {
        let Some(outcome) = wire::datagram_outcome(answer) else {
            return;
        };
        let Some(ticket) = self.ticket().take() else {
            return;
        };
        match answer {
            // The tag was right: whoever holds the session sent these very bytes.
            Answer::Refused { refusal, .. } if refusal.is_hostile() => {
                self.standing.blamed(ticket.session());
            }
            Answer::Accepted { .. }
            | Answer::Refused { .. }
            | Answer::Final { .. }
            | Answer::Unknown { .. } => {}
        }
        let bytes = ticket.answer(&outcome);
        if self.answers.try_send(UdpAnswer { address: self.address, bytes }).is_err() {
            self.dropped.inc();
        }
    }

    fn ticket(&self) -> MutexGuard<'_, Option<Ticket>> {
        self.ticket.lock().expect("nothing panics while it holds a ticket")
    }
}
