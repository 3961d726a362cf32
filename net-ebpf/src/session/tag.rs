//! The two things that a session's keys make: one-time tokens, and tags over datagrams.

use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, Key, KeyInit as _, Nonce, Tag};
use std::fmt;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::{
    Reject,
    abi::{HEADER_SIZE, PACKET_SIZE_MAX, TAG_AT},
    policy::hash,
};

const KIND_AT: usize = 3;
const COUNTER_AT: usize = 8;
const TAG_SIZE: usize = 16;

/// Makes the token of each counter of one session.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey([u8; 16]);

impl TokenKey {
    /// Takes 16 random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The token of a counter; never zero.
    ///
    /// Source: SipHash-2-4 over the counter's 8 bytes; 1 where that is 0.
    pub fn token(&self, counter: u64) -> u64 {
        hash::Key::new(self.0).hash([counter]).max(1)
    }
}

impl Drop for TokenKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for TokenKey {}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

/// Makes and checks the tags of one session's datagrams.
///
/// A tag is that of ChaCha20-Poly1305 (RFC 8439, section 2.8) over an empty text. The nonce is the
/// datagram's kind as u32 and its counter, the associated data the whole datagram with a tag of
/// zeros. Two datagrams of one kind and counter that differ would give the key of the tag away: no
/// counter is submitted twice, none is answered twice, and a window is told by what it says.
#[derive(Clone, PartialEq, Eq)]
pub struct TagKey([u8; 32]);

impl TagKey {
    /// Takes 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Writes the tag into a datagram, which is otherwise whole.
    ///
    /// Panics: when it is shorter than a header.
    pub fn seal(&self, packet: &mut [u8]) {
        packet[TAG_AT..TAG_AT + TAG_SIZE].fill(0);
        let tag = self
            .cipher()
            .encrypt_inout_detached(&nonce(packet), packet, (&mut [][..]).into())
            .expect("a datagram is no long message");
        packet[TAG_AT..TAG_AT + TAG_SIZE].copy_from_slice(&tag);
    }

    /// Checks the tag of a datagram, in a time that does not depend on where it differs.
    ///
    /// Shape: a header's size to [`PACKET_SIZE_MAX`] bytes.
    ///
    /// Errors: [`Reject::Tag`].
    pub fn open(&self, packet: &[u8]) -> Result<(), Reject> {
        assert!(packet.len() >= HEADER_SIZE, "a datagram has a header");
        let mut copy = [0; PACKET_SIZE_MAX];
        let copy = &mut copy[..packet.len()];
        copy.copy_from_slice(packet);
        copy[TAG_AT..TAG_AT + TAG_SIZE].fill(0);
        let tag: [u8; TAG_SIZE] =
            packet[TAG_AT..TAG_AT + TAG_SIZE].try_into().expect("16 bytes of a header");
        self.cipher()
            .decrypt_inout_detached(&nonce(packet), copy, (&mut [][..]).into(), &Tag::from(tag))
            .map_err(|_| Reject::Tag)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(self.0))
    }
}

impl Drop for TagKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for TagKey {}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey")
    }
}

/// The nonce of a datagram: kind, three zeros, counter.
fn nonce(packet: &[u8]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[0] = packet[KIND_AT];
    nonce[4..].copy_from_slice(&packet[COUNTER_AT..COUNTER_AT + 8]);
    Nonce::from(nonce)
}
