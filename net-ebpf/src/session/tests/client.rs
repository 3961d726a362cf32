//! A client's side alone: what it sends when, what it believes, when it starts again.

use super::*;
use crate::abi::{Answer, Cookie, HANDSHAKE_SIZE, HELLO_SIZE, Hello};
use proptest::prelude::*;

const MILLISECOND_NS: u64 = SECOND_NS / 1_000;

/// A client and what it talks to; every cookie is good here.
struct Pair {
    world: World,
    client: Client,
}

impl Pair {
    fn new(rate: Rate) -> Self {
        let world = World::new(64, rate);
        let client = Client::new(NETWORK, *world.server.key().public(), [4; 32]);
        Self { world, client }
    }

    fn now(&self) -> u64 {
        self.world.now_ns
    }

    fn wait(&mut self, milliseconds: u64) {
        self.world.now_ns += milliseconds * MILLISECOND_NS;
    }

    fn poll(&mut self) -> Option<Vec<u8>> {
        let now_ns = self.now();
        self.client.poll(now_ns).map(|outgoing| outgoing.bytes().to_vec())
    }

    fn receive(&mut self, packet: &[u8]) -> Event {
        let now_ns = self.now();
        self.client.receive(now_ns, packet)
    }

    fn seal(&mut self) -> Option<Vec<u8>> {
        let mut packet = [0; PACKET_SIZE_MAX];
        let now_ns = self.now();
        let size = self.client.seal(now_ns, &[0xab; TRANSACTION_SIZE_MIN], &mut packet)?;
        Some(packet[..size].to_vec())
    }

    /// A hello that is due, answered: the handshake.
    fn handshake(&mut self) -> Vec<u8> {
        let hello = self.poll().unwrap();
        let Hello { nonce } = Hello::decode(&hello).unwrap();
        let cookie = Cookie { nonce, cookie: 7 }.encode();
        assert_eq!(self.receive(&cookie), Event::Cookie);
        assert_eq!(self.client.next_wake(), Some(0));
        self.poll().unwrap()
    }

    fn welcome(&mut self, handshake: &[u8]) -> Vec<u8> {
        let World { server, table, now_ns, .. } = &mut self.world;
        server.handshake(*now_ns, source(0), handshake, table).unwrap().to_vec()
    }

    fn establish(&mut self) {
        let handshake = self.handshake();
        let welcome = self.welcome(&handshake);
        assert_eq!(self.receive(&welcome), Event::Established);
    }

    /// The answer to a submit.
    fn answer(&mut self, packet: &[u8]) -> Vec<u8> {
        self.world.deliver(source(0), packet).unwrap().ticket.answer(&OUTCOME).to_vec()
    }
}

#[test]
fn a_session_is_had_in_four_datagrams_and_seals_submits() {
    let mut pair = Pair::new(WIDE);
    assert_eq!(pair.client.next_wake(), Some(0));
    assert_eq!((pair.client.session(), pair.client.counters_left()), (None, 0));
    assert_eq!(pair.seal(), None);
    pair.establish();
    assert_eq!((pair.poll(), pair.client.next_wake()), (None, None));
    assert_eq!(pair.client.counters_left(), WINDOW);
    let packet = pair.seal().unwrap();
    let submit = Submit::decode(&packet).unwrap();
    assert_eq!((Some(submit.session), submit.counter), (pair.client.session(), 1));
    let answer = pair.answer(&packet);
    let event = pair.receive(&answer);
    assert_eq!(event, Event::Answer(Answer::decode(&answer).unwrap()));
}

#[test]
fn waits_double_from_a_quarter_second_to_four_and_keep_the_label_until_a_cookie_comes() {
    let mut pair = Pair::new(WIDE);
    let first = pair.poll().unwrap();
    assert_eq!(first.len(), HELLO_SIZE);
    let mut longest = 250;
    for _ in 0..8 {
        let wait_ns = pair.client.next_wake().unwrap() - pair.now();
        let most = longest * MILLISECOND_NS;
        assert!(wait_ns <= most && wait_ns > most - most / 4, "{wait_ns} of {most}");
        pair.world.now_ns += wait_ns - 1;
        assert_eq!(pair.poll(), None);
        pair.world.now_ns += 1;
        assert_eq!(pair.poll().unwrap(), first);
        longest = (longest * 2).min(4_000);
    }
    assert!(!pair.client.needs_key(), "nobody was there to know the key");
}

