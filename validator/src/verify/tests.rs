//! Rounds with forgeries: who is refused, who is suspected, and who is not.

use super::*;
use crate::handle::{Reply, Submission};
use crate::held::Signed;
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
    sent_after(0, from, forged)
}

/// The same from a later sequence on.
fn sent_after(sequence: u64, from: u32, forged: bool) -> Unverified {
    let mut transactions: Vec<_> = (sequence..sequence + 30)
        .map(|sequence| transaction(&key(50), sequence, Digest([1; 32])))
        .collect();
    if forged {
        *transactions[17].0.last_mut().unwrap() ^= 1;
    }
    sealed(from, &transactions)
}

/// A batch of these.
fn sealed(from: u32, transactions: &[(Vec<u8>, Digest)]) -> Unverified {
    let owner = key(200 + u8::try_from(from).unwrap());
    let mut sealer = Sealer::new();
    for (bytes, id) in transactions {
        assert!(sealer.push(&Transaction::decode(bytes).unwrap(), id));
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
    assert!(!sources.is_suspected(None));
    assert_eq!(batches(&mut sources, vec![sent(1, false), sent(0, false)]), [true, true]);
}

#[test]
fn a_suspect_is_trusted_again_after_a_while() {
    let mut sources = Sources::default();
    assert_eq!(batches(&mut sources, vec![sent(1, true)]), [false]);
    let mut rounds = 0;
    while !sources.suspects.is_empty() {
        // What was good before would not be checked.
        let batch = sent_after(30 * (rounds + 1), 1, false);
        assert_eq!(batches(&mut sources, vec![batch]), [true]);
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
    let counts = Counts { checked: 47, valid: 31, repeated: 0 };
    assert_eq!(verified.signatures, counts, "an author may have sixteen links under way");
    assert!(sources.is_suspected(None));
    assert!(sources.suspects.is_empty());
}

#[test]
fn every_verdict_lands_at_its_signature_whoever_is_suspected_and_whatever_is_repeated() {
    let keys: Vec<_> = (1..=4).map(key).collect();
    let mut random = 1_u64;
    let mut draw = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let mut sources = Sources::default();
    let (mut suspected, mut trusted, mut repeated) = (0, 0, 0);
    let mut before: Vec<(Signed, bool)> = Vec::new();
    for _ in 0..200 {
        // Clients first, then batches of up to four validators; some send a forgery, most do not.
        let mut all: Vec<(Signed, bool)> = Vec::new();
        let mut shares = Vec::new();
        for number in 0..=draw(5) {
            let is_forger = draw(6) == 0;
            let from = number.checked_sub(1).map(|_| u32::try_from(draw(4)).unwrap());
            let start = all.len();
            for _ in 0..draw(40) {
                let again = before.iter().chain(&all).nth(usize::try_from(draw(400)).unwrap());
                if let Some(again) = again.copied() {
                    all.push(again);
                    continue;
                }
                let key = &keys[usize::try_from(draw(4)).unwrap()];
                let mut message = ledger::signing_message(&Digest([7; 32]));
                message[40] = u8::try_from(draw(256)).unwrap();
                message[16] = u8::try_from(draw(256)).unwrap();
                let mut signature = key.sign(&message).to_bytes();
                let valid = !(is_forger && draw(8) == 0);
                signature[3] ^= u8::from(!valid);
                all.push(((public(key).0, message, signature), valid));
            }
            shares.push(Share { from, items: start..all.len() });
        }
        let is_split = shares.iter().any(|share| sources.is_suspected(share.from));
        (suspected, trusted) =
            if is_split { (suspected + 1, trusted) } else { (suspected, trusted + 1) };
        let signed: Vec<Signed> = all.iter().map(|(signed, _)| *signed).collect();
        let judged = sources.judge(&judge(), &signed, &shares);
        let expected: Vec<_> = all.iter().map(|(_, valid)| *valid).collect();
        assert_eq!(judged.verdicts, expected);
        let Counts { checked, repeated: again, .. } = judged.signatures;
        assert_eq!(checked + again, signed.len() as u64);
        repeated += again;
        before = all;
    }
    assert!(suspected > 10 && trusted > 0 && repeated > 1_000, "{suspected} {trusted} {repeated}");
}

#[test]
fn a_transaction_of_a_client_and_of_three_batches_is_checked_once() {
    let author = key(1);
    let (mut core, mut sources) = (core(&author), Sources::default());
    let both = transaction(&author, 0, Digest::ZERO);
    let (other, third) = (transaction(&author, 1, both.1), transaction(&author, 2, both.1));
    let submit = Request::Submit(Submission::new(both.0.clone(), Reply::None));
    let mut round = |requests, batches: Vec<Unverified>| {
        let verified = round(&mut core, &NETWORK, &judge(), &mut sources, 0, requests, batches);
        assert!(verified.batches.iter().all(|(_, held)| held.is_some()));
        (verified.admitted.len(), verified.signatures)
    };
    let first = round(vec![submit], vec![sealed(0, &[other.clone(), both.clone()])]);
    // The transaction, the batch's owner and the other transaction.
    assert_eq!(first, (1, Counts { checked: 3, valid: 3, repeated: 1 }));
    let later = vec![sealed(1, &[both.clone(), third]), sealed(2, &[both, other])];
    assert_eq!(round(Vec::new(), later), (0, Counts { checked: 3, valid: 3, repeated: 3 }));
}

#[test]
fn what_does_not_decode_is_answered_too() {
    let mut sources = Sources::default();
    let mut broken = sent(0, false);
    broken.bytes.truncate(HEADER_BYTES);
    assert_eq!(batches(&mut sources, vec![broken, sent(1, false)]), [false, true]);
    assert_eq!(batches(&mut sources, Vec::new()), [false; 0]);
}

#[test]
fn who_signs_a_batch_with_a_forgery_is_proved_to() {
    let found = |sent: Vec<Unverified>| {
        let (mut core, mut sources) = (core(&key(1)), Sources::default());
        round(&mut core, &NETWORK, &judge(), &mut sources, 0, Vec::new(), sent).evidence
    };
    assert_eq!(found(vec![sent(0, false), sent(1, false)]), []);
    let evidence = found(vec![sent(0, false), sent(1, true), sent(2, false)]);
    assert_eq!(evidence.len(), 1);
    assert_eq!((evidence[0].validator(), evidence[0].kind()), (1, "batch"));
    let ledger::Offence::Batch { batch, transaction, place } = evidence[0].offence() else {
        panic!("another kind");
    };
    assert_eq!((place.index, place.count), (17, 30));
    assert!(Transaction::decode(transaction).is_ok());
    let owner = public(&key(201));
    let message = ledger::batch_signing_message(&batch.header.digest());
    let item = ledger::SignedItem::new(&owner, &message, &batch.signature);
    assert_eq!(ledger::Signatures::verify(&judge(), &[item]), [true]);

    // Whose batch it is not, nobody can say when its owner did not sign it.
    let mut forged = sent(1, true);
    forged.bytes[HEADER_BYTES] ^= 1;
    assert_eq!(found(vec![forged]), []);
}
