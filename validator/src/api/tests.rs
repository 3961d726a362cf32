//! Checks over real connections on loopback, with a fake node behind.

mod connection;
mod prove;
mod read;

use super::*;
use crate::{
    handle::{
        Admission, Status,
        tests::{
            ACCOUNT, BLOCK_DAMAGED, BLOCK_TRANSACTIONS, DAMAGED, EXPECTED, FORGOTTEN, FakeNode,
            KNOWN_FINAL, KNOWN_KEY, PRUNED, REFUSED, TAKEN, TAKEN_NEVER_FINAL, cut, handle, status,
            stored, transaction,
        },
    },
    ingest::{listen, seats::QUIET_MIN},
    metrics::{CloseLabel, PathLabel},
    refusal::Refusal,
};
use ledger::Digest;
use serde::de::DeserializeOwned;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread::JoinHandle,
    time::Instant,
};

/// Longer than anything that a test waits for, shorter than a person's patience.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    handle: NodeHandle,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(handle: &NodeHandle) -> Self {
        Self::start_with(handle, 32, super::connection::PROGRESS_TIME_MAX)
    }

    fn start_with(handle: &NodeHandle, seats: usize, progress_time_max: Duration) -> Self {
        let listener = listen("http", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Stop::new();
        let (served, stopped) = (handle.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let service = serve_http(listener, served, stopped, seats, progress_time_max);
            runtime.unwrap().block_on(service).unwrap();
        });
        Self { address, handle: handle.clone(), stop, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, b"")
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        Reply::read(&mut stream)
    }

    fn submit(&self, path: &str, valid_until: u64) -> (Digest, Reply) {
        let (bytes, id) = transaction(1, valid_until, b"body");
        (id, self.ask("POST", path, &bytes))
    }

    fn open(&self) -> u64 {
        self.handle.metrics.net_connections.get_or_create(&PathLabel { path: PATH }).get()
    }

    fn closed(&self, reason: &'static str) -> u64 {
        let label = CloseLabel { path: PATH, reason };
        self.handle.metrics.net_connections_closed.get_or_create(&label).get()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

/// A response, read to the end of its connection.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(found, value)| (found == name).then_some(value))
    }

    fn json<T: DeserializeOwned>(&self, status: u16) -> T {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    fn problem(&self, status: u16, code: &str) -> Problem {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((problem.status, problem.code.as_str()), (status, code));
        assert_eq!(problem.kind, "about:blank");
        assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{problem:?}");
        problem
    }
}

fn await_true(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_transaction_is_accepted_at_once_or_final_when_asked_to_wait() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let (id, reply) = server.submit("/transaction", TAKEN);
    let document: document::Submitted = reply.json(202);
    let (status, height, outcome) = (document::ACCEPTED.to_owned(), None, None);
    assert_eq!(document, document::Submitted { id, status, height, outcome });
    assert_eq!(reply.header("location"), Some(format!("/transaction/{id}").as_str()));
    for (path, valid_until) in [("/transaction?wait=final", TAKEN), ("/transaction", KNOWN_FINAL)] {
        let (id, reply) = server.submit(path, valid_until);
        let document: document::Submitted = reply.json(200);
        let (status, height) = (document::FINAL.to_owned(), Some(9));
        let outcome = Some("applied".to_owned());
        assert_eq!(document, document::Submitted { id, status, height, outcome });
    }
}

#[test]
fn a_refusal_is_a_problem_that_tells_the_link_and_when_to_come_back() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let (id, reply) = server.submit("/transaction?wait=final", REFUSED);
    let problem = reply.problem(409, "ahead");
    assert_eq!(problem.id, Some(id));
    assert_eq!(problem.expected_sequence, Some(EXPECTED.sequence));
    assert_eq!(problem.expected_previous, Some(EXPECTED.previous));
    assert_eq!(problem.retry_ms, Some(50));
    assert_eq!(reply.header("retry-after"), Some("1"));
    let problem = server.ask("POST", "/transaction", &[1; 200]).problem(400, "malformed");
    assert_eq!((problem.id, problem.expected_sequence, problem.retry_ms), (None, None, None));
    server.ask("POST", "/transaction", b"").problem(400, "malformed");
    server.submit("/transaction", FORGOTTEN).1.problem(503, "unanswered");
    node.handle.status.set_admission(Admission::NotReady);
    let problem = server.submit("/transaction", TAKEN).1.problem(503, "not_ready");
    assert!(problem.retry_ms.is_some());
}

#[test]
fn every_refusal_becomes_a_problem_with_its_own_code_and_status() {
    for refusal in Refusal::ALL {
        let problem = Problem::refused_transaction(PRUNED, refusal, None, 0);
        assert_eq!(problem.code, refusal.as_str());
        assert_eq!(problem.status, refusal.http_status());
        assert_eq!(problem.detail, refusal.help());
        let json = serde_json::to_string(&*problem).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), *problem, "{json}");
        assert!(!json.contains("null"), "{json}");
    }
}

