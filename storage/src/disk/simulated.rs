//! A disk in memory, decided by its seed: power cuts, torn and lost writes, bit rot, errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::anchor::SLOT_BYTES;
use crate::buffer::Buffer;
use crate::disk::{Completion, Disk, Files, Source, Waker, Write, short_write, sync_written};
use crate::frame::index;
use crate::options::Choice;
use crate::segment::map::Map;

/// The unit that a power cut keeps or loses whole.
const SECTOR_BYTES: usize = 512;
/// How far off a misdirected write lands.
const MISDIRECTED_BYTES: u64 = 16 << 10;

/// A simulated machine's disk; clones share the machine.
///
/// A handle lives until the next [`crash`](Simulated::crash) or [`restart`](Simulated::restart):
/// every call on an older one fails, as its process is gone.
pub struct Simulated {
    machine: Arc<Mutex<Machine>>,
    boot: u64,
    /// Whether this handle, and no clone of it, holds the folder's lock.
    locked: bool,
    /// Writes that wait for a sync, and the segment they went to.
    written: Vec<Completion>,
    segment: u64,
}

/// What happens at a chosen call; calls are creations, writes and syncs, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with this error number and has no effect; a sync that fails so forgets the
    /// unsynced bytes: they read back, but no later sync saves them.
    Error(i32),
    /// A write takes only its first half; other calls fail.
    Short,
    /// A write is reported done and reaches nothing; other calls work.
    Lost,
    /// A write is reported done and lands 16 KiB further on, or further back; other calls work.
    Misdirected,
    /// The power fails during the call; sectors that were not synced survive at random.
    PowerCut,
}

struct Machine {
    random: u64,
    boot: u64,
    on: bool,
    locked: bool,
    calls: u64,
    faults: BTreeMap<u64, Fault>,
    capacity_bytes: u64,
    reads_fail: bool,
    segments: BTreeMap<u64, Medium>,
    anchor: Option<Vec<u8>>,
}

/// One segment: absent sectors are zero.
#[derive(Default)]
struct Medium {
    bytes: u64,
    cached: BTreeMap<u64, [u8; SECTOR_BYTES]>,
    durable: BTreeMap<u64, [u8; SECTOR_BYTES]>,
    dirty: BTreeSet<u64>,
}

impl Simulated {
    /// A new machine with an empty disk, switched on.
    pub fn new(seed: u64) -> Self {
        let machine = Machine {
            random: seed,
            boot: 0,
            on: true,
            locked: false,
            calls: 0,
            faults: BTreeMap::new(),
            capacity_bytes: u64::MAX,
            reads_fail: false,
            segments: BTreeMap::new(),
            anchor: None,
        };
        Self::handle(Arc::new(Mutex::new(machine)), 0)
    }

    /// Cuts the power and switches the machine on again: unsynced sectors survive or are lost, each
    /// at random; pending faults are forgotten.
    pub fn crash(&self) -> Self {
        let mut machine = self.machine();
        machine.cut();
        drop(machine);
        self.restart()
    }

    /// Kills the process and begins another: unsynced bytes stay in the machine's cache.
    pub fn restart(&self) -> Self {
        let mut machine = self.machine();
        machine.boot += 1;
        machine.on = true;
        machine.locked = false;
        machine.faults.clear();
        let boot = machine.boot;
        drop(machine);
        Self::handle(Arc::clone(&self.machine), boot)
    }

    /// The calls so far: creations, writes and syncs.
    pub fn calls(&self) -> u64 {
        self.machine().calls
    }

