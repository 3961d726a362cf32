//! Signature checks: ours on every backend, and the libraries that others use, µs a signature.
//!
//! All rows of a group check the same signatures, of 47-byte messages as the ledger signs them where
//! nothing else is said, and give a verdict for every item: a library whose batch fails checks the
//! items of that batch one by one. With `keys=distinct` every key is new to whoever checks: decoding
//! it is part of the time, and our cache is emptied before each pass. With `keys=64` the signers are
//! known: everybody may have decoded their keys before. Times of one thread are processor time.
//!
//! The libraries follow other rules than ours (cofactorless, or pure ZIP 215); on these inputs all
//! rules agree.

mod inputs;
#[cfg(feature = "rivals")]
mod rivals;
pub(super) mod subjects;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rayon::ThreadPool;

use self::inputs::{Inputs, Keys, Shape};
use self::subjects::{Pass, Subject};
use super::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Scale, Settings, Suite,
};

/// One at a time as votes come, a vector's width, small batches, large ones.
const ITEMS: [usize; 6] = [1, 8, 64, 256, 1_024, 4_096];
/// The batch with other messages, with bad items, and over all threads.
const ITEMS_LARGE: usize = 1_024;
/// The batch that is spread over all threads: several chunks for each.
const ITEMS_PARALLEL: usize = 4_096;
/// Bytes of a message that the ledger signs: its hash fits one block.
const MESSAGE_BYTES: usize = 47;
/// Lengths of other messages.
const MESSAGES_BYTES: [usize; 3] = [32, 128, 1_024];
/// Shares of bad items in percent, for small and large batches.
const INVALID: [(usize, usize); 4] = [(64, 1), (64, 50), (ITEMS_LARGE, 1), (ITEMS_LARGE, 50)];

const METRICS: [Metric; 1] =
    [Metric { name: "time_us", unit: "us/signature", better: Better::Lower }];

/// The suite.
pub struct Sigverify;

impl Suite for Sigverify {
    fn name(&self) -> &'static str {
        "sigverify"
    }

    fn about(&self) -> &'static str {
        "Ed25519 checks alone and in batches, beside the libraries that others use"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        let smoke = settings.scale == Scale::Smoke;
        let plain = |items, keys| Shape {
            items,
            keys,
            message_bytes: MESSAGE_BYTES,
            invalid_percent: 0,
            threads: 1,
        };
        let large = plain(if smoke { 16 } else { ITEMS_LARGE }, Keys::Distinct);
        let mut shapes = Vec::new();
        let sizes = if smoke { &ITEMS[..2] } else { &ITEMS[..] };
        for keys in [Keys::Distinct, Keys::Few] {
            shapes.extend(sizes.iter().map(|items| plain(*items, keys)));
        }
        shapes.extend(MESSAGES_BYTES.map(|message_bytes| Shape { message_bytes, ..large }));
        for (items, invalid_percent) in INVALID {
            // Of each kind one small and one larger, as in a full run.
            let small = if items < ITEMS_LARGE { 8 } else { 16 };
            let items = if smoke { small } else { items };
            shapes.push(Shape { items, invalid_percent, ..large });
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).max(2);
        for keys in [Keys::Distinct, Keys::Few] {
            let items = if smoke { 16 } else { ITEMS_PARALLEL };
            shapes.push(Shape { items, keys, threads, ..large });
        }
        Ok(shapes.into_iter().map(|shape| plan(settings, shape)).collect())
    }
}

/// Plans the group of one shape.
fn plan(settings: &Settings, shape: Shape) -> Plan {
    let (scale, seed) = (settings.scale, settings.seed);
    let Shape { items, keys, message_bytes, invalid_percent, threads } = shape;
    let mut parameters = vec![
        ("items", items.to_string()),
        ("keys", keys.name().to_owned()),
        ("threads", threads.to_string()),
    ];
    if message_bytes != MESSAGE_BYTES {
        parameters.push(("message", message_bytes.to_string()));
    }
    if invalid_percent > 0 {
        parameters.push(("invalid", format!("{invalid_percent}%")));
    }
    Plan { parameters, open: Box::new(move || open(scale, seed, shape)) }
}

fn open(scale: Scale, seed: u64, shape: Shape) -> Result<Group, Failure> {
    // A pass lasts tens of milliseconds, so that neither the clock nor an interrupt shows.
    let pool = scale.pick(1_024, 256, 16).max(shape.items);
    let inputs = Rc::new(Inputs::new(seed, shape, pool));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = shape.threads;
    if threads > cores {
        let reason = format!("{threads} threads want as many processors; there is {cores}");
        let labels = subjects::labels(shape);
        let skipped = labels.into_iter().map(|label| (label, reason.clone())).collect();
        return Ok(Group { rounds: Rounds { min: 1, max: 1 }, contenders: Vec::new(), skipped });
    }
    let workers = if threads == 1 { None } else { Some(Arc::new(start(threads)?)) };
    let time_min = Duration::from_millis(scale.pick(40, 15, 0));
    let contenders = subjects::all(shape, workers.as_ref())?
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
        expect(self.subject.pass(&self.inputs)?, &self.inputs)?;
        // The first, the last, and one in the middle of a batch of their own or of a common one.
        let count = self.inputs.count();
        for place in [0, count / 2, count - 1] {
            let forged = self.inputs.with_forgery(place);
            expect(self.subject.pass(&forged)?, &forged)?;
        }
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let (mut elapsed, mut passes) = (Duration::ZERO, 0_u32);
        while passes == 0 || elapsed < self.time_min {
            elapsed += expect(self.subject.pass(&self.inputs)?, &self.inputs)?;
            passes += 1;
        }
        let count = u32::try_from(self.inputs.count()).expect("a pool of signatures is small");
        let signatures = f64::from(passes) * f64::from(count);
        Ok(Round::valid(vec![elapsed.as_secs_f64() * 1e6 / signatures]))
    }
}

/// What a pass took, if it judged every item rightly.
fn expect(pass: Pass, inputs: &Inputs) -> Result<Duration, Failure> {
    let mut places = pass.verdicts.iter().zip(&inputs.expected);
    match places.position(|(found, expected)| found != expected) {
        None => Ok(pass.elapsed),
        Some(place) if inputs.expected[place] => {
            Err(Failure::Wrong(format!("a valid signature at {place} was refused")))
        }
        Some(place) => Err(Failure::Wrong(format!("a forgery at {place} was accepted"))),
    }
}

#[cfg(test)]
mod tests;
