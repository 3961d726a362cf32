//! Checks of wrong signatures, of transactions that go to two validators, and of hot authors.

use super::*;

const INVALID: Class = Class { content: Content::Record, treatment: Treatment::Invalid };
const DOUBLED: Class = Class { content: Content::TransferToNew, treatment: Treatment::Duplicate };

/// A core whose transactions are all of one class.
fn start_as(class: Class, offers: u64, targets: usize) -> Core {
    let mut core = Core::new(setup(1_000, offers, targets));
    sign_as(&mut core, 0, &|_, _| class);
    for target in 0..targets {
        core.connected(target, 0);
    }
    core
}

fn step_as(core: &mut Core, now: Micros, class: Class) -> Vec<(usize, Digest)> {
    core.step(now);
    submits(&sign_as(core, now, &|_, _| class))
}

fn accept(core: &mut Core, (target, id): (usize, Digest), now: Micros) {
    assert_eq!(core.answered(target, Answer::Accepted { id }, now), None);
}

#[test]
fn a_wrong_signature_that_is_refused_is_as_asked_and_its_author_goes_on() {
    let mut core = start_as(INVALID, 2, 1);
    core.step(0);
    let actions = sign(&mut core, 0);
    let [Action::Submit { target, id: first, is_invalid: true, .. }] = actions[..] else {
        panic!("{actions:?}");
    };
    refuse(&mut core, (target, first), Refusal::InvalidSignature, 500);
    sign(&mut core, 500);
    let second = step(&mut core, 1_000)[0];
    assert_ne!(second.1, first, "the next one of the author has an id of its own");
    assert_eq!(second.1.0[..13], first.0[..13], "at the same place in its chain");
    finalize(&mut core, second, Outcome::Applied, 2_000);
    assert!(core.is_done());
    let (counts, _, _) = core.finish(2_000);
    assert_eq!((counts.offered, counts.sent, counts.lost, counts.rejected_total()), (2, 2, 0, 0));
    let kinds = counts.kinds;
    assert_eq!((kinds.invalid, kinds.invalid_refused, kinds.records), (1, 1, 1));
    assert_eq!((counts.accepted, counts.finalized_total()), (1, 1));
    assert_eq!(kinds.errors(), Vec::<String>::new());
}

#[test]
fn a_wrong_signature_that_is_taken_is_an_error() {
    type Answers = fn(&mut Core, (usize, Digest));
    let ways: [Answers; 4] = [
        |core, sent| accept(core, sent, 500),
        |core, sent| finalize(core, sent, Outcome::Applied, 500),
        |core, sent| refuse(core, sent, Refusal::Duplicate, 500),
        |core, sent| {
            let expected = Some(Link::FIRST.after(sent.1));
            refuse_expecting(core, sent, Refusal::Stale, expected, 500);
        },
    ];
    for answer in ways {
        let mut core = start_as(INVALID, 1, 1);
        let sent = step(&mut core, 0)[0];
        answer(&mut core, sent);
        assert!(core.is_done());
        let (counts, _, _) = core.finish(1_000);
        assert_eq!((counts.kinds.invalid, counts.kinds.invalid_taken), (1, 1));
        assert_eq!((counts.accepted, counts.finalized_total(), counts.lost), (0, 0, 0));
        let errors = counts.kinds.errors();
        assert!(errors[0].starts_with("1 of 1 transactions with a wrong signature"), "{errors:?}");
    }
}

#[test]
fn other_refusals_of_a_wrong_signature_are_like_any_other() {
    let mut core = start_as(INVALID, 3, 1);
    let sent = step_as(&mut core, 0, INVALID)[0];
    refuse(&mut core, sent, Refusal::Busy, 500);
    assert_eq!(step_as(&mut core, 1_000, INVALID), [sent], "the same bytes for the next offer");
    let expected = Link { sequence: 9, previous: Digest([7; 32]) };
    refuse_expecting(&mut core, sent, Refusal::Stale, Some(expected), 1_500);
    let again = submits(&sign_as(&mut core, 1_500, &|_, _| PLAIN));
    assert_eq!(again, [(0, id(0, expected))], "signed for the right place, as what is due there");
    finalize(&mut core, again[0], Outcome::Applied, 1_600);
    sign_as(&mut core, 1_600, &|_, _| INVALID);
    step_as(&mut core, 2_000, INVALID);
    let (counts, _, _) = core.finish(3_000);
    assert_eq!(counts.rejected.get(&Refusal::Busy), Some(&1));
    assert_eq!((counts.kinds.invalid, counts.kinds.records), (2, 1));
    assert_eq!((counts.sent, counts.lost, counts.kinds.invalid_refused), (3, 1, 0));
}

