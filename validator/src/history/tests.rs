//! Both ways of answering give the same bytes, refuse alike, and end when told to.

use super::{
    ring::Ring,
    serve::{Settings, serve},
    wire::{BATCHES_MAX, Kind, PART_BYTES, Part, Question, Walk, part},
};
use crate::{command::ledger::fixture::Fixture, handle::Stop, record};
use ledger::{Digest, batch::HEADER_BYTES};
use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use storage::{Options, Store};

const BLOCKS: u64 = 200;

struct Server {
    address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
        let start = Instant::now();
        self.thread.take().unwrap().join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "it ends when it is told to");
    }
}

fn server(network: Digest, store: &Store, name: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), Stop::new());
    let settings = Settings {
        network,
        store: store.clone(),
        bytes_per_second: 1 << 30,
        validators: BTreeSet::new(),
        stop: stop.clone(),
    };
    let wanted =
        if name == "portable" { storage::Backend::Portable } else { storage::Backend::Auto };
    let thread = std::thread::spawn(move || serve(listener, settings, wanted, |_| {}).unwrap());
    Server { address, stop, thread: Some(thread) }
}

/// The ways that run here.
fn names() -> Vec<&'static str> {
    match Ring::open() {
        Ok(_) => vec!["io_uring", "portable"],
        Err(error) => {
            println!("skipped: io_uring: {error}");
            vec!["portable"]
        }
    }
}

struct Place {
    fixture: Fixture,
    store: Store,
    _folder: tempfile::TempDir,
}

fn place(fixture: Fixture) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(*fixture.genesis.digest().as_bytes());
    // Many segments, all but the newest sealed.
    options.segment_bytes = 64 * 1024;
    options.backend = storage::Backend::Portable;
    let (store, _) = Store::open(&folder.path().join("ledger"), &options).unwrap();
    fixture.append(&store);
    Place { fixture, store, _folder: folder }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Reads one answer: the parts as they came.
fn answer(stream: &mut TcpStream) -> Vec<(Part, Vec<u8>)> {
    let mut parts = Vec::new();
    loop {
        let mut head = [0; PART_BYTES];
        stream.read_exact(&mut head).unwrap();
        let part = Part::decode(&head).unwrap();
        let mut bytes = vec![0; part.bytes];
        stream.read_exact(&mut bytes).unwrap();
        let is_last = matches!(part.kind, Kind::End | Kind::Refused);
        parts.push((part, bytes));
        if is_last {
            return parts;
        }
    }
}

fn head(kind: Kind, height: u64, bytes: usize) -> Part {
    Part { kind, bytes, height }
}

#[test]
fn every_answer_is_what_is_stored_whoever_gives_it() {
    let Place { fixture, store, .. } = &place(Fixture::new(BLOCKS));
    let network = fixture.genesis.digest();
    let body = |kind, height| store.read(store.at_height(kind, height).unwrap()).unwrap();
    let batches: Vec<_> =
        fixture.records.iter().filter(|record| record.kind == record::BATCH).collect();
    let newest = Digest(batches.last().unwrap().key);
    for name in names() {
        let server = server(network, store, name);
        let mut stream = connect(&server);
        let mut ask = |question: Question| {
            stream.write_all(&question.encode(&network)).unwrap();
            answer(&mut stream)
        };
        let tip = ask(Question::Tip);
        assert_eq!(tip[0], (head(Kind::Cut, BLOCKS, tip[0].1.len()), body(record::CUT, BLOCKS)));
        assert_eq!(tip[1].1, body(record::CERTIFICATE, BLOCKS));
        assert_eq!(tip.len(), 3);

        // From an uneven height on, to the next certificate above the last one wanted.
        let cuts = ask(Question::Cuts { from: 7, count: 5 });
        let heights: Vec<_> = cuts.iter().map(|(part, _)| (part.kind, part.height)).collect();
        let (c, f) = (Kind::Cut, Kind::Certificate);
        let expected =
            [(c, 7), (c, 8), (f, 8), (c, 9), (c, 10), (f, 10), (c, 11), (c, 12), (f, 12)];
        assert_eq!(heights[..9], expected);
        assert_eq!(heights[9..], [(Kind::End, 13)]);
        for (part, bytes) in &cuts[..9] {
            let kind = if part.kind == c { record::CUT } else { record::CERTIFICATE };
            assert_eq!(*bytes, body(kind, part.height));
        }
        let none = ask(Question::Cuts { from: BLOCKS + 1, count: 9 });
        assert_eq!(none, [(head(Kind::End, BLOCKS + 1, 0), vec![])]);

        // Two lanes end in the newest batch of each; a lane has one batch a block.
        let walk = Walk { digest: newest, count: BATCHES_MAX - 3 };
        let other = Digest(batches[batches.len() - 2].key);
        let unknown = Walk { digest: Digest([9; 32]), count: 1 };
        let empty = Walk { digest: Digest([9; 32]), count: 0 };
        let walks = vec![empty, walk, Walk { digest: other, count: 2 }, unknown];
        let walked = ask(Question::Batches(walks));
        let mine: Vec<_> = batches.iter().rev().step_by(2).take(125).collect();
        let others: Vec<_> = batches.iter().rev().skip(1).step_by(2).take(2).collect();
        let expected: Vec<&[u8]> =
            mine.into_iter().chain(others).map(|record| record.body.bytes()).collect();
        assert_eq!(walked.len(), expected.len() + 1, "an unknown batch ends the answer");
        for ((part, bytes), expected) in walked.iter().zip(expected) {
            assert_eq!((part.kind, bytes.as_slice()), (Kind::Batch, expected));
        }
        // A walk beyond the first batch of a lane.
        let first = Walk { digest: Digest(batches[2].key), count: 9 };
        assert_eq!(ask(Question::Batches(vec![first])).len(), 3);
    }
}

