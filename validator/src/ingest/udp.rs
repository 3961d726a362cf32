//! Transactions in datagrams: filter, policy, session, then the node, and one short answer back.
//!
//! Two loops, each for a thread of its own: [`Intake::run`] takes packets, judges them and answers
//! those that open sessions; [`Answers::run`] sends what the node answered. A datagram sent back is never
//! longer than the one it answers, so a validator never multiplies traffic toward a forged address.
//!
//! What the node finds in a transaction goes back to the session it came from: accepted ones keep
//! its place, those that prove a hostile sender end it. See [`net_ebpf::session`].

mod report;

use crate::{
    handle::{NodeHandle, PacketBoard, Reply, Stop, UdpAnswer, UdpReply},
    metrics::{Metrics, PathLabel},
};
use crossbeam::channel::{self, RecvTimeoutError};
use net_ebpf::{
    Error,
    abi::Session,
    filter::Attached,
    policy::{Admitted, Policy},
    receive::{BATCH_PACKETS_MAX, Ingress, Outgoing, Sender},
    session::{Action, AdmissionKey, Server, Tokens},
    tables::Tables,
};
use report::{Counters, packets};
use rustix::time::{ClockId, clock_gettime};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// Answers that wait to be sent, at most: 2 MiB, a fifth of a second of 50,000. Full: drop and
/// count; a client repeats what was not answered.
pub const ANSWERS_MAX: usize = 10_000;
/// How long a loop waits before it looks whether it shall end: four idle wake-ups a second.
const WAIT: Duration = Duration::from_millis(250);
/// How long it waits while packets come: windows that a rate held back move on meanwhile.
const WAIT_BUSY: Duration = Duration::from_millis(5);
/// Packets came lately if they did within this time. Units: ns.
const LATELY_NS: u64 = 1_000_000_000;
/// Time between two looks at counters, lists and addresses. Units: ns.
const HOUSEKEEPING_NS: u64 = 200_000_000;
/// Time between two looks at the addresses of this host. Units: ns.
const ADDRESSES_NS: u64 = 5_000_000_000;
/// How long an admission key is handed out; the one before is good for an hour more. Units: ns.
pub const KEY_LIFE_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// How long the address behind a session that was ended for hostile transactions is not listened to: long
/// enough to make each attempt dear, short enough for whoever has the address next.
const BLOCK_NS: u64 = 60 * 1_000_000_000;
/// Failures of the socket in a row that are taken for passing trouble; the next ends the loop.
const FAILURES_MAX: u32 = 50;
/// Pause after a failure: trying at once would spin.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

const PATH: &str = "udp";

/// Everything that admits packets, made before any thread.
pub struct Parts {
    /// Socket and rings.
    pub ingress: Ingress,
    /// The policy with its own tables.
    pub policy: Policy,
    /// Sessions.
    pub server: Server,
    /// The kernel's program, where it runs.
    pub kernel: Option<Attached>,
    /// Reads the addresses of this host that packets are taken for, with the ports open at each;
    /// none where they do not change.
    pub local: Option<LocalAddresses>,
    /// Makes an admission key known to clients.
    pub announce: Box<dyn FnMut(&AdmissionKey) + Send>,
    /// Where the state of the packet path is published.
    pub board: Arc<PacketBoard>,
}

/// Reads the addresses of this host that packets are taken for.
pub type LocalAddresses = Box<dyn FnMut() -> Option<Vec<(std::net::IpAddr, u32)>> + Send>;

/// The way in, before any thread.
pub struct Intake {
    parts: Parts,
    sender: Sender,
    answers: channel::Sender<UdpAnswer>,
    /// When packets came, the house was kept, addresses were read, and the key was made.
    packets_ns: u64,
    kept_ns: u64,
    addresses_ns: u64,
    key_ns: u64,
    /// The addresses of this host as they were last read.
    addresses: Vec<(std::net::IpAddr, u32)>,
    /// Rings that were found dead, so that each is said once.
    dead: usize,
}

/// The way back, before any thread.
pub struct Answers {
    sender: Sender,
    queue: channel::Receiver<UdpAnswer>,
}

