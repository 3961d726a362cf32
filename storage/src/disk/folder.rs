//! A folder of segment files: lock, listing, creation, reading; shared by both real backends.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::rand::GetRandomFlags;

use crate::anchor::SLOT_BYTES;
use crate::buffer::{Buffer, Sink};
use crate::disk::{Files, Source};
use crate::frame::index;
use crate::segment::map::Map;

/// The file whose lock says that a process has the store open.
pub(crate) const LOCK: &str = "LOCK";
/// The file that says where a store begins.
const FIRST: &str = "FIRST";
/// What a pruned segment's file is called until it becomes another segment.
const FREE: &str = "free";
/// Pruned files that are kept for that.
const FREE_MAX: usize = 2;
/// Zeros are written in calls of this size.
const ZERO_BYTES: u64 = 1 << 20;
/// Zeros are pushed to the medium this often, so that a sync of the log next door does not wait
/// behind a quarter of a gigabyte.
const ZERO_SYNC_BYTES: u64 = 16 << 20;

/// One store's folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    lock: Option<File>,
    preparing: Option<(u64, JoinHandle<io::Result<()>>)>,
    #[cfg(test)]
    pub(crate) epochs: Option<u64>,
}

impl Folder {
    /// Names the folder; nothing is touched before [`lock`](Self::lock).
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            lock: None,
            preparing: None,
            #[cfg(test)]
            epochs: None,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Makes the folder if need be and locks it; leftovers of an unfinished creation go.
    pub(crate) fn lock(&mut self) -> io::Result<()> {
        if !self.path.is_dir() {
            fs::create_dir_all(&self.path)?;
            if let Some(parent) = self.path.parent() {
                sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
            }
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path.join(LOCK))?;
        try_lock(&file)?;
        self.lock = Some(file);
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension() == Some(OsStr::new("tmp")) {
                fs::remove_file(path)?;
            }
        }
        if !self.path.join(FIRST).exists() {
            make_anchor(&self.path)?;
        }
        sync_folder(&self.path)
    }

    pub(crate) fn segments(&self) -> io::Result<Vec<(u64, u64)>> {
        segments(&self.path)
    }

    pub(crate) fn create(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        if let Some((_, thread)) = self.preparing.take() {
            // Its failure is not the log's: the segment is made again here, and that one counts.
            let _ = thread.join();
        }
        match fs::metadata(file_path(&self.path, segment)) {
            Ok(metadata) if metadata.len() == bytes => Ok(()),
            Ok(_) => make(&self.path, segment, bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&self.path, segment, bytes)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the segment on a thread of its own, one at a time.
    pub(crate) fn prepare(&mut self, segment: u64, bytes: u64) {
        let busy = self.preparing.as_ref().is_some_and(|(number, _)| *number >= segment);
        if busy || file_path(&self.path, segment).exists() {
            return;
        }
        let path = self.path.clone();
        let thread = std::thread::Builder::new()
            .name("storage-prepare".to_owned())
            .spawn(move || make(&path, segment, bytes));
        // Without a thread the segment is made when it is needed.
        self.preparing = thread.ok().map(|thread| (segment, thread));
    }

    pub(crate) fn files(&self) -> Named {
        Named { path: self.path.clone() }
    }

    pub(crate) fn open(&self, segment: u64) -> io::Result<Arc<dyn Source>> {
        Ok(Arc::new(open_source(&self.path, segment)?))
    }

    /// The segment's file for writing whole pages.
    pub(crate) fn open_writer(&self, segment: u64) -> io::Result<File> {
        open_direct(OpenOptions::new().write(true), &file_path(&self.path, segment))
    }

    pub(crate) fn epoch(&mut self) -> io::Result<u64> {
        #[cfg(test)]
        if let Some(epoch) = &mut self.epochs {
            *epoch += 1;
            return Ok(*epoch);
        }
        let mut bytes = [0; 8];
        let filled = rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
        if filled != bytes.len() {
            return Err(io::Error::other("the kernel gave too few random bytes"));
        }
        Ok(u64::from_le_bytes(bytes))
    }
}

/// The segments of a folder by name, for any thread.
#[derive(Debug)]
pub(crate) struct Named {
    path: PathBuf,
}

impl Files for Named {
    fn rewrite(&self, segment: u64, offset: u64, bytes: &Buffer) -> io::Result<()> {
        let path = file_path(&self.path, segment);
        let file = open_direct(OpenOptions::new().write(true), &path)?;
        file.write_all_at(bytes, offset)?;
        file.sync_data()
    }

    fn probe(&self, segment: u64, offset: u64, bytes: u64, into: &mut Buffer) -> io::Result<()> {
        let path = file_path(&self.path, segment);
        let file = open_direct(OpenOptions::new().read(true), &path)?;
        file.read_exact_at(into.filled(index(bytes)), offset)
    }

    fn lease(&self, segment: u64) -> io::Result<Option<File>> {
        Ok(Some(lease_source(&self.path, segment)?.file))
    }

    fn anchor(&self) -> io::Result<Option<Vec<u8>>> {
        anchor(&self.path)
    }

    fn set_anchor(&self, slot: usize, bytes: &[u8; SLOT_BYTES]) -> io::Result<()> {
        set_anchor(&self.path, slot, bytes)
    }

    fn retire(&self, segment: u64, unused: bool) -> io::Result<()> {
        let path = file_path(&self.path, segment);
        // A snapshot's name for it is another use; a lease on it is asked for before it is written to.
        let unused = unused && fs::metadata(&path)?.nlink() == 1;
        if unused && free(&self.path)?.len() < FREE_MAX {
            fs::rename(&path, path.with_extension(FREE))?;
        } else {
            fs::remove_file(&path)?;
        }
        sync_folder(&self.path)
    }

    fn begin_links(&self, directory: &Path) -> io::Result<()> {
        if directory.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let partial = partial(directory);
        fs::create_dir_all(&partial)?;
        // Left by one that was cut short; nothing else that may be there is touched.
        for (segment, _) in segments(&partial)? {
            fs::remove_file(file_path(&partial, segment))?;
        }
        Ok(())
    }

    fn link(&self, segment: u64, directory: &Path) -> io::Result<()> {
        fs::hard_link(file_path(&self.path, segment), file_path(&partial(directory), segment))
    }

    fn finish_links(
        &self,
        directory: &Path,
        slot: usize,
        bytes: &[u8; SLOT_BYTES],
    ) -> io::Result<()> {
        let partial = partial(directory);
        set_anchor(&partial, slot, bytes)?;
        sync_folder(&partial)?;
        fs::rename(&partial, directory)?;
        match directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
            _ => sync_folder(Path::new(".")),
        }
    }
}

