//! The store on real disks and on the simulated one, against a plain list.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::*;
use crate::disk::{Fault, Portable, Simulated, folder::Folder};
use crate::ring::{Events, Ring};
use crate::testing::{NETWORK, Random, body, compare, plain, record, small};
use crate::{Backend, Body, NO_HEIGHT, verify, verify_unlocked};

pub(super) fn check(store: &Store, model: &[crate::testing::Plain]) {
    compare(
        store.records(),
        model,
        |place| {
            let body = store.read(place).unwrap();
            assert_eq!(&*store.view(place).unwrap(), body);
            body
        },
        |kind, key| store.find(kind, key),
        |kind, height| store.at_height(kind, height),
    );
}

/// Whether io_uring runs here; a machine without it still tests the fallback.
fn has_ring() -> bool {
    let ring = Events::new(1);
    if let Err(reason) = &ring {
        println!("skipped: {reason}");
    }
    ring.is_ok()
}

fn backends() -> Vec<Backend> {
    if has_ring() { vec![Backend::Portable, Backend::IoUring] } else { vec![Backend::Portable] }
}

#[test]
fn random_appends_and_reopenings_equal_a_list() {
    for backend in backends() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { backend, ..small() };
        let mut random = Random(42);
        let mut model = Vec::new();
        for round in 0..4 {
            let (store, recovery) = Store::open(directory.path(), &options).unwrap();
            assert_eq!(recovery.records, model.len() as u64);
            assert!(recovery.clean && recovery.cut.is_none());
            check(&store, &model);
            for _ in 0..25 {
                let count = random.below(4);
                let records: Vec<_> = (0..count)
                    .map(|at| {
                        let size = usize::try_from(random.below(6000)).unwrap();
                        record(model.len() as u64 + at, size)
                    })
                    .collect();
                model.extend(records.iter().map(plain));
                let ticket = store.append(records, None).unwrap();
                assert_eq!(ticket.records(), model.len() as u64);
                if random.below(3) == 0 {
                    store.wait(ticket).unwrap();
                    assert!(store.durable() >= ticket.records());
                }
                if random.below(8) == 0 {
                    check(&store, &model);
                }
            }
            check(&store, &model);
            if round % 2 == 0 {
                store.close().unwrap();
            } else {
                // The last handle writes what it has, and marks nothing.
                drop(store);
                assert!(!verify(directory.path(), Some(NETWORK)).unwrap().clean);
                Store::open(directory.path(), &options).unwrap().0.close().unwrap();
            }
            let verified = verify(directory.path(), Some(NETWORK)).unwrap();
            assert!(verified.clean);
            assert_eq!(verified.records, model.len() as u64);
        }
        assert!(verify(directory.path(), None).unwrap().segments > 3);
    }
}

#[test]
fn both_backends_write_the_same_bytes() {
    if !has_ring() {
        return;
    }
    let write = |path: &Path, ring: bool| {
        let mut folder = Folder::new(path);
        folder.epochs = Some(1000);
        let disk: Box<dyn Disk> = if ring {
            Box::new(Ring::new(folder, Events::new(4).unwrap()))
        } else {
            Box::new(Portable::new(folder, None))
        };
        let (store, _) = Store::open_inline(disk, &small()).unwrap();
        let mut random = Random(9);
        for number in 0..60 {
            let count = 1 + random.below(4);
            let records = (0..count)
                .map(|at| record(number * 10 + at, usize::try_from(random.below(9000)).unwrap()));
            store.append(records.collect(), None).unwrap();
        }
        store.close().unwrap();
    };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(one.path(), true);
    write(two.path(), false);
    let segments = crate::disk::folder::segments(one.path()).unwrap();
    assert_eq!(segments, crate::disk::folder::segments(two.path()).unwrap());
    assert!(segments.len() > 5);
    for (segment, _) in segments {
        let name = format!("{segment:016x}.seg");
        let one = std::fs::read(one.path().join(&name)).unwrap();
        assert!(one == std::fs::read(two.path().join(&name)).unwrap(), "{name} differs");
    }
}

