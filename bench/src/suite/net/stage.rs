//! Nanoseconds per packet of every verdict, over a program that does nothing.
//!
//! The kernel runs a program on one packet again and again (`BPF_PROG_TEST_RUN`). Each round takes
//! the empty program and the filter in turns, and the figure is the middle of the differences:
//! what slows the machine for a while slows both. Where packets must differ from run to run, a
//! program changes each before the filter sees it, and the changes alone are what is subtracted.

mod case;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use self::case::{Case, Change, Spent, Subject};
use super::control::{COUNTERS, CPUS, Control, Pace};
use super::program::{Programs, SESSIONS, WINDOW};
use super::twin;
use crate::statistics::summarize;
use crate::suite::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Scale, Settings,
};

const METRICS_EMPTY: [Metric; 1] =
    [Metric { name: "packet_ns", unit: "ns", better: Better::Lower }];
const METRICS: [Metric; 2] =
    [METRICS_EMPTY[0], Metric { name: "over_empty_ns", unit: "ns", better: Better::Lower }];

/// Programs that this group runs.
const PROGRAMS: [&str; 6] =
    ["empty_drop", "empty_pass", "ideal", "same_filter", "change_only", "change_filter"];
/// The token of every slot, so that a packet for any of them can be prepared.
pub(super) const TOKEN: u64 = 0x5eed_5eed_5eed_5eed;
/// Four sessions to a word, each in its first generation.
const FIRST_GENERATIONS: u64 = 0x0001_0001_0001_0001;
/// The counter of prepared packets.
pub(super) const COUNTER: u64 = 1;
/// Packets of a check.
const CHECKS: u32 = 100;
/// Any port for validators.
const TCP_PORT: u16 = 9_001;

/// Plans the group.
pub(super) fn plan(settings: &Settings, rounds: Rounds) -> Plan {
    let repeat = settings.scale.pick(100_000, 50_000, 1_000);
    let turns = settings.scale.pick(9, 5, 1);
    // Four million calls to fill the table are most of a smoke run.
    let any_slot = settings.scale != Scale::Smoke;
    Plan { parameters: Vec::new(), open: Box::new(move || open(repeat, turns, any_slot, rounds)) }
}

fn open(repeat: u32, turns: u32, any_slot: bool, rounds: Rounds) -> Result<Group, Failure> {
    let mut cases = case::all();
    cases.retain(|case| any_slot || case.subject != Subject::Filter(Some(Change::Slot)));
    let mut programs = match Programs::open(&PROGRAMS, SESSIONS * WINDOW) {
        Ok(programs) => programs,
        Err(Failure::Skipped(reason)) => {
            let skipped = cases.into_iter().map(|case| (case.label, reason.clone())).collect();
            return Ok(Group { rounds, contenders: Vec::new(), skipped });
        }
        Err(failure) => return Err(failure),
    };
    let waits = |slot: &u32| any_slot || u64::from(slot % WINDOW) == COUNTER;
    let slots = (0..SESSIONS * WINDOW).filter(waits);
    programs.fill("TOKENS", slots.map(|slot| (slot, TOKEN)))?;
    programs.fill("GENERATIONS", (0..SESSIONS / 4).map(|place| (place, FIRST_GENERATIONS)))?;
    let programs = Rc::new(RefCell::new(programs));
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    for case in cases {
        let programs = Rc::clone(&programs);
        contenders.push(Box::new(Stage { programs, case, repeat, turns }));
    }
    contenders.extend(twin::contenders(repeat)?);
    Ok(Group { rounds, contenders, skipped: Vec::new() })
}

/// One row, and the programs that all rows share.
struct Stage {
    programs: Rc<RefCell<Programs>>,
    case: Case,
    repeat: u32,
    turns: u32,
}

impl Stage {
    /// The program that is measured, and the one whose time is subtracted.
    fn names(&self) -> (&'static str, &'static str) {
        match self.case.subject {
            Subject::Alone(name) => (name, "empty_drop"),
            Subject::Filter(None) => ("same_filter", "empty_drop"),
            Subject::Filter(Some(_)) => ("change_filter", "change_only"),
        }
    }

    fn is_baseline(&self) -> bool {
        self.case.subject == Subject::Alone("empty_drop")
    }

    fn prepare(&self) -> Result<(), Failure> {
        let (sources, replies) = match self.case.spent {
            Spent::Nothing => (Pace::ALWAYS, Pace::ALWAYS),
            Spent::Sources => (Pace::NEVER, Pace::ALWAYS),
            Spent::Replies => (Pace::ALWAYS, Pace::NEVER),
        };
        let mut programs = self.programs.borrow_mut();
        programs.set("CONTROL", 0, Control::new(sources, replies, TCP_PORT).words())?;
        let change = match self.case.subject {
            Subject::Filter(Some(change)) => change,
            Subject::Alone(_) | Subject::Filter(None) => return Ok(()),
        };
        programs.set("CHANGE", 0, change as u32)
    }

    /// The time of one run of a program, on this thread's own clock.
    fn time(&self, name: &str) -> Result<f64, Failure> {
        let programs = self.programs.borrow();
        let began = thread_time();
        programs.run(name, &self.case.packet, self.repeat)?;
        let took = thread_time().saturating_sub(began);
        Ok(took.as_secs_f64() * 1e9 / f64::from(self.repeat))
    }
}

impl Contender for Stage {
    fn label(&self) -> Label {
        self.case.label.clone()
    }

    fn metrics(&self) -> &'static [Metric] {
        if self.is_baseline() { &METRICS_EMPTY } else { &METRICS }
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.prepare()?;
        let (name, _) = self.names();
        let programs = self.programs.borrow();
        let count = |programs: &Programs| -> Result<u64, Failure> {
            let Some(verdict) = self.case.verdict else {
                return Ok(0);
            };
            let mut sum = 0;
            for cpu in 0..CPUS {
                sum += programs.get::<[u64; COUNTERS]>("COUNTS", cpu)?[verdict.index()];
            }
            Ok(sum)
        };
        let before = count(&programs)?;
        let action = programs.run(name, &self.case.packet, CHECKS)?;
        let counted = count(&programs)? - before;
        if action != self.case.action as u32 {
            return Err(Failure::Wrong(format!("{name} answers {action}")));
        }
        if self.case.verdict.is_some() && counted != u64::from(CHECKS) {
            return Err(Failure::Wrong(format!("{CHECKS} packets, {counted} of the verdict")));
        }
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        self.prepare()?;
        let (name, without) = self.names();
        let (mut empty, mut over) = (Vec::new(), Vec::new());
        for _ in 0..self.turns {
            let nothing = self.time("empty_drop")?;
            let subtracted = if without == "empty_drop" { nothing } else { self.time(without)? };
            empty.push(nothing);
            over.push(self.time(name)? - subtracted);
        }
        let (empty, over) = (summarize(&empty).median, summarize(&over).median);
        if self.is_baseline() {
            return Ok(Round::valid(vec![empty]));
        }
        Ok(Round::valid(vec![empty + over, over]))
    }
}

/// Processor time of the calling thread, the kernel's part included.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread's time is not negative")
}
