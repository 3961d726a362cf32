//! The bytes of questions for old blocks and of their answers.
//!
//! ```text
//! question  0    8  magic "althhis\n"
//!           8    2  version, 1
//!          10    1  kind: 1 tip, 2 cuts, 3 batches
//!          11    1  zero
//!          12    4  cuts: how many at most; batches: how many walks follow; otherwise 0
//!          16   32  network
//!          48    8  cuts: the first height; otherwise 0
//!          56   36w walks: digest of the newest batch 32, how many batches 4
//!
//! part      0    1  kind: 1 cut, 2 batch, 3 certificate, 4 end, 5 refused
//!           1    3  zero
//!           4    4  length of what follows
//!           8    8  height of a cut or certificate; of an end: see there; otherwise 0
//!          16    n  what it is
//! ```
//!
//! Integers are little-endian. An answer is a row of parts up to an end or a refusal; then the connection waits for
//! the next question.

use ledger::{
    Digest,
    limits::{BATCH_BYTES_MAX, CUT_BYTES_MAX, FINALITY_BYTES_MAX},
};

const MAGIC: &[u8; 8] = b"althhis\n";
const VERSION: u16 = 1;
/// Bytes of a question before its walks.
pub const QUESTION_BYTES: usize = 56;
/// Bytes of a part before what it is.
pub const PART_BYTES: usize = 16;
const WALK_BYTES: usize = 36;
/// Walks in one question at most.
pub const WALKS_MAX: usize = 1_024;
/// Batches in one question at most, over all its walks: with full ones 64 MiB.
pub const BATCHES_MAX: u32 = 128;
/// Cuts in one question at most.
pub const CUTS_MAX: u32 = 1_024;
/// Bytes of a refusal at most.
const REFUSAL_BYTES_MAX: usize = 128;

/// From a batch back through its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Digest of the newest batch.
    pub digest: Digest,
    /// How many batches.
    pub count: u32,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// For the newest block with a certificate. The answer's end tells the first height that is kept.
    Tip,
    /// For cuts from a height on, and those certificates that stand with them. The answer's end tells the first height
    /// that was not sent.
    Cuts {
        /// The first height.
        from: u64,
        /// How many at most; more, where none of these has a certificate.
        count: u32,
    },
    /// For batches, each walk's newest first. The answer ends early where the next batch is not kept.
    Batches(Vec<Walk>),
}

/// Why bytes are no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// They have another magic or version, or a field that no question has.
    #[error("no question of this version")]
    Form,
    /// They are for another network.
    #[error("another network")]
    Network,
    /// More is asked for than one question may.
    #[error("too much at once")]
    TooMuch,
}

/// A question without its walks, and how many bytes of walks follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// All of it.
    Whole(Question),
    /// So many bytes of walks follow.
    Walks(usize),
}

