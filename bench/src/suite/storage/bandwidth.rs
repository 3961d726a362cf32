//! Durable bandwidth beside fio, the measure of what the device gives: the same bytes in the same
//! file system, every one synced before it counts.
//!
//! fio overwrites one file that it has laid out before, with direct writes and `fdatasync` after
//! every so many; ours appends and hashes. fio is started anew each round, but measures itself from
//! its first write on. Its buffers are of small pages: huge ones it takes from a reserve alone, which
//! few machines have.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use storage::{Backend, Body};
use tempfile::TempDir;

use super::append::{Size, Stored};
use super::{random_bytes, size_name};
use crate::suite::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Scale, Settings,
};

/// What a round writes, by scale.
fn round_bytes(scale: Scale) -> u64 {
    scale.pick(128 << 20, 64 << 20, 1 << 20)
}

const METRICS: [Metric; 1] = [Metric { name: "bandwidth", unit: "MB/s", better: Better::Higher }];

/// Ways of fio to write one size.
#[derive(Clone, Copy, Debug)]
struct Fio {
    engine: &'static str,
    depth: u32,
    /// Writes before each sync.
    writes_per_sync: u32,
}

/// One size of appends, fio's ways, and how many appends of ours are outstanding.
struct Case {
    bytes: usize,
    fio: &'static [Fio],
    depths: &'static [u32],
}

const CASES: [Case; 2] = [
    Case {
        bytes: 1 << 20,
        // Any depth: the best of them is what the device gives.
        fio: &[
            Fio { engine: "psync", depth: 1, writes_per_sync: 1 },
            Fio { engine: "io_uring", depth: 4, writes_per_sync: 1 },
            Fio { engine: "io_uring", depth: 8, writes_per_sync: 1 },
            Fio { engine: "io_uring", depth: 16, writes_per_sync: 1 },
        ],
        depths: &[1, 8, 32],
    },
    Case {
        bytes: 64 << 10,
        fio: &[
            Fio { engine: "psync", depth: 1, writes_per_sync: 1 },
            Fio { engine: "psync", depth: 1, writes_per_sync: 16 },
            Fio { engine: "io_uring", depth: 16, writes_per_sync: 16 },
        ],
        depths: &[64, 256],
    },
];

/// A median of five is asked for, whatever the noise.
fn rounds(settings: &Settings) -> Rounds {
    let count = settings.rounds.unwrap_or(settings.scale.pick(5, 3, 2));
    Rounds { min: count, max: count }
}

/// Bytes of every row of a run.
pub(super) fn bytes_written(settings: &Settings) -> u64 {
    let (scale, rounds) = (settings.scale, rounds(settings));
    let rows = |case: &Case| {
        // Ours are written as zeros first; of the rivals one writes everything several times.
        6 + case.fio.len() as u64 + 3 * case.depths.len() as u64
    };
    let rows: u64 = CASES.iter().map(rows).sum();
    rows * round_bytes(scale) * (u64::from(rounds.max) + 2)
}

/// Plans a group for each size.
pub(super) fn plans(settings: &Settings) -> Vec<Plan> {
    let rounds = rounds(settings);
    let plan = |case: &'static Case| {
        let (data, seed, scale) = (settings.data.clone(), settings.seed, settings.scale);
        let parameters = vec![
            ("write", size_name(case.bytes)),
            ("round", format!("{}MiB", round_bytes(scale) >> 20)),
        ];
        Plan { parameters, open: Box::new(move || open(&data, seed, scale, case, rounds)) }
    };
    let plans = CASES.iter().map(plan);
    #[cfg(feature = "rivals")]
    let plans = plans.chain(CASES.iter().map(|case| rivals_plan(settings, case, rounds)));
    plans.collect()
}

/// Other stores, in a group of their own: what some of them do in the background would slow whoever
/// comes next.
#[cfg(feature = "rivals")]
fn rivals_plan(settings: &Settings, case: &'static Case, rounds: Rounds) -> Plan {
    let (data, seed, scale) = (settings.data.clone(), settings.seed, settings.scale);
    let parameters = vec![("append", size_name(case.bytes)), ("stores", "all".to_owned())];
    let open = move || {
        let (size, body) = one_at_a_time(seed, scale, case);
        let mut contenders = super::rivals::all(&data, size, &body)?;
        let all = u64::from(size.groups) * (u64::from(rounds.max) + 1) + 1;
        let ours = ("io_uring", Backend::IoUring);
        let mut skipped = Vec::new();
        match Stored::new(&data, size, all, 1, ours, &Body::from(body)) {
            Ok(stored) => contenders.push(Box::new(stored)),
            Err(Failure::Skipped(reason)) => {
                skipped.push((super::append::label("io_uring", 1), reason));
            }
            Err(failure) => return Err(failure),
        }
        Ok(Group { rounds, contenders, skipped })
    };
    Plan { parameters, open: Box::new(open) }
}

