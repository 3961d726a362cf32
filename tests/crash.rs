//! What goes wrong: all validators are killed at one moment, under load, again and again.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};
use tests::{
    cluster::Cluster,
    load::{Load, Offer, Read},
};
use validator::client::load::Acknowledged;

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// Times that all are killed; `ALTHING_ROUNDS=20` runs more.
const ROUNDS: usize = 3;
/// Transactions a second.
const RATE: u64 = 300;
/// Transactions that must become final in each round before all are killed.
const FINAL_PER_ROUND: usize = 300;
/// Time for them, on a machine that does other things too.
const ROUND: Duration = Duration::from_secs(60);
/// Blocks are some hundred milliseconds apart: the moment of death moves through that time.
const MOMENT: Duration = Duration::from_millis(37);
/// Time for news that had left a validator before it was killed.
const UNDER_WAY: Duration = Duration::from_millis(300);

fn rounds() -> usize {
    let count = std::env::var("ALTHING_ROUNDS").ok();
    count.map_or(ROUNDS, |count| count.parse().expect("ALTHING_ROUNDS is a number"))
}

fn read_all(cluster: &Cluster) -> Vec<Read> {
    let network = cluster.network().network;
    (0..cluster.size()).map(|index| Read::open(&cluster.data(index), &network)).collect()
}

/// Panics unless all ledgers say the same as far as all of them go.
fn assert_equal(ledgers: &[Read], when: &str) -> u64 {
    let common = ledgers.iter().map(Read::height).min().expect("four ledgers");
    if common > 0 {
        let roots: HashSet<_> = ledgers.iter().map(|ledger| ledger.history_root(common)).collect();
        assert_eq!(roots.len(), 1, "{when}: the ledgers differ after height {common}: {roots:?}");
    }
    common
}

/// Panics unless every transaction is in at least so many ledgers, as the client was told.
fn assert_held(ledgers: &mut [Read], told: &[Acknowledged], least: usize, when: &str) {
    for known in told {
        let held: Vec<bool> = ledgers.iter_mut().map(|ledger| ledger.holds(known)).collect();
        let count = held.iter().filter(|held| **held).count();
        let heights: Vec<u64> = ledgers.iter().map(Read::height).collect();
        assert!(
            count >= least,
            "{when}: {} was told as {} at height {}; held by {held:?}, whose heights are {heights:?}",
            known.id,
            known.outcome,
            known.height
        );
    }
}

fn newest(told: &[Acknowledged]) -> u64 {
    told.iter().map(|known| known.height.get()).max().unwrap_or(0)
}

#[test]
fn what_was_told_is_final_survives_the_death_of_all() {
    let mut cluster = Cluster::create(PROGRAM, 800);
    cluster.start_all();
    cluster.wait_ready();
    let offer = Offer { rate: RATE, size: 400, drain: Duration::from_secs(20) };
    let load = Load::start(&cluster, offer);
    let mut survived = 0;
    for round in 1..=rounds() {
        load.wait_for(FINAL_PER_ROUND, ROUND);
        // Another moment between two blocks in each round.
        thread::sleep(MOMENT * u32::try_from(round % 16).expect("below 16"));
        cluster.kill_all();
        thread::sleep(UNDER_WAY);
        let told = load.told();
        let mut ledgers = read_all(&cluster);
        let when = format!("round {round}, before the start");
        assert_equal(&ledgers, &when);
        // Whoever told it had it on its disk; what is older had reached everyone.
        assert_held(&mut ledgers, &told, 1, &when);
        assert_held(&mut ledgers, &told[..survived], 4, &when);
        drop(ledgers);
        let start = Instant::now();
        cluster.start_all();
        cluster.wait_height(newest(&told), ROUND);
        survived = told.len();
        let (height, time) = (newest(&told), start.elapsed());
        println!("round {round}: {survived} told up to height {height}, back after {time:.1?}");
    }
    load.wait_for(FINAL_PER_ROUND, ROUND);
    let (report, told) = load.stop();
    cluster.wait_height(newest(&told), ROUND);
    cluster.stop_all();
    let mut ledgers = read_all(&cluster);
    assert_equal(&ledgers, "at the end");
    assert_held(&mut ledgers, &told, 4, "at the end");
    drop(ledgers);
    for index in 0..cluster.size() {
        let verified = cluster.verify(index).expect_code(0);
        assert!(verified.text().contains("good: everything holds"), "{}", verified.text());
    }
    let transactions: HashSet<_> = told.iter().map(|known| known.id).collect();
    assert!(transactions.len() >= FINAL_PER_ROUND * rounds(), "{} told", transactions.len());
    println!("{} told in all, {} lost", transactions.len(), report.counts.lost);
}
