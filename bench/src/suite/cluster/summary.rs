//! The summary that `validator testnet --json` prints, and the figures taken from it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::ProcessorTime;
use crate::suite::{Failure, Invalid, Round};

/// The summary's version that is read here.
const VERSION: u64 = 1;
/// A load that ended sooner than this share of its duration was stopped.
const DURATION_PERCENT_MIN: u128 = 99;
/// Of the transactions counted as final, at least this share must have been found in the ledgers.
const FOUND_PERCENT_MIN: u64 = 98;

/// What is read of the summary; every field must be there.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    version: u64,
    good: bool,
    problems: Vec<String>,
    load: Option<Load>,
    /// Transactions that a client was told are final, all of them looked up in every ledger.
    acknowledged: Option<u64>,
    /// What the validators' own counters said while the load lasted; none in the shortest runs.
    costs: Option<Costs>,
    kill: Option<Kill>,
}

#[derive(Debug, Deserialize)]
struct Costs {
    us_per_transaction_all: f64,
    resident_bytes_max: f64,
    memory_budget_bytes: f64,
    course: Vec<Moment>,
}

/// A second of the load.
#[derive(Debug, Deserialize)]
struct Moment {
    ms: u64,
    finalized_per_second: f64,
    resident_bytes: f64,
}

/// A validator that was killed and came back.
#[derive(Debug, Deserialize)]
pub(super) struct Kill {
    pub(super) killed_us: u64,
    pub(super) restarted_us: u64,
    pub(super) caught_up_us: u64,
    pub(super) longest_pause_us: u64,
}

/// What a run gave.
#[derive(Debug)]
pub(super) struct Figures {
    /// In the order of the suite's metrics.
    pub(super) round: Round,
    /// The kill, if there was one.
    pub(super) kill: Option<Kill>,
    course: Vec<Moment>,
}

impl Figures {
    /// The mean rate between two times, in microseconds since the start; none without a whole second.
    pub(super) fn rate_between(&self, from: u64, to: u64) -> Option<f64> {
        // A moment speaks of the second before it.
        let inside = |moment: &&Moment| (from / 1_000 + 1_000..=to / 1_000).contains(&moment.ms);
        mean(self.course.iter().filter(inside).map(|moment| moment.finalized_per_second))
    }

    /// Rate and memory of the last third of the run, as shares of the first.
    pub(super) fn drift(&self) -> Option<(f64, f64)> {
        let third = self.course.len() / 3;
        let (first, last) = (&self.course[..third], &self.course[self.course.len() - third..]);
        let share = |value: fn(&Moment) -> f64| {
            Some(mean(last.iter().map(value))? / mean(first.iter().map(value))?)
        };
        Some((share(|one| one.finalized_per_second)?, share(|one| one.resident_bytes)?))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[derive(Debug, Deserialize)]
struct Load {
    duration_us: u64,
    offered: u64,
    accepted: u64,
    finalized: u64,
    finalized_per_second: u64,
    rejected: u64,
    held_back: u64,
    rejected_by_reason: BTreeMap<String, u64>,
    lost: u64,
    latency_accepted: Option<Latency>,
    latency_final: Option<Latency>,
    valid: bool,
    bottleneck: Option<String>,
    invalid_because: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Latency {
    p50_us: u64,
    p99_us: u64,
    p99_9_us: u64,
}

impl Summary {
    /// Reads it.
    ///
    /// Errors: where it is not what this program reads.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let summary: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if summary.version == VERSION {
            Ok(summary)
        } else {
            Err(format!("version {}, this program reads {VERSION}", summary.version))
        }
    }

    /// Turns it into the figures of a round, in the order of the suite's metrics.
    ///
    /// Errors: [`Failure::Wrong`] when validators disagree or lost something, when nothing became
    /// final, or when the ledgers hold less than was counted.
    pub(super) fn figures(
        self,
        duration: Duration,
        validators: u32,
        processor_time: &ProcessorTime,
    ) -> Result<Figures, Failure> {
        if !self.good {
            return Err(Failure::Wrong(self.problems.join("; ")));
        }
        let wrong = |what: &str| Failure::Wrong(what.to_owned());
        let load = self.load.ok_or_else(|| wrong("the test network reports no load"))?;
        if u128::from(load.duration_us) * 100 < duration.as_micros() * DURATION_PERCENT_MIN {
            return Err(Failure::Machine("the test network was stopped early".to_owned()));
        }
        let found = self.acknowledged.ok_or_else(|| wrong("no ledger was searched"))?;
        if found * 100 < load.finalized * FOUND_PERCENT_MIN {
            let finalized = load.finalized;
            return Err(Failure::Wrong(format!(
                "the load counted {finalized} final transactions, the ledgers hold {found}"
            )));
        }
        let costs = self.costs.unwrap_or(Costs {
            us_per_transaction_all: 0.0,
            resident_bytes_max: 0.0,
            memory_budget_bytes: 0.0,
            course: Vec::new(),
        });
        let round = load.round(validators, processor_time, &costs)?;
        Ok(Figures { round, kill: self.kill, course: costs.course })
    }
}

impl Load {
    fn round(self, validators: u32, time: &ProcessorTime, costs: &Costs) -> Result<Round, Failure> {
        let (Some(to_final), Some(to_accepted)) = (&self.latency_final, &self.latency_accepted)
        else {
            return Err(Failure::Wrong("nothing became final".to_owned()));
        };
        let milliseconds = |micros: u64| float(micros) / 1e3;
        let finalized = float(self.finalized);
        let per_transaction = |time: Duration| time.as_secs_f64() * 1e6 / finalized;
        let values = vec![
            float(self.finalized_per_second),
            milliseconds(to_final.p50_us),
            milliseconds(to_final.p99_us),
            milliseconds(to_final.p99_9_us),
            milliseconds(to_accepted.p50_us),
            milliseconds(to_accepted.p99_us),
            per_transaction(time.validators) / f64::from(validators),
            costs.us_per_transaction_all,
            per_transaction(time.generator),
            costs.resident_bytes_max / f64::from(1 << 20),
            costs.memory_budget_bytes / f64::from(1 << 20),
            float(self.offered),
            float(self.accepted),
            finalized,
            float(self.rejected),
            float(self.held_back),
            float(self.lost),
        ];
        let note = self.note();
        let invalid = (!self.valid).then(|| Invalid {
            bottleneck: self.bottleneck.unwrap_or_else(|| "unknown".to_owned()),
            reason: self.invalid_because.unwrap_or_else(|| "no reason given".to_owned()),
        });
        Ok(Round { values, invalid, note })
    }

