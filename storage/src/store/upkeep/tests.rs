//! Damage is found, repaired byte for byte, and never by wrong bodies; pruned and copied stores are whole.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::disk::{Fault, Simulated};
use crate::store::tests::check;
use crate::testing::{NETWORK, Plain, Random, body, plain, record, small};
use crate::{Options, Reader, Record, verify};

/// Some segments and a newest one that is not sealed.
fn model() -> Vec<Record> {
    let mut random = Random(9);
    (0..70).map(|number| record(number, usize::try_from(random.below(3000)).unwrap())).collect()
}

fn written(disk: &Simulated, model: &[Record]) -> Store {
    let (store, _) = Store::open_inline(Box::new(disk.clone()), &small()).unwrap();
    for records in model.chunks(3) {
        store.append(records.to_vec(), None).unwrap();
    }
    store
}

fn images(disk: &Simulated) -> Vec<Vec<u8>> {
    (0..).map_while(|number| disk.image(number)).collect()
}

/// Every durable group, as segment, offset and bytes.
fn groups(store: &Store) -> Vec<(u64, u64, u64)> {
    let mut found = Vec::new();
    let mut at = (0, 0);
    while let Some((segment, offset, bytes)) = store.catalog().group_from(at) {
        found.push((segment.number(), offset, bytes));
        at = (segment.number(), offset + bytes);
    }
    found
}

fn scrub(store: &Store) -> Vec<(u64, u64)> {
    let mut at = Scrub::default();
    while at.passes == 0 {
        store.scrub(&mut at, 5000);
    }
    store.damaged()
}

#[test]
fn a_pass_ends_though_the_store_grows_as_fast_as_it_is_scrubbed() {
    let store = written(&Simulated::new(3), &model());
    let before = groups(&store).len();
    let mut at = Scrub::default();
    for number in 0..2 * before as u64 {
        store.append(vec![record(1_000 + number, 900)], None).unwrap();
        store.scrub(&mut at, 1);
    }
    assert!(at.passes > 0, "{at:?} of {before} groups");
}

/// The bodies of a damaged group's records as the model has them.
fn bodies<'a>(damaged: &Damaged, model: &'a [Record]) -> Vec<&'a [u8]> {
    let same = |it: &crate::DamagedRecord| {
        let found = model.iter().find(|record| {
            let plain_body = it.header.key == [0; 32] && it.header.height == crate::NO_HEIGHT;
            record.header() == it.header
                && (!plain_body || it.found.as_deref() == Some(record.body.bytes()))
        });
        found.map_or(&[][..], |record| record.body.bytes())
    };
    damaged.records.iter().map(same).collect()
}

#[test]
fn damage_in_any_group_is_found_by_a_scrub_and_repaired_byte_for_byte() {
    let model = model();
    let disk = Simulated::new(1);
    let store = written(&disk, &model);
    let before = images(&disk);
    assert!(before.len() > 3 && scrub(&store).is_empty());
    let mut random = Random(4);
    let groups = groups(&store);
    for (number, (segment, offset, bytes)) in groups.iter().copied().enumerate() {
        // Within the header, and anywhere; where two rot at once, the body's record is asked for.
        let at = [offset + random.below(136), offset + random.below(bytes)];
        let bits = 1 << random.below(8);
        disk.rot(segment, at[number % 2], bits);
        assert_eq!(scrub(&store), [(segment, offset)], "{segment} {at:?}");
        let damaged = store.examine((segment, offset)).unwrap().expect("it is durable");
        assert_eq!((damaged.segment, damaged.offset, damaged.bytes), (segment, offset, bytes));
        let mut right: Vec<Vec<u8>> =
            bodies(&damaged, &model).into_iter().map(<[u8]>::to_vec).collect();
        for (right, it) in right.iter_mut().zip(&damaged.records) {
            if right.len() != it.bytes as usize {
                // Without key and height, and hit itself: the damage is undone by hand.
                *right = it.found.clone().unwrap();
                let place = offset..offset + bytes;
                assert!(place.contains(&at[number % 2]));
                let image = &before[usize::try_from(segment).unwrap()];
                let whole = &image[usize::try_from(offset).unwrap()..];
                let like = |window: &&[u8]| {
                    window.iter().zip(right.iter()).filter(|(a, b)| a != b).count() <= 1
                };
                *right = whole.windows(right.len()).find(like).unwrap().to_vec();
            }
        }
        let right: Vec<&[u8]> = right.iter().map(Vec::as_slice).collect();
        // Not by what is not the same: a byte more, a byte less, a byte that differs.
        if let Some(first) = right.first() {
            let mut other = first.to_vec();
            other[0] ^= 1;
            for wrong in [&other[..], &first[1..], &[&first[..], &[0]].concat()] {
                let mut wrongs = right.clone();
                wrongs[0] = wrong;
                assert!(!store.repair(&damaged, &wrongs).unwrap());
            }
            assert!(!store.repair(&damaged, &right[1..]).unwrap());
        } else {
            assert!(!store.repair(&damaged, &[&[]]).unwrap());
        }
        assert_eq!(store.damaged(), [(segment, offset)]);
        assert!(store.repair(&damaged, &right).unwrap(), "{segment} {offset}");
        assert_eq!(images(&disk), before, "{segment} {offset}");
        assert!(scrub(&store).is_empty());
    }
    let stats = store.stats();
    let all = groups.len() as u64;
    assert_eq!((stats.damaged_groups, stats.repaired_groups), (all, all));
    let plain: Vec<Plain> = model.iter().map(plain).collect();
    check(&store, &plain);
    assert_eq!(store.verify(0..u64::MAX).unwrap().records, model.len() as u64);
}

