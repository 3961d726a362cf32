//! A validator's side alone: what it accepts and refuses, how windows move, who is blamed.

use super::*;
use proptest::prelude::*;
use std::{collections::BTreeSet, net::IpAddr};

#[test]
fn a_submit_is_accepted_once_and_its_answer_is_sealed() {
    let mut world = World::new(64, WIDE);
    let hand = world.open(source(0)).unwrap();
    let packet = hand.submit(1);
    let accepted = world.deliver(source(0), &packet).unwrap();
    assert_eq!(accepted.transaction, [0xab; TRANSACTION_SIZE_MIN]);
    assert_eq!(accepted.window, None);
    assert_eq!((accepted.ticket.session(), accepted.ticket.counter()), (hand.session, 1));
    let answer = accepted.ticket.answer(&OUTCOME);
    hand.tag_key.open(&answer).unwrap();
    let answer = crate::abi::Answer::decode(&answer).unwrap();
    assert_eq!((answer.session, answer.counter), (hand.session, 1));
    assert_eq!((answer.installed, answer.outcome), (WINDOW, OUTCOME));
    // The filter does not let it through again, and if it did, it would not be accepted.
    assert_eq!(world.deliver(source(0), &packet).unwrap_err(), Reject::Token);
    assert_eq!(world.sneak(source(0), &packet).unwrap_err(), Reject::Token);
}

#[test]
fn each_broken_submit_has_its_reason() {
    let mut world = World::new(64, WIDE);
    let hand = world.open(source(0)).unwrap();
    let other = world.open(source(1)).unwrap();
    let with = |session, counter| {
        let hand = Hand { session, ..hand.clone() };
        hand.submit(counter)
    };
    let index = hand.session.index();
    for (packet, reject) in [
        (vec![0; 10], Reject::TooShort),
        (vec![0; 300], Reject::Magic),
        (hand.untagged(1, 0), Reject::Token),
        (with(Session::NONE, 1), Reject::Session),
        (with(Session::new(index, hand.session.generation() % 4_095 + 1), 1), Reject::Session),
        (with(Session::new(index, 0), 1), Reject::Session),
        (with(Session::new(63, 1), 1), Reject::Session),
        (with(Session::new(64, 1), 1), Reject::Session),
        (with(Session::new(Session::INDEX_COUNT - 1, 1), 1), Reject::Session),
        (hand.submit(0), Reject::Counter),
        (hand.submit(WINDOW + 1), Reject::Counter),
        (hand.submit(u64::MAX), Reject::Counter),
        (hand.untagged(1, hand.token_key.token(2)), Reject::Token),
        (with(other.session, 1), Reject::Token),
        (hand.untagged(1, hand.token_key.token(1)), Reject::Tag),
    ] {
        assert_eq!(world.sneak(source(0), &packet).unwrap_err(), reject);
    }
    for counter in [1, WINDOW] {
        world.sneak(source(0), &hand.submit(counter)).unwrap();
    }
}

#[test]
fn every_flipped_bit_of_a_submit_is_refused_and_blames_nobody() {
    let mut world = World::new(64, WIDE);
    let hand = world.open(source(0)).unwrap();
    let packet = hand.submit(1);
    for bit in 0..packet.len() * 8 {
        let mut damaged = packet.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let reject = world.sneak(source(0), &damaged).unwrap_err();
        match bit / 8 {
            24..40 | 48.. => assert_eq!(reject, Reject::Tag, "bit {bit}"),
            16..24 => assert_eq!(reject, Reject::Token, "bit {bit}"),
            _ => {}
        }
    }
    assert_eq!(world.tick(), []);
    world.deliver(source(0), &packet).unwrap();
}

#[test]
fn a_wrong_tag_spends_the_token_and_nothing_else() {
    let mut world = World::new(64, WIDE);
    let hand = world.open(source(0)).unwrap();
    for counter in 1..=100 {
        let mut packet = hand.submit(counter);
        packet[100] ^= 1;
        assert_eq!(world.deliver(source(9), &packet).unwrap_err(), Reject::Tag);
        assert_eq!(world.deliver(source(0), &hand.submit(counter)).unwrap_err(), Reject::Token);
    }
    assert_eq!(world.tick(), []);
    assert!(world.stands(&hand));
    world.deliver(source(0), &hand.submit(101)).unwrap();
}

