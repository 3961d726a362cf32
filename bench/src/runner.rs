//! Runs suites: checks first, a warm-up, then rounds in turns until the figures are steady.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::hardware::{self, Machine, Processors};
use crate::report::{
    Measure, Options, Report, Row, RowState, SCHEMA, SCHEMA_VERSION, SuiteReport, SuiteState,
};
use crate::suite::{Contender, Failure, Group, Invalid, Plan, Round, Rounds, Settings, Suite};

/// Most rounds that may be asked for; see [`crate::statistics::SAMPLES_MAX`].
pub const ROUNDS_MAX: u32 = 500;

const _: () = assert!(ROUNDS_MAX as usize <= crate::statistics::SAMPLES_MAX);

/// Where a run stands: for a line that is overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The suite.
    pub suite: &'static str,
    /// The group's number, from 1.
    pub group: usize,
    /// How many groups the suite has.
    pub groups: usize,
    /// The round's number, from 1; 0 while inputs are made and checked.
    pub round: u32,
    /// How many rounds there may be.
    pub rounds_max: u32,
    /// The contender whose turn it is; empty while there is none.
    pub operation: String,
}

/// What a run needs of whoever started it.
pub struct Session<'a> {
    /// What the user asked for.
    pub settings: &'a Settings,
    /// The command line, for the report.
    pub command: Vec<String>,
    /// Ends the run at the next turn once it is true.
    pub stop: &'a AtomicBool,
    /// Told at every turn.
    pub progress: &'a mut dyn FnMut(&Progress),
}

