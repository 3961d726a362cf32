//! Finalized blocks and certificates for the engine: the newest in its archives, all others from the ledger.
//!
//! What is final stands in the ledger as soon as it is executed and durable, so the engine's archives need
//! to hold no more than what has not come so far. Behind the ledger's end they are pruned, and whoever asks
//! for something older, a validator that was away for instance, is answered from the ledger.

use super::{Block, block::Digest, scheme::Scheme};
use commonware_consensus::{
    marshal::store::{Blocks, Certificates},
    simplex::types,
    types::Height,
};
use commonware_runtime::{Clock, Handle, Metrics, Storage};
use commonware_storage::{
    archive::{Error, Identifier, prunable},
    translator::EightCap,
};
use std::sync::{Arc, OnceLock};

/// Heights behind the ledger's end that stay in the archives: the engine asks for the newest again and again.
const KEPT: u64 = 128;
/// Heights that are pruned at once.
const PRUNED_AT_ONCE: u64 = 64;

/// The engine's certificate that a block is final.
pub type Finalization = types::Finalization<Scheme, Digest>;

/// What stands in the ledger. Called from the engine's tasks: a read is one of a record.
pub trait Ledger: Send + Sync + 'static {
    /// The newest height up to which all of it is durable; never less than before.
    fn height(&self) -> u64;
    /// The block of a height; the genesis block is that of height 0.
    fn block(&self, height: u64) -> Option<Block>;
    /// The block with this digest.
    fn block_by_digest(&self, digest: &Digest) -> Option<Block>;
    /// Whether a height has a certificate of its own.
    fn has_certificate(&self, height: u64) -> bool;
    /// The certificate of a height.
    fn certificate(&self, height: u64) -> Option<Finalization>;
}

/// What both archives have in common.
struct Bottom {
    ledger: Arc<dyn Ledger>,
    /// Below it the archive has been pruned.
    pruned: u64,
}

impl Bottom {
    fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger, pruned: 0 }
    }

    /// The height below which the archive is to be pruned, where that is worth it by now.
    fn prune(&mut self) -> Option<u64> {
        let min = self.ledger.height().saturating_sub(KEPT);
        (min >= self.pruned + PRUNED_AT_ONCE).then(|| {
            self.pruned = min;
            min
        })
    }
}

type BlockArchive<E> = prunable::Archive<EightCap, E, Digest, Arc<Block>>;

/// Finalized blocks.
pub struct FinalBlocks<E: Storage + Metrics + Clock> {
    archive: BlockArchive<E>,
    bottom: Bottom,
}

impl<E: Storage + Metrics + Clock> FinalBlocks<E> {
    /// Puts an archive on top of the ledger.
    pub fn new(archive: BlockArchive<E>, ledger: Arc<dyn Ledger>) -> Self {
        Self { archive, bottom: Bottom::new(ledger) }
    }

    fn end(&self) -> u64 {
        self.bottom.ledger.height()
    }
}

impl<E: Storage + Metrics + Clock> Blocks for FinalBlocks<E> {
    type Block = Arc<Block>;
    type Error = Error;

    async fn put(self, digest: Digest, block: &Arc<Block>) -> Result<Self, Error> {
        if block.cut().height.get() <= self.end() {
            return Ok(self);
        }
        let archive = Blocks::put(self.archive, digest, block).await?;
        Ok(Self { archive, ..self })
    }

    async fn sync(mut self) -> Result<Self, Error> {
        let pruned = self.bottom.prune();
        let mut archive = Blocks::sync(self.archive).await?;
        if let Some(min) = pruned {
            archive = Blocks::prune(archive, Height::new(min)).await?;
        }
        Ok(Self { archive, ..self })
    }

    async fn start_sync(mut self) -> Result<(Self, Handle<()>), Error> {
        let pruned = self.bottom.prune();
        let (mut archive, handle) = Blocks::start_sync(self.archive).await?;
        if let Some(min) = pruned {
            archive = Blocks::prune(archive, Height::new(min)).await?;
        }
        Ok((Self { archive, ..self }, handle))
    }

    async fn get(&self, id: Identifier<'_, Digest>) -> Result<Option<Arc<Block>>, Error> {
        let ledger = &self.bottom.ledger;
        Ok(match id {
            Identifier::Index(height) => {
                let found = Blocks::get(&self.archive, Identifier::Index(height)).await?;
                found.or_else(|| {
                    let stored = (height <= self.end()).then(|| ledger.block(height));
                    stored.flatten().map(Arc::new)
                })
            }
            Identifier::Key(digest) => {
                let found = Blocks::get(&self.archive, Identifier::Key(digest)).await?;
                found.or_else(|| {
                    let found = ledger.block_by_digest(digest)?;
                    (found.cut().height.get() <= self.end()).then(|| Arc::new(found))
                })
            }
        })
    }

