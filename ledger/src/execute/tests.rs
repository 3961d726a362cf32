//! Tests of execution: order, links, lag behind the quota, roots.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::digest::PublicKey;
use crate::genesis::Parameters;
use crate::history;
use crate::testing::{Author, Builder, Network, author, digest};

fn narrow() -> Network {
    let lane_quota_bytes = 512 * 1024;
    Network::with(Parameters { lane_quota_bytes, ..Parameters::default() })
}

/// Records that fill about 300 KiB.
fn large(author: &mut Author, network: &Digest) -> Vec<Vec<u8>> {
    (0..5).map(|_| author.record(network, &vec![1; 60_000])).collect()
}

fn decode(network: &Network, bytes: &[u8]) -> Batch<'static> {
    Batch::decode_owned(bytes.to_vec(), &network.digest()).unwrap()
}

/// The keys of the accounts that changed.
fn changed(builder: &Builder, executed: &Executed) -> BTreeSet<PublicKey> {
    assert!(executed.changed.is_sorted_by(|a, b| a < b), "ascending, each once");
    let table = builder.chain.state().table();
    executed.changed.iter().map(|number| *table.get(*number).0).collect()
}

#[test]
fn lanes_are_executed_in_rotation_and_batches_by_sequence() {
    let mut builder = Builder::new(&Network::new());
    let network = builder.network.digest();
    let mut authors: Vec<Author> = (0..5).map(author).collect();
    let mut ids = Vec::new();
    // Height 1 of 4 lanes starts with lane 1.
    for (author, lane) in authors.iter_mut().zip([1, 1, 2, 3, 0]) {
        builder.batch(lane, &[author.record(&network, b"one")]);
        ids.push(author.previous);
    }
    let (_, executed) = builder.block();
    let found: Vec<Digest> = executed.outcomes.iter().map(|(id, _)| *id).collect();
    assert_eq!(found, ids);
    assert!(executed.outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Applied));
    let lanes: Vec<(u32, u64, u64)> =
        executed.lanes.iter().map(|lane| (lane.lane, lane.first, lane.last)).collect();
    assert_eq!(lanes, [(1, 1, 2), (2, 1, 1), (3, 1, 1), (0, 1, 1)]);
    let first = &executed.lanes[0];
    assert_eq!((first.transactions, first.bytes, first.unpaid_bytes), (2, 2 * 159, 0));
    assert_eq!(changed(&builder, &executed), authors.iter().map(Author::public).collect());
    assert_eq!(builder.chain.tips(), builder.chain.executed_tips());
    assert!(!builder.chain.has_backlog());
}

#[test]
fn receivers_and_failures_are_among_the_changed() {
    let mut builder = Builder::new(&Network::new());
    let network = builder.network.digest();
    let (mut rich, mut poor) = (author(0), author(1));
    let new = Author::new(77).public();
    let transactions =
        [rich.transfer(&network, new, 1), poor.transfer(&network, author(2).public(), u64::MAX)];
    builder.batch(0, &transactions);
    builder.batch(1, &transactions);
    let (_, executed) = builder.block();
    let outcomes: Vec<Outcome> = executed.outcomes.iter().map(|(_, outcome)| *outcome).collect();
    let (applied, failed, stale) = (Outcome::Applied, Outcome::Failed, Outcome::Stale);
    assert_eq!(outcomes, [applied, failed, stale, stale]);
    assert_eq!(changed(&builder, &executed), [rich.public(), poor.public(), new].into());
    let unpaid: Vec<u64> = executed.lanes.iter().map(|lane| lane.unpaid_bytes).collect();
    assert_eq!(unpaid, [0, 2 * 196], "lane 1 was first at height 1");
}

