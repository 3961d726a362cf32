//! Both sides of a session and the table between them: what all their tests share, golden values.

use super::{noise::Initiator, random::Generator, *};
use crate::{
    Reject,
    abi::{
        Handshake, Outcome, PACKET_SIZE_MAX, Status, Submit, TRANSACTION_SIZE_MIN, Welcome,
        Window as WindowPacket,
    },
    policy::{BURST_PACKETS_MAX, PACKETS_PER_SECOND_MAX, Rate},
};
use std::{collections::HashSet, net::SocketAddr};
use zeroize::Zeroizing;

mod client;
mod path;
mod places;
mod server;

const SECOND_NS: u64 = 1_000_000_000;
const NETWORK: [u8; 32] = *b"the network of the session tests";
const OUTCOME: Outcome = Outcome {
    status: Status::Accepted,
    id: [0x11; 32],
    expected_sequence: 5,
    expected_previous: [0x22; 32],
};
/// A rate that never binds.
const WIDE: Rate =
    Rate { packets_per_second: PACKETS_PER_SECOND_MAX, burst_packets: BURST_PACKETS_MAX };

fn options(sessions: u32, rate: Rate) -> Options {
    Options { sessions, network: NETWORK, rate, handshake_cpu_percent: 5 }
}

/// An address of the `n`th of many networks.
fn source(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0a00_0001 + n * 256).to_be_bytes(), 4_000))
}

/// Slots that fall over when a token is put in twice, ever: a slot's counter only grows, and what
/// was spent stays so.
struct Table {
    /// Who holds each place.
    holders: Vec<Session>,
    slots: Vec<u64>,
    ever: HashSet<u64>,
}

impl Table {
    fn new(sessions: u32) -> Self {
        let size = usize::try_from(u64::from(sessions) * WINDOW).unwrap();
        let holders = vec![Session::NONE; usize::try_from(sessions).unwrap()];
        Self { holders, slots: vec![0; size], ever: HashSet::new() }
    }

    /// What the filter does with a submit: compare, then clear.
    fn admit(&mut self, packet: &[u8]) -> Result<(), Reject> {
        let submit = Submit::decode(packet)?;
        let index = usize::try_from(submit.session.index()).unwrap();
        if self.holders.get(index) != Some(&submit.session) {
            return Err(Reject::Session);
        }
        let held = self.slots.get_mut(slot(submit.session, submit.counter));
        let held = held.ok_or(Reject::Session)?;
        if *held != submit.token {
            return Err(Reject::Token);
        }
        *held = 0;
        Ok(())
    }
}

impl Tokens for Table {
    fn open(&mut self, session: Session) {
        let index = usize::try_from(session.index()).unwrap();
        assert_ne!(self.holders[index], session, "a holder comes twice");
        self.holders[index] = session;
    }

    fn put(&mut self, slot: usize, token: u64) {
        assert!(token == 0 || self.ever.insert(token), "a token comes twice");
        self.slots[slot] = token;
    }
}

/// A session taken by hand, so that a test can say any counter, token and tag.
#[derive(Clone, Debug)]
struct Hand {
    session: Session,
    token_key: TokenKey,
    tag_key: TagKey,
}

impl Hand {
    /// A submit of this counter, whole.
    fn submit(&self, counter: u64) -> Vec<u8> {
        let mut packet = self.untagged(counter, self.token_key.token(counter));
        self.tag_key.seal(&mut packet);
        packet
    }

    /// A submit of this counter and token, its tag not made.
    fn untagged(&self, counter: u64, token: u64) -> Vec<u8> {
        let mut packet = [0; PACKET_SIZE_MAX];
        let transaction = &[0xab; TRANSACTION_SIZE_MIN];
        let session = self.session;
        let size =
            Submit { session, counter, token, tag: [0; 16], transaction }.encode(&mut packet);
        packet[..size].to_vec()
    }

    /// What a window datagram tells.
    fn installed(&self, packet: &[u8]) -> u64 {
        self.tag_key.open(packet).unwrap();
        WindowPacket::decode(packet).unwrap().installed
    }
}

/// A server, its table, a clock.
struct World {
    server: Server,
    table: Table,
    now_ns: u64,
    generator: Generator,
}

impl World {
    fn new(sessions: u32, rate: Rate) -> Self {
        let key = AdmissionKey::generate([1; 32]);
        Self {
            server: Server::new(&options(sessions, rate), key, [2; 32]).unwrap(),
            table: Table::new(sessions),
            now_ns: SECOND_NS,
            generator: Generator::new([3; 32]),
        }
    }

    /// A handshake packet for the server's present key, and what reads the welcome.
    fn handshake(&mut self, cookie: u64) -> (Vec<u8>, Initiator) {
        let public = *self.server.key().public();
        self.handshake_with(&public, cookie)
    }

    fn handshake_with(&mut self, public: &[u8; 32], cookie: u64) -> (Vec<u8>, Initiator) {
        let seed = Zeroizing::new(self.generator.draw());
        let (noise, message) = Initiator::start(&NETWORK, cookie, public, seed);
        let key_id = key::id(public);
        (Handshake { nonce: 9, cookie, key_id, message }.encode().to_vec(), noise)
    }

