//! What a store needs beside appends and reads: scrubbing, repair, pruning, snapshots.

use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;

use super::{Mode, Store, drain};
use crate::anchor::Anchor;
use crate::buffer::Buffer;
use crate::error::{Damage, Error};
use crate::frame::Header;
use crate::reader::Verified;
use crate::repair::Damaged;
use crate::segment::Segment;

/// How far a scrub has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrub {
    at: (u64, u64),
    /// Where this pass ends: where the store did when it began.
    end: Option<(u64, u64)>,
    /// How often it has reached the end and begun again.
    pub passes: u64,
}

impl Store {
    /// Checks durable groups on the medium itself, past any cache, from where the last call ended.
    ///
    /// Shape: so many bytes, and the group that reaches them; begins again where the store ended when the
    /// pass began, and returns there: a store that grows faster than this is called is gone over again all
    /// the same. What is found damaged is in [`damaged`](Store::damaged).
    pub fn scrub(&self, scrub: &mut Scrub, bytes: u64) -> u64 {
        let mut done = 0;
        let mut group = Buffer::default();
        while done < bytes {
            let end = *scrub.end.get_or_insert_with(|| self.catalog().end());
            let is_before_end =
                |(segment, offset, _): &(Arc<Segment>, u64, u64)| (segment.number(), *offset) < end;
            let next = self.catalog().group_from(scrub.at).filter(is_before_end);
            let Some((segment, offset, group_bytes)) = next else {
                *scrub = Scrub { at: (0, 0), end: None, passes: scrub.passes + 1 };
                break;
            };
            let files = &self.inner.log.files;
            let checked = files
                .probe(segment.number(), offset, group_bytes, &mut group)
                .map_err(|error| segment.failed(offset, error))
                .and_then(|()| segment.check(offset, &group));
            if let Err(error) = self.noted(checked)
                && !is_damage(&error)
                && self.catalog().segment(segment.number()).is_some()
            {
                // The machine's trouble, such as no more descriptors: this group is looked at again.
                break;
            }
            scrub.at = (segment.number(), offset + group_bytes);
            done += group_bytes;
        }
        done
    }

    /// Checks every durable group of some segments, and that each follows the one before.
    ///
    /// Shape: the numbers of the first segment and of the one after the last; what is not there is
    /// passed over, and an open store is never `clean`.
    /// Errors: [`Error::Corrupt`] with the first place that is wrong, and the machine's.
    pub fn verify(&self, segments: std::ops::Range<u64>) -> Result<Verified, Error> {
        let mut verified = Verified { segments: 0, groups: 0, records: 0, bytes: 0, clean: false };
        let there = {
            let catalog = self.catalog();
            let end = catalog.newest().map_or(0, |newest| newest + 1);
            segments.start.max(catalog.first)..segments.end.min(end)
        };
        for number in there {
            let Some(segment) = self.catalog().segment(number).cloned() else { continue };
            self.noted(verify_segment(&segment, &mut verified))?;
        }
        Ok(verified)
    }

    /// The groups that were found damaged and are not repaired, as (segment, offset).
    pub fn damaged(&self) -> Vec<(u64, u64)> {
        self.inner.log.damaged().iter().copied().collect()
    }

    /// What a damaged group was, as far as the store knows.
    ///
    /// Shape: none where no durable group begins, or while the index of its segment is on its way to
    /// the disk: then it is asked for again later.
    /// Errors: [`Error::Corrupt`] where what would tell is damaged too, and the machine's.
    pub fn examine(&self, place: (u64, u64)) -> Result<Option<Damaged>, Error> {
        let entries = self.inner.log.newest_entries(place.0);
        let (segment, next) = {
            let catalog = self.catalog();
            (catalog.segment(place.0).cloned(), catalog.segment(place.0 + 1).cloned())
        };
        let Some(segment) = segment else { return Ok(None) };
        self.noted(Damaged::examine(&segment, next.as_deref(), &entries, place.1))
    }

    /// Writes a damaged group again as it was, and reads it back from the medium.
    ///
    /// Shape: one body for each of its records, in order; false, and nothing is written, when they are
    /// not the bodies that it had.
    /// Errors: the machine's; [`Error::Corrupt`] when the medium does not keep it; [`Error::Closed`],
    /// [`Error::Poisoned`].
    pub fn repair(&self, damaged: &Damaged, bodies: &[&[u8]]) -> Result<bool, Error> {
        let Some(rebuilt) = damaged.rebuild(bodies) else { return Ok(false) };
        let Damaged { segment, offset, bytes, .. } = *damaged;
        let log = &self.inner.log;
        let _alone = self.alone();
        log.refuse()?;
        let Some(kept) = self.catalog().segment(segment).cloned() else { return Ok(false) };
        let failed = |error| kept.failed(offset, error);
        log.files.rewrite(segment, offset, &rebuilt).map_err(failed)?;
        let mut found = Buffer::default();
        log.files.probe(segment, offset, bytes, &mut found).map_err(failed)?;
        if *found != *rebuilt {
            return Err(kept.corrupt(offset, Damage::Hash));
        }
        log.mended(segment, offset);
        Ok(true)
    }