#[test]
fn callbacks_come_once_durable_in_order_from_every_thread() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { queue_bytes_max: 64 << 10, ..small() };
    let (store, _) = Store::open(directory.path(), &options).unwrap();
    let called = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, called) = (&store, &called);
            scope.spawn(move || {
                let (send, receive) = mpsc::sync_channel(256);
                for number in 0..200 {
                    let (send, called, reader) = (send.clone(), called.clone(), store.clone());
                    let done: Done = Box::new(move |result| {
                        result.unwrap();
                        called.fetch_add(1, Ordering::Relaxed);
                        send.send((number, reader.durable())).unwrap();
                    });
                    let records = vec![record(thread * 1000 + number, 1000)];
                    let ticket = store.append(records, Some(done)).unwrap();
                    assert!(ticket.records() > number);
                }
                for number in 0..200 {
                    let (came, durable) = receive.recv_timeout(Duration::from_secs(60)).unwrap();
                    assert_eq!(came, number);
                    assert!(durable > number);
                }
            });
        }
    });
    assert_eq!(called.load(Ordering::Relaxed), 800);
    let stats = store.stats();
    assert_eq!((stats.records, stats.queued_bytes), (800, 0));
    assert!(stats.groups >= stats.segments && stats.segments > 2);
    assert_eq!(stats.durable_us.len(), stats.groups);
    store.close().unwrap();
}

#[test]
fn a_callback_may_append_beyond_a_full_queue() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { queue_bytes_max: 1, ..small() };
    let (store, _) = Store::open(directory.path(), &options).unwrap();
    let (send, receive) = mpsc::sync_channel(1);
    let again = store.clone();
    let done: Done = Box::new(move |result| {
        result.unwrap();
        send.send(again.append(vec![record(1, 500)], None).unwrap()).unwrap();
    });
    store.append(vec![record(0, 500)], Some(done)).unwrap();
    let ticket = receive.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(ticket.records(), 2);
    store.wait(ticket).unwrap();
}

#[test]
fn an_empty_append_follows_everything_before() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), &small()).unwrap();
    let (send, receive) = mpsc::sync_channel(2);
    for expected in [0, 1] {
        let (send, reader) = (send.clone(), store.clone());
        let done: Done = Box::new(move |result| {
            result.unwrap();
            send.send(reader.durable()).unwrap();
        });
        store.append(Vec::new(), Some(done)).unwrap();
        assert_eq!(receive.recv_timeout(Duration::from_secs(60)).unwrap(), expected);
        store.append(vec![record(expected, 10)], None).unwrap();
    }
}

#[test]
fn records_are_found_before_they_are_durable_and_after() {
    for inline in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = if inline {
            Store::open_inline(Box::new(Simulated::new(1)), &small()).unwrap()
        } else {
            Store::open(directory.path(), &small()).unwrap()
        };
        let shared: Arc<[u8]> = body(1, 100).into();
        let record = Record { kind: 3, height: 8, key: [4; 32], body: Body::from(shared) };
        let ticket = store.append(vec![record], None).unwrap();
        let place = store.find(3, &[4; 32]).unwrap();
        assert_eq!(store.read(place).unwrap(), body(1, 100));
        assert_eq!(store.at_height(3, 8), Some(place));
        assert_eq!(store.last_height(3), Some(8));
        assert_eq!((store.find(2, &[4; 32]), store.at_height(3, 9)), (None, None));
        store.wait(ticket).unwrap();
        assert_eq!(store.read(place).unwrap(), body(1, 100));
        for wrong in [
            Place { bytes: place.bytes + 1, ..place },
            Place { offset: place.offset + 8, ..place },
            Place { offset: 0, ..place },
            Place { offset: u64::MAX - 3, ..place },
            Place { segment: 9, ..place },
        ] {
            for error in [store.read(wrong).err(), store.view(wrong).map(drop).err()] {
                assert!(matches!(error, Some(Error::NoRecord { .. })), "{error:?}");
            }
        }
    }
}

#[test]
fn one_call_shares_a_group_and_a_large_one_is_parted() {
    let disk = Simulated::new(3);
    let (store, _) = Store::open_inline(Box::new(disk.clone()), &small()).unwrap();
    let before = store.stats().groups;
    store.append((0..7).map(|number| record(number, 900)).collect(), None).unwrap();
    assert_eq!(store.stats().groups, before + 1);
    store.append((0..3).map(|number| record(number, 7000)).collect(), None).unwrap();
    assert_eq!(store.stats().groups, before + 4);
    let bytes_max = match store.append(vec![record(0, 1 << 20)], None) {
        Err(Error::TooLarge { index: 0, bytes, bytes_max }) => {
            assert_eq!(bytes, 1 << 20);
            usize::try_from(bytes_max).unwrap()
        }
        other => panic!("{other:?}"),
    };
    let larger = vec![record(0, 10), record(1, bytes_max + 1)];
    assert!(matches!(store.append(larger, None), Err(Error::TooLarge { index: 1, .. })));
    assert_eq!(store.durable(), 10);
    store.append(vec![record(1, bytes_max)], None).unwrap();
    store.close().unwrap();
    let (store, recovery) = Store::open_inline(Box::new(disk.restart()), &small()).unwrap();
    assert_eq!(recovery.records, 11);
    assert_eq!(store.records().last().unwrap().unwrap().2, body(1, bytes_max));
}

