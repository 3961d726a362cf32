//! The lane core against what peers may send: order, loss, forks, forgeries, restarts.

mod evidence;
mod turn;

use super::*;
use crate::{admit::Admitted, key::Secret, votes::Judge};
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::{
    Batch, BatchPlace, Draft, Height, Kind, Sealer, Transaction, View, batch::HEADER_BYTES,
};
use storage::{Options, Simulated, Store};

const NETWORK: Digest = Digest([3; 32]);
const SECOND: u64 = 1_000_000_000;

fn keys() -> Vec<SigningKey> {
    let mut keys: Vec<_> = (0..4).map(|index| SigningKey::from_bytes(&[index + 1; 32])).collect();
    keys.sort_by_key(|key| key.verifying_key().to_bytes());
    keys
}

fn set() -> ValidatorSet {
    let public = |key: &SigningKey| PublicKey(key.verifying_key().to_bytes());
    ValidatorSet::new(keys().iter().map(public).collect()).unwrap()
}

fn judge() -> Arc<dyn Signatures> {
    let options = sigverify::Options { backend: None, threads: 1 };
    Arc::new(Judge::new(Arc::new(sigverify::Verifier::new(&options).unwrap())))
}

fn core(me: u32, disk: &Simulated, recovered: Recovered) -> Core {
    let options = Options { segment_bytes: 1 << 20, ..Options::new(*NETWORK.as_bytes()) };
    let (store, _) = Store::open_inline(Box::new(disk.restart()), &options).unwrap();
    let key = &keys()[me as usize];
    let config = Config {
        network: NETWORK,
        terms: Terms::of(set().keys()),
        batch_delay_ns: 10_000_000,
        signer: Signer::unguarded(Secret::from_seed(&key.to_bytes())),
        signatures: judge(),
        store,
        waiting_bytes: Arc::new(AtomicUsize::new(1 << 20)),
        meter: crate::cost::Meter::OFF,
    };
    Core::new(config, 0, Tips::genesis(4), recovered)
}

fn fresh(me: u32) -> Core {
    core(me, &Simulated::new(u64::from(me)), Recovered::default())
}

fn transaction(number: u64) -> Admitted {
    let author = SigningKey::from_bytes(&[99; 32]);
    let draft = Draft {
        kind: Kind::Record,
        author: PublicKey(author.verifying_key().to_bytes()),
        sequence: number,
        previous: Digest([1; 32]),
        valid_until: Height(1_000),
        body: b"body",
    };
    let sign = |message: &[u8; 47]| Signature(author.sign(message).to_bytes());
    let (bytes, id) = draft.sign(&NETWORK, sign).unwrap();
    Admitted { bytes, id }
}

/// A batch of `lane` as its owner would seal it.
fn batch(lane: u32, sequence: u64, previous: Digest, number: u64) -> (Vec<u8>, Tip) {
    let key = keys()[lane as usize].clone();
    let mut sealer = Sealer::new();
    let admitted = transaction(number);
    assert!(sealer.push(&Transaction::decode(&admitted.bytes).unwrap(), &admitted.id));
    let place = BatchPlace { network: NETWORK, epoch: 0, lane, sequence, previous };
    let sign = |message: &[u8; 47]| Signature(key.sign(message).to_bytes());
    let (bytes, digest) = sealer.seal(&place, sign).unwrap();
    (bytes, Tip { sequence, digest })
}

/// A chain of batches of `lane`.
fn chain(lane: u32, count: u64) -> Vec<(Vec<u8>, Tip)> {
    let mut previous = Digest::ZERO;
    (1..=count)
        .map(|sequence| {
            let (bytes, tip) = batch(lane, sequence, previous, sequence);
            previous = tip.digest;
            (bytes, tip)
        })
        .collect()
}

fn ack(lane: u32, validator: u32, tip: &Tip) -> Ack {
    let message = ledger::ack_signing_message(&NETWORK, 0, lane, tip.sequence, &tip.digest);
    let signature = Signature(keys()[validator as usize].sign(&message).to_bytes());
    let Tip { sequence, digest } = *tip;
    Ack { epoch: 0, lane, sequence, digest, validator, signature }
}

