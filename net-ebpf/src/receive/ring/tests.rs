//! Rings on a wire between two network namespaces, fed by a program that sends them every frame.

mod program;
mod wire;

use super::*;
use crate::{
    interface::{Interface, QueuesSource},
    receive::{Ingress, Method, Options, Receiver, tests::denied::with_denied},
};
use program::{Attach, Program};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};
use wire::{NAME, SERVER, SERVER_V6, Wire};

const SOON: Duration = Duration::from_secs(5);
/// Long enough for a packet that is on its way, short enough to wait for none.
const MOMENT: Duration = Duration::from_millis(100);

/// A server with one ring on each queue of a wire, and the program in front of them.
struct Server {
    ingress: Ingress,
    program: Program,
    wire: Wire,
}

impl Server {
    /// Starts one that listens on `address`, or says why it cannot.
    fn start(address: &str, queues: u32, attach: Attach) -> Option<Self> {
        let wire = Wire::create(queues)?;
        let started = wire.server(|| {
            let interface = Interface::read(NAME).unwrap();
            assert_eq!(interface.queues_count, queues);
            let receiver = bind(address, Method::Batched);
            let program = Program::attach(interface.index, attach);
            let program = program.map_err(|error| match error.raw_os_error() {
                // A kernel or a container without it; any other failure is ours.
                Some(libc::EPERM | libc::ENOSYS) => println!("skipped: XDP: {error}"),
                _ => panic!("{error}"),
            });
            let program = program.ok()?;
            let rings: Vec<Ring> = (0..queues)
                .map(|queue| {
                    let ring = Ring::open(options(&interface, queue)).unwrap();
                    program.set(queue, &ring).unwrap();
                    ring
                })
                .collect();
            Some((Ingress::new(receiver, rings), program))
        });
        let (ingress, program) = started?;
        Some(Self { ingress, program, wire })
    }

    fn port(&self) -> u16 {
        self.ingress.receiver().address().port()
    }

    fn to(&self, v6: bool) -> SocketAddr {
        let ip = if v6 { SERVER_V6 } else { SERVER };
        SocketAddr::new(ip.parse().unwrap(), self.port())
    }

    /// Receives until so many packets are there, or none comes any more.
    fn collect(&mut self, count: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        let start = Instant::now();
        while taken.len() < count && start.elapsed() < SOON {
            let batch = self.ingress.receive(MOMENT).unwrap();
            taken.extend(batch.iter().map(Taken::from));
        }
        taken
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Taken {
    address: SocketAddr,
    destination: SocketAddr,
    bytes: Vec<u8>,
}

impl From<Packet<'_>> for Taken {
    fn from(packet: Packet<'_>) -> Self {
        let plain = SocketAddr::new(packet.address.ip().to_canonical(), packet.address.port());
        let bytes = packet.bytes.to_vec();
        Self { address: plain, destination: packet.destination, bytes }
    }
}

fn bind(address: &str, method: Method) -> Receiver {
    let options = Options { method, ..Options::default() };
    Receiver::bind(address.parse().unwrap(), &options).unwrap()
}

fn options(interface: &Interface, queue: u32) -> RingOptions {
    RingOptions {
        interface_index: interface.index,
        queue,
        zero_copy: true,
        checksum_partial: interface.leaves_checksums_partial(),
    }
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + size).to_le_bytes()[0]).collect()
}

/// Sends a packet of every kind of size from two clients, some at a time, and returns what the
/// server took.
fn exchange(server: &mut Server, clients: &[UdpSocket]) -> Vec<Taken> {
    let sizes = (0..4).chain([48, 160, 203, 204, 560]).chain(1_225..1_240).chain([1_279, 1_280]);
    let sizes: Vec<usize> = sizes.chain([1_281, 1_400]).collect();
    let mut taken = Vec::new();
    for sizes in sizes.chunks(16) {
        for (size, client) in sizes.iter().flat_map(|size| clients.iter().map(move |c| (size, c))) {
            let to = server.to(client.local_addr().unwrap().is_ipv6());
            client.send_to(&body(*size), to).unwrap();
        }
        taken.extend(server.collect(sizes.len() * clients.len()));
    }
    assert_eq!(taken.len(), sizes.len() * clients.len());
    taken.sort();
    taken
}

