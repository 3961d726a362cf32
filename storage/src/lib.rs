//! Append-only, hash-linked, crash-safe storage of records; it knows no block.
mod catalog;
mod disk;
mod error;
mod frame;
mod index;
mod log;
mod options;
mod plan;
mod reader;
mod record;
mod recover;
mod ring;
mod segment;
mod store;
#[cfg(test)]
mod testing;
mod writer;

pub use disk::{Completion, Disk, Fault, Simulated, Source, Waker, Write};
pub use error::{Damage, Error};
pub use log::{Done, Stats};
pub use options::{
    Backend, Choice, GROUP_BYTES_MAX, GROUPS_IN_FLIGHT, Options, QUEUE_BYTES_MAX, SEGMENT_BYTES,
    SEGMENT_BYTES_MIN,
};
pub use reader::{Reader, Verified, verify, verify_unlocked};
pub use record::{Body, NO_HEIGHT, Place, Record, RecordHeader, Ticket};
pub use recover::{Cut, Recovery};
pub use segment::map::Map;
pub use store::Store;
