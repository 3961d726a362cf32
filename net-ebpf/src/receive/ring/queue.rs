//! The two rings that are shared with the kernel: indexes that only grow, and entries between them.
//!
//! One side produces and one consumes. The producer writes entries, then moves its index (release);
//! the consumer reads that index (acquire), then the entries, then moves its own (release), after
//! which the producer may write them again. The side of an index that is ours is kept here and only
//! written there.
//!
//! Source: `Documentation/networking/af_xdp.rst` and `net/xdp/xsk_queue.h` of Linux.
#![expect(unsafe_code, reason = "the kernel shares the rings as memory")]

use std::{
    io, slice,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use memmap2::MmapRaw;
use rustix::net::xdp::{XdpRingFlags, XdpRingOffset};

/// The words of 64 bits in an entry of the rx ring: a place, and a size with options.
pub(super) const RX_WORDS: usize = 2;
/// The words of 64 bits in an entry of the fill ring: a place.
pub(super) const FILL_WORDS: usize = 1;

/// A packet's place in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Where its first byte is.
    pub(super) address: u64,
    /// How many bytes it has.
    pub(super) size: usize,
}

/// The memory of one ring, seen as words that two sides change.
pub(super) struct Queue {
    map: MmapRaw,
    /// Places of the indexes and the flags, in words of 32 bits.
    producer: usize,
    consumer: usize,
    flags: usize,
    /// The place of the first entry. Units: bytes.
    entries: usize,
    entry_words: usize,
    count: u32,
}

/// The size of a ring's memory.
///
/// Errors: `InvalidData` when the kernel's numbers are no sizes.
pub(super) fn size(offsets: &XdpRingOffset, count: u32, entry_words: usize) -> io::Result<usize> {
    let entries = place(offsets.desc, 8)?;
    Ok(entries + count as usize * entry_words * size_of::<u64>())
}

/// A place that the kernel names, as a number of bytes that is aligned.
fn place(offset: u64, align: usize) -> io::Result<usize> {
    let small = u16::try_from(offset).ok().map(usize::from);
    small.filter(|place| place.is_multiple_of(align)).ok_or(io::ErrorKind::InvalidData.into())
}

impl Queue {
    /// Reads a ring in its memory.
    ///
    /// Errors: `InvalidData` when the kernel's numbers do not fit the memory, `Unsupported` when the
    /// ring has no flags (before Linux 5.4).
    pub(super) fn new(
        map: MmapRaw,
        offsets: &XdpRingOffset,
        count: u32,
        entry_words: usize,
    ) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel's rule");
        let flags = offsets.flags.ok_or(io::ErrorKind::Unsupported)?;
        let [producer, consumer, flags] =
            [place(offsets.producer, 4)?, place(offsets.consumer, 4)?, place(flags, 4)?];
        let entries = place(offsets.desc, 8)?;
        let inside = producer.max(consumer).max(flags) + size_of::<u32>() <= entries;
        if !inside || size(offsets, count, entry_words)? > map.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let [producer, consumer, flags] = [producer, consumer, flags].map(|at| at / 4);
        Ok(Self { map, producer, consumer, flags, entries, entry_words, count })
    }

    /// The words in front of the entries.
    fn indexes(&self) -> &[AtomicU32] {
        let first = self.map.as_ptr().cast::<AtomicU32>();
        // SAFETY: the map is aligned to a page and longer than `entries`, as `new` checked; both
        // sides change these words as atomic ones only, and none of them in another size.
        unsafe { slice::from_raw_parts(first, self.entries / size_of::<u32>()) }
    }

    /// The words of the entries.
    fn entries(&self) -> &[AtomicU64] {
        // SAFETY: `entries` lies in the map, as `new` checked.
        let first = unsafe { self.map.as_ptr().add(self.entries) }.cast::<AtomicU64>();
        // SAFETY: `entries` is aligned to 8 bytes, and as many words follow it in the map, as `new`
        // checked; the kernel writes an entry only while it is between its index and ours.
        unsafe { slice::from_raw_parts(first, self.count as usize * self.entry_words) }
    }

    /// The words of the entry with this number; numbers wrap.
    fn entry(&self, number: u32) -> &[AtomicU64] {
        let place = (number & (self.count - 1)) as usize;
        &self.entries()[place * self.entry_words..][..self.entry_words]
    }
}