#[test]
fn every_reading_is_checked_and_damage_is_noted_wherever_it_is_met() {
    let model = model();
    let disk = Simulated::new(1);
    let store = written(&disk, &model);
    let place = store.find(1, &model[1].key).unwrap();
    let (segment, offset, _) = *groups(&store)
        .iter()
        .rfind(|(segment, offset, _)| (*segment, *offset) <= (place.segment, place.offset))
        .unwrap();
    disk.rot(place.segment, place.offset + 60, 2);
    for _ in 0..2 {
        assert!(matches!(store.read(place), Err(Error::Corrupt { .. })));
    }
    assert_eq!((store.damaged(), store.stats().damaged_groups), (vec![(segment, offset)], 1));
    assert!(store.records().any(|found| found.is_err()));
    let error = store.verify(0..9).unwrap_err();
    assert!(matches!(error, Error::Corrupt { segment: 0, .. }), "{error}");
    // A medium that does not answer is damage too; then nothing is known of the bodies.
    disk.fail_reads(true);
    let other = store.find(2, &model[2].key).unwrap();
    assert!(matches!(store.read(other), Err(Error::Disk { .. })));
    disk.fail_reads(false);
    assert!(store.damaged().len() <= 2);
}

#[test]
fn openings_and_seals_are_put_back_when_the_store_opens() {
    let model = model();
    let disk = Simulated::new(1);
    drop(written(&disk, &model));
    let disk = disk.restart();
    let (store, _) = Store::open_inline(Box::new(disk.clone()), &small()).unwrap();
    let (groups, last) = (groups(&store), store.catalog().newest().unwrap());
    drop(store);
    let mut frames = Vec::new();
    for pair in groups.windows(2) {
        if pair[0].1 == 0 {
            frames.push(pair[0]);
        }
        if pair[1].1 == 0 {
            frames.push(pair[0]);
        }
    }
    assert!(frames.len() as u64 == 2 * last + 1);
    let before = images(&disk);
    let mut random = Random(8);
    for (segment, offset, bytes) in frames {
        for _ in 0..20 {
            disk.rot(segment, offset + random.below(bytes), 1 << random.below(8));
            let disk = disk.restart();
            let opened = Store::open_inline(Box::new(disk.clone()), &small());
            let (store, recovery) =
                opened.unwrap_or_else(|error| panic!("{segment} {offset}: {error}"));
            assert_eq!((recovery.mended, recovery.records), (1, model.len() as u64));
            drop(store);
            assert_eq!(images(&disk.crash()), before, "{segment} {offset}");
        }
    }
}

