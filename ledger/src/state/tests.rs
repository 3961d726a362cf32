//! Tests of the account rules: examples, the order of the rules, and a naive model.

use proptest::prelude::*;

use super::*;
use crate::testing::{AUTHORS, Author, BALANCE, Network, author, digest, unsigned};
use crate::transaction::{Draft, Kind};

/// Applies encoded bytes at a height.
fn apply(state: &mut State, network: &Digest, bytes: &[u8], height: u64) -> Outcome {
    let transaction = Transaction::decode(bytes).unwrap();
    state.apply(&transaction, &transaction.id(network), Height(height))
}

fn setup() -> (State, Digest) {
    let network = Network::new();
    (State::genesis(&network.genesis), network.digest())
}

fn total(state: &State) -> u64 {
    state.accounts().map(|(_, account)| account.balance).sum::<u64>() + state.burned()
}

#[test]
fn a_record_costs_its_fee() {
    let (mut state, network) = setup();
    let mut author = author(0);
    let bytes = author.record(&network, b"twelve bytes");
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Applied);
    let fee = 10 + 156 + 12;
    let account = *state.account(&author.public()).unwrap();
    assert_eq!(account, Account { balance: BALANCE - fee, sequence: 1, head: author.previous });
    assert_eq!(state.burned(), fee);
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Stale);
}

#[test]
fn a_transfer_moves_its_amount() {
    let (mut state, network) = setup();
    let (mut from, to) = (author(0), author(1).public());
    let bytes = from.transfer(&network, to, 5_000);
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Applied);
    let fee = 10 + 196;
    assert_eq!(state.account(&from.public()).unwrap().balance, BALANCE - fee - 5_000);
    assert_eq!(state.account(&to).unwrap().balance, BALANCE + 5_000);
    let bytes = from.transfer(&network, from.public(), 5_000);
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Applied);
    let after = state.account(&from.public()).unwrap().balance;
    assert_eq!(after, BALANCE - 2 * fee - 5_000, "to oneself costs the fee alone");
}

#[test]
fn a_new_account_costs_the_deposit_and_can_then_act() {
    let (mut state, network) = setup();
    let (mut from, mut new) = (author(0), Author::new(77));
    let early = new.record(&network, b"hello");
    assert_eq!(apply(&mut state, &network, &early, 1), Outcome::Ahead);
    let bytes = from.transfer(&network, new.public(), 2_000);
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Applied);
    let balance = state.account(&from.public()).unwrap().balance;
    assert_eq!(balance, BALANCE - (10 + 196) - 2_000 - 1_000);
    assert_eq!(state.account(&new.public()).unwrap().balance, 2_000);
    assert_eq!(apply(&mut state, &network, &early, 1), Outcome::Applied);
    assert_eq!(total(&state), u64::from(AUTHORS) * BALANCE);
}

#[test]
fn what_cannot_be_paid_fails_and_consumes_the_sequence() {
    let (mut state, network) = setup();
    let (mut from, to) = (author(0), author(1).public());
    let fee = 10 + 196;
    for amount in [u64::MAX, BALANCE - fee + 1] {
        let bytes = from.transfer(&network, to, amount);
        let before = state.account(&from.public()).unwrap().balance;
        let expected = before - fee;
        assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Failed);
        assert_eq!(state.account(&from.public()).unwrap().balance, expected);
    }
    let rest = state.account(&from.public()).unwrap().balance;
    let bytes = from.transfer(&network, Author::new(77).public(), rest - fee - 999);
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Failed, "the deposit is short");
    let rest = state.account(&from.public()).unwrap().balance;
    let bytes = from.transfer(&network, to, rest - fee);
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Applied, "to the last unit");
    let bytes = from.record(&network, b"broke");
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Failed);
    let account = state.account(&from.public()).unwrap();
    assert_eq!((account.balance, account.sequence), (0, 5));
    assert_eq!(total(&state), u64::from(AUTHORS) * BALANCE);
}

