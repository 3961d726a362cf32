//! Checks of the audit of a store: a good one passes, and nothing that is wrong does.

use super::super::fixture::Fixture;
use super::*;
use crate::command::Code;
use crate::record;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const BLOCKS: u64 = 6;

fn judge() -> Judge {
    let options = sigverify::Options { backend: None, threads: 1 };
    Judge::new(Arc::new(sigverify::Verifier::new(&options).unwrap()))
}

fn check(data: &Path) -> Result<Verified, Exit> {
    let location = Location::find(data)?;
    let genesis = location.load_genesis(None)?;
    verify(&location, &genesis, &judge(), 2, &mut |_| {})
}

/// What the check of a changed ledger says.
fn finding(change: impl FnOnce(&mut Fixture)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(BLOCKS);
    change(&mut fixture);
    let exit = check(&fixture.store(folder.path())).unwrap_err();
    assert_eq!(exit.code(), Code::DataCorrupt, "{exit}");
    exit.message().split_once("ledger: ").unwrap().1.to_string()
}

#[test]
fn a_good_ledger_passes_wherever_it_is_pointed_at() {
    let folder = tempfile::tempdir().unwrap();
    let data = Fixture::new(BLOCKS).store(folder.path());
    for place in [&data, folder.path()] {
        let verified = check(place).unwrap();
        assert_eq!((verified.ledger.blocks, verified.ledger.transactions), (BLOCKS, 2 * BLOCKS));
        // Each block: two owners, two authors, three acks for each; three votes in every other.
        assert_eq!(verified.ledger.signatures, BLOCKS * (2 + 2 + 6) + BLOCKS / 2 * 3);
        assert!(verified.storage.clean);
    }
    run(&data, None, 1, false).unwrap();
    run(&data, None, 1, true).unwrap();
    // Segments alone need to be told which network they should be of.
    let exit = check(&data.join("ledger")).unwrap_err();
    assert!(exit.message().contains("give --genesis"), "{exit}");
    run(&data.join("ledger"), Some(&data.join("genesis.json")), 1, true).unwrap();
}

#[test]
fn progress_reaches_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let data = Fixture::new(BLOCKS).store(folder.path());
    let location = Location::find(&data).unwrap();
    let genesis = location.load_genesis(None).unwrap();
    let mut seen = Vec::new();
    let verified = verify(&location, &genesis, &judge(), 2, &mut |done| seen.push(done)).unwrap();
    assert_eq!(seen.len() as u64, BLOCKS);
    let last = seen.last().unwrap();
    assert_eq!((last.blocks, last.blocks_total), (BLOCKS, BLOCKS));
    assert_eq!(last.signatures, verified.ledger.signatures);
}

/// Used bytes of all segments: file and the offset after its last byte that is not zero.
fn segments(data: &Path) -> Vec<(PathBuf, u64)> {
    let mut files: Vec<(PathBuf, u64)> = std::fs::read_dir(data.join("ledger"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            (path, used as u64)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn no_flipped_byte_passes_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let data = Fixture::new(BLOCKS).store(folder.path());
    let segments = segments(&data);
    let used: u64 = segments.iter().map(|(_, used)| used).sum();
    let mut random = blake3::Hasher::new_derive_key("althing test flips").finalize_xof();
    for _ in 0..400 {
        let mut lot = [0; 9];
        random.fill(&mut lot);
        let (at, flip) = lot.split_first_chunk::<8>().unwrap();
        let mut at = u64::from_le_bytes(*at) % used;
        let (path, _) = segments
            .iter()
            .find(|(_, used)| {
                let is_here = at < *used;
                at -= if is_here { 0 } else { *used };
                is_here
            })
            .unwrap();
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ flip[0].max(1)], at).unwrap();
        let exit = check(&data).expect_err("a flipped byte passed");
        assert_eq!(exit.code(), Code::DataCorrupt, "{exit}");
        let message = exit.message();
        assert!(message.contains("segment ") && message.contains("offset "), "{message}");
        file.write_all_at(&byte, at).unwrap();
    }
    check(&data).unwrap();
}

#[test]
fn a_forged_record_with_good_hashes_is_named_with_its_height() {
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    assert!(
        finding(|fixture| fixture.replace(record::OUTCOMES, 3, last))
            .starts_with("height 3, outcome")
    );
    let certificate = finding(|fixture| fixture.replace(record::CERTIFICATE, 4, last));
    assert!(certificate.starts_with("height 4, certificate: "), "{certificate}");
    let cut = finding(|fixture| fixture.replace(record::CUT, 2, last));
    assert!(cut.starts_with("height 2, cut: "), "{cut}");
    let batch = finding(|fixture| {
        let record =
            fixture.records.iter_mut().filter(|record| record.kind == record::BATCH).nth(4);
        let record = record.unwrap();
        let mut body = record.body.bytes().to_vec();
        last(&mut body);
        record.body = body.into();
    });
    assert!(batch.starts_with("height 3, "), "{batch}");
}

#[test]
fn a_missing_record_is_named_with_its_height() {
    let without = |kind: u8, height: u64| {
        finding(|fixture| {
            fixture.records.retain(|record| (record.kind, record.height) != (kind, height));
        })
    };
    let cut = without(record::CUT, 3);
    assert_eq!(cut, "height 3, cut: missing, although later records exist");
    assert!(without(record::CUT, BLOCKS).starts_with(&format!("height {BLOCKS}, cut: missing")));
    assert!(without(record::OUTCOMES, 2).starts_with("height 2, outcomes: "));
    let tail = without(record::CERTIFICATE, BLOCKS);
    assert!(tail.contains("no finality certificate covers this block"), "{tail}");
    let batch = finding(|fixture| {
        let place = fixture.records.iter().rposition(|record| record.kind == record::BATCH);
        fixture.records.remove(place.unwrap());
    });
    assert!(batch.starts_with(&format!("height {BLOCKS}, lane 1 batch {BLOCKS}: ")), "{batch}");
    assert!(batch.contains("committed but absent"), "{batch}");
}

#[test]
fn another_network_s_genesis_is_a_configuration_error() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(2);
    let data = fixture.store(folder.path());
    let genesis = fixture.genesis.to_json().replace("fixture", "another");
    std::fs::write(data.join("genesis.json"), genesis).unwrap();
    let exit = check(&data).unwrap_err();
    assert_eq!(exit.code(), Code::Config, "{exit}");
    let exit = check(&folder.path().join("nowhere")).unwrap_err();
    assert_eq!(exit.code(), Code::Config);
    assert!(exit.message().contains("no ledger here"), "{exit}");
}

#[test]
fn a_ledger_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(2);
    let data = fixture.store(folder.path());
    let mut options = storage::Options::new(*fixture.genesis.digest().as_bytes());
    options.segment_bytes = 64 * 1024;
    options.backend = storage::Backend::Portable;
    let (store, _) = storage::Store::open(&data.join("ledger"), &options).unwrap();
    let exit = check(&data).unwrap_err();
    assert_eq!(exit.code(), Code::HostUnfit);
    assert!(exit.message().contains("stop the validator first"), "{exit}");
    store.close().unwrap();
    check(&data).unwrap();
}