#[test]
fn a_repair_that_fails_leaves_the_store_as_it_was() {
    let model = model();
    for fault in [Fault::Error(5), Fault::Short, Fault::PowerCut, Fault::Lost, Fault::Misdirected] {
        for ahead in 0..2 {
            let disk = Simulated::new(3);
            let store = written(&disk, &model);
            let place = store.find(1, &model[1].key).unwrap();
            disk.rot(place.segment, place.offset + 60, 2);
            let found = scrub(&store)[0];
            let damaged = store.examine(found).unwrap().unwrap();
            let right = bodies(&damaged, &model);
            disk.fail_at(disk.calls() + ahead, fault);
            let outcome = store.repair(&damaged, &right);
            // A sync that lies is not seen; everything else is an error.
            let lies = matches!(fault, Fault::Lost | Fault::Misdirected) && ahead == 1;
            assert_eq!(outcome.is_ok(), lies, "{fault:?} {ahead}: {outcome:?}");
            if fault == Fault::Misdirected && ahead == 0 {
                continue;
            }
            let disk = disk.crash();
            let (store, recovery) = Store::open_inline(Box::new(disk), &small()).unwrap();
            assert_eq!(recovery.records, model.len() as u64);
            if let Some(found) = scrub(&store).first() {
                let damaged = store.examine(*found).unwrap().unwrap();
                assert!(store.repair(&damaged, &right).unwrap());
            }
            check(&store, &model.iter().map(plain).collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_is_pruned_is_gone_and_the_rest_stays_through_a_power_cut_at_every_call() {
    let model = model();
    let mut cuts = 0;
    for ahead in 0..12 {
        for below in 1..5 {
            let disk = Simulated::new(ahead * 7 + below);
            let store = written(&disk, &model);
            let newest = store.catalog().newest().unwrap();
            assert!(newest >= 3);
            disk.fail_at(disk.calls() + ahead, Fault::PowerCut);
            let pruned = store.prune_below(below);
            let stays = below.min(newest);
            cuts += u64::from(pruned.is_err());
            if let Ok(pruned) = pruned {
                assert_eq!((pruned, store.prune_below(below).unwrap()), (stays, 0));
                pruned_store(&store, &model);
                store.append(vec![record(500, 900)], None).ok();
            }
            let disk = disk.crash();
            let (store, recovery) = Store::open_inline(Box::new(disk), &small()).unwrap();
            assert!(recovery.records >= model.len() as u64);
            let first = store.catalog().first;
            assert!(first == 0 || first == stays, "all or nothing: {first} of {stays}");
            pruned_store(&store, &model);
            store.append(vec![record(501, 900)], None).unwrap();
            assert!(scrub(&store).is_empty());
        }
    }
    assert!(cuts > 8, "{cuts}");
}

/// Compares a store that was pruned with the end of a model, records after it aside.
fn pruned_store(store: &Store, model: &[Record]) {
    let first = usize::try_from(store.catalog().first_record()).unwrap();
    let left: Vec<Plain> = model[first..].iter().map(plain).collect();
    let found: Vec<_> = store.records().map(Result::unwrap).take(left.len()).collect();
    let found: Vec<Plain> = found.into_iter().map(|(_, header, body)| (header, body)).collect();
    assert_eq!(found, left);
    for record in &model[..first] {
        assert_eq!(store.find(record.kind, &record.key), None);
        assert_eq!(store.at_height(record.kind, record.height), None);
    }
    for record in model[first..].iter().filter(|record| record.key != [0; 32]) {
        let place = store.find(record.kind, &record.key).unwrap();
        assert_eq!(store.read(place).unwrap(), record.body.bytes());
    }
}

fn segment_names(directory: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg" || end == "free"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_pruned_file_becomes_another_segment_unless_somebody_still_looks_at_it() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), &small()).unwrap();
    let fill = |from: u64| {
        for number in from..from + 60 {
            let ticket = store.append(vec![record(number, 3000)], None).unwrap();
            store.wait(ticket).unwrap();
        }
    };
    fill(0);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let names = segment_names(directory.path());
    let viewed = store.find(1, &record(1, 0).key).unwrap();
    assert_eq!(viewed.segment, 0);
    let view = store.view(viewed).unwrap();
    let inodes: Vec<u64> = names.iter().map(|path| inode(path)).collect();
    assert_eq!(store.prune_below(2).unwrap(), 2);
    let free: Vec<_> = segment_names(directory.path())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "free"))
        .collect();
    assert_eq!(free.iter().map(|path| inode(path)).collect::<Vec<_>>(), inodes[1..2]);
    fill(100);
    assert_eq!(&*view, body(1, 3000), "what is looked at stays");
    let names = segment_names(directory.path());
    assert!(names.iter().any(|path| inode(path) == inodes[1]), "the file is used again");
    assert!(names.iter().all(|path| path.extension().is_some_and(|end| end == "seg")));
    store.close().unwrap();
    let verified = verify(directory.path(), Some(NETWORK)).unwrap();
    assert!(verified.clean);
    let reader = Reader::open(directory.path(), None).unwrap();
    assert_eq!(reader.records().count() as u64, verified.records);
    // Without the file that says where it begins, or with another, it is no store.
    let first = directory.path().join("FIRST");
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[1..]).unwrap();
    assert!(matches!(Store::open(directory.path(), &small()), Err(Error::Anchor)));
    fs::remove_file(&first).unwrap();
    let error = Store::open(directory.path(), &small()).err().unwrap();
    assert!(matches!(error, Error::Corrupt { segment: 0, what: Damage::Missing, .. }), "{error}");
}

#[test]
fn a_snapshot_is_a_store_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("store"), &small()).unwrap();
    let model: Vec<Record> = (0..50).map(|number| record(number, 3000)).collect();
    let none = directory.path().join("copies/none");
    assert_eq!(store.snapshot(&none).unwrap(), 0, "there is nothing to be in it");
    let copy = directory.path().join("copies/one");
    store.append(model.clone(), None).unwrap();
    let linked = store.snapshot(&copy).unwrap();
    assert!(linked > 2);
    assert!(matches!(store.snapshot(&copy), Err(Error::Folder { .. })), "never over another one");
    store.append(vec![record(700, 3000)], None).unwrap();
    // What was linked is not zeroed for another segment.
    assert_eq!(store.prune_below(2).unwrap(), 2);
    let plain: Vec<Plain> = model.iter().map(plain).collect();
    for options in [small(), Options { segment_bytes: 128 << 10, ..small() }] {
        let (other, recovery) = Store::open(&copy, &options).unwrap();
        assert_eq!((recovery.records, recovery.cut), (model.len() as u64, None));
        check(&other, &plain);
        other.close().unwrap();
    }
    assert!(verify(&copy, Some(NETWORK)).unwrap().clean);
    // Of a pruned store too.
    let copy = directory.path().join("copies/two");
    store.snapshot(&copy).unwrap();
    store.close().unwrap();
    let reader = Reader::open(&copy, Some(NETWORK)).unwrap();
    assert_eq!(reader.recovery().records, 51);
    assert!(verify(&copy, Some(NETWORK)).is_ok());
    verify(&directory.path().join("store"), Some(NETWORK)).unwrap();
}

