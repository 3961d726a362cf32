//! Every kind of damage, forged with right hashes where a hash would give it away.

use std::sync::Arc;

use super::*;
use crate::disk::{Fault, Simulated};
use crate::frame::{Content, LINK_BYTES};
use crate::record::{Place, Record};
use crate::testing::{NETWORK, record};
use crate::{Options, Store};

const SEGMENT_BYTES: u64 = 64 << 10;
const EPOCH: u64 = 99;

/// Writes groups with any header, each linked to the one before.
struct Forge {
    disk: Simulated,
    header: Header,
    lines: Vec<Line>,
    /// Where the segment before is sealed.
    sealed_at: u64,
}

impl Forge {
    /// A store of one segment with its opening group.
    fn new() -> Self {
        let mut disk = Simulated::new(4);
        disk.create(0, SEGMENT_BYTES).unwrap();
        let header = Header {
            kind: Kind::Open,
            count: 0,
            network: NETWORK,
            epoch: EPOCH,
            segment: 0,
            segment_bytes: SEGMENT_BYTES,
            offset: 0,
            durable: 0,
            first_record: 0,
            payload_bytes: 0,
            previous: [0; 32],
        };
        let mut forge = Self { disk, header, lines: Vec::new(), sealed_at: 0 };
        forge.open();
        forge
    }

    fn open(&mut self) {
        self.header.kind = Kind::Open;
        self.header.count = 0;
        self.header.payload_bytes = LINK_BYTES;
        self.lines.clear();
        let (header, link) = (self.header.clone(), self.sealed_at);
        self.put(&header, &Content::Link(link));
    }

    /// Writes a group and links what follows to it.
    fn put(&mut self, header: &Header, content: &Content<'_>) {
        let mut bytes = Vec::new();
        self.header.previous = frame::encode(header, content, &mut bytes);
        self.lines.push(Line::new(header, self.header.previous));
        self.header.durable = self.header.offset;
        self.write(self.header.offset, bytes);
        self.header.offset += self.header.group_bytes();
        self.header.first_record += u64::from(self.header.count);
    }

    /// Adds a group, its header changed before it is hashed; what follows links to it.
    fn group(&mut self, kind: Kind, records: &[Record], change: impl Fn(&mut Header)) {
        let records: Vec<_> = records.iter().cloned().map(Arc::new).collect();
        let sizes = records.iter().map(|record| frame::record_bytes(record.body.size() as u64));
        self.header.kind = kind;
        self.header.count = u32::try_from(records.len()).unwrap();
        self.header.payload_bytes = sizes.sum();
        let mut header = self.header.clone();
        change(&mut header);
        self.put(&header, &Content::Records(&records));
    }

    fn seal(&mut self, entries: &[Entry]) {
        self.header.kind = Kind::Seal;
        self.header.count = 0;
        let lines = self.lines.clone();
        self.header.payload_bytes = frame::index_bytes(lines.len() as u64, entries.len() as u64);
        self.sealed_at = self.header.offset;
        let header = self.header.clone();
        self.put(&header, &Content::Index(&lines, entries));
    }

    /// Begins the next segment.
    fn next(&mut self) {
        self.header.segment += 1;
        self.disk.create(self.header.segment, SEGMENT_BYTES).unwrap();
        self.header.offset = 0;
        self.header.durable = 0;
        self.header.epoch += 1;
        self.open();
    }

    fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        self.disk.submit(Write {
            ticket: 0,
            segment: self.header.segment,
            offset,
            bytes: bytes.into(),
        });
        self.disk.complete(&mut Vec::new());
    }

    fn scan(&mut self) -> Result<Scanned, Error> {
        self.scan_to(Depth::All)
    }

    fn scan_to(&mut self, depth: Depth) -> Result<Scanned, Error> {
        let segments = self.disk.segments().unwrap();
        scan(&segments, &Anchor::default(), Some(NETWORK), depth, |number| self.disk.open(number))
    }

    /// The damage that a scan names.
    fn damage(&mut self) -> (u64, u64, Damage) {
        self.damage_to(Depth::All)
    }

    fn damage_to(&mut self, depth: Depth) -> (u64, u64, Damage) {
        match self.scan_to(depth).err() {
            Some(Error::Corrupt { segment, offset, what }) => (segment, offset, what),
            other => panic!("{other:?}"),
        }
    }
}

