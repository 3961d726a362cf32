//! The kernel program and its twin, side by side: the same frames, clocks and tables must give the same
//! verdicts, the same answers and the same state.

use super::{
    ANSWERING,
    frames::{Frame, Random, datagram},
    setup, tables_for,
};
use crate::{
    Verdict,
    abi::Session,
    filter::kernel::{Kernel, KernelError},
    policy::{Limits, Policy, Rate, cookie},
    session::Tokens as _,
    tables::{Flags, Setup, Tables},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// No multiple of the sessions whose generations share a word.
const SESSIONS: u32 = 66;
const DROP: u32 = 1;
const PASS: u32 = 2;
const TRANSMIT: u32 = 3;

/// How many frames, and from which seed: `ALTHING_ITEMS`, `ALTHING_SEED`.
fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The loaded program, or why there is none.
pub(crate) fn kernel() -> Option<(Kernel, Tables)> {
    match Kernel::load(SESSIONS) {
        Ok(loaded) => Some(loaded),
        // Without privileges, or where the kernel has no BPF; a program that it refuses is a failure.
        Err(KernelError::Refused { source, .. })
            if matches!(source.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) =>
        {
            println!("skipped: {source}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// What both sides know, and what the packets are drawn from.
struct World {
    random: Random,
    now_ns: u64,
    enforce: bool,
    /// Tokens that were put into slots lately, spent or not: session, counter, token.
    tokens: Vec<(u32, u64, u64)>,
}

fn addresses(v6: bool) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    if v6 {
        let sources = [
            "2001:db8:1::1",
            "2001:db8:1::2",
            "2001:db8:1:1::1",
            "2001:db8:2::9",
            "fe80::1",
            "::1",
            "::",
            "ff02::1",
            "::ffff:192.0.2.7",
            "2001:db8:9::9",
        ];
        let destinations = ["2001:db8::1", "2001:db8::2", "2001:db8::77", "::ffff:10.0.0.1"];
        (parse(&sources), parse(&destinations))
    } else {
        let sources = [
            "192.0.2.1",
            "192.0.2.2",
            "192.0.3.1",
            "198.51.100.7",
            "203.0.113.9",
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "239.1.2.3",
            "223.255.255.255",
            "240.0.0.1",
        ];
        let destinations = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.77"];
        (parse(&sources), parse(&destinations))
    }
}

impl World {
    /// Both sides' tables change alike.
    fn change(&mut self, sides: [&mut Tables; 2]) {
        let random = &mut self.random;
        let [first, second] = sides;
        match random.below(128) {
            0..=119 => {
                let (index, counter) = (random.below(66), random.word() >> random.below(64));
                let token = if random.once_in(16) { 0 } else { random.word() };
                let slot = index * 1_024 + usize::try_from(counter % 1_024).unwrap();
                first.put(slot, token);
                second.put(slot, token);
                let index = u32::try_from(index).unwrap();
                let mut generation = first.generation(index).unwrap();
                if generation == 0 || random.once_in(16) {
                    generation = 1 + u32::try_from(random.below(4_095)).unwrap();
                    first.open(Session::new(index, generation));
                    second.open(Session::new(index, generation));
                }
                let session = generation << 20 | index;
                if self.tokens.len() == 64 {
                    self.tokens.remove(0);
                }
                self.tokens.push((session, counter, token));
            }
            120 | 121 => {
                let v6 = random.once_in(2);
                let source = random.pick(&addresses(v6).0);
                // Mostly soon over.
                let until = self.now_ns.wrapping_add(random.word() >> (20 + random.below(44)));
                first.block(source, self.now_ns, until);
                second.block(source, self.now_ns, until);
            }
            122 => {
                let listed = first.expire(self.now_ns);
                assert_eq!(listed, second.expire(self.now_ns));
            }
            123 => {
                self.enforce = !random.once_in(8);
                let answer = !random.once_in(8);
                let flags = Flags { enforce: self.enforce, redirect: false, answer };
                first.set_flags(flags);
                second.set_flags(flags);
            }
            _ => {
                let mut local = setup().local;
                local.truncate(random.below(local.len() + 1));
                if !random.once_in(4) {
                    local = setup().local;
                }
                first.set_local(&local).unwrap();
                second.set_local(&local).unwrap();
            }
        }
    }

    /// The clock goes on: nothing, a little, about an interval, or to where things end.
    fn pass_time(&mut self) {
        let random = &mut self.random;
        let step = match random.below(64) {
            0..=20 => 0,
            21..=40 => random.word() % 1_000,
            41..=61 => random.word() % 200_000,
            62 if random.once_in(20) => random.word() % (1 << 33),
            62 => 0,
            63 if random.once_in(10) => random.word() % (1 << 36),
            _ if random.once_in(100) => random.word() % (1 << 54),
            _ => 0,
        };
        self.now_ns = self.now_ns.saturating_add(step).min(1 << 62);
    }

    fn frame(&mut self, twin: &Tables) -> Vec<u8> {
        let random = &mut self.random;
        let v6 = random.once_in(2);
        let (sources, destinations) = addresses(v6);
        let port =
            if random.once_in(40) { 0 } else { 1_000 + u16::try_from(random.below(3)).unwrap() };
        let source = SocketAddr::new(random.pick(&sources), port);
        let ports = [4_002, 4_002, 4_002, 4_002, 4_000, 4_001, 53, 0];
        let to = if random.once_in(10) { random.pick(&destinations) } else { destinations[0] };
        let destination = SocketAddr::new(to, random.pick(&ports));
        let is_tcp = destination.port() != 4_002 && !random.once_in(8);
        let mut frame = if is_tcp {
            let flags = random.pick(&[0x02, 0x02, 0x02, 0x12, 0x10, 0x04, 0xc2, 0xff]);
            Frame::tcp(source, destination, flags)
        } else {
            let body = self.datagram(twin, source, destination);
            Frame::udp(source, destination, &body)
        };
        let random = &mut self.random;
        if random.once_in(12) {
            let tags = [0x8100, 0x88a8, 0x8100, 0x9100];
            frame.tags = (0..=random.below(3)).map(|_| random.pick(&tags)).collect();
        }
        if random.once_in(20) {
            frame.options = u8::try_from(random.below(11)).unwrap();
        }
        if random.once_in(12) {
            let kinds = [0, 43, 44, 51, 60, 135, 139, 140, 59, 50, 17, 6];
            let count = random.below(11);
            frame.extensions = (0..count)
                .map(|_| (random.pick(&kinds), u8::try_from(random.below(3)).unwrap()))
                .collect();
        }
        if random.once_in(16) {
            let raw = u16::try_from(random.below(65_536)).unwrap();
            frame.fragment = random.pick(&[0x2000, 0x4000, 0x8000, 1, 8, 0x2001, 0xfff8, raw]);
        }
        if random.once_in(24) {
            frame.protocol = random.pick(&[6, 17, 1, 58, 132]);
        }
        let mut bytes = frame.bytes();
        self.mutate(&mut bytes);
        bytes
    }

    fn datagram(&mut self, twin: &Tables, source: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let random = &mut self.random;
        match random.below(8) {
            0..=3 => {
                let known = (!self.tokens.is_empty()).then(|| random.pick(&self.tokens));
                let (mut session, mut counter, mut token) = known.unwrap_or((1 << 20, 1, 1));
                match random.below(13) {
                    12 => session ^= 1 << (20 + random.below(12)),
                    0 => session = u32::try_from(random.word() >> 32).unwrap() >> random.below(32),
                    1 => counter = counter.wrapping_add(1_024),
                    2 => counter = counter.wrapping_add(1),
                    3 => token ^= 1 << random.below(64),
                    4 => (session, token) = random.pick(&[(0, token), (session, 0), (0, 0)]),
                    _ => {}
                }
                let size = random.pick(&[204, 204, 560, 1_232, 203, 1_233, 48, 49]);
                datagram(1, session, counter, token, size)
            }
            4 | 5 => {
                let mut bytes = datagram(3, 0, random.word(), 0, 48);
                if random.once_in(12) {
                    bytes.resize(random.pick(&[49, 47, 160, 8, 0]), 0);
                }
                bytes
            }
            6 => {
                let flow = crate::frame::Flow {
                    source: source.ip(),
                    destination: to.ip(),
                    source_port: source.port(),
                    destination_port: to.port(),
                };
                let epoch = (self.now_ns >> 35).wrapping_sub(random.word() % 3);
                let token =
                    if random.once_in(8) { random.word() } else { cookie(twin, &flow, epoch) };
                let mut bytes = datagram(5, 0, random.word(), token, 160);
                bytes[24..40].fill(0);
                bytes[40..48].fill(0);
                if random.once_in(12) {
                    bytes.resize(random.pick(&[159, 161, 48, 1_233]), 0);
                }
                bytes
            }
            _ => {
                let size = random.below(1_300);
                let mut bytes = vec![0; size];
                bytes.iter_mut().for_each(|byte| *byte = random.word().to_le_bytes()[0]);
                let magic = [0x61, 0x6c, 1, 1];
                let right = random.below(5).min(size);
                bytes[..right.min(4)].copy_from_slice(&magic[..right.min(4)]);
                bytes
            }
        }
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let random = &mut self.random;
        if random.once_in(6) {
            // Most of what is looked at lies in the first hundred bytes.
            for _ in 0..=random.below(3) {
                let place = random.below(bytes.len().min(110));
                bytes[place] ^= 1 << random.below(8);
            }
        }
        if random.once_in(20) {
            bytes.truncate(14 + random.below(bytes.len() - 13));
        } else if random.once_in(20) {
            bytes.resize(bytes.len() + random.below(40), 0);
        }
    }
}

/// Limits that few packets reach.
fn tight() -> Limits {
    let rate = |packets_per_second, burst_packets| Rate { packets_per_second, burst_packets };
    Limits {
        hello: rate(50, 4),
        handshake: rate(20, 3),
        reply: rate(200, 12),
        peer_syn: rate(50, 5),
        syn: rate(50, 3),
    }
}

fn action(verdict: Verdict, enforce: bool) -> u32 {
    match verdict {
        Verdict::Drop(_) if enforce => DROP,
        Verdict::Cookie if enforce => TRANSMIT,
        _ => PASS,
    }
}

fn values(words: &[AtomicU64]) -> Vec<u64> {
    words.iter().map(|word| word.load(Relaxed)).collect()
}

fn assert_same_state(kernel: &Tables, twin: &Policy, seed: u64) {
    let plain = twin.tables();
    let same = values(&kernel.tokens) == values(&plain.tokens)
        && values(&kernel.generations) == values(&plain.generations)
        && values(&kernel.state) == values(&plain.state)
        && values(&kernel.control)[1..] == values(&plain.control)[1..];
    assert!(same, "seed {seed}: the same verdicts left different tables");
    assert_eq!(kernel.counters(), *twin.counters(), "seed {seed}");
}

#[test]
fn program_and_twin_agree_on_every_frame() {
    let Some((kernel, mut tables)) = kernel() else {
        return;
    };
    let (items, seed) = (asked("ALTHING_ITEMS", 1_000_000), asked("ALTHING_SEED", 1));
    let mut twin = Policy::new(tables_for(SESSIONS));
    for table in [&tables, twin.tables()] {
        table.set_up(&Setup { limits: tight(), ..setup() }).unwrap();
    }
    let mut world = World {
        random: Random(seed),
        // The times of listed sources have 24 bits of seconds: their turn comes early.
        now_ns: (1 << 54) - (1 << 36),
        enforce: true,
        tokens: Vec::new(),
    };
    for table in [&tables, twin.tables()] {
        table.set_flags(ANSWERING);
        table.set_tick(1);
    }
    let cpu = stay_on_one_cpu();
    for item in 0..items {
        if world.random.once_in(3) {
            world.change([&mut tables, twin.tables_mut()]);
        }
        world.pass_time();
        tables.set_clock(world.now_ns);
        let frame = world.frame(twin.tables());
        let mut answered = frame.clone();
        let verdict = twin.judge_frame(world.now_ns, cpu, &mut answered);
        let run = kernel.test_run(&frame).unwrap();
        let expected = (action(verdict, world.enforce), answered.as_slice());
        let place = format!("seed {seed}, item {item}, {verdict:?}\n{frame:02x?}\n{answered:02x?}");
        assert_eq!((run.action, run.frame.as_slice()), expected, "{place}");
        if item % 50_000 == 0 {
            assert_same_state(&tables, &twin, seed);
        }
    }
    assert_same_state(&tables, &twin, seed);
    let counters = twin.counters();
    println!("{items} frames, 0 disagreements");
    for (verdict, count) in counters.iter() {
        println!("{:>16} {count}", verdict.name());
    }
    if items >= 100_000 {
        // Every verdict that a filter can give was given.
        let never = ["body", "network_rate", "global_rate"];
        let from_kernel = tables.counters();
        let reached = from_kernel.iter().filter(|(verdict, _)| in_program(*verdict));
        for (verdict, count) in reached {
            assert!(count > 0 || never.contains(&verdict.name()), "{}", verdict.name());
        }
    }
}

/// Verdicts up to the last that the program knows.
fn in_program(verdict: Verdict) -> bool {
    verdict.index() <= Verdict::Drop(crate::Reject::SynRate).index()
}

/// Keeps the thread on a CPU, whose budget for replies the twin then uses too.
fn stay_on_one_cpu() -> usize {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
    let allowed = sched_getaffinity(None).unwrap();
    let cpu = sched_getcpu();
    assert!(allowed.is_set(cpu));
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).unwrap();
    cpu
}

#[test]
fn the_kernels_own_clock_fills_a_bucket_again() {
    let Some((kernel, tables)) = kernel() else {
        return;
    };
    tables.set_up(&setup()).unwrap();
    tables.set_flags(ANSWERING);
    let (source, ours) = ("192.0.2.1:1000".parse().unwrap(), "10.0.0.1:4002".parse().unwrap());
    let hello = Frame::udp(source, ours, &datagram(3, 0, 7, 0, 48)).bytes();
    let answered = || -> u64 {
        let mut runs = (0..2_000).map(|_| kernel.test_run(&hello).unwrap());
        runs.by_ref().filter(|run| run.action == TRANSMIT).count() as u64
    };
    let began = std::time::Instant::now();
    let rate = setup().limits.hello;
    let most = |began: std::time::Instant, at_first: u64| {
        let ticks = u64::try_from(began.elapsed().as_millis()).unwrap() + 20;
        at_first + ticks * rate.packets_per_second / 1_000
    };
    let first = answered();
    let most_at_first = most(began, rate.burst_packets);
    assert!((rate.burst_packets..=most_at_first).contains(&first), "{first} of {most_at_first}");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (later, most_later) = (answered(), most(began, rate.burst_packets) - first);
    // Half a second is worth 25; a tick is at most 10 ms.
    assert!((24..=most_later).contains(&later), "{later} of {most_later}");
}

#[test]
fn many_cpus_spend_a_token_once_and_a_bucket_to_its_brim() {
    let Some((kernel, mut tables)) = kernel() else {
        return;
    };
    tables.set_up(&setup()).unwrap();
    tables.set_flags(ANSWERING);
    tables.set_clock(1 << 40);
    let (source, ours) = ("192.0.2.1:1000".parse().unwrap(), "10.0.0.1:4002".parse().unwrap());
    let hello = Frame::udp(source, ours, &datagram(3, 0, 7, 0, 48)).bytes();
    tables.open(Session::new(5, 1));
    let submits: Vec<Vec<u8>> = (1..=1_024)
        .map(|counter| {
            let token = counter * 77;
            tables.put(5 * 1_024 + usize::try_from(counter % 1_024).unwrap(), token);
            Frame::udp(source, ours, &datagram(1, 1 << 20 | 5, counter, token, 204)).bytes()
        })
        .collect();
    // Every thread sends every packet; the kernel moves them over the CPUs that there are.
    let (threads, hellos) = (4, 1_000);
    let start = std::sync::Barrier::new(threads);
    let passed: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let count = |frame, action| {
                        usize::from(kernel.test_run(frame).unwrap().action == action)
                    };
                    let submits = submits.iter().map(|frame| count(frame, PASS)).sum();
                    let hellos = (0..hellos).map(|_| count(&hello, TRANSMIT)).sum();
                    (submits, hellos)
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(passed.iter().map(|run| run.0).sum::<usize>(), submits.len());
    let burst = usize::try_from(setup().limits.hello.burst_packets).unwrap();
    assert_eq!(passed.iter().map(|run| run.1).sum::<usize>(), burst);
    let counters = tables.counters();
    assert_eq!(counters.of(Verdict::Submit), submits.len() as u64);
    let all = threads * (submits.len() + hellos);
    let counted: u64 = counters.iter().map(|(_, count)| count).sum();
    assert_eq!(counted, all as u64, "no CPU loses another's count");
}
