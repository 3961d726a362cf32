//! What is known of the own key, and how others are listened to before it is used.

use crate::terms::Terms;
use ledger::{Finality, PublicKey};
use std::time::Duration;

/// An epoch, and a view of it.
pub type Round = (u64, u64);

/// What is known of the own key: who finds newer votes of it, finds another process that uses it.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The key.
    pub key: PublicKey,
    /// The newest view that the key may have been used in, as far as is known.
    pub known: Round,
    /// Whether to follow for a while before the key is used, since not all is known.
    pub watch: Option<Watch>,
}

/// How long to follow what others make final.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// So long at least.
    pub time: Duration,
    /// Until they are above this view, where they move at all.
    pub above: Round,
}

impl Own {
    /// The view of a vote of the own key that nobody here has made, where a certificate has one.
    pub(super) fn used(&self, terms: &Terms, finality: &Finality) -> Option<u64> {
        let view = finality.view.get();
        let index = terms.set(finality.epoch)?.index_of(&self.key)?;
        let is_new = (finality.epoch, view) > self.known;
        (is_new && finality.signers.contains(index)).then_some(view)
    }
}