#[test]
fn a_fee_takes_the_whole_balance_when_it_is_larger() {
    let (mut state, network) = setup();
    let mut poor = Author::new(77);
    let bytes = author(0).transfer(&network, poor.public(), 100);
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Applied);
    let burned = state.burned();
    let bytes = poor.record(&network, b"too dear");
    assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Failed);
    assert_eq!(state.account(&poor.public()).unwrap().balance, 0);
    assert_eq!(state.burned(), burned + 100);
}

#[test]
fn the_rules_have_their_order() {
    let (mut state, network) = setup();
    let mut author = author(0);
    author.valid_until = Height(10);
    let first = author.record(&network, b"first");
    let second = author.record(&network, b"second");
    assert_eq!(apply(&mut state, &network, &second, 5), Outcome::Ahead);
    assert_eq!(apply(&mut state, &network, &first, 10), Outcome::Applied, "the last valid height");
    assert_eq!(apply(&mut state, &network, &first, 10), Outcome::Stale);
    assert_eq!(apply(&mut state, &network, &first, 11), Outcome::Expired, "before stale");
    assert_eq!(apply(&mut state, &network, &second, 11), Outcome::Expired, "before all else");
    let mut nobody = Author::new(77);
    nobody.valid_until = Height(10);
    let bytes = nobody.record(&network, b"who");
    assert_eq!(apply(&mut state, &network, &bytes, 11), Outcome::Expired, "before ahead");
    assert_eq!(apply(&mut state, &network, &bytes, 10), Outcome::Ahead);
    author.previous = digest(1);
    author.sequence = 1;
    let forked = author.record(&network, b"forked");
    assert_eq!(apply(&mut state, &network, &forked, 10), Outcome::Forked);
    assert_eq!(apply(&mut state, &network, &second, 10), Outcome::Applied, "the right link");
    assert_eq!(apply(&mut state, &network, &forked, 10), Outcome::Stale, "before forked");
}

/// The first author's account.
fn account(state: &mut State) -> &mut Account {
    let number = state.accounts.find(&author(0).public()).unwrap();
    state.accounts.get_mut(number).1
}

#[test]
fn the_root_covers_everything() {
    let (state, network) = setup();
    let root = state.root();
    let changed = |change: &dyn Fn(&mut State)| {
        let mut other = state.clone();
        change(&mut other);
        other.root()
    };
    let key = author(0).public();
    let mut roots = vec![
        root,
        changed(&|it| account(it).balance += 1),
        changed(&|it| account(it).sequence += 1),
        changed(&|it| account(it).head = digest(1)),
        changed(&|it| {
            let others = it.accounts.iter().filter(|(other, _)| **other != key);
            it.accounts = others.map(|(key, account)| (*key, *account)).collect();
        }),
        changed(&|it| {
            let mut entries: Vec<_> = it.accounts().map(|(key, it)| (*key, *it)).collect();
            entries.swap(1, 2);
            it.accounts = entries.into_iter().collect();
        }),
        changed(&|it| it.burned += 1),
        changed(&|it| it.lanes[1].executed.sequence += 1),
        changed(&|it| it.lanes[1].executed.digest = digest(1)),
        changed(&|it| it.lanes[1].committed.sequence += 1),
        changed(&|it| it.lanes[1].committed.digest = digest(1)),
        changed(&|it| it.lanes[1].quota_bytes += 1),
        changed(&|it| {
            apply(it, &network, &author(0).record(&network, b""), 1);
        }),
    ];
    let count = roots.len();
    roots.sort_unstable();
    roots.dedup();
    assert_eq!(roots.len(), count);
    assert_eq!(state.clone().root(), root);
}

/// The bytes of the accounts with these numbers.
fn page(state: &State, numbers: std::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, account) in state.accounts().skip(numbers.start).take(numbers.len()) {
        bytes.extend_from_slice(&key.0);
        bytes.extend_from_slice(&account.balance.to_le_bytes());
        bytes.extend_from_slice(&account.sequence.to_le_bytes());
        bytes.extend_from_slice(&account.head.0);
    }
    bytes
}

