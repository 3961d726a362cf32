//! The processors: model, features that matter here, power settings, and time stolen from them.

use std::fs;

use serde::{Deserialize, Serialize};

use super::read;

/// The features that some code path of ours or of a rival depends on, in the kernel's spelling.
const FEATURES: [&str; 19] = [
    "ssse3",
    "sse4_2",
    "avx",
    "avx2",
    "bmi2",
    "adx",
    "aes",
    "pclmulqdq",
    "sha_ni",
    "vaes",
    "gfni",
    "avx512f",
    "avx512dq",
    "avx512bw",
    "avx512vl",
    "avx512ifma",
    "avx512vbmi",
    "asimd",
    "sha2",
];

/// The processors as the kernel shows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// The name that the processor gives itself.
    pub model: Option<String>,
    /// Those of the features that matter here that it has.
    pub features: Vec<String>,
    /// The version of its microcode.
    pub microcode: Option<String>,
    /// The processors that the kernel runs.
    pub logical: u32,
    /// Those of them that this process may use.
    pub usable: u32,
    /// Whether two of them share a core.
    pub smt: Option<bool>,
    /// How many nodes memory is split into.
    pub numa_nodes: Option<u32>,
    /// The frequency governor of the first processor.
    pub governor: Option<String>,
    /// Whether frequencies above the nominal one are allowed.
    pub turbo: Option<bool>,
    /// The highest frequency of the first processor.
    pub frequency_max_mhz: Option<u64>,
    /// The caches of the first processor, from near to far.
    pub caches: Vec<String>,
    /// Whether a hypervisor is below; `None` where processors do not say.
    pub virtualized: Option<bool>,
}

impl Cpu {
    pub(super) fn read() -> Self {
        let info = read("/proc/cpuinfo").unwrap_or_default();
        let flags = field(&info, &["flags", "Features"]).unwrap_or_default();
        let has = |name: &str| flags.split(' ').any(|flag| flag == name);
        let logical = info.lines().filter(|line| line.starts_with("processor")).count();
        let usable = std::thread::available_parallelism().map_or(1, usize::from);
        let root = "/sys/devices/system/cpu";
        let frequency = read(format!("{root}/cpu0/cpufreq/cpuinfo_max_freq"));
        Self {
            model: field(&info, &["model name", "Model", "CPU part"]),
            features: FEATURES
                .into_iter()
                .filter(|name| has(name))
                .map(ToOwned::to_owned)
                .collect(),
            microcode: field(&info, &["microcode"]),
            logical: u32::try_from(logical.max(1)).unwrap_or(u32::MAX),
            usable: u32::try_from(usable).unwrap_or(u32::MAX),
            smt: read(format!("{root}/smt/active")).map(|text| text == "1"),
            numa_nodes: numa_nodes(),
            governor: read(format!("{root}/cpu0/cpufreq/scaling_governor")),
            turbo: turbo(root),
            frequency_max_mhz: frequency
                .and_then(|text| text.parse().ok())
                .map(|khz: u64| khz / 1000),
            caches: caches(root),
            virtualized: cfg!(target_arch = "x86_64").then(|| has("hypervisor")),
        }
    }
}

/// The first field of `/proc/cpuinfo` that has one of these names.
fn field(info: &str, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        info.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == *name).then(|| value.trim().to_owned())
        })
    })
}

fn numa_nodes() -> Option<u32> {
    let folder = fs::read_dir("/sys/devices/system/node").ok()?;
    let nodes = folder.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_prefix("node")?.parse::<u32>().ok()
    });
    u32::try_from(nodes.count()).ok()
}

fn turbo(root: &str) -> Option<bool> {
    if let Some(text) = read(format!("{root}/intel_pstate/no_turbo")) {
        return Some(text == "0");
    }
    read(format!("{root}/cpufreq/boost")).map(|text| text == "1")
}

fn caches(root: &str) -> Vec<String> {
    // Levels 1 (two of them) to 3, and one more on a few machines.
    (0..5)
        .filter_map(|index| {
            let folder = format!("{root}/cpu0/cache/index{index}");
            let level = read(format!("{folder}/level"))?;
            let kind = read(format!("{folder}/type"))?;
            let size = read(format!("{folder}/size"))?;
            Some(format!("L{level} {} {size}", kind.to_lowercase()))
        })
        .collect()
}

/// Time that all processors have spent since the machine started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    total: u64,
    steal: u64,
}

impl Processors {
    /// Reads the counters; `None` where the kernel does not show them.
    pub fn read() -> Option<Self> {
        Self::parse(&read("/proc/stat")?)
    }

    /// The share of time that a hypervisor gave to others between two readings.
    pub fn steal_ratio(before: Option<Self>, after: Option<Self>) -> Option<f64> {
        let (before, after) = (before?, after?);
        let ticks = |count: u64| u32::try_from(count).map(f64::from).ok();
        let total = ticks(after.total.checked_sub(before.total)?)?;
        let steal = ticks(after.steal.checked_sub(before.steal)?)?;
        (total > 0.0).then(|| steal / total)
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user nice system idle iowait irq softirq steal; the guest times after them are part of
        // user and nice already.
        let times: Vec<u64> =
            line.split_ascii_whitespace().take(8).filter_map(|time| time.parse().ok()).collect();
        let steal = *times.get(7)?;
        Some(Self { total: times.iter().sum(), steal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_under_any_of_their_names() {
        let info = "processor\t: 0\nmodel name\t: Test CPU @ 2: fast\nmicrocode\t: 0x1\n";
        assert_eq!(field(info, &["model name"]).as_deref(), Some("Test CPU @ 2: fast"));
        assert_eq!(field(info, &["Model", "microcode"]).as_deref(), Some("0x1"));
        assert_eq!(field(info, &["model"]), None);
    }

    #[test]
    fn stolen_time_is_a_share_of_all_time() {
        let before = Processors::parse("cpu  10 0 10 70 0 0 0 10 5 5\ncpu0 1 1\n").unwrap();
        assert_eq!(before, Processors { total: 100, steal: 10 });
        let after = Processors::parse("cpu  60 0 30 150 0 0 0 60 9 9\n").unwrap();
        assert_eq!(Processors::steal_ratio(Some(before), Some(after)), Some(0.25));
        assert_eq!(Processors::steal_ratio(Some(before), Some(before)), None);
        assert_eq!(Processors::steal_ratio(None, Some(after)), None);
        assert_eq!(Processors::steal_ratio(Some(after), Some(before)), None);
        assert_eq!(Processors::parse("cpu  1 2 3\n"), None);
    }
}
