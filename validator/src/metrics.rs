//! Every metric of the process: its name, type, labels and help, each written once.
//!
//! Stages hold clones of their own counters ([`Metrics::stage`]) and bump them once a batch; a
//! family is looked up under a lock, which is for rare events. What the node publishes on its
//! status board becomes gauges when somebody reads them ([`Metrics::observe`]), so it is said once.

mod costs;
mod labels;
mod process;

pub use labels::{
    CloseLabel, DropLabel, EquivocationLabel, HttpLabel, OutcomeLabel, PathLabel, ResultLabel,
    RuleLabel, StageLabel, TrafficLabel, VerdictLabel,
};

pub use process::resident_bytes;

use crate::{handle::Status, refusal::Refusal};
use labels::{BackendLabel, BuildLabel, CheckLabel, QueueLabel, StateLabel};
use ledger::Outcome;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};
use std::{fmt::Debug, hash::Hash, sync::atomic::AtomicU64};

/// The content type of [`Metrics::render`].
///
/// Source: OpenMetrics 1.0, section "Content Type".
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The machine that this program was built for.
const TARGET: &str = if cfg!(target_arch = "x86_64") {
    "x86_64-linux"
} else if cfg!(target_arch = "aarch64") {
    "aarch64-linux"
} else {
    "other-linux"
};

/// A counter of seconds.
pub type Seconds = Counter<f64, AtomicU64>;
/// A gauge of an unsigned number: a height, a size, a count.
pub type Number = Gauge<u64, AtomicU64>;

/// What is known of a metric: a row of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its full name, as a reader sees it.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// The counters of one stage, to hold and to bump without a lock.
#[derive(Clone, Debug)]
pub struct StageMetrics {
    /// Items taken from the input queue.
    pub taken: Counter,
    /// Items passed on.
    pub passed: Counter,
    /// Time spent working.
    pub busy: Seconds,
    /// Time spent waiting for input.
    pub waited: Seconds,
    /// Time spent waiting for room in the output queue.
    pub backpressure: Seconds,
}

/// Every metric.
#[derive(Debug)]
pub struct Metrics {
    /// Transactions handed in by clients, whatever became of them.
    pub tx_received: Counter,
    /// Transactions taken.
    pub tx_accepted: Counter,
    /// Transactions and requests dropped, by stage and reason.
    pub tx_dropped: Family<DropLabel, Counter>,
    /// Transactions that are final and durable.
    pub tx_committed: Counter,
    /// The same by outcome.
    pub tx_outcomes: Family<OutcomeLabel, Counter>,
    /// Time from taking a transaction here to its finality here.
    pub tx_commit_latency: Histogram,
    /// Signatures in one check.
    pub sigverify_batch_size: Histogram,
    /// Signatures by verdict, and those that came again.
    pub sigverify_signatures: Family<ResultLabel, Counter>,
    /// Time from the proposal of a block to its finality here.
    pub consensus_finality: Histogram,
    /// Contradictions that a validator signed.
    pub equivocation: Family<EquivocationLabel, Counter>,
    /// Blocks executed and durable.
    pub execute_blocks: Counter,
    /// Batches that became durable: own and others'.
    pub lane_batches: Counter,
    /// Bytes of transactions in them.
    pub lane_batch_bytes: Counter,
    /// Packets, connections' reads or requests by direction and way.
    pub net_packets: Family<TrafficLabel, Counter>,
    /// Packets that the policy or the kernel dropped.
    pub net_filter_dropped: Family<RuleLabel, Counter>,
    /// Packets by verdict of the kernel's filter.
    pub net_xdp_packets: Family<VerdictLabel, Counter>,
    /// Sessions of clients.
    pub net_sessions: Number,
    /// Sources that are not listened to for a while.
    pub net_blocked: Number,
    /// Connections open now.
    pub net_connections: Family<PathLabel, Number>,
    /// Connections that the validator ended, and why.
    pub net_connections_closed: Family<CloseLabel, Counter>,
    /// Answers that found no room.
    pub net_answers_dropped: Family<PathLabel, Counter>,
    /// HTTP responses by status.
    pub api_responses: Family<HttpLabel, Counter>,
    /// Bytes written to the store.
    pub storage_write_bytes: Counter,
    /// Time of one sync of the store.
    pub storage_sync: Histogram,
    /// Bytes free on the store's disk.
    pub storage_free: Number,
    /// Bytes of the store that were checked for rot.
    pub storage_scrubbed_bytes: Counter,
    /// Groups found damaged.
    pub storage_damaged: Counter,
    /// Of these, those that were repaired.
    pub storage_repaired: Counter,
    /// Bytes that the process may occupy, but for accounts to come.
    pub memory_budget: Number,
    stage_taken: Family<StageLabel, Counter>,
    stage_passed: Family<StageLabel, Counter>,
    stage_busy: Family<StageLabel, Seconds>,
    stage_waited: Family<StageLabel, Seconds>,
    stage_backpressure: Family<StageLabel, Seconds>,
    observed: Observed,
    registry: Registry,
    descriptions: Vec<Description>,
}

