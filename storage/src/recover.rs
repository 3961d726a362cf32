//! Finds out what a store holds: sealed segments from their indexes or byte by byte, the newest one
//! group by group; the torn tail, the damage.

use std::io;
use std::sync::Arc;

use crate::anchor::Anchor;
use crate::buffer::Buffer;
use crate::catalog::Catalog;
use crate::disk::{Disk, Source, Write};
use crate::error::{Damage, Error};
use crate::frame::{self, ALIGN, Entry, HEADER_BYTES, Header, Kind, Line, Records, index};
use crate::segment::{Opening, Segment};

/// What opening a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The records since the store's beginning, those that were pruned counted.
    pub records: u64,
    /// The bytes of all groups that are there, padding included.
    pub bytes: u64,
    /// The groups that are there, those without records included.
    pub groups: u64,
    /// The segments that are there, a spare one not counted.
    pub segments: u64,
    /// The unfinished write after the last group, if there is one; a store that is opened for
    /// writing has cut it.
    pub cut: Option<Cut>,
    /// Whether the store was closed in good order, or is new.
    pub clean: bool,
    /// Damaged openings and seals that were put back from what lies around them.
    pub mended: u64,
}

/// An unfinished write at the end of a store: bytes that were never acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The newest segment's number.
    pub segment: u64,
    /// The first byte after the last whole group.
    pub offset: u64,
    /// From there to the end of the last 4 KiB that is not zero.
    pub bytes: u64,
}

/// The end of the log, from which a writer goes on.
#[derive(Debug, Default)]
pub(crate) struct End {
    pub(crate) segment: u64,
    /// The size of that segment's file; `None` where it does not exist.
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) offset: u64,
    /// What the newest group of the segment knew to be durable below it.
    durable: u64,
    pub(crate) epoch: u64,
    pub(crate) previous: [u8; 32],
    pub(crate) lines: Vec<Line>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) sealed: bool,
    /// Where the last seal is, zero before the first.
    pub(crate) seal: u64,
    /// (segment, from, to): bytes that may have been read from the page cache alone.
    unsettled: Option<(u64, u64, u64)>,
}

/// A store that was read through.
pub(crate) struct Scanned {
    pub(crate) catalog: Catalog,
    pub(crate) recovery: Recovery,
    pub(crate) end: End,
    pub(crate) network: Option<[u8; 32]>,
}

/// How much of a store is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Of sealed segments the first group and the index, which the next segment's first group
    /// vouches for; of what is newer every byte. What is not read now is checked when it is.
    Tail,
    /// Every byte.
    All,
}

/// Reads and checks a store, and changes nothing.
///
/// Shape: `segments` as (number, bytes), ascending; those below the anchor are passed over.
/// Errors: damage with its place; another network; the machine's.
pub(crate) fn scan(
    segments: &[(u64, u64)],
    anchor: &Anchor,
    network: Option<[u8; 32]>,
    depth: Depth,
    mut open: impl FnMut(u64) -> io::Result<Arc<dyn Source>>,
) -> Result<Scanned, Error> {
    let mut scan = Scan {
        network,
        catalog: Catalog { first: anchor.segment, ..Catalog::default() },
        recovery: Recovery { clean: true, records: anchor.first_record, ..Recovery::default() },
        end: End {
            segment: anchor.segment,
            previous: anchor.previous,
            seal: anchor.link,
            ..End::default()
        },
        broken_off: None,
        sealed: anchor.sealed,
    };
    let mut sources = Vec::with_capacity(segments.len());
    let left = segments.iter().filter(|(number, _)| *number >= anchor.segment);
    for (expected, (number, bytes)) in (anchor.segment..).zip(left) {
        if *number != expected {
            return Err(corrupt(expected, 0, Damage::Missing));
        }
        if !bytes.is_multiple_of(ALIGN) || *bytes == 0 || *bytes > u64::from(u32::MAX) {
            return Err(corrupt(*number, 0, Damage::Size));
        }
        let source = open(*number).map_err(|source| failed(*number, 0, "open", source))?;
        sources.push(Opened { number: *number, bytes: *bytes, source });
    }
    let end = anchor.segment + sources.len() as u64;
    if end < anchor.sealed {
        return Err(corrupt(end, 0, Damage::Missing));
    }
    let newest = match depth {
        Depth::Tail => newest_begun(&sources)?,
        Depth::All => 0,
    };
    for pair in sources.windows(2).take(newest) {
        scan.sealed(&pair[0], &pair[1])?;
    }
    for opened in &sources[newest..] {
        scan.segment(opened)?;
    }
    if anchor.segment > 0 && scan.catalog.segments.is_empty() {
        // Pruning leaves the newest segment.
        return Err(corrupt(anchor.segment, 0, Damage::Missing));
    }
    let recovery = scan.recovery;
    Ok(Scanned { catalog: scan.catalog, recovery, end: scan.end, network: scan.network })
}