fn certificate(lane: u32, tip: &Tip) -> AvailabilityCertificate {
    let acks: Vec<Ack> = (0..3).map(|validator| ack(lane, validator, tip)).collect();
    AvailabilityCertificate::assemble(&acks).unwrap()
}

fn cut(height: u64, lanes: Vec<AvailabilityCertificate>) -> Finalized {
    let cut = Cut {
        network: NETWORK,
        epoch: 0,
        height: Height(height),
        view: View(height),
        parent: Digest::ZERO,
        time_ms: 0,
        executed: Height(0),
        history_root: Digest::ZERO,
        state_root: Digest::ZERO,
        set: Digest::ZERO,
        next_set: Digest::ZERO,
        lanes,
    };
    let digest = cut.digest();
    Finalized { cut: Arc::new(cut), digest, certificate: None, token: height }
}

/// Runs appends and checks at once, as a fast machine would; answers the other actions.
fn settle(core: &mut Core, now: u64) -> Vec<Action> {
    let mut rest = Vec::new();
    loop {
        let actions = core.take_actions();
        if actions.is_empty() {
            return rest;
        }
        for action in actions {
            match action {
                Action::Append(records, then) => {
                    core.config.store.append(records, None).unwrap();
                    core.durable(now, then);
                }
                Action::Verify(unverified) => {
                    let held = Held::decode(unverified.bytes, &NETWORK).ok().map(Arc::new);
                    core.verified(now, &unverified.digest, held);
                }
                other => rest.push(other),
            }
        }
    }
}

fn acks_sent(actions: &[Action]) -> Vec<u64> {
    let sequence = |action: &Action| match action {
        Action::Send(_, Control::Ack(ack)) => Some(ack.sequence),
        _ => None,
    };
    actions.iter().filter_map(sequence).collect()
}

fn blamed(actions: &[Action]) -> Vec<(u32, Fault)> {
    let blame = |action: &Action| match action {
        Action::Blame(validator, fault) => Some((*validator, *fault)),
        _ => None,
    };
    actions.iter().filter_map(blame).collect()
}

fn requested(actions: &[Action]) -> Vec<Digest> {
    let request = |action: &Action| match action {
        Action::Send(_, Control::Request(request)) => Some(request.digest),
        _ => None,
    };
    actions.iter().filter_map(request).collect()
}

fn executed(actions: &[Action]) -> Vec<(u64, usize)> {
    let ready = |action: &Action| match action {
        Action::Execute(ready) => {
            Some((ready.finalized.token, ready.batches.iter().map(Vec::len).sum()))
        }
        _ => None,
    };
    actions.iter().filter_map(ready).collect()
}

#[test]
fn an_own_batch_leaves_only_when_it_is_durable() {
    let mut core = fresh(0);
    core.transactions(0, vec![transaction(0)]);
    core.tick(SECOND);
    let mut actions = core.take_actions();
    assert_eq!(actions.len(), 1, "an append and nothing else");
    let Some(Action::Append(records, then)) = actions.pop() else { panic!("an append") };
    assert_eq!(records.iter().map(|record| record.kind).collect::<Vec<_>>(), [1, 5]);
    core.durable(SECOND, then);
    let sent = core.take_actions();
    assert!(matches!(&sent[..], [Action::SendBatch(To::All, _)]));
}

#[test]
fn a_quorum_of_acks_makes_a_certificate_that_checks() {
    let mut core = fresh(0);
    core.transactions(0, vec![transaction(0)]);
    core.tick(SECOND);
    settle(&mut core, SECOND);
    let tip = core.lanes[0].acked;
    for validator in [1, 2] {
        core.control(SECOND, validator, &Control::Ack(ack(0, validator, &tip)).encode());
    }
    let actions = settle(&mut core, SECOND);
    let made = actions.iter().find_map(|action| match action {
        Action::Certified(certificate) => Some(certificate.clone()),
        _ => None,
    });
    let made = made.expect("own ack and two more are a quorum of four");
    assert_eq!((made.lane, made.sequence, made.digest), (0, 1, tip.digest));
    made.check(&NETWORK, &set(), &*judge()).unwrap();
}