#[test]
fn after_three_silent_handshakes_the_key_is_fetched_anew() {
    let mut pair = Pair::new(WIDE);
    let mut labels = std::collections::BTreeSet::new();
    for silent in 0..3 {
        assert!(!pair.client.needs_key(), "{silent}");
        let handshake = pair.handshake();
        assert_eq!(handshake.len(), HANDSHAKE_SIZE);
        assert!(labels.insert(Handshake::decode(&handshake).unwrap().nonce));
        pair.wait(4_000);
    }
    // A rotation that left it behind; it goes on trying while the key is fetched.
    assert!(pair.poll().is_some());
    assert!(pair.client.needs_key());
    pair.world.server.rotate(pair.world.now_ns, AdmissionKey::generate([9; 32]));
    pair.world.server.rotate(pair.world.now_ns, AdmissionKey::generate([10; 32]));
    pair.client.set_key(*pair.world.server.key().public());
    assert!(!pair.client.needs_key());
    assert_eq!(pair.client.next_wake(), Some(0));
    pair.establish();
}

#[test]
fn a_welcome_ends_the_count_of_silent_handshakes() {
    let mut pair = Pair::new(WIDE);
    for _ in 0..3 {
        for _ in 0..2 {
            pair.handshake();
            pair.wait(4_000);
        }
        pair.establish();
        assert!(!pair.client.needs_key());
        pair.seal().unwrap();
        pair.wait(2_000);
    }
}

#[test]
fn two_seconds_of_silence_after_a_submit_begin_a_new_session_and_the_old_one_serves_meanwhile() {
    let mut pair = Pair::new(WIDE);
    pair.establish();
    pair.wait(3_600_000);
    assert_eq!(
        (pair.poll(), pair.client.next_wake()),
        (None, None),
        "nothing sent, nothing missed"
    );
    let old = pair.client.session();
    pair.seal().unwrap();
    let sent_ns = pair.now();
    pair.wait(1_000);
    pair.seal().unwrap();
    assert_eq!(pair.client.next_wake(), Some(sent_ns + 2 * SECOND_NS), "the first one counts");
    pair.wait(999);
    assert_eq!(pair.poll(), None);
    pair.wait(1);
    let handshake = pair.handshake();
    // The old session goes on until the new one stands.
    let packet = pair.seal().unwrap();
    assert_eq!(Some(Submit::decode(&packet).unwrap().session), old);
    let answer = pair.answer(&packet);
    assert!(matches!(pair.receive(&answer), Event::Answer(_)));
    let packet = pair.seal().unwrap();
    let answer = pair.answer(&packet);
    let welcome = pair.welcome(&handshake);
    assert_eq!(pair.receive(&welcome), Event::Established);
    assert_ne!(pair.client.session(), old);
    assert_eq!(pair.receive(&answer), Event::Ignored(Reject::Session));
    let packet = pair.seal().unwrap();
    assert_eq!(Submit::decode(&packet).unwrap().counter, 1);
    pair.answer(&packet);
}

#[test]
fn an_authentic_datagram_ends_the_silence() {
    let mut pair = Pair::new(WIDE);
    pair.establish();
    for _ in 0..10 {
        let packet = pair.seal().unwrap();
        let answer = pair.answer(&packet);
        pair.wait(1_900);
        assert!(matches!(pair.receive(&answer), Event::Answer(_)));
        assert_eq!((pair.poll(), pair.client.next_wake()), (None, None));
    }
    // A damaged one does not.
    let packet = pair.seal().unwrap();
    let mut answer = pair.answer(&packet);
    answer[60] ^= 1;
    pair.wait(2_000);
    assert_eq!(pair.receive(&answer), Event::Ignored(Reject::Tag));
    assert!(pair.poll().is_some());
}

