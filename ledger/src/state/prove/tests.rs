//! Tests of proofs of keys: against a plain copy of the state, while it changes, and bit by bit.

use std::collections::BTreeMap;

use super::*;
use crate::digest::Height;
use crate::genesis::{Genesis, GenesisAccount, Parameters};
use crate::testing::{Numbers, public};
use crate::transaction::{Draft, Kind, Transfer};

fn network(accounts: &[PublicKey]) -> Genesis {
    let mut accounts: Vec<GenesisAccount> =
        accounts.iter().map(|key| GenesisAccount { key: *key, balance: 1 << 40 }).collect();
    accounts.sort_by_key(|account| account.key);
    let validators = vec![public(&crate::testing::key(1))];
    Genesis::new("t".into(), validators, accounts, Parameters::default(), |_| true).unwrap()
}

fn random(numbers: &mut Numbers) -> PublicKey {
    // Few first bytes, so that neighbours are near.
    let mut key = [0; 32];
    key[0] = u8::try_from(numbers.below(4)).unwrap();
    key[31] = u8::try_from(numbers.below(64)).unwrap();
    PublicKey(key)
}

/// One author sends to a key, so that two accounts change, or one comes to be.
fn send(state: &mut State, author: PublicKey, to: PublicKey, amount: u64) {
    let account = *state.account(&author).unwrap();
    let body = Transfer { to, amount }.encode();
    let draft = Draft {
        kind: Kind::Transfer,
        author,
        sequence: account.sequence,
        previous: account.head,
        valid_until: Height(10),
        body: &body,
    };
    let network = Digest([1; 32]);
    let (bytes, id) = draft.sign(&network, crate::testing::unsigned).unwrap();
    let transaction = crate::Transaction::decode(&bytes).unwrap();
    let outcome = state.apply(&transaction, &id, Height(1));
    assert_eq!(outcome, crate::Outcome::Applied);
}

type Copy = BTreeMap<PublicKey, Account>;

fn copy(state: &State) -> Copy {
    state.accounts().map(|(key, account)| (*key, *account)).collect()
}

fn check(state: &State, root: &Digest, copy: &Copy, key: &PublicKey) {
    let proof = state.prove(key);
    assert_eq!(proof.root(), Ok(*root));
    assert_eq!((proof.key(), proof.account()), (key, copy.get(key)));
    let mut bytes = Vec::new();
    proof.encode_into(&mut bytes);
    let mut reader = Reader::new(&bytes);
    assert_eq!(StateProof::read(&mut reader, proof.is_absence()), Ok(proof));
    assert_eq!(reader.rest(), b"");
}

#[test]
fn every_key_is_proved_as_it_was_at_the_last_root() {
    let mut numbers = Numbers::new(9);
    for first in [1_u32, 2, 7, 8, 9, 17] {
        let mut keys: Vec<PublicKey> = Vec::new();
        while keys.len() < index(first) {
            let key = random(&mut numbers);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut state = State::genesis(&network(&keys));
        for _ in 0..12 {
            let root = state.update_root();
            assert_eq!(root, state.root());
            let copy = copy(&state);
            for _ in 0..25 {
                for _ in 0..4 {
                    check(&state, &root, &copy, &random(&mut numbers));
                }
                // Execution goes on: what is proved stays that of the root.
                let author = keys[index(numbers.below(count_u32(keys.len())))];
                let amount = u64::from(numbers.below(1_000));
                send(&mut state, author, random(&mut numbers), amount);
            }
            copy.keys().for_each(|key| check(&state, &root, &copy, key));
            for end in [[0; 32], [255; 32]] {
                check(&state, &root, &copy, &PublicKey(end));
            }
        }
    }
}

#[test]
fn without_accounts_every_key_is_absent() {
    let mut state = State::genesis(&network(&[]));
    let root = state.update_root();
    check(&state, &root, &Copy::new(), &PublicKey([4; 32]));
}

fn state(count: u8) -> (State, Digest) {
    let keys: Vec<PublicKey> = (1..=count).map(|byte| PublicKey([byte * 2; 32])).collect();
    let mut state = State::genesis(&network(&keys));
    let root = state.update_root();
    (state, root)
}

#[test]
fn neighbours_that_do_not_enclose_a_key_show_nothing() {
    let (state, root) = state(30);
    let proof = state.prove(&PublicKey([21; 32]));
    for byte in 0..=255 {
        let moved = StateProof { key: PublicKey([byte; 32]), ..proof.clone() };
        let expected = if byte == 21 { Ok(root) } else { Err(Reject::ProofKey) };
        assert_eq!(moved.root(), expected, "{byte}");
    }
    let end = state.prove(&PublicKey([1; 32]));
    for byte in 0..=255 {
        let moved = StateProof { key: PublicKey([byte; 32]), ..end.clone() };
        assert_eq!(moved.root().is_ok(), !(2..=60).contains(&byte), "{byte}");
    }
    // Both pages are there, but the second is not that of the next account.
    let Place::Between { number, leaf, page, .. } = state.prove(&PublicKey([17; 32])).place else {
        panic!("there is no such account");
    };
    let other = Some(state.page(29));
    let place = Place::Between { number, leaf, page, other };
    let crossed = StateProof { place, ..state.prove(&PublicKey([17; 32])) };
    assert!(crossed.root().is_err());
}

#[test]
fn an_account_of_another_key_shows_nothing() {
    let (state, root) = state(30);
    let proof = state.prove(&PublicKey([20; 32]));
    assert_eq!(proof.root(), Ok(root));
    let moved = StateProof { key: PublicKey([22; 32]), ..proof.clone() };
    assert_eq!(moved.root(), Err(Reject::ProofKey));
    let Place::Account { links, number, page } = proof.place.clone() else {
        panic!("there is an account");
    };
    let place = Place::Account { links, number: number + 1, page };
    let moved = StateProof { key: PublicKey([22; 32]), place, ..proof };
    assert_eq!(moved.root(), Ok(root), "it stands in the same page");
}

#[test]
fn nobody_is_shown_where_somebody_is() {
    let (state, root) = state(3);
    let proof = state.prove(&PublicKey([9; 32]));
    let empty = StateProof { place: Place::Nobody, ..proof.clone() };
    assert_eq!(empty.root(), Err(Reject::ProofShape));
    let rooted = Rooted { accounts: 0, ..proof.rooted };
    let empty = StateProof { place: Place::Nobody, rooted, ..proof };
    assert_ne!(empty.root(), Ok(root));
}
