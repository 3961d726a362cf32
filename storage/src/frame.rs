//! One group of records on disk: header, hash link, records, checksum, padding.

use std::ops::Deref;
use std::sync::LazyLock;

use crate::buffer::Sink;
use crate::error::Damage;
use crate::record::{NO_HEIGHT, Place, Record, RecordHeader};

/// Groups begin at multiples of this: the page, and the largest sector in use.
pub(crate) const ALIGN: u64 = 4096;
/// The bytes of a group before its records.
pub(crate) const HEADER_BYTES: u64 = 136;
/// The BLAKE3 digest after the records.
pub(crate) const TRAILER_BYTES: u64 = 32;
/// The bytes of a record before its body.
pub(crate) const RECORD_HEADER_BYTES: u64 = 48;
/// One line of the index at a segment's end, of a group or of a record.
pub(crate) const LINE_BYTES: u64 = 56;
/// The content of an opening group: where the segment before is sealed.
pub(crate) const LINK_BYTES: u64 = 8;

const MAGIC: [u8; 8] = *b"althgrp\n";
const VERSION: u16 = 1;
const RECORD_ALIGN: u64 = 8;

// Records and index lines stay aligned, and every length below fits a `usize`.
const _: () = assert!(HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(HEADER_BYTES + TRAILER_BYTES <= ALIGN);
const _: () = assert!(size_of::<usize>() >= size_of::<u64>());

static HASHER: LazyLock<blake3::Hasher> =
    LazyLock::new(|| blake3::Hasher::new_derive_key("althing storage group v1"));

/// What a group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Where the segment before is sealed: the first group of every segment, which fixes its epoch.
    Open,
    /// Records.
    Records,
    /// The index of all groups and records of the segment; nothing follows in it.
    Seal,
    /// Nothing: the store was closed in good order.
    Close,
}

impl Kind {
    fn encode(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Records => 2,
            Self::Seal => 3,
            Self::Close => 4,
        }
    }

    fn decode(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Open),
            2 => Some(Self::Records),
            3 => Some(Self::Seal),
            4 => Some(Self::Close),
            _ => None,
        }
    }
}

/// The fields of a group's header, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) count: u32,
    pub(crate) network: [u8; 32],
    pub(crate) epoch: u64,
    pub(crate) segment: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) offset: u64,
    pub(crate) durable: u64,
    pub(crate) first_record: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) previous: [u8; 32],
}

impl Header {
    /// The bytes that the group takes, padding included.
    pub(crate) fn group_bytes(&self) -> u64 {
        group_bytes(self.payload_bytes)
    }

    /// Reads and checks what can be judged without the rest of the group.
    ///
    /// Shape: at least [`HEADER_BYTES`] bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        assert!(bytes.len() >= index(HEADER_BYTES), "a header is read whole");
        if bytes[..8] != MAGIC {
            return Err(Damage::Magic);
        }
        if bytes[8..10] != VERSION.to_le_bytes() {
            return Err(Damage::Version);
        }
        let kind = Kind::decode(bytes[10]).ok_or(Damage::Kind)?;
        if bytes[11] != 0 {
            return Err(Damage::Padding);
        }
        let header = Self {
            kind,
            count: u32_at(bytes, 12),
            network: digest_at(bytes, 16),
            epoch: u64_at(bytes, 48),
            segment: u64_at(bytes, 56),
            segment_bytes: u64_at(bytes, 64),
            offset: u64_at(bytes, 72),
            durable: u64_at(bytes, 80),
            first_record: u64_at(bytes, 88),
            payload_bytes: u64_at(bytes, 96),
            previous: digest_at(bytes, 104),
        };
        // Bounds the length before anyone reads or allocates that much.
        let room = header.segment_bytes.checked_sub(header.offset).ok_or(Damage::Length)?;
        if header.segment_bytes > u64::from(u32::MAX)
            || header.payload_bytes > room
            || header.group_bytes() > room
        {
            return Err(Damage::Length);
        }
        Ok(header)
    }

    fn encode(&self, into: &mut impl Sink) {
        into.put(&MAGIC);
        into.put(&VERSION.to_le_bytes());
        into.put(&[self.kind.encode(), 0]);
        into.put(&self.count.to_le_bytes());
        into.put(&self.network);
        for field in [
            self.epoch,
            self.segment,
            self.segment_bytes,
            self.offset,
            self.durable,
            self.first_record,
            self.payload_bytes,
        ] {
            into.put(&field.to_le_bytes());
        }
        into.put(&self.previous);
        assert_eq!(into.len(), index(HEADER_BYTES), "the header has its length");
    }
}

