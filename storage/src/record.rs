//! Records as callers hand them over and get them back, and their places.

use std::fmt;
use std::sync::Arc;

use crate::frame::RECORD_HEADER_BYTES;

/// The height of a record that has none.
pub const NO_HEIGHT: u64 = u64::MAX;

/// One record to be appended: opaque bytes under a kind, a height and a key.
///
/// Shape: `height` is [`NO_HEIGHT`] and `key` is zero where the record has none; such a record is
/// in no index and is found by its place or by iteration.
#[derive(Clone, Debug)]
pub struct Record {
    /// The caller's name space for heights and keys.
    pub kind: u8,
    /// The height that [`Store::at_height`](crate::Store::at_height) finds it by.
    pub height: u64,
    /// The key that [`Store::find`](crate::Store::find) finds it by.
    pub key: [u8; 32],
    /// The bytes.
    pub body: Body,
}

impl Record {
    /// The record's description without its bytes.
    pub fn header(&self) -> RecordHeader {
        RecordHeader { kind: self.kind, height: self.height, key: self.key }
    }
}

/// What is stored of a record beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The caller's name space for heights and keys.
    pub kind: u8,
    /// The record's height, or [`NO_HEIGHT`].
    pub height: u64,
    /// The record's key, or zero.
    pub key: [u8; 32],
}

/// A record's bytes, shared and never copied until they are laid out for the disk.
///
/// Cloning costs one reference count. `Vec<u8>`, `Arc<[u8]>` and `&'static [u8]` convert; any
/// other buffer enters through [`Body::new`].
#[derive(Clone)]
pub struct Body {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    size: usize,
}

impl Body {
    /// Takes a buffer over without copying it.
    ///
    /// Shape: `bytes.as_ref()` must give the same bytes at every call.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let size = bytes.as_ref().len();
        Self { bytes: Arc::new(bytes), size }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let bytes = (*self.bytes).as_ref();
        assert_eq!(bytes.len(), self.size, "a body must not change its length");
        bytes
    }

    /// The number of bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::new(bytes)
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Body({} bytes)", self.size)
    }
}

/// Where a record lies: valid for the life of the store that gave it, across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The segment's number.
    pub segment: u64,
    /// The byte of the segment at which the record's header begins.
    pub offset: u64,
    /// The length of the record's body.
    pub bytes: u32,
}

impl Place {
    /// The byte of the segment at which the record's body begins.
    pub const fn body_offset(&self) -> u64 {
        self.offset + RECORD_HEADER_BYTES
    }
}

/// A claim on the durability of everything appended up to one call.
///
/// Shape: the number of records in the store after that call; durable once
/// [`Store::durable`](crate::Store::durable) has reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

impl Ticket {
    /// The number of records in the store once this ticket is durable.
    pub fn records(self) -> u64 {
        self.0
    }
}
