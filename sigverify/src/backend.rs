//! THE gate: what a backend must do, which ones can run here, and the one choice at start.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use crate::batch::Prices;
use crate::coefficients::Coefficients;
use crate::{Error, Item, Verdict};

/// The arithmetic of the rule on one chunk of items, for one set of CPU features.
///
/// A value of the type is a token: only its own `detect` makes one, so holding it proves that the
/// CPU has the features. What a backend finds is fixed by the oracle; the split policy and the
/// order of steps are the batch's.
pub(crate) trait Backend: Copy + Send + Sync {
    /// The items of a chunk that passed the byte checks, decoded, in the order of the chunk.
    type Decoded;
    /// What it remembers of keys from one chunk to the next.
    type Cache: Send + Sync;

    /// What its ways to a verdict cost.
    const PRICES: Prices;
    /// So few items are judged by the oracle itself: lanes that are left over would cost more.
    const ORACLE_ITEMS_MAX: usize;

    /// Makes an empty cache, at its full size.
    fn new_cache(self) -> Self::Cache;

    /// Hashes `R ‖ A ‖ M` of every item with SHA-512: digest `n` is that of `items[n]`.
    fn challenges(self, items: &[Item<'_>]) -> Vec<[u8; 64]>;

    /// Decodes and hashes every item; writes the indexes of those that are admitted, ascending, to
    /// `admitted`.
    ///
    /// Shape: entry `n` of the result belongs to `items[admitted[n]]`; `admitted` arrives empty.
    /// What is not admitted is invalid by the rule's first three points.
    fn decode(
        self,
        items: &[Item<'_>],
        cache: &Self::Cache,
        admitted: &mut Vec<usize>,
    ) -> Self::Decoded;

    /// Says whether one random linear combination of the entries in `range` is the identity after
    /// times 8.
    ///
    /// True for certain when all are valid; true with a probability of at most 2^-128 when one is
    /// not.
    fn hold_together(
        self,
        decoded: &Self::Decoded,
        range: Range<usize>,
        coefficients: &mut Coefficients,
    ) -> bool;

    /// Judges each entry in `range` by itself: `verdicts[n]` answers entry `range.start + n`.
    fn hold_alone(
        self,
        decoded: &Self::Decoded,
        range: Range<usize>,
        cache: &Self::Cache,
        verdicts: &mut [Verdict],
    );

    /// Puts the keys of valid entries into the cache; `verdicts[n]` answers entry `n`.
    fn remember(self, decoded: &Self::Decoded, verdicts: &[Verdict], cache: &Self::Cache);
}

/// Work that is written once for all backends and compiled for each.
pub(crate) trait Job {
    /// What the work gives back.
    type Output;

    /// Does all of it with one backend and its cache.
    fn run<B: Backend>(self, backend: B, cache: &B::Cache) -> Self::Output;
}

/// A backend that this machine can run: one token of any kind.
#[derive(Clone, Copy)]
pub(crate) enum Detected {
    /// Eight lanes of AVX-512 with IFMA.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Backend),
    /// Eight lanes in pairs of AVX2's four.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Backend),
    /// curve25519-dalek, everywhere.
    Portable(portable::Backend),
}

impl Detected {
    /// The token with a cache of its own.
    pub(crate) fn engine(self) -> Engine {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(backend) => Engine::Avx512(backend, backend.new_cache()),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(backend) => Engine::Avx2(backend, backend.new_cache()),
            Self::Portable(backend) => Engine::Portable(backend, backend.new_cache()),
        }
    }
}

/// The chosen backend and its cache.
pub(crate) enum Engine {
    /// Of [`Detected::Avx512`].
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Backend, <avx512::Backend as Backend>::Cache),
    /// Of [`Detected::Avx2`].
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Backend, <avx2::Backend as Backend>::Cache),
    /// Of [`Detected::Portable`].
    Portable(portable::Backend, <portable::Backend as Backend>::Cache),
}

