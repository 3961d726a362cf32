//! Everything that clients and peers come in by, opened before any thread starts.

use super::cores;
use super::threads::{Threads, fatal};
use crate::{
    command::Exit,
    config::{Config, Identity},
    cost::Meter,
    handle::{NodeHandle, PacketBoard, Stop},
    history,
    ingest::{self, udp},
};
use crossbeam::channel::bounded;
use ledger::Digest;
use net_ebpf::{
    filter::{self, Gate},
    interface,
    policy::{Limits, Policy, Rate},
    receive::{self, Ingress, Receiver},
    session::{self, AdmissionKey, Server},
    tables::{Keys, Port, Setup, Tables},
};
use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};
use storage::Store;
use zeroize::Zeroizing;

/// The share of one CPU that handshakes may take. Units: percent.
const HANDSHAKE_CPU_PERCENT: u32 = 5;

/// Bound sockets, and the kernel's filter where it runs.
pub(super) struct Doors {
    /// What carries packets.
    pub(super) gate: filter::Choice,
    /// Where the state of the packet path is published.
    pub(super) packets: Arc<PacketBoard>,
    intake: udp::Intake,
    answers: udp::Answers,
    tcp: TcpListener,
    http: TcpListener,
    /// Old blocks: served before anything else runs.
    pub(super) history: Option<TcpListener>,
}

impl Doors {
    /// Opens sockets and chooses the packet path; `announce` makes an admission key known.
    ///
    /// Errors: network, where a port is in use; host unfit, where an interface does not exist.
    pub(super) fn open(
        config: &Config,
        identity: &Identity,
        announce: impl FnMut(&AdmissionKey) + Send + 'static,
    ) -> Result<Self, Exit> {
        let listen = &config.listen;
        let tcp = bind("listen.tcp", listen.tcp)?;
        let http = bind("listen.http", listen.http)?;
        let history = Some(bind("listen.history", listen.history)?);
        // The engine binds these itself, and could only panic: a trial finds a port in use.
        drop(bind("listen.consensus", listen.consensus)?);
        drop(bind("listen.lanes", listen.lanes)?);
        let failed = |error| Exit::network(format!("listen.udp: {error}"));
        let receiver = Receiver::bind(listen.udp, &receive::Options::default()).map_err(failed)?;
        let udp = receiver.address();
        let local = our_ports(config, udp);
        let setup = Setup {
            keys: Keys::new(*random()?),
            limits: Limits::default(),
            udp_port: udp.port(),
            tcp_ports: [listen.consensus.port(), listen.lanes.port()],
            local: local_addresses(&local).unwrap_or_default(),
            peers: config.peers.iter().flat_map(|p| [p.consensus.ip(), p.lanes.ip()]).collect(),
        };
        let opened = Gate::open(&filter::Request {
            interface: config.net.xdp.as_deref(),
            wanted: config.net.mode,
            action: config.net.policy,
            sessions: config.ingest.sessions,
            setup: &setup,
        })
        .map_err(|error| Exit::host_unfit(format!("--xdp: {error}")))?;
        let tables = Tables::plain(config.ingest.sessions);
        let unfit = |error| Exit::host_unfit(format!("listen.udp: {error}"));
        // In the process the kernel has told whose a packet is.
        tables.set_up(&Setup { local: Vec::new(), ..setup }).map_err(unfit)?;
        let options = session::Options {
            sessions: config.ingest.sessions,
            network: *identity.genesis.digest().as_bytes(),
            rate: Rate {
                packets_per_second: config.ingest.packets_per_session,
                burst_packets: config.ingest.burst,
            },
            handshake_cpu_percent: HANDSHAKE_CPU_PERCENT,
        };
        let key = udp::fresh_key().ok_or_else(|| Exit::host_unfit("no random numbers"))?;
        let server = Server::new(&options, key, *random()?)
            .map_err(|error| Exit::config(format!("ingest: {error}")))?;
        let ingress = Ingress::new(receiver, opened.rings);
        let kernel_bytes = opened.attached.as_ref().map_or(0, |a| a.tables().memory_bytes());
        tracing::info!(
            socket = %ingress.receiver(),
            receive_bytes = ingress.memory_bytes(),
            sessions = options.sessions,
            session_bytes = server.memory_bytes() + tables.memory_bytes(),
            kernel_bytes,
            "packets"
        );
        let packets = Arc::new(PacketBoard::default());
        let is_wildcard = local.iter().any(|(ip, _)| ip.is_unspecified());
        let (intake, answers) = udp::join(udp::Parts {
            ingress,
            policy: Policy::new(tables),
            server,
            kernel: opened.attached,
            local: is_wildcard
                .then(|| -> udp::LocalAddresses { Box::new(move || local_addresses(&local)) }),
            announce: Box::new(announce),
            board: packets.clone(),
        })
        .map_err(failed)?;
        Ok(Self { gate: opened.choice, packets, intake, answers, tcp, http, history })
    }

