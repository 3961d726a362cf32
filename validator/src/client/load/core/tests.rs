//! Checks of the load's decisions, with a signer and validators that are plain functions.

mod hostile;

use super::super::report::Lateness;
use super::*;
use crate::client::author::Link;
use crate::client::workload::Content;
use crate::handle::Expected;
use crate::refusal::Refusal;
use ledger::{Height, Outcome};

/// A core whose authors are all signed and whose validators are all connected.
fn start(rate: u64, offers: u64, authors: u32, targets: usize) -> Core {
    start_with(Setup { authors, beginning: authors, ..setup(rate, offers, targets) })
}

fn setup(rate: u64, offers: u64, targets: usize) -> Setup {
    let hot_share = Share::NONE;
    Setup { rate, offers, authors: 1, beginning: 1, hot_authors: 0, hot_share, targets }
}

fn start_with(setup: Setup) -> Core {
    let mut core = Core::new(setup);
    sign(&mut core, 0);
    for target in 0..setup.targets {
        core.connected(target, 0);
    }
    core
}

/// An id that tells author, sequence and previous apart.
fn id(author: u32, link: Link) -> Digest {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&author.to_le_bytes());
    id[4..12].copy_from_slice(&link.sequence.to_le_bytes());
    id[12] = link.previous.0[12].wrapping_add(link.previous.0[31]);
    Digest(id)
}

/// A record that is sent once and holds.
const PLAIN: Class = Class { content: Content::Record, treatment: Treatment::Plain };

/// Signs what is asked for, and returns the other actions.
fn sign(core: &mut Core, now: Micros) -> Vec<Action> {
    sign_as(core, now, &|_, _| PLAIN)
}

/// Signs what is asked for as what the caller says.
fn sign_as(core: &mut Core, now: Micros, class: &dyn Fn(u32, Turn) -> Class) -> Vec<Action> {
    let mut others = Vec::new();
    loop {
        let actions = core.take_actions();
        if actions.is_empty() {
            return others;
        }
        for action in actions {
            match action {
                Action::Sign { author, turn } => {
                    let bytes = Arc::from(turn.link.sequence.to_le_bytes());
                    let class = class(author, turn);
                    let mut id = id(author, turn.link);
                    id.0[13..21].copy_from_slice(&turn.attempt.to_le_bytes());
                    core.signed(Signed { author, id, bytes, class }, now);
                }
                other => others.push(other),
            }
        }
    }
}

fn submits(actions: &[Action]) -> Vec<(usize, Digest)> {
    let submit = |action: &Action| match action {
        Action::Submit { target, id, .. } => Some((*target, *id)),
        Action::Sign { .. } | Action::Watch { .. } => None,
    };
    actions.iter().filter_map(submit).collect()
}

fn step(core: &mut Core, now: Micros) -> Vec<(usize, Digest)> {
    core.step(now);
    submits(&sign(core, now))
}

fn finalize(core: &mut Core, (target, id): (usize, Digest), outcome: Outcome, now: Micros) {
    let known = core.answered(target, Answer::Final { id, height: Height(1), outcome }, now);
    assert_eq!(known, Some(Acknowledged { id, height: Height(1), outcome }));
}

fn refuse(core: &mut Core, (target, id): (usize, Digest), refusal: Refusal, now: Micros) {
    refuse_expecting(core, (target, id), refusal, None, now);
}

fn refuse_expecting(
    core: &mut Core,
    (target, id): (usize, Digest),
    refusal: Refusal,
    expected: Option<Link>,
    now: Micros,
) {
    let expected =
        expected.map(|link| Expected { sequence: link.sequence, previous: link.previous });
    let retry_ms = if refusal.retryable() { 50 } else { 0 };
    let answer = Answer::Refused { id, refusal, expected, retry_ms };
    assert_eq!(core.answered(target, answer, now), None);
}

#[test]
fn the_schedule_is_constant_and_exact() {
    let mut core = start(1_000, 10, 100, 1);
    assert_eq!(step(&mut core, 0).len(), 1);
    assert_eq!(core.next_step(), Some(1_000));
    assert_eq!(step(&mut core, 999).len(), 0);
    assert_eq!(step(&mut core, 4_000).len(), 4);
    assert_eq!(step(&mut core, 1_000_000).len(), 5, "no more than were asked for");
    let (counts, _, _) = core.finish(1_000_000);
    assert_eq!((counts.offered, counts.sent, counts.unsent, counts.lost), (10, 10, 0, 10));
}