/// Gauges that follow the status board.
#[derive(Debug)]
struct Observed {
    height: Number,
    view: Number,
    executed_height: Number,
    ready: Family<CheckLabel, Number>,
    peers: Family<StateLabel, Number>,
    backends: Family<BackendLabel, Number>,
    queue: Family<QueueLabel, Number>,
    queue_limit: Family<QueueLabel, Number>,
    uptime: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Makes every metric, at zero.
    pub fn new() -> Self {
        let mut table = Table { registry: Registry::default(), descriptions: Vec::new() };
        table.build_info();
        let observed = Observed::new(&mut table);
        let metrics = Self {
            tx_received: table
                .counter("althing_tx_received_total", "Transactions that clients handed in."),
            tx_accepted: table.counter(
                "althing_tx_accepted_total",
                "Transactions that were taken, to be ordered.",
            ),
            tx_dropped: table.counters(
                "althing_tx_dropped_total",
                &["stage", "reason"],
                "Transactions and requests that were refused or dropped, by stage and reason.",
            ),
            tx_committed: table.counter(
                "althing_tx_committed_total",
                "Transactions that became final and durable here, by any validator.",
            ),
            tx_outcomes: table.counters(
                "althing_tx_outcomes_total",
                &["outcome"],
                "Transactions that became final and durable here, by outcome.",
            ),
            tx_commit_latency: table.histogram(
                "althing_tx_commit_latency_seconds",
                "Time from taking a transaction here to its finality here.",
                latency_buckets(),
            ),
            sigverify_batch_size: table.histogram(
                "althing_sigverify_batch_size",
                "Signatures that were checked together.",
                exponential_buckets(1.0, 2.0, 14),
            ),
            sigverify_signatures: table.counters(
                "althing_sigverify_signatures_total",
                &["result"],
                "Signatures by verdict; those that are repeated were checked when they came first.",
            ),
            consensus_finality: table.histogram(
                "althing_consensus_finality_seconds",
                "Time from the proposal of a block to its finality here.",
                latency_buckets(),
            ),
            equivocation: table.counters(
                "althing_equivocation_total",
                &["validator", "kind"],
                "Contradictions that a validator signed.",
            ),
            execute_blocks: table.counter(
                "althing_execute_blocks_total",
                "Blocks that were executed and are durable here.",
            ),
            lane_batches: table.counter(
                "althing_lane_batches_total",
                "Batches of all lanes that became durable here.",
            ),
            lane_batch_bytes: table.counter(
                "althing_lane_batch_bytes_total",
                "Bytes of the batches of all lanes that became durable here.",
            ),
            net_packets: table.counters(
                "althing_net_packets_total",
                &["dir", "path"],
                "Datagrams, frames of connections and HTTP requests, by direction and way.",
            ),
            net_filter_dropped: table.counters(
                "althing_net_filter_dropped_total",
                &["rule"],
                "Datagrams that were dropped before they were looked at, by rule.",
            ),
            net_xdp_packets: table.counters(
                "althing_net_xdp_packets_total",
                &["verdict"],
                "Packets on the filtered interface, by verdict of the kernel's filter.",
            ),
            net_sessions: table.gauge("althing_net_sessions_count", "Sessions that clients hold."),
            net_blocked: table.gauge(
                "althing_net_blocked_sources_count",
                "Sources that are not listened to for a while, after hostile transactions.",
            ),
            net_connections: table.gauges(
                "althing_net_connections",
                &["path"],
                "Connections of clients that are open.",
            ),
            net_connections_closed: table.counters(
                "althing_net_connections_closed_total",
                &["path", "reason"],
                "Connections of clients that the validator ended or did not take, by reason.",
            ),
            net_answers_dropped: table.counters(
                "althing_net_answers_dropped_total",
                &["path"],
                "Answers that were dropped because the client does not read.",
            ),
            api_responses: table.counters(
                "althing_api_responses_total",
                &["status"],
                "HTTP responses, by status.",
            ),
            storage_write_bytes: table.counter(
                "althing_storage_write_bytes_total",
                "Bytes that were written to the store.",
            ),
            storage_sync: table.histogram(
                "althing_storage_sync_seconds",
                "Time until a group of records was durable.",
                exponential_buckets(0.000_1, 2.0, 16),
            ),
            storage_free: table.gauge(
                "althing_storage_free_bytes",
                "Bytes that are free on the disk of the store.",
            ),
            storage_scrubbed_bytes: table.counter(
                "althing_storage_scrubbed_bytes_total",
                "Bytes of the store that were read from the disk and checked for rot.",
            ),
            storage_damaged: table.counter(
                "althing_storage_damaged_groups_total",
                "Groups of records in the store that were found damaged.",
            ),
            storage_repaired: table.counter(
                "althing_storage_repaired_groups_total",
                "Damaged groups that were repaired with what other validators hold.",
            ),
            memory_budget: table.gauge(
                "althing_memory_budget_bytes",
                "Bytes that the process occupied at its start, and those that all its limits allow.",
            ),
            stage_taken: table.counters(
                "althing_stage_in_total",
                &["stage"],
                "Items that a stage took from its queue.",
            ),
            stage_passed: table.counters(
                "althing_stage_out_total",
                &["stage"],
                "Items that a stage passed on.",
            ),
            stage_busy: table.seconds(
                "althing_stage_busy_seconds_total",
                &["stage"],
                "Time that a stage worked.",
            ),
            stage_waited: table.seconds(
                "althing_stage_waited_seconds_total",
                &["stage"],
                "Time that a stage waited for something to do.",
            ),
            stage_backpressure: table.seconds(
                "althing_stage_backpressure_seconds_total",
                &["stage"],
                "Time that a stage waited for room in the queue after it.",
            ),
            observed,
            descriptions: table.process(),
            registry: table.registry,
        };
        metrics.start_at_zero();
        metrics
    }

