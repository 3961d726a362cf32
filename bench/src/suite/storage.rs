//! The store: durable appends and reads, each way to the disk beside the naive one.
//!
//! A round appends a fixed number of groups, each acknowledged when it is durable, with at most
//! `depth` of them outstanding: the next one is handed over when one is acknowledged, as with any
//! disk benchmark of a given queue depth. So the time of an acknowledgement holds no waiting that
//! the caller did not ask for. Bandwidth counts the records' own bytes, not their frames.
//!
//! Files are zeroed before time is taken, and large enough that no other one is prepared meanwhile.
//! Reads find everything in the page cache: what is compared is the work above it.

mod append;
mod bandwidth;
mod naive;
mod read;
mod reopen;
#[cfg(feature = "rivals")]
mod rivals;

use std::path::Path;

use storage::Backend;

use super::{Plan, Rounds, Settings, Suite};

/// Most bytes that a full run writes, zeros included.
const FULL_BYTES_MAX: u64 = 64 << 30;
/// Most bytes that a quick run writes, zeros included.
const QUICK_BYTES_MAX: u64 = 20 << 30;
/// More than that for file systems' own needs.
const FREE_BYTES_MIN: u64 = 512 << 20;

/// The ways to the disk, by the names that the store itself gives them.
const BACKENDS: [(&str, Backend); 2] =
    [("io_uring", Backend::IoUring), ("portable", Backend::Portable)];

/// The suite.
pub struct Storage;

impl Suite for Storage {
    fn name(&self) -> &'static str {
        "storage"
    }

    fn about(&self) -> &'static str {
        "durable appends and reads, io_uring and portable, beside pwrite + fdatasync and pread"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        let rounds = rounds(settings);
        let appends = append::sizes(settings.scale);
        let reads = read::size(settings.scale);
        let parts = [
            appends.iter().map(|size| size.bytes_written(rounds)).sum::<u64>(),
            reads.bytes_written(),
            bandwidth::bytes_written(settings),
            reopen::bytes_written(settings.scale),
        ];
        let bytes: u64 = parts.iter().sum();
        let bytes_max = settings.scale.pick(FULL_BYTES_MAX, QUICK_BYTES_MAX, QUICK_BYTES_MAX);
        if bytes > bytes_max && settings.rounds.is_none() {
            return Err(format!("would write {bytes} bytes, more than its limit of {bytes_max}"));
        }
        // Each part's files go before the next one's come.
        has_room(&settings.data, parts.into_iter().max().unwrap_or(0))?;
        let mut plans: Vec<_> =
            appends.into_iter().map(|size| append::plan(settings, size, rounds)).collect();
        plans.push(read::plan(settings, reads, rounds));
        plans.extend(bandwidth::plans(settings));
        plans.extend(reopen::plans(settings, rounds));
        Ok(plans)
    }
}

fn rounds(settings: &Settings) -> Rounds {
    let rounds = settings.scale.pick(
        Rounds { min: 6, max: 9 },
        Rounds { min: 3, max: 3 },
        Rounds { min: 2, max: 2 },
    );
    settings.rounds.map_or(rounds, |count| Rounds { min: count, max: count })
}

/// Errors: how much is free, where that is too little.
fn has_room(data: &Path, bytes: u64) -> Result<(), String> {
    let found = rustix::fs::statvfs(data)
        .map_err(|error| format!("{}: cannot ask for free space: {error}", data.display()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let wanted = bytes + FREE_BYTES_MIN;
    if free < wanted {
        let place = data.display();
        return Err(format!("{place} has {free} bytes free; this suite wants {wanted}"));
    }
    Ok(())
}

/// `4KiB`, `1MiB`.
fn size_name(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{}MiB", bytes >> 20)
    } else {
        format!("{}KiB", bytes >> 10)
    }
}

/// Bytes that neither compress nor repeat, decided by the seed.
fn random_bytes(seed: u64, purpose: u64, size: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key("althing bench records v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&purpose.to_le_bytes());
    let mut bytes = vec![0; size];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