#[test]
fn an_author_has_one_transaction_under_way_and_the_next_names_it() {
    let mut core = start(1_000_000, 100, 1, 1);
    let first = step(&mut core, 0);
    assert_eq!(first, [(0, id(0, Link::FIRST))]);
    assert_eq!(step(&mut core, 50), [], "its author waits");
    core.answered(0, Answer::Accepted { id: first[0].1 }, 60);
    assert_eq!(step(&mut core, 70), []);
    finalize(&mut core, first[0], Outcome::Applied, 80);
    sign(&mut core, 80);
    let second = Link::FIRST.after(first[0].1);
    assert_eq!(step(&mut core, 90), [(0, id(0, second))]);
}

#[test]
fn latency_counts_from_the_intended_time() {
    let mut core = start(1_000, 3, 1, 1);
    let first = step(&mut core, 0);
    finalize(&mut core, first[0], Outcome::Applied, 200_000);
    sign(&mut core, 200_000);
    // The second was due at 1 ms and leaves at 200 ms.
    let second = step(&mut core, 200_000);
    core.answered(0, Answer::Accepted { id: second[0].1 }, 201_000);
    finalize(&mut core, second[0], Outcome::Failed, 301_000);
    let latency = core.snapshot(1_000_000).latency.unwrap();
    assert_eq!(latency.p50.as_millis(), 200);
    assert!((299..=301).contains(&latency.max.as_millis()), "{latency:?}");
    let (counts, _, lateness) = core.finish(2_000_000);
    assert_eq!(counts.finalized[usize::from(Outcome::Applied.code())], 1);
    assert_eq!(counts.finalized[usize::from(Outcome::Failed.code())], 1);
    assert_eq!((counts.unsent, counts.accepted), (1, 2));
    assert_eq!(lateness.total(), 2, "the second left late and the third never");
}

#[test]
fn authors_spread_over_validators_and_stay() {
    let mut core = start(1_000, 100, 4, 2);
    let sent = step(&mut core, 3_000);
    assert_eq!(sent.iter().map(|(target, _)| *target).collect::<Vec<_>>(), [0, 1, 0, 1]);
    for flight in sent {
        finalize(&mut core, flight, Outcome::Applied, 4_000);
    }
    sign(&mut core, 4_000);
    let again = step(&mut core, 7_000);
    assert_eq!(again.iter().map(|(target, _)| *target).collect::<Vec<_>>(), [0, 1, 0, 1]);
}

#[test]
fn without_an_answer_the_same_bytes_go_to_another_validator() {
    let mut core = start(1, 1, 1, 3);
    let sent = step(&mut core, 0);
    assert_eq!(core.next_step(), Some(ANSWER_TIME));
    assert_eq!(step(&mut core, ANSWER_TIME - 1), []);
    assert_eq!(step(&mut core, ANSWER_TIME), [(1, sent[0].1)]);
    core.answered(1, Answer::Accepted { id: sent[0].1 }, ANSWER_TIME + 5);
    assert_eq!(step(&mut core, 2 * ANSWER_TIME + 1), [], "it was accepted");
    let again = step(&mut core, ANSWER_TIME + 5 + FINAL_TIME);
    assert_eq!(again, [(2, sent[0].1)], "but it takes too long");
    finalize(&mut core, (2, sent[0].1), Outcome::Applied, 20_000_000);
    // The first validator's news comes late and changes nothing.
    finalize(&mut core, (1, sent[0].1), Outcome::Applied, 20_000_000);
    assert!(core.is_done());
    let (counts, _, _) = core.finish(20_000_000);
    assert_eq!((counts.finalized_total(), counts.resubmitted, counts.lost), (1, 2, 0));
}

#[test]
fn a_broken_connection_moves_what_was_sent_over_it() {
    let mut core = start(1_000, 4, 4, 2);
    let sent = step(&mut core, 3_000);
    core.disconnected(0, 4_000);
    let moved = submits(&sign(&mut core, 4_000));
    assert_eq!(moved, [(1, sent[0].1), (1, sent[2].1)]);
    core.disconnected(1, 5_000);
    assert_eq!(submits(&sign(&mut core, 5_000)), [], "nobody is there");
    core.connected(0, 6_000);
    let back = step(&mut core, 5_000 + OFFLINE_TIME);
    assert_eq!(back.len(), 4);
    assert!(back.iter().all(|(target, _)| *target == 0));
}

