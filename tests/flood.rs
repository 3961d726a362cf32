//! What goes wrong: a validator's port is flooded. Needs root and `ip`; what the kernel's filter does
//! when it cannot run as it should is looked at too.

use net_ebpf::filter::kernel::{Hook, Kernel};
use std::{
    net::UdpSocket,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};
use tests::{
    cluster::{Cluster, alone},
    load::{Load, Offer},
    namespace::{Namespaces, WIRE, address},
    process::{command, finish},
};
use validator::{client::load::Transport, command::network::listen_from, handle::PacketStatus};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
const WITHOUT: &str = env!("CARGO_BIN_EXE_without");
/// First of a validator's ports; each has its own address.
const PORT: u16 = 4_000;
/// Time for anything: debug builds share two cores.
const PATIENCE: Duration = Duration::from_secs(90);
/// Of the namespaces beyond the validators': whose flood nobody minds, and who floods.
const SINK: usize = 4;
const ATTACKER: usize = 5;
/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(5);

fn namespaces(count: u8) -> Option<Namespaces> {
    match Namespaces::create(count) {
        Ok(namespaces) => Some(namespaces),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

/// Four validators of which those that run filter their wire.
fn create(authors: u32) -> Cluster {
    let listen = (0..4).map(|index| listen_from(address(index), PORT)).collect();
    let mut cluster = Cluster::create_at(PROGRAM, authors, listen);
    for index in 0..cluster.size() {
        cluster.set(index, "ALTHING_NET_XDP", WIRE);
    }
    cluster
}

/// Starts a validator in its namespace, through these words before the program.
fn start(cluster: &mut Cluster, namespaces: &Namespaces, index: usize, words: &[&str]) {
    let mut line: Vec<&str> = namespaces.exec(index).to_vec();
    line.extend(words);
    line.push(PROGRAM);
    let mut command = cluster.start_command(index, &line);
    cluster.start_with(index, &mut command);
}

fn count(packets: &PacketStatus, verdict: &str) -> u64 {
    let found = packets.kernel.iter().find(|count| count.verdict == verdict);
    found.map_or(0, |count| count.count)
}

/// Sends all kinds of attack from one socket until it is told to stop; answers how many.
fn flood(target: (std::net::IpAddr, u16), stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    socket.connect(target).expect("a route");
    let mut garbage = [0x5a; 200];
    let mut forged = [0; 300];
    forged[..4].copy_from_slice(&[0x61, 0x6c, 1, 1]);
    let mut hello = [0; 48];
    hello[..4].copy_from_slice(&[0x61, 0x6c, 1, 3]);
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        sent += 1;
        let label = sent.to_le_bytes();
        garbage[100..108].copy_from_slice(&label);
        // The place of a session that exists, each generation in turn, any counter and any token.
        let generation = 1 + u32::try_from(sent % 4_095).expect("12 bits");
        forged[4..8].copy_from_slice(&(generation << 20).to_le_bytes());
        forged[8..16].copy_from_slice(&label);
        forged[16..24].copy_from_slice(&sent.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        hello[8..16].copy_from_slice(&label);
        for packet in [&garbage[..], &forged, &hello] {
            // A full queue of the wire is no failure of the attacker's.
            let _: Result<usize, std::io::Error> = socket.send(packet);
        }
    }
    3 * sent
}

/// The capabilities that any thread of the validator with this config file holds.
fn capabilities(config: &Path) -> u64 {
    let config = config.to_str().expect("our folder");
    for entry in std::fs::read_dir("/proc").expect("a system with /proc").flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        if words.next() == Some(PROGRAM) && words.any(|word| word == config) {
            let threads = std::fs::read_dir(entry.path().join("task")).expect("it runs");
            let masks = threads.flatten().map(|thread| {
                let text = std::fs::read_to_string(thread.path().join("status"));
                let text = text.unwrap_or_default();
                let mask = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
                u64::from_str_radix(mask.unwrap_or("0").trim(), 16).expect("hexadecimal")
            });
            let masks: Vec<u64> = masks.collect();
            assert!(masks.len() > 5, "all threads are looked at");
            return masks.into_iter().fold(0, |all, mask| all | mask);
        }
    }
    panic!("the validator runs");
}

#[test]
fn a_flood_dies_before_the_process_and_honest_clients_do_not_notice() {
    let _alone = alone();
    let Some(namespaces) = namespaces(4) else {
        return;
    };
    let mut cluster = create(64);
    for index in 0..cluster.size() {
        start(&mut cluster, &namespaces, index, &[]);
    }
    let ask = |cluster: &Cluster| namespaces.reach(|| cluster.views());
    cluster.wait_through("all are ready", PATIENCE, ask, |views| {
        views.iter().all(|view| view.as_ref().is_some_and(|status| status.ready))
    });
    // The rights that the filter needed are gone.
    let held = capabilities(&cluster.network().config(0));
    for (bit, name) in
        [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (39, "CAP_BPF"), (21, "CAP_SYS_ADMIN")]
    {
        assert_eq!(held >> bit & 1, 0, "{name} is still held");
    }
    let offer = Offer { rate: 200, size: 512, drain: Duration::from_secs(30) };
    let load = namespaces.reach(|| Load::start_over(Transport::Udp, &cluster, offer));
    load.wait_for(200, PATIENCE);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let count = namespaces.reach(|| flood((address(0), PORT + 2), &stop));
            sent.store(count, Ordering::Relaxed);
        });
        thread::sleep(FLOOD);
        stop.store(true, Ordering::Relaxed);
    });
    load.wait_for(200, PATIENCE);
    let (report, told) = load.stop();
    let sent = sent.load(Ordering::Relaxed);
    let sessions = report.sessions.expect("it went by sessions");
    assert!(sessions.opened >= 4, "one with each validator: {sessions:?}");
    let status = namespaces.reach(|| cluster.api(0).status()).expect("it answers");
    let packets = &status.packets;
    println!("{sent} attack packets, {} transactions final, {packets:?}", told.len());
    assert!(sent > 10_000, "a flood");
    for verdict in ["magic", "session", "source_rate"] {
        let count = count(packets, verdict);
        assert!(count > sent / 10, "{verdict}: {count} of {sent}");
    }
    // One generation of 4,095 is the session's: those few packets were compared with its tokens.
    let compared = count(packets, "token");
    assert!((1..=sent / 4_095 + 1).contains(&compared), "{compared} of {sent}");
    assert!(count(packets, "submit") > 100 && count(packets, "handshake") >= 1);
    assert!(packets.sessions >= 1 && packets.blocked == 0, "nobody was blamed");
    // Of the flood the process saw what the budgets of strangers let through.
    let seen: u64 = packets.process.iter().map(|count| count.count).sum();
    assert!(seen < told.len() as u64 + 20_000, "{seen} of {sent} reached the process");
    assert_eq!(report.counts.lost, 0, "honest transactions are all final");

    let [ip, words @ ..] = namespaces.exec_bridge();
    let mut shown = command(ip);
    shown.args(words).arg(PROGRAM).args(["xdp", "status", "--to", &cluster.url(0).to_string()]);
    let text = finish(&mut shown, PATIENCE).expect_code(0).text();
    for part in ["xdp_driver (xdp on wire: enforce", "AF_XDP", "magic", "enforce on wire"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    // A process that is killed takes its program with it.
    assert!(namespaces.describe(0).contains("xdp"), "{}", namespaces.describe(0));
    cluster.kill_all();
    let end = Instant::now() + Duration::from_secs(10);
    while namespaces.describe(0).contains("xdp") {
        assert!(Instant::now() < end, "{}", namespaces.describe(0));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Offers a load by sessions while this is flooded by somebody else, for ten seconds: sessions are opened
/// under the flood too. Answers how much of it became final and the 99th percentile of the time to that.
fn under_flood(
    cluster: &Cluster,
    namespaces: &Namespaces,
    target: (std::net::IpAddr, u16),
) -> (usize, Duration) {
    let offer = Offer { rate: 2_000, size: 512, drain: Duration::from_secs(10) };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let attack = scope.spawn(|| namespaces.reach_from(ATTACKER, || flood(target, &stop)));
        let load = namespaces.reach(|| Load::start_over(Transport::Udp, cluster, offer));
        thread::sleep(Duration::from_secs(10));
        let (report, told) = load.stop();
        stop.store(true, Ordering::Relaxed);
        let sent = attack.join().expect("it only sends");
        let finality = report.finality.expect("something became final");
        println!(
            "{} attack packets to {}:{}: {} of {} final, p50 {:?}, p99 {:?}",
            sent,
            target.0,
            target.1,
            told.len(),
            report.counts.offered,
            finality.p50,
            finality.p99
        );
        (told.len(), finality.p99)
    })
}