#[test]
fn forged_tokens_are_never_accepted() {
    let count = std::env::var("ALTHING_FORGERIES").map_or(100_000, |text| text.parse().unwrap());
    let mut world = World::new(64, WIDE);
    let hand = world.open(source(0)).unwrap();
    let mut state = world.generator.word();
    let mut packet = hand.untagged(1, 1);
    let mut let_through = 0_u64;
    for round in 0..count {
        // SplitMix64: forgeries need no secret, only speed.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut token = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        token = (token ^ token >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        token ^= token >> 31;
        let counter = state % WINDOW + 1;
        packet[8..16].copy_from_slice(&counter.to_le_bytes());
        packet[16..24].copy_from_slice(&token.to_le_bytes());
        let_through += u64::from(world.table.admit(&packet).is_ok());
        let_through += u64::from(world.sneak(source(0), &packet).is_ok());
        if round % 16 == 0 {
            // The right token under a forged tag.
            packet[16..24].copy_from_slice(&hand.token_key.token(counter).to_le_bytes());
            packet[24..32].copy_from_slice(&token.to_le_bytes());
            let_through += u64::from(world.sneak(source(0), &packet).is_ok());
        }
    }
    assert_eq!(let_through, 0);
    assert_eq!(world.tick(), []);
    world.deliver(source(0), &hand.submit(1)).unwrap();
}

#[test]
fn the_window_reaches_half_ahead_of_the_highest_counter() {
    let mut world = World::new(64, WIDE);
    let hand = world.open(source(0)).unwrap();
    let mut told = WINDOW;
    for counter in 1..=5_000 {
        let packet = hand.submit(counter);
        let Accepted { ticket, window, .. } = world.deliver(source(0), &packet).unwrap();
        let installed = WINDOW.max(counter + WINDOW / 2);
        let answer = crate::abi::Answer::decode(&ticket.answer(&OUTCOME)).unwrap();
        assert_eq!(answer.installed, installed);
        let due = installed - told >= WINDOW / 4;
        assert_eq!(window.map(|packet| hand.installed(&packet)), due.then_some(installed));
        if due {
            told = installed;
        }
    }
    // A jump to the edge: everything up to half ahead is installed, what it leaves behind is lost.
    world.deliver(source(0), &hand.submit(5_512)).unwrap();
    let installed = 5_512 + WINDOW / 2;
    let oldest = installed - WINDOW + 1;
    assert_eq!(world.sneak(source(0), &hand.submit(oldest - 1)).unwrap_err(), Reject::Counter);
    // 5_000 and below were spent, what follows was never seen.
    world.deliver(source(0), &hand.submit(oldest)).unwrap();
    world.deliver(source(0), &hand.submit(installed)).unwrap();
}

#[test]
fn the_rate_bounds_what_is_accepted() {
    let rate = Rate { packets_per_second: 1_000, burst_packets: 100 };
    let mut world = World::new(64, rate);
    let hand = world.open(source(0)).unwrap();
    let (start, mut next, mut accepted) = (world.now_ns, 1, 0_u64);
    while world.now_ns < start + 10 * SECOND_NS {
        world.now_ns += SECOND_NS / 1_000;
        world.tick();
        // Everything that the table takes, as fast as it takes it.
        while world.deliver(source(0), &hand.submit(next)).is_ok() {
            (next, accepted) = (next + 1, accepted + 1);
        }
    }
    let most = WINDOW + 100 + 10_000;
    assert!((most - 20..=most).contains(&accepted), "{accepted} of {most}");
}

#[test]
fn a_client_that_the_rate_holds_back_is_told_of_little_growth_in_time() {
    for packets_per_second in [2, 10, 100, 1_000] {
        let mut world = World::new(64, Rate { packets_per_second, burst_packets: 8 });
        let hand = world.open(source(0)).unwrap();
        let (mut installed, mut next) = (WINDOW, 1);
        let mut heard_ns = world.now_ns;
        for _ in 0..2_000 {
            world.now_ns += 5 * SECOND_NS / 1_000;
            while next <= installed {
                // Answers are lost, all of them.
                let packet = hand.submit(next);
                let accepted = world.deliver(source(5), &packet).unwrap();
                next += 1;
                if let Some(packet) = accepted.window {
                    (installed, heard_ns) = (hand.installed(&packet), world.now_ns);
                }
            }
            for action in world.tick() {
                let Action::Send { to, packet } = action else { panic!("{action:?}") };
                assert_eq!(to, source(5), "where it was last heard from");
                (installed, heard_ns) = (hand.installed(&packet), world.now_ns);
            }
            assert!(world.now_ns - heard_ns < SECOND_NS, "{packets_per_second}");
        }
        assert!(next > WINDOW + packets_per_second * 9, "{packets_per_second}: {next}");
    }
}

