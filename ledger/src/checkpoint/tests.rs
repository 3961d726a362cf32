//! Tests of checkpoints: layout, every reason to refuse, and that a restored chain goes on as the old one.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::digest::PublicKey;
use crate::execute::{Chain, Executed};
use crate::genesis::Parameters;
use crate::limits::{ACCOUNT_BYTES, CHECKPOINT_HEADER_BYTES, COUNCIL_BYTES_MAX, LANE_BYTES};
use crate::state::{Account, State};
use crate::testing::{AUTHORS, Author, BALANCE, Builder, Network, Stored, author, digest, golden};

/// Bytes of the genesis council of four and of the length of its epochs.
const COUNCIL: usize = 8 + (4 + 4 * 33 + 40) + 1 + 4 + 4;

type Entries = Vec<(PublicKey, Account)>;

fn entries(chain: &Chain) -> Entries {
    chain.state().accounts().map(|(key, account)| (*key, *account)).collect()
}

/// A ledger with new accounts, failures, and a lane whose batches wait for their turn.
fn builder(blocks: u8) -> Builder {
    let parameters = Parameters {
        checkpoint_interval: 2,
        lane_quota_bytes: 512 * 1024,
        ..Parameters::default()
    };
    let mut builder = Builder::new(&Network::with(parameters));
    let mut authors = [author(0), author(1), author(2)];
    for number in 0..blocks {
        go_on(&mut builder, &mut authors, number);
    }
    builder
}

fn go_on(builder: &mut Builder, authors: &mut [Author; 3], number: u8) -> (Stored, Executed) {
    let network = builder.network.digest();
    let [giver, writer, poor] = authors;
    let given = (0..3).map(|place| {
        let to = Author::new(150_u8.wrapping_add(3 * number + place)).public();
        giver.transfer(&network, to, 500)
    });
    let given: Vec<Vec<u8>> = given.collect();
    builder.batch(0, &given);
    if number.is_multiple_of(3) {
        for _ in 0..3 {
            let large: Vec<Vec<u8>> =
                (0..5).map(|_| writer.record(&network, &vec![number; 60_000])).collect();
            builder.batch(1, &large);
        }
    }
    builder.batch(3, &[poor.transfer(&network, giver.public(), u64::MAX)]);
    builder.block()
}

fn sample() -> (Builder, Checkpoint) {
    let builder = builder(4);
    let checkpoint = builder.chain.checkpoint().unwrap();
    (builder, checkpoint)
}

fn read(bytes: &[u8]) -> Result<(Vec<u8>, Digest), Reject> {
    let checkpoint = Checkpoint::decode(bytes)?;
    // A checkpoint has no digest of its own, its file has.
    let digest = blake3::hash(format!("{checkpoint:?}").as_bytes());
    Ok((checkpoint.encode(), Digest(*digest.as_bytes())))
}

#[test]
fn the_golden_sample_holds() {
    golden("checkpoint", &sample().1.encode(), read);
}

#[test]
fn it_says_what_the_chain_is() {
    let (builder, checkpoint) = sample();
    let chain = &builder.chain;
    assert_eq!((checkpoint.network(), checkpoint.epoch()), (builder.network.digest(), 0));
    assert_eq!((checkpoint.height(), checkpoint.cut_digest()), (Height(4), chain.cut_digest()));
    assert_eq!(checkpoint.accounts(), u64::from(AUTHORS) + 4 * 3);
    assert_eq!(checkpoint.history_root(), chain.history_root());
    assert_eq!(checkpoint.state_root(), chain.state_root());
    assert!(chain.has_backlog(), "the sample's tips differ");
    let bytes = checkpoint.encode();
    // Height 4 has one peak, and with genesis the roots of five heights.
    assert_eq!(bytes.len(), CHECKPOINT_HEADER_BYTES + 4 * LANE_BYTES + 32 + 5 * 64 + COUNCIL);
    assert_eq!(Checkpoint::decode(&bytes), Ok(checkpoint));
}

