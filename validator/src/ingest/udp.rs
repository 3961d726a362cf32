//! Transactions in datagrams: admission policy, then the node, and one short answer back.
//!
//! Two loops, each for a thread of its own: [`Intake::run`] takes packets and judges them,
//! [`Answers::run`] sends what the node answered. An answer is shorter than any request and each
//! request gets at most one, so a validator never multiplies traffic toward a forged address.

use crate::{
    handle::{NodeHandle, Reply, Stop, UdpAnswer, UdpReply},
    metrics::{Metrics, PathLabel, RuleLabel, TrafficLabel},
};
use crossbeam::channel::{self, RecvTimeoutError};
use net_ebpf::{
    Error, Reject,
    policy::{Limits, Policy, Source},
    receive::{BATCH_PACKETS_MAX, Options, Outgoing, Receiver, Sender},
};
use prometheus_client::metrics::counter::Counter;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Answers that wait to be sent, at most: 2 MiB, a fifth of a second of 50,000. Full: drop and
/// count; a client repeats what was not answered.
pub const ANSWERS_MAX: usize = 10_000;
/// How long a loop waits before it looks whether it shall end: four idle wake-ups a second.
const WAIT: Duration = Duration::from_millis(250);
/// Failures of the socket in a row that are taken for passing trouble; the next ends the loop.
const FAILURES_MAX: u32 = 50;
/// Pause after a failure: trying at once would spin.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

const PATH: &str = "udp";

/// The bound socket, before any thread.
pub struct Intake {
    receiver: Receiver,
    policy: Policy,
    answers: channel::Sender<UdpAnswer>,
}

/// The way back, before any thread.
pub struct Answers {
    sender: Sender,
    queue: channel::Receiver<UdpAnswer>,
}

/// Binds the socket; port 0 takes a free port.
///
/// `seed` is 16 random bytes that nobody else knows: see [`Policy::new`].
///
/// Errors: those of [`Receiver::bind`], [`Receiver::sender`] and [`Policy::new`].
pub fn bind(
    address: SocketAddr,
    options: &Options,
    limits: &Limits,
    seed: [u8; 16],
) -> Result<(Intake, Answers), Error> {
    let policy = Policy::new(limits, seed)?;
    let receiver = Receiver::bind(address, options)?;
    let sender = receiver.sender()?;
    let (answers, queue) = channel::bounded(ANSWERS_MAX);
    Ok((Intake { receiver, policy, answers }, Answers { sender, queue }))
}

impl Intake {
    /// The socket, for its address and its line at the start.
    pub const fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Hands packets to the node until `stop`.
    ///
    /// Errors: [`Error::Receive`] or [`Error::Socket`] when the socket fails for five seconds.
    pub fn run(mut self, handle: &NodeHandle, stop: &Stop) -> Result<(), Error> {
        let mut counters = Counters::new(&handle.metrics);
        let (start, mut failures) = (Instant::now(), 0);
        while !stop.is_stopped() {
            match self.take(handle, start, &mut counters) {
                Ok(()) => failures = 0,
                Err(error) if failures == FAILURES_MAX => return Err(error),
                Err(_) => {
                    failures += 1;
                    std::thread::sleep(FAILURE_PAUSE);
                }
            }
        }
        Ok(())
    }

    /// Takes the packets that are there, or waits for the first.
    fn take(
        &mut self,
        handle: &NodeHandle,
        start: Instant,
        counters: &mut Counters,
    ) -> Result<(), Error> {
        let batch = self.receiver.receive(WAIT)?;
        let now_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for packet in batch.iter() {
            let source = Source::from(packet.address);
            // A packet that is not admitted is counted by the policy and gets no answer.
            let Ok(submit) = self.policy.admit(now_ns, &source, packet.bytes) else {
                continue;
            };
            let (answers, dropped) = (self.answers.clone(), counters.answers_dropped.clone());
            let reply = UdpReply::new(packet.address, submit.counter, answers, dropped);
            handle.submit(submit.transaction.to_vec(), Reply::Udp(Arc::new(reply)));
        }
        counters.packets.inc_by(batch.len() as u64);
        counters.publish(&self.policy, self.receiver.kernel_dropped()?);
        Ok(())
    }
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

fn packets(metrics: &Metrics, dir: &'static str) -> Counter {
    metrics.net_packets.get_or_create_owned(&TrafficLabel { dir, path: PATH })
}

/// The process's counters, fed from those of the policy and the kernel.
struct Counters {
    packets: Counter,
    answers_dropped: Counter,
    kernel: Step,
    rules: [(Reject, Step); Reject::ALL.len()],
}

/// A counter that follows another one.
struct Step {
    counter: Counter,
    last: u64,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let step = |rule| {
            let label = RuleLabel { rule };
            Step { counter: metrics.net_filter_dropped.get_or_create_owned(&label), last: 0 }
        };
        Self {
            packets: packets(metrics, "in"),
            answers_dropped: metrics
                .net_answers_dropped
                .get_or_create_owned(&PathLabel { path: PATH }),
            kernel: step("kernel_buffer"),
            rules: Reject::ALL.map(|reject| (reject, step(reject.name()))),
        }
    }

    fn publish(&mut self, policy: &Policy, kernel_dropped: u64) {
        self.kernel.follow(kernel_dropped);
        for (reject, step) in &mut self.rules {
            step.follow(policy.counters().dropped(*reject));
        }
    }
}

impl Step {
    fn follow(&mut self, now: u64) {
        self.counter.inc_by(now - self.last);
        self.last = now;
    }
}

#[cfg(test)]
mod tests;
