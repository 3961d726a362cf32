//! What goes wrong: bits of a running validator's ledger change, and of one that is stopped.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};
use tests::{
    cluster::{Cluster, alone},
    load::{Load, Offer},
    segments::{Lots, Segment},
};
use validator::client::{http::Http, load::Acknowledged};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// The validator whose disk goes bad.
const ROTTEN: usize = 1;
/// Bits that change; `ALTHING_FLIPS=1000` changes more.
const FLIPS: usize = 40;
/// Pages that are lost as a whole beside them.
const PAGES: usize = 5;
const PAGE: usize = 4_096;
/// Transactions, and bytes of each: three segments of 8 MiB.
const TRANSACTIONS: usize = 800;
const SIZE: usize = 24_000;
/// Time for a scrub to come round and for the repair.
const REPAIR: Duration = Duration::from_secs(90);
/// Time for one answer.
const ANSWER: Duration = Duration::from_secs(5);

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// The sealed segments of a validator.
fn sealed(cluster: &Cluster, index: usize) -> Vec<Segment> {
    let mut paths: Vec<PathBuf> = fs::read_dir(cluster.data(index).join("ledger"))
        .expect("a ledger")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    paths.sort();
    let open = |(number, path): (usize, &PathBuf)| Segment::open(number, path);
    let mut segments: Vec<Segment> = paths.iter().enumerate().map(open).collect();
    segments.retain(|segment| segment.used > 0);
    segments.pop();
    assert!(segments.len() > 1, "sealed segments are there");
    segments
}

/// Writes zeros over a page of some groups that are not hit yet.
fn wipe(segments: &[Segment], lots: &mut Lots, pages: usize, hit: &mut BTreeSet<(usize, usize)>) {
    let before = hit.len();
    while hit.len() < before + pages {
        let segment = &segments[lots.below(segments.len())];
        let page = lots.below(segment.used / PAGE) * PAGE;
        let group = segment.group_of(page);
        // Not an index: what is in it follows from groups that may be damaged as well.
        let is_seal = segment.groups.last() == Some(&group);
        if !is_seal && hit.insert((segment.number, group)) {
            segment.wipe(page, PAGE);
        }
    }
}

/// Flips bits anywhere in used bytes but those of indexes, one in each of so many groups, or of half
/// of all.
fn flip(segments: &[Segment], lots: &mut Lots, flips: usize) -> BTreeSet<(usize, usize)> {
    let groups: usize = segments.iter().map(|segment| segment.groups.len()).sum();
    let mut hit = BTreeSet::new();
    while hit.len() < flips.min(groups / 2) {
        let segment = &segments[lots.below(segments.len())];
        let offset = lots.below(segment.used);
        let group = segment.group_of(offset);
        // One flip in a group: two could undo each other.
        if segment.groups.last() != Some(&group) && hit.insert((segment.number, group)) {
            segment.flip(offset, 1 << lots.below(8));
        }
    }
    hit
}

/// Asks the rotten validator for transactions and blocks; every answer is right, or none is given.
fn ask(cluster: &Cluster, told: &[Acknowledged], lots: &mut Lots) -> (usize, usize) {
    let mut rotten = Http::new(cluster.url(ROTTEN), ANSWER);
    let mut good = Http::new(cluster.url(0), ANSWER);
    let (mut right, mut none) = (0, 0);
    for _ in 0..60 {
        let known = told[lots.below(told.len())];
        for path in [format!("/transaction/{}/body", known.id), format!("/block/{}", known.height)]
        {
            let found = rotten.get(&path).expect("an answer");
            if found.status == 503 {
                assert!(found.body.windows(10).any(|part| part == b"unreadable"), "{path}");
                none += 1;
                continue;
            }
            let expected = good.get(&path).expect("an answer");
            assert_eq!((found.status, expected.status), (200, 200), "{path}");
            // Each may have a certificate of its own or not.
            if path.starts_with("/transaction") {
                assert!(found.body == expected.body, "a wrong answer for {path}");
            } else {
                let parts = |body: &[u8]| -> serde_json::Value {
                    let mut block: serde_json::Value = serde_json::from_slice(body).expect("JSON");
                    block.as_object_mut().expect("an object").remove("certificate");
                    block
                };
                assert_eq!(parts(&found.body), parts(&expected.body), "{path}");
            }
            right += 1;
        }
    }
    (right, none)
}

/// Waits until the rotten validator has repaired so many groups.
fn wait_repaired(cluster: &mut Cluster, groups: usize) -> Duration {
    let (start, groups) = (Instant::now(), u64::try_from(groups).expect("64 bits"));
    cluster.wait("what was damaged is repaired", REPAIR, |views| {
        views[ROTTEN].as_ref().is_some_and(|status| {
            status.damaged_groups == status.repaired_groups && status.repaired_groups >= groups
        })
    });
    start.elapsed()
}

#[test]
fn rotten_bits_are_found_counted_and_repaired_and_nobody_is_told_a_wrong_thing() {
    let _alone = alone();
    let mut lots = Lots(u64::try_from(number("ALTHING_SEED", 1)).expect("64 bits"));
    let flips = number("ALTHING_FLIPS", FLIPS);
    let mut cluster = Cluster::create(PROGRAM, 400);
    cluster.start_all();
    cluster.wait_ready();
    let load =
        Load::start(&cluster, Offer { rate: 200, size: SIZE, drain: Duration::from_secs(20) });
    load.wait_for(TRANSACTIONS, Duration::from_secs(60));
    let (_, told) = load.stop();
    let newest = told.iter().map(|known| known.height.get()).max().expect("some are final");
    cluster.wait_height(newest, Duration::from_secs(60));

    let segments = sealed(&cluster, ROTTEN);
    let mut hit = flip(&segments, &mut lots, flips);
    // An index too, but not the line of a group that is hit as well: that would be too much.
    let seal = *segments[0].groups.last().expect("a sealed segment has groups");
    segments[0].flip(seal + 40, 1);
    hit.insert((segments[0].number, seal));
    wipe(&segments, &mut lots, PAGES, &mut hit);
    let hit = hit.len();
    let (right, none) = ask(&cluster, &told, &mut lots);
    let time = wait_repaired(&mut cluster, hit);
    println!(
        "{hit} groups hit while it ran, repaired in {time:.1?}; {right} right answers, {none} none"
    );
    let (right, none) = ask(&cluster, &told, &mut lots);
    assert_eq!((right, none), (120, 0), "all is readable again");
    let page = Http::new(cluster.url(ROTTEN), ANSWER).get("/metrics").expect("metrics").body;
    let page = String::from_utf8(page).expect("text");
    for name in ["damaged", "repaired"] {
        let name = format!("althing_storage_{name}_groups_total {hit}");
        assert!(page.contains(&name), "{name} is not in\n{page}");
    }
    cluster.stop_all();
    for index in 0..cluster.size() {
        cluster.verify(index).expect_code(0);
    }

    // The same while it does not run: it repairs before it takes part. An index and a group of the
    // same segment are too much then.
    let hit = flip(&sealed(&cluster, ROTTEN), &mut lots, flips).len();
    cluster.verify(ROTTEN).expect_code(5);
    cluster.start_all();
    let start = Instant::now();
    cluster.wait_ready();
    println!("{hit} groups hit while it was stopped, ready again in {:.1?}", start.elapsed());
    assert!(cluster.log(ROTTEN).contains("a stored group is repaired"), "{}", cluster.log(ROTTEN));
    cluster.stop_all();
    cluster.verify(ROTTEN).expect_code(0);
}
