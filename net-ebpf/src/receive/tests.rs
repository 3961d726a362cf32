//! Both methods on the same packets, and every way in which a socket can fail.

use super::*;
use std::{collections::BTreeMap, thread, time::Instant};

const LOOPBACK: &str = "127.0.0.1:0";
const SOON: Duration = Duration::from_secs(5);

fn bind(address: &str, method: Method) -> Receiver {
    let options = Options { method, ..Options::default() };
    Receiver::bind(address.parse().unwrap(), &options).unwrap()
}

fn client(address: &str) -> UdpSocket {
    UdpSocket::bind(address).unwrap()
}

/// Receives until `count` packets are there or none comes any more.
fn collect(receiver: &mut Receiver, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut packets = Vec::new();
    while packets.len() < count {
        let batch = receiver.receive(SOON).unwrap();
        if batch.is_empty() {
            break;
        }
        packets.extend(batch.iter().map(|packet| (packet.address, packet.bytes.to_vec())));
    }
    packets
}

/// The same with the destinations.
fn collect_destinations(receiver: &mut Receiver, count: usize) -> Vec<(SocketAddr, SocketAddr)> {
    let mut packets = Vec::new();
    while packets.len() < count {
        let batch = receiver.receive(SOON).unwrap();
        if batch.is_empty() {
            break;
        }
        packets.extend(batch.iter().map(|packet| (packet.address, packet.destination)));
    }
    packets
}

/// Sends the same packets to two receivers and compares what they hand on, source by source.
fn compare(address: &str, clients: &[UdpSocket]) {
    let mut twins = [Method::Batched, Method::Plain].map(|method| bind(address, method));
    assert_eq!(twins.each_ref().map(Receiver::method), [Method::Batched, Method::Plain]);
    // Every length around the limits, and some between.
    let sizes = (0..4).chain(200..210).chain((256..1_200).step_by(97)).chain(1_230..1_290);
    let packets: Vec<Vec<u8>> = sizes
        .chain([1_400, 9_000])
        .map(|size| (0..size).map(|at: u32| (size * 31 + at).to_le_bytes()[0]).collect())
        .collect();
    let count = packets.len() * clients.len();
    let [mut batched, mut plain] = [Vec::new(), Vec::new()];
    // Some at a time: without privileges a receive buffer holds less than all of them.
    for packets in packets.chunks(12) {
        for (packet, client) in packets.iter().flat_map(|p| clients.iter().map(move |c| (p, c))) {
            for twin in &twins {
                let port = twin.address().port();
                let to = match client.local_addr().unwrap() {
                    SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                    SocketAddr::V6(_) => SocketAddr::new("::1".parse().unwrap(), port),
                };
                client.send_to(packet, to).unwrap();
            }
        }
        batched.extend(collect(&mut twins[0], packets.len() * clients.len()));
        plain.extend(collect(&mut twins[1], packets.len() * clients.len()));
    }
    assert_eq!(batched, plain);
    let mut by_source: BTreeMap<SocketAddr, Vec<Vec<u8>>> = BTreeMap::new();
    for (source, bytes) in batched {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        by_source.entry(source).or_default().push(bytes);
    }
    let cut = |packet: &Vec<u8>| packet[..packet.len().min(BUFFER_SIZE)].to_vec();
    let expected: Vec<_> = packets.iter().map(cut).collect();
    assert_eq!(by_source.len(), clients.len());
    for client in clients {
        assert_eq!(by_source[&client.local_addr().unwrap()], expected);
    }
    let [batched, plain] = twins.each_ref().map(Receiver::traffic);
    assert_eq!((batched.packets, batched.bytes), (plain.packets, plain.bytes));
    assert_eq!(batched.packets, count as u64);
    assert_eq!(plain.calls, plain.packets);
    assert!(batched.calls < plain.calls, "{} calls", batched.calls);
}

/// Whether this machine has IPv6 on its loopback; says so where it has not.
fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0");
    if let Err(error) = &has {
        println!("skipped: no IPv6 on loopback: {error}");
    }
    has.is_ok()
}

#[test]
fn both_methods_hand_on_the_same_packets() {
    compare(LOOPBACK, &[client(LOOPBACK), client(LOOPBACK), client(LOOPBACK)]);
}

#[test]
fn both_methods_hand_on_the_same_packets_of_both_families() {
    if has_ipv6() {
        compare("[::]:0", &[client(LOOPBACK), client("[::1]:0")]);
    }
}

#[test]
fn both_methods_hand_on_the_same_packets_of_all_addresses() {
    compare("0.0.0.0:0", &[client(LOOPBACK), client(LOOPBACK)]);
}

