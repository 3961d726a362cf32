//! Buffers for groups: aligned to pages, as direct writes want them, and used again as they are.

use std::ops::Deref;

use memmap2::{Advice, MmapMut};

use crate::frame::{ALIGN, index};

/// Larger buffers are made of huge pages: the kernel looks each page of a direct write up, and 512
/// lookups for a group of 2 MiB took a seventh of all processor time.
const HUGE_BYTES: usize = 2 << 20;
/// Smaller ones stay small.
const SMALL_BYTES_MAX: usize = 128 << 10;

/// Bytes that begin at a page.
#[derive(Debug, Default)]
pub struct Buffer {
    /// `None` while nothing was ever put in.
    map: Option<MmapMut>,
    len: usize,
}

/// What a group is encoded into.
pub(crate) trait Sink: Deref<Target = [u8]> {
    /// Makes room for so many bytes in all.
    fn reserve(&mut self, bytes: usize);

    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends zeros up to a length.
    fn pad(&mut self, len: usize);
}

impl Buffer {
    /// Forgets the bytes and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// So many bytes to be filled, whatever was there before.
    pub(crate) fn filled(&mut self, bytes: usize) -> &mut [u8] {
        self.len = 0;
        self.pad(bytes);
        &mut self.map.as_mut().expect("padded above")[..bytes]
    }

    pub(crate) fn capacity(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.len())
    }

    /// The memory from the end of the bytes on, at least so much.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.len + bytes;
        self.reserve(end);
        let map = self.map.as_mut().expect("reserved above");
        &mut map[self.len..end]
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.len])
    }
}

impl Sink for Buffer {
    fn reserve(&mut self, bytes: usize) {
        if bytes <= self.capacity() && bytes > 0 {
            return;
        }
        let unit = if bytes <= SMALL_BYTES_MAX { index(ALIGN) } else { HUGE_BYTES };
        let capacity = bytes.next_multiple_of(unit).max(unit);
        // Without memory there is no going on, as with any other allocation.
        let mut map = MmapMut::map_anon(capacity).expect("memory for a group");
        if unit == HUGE_BYTES {
            // A wish: without huge pages it is only slower.
            let _ = map.advise(Advice::HugePage);
        }
        map[..self.len].copy_from_slice(self);
        self.map = Some(map);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn pad(&mut self, len: usize) {
        assert!(len >= self.len, "padding does not shorten");
        self.room(len - self.len).fill(0);
        self.len = len;
    }
}

impl Sink for Vec<u8> {
    fn reserve(&mut self, bytes: usize) {
        self.reserve_exact(bytes.saturating_sub(self.len()));
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn pad(&mut self, len: usize) {
        self.resize(len, 0);
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        let mut buffer = Self::default();
        buffer.put(&bytes);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_keeps_its_bytes_and_begins_at_a_page() {
        let mut buffer = Buffer::default();
        assert_eq!((&*buffer, buffer.capacity()), (&[][..], 0));
        let mut expected = Vec::new();
        for size in [0, 1, 4_000, 95, 1, 20_000] {
            let bytes = vec![u8::try_from(size % 251).unwrap(); size];
            buffer.put(&bytes);
            expected.extend_from_slice(&bytes);
            assert_eq!(&*buffer, expected);
            assert!(buffer.as_ptr().addr().is_multiple_of(4096));
        }
        buffer.pad(28_672);
        assert_eq!(buffer.len(), 28_672);
        assert!(buffer[expected.len()..].iter().all(|byte| *byte == 0));
        let capacity = buffer.capacity();
        buffer.clear();
        buffer.put(&[1]);
        buffer.pad(3);
        assert_eq!((&*buffer, buffer.capacity()), (&[1, 0, 0][..], capacity), "old bytes are gone");
    }
}
