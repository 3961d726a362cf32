//! The layout against the program's header, and what the tables tell apart.

use super::*;
use crate::policy::tests::setup;

#[test]
fn the_layout_is_that_of_the_program() {
    let text = include_str!("../../program/filter.h");
    for line in [
        format!("#define LOCAL_MAX {LOCAL_MAX}"),
        format!("#define PEER_WORDS {PEERS_MAX}"),
        format!("#define BLOCKED_WORDS {BLOCKED_MAX}"),
        format!("#define WAYS {WAYS}"),
        format!("#define HELLO_SLOTS {HELLO_SLOTS}"),
        format!("#define HANDSHAKE_SLOTS {HANDSHAKE_SLOTS}"),
        format!("#define PEER_SYN_SLOTS {PEER_SYN_SLOTS}"),
        format!("#define SYN_SLOTS {SYN_SLOTS}"),
        format!("#define CPUS {CPUS}"),
        format!("#define COUNTERS {COUNTERS}"),
        format!("#define WINDOW {WINDOW}u"),
    ] {
        let found = text.lines().any(|known| known.split("//").next().unwrap().trim() == line);
        assert!(found, "{line}");
    }
}

#[test]
fn ports_and_addresses_are_told_apart() {
    let tables = Tables::plain(64);
    tables.set_up(&setup()).unwrap();
    assert_eq!(tables.udp_port(4_002), 1);
    assert_eq!(tables.udp_port(4_000), 0);
    assert_eq!([4_000, 4_001, 4_002].map(|port| tables.tcp_port(port)), [2, 4, 0]);
    let at = |text: &str| tables.local_ports(text.parse().unwrap());
    assert_eq!((at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.4")), (7, 2, 0));
    assert_eq!((at("2001:db8::1"), at("2001:db8::2"), at("2001:db8::3")), (7, 4, 0));
    // One that appears twice has the ports of both, and those that are gone are gone.
    let local = [("10.0.0.9".parse().unwrap(), 1), ("::ffff:10.0.0.9".parse().unwrap(), 4)];
    tables.set_local(&local).unwrap();
    assert_eq!((at("10.0.0.9"), at("10.0.0.1"), at("2001:db8::1")), (5, 0, 0));
    // Flags and counts share words.
    tables.set_flags(Flags { enforce: true, redirect: true, answer: true });
    assert!(tables.enforces() && tables.answers());
    assert_eq!((at("10.0.0.9"), tables.udp_port(4_002)), (5, 1));
    tables.set_flags(Flags { enforce: false, redirect: true, answer: false });
    assert!(!tables.enforces() && !tables.answers());
    assert_eq!(at("10.0.0.9"), 5);
}