/// A segment whose file is open.
struct Opened {
    number: u64,
    bytes: u64,
    source: Arc<dyn Source>,
}

impl Opened {
    fn file(&self) -> File<'_> {
        File { number: self.number, bytes: self.bytes, source: &*self.source }
    }
}

/// The place of the newest segment that has an opening group, or 0.
fn newest_begun(sources: &[Opened]) -> Result<usize, Error> {
    let mut buffer = Vec::new();
    for (place, opened) in sources.iter().enumerate().rev() {
        if opened.file().group(0, &mut buffer)?.is_ok() {
            return Ok(place);
        }
    }
    Ok(0)
}

/// Makes what a scan found durable: the torn tail is zeroed, and what only the page cache may
/// hold is written again.
///
/// After a failed sync the kernel may keep pages and call them clean: reading them back proves
/// nothing about the medium, writing them again does.
pub(crate) fn settle(disk: &mut dyn Disk, scanned: &Scanned) -> Result<(), Error> {
    let mut repair = Repair { disk, ticket: 0 };
    if let Some(cut) = scanned.recovery.cut {
        repair.zero(cut.segment, cut.offset, cut.offset + cut.bytes)?;
    }
    match scanned.end.unsettled {
        Some((segment, from, to)) => repair.rewrite(segment, from, to),
        None => Ok(()),
    }
}

struct Scan {
    network: Option<[u8; 32]>,
    catalog: Catalog,
    recovery: Recovery,
    end: End,
    /// Where a segment ended without a seal: nothing may follow in later segments.
    broken_off: Option<(u64, u64, Damage)>,
    /// Segments below this number are known to be sealed.
    sealed: u64,
}

impl Scan {
    /// Takes a sealed segment's groups and records from its index.
    ///
    /// The opening of the next segment has the seal's place and hash; it was checked by its own
    /// hash, and in turn by the next but one.
    fn sealed(&mut self, opened: &Opened, next: &Opened) -> Result<(), Error> {
        let (file, number) = (opened.file(), opened.number);
        let mut buffer = Vec::new();
        let after = self.opening(&next.file(), &mut buffer)?;
        let link = frame::decode_link(&after, &buffer)
            .ok_or_else(|| corrupt(next.number, 0, Damage::Length))?;
        let opening = self.opening(&file, &mut buffer)?;
        let opened_by = Opening::decode(&opening, &buffer)
            .filter(|opened_by| opened_by.link == self.end.seal)
            .ok_or_else(|| corrupt(number, 0, Damage::Link))?;
        if opening.previous != self.end.previous || opening.first_record != self.recovery.records {
            return Err(corrupt(number, 0, Damage::Link));
        }
        let fail = |what| corrupt(number, link, what);
        if !link.is_multiple_of(ALIGN) || link == 0 || link >= opened.bytes {
            return Err(corrupt(next.number, 0, Damage::Link));
        }
        let seal = file.group(link, &mut buffer)?.map_err(fail)?;
        let own = seal.kind == Kind::Seal
            && seal.segment == number
            && seal.segment_bytes == opened.bytes
            && seal.offset == link
            && seal.epoch == opening.epoch
            && seal.network == opening.network;
        if !own {
            return Err(fail(Damage::Misplaced));
        }
        if frame::trailer(&seal, &buffer) != after.previous {
            return Err(fail(Damage::Link));
        }
        let payload = &buffer[index(HEADER_BYTES)..index(HEADER_BYTES + seal.payload_bytes)];
        let (lines, entries) = frame::decode_index(payload).ok_or_else(|| fail(Damage::Index))?;
        let source = Arc::clone(&opened.source);
        let segment = Arc::new(Segment::new(opened_by, source));
        let mut offset = 0;
        let mut records = 0;
        for line in &lines {
            let bytes = frame::group_bytes(line.payload_bytes);
            segment.push(offset, bytes, None);
            offset += bytes;
            records += u64::from(line.count);
        }
        let ends = offset == link && records == entries.len() as u64;
        if !ends || opening.first_record + records != after.first_record {
            return Err(fail(Damage::Index));
        }
        segment.push(link, seal.group_bytes(), None);
        segment.seal();
        for entry in &entries {
            self.catalog.index.insert(&entry.header, entry.place(number));
        }
        self.catalog.open(segment);
        self.recovery.segments += 1;
        self.recovery.groups += lines.len() as u64 + 1;
        self.recovery.bytes += link + seal.group_bytes();
        self.recovery.records += records;
        self.end = End { previous: after.previous, seal: link, ..End::default() };
        Ok(())
    }