#[test]
fn forged_foreign_and_repeated_acks_do_not_count() {
    let mut core = fresh(0);
    core.transactions(0, vec![transaction(0)]);
    core.tick(SECOND);
    settle(&mut core, SECOND);
    let tip = core.lanes[0].acked;
    let mut forged = ack(0, 2, &tip);
    forged.signature.0[0] ^= 1;
    core.control(SECOND, 2, &Control::Ack(forged).encode());
    // Validator 3 hands in what validator 1 signed.
    core.control(SECOND, 3, &Control::Ack(ack(0, 1, &tip)).encode());
    let other = Tip { sequence: 1, digest: Digest([8; 32]) };
    core.control(SECOND, 3, &Control::Ack(ack(0, 3, &other)).encode());
    for _ in 0..3 {
        core.control(SECOND, 1, &Control::Ack(ack(0, 1, &tip)).encode());
    }
    core.control(SECOND, 1, &[9, 9, 9]);
    let actions = settle(&mut core, SECOND);
    // The forged one is found once enough are there to be checked together.
    let faults =
        [(3, Fault::Unasked), (3, Fault::BadAck), (2, Fault::BadAck), (1, Fault::Malformed)];
    assert_eq!(blamed(&actions), faults);
    assert!(core.lanes[0].certificate.is_none(), "two of four are no quorum");
    // Nor does it stand in the way of the next.
    core.muted[3] = 0;
    core.control(SECOND, 3, &Control::Ack(ack(0, 3, &tip)).encode());
    let certificate = core.lanes[0].certificate.as_ref().expect("three of four are one");
    certificate.check(&NETWORK, &set(), &*judge()).unwrap();
}

#[test]
fn batches_are_acknowledged_in_order_once_durable_whatever_order_they_come_in() {
    let mut core = fresh(0);
    let batches = chain(1, 3);
    core.batch(0, 1, batches[2].0.clone());
    core.batch(0, 1, batches[1].0.clone());
    let actions = settle(&mut core, 0);
    assert!(acks_sent(&actions).is_empty(), "the first is missing");
    core.tick(1);
    let asked = requested(&settle(&mut core, 1));
    assert!(asked.contains(&batches[0].1.digest), "the gap is asked for");
    core.batch(2, 1, batches[0].0.clone());
    let mut appended = Vec::new();
    for action in core.take_actions() {
        if let Action::Verify(unverified) = action {
            let held = Held::decode(unverified.bytes, &NETWORK).unwrap();
            core.verified(2, &unverified.digest, Some(Arc::new(held)));
        }
    }
    for action in core.take_actions() {
        assert!(!matches!(action, Action::Send(_, Control::Ack(_))), "not before it is durable");
        if let Action::Append(records, then) = action {
            appended.push((records.len(), then));
        }
    }
    let (records, then) = appended.pop().expect("batch and acks in one append");
    assert_eq!(records, 4);
    core.durable(3, then);
    assert_eq!(acks_sent(&core.take_actions()), [1, 2, 3]);
}

#[test]
fn a_lost_ack_is_repeated_when_the_batch_comes_again() {
    let mut core = fresh(0);
    let (bytes, _) = batch(1, 1, Digest::ZERO, 1);
    core.batch(0, 1, bytes.clone());
    assert_eq!(acks_sent(&settle(&mut core, 0)), [1]);
    core.batch(1, 1, bytes.clone());
    assert_eq!(acks_sent(&settle(&mut core, 1)), [1]);
    // From another validator it is no reason to speak.
    core.batch(2, 2, bytes);
    assert!(acks_sent(&settle(&mut core, 2)).is_empty());
}

#[test]
fn a_fork_gets_one_ack_and_blame() {
    let mut core = fresh(0);
    let (first, _) = batch(1, 1, Digest::ZERO, 1);
    let (second, _) = batch(1, 1, Digest::ZERO, 2);
    core.batch(0, 1, first);
    assert_eq!(acks_sent(&settle(&mut core, 0)), [1]);
    core.batch(0, 1, second);
    let actions = settle(&mut core, 0);
    assert!(acks_sent(&actions).is_empty());
    assert_eq!(blamed(&actions), [(1, Fault::Fork)]);
}