#[test]
fn roots_grow_with_the_records() {
    let mut builder = Builder::new(&Network::new());
    let network = builder.network.digest();
    let genesis_roots = (builder.chain.history_root(), builder.chain.state_root());
    assert_eq!(genesis_roots.0, History::new().root());
    let (mut author, mut leaves, mut roots) = (author(0), Vec::new(), vec![genesis_roots]);
    for height in 1..=70 {
        if height % 3 == 0 {
            builder.batch(2, &[author.record(&network, b"x")]);
        }
        let before = builder.chain.state_root();
        let (stored, executed) = builder.block();
        let list = outcome::OutcomeList::decode(&stored.outcomes).unwrap();
        assert_eq!(list.root(), executed.record.outcomes_root);
        assert_eq!((list.height, list.cut), (executed.height, builder.chain.cut_digest()));
        leaves.push(executed.record.leaf());
        let checkpoint = height % 2 == 0;
        let after = if checkpoint { builder.chain.state().root() } else { before };
        assert_eq!(builder.chain.state_root(), after);
        assert_eq!(executed.history_root, builder.chain.history_root());
        roots.push((executed.history_root, after));
    }
    let proof = history::prove(&leaves, Height(33)).unwrap();
    assert_eq!(proof.check(&leaves[32], &builder.chain.history_root()), Ok(()));
    for (height, roots) in (0..).zip(roots) {
        let expected = (height >= 70 - EXECUTION_LAG_MAX).then_some(roots);
        assert_eq!(builder.chain.roots_at(Height(height)), expected, "height {height}");
    }
    assert_eq!(builder.chain.roots_at(Height(71)), None);
    assert_eq!(builder.chain.height(), Height(70));
    assert_eq!(builder.chain.network(), network);
}

#[test]
fn what_exceeds_the_quota_waits_for_the_next_cuts() {
    let mut builder = Builder::new(&narrow());
    let network = builder.network.digest();
    let (mut one, mut two) = (author(0), author(1));
    for _ in 0..3 {
        let transactions = large(&mut one, &network);
        builder.batch(0, &transactions);
    }
    let small = two.record(&network, b"small");
    builder.batch(3, &[small]);
    let mut executed = Vec::new();
    for left in (0..3).rev() {
        let (stored, done) = builder.block();
        assert_eq!(stored.batches.len(), if left == 2 { 4 } else { 0 }, "committed once");
        executed.push(done.lanes.iter().map(|lane| (lane.lane, lane.last)).collect::<Vec<_>>());
        assert_eq!(builder.chain.tips().get(0).unwrap().sequence, 3);
        assert_eq!(builder.chain.executed_tips().get(0).unwrap().sequence, 3 - left);
        assert_eq!(builder.chain.has_backlog(), left > 0);
    }
    assert_eq!(executed, [vec![(3, 1), (0, 1)], vec![(0, 2)], vec![(0, 3)]]);
    assert!(builder.block().1.outcomes.is_empty());
}

#[test]
fn junk_halves_the_quota_and_honest_work_restores_it() {
    let done = |bytes, unpaid_bytes| ExecutedLane {
        lane: 0,
        first: 1,
        last: 1,
        transactions: 1,
        bytes,
        unpaid_bytes,
    };
    let most = 16 << 20;
    let least = length_u64(BATCH_BODY_BYTES_MAX);
    assert_eq!(next_quota(most, most, &done(1_000, 250)), most);
    assert_eq!(next_quota(most, most, &done(1_000, 251)), most / 2);
    assert_eq!(next_quota(most / 2, most, &done(1_000, 0)), most);
    assert_eq!(next_quota(most / 4, most, &done(1_000, 0)), most / 2);
    assert_eq!(next_quota(least, most, &done(1_000, 1_000)), least);
    assert_eq!(next_quota(least + 1, most, &done(1_000, 1_000)), least);
    let largest = length_u64(crate::limits::LANE_QUOTA_BYTES_MAX);
    assert_eq!(next_quota(largest, largest, &done(largest, largest)), largest / 2);
}

