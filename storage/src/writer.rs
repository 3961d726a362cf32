//! The disk's side of the log: lays groups out, hashes and links them, and keeps them in order.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::{Completion, Disk, Write};
use crate::error::Error;
use crate::frame::{self, Content, Header, Kind, Line};
use crate::plan::Group;
use crate::recover::End;
use crate::segment::Segment;

/// Buffers kept for reuse; more than are in flight would never be used.
const BUFFERS_MAX: usize = 16;
/// A buffer that one large record made this long is given back.
const BUFFER_BYTES_MAX: usize = 8 << 20;

/// The call that failed first; nothing is acknowledged after it.
#[derive(Clone, Debug)]
pub(crate) struct Poison {
    segment: u64,
    offset: u64,
    reason: Arc<str>,
}

impl Poison {
    pub(crate) fn new(segment: u64, offset: u64, action: &str, error: &io::Error) -> Self {
        Self { segment, offset, reason: format!("{action}: {error}").into() }
    }

    pub(crate) fn error(&self) -> Error {
        let Self { segment, offset, reason } = self;
        Error::Poisoned { segment: *segment, offset: *offset, reason: Arc::clone(reason) }
    }
}

/// A group that has become durable, after all before it.
pub(crate) struct Durable {
    pub(crate) kind: Kind,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// The records in the store up to and with this group.
    pub(crate) records: u64,
    /// The bytes of its records.
    pub(crate) payload_bytes: u64,
    /// From submission to acknowledgement; `None` where no clock may be read.
    pub(crate) elapsed: Option<Duration>,
    /// The segment that this group opens.
    pub(crate) opens: Option<Arc<Segment>>,
}

/// Writes groups; owned by one thread, or by whoever holds the lock of an inline store.
pub(crate) struct Writer {
    disk: Box<dyn Disk>,
    network: [u8; 32],
    segment_bytes_next: u64,
    groups_in_flight: usize,
    timed: bool,
    epoch: u64,
    previous: [u8; 32],
    /// The groups of the newest segment so far, for its index.
    lines: Vec<Line>,
    /// Bytes of the newest segment below this are durable.
    durable: u64,
    prepared: bool,
    ticket: u64,
    in_flight: VecDeque<Flight>,
    buffers: Vec<Vec<u8>>,
    completions: Vec<Completion>,
}

struct Flight {
    ticket: u64,
    complete: bool,
    began: Option<Instant>,
    durable: Durable,
}

/// What a writer needs beside its disk.
pub(crate) struct Settings {
    pub(crate) network: [u8; 32],
    pub(crate) segment_bytes_next: u64,
    pub(crate) groups_in_flight: usize,
    /// Whether the clock may be read for histograms: not in a simulation.
    pub(crate) timed: bool,
}

impl Writer {
    /// Goes on from where recovery ended; everything before is durable.
    pub(crate) fn new(disk: Box<dyn Disk>, settings: &Settings, end: &End) -> Self {
        Self {
            disk,
            network: settings.network,
            segment_bytes_next: settings.segment_bytes_next,
            groups_in_flight: settings.groups_in_flight,
            timed: settings.timed,
            epoch: end.epoch,
            previous: end.previous,
            lines: end.lines.clone(),
            durable: end.offset,
            prepared: false,
            // Recovery used low tickets on the same disk, all of them complete.
            ticket: 1 << 32,
            in_flight: VecDeque::new(),
            buffers: Vec::new(),
            completions: Vec::new(),
        }
    }

    /// Whether a group of this kind may be submitted now.
    ///
    /// A segment opens alone: until all groups before are durable it does not begin, and until its
    /// opening is durable nothing follows. So damage in any but the newest segment is damage, and
    /// a torn opening has nothing behind it.
    pub(crate) fn accepts(&self, kind: Kind) -> bool {
        let opening = self.in_flight.back().is_some_and(|last| last.durable.kind == Kind::Open);
        match kind {
            Kind::Open => self.in_flight.is_empty(),
            Kind::Records | Kind::Seal | Kind::Close => {
                !opening && self.in_flight.len() < self.groups_in_flight
            }
        }
    }

