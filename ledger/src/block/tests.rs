//! Tests of the cut block: layout, rotation, every rule between a block and its parent.

use proptest::prelude::*;

use super::*;
use crate::set::Bitmap;
use crate::testing::{Builder, Dalek, Network, author, digest, golden};

/// A builder after two blocks, with batches of three lanes waiting for the third.
fn builder() -> Builder {
    let mut builder = Builder::new(&Network::new());
    let network = builder.network.digest();
    let mut author = author(0);
    for _ in 0..2 {
        builder.batch(1, &[author.record(&network, b"before")]);
        builder.block();
    }
    for lane in [0, 1, 3] {
        builder.batch(lane, &[author.record(&network, b"now")]);
    }
    builder
}

fn check(builder: &Builder, cut: &Cut) -> Result<Tips, Reject> {
    let parent_digest = builder.parent.digest();
    let tips = builder.chain.tips();
    let epochs = builder.chain.state().council().epochs();
    cut.check(&builder.parent, &parent_digest, &tips, (epochs, builder.chain.set()), &Dalek)
}

fn read(bytes: &[u8]) -> Result<(Vec<u8>, Digest), Reject> {
    let cut = Cut::decode(bytes)?;
    Ok((cut.encode(), cut.digest()))
}

#[test]
fn golden_samples_hold() {
    let network = Network::new();
    golden("cut_genesis", &Cut::genesis(&network.genesis).encode(), read);
    golden("cut", &builder().cut().encode(), read);
}

#[test]
fn a_good_block_gives_the_tips_after_it() {
    let builder = builder();
    let cut = builder.cut();
    assert_eq!(cut.height, Height(3));
    assert_eq!(cut.encoded_bytes(), cut.encode().len());
    let lanes: Vec<u32> = cut.lanes.iter().map(|lane| lane.lane).collect();
    assert_eq!(lanes, [3, 0, 1], "height 3 of 4 lanes starts with lane 3");
    let tips = check(&builder, &cut).unwrap();
    let sequences: Vec<u64> = tips.0.iter().map(|tip| tip.sequence).collect();
    assert_eq!(sequences, [1, 3, 0, 1]);
    assert_eq!(tips.get(3).unwrap().digest, cut.lanes[0].digest);
    assert_eq!((tips.get(4), tips.lanes()), (None, 4));
}

#[test]
fn a_block_without_lanes_is_good() {
    let mut builder = builder();
    builder.block();
    let cut = builder.cut();
    assert!(cut.lanes.is_empty());
    assert_eq!(check(&builder, &cut), Ok(builder.chain.tips()));
}

