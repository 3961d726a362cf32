//! Durable appends: bandwidth and the time to an acknowledgement, by group size and depth.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use storage::{Backend, Body, Error, NO_HEIGHT, Options, Record, Store};
use tempfile::TempDir;

use super::naive::Naive;
use super::{BACKENDS, random_bytes, size_name};
use crate::suite::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Scale, Settings,
};

/// What a store may add to a record without needing another 4 KiB; its frame takes about 220.
const FRAME_BYTES_MAX: usize = 512;
/// Any kind that is no other record's.
const KIND: u8 = 1;
/// Latencies up to a minute, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// How often the bytes of a record are written in the zeroed file that the store makes: once as
/// zeros, once more as zeros since the file is twice as large as needed, and once for good.
const WRITTEN_TIMES_STORE: u64 = 3;
/// Zeros, then the record.
const WRITTEN_TIMES_NAIVE: u64 = 2;

pub(super) const METRICS: [Metric; 3] = [
    Metric { name: "bandwidth", unit: "MB/s", better: Better::Higher },
    Metric { name: "ack_us_p50", unit: "us", better: Better::Lower },
    Metric { name: "ack_us_p99", unit: "us", better: Better::Lower },
];

/// One size of groups, and how much of it a round writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// What a group takes on disk.
    pub(super) group_bytes: usize,
    /// Groups of one round.
    pub(super) groups: u32,
    /// Most groups that are outstanding where more than one is.
    pub(super) depth: u32,
    /// Whether the portable backend is measured at that depth too.
    pub(super) portable_deep: bool,
}

impl Size {
    pub(super) fn group_bytes_u64(self) -> u64 {
        u64::try_from(self.group_bytes).expect("a usize has at most 64 bits")
    }

    /// The length of the record that makes a group of this size.
    pub(super) const fn body_bytes(self) -> usize {
        self.group_bytes - FRAME_BYTES_MAX
    }

    /// The groups of all rounds, the warm-up and the check.
    fn groups_all(self, rounds: Rounds) -> u64 {
        u64::from(self.groups) * (u64::from(rounds.max) + 1) + 1
    }

    /// What the whole group writes, zeros included.
    pub(super) fn bytes_written(self, rounds: Rounds) -> u64 {
        let stores = if self.portable_deep { 6 } else { 5 };
        let times = WRITTEN_TIMES_NAIVE + stores * WRITTEN_TIMES_STORE;
        self.groups_all(rounds) * self.group_bytes_u64() * times
    }
}

/// The group sizes of a run.
pub(super) fn sizes(scale: Scale) -> Vec<Size> {
    let sizes = scale.pick(
        [(4 << 10, 512), (64 << 10, 40), (1 << 20, 8)],
        [(4 << 10, 96), (64 << 10, 12), (1 << 20, 4)],
        [(4 << 10, 4), (64 << 10, 2), (1 << 20, 1)],
    );
    let depth = scale.pick(8, 4, 2);
    let portable_deep = scale.pick(true, false, true);
    sizes
        .into_iter()
        .map(|(group_bytes, groups)| Size { group_bytes, groups, depth, portable_deep })
        .collect()
}

/// Plans the group of one size.
pub(super) fn plan(settings: &Settings, size: Size, rounds: Rounds) -> Plan {
    let (data, seed) = (settings.data.clone(), settings.seed);
    let parameters =
        vec![("group", size_name(size.group_bytes)), ("groups", size.groups.to_string())];
    Plan { parameters, open: Box::new(move || open(&data, seed, size, rounds)) }
}

fn open(data: &Path, seed: u64, size: Size, rounds: Rounds) -> Result<Group, Failure> {
    let body = random_bytes(seed, size.group_bytes_u64(), size.body_bytes());
    let groups = size.groups_all(rounds);
    let naive = Naive::new(data, size, groups, &body)?;
    let mut group = Group { rounds, contenders: vec![Box::new(naive)], skipped: Vec::new() };
    let body = Body::from(body);
    for (name, backend) in BACKENDS {
        for depth in [1, size.depth] {
            if depth > 1 && backend == Backend::Portable && !size.portable_deep {
                continue;
            }
            let label = label(name, depth);
            let open = || Stored::new(data, size, groups, depth, (name, backend), &body);
            match open() {
                Ok(stored) => group.contenders.push(Box::new(stored)),
                Err(Failure::Skipped(reason)) => {
                    group.skipped.push((label, reason));
                    continue;
                }
                Err(failure) => return Err(failure),
            }
            if backend == Backend::IoUring {
                group.contenders.push(Box::new(open()?.busy()));
            }
        }
    }
    Ok(group)
}

pub(super) fn label(backend: &'static str, depth: u32) -> Label {
    Label::new("storage::append").with("depth", depth.to_string()).with("backend", backend)
}

/// A store through one backend.
pub(super) struct Stored {
    size: Size,
    depth: u32,
    backend: &'static str,
    /// Whether every core has something else to do meanwhile.
    busy: bool,
    body: Body,
    store: Store,
    acknowledge: SyncSender<Acknowledgement>,
    acknowledged: Receiver<Acknowledgement>,
    /// Goes after the store, which is dropped first.
    _folder: TempDir,
}

/// The time from an append to its durability, or why it never will be durable.
type Acknowledgement = Result<Duration, Error>;

