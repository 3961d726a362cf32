//! The same checks on every backend against the oracle, and the gate's own choices.

mod differential;
mod hostile;
mod vectors;

use proptest::prelude::*;

use self::hostile::{corrupted, mixed_orders, valid};
use self::vectors::{Vector, published};
use super::*;
use crate::coefficients::Secret;
use crate::{Options, Verifier, verify_one};

/// A verifier for each backend that this machine can run, on one thread and on two.
fn verifiers() -> Vec<Verifier> {
    verifiers_with(&[1, 2])
}

/// A verifier for each backend that this machine can run and each number of threads.
fn verifiers_with(threads: &[usize]) -> Vec<Verifier> {
    let mut verifiers = Vec::new();
    for candidate in CANDIDATES {
        match (candidate.detect)() {
            Ok(_) => verifiers.extend(threads.iter().map(|&threads| {
                let backend = Some(candidate.name.to_owned());
                Verifier::new(&Options { backend, threads }).unwrap()
            })),
            Err(lack) => println!("skipped: {}: {lack}", candidate.name),
        }
    }
    assert!(!verifiers.is_empty(), "portable runs everywhere");
    verifiers
}

/// Everything that is tried: published vectors, mixed orders, corrupted and valid signatures.
fn pool() -> Vec<Vector> {
    [published(), mixed_orders(), corrupted(), valid(100)].concat()
}

/// Checks that a verifier says of each vector what is expected.
fn expect_verdicts(verifier: &Verifier, vectors: &[&Vector]) {
    let items: Vec<_> = vectors.iter().map(|vector| vector.item()).collect();
    let verdicts = verifier.verify_many(&items);
    assert_eq!(verdicts.len(), vectors.len());
    for (position, (vector, verdict)) in vectors.iter().zip(&verdicts).enumerate() {
        let place = format!("{} at {position} of {}", vector.name, vectors.len());
        assert_eq!(*verdict, vector.expected, "{place} on {}", verifier.backend());
    }
    let first = vectors.iter().position(|vector| !vector.expected.is_valid());
    assert_eq!(verifier.verify_all(&items), first.map_or(Ok(()), Err));
}

#[test]
fn the_oracle_gives_the_expected_verdict_for_every_vector() {
    for vector in pool() {
        assert_eq!(verify_one(&vector.item()), vector.expected, "{}", vector.name);
    }
}

#[test]
fn every_vector_alone() {
    for verifier in verifiers() {
        for vector in pool() {
            expect_verdicts(&verifier, &[&vector]);
        }
    }
}

#[test]
fn every_vector_among_the_others_at_many_sizes() {
    let pool = pool();
    let all: Vec<_> = pool.iter().collect();
    for verifier in verifiers() {
        for size in [2, 3, 4, 5, 7, 8, 9, 16, 17, 64, 65, 256, 1_023, 1_024, 1_025, all.len()] {
            for chunk in all.chunks(size) {
                expect_verdicts(&verifier, chunk);
            }
        }
    }
}

#[test]
fn every_vector_hidden_among_valid_ones_at_several_positions() {
    let valid = valid(64);
    // Batches this small are never spread over threads.
    for verifier in verifiers_with(&[1]) {
        for vector in published().iter().chain(&mixed_orders()).chain(&corrupted()) {
            for (size, position) in [(4, 3), (8, 0), (9, 4), (17, 16)] {
                let mut batch: Vec<_> = valid.iter().take(size).collect();
                batch[position] = vector;
                expect_verdicts(&verifier, &batch);
            }
        }
    }
}

#[test]
fn one_bad_vector_is_found_anywhere_in_a_full_chunk() {
    let valid = valid(1_024);
    let corrupted = corrupted();
    for verifier in verifiers() {
        for (number, position) in [0, 1, 7, 8, 15, 16, 511, 512, 1_016, 1_023].iter().enumerate() {
            let mut batch: Vec<_> = valid.iter().collect();
            batch[*position] = &corrupted[number * 5 % corrupted.len()];
            expect_verdicts(&verifier, &batch);
        }
    }
}

#[test]
fn one_vector_repeated_keeps_its_verdict() {
    let pool = pool();
    for verifier in verifiers() {
        for vector in pool.iter().step_by(29) {
            // Equal items share their key, and with equal coefficients they would cancel.
            for size in [2, 8, 65] {
                expect_verdicts(&verifier, &vec![vector; size]);
            }
        }
    }
}

#[test]
fn errors_that_cancel_without_coefficients_are_found() {
    // Two valid signatures under one key whose S are exchanged for S + d and S − d: their plain sum
    // still holds.
    for verifier in verifiers() {
        let (plus, minus) = hostile::opposite_errors();
        let valid = valid(6);
        let mut batch: Vec<_> = valid.iter().collect();
        batch.insert(1, &plus);
        batch.insert(4, &minus);
        expect_verdicts(&verifier, &batch);
        expect_verdicts(&verifier, &[&plus, &minus, &plus, &minus]);
    }
}

#[test]
fn a_key_in_the_cache_changes_no_verdict() {
    let pool = pool();
    let all: Vec<_> = pool.iter().collect();
    for verifier in verifiers() {
        // The second round finds every key of a valid item in the cache; the third comes in another
        // order.
        expect_verdicts(&verifier, &all);
        expect_verdicts(&verifier, &all);
        let reversed: Vec<_> = all.iter().rev().copied().collect();
        expect_verdicts(&verifier, &reversed);
    }
}