#[test]
fn what_nobody_asked_for_is_dropped_before_any_check() {
    let mut core = fresh(0);
    let (other, _) = batch(2, 1, Digest::ZERO, 1);
    core.batch(0, 1, other);
    let (far, _) = batch(1, WINDOW_BATCHES + 1, Digest([4; 32]), 1);
    core.batch(0, 1, far);
    core.batch(0, 1, vec![0; HEADER_BYTES]);
    let actions = core.take_actions();
    assert_eq!(blamed(&actions), [(1, Fault::Unasked), (1, Fault::Malformed)]);
    assert_eq!(actions.len(), 2, "what is far ahead is no fault");
}

#[test]
fn a_batch_that_fails_its_check_is_blamed_and_may_come_again() {
    let mut core = fresh(0);
    let (bytes, tip) = batch(1, 1, Digest::ZERO, 1);
    core.batch(0, 1, bytes.clone());
    core.take_actions();
    core.verified(0, &tip.digest, None);
    assert_eq!(blamed(&core.take_actions()), [(1, Fault::BadBatch)]);
    core.batch(SECOND, 1, bytes.clone());
    assert!(core.take_actions().is_empty(), "nothing is taken from its sender for a while");
    core.batch(11 * SECOND, 1, bytes);
    assert_eq!(acks_sent(&settle(&mut core, 11 * SECOND)), [1]);
}

#[test]
fn a_chain_that_claims_other_sequences_is_not_followed() {
    let mut core = fresh(0);
    let (far, tip) = batch(1, u64::MAX, Digest([7; 32]), 1);
    let (near, _) = batch(1, 3, tip.digest, 2);
    core.batch(0, 1, near);
    settle(&mut core, 0);
    core.tick(1);
    assert_eq!(requested(&settle(&mut core, 1)), [tip.digest]);
    core.batch(2, 1, far);
    let actions = settle(&mut core, 2);
    assert_eq!(blamed(&actions), [(1, Fault::Fork)]);
    core.tick(10 * SECOND);
    assert!(requested(&settle(&mut core, 10 * SECOND)).is_empty(), "nor asked for again");
}

#[test]
fn certificates_move_forward_only_and_must_hold() {
    let mut core = fresh(0);
    let batches = chain(1, 2);
    let send = |core: &mut Core, from: u32, certificate: AvailabilityCertificate| {
        core.control(0, from, &Control::Certificate(certificate).encode());
        settle(core, 0).iter().filter(|action| matches!(action, Action::Certified(_))).count()
    };
    let mut forged = certificate(1, &batches[1].1);
    forged.signatures[1].0[3] ^= 1;
    assert_eq!(send(&mut core, 3, forged), 0);
    assert_eq!(send(&mut core, 2, certificate(1, &batches[1].1)), 1);
    assert_eq!(send(&mut core, 2, certificate(1, &batches[0].1)), 0, "older");
    assert_eq!(send(&mut core, 2, certificate(1, &batches[1].1)), 0, "the same");
    core.tick(SECOND);
    assert_eq!(requested(&core.take_actions()), [batches[1].1.digest], "its batch is fetched");
}

#[test]
fn finalized_cuts_wait_for_their_batches_and_leave_in_order() {
    let mut core = fresh(0);
    let (one, two) = (chain(1, 3), chain(2, 1));
    core.finalized(0, cut(1, vec![certificate(1, &one[2].1)]));
    core.finalized(0, cut(2, vec![certificate(2, &two[0].1)]));
    core.batch(0, 2, two[0].0.clone());
    assert!(executed(&settle(&mut core, 0)).is_empty(), "the first is incomplete");
    core.tick(1);
    assert_eq!(requested(&settle(&mut core, 1)), [one[2].1.digest]);
    // The answer comes newest first, from a validator that is not the owner.
    for (bytes, _) in one.iter().rev() {
        core.batch(2, 3, bytes.clone());
    }
    assert_eq!(executed(&settle(&mut core, 2)), [(1, 3), (2, 1)]);
    assert_eq!(core.positions()[1], (3, 3, 3));
    assert_eq!(core.held_bytes(), 0, "what is final is in the store alone");
    core.control(
        3,
        3,
        &Control::Request(Request { lane: 1, digest: one[2].1.digest, floor: 1, count: 16 })
            .encode(),
    );
    let served = settle(&mut core, 3);
    let sent = served.iter().filter(|action| matches!(action, Action::SendStored(3, _)));
    assert_eq!(sent.count(), 2, "down to the floor, from the store");
}