#[test]
fn a_wrong_signature_without_an_answer_is_asked_about_elsewhere() {
    let mut core = start_as(INVALID, 1, 2);
    let sent = step_as(&mut core, 0, INVALID)[0];
    assert_eq!(step_as(&mut core, ANSWER_TIME, INVALID), [(1, sent.1)]);
    // The first was only slow: its word is as good as the second's, and is counted once.
    refuse(&mut core, sent, Refusal::InvalidSignature, ANSWER_TIME + 1);
    refuse(&mut core, (1, sent.1), Refusal::InvalidSignature, ANSWER_TIME + 2);
    let (counts, _, _) = core.finish(ANSWER_TIME + 3);
    assert_eq!((counts.kinds.invalid_refused, counts.rejected_total(), counts.lost), (1, 0, 0));
}

#[test]
fn a_duplicate_goes_to_two_and_the_first_final_ends_it() {
    let mut core = start_as(DOUBLED, 2, 3);
    let sent = step_as(&mut core, 0, DOUBLED);
    assert_eq!(sent.iter().map(|(target, _)| *target).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(sent[0].1, sent[1].1);
    accept(&mut core, sent[0], 100);
    accept(&mut core, sent[1], 110);
    accept(&mut core, sent[1], 120);
    finalize(&mut core, sent[1], Outcome::Applied, 500);
    // The next of its author is under way when the other answers come.
    sign_as(&mut core, 500, &|_, _| DOUBLED);
    let next = step_as(&mut core, 1_000, DOUBLED);
    assert_eq!(next.len(), 2);
    finalize(&mut core, sent[0], Outcome::Applied, 1_100);
    finalize(&mut core, sent[0], Outcome::Applied, 1_200);
    refuse(&mut core, sent[0], Refusal::Stale, 1_300);
    assert!(!core.is_done());
    finalize(&mut core, next[0], Outcome::Applied, 1_400);
    let (counts, _, _) = core.finish(2_000);
    assert_eq!((counts.sent, counts.accepted, counts.finalized_total()), (2, 2, 2));
    assert_eq!((counts.resubmitted, counts.rejected_total(), counts.lost), (0, 0, 0));
    let kinds = counts.kinds;
    assert_eq!((kinds.duplicates, kinds.duplicates_taken_twice, kinds.duplicates_wrong), (2, 1, 0));
    assert_eq!((kinds.transfers, kinds.transfers_creating, kinds.records), (2, 2, 0));
    assert_eq!(kinds.errors(), Vec::<String>::new());
}

#[test]
fn a_duplicate_that_is_not_executed_exactly_once_is_an_error() {
    let answer = |target, height, outcome| (target, Height(height), outcome);
    for (first, second) in [
        (answer(0, 1, Outcome::Applied), Some(answer(1, 2, Outcome::Applied))),
        (answer(1, 1, Outcome::Applied), Some(answer(0, 1, Outcome::Failed))),
        (answer(0, 1, Outcome::Stale), None),
    ] {
        let mut core = start_as(DOUBLED, 1, 2);
        let id = step_as(&mut core, 0, DOUBLED)[0].1;
        for (target, height, outcome) in [Some(first), second].into_iter().flatten() {
            core.answered(target, Answer::Final { id, height, outcome }, 500);
        }
        let (counts, _, _) = core.finish(1_000);
        assert_eq!((counts.kinds.duplicates_wrong, counts.finalized_total()), (1, 1));
        let errors = counts.kinds.errors();
        assert!(errors[0].starts_with("1 of 1 transactions that were sent to two"), "{errors:?}");
    }
}

#[test]
fn one_refused_copy_leaves_the_word_to_the_other() {
    for refuser in [0, 1] {
        let mut core = start_as(DOUBLED, 1, 2);
        let id = step_as(&mut core, 0, DOUBLED)[0].1;
        refuse(&mut core, (refuser, id), Refusal::Ahead, 100);
        assert!(!core.is_done());
        accept(&mut core, (1 - refuser, id), 200);
        finalize(&mut core, (1 - refuser, id), Outcome::Applied, 500);
        let (counts, _, _) = core.finish(1_000);
        assert_eq!((counts.rejected_total(), counts.finalized_total()), (0, 1));
        assert_eq!((counts.kinds.duplicates, counts.kinds.duplicates_taken_twice), (1, 0));
    }
    // Both refuse: it is rejected once, for what the last one says.
    let mut core = start_as(DOUBLED, 1, 2);
    let id = step_as(&mut core, 0, DOUBLED)[0].1;
    refuse(&mut core, (0, id), Refusal::Busy, 100);
    refuse(&mut core, (1, id), Refusal::LaneFull, 200);
    let (counts, _, _) = core.finish(1_000);
    assert_eq!((counts.rejected_total(), counts.lost), (1, 0));
    assert_eq!(counts.rejected.get(&Refusal::LaneFull), Some(&1));
}

#[test]
fn a_duplicate_on_a_chain_that_went_on_is_signed_again_and_counted_once() {
    let mut core = start_as(DOUBLED, 1, 2);
    let sent = step_as(&mut core, 0, DOUBLED)[0].1;
    let expected = Link { sequence: 9, previous: Digest([7; 32]) };
    for target in [0, 1] {
        refuse_expecting(&mut core, (target, sent), Refusal::Stale, Some(expected), 100);
    }
    let again = submits(&sign_as(&mut core, 200, &|_, _| DOUBLED));
    assert_eq!(again, [(0, id(0, expected)), (1, id(0, expected))]);
    finalize(&mut core, again[0], Outcome::Applied, 300);
    let (counts, _, _) = core.finish(1_000);
    assert_eq!((counts.kinds.duplicates, counts.kinds.transfers, counts.resigned), (1, 1, 1));
    assert_eq!((counts.sent, counts.rejected_total(), counts.finalized_total()), (1, 0, 1));
}

#[test]
fn a_duplicate_that_loses_a_validator_goes_on_with_the_other() {
    let mut core = start_as(DOUBLED, 1, 2);
    let sent = step_as(&mut core, 0, DOUBLED)[0].1;
    core.disconnected(0, 100);
    assert_eq!(submits(&sign(&mut core, 100)), [(1, sent)]);
    refuse(&mut core, (1, sent), Refusal::Duplicate, 200);
    assert_eq!(sign(&mut core, 200), [Action::Watch { target: 1, id: sent }]);
    finalize(&mut core, (1, sent), Outcome::Applied, 300);
    let (counts, _, _) = core.finish(1_000);
    assert_eq!((counts.finalized_total(), counts.rejected_total(), counts.lost), (1, 0, 0));
    // With a single validator there is nobody for the copy.
    let mut core = start_as(DOUBLED, 1, 2);
    core.disconnected(1, 0);
    assert_eq!(step_as(&mut core, 0, DOUBLED).len(), 1);
    let (counts, _, _) = core.finish(1_000);
    assert_eq!((counts.kinds.duplicates, counts.kinds.transfers), (0, 1));
}

/// Ten authors, two of them hot and wanted for half of the transactions.
fn start_hot(offers: u64) -> Core {
    let hot_share = Share::percent(50);
    let setup = setup(1_000, offers, 1);
    start_with(Setup { authors: 10, beginning: 10, hot_authors: 2, hot_share, ..setup })
}

fn author(id: &Digest) -> u8 {
    id.0[0]
}

#[test]
fn hot_authors_send_their_share_when_they_are_free() {
    let mut core = start_hot(10_000);
    let mut hot = 0;
    for now in 0..10_000 {
        for sent in step(&mut core, now * 1_000) {
            hot += u64::from(author(&sent.1) < 2);
            finalize(&mut core, sent, Outcome::Applied, now * 1_000 + 10);
            sign(&mut core, now * 1_000 + 10);
        }
    }
    let (counts, _, lateness) = core.finish(10_000_000);
    assert_eq!((counts.sent, counts.kinds.by_hot_authors, hot), (10_000, 5_000, 5_000));
    assert_eq!(lateness.total(), 0);
}

#[test]
fn while_hot_authors_wait_others_go_and_the_other_way_round() {
    let mut core = start_hot(12);
    let sent = step(&mut core, 9_000);
    assert_eq!(sent.len(), 10, "nobody waits for a hot author");
    let authors: Vec<u8> = sent.iter().map(|(_, id)| author(id)).collect();
    assert_eq!(authors, [2, 0, 3, 1, 4, 5, 6, 7, 8, 9]);
    // Only a hot one is free, and the turn is another's.
    finalize(&mut core, sent[1], Outcome::Applied, 9_500);
    sign(&mut core, 9_500);
    let next = step(&mut core, 10_000);
    assert_eq!(next.iter().map(|(_, id)| author(id)).collect::<Vec<_>>(), [0]);
    assert_eq!(core.finish(10_000).0.kinds.by_hot_authors, 3);
}