#[test]
fn messages_of_every_length_around_a_hash_block() {
    let vectors = hostile::lengths((0..300).chain([1_000, 4_096, 65_536]));
    for verifier in verifiers() {
        expect_verdicts(&verifier, &vectors.iter().collect::<Vec<_>>());
    }
}

/// Decodes items and asks for one bulk check of all, without any fall-back.
struct Together<'a, 'b>(&'a [Item<'b>]);

impl Job for Together<'_, '_> {
    type Output = (usize, bool);

    fn run<B: Backend>(self, backend: B, cache: &B::Cache) -> (usize, bool) {
        let secret = Secret::new(getrandom::fill).unwrap();
        let mut admitted = Vec::new();
        let decoded = backend.decode(self.0, cache, &mut admitted);
        let count = admitted.len();
        (count, backend.hold_together(&decoded, 0..count, &mut secret.coefficients()))
    }
}

/// The bulk checks of all backends that this machine can run: items admitted, and whether they hold
/// together.
fn together(vectors: &[&Vector]) -> Vec<(usize, bool)> {
    let items: Vec<_> = vectors.iter().map(|vector| vector.item()).collect();
    let detected = CANDIDATES.iter().filter_map(|candidate| (candidate.detect)().ok());
    detected.map(|detected| detected.engine().with_best(Together(&items))).collect()
}

#[test]
fn all_that_is_valid_holds_together_mixed_orders_too() {
    let pool = pool();
    let valid: Vec<_> = pool.iter().filter(|vector| vector.expected.is_valid()).collect();
    for size in [1, 2, 3, 8, 64, 95, 96, 250, valid.len()] {
        for chunk in valid.chunks(size) {
            for (count, holds) in together(chunk) {
                assert_eq!(count, chunk.len(), "a valid item is admitted");
                assert!(holds, "from {}, {size} at once", chunk[0].name);
            }
        }
    }
}

#[test]
fn one_that_is_invalid_spoils_the_whole() {
    let valid = valid(100);
    let pool = pool();
    let mut spoiled = 0;
    for vector in pool.iter().filter(|vector| !vector.expected.is_valid()) {
        let batch: Vec<_> = valid.iter().take(5).chain([vector]).collect();
        for (count, holds) in together(&batch) {
            // What the byte checks refuse is no part of the sum.
            assert_eq!(holds, count == 5, "{}", vector.name);
            spoiled += usize::from(!holds);
        }
    }
    assert!(spoiled > 50, "{spoiled} reached the equation");
}

fn lacking() -> Result<Detected, &'static str> {
    Err("the CPU has no such instructions")
}

fn portable() -> Result<Detected, &'static str> {
    Ok(Detected::Portable(portable::Backend::detect()))
}

#[test]
fn the_gate_takes_the_first_that_runs_and_says_what_the_others_lack() {
    let three = [
        Candidate { name: "fast", detect: lacking },
        Candidate { name: "middle", detect: portable },
        Candidate { name: "portable", detect: portable },
    ];
    let choice = |candidates, name: Option<&str>| {
        let asked = name.map(|name| (name.to_owned(), "asked for by name".to_owned()));
        choose_from(candidates, asked).map(|(_, choice)| choice)
    };
    let found = choice(&three, None).unwrap();
    assert_eq!(found.to_string(), "middle (no fast: the CPU has no such instructions)");
    let found = choice(&three[1..], None).unwrap();
    assert_eq!(found.to_string(), "middle (the fastest of this build)");
    let found = choice(&three[2..], None).unwrap();
    assert_eq!(found.to_string(), "portable (the only backend of this build)");
    let found = choice(&three, Some("portable")).unwrap();
    assert_eq!(found.to_string(), "portable (asked for by name)");
}

#[test]
fn a_name_that_cannot_be_had_is_an_error_never_another_backend() {
    let two = [
        Candidate { name: "fast", detect: lacking },
        Candidate { name: "portable", detect: portable },
    ];
    let error = |name: &str| choose_from(&two, Some((name.into(), String::new()))).err().unwrap();
    assert!(matches!(error("fast"), Error::BackendUnavailable { .. }));
    assert_eq!(
        error("fast").to_string(),
        "signature backend `fast` cannot run on this machine: the CPU has no such instructions"
    );
    for name in ["", "Portable", "portable ", "avx1024"] {
        assert!(matches!(error(name), Error::BackendUnknown { .. }));
    }
    assert_eq!(
        error("avx1024").to_string(),
        "unknown signature backend `avx1024`; this build has: fast, portable"
    );
}

#[test]
fn the_last_backend_of_the_build_runs_everywhere_and_names_differ() {
    let last = CANDIDATES.last().unwrap();
    assert_eq!(last.name, "portable");
    assert!((last.detect)().is_ok());
    for (index, candidate) in CANDIDATES.iter().enumerate() {
        assert!(CANDIDATES[..index].iter().all(|other| other.name != candidate.name));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_verdict_depends_on_its_neighbours(
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8), 0..260),
    ) {
        let (pool, valid) = (pool(), valid(100));
        // Three of four are plain valid ones, so that hostile ones meet both crowds and single
        // neighbours.
        let batch: Vec<_> = picks
            .iter()
            .map(|(index, kind)| if *kind == 0 { index.get(&pool) } else { index.get(&valid) })
            .collect();
        for verifier in verifiers() {
            expect_verdicts(&verifier, &batch);
        }
    }
}
