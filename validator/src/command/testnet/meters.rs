//! Reads every validator's meters once a second: processor time by stage, memory, transactions.

use crate::client::{Api, Url};
use crate::command::network::Network;
use crate::command::terminal::{Paint, Side, Table};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time between two readings.
const PERIOD: Duration = Duration::from_secs(1);
/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// A process that was started again has missed more than this.
const AWAY_SECONDS: f64 = 5.0;
/// Readings that are kept: an hour; of a longer run the later ones.
const READINGS_MAX: usize = 3_600;

/// What a validator's page of metrics said.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reading {
    /// Seconds of processor time by stage.
    stages: BTreeMap<String, f64>,
    /// Seconds of processor time of the whole process.
    process: f64,
    /// Final transactions since its start.
    transactions: f64,
    /// Seconds since its start.
    uptime: f64,
    /// Bytes that it occupies.
    resident: f64,
    /// Bytes that it may occupy by its own limits.
    budget: f64,
}

impl Reading {
    /// Reads the page; a name that is missing counts as zero.
    fn parse(page: &str) -> Self {
        let mut reading = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            match name {
                "althing_cpu_seconds_total" => {
                    let stage = labels.split('"').nth(1).unwrap_or_default();
                    reading.stages.insert(stage.to_owned(), value);
                }
                "process_cpu_seconds_total" => reading.process = value,
                "althing_tx_committed_total" => reading.transactions = value,
                "althing_uptime_seconds" => reading.uptime = value,
                "process_resident_memory_bytes" => reading.resident = value,
                "althing_memory_budget_bytes" => reading.budget = value,
                _ => {}
            }
        }
        reading
    }
}

/// All validators at one time; none where one did not answer.
type Moment = (Instant, Vec<Option<Reading>>);

