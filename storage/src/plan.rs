//! Decides at append time where each record will lie: groups, seals and segment changes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Error;
use crate::frame::{self, ALIGN, Entry, Kind, LINK_BYTES, group_bytes, index_bytes, record_bytes};
use crate::options::Options;
use crate::record::{Place, Record};

/// A group that is waiting to be written.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) kind: Kind,
    pub(crate) segment: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) offset: u64,
    pub(crate) first_record: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) entries: Vec<Entry>,
    /// Of an opening group: where the segment before is sealed, zero for the first.
    pub(crate) seal: u64,
}

/// Where the plan begins: what recovery found, or nothing at all.
#[derive(Debug, Default)]
pub(crate) struct Begin {
    pub(crate) segment: u64,
    /// The size of that segment, or `None` where it has no opening group yet.
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) offset: u64,
    pub(crate) records: u64,
    /// The groups of that segment so far.
    pub(crate) groups: u64,
    /// The records of that segment so far, for its index.
    pub(crate) entries: Vec<Entry>,
    /// Whether the last group is a closing one.
    pub(crate) closed: bool,
    /// Whether the segment is sealed: the next one begins.
    pub(crate) sealed: bool,
    /// Where the last seal is, zero before the first.
    pub(crate) seal: u64,
}

/// The plan of the log: pure arithmetic, one owner, no I/O.
///
/// Invariant: between groups, the index of the segment's groups and records still fits behind
/// `offset`.
#[derive(Debug)]
pub(crate) struct Plan {
    segment_bytes_next: u64,
    group_bytes_max: u64,
    segment: u64,
    segment_bytes: u64,
    offset: u64,
    records: u64,
    /// Groups of the segment so far.
    groups_count: u64,
    entries: Vec<Entry>,
    /// Where the last seal is.
    seal: u64,
    groups: VecDeque<Group>,
    /// Whether the last of `groups` still takes records.
    open: bool,
    closed: bool,
}

impl Plan {
    pub(crate) fn new(options: &Options, begin: Begin) -> Self {
        let mut plan = Self {
            segment_bytes_next: options.segment_bytes,
            group_bytes_max: options.group_bytes_max as u64,
            segment: begin.segment,
            segment_bytes: begin.segment_bytes.unwrap_or(0),
            offset: begin.offset,
            records: begin.records,
            groups_count: begin.groups,
            entries: begin.entries,
            seal: begin.seal,
            groups: VecDeque::new(),
            open: false,
            closed: begin.closed,
        };
        if begin.sealed {
            plan.segment += 1;
        }
        if begin.sealed || begin.segment_bytes.is_none() {
            plan.open_segment();
        }
        plan
    }

    /// The number of records planned so far, those of earlier processes included.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Plans the records of one call and returns their places.
    ///
    /// Shape: in order, and in one group when they fit into one.
    /// Errors: [`Error::TooLarge`], and then nothing was planned.
    pub(crate) fn append(&mut self, records: &[Arc<Record>]) -> Result<Vec<Place>, Error> {
        self.check_sizes(records)?;
        let total: u64 = records.iter().map(|record| size(record)).sum();
        let count = records.len() as u64;
        if total <= self.group_bytes_max && total > 0 {
            self.make_room(total, count);
        }
        Ok(records.iter().map(|record| self.push(record)).collect())
    }

    /// Plans the group that marks a store closed in good order, unless it is marked already.
    pub(crate) fn close(&mut self) {
        if self.closed {
            return;
        }
        self.finish();
        if !self.has_room(0, 1, 0) {
            self.seal();
        }
        self.add(Kind::Close, 0);
        self.finish();
        self.closed = true;
    }

    /// The records so far of the segment that is being filled, if it is this one.
    pub(crate) fn entries(&self, segment: u64) -> &[Entry] {
        if segment == self.segment { &self.entries } else { &[] }
    }

    /// Ends the segment before it is full, unless nothing is in it.
    pub(crate) fn seal_early(&mut self) {
        self.finish();
        if self.groups_count > 1 {
            self.seal();
        }
    }

    /// The number of the segment that is being filled.
    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// The next group to write: its kind and payload, and whether it still takes records.
    pub(crate) fn next(&self) -> Option<(Kind, u64, bool)> {
        let group = self.groups.front()?;
        Some((group.kind, group.payload_bytes, self.open && self.groups.len() == 1))
    }

    /// Takes the next group; it takes no more records.
    pub(crate) fn pop(&mut self) -> Option<Group> {
        if self.groups.len() == 1 {
            self.finish();
        }
        self.groups.pop_front()
    }

