//! What the lane core finds out about validators that contradict themselves.

use super::*;

/// The evidence among actions, each of which holds.
fn accused(actions: &[Action]) -> Vec<(u32, &'static str)> {
    let found = actions.iter().filter_map(|action| match action {
        Action::Accuse(Witness::Found(evidence)) => Some(evidence),
        _ => None,
    });
    found
        .map(|evidence| {
            assert_eq!(evidence.check(&NETWORK, &set(), &*judge()), Ok(()));
            (evidence.validator(), evidence.kind())
        })
        .collect()
}

#[test]
fn a_fork_is_proved_whenever_its_second_batch_comes() {
    let (first, _) = batch(1, 1, Digest::ZERO, 1);
    let (second, _) = batch(1, 1, Digest::ZERO, 2);
    // After the first was checked.
    let mut core = fresh(0);
    core.batch(0, 1, first.clone());
    assert_eq!(accused(&settle(&mut core, 0)), []);
    core.batch(0, 1, first.clone());
    assert_eq!(accused(&settle(&mut core, 0)), [], "the same once more");
    core.batch(0, 1, second.clone());
    assert_eq!(accused(&settle(&mut core, 0)), [(1, "fork")]);
    // While the first is being checked.
    let mut core = fresh(0);
    core.batch(0, 1, first);
    core.batch(0, 1, second);
    assert_eq!(accused(&settle(&mut core, 0)), [(1, "fork")]);
}

#[test]
fn nobody_else_can_make_a_fork_of_a_lane() {
    let mut core = fresh(0);
    let (first, _) = batch(1, 1, Digest::ZERO, 1);
    core.batch(0, 1, first);
    settle(&mut core, 0);
    let (mut forged, _) = batch(1, 1, Digest::ZERO, 2);
    forged[HEADER_BYTES] ^= 1;
    core.batch(0, 1, forged);
    let actions = core.take_actions();
    let evidence = actions.iter().find_map(|action| match action {
        Action::Accuse(Witness::Found(evidence)) => Some(evidence),
        _ => None,
    });
    // It is put together without a check, and does not hold.
    let verdict = evidence.expect("a suspicion").check(&NETWORK, &set(), &*judge());
    assert_eq!(verdict, Err(ledger::Reject::BadSignature));
}

#[test]
fn a_second_ack_for_one_place_is_proved() {
    let mut core = fresh(0);
    core.transactions(0, vec![transaction(1)]);
    core.tick(SECOND);
    settle(&mut core, SECOND);
    let own = core.lanes[0].acked;
    let other = Tip { sequence: own.sequence, digest: Digest([8; 32]) };
    // Who has acknowledged nothing else has not contradicted itself.
    core.control(SECOND, 1, &Control::Ack(ack(0, 1, &other)).encode());
    assert_eq!(accused(&settle(&mut core, SECOND)), []);
    core.control(SECOND, 2, &Control::Ack(ack(0, 2, &own)).encode());
    core.control(SECOND, 2, &Control::Ack(ack(0, 2, &own)).encode());
    assert_eq!(accused(&settle(&mut core, SECOND)), []);
    core.control(SECOND, 2, &Control::Ack(ack(0, 2, &other)).encode());
    assert_eq!(accused(&settle(&mut core, SECOND)), [(2, "ack")]);
}

#[test]
fn what_another_tells_goes_to_who_keeps_it() {
    let mut core = fresh(0);
    core.control(0, 3, &Control::Evidence(vec![1, 2, 3]).encode());
    let actions = core.take_actions();
    assert!(
        matches!(&actions[..], [Action::Accuse(Witness::Told(bytes))] if *bytes == [1, 2, 3]),
        "and nobody is blamed for it"
    );
    let long = vec![0; ledger::limits::EVIDENCE_BYTES_MAX + 1];
    core.control(0, 3, &Control::Evidence(long).encode());
    assert_eq!(blamed(&core.take_actions()), [(3, Fault::Malformed)]);
}

#[test]
fn who_tells_more_than_an_honest_validator_is_not_heard() {
    let mut core = fresh(0);
    let mut tell = |now| {
        core.control(now, 3, &Control::Evidence(vec![1]).encode());
        let actions = core.take_actions();
        matches!(&actions[..], [Action::Accuse(_)])
    };
    let at_once = (0..200).filter(|_| tell(SECOND)).count();
    assert_eq!(at_once, 65);
    let later = (1..=400).filter(|turn| tell(SECOND + turn * SECOND / 10)).count();
    assert_eq!(later, 160, "four a second from then on");
    core.control(SECOND, 2, &Control::Evidence(vec![1]).encode());
    assert_eq!(core.take_actions().len(), 1, "another is heard");
}

#[test]
fn of_one_place_a_fork_is_told_once() {
    let mut core = fresh(0);
    let (first, _) = batch(1, 1, Digest::ZERO, 1);
    core.batch(0, 1, first);
    settle(&mut core, 0);
    let told = (2..9).map(|number| {
        core.batch(0, 1, batch(1, 1, Digest::ZERO, number).0);
        accused(&settle(&mut core, 0)).len()
    });
    assert_eq!(told.collect::<Vec<_>>(), [1, 0, 0, 0, 0, 0, 0]);
}
