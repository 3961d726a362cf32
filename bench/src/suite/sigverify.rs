//! Signature checks: ours on every backend, and the libraries that others use, µs a signature.
//!
//! All rows of a group check the same signatures of 47-byte messages. With `keys=distinct` every
//! key is new to whoever checks: decoding it is part of the time, and our cache is emptied before
//! each pass. With `keys=64` the signers are known: everybody may have decoded their keys before.
//!
//! The libraries follow other rules than ours (cofactorless, or pure ZIP 215); on these inputs all
//! rules agree.

mod inputs;
#[cfg(feature = "rivals")]
mod rivals;
mod subjects;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rayon::ThreadPool;

use self::inputs::{Inputs, Keys};
use self::subjects::Subject;
use super::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Scale, Settings, Suite,
};

/// One at a time as votes come, a vector's width, a small batch, a large one.
const ITEMS: [usize; 4] = [1, 8, 64, 1_024];
/// The batch that is also spread over all threads.
const ITEMS_PARALLEL: usize = 1_024;

const METRICS: [Metric; 1] =
    [Metric { name: "time_us", unit: "us/signature", better: Better::Lower }];

/// The suite.
pub struct Sigverify;

impl Suite for Sigverify {
    fn name(&self) -> &'static str {
        "sigverify"
    }

    fn about(&self) -> &'static str {
        "Ed25519 checks alone and in batches, beside ed25519-dalek (and commonware with `rivals`)"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        let scale = settings.scale;
        let mut plans = Vec::new();
        let sizes = if scale == Scale::Smoke { &ITEMS[..2] } else { &ITEMS[..] };
        for keys in [Keys::Distinct, Keys::Few] {
            for items in sizes {
                plans.push(plan(settings, keys, *items, 1));
            }
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let items = if scale == Scale::Smoke { 16 } else { ITEMS_PARALLEL };
        for keys in [Keys::Distinct, Keys::Few] {
            plans.push(plan(settings, keys, items, threads.max(2)));
        }
        Ok(plans)
    }
}

/// Plans the group for one kind of keys, batch size and number of threads.
fn plan(settings: &Settings, keys: Keys, items: usize, threads: usize) -> Plan {
    let (scale, seed) = (settings.scale, settings.seed);
    let parameters = vec![
        ("items", items.to_string()),
        ("keys", keys.name().to_owned()),
        ("threads", threads.to_string()),
    ];
    Plan { parameters, open: Box::new(move || open(scale, seed, keys, items, threads)) }
}

fn open(
    scale: Scale,
    seed: u64,
    keys: Keys,
    items: usize,
    threads: usize,
) -> Result<Group, Failure> {
    // A pass lasts tens of milliseconds, so that neither the clock nor an interrupt shows.
    let pool = scale.pick(1_024, 256, 16).max(items);
    let inputs = Rc::new(Inputs::new(seed, keys, pool, items));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if threads > cores {
        let reason = format!("{threads} threads want as many processors; there is {cores}");
        let labels = subjects::labels(keys);
        let skipped = labels.into_iter().map(|label| (label, reason.clone())).collect();
        return Ok(Group { rounds: Rounds { min: 1, max: 1 }, contenders: Vec::new(), skipped });
    }
    let workers = if threads == 1 { None } else { Some(Arc::new(start(threads)?)) };
    let time_min = Duration::from_millis(scale.pick(50, 15, 0));
    let contenders = subjects::all(keys, threads, workers.as_ref())?
        .into_iter()
        .map(|subject| {
            let inputs = Rc::clone(&inputs);
            Box::new(Checker { subject, inputs, time_min }) as Box<dyn Contender>
        })
        .collect();
    let rounds = scale.pick(
        Rounds { min: 11, max: 22 },
        Rounds { min: 6, max: 9 },
        Rounds { min: 2, max: 2 },
    );
    Ok(Group { rounds, contenders, skipped: Vec::new() })
}

fn start(threads: usize) -> Result<ThreadPool, Failure> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Failure::machine(format!("start {threads} threads"), error))
}

/// A subject over the group's inputs.
struct Checker {
    subject: Box<dyn Subject>,
    inputs: Rc<Inputs>,
    /// A round makes passes until they have taken as long as this.
    time_min: Duration,
}

impl Contender for Checker {
    fn label(&self) -> Label {
        self.subject.label()
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        let found = self.subject.pass(&self.inputs)?.valid;
        if found.contains(&false) {
            return Err(Failure::Wrong("a valid signature was refused".to_owned()));
        }
        // The first, the last, and one in the middle of a batch of their own or of a common one.
        let count = self.inputs.count();
        for place in [0, count / 2, count - 1] {
            let found = self.subject.pass(&self.inputs.with_forgery(place))?.valid;
            let expected: Vec<bool> =
                (0..found.len()).map(|call| call != place / self.inputs.items_per_call).collect();
            if found != expected {
                return Err(Failure::Wrong(format!("a forgery at {place} was judged wrongly")));
            }
        }
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let (mut elapsed, mut passes) = (Duration::ZERO, 0_u32);
        while passes == 0 || elapsed < self.time_min {
            let pass = self.subject.pass(&self.inputs)?;
            if pass.valid.contains(&false) {
                return Err(Failure::Wrong("a valid signature was refused".to_owned()));
            }
            elapsed += pass.elapsed;
            passes += 1;
        }
        let count = u32::try_from(self.inputs.count()).expect("a pool of signatures is small");
        let signatures = f64::from(passes) * f64::from(count);
        Ok(Round::valid(vec![elapsed.as_secs_f64() * 1e6 / signatures]))
    }
}

#[cfg(test)]
mod tests;