/// The line of a group in the index at its segment's end: with its place and the lines before it,
/// all that its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) kind: Kind,
    pub(crate) count: u32,
    pub(crate) payload_bytes: u64,
    pub(crate) durable: u64,
    pub(crate) hash: [u8; 32],
}

impl Line {
    pub(crate) fn new(header: &Header, hash: [u8; 32]) -> Self {
        let Header { kind, count, payload_bytes, durable, .. } = *header;
        Self { kind, count, payload_bytes, durable, hash }
    }
}

/// The line of a record in the index at its segment's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) header: RecordHeader,
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

impl Entry {
    pub(crate) fn place(&self, segment: u64) -> Place {
        Place { segment, offset: self.offset, bytes: self.bytes }
    }
}

/// The content of a group to be encoded.
pub(crate) enum Content<'a> {
    /// Records in order.
    Records(&'a [std::sync::Arc<Record>]),
    /// The index of a segment.
    Index(&'a [Line], &'a [Entry]),
    /// The offset of the seal of the segment before.
    Link(u64),
}

/// Writes a whole group, padding included, into an empty buffer and returns its hash.
pub(crate) fn encode(header: &Header, content: &Content<'_>, into: &mut impl Sink) -> [u8; 32] {
    assert!(into.is_empty(), "a group begins in an empty buffer");
    into.reserve(index(header.group_bytes()));
    let mut into = Hashing { into, hasher: HASHER.clone(), hashed: 0 };
    let into = &mut into;
    header.encode(into);
    match content {
        Content::Records(records) => {
            for record in *records {
                encode_record(record, into);
            }
        }
        Content::Index(lines, entries) => encode_index(lines, entries, into),
        Content::Link(seal) => into.put(&seal.to_le_bytes()),
    }
    assert_eq!(
        into.len(),
        index(HEADER_BYTES + header.payload_bytes),
        "the content has the length that was planned for it"
    );
    let hash = into.finish();
    into.into.put(&hash);
    into.into.pad(index(header.group_bytes()));
    hash
}

/// Hashes bytes soon after they were put, while a core's own cache still has them.
struct Hashing<'a, S> {
    into: &'a mut S,
    hasher: blake3::Hasher,
    /// How many of the bytes are hashed.
    hashed: usize,
}

/// Enough for all lanes of the hash several times over, and a part of the cache.
const HASHED_AT_ONCE: usize = 64 << 10;

impl<S: Sink> Hashing<'_, S> {
    fn finish(&mut self) -> [u8; 32] {
        self.hasher.update(&self.into[self.hashed..]);
        *self.hasher.finalize().as_bytes()
    }
}

impl<S: Sink> Deref for Hashing<'_, S> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.into
    }
}

impl<S: Sink> Sink for Hashing<'_, S> {
    fn reserve(&mut self, bytes: usize) {
        self.into.reserve(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(HASHED_AT_ONCE) {
            self.into.put(piece);
            while self.into.len() - self.hashed >= HASHED_AT_ONCE {
                let end = self.hashed + HASHED_AT_ONCE;
                self.hasher.update(&self.into[self.hashed..end]);
                self.hashed = end;
            }
        }
    }

    fn pad(&mut self, len: usize) {
        self.into.pad(len);
    }
}

