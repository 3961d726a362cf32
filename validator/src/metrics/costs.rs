//! Processor time by stage, read when somebody asks.

use super::Description;
use crate::cost::{self, Cost};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
};

pub(super) const DESCRIPTION: Description = Description {
    name: "althing_cpu_seconds_total",
    kind: "counter",
    labels: &["stage"],
    help: "Processor time by what it was spent for; process_cpu_seconds_total is the whole.",
};

/// Looks at the process's threads and writes what every stage has spent.
#[derive(Debug)]
pub(super) struct Costs;

impl Collector for Costs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        cost::look();
        let name = DESCRIPTION.name.strip_suffix("_total").expect("a counter's name");
        let kind = ConstCounter::new(0.0).metric_type();
        let mut family = encoder.encode_descriptor(name, DESCRIPTION.help, None, kind)?;
        for cost in Cost::ALL {
            let nanoseconds = std::time::Duration::from_nanos(cost::spent(cost));
            let labels = [("stage", cost.as_str())];
            let row = family.encode_family(&labels)?;
            ConstCounter::new(nanoseconds.as_secs_f64()).encode(row)?;
        }
        Ok(())
    }
}