#[test]
fn many_held_back_sessions_are_moved_in_turn() {
    let mut world = World::new(1_024, Rate { packets_per_second: 1, burst_packets: 1 });
    let hands: Vec<_> = (0..1_000)
        .map(|n| {
            world.now_ns += SECOND_NS / 1_000;
            world.open(source(n)).unwrap()
        })
        .collect();
    for (n, hand) in (0..).zip(&hands) {
        world.deliver(source(n), &hand.submit(WINDOW)).unwrap();
    }
    world.now_ns += 5 * SECOND_NS;
    let mut told = BTreeSet::new();
    for round in 0..16 {
        let actions = world.tick();
        assert!(actions.len() <= 64, "round {round}: {}", actions.len());
        for action in actions {
            let Action::Send { to, .. } = action else { panic!("{action:?}") };
            assert!(told.insert(to), "each once before any twice");
        }
    }
    assert_eq!(told.len(), 1_000);
}

#[test]
fn eight_blames_end_a_session_and_list_the_address_of_its_handshake() {
    for (origin, elsewhere) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::5", "2001:db8:9::1")] {
        let origin = SocketAddr::new(origin.parse().unwrap(), 4_000);
        let elsewhere = SocketAddr::new(elsewhere.parse().unwrap(), 5_000);
        let mut world = World::new(64, WIDE);
        let standing = world.server.standing();
        let hand = world.open(origin).unwrap();
        let bystander = world.open(elsewhere).unwrap();
        for counter in 1..=8 {
            assert_eq!(world.tick(), []);
            assert!(world.stands(&hand));
            let packet = hand.submit(counter);
            let ticket = world.deliver(elsewhere, &packet).unwrap().ticket;
            standing.blamed(ticket.session());
        }
        assert_eq!(world.tick(), [Action::Block(origin.ip())]);
        assert_eq!(world.tick(), [], "once");
        assert!(!world.stands(&hand));
        let first = slot(hand.session, 0);
        let zeros = [0; 1_024];
        assert_eq!(world.table.slots[first..first + 1_024], zeros);
        assert_eq!(world.deliver(origin, &hand.submit(9)).unwrap_err(), Reject::Token);
        assert_eq!(world.sneak(origin, &hand.submit(9)).unwrap_err(), Reject::Session);
        assert!(world.stands(&bystander));
        assert_eq!(world.server.sessions(), 1);
    }
}

#[test]
fn an_ipv4_address_in_ipv6_form_is_listed_as_ipv4() {
    let mut world = World::new(64, WIDE);
    let origin: SocketAddr = "[::ffff:192.0.2.1]:4000".parse().unwrap();
    let hand = world.open(origin).unwrap();
    (0..8).for_each(|_| world.server.standing().blamed(hand.session));
    assert_eq!(world.tick(), [Action::Block(IpAddr::from([192, 0, 2, 1]))]);
}

#[test]
fn reports_about_a_former_holder_of_a_place_change_nothing() {
    let mut world = World::new(64, WIDE);
    let standing = world.server.standing();
    let former = world.open(source(0)).unwrap();
    (0..8).for_each(|_| standing.blamed(former.session));
    assert_eq!(world.tick().len(), 1);
    let present = world.open(source(1)).unwrap();
    assert_eq!(present.session.index(), former.session.index());
    (0..20).for_each(|_| standing.blamed(former.session));
    (0..20).for_each(|_| standing.accepted(former.session));
    standing.blamed(Session::NONE);
    standing.blamed(Session::new(64, 1));
    assert_eq!(world.tick(), []);
    assert!(world.stands(&present));
    assert_eq!(standing.accepted_count(0), 0);
}

