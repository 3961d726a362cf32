//! Helpers of the tests: records whose bytes follow from a number, and a model to compare with.

use crate::{NO_HEIGHT, Options, Place, Record, RecordHeader};

pub(crate) const NETWORK: [u8; 32] = [7; 32];

/// Options with the smallest segments, so that tests cross their borders.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 64 << 10,
        group_bytes_max: 8 << 10,
        groups_in_flight: 4,
        ..Options::new(NETWORK)
    }
}

/// A record that follows from its number: every third has no height, every fifth no key.
pub(crate) fn record(number: u64, size: usize) -> Record {
    let mut key = [0; 32];
    if !number.is_multiple_of(5) {
        key[..8].copy_from_slice(&number.to_le_bytes());
        key[31] = 1;
    }
    let height = if number.is_multiple_of(3) { NO_HEIGHT } else { number };
    let kind = u8::try_from(number % 4).unwrap();
    Record { kind, height, key, body: body(number, size).into() }
}

pub(crate) fn body(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..size).map(|at| u8::try_from((at as u64 * 31 + number) % 251).unwrap()));
    bytes.truncate(size.max(8));
    bytes
}

/// A generator for tests that any seed fits.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// What iteration gives for a record, less its place.
pub(crate) type Plain = (RecordHeader, Vec<u8>);

pub(crate) fn plain(record: &Record) -> Plain {
    (record.header(), record.body.bytes().to_vec())
}

/// Compares everything that can be asked about a store with a plain list of its records.
pub(crate) fn compare(
    found: impl Iterator<Item = Result<(Place, RecordHeader, Vec<u8>), crate::Error>>,
    model: &[Plain],
    mut read: impl FnMut(Place) -> Vec<u8>,
    find: impl Fn(u8, &[u8; 32]) -> Option<Place>,
    at_height: impl Fn(u8, u64) -> Option<Place>,
) {
    let found: Vec<_> = found.map(|found| found.expect("the store is whole")).collect();
    assert_eq!(found.len(), model.len(), "number of records");
    for ((place, header, body), (model_header, model_body)) in found.iter().zip(model) {
        assert_eq!((header, body), (model_header, model_body));
        assert_eq!(&read(*place), body);
    }
    for (header, _) in model {
        let same = |other: &RecordHeader| other.kind == header.kind;
        if header.key != [0; 32] {
            let last = found.iter().rfind(|(_, it, _)| same(it) && it.key == header.key);
            assert_eq!(find(header.kind, &header.key), last.map(|(place, _, _)| *place));
        }
        if header.height != NO_HEIGHT {
            let last = found.iter().rfind(|(_, it, _)| same(it) && it.height == header.height);
            assert_eq!(at_height(header.kind, header.height), last.map(|(place, _, _)| *place));
        }
    }
}
