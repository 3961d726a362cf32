//! Kinds of the records that a validator keeps in its store, and what each of them holds.

/// A batch: key is its digest, height its [`lane_height`], body is header, signature and transactions.
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
/// An acknowledgement that this validator signed: key is the batch's digest, height its [`lane_height`].
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

/// A validator set that decides from the next height on, where that is another: height and key are those of the cut
/// that names it, body is a `ledger::ValidatorSet`.
pub const SET: u8 = 7;

/// Bits of a sequence in a [`lane_height`], of the lane above it, and of the epoch above that.
const SEQUENCE_BITS: u32 = 30;
const LANE_BITS: u32 = 7;
const EPOCH_BITS: u32 = 64 - SEQUENCE_BITS - LANE_BITS;
const _: () = assert!(ledger::limits::VALIDATORS_MAX <= 1 << LANE_BITS);
// No more batches than that are committed by one cut.
const _: () =
    assert!(ledger::limits::EPOCH_LENGTH_MAX * crate::lane::WINDOW_BATCHES <= 1 << SEQUENCE_BITS);

/// Where a batch stands, as the height of its records: a start finds those of one lane above a place without
/// reading any other.
///
/// Shape: the low 27 bits of the epoch, the lane in 7 bits, the sequence in 30.
///
/// Panics: a sequence of 2^30, which no lane reaches before its epoch ends.
pub fn lane_height(epoch: u64, lane: u32, sequence: u64) -> u64 {
    assert!(sequence >> SEQUENCE_BITS == 0, "an epoch ends before its lanes have 2^30 batches");
    assert!(u64::from(lane) >> LANE_BITS == 0, "a set has at most 100 validators");
    // The last epoch of all would stand where records without a height do.
    let epoch = epoch % ((1 << EPOCH_BITS) - 1);
    (epoch << LANE_BITS | u64::from(lane)) << SEQUENCE_BITS | sequence
}

/// The heights of one lane's batches from a sequence on.
pub fn lane_heights(epoch: u64, lane: u32, from: u64) -> std::ops::RangeInclusive<u64> {
    lane_height(epoch, lane, from)..=lane_height(epoch, lane, (1 << SEQUENCE_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_stand_apart_and_in_order() {
        let places =
            [(0, 0, 1), (0, 0, 2), (0, 0, (1 << 30) - 1), (0, 1, 0), (0, 99, 7), (1, 0, 0)];
        let heights = places.map(|(epoch, lane, sequence)| lane_height(epoch, lane, sequence));
        assert!(heights.is_sorted_by(|one, next| one < next), "{heights:?}");
        for (epoch, lane, sequence) in places {
            for (other_epoch, other, from) in places {
                let is_in = lane_heights(other_epoch, other, from)
                    .contains(&lane_height(epoch, lane, sequence));
                let same_lane = (epoch, lane) == (other_epoch, other);
                assert_eq!(is_in, same_lane && sequence >= from);
            }
        }
        assert_ne!(lane_height((1 << 27) - 1, 127, (1 << 30) - 1), storage::NO_HEIGHT);
    }
}
