//! Every flipped byte is named, and reading changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::testing::{NETWORK, Random, compare, plain, record, small};
use crate::{Damage, Options, Store};

/// A small store, closed in good order, and what is in it.
fn written(options: &Options, calls: u64) -> (tempfile::TempDir, Vec<crate::testing::Plain>) {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(directory.path(), options).unwrap();
    let mut model = Vec::new();
    for call in 0..calls {
        let records = vec![record(call * 2, 700), record(call * 2 + 1, 40)];
        model.extend(records.iter().map(plain));
        let ticket = store.append(records, None).unwrap();
        store.wait(ticket).unwrap();
    }
    store.close().unwrap();
    (directory, model)
}

fn files(directory: &Path) -> BTreeMap<u64, (PathBuf, Vec<u8>)> {
    let segments = folder::segments(directory).unwrap();
    let named = segments.into_iter().map(|(number, _)| {
        let path = directory.join(format!("{number:016x}.seg"));
        let bytes = fs::read(&path).unwrap();
        (number, (path, bytes))
    });
    named.collect()
}

#[test]
fn a_reader_finds_what_was_written_and_changes_nothing() {
    let (directory, model) = written(&small(), 40);
    let before = files(directory.path());
    for network in [None, Some(NETWORK)] {
        let reader = Reader::open(directory.path(), network).unwrap();
        assert_eq!(reader.network(), Some(NETWORK));
        assert!(reader.recovery().clean);
        compare(
            reader.records(),
            &model,
            |place| reader.read(place).unwrap(),
            |kind, key| reader.find(kind, key),
            |kind, height| reader.at_height(kind, height),
        );
        assert_eq!(reader.last_height(1), Some(77));
    }
    assert_eq!(before, files(directory.path()));
    assert!(matches!(
        Reader::open(&directory.path().join("absent"), None),
        Err(Error::Folder { .. })
    ));
}

#[test]
fn a_thousand_flips_in_used_bytes_are_named_with_their_place() {
    let (directory, _) = written(&small(), 60);
    let verified = verify(directory.path(), Some(NETWORK)).unwrap();
    assert_eq!((verified.records, verified.clean), (120, true));
    let files = files(directory.path());
    let mut random = Random(3);
    let mut flips = 0;
    while flips < 1000 {
        let number = random.below(verified.segments);
        let (path, bytes) = &files[&number];
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() | 4095;
        let at = usize::try_from(random.below(used as u64 + 1)).unwrap();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << random.below(8);
        fs::write(path, &flipped).unwrap();
        let (segment, offset) = match verify(directory.path(), None).unwrap_err() {
            Error::Corrupt { segment, offset, .. } | Error::TornTail { segment, offset, .. } => {
                (segment, offset)
            }
            other => panic!("segment {number} byte {at}: {other}"),
        };
        assert_eq!(segment, number, "byte {at}");
        assert!(offset <= at as u64 && at as u64 - offset < 32 << 10, "{at} {offset}");
        fs::write(path, bytes).unwrap();
        flips += 1;
    }
    assert_eq!(verify(directory.path(), None).unwrap(), verified);
}

