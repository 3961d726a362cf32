//! Damaged groups come back byte for byte, whoever lies, is silent, or holds other certificates.

use super::*;
use crate::{key::Secret, signer::Signer};
use ledger::{BatchPlace, Draft, Height, Kind, Sealer, Signature, Transaction};
use std::collections::VecDeque;
use storage::{NO_HEIGHT, Options, Record, Simulated};

const NETWORK: Digest = Digest([9; 32]);
const VALIDATORS: u32 = 4;
const HEIGHTS: u64 = 40;
const MILLISECOND: u64 = 1_000_000;

/// Keys of the validators, in the order of their set.
fn secrets() -> Vec<Secret> {
    let mut secrets: Vec<Secret> = (1..=4).map(|seed| Secret::from_seed(&[seed; 32])).collect();
    secrets.sort_by_key(Secret::public);
    secrets
}

fn secret(index: u32) -> Secret {
    secrets().swap_remove(index as usize)
}

fn terms() -> Terms {
    Terms::of(&secrets().iter().map(Secret::public).collect::<Vec<_>>())
}

/// A batch of one lane, of some size.
fn batch(sequence: u64, size: usize) -> (Vec<u8>, Digest) {
    let author = ledger::PublicKey([7; 32]);
    let body = vec![u8::try_from(sequence % 251).unwrap(); size];
    let (kind, previous, valid_until) = (Kind::Record, Digest::ZERO, Height(99));
    let draft = Draft { kind, author, sequence, previous, valid_until, body: &body };
    let (bytes, id) = draft.sign(&NETWORK, |_| Signature([3; 64])).unwrap();
    let mut sealer = Sealer::new();
    assert!(sealer.push(&Transaction::decode(&bytes).unwrap(), &id));
    let previous = if sequence == 1 { Digest::ZERO } else { Digest([5; 32]) };
    let place = BatchPlace { network: NETWORK, epoch: 0, lane: 1, sequence, previous };
    sealer.seal(&place, |message| secret(1).sign(message)).unwrap()
}

/// What a validator has of one height: a batch, its ack, cut, outcomes, two certificates.
fn height(index: u32, number: u64) -> Vec<Record> {
    let (bytes, digest) = batch(number, usize::try_from(number * 97 % 3000).unwrap() + 1);
    let key = *digest.as_bytes();
    let message = ack_signing_message(&NETWORK, 0, 1, number, &digest);
    let signature = secret(index).sign(&message);
    let ack = Ack { epoch: 0, lane: 1, sequence: number, digest, validator: index, signature };
    let shared = |kind, height, size: usize| Record {
        kind,
        height,
        key: [u8::try_from(number).unwrap(); 32],
        body: vec![kind.wrapping_mul(17); size].into(),
    };
    // Everyone has another one.
    let certificate = |kind, height: u64| Record {
        kind,
        height,
        key: [u8::try_from(height).unwrap(); 32],
        body: vec![u8::try_from(index).unwrap() * 50 + 5; 300].into(),
    };
    let mut records = vec![
        Record { kind: record::BATCH, height: NO_HEIGHT, key, body: bytes.into() },
        Record { kind: record::ACK, height: NO_HEIGHT, key, body: ack.encode().to_vec().into() },
        shared(record::CUT, number, 200),
        shared(record::OUTCOMES, number, 333),
        certificate(record::CERTIFICATE, number),
    ];
    if number > 1 {
        records.push(certificate(record::CERTIFICATE_AGAIN, number - 1));
    }
    records
}

struct Node {
    disk: Simulated,
    store: Store,
    core: Core,
}

impl Node {
    fn new(index: u32) -> Self {
        let disk = Simulated::new(u64::from(index));
        let mut options = Options::new(*NETWORK.as_bytes());
        (options.segment_bytes, options.group_bytes_max) = (64 << 10, 16 << 10);
        let (store, _) = Store::open_inline(Box::new(disk.clone()), &options).unwrap();
        for number in 1..=HEIGHTS {
            store.append(height(index, number), None).unwrap();
        }
        // The last certificate is written twice, too.
        let last = height(index, HEIGHTS + 1).pop().unwrap();
        store.append(vec![last], None).unwrap();
        let core = Core::new(Config {
            network: NETWORK,
            terms: terms(),
            me: index,
            validators: VALIDATORS,
            signer: Signer::unguarded(secret(index)),
            store: store.clone(),
        });
        Self { disk, store, core }
    }

