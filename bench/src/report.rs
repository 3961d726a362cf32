//! The result of a run, as it is written to a file; `schema.md` says what each key means.

pub mod schema;
pub mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::hardware::Machine;
use crate::statistics::{self, NOISY, Summary};
use crate::suite::{Better, Label, Metric, Parameters};

/// The name of the format, the first thing that a reader looks at.
pub const SCHEMA: &str = "althing-bench";

/// The version of the format: raised when a key changes its meaning or goes, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything about one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When the run began, in UTC.
    pub started: String,
    /// The same in seconds since 1970.
    pub started_unix_s: u64,
    /// How long the run took.
    pub elapsed_s: f64,
    /// The command line.
    pub command: Vec<String>,
    /// What was asked for.
    pub options: Options,
    /// Where it ran.
    pub machine: Machine,
    /// What makes the figures doubtful, in sentences.
    pub warnings: Vec<String>,
    /// The suites that were asked for, run or skipped.
    pub suites: Vec<SuiteReport>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `full`, `quick` or `smoke`.
    pub scale: String,
    /// The number of rounds that was forced, or null.
    pub rounds: Option<u32>,
    /// The seed of all inputs.
    pub seed: u64,
    /// The validator's binary.
    pub validator: String,
}

/// One suite's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteReport {
    /// The suite.
    pub name: String,
    /// Whether it ran.
    pub state: SuiteState,
    /// Why it did not, or not to the end.
    pub reason: Option<String>,
    /// How long it took.
    pub elapsed_s: f64,
    /// The share of processor time that the hypervisor gave to others meanwhile.
    pub steal_ratio: Option<f64>,
    /// Its rows, group by group; a group's baseline comes first.
    pub rows: Vec<Row>,
}

/// Whether a suite ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuiteState {
    /// To its end, whatever the rows say.
    Run,
    /// Not at all.
    Skipped,
    /// It was stopped in the middle.
    Interrupted,
}

/// One contender with one set of parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// `crate::operation/key=value key=value`: unique in a report.
    pub name: String,
    /// The part of the name before the slash.
    pub operation: String,
    /// The part of the name after it.
    pub parameters: BTreeMap<String, String>,
    /// The name of the row that ratios refer to; null in the baseline itself.
    pub baseline: Option<String>,
    /// Whether the figures can be believed.
    pub state: RowState,
    /// Why not.
    pub reason: Option<String>,
    /// The side that set the pace of an invalid row.
    pub bottleneck: Option<String>,
    /// What the contender tells beside its figures, each sentence once.
    pub notes: Vec<String>,
    /// How many rounds count; where there is anything to warm up, one more went before them.
    pub rounds: u32,
    /// The figures; none in rows that were skipped or failed.
    pub measures: Vec<Measure>,
}

/// Whether a row's figures can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowState {
    /// Yes.
    Ok,
    /// The coefficient of variation stayed at [`NOISY`] or above, extra rounds included.
    Noisy,
    /// Something else than the contender set the pace.
    Invalid,
    /// It could not run here.
    Skipped,
    /// It gave a wrong result, or broke.
    Failed,
}

/// One metric of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// The metric's name.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// Which way is good.
    pub better: Better,
    /// One value for each round, in the order of the rounds.
    pub samples: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// The lower end of the median's interval.
    pub low: f64,
    /// The upper end of the median's interval.
    pub high: f64,
    /// The interval's confidence.
    pub confidence: f64,
    /// The coefficient of variation.
    pub variation: f64,
    /// How many times better than the baseline; null where there is none.
    pub ratio: Option<Ratio>,
}

/// How many times better than the baseline of the same group: above 1 is better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// The median of the rounds' ratios.
    pub median: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end of its interval.
    pub high: f64,
    /// The interval's confidence.
    pub confidence: f64,
}

/// Why a file is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read or written.
    #[error("{path}: cannot {action}: {source}")]
    File {
        /// The file.
        path: String,
        /// What was tried.
        action: &'static str,
        /// The machine's answer.
        source: std::io::Error,
    },
    /// The file is no JSON of this shape.
    #[error("{path}: no report of this version: {source}")]
    Shape {
        /// The file.
        path: String,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// The file has the shape, but not what the schema says of it.
    #[error("{path}: not as the schema says: {what}")]
    Schema {
        /// The file.
        path: String,
        /// The first difference.
        what: String,
    },
}