    fn open(&mut self, source: SocketAddr) -> Result<Hand, Reject> {
        let (packet, mut noise) = self.handshake(7);
        let welcome = self.server.handshake(self.now_ns, source, &packet, &mut self.table)?;
        let grant = noise.finish(&Welcome::decode(&welcome).unwrap().message).unwrap();
        assert_eq!(grant.installed, WINDOW);
        Ok(Hand {
            session: grant.session,
            token_key: TokenKey::new(grant.token_key),
            tag_key: TagKey::new(grant.tag_key),
        })
    }

    /// A packet through table and server.
    fn deliver<'a>(
        &mut self,
        source: SocketAddr,
        packet: &'a [u8],
    ) -> Result<Accepted<'a>, Reject> {
        self.table.admit(packet)?;
        self.server.accept(self.now_ns, source, packet, &mut self.table)
    }

    /// A packet past the table, as from a filter that lets everything through.
    fn sneak<'a>(&mut self, source: SocketAddr, packet: &'a [u8]) -> Result<Accepted<'a>, Reject> {
        self.server.accept(self.now_ns, source, packet, &mut self.table)
    }

    fn tick(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.server.tick(self.now_ns, &mut self.table, &mut actions);
        actions
    }

    /// Says whether a session still stands: a copy of its counter 1 is refused for another reason.
    fn stands(&mut self, hand: &Hand) -> bool {
        let packet = hand.untagged(1, 1);
        self.sneak(source(0), &packet).unwrap_err() != Reject::Session
    }
}

fn golden_keys() -> (TokenKey, TagKey) {
    let token_key = std::array::from_fn(|index| index.to_le_bytes()[0]);
    let tag_key = std::array::from_fn(|index| 0x80 + index.to_le_bytes()[0]);
    (TokenKey::new(token_key), TagKey::new(tag_key))
}

#[test]
fn tokens_have_these_values() {
    let (key, _) = golden_keys();
    // From the table that SipHash's authors publish with their C code: key 00..0f, input 00..07.
    assert_eq!(key.token(0x0706_0504_0302_0100), 0x93f5_f579_9a93_2462);
    for (counter, token) in [
        (1, 0x2b91_b2b0_85e6_d1f6),
        (2, 0x2cf0_30f1_fa30_eb6d),
        (1_024, 0x1e77_2874_d48e_52f1),
        (1_025, 0x6a56_7872_bb44_ede1),
        (u64::MAX, 0x2a68_ff30_a3d9_da34),
    ] {
        assert_eq!(key.token(counter), token);
    }
}

#[test]
fn tags_have_these_values() {
    // Computed with a plain ChaCha20 and Poly1305 that were written down from RFC 8439.
    let (token_key, tag_key) = golden_keys();
    let hand = Hand { session: Session::new(0xabcde, 0x123), token_key, tag_key };
    let tag =
        |packet: &[u8]| packet[24..40].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(tag(&hand.submit(7)), "563a795c3dc30077cdfb08cdf3ce4e0d");
    let outcome =
        Outcome { status: Status::Refused(9), expected_sequence: 0x0102_0304_0506_0708, ..OUTCOME };
    let answer = Ticket::new(hand.session, 7, 1_024, hand.tag_key.clone()).answer(&outcome);
    assert_eq!(tag(&answer), "c10754dc7223423146e69db71d502f19");
    let mut window =
        WindowPacket { session: hand.session, installed: 1_280, tag: [9; 16] }.encode();
    hand.tag_key.seal(&mut window);
    assert_eq!(tag(&window), "46155649ff9053e41d418c71831b5202");
}

#[test]
fn a_slot_is_its_session_and_its_counter_in_the_window() {
    assert_eq!(slot(Session::new(0, 1), 1), 1);
    assert_eq!(slot(Session::new(3, 9), 1_024), 3 * 1_024);
    assert_eq!(slot(Session::new(3, 9), 1_023 + 5 * 1_024), 3 * 1_024 + 1_023);
    assert_eq!(slot(Session::new(Session::INDEX_COUNT - 1, 1), 1_023), (1 << 30) - 1);
}

#[test]
fn keys_keep_their_secrets_out_of_the_log() {
    let (token_key, tag_key) = golden_keys();
    let key = AdmissionKey::generate([1; 32]);
    assert_eq!(format!("{token_key:?} {tag_key:?}"), "TokenKey TagKey");
    let text = format!("{key:?}");
    assert!(text.starts_with("AdmissionKey { id: [") && text.ends_with("], .. }"), "{text}");
}

#[test]
fn an_admission_key_is_decided_by_its_seed_and_named_by_its_public_half() {
    let key = AdmissionKey::generate([1; 32]);
    assert_eq!(key.public(), AdmissionKey::generate([1; 32]).public());
    assert_ne!(key.public(), AdmissionKey::generate([2; 32]).public());
    assert_eq!(key.id(), key.public()[..8]);
}
