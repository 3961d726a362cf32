//! Tests of evidence: every kind against the guilty, the honest, and every flipped bit.

use super::*;
use crate::block::Tip;
use crate::testing::{Author, Dalek, Network, author, digest, golden, public, sign};

const EPOCH: u64 = 0;
const GUILTY: u32 = 2;

fn vote(network: &Network, message: impl Fn(&Digest, View, &Digest) -> Vec<u8>, byte: u8) -> Vote {
    let (parent_view, payload) = (View(6), digest(byte));
    let message = message(&network.digest(), parent_view, &payload);
    let signature = sign(&network.validators[index(GUILTY)], &message);
    Vote { parent_view, payload, signature }
}

fn notarize(network: &Network, view: u64, byte: u8) -> Vote {
    let message = |network: &Digest, parent, payload: &Digest| {
        notarize_message(network, EPOCH, View(view), parent, payload)
    };
    vote(network, message, byte)
}

fn finalize(network: &Network, view: u64, byte: u8) -> Vote {
    let message = |network: &Digest, parent, payload: &Digest| {
        finalize_message(network, EPOCH, View(view), parent, payload)
    };
    vote(network, message, byte)
}

fn nullify(network: &Network, view: u64) -> Signature {
    let message = nullify_message(&network.digest(), EPOCH, View(view));
    sign(&network.validators[index(GUILTY)], &message)
}

/// A batch of the guilty one's lane at the first place.
fn batch(network: &Network, transactions: &[Vec<u8>]) -> SignedHeader {
    let (bytes, _) = network.seal(GUILTY, &Tip::EMPTY, transactions);
    let batch = crate::Batch::decode(&bytes, &network.digest()).unwrap();
    SignedHeader { header: *batch.header(), signature: batch.signature() }
}

fn ack(network: &Network, byte: u8) -> (Digest, Signature) {
    let tip = Tip { sequence: 4, digest: digest(byte) };
    (tip.digest, network.ack(1, &tip, GUILTY).signature)
}

/// A batch of three of which the author of the second did not sign.
fn bad_batch(network: &Network) -> Offence {
    let mut author = author(0);
    let mut transactions: Vec<Vec<u8>> =
        (0..3).map(|_| author.record(&network.digest(), b"words")).collect();
    *transactions[1].last_mut().unwrap() ^= 1;
    claim(network, &transactions, 1)
}

fn claim(network: &Network, transactions: &[Vec<u8>], at: usize) -> Offence {
    let leaves: Vec<Digest> = transactions
        .iter()
        .map(|bytes| {
            let transaction = Transaction::decode(bytes).unwrap();
            let id = transaction.id(&network.digest());
            transaction_leaf(&id, transaction.signature_bytes())
        })
        .collect();
    Offence::Batch {
        batch: Box::new(batch(network, transactions)),
        transaction: transactions[at].clone(),
        place: merkle::prove(&leaves, at).unwrap(),
    }
}

fn offences(network: &Network) -> Vec<Offence> {
    let record = |words: &[u8]| vec![author(0).record(&network.digest(), words)];
    let fork = [batch(network, &record(b"one")), batch(network, &record(b"two"))];
    vec![
        Offence::Notarize(View(9), [notarize(network, 9, 2), notarize(network, 9, 1)]),
        Offence::Finalize(View(9), [finalize(network, 9, 2), finalize(network, 9, 1)]),
        Offence::NullifyFinalize(View(9), nullify(network, 9), finalize(network, 9, 1)),
        Offence::Fork(Box::new(fork)),
        Offence::Ack { lane: 1, sequence: 4, acks: [ack(network, 2), ack(network, 1)] },
        bad_batch(network),
    ]
}

fn evidence(network: &Network, offence: Offence) -> Evidence {
    Evidence::new(network.digest(), EPOCH, GUILTY, offence)
}

fn check(network: &Network, evidence: &Evidence) -> Result<(), Reject> {
    evidence.check(&network.digest(), network.genesis.set(), &Dalek)
}

#[test]
fn golden_samples_and_every_bit_of_them() {
    let network = Network::new();
    for offence in offences(&network) {
        let evidence = evidence(&network, offence);
        assert_eq!(check(&network, &evidence), Ok(()), "{}", evidence.kind());
        golden(&format!("evidence_{}", evidence.kind()), &evidence.encode(), |bytes| {
            let evidence = Evidence::decode(bytes)?;
            check(&network, &evidence)?;
            Ok((evidence.encode(), evidence.digest()))
        });
    }
}

#[test]
fn no_flipped_bit_accuses_anyone() {
    let network = Network::new();
    for offence in offences(&network) {
        let bytes = evidence(&network, offence).encode();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let accuses = Evidence::decode(&flipped).is_ok_and(|it| check(&network, &it).is_ok());
            // Of a transaction that its author did not sign, another signature is as wrong; but the batch's
            // tree covers it.
            assert!(!accuses, "bit {bit}");
        }
    }
}

#[test]
fn two_finders_find_the_same() {
    let network = Network::new();
    for offence in offences(&network) {
        let mirrored = match offence.clone() {
            Offence::Notarize(view, [a, b]) => Offence::Notarize(view, [b, a]),
            Offence::Finalize(view, [a, b]) => Offence::Finalize(view, [b, a]),
            Offence::Fork(batches) => Offence::Fork(Box::new([batches[1], batches[0]])),
            Offence::Ack { lane, sequence, acks: [a, b] } => {
                Offence::Ack { lane, sequence, acks: [b, a] }
            }
            other @ (Offence::NullifyFinalize(..) | Offence::Batch { .. }) => other,
        };
        assert_eq!(evidence(&network, offence), evidence(&network, mirrored));
    }
}

