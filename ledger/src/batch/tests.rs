//! Tests of the batch: layout, sealing, every reason to refuse, any bytes.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::block::Tip;
use crate::limits::TRANSACTION_BODY_BYTES_MAX;
use crate::outcome::{Outcome, outcomes_root};
use crate::signatures::{Signatures, SignedItem};
use crate::testing::{Dalek, Network, author, digest, golden, public, unsigned};

fn transactions(network: &Network, count: u8) -> Vec<Vec<u8>> {
    let mut author = author(0);
    (0..count).map(|number| author.record(&network.digest(), &[number; 5])).collect()
}

fn sample() -> (Network, Vec<u8>) {
    let network = Network::new();
    let tip = Tip { sequence: 6, digest: digest(3) };
    let (bytes, _) = network.seal(2, &tip, &transactions(&network, 3));
    (network, bytes)
}

/// Puts another value into a field of the header.
fn changed(bytes: &[u8], offset: usize, field: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[offset..offset + field.len()].copy_from_slice(field);
    bytes
}

fn encode_again(batch: &Batch<'_>) -> Vec<u8> {
    let transactions = batch.transactions().map(|transaction| transaction.bytes().to_vec());
    let body: Vec<u8> = transactions.flatten().collect();
    [&batch.header().encode()[..], &batch.signature().0, &body].concat()
}

#[test]
fn the_golden_sample_holds() {
    let (network, bytes) = sample();
    golden("batch", &bytes, |bytes| {
        let batch = Batch::decode(bytes, &network.digest())?;
        let owner = public(&network.validators[index(batch.header().lane) % 4]);
        let message = batch_signing_message(&batch.digest());
        let signature = batch.signature();
        match Dalek.verify(&[SignedItem::new(&owner, &message, &signature)])[0] {
            true => Ok((encode_again(&batch), batch.digest())),
            false => Err(Reject::BadSignature),
        }
    });
}

#[test]
fn what_was_sealed_comes_back() {
    let (network, bytes) = sample();
    let batch = Batch::decode(&bytes, &network.digest()).unwrap();
    let expected = transactions(&network, 3);
    let header = batch.header();
    assert_eq!((header.lane, header.epoch, header.sequence), (2, 0, 7));
    assert_eq!((header.previous, header.network), (digest(3), network.digest()));
    assert_eq!((header.count, index(header.bytes)), (3, expected.concat().len()));
    assert_eq!(batch.body(), expected.concat());
    assert_eq!(batch.bytes(), bytes);
    assert_eq!((batch.count(), batch.transactions().len()), (3, 3));
    let found: Vec<&[u8]> = batch.transactions().map(|transaction| transaction.bytes()).collect();
    assert_eq!(found, expected);
    let ids: Vec<Digest> =
        batch.transactions().map(|transaction| transaction.id(&network.digest())).collect();
    assert_eq!(batch.ids(), ids);
    assert_eq!(batch.digest(), header.digest());
    assert_eq!(BatchHeader::decode(&bytes[..HEADER_BYTES]), Ok(*header));

    let owned = batch.clone().into_owned();
    assert_eq!((owned.bytes(), owned.digest()), (batch.bytes(), batch.digest()));
    let owned = Batch::decode_owned(bytes.clone(), &network.digest()).unwrap();
    assert_eq!((owned.bytes(), owned.ids()), (batch.bytes(), batch.ids()));
}

#[test]
fn the_root_is_that_of_its_layout() {
    let network = Network::new();
    for count in [1, 2, 3, 15, 16, 17, 31, 33, 40] {
        let transactions = transactions(&network, count);
        let (bytes, _) = network.seal(0, &Tip::EMPTY, &transactions);
        let batch = Batch::decode(&bytes, &network.digest()).unwrap();
        let leaf = |bytes: &Vec<u8>| {
            let transaction = Transaction::decode(bytes).unwrap();
            let id = transaction.id(&network.digest());
            let signature = &bytes[bytes.len() - 64..];
            let leaf = [&id.0[..], signature, &[0; 32]].concat();
            let leaf = Digest(blake3::derive_key("althing 2026 transaction leaf v2", &leaf));
            assert_eq!(transaction_leaf(&id, transaction.signature_bytes()), leaf);
            leaf
        };
        let leaves: Vec<Digest> = transactions.iter().map(leaf).collect();
        assert_eq!(batch.header().root, merkle::root(&leaves), "{count} transactions");
    }
}

