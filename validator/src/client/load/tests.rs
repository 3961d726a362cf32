//! Checks of whole runs against validators that live in a thread and answer at once.

mod mixes;
mod udp;

use super::*;
use crate::client::author::Turn;
use crate::client::workload::{Share, Writer};
use crate::handle::Answer;
use crate::wire::{Call, Frames, HELLO, Welcome, call_bytes_max, encode_answer};
use ledger::Transaction;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;

const NETWORK: Digest = Digest([8; 32]);
const WELCOME: Welcome = Welcome { hint: [8; 8], transaction_bytes_max: 65_536 };

/// Finalizes every transaction at once, and remembers it and who wants to know of the others.
#[derive(Default)]
struct Ledger {
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// Whether signatures are checked.
    is_strict: bool,
    known: HashSet<Digest>,
    watched: HashMap<Digest, Arc<Mutex<TcpStream>>>,
}

impl Ledger {
    /// Takes a transaction, on whatever way it came.
    fn take(&self, bytes: &[u8]) -> Digest {
        let id = Transaction::decode(bytes).unwrap().id(&NETWORK);
        let mut books = self.books.lock().unwrap();
        books.known.insert(id);
        if let Some(stream) = books.watched.remove(&id) {
            let mut bytes = Vec::new();
            encode_answer(&applied(id), &mut bytes);
            // A client that has gone is told nothing.
            let _: std::io::Result<()> = stream.lock().unwrap().write_all(&bytes);
        }
        id
    }

    fn answer(&self, call: Call<'_>, stream: &Arc<Mutex<TcpStream>>) -> Vec<Answer> {
        match call {
            Call::Submit(bytes) => {
                if let Some(id) = self.find_forgery(bytes) {
                    let refusal = Refusal::InvalidSignature;
                    return vec![Answer::Refused { id, refusal, expected: None, retry_ms: 0 }];
                }
                let id = self.take(bytes);
                vec![Answer::Accepted { id }, applied(id)]
            }
            Call::Watch(id) => {
                let mut books = self.books.lock().unwrap();
                if books.known.contains(&id) {
                    return vec![applied(id)];
                }
                books.watched.insert(id, Arc::clone(stream));
                vec![Answer::Unknown { id }]
            }
        }
    }

    /// The id of a transaction whose signature does not hold, where that matters.
    fn find_forgery(&self, bytes: &[u8]) -> Option<Digest> {
        let transaction = Transaction::decode(bytes).unwrap();
        let id = transaction.id(&NETWORK);
        let message = ledger::signing_message(&id);
        let (key, signature) = (transaction.author_bytes(), transaction.signature_bytes());
        let is_strict = self.books.lock().unwrap().is_strict;
        let item = sigverify::Item { key, message: &message, signature };
        (is_strict && !sigverify::verify_one(&item).is_valid()).then_some(id)
    }

    fn known(&self) -> HashSet<Digest> {
        self.books.lock().unwrap().known.clone()
    }
}

fn applied(id: Digest) -> Answer {
    Answer::Final { id, height: Height(3), outcome: Outcome::Applied }
}

fn serve(ledger: &Ledger, mut stream: TcpStream) {
    let mut hello = [0; HELLO.len()];
    stream.read_exact(&mut hello).unwrap();
    assert_eq!(hello, HELLO);
    stream.write_all(&WELCOME.encode()).unwrap();
    let writer = Arc::new(Mutex::new(stream.try_clone().unwrap()));
    let mut frames = Frames::new(call_bytes_max(65_536));
    let mut buffer = vec![0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let mut answers = Vec::new();
        let fed = frames.feed(&buffer[..count], |frame| {
            for answer in ledger.answer(Call::decode(frame)?, &writer) {
                encode_answer(&answer, &mut answers);
            }
            Ok(())
        });
        fed.unwrap();
        if writer.lock().unwrap().write_all(&answers).is_err() {
            return;
        }
    }
}

/// Starts a validator that serves connections until the test ends.
fn validator(ledger: &Arc<Ledger>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ledger = Arc::clone(ledger);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let ledger = Arc::clone(&ledger);
            thread::spawn(move || serve(&ledger, stream.unwrap()));
        }
    });
    address
}

pub(super) fn options(targets: &[SocketAddr]) -> Options {
    Options {
        targets: targets.iter().map(|tcp| Target { tcp: *tcp, udp: None }).collect(),
        network: NETWORK,
        rate: 2_000,
        duration: Some(Duration::from_millis(500)),
        workload: Workload::plain(1, 300, 10),
        authors: 600,
        presigned: false,
        transport: Transport::Tcp,
        drain: Duration::from_secs(3),
    }
}

fn run_all(options: &Options) -> (Report, HashSet<Digest>) {
    let mut finals = HashSet::new();
    let report = run(options, &Arc::default(), &mut |_| {}, &mut |known| {
        assert_eq!((known.height, known.outcome), (Height(3), Outcome::Applied));
        finals.insert(known.id);
    })
    .unwrap();
    (report, finals)
}

