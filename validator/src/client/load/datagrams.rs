//! The datagrams to one validator: a session that is opened again whenever it ends, and its socket.
//!
//! Two tasks serve it. One fetches the admission key, at first and whenever the session may need
//! another: after handshakes without a reply, and when the connection was made again, since what
//! answers there may be another process that knows nothing of the session. The other sends what the
//! session asks for and reads what comes; nothing that is not authentic changes anything.

use super::connection::{Event, RECONNECT};
use super::{Sessions, UdpTarget};
use crate::client::Api;
use crate::handle::{Answer, RETRY_MS};
use crate::refusal::Refusal;
use crate::stage::Clock;
use crate::wire;
use ledger::Digest;
use net_ebpf::abi::{self, PACKET_SIZE_MAX, WELCOME_SIZE};
use net_ebpf::session::{self, Client, Outgoing};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Time to fetch the key.
const FETCH: Duration = Duration::from_secs(2);
/// The key is asked for at most this often.
const FETCH_PAUSE: Duration = Duration::from_secs(1);
/// The session is looked at this often, also when nothing comes: what is sent does not wake its task,
/// and the session counts silence in seconds.
const LOOK: Duration = Duration::from_millis(100);
/// Datagrams that are read before others have their turn.
const READ_MAX: usize = 256;

/// A session with one validator, and all that it takes to have one.
pub(super) struct Datagrams {
    target: UdpTarget,
    network: Digest,
    socket: UdpSocket,
    clock: Clock,
    state: Mutex<State>,
    /// Wakes the task that fetches the key.
    key_wanted: Notify,
}

#[derive(Default)]
struct State {
    /// None before the admission key is known.
    client: Option<Client>,
    key: [u8; 32],
    /// Whether the connection was made again since the key was fetched; until it is, nothing is sent in
    /// the session.
    is_doubtful: bool,
    counts: Sessions,
    /// Why the key is not known.
    trouble: Option<String>,
}

impl Datagrams {
    /// Makes the socket, and starts to open a session.
    ///
    /// Errors: the system denies a socket.
    pub(super) async fn start(
        index: usize,
        target: &UdpTarget,
        network: Digest,
        events: mpsc::Sender<Event>,
    ) -> io::Result<Arc<Self>> {
        let datagrams = Arc::new(Self {
            socket: connect(target.address).await?,
            target: target.clone(),
            network,
            clock: Clock::start(),
            state: Mutex::default(),
            key_wanted: Notify::new(),
        });
        tokio::spawn(Arc::clone(&datagrams).keep_key());
        tokio::spawn(Arc::clone(&datagrams).keep_session(index, events));
        Ok(datagrams)
    }

    /// Returns whether a session stands.
    pub(super) fn is_open(&self) -> bool {
        self.lock().client.as_ref().is_some_and(|client| client.session().is_some())
    }

    /// Says why none stands.
    pub(super) fn trouble(&self) -> String {
        let known = self.lock().trouble.clone();
        known.unwrap_or_else(|| format!("udp://{}: no session is opened", self.target.address))
    }

    /// Returns what was counted.
    pub(super) fn counts(&self) -> Sessions {
        self.lock().counts
    }

    /// Another process may be behind the addresses from now on.
    pub(super) fn doubt(&self) {
        self.lock().is_doubtful = true;
        self.key_wanted.notify_one();
    }

    /// Makes a submit of a transaction, and returns its size; none when it must go another way.
    pub(super) fn seal(
        &self,
        transaction: &[u8],
        packet: &mut [u8; PACKET_SIZE_MAX],
    ) -> Option<usize> {
        let mut state = self.lock();
        let State { client, is_doubtful, counts, .. } = &mut *state;
        let client = client.as_mut().filter(|_| !*is_doubtful);
        let sealed = client.and_then(|client| client.seal(self.clock.now(), transaction, packet));
        match sealed {
            Some(_) => counts.datagrams += 1,
            None => counts.held_back += 1,
        }
        sealed
    }

    /// Sends a datagram. One that cannot leave is like one that is lost on the way.
    pub(super) async fn send(&self, packet: &[u8]) {
        let _: io::Result<usize> = self.socket.send(packet).await;
    }

    /// Fetches the key whenever it is wanted.
    async fn keep_key(self: Arc<Self>) {
        loop {
            let next = Instant::now() + FETCH_PAUSE;
            match self.fetch().await.and_then(|key| self.take_key(key)) {
                Ok(()) => self.key_wanted.notified().await,
                Err(why) => self.lock().trouble = Some(why),
            }
            sleep_until(next).await;
        }
    }

