//! Verdicts on frames and datagrams, one rule at a time; `differential` holds them against the kernel.

use super::*;
use crate::tables::{Flags, Keys, Port, Setup};
use frames::{Frame, datagram};
use std::net::SocketAddr;

mod differential;
pub(crate) mod frames;

/// As on an interface that sends answers itself.
pub(crate) const ANSWERING: Flags = Flags { enforce: true, redirect: false, answer: true };

/// What both sides are told in tests: three addresses of each family with different ports.
pub(crate) fn setup() -> Setup {
    let all = Port::Udp as u32 | Port::TcpFirst as u32 | Port::TcpSecond as u32;
    let local = |text: &str, ports| (text.parse().unwrap(), ports);
    Setup {
        keys: Keys::new(std::array::from_fn(|place| place.to_le_bytes()[0])),
        limits: Limits::default(),
        udp_port: 4_002,
        tcp_ports: [4_000, 4_001],
        local: vec![
            local("10.0.0.1", all),
            local("10.0.0.2", Port::TcpFirst as u32),
            local("10.0.0.3", Port::Udp as u32),
            local("2001:db8::1", all),
            local("2001:db8::2", Port::TcpSecond as u32),
            local("fe80::77", Port::Udp as u32),
        ],
        peers: vec!["198.51.100.7".parse().unwrap(), "2001:db8:9::9".parse().unwrap()],
    }
}

/// Tables in plain memory, told the same.
pub(crate) fn tables_for(sessions: u32) -> Tables {
    let tables = Tables::plain(sessions);
    tables.set_up(&setup()).unwrap();
    tables.set_flags(ANSWERING);
    tables
}

fn policy() -> Policy {
    Policy::new(tables_for(64))
}