#[test]
fn a_batch_is_read_and_then_hashed() {
    let (network, bytes) = sample();
    let read = |bytes: &[u8]| Batch::read_owned(bytes.to_vec(), &network.digest());
    let batch = read(&bytes).unwrap().hash().unwrap();
    let whole = Batch::decode(&bytes, &network.digest()).unwrap();
    assert_eq!((batch.bytes(), batch.header()), (whole.bytes(), whole.header()));
    assert_eq!((batch.digest(), batch.ids()), (whole.digest(), whole.ids()));
    assert!(batch.transactions().eq(whole.transactions()));
    // What only a hash can tell is told by the second part, all else by the first.
    let signature = bytes.len() - 1;
    for wrong in [changed(&bytes, 88, &[0; 32]), changed(&bytes, signature, &[255])] {
        assert_eq!(read(&wrong).unwrap().hash().unwrap_err(), Reject::RootMismatch);
    }
    for (offset, field) in [(8, &[0; 32][..]), (120, &[2]), (120, &[4]), (124, &[0]), (196, &[9])] {
        let wrong = changed(&bytes, offset, field);
        let reject = Batch::decode(&wrong, &network.digest()).unwrap_err();
        assert_eq!(read(&wrong).unwrap_err(), reject, "byte {offset}");
    }
}

#[test]
fn owned_bytes_are_not_copied() {
    let (network, bytes) = sample();
    let place = bytes.as_ptr();
    let batch = Batch::read_owned(bytes, &network.digest()).unwrap().hash().unwrap();
    assert_eq!(batch.bytes().as_ptr(), place);
    let (network, bytes) = sample();
    let place = bytes.as_ptr();
    let batch = Batch::decode_owned(bytes, &network.digest()).unwrap();
    assert_eq!(batch.bytes().as_ptr(), place);
}

#[test]
fn broken_bytes_are_refused_with_their_reason() {
    let (network, bytes) = sample();
    let refused = |bytes: &[u8]| Batch::decode(bytes, &network.digest()).unwrap_err();
    assert_eq!(refused(&bytes[..191]), Reject::Truncated);
    assert_eq!(refused(&vec![1; BATCH_BYTES_MAX + 1]), Reject::TooLong);
    assert_eq!(refused(&changed(&bytes, 0, &[2])), Reject::UnknownVersion);
    assert_eq!(refused(&changed(&bytes, 3, &[1])), Reject::ReservedNotZero);
    assert_eq!(refused(&changed(&bytes, 4, &[100])), Reject::UnknownValidator);
    assert_eq!(refused(&changed(&bytes, 8, &[0; 32])), Reject::WrongNetwork);
    assert_eq!(refused(&changed(&bytes, 48, &[0])), Reject::SequenceZero);
    assert_eq!(refused(&changed(&bytes, 48, &[1])), Reject::FirstLink);
    assert_eq!(refused(&changed(&bytes, 56, &[0; 32])), Reject::FirstLink);
    assert_eq!(refused(&changed(&bytes, 88, &[0; 32])), Reject::RootMismatch);
    assert_eq!(refused(&changed(&bytes, 120, &[0])), Reject::EmptyBatch);
    assert_eq!(refused(&changed(&bytes, 120, &[2])), Reject::CountMismatch);
    assert_eq!(refused(&changed(&bytes, 120, &[4])), Reject::CountMismatch);
    assert_eq!(refused(&changed(&bytes, 120, &[0, 255])), Reject::CountMismatch);
    assert_eq!(refused(&changed(&bytes, 124, &[0])), Reject::BodyLength);
    assert_eq!(refused(&changed(&bytes, 124, &[0, 0, 9])), Reject::TooLong);
    assert_eq!(refused(&changed(&bytes, 192, &[9])), Reject::UnknownVersion, "of a transaction");
    assert_eq!(refused(&changed(&bytes, 196, &[9])), Reject::WrongNetwork, "of a transaction");
    let signature = bytes.len() - 1;
    assert_eq!(refused(&changed(&bytes, signature, &[255])), Reject::RootMismatch);
    assert_eq!(refused(&[&bytes[..], &[0]].concat()), Reject::BodyLength);
    assert_eq!(BatchHeader::decode(&bytes[..129]), Err(Reject::TrailingBytes));
}

#[test]
fn a_sealer_is_filled_to_its_limit_and_starts_anew() {
    let network = Network::new();
    let mut author = author(1);
    let body = vec![7; TRANSACTION_BODY_BYTES_MAX];
    let mut sealer = Sealer::default();
    let mut pushed = 0;
    loop {
        let bytes = author.record(&network.digest(), &body);
        let transaction = Transaction::decode(&bytes).unwrap();
        if !sealer.push(&transaction, &transaction.id(&network.digest())) {
            break;
        }
        pushed += 1;
        assert_eq!((sealer.count(), sealer.body_bytes()), (pushed, pushed * 65_536));
    }
    assert_eq!(sealer.body_bytes(), BATCH_BODY_BYTES_MAX);
    let place = BatchPlace {
        network: network.digest(),
        epoch: 0,
        lane: 0,
        sequence: 1,
        previous: Digest::ZERO,
    };
    let (bytes, digest) = sealer.seal(&place, unsigned).unwrap();
    assert_eq!(bytes.len(), BATCH_BYTES_MAX);
    let batch = Batch::decode(&bytes, &network.digest()).unwrap();
    assert_eq!((batch.digest(), batch.count()), (digest, pushed));
    assert!(sealer.is_empty());
    assert_eq!(sealer.seal(&place, unsigned), Err(Reject::EmptyBatch));
}

