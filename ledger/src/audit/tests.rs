//! Tests of the audit: good ledgers pass, and every kind of tampering is named.

use super::*;
use crate::batch::{HEADER_BYTES, batch_signing_message};
use crate::digest::View;
use crate::genesis::Parameters;
use crate::set::Bitmap;
use crate::testing::{Author, Builder, Dalek, Network, Stored, author, digest, sign};

fn parts<'a>(stored: &'a Stored, batches: &'a [&'a [u8]]) -> AuditBlock<'a> {
    AuditBlock {
        cut: &stored.cut,
        certificate: stored.certificate.as_deref(),
        outcomes: &stored.outcomes,
        batches,
        set: stored.set.as_deref(),
    }
}

fn check(auditor: &mut Auditor<'_>, stored: &Stored) -> Result<BlockSummary, Finding> {
    let batches: Vec<&[u8]> = stored.batches.iter().map(Vec::as_slice).collect();
    auditor.block(&parts(stored, &batches))
}

fn replay(network: &Network, ledger: &[Stored]) -> Result<Summary, Finding> {
    let mut auditor = Auditor::new(&network.genesis, &Dalek);
    for stored in ledger {
        check(&mut auditor, stored)?;
    }
    auditor.finish()
}

/// Every author makes a record and a transfer in each of the lanes but the last.
fn fill(builder: &mut Builder, authors: &mut [Author]) {
    let network = builder.network.digest();
    for (lane, author) in (0..3).zip(authors) {
        let record = author.record(&network, b"some record");
        let transfer = author.transfer(&network, digest(lane + 40).0.into(), 7);
        builder.batch(lane.into(), &[record, transfer]);
    }
}

/// A ledger of five blocks, and the builder that is ready for the sixth.
fn ledger() -> (Builder, Vec<Stored>) {
    let mut builder = Builder::new(&Network::new());
    let mut authors: Vec<Author> = (0..3).map(author).collect();
    let mut ledger = Vec::new();
    for height in 1..=5 {
        if height != 3 {
            fill(&mut builder, &mut authors);
        }
        ledger.push(builder.block().0);
    }
    let mut authors: Vec<Author> = (3..5).map(author).collect();
    fill(&mut builder, &mut authors);
    (builder, ledger)
}

/// The finding that a sixth block gives.
fn sixth(change: impl FnOnce(&mut Builder) -> Stored) -> (Place, What) {
    let (mut builder, ledger) = ledger();
    let stored = change(&mut builder);
    let mut auditor = Auditor::new(&builder.network.genesis, &Dalek);
    for stored in &ledger {
        check(&mut auditor, stored).unwrap();
    }
    let finding = check(&mut auditor, &stored).unwrap_err();
    assert_eq!(finding.height, Height(6));
    (finding.place, finding.what)
}

fn refused(reject: Reject) -> What {
    What::Refused(reject)
}

#[test]
fn a_good_ledger_passes_and_is_summed_up() {
    let (builder, ledger) = ledger();
    let summary = replay(&builder.network, &ledger).unwrap();
    assert_eq!(summary.blocks, 5);
    assert_eq!(summary.transactions, 4 * 6);
    // Per block: 3 finality; per filled block: 3 batches of an owner and 2 authors, 3 acks each.
    assert_eq!(summary.signatures, 5 * 3 + 4 * 3 * (1 + 2 + 3));
    let sizes = |stored: &Stored| {
        let certificate = stored.certificate.as_ref().map_or(0, Vec::len);
        stored.cut.len() + stored.outcomes.len() + certificate + stored.batches.concat().len()
    };
    assert_eq!(summary.bytes, length_u64(ledger.iter().map(sizes).sum()));
    assert_eq!(summary.history_root, builder.chain.history_root());
    assert_eq!(summary.state_root, builder.chain.state_root());
    assert_eq!(summary.outcomes, [24, 0, 0, 0, 0, 0]);
}