fn source(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ours() -> SocketAddr {
    source("10.0.0.1:4002")
}

#[test]
fn a_hello_is_answered_and_its_cookie_opens_a_handshake() {
    for (from, to) in
        [("192.0.2.1:7", "10.0.0.1:4002"), ("[2001:db8:1::1]:7", "[2001:db8::1]:4002")]
    {
        let (from, to, mut policy) = (source(from), source(to), policy());
        let Ok(Admitted::Cookie(answer)) = policy.admit(1, from, to, &datagram(3, 0, 99, 0, 48))
        else {
            panic!("no cookie");
        };
        assert_eq!((answer[3], word(&answer, 8)), (4, 99));
        let token = word(&answer, 16);
        let mut handshake = datagram(5, 0, 99, token, 160);
        handshake[24..48].fill(0);
        // Good in its epoch and in the next one, from there and to there alone.
        let epoch = 1 << 35;
        for now in [2, epoch, 2 * epoch - 1] {
            assert_eq!(policy.admit(now, from, to, &handshake), Ok(Admitted::Handshake));
        }
        let (wrong, late) = (Err(Reject::Cookie), 2 * epoch - 1);
        let other_port = SocketAddr::new(from.ip(), 8);
        assert_eq!(policy.admit(late, other_port, to, &handshake), wrong);
        let other = SocketAddr::new(from.ip(), 9);
        assert_eq!(policy.admit(late, SocketAddr::new(to.ip(), 7), to, &handshake), wrong);
        assert_eq!(policy.admit(late, from, other, &handshake), wrong);
        assert_eq!(policy.admit(2 * epoch, from, to, &handshake), wrong);
    }
}

#[test]
fn a_dual_socket_and_the_wire_see_one_source() {
    let mut policy = policy();
    let hello = datagram(3, 0, 99, 0, 48);
    let plain = policy.admit(1, source("192.0.2.1:7"), ours(), &hello).unwrap();
    let mapped = source("[::ffff:192.0.2.1]:7");
    let to = source("[::ffff:10.0.0.1]:4002");
    assert_eq!(policy.admit(1, mapped, to, &hello).unwrap(), plain);
    // And the frame on the wire gets the same answer.
    let mut frame = Frame::udp(source("192.0.2.1:7"), ours(), &hello).bytes();
    assert_eq!(policy.judge_frame(1, 0, &mut frame), Verdict::Cookie);
    assert_eq!(Admitted::Cookie(*frame[42..].first_chunk().unwrap()), plain);
}

#[test]
fn an_answer_turns_the_frame_around_with_right_checksums() {
    for (from, to, network, sizes) in [
        ("192.0.2.1:7", "10.0.0.1:4002", 14, (20, 12..20)),
        ("[2001:db8:1::1]:7", "[2001:db8::1]:4002", 18, (40, 8..40)),
    ] {
        let mut request = Frame::udp(source(from), source(to), &datagram(3, 0, 99, 0, 48));
        if network == 18 {
            request.tags = vec![0x8100];
        }
        let before = request.bytes();
        let mut after = before.clone();
        assert_eq!(policy().judge_frame(1, 0, &mut after), Verdict::Cookie);
        assert_eq!(after.len(), before.len(), "no amplification");
        assert_eq!((&after[..6], &after[6..12]), (&before[6..12], &before[..6]));
        let (header, addresses) = sizes;
        let crate::frame::Frame::Packet(parsed) = crate::frame::parse(&after) else {
            panic!("no packet");
        };
        let flow = parsed.flow;
        assert_eq!(SocketAddr::new(flow.source, flow.source_port), source(to));
        assert_eq!(SocketAddr::new(flow.destination, flow.destination_port), source(from));
        if header == 20 {
            let sum = frame::checksum(after[network..network + 20].iter().copied());
            assert_eq!(sum, 0, "IPv4 header");
        }
        let pseudo = after[network..][addresses].iter().chain(&[0, 17, 0, 56]);
        let udp = after[network + header..].iter();
        assert_eq!(frame::checksum(pseudo.chain(udp).copied()), 0, "UDP");
    }
}

#[test]
fn who_sends_wrong_cookies_keeps_nobody_from_asking_for_one() {
    let limits =
        Limits { reply: Rate { packets_per_second: 1, burst_packets: 5 }, ..Limits::default() };
    let tables = Tables::plain(64);
    tables.set_up(&Setup { limits, ..setup() }).unwrap();
    let mut policy = Policy::new(tables);
    let mut handshake = datagram(5, 0, 99, 1, 160);
    handshake[24..48].fill(0);
    let mut judge = |packet: &[u8]| policy.admit(1 << 40, source("192.0.2.1:7"), ours(), packet);
    let wrong = (0..50).filter(|_| judge(&handshake) == Err(Reject::Cookie)).count();
    assert_eq!((wrong, judge(&handshake)), (5, Err(Reject::ReplyRate)));
    assert!(judge(&datagram(3, 0, 99, 0, 48)).is_ok());
}

#[test]
fn where_the_program_does_not_answer_hellos_go_on_within_the_same_budgets() {
    let mut policy = policy();
    policy.tables().set_flags(Flags { answer: false, ..ANSWERING });
    let hello = Frame::udp(source("192.0.2.1:7"), ours(), &datagram(3, 0, 99, 0, 48)).bytes();
    let mut passed = 0;
    for _ in 0..200 {
        let mut frame = hello.clone();
        passed += usize::from(policy.judge_frame(1 << 40, 0, &mut frame) == Verdict::Hello);
        assert_eq!(frame, hello, "untouched");
    }
    assert_eq!(passed, 100);
}

#[test]
fn a_token_is_good_once() {
    use crate::session::Tokens as _;
    let mut policy = policy();
    let (third, fourth, last) = (9 << 20 | 3, 4_095 << 20 | 4, 1 << 20 | 63);
    for session in [third, fourth, last] {
        policy.tables_mut().open(Session::from_bits(session));
    }
    policy.tables_mut().put(3 * 1_024 + 5, 77);
    let submit = |session, counter, token| datagram(1, session, counter, token, 300);
    let mut judge = |packet: &[u8]| policy.admit(0, source("192.0.2.1:7"), ours(), packet);
    assert_eq!(judge(&submit(third, 5, 78)), Err(Reject::Token));
    assert_eq!(judge(&submit(third, 6, 77)), Err(Reject::Token));
    assert_eq!(judge(&submit(fourth, 5, 77)), Err(Reject::Token));
    assert_eq!(judge(&submit(last, 5, 77)), Err(Reject::Token));
    assert_eq!(judge(&submit(third, 6, 0)), Err(Reject::Token), "an empty slot's word is no token");
    for (session, what) in [
        (3, "no generation"),
        (8 << 20 | 3, "another generation"),
        (9 << 20 | 2, "a place that nobody had"),
        (1 << 20 | 64, "beyond the table"),
        (1 << 20 | 0xf_ffff, "far beyond the table"),
    ] {
        assert_eq!(judge(&submit(session, 5, 77)), Err(Reject::Session), "{what}");
    }
    assert_eq!(judge(&submit(third, 1_024 + 5, 77)), Ok(Admitted::Submit));
    assert_eq!(judge(&submit(third, 1_024 + 5, 77)), Err(Reject::Token), "a replay");
    // The next holder of a place is nobody that packets under way belong to.
    policy.tables_mut().put(3 * 1_024 + 5, 77);
    policy.tables_mut().open(Session::from_bits(10 << 20 | 3));
    let mut judge = |packet: &[u8]| policy.admit(0, source("192.0.2.1:7"), ours(), packet);
    assert_eq!(judge(&submit(third, 5, 77)), Err(Reject::Session));
    assert_eq!(judge(&submit(10 << 20 | 3, 5, 77)), Ok(Admitted::Submit));
    assert_eq!(judge(&submit(fourth, 5, 77)), Err(Reject::Token), "neighbours keep theirs");
}

#[test]
fn a_listed_source_neither_greets_nor_shakes_hands_until_its_time() {
    let mut policy = policy();
    let second = 1 << 30;
    let now = 1_000 * second;
    policy.tables().block("192.0.2.1".parse().unwrap(), now, now + 60 * second);
    policy.tables().block("2001:db8:1::5".parse().unwrap(), now, now + 60 * second);
    let hello = datagram(3, 0, 99, 0, 48);
    let mut judge = |now, from: &str, to: &str| policy.admit(now, source(from), source(to), &hello);
    let (v4, v6) = ("10.0.0.1:4002", "[2001:db8::1]:4002");
    for late in [0, 59 * second] {
        assert_eq!(judge(now + late, "192.0.2.1:7", v4), Err(Reject::SourceDenied));
        let neighbour = judge(now + late, "[2001:db8:1::6]:7", v6);
        assert_eq!(neighbour, Err(Reject::SourceDenied), "one /64 is one holder");
        assert!(judge(now + late, "192.0.2.2:7", v4).is_ok());
    }
    assert!(judge(now + 60 * second, "192.0.2.1:7", v4).is_ok());
    assert_eq!(policy.tables().expire(now + 59 * second), 2);
    assert_eq!(policy.tables().expire(now + 60 * second), 0);
}

#[test]
fn a_full_list_takes_the_place_of_what_ends_first() {
    let tables = tables_for(64);
    for host in 0..20_000_u32 {
        let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).into();
        tables.block(ip, 1 << 40, (1 << 40) + u64::from(host + 1) * (1 << 30));
    }
    let listed = tables.expire(1 << 40);
    assert!(listed <= tables::BLOCKED_MAX && listed > tables::BLOCKED_MAX * 9 / 10, "{listed}");
    let last = std::net::Ipv4Addr::from_bits(0x0a00_0000 + 19_999).into();
    assert!(tables.is_blocked(tables.mix(host_of(last)), 1 << 40));
}

