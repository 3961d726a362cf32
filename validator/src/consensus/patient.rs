//! Makes the engine wait while the disk is full, where it would panic; and keeps its blobs in the vault
//! (`vault.rs`), if it has one.
//!
//! [`Patient`] wraps a runtime's context and passes everything through. Only what needs room on the
//! disk, creating a blob, writing to it and resizing it, is tried again while the disk has none, so
//! that the actor that asked stands still and goes on by itself when there is room again.
//!
//! Writes never ask the runtime for [`WriteOptions::SYNC`]: they are plain writes followed by
//! [`Blob::sync`]. A full disk then shows in the plain write, which may be repeated, as the same
//! bytes go to the same place. In a write with `SYNC` it would count as a failed barrier, which the
//! runtime remembers: every later barrier of that blob fails, room or not. For the same reason a
//! failed `sync` is never repeated but passed on, and the engine ends as it does without this file.

use super::vault::{Vault, VaultBlob};
use commonware_runtime::{
    Blob, BlobVersion, Clock, Error, Handle, IoBufs, IoBufsMut, Metrics, Name, ReadOptions,
    Spawner, Storage, Supervisor, WriteOptions,
    signal::Signal,
    telemetry::metrics::{Metric, Registered},
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use std::{
    fmt::Display,
    io,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How long an operation waits before it is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// What the runtime calls a folder where a blob's name would be: names of blobs are hexadecimal.
const FOLDER: &str = "directory";

/// What knows about the disk, and is told when the engine waits for it.
///
/// Called from the engine's tasks: no method may wait.
pub trait Room: Send + Sync + 'static {
    /// Whether the disk is full; asked where the runtime's error does not say what happened.
    fn is_full(&self) -> bool;
    /// An operation begins to wait; several may wait at once.
    fn waiting(&self, error: &Error);
    /// An operation that waited is through, or was given up.
    fn resumed(&self);
}

/// A disk that is never asked, for simulations; errors that say "full" are waited for all the same.
impl Room for () {
    fn is_full(&self) -> bool {
        false
    }

    fn waiting(&self, _: &Error) {}

    fn resumed(&self) {}
}

/// A context whose storage waits while the disk is full.
pub struct Patient<E> {
    inner: E,
    patience: Arc<Patience>,
    vault: Option<Vault>,
}

impl<E: Supervisor + Clock> Patient<E> {
    /// Wraps a context; the waits of all contexts and blobs made from it are told to `room`.
    pub fn new(inner: E, room: Arc<dyn Room>) -> Self {
        // A context of its own, as contexts cannot be cloned; nothing is ever spawned on it.
        let clock = inner.child("patience");
        let sleep = Box::new(move || clock.sleep(RETRY).boxed());
        Self { inner, patience: Arc::new(Patience { sleep, room }), vault: None }
    }
}

impl<E: Storage + Spawner + Clock + CryptoRng> Patient<E> {
    /// Keeps the blobs of partitions whose names start so in a vault from now on.
    ///
    /// Errors: the storage's, or that the vault's log is damaged.
    pub async fn with_vault(mut self, prefix: &str) -> Result<Self, Error> {
        let vault = Vault::open(self.child("vault"), prefix).await?;
        self.vault = Some(vault);
        Ok(self)
    }
}

/// How to wait, shared by a context, its children and their blobs.
struct Patience {
    sleep: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    room: Arc<dyn Room>,
}

impl Patience {
    fn begin(&self) -> Waiting<'_> {
        Waiting { patience: self, waits: false }
    }

    /// Whether an operation failed only because the disk is full, and may be tried again.
    fn is_full(&self, error: &Error) -> bool {
        match error {
            Error::Io(cause)
            | Error::BlobOpenFailed(_, _, cause)
            | Error::BlobResizeFailed(_, _, cause) => has_no_room(cause),
            // A folder, while a blob is created: not remembered, unlike a blob's own.
            Error::BlobSyncFailed(_, name, cause) => name == FOLDER && has_no_room(cause),
            // While a blob is created: its folder, its header. The cause is lost.
            Error::PartitionCreationFailed(_) | Error::WriteFailed => self.room.is_full(),
            _ => false,
        }
    }
}

fn has_no_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// One operation that may have to wait; the room hears of its end even if it is given up.
struct Waiting<'a> {
    patience: &'a Patience,
    waits: bool,
}

impl Waiting<'_> {
    /// Returns when it is time to try again.
    ///
    /// Errors: `error` itself, when it is not about room.
    async fn after(&mut self, error: Error) -> Result<(), Error> {
        if !self.patience.is_full(&error) {
            return Err(error);
        }
        if !self.waits {
            self.waits = true;
            self.patience.room.waiting(&error);
        }
        (self.patience.sleep)().await;
        Ok(())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.patience.room.resumed();
        }
    }
}

impl<E: Storage> Storage for Patient<E> {
    type Blob = EngineBlob<E::Blob>;