    /// Whether anything is written but not yet durable.
    pub(crate) fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Encodes a group and begins to write it.
    pub(crate) fn submit(&mut self, group: &Group) -> Result<(), Poison> {
        assert!(self.accepts(group.kind), "the caller asks first");
        let began = self.timed.then(Instant::now);
        let opens = if group.kind == Kind::Open { Some(self.open(group)?) } else { None };
        let header = self.header(group);
        let content = match group.kind {
            Kind::Open => Content::Link(group.seal),
            Kind::Seal => Content::Index(&self.lines, &group.entries),
            Kind::Records | Kind::Close => Content::Records(&group.records),
        };
        let mut bytes = self.buffers.pop().unwrap_or_default();
        self.previous = frame::encode(&header, &content, &mut bytes);
        self.lines.push(Line::new(&header, self.previous));
        self.ticket += 1;
        let (segment, offset) = (group.segment, group.offset);
        let durable = Durable {
            kind: group.kind,
            segment,
            offset,
            bytes: header.group_bytes(),
            records: group.first_record + u64::from(header.count),
            payload_bytes: if group.kind == Kind::Records { group.payload_bytes } else { 0 },
            elapsed: None,
            opens,
        };
        let flight = Flight { ticket: self.ticket, complete: false, began, durable };
        self.in_flight.push_back(flight);
        self.disk.submit(Write { ticket: self.ticket, segment, offset, bytes });
        if !self.prepared && offset + header.group_bytes() > group.segment_bytes / 2 {
            self.prepared = true;
            self.disk.prepare(segment + 1, self.segment_bytes_next);
        }
        Ok(())
    }

    /// Waits for the disk and adds the groups that have become durable, in order.
    ///
    /// Errors: the first failure; then none of this wait's groups is acknowledged.
    pub(crate) fn complete(&mut self, durable: &mut Vec<Durable>) -> Result<(), Poison> {
        assert!(self.is_busy(), "there is something to wait for");
        self.disk.complete(&mut self.completions);
        for completion in &self.completions {
            let flight = self.in_flight.iter_mut().find(|it| it.ticket == completion.ticket);
            let flight = flight.expect("the disk completes what was submitted, once");
            match &completion.result {
                Ok(()) => flight.complete = true,
                Err(error) => {
                    let Durable { segment, offset, .. } = flight.durable;
                    return Err(Poison::new(segment, offset, "write", error));
                }
            }
        }
        for completion in self.completions.drain(..) {
            let mut buffer = completion.bytes;
            if self.buffers.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_BYTES_MAX {
                buffer.clear();
                self.buffers.push(buffer);
            }
        }
        while self.in_flight.front().is_some_and(|flight| flight.complete) {
            let flight = self.in_flight.pop_front().expect("looked at above");
            let mut group = flight.durable;
            group.elapsed = flight.began.map(|began| began.elapsed());
            self.durable = group.offset + group.bytes;
            durable.push(group);
        }
        Ok(())
    }

    /// Makes the segment that a group opens.
    fn open(&mut self, group: &Group) -> Result<Arc<Segment>, Poison> {
        let number = group.segment;
        let poison =
            |action: &'static str| move |error: io::Error| Poison::new(number, 0, action, &error);
        self.disk.create(number, group.segment_bytes).map_err(poison("create"))?;
        self.epoch = self.disk.epoch().map_err(poison("draw an epoch for"))?;
        let source = self.disk.open(number).map_err(poison("open"))?;
        self.durable = 0;
        self.prepared = false;
        self.lines.clear();
        Ok(Arc::new(Segment::new(number, self.epoch, self.network, source)))
    }

    fn header(&self, group: &Group) -> Header {
        Header {
            kind: group.kind,
            count: u32::try_from(group.records.len()).expect("the plan keeps it countable"),
            network: self.network,
            epoch: self.epoch,
            segment: group.segment,
            segment_bytes: group.segment_bytes,
            offset: group.offset,
            durable: self.durable,
            first_record: group.first_record,
            payload_bytes: group.payload_bytes,
            previous: self.previous,
        }
    }
}