#[test]
fn every_peer_of_a_full_set_is_known_whatever_the_keys() {
    let mut random = frames::Random(7);
    for seed in 0..100 {
        let tables = Tables::plain(64);
        let peers = (0..100_u32)
            .map(|peer| std::net::Ipv4Addr::from_bits(0xc633_0000 + peer * 7).into())
            .collect::<Vec<IpAddr>>();
        let keys = Keys::new(std::array::from_fn(|_| random.word().to_le_bytes()[0]));
        tables.set_up(&Setup { keys, peers: peers.clone(), ..setup() }).unwrap();
        let is_known = |peer: &IpAddr| tables.is_peer(tables.mix(host_of(*peer)));
        assert!(peers.iter().all(is_known), "draw {seed}");
        let stranger = std::net::Ipv4Addr::new(203, 0, 113, 5).into();
        assert!(!tables.is_peer(tables.mix(host_of(stranger))));
    }
}

#[test]
fn other_traffic_of_the_host_is_never_touched() {
    let mut policy = policy();
    let hello = datagram(3, 0, 99, 0, 48);
    let from = source("192.0.2.1:7");
    let mut judge = |frame: &Frame| {
        let mut bytes = frame.bytes();
        let (before, verdict) = (bytes.clone(), policy.judge_frame(0, 0, &mut bytes));
        assert_eq!(bytes, before, "untouched");
        verdict
    };
    // Garbage to other ports and other addresses, other protocols, later fragments of anything.
    assert_eq!(judge(&Frame::udp(from, source("10.0.0.1:53"), &[1; 9])), Verdict::Other);
    assert_eq!(judge(&Frame::udp(from, source("10.0.0.9:4002"), &[1; 9])), Verdict::Other);
    assert_eq!(judge(&Frame::udp(from, source("10.0.0.2:4002"), &[1; 9])), Verdict::Other);
    let icmp = Frame { protocol: 1, ..Frame::udp(from, ours(), &hello) };
    assert_eq!(judge(&icmp), Verdict::Other);
    for fragment in [1, 0x2001, 0x1fff] {
        let later = Frame { fragment, ..Frame::udp(from, ours(), &[1; 99]) };
        assert_eq!(judge(&later), Verdict::Other);
    }
    let (v6, ours6) = (source("[2001:db8:1::1]:7"), source("[2001:db8::1]:4002"));
    let later = Frame { extensions: vec![(44, 0)], fragment: 8, ..Frame::udp(v6, ours6, &[1; 99]) };
    assert_eq!(judge(&later), Verdict::Other);
    let crowded = vec![(60, 0); 9];
    let elsewhere = Frame::udp(v6, source("[2001:db8::99]:4002"), &[1; 99]);
    assert_eq!(judge(&Frame { extensions: crowded, ..elsewhere }), Verdict::Other);
    assert_eq!(judge(&Frame::tcp(from, source("10.0.0.1:22"), 2)), Verdict::Other);
    assert_eq!(judge(&Frame::tcp(from, source("10.0.0.1:4000"), 0x10)), Verdict::Other);
}