/// Sends to several addresses of this machine; each packet knows to which it was sent.
#[track_caller]
fn assert_destinations(bound: &str, to: &[&str]) {
    for method in [Method::Batched, Method::Plain] {
        let mut receiver = bind(bound, method);
        let port = receiver.address().port();
        let mut expected = Vec::new();
        // More than one batch, one address after the other.
        for to in to.iter().cycle().take(BATCH_PACKETS_MAX + 3) {
            let to: SocketAddr = SocketAddr::new(to.parse().unwrap(), port);
            let client = client(if to.is_ipv4() { LOOPBACK } else { "[::1]:0" });
            client.send_to(b"where", to).unwrap();
            expected.push((client.local_addr().unwrap(), to));
        }
        let packets = collect_destinations(&mut receiver, expected.len());
        let plain =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let packets: Vec<_> = packets.into_iter().map(|(from, to)| (plain(from), to)).collect();
        assert_eq!(packets, expected, "{method:?}");
    }
}

#[test]
fn packets_tell_which_address_they_were_sent_to() {
    assert_destinations("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.99.0.3"]);
    assert_destinations("127.0.0.2:0", &["127.0.0.2"]);
    if has_ipv6() {
        assert_destinations("[::]:0", &["::1", "127.0.0.1", "127.0.0.2"]);
        assert_destinations("[::1]:0", &["::1"]);
    }
}

#[test]
fn one_address_costs_no_control_messages() {
    assert!(bind(LOOPBACK, Method::Batched).controls.is_empty());
    assert_eq!(bind("0.0.0.0:0", Method::Batched).controls.len(), BATCH_PACKETS_MAX);
    assert_eq!(bind("0.0.0.0:0", Method::Plain).controls.len(), 1);
}

#[test]
fn without_packets_it_waits_as_long_as_asked() {
    for method in [Method::Batched, Method::Plain] {
        let mut receiver = bind(LOOPBACK, method);
        for milliseconds in [0, 30, 0, 60, 60] {
            let start = Instant::now();
            let timeout = Duration::from_millis(milliseconds);
            assert!(receiver.receive(timeout).unwrap().is_empty());
            let waited = start.elapsed();
            assert!(waited >= timeout, "{waited:?} of {timeout:?}");
            assert!(waited < timeout + Duration::from_secs(3), "{waited:?} of {timeout:?}");
        }
        assert_eq!(receiver.traffic(), Traffic::default());
    }
}

#[test]
fn a_packet_ends_the_wait() {
    for method in [Method::Batched, Method::Plain] {
        let mut receiver = bind(LOOPBACK, method);
        let (client, to) = (client(LOOPBACK), receiver.address());
        let from = client.local_addr().unwrap();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            client.send_to(b"hello", to).unwrap();
        });
        let batch = receiver.receive(Duration::from_secs(60)).unwrap();
        let packets: Vec<_> = batch.iter().collect();
        assert_eq!(packets, [Packet { address: from, destination: to, bytes: b"hello" }]);
        thread.join().unwrap();
    }
}

#[test]
fn packets_that_are_there_need_no_wait() {
    for method in [Method::Batched, Method::Plain] {
        let mut receiver = bind(LOOPBACK, method);
        client(LOOPBACK).send_to(b"here", receiver.address()).unwrap();
        assert_eq!(receiver.receive(Duration::ZERO).unwrap().len(), 1);
        assert_eq!(receiver.receive(Duration::ZERO).unwrap().len(), 0);
    }
}

#[test]
fn what_the_full_buffer_drops_is_counted() {
    for method in [Method::Batched, Method::Plain] {
        let options = Options { method, kernel_buffer_bytes: 16 << 10 };
        let mut receiver = Receiver::bind(LOOPBACK.parse().unwrap(), &options).unwrap();
        assert_eq!(receiver.kernel_dropped().unwrap(), 0);
        let client = client(LOOPBACK);
        let mut received = 0;
        for round in 1..=3_u64 {
            for _ in 0..500 {
                client.send_to(&[1; 512], receiver.address()).unwrap();
            }
            while !receiver.receive(Duration::ZERO).unwrap().is_empty() {}
            received = receiver.traffic().packets;
            assert_eq!(received + receiver.kernel_dropped().unwrap(), 500 * round);
        }
        assert!(received > 0 && received < 1_500, "{received} received");
    }
}

