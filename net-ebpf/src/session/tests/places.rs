//! Who gets a place in the table of sessions, who keeps it, and what handshakes may cost.

use super::*;
use crate::session::{
    lists::{Links, List},
    ranks::{GRACE_NS, HALVING_NS, Ranks},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, net::Ipv6Addr};

fn earn(world: &World, hand: &Hand, transactions: u64) {
    (0..transactions).for_each(|_| world.server.standing().accepted(hand.session));
}

/// Opens a session from the `n`th network, long enough after the one before for any quota.
fn open_later(world: &mut World, n: u32) -> Result<Hand, Reject> {
    world.now_ns += SECOND_NS / 10;
    world.open(source(n))
}

#[test]
fn handshakes_alone_push_out_only_sessions_without_accepted_transactions() {
    let mut world = World::new(256, WIDE);
    // 240 of 256 is the most that the worthy may hold.
    let worthy: Vec<_> = (0..240)
        .map(|n| {
            let hand = open_later(&mut world, n).unwrap();
            earn(&world, &hand, 1);
            hand
        })
        .collect();
    for n in 0..2_000 {
        open_later(&mut world, 1_000 + n).unwrap();
    }
    assert_eq!(world.server.sessions(), 256);
    for hand in &worthy {
        assert!(world.stands(hand));
    }
}

#[test]
fn the_oldest_worthless_session_goes_first_and_a_young_one_only_if_all_are() {
    let mut world = World::new(64, WIDE);
    let old: Vec<_> = (0..32).map(|n| open_later(&mut world, n).unwrap()).collect();
    earn(&world, &old[0], 1);
    world.now_ns += GRACE_NS;
    let young: Vec<_> = (32..64).map(|n| open_later(&mut world, n).unwrap()).collect();
    // 31 old ones give way in order, the worthy one stays.
    for n in 1..32 {
        open_later(&mut world, 100 + u32::try_from(n).unwrap()).unwrap();
        assert!(world.stands(&old[0]));
        assert!(!world.stands(&old[n]), "{n}");
        assert!(n == 31 || world.stands(&old[n + 1]), "{n}");
    }
    // All others are young by now.
    assert!(young.iter().all(|hand| world.stands(hand)));
    open_later(&mut world, 200).unwrap();
    assert!(!world.stands(&young[0]));
    assert!(young[1..].iter().all(|hand| world.stands(hand)));
}

#[test]
fn worth_fades_by_half() {
    let mut world = World::new(64, WIDE);
    let hands: Vec<_> = (0..64).map(|n| open_later(&mut world, n).unwrap()).collect();
    for (n, hand) in hands.iter().enumerate() {
        earn(&world, hand, if n == 9 { 1 } else { 8 });
    }
    // Every one has earned something, and four are put back to nothing for newcomers: the least.
    open_later(&mut world, 100).unwrap();
    assert!(!world.stands(&hands[9]));
    // The newcomers of each round take another halving's time: 1 is left of 8, then nothing.
    for (halvings, stand) in [(2, true), (2, false)] {
        world.now_ns += halvings * HALVING_NS;
        for n in 0..64 {
            world.now_ns += GRACE_NS;
            open_later(&mut world, 200 + n).unwrap();
        }
        let standing = hands.iter().filter(|hand| world.stands(hand)).count();
        assert_eq!(standing >= 60, stand, "{standing}");
        assert!(stand || standing == 0, "{standing}");
    }
}

#[test]
fn worthy_sessions_leave_some_places_to_newcomers() {
    // Everybody earns something: the least of them give way, and newcomers can earn their place.
    let mut world = World::new(64, WIDE);
    let hands: Vec<_> = (0..64).map(|n| open_later(&mut world, n).unwrap()).collect();
    for (earned, hand) in (1..).zip(&hands) {
        earn(&world, hand, 100 * earned);
    }
    for n in 0..100 {
        open_later(&mut world, 100 + n).unwrap();
    }
    let lost: Vec<_> = (0..64).filter(|&n| !world.stands(&hands[n])).collect();
    assert!(lost.len() == 4 && lost.iter().all(|&n| n < 12), "{lost:?}");
    let newcomer = open_later(&mut world, 300).unwrap();
    earn(&world, &newcomer, 10_000);
    for n in 0..100 {
        open_later(&mut world, 400 + n).unwrap();
    }
    assert!(world.stands(&newcomer));
}

