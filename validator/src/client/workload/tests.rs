//! Checks of what a workload makes of a seed.

use super::*;
use crate::client::author::{Link, secret};
use ledger::Transaction;
use std::collections::{BTreeMap, BTreeSet};

const NETWORK: Digest = Digest([3; 32]);
/// Transactions whose shares are counted.
const COUNT: usize = 10_000;
/// One in a hundred of all: more than four standard deviations of any share.
const TOLERANCE: usize = COUNT / 50;

struct Authors {
    secrets: Vec<Secret>,
    publics: Vec<PublicKey>,
}

impl Authors {
    fn new(count: u32) -> Self {
        let secrets: Vec<Secret> = (0..count).map(|index| secret(5, index)).collect();
        let publics = secrets.iter().map(Secret::public).collect();
        Self { secrets, publics }
    }

    fn writer(&self, place: usize) -> Writer<'_> {
        Writer { secret: &self.secrets[place], place, authors: &self.publics }
    }

    /// The first transactions of these authors in turn.
    fn write(&self, workload: &Workload, count: usize) -> Vec<Made> {
        let mut turns = vec![Turn::FIRST; self.secrets.len()];
        (0..count)
            .map(|number| {
                let place = number % self.secrets.len();
                let made = workload.sign(&NETWORK, &self.writer(place), turns[place]);
                turns[place] = match made.class.treatment {
                    Treatment::Invalid => turns[place].again(),
                    Treatment::Plain | Treatment::Duplicate => turns[place].after(made.id),
                };
                made
            })
            .collect()
    }
}

fn is_valid(made: &Made) -> bool {
    let transaction = Transaction::decode(&made.bytes).unwrap();
    assert_eq!(transaction.id(&NETWORK), made.id);
    let message = ledger::signing_message(&made.id);
    let signature = transaction.signature_bytes();
    let item = sigverify::Item { key: transaction.author_bytes(), message: &message, signature };
    sigverify::verify_one(&item).is_valid()
}

fn parsed(text: &str) -> Workload {
    let mix = parse(&format!("version = 1\nname = \"x\"\n{text}")).unwrap();
    Workload { seed: 5, mix }
}

#[test]
fn a_chain_is_signed_and_linked_and_of_the_right_size() {
    let workload = Workload::plain(5, 512, 0);
    let authors = Authors::new(2);
    let mut turn = Turn::FIRST;
    for sequence in 0..3 {
        let made = workload.sign(&NETWORK, &authors.writer(0), turn);
        assert_eq!(made, workload.sign(&NETWORK, &authors.writer(0), turn));
        let transaction = Transaction::decode(&made.bytes).unwrap();
        assert_eq!(made.bytes.len(), 512);
        assert_eq!(transaction.sequence(), sequence);
        assert_eq!(transaction.previous(), turn.link.previous);
        assert!(is_valid(&made));
        turn = turn.after(made.id);
    }
    let other = Workload { seed: 6, ..workload.clone() };
    let made = |workload: &Workload| workload.sign(&NETWORK, &authors.writer(0), Turn::FIRST);
    assert_ne!(made(&workload), made(&other));
}

fn near(found: usize, percent: usize) -> bool {
    found.abs_diff(COUNT * percent / 100) <= TOLERANCE
}

#[test]
fn shares_are_reached_within_the_tolerance() {
    let workload = parsed(
        "[records]\nbytes = [160, 200, 900]\npercent = [50, 30, 20]\n\
         [transfers]\npercent = 40\nhot_percent = 50\nhot_receivers = 2\nnew_percent = 25\n\
         [hostile]\ninvalid_percent = 30\nduplicate_percent = 10\n",
    );
    let authors = Authors::new(16);
    let all = authors.write(&workload, COUNT);
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    let mut receivers: BTreeMap<PublicKey, usize> = BTreeMap::new();
    let (mut contents, mut treatments) = ([0; 4], [0; 3]);
    for made in &all {
        contents[made.class.content as usize] += 1;
        treatments[made.class.treatment as usize] += 1;
        let transaction = Transaction::decode(&made.bytes).unwrap();
        match transaction.transfer() {
            None => {
                assert_eq!(made.class.content, Content::Record);
                *sizes.entry(made.bytes.len()).or_default() += 1;
            }
            Some(transfer) => {
                assert_ne!(made.class.content, Content::Record);
                let known = authors.publics.contains(&transfer.to);
                assert_eq!(known, made.class.content != Content::TransferToNew);
                if made.class.content == Content::TransferToHot {
                    *receivers.entry(transfer.to).or_default() += 1;
                }
            }
        }
    }
    let expected_contents = [60, 10, 20, 10];
    let expected_treatments = [60, 30, 10];
    for (found, percent) in contents.iter().zip(expected_contents) {
        assert!(near(*found, percent), "{percent}% of the contents: {contents:?}");
    }
    for (found, percent) in treatments.iter().zip(expected_treatments) {
        assert!(near(*found, percent), "{percent}% of the treatments: {treatments:?}");
    }
    for (bytes, percent) in [(160, 30), (200, 18), (900, 12)] {
        assert!(near(sizes[&bytes], percent), "{bytes} bytes: {sizes:?}");
    }
    assert_eq!(receivers.len(), 2);
    assert!(receivers.values().all(|count| near(*count, 10)), "{receivers:?}");
    assert!(receivers.keys().all(|key| authors.publics[14..].contains(key)));
}