#[test]
fn final_elsewhere_is_watched_and_not_rejected() {
    let mut core = start(1, 1, 1, 2);
    let sent = step(&mut core, 0)[0];
    assert_eq!(step(&mut core, ANSWER_TIME), [(1, sent.1)]);
    // It was executed by way of the first validator.
    let expected = Link::FIRST.after(sent.1);
    refuse_expecting(&mut core, (1, sent.1), Refusal::Stale, Some(expected), ANSWER_TIME + 1);
    let actions = sign(&mut core, ANSWER_TIME + 1);
    assert_eq!(actions, [Action::Watch { target: 1, id: sent.1 }]);
    finalize(&mut core, (1, sent.1), Outcome::Applied, ANSWER_TIME + 2);
    let (counts, _, _) = core.finish(ANSWER_TIME + 2);
    assert_eq!((counts.finalized_total(), counts.rejected_total(), counts.accepted), (1, 0, 1));
}

#[test]
fn a_duplicate_is_watched() {
    let mut core = start(1, 1, 1, 2);
    let sent = step(&mut core, 0)[0];
    step(&mut core, ANSWER_TIME);
    refuse(&mut core, (1, sent.1), Refusal::Duplicate, ANSWER_TIME + 1);
    let actions = sign(&mut core, ANSWER_TIME + 1);
    assert_eq!(actions, [Action::Watch { target: 1, id: sent.1 }]);
}

#[test]
fn a_chain_that_went_on_before_is_joined_where_it_is() {
    for refusal in [Refusal::Stale, Refusal::Forked] {
        let mut core = start(1, 1, 1, 1);
        let sent = step(&mut core, 0)[0];
        let expected = Link { sequence: 9, previous: Digest([7; 32]) };
        refuse_expecting(&mut core, sent, refusal, Some(expected), 1_000);
        assert!(!core.is_done(), "the offer is signed again");
        let again = submits(&sign(&mut core, 2_000));
        assert_eq!(again, [(0, id(0, expected))]);
        finalize(&mut core, again[0], Outcome::Applied, 3_000);
        let (counts, _, _) = core.finish(3_000);
        assert_eq!((counts.sent, counts.resigned, counts.rejected_total()), (1, 1, 0));
    }
}

#[test]
fn a_chain_that_is_never_right_is_rejected_in_the_end() {
    let mut core = start(1, 1, 1, 1);
    let mut sent = step(&mut core, 0);
    for sequence in 1..=RESIGNED_MAX {
        let expected = Link { sequence: sequence.into(), previous: Digest([7; 32]) };
        refuse_expecting(&mut core, sent[0], Refusal::Stale, Some(expected), 1_000);
        sent = submits(&sign(&mut core, 1_000));
    }
    let expected = Link { sequence: 99, previous: Digest([7; 32]) };
    refuse_expecting(&mut core, sent[0], Refusal::Stale, Some(expected), 1_000);
    let (counts, _, _) = core.finish(2_000);
    assert_eq!(counts.rejected.get(&Refusal::Stale), Some(&1));
    assert_eq!(counts.resigned, u64::from(RESIGNED_MAX));
}

#[test]
fn a_validator_that_is_behind_is_asked_again() {
    let mut core = start(1, 2, 1, 2);
    let sent = step(&mut core, 0)[0];
    finalize(&mut core, sent, Outcome::Applied, 500_000);
    sign(&mut core, 500_000);
    core.disconnected(0, 600_000);
    let sent = step(&mut core, 1_000_000)[0];
    assert_eq!(sent.0, 1);
    refuse_expecting(&mut core, sent, Refusal::Ahead, Some(Link::FIRST), 1_000_000);
    let due = core.next_step().unwrap();
    assert_eq!(due, 1_000_000 + BEHIND_TIME);
    assert_eq!(step(&mut core, due), [sent]);
    refuse_expecting(&mut core, sent, Refusal::Ahead, Some(Link::FIRST), FINAL_TIME + 1_000_000);
    let (counts, _, _) = core.finish(FINAL_TIME + 1_000_000);
    assert_eq!(counts.rejected.get(&Refusal::Ahead), Some(&1), "but not for ever");
}

