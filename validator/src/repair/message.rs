//! What validators ask each other about stored records, and its bytes on the wire.

use crate::record;
use ledger::Reject;

/// Bytes of a body in one message, at most: a quota of messages then is one of bytes.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Kind, height, key and offset.
const HEAD_BYTES: usize = 1 + 1 + 8 + 32 + 4;
/// The longest message.
pub const MESSAGE_BYTES_MAX: usize = HEAD_BYTES + 4 + PIECE_BYTES_MAX;

const TAG_ASK: u8 = 1;
const TAG_PIECE: u8 = 2;

/// Names a record that every validator has: a batch by its digest, anything else by its height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// A kind of `record`.
    pub kind: u8,
    /// The height, of anything but a batch.
    pub height: u64,
    /// The key.
    pub key: [u8; 32],
}

impl Name {
    /// Whether validators ask each other for records of this kind.
    pub const fn is_shared(self) -> bool {
        matches!(self.kind, record::BATCH | record::CUT | record::CERTIFICATE | record::OUTCOMES)
    }
}

/// A message of the channel of stored records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Please send the body from this byte on.
    Ask(Name, u32),
    /// A piece of it.
    Piece {
        /// The record.
        name: Name,
        /// Where the piece begins.
        offset: u32,
        /// The whole body's length; 0 where the record is not there.
        total: u32,
        /// The piece.
        bytes: Vec<u8>,
    },
}

impl Message {
    /// Shape: tag 1, kind 1, height 8, key 32, offset 4; of a piece then total 4 and its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (tag, name, offset) = match self {
            Self::Ask(name, offset) => (TAG_ASK, name, offset),
            Self::Piece { name, offset, .. } => (TAG_PIECE, name, offset),
        };
        let mut message = vec![tag, name.kind];
        message.extend_from_slice(&name.height.to_le_bytes());
        message.extend_from_slice(&name.key);
        message.extend_from_slice(&offset.to_le_bytes());
        if let Self::Piece { total, bytes, .. } = self {
            message.extend_from_slice(&total.to_le_bytes());
            message.extend_from_slice(bytes);
        }
        message
    }

    /// Reads exactly one message.
    ///
    /// Errors: a [`Reject`] for anything else; [`Reject::TooLong`] for a piece beyond its body's end included.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(Reject::Truncated)?;
        let number = |at: usize| {
            let bytes = head[at..].first_chunk().expect("within the head");
            u32::from_le_bytes(*bytes)
        };
        let name = Name {
            kind: head[1],
            height: u64::from_le_bytes(*head[2..].first_chunk().expect("within the head")),
            key: *head[10..].first_chunk().expect("within the head"),
        };
        if !name.is_shared() {
            return Err(Reject::UnknownKind);
        }
        let offset = number(42);
        match head[0] {
            TAG_ASK if rest.is_empty() => Ok(Self::Ask(name, offset)),
            TAG_ASK => Err(Reject::TrailingBytes),
            TAG_PIECE => {
                let (total, piece) = rest.split_first_chunk().ok_or(Reject::Truncated)?;
                let total = u32::from_le_bytes(*total);
                let end = u64::from(offset) + piece.len() as u64;
                if piece.len() > PIECE_BYTES_MAX || end > u64::from(total) {
                    return Err(Reject::TooLong);
                }
                Ok(Self::Piece { name, offset, total, bytes: piece.to_vec() })
            }
            _ => Err(Reject::UnknownKind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_and_nothing_else_does() {
        let name = Name { kind: record::CUT, height: 7, key: [3; 32] };
        let piece = Message::Piece { name, offset: 5, total: 9, bytes: vec![1, 2, 3, 4] };
        for message in [Message::Ask(name, 0), Message::Ask(name, 77), piece.clone()] {
            let bytes = message.encode();
            assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            assert_eq!(Message::decode(&bytes), Ok(message));
            for end in 0..HEAD_BYTES {
                assert_eq!(Message::decode(&bytes[..end]), Err(Reject::Truncated));
            }
            assert!(Message::decode(&[&bytes[..], &[0]].concat()).is_err());
            for kind in [0, record::ACK, record::CERTIFICATE_AGAIN, 255] {
                let mut other = bytes.clone();
                other[1] = kind;
                assert_eq!(Message::decode(&other), Err(Reject::UnknownKind));
            }
        }
        let mut long = piece.encode();
        long.truncate(HEAD_BYTES + 3);
        assert_eq!(Message::decode(&long), Err(Reject::Truncated));
        let most = vec![0; PIECE_BYTES_MAX + 1];
        let piece = Message::Piece { name, offset: 0, total: u32::MAX, bytes: most };
        assert_eq!(Message::decode(&piece.encode()), Err(Reject::TooLong));
    }
}
