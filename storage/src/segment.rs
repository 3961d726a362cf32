//! One segment as readers see it: its groups; copies, checked each time, and views, checked once.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crate::checked::Checked;
use crate::disk::Source;
use crate::error::{Damage, Error};
use crate::frame::{
    self, Entry, HEADER_BYTES, Header, Kind, Line, RECORD_HEADER_BYTES, Records, index,
};
use crate::record::{Place, RecordHeader};

pub(crate) mod map;

use map::Map;

/// A record with its place and a copy of its body.
pub(crate) type Found = (Place, RecordHeader, Vec<u8>);

/// What a segment's opening group says.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) epoch: u64,
    pub(crate) network: [u8; 32],
    pub(crate) first_record: u64,
    /// Hash of the seal before.
    pub(crate) previous: [u8; 32],
    /// Where that seal is.
    pub(crate) link: u64,
}

impl Opening {
    /// Takes an opening group apart; `None` when it is none.
    pub(crate) fn decode(header: &Header, group: &[u8]) -> Option<Self> {
        Some(Self {
            number: header.segment,
            bytes: header.segment_bytes,
            epoch: header.epoch,
            network: header.network,
            first_record: header.first_record,
            previous: header.previous,
            link: frame::decode_link(header, group)?,
        })
    }
}

/// One segment's durable groups and the way to their bytes.
pub(crate) struct Segment {
    opening: Opening,
    source: Arc<dyn Source>,
    groups: RwLock<Vec<Group>>,
    /// The index so far of a segment that is not sealed; afterwards its seal has it.
    lines: Mutex<Vec<Line>>,
    sealed: AtomicBool,
    map: OnceLock<Option<Map>>,
}

/// A durable group.
struct Group {
    offset: u64,
    bytes: u64,
    /// Whether all of its map was brought into memory, and its hash found right there.
    touched: AtomicBool,
}

impl Segment {
    pub(crate) fn new(opening: Opening, source: Arc<dyn Source>) -> Self {
        Self {
            opening,
            source,
            groups: RwLock::default(),
            lines: Mutex::default(),
            sealed: AtomicBool::new(false),
            map: OnceLock::new(),
        }
    }

    pub(crate) fn opening(&self) -> &Opening {
        &self.opening
    }

    pub(crate) fn number(&self) -> u64 {
        self.opening.number
    }