#[test]
#[ignore = "measures for a minute: run it alone, in release, with --nocapture"]
fn a_flooded_validator_against_the_same_flood_of_a_sink() {
    let _alone = alone();
    let Some(namespaces) = namespaces(6) else {
        return;
    };
    let mut cluster = create(256);
    for index in 0..cluster.size() {
        start(&mut cluster, &namespaces, index, &[]);
    }
    let ask = |cluster: &Cluster| namespaces.reach(|| cluster.views());
    cluster.wait_through("all are ready", PATIENCE, ask, |views| {
        views.iter().all(|view| view.as_ref().is_some_and(|status| status.ready))
    });
    // Nobody listens at the sink; its kernel drops what comes.
    let sink = namespaces.reach_from(SINK, || UdpSocket::bind((address(SINK), PORT + 2)));
    let _sink = sink.expect("a free port");
    let (mut finals, mut times) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..3 {
        for (place, target) in [(0, address(SINK)), (1, address(0))] {
            let (count, p99) = under_flood(&cluster, &namespaces, (target, PORT + 2));
            finals[place].push(count);
            times[place].push(p99);
        }
    }
    finals.iter_mut().for_each(|list| list.sort());
    times.iter_mut().for_each(|list| list.sort());
    let (goodput, slower) = (
        finals[1][1] as f64 / finals[0][1] as f64,
        times[1][1].as_secs_f64() / times[0][1].as_secs_f64(),
    );
    println!("medians of 3: goodput {goodput:.3} of the control, p99 {slower:.2} times it");
    cluster.stop_all();
}