#[test]
fn a_damaged_index_does_not_keep_the_groups_before_it_from_being_repaired() {
    let model: Vec<Record> = (0..70).map(|number| record(number * 3 + 1, 1500)).collect();
    let disk = Simulated::new(1);
    let store = written(&disk, &model);
    let before = images(&disk);
    let first: Vec<_> = groups(&store).into_iter().filter(|(segment, ..)| *segment == 0).collect();
    let (seal, others) = first.split_last().unwrap();
    assert!(others.len() > 5);
    for (segment, offset, bytes) in others {
        disk.rot(*segment, offset + bytes / 3, 4);
    }
    // In the header, in the counts, in the line of the opening group, which is not damaged; the line
    // of a group or record that is would be too much.
    for at in [16, 104, 136, 144, 136 + 16 + 4] {
        disk.rot(seal.0, seal.1 + at, 8);
    }
    disk.rot(others[0].0, others[0].1 + others[0].2 / 3, 4);
    assert_eq!(scrub(&store).len(), first.len() - 1);
    let mut rounds = 0;
    while !store.damaged().is_empty() {
        for place in store.damaged() {
            if let Ok(Some(damaged)) = store.examine(place) {
                let right: Vec<&[u8]> = damaged
                    .records
                    .iter()
                    .map(|it| {
                        let same = |record: &&Record| record.header() == it.header;
                        model.iter().find(same).map_or(&[][..], |record| record.body.bytes())
                    })
                    .collect();
                store.repair(&damaged, &right).unwrap();
            }
        }
        rounds += 1;
        assert!(rounds < 4, "{:?}", store.damaged());
    }
    assert!(images(&disk) == before);
}

#[test]
fn a_group_whose_line_is_wrong_too_is_refused_and_no_wrong_one_is_written() {
    let model = model();
    for (is_group, byte, bits) in [(true, 0, 0x10), (true, 4, 3), (true, 8, 1), (false, 0, 0x40)] {
        let disk = Simulated::new(1);
        let store = written(&disk, &model);
        let first: Vec<_> =
            groups(&store).into_iter().filter(|(segment, ..)| *segment == 0).collect();
        let (seal, others) = first.split_last().unwrap();
        let victim = others[2];
        disk.rot(0, victim.1 + victim.2 / 3, 4);
        let line = if is_group { 2 } else { others.len() as u64 + 6 };
        disk.rot(0, seal.1 + 136 + 16 + 56 * line + byte, bits);
        let before = images(&disk);
        for place in scrub(&store) {
            if let Ok(Some(damaged)) = store.examine(place) {
                let found: Vec<Vec<u8>> =
                    damaged.records.iter().map(|it| it.found.clone().unwrap_or_default()).collect();
                let found: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
                assert!(!store.repair(&damaged, &found).unwrap());
            }
        }
        assert!(images(&disk) == before);
    }
}