#[test]
fn what_an_honest_validator_signs_is_no_offence() {
    let network = Network::new();
    let one = notarize(&network, 9, 1);
    let refuse = |offence, expected| {
        assert_eq!(check(&network, &evidence(&network, offence)), Err(expected));
    };
    refuse(Offence::Notarize(View(9), [one, one]), Reject::NoOffence);
    // A notarize vote is no finalize vote, and a vote of another view is none of this one.
    let of_other_view = notarize(&network, 8, 2);
    refuse(Offence::Notarize(View(9), [one, of_other_view]), Reject::BadSignature);
    refuse(Offence::Finalize(View(9), [one, finalize(&network, 9, 2)]), Reject::BadSignature);
    let (skip, later) = (nullify(&network, 9), finalize(&network, 10, 1));
    refuse(Offence::NullifyFinalize(View(9), skip, later), Reject::BadSignature);
    refuse(Offence::NullifyFinalize(View(10), skip, later), Reject::BadSignature);
    let acks = [ack(&network, 1), ack(&network, 1)];
    refuse(Offence::Ack { lane: 1, sequence: 4, acks }, Reject::NoOffence);
    let acks = [ack(&network, 1), ack(&network, 2)];
    refuse(Offence::Ack { lane: 1, sequence: 5, acks }, Reject::BadSignature);
    refuse(Offence::Ack { lane: 9, sequence: 4, acks }, Reject::UnknownValidator);
    let record = vec![author(0).record(&network.digest(), b"one")];
    let first = batch(&network, &record);
    refuse(Offence::Fork(Box::new([first, first])), Reject::NoOffence);
    let (bytes, _) = network.seal(GUILTY, &Tip { sequence: 1, digest: digest(1) }, &record);
    let next = crate::Batch::decode(&bytes, &network.digest()).unwrap();
    let next = SignedHeader { header: *next.header(), signature: next.signature() };
    refuse(Offence::Fork(Box::new([first, next])), Reject::NoOffence);
    let mut author = Author::new(100);
    let good: Vec<Vec<u8>> = (0..3).map(|_| author.record(&network.digest(), b"x")).collect();
    refuse(claim(&network, &good, 1), Reject::NoOffence);
}

#[test]
fn nobody_is_accused_of_what_another_did() {
    let network = Network::new();
    for offence in offences(&network) {
        for validator in 0..4 {
            let moved = Evidence::new(network.digest(), EPOCH, validator, offence.clone());
            assert_eq!(check(&network, &moved).is_ok(), validator == GUILTY, "{}", moved.kind());
        }
        let beyond = Evidence::new(network.digest(), EPOCH, 4, offence.clone());
        assert_eq!(check(&network, &beyond), Err(Reject::UnknownValidator));
        let later = Evidence::new(network.digest(), 1, GUILTY, offence.clone());
        assert!(check(&network, &later).is_err());
        let foreign = Evidence::new(digest(3), EPOCH, GUILTY, offence);
        assert_eq!(check(&network, &foreign), Err(Reject::WrongNetwork));
    }
    assert_eq!(public(&network.validators[2]), *network.genesis.set().key(GUILTY).unwrap());
}

#[test]
fn who_has_one_key_in_two_networks_or_lanes_forks_nothing() {
    let network = Network::new();
    let own = batch(&network, &[author(0).record(&network.digest(), b"one")]);
    let key = &network.validators[index(GUILTY)];
    let resigned = |change: &dyn Fn(&mut BatchHeader)| {
        let mut header = own.header;
        header.root = digest(7);
        change(&mut header);
        let signature = sign(key, &batch_signing_message(&header.digest()));
        let offence = Offence::Fork(Box::new([own, SignedHeader { header, signature }]));
        check(&network, &evidence(&network, offence))
    };
    assert_eq!(resigned(&|_| {}), Ok(()), "of one place it is a fork");
    assert_eq!(resigned(&|header| header.network = digest(8)), Err(Reject::NoOffence));
    assert_eq!(resigned(&|header| header.epoch = 1), Err(Reject::NoOffence));
    assert_eq!(resigned(&|header| header.lane = 1), Err(Reject::NoOffence));
}

#[test]
fn under_another_set_nobody_else_is_convicted() {
    let network = Network::new();
    let vote = |byte| {
        let message = |network: &Digest, parent, payload: &Digest| {
            notarize_message(network, 1, View(9), parent, payload)
        };
        vote(&network, message, byte)
    };
    let offence = Offence::Notarize(View(9), [vote(1), vote(2)]);
    let later = Evidence::new(network.digest(), 1, GUILTY, offence);
    assert_eq!(check(&network, &later), Ok(()), "the set is that of the epoch");
    let mut keys = network.genesis.set().keys().to_vec();
    keys.remove(0);
    let other = ValidatorSet::new(keys).unwrap();
    let verdict = later.check(&network.digest(), &other, &Dalek);
    assert!(matches!(verdict, Err(Reject::BadSignature | Reject::UnknownValidator)), "{verdict:?}");
    let moved = Evidence::new(network.digest(), 2, GUILTY, later.offence().clone());
    assert_eq!(check(&network, &moved), Err(Reject::BadSignature), "it was of epoch 1");
}

#[test]
fn a_transaction_of_another_batch_shows_nothing() {
    let network = Network::new();
    let Offence::Batch { batch, transaction, place } = bad_batch(&network) else { unreachable!() };
    let other = merkle::Proof { index: 0, ..place.clone() };
    let moved =
        Offence::Batch { batch: batch.clone(), transaction: transaction.clone(), place: other };
    assert!(check(&network, &evidence(&network, moved)).is_err());
    let resized = merkle::Proof { count: 4, ..place };
    let resized = Offence::Batch { batch, transaction, place: resized };
    assert_eq!(check(&network, &evidence(&network, resized)), Err(Reject::ProofShape));
}
