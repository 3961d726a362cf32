//! Checks of runs over UDP: a validator's policy and sessions behind a network that can lose packets.

use super::*;
use crate::admission::{Admission, AdmissionBoard};
use crate::client::load::connection::Event;
use crate::client::load::datagrams::Datagrams;
use crate::handle::{Stop, tests::handle};
use crate::key::Secret;
use net_ebpf::abi::{self, PACKET_SIZE_MAX};
use net_ebpf::policy::{Admitted, Limits, Policy, Rate};
use net_ebpf::session::{Action, AdmissionKey, SESSIONS_MIN, Server};
use net_ebpf::tables::{Keys, Port, Setup, Tables};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Instant;

const WIDE: Rate = Rate { packets_per_second: 100_000, burst_packets: 10_000 };

/// A validator's UDP side, with the page that tells of its key.
struct Fake {
    address: SocketAddr,
    http: Url,
    secret: Secret,
    board: Arc<AdmissionBoard>,
    state: Arc<State>,
}

/// What a test sees and steers of the thread behind it.
#[derive(Default)]
struct State {
    /// Of the packets either way, once the first submit was there.
    loss_percent: AtomicU8,
    /// Submits that were taken.
    taken: AtomicU64,
    /// Those of them whose signature did not hold, where the ledger is strict.
    forgeries: AtomicU64,
    /// Names the process: another number is another key and other sessions.
    process: AtomicU8,
}

impl Fake {
    fn start(ledger: &Arc<Ledger>, rate: Rate) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let address = socket.local_addr().unwrap();
        let (state, ledger) = (Arc::new(State::default()), Arc::clone(ledger));
        let seen = Arc::clone(&state);
        thread::spawn(move || {
            loop {
                Process::start(&socket, &seen, rate).run(&ledger);
            }
        });
        let (http, board) = page();
        let secret = Secret::from_seed(&[1; 32]);
        let fake = Self { address, http, secret, board, state };
        fake.publish();
        fake
    }

    fn publish(&self) {
        let key = *key_of(self.state.process.load(Ordering::Relaxed)).public();
        self.board.publish(Admission::sign(&self.secret, NETWORK, key, 0..u64::MAX));
    }

    /// Another process takes the place of this one.
    fn restart(&self) {
        self.state.process.fetch_add(1, Ordering::Relaxed);
        self.publish();
    }

    fn target(&self) -> UdpTarget {
        let key = self.secret.public();
        UdpTarget { address: self.address, http: self.http.clone(), key }
    }

    fn taken(&self) -> u64 {
        self.state.taken.load(Ordering::Relaxed)
    }
}

/// Serves the interface of a node that has no key yet.
fn page() -> (Url, Arc<AdmissionBoard>) {
    let (handle, _, _) = handle(1, 1 << 20);
    let board = Arc::clone(&handle.admission);
    let listener = crate::ingest::listen("http", "127.0.0.1:0".parse().unwrap()).unwrap();
    let http = listener.local_addr().unwrap().into();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(crate::api::serve(listener, handle, Stop::new())).unwrap();
    });
    (http, board)
}

fn key_of(process: u8) -> AdmissionKey {
    AdmissionKey::generate([process; 32])
}

struct Process<'a> {
    socket: &'a UdpSocket,
    state: &'a State,
    name: u8,
    policy: Policy,
    server: Server,
    start: Instant,
    lots: u64,
}

impl<'a> Process<'a> {
    fn start(socket: &'a UdpSocket, state: &'a State, rate: Rate) -> Self {
        let name = state.process.load(Ordering::Relaxed);
        let here = socket.local_addr().unwrap();
        let setup = Setup {
            keys: Keys::new([name + 1; 32]),
            limits: Limits::default(),
            udp_port: here.port(),
            tcp_ports: [0, 0],
            local: vec![(here.ip(), Port::Udp as u32)],
            peers: Vec::new(),
        };
        let tables = Tables::plain(SESSIONS_MIN);
        tables.set_up(&setup).unwrap();
        let options = net_ebpf::session::Options {
            sessions: SESSIONS_MIN,
            network: NETWORK.0,
            rate,
            handshake_cpu_percent: 100,
        };
        let server = Server::new(&options, key_of(name), [name + 2; 32]).unwrap();
        let policy = Policy::new(tables);
        Self { socket, state, name, policy, server, start: Instant::now(), lots: 1 }
    }

