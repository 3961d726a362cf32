//! Checks over real connections on loopback, with a fake node behind.

use super::*;
use crate::{
    handle::{
        Answer,
        tests::{
            EXPECTED, FakeNode, NETWORK, PRUNED, REFUSED, TAKEN, WATCHED_FINAL, handle, transaction,
        },
    },
    ingest::{listen, seats::QUIET_MIN},
    metrics::CloseLabel,
    refusal::Refusal,
    wire::{self, ANSWER_BYTES_MAX, Call, Frames, HELLO, WELCOME_BYTES, Welcome},
};
use ledger::{Digest, Height, Outcome};
use rustix::{
    net::sockopt,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread::JoinHandle,
};

/// Longer than anything that a test waits for, shorter than a person's patience.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    handle: NodeHandle,
    stop: Stop,
    thread: Option<JoinHandle<Duration>>,
}

impl Server {
    fn start(handle: &NodeHandle, seats: usize, times: Times) -> Self {
        let listener = listen("tcp", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Stop::new();
        let (served, stopped) = (handle.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let service = serve_with(listener, served, stopped, seats, times);
            runtime.unwrap().block_on(service).unwrap();
            processor_time()
        });
        Self { address, handle: handle.clone(), stop, thread: Some(thread) }
    }

    /// Ends the server and returns the processor time that its thread took.
    fn end(mut self) -> Duration {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap()
    }

    fn closed(&self, reason: &'static str) -> u64 {
        let label = CloseLabel { path: PATH, reason };
        self.handle.metrics.net_connections_closed.get_or_create(&label).get()
    }

    /// Waits until connections were ended for this reason: they are counted as they end.
    fn await_closed(&self, reason: &'static str, count: u64) {
        await_true(|| self.closed(reason) >= count);
        assert_eq!(self.closed(reason), count, "{reason}");
    }

