//! Tests of acknowledgements and availability certificates.

use proptest::prelude::*;

use super::*;
use crate::block::Tip;
use crate::testing::{Dalek, Network, digest, golden};

const TIP: Tip = Tip { sequence: 9, digest: Digest([5; 32]) };

#[test]
fn golden_samples_hold() {
    let network = Network::new();
    let set = network.genesis.set();
    golden("ack", &network.ack(1, &TIP, 2).encode(), |bytes| {
        let ack = Ack::decode(bytes)?;
        let key = set.key(ack.validator).ok_or(Reject::UnknownValidator)?;
        let message = ack.signing_message(&network.digest());
        match Dalek.verify(&[SignedItem::new(key, &message, &ack.signature)])[0] {
            true => Ok((ack.encode().to_vec(), ack.digest)),
            false => Err(Reject::BadSignature),
        }
    });
    golden("availability", &network.certify(1, &TIP).encode(), |bytes| {
        let certificate = AvailabilityCertificate::decode(bytes)?;
        certificate.check(&network.digest(), set, &Dalek)?;
        Ok((certificate.encode(), certificate.digest))
    });
}

#[test]
fn sizes_are_those_of_the_limits() {
    let network = Network::new();
    assert_eq!(network.ack(1, &TIP, 2).encode().len(), ACK_BYTES);
    let certificate = network.certify(1, &TIP);
    assert_eq!(certificate.encoded_bytes(), certificate.encode().len());
    assert_eq!(certificate.encoded_bytes(), AVAILABILITY_HEADER_BYTES + 3 * 64);
    let quorum_of_100 = AVAILABILITY_HEADER_BYTES + 67 * 64;
    assert_eq!(quorum_of_100, 4_356);
}

#[test]
fn a_certificate_is_made_of_acks_in_any_order() {
    let network = Network::new();
    let certificate = network.certify(1, &TIP);
    assert_eq!(certificate.signers, Bitmap(0b1101));
    assert_eq!(certificate.check(&network.digest(), network.genesis.set(), &Dalek), Ok(()));
    assert_eq!((certificate.lane, certificate.sequence, certificate.digest), (1, 9, TIP.digest));
}

#[test]
fn acks_that_do_not_fit_together_make_no_certificate() {
    let network = Network::new();
    let ack = network.ack(1, &TIP, 2);
    let with = |other: Ack| AvailabilityCertificate::assemble(&[ack, other]).unwrap_err();
    assert_eq!(AvailabilityCertificate::assemble(&[]), Err(Reject::AckMismatch));
    assert_eq!(with(ack), Reject::AckMismatch);
    let other = network.ack(1, &TIP, 3);
    assert_eq!(with(Ack { lane: 2, ..other }), Reject::AckMismatch);
    assert_eq!(with(Ack { epoch: 1, ..other }), Reject::AckMismatch);
    assert_eq!(with(Ack { sequence: 8, ..other }), Reject::AckMismatch);
    assert_eq!(with(Ack { digest: digest(1), ..other }), Reject::AckMismatch);
    assert_eq!(with(Ack { validator: 100, ..other }), Reject::UnknownValidator);
}

#[test]
fn bad_certificates_are_refused_with_their_reason() {
    let network = Network::new();
    let good = network.certify(1, &TIP);
    let refused = |change: &dyn Fn(&mut AvailabilityCertificate)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        certificate.check(&network.digest(), network.genesis.set(), &Dalek).unwrap_err()
    };
    assert_eq!(refused(&|it| it.lane = 4), Reject::UnknownValidator);
    assert_eq!(refused(&|it| it.signers = Bitmap(0b1_1100)), Reject::UnknownValidator);
    assert_eq!(refused(&|it| it.signers = Bitmap(0b1001)), Reject::QuorumMissing);
    assert_eq!(refused(&|it| it.signers = Bitmap(0b1111)), Reject::CountMismatch);
    assert_eq!(refused(&|it| it.signers = Bitmap(0b1110)), Reject::BadSignature);
    assert_eq!(refused(&|it| it.signatures.swap(0, 1)), Reject::BadSignature);
    assert_eq!(refused(&|it| it.epoch = 1), Reject::BadSignature);
    assert_eq!(refused(&|it| it.sequence = 1), Reject::BadSignature);
    assert_eq!(refused(&|it| it.digest = digest(1)), Reject::BadSignature);
    assert_eq!(good.check(&digest(1), network.genesis.set(), &Dalek), Err(Reject::BadSignature));
}

#[test]
fn one_bad_certificate_of_many_is_seen() {
    let network = Network::new();
    let (good, mut bad) = (network.certify(1, &TIP), network.certify(3, &TIP));
    let check = |bad: &AvailabilityCertificate| {
        check_all(&[&good, bad], &network.digest(), network.genesis.set(), &Dalek)
    };
    assert_eq!(check(&bad), Ok(()));
    bad.signatures[2].0[3] ^= 4;
    assert_eq!(check(&bad), Err(Reject::BadSignature));
}

#[test]
fn broken_bytes_are_refused_with_their_reason() {
    let network = Network::new();
    let ack = network.ack(1, &TIP, 2).encode();
    let refused = |offset: usize, value: u8| {
        let mut bytes = ack;
        bytes[offset] = value;
        Ack::decode(&bytes).unwrap_err()
    };
    assert_eq!(refused(0, 9), Reject::UnknownVersion);
    assert_eq!(refused(2, 1), Reject::ReservedNotZero);
    assert_eq!(refused(4, 100), Reject::UnknownValidator);
    assert_eq!(refused(56, 100), Reject::UnknownValidator);
    assert_eq!(refused(16, 0), Reject::SequenceZero);
    assert_eq!(Ack::decode(&ack[..100]), Err(Reject::Truncated));

    let certificate = network.certify(1, &TIP).encode();
    let refused = |offset: usize, value: u8| {
        let mut bytes = certificate.clone();
        bytes[offset] = value;
        AvailabilityCertificate::decode(&bytes).unwrap_err()
    };
    assert_eq!(refused(0, 100), Reject::UnknownValidator);
    assert_eq!(refused(12, 0), Reject::SequenceZero);
    assert_eq!(refused(65, 1), Reject::UnknownValidator);
    assert_eq!(refused(52, 0b1111), Reject::Truncated);
    assert_eq!(refused(52, 0b1100), Reject::TrailingBytes);
    let long = vec![0; AVAILABILITY_BYTES_MAX + 1];
    assert_eq!(AvailabilityCertificate::decode(&long), Err(Reject::TooLong));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_come_back(
        mut bytes in proptest::collection::vec(any::<u8>(), 60..400),
        plausible: bool,
    ) {
        if plausible && bytes.len() > 72 {
            bytes[..12].copy_from_slice(&[1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
            bytes[52] &= 0b111;
            bytes[53..68].fill(0);
        }
        if let Ok((certificate, rest)) = AvailabilityCertificate::decode_prefix(&bytes) {
            prop_assert_eq!([&certificate.encode(), rest].concat(), &bytes[..]);
        }
        if let Ok(ack) = Ack::decode(&bytes[..ACK_BYTES.min(bytes.len())]) {
            prop_assert_eq!(&ack.encode(), &bytes[..ACK_BYTES]);
        }
    }
}
