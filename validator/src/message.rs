//! What validators tell each other about lanes, and its bytes on the wire.

use ledger::{Ack, AvailabilityCertificate, Digest, Reject, limits::EVIDENCE_BYTES_MAX};

/// Batches asked for by one request, at most: 16 of 512 KiB fill 8 MiB, a few round trips' worth.
pub const REQUEST_BATCHES_MAX: u16 = 16;

/// A message on the control channel of the lane network; batches travel on their own channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A promise to keep and serve a batch.
    Ack(Ack),
    /// A lane's newest batch that 2f+1 validators hold.
    Certificate(AvailabilityCertificate),
    /// Please send this batch and its predecessors.
    Request(Request),
    /// The encoding of a `ledger::Evidence`, to be checked by who keeps it.
    Evidence(Vec<u8>),
}

/// Asks for the batch `digest` of `lane` and its predecessors down to, not including, `floor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The lane.
    pub lane: u32,
    /// Digest of the newest batch wanted.
    pub digest: Digest,
    /// Sequence that the asker already holds.
    pub floor: u64,
    /// Batches wanted, at most [`REQUEST_BATCHES_MAX`].
    pub count: u16,
}

const TAG_ACK: u8 = 1;
const TAG_CERTIFICATE: u8 = 2;
const TAG_REQUEST: u8 = 3;
const TAG_EVIDENCE: u8 = 4;
const REQUEST_BYTES: usize = 4 + 32 + 8 + 2;

impl Control {
    /// Shape: one tag byte, then the message's own fixed or self-delimiting encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        match self {
            Self::Ack(ack) => {
                bytes.push(TAG_ACK);
                bytes.extend_from_slice(&ack.encode());
            }
            Self::Certificate(certificate) => {
                bytes.push(TAG_CERTIFICATE);
                certificate.encode_into(&mut bytes);
            }
            Self::Request(request) => {
                bytes.push(TAG_REQUEST);
                bytes.extend_from_slice(&request.lane.to_le_bytes());
                bytes.extend_from_slice(request.digest.as_bytes());
                bytes.extend_from_slice(&request.floor.to_le_bytes());
                bytes.extend_from_slice(&request.count.to_le_bytes());
            }
            Self::Evidence(evidence) => {
                bytes.push(TAG_EVIDENCE);
                bytes.extend_from_slice(evidence);
            }
        }
        bytes
    }

    /// Reads exactly one message.
    ///
    /// Errors: a [`Reject`] for anything but the canonical encoding of one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let (&tag, rest) = bytes.split_first().ok_or(Reject::Truncated)?;
        match tag {
            TAG_ACK => Ok(Self::Ack(Ack::decode(rest)?)),
            TAG_CERTIFICATE => {
                let (certificate, rest) = AvailabilityCertificate::decode_prefix(rest)?;
                if rest.is_empty() {
                    Ok(Self::Certificate(certificate))
                } else {
                    Err(Reject::TrailingBytes)
                }
            }
            TAG_REQUEST => Ok(Self::Request(Request::decode(rest)?)),
            TAG_EVIDENCE if rest.len() > EVIDENCE_BYTES_MAX => Err(Reject::TooLong),
            TAG_EVIDENCE => Ok(Self::Evidence(rest.to_vec())),
            _ => Err(Reject::UnknownKind),
        }
    }
}

impl Request {
    fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let bytes: &[u8; REQUEST_BYTES] = bytes.try_into().map_err(|_| Reject::Truncated)?;
        let (lane, rest) = bytes.split_first_chunk::<4>().expect("4 of 46 bytes");
        let (digest, rest) = rest.split_first_chunk::<32>().expect("32 of 42 bytes");
        let (floor, rest) = rest.split_first_chunk::<8>().expect("8 of 10 bytes");
        let count = rest.first_chunk::<2>().expect("2 of 2 bytes");
        Ok(Self {
            lane: u32::from_le_bytes(*lane),
            digest: Digest(*digest),
            floor: u64::from_le_bytes(*floor),
            count: u16::from_le_bytes(*count),
        })
    }
}