#[test]
fn a_full_table_whose_sessions_all_rose_unseen_refuses_once_in_a_while() {
    let mut world = World::new(1_024, WIDE);
    let hands: Vec<_> = (0..1_024).map(|n| open_later(&mut world, n).unwrap()).collect();
    hands.iter().for_each(|hand| earn(&world, hand, 2));
    let opened: Vec<_> = (0..20).map(|n| open_later(&mut world, 2_000 + n).map(drop)).collect();
    let refused = opened.iter().filter(|&&result| result == Err(Reject::SessionsFull)).count();
    // 512 are looked at by each call at most, and 960 may be worthy before one must give way.
    assert!((1..=3).contains(&refused), "{opened:?}");
    assert!(opened[refused..].iter().all(|result| result.is_ok()), "{opened:?}");
}

#[test]
fn a_network_has_its_share_of_the_places_and_pushes_out_its_own() {
    for ipv6 in [false, true] {
        let inside = |host: u16| {
            let ip = if ipv6 {
                Ipv6Addr::new(0x2001, 0xdb8, 1, 1, host, 0, 0, host).into()
            } else {
                [192, 0, 2, host.to_le_bytes()[0]].into()
            };
            SocketAddr::new(ip, 4_000)
        };
        let outside: SocketAddr =
            if ipv6 { "[2001:db8:1:2::1]:1" } else { "192.0.3.1:1" }.parse().unwrap();
        let mut world = World::new(128, WIDE);
        let hands: Vec<_> = (0..8).map(|host| world.open(inside(host)).unwrap()).collect();
        let other = world.open(outside).unwrap();
        earn(&world, &hands[0], 1);
        // A ninth takes the place of the oldest worthless one of its own network.
        world.now_ns += SECOND_NS;
        let ninth = world.open(inside(8)).unwrap();
        assert_eq!(ninth.session.index(), hands[1].session.index());
        assert_eq!(world.server.sessions(), 9);
        assert!(!world.stands(&hands[1]) && world.stands(&hands[0]) && world.stands(&other));
        for hand in hands[2..].iter().chain([&ninth]) {
            earn(&world, hand, 1);
        }
        assert_eq!(world.open(inside(9)).unwrap_err(), Reject::SessionShare);
        world.open(outside).unwrap();
        // What ends makes room.
        (0..8).for_each(|_| world.server.standing().blamed(hands[0].session));
        assert_eq!(world.tick().len(), 1);
        world.open(inside(9)).unwrap();
        assert_eq!(world.open(inside(10)).map(drop), Ok(()), "the last one was worthless");
        assert_eq!(world.server.sessions(), 10);
    }
}

#[test]
fn a_network_has_its_rate_of_handshakes() {
    let mut world = World::new(4_096, WIDE);
    let inside = |host: u8| SocketAddr::from(([192, 0, 2, host], 4_000));
    let opened =
        |world: &mut World| (0..255).filter(|&host| world.open(inside(host)).is_ok()).count();
    assert_eq!(opened(&mut world), 64);
    assert_eq!(world.open(inside(1)).unwrap_err(), Reject::HandshakeRate);
    world.now_ns += SECOND_NS;
    assert_eq!(opened(&mut world), 16);
    let mapped: SocketAddr = "[::ffff:192.0.2.77]:9".parse().unwrap();
    assert_eq!(world.open(mapped).unwrap_err(), Reject::HandshakeRate);
    world.open("192.0.3.1:1".parse().unwrap()).unwrap();
    world.now_ns += 3_600 * SECOND_NS;
    assert_eq!(opened(&mut world), 64);
}

#[test]
fn handshakes_take_their_share_of_a_cpu_and_no_more() {
    let mut world = World::new(4_096, WIDE);
    let (mut used_ns, mut refused, mut n) = (0, 0, 0);
    let cost_ns = 170_000;
    let start = world.now_ns;
    while world.now_ns < start + 4 * SECOND_NS {
        world.now_ns += 500_000;
        n += 1;
        match world.open(source(n)) {
            Ok(_) => {
                world.server.charge(cost_ns);
                used_ns += cost_ns;
            }
            Err(reject) => {
                assert_eq!(reject, Reject::HandshakeCpu);
                refused += 1;
            }
        }
    }
    let share_ns = 100_000_000 + 4 * SECOND_NS / 20;
    assert!((share_ns - cost_ns..=share_ns + cost_ns).contains(&used_ns), "{used_ns}");
    assert!(refused > 5_000);
    // One that took far too long is paid off first.
    world.server.charge(SECOND_NS);
    world.now_ns += 19 * SECOND_NS;
    assert_eq!(world.open(source(n)).unwrap_err(), Reject::HandshakeCpu);
    world.now_ns += 2 * SECOND_NS;
    world.open(source(n)).unwrap();
}

