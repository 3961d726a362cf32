//! The disk under the data folder: file system, mount, device, and how long a sync takes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::read;
use crate::statistics;

/// Enough for a p99 that is not the maximum, and below a second on a disk of 5 ms.
const SYNCS: usize = 128;
/// One page: what the smallest durable record costs.
const SYNC_BYTES: usize = 4096;

/// What lies under a folder; what could not be read is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The data folder.
    pub path: String,
    /// Where its file system is mounted.
    pub mount: Option<String>,
    /// `ext4`, `xfs`, `tmpfs` ...
    pub file_system: Option<String>,
    /// What is mounted there.
    pub device: Option<String>,
    /// Mount options, those of the file system after those of the mount.
    pub options: Option<String>,
    /// What an unprivileged process may still write.
    pub free_bytes: Option<u64>,
    /// The name that the device gives itself.
    pub model: Option<String>,
    /// Whether the device says that it turns.
    pub rotational: Option<bool>,
    /// The median time of `pwrite` and `fdatasync` of 4 KiB within a written file, in microseconds.
    pub sync_us_p50: Option<f64>,
    /// The 99th percentile of the same.
    pub sync_us_p99: Option<f64>,
}

impl Disk {
    pub(super) fn read(data: &Path) -> Self {
        let path = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
        let mounts = read("/proc/self/mountinfo").unwrap_or_default();
        let mount = mount_of(&mounts, &path);
        let block = fs::metadata(&path).ok().map(|metadata| block_folder(metadata.dev()));
        let sync_us = time_syncs(&path).ok();
        let percentile = |share| sync_us.as_deref().map(|sorted| percentile(sorted, share));
        Self {
            free_bytes: rustix::fs::statvfs(&path)
                .ok()
                .and_then(|found| found.f_bavail.checked_mul(found.f_frsize)),
            model: block.as_deref().and_then(|block| of_device(block, "device/model")),
            rotational: block
                .as_deref()
                .and_then(|block| of_device(block, "queue/rotational"))
                .map(|text| text == "1"),
            sync_us_p50: percentile(0.50),
            sync_us_p99: percentile(0.99),
            path: path.display().to_string(),
            mount: mount.as_ref().map(|mount| mount.point.clone()),
            file_system: mount.as_ref().map(|mount| mount.file_system.clone()),
            device: mount.as_ref().map(|mount| mount.device.clone()),
            options: mount.map(|mount| mount.options),
        }
    }
}

/// One line of `/proc/self/mountinfo`.
struct Mount {
    point: String,
    file_system: String,
    device: String,
    options: String,
}

/// The mount that a canonical path lies on: the last of those with the longest mount point.
fn mount_of(mounts: &str, path: &Path) -> Option<Mount> {
    mounts
        .lines()
        .filter_map(parse_mount)
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| Path::new(&mount.point).components().count())
}

/// Source: proc(5), /proc/pid/mountinfo: optional fields end at a single hyphen.
fn parse_mount(line: &str) -> Option<Mount> {
    let (first, second) = line.split_once(" - ")?;
    let first: Vec<_> = first.split(' ').collect();
    let second: Vec<_> = second.split(' ').collect();
    Some(Mount {
        point: unescape(first.get(4)?),
        file_system: (*second.first()?).to_owned(),
        device: unescape(second.get(1)?),
        options: format!("{} {}", first.get(5)?, second.get(2)?),
    })
}

/// Undoes the four octal escapes that the kernel writes in paths.
fn unescape(text: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.into_iter().fold(text.to_owned(), |text, (code, meant)| text.replace(code, meant))
}

fn block_folder(device: u64) -> PathBuf {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// A property of a device, or of the device that it is a partition of.
fn of_device(block: &Path, name: &str) -> Option<String> {
    read(block.join(name)).or_else(|| read(fs::canonicalize(block).ok()?.parent()?.join(name)))
}

/// Sorted times of small durable writes into a file whose blocks were written before.
fn time_syncs(folder: &Path) -> std::io::Result<Vec<f64>> {
    let mut file = tempfile::tempfile_in(folder)?;
    std::io::Write::write_all(&mut file, &vec![0; SYNCS * SYNC_BYTES])?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(SYNCS);
    for index in 0..SYNCS {
        times.push(time_sync(&file, index)?);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn time_sync(file: &File, index: usize) -> std::io::Result<f64> {
    let offset = u64::try_from(index * SYNC_BYTES).expect("a usize has at most 64 bits");
    let began = Instant::now();
    file.write_all_at(&[0x5a; SYNC_BYTES], offset)?;
    file.sync_data()?;
    Ok(began.elapsed().as_secs_f64() * 1e6)
}

/// The sample that a share of all samples does not exceed; the median where that is half.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    if share == 0.5 {
        return statistics::summarize(sorted).median;
    }
    // Counted from the top, so that no float is turned into an index.
    let above = sorted
        .iter()
        .zip(1_u32..)
        .filter(|(_, rank)| f64::from(*rank) >= share * f64_of(sorted.len()));
    above.map(|(value, _)| *value).next().unwrap_or(0.0)
}

fn f64_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("counts of samples are small"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
30 22 0:25 / /mnt/my\\040disk rw,noatime - xfs /dev/nvme0n1p1 rw,attr2\n\
31 22 0:26 / /mnt rw - tmpfs tmpfs rw,size=4k\n\
broken line\n";

    #[test]
    fn a_path_belongs_to_the_longest_mount_above_it() {
        let found = |path: &str| {
            let mount = mount_of(MOUNTS, Path::new(path)).unwrap();
            (mount.point, mount.file_system, mount.device, mount.options)
        };
        assert_eq!(found("/mnt/my disk/data").0, "/mnt/my disk");
        assert_eq!(found("/mnt/my disk/data").1, "xfs");
        assert_eq!(found("/mnt/other").1, "tmpfs");
        assert_eq!(found("/mntx").1, "ext4");
        let (_, _, device, options) = found("/home");
        assert_eq!((device.as_str(), options.as_str()), ("/dev/vda", "rw,relatime rw,discard"));
        assert!(mount_of("broken line\n", Path::new("/")).is_none());
    }

    #[test]
    fn percentiles_are_samples() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 0.99), 99.0);
        assert_eq!(percentile(&sorted, 0.50), 50.5);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert_eq!(percentile(&sorted, 1.0), 100.0);
    }
}
