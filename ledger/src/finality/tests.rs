//! Tests of finality certificates and of the bytes that the engine signs.

use proptest::prelude::*;

use super::*;
use crate::block::Cut;
use crate::digest::Height;
use crate::testing::{Dalek, Network, digest, golden};

fn sample() -> (Network, Finality) {
    let network = Network::new();
    let mut cut = Cut::genesis(&network.genesis);
    cut.height = Height(1);
    cut.view = View(300);
    let certificate = network.finalize(&cut);
    (network, certificate)
}

#[test]
fn the_golden_sample_holds() {
    let (network, certificate) = sample();
    golden("finality", &certificate.encode(), |bytes| {
        let certificate = Finality::decode(bytes)?;
        certificate.check(&network.digest(), network.genesis.set(), &Dalek)?;
        Ok((certificate.encode(), certificate.payload))
    });
}

#[test]
fn the_signed_bytes_are_those_of_the_engine() {
    let message = finalize_message(&digest(0xdd), 0, View(300), View(127), &digest(0xee));
    let mut expected = vec![59];
    expected.extend_from_slice(b"althing/engine/v1/");
    expected.extend_from_slice(&[0xdd; 32]);
    expected.extend_from_slice(b"_FINALIZE");
    expected.extend_from_slice(&[0, 0xac, 0x02, 127]);
    expected.extend_from_slice(&[0xee; 32]);
    assert_eq!(message, expected);
    assert_eq!(engine_namespace(&digest(0xdd)), expected[1..51]);
}

#[test]
fn varints_are_those_of_the_engine() {
    let varint = |value| {
        let mut bytes = Vec::new();
        write_varint(&mut bytes, value);
        bytes
    };
    assert_eq!(varint(0), [0]);
    assert_eq!(varint(127), [0x7f]);
    assert_eq!(varint(128), [0x80, 0x01]);
    assert_eq!(varint(16_383), [0xff, 0x7f]);
    assert_eq!(varint(16_384), [0x80, 0x80, 0x01]);
    assert_eq!(varint(u64::MAX), [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    assert_eq!(varint(u64::MAX).len(), VARINT_BYTES_MAX);
}

#[test]
fn bad_certificates_are_refused_with_their_reason() {
    let (network, good) = sample();
    let refused = |change: &dyn Fn(&mut Finality)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        certificate.check(&network.digest(), network.genesis.set(), &Dalek).unwrap_err()
    };
    assert_eq!(refused(&|it| it.signers = Bitmap(0b1_0110)), Reject::UnknownValidator);
    assert_eq!(refused(&|it| it.signers = Bitmap(0b0110)), Reject::QuorumMissing);
    assert_eq!(refused(&|it| it.signers = Bitmap(0b1111)), Reject::CountMismatch);
    assert_eq!(refused(&|it| it.signers = Bitmap(0b0111)), Reject::BadSignature);
    assert_eq!(refused(&|it| it.signatures.swap(1, 2)), Reject::BadSignature);
    assert_eq!(refused(&|it| it.epoch = 1), Reject::BadSignature);
    assert_eq!(refused(&|it| it.view = View(301)), Reject::BadSignature);
    assert_eq!(refused(&|it| it.parent_view = View(1)), Reject::BadSignature);
    assert_eq!(refused(&|it| it.payload = digest(1)), Reject::BadSignature);
    let elsewhere = good.check(&digest(1), network.genesis.set(), &Dalek);
    assert_eq!(elsewhere, Err(Reject::BadSignature));
}

#[test]
fn votes_are_judged_by_the_engine_s_rule_alone() {
    /// Accepts every vote and nothing else.
    struct VotesOnly;

    impl Signatures for VotesOnly {
        fn verify(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
            vec![false; items.len()]
        }

        fn verify_votes(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
            vec![true; items.len()]
        }
    }

    let (network, certificate) = sample();
    assert_eq!(certificate.check(&digest(1), network.genesis.set(), &VotesOnly), Ok(()));
}

#[test]
fn broken_bytes_are_refused_with_their_reason() {
    let bytes = sample().1.encode();
    assert_eq!(bytes.len(), FINALITY_HEADER_BYTES + 3 * SIGNATURE_BYTES);
    let refused = |offset: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[offset] = value;
        Finality::decode(&bytes).unwrap_err()
    };
    assert_eq!(refused(0, 0), Reject::UnknownVersion);
    assert_eq!(refused(7, 1), Reject::ReservedNotZero);
    assert_eq!(refused(79, 1), Reject::UnknownValidator);
    assert_eq!(refused(64, 0b1111), Reject::Truncated);
    assert_eq!(refused(64, 0b0011), Reject::TrailingBytes);
    assert_eq!(Finality::decode(&vec![1; FINALITY_BYTES_MAX + 1]), Err(Reject::TooLong));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_come_back(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        signers: u8,
    ) {
        if bytes.len() > 80 {
            bytes[..8].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
            bytes[64..80].fill(0);
            bytes[64] = signers & 0b0011;
            let count = usize::try_from(bytes[64].count_ones()).unwrap();
            bytes.truncate(80 + 64 * count);
        }
        if let Ok(certificate) = Finality::decode(&bytes) {
            prop_assert_eq!(certificate.encoded_bytes(), bytes.len());
            prop_assert_eq!(certificate.encode(), bytes);
        }
    }
}
