//! The gate: who answers, within which limits, and why.

use super::{limit::Bucket, plain, ring};
use crate::handle::Stop;
use ledger::Digest;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv6Addr, TcpListener},
    time::{Duration, Instant},
};
use storage::Store;

/// Connections of strangers at once, and of one of them: one address, or one network of IPv6.
const STRANGERS_MAX: usize = 24;
const STRANGER_MAX: usize = 8;
/// Connections of one address of a validator, which strangers take none of.
const VALIDATOR_MAX: usize = 16;
/// Connections at all.
const CONNECTIONS_MAX: usize = 96;
/// How long a connection may be without a question.
pub(super) const QUESTION_TIME: Duration = Duration::from_secs(30);
/// How long a part may take to leave: whoever is slower than 64 KiB/s is no help to anybody.
pub(super) const PART_TIME: Duration = Duration::from_secs(8);
/// How often connections are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// What is served, and within which limits.
pub struct Settings {
    /// Genesis digest.
    pub network: Digest,
    /// The ledger.
    pub store: Store,
    /// Bytes that may leave in a second, over all connections.
    pub bytes_per_second: u64,
    /// Addresses of the other validators.
    pub validators: BTreeSet<IpAddr>,
    /// When it ends.
    pub stop: Stop,
}

/// What answers, and why not io_uring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `io_uring` or `portable`.
    pub name: &'static str,
    /// Why this one.
    pub reason: String,
}

/// Answers on this thread until told to stop; `started` is told what answers before anybody is answered.
///
/// Shape: `wanted` is as for the store. Errors: the machine's; those of a connection end only it.
pub fn serve(
    listener: TcpListener,
    settings: Settings,
    wanted: storage::Backend,
    started: impl FnOnce(Backend),
) -> io::Result<()> {
    let reason = match wanted {
        storage::Backend::Portable => "chosen by option".to_owned(),
        storage::Backend::Auto | storage::Backend::IoUring => match ring::Ring::open() {
            Ok(ring) => {
                started(Backend { name: "io_uring", reason: ring.reason().to_owned() });
                return ring.serve(listener, settings);
            }
            Err(error) => format!("io_uring: {error}"),
        },
    };
    started(Backend { name: "portable", reason });
    plain::serve(listener, settings)
}

/// Who is connected, how long each may take, and what may leave.
pub(super) struct Limits<C> {
    bucket: Bucket,
    start: Instant,
    next: u64,
    validators: BTreeSet<IpAddr>,
    connections: BTreeMap<u64, (IpAddr, Instant, C)>,
}

/// Who counts as one: an address, of IPv6 the network that one host is given.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

impl<C> Limits<C> {
    pub(super) fn new(bytes_per_second: u64, validators: BTreeSet<IpAddr>) -> Self {
        Self {
            bucket: Bucket::new(bytes_per_second),
            start: Instant::now(),
            next: 0,
            validators: validators.into_iter().map(|it| it.to_canonical()).collect(),
            connections: BTreeMap::new(),
        }
    }

    /// Admits a connection; none where there are enough.
    pub(super) fn admit(&mut self, from: IpAddr, connection: C) -> Option<u64> {
        let is_validator = self.validators.contains(&from.to_canonical());
        let from = if is_validator { from.to_canonical() } else { origin(from) };
        let same = self.connections.values().filter(|(ip, ..)| *ip == from).count();
        let is_stranger = |(ip, ..): &&(IpAddr, Instant, C)| !self.validators.contains(ip);
        let strangers = self.connections.values().filter(is_stranger).count();
        let has_room = if is_validator {
            same < VALIDATOR_MAX
        } else {
            same < STRANGER_MAX && strangers < STRANGERS_MAX
        };
        if !has_room || self.connections.len() >= CONNECTIONS_MAX {
            return None;
        }
        self.next += 1;
        let due = Instant::now() + QUESTION_TIME;
        self.connections.insert(self.next, (from, due, connection));
        Some(self.next)
    }

    /// A connection may take so long for what it does now.
    pub(super) fn allow(&mut self, connection: u64, time: Duration) {
        if let Some((_, due, _)) = self.connections.get_mut(&connection) {
            *due = Instant::now() + time;
        }
    }

    /// Pays for what is about to leave; answers how long it waits before.
    pub(super) fn pay(&mut self, bytes: usize) -> Duration {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.bucket.take(now, bytes))
    }

    pub(super) fn end(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// The connections that took too long, or all.
    pub(super) fn overdue(&self, all: bool) -> impl Iterator<Item = &C> {
        let now = Instant::now();
        let overdue = self.connections.values().filter(move |(_, due, _)| all || *due < now);
        overdue.map(|(.., connection)| connection)
    }
}