#[test]
fn a_second_opening_is_refused_until_the_first_has_closed() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), &small()).unwrap();
    let locked = |error| match error {
        Error::Locked { path } => assert_eq!(path, directory.path()),
        other => panic!("{other}"),
    };
    locked(Store::open(directory.path(), &small()).err().unwrap());
    locked(verify(directory.path(), None).unwrap_err());
    assert!(verify_unlocked(directory.path(), None).is_ok());
    let other = store.clone();
    let ticket = store.append(vec![record(1, 5)], None).unwrap();
    store.close().unwrap();
    other.wait(ticket).unwrap();
    let closed = |result: Result<(), Error>| {
        assert!(matches!(result, Err(Error::Closed { records: 1 })), "{result:?}");
    };
    closed(other.append(vec![record(2, 5)], None).map(drop));
    assert_eq!(other.read(other.find(1, &record(1, 5).key).unwrap()).unwrap(), body(1, 5));
    closed(other.close());
    Store::open(directory.path(), &small()).unwrap().0.close().unwrap();
}

#[test]
fn another_network_is_refused_with_both_names() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path(), &small()).unwrap());
    let options = Options { network: [9; 32], ..small() };
    match Store::open(directory.path(), &options).err().unwrap() {
        Error::OtherNetwork { segment: 0, offset: 0, found, expected } => {
            assert_eq!((found, expected), (NETWORK, [9; 32]));
        }
        other => panic!("{other}"),
    }
    let error = verify(directory.path(), Some([9; 32])).unwrap_err();
    assert!(matches!(error, Error::OtherNetwork { .. }), "{error}");
    // A refused opening leaves the store as it was, and free.
    assert!(Store::open(directory.path(), &small()).is_ok());
}

#[test]
fn impossible_options_are_refused() {
    let wrong = |change: fn(&mut Options)| {
        let mut options = small();
        change(&mut options);
        match Store::open_inline(Box::new(Simulated::new(0)), &options).err() {
            Some(Error::Options { option, .. }) => option,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wrong(|it| it.segment_bytes = 4096 * 7), "segment_bytes");
    assert_eq!(wrong(|it| it.segment_bytes = 100_000), "segment_bytes");
    assert_eq!(wrong(|it| it.segment_bytes = 1 << 33), "segment_bytes");
    assert_eq!(wrong(|it| it.group_bytes_max = 0), "group_bytes_max");
    assert_eq!(wrong(|it| it.groups_in_flight = 0), "groups_in_flight");
    assert_eq!(wrong(|it| it.queue_bytes_max = 0), "queue_bytes_max");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, b"").unwrap();
    match Store::open(&path, &small()).err().unwrap() {
        Error::Folder { path: named, .. } => assert_eq!(named, path),
        other => panic!("{other}"),
    }
}

#[test]
fn a_segment_size_may_change_between_openings() {
    let disk = Simulated::new(5);
    let mut model = Vec::new();
    let mut disk_now = disk.clone();
    for segment_bytes in [32 << 10, 128 << 10, 64 << 10] {
        let options = Options { segment_bytes, ..small() };
        let (store, _) = Store::open_inline(Box::new(disk_now.clone()), &options).unwrap();
        for _ in 0..20 {
            let next = record(model.len() as u64, 5000);
            model.push(plain(&next));
            store.append(vec![next], None).unwrap();
        }
        check(&store, &model);
        store.close().unwrap();
        disk_now = disk_now.restart();
    }
    let (store, recovery) = Store::open_inline(Box::new(disk_now), &small()).unwrap();
    assert!(recovery.clean);
    check(&store, &model);
}