#[test]
fn only_checkpoint_heights_have_one() {
    let mut builder = Builder::new(&Network::new());
    for height in 0..6 {
        assert_eq!(builder.chain.height(), Height(height));
        let expected = height > 0 && height.is_multiple_of(2);
        assert_eq!(builder.chain.checkpoint().is_some(), expected, "height {height}");
        builder.block();
    }
}

#[test]
fn a_restored_chain_goes_on_as_the_old_one() {
    // Also past the heights whose roots are kept.
    for blocks in [2, 4, 64, 70] {
        let mut one = builder(0);
        let mut authors = [author(0), author(1), author(2)];
        for number in 0..blocks {
            go_on(&mut one, &mut authors, number);
        }
        let bytes = one.chain.checkpoint().unwrap().encode();
        let checkpoint = Checkpoint::decode(&bytes).unwrap();
        let genesis = &one.network.genesis;
        let chain = Chain::restore(genesis, checkpoint, entries(&one.chain)).unwrap();
        let mut two = one.clone();
        two.chain = chain;
        for number in blocks..blocks + 5 {
            same(&one.chain, &two.chain);
            let mut others = authors.clone();
            let executed =
                [(&mut one, &mut authors), (&mut two, &mut others)].map(|(it, authors)| {
                    let (stored, executed) = go_on(it, authors, number);
                    (stored.cut, stored.outcomes, executed)
                });
            assert_eq!(executed[0], executed[1], "block {number} after {blocks}");
        }
        same(&one.chain, &two.chain);
    }
}

fn same(one: &Chain, two: &Chain) {
    assert_eq!((one.height(), one.network()), (two.height(), two.network()));
    assert_eq!(one.cut_digest(), two.cut_digest());
    assert_eq!((one.tips(), one.executed_tips()), (two.tips(), two.executed_tips()));
    assert_eq!((one.state_root(), one.history_root()), (two.state_root(), two.history_root()));
    assert_eq!(one.checkpoint(), two.checkpoint());
    assert_eq!(one.state().root(), two.state().root());
    assert_eq!(entries(one), entries(two), "the numbers are the same, too");
    for height in 0..=one.height().0 + 1 {
        assert_eq!(one.roots_at(Height(height)), two.roots_at(Height(height)));
    }
}

/// A council with another base fee.
fn other_rates(council: &Council) -> Council {
    let mut bytes = council.encode();
    bytes[4 + 4 * 33] ^= 1;
    Council::read(&mut Reader::new(&bytes), council.epochs(), council.epoch()).unwrap()
}

#[test]
fn what_does_not_belong_together_is_not_restored() {
    let (builder, checkpoint) = sample();
    let genesis = &builder.network.genesis;
    let refused = |change: &dyn Fn(&mut Checkpoint, &mut Entries)| {
        let (mut checkpoint, mut entries) = (checkpoint.clone(), entries(&builder.chain));
        change(&mut checkpoint, &mut entries);
        Chain::restore(genesis, checkpoint, entries).map(|_| ()).unwrap_err()
    };
    assert_eq!(refused(&|it, _| it.network = digest(1)), Reject::WrongNetwork);
    assert_eq!(refused(&|it, _| it.epoch = 1), Reject::WrongEpoch);
    assert_eq!(refused(&|it, _| it.height = Height(5)), Reject::WrongHeight);
    assert_eq!(refused(&|it, _| it.lanes.truncate(3)), Reject::CountMismatch);
    assert_eq!(refused(&|it, _| it.lanes[2].quota_bytes += 1), Reject::LaneState);
    assert_eq!(refused(&|it, _| it.accounts -= 1), Reject::CountMismatch);
    assert_eq!(refused(&|_, entries| entries.truncate(16)), Reject::CountMismatch);
    assert_eq!(refused(&|it, _| it.council = other_rates(&it.council)), Reject::RootMismatch);
    assert_eq!(refused(&|it, _| it.burned += 1), Reject::SupplyMismatch);
    assert_eq!(refused(&|it, _| it.burned = u64::MAX), Reject::SupplyMismatch);
    assert_eq!(refused(&|_, entries| entries[3].1.balance -= 1), Reject::SupplyMismatch);
    assert_eq!(refused(&|_, entries| entries[9].0 = entries[2].0), Reject::AccountRepeated);
    assert_eq!(refused(&|_, entries| entries.swap(8, 9)), Reject::RootMismatch);
    assert_eq!(refused(&|_, entries| entries[8].0.0[31] ^= 1), Reject::RootMismatch);
    assert_eq!(refused(&|_, entries| entries[16].1.sequence += 1), Reject::RootMismatch);
    assert_eq!(refused(&|_, entries| entries[0].1.head.0[0] ^= 1), Reject::RootMismatch);
    assert_eq!(refused(&|it, _| it.lanes[2].quota_bytes -= 1), Reject::RootMismatch);
    assert_eq!(refused(&|it, _| it.lanes[3].executed.digest = digest(1)), Reject::RootMismatch);
    assert_eq!(refused(&|it, _| it.roots[4].1 = digest(1)), Reject::RootMismatch);
    let moved = |it: &mut Checkpoint, entries: &mut Entries| {
        it.burned -= 1;
        entries[5].1.balance += 1;
    };
    assert_eq!(refused(&moved), Reject::RootMismatch);
    assert!(Chain::restore(genesis, checkpoint, entries(&builder.chain)).is_ok());
}