    async fn open_versioned(
        &self,
        partition: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(Self::Blob, u64, BlobVersion), Error> {
        if let Some(vault) = self.vault_of(partition)
            && vault.holds(&self.inner, partition, name).await?
        {
            let (blob, length, version) = vault.open_versioned(partition, name, versions)?;
            return Ok((EngineBlob::Kept(blob), length, version));
        }
        let mut waiting = self.patience.begin();
        loop {
            // A creation that ended halfway is begun anew: the runtime recognizes a torn header.
            match self.inner.open_versioned(partition, name, versions.clone()).await {
                Ok((inner, len, version)) => {
                    let patience = self.patience.clone();
                    return Ok((EngineBlob::Plain(PatientBlob { inner, patience }), len, version));
                }
                Err(error) => waiting.after(error).await?,
            }
        }
    }

    // Removing frees room, and the second try of a removal that half succeeded would fail.
    async fn remove(&self, partition: &str, name: Option<&[u8]>) -> Result<(), Error> {
        match self.vault_of(partition) {
            Some(vault) => vault.remove(&self.inner, partition, name).await,
            None => self.inner.remove(partition, name).await,
        }
    }

    async fn scan(&self, partition: &str) -> Result<Vec<Vec<u8>>, Error> {
        match self.vault_of(partition) {
            Some(vault) => vault.scan(&self.inner, partition).await,
            None => self.inner.scan(partition).await,
        }
    }
}

impl<E> Patient<E> {
    fn vault_of(&self, partition: &str) -> Option<&Vault> {
        self.vault.as_ref().filter(|vault| vault.keeps(partition))
    }
}

/// A blob of the engine.
pub enum EngineBlob<B> {
    /// One that the storage has, whose writes wait while the disk is full.
    Plain(PatientBlob<B>),
    /// One that the vault keeps.
    Kept(VaultBlob),
}

impl<B> EngineBlob<B> {
    /// One that the storage has; nothing for one that the vault keeps.
    pub(super) fn plain(self) -> Option<PatientBlob<B>> {
        match self {
            Self::Plain(blob) => Some(blob),
            Self::Kept(_) => None,
        }
    }
}

impl<B: Blob> Blob for EngineBlob<B> {
    async fn read_at_buf(
        &self,
        offset: u64,
        len: usize,
        bufs: impl Into<IoBufsMut> + Send,
        options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        match self {
            Self::Plain(blob) => blob.read_at_buf(offset, len, bufs, options).await,
            Self::Kept(blob) => blob.read_at_buf(offset, len, bufs, options).await,
        }
    }

    async fn read_at(
        &self,
        offset: u64,
        len: usize,
        options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        match self {
            Self::Plain(blob) => blob.read_at(offset, len, options).await,
            Self::Kept(blob) => blob.read_at(offset, len, options).await,
        }
    }

    fn read_many(
        &self,
        ranges: &[(u64, usize)],
        options: ReadOptions,
    ) -> impl futures::Stream<Item = Result<(usize, IoBufsMut), Error>> + Send {
        match self {
            Self::Plain(blob) => Either::Left(blob.read_many(ranges, options)),
            Self::Kept(blob) => Either::Right(blob.read_many(ranges, options)),
        }
    }

    async fn start_read_many(
        &self,
        ranges: &[(u64, usize)],
        options: ReadOptions,
    ) -> Handle<Vec<IoBufsMut>> {
        match self {
            Self::Plain(blob) => blob.start_read_many(ranges, options).await,
            Self::Kept(blob) => blob.start_read_many(ranges, options).await,
        }
    }

    async fn write_at(
        &self,
        offset: u64,
        bufs: impl Into<IoBufs> + Send,
        options: WriteOptions,
    ) -> Result<(), Error> {
        match self {
            Self::Plain(blob) => blob.write_at(offset, bufs, options).await,
            Self::Kept(blob) => blob.write_at(offset, bufs, options).await,
        }
    }

    async fn resize(&self, len: u64) -> Result<(), Error> {
        match self {
            Self::Plain(blob) => blob.resize(len).await,
            Self::Kept(blob) => blob.resize(len).await,
        }
    }

    async fn sync(&self) -> Result<(), Error> {
        match self {
            Self::Plain(blob) => blob.sync().await,
            Self::Kept(blob) => blob.sync().await,
        }
    }

