//! io_uring submission and completion loop: pipelined writes, one sync at a time.
#![expect(unsafe_code, reason = "the kernel reads our buffers after the call that names them")]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::{EventfdFlags, PollFlags};
use rustix::fd::OwnedFd;

use crate::buffer::Buffer;
use crate::disk::folder::Folder;
use crate::disk::{Completion, Disk, Files, Source, Waker, Write, copy, short_write};
use crate::options::Choice;

/// The registered files: the newest segment, and the eventfd of the waker.
const SEGMENT_FILE: u32 = 0;
const EVENT_FILE: u32 = 1;
/// `IORING_REGISTER_FILES_UPDATE`, which the crate does not name publicly.
const REGISTER_FILES_UPDATE: u8 = 6;
/// Names of completions that are no write; tickets stay below.
const SYNC: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;
/// Beside the writes: one sync and one poll.
const EXTRA_ENTRIES: usize = 2;

/// The kernel's ring and the event that ends its waits; made and used by one thread.
pub(crate) struct Events {
    ring: IoUring,
    event: Arc<OwnedFd>,
    armed: bool,
}

impl Events {
    /// Sets a ring up that can do nothing but write, sync and poll on registered files.
    ///
    /// Shape: up to `groups_in_flight` writes at once.
    /// Errors: the step that the kernel refused, and its answer.
    pub(crate) fn new(groups_in_flight: usize) -> Result<Self, String> {
        let named = |step: &'static str| move |error: io::Error| format!("{step}: {error}");
        let entries = u32::try_from((groups_in_flight + EXTRA_ENTRIES).next_power_of_two())
            .map_err(|_| "too many groups in flight for a ring".to_owned())?;
        let ring = build(entries).map_err(named("io_uring_setup"))?;
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| named("eventfd")(error.into()))?;
        let submitter = ring.submitter();
        submitter
            .register_files(&[-1, event.as_raw_fd()])
            .map_err(named("io_uring_register files"))?;
        let fixed = squeue::Flags::FIXED_FILE.bits();
        submitter
            .register_restrictions(&mut [
                Restriction::sqe_op(opcode::Write::CODE),
                Restriction::sqe_op(opcode::Fsync::CODE),
                Restriction::sqe_op(opcode::PollAdd::CODE),
                Restriction::sqe_flags_allowed(fixed),
                Restriction::sqe_flags_required(fixed),
                Restriction::register_op(REGISTER_FILES_UPDATE),
            ])
            .map_err(named("io_uring_register restrictions"))?;
        submitter.register_enable_rings().map_err(named("io_uring_register enable"))?;
        let mut events = Self { ring, event: Arc::new(event), armed: false };
        // The first entry into the kernel happens here, where a refusal still has a fallback.
        events.arm().map_err(named("io_uring submission"))?;
        events.enter(0).map_err(named("io_uring_enter"))?;
        Ok(events)
    }

    /// Polls for the waker, unless that is under way.
    fn arm(&mut self) -> io::Result<()> {
        if !self.armed {
            let poll = opcode::PollAdd::new(types::Fixed(EVENT_FILE), PollFlags::IN.bits().into());
            self.push(&poll.build().user_data(WAKE))?;
            self.armed = true;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let sync = opcode::Fsync::new(types::Fixed(SEGMENT_FILE));
        let sync = sync.flags(types::FsyncFlags::DATASYNC);
        self.push(&sync.build().user_data(SYNC))
    }

    /// Writes a buffer that its owner keeps until the completion of `ticket`.
    fn write(&mut self, write: &Write) -> io::Result<()> {
        let size = u32::try_from(write.bytes.len()).expect("segments are below 4 GiB");
        let entry = opcode::Write::new(types::Fixed(SEGMENT_FILE), write.bytes.as_ptr(), size);
        self.push(&entry.offset(write.offset).build().user_data(write.ticket))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        let mut queue = self.ring.submission();
        // SAFETY: the descriptors are registered with this ring; the only entries that name
        // memory are writes, and `Ring` keeps their buffers in `flying`, unmoved, until the
        // kernel has completed them.
        let pushed = unsafe { queue.push(entry) };
        pushed.map_err(|_| io::Error::other("the submission queue is full"))
    }

    /// Submits everything and waits for so many completions.
    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(wanted) {
                Ok(_) => return Ok(()),
                // A signal; what was submitted goes on.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The completions so far, as (name, result).
    fn reap(&mut self) -> Vec<(u64, i32)> {
        let reaped: Vec<_> =
            self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        if reaped.iter().any(|(name, _)| *name == WAKE) {
            self.armed = false;
            // Empties the counter; it may be empty already.
            let _ = rustix::io::read(&*self.event, &mut [0; 8]);
        }
        reaped
    }
}

/// Deferred task work where the kernel has it (6.1), a plain ring otherwise.
fn build(entries: u32) -> io::Result<IoUring> {
    let best = IoUring::builder()
        .dontfork()
        .setup_r_disabled()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries);
    match best {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            IoUring::builder().dontfork().setup_r_disabled().build(entries)
        }
        best => best,
    }
}

/// The disk through io_uring.
///
/// A write goes to the kernel at once, a sync as soon as a write is complete and no other sync is
/// under way; it covers all writes that were complete when it began. So writes overlap a sync, and
/// small groups share one.
pub(crate) struct Ring {
    pub(crate) folder: Folder,
    events: Events,
    file: Option<(u64, File)>,
    /// Writes that the kernel works on: their buffers must not be freed.
    flying: HashMap<u64, Write>,
    written: Vec<Write>,
    syncing: Vec<Write>,
    done: Vec<Completion>,
    /// The first failure: nothing is submitted after it.
    dead: Option<io::Error>,
}