/// The thread that reads; it ends when this is dropped.
pub(super) struct Meters {
    moments: Arc<Mutex<Vec<Moment>>>,
    stop: Option<crossbeam::channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Meters {
    /// Starts to read.
    pub(super) fn start(network: &Network) -> Self {
        let urls: Vec<Url> = network.validators.iter().map(|one| Url::from(one.http)).collect();
        let moments: Arc<Mutex<Vec<Moment>>> = Arc::default();
        let kept = Arc::clone(&moments);
        let (stop, stopped) = crossbeam::channel::bounded::<()>(0);
        let thread = thread::spawn(move || {
            let mut apis: Vec<Api> = urls.into_iter().map(|url| Api::new(url, ANSWER)).collect();
            let mut due = Instant::now();
            loop {
                let readings = apis.iter_mut().map(|api| api.metrics().ok());
                let readings = readings.map(|page| Some(Reading::parse(&page?))).collect();
                let moment = (Instant::now(), readings);
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == READINGS_MAX {
                    kept.remove(0);
                }
                kept.push(moment);
                drop(kept);
                due += PERIOD;
                let wait = due.saturating_duration_since(Instant::now());
                if stopped.recv_timeout(wait) != Err(crossbeam::channel::RecvTimeoutError::Timeout)
                {
                    return;
                }
            }
        });
        Self { moments, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns what was read from `start` until `end`.
    pub(super) fn between(&self, start: Instant, end: Instant) -> Costs {
        let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = moments.iter().filter(|(at, _)| (start..=end).contains(at));
        Costs::new(start, &inside.cloned().collect::<Vec<_>>())
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic of the thread has been printed; there is nothing to add on the way out.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// What a transaction cost while a load lasted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Costs {
    /// Microseconds of processor time per transaction and validator, by stage; dearest first.
    stages: Vec<(String, f64)>,
    /// The same of whole processes.
    all: f64,
    /// The most that one validator occupied, and what it may by its own limits, in bytes.
    resident_max: f64,
    budget: f64,
    /// Milliseconds since the start, transactions a second, and bytes of the largest validator.
    course: Vec<(u64, f64, f64)>,
}

impl Costs {
    fn new(start: Instant, moments: &[Moment]) -> Self {
        let mut costs = Self::default();
        let all = moments.iter().flat_map(|(_, readings)| readings.iter().flatten());
        for reading in all {
            costs.resident_max = costs.resident_max.max(reading.resident);
            costs.budget = costs.budget.max(reading.budget);
        }
        for pair in moments.windows(2) {
            let ((from, before), (to, after)) = (&pair[0], &pair[1]);
            let steps = before.iter().zip(after).filter_map(|pair| step(pair, *to - *from));
            let done = steps.map(|(old, new)| new.transactions - old.transactions).collect();
            let rate = by_most(done, after.len()) / (*to - *from).as_secs_f64();
            let resident = after.iter().flatten().map(|one| one.resident).fold(0.0, f64::max);
            let at = u64::try_from((*to - start).as_millis()).unwrap_or(u64::MAX);
            costs.course.push((at, rate, resident));
        }
        if let [(from, first), .., (to, last)] = moments {
            costs.spend(first, last, *to - *from);
        }
        costs
    }

    fn spend(&mut self, first: &[Option<Reading>], last: &[Option<Reading>], time: Duration) {
        let steps: Vec<_> = first.iter().zip(last).filter_map(|pair| step(pair, time)).collect();
        let transactions: f64 =
            steps.iter().map(|(old, new)| new.transactions - old.transactions).sum();
        if transactions <= 0.0 {
            return;
        }
        let mut stages: BTreeMap<&str, f64> = BTreeMap::new();
        for (old, new) in &steps {
            self.all += (new.process - old.process) * 1e6 / transactions;
            for (stage, seconds) in &new.stages {
                let before = old.stages.get(stage).copied().unwrap_or_default();
                *stages.entry(stage).or_default() += (seconds - before) * 1e6 / transactions;
            }
        }
        self.stages = stages.into_iter().map(|(stage, cost)| (stage.to_owned(), cost)).collect();
        self.stages.sort_by(|one, other| other.1.total_cmp(&one.1));
    }

    /// The share of the whole that the stages explain.
    fn explained(&self) -> f64 {
        self.stages.iter().map(|(_, cost)| cost).sum::<f64>() / self.all
    }

    /// For people; empty where nothing was measured.
    pub(super) fn table(&self, paint: Paint) -> String {
        if self.stages.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&[Side::Left, Side::Right, Side::Right]).indent(2);
        for (stage, cost) in &self.stages {
            let share = cost / self.all * 100.0;
            table.row([stage.clone(), format!("{cost:.2} us"), format!("{share:.1}%")]);
        }
        let explained = self.explained() * 100.0;
        table.row([
            "all".into(),
            format!("{:.2} us", self.all),
            format!("{explained:.1}% explained"),
        ]);
        let title = paint.bold("cost");
        let mib = |bytes: f64| format!("{:.0}", bytes / f64::from(1 << 20));
        format!(
            "{title} of processor time for each transaction and validator, while the load lasted\n{}\
             {} of one validator: at most {} MiB, of a budget of {} MiB\n",
            table.render(),
            paint.bold("memory"),
            mib(self.resident_max),
            mib(self.budget)
        )
    }

    /// For programs; null where nothing was measured.
    pub(super) fn json(&self) -> serde_json::Value {
        if self.stages.is_empty() {
            return serde_json::Value::Null;
        }
        let stages: BTreeMap<_, _> =
            self.stages.iter().map(|(stage, cost)| (stage, cost)).collect();
        let course: Vec<_> = self
            .course
            .iter()
            .map(|(at, rate, bytes)| json!({ "ms": at, "finalized_per_second": rate, "resident_bytes": bytes }))
            .collect();
        json!({
            "us_per_transaction": stages,
            "us_per_transaction_all": self.all,
            "resident_bytes_max": self.resident_max,
            "memory_budget_bytes": self.budget,
            "course": course,
        })
    }
}

/// What a supermajority of `validators` executed, or all of those that are there.
///
/// All execute the same, but not at the same time: one that was away runs ahead of its usual rate until
/// it has caught up, and speaks for nobody else.
fn by_most(mut done: Vec<f64>, validators: usize) -> f64 {
    done.sort_by(|one, other| other.total_cmp(one));
    let supermajority = validators - validators.saturating_sub(1) / 3;
    done.get(..supermajority).unwrap_or(&done).last().copied().unwrap_or_default()
}

/// Two readings of one run of a validator: a process that was started again counts from nothing.
fn step<'a>(
    (before, after): (&'a Option<Reading>, &'a Option<Reading>),
    time: Duration,
) -> Option<(&'a Reading, &'a Reading)> {
    let (before, after) = (before.as_ref()?, after.as_ref()?);
    let longer = after.uptime - before.uptime - time.as_secs_f64();
    let is_same = longer.abs() < AWAY_SECONDS && after.process >= before.process;
    is_same.then_some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP althing_cpu_seconds Processor time.\n\
        althing_cpu_seconds_total{stage=\"verify\"} 1.5\n\
        althing_cpu_seconds_total{stage=\"hash\"} 0.5\n\
        althing_memory_budget_bytes 128\n\
        process_cpu_seconds_total 2.5\n\
        process_resident_memory_bytes 4096\n\
        althing_uptime_seconds 7\nalthing_tx_committed_total 1000\n# EOF\n";

    fn reading(factor: f64, resident: f64) -> Reading {
        let mut reading = Reading::parse(PAGE);
        reading.stages.values_mut().for_each(|seconds| *seconds *= factor);
        reading.process *= factor;
        reading.transactions *= factor;
        reading.resident = resident;
        reading
    }

    #[test]
    fn a_page_is_read() {
        let reading = Reading::parse(PAGE);
        assert_eq!(reading.stages["verify"], 1.5);
        assert_eq!((reading.process, reading.transactions), (2.5, 1000.0));
        assert_eq!((reading.resident, reading.budget), (4096.0, 128.0));
    }

    #[test]
    fn costs_are_those_between_the_first_and_the_last_reading() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let moments = [
            (at(1), vec![Some(reading(1.0, 10.0)), Some(reading(1.0, 10.0))]),
            (at(2), vec![Some(reading(2.0, 90.0)), None]),
            // The second was started again: its time says nothing of the load's, however much it is.
            (
                at(3),
                vec![Some(reading(3.0, 20.0)), Some(Reading { uptime: 0.5, ..reading(9.0, 30.0) })],
            ),
        ];
        let costs = Costs::new(start, &moments);
        // Two thousand transactions: 3 s of verify, 1 s of hash, 5 s in all.
        assert_eq!(costs.stages, [("verify".to_owned(), 1500.0), ("hash".to_owned(), 500.0)]);
        assert_eq!((costs.all, costs.resident_max, costs.budget), (2500.0, 90.0, 128.0));
        assert_eq!(costs.course, [(2_000, 1000.0, 90.0), (3_000, 1000.0, 30.0)]);
        let table = costs.table(Paint::PLAIN);
        assert!(table.contains("80.0% explained") && table.contains("1500.00 us"), "{table}");
        assert_eq!(costs.json()["us_per_transaction"]["hash"], 500.0);
        assert_eq!(costs.json()["course"][0]["ms"], 2_000);
    }

    #[test]
    fn one_that_catches_up_or_falls_behind_speaks_for_nobody_else() {
        assert_eq!(by_most(vec![50.0, 10.0, 900.0, 40.0], 4), 40.0);
        assert_eq!(by_most(vec![50.0, 0.0, 45.0, 40.0], 4), 40.0);
        // One is away: the three that are there are most, and all of them are needed.
        assert_eq!(by_most(vec![50.0, 45.0, 40.0], 4), 40.0);
        assert_eq!((by_most(vec![7.0], 1), by_most(Vec::new(), 4)), (7.0, 0.0));
    }

    #[test]
    fn without_readings_nothing_is_said() {
        let costs = Costs::new(Instant::now(), &[(Instant::now(), vec![Some(reading(1.0, 1.0))])]);
        assert_eq!((costs.table(Paint::PLAIN).as_str(), costs.json()), ("", json!(null)));
    }
}