    /// The opening group of a segment, checked as far as it says anything about itself.
    fn opening(&mut self, file: &File<'_>, buffer: &mut Vec<u8>) -> Result<Header, Error> {
        let fail = |what| corrupt(file.number, 0, what);
        let header = file.group(0, buffer)?.map_err(fail)?;
        self.belongs(file, &header)?;
        if header.kind != Kind::Open {
            return Err(fail(Damage::Kind));
        }
        Ok(header)
    }

    /// Checks that a group is of this network, this file and this place.
    fn belongs(&mut self, file: &File<'_>, header: &Header) -> Result<(), Error> {
        let offset = header.offset;
        let expected = *self.network.get_or_insert(header.network);
        if header.network != expected {
            let (segment, found) = (file.number, header.network);
            return Err(Error::OtherNetwork { segment, offset, found, expected });
        }
        if header.segment_bytes != file.bytes {
            return Err(corrupt(file.number, offset, Damage::Size));
        }
        if header.segment != file.number {
            return Err(corrupt(file.number, offset, Damage::Misplaced));
        }
        Ok(())
    }

    fn segment(&mut self, opened: &Opened) -> Result<(), Error> {
        let Opened { number, bytes, source } = opened;
        let (number, bytes) = (*number, *bytes);
        let file = opened.file();
        if let Some((segment, offset, what)) = self.broken_off {
            return match file.last_used(0)? {
                None => Ok(()),
                Some(_) => Err(corrupt(segment, offset, what)),
            };
        }
        self.end = End {
            segment: number,
            segment_bytes: Some(bytes),
            previous: self.end.previous,
            seal: self.end.seal,
            unsettled: self.end.unsettled,
            ..End::default()
        };
        let mut segment: Option<Arc<Segment>> = None;
        let mut buffer = Vec::new();
        while !self.end.sealed && self.end.offset < bytes {
            let offset = self.end.offset;
            let header = match file.group(offset, &mut buffer)? {
                Ok(header) => header,
                Err(what) => return self.tail(&file, what),
            };
            self.follows(&file, &header)?;
            if header.kind == Kind::Open {
                let opening = Opening::decode(&header, &buffer)
                    .ok_or_else(|| corrupt(number, offset, Damage::Length))?;
                let opened = Arc::new(Segment::new(opening, Arc::clone(source)));
                self.catalog.open(Arc::clone(&opened));
                self.recovery.segments += 1;
                segment = Some(opened);
            }
            // A group of another kind in the first place was refused above.
            let segment = segment.as_ref().expect("the first group opens");
            self.take(&header, &buffer, segment)?;
        }
        if !self.end.sealed {
            // Room for the seal is always kept: a segment never fills up without one.
            return Err(corrupt(number, self.end.offset.min(bytes - ALIGN), Damage::Unsealed));
        }
        match file.last_used(self.end.offset)? {
            None => Ok(()),
            Some(_) => Err(corrupt(number, self.end.offset, Damage::Unused)),
        }
    }