/// Starts validator 0 as it is set up, and answers how it says that datagrams come in.
fn what_runs(cluster: &mut Cluster, namespaces: &Namespaces, words: &[&str]) -> String {
    let before = cluster.log(0).len();
    start(cluster, namespaces, 0, words);
    let end = Instant::now() + PATIENCE;
    let line = loop {
        let log = cluster.log(0);
        let found =
            log[before..].split_once(" net=").and_then(|(_, rest)| rest.split_once(" storage="));
        if let Some((net, _)) = found {
            break net.to_owned();
        }
        assert!(Instant::now() < end, "it says nothing:\n{log}");
        thread::sleep(Duration::from_millis(20));
    };
    // It also goes on to run.
    while namespaces.reach(|| cluster.api(0).status()).is_err() {
        assert!(Instant::now() < end, "{line}, but no answer:\n{}", cluster.log(0));
        thread::sleep(Duration::from_millis(50));
    }
    cluster.stop_all();
    println!("{line}");
    line
}

#[test]
fn whatever_is_missing_is_named_and_the_validator_runs() {
    let _alone = alone();
    let Some(namespaces) = namespaces(1) else {
        return;
    };
    let mut cluster = create(0);
    let with = |cluster: &mut Cluster, variable, value| cluster.set(0, variable, value);
    let line = what_runs(&mut cluster, &namespaces, &[WITHOUT, "capabilities"]);
    assert_eq!(line, "socket (xdp on wire: no CAP_NET_ADMIN and CAP_BPF)");
    let line = what_runs(&mut cluster, &namespaces, &[WITHOUT, "bpf"]);
    assert!(line.starts_with("socket (xdp on wire: the kernel refuses the maps: "), "{line}");
    let occupant = namespaces.reach_from(0, || {
        let (mut kernel, _tables) = Kernel::load(64).expect("root loads it");
        let interface = net_ebpf::interface::Interface::read(WIRE).expect("it is there");
        kernel.attach(interface.index, Hook::Driver).expect("nobody else is there");
        kernel
    });
    let line = what_runs(&mut cluster, &namespaces, &[]);
    let left = "socket (xdp on wire: another XDP program is attached; it is left alone)";
    assert_eq!(line, left);
    assert!(namespaces.describe(0).contains("xdp"), "it is still there");
    drop(occupant);
    with(&mut cluster, "ALTHING_NET_XDP_MODE", "generic");
    let line = what_runs(&mut cluster, &namespaces, &[]);
    assert!(line.starts_with("xdp_generic (xdp on wire: enforce, "), "{line}");
    with(&mut cluster, "ALTHING_NET_XDP_POLICY", "observe");
    let line = what_runs(&mut cluster, &namespaces, &[]);
    assert_eq!(line, "xdp_generic (xdp on wire: observe, sockets)");
    with(&mut cluster, "ALTHING_NET_XDP_MODE", "off");
    assert_eq!(what_runs(&mut cluster, &namespaces, &[]), "socket (xdp: turned off)");
    with(&mut cluster, "ALTHING_NET_XDP_MODE", "auto");
    with(&mut cluster, "ALTHING_NET_XDP", "nothing0");
    let mut line: Vec<&str> = namespaces.exec(0).to_vec();
    line.push(PROGRAM);
    let mut wrong: Command = cluster.start_command(0, &line);
    finish(&mut wrong, PATIENCE).expect_refusal(4, &["no network interface", "lo, wire"]);
}
