//! Read-only memory map of a sealed segment; bad media is an error, not a signal.
#![expect(unsafe_code, reason = "mapping a file is unsafe: its bytes are memory that others own")]

use std::fs::File;
use std::io;

use memmap2::{Advice, Mmap, MmapOptions};

use crate::frame::index;

/// A map of one sealed segment, or of a file that is complete and no longer written.
#[derive(Debug)]
pub struct Map {
    map: Mmap,
}

impl Map {
    /// Maps a whole file, without touching its pages.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: of sealed segments, the only files that are mapped, the process that holds the
        // folder's lock writes nothing again but groups that were found damaged, each as it was when
        // whoever has a view of it checked it; and it gives a file to another segment only when nobody
        // has a view or a lease. Whoever changes files from outside breaks the store's terms.
        let map = unsafe { MmapOptions::new().map(file) }?;
        Ok(Self { map })
    }

    /// All bytes, in memory or not.
    ///
    /// Whoever reads pages that [`Map::populated`] has not seen, or that were evicted since from a
    /// medium that has gone bad, is killed by SIGBUS.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The bytes of a range, after the kernel has brought every page of it into memory.
    ///
    /// Errors: the medium's, and [`io::ErrorKind::UnexpectedEof`] past the end;
    /// [`io::ErrorKind::InvalidInput`] on kernels before 5.14, which cannot say beforehand whether
    /// a page is readable.
    pub(crate) fn populated(&self, offset: u64, bytes: u64) -> io::Result<&[u8]> {
        let begin = index(offset);
        let end = begin + index(bytes);
        let range = self.map.get(begin..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        if !range.is_empty() {
            self.map.advise_range(Advice::PopulateRead, begin, range.len())?;
        }
        Ok(range)
    }
}