    /// Makes the rows whose labels are known, so that a rate can be taken from their first event.
    fn start_at_zero(&self) {
        for outcome in Outcome::ALL.map(Outcome::as_str) {
            let _ = self.tx_outcomes.get_or_create(&OutcomeLabel { outcome });
        }
        for result in ["valid", "invalid", "repeated"] {
            let _ = self.sigverify_signatures.get_or_create(&ResultLabel { result });
        }
        for path in ["udp", "tcp", "http"] {
            for dir in ["in", "out"] {
                let _ = self.net_packets.get_or_create(&TrafficLabel { dir, path });
            }
        }
        for path in ["udp", "tcp"] {
            let _ = self.net_answers_dropped.get_or_create(&PathLabel { path });
        }
        for path in ["tcp", "http"] {
            let _ = self.net_connections.get_or_create(&PathLabel { path });
            for reason in ["full", "quiet"] {
                let _ = self.net_connections_closed.get_or_create(&CloseLabel { path, reason });
            }
        }
        for rule in net_ebpf::Reject::ALL.map(net_ebpf::Reject::name) {
            let _ = self.net_filter_dropped.get_or_create(&RuleLabel { rule });
        }
        for rule in ["kernel_buffer", "ring_full", "foreign"] {
            let _ = self.net_filter_dropped.get_or_create(&RuleLabel { rule });
        }
        for verdict in net_ebpf::Verdict::all().map(net_ebpf::Verdict::name) {
            let _ = self.net_xdp_packets.get_or_create(&VerdictLabel { verdict });
        }
        for reason in [Refusal::Busy, Refusal::NotReady, Refusal::Stopping, Refusal::StorageFull]
            .map(Refusal::as_str)
        {
            let _ = self.tx_dropped.get_or_create(&DropLabel { stage: "ingest", reason });
        }
        let _ = self.api_responses.get_or_create(&HttpLabel { status: 200 });
    }