fn one() -> [Record; 1] {
    [record(1, 500)]
}

fn entry(number: u64, offset: u64) -> Entry {
    let record = record(number, 500);
    Entry { header: record.header(), offset: offset + HEADER_BYTES, bytes: 500 }
}

#[test]
fn what_is_forged_well_is_taken() {
    let mut forge = Forge::new();
    forge.group(Kind::Records, &one(), |_| {});
    forge.group(Kind::Close, &[], |_| {});
    forge.group(Kind::Records, &[record(2, 500)], |_| {});
    forge.seal(&[entry(1, 4096), entry(2, 3 * 4096)]);
    forge.next();
    forge.group(Kind::Close, &[], |_| {});
    let recovery = Recovery {
        records: 2,
        bytes: 7 * 4096,
        groups: 7,
        segments: 2,
        clean: true,
        ..Recovery::default()
    };
    for depth in [Depth::All, Depth::Tail] {
        let scanned = forge.scan_to(depth).unwrap();
        assert_eq!(scanned.recovery, recovery);
        assert_eq!((scanned.end.segment, scanned.end.offset, scanned.end.epoch), (1, 8192, 100));
        assert_eq!((scanned.end.seal, scanned.end.lines.len()), (4 * 4096, 2));
        let found = scanned.catalog.index.find(2, &record(2, 0).key).unwrap();
        assert_eq!((found.segment, found.offset), (0, 3 * 4096 + HEADER_BYTES));
    }
}

/// Three segments: the first two are sealed.
fn sealed_twice() -> Forge {
    let mut forge = Forge::new();
    for _ in 0..2 {
        forge.group(Kind::Records, &one(), |_| {});
        forge.seal(&[entry(1, 4096)]);
        forge.next();
    }
    forge
}

#[test]
fn of_sealed_segments_the_opening_and_the_index_are_read_and_no_more() {
    let mut forge = sealed_twice();
    // Records are checked when they are read.
    forge.disk.rot(0, 4096 + 150, 1);
    let scanned = forge.scan_to(Depth::Tail).unwrap();
    assert_eq!((scanned.recovery.records, scanned.recovery.segments), (2, 3));
    let place = scanned.catalog.index.find(1, &record(1, 0).key).unwrap();
    assert_eq!(place.segment, 1, "the newest of equals");
    let damaged = Place { segment: 0, ..place };
    let read = scanned.catalog.locate(damaged).unwrap().read(damaged);
    assert!(matches!(read, Err(Error::Corrupt { segment: 0, offset: 4096, .. })), "{read:?}");
    assert_eq!(forge.damage(), (0, 4096, Damage::Hash));
    // Openings and indexes are read now, and each byte of them is covered.
    for (segment, at, place, what) in [
        (0, 40, 0, Damage::Hash),
        (1, 137, 0, Damage::Hash),
        (0, 8192 + 3, 8192, Damage::Magic),
        (1, 8192 + 200, 8192, Damage::Hash),
        (1, 8192 + 4000, 8192, Damage::Padding),
    ] {
        let mut forge = sealed_twice();
        forge.disk.rot(segment, at, 1);
        assert_eq!(forge.damage_to(Depth::Tail), (segment, place, what), "{segment} {at}");
    }
}

#[test]
fn an_opening_that_names_no_seal_is_damage() {
    for (link, what) in [
        (0, Damage::Link),
        (4096, Damage::Misplaced),
        (4097, Damage::Link),
        (1 << 20, Damage::Link),
    ] {
        let mut forge = Forge::new();
        forge.group(Kind::Records, &one(), |_| {});
        forge.seal(&[entry(1, 4096)]);
        forge.sealed_at = link;
        forge.next();
        let (segment, offset) = if what == Damage::Link { (1, 0) } else { (0, link) };
        assert_eq!(forge.damage_to(Depth::Tail), (segment, offset, what), "{link}");
        assert_eq!(forge.damage(), (1, 0, Damage::Link));
    }
    // A seal that the next opening does not vouch for, and numbers that do not continue.
    let mut forge = Forge::new();
    forge.seal(&[]);
    forge.header.previous[0] ^= 1;
    forge.next();
    assert_eq!(forge.damage_to(Depth::Tail), (0, 4096, Damage::Link));
    let mut forge = Forge::new();
    forge.group(Kind::Records, &one(), |_| {});
    forge.seal(&[entry(1, 4096)]);
    forge.header.first_record += 1;
    forge.next();
    assert_eq!(forge.damage_to(Depth::Tail), (0, 8192, Damage::Index));
}

