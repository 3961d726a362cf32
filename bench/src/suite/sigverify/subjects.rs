//! Who checks: dalek one by one and in batches, our oracle, and our verifier on each backend.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signature, VerifyingKey};
use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use sigverify::{Item, Options, Verdict, Verifier};

use super::inputs::{Inputs, Keys, Shape};
use crate::suite::{Failure, Label};

/// Pieces for each thread where signatures are checked one by one: a thread that was held up
/// leaves some of its own to the others.
const PIECES_PER_THREAD: usize = 4;

/// One way to check signatures.
pub(super) trait Subject {
    /// Its name.
    fn label(&self) -> Label;

    /// Checks the whole pool once, call by call, and gives a verdict for every item.
    ///
    /// Errors: the machine's; what is invalid is an answer.
    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure>;
}

/// What one pass took, and what it said of each item.
pub(super) struct Pass {
    pub(super) elapsed: Duration,
    pub(super) verdicts: Vec<bool>,
}

/// The threads that a rival is given; `None` is the caller's own.
pub(super) type Workers = Option<Arc<ThreadPool>>;

/// Every subject of this build for a shape; the first is the baseline.
///
/// Errors: the machine's, when a verifier cannot be made.
pub(super) fn all(
    shape: Shape,
    workers: Option<&Arc<ThreadPool>>,
) -> Result<Vec<Box<dyn Subject>>, Failure> {
    let workers = workers.cloned();
    let mut subjects: Vec<Box<dyn Subject>> =
        vec![Box::new(DalekStrict { workers: workers.clone() })];
    if shape.items > 1 {
        subjects.push(Box::new(DalekBatch { workers: workers.clone() }));
    }
    #[cfg(feature = "rivals")]
    subjects.extend(super::rivals::all(shape, workers.as_ref())?);
    subjects.push(Box::new(Oracle { workers }));
    for backend in backends() {
        subjects.push(Box::new(Ours::new(backend, shape, Mode::Many)?));
    }
    if shape.items > 1 {
        let fastest = backends().last().copied().unwrap_or("portable");
        subjects.push(Box::new(Ours::new(fastest, shape, Mode::Each)?));
    }
    Ok(subjects)
}

/// The names of all subjects, for a machine that cannot run them.
pub(super) fn labels(shape: Shape) -> Vec<Label> {
    let alone = Shape { threads: 1, ..shape };
    all(alone, None).unwrap_or_default().iter().map(|subject| subject.label()).collect()
}

/// Our backends that this machine can run, the slowest first.
pub(in crate::suite) fn backends() -> Vec<&'static str> {
    let runs = |name: &&str| verifier(name, 1).is_ok();
    sigverify::BACKENDS.iter().copied().rev().filter(runs).collect()
}

/// `VerifyingKey::verify_strict` for each item.
struct DalekStrict {
    workers: Workers,
}

impl Subject for DalekStrict {
    fn label(&self) -> Label {
        Label::new("ed25519-dalek::verify_strict")
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        let signatures = signatures(inputs);
        let is_valid = |place: usize| is_strictly_valid(inputs, &signatures, place);
        let workers = self.workers.as_deref();
        Ok(timed(inputs, |call, verdicts| by_item(workers, call, verdicts, is_valid)))
    }
}

fn is_strictly_valid(inputs: &Inputs, signatures: &[Signature], place: usize) -> bool {
    let check =
        |key: VerifyingKey| key.verify_strict(&inputs.messages[place], &signatures[place]).is_ok();
    key(inputs, place).is_some_and(check)
}

/// `verify_batch`, one batch a thread; item by item where that fails.
struct DalekBatch {
    workers: Workers,
}

impl Subject for DalekBatch {
    fn label(&self) -> Label {
        Label::new("ed25519-dalek::verify_batch")
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        let signatures = signatures(inputs);
        let messages: Vec<&[u8]> = inputs.messages.iter().map(|message| &message[..]).collect();
        let hold = |piece: Range<usize>| {
            let (messages, signatures) = (&messages[piece.clone()], &signatures[piece.clone()]);
            let check = |keys: &[VerifyingKey]| {
                ed25519_dalek::verify_batch(messages, signatures, keys).is_ok()
            };
            match &inputs.decoded {
                Some(decoded) => check(&decoded[piece]),
                None => piece
                    .map(|place| key(inputs, place))
                    .collect::<Option<Vec<_>>>()
                    .is_some_and(|keys| check(&keys)),
            }
        };
        let is_valid = |place: usize| is_strictly_valid(inputs, &signatures, place);
        let workers = self.workers.as_deref();
        Ok(timed(inputs, |call, verdicts| by_batch(workers, call, verdicts, hold, is_valid)))
    }
}

/// The scalar statement of our rule.
struct Oracle {
    workers: Workers,
}

impl Subject for Oracle {
    fn label(&self) -> Label {
        Label::new("sigverify::verify_one")
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        let items = items(inputs);
        let is_valid = |place: usize| sigverify::verify_one(&items[place]).is_valid();
        let workers = self.workers.as_deref();
        Ok(timed(inputs, |call, verdicts| by_item(workers, call, verdicts, is_valid)))
    }
}