    fn open(&self) -> u64 {
        self.handle.metrics.net_connections.get_or_create(&PathLabel { path: PATH }).get()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

fn await_true(mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processor time of the calling thread, as far as the system tells.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

struct Client {
    stream: TcpStream,
    frames: Frames,
    answers: VecDeque<Answer>,
}

impl Client {
    fn raw(server: &Server) -> TcpStream {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn connect(server: &Server) -> Self {
        let mut stream = Self::raw(server);
        stream.write_all(&HELLO).unwrap();
        let mut welcome = [0; WELCOME_BYTES];
        stream.read_exact(&mut welcome).unwrap();
        let expected = Welcome { hint: NETWORK.hint(), transaction_bytes_max: 65_536 };
        assert_eq!(Welcome::decode(&welcome), Ok(expected));
        let frames = Frames::new(ANSWER_BYTES_MAX);
        Self { stream, frames, answers: VecDeque::new() }
    }

    fn call(&mut self, call: Call<'_>) {
        let mut bytes = Vec::new();
        call.encode_into(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    fn answer(&mut self) -> Answer {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return answer;
            }
            let mut bytes = [0; 64 << 10];
            let size = self.stream.read(&mut bytes).unwrap();
            assert!(size > 0, "the connection ended before the answer");
            let answers = &mut self.answers;
            let visit = |frame: &[u8]| {
                answers.push_back(wire::decode_answer(frame)?);
                Ok(())
            };
            self.frames.feed(&bytes[..size], visit).unwrap();
        }
    }
}

/// Waits until the server ends the connection.
fn await_end(stream: &mut TcpStream) {
    let mut rest = [0; 4_096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the connection did not end: {error}"),
        }
    }
}

fn is_final(id: Digest) -> Answer {
    Answer::Final { id, height: Height(9), outcome: Outcome::Applied }
}

#[test]
fn a_transaction_is_accepted_then_final_and_a_refusal_tells_the_link() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle, 8, Times::default());
    let mut client = Client::connect(&server);
    let (bytes, id) = transaction(1, TAKEN, b"over tcp");
    client.call(Call::Submit(&bytes));
    assert_eq!(client.answer(), Answer::Accepted { id });
    assert_eq!(client.answer(), is_final(id));
    let (bytes, id) = transaction(2, REFUSED, b"");
    client.call(Call::Submit(&bytes));
    let (refusal, expected, retry_ms) = (Refusal::Ahead, Some(EXPECTED), 50);
    assert_eq!(client.answer(), Answer::Refused { id, refusal, expected, retry_ms });
    let refusal = Refusal::Malformed;
    for bytes in [&[][..], &[1; 156], &[1; 65_536]] {
        client.call(Call::Submit(bytes));
        let (id, expected, retry_ms) = (Digest::ZERO, None, 0);
        assert_eq!(client.answer(), Answer::Refused { id, refusal, expected, retry_ms });
    }
    client.call(Call::Watch(WATCHED_FINAL));
    assert_eq!(client.answer(), is_final(WATCHED_FINAL));
    client.call(Call::Watch(PRUNED));
    assert_eq!(client.answer(), Answer::Unknown { id: PRUNED });
}

#[test]
fn twenty_thousand_transactions_are_each_answered_twice() {
    const COUNT: usize = 20_000;
    let node = FakeNode::start();
    let server = Server::start(&node.handle, 8, Times::default());
    let mut client = Client::connect(&server);
    let body = vec![5; 512 - 156];
    let mut writer = client.stream.try_clone().unwrap();
    let start = std::time::Instant::now();
    let writing = std::thread::spawn(move || {
        for group in 0..COUNT as u64 / 100 {
            let mut bytes = Vec::new();
            for sequence in 100 * group..100 * (group + 1) {
                Call::Submit(&transaction(sequence, TAKEN, &body).0).encode_into(&mut bytes);
            }
            // Pieces that end anywhere inside a frame.
            for piece in bytes.chunks(7_001) {
                writer.write_all(piece).unwrap();
            }
        }
    });
    let (mut accepted, mut finals) = (0, 0);
    let mut open = std::collections::HashSet::new();
    while finals < COUNT {
        match client.answer() {
            Answer::Accepted { id } => {
                accepted += 1;
                assert!(open.insert(id), "accepted twice");
            }
            Answer::Final { id, .. } => {
                finals += 1;
                assert!(open.remove(&id), "final before it was accepted");
            }
            other => panic!("{other:?}"),
        }
    }
    writing.join().unwrap();
    let elapsed = start.elapsed();
    assert_eq!((accepted, open.len()), (COUNT, 0));
    drop(client);
    let processor = server.end();
    println!("{COUNT} of 512 bytes in {elapsed:?}; the thread took {processor:?}");
}

#[test]
fn a_client_that_does_not_read_is_closed_and_costs_nobody_else_anything() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle, 8, Times::default());
    let mut slow = Client::connect(&server);
    // A fixed buffer, since the kernel would let a growing one take all answers of this test.
    sockopt::set_socket_recv_buffer_size(&slow.stream, 64 << 10).unwrap();
    let mut quick = Client::connect(&server);
    let mut calls = Vec::new();
    for _ in 0..1_000 {
        Call::Watch(PRUNED).encode_into(&mut calls);
    }
    let flood = std::thread::spawn(move || {
        // Two million answers: far more than the kernel's buffers and an outbox hold.
        let ended = (0..2_000).any(|_| slow.stream.write_all(&calls).is_err());
        assert!(ended, "nobody closed the connection");
    });
    let mut sequence = 0;
    while !flood.is_finished() {
        let (bytes, id) = transaction(sequence, TAKEN, b"");
        quick.call(Call::Submit(&bytes));
        let asked = std::time::Instant::now();
        match quick.answer() {
            Answer::Accepted { .. } => assert_eq!(quick.answer(), is_final(id)),
            Answer::Refused { refusal: Refusal::Busy, .. } => {}
            other => panic!("{other:?}"),
        }
        assert!(asked.elapsed() < Duration::from_secs(1), "the flood starves others");
        sequence += 1;
    }
    flood.join().unwrap();
    server.await_closed("unread", 1);
    let label = PathLabel { path: PATH };
    assert!(node.handle.metrics.net_answers_dropped.get_or_create(&label).get() >= 1);
    let (bytes, id) = transaction(sequence, TAKEN, b"");
    loop {
        quick.call(Call::Submit(&bytes));
        if quick.answer() == (Answer::Accepted { id }) {
            break assert_eq!(quick.answer(), is_final(id));
        }
    }
}

#[test]
fn garbage_ends_the_connection_and_is_counted_by_its_reason() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle, 8, Times::default());
    let mut stranger = Client::raw(&server);
    stranger.write_all(b"GET / HT").unwrap();
    await_end(&mut stranger);
    let oversized = 65_538_u32.to_le_bytes();
    let empty = [0; 4];
    let kind = [1, 0, 0, 0, 99];
    let watch = [2, 0, 0, 0, 2, 7];
    let cases: [(&'static str, &[u8]); 4] =
        [("length", &oversized), ("length", &empty), ("kind", &kind), ("size", &watch)];
    for (_, bytes) in cases {
        let mut client = Client::connect(&server);
        client.stream.write_all(bytes).unwrap();
        await_end(&mut client.stream);
    }
    for (reason, count) in [("hello", 1), ("length", 2), ("kind", 1), ("size", 1)] {
        server.await_closed(reason, count);
    }
}

#[test]
fn who_says_nothing_or_half_of_it_is_closed_in_time() {
    let node = FakeNode::start();
    let short = Duration::from_millis(150);
    let times = Times { hello: short, frame: short, idle: 4 * short, ..Times::default() };
    let server = Server::start(&node.handle, 8, times);
    let mut silent = Client::raw(&server);
    silent.write_all(&HELLO[..7]).unwrap();
    let mut half = Client::connect(&server);
    half.stream.write_all(&[200, 0, 0, 0, 1, 9]).unwrap();
    let mut idle = Client::connect(&server);
    await_end(&mut silent);
    await_end(&mut half.stream);
    server.await_closed("hello_timeout", 1);
    server.await_closed("frame_timeout", 1);
    assert_eq!(server.closed("idle"), 0, "a quiet client has more time than half a frame");
    await_end(&mut idle.stream);
    server.await_closed("idle", 1);
}

#[test]
fn a_frame_may_come_slowly_as_long_as_each_one_ends_in_time() {
    let node = FakeNode::start();
    let times = Times { frame: Duration::from_millis(400), ..Times::default() };
    let server = Server::start(&node.handle, 8, times);
    let mut client = Client::connect(&server);
    let mut bytes = Vec::new();
    for _ in 0..6 {
        Call::Watch(WATCHED_FINAL).encode_into(&mut bytes);
    }
    // Each piece ends inside a frame, so there is never a moment without a partial one.
    for piece in bytes[..bytes.len() - 1].chunks(37) {
        client.stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(120));
    }
    client.stream.write_all(&bytes[bytes.len() - 1..]).unwrap();
    for _ in 0..6 {
        assert_eq!(client.answer(), is_final(WATCHED_FINAL));
    }
    assert_eq!(server.closed("frame_timeout"), 0);
}