/// What a snapshot's folder is called until it is whole.
fn partial(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    directory.with_file_name(name)
}

/// Writes one slot; the file is made where there is none.
fn set_anchor(directory: &Path, slot: usize, bytes: &[u8; SLOT_BYTES]) -> io::Result<()> {
    let path = directory.join(FIRST);
    if !path.exists() {
        make_anchor(directory)?;
    }
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(bytes, (slot * SLOT_BYTES) as u64)?;
    file.sync_data()
}

/// Makes the file with nothing in its slots: writing to it later needs no room.
fn make_anchor(directory: &Path) -> io::Result<()> {
    let temporary = directory.join("FIRST.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&[0; 2 * SLOT_BYTES])?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(FIRST))?;
    sync_folder(directory)
}

/// The file that says where a store begins.
pub(crate) fn anchor(directory: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(directory.join(FIRST)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pruned files that wait to become segments.
fn free(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(FREE)) {
            found.push(path);
        }
    }
    Ok(found)
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some((_, thread)) = self.preparing.take() {
            // The lock must outlive every writer of the folder; a failed spare is made again.
            let _ = thread.join();
        }
    }
}

/// Read access to a segment's file.
#[derive(Debug)]
pub(crate) struct FileSource {
    file: File,
}

impl Source for FileSource {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn map(&self) -> io::Result<Option<Map>> {
        Map::new(&self.file).map(Some)
    }
}

/// Opens a segment's file for reading.
pub(crate) fn open_source(directory: &Path, segment: u64) -> io::Result<FileSource> {
    Ok(FileSource { file: File::open(file_path(directory, segment))? })
}