    /// Checks a group whose hash is right against everything before it.
    fn follows(&mut self, file: &File<'_>, header: &Header) -> Result<(), Error> {
        let offset = self.end.offset;
        let fail = |what| Err(corrupt(file.number, offset, what));
        let own_epoch = offset == 0 || header.epoch == self.end.epoch;
        if header.offset != offset || !own_epoch {
            return fail(Damage::Misplaced);
        }
        self.belongs(file, header)?;
        if (offset == 0) != (header.kind == Kind::Open) {
            return fail(Damage::Kind);
        }
        if header.previous != self.end.previous {
            return fail(Damage::Link);
        }
        if header.durable < self.end.durable || header.durable > offset {
            return fail(Damage::Link);
        }
        if header.first_record != self.recovery.records {
            return fail(Damage::Numbers);
        }
        Ok(())
    }

    /// Enters a group that was checked.
    fn take(&mut self, header: &Header, group: &[u8], segment: &Segment) -> Result<(), Error> {
        let offset = header.offset;
        let fail = |what| corrupt(header.segment, offset, what);
        match header.kind {
            Kind::Open => {
                let link = frame::decode_link(header, group).ok_or_else(|| fail(Damage::Length))?;
                if link != self.end.seal {
                    return Err(fail(Damage::Link));
                }
                self.end.epoch = header.epoch;
            }
            Kind::Records => {}
            Kind::Seal => {
                let mut expected = Vec::new();
                frame::encode_index(&self.end.lines, &self.end.entries, &mut expected);
                let found = &group[index(HEADER_BYTES)..index(HEADER_BYTES + header.payload_bytes)];
                if found != expected {
                    return Err(fail(Damage::Index));
                }
                self.end.entries = Vec::new();
                self.end.sealed = true;
                self.end.seal = offset;
            }
            Kind::Close => {}
        }
        if header.kind == Kind::Records {
            let mut count = 0;
            for record in Records::new(header, group) {
                let (at, record, body) = record.map_err(fail)?;
                let bytes = u32::try_from(body.len()).expect("read from a field of 32 bits");
                let entry = Entry { header: record, offset: offset + at, bytes };
                self.catalog.index.insert(&record, entry.place(header.segment));
                self.end.entries.push(entry);
                count += 1;
            }
            if count != header.count {
                return Err(fail(Damage::Numbers));
            }
        } else if header.count != 0 || (header.kind == Kind::Close && header.payload_bytes != 0) {
            return Err(fail(Damage::Length));
        }
        let line = Line::new(header, frame::trailer(header, group));
        segment.push(offset, header.group_bytes(), Some(line));
        if header.kind == Kind::Seal {
            segment.seal();
        }
        self.recovery.records += u64::from(header.count);
        self.recovery.bytes += header.group_bytes();
        self.recovery.groups += 1;
        self.recovery.clean = header.kind == Kind::Close;
        self.end.previous = line.hash;
        self.end.lines.push(line);
        self.end.durable = header.durable;
        self.end.offset = offset + header.group_bytes();
        let settled = header.segment < self.sealed;
        let unsettled = (header.segment, header.durable, self.end.offset);
        self.end.unsettled = (!settled).then_some(unsettled);
        Ok(())
    }

