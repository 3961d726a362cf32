//! The whole path, client to server and back, over a network that loses, copies and reorders.

use super::*;
use crate::abi::{Cookie, Hello};
use std::collections::{BTreeMap, BTreeSet};

const MILLISECOND_NS: u64 = SECOND_NS / 1_000;

/// A datagram under way.
enum Way {
    ToServer { client: usize, from: SocketAddr, packet: Vec<u8> },
    ToClient { to: SocketAddr, packet: Vec<u8> },
}

/// One client and what it has seen.
struct Peer {
    client: Client,
    address: SocketAddr,
    sent: u64,
    /// Answers that came, by the number in their transaction's id.
    answered: BTreeSet<u64>,
    established: u64,
}

/// Clients, a server and a network between them, decided by a seed.
struct Net {
    world: World,
    peers: Vec<Peer>,
    under_way: BTreeMap<(u64, u64), Way>,
    order: u64,
    loss_percent: u64,
    copy_percent: u64,
    jitter_ns: u64,
    /// Transactions that the server accepted: client and number.
    accepted: BTreeSet<(usize, u64)>,
}

impl Net {
    fn new(clients: u32, sessions: u32, rate: Rate) -> Self {
        let world = World::new(sessions, rate);
        let public = *world.server.key().public();
        let peers = (0..clients).map(|n| Peer {
            client: Client::new(NETWORK, public, [u8::try_from(n).unwrap(); 32]),
            address: source(n),
            sent: 0,
            answered: BTreeSet::new(),
            established: 0,
        });
        Self {
            world,
            peers: peers.collect(),
            under_way: BTreeMap::new(),
            order: 0,
            loss_percent: 0,
            copy_percent: 0,
            jitter_ns: 0,
            accepted: BTreeSet::new(),
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.world.generator.word() % below
    }

    fn send(&mut self, make: impl Fn() -> Way) {
        let copies = 1 + u64::from(self.draw(100) < self.copy_percent);
        for _ in 0..copies {
            if self.draw(100) < self.loss_percent {
                continue;
            }
            let delay_ns = 10 * MILLISECOND_NS + self.draw(self.jitter_ns + 1);
            self.order += 1;
            self.under_way.insert((self.world.now_ns + delay_ns, self.order), make());
        }
    }

    fn toward_server(&mut self, client: usize, packet: &[u8]) {
        let from = self.peers[client].address;
        self.send(|| Way::ToServer { client, from, packet: packet.to_vec() });
    }

    fn toward_client(&mut self, to: SocketAddr, packet: &[u8]) {
        self.send(|| Way::ToClient { to, packet: packet.to_vec() });
    }

    /// A cookie that only the holder of an address can know.
    fn cookie(from: SocketAddr) -> u64 {
        let text = from.to_string();
        text.bytes().fold(0x1234, |hash: u64, byte| hash.rotate_left(7) ^ u64::from(byte) << 3)
    }

    fn serve(&mut self, client: usize, from: SocketAddr, packet: &[u8]) {
        match packet[3] {
            1 => {
                let Ok(accepted) = self.world.deliver(from, packet) else { return };
                let number = u64::from_le_bytes(*accepted.transaction.first_chunk().unwrap());
                let mut id = [0; 32];
                id[..8].copy_from_slice(&number.to_le_bytes());
                let answer = accepted.ticket.answer(&Outcome { id, ..OUTCOME });
                let window = accepted.window;
                assert!(self.accepted.insert((client, number)), "accepted twice");
                self.toward_client(from, &answer);
                if let Some(window) = window {
                    self.toward_client(from, &window);
                }
            }
            3 => {
                let Hello { nonce } = Hello::decode(packet).unwrap();
                let cookie = Cookie { nonce, cookie: Self::cookie(from) }.encode();
                self.toward_client(from, &cookie);
            }
            5 => {
                if Handshake::decode(packet).unwrap().cookie != Self::cookie(from) {
                    return;
                }
                let World { server, table, now_ns, .. } = &mut self.world;
                if let Ok(welcome) = server.handshake(*now_ns, from, packet, table) {
                    self.toward_client(from, &welcome);
                }
            }
            kind => panic!("a client sends no kind {kind}"),
        }
    }

    /// One millisecond: what arrives, what clients owe, the server's tick.
    fn step(&mut self) {
        self.world.now_ns += MILLISECOND_NS;
        let now_ns = self.world.now_ns;
        let later = self.under_way.split_off(&(now_ns + 1, 0));
        for way in std::mem::replace(&mut self.under_way, later).into_values() {
            match way {
                Way::ToServer { client, from, packet } => self.serve(client, from, &packet),
                Way::ToClient { to, packet } => {
                    let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == to) else {
                        continue;
                    };
                    match peer.client.receive(now_ns, &packet) {
                        Event::Answer(answer) => {
                            let number = answer.outcome.id.first_chunk().unwrap();
                            peer.answered.insert(u64::from_le_bytes(*number));
                        }
                        Event::Established => peer.established += 1,
                        Event::Cookie | Event::WindowGrew | Event::Ignored(_) => {}
                    }
                }
            }
        }
        for client in 0..self.peers.len() {
            let outgoing = self.peers[client].client.poll(now_ns);
            if let Some(outgoing) = outgoing {
                self.toward_server(client, outgoing.bytes());
            }
        }
        for action in self.world.tick() {
            let Action::Send { to, packet } = action else { panic!("nobody is blamed here") };
            self.toward_client(to, &packet);
        }
    }