#[test]
fn a_validator_that_does_not_answer_is_asked_last_for_a_while() {
    let asked = |core: &mut Core| -> Vec<u32> {
        let request = |action: &Action| match action {
            Action::Send(To::One(peer), Control::Request(_)) => Some(*peer),
            _ => None,
        };
        core.take_actions().iter().filter_map(request).collect()
    };
    let mut core = fresh(0);
    let batches = chain(1, 2);
    core.finalized(0, cut(1, vec![certificate(1, &batches[0].1)]));
    core.tick(1);
    assert_eq!(asked(&mut core), [1], "the owner first");
    core.tick(1 + RETRY_NS);
    assert_eq!(asked(&mut core), [2], "then another");
    core.batch(2 + RETRY_NS, 2, batches[0].0.clone());
    settle(&mut core, 2 + RETRY_NS);
    core.finalized(3 + RETRY_NS, cut(2, vec![certificate(1, &batches[1].1)]));
    core.tick(4 + RETRY_NS);
    assert_eq!(asked(&mut core), [2], "the silent owner costs no second wait");
}

#[test]
fn a_request_is_served_within_limits() {
    let mut core = fresh(0);
    let batches = chain(1, 40);
    for (bytes, _) in &batches {
        core.batch(0, 1, bytes.clone());
    }
    settle(&mut core, 0);
    let request = Request { lane: 1, digest: batches[39].1.digest, floor: 0, count: u16::MAX };
    let mut sent = 0;
    for _ in 0..100 {
        core.control(0, 2, &Control::Request(request).encode());
        sent += core.take_actions().len();
    }
    assert_eq!(sent, 64, "so many batches between two ticks");
    let period = core.deadline(0);
    assert!(period < RETRY_NS, "the next share comes before the asker repeats itself");
    core.tick(period);
    let again = core.take_actions();
    let batches = again.iter().filter(|action| matches!(action, Action::SendBatch(To::One(2), _)));
    assert_eq!(batches.count(), 16, "one repeated request waited for its next share");
    assert_eq!(core.deadline(0), RETRY_NS, "nothing else waits");
    let unknown = Request { digest: Digest([5; 32]), ..request };
    core.control(0, 2, &Control::Request(unknown).encode());
    assert!(core.take_actions().is_empty());
}

#[test]
fn requests_that_lead_nowhere_use_up_the_share_too() {
    let mut core = fresh(0);
    let (bytes, one) = batch(1, 1, Digest::ZERO, 1);
    core.batch(0, 1, bytes);
    settle(&mut core, 0);
    let request = Request { lane: 1, digest: one.digest, floor: 0, count: 1 };
    for number in 0..64_u8 {
        let unknown = Request { digest: Digest([number + 1; 32]), ..request };
        core.control(0, 2, &Control::Request(unknown).encode());
    }
    core.control(0, 2, &Control::Request(request).encode());
    assert!(core.take_actions().is_empty(), "this period is spent on what nobody has");
    core.control(0, 3, &Control::Request(request).encode());
    assert_eq!(core.take_actions().len(), 1, "another asker has its own share");
    core.tick(core.deadline(0));
    assert_eq!(core.take_actions().len(), 1, "and the first is served in the next period");
}

#[test]
fn a_batch_goes_again_to_those_whose_ack_is_missing_or_was_bad() {
    let mut core = fresh(0);
    core.transactions(0, vec![transaction(0)]);
    core.tick(SECOND);
    settle(&mut core, SECOND);
    let tip = core.lanes[0].acked;
    let again = |core: &mut Core, now| {
        core.tick(now);
        let to = |action: &Action| match action {
            Action::SendBatch(To::One(validator), _) => Some(*validator),
            _ => None,
        };
        core.take_actions().iter().filter_map(to).collect::<Vec<_>>()
    };
    let mut forged = ack(0, 2, &tip);
    forged.signature.0[0] ^= 1;
    core.control(SECOND, 2, &Control::Ack(forged).encode());
    assert_eq!(again(&mut core, SECOND + RETRY_NS), [1, 3], "the second one's is not checked yet");
    core.control(SECOND + RETRY_NS, 1, &Control::Ack(ack(0, 1, &tip)).encode());
    assert_eq!(again(&mut core, SECOND + 2 * RETRY_NS), [2, 3]);
}