#[test]
fn only_the_lane_that_carried_junk_loses_quota() {
    let mut builder = Builder::new(&Network::new());
    let network = builder.network.digest();
    let most = builder.chain.state().parameters().lane_quota_bytes;
    let quotas = |builder: &Builder| -> Vec<u64> {
        builder.chain.state().lanes().iter().map(|lane| lane.quota_bytes).collect()
    };
    let junk = Author::new(77).record(&network, b"nobody's");
    builder.batch(2, &[junk.clone(), author(0).record(&network, b"paid")]);
    builder.batch(1, &[author(1).record(&network, b"paid")]);
    builder.block();
    assert_eq!(quotas(&builder), [most, most, most / 2, most]);
    builder.block();
    assert_eq!(quotas(&builder), [most, most, most / 2, most], "an idle lane keeps its quota");
    builder.batch(2, &[junk]);
    builder.block();
    assert_eq!(quotas(&builder)[2], most / 4);
    builder.batch(2, &[author(2).record(&network, b"paid")]);
    builder.block();
    assert_eq!(quotas(&builder)[2], most / 2);
}

#[test]
fn a_refused_cut_changes_nothing() {
    let mut builder = Builder::new(&Network::new());
    let network = builder.network.clone();
    let mut author = author(0);
    let tip = builder.tip(0);
    let first = builder.batch(0, &[author.record(&network.digest(), b"one")]);
    let second = builder.batch(0, &[author.record(&network.digest(), b"two")]);
    let (other, _) = network.seal(0, &tip, &[author.record(&network.digest(), b"other")]);
    let cut = builder.cut();
    let batch = |bytes: &[u8]| decode(&network, bytes);
    let mut chain = builder.chain.clone();
    let before = (chain.state().root(), chain.history_root(), chain.height());
    let mut refused = |change: &dyn Fn(&mut Cut), lanes: [&[&[u8]]; 4]| {
        let mut cut = cut.clone();
        change(&mut cut);
        let lanes = lanes.map(|lane| lane.iter().map(|bytes| batch(bytes)).collect::<Vec<_>>());
        let reject = chain.execute(&cut, &cut.digest(), &lanes).unwrap_err();
        assert_eq!((chain.state().root(), chain.history_root(), chain.height()), before);
        reject
    };
    let good: [&[&[u8]]; 4] = [&[&first, &second], &[], &[], &[]];
    assert_eq!(refused(&|cut| cut.network = digest(0), good), Reject::WrongNetwork);
    assert_eq!(refused(&|cut| cut.epoch = 1, good), Reject::WrongEpoch);
    assert_eq!(refused(&|cut| cut.height = Height(2), good), Reject::WrongHeight);
    assert_eq!(refused(&|cut| cut.parent = digest(0), good), Reject::WrongParent);
    assert_eq!(refused(&|cut| cut.lanes[0].lane = 4, good), Reject::UnknownValidator);
    assert_eq!(refused(&|cut| cut.lanes[0].sequence = 0, good), Reject::TipNotAdvanced);
    let none = |_: &mut Cut| {};
    assert_eq!(refused(&none, [&[&first], &[], &[], &[]]), Reject::BatchMissing);
    assert_eq!(refused(&none, [&[&second], &[], &[], &[]]), Reject::BatchMissing);
    assert_eq!(refused(&none, [&[&first, &second], &[&first], &[], &[]]), Reject::BatchMissing);
    assert_eq!(refused(&none, [&[&second, &first], &[], &[], &[]]), Reject::BatchUnlinked);
    assert_eq!(refused(&none, [&[&first, &first], &[], &[], &[]]), Reject::BatchUnlinked);
    assert_eq!(refused(&none, [&[&other, &second], &[], &[], &[]]), Reject::BatchUnlinked);
    let certified = |cut: &mut Cut| cut.lanes[0].sequence = 1;
    assert_eq!(refused(&certified, [&[&other], &[], &[], &[]]), Reject::BatchUnlinked);
    let moved = |cut: &mut Cut| cut.lanes[0].lane = 1;
    assert_eq!(refused(&moved, [&[], &[&first, &second], &[], &[]]), Reject::BatchUnlinked);
    let lanes = good.map(|lane| lane.iter().map(|bytes| batch(bytes)).collect::<Vec<_>>());
    assert!(chain.execute(&cut, &cut.digest(), &lanes).is_ok());
}