#[test]
fn a_body_has_a_limit_whether_it_is_announced_or_not() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    server.ask("POST", "/transaction", &vec![1; 65_537]).problem(413, "too_large");
    server.ask("POST", "/transaction", &vec![1; 65_536]).problem(400, "malformed");
    let mut stream = server.connect();
    let head = "POST /transaction HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
                content-length: 1000000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    Reply::read(&mut stream).problem(413, "too_large");
    let mut stream = server.connect();
    let head = "POST /transaction HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    // The answer may come, and the connection end, before the last piece is sent.
    let piece = [b"4000\r\n".as_slice(), &[7; 0x4000], b"\r\n"].concat();
    let sent = (0..5).all(|_| stream.write_all(&piece).is_ok());
    assert!(sent, "80 KiB fit the kernel's buffers");
    let mut first = [0; 4_096];
    let size = stream.read(&mut first).unwrap();
    Reply::parse(&first[..size]).problem(413, "too_large");
    assert_eq!(node.handle.metrics.tx_received.get(), 1);
}

#[test]
fn status_and_health_follow_the_board() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    assert_eq!(server.get("/status").json::<Status>(200), status());
    assert_eq!(server.get("/livez").status, 200);
    let readiness: document::Readiness = server.get("/readyz").json(200);
    assert!(readiness.ready && readiness.reasons.is_empty());
    let reasons = vec!["2 blocks behind".to_owned()];
    node.handle.status.publish(Status { ready: false, reasons: reasons.clone(), ..status() });
    let readiness: document::Readiness = server.get("/readyz").json(503);
    assert_eq!((readiness.ready, readiness.reasons), (false, reasons));
    assert_eq!(server.get("/livez").status, 200);
    node.handle.status.publish(status());
    node.handle.status.set_admission(Admission::Stopping);
    let readiness: document::Readiness = server.get("/readyz").json(503);
    assert_eq!(readiness.reasons, [Refusal::Stopping.help()]);
}

#[test]
fn the_admission_document_is_told_once_there_is_one() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let problem = server.get("/admission").problem(503, "no_sessions");
    assert!(problem.retry_ms.is_some() && problem.detail.contains("TCP"), "{problem:?}");
    let mut client = crate::client::Api::new(server.address.into(), PATIENCE);
    let error = client.admission().unwrap_err().to_string();
    assert!(error.contains("no UDP sessions yet") && error.contains("no_sessions"), "{error}");
    let admission = crate::admission::tests::sample();
    node.handle.admission.publish(admission.clone());
    let reply = server.get("/admission");
    assert_eq!(reply.json::<crate::admission::Admission>(200), admission);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(client.admission().unwrap(), admission);
}

#[test]
fn the_node_need_not_answer_for_status_health_and_metrics() {
    let (handle, requests, _queries) = handle(1, 1 << 20);
    let server = Server::start(&handle);
    for path in ["/", "/status", "/livez", "/readyz", "/metrics"] {
        let reply = server.get(path);
        assert_eq!(reply.status, 200, "{path}");
        assert!(!reply.body.is_empty(), "{path}");
    }
    let reply = server.get("/metrics");
    assert_eq!(reply.header("content-type"), Some(crate::metrics::CONTENT_TYPE));
    let page = String::from_utf8(reply.body).unwrap();
    assert!(page.contains("althing_consensus_finalized_height 12\n"), "{page}");
    assert!(page.contains("althing_api_responses_total{status=\"200\"} 5\n"), "{page}");
    // With its queue full, a submission is refused at once.
    let (bytes, _) = transaction(0, TAKEN, b"");
    handle.submit(bytes, crate::handle::Reply::None);
    let (id, reply) = server.submit("/transaction", TAKEN);
    assert_eq!(reply.problem(503, "busy").id, Some(id));
    drop(requests);
    server.submit("/transaction", TAKEN).1.problem(503, "stopping");
}

#[test]
fn what_does_not_exist_is_a_problem_and_the_index_lists_what_does() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    for path in ["/nothing", "/block", "/account/", "/transaction/a/b/c", "/../etc/passwd"] {
        server.get(path).problem(404, "not_found");
    }
    let reply = server.ask("DELETE", "/status", b"");
    reply.problem(405, "method_not_allowed");
    assert!(reply.header("allow").is_some_and(|allow| allow.contains("GET")), "{reply:?}");
    let index = String::from_utf8(server.get("/").body).unwrap();
    let paths = "/transaction /account/ /block/ /admission /status /livez /readyz /metrics";
    for path in paths.split(' ') {
        assert!(index.contains(path), "{path}");
    }
    let head = server.ask("HEAD", "/status", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}
