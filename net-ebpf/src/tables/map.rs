//! Words that two sides share: in plain memory, or in a map of the kernel that is mapped here.
#![expect(unsafe_code, reason = "a mapped map of the kernel is reached through a pointer")]

use std::{
    io,
    ops::Deref,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    slice,
    sync::{Arc, atomic::AtomicU64},
};

use memmap2::{MmapOptions, MmapRaw};

/// A fixed number of 64-bit words that any thread may read and write, each as a whole.
pub struct Words {
    first: NonNull<AtomicU64>,
    count: usize,
    /// What keeps them where they are.
    _owner: Owner,
}

enum Owner {
    Plain { _words: Arc<[AtomicU64]> },
    Mapped { _map: MmapRaw },
}

// SAFETY: the words are atomics at a fixed place for as long as this value lives, and nothing in it
// belongs to a thread.
unsafe impl Send for Words {}
// SAFETY: as above; all access through a shared reference is atomic.
unsafe impl Sync for Words {}

impl Words {
    /// Makes words of zero in plain memory; there is at least one.
    pub fn plain(count: usize) -> Self {
        assert!(count > 0, "a table has words");
        let words: Arc<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let first = NonNull::new(Arc::as_ptr(&words).cast_mut().cast()).expect("an address");
        Self { first, count, _owner: Owner::Plain { _words: words } }
    }

    /// Maps a map of the kernel that was made to be mapped and holds so many words.
    ///
    /// Errors: those of `mmap`.
    pub(crate) fn mapped(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let bytes = count * size_of::<AtomicU64>();
        let map = MmapOptions::new().len(bytes).map_raw(map.as_raw_fd())?;
        let first = NonNull::new(map.as_mut_ptr().cast()).expect("a mapping has an address");
        Ok(Self { first, count, _owner: Owner::Mapped { _map: map } })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `first` points to `count` initialized words, in the allocation or the mapping
        // that this value owns; neither moves, a mapping starts on a page, and the kernel
        // program too reads and writes them only as whole words.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}