#[test]
fn no_counter_is_used_twice_or_past_what_is_installed_and_a_dry_second_starts_again() {
    let mut pair = Pair::new(WIDE);
    pair.establish();
    for counter in 1..=WINDOW {
        assert_eq!(Submit::decode(&pair.seal().unwrap()).unwrap().counter, counter);
    }
    let dry_ns = pair.now();
    assert_eq!((pair.seal(), pair.client.counters_left()), (None, 0));
    assert_eq!(pair.client.next_wake(), Some(dry_ns + SECOND_NS));
    pair.wait(999);
    assert_eq!((pair.seal(), pair.poll()), (None, None));
    pair.wait(1);
    pair.establish();
    assert_eq!(Submit::decode(&pair.seal().unwrap()).unwrap().counter, 1);
    assert_eq!(pair.client.counters_left(), WINDOW - 1);
}

#[test]
fn a_window_or_an_answer_brings_more_counters_and_never_takes_any() {
    let mut pair = Pair::new(WIDE);
    pair.establish();
    let packets: Vec<_> = (0..WINDOW).map(|_| pair.seal().unwrap()).collect();
    let (mut answers, mut windows) = (Vec::new(), Vec::new());
    for packet in &packets {
        let accepted = pair.world.deliver(source(0), packet).unwrap();
        windows.extend(accepted.window);
        answers.push(accepted.ticket.answer(&OUTCOME));
    }
    assert_eq!(windows.len(), 2);
    assert_eq!(pair.receive(&windows[0]), Event::WindowGrew);
    assert_eq!(pair.client.counters_left(), WINDOW / 4);
    assert_eq!(pair.client.next_wake(), None, "dry no more, nor silent");
    // Old news takes nothing back, the newest brings the most.
    for (packet, left) in [
        (&answers[0][..], WINDOW / 4),
        (&windows[1], WINDOW / 2),
        (&windows[0], WINDOW / 2),
        (&answers[1_023], WINDOW / 2),
    ] {
        assert!(!matches!(pair.receive(packet), Event::Ignored(_)));
        assert_eq!(pair.client.counters_left(), left);
    }
}

#[test]
fn every_flipped_bit_of_what_comes_is_refused() {
    let mut pair = Pair::new(WIDE);
    let handshake = pair.handshake();
    let welcome = pair.welcome(&handshake);
    let flipped = |packet: &[u8], bit: usize| {
        let mut damaged = packet.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged
    };
    for bit in 0..welcome.len() * 8 {
        let event = pair.receive(&flipped(&welcome, bit));
        assert!(matches!(event, Event::Ignored(_)), "bit {bit}: {event:?}");
        assert_eq!(pair.client.session(), None);
    }
    assert_eq!(pair.receive(&welcome), Event::Established);
    assert_eq!(pair.receive(&welcome), Event::Ignored(Reject::Counter), "once");
    let packets: Vec<_> = (0..800).map(|_| pair.seal().unwrap()).collect();
    let mut window = None;
    let mut answer = Vec::new();
    for packet in &packets {
        let accepted = pair.world.deliver(source(0), packet).unwrap();
        window = window.or(accepted.window);
        answer = accepted.ticket.answer(&OUTCOME).to_vec();
    }
    let window = window.unwrap();
    for packet in [&answer[..], &window] {
        for bit in 0..packet.len() * 8 {
            let event = pair.receive(&flipped(packet, bit));
            assert!(matches!(event, Event::Ignored(_)), "bit {bit}: {event:?}");
            assert_eq!(pair.client.counters_left(), WINDOW - 800);
        }
    }
    assert_eq!(pair.receive(&window), Event::WindowGrew);
    assert!(matches!(pair.receive(&answer), Event::Answer(_)));
    assert_eq!(pair.client.counters_left(), WINDOW / 2);
}

