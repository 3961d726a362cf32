//! The bytes of a datagram: the 48-byte header, requests of clients and what they get back.
//!
//! All integers are little-endian. The header of every datagram:
//!
//! ```text
//!  offset  size  field
//!       0     2  magic      61 6c ("al")
//!       2     1  version    1
//!       3     1  kind
//!       4     4  session    low 20 bits index, high 12 bits generation; 0: none
//!       8     8  counter    of the packet in its session; outside one a label
//!      16     8  token
//!      24    16  tag        session-keyed, over the whole datagram; 0 outside a session
//!      40     8  reserved   0
//! ```
//!
//! What the other fields hold, and which are zero, the kind decides:
//!
//! ```text
//!  kind         sent by    size        session  counter    token              tag
//!  1 submit     client     204..=1232  yes      its own    one-time token     yes
//!  2 answer     validator  122         yes      submit's   installed counter  yes
//!  3 hello      client     48          0        label      0                  0
//!  4 cookie     validator  48          0        label      cookie             0
//!  5 handshake  client     160         0        label      cookie             0
//!  6 welcome    validator  160         0        label      0                  0
//!  7 window     validator  48          yes      installed  0                  yes
//! ```
//!
//! The installed counter is the highest one for which the validator waits. Bodies:
//!
//! ```text
//!  submit     one transaction of 156 to 1,184 bytes
//!  answer     status 1 (1 accepted, 2 refused, 3 final) | reason 1 (0, or with status 2 why) |
//!             id 32 of the transaction | expected sequence 8 and expected previous 32: what the
//!             author's next transaction must carry
//!  handshake  first 8 bytes of the admission public key | Noise message 1, 48 | zeros 56
//!  welcome    Noise message 2, 112; its payload: session 4 | reserved 4 | installed counter 8 |
//!             token key 16 | tag key 32
//! ```
//!
//! No reply is longer than what it replies to: nobody can use a validator to multiply traffic
//! toward a forged source address.

mod handshake;
mod submit;

pub use handshake::{Cookie, Grant, Handshake, Hello, Welcome, Window};
pub use submit::{Answer, Outcome, Status, Submit};

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
/// The size of a hello.
pub const HELLO_SIZE: usize = HEADER_SIZE;
/// The size of a cookie.
pub const COOKIE_SIZE: usize = HEADER_SIZE;
/// The size of a handshake.
pub const HANDSHAKE_SIZE: usize = HEADER_SIZE + 112;
/// The size of a welcome.
pub const WELCOME_SIZE: usize = HEADER_SIZE + 112;
/// The size of a window.
pub const WINDOW_SIZE: usize = HEADER_SIZE;

// 1,280 bytes is the smallest link that IPv6 allows, less its header (40) and UDP's (8): a request
// of any size arrives in one piece on every path.
const _: () = assert!(PACKET_SIZE_MAX == 1_280 - 40 - 8);
// A submit may be answered and, once in a while, told of the window beside.
const _: () = assert!(ANSWER_SIZE + WINDOW_SIZE <= SUBMIT_SIZE_MIN);
const _: () = assert!(COOKIE_SIZE <= HELLO_SIZE);
const _: () = assert!(WELCOME_SIZE <= HANDSHAKE_SIZE);

const VERSION_AT: usize = 2;
const KIND_AT: usize = 3;
const SESSION_AT: usize = 4;
const COUNTER_AT: usize = 8;
const TOKEN_AT: usize = 16;
pub(crate) const TAG_AT: usize = 24;
const RESERVED_AT: usize = 40;
const _: () = assert!(RESERVED_AT + 8 == HEADER_SIZE);

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A client hands in a transaction.
    Submit = 1,
    /// A validator answers a client.
    Answer = 2,
    /// A client asks for a cookie.
    Hello = 3,
    /// A validator has the client prove that it receives at its address.
    Cookie = 4,
    /// A client shows the cookie and asks for a session.
    Handshake = 5,
    /// A validator opens a session.
    Welcome = 6,
    /// A validator says which counters it waits for now.
    Window = 7,
}

impl Kind {
    /// The kind of a number.
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Submit,
            2 => Self::Answer,
            3 => Self::Hello,
            4 => Self::Cookie,
            5 => Self::Handshake,
            6 => Self::Welcome,
            7 => Self::Window,
            _ => return None,
        })
    }
}

/// The session that a datagram belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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

    /// Takes a session as it travels.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The place of the session in the table of sessions.
    pub fn index(self) -> u32 {
        self.0 % Self::INDEX_COUNT
    }

    /// Which of those who held that place one after the other: it counts up from anywhere, modulo
    /// 2^12, and leaves out zero.
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
    /// The one-time token that admits it, a cookie, or the installed counter: by kind.
    pub token: u64,
    /// The tag over the whole datagram.
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

    /// Reads and checks the header of a datagram of any kind.
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
        let kind = Kind::from_byte(packet[KIND_AT]).ok_or(Reject::Kind)?;
        if field(packet, RESERVED_AT) != [0; 8] {
            return Err(Reject::Reserved);
        }
        Ok(Self {
            kind,
            session: Session::from_bits(u32::from_le_bytes(field(packet, SESSION_AT))),
            counter: u64::from_le_bytes(field(packet, COUNTER_AT)),
            token: u64::from_le_bytes(field(packet, TOKEN_AT)),
            tag: field(packet, TAG_AT),
        })
    }

    /// Reads the header of a datagram of this kind and between these sizes.
    fn decode_sized(
        packet: &[u8],
        kind: Kind,
        sizes: std::ops::RangeInclusive<usize>,
    ) -> Result<Self, Reject> {
        if packet.len() < *sizes.start() {
            return Err(Reject::TooShort);
        }
        if packet.len() > *sizes.end() {
            return Err(Reject::TooLong);
        }
        let header = Self::decode(packet)?;
        if header.kind != kind {
            return Err(Reject::Kind);
        }
        Ok(header)
    }

    /// Reads the header of a datagram that belongs to a session.
    fn decode_inside(
        packet: &[u8],
        kind: Kind,
        sizes: std::ops::RangeInclusive<usize>,
    ) -> Result<Self, Reject> {
        let header = Self::decode_sized(packet, kind, sizes)?;
        if header.session == Session::NONE {
            return Err(Reject::Session);
        }
        Ok(header)
    }

    /// Reads the header of a datagram of one size that belongs to no session.
    fn decode_outside(packet: &[u8], kind: Kind, size: usize) -> Result<Self, Reject> {
        let header = Self::decode_sized(packet, kind, size..=size)?;
        if header.session != Session::NONE {
            return Err(Reject::Session);
        }
        if header.tag != [0; 16] {
            return Err(Reject::Token);
        }
        Ok(header)
    }

    /// Refuses a token where none belongs.
    fn without_token(self) -> Result<Self, Reject> {
        if self.token == 0 { Ok(self) } else { Err(Reject::Token) }
    }
}

/// The `N` bytes at an offset that the caller has checked to lie inside.
fn field<const N: usize>(packet: &[u8], at: usize) -> [u8; N] {
    packet[at..at + N].try_into().expect("a range of N bytes is N bytes long")
}

#[cfg(test)]
mod tests;
