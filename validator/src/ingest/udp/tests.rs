//! Checks over real datagrams on loopback, with a fake node behind.

use super::*;
use crate::{
    handle::tests::{
        EXPECTED, FORGOTTEN, FakeNode, KNOWN_FINAL, REFUSED, TAKEN, TAKEN_NEVER_FINAL, transaction,
    },
    refusal::Refusal,
    wire,
};
use ledger::Digest;
use net_ebpf::abi::{self, Answer, PACKET_SIZE_MAX, Status, Submit};
use std::{net::UdpSocket, thread::JoinHandle};

struct Server {
    address: SocketAddr,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(handle: &NodeHandle, limits: &Limits) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let (intake, answers) = bind(address, &Options::default(), limits, [5; 16]).unwrap();
        let address = intake.receiver().address();
        let stop = Stop::new();
        let (taking, sending) = ((handle.clone(), stop.clone()), (handle.clone(), stop.clone()));
        let threads = vec![
            std::thread::spawn(move || intake.run(&taking.0, &taking.1).unwrap()),
            std::thread::spawn(move || answers.run(&sending.0.metrics, &sending.1)),
        ];
        Self { address, stop, threads }
    }

    fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
        let start = Instant::now();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(std::thread::panicking() || ended.is_ok(), "a loop panicked");
        }
        assert!(std::thread::panicking() || start.elapsed() < 4 * WAIT, "the loops did not end");
    }
}

fn send(client: &UdpSocket, counter: u64, transaction: &[u8]) {
    let mut packet = [0; PACKET_SIZE_MAX];
    let size = Submit { counter, transaction }.encode(&mut packet);
    client.send(&packet[..size]).unwrap();
}

fn receive(client: &UdpSocket) -> Answer {
    let mut packet = [0; 2_000];
    let size = client.recv(&mut packet).unwrap();
    assert!(size <= abi::SUBMIT_SIZE_MIN, "no answer is longer than any request");
    Answer::decode(&packet[..size]).unwrap()
}

fn dropped(handle: &NodeHandle, rule: &'static str) -> u64 {
    handle.metrics.net_filter_dropped.get_or_create(&RuleLabel { rule }).get()
}

fn await_true(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn await_dropped(handle: &NodeHandle, rule: &'static str, count: u64) {
    await_true(|| dropped(handle, rule) >= count);
    assert_eq!(dropped(handle, rule), count, "{rule}");
}

#[test]
fn each_request_gets_one_answer_with_its_label() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle, &Limits::default());
    let client = server.client();
    let cases = [
        (TAKEN, Status::Accepted),
        (TAKEN_NEVER_FINAL, Status::Accepted),
        (KNOWN_FINAL, Status::Final),
        (REFUSED, Status::Refused(Refusal::Ahead.code())),
    ];
    for (counter, (valid_until, status)) in cases.into_iter().enumerate() {
        let (bytes, id) = transaction(counter as u64, valid_until, &[7; 1_028]);
        assert_eq!(bytes.len(), abi::TRANSACTION_SIZE_MAX);
        send(&client, counter as u64, &bytes);
        let answer = receive(&client);
        assert_eq!((answer.counter, answer.status), (counter as u64, status));
        assert_eq!(Digest(answer.id), id);
        let link = wire::expected(answer.expected_sequence, Digest(answer.expected_previous));
        let known = matches!(status, Status::Refused(_)).then_some(EXPECTED);
        assert_eq!(link, Ok(known));
    }
    send(&client, 9, &[1; 156]);
    assert_eq!(receive(&client).status, Status::Refused(Refusal::Malformed.code()));
    // The next answer belongs to the next request: nothing was answered twice, and what the node
    // forgot was not answered at all.
    send(&client, 10, &transaction(10, FORGOTTEN, b"").0);
    send(&client, 11, &transaction(11, TAKEN, b"").0);
    assert_eq!(receive(&client).counter, 11);
    let sent = packets(&node.handle.metrics, "out");
    await_true(|| sent.get() >= 6);
    assert_eq!(sent.get(), 6);
}

#[test]
fn what_is_no_request_is_counted_by_its_rule_and_gets_no_answer() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle, &Limits::default());
    let client = server.client();
    let mut packet = [0; PACKET_SIZE_MAX];
    let (bytes, _) = transaction(1, TAKEN, b"");
    let size = Submit { counter: 0, transaction: &bytes }.encode(&mut packet);
    for (at, value) in [(0, 0), (2, 9), (3, 2), (4, 1), (16, 1), (40, 1)] {
        let mut damaged = packet;
        damaged[at] = value;
        client.send(&damaged[..size]).unwrap();
    }
    client.send(&packet[..abi::SUBMIT_SIZE_MIN - 1]).unwrap();
    client.send(&[packet.as_slice(), &[0; 8]].concat()).unwrap();
    client.send(&[]).unwrap();
    let rules = ["magic", "version", "kind", "session", "token", "reserved", "too_long"];
    for rule in rules {
        await_dropped(&node.handle, rule, 1);
    }
    await_dropped(&node.handle, "too_short", 2);
    send(&client, 77, &bytes);
    assert_eq!(receive(&client).counter, 77, "the first answer of all");
    assert_eq!(node.handle.metrics.tx_received.get(), 1);
}

#[test]
fn a_source_above_its_rate_is_not_served_beyond_it() {
    let node = FakeNode::start();
    let mut limits = Limits { loopback_exempt: false, ..Limits::default() };
    limits.source = net_ebpf::policy::Rate { packets_per_second: 1, burst_packets: 5 };
    let server = Server::start(&node.handle, &limits);
    let client = server.client();
    let start = Instant::now();
    for counter in 0..50 {
        send(&client, counter, &transaction(counter, TAKEN, b"").0);
    }
    for counter in 0..5 {
        assert_eq!(receive(&client).counter, counter);
    }
    // One more may pass with each second that a slow machine takes.
    let admitted = |handle: &NodeHandle| handle.metrics.tx_received.get();
    await_true(|| admitted(&node.handle) + dropped(&node.handle, "source_rate") == 50);
    assert!(admitted(&node.handle) <= 6 + start.elapsed().as_secs());
}

#[test]
fn a_flood_is_answered_or_counted_and_nothing_else() {
    const COUNT: u64 = 5_000;
    let node = FakeNode::start();
    let server = Server::start(&node.handle, &Limits::default());
    let client = server.client();
    let reading = client.try_clone().unwrap();
    reading.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let reader = std::thread::spawn(move || {
        let mut packet = [0; 2_000];
        std::iter::from_fn(|| reading.recv(&mut packet).ok()).count() as u64
    });
    let (bytes, _) = transaction(0, TAKEN, &[1; 300]);
    for counter in 0..COUNT {
        send(&client, counter, &bytes);
    }
    let answered = reader.join().unwrap();
    let metrics = &node.handle.metrics;
    let lost = || dropped(&node.handle, "kernel_buffer");
    await_true(|| packets(metrics, "in").get() + lost() == COUNT);
    assert_eq!(metrics.tx_received.get(), packets(metrics, "in").get());
    assert!(answered > 0 && answered <= packets(metrics, "out").get());
}

#[test]
fn a_port_in_use_and_a_bad_limit_are_errors_before_anything_runs() {
    let first = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address, &Options::default(), &Limits::default(), [0; 16]).err().unwrap();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    let mut limits = Limits::default();
    limits.source.burst_packets = 0;
    let free = "127.0.0.1:0".parse().unwrap();
    let error = bind(free, &Options::default(), &limits, [0; 16]).err().unwrap();
    assert!(error.to_string().contains("source.burst_packets"), "{error}");
}