#[test]
fn each_block_is_summed_up() {
    let (builder, ledger) = ledger();
    let mut auditor = Auditor::new(&builder.network.genesis, &Dalek);
    let summary = check(&mut auditor, &ledger[0]).unwrap();
    assert_eq!((summary.height, summary.transactions, summary.signatures), (Height(1), 6, 21));
    assert_eq!(summary.cut, Cut::decode(&ledger[0].cut).unwrap().digest());
    assert!(summary.certified);
    assert_eq!(auditor.chain().height(), Height(1));
    assert_eq!(auditor.chain().history_root(), summary.history_root);
}

#[test]
fn an_empty_ledger_passes() {
    let network = Network::new();
    let summary = replay(&network, &[]).unwrap();
    assert_eq!((summary.blocks, summary.transactions), (0, 0));
}

#[test]
fn a_descendant_s_certificate_covers_a_block() {
    let (builder, mut ledger) = ledger();
    ledger[0].certificate = None;
    ledger[3].certificate = None;
    assert!(replay(&builder.network, &ledger).is_ok());
}

#[test]
fn an_uncovered_end_is_found() {
    let (builder, mut ledger) = ledger();
    ledger[3].certificate = None;
    ledger[4].certificate = None;
    let finding = replay(&builder.network, &ledger).unwrap_err();
    let (place, what) = (Place::Certificate, What::Uncovered);
    assert_eq!(finding, Finding { height: Height(4), place, what });
    assert_eq!(
        finding.to_string(),
        "height 4, certificate: no finality certificate covers this block"
    );
}

#[test]
fn batches_may_come_in_any_order() {
    let (builder, mut ledger) = ledger();
    for stored in &mut ledger {
        stored.batches.reverse();
    }
    assert!(replay(&builder.network, &ledger).is_ok());
}

#[test]
fn batches_that_a_quota_leaves_for_later_are_replayed() {
    let lane_quota_bytes = 512 * 1024;
    let network = Network::with(Parameters { lane_quota_bytes, ..Parameters::default() });
    let mut builder = Builder::new(&network);
    let mut author = author(0);
    let mut ledger = Vec::new();
    for _ in 0..3 {
        let large: Vec<Vec<u8>> =
            (0..5).map(|_| author.record(&network.digest(), &vec![1; 60_000])).collect();
        builder.batch(2, &large);
    }
    for _ in 0..4 {
        ledger.push(builder.block().0);
    }
    let summary = replay(&network, &ledger).unwrap();
    assert_eq!(summary.transactions, 15);
    let mut early = ledger.clone();
    early[1].outcomes = early[2].outcomes.clone();
    let finding = replay(&network, &early).unwrap_err();
    let place = Place::Outcome { index: 0 };
    assert_eq!(finding, Finding { height: Height(2), place, what: What::Differs });
}

#[test]
fn many_transactions_are_asked_about_in_several_questions() {
    let network = Network::new();
    let mut builder = Builder::new(&network);
    let mut author = author(0);
    for lane in [0, 1] {
        let transactions: Vec<Vec<u8>> =
            (0..2_100).map(|_| author.record(&network.digest(), b"")).collect();
        builder.batch(lane, &transactions);
    }
    const { assert!(2 * 2_100 > bodies::ITEMS_MAX) };
    let ledger = [builder.block().0];
    let summary = replay(&network, &ledger).unwrap();
    assert_eq!(summary.signatures, 4_200 + 2 + 6 + 3);
}

/// Replays a ledger whose batches are checked before anything else is, all together.
fn replay_together(network: &Network, ledger: &[Stored]) -> Result<Summary, Finding> {
    let batches = ledger.iter().map(|stored| stored.batches.clone()).collect();
    let mut auditor = Auditor::new(&network.genesis, &Dalek);
    let bodies = Bodies::check(&network.digest(), &auditor.sets(), batches, &Dalek);
    for (stored, bodies) in ledger.iter().zip(bodies) {
        auditor.block_checked(&parts(stored, &[]), bodies)?;
    }
    auditor.finish()
}