    async fn start_sync(&self) -> Handle<()> {
        match self {
            Self::Plain(blob) => blob.start_sync().await,
            Self::Kept(blob) => blob.start_sync().await,
        }
    }
}

/// A blob whose writes wait while the disk is full.
pub struct PatientBlob<B> {
    inner: B,
    patience: Arc<Patience>,
}

impl<B: Blob> PatientBlob<B> {
    /// Writes over bytes that are there already, durably, in one call: this needs no room, so that
    /// there is nothing to wait for.
    ///
    /// Errors: the storage's; the blob is not to be trusted after one.
    pub(super) async fn overwrite(&self, offset: u64, bufs: IoBufs) -> Result<(), Error> {
        self.inner.write_at(offset, bufs, WriteOptions::SYNC).await
    }
}

impl<B: Blob> Blob for PatientBlob<B> {
    async fn read_at_buf(
        &self,
        offset: u64,
        len: usize,
        bufs: impl Into<IoBufsMut> + Send,
        options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        self.inner.read_at_buf(offset, len, bufs, options).await
    }

    async fn read_at(
        &self,
        offset: u64,
        len: usize,
        options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        self.inner.read_at(offset, len, options).await
    }

    fn read_many(
        &self,
        ranges: &[(u64, usize)],
        options: ReadOptions,
    ) -> impl futures::Stream<Item = Result<(usize, IoBufsMut), Error>> + Send {
        self.inner.read_many(ranges, options)
    }

    fn start_read_many(
        &self,
        ranges: &[(u64, usize)],
        options: ReadOptions,
    ) -> impl Future<Output = Handle<Vec<IoBufsMut>>> + Send {
        self.inner.start_read_many(ranges, options)
    }

    async fn write_at(
        &self,
        offset: u64,
        bufs: impl Into<IoBufs> + Send,
        options: WriteOptions,
    ) -> Result<(), Error> {
        let bufs = bufs.into();
        let plain = options.without(WriteOptions::SYNC);
        let mut waiting = self.patience.begin();
        // A clone shares the bytes. A try that failed may have written some of them already.
        while let Err(error) = self.inner.write_at(offset, bufs.clone(), plain).await {
            waiting.after(error).await?;
        }
        drop(waiting);
        if options.contains(WriteOptions::SYNC) {
            self.inner.sync().await?;
        }
        Ok(())
    }

    async fn resize(&self, len: u64) -> Result<(), Error> {
        let mut waiting = self.patience.begin();
        while let Err(error) = self.inner.resize(len).await {
            waiting.after(error).await?;
        }
        Ok(())
    }

    fn sync(&self) -> impl Future<Output = Result<(), Error>> + Send {
        self.inner.sync()
    }

    fn start_sync(&self) -> impl Future<Output = Handle<()>> + Send {
        self.inner.start_sync()
    }
}

impl<E: Supervisor> Supervisor for Patient<E> {
    fn name(&self) -> Name {
        self.inner.name()
    }

    fn child(&self, label: &'static str) -> Self {
        let (patience, vault) = (self.patience.clone(), self.vault.clone());
        Self { inner: self.inner.child(label), patience, vault }
    }

    fn with_attribute(self, key: &'static str, value: impl Display) -> Self {
        Self { inner: self.inner.with_attribute(key, value), ..self }
    }
}

impl<E: Spawner> Spawner for Patient<E> {
    fn shared(self, blocking: bool) -> Self {
        Self { inner: self.inner.shared(blocking), ..self }
    }

    fn dedicated(self) -> Self {
        Self { inner: self.inner.dedicated(), ..self }
    }

    fn spawn<F, Fut, T>(self, task: F) -> Handle<T>
    where
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let Self { inner, patience, vault } = self;
        inner.spawn(move |inner| task(Self { inner, patience, vault }))
    }

    async fn stop(self, value: i32, timeout: Option<Duration>) -> Result<(), Error> {
        self.inner.stop(value, timeout).await
    }

    fn stopped(&self) -> Signal {
        self.inner.stopped()
    }
}

impl<E: Metrics> Metrics for Patient<E> {
    fn register<N: Into<String>, H: Into<String>, M: Metric>(
        &self,
        name: N,
        help: H,
        metric: M,
    ) -> Registered<M> {
        self.inner.register(name, help, metric)
    }

    fn encode(&self) -> String {
        self.inner.encode()
    }
}

impl<E: Clock> Clock for Patient<E> {
    fn current(&self) -> SystemTime {
        self.inner.current()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static + use<E> {
        self.inner.sleep(duration)
    }

    fn sleep_until(
        &self,
        deadline: SystemTime,
    ) -> impl Future<Output = ()> + Send + 'static + use<E> {
        self.inner.sleep_until(deadline)
    }
}

impl<E: Clock> governor::clock::Clock for Patient<E> {
    type Instant = SystemTime;

    fn now(&self) -> SystemTime {
        self.inner.current()
    }
}

impl<E: Clock> governor::clock::ReasonablyRealtime for Patient<E> {}

impl<E: TryRng> TryRng for Patient<E> {
    type Error = E::Error;

    fn try_next_u32(&mut self) -> Result<u32, E::Error> {
        self.inner.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, E::Error> {
        self.inner.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), E::Error> {
        self.inner.try_fill_bytes(bytes)
    }
}

impl<E: TryCryptoRng> TryCryptoRng for Patient<E> {}