    /// Each client sends one submit, if it may.
    fn submit(&mut self) {
        for client in 0..self.peers.len() {
            let peer = &mut self.peers[client];
            let mut transaction = [0; TRANSACTION_SIZE_MIN];
            transaction[..8].copy_from_slice(&peer.sent.to_le_bytes());
            let mut packet = [0; PACKET_SIZE_MAX];
            let sealed = peer.client.seal(self.world.now_ns, &transaction, &mut packet);
            if let Some(size) = sealed {
                peer.sent += 1;
                self.toward_server(client, &packet[..size]);
            }
        }
    }

    fn run(&mut self, milliseconds: u64, submits_each: u64) {
        for _ in 0..milliseconds {
            self.step();
            (0..submits_each).for_each(|_| self.submit());
        }
    }

    fn sent(&self) -> u64 {
        self.peers.iter().map(|peer| peer.sent).sum()
    }
}

#[test]
fn over_a_good_network_everything_is_accepted_and_answered_in_one_session() {
    let mut net = Net::new(3, 64, WIDE);
    net.run(2_000, 4);
    net.run(100, 0);
    assert!(net.sent() > 20_000);
    assert_eq!(net.accepted.len() as u64, net.sent());
    for peer in &net.peers {
        assert_eq!((peer.answered.len() as u64, peer.established), (peer.sent, 1));
    }
}

#[test]
fn nearly_a_third_lost_both_ways_stops_nobody() {
    let mut net = Net::new(3, 64, WIDE);
    (net.loss_percent, net.copy_percent, net.jitter_ns) = (30, 10, 20 * MILLISECOND_NS);
    // To have sessions takes a few attempts.
    for _ in 0..120_000 {
        net.run(1, 0);
        if net.peers.iter().all(|peer| peer.established > 0) {
            break;
        }
    }
    net.run(10_000, 1);
    assert!(net.sent() > 29_000, "{}", net.sent());
    let accepted = net.accepted.len() as u64 * 100 / net.sent();
    // A tenth of them went twice: 73 of 100 arrive.
    assert!((70..=76).contains(&accepted), "{accepted} of 100");
    for peer in &net.peers {
        assert_eq!(peer.established, 1, "nobody took its session for dead");
    }
    // And when the network is good again, so is all that comes.
    (net.loss_percent, net.copy_percent, net.jitter_ns) = (0, 0, 0);
    net.run(100, 0);
    let (sent, accepted) = (net.sent(), net.accepted.len() as u64);
    net.run(1_000, 2);
    net.run(100, 0);
    assert_eq!(net.sent() - sent, 6_000);
    assert_eq!(net.accepted.len() as u64 - accepted, 6_000);
}

#[test]
fn an_outage_is_overcome_in_the_same_session_or_a_new_one() {
    for outage_ms in [500, 1_500, 20_000] {
        let mut net = Net::new(2, 64, WIDE);
        net.run(1_000, 1);
        net.loss_percent = 100;
        net.run(outage_ms, 1);
        net.loss_percent = 0;
        // The longest wait is 4 s.
        net.run(4_500, 1);
        let (sent, accepted) = (net.sent(), net.accepted.len());
        net.run(1_000, 1);
        net.run(100, 0);
        assert_eq!(net.sent() - sent, 2_000, "{outage_ms}");
        assert!(net.accepted.len() - accepted >= 2_000, "{outage_ms}");
        assert!(net.peers.iter().all(|peer| peer.established <= 2));
    }
}

