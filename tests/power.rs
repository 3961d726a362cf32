//! What goes wrong: the power of a disk is cut while a store writes to it. Needs root.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use storage::{NO_HEIGHT, Options, Record, Store};
use tempfile::TempDir;
use tests::{
    disk::{Disk, Writes},
    segments::Lots,
};

/// Cuts; `ALTHING_CUTS=200` makes more.
const CUTS: u64 = 20;
/// A file system with room for a journal and some hundred segments.
const DISK_MIB: u64 = 64;
/// Says to this file's other test where it is to write.
const FOLDER: &str = "ALTHING_POWER_FOLDER";

fn options() -> Options {
    // The smallest segments: the cut falls into the making of one as often as into a write.
    let (segment_bytes, group_bytes_max) = (256 << 10, 32 << 10);
    Options { segment_bytes, group_bytes_max, ..Options::new([3; 32]) }
}

fn record(number: u64) -> Record {
    let size = usize::try_from(number * 7919 % 6000).expect("a size") + 8;
    let mut body = number.to_le_bytes().to_vec();
    body.resize(size, u8::try_from(number % 251).expect("below 251"));
    Record { kind: 1, height: NO_HEIGHT, key: [0; 32], body: body.into() }
}

fn number_of(body: &[u8]) -> u64 {
    u64::from_le_bytes(*body.first_chunk().expect("a body begins with its number"))
}

/// The child of the test below; as a test of its own it does nothing.
#[test]
fn writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let (store, recovery) = Store::open(Path::new(&folder), &options()).expect("a whole store");
    let mut next = recovery.records;
    println!("durable {next}");
    loop {
        let records = (next..next + 3).map(record).collect();
        next += 3;
        let told = Box::new(move |result: Result<(), storage::Error>| {
            if result.is_ok() {
                println!("durable {next}");
            }
        });
        if store.append(records, Some(told)).is_err() {
            return;
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_of_a_real_file_system_is_cut() {
    let cuts = std::env::var("ALTHING_CUTS").map_or(CUTS, |cuts| cuts.parse().expect("a number"));
    let folder = TempDir::with_prefix("althing-tests-").expect("a temporary folder");
    let mut disk = match Disk::create(&folder.path().join("disk"), DISK_MIB) {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let mut lots = Lots(11);
    let (mut before, mut torn, mut kept, mut pruned) = (0, 0, 0, 0);
    for cut in 0..cuts {
        let store = disk.folder().join("store");
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "writer", "--nocapture"])
            .env(FOLDER, &store)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let output = child.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let durable = |line: String| line.strip_prefix("durable ")?.parse::<u64>().ok();
            BufReader::new(output).lines().map_while(Result::ok).filter_map(durable).last()
        });
        std::thread::sleep(Duration::from_millis(150 + lots.below(100) as u64));
        disk.cut_power();
        child.kill().expect("our child");
        child.wait().expect("our child");
        let acknowledged = reader.join().expect("it only reads").unwrap_or(before);
        disk.unmount();
        // Every other time a write is nothing without its sync.
        let writes = if cut % 2 == 0 { Writes::Cached } else { Writes::Direct };
        disk.mount(writes).expect("the file system comes back");
        let (opened, recovery) = Store::open(&store, &options()).expect("a whole store");
        let records = recovery.records;
        assert!(records >= acknowledged, "cut {cut}: {records} of {acknowledged} acknowledged");
        torn += u64::from(recovery.cut.is_some());
        kept += records - acknowledged;
        let (mut next, mut newest) = (None, 0);
        for found in opened.records() {
            let (place, _, body) = found.expect("a whole record");
            newest = place.segment;
            // The first that is left, after the ones that were pruned, says where it stands.
            let number = next.unwrap_or_else(|| number_of(&body));
            assert!(body == record(number).body.bytes(), "cut {cut}, record {number}");
            next = Some(number + 1);
        }
        assert_eq!(next.unwrap_or(records), records, "cut {cut}: every record to the last");
        before = records;
        // Room for the next cuts.
        pruned += opened.prune_below(newest.saturating_sub(2)).expect("pruning works");
        drop(opened);
        if disk.free_bytes() < 20 << 20 {
            std::fs::remove_dir_all(&store).expect("ours");
            before = 0;
        }
    }
    assert!(pruned > cuts, "{pruned} segments went on the way");
    println!(
        "{cuts} power cuts: {torn} torn tails, {kept} records kept beyond what was told, {pruned} \
         segments pruned on the way"
    );
}
