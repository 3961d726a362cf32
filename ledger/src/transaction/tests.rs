//! Tests of the transaction: layout, limits, golden samples, any bytes.

use proptest::prelude::*;

use super::*;
use crate::limits::TRANSACTION_BYTES_MAX;
use crate::signatures::Signatures;
use crate::testing::{Dalek, digest, golden, key, public, sign, unsigned};

const NETWORK_DIGEST: Digest = Digest([0x4e; 32]);

fn sample(kind: Kind, body: &[u8]) -> (Vec<u8>, Digest) {
    let author = key(7);
    let draft = Draft {
        kind,
        author: public(&author),
        sequence: 3,
        previous: digest(9),
        valid_until: Height(500),
        body,
    };
    draft.sign(&NETWORK_DIGEST, |message| sign(&author, message)).unwrap()
}

fn sample_transfer() -> (Vec<u8>, Digest) {
    sample(Kind::Transfer, &Transfer { to: public(&key(8)), amount: 1_234 }.encode())
}

/// Decodes, checks the network and the signature.
fn read(bytes: &[u8]) -> Result<(Vec<u8>, Digest), Reject> {
    let transaction = Transaction::decode(bytes)?;
    transaction.check_network(&NETWORK_DIGEST)?;
    let id = transaction.id(&NETWORK_DIGEST);
    let message = signing_message(&id);
    match Dalek.verify(&[transaction.signed_item(&message)])[0] {
        true => Ok((encode_again(&transaction), id)),
        false => Err(Reject::BadSignature),
    }
}

fn encode_again(transaction: &Transaction<'_>) -> Vec<u8> {
    let network = [transaction.network_hint(); 4].concat().try_into().unwrap();
    let draft = Draft {
        kind: transaction.kind(),
        author: transaction.author(),
        sequence: transaction.sequence(),
        previous: transaction.previous(),
        valid_until: transaction.valid_until(),
        body: transaction.body(),
    };
    draft.sign(&Digest(network), |_| transaction.signature()).unwrap().0
}

#[test]
fn golden_samples_hold() {
    golden("transaction_record", &sample(Kind::Record, b"a record").0, read);
    golden("transaction_transfer", &sample_transfer().0, read);
}

#[test]
fn fields_come_back() {
    let (bytes, id) = sample_transfer();
    let transaction = Transaction::decode(&bytes).unwrap();
    assert_eq!(transaction.bytes(), bytes);
    assert_eq!(transaction.kind(), Kind::Transfer);
    assert_eq!(transaction.author(), public(&key(7)));
    assert_eq!(transaction.sequence(), 3);
    assert_eq!(transaction.previous(), digest(9));
    assert_eq!(transaction.valid_until(), Height(500));
    assert_eq!(transaction.network_hint(), [0x4e; 8]);
    let transfer = transaction.transfer().unwrap();
    assert_eq!(transfer, Transfer { to: public(&key(8)), amount: 1_234 });
    assert_eq!(transaction.body(), transfer.encode());
    assert_eq!(transaction.id(&NETWORK_DIGEST), id);
    assert_eq!(ids(&NETWORK_DIGEST, &[transaction, transaction]), [id, id]);
    assert_eq!(transaction.signature().as_bytes(), transaction.signature_bytes());

    let (bytes, _) = sample(Kind::Record, &[]);
    let record = Transaction::decode(&bytes).unwrap();
    assert_eq!((record.transfer(), record.body()), (None, &[][..]));
    assert_eq!(bytes.len(), TRANSACTION_OVERHEAD);
}

#[test]
fn the_id_is_that_of_the_specification() {
    let (bytes, id) = sample_transfer();
    let mut material = NETWORK_DIGEST.0.to_vec();
    material.extend_from_slice(&bytes[..bytes.len() - 64]);
    assert_eq!(id.0, blake3::derive_key("althing 2026 transaction id v1", &material));
    assert_eq!(signing_message(&id)[..15], *b"althing/tx/v1\0\0");
    assert_eq!(signing_message(&id)[15..], id.0);
}