/// Joins the parts.
///
/// Errors: [`Error::Socket`] where the socket cannot be shared with its senders.
pub fn join(mut parts: Parts) -> Result<(Intake, Answers), Error> {
    let receiver = parts.ingress.receiver();
    let (direct, answering) = (receiver.sender()?, receiver.sender()?);
    (parts.announce)(parts.server.key());
    let (answers, queue) = channel::bounded(ANSWERS_MAX);
    let key_ns = now_ns();
    let intake = Intake {
        parts,
        sender: direct,
        answers,
        packets_ns: 0,
        kept_ns: 0,
        addresses_ns: key_ns,
        key_ns,
        addresses: Vec::new(),
        dead: 0,
    };
    Ok((intake, Answers { sender: answering, queue }))
}

/// The clock that the kernel's program reads too, some milliseconds coarse. Units: ns.
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::MonotonicCoarse)
}

/// The CPU time of this thread. Units: ns.
fn cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("the clock starts at zero");
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).expect("below a second")
}

/// Tokens go to both tables: the policy's and the kernel's.
struct Both<'a> {
    policy: &'a mut Tables,
    kernel: Option<&'a mut Attached>,
}

impl Tokens for Both<'_> {
    fn open(&mut self, session: Session) {
        self.policy.open(session);
        if let Some(kernel) = &mut self.kernel {
            kernel.open(session);
        }
    }

    fn put(&mut self, slot: usize, token: u64) {
        self.policy.put(slot, token);
        if let Some(kernel) = &mut self.kernel {
            kernel.put(slot, token);
        }
    }
}

/// A datagram that the intake itself sends back; the longest is a welcome.
type Direct = (SocketAddr, Vec<u8>);

impl Intake {
    /// The socket and the rings, for their addresses and their line at the start.
    pub const fn ingress(&self) -> &Ingress {
        &self.parts.ingress
    }

    /// Hands packets to the node until `stop`.
    ///
    /// Errors: [`Error::Receive`] or [`Error::Socket`] when the socket fails for five seconds.
    pub fn run(mut self, handle: &NodeHandle, stop: &Stop) -> Result<(), Error> {
        let mut counters = Counters::new(&handle.metrics);
        let (mut direct, mut actions) = (Vec::new(), Vec::new());
        let mut failures = 0;
        while !stop.is_stopped() {
            match self.take(handle, &mut counters, &mut direct) {
                Ok(()) => failures = 0,
                Err(error) if failures == FAILURES_MAX => return Err(error),
                Err(_) => {
                    failures += 1;
                    std::thread::sleep(FAILURE_PAUSE);
                }
            }
            let now = now_ns();
            self.tick(now, &mut actions, &mut direct);
            self.send(&mut counters, &mut direct);
            if now >= self.kept_ns + HOUSEKEEPING_NS {
                self.kept_ns = now;
                self.keep_house(now, &mut counters);
            }
        }
        Ok(())
    }

    /// Takes the packets that are there, or waits for the first.
    fn take(
        &mut self,
        handle: &NodeHandle,
        counters: &mut Counters,
        direct: &mut Vec<Direct>,
    ) -> Result<(), Error> {
        let is_lately = now_ns() < self.packets_ns + LATELY_NS;
        let Parts { ingress, policy, server, kernel, .. } = &mut self.parts;
        let batch = ingress.receive(if is_lately { WAIT_BUSY } else { WAIT })?;
        let now = now_ns();
        if !batch.is_empty() {
            self.packets_ns = now;
        }
        for packet in batch.iter() {
            let from = packet.address;
            match policy.admit(now, from, packet.destination, packet.bytes) {
                // It is counted by the policy and gets no answer.
                Err(_) => {}
                Ok(Admitted::Cookie(cookie)) => direct.push((from, cookie.to_vec())),
                Ok(Admitted::Handshake) => {
                    let before = cpu_ns();
                    let mut tokens = Both { policy: policy.tables_mut(), kernel: kernel.as_mut() };
                    match server.handshake(now, from, packet.bytes, &mut tokens) {
                        Ok(welcome) => direct.push((from, welcome.to_vec())),
                        Err(reject) => policy.count(reject),
                    }
                    server.charge(cpu_ns().saturating_sub(before));
                }
                Ok(Admitted::Submit) => {
                    let mut tokens = Both { policy: policy.tables_mut(), kernel: kernel.as_mut() };
                    match server.accept(now, from, packet.bytes, &mut tokens) {
                        Ok(accepted) => {
                            if let Some(window) = accepted.window {
                                direct.push((from, window.to_vec()));
                            }
                            let reply = UdpReply::new(
                                from,
                                accepted.ticket,
                                server.standing(),
                                self.answers.clone(),
                                counters.answers_dropped(),
                            );
                            let bytes = accepted.transaction.to_vec();
                            handle.submit(bytes, Reply::Udp(Arc::new(reply)));
                        }
                        Err(reject) => policy.count(reject),
                    }
                }
            }
        }
        counters.packets.inc_by(batch.len() as u64);
        Ok(())
    }

