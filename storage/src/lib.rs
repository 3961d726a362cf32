//! Append-only, hash-linked, crash-safe storage of records: many appends, one write, one sync.
//!
//! ```text
//!  append ─▶ plan ─▶ group ─▶ hash, link ─▶ write ─▶ fdatasync ─▶ watermark ─▶ wait, callbacks
//!  (any thread)  │   └──── hash thread ──┘ └─────────── storage thread ────────────┘
//!                └▶ index ─▶ find, at_height ─▶ read: from memory until durable, then a copy
//!                   (memory)                    view: the same, or the map of a sealed segment
//! ```
//!
//! # Promises
//!
//! * **Durable in order.** A record is acknowledged (callback, [`Store::wait`],
//!   [`Store::durable`]) only when it and every record before it are on the medium: written, and
//!   synced by a sync that began after the write was complete.
//! * **Nothing after a failure.** A failed, short or cancelled write or sync ends acknowledgement
//!   for good ([`Error::Poisoned`]); nothing is retried, since after a failed sync the next one
//!   may report a success that is none. The way back is to reopen.
//! * **All or nothing per group.** The records of one [`Store::append`] share a group when they fit
//!   into one, and a crash keeps a group whole or not at all. What a crash keeps is a prefix of
//!   what was appended, and all of what was acknowledged.
//! * **Damage is named, never cut**, and put back byte for byte by whoever has the records' bodies. See
//!   *Recovery* and *Repair*.
//! * **Every copy is checked.** What [`Store::read`] returns is what was appended, or an error.
//! * **A full disk is waited for.** Segments are made before they are needed; where there is no room for
//!   the next one, what was appended waits ([`Store::is_full`]) and goes on by itself. Nothing that is
//!   written to a segment needs room.
//! * **One writer.** An exclusive lock on the file `LOCK` keeps a second process out.
//!
//! What it does not do: it knows no block and no peer, and compresses nothing. It trusts the folder's
//! owner not to change files under it: hashes show rot, misdirected and torn writes, not an adversary
//! who can compute them anew.
//!
//! # Files
//!
//! A folder of segments `0000000000000000.seg`, `0000000000000001.seg`, ... numbered in hex without
//! a gap. A segment is made under another name, zeroed, synced and renamed, so it is never seen
//! half made; the next one is made in the background once the newest is half full. It holds
//! groups one after the other, each at a multiple of 4,096 bytes, and zeros after the last:
//!
//! ```text
//!  segment   ┌──────┬─────────┬─────────┬───────┬─────────┬── ─ ─ ──┬──────┬───────────┐
//!            │ open │ records │ records │ close │ records │         │ seal │ 0 0 0 ... │
//!            └──────┴─────────┴─────────┴───────┴─────────┴── ─ ─ ──┴──────┴───────────┘
//!             first                      at each orderly             last
//!             group                      end of a process            group
//!
//!  group     offset  size  field (integers little-endian)
//!                 0     8  magic "althgrp\n"
//!                 8     2  version, 1
//!                10     1  kind: 1 open, 2 records, 3 seal, 4 close
//!                11     1  zero
//!                12     4  count of records
//!                16    32  network
//!                48     8  epoch: random, drawn anew for each segment
//!                56     8  segment number
//!                64     8  segment size
//!                72     8  offset of this group in the segment
//!                80     8  durable: bytes of the segment known to be durable when this was written
//!                88     8  number of the first record, counted from the store's beginning
//!                96     8  length of what follows the header, hash and padding not counted
//!               104    32  hash of the group before, zero in the first of all
//!               136     n  records, or the index
//!             136+n    32  BLAKE3 (derive_key, "althing storage group v1") of bytes 0 to 136+n
//!             168+n        zeros to the next multiple of 4,096
//!
//!  record         0     4  length of the body
//!                 4     1  kind
//!                 5     3  zero
//!                 8     8  height, or 2^64 - 1
//!                16    32  key, or zero
//!                48     b  body
//!              48+b        zeros to the next multiple of 8
//!
//!  of open        0     8  offset of the seal in the segment before, zero in the first
//!
//!  index          0     8  count of groups before it in the segment
//!                 8     8  count of records in the segment
//!                16  56*g  for each group: n 4, kind 1, zero 3, count 8, durable 8, hash 32
//!          16+56*g  56*c  for each record: length 4, kind 1, zero 3, offset 8, height 8, key 32
//! ```
//!
//! The file `FIRST` says where a store begins that was pruned, and which segments are sealed for certain. It has
//! two slots of 512 bytes, zero at first, written in turn and in place: that needs no room. Of two the
//! greater generation counts.
//!
//! ```text
//!  slot           0     8  magic "althfst\n"
//!                 8     8  generation
//!                16     8  number of the first segment; files below it are leftovers
//!                24     8  number of its first record
//!                32     8  offset of the seal in the segment before
//!                40     8  segments below this number are sealed: what they lack is damage, never cut
//!                48    32  hash of the seal before the first segment
//!                80    32  BLAKE3 (derive_key, "althing storage first v1") of bytes 0 to 80
//!               112        zeros
//! ```
//!
//! It is written before a file goes. A pruned file is called `*.free` until it is zeroed again and becomes
//! the next segment, in the background; one of which a view is left, that a [`Reader`] holds a lease on (a
//! shared `flock`), or that a snapshot has too, is only unlinked. A snapshot seals the newest segment and links
//! all sealed ones into another folder, which gets its name when it is whole.
//!
//! The hash covers epoch, offset and link, so neither stale bytes nor a group written to a wrong
//! place can pass. Room for the index is always kept, so every segment but the newest ends in
//! a seal. A segment opens alone: not before everything in the last one is durable, and nothing
//! follows its opening group before that is durable.
//!
//! # Recovery
//!
//! Of a sealed segment opening reads the first group and the seal, which the next segment's first
//! group vouches for; the newest segment it reads through: each hash, link, number and index, and
//! that the rest is zero. What it does not read is checked when it is first read, and by [`verify`],
//! which reads everything. Groups in flight together may reach the medium in any order, so bytes
//! that form no group where one should begin are:
//!
//! * **an unfinished write**, in the newest segment, when no later group knew them to be durable
//!   (the field `durable`): they were never acknowledged. They are reported ([`Recovery::cut`]) and
//!   zeroed, so that they cannot come back.
//! * **damage** otherwise: [`Error::Corrupt`] with segment and offset, and nothing is changed.
//!
//! What was in flight when the last process ended is then written and synced once more: after
//! a failed sync it may be in the page cache alone. A rotten group at the very end that was
//! acknowledged but has no group after it looks like an unfinished write; a store that was closed
//! ends in a closing group, so that [`verify`] can insist.
//!
//! # Repair
//!
//! The index of a segment says all that a group's header says, and its hash. So a damaged group follows from
//! its index and its records' bodies, an index from the groups before it, an opening group from its
//! neighbours; and a hash that is stored elsewhere says whether the result is right before a byte is written.
//! Openings and indexes are put back while a store opens ([`Recovery::mended`]). [`Store::scrub`] reads the
//! medium itself in the background; what it or any reading finds is in [`Store::damaged`],
//! [`Store::examine`] tells which records are needed, and [`Store::repair`] takes their bodies.
//!
//! Not repaired: a group whose line in a damaged index is hit as well; and, while a store opens, damage
//! in the newest segment, which has no index yet: it is an error.
//!
//! # Memory
//!
//! The index takes 74 to 149 bytes for a record with a key and 40 to 80 more for one with
//! a height; a group takes 24 to 48; the newest segment's index takes 56 to 128 for each of its
//! records and groups; the groups that were read last take 8 MiB; everything else is bounded by
//! [`Options::queue_bytes_max`] and the groups in flight.
mod anchor;
mod buffer;
mod catalog;
mod checked;
mod disk;
mod encoder;
mod error;
mod frame;
mod index;
mod log;
mod options;
mod plan;
mod reader;
mod record;
mod recover;
mod repair;
mod ring;
mod segment;
mod store;
#[cfg(test)]
mod testing;
mod writer;

pub use buffer::Buffer;
pub use catalog::View;
pub use disk::{Completion, Disk, Fault, Files, Simulated, Source, Waker, Write};
pub use error::{Damage, Error};
pub use log::{Done, Stats};
pub use options::{
    Backend, Choice, GROUP_BYTES_MAX, GROUPS_IN_FLIGHT, Options, QUEUE_BYTES_MAX, SEGMENT_BYTES,
    SEGMENT_BYTES_MIN,
};
pub use reader::{Reader, Verified, verify, verify_unlocked};
pub use record::{Body, NO_HEIGHT, Place, Record, RecordHeader, Ticket};
pub use recover::{Cut, Recovery};
pub use repair::{Damaged, DamagedRecord};
pub use segment::map::Map;
pub use store::{Scrub, Store};