    /// Serves until another process takes its place.
    fn run(mut self, ledger: &Ledger) {
        let here = self.socket.local_addr().unwrap();
        let mut packet = [0; 2_048];
        while self.state.process.load(Ordering::Relaxed) == self.name {
            if let Ok((size, from)) = self.socket.recv_from(&mut packet)
                && !self.is_lost()
            {
                self.take(ledger, from, here, &packet[..size]);
            }
            let mut actions = Vec::new();
            let now_ns = self.now();
            self.server.tick(now_ns, self.policy.tables_mut(), &mut actions);
            for action in actions {
                let Action::Send { to, packet } = action else { panic!("nobody is blamed here") };
                self.send(to, &packet);
            }
        }
    }

    fn take(&mut self, ledger: &Ledger, from: SocketAddr, here: SocketAddr, packet: &[u8]) {
        let now_ns = self.now();
        match self.policy.admit(now_ns, from, here, packet) {
            Ok(Admitted::Cookie(cookie)) => self.send(from, &cookie),
            Ok(Admitted::Handshake) => {
                let tables = self.policy.tables_mut();
                if let Ok(welcome) = self.server.handshake(now_ns, from, packet, tables) {
                    self.send(from, &welcome);
                }
            }
            Ok(Admitted::Submit) => {
                let tables = self.policy.tables_mut();
                let accepted = self.server.accept(now_ns, from, packet, tables).unwrap();
                self.state.taken.fetch_add(1, Ordering::Relaxed);
                if ledger.find_forgery(accepted.transaction).is_some() {
                    self.state.forgeries.fetch_add(1, Ordering::Relaxed);
                }
                let id = ledger.take(accepted.transaction).0;
                let status = abi::Status::Accepted;
                let (expected_sequence, expected_previous) = (u64::MAX, [0; 32]);
                let outcome = abi::Outcome { status, id, expected_sequence, expected_previous };
                let (answer, window) = (accepted.ticket.answer(&outcome), accepted.window);
                self.send(from, &answer);
                if let Some(window) = window {
                    self.send(from, &window);
                }
            }
            // Of a session that another process had.
            Err(_) => {}
        }
    }

    fn send(&mut self, to: SocketAddr, packet: &[u8]) {
        if !self.is_lost() {
            self.socket.send_to(packet, to).unwrap();
        }
    }