impl Session<'_> {
    /// Runs suites one after the other and reports on all of them.
    ///
    /// Errors: none; what could not be measured is a row that says so.
    pub fn run(&mut self, suites: &[&'static dyn Suite]) -> Report {
        let began = Instant::now();
        let (started, started_unix_s) = now();
        let machine = Machine::read(&self.settings.data);
        let before = Processors::read();
        let suites: Vec<_> = suites.iter().map(|suite| self.suite(*suite)).collect();
        let steal_ratio = Processors::steal_ratio(before, Processors::read());
        let warnings = hardware::warnings(&machine, steal_ratio);
        Report {
            schema: SCHEMA.to_owned(),
            schema_version: SCHEMA_VERSION,
            started,
            started_unix_s,
            elapsed_s: began.elapsed().as_secs_f64(),
            command: self.command.clone(),
            options: Options {
                scale: self.settings.scale.name().to_owned(),
                rounds: self.settings.rounds,
                seed: self.settings.seed,
                validator: self.settings.validator.display().to_string(),
            },
            machine,
            warnings,
            suites,
        }
    }

    fn suite(&mut self, suite: &'static dyn Suite) -> SuiteReport {
        let began = Instant::now();
        let before = Processors::read();
        let mut report = SuiteReport {
            name: suite.name().to_owned(),
            state: SuiteState::Run,
            reason: None,
            elapsed_s: 0.0,
            steal_ratio: None,
            rows: Vec::new(),
        };
        match suite.plan(self.settings) {
            Ok(plans) => self.groups(suite.name(), plans, &mut report),
            Err(reason) => {
                report.state = SuiteState::Skipped;
                report.reason = Some(reason);
            }
        }
        report.elapsed_s = began.elapsed().as_secs_f64();
        report.steal_ratio = Processors::steal_ratio(before, Processors::read());
        report
    }

    fn groups(&mut self, suite: &'static str, plans: Vec<Plan>, report: &mut SuiteReport) {
        let groups = plans.len();
        for (index, plan) in plans.into_iter().enumerate() {
            if self.stopped() {
                report.state = SuiteState::Interrupted;
                report.reason = Some(format!("stopped after {index} of {groups} groups"));
                return;
            }
            let mut progress = Progress {
                suite,
                group: index + 1,
                groups,
                round: 0,
                rounds_max: 0,
                operation: String::new(),
            };
            (self.progress)(&progress);
            let Plan { parameters, open } = plan;
            match open() {
                Ok(group) => {
                    let rows = self.group(group, &parameters, &mut progress);
                    report.rows.extend(rows);
                }
                Err(failure) => {
                    let label = crate::suite::Label::new(&format!("{suite}::group"));
                    let mut row = Row::empty(&parameters, &label, RowState::Failed);
                    mark(&mut row, &failure);
                    report.rows.push(row);
                }
            }
        }
    }

    fn group(
        &mut self,
        group: Group,
        parameters: &crate::suite::Parameters,
        progress: &mut Progress,
    ) -> Vec<Row> {
        let rounds = forced(group.rounds, self.settings.rounds);
        progress.rounds_max = rounds.max;
        let mut seats: Vec<Seat> = group
            .contenders
            .into_iter()
            .map(|contender| Seat::new(contender, parameters))
            .collect();
        for seat in &mut seats {
            progress.operation.clone_from(&seat.row.operation);
            (self.progress)(progress);
            seat.warm_up();
        }
        for round in 0..rounds.max {
            let enough = round >= rounds.min && seats.iter().all(|seat| !seat.is_noisy());
            if enough || self.stopped() {
                break;
            }
            progress.round = round + 1;
            // Whoever goes first changes, so that no one always follows the same neighbour.
            let count = seats.len().max(1);
            for turn in 0..seats.len() {
                let seat = &mut seats[(turn + round as usize) % count];
                progress.operation.clone_from(&seat.row.operation);
                (self.progress)(progress);
                seat.round();
            }
        }
        let mut rows: Vec<Row> = seats.into_iter().map(Seat::finish).collect();
        compare(&mut rows);
        rows.extend(group.skipped.into_iter().map(|(label, reason)| {
            let mut row = Row::empty(parameters, &label, RowState::Skipped);
            row.reason = Some(reason);
            row
        }));
        rows
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A contender in its group, and what it has shown so far.
struct Seat {
    contender: Box<dyn Contender>,
    row: Row,
    /// One list of values for each metric.
    samples: Vec<Vec<f64>>,
    invalid: Option<Invalid>,
}

impl Seat {
    fn new(contender: Box<dyn Contender>, parameters: &crate::suite::Parameters) -> Self {
        let row = Row::empty(parameters, &contender.label(), RowState::Ok);
        let samples = vec![Vec::new(); contender.metrics().len()];
        assert!(!samples.is_empty(), "a contender measures something");
        Self { contender, row, samples, invalid: None }
    }

    /// Checks the results, then works once without being measured.
    fn warm_up(&mut self) {
        let outcome = self.contender.check().and_then(|()| self.contender.warm_up());
        if let Err(failure) = outcome {
            mark(&mut self.row, &failure);
        }
    }

    fn round(&mut self) {
        if self.row.state != RowState::Ok {
            return;
        }
        let outcome = self.contender.round().and_then(|round| self.take(round));
        if let Err(failure) = outcome {
            mark(&mut self.row, &failure);
        }
    }

    fn take(&mut self, round: Round) -> Result<(), Failure> {
        assert_eq!(round.values.len(), self.samples.len(), "one value for each metric");
        for (metric, value) in self.contender.metrics().iter().zip(&round.values) {
            if !value.is_finite() {
                return Err(Failure::Wrong(format!("{} is {value}", metric.name)));
            }
        }
        for (samples, value) in self.samples.iter_mut().zip(round.values) {
            samples.push(value);
        }
        if self.invalid.is_none() {
            self.invalid = round.invalid;
        }
        if let Some(note) = round.note
            && !self.row.notes.contains(&note)
        {
            self.row.notes.push(note);
        }
        Ok(())
    }

    fn is_noisy(&self) -> bool {
        let first = &self.samples[0];
        self.row.state == RowState::Ok
            && !first.is_empty()
            && crate::statistics::summarize(first).variation >= crate::statistics::NOISY
    }

    fn finish(self) -> Row {
        let Self { contender, mut row, samples, invalid } = self;
        if row.state != RowState::Ok {
            return row;
        }
        if samples[0].is_empty() {
            mark(&mut row, &Failure::Skipped("stopped before its first round".to_owned()));
            return row;
        }
        row.rounds = u32::try_from(samples[0].len()).expect("at most ROUNDS_MAX");
        row.measures = contender
            .metrics()
            .iter()
            .zip(samples)
            .map(|(metric, samples)| Measure::new(metric, samples))
            .collect();
        if let Some(invalid) = invalid {
            row.state = RowState::Invalid;
            row.reason = Some(invalid.reason);
            row.bottleneck = Some(invalid.bottleneck);
        } else if row.is_noisy() {
            row.state = RowState::Noisy;
            let percent = row.measures[0].variation * 100.0;
            let rounds = row.rounds;
            row.reason = Some(format!("varies by {percent:.1} % over {rounds} rounds"));
        }
        row
    }
}

/// Sets the ratios of a group's rows to its first row.
fn compare(rows: &mut [Row]) {
    let Some((baseline, others)) = rows.split_first_mut() else {
        return;
    };
    for row in others {
        row.baseline = Some(baseline.name.clone());
        // Rows that stopped at different rounds have no pairs.
        if row.rounds != baseline.rounds {
            continue;
        }
        for measure in &mut row.measures {
            if let Some(baseline) = baseline.measure(&measure.metric) {
                measure.compare(baseline);
            }
        }
    }
}

fn mark(row: &mut Row, failure: &Failure) {
    (row.state, row.reason) = match failure {
        Failure::Skipped(reason) => (RowState::Skipped, Some(reason.clone())),
        Failure::Wrong(_) | Failure::Machine(_) => (RowState::Failed, Some(failure.to_string())),
    };
}

fn forced(rounds: Rounds, asked: Option<u32>) -> Rounds {
    match asked {
        Some(count) => {
            let count = count.clamp(1, ROUNDS_MAX);
            Rounds { min: count, max: count }
        }
        None => rounds,
    }
}

/// The time at which the run begins: the one reading of the calendar.
#[expect(clippy::disallowed_methods, reason = "a report says when it was made; no input does")]
fn now() -> (String, u64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    (crate::hardware::utc(since), since)
}

#[cfg(test)]
mod tests;