#[test]
fn a_full_validator_rejects_and_the_author_offers_again() {
    for refusal in [Refusal::Busy, Refusal::LaneFull, Refusal::RateLimited] {
        let mut core = start(1_000, 2, 1, 2);
        let sent = step(&mut core, 0)[0];
        refuse(&mut core, sent, refusal, 500);
        assert_eq!(step(&mut core, 1_000), [sent], "the same bytes for the next offer");
        core.answered(0, Answer::Accepted { id: sent.1 }, 1_500);
        core.disconnected(0, 2_000);
        sign(&mut core, 2_000);
        refuse(&mut core, (1, sent.1), refusal, 3_000);
        let due = core.next_step().unwrap();
        assert_eq!(step(&mut core, due).len(), 1, "an accepted one is not given up");
        let (counts, _, _) = core.finish(due);
        assert_eq!(counts.rejected.get(&refusal), Some(&1));
    }
}

#[test]
fn a_validator_that_is_not_ready_is_passed_over() {
    let mut core = start(1, 1, 1, 2);
    let sent = step(&mut core, 0)[0];
    refuse(&mut core, sent, Refusal::NotReady, 10);
    assert_eq!(submits(&sign(&mut core, 10)), [(1, sent.1)]);
    refuse(&mut core, (1, sent.1), Refusal::Stopping, 20);
    let (counts, _, _) = core.finish(30);
    assert_eq!(counts.rejected.get(&Refusal::Stopping), Some(&1));
}

#[test]
fn an_author_that_will_never_be_taken_does_not_come_back() {
    let mut core = start(1_000, 2, 1, 1);
    let sent = step(&mut core, 0)[0];
    refuse(&mut core, sent, Refusal::UnknownAuthor, 500);
    assert_eq!(step(&mut core, 100_000), []);
    let (counts, _, lateness) = core.finish(100_000);
    assert_eq!((counts.rejected_total(), counts.unsent), (1, 1));
    assert_eq!(lateness.total(), 1);
}

#[test]
fn an_author_that_did_not_begin_takes_the_place_of_one_that_is_gone() {
    let mut core = start_with(Setup { authors: 2, ..setup(1_000, 2, 1) });
    assert_eq!(core.take_actions(), [], "one author is enough to begin with");
    let sent = step(&mut core, 0)[0];
    refuse(&mut core, sent, Refusal::UnknownAuthor, 500);
    sign(&mut core, 500);
    assert_eq!(step(&mut core, 1_000), [(0, id(1, Link::FIRST))]);
}

#[test]
fn news_from_a_validator_that_is_not_asked_any_more_is_no_refusal() {
    let mut core = start(1, 1, 1, 2);
    let sent = step(&mut core, 0)[0];
    step(&mut core, ANSWER_TIME);
    refuse(&mut core, (0, sent.1), Refusal::Unfunded, ANSWER_TIME + 1);
    assert!(!core.is_done());
    refuse(&mut core, (0, Digest([9; 32])), Refusal::Unfunded, ANSWER_TIME + 1);
    assert_eq!(core.answered(0, Answer::Unknown { id: sent.1 }, ANSWER_TIME + 1), None);
}

fn late(core: Core, now: Micros) -> Lateness {
    core.finish(now).2
}

#[test]
fn lateness_names_the_side_that_is_slow() {
    let one = |cause| {
        let mut lateness = Lateness::default();
        lateness.late(cause);
        lateness
    };
    // Every author waits.
    let mut core = start(1_000, 2, 1, 1);
    let sent = step(&mut core, 0)[0];
    step(&mut core, 10_000);
    finalize(&mut core, sent, Outcome::Applied, 200_000);
    sign(&mut core, 200_000);
    step(&mut core, 200_000);
    assert_eq!(late(core, 200_000), one(Cause::Authors));
    // The signer is behind.
    let mut core = start(1_000, 2, 1, 1);
    let sent = step(&mut core, 0)[0];
    finalize(&mut core, sent, Outcome::Applied, 500);
    core.step(1_000);
    sign(&mut core, 200_000);
    step(&mut core, 200_000);
    assert_eq!(late(core, 200_000), one(Cause::Signing));
    // The thread itself comes late.
    let mut core = start(1_000, 2, 2, 1);
    step(&mut core, 0);
    step(&mut core, 200_000);
    assert_eq!(late(core, 200_000), one(Cause::Schedule));
    // Nobody is connected.
    let mut core = start(1_000, 2, 2, 1);
    step(&mut core, 0);
    core.disconnected(0, 500);
    step(&mut core, 1_000);
    assert_eq!(late(core, 200_000), one(Cause::Offline));
}

