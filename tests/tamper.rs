//! What goes wrong: single bytes of a stored ledger change.

use ledger::Genesis;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tests::{
    cluster::{Cluster, verify},
    load::{Load, Offer},
    segments::{Lots, Segment},
};
use validator::{
    command::{
        Code, Exit,
        ledger::{store::Location, verify as library},
    },
    votes::Judge,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// Bytes that are changed, one at a time.
const FLIPS: usize = 1_000;
/// One in so many is also shown to the command itself.
const COMMAND_EACH: usize = 50;
/// Bytes that are changed where nothing was written yet.
const FLIPS_UNUSED: usize = 50;
/// Transactions, and bytes of each: three segments of 8 MiB.
const TRANSACTIONS: usize = 800;
const SIZE: usize = 24_000;
/// Bytes of a group before its content.
const GROUP_HEADER: usize = 136;

/// `ALTHING_SEED` chooses other bytes.
fn seed() -> u64 {
    let seed = std::env::var("ALTHING_SEED").ok();
    seed.map_or(1, |seed| seed.parse().expect("ALTHING_SEED is a number"))
}

/// A data folder that may be damaged.
struct Copy {
    _folder: TempDir,
    data: PathBuf,
    segments: Vec<Segment>,
}

impl Copy {
    fn of(data: &Path) -> Self {
        let folder = TempDir::with_prefix("althing-tests-").expect("a temporary folder");
        let copy = folder.path().join("data");
        fs::create_dir_all(copy.join("ledger")).expect("a folder");
        fs::copy(data.join("genesis.json"), copy.join("genesis.json")).expect("a genesis");
        let mut names: Vec<_> = fs::read_dir(data.join("ledger"))
            .expect("a ledger")
            .map(|entry| entry.expect("an entry").file_name())
            .filter(|name| name.to_string_lossy().ends_with(".seg"))
            .collect();
        names.sort();
        let segments = names.iter().enumerate().map(|(number, name)| {
            let path = copy.join("ledger").join(name);
            fs::copy(data.join("ledger").join(name), &path).expect("a segment");
            Segment::open(number, &path)
        });
        let segments = segments.collect();
        Self { _folder: folder, data: copy, segments }
    }

    /// The newest segment that holds anything.
    fn last(&self) -> &Segment {
        let mut used = self.segments.iter().filter(|segment| segment.used > 0);
        used.next_back().expect("a ledger has a segment")
    }

    fn used(&self) -> usize {
        self.segments.iter().map(|segment| segment.used).sum()
    }

    /// The segment and offset of a used byte, counted over all segments.
    fn place(&self, mut lot: usize) -> (&Segment, usize) {
        for segment in &self.segments {
            if lot < segment.used {
                return (segment, lot);
            }
            lot -= segment.used;
        }
        unreachable!("the lot is below the number of used bytes")
    }
}

/// What stands behind `ledger verify`, for a copy.
struct Auditor {
    data: PathBuf,
    location: Location,
    genesis: Genesis,
    judge: Judge,
}

impl Auditor {
    fn of(copy: &Copy) -> Self {
        let location = Location::find(&copy.data).expect("the copy is a ledger");
        let genesis = location.load_genesis(None).expect("the copy has its genesis");
        let verifier = sigverify::Verifier::new(&sigverify::Options { backend: None, threads: 1 });
        let verifier = verifier.expect("the portable backend runs everywhere");
        let judge = Judge::new(Arc::new(verifier));
        Self { data: copy.data.clone(), location, genesis, judge }
    }

    fn check(&self) -> Result<library::Verified, Exit> {
        library::verify(&self.location, &self.genesis, &self.judge, 2, &mut |_| {})
    }

    /// Panics unless a changed byte is found, and its group named; by the command, too, if shown.
    #[track_caller]
    fn expect_named(&self, segment: &Segment, offset: usize, change: u8, is_shown: bool) {
        let what = format!("segment {}, byte {offset} ^ {change:#x}", segment.number);
        let place = format!("segment {:016x} offset {}:", segment.number, segment.group_of(offset));
        segment.with_flip(offset, change, || {
            let exit = self.check().expect_err(&what);
            assert_eq!(exit.code(), Code::DataCorrupt, "{what}: {exit}");
            assert!(exit.message().contains(&place), "{what}: not {place:?} but: {exit}");
            if is_shown {
                verify(PROGRAM, &self.data).expect_refusal(5, &[&place]);
            }
        });
    }
}

/// A small ledger that still has several segments, stopped in good order.
fn make_ledger() -> Cluster {
    let mut cluster = Cluster::create(PROGRAM, 400);
    cluster.start_all();
    cluster.wait_ready();
    let offer = Offer { rate: 200, size: SIZE, drain: Duration::from_secs(20) };
    let load = Load::start(&cluster, offer);
    load.wait_for(TRANSACTIONS, Duration::from_secs(60));
    let (_, told) = load.stop();
    let newest = told.iter().map(|known| known.height.get()).max().expect("some are final");
    cluster.wait_height(newest, Duration::from_secs(60));
    cluster.stop_all();
    cluster
}

#[test]
fn no_changed_byte_passes_unseen() {
    let seed = seed();
    println!("seed {seed} (ALTHING_SEED)");
    let mut lots = Lots(seed);
    let cluster = make_ledger();
    for index in 0..cluster.size() {
        let text = cluster.verify(index).expect_code(0).text();
        for part in ["good: everything holds", "blocks", "transactions/s", "signatures/s"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
    let copy = Copy::of(&cluster.data(0));
    verify(PROGRAM, &copy.data).expect_code(0);
    let auditor = Auditor::of(&copy);
    let verified = auditor.check().expect("an unchanged copy is good");
    let used = u64::try_from(copy.used()).expect("64 bits");
    assert_eq!(used, verified.storage.bytes, "the walk over groups finds the same bytes");
    assert!(verified.storage.segments > 2, "sealed segments are there: {verified:?}");

    let start = Instant::now();
    for flip in 0..FLIPS {
        let (segment, offset) = copy.place(lots.below(copy.used()));
        let is_shown = flip % COMMAND_EACH == 0;
        auditor.expect_named(segment, offset, lots.change(), is_shown);
    }
    println!("{FLIPS} of {used} used bytes, {:.1?}", start.elapsed());

    // Every byte of a header counts: of the first group, of a seal, and of the orderly end.
    let (first, last) = (&copy.segments[0], copy.last());
    let seal = first.groups.last().expect("a sealed segment has groups");
    let close = last.groups.last().expect("the newest segment has groups");
    for (segment, group) in [(first, &0), (first, seal), (last, close)] {
        for byte in 0..GROUP_HEADER {
            auditor.expect_named(segment, group + byte, lots.change(), false);
        }
    }

    for _ in 0..FLIPS_UNUSED {
        let segment = &copy.segments[lots.below(copy.segments.len())];
        let room = segment.bytes.len() - segment.used;
        if room == 0 {
            continue;
        }
        let (offset, change) = (segment.used + lots.below(room), lots.change());
        let what = format!("seed {seed}, segment {}, unused byte {offset}", segment.number);
        let exit = segment.with_flip(offset, change, || auditor.check().expect_err(&what));
        assert_eq!(exit.code(), Code::DataCorrupt, "{what}: {exit}");
        assert!(exit.message().contains("segment "), "{what}: {exit}");
    }
    auditor.check().expect("every byte was put back");
}