#[test]
fn a_run_offers_exactly_its_rate_and_every_final_is_told() {
    let ledger = Arc::new(Ledger::default());
    let (report, finals) = run_all(&options(&[validator(&ledger), validator(&ledger)]));
    let counts = &report.counts;
    assert_eq!((counts.offered, counts.sent, counts.finalized_total()), (1_000, 1_000, 1_000));
    assert_eq!((counts.accepted, counts.lost, counts.rejected_total()), (1_000, 0, 0));
    assert_eq!(finals, ledger.known());
    assert_eq!(report.duration, Duration::from_millis(500));
    let finality = report.finality.unwrap();
    assert!(finality.p50 <= finality.p99 && finality.p99 <= finality.max);
    let text = report.table(crate::command::terminal::Paint::PLAIN);
    assert!(text.contains("offered") && text.contains("1,000") && text.contains("p99.9"), "{text}");
    let json = report.json();
    assert_eq!(json["finalized"], 1_000);
    assert_eq!(json["outcomes"]["applied"], 1_000);
    assert_eq!(json["rejected_by_reason"], serde_json::json!({}));
}

#[test]
fn a_run_can_be_stopped_and_reports_each_second() {
    let ledger = Arc::new(Ledger::default());
    let options = Options { duration: None, ..options(&[validator(&ledger)]) };
    let control = Arc::new(Control::default());
    let mut ticks = Vec::new();
    let stop = Arc::clone(&control);
    let report = run(
        &options,
        &control,
        &mut |snapshot| {
            ticks.push(snapshot.clone());
            if ticks.len() == 2 {
                stop.stop();
            }
        },
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(ticks.len(), 2);
    assert!(ticks[0].targets[0].is_connected && ticks[0].latency.is_some());
    assert!(ticks[0].finalized_recently > 500, "{:?}", ticks[0]);
    assert!(report.counts.sent == report.counts.finalized_total());
    assert!(report.duration >= Duration::from_secs(2) && report.finalized_per_second() > 500);
}

#[test]
fn a_validator_of_another_network_is_named() {
    let ledger = Arc::new(Ledger::default());
    let network = Digest([1; 32]);
    let options = Options { network, ..options(&[validator(&ledger)]) };
    let error = run(&options, &Arc::default(), &mut |_| {}, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("it serves network 0808080808080808.."), "{error}");
}

#[test]
fn a_run_without_any_validator_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = run(&options(&[address]), &Arc::default(), &mut |_| {}, &mut |_| {}).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no validator can be reached") && text.contains("refused"), "{text}");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let good = options(&["127.0.0.1:1".parse().unwrap()]);
    let workload = |size, transfers_percent| Workload::plain(1, size, transfers_percent);
    let (hour, mut duplicates) = (Some(Duration::from_secs(3_600)), good.workload.clone());
    duplicates.mix.duplicates = Share::percent(1);
    let cases = [
        (Options { targets: Vec::new(), ..good.clone() }, "needs a validator"),
        (Options { rate: 0, ..good.clone() }, "rate must be"),
        (Options { rate: RATE_MAX + 1, ..good.clone() }, "rate must be"),
        (Options { authors: 0, ..good.clone() }, "authors"),
        (Options { workload: workload(155, 0), ..good.clone() }, "size must be"),
        (Options { workload: workload(65_537, 0), ..good.clone() }, "size must be"),
        (Options { workload: workload(300, 101), ..good.clone() }, "percent"),
        (Options { workload: duplicates, ..good.clone() }, "two validators"),
        (Options { presigned: true, duration: None, ..good.clone() }, "needs a duration"),
        (
            Options { presigned: true, duration: hour, rate: RATE_MAX, ..good.clone() },
            "GB of memory",
        ),
        (Options { transport: Transport::Udp, ..good.clone() }, "UDP address"),
    ];
    for (options, part) in cases {
        let error = run(&options, &Arc::default(), &mut |_| {}, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(authors_for(1), 4_096);
    assert_eq!(authors_for(10_000), 40_000);
    assert_eq!(authors_for(u64::MAX), AUTHORS_MAX);
}

#[test]
fn one_thread_signs_fast_enough() {
    // A debug build of the machine's slowest hour still signs a thousand a second.
    let workload = Workload::plain(1, 512, 0);
    let secret = crate::client::author::secret(1, 0);
    let writer = Writer { secret: &secret, place: 0, authors: &[secret.public()] };
    let start = std::time::Instant::now();
    let mut turn = Turn::FIRST;
    for _ in 0..500 {
        turn = turn.after(workload.sign(&NETWORK, &writer, turn).id);
    }
    let micros = start.elapsed().as_micros() / 500;
    assert!(micros < 1_000, "{micros} us for one signature");
}
