//! The method, with contenders whose figures are made up: order, checks, extra rounds, verdicts.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use super::*;
use crate::suite::{Better, Label, Metric, Scale};

const METRICS: [Metric; 2] = [
    Metric { name: "time_us", unit: "us", better: Better::Lower },
    Metric { name: "rate", unit: "1/s", better: Better::Higher },
];

type Diary = Rc<RefCell<Vec<String>>>;

/// Plays a list of times, again and again.
struct Script {
    name: &'static str,
    times: Vec<f64>,
    at: usize,
    check: Result<(), Failure>,
    invalid: Option<Invalid>,
    diary: Diary,
}

impl Contender for Script {
    fn label(&self) -> Label {
        Label::new(self.name)
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.diary.borrow_mut().push(format!("check {}", self.name));
        self.check.clone()
    }

    fn warm_up(&mut self) -> Result<(), Failure> {
        self.diary.borrow_mut().push(format!("warm {}", self.name));
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        self.diary.borrow_mut().push(self.name.to_owned());
        let time = self.times[self.at % self.times.len()];
        self.at += 1;
        Ok(Round {
            values: vec![time, 1.0 / time],
            invalid: self.invalid.clone(),
            note: Some(format!("at {time}")),
        })
    }
}

fn script(name: &'static str, times: &[f64], diary: &Diary) -> Script {
    let diary = Rc::clone(diary);
    Script { name, times: times.to_vec(), at: 0, check: Ok(()), invalid: None, diary }
}

fn settings(rounds: Option<u32>) -> Settings {
    Settings {
        scale: Scale::Smoke,
        rounds,
        seed: 1,
        data: std::env::temp_dir(),
        validator: PathBuf::new(),
        unverified: None,
    }
}

fn run_with(scripts: Vec<Script>, rounds: Rounds, settings: &Settings, stop: bool) -> Vec<Row> {
    let contenders =
        scripts.into_iter().map(|script| Box::new(script) as Box<dyn Contender>).collect();
    let skipped = vec![(Label::new("c::absent"), "not here".to_owned())];
    let group = Group { rounds, contenders, skipped };
    let stop = AtomicBool::new(stop);
    let mut session = Session { settings, command: Vec::new(), stop: &stop, progress: &mut |_| () };
    let plan = Plan { parameters: vec![("size", "1".to_owned())], open: Box::new(|| Ok(group)) };
    let mut report = SuiteReport {
        name: "test".to_owned(),
        state: SuiteState::Run,
        reason: None,
        elapsed_s: 0.0,
        steal_ratio: None,
        rows: Vec::new(),
    };
    let Plan { parameters, open } = plan;
    let mut progress = Progress {
        suite: "test",
        group: 1,
        groups: 1,
        round: 0,
        rounds_max: 0,
        operation: String::new(),
    };
    report.rows = session.group(open().unwrap(), &parameters, &mut progress);
    report.rows
}

fn run(scripts: Vec<Script>, rounds: Rounds) -> Vec<Row> {
    run_with(scripts, rounds, &settings(None), false)
}

#[test]
fn everyone_is_checked_and_warmed_first_then_rounds_take_turns() {
    let diary = Diary::default();
    let scripts = vec![script("a::work", &[4.0], &diary), script("b::work", &[2.0], &diary)];
    let rows = run(scripts, Rounds { min: 3, max: 9 });
    let expected = [
        "check a::work",
        "warm a::work",
        "check b::work",
        "warm b::work",
        "a::work",
        "b::work",
        "b::work",
        "a::work",
        "a::work",
        "b::work",
    ];
    assert_eq!(*diary.borrow(), expected, "steady rows get no extra rounds");
    assert_eq!(rows[0].name, "a::work/size=1");
    assert_eq!(rows[0].baseline, None);
    assert_eq!(rows[1].baseline.as_deref(), Some("a::work/size=1"));
    assert_eq!(rows[1].rounds, 3);
    for measure in &rows[1].measures {
        assert_eq!(measure.ratio.unwrap().median, 2.0, "{}", measure.metric);
    }
    assert_eq!(rows[0].measures[0].ratio, None);
    assert_eq!(rows[0].notes, ["at 4"], "a sentence is told once");
    assert_eq!(rows[2].state, RowState::Skipped);
    assert_eq!(rows[2].reason.as_deref(), Some("not here"));
}

#[test]
fn a_noisy_row_gets_extra_rounds_and_so_do_its_neighbours() {
    let diary = Diary::default();
    let scripts = vec![
        script("a::steady", &[4.0], &diary),
        // Calm once the first rounds are outweighed: its variation falls below 3.5 % at round 10.
        script("b::settles", &[1.1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], &diary),
    ];
    let rows = run(scripts, Rounds { min: 3, max: 20 });
    assert_eq!(rows[0].rounds, rows[1].rounds);
    assert!(rows[1].rounds > 3 && rows[1].rounds < 20, "{}", rows[1].rounds);
    assert_eq!(rows[1].state, RowState::Ok);
}