/// The root of the links, of fewer accounts than one leaf has.
fn links(state: &State) -> [u8; 32] {
    let keys: Vec<&PublicKey> = state.accounts().map(|(key, _)| key).collect();
    let mut bytes = Vec::new();
    for key in &keys {
        let next = keys.iter().filter(|other| *other > key).min().or(keys.iter().min());
        let next = keys.iter().position(|other| Some(&other) == next.as_ref()).unwrap();
        bytes.extend_from_slice(&u32::try_from(next).unwrap().to_le_bytes());
    }
    let leaf = blake3::derive_key("althing 2026 state links v1", &bytes);
    blake3::derive_key("althing 2026 merkle root v1", &[&[1, 0, 0, 0], &leaf[..]].concat())
}

fn leaf(page: &[u8]) -> [u8; 32] {
    blake3::derive_key("althing 2026 state page v1", page)
}

/// The state root over the top of the tree, with lanes that are still at their start.
fn root_over(state: &State, pages: u32, top: [u8; 32], burned: u64) -> Digest {
    let pages = [&pages.to_le_bytes()[..], &top].concat();
    let mut lanes = Vec::new();
    for _ in 0..4 {
        lanes.extend_from_slice(&[0; 2 * (8 + 32)]);
        lanes.extend_from_slice(&(16_u64 << 20).to_le_bytes());
    }
    let mut bytes = length_u64(state.accounts().len()).to_le_bytes().to_vec();
    bytes.extend_from_slice(&blake3::derive_key("althing 2026 merkle root v1", &pages));
    bytes.extend_from_slice(&links(state));
    bytes.extend_from_slice(&blake3::derive_key("althing 2026 state lanes v1", &lanes));
    bytes.extend_from_slice(&burned.to_le_bytes());
    let council = state.council().encode();
    bytes.extend_from_slice(&blake3::derive_key("althing 2026 council v1", &council));
    Digest(blake3::derive_key("althing 2026 state v4", &bytes))
}

#[test]
fn the_root_is_that_of_its_layout() {
    let (mut state, network) = setup();
    let expected = root_over(&state, 1, leaf(&page(&state, 0..5)), 0);
    assert_eq!((state.root(), state.update_root()), (expected, expected));
    let mut rich = author(0);
    for seed in 50..64 {
        let bytes = rich.transfer(&network, Author::new(seed).public(), 7);
        assert_eq!(apply(&mut state, &network, &bytes, 1), Outcome::Applied);
    }
    let leaves = [0..8, 8..16, 16..19].map(|numbers| leaf(&page(&state, numbers)));
    let node = |left: [u8; 32], right: [u8; 32]| {
        blake3::derive_key("althing 2026 merkle node v1", &[left, right].concat())
    };
    let top = node(node(leaves[0], leaves[1]), leaves[2]);
    let expected = root_over(&state, 3, top, state.burned());
    assert_eq!((state.root(), state.update_root()), (expected, expected));
    let proof = merkle::prove(&leaves.map(Digest), 2).unwrap();
    let root = merkle::root(&leaves.map(Digest));
    assert_eq!(proof.check(&Digest(leaf(&page(&state, 16..19))), &root), Ok(()));
}

/// One step of the model test.
#[derive(Clone, Debug)]
struct Step {
    author: u8,
    /// Added to the sequence that is due.
    ahead: i8,
    linked: bool,
    expired: bool,
    to: u8,
    amount: Option<u64>,
    body_bytes: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amount = prop_oneof![
        3 => (0_u64..3_000).prop_map(Some),
        1 => (0_u64..2 * BALANCE).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
        3 => Just(None),
    ];
    let ahead = prop_oneof![6 => Just(0), 1 => -2_i8..3];
    let linked = proptest::bool::weighted(0.9);
    let expired = proptest::bool::weighted(0.1);
    let step = (0_u8..8, ahead, linked, expired, 0_u8..8, amount, 0_usize..3_000);
    let step = step.prop_map(|(author, ahead, linked, expired, to, amount, body_bytes)| Step {
        author,
        ahead,
        linked,
        expired,
        to,
        amount,
        body_bytes,
    });
    proptest::collection::vec(step, 1..120)
}