/// The ring of packets: the kernel produces, we consume.
pub(super) struct RxQueue {
    queue: Queue,
    consumed: u32,
}

impl RxQueue {
    /// Reads a new ring.
    pub(super) fn new(queue: Queue) -> Self {
        assert_eq!(queue.entry_words, RX_WORDS, "a ring of descriptors");
        let consumed = queue.indexes()[queue.consumer].load(Ordering::Relaxed);
        Self { queue, consumed }
    }

    /// How many packets are there.
    ///
    /// Panics: when the kernel says that there are more than the ring holds.
    pub(super) fn available(&self) -> usize {
        let produced = self.queue.indexes()[self.queue.producer].load(Ordering::Acquire);
        let available = produced.wrapping_sub(self.consumed);
        assert!(available <= self.queue.count, "the kernel fills no more than the ring holds");
        available as usize
    }

    /// The packet at a place in front of the first; it must be below what was available.
    pub(super) fn read(&self, place: usize) -> Descriptor {
        let ahead = u32::try_from(place).expect("a place in the ring");
        let entry = self.queue.entry(self.consumed.wrapping_add(ahead));
        let address = entry[0].load(Ordering::Relaxed);
        let size_options = entry[1].load(Ordering::Relaxed);
        Descriptor { address, size: size_word(size_options) as usize }
    }

    /// Lets the kernel have the entries of the first packets again.
    pub(super) fn release(&mut self, count: usize) {
        let count = u32::try_from(count).expect("no more than were available");
        self.consumed = self.consumed.wrapping_add(count);
        self.queue.indexes()[self.queue.consumer].store(self.consumed, Ordering::Release);
    }

    /// The memory of the ring.
    pub(super) fn memory_bytes(&self) -> usize {
        self.queue.map.len()
    }
}

/// The size in the second word of a descriptor, the first half of the word in memory.
fn size_word(word: u64) -> u32 {
    let half = if cfg!(target_endian = "little") { word } else { word >> 32 };
    u32::try_from(half & 0xffff_ffff).expect("32 bits")
}

/// The ring of free frames: we produce, the kernel consumes.
pub(super) struct FillQueue {
    queue: Queue,
    produced: u32,
}

impl FillQueue {
    /// Reads a new ring.
    pub(super) fn new(queue: Queue) -> Self {
        assert_eq!(queue.entry_words, FILL_WORDS, "a ring of places");
        let produced = queue.indexes()[queue.producer].load(Ordering::Relaxed);
        Self { queue, produced }
    }

    /// Gives frames to the kernel. The ring has room for all that there are, and each is given once.
    pub(super) fn push(&mut self, frames: impl Iterator<Item = u64>) {
        let before = self.produced;
        for frame in frames {
            self.queue.entry(self.produced)[0].store(frame, Ordering::Relaxed);
            self.produced = self.produced.wrapping_add(1);
        }
        let pushed = self.produced.wrapping_sub(before);
        assert!(pushed <= self.queue.count, "no more frames than there are");
        if pushed > 0 {
            self.queue.indexes()[self.queue.producer].store(self.produced, Ordering::Release);
        }
    }

    /// Whether the driver looks for frames only after it is called.
    pub(super) fn needs_wakeup(&self) -> bool {
        let flags = self.queue.indexes()[self.queue.flags].load(Ordering::Relaxed);
        XdpRingFlags::from_bits_retain(flags).contains(XdpRingFlags::XDP_RING_NEED_WAKEUP)
    }

    /// The memory of the ring.
    pub(super) fn memory_bytes(&self) -> usize {
        self.queue.map.len()
    }
}

#[cfg(test)]
mod tests;
