//! One validator, all stages: as fast as the machine goes, and what each stage costs.
//!
//! The validator's own `pipeline` runs a node without peers or sockets in one process with a generator
//! that keeps a bounded number of transactions under way. All are signed before the first is handed in,
//! every signature is checked, every block is durable before its transactions count, and afterwards the
//! ledger must hold exactly what was counted. The second group puts the sockets and a separate generator
//! before the same node, under a constant arrival.
//!
//! A stage's cost is processor time that the node's threads were charged with; what all stages together
//! leave of the process's time is the difference to `cpu_us`, and more than a tenth of it makes the row fail.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::cluster::Loaded;
use super::process::{self, Running};
use super::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Settings, Suite,
};

/// Stages, by the names that the validator gives them.
const STAGES: [&str; 15] = [
    "receive",
    "decode",
    "hash",
    "verify",
    "admit",
    "copy",
    "lane",
    "encrypt",
    "network",
    "consensus",
    "persist",
    "execute",
    "roots",
    "client",
    "upkeep",
];

const METRICS: [Metric; 19] = [
    Metric::new("finalized_rate", "tx/s", Better::Higher),
    Metric::new("cpu_us", "us/tx", Better::Lower),
    Metric::new("explained", "%", Better::Neither),
    Metric::new("final", "tx", Better::Neither),
    Metric::new("receive", "us/tx", Better::Neither),
    Metric::new("decode", "us/tx", Better::Neither),
    Metric::new("hash", "us/tx", Better::Neither),
    Metric::new("verify", "us/tx", Better::Neither),
    Metric::new("admit", "us/tx", Better::Neither),
    Metric::new("copy", "us/tx", Better::Neither),
    Metric::new("lane", "us/tx", Better::Neither),
    Metric::new("encrypt", "us/tx", Better::Neither),
    Metric::new("network", "us/tx", Better::Neither),
    Metric::new("consensus", "us/tx", Better::Neither),
    Metric::new("persist", "us/tx", Better::Neither),
    Metric::new("execute", "us/tx", Better::Neither),
    Metric::new("roots", "us/tx", Better::Neither),
    Metric::new("client", "us/tx", Better::Neither),
    Metric::new("upkeep", "us/tx", Better::Neither),
];

/// The stages must explain the whole to this, in percent.
const EXPLAINED_PERCENT: std::ops::RangeInclusive<f64> = 90.0..=110.0;
/// A run takes no longer, signing included.
const TIME_MAX: Duration = Duration::from_secs(120);

/// The suite.
pub struct Pipeline;

impl Suite for Pipeline {
    fn name(&self) -> &'static str {
        "pipeline"
    }

    fn about(&self) -> &'static str {
        "one validator, all stages: peak rate, and processor time by stage"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        settings.has_validator()?;
        let rounds = settings.scale.pick(
            Rounds { min: 3, max: 7 },
            Rounds { min: 3, max: 3 },
            Rounds { min: 1, max: 1 },
        );
        let transactions = settings.scale.pick(4_000_000, 2_000_000, 2_000);
        let sizes: &[u32] = settings.scale.pick(&[512, 1_184], &[512], &[512]);
        let mut plans: Vec<Plan> =
            sizes.iter().map(|size| in_process(settings, *size, transactions, rounds)).collect();
        let duration = Duration::from_secs(settings.scale.pick(20, 10, 1));
        plans.push(Loaded::one_validator(settings, duration).plan(rounds));
        Ok(plans)
    }
}

fn in_process(settings: &Settings, size: u32, transactions: u64, rounds: Rounds) -> Plan {
    let parameters = vec![
        ("validators", "1".to_owned()),
        ("size", size.to_string()),
        ("transactions", transactions.to_string()),
    ];
    let node = Node {
        validator: settings.validator.clone(),
        data: settings.data.clone(),
        seed: settings.seed,
        size,
        transactions,
    };
    let open = move || {
        let contenders: Vec<Box<dyn Contender>> = vec![Box::new(node)];
        Ok(Group { rounds, contenders, skipped: Vec::new() })
    };
    Plan { parameters, open: Box::new(open) }
}

