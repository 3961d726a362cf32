//! The disk's side of the log: keeps groups in order, in flight and out of it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::disk::{Completion, Disk, Source, Write};
use crate::encoder::{Encoded, Encoder, Shared};
use crate::error::Error;
use crate::frame::{self, Kind, Line};
use crate::recover::End;
use crate::segment::{Opening, Segment};

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
    /// What the index says of it.
    pub(crate) line: Line,
    /// The records in the store up to and with this group.
    pub(crate) records: u64,
    /// The bytes of its records.
    pub(crate) payload_bytes: u64,
    /// What encoding took, and what the disk took; `None` where no clock may be read.
    pub(crate) times: Option<(Duration, Duration)>,
    /// The segment that this group opens.
    pub(crate) opens: Option<Arc<Segment>>,
}

/// Writes groups; owned by one thread, or by whoever holds the lock of an inline store.
pub(crate) struct Writer {
    disk: Box<dyn Disk>,
    segment_bytes_next: u64,
    groups_in_flight: usize,
    shared: Arc<Shared>,
    /// Takes an epoch ahead of the segment that will have it; none after a failure.
    epochs: Option<SyncSender<u64>>,
    prepared: bool,
    ticket: u64,
    in_flight: VecDeque<Flight>,
    completions: Vec<Completion>,
}

struct Flight {
    ticket: u64,
    complete: bool,
    /// What encoding took, and when it was done.
    encoded: Option<(Duration, Instant)>,
    durable: Durable,
}

/// A group that was not taken.
pub(crate) struct Refused {
    pub(crate) poison: Poison,
    /// The group itself, where only room is missing.
    pub(crate) encoded: Option<Box<Encoded>>,
}

const CREATE: &str = "create";

/// Whether room is all that is missing.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
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
    ///
    /// Errors: the disk gave no epoch.
    pub(crate) fn new(
        mut disk: Box<dyn Disk>,
        settings: &Settings,
        end: &End,
    ) -> io::Result<(Self, Encoder)> {
        let shared = Shared::new(end.segment, end.offset);
        let (epochs, receiver) = sync_channel(1);
        epochs.try_send(disk.epoch()?).expect("a new channel has room");
        let encoder =
            Encoder::new(settings.network, end, receiver, Arc::clone(&shared), settings.timed);
        let writer = Self {
            disk,
            segment_bytes_next: settings.segment_bytes_next,
            groups_in_flight: settings.groups_in_flight,
            shared,
            epochs: Some(epochs),
            prepared: false,
            // Recovery used low tickets on the same disk, all of them complete.
            ticket: 1 << 32,
            in_flight: VecDeque::new(),
            completions: Vec::new(),
        };
        Ok((writer, encoder))
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

    /// Whether another group of records could be submitted beside those in flight.
    pub(crate) fn has_room(&self) -> bool {
        self.accepts(Kind::Records)
    }

    /// Begins to write a group.
    ///
    /// Errors: the disk has no room for the segment that the group opens: nothing has happened, and it
    /// may be tried again; any other failure.
    pub(crate) fn submit(&mut self, encoded: Encoded) -> Result<(), Refused> {
        let Encoded { header, bytes, times } = encoded;
        assert!(self.accepts(header.kind), "the caller asks first");
        let (segment, offset) = (header.segment, header.offset);
        let opens = match header.kind {
            Kind::Open => {
                let source = match self.open(segment, header.segment_bytes) {
                    Ok(source) => source,
                    Err((action, error)) => {
                        let poison = Poison::new(segment, 0, action, &error);
                        // A segment is made whole or not at all.
                        let again = action == CREATE && is_full(&error);
                        let encoded = again.then(|| Box::new(Encoded { header, bytes, times }));
                        return Err(Refused { poison, encoded });
                    }
                };
                let opening = Opening::decode(&header, &bytes).expect("encoded as one");
                Some(Arc::new(Segment::new(opening, source)))
            }
            Kind::Records | Kind::Seal | Kind::Close => None,
        };
        self.ticket += 1;
        let is_records = header.kind == Kind::Records;
        let durable = Durable {
            kind: header.kind,
            segment,
            offset,
            bytes: header.group_bytes(),
            line: Line::new(&header, frame::trailer(&header, &bytes)),
            records: header.first_record + u64::from(header.count),
            payload_bytes: if is_records { header.payload_bytes } else { 0 },
            times: None,
            opens,
        };
        let encoded = times.map(|(began, done)| (done - began, done));
        self.in_flight.push_back(Flight { ticket: self.ticket, complete: false, encoded, durable });
        self.disk.submit(Write { ticket: self.ticket, segment, offset, bytes });
        if !self.prepared && offset + header.group_bytes() > header.segment_bytes / 2 {
            self.prepared = true;
            self.disk.prepare(segment + 1, self.segment_bytes_next);
        }
        Ok(())
    }

    /// Says that no segment will be opened any more, to an encoder that may wait for its epoch.
    pub(crate) fn give_up(&mut self) {
        self.epochs = None;
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
            self.shared.give(completion.bytes);
        }
        while self.in_flight.front().is_some_and(|flight| flight.complete) {
            let flight = self.in_flight.pop_front().expect("looked at above");
            let mut group = flight.durable;
            group.times = flight.encoded.map(|(encoding, done)| (encoding, done.elapsed()));
            self.shared.set_durable(group.segment, group.offset + group.bytes);
            durable.push(group);
        }
        Ok(())
    }

    /// Makes a segment and draws the epoch of the next one.
    ///
    /// Errors: what was tried, as a verb, and the machine's answer.
    fn open(
        &mut self,
        segment: u64,
        bytes: u64,
    ) -> Result<Arc<dyn Source>, (&'static str, io::Error)> {
        self.disk.create(segment, bytes).map_err(|error| (CREATE, error))?;
        let epoch = self.disk.epoch().map_err(|error| ("draw an epoch after", error))?;
        if let Some(epochs) = &self.epochs {
            // An encoder that is gone needs none.
            let _ = epochs.try_send(epoch);
        }
        self.prepared = false;
        self.disk.open(segment).map_err(|error| ("open", error))
    }
}