    /// Why transactions were rejected.
    fn note(&self) -> Option<String> {
        let mut reasons: Vec<_> = self
            .rejected_by_reason
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        if self.held_back > 0 {
            reasons.push(format!("{} held back", self.held_back));
        }
        (!reasons.is_empty()).then(|| format!("rejected: {}", reasons.join(", ")))
    }
}

/// A count as a figure: exact below 2^53.
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::suite::cluster::METRICS;

    /// As the validator prints it.
    pub(in super::super) fn sample() -> Value {
        json!({
            "version": 1,
            "good": true,
            "problems": [],
            "data": "/data",
            "load": {
                "rate": 200, "size": 512, "authors": 4096, "seed": 1, "transport": "tcp",
                "duration_us": 1_000_000, "offered": 200, "sent": 200, "accepted": 199,
                "finalized": 198, "finalized_in_time": 190, "finalized_per_second": 190,
                "outcomes": {"applied": 198}, "rejected": 1, "rejected_by_reason": {"busy": 1},
                "lost": 1, "held_back": 3, "unsent": 0, "late": 0, "resubmitted": 0, "resigned": 0,
                "latency_accepted":
                    {"p50_us": 900, "p99_us": 2_000, "p99_9_us": 3_000, "max_us": 4_000},
                "latency_final":
                    {"p50_us": 80_000, "p99_us": 120_000, "p99_9_us": 130_000, "max_us": 140_000},
                "valid": true, "bottleneck": null, "invalid_because": null,
            },
            "validators": [{"height": 9, "history_root": "00"}],
            "common_height": 9,
            "history_root": "00",
            "acknowledged": 198,
            "kill": null,
            "costs": {
                "us_per_transaction": {"verify": 3.0}, "us_per_transaction_all": 6.5,
                "resident_bytes_max": 3_145_728, "memory_budget_bytes": 4_194_304,
                "course": [
                    {"ms": 1_500, "finalized_per_second": 100.0, "resident_bytes": 10.0},
                    {"ms": 2_500, "finalized_per_second": 120.0, "resident_bytes": 11.0},
                    {"ms": 3_500, "finalized_per_second": 90.0, "resident_bytes": 12.0},
                ],
            },
        })
    }

    fn figures(summary: &Value) -> Result<Figures, Failure> {
        let time = ProcessorTime {
            validators: Duration::from_micros(198 * 4 * 5),
            generator: Duration::from_micros(198 * 3),
        };
        let summary = Summary::parse(&summary.to_string()).unwrap();
        summary.figures(Duration::from_secs(1), 4, &time)
    }