/// A node that is fed from within.
struct Node {
    validator: PathBuf,
    data: PathBuf,
    seed: u64,
    size: u32,
    transactions: u64,
}

/// What is read of the result; every field must be there.
#[derive(Debug, Deserialize)]
struct Output {
    version: u64,
    r#final: u64,
    finalized_per_second: f64,
    us_per_transaction: std::collections::BTreeMap<String, f64>,
    us_per_transaction_all: f64,
}

impl Output {
    fn round(&self, transactions: u64) -> Result<Round, Failure> {
        if self.version != 1 || self.r#final != transactions {
            let (version, told) = (self.version, self.r#final);
            return Err(Failure::Wrong(format!(
                "version {version}, {told} of {transactions} transactions are final"
            )));
        }
        let stages: Option<Vec<f64>> =
            STAGES.iter().map(|stage| self.us_per_transaction.get(*stage).copied()).collect();
        let stages = stages.ok_or_else(|| Failure::Wrong("a stage is missing".to_owned()))?;
        let explained = stages.iter().sum::<f64>() / self.us_per_transaction_all * 100.0;
        if !EXPLAINED_PERCENT.contains(&explained) {
            return Err(Failure::Wrong(format!("the stages explain {explained:.1}% of the whole")));
        }
        let mut values = vec![
            self.finalized_per_second,
            self.us_per_transaction_all,
            explained,
            self.r#final as f64,
        ];
        values.extend(stages);
        Ok(Round::valid(values))
    }
}

impl Contender for Node {
    fn label(&self) -> Label {
        Label::new("validator::pipeline")
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    /// Only that the program runs: each round looks its transactions up in its ledger.
    fn check(&mut self) -> Result<(), Failure> {
        process::responds(&self.validator, "pipeline")
    }

    /// Nothing outlives a round that could be warm.
    fn warm_up(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let arguments = [
            ("--transactions", self.transactions.to_string()),
            ("--size", self.size.to_string()),
            ("--seed", self.seed.to_string()),
        ];
        let running = Running::start(&self.validator, &self.data, &["pipeline"], &arguments)?;
        let ended = running.run(TIME_MAX)?;
        let output: Output = serde_json::from_str(&ended.output).map_err(|error| {
            let complaint = &ended.complaint;
            Failure::Machine(format!("the pipeline gave no result ({error}): {complaint}"))
        })?;
        output.round(self.transactions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample(verify: f64) -> Output {
        let mut stages: serde_json::Map<_, _> =
            STAGES.iter().map(|stage| ((*stage).to_owned(), json!(0.25))).collect();
        stages.insert("verify".to_owned(), json!(verify));
        serde_json::from_value(json!({
            "version": 1, "final": 2_000, "measured": 1_500, "elapsed_us": 5,
            "finalized_per_second": 210_000.0,
            "us_per_transaction": stages,
            "us_per_transaction_all": 6.5, "us_per_transaction_feed": 0.5,
        }))
        .unwrap()
    }

    #[test]
    fn figures_are_taken_in_the_order_of_the_metrics() {
        let round = sample(3.0).round(2_000).unwrap();
        assert_eq!(round.values.len(), METRICS.len());
        let value =
            |name| round.values[METRICS.iter().position(|metric| metric.name == name).unwrap()];
        assert_eq!(value("finalized_rate"), 210_000.0);
        assert_eq!((value("cpu_us"), value("explained")), (6.5, 100.0));
        assert_eq!((value("verify"), value("upkeep"), value("receive")), (3.0, 0.25, 0.25));
        for (place, stage) in STAGES.iter().enumerate() {
            assert_eq!(METRICS[4 + place].name, *stage);
        }
    }

    #[test]
    fn what_is_not_explained_or_not_final_is_wrong() {
        let failure = sample(2.0).round(2_000).unwrap_err().to_string();
        assert!(failure.contains("the stages explain 84.6% of the whole"), "{failure}");
        let failure = sample(3.0).round(2_001).unwrap_err().to_string();
        assert!(failure.contains("2000 of 2001"), "{failure}");
        let mut lacking = sample(3.0);
        lacking.us_per_transaction.remove("roots");
        assert!(lacking.round(2_000).unwrap_err().to_string().contains("a stage is missing"));
    }
}
