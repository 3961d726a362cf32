//! Tests of the tree over pages: against the root from nothing, and that it hashes what changed alone.

use std::time::Instant;

use super::super::{State, Tree};
use super::*;
use crate::codec::count_u32;
use crate::digest::PublicKey;
use crate::testing::{Network, Numbers};

/// An account that no other number has.
fn entry(number: usize) -> Entry<Account> {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    let balance = u64::try_from(number).unwrap();
    (PublicKey(key), Account { balance, sequence: 3, head: Digest([9; 32]) })
}

fn state(accounts: usize) -> State {
    State {
        accounts: (0..accounts).map(entry).collect(),
        pages: Tree::new(accounts.div_ceil(PAGE_ACCOUNTS)),
        ..State::genesis(&Network::new().genesis)
    }
}

fn create(state: &mut State) {
    let (key, account) = entry(state.accounts.len());
    let number = state.accounts.push(key, account);
    state.pages.mark(index(number) / PAGE_ACCOUNTS);
}

fn change(state: &mut State, number: u32) {
    state.accounts.get_mut(number).1.balance += 1;
    state.pages.mark(index(number) / PAGE_ACCOUNTS);
}

#[test]
fn it_grows_through_every_size() {
    let mut grown = state(0);
    for size in 0..=8 * 70 {
        assert_eq!(grown.accounts.len(), size);
        let plain = grown.root();
        assert_eq!(grown.update_root(), plain, "{size} accounts, one by one");
        assert_eq!(state(size).update_root(), plain, "{size} accounts at once");
        create(&mut grown);
    }
}

#[test]
fn it_grows_by_any_number() {
    let sizes = [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 511, 512, 513, 1_025];
    for (place, first) in sizes.iter().enumerate() {
        for then in &sizes[place..] {
            let mut state = state(*first);
            state.update_root();
            (*first..*then).for_each(|_| create(&mut state));
            assert_eq!(state.update_root(), state.root(), "{first}, then {then} accounts");
        }
    }
}

#[test]
fn every_account_is_covered() {
    for size in [1_u32, 7, 8, 9, 15, 16, 17, 24, 25, 40, 63, 64, 65] {
        let mut state = state(index(size));
        let mut before = state.update_root();
        for number in 0..size {
            change(&mut state, number);
            let after = state.update_root();
            assert_eq!(after, state.root(), "account {number} of {size}");
            assert_ne!(after, before, "account {number} of {size}");
            before = after;
        }
    }
}

#[test]
fn changes_and_new_accounts_in_any_order_keep_the_root() {
    let mut numbers = Numbers::new(41);
    let mut state = state(0);
    for round in 0..400 {
        for _ in 0..numbers.below(30) {
            if numbers.below(3) == 0 || state.accounts.is_empty() {
                create(&mut state);
            } else {
                let number = numbers.below(count_u32(state.accounts.len()));
                change(&mut state, number);
            }
        }
        assert_eq!(state.update_root(), state.root(), "round {round}");
    }
    assert!(state.accounts.len() > 1_000, "the rounds create enough");
}

#[test]
fn a_clone_goes_its_own_way() {
    let mut one = state(100);
    one.update_root();
    change(&mut one, 50);
    // What was marked before is marked in both.
    let mut two = one.clone();
    change(&mut one, 3);
    change(&mut two, 97);
    create(&mut two);
    assert_eq!(one.update_root(), one.root());
    assert_eq!(two.update_root(), two.root());
    assert_ne!(one.root(), two.root());
}

#[test]
fn what_was_not_marked_is_not_hashed_again() {
    let mut state = state(100);
    let before = state.update_root();
    state.accounts.get_mut(20).1.balance += 1;
    assert_eq!(state.update_root(), before);
    // The page is that of accounts 16 to 23.
    state.pages.mark(1);
    state.pages.mark(3);
    assert_eq!(state.update_root(), before);
    state.pages.mark(2);
    assert_eq!(state.update_root(), state.root());
    assert_ne!(state.root(), before);
}

#[test]
fn the_tree_takes_a_tenth_of_its_accounts() {
    let mut state = state(80_000);
    state.update_root();
    for _ in 0..10_000 {
        create(&mut state);
    }
    state.update_root();
    let nodes = state.pages.capacity();
    assert!(32 * nodes < 90_000 * ACCOUNT_BYTES / 8, "{nodes} nodes");
}

#[test]
#[ignore = "it measures: run it in release, with --nocapture"]
fn measures_the_root_of_ten_million_accounts() {
    const ACCOUNTS: u32 = 10_000_000;
    const CHANGES: u32 = 240_000;
    const CREATED: u32 = 400_000;
    let mut state = state(index(ACCOUNTS));
    let mut numbers = Numbers::new(1);
    let timed = |name: &str, work: &mut dyn FnMut() -> Digest| {
        let start = Instant::now();
        let root = work();
        println!("{name}: {:?}", start.elapsed());
        root
    };
    let plain = timed("from nothing, plain", &mut || state.root());
    assert_eq!(timed("from nothing, the tree", &mut || state.update_root()), plain);
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..CHANGES {
            change(&mut state, numbers.below(ACCOUNTS));
        }
        println!("{CHANGES} changes: {:?}", start.elapsed());
        timed("the root after them", &mut || state.update_root());
    }
    for _ in 0..3 {
        let start = Instant::now();
        (0..CREATED).for_each(|_| create(&mut state));
        println!("{CREATED} new accounts: {:?}", start.elapsed());
        timed("the root after them", &mut || state.update_root());
    }
    assert_eq!(state.update_root(), state.root());
    let nodes = state.pages.capacity();
    println!("the tree: {} bytes", 32 * nodes);
}
