//! The client protocol over TCP, byte by byte, and what an answer is in a datagram.
//!
//! ```text
//!   client ── "ALTHING1" ─────────────────────────────────────────▶ validator
//!   client ◀─ "ALTHING1" | network hint 8 | transaction bytes max u32 ── validator
//!   then frames both ways, many in flight:   length u32 | type u8 | payload (length - 1 bytes)
//!
//!   to the validator            payload
//!    1  submit                  the bytes of one transaction
//!    2  watch                   id 32
//!   to the client
//!   17  accepted                id 32
//!   18  refused                 id 32 | refusal u8 | expected sequence u64
//!                               | expected previous 32 | retry_ms u32
//!   19  final                   id 32 | height u64 | outcome u8
//!   20  unknown                 id 32
//! ```
//!
//! All integers are little-endian. An expected sequence of 2^64 - 1, with a previous of zeros, says
//! that nothing is known of the author. The length is checked before anything is kept for a frame,
//! so a stranger occupies no more than one frame. A client that ends its half of the connection
//! ends it as a whole: answers under way are dropped, and it watches the ids to learn of them.

use crate::{
    handle::{Answer, Expected},
    refusal::Refusal,
};
use ledger::{Digest, Height, Outcome};
use net_ebpf::abi;
use std::fmt;

/// What both sides send first: the protocol and its version.
pub const HELLO: [u8; 8] = *b"ALTHING1";
/// Bytes of the validator's answer to it.
pub const WELCOME_BYTES: usize = 20;
/// Bytes of a length.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of a frame to the client after its length, at most: those of a refusal.
pub const ANSWER_BYTES_MAX: usize = 1 + 32 + 1 + 8 + 32 + 4;

const SUBMIT: u8 = 1;
const WATCH: u8 = 2;
const ACCEPTED: u8 = 17;
const REFUSED: u8 = 18;
const FINAL: u8 = 19;
const UNKNOWN: u8 = 20;

/// Stands where no link is expected: no account ever reaches this sequence.
const NOTHING_EXPECTED: Expected = Expected { sequence: u64::MAX, previous: Digest::ZERO };

/// The reason why a connection's bytes are not this protocol; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// The first bytes are not [`HELLO`].
    Hello,
    /// A frame is empty or longer than its side may send.
    Length,
    /// A frame has a type that its side never sends.
    Kind,
    /// The payload has another size than its type.
    Size,
    /// A refusal, outcome or expected link that does not exist.
    Code,
}

impl Reject {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Hello, Self::Length, Self::Kind, Self::Size, Self::Code];

    /// Returns the stable name, the label of a metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Length => "length",
            Self::Kind => "kind",
            Self::Size => "size",
            Self::Code => "code",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl std::error::Error for Reject {}

/// What a validator says of itself before the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The first bytes of the genesis digest.
    pub hint: [u8; 8],
    /// Bytes of a transaction that it takes, at most.
    pub transaction_bytes_max: u32,
}

impl Welcome {
    /// Writes it.
    pub fn encode(&self) -> [u8; WELCOME_BYTES] {
        let mut bytes = [0; WELCOME_BYTES];
        bytes[..8].copy_from_slice(&HELLO);
        bytes[8..16].copy_from_slice(&self.hint);
        bytes[16..].copy_from_slice(&self.transaction_bytes_max.to_le_bytes());
        bytes
    }

    /// Reads it.
    ///
    /// Errors: [`Reject::Hello`].
    pub fn decode(bytes: &[u8; WELCOME_BYTES]) -> Result<Self, Reject> {
        let mut reader = Reader(bytes);
        if reader.array()? != HELLO {
            return Err(Reject::Hello);
        }
        let hint = reader.array()?;
        let transaction_bytes_max = u32::from_le_bytes(reader.array()?);
        Ok(Self { hint, transaction_bytes_max })
    }
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// Take this transaction; its bytes are not looked at.
    Submit(&'a [u8]),
    /// Say when this transaction is final.
    Watch(Digest),
}

impl<'a> Call<'a> {
    /// Appends the frame, length included.
    ///
    /// Panics: when a transaction has 2^32 bytes.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Submit(transaction) => (SUBMIT, transaction),
            Self::Watch(id) => (WATCH, &id.0),
        };
        let length = u32::try_from(1 + payload.len()).expect("a transaction has at most 64 KiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(payload);
    }

