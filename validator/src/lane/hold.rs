//! Others' batches: the window, the pool, the link to what was acknowledged before, the ack.

use super::{
    Action, Core, Durable, Early, Fault, To, Unverified, Verifying, WINDOW_BATCHES, WINDOW_BYTES,
    ack_record, batch_record,
};
use crate::{held::Held, message::Control};
use ledger::{
    Ack, AvailabilityCertificate, BatchHeader, Digest, Signature, Tip, batch::HEADER_BYTES,
    limits::BATCH_BYTES_MAX,
};
use std::sync::Arc;
use storage::Record;

/// Bytes of batches in the verify stage at most: further ones are dropped and fetched again.
const VERIFYING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Batches in the verify stage at most, so that its queue never fills.
const VERIFYING_MAX: usize = 1_024;
const _: () = assert!(VERIFYING_MAX < crate::stage::LANE_VERIFY);
/// Batches beyond the newest acknowledged one that are fetched before a finalized cut needs them.
const NEAR_BATCHES: u64 = 64;
/// A certified batch that has not arrived is asked for after this time: it may be under way.
const UNDER_WAY_NS: u64 = 150_000_000;

impl Core {
    /// A batch came from a validator: looks at its header only.
    pub fn batch(&mut self, now: u64, from: u32, bytes: Vec<u8>) {
        if self.is_muted(now, from) || !self.is_member(from) {
            return;
        }
        self.silent[from as usize] = 0;
        let header = bytes.get(..HEADER_BYTES).map(BatchHeader::decode);
        let Some(Ok(header)) = header else {
            return self.blame(from, Fault::Malformed);
        };
        if header.network != self.config.network {
            return self.blame(from, Fault::Malformed);
        }
        // Who has turned to another epoch before or after this one has done nothing wrong.
        if header.epoch != self.epoch {
            return self.keep_early(from, header.epoch, Early::Batch(bytes));
        }
        let digest = header.digest();
        let Some(lane) = self.lane_of(header.lane) else {
            return self.blame(from, Fault::Malformed);
        };
        if self.pool.contains_key(&digest) || self.verifying.contains_key(&digest) {
            return self.repeat_ack(from, &header, digest);
        }
        if let Some(want) = self.wanted.get(&digest) {
            // What a certified tip leads to always fits; what only a batch named need not.
            let (floor, certified) = (want.floor(), want.is_certified());
            if !want.fits(&header) {
                self.wanted.remove(&digest);
                return self.blame(from, Fault::Fork);
            }
            if !certified && lane.bytes > WINDOW_BYTES {
                return;
            }
            // An answer holds the predecessors too: they are wanted from now on, and expected.
            let before = header.sequence.saturating_sub(1);
            if before > floor {
                let tip = Tip { sequence: before, digest: header.previous };
                self.want(header.lane, tip, floor, now + UNDER_WAY_NS, certified);
            }
        } else {
            let committed = lane.committed.sequence;
            let executed = self.executed[header.lane as usize];
            if Some(header.lane) == self.me || header.sequence <= committed {
                return;
            }
            if header.lane != from {
                return self.blame(from, Fault::Unasked);
            }
            // No fault: whoever lags fetches it when a finalized cut needs it.
            if header.sequence > executed + WINDOW_BATCHES || lane.bytes > WINDOW_BYTES {
                return;
            }
            if let Some(other) = lane.places.get(&header.sequence).and_then(|held| held.first()) {
                let other = *other;
                // What remains of a header's bytes begins with its signature.
                if let Some(signature) = bytes[HEADER_BYTES..].first_chunk() {
                    self.accuse_fork(&other, header, Signature(*signature));
                }
                return self.blame(from, Fault::Fork);
            }
        }
        let owner = *self.set.key(header.lane).expect("the lane was just found");
        let share = VERIFYING_BYTES_MAX / self.lanes.len();
        let mine = self.verifying.values().filter(|verifying| verifying.from == from);
        let (count, mine) = mine.fold((0, 0), |(count, sum), one| (count + 1, sum + one.bytes));
        // Small batches take no more places than large ones.
        if mine + bytes.len() > share.max(BATCH_BYTES_MAX)
            || count >= (VERIFYING_MAX / self.lanes.len()).max(1)
        {
            return;
        }
        self.verifying.insert(digest, Verifying { from, bytes: bytes.len() });
        self.actions.push(Action::Verify(Unverified { from, digest, owner, bytes }));
    }

    /// The owner sends again what was acknowledged: the ack was lost.
    fn repeat_ack(&mut self, from: u32, header: &BatchHeader, digest: Digest) {
        let lane = &self.lanes[header.lane as usize];
        let acked = lane.acks.get(&header.sequence) == Some(&digest);
        let is_durable = acked && header.sequence <= lane.acks_durable;
        if header.lane == from && is_durable && self.may_sign(from) {
            let ack = self.sign_ack(from, &Tip { sequence: header.sequence, digest });
            self.actions.push(Action::Send(To::One(from), Control::Ack(ack)));
        }
    }