#[test]
fn blocks_checked_together_say_what_they_say_one_after_another() {
    let (builder, ledger) = ledger();
    let network = builder.network.clone();
    let alone = replay(&network, &ledger);
    assert!(alone.is_ok());
    assert_eq!(replay_together(&network, &ledger), alone);
    let with_batches: Vec<usize> =
        (0..ledger.len()).filter(|block| !ledger[*block].batches.is_empty()).collect();
    for block in with_batches {
        for place in (0..ledger[block].batches[0].len()).step_by(11) {
            let mut changed = ledger.clone();
            changed[block].batches[0][place] ^= 4;
            let alone = replay(&network, &changed);
            assert!(alone.is_err(), "block {block} byte {place}");
            assert_eq!(replay_together(&network, &changed), alone, "block {block} byte {place}");
        }
        // Two that are wrong: the first is named.
        let mut changed = ledger.clone();
        for stored in &mut changed[block..] {
            if let Some(batch) = stored.batches.last_mut() {
                *batch.last_mut().unwrap() ^= 1;
            }
        }
        assert_eq!(replay_together(&network, &changed), replay(&network, &changed));
        changed[block].batches.clear();
        assert_eq!(replay_together(&network, &changed), replay(&network, &changed));
    }
}

#[test]
fn of_two_signatures_that_do_not_hold_the_first_is_named() {
    let network = Network::new();
    let mut builder = Builder::new(&network);
    let mut author = author(0);
    for lane in [0, 1] {
        let transactions = vec![author.record(&network.digest(), b"")];
        builder.batch(lane, &transactions);
    }
    let mut stored = builder.block().0;
    assert_eq!(stored.batches.len(), 2);
    for batch in &mut stored.batches {
        // The owner's signature, which no root covers.
        batch[HEADER_BYTES + 40] ^= 1;
    }
    let place = Place::Batch { lane: 0, sequence: 1 };
    let expected = Finding { height: Height(1), place, what: What::Signature };
    assert_eq!(replay(&network, &[stored.clone()]), Err(expected));
    assert_eq!(replay_together(&network, &[stored]), Err(expected));
}

#[test]
fn every_changed_byte_is_found() {
    let (builder, ledger) = ledger();
    let mut before = Auditor::new(&builder.network.genesis, &Dalek);
    for stored in &ledger[..3] {
        check(&mut before, stored).unwrap();
    }
    let found = |stored: &Stored| {
        let mut auditor = before.clone();
        let result = check(&mut auditor, stored).and_then(|_| check(&mut auditor, &ledger[4]));
        result.is_err()
    };
    let good = &ledger[3];
    assert!(!found(good));
    let flip = |bytes: &mut Vec<u8>, place: usize| bytes[place] ^= 1 << (place % 8);
    for place in 0..good.cut.len() {
        let mut stored = good.clone();
        flip(&mut stored.cut, place);
        assert!(found(&stored), "byte {place} of the cut");
    }
    for place in 0..good.outcomes.len() {
        let mut stored = good.clone();
        flip(&mut stored.outcomes, place);
        assert!(found(&stored), "byte {place} of the outcomes");
    }
    for place in 0..good.certificate.as_ref().unwrap().len() {
        let mut stored = good.clone();
        flip(stored.certificate.as_mut().unwrap(), place);
        assert!(found(&stored), "byte {place} of the certificate");
    }
    for place in 0..good.batches[1].len() {
        let mut stored = good.clone();
        flip(&mut stored.batches[1], place);
        assert!(found(&stored), "byte {place} of a batch");
    }
}

#[test]
fn blocks_that_are_missing_moved_or_repeated_are_found() {
    let (builder, ledger) = ledger();
    let wrong_place = |ledger: &[Stored], height| {
        let finding = replay(&builder.network, ledger).unwrap_err();
        assert_eq!((finding.height, finding.place), (Height(height), Place::Cut));
    };
    let mut missing = ledger.clone();
    missing.remove(2);
    wrong_place(&missing, 3);
    let mut moved = ledger.clone();
    moved.swap(1, 2);
    wrong_place(&moved, 2);
    let mut repeated = ledger.clone();
    repeated.insert(1, ledger[0].clone());
    wrong_place(&repeated, 2);
    let other = Network::with(Parameters { base_fee: 11, ..Parameters::default() });
    let finding = replay(&other, &ledger).unwrap_err();
    assert_eq!(finding.what, refused(Reject::WrongNetwork));
}