#[test]
fn what_hides_behind_options_extensions_and_fragments_is_dropped() {
    let mut policy = policy();
    let mut judge = |frame: &Frame| policy.judge_frame(0, 0, &mut frame.bytes());
    let hello = datagram(3, 0, 99, 0, 48);
    let (v4, v6) = (
        Frame::udp(source("192.0.2.1:7"), ours(), &hello),
        Frame::udp(source("[2001:db8:1::1]:7"), source("[2001:db8::1]:4002"), &hello),
    );
    let header = Verdict::Drop(Reject::Header);
    assert_eq!(judge(&Frame { options: 1, ..v4.clone() }), header);
    for kind in [0, 43, 51, 60, 135, 139, 140] {
        assert_eq!(judge(&Frame { extensions: vec![(kind, 0)], ..v6.clone() }), header);
    }
    assert_eq!(judge(&Frame { extensions: vec![(60, 0); 8], ..v6.clone() }), header);
    assert_eq!(judge(&Frame { extensions: vec![(60, 0); 9], ..v6.clone() }), header);
    // The first fragment, and one that says it is the only one.
    assert_eq!(judge(&Frame { fragment: 0x2000, ..v4 }), Verdict::Drop(Reject::Fragment));
    let atomic = Frame { extensions: vec![(44, 0)], fragment: 0, ..v6 };
    assert_eq!(judge(&atomic), header);
    let syn = Frame::tcp(source("192.0.2.1:7"), source("10.0.0.1:4000"), 2);
    assert_eq!(judge(&Frame { fragment: 0x2000, ..syn }), Verdict::Drop(Reject::Fragment));
}

#[test]
fn each_broken_datagram_has_its_reason_and_its_counter() {
    let mut policy = policy();
    let session = 1 << 20;
    let good = datagram(1, session, 1, 1, 300);
    let damaged = |at: usize| {
        let mut packet = good.clone();
        packet[at] ^= 0x80;
        packet
    };
    let mut reserved = good.clone();
    reserved[40..48].fill(0);
    reserved[47] = 1;
    let mut hello = datagram(3, 0, 1, 0, 48);
    hello[30] = 1;
    for (packet, reject) in [
        (Vec::new(), Reject::TooShort),
        (good[..47].to_vec(), Reject::TooShort),
        (datagram(1, session, 1, 1, 203), Reject::TooShort),
        (datagram(1, session, 1, 1, PACKET_SIZE_MAX + 1), Reject::TooLong),
        (damaged(0), Reject::Magic),
        (damaged(2), Reject::Version),
        (damaged(3), Reject::Kind),
        (datagram(2, 0, 1, 0, 122), Reject::Kind),
        (datagram(4, 0, 1, 0, 48), Reject::Kind),
        (reserved, Reject::Reserved),
        (datagram(1, 0, 1, 1, 300), Reject::Session),
        (datagram(1, session, 1, 0, 300), Reject::Token),
        (datagram(3, session, 1, 0, 48), Reject::Session),
        (datagram(3, 0, 1, 1, 48), Reject::Token),
        (hello, Reject::Token),
    ] {
        let verdict = Verdict::Drop(reject);
        let before = policy.counters().of(verdict);
        let judged = policy.admit(0, source("192.0.2.1:7"), ours(), &packet);
        assert_eq!(judged, Err(reject), "{packet:?}");
        assert_eq!(policy.counters().of(verdict), before + 1);
    }
    for text in ["0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "192.0.2.1:0"] {
        let judged = policy.admit(0, source(text), ours(), &datagram(3, 0, 1, 0, 48));
        assert_eq!(judged, Err(Reject::SourceInvalid), "{text}");
    }
}