impl Stored {
    /// Opens a store of so many groups, of which at most `depth` are outstanding at once.
    ///
    /// Errors: the machine's; [`Failure::Skipped`] where the backend does not run.
    pub(super) fn new(
        data: &Path,
        size: Size,
        groups: u64,
        depth: u32,
        (backend, choice): (&'static str, Backend),
        body: &Body,
    ) -> Result<Self, Failure> {
        let folder =
            tempfile::tempdir_in(data).map_err(|error| Failure::machine("make a folder", error))?;
        let options = Options {
            // Twice what is needed: the next segment is prepared when this one is half full, and
            // zeroing it would be measured too. One MiB for the index at its end.
            segment_bytes: 2 * groups * size.group_bytes_u64() + (1 << 20),
            backend: choice,
            ..Options::new([0xbe; 32])
        };
        let (store, _) = Store::open(folder.path(), &options).map_err(|error| match error {
            Error::Backend { reason, .. } => Failure::Skipped(reason),
            other => Failure::machine("open a store", other),
        })?;
        let capacity = usize::try_from(depth).expect("a depth is small");
        let (acknowledge, acknowledged) = sync_channel(capacity);
        Ok(Self {
            size,
            depth,
            backend,
            busy: false,
            body: body.clone(),
            store,
            acknowledge,
            acknowledged,
            _folder: folder,
        })
    }

    /// The same while every core has something else to do.
    fn busy(self) -> Self {
        Self { busy: true, ..self }
    }

    fn append(&self) -> Result<(), Failure> {
        let record =
            Record { kind: KIND, height: NO_HEIGHT, key: [0; 32], body: self.body.clone() };
        let acknowledge = self.acknowledge.clone();
        let began = Instant::now();
        let done = move |outcome: Result<(), Error>| {
            // As many places as there may be outstanding: it never waits. A closed channel means
            // that the round has failed.
            let _ = acknowledge.try_send(outcome.map(|()| began.elapsed()));
        };
        self.store
            .append(vec![record], Some(Box::new(done)))
            .map_err(|error| Failure::machine("append", error))?;
        Ok(())
    }

    fn wait(&self) -> Result<Duration, Failure> {
        let outcome = self.acknowledged.recv().expect("this end holds a sender too");
        outcome.map_err(|error| Failure::machine("make a record durable", error))
    }
}

impl Contender for Stored {
    fn label(&self) -> Label {
        let label = label(self.backend, self.depth);
        if self.busy { label.with("cores", "busy") } else { label }
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        let backend = self.store.backend().name;
        if backend != self.backend {
            return Err(Failure::Wrong(format!("the store runs on {backend}")));
        }
        let key = [7; 32];
        let record = Record { kind: KIND, height: 1, key, body: self.body.clone() };
        let failed = |error| Failure::machine("append and read back", error);
        let ticket = self.store.append(vec![record], None).map_err(failed)?;
        self.store.wait(ticket).map_err(failed)?;
        let place = self.store.find(KIND, &key);
        let place = place.ok_or_else(|| Failure::Wrong("a durable record is lost".to_owned()))?;
        if self.store.read(place).map_err(failed)? != self.body.bytes() {
            return Err(Failure::Wrong("other bytes were read than were appended".to_owned()));
        }
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let durable_before = self.store.durable();
        let _load = self.busy.then(Load::start);
        let mut meter = Meter::start(self.size);
        let mut outstanding = 0;
        for _ in 0..self.size.groups {
            if outstanding == self.depth {
                meter.record(self.wait()?);
                outstanding -= 1;
            }
            self.append()?;
            outstanding += 1;
        }
        for _ in 0..outstanding {
            meter.record(self.wait()?);
        }
        let round = meter.finish();
        let durable = self.store.durable() - durable_before;
        if durable != u64::from(self.size.groups) {
            return Err(Failure::Wrong(format!("{durable} records are durable after a round")));
        }
        Ok(round)
    }
}

/// A thread for each core that never rests, until it is dropped.
struct Load {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Load {
    fn start() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let spin = |_| {
            let ends = Arc::clone(&ends);
            thread::spawn(move || {
                let mut turns = 0_u64;
                while !ends.load(Ordering::Relaxed) {
                    turns = std::hint::black_box(turns.wrapping_mul(3).wrapping_add(1));
                }
                turns
            })
        };
        let threads = (0..cores).map(spin).collect();
        Self { ends, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It only counts.
            let _ = thread.join();
        }
    }
}

/// Measures one round of appends.
pub(super) struct Meter {
    size: Size,
    began: Instant,
    ack_ns: Histogram<u64>,
}

impl Meter {
    pub(super) fn start(size: Size) -> Self {
        let ack_ns = Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3)
            .expect("the bounds are constants in range");
        Self { size, began: Instant::now(), ack_ns }
    }

    pub(super) fn record(&mut self, ack: Duration) {
        let ack_ns = u64::try_from(ack.as_nanos()).unwrap_or(LATENCY_NS_MAX);
        self.ack_ns.saturating_record(ack_ns);
    }

    pub(super) fn finish(self) -> Round {
        let elapsed_s = self.began.elapsed().as_secs_f64();
        assert_eq!(self.ack_ns.len(), u64::from(self.size.groups), "every group was acknowledged");
        let body = u32::try_from(self.size.body_bytes()).expect("groups are below 4 GiB");
        let megabytes = f64::from(self.size.groups) * f64::from(body) / 1e6;
        let micros = |share| {
            let ack_us = Duration::from_nanos(self.ack_ns.value_at_quantile(share));
            ack_us.as_secs_f64() * 1e6
        };
        Round::valid(vec![megabytes / elapsed_s, micros(0.50), micros(0.99)])
    }
}
