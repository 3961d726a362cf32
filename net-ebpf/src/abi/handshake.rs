//! The datagrams that open a session, and the one that moves its window.

use super::{
    COOKIE_SIZE, HANDSHAKE_SIZE, HEADER_SIZE, HELLO_SIZE, Header, Kind, Session, WELCOME_SIZE,
    WINDOW_SIZE, field,
};
use crate::Reject;

const KEY_ID_AT: usize = HEADER_SIZE;
const MESSAGE_AT: usize = KEY_ID_AT + 8;
const PADDING_AT: usize = MESSAGE_AT + Handshake::MESSAGE_SIZE;
const _: () = assert!(PADDING_AT + 56 == HANDSHAKE_SIZE);

/// A client's request for a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The client's label, repeated in the cookie.
    pub nonce: u64,
}

impl Hello {
    /// Lays the hello out as bytes.
    pub fn encode(&self) -> [u8; HELLO_SIZE] {
        Header::new(Kind::Hello, self.nonce).encode()
    }

    /// Reads and checks a hello.
    ///
    /// Errors, cheapest first: [`Reject::TooShort`], [`Reject::TooLong`], [`Reject::Magic`],
    /// [`Reject::Version`], [`Reject::Kind`], [`Reject::Reserved`], [`Reject::Session`],
    /// [`Reject::Token`] when token or tag is set.
    pub fn decode(packet: &[u8]) -> Result<Self, Reject> {
        let header = Header::decode_outside(packet, Kind::Hello, HELLO_SIZE)?.without_token()?;
        Ok(Self { nonce: header.counter })
    }
}

/// A validator's reply to a hello: who shows it receives at the address it sends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The label of the hello.
    pub nonce: u64,
    /// What to show.
    pub cookie: u64,
}

impl Cookie {
    /// Lays the cookie out as bytes.
    pub fn encode(&self) -> [u8; COOKIE_SIZE] {
        Header { token: self.cookie, ..Header::new(Kind::Cookie, self.nonce) }.encode()
    }

    /// Reads and checks a cookie.
    ///
    /// Errors: as for [`Hello::decode`], but any token is good.
    pub fn decode(packet: &[u8]) -> Result<Self, Reject> {
        let header = Header::decode_outside(packet, Kind::Cookie, COOKIE_SIZE)?;
        Ok(Self { nonce: header.counter, cookie: header.token })
    }
}

/// A client's request for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The client's label, repeated in the welcome.
    pub nonce: u64,
    /// The cookie that the validator sent.
    pub cookie: u64,
    /// The first 8 bytes of the admission public key that the client knows.
    pub key_id: [u8; 8],
    /// The first Noise message: the client's ephemeral key, and the tag of an empty payload.
    pub message: [u8; Self::MESSAGE_SIZE],
}

impl Handshake {
    /// The size of the first Noise message.
    pub const MESSAGE_SIZE: usize = 48;

    /// Lays the handshake out as bytes.
    pub fn encode(&self) -> [u8; HANDSHAKE_SIZE] {
        let header = Header { token: self.cookie, ..Header::new(Kind::Handshake, self.nonce) };
        let mut bytes = [0; HANDSHAKE_SIZE];
        bytes[..HEADER_SIZE].copy_from_slice(&header.encode());
        bytes[KEY_ID_AT..MESSAGE_AT].copy_from_slice(&self.key_id);
        bytes[MESSAGE_AT..PADDING_AT].copy_from_slice(&self.message);
        bytes
    }

    /// Reads and checks a handshake: its form alone, neither cookie nor message.
    ///
    /// Errors: as for [`Hello::decode`], but any token is good; and [`Reject::Reserved`] when the
    /// bytes after the message are not zero.
    pub fn decode(packet: &[u8]) -> Result<Self, Reject> {
        let header = Header::decode_outside(packet, Kind::Handshake, HANDSHAKE_SIZE)?;
        if packet[PADDING_AT..] != [0; 56] {
            return Err(Reject::Reserved);
        }
        Ok(Self {
            nonce: header.counter,
            cookie: header.token,
            key_id: field(packet, KEY_ID_AT),
            message: field(packet, MESSAGE_AT),
        })
    }
}

