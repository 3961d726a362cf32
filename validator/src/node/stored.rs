//! The ledger as the engine sees it: finalized blocks and certificates, read from the store.

use super::Delivered;
use crate::{
    consensus::{
        Block,
        block::{Digest, engine_digest},
        finals::{Finalization, Ledger},
    },
    record,
    terms::Terms,
};
use commonware_consensus::{
    simplex::types::Proposal,
    types::{Epoch, Round, View},
};
use commonware_cryptography::{
    certificate::Signers,
    ed25519::{Signature, certificate::Certificate},
};
use commonware_utils::Participant;
use ledger::{Cut, Finality};
use storage::{Place, Store};

/// Finalized blocks in the store, from genesis to the newest that is durable.
pub struct Stored {
    /// The block store.
    pub store: Store,
    /// Knows how far it reaches.
    pub delivered: Delivered,
    /// The block of height 0.
    pub genesis: Block,
    /// Who decides when.
    pub terms: Terms,
}

impl Stored {
    /// What stands at a place; nothing, and the repair is told, where it is damaged.
    fn read<T>(&self, place: Place, decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        match self.store.read(place) {
            Ok(bytes) => decode(&bytes),
            Err(error) => {
                tracing::warn!(%error, "a stored record cannot be read");
                None
            }
        }
    }

    fn cut(&self, place: Place) -> Option<Block> {
        self.read(place, |bytes| Cut::decode(bytes).ok()).map(Block::new)
    }
}

impl Ledger for Stored {
    fn height(&self) -> u64 {
        self.delivered.durable().get()
    }

    fn block(&self, height: u64) -> Option<Block> {
        if height == 0 {
            return Some(self.genesis.clone());
        }
        self.cut(self.store.at_height(record::CUT, height)?)
    }

    fn block_by_digest(&self, digest: &Digest) -> Option<Block> {
        if engine_digest(self.genesis.cut_digest()) == *digest {
            return Some(self.genesis.clone());
        }
        self.cut(self.store.find(record::CUT, &digest.0)?)
    }

    fn has_certificate(&self, height: u64) -> bool {
        self.store.at_height(record::CERTIFICATE, height).is_some()
    }

    fn certificate(&self, height: u64) -> Option<Finalization> {
        let place = self.store.at_height(record::CERTIFICATE, height)?;
        let finality = self.read(place, |bytes| Finality::decode(bytes).ok())?;
        let validators = self.terms.set(finality.epoch)?.len();
        finalization(&finality, u32::try_from(validators).ok()?)
    }
}

/// The ledger's certificate as the engine's: the reverse of [`super::certificate`].
fn finalization(finality: &Finality, validators: u32) -> Option<Finalization> {
    use commonware_codec::{Copying, DecodeExt as _};
    let signers = (0..validators).filter(|index| finality.signers.contains(*index));
    let signers = Signers::new(validators, signers.map(Participant::new)).ok()?;
    let signature = |bytes: &ledger::Signature| Signature::decode(Copying(&bytes.0)).ok();
    let signatures: Option<Vec<_>> = finality.signatures.iter().map(signature).collect();
    let round = Round::new(Epoch::new(finality.epoch), View::new(finality.view.get()));
    let parent = View::new(finality.parent_view.get());
    let proposal = Proposal::new(round, parent, engine_digest(finality.payload));
    let signatures = signatures?.into_iter().map(Into::into).collect();
    Some(Finalization { proposal, certificate: Certificate { signers, signatures } })
}

#[cfg(test)]
mod tests;
