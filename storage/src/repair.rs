//! Groups that went bad on the medium: what was in them, and putting them back as they were.
//!
//! Everything of a group but its records' bodies follows from what is stored around it: from the index
//! of its segment, and from the hash that the next group has of it. So bodies from anywhere do; the
//! hash says whether they are the right ones before anything is written.

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::error::Error;
use crate::frame::{self, Content, Entry, Header, Kind, LINK_BYTES, Line, group_bytes, index};
use crate::options::GROUPS_IN_FLIGHT_MAX;
use crate::record::{Record, RecordHeader};
use crate::recover::File;
use crate::segment::{Opening, Segment};

/// A group whose bytes are not what was written, and what it takes to write them again.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// The segment's number.
    pub segment: u64,
    /// Where in the segment the group begins.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Its records, in order; none in a group that follows from its neighbours.
    pub records: Vec<DamagedRecord>,
    header: Header,
    content: Fixed,
    hash: [u8; 32],
}

/// A record of a damaged group.
#[derive(Clone, Debug)]
pub struct DamagedRecord {
    /// Its description, from the index.
    pub header: RecordHeader,
    /// The length of its body.
    pub bytes: u32,
    /// The body as it now reads, right or wrong; none where the medium does not answer.
    pub found: Option<Vec<u8>>,
}

/// The content of a group that has no records.
#[derive(Clone, Debug)]
enum Fixed {
    None,
    Link(u64),
    Index(Vec<Line>, Vec<Entry>),
}

impl Damaged {
    /// Looks up what the group at an offset was.
    ///
    /// `next` is the segment after it; `newest` has the records so far where there is none.
    ///
    /// Shape: none while the index of its segment is under way to the disk, or for a place where no
    /// durable group begins.
    /// Errors: the index of its segment, or what it would be rebuilt from, is damaged too.
    pub(crate) fn examine(
        segment: &Segment,
        next: Option<&Segment>,
        newest: &[Entry],
        offset: u64,
    ) -> Result<Option<Self>, Error> {
        let opening = segment.opening();
        if segment.is_sealed() && segment.last().is_some_and(|(last, _)| last == offset) {
            let Some(next) = next else { return Ok(None) };
            let (lines, entries) = segment.file().index(offset)?;
            let seal = seal(opening, offset, next.opening(), lines, entries);
            return Ok(seal);
        }
        let (lines, entries) = match (segment.is_sealed(), next) {
            (false, _) => (segment.lines(), newest.to_vec()),
            (true, None) => segment.index()?,
            // In a damaged index most lines are right, and a hash shows which.
            (true, Some(next)) => segment.index().or_else(|damage| match damage {
                Error::Corrupt { .. } => segment.index_unchecked(next.opening()),
                other => Err(other),
            })?,
        };
        let mut previous = opening.previous;
        let (mut at, mut records) = (0, opening.first_record);
        for line in &lines {
            let bytes = group_bytes(line.payload_bytes);
            if at == offset {
                // Of a damaged index the line may be wrong.
                if segment.group_from(offset) != Some((offset, bytes)) {
                    return Ok(None);
                }
                let header = Header {
                    kind: line.kind,
                    count: line.count,
                    network: opening.network,
                    epoch: opening.epoch,
                    segment: opening.number,
                    segment_bytes: opening.bytes,
                    offset,
                    durable: line.durable,
                    first_record: records,
                    payload_bytes: line.payload_bytes,
                    previous,
                };
                let own: Vec<_> = entries
                    .iter()
                    .filter(|entry| (offset..offset + bytes).contains(&entry.offset))
                    .collect();
                // The entries of a newest segment that is just being sealed are on their way.
                let listed = line.kind != Kind::Records || own.len() == line.count as usize;
                return Ok(listed.then(|| Self::new(segment, header, line.hash, &own)));
            }
            (previous, at) = (line.hash, at + bytes);
            records += u64::from(line.count);
        }
        Ok(None)
    }

