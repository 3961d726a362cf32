//! The parameters of a store, each with its default and its reason.

use crate::error::Error;
use crate::frame::ALIGN;

/// 256 MiB: few files for a large ledger, and zeroing one ahead of need takes a fraction of a
/// second.
pub const SEGMENT_BYTES: u64 = 256 << 20;
/// The smallest segment: room for an opening group, one record, an index and a closing group.
pub const SEGMENT_BYTES_MIN: u64 = 8 * ALIGN;
/// 1 MiB: while one is written the next is hashed; larger ones leave the device idle meanwhile and
/// gave 15 % less, smaller ones cost more calls.
pub const GROUP_BYTES_MAX: usize = 1 << 20;
/// Four to eight groups of 1 MiB in flight gave the device's best rate; fewer answer sooner.
pub const GROUPS_IN_FLIGHT: usize = 8;
/// More gave nothing on any device that was measured.
pub(crate) const GROUPS_IN_FLIGHT_MAX: usize = 1024;
/// 64 MiB: above what may be in flight, so that the disk never waits for a caller.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The network (genesis digest) that the store belongs to; another one is refused.
    pub network: [u8; 32],
    /// The size of segments made from now on; existing ones keep theirs.
    pub segment_bytes: u64,
    /// A group takes records up to this many bytes; one larger record gets a group of its own.
    pub group_bytes_max: usize,
    /// How many groups may be written but not yet durable.
    pub groups_in_flight: usize,
    /// Which way to the disk to take.
    pub backend: Backend,
    /// Appends wait while more bytes than this are accepted but not yet durable.
    pub queue_bytes_max: usize,
}

impl Options {
    /// The defaults for a network.
    pub fn new(network: [u8; 32]) -> Self {
        Self {
            network,
            segment_bytes: SEGMENT_BYTES,
            group_bytes_max: GROUP_BYTES_MAX,
            groups_in_flight: GROUPS_IN_FLIGHT,
            backend: Backend::Auto,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }

    /// Refuses values that no store can work with.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |option, reason| Err(Error::Options { option, reason });
        if !self.segment_bytes.is_multiple_of(ALIGN) {
            return wrong("segment_bytes", "must be a multiple of 4096");
        }
        if self.segment_bytes < SEGMENT_BYTES_MIN {
            return wrong("segment_bytes", "must be at least 32768");
        }
        if self.segment_bytes > u64::from(u32::MAX) {
            return wrong("segment_bytes", "must be below 4 GiB");
        }
        if self.group_bytes_max == 0 {
            return wrong("group_bytes_max", "must be at least 1");
        }
        if self.groups_in_flight == 0 || self.groups_in_flight > GROUPS_IN_FLIGHT_MAX {
            return wrong("groups_in_flight", "must be 1 to 1024");
        }
        if self.queue_bytes_max == 0 {
            return wrong("queue_bytes_max", "must be at least 1");
        }
        Ok(())
    }
}

/// Which way to the disk to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// io_uring where the kernel permits it, otherwise portable, with the reason named.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// `pwrite` and `fdatasync`.
    Portable,
}

/// The way to the disk that runs, and why not the faster one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// `io_uring`, `portable` or `simulated`.
    pub name: &'static str,
    /// Why it was chosen over io_uring; `None` where nothing was given up.
    pub reason: Option<String>,
}