/// Checks a whole group's hash and padding and returns the hash.
///
/// Shape: `bytes` is exactly the group that `header` describes, padding included.
pub(crate) fn check(header: &Header, bytes: &[u8]) -> Result<[u8; 32], Damage> {
    assert_eq!(bytes.len(), index(header.group_bytes()), "a group is checked whole");
    let end = index(HEADER_BYTES + header.payload_bytes);
    let (hashed, rest) = bytes.split_at(end);
    let (trailer, padding) = rest.split_at(index(TRAILER_BYTES));
    let hash = digest(hashed);
    if trailer != hash {
        return Err(Damage::Hash);
    }
    if !is_zero(padding) {
        return Err(Damage::Padding);
    }
    Ok(hash)
}

/// The hash that a checked group carries.
pub(crate) fn trailer(header: &Header, group: &[u8]) -> [u8; 32] {
    digest_at(group, index(HEADER_BYTES + header.payload_bytes))
}

/// The records of a group whose hash was checked, in order.
///
/// Shape: each with its offset within the group, its header and its body.
pub(crate) struct Records<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    pub(crate) fn new(header: &Header, group: &'a [u8]) -> Self {
        let begin = index(HEADER_BYTES);
        let end = index(HEADER_BYTES + header.payload_bytes);
        Self { payload: &group[..end], at: begin }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u64, RecordHeader, &'a [u8]), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.payload[self.at..];
        if rest.is_empty() {
            return None;
        }
        let at = self.at as u64;
        match decode_record(rest) {
            Ok((header, body)) => {
                self.at += index(record_bytes(body.len() as u64));
                Some(Ok((at, header, body)))
            }
            Err(damage) => {
                self.at = self.payload.len();
                Some(Err(damage))
            }
        }
    }
}

/// Reads the record at the start of `bytes`, which may go on after it.
pub(crate) fn decode_record(bytes: &[u8]) -> Result<(RecordHeader, &[u8]), Damage> {
    if bytes.len() < index(RECORD_HEADER_BYTES) {
        return Err(Damage::Record);
    }
    let body_bytes = u64::from(u32_at(bytes, 0));
    if bytes[5..8] != [0; 3] || record_bytes(body_bytes) > bytes.len() as u64 {
        return Err(Damage::Record);
    }
    let header =
        RecordHeader { kind: bytes[4], height: u64_at(bytes, 8), key: digest_at(bytes, 16) };
    let end = index(RECORD_HEADER_BYTES + body_bytes);
    let body = &bytes[index(RECORD_HEADER_BYTES)..end];
    if !is_zero(&bytes[end..index(record_bytes(body_bytes))]) {
        return Err(Damage::Padding);
    }
    Ok((header, body))
}

/// The length of the body that a record's header names; `None` when it is no record's header.
pub(crate) fn body_bytes(head: &[u8]) -> Option<u32> {
    (head[5..8] == [0; 3]).then(|| u32_at(head, 0))
}

/// Writes the index of a segment: two counts, one line for each group, one for each record.
pub(crate) fn encode_index(lines: &[Line], entries: &[Entry], into: &mut impl Sink) {
    into.put(&(lines.len() as u64).to_le_bytes());
    into.put(&(entries.len() as u64).to_le_bytes());
    for line in lines {
        let bytes = u32::try_from(line.payload_bytes).expect("segments are below 4 GiB");
        into.put(&bytes.to_le_bytes());
        into.put(&[line.kind.encode(), 0, 0, 0]);
        into.put(&u64::from(line.count).to_le_bytes());
        into.put(&line.durable.to_le_bytes());
        into.put(&line.hash);
    }
    for entry in entries {
        into.put(&entry.bytes.to_le_bytes());
        into.put(&[entry.header.kind, 0, 0, 0]);
        into.put(&entry.offset.to_le_bytes());
        into.put(&entry.header.height.to_le_bytes());
        into.put(&entry.header.key);
    }
}