/// A round of a quarter, since most of them are slow.
#[cfg(feature = "rivals")]
fn one_at_a_time(seed: u64, scale: Scale, case: &Case) -> (Size, Vec<u8>) {
    let bytes = u64::try_from(case.bytes).expect("a usize has at most 64 bits");
    let groups = (round_bytes(scale) / 4 / bytes).max(1);
    let groups = u32::try_from(groups).expect("a round is small");
    let size = Size { group_bytes: case.bytes, groups, depth: 1, portable_deep: false };
    (size, random_bytes(seed, bytes, size.body_bytes()))
}

fn open(
    data: &Path,
    seed: u64,
    scale: Scale,
    case: &'static Case,
    rounds: Rounds,
) -> Result<Group, Failure> {
    let mut group = Group { rounds, contenders: Vec::new(), skipped: Vec::new() };
    for way in case.fio {
        match FioRun::new(data, *way, case.bytes, round_bytes(scale)) {
            Ok(run) => group.contenders.push(Box::new(run)),
            Err(Failure::Skipped(reason)) => group.skipped.push((way.label(), reason)),
            Err(failure) => return Err(failure),
        }
    }
    let bytes = u64::try_from(case.bytes).expect("a usize has at most 64 bits");
    let groups = u32::try_from(round_bytes(scale) / bytes).expect("a round is small");
    for depth in case.depths {
        let size = Size { group_bytes: case.bytes, groups, depth: *depth, portable_deep: false };
        let body = Body::from(random_bytes(seed, bytes, size.body_bytes()));
        let all = u64::from(groups) * (u64::from(rounds.max) + 1) + 1;
        match Stored::new(data, size, all, *depth, ("io_uring", Backend::IoUring), &body) {
            Ok(stored) => group.contenders.push(Box::new(stored)),
            Err(Failure::Skipped(reason)) => {
                group.skipped.push((super::append::label("io_uring", *depth), reason));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(group)
}

impl Fio {
    fn label(&self) -> Label {
        Label::new("fio::write")
            .with("engine", self.engine)
            .with("depth", self.depth.to_string())
            .with("writes_per_sync", self.writes_per_sync.to_string())
    }
}

/// fio on a file of its own.
struct FioRun {
    way: Fio,
    bytes: usize,
    file: PathBuf,
    round_bytes: u64,
    _folder: TempDir,
}

/// What is read of fio's report.
#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    error: i64,
    write: Written,
    sync: Synced,
}

#[derive(Deserialize)]
struct Written {
    bw_bytes: u64,
    io_bytes: u64,
}

#[derive(Deserialize)]
struct Synced {
    lat_ns: Latencies,
}

#[derive(Deserialize)]
struct Latencies {
    #[serde(rename = "N")]
    count: u64,
}

impl FioRun {
    fn new(data: &Path, way: Fio, bytes: usize, round_bytes: u64) -> Result<Self, Failure> {
        let version = Command::new("fio").arg("--version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            return Err(Failure::Skipped("fio is not installed".to_owned()));
        }
        let folder =
            tempfile::tempdir_in(data).map_err(|error| Failure::machine("make a folder", error))?;
        let file = folder.path().join("fio");
        Ok(Self { way, bytes, file, round_bytes, _folder: folder })
    }

    fn run(&self) -> Result<Job, Failure> {
        let output = Command::new("fio")
            .args(["--name=write", "--rw=write", "--direct=1", "--overwrite=1", "--thread"])
            .arg("--output-format=json")
            .arg(format!("--filename={}", self.file.display()))
            .arg(format!("--bs={}", self.bytes))
            .arg(format!("--size={}", self.round_bytes))
            .arg(format!("--ioengine={}", self.way.engine))
            .arg(format!("--iodepth={}", self.way.depth))
            .arg(format!("--fdatasync={}", self.way.writes_per_sync))
            .output()
            .map_err(|error| Failure::machine("run fio", error))?;
        let told = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(Failure::machine("run fio", told.trim()));
        }
        let report: Report = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure::machine("read fio's report", error))?;
        let mut jobs = report.jobs.into_iter();
        let job = jobs.next().ok_or_else(|| Failure::machine("run fio", "it ran no job"))?;
        if job.error != 0 {
            return Err(Failure::machine("run fio", format!("error {}", job.error)));
        }
        Ok(job)
    }
}

impl Contender for FioRun {
    fn label(&self) -> Label {
        self.way.label()
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        let job = self.run()?;
        let writes = self.round_bytes / u64::try_from(self.bytes).expect("64 bits");
        let syncs = writes / u64::from(self.way.writes_per_sync);
        // It does not count the last one, with which it ends anyway.
        if job.write.io_bytes != self.round_bytes || job.sync.lat_ns.count + 1 < syncs {
            let (bytes, found) = (job.write.io_bytes, job.sync.lat_ns.count);
            return Err(Failure::Wrong(format!("fio wrote {bytes} bytes with {found} syncs")));
        }
        Ok(())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let job = self.run()?;
        // Megabytes as everywhere in the report; below 2^52, so that nothing is lost.
        Ok(Round::valid(vec![job.write.bw_bytes as f64 / 1e6]))
    }
}
