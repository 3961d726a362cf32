//! Checks of the border; [`fake`] is the node that the rest of the edge is checked against.

mod fake;
mod session;

pub(crate) use fake::*;
pub(crate) use session::Pair;

use super::*;
use crate::metrics::{DropLabel, PathLabel};
use crossbeam::channel;
use std::time::Duration;

fn refusal(answer: Answer) -> (Digest, Refusal, u32) {
    match answer {
        Answer::Refused { id, refusal, retry_ms, .. } => (id, refusal, retry_ms),
        other => panic!("{other:?}"),
    }
}

fn dropped(handle: &NodeHandle, stage: &'static str, refusal: Refusal) -> u64 {
    let label = DropLabel { stage, reason: refusal.as_str() };
    handle.metrics.tx_dropped.get_or_create(&label).get()
}

#[test]
fn a_submission_reaches_the_node_and_gives_its_bytes_back_when_it_is_taken() {
    let (handle, requests, _queries) = handle(4, 1_000);
    let (bytes, _) = transaction(0, TAKEN, b"x");
    handle.submit(bytes.clone(), Reply::None);
    assert_eq!(handle.requests_budget.used_bytes(), bytes.len());
    let Request::Submit(submission) = requests.try_recv().unwrap() else { panic!("a submission") };
    assert_eq!(submission.bytes, bytes);
    drop(submission);
    assert_eq!(handle.requests_budget.used_bytes(), 0);
    assert_eq!(handle.metrics.tx_received.get(), 1);
}

#[test]
fn a_full_queue_and_a_full_budget_are_answered_busy_with_the_id() {
    let (bytes, id) = transaction(0, TAKEN, b"x");
    for (requests_max, bytes_max) in [(1, 1 << 20), (10, bytes.len())] {
        let (handle, requests, _queries) = handle(requests_max, bytes_max);
        handle.submit(bytes.clone(), Reply::None);
        let (reply, mut answers) = Reply::http(false);
        handle.submit(bytes.clone(), reply);
        assert_eq!(refusal(answers.try_recv().unwrap()), (id, Refusal::Busy, RETRY_MS));
        assert_eq!(dropped(&handle, "ingest", Refusal::Busy), 1);
        assert_eq!(requests.len(), 1);
        drop(requests.try_recv());
        assert_eq!(handle.requests_budget.used_bytes(), 0, "what was refused holds nothing");
    }
}

#[test]
fn length_alone_refuses_what_is_too_short_or_too_long() {
    let (handle, requests, _queries) = handle(4, 1 << 20);
    let short = vec![0; ledger::limits::TRANSACTION_OVERHEAD - 1];
    let long = vec![0; ledger::limits::TRANSACTION_BYTES_MAX + 1];
    for (bytes, expected) in [(short, Refusal::Malformed), (long, Refusal::TooLarge)] {
        let (reply, mut answers) = Reply::http(false);
        handle.submit(bytes, reply);
        assert_eq!(refusal(answers.try_recv().unwrap()), (Digest::ZERO, expected, 0));
        assert_eq!(dropped(&handle, "ingest", expected), 1);
    }
    assert!(requests.is_empty());
}

#[test]
fn a_shut_door_refuses_everything_and_opens_again() {
    let (handle, requests, _queries) = handle(4, 1 << 20);
    let (bytes, id) = transaction(0, TAKEN, b"x");
    let shut = [
        (Admission::NotReady, Refusal::NotReady),
        (Admission::Stopping, Refusal::Stopping),
        (Admission::Full, Refusal::StorageFull),
    ];
    for (admission, expected) in shut {
        handle.status.set_admission(admission);
        assert_eq!(handle.status.admission(), admission);
        let (reply, mut answers) = Reply::http(false);
        handle.submit(bytes.clone(), reply);
        assert_eq!(refusal(answers.try_recv().unwrap()), (id, expected, RETRY_MS));
    }
    handle.status.set_admission(Admission::Open);
    handle.submit(bytes, Reply::None);
    assert_eq!(requests.len(), 1);
}