#[test]
fn a_row_that_never_calms_down_is_called_noisy() {
    let diary = Diary::default();
    let scripts = vec![script("a::work", &[1.0, 2.0], &diary)];
    let rows = run(scripts, Rounds { min: 2, max: 6 });
    assert_eq!((rows[0].state, rows[0].rounds), (RowState::Noisy, 6));
    assert!(rows[0].reason.as_ref().unwrap().contains("over 6 rounds"));
}

#[test]
fn a_wrong_result_gives_no_figure_and_does_not_stop_the_others() {
    let diary = Diary::default();
    let mut wrong = script("a::wrong", &[1.0], &diary);
    wrong.check = Err(Failure::Wrong("2 and 2 is 5".to_owned()));
    let mut absent = script("b::absent", &[1.0], &diary);
    absent.check = Err(Failure::Skipped("no such thing".to_owned()));
    let rows =
        run(vec![wrong, absent, script("c::right", &[1.0], &diary)], Rounds { min: 2, max: 2 });
    assert_eq!(rows[0].state, RowState::Failed);
    assert_eq!(rows[0].reason.as_deref(), Some("wrong result: 2 and 2 is 5"));
    assert!(rows[0].measures.is_empty());
    assert_eq!(rows[1].state, RowState::Skipped);
    assert_eq!(rows[1].reason.as_deref(), Some("no such thing"));
    assert_eq!(rows[2].state, RowState::Ok);
    assert_eq!(rows[2].measures[0].ratio, None, "there is no baseline to compare with");
    let timed = diary.borrow().iter().filter(|entry| *entry == "a::wrong").count();
    assert_eq!(timed, 0, "what is wrong is not timed");
}

#[test]
fn a_value_that_is_no_number_is_a_wrong_result() {
    let diary = Diary::default();
    let rows = run(vec![script("a::zero", &[0.0], &diary)], Rounds { min: 2, max: 2 });
    assert_eq!(rows[0].state, RowState::Failed);
    assert!(rows[0].reason.as_ref().unwrap().contains("rate is inf"));
}

#[test]
fn a_round_paced_by_another_side_makes_the_row_invalid_and_names_it() {
    let diary = Diary::default();
    let mut starved = script("a::starved", &[1.0], &diary);
    let (bottleneck, reason) = ("generator".to_owned(), "9 of 10 sent in time".to_owned());
    starved.invalid = Some(Invalid { bottleneck, reason });
    let rows = run(vec![starved], Rounds { min: 2, max: 2 });
    assert_eq!(rows[0].state, RowState::Invalid);
    assert_eq!(rows[0].bottleneck.as_deref(), Some("generator"));
    assert_eq!(rows[0].measures.len(), 2, "the figures stay, marked");
}

#[test]
fn a_forced_number_of_rounds_is_exact() {
    let diary = Diary::default();
    let scripts = vec![script("a::work", &[1.0, 2.0], &diary)];
    let rows = run_with(scripts, Rounds { min: 2, max: 6 }, &settings(Some(4)), false);
    assert_eq!(rows[0].rounds, 4);
    assert_eq!(forced(Rounds { min: 1, max: 1 }, Some(u32::MAX)).max, ROUNDS_MAX);
}

#[test]
fn a_stopped_run_says_so_and_has_no_half_figures() {
    let diary = Diary::default();
    let scripts = vec![script("a::work", &[1.0], &diary)];
    let rows = run_with(scripts, Rounds { min: 2, max: 2 }, &settings(None), true);
    assert_eq!(rows[0].state, RowState::Skipped);
    assert!(rows[0].reason.as_ref().unwrap().contains("stopped"));
}

/// A suite of one group that cannot be built.
struct Broken;

impl Suite for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn about(&self) -> &'static str {
        "fails while it is built"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        if settings.seed == 0 {
            return Err("no seed".to_owned());
        }
        let open = || Err(Failure::machine("open the sky", "closed"));
        Ok(vec![Plan { parameters: Vec::new(), open: Box::new(open) }])
    }
}

#[test]
fn a_session_reports_on_every_suite_also_on_those_that_do_not_run() {
    let stop = AtomicBool::new(false);
    let mut turns = 0;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings { data: folder.path().to_owned(), ..settings(None) };
    let mut run = |settings: &Settings, stop: &AtomicBool| {
        let command = vec!["bench".to_owned()];
        let progress = &mut |_: &Progress| turns += 1;
        Session { settings, command, stop, progress }.run(&[&Broken])
    };
    let report = run(&settings, &stop);
    assert_eq!(report.suites[0].state, SuiteState::Run);
    assert_eq!(report.suites[0].rows[0].state, RowState::Failed);
    let reason = report.suites[0].rows[0].reason.as_deref();
    assert_eq!(reason, Some("cannot open the sky: closed"));
    assert!(!report.is_sound());
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(crate::report::schema::validate(&value), Ok(()));

    settings.seed = 0;
    let report = run(&settings, &stop);
    assert_eq!(report.suites[0].state, SuiteState::Skipped);
    assert_eq!(report.suites[0].reason.as_deref(), Some("no seed"));
    assert!(report.is_sound(), "skipped with a reason is no failure");

    settings.seed = 1;
    stop.store(true, Ordering::Relaxed);
    let report = run(&settings, &stop);
    assert_eq!(report.suites[0].state, SuiteState::Interrupted);
    assert!(!report.is_sound());
    assert_eq!(turns, 1);
}
