//! In which epoch each validator was heard voting last since the start: by whom a message came from, since what a
//! message says may be old.

use commonware_cryptography::ed25519::PublicKey;
use ledger::ValidatorSet;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// More are forgotten, and heard again.
const KEPT_MAX: usize = 1_024;

/// Shared by whoever hears and whoever asks.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<BTreeMap<Vec<u8>, u64>>>);

impl Heard {
    /// A message of an epoch came from a validator: it is never counted for an earlier one again.
    pub(super) fn note(&self, from: &PublicKey, epoch: u64) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newest) = heard.get_mut(from.as_ref()) {
            *newest = epoch.max(*newest);
            return;
        }
        if heard.len() >= KEPT_MAX {
            heard.clear();
        }
        heard.insert(from.as_ref().to_vec(), epoch);
    }

    /// Whether a quorum of a set was heard in this epoch, and not in a later one: then no epoch after it had begun.
    pub fn is_quorum(&self, set: &ValidatorSet, epoch: u64) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |key: &&ledger::PublicKey| heard.get(key.0.as_slice()) == Some(&epoch);
        set.keys().iter().filter(is_there).count() >= set.quorum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_cryptography::{Signer as _, ed25519::PrivateKey};

    #[test]
    fn a_quorum_is_heard_where_so_many_were_heard_last_in_an_epoch() {
        let members: Vec<PublicKey> =
            (1..=4).map(|seed| PrivateKey::from_seed(seed).public_key()).collect();
        let key = |member: &PublicKey| ledger::PublicKey(member.as_ref().try_into().unwrap());
        let mut keys: Vec<ledger::PublicKey> = members.iter().map(key).collect();
        keys.sort_unstable();
        let set = crate::terms::Terms::of(&keys).set(0).unwrap();
        let heard = Heard::default();
        for member in &members[..2] {
            heard.note(member, 7);
            heard.note(member, 7);
        }
        heard.note(&PrivateKey::from_seed(9).public_key(), 7);
        assert!(!heard.is_quorum(&set, 7), "two of four, and a stranger");
        heard.note(&members[2], 7);
        assert!(heard.is_quorum(&set, 7) && !heard.is_quorum(&set, 6));
        heard.note(&members[0], 8);
        heard.note(&members[0], 7);
        assert!(!heard.is_quorum(&set, 7), "one of them has gone on");
        for seed in 100..101 + KEPT_MAX as u64 {
            heard.note(&PrivateKey::from_seed(seed).public_key(), 1);
        }
        assert!(heard.0.lock().unwrap().len() <= KEPT_MAX);
    }
}
