//! The verifier: splits what it is given into chunks and spreads them over its own threads.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::backend::{self, Backend, Engine, Job};
use crate::batch::{CHUNK_ITEMS_MAX, Chunk, Source, Way};
use crate::coefficients::Secret;
use crate::{Choice, Error, Item, Verdict, verify_one};

/// Most threads of one verifier: more than any machine of today has cores, so that a slip in a
/// config file is an error.
pub const THREADS_MAX: usize = 1_024;

/// Fewest items worth a chunk of their own when there are several threads.
///
/// 64 items cost 2.2 µs each, 256 cost 1.6 and 1,024 cost 1.3: what is cut finer is done sooner by
/// idle cores and costs busy ones more.
const CHUNK_ITEMS_MIN: usize = 128;

/// The environment variable that names a backend where a caller names none, so that any program can
/// be compared with itself.
pub const VARIABLE: &str = "ALTHING_SIGVERIFY";

/// How a [`Verifier`] is to be made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The backend's name, one of [`crate::BACKENDS`]; or `None` for the one that the environment
    /// variable [`VARIABLE`] names, and without that the fastest that this machine can run.
    pub backend: Option<String>,
    /// Threads to check with: 0 for one per core, 1 for the caller's own and no other.
    pub threads: usize,
}

/// Checks signatures in bulk, with one backend, one cache of keys and one set of threads; cheap to
/// share by `Arc`.
///
/// Verdicts are those of [`verify_one`]. Two calls at once are allowed and share the threads.
///
/// ```
/// use sigverify::{Item, Options, Verdict, Verifier};
///
/// let verifier = Verifier::new(&Options { backend: None, threads: 1 })?;
/// let (key, signature) = ([1; 32], [2; 64]);
/// let item = Item { key: &key, message: b"never signed", signature: &signature };
/// assert_eq!(verifier.verify_many(&[item, item]), [Verdict::Invalid; 2]);
/// assert_eq!(verifier.verify_all(&[item, item]), Err(0));
/// # Ok::<(), sigverify::Error>(())
/// ```
pub struct Verifier {
    engine: Engine,
    choice: Choice,
    secret: Secret,
    /// Of the calls that name none.
    source: Source,
    /// `None` when the caller's thread does the work.
    pool: Option<ThreadPool>,
    threads: usize,
}

