//! Digests of many short inputs in one domain, several at a time in the lanes of a vector.
//!
//! A hash of one transaction is a chain of dependent blocks, and leaves most of a core idle. What
//! is at hand together, a batch's transactions, their leaves, the nodes of a tree level, is hashed
//! side by side. The library has the lanes but shows them only as its hidden `platform`; its
//! version is therefore pinned, and a test compares every length with the plain hasher.

use blake3::IncrementCounter;
use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};

use super::{Digest, Domain};

/// Inputs side by side at most: the lanes of a 512-bit vector. Narrower machines take several turns.
const WIDTH: usize = 16;
const BLOCK: usize = 64;
/// Longer inputs have a tree of their own, which the plain hasher walks side by side already.
const CHUNK: usize = 1_024;

// Flags of a block; source: BLAKE3 specification, section 2.2, table 3.
const CHUNK_START: u8 = 1 << 0;
const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
const DERIVE_KEY_MATERIAL: u8 = 1 << 6;

/// Two parts that are hashed as one string of bytes.
type Parts<'a> = [&'a [u8]; 2];

impl Domain {
    /// Hashes many inputs: `digests[n]` is what [`Domain::digest`] makes of input `n`.
    pub(crate) fn digests<'a>(
        &self,
        inputs: impl ExactSizeIterator<Item = Parts<'a>>,
    ) -> Vec<Digest> {
        let mut digests = vec![Digest::ZERO; inputs.len()];
        let mut short = Vec::with_capacity(inputs.len());
        for (place, parts) in inputs.enumerate() {
            match parts[0].len() + parts[1].len() {
                1..=CHUNK => short.push((place, parts)),
                _ => digests[place] = self.digest(&parts),
            }
        }
        // Only equal numbers of blocks fit side by side; in most batches all are equal.
        short.sort_by_key(|(_, parts)| Shape::of(parts));
        let mut buffer = Buffer::new(*self.key());
        for group in short.chunk_by(|(_, a), (_, b)| Shape::of(a) == Shape::of(b)) {
            for group in group.chunks(WIDTH) {
                buffer.digest(group, &mut digests);
            }
        }
        digests
    }
}

impl Domain {
    /// Hashes `count` inputs of one length, which is whole blocks: `take(n, digest)` gets what
    /// [`Domain::digest`] makes of input `n`, in ascending order.
    ///
    /// `write(n, input)` puts input `n` together. What it does not write must be what no other `write` does,
    /// and is zero.
    pub(crate) fn digests_of_blocks<const BYTES: usize>(
        &self,
        count: usize,
        write: impl Fn(usize, &mut [u8; BYTES]),
        mut take: impl FnMut(usize, Digest),
    ) {
        const { assert!(BYTES.is_multiple_of(BLOCK) && BYTES > 0 && BYTES <= CHUNK) };
        let platform = Platform::detect();
        let key = words_from_le_bytes_32(self.key());
        let mut inputs = [[0; BYTES]; WIDTH];
        let mut out = [[0; 32]; WIDTH];
        for first in (0..count).step_by(WIDTH) {
            let lanes = WIDTH.min(count - first);
            for (lane, input) in inputs[..lanes].iter_mut().enumerate() {
                write(first + lane, input);
            }
            platform.hash_many(
                &inputs.each_ref()[..lanes],
                &key,
                0,
                IncrementCounter::No,
                DERIVE_KEY_MATERIAL,
                CHUNK_START,
                CHUNK_END | ROOT,
                out[..lanes].as_flattened_mut(),
            );
            for (lane, digest) in out[..lanes].iter().enumerate() {
                take(first + lane, Digest(*digest));
            }
        }
    }
}

/// How an input is cut: whole blocks for the lanes, and whether a shorter one follows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    /// 0 to 16.
    whole: usize,
    /// Whether the last block is a part of one: the lanes know whole blocks only.
    tail: bool,
}

impl Shape {
    fn of(parts: &Parts<'_>) -> Self {
        let bytes = parts[0].len() + parts[1].len();
        Self { whole: bytes / BLOCK, tail: !bytes.is_multiple_of(BLOCK) }
    }
}

/// Where inputs are put together before they are hashed.
struct Buffer {
    platform: Platform,
    key: [u32; 8],
    inputs: [[u8; CHUNK]; WIDTH],
}

impl Buffer {
    fn new(key: [u8; 32]) -> Self {
        Self {
            platform: Platform::detect(),
            key: words_from_le_bytes_32(&key),
            inputs: [[0; CHUNK]; WIDTH],
        }
    }