#[test]
fn budgets_bind_each_source_each_cpu_and_each_network() {
    let mut policy = policy();
    let hello = |host: u8| {
        let from = SocketAddr::new(std::net::Ipv4Addr::new(192, 0, 2, host).into(), 7);
        Frame::udp(from, ours(), &datagram(3, 0, 1, 0, 48)).bytes()
    };
    let mut judge = |cpu, host| policy.judge_frame(1 << 40, cpu, &mut hello(host));
    let sent = (0..200).filter(|_| judge(0, 1) == Verdict::Cookie).count();
    assert_eq!(sent, 100);
    assert_eq!(judge(0, 1), Verdict::Drop(Reject::SourceRate));
    assert_eq!(judge(0, 2), Verdict::Cookie, "its neighbour");
    let limits =
        Limits { reply: Rate { packets_per_second: 1, burst_packets: 5 }, ..Limits::default() };
    let tables = Tables::plain(64);
    tables.set_up(&Setup { limits, ..setup() }).unwrap();
    tables.set_flags(ANSWERING);
    let mut policy = Policy::new(tables);
    let mut judge = |cpu, host| policy.judge_frame(1 << 40, cpu, &mut hello(host));
    let sent = |judge: &mut dyn FnMut(usize, u8) -> Verdict, cpu| {
        (0..50).filter(|host| judge(cpu, *host) == Verdict::Cookie).count()
    };
    assert_eq!((sent(&mut judge, 0), sent(&mut judge, 0)), (5, 0));
    assert_eq!(judge(0, 60), Verdict::Drop(Reject::ReplyRate));
    assert_eq!(sent(&mut judge, 1), 5, "another CPU has its own");
    // Attempts to connect: a peer's address by itself, everybody else by network.
    let mut policy = self::policy();
    let mut syn = |from: &str| {
        let frame = Frame::tcp(source(from), source("10.0.0.1:4001"), 2);
        policy.judge_frame(1 << 40, 0, &mut frame.bytes())
    };
    let strangers = (0..100).filter(|host| syn(&format!("203.0.113.{host}:9")) == Verdict::Syn);
    assert_eq!(strangers.count(), 20);
    assert_eq!(syn("203.0.113.200:9"), Verdict::Drop(Reject::SynRate));
    assert_eq!(syn("203.0.114.1:9"), Verdict::Syn, "the next network");
    let peers = (0..2_000).filter(|_| syn("198.51.100.7:9") == Verdict::PeerSyn).count();
    assert_eq!(peers, 1_000);
    assert_eq!(syn("198.51.100.7:9"), Verdict::Drop(Reject::PeerSynRate));
    assert_eq!(syn("198.51.100.8:9"), Verdict::Syn, "the peer's neighbour is a stranger");
}

#[test]
fn a_flood_of_forged_sources_spares_a_calm_one_and_grows_nothing() {
    // Two million hellos, each from another source and together below what is answered, and one
    // calm client that greets now and then.
    let mut policy = policy();
    let before = policy.tables().memory_bytes();
    let hello = datagram(3, 0, 1, 0, 48);
    let mut answered = 0;
    for forged in 0..2_000_000_u32 {
        let now = 1_000_000_000 + u64::from(forged) * 12_500;
        let from = SocketAddr::new(std::net::Ipv4Addr::from_bits(0x0b00_0000 + forged).into(), 9);
        let _: Result<Admitted, Reject> = policy.admit(now, from, ours(), &hello);
        if forged % 200_000 == 0 {
            answered +=
                usize::from(policy.admit(now, source("192.0.2.1:7"), ours(), &hello).is_ok());
        }
    }
    assert_eq!((answered, policy.tables().memory_bytes()), (10, before));
}

#[test]
fn limits_and_addresses_out_of_range_are_named() {
    let tables = Tables::plain(64);
    let rate = Rate { packets_per_second: 0, burst_packets: 1 };
    let limits = Limits { hello: rate, ..Limits::default() };
    let error = tables.set_up(&Setup { limits, ..setup() }).unwrap_err().to_string();
    assert!(error.starts_with("limit hello.packets_per_second is 0; it must be 1 to "), "{error}");
    let many: Vec<(IpAddr, u32)> =
        (0..17).map(|host| (std::net::Ipv4Addr::new(10, 0, 1, host).into(), 1)).collect();
    assert!(matches!(tables.set_local(&many), Err(Error::LocalCount { count: 17, max: 16 })));
}
