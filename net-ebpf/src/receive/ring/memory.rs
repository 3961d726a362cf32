//! The memory of a ring's frames, which the kernel or the card writes into.
#![expect(unsafe_code, reason = "the kernel writes into memory that is read here without a copy")]

use std::{io, slice};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::queue::Descriptor;

/// Frames of one size, side by side.
pub(super) struct Memory {
    map: MmapRaw,
    frame_size: usize,
}

impl Memory {
    /// Makes the memory, in huge pages where the system gives them: a packet then needs no entry of
    /// its own in the processor's page cache.
    ///
    /// Errors: those of the system calls.
    pub(super) fn new(size: usize, frame_size: usize) -> io::Result<Self> {
        assert!(frame_size.is_power_of_two(), "the kernel's rule");
        assert!(size.is_multiple_of(frame_size), "whole frames");
        let map = MmapRaw::from(MmapOptions::new().len(size).map_anon()?);
        // Not having huge pages costs a little speed only.
        drop(map.advise(Advice::HugePage));
        // A child's copy would show what the kernel writes into pages of the parent.
        map.advise(Advice::DontFork)?;
        Ok(Self { map, frame_size })
    }

    /// Where it lies, for the kernel.
    pub(super) fn address(&self) -> u64 {
        self.map.as_ptr().addr() as u64
    }

    /// Checks a packet's place and returns that of its frame and its own.
    ///
    /// Panics: when the packet does not lie in one frame of the memory; the kernel would be broken.
    pub(super) fn locate(&self, descriptor: Descriptor) -> (u64, usize) {
        let start = usize::try_from(descriptor.address).expect("the kernel stays in the memory");
        assert!(start < self.map.len(), "a packet starts in the memory");
        let offset = start % self.frame_size;
        assert!(descriptor.size <= self.frame_size - offset, "a packet ends in its frame");
        ((start - offset) as u64, start)
    }

    /// The bytes of a packet, or a part of them, whose frame was received and not given back yet.
    pub(super) fn bytes(&self, start: usize, size: usize) -> &[u8] {
        assert!(start <= self.map.len(), "it starts in the memory");
        assert!(size <= self.map.len() - start, "it ends in the memory");
        // SAFETY: `start` is at most the size of the map, as asserted above.
        let first = unsafe { self.map.as_ptr().add(start) };
        // SAFETY: the bytes lie in the map, as asserted above, and were made by the kernel as
        // zeros. Nobody writes them: the ring took their frame from the rx ring, and gives it back
        // only in a call that borrows the ring mutably, after which no such slice is left.
        unsafe { slice::from_raw_parts(first, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(address: u64, size: usize) -> (u64, usize) {
        Memory::new(8 << 11, 1 << 11).unwrap().locate(Descriptor { address, size })
    }

    #[test]
    fn packets_lie_in_their_frames() {
        assert_eq!(locate(0, 2_048), (0, 0));
        assert_eq!(locate(256, 1_792), (0, 256));
        assert_eq!(locate(2_047, 1), (0, 2_047));
        assert_eq!(locate(7 * 2_048 + 256, 0), (7 * 2_048, 7 * 2_048 + 256));
    }

    #[test]
    #[should_panic(expected = "ends in its frame")]
    fn a_packet_over_the_end_of_its_frame_is_refused() {
        locate(256, 1_793);
    }

    #[test]
    #[should_panic(expected = "starts in the memory")]
    fn a_packet_past_the_memory_is_refused() {
        locate(8 * 2_048, 1);
    }

    #[test]
    #[should_panic(expected = "it ends in the memory")]
    fn bytes_past_the_memory_are_refused() {
        Memory::new(2_048, 2_048).unwrap().bytes(2_000, 49);
    }

    #[test]
    fn fresh_memory_is_zero() {
        let memory = Memory::new(4_096, 2_048).unwrap();
        assert_eq!(memory.bytes(0, 4_096), [0; 4_096]);
        assert_eq!(memory.bytes(4_096, 0), []);
        assert!(memory.address().is_multiple_of(4_096));
    }
}