    /// Writes the digest of each input to its place; all have one shape.
    fn digest(&mut self, group: &[(usize, Parts<'_>)], digests: &mut [Digest]) {
        let Some((_, first)) = group.first() else { return };
        let shape = Shape::of(first);
        for ((_, [head, body]), input) in group.iter().zip(&mut self.inputs) {
            let (start, rest) = input.split_at_mut(head.len());
            start.copy_from_slice(head);
            rest[..body.len()].copy_from_slice(body);
        }
        let mut out = [[0; 32]; WIDTH];
        self.whole_blocks(group.len(), shape, &mut out);
        for (lane, (place, [head, body])) in group.iter().enumerate() {
            if shape.tail {
                let from = shape.whole * BLOCK;
                let tail = &self.inputs[lane][from..head.len() + body.len()];
                out[lane] = self.tail(out[lane], tail, shape);
            }
            digests[*place] = Digest(out[lane]);
        }
    }

    /// The chaining values after the whole blocks; where none follows, the digests.
    fn whole_blocks(&self, count: usize, shape: Shape, out: &mut [[u8; 32]; WIDTH]) {
        match shape.whole {
            0 => {}
            1 => self.lanes::<64>(count, shape, out),
            2 => self.lanes::<128>(count, shape, out),
            3 => self.lanes::<192>(count, shape, out),
            4 => self.lanes::<256>(count, shape, out),
            5 => self.lanes::<320>(count, shape, out),
            6 => self.lanes::<384>(count, shape, out),
            7 => self.lanes::<448>(count, shape, out),
            8 => self.lanes::<512>(count, shape, out),
            9 => self.lanes::<576>(count, shape, out),
            10 => self.lanes::<640>(count, shape, out),
            11 => self.lanes::<704>(count, shape, out),
            12 => self.lanes::<768>(count, shape, out),
            13 => self.lanes::<832>(count, shape, out),
            14 => self.lanes::<896>(count, shape, out),
            15 => self.lanes::<960>(count, shape, out),
            16 => self.lanes::<1024>(count, shape, out),
            _ => unreachable!("an input of a chunk has 16 blocks at most"),
        }
    }

    fn lanes<const BYTES: usize>(&self, count: usize, shape: Shape, out: &mut [[u8; 32]; WIDTH]) {
        let inputs: [&[u8; BYTES]; WIDTH] = std::array::from_fn(|lane| {
            self.inputs[lane].first_chunk().expect("a chunk has at least as many bytes")
        });
        self.platform.hash_many(
            &inputs[..count],
            &self.key,
            0,
            IncrementCounter::No,
            DERIVE_KEY_MATERIAL,
            CHUNK_START,
            if shape.tail { 0 } else { CHUNK_END | ROOT },
            out[..count].as_flattened_mut(),
        );
    }

    /// The last block, which is not whole, after a chaining value.
    fn tail(&self, before: [u8; 32], tail: &[u8], shape: Shape) -> [u8; 32] {
        let (mut chaining, start) = match shape.whole {
            0 => (self.key, CHUNK_START),
            _ => (words_from_le_bytes_32(&before), 0),
        };
        let mut block = [0; BLOCK];
        block[..tail.len()].copy_from_slice(tail);
        let bytes = u8::try_from(tail.len()).expect("a block has 64 bytes");
        let flags = DERIVE_KEY_MATERIAL | start | CHUNK_END | ROOT;
        self.platform.compress_in_place(&mut chaining, &block, bytes, 0, flags);
        le_bytes_from_words_32(&chaining)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::domain;
    use super::*;

    fn plain(inputs: &[Parts<'_>]) -> Vec<Digest> {
        inputs.iter().map(|parts| domain::ACK.digest(parts)).collect()
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|place| u8::try_from(place * 7 % 251).unwrap()).collect()
    }

    #[test]
    fn every_length_up_to_two_chunks_has_the_digest_of_the_plain_hasher() {
        let bytes = bytes(2 * CHUNK + 2);
        for head in [0, 1, 32, 64] {
            let inputs: Vec<Parts<'_>> =
                (head..bytes.len()).map(|end| [&bytes[..head], &bytes[head..end]]).collect();
            assert_eq!(domain::ACK.digests(inputs.iter().copied()), plain(&inputs), "head {head}");
        }
    }

    #[test]
    fn every_number_of_inputs_side_by_side_keeps_its_order() {
        let bytes = bytes(500);
        for count in 0..=3 * WIDTH + 1 {
            for length in [33, 64, 96, 416] {
                let inputs: Vec<Parts<'_>> =
                    (0..count).map(|n| [&bytes[n..n + 32], &bytes[n + 32..n + length]]).collect();
                let digests = domain::ACK.digests(inputs.iter().copied());
                assert_eq!(digests, plain(&inputs), "{count} of {length} bytes");
            }
        }
    }

    fn of_blocks<const BYTES: usize>(bytes: &[u8], count: usize) {
        let input = |n: usize| &bytes[n..n + BYTES - 5];
        let mut digests = Vec::new();
        domain::ACK.digests_of_blocks::<BYTES>(
            count,
            |n, place| place[..BYTES - 5].copy_from_slice(input(n)),
            |n, digest| {
                assert_eq!(n, digests.len(), "in their order");
                digests.push(digest);
            },
        );
        let inputs: Vec<Parts<'_>> = (0..count).map(|n| [input(n), &[0; 5][..]]).collect();
        assert_eq!(digests, plain(&inputs), "{count} of {BYTES} bytes");
    }

    #[test]
    fn inputs_of_whole_blocks_have_the_digests_of_the_plain_hasher() {
        let bytes = bytes(CHUNK + 3 * WIDTH);
        for count in 0..=3 * WIDTH + 1 {
            of_blocks::<64>(&bytes, count);
            of_blocks::<128>(&bytes, count);
            of_blocks::<640>(&bytes, count);
            of_blocks::<1_024>(&bytes, count);
        }
    }

    proptest! {
        #[test]
        fn mixed_lengths_have_the_digests_of_the_plain_hasher(
            inputs in prop::collection::vec((0_usize..80, 0_usize..1_200), 0..70),
        ) {
            let bytes = bytes(1_300);
            let inputs: Vec<Parts<'_>> = inputs
                .iter()
                .map(|(head, body)| [&bytes[..*head], &bytes[*head..head + body]])
                .collect();
            prop_assert_eq!(domain::ACK.digests(inputs.iter().copied()), plain(&inputs));
        }
    }
}
