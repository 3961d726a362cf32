//! What goes wrong: links lose and delay, every validator crashes once; from one seed.

use tests::simulation::{Plan, run};

/// Seeds per size; `ALTHING_SEEDS=200` runs more.
const SEEDS: u64 = 20;

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("ALTHING_SEEDS").ok();
    let count = count.map_or(SEEDS, |count| count.parse().expect("ALTHING_SEEDS is a number"));
    0..count
}

#[test]
fn four_validators_agree_on_every_seed() {
    for seed in seeds() {
        let plan = Plan { seed, validators: 4, heights: 10, crashes: true };
        let outcome = run(plan);
        println!("seed {seed}: height {} applied {}", outcome.height, outcome.applied);
    }
}

#[test]
fn seven_validators_agree_on_every_seed() {
    for seed in seeds() {
        let plan = Plan { seed, validators: 7, heights: 10, crashes: true };
        let outcome = run(plan);
        println!("seed {seed}: height {} applied {}", outcome.height, outcome.applied);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2] {
        let plan = Plan { seed, validators: 4, heights: 5, crashes: true };
        assert_eq!(run(plan), run(plan), "seed {seed}");
    }
    let other = Plan { seed: 3, validators: 4, heights: 5, crashes: true };
    let first = Plan { seed: 1, ..other };
    assert_ne!(run(other).trace, run(first).trace, "another seed is another run");
}