#[test]
fn what_a_client_did_not_ask_for_changes_nothing() {
    let mut pair = Pair::new(WIDE);
    let hello = pair.poll().unwrap();
    let Hello { nonce } = Hello::decode(&hello).unwrap();
    let other = Cookie { nonce: nonce ^ 1, cookie: 7 }.encode();
    assert_eq!(pair.receive(&other), Event::Ignored(Reject::Counter));
    assert_eq!(pair.receive(&hello), Event::Ignored(Reject::Kind));
    assert_eq!(pair.receive(&[]), Event::Ignored(Reject::TooShort));
    let welcome = Welcome { nonce, message: [0; 112] }.encode();
    assert_eq!(pair.receive(&welcome), Event::Ignored(Reject::Counter), "no handshake yet");
    let answer = |session, counter| {
        let key = TagKey::new([0; 32]);
        Ticket::new(session, counter, WINDOW, key).answer(&OUTCOME)
    };
    let none = answer(Session::new(1, 1), 1);
    assert_eq!(pair.receive(&none), Event::Ignored(Reject::Session));
    let cookie = Cookie { nonce, cookie: 7 }.encode();
    assert_eq!(pair.receive(&cookie), Event::Cookie);
    let handshake = pair.poll().unwrap();
    assert_eq!(pair.receive(&cookie), Event::Ignored(Reject::Counter), "the second copy");
    let nonce = Handshake::decode(&handshake).unwrap().nonce;
    let welcome = Welcome { nonce, message: [0; 112] }.encode();
    assert_eq!(pair.receive(&welcome), Event::Ignored(Reject::Noise));
    let welcome = pair.welcome(&handshake);
    assert_eq!(pair.receive(&welcome), Event::Established);
    assert_eq!(pair.receive(&handshake), Event::Ignored(Reject::Kind));
    let session = pair.client.session().unwrap();
    let early = answer(session, 1);
    assert_eq!(pair.receive(&early), Event::Ignored(Reject::Counter), "nothing was sent");
    pair.seal().unwrap();
    assert_eq!(pair.receive(&early), Event::Ignored(Reject::Tag));
}

#[test]
fn a_validator_with_another_key_is_no_validator() {
    let mut pair = Pair::new(WIDE);
    // It claims the id, and cannot read what was meant for the key.
    let public = *AdmissionKey::generate([5; 32]).public();
    pair.client.set_key(public);
    let mut handshake = pair.handshake();
    assert_eq!(handshake[48..56], public[..8]);
    handshake[48..56].copy_from_slice(&pair.world.server.key().id());
    let World { server, table, now_ns, .. } = &mut pair.world;
    let opened = server.handshake(*now_ns, source(0), &handshake, table);
    assert_eq!(opened.unwrap_err(), Reject::Noise);
}

#[test]
fn a_seed_decides_a_client_whole() {
    let run = |seed| {
        let mut client = Client::new(NETWORK, [7; 32], seed);
        let hello = client.poll(0).unwrap();
        let Hello { nonce } = Hello::decode(hello.bytes()).unwrap();
        client.receive(0, &Cookie { nonce, cookie: 7 }.encode());
        (hello, client.poll(0).unwrap(), client.next_wake())
    };
    assert_eq!(run([5; 32]), run([5; 32]));
    assert_ne!(run([5; 32]).0, run([6; 32]).0);
    assert_ne!(run([5; 32]).1, run([6; 32]).1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_change_nothing(
        packets in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..300), 0..=48_usize, 0..=8_u8,
             prop::sample::select(vec![48_usize, 122, 160, 0])),
            1..20),
    ) {
        let mut pair = Pair::new(WIDE);
        pair.establish();
        let mut good = pair.seal().unwrap();
        let before = (pair.client.session(), pair.client.counters_left(), pair.client.next_wake());
        for (mut bytes, good_bytes, kind, size) in packets {
            if size > 0 {
                bytes.resize(size, 0);
            }
            good[3] = kind;
            let front = good_bytes.min(bytes.len());
            bytes[..front].copy_from_slice(&good[..front]);
            let event = pair.receive(&bytes);
            prop_assert!(matches!(event, Event::Ignored(_)), "{:?}", event);
        }
        let after = (pair.client.session(), pair.client.counters_left(), pair.client.next_wake());
        prop_assert_eq!(before, after);
    }
}
