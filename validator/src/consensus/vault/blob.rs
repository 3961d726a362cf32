//! A blob of the vault: its bytes in memory, every change recorded.

use super::{
    PENDING_BYTES_MAX, Shared,
    log::Change,
    state::{Content, Kept},
};
use commonware_runtime::{
    Blob, Buf as _, BufMut as _, Error, Handle, IoBufMut, IoBufs, IoBufsMut, ReadOptions,
    WriteOptions,
};
use commonware_utils::channel::oneshot;
use std::{collections::BTreeSet, sync::Arc};

/// A blob of the vault.
pub struct VaultBlob {
    pub(super) shared: Arc<Shared>,
    pub(super) kept: Arc<Kept>,
    pub(super) is_votes: bool,
    /// Held while the blob is open.
    pub(super) _open: Arc<()>,
}

impl VaultBlob {
    /// Changes the bytes and records it; what was removed is changed for its holder alone.
    fn change(
        &self,
        record: &Change<'_>,
        change: impl FnOnce(&mut Content) -> Option<()>,
    ) -> Result<(), Error> {
        let mut state = self.shared.lock();
        let mut content = self.kept.lock();
        change(&mut content).ok_or(Error::OffsetOverflow)?;
        if !content.is_removed {
            content.newest = state.record(record);
        }
        if state.pending.len() > PENDING_BYTES_MAX {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Asks for what was done to this blob to be durable.
    fn ask(&self) -> oneshot::Receiver<Result<(), Error>> {
        let mut state = self.shared.lock();
        let newest = self.kept.lock().newest;
        // A file may speak of what is kept here only once that is durable: then all wait.
        let may_settle = !self.is_votes && state.files.values().all(BTreeSet::is_empty);
        if may_settle && newest > state.durable {
            self.shared.settle.notify_one();
            // What is said to be durable by now is so soon; an error is still one.
            let durable = state.durable;
            return self.shared.ask(&mut state, durable);
        }
        self.shared.ask(&mut state, newest)
    }
}

impl Blob for VaultBlob {
    async fn read_at_buf(
        &self,
        offset: u64,
        len: usize,
        bufs: impl Into<IoBufsMut> + Send,
        _options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        let mut bufs = bufs.into();
        let content = self.kept.lock();
        let start = usize::try_from(offset).map_err(|_| Error::OffsetOverflow)?;
        let end = start.checked_add(len).ok_or(Error::OffsetOverflow)?;
        let bytes = content.bytes.get(start..end).ok_or(Error::BlobInsufficientLength)?;
        assert!(len <= bufs.capacity(), "the buffers have room");
        if bufs.len() == len {
            bufs.copy_from_slice(bytes);
        } else if let Some(buf) = bufs.as_single_mut() {
            buf.truncate(0);
            buf.put_slice(bytes);
        } else if bufs.is_empty() {
            bufs.put_slice(bytes);
        } else {
            bufs = IoBufsMut::from(bytes.to_vec());
        }
        Ok(bufs)
    }

    async fn read_at(
        &self,
        offset: u64,
        len: usize,
        options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        self.read_at_buf(offset, len, IoBufMut::with_capacity(len), options).await
    }

    async fn write_at(
        &self,
        offset: u64,
        bufs: impl Into<IoBufs> + Send,
        options: WriteOptions,
    ) -> Result<(), Error> {
        let bytes = bufs.into().coalesce();
        if bytes.has_remaining() {
            let start = usize::try_from(offset).map_err(|_| Error::OffsetOverflow)?;
            let bytes = bytes.as_ref();
            let record = Change::Write { id: self.kept.id, offset, bytes };
            self.change(&record, |content| content.write(start, bytes))?;
        }
        if options.contains(WriteOptions::SYNC) {
            self.sync().await?;
        }
        Ok(())
    }

    async fn resize(&self, length: u64) -> Result<(), Error> {
        let size = usize::try_from(length).map_err(|_| Error::OffsetOverflow)?;
        self.change(&Change::Resize { id: self.kept.id, length }, |content| {
            content.bytes.resize(size, 0);
            Some(())
        })
    }

    async fn sync(&self) -> Result<(), Error> {
        self.ask().await.unwrap_or(Err(Error::Closed))
    }

    async fn start_sync(&self) -> Handle<()> {
        Handle::from_receiver(self.ask())
    }
}