#[test]
fn reports_from_many_threads_are_all_counted() {
    let mut world = World::new(64, WIDE);
    let standing = world.server.standing();
    let sessions: Vec<_> = (0..8).map(|n| world.open(source(n)).unwrap().session).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (standing, sessions) = (&standing, &sessions);
            scope.spawn(move || {
                for round in 0..8_000 {
                    standing.accepted(sessions[(thread + round) % 8]);
                }
                // Two from each of four threads: the eighth ends it.
                standing.blamed(sessions[3]);
                standing.blamed(sessions[3]);
                standing.blamed(sessions[4]);
            });
        }
    });
    for session in &sessions {
        assert_eq!(standing.accepted_count(usize::try_from(session.index()).unwrap()), 4_000);
    }
    assert_eq!(world.tick(), [Action::Block(source(3).ip())]);
}

#[test]
fn the_key_before_the_present_one_is_good_for_an_hour() {
    let mut world = World::new(64, WIDE);
    let hand = world.open(source(0)).unwrap();
    let publics: Vec<_> = (10..13).map(|n| *AdmissionKey::generate([n; 32]).public()).collect();
    let shake = |world: &mut World, public: &[u8; 32], n| {
        let (packet, mut noise) = world.handshake_with(public, 7);
        let welcome = world.server.handshake(world.now_ns, source(n), &packet, &mut world.table)?;
        noise.finish(&Welcome::decode(&welcome).unwrap().message).map(|grant| grant.session)
    };
    let rotate = |world: &mut World, n: u8| {
        world.server.rotate(world.now_ns, AdmissionKey::generate([n; 32]));
    };
    rotate(&mut world, 10);
    rotate(&mut world, 11);
    let rotated_ns = world.now_ns;
    shake(&mut world, &publics[1], 1).unwrap();
    shake(&mut world, &publics[0], 2).unwrap();
    assert_eq!(shake(&mut world, &publics[2], 3).unwrap_err(), Reject::KeyId);
    let first = *AdmissionKey::generate([1; 32]).public();
    assert_eq!(shake(&mut world, &first, 3).unwrap_err(), Reject::KeyId);
    world.now_ns = rotated_ns + 3_600 * SECOND_NS - 1;
    shake(&mut world, &publics[0], 4).unwrap();
    world.now_ns += 1;
    assert_eq!(shake(&mut world, &publics[0], 5).unwrap_err(), Reject::KeyId);
    shake(&mut world, &publics[1], 5).unwrap();
    world.deliver(source(0), &hand.submit(1)).unwrap();
}

#[test]
fn every_flipped_bit_of_a_handshake_is_refused_or_is_its_label() {
    let mut world = World::new(64, WIDE);
    let (packet, _) = world.handshake(7);
    for bit in 0..packet.len() * 8 {
        world.now_ns += SECOND_NS;
        let mut damaged = packet.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let opened = world.server.handshake(world.now_ns, source(0), &damaged, &mut world.table);
        let reject = match bit / 8 {
            // The label is repeated in the welcome, and the client takes no other.
            8..16 => {
                assert_eq!(opened.unwrap()[8..16], damaged[8..16]);
                continue;
            }
            48..56 => Reject::KeyId,
            // X25519 ignores the top bit of a point (RFC 7748, section 5), but Noise hashes it.
            16..24 | 56..104 => Reject::Noise,
            104.. => Reject::Reserved,
            _ => {
                opened.unwrap_err();
                continue;
            }
        };
        assert_eq!(opened.unwrap_err(), reject, "bit {bit}");
    }
}

#[test]
fn a_handshake_of_another_network_does_not_open() {
    let mut world = World::new(64, WIDE);
    let public = *world.server.key().public();
    let seed = Zeroizing::new([8; 32]);
    let (_, message) = Initiator::start(&[0; 32], 7, &public, seed);
    let key_id = world.server.key().id();
    let packet = Handshake { nonce: 9, cookie: 7, key_id, message }.encode();
    let opened = world.server.handshake(world.now_ns, source(0), &packet, &mut world.table);
    assert_eq!(opened.unwrap_err(), Reject::Noise);
    assert_eq!(world.server.sessions(), 0);
}

#[test]
fn a_seed_decides_a_server_whole() {
    let run = |seed| {
        let mut world = World::new(64, WIDE);
        let key = AdmissionKey::generate([1; 32]);
        world.server = Server::new(&options(64, WIDE), key, seed).unwrap();
        let (packet, _) = world.handshake(7);
        world.server.handshake(world.now_ns, source(0), &packet, &mut world.table).unwrap()
    };
    assert_eq!(run([5; 32]), run([5; 32]));
    assert_ne!(run([5; 32]), run([6; 32]));
}