#[test]
fn a_cut_that_breaks_a_rule_is_found() {
    let (place, what) = sixth(|builder| {
        let mut cut = builder.cut();
        cut.view = View(1);
        builder.close(cut).0
    });
    assert_eq!((place, what), (Place::Cut, refused(Reject::WrongView)));
    let (place, what) = sixth(|builder| {
        let mut cut = builder.cut();
        cut.lanes[0].signatures[0].0[9] ^= 1;
        builder.close(cut).0
    });
    assert_eq!((place, what), (Place::Cut, refused(Reject::BadSignature)));
    let (place, what) = sixth(|builder| Stored { cut: vec![7], ..builder.block().0 });
    assert_eq!((place, what), (Place::Cut, refused(Reject::UnknownVersion)));
}

#[test]
fn false_roots_are_found_even_when_a_quorum_finalized_them() {
    let history = |builder: &mut Builder| {
        let mut cut = builder.cut();
        cut.history_root = digest(1);
        builder.close(cut).0
    };
    assert_eq!(sixth(history), (Place::Cut, What::Roots));
    let state = |builder: &mut Builder| {
        let mut cut = builder.cut();
        cut.state_root = digest(1);
        builder.close(cut).0
    };
    assert_eq!(sixth(state), (Place::Cut, What::Roots));
}

#[test]
fn batches_that_are_absent_foreign_or_repeated_are_found() {
    let absent = |builder: &mut Builder| {
        let mut stored = builder.block().0;
        stored.batches.remove(1);
        stored
    };
    assert_eq!(sixth(absent), (Place::Batch { lane: 1, sequence: 5 }, What::Absent));
    let repeated = |builder: &mut Builder| {
        let mut stored = builder.block().0;
        stored.batches.push(stored.batches[0].clone());
        stored
    };
    assert_eq!(sixth(repeated), (Place::Handed { index: 2 }, What::Repeated));
    let foreign = |builder: &mut Builder| {
        let mut stored = builder.block().0;
        let record = author(4).record(&builder.network.digest(), b"more");
        stored.batches.push(builder.batch(3, &[record]));
        stored
    };
    assert_eq!(sixth(foreign), (Place::Batch { lane: 3, sequence: 1 }, What::Uncommitted));
    let broken = |builder: &mut Builder| {
        let mut stored = builder.block().0;
        stored.batches[1].pop();
        stored
    };
    assert_eq!(sixth(broken), (Place::Handed { index: 1 }, refused(Reject::BodyLength)));
}

#[test]
fn batches_that_are_not_the_certified_ones_are_found() {
    let other = |builder: &mut Builder| {
        let mut stored = builder.block().0;
        let batch = Batch::decode(&stored.batches[0], &stored_network(builder)).unwrap();
        let tip = Tip { sequence: 4, digest: batch.header().previous };
        let record = author(4).record(&stored_network(builder), b"instead");
        (stored.batches[0], _) = builder.network.seal(0, &tip, &[record]);
        stored
    };
    let place = Place::Batch { lane: 0, sequence: 5 };
    assert_eq!(sixth(other), (place, refused(Reject::BatchUnlinked)));
    let unlinked = |builder: &mut Builder| {
        let mut stored = builder.block().0;
        let tip = Tip { sequence: 4, digest: digest(1) };
        let record = author(4).record(&stored_network(builder), b"instead");
        (stored.batches[0], _) = builder.network.seal(0, &tip, &[record]);
        stored
    };
    assert_eq!(sixth(unlinked), (place, refused(Reject::BatchUnlinked)));
}

fn stored_network(builder: &Builder) -> Digest {
    builder.network.digest()
}