    fn round(summary: &Value) -> Result<Round, Failure> {
        figures(summary).map(|figures| figures.round)
    }

    fn changed(pointer: &str, new: Value) -> Value {
        let mut summary = sample();
        *summary.pointer_mut(pointer).unwrap() = new;
        summary
    }

    #[test]
    fn figures_are_taken_in_the_order_of_the_metrics() {
        let round = round(&sample()).unwrap();
        assert_eq!(round.values.len(), METRICS.len());
        let value = |name: &str| {
            let place = METRICS.iter().position(|metric| metric.name == name).unwrap();
            round.values[place]
        };
        for (name, expected) in [
            ("finalized_rate", 190.0),
            ("final_ms_p50", 80.0),
            ("final_ms_p99", 120.0),
            ("final_ms_p99_9", 130.0),
            ("accepted_ms_p50", 0.9),
            ("accepted_ms_p99", 2.0),
            ("cpu_us_per_validator", 5.0),
            ("cpu_us_loaded", 6.5),
            ("resident_max", 3.0),
            ("memory_budget", 4.0),
            ("cpu_us_generator", 3.0),
            ("offered", 200.0),
            ("accepted", 199.0),
            ("finalized", 198.0),
            ("rejected", 1.0),
            ("held_back", 3.0),
            ("lost", 1.0),
        ] {
            assert!((value(name) - expected).abs() < 1e-9, "{name}: {}", value(name));
        }
        assert_eq!(round.invalid, None);
        assert_eq!(round.note.as_deref(), Some("rejected: 1 busy, 3 held back"));
    }

    #[test]
    fn a_course_gives_rates_between_times_and_the_drift() {
        let figures = figures(&sample()).unwrap();
        assert_eq!(figures.rate_between(0, 3_000_000), Some(110.0));
        assert_eq!(figures.rate_between(2_400_000, 3_500_000), Some(90.0));
        assert_eq!(figures.rate_between(0, 1_000_000), None);
        assert_eq!(figures.drift(), Some((0.9, 1.2)));
        assert!(figures.kill.is_none());
    }

    #[test]
    fn a_kill_is_read_whole_and_a_run_without_readings_has_no_course() {
        let kill = json!({
            "validator": 1, "killed_us": 8_000_000, "restarted_us": 18_000_000,
            "caught_up_us": 6_500_000, "longest_pause_us": 340_000,
        });
        let kill = figures(&changed("/kill", kill)).unwrap().kill.unwrap();
        assert_eq!((kill.caught_up_us, kill.longest_pause_us), (6_500_000, 340_000));
        let bare = figures(&changed("/costs", json!(null))).unwrap();
        assert_eq!((bare.drift(), bare.round.values[7]), (None, 0.0));
    }

    #[test]
    fn a_rate_that_was_not_kept_is_invalid_and_names_the_side() {
        let mut summary = changed("/load/valid", json!(false));
        summary["load"]["bottleneck"] = json!("load");
        summary["load"]["invalid_because"] = json!("signing was behind");
        let invalid = round(&summary).unwrap().invalid.unwrap();
        assert_eq!(
            (invalid.bottleneck.as_str(), invalid.reason.as_str()),
            ("load", "signing was behind")
        );
    }

    #[test]
    fn what_the_network_found_wrong_is_a_wrong_result() {
        let mut disagree = changed("/good", json!(false));
        disagree["problems"] = json!(["validator 2 disagrees", "one is lost"]);
        let failure = round(&disagree).unwrap_err();
        assert_eq!(failure.to_string(), "wrong result: validator 2 disagrees; one is lost");
        for (pointer, new, what) in [
            ("/load", json!(null), "no load"),
            ("/load/latency_final", json!(null), "nothing became final"),
            ("/acknowledged", json!(null), "no ledger was searched"),
            ("/acknowledged", json!(190), "the ledgers hold 190"),
            ("/load/duration_us", json!(980_000), "stopped early"),
        ] {
            let failure = round(&changed(pointer, new)).unwrap_err().to_string();
            assert!(failure.contains(what), "{failure}");
        }
    }

    #[test]
    fn another_shape_is_refused() {
        assert!(Summary::parse("").is_err());
        assert!(Summary::parse(&changed("/version", json!(2)).to_string()).is_err());
        for key in ["version", "good", "problems"] {
            let mut summary = sample();
            summary.as_object_mut().unwrap().remove(key);
            assert!(Summary::parse(&summary.to_string()).unwrap_err().contains(key));
        }
        let mut summary = sample();
        summary["load"].as_object_mut().unwrap().remove("lost");
        assert!(Summary::parse(&summary.to_string()).unwrap_err().contains("lost"));
    }
}
