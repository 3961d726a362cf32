//! Goodput under attack: honest packets share a receive ring with as much of an attack as one
//! processor can send, and what counts is how many of them the application lets in.
//!
//! The filters take turns on the same wire. The ideal one knows beforehand where honest packets
//! come from, and shows what the ring and the processor allow; ratios refer to it.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};
use net_ebpf::filter::kernel::{Hook, Kernel};
use net_ebpf::policy::{Limits, Policy};
use net_ebpf::receive::{self, Ingress, Receiver, Ring, RingOptions};
use net_ebpf::tables::{Flags, Keys, Port, Setup, Tables};

use super::application::{Received, Sessions, serve};
use super::frame::{PORT, SERVER};
use super::generator::{self, Attack, Flood, Sent};
use super::host::{self, End, Wire, join};
use super::program::{Programs, SESSIONS, WINDOW};
use crate::suite::{
    Better, Contender, Failure, Group, Invalid, Label, Metric, Plan, Round, Rounds, Scale, Settings,
};

/// Honest packets a second. A twentieth more is asked for: what a pause of the generator made late is not
/// made up for in a burst.
const VALID_RATE: u32 = 20_000;
/// An attack that sends less proves nothing.
const ATTACK_RATE_MIN: f64 = 4e6;
/// No filter meets more than that, however fast it is.
const ATTACK_RATE: u32 = 4_500_000;
/// Neither does a round in which honest clients sent less than this share.
const VALID_SHARE_MIN: f64 = 0.95;
/// How long packets are still taken after the last was sent.
const GRACE: Duration = Duration::from_millis(50);
/// More than was sent was let in twice, or was never honest.
const GOODPUT_MAX: f64 = 100.0;
/// How often a round is tried whose flood is too slow.
const TRIES_MAX: u32 = 4;
/// While nobody attacks, this many percent must arrive, or something else than the flood loses them.
const QUIET_GOODPUT_MIN: f64 = 80.0;

const METRICS: [Metric; 7] = [
    Metric::new("goodput", "%", Better::Higher),
    Metric::new("attack_rate", "Mpps", Better::Neither),
    Metric::new("valid_sent", "packets", Better::Neither),
    Metric::new("valid_accepted", "packets", Better::Neither),
    Metric::new("received", "packets", Better::Neither),
    Metric::new("softirq_cpu", "% of one", Better::Lower),
    Metric::new("application_cpu", "% of one", Better::Lower),
];

/// What stands before the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    /// Two instructions that know the honest source.
    Ideal,
    /// The kernel program; what passes goes through the kernel to a socket.
    Xdp,
    /// The kernel program; what passes goes to an AF_XDP ring.
    XdpRing,
    /// The ideal rule in nftables, at its earliest hook.
    Nftables,
    /// The kernel program's twin in the application.
    Twin,
    /// Nothing.
    None,
}

impl Filter {
    const ALL: [Self; 6] =
        [Self::Ideal, Self::Xdp, Self::XdpRing, Self::Nftables, Self::Twin, Self::None];

    fn name(self) -> &'static str {
        match self {
            Self::Ideal => "ideal",
            Self::Xdp => "xdp",
            Self::XdpRing => "xdp+af_xdp",
            Self::Nftables => "nftables",
            Self::Twin => "twin",
            Self::None => "none",
        }
    }
}

/// Plans a group for each attack.
pub(super) fn plans(settings: &Settings) -> Vec<Plan> {
    let attacks: &[Attack] = settings.scale.pick(
        &[
            Attack::Garbage,
            Attack::Forged,
            Attack::Session,
            Attack::Spoofed,
            Attack::Replay,
            Attack::Hello,
            Attack::Cookie,
            Attack::None,
        ],
        &[Attack::Garbage, Attack::Forged, Attack::Spoofed, Attack::Replay, Attack::Hello],
        &[Attack::Forged],
    );
    attacks.iter().map(|attack| plan(settings, *attack)).collect()
}

