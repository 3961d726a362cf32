//! What the system knows of the process, read when somebody asks.
//!
//! Source: the names that every Prometheus client library uses for a process.

use super::Description;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use std::fs;

/// Ticks of `/proc/self/stat` in a second: fixed for programs on every architecture that runs this.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) const DESCRIPTIONS: [Description; 4] = [
    Description {
        name: "process_cpu_seconds_total",
        kind: "counter",
        labels: &[],
        help: "Processor time that the process used.",
    },
    Description {
        name: "process_resident_memory_bytes",
        kind: "gauge",
        labels: &[],
        help: "Memory that the process occupies.",
    },
    Description {
        name: "process_open_fds",
        kind: "gauge",
        labels: &[],
        help: "File descriptors that the process has open.",
    },
    Description {
        name: "process_threads",
        kind: "gauge",
        labels: &[],
        help: "Threads of the process.",
    },
];

/// Reads `/proc/self`; a file that cannot be read leaves its metrics out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let [cpu, memory, files, threads] = &DESCRIPTIONS;
        if let Some(seconds) = cpu_seconds() {
            put(&mut encoder, cpu, &ConstCounter::new(seconds))?;
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = resident_bytes();
        if resident > 0 {
            put(&mut encoder, memory, &ConstGauge::new(resident))?;
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            put(&mut encoder, files, &ConstGauge::new(entries.count() as u64))?;
        }
        if let Some(count) = status_field(&status, "Threads:") {
            put(&mut encoder, threads, &ConstGauge::new(count))?;
        }
        Ok(())
    }
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    description: &Description,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    let name = description.name.strip_suffix("_total").unwrap_or(description.name);
    metric.encode(encoder.encode_descriptor(name, description.help, None, metric.metric_type())?)
}

/// Bytes that the process occupies now; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status_field(&status, "VmRSS:").unwrap_or(0) * 1024
}

/// The number after a field's name in `/proc/self/status`.
fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time of all threads: fields 14 and 15 of `/proc/self/stat`.
///
/// Source: proc_pid_stat(5).
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses that may itself hold spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}