/// The same without the folder's lock, under a lease: the file is not used for another segment before
/// this is dropped, also when it is pruned.
pub(crate) fn lease_source(directory: &Path, segment: u64) -> io::Result<FileSource> {
    let path = file_path(directory, segment);
    loop {
        let file = File::open(&path)?;
        file.lock_shared()?;
        // Before the lease was there it may have been pruned and become another segment.
        if file.metadata()?.ino() == fs::metadata(&path)?.ino() {
            return Ok(FileSource { file });
        }
    }
}

/// The segments in a folder, as (number, bytes), ascending.
pub(crate) fn segments(directory: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(segment_number) {
            found.push((number, entry.metadata()?.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Tries to lock a file for this process alone.
///
/// Errors: [`io::ErrorKind::WouldBlock`] when another process holds it.
pub(crate) fn try_lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn file_path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("{segment:016x}.seg"))
}

fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let canonical = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 16 || !digits.bytes().all(canonical) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// Makes a zeroed file under another name, then gives it its own: it is never seen half made.
fn make(directory: &Path, segment: u64, bytes: u64) -> io::Result<()> {
    let temporary = directory.join(format!("{segment:016x}.seg.tmp"));
    let mut taken = None;
    for old in free(directory)? {
        let file = File::open(&old)?;
        // A pruned file has its blocks already; of another size, or under a reader's lease, it goes.
        let fits = file.metadata()?.len() == bytes && file.try_lock().is_ok();
        if taken.is_none() && fits {
            fs::rename(&old, &temporary)?;
            taken = Some(file);
        } else if !fits {
            fs::remove_file(&old)?;
        }
    }
    if taken.is_none() {
        // Trying would take all the room there is for a moment, from everybody.
        let disk = rustix::fs::statvfs(directory)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
    }
    let made = fill(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, file_path(directory, segment)))
        .and_then(|()| sync_folder(directory));
    if made.is_err() {
        // The first error is the one to tell; a leftover goes at the next opening.
        let _ = fs::remove_file(&temporary);
    }
    made
}

/// Opens a file past the page cache: the log is written once and read much later, so copying it
/// there costs a core and buys nothing. File systems that cannot take it as they used to.
fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let direct = OFlags::DIRECT.bits().cast_signed();
    match options.custom_flags(direct).open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            options.custom_flags(0).open(path)
        }
        opened => opened,
    }
}

/// Writes zeros rather than reserve blocks alone: unwritten extents cost 3.7 times at each sync.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let file = open_direct(OpenOptions::new().write(true).create(true).truncate(false), path)?;
    file.set_len(bytes)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // Where it is not supported, the writes below find out whether there is room.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let mut zeros = Buffer::default();
    zeros.pad(index(ZERO_BYTES));
    let mut at = 0;
    while at < bytes {
        let size = ZERO_BYTES.min(bytes - at);
        file.write_all_at(&zeros[..index(size)], at)?;
        at += size;
        if at.is_multiple_of(ZERO_SYNC_BYTES) {
            file.sync_data()?;
        }
    }
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_names_are_segments() {
        assert_eq!(segment_number("00000000000000ff.seg"), Some(255));
        for name in ["ff.seg", "00000000000000FF.seg", "00000000000000ff.seg.tmp", "LOCK"] {
            assert_eq!(segment_number(name), None, "{name}");
        }
    }

    #[test]
    fn lock_is_exclusive_and_clears_leftovers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/store");
        fs::create_dir_all(&path).unwrap();
        let leftover = path.join("0000000000000003.seg.tmp");
        fs::write(&leftover, b"half").unwrap();
        let mut first = Folder::new(&path);
        first.lock().unwrap();
        assert!(!leftover.exists());
        let error = Folder::new(&path).lock().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(first);
        Folder::new(&path).lock().unwrap();
    }

    #[test]
    fn created_segments_are_zero_and_replaced_only_at_another_size() {
        let directory = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(directory.path());
        folder.lock().unwrap();
        folder.create(0, 8192).unwrap();
        folder.prepare(1, 4096);
        folder.create(1, 4096).unwrap();
        assert_eq!(folder.segments().unwrap(), [(0, 8192), (1, 4096)]);
        let mut bytes = [1; 8192];
        folder.open(0).unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 8192]);
        assert!(folder.open(0).unwrap().read(8191, &mut [0; 2]).is_err());
        folder.create(1, 12288).unwrap();
        assert_eq!(folder.segments().unwrap(), [(0, 8192), (1, 12288)]);
    }
}
