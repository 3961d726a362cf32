//! Golden bytes, and every flipped bit of a group.

use std::sync::Arc;

use super::*;

fn header(kind: Kind, payload_bytes: u64, count: u32) -> Header {
    Header {
        kind,
        count,
        network: [0x11; 32],
        epoch: 0x2122_2324_2526_2728,
        segment: 3,
        segment_bytes: 1 << 16,
        offset: 8192,
        durable: 4096,
        first_record: 40,
        payload_bytes,
        previous: [0x55; 32],
    }
}

fn group() -> (Header, Vec<u8>, [u8; 32]) {
    let records = [
        Arc::new(Record { kind: 9, height: 77, key: [0xab; 32], body: vec![1, 2, 3].into() }),
        Arc::new(Record { kind: 1, height: NO_HEIGHT, key: [0; 32], body: vec![].into() }),
    ];
    let header = header(Kind::Records, record_bytes(3) + record_bytes(0), 2);
    let mut bytes = Vec::new();
    let hash = encode(&header, &Content::Records(&records), &mut bytes);
    (header, bytes, hash)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_format_is_as_drawn() {
    let (_, bytes, hash) = group();
    assert_eq!(bytes.len(), 4096);
    let expected = [
        "616c74686772700a", // magic "althgrp\n"
        "0100",             // version
        "02",               // kind: records
        "00",               // zero
        "02000000",         // count
        &"11".repeat(32),   // network
        "2827262524232221", // epoch
        "0300000000000000", // segment
        "0000010000000000", // segment bytes
        "0020000000000000", // offset
        "0010000000000000", // durable
        "2800000000000000", // first record
        "6800000000000000", // payload bytes
        &"55".repeat(32),   // previous
        "03000000",         // first record: body bytes
        "09000000",         // kind and zeros
        "4d00000000000000", // height
        &"ab".repeat(32),   // key
        "0102030000000000", // body and padding
        "00000000",         // second record: no body
        "01000000",         // kind and zeros
        "ffffffffffffffff", // no height
        &"00".repeat(32),   // no key
    ]
    .concat();
    let end = expected.len() / 2;
    assert_eq!(hex(&bytes[..end]), expected);
    assert_eq!(bytes[end..end + 32], hash);
    assert!(is_zero(&bytes[end + 32..]));
    // Changes with the hash's domain and with every field above.
    assert_eq!(hex(&hash), "497965afe54dc39ae008aa44f66a6a7e47223b98c1f0e7cfad7670ea90012c6f");
}

#[test]
fn an_index_is_as_drawn_and_reads_back() {
    let header = RecordHeader { kind: 9, height: 77, key: [0xab; 32] };
    let line =
        Line { kind: Kind::Close, count: 5, payload_bytes: 6, durable: 4096, hash: [0xcd; 32] };
    let (lines, entries) = (vec![line], vec![Entry { header, offset: 8328, bytes: 3 }]);
    let mut bytes = Vec::new();
    encode_index(&lines, &entries, &mut bytes);
    assert_eq!(bytes.len() as u64, index_bytes(1, 1));
    let expected = [
        "0100000000000000", // groups
        "0100000000000000", // records
        "06000000",         // the group's payload
        "04000000",         // its kind
        "0500000000000000", // its records
        "0010000000000000", // what was durable before it
        &"cd".repeat(32),   // its hash
        "03000000",         // the record's body
        "09000000",         // its kind
        "8820000000000000", // its offset
        "4d00000000000000", // its height
        &"ab".repeat(32),   // its key
    ];
    assert_eq!(hex(&bytes), expected.concat());
    assert_eq!(decode_index(&bytes), Some((lines, entries)));
    for length in 0..bytes.len() {
        assert_eq!(decode_index(&bytes[..length]), None, "{length}");
    }
    for (at, value) in [(0, 2), (8, 0), (7, 1), (15, 0xff), (20, 7), (21, 1), (28, 1), (77, 1)] {
        let mut changed = bytes.clone();
        changed[at] = value;
        assert_eq!(decode_index(&changed), None, "byte {at}");
    }
}

#[test]
fn a_group_reads_back_and_every_flipped_bit_is_refused() {
    let (header, bytes, hash) = group();
    let read = |bytes: &[u8]| {
        let decoded = Header::decode(bytes)?;
        if decoded.group_bytes() != bytes.len() as u64 {
            return Err(Damage::Length);
        }
        check(&decoded, bytes).map(|hash| (decoded, hash))
    };
    assert_eq!(read(&bytes), Ok((header.clone(), hash)));
    assert_eq!(trailer(&header, &bytes), hash);
    let found: Vec<_> = Records::new(&header, &bytes).map(Result::unwrap).collect();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].0, found[0].2), (136, &[1, 2, 3][..]));
    assert_eq!((found[1].0, found[1].1.height), (192, NO_HEIGHT));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn lengths_beyond_the_segment_are_refused_before_anything_is_read() {
    let (_, bytes, _) = group();
    let change = |at: usize, value: u64| {
        let mut changed = bytes.clone();
        changed[at..at + 8].copy_from_slice(&value.to_le_bytes());
        Header::decode(&changed)
    };
    for payload in [u64::MAX, u64::MAX - 200, 1 << 16, (1 << 16) - 8192 - 167] {
        assert_eq!(change(96, payload), Err(Damage::Length));
    }
    assert!(change(96, (1 << 16) - 8192 - 168).is_ok());
    assert_eq!(change(64, 1 << 40), Err(Damage::Length));
    assert_eq!(change(72, 1 << 17), Err(Damage::Length));
}

#[test]
fn malformed_records_end_the_iteration() {
    let mut record = vec![0; 64];
    record[0] = 10;
    assert_eq!(decode_record(&record).unwrap().1, [0; 10]);
    assert_eq!(decode_record(&record[..56]), Err(Damage::Record));
    assert_eq!(decode_record(&record[..40]), Err(Damage::Record));
    record[6] = 1;
    assert_eq!(decode_record(&record), Err(Damage::Record));
    record[6] = 0;
    record[63] = 1;
    assert_eq!(decode_record(&record), Err(Damage::Padding));
    let header = header(Kind::Records, 64, 1);
    let mut group = vec![0; 136];
    group.extend_from_slice(&record);
    let mut records = Records::new(&header, &group);
    assert_eq!(records.next(), Some(Err(Damage::Padding)));
    assert_eq!(records.next(), None);
}