#[test]
fn only_a_wrong_signature_does_not_hold_and_it_shares_no_id() {
    let workload = parsed("[records]\nbytes = [160]\n[hostile]\ninvalid_percent = 50\n");
    let all = Authors::new(3).write(&workload, 400);
    let ids: BTreeSet<Digest> = all.iter().map(|made| made.id).collect();
    assert_eq!(ids.len(), all.len());
    for made in &all {
        assert_eq!(is_valid(made), made.class.treatment != Treatment::Invalid);
    }
    // The author goes on from its last transaction that was taken.
    let sequences: Vec<u64> = all
        .iter()
        .step_by(3)
        .map(|made| Transaction::decode(&made.bytes).unwrap().sequence())
        .collect();
    assert!(sequences.is_sorted() && sequences[133] < 100 && sequences[133] > 40, "{sequences:?}");
}

#[test]
fn every_wrong_bit_is_found_by_the_signature_check_alone() {
    let made = Workload::plain(5, 160, 0).sign(&NETWORK, &Authors::new(1).writer(0), Turn::FIRST);
    for lot in [0, 1 << 20, u32::MAX / 2, u32::MAX] {
        let mut wrong = made.clone();
        flip(&mut wrong.bytes, lot);
        let (signature, rest) = (made.bytes.len() - 64, wrong.bytes.len() - 64);
        assert_eq!(made.bytes[..signature + SCALAR], wrong.bytes[..rest + SCALAR]);
        let bits: u32 = made
            .bytes
            .iter()
            .zip(&wrong.bytes)
            .map(|(one, other)| (one ^ other).count_ones())
            .sum();
        assert_eq!(bits, 1);
        assert!(!is_valid(&wrong));
    }
}

#[test]
fn new_receivers_are_new_each_time() {
    let workload = parsed("[transfers]\npercent = 100\nnew_percent = 100\n");
    let all = Authors::new(4).write(&workload, 400);
    let transfers = all.iter().map(|made| Transaction::decode(&made.bytes).unwrap().transfer());
    let receivers: BTreeSet<PublicKey> = transfers.map(|transfer| transfer.unwrap().to).collect();
    assert_eq!(receivers.len(), 400);
}

#[test]
fn what_cannot_be_offered_is_refused() {
    let most = ledger::limits::TRANSACTION_BYTES_MAX;
    let hot = parsed("[transfers]\npercent = 100\nhot_percent = 10\nhot_receivers = 8\n");
    assert_eq!(hot.check(8, 1, most), Ok(()));
    assert!(hot.check(7, 1, most).unwrap_err().contains("8 hot receivers"));
    let two = parsed("[records]\nbytes = [200]\n[hostile]\nduplicate_percent = 1\n");
    assert_eq!(two.check(1, 2, most), Ok(()));
    assert!(two.check(1, 1, most).unwrap_err().contains("two validators"));
    let few = parsed(
        "[records]\nbytes = [1185]\n[authors]\nhot_percent = 1\nhot_transactions_percent = 50\n",
    );
    assert_eq!(few.check(2, 1, most), Ok(()));
    assert!(few.check(1, 1, most).unwrap_err().contains("too few"));
    assert!(few.check(2, 1, 1_184).unwrap_err().contains("156 to 1184 bytes, not 1185"));
    assert_eq!((few.hot_authors(2), few.hot_authors(1_000)), (1, 10));
}

#[test]
fn means_and_limits_count_transfers_too() {
    let workload =
        parsed("[records]\nbytes = [200, 600]\npercent = [75, 25]\n[transfers]\npercent = 50\n");
    assert_eq!(workload.mix.bytes_max(), 600);
    assert_eq!(workload.mix.record_bytes_mean(), 300);
    assert!((workload.mix.bytes_mean() - 248.0).abs() < 1e-9);
    assert_eq!(parsed("[transfers]\npercent = 100\n").mix.bytes_max(), 196);
    // A link that a chain has after its first is another transaction.
    let link = Link::FIRST.after(Digest([9; 32]));
    assert_eq!(Turn::FIRST.again().after(Digest([9; 32])), Turn::at(link));
}