    /// Returns the counters of a stage.
    pub fn stage(&self, stage: &'static str) -> StageMetrics {
        let label = StageLabel { stage };
        StageMetrics {
            taken: self.stage_taken.get_or_create_owned(&label),
            passed: self.stage_passed.get_or_create_owned(&label),
            busy: self.stage_busy.get_or_create_owned(&label),
            waited: self.stage_waited.get_or_create_owned(&label),
            backpressure: self.stage_backpressure.get_or_create_owned(&label),
        }
    }

    /// Counts one dropped transaction or request.
    pub fn count_dropped(&self, stage: &'static str, reason: &'static str) {
        self.tx_dropped.get_or_create(&DropLabel { stage, reason }).inc();
    }

    /// Counts one connection that the validator ended.
    pub fn count_closed(&self, path: &'static str, reason: &'static str) {
        self.net_connections_closed.get_or_create(&CloseLabel { path, reason }).inc();
    }

    /// Sets the gauges that follow the status board.
    pub fn observe(&self, status: &Status) {
        let observed = &self.observed;
        observed.height.set(status.height);
        observed.view.set(status.view);
        observed.executed_height.set(status.executed_height);
        observed.ready.get_or_create(&CheckLabel { check: "all" }).set(u64::from(status.ready));
        let connected = status.peers.iter().filter(|peer| peer.connected).count();
        let away = status.peers.len() - connected;
        for (state, count) in [("connected", connected), ("disconnected", away)] {
            observed.peers.get_or_create(&StateLabel { state }).set(count as u64);
        }
        observed.backends.clear();
        for backend in &status.backends {
            let label = BackendLabel {
                stage: backend.stage.clone(),
                backend: backend.backend.clone(),
                reason: backend.reason.clone(),
            };
            observed.backends.get_or_create(&label).set(1);
        }
        for queue in &status.queues {
            let label = QueueLabel { stage: queue.name.clone() };
            observed.queue.get_or_create(&label).set(queue.bytes);
            observed.queue_limit.get_or_create(&label).set(queue.limit_bytes);
        }
        let seconds = std::time::Duration::from_millis(status.uptime_ms).as_secs_f64();
        observed.uptime.set(seconds);
    }

