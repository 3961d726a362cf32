//! The turn of an epoch: new lanes, another set perhaps, and what of the old ones goes on.

use super::{Core, Lane, serve};
use crate::{consensus::Turn, terms::Terms};
use ledger::{AvailabilityCertificate, Height, PublicKey, Tip, Tips, ValidatorSet};

/// A message of the next epoch, from somebody who has turned before.
pub(super) enum Early {
    Batch(Vec<u8>),
    Certificate(AvailabilityCertificate),
}

impl Early {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Batch(bytes) => bytes.len(),
            Self::Certificate(certificate) => certificate.encoded_bytes(),
        }
    }
}

/// Bytes of such messages of one validator that wait for the turn at most; the rest is sent again.
pub(super) const EARLY_BYTES_MAX: usize = 2 * ledger::limits::BATCH_BYTES_MAX;

/// The validators, and those who may ask for batches beside them.
pub(super) fn peers(set: &ValidatorSet, terms: &Terms) -> Vec<PublicKey> {
    let guests = terms.guests().into_iter().map(|guest| guest.key);
    let guests = guests.filter(|guest| set.index_of(guest).is_none());
    set.keys().iter().copied().chain(guests).collect()
}

impl Core {
    /// The place of a peer, for its messages; none of a stranger.
    pub fn peer(&self, key: &PublicKey) -> Option<u32> {
        let guests = || self.peers.iter().skip(self.set.len()).position(|guest| guest == key);
        let guest = || u32::try_from(self.set.len() + guests()?).ok();
        self.set.index_of(key).or_else(guest)
    }

    /// The key of a peer.
    pub fn key(&self, peer: u32) -> PublicKey {
        self.peers[peer as usize]
    }

    pub(super) fn is_member(&self, peer: u32) -> bool {
        (peer as usize) < self.set.len()
    }

    /// Takes note of who may ask for batches beside the validators.
    pub fn welcome(&mut self) {
        let peers = peers(&self.set, &self.config.terms);
        if peers != self.peers {
            let at = self.set.len();
            for notes in [&mut self.silent, &mut self.muted, &mut self.told] {
                notes.truncate(at);
                notes.resize(peers.len(), 0);
            }
            self.serving.resize(at, peers.len());
            self.peers = peers;
        }
    }

    /// The epoch of the lanes.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Begins the next epoch where the last block of this one is durable; answers what the board is to be told.
    ///
    /// Actions were taken before: those that name peers do so by their place in this epoch.
    pub fn turn(&mut self, now: u64, durable: Height) -> Option<Turn> {
        let (height, after) = self.ended.filter(|(height, _)| *height <= durable)?;
        let epoch = self.config.terms.epochs().of(height.next());
        // Whoever has executed the last block knows who follows.
        let set = self.config.terms.set(epoch)?;
        assert!(self.actions.is_empty(), "what was to be done in the old epoch is on its way");
        let again = self.own_requeue();
        self.ended = None;
        self.epoch = epoch;
        self.me = set.index_of(&self.config.signer.public());
        self.floor = self.config.signer.floor(epoch);
        self.lanes = vec![Tip::EMPTY; set.len()].iter().map(Lane::new).collect();
        self.executed = vec![0; set.len()];
        self.pool.clear();
        self.verifying.clear();
        self.wanted.clear();
        self.peers = peers(&set, &self.config.terms);
        self.serving = serve::Serving::new(self.peers.len());
        for notes in [&mut self.silent, &mut self.muted, &mut self.told] {
            *notes = vec![0; self.peers.len()];
        }
        self.queued_tips = Tips::genesis(set.len());
        self.set = set;
        self.own_again(now, again);
        // What was finalized meanwhile.
        for pending in std::mem::take(&mut self.queue) {
            self.finalized(now, pending.into_finalized());
        }
        for (key, early) in std::mem::take(&mut self.early) {
            // By its place in the new set.
            let Some(from) = self.peer(&key).filter(|from| !self.is_muted(now, *from)) else {
                continue;
            };
            match early {
                Early::Batch(bytes) => self.batch(now, from, bytes),
                Early::Certificate(certificate) => self.certificate(now, from, certificate),
            }
        }
        Some(Turn { epoch, after })
    }

    /// Keeps what is of the next epoch until it begins here.
    pub(super) fn keep_early(&mut self, from: u32, epoch: u64, early: Early) {
        let key = self.key(from);
        let kept = self.early.iter().filter(|(other, _)| *other == key);
        let bytes: usize = kept.map(|(_, early)| early.size()).sum();
        if epoch == self.epoch + 1 && bytes + early.size() <= EARLY_BYTES_MAX {
            self.early.push((key, early));
        }
    }
}