    fn images(&self) -> Vec<Vec<u8>> {
        (0..).map_while(|segment| self.disk.image(segment)).collect()
    }
}

/// Runs all nodes for a while; `pass` may change or drop what one sends to another.
fn run(nodes: &mut [Node], seconds: u64, mut pass: impl FnMut(u32, u32, &mut Message) -> bool) {
    let mut wire: VecDeque<(u32, u32, Vec<u8>)> = VecDeque::new();
    for now in (0..seconds * 1_000).map(|step| step * MILLISECOND + MILLISECOND) {
        for (index, node) in (0..).zip(nodes.iter_mut()) {
            if now.is_multiple_of(50 * MILLISECOND) {
                node.core.tick(now);
            }
            for (to, mut message) in node.core.take_outgoing(now) {
                if pass(index, to, &mut message) {
                    wire.push_back((index, to, message.encode()));
                }
            }
        }
        for (from, to, bytes) in wire.drain(..) {
            let to = usize::try_from(to).unwrap();
            nodes[to].core.message(now, from, &bytes).unwrap();
        }
        if nodes.iter().all(|node| node.store.damaged().is_empty()) {
            return;
        }
    }
}

fn scrub(store: &Store) -> usize {
    let mut scrub = storage::Scrub::default();
    while scrub.passes == 0 {
        store.scrub(&mut scrub, 1 << 20);
    }
    store.damaged().len()
}

fn nodes() -> Vec<Node> {
    (0..VALIDATORS).map(Node::new).collect()
}

#[test]
fn a_byte_of_any_group_comes_back_from_the_others() {
    let mut nodes = nodes();
    let before = nodes[0].images();
    assert!(before.len() > 2);
    let mut seed = 1_u64;
    let mut damaged = 0;
    for (segment, image) in (0..).zip(&before) {
        for page in 0..image.len() / 4096 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let offset = page as u64 * 4096 + (seed >> 33) % 4096;
            nodes[0].disk.rot(segment, offset, 1 << ((seed >> 29) % 8));
            let found = scrub(&nodes[0].store);
            damaged += found;
            if found == 0 {
                // Beyond the last group: nothing is stored there.
                nodes[0].disk.rot(segment, offset, 1 << ((seed >> 29) % 8));
                continue;
            }
            run(&mut nodes, 20, |_, _, _| true);
            assert!(
                nodes[0].images() == before,
                "{segment} {offset} {:?}",
                nodes[0].store.damaged()
            );
        }
    }
    assert!(damaged > 30, "{damaged}");
    assert_eq!(nodes[0].core.failed(), 0);
    assert_eq!(nodes[0].store.stats().repaired_groups, damaged as u64);
}

#[test]
fn a_page_of_zeros_in_any_group_comes_back() {
    let mut nodes = nodes();
    let before = nodes[0].images();
    let mut damaged = 0;
    for (segment, image) in (0..).zip(&before) {
        for (page, bytes) in image.chunks(4096).enumerate() {
            for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                nodes[0].disk.rot(segment, (page * 4096 + at) as u64, *byte);
            }
            damaged += scrub(&nodes[0].store);
            run(&mut nodes, 60, |_, _, _| true);
            assert!(nodes[0].images() == before, "{segment} {page}");
        }
    }
    assert!(damaged > 30, "{damaged}");
}

#[test]
fn one_that_sends_byte_by_byte_holds_nothing_up() {
    let mut nodes = nodes();
    let before = nodes[0].images();
    spoil(&nodes[0]);
    scrub(&nodes[0].store);
    // A byte for each piece, and no piece before it counts as silent.
    let mut drips = 0;
    run(&mut nodes, 120, |from, _, message| {
        if let (1, Message::Piece { bytes, .. }) = (from, message) {
            bytes.truncate(1);
            drips += 1;
        }
        true
    });
    assert!(drips > 0 && nodes[0].images() == before);
}

