//! What goes wrong: the disk of one validator is full, and has room again. Needs root.

use std::{
    thread,
    time::{Duration, Instant},
};
use tests::{
    cluster::{Cluster, alone, executed},
    disk::Disk,
    load::{Load, Offer},
    segments::Lots,
};
use validator::client::http::Http;

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// The validator whose disk fills.
const FULL: usize = 2;
/// Times that it fills; `ALTHING_ROUNDS=20` makes more.
const ROUNDS: usize = 2;
/// Rounds with one network: its ledger grows, and the disk does not.
const ROUNDS_EACH: usize = 3;
/// The engine's log takes 16 of them.
const DISK_MIB: u64 = 48;
/// Room that is left at most; the least is none.
const LEFT_MAX: usize = 7 << 20;
/// How long the disk stays full.
const STAYS: Duration = Duration::from_secs(7);
/// From when there is room to when it takes part again.
const RESUME: Duration = Duration::from_secs(10);
/// Time for everything else.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_full_disk_stops_one_validator_and_room_lets_it_go_on() {
    let _alone = alone();
    let rounds = std::env::var("ALTHING_ROUNDS").map_or(ROUNDS, |it| it.parse().expect("a number"));
    let mut lots = Lots(5);
    let (mut done, mut waited) = (0, 0);
    while done < rounds {
        let mut cluster = Cluster::create(PROGRAM, 100);
        // Before anything is in it: the validator puts its data there.
        let disk = match Disk::create(&cluster.data(FULL), DISK_MIB) {
            Ok(disk) => disk,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        };
        cluster.set(FULL, "ALTHING_STORAGE_SEGMENT_BYTES", "2097152");
        cluster.start_all();
        cluster.wait_ready();
        let offer = Offer { rate: 40, size: 8_000, drain: Duration::from_secs(20) };
        let load = Load::start(&cluster, offer);
        load.wait_for(40, PATIENCE);
        for _ in 0..ROUNDS_EACH.min(rounds - done) {
            // Every other time nothing that anything could be written to.
            let left = lots.below(if done % 2 == 0 { 1 << 14 } else { LEFT_MAX }) as u64;
            waited += usize::from(fill(&mut cluster, &disk, left));
            done += 1;
        }
        let (_, told) = load.stop();
        let newest = told.iter().map(|known| known.height.get()).max().expect("some are final");
        cluster.wait_height(newest, PATIENCE);
        cluster.stop_all();
        for index in 0..cluster.size() {
            cluster.verify(index).expect_code(0);
        }
        // The validator's files must be closed before the disk goes.
        drop(cluster);
        drop(disk);
    }
    assert!(waited > 0, "refusing transactions was all that it ever had to do");
    println!("{done} times full, {waited} of them to the last byte that it needed");
}

/// Fills the disk, looks at the validator meanwhile, and gives the room back; answers whether it had to
/// wait for room, beside refusing transactions.
fn fill(cluster: &mut Cluster, disk: &Disk, left: u64) -> bool {
    let before = executed(&cluster.views()[FULL]);
    disk.fill_to(left);
    let start = Instant::now();
    cluster.wait("it says that its disk is full", PATIENCE, |views| {
        views[FULL].as_ref().is_some_and(|status| says_full(&status.reasons))
    });
    let mut http = Http::new(cluster.url(FULL), Duration::from_secs(5));
    let refused = http.post("/transaction", &[1; 200]).expect("an answer");
    assert_eq!(refused.status, 507, "no transactions are taken");
    thread::sleep(STAYS.saturating_sub(start.elapsed()));
    // It still answers, and the others go on.
    let block = http.get(&format!("/block/{before}")).expect("an answer");
    assert_eq!(block.status, 200, "what is there is served");
    let views = cluster.views();
    let others = views.iter().map(executed).max().expect("four");
    let own = executed(&views[FULL]);
    assert!(others > before, "the others go on");
    let waits = views[FULL]
        .as_ref()
        .is_some_and(|status| status.reasons.iter().any(|reason| reason.contains("is full")));
    disk.release();
    let start = Instant::now();
    cluster.wait("it takes part again", RESUME, |views| {
        let newest = views.iter().map(executed).max().unwrap_or(0);
        views[FULL].as_ref().is_some_and(|status| {
            status.ready && status.executed_height > others && status.executed_height + 8 > newest
        })
    });
    println!(
        "{left} bytes left: stood at height {own} of {others}, waiting: {waits}; took part again {:.1?} \
         after there was room",
        start.elapsed()
    );
    waits
}

fn says_full(reasons: &[String]) -> bool {
    reasons.iter().any(|reason| reason.contains("disk"))
}
