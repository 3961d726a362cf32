//! What a suite is: groups of contenders that do the same work on equal inputs, in turns.

pub mod cluster;
pub mod hash;
pub mod net;
pub mod pipeline;
mod process;
pub mod restart;
pub mod sigverify;
pub mod storage;

use std::path::PathBuf;

/// Every suite of this build, in the order in which `all` runs them.
pub const SUITES: [&dyn Suite; 7] = [
    &sigverify::Sigverify,
    &hash::Hash,
    &net::Net,
    &storage::Storage,
    &pipeline::Pipeline,
    &restart::Restart,
    &cluster::Cluster,
];

/// A subject to measure, from its inputs to its rivals.
pub trait Suite: Sync {
    /// The name by which it is asked for.
    fn name(&self) -> &'static str;

    /// One sentence for a list.
    fn about(&self) -> &'static str;

    /// Plans the groups, the cheap part only: nothing is built before its turn comes.
    ///
    /// Errors: the reason why the whole suite is skipped.
    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String>;
}

/// How much work a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As much as a steady figure needs.
    Full,
    /// Minutes at most, for a first look.
    Quick,
    /// The least that takes every path: for tests; the figures mean nothing.
    Smoke,
}

impl Scale {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quick => "quick",
            Self::Smoke => "smoke",
        }
    }

    /// Picks the value for this scale.
    pub(crate) const fn pick<T: Copy>(self, full: T, quick: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Smoke => smoke,
        }
    }
}

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How much work.
    pub scale: Scale,
    /// Exactly so many rounds of every group, instead of each group's own choice.
    pub rounds: Option<u32>,
    /// Decides every input.
    pub seed: u64,
    /// The folder for files; it exists, and what a suite puts there it removes.
    pub data: PathBuf,
    /// The release binary of the validator.
    pub validator: PathBuf,
    /// Another that checks no client's signature, to be measured beside it.
    pub unverified: Option<PathBuf>,
}

impl Settings {
    /// That there is a validator to measure.
    ///
    /// Errors: why the suite is skipped.
    pub(crate) fn has_validator(&self) -> Result<(), String> {
        if self.validator.is_file() {
            return Ok(());
        }
        let path = self.validator.display();
        Err(format!("no validator at {path}: build it with cargo build --release"))
    }
}

/// A group that has not been built yet.
pub struct Plan {
    /// What all its rows share, as `key=value` in the rows' names.
    pub parameters: Parameters,
    /// Builds inputs and contenders.
    pub open: Box<dyn FnOnce() -> Result<Group, Failure>>,
}

/// The `key=value` parts of a row's name, in order.
pub type Parameters = Vec<(&'static str, String)>;

/// Contenders over equal inputs.
pub struct Group {
    /// How often they are measured.
    pub rounds: Rounds,
    /// The first one is the baseline of the others' ratios.
    pub contenders: Vec<Box<dyn Contender>>,
    /// Those that this machine or build cannot run, and why.
    pub skipped: Vec<(Label, String)>,
}

/// How often a group is measured: at least `min` times, then until no row is noisy, at most `max`
/// times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// At least three, in reports that are to be believed.
    pub min: u32,
    /// Where the run gives up and says noisy.
    pub max: u32,
}

/// The part of a row's name that is the contender's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// `crate::operation`.
    pub operation: String,
    /// Appended to the group's parameters.
    pub parameters: Parameters,
}

impl Label {
    /// A label without parameters of its own.
    pub fn new(operation: &str) -> Self {
        Self { operation: operation.to_owned(), parameters: Vec::new() }
    }

    /// Adds a parameter.
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((key, value.into()));
        self
    }
}

/// One way to do the group's work.
pub trait Contender {
    /// Its part of the row's name.
    fn label(&self) -> Label;

    /// What a round measures; the first metric decides whether the row is noisy.
    fn metrics(&self) -> &'static [Metric];

    /// Checks that the results are right, before any time is taken.
    ///
    /// Errors: [`Failure::Wrong`] for a wrong result, and the machine's.
    fn check(&mut self) -> Result<(), Failure>;

    /// Works once without being measured, so that caches, files and threads are as in later rounds.
    ///
    /// Errors: those of [`round`](Self::round).
    fn warm_up(&mut self) -> Result<(), Failure> {
        self.round().map(|_| ())
    }

    /// Does the work once and measures it.
    ///
    /// Errors: a wrong result, which time does not excuse, and the machine's.
    fn round(&mut self) -> Result<Round, Failure>;
}

/// A quantity that a contender measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with qualifiers last.
    pub name: &'static str,
    /// Its unit, as printed.
    pub unit: &'static str,
    /// Which way is good.
    pub better: Better,
}

impl Metric {
    /// Nothing but its parts.
    pub(crate) const fn new(name: &'static str, unit: &'static str, better: Better) -> Self {
        Self { name, unit, better }
    }
}

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Times, costs.
    Lower,
    /// Rates.
    Higher,
    /// Counts that only describe.
    Neither,
}

/// What one round gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// One finite value for each metric, in their order.
    pub values: Vec<f64>,
    /// Why the round proves nothing about the contender, if so.
    pub invalid: Option<Invalid>,
    /// What is worth telling beside the figures.
    pub note: Option<String>,
}

impl Round {
    /// A round that counts.
    pub fn valid(values: Vec<f64>) -> Self {
        Self { values, invalid: None, note: None }
    }
}

/// A round in which something else than the contender set the pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The side that could not keep up.
    pub bottleneck: String,
    /// What was seen.
    pub reason: String,
}

/// Why a contender has no figures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It computes something wrong: nothing else about it matters.
    #[error("wrong result: {0}")]
    Wrong(String),
    /// The machine, or a program that was started, refused.
    #[error("{0}")]
    Machine(String),
    /// It cannot run here.
    #[error("skipped: {0}")]
    Skipped(String),
}

impl Failure {
    /// A refusal of the machine while it did something.
    pub fn machine(action: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Machine(format!("cannot {action}: {error}"))
    }
}

/// Finds suites by name; `all` is all of them.
///
/// Errors: a sentence for the user.
pub fn find(name: &str) -> Result<Vec<&'static dyn Suite>, String> {
    if name == "all" {
        return Ok(SUITES.to_vec());
    }
    match SUITES.iter().find(|suite| suite.name() == name) {
        Some(suite) => Ok(vec![*suite]),
        None => {
            let known: Vec<_> = SUITES.iter().map(|suite| suite.name()).collect();
            Err(format!("unknown suite `{name}`; there are: {}, all", known.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_found_by_name_and_an_unknown_one_names_the_others() {
        assert_eq!(find("storage").unwrap()[0].name(), "storage");
        assert_eq!(find("all").unwrap().len(), SUITES.len());
        let error = find("disk").map(|_| ()).unwrap_err();
        assert_eq!(
            error,
            "unknown suite `disk`; there are: sigverify, hash, net, storage, pipeline, restart, cluster, all"
        );
    }

    #[test]
    fn names_of_suites_differ() {
        for (index, suite) in SUITES.iter().enumerate() {
            assert!(SUITES[..index].iter().all(|other| other.name() != suite.name()));
            assert!(suite.name() != "all");
        }
    }
}
