//! Many items from seeds, through every backend and mode, against the oracle: valid, mutated, of
//! mixed order, junk; in batches of all small sizes and of some large ones.
//!
//! `ALTHING_ITEMS=100000000 cargo test --release -p sigverify differential -- --nocapture` runs as
//! many as it says; `ALTHING_SEED` starts elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rand_core::{Rng, SeedableRng};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::hostile::{mixed, signed};
use super::vectors::{Vector, published};
use crate::backend::CANDIDATES;
use crate::{Options, Verdict, Verifier, verify_one};

/// Items when nothing else is said.
const ITEMS: u64 = 1_000_000;
/// Items made for a round; each is used several times, among others.
const POOL: usize = 512;
/// Items of a round.
const ROUND: u64 = 8 * POOL as u64;
/// Largest of the small batches; all sizes up to it come.
const SMALL_MAX: usize = 70;

/// Everything that is random in a round.
struct Source(chacha20::ChaCha8Rng);

impl Source {
    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap();
        usize::try_from(self.0.next_u64() % limit).unwrap()
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

/// An item with its verdict: half of them as they were signed, the rest changed.
fn make(source: &mut Source, published: &[Vector]) -> Vector {
    let number = source.below(1 << 40);
    let length = [47, 32, 128, source.below(300), source.below(1_500)][source.below(5)];
    let mut vector = match source.below(8) {
        0 => published[source.below(published.len())].clone(),
        1 | 2 => {
            let error = u64::from(source.below(4) == 0);
            mixed(source.0.next_u64() >> 1, source.below(8), source.below(8), error)
        }
        // Some keys come often.
        _ if source.below(3) == 0 => signed(number % 50, vec![3; length]),
        _ => signed(number, source.bytes::<1_500>()[..length].to_vec()),
    };
    if source.below(2) == 0 {
        return vector;
    }
    change(source, &mut vector);
    vector.expected = verify_one(&vector.item());
    vector
}

/// Changes one thing in an item.
fn change(source: &mut Source, vector: &mut Vector) {
    let bit = 1 << source.below(8);
    let Vector { key, message, signature, .. } = vector;
    match source.below(12) {
        0 | 1 => key[source.below(32)] ^= bit,
        2 | 3 => signature[source.below(32)] ^= bit,
        4 | 5 => signature[32 + source.below(32)] ^= bit,
        6 => match message.len() {
            0 => message.push(0),
            length => message[source.below(length)] ^= bit,
        },
        // The sign bits.
        7 if source.below(2) == 0 => key[31] ^= 0x80,
        7 => signature[31] ^= 0x80,
        // S plus the group order.
        8 => {
            let order: [u8; 32] =
                hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
                    .unwrap()
                    .try_into()
                    .unwrap();
            let mut carry = 0;
            for (byte, add) in signature[32..].iter_mut().zip(order) {
                let sum = u16::from(*byte) + u16::from(add) + carry;
                *byte = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
        }
        // Encodings at and above the prime, and near zero.
        9 => {
            let place = if source.below(2) == 0 {
                key
            } else {
                signature.first_chunk_mut().expect("a signature starts with R")
            };
            *place = [[0xff; 32], [0; 32]][source.below(2)];
            place[0] = source.bytes::<1>()[0];
            place[31] = [0x7f, 0xff, 0, 0x80][source.below(4)];
        }
        10 => *key = source.bytes(),
        _ => *signature = source.bytes(),
    }
}

/// One way to a verdict.
struct Way {
    verifier: Verifier,
    each: bool,
    /// It is asked in one of so many rounds.
    one_in: u64,
}

fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for candidate in CANDIDATES {
        match (candidate.detect)() {
            Ok(_) => ways.extend([false, true].map(|each| {
                let backend = Some(candidate.name.to_owned());
                let verifier = Verifier::new(&Options { backend, threads: 1 }).unwrap();
                // The slower ones less often: what they share with the fastest is the same code.
                let one_in = match candidate.name {
                    "portable" => 16,
                    "avx2" => 4,
                    _ => 1,
                };
                Way { verifier, each, one_in }
            })),
            Err(lack) => println!("skipped: {}: {lack}", candidate.name),
        }
    }
    ways
}

/// Runs a round and answers how many verdicts were compared.
fn round(seed: u64, ways: &[Way], published: &[Vector]) -> u64 {
    let mut source = Source(chacha20::ChaCha8Rng::seed_from_u64(seed));
    let pool: Vec<Vector> = (0..POOL).map(|_| make(&mut source, published)).collect();
    let (mut done, mut compared) = (0, 0);
    while done < ROUND {
        let size = if source.below(20) == 0 { 1_024 } else { 1 + source.below(SMALL_MAX) };
        let batch: Vec<&Vector> = match source.below(3) {
            // All valid, one that is perhaps not, anything.
            0 | 1 => {
                let valid: Vec<&Vector> =
                    pool.iter().filter(|vector| vector.expected.is_valid()).collect();
                let mut batch: Vec<&Vector> =
                    (0..size).map(|_| valid[source.below(valid.len())]).collect();
                if source.below(2) == 0 {
                    batch[source.below(size)] = &pool[source.below(POOL)];
                }
                batch
            }
            _ => (0..size).map(|_| &pool[source.below(POOL)]).collect(),
        };
        let items: Vec<_> = batch.iter().map(|vector| vector.item()).collect();
        for way in ways.iter().filter(|way| seed.is_multiple_of(way.one_in)) {
            let mut verdicts = vec![Verdict::Invalid; size];
            if way.each {
                way.verifier.verify_each_into(&items, &mut verdicts);
            } else {
                way.verifier.verify_many_into(&items, &mut verdicts);
            }
            for (position, (vector, verdict)) in batch.iter().zip(&verdicts).enumerate() {
                let Vector { name, key, signature, message, .. } = vector;
                assert_eq!(
                    *verdict,
                    vector.expected,
                    "seed {seed}, {}, each {}, {position} of {size}: {name} {key:x?} {signature:x?} {message:x?}",
                    way.verifier.backend(),
                    way.each,
                );
            }
            compared += u64::try_from(size).unwrap();
        }
        done += u64::try_from(size).unwrap();
    }
    compared
}

#[test]
fn differential() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let (items, first) = (number("ALTHING_ITEMS", ITEMS), number("ALTHING_SEED", 1));
    let (ways, published, start) = (ways(), published(), Instant::now());
    let compared = AtomicU64::new(0);
    (first..first + items.div_ceil(ROUND)).into_par_iter().for_each(|seed| {
        compared.fetch_add(round(seed, &ways, &published), Ordering::Relaxed);
    });
    println!(
        "{items} items from seed {first} on, {} verdicts of {} ways compared, 0 disagreements, {:.0} s",
        compared.into_inner(),
        ways.len(),
        start.elapsed().as_secs_f64(),
    );
}