#[test]
fn what_is_damaged_is_not_sent() {
    let mut fixture = Fixture::new(20);
    let second = fixture.nth(record::BATCH, 2);
    fixture.change(second, |body| body[HEADER_BYTES - 1] ^= 1);
    let newest = Digest(fixture.records[fixture.nth(record::BATCH, 4)].key);
    let Place { fixture, store, .. } = &place(fixture);
    let network = fixture.genesis.digest();
    for name in names() {
        let server = server(network, store, name);
        let mut stream = connect(&server);
        let walk = Walk { digest: newest, count: 3 };
        stream.write_all(&Question::Batches(vec![walk]).encode(&network)).unwrap();
        let kinds: Vec<Kind> = answer(&mut stream).iter().map(|(part, _)| part.kind).collect();
        assert_eq!(kinds, [Kind::Batch, Kind::End], "{name}");
    }
}

#[test]
fn whoever_asks_nonsense_is_told_so_and_shut_out() {
    let Place { fixture, store, .. } = &place(Fixture::new(BLOCKS));
    let network = fixture.genesis.digest();
    let nonsense = [
        (Question::Tip.encode(&Digest([1; 32])), "another network"),
        (vec![7; 56], "no question of this version"),
        (Question::Cuts { from: 1, count: 5_000 }.encode(&network), "too much at once"),
    ];
    for name in names() {
        let server = server(network, store, name);
        for (question, why) in &nonsense {
            let mut stream = connect(&server);
            stream.write_all(question).unwrap();
            let mut told = Vec::new();
            stream.read_to_end(&mut told).unwrap();
            assert_eq!(told, part(Kind::Refused, 0, why.as_bytes()), "{name}");
        }
        // One that says nothing, and one that goes away in the middle, disturb nobody.
        let _silent = connect(&server);
        connect(&server).write_all(&Question::Tip.encode(&network)[..30]).unwrap();
        let mut stream = connect(&server);
        stream.write_all(&Question::Tip.encode(&network)).unwrap();
        assert_eq!(answer(&mut stream).len(), 3, "{name}");
    }
}

#[test]
fn one_address_gets_some_connections_and_no_more() {
    let Place { fixture, store, .. } = &place(Fixture::new(BLOCKS));
    let network = fixture.genesis.digest();
    for name in names() {
        let server = server(network, store, name);
        let question = Question::Tip.encode(&network);
        let mut open: Vec<TcpStream> = Vec::new();
        for turn in 0..8 {
            let mut stream = connect(&server);
            stream.write_all(&question).unwrap();
            assert_eq!(answer(&mut stream).len(), 3, "{name} {turn}");
            open.push(stream);
        }
        let mut one_more = connect(&server);
        // It may be shut before or after this arrives.
        let _ = one_more.write_all(&question);
        let mut bytes = [0; 1];
        assert!(!matches!(one_more.read(&mut bytes), Ok(1)), "{name}");
        drop(open.pop());
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let mut stream = connect(&server);
            if stream.write_all(&question).is_ok() && matches!(stream.read(&mut bytes), Ok(1)) {
                break;
            }
            assert!(Instant::now() < end, "{name}: room is made when one goes");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