    fn is_lost(&mut self) -> bool {
        // Source: Knuth, "The Art of Computer Programming", volume 2, section 3.3.4 (MMIX).
        self.lots = self.lots.wrapping_mul(6_364_136_223_846_793_005);
        self.lots = self.lots.wrapping_add(1_442_695_040_888_963_407);
        let is_open = self.state.taken.load(Ordering::Relaxed) > 0;
        is_open
            && (self.lots >> 33) % 100 < u64::from(self.state.loss_percent.load(Ordering::Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap()
    }
}

fn options_udp(fake: &Fake, ledger: &Arc<Ledger>) -> Options {
    let mut options = options(&[validator(ledger)]);
    options.targets[0].udp = Some(fake.target());
    let drain = Duration::from_secs(60);
    Options { transport: Transport::Udp, rate: 400, drain, ..options }
}

#[test]
fn a_session_carries_transactions_and_the_connection_tells_of_finality() {
    let ledger = Arc::new(Ledger::default());
    let fake = Fake::start(&ledger, WIDE);
    let (report, finals) = run_all(&options_udp(&fake, &ledger));
    let counts = &report.counts;
    assert_eq!((counts.sent, counts.finalized_total(), counts.accepted), (200, 200, 200));
    assert_eq!(finals, ledger.known());
    let sessions = report.sessions.unwrap();
    assert!(sessions.opened >= 1 && sessions.handshakes >= sessions.opened, "{sessions:?}");
    assert_eq!(sessions.datagrams + sessions.held_back, 200 + counts.resubmitted);
    assert_eq!(sessions.held_back, 0);
    assert!(fake.taken() >= 200);
    let text = report.table(crate::command::terminal::Paint::PLAIN);
    assert!(text.contains("sessions") && text.contains("handshakes sent: "), "{text}");
    assert_eq!(report.json()["sessions"]["datagrams"], sessions.datagrams);
}

#[test]
fn with_nearly_a_third_lost_both_ways_everything_arrives() {
    let ledger = Arc::new(Ledger::default());
    let fake = Fake::start(&ledger, WIDE);
    fake.state.loss_percent.store(30, Ordering::Relaxed);
    let options = Options { rate: 200, ..options_udp(&fake, &ledger) };
    let (report, finals) = run_all(&options);
    let counts = &report.counts;
    assert_eq!((counts.sent, counts.finalized_total(), counts.lost), (100, 100, 0));
    assert_eq!((finals.len(), finals), (100, ledger.known()));
    assert!(counts.resubmitted > 0);
    let sessions = report.sessions.unwrap();
    assert!(sessions.datagrams >= 100 && fake.taken() >= 100, "{sessions:?}");
}

#[test]
fn what_a_session_cannot_take_goes_over_the_connection() {
    let ledger = Arc::new(Ledger::default());
    let fake = Fake::start(&ledger, Rate { packets_per_second: 1, burst_packets: 1 });
    let options = Options { rate: 4_000, authors: 2_000, ..options_udp(&fake, &ledger) };
    let (report, finals) = run_all(&options);
    assert_eq!((report.counts.sent, report.counts.finalized_total()), (2_000, 2_000));
    assert_eq!(finals, ledger.known());
    let sessions = report.sessions.unwrap();
    assert!(sessions.datagrams >= 1_024 && sessions.held_back > 0, "{sessions:?}");
    let text = report.table(crate::command::terminal::Paint::PLAIN);
    assert!(text.contains("by TCP instead"), "{text}");
}

#[test]
fn wrong_signatures_go_over_the_connection_and_end_no_session() {
    let ledger = mixes::strict();
    let fake = Fake::start(&ledger, WIDE);
    let mut options = options_udp(&fake, &ledger);
    options.workload.mix.invalid = Share::percent(40);
    let (report, finals) = run_all(&options);
    let (counts, kinds) = (&report.counts, report.counts.kinds);
    assert_eq!((counts.sent, kinds.invalid_refused), (200, kinds.invalid));
    assert!((50..110).contains(&kinds.invalid), "{kinds:?}");
    assert_eq!((report.errors(), finals), (Vec::new(), ledger.known()));
    assert_eq!(fake.state.forgeries.load(Ordering::Relaxed), 0);
    let sessions = report.sessions.unwrap();
    assert_eq!(sessions.datagrams, counts.sent - kinds.invalid + counts.resubmitted);
}

/// Runs the UDP side of a load alone.
fn alone<T>(target: &UdpTarget, check: impl AsyncFnOnce(&Datagrams) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let checked = runtime.block_on(async {
        let (sender, _events) = tokio::sync::mpsc::channel::<Event>(1_024);
        let datagrams = Datagrams::start(0, target, NETWORK, sender).await.unwrap();
        check(&datagrams).await
    });
    runtime.shutdown_background();
    checked
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "it did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn after_a_restart_nothing_is_sent_in_the_old_session_and_a_new_one_opens() {
    let fake = Fake::start(&Arc::default(), WIDE);
    alone(&fake.target(), async |datagrams| {
        let mut packet = [0; PACKET_SIZE_MAX];
        until(|| datagrams.is_open()).await;
        assert!(datagrams.seal(&[0; 200], &mut packet).is_some());
        // The connection broke, and the validator is the same.
        datagrams.doubt();
        assert!(datagrams.seal(&[0; 200], &mut packet).is_none());
        until(|| datagrams.seal(&[0; 200], &mut packet).is_some()).await;
        assert_eq!(datagrams.counts().opened, 1);
        // It broke because the validator was started again.
        fake.restart();
        datagrams.doubt();
        assert!(datagrams.seal(&[0; 200], &mut packet).is_none());
        until(|| datagrams.seal(&[0; 200], &mut packet).is_some()).await;
        assert_eq!(datagrams.counts().opened, 2);
    });
}

#[test]
fn a_key_that_is_not_there_or_not_the_validators_is_named_and_opens_nothing() {
    let fake = Fake::start(&Arc::default(), WIDE);
    let stranger = UdpTarget { key: ledger::PublicKey([7; 32]), ..fake.target() };
    alone(&stranger, async |datagrams| {
        assert!(datagrams.trouble().contains("no session is opened"));
        until(|| datagrams.trouble().contains("is of another validator")).await;
        assert!(!datagrams.is_open());
    });
    let keyless = UdpTarget { http: page().0, ..fake.target() };
    alone(&keyless, async |datagrams| {
        until(|| datagrams.trouble().contains("no_sessions")).await;
        assert!(!datagrams.is_open());
    });
}