/// The same packets through rings, through the stack in batches and one by one: the same answers.
#[test]
fn rings_and_sockets_hand_on_the_same_packets() {
    for (address, attach) in [
        ("[::]:0", Attach::Driver),
        ("0.0.0.0:0", Attach::Driver),
        ("10.78.0.1:0", Attach::Generic),
        ("[fd78::1]:0", Attach::Generic),
    ] {
        let Some(mut server) = Server::start(address, 1, attach) else { return };
        let families: &[bool] = match address {
            "[::]:0" => &[false, true],
            "[fd78::1]:0" => &[true],
            _ => &[false],
        };
        let clients: Vec<_> = families.iter().map(|&v6| server.wire.client(v6)).collect();
        let through_rings = exchange(&mut server, &clients);
        assert_eq!(server.ingress.receiver().traffic().packets, 0);
        let traffic = server.ingress.rings()[0].traffic();
        let bytes = through_rings.iter().map(|taken| taken.bytes.len() as u64).sum();
        assert_eq!((traffic.packets, traffic.bytes), (through_rings.len() as u64, bytes));
        let ends: BTreeMap<_, _> =
            through_rings.iter().map(|one| (one.address, one.destination)).collect();
        for client in &clients {
            let from = client.local_addr().unwrap();
            assert_eq!(ends[&from], server.to(from.is_ipv6()));
        }

        server.program.clear(0).unwrap();
        let through_socket = exchange(&mut server, &clients);
        assert_eq!(through_rings, through_socket);
        let receiver = server.wire.server(|| {
            let address = SocketAddr::new(server.ingress.receiver().address().ip(), 0);
            bind(&address.to_string(), Method::Plain)
        });
        server.ingress = Ingress::new(receiver, Vec::new());
        let mut through_plain = exchange(&mut server, &clients);
        for taken in &mut through_plain {
            taken.destination.set_port(through_rings[0].destination.port());
        }
        assert_eq!(through_rings, through_plain);
    }
}

#[test]
fn frames_go_round() {
    let Some(mut server) = Server::start("0.0.0.0:0", 1, Attach::Driver) else { return };
    let (client, to) = (server.wire.client(false), server.to(false));
    let rounds = FRAMES_COUNT as usize * 3 / 32;
    for round in 0..rounds {
        let bytes = body(200 + round % 1_000);
        for _ in 0..32 {
            client.send_to(&bytes, to).unwrap();
        }
        let taken = server.collect(32);
        assert_eq!(taken.len(), 32, "round {round}");
        assert!(taken.iter().all(|taken| taken.bytes == bytes));
    }
    assert_eq!(server.ingress.rings()[0].dropped().unwrap(), RingDropped::default());
    assert_eq!(server.ingress.rings()[0].faults(Fault::Checksum), 0);
}

#[test]
fn what_finds_no_frame_is_dropped_and_counted() {
    let Some(mut server) = Server::start("0.0.0.0:0", 1, Attach::Driver) else { return };
    let (client, to) = (server.wire.client(false), server.to(false));
    for _ in 0..FRAMES_COUNT * 8 {
        client.send_to(&[1; 204], to).unwrap();
        if server.ingress.rings()[0].dropped().unwrap().other >= 10 {
            break;
        }
    }
    let dropped = server.ingress.rings()[0].dropped().unwrap();
    assert!(dropped.other >= 10, "{dropped:?}");
    assert_eq!(dropped.other, dropped.fill_empty);
    assert_eq!(dropped.rx_full, 0);
    let mut taken = 0;
    loop {
        let count = server.ingress.receive(Duration::ZERO).unwrap().len();
        if count == 0 {
            break;
        }
        assert!(count <= BATCH_PACKETS_MAX);
        taken += count;
    }
    // Some frames may have gone to what the kernels say to each other.
    let foreign = server.ingress.rings()[0].faults(Fault::Foreign);
    assert_eq!(taken as u64 + foreign, u64::from(FRAMES_COUNT));
    // And the ring goes on.
    client.send_to(b"again", to).unwrap();
    assert_eq!(server.collect(1)[0].bytes, b"again");
}