/// Spoils whole groups of records, but for certificates.
fn spoil(node: &Node) -> usize {
    let mut spoiled = 0;
    for number in (1..=HEIGHTS).step_by(5) {
        for kind in [record::CUT, record::OUTCOMES] {
            let place = node.store.at_height(kind, number).unwrap();
            for byte in 0..100 {
                node.disk.rot(place.segment, place.offset + 48 + byte, 0xff);
            }
        }
        let (_, digest) = batch(number, usize::try_from(number * 97 % 3000).unwrap() + 1);
        let ack = node.store.find(record::ACK, digest.as_bytes()).unwrap();
        node.disk.rot(ack.segment, ack.offset + 60, 0xff);
        spoiled += 1;
    }
    spoiled
}

#[test]
fn liars_and_the_silent_are_passed_over() {
    let mut nodes = nodes();
    let before = nodes[0].images();
    spoil(&nodes[0]);
    let damaged = scrub(&nodes[0].store);
    assert!(damaged > 5);
    let mut lies = 0;
    run(&mut nodes, 200, |from, _, message| {
        if let (1, Message::Piece { bytes, .. }) = (from, message)
            && let Some(byte) = bytes.first_mut()
        {
            *byte ^= 1;
            lies += 1;
        }
        from != 2
    });
    assert!(lies > 5);
    assert!(nodes[0].images() == before);
    assert!(nodes[0].store.damaged().is_empty());
}

#[test]
fn what_nobody_has_stays_damaged_and_is_tried_again() {
    let mut nodes = nodes();
    let before = nodes[0].images();
    // Both copies of a certificate that only this validator has.
    for (kind, height) in [(record::CERTIFICATE, 7), (record::CERTIFICATE_AGAIN, 7)] {
        let place = nodes[0].store.at_height(kind, height).unwrap();
        nodes[0].disk.rot(place.segment, place.offset + 50, 1);
    }
    let damaged = scrub(&nodes[0].store);
    assert!(damaged >= 1);
    run(&mut nodes, 20, |_, _, _| true);
    assert_eq!(nodes[0].store.damaged().len(), damaged);
    assert!(nodes[0].core.failed() > 1);
    // One of them is enough.
    let place = nodes[0].store.at_height(record::CERTIFICATE, 7).unwrap();
    nodes[0].disk.rot(place.segment, place.offset + 50, 1);
    run(&mut nodes, 300, |_, _, _| true);
    assert!(nodes[0].images() == before);
}

#[test]
fn all_may_be_damaged_in_different_places() {
    let mut nodes = nodes();
    let before: Vec<_> = nodes.iter().map(Node::images).collect();
    for (index, node) in (0..).zip(&nodes) {
        for number in (1 + index..=HEIGHTS).step_by(4) {
            let place = node.store.at_height(record::CUT, number).unwrap();
            node.disk.rot(place.segment, place.offset + 70, 2);
        }
        assert!(scrub(&node.store) > 3);
    }
    run(&mut nodes, 300, |_, _, _| true);
    for (node, before) in nodes.iter().zip(before) {
        assert!(node.images() == before);
    }
}

#[test]
fn an_asker_gets_its_share_and_no_more() {
    let mut node = Node::new(0);
    let place = Name { kind: record::CUT, height: 3, key: [3; 32] };
    let ask = Message::Ask(place, 0).encode();
    for _ in 0..1_000 {
        node.core.message(5, 1, &ask).unwrap();
    }
    node.core.message(5, 2, &ask).unwrap();
    let answers = node.core.take_outgoing(5);
    assert!(answers.len() < 100 && answers.iter().any(|(to, _)| *to == 2), "{}", answers.len());
    let Message::Piece { total, bytes, .. } = &answers[0].1 else { panic!("an answer") };
    assert_eq!((*total, bytes.len()), (200, 200));
    // Beyond the end, and what is not there.
    let absent = Name { kind: record::BATCH, height: 0, key: [3; 32] };
    for ask in [Message::Ask(place, 4_000), Message::Ask(absent, 0)] {
        node.core.message(2_000_000_000, 1, &ask.encode()).unwrap();
        let answers = node.core.take_outgoing(2_000_000_000);
        assert!(matches!(&answers[..], [(1, Message::Piece { bytes, .. })] if bytes.is_empty()));
    }
}
