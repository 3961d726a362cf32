//! What the packet path counted, as metrics and as a part of the status document.

use super::PATH;
use crate::{
    handle::{PacketStatus, VerdictCount},
    metrics::{Metrics, Number, PathLabel, RuleLabel, TrafficLabel, VerdictLabel},
};
use net_ebpf::{
    Reject, Verdict,
    filter::Attached,
    policy::Policy,
    receive::{Fault, Ingress},
};
use prometheus_client::metrics::counter::Counter;

/// Packets by direction.
pub(super) fn packets(metrics: &Metrics, dir: &'static str) -> Counter {
    metrics.net_packets.get_or_create_owned(&TrafficLabel { dir, path: PATH })
}

/// The process's counters, fed from those of the policy and the kernel.
pub(super) struct Counters {
    pub(super) packets: Counter,
    sent: Counter,
    answers_dropped: Counter,
    socket: Step,
    rings: Step,
    foreign: Step,
    checksum: Step,
    rules: Vec<(Reject, Step)>,
    verdicts: Vec<(Verdict, Step)>,
    sessions: Number,
    blocked: Number,
}

/// A counter that follows another one.
struct Step {
    counter: Counter,
    last: u64,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let rule = |rule| {
            let label = RuleLabel { rule };
            Step { counter: metrics.net_filter_dropped.get_or_create_owned(&label), last: 0 }
        };
        let verdict = |verdict: Verdict| {
            let label = VerdictLabel { verdict: verdict.name() };
            Step { counter: metrics.net_xdp_packets.get_or_create_owned(&label), last: 0 }
        };
        Self {
            packets: packets(metrics, "in"),
            sent: packets(metrics, "out"),
            answers_dropped: metrics
                .net_answers_dropped
                .get_or_create_owned(&PathLabel { path: PATH }),
            socket: rule("kernel_buffer"),
            rings: rule("ring_full"),
            foreign: rule("foreign"),
            checksum: rule(Reject::Checksum.name()),
            rules: Reject::ALL
                .into_iter()
                .filter(|reject| *reject != Reject::Checksum)
                .map(|reject| (reject, rule(reject.name())))
                .collect(),
            verdicts: Verdict::all().map(|one| (one, verdict(one))).collect(),
            sessions: metrics.net_sessions.clone(),
            blocked: metrics.net_blocked.clone(),
        }
    }

    /// The counter of answers that found no room.
    pub(super) fn answers_dropped(&self) -> Counter {
        self.answers_dropped.clone()
    }

    /// Counts datagrams that the intake itself sent, and those that the kernel did not take.
    pub(super) fn sent(&self, taken: usize, dropped: usize) {
        self.sent.inc_by(taken as u64);
        self.answers_dropped.inc_by(dropped as u64);
    }

    /// Brings the metrics up to what was counted, as far as the kernel tells.
    pub(super) fn publish(
        &mut self,
        policy: &Policy,
        ingress: &mut Ingress,
        kernel: Option<&Attached>,
        sessions: usize,
        blocked: usize,
    ) {
        self.socket.follow(ingress.receiver_mut().kernel_dropped().unwrap_or(0));
        let rings = ingress.rings();
        let lost = |ring: &net_ebpf::receive::Ring| {
            ring.dropped().map(|lost| lost.other + lost.rx_full).unwrap_or(0)
        };
        self.rings.follow(rings.iter().map(lost).sum());
        let faults = |fault| rings.iter().map(|ring| ring.faults(fault)).sum();
        self.foreign.follow(faults(Fault::Foreign));
        self.checksum.follow(faults(Fault::Checksum));
        for (reject, step) in &mut self.rules {
            step.follow(policy.counters().of(Verdict::Drop(*reject)));
        }
        if let Some(kernel) = kernel {
            let counters = kernel.counters();
            for (verdict, step) in &mut self.verdicts {
                step.follow(counters.of(*verdict));
            }
        }
        self.sessions.set(sessions as u64);
        self.blocked.set(blocked as u64);
    }
}

impl Step {
    /// A ring that is gone may take its count with it; what was counted stays counted.
    fn follow(&mut self, now: u64) {
        self.counter.inc_by(now.saturating_sub(self.last));
        self.last = self.last.max(now);
    }
}

/// The changing part of the packet path's status.
pub(super) fn status(
    policy: &Policy,
    kernel: Option<&Attached>,
    sessions: usize,
    blocked: usize,
) -> PacketStatus {
    let counts = |counters: &net_ebpf::Counters| {
        counters
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(verdict, count)| VerdictCount { verdict: verdict.name().to_owned(), count })
            .collect()
    };
    PacketStatus {
        interface: kernel.map(|kernel| kernel.interface.name.clone()),
        policy: kernel.map(|kernel| kernel.action.name().to_owned()),
        sessions: sessions as u64,
        blocked: blocked as u64,
        kernel: kernel.map(|kernel| counts(&kernel.counters())).unwrap_or_default(),
        process: counts(policy.counters()),
    }
}
