//! Ways to receive, side by side on one wire: packets a second, and what each costs the application
//! and the kernel.
//!
//! Without a limit the sender fills the ring faster than anybody empties it, and the rate is what
//! the processor allows that the kernel's thread and the application share. At a moderate rate
//! everybody gets everything, and the costs are those of a day without a flood.

use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::maps::XskMap;
use aya::programs::links::FdLink;
use net_ebpf::receive::{self, Ingress, Method, Receiver, Ring};

use super::control::{Control, Pace};
use super::flood::{attach, open_ring};
use super::frame::{PORT, SERVER};
use super::generator::{self, Attack, Flood, Sent};
use super::host::{self, CPU_RECEIVER, Wire, join, pin, schedule};
use super::program::Programs;
use super::stage::thread_time;
use super::sys::Multishot;
use crate::suite::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Scale, Settings,
};

/// Programs that are needed here.
const PROGRAMS: [&str; 2] = ["generate", "to_ring"];
/// A rate that every way keeps up with, in packets a second.
const MODERATE_RATE: u32 = 100_000;
/// How long the thread waits before it looks whether it is to end.
const WAIT: Duration = Duration::from_millis(10);
/// The receive buffer of every socket.
const KERNEL_BUFFER_BYTES: usize = receive::KERNEL_BUFFER_BYTES;

const METRICS: [Metric; 5] = [
    Metric::new("packet_rate", "packets/s", Better::Higher),
    Metric::new("cpu_ns", "ns/packet", Better::Lower),
    Metric::new("application_ns", "ns/packet", Better::Lower),
    Metric::new("softirq_ns", "ns/packet", Better::Lower),
    Metric::new("sent_rate", "packets/s", Better::Neither),
];

/// How packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Recv,
    Recvmmsg,
    IoUring,
    AfXdp { zero_copy: bool },
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Recv,
        Self::Recvmmsg,
        Self::IoUring,
        Self::AfXdp { zero_copy: false },
        Self::AfXdp { zero_copy: true },
    ];

    fn label(self) -> Label {
        let name = match self {
            Self::Recv => "recv",
            Self::Recvmmsg => "recvmmsg",
            Self::IoUring => "io_uring_multishot",
            Self::AfXdp { zero_copy: false } => "af_xdp_copy",
            Self::AfXdp { zero_copy: true } => "af_xdp_zero_copy",
        };
        Label::new("net::ingress").with("way", name)
    }
}

/// Plans both loads.
pub(super) fn plans(settings: &Settings) -> Vec<Plan> {
    let duration = Duration::from_millis(settings.scale.pick(2_000, 1_000, 50));
    let rounds = settings.scale.pick(
        Rounds { min: 3, max: 5 },
        Rounds { min: 3, max: 3 },
        Rounds { min: 1, max: 1 },
    );
    let loads: &[(&str, u32)] = settings.scale.pick(
        &[("unlimited", u32::MAX), ("moderate", MODERATE_RATE)],
        &[("unlimited", u32::MAX), ("moderate", MODERATE_RATE)],
        &[("moderate", MODERATE_RATE)],
    );
    let scale = settings.scale;
    let plan = |(name, rate): &(&str, u32)| {
        let flood = Flood {
            attack: Attack::Garbage,
            duration,
            attack_rate: *rate,
            valid_rate: 1,
            valid_count: 0,
        };
        let open = Box::new(move || open(scale, flood, rounds));
        Plan { parameters: vec![("load", (*name).to_owned())], open }
    };
    loads.iter().map(plan).collect()
}

fn open(scale: Scale, flood: Flood, rounds: Rounds) -> Result<Group, Failure> {
    let mut group = Group { rounds, contenders: Vec::new(), skipped: Vec::new() };
    let bed = match Bed::new(scale, flood) {
        Ok(bed) => Rc::new(RefCell::new(bed)),
        Err(Failure::Skipped(reason)) => {
            group.skipped.extend(Way::ALL.map(|way| (way.label(), reason.clone())));
            return Ok(group);
        }
        Err(failure) => return Err(failure),
    };
    for way in Way::ALL {
        match bed.borrow_mut().try_way(way) {
            Ok(()) => group.contenders.push(Box::new(Receiving { bed: Rc::clone(&bed), way })),
            Err(Failure::Skipped(reason)) => group.skipped.push((way.label(), reason)),
            Err(failure) => return Err(failure),
        }
    }
    Ok(group)
}

/// What the contenders of a group share.
struct Bed {
    programs: Programs,
    wire: Wire,
    flood: Flood,
    is_strict: bool,
}

/// What the application saw.
struct Received {
    packets: u64,
    time: Duration,
}

/// What packets come out of.
enum Source {
    Ingress(Box<Ingress>),
    Multishot(Box<Multishot>),
}

impl Bed {
    fn new(scale: Scale, flood: Flood) -> Result<Self, Failure> {
        let mut programs = Programs::open(&PROGRAMS, 1)?;
        programs.set("CONTROL", 0, Control::new(Pace::ALWAYS, Pace::ALWAYS, 0).words())?;
        let is_strict = scale != Scale::Smoke;
        let wire = Wire::lay(is_strict)?;
        Ok(Self { programs, wire, flood, is_strict })
    }

    /// Whether this machine has a way at all.
    fn try_way(&mut self, way: Way) -> Result<(), Failure> {
        let (_link, ring) = self.ring(way)?;
        self.wire.server.call(move || source(way, ring).map(|_| ()))
    }