    /// Starts the thread that answers whoever asks for old blocks; answers what it uses for that.
    pub(super) fn serve_history(
        &mut self,
        config: &Config,
        threads: &mut Threads,
        network: Digest,
        store: &Store,
        stop: &Stop,
    ) -> history::Backend {
        let listener = self.history.take().expect("the doors were just opened");
        let settings = history::Settings {
            network,
            store: store.clone(),
            bytes_per_second: config.storage.history_bytes,
            validators: config.peers.iter().map(|peer| peer.consensus.ip()).collect(),
            stop: stop.clone(),
        };
        let (told, backend) = bounded(1);
        let (wanted, cpus) = (config.storage.backend.into(), config.cores.network.clone());
        let serve = move || {
            let tell = |backend| drop(told.send(backend));
            if let Err(error) = history::serve(listener, settings, wanted, tell) {
                // Others serve it too.
                tracing::error!(%error, "old blocks are served no more");
            }
        };
        threads.start_bulk("history", cores::on(&cpus, serve));
        backend.recv().unwrap_or_else(|_| fatal(&"the history thread ended at its start"))
    }

    /// Starts the threads that take requests.
    ///
    /// Errors: host unfit, where the runtime of the HTTP interface cannot start.
    pub(super) fn serve(
        self,
        threads: &mut Threads,
        handle: NodeHandle,
        stop: &Stop,
    ) -> Result<(), Exit> {
        let Self { gate: _, packets: _, intake, answers, tcp, http, history: _ } = self;
        let (udp_handle, udp_stop) = (handle.clone(), stop.clone());
        threads.start("udp", move || {
            if let Err(error) = intake.run(&udp_handle, &udp_stop) {
                fatal(&format!("listen.udp: {error}"));
            }
        });
        let (metrics, answers_stop) = (handle.metrics.clone(), stop.clone());
        threads.start("udp_answers", move || answers.run(&metrics, &answers_stop));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Exit::host_unfit(format!("cannot start a runtime: {error}")))?;
        let stop = stop.clone();
        threads.start("api", move || {
            Meter::ON.open();
            let serve = async move {
                let (api, tcp) = (
                    crate::api::serve(http, handle.clone(), stop.clone()),
                    ingest::tcp::serve(tcp, handle, stop),
                );
                tokio::try_join!(api, tcp).map(drop)
            };
            if let Err(error) = runtime.block_on(serve) {
                fatal(&format!("listen.tcp or listen.http: {error}"));
            }
        });
        Ok(())
    }
}

/// How long a port may still be held by a process that was killed: the kernel ends its rings some time after it.
const HELD: Duration = Duration::from_secs(2);

fn bind(name: &str, address: SocketAddr) -> Result<TcpListener, Exit> {
    let end = Instant::now() + HELD;
    let listener = loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < end => {
                std::thread::sleep(HELD / 40);
            }
            bound => break bound,
        }
    };
    let listener = listener.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the port is in use: choose another, or stop its user",
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            std::io::ErrorKind::PermissionDenied => "not permitted: choose a port above 1023",
            _ => "cannot listen",
        };
        Exit::network(format!("{name} {address}: {hint} ({error})"))
    })?;
    listener
        .set_nonblocking(true)
        .map_err(|error| Exit::network(format!("{name} {address}: {error}")))?;
    Ok(listener)
}

/// The ports that the filter guards, each with the address that it is open at.
fn our_ports(config: &Config, udp: SocketAddr) -> Vec<(IpAddr, Port)> {
    vec![
        (udp.ip(), Port::Udp),
        (config.listen.consensus.ip(), Port::TcpFirst),
        (config.listen.lanes.ip(), Port::TcpSecond),
    ]
}

/// The addresses of this host at which they are open, as they are now; none where the kernel does
/// not tell.
///
/// IPv6 addresses of a link are left out unless configured: each interface has one, and no
/// client or validator is beyond a router there. What is sent to them passes to the socket.
fn local_addresses(ports: &[(IpAddr, Port)]) -> Option<Vec<(IpAddr, u32)>> {
    let host = interface::addresses().ok()?;
    let open = |&(ip, port): &(IpAddr, Port)| {
        let matching = host.iter().copied().filter(move |other| match (ip, other) {
            (IpAddr::V4(_), other) => other.is_ipv4(),
            // A socket of both families.
            (IpAddr::V6(_), IpAddr::V6(other)) => !other.is_unicast_link_local(),
            (IpAddr::V6(_), IpAddr::V4(_)) => true,
        });
        let all: Vec<IpAddr> =
            if ip.is_unspecified() { matching.collect() } else { vec![ip.to_canonical()] };
        all.into_iter().map(move |ip| (ip, port as u32))
    };
    Some(ports.iter().flat_map(open).collect())
}

fn random() -> Result<Zeroizing<[u8; 32]>, Exit> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)
        .map_err(|error| Exit::host_unfit(format!("no randomness from the system: {error}")))?;
    Ok(seed)
}