#[test]
fn a_client_that_slept_goes_on_whether_its_session_lived_or_not() {
    for evicted in [false, true] {
        let mut net = Net::new(1, 64, WIDE);
        net.run(1_000, 1);
        net.run(50, 0);
        let hour_ns = 3_600 * SECOND_NS;
        net.world.now_ns += hour_ns;
        if evicted {
            for n in 0..64 {
                net.world.now_ns += SECOND_NS;
                net.world.open(source(100 + n)).unwrap();
            }
        }
        let accepted = net.accepted.len();
        net.run(1_000, 1);
        assert_eq!(net.accepted.len() > accepted, !evicted);
        net.run(1_500, 1);
        let (sent, accepted) = (net.sent(), net.accepted.len());
        net.run(1_000, 1);
        net.run(50, 0);
        assert_eq!(net.sent() - sent, 1_000);
        assert!(net.accepted.len() - accepted >= 1_000);
        assert_eq!(net.peers[0].established, 1 + u64::from(evicted));
    }
}

#[test]
fn a_packet_that_slept_past_the_window_is_lost_alone() {
    let mut net = Net::new(1, 64, WIDE);
    net.run(100, 0);
    let mut late = [0; PACKET_SIZE_MAX];
    let now_ns = net.world.now_ns;
    let size = net.peers[0].client.seal(now_ns, &[0xff; TRANSACTION_SIZE_MIN], &mut late).unwrap();
    net.run(1_000, 1);
    let refused = net.world.deliver(source(0), &late[..size]).unwrap_err();
    assert_eq!(refused, Reject::Token, "its slot waits for another");
    let refused = net.world.sneak(source(0), &late[..size]).unwrap_err();
    assert_eq!(refused, Reject::Counter);
    net.run(1_000, 1);
    net.run(50, 0);
    assert_eq!(net.accepted.len() as u64, net.sent());
    assert_eq!(net.peers[0].established, 1);
}

#[test]
fn an_address_that_changes_under_way_keeps_its_session_and_its_answers() {
    let mut net = Net::new(1, 64, WIDE);
    net.run(500, 1);
    let session = net.peers[0].client.session();
    for n in 1..20 {
        net.run(50, 0);
        net.peers[0].address = source(n);
        net.run(200, 2);
    }
    net.run(50, 0);
    assert_eq!(net.peers[0].client.session(), session);
    assert_eq!(net.peers[0].answered.len() as u64, net.sent());
}

#[test]
fn a_rate_slows_a_client_and_does_not_cost_it_its_session() {
    let rate = Rate { packets_per_second: 500, burst_packets: 50 };
    let mut net = Net::new(1, 64, rate);
    net.run(10_000, 4);
    let accepted = net.accepted.len();
    assert!((5_000..=6_100).contains(&accepted), "{accepted}");
    assert_eq!(net.peers[0].established, 1);
    net.run(50, 0);
    assert_eq!(net.accepted.len() as u64, net.sent());
}

#[test]
fn a_server_that_starts_again_has_its_clients_back() {
    let mut net = Net::new(4, 64, WIDE);
    net.run(1_000, 1);
    // Another server with another key, which nobody told its clients of.
    let fresh = World::new(64, WIDE);
    net.world.server = fresh.server;
    net.world.table = fresh.table;
    net.world.server =
        Server::new(&options(64, WIDE), AdmissionKey::generate([77; 32]), [78; 32]).unwrap();
    for _ in 0..30_000 {
        net.run(1, 1);
        for peer in &mut net.peers {
            if peer.client.needs_key() {
                peer.client.set_key(*net.world.server.key().public());
            }
        }
    }
    let (sent, accepted) = (net.sent(), net.accepted.len());
    net.run(1_000, 1);
    net.run(50, 0);
    assert_eq!(net.sent() - sent, 4_000);
    assert!(net.accepted.len() - accepted >= 4_000);
    assert!(net.peers.iter().all(|peer| peer.established == 2));
}