    /// The verify stage has judged a batch.
    pub fn verified(&mut self, now: u64, digest: &Digest, verdict: Option<Arc<Held>>) {
        let Some(Verifying { from, .. }) = self.verifying.remove(digest) else { return };
        let Some(held) = verdict else {
            if let Some(want) = self.wanted.get_mut(digest) {
                want.refused(now);
            }
            return self.blame(from, Fault::BadBatch);
        };
        assert_eq!(held.digest(), *digest, "the verify stage answers what it was asked");
        self.wanted.remove(digest);
        let index = held.header().lane;
        self.insert(held.clone());
        let mut records = vec![batch_record(&held)];
        let acks = self.link(index, &mut records);
        let then = if acks.is_empty() { Durable::Batch } else { Durable::Acks(acks) };
        self.actions.push(Action::Append(records, then));
        self.want_gap(now, index, &held);
        self.resolve(now);
    }

    /// Acknowledges every batch that now links to the newest acknowledged one.
    fn link(&mut self, index: u32, records: &mut Vec<Record>) -> Vec<Ack> {
        let mut acks = Vec::new();
        // What comes after the epoch's last cut is void.
        if Some(index) == self.me || self.ended.is_some() || !self.may_sign(index) {
            return acks;
        }
        while let Some(tip) = self.next_link(index) {
            let ack = self.sign_ack(index, &tip);
            let lane = &mut self.lanes[index as usize];
            lane.acked = tip;
            lane.acks.insert(tip.sequence, tip.digest);
            records.push(ack_record(&ack));
            acks.push(ack);
        }
        acks
    }

    fn next_link(&self, index: u32) -> Option<Tip> {
        let lane = &self.lanes[index as usize];
        let sequence = lane.acked.sequence + 1;
        if sequence > self.executed[index as usize] + WINDOW_BATCHES {
            return None;
        }
        let digests = lane.places.get(&sequence)?;
        let linked = |digest: &&Digest| {
            self.pool.get(*digest).is_some_and(|held| held.header().previous == lane.acked.digest)
        };
        digests.iter().find(linked).map(|digest| Tip { sequence, digest: *digest })
    }

    /// Asks for the predecessor of a batch that does not link yet.
    fn want_gap(&mut self, now: u64, index: u32, held: &Held) {
        let lane = &self.lanes[index as usize];
        let header = held.header();
        let (floor, previous) = (lane.acked.sequence, header.previous);
        // Far behind, only what finalized cuts need is fetched: that comes first.
        if header.sequence > floor + 1 && header.sequence <= floor + NEAR_BATCHES {
            let tip = Tip { sequence: header.sequence - 1, digest: previous };
            self.want(index, tip, floor, now, false);
        }
    }

    /// A certificate of a lane came from a validator.
    pub(super) fn certificate(
        &mut self,
        now: u64,
        from: u32,
        certificate: AvailabilityCertificate,
    ) {
        if certificate.epoch != self.epoch {
            let epoch = certificate.epoch;
            return self.keep_early(from, epoch, Early::Certificate(certificate));
        }
        let Some(lane) = self.lane_of(certificate.lane) else {
            return self.blame(from, Fault::Malformed);
        };
        let newest = lane.certificate.as_ref().map_or(0, |known| known.sequence);
        if certificate.sequence <= newest.max(lane.committed.sequence) {
            return;
        }
        let (network, set) = (&self.config.network, &*self.set);
        if certificate.check(network, set, &*self.config.signatures).is_err() {
            return self.blame(from, Fault::BadAck);
        }
        let (index, digest) = (certificate.lane, certificate.digest);
        let floor = lane.acked.sequence;
        let tip = Tip { sequence: certificate.sequence, digest };
        let shared = Arc::new(certificate);
        self.lanes[index as usize].certificate = Some(shared.clone());
        self.actions.push(Action::Certified(shared));
        let near = tip.sequence > floor && tip.sequence <= floor + NEAR_BATCHES;
        if near && Some(index) != self.me {
            self.want(index, tip, floor, now + UNDER_WAY_NS, true);
        }
    }

    /// After a lane's committed tip moved: continues the chain from there.
    pub(super) fn relink(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        // At the same place too: after a fork the certified batch goes on, not the one acked here.
        if lane.committed.sequence >= lane.acked.sequence {
            lane.acked = lane.committed;
        }
        let mut records = Vec::new();
        let index = u32::try_from(index).expect("at most 100 lanes");
        let acks = self.link(index, &mut records);
        if !records.is_empty() {
            self.actions.push(Action::Append(records, Durable::Acks(acks)));
        }
    }
}