    /// Moves windows that a rate held back, ends sessions that were blamed.
    fn tick(&mut self, now: u64, actions: &mut Vec<Action>, direct: &mut Vec<Direct>) {
        let Parts { policy, server, kernel, .. } = &mut self.parts;
        let mut tokens = Both { policy: policy.tables_mut(), kernel: kernel.as_mut() };
        server.tick(now, &mut tokens, actions);
        for action in actions.drain(..) {
            match action {
                Action::Send { to, packet } => direct.push((to, packet.to_vec())),
                Action::Block(address) => {
                    let until = now + BLOCK_NS;
                    policy.tables().block(address, now, until);
                    if let Some(kernel) = kernel {
                        kernel.tables().block(address, now, until);
                    }
                }
            }
        }
    }

    fn send(&mut self, counters: &mut Counters, direct: &mut Vec<Direct>) {
        if direct.is_empty() {
            return;
        }
        let packets: Vec<Outgoing<'_>> =
            direct.iter().map(|(address, bytes)| Outgoing { address: *address, bytes }).collect();
        let taken = self.sender.send(&packets);
        counters.sent(taken, packets.len() - taken);
        direct.clear();
    }

    /// Publishes counters, takes what has ended off the lists, follows this host's addresses, and
    /// makes another admission key in time.
    fn keep_house(&mut self, now: u64, counters: &mut Counters) {
        let Parts { ingress, policy, server, kernel, local, announce, board } = &mut self.parts;
        let blocked = policy.tables().expire(now);
        if let Some(kernel) = kernel {
            kernel.tables().expire(now);
            if now >= self.addresses_ns + ADDRESSES_NS
                && let Some(local) = local
            {
                self.addresses_ns = now;
                // Those known before stay where the kernel does not tell, or tells too many.
                let now = local().filter(|now| *now != self.addresses);
                if let Some(now) = now {
                    if let Err(error) = kernel.tables().set_local(&now) {
                        tracing::warn!(%error, "addresses of this host that are not filtered");
                    }
                    self.addresses = now;
                }
            }
        }
        // Without randomness the present key is handed out longer.
        if now >= self.key_ns + KEY_LIFE_NS
            && let Some(key) = fresh_key()
        {
            self.key_ns = now;
            server.rotate(now, key);
            announce(server.key());
            tracing::info!("admission key rotated");
        }
        let dead =
            ingress.rings_mut().iter_mut().filter_map(|ring| ring.failure().map(drop)).count();
        if dead > self.dead {
            tracing::warn!(rings = dead, "AF_XDP rings receive no more: the interface is gone");
            self.dead = dead;
        }
        let sessions = server.sessions();
        counters.publish(policy, ingress, kernel.as_ref(), sessions, blocked);
        board.update(report::status(policy, kernel.as_ref(), sessions, blocked));
    }
}

/// Makes an admission key; none where the system has no randomness.
pub fn fresh_key() -> Option<AdmissionKey> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).ok()?;
    Some(AdmissionKey::generate(*seed))
}

impl Answers {
    /// Sends answers until `stop`, or until nobody can give one any more.
    pub fn run(mut self, metrics: &Metrics, stop: &Stop) {
        let sent = packets(metrics, "out");
        let dropped = metrics.net_answers_dropped.get_or_create_owned(&PathLabel { path: PATH });
        let mut answers = Vec::with_capacity(BATCH_PACKETS_MAX);
        while !stop.is_stopped() {
            match self.queue.recv_timeout(WAIT) {
                Ok(answer) => answers.push(answer),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            answers.extend(self.queue.try_iter().take(BATCH_PACKETS_MAX - 1));
            let packets: Vec<Outgoing<'_>> = answers
                .iter()
                .map(|answer| Outgoing { address: answer.address, bytes: &answer.bytes })
                .collect();
            let taken = self.sender.send(&packets);
            sent.inc_by(taken as u64);
            dropped.inc_by((packets.len() - taken) as u64);
            answers.clear();
        }
    }
}

#[cfg(test)]
mod tests;