/// A validator's reply to a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The label of the handshake.
    pub nonce: u64,
    /// The second Noise message: the validator's ephemeral key, a sealed [`Grant`], its tag.
    pub message: [u8; Self::MESSAGE_SIZE],
}

impl Welcome {
    /// The size of the second Noise message.
    pub const MESSAGE_SIZE: usize = 32 + Grant::SIZE + 16;

    /// Lays the welcome out as bytes.
    pub fn encode(&self) -> [u8; WELCOME_SIZE] {
        let mut bytes = [0; WELCOME_SIZE];
        bytes[..HEADER_SIZE].copy_from_slice(&Header::new(Kind::Welcome, self.nonce).encode());
        bytes[HEADER_SIZE..].copy_from_slice(&self.message);
        bytes
    }

    /// Reads and checks a welcome: its form alone, not its message.
    ///
    /// Errors: as for [`Hello::decode`].
    pub fn decode(packet: &[u8]) -> Result<Self, Reject> {
        let header = Header::decode_outside(packet, Kind::Welcome, WELCOME_SIZE)?;
        let header = header.without_token()?;
        Ok(Self { nonce: header.counter, message: field(packet, HEADER_SIZE) })
    }
}

/// What a welcome carries under its seal.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// The session; never none.
    pub session: Session,
    /// The highest counter that the validator waits for.
    pub installed: u64,
    /// Makes tokens of counters.
    pub token_key: [u8; 16],
    /// Makes tags.
    pub tag_key: [u8; 32],
}

impl Grant {
    /// The size of the layout.
    pub const SIZE: usize = 64;

    /// Lays the grant out as bytes. They are secret: the caller wipes them.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&self.session.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.installed.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.token_key);
        bytes[32..].copy_from_slice(&self.tag_key);
        bytes
    }

    /// Reads and checks a grant.
    ///
    /// Errors: [`Reject::Session`] when it names none; [`Reject::Reserved`].
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Result<Self, Reject> {
        if field(bytes, 4) != [0; 4] {
            return Err(Reject::Reserved);
        }
        let session = Session::from_bits(u32::from_le_bytes(field(bytes, 0)));
        if session == Session::NONE {
            return Err(Reject::Session);
        }
        Ok(Self {
            session,
            installed: u64::from_le_bytes(field(bytes, 8)),
            token_key: field(bytes, 16),
            tag_key: field(bytes, 32),
        })
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.token_key);
        zeroize::Zeroize::zeroize(&mut self.tag_key);
    }
}

/// A validator's word on which counters it waits for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The session.
    pub session: Session,
    /// The highest counter that the validator waits for.
    pub installed: u64,
    /// The tag over the whole datagram.
    pub tag: [u8; 16],
}

impl Window {
    /// Lays the window out as bytes. The tag is written as it stands.
    pub fn encode(&self) -> [u8; WINDOW_SIZE] {
        let &Self { session, installed: counter, tag } = self;
        Header { kind: Kind::Window, session, counter, token: 0, tag }.encode()
    }

    /// Reads and checks a window: its form alone, not its tag.
    ///
    /// Errors, cheapest first: [`Reject::TooShort`], [`Reject::TooLong`], [`Reject::Magic`],
    /// [`Reject::Version`], [`Reject::Kind`], [`Reject::Reserved`], [`Reject::Session`] when it
    /// names none, [`Reject::Token`] when it carries one.
    pub fn decode(packet: &[u8]) -> Result<Self, Reject> {
        let header = Header::decode_inside(packet, Kind::Window, WINDOW_SIZE..=WINDOW_SIZE)?;
        let Header { kind: _, session, counter: installed, token: _, tag } =
            header.without_token()?;
        Ok(Self { session, installed, tag })
    }
}
