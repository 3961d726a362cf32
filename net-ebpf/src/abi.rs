//! The bytes of a datagram: the 48-byte header, the request of a client and the answer to it.
//!
//! All integers are little-endian. The header of every datagram:
//!
//! ```text
//!  offset  size  field
//!       0     2  magic      61 6c ("al")
//!       2     1  version    1
//!       3     1  kind       1 submit (to a validator), 2 answer (to a client)
//!       4     4  session    low 20 bits index, high 12 bits generation; 0: none
//!       8     8  counter    without a session: chosen by the client, repeated in the answer
//!      16     8  token      one-time admission token; 0: none
//!      24    16  tag        session-keyed, over header and body; 0 without a session
//!      40     8  reserved   0
//! ```
//!
//! A *submit* goes on with one transaction of 156 to 1,184 bytes. An *answer* goes on with 74
//! bytes:
//!
//! ```text
//!  offset  size  field
//!      48     1  status     1 accepted, 2 refused, 3 final
//!      49     1  reason     0, or with status 2 why (1 to 255, numbered by the ingest)
//!      50    32  id         of the transaction that was sent
//!      82     8  expected sequence   the sequence that the author's next transaction must carry
//!      90    32  expected previous   and the id that it must name as previous
//! ```
//!
//! There are no sessions yet, so session, token and tag must all be zero. One request gets at most
//! one answer, and the answer is shorter than the shortest request: nobody can use a validator to
//! multiply traffic toward a forged source address.

use crate::Reject;

/// The first two bytes of every datagram, as a number: `"al"`.
pub const MAGIC: u16 = 0x6c61;
/// The one version of the layout.
pub const VERSION: u8 = 1;
/// The size of a header.
pub const HEADER_SIZE: usize = 48;
/// The smallest transaction: every fixed field and an empty body.
pub const TRANSACTION_SIZE_MIN: usize = 156;
/// The largest transaction that a datagram carries; larger ones come by TCP or HTTP.
pub const TRANSACTION_SIZE_MAX: usize = 1_184;
/// The smallest request.
pub const SUBMIT_SIZE_MIN: usize = HEADER_SIZE + TRANSACTION_SIZE_MIN;
/// The largest datagram of the protocol.
pub const PACKET_SIZE_MAX: usize = HEADER_SIZE + TRANSACTION_SIZE_MAX;
/// The size of an answer.
pub const ANSWER_SIZE: usize = HEADER_SIZE + 1 + 1 + 32 + 8 + 32;

// 1,280 bytes is the smallest link that IPv6 allows, less its header (40) and UDP's (8): a request
// of any size arrives in one piece on every path.
const _: () = assert!(PACKET_SIZE_MAX == 1_280 - 40 - 8);
const _: () = assert!(ANSWER_SIZE <= SUBMIT_SIZE_MIN);

const VERSION_AT: usize = 2;
const KIND_AT: usize = 3;
const SESSION_AT: usize = 4;
const COUNTER_AT: usize = 8;
const TOKEN_AT: usize = 16;
const TAG_AT: usize = 24;
const RESERVED_AT: usize = 40;
const STATUS_AT: usize = HEADER_SIZE;
const REASON_AT: usize = 49;
const ID_AT: usize = 50;
const EXPECTED_SEQUENCE_AT: usize = 82;
const EXPECTED_PREVIOUS_AT: usize = 90;
const _: () = assert!(RESERVED_AT + 8 == HEADER_SIZE);
const _: () = assert!(EXPECTED_PREVIOUS_AT + 32 == ANSWER_SIZE);

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A client hands in a transaction.
    Submit = 1,
    /// A validator answers a client.
    Answer = 2,
}

/// The session that a datagram belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session(u32);

impl Session {
    /// No session.
    pub const NONE: Self = Self(0);
    /// Indexes lie below this.
    pub const INDEX_COUNT: u32 = 1 << 20;
    /// Generations lie below this.
    pub const GENERATION_COUNT: u32 = 1 << 12;

