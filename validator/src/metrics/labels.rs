//! The labels of metrics: few values each, known to us, never a client's.

use prometheus_client::encoding::EncodeLabelSet;

/// Labels of what happens in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StageLabel {
    /// The stage, or for a queue its name.
    pub stage: &'static str,
}

/// Labels of what a stage drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DropLabel {
    /// The stage.
    pub stage: &'static str,
    /// A name of [`crate::refusal::Refusal`], or of another list of reasons.
    pub reason: &'static str,
}

/// Labels of a way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PathLabel {
    /// `udp`, `tcp` or `http`.
    pub path: &'static str,
}

/// Labels of a direction on a way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TrafficLabel {
    /// `in` or `out`.
    pub dir: &'static str,
    /// `udp`, `tcp` or `http`.
    pub path: &'static str,
}

/// Labels of a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabel {
    /// `tcp` or `http`.
    pub path: &'static str,
    /// Why the validator ended it.
    pub reason: &'static str,
}

/// Labels of a rule of the packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabel {
    /// A name of `net_ebpf::Reject`.
    pub rule: &'static str,
}

/// Labels of a verdict of the kernel's packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VerdictLabel {
    /// A name of `net_ebpf::Verdict`.
    pub verdict: &'static str,
}

/// Labels of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// `valid` or `invalid`.
    pub result: &'static str,
}

/// Labels of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// A name of `ledger::Outcome`.
    pub outcome: &'static str,
}

/// Labels of proven malice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EquivocationLabel {
    /// The validator's place in the set.
    pub validator: u32,
    /// What it contradicted itself in.
    pub kind: &'static str,
}

/// Labels of HTTP requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HttpLabel {
    /// The status of the response.
    pub status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabel {
    pub(super) version: &'static str,
    pub(super) commit: &'static str,
    pub(super) target: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BackendLabel {
    pub(super) stage: String,
    pub(super) backend: String,
    pub(super) reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct QueueLabel {
    pub(super) stage: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StateLabel {
    pub(super) state: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CheckLabel {
    pub(super) check: &'static str,
}