#[test]
fn generations_go_round_and_leave_out_zero() {
    let mut world = World::new(64, WIDE);
    let standing = world.server.standing();
    // A place starts anywhere.
    let mut before = None;
    for round in 0..4_100 {
        let hand = open_later(&mut world, 0).unwrap();
        let (index, generation) = (hand.session.index(), hand.session.generation());
        let expected = before.map_or(generation, |before| before % 4_095 + 1);
        assert_eq!((index, generation), (0, expected), "round {round}");
        assert!((1..4_096).contains(&generation));
        before = Some(generation);
        (0..8).for_each(|_| standing.blamed(hand.session));
        assert_eq!(world.tick().len(), 1);
    }
}

#[test]
fn no_place_starts_where_a_stranger_expects_it() {
    let starts = |seed: u8| -> Vec<u32> {
        let mut world = World::new(64, WIDE);
        let key = AdmissionKey::generate([1; 32]);
        world.server = Server::new(&options(64, WIDE), key, [seed; 32]).unwrap();
        (0..64).map(|n| open_later(&mut world, n).unwrap().session.generation()).collect()
    };
    let (first, second) = (starts(1), starts(2));
    let all: std::collections::HashSet<_> = first.iter().chain(&second).collect();
    assert!(all.len() > 100, "of 4,095 two in 128 are the same twice or so: {}", all.len());
    assert_eq!(first, starts(1), "a run is decided by its seed");
}

#[test]
fn a_place_that_changes_hands_keeps_nothing_of_the_former_holder() {
    let mut world = World::new(64, WIDE);
    let former = open_later(&mut world, 0).unwrap();
    world.deliver(source(0), &former.submit(900)).unwrap();
    (1..64).for_each(|n| drop(open_later(&mut world, n).unwrap()));
    let present = open_later(&mut world, 100).unwrap();
    assert_eq!(present.session.index(), former.session.index());
    assert_eq!(world.deliver(source(0), &former.submit(901)).unwrap_err(), Reject::Session);
    assert_eq!(world.sneak(source(0), &former.submit(901)).unwrap_err(), Reject::Session);
    // The present one starts at 1, and the counter that was spent is not.
    for counter in [1, 900, WINDOW] {
        world.deliver(source(0), &present.submit(counter)).unwrap();
    }
}

#[test]
fn a_session_held_back_when_it_loses_its_place_moves_no_other() {
    let mut world = World::new(64, Rate { packets_per_second: 1, burst_packets: 1 });
    let former = open_later(&mut world, 0).unwrap();
    world.deliver(source(0), &former.submit(WINDOW)).unwrap();
    (1..64).for_each(|n| drop(open_later(&mut world, n).unwrap()));
    let present = open_later(&mut world, 100).unwrap();
    assert_eq!(present.session.index(), former.session.index());
    world.now_ns += SECOND_NS;
    assert_eq!(world.tick(), []);
    world.deliver(source(100), &present.submit(WINDOW)).unwrap();
    world.now_ns += SECOND_NS;
    assert_eq!(world.tick().len(), 1);
}

struct Nowhere;

impl Tokens for Nowhere {
    fn open(&mut self, _session: Session) {}

    fn put(&mut self, _slot: usize, _token: u64) {}
}

#[test]
fn memory_is_what_the_documentation_says() {
    for sessions in [64, 1_000, 65_536] {
        let mut world = World::new(64, WIDE);
        let key = AdmissionKey::generate([1; 32]);
        world.server = Server::new(&options(sessions, WIDE), key, [2; 32]).unwrap();
        let before = world.server.memory_bytes();
        let each = (before - 40_000) / usize::try_from(sessions).unwrap();
        assert!(sessions == 64 || each <= 600, "{each}");
        for n in 0..1_000 {
            world.now_ns += SECOND_NS / 10;
            let (packet, _) = world.handshake(7);
            world.server.handshake(world.now_ns, source(n), &packet, &mut Nowhere).unwrap();
        }
        assert_eq!(world.server.memory_bytes(), before);
    }
}

/// A session as whoever reports sees it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    accepted: u64,
    /// The epoch of the last accepted transaction.
    epoch: Option<u64>,
    born_ns: u64,
}

