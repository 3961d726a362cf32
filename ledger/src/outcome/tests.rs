//! Tests of outcomes and of their stored list.

use proptest::prelude::*;

use super::*;
use crate::testing::{digest, golden};

fn sample() -> OutcomeList {
    let outcomes = (0..).zip(Outcome::ALL).map(|(number, outcome)| (digest(number), outcome));
    OutcomeList {
        height: Height(12),
        cut: digest(0xc0),
        history_root: digest(0x41),
        outcomes: outcomes.collect(),
    }
}

#[test]
fn the_golden_sample_holds() {
    golden("outcomes", &sample().encode(), |bytes| {
        let list = OutcomeList::decode(bytes)?;
        // The list has no digest of its own, its fields are held against the execution.
        let digest = blake3::hash(format!("{list:?}").as_bytes());
        Ok((list.encode(), Digest(*digest.as_bytes())))
    });
}

#[test]
fn codes_go_there_and_back() {
    for (code, outcome) in (0..).zip(Outcome::ALL) {
        assert_eq!(outcome.code(), code);
        assert_eq!(Outcome::from_code(code), Ok(outcome));
        assert_eq!(outcome.is_final(), outcome != Outcome::Ahead);
        assert_eq!(outcome.pays(), code < 2);
        assert_eq!(outcome.to_string(), outcome.as_str());
    }
    assert_eq!(Outcome::from_code(6), Err(Reject::UnknownOutcome));
}

#[test]
fn a_leaf_is_that_of_its_layout() {
    for outcome in Outcome::ALL {
        let mut leaf = [0; 64];
        leaf[..32].fill(9);
        leaf[32] = outcome.code();
        let expected = blake3::derive_key("althing 2026 outcome leaf v2", &leaf);
        assert_eq!(outcome_leaf(&digest(9), outcome), Digest(expected));
    }
}

#[test]
fn the_root_of_any_number_is_that_of_its_leaves() {
    for count in 0..70 {
        let outcomes: Vec<_> = (0..count)
            .map(|number| (digest(number), Outcome::ALL[usize::from(number % 6)]))
            .collect();
        let leaves: Vec<Digest> =
            outcomes.iter().map(|(id, outcome)| outcome_leaf(id, *outcome)).collect();
        assert_eq!(outcomes_root(&outcomes), merkle::root(&leaves), "{count} outcomes");
    }
}

#[test]
fn the_root_covers_ids_outcomes_and_order() {
    let list = sample();
    let leaves: Vec<Digest> =
        list.outcomes.iter().map(|(id, outcome)| outcome_leaf(id, *outcome)).collect();
    assert_eq!(list.root(), merkle::root(&leaves));
    let mut other = list.clone();
    other.outcomes[2].1 = Outcome::Applied;
    assert_ne!(other.root(), list.root());
    let mut other = list.clone();
    other.outcomes.swap(0, 1);
    assert_ne!(other.root(), list.root());
    let proof = merkle::prove(&leaves, 4).unwrap();
    assert_eq!(proof.check(&outcome_leaf(&digest(4), Outcome::Expired), &list.root()), Ok(()));
    let lie = outcome_leaf(&digest(4), Outcome::Applied);
    assert_eq!(proof.check(&lie, &list.root()), Err(Reject::ProofRoot));
}

#[test]
fn broken_bytes_are_refused_with_their_reason() {
    let bytes = sample().encode();
    let refused = |offset: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        OutcomeList::decode(&bytes).unwrap_err()
    };
    assert_eq!(refused(0, &[3]), Reject::UnknownVersion);
    assert_eq!(refused(1, &[3]), Reject::ReservedNotZero);
    assert_eq!(refused(4, &[7]), Reject::Truncated);
    assert_eq!(refused(4, &[5]), Reject::TrailingBytes);
    assert_eq!(refused(4, &[255; 4]), Reject::CountMismatch);
    assert_eq!(refused(bytes.len() - 1, &[6]), Reject::UnknownOutcome);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_come_back(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        count in 0_u8..4,
    ) {
        if bytes.len() > 8 {
            bytes[..8].copy_from_slice(&[1, 0, 0, 0, count, 0, 0, 0]);
            let length = OUTCOMES_HEADER_BYTES + OUTCOME_BYTES * usize::from(count);
            bytes.resize(length, 0);
            for entry in 1..=usize::from(count) {
                bytes[OUTCOMES_HEADER_BYTES + OUTCOME_BYTES * entry - 1] %= 7;
            }
        }
        if let Ok(list) = OutcomeList::decode(&bytes) {
            prop_assert_eq!(list.encode(), bytes);
        }
    }
}
