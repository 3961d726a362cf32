//! A client's request, and what a validator answers to it.

use super::{
    ANSWER_SIZE, HEADER_SIZE, Header, Kind, PACKET_SIZE_MAX, SUBMIT_SIZE_MIN, Session,
    TRANSACTION_SIZE_MAX, TRANSACTION_SIZE_MIN, field,
};
use crate::Reject;

const STATUS_AT: usize = HEADER_SIZE;
const REASON_AT: usize = 49;
const ID_AT: usize = 50;
const EXPECTED_SEQUENCE_AT: usize = 82;
const EXPECTED_PREVIOUS_AT: usize = 90;
const _: () = assert!(EXPECTED_PREVIOUS_AT + 32 == ANSWER_SIZE);

/// A client's request: one transaction, its bytes not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submit<'a> {
    /// The session that it was sent in.
    pub session: Session,
    /// Its number in the session, used once and repeated in the answer.
    pub counter: u64,
    /// The one-time token of that number; never zero.
    pub token: u64,
    /// The tag over the whole datagram.
    pub tag: [u8; 16],
    /// The transaction: [`TRANSACTION_SIZE_MIN`] to [`TRANSACTION_SIZE_MAX`] bytes.
    pub transaction: &'a [u8],
}

impl<'a> Submit<'a> {
    /// Writes the request into the front of `packet` and returns its size. The tag is written as it
    /// stands.
    ///
    /// Panics: when the transaction is smaller or larger than a datagram may carry.
    pub fn encode(&self, packet: &mut [u8; PACKET_SIZE_MAX]) -> usize {
        assert!(self.transaction.len() >= TRANSACTION_SIZE_MIN, "no transaction is this small");
        assert!(self.transaction.len() <= TRANSACTION_SIZE_MAX, "too large for a datagram");
        let size = HEADER_SIZE + self.transaction.len();
        let &Self { session, counter, token, tag, transaction } = self;
        let header = Header { kind: Kind::Submit, session, counter, token, tag };
        packet[..HEADER_SIZE].copy_from_slice(&header.encode());
        packet[HEADER_SIZE..size].copy_from_slice(transaction);
        size
    }

    /// Reads and checks a request: its frame alone, neither token nor tag nor transaction.
    ///
    /// Errors, cheapest first: [`Reject::TooShort`], [`Reject::TooLong`], [`Reject::Magic`],
    /// [`Reject::Version`], [`Reject::Kind`], [`Reject::Reserved`], [`Reject::Session`] when it
    /// names none, [`Reject::Token`] when it carries none.
    pub fn decode(packet: &'a [u8]) -> Result<Self, Reject> {
        let sizes = SUBMIT_SIZE_MIN..=PACKET_SIZE_MAX;
        let header = Header::decode_inside(packet, Kind::Submit, sizes)?;
        let Header { kind: _, session, counter, token, tag } = header;
        if token == 0 {
            return Err(Reject::Token);
        }
        Ok(Self { session, counter, token, tag, transaction: &packet[HEADER_SIZE..] })
    }
}

/// Whether a transaction was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Taken; it is not final yet.
    Accepted,
    /// Not taken. The number says why and is never zero; its meaning is the ingest's.
    Refused(u8),
    /// It was final already.
    Final,
}

/// What became of one transaction: the body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it was taken.
    pub status: Status,
    /// The id of the transaction that was sent.
    pub id: [u8; 32],
    /// The sequence that the author's next transaction must carry.
    pub expected_sequence: u64,
    /// The id that the author's next transaction must name as previous.
    pub expected_previous: [u8; 32],
}

/// A validator's answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The session of the request.
    pub session: Session,
    /// The counter of the request.
    pub counter: u64,
    /// The highest counter that the validator waits for.
    pub installed: u64,
    /// The tag over the whole datagram.
    pub tag: [u8; 16],
    /// What became of its transaction.
    pub outcome: Outcome,
}

impl Answer {
    /// Lays the answer out as bytes. The tag is written as it stands.
    ///
    /// Panics: when a refusal has the reason zero.
    pub fn encode(&self) -> [u8; ANSWER_SIZE] {
        let &Self { session, counter, installed: token, tag, outcome } = self;
        let (status, reason) = match outcome.status {
            Status::Accepted => (1, 0),
            Status::Refused(reason) => {
                assert!(reason != 0, "a refusal has a reason");
                (2, reason)
            }
            Status::Final => (3, 0),
        };
        let header = Header { kind: Kind::Answer, session, counter, token, tag };
        let mut bytes = [0; ANSWER_SIZE];
        bytes[..HEADER_SIZE].copy_from_slice(&header.encode());
        bytes[STATUS_AT] = status;
        bytes[REASON_AT] = reason;
        bytes[ID_AT..EXPECTED_SEQUENCE_AT].copy_from_slice(&outcome.id);
        bytes[EXPECTED_SEQUENCE_AT..EXPECTED_PREVIOUS_AT]
            .copy_from_slice(&outcome.expected_sequence.to_le_bytes());
        bytes[EXPECTED_PREVIOUS_AT..].copy_from_slice(&outcome.expected_previous);
        bytes
    }

    /// Reads and checks an answer: its form alone, not its tag.
    ///
    /// Errors, cheapest first: [`Reject::TooShort`], [`Reject::TooLong`], [`Reject::Magic`],
    /// [`Reject::Version`], [`Reject::Kind`], [`Reject::Reserved`], [`Reject::Session`] when it
    /// names none, [`Reject::Body`].
    pub fn decode(packet: &[u8]) -> Result<Self, Reject> {
        let header = Header::decode_inside(packet, Kind::Answer, ANSWER_SIZE..=ANSWER_SIZE)?;
        let Header { kind: _, session, counter, token: installed, tag } = header;
        let status = match (packet[STATUS_AT], packet[REASON_AT]) {
            (1, 0) => Status::Accepted,
            (2, reason @ 1..) => Status::Refused(reason),
            (3, 0) => Status::Final,
            _ => return Err(Reject::Body),
        };
        let outcome = Outcome {
            status,
            id: field(packet, ID_AT),
            expected_sequence: u64::from_le_bytes(field(packet, EXPECTED_SEQUENCE_AT)),
            expected_previous: field(packet, EXPECTED_PREVIOUS_AT),
        };
        Ok(Self { session, counter, installed, tag, outcome })
    }
}