#[test]
fn every_queue_has_its_ring() {
    let Some(mut server) = Server::start("[::]:0", 2, Attach::Driver) else { return };
    let mut sent: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
    let clients: Vec<_> = (0..32).map(|at| server.wire.client(at % 2 == 1)).collect();
    for (at, client) in clients.iter().enumerate() {
        let from = client.local_addr().unwrap();
        client.send_to(&body(at), server.to(from.is_ipv6())).unwrap();
        sent.push((from, body(at)));
    }
    let mut by_ring = [0; 2];
    let mut taken = Vec::new();
    while taken.len() < sent.len() {
        let batch = server.ingress.receive(SOON).unwrap();
        assert!(!batch.is_empty(), "{} of {}", taken.len(), sent.len());
        taken.extend(batch.iter().map(|packet| (packet.address, packet.bytes.to_vec())));
        for (count, ring) in by_ring.iter_mut().zip(server.ingress.rings()) {
            *count += ring.len();
        }
    }
    taken.sort();
    sent.sort();
    assert_eq!(taken, sent);
    assert!(by_ring.iter().all(|&count| count > 0), "{by_ring:?}");
}

/// Both sources are full: each brings its share in every call.
#[test]
fn neither_rings_nor_socket_starve() {
    let Some(mut server) = Server::start("[::]:0", 1, Attach::Driver) else { return };
    let (client, to) = (server.wire.client(false), server.to(false));
    // On loopback there is no program: these go through the socket.
    let near = server.wire.server(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    let home = SocketAddr::new("127.0.0.1".parse().unwrap(), server.port());
    let rounds = 4;
    for _ in 0..BATCH_PACKETS_MAX * rounds {
        client.send_to(b"far", to).unwrap();
        near.send_to(b"near", home).unwrap();
    }
    for round in 0..rounds {
        let batch = server.ingress.receive(SOON).unwrap();
        assert_eq!(batch.len(), BATCH_PACKETS_MAX * 2, "round {round}");
        let near = batch.iter().filter(|packet| packet.bytes == b"near").count();
        assert_eq!(near, BATCH_PACKETS_MAX, "round {round}");
        assert!(batch.iter().all(|packet| packet.destination.ip().is_ipv4()));
    }
    assert!(server.ingress.receive(Duration::ZERO).unwrap().is_empty());
}

#[test]
fn waiting_ends_with_the_time_or_with_a_packet_of_either() {
    let Some(mut server) = Server::start("[::]:0", 1, Attach::Driver) else { return };
    // What the kernels say to each other at the start has passed.
    while server.ingress.receive(MOMENT).unwrap().is_empty()
        && server.ingress.rings()[0].frames_count > 0
    {}
    let client = server.wire.client(true);
    let near = server.wire.server(|| UdpSocket::bind("[::1]:0").unwrap());
    let home = SocketAddr::new("::1".parse().unwrap(), server.port());
    for (socket, to) in [(client, server.to(true)), (near, home)] {
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(MOMENT);
                socket.send_to(b"hello", to).unwrap();
            });
            let mut batch = server.ingress.receive(Duration::from_secs(60)).unwrap();
            // Neighbours may have talked first.
            while batch.is_empty() && start.elapsed() < SOON {
                batch = server.ingress.receive(Duration::from_secs(60)).unwrap();
            }
            assert_eq!(batch.len(), 1);
        });
        assert!(start.elapsed() >= MOMENT);
        assert!(start.elapsed() < SOON);
    }
}

/// A checksum that no card completed is wrong where a card should have.
#[test]
fn unfinished_checksums_are_faults_where_a_card_stands() {
    let Some(mut server) = Server::start("0.0.0.0:0", 1, Attach::Driver) else { return };
    let (client, to) = (server.wire.client(false), server.to(false));
    server.ingress.rings_mut()[0].options.checksum_partial = false;
    client.send_to(b"hello", to).unwrap();
    let start = Instant::now();
    while server.ingress.rings()[0].faults(Fault::Checksum) == 0 && start.elapsed() < SOON {
        assert!(server.ingress.receive(MOMENT).unwrap().is_empty());
    }
    assert_eq!(server.ingress.rings()[0].faults(Fault::Checksum), 1);
    server.ingress.rings_mut()[0].options.checksum_partial = true;
    client.send_to(b"hello", to).unwrap();
    assert_eq!(server.collect(1).len(), 1);
}