    /// Sets what happens at a call to come.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.machine().faults.insert(call, fault);
    }

    /// Makes creations fail with `ENOSPC` that would go beyond this size of all segments together.
    pub fn limit(&self, capacity_bytes: u64) {
        self.machine().capacity_bytes = capacity_bytes;
    }

    /// Makes every read fail with `EIO`, or no longer.
    pub fn fail_reads(&self, fail: bool) {
        self.machine().reads_fail = fail;
    }

    /// Flips bits of a byte on the medium, as rot does.
    pub fn rot(&self, segment: u64, offset: u64, bits: u8) {
        let mut machine = self.machine();
        let medium = machine.segments.get_mut(&segment).expect("rot strikes a segment that exists");
        let sector = offset / SECTOR_BYTES as u64;
        let at = index(offset % SECTOR_BYTES as u64);
        medium.cached.entry(sector).or_insert([0; SECTOR_BYTES])[at] ^= bits;
        medium.durable.entry(sector).or_insert([0; SECTOR_BYTES])[at] ^= bits;
    }

    /// The bytes of a segment as a read gives them.
    pub fn image(&self, segment: u64) -> Option<Vec<u8>> {
        let machine = self.machine();
        let medium = machine.segments.get(&segment)?;
        let mut image = vec![0; index(medium.bytes)];
        medium.read(0, &mut image);
        Some(image)
    }

    fn handle(machine: Arc<Mutex<Machine>>, boot: u64) -> Self {
        Self { machine, boot, locked: false, written: Vec::new(), segment: 0 }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().expect("no holder of the machine panics")
    }

    /// The machine, if this handle's process still lives.
    fn alive(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.machine();
        machine.alive(self.boot)?;
        Ok(machine)
    }

    /// A change of names: a power cut leaves it whole or undone, never between.
    fn whole(&self, change: impl FnOnce(&mut Machine)) -> io::Result<()> {
        let mut machine = self.alive()?;
        match machine.call() {
            Some(Fault::Error(code)) => return Err(io::Error::from_raw_os_error(code)),
            Some(Fault::Short) => return Err(io::ErrorKind::Interrupted.into()),
            Some(Fault::PowerCut) => {
                if machine.draw().is_multiple_of(2) {
                    change(&mut machine);
                }
                return Err(machine.cut());
            }
            Some(Fault::Lost | Fault::Misdirected) | None => change(&mut machine),
        }
        Ok(())
    }

    fn write(&self, segment: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut machine = self.alive()?;
        let size = bytes.len();
        let fault = machine.call();
        let take = match fault {
            Some(Fault::Error(code)) => return Err(io::Error::from_raw_os_error(code)),
            Some(Fault::Short) => size / 2,
            Some(Fault::Lost) => 0,
            Some(Fault::Misdirected | Fault::PowerCut) | None => size,
        };
        let medium = machine.segments.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        let end = offset + size as u64;
        assert!(end <= medium.bytes, "segments do not grow");
        let at = match fault {
            Some(Fault::Misdirected) if end + MISDIRECTED_BYTES <= medium.bytes => {
                offset + MISDIRECTED_BYTES
            }
            Some(Fault::Misdirected) => offset.saturating_sub(MISDIRECTED_BYTES),
            _ => offset,
        };
        medium.write(at, &bytes[..take]);
        match fault {
            Some(Fault::PowerCut) => Err(machine.cut()),
            Some(Fault::Short) => Err(short_write(take, size)),
            Some(Fault::Error(_) | Fault::Lost | Fault::Misdirected) | None => Ok(()),
        }
    }

    fn sync(&self, segment: u64) -> io::Result<()> {
        let mut machine = self.alive()?;
        let fault = machine.call();
        if fault == Some(Fault::PowerCut) {
            return Err(machine.cut());
        }
        let medium = machine.segments.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        match fault {
            None | Some(Fault::Lost | Fault::Misdirected) => {
                medium.sync();
                Ok(())
            }
            Some(Fault::Error(code)) => {
                medium.dirty.clear();
                Err(io::Error::from_raw_os_error(code))
            }
            Some(Fault::Short | Fault::PowerCut) => {
                medium.dirty.clear();
                Err(io::ErrorKind::Interrupted.into())
            }
        }
    }
}

impl Clone for Simulated {
    fn clone(&self) -> Self {
        Self::handle(Arc::clone(&self.machine), self.boot)
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let mut machine = self.machine();
        if self.locked && machine.boot == self.boot {
            machine.locked = false;
        }
    }
}

impl Disk for Simulated {
    fn choice(&self) -> Choice {
        Choice { name: "simulated", reason: None }
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("simulated")
    }

    fn lock(&mut self) -> io::Result<()> {
        let mut machine = self.alive()?;
        if machine.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        machine.locked = true;
        drop(machine);
        self.locked = true;
        Ok(())
    }

    fn segments(&mut self) -> io::Result<Vec<(u64, u64)>> {
        let machine = self.alive()?;
        Ok(machine.segments.iter().map(|(number, medium)| (*number, medium.bytes)).collect())
    }

    fn create(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        let mut machine = self.alive()?;
        let fault = machine.call();
        match fault {
            Some(Fault::Error(code)) => return Err(io::Error::from_raw_os_error(code)),
            Some(Fault::Short) => return Err(io::ErrorKind::Interrupted.into()),
            Some(Fault::PowerCut | Fault::Lost | Fault::Misdirected) | None => {}
        }
        let exists = machine.segments.get(&segment).is_some_and(|medium| medium.bytes == bytes);
        let others = machine.segments.iter().filter(|(number, _)| **number != segment);
        let used: u64 = others.map(|(_, medium)| medium.bytes).sum();
        if !exists && used.saturating_add(bytes) > machine.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // A power cut leaves the segment whole or absent, never between.
        let is_cut = fault == Some(Fault::PowerCut);
        let reached = !is_cut || machine.draw().is_multiple_of(2);
        if !exists && reached {
            machine.segments.insert(segment, Medium { bytes, ..Medium::default() });
        }
        if is_cut { Err(machine.cut()) } else { Ok(()) }
    }

    fn prepare(&mut self, _segment: u64, _bytes: u64) {}

