//! Blocks and transactions as they lie in the store, for who asks: decoded, and word of what is damaged.

use crate::{
    handle::{BlockView, Unreadable},
    record,
};
use ledger::{Batch, Cut, Digest, Finality, Height, OutcomeList, ValidatorSet};
use storage::{Place, Store};

/// A transaction whose batch is not remembered is looked for in so many batches of a lane that a cut
/// committed, which is what may be under way in one, and of so many cuts before, which lanes at their quota
/// may be behind; in so many bytes in all, which take some ten milliseconds.
const SEARCHED_LINKS: usize = crate::lane::OWN_BATCHES_MAX;
const SEARCHED_HEIGHTS: u64 = 4;
const SEARCHED_BYTES_MAX: usize = 32 << 20;

/// The store of one network, to be read.
#[derive(Clone)]
pub struct Archive {
    /// The store.
    pub store: Store,
    /// Genesis digest.
    pub network: Digest,
}

impl Archive {
    /// A transaction of a batch; none when the batch is kept no more.
    ///
    /// Errors: [`Unreadable`].
    pub fn transaction_of(
        &self,
        batch: &Digest,
        index: usize,
    ) -> Result<Option<Vec<u8>>, Unreadable> {
        let Some(place) = self.store.find(record::BATCH, batch.as_bytes()) else {
            return Ok(None);
        };
        let batch = self.read(place)?;
        let Ok(batch) = Batch::decode(&batch, &self.network) else { return Err(Unreadable) };
        Ok(batch.transactions().nth(index).map(|transaction| transaction.bytes().to_vec()))
    }

    /// Looks a transaction up in the batches that the cut of its height, or one shortly before, committed.
    ///
    /// Errors: [`Unreadable`].
    pub fn search(&self, height: Height, id: &Digest) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut searched = 0;
        let from = height.get().saturating_sub(SEARCHED_HEIGHTS);
        for height in (from..=height.get()).rev() {
            let Some(cut) = self.cut(Height(height))? else { return Ok(None) };
            for lane in &cut.lanes {
                let mut digest = lane.digest;
                for _ in 0..SEARCHED_LINKS {
                    let Some(place) = self.store.find(record::BATCH, digest.as_bytes()) else {
                        break;
                    };
                    let bytes = self.read(place)?;
                    let Ok(batch) = Batch::decode(&bytes, &self.network) else {
                        return Err(Unreadable);
                    };
                    if let Some(index) = batch.ids().iter().position(|other| other == id) {
                        let found = batch.transactions().nth(index);
                        return Ok(found.map(|transaction| transaction.bytes().to_vec()));
                    }
                    digest = batch.header().previous;
                    searched += batch.bytes().len();
                    if searched > SEARCHED_BYTES_MAX {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// A block as it is shown; none when there is none yet, or it is kept no more.
    ///
    /// Errors: [`Unreadable`].
    pub fn block(&self, height: Height) -> Result<Option<BlockView>, Unreadable> {
        let (Some(outcomes), Some(cut)) = (self.outcomes(height)?, self.part(record::CUT, height)?)
        else {
            return Ok(None);
        };
        Ok(Some(BlockView {
            height,
            digest: outcomes.cut,
            cut,
            certificate: self.part(record::CERTIFICATE, height)?,
            outcomes: outcomes.outcomes,
        }))
    }

    /// The cut of a height.
    ///
    /// Errors: [`Unreadable`].
    pub fn cut(&self, height: Height) -> Result<Option<Cut>, Unreadable> {
        let cut = self.part(record::CUT, height)?;
        cut.map(|bytes| Cut::decode(&bytes).map_err(|_| Unreadable)).transpose()
    }

    /// Whether a block has a certificate of its own.
    pub fn is_certified(&self, height: Height) -> bool {
        self.store.at_height(record::CERTIFICATE, height.get()).is_some()
    }

    /// The certificate of a height, where the block has one of its own.
    ///
    /// Errors: [`Unreadable`].
    pub fn certificate(&self, height: Height) -> Result<Option<Finality>, Unreadable> {
        let certificate = self.part(record::CERTIFICATE, height)?;
        certificate.map(|bytes| Finality::decode(&bytes).map_err(|_| Unreadable)).transpose()
    }

    /// The outcomes of a height.
    ///
    /// Errors: [`Unreadable`].
    pub fn outcomes(&self, height: Height) -> Result<Option<OutcomeList>, Unreadable> {
        let outcomes = self.part(record::OUTCOMES, height)?;
        outcomes.map(|bytes| OutcomeList::decode(&bytes).map_err(|_| Unreadable)).transpose()
    }

    /// The validator sets that other ones followed up to a height, each with the height before it.
    ///
    /// Errors: [`Unreadable`].
    pub fn sets(&self, last: Height) -> Result<Vec<(Height, ValidatorSet)>, Unreadable> {
        let turns = self.store.in_heights(record::SET, 1..=last.get());
        let set = |(height, place)| {
            let set = ValidatorSet::decode(&self.read(place)?).map_err(|_| Unreadable)?;
            Ok((Height(height), set))
        };
        turns.into_iter().map(set).collect()
    }

    fn part(&self, kind: u8, height: Height) -> Result<Option<Vec<u8>>, Unreadable> {
        let place = self.store.at_height(kind, height.get());
        place.map(|place| self.read(place)).transpose()
    }

    /// A record, or word that its bytes are damaged; the repair has been told by then.
    fn read(&self, place: Place) -> Result<Vec<u8>, Unreadable> {
        self.store.read(place).map_err(|error| {
            tracing::warn!(%error, "a stored record cannot be read");
            Unreadable
        })
    }
}
