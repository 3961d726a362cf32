//! Who checks: dalek one by one and in batches, our oracle, and our verifier on each backend.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signature, VerifyingKey};
use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use sigverify::{Item, Options, Verdict, Verifier};

use super::inputs::{Inputs, Keys};
use crate::suite::{Failure, Label};

/// Pieces for each thread where signatures are checked one by one: a thread that was held up
/// leaves some of its own to the others.
const PIECES_PER_THREAD: usize = 4;

/// One way to check signatures.
pub(super) trait Subject {
    /// Its name.
    fn label(&self) -> Label;

    /// Checks the whole pool once, call by call.
    ///
    /// Errors: the machine's; what is invalid is an answer.
    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure>;
}

/// What one pass took, and whether each call found all of its items valid.
pub(super) struct Pass {
    pub(super) elapsed: Duration,
    pub(super) valid: Vec<bool>,
}

/// The threads that a rival is given; `None` is the caller's own.
pub(super) type Workers = Option<Arc<ThreadPool>>;

/// Every subject of this build; the first is the baseline.
///
/// Errors: the machine's, when a verifier cannot be made.
pub(super) fn all(
    keys: Keys,
    threads: usize,
    workers: Option<&Arc<ThreadPool>>,
) -> Result<Vec<Box<dyn Subject>>, Failure> {
    let workers = workers.cloned();
    let mut subjects: Vec<Box<dyn Subject>> = vec![
        Box::new(DalekStrict { workers: workers.clone() }),
        Box::new(DalekBatch { workers: workers.clone() }),
    ];
    #[cfg(feature = "rivals")]
    {
        let commonware = super::rivals::Commonware::new(threads, workers.clone())?;
        subjects.push(Box::new(commonware));
    }
    subjects.push(Box::new(Oracle { workers }));
    for backend in backends() {
        subjects.push(Box::new(Ours::new(backend, keys, threads)?));
    }
    Ok(subjects)
}

/// The names of all subjects, for a machine that cannot run them.
pub(super) fn labels(keys: Keys) -> Vec<Label> {
    all(keys, 1, None).unwrap_or_default().iter().map(|subject| subject.label()).collect()
}

/// Our backends that this machine can run: the portable one, and the fastest where it is another.
fn backends() -> Vec<&'static str> {
    let fastest = Verifier::new(&Options { backend: None, threads: 1 })
        .map_or("portable", |verifier| verifier.backend().name);
    let mut names = vec!["portable"];
    if fastest != "portable" {
        names.push(fastest);
    }
    names
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
        let is_valid = |place: usize| {
            key(inputs, place).is_some_and(|key| {
                key.verify_strict(&inputs.messages[place], &signatures[place]).is_ok()
            })
        };
        let workers = self.workers.as_deref();
        Ok(timed(inputs, |call| {
            spread(workers, PIECES_PER_THREAD, call, |mut piece| piece.all(is_valid))
        }))
    }
}

/// `verify_batch`, one batch a thread.
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
        let workers = self.workers.as_deref();
        Ok(timed(inputs, |call| spread(workers, 1, call, hold)))
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
        Ok(timed(inputs, |call| {
            spread(workers, PIECES_PER_THREAD, call, |mut piece| piece.all(is_valid))
        }))
    }
}

/// Our verifier, with the threads that it starts itself.
struct Ours {
    backend: &'static str,
    threads: usize,
    keys: Keys,
    verifier: Verifier,
}

impl Ours {
    fn new(backend: &'static str, keys: Keys, threads: usize) -> Result<Self, Failure> {
        Ok(Self { backend, threads, keys, verifier: verifier(backend, threads)? })
    }
}

impl Subject for Ours {
    fn label(&self) -> Label {
        Label::new("sigverify::verify_many").with("backend", self.backend)
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        if self.keys == Keys::Distinct {
            // A verifier that has seen no key; making it is not what is measured.
            self.verifier = verifier(self.backend, self.threads)?;
        }
        let items = items(inputs);
        let mut verdicts = vec![Verdict::Invalid; inputs.items_per_call];
        Ok(timed(inputs, |call| {
            self.verifier.verify_many_into(&items[call], &mut verdicts);
            verdicts.iter().all(|verdict| verdict.is_valid())
        }))
    }
}

fn verifier(backend: &str, threads: usize) -> Result<Verifier, Failure> {
    let options = Options { backend: Some(backend.to_owned()), threads };
    Verifier::new(&options).map_err(|error| Failure::machine("make a verifier", error))
}

/// Times one call after the other; `call` says whether all items of a range are valid.
pub(super) fn timed(inputs: &Inputs, mut call: impl FnMut(Range<usize>) -> bool) -> Pass {
    let items = inputs.items_per_call;
    let mut valid = Vec::with_capacity(inputs.count() / items);
    let began = Instant::now();
    for start in (0..inputs.count()).step_by(items) {
        valid.push(black_box(call(black_box(start..start + items))));
    }
    Pass { elapsed: began.elapsed(), valid }
}

/// Whether a job holds for all pieces of a range, spread over the workers.
fn spread(
    workers: Option<&ThreadPool>,
    pieces_per_thread: usize,
    range: Range<usize>,
    job: impl Fn(Range<usize>) -> bool + Sync,
) -> bool {
    let Some(workers) = workers else {
        return job(range);
    };
    let pieces = workers.current_num_threads() * pieces_per_thread;
    let length = range.len().div_ceil(pieces).max(1);
    workers.install(|| {
        (0..range.len().div_ceil(length))
            .into_par_iter()
            .map(|piece| {
                let start = range.start + piece * length;
                job(start..range.end.min(start + length))
            })
            // Not `all`, which stops the others: every piece is worked on, as in a real batch.
            .reduce(|| true, |left, right| left & right)
    })
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