#[test]
fn the_most_transactions_fit() {
    let network = Network::new();
    let bytes = author(1).record(&network.digest(), &[]);
    let transaction = Transaction::decode(&bytes).unwrap();
    let id = transaction.id(&network.digest());
    let mut sealer = Sealer::new();
    while sealer.push(&transaction, &id) {}
    assert_eq!(sealer.count(), BATCH_TRANSACTIONS_MAX);
    let place = BatchPlace {
        network: network.digest(),
        epoch: 4,
        lane: 99,
        sequence: 2,
        previous: digest(1),
    };
    let (bytes, _) = sealer.seal(&place, unsigned).unwrap();
    assert_eq!(Batch::decode(&bytes, &network.digest()).unwrap().count(), BATCH_TRANSACTIONS_MAX);
}

#[test]
fn a_wrong_place_is_not_sealed() {
    let network = Network::new();
    let bytes = author(1).record(&network.digest(), &[]);
    let transaction = Transaction::decode(&bytes).unwrap();
    let mut sealer = Sealer::new();
    assert!(sealer.push(&transaction, &transaction.id(&network.digest())));
    let place = BatchPlace {
        network: network.digest(),
        epoch: 0,
        lane: 0,
        sequence: 0,
        previous: Digest::ZERO,
    };
    assert_eq!(sealer.seal(&place, unsigned), Err(Reject::SequenceZero));
    let unlinked = BatchPlace { sequence: 2, ..place };
    assert_eq!(sealer.seal(&unlinked, unsigned), Err(Reject::FirstLink));
    let nobody = BatchPlace { lane: 100, ..place };
    assert_eq!(sealer.seal(&nobody, unsigned), Err(Reject::UnknownValidator));
    assert_eq!(sealer.count(), 1, "nothing is lost");
}

proptest! {
    #[test]
    fn any_changed_bytes_are_refused_or_come_back(
        changes in proptest::collection::vec((0_usize..700, any::<u8>()), 0..4),
        length in 0_usize..700,
    ) {
        let (network, mut bytes) = sample();
        for (place, value) in changes {
            let length = bytes.len();
            bytes[place % length] = value;
        }
        bytes.truncate(if length < 350 { length } else { bytes.len() });
        if let Ok(batch) = Batch::decode(&bytes, &network.digest()) {
            prop_assert_eq!(encode_again(&batch), bytes);
        }
    }
}

#[test]
#[ignore = "it measures: run it in release, with --nocapture"]
fn measures_the_roots_of_a_batch() {
    const COUNT: u16 = 1_000;
    const ROUNDS: u32 = 200;
    let id = |number: u16| Digest(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let ids: Vec<Digest> = (0..COUNT).map(id).collect();
    let signatures: Vec<[u8; 64]> =
        ids.iter().map(|id| *[id.0, id.0].concat().first_chunk().unwrap()).collect();
    let outcomes: Vec<_> = ids.iter().map(|id| (*id, Outcome::Applied)).collect();
    let timed = |name: &str, root: &dyn Fn() -> Digest| {
        let first = root();
        let start = Instant::now();
        assert!((0..ROUNDS).all(|_| root() == first));
        println!("{name}: {:?} each", start.elapsed() / ROUNDS / u32::from(COUNT));
    };
    for _ in 0..3 {
        timed("transactions", &|| transactions_root(&ids, signatures.iter()));
        timed("outcomes", &|| outcomes_root(&outcomes));
    }
}

#[test]
fn a_sealed_batch_is_what_everyone_decodes() {
    let network = Network::new();
    let transactions = transactions(&network, 5);
    let mut sealer = Sealer::with_room(3);
    for bytes in &transactions {
        let transaction = Transaction::decode(bytes).unwrap();
        assert!(sealer.push(&transaction, &transaction.id(&network.digest())));
    }
    let place = BatchPlace {
        network: network.digest(),
        epoch: 0,
        lane: 1,
        sequence: 1,
        previous: Digest::ZERO,
    };
    let other = BatchPlace { network: Digest([9; 32]), ..place };
    let mut foreign = sealer.clone();
    assert_eq!(foreign.seal_batch(&other, unsigned).unwrap_err(), Reject::WrongNetwork);
    let sealed = sealer.seal_batch(&place, unsigned).unwrap();
    let decoded = Batch::decode(sealed.bytes(), &network.digest()).unwrap();
    assert_eq!((sealed.header(), sealed.digest()), (decoded.header(), decoded.digest()));
    assert_eq!((&sealed.bounds, sealed.ids()), (&decoded.bounds, decoded.ids()));
    assert_eq!(sealed.signature(), decoded.signature());
    assert!(sealer.is_empty() && sealer.body_bytes() == 0);
}