/// Which of our calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// `verify_many`: together where that pays.
    Many,
    /// `verify_each`: every item by its own equation.
    Each,
}

/// Our verifier, with the threads that it starts itself.
struct Ours {
    backend: &'static str,
    shape: Shape,
    mode: Mode,
    verifier: Verifier,
}

impl Ours {
    fn new(backend: &'static str, shape: Shape, mode: Mode) -> Result<Self, Failure> {
        Ok(Self { backend, shape, mode, verifier: verifier(backend, shape.threads)? })
    }
}

impl Subject for Ours {
    fn label(&self) -> Label {
        let operation = match self.mode {
            Mode::Many => "sigverify::verify_many",
            Mode::Each => "sigverify::verify_each",
        };
        Label::new(operation).with("backend", self.backend)
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        if self.shape.keys == Keys::Distinct {
            // As if no key had been seen; that is not what is measured.
            self.verifier.forget();
        }
        let items = items(inputs);
        let mut found = vec![Verdict::Invalid; self.shape.items];
        Ok(timed(inputs, |call, verdicts| {
            match self.mode {
                Mode::Many => self.verifier.verify_many_into(&items[call], &mut found),
                Mode::Each => self.verifier.verify_each_into(&items[call], &mut found),
            }
            for (verdict, found) in verdicts.iter_mut().zip(&found) {
                *verdict = found.is_valid();
            }
        }))
    }
}

/// A verifier with this backend.
///
/// Errors: the machine's.
pub(in crate::suite) fn verifier(backend: &str, threads: usize) -> Result<Verifier, Failure> {
    let options = Options { backend: Some(backend.to_owned()), threads };
    Verifier::new(&options).map_err(|error| Failure::machine("make a verifier", error))
}

/// Times one call after the other; `call` writes the verdicts of a range.
///
/// What one thread does is timed by what the processor worked for it: others on the machine do not
/// show.
pub(super) fn timed(inputs: &Inputs, mut call: impl FnMut(Range<usize>, &mut [bool])) -> Pass {
    let items = inputs.shape.items;
    let mut verdicts = vec![false; inputs.count()];
    let began = (Instant::now(), cpu_time());
    for (number, verdicts) in verdicts.chunks_mut(items).enumerate() {
        let start = number * items;
        call(black_box(start..start + items), verdicts);
    }
    let elapsed = match inputs.shape.threads {
        1 => cpu_time() - began.1,
        _ => began.0.elapsed(),
    };
    Pass { elapsed, verdicts: black_box(verdicts) }
}

/// What the processor has worked for this thread.
pub(in crate::suite) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("time runs forward")
}

/// Judges a range item by item, spread over the workers.
pub(super) fn by_item(
    workers: Option<&ThreadPool>,
    range: Range<usize>,
    verdicts: &mut [bool],
    is_valid: impl Fn(usize) -> bool + Sync,
) {
    let judge = |(offset, verdicts): (usize, &mut [bool])| {
        for (place, verdict) in (range.start + offset..).zip(verdicts) {
            *verdict = is_valid(place);
        }
    };
    spread(workers, PIECES_PER_THREAD, verdicts, judge);
}

/// Judges a range by one batch a thread; where a batch fails, item by item.
pub(super) fn by_batch(
    workers: Option<&ThreadPool>,
    range: Range<usize>,
    verdicts: &mut [bool],
    hold: impl Fn(Range<usize>) -> bool + Sync,
    is_valid: impl Fn(usize) -> bool + Sync,
) {
    let judge = |(offset, verdicts): (usize, &mut [bool])| {
        let start = range.start + offset;
        if hold(start..start + verdicts.len()) {
            verdicts.fill(true);
        } else {
            for (place, verdict) in (start..).zip(verdicts) {
                *verdict = is_valid(place);
            }
        }
    };
    spread(workers, 1, verdicts, judge);
}

/// Gives pieces of the verdicts, each with its offset, to the workers.
fn spread(
    workers: Option<&ThreadPool>,
    pieces_per_thread: usize,
    verdicts: &mut [bool],
    judge: impl Fn((usize, &mut [bool])) + Sync,
) {
    let Some(workers) = workers else {
        return judge((0, verdicts));
    };
    let pieces = workers.current_num_threads() * pieces_per_thread;
    let length = verdicts.len().div_ceil(pieces).max(1);
    workers.install(|| {
        let pieces = verdicts.par_chunks_mut(length).enumerate();
        pieces.for_each(|(number, verdicts)| judge((number * length, verdicts)));
    });
}

fn items(inputs: &Inputs) -> Vec<Item<'_>> {
    let parts = inputs.keys.iter().zip(&inputs.messages).zip(&inputs.signatures);
    parts.map(|((key, message), signature)| Item { key, message, signature }).collect()
}

fn signatures(inputs: &Inputs) -> Vec<Signature> {
    inputs.signatures.iter().map(Signature::from_bytes).collect()
}

/// A key as dalek wants it: decoded now, unless it was known before.
fn key(inputs: &Inputs, place: usize) -> Option<VerifyingKey> {
    match &inputs.decoded {
        Some(decoded) => Some(decoded[place]),
        None => VerifyingKey::from_bytes(&inputs.keys[place]).ok(),
    }
}