#[test]
fn a_failed_call_poisons_for_good_and_reopening_recovers() {
    let errors = [5, 28, 4, 11, 22].map(Fault::Error);
    for fault in errors.into_iter().chain([Fault::Short]) {
        for ahead in 0..4 {
            let disk = Simulated::new(11);
            let (store, _) = Store::open_inline(Box::new(disk.clone()), &small()).unwrap();
            for number in 0..3 {
                store.append(vec![record(number, 3000)], None).unwrap();
            }
            disk.fail_at(disk.calls() + ahead, fault);
            let failed = (3..9)
                .find(|number| {
                    let (send, receive) = mpsc::sync_channel(1);
                    let done: Done = Box::new(move |result| send.send(result.is_ok()).unwrap());
                    let result = store.append(vec![record(*number, 3000)], Some(done));
                    assert_eq!(receive.try_recv().unwrap(), result.is_ok());
                    match result {
                        Ok(_) => false,
                        Err(Error::Poisoned { segment: 0, offset, .. }) => offset > 0,
                        Err(other) => panic!("{other}"),
                    }
                })
                .expect("one of the calls meets the fault");
            assert_eq!(store.durable(), failed);
            let again = store.append(vec![record(99, 10)], None);
            assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
            assert!(store.clone().close().is_err());
            let disk = disk.restart();
            let (store, recovery) = Store::open_inline(Box::new(disk.clone()), &small()).unwrap();
            assert!(recovery.records == failed || recovery.records == failed + 1);
            // What recovery accepted survives the power cut that follows, too.
            drop(store);
            let (store, after) = Store::open_inline(Box::new(disk.crash()), &small()).unwrap();
            assert_eq!((after.records, after.cut), (recovery.records, None));
            assert_eq!(store.records().count() as u64, recovery.records);
        }
    }
}

