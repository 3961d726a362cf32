//! Authors of the load: keys from a seed, so that a genesis can fund them, and places in their chains.

use crate::key::Secret;
use ledger::Digest;
use std::thread;

/// Separates the authors' keys from every other use of the hash.
const KEY_CONTEXT: &str = "althing 2026 load author key v1";
/// Fewer keys than this are made before another thread has started.
const PARALLEL_MIN: u32 = 256;

/// Returns the key of an author of the load.
pub fn secret(seed: u64, index: u32) -> Secret {
    let mut material = [0; 12];
    material[..8].copy_from_slice(&seed.to_le_bytes());
    material[8..].copy_from_slice(&index.to_le_bytes());
    Secret::from_seed(&blake3::derive_key(KEY_CONTEXT, &material))
}

/// Makes the keys of the first `count` authors, on all cores: a million take one core half a minute.
pub fn secrets(seed: u64, count: u32) -> Vec<Secret> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cores = if count < PARALLEL_MIN { 1 } else { u32::try_from(cores).unwrap_or(1) };
    let piece = count.div_ceil(cores).max(1);
    let make = |first: u32| -> Vec<Secret> {
        let end = first.saturating_add(piece).min(count);
        (first..end).map(|index| secret(seed, index)).collect()
    };
    let starts = (0..cores).map(|core| core.saturating_mul(piece)).filter(|first| *first < count);
    thread::scope(|scope| {
        let threads: Vec<_> = starts.map(|first| scope.spawn(move || make(first))).collect();
        let made = threads.into_iter().map(|thread| thread.join().expect("no key panics"));
        made.flatten().collect()
    })
}

/// The place that an author's next transaction takes in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its sequence.
    pub sequence: u64,
    /// The id of the one before; zero for the first.
    pub previous: Digest,
}

impl Link {
    /// The first place.
    pub const FIRST: Self = Self { sequence: 0, previous: Digest::ZERO };

    /// The place after the transaction `id` at this one.
    pub fn after(self, id: Digest) -> Self {
        let sequence = self.sequence.checked_add(1).expect("no author signs 2^64 transactions");
        Self { sequence, previous: id }
    }
}

/// An author's next transaction: its place in the chain, and how many with a wrong signature were offered
/// for that place before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The place.
    pub link: Link,
    /// Those before it.
    pub attempt: u64,
}

impl Turn {
    /// The first of all.
    pub const FIRST: Self = Self::at(Link::FIRST);

    /// The first at a place.
    pub const fn at(link: Link) -> Self {
        Self { link, attempt: 0 }
    }

    /// The one after the transaction `id`, which took the place.
    pub fn after(self, id: Digest) -> Self {
        Self::at(self.link.after(id))
    }

    /// The one after a transaction that is never taken.
    pub fn again(self) -> Self {
        let attempt = self.attempt.checked_add(1).expect("no author signs 2^64 transactions");
        Self { attempt, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::PublicKey;
    use std::collections::BTreeSet;

    #[test]
    fn authors_differ_by_seed_and_place_and_come_back() {
        let keys: BTreeSet<PublicKey> = [(1, 0), (1, 1), (2, 0), (2, 1)]
            .map(|(seed, index)| secret(seed, index).public())
            .into();
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn keys_that_are_made_on_several_cores_stand_in_order() {
        for count in [0, 1, 2, PARALLEL_MIN + 3] {
            let all = secrets(1, count);
            assert_eq!(all.len(), usize::try_from(count).unwrap());
            for (index, made) in (0..count).zip(&all) {
                assert_eq!(made.public(), secret(1, index).public());
            }
        }
    }
}
