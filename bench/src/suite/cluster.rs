//! Four validators as processes of their own, under loads of constant arrival.
//!
//! Each round starts a fresh network: the validator's own `testnet` offers signed transactions on a
//! schedule that waits for nobody, takes latency from when each should have left, and afterwards
//! compares the ledgers and looks every acknowledged transaction up in all of them. What it finds
//! wrong makes the row fail. A round in which the schedule was not kept is invalid, and names the
//! side that was behind. All transactions are signed before the first is due: signing takes ten times what
//! checking takes, and nothing of it from what is measured.
//!
//! Processor time is that of the validators from start to end, per transaction and validator. The
//! generator's own includes the signing before and the reading of the ledgers at the end.

mod process;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use self::process::Testnet;
use self::summary::Summary;
use super::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Settings, Suite,
};

/// The smallest network that survives one fault.
const VALIDATORS: u32 = 4;
/// Bytes of a transaction.
const SIZE_BYTES: u32 = 512;
/// Authors that take turns: enough for a second and more of what is under way at the highest rate.
const AUTHORS: u32 = 65_536;

const METRICS: [Metric; 13] = [
    metric("finalized_rate", "tx/s", Better::Higher),
    metric("final_ms_p50", "ms", Better::Lower),
    metric("final_ms_p99", "ms", Better::Lower),
    metric("final_ms_p99_9", "ms", Better::Lower),
    metric("accepted_ms_p50", "ms", Better::Lower),
    metric("accepted_ms_p99", "ms", Better::Lower),
    metric("cpu_us_per_validator", "us/tx", Better::Lower),
    metric("cpu_us_generator", "us/tx", Better::Neither),
    metric("offered", "tx", Better::Neither),
    metric("accepted", "tx", Better::Neither),
    metric("finalized", "tx", Better::Neither),
    metric("rejected", "tx", Better::Neither),
    metric("lost", "tx", Better::Neither),
];

const fn metric(name: &'static str, unit: &'static str, better: Better) -> Metric {
    Metric { name, unit, better }
}

/// The suite.
pub struct Cluster;

impl Suite for Cluster {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn about(&self) -> &'static str {
        "four validator processes under an open load: rates, latency, processor time"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        if !settings.validator.is_file() {
            let path = settings.validator.display();
            return Err(format!("no validator at {path}: build it with cargo build --release"));
        }
        let rates: &[u32] = settings.scale.pick(
            &[2_000, 10_000, 20_000, 45_000, 60_000, 90_000],
            &[2_000, 20_000, 60_000],
            &[200],
        );
        let duration = Duration::from_secs(settings.scale.pick(20, 10, 1));
        let rounds = settings.scale.pick(
            Rounds { min: 3, max: 5 },
            Rounds { min: 3, max: 3 },
            Rounds { min: 1, max: 1 },
        );
        Ok(rates.iter().map(|rate| plan(settings, *rate, duration, rounds)).collect())
    }
}

fn plan(settings: &Settings, rate: u32, duration: Duration, rounds: Rounds) -> Plan {
    let parameters = vec![
        ("validators", VALIDATORS.to_string()),
        ("load", rate.to_string()),
        ("size", SIZE_BYTES.to_string()),
        ("authors", AUTHORS.to_string()),
        ("duration", format!("{}s", duration.as_secs())),
    ];
    let loaded = Loaded {
        validator: settings.validator.clone(),
        data: settings.data.clone(),
        seed: settings.seed,
        rate,
        duration,
    };
    let open = move || {
        let contenders: Vec<Box<dyn Contender>> = vec![Box::new(loaded)];
        Ok(Group { rounds, contenders, skipped: Vec::new() })
    };
    Plan { parameters, open: Box::new(open) }
}

/// A network under one load.
struct Loaded {
    validator: PathBuf,
    data: PathBuf,
    seed: u64,
    rate: u32,
    duration: Duration,
}

impl Contender for Loaded {
    fn label(&self) -> Label {
        Label::new("validator::testnet")
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    /// Only that the program runs: each round's network checks its own ledgers.
    fn check(&mut self) -> Result<(), Failure> {
        process::responds(&self.validator)
    }

    /// Nothing outlives a round that could be warm.
    fn warm_up(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let arguments = [
            ("--validators", VALIDATORS.to_string()),
            ("--load", self.rate.to_string()),
            ("--size", SIZE_BYTES.to_string()),
            ("--authors", AUTHORS.to_string()),
            ("--duration", format!("{}s", self.duration.as_secs())),
            ("--seed", self.seed.to_string()),
        ];
        let ended = Testnet::start(&self.validator, &self.data, &arguments)?.run(self.duration)?;
        let summary = Summary::parse(&ended.output).map_err(|what| {
            let complaint = &ended.complaint;
            Failure::Machine(format!("the test network gave no summary ({what}): {complaint}"))
        })?;
        summary.round(self.duration, VALIDATORS, &ended.processor_time)
    }
}

#[cfg(test)]
mod tests;