#[test]
fn the_rotation_starts_with_another_lane_at_each_height() {
    let lanes = |height| rotation(Height(height), 3).collect::<Vec<u32>>();
    assert_eq!([lanes(0), lanes(1), lanes(2)], [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    assert_eq!(lanes(u64::MAX), [0, 1, 2]);
    for height in [0, 1, 5, u64::MAX] {
        for (expected, lane) in (0..).zip(rotation(Height(height), 100)) {
            assert_eq!(place(Height(height), lane, 100), expected);
        }
    }
}

#[test]
fn a_broken_rule_is_refused_with_its_reason() {
    let builder = builder();
    let good = builder.cut();
    let refused = |change: &dyn Fn(&mut Cut)| {
        let mut cut = good.clone();
        change(&mut cut);
        check(&builder, &cut).unwrap_err()
    };
    assert_eq!(refused(&|cut| cut.network = digest(0)), Reject::WrongNetwork);
    assert_eq!(refused(&|cut| cut.epoch = 1), Reject::WrongEpoch);
    assert_eq!(refused(&|cut| cut.parent = digest(0)), Reject::WrongParent);
    assert_eq!(refused(&|cut| cut.set = digest(0)), Reject::WrongSet);
    assert_eq!(refused(&|cut| cut.next_set = digest(0)), Reject::WrongSet, "within an epoch");
    assert_eq!(refused(&|cut| cut.height = Height(4)), Reject::WrongHeight);
    assert_eq!(refused(&|cut| cut.view = View(4)), Reject::WrongView);
    assert_eq!(refused(&|cut| cut.time_ms = 499), Reject::TimeBackwards);
    assert_eq!(refused(&|cut| cut.executed = Height(0)), Reject::ExecutedRange);
    assert_eq!(refused(&|cut| cut.executed = Height(3)), Reject::ExecutedRange);
    assert_eq!(refused(&|cut| cut.executed = Height(1)), Reject::DeclaredRoots);
    assert_eq!(refused(&|cut| cut.lanes[2].lane = 4), Reject::UnknownValidator);
    assert_eq!(refused(&|cut| cut.lanes[2].epoch = 1), Reject::WrongEpoch);
    assert_eq!(refused(&|cut| cut.lanes.swap(0, 1)), Reject::LaneOrder);
    assert_eq!(refused(&|cut| cut.lanes[1] = cut.lanes[0].clone()), Reject::LaneOrder);
    assert_eq!(refused(&|cut| cut.lanes[2].sequence = 2), Reject::TipNotAdvanced);
    assert_eq!(refused(&|cut| cut.lanes[2].sequence = 4), Reject::BadSignature);
    assert_eq!(refused(&|cut| cut.lanes[1].signers = Bitmap(0b11)), Reject::QuorumMissing);
    assert_eq!(refused(&|cut| cut.lanes[0].signatures[1].0[0] ^= 1), Reject::BadSignature);
}

#[test]
fn declared_heights_stay_within_the_lag() {
    let mut parent = builder().cut();
    parent.height = Height(99);
    parent.executed = Height(10);
    let mut cut = parent.clone();
    cut.height = Height(100);
    let check = |cut: &Cut| cut.check_executed(&parent);
    cut.executed = Height(100 - EXECUTION_LAG_MAX);
    assert_eq!(check(&cut), Ok(()));
    cut.executed = Height(99);
    assert_eq!(check(&cut), Ok(()));
    cut.executed = Height(100 - EXECUTION_LAG_MAX - 1);
    assert_eq!(check(&cut), Err(Reject::ExecutedRange));
    cut.executed = Height(100);
    assert_eq!(check(&cut), Err(Reject::ExecutedRange));
    parent.executed = Height(50);
    cut.executed = Height(50);
    assert_eq!(cut.check_executed(&parent), Ok(()), "the same roots for the same height");
    cut.state_root = digest(0);
    assert_eq!(cut.check_executed(&parent), Err(Reject::DeclaredRoots));
}

#[test]
fn tips_refuse_lanes_that_do_not_exist() {
    let builder = builder();
    assert_eq!(Tips::genesis(2).after(&builder.cut()), Err(Reject::UnknownValidator));
    assert_eq!(builder.chain.tips().after(&builder.cut()), check(&builder, &builder.cut()));
}

#[test]
fn broken_bytes_are_refused_with_their_reason() {
    let bytes = builder().cut().encode();
    let refused = |offset: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[offset] = value;
        Cut::decode(&bytes).unwrap_err()
    };
    assert_eq!(refused(0, 1), Reject::UnknownVersion);
    assert_eq!(refused(1, 1), Reject::ReservedNotZero);
    assert_eq!(refused(4, 101), Reject::CountMismatch);
    assert_eq!(refused(4, 4), Reject::Truncated);
    assert_eq!(refused(4, 2), Reject::TrailingBytes);
    assert_eq!(Cut::decode(&vec![1; CUT_BYTES_MAX + 1]), Err(Reject::TooLong));
}

#[test]
fn the_digest_needs_the_header_and_one_digest() {
    let cut = builder().cut();
    let bytes = cut.encode();
    let (header, lanes) = bytes.split_at(CUT_HEADER_BYTES);
    let lanes = blake3::derive_key("althing 2026 cut lanes v1", lanes);
    let material = [header, &lanes].concat();
    assert_eq!(cut.digest().0, blake3::derive_key("althing 2026 cut v2", &material));
}

proptest! {
    #[test]
    fn any_changed_bytes_are_refused_or_come_back(
        changes in proptest::collection::vec((0_usize..1_000, any::<u8>()), 0..4),
        length in 0_usize..2_000,
    ) {
        let mut bytes = Cut::genesis(&Network::new().genesis).encode();
        bytes.resize(CUT_HEADER_BYTES + 300, 0);
        bytes[4] = 1;
        bytes[CUT_HEADER_BYTES + 12] = 7;
        bytes[CUT_HEADER_BYTES + 52] = 0b1011;
        bytes.truncate(CUT_HEADER_BYTES + 68 + 3 * 64);
        prop_assert!(Cut::decode(&bytes).is_ok());
        for (place, value) in changes {
            let length = bytes.len();
            bytes[place % length] = value;
        }
        bytes.truncate(length.max(400));
        if let Ok((again, _)) = read(&bytes) {
            prop_assert_eq!(again, bytes);
        }
    }
}