#[test]
fn a_node_that_is_gone_is_answered_as_stopping() {
    let (handle, requests, queries) = handle(4, 1 << 20);
    drop((requests, queries));
    let (bytes, id) = transaction(0, TAKEN, b"x");
    let (reply, mut answers) = Reply::http(true);
    handle.submit(bytes, reply.clone());
    assert_eq!(refusal(answers.try_recv().unwrap()), (id, Refusal::Stopping, RETRY_MS));
    handle.watch(id, reply);
    assert_eq!(refusal(answers.try_recv().unwrap()), (id, Refusal::Stopping, RETRY_MS));
    let (reply, _answer) = oneshot::channel();
    let query = Query::Block { height: Height(1), reply };
    assert_eq!(handle.query(query), Err(Refusal::Stopping));
    assert_eq!(handle.requests_budget.used_bytes(), 0);
}

#[test]
fn watches_and_questions_that_find_no_room_are_busy() {
    let (handle, _requests, _queries) = handle(1, 1 << 20);
    handle.watch(PRUNED, Reply::None);
    let (reply, mut answers) = Reply::http(true);
    handle.watch(PRUNED, reply);
    assert_eq!(refusal(answers.try_recv().unwrap()), (PRUNED, Refusal::Busy, RETRY_MS));
    let ask = || {
        let (reply, _answer) = oneshot::channel();
        handle.query(Query::Account { key: KNOWN_KEY, reply })
    };
    let answers: Vec<_> = (0..5).map(|_| ask()).collect();
    assert_eq!(answers[..4], [Ok(()); 4]);
    assert_eq!(answers[4], Err(Refusal::Busy));
    assert_eq!(dropped(&handle, "api", Refusal::Busy), 1);
}

#[test]
fn an_http_reply_never_waits_and_knows_whether_it_is_read() {
    let (reply, mut answers) = Reply::http(true);
    assert!(reply.wants_final() && reply.is_open());
    for _ in 0..10 {
        reply.send(Answer::Accepted { id: PRUNED });
    }
    let mut read = 0;
    while answers.try_recv().is_ok() {
        read += 1;
    }
    assert_eq!(read, 3);
    drop(answers);
    assert!(!reply.is_open());
    assert!(!Reply::http(false).0.wants_final());
    assert!(!Reply::default().is_open() && !Reply::None.wants_final());
}

fn outbox(limit_bytes: usize, shared_bytes: usize) -> (Outbox, Arc<Budget>, OutboxCounters) {
    let (shared, counters) = (Arc::new(Budget::new(shared_bytes)), OutboxCounters::default());
    (Outbox::new(limit_bytes, Arc::clone(&shared), counters.clone()), shared, counters)
}

/// Bytes of an accepted answer, its length included.
const ACCEPTED_BYTES: usize = 4 + 1 + 32;

#[test]
fn an_outbox_hands_over_all_that_waits_and_remembers_what_is_unwritten() {
    let (outbox, shared, counters) = outbox(1_000, 1_000);
    for _ in 0..3 {
        outbox.send(&Answer::Accepted { id: PRUNED });
    }
    let mut bytes = Vec::new();
    outbox.take(&mut bytes);
    assert_eq!(bytes.len(), 3 * ACCEPTED_BYTES);
    outbox.send(&Answer::Unknown { id: PRUNED });
    outbox.take(&mut bytes);
    assert_eq!(bytes.len(), 4 * ACCEPTED_BYTES);
    assert_eq!(shared.used_bytes(), bytes.len(), "taken is not yet written");
    outbox.written(ACCEPTED_BYTES + 1);
    assert_eq!(shared.used_bytes(), 3 * ACCEPTED_BYTES - 1);
    assert_eq!(counters.sent.get(), 4);
    drop(outbox);
    assert_eq!(shared.used_bytes(), 0);
}

#[test]
fn an_answer_without_room_closes_the_outbox_alone_or_with_all() {
    for (limit_bytes, shared_bytes) in [(2 * ACCEPTED_BYTES, 1_000), (1_000, 2 * ACCEPTED_BYTES)] {
        let (outbox, shared, counters) = outbox(limit_bytes, shared_bytes);
        let reply = Reply::Tcp(Arc::new(outbox));
        let Reply::Tcp(outbox) = &reply else { unreachable!() };
        assert!(reply.wants_final() && reply.is_open());
        for _ in 0..5 {
            reply.send(Answer::Accepted { id: PRUNED });
        }
        assert!(!reply.is_open());
        assert_eq!((counters.sent.get(), counters.dropped.get()), (2, 1));
        // The connection's task closes it; the node may hold the reply much longer.
        outbox.close();
        assert_eq!(shared.used_bytes(), 0);
        reply.send(Answer::Accepted { id: PRUNED });
        assert_eq!(shared.used_bytes(), 0);
    }
}

