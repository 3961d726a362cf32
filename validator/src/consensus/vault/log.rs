//! The log's bytes: records of changes, and frames of which one is one commit.
//!
//! ```text
//!  file   frame 0: everything as it stood, frame 1, frame 2, ...   old bytes or zeros
//!  frame  magic u32 | length u64 | generation u64 | commit u64 | check of these 8 | check 8 | payload
//!  check  the first 8 bytes of keyed BLAKE3 of what stands before, and of that and the payload
//! ```
//!
//! The key is this log's own secret: blobs hold bytes that other validators chose, none of which may look like
//! a frame. A header is checked before its payload is hashed, so that neither do they cost anything.
//!
//! A commit is written when the one before is durable, so that a crash tears the last at most. What cannot
//! be read before a frame that can is no crash, but damage.

/// Starts every frame.
const MAGIC: [u8; 4] = *b"avlt";
/// Bytes before a frame's payload.
pub(super) const FRAME_BYTES: usize = 44;
const HEADER_CHECK_AT: usize = 28;
const CHECK_AT: usize = 36;

/// The secret of a log.
pub(super) type Key = [u8; 32];

/// A change, as it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// A partition exists.
    Partition(&'a str),
    /// A blob was made.
    Make { id: u64, version: u16, partition: &'a str, name: &'a [u8] },
    /// Bytes were written.
    Write { id: u64, offset: u64, bytes: &'a [u8] },
    /// Bytes were cut off, or zeros added.
    Resize { id: u64, length: u64 },
    /// A blob was removed.
    Remove { id: u64 },
    /// A partition was removed with all that was in it.
    RemovePartition(&'a str),
}

impl Change<'_> {
    /// Appends the record: kind u8, then its fields, lengths as u32 before bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).expect("blobs here are small");
            out.extend(length.to_le_bytes());
            out.extend(bytes);
        };
        match *self {
            Self::Partition(partition) => {
                out.push(1);
                bytes(out, partition.as_bytes());
            }
            Self::Make { id, version, partition, name } => {
                out.push(2);
                out.extend(id.to_le_bytes());
                out.extend(version.to_le_bytes());
                bytes(out, partition.as_bytes());
                bytes(out, name);
            }
            Self::Write { id, offset, bytes: written } => {
                out.push(3);
                out.extend(id.to_le_bytes());
                out.extend(offset.to_le_bytes());
                bytes(out, written);
            }
            Self::Resize { id, length } => {
                out.push(4);
                out.extend(id.to_le_bytes());
                out.extend(length.to_le_bytes());
            }
            Self::Remove { id } => {
                out.push(5);
                out.extend(id.to_le_bytes());
            }
            Self::RemovePartition(partition) => {
                out.push(6);
                bytes(out, partition.as_bytes());
            }
        }
    }
}

/// Reads the records of a payload one after the other.
pub(super) struct Changes<'a>(pub(super) &'a [u8]);

impl<'a> Changes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N).and_then(|bytes| bytes.first_chunk().copied())
    }

    fn word(&mut self) -> Option<u64> {
        self.number().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number().map(u32::from_le_bytes)?;
        self.take(usize::try_from(length).ok()?)
    }

    fn text(&mut self) -> Option<&'a str> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The next record; nothing where the payload ends, and nothing in it where it is no record.
    pub(super) fn next(&mut self) -> Option<Option<Change<'a>>> {
        (!self.0.is_empty()).then(|| self.read())
    }

    fn read(&mut self) -> Option<Change<'a>> {
        Some(match self.take(1)?[0] {
            1 => Change::Partition(self.text()?),
            2 => Change::Make {
                id: self.word()?,
                version: self.number().map(u16::from_le_bytes)?,
                partition: self.text()?,
                name: self.bytes()?,
            },
            3 => Change::Write { id: self.word()?, offset: self.word()?, bytes: self.bytes()? },
            4 => Change::Resize { id: self.word()?, length: self.word()? },
            5 => Change::Remove { id: self.word()? },
            6 => Change::RemovePartition(self.text()?),
            _ => return None,
        })
    }
}

fn check(key: &Key, header: &[u8], payload: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(header).update(payload);
    *hasher.finalize().as_bytes().first_chunk().expect("32 bytes")
}

/// Puts a payload into its frame.
pub(super) fn frame(key: &Key, generation: u64, commit: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_BYTES + payload.len());
    out.extend(MAGIC);
    out.extend((payload.len() as u64).to_le_bytes());
    out.extend(generation.to_le_bytes());
    out.extend(commit.to_le_bytes());
    out.extend(check(key, &out, &[]));
    out.extend(check(key, &out, payload));
    out.extend(payload);
    out
}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) generation: u64,
    pub(super) commit: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of some bytes, if there is a whole one.
    pub(super) fn read(key: &Key, bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<FRAME_BYTES>()?;
        let (fields, checks) = header.split_at(HEADER_CHECK_AT);
        if fields[..4] != MAGIC || checks[..8] != check(key, fields, &[]) {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes(*fields[at..].first_chunk().expect("inside"));
        let payload = rest.get(..usize::try_from(word(4)).ok()?)?;
        let is_whole = header[CHECK_AT..] == check(key, &header[..CHECK_AT], payload);
        is_whole.then_some(Self { generation: word(12), commit: word(20), payload })
    }
}