#[test]
fn the_signature_holds_on_one_network_only() {
    let (bytes, id) = sample_transfer();
    let transaction = Transaction::decode(&bytes).unwrap();
    let mut other = NETWORK_DIGEST;
    other.0[31] ^= 1;
    assert_eq!(transaction.check_network(&other), Ok(()), "the hint is the same");
    assert_ne!(transaction.id(&other), id);
    assert_eq!(transaction.check_network(&digest(1)), Err(Reject::WrongNetwork));
}

#[test]
fn broken_bytes_are_refused_with_their_reason() {
    let (bytes, _) = sample_transfer();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        Transaction::decode(&bytes).unwrap_err()
    };
    assert_eq!(refused(&|bytes| bytes.truncate(3)), Reject::Truncated);
    assert_eq!(refused(&|bytes| bytes.truncate(195)), Reject::Truncated);
    assert_eq!(refused(&|bytes| bytes.push(0)), Reject::TrailingBytes);
    assert_eq!(refused(&|bytes| bytes[0] = 0), Reject::UnknownVersion);
    assert_eq!(refused(&|bytes| bytes[1] = 4), Reject::UnknownKind);
    assert_eq!(refused(&|bytes| bytes[1] = 3), Reject::BallotBody, "a transfer is no ballot");
    assert_eq!(refused(&|bytes| bytes[2] = 39), Reject::TransferBody);
    assert_eq!(refused(&|bytes| bytes[1..4].copy_from_slice(&[1, 255, 255])), Reject::TooLong);
}

#[test]
fn a_prefix_leaves_the_rest() {
    let (mut bytes, _) = sample_transfer();
    let length = bytes.len();
    bytes.extend_from_slice(b"rest");
    let (transaction, rest) = Transaction::decode_prefix(&bytes).unwrap();
    assert_eq!((transaction.bytes().len(), rest), (length, &b"rest"[..]));
}

#[test]
fn drafts_keep_the_limits() {
    let longest = vec![1; TRANSACTION_BODY_BYTES_MAX];
    let (bytes, _) = sample(Kind::Record, &longest);
    assert_eq!(bytes.len(), TRANSACTION_BYTES_MAX);
    assert_eq!(Transaction::decode(&bytes).unwrap().body(), longest);

    let too_long = vec![1; TRANSACTION_BODY_BYTES_MAX + 1];
    let mut draft = Draft {
        kind: Kind::Record,
        author: public(&key(7)),
        sequence: 0,
        previous: Digest::ZERO,
        valid_until: Height(1),
        body: &too_long,
    };
    assert_eq!(draft.sign(&NETWORK_DIGEST, unsigned), Err(Reject::TooLong));
    draft.body = &[0; 41];
    draft.kind = Kind::Transfer;
    assert_eq!(draft.sign(&NETWORK_DIGEST, unsigned), Err(Reject::TransferBody));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_come_back(mut bytes: Vec<u8>, plausible: bool) {
        if let (true, [version, kind, ..]) = (plausible, &mut bytes[..]) {
            *version = 1;
            *kind = 1 + *kind % 3;
        }
        if let Ok((transaction, rest)) = Transaction::decode_prefix(&bytes) {
            prop_assert_eq!(encode_again(&transaction), transaction.bytes());
            prop_assert_eq!([transaction.bytes(), rest].concat(), bytes);
        }
    }

    #[test]
    fn every_draft_comes_back(
        sequence: u64,
        previous: [u8; 32],
        author: [u8; 32],
        valid_until: u64,
        body in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let draft = Draft {
            kind: Kind::Record,
            author: PublicKey(author),
            sequence,
            previous: Digest(previous),
            valid_until: Height(valid_until),
            body: &body,
        };
        let (bytes, id) = draft.sign(&NETWORK_DIGEST, unsigned).unwrap();
        let transaction = Transaction::decode(&bytes).unwrap();
        prop_assert_eq!(transaction.author_bytes(), &author);
        prop_assert_eq!(transaction.sequence(), sequence);
        prop_assert_eq!(transaction.previous(), Digest(previous));
        prop_assert_eq!(transaction.valid_until(), Height(valid_until));
        prop_assert_eq!(transaction.body(), &body[..]);
        prop_assert_eq!(transaction.id(&NETWORK_DIGEST), id);
    }
}