#[test]
fn a_datagram_gets_one_answer_and_never_news_of_finality() {
    let (sender, answers) = channel::bounded(1);
    let mut pair = Pair::new();
    let metrics = Metrics::new();
    let label = PathLabel { path: "udp" };
    let dropped = metrics.net_answers_dropped.get_or_create_owned(&label);
    let mut new = || {
        let (ticket, standing) = pair.ticket();
        let reply = UdpReply::new(pair.address, ticket, standing, sender.clone(), dropped.clone());
        Reply::Udp(Arc::new(reply))
    };
    let reply = new();
    assert!(!reply.wants_final() && reply.is_open());
    reply.send(Answer::Unknown { id: PRUNED });
    assert!(answers.is_empty(), "a datagram watches nothing");
    reply.clone().send(Answer::Accepted { id: PRUNED });
    reply.send(applied(PRUNED));
    assert!(!reply.is_open());
    let sent = answers.try_recv().unwrap();
    assert!(answers.is_empty());
    new().send(Answer::Accepted { id: PRUNED });
    new().send(Answer::Accepted { id: PRUNED });
    assert_eq!(dropped.get(), 1, "a full queue drops and counts");
    assert_eq!(sent.address, pair.address);
    let answer = pair.open(&sent.bytes);
    assert_eq!((answer.counter, answer.outcome.status), (1, net_ebpf::abi::Status::Accepted));
}

#[test]
fn hostile_transactions_end_their_session_and_list_the_address_that_was_proved() {
    let (sender, _answers) = channel::bounded(100);
    let mut pair = Pair::new();
    let dropped =
        Metrics::new().net_answers_dropped.get_or_create_owned(&PathLabel { path: "udp" });
    let refuse = |pair: &mut Pair, refusal| {
        let (ticket, standing) = pair.ticket();
        let reply = UdpReply::new(pair.address, ticket, standing, sender.clone(), dropped.clone());
        let reply = Reply::Udp(Arc::new(reply));
        reply.send(Answer::Refused { id: PRUNED, refusal, expected: None, retry_ms: 0 });
    };
    // What an honest client may meet is no blame.
    for refusal in Refusal::ALL.into_iter().filter(|refusal| !refusal.is_hostile()) {
        refuse(&mut pair, refusal);
    }
    assert!(pair.tick().is_empty());
    for _ in 0..net_ebpf::session::BLAMES_MAX - 1 {
        refuse(&mut pair, Refusal::InvalidSignature);
    }
    assert!(pair.tick().is_empty());
    let waiting = {
        let (ticket, standing) = pair.ticket();
        let reply = UdpReply::new(pair.address, ticket, standing, sender.clone(), dropped.clone());
        Reply::Udp(Arc::new(reply))
    };
    waiting.earned();
    assert!(!waiting.is_revoked());
    refuse(&mut pair, Refusal::Malformed);
    assert!(waiting.is_revoked(), "what still waits is not worth a check");
    let block = net_ebpf::session::Action::Block(pair.address.ip());
    assert_eq!(pair.tick(), [block]);
}

#[test]
fn the_board_shows_the_newest_snapshot_and_its_document_reads_back() {
    let board = StatusBoard::new(status());
    let old = board.snapshot();
    board.publish(Status { height: 13, ..status() });
    assert_eq!((old.height, board.snapshot().height), (12, 13));
    let json = serde_json::to_string(&*old).unwrap();
    assert!(json.contains(&format!("\"network\":\"{NETWORK}\"")), "{json}");
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status());
    let damaged = json.replace(&NETWORK.to_string(), "abc");
    let error = serde_json::from_str::<Status>(&damaged).unwrap_err().to_string();
    assert!(error.contains("expected 64 hexadecimal digits"), "{error}");
}

#[test]
fn stop_reaches_threads_and_tasks_also_those_that_come_late() {
    let stop = Stop::new();
    assert!(!stop.is_stopped());
    let waiting = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(stop.stopped());
        })
    };
    std::thread::sleep(Duration::from_millis(10));
    stop.stop();
    waiting.join().unwrap();
    assert!(stop.is_stopped());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(stop.stopped());
}
