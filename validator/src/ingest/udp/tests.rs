//! Checks over real datagrams on loopback, with a fake node behind.

use super::*;
use crate::{
    handle::tests::{
        EXPECTED, FORGOTTEN, FakeNode, KNOWN_FINAL, NETWORK, REFUSED, TAKEN, TAKEN_NEVER_FINAL,
        transaction,
    },
    metrics::RuleLabel,
    refusal::Refusal,
    wire,
};
use ledger::Digest;
use net_ebpf::{
    abi::{self, Answer, PACKET_SIZE_MAX, Status},
    policy::{Limits, Rate},
    receive::{Options, Receiver},
    session::{self, Client, Event},
    tables::{Keys, Setup},
};
use std::{net::UdpSocket, sync::Mutex, thread::JoinHandle, time::Instant};

struct Running {
    address: SocketAddr,
    key: [u8; 32],
    board: Arc<PacketBoard>,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

fn rate(packets_per_second: u64, burst_packets: u64) -> Rate {
    Rate { packets_per_second, burst_packets }
}

impl Running {
    fn start(handle: &NodeHandle, limits: Limits, session_rate: Rate) -> Self {
        let receiver = Receiver::bind("127.0.0.1:0".parse().unwrap(), &Options::default()).unwrap();
        let address = receiver.address();
        let tables = Tables::plain(64);
        let setup = Setup {
            keys: Keys::new([5; 32]),
            limits,
            udp_port: address.port(),
            tcp_ports: [0, 0],
            local: Vec::new(),
            peers: Vec::new(),
        };
        tables.set_up(&setup).unwrap();
        let options = session::Options {
            sessions: 64,
            network: NETWORK.0,
            rate: session_rate,
            handshake_cpu_percent: 5,
        };
        let server = Server::new(&options, AdmissionKey::generate([6; 32]), [7; 32]).unwrap();
        let announced = Arc::new(Mutex::new(Vec::new()));
        let (board, announce) = (Arc::new(PacketBoard::default()), Arc::clone(&announced));
        let (intake, answers) = join(Parts {
            ingress: Ingress::new(receiver, Vec::new()),
            policy: Policy::new(tables),
            server,
            kernel: None,
            local: None,
            announce: Box::new(move |key| announce.lock().unwrap().push(*key.public())),
            board: Arc::clone(&board),
        })
        .unwrap();
        let key = announced.lock().unwrap()[0];
        let stop = Stop::new();
        let (taking, sending) = ((handle.clone(), stop.clone()), (handle.clone(), stop.clone()));
        let threads = vec![
            std::thread::spawn(move || intake.run(&taking.0, &taking.1).unwrap()),
            std::thread::spawn(move || answers.run(&sending.0.metrics, &sending.1)),
        ];
        Self { address, key, board, stop, threads }
    }

    fn socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        socket
    }

    fn client(&self, seed: u8) -> Caller {
        let client = Client::new(NETWORK.0, self.key, [seed; 32]);
        let mut caller = Caller { socket: self.socket(), client, start: Instant::now() };
        caller.await_event(|event| *event == Event::Established);
        caller
    }
}

impl Drop for Running {
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

/// A client with its socket.
struct Caller {
    socket: UdpSocket,
    client: Client,
    start: Instant,
}

impl Caller {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap()
    }

