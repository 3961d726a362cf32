//! The knee of this machine, and what happens at it and beyond.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Loaded, METRICS, VALIDATORS};
use crate::suite::process;
use crate::suite::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Settings,
};

/// The first load on the way to the knee.
const FIRST: u32 = 40_000;
/// Each further load, in percent of the one before.
const STEP_PERCENT: u32 = 115;
/// A network finalizes what it is offered, to this share, below its knee.
const KEPT_PERCENT: f64 = 97.0;
/// Loads on the way at most: the last is forty times the first.
const STEPS_MAX: usize = 27;
/// Time that a killed validator is away, as the test network has it.
const AWAY: Duration = Duration::from_secs(10);
/// A ledger keeps this much of a transaction beside its bytes.
const KEPT_BYTES: u64 = 64;

/// The rate found last; the rows after it are measured against it.
#[derive(Clone, Default)]
pub(super) struct Knee(Arc<Mutex<Option<f64>>>);

impl Knee {
    fn set(&self, rate: f64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rate);
    }

    /// Errors: [`Failure::Skipped`], where no knee was found.
    fn get(&self) -> Result<f64, Failure> {
        let found = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.ok_or_else(|| Failure::Skipped("the knee was not found".to_owned()))
    }
}

/// Plans the search and, against what it finds, the rest.
pub(super) fn plans(settings: &Settings) -> Vec<Plan> {
    let knee = Knee::default();
    let rounds = settings.scale.pick(3, 1, 1);
    let rounds = Rounds { min: rounds, max: rounds };
    let seconds = |full, quick, smoke| Duration::from_secs(settings.scale.pick(full, quick, smoke));
    let first = settings.scale.pick(FIRST, FIRST, 200);
    let loaded = |duration| Loaded::new(settings, VALIDATORS, first, duration);
    let beyond = |what, percent, duration| Beyond {
        knee: knee.clone(),
        loaded: loaded(duration),
        percent,
        what,
    };
    let search = Search { knee: knee.clone(), loaded: loaded(seconds(20, 10, 1)) };
    let (away, long) = (seconds(40, 40, 14), seconds(600, 30, 5));
    let once = Rounds { min: 1, max: 1 };
    vec![
        plan("knee", rounds, search),
        plan("2 x knee", rounds, beyond(What::Overload, 200, seconds(20, 10, 1))),
        plan("5 x knee", rounds, beyond(What::Overload, 500, seconds(20, 10, 1))),
        plan("knee, one killed", rounds, beyond(What::Kill, 100, away)),
        plan("0.8 x knee", once, beyond(What::Long, 80, long)),
    ]
}

fn plan(load: &str, rounds: Rounds, contender: impl Contender + 'static) -> Plan {
    let parameters = vec![("validators", VALIDATORS.to_string()), ("load", load.to_owned())];
    let open = move || {
        let contenders: Vec<Box<dyn Contender>> = vec![Box::new(contender)];
        Ok(Group { rounds, contenders, skipped: Vec::new() })
    };
    Plan { parameters, open: Box::new(open) }
}

/// Looks for the knee.
struct Search {
    knee: Knee,
    loaded: Loaded,
}

impl Contender for Search {
    fn label(&self) -> Label {
        Label::new("validator::testnet")
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        process::responds(&self.loaded.validator, "testnet")
    }

    fn warm_up(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// The figures are those of the load that finalized most.
    fn round(&mut self) -> Result<Round, Failure> {
        let mut best: Option<Round> = None;
        let mut rate = self.loaded.rate;
        for _ in 0..STEPS_MAX {
            let loaded = Loaded { rate, authors: authors(rate), ..self.loaded.clone() };
            let round = loaded.figures()?.round;
            let finalized = round.values[0];
            let is_kept = finalized * 100.0 >= f64::from(rate) * KEPT_PERCENT;
            if best.as_ref().is_none_or(|best| finalized > best.values[0]) {
                let note = format!("offered {rate} a second");
                best = Some(Round { note: Some(note), ..round });
            }
            if !is_kept {
                break;
            }
            rate = rate * STEP_PERCENT / 100;
        }
        let best = best.ok_or_else(|| Failure::Machine("no load was offered".to_owned()))?;
        self.knee.set(best.values[0]);
        Ok(best)
    }
}

/// Authors of a load that may be refused: more than are under way or wait for another try.
fn authors(rate: u32) -> u32 {
    super::AUTHORS.max(rate * 2).min(4_000_000)
}

/// A rate in whole transactions a second.
#[expect(clippy::cast_possible_truncation, reason = "a rate that was measured, a few times over")]
fn rate(rate: f64) -> u32 {
    rate as u32
}

/// What is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// More than can be done.
    Overload,
    /// A validator that is killed and comes back.
    Kill,
    /// Whether anything changes with time.
    Long,
}