impl Engine {
    /// Empties the cache.
    pub(crate) fn forget(&mut self) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(backend, cache) => *cache = backend.new_cache(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(backend, cache) => *cache = backend.new_cache(),
            Self::Portable(backend, cache) => *cache = backend.new_cache(),
        }
    }

    /// Runs a whole job with the chosen backend; the one place where code for other CPU features is
    /// entered.
    pub(crate) fn with_best<J: Job>(&self, job: J) -> J::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(backend, cache) => job.run(*backend, cache),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(backend, cache) => job.run(*backend, cache),
            Self::Portable(backend, cache) => job.run(*backend, cache),
        }
    }
}

/// A backend of this build, whether or not this machine can run it.
struct Candidate {
    name: &'static str,
    /// The token, or what the machine lacks.
    detect: fn() -> Result<Detected, &'static str>,
}

/// All backends of this build, the fastest first. The last one runs everywhere.
const CANDIDATES: &[Candidate] = &[
    #[cfg(target_arch = "x86_64")]
    Candidate {
        name: "avx512",
        detect: || {
            let token = avx512::Backend::detect().map(Detected::Avx512);
            token.ok_or("the CPU lacks AVX-512 IFMA")
        },
    },
    #[cfg(target_arch = "x86_64")]
    Candidate {
        name: "avx2",
        detect: || avx2::Backend::detect().map(Detected::Avx2).ok_or("the CPU lacks AVX2"),
    },
    Candidate { name: "portable", detect: || Ok(Detected::Portable(portable::Backend::detect())) },
];

/// The names of all backends of this build, the fastest first.
pub const BACKENDS: &[&str] = &{
    let mut names = [""; CANDIDATES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = CANDIDATES[index].name;
        index += 1;
    }
    names
};

/// Which backend runs and why: a line for the log at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The backend's name, as it can be asked for.
    pub name: &'static str,
    /// Why this one: asked for, or what the faster ones lack here.
    pub reason: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.reason)
    }
}

/// Chooses the backend that was asked for, by name and why, otherwise the fastest that this machine
/// can run.
///
/// Errors: [`Error::BackendUnknown`], [`Error::BackendUnavailable`]; both only for a name that was
/// asked for.
pub(crate) fn choose(asked: Option<(String, String)>) -> Result<(Detected, Choice), Error> {
    choose_from(CANDIDATES, asked)
}

/// [`choose`] over any list whose last entry runs everywhere.
fn choose_from(
    candidates: &[Candidate],
    asked: Option<(String, String)>,
) -> Result<(Detected, Choice), Error> {
    match asked {
        Some((name, reason)) => choose_asked(candidates, name, reason),
        None => Ok(choose_fastest(candidates)),
    }
}

fn choose_asked(
    candidates: &[Candidate],
    name: String,
    reason: String,
) -> Result<(Detected, Choice), Error> {
    let Some(candidate) = candidates.iter().find(|candidate| candidate.name == name) else {
        let known: Vec<_> = candidates.iter().map(|candidate| candidate.name).collect();
        return Err(Error::BackendUnknown { name, known: known.join(", ") });
    };
    match (candidate.detect)() {
        Ok(detected) => Ok((detected, Choice { name: candidate.name, reason })),
        Err(lack) => Err(Error::BackendUnavailable { name, reason: lack.to_owned() }),
    }
}

fn choose_fastest(candidates: &[Candidate]) -> (Detected, Choice) {
    let mut lacks = Vec::new();
    for candidate in candidates {
        match (candidate.detect)() {
            Ok(detected) => {
                let reason = if !lacks.is_empty() {
                    lacks.join("; ")
                } else if candidates.len() == 1 {
                    "the only backend of this build".to_owned()
                } else {
                    "the fastest of this build".to_owned()
                };
                return (detected, Choice { name: candidate.name, reason });
            }
            Err(lack) => lacks.push(format!("no {}: {lack}", candidate.name)),
        }
    }
    unreachable!("the last backend runs everywhere");
}