    /// Puts a session's two parts together; each must lie below its count.
    pub fn new(index: u32, generation: u32) -> Self {
        assert!(index < Self::INDEX_COUNT, "a session index has 20 bits");
        assert!(generation < Self::GENERATION_COUNT, "a session generation has 12 bits");
        Self(generation << 20 | index)
    }

    /// The place of the session in the table of sessions.
    pub fn index(self) -> u32 {
        self.0 % Self::INDEX_COUNT
    }

    /// How often that place was given away before, modulo 2^12.
    pub fn generation(self) -> u32 {
        self.0 >> 20
    }
}

/// The fields at the start of every datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the datagram is.
    pub kind: Kind,
    /// The session it belongs to.
    pub session: Session,
    /// The number of the packet in its session; without one, the client's label for the request.
    pub counter: u64,
    /// The one-time token that admits it; zero is never a token.
    pub token: u64,
    /// The tag over header and body.
    pub tag: [u8; 16],
}

impl Header {
    /// The header of a datagram without a session.
    pub fn new(kind: Kind, counter: u64) -> Self {
        Self { kind, session: Session::NONE, counter, token: 0, tag: [0; 16] }
    }

    /// Lays the header out as bytes.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..VERSION_AT].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[VERSION_AT] = VERSION;
        bytes[KIND_AT] = self.kind as u8;
        bytes[SESSION_AT..COUNTER_AT].copy_from_slice(&self.session.0.to_le_bytes());
        bytes[COUNTER_AT..TOKEN_AT].copy_from_slice(&self.counter.to_le_bytes());
        bytes[TOKEN_AT..TAG_AT].copy_from_slice(&self.token.to_le_bytes());
        bytes[TAG_AT..RESERVED_AT].copy_from_slice(&self.tag);
        bytes
    }

    /// Reads and checks the header of a datagram.
    ///
    /// Errors: [`Reject::TooShort`], [`Reject::Magic`], [`Reject::Version`], [`Reject::Kind`] and
    /// [`Reject::Reserved`], in this order.
    pub fn decode(packet: &[u8]) -> Result<Self, Reject> {
        if packet.len() < HEADER_SIZE {
            return Err(Reject::TooShort);
        }
        if u16::from_le_bytes(field(packet, 0)) != MAGIC {
            return Err(Reject::Magic);
        }
        if packet[VERSION_AT] != VERSION {
            return Err(Reject::Version);
        }
        let kind = match packet[KIND_AT] {
            1 => Kind::Submit,
            2 => Kind::Answer,
            _ => return Err(Reject::Kind),
        };
        if field(packet, RESERVED_AT) != [0; 8] {
            return Err(Reject::Reserved);
        }
        Ok(Self {
            kind,
            session: Session(u32::from_le_bytes(field(packet, SESSION_AT))),
            counter: u64::from_le_bytes(field(packet, COUNTER_AT)),
            token: u64::from_le_bytes(field(packet, TOKEN_AT)),
            tag: field(packet, TAG_AT),
        })
    }

    /// Reads the header of a datagram of this kind that belongs to no session.
    fn decode_sessionless(packet: &[u8], kind: Kind) -> Result<Self, Reject> {
        let header = Self::decode(packet)?;
        if header.kind != kind {
            return Err(Reject::Kind);
        }
        if header.session != Session::NONE {
            return Err(Reject::Session);
        }
        if header.token != 0 || header.tag != [0; 16] {
            return Err(Reject::Token);
        }
        Ok(header)
    }
}

/// A client's request: one transaction, its bytes not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submit<'a> {
    /// The client's own label, repeated in the answer.
    pub counter: u64,
    /// The transaction: [`TRANSACTION_SIZE_MIN`] to [`TRANSACTION_SIZE_MAX`] bytes.
    pub transaction: &'a [u8],
}