/// The rules once more, over a plain list, in wide numbers.
#[derive(Default)]
struct Model {
    accounts: Vec<(PublicKey, i128, u64, Digest)>,
    burned: i128,
}

impl Model {
    fn find(&mut self, key: &PublicKey) -> Option<&mut (PublicKey, i128, u64, Digest)> {
        self.accounts.iter_mut().find(|account| account.0 == *key)
    }

    fn apply(&mut self, transaction: &Transaction<'_>, id: Digest, height: Height) -> Outcome {
        let fee = 10 + i128::try_from(transaction.bytes().len()).unwrap();
        let new = transaction.transfer().is_some_and(|transfer| self.find(&transfer.to).is_none());
        let deposit = if new { 1_000 } else { 0 };
        if height > transaction.valid_until() {
            return Outcome::Expired;
        }
        let Some(account) = self.find(&transaction.author()) else {
            return Outcome::Ahead;
        };
        if transaction.sequence() != account.2 {
            let stale = transaction.sequence() < account.2;
            return if stale { Outcome::Stale } else { Outcome::Ahead };
        }
        if transaction.previous() != account.3 {
            return Outcome::Forked;
        }
        (account.2, account.3) = (account.2 + 1, id);
        if account.1 < fee {
            let all = std::mem::take(&mut account.1);
            self.burned += all;
            return Outcome::Failed;
        }
        account.1 -= fee;
        if let Some(transfer) = transaction.transfer() {
            let amount = i128::from(transfer.amount);
            if account.1 < amount + deposit {
                self.burned += fee;
                return Outcome::Failed;
            }
            account.1 -= amount + deposit;
            match self.find(&transfer.to) {
                Some(receiver) => receiver.1 += amount,
                None => self.accounts.push((transfer.to, amount, 0, Digest::ZERO)),
            }
            self.burned += deposit;
        }
        self.burned += fee;
        Outcome::Applied
    }
}

fn encode(step: &Step, account: Option<&Account>, network: &Digest) -> Vec<u8> {
    let account = account.copied().unwrap_or_default();
    let body = match step.amount {
        Some(amount) => {
            let to = Author::new(100 + step.to).public();
            Transfer { to, amount }.encode().to_vec()
        }
        None => vec![0; step.body_bytes],
    };
    let draft = Draft {
        kind: if step.amount.is_some() { Kind::Transfer } else { Kind::Record },
        author: Author::new(100 + step.author).public(),
        sequence: account.sequence.saturating_add_signed(step.ahead.into()),
        previous: if step.linked { account.head } else { digest(0xbb) },
        valid_until: Height(if step.expired { 9 } else { 10 }),
        body: &body,
    };
    draft.sign(network, unsigned).unwrap().0
}

proptest! {
    #[test]
    fn the_state_is_that_of_the_naive_model(steps in steps()) {
        let (mut state, network) = setup();
        let mut model = Model::default();
        for (key, account) in state.accounts() {
            model.accounts.push((*key, account.balance.into(), 0, Digest::ZERO));
        }
        let supply = total(&state);
        for step in steps {
            let author = Author::new(100 + step.author).public();
            let bytes = encode(&step, state.account(&author), &network);
            let transaction = Transaction::decode(&bytes).unwrap();
            let id = transaction.id(&network);
            let expected = model.apply(&transaction, id, Height(10));
            prop_assert_eq!(state.apply(&transaction, &id, Height(10)), expected);
            prop_assert_eq!(total(&state), supply);
            prop_assert_eq!(i128::from(state.burned()), model.burned);
            // Each step alone, so that every account that it changed must be marked by it.
            prop_assert_eq!(state.update_root(), state.root());
        }
        prop_assert_eq!(state.accounts().len(), model.accounts.len());
        for (key, balance, sequence, head) in &model.accounts {
            let account = state.account(key).unwrap();
            prop_assert_eq!(i128::from(account.balance), *balance);
            prop_assert_eq!((account.sequence, account.head), (*sequence, *head));
        }
    }
}