#[test]
fn pauses_are_measured_from_the_mark() {
    let mut core = start(1_000, 100, 100, 2);
    let sent = step(&mut core, 10_000);
    let to = |target| *sent.iter().find(|(other, _)| *other == target).unwrap();
    finalize(&mut core, to(0), Outcome::Applied, 300_000);
    core.mark(400_000);
    finalize(&mut core, to(1), Outcome::Applied, 450_000);
    let targets = core.snapshot(500_000).targets;
    assert_eq!(targets[0].longest_pause.as_micros(), 100_000, "it goes on");
    assert_eq!(targets[1].longest_pause.as_micros(), 50_000);
}

#[test]
fn closing_counts_what_never_left() {
    let mut core = start(1_000, u64::MAX, 1, 1);
    step(&mut core, 0);
    core.close(59_000);
    assert_eq!(step(&mut core, 70_000), []);
    assert!(!core.is_done(), "one is under way");
    let (counts, _, _) = core.finish(2_000_000);
    assert_eq!((counts.offered, counts.sent, counts.unsent, counts.lost), (10, 1, 9, 1));
}

#[test]
fn every_offer_ends_in_exactly_one_way() {
    // Validators that answer at random, for some thousand steps of a millisecond.
    let mut random = blake3::Hasher::new_derive_key("test").update(b"seed").finalize_xof();
    let mut core = start(5_000, 10_000, 300, 3);
    let mut open: Vec<(usize, Digest)> = Vec::new();
    let mut now = 0;
    while now < 30_000_000 && !core.is_done() {
        now += 1_000;
        core.step(now);
        open.extend(submits(&sign(&mut core, now)));
        let mut lots = [0; 64];
        random.fill(&mut lots);
        for lot in lots.chunks_exact(2).take(open.len()) {
            let flight = open.swap_remove(usize::from(lot[0]) % open.len());
            match lot[1] {
                0..150 => finalize(&mut core, flight, Outcome::Applied, now),
                150..160 => finalize(&mut core, flight, Outcome::Failed, now),
                160..170 => refuse(&mut core, flight, Refusal::Busy, now),
                170..180 => refuse(&mut core, flight, Refusal::NotReady, now),
                180..190 => refuse(&mut core, flight, Refusal::Duplicate, now),
                190..192 => {
                    core.disconnected(flight.0, now);
                    core.connected(flight.0, now);
                }
                192..200 => {
                    let expected = Some(Link { sequence: 5, previous: Digest([1; 32]) });
                    refuse_expecting(&mut core, flight, Refusal::Forked, expected, now);
                }
                200..240 => drop(core.answered(flight.0, Answer::Accepted { id: flight.1 }, now)),
                _ => {}
            }
        }
    }
    let (counts, _, _) = core.finish(now);
    let ended = counts.finalized_total() + counts.rejected_total() + counts.lost;
    assert_eq!(counts.sent, ended);
    assert_eq!(counts.offered, counts.sent + counts.unsent);
    assert!(counts.finalized_total() > 8_000, "{counts:?}");
}

#[test]
fn what_a_full_connection_does_not_take_is_held_back_and_keeps_its_turn() {
    let mut core = start(1_000_000, 6, 4, 2);
    core.set_full(1, true);
    // Authors 0 and 2 are at home at the first validator, 1 and 3 at the other.
    let sent = step(&mut core, 3);
    assert_eq!(sent.iter().map(|(target, _)| *target).collect::<Vec<_>>(), [0, 0]);
    assert_eq!((core.counts.sent, core.counts.held_back, core.flights.len()), (4, 2, 2));
    core.set_full(1, false);
    let sent = step(&mut core, 5);
    // The same two, with the transactions that they had.
    let first = |author| id(author, Link::FIRST);
    assert_eq!(sent, [(1, first(1)), (1, first(3))]);
    for (target, id) in [(0, first(0)), (0, first(2)), (1, first(1)), (1, first(3))] {
        let outcome = Outcome::Applied;
        core.answered(target, Answer::Final { id, height: Height(1), outcome }, 6);
    }
    assert!(core.is_done());
    let (counts, _, lateness) = core.finish(10);
    assert_eq!((counts.offered, counts.finalized_total(), counts.held_back), (6, 4, 2));
    assert_eq!((counts.lost, counts.unsent, lateness.total()), (0, 0, 0));
}