#[test]
fn broken_bytes_are_refused_with_their_reason() {
    let bytes = sample().1.encode();
    let refused = |offset: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        Checkpoint::decode(&bytes).unwrap_err()
    };
    assert_eq!(refused(0, &[1]), Reject::UnknownVersion);
    assert_eq!(refused(3, &[1]), Reject::ReservedNotZero);
    assert_eq!(refused(4, &[101]), Reject::CountMismatch);
    assert_eq!(refused(4, &[5]), Reject::LaneState, "a peak is no lane");
    assert_eq!(refused(48, &[0]), Reject::WrongHeight);
    assert_eq!(refused(48, &[255; 8]), Reject::WrongHeight);
    assert_eq!(refused(48, &[8]), Reject::Truncated, "the roots of nine heights");
    assert_eq!(refused(88, &[0, 0, 0, 0, 1]), Reject::CountMismatch);
    let [lane, idle] = [CHECKPOINT_HEADER_BYTES, CHECKPOINT_HEADER_BYTES + 2 * LANE_BYTES];
    assert_eq!(refused(lane, &[0]), Reject::LaneState, "no batch has a digest");
    assert_eq!(refused(lane, &[5]), Reject::LaneState, "executed beyond what is committed");
    assert_eq!(refused(lane + 8, &[1; 32]), Reject::LaneState, "two batches of one number");
    assert_eq!(refused(lane + 40, &[3]), Reject::LaneState, "executed beyond what is committed");
    assert_eq!(refused(idle, &[1]), Reject::LaneState);
    assert_eq!(refused(idle + 8, &[1]), Reject::LaneState);
    assert_eq!(refused(idle + 40, &[1]), Reject::LaneState, "a batch has a digest");
    assert_eq!(refused(idle + 80, &[255, 255, 7]), Reject::LaneState, "below one batch");
    assert_eq!(refused(idle + 80, &[1, 0, 0, 4]), Reject::LaneState, "above 64 MiB");
    let peak = CHECKPOINT_HEADER_BYTES + 4 * LANE_BYTES;
    assert_eq!(refused(peak, &[0; 32]), Reject::RootMismatch);
    let council = bytes.len() - COUNCIL;
    assert_eq!(refused(council - 64, &[0; 32]), Reject::RootMismatch);
    assert_eq!(refused(council, &[127, 0]), Reject::WrongEpoch, "too short");
    assert_eq!(refused(council + 8, &[101]), Reject::ValidatorOrder);
    assert_eq!(refused(council + 12, &[255]), Reject::ValidatorOrder);
    assert_eq!(refused(council + 12 + 32, &[2]), Reject::BallotBody);
    assert_eq!(refused(bytes.len() - 9, &[2]), Reject::BallotBody, "one council follows at most");
    assert_eq!(refused(bytes.len() - 8, &[145, 1]), Reject::CountMismatch);
    assert_eq!(refused(bytes.len() - 4, &[145, 1]), Reject::CountMismatch);
    let longer = vec![1; CHECKPOINT_BYTES_MAX + 1];
    assert_eq!(Checkpoint::decode(&longer), Err(Reject::TooLong));
}