#[test]
fn real_errors_of_write_and_sync_reach_the_completion_on_both_backends() {
    // Writes to the one end in ENOSPC; the other takes them but cannot sync.
    for (target, reason) in [("/dev/full", "No space left"), ("/dev/null", "Invalid argument")] {
        for backend in backends() {
            let directory = tempfile::tempdir().unwrap();
            let options = Options { backend, ..small() };
            let path = directory.path().join("0000000000000000.seg");
            let mut disk = crate::disk::open(directory.path(), &options).unwrap();
            disk.lock().unwrap();
            std::os::unix::fs::symlink(target, &path).unwrap();
            let write =
                crate::Write { ticket: 1, segment: 0, offset: 4096, bytes: vec![1; 4096].into() };
            disk.submit(write);
            let mut done = Vec::new();
            disk.complete(&mut done);
            let error = done.pop().unwrap().result.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}

#[test]
fn waiting_and_appending_end_when_the_writer_fails() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { queue_bytes_max: 100 << 10, ..small() };
    let (store, _) = Store::open(directory.path(), &options).unwrap();
    // The second segment cannot be made in a folder that is gone.
    std::fs::remove_dir_all(directory.path()).unwrap();
    let (send, receive) = mpsc::sync_channel(1000);
    let failed = (0..1000).find_map(|number| {
        let send = send.clone();
        let done: Done = Box::new(move |result| send.send(result).unwrap());
        store.append(vec![record(number, 3000)], Some(done)).err()
    });
    let failed = failed.expect("the segment fills up");
    assert!(matches!(failed, Error::Poisoned { segment: 1, offset: 0, .. }), "{failed}");
    drop(send);
    let results: Vec<_> = receive.iter().collect();
    let durable = results.iter().take_while(|result| result.is_ok()).count();
    assert!(results[durable..].iter().all(Result::is_err));
    assert_eq!(store.durable(), durable as u64);
    assert!(matches!(store.wait(Ticket(durable as u64 + 1)), Err(Error::Poisoned { .. })));
    assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
}

#[test]
fn a_full_disk_is_an_error_and_leaves_the_store_whole() {
    let disk = Simulated::new(2);
    let (store, _) = Store::open_inline(Box::new(disk.clone()), &small()).unwrap();
    disk.limit(64 << 10);
    let mut count = 0;
    while store.append(vec![record(count, 4000)], None).is_ok() {
        count += 1;
    }
    drop(store);
    let disk = disk.crash();
    let refused = Store::open_inline(Box::new(disk.clone()), &small()).err();
    assert!(matches!(refused, Some(Error::Poisoned { segment: 1, .. })), "{refused:?}");
    disk.limit(u64::MAX);
    let (store, recovery) = Store::open_inline(Box::new(disk.clone()), &small()).unwrap();
    assert_eq!(recovery.records, count);
    store.append(vec![record(count, 4000)], None).unwrap();
}

#[test]
fn a_store_waits_for_room_and_goes_on_by_itself_and_can_be_closed_meanwhile() {
    let disk = Simulated::new(2);
    for ends in [false, true] {
        let disk = if ends { disk.restart() } else { disk.clone() };
        disk.limit(u64::MAX);
        let (log, pipe, recovery) = start(Box::new(disk.clone()), &small(), true).unwrap();
        let running = Arc::clone(&log);
        let thread = thread::spawn(move || run(&running, pipe, || {}).unwrap());
        let id = thread.thread().id();
        let mode = Mode::Thread(Mutex::new(Some(thread)), id);
        let store = Store { inner: Arc::new(Inner { log, mode }) };
        disk.limit(0);
        let mut next = recovery.records;
        let mut last = None;
        while !store.is_full() {
            // Less than the queue takes: nobody waits here.
            last = Some(store.append(vec![record(next, 4000)], None).unwrap());
            next += 1;
            thread::yield_now();
        }
        let last = last.unwrap();
        assert!(store.durable() < last.records());
        let place = store.find(1, &record(1, 0).key).unwrap();
        assert_eq!(store.read(place).unwrap(), body(1, 4000), "what is there can be read");
        if ends {
            let error = store.close().unwrap_err();
            assert!(matches!(&error, Error::Poisoned { .. }), "{error}");
        } else {
            disk.limit(u64::MAX);
            store.wait(last).unwrap();
            assert!(!store.is_full());
            store.close().unwrap();
        }
    }
    disk.restart().limit(u64::MAX);
    let (store, _) = Store::open_inline(Box::new(disk.restart()), &small()).unwrap();
    for (found, number) in store.records().zip(0..) {
        assert_eq!(found.unwrap().2, body(number, 4000));
    }
}

#[test]
fn a_failing_medium_is_an_error_of_the_read() {
    let disk = Simulated::new(2);
    let (store, _) = Store::open_inline(Box::new(disk.clone()), &small()).unwrap();
    store.append(vec![record(1, 100)], None).unwrap();
    let place = store.find(1, &record(1, 0).key).unwrap();
    disk.fail_reads(true);
    assert!(matches!(store.read(place), Err(Error::Disk { segment: 0, .. })));
    assert!(matches!(store.records().next(), Some(Err(Error::Disk { .. }))));
    disk.fail_reads(false);
    assert_eq!(store.read(place).unwrap(), body(1, 100));
    // Rot before the group's first reading would be seen; this group was read.
    store.append(vec![record(2, 100)], None).unwrap();
    let other = store.find(2, &record(2, 0).key).unwrap();
    disk.rot(0, other.offset + 60, 4);
    assert!(matches!(store.read(other), Err(Error::Corrupt { .. })));
}

#[test]
fn sealed_segments_are_read_through_maps_and_damage_is_seen_there() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), &small()).unwrap();
    let model: Vec<_> = (0..60).map(|number| record(number, 3000)).collect();
    let ticket = store.append(model.clone(), None).unwrap();
    store.wait(ticket).unwrap();
    let model: Vec<_> = model.iter().map(plain).collect();
    let place = store.find(1, &record(1, 0).key).unwrap();
    assert_eq!(place.segment, 0);
    let path = directory.path().join("0000000000000000.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = usize::try_from(place.offset).unwrap() + 70;
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    for error in [store.read(place).err(), store.view(place).map(drop).err()] {
        match error {
            Some(Error::Corrupt { segment: 0, offset, what: crate::Damage::Hash }) => {
                assert!(offset < place.offset);
            }
            other => panic!("{other:?}"),
        }
    }
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    check(&store, &model);
    // Not in the first place either: what is not this record's place is no record.
    let inside = Place { offset: place.offset + 8, ..place };
    assert!(matches!(store.view(inside).map(drop), Err(Error::NoRecord { .. })));
    // A view outlives the store.
    let view = store.view(place).unwrap();
    store.close().unwrap();
    assert_eq!(&*view, body(1, 3000));
}

#[test]
fn heights_without_key_and_keys_without_height_are_kept_apart() {
    let (store, _) = Store::open_inline(Box::new(Simulated::new(0)), &small()).unwrap();
    let plain = Record { kind: 0, height: NO_HEIGHT, key: [0; 32], body: vec![1].into() };
    store.append(vec![plain.clone(), Record { height: 3, ..plain }], None).unwrap();
    assert_eq!(store.find(0, &[0; 32]), None);
    assert_eq!(store.at_height(0, NO_HEIGHT), None);
    assert_eq!(store.last_height(0), Some(3));
    assert_eq!(store.records().count(), 2);
}