    fn check_sizes(&self, records: &[Arc<Record>]) -> Result<(), Error> {
        let fixed = ALIGN + group_bytes(index_bytes(2, 1));
        // What is left of an empty segment, less the group's and the record's own frame.
        let room = self.segment_bytes_next.saturating_sub(fixed);
        let frame = frame::HEADER_BYTES + frame::TRAILER_BYTES + frame::RECORD_HEADER_BYTES;
        let bytes_max = room.saturating_sub(frame) & !7;
        for (index, record) in records.iter().enumerate() {
            let bytes = record.body.size() as u64;
            if bytes > bytes_max {
                return Err(Error::TooLarge { index, bytes, bytes_max });
            }
        }
        Ok(())
    }

    /// Begins a new group or segment where the records of one call would otherwise be parted.
    fn make_room(&mut self, bytes: u64, count: u64) {
        if self.fits_open(bytes, count) {
            return;
        }
        self.finish();
        let fixed = ALIGN + group_bytes(index_bytes(2, count));
        let fits_empty = fixed + group_bytes(bytes) <= self.segment_bytes_next;
        if fits_empty && !self.has_room(bytes, 1, count) {
            self.seal();
        }
    }

    fn push(&mut self, record: &Arc<Record>) -> Place {
        let bytes = size(record);
        if !self.fits_open(bytes, 1) {
            self.finish();
            if !self.has_room(bytes, 1, 1) {
                self.seal();
            }
            self.add(Kind::Records, 0);
            self.open = true;
        }
        let group = self.groups.back_mut().expect("a group was opened above");
        let entry = Entry {
            header: record.header(),
            offset: group.offset + frame::HEADER_BYTES + group.payload_bytes,
            bytes: u32::try_from(record.body.size()).expect("segments are below 4 GiB"),
        };
        group.payload_bytes += bytes;
        group.records.push(Arc::clone(record));
        self.entries.push(entry);
        self.records += 1;
        self.closed = false;
        entry.place(self.segment)
    }

    /// Whether the open group takes so many bytes and records more.
    fn fits_open(&self, bytes: u64, count: u64) -> bool {
        let Some(group) = self.groups.back().filter(|_| self.open) else {
            return false;
        };
        let payload = group.payload_bytes + bytes;
        // Counted by the field of 32 bits in the header.
        let countable = group.records.len() as u64 + count <= u64::from(u32::MAX);
        payload <= self.group_bytes_max && countable && self.has_room(payload, 0, count)
    }

    /// Whether a group of this payload fits at `offset`, and the index behind it, with so many
    /// groups and records more.
    fn has_room(&self, payload_bytes: u64, groups: u64, records: u64) -> bool {
        let records = self.entries.len() as u64 + records;
        let index = group_bytes(index_bytes(self.groups_count + groups, records));
        self.offset + group_bytes(payload_bytes) + index <= self.segment_bytes
    }

    /// Ends the open group, if there is one.
    fn finish(&mut self) {
        if self.open {
            let group = self.groups.back().expect("the open group is the last");
            self.offset += group_bytes(group.payload_bytes);
            self.open = false;
        }
    }

    /// Ends the segment with its index and begins the next one.
    fn seal(&mut self) {
        assert!(!self.open, "the open group ends before its segment");
        let entries = std::mem::take(&mut self.entries);
        self.seal = self.offset;
        self.add(Kind::Seal, index_bytes(self.groups_count, entries.len() as u64));
        let group = self.groups.back_mut().expect("added above");
        group.entries = entries;
        self.segment += 1;
        self.open_segment();
    }

    fn open_segment(&mut self) {
        self.segment_bytes = self.segment_bytes_next;
        self.offset = 0;
        self.groups_count = 0;
        self.entries.clear();
        self.add(Kind::Open, LINK_BYTES);
        self.closed = false;
    }

    /// Adds a group at `offset`; only groups of records stay open and move `offset` later.
    fn add(&mut self, kind: Kind, payload_bytes: u64) {
        self.groups.push_back(Group {
            kind,
            segment: self.segment,
            segment_bytes: self.segment_bytes,
            offset: self.offset,
            first_record: self.records,
            payload_bytes,
            records: Vec::new(),
            entries: Vec::new(),
            seal: self.seal,
        });
        self.groups_count += 1;
        if kind != Kind::Records {
            self.offset += group_bytes(payload_bytes);
            assert!(self.offset <= self.segment_bytes, "room was kept for it");
        }
    }
}

fn size(record: &Record) -> u64 {
    record_bytes(record.body.size() as u64)
}

#[cfg(test)]
mod tests;