impl Report {
    /// Writes the report to a file, after it was checked against the schema.
    ///
    /// Errors: [`Error::File`]. A report that breaks its own schema is our mistake and panics.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let value = serde_json::to_value(self).expect("a report has only finite numbers");
        if let Err(what) = schema::validate(&value) {
            panic!("a report breaks its schema: {what}");
        }
        let mut text = serde_json::to_string_pretty(&value).expect("a value is always text");
        text.push('\n');
        fs::write(path, text).map_err(|source| file_error(path, "write", source))
    }

    /// Reads a report and checks it against the schema.
    ///
    /// Errors: every variant of [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| file_error(path, "read", source))?;
        let shape = |source| Error::Shape { path: path.display().to_string(), source };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(shape)?;
        let refused = |what| Error::Schema { path: path.display().to_string(), what };
        // Before the keys, which another version may have changed.
        if let Some(version) = value["schema_version"].as_u64()
            && version != u64::from(SCHEMA_VERSION)
        {
            return Err(refused(format!("version {version}, this program reads {SCHEMA_VERSION}")));
        }
        schema::validate(&value).map_err(refused)?;
        serde_json::from_value(value).map_err(shape)
    }

    /// Every row of every suite.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.suites.iter().flat_map(|suite| &suite.rows)
    }

    /// Whether every row that ran can be believed, apart from noise.
    pub fn is_sound(&self) -> bool {
        let rows = self.rows().all(|row| match row.state {
            RowState::Ok | RowState::Noisy | RowState::Skipped => true,
            RowState::Invalid | RowState::Failed => false,
        });
        rows && self.suites.iter().all(|suite| suite.state != SuiteState::Interrupted)
    }
}

impl Row {
    /// A row without figures.
    pub(crate) fn empty(shared: &Parameters, label: &Label, state: RowState) -> Self {
        let parameters: Parameters = shared.iter().chain(&label.parameters).cloned().collect();
        Self {
            name: row_name(&label.operation, &parameters),
            operation: label.operation.clone(),
            parameters: parameters
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            baseline: None,
            state,
            reason: None,
            bottleneck: None,
            notes: Vec::new(),
            rounds: 0,
            measures: Vec::new(),
        }
    }

    /// The figure by its metric's name.
    pub fn measure(&self, metric: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.metric == metric)
    }

    /// Whether the metric that decides varies too much.
    pub(crate) fn is_noisy(&self) -> bool {
        self.measures.first().is_some_and(|measure| measure.variation >= NOISY)
    }
}

impl Measure {
    /// Summarises a metric's samples.
    pub(crate) fn new(metric: &Metric, samples: Vec<f64>) -> Self {
        let Summary { median, low, high, confidence, variation } = statistics::summarize(&samples);
        Self {
            metric: metric.name.to_owned(),
            unit: metric.unit.to_owned(),
            better: metric.better,
            samples,
            median,
            low,
            high,
            confidence,
            variation,
            ratio: None,
        }
    }

    /// Sets the ratio to the same metric of the baseline, round by round.
    pub(crate) fn compare(&mut self, baseline: &Self) {
        let lower = match self.better {
            Better::Lower => true,
            Better::Higher => false,
            Better::Neither => return,
        };
        self.ratio = statistics::ratios(lower, &baseline.samples, &self.samples).map(|ratios| {
            let Summary { median, low, high, confidence, .. } = statistics::summarize(&ratios);
            Ratio { median, low, high, confidence }
        });
    }
}

/// `crate::operation/key=value key=value`.
fn row_name(operation: &str, parameters: &Parameters) -> String {
    let parts: Vec<_> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if parts.is_empty() { operation.to_owned() } else { format!("{operation}/{}", parts.join(" ")) }
}

fn file_error(path: &Path, action: &'static str, source: std::io::Error) -> Error {
    Error::File { path: path.display().to_string(), action, source }
}

#[cfg(test)]
pub(crate) mod tests;
