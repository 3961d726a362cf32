//! Everything a reader needs: the index, the durable segments, the records not yet durable.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::checked::Checked;
use crate::error::Error;
use crate::frame::Kind;
use crate::index::Index;
use crate::record::{Place, Record};
use crate::segment::{Found, Segment};
use crate::writer::Durable;

/// What can be read, and where it is.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) index: Index,
    /// Without a gap; the first has this number where earlier ones were pruned.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) first: u64,
    /// The groups that were read last.
    pub(crate) checked: Arc<Checked>,
    /// Records that are not durable yet, by (segment, offset): read from memory.
    pub(crate) pending: BTreeMap<(u64, u64), Arc<Record>>,
}

/// Where the bytes of a place are.
pub(crate) enum Located {
    Memory(Arc<Record>),
    Disk(Arc<Segment>, Arc<Checked>),
}

/// The next records of an iteration.
pub(crate) enum Next {
    Memory(Vec<(Place, Arc<Record>)>),
    Disk(Arc<Segment>, u64, u64),
    End,
}

impl Catalog {
    /// Adds the next segment.
    pub(crate) fn open(&mut self, segment: Arc<Segment>) {
        let next = self.first + self.segments.len() as u64;
        assert_eq!(segment.number(), next, "segments open in order");
        self.segments.push_back(segment);
    }

    /// The segment of this number, if it is there.
    pub(crate) fn segment(&self, number: u64) -> Option<&Arc<Segment>> {
        let at = number.checked_sub(self.first)?;
        self.segments.get(usize::try_from(at).ok()?)
    }

    /// The first durable group at or after a position, as segment, offset and bytes.
    pub(crate) fn group_from(
        &self,
        (segment, offset): (u64, u64),
    ) -> Option<(Arc<Segment>, u64, u64)> {
        let (mut segment, mut offset) = (segment, offset);
        if segment < self.first {
            (segment, offset) = (self.first, 0);
        }
        while let Some(found) = self.segment(segment) {
            if let Some((offset, bytes)) = found.group_from(offset) {
                return Some((Arc::clone(found), offset, bytes));
            }
            (segment, offset) = (segment + 1, 0);
        }
        None
    }

    /// The position after the newest durable group.
    pub(crate) fn end(&self) -> (u64, u64) {
        let last = |segment: &Arc<Segment>| {
            let (offset, bytes) = segment.last()?;
            Some((segment.number(), offset + bytes))
        };
        self.segments.iter().rev().find_map(last).unwrap_or((0, 0))
    }

    /// The number of the newest segment.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.number())
    }

    /// The number of the first record that is still there.
    pub(crate) fn first_record(&self) -> u64 {
        self.segments.front().map_or(0, |segment| segment.opening().first_record)
    }

    /// Turns a group that has become durable from memory to disk; `settled` takes its records.
    pub(crate) fn publish(&mut self, group: &Durable, settled: &mut Vec<Arc<Record>>) {
        if let Some(segment) = &group.opens {
            self.open(Arc::clone(segment));
        }
        let segment = self.segments.back().expect("a segment opens before its groups");
        assert_eq!(segment.number(), group.segment, "groups go to the newest segment");
        segment.push(group.offset, group.bytes, Some(group.line));
        if group.kind == Kind::Seal {
            segment.seal();
        }
        let end = (group.segment, group.offset + group.bytes);
        while let Some(first) = self.pending.first_entry()
            && *first.key() < end
        {
            settled.push(first.remove());
        }
    }

    /// Finds the bytes of a place; the caller reads them after it has let go of the catalog.
    pub(crate) fn locate(&self, place: Place) -> Result<Located, Error> {
        if let Some(record) = self.pending.get(&(place.segment, place.offset)) {
            return Ok(Located::Memory(Arc::clone(record)));
        }
        let Place { segment, offset, bytes } = place;
        match self.segment(segment) {
            Some(found) => Ok(Located::Disk(Arc::clone(found), Arc::clone(&self.checked))),
            None => Err(Error::NoRecord { segment, offset, bytes }),
        }
    }

    /// The first group of records, or else all pending records, from a position on.
    fn next(&self, at: (u64, u64)) -> Next {
        if let Some((segment, offset, bytes)) = self.group_from(at) {
            return Next::Disk(segment, offset, bytes);
        }
        let pending = self.pending.range(at..);
        let records: Vec<_> = pending
            .map(|(&(segment, offset), record)| {
                let bytes = u32::try_from(record.body.size()).expect("segments are below 4 GiB");
                (Place { segment, offset, bytes }, Arc::clone(record))
            })
            .collect();
        if records.is_empty() { Next::End } else { Next::Memory(records) }
    }
}