/// A load that is a share of the knee.
struct Beyond {
    knee: Knee,
    loaded: Loaded,
    percent: u32,
    what: What,
}

const OF_KNEE: Metric = Metric::new("of_knee", "%", Better::Higher);
const OVERLOAD: [Metric; 18] = joined(METRICS, [OF_KNEE]);
const KILL: [Metric; 21] = joined(
    METRICS,
    [
        OF_KNEE,
        Metric::new("kept_while_away", "%", Better::Higher),
        Metric::new("pause", "ms", Better::Lower),
        Metric::new("caught_up", "s", Better::Lower),
    ],
);
const LONG: [Metric; 20] = joined(
    METRICS,
    [
        OF_KNEE,
        Metric::new("rate_last_of_first_third", "%", Better::Higher),
        Metric::new("resident_last_of_first_third", "%", Better::Lower),
    ],
);

const fn joined<const A: usize, const B: usize, const C: usize>(
    first: [Metric; A],
    second: [Metric; B],
) -> [Metric; C] {
    assert!(A + B == C);
    let mut all = [first[0]; C];
    let mut place = 0;
    while place < C {
        all[place] = if place < A { first[place] } else { second[place - A] };
        place += 1;
    }
    all
}

impl Contender for Beyond {
    fn label(&self) -> Label {
        let seconds = self.loaded.duration.as_secs();
        Label::new("validator::testnet").with("duration", format!("{seconds}s"))
    }

    fn metrics(&self) -> &'static [Metric] {
        match self.what {
            What::Overload => &OVERLOAD,
            What::Kill => &KILL,
            What::Long => &LONG,
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.knee.get().map(|_| ())
    }

    fn warm_up(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let knee = self.knee.get()?;
        let mut loaded = self.loaded.clone();
        loaded.rate = rate(knee * f64::from(self.percent) / 100.0);
        loaded.authors = authors(loaded.rate);
        match self.what {
            What::Overload => {}
            What::Kill => loaded.kill = Some((loaded.duration - AWAY) / 3),
            What::Long => loaded.size = affordable(&loaded)?,
        }
        let figures = loaded.figures()?;
        let mut round = figures.round.clone();
        round.values.push(round.values[0] / knee * 100.0);
        let missing = |what: &str| Failure::Wrong(format!("the summary tells no {what}"));
        match self.what {
            What::Overload => {}
            What::Kill => {
                let kill = figures.kill.as_ref().ok_or_else(|| missing("kill"))?;
                let (from, to) = (kill.killed_us, kill.restarted_us);
                let before = figures.rate_between(0, from).filter(|rate| *rate > 0.0);
                let before = before.ok_or_else(|| missing("course before the kill"))?;
                let away = figures.rate_between(from, to).ok_or_else(|| missing("course"))?;
                round.values.extend([
                    away / before * 100.0,
                    kill.longest_pause_us as f64 / 1e3,
                    kill.caught_up_us as f64 / 1e6,
                ]);
            }
            What::Long => {
                let (rate, resident) = figures.drift().ok_or_else(|| missing("course"))?;
                round.values.extend([rate * 100.0, resident * 100.0]);
                let size = format!("transactions of {} bytes", loaded.size);
                round.note =
                    Some(round.note.map_or(size.clone(), |note| format!("{size}; {note}")));
            }
        }
        Ok(round)
    }
}

/// The size of transactions for which disk and memory suffice: as everywhere, or the least that says
/// something.
///
/// Errors: [`Failure::Skipped`], with what would be needed.
fn affordable(loaded: &Loaded) -> Result<u32, Failure> {
    let disk = rustix::fs::statvfs(&loaded.data)
        .map(|facts| facts.f_bavail * facts.f_frsize)
        .map_err(|error| Failure::machine("look at the disk", error))?;
    let memory = rustix::system::sysinfo();
    let memory = (memory.freeram as u64 + memory.bufferram as u64) * u64::from(memory.mem_unit);
    let transactions = u64::from(loaded.rate) * loaded.duration.as_secs();
    let needs = |size: u32| {
        let each = u64::from(size) + KEPT_BYTES;
        // Signed ones in memory and, told final, in the generator's list; kept by every validator.
        (transactions * (each * u64::from(loaded.validators) + 48), transactions * (each + 128))
    };
    let fits = |size: &u32| needs(*size).0 < disk / 10 * 9 && needs(*size).1 < memory / 10 * 8;
    [super::SIZE_BYTES, 176].into_iter().find(fits).ok_or_else(|| {
        let (disk, memory) = needs(176);
        let gib = |bytes: u64| bytes.div_ceil(1 << 30);
        Failure::Skipped(format!(
            "it needs {} GiB of disk and {} GiB of memory",
            gib(disk),
            gib(memory)
        ))
    })
}