    pub(crate) fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// The index in a seal that may be damaged, as far as it reads: whatever comes of it must be
    /// checked against hashes.
    pub(crate) fn index_unchecked(&self, next: &Opening) -> Result<(Vec<Line>, Vec<Entry>), Error> {
        let (offset, bytes) = self.last().expect("a sealed segment has a seal");
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner).len() as u64 - 1;
        let records = next.first_record.saturating_sub(self.opening.first_record);
        let seal = self.copy(offset, bytes)?;
        let begin = index(HEADER_BYTES + 16);
        let end = begin + index((groups + records) * frame::LINE_BYTES);
        let lines = seal.get(begin..end).ok_or_else(|| self.corrupt(offset, Damage::Length))?;
        Ok(frame::decode_lines(lines, groups))
    }

    /// Adds a group that has become durable; groups come in order. A sealed segment keeps no line.
    pub(crate) fn push(&self, offset: u64, bytes: u64, line: Option<Line>) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let end = groups.last().map_or(0, |group| group.offset + group.bytes);
        assert_eq!(offset, end, "groups become durable in order");
        groups.push(Group { offset, bytes, touched: AtomicBool::new(false) });
        if let Some(line) = line {
            lock(&self.lines).push(line);
        }
    }

    /// Says that no byte of the segment will be written again; from here on it may be mapped.
    pub(crate) fn seal(&self) {
        *lock(&self.lines) = Vec::new();
        self.sealed.store(true, Ordering::Release);
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// The lines of the groups so far, while the segment is not sealed.
    pub(crate) fn lines(&self) -> Vec<Line> {
        lock(&self.lines).clone()
    }

    /// Where the last group begins, and its length: of a sealed segment the seal.
    pub(crate) fn last(&self) -> Option<(u64, u64)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.last().map(|group| (group.offset, group.bytes))
    }

    /// The index in the seal of a sealed segment.
    pub(crate) fn index(&self) -> Result<(Vec<Line>, Vec<Entry>), Error> {
        let (offset, bytes) = self.last().expect("a sealed segment has a seal");
        let seal = self.copy(offset, bytes)?;
        let header = self.check(offset, &seal)?;
        let payload = &seal[index(HEADER_BYTES)..index(HEADER_BYTES + header.payload_bytes)];
        let read = (header.kind == Kind::Seal).then(|| frame::decode_index(payload)).flatten();
        read.ok_or_else(|| self.corrupt(offset, Damage::Index))
    }

    /// The first group at or after an offset, as (offset, bytes).
    pub(crate) fn group_from(&self, offset: u64) -> Option<(u64, u64)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let at = groups.partition_point(|group| group.offset < offset);
        groups.get(at).map(|group| (group.offset, group.bytes))
    }

    /// Where the group that holds a byte begins; its map is to be checked anew.
    pub(crate) fn doubt(&self, offset: u64) -> Option<u64> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let after = groups.partition_point(|group| group.offset <= offset);
        let group = &groups[after.checked_sub(1)?];
        group.touched.store(false, Ordering::Relaxed);
        (offset < group.offset + group.bytes).then_some(group.offset)
    }

    /// A copy of the body of the record at a place, from a group that was checked after it was read.
    pub(crate) fn read(&self, place: Place, checked: &Checked) -> Result<Vec<u8>, Error> {
        let (offset, bytes) = self.group_of(place)?;
        let group = checked.group((self.number(), offset), || {
            let group = self.copy(offset, bytes)?;
            self.check(offset, &group).map(|_| group)
        })?;
        let begin = index(place.offset - offset);
        let body = begin + index(RECORD_HEADER_BYTES);
        self.is_record(place, &group[begin..body])?;
        Ok(group[body..body + index(u64::from(place.bytes))].to_vec())
    }

    /// Where the body of the record at a place lies in the map, all of it in memory; none for a
    /// segment that is not sealed or cannot be mapped.
    pub(crate) fn locate(&self, place: Place) -> Result<Option<Range<usize>>, Error> {
        let (group, group_bytes) = self.group_of(place)?;
        let Some(map) = self.map() else { return Ok(None) };
        if !self.mark(group, |group| group.touched.load(Ordering::Relaxed)) {
            let bytes = match map.populated(group, group_bytes) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
                populated => populated.map_err(|error| self.failed(group, error))?,
            };
            // What is read from now on is what was checked, unless the medium changes under it.
            self.check(group, bytes)?;
            self.mark(group, |group| group.touched.store(true, Ordering::Relaxed));
        }
        let begin = index(place.offset);
        let body = begin + index(RECORD_HEADER_BYTES);
        self.is_record(place, &map.bytes()[begin..body])?;
        Ok(Some(body..body + index(u64::from(place.bytes))))
    }

    /// Bytes of the map, at a range that [`Segment::locate`] gave.
    pub(crate) fn mapped(&self, range: Range<usize>) -> &[u8] {
        &self.map().expect("the range is of this map").bytes()[range]
    }

    /// Refuses a place that no store gave, and damage since the group was checked.
    fn is_record(&self, place: Place, head: &[u8]) -> Result<(), Error> {
        if frame::body_bytes(head) == Some(place.bytes) { Ok(()) } else { Err(absent(place)) }
    }

    /// All records of the group that begins at an offset, checked.
    pub(crate) fn records(&self, offset: u64, bytes: u64) -> Result<Vec<Found>, Error> {
        let group = self.copy(offset, bytes)?;
        let header = self.check(offset, &group)?;
        if header.kind != Kind::Records {
            return Ok(Vec::new());
        }
        let mut found = Vec::with_capacity(header.count as usize);
        for record in Records::new(&header, &group) {
            let (at, record, body) = record.map_err(|what| self.corrupt(offset, what))?;
            let size = u32::try_from(body.len()).expect("read from a field of 32 bits");
            let place = Place { segment: self.number(), offset: offset + at, bytes: size };
            found.push((place, record, body.to_vec()));
        }
        Ok(found)
    }

    /// The group that holds the whole record at a place.
    fn group_of(&self, place: Place) -> Result<(u64, u64), Error> {
        let Place { offset, bytes, .. } = place;
        let bytes = frame::record_bytes(u64::from(bytes));
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let after = groups.partition_point(|group| group.offset <= offset);
        let group = after.checked_sub(1).map(|at| &groups[at]).filter(|group| {
            offset >= group.offset + HEADER_BYTES
                && offset.checked_add(bytes).is_some_and(|end| end <= group.offset + group.bytes)
        });
        group.map(|group| (group.offset, group.bytes)).ok_or_else(|| absent(place))
    }

    fn mark<T>(&self, offset: u64, with: impl FnOnce(&Group) -> T) -> T {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let at = groups.partition_point(|group| group.offset < offset);
        with(&groups[at])
    }

    /// Checks a whole group against its hash and its place.
    pub(crate) fn check(&self, offset: u64, group: &[u8]) -> Result<Header, Error> {
        let header = Header::decode(group).map_err(|what| self.corrupt(offset, what))?;
        if header.group_bytes() != group.len() as u64 {
            return Err(self.corrupt(offset, Damage::Length));
        }
        frame::check(&header, group).map_err(|what| self.corrupt(offset, what))?;
        let Opening { number, epoch, network, .. } = self.opening;
        let own = header.segment == number
            && header.offset == offset
            && header.epoch == epoch
            && header.network == network;
        if own { Ok(header) } else { Err(self.corrupt(offset, Damage::Misplaced)) }
    }

    /// The bytes of a range as they now read.
    pub(crate) fn copy(&self, offset: u64, bytes: u64) -> Result<Vec<u8>, Error> {
        let mut buffer = vec![0; index(bytes)];
        self.fill(offset, &mut buffer)?;
        Ok(buffer)
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.source.read(offset, buffer).map_err(|error| self.failed(offset, error))
    }

    pub(crate) fn failed(&self, offset: u64, error: io::Error) -> Error {
        let source = Arc::new(error);
        Error::Disk { segment: self.number(), offset, action: "read", source }
    }

    fn map(&self) -> Option<&Map> {
        if !self.is_sealed() {
            return None;
        }
        // A segment that cannot be mapped is read instead.
        self.map.get_or_init(|| self.source.map().ok().flatten()).as_ref()
    }

    pub(crate) fn corrupt(&self, offset: u64, what: Damage) -> Error {
        Error::Corrupt { segment: self.number(), offset, what }
    }
}

fn absent(place: Place) -> Error {
    Error::NoRecord { segment: place.segment, offset: place.offset, bytes: place.bytes }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics in the middle of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
