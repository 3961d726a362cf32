//! The stage before the disk: lays groups out, hashes them and links each to the one before.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::buffer::Buffer;
use crate::frame::{self, Content, Header, Kind, Line};
use crate::plan::Group;
use crate::recover::End;

/// Buffers kept for reuse; more than are in flight would never be used.
const BUFFERS_MAX: usize = 16;
/// A buffer that one large record made this long is given back.
const BUFFER_BYTES_MAX: usize = 8 << 20;

/// A group as it goes to the disk.
pub(crate) struct Encoded {
    pub(crate) header: Header,
    pub(crate) bytes: Buffer,
    /// When encoding began and when it was done; `None` where no clock may be read.
    pub(crate) times: Option<(Instant, Instant)>,
}

/// What the two ends of the write path share.
pub(crate) struct Shared {
    /// The newest segment with a durable group, and how far it is durable.
    durable: Mutex<(u64, u64)>,
    buffers: Mutex<Vec<Buffer>>,
}

impl Shared {
    pub(crate) fn new(segment: u64, bytes: u64) -> Arc<Self> {
        Arc::new(Self { durable: Mutex::new((segment, bytes)), buffers: Mutex::default() })
    }

    /// Says that a segment is durable up to here.
    pub(crate) fn set_durable(&self, segment: u64, bytes: u64) {
        *lock(&self.durable) = (segment, bytes);
    }

    fn durable(&self, segment: u64) -> u64 {
        match *lock(&self.durable) {
            (newest, bytes) if newest == segment => bytes,
            // Its opening group is still on its way.
            _ => 0,
        }
    }

    /// Takes back a buffer whose bytes are durable.
    pub(crate) fn give(&self, mut buffer: Buffer) {
        let mut buffers = lock(&self.buffers);
        if buffers.len() < BUFFERS_MAX && (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            buffers.push(buffer);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics in the middle of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Encodes groups in the order of the log; owned by one thread.
pub(crate) struct Encoder {
    network: [u8; 32],
    epoch: u64,
    /// Of each segment to come; the disk draws one ahead.
    epochs: Receiver<u64>,
    previous: [u8; 32],
    /// The groups of the newest segment so far, for its index.
    lines: Vec<Line>,
    shared: Arc<Shared>,
    /// Whether the clock may be read for histograms: not in a simulation.
    timed: bool,
}

impl Encoder {
    /// Goes on from where recovery ended.
    pub(crate) fn new(
        network: [u8; 32],
        end: &End,
        epochs: Receiver<u64>,
        shared: Arc<Shared>,
        timed: bool,
    ) -> Self {
        let (epoch, previous, lines) = (end.epoch, end.previous, end.lines.clone());
        Self { network, epoch, epochs, previous, lines, shared, timed }
    }

    /// Encodes the next group, or answers none when the disk's side is gone.
    pub(crate) fn encode(&mut self, group: &Group) -> Option<Encoded> {
        let began = self.timed.then(Instant::now);
        if group.kind == Kind::Open {
            self.epoch = self.epochs.recv().ok()?;
            self.lines.clear();
        }
        let header = Header {
            kind: group.kind,
            count: u32::try_from(group.records.len()).expect("the plan keeps it countable"),
            network: self.network,
            epoch: self.epoch,
            segment: group.segment,
            segment_bytes: group.segment_bytes,
            offset: group.offset,
            durable: self.shared.durable(group.segment),
            first_record: group.first_record,
            payload_bytes: group.payload_bytes,
            previous: self.previous,
        };
        let content = match group.kind {
            Kind::Open => Content::Link(group.seal),
            Kind::Seal => Content::Index(&self.lines, &group.entries),
            Kind::Records | Kind::Close => Content::Records(&group.records),
        };
        let mut bytes = lock(&self.shared.buffers).pop().unwrap_or_default();
        self.previous = frame::encode(&header, &content, &mut bytes);
        self.lines.push(Line::new(&header, self.previous));
        let times = began.map(|began| (began, Instant::now()));
        Some(Encoded { header, bytes, times })
    }
}