    async fn fetch(&self) -> Result<[u8; 32], String> {
        let http = self.target.http.clone();
        let asked = tokio::task::spawn_blocking(|| Api::new(http, FETCH).admission());
        let admission = asked.await.map_err(|error| error.to_string())?;
        let admission = admission.map_err(|error| error.to_string())?;
        let now_ms = u64::try_from(self.clock.wall().as_millis()).unwrap_or(u64::MAX);
        admission
            .verify(&self.network, &self.target.key, now_ms)
            .map_err(|reject| format!("{}: {reject}", self.target.http))?;
        Ok(admission.admission_key)
    }

    /// Goes on with a key: in the session that stands, unless that is another process's.
    fn take_key(&self, key: [u8; 32]) -> Result<(), String> {
        let mut state = self.lock();
        let is_known = state.key == key;
        let is_doubtful = state.is_doubtful;
        match &mut state.client {
            Some(_) if is_known => {}
            Some(client) if !is_doubtful => client.set_key(key),
            _ => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed)
                    .map_err(|error| format!("no random numbers: {error}"))?;
                state.client = Some(Client::new(self.network.0, key, seed));
            }
        }
        (state.key, state.is_doubtful, state.trouble) = (key, false, None);
        Ok(())
    }

    /// Keeps a session for as long as the events are read.
    async fn keep_session(self: Arc<Self>, index: usize, events: mpsc::Sender<Event>) {
        let mut packet = [0; WELCOME_SIZE + 1];
        while !events.is_closed() {
            let (outgoing, pause) = self.poll();
            if let Some(outgoing) = outgoing {
                self.send(outgoing.bytes()).await;
                continue;
            }
            let is_readable = timeout(pause, self.socket.readable()).await.is_ok();
            if !is_readable {
                continue;
            }
            let (answers, read) = self.read(&mut packet);
            if !answers.is_empty() && events.send(Event::Answers(index, answers)).await.is_err() {
                return;
            }
            // It tells of an earlier datagram: nobody listened.
            if read.is_err() {
                sleep(RECONNECT).await;
            }
        }
    }

    /// What the session wants to be sent, and how long it may be left alone.
    fn poll(&self) -> (Option<Outgoing>, Duration) {
        let now_ns = self.clock.now();
        let mut state = self.lock();
        let State { client: Some(client), counts, .. } = &mut *state else {
            return (None, LOOK);
        };
        let outgoing = client.poll(now_ns);
        let is_handshake = |packet: &Outgoing| packet.bytes().len() == abi::HANDSHAKE_SIZE;
        counts.handshakes += u64::from(outgoing.as_ref().is_some_and(is_handshake));
        if client.needs_key() {
            self.key_wanted.notify_one();
        }
        let left = client.next_wake().map(|at_ns| at_ns.saturating_sub(now_ns));
        (outgoing, left.map_or(LOOK, |left_ns| Duration::from_nanos(left_ns).min(LOOK)))
    }

    /// Reads what has come, and returns what it says of transactions.
    fn read(&self, packet: &mut [u8]) -> (Vec<Answer>, io::Result<()>) {
        let mut answers = Vec::new();
        let now_ns = self.clock.now();
        let mut state = self.lock();
        let State { client, counts, .. } = &mut *state;
        for _ in 0..READ_MAX {
            let size = match self.socket.try_recv(packet) {
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return (answers, Err(error)),
            };
            match client.as_mut().map(|client| client.receive(now_ns, &packet[..size])) {
                Some(session::Event::Answer(answer)) => answers.extend(answer_of(&answer.outcome)),
                Some(session::Event::Established) => counts.opened += 1,
                Some(
                    session::Event::Cookie
                    | session::Event::WindowGrew
                    | session::Event::Ignored(_),
                )
                | None => {}
            }
        }
        (answers, Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a socket for the datagrams to one address.
async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// What a datagram says; none for what the connection tells better, with its height.
fn answer_of(outcome: &abi::Outcome) -> Option<Answer> {
    let id = Digest(outcome.id);
    match outcome.status {
        abi::Status::Accepted => Some(Answer::Accepted { id }),
        abi::Status::Final => None,
        abi::Status::Refused(code) => {
            let refusal = Refusal::from_code(code)?;
            let previous = Digest(outcome.expected_previous);
            let expected = wire::expected(outcome.expected_sequence, previous).ok()?;
            let retry_ms = if refusal.retryable() { RETRY_MS } else { 0 };
            Some(Answer::Refused { id, refusal, expected, retry_ms })
        }
    }
}