    /// Judges what follows the last group: nothing, an unfinished write, or damage.
    ///
    /// A later group that was begun when these bytes were already durable proves damage. Groups
    /// that were in flight together may have reached the medium in any order: without such a proof
    /// the bytes were never acknowledged.
    fn tail(&mut self, file: &File<'_>, what: Damage) -> Result<(), Error> {
        let offset = self.end.offset;
        if file.number < self.sealed {
            return Err(corrupt(file.number, offset, what));
        }
        let last = file.last_used(offset)?;
        if let Some(last) = last {
            self.recovery.clean = false;
            let bytes = last - offset;
            // The opening group is durable before anything else is written to its segment.
            if offset == 0 && last > ALIGN {
                return Err(corrupt(file.number, 0, what));
            }
            let mut at = offset + ALIGN;
            let mut buffer = Vec::new();
            while offset > 0 && at < last {
                if let Some(durable) = self.durable_of(file, at, &mut buffer)?
                    && durable > offset
                {
                    return Err(corrupt(file.number, offset, what));
                }
                at += ALIGN;
            }
            self.recovery.cut = Some(Cut { segment: file.number, offset, bytes });
        }
        let what = if last.is_some() { what } else { Damage::Unsealed };
        self.broken_off = Some((file.number, offset, what));
        Ok(())
    }

    /// What a later group of this segment knew to be durable, if there is one at this place.
    fn durable_of(
        &self,
        file: &File<'_>,
        at: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<u64>, Error> {
        // The epoch is asked for before the hash: whoever fills records with the likeness of
        // groups does not know it.
        let own = |header: &Header| {
            header.segment == file.number
                && header.segment_bytes == file.bytes
                && header.offset == at
                && header.epoch == self.end.epoch
                && Some(header.network) == self.network
        };
        match file.header(at, buffer)? {
            Ok(header) if own(&header) => {
                let valid = file.group(at, buffer)?.is_ok();
                Ok(valid.then_some(header.durable))
            }
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

/// 1 MiB: large enough for the device, small enough for the cache.
const SCAN_BYTES: u64 = 1 << 20;

struct Repair<'a> {
    disk: &'a mut dyn Disk,
    ticket: u64,
}

impl Repair<'_> {
    /// Zeroes the pieces of a range that are not zero.
    fn zero(&mut self, segment: u64, from: u64, to: u64) -> Result<(), Error> {
        self.each(segment, from, to, |piece| !frame::is_zero(piece), |piece| piece.fill(0))
    }

    /// Writes a range again as it reads now.
    fn rewrite(&mut self, segment: u64, from: u64, to: u64) -> Result<(), Error> {
        self.each(segment, from, to, |_| true, |_| {})
    }

    /// Writes each piece of a range that is wanted, changed.
    fn each(
        &mut self,
        segment: u64,
        from: u64,
        to: u64,
        wanted: impl Fn(&[u8]) -> bool,
        change: impl Fn(&mut [u8]),
    ) -> Result<(), Error> {
        let source =
            self.disk.open(segment).map_err(|error| failed(segment, from, "open", error))?;
        let mut at = from;
        while at < to {
            let mut piece = vec![0; index(SCAN_BYTES.min(to - at))];
            source.read(at, &mut piece).map_err(|error| failed(segment, at, "read", error))?;
            let bytes = piece.len() as u64;
            if wanted(&piece) {
                change(&mut piece);
                self.write(segment, at, piece.into())?;
            }
            at += bytes;
        }
        Ok(())
    }

    /// Writes and waits until it is durable: tails are short.
    fn write(&mut self, segment: u64, offset: u64, bytes: Buffer) -> Result<(), Error> {
        self.ticket += 1;
        self.disk.submit(Write { ticket: self.ticket, segment, offset, bytes });
        let mut done = Vec::new();
        while done.is_empty() {
            self.disk.complete(&mut done);
        }
        let completion = done.pop().expect("one write was submitted");
        completion.result.map_err(|error| failed(segment, offset, "write", error))
    }
}

fn corrupt(segment: u64, offset: u64, what: Damage) -> Error {
    Error::Corrupt { segment, offset, what }
}

fn failed(segment: u64, offset: u64, action: &'static str, source: io::Error) -> Error {
    Error::Disk { segment, offset, action, source: Arc::new(source) }
}

mod file;
mod mend;

pub(crate) use file::File;
pub(crate) use mend::mend;

#[cfg(test)]
mod tests;