    fn await_event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let mut packet = [0; 2_000];
        loop {
            assert!(self.start.elapsed() < Duration::from_secs(20), "it did not come");
            while let Some(outgoing) = self.client.poll(self.now()) {
                self.socket.send(outgoing.bytes()).unwrap();
            }
            let Ok(size) = self.socket.recv(&mut packet) else { continue };
            assert!(size <= abi::SUBMIT_SIZE_MIN, "no answer is longer than any request");
            let event = self.client.receive(self.now(), &packet[..size]);
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Seals and sends; the bytes that were sent.
    fn send(&mut self, transaction: &[u8]) -> Vec<u8> {
        let mut packet = [0; PACKET_SIZE_MAX];
        let size = self.client.seal(self.now(), transaction, &mut packet).unwrap();
        self.socket.send(&packet[..size]).unwrap();
        packet[..size].to_vec()
    }

    fn answer(&mut self) -> Answer {
        match self.await_event(|event| matches!(event, Event::Answer(_))) {
            Event::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }
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
fn each_request_gets_one_answer_in_its_session() {
    let node = FakeNode::start();
    let running = Running::start(&node.handle, Limits::default(), rate(50_000, 10_000));
    let mut caller = running.client(1);
    let cases = [
        (TAKEN, Status::Accepted),
        (TAKEN_NEVER_FINAL, Status::Accepted),
        (KNOWN_FINAL, Status::Final),
        (REFUSED, Status::Refused(Refusal::Ahead.code())),
    ];
    for (number, (valid_until, status)) in cases.into_iter().enumerate() {
        let (bytes, id) = transaction(number as u64, valid_until, &[7; 1_028]);
        assert_eq!(bytes.len(), abi::TRANSACTION_SIZE_MAX);
        caller.send(&bytes);
        let answer = caller.answer();
        assert_eq!((answer.counter, answer.outcome.status), (number as u64 + 1, status));
        assert_eq!(Digest(answer.outcome.id), id);
        let previous = Digest(answer.outcome.expected_previous);
        let link = wire::expected(answer.outcome.expected_sequence, previous);
        let known = matches!(status, Status::Refused(_)).then_some(EXPECTED);
        assert_eq!(link, Ok(known));
    }
    caller.send(&[1; 156]);
    let malformed = Status::Refused(Refusal::Malformed.code());
    assert_eq!(caller.answer().outcome.status, malformed);
    // The next answer belongs to the next request: nothing was answered twice, and what the node
    // forgot was not answered at all.
    caller.send(&transaction(10, FORGOTTEN, b"").0);
    caller.send(&transaction(11, TAKEN, b"").0);
    assert_eq!(caller.answer().counter, 7);
    // A cookie, a welcome and six answers.
    let sent = packets(&node.handle.metrics, "out");
    await_true(|| sent.get() >= 8);
    assert_eq!(sent.get(), 8);
    await_true(|| running.board.snapshot().sessions == 1);
}

#[test]
fn what_no_session_sent_is_counted_by_its_rule_and_gets_no_answer() {
    let node = FakeNode::start();
    let running = Running::start(&node.handle, Limits::default(), rate(50_000, 10_000));
    let mut caller = running.client(1);
    let (bytes, _) = transaction(1, TAKEN, b"");
    let sent = caller.send(&bytes);
    assert_eq!(caller.answer().counter, 1);
    // Again, and with the fields that the frame has.
    let mut stranger = running.socket();
    stranger.send(&sent).unwrap();
    for (at, value) in [(0, 0), (2, 9), (3, 2), (40, 1)] {
        let mut damaged = sent.clone();
        damaged[at] = value;
        stranger.send(&damaged).unwrap();
    }
    let mut without = sent.clone();
    without[4..8].fill(0);
    stranger.send(&without).unwrap();
    stranger.send(&sent[..abi::SUBMIT_SIZE_MIN - 1]).unwrap();
    stranger.send(&[sent.as_slice(), &[0; PACKET_SIZE_MAX]].concat()).unwrap();
    stranger.send(&[]).unwrap();
    for rule in ["magic", "version", "kind", "session", "reserved", "too_long", "token"] {
        await_dropped(&node.handle, rule, 1);
    }
    await_dropped(&node.handle, "too_short", 2);
    // Who copies a packet under way and changes it spends its token, and no more.
    let mut packet = [0; PACKET_SIZE_MAX];
    let size = caller.client.seal(caller.now(), &bytes, &mut packet).unwrap();
    packet[size - 1] ^= 1;
    stranger.send(&packet[..size]).unwrap();
    await_dropped(&node.handle, "tag", 1);
    caller.send(&bytes);
    assert_eq!(caller.answer().counter, 3);
    assert_eq!(node.handle.metrics.tx_received.get(), 2);
    let mut byte = [0];
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.recv(&mut byte).is_err(), "strangers are told nothing");
    stranger = running.socket();
    drop(stranger);
}

#[test]
fn a_session_above_its_rate_is_not_served_beyond_it() {
    let node = FakeNode::start();
    let running = Running::start(&node.handle, Limits::default(), rate(50, 100));
    let mut caller = running.client(1);
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let mut packet = [0; PACKET_SIZE_MAX];
        let (bytes, _) = transaction(sent, TAKEN, b"");
        match caller.client.seal(caller.now(), &bytes, &mut packet) {
            Some(size) => {
                caller.socket.send(&packet[..size]).unwrap();
                sent += 1;
                // As fast as an answer comes.
                caller.answer();
            }
            None => {
                let mut packet = [0; 2_000];
                if let Ok(size) = caller.socket.recv(&mut packet) {
                    caller.client.receive(caller.now(), &packet[..size]);
                }
            }
        }
    }
    // The first window, the burst, and the rate.
    let most = 1_024 + 100 + 50 * (start.elapsed().as_secs() + 1);
    assert!(sent >= 1_024 && sent <= most, "{sent} of {most}");
}

#[test]
fn a_flood_is_answered_or_counted_and_nothing_else() {
    const COUNT: u64 = 5_000;
    let node = FakeNode::start();
    let limits = Limits { hello: rate(1, 7), ..Limits::default() };
    let running = Running::start(&node.handle, limits, rate(50_000, 10_000));
    let socket = running.socket();
    let mut hello = [0; 48];
    hello[..4].copy_from_slice(&[0x61, 0x6c, 1, 3]);
    for _ in 0..COUNT {
        socket.send(&hello).unwrap();
    }
    let metrics = &node.handle.metrics;
    let lost = || dropped(&node.handle, "kernel_buffer");
    await_true(|| packets(metrics, "in").get() + lost() == COUNT);
    let refused = || dropped(&node.handle, "source_rate");
    let answered = || packets(metrics, "out").get();
    await_true(|| refused() + lost() + answered() == COUNT);
    assert!((7..=20).contains(&answered()), "{}", answered());
    assert_eq!(metrics.tx_received.get(), 0);
}
