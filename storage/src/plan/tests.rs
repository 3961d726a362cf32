//! The plan against what a segment must look like, for random calls.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::{NETWORK, record};

/// Plays the calls, taking groups now and then, and returns all groups with the places given.
fn play(plan: &mut Plan, calls: &[(Vec<usize>, bool)]) -> (Vec<Group>, Vec<Vec<Place>>) {
    let (mut groups, mut places) = (Vec::new(), Vec::new());
    for (sizes, take) in calls {
        let records: Vec<_> = sizes.iter().map(|size| Arc::new(record(0, *size))).collect();
        places.push(plan.append(&records).unwrap());
        if *take {
            groups.extend(std::iter::from_fn(|| plan.pop()));
        }
    }
    plan.close();
    groups.extend(std::iter::from_fn(|| plan.pop()));
    (groups, places)
}

fn check(groups: &[Group], places: &[Vec<Place>], options: &Options) {
    let mut end = (0, 0);
    let mut records = 0;
    let mut entries: Vec<Entry> = Vec::new();
    let (mut groups_before, mut seal) = (0, 0);
    let mut found = Vec::new();
    let mut group_of = BTreeMap::new();
    for (number, group) in groups.iter().enumerate() {
        assert_eq!((group.segment, group.offset), end, "groups follow without a gap");
        assert_eq!(group.first_record, records);
        assert_eq!(group.kind == Kind::Open, group.offset == 0);
        let last = group.offset + group_bytes(group.payload_bytes);
        assert!(last <= options.segment_bytes);
        end = (group.segment, last);
        match group.kind {
            Kind::Open => {
                entries.clear();
                groups_before = 0;
                assert_eq!((group.seal, group.payload_bytes), (seal, LINK_BYTES));
            }
            Kind::Records => {
                assert!(!group.records.is_empty());
                let single = group.records.len() == 1;
                assert!(single || group.payload_bytes <= options.group_bytes_max as u64);
                let mut at = group.offset + frame::HEADER_BYTES;
                for record in &group.records {
                    let bytes = u32::try_from(record.body.size()).unwrap();
                    let entry = Entry { header: record.header(), offset: at, bytes };
                    entries.push(entry);
                    group_of.insert(entry.place(group.segment), number);
                    found.push(entry.place(group.segment));
                    at += size(record);
                }
                assert_eq!(at, group.offset + frame::HEADER_BYTES + group.payload_bytes);
                records += group.records.len() as u64;
            }
            Kind::Seal => {
                assert_eq!(group.entries, entries);
                assert_eq!(group.payload_bytes, index_bytes(groups_before, entries.len() as u64));
                seal = group.offset;
                end = (group.segment + 1, 0);
            }
            Kind::Close => assert_eq!(number, groups.len() - 1),
        }
        groups_before += 1;
        let room = group_bytes(index_bytes(groups_before, entries.len() as u64));
        assert!(group.kind == Kind::Seal || last + room <= options.segment_bytes);
    }
    assert_eq!(found, places.concat());
    for call in places {
        let bytes: u64 = call.iter().map(|place| record_bytes(u64::from(place.bytes))).sum();
        let room = options.segment_bytes - ALIGN - group_bytes(index_bytes(2, call.len() as u64));
        if bytes <= options.group_bytes_max as u64 && group_bytes(bytes) <= room {
            let groups: Vec<_> = call.iter().map(|place| group_of[place]).collect();
            assert!(groups.windows(2).all(|pair| pair[0] == pair[1]), "one call, one group");
        }
    }
}

proptest! {
    #[test]
    fn any_calls_fill_segments_in_order(
        calls in prop::collection::vec(
            (prop::collection::vec(0_usize..7000, 0..40), any::<bool>()),
            0..40,
        ),
        pages in 8_u64..40,
        group_bytes_max in 1_usize..20_000,
    ) {
        let options = Options {
            segment_bytes: pages * ALIGN,
            group_bytes_max,
            ..Options::new(NETWORK)
        };
        let mut plan = Plan::new(&options, Begin::default());
        let (groups, places) = play(&mut plan, &calls);
        check(&groups, &places, &options);
    }
}

#[test]
fn closing_twice_without_records_between_adds_nothing() {
    let options = Options { segment_bytes: 32 << 10, ..Options::new(NETWORK) };
    let mut plan = Plan::new(&options, Begin::default());
    plan.close();
    assert_eq!(std::iter::from_fn(|| plan.pop()).count(), 2);
    plan.close();
    assert!(plan.pop().is_none());
    plan.append(&[Arc::new(record(1, 1))]).unwrap();
    plan.close();
    assert_eq!(std::iter::from_fn(|| plan.pop()).count(), 2);
}

#[test]
fn a_sealed_end_begins_the_next_segment() {
    let options = Options { segment_bytes: 32 << 10, ..Options::new(NETWORK) };
    let begin = Begin {
        segment: 6,
        segment_bytes: Some(64 << 10),
        offset: 48 << 10,
        records: 9,
        sealed: true,
        seal: 40 << 10,
        ..Begin::default()
    };
    let mut plan = Plan::new(&options, begin);
    let group = plan.pop().unwrap();
    assert_eq!((group.kind, group.segment, group.offset), (Kind::Open, 7, 0));
    assert_eq!((group.segment_bytes, group.first_record, group.seal), (32 << 10, 9, 40 << 10));
}
