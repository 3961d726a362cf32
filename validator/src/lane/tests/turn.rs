//! The turn of an epoch as the lane core sees it: what ends, what waits, what goes on.

use super::*;
use crate::lane::turn::EARLY_BYTES_MAX;

/// The last height of the first epoch.
const LAST: u64 = 4_095;

/// A core whose next epoch is settled: the same validators, or those that `keep` leaves.
fn settled(me: u32, keep: impl Fn(u32) -> bool) -> Core {
    let core = fresh(me);
    let set = set();
    let keys = (0..).zip(set.keys()).filter(|(place, _)| keep(*place)).map(|(_, key)| *key);
    core.config.terms.settle(1, &ValidatorSet::new(keys.collect()).unwrap());
    core
}

fn end(core: &mut Core, now: u64) {
    core.finalized(now, cut(LAST, vec![]));
    settle(core, now);
}

/// A batch of the next epoch, whose lane is that of the owner there.
fn next_batch(owner: u32, lane: u32, number: u64) -> (Vec<u8>, Tip) {
    let key = keys()[owner as usize].clone();
    let mut sealer = Sealer::new();
    let admitted = transaction(number);
    assert!(sealer.push(&Transaction::decode(&admitted.bytes).unwrap(), &admitted.id));
    let (sequence, previous) = (1, Digest::ZERO);
    let place = BatchPlace { network: NETWORK, epoch: 1, lane, sequence, previous };
    let sign = |message: &[u8; 47]| Signature(key.sign(message).to_bytes());
    let (bytes, digest) = sealer.seal(&place, sign).unwrap();
    (bytes, Tip { sequence, digest })
}

#[test]
fn an_epoch_ends_with_its_last_block_once_that_is_durable() {
    let mut core = settled(0, |_| true);
    assert_eq!(core.turn(0, Height(LAST)), None, "its last block has not come");
    end(&mut core, 0);
    assert_eq!(core.turn(0, Height(LAST - 1)), None, "it is not durable");
    assert!(core.deadline(7) <= 7 + TURN_NS, "nobody wakes it when it is");
    let turn = core.turn(0, Height(LAST)).unwrap();
    assert_eq!((turn.epoch, turn.after), (1, cut(LAST, vec![]).digest));
    assert_eq!((core.epoch(), core.lanes(), core.turn(0, Height(LAST))), (1, 4, None));
}

#[test]
fn nothing_is_signed_between_the_last_block_and_the_turn() {
    let mut core = settled(0, |_| true);
    end(&mut core, 0);
    core.transactions(SECOND, vec![transaction(0)]);
    core.batch(SECOND, 1, batch(1, 1, Digest::ZERO, 1).0);
    core.tick(2 * SECOND);
    let actions = settle(&mut core, 2 * SECOND);
    assert!(acks_sent(&actions).is_empty());
    assert!(!actions.iter().any(|action| matches!(action, Action::SendBatch(..))));
    assert_eq!(core.lanes[0].acked, Tip::EMPTY);
    assert!(core.is_open(), "clients need not go elsewhere for a moment");
}

#[test]
fn what_an_epoch_left_is_sealed_again_in_the_next_before_what_waits() {
    let mut core = settled(0, |_| true);
    let waiting = core.config.waiting_bytes.clone();
    waiting.store(10_000, Ordering::Relaxed);
    core.transactions(0, vec![transaction(7), transaction(8)]);
    core.tick(SECOND);
    settle(&mut core, SECOND);
    assert_eq!(core.lanes[0].acked.sequence, 1);
    let after_seal = waiting.load(Ordering::Relaxed);
    end(&mut core, SECOND);
    core.transactions(SECOND, vec![transaction(9)]);
    core.turn(SECOND, Height(LAST)).unwrap();
    core.tick(2 * SECOND);
    let actions = settle(&mut core, 2 * SECOND);
    let sent = actions.iter().find_map(|action| match action {
        Action::SendBatch(To::All, held) => Some(held.clone()),
        _ => None,
    });
    let held = sent.expect("the lane goes on");
    let header = held.header();
    assert_eq!((header.epoch, header.sequence, header.previous), (1, 1, Digest::ZERO));
    let sequences: Vec<u64> = held.batch().transactions().map(|it| it.sequence()).collect();
    assert_eq!(sequences, [7, 8, 9]);
    let left = after_seal - transaction(9).bytes.len();
    assert_eq!(waiting.load(Ordering::Relaxed), left, "they were counted again and taken again");
}

#[test]
fn whoever_leaves_drops_what_waits_and_signs_nothing() {
    let mut core = settled(0, |place| place != 0);
    let waiting = core.config.waiting_bytes.clone();
    core.transactions(0, vec![transaction(7)]);
    let before = waiting.load(Ordering::Relaxed);
    end(&mut core, 0);
    core.turn(0, Height(LAST)).unwrap();
    assert!(!core.is_open());
    assert_eq!((core.lanes(), core.me), (3, None));
    assert_eq!(waiting.load(Ordering::Relaxed), before - transaction(7).bytes.len());
    // It follows: batches are checked and kept, and nobody gets an ack.
    let (bytes, _) = next_batch(1, 0, 1);
    core.batch(1, 0, bytes);
    let actions = settle(&mut core, 1);
    assert!(acks_sent(&actions).is_empty() && blamed(&actions).is_empty());
    core.tick(SECOND);
    assert!(core.take_actions().is_empty());
}