#[test]
fn the_drop_counter_survives_its_wrap() {
    let mut receiver = bind(LOOPBACK, Method::Batched);
    // As if the kernel had counted 2^32 - 1 drops when it was last read; it says 0 now.
    (receiver.kernel_dropped_last, receiver.kernel_dropped) = (u32::MAX, 10);
    assert_eq!(receiver.kernel_dropped().unwrap(), 11);
    assert_eq!(receiver.kernel_dropped().unwrap(), 11);
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let first = bind(LOOPBACK, Method::Batched);
    let error = Receiver::bind(first.address(), &Options::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on UDP {}: the port is in use by another process; stop it or choose \
             another port",
            first.address()
        )
    );
    let error = Receiver::bind("192.0.2.1:0".parse().unwrap(), &Options::default()).err().unwrap();
    assert!(error.to_string().contains("no such address"), "{error}");
}

#[test]
fn the_line_for_the_start_says_what_runs() {
    let small = Options { kernel_buffer_bytes: 64 << 10, ..Options::default() };
    let mut receiver = Receiver::bind(LOOPBACK.parse().unwrap(), &small).unwrap();
    let address = receiver.address();
    let line = format!("recvmmsg on udp {address}, receive buffer 64 KiB");
    assert_eq!(receiver.to_string(), line);
    receiver.kernel_buffer_asked_bytes = 128 << 10;
    let less = format!("{line} of 128 KiB asked: raise net.core.rmem_max");
    assert_eq!(receiver.to_string(), less);
}

#[test]
fn memory_is_bounded_by_what_is_said() {
    let small = Options { kernel_buffer_bytes: 64 << 10, ..Options::default() };
    let receiver = Receiver::bind(LOOPBACK.parse().unwrap(), &small).unwrap();
    let buffers = BATCH_PACKETS_MAX * BUFFER_SIZE;
    let said = receiver.memory_bytes() - (128 << 10);
    assert!((buffers..buffers + BATCH_PACKETS_MAX * 128).contains(&said), "{said}");
}

#[test]
fn answers_come_from_the_receivers_address_and_arrive_in_order() {
    let receiver = bind(LOOPBACK, Method::Batched);
    let mut sender = receiver.sender().unwrap();
    let client = client(LOOPBACK);
    client.set_read_timeout(Some(SOON)).unwrap();
    let to = client.local_addr().unwrap();
    let answers: Vec<Vec<u8>> =
        (0..BATCH_PACKETS_MAX * 2 + 5).map(|at| vec![at.to_le_bytes()[0]; at]).collect();
    let packets: Vec<_> =
        answers.iter().map(|bytes| Outgoing { address: to, bytes: bytes.as_slice() }).collect();
    assert_eq!(sender.send(&[]), 0);
    assert_eq!(sender.send(&packets), packets.len());
    assert_eq!((sender.sent(), sender.dropped()), (packets.len() as u64, 0));
    let mut buffer = [0; 256];
    for answer in &answers {
        let (size, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..size], from), (answer.as_slice(), receiver.address()));
    }
}

#[test]
fn packets_that_cannot_go_are_skipped() {
    let receiver = bind(LOOPBACK, Method::Batched);
    let mut sender = receiver.sender().unwrap();
    let client = client(LOOPBACK);
    client.set_read_timeout(Some(SOON)).unwrap();
    let good = Outgoing { address: client.local_addr().unwrap(), bytes: b"good" };
    let no_port = Outgoing { address: "127.0.0.1:0".parse().unwrap(), bytes: b"bad" };
    let other_family = Outgoing { address: "[2001:db8::1]:9".parse().unwrap(), bytes: b"bad" };
    let too_long = Outgoing { bytes: &[0; 70_000], ..good };
    let packets = [no_port, good, other_family, too_long, good, good, no_port];
    assert_eq!(sender.send(&packets), 3);
    assert_eq!((sender.sent(), sender.dropped()), (3, 4));
    let mut buffer = [0; 16];
    for _ in 0..3 {
        let size = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..size], b"good");
    }
}

#[test]
fn a_socket_of_both_families_answers_both() {
    if !has_ipv6() {
        return;
    }
    let mut receiver = bind("[::]:0", Method::Batched);
    let mut sender = receiver.sender().unwrap();
    let port = receiver.address().port();
    for (from, to) in [(LOOPBACK, "127.0.0.1"), ("[::1]:0", "::1")] {
        let client = client(from);
        client.set_read_timeout(Some(SOON)).unwrap();
        client.send_to(b"ask", SocketAddr::new(to.parse().unwrap(), port)).unwrap();
        let packets = collect(&mut receiver, 1);
        let plain = SocketAddr::new(packets[0].0.ip().to_canonical(), packets[0].0.port());
        let answer = |address| Outgoing { address, bytes: b"answer" };
        assert_eq!(sender.send(&[answer(packets[0].0), answer(plain)]), 2);
        let mut buffer = [0; 16];
        for _ in 0..2 {
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        }
    }
}