#[test]
fn signatures_that_do_not_hold_are_found_even_when_all_certified_them() {
    let owner = |builder: &mut Builder| {
        let record = author(4).record(&builder.network.digest(), b"record");
        let (mut bytes, _) = builder.network.seal(3, &builder.tip(3), &[record]);
        let digest = Batch::decode(&bytes, &builder.network.digest()).unwrap().digest();
        let thief = sign(&builder.network.validators[0], &batch_signing_message(&digest));
        bytes[HEADER_BYTES..HEADER_BYTES + 64].copy_from_slice(thief.as_bytes());
        builder.add(3, bytes);
        builder.block().0
    };
    assert_eq!(sixth(owner), (Place::Batch { lane: 3, sequence: 1 }, What::Signature));
    let author = |builder: &mut Builder| {
        let mut author = author(4);
        let good = author.record(&builder.network.digest(), b"good");
        let mut bad = author.record(&builder.network.digest(), b"bad");
        *bad.last_mut().unwrap() ^= 1;
        builder.batch(3, &[good, bad]);
        builder.block().0
    };
    let place = Place::Transaction { lane: 3, sequence: 1, index: 1 };
    assert_eq!(sixth(author), (place, What::Signature));
}

#[test]
fn false_outcomes_are_found() {
    let with = |change: fn(&mut OutcomeList)| {
        sixth(|builder| {
            let mut stored = builder.block().0;
            let mut list = OutcomeList::decode(&stored.outcomes).unwrap();
            change(&mut list);
            stored.outcomes = list.encode();
            stored
        })
    };
    let changed = with(|list| list.outcomes[2].1 = Outcome::Failed);
    assert_eq!(changed, (Place::Outcome { index: 2 }, What::Differs));
    let swapped = with(|list| list.outcomes.swap(1, 2));
    assert_eq!(swapped, (Place::Outcome { index: 1 }, What::Differs));
    assert_eq!(with(|list| list.outcomes.truncate(3)), (Place::Outcomes, What::Differs));
    let more = with(|list| list.outcomes.push((digest(1), Outcome::Applied)));
    assert_eq!(more, (Place::Outcomes, What::Differs));
    assert_eq!(with(|list| list.height = Height(7)), (Place::Outcomes, What::Differs));
    assert_eq!(with(|list| list.cut = digest(1)), (Place::Outcomes, What::Differs));
    assert_eq!(with(|list| list.history_root = digest(1)), (Place::Outcomes, What::Differs));
    let broken = sixth(|builder| Stored { outcomes: vec![1], ..builder.block().0 });
    assert_eq!(broken, (Place::Outcomes, refused(Reject::Truncated)));
}

#[test]
fn false_certificates_are_found() {
    let with = |change: fn(&mut Finality)| {
        sixth(|builder| {
            let mut stored = builder.block().0;
            let mut certificate = Finality::decode(&stored.certificate.unwrap()).unwrap();
            change(&mut certificate);
            stored.certificate = Some(certificate.encode());
            stored
        })
    };
    let found = |change| {
        let (place, what) = with(change);
        assert_eq!(place, Place::Certificate);
        what
    };
    assert_eq!(found(|it| it.payload = digest(1)), What::OtherBlock);
    assert_eq!(found(|it| it.epoch = 1), refused(Reject::WrongEpoch));
    assert_eq!(found(|it| it.view = View(1)), refused(Reject::BadSignature));
    assert_eq!(found(|it| it.signatures.swap(0, 1)), refused(Reject::BadSignature));
    let few = found(|it| {
        it.signers = Bitmap(0b1100);
        it.signatures.pop();
    });
    assert_eq!(few, refused(Reject::QuorumMissing));
    let strangers = found(|it| it.signers = Bitmap(0b1_1100));
    assert_eq!(strangers, refused(Reject::UnknownValidator));
    let broken = sixth(|builder| Stored { certificate: Some(vec![]), ..builder.block().0 });
    assert_eq!(broken, (Place::Certificate, refused(Reject::Truncated)));
}

#[test]
fn places_are_named() {
    let names = [
        (Place::Cut, "cut"),
        (Place::Handed { index: 3 }, "batch record 3"),
        (Place::Batch { lane: 1, sequence: 2 }, "lane 1 batch 2"),
        (Place::Transaction { lane: 1, sequence: 2, index: 3 }, "lane 1 batch 2 transaction 3"),
        (Place::Outcomes, "outcomes"),
        (Place::Outcome { index: 3 }, "outcome 3"),
        (Place::Certificate, "certificate"),
    ];
    for (place, name) in names {
        assert_eq!(place.to_string(), name);
    }
    assert_eq!(refused(Reject::LaneOrder).to_string(), "refused: lane_order");
}