impl Question {
    /// Shape: as this page has it.
    pub fn encode(&self, network: &Digest) -> Vec<u8> {
        let (kind, count, from) = match self {
            Self::Tip => (1, 0, 0),
            Self::Cuts { from, count } => (2, *count, *from),
            Self::Batches(walks) => {
                (3, u32::try_from(walks.len()).expect("a question has few walks"), 0)
            }
        };
        let mut bytes = Vec::with_capacity(QUESTION_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[kind, 0]);
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(network.as_bytes());
        bytes.extend_from_slice(&from.to_le_bytes());
        if let Self::Batches(walks) = self {
            for walk in walks {
                bytes.extend_from_slice(walk.digest.as_bytes());
                bytes.extend_from_slice(&walk.count.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads what comes before the walks.
    ///
    /// Errors: [`Wrong`].
    pub fn decode(bytes: &[u8; QUESTION_BYTES], network: &Digest) -> Result<Head, Wrong> {
        let number = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("56 bytes"));
        let from = u64::from_le_bytes(*bytes[48..].first_chunk().expect("56 bytes"));
        let (kind, count) = (bytes[10], number(12));
        if !bytes.starts_with(MAGIC) || bytes[8..10] != VERSION.to_le_bytes() || bytes[11] != 0 {
            return Err(Wrong::Form);
        }
        if bytes[16..48] != *network.as_bytes() {
            return Err(Wrong::Network);
        }
        match kind {
            1 if count == 0 && from == 0 => Ok(Head::Whole(Self::Tip)),
            2 if count == 0 || from == 0 => Err(Wrong::Form),
            2 if count > CUTS_MAX => Err(Wrong::TooMuch),
            2 => Ok(Head::Whole(Self::Cuts { from, count })),
            3 if from != 0 => Err(Wrong::Form),
            3 => {
                let count = usize::try_from(count).map_err(|_| Wrong::TooMuch)?;
                if count > WALKS_MAX {
                    Err(Wrong::TooMuch)
                } else {
                    Ok(Head::Walks(count * WALK_BYTES))
                }
            }
            _ => Err(Wrong::Form),
        }
    }

    /// Reads the walks of a question for batches.
    ///
    /// Errors: [`Wrong`].
    pub fn decode_walks(bytes: &[u8]) -> Result<Self, Wrong> {
        let (walks, rest) = bytes.as_chunks::<WALK_BYTES>();
        if !rest.is_empty() {
            return Err(Wrong::Form);
        }
        let walks: Vec<Walk> = walks
            .iter()
            .map(|walk| {
                let (digest, count) = walk.split_first_chunk().expect("32 of 36 bytes");
                let count = u32::from_le_bytes(*count.first_chunk().expect("4 of 4 bytes"));
                Walk { digest: Digest(*digest), count }
            })
            .collect();
        let total = walks.iter().fold(0_u32, |sum, walk| sum.saturating_add(walk.count));
        if total > BATCHES_MAX { Err(Wrong::TooMuch) } else { Ok(Self::Batches(walks)) }
    }
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A cut.
    Cut = 1,
    /// A batch: header, signature and body.
    Batch = 2,
    /// A finality certificate.
    Certificate = 3,
    /// The end of an answer.
    End = 4,
    /// No answer, and why, as text.
    Refused = 5,
}

/// What comes before a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Length of what follows.
    pub bytes: usize,
    /// Its height.
    pub height: u64,
}

impl Part {
    /// Shape: as this page has it.
    ///
    /// Panics: what follows is longer than 4 GiB.
    pub fn encode(&self) -> [u8; PART_BYTES] {
        let mut bytes = [0; PART_BYTES];
        bytes[0] = self.kind as u8;
        let length = u32::try_from(self.bytes).expect("a part is far below 4 GiB");
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[8..].copy_from_slice(&self.height.to_le_bytes());
        bytes
    }

    /// Reads what comes before a part; none for what no part has, such as one that is longer than its kind can be.
    pub fn decode(bytes: &[u8; PART_BYTES]) -> Option<Self> {
        let (kind, limit) = match bytes[0] {
            1 => (Kind::Cut, CUT_BYTES_MAX),
            2 => (Kind::Batch, BATCH_BYTES_MAX),
            3 => (Kind::Certificate, FINALITY_BYTES_MAX),
            4 => (Kind::End, 0),
            5 => (Kind::Refused, REFUSAL_BYTES_MAX),
            _ => return None,
        };
        let length = u32::from_le_bytes(*bytes[4..].first_chunk()?);
        let height = u64::from_le_bytes(*bytes[8..].first_chunk()?);
        let bytes_zero = bytes[1..4] == [0; 3];
        let bytes = usize::try_from(length).ok()?;
        (bytes_zero && bytes <= limit).then_some(Self { kind, bytes, height })
    }
}

/// A part with what it is.
pub fn part(kind: Kind, height: u64, bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(PART_BYTES + bytes.len());
    whole.extend_from_slice(&Part { kind, bytes: bytes.len(), height }.encode());
    whole.extend_from_slice(bytes);
    whole
}

/// A refusal.
pub fn refusal(why: &str) -> Vec<u8> {
    part(Kind::Refused, 0, &why.as_bytes()[..why.len().min(REFUSAL_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: Digest = Digest([4; 32]);

    fn read(bytes: &[u8]) -> Result<Question, Wrong> {
        let (head, walks) = bytes.split_first_chunk().ok_or(Wrong::Form)?;
        match Question::decode(head, &NETWORK)? {
            Head::Whole(question) if walks.is_empty() => Ok(question),
            Head::Walks(bytes) if walks.len() == bytes => Question::decode_walks(walks),
            _ => Err(Wrong::Form),
        }
    }

    #[test]
    fn questions_read_back() {
        let walk = |byte, count| Walk { digest: Digest([byte; 32]), count };
        let questions = [
            Question::Tip,
            Question::Cuts { from: 1, count: 1 },
            Question::Cuts { from: u64::MAX, count: CUTS_MAX },
            Question::Batches(vec![]),
            Question::Batches(vec![walk(1, BATCHES_MAX - 1), walk(2, 1)]),
            Question::Batches(vec![walk(1, 0); WALKS_MAX]),
        ];
        for question in questions {
            assert_eq!(read(&question.encode(&NETWORK)), Ok(question));
        }
    }

    #[test]
    fn no_question_asks_for_more_than_it_may() {
        let walk = |count| Walk { digest: Digest([1; 32]), count };
        let greedy = [
            Question::Cuts { from: 1, count: CUTS_MAX + 1 },
            Question::Batches(vec![walk(BATCHES_MAX), walk(1)]),
            Question::Batches(vec![walk(u32::MAX), walk(u32::MAX)]),
            Question::Batches(vec![walk(0); WALKS_MAX + 1]),
        ];
        for question in greedy {
            assert_eq!(read(&question.encode(&NETWORK)), Err(Wrong::TooMuch), "{question:?}");
        }
    }

    #[test]
    fn every_bit_before_the_walks_counts() {
        let questions = [
            Question::Tip,
            Question::Cuts { from: 9, count: 8 },
            Question::Batches(vec![Walk { digest: Digest([1; 32]), count: 3 }]),
        ];
        for question in questions {
            let bytes = question.encode(&NETWORK);
            for bit in 0..8 * QUESTION_BYTES {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(read(&changed), Ok(question.clone()), "bit {bit}");
            }
        }
        assert_eq!(read(&Question::Tip.encode(&Digest([5; 32]))), Err(Wrong::Network));
    }

    #[test]
    fn parts_read_back_and_none_is_longer_than_its_kind() {
        let limits = [
            (Kind::Cut, CUT_BYTES_MAX),
            (Kind::Batch, BATCH_BYTES_MAX),
            (Kind::Certificate, FINALITY_BYTES_MAX),
            (Kind::End, 0),
            (Kind::Refused, REFUSAL_BYTES_MAX),
        ];
        for (kind, limit) in limits {
            let part = Part { kind, bytes: limit, height: u64::MAX - 1 };
            assert_eq!(Part::decode(&part.encode()), Some(part));
            assert_eq!(Part::decode(&Part { bytes: limit + 1, ..part }.encode()), None);
            let mut odd = part.encode();
            odd[2] = 1;
            assert_eq!(Part::decode(&odd), None);
        }
        for kind in [0, 6, 255] {
            let mut odd = Part { kind: Kind::End, bytes: 0, height: 0 }.encode();
            odd[0] = kind;
            assert_eq!(Part::decode(&odd), None);
        }
        assert!(refusal(&"x".repeat(500)).len() <= PART_BYTES + REFUSAL_BYTES_MAX);
    }
}