#[test]
fn a_client_that_vanishes_is_noticed_by_the_kernel() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle, 8, Times::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        session::prepare(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert!(sockopt::tcp_keepidle(&stream).unwrap() <= Duration::from_secs(30));
        assert!(stream.nodelay().unwrap());
    });
    // One that ends its half, as a crashed client's kernel does, frees its seat at once.
    let client = Client::connect(&server);
    assert_eq!(server.open(), 1);
    client.stream.shutdown(Shutdown::Write).unwrap();
    await_true(|| server.open() == 0);
}

/// Raises the limit of open files as far as it goes and says how many there are.
fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn a_thousand_silent_connections_do_not_keep_an_honest_client_out() {
    if open_files() < 2 * CONNECTIONS_MAX as u64 + 500 {
        println!("skipped: the limit of open files is below two for each connection");
        return;
    }
    let node = FakeNode::start();
    let server = Server::start(&node.handle, CONNECTIONS_MAX, Times::default());
    let start = std::time::Instant::now();
    let mut honest = Client::connect(&server);
    let mut silent: Vec<TcpStream> = (1..CONNECTIONS_MAX).map(|_| Client::raw(&server)).collect();
    await_true(|| server.open() == CONNECTIONS_MAX as u64);
    // While nobody has been quiet for long the next one is turned away.
    if start.elapsed() < QUIET_MIN / 2 {
        await_end(&mut Client::raw(&server));
        assert!(server.closed("full") >= 1);
    }
    std::thread::sleep(QUIET_MIN + QUIET_MIN / 10);
    let (bytes, id) = transaction(0, TAKEN, b"");
    let mut newcomer = Client::connect(&server);
    await_end(&mut silent[0]);
    assert_eq!(server.closed("quiet"), 1);
    for client in [&mut newcomer, &mut honest] {
        client.call(Call::Submit(&bytes));
        assert_eq!(client.answer(), Answer::Accepted { id });
        assert_eq!(client.answer(), is_final(id));
    }
    drop((silent, newcomer, honest));
    await_true(|| server.open() == 0);
}

#[test]
fn a_full_queue_is_answered_busy_and_the_connection_goes_on() {
    let (handle, requests, _queries) = handle(3, 1 << 20);
    let server = Server::start(&handle, 8, Times::default());
    let mut client = Client::connect(&server);
    let sent: Vec<Digest> = (0..5)
        .map(|sequence| {
            let (bytes, id) = transaction(sequence, TAKEN, b"");
            client.call(Call::Submit(&bytes));
            id
        })
        .collect();
    for expected in &sent[3..] {
        let Answer::Refused { id, refusal, retry_ms, .. } = client.answer() else { panic!("busy") };
        assert_eq!((id, refusal), (*expected, Refusal::Busy));
        assert!(retry_ms > 0);
    }
    drop(requests.try_recv().unwrap());
    let (bytes, _) = transaction(9, TAKEN, b"");
    client.call(Call::Submit(&bytes));
    await_true(|| requests.len() == 3);
}

#[test]
fn stopping_writes_the_answers_that_wait_and_ends_in_time() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle, 8, Times::default());
    let mut client = Client::connect(&server);
    let silent = Client::raw(&server);
    let (bytes, id) = transaction(0, TAKEN, b"");
    client.call(Call::Submit(&bytes));
    assert_eq!(client.answer(), Answer::Accepted { id });
    let label = TrafficLabel { dir: "out", path: PATH };
    let sent = node.handle.metrics.net_packets.get_or_create_owned(&label);
    await_true(|| sent.get() == 2);
    let start = std::time::Instant::now();
    server.end();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(client.answer(), is_final(id));
    await_end(&mut client.stream);
    drop(silent);
}

#[test]
fn an_idle_connection_takes_no_processor_time() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle, 100, Times::default());
    let clients: Vec<Client> = (0..50).map(|_| Client::connect(&server)).collect();
    std::thread::sleep(Duration::from_millis(1_500));
    drop(clients);
    let processor = server.end();
    // Opening and closing fifty connections takes a few milliseconds; spinning would take them all.
    assert!(processor < Duration::from_millis(300), "{processor:?}");
}