/// Reads an index whose hash was checked; `None` when it is not one.
pub(crate) fn decode_index(bytes: &[u8]) -> Option<(Vec<Line>, Vec<Entry>)> {
    let (counts, rest) = bytes.split_at_checked(16)?;
    let (groups, records) = (u64_at(counts, 0), u64_at(counts, 8));
    let all = groups.checked_add(records)?.checked_mul(LINE_BYTES)?;
    if all != rest.len() as u64 || rest.chunks_exact(index(LINE_BYTES)).any(|it| it[5..8] != [0; 3])
    {
        return None;
    }
    let is_kind =
        |line: &[u8]| Kind::decode(line[4]).is_some() && u64_at(line, 8) <= u64::from(u32::MAX);
    let well_formed = rest.chunks_exact(index(LINE_BYTES)).take(index(groups)).all(is_kind);
    well_formed.then(|| decode_lines(rest, groups))
}

/// Reads the lines of an index, right or wrong, of which so many are groups'.
pub(crate) fn decode_lines(lines: &[u8], groups: u64) -> (Vec<Line>, Vec<Entry>) {
    let (groups, records) = lines.split_at(index(groups * LINE_BYTES));
    let line = |line: &[u8]| Line {
        kind: Kind::decode(line[4]).unwrap_or(Kind::Records),
        count: u32::try_from(u64_at(line, 8)).unwrap_or(u32::MAX),
        payload_bytes: u64::from(u32_at(line, 0)),
        durable: u64_at(line, 16),
        hash: digest_at(line, 24),
    };
    let entry = |line: &[u8]| {
        let header =
            RecordHeader { kind: line[4], height: u64_at(line, 16), key: digest_at(line, 24) };
        Entry { header, offset: u64_at(line, 8), bytes: u32_at(line, 0) }
    };
    let groups = groups.chunks_exact(index(LINE_BYTES)).map(line).collect();
    (groups, records.chunks_exact(index(LINE_BYTES)).map(entry).collect())
}

/// Reads the content of an opening group whose hash was checked.
pub(crate) fn decode_link(header: &Header, group: &[u8]) -> Option<u64> {
    let is_link = header.kind == Kind::Open && header.payload_bytes == LINK_BYTES;
    is_link.then(|| u64_at(group, index(HEADER_BYTES)))
}

/// The bytes that a record takes in a group.
pub(crate) fn record_bytes(body_bytes: u64) -> u64 {
    (RECORD_HEADER_BYTES + body_bytes).next_multiple_of(RECORD_ALIGN)
}

/// The bytes that a group takes in a segment, padding included.
pub(crate) fn group_bytes(payload_bytes: u64) -> u64 {
    (HEADER_BYTES + payload_bytes + TRAILER_BYTES).next_multiple_of(ALIGN)
}

/// The payload of a seal over so many groups and records.
pub(crate) fn index_bytes(groups: u64, records: u64) -> u64 {
    16 + (groups + records) * LINE_BYTES
}

/// Whether a record goes into the index of heights.
pub(crate) fn has_height(header: &RecordHeader) -> bool {
    header.height != NO_HEIGHT
}

/// Compares with a page of zeros at a time: a `memcmp` in every build profile.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// A file offset as a slice index; the assertion at the top shows that it cannot truncate.
pub(crate) fn index(value: u64) -> usize {
    usize::try_from(value).expect("usize has 64 bits")
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = HASHER.clone();
    hasher.update(bytes);
    *hasher.finalize().as_bytes()
}

fn encode_record(record: &Record, into: &mut impl Sink) {
    let body = record.body.bytes();
    let begin = into.len();
    let body_bytes = u32::try_from(body.len()).expect("the plan refuses larger bodies");
    into.put(&body_bytes.to_le_bytes());
    into.put(&[record.kind, 0, 0, 0]);
    into.put(&record.height.to_le_bytes());
    into.put(&record.key);
    into.put(body);
    into.pad(begin + index(record_bytes(body.len() as u64)));
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of 4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of 8 bytes"))
}

fn digest_at(bytes: &[u8], at: usize) -> [u8; 32] {
    bytes[at..at + 32].try_into().expect("a slice of 32 bytes")
}

#[cfg(test)]
mod tests;