fn plan(settings: &Settings, attack: Attack) -> Plan {
    let duration = Duration::from_millis(settings.scale.pick(2_000, 1_000, 50));
    let rounds = settings.scale.pick(
        Rounds { min: 3, max: 5 },
        Rounds { min: 3, max: 3 },
        Rounds { min: 1, max: 1 },
    );
    let (scale, seed) = (settings.scale, settings.seed);
    Plan {
        parameters: vec![("attack", attack.name().to_owned())],
        open: Box::new(move || open(scale, seed, attack, duration, rounds)),
    }
}

fn label(filter: Filter) -> Label {
    Label::new("net::goodput").with("filter", filter.name())
}

fn open(
    scale: Scale,
    seed: u64,
    attack: Attack,
    duration: Duration,
    rounds: Rounds,
) -> Result<Group, Failure> {
    let all_skipped = |reason: String| {
        let skipped = Filter::ALL.map(|filter| (label(filter), reason.clone())).to_vec();
        Ok(Group { rounds, contenders: Vec::new(), skipped })
    };
    let bed = match Bed::new(scale, seed, attack, duration) {
        Ok(bed) => Rc::new(RefCell::new(bed)),
        Err(Failure::Skipped(reason)) => return all_skipped(reason),
        Err(failure) => return Err(failure),
    };
    let contender = |filter| Box::new(Goodput { bed: Rc::clone(&bed), filter }) as _;
    Ok(Group { rounds, contenders: Filter::ALL.map(contender).into(), skipped: Vec::new() })
}

/// What the contenders of a group share.
struct Bed {
    programs: Programs,
    wire: Wire,
    sessions: Sessions,
    flood: Flood,
    is_strict: bool,
    /// Takes what the validator answers off the client's end of the wire.
    _sink: FdLink,
}

impl Bed {
    fn new(scale: Scale, seed: u64, attack: Attack, duration: Duration) -> Result<Self, Failure> {
        let is_strict = scale != Scale::Smoke;
        let mut programs = Programs::open(&generator::PROGRAMS, 1)?;
        let wire = Wire::lay(is_strict)?;
        let sessions = Sessions::new(seed, scale.pick(WINDOW, WINDOW, 1));
        let seconds = duration.as_secs_f64() + 0.2;
        let valid_count = (1.05 * f64::from(VALID_RATE) * seconds).ceil();
        let valid_count = Duration::from_secs_f64(valid_count).as_secs();
        let valid_count = u32::try_from(valid_count).expect("a few seconds of packets");
        generator::prepare(&mut programs, &sessions.submits(valid_count))?;
        let sink = attach(&wire.client, programs.xdp_mut("empty_drop"))?;
        let flood = Flood {
            attack,
            duration,
            attack_rate: ATTACK_RATE,
            valid_rate: VALID_RATE + VALID_RATE / 20,
            valid_count,
        };
        Ok(Self { programs, wire, sessions, flood, is_strict, _sink: sink })
    }

    /// Measures once, and again where the flood was not what it should be: then nothing was tested.
    fn round(&mut self, filter: Filter) -> Result<Round, Failure> {
        let mut round = self.try_round(filter)?;
        for again in 1..TRIES_MAX {
            if round.invalid.is_none() {
                break;
            }
            round = self.try_round(filter)?;
            round.note = Some(format!("a round was repeated {again} times for a slow generator"));
        }
        Ok(round)
    }

    fn try_round(&mut self, filter: Filter) -> Result<Round, Failure> {
        let (standing, rings) = self.stand(filter)?;
        let twin = (filter == Filter::Twin).then(|| self.twin()).transpose()?;
        let softirq_before = self.wire.softirq_time()?;
        let began = Instant::now();
        let (sent, received) = self.exchange(rings, twin)?;
        let elapsed = began.elapsed();
        let softirq = self.wire.softirq_time()?.saturating_sub(softirq_before);
        drop(standing);
        Ok(self.figures(&sent, &received, softirq, elapsed))
    }