/// What a system call filter allows and denies on one thread.
pub(crate) mod denied {
    use super::*;
    use seccompiler::{SeccompAction, SeccompFilter, apply_filter};

    /// Runs a job on a thread of its own on which a system call fails with `EPERM`; the job calls
    /// `deny` when that shall begin.
    pub(crate) fn with_denied<T: Send>(
        call: libc::c_long,
        job: impl FnOnce(&dyn Fn()) -> T + Send,
    ) -> T {
        let deny = move || {
            let architecture = std::env::consts::ARCH.try_into().unwrap();
            let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
            let rules = [(call, Vec::new())].into();
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture);
            let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
            apply_filter(&program).unwrap();
        };
        thread::scope(|scope| scope.spawn(|| job(&deny)).join().unwrap())
    }

    #[test]
    fn without_recvmmsg_the_plain_method_carries_on() {
        with_denied(libc::SYS_recvmmsg, |deny| {
            deny();
            let mut receiver = bind(LOOPBACK, Method::Batched);
            assert_eq!(receiver.method(), Method::Plain);
            let line = receiver.to_string();
            assert!(line.starts_with("recv_from on udp 127.0.0.1:"), "{line}");
            assert!(line.contains("(recvmmsg: Operation not permitted"), "{line}");
            client(LOOPBACK).send_to(b"still", receiver.address()).unwrap();
            assert_eq!(collect(&mut receiver, 1)[0].1, b"still");
        });
    }

    #[test]
    fn a_socket_that_fails_later_is_an_error() {
        with_denied(libc::SYS_recvmmsg, |deny| {
            let mut receiver = bind(LOOPBACK, Method::Batched);
            deny();
            let error = receiver.receive(SOON).err().unwrap();
            assert!(matches!(error, Error::Receive { .. }), "{error}");
            assert!(error.to_string().contains("receiving failed: Operation"), "{error}");
        });
    }

    #[test]
    fn a_socket_that_cannot_be_set_up_is_an_error() {
        with_denied(libc::SYS_setsockopt, |deny| {
            let mut receiver = bind(LOOPBACK, Method::Batched);
            deny();
            let error = receiver.receive(SOON).err().unwrap();
            assert!(matches!(error, Error::Socket { .. }), "{error}");
            let error = Receiver::bind(LOOPBACK.parse().unwrap(), &Options::default());
            let error = error.err().unwrap().to_string();
            assert!(error.contains("sizing the receive buffer failed: Operation"), "{error}");
        });
    }

    #[test]
    fn a_drop_counter_that_cannot_be_read_is_an_error() {
        with_denied(libc::SYS_getsockopt, |deny| {
            let mut receiver = bind(LOOPBACK, Method::Batched);
            deny();
            let error = receiver.kernel_dropped().unwrap_err().to_string();
            assert!(error.contains("reading the drop counter failed: Operation"), "{error}");
        });
    }
}

/// CPU time per packet of both methods, taking turns: packets that wait in the socket, then packets
/// that come one at a time.
#[test]
#[ignore = "measures for some seconds: run it alone, in release, with --nocapture"]
fn measure_both_methods() {
    let mut twins = [Method::Batched, Method::Plain].map(|method| bind(LOOPBACK, method));
    let mut sender = bind(LOOPBACK, Method::Plain).sender().unwrap();
    for waiting in [BATCH_PACKETS_MAX * 8, 16, 4, 1] {
        for round in 0..3 {
            for twin in &mut twins {
                let outgoing = Outgoing { address: twin.address(), bytes: &[0x61; 560] };
                let packets = vec![outgoing; waiting];
                let before = twin.traffic();
                let mut cpu = Duration::ZERO;
                for _ in 0..200_000 / waiting {
                    assert_eq!(sender.send(&packets), waiting);
                    let start = thread_cpu();
                    while !twin.receive(Duration::ZERO).unwrap().is_empty() {}
                    cpu += thread_cpu() - start;
                }
                let packets = twin.traffic().packets - before.packets;
                let calls = twin.traffic().calls - before.calls;
                println!(
                    "{waiting:3} waiting, round {round} {:9}: {:4.1} packets a call, {:4} ns each",
                    twin.method().name(),
                    packets as f64 / calls as f64,
                    cpu.as_nanos() / u128::from(packets),
                );
                assert_eq!(packets, (200_000 / waiting * waiting) as u64);
            }
        }
    }
}

/// The CPU time of this thread.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}
