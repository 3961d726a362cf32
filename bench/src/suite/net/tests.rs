//! Packets that are what they say, a door that opens once, and a machine that is left as it was.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use net_ebpf::abi::{Header, Kind, Session, Submit};

use super::application::Sessions;
use super::frame::{self, Header as Words};
use super::host::{self, Wire};
use super::sys::Multishot;

#[test]
fn headers_are_those_of_the_protocol() {
    let words = frame::header(frame::SUBMIT, frame::session(5), 9, 11);
    let submit = frame::datagram(&words, frame::SUBMIT_SIZE);
    let decoded = Submit::decode(&submit).unwrap();
    assert_eq!((decoded.session, decoded.counter), (Session::new(5, 1), 9));
    assert_eq!(decoded.token, 11);
    for (kind, size, expected) in [
        (frame::HELLO, frame::HEADER_SIZE, Kind::Hello),
        (frame::HANDSHAKE, frame::HANDSHAKE_SIZE, Kind::Handshake),
    ] {
        let bytes = frame::datagram(&frame::header(kind, 0, 7, 0), size);
        assert_eq!(Header::decode(&bytes).unwrap().kind, expected);
    }
}

#[test]
fn frames_have_the_shape_that_programs_write() {
    let frame = frame::udp(frame::CLIENT, &[7; 10]);
    assert_eq!(frame.len(), 14 + 20 + 8 + 10);
    assert_eq!(frame[26..30], frame::CLIENT.octets());
    assert_eq!(frame[30..34], frame::SERVER.octets());
    assert_eq!(frame[34..38], [0x10, 0x00, 0x23, 0x28]);
    assert_eq!(frame[42..], [7; 10]);
}

#[test]
fn the_door_opens_to_each_honest_packet_once_and_to_no_other() {
    let sessions = Sessions::new(1, 2);
    let submits = sessions.submits(super::program::SESSIONS + 3);
    let mut door = sessions.door();
    let bytes = |words: &Words| frame::datagram(words, frame::SUBMIT_SIZE);
    let (first, last) = (bytes(&submits[0]), bytes(&submits[submits.len() - 1]));
    for at in [3, 4, 8, 16, 24, 60] {
        let mut changed = first.clone();
        changed[at] ^= 1;
        assert!(!door.opens(&changed), "byte {at}");
    }
    assert!(door.opens(&first) && door.opens(&last));
    assert!(!door.opens(&first) && !door.opens(&last), "sent again");
    assert!(!door.opens(&[]));
}

#[test]
fn multishot_gives_every_packet() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    let mut multishot = match Multishot::new(receiver) {
        Ok(multishot) => multishot,
        Err(error) => return println!("skipped: io_uring: {error}"),
    };
    assert_eq!(multishot.receive(Duration::from_millis(1)).unwrap(), (0, 0), "nothing was sent");
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    // More than the ring has buffers: each comes back.
    let (mut count, mut sum, mut sent) = (0, 0, 0_u64);
    let began = Instant::now();
    for _ in 0..60 {
        for _ in 0..100 {
            sender.send_to(&[3, 9, 9], address).unwrap();
            sent += 1;
        }
        while count < sent && began.elapsed() < Duration::from_secs(20) {
            let (packets, bytes) = multishot.receive(Duration::from_millis(100)).unwrap();
            count += packets as u64;
            sum += bytes;
        }
    }
    assert_eq!((count, sum), (sent, 3 * sent));
}

#[test]
fn the_committed_object_is_what_its_source_gives() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("program/build.sh");
    for tool in ["clang-19", "llvm-strip-19"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return println!("skipped: no {tool} here");
        }
    }
    let output = Command::new(program).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_wire_leaves_nothing_behind() {
    if let Err(reason) = host::fit() {
        return println!("skipped: {reason}");
    }
    let wire = match Wire::lay(false) {
        Ok(wire) => wire,
        Err(failure) => return println!("{failure}"),
    };
    assert!(wire.server.index().unwrap() > 1);
    let before = wire.softirq_time().unwrap();
    assert!(wire.softirq_time().unwrap() >= before);
    let ours = |list: &str| list.contains(&format!("bench-{}-", std::process::id()));
    let list = || {
        let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(ours(&list()));
    drop(wire);
    assert!(!ours(&list()));
}