    /// The archive prunes itself by the ledger; what the ledger has is never forgotten here.
    async fn prune(self, _: Height) -> Result<Self, Error> {
        Ok(self)
    }

    fn missing_items(&self, start: Height, max: usize) -> Vec<Height> {
        let start = start.get().max(self.end() + 1);
        self.archive.missing_items(Height::new(start), max)
    }

    fn next_gap(&self, value: Height) -> (Option<Height>, Option<Height>) {
        let end = self.end();
        if value.get() > end {
            return self.archive.next_gap(value);
        }
        // The ledger reaches from genesis to its end, and the archive may go on from there.
        let (current, next) = self.archive.next_gap(Height::new(end + 1));
        (Some(current.unwrap_or(Height::new(end))), next)
    }

    fn last_index(&self) -> Option<Height> {
        self.archive.last_index().max(Some(Height::new(self.end())))
    }
}

type CertificateArchive<E> = prunable::Archive<EightCap, E, Digest, Finalization>;

/// Certificates of finalized blocks; not every block has one of its own.
pub struct FinalCertificates<E: Storage + Metrics + Clock> {
    archive: CertificateArchive<E>,
    bottom: Bottom,
    /// The newest height with a certificate that the ledger had at the start.
    newest: OnceLock<Option<u64>>,
}

impl<E: Storage + Metrics + Clock> FinalCertificates<E> {
    /// Puts an archive on top of the ledger.
    pub fn new(archive: CertificateArchive<E>, ledger: Arc<dyn Ledger>) -> Self {
        Self { archive, bottom: Bottom::new(ledger), newest: OnceLock::new() }
    }

    /// The newest height with a certificate in the ledger, as of the first time this was asked: later ones
    /// are in the archive, or behind newer ones that are.
    fn newest(&self) -> Option<u64> {
        let ledger = &self.bottom.ledger;
        let find =
            || (1..=ledger.height()).rev().find(|height| ledger.certificate(*height).is_some());
        *self.newest.get_or_init(find)
    }
}

impl<E: Storage + Metrics + Clock> Certificates for FinalCertificates<E> {
    type BlockDigest = Digest;
    type Commitment = Digest;
    type Scheme = Scheme;
    type Error = Error;

    async fn put(
        self,
        height: Height,
        digest: Digest,
        finalization: &Finalization,
    ) -> Result<Self, Error> {
        let archive = Certificates::put(self.archive, height, digest, finalization).await?;
        Ok(Self { archive, ..self })
    }

    async fn sync(mut self) -> Result<Self, Error> {
        let pruned = self.bottom.prune();
        let mut archive = Certificates::sync(self.archive).await?;
        if let Some(min) = pruned {
            archive = Certificates::prune(archive, Height::new(min)).await?;
        }
        Ok(Self { archive, ..self })
    }

    async fn start_sync(mut self) -> Result<(Self, Handle<()>), Error> {
        let pruned = self.bottom.prune();
        let (mut archive, handle) = Certificates::start_sync(self.archive).await?;
        if let Some(min) = pruned {
            archive = Certificates::prune(archive, Height::new(min)).await?;
        }
        Ok((Self { archive, ..self }, handle))
    }

    async fn get(&self, id: Identifier<'_, Digest>) -> Result<Option<Finalization>, Error> {
        let ledger = &self.bottom.ledger;
        let height = match id {
            Identifier::Index(height) => {
                let found = Certificates::get(&self.archive, Identifier::Index(height)).await?;
                if found.is_some() {
                    return Ok(found);
                }
                Some(height)
            }
            Identifier::Key(digest) => {
                let found = Certificates::get(&self.archive, Identifier::Key(digest)).await?;
                if found.is_some() {
                    return Ok(found);
                }
                ledger.block_by_digest(digest).map(|block| block.cut().height.get())
            }
        };
        let stored = height.filter(|height| *height <= ledger.height());
        Ok(stored.and_then(|height| ledger.certificate(height)))
    }

    async fn has(&self, height: Height) -> Result<bool, Error> {
        let ledger = &self.bottom.ledger;
        let stored = height.get() <= ledger.height() && ledger.has_certificate(height.get());
        Ok(stored || Certificates::has(&self.archive, height).await?)
    }

    /// As [`FinalBlocks::prune`].
    async fn prune(self, _: Height) -> Result<Self, Error> {
        Ok(self)
    }

    fn last_index(&self) -> Option<Height> {
        self.archive.last_index().max(self.newest().map(Height::new))
    }

    fn ranges_from(&self, from: Height) -> impl Iterator<Item = (Height, Height)> {
        let newest = self.newest().map(Height::new).filter(|newest| *newest >= from);
        newest.map(|newest| (newest, newest)).into_iter().chain(self.archive.ranges_from(from))
    }
}

#[cfg(test)]
mod tests;