impl Ring {
    pub(crate) fn new(folder: Folder, events: Events) -> Self {
        Self {
            folder,
            events,
            file: None,
            flying: HashMap::new(),
            written: Vec::new(),
            syncing: Vec::new(),
            done: Vec::new(),
            dead: None,
        }
    }

    fn is_idle(&self) -> bool {
        self.flying.is_empty() && self.written.is_empty() && self.syncing.is_empty()
    }

    fn begin(&mut self, write: &Write) -> io::Result<()> {
        if let Some(error) = &self.dead {
            return Err(copy(error));
        }
        if self.file.as_ref().is_none_or(|(segment, _)| *segment != write.segment) {
            assert!(self.is_idle(), "writes of two segments are never in flight together");
            let file = self.folder.open_writer(write.segment)?;
            let submitter = self.events.ring.submitter();
            submitter.register_files_update(SEGMENT_FILE, &[file.as_raw_fd()])?;
            self.file = Some((write.segment, file));
        }
        self.events.write(write)
    }

    /// Enters the kernel once and sorts what it has done.
    fn turn(&mut self, wanted: usize) -> io::Result<bool> {
        if self.syncing.is_empty() && !self.written.is_empty() {
            self.events.sync()?;
            self.syncing = std::mem::take(&mut self.written);
        }
        self.events.arm()?;
        self.events.enter(wanted)?;
        let mut woken = false;
        let mut failed = Ok(());
        // To the end, whatever fails: a completion that is not taken here never comes again.
        for (name, result) in self.events.reap() {
            let outcome = match name {
                WAKE => {
                    woken = true;
                    Ok(())
                }
                SYNC => self.synced(result),
                ticket => self.wrote(ticket, result),
            };
            failed = failed.and(outcome);
        }
        failed.map(|()| woken)
    }

    fn wrote(&mut self, ticket: u64, result: i32) -> io::Result<()> {
        let write = self.flying.remove(&ticket).expect("the kernel completes a write once");
        let outcome = match usize::try_from(result) {
            Ok(written) if written == write.bytes.len() => Ok(()),
            Ok(written) => Err(short_write(written, write.bytes.len())),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        match outcome {
            Ok(()) => self.written.push(write),
            Err(error) => {
                let result = Err(copy(&error));
                self.done.push(Completion { ticket, bytes: write.bytes, result });
                return Err(error);
            }
        }
        Ok(())
    }

    fn synced(&mut self, result: i32) -> io::Result<()> {
        if result != 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        for write in self.syncing.drain(..) {
            let Write { ticket, bytes, .. } = write;
            self.done.push(Completion { ticket, bytes, result: Ok(()) });
        }
        Ok(())
    }

    /// Fails everything that is not durable; buffers that the kernel may still read stay.
    fn die(&mut self, error: io::Error) {
        if self.dead.is_some() {
            return;
        }
        for write in self.written.drain(..).chain(self.syncing.drain(..)) {
            let Write { ticket, bytes, .. } = write;
            self.done.push(Completion { ticket, bytes, result: Err(copy(&error)) });
        }
        for ticket in self.flying.keys() {
            let result = Err(copy(&error));
            self.done.push(Completion { ticket: *ticket, bytes: Buffer::default(), result });
        }
        self.dead = Some(error);
    }
}

impl Disk for Ring {
    fn choice(&self) -> Choice {
        Choice { name: "io_uring", reason: None }
    }

    fn path(&self) -> PathBuf {
        self.folder.path()
    }

    fn lock(&mut self) -> io::Result<()> {
        self.folder.lock()
    }

    fn segments(&mut self) -> io::Result<Vec<(u64, u64)>> {
        self.folder.segments()
    }

    fn create(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        self.folder.create(segment, bytes)
    }

    fn prepare(&mut self, segment: u64, bytes: u64) {
        self.folder.prepare(segment, bytes);
    }

    fn open(&self, segment: u64) -> io::Result<Arc<dyn Source>> {
        self.folder.open(segment)
    }

    fn epoch(&mut self) -> io::Result<u64> {
        self.folder.epoch()
    }

    fn submit(&mut self, write: Write) {
        match self.begin(&write) {
            Ok(()) => {
                self.flying.insert(write.ticket, write);
                // To the kernel now, so that it copies while the next group is laid out.
                if let Err(error) = self.events.enter(0) {
                    self.die(error);
                }
            }
            Err(error) => {
                let Write { ticket, bytes, .. } = write;
                self.done.push(Completion { ticket, bytes, result: Err(copy(&error)) });
                self.die(error);
            }
        }
    }

    fn complete(&mut self, done: &mut Vec<Completion>) {
        while self.done.is_empty() {
            match self.turn(1) {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => self.die(error),
            }
        }
        if self.dead.is_none() && self.syncing.is_empty() && !self.written.is_empty() {
            // The next sync begins before the caller is told of the last one.
            if let Err(error) = self.turn(0) {
                self.die(error);
            }
        }
        done.append(&mut self.done);
    }

    fn waker(&self) -> Waker {
        Waker::event(Arc::clone(&self.events.event))
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.folder.files())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while !self.flying.is_empty() {
            if self.events.enter(1).is_err() {
                // Better lost than read by the kernel after something else has moved in.
                std::mem::forget(std::mem::take(&mut self.flying));
                return;
            }
            for (name, _) in self.events.reap() {
                self.flying.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
