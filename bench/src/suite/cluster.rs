//! Four validators as processes of their own, under loads of constant arrival.
//!
//! Each round starts a fresh network: the validator's own `testnet` offers signed transactions on a
//! schedule that waits for nobody, takes latency from when each should have left, and afterwards
//! compares the ledgers and looks every acknowledged transaction up in all of them. What it finds
//! wrong makes the row fail. A round in which the schedule was not kept is invalid, and names the
//! side that was behind. All transactions are signed before the first is due: signing takes ten times what
//! checking takes, and nothing of it from what is measured.
//!
//! After the fixed loads comes the knee: the highest rate that this machine finalizes, found by rising
//! loads. Twice and five times as much, most of it for a long time, and a validator killed at it are
//! measured against it.
//!
//! What is rejected, and what is held back because a validator takes no more for now, has no latency: the
//! percentiles are those of what was finalized.
//!
//! `cpu_us_per_validator` is that of the validators from start to end, per transaction and validator;
//! `cpu_us_loaded` that of the time in which the load lasts. The generator's own includes the signing
//! before and the reading of the ledgers at the end.

mod knee;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use self::summary::{Figures, Summary};
use super::process::{self, ProcessorTime, Running};
use super::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Settings, Suite,
};

/// The smallest network that survives one fault.
const VALIDATORS: u32 = 4;
/// Bytes of a transaction.
const SIZE_BYTES: u32 = 512;
/// Authors that take turns: enough for a second and more of what is under way at the highest rate.
const AUTHORS: u32 = 65_536;

const METRICS: [Metric; 17] = [
    Metric::new("finalized_rate", "tx/s", Better::Higher),
    Metric::new("final_ms_p50", "ms", Better::Lower),
    Metric::new("final_ms_p99", "ms", Better::Lower),
    Metric::new("final_ms_p99_9", "ms", Better::Lower),
    Metric::new("accepted_ms_p50", "ms", Better::Lower),
    Metric::new("accepted_ms_p99", "ms", Better::Lower),
    Metric::new("cpu_us_per_validator", "us/tx", Better::Lower),
    Metric::new("cpu_us_loaded", "us/tx", Better::Lower),
    Metric::new("cpu_us_generator", "us/tx", Better::Neither),
    Metric::new("resident_max", "MiB", Better::Lower),
    Metric::new("memory_budget", "MiB", Better::Neither),
    Metric::new("offered", "tx", Better::Neither),
    Metric::new("accepted", "tx", Better::Neither),
    Metric::new("finalized", "tx", Better::Neither),
    Metric::new("rejected", "tx", Better::Neither),
    Metric::new("held_back", "tx", Better::Neither),
    Metric::new("lost", "tx", Better::Neither),
];

/// The suite.
pub struct Cluster;

impl Suite for Cluster {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn about(&self) -> &'static str {
        "four validator processes under an open load: rates, latency, processor time, the knee and beyond"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        settings.has_validator()?;
        let rates: &[u32] = settings.scale.pick(
            &[2_000, 10_000, 20_000, 45_000, 60_000, 90_000],
            &[2_000, 20_000, 45_000, 60_000],
            &[200],
        );
        let duration = Duration::from_secs(settings.scale.pick(20, 10, 1));
        let rounds = settings.scale.pick(
            Rounds { min: 3, max: 5 },
            Rounds { min: 3, max: 3 },
            Rounds { min: 1, max: 1 },
        );
        let loaded = |rate| Loaded::new(settings, VALIDATORS, rate, duration);
        let plan = |rate| loaded(rate).plan_beside(settings.unverified.clone(), rounds);
        let mut plans: Vec<Plan> = rates.iter().map(|rate| plan(*rate)).collect();
        plans.extend(knee::plans(settings));
        Ok(plans)
    }
}

/// A network under one load.
#[derive(Clone)]
pub(super) struct Loaded {
    validator: PathBuf,
    data: PathBuf,
    seed: u64,
    validators: u32,
    rate: u32,
    size: u32,
    authors: u32,
    duration: Duration,
    /// When one validator is killed.
    kill: Option<Duration>,
    /// Whether the validators check the signatures of clients.
    is_verified: bool,
}

impl Loaded {
    fn new(settings: &Settings, validators: u32, rate: u32, duration: Duration) -> Self {
        Self {
            validator: settings.validator.clone(),
            data: settings.data.clone(),
            seed: settings.seed,
            validators,
            rate,
            size: SIZE_BYTES,
            authors: AUTHORS,
            duration,
            kill: None,
            is_verified: true,
        }
    }

    /// One validator behind its sockets, at a rate that two cores keep.
    pub(super) fn one_validator(settings: &Settings, duration: Duration) -> Self {
        let rate = settings.scale.pick(100_000, 100_000, 200);
        Self { authors: 131_072, ..Self::new(settings, 1, rate, duration) }
    }

    /// Plans a group of this alone.
    pub(super) fn plan(self, rounds: Rounds) -> Plan {
        self.plan_beside(None, rounds)
    }

    /// Plans a group of this and, where there is one, a build that checks no signatures of clients.
    fn plan_beside(self, unverified: Option<PathBuf>, rounds: Rounds) -> Plan {
        let parameters = vec![
            ("validators", self.validators.to_string()),
            ("load", self.rate.to_string()),
            ("size", self.size.to_string()),
            ("authors", self.authors.to_string()),
            ("duration", format!("{}s", self.duration.as_secs())),
        ];
        let open = move || {
            let rival =
                unverified.map(|validator| Self { validator, is_verified: false, ..self.clone() });
            let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(self)];
            contenders.extend(rival.map(|rival| Box::new(rival) as Box<dyn Contender>));
            Ok(Group { rounds, contenders, skipped: Vec::new() })
        };
        Plan { parameters, open: Box::new(open) }
    }

    /// Runs the network once.
    fn figures(&self) -> Result<Figures, Failure> {
        let mut arguments = vec![
            ("--validators", self.validators.to_string()),
            ("--load", self.rate.to_string()),
            ("--size", self.size.to_string()),
            ("--authors", self.authors.to_string()),
            ("--duration", format!("{}s", self.duration.as_secs())),
            ("--seed", self.seed.to_string()),
        ];
        arguments.extend(self.kill.map(|at| ("--kill", format!("{}s", at.as_secs()))));
        let words = ["testnet", "--presign"];
        let running = Running::start(&self.validator, &self.data, &words, &arguments)?;
        // Whatever is signed beforehand takes its time: a core signs 50,000 a second.
        let signing = self.duration * self.rate / 25_000;
        let ended = running.run(self.duration + signing)?;
        let summary = Summary::parse(&ended.output).map_err(|what| {
            let complaint = &ended.complaint;
            Failure::Machine(format!("the test network gave no summary ({what}): {complaint}"))
        })?;
        summary.figures(self.duration, self.validators, &ended.processor_time)
    }
}

impl Contender for Loaded {
    fn label(&self) -> Label {
        match self.is_verified {
            true => Label::new("validator::testnet"),
            false => Label::new("validator::testnet").with("signatures", "unchecked"),
        }
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    /// Only that the program runs: each round's network checks its own ledgers.
    fn check(&mut self) -> Result<(), Failure> {
        process::responds(&self.validator, "testnet")
    }

    /// Nothing outlives a round that could be warm.
    fn warm_up(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        Ok(self.figures()?.round)
    }
}

#[cfg(test)]
mod tests;