#[test]
fn every_byte_of_a_small_store_is_covered_used_or_not() {
    // `ALTHING_BITS=8` flips every bit; usually one in each byte.
    let bits: u32 = std::env::var("ALTHING_BITS").map_or(1, |bits| bits.parse().unwrap());
    let mut flips = 0;
    let options = Options { segment_bytes: 32 << 10, ..small() };
    let (directory, _) = written(&options, 7);
    let files = files(directory.path());
    let images: Vec<_> = files.values().map(|(_, bytes)| bytes.clone()).collect();
    let sizes: Vec<_> = (0..).zip(images.iter().map(|image| image.len() as u64)).collect();
    assert!(images.len() >= 2 && images[1].iter().any(|byte| *byte != 0));
    let source = Arc::new(Images(std::sync::Mutex::new(images.clone())));
    let scan = || {
        recover::scan(&sizes, &Anchor::default(), Some(NETWORK), Depth::All, |number| {
            Ok(Arc::new(Image(Arc::clone(&source), usize::try_from(number).unwrap())) as Arc<_>)
        })
    };
    let clean = scan().unwrap();
    let end = (clean.end.segment, clean.end.offset);
    for (number, image) in images.iter().enumerate() {
        for (at, bit) in (0..image.len()).flat_map(|at| (0..bits).map(move |bit| (at, bit))) {
            let flip = 1 << ((at as u64 + u64::from(bit)) % 8);
            source.0.lock().unwrap()[number][at] ^= flip;
            flips += 1;
            let place = (number as u64, at as u64);
            match scan() {
                Err(Error::Corrupt { segment, offset, .. }) => {
                    // Beyond the end of the newest segment, the first missing byte is named.
                    let named = (segment, offset) <= place || (segment, offset) == end;
                    assert!(named, "{place:?} {segment} {offset}");
                }
                // Only what came after the last durable group may look like an unfinished write.
                Ok(scanned) => {
                    let cut = scanned.recovery.cut.expect("no flip passes unseen");
                    assert!(place >= (end.0, end.1 - 4096), "{place:?} was cut");
                    assert!(cut.offset <= at as u64 && !scanned.recovery.clean);
                }
                Err(other) => panic!("{place:?}: {other}"),
            }
            source.0.lock().unwrap()[number][at] ^= flip;
        }
    }
    println!("{flips} flips, each of one bit, all seen");
}

/// Segments in memory, changed under the reader.
struct Images(std::sync::Mutex<Vec<Vec<u8>>>);

struct Image(Arc<Images>, usize);

impl Source for Image {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let images = self.0.0.lock().unwrap();
        buffer.copy_from_slice(&images[self.1][at..at + buffer.len()]);
        Ok(())
    }

    fn map(&self) -> io::Result<Option<crate::Map>> {
        Ok(None)
    }
}

#[test]
fn an_unfinished_write_is_told_not_cut() {
    let (directory, model) = written(&small(), 3);
    let (path, bytes) = files(directory.path()).remove(&0).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() | 4095;
    let mut torn = bytes.clone();
    torn[end + 1 + 9000] = 1;
    fs::write(&path, &torn).unwrap();
    match verify(directory.path(), None).unwrap_err() {
        Error::TornTail { segment: 0, offset, bytes } => {
            assert_eq!((offset, bytes), (end as u64 + 1, 3 * 4096));
        }
        other => panic!("{other}"),
    }
    let reader = Reader::open(directory.path(), None).unwrap();
    assert_eq!(reader.records().count(), model.len());
    assert_eq!(fs::read(&path).unwrap(), torn);
    // Opening it for writing does cut, and says so.
    let (store, recovery) = Store::open(directory.path(), &small()).unwrap();
    assert_eq!(recovery.cut, reader.recovery().cut);
    store.close().unwrap();
    assert!(verify(directory.path(), None).unwrap().clean);
}

#[test]
fn a_missing_or_shortened_segment_is_damage() {
    let (directory, _) = written(&small(), 60);
    let files = files(directory.path());
    let damage = |expected: (u64, Damage)| match verify(directory.path(), None).unwrap_err() {
        Error::Corrupt { segment, what, .. } => assert_eq!((segment, what), expected),
        other => panic!("{other}"),
    };
    for number in [0, 1] {
        let (path, bytes) = &files[&number];
        fs::remove_file(path).unwrap();
        damage((number, Damage::Missing));
        fs::write(path, &bytes[..bytes.len() - 4096]).unwrap();
        damage((number, Damage::Size));
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        damage((number, Damage::Size));
        fs::write(path, bytes).unwrap();
    }
    verify(directory.path(), None).unwrap();
}
