//! Puts a damaged opening or seal back while a store opens: neighbours determine every byte of it.

use std::sync::Arc;

use super::{Opened, Repair, corrupt, failed};
use crate::anchor::Anchor;
use crate::buffer::Buffer;
use crate::disk::Disk;
use crate::error::{Damage, Error};
use crate::frame::{self, ALIGN, Header, Kind};
use crate::repair;
use crate::segment::Opening;

/// Rewrites the opening or the seal at a place that a scan found damaged; answers whether it did.
///
/// Shape: `segments` as the disk lists them. A group that is not determined, or is what it should be,
/// is left alone: then the damage is another.
/// Errors: the machine's; damage in what it would be rebuilt from.
pub(crate) fn mend(
    disk: &mut dyn Disk,
    segments: &[(u64, u64)],
    anchor: &Anchor,
    segment: u64,
    offset: u64,
) -> Result<bool, Error> {
    let around = Around { disk, segments, anchor };
    let rebuilt = if offset == 0 { around.opening(segment) } else { around.seal(segment, offset) };
    let Some(bytes) = rebuilt? else { return Ok(false) };
    let Some(file) = around.segment(segment)? else { return Ok(false) };
    let mut found = vec![0; bytes.len()];
    let read = file.source.read(offset, &mut found);
    if read.is_ok() && found == *bytes {
        return Ok(false);
    }
    let mut repair = Repair { disk, ticket: 0 };
    repair.write(segment, offset, bytes)?;
    Ok(true)
}

/// What a group is rebuilt from.
struct Around<'a> {
    disk: &'a dyn Disk,
    segments: &'a [(u64, u64)],
    anchor: &'a Anchor,
}

impl Around<'_> {
    fn segment(&self, number: u64) -> Result<Option<Opened>, Error> {
        let Some((_, bytes)) = self.segments.iter().find(|(other, _)| *other == number) else {
            return Ok(None);
        };
        let source = self.disk.open(number).map_err(|source| failed(number, 0, "open", source))?;
        Ok(Some(Opened { number, bytes: *bytes, source: Arc::clone(&source) }))
    }

    /// A group that says of itself that it belongs here.
    fn group(&self, opened: &Opened, offset: u64) -> Result<Option<(Header, Vec<u8>)>, Error> {
        let mut buffer = Vec::new();
        if offset >= opened.bytes {
            return Ok(None);
        }
        // What cannot be read says nothing.
        let header = opened.file().group(offset, &mut buffer).ok().and_then(Result::ok);
        let own = |header: &Header| {
            header.segment == opened.number
                && header.segment_bytes == opened.bytes
                && header.offset == offset
        };
        Ok(header.filter(own).map(|header| (header, buffer)))
    }

    /// An opening: the group after it has its hash, epoch and record number, the segment before it
    /// its link.
    fn opening(&self, number: u64) -> Result<Option<Buffer>, Error> {
        let Some(opened) = self.segment(number)? else { return Ok(None) };
        let Some((second, _)) = self.group(&opened, ALIGN)? else { return Ok(None) };
        let before = if number == self.anchor.segment {
            Some((self.anchor.link, self.anchor.previous))
        } else {
            self.seal_of(number - 1)?
        };
        let Some((link, previous)) = before else { return Ok(None) };
        let opening = Opening {
            number,
            bytes: opened.bytes,
            epoch: second.epoch,
            network: second.network,
            first_record: second.first_record,
            previous,
            link,
        };
        Ok(repair::opening(&opening, second.previous))
    }

    /// Where a segment is sealed, and the seal's hash, found by going from group to group.
    fn seal_of(&self, number: u64) -> Result<Option<(u64, [u8; 32])>, Error> {
        let Some(opened) = self.segment(number)? else { return Ok(None) };
        let mut offset = 0;
        let mut buffer = Vec::new();
        while offset < opened.bytes {
            let Ok(Ok(header)) = opened.file().header(offset, &mut buffer) else {
                return Ok(None);
            };
            if header.kind == Kind::Seal {
                let seal = self.group(&opened, offset)?;
                return Ok(seal.map(|(header, seal)| (offset, frame::trailer(&header, &seal))));
            }
            offset += header.group_bytes();
        }
        Ok(None)
    }

    /// A seal: the groups before it are its content, the next segment's opening has its hash.
    fn seal(&self, number: u64, offset: u64) -> Result<Option<Buffer>, Error> {
        let (Some(opened), Some(next)) = (self.segment(number)?, self.segment(number + 1)?) else {
            return Ok(None);
        };
        let opening = |opened: &Opened| -> Result<Option<Opening>, Error> {
            let group = self.group(opened, 0)?;
            Ok(group.and_then(|(header, group)| Opening::decode(&header, &group)))
        };
        let (Some(own), Some(next)) = (opening(&opened)?, opening(&next)?) else {
            return Ok(None);
        };
        if next.link != offset || !offset.is_multiple_of(ALIGN) || offset >= opened.bytes {
            return Ok(None);
        }
        let (lines, entries) = opened.file().index(offset)?;
        let seal = repair::seal(&own, offset, &next, lines, entries);
        // Nothing but the index is in it.
        seal.map(|seal| seal.rebuild(&[]).ok_or_else(|| corrupt(number, offset, Damage::Index)))
            .transpose()
    }
}