#[test]
fn rates_out_of_range_are_named() {
    let key = || AdmissionKey::generate([1; 32]);
    let rate = Rate { packets_per_second: 0, burst_packets: 1 };
    let error = Server::new(&options(64, rate), key(), [0; 32]).err().unwrap().to_string();
    assert!(error.starts_with("limit session.packets_per_second is 0; "), "{error}");
    let rate = Rate { packets_per_second: 1, burst_packets: 0 };
    let error = Server::new(&options(64, rate), key(), [0; 32]).err().unwrap().to_string();
    assert!(error.starts_with("limit session.burst_packets is 0; "), "{error}");
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut world = World::new(64, Rate { packets_per_second: 1_000, burst_packets: 1 });
    world.now_ns = 1_000 * SECOND_NS;
    let hand = world.open(source(0)).unwrap();
    for now_ns in [0, u64::MAX, 5, 1_000 * SECOND_NS] {
        world.now_ns = now_ns;
        world.tick();
        world.server.charge(1);
        world.open(source(1)).unwrap();
    }
    world.deliver(source(0), &hand.submit(1)).unwrap();
}

/// What should become of each counter, by the rule's own words.
#[derive(Default)]
struct Model {
    accepted: BTreeSet<u64>,
    installed: u64,
}

impl Model {
    fn expect(&mut self, counter: u64) -> Result<(), Reject> {
        if counter + WINDOW <= self.installed || counter > self.installed {
            return Err(Reject::Counter);
        }
        if !self.accepted.insert(counter) {
            return Err(Reject::Token);
        }
        let highest = *self.accepted.last().unwrap();
        self.installed = self.installed.max(highest + WINDOW / 2);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_order_of_counters_is_judged_as_the_rule_says(
        steps in prop::collection::vec((0..8_u8, any::<u16>(), any::<bool>()), 1..1_500),
    ) {
        let mut world = World::new(64, WIDE);
        let hand = world.open(source(0)).unwrap();
        let mut model = Model { installed: WINDOW, ..Model::default() };
        for (way, number, sneaks) in steps {
            let number = u64::from(number);
            let highest = model.accepted.last().copied().unwrap_or(0);
            let counter = match way {
                // The next, near ones, the edges of the window, the far past.
                0..3 => highest + 1,
                3..5 => (highest + 8).saturating_sub(number % 16),
                5 => model.installed + 1 - number % 3,
                6 => (model.installed + 2).saturating_sub(WINDOW + number % 4),
                _ => number % (model.installed + 10),
            };
            let packet = hand.submit(counter);
            let expected = model.expect(counter);
            // The table knows only that a slot waits for another token.
            let expected =
                if sneaks { expected } else { expected.map_err(|_| Reject::Token) };
            let from = source(u32::try_from(number).unwrap());
            let judged =
                if sneaks { world.sneak(from, &packet) } else { world.deliver(from, &packet) };
            let sneaked = judged.map(|accepted| {
                assert_eq!(accepted.ticket.counter(), counter);
            });
            prop_assert_eq!(sneaked, expected);
            if sneaks && expected.is_ok() {
                // What the server accepted, a good filter had cleared.
                world.table.admit(&packet).ok();
            }
        }
        // At the end the slots hold what the rule says.
        for counter in model.installed - WINDOW + 1..=model.installed {
            let is_spent = model.accepted.contains(&counter);
            let token = if is_spent { 0 } else { hand.token_key.token(counter) };
            prop_assert_eq!(world.table.slots[slot(hand.session, counter)], token);
        }
    }

    #[test]
    fn any_bytes_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..1_400),
        good_bytes in 0..=48_usize,
        kind in 0..=8_u8,
    ) {
        let mut world = World::new(64, WIDE);
        let hand = world.open(source(0)).unwrap();
        let mut bytes = bytes;
        let mut good = hand.submit(1);
        good[3] = kind;
        let front = good_bytes.min(bytes.len());
        bytes[..front].copy_from_slice(&good[..front]);
        prop_assert!(world.sneak(source(0), &bytes).is_err());
        let shaken = world.server.handshake(world.now_ns, source(0), &bytes, &mut world.table);
        prop_assert!(shaken.is_err());
    }
}