    fn open(&self, segment: u64) -> io::Result<Arc<dyn Source>> {
        let machine = self.alive()?;
        if !machine.segments.contains_key(&segment) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let machine = Arc::clone(&self.machine);
        Ok(Arc::new(SimulatedSource { machine, boot: self.boot, segment }))
    }

    fn epoch(&mut self) -> io::Result<u64> {
        Ok(self.alive()?.draw())
    }

    fn submit(&mut self, write: Write) {
        let result = self.write(write.segment, write.offset, &write.bytes);
        self.segment = write.segment;
        self.written.push(Completion { ticket: write.ticket, bytes: write.bytes, result });
    }

    fn complete(&mut self, done: &mut Vec<Completion>) {
        let mut written = std::mem::take(&mut self.written);
        sync_written(&mut written, || self.sync(self.segment));
        done.append(&mut written);
    }

    fn waker(&self) -> Waker {
        Waker::none()
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.clone())
    }
}

impl Files for Simulated {
    fn rewrite(&self, segment: u64, offset: u64, bytes: &Buffer) -> io::Result<()> {
        self.write(segment, offset, bytes)?;
        self.sync(segment)
    }

    fn probe(&self, segment: u64, offset: u64, bytes: u64, into: &mut Buffer) -> io::Result<()> {
        self.open(segment)?.read(offset, into.filled(index(bytes)))
    }

    fn lease(&self, _: u64) -> io::Result<Option<File>> {
        Ok(None)
    }

    fn anchor(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.alive()?.anchor.clone())
    }

    fn set_anchor(&self, slot: usize, bytes: &[u8; SLOT_BYTES]) -> io::Result<()> {
        self.whole(|machine| {
            let file = machine.anchor.get_or_insert_with(|| vec![0; 2 * SLOT_BYTES]);
            file[slot * SLOT_BYTES..][..SLOT_BYTES].copy_from_slice(bytes);
        })
    }

    fn retire(&self, segment: u64, _unused: bool) -> io::Result<()> {
        self.whole(|machine| drop(machine.segments.remove(&segment)))
    }

    fn link(&self, _segment: u64, _directory: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn begin_links(&self, _directory: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn finish_links(
        &self,
        _directory: &Path,
        _slot: usize,
        _bytes: &[u8; SLOT_BYTES],
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Machine {
    fn alive(&self, boot: u64) -> io::Result<()> {
        if self.on && self.boot == boot {
            Ok(())
        } else {
            Err(io::Error::other("the machine is off, or this process is gone"))
        }
    }

    /// Counts a call and says what happens to it.
    fn call(&mut self) -> Option<Fault> {
        let call = self.calls;
        self.calls += 1;
        self.faults.remove(&call)
    }

    /// Switches off: each unsynced sector keeps its new bytes or falls back to its old ones.
    fn cut(&mut self) -> io::Error {
        self.on = false;
        let mut segments = std::mem::take(&mut self.segments);
        for medium in segments.values_mut() {
            for sector in std::mem::take(&mut medium.dirty) {
                if self.draw().is_multiple_of(2) {
                    medium.save(sector);
                }
            }
            medium.cached = medium.durable.clone();
        }
        self.segments = segments;
        io::Error::other("the power failed")
    }

    /// The next number of splitmix64, a generator that any seed fits.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Medium {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset.is_multiple_of(SECTOR_BYTES as u64), "groups begin at sectors");
        for (sector, chunk) in (offset / SECTOR_BYTES as u64..).zip(bytes.chunks(SECTOR_BYTES)) {
            self.cached.entry(sector).or_insert([0; SECTOR_BYTES])[..chunk.len()]
                .copy_from_slice(chunk);
            self.dirty.insert(sector);
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let begin = index(at % SECTOR_BYTES as u64);
            let (piece, left) = rest.split_at_mut(rest.len().min(SECTOR_BYTES - begin));
            match self.cached.get(&(at / SECTOR_BYTES as u64)) {
                Some(sector) => piece.copy_from_slice(&sector[begin..begin + piece.len()]),
                None => piece.fill(0),
            }
            at += piece.len() as u64;
            rest = left;
        }
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.save(sector);
        }
    }

    fn save(&mut self, sector: u64) {
        let bytes = self.cached.get(&sector).expect("a dirty sector is cached");
        self.durable.insert(sector, *bytes);
    }
}

struct SimulatedSource {
    machine: Arc<Mutex<Machine>>,
    boot: u64,
    segment: u64,
}

impl Source for SimulatedSource {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let machine = self.machine.lock().expect("no holder of the machine panics");
        machine.alive(self.boot)?;
        if machine.reads_fail {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        let medium = machine.segments.get(&self.segment).ok_or(io::ErrorKind::NotFound)?;
        if offset + buffer.len() as u64 > medium.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        medium.read(offset, buffer);
        Ok(())
    }

    fn map(&self) -> io::Result<Option<Map>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