    /// Reads a frame without its length.
    ///
    /// Errors: [`Reject::Length`], [`Reject::Kind`], [`Reject::Size`].
    pub fn decode(frame: &'a [u8]) -> Result<Self, Reject> {
        let (kind, payload) = frame.split_first().ok_or(Reject::Length)?;
        match *kind {
            SUBMIT => Ok(Self::Submit(payload)),
            WATCH => {
                let mut reader = Reader(payload);
                let id = Digest(reader.array()?);
                reader.finish()?;
                Ok(Self::Watch(id))
            }
            _ => Err(Reject::Kind),
        }
    }
}

/// Bytes of a frame to the validator after its length, at most.
pub const fn call_bytes_max(transaction_bytes_max: u32) -> usize {
    // Lossless: this program runs where `usize` has 64 bits, and the format caps it at 65,536.
    1 + transaction_bytes_max as usize
}

/// Appends the frame of an answer, length included.
pub fn encode_answer(answer: &Answer, bytes: &mut Vec<u8>) {
    let at = bytes.len();
    bytes.extend_from_slice(&[0; LENGTH_BYTES]);
    let kind = match answer {
        Answer::Accepted { .. } => ACCEPTED,
        Answer::Refused { .. } => REFUSED,
        Answer::Final { .. } => FINAL,
        Answer::Unknown { .. } => UNKNOWN,
    };
    bytes.push(kind);
    bytes.extend_from_slice(&answer.id().0);
    match answer {
        Answer::Accepted { .. } | Answer::Unknown { .. } => {}
        Answer::Refused { refusal, expected, retry_ms, .. } => {
            let expected = expected.unwrap_or(NOTHING_EXPECTED);
            bytes.push(refusal.code());
            bytes.extend_from_slice(&expected.sequence.to_le_bytes());
            bytes.extend_from_slice(&expected.previous.0);
            bytes.extend_from_slice(&retry_ms.to_le_bytes());
        }
        Answer::Final { height, outcome, .. } => {
            bytes.extend_from_slice(&height.0.to_le_bytes());
            bytes.push(outcome.code());
        }
    }
    let length = bytes.len() - at - LENGTH_BYTES;
    assert!(length <= ANSWER_BYTES_MAX, "no answer is longer than a refusal");
    let length = u32::try_from(length).expect("at most 78");
    bytes[at..at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Reads the frame of an answer without its length.
///
/// Errors: [`Reject::Length`], [`Reject::Kind`], [`Reject::Size`], [`Reject::Code`].
pub fn decode_answer(frame: &[u8]) -> Result<Answer, Reject> {
    let (kind, payload) = frame.split_first().ok_or(Reject::Length)?;
    if !(ACCEPTED..=UNKNOWN).contains(kind) {
        return Err(Reject::Kind);
    }
    let mut reader = Reader(payload);
    let id = Digest(reader.array()?);
    let answer = match *kind {
        ACCEPTED => Answer::Accepted { id },
        UNKNOWN => Answer::Unknown { id },
        REFUSED => {
            let refusal = Refusal::from_code(reader.u8()?).ok_or(Reject::Code)?;
            let sequence = reader.u64()?;
            let expected = expected(sequence, Digest(reader.array()?))?;
            let retry_ms = u32::from_le_bytes(reader.array()?);
            Answer::Refused { id, refusal, expected, retry_ms }
        }
        _ => {
            let height = Height(reader.u64()?);
            let outcome = Outcome::from_code(reader.u8()?).map_err(|_| Reject::Code)?;
            Answer::Final { id, height, outcome }
        }
    };
    reader.finish()?;
    Ok(answer)
}

/// Reads an expected link as it stands in a refusal, over TCP as in a datagram.
///
/// Errors: [`Reject::Code`] for the mark of "nothing known" with a previous.
pub fn expected(sequence: u64, previous: Digest) -> Result<Option<Expected>, Reject> {
    let link = Expected { sequence, previous };
    if sequence != NOTHING_EXPECTED.sequence {
        return Ok(Some(link));
    }
    if link == NOTHING_EXPECTED { Ok(None) } else { Err(Reject::Code) }
}

/// Puts an answer in the form of a datagram; none for one that only a connection gets.
pub fn datagram_outcome(answer: &Answer) -> Option<abi::Outcome> {
    let (status, link) = match answer {
        Answer::Accepted { .. } => (abi::Status::Accepted, None),
        Answer::Refused { refusal, expected, .. } => {
            (abi::Status::Refused(refusal.code()), *expected)
        }
        Answer::Final { .. } => (abi::Status::Final, None),
        Answer::Unknown { .. } => return None,
    };
    let link = link.unwrap_or(NOTHING_EXPECTED);
    Some(abi::Outcome {
        status,
        id: answer.id().0,
        expected_sequence: link.sequence,
        expected_previous: link.previous.0,
    })
}

/// Cuts a stream of bytes into frames, wherever its pieces end.
///
/// It keeps the beginning of a frame that is not complete, and nothing else.
#[derive(Debug)]
pub struct Frames {
    frame_bytes_max: usize,
    partial: Vec<u8>,
}

impl Frames {
    /// Starts before the first frame; `frame_bytes_max` bounds a frame without its length.
    pub const fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max, partial: Vec::new() }
    }

    /// Calls `visit` with each frame that `bytes` completes, without its length, in order.
    ///
    /// Errors: [`Reject::Length`], or what `visit` answers; nothing can be read after either.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut visit: impl FnMut(&[u8]) -> Result<(), Reject>,
    ) -> Result<(), Reject> {
        if !self.partial.is_empty() {
            bytes = self.complete(bytes)?;
            let Some(frame) = self.frame(&self.partial)? else {
                return Ok(());
            };
            visit(frame)?;
            // One connection does not keep the memory of its largest frame while it is quiet.
            self.partial = Vec::new();
        }
        while let Some(frame) = self.frame(bytes)? {
            visit(frame)?;
            bytes = &bytes[LENGTH_BYTES + frame.len()..];
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns whether a frame has begun and is not complete.
    pub const fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Moves what the partial frame lacks from the front of `bytes`, and returns the rest.
    fn complete<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Reject> {
        let lacking = LENGTH_BYTES.saturating_sub(self.partial.len()).min(bytes.len());
        let (head, bytes) = bytes.split_at(lacking);
        self.partial.extend_from_slice(head);
        let Some(length) = self.length(&self.partial)? else {
            return Ok(bytes);
        };
        let lacking = (LENGTH_BYTES + length - self.partial.len()).min(bytes.len());
        let (head, bytes) = bytes.split_at(lacking);
        self.partial.extend_from_slice(head);
        Ok(bytes)
    }

    /// The frame at the front of `bytes`, when it is complete.
    fn frame<'b>(&self, bytes: &'b [u8]) -> Result<Option<&'b [u8]>, Reject> {
        let Some(length) = self.length(bytes)? else {
            return Ok(None);
        };
        Ok(bytes.get(LENGTH_BYTES..LENGTH_BYTES + length))
    }

    /// The length at the front of `bytes`, checked as soon as it is there.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Reject> {
        let Some(field) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*field)).map_err(|_| Reject::Length)?;
        if length == 0 || length > self.frame_bytes_max {
            return Err(Reject::Length);
        }
        Ok(Some(length))
    }
}

/// Fixed fields of a payload; a payload that is too short has the wrong size.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Reject::Size)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Reject> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Result<u64, Reject> {
        self.array().map(u64::from_le_bytes)
    }

    fn finish(self) -> Result<(), Reject> {
        if self.0.is_empty() { Ok(()) } else { Err(Reject::Size) }
    }
}

#[cfg(test)]
mod tests;