impl<'a> Submit<'a> {
    /// Writes the request into the front of `packet` and returns its size.
    ///
    /// Panics: when the transaction is smaller or larger than a datagram may carry.
    pub fn encode(&self, packet: &mut [u8; PACKET_SIZE_MAX]) -> usize {
        assert!(self.transaction.len() >= TRANSACTION_SIZE_MIN, "no transaction is this small");
        assert!(self.transaction.len() <= TRANSACTION_SIZE_MAX, "too large for a datagram");
        let size = HEADER_SIZE + self.transaction.len();
        let header = Header::new(Kind::Submit, self.counter);
        packet[..HEADER_SIZE].copy_from_slice(&header.encode());
        packet[HEADER_SIZE..size].copy_from_slice(self.transaction);
        size
    }

    /// Reads and checks a request: everything about its frame, nothing about its transaction.
    ///
    /// Errors: every [`Reject`] from [`Reject::TooShort`] to [`Reject::Token`], cheapest first.
    pub fn decode(packet: &'a [u8]) -> Result<Self, Reject> {
        if packet.len() < SUBMIT_SIZE_MIN {
            return Err(Reject::TooShort);
        }
        if packet.len() > PACKET_SIZE_MAX {
            return Err(Reject::TooLong);
        }
        let header = Header::decode_sessionless(packet, Kind::Submit)?;
        Ok(Self { counter: header.counter, transaction: &packet[HEADER_SIZE..] })
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Taken; it is not final yet.
    Accepted,
    /// Not taken. The number says why and is never zero; its meaning is the ingest's.
    Refused(u8),
    /// It was final already.
    Final,
}

/// A validator's answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The label of the request.
    pub counter: u64,
    /// What became of it.
    pub status: Status,
    /// The id of the transaction that was sent.
    pub id: [u8; 32],
    /// The sequence that the author's next transaction must carry.
    pub expected_sequence: u64,
    /// The id that the author's next transaction must name as previous.
    pub expected_previous: [u8; 32],
}

impl Answer {
    /// Lays the answer out as bytes.
    ///
    /// Panics: when a refusal has the reason zero.
    pub fn encode(&self) -> [u8; ANSWER_SIZE] {
        let (status, reason) = match self.status {
            Status::Accepted => (1, 0),
            Status::Refused(reason) => {
                assert!(reason != 0, "a refusal has a reason");
                (2, reason)
            }
            Status::Final => (3, 0),
        };
        let mut bytes = [0; ANSWER_SIZE];
        bytes[..HEADER_SIZE].copy_from_slice(&Header::new(Kind::Answer, self.counter).encode());
        bytes[STATUS_AT] = status;
        bytes[REASON_AT] = reason;
        bytes[ID_AT..EXPECTED_SEQUENCE_AT].copy_from_slice(&self.id);
        bytes[EXPECTED_SEQUENCE_AT..EXPECTED_PREVIOUS_AT]
            .copy_from_slice(&self.expected_sequence.to_le_bytes());
        bytes[EXPECTED_PREVIOUS_AT..].copy_from_slice(&self.expected_previous);
        bytes
    }

    /// Reads and checks an answer.
    ///
    /// Errors: every [`Reject`] from [`Reject::TooShort`] to [`Reject::Body`], cheapest first.
    pub fn decode(packet: &[u8]) -> Result<Self, Reject> {
        if packet.len() < ANSWER_SIZE {
            return Err(Reject::TooShort);
        }
        if packet.len() > ANSWER_SIZE {
            return Err(Reject::TooLong);
        }
        let header = Header::decode_sessionless(packet, Kind::Answer)?;
        let status = match (packet[STATUS_AT], packet[REASON_AT]) {
            (1, 0) => Status::Accepted,
            (2, reason @ 1..) => Status::Refused(reason),
            (3, 0) => Status::Final,
            _ => return Err(Reject::Body),
        };
        Ok(Self {
            counter: header.counter,
            status,
            id: field(packet, ID_AT),
            expected_sequence: u64::from_le_bytes(field(packet, EXPECTED_SEQUENCE_AT)),
            expected_previous: field(packet, EXPECTED_PREVIOUS_AT),
        })
    }
}

/// The `N` bytes at an offset that the caller has checked to lie inside.
fn field<const N: usize>(packet: &[u8], at: usize) -> [u8; N] {
    packet[at..at + N].try_into().expect("a range of N bytes is N bytes long")
}

#[cfg(test)]
mod tests;