    /// The ring of a way that needs one, and what fills it.
    fn ring(&mut self, way: Way) -> Result<(Option<FdLink>, Option<Ring>), Failure> {
        let Way::AfXdp { zero_copy } = way else {
            return Ok((None, None));
        };
        let interface = self.wire.server.index()?;
        let ring = self.wire.server.call(|| open_ring(interface, zero_copy))?;
        if ring.is_zero_copy() != zero_copy {
            let reason = "the driver of a virtual wire has no zero copy".to_owned();
            return Err(Failure::Skipped(reason));
        }
        let mut rings = XskMap::try_from(self.programs.map_mut("RINGS"))
            .map_err(|error| Failure::machine("find the table of rings", error))?;
        rings
            .set(ring.queue(), ring.as_fd().as_raw_fd(), 0)
            .map_err(|error| Failure::machine("put a ring into its table", error))?;
        let link = attach(&self.wire.server, self.programs.xdp_mut("to_ring"))?;
        Ok((Some(link), Some(ring)))
    }

    fn round(&mut self, way: Way) -> Result<Round, Failure> {
        let (link, ring) = self.ring(way)?;
        let softirq_before = self.wire.softirq_time()?;
        let (sent, received) = self.exchange(way, ring)?;
        let softirq = self.wire.softirq_time()?.saturating_sub(softirq_before);
        drop(link);
        if received.packets == 0 {
            return Err(Failure::Wrong("nothing came".to_owned()));
        }
        let (packets, seconds) = (float(received.packets), sent.elapsed.as_secs_f64());
        let each = |time: Duration| time.as_secs_f64() * 1e9 / packets;
        Ok(Round::valid(vec![
            packets / seconds,
            each(softirq + received.time),
            each(received.time),
            each(softirq),
            float(sent.attack) / seconds,
        ]))
    }

    /// Sends while the application receives.
    fn exchange(&mut self, way: Way, ring: Option<Ring>) -> Result<(Sent, Received), Failure> {
        let Self { programs, wire, flood, .. } = self;
        let (ready, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let call = || {
            let _set = host::SetAtEnd(&ready);
            let source = source(way, ring)?;
            count(source, &ready, &stop)
        };
        thread::scope(|scope| {
            let application = wire.server.spawn(scope, call);
            while !ready.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            let sent = generator::run(programs, wire, flood);
            stop.store(true, Ordering::Relaxed);
            let received = join(application)?;
            Ok((sent?, received))
        })
    }
}

/// Opens a way on the thread that goes it.
fn source(way: Way, ring: Option<Ring>) -> Result<Source, Failure> {
    let address = SocketAddr::new(SERVER.into(), PORT);
    let method = match way {
        Way::Recv => Method::Plain,
        Way::Recvmmsg | Way::AfXdp { .. } => Method::Batched,
        Way::IoUring => {
            let failed = |error| Failure::machine("listen", error);
            let socket = UdpSocket::bind(address).map_err(failed)?;
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER_BYTES)
                .map_err(|error| failed(error.into()))?;
            let multishot = Multishot::new(socket);
            let multishot =
                multishot.map_err(|error| Failure::Skipped(format!("io_uring: {error}")))?;
            return Ok(Source::Multishot(Box::new(multishot)));
        }
    };
    let options = receive::Options { method, kernel_buffer_bytes: KERNEL_BUFFER_BYTES };
    let receiver =
        Receiver::bind(address, &options).map_err(|error| Failure::machine("listen", error))?;
    if receiver.method() != method {
        return Err(Failure::Skipped(format!("the kernel has no {}", method.name())));
    }
    Ok(Source::Ingress(Box::new(Ingress::new(receiver, ring.into_iter().collect()))))
}

/// Receives until it is told to stop.
fn count(mut source: Source, ready: &AtomicBool, stop: &AtomicBool) -> Result<Received, Failure> {
    pin(None, CPU_RECEIVER)?;
    schedule(host::this_thread(), "-r", 10)?;
    let began = thread_time();
    let (mut packets, mut bytes) = (0, 0_u64);
    ready.store(true, Ordering::Release);
    while !stop.load(Ordering::Relaxed) {
        let count = match &mut source {
            Source::Ingress(ingress) => {
                let batch = ingress.receive(WAIT);
                let batch = batch.map_err(|error| Failure::machine("receive", error))?;
                for packet in batch.iter() {
                    bytes = bytes.wrapping_add(packet.bytes.first().copied().map_or(0, u64::from));
                }
                batch.len()
            }
            Source::Multishot(multishot) => {
                let taken = multishot.receive(WAIT);
                let (count, sum) = taken.map_err(|error| Failure::machine("receive", error))?;
                bytes = bytes.wrapping_add(sum);
                count
            }
        };
        packets += count as u64;
    }
    std::hint::black_box(bytes);
    Ok(Received { packets, time: thread_time().saturating_sub(began) })
}

/// One way on the shared wire.
struct Receiving {
    bed: Rc<RefCell<Bed>>,
    way: Way,
}

impl Contender for Receiving {
    fn label(&self) -> Label {
        self.way.label()
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    /// At a rate that it keeps up with, it gets everything.
    fn check(&mut self) -> Result<(), Failure> {
        let mut bed = self.bed.borrow_mut();
        if !bed.is_strict {
            return Ok(());
        }
        let flood = bed.flood;
        bed.flood = Flood { attack_rate: MODERATE_RATE / 2, duration: flood.duration / 4, ..flood };
        let round = bed.round(self.way);
        bed.flood = flood;
        let values = round?.values;
        let (received, sent) = (values[0], values[4]);
        if received < 0.9 * sent || received > 1.01 * sent {
            return Err(Failure::Wrong(format!("{received:.0} packets a second of {sent:.0}")));
        }
        Ok(())
    }

    /// The check has worked once already.
    fn warm_up(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        self.bed.borrow_mut().round(self.way)
    }
}

/// A count as a figure: exact below 2^53.
fn float(count: u64) -> f64 {
    count as f64
}