#[test]
fn the_largest_checkpoint_fits() {
    let (_, mut checkpoint) = sample();
    let count = u64::MAX - 1;
    checkpoint.height = Height(count);
    checkpoint.history = History::of_peaks(count, vec![digest(1); 63]);
    checkpoint.lanes = vec![checkpoint.lanes[2]; VALIDATORS_MAX];
    checkpoint.roots = vec![(checkpoint.history.root(), digest(2)); 65];
    let bytes = checkpoint.encode();
    assert_eq!(bytes.len() + 32 + COUNCIL_BYTES_MAX - COUNCIL, CHECKPOINT_BYTES_MAX);
    assert_eq!(Checkpoint::decode(&bytes), Ok(checkpoint));
}

#[test]
fn an_account_is_written_as_it_stands_in_a_page() {
    let account = Account { balance: 0x0102, sequence: 0x0304, head: digest(7) };
    let bytes = account.encode(&PublicKey([5; 32]));
    let mut expected = [0; ACCOUNT_BYTES];
    expected[..32].fill(5);
    expected[32..34].copy_from_slice(&[2, 1]);
    expected[40..42].copy_from_slice(&[4, 3]);
    expected[48..].fill(7);
    assert_eq!(bytes, expected);
}

proptest! {
    #[test]
    fn any_account_comes_back(key: [u8; 32], balance: u64, sequence: u64, head: [u8; 32]) {
        let (key, account) = (PublicKey(key), Account { balance, sequence, head: Digest(head) });
        prop_assert_eq!(Account::decode(&account.encode(&key)), (key, account));
    }

    #[test]
    fn any_changed_bytes_are_refused_or_come_back(
        changes in proptest::collection::vec((0_usize..900, any::<u8>()), 0..4),
        length in 0_usize..1_600,
    ) {
        let sample = include_str!("../../golden/checkpoint.hex").replace('\n', "");
        let mut bytes = hex::decode(sample).unwrap();
        for (place, value) in changes {
            let length = bytes.len();
            bytes[place % length] = value;
        }
        bytes.truncate(length);
        if let Ok((again, _)) = read(&bytes) {
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
#[ignore = "it measures: run it in release, with --nocapture"]
fn measures_restoring_ten_million_accounts() {
    const ACCOUNTS: u32 = 10_000_000;
    let (builder, mut checkpoint) = sample();
    let genesis = &builder.network.genesis;
    let account = |number: u32| {
        let key = PublicKey(*blake3::hash(&number.to_le_bytes()).as_bytes());
        (key, Account { sequence: number.into(), head: Digest(key.0), ..Account::default() })
    };
    let mut accounts: Entries = (0..ACCOUNTS).map(account).collect();
    checkpoint.accounts = ACCOUNTS.into();
    accounts[77].1.balance = u64::from(AUTHORS) * BALANCE - checkpoint.burned;
    let (lanes, burned) = (checkpoint.lanes.clone(), checkpoint.burned);
    let council = checkpoint.council.clone();
    let mut state = State::restore(genesis, council, accounts.clone(), lanes, burned).unwrap();
    checkpoint.roots[4].1 = state.update_root();
    drop(state);
    let start = Instant::now();
    let chain = Chain::restore(genesis, checkpoint, accounts).unwrap();
    println!("restored: {:?}", start.elapsed());
    let start = Instant::now();
    let mapped = chain.state().table().map(|_, account| account.sequence);
    println!("mapped to another value: {:?}", start.elapsed());
    assert_eq!(mapped.len(), chain.state().table().len());
    let mut bytes = Vec::with_capacity(ACCOUNT_BYTES * mapped.len());
    let start = Instant::now();
    for (key, account) in chain.state().accounts() {
        bytes.extend_from_slice(&account.encode(key));
    }
    println!("written, {} bytes: {:?}", bytes.len(), start.elapsed());
}
