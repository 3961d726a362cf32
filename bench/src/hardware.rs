//! The machine, as far as an unprivileged process can read it: what figures must stand beside.

pub mod cpu;
pub mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

pub use cpu::{Cpu, Processors};
pub use disk::Disk;

/// From this share of stolen processor time on, a run is called doubtful.
const STEAL_DOUBTFUL: f64 = 0.01;

/// Everything known about the machine; what could not be read is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// A digest of what does not change between runs: equal for equal machines.
    pub fingerprint: String,
    /// The processors.
    pub cpu: Cpu,
    /// The kernel's answer to each known flaw of processors.
    pub mitigations: BTreeMap<String, String>,
    /// All memory that the kernel has.
    pub memory_bytes: Option<u64>,
    /// What was available when the run began.
    pub memory_available_bytes: Option<u64>,
    /// Release and version of the kernel.
    pub kernel: Option<String>,
    /// The distribution.
    pub os: Option<String>,
    /// Runnable threads in the last minute before the run: others at work.
    pub load_average: Option<f64>,
    /// The disk under the data folder.
    pub disk: Disk,
    /// The program that measured.
    pub build: Build,
}

/// How the program was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The workspace's version.
    pub version: String,
    /// The commit that lies in the source folder now, where git answers.
    pub commit: Option<String>,
    /// Whether files there differ from that commit.
    pub modified: Option<bool>,
    /// The compiler.
    pub rustc: String,
    /// The profile that Cargo was given, or what it is derived from.
    pub profile: String,
    /// The compiler's optimisation level.
    pub opt_level: String,
    /// The target triple.
    pub target: String,
    /// The compiler flags that the user added.
    pub rustflags: String,
    /// Whether the rivals that take long to build are in it.
    pub rivals: bool,
}

impl Machine {
    /// Reads everything, and measures how long the disk under a folder takes to sync.
    pub fn read(data: &Path) -> Self {
        let cpu = Cpu::read();
        let meminfo_text = read("/proc/meminfo").unwrap_or_default();
        let memory = meminfo(&meminfo_text);
        let disk = Disk::read(data);
        let mut machine = Self {
            fingerprint: String::new(),
            cpu,
            mitigations: mitigations(),
            memory_bytes: memory.get("MemTotal").copied(),
            memory_available_bytes: memory.get("MemAvailable").copied(),
            kernel: kernel(),
            os: read("/etc/os-release").as_deref().and_then(os_name),
            load_average: read("/proc/loadavg")
                .and_then(|text| text.split(' ').next().and_then(|first| first.parse().ok())),
            disk,
            build: Build::read(),
        };
        machine.fingerprint = machine.digest();
        machine
    }

    fn digest(&self) -> String {
        let facts = (
            (&self.cpu.model, &self.cpu.features, self.cpu.logical, self.cpu.microcode.as_ref()),
            (self.memory_bytes, &self.kernel, &self.mitigations),
            (&self.disk.model, &self.disk.file_system, &self.disk.options),
        );
        let digest = blake3::hash(format!("{facts:?}").as_bytes());
        digest.to_hex()[..16].to_owned()
    }
}

impl Build {
    fn read() -> Self {
        let source = env!("CARGO_MANIFEST_DIR");
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: git(source, &["rev-parse", "HEAD"]),
            modified: git(source, &["status", "--porcelain"]).map(|text| !text.is_empty()),
            rustc: env!("BENCH_RUSTC").to_owned(),
            profile: env!("BENCH_PROFILE").to_owned(),
            opt_level: env!("BENCH_OPT_LEVEL").to_owned(),
            target: env!("BENCH_TARGET").to_owned(),
            rustflags: env!("BENCH_RUSTFLAGS").to_owned(),
            rivals: cfg!(feature = "rivals"),
        }
    }
}

/// What makes figures of this machine doubtful, in sentences.
pub fn warnings(machine: &Machine, steal_ratio: Option<f64>) -> Vec<String> {
    let mut warnings = Vec::new();
    if machine.build.opt_level != "3" {
        let level = &machine.build.opt_level;
        warnings.push(format!("built with opt-level {level}: figures mean nothing; use --release"));
    }
    if let Some(load) = machine.load_average
        && load > f64::from(machine.cpu.usable) * 0.5
    {
        let usable = machine.cpu.usable;
        warnings.push(format!("other work was running: load {load:.2} on {usable} processors"));
    }
    if let Some(steal) = steal_ratio
        && steal >= STEAL_DOUBTFUL
    {
        let percent = steal * 100.0;
        warnings.push(format!("the hypervisor took {percent:.1} % of the processor time"));
    }
    if let Some(governor) = &machine.cpu.governor
        && governor != "performance"
    {
        warnings.push(format!("frequency governor is {governor}, not performance"));
    }
    if machine.disk.file_system.as_deref() == Some("tmpfs") {
        warnings.push("the data folder is in memory (tmpfs): syncs cost nothing there".to_owned());
    }
    warnings
}

/// Seconds since 1970 as `2026-11-23T14:05:00Z`.
///
/// Source: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms, `civil_from_days`.
pub(crate) fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, in eras of 400 years; years begin in March, so that the leap
    // day is a year's last one.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// A small file of the kernel, without white space at its ends; `None` where it cannot be read.
fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// `/proc/meminfo` in bytes.
fn meminfo(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
            Some((name, kibibytes * 1024))
        })
        .collect()
}

fn kernel() -> Option<String> {
    let release = read("/proc/sys/kernel/osrelease")?;
    let version = read("/proc/sys/kernel/version").unwrap_or_default();
    Some(format!("{release} {version}").trim().to_owned())
}

fn os_name(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

fn mitigations() -> BTreeMap<String, String> {
    let Ok(folder) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return BTreeMap::new();
    };
    folder
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().into_string().ok()?, read(entry.path())?))
        })
        .collect()
}

fn git(folder: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests;
