//! Power cuts, errors and lies of the disk at every call in turn, and cuts in the recovery from them;
//! kills of a real process.
//!
//! `ALTHING_CUTS=10000` makes as many power cuts, `ALTHING_ROUNDS=200` as many kills.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::disk::{Fault, Simulated};
use crate::testing::{NETWORK, Plain, Random, body, compare, plain, record, small};
use crate::verify;

/// Appends a fixed workload until a call fails; tells what was acknowledged.
///
/// Shape: calls of up to 40 KiB in groups of up to 8 KiB, so that several are in flight at once
/// and segments change in the middle.
fn work(store: &Store, model: &[crate::Record]) -> u64 {
    let acknowledged = Arc::new(Mutex::new(0));
    let mut random = Random(77);
    let mut at = 0;
    while at < model.len() {
        let count = usize::try_from(1 + random.below(8)).unwrap().min(model.len() - at);
        let (seen, records) = (Arc::clone(&acknowledged), (at + count) as u64);
        let done: Done = Box::new(move |result| {
            if result.is_ok() {
                *seen.lock().unwrap() = records;
            }
        });
        if store.append(model[at..at + count].to_vec(), Some(done)).is_err() {
            break;
        }
        at += count;
    }
    let acknowledged = *acknowledged.lock().unwrap();
    assert!(store.durable() >= acknowledged);
    acknowledged
}

/// A number from the environment.
fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

fn model() -> Vec<crate::Record> {
    let mut random = Random(5);
    (0..90).map(|number| record(number, usize::try_from(random.below(3000)).unwrap())).collect()
}

/// Reopens after a crash and checks that what is there is a prefix of the model.
fn reopen(disk: &Simulated, model: &[crate::Record]) -> Option<(Store, Recovery)> {
    let opened = Store::open_inline(Box::new(disk.clone()), &small());
    let (store, recovery) = match opened {
        Ok(opened) => opened,
        // Another cut, set by the test.
        Err(Error::Disk { .. } | Error::Folder { .. } | Error::Poisoned { .. }) => return None,
        Err(other) => panic!("{other}"),
    };
    let plain: Vec<Plain> = model.iter().map(plain).collect();
    let count = usize::try_from(recovery.records).unwrap();
    compare(
        store.records(),
        &plain[..count],
        |place| store.read(place).unwrap(),
        |kind, key| store.find(kind, key),
        |kind, height| store.at_height(kind, height),
    );
    Some((store, recovery))
}

#[test]
fn a_power_cut_at_every_call_loses_nothing_acknowledged() {
    let model = model();
    let whole = Simulated::new(0);
    let (store, _) = Store::open_inline(Box::new(whole.clone()), &small()).unwrap();
    assert_eq!(work(&store, &model), model.len() as u64);
    store.close().unwrap();
    let calls = whole.calls();
    assert!(calls > 60);
    let (mut points, mut cuts, mut kept) = (0, 0, 0);
    let seeds = asked("ALTHING_CUTS", 12 * calls).div_ceil(calls);
    for seed in 0..seeds {
        for call in 0..calls {
            let disk = Simulated::new(seed * 1000 + call);
            disk.fail_at(call, Fault::PowerCut);
            let acknowledged = match Store::open_inline(Box::new(disk.clone()), &small()) {
                Ok((store, _)) => {
                    let acknowledged = work(&store, &model);
                    // The cut may come while the store closes.
                    let _ = store.close();
                    acknowledged
                }
                Err(_) => 0,
            };
            let disk = disk.crash();
            let (store, recovery) = reopen(&disk, &model).expect("no second cut was set");
            assert!(recovery.records >= acknowledged, "{seed} {call}: an acknowledgement was lost");
            points += 1;
            cuts += u64::from(recovery.cut.is_some());
            kept += u64::from(recovery.records > acknowledged);
            // The store goes on from there, and nothing that was cut comes back.
            let rest = usize::try_from(recovery.records).unwrap();
            for record in &model[rest..] {
                store.append(vec![record.clone()], None).unwrap();
            }
            store.close().unwrap();
            let (_, recovery) = reopen(&disk.crash(), &model).unwrap();
            assert_eq!((recovery.records, recovery.cut), (model.len() as u64, None));
            assert!(recovery.clean);
        }
    }
    // Otherwise the workload or the simulation is too tame to show anything.
    assert!(points > 700 && cuts > points / 10 && kept > points / 20, "{points} {cuts} {kept}");
}

#[test]
fn an_error_at_every_call_is_never_acknowledged() {
    let model = model();
    let whole = Simulated::new(0);
    let (store, _) = Store::open_inline(Box::new(whole.clone()), &small()).unwrap();
    work(&store, &model);
    drop(store);
    // EIO, ENOSPC, ECANCELED, EAGAIN, EINTR.
    let errors = [5, 28, 125, 11, 4].map(Fault::Error);
    let mut failed = 0;
    for fault in errors.into_iter().chain([Fault::Short]) {
        for call in 0..whole.calls() {
            let disk = Simulated::new(call);
            disk.fail_at(call, fault);
            let acknowledged = match Store::open_inline(Box::new(disk.clone()), &small()) {
                Ok((store, _)) => {
                    let acknowledged = work(&store, &model);
                    failed += u64::from(store.append(Vec::new(), None).is_err());
                    acknowledged
                }
                Err(Error::Poisoned { .. }) => 0,
                Err(other) => panic!("{call}: {other}"),
            };
            // The process ends and comes back; then the power fails too.
            let disk = disk.restart();
            let (store, recovery) = reopen(&disk, &model).expect("the fault has struck");
            assert!(recovery.records >= acknowledged, "{fault:?} {call}");
            drop(store);
            let (_, after) = reopen(&disk.crash(), &model).unwrap();
            assert_eq!(after.records, recovery.records, "{fault:?} {call}");
        }
    }
    assert!(failed > 5 * whole.calls(), "{failed}");
}

