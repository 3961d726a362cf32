//! One segment as readers see it: its groups, each checked once, by map when sealed or by read.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::disk::Source;
use crate::error::{Damage, Error};
use crate::frame::{self, HEADER_BYTES, Header, Records};
use crate::record::{Place, RecordHeader};

pub(crate) mod map;

use map::Map;

/// A record with its place and a copy of its body.
pub(crate) type Found = (Place, RecordHeader, Vec<u8>);

/// One segment's durable groups and the way to their bytes.
pub(crate) struct Segment {
    number: u64,
    epoch: u64,
    network: [u8; 32],
    source: Arc<dyn Source>,
    groups: RwLock<Vec<Group>>,
    sealed: AtomicBool,
    map: OnceLock<Option<Map>>,
}

/// A durable group; `checked` once its hash was found right by a reader in this process.
struct Group {
    offset: u64,
    bytes: u64,
    checked: AtomicBool,
}

impl Segment {
    pub(crate) fn new(number: u64, epoch: u64, network: [u8; 32], source: Arc<dyn Source>) -> Self {
        Self {
            number,
            epoch,
            network,
            source,
            groups: RwLock::default(),
            sealed: AtomicBool::new(false),
            map: OnceLock::new(),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Adds a group that has become durable; groups come in order.
    pub(crate) fn push(&self, offset: u64, bytes: u64) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let end = groups.last().map_or(0, |group| group.offset + group.bytes);
        assert_eq!(offset, end, "groups become durable in order");
        groups.push(Group { offset, bytes, checked: AtomicBool::new(false) });
    }

    /// Says that no byte of the segment will be written again; from here on it may be mapped.
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// The first group at or after an offset, as (offset, bytes).
    pub(crate) fn group_from(&self, offset: u64) -> Option<(u64, u64)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let at = groups.partition_point(|group| group.offset < offset);
        groups.get(at).map(|group| (group.offset, group.bytes))
    }

    /// The body of the record at a place.
    pub(crate) fn read(&self, place: Place) -> Result<Vec<u8>, Error> {
        let absent =
            Error::NoRecord { segment: place.segment, offset: place.offset, bytes: place.bytes };
        let size = frame::record_bytes(u64::from(place.bytes));
        let Some((group, group_bytes)) = self.group_around(place.offset, size) else {
            return Err(absent);
        };
        self.check_once(group, group_bytes)?;
        let bytes = self.bytes(place.offset, size)?;
        // The group was right when it was checked: what does not parse now is either a place that
        // no store gave, or damage since; both are refused.
        match frame::decode_record(&bytes) {
            Ok((_, body)) if body.len() as u64 == u64::from(place.bytes) => Ok(body.to_vec()),
            Ok(_) | Err(_) => Err(absent),
        }
    }

    /// All records of the group that begins at an offset, checked.
    pub(crate) fn records(&self, offset: u64, bytes: u64) -> Result<Vec<Found>, Error> {
        let group = self.bytes(offset, bytes)?;
        let header = self.check(offset, &group)?;
        if header.kind != frame::Kind::Records {
            return Ok(Vec::new());
        }
        let mut found = Vec::with_capacity(header.count as usize);
        for record in Records::new(&header, &group) {
            let (at, record, body) = record.map_err(|what| self.corrupt(offset, what))?;
            let size = u32::try_from(body.len()).expect("read from a field of 32 bits");
            let place = Place { segment: self.number, offset: offset + at, bytes: size };
            found.push((place, record, body.to_vec()));
        }
        Ok(found)
    }

    /// The group that holds this whole range after its header.
    fn group_around(&self, offset: u64, bytes: u64) -> Option<(u64, u64)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let at = groups.partition_point(|group| group.offset <= offset).checked_sub(1)?;
        let group = &groups[at];
        let inside = offset >= group.offset + HEADER_BYTES
            && offset.checked_add(bytes)? <= group.offset + group.bytes;
        inside.then_some((group.offset, group.bytes))
    }

    fn check_once(&self, offset: u64, bytes: u64) -> Result<(), Error> {
        if self.mark(offset, |checked| checked.load(Ordering::Relaxed)) {
            return Ok(());
        }
        let group = self.bytes(offset, bytes)?;
        self.check(offset, &group)?;
        self.mark(offset, |checked| checked.store(true, Ordering::Relaxed));
        Ok(())
    }

    fn mark<T>(&self, offset: u64, with: impl FnOnce(&AtomicBool) -> T) -> T {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let at = groups.partition_point(|group| group.offset < offset);
        with(&groups[at].checked)
    }

    fn check(&self, offset: u64, group: &[u8]) -> Result<Header, Error> {
        let header = Header::decode(group).map_err(|what| self.corrupt(offset, what))?;
        if header.group_bytes() != group.len() as u64 {
            return Err(self.corrupt(offset, Damage::Length));
        }
        frame::check(&header, group).map_err(|what| self.corrupt(offset, what))?;
        let own = header.segment == self.number
            && header.offset == offset
            && header.epoch == self.epoch
            && header.network == self.network;
        if own { Ok(header) } else { Err(self.corrupt(offset, Damage::Misplaced)) }
    }

    /// Bytes of the segment: borrowed from the map once it is sealed, copied before.
    fn bytes(&self, offset: u64, bytes: u64) -> Result<Cow<'_, [u8]>, Error> {
        let wrap = |source| Error::Disk {
            segment: self.number,
            offset,
            action: "read",
            source: Arc::new(source),
        };
        if let Some(map) = self.map() {
            match map.bytes(offset, bytes) {
                Ok(slice) => return Ok(Cow::Borrowed(slice)),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(wrap(error)),
            }
        }
        let mut buffer = vec![0; frame::index(bytes)];
        self.source.read(offset, &mut buffer).map_err(wrap)?;
        Ok(Cow::Owned(buffer))
    }

    fn map(&self) -> Option<&Map> {
        if !self.sealed.load(Ordering::Acquire) {
            return None;
        }
        // A segment that cannot be mapped is read instead.
        self.map.get_or_init(|| self.source.map().ok().flatten()).as_ref()
    }

    fn corrupt(&self, offset: u64, what: Damage) -> Error {
        Error::Corrupt { segment: self.number, offset, what }
    }
}