    /// Gives up every sealed segment below a number, and answers how many went.
    ///
    /// Shape: the newest segment stays. Readers that still have a view of one keep it; its file is
    /// only used again when there is none.
    /// Errors: [`Error::Closed`], [`Error::Poisoned`], and the machine's; what could not be removed is
    /// removed when the store is next opened. On a disk without any room it works all the same.
    pub fn prune_below(&self, segment: u64) -> Result<u64, Error> {
        let log = &self.inner.log;
        let _alone = self.alone();
        log.refuse()?;
        let (first, stays) = {
            let catalog = self.catalog();
            let newest = catalog.newest().unwrap_or(0);
            (catalog.first, catalog.segment(segment.min(newest)).cloned())
        };
        let Some(stays) = stays.filter(|stays| stays.number() > first) else { return Ok(0) };
        let failed = |number, action| {
            move |error| Error::Disk { segment: number, offset: 0, action, source: Arc::new(error) }
        };
        let newest = self.catalog().newest().unwrap_or(0);
        let anchor = self.anchor()?.next(stays.opening(), newest);
        let set = log.files.set_anchor(anchor.slot(), &anchor.encode());
        set.map_err(failed(first, "prune"))?;
        for number in first..stays.number() {
            let going = self.catalog().segment(number).cloned().expect("below the one that stays");
            let entries = going.index().map(|(_, entries)| entries);
            let mut catalog = log.catalog.write().expect("no holder of the catalog panics");
            match entries {
                Ok(entries) => {
                    for entry in &entries {
                        catalog.index.remove(&entry.header, entry.place(number));
                    }
                }
                // Without its index, all that points there is looked for.
                Err(_) => catalog.index.forget(number),
            }
            catalog.segments.pop_front();
            catalog.first = number + 1;
            drop(catalog);
            log.forget_damage(number);
            let unused = Arc::try_unwrap(going).is_ok();
            log.files.retire(number, unused).map_err(failed(number, "remove"))?;
        }
        Ok(stays.number() - first)
    }

    /// Seals the newest segment and gives every sealed one a second name in another folder of the
    /// same file system, which then is a store of its own; answers how many.
    ///
    /// Shape: everything that was appended before the call is in it.
    /// Errors: [`Error::Poisoned`], [`Error::Closed`], and the machine's, such as for a folder that
    /// has segments already.
    pub fn snapshot(&self, directory: &Path) -> Result<u64, Error> {
        let log = &self.inner.log;
        let failed = |error| Error::Folder {
            path: directory.to_owned(),
            action: "make a snapshot in",
            source: Arc::new(error),
        };
        log.seal()?;
        // Nobody is kept waiting with it: the disk may be full.
        match &self.inner.mode {
            Mode::Thread(_, id) => {
                assert!(thread::current().id() != *id, "a callback cannot wait for its own thread");
                log.wait_sealed()?;
            }
            Mode::Inline(pipe) => {
                drain(log, pipe);
                log.poisoned()?;
            }
        }
        let _alone = self.alone();
        log.refuse()?;
        log.files.begin_links(directory).map_err(failed)?;
        let (first, newest) = {
            let catalog = self.catalog();
            (catalog.segments.front().cloned(), catalog.newest().unwrap_or(0))
        };
        let first = first.expect("an open store has a segment");
        for number in first.number()..newest {
            log.files.link(number, directory).map_err(failed)?;
        }
        // All of it is sealed: the store that opens it cuts nothing, and writes to none of these files.
        let anchor = self.anchor()?.next(first.opening(), newest);
        let linked = log.files.finish_links(directory, anchor.slot(), &anchor.encode());
        linked.map_err(failed)?;
        Ok(newest - first.number())
    }

    /// Where the store now begins.
    fn anchor(&self) -> Result<Anchor, Error> {
        let read = self.inner.log.files.anchor().map_err(|error| Error::Folder {
            path: "FIRST".into(),
            action: "read",
            source: Arc::new(error),
        });
        Anchor::decode(read?.as_deref())
    }

    /// Remembers damage that a call has found.
    pub(super) fn noted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result
            && is_damage(error)
            && let Error::Corrupt { segment, offset, .. } | Error::Disk { segment, offset, .. } =
                error
        {
            self.inner.log.note_damage(*segment, *offset);
        }
        result
    }

    /// Only one of repair, pruning and snapshot at a time.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.inner.log.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says something about the medium, and not about the rest of the machine.
fn is_damage(error: &Error) -> bool {
    use rustix::io::Errno;
    match error {
        Error::Corrupt { .. } => true,
        Error::Disk { source, .. } => {
            let bad = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA];
            source.kind() == io::ErrorKind::UnexpectedEof
                || bad.iter().any(|code| source.raw_os_error() == Some(code.raw_os_error()))
        }
        _ => false,
    }
}

fn verify_segment(segment: &Segment, verified: &mut Verified) -> Result<(), Error> {
    let opening = segment.opening();
    let (mut previous, mut records) = (opening.previous, opening.first_record);
    let mut at = 0;
    while let Some((offset, bytes)) = segment.group_from(at) {
        let group = segment.copy(offset, bytes)?;
        let header: Header = segment.check(offset, &group)?;
        if header.previous != previous {
            return Err(segment.corrupt(offset, Damage::Link));
        }
        if header.first_record != records {
            return Err(segment.corrupt(offset, Damage::Numbers));
        }
        previous = crate::frame::trailer(&header, &group);
        records += u64::from(header.count);
        at = offset + bytes;
        verified.groups += 1;
        verified.bytes += bytes;
    }
    verified.segments += 1;
    verified.records += records - opening.first_record;
    Ok(())
}

#[cfg(test)]
mod tests;