#[test]
fn a_restart_sends_own_batches_again_and_never_acks_twice() {
    let disk = Simulated::new(1);
    let mut before = core(0, &disk, Recovered::default());
    before.transactions(0, vec![transaction(0)]);
    before.tick(SECOND);
    let (peer, tip) = batch(1, 1, Digest::ZERO, 1);
    before.batch(SECOND, 1, peer);
    settle(&mut before, SECOND);
    let own = before.lanes[0].acked;
    let mut recovered = Recovered::default();
    for entry in before.config.store.records() {
        let (_, header, body) = entry.unwrap();
        match header.kind {
            record::BATCH => {
                recovered.held.push(Arc::new(Held::decode(body, &NETWORK).unwrap()));
            }
            record::ACK => {
                let ack = Ack::decode(&body).unwrap();
                let acks = recovered.acked.entry(ack.lane).or_default();
                acks.insert(ack.sequence, ack.digest);
            }
            kind => panic!("kind {kind}"),
        }
    }
    assert_eq!(recovered.acked[&1], BTreeMap::from([(1, tip.digest)]));
    drop(before);
    let mut after = core(0, &disk, recovered);
    assert_eq!(after.lanes[0].acked, own);
    after.tick(SECOND);
    let sent = settle(&mut after, SECOND);
    let again = sent.iter().filter(|action| matches!(action, Action::SendBatch(To::One(_), _)));
    assert_eq!(again.count(), 3, "to every validator whose ack is not known");
    let (fork, _) = batch(1, 1, Digest::ZERO, 2);
    after.batch(SECOND, 1, fork);
    assert!(acks_sent(&settle(&mut after, SECOND)).is_empty());
    after.transactions(SECOND, vec![transaction(1)]);
    after.tick(2 * SECOND);
    settle(&mut after, 2 * SECOND);
    assert_eq!(after.lanes[0].acked.sequence, own.sequence + 1, "the own lane goes on");
}

#[test]
fn a_full_window_stops_the_own_lane_and_a_cut_opens_it() {
    let mut core = fresh(0);
    let mut tips = Vec::new();
    for number in 0..=OWN_BATCHES_MAX as u64 {
        core.transactions(number * SECOND, vec![transaction(number)]);
        core.tick(number * SECOND + SECOND / 2);
        settle(&mut core, number * SECOND);
        tips.push(core.lanes[0].acked);
    }
    assert_eq!(tips.last().map(|tip| tip.sequence), Some(OWN_BATCHES_MAX as u64));
    assert_eq!(core.deadline(0), RETRY_NS, "nothing is due while the window is full");
    core.finalized(1_000 * SECOND, cut(1, vec![certificate(0, &tips[9])]));
    settle(&mut core, 1_000 * SECOND);
    assert_eq!(core.lanes[0].acked.sequence, OWN_BATCHES_MAX as u64, "committed is not executed");
    let mut executed = Tips::genesis(4);
    executed.0[0] = tips[9];
    core.executed(0, &executed);
    core.tick(1_001 * SECOND);
    settle(&mut core, 1_001 * SECOND);
    assert_eq!(core.lanes[0].acked.sequence, OWN_BATCHES_MAX as u64 + 1);
}

#[test]
fn sealed_batches_keep_the_order_of_transactions() {
    let mut core = fresh(0);
    core.transactions(0, (0..5).map(transaction).collect());
    core.tick(SECOND);
    let actions = settle(&mut core, SECOND);
    let Some(Action::SendBatch(_, held)) = actions.first() else { panic!("a batch") };
    let batch: &Batch<'_> = held.batch();
    let sequences: Vec<u64> =
        batch.transactions().map(|transaction| transaction.sequence()).collect();
    assert_eq!(sequences, [0, 1, 2, 3, 4]);
}
