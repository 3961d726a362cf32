//! Kinds of the records that a validator keeps in its store, and what each of them holds.

/// A batch: key is its digest, no height, body is header, signature and transactions.
pub const BATCH: u8 = 1;
/// A finalized cut block: key is its digest, body its encoding.
pub const CUT: u8 = 2;
/// A finality certificate: height and key are those of the cut it certifies.
///
/// A cut without a certificate of its own is covered by the next one above it; a cut is only
/// written in one append with a certificate that covers it.
pub const CERTIFICATE: u8 = 3;
/// The outcomes of one height: key is the cut's digest, body is a `ledger::OutcomeList`.
pub const OUTCOMES: u8 = 4;
/// An acknowledgement that this validator signed: key is the batch's digest, no height.
///
/// With the batch it is signed again to the same bytes, should they be damaged.
/// It is durable before it leaves, so that this validator never acknowledges two digests for one
/// place in a lane, whatever happens to its memory.
pub const ACK: u8 = 5;
/// A finality certificate once more, in an append after its own is durable: in another group.
///
/// Which of the validators' signatures one holds differs from validator to validator: this is the one
/// kind of bytes that no other may have.
pub const CERTIFICATE_AGAIN: u8 = 6;