#[test]
fn packets_for_other_ports_are_foreign() {
    let Some(mut server) = Server::start("0.0.0.0:0", 1, Attach::Driver) else { return };
    let (client, mut to) = (server.wire.client(false), server.to(false));
    while !server.ingress.receive(MOMENT).unwrap().is_empty() {}
    let before = server.ingress.rings()[0].faults(Fault::Foreign);
    to.set_port(to.port() ^ 1);
    client.send_to(b"elsewhere", to).unwrap();
    let start = Instant::now();
    while server.ingress.rings()[0].faults(Fault::Foreign) == before && start.elapsed() < SOON {
        assert!(server.ingress.receive(MOMENT).unwrap().is_empty());
    }
    assert!(server.ingress.rings()[0].faults(Fault::Foreign) > before);
}

/// Everything after the start works without a single capability.
#[test]
fn privileges_are_needed_to_open_only() {
    let Some(mut server) = Server::start("0.0.0.0:0", 1, Attach::Driver) else { return };
    let interface = server.wire.server(|| Interface::read(NAME).unwrap());
    let (client, to) = (server.wire.client(false), server.to(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let none = CapabilitySet::empty();
            let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
            set_capabilities(None, none).unwrap();
            client.send_to(b"hello", to).unwrap();
            assert_eq!(server.collect(1).len(), 1);
            assert_eq!(server.ingress.rings()[0].dropped().unwrap(), RingDropped::default());
            let error = Ring::open(options(&interface, 0)).err().unwrap().to_string();
            assert!(error.contains("making an AF_XDP socket failed: Operation not"), "{error}");
        });
    });
}