#[test]
fn what_others_send_of_the_next_epoch_waits_and_is_placed_by_key() {
    // The first validator leaves: who was 2 is 1 then.
    let mut core = settled(3, |place| place != 0);
    let (bytes, tip) = next_batch(2, 1, 5);
    core.batch(0, 2, bytes.clone());
    let foreign = next_batch(1, 0, 5).0;
    for _ in 0..10_000 {
        core.batch(0, 1, foreign.clone());
    }
    let kept: usize = core.early.iter().map(|(_, early)| early.size()).sum();
    assert!(kept <= 2 * EARLY_BYTES_MAX, "{kept} bytes");
    assert!(core.take_actions().is_empty(), "neither taken nor blamed");
    // Of an epoch after that nothing is kept.
    let mut far = bytes;
    far[40] = 2;
    core.batch(0, 2, far);
    end(&mut core, 0);
    core.turn(1, Height(LAST)).unwrap();
    let actions = settle(&mut core, 1);
    assert!(core.early.is_empty());
    assert_eq!(core.lanes[1].acked, tip, "its batch is there");
    assert_eq!(blamed(&actions), []);
    let to: Vec<To> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(to, Control::Ack(ack)) if ack.lane == 1 => Some(*to),
            _ => None,
        })
        .collect();
    assert_eq!(to, [To::One(1)]);
    assert_eq!(core.key(1), set().keys()[2]);
}

#[test]
fn of_what_waits_one_forged_certificate_of_a_sender_is_checked() {
    let mut core = settled(0, |_| true);
    for sequence in 1..=5 {
        let tip = Tip { sequence, digest: Digest([7; 32]) };
        let mut forged = certificate(1, &tip);
        forged.epoch = 1;
        core.control(0, 1, &Control::Certificate(forged).encode());
    }
    assert_eq!((core.early.len(), blamed(&settle(&mut core, 0))), (5, vec![]));
    end(&mut core, 0);
    core.turn(1, Height(LAST)).unwrap();
    assert_eq!(blamed(&settle(&mut core, 1)), [(1, Fault::BadAck)]);
}

#[test]
fn cuts_of_the_next_epoch_wait_for_the_turn() {
    let mut core = settled(0, |_| true);
    core.finalized(0, cut(LAST, vec![]));
    let mut next = cut(LAST + 1, vec![]);
    let mut of_next = (*next.cut).clone();
    of_next.epoch = 1;
    next.cut = Arc::new(of_next);
    core.finalized(0, next);
    assert_eq!(executed(&settle(&mut core, 0)), [(LAST, 0)]);
    core.turn(0, Height(LAST)).unwrap();
    assert_eq!(executed(&settle(&mut core, 0)), [(LAST + 1, 0)]);
}

#[test]
fn messages_of_an_epoch_that_is_over_harm_nobody() {
    let mut core = settled(0, |_| true);
    core.transactions(0, vec![transaction(7)]);
    core.tick(SECOND);
    let then: Vec<Durable> = core
        .take_actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::Append(_, then) => Some(then),
            _ => None,
        })
        .collect();
    let own = core.lanes[0].acked;
    core.finalized(SECOND, cut(LAST, vec![]));
    core.take_actions();
    core.turn(SECOND, Height(LAST)).unwrap();
    // Its own batch becomes durable too late, acks and certificates come too late.
    then.into_iter().for_each(|then| core.durable(SECOND, then));
    core.control(SECOND, 1, &Control::Ack(ack(0, 1, &own)).encode());
    let (_, old) = batch(2, 1, Digest::ZERO, 1);
    core.control(SECOND, 2, &Control::Certificate(certificate(2, &old)).encode());
    let actions = core.take_actions();
    assert_eq!(blamed(&actions), []);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::SendBatch(..) | Action::Certified(_)))
    );
}

#[test]
fn a_guest_is_served_and_has_no_say() {
    let mut core = settled(0, |place| place != 1);
    let batches = chain(1, 2);
    for (bytes, _) in &batches {
        core.batch(0, 1, bytes.clone());
    }
    settle(&mut core, 0);
    end(&mut core, 0);
    core.turn(0, Height(LAST)).unwrap();
    assert_eq!(core.peer(&PublicKey([77; 32])), None);
    // As if a newcomer were moved: behind the members.
    core.peers.push(PublicKey([77; 32]));
    core.serving.resize(3, 4);
    for notes in [&mut core.silent, &mut core.muted, &mut core.told] {
        notes.push(0);
    }
    let guest = core.peer(&PublicKey([77; 32])).unwrap();
    assert_eq!(guest, 3);
    let request = Request { lane: 1, digest: batches[1].1.digest, floor: 0, count: 16 };
    core.control(1, guest, &Control::Request(request).encode());
    let served = settle(&mut core, 1);
    let sent = served.iter().filter(|action| matches!(action, Action::SendStored(3, _)));
    assert_eq!(sent.count(), 2, "also of the epoch before");
    core.batch(2, guest, next_batch(2, 1, 5).0);
    core.control(2, guest, &Control::Evidence(vec![1]).encode());
    core.control(2, guest, &Control::Certificate(certificate(1, &batches[0].1)).encode());
    assert!(core.take_actions().is_empty());
}
