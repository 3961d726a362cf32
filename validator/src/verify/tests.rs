//! Rounds with forgeries: who is refused, who is suspected, and who is not.

use super::*;
use crate::handle::{Reply, Submission};
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::{
    Account, BatchPlace, Draft, Height, Kind, Parameters, PublicKey, Sealer, Signature,
    Transaction, batch::HEADER_BYTES,
};
use std::sync::atomic::AtomicUsize;

const NETWORK: Digest = Digest([3; 32]);

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn core(author: &SigningKey) -> admit::Core {
    let account = Account { balance: 1_000_000, sequence: 0, head: Digest::ZERO };
    let accounts = [(public(author), account)].into_iter();
    let waiting = Arc::new(AtomicUsize::new(0));
    admit::Core::new(
        NETWORK,
        Parameters::default(),
        Height(1),
        &accounts.collect(),
        waiting,
        1 << 20,
    )
}

fn judge() -> Judge {
    let options = sigverify::Options { backend: None, threads: 1 };
    Judge::new(Arc::new(sigverify::Verifier::new(&options).unwrap()))
}

fn transaction(author: &SigningKey, sequence: u64, previous: Digest) -> (Vec<u8>, Digest) {
    let draft = Draft {
        kind: Kind::Record,
        author: public(author),
        sequence,
        previous,
        valid_until: Height(1_000),
        body: b"body",
    };
    draft.sign(&NETWORK, |message: &[u8; 47]| Signature(author.sign(message).to_bytes())).unwrap()
}

/// A batch that a validator sends; a forged one has an author's signature that does not hold.
fn sent(from: u32, forged: bool) -> Unverified {
    let owner = key(200 + u8::try_from(from).unwrap());
    let mut sealer = Sealer::new();
    for sequence in 0..30 {
        let (mut bytes, id) = transaction(&key(50), sequence, Digest([1; 32]));
        if forged && sequence == 17 {
            *bytes.last_mut().unwrap() ^= 1;
        }
        assert!(sealer.push(&Transaction::decode(&bytes).unwrap(), &id));
    }
    let place =
        BatchPlace { network: NETWORK, epoch: 0, lane: from, sequence: 1, previous: Digest::ZERO };
    let sign = |message: &[u8; 47]| Signature(owner.sign(message).to_bytes());
    let (bytes, digest) = sealer.seal(&place, sign).unwrap();
    Unverified { from, digest, owner: public(&owner), bytes }
}

/// One round; answers which batches hold.
fn batches(sources: &mut Sources, sent: Vec<Unverified>) -> Vec<bool> {
    let mut core = core(&key(1));
    let verified = round(&mut core, &NETWORK, &judge(), sources, 0, Vec::new(), sent);
    verified.batches.iter().map(|(_, held)| held.is_some()).collect()
}

#[test]
fn one_forger_is_suspected_and_the_others_batches_hold() {
    let mut sources = Sources::default();
    let all = || vec![sent(0, false), sent(1, true), sent(2, false)];
    assert_eq!(batches(&mut sources, all()), [true, false, true]);
    assert_eq!(sources.suspects.keys().collect::<Vec<_>>(), [&1]);
    // Checked by itself from now on, and nobody else is suspected for what it sends.
    assert_eq!(batches(&mut sources, vec![sent(0, false), sent(1, true)]), [true, false]);
    assert_eq!(sources.suspects.keys().collect::<Vec<_>>(), [&1]);
    assert!(!sources.clients.is_suspected());
    assert_eq!(batches(&mut sources, vec![sent(1, false), sent(0, false)]), [true, true]);
}

#[test]
fn a_suspect_is_trusted_again_after_a_while() {
    let mut sources = Sources::default();
    assert_eq!(batches(&mut sources, vec![sent(1, true)]), [false]);
    let mut rounds = 0;
    while !sources.suspects.is_empty() {
        assert_eq!(batches(&mut sources, vec![sent(1, false)]), [true]);
        rounds += 1;
        assert!(rounds < 10_000);
    }
    assert!(rounds > 10, "not at once");
}

#[test]
fn forgeries_of_clients_are_no_validators_fault() {
    let author = key(1);
    let (mut core, mut sources) = (core(&author), Sources::default());
    let mut requests = Vec::new();
    let mut previous = Digest::ZERO;
    for sequence in 0..20 {
        let (mut bytes, id) = transaction(&author, sequence, previous);
        previous = id;
        *bytes.last_mut().unwrap() ^= 1;
        requests.push(Request::Submit(Submission::new(bytes, Reply::None)));
    }
    let batch = vec![sent(0, false)];
    let verified = round(&mut core, &NETWORK, &judge(), &mut sources, 0, requests, batch);
    assert!(verified.admitted.is_empty());
    assert!(verified.batches[0].1.is_some());
    assert_eq!(verified.signatures, (47, 31), "an author may have sixteen links under way");
    assert!(sources.clients.is_suspected());
    assert!(sources.suspects.is_empty());
}

#[test]
fn every_verdict_lands_at_its_item_whoever_is_suspected() {
    let keys: Vec<_> = (1..=4).map(key).collect();
    let message = [7; 47];
    let mut random = 1_u64;
    let mut draw = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let mut sources = Sources::default();
    let (mut suspected, mut trusted) = (0, 0);
    for _ in 0..200 {
        // Clients first, then batches of up to four validators; some send a forgery, most do not.
        let lengths: Vec<_> = (0..=draw(5)).map(|_| usize::try_from(draw(40)).unwrap()).collect();
        let mut signed = Vec::new();
        let mut shares = Vec::new();
        for (number, length) in lengths.into_iter().enumerate() {
            let is_forger = draw(6) == 0;
            let from = number.checked_sub(1).map(|_| u32::try_from(draw(4)).unwrap());
            let first = signed.len();
            for _ in 0..length {
                let key = &keys[usize::try_from(draw(4)).unwrap()];
                let mut signature = key.sign(&message).to_bytes();
                let valid = !(is_forger && draw(8) == 0);
                signature[3] ^= u8::from(!valid);
                signed.push((public(key).0, signature, valid));
            }
            shares.push(Share { from, items: first..signed.len() });
        }
        let items: Vec<_> = signed
            .iter()
            .map(|(key, signature, _)| SignedItem { key, message: &message, signature })
            .collect();
        let is_split = shares.iter().any(|share| sources.suspect(share).is_some());
        (suspected, trusted) =
            if is_split { (suspected + 1, trusted) } else { (suspected, trusted + 1) };
        let verdicts = sources.judge(&judge(), &items, &shares);
        let expected: Vec<_> = signed.iter().map(|(_, _, valid)| *valid).collect();
        assert_eq!(verdicts.iter().map(|v| v.is_valid()).collect::<Vec<_>>(), expected);
    }
    assert!(suspected > 10 && trusted > 0, "{suspected} and {trusted}");
}

#[test]
fn what_does_not_decode_is_answered_too() {
    let mut sources = Sources::default();
    let mut broken = sent(0, false);
    broken.bytes.truncate(HEADER_BYTES);
    assert_eq!(batches(&mut sources, vec![broken, sent(1, false)]), [false, true]);
    assert_eq!(batches(&mut sources, Vec::new()), [false; 0]);
}