#[test]
fn a_whole_group_over_a_seal_is_damage_while_it_runs_and_when_it_opens() {
    let model: Vec<Record> = (0..70)
        .map(|number| record(number * 3 + 1, if number % 7 == 3 { 7000 } else { 200 }))
        .collect();
    let disk = Simulated::new(1);
    let store = written(&disk, &model);
    let first: Vec<_> = groups(&store).into_iter().filter(|(segment, ..)| *segment == 0).collect();
    let (seal, last) = (first[first.len() - 1], first[first.len() - 2]);
    let big = first.iter().find(|it| it.2 > last.2 && it.1 != seal.1).expect("a larger one");
    let image = &images(&disk)[0];
    let (from, to, size) = (big.1, last.1, usize::try_from(big.2).unwrap());
    for at in 0..size {
        let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
        let bits = image[from + at] ^ image[to + at];
        if bits != 0 {
            disk.rot(0, (to + at) as u64, bits);
        }
    }
    assert!(!scrub(&store).is_empty());
    for place in store.damaged() {
        // Damage, or nothing that could be told.
        let _ = store.examine(place);
    }
    drop(store);
    let error = Store::open_inline(Box::new(disk.restart()), &small()).err().expect("damage");
    assert!(matches!(error, Error::Corrupt { segment: 0, .. }), "{error}");
}

#[test]
fn a_snapshot_is_never_cut_and_one_that_lacks_a_segment_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let (store, _) = Store::open(&live, &small()).unwrap();
    store.append((0..40).map(|number| record(number, 3000)).collect(), None).unwrap();
    let copy = directory.path().join("copy");
    let linked = store.snapshot(&copy).unwrap();
    let newest = copy.join(format!("{:016x}.seg", linked - 1));
    let whole = fs::read(&newest).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut random = Random(6);
    for _ in 0..40 {
        let mut rotten = whole.clone();
        rotten[usize::try_from(random.below(used as u64)).unwrap()] ^= 1;
        fs::write(&newest, &rotten).unwrap();
        match Store::open(&copy, &small()) {
            Err(Error::Corrupt { .. }) => assert!(fs::read(&newest).unwrap() == rotten),
            Err(other) => panic!("{other}"),
            // The opening follows from its neighbours.
            Ok((_, recovery)) => assert_eq!((recovery.mended, recovery.cut), (1, None)),
        }
        fs::remove_file(copy.join(format!("{linked:016x}.seg"))).ok();
        fs::write(&newest, &whole).unwrap();
    }
    store.close().unwrap();
    assert!(verify(&live, Some(NETWORK)).unwrap().clean);
    fs::remove_file(&newest).unwrap();
    let error = Store::open(&copy, &small()).err().unwrap();
    assert!(matches!(error, Error::Corrupt { what: Damage::Missing, .. }), "{error}");
}

#[test]
fn what_is_closed_is_left_alone_and_a_reader_keeps_what_it_reads() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), &small()).unwrap();
    let fill = |store: &Store, from: u64| {
        for number in from..from + 60 {
            let ticket = store.append(vec![record(number, 3000)], None).unwrap();
            store.wait(ticket).unwrap();
        }
    };
    fill(&store, 0);
    let reader = Reader::open(directory.path(), None).unwrap();
    let place = reader.find(1, &record(1, 0).key).unwrap();
    let view = reader.view(place).unwrap();
    assert_eq!(store.prune_below(3).unwrap(), 3);
    fill(&store, 100);
    assert_eq!(&*view, body(1, 3000), "its file was not used again");
    assert!(scrub(&store).is_empty(), "what was pruned is no damage");
    assert!(matches!(store.read(place), Err(Error::NoRecord { .. })));
    let old = store.clone();
    store.close().unwrap();
    let (_store, _) = Store::open(directory.path(), &small()).unwrap();
    assert!(matches!(old.prune_below(9), Err(Error::Closed { .. })));
    assert!(matches!(old.snapshot(&directory.path().join("copy")), Err(Error::Closed { .. })));
}