proptest! {
    #[test]
    fn who_gives_way_earned_nothing_lately_and_is_past_its_grace_if_such_a_one_is_there(
        steps in prop::collection::vec((0..10_u8, any::<u16>()), 1..400),
    ) {
        const SESSIONS: usize = 32;
        let mut ranks = Ranks::new(SESSIONS);
        let mut seen = BTreeMap::<usize, Seen>::new();
        let mut now_ns = 0;
        for (step, number) in steps {
            let index = usize::from(number) % SESSIONS;
            let epoch = now_ns / HALVING_NS;
            match (step, seen.get_mut(&index)) {
                (0..3, None) => {
                    ranks.insert(now_ns, index);
                    seen.insert(index, Seen { accepted: 0, epoch: None, born_ns: now_ns });
                }
                (3, Some(_)) if number % 4 == 0 => {
                    seen.remove(&index);
                    ranks.remove(index);
                }
                // Only so many sessions ever earn something that the reserve does not matter.
                (3..5, Some(session)) if index < SESSIONS / 2 => {
                    session.accepted += u64::from(number % 7) + 1;
                    session.epoch = Some(epoch);
                }
                (5, Some(session)) => {
                    let worth = ranks.refresh(index, session.accepted);
                    prop_assert!(u64::from(worth) <= session.accepted);
                    prop_assert!(worth > 0 || session.epoch != Some(epoch));
                }
                (6, _) => now_ns += u64::from(number) * 300_000_000,
                (7, _) if number % 8 == 0 => now_ns += HALVING_NS,
                (7, _) => now_ns += SECOND_NS,
                (8.., _) => {
                    let is_old = |session: &Seen| now_ns - session.born_ns >= GRACE_NS;
                    let idle = |session: &&Seen| session.accepted == 0;
                    match ranks.least(now_ns, |index| seen[&index].accepted) {
                        Some(index) => {
                            prop_assert_ne!(seen[&index].epoch, Some(epoch));
                            let mut idle = seen.values().filter(idle);
                            prop_assert!(is_old(&seen[&index]) || !idle.any(is_old));
                        }
                        None => prop_assert_eq!(seen.values().filter(idle).count(), 0),
                    }
                }
                _ => {}
            }
            ranks.advance(now_ns);
        }
        // Nobody is lost: all leave one after the other, once nothing is worth anything.
        ranks.advance(now_ns + 40 * HALVING_NS);
        for (&index, session) in &seen {
            ranks.refresh(index, session.accepted);
        }
        let end_ns = now_ns + 80 * HALVING_NS;
        ranks.advance(end_ns);
        while let Some(index) = ranks.least(end_ns, |index| seen[&index].accepted) {
            ranks.remove(index);
            prop_assert!(seen.remove(&index).is_some());
        }
        prop_assert_eq!(seen.len(), 0);
    }

    #[test]
    fn lists_agree_with_vectors(
        steps in prop::collection::vec((0..4_u8, 0..3_usize, 0..16_usize), 1..300),
    ) {
        let mut links = Links::new(16);
        let mut lists = [List::default(); 3];
        let mut vectors = vec![Vec::<usize>::new(); 3];
        for (step, at, index) in steps {
            let holder = vectors.iter().position(|vector| vector.contains(&index));
            match (step, holder) {
                (0, None) => {
                    links.push_back(&mut lists[at], index);
                    vectors[at].push(index);
                }
                (1, None) => {
                    links.push_front(&mut lists[at], index);
                    vectors[at].insert(0, index);
                }
                (2, _) => {
                    let from = (at + 1) % 3;
                    let front = std::mem::take(&mut lists[from]);
                    links.prepend(&mut lists[at], front);
                    let mut moved = std::mem::take(&mut vectors[from]);
                    moved.append(&mut vectors[at]);
                    vectors[at] = moved;
                }
                (_, Some(holder)) => {
                    links.remove(&mut lists[holder], index);
                    vectors[holder].retain(|&member| member != index);
                }
                _ => {}
            }
            for (list, vector) in lists.iter().zip(&vectors) {
                prop_assert_eq!(list.first(), vector.first().copied());
                prop_assert_eq!(list.count(), vector.len());
            }
        }
        // In the end every list is taken apart from its start, in order.
        for (list, vector) in lists.iter_mut().zip(&vectors) {
            for &member in vector {
                prop_assert_eq!(list.first(), Some(member));
                links.remove(list, member);
            }
            prop_assert_eq!((list.first(), list.count()), (None, 0));
        }
    }
}