#[test]
fn a_disk_that_lies_is_found_out_and_no_wrong_record_is_shown() {
    let model = model();
    let whole = Simulated::new(0);
    let (store, _) = Store::open_inline(Box::new(whole.clone()), &small()).unwrap();
    work(&store, &model);
    drop(store);
    let (mut named, mut cut) = (0, 0);
    for fault in [Fault::Lost, Fault::Misdirected] {
        for call in 0..whole.calls() {
            let disk = Simulated::new(call);
            disk.fail_at(call, fault);
            let opened = Store::open_inline(Box::new(disk.clone()), &small());
            work(&opened.expect("nobody has noticed").0, &model);
            match Store::open_inline(Box::new(disk.crash()), &small()) {
                // Damage in the newest segment.
                Err(Error::Corrupt { .. }) => named += 1,
                Err(other) => panic!("{fault:?} {call}: {other}"),
                Ok((store, recovery)) => {
                    cut += u64::from(recovery.cut.is_some());
                    // In a sealed segment it is found when the record is read.
                    for (found, record) in store.records().zip(&model) {
                        match found {
                            Ok((_, header, body)) => {
                                assert_eq!((header, body), plain(record), "{fault:?} {call}");
                            }
                            Err(Error::Corrupt { .. }) => named += 1,
                            Err(other) => panic!("{fault:?} {call}: {other}"),
                        }
                    }
                }
            }
        }
    }
    // What is left are calls that wrote nothing, and the very last writes.
    assert!(named > whole.calls() * 3 / 4 && cut < 12, "{named} named, {cut} cut");
}

#[test]
fn a_power_cut_at_every_call_of_the_recovery_changes_nothing() {
    let model = model();
    let (mut second_cuts, mut rewritten) = (0, 0);
    for seed in 0..60 {
        for second in 0..8 {
            let disk = Simulated::new(seed);
            disk.fail_at(10 + seed, Fault::PowerCut);
            let opened = Store::open_inline(Box::new(disk.clone()), &small());
            let (store, _) = opened.expect("the cut comes later");
            let acknowledged = work(&store, &model);
            let disk = disk.crash();
            disk.fail_at(disk.calls() + second, Fault::PowerCut);
            match reopen(&disk, &model) {
                Some(_) => rewritten += 1,
                None => second_cuts += 1,
            }
            let (_, recovery) = reopen(&disk.crash(), &model).unwrap();
            assert!(recovery.records >= acknowledged, "{seed} {second}");
        }
    }
    assert!(second_cuts > 50 && rewritten > 50, "{second_cuts} {rewritten}");
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_not_taken_for_durable() {
    let model = model();
    for ahead in 0..40 {
        let disk = Simulated::new(ahead);
        let (store, _) = Store::open_inline(Box::new(disk.clone()), &small()).unwrap();
        disk.fail_at(disk.calls() + ahead, Fault::Error(5));
        let acknowledged = work(&store, &model);
        // The process ends and comes back, the machine stays: its cache still has the bytes.
        let disk = disk.restart();
        let (store, recovery) = reopen(&disk, &model).unwrap();
        assert!(recovery.records >= acknowledged);
        drop(store);
        let (_, after) = reopen(&disk.crash(), &model).unwrap();
        assert_eq!(after.records, recovery.records, "{ahead}");
    }
}

/// The child of the test below; as a test of its own it does nothing.
#[test]
fn kill_child() {
    let Ok(directory) = std::env::var("STORAGE_KILL_CHILD") else {
        return;
    };
    let (store, recovery) = Store::open(Path::new(&directory), &small()).unwrap();
    let mut next = recovery.records;
    println!("opened {next}");
    loop {
        let records: Vec<_> = (next..next + 5).map(|number| record(number, 2000)).collect();
        next += 5;
        let done: Done = Box::new(move |result| {
            result.unwrap();
            println!("durable {next}");
        });
        store.append(records, Some(done)).unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..asked("ALTHING_ROUNDS", 8) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::crash::kill_child", "--nocapture"])
            .env("STORAGE_KILL_CHILD", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + round % 8 * 25));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let acknowledged = |line: &str| line.strip_prefix("durable ")?.parse::<u64>().ok();
        let acknowledged = text.lines().filter_map(acknowledged).next_back().unwrap_or(0);
        assert!(acknowledged == 0 || acknowledged > last);
        let (store, recovery) = Store::open(directory.path(), &small()).unwrap();
        assert!(recovery.records >= acknowledged.max(last), "{recovery:?} {acknowledged} {last}");
        for (found, number) in store.records().zip(0..) {
            assert_eq!(found.unwrap().2, body(number, 2000));
        }
        last = recovery.records;
        store.close().unwrap();
        assert!(verify(directory.path(), Some(NETWORK)).unwrap().clean);
    }
    assert!(last > 100, "the child wrote {last} records");
}