impl Verifier {
    /// Chooses the backend, draws the secret and starts the threads.
    ///
    /// Errors: every variant of [`Error`]; nothing later can fail.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let named = options.backend.clone().map(|name| (name, "asked for by name".to_owned()));
        let (detected, choice) = backend::choose(named.or_else(named_by_environment))?;
        let threads = threads_count(options.threads)?;
        let pool = if threads == 1 { None } else { Some(start_threads(threads)?) };
        let secret = Secret::new(getrandom::fill)?;
        let source = Source::new();
        Ok(Self { engine: detected.engine(), choice, secret, source, pool, threads })
    }

    /// Checks every item and returns one verdict for each.
    ///
    /// Shape: element `i` answers `items[i]`; any number of items, none too.
    /// Errors: none; a bad signature is a verdict.
    pub fn verify_many(&self, items: &[Item<'_>]) -> Vec<Verdict> {
        let mut verdicts = vec![Verdict::Invalid; items.len()];
        self.verify_many_into(items, &mut verdicts);
        verdicts
    }

    /// Checks every item and writes one verdict for each.
    ///
    /// Shape: `verdicts[i]` answers `items[i]`; equal lengths (anything else is the caller's
    /// mistake and panics).
    /// Errors: none; a bad signature is a verdict.
    ///
    /// Price: the table of the crate's page. Whoever makes parts fail on purpose gets them at most as
    /// dear as one bulk check and one check alone for each item.
    pub fn verify_many_into(&self, items: &[Item<'_>], verdicts: &mut [Verdict]) {
        self.judge(items, verdicts, Way::Together, &self.source);
    }

    /// Checks the items of one source: bad items of other sources do not make this check dearer.
    ///
    /// Shape and errors: as with [`Verifier::verify_many_into`].
    pub fn verify_from(&self, source: &Source, items: &[Item<'_>]) -> Vec<Verdict> {
        let mut verdicts = vec![Verdict::Invalid; items.len()];
        self.judge(items, &mut verdicts, Way::Together, source);
        verdicts
    }

    /// Checks every item by an equation of its own and writes one verdict for each: no verdict leaves
    /// anything to chance, at two to four times the price.
    ///
    /// Shape and errors: as with [`Verifier::verify_many_into`].
    pub fn verify_each_into(&self, items: &[Item<'_>], verdicts: &mut [Verdict]) {
        self.judge(items, verdicts, Way::Alone, &self.source);
    }

    fn judge(&self, items: &[Item<'_>], verdicts: &mut [Verdict], way: Way, source: &Source) {
        assert_eq!(items.len(), verdicts.len(), "one verdict for each item");
        let chunk_items = chunk_items(items.len(), self.threads);
        match &self.pool {
            Some(pool) if items.len() > chunk_items => pool.install(|| {
                items
                    .par_chunks(chunk_items)
                    .zip(verdicts.par_chunks_mut(chunk_items))
                    .for_each(|(items, verdicts)| self.judge_chunk(items, verdicts, way, source));
            }),
            // A single chunk is done sooner here than after a change of thread.
            _ => {
                let verdicts = verdicts.chunks_mut(chunk_items);
                for (items, verdicts) in items.chunks(chunk_items).zip(verdicts) {
                    self.judge_chunk(items, verdicts, way, source);
                }
            }
        }
    }

    /// Says whether all items are valid; if not, the index of the first that is not.
    ///
    /// Errors: that index, after the oracle itself has confirmed it, since callers act on it (they
    /// refuse a whole batch, or name the place where a ledger is wrong).
    pub fn verify_all(&self, items: &[Item<'_>]) -> Result<(), usize> {
        let verdicts = self.verify_many(items);
        let Some(index) = verdicts.iter().position(|verdict| !verdict.is_valid()) else {
            return Ok(());
        };
        assert!(!verify_one(&items[index]).is_valid(), "a backend contradicts the oracle");
        Err(index)
    }

    /// Hashes R ‖ A ‖ M of every item with SHA-512, which modulo L is its challenge: the part of a
    /// check that any hash library could do, for comparison with them. On the caller's thread.
    ///
    /// Shape: element `i` is the digest of `items[i]`.
    pub fn challenges(&self, items: &[Item<'_>]) -> Vec<[u8; 64]> {
        self.engine.with_best(Challenges { items })
    }

    /// Forgets what earlier items taught, keys and failures: the next call finds what a new verifier
    /// would, but for threads and memory that are in use already.
    pub fn forget(&mut self) {
        self.engine.forget();
        self.source = Source::new();
    }

    /// Which backend runs, and why.
    pub fn backend(&self) -> &Choice {
        &self.choice
    }

    fn judge_chunk(&self, items: &[Item<'_>], verdicts: &mut [Verdict], way: Way, source: &Source) {
        self.engine.with_best(Chunk { items, verdicts, way, secret: &self.secret, source });
    }
}

/// The job of hashing.
struct Challenges<'a, 'b> {
    items: &'a [Item<'b>],
}

impl Job for Challenges<'_, '_> {
    type Output = Vec<[u8; 64]>;

    fn run<B: Backend>(self, backend: B, _cache: &B::Cache) -> Self::Output {
        backend.challenges(self.items)
    }
}

/// The backend that the environment names, and that it did.
fn named_by_environment() -> Option<(String, String)> {
    let name = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty() && name != "auto")?;
    Some((name, format!("asked for by {VARIABLE}")))
}

/// Turns the number asked for into the number to use.
fn threads_count(asked: usize) -> Result<usize, Error> {
    match asked {
        // A machine that does not tell how many cores it has gets one thread.
        0 => Ok(std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)),
        1..=THREADS_MAX => Ok(asked),
        _ => Err(Error::ThreadsTooMany { threads: asked }),
    }
}

fn start_threads(threads: usize) -> Result<ThreadPool, Error> {
    let built = threads_builder(threads).build();
    built.map_err(|source| refused(threads, source))
}

fn threads_builder(threads: usize) -> ThreadPoolBuilder {
    ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("sigverify-{index}"))
}

fn refused(threads: usize, source: ThreadPoolBuildError) -> Error {
    Error::ThreadsRefused { threads, source }
}

/// The length of the chunks that `items` items are cut into: equal ones, a multiple of the threads
/// in number, neither too long nor so short that bulk checks lose what threads win.
fn chunk_items(items: usize, threads: usize) -> usize {
    if threads == 1 {
        return CHUNK_ITEMS_MAX;
    }
    let rounds = items.div_ceil(threads * CHUNK_ITEMS_MAX).max(1);
    items.div_ceil(threads * rounds).clamp(CHUNK_ITEMS_MIN, CHUNK_ITEMS_MAX)
}

#[cfg(test)]
mod tests;