#[test]
fn batches_may_be_owned_lent_or_shared() {
    let mut builder = Builder::new(&Network::new());
    let network = builder.network.clone();
    let bytes = builder.batch(0, &[author(0).record(&network.digest(), b"one")]);
    let (cut, batch) = (builder.cut(), decode(&network, &bytes));
    let (mut lent, mut shared) = (builder.chain.clone(), builder.chain.clone());
    let one = lent.execute(&cut, &cut.digest(), &[vec![&batch], vec![], vec![], vec![]]);
    let batch = Arc::new(batch);
    let two = shared.execute(&cut, &cut.digest(), &[vec![batch], vec![], vec![], vec![]]);
    assert_eq!(one, two);
    assert_eq!(one.unwrap().outcomes.len(), 1);
}

/// A chain, its next cut and that cut's batches.
fn next_cut() -> (Chain, Cut, [Vec<Batch<'static>>; 4]) {
    let mut builder = Builder::new(&Network::new());
    let network = builder.network.clone();
    builder.block();
    let mut author = author(0);
    let transactions = [
        author.record(&network.digest(), b"one"),
        author.transfer(&network.digest(), Author::new(77).public(), 5),
    ];
    let bytes = builder.batch(2, &transactions);
    let batches = [vec![], vec![], vec![decode(&network, &bytes)], vec![]];
    (builder.chain.clone(), builder.cut(), batches)
}

#[test]
fn applying_changes_accounts_and_sealing_the_roots() {
    let (mut one, cut, batches) = next_cut();
    let (before, mut two) = (one.clone(), one.clone());
    let unsealed = two.apply(&cut, &cut.digest(), &batches).unwrap();
    assert_eq!(two.executed_tips().get(2).unwrap().sequence, 1);
    assert_eq!(two.state().table().len(), before.state().table().len() + 1);
    assert_ne!(two.state().root(), before.state().root());
    let unchanged = |chain: &Chain| (chain.height(), chain.cut_digest(), chain.history_root());
    assert_eq!((unchanged(&two), two.state_root()), (unchanged(&before), before.state_root()));
    let executed = two.seal(unsealed);
    assert_eq!(executed, one.execute(&cut, &cut.digest(), &batches).unwrap());
    assert_eq!((unchanged(&two), two.state_root()), (unchanged(&one), one.state_root()));
    assert_eq!(two.state_root(), two.state().root(), "height 2 is a checkpoint height");
    assert_eq!(two.checkpoint(), one.checkpoint());
    assert_eq!(two.roots_at(Height(2)), Some((two.history_root(), two.state_root())));
}

#[test]
#[should_panic(expected = "each cut is sealed before the next")]
fn a_chain_applies_nothing_on_top_of_what_is_not_sealed() {
    let (mut chain, cut, batches) = next_cut();
    let _unsealed = chain.apply(&cut, &cut.digest(), &batches).unwrap();
    let _ = chain.apply(&cut, &cut.digest(), &batches);
}

#[test]
#[should_panic(expected = "a chain seals what it applied")]
fn a_chain_seals_nothing_of_another() {
    let (mut chain, cut, batches) = next_cut();
    let mut other = chain.clone();
    let unsealed = chain.apply(&cut, &cut.digest(), &batches).unwrap();
    other.seal(unsealed);
}

#[test]
#[should_panic(expected = "a checkpoint is of a height")]
fn a_height_that_is_not_sealed_has_no_checkpoint() {
    let (mut chain, cut, batches) = next_cut();
    let _unsealed = chain.apply(&cut, &cut.digest(), &batches).unwrap();
    chain.checkpoint();
}