    /// Sends while the application receives.
    fn exchange(
        &mut self,
        rings: Vec<Ring>,
        twin: Option<Policy>,
    ) -> Result<(Sent, Received), Failure> {
        let Self { programs, wire, sessions, flood, .. } = self;
        let (ready, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let door = sessions.door();
        let call = || {
            // Whoever waits for this thread is not to wait for ever.
            let _set = host::SetAtEnd(&ready);
            let address = SocketAddr::new(SERVER.into(), PORT);
            let receiver = Receiver::bind(address, &receive::Options::default())
                .map_err(|error| Failure::machine("receive", error))?;
            serve(Ingress::new(receiver, rings), door, twin, &ready, &stop)
        };
        thread::scope(|scope| {
            let application = wire.server.spawn(scope, call);
            while !ready.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            let sent = generator::run(programs, wire, flood);
            thread::sleep(GRACE);
            stop.store(true, Ordering::Relaxed);
            let received = join(application)?;
            Ok((sent?, received))
        })
    }

    fn figures(
        &self,
        sent: &Sent,
        received: &Received,
        softirq: Duration,
        elapsed: Duration,
    ) -> Round {
        let seconds = sent.elapsed.as_secs_f64();
        let attack_rate = float(sent.attack) / seconds;
        let share = |time: Duration| 100.0 * time.as_secs_f64() / elapsed.as_secs_f64();
        let values = vec![
            100.0 * float(received.accepted) / float(sent.valid.max(1)),
            attack_rate / 1e6,
            float(sent.valid),
            float(received.accepted),
            float(received.packets),
            share(softirq),
            share(received.time),
        ];
        let is_attacked = self.flood.attack != Attack::None;
        let asked = f64::from(VALID_RATE) * seconds;
        let reason = if is_attacked && attack_rate < ATTACK_RATE_MIN {
            Some(format!("{:.2} million attack packets a second", attack_rate / 1e6))
        } else if float(sent.valid) < VALID_SHARE_MIN * asked {
            Some(format!("{} honest packets sent of {asked:.0}", sent.valid))
        } else {
            None
        };
        let invalid = reason
            .filter(|_| self.is_strict)
            .map(|reason| Invalid { bottleneck: "generator".to_owned(), reason });
        Round { values, invalid, note: None }
    }

    /// Puts a filter in its place; the rings are for the application.
    fn stand(&mut self, filter: Filter) -> Result<(Standing, Vec<Ring>), Failure> {
        let standing = match filter {
            Filter::None | Filter::Twin => Standing::Nothing,
            Filter::Ideal => {
                let program = self.programs.xdp_mut("ideal");
                Standing::Program { _link: attach(&self.wire.server, program)? }
            }
            Filter::Nftables => Standing::Rules { _rules: Rules::set(&self.wire.server)? },
            Filter::Xdp | Filter::XdpRing => return self.kernel(filter == Filter::XdpRing),
        };
        Ok((standing, Vec::new()))
    }

    fn kernel(&self, redirect: bool) -> Result<(Standing, Vec<Ring>), Failure> {
        let refused = |error| Failure::Skipped(format!("no kernel program: {error}"));
        let (mut kernel, mut tables) = Kernel::load(SESSIONS).map_err(refused)?;
        set_up(&tables)?;
        tables.set_flags(Flags { enforce: true, redirect, answer: true });
        self.sessions.install(&mut tables);
        let interface_index = self.wire.server.index()?;
        self.wire.server.call(|| {
            kernel.attach(interface_index, Hook::Driver).map_err(refused)?;
            let mut rings = Vec::new();
            if redirect {
                let ring = open_ring(interface_index, false)?;
                kernel.register(ring.queue(), ring.as_fd()).map_err(refused)?;
                rings.push(ring);
            }
            Ok((Standing::Kernel { _kernel: Box::new(kernel) }, rings))
        })
    }

    fn twin(&self) -> Result<Policy, Failure> {
        let mut tables = Tables::plain(SESSIONS);
        set_up(&tables)?;
        tables.set_flags(Flags { enforce: true, redirect: false, answer: true });
        self.sessions.install(&mut tables);
        Ok(Policy::new(tables))
    }
}

/// Keeps a filter where it is until it is dropped.
enum Standing {
    Nothing,
    Program { _link: FdLink },
    Rules { _rules: Rules },
    Kernel { _kernel: Box<Kernel> },
}

/// A table of nftables, until it is dropped.
struct Rules {
    end: End,
}

impl Rules {
    fn set(end: &End) -> Result<Self, Failure> {
        let interface = &end.interface;
        let rules = format!(
            "add table netdev bench; \
             add chain netdev bench flood \
             {{ type filter hook ingress device \"{interface}\" priority 0; }}; \
             add rule netdev bench flood ip saddr != 10.77.0.2 udp dport {PORT} drop"
        );
        // Whatever fails below, what was made before it goes.
        let made = Self { end: end.clone() };
        match end.exec(&["nft", &rules]) {
            Ok(_) => Ok(made),
            Err(Failure::Machine(reason)) => Err(Failure::Skipped(reason)),
            Err(failure) => Err(failure),
        }
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        // The namespace goes too, later.
        let _ = self.end.exec(&["nft", "delete table netdev bench"]);
    }
}

/// Attaches one of the bench's programs to an end of the wire.
pub(super) fn attach(end: &End, program: &mut Xdp) -> Result<FdLink, Failure> {
    let interface = end.index()?;
    let refused = |what: &str| Failure::Skipped(format!("no XDP on a wire here: {what}"));
    end.call(|| {
        let id = program
            .attach_to_if_index(interface, XdpMode::Driver)
            .map_err(|error| refused(&error.to_string()))?;
        let link = program.take_link(id).expect("it was attached just now");
        FdLink::try_from(link).map_err(|_| refused("the kernel knows no links"))
    })
}

/// The ring of the one queue that the wire has.
pub(super) fn open_ring(interface_index: u32, zero_copy: bool) -> Result<Ring, Failure> {
    let options = RingOptions { interface_index, queue: 0, zero_copy, checksum_partial: true };
    Ring::open(options).map_err(|error| Failure::Skipped(error.to_string()))
}

/// The settings of a public validator at one address.
fn set_up(tables: &Tables) -> Result<(), Failure> {
    let setup = Setup {
        keys: Keys::new(std::array::from_fn(|at| u8::try_from(at).expect("below 32"))),
        limits: Limits::default(),
        udp_port: PORT,
        tcp_ports: [0, 0],
        local: vec![(IpAddr::from(SERVER), Port::Udp as u32)],
        peers: Vec::new(),
    };
    tables.set_up(&setup).map_err(|error| Failure::machine("set the filter up", error))
}

/// One filter on the shared wire.
struct Goodput {
    bed: Rc<RefCell<Bed>>,
    filter: Filter,
}

impl Contender for Goodput {
    fn label(&self) -> Label {
        label(self.filter)
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    /// Without an attack, next to all of what is honest arrives.
    fn check(&mut self) -> Result<(), Failure> {
        let mut bed = self.bed.borrow_mut();
        if !bed.is_strict {
            return Ok(());
        }
        let flood = bed.flood;
        bed.flood = Flood { attack: Attack::None, duration: flood.duration / 4, ..flood };
        let round = bed.round(self.filter);
        bed.flood = flood;
        let goodput = round?.values[0];
        if goodput < QUIET_GOODPUT_MIN {
            return Err(Failure::Wrong(format!("{goodput:.1} % arrive while nobody attacks")));
        }
        Ok(())
    }

    /// The check has worked once already.
    fn warm_up(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let round = self.bed.borrow_mut().round(self.filter)?;
        if round.values[0] > GOODPUT_MAX {
            return Err(Failure::Wrong(format!("{} % of what was sent", round.values[0])));
        }
        Ok(round)
    }
}

/// A count as a figure: exact below 2^53.
fn float(count: u64) -> f64 {
    count as f64
}