#[test]
fn an_interface_that_goes_takes_only_its_ring_along() {
    let Some(mut server) = Server::start("0.0.0.0:0", 1, Attach::Driver) else { return };
    server.wire.cut();
    // Kernels differ in whether the first wait ends at once; the next do not.
    assert!(server.ingress.receive(MOMENT).unwrap().is_empty());
    for _ in 0..2 {
        let start = Instant::now();
        assert!(server.ingress.receive(MOMENT).unwrap().is_empty());
        assert!(start.elapsed() >= MOMENT, "it does not spin");
        let failure = server.ingress.rings_mut()[0].failure().unwrap();
        assert_eq!(failure.raw_os_error(), Some(libc::ENETDOWN));
    }
    let near = server.wire.server(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    near.send_to(b"near", ("127.0.0.1", server.port())).unwrap();
    assert_eq!(server.collect(1)[0].bytes, b"near");
}

#[test]
fn what_cannot_be_opened_is_one_clear_line() {
    let Some(wire) = Wire::create(1) else { return };
    wire.server(|| {
        let interface = Interface::read(NAME).unwrap();
        let mut first = Ring::open(options(&interface, 0)).unwrap();
        assert_eq!((first.queue(), first.is_zero_copy()), (0, false));
        assert!(first.failure().is_none());
        let memory = first.memory_bytes();
        assert!((MEMORY_SIZE..MEMORY_SIZE + (256 << 10)).contains(&memory), "{memory}");
        let copying = RingOptions { zero_copy: false, ..options(&interface, 0) };
        for (options, code) in [
            (options(&interface, 0), libc::EBUSY),
            (copying, libc::EBUSY),
            (options(&interface, 9), libc::EINVAL),
            (RingOptions { interface_index: 9_999, ..copying }, libc::ENODEV),
        ] {
            let error = Ring::open(options).err().unwrap();
            let line = error.to_string();
            let expected = format!(
                "AF_XDP on interface {}, queue {}: binding to the queue failed: ",
                options.interface_index, options.queue
            );
            assert!(line.starts_with(&expected), "{line}");
            let Error::Ring { source, .. } = error else { panic!("{line}") };
            assert_eq!(source.raw_os_error(), Some(code), "{line}");
        }
        drop(first);
        // The kernel lets go of a queue a moment after its socket is closed.
        let start = Instant::now();
        while Ring::open(copying).is_err() {
            assert!(start.elapsed() < SOON, "the queue stays taken");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

/// Needs no privilege: on a thread that may make no socket, or by a user who may not.
#[test]
fn without_a_socket_there_is_no_ring() {
    with_denied(libc::SYS_socket, |deny| {
        deny();
        let options =
            RingOptions { interface_index: 1, queue: 0, zero_copy: true, checksum_partial: true };
        let error = Ring::open(options).err().unwrap();
        assert_eq!(
            error.to_string(),
            "AF_XDP on interface 1, queue 0: making an AF_XDP socket failed: Operation not \
             permitted (os error 1)"
        );
    });
}

#[test]
fn a_virtual_wire_is_known_as_one() {
    for queues in [1, 2] {
        let Some(wire) = Wire::create(queues) else { return };
        let (interface, everywhere) = wire
            .server(|| (Interface::read(NAME).unwrap(), crate::interface::addresses().unwrap()));
        assert_eq!((interface.queues_count, interface.mtu), (queues, 1_500));
        assert_eq!(interface.queues_source, QueuesSource::Driver);
        assert!(!interface.is_hardware() && interface.leaves_checksums_partial());
        for address in [SERVER, SERVER_V6] {
            let address = address.parse().unwrap();
            assert!(interface.addresses.contains(&address), "{:?}", interface.addresses);
            assert!(everywhere.contains(&address), "{everywhere:?}");
        }
        assert_eq!(wire.server(|| crate::interface::names().unwrap()), ["lo", NAME]);
        assert!(wire.server(crate::interface::has_syn_cookies).is_ok());
    }
}

/// What a packet costs through a ring and through the stack, taking turns: the receiving thread's
/// own time, and the sender's, in which the kernel does the rest of the work.
#[test]
#[ignore = "measures for some seconds: run it alone, in release, with --nocapture"]
fn measure_rings_and_sockets() {
    let Some(mut server) = Server::start("0.0.0.0:0", 1, Attach::Driver) else { return };
    let to = server.to(false);
    let receiver = server.wire.server(|| bind("0.0.0.0:0", Method::Plain));
    let plain_to = SocketAddr::new(to.ip(), receiver.address().port());
    let mut plain = Ingress::new(receiver, Vec::new());
    let receiver = server.wire.server(|| bind("0.0.0.0:0", Method::Batched));
    let batched_to = SocketAddr::new(to.ip(), receiver.address().port());
    let mut batched = Ingress::new(receiver, Vec::new());
    let client = server.wire.client(false);
    for waiting in [128, 16, 1] {
        for round in 0..3 {
            for way in ["ring", "recvmmsg", "recv_from"] {
                let (ingress, to) = match way {
                    "ring" => {
                        server.program.set(0, &server.ingress.rings()[0]).unwrap();
                        (&mut server.ingress, to)
                    }
                    "recvmmsg" => (&mut batched, batched_to),
                    _ => (&mut plain, plain_to),
                };
                if way != "ring" {
                    let _ = server.program.clear(0);
                }
                let (mut taken, mut cpu) = (0, [Duration::ZERO; 2]);
                let total = 200_000;
                for _ in 0..total / waiting {
                    let start = thread_cpu();
                    for _ in 0..waiting {
                        client.send_to(&[0x61; 560], to).unwrap();
                    }
                    let middle = thread_cpu();
                    while let count @ 1.. = ingress.receive(Duration::ZERO).unwrap().len() {
                        taken += count;
                    }
                    let end = thread_cpu();
                    cpu[0] += middle - start;
                    cpu[1] += end - middle;
                }
                let each = |cpu: Duration| cpu.as_nanos() / taken as u128;
                println!(
                    "{waiting:3} waiting, round {round} {way:9}: send {:4} ns, receive {:4} ns \
                     each, {taken} of {total}",
                    each(cpu[0]),
                    each(cpu[1])
                );
            }
        }
    }
}

/// The CPU time of this thread.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}