    fn new(segment: &Segment, header: Header, hash: [u8; 32], entries: &[&Entry]) -> Self {
        let Header { offset, .. } = header;
        let group = segment.copy(offset, header.group_bytes()).ok();
        let records = entries.iter().map(|entry| {
            let begin = index(entry.offset - offset + frame::RECORD_HEADER_BYTES);
            let end = begin + index(u64::from(entry.bytes));
            let found = group.as_ref().and_then(|group| group.get(begin..end));
            let (header, bytes) = (entry.header, entry.bytes);
            DamagedRecord { header, bytes, found: found.map(<[u8]>::to_vec) }
        });
        Self {
            segment: header.segment,
            offset,
            bytes: header.group_bytes(),
            records: records.collect(),
            content: match header.kind {
                Kind::Open => Fixed::Link(segment.opening().link),
                Kind::Records | Kind::Seal | Kind::Close => Fixed::None,
            },
            header,
            hash,
        }
    }

    /// The group's bytes as they were, or none when these bodies are not those that it had.
    ///
    /// Shape: one body for each record, in order.
    pub(crate) fn rebuild(&self, bodies: &[&[u8]]) -> Option<Buffer> {
        let fits = bodies.len() == self.records.len()
            && bodies.iter().zip(&self.records).all(|(body, it)| body.len() == it.bytes as usize);
        if !fits {
            return None;
        }
        // The line of this group in the index may be wrong as well.
        let planned: u64 = match &self.content {
            Fixed::None => {
                self.records.iter().map(|it| frame::record_bytes(u64::from(it.bytes))).sum()
            }
            Fixed::Link(_) => LINK_BYTES,
            Fixed::Index(lines, entries) => {
                frame::index_bytes(lines.len() as u64, entries.len() as u64)
            }
        };
        if planned != self.header.payload_bytes {
            return None;
        }
        let record = |(body, it): (&&[u8], &DamagedRecord)| {
            let RecordHeader { kind, height, key } = it.header;
            Arc::new(Record { kind, height, key, body: body.to_vec().into() })
        };
        let records: Vec<_> = bodies.iter().zip(&self.records).map(record).collect();
        let content = match &self.content {
            Fixed::None => Content::Records(&records),
            Fixed::Link(link) => Content::Link(*link),
            Fixed::Index(lines, entries) => Content::Index(lines, entries),
        };
        encode(&self.header, &content, self.hash)
    }
}

/// Encodes a group, if that gives this hash.
fn encode(header: &Header, content: &Content<'_>, hash: [u8; 32]) -> Option<Buffer> {
    let mut bytes = Buffer::default();
    let found = frame::encode(header, content, &mut bytes);
    (found == hash).then_some(bytes)
}

/// An opening group from what it says and the hash that the group after it has.
pub(crate) fn opening(opening: &Opening, hash: [u8; 32]) -> Option<Buffer> {
    let header = Header {
        kind: Kind::Open,
        count: 0,
        network: opening.network,
        epoch: opening.epoch,
        segment: opening.number,
        segment_bytes: opening.bytes,
        offset: 0,
        durable: 0,
        first_record: opening.first_record,
        payload_bytes: LINK_BYTES,
        previous: opening.previous,
    };
    encode(&header, &Content::Link(opening.link), hash)
}

/// A seal from the groups before it and what the next segment's opening says of it.
pub(crate) fn seal(
    opening: &Opening,
    offset: u64,
    next: &Opening,
    lines: Vec<Line>,
    entries: Vec<Entry>,
) -> Option<Damaged> {
    let last = lines.last()?;
    let mut header = Header {
        kind: Kind::Seal,
        count: 0,
        network: opening.network,
        epoch: opening.epoch,
        segment: opening.number,
        segment_bytes: opening.bytes,
        offset,
        durable: offset,
        first_record: next.first_record,
        payload_bytes: frame::index_bytes(lines.len() as u64, entries.len() as u64),
        previous: last.hash,
    };
    // How much was known to be durable stands nowhere else: one of the last groups' beginnings.
    let content = Content::Index(&lines, &entries);
    let mut sizes = lines.iter().rev().map(|line| group_bytes(line.payload_bytes));
    for _ in 0..=GROUPS_IN_FLIGHT_MAX {
        if encode(&header, &content, next.previous).is_some() {
            let (segment, bytes) = (header.segment, header.group_bytes());
            let (records, hash) = (Vec::new(), next.previous);
            let content = Fixed::Index(lines, entries);
            return Some(Damaged { segment, offset, bytes, records, header, content, hash });
        }
        header.durable = header.durable.checked_sub(sizes.next()?)?;
    }
    None
}

impl Segment {
    /// The segment's file as a scan sees it.
    fn file(&self) -> File<'_> {
        let Opening { number, bytes, .. } = *self.opening();
        File { number, bytes, source: self.source() }
    }
}
