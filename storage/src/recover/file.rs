//! One segment's file as a scan reads it: headers, whole groups, the end of what is used.

use super::{SCAN_BYTES, corrupt, failed};
use crate::disk::Source;
use crate::error::{Damage, Error};
use crate::frame::{self, ALIGN, Entry, Header, Kind, Line, Records, index};

/// One segment's file under the scan.
pub(crate) struct File<'a> {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) source: &'a dyn Source,
}

impl File<'_> {
    /// The index of the groups before an offset, from the groups themselves.
    ///
    /// Errors: one of them is damaged.
    pub(crate) fn index(&self, end: u64) -> Result<(Vec<Line>, Vec<Entry>), Error> {
        let (mut lines, mut entries) = (Vec::new(), Vec::new());
        let (mut offset, mut buffer) = (0, Vec::new());
        while offset < end {
            let fail = |what| corrupt(self.number, offset, what);
            let header = self.group(offset, &mut buffer)?.map_err(fail)?;
            // A whole group may have been written to a wrong place.
            if header.offset != offset || offset + header.group_bytes() > end {
                return Err(fail(Damage::Misplaced));
            }
            if header.kind == Kind::Records {
                for record in Records::new(&header, &buffer) {
                    let (at, record, body) = record.map_err(fail)?;
                    let bytes = u32::try_from(body.len()).expect("read from a field of 32 bits");
                    entries.push(Entry { header: record, offset: offset + at, bytes });
                }
            }
            lines.push(Line::new(&header, frame::trailer(&header, &buffer)));
            offset += header.group_bytes();
        }
        Ok((lines, entries))
    }

    /// The header at an offset, or why there is none.
    pub(super) fn header(
        &self,
        at: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Result<Header, Damage>, Error> {
        buffer.resize(index(ALIGN), 0);
        self.read(at, buffer)?;
        Ok(Header::decode(buffer))
    }

    /// The group at an offset, its hash checked, left in the buffer; or why there is none.
    pub(super) fn group(
        &self,
        at: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Result<Header, Damage>, Error> {
        let header = match self.header(at, buffer)? {
            Ok(header) => header,
            Err(what) => return Ok(Err(what)),
        };
        if header.group_bytes() > self.bytes - at {
            return Ok(Err(Damage::Length));
        }
        buffer.resize(index(header.group_bytes()), 0);
        let read = self.source.read(at + ALIGN, &mut buffer[index(ALIGN)..]);
        // Whichever page it was, the group is what cannot be read.
        read.map_err(|source| failed(self.number, at, "read", source))?;
        Ok(frame::check(&header, buffer).map(|_| header))
    }

    /// The end of the last page that is not zero, from an offset on.
    pub(super) fn last_used(&self, from: u64) -> Result<Option<u64>, Error> {
        let mut last = None;
        let mut buffer = vec![0; index(SCAN_BYTES)];
        let mut at = from;
        while at < self.bytes {
            let chunk = &mut buffer[..index(SCAN_BYTES.min(self.bytes - at))];
            self.read(at, chunk)?;
            if !frame::is_zero(chunk) {
                let pages = chunk.chunks(index(ALIGN));
                let page = pages.enumerate().rfind(|(_, page)| !frame::is_zero(page));
                last = page.map(|(page, _)| at + (page as u64 + 1) * ALIGN);
            }
            at += chunk.len() as u64;
        }
        Ok(last)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.source.read(at, buffer).map_err(|source| failed(self.number, at, "read", source))
    }
}