/// What a file of the log holds.
pub(super) struct Read<'a> {
    /// Its frames in order; none where the first is not whole.
    pub(super) frames: Vec<Frame<'a>>,
    /// The newest generation of a whole frame behind the first that is not: what stands between is damaged.
    pub(super) beyond: Option<u64>,
}

/// Reads a file of the log.
pub(super) fn read<'a>(key: &Key, bytes: &'a [u8]) -> Read<'a> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut at = 0;
    while let Some(frame) = Frame::read(key, &bytes[at..]) {
        let follows = match frames.last() {
            Some(last) => (last.generation, last.commit + 1) == (frame.generation, frame.commit),
            None => frame.commit == 0,
        };
        if !follows {
            break;
        }
        at += FRAME_BYTES + frame.payload.len();
        frames.push(frame);
    }
    let rest = &bytes[at.min(bytes.len())..];
    // What the file held before it was begun anew is older than what it holds now.
    let known = frames.last().map(|last| last.generation);
    let starts = rest.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC);
    let beyond = starts.filter_map(|(start, _)| Frame::read(key, &rest[start..]));
    let beyond = beyond.map(|frame| frame.generation).filter(|&g| known.is_none_or(|k| g >= k));
    Read { beyond: beyond.max(), frames }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHANGES: [Change<'static>; 6] = [
        Change::Partition("empty"),
        Change::Make { id: 7, version: 3, partition: "votes", name: &[1, 2] },
        Change::Write { id: 7, offset: 1 << 40, bytes: b"bytes" },
        Change::Resize { id: 7, length: 9 },
        Change::Remove { id: u64::MAX },
        Change::RemovePartition("votes"),
    ];

    const KEY: Key = [9; 32];

    fn file(commits: &[&[u8]]) -> Vec<u8> {
        let frames = (0..).zip(commits).map(|(commit, payload)| frame(&KEY, 4, commit, payload));
        let mut bytes = frames.collect::<Vec<_>>().concat();
        bytes.resize(bytes.len() + 100, 0);
        bytes
    }

    #[test]
    fn changes_come_back() {
        let mut payload = Vec::new();
        CHANGES.iter().for_each(|change| change.encode(&mut payload));
        let mut changes = Changes(&payload);
        for change in CHANGES {
            assert_eq!(changes.next(), Some(Some(change)));
        }
        assert_eq!(changes.next(), None);
        assert_eq!(Changes(&[9]).next(), Some(None));
        assert_eq!(Changes(&payload[..3]).next(), Some(None), "cut off");
    }

    #[test]
    fn frames_come_back_up_to_the_one_that_was_torn() {
        let bytes = file(&[b"all", b"", b"one more"]);
        let whole = read(&KEY, &bytes);
        let payloads: Vec<_> = whole.frames.iter().map(|frame| frame.payload).collect();
        assert_eq!((payloads, whole.beyond), (vec![&b"all"[..], b"", b"one more"], None));
        let last = bytes.len() - 100 - 8 - FRAME_BYTES;
        for at in last..bytes.len() - 100 {
            let mut torn = bytes.clone();
            torn[at] ^= 0x10;
            let read = read(&KEY, &torn);
            assert_eq!((read.frames.len(), read.beyond), (2, None), "{at}");
        }
        // Damage before the last frame is told from a crash.
        for at in 0..last {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(read(&KEY, &damaged).beyond, Some(4), "{at}");
        }
    }

    #[test]
    fn what_a_file_held_before_is_older() {
        let mut bytes = file(&[b"all", b"old", b"older"]);
        let new = frame(&KEY, 6, 0, b"ne");
        bytes[..new.len()].copy_from_slice(&new);
        let read = read(&KEY, &bytes);
        assert_eq!((read.frames.len(), read.beyond), (1, None));
        assert_eq!(read.frames[0].generation, 6);
    }

    #[test]
    fn what_a_stranger_puts_into_a_blob_is_no_frame() {
        // Made with every secret but ours, behind the last frame and inside one.
        let planted = frame(&[0; 32], u64::MAX, 0, b"");
        let mut bytes = file(&[b"all", &planted]);
        bytes.extend(planted);
        let read = read(&KEY, &bytes);
        assert_eq!((read.frames.len(), read.beyond), (2, None));
        let mut torn = bytes.clone();
        torn[FRAME_BYTES + 3 + FRAME_BYTES] ^= 1;
        assert_eq!(super::read(&KEY, &torn).beyond, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&KEY, &bytes).frames.is_empty());
            let mut changes = Changes(&bytes);
            while let Some(Some(_)) = changes.next() {}
        }
    }
}
