//! What can go wrong with a store; every variant names the place.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a call on a store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The folder, its lock file or its listing failed.
    #[error("{}: cannot {action}: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// The machine's answer.
        source: Arc<io::Error>,
    },
    /// A segment could not be made, opened or read.
    #[error("segment {segment:016x} offset {offset}: cannot {action}: {source}")]
    Disk {
        /// The segment's number.
        segment: u64,
        /// The byte in it where the call began.
        offset: u64,
        /// What was tried, as a verb.
        action: &'static str,
        /// The machine's answer.
        source: Arc<io::Error>,
    },
    /// Another process has this store open.
    #[error("{}: in use by another process", path.display())]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// The store was written for another network.
    #[error(
        "segment {segment:016x} offset {offset}: of network {}, not {}",
        short(found),
        short(expected)
    )]
    OtherNetwork {
        /// The segment's number.
        segment: u64,
        /// The group that says so.
        offset: u64,
        /// The network in the group.
        found: [u8; 32],
        /// The network asked for.
        expected: [u8; 32],
    },
    /// Bytes that were durable are not what was written.
    #[error("segment {segment:016x} offset {offset}: {what}")]
    Corrupt {
        /// The segment's number.
        segment: u64,
        /// The group, or the first byte outside every group.
        offset: u64,
        /// What is wrong there.
        what: Damage,
    },
    /// The file that says where a pruned store begins is not what was written.
    #[error("file FIRST: the beginning of the pruned store does not match its hash")]
    Anchor,
    /// Bytes of an unfinished write follow the last group; opening the store cuts them.
    #[error("segment {segment:016x} offset {offset}: {bytes} bytes of an unfinished write")]
    TornTail {
        /// The newest segment's number.
        segment: u64,
        /// The first byte after the last whole group.
        offset: u64,
        /// From there to the end of the last 4 KiB that is not zero.
        bytes: u64,
    },
    /// An earlier write or sync failed: nothing is acknowledged any more. Reopen to recover.
    #[error("segment {segment:016x} offset {offset}: writer stopped: {reason}")]
    Poisoned {
        /// The segment of the call that failed first.
        segment: u64,
        /// The group whose write or sync failed first.
        offset: u64,
        /// The machine's answer to that call.
        reason: Arc<str>,
    },
    /// The store was closed.
    #[error("store is closed after record {records}")]
    Closed {
        /// The number of records in it.
        records: u64,
    },
    /// A record does not fit into a segment.
    #[error("record {index} of the call has {bytes} bytes, at most {bytes_max} fit")]
    TooLarge {
        /// The record's place in the call.
        index: usize,
        /// Its body's length.
        bytes: u64,
        /// The longest body that this store takes.
        bytes_max: u64,
    },
    /// No record begins at this place.
    #[error("segment {segment:016x} offset {offset}: no record of {bytes} bytes here")]
    NoRecord {
        /// The place's segment.
        segment: u64,
        /// The place's offset.
        offset: u64,
        /// The place's length.
        bytes: u32,
    },
    /// An option has a value that no store can work with.
    #[error("option {option}: {reason}")]
    Options {
        /// The field of `Options`.
        option: &'static str,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The backend that was demanded does not run here.
    #[error("backend {backend}: {reason}")]
    Backend {
        /// The backend's name.
        backend: &'static str,
        /// Why it does not run.
        reason: String,
    },
}

/// What is wrong with a group of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// No group where one belongs.
    #[error("no group begins here")]
    Magic,
    /// A group of another format version.
    #[error("group of another format version")]
    Version,
    /// The group's kind is unknown, or out of place (a segment opens first and seals last).
    #[error("group of a kind that does not belong here")]
    Kind,
    /// The group's length does not fit in the segment, or differs from its content.
    #[error("group length is wrong")]
    Length,
    /// Hash and bytes disagree.
    #[error("hash does not match")]
    Hash,
    /// Bytes that must be zero are not.
    #[error("padding is not zero")]
    Padding,
    /// The group belongs to another segment, offset or epoch.
    #[error("group was written for another place")]
    Misplaced,
    /// The group does not follow the group before it.
    #[error("group does not link to the one before it")]
    Link,
    /// The group's record count or first record number is wrong.
    #[error("record numbers do not continue")]
    Numbers,
    /// A record's header is not well formed.
    #[error("record header is wrong")]
    Record,
    /// The index at the segment's end does not list its records.
    #[error("index does not match the records")]
    Index,
    /// A segment's file is missing.
    #[error("segment is missing")]
    Missing,
    /// The file's length is not the segment's.
    #[error("file length is not the segment's")]
    Size,
    /// Bytes after the last group are not zero.
    #[error("bytes after the last group are not zero")]
    Unused,
    /// Groups follow, although the segment does not end in a seal.
    #[error("segment breaks off, although later groups exist")]
    Unsealed,
}

fn short(network: &[u8; 32]) -> String {
    network[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