#[test]
fn a_right_hash_does_not_excuse_a_wrong_header() {
    type Change = fn(&mut Header);
    let changes: [(Change, Damage); 9] = [
        (|it| it.segment_bytes *= 2, Damage::Size),
        (|it| it.segment += 1, Damage::Misplaced),
        (|it| it.offset += 4096, Damage::Misplaced),
        (|it| it.epoch += 1, Damage::Misplaced),
        (|it| it.previous[0] ^= 1, Damage::Link),
        (|it| it.durable += 4096 * 4, Damage::Link),
        (|it| it.first_record += 1, Damage::Numbers),
        (|it| it.count += 1, Damage::Numbers),
        (|it| it.kind = Kind::Open, Damage::Kind),
    ];
    for (change, what) in changes {
        let mut forge = Forge::new();
        forge.group(Kind::Records, &one(), |_| {});
        forge.group(Kind::Records, &one(), change);
        assert_eq!(forge.damage(), (0, 8192, what));
    }
    let mut forge = Forge::new();
    forge.group(Kind::Records, &one(), |it| it.kind = Kind::Close);
    assert_eq!(forge.damage(), (0, 4096, Damage::Length));
}

#[test]
fn another_network_inside_a_store_is_named() {
    let mut forge = Forge::new();
    forge.group(Kind::Records, &one(), |it| it.network = [1; 32]);
    match forge.scan().err() {
        Some(Error::OtherNetwork { segment: 0, offset: 4096, found, expected }) => {
            assert_eq!((found, expected), ([1; 32], NETWORK));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_index_that_lies_is_damage() {
    for entries in [vec![], vec![entry(2, 4096)], vec![entry(1, 4096), entry(1, 4096)]] {
        let mut forge = Forge::new();
        forge.group(Kind::Records, &one(), |_| {});
        forge.seal(&entries);
        assert_eq!(forge.damage(), (0, 8192, Damage::Index));
    }
}

#[test]
fn nothing_but_zeros_follows_a_seal() {
    let mut forge = Forge::new();
    forge.seal(&[]);
    forge.disk.rot(0, 40_000, 1);
    assert_eq!(forge.damage(), (0, 8192, Damage::Unused));
}

#[test]
fn a_later_segment_proves_that_an_earlier_one_was_whole() {
    let mut forge = Forge::new();
    forge.group(Kind::Records, &one(), |_| {});
    forge.seal(&[entry(1, 4096)]);
    forge.next();
    forge.disk.rot(0, 8192, 1);
    assert_eq!(forge.damage(), (0, 8192, Damage::Magic));
    let mut forge = Forge::new();
    forge.next();
    assert_eq!(forge.damage(), (0, 4096, Damage::Unsealed));
}

#[test]
fn a_segment_full_of_groups_without_a_seal_is_damage() {
    let mut forge = Forge::new();
    for _ in 0..15 {
        forge.group(Kind::Records, &one(), |_| {});
    }
    assert_eq!(forge.damage(), (0, SEGMENT_BYTES - 4096, Damage::Unsealed));
}

#[test]
fn damage_is_told_from_an_unfinished_write_by_what_later_groups_knew() {
    // The second group was begun when the first was durable: the first is damaged.
    let mut forge = Forge::new();
    forge.group(Kind::Records, &one(), |_| {});
    forge.group(Kind::Records, &one(), |it| it.durable = 8192);
    forge.disk.rot(0, 4096 + 200, 1);
    assert_eq!(forge.damage(), (0, 4096, Damage::Hash));
    // Both were in flight: the first is an unfinished write, and the second goes with it.
    let mut forge = Forge::new();
    forge.group(Kind::Records, &one(), |_| {});
    forge.group(Kind::Records, &one(), |it| it.durable = 4096);
    forge.disk.rot(0, 4096 + 200, 1);
    let scanned = forge.scan().unwrap();
    let cut = Some(Cut { segment: 0, offset: 4096, bytes: 8192 });
    assert_eq!((scanned.recovery.cut, scanned.recovery.records), (cut, 0));
    // The likeness of a later group, made by someone who does not know the epoch, proves nothing.
    let mut forge = Forge::new();
    forge.group(Kind::Records, &one(), |_| {});
    forge.group(Kind::Records, &one(), |it| (it.durable, it.epoch) = (8192, 1));
    forge.disk.rot(0, 4096 + 200, 1);
    assert_eq!(forge.scan().unwrap().recovery.cut, cut);
}

#[test]
fn a_torn_opening_is_cut_only_when_nothing_follows() {
    let mut forge = Forge::new();
    forge.disk.rot(0, 20, 1);
    let cut = Some(Cut { segment: 0, offset: 0, bytes: 4096 });
    assert_eq!(forge.scan().unwrap().recovery.cut, cut);
    let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::new(NETWORK) };
    let (store, recovery) = Store::open_inline(Box::new(forge.disk.clone()), &options).unwrap();
    assert_eq!(recovery.cut, cut);
    store.append(vec![record(1, 5)], None).unwrap();
    drop(store);
    assert_eq!(forge.scan().unwrap().recovery.records, 1);
    forge.disk.rot(0, 20, 1);
    assert_eq!(forge.damage(), (0, 0, Damage::Hash));
}

#[test]
fn malformed_groups_are_named_for_what_is_wrong() {
    // (byte of the group, damage): the first thing that a reader meets.
    let places = [
        (0, Damage::Magic),
        (8, Damage::Version),
        (10, Damage::Kind),
        (11, Damage::Padding),
        (100, Damage::Length),
        (50, Damage::Hash),
        (4095, Damage::Padding),
    ];
    for (at, what) in places {
        let mut forge = Forge::new();
        forge.group(Kind::Records, &one(), |_| {});
        forge.group(Kind::Close, &[], |it| it.durable = 8192);
        forge.disk.rot(0, 4096 + at, 0x80);
        assert_eq!(forge.damage(), (0, 4096, what));
    }
    let mut forge = Forge::new();
    let mut odd = one();
    odd[0].body = vec![0; 8].into();
    forge.group(Kind::Records, &odd, |_| {});
    let mut bytes = Vec::new();
    let mut header = forge.header.clone();
    header.payload_bytes = frame::index_bytes(0, 1);
    header.kind = Kind::Records;
    frame::encode(&header, &Content::Index(&[], &[entry(1, 0)]), &mut bytes);
    forge.write(header.offset, bytes);
    assert_eq!(forge.damage(), (0, 8192, Damage::Record));
}

#[test]
fn settling_writes_the_tail_again_and_zeroes_what_was_torn() {
    let mut forge = Forge::new();
    forge.group(Kind::Records, &one(), |_| {});
    // A sync fails: the group stays in the cache and would be lost by the next power cut.
    forge.disk.fail_at(forge.disk.calls() + 1, Fault::Error(5));
    forge.group(Kind::Records, &[record(2, 3000)], |_| {});
    forge.write(forge.header.offset + 8192, vec![3; 512]);
    let scanned = forge.scan().unwrap();
    assert_eq!(scanned.recovery.records, 2);
    settle(&mut forge.disk, &scanned).unwrap();
    forge.disk = forge.disk.crash();
    let scanned = forge.scan().unwrap();
    assert_eq!((scanned.recovery.records, scanned.recovery.cut), (2, None));
}

#[test]
fn the_machine_s_errors_come_with_their_place() {
    let mut forge = Forge::new();
    forge.disk.fail_reads(true);
    let error = forge.scan().err();
    assert!(matches!(error, Some(Error::Disk { segment: 0, offset: 0, .. })), "{error:?}");
    let missing = scan(&[(0, SEGMENT_BYTES)], &Anchor::default(), None, Depth::All, |_| {
        Err(io::ErrorKind::NotFound.into())
    });
    assert!(matches!(missing.err(), Some(Error::Disk { action: "open", .. })));
    let empty =
        scan(&[], &Anchor::default(), None, Depth::All, |_| unreachable!("there is no segment"))
            .unwrap();
    assert!(empty.recovery.clean && empty.network.is_none());
}