impl Located {
    /// Reads the body, checked.
    pub(crate) fn read(&self, place: Place) -> Result<Vec<u8>, Error> {
        match self {
            Self::Memory(record) if record.body.size() as u64 == u64::from(place.bytes) => {
                Ok(record.body.bytes().to_vec())
            }
            Self::Memory(_) => {
                let Place { segment, offset, bytes } = place;
                Err(Error::NoRecord { segment, offset, bytes })
            }
            Self::Disk(segment, checked) => segment.read(place, checked),
        }
    }
}

/// The body of a record without a copy, where there is a map; it keeps what it shows alive.
///
/// Its bytes were checked when their group was first seen. They are the medium's own: on one that
/// goes bad while it is used, reading them again after they were evicted from memory kills the
/// process. [`Store::read`](crate::Store::read) copies and answers with an error instead.
pub struct View(Shown);

enum Shown {
    Memory(Arc<Record>),
    Map(Arc<Segment>, Range<usize>),
    Copy(Vec<u8>),
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Shown::Memory(record) => record.body.bytes(),
            Shown::Map(segment, range) => segment.mapped(range.clone()),
            Shown::Copy(bytes) => bytes,
        }
    }
}

impl Located {
    /// Shows the body, checked.
    pub(crate) fn view(self, place: Place) -> Result<View, Error> {
        let shown = match self {
            Self::Memory(record) if record.body.size() as u64 == u64::from(place.bytes) => {
                Shown::Memory(record)
            }
            Self::Disk(segment, checked) => match segment.locate(place)? {
                Some(range) => Shown::Map(segment, range),
                None => Shown::Copy(segment.read(place, &checked)?),
            },
            Self::Memory(_) => Shown::Copy(self.read(place)?),
        };
        Ok(View(shown))
    }
}

/// Walks all records in order, a group at a time.
pub(crate) struct Walk {
    /// Records up to this number are walked.
    end: u64,
    /// The number of the next one.
    next: u64,
    at: (u64, u64),
    ready: VecDeque<Found>,
}

impl Walk {
    /// Begins at the first record that is there and ends before the record of this number.
    pub(crate) fn new(end: u64) -> Self {
        Self { end, next: 0, at: (0, 0), ready: VecDeque::new() }
    }

    /// The next record, with a look into the catalog where one is needed.
    pub(crate) fn next(
        &mut self,
        mut look: impl FnMut(&mut dyn FnMut(&Catalog)),
    ) -> Option<Result<Found, Error>> {
        while self.ready.is_empty() && self.next < self.end {
            let mut next = Next::End;
            look(&mut |catalog| {
                // What was pruned meanwhile is passed over.
                self.next = self.next.max(catalog.first_record());
                next = catalog.next(self.at);
            });
            match next {
                Next::Memory(records) => {
                    let (last, _) = records.last().expect("pending records are not empty");
                    self.at = (last.segment, last.offset + 1);
                    self.ready.extend(records.iter().map(|(place, record)| {
                        (*place, record.header(), record.body.bytes().to_vec())
                    }));
                }
                Next::Disk(segment, offset, bytes) => {
                    self.at = (segment.number(), offset + bytes);
                    match segment.records(offset, bytes) {
                        Ok(found) => self.ready.extend(found),
                        Err(error) => {
                            self.end = 0;
                            return Some(Err(error));
                        }
                    }
                }
                Next::End => break,
            }
        }
        if self.next >= self.end {
            return None;
        }
        self.next += 1;
        self.ready.pop_front().map(Ok)
    }
}