    /// Writes all metrics as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut page = String::with_capacity(16 * 1024);
        text::encode(&mut page, &self.registry).expect("writing to a string cannot fail");
        page
    }

    /// Returns every metric, in the order of the page.
    pub fn descriptions(&self) -> &[Description] {
        &self.descriptions
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns every metric: the rows of the reference.
pub fn names() -> Vec<Description> {
    Metrics::new().descriptions
}

impl Observed {
    fn new(table: &mut Table) -> Self {
        Self {
            height: table.gauge("althing_consensus_finalized_height", "Newest finalized height."),
            view: table.gauge("althing_consensus_view", "View of the consensus engine."),
            executed_height: table
                .gauge("althing_execute_height", "Newest height that is executed and durable."),
            ready: table.gauges(
                "althing_ready",
                &["check"],
                "Whether the validator keeps up and takes part: 1 or 0.",
            ),
            peers: table.gauges(
                "althing_peer_count",
                &["state"],
                "Other validators, by the state of the connection.",
            ),
            backends: table.gauges(
                "althing_backend_info",
                &["stage", "backend", "reason"],
                "What does each accelerated task, and why; always 1.",
            ),
            queue: table.gauges(
                "althing_stage_queue_bytes",
                &["stage"],
                "Bytes that wait in a queue.",
            ),
            queue_limit: table.gauges(
                "althing_stage_queue_limit_bytes",
                &["stage"],
                "Bytes that may wait in a queue.",
            ),
            uptime: table.add(
                "althing_uptime_seconds",
                &[],
                "Time since the process started.",
                Gauge::default(),
            ),
        }
    }
}

/// Registers metrics and keeps what is known of each.
struct Table {
    registry: Registry,
    descriptions: Vec<Description>,
}

impl Table {
    fn add<M>(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        metric: M,
    ) -> M
    where
        M: Metric + EncodeMetric + Clone,
    {
        let kind = match metric.metric_type() {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::Info | MetricType::Unknown => unreachable!("no metric is of this type"),
        };
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}: counters end in _total");
        // The library adds the suffix of a counter and the full stop of a help text.
        let registered = name.strip_suffix("_total").unwrap_or(name);
        let sentence = help.strip_suffix('.').expect("a help text is a sentence");
        self.registry.register(registered, sentence, metric.clone());
        self.descriptions.push(Description { name, kind, labels, help });
        metric
    }

    fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        self.add(name, &[], help, Counter::default())
    }

    fn gauge(&mut self, name: &'static str, help: &'static str) -> Number {
        self.add(name, &[], help, Number::default())
    }

    fn counters<L: Label>(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Family<L, Counter> {
        self.add(name, labels, help, Family::default())
    }

    fn seconds(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Family<StageLabel, Seconds> {
        self.add(name, labels, help, Family::default())
    }

    fn gauges<L: Label>(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Family<L, Number> {
        self.add(name, labels, help, Family::default())
    }

    fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        buckets: impl Iterator<Item = f64>,
    ) -> Histogram {
        self.add(name, &[], help, Histogram::new(buckets))
    }

    fn build_info(&mut self) {
        let family: Family<BuildLabel, Number> = self.gauges(
            "althing_build_info",
            &["version", "commit", "target"],
            "The program that runs; always 1.",
        );
        let label = BuildLabel {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("ALTHING_COMMIT").unwrap_or("unknown"),
            target: TARGET,
        };
        family.get_or_create(&label).set(1);
    }

    /// Adds what the node and the system know of the process, and returns all descriptions.
    fn process(&mut self) -> Vec<Description> {
        self.registry.register_collector(Box::new(costs::Costs));
        self.descriptions.push(costs::DESCRIPTION);
        self.registry.register_collector(Box::new(process::Process));
        self.descriptions.extend(process::DESCRIPTIONS);
        std::mem::take(&mut self.descriptions)
    }
}

/// What a family needs of its labels.
trait Label: Clone + Debug + Hash + Eq + EncodeLabelSet + Send + Sync + 'static {}

impl<L: Clone + Debug + Hash + Eq + EncodeLabelSet + Send + Sync + 'static> Label for L {}

/// 0.5 ms to 16 s, each twice the one before.
fn latency_buckets() -> impl Iterator<Item = f64> {
    exponential_buckets(0.000_5, 2.0, 16)
}

#[cfg(test)]
mod tests;
