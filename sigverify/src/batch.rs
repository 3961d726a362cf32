//! One chunk of items: checked together in parts of the size that pays, bad parts item by item.

mod policy;

use std::ops::Range;

use crate::backend::{Backend, Job};
use crate::coefficients::{Coefficients, Secret};
use crate::{Item, Verdict, verify_one};

pub use policy::Source;
pub(crate) use policy::{Price, Prices};

/// Most items of one bulk check.
///
/// Measured, µs an item: 1.33 for 1,024 and 1.28 for 4,096 cut into four. Larger parts gain little, and
/// one bad item triples the price of its part.
pub const CHUNK_ITEMS_MAX: usize = 1_024;

/// How a chunk is to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Together in parts, where that pays.
    Together,
    /// Each item by its own equation.
    Alone,
}

/// The job of judging one chunk: `verdicts[i]` answers `items[i]`.
pub(crate) struct Chunk<'a, 'b> {
    /// At most [`CHUNK_ITEMS_MAX`] items.
    pub(crate) items: &'a [Item<'b>],
    /// As many verdicts.
    pub(crate) verdicts: &'a mut [Verdict],
    /// How.
    pub(crate) way: Way,
    /// Where coefficients come from.
    pub(crate) secret: &'a Secret,
    /// Where the items come from.
    pub(crate) source: &'a Source,
}

impl Job for Chunk<'_, '_> {
    type Output = ();

    fn run<B: Backend>(self, backend: B, cache: &B::Cache) {
        let Chunk { items, verdicts, way, secret, source } = self;
        assert_eq!(items.len(), verdicts.len());
        assert!(items.len() <= CHUNK_ITEMS_MAX);
        if items.len() <= B::ORACLE_ITEMS_MAX {
            for (item, verdict) in items.iter().zip(verdicts) {
                *verdict = verify_one(item);
            }
            return;
        }
        let mut admitted = Vec::with_capacity(items.len());
        let decoded = backend.decode(items, cache, &mut admitted);
        let mut answers = vec![Verdict::Invalid; admitted.len()];
        let size = match way {
            Way::Together => source.size(&B::PRICES, answers.len()),
            Way::Alone => None,
        };
        match size {
            None => backend.hold_alone(&decoded, 0..answers.len(), cache, &mut answers),
            Some(size) => {
                // Only now, when nobody can change what was decoded and hashed, is the stream of
                // coefficients opened.
                let mut coefficients = secret.coefficients();
                for range in parts(answers.len(), size) {
                    let answers = &mut answers[range.clone()];
                    judge(backend, &decoded, range, cache, &mut coefficients, answers);
                }
            }
        }
        source.count(&answers);
        backend.remember(&decoded, &answers, cache);
        verdicts.fill(Verdict::Invalid);
        for (index, answer) in admitted.into_iter().zip(answers) {
            verdicts[index] = answer;
        }
    }
}

/// Cuts `count` entries into equal parts of about `size`.
fn parts(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let number = count.div_ceil(size);
    (0..number).map(move |part| count * part / number..count * (part + 1) / number)
}

/// Judges a part: together if that holds, otherwise each entry alone.
fn judge<B: Backend>(
    backend: B,
    decoded: &B::Decoded,
    range: Range<usize>,
    cache: &B::Cache,
    coefficients: &mut Coefficients,
    answers: &mut [Verdict],
) {
    if backend.hold_together(decoded, range.clone(), coefficients) {
        answers.fill(Verdict::Valid);
    } else {
        // No bisection: what a failed part costs is known, whatever is wrong in there, and the next
        // parts are smaller.
        backend.hold_alone(decoded, range, cache, answers);
        // Equations that hold one by one add up to one that holds: only broken arithmetic gets here
        // otherwise.
        assert!(answers.contains(&Verdict::Invalid), "a part that fails has an invalid item");
    }
}

#[cfg(test)]
mod tests;
