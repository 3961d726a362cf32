//! The own lane: transactions into batches, batches to everyone, acks into certificates.

use super::{
    Action, Core, Durable, Fault, Lane, OWN_BATCHES_MAX, OWN_BYTES_MAX, Pace, RETRY_NS, To,
    ack_record, batch_record, lower,
};
use crate::{
    admit::Admitted,
    cost::Cost,
    held::Held,
    message::Control,
    signer::{LanePlace, Statement},
};
use ledger::{
    Ack, AvailabilityCertificate, BatchPlace, Digest, Sealer, SignedItem, Tip, Transaction,
    ack_signing_message, limits::BATCH_BODY_BYTES_MAX,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

/// With nothing in flight a batch leaves after this time: short enough not to be felt, long
/// enough to gather what arrives together, since every batch costs acks and a certificate.
const QUIET_DELAY_NS: u64 = 10_000_000;

/// State of the own lane.
pub(super) struct Own {
    /// Transactions that wait for a batch, oldest first.
    waiting: VecDeque<Admitted>,
    waiting_bytes: usize,
    /// When the oldest of them came.
    since: u64,
    /// Batches above the committed tip.
    flight: VecDeque<Flight>,
    flight_bytes: usize,
    pace: Pace,
    certificate_sent: u64,
}

/// A sealed own batch above the committed tip.
struct Flight {
    held: Arc<Held>,
    durable: bool,
    /// When it was sealed; none for one that a restart found.
    sealed: Option<u64>,
    sent: u64,
    /// Acks that hold, the own one among them.
    acks: BTreeMap<u32, Ack>,
    /// Acks that came and are checked together, once they would make a quorum.
    unchecked: BTreeMap<u32, Ack>,
}

impl Flight {
    fn has(&self, validator: u32) -> bool {
        self.acks.contains_key(&validator) || self.unchecked.contains_key(&validator)
    }
}

impl Own {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            since: 0,
            flight: VecDeque::new(),
            flight_bytes: 0,
            pace: Pace::default(),
            certificate_sent: 0,
        }
    }
}

impl Core {
    /// Verified transactions for the own lane, in this order.
    pub fn transactions(&mut self, now: u64, admitted: Vec<Admitted>) {
        if self.own.waiting.is_empty() {
            self.own.since = now;
        }
        for admitted in admitted {
            self.own.waiting_bytes += admitted.bytes.len();
            self.own.waiting.push_back(admitted);
        }
        self.own_seal(now);
    }

    /// Takes the own batches that a restart found: they are sent again, and their acks asked for.
    pub(super) fn own_recover(&mut self) {
        let Some(me) = self.me.filter(|me| self.may_sign(*me)) else { return };
        let lane = &self.lanes[me as usize];
        let mut tip = lane.committed;
        while let Some(digests) = lane.places.get(&(tip.sequence + 1)) {
            let linked = |held: &&Arc<Held>| held.header().previous == tip.digest;
            let found = digests.iter().filter_map(|digest| self.pool.get(digest)).find(linked);
            let Some(held) = found.cloned() else { break };
            tip = Tip { sequence: held.header().sequence, digest: held.digest() };
            let ack = self.sign_ack(me, &tip);
            self.own.flight_bytes += held.size();
            let acks = BTreeMap::from([(me, ack)]);
            self.own.flight.push_back(Flight {
                held,
                durable: true,
                sealed: None,
                sent: 0,
                acks,
                unchecked: BTreeMap::new(),
            });
        }
        self.lanes[me as usize].acked = tip;
    }

    fn own_lane(&self) -> Option<&Lane> {
        self.me.map(|me| &self.lanes[me as usize])
    }

    /// What the own lane has not brought to commitment, oldest first, as its epoch ends.
    pub(super) fn own_requeue(&mut self) -> Vec<Admitted> {
        let mut again = Vec::new();
        for flight in self.own.flight.drain(..) {
            let batch = flight.held.batch();
            for (transaction, id) in batch.transactions().zip(batch.ids()) {
                again.push(Admitted { id: *id, bytes: transaction.bytes().into() });
            }
        }
        self.own.flight_bytes = 0;
        self.own.pace = Pace::default();
        self.own.certificate_sent = 0;
        again
    }

    /// Puts what an epoch left in front of what waits for a batch; where there is no own lane any more, it is dropped,
    /// and clients send it to another validator.
    pub(super) fn own_again(&mut self, now: u64, again: Vec<Admitted>) {
        if self.me.is_none() {
            let waiting = std::mem::take(&mut self.own.waiting);
            let bytes: usize = waiting.iter().map(|admitted| admitted.bytes.len()).sum();
            self.own.waiting_bytes = 0;
            return lower(&self.config.waiting_bytes, bytes);
        }
        for admitted in again.into_iter().rev() {
            let bytes = admitted.bytes.len();
            self.config.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.own.waiting_bytes += bytes;
            self.own.waiting.push_front(admitted);
        }
        self.own.since = now;
        self.own_seal(now);
    }

    fn own_may_seal(&self, now: u64) -> bool {
        let own = &self.own;
        if own.waiting.is_empty() || self.own_is_full() || !self.is_open() || self.ended.is_some() {
            return false;
        }
        own.waiting_bytes >= BATCH_BODY_BYTES_MAX || now >= own.since + self.own_delay()
    }

    /// A batch waits little while nothing is uncertified, longer while much is under way.
    fn own_delay(&self) -> u64 {
        let certified = self.own_lane().and_then(|lane| lane.certificate.as_ref());
        let certified = certified.map_or(0, |certificate| certificate.sequence);
        let quiet = self.own.flight.back().is_none_or(|f| f.held.header().sequence <= certified);
        if quiet {
            QUIET_DELAY_NS.min(self.config.batch_delay_ns)
        } else {
            self.config.batch_delay_ns
        }
    }

    pub(super) fn own_deadline(&self) -> u64 {
        let own = &self.own;
        if own.waiting.is_empty() || self.own_is_full() || !self.is_open() || self.ended.is_some() {
            return u64::MAX;
        }
        own.since + self.own_delay()
    }

    /// Whether so much is under way that the next batch waits.
    fn own_is_full(&self) -> bool {
        let Some(me) = self.me.map(|me| me as usize) else { return true };
        let ahead = self.lanes[me].acked.sequence.saturating_sub(self.executed[me]);
        self.own.flight.len() >= OWN_BATCHES_MAX
            || self.own.flight_bytes >= self.own.pace.allowed(OWN_BYTES_MAX)
            || ahead >= OWN_BATCHES_MAX as u64
    }

    fn own_seal(&mut self, now: u64) {
        while self.own_may_seal(now) {
            self.config.meter.charge(Cost::Lane);
            let me = self.me.expect("the own lane is open");
            let mut sealer = Sealer::with_room(self.own.waiting_bytes);
            let mut bytes = 0;
            while let Some(admitted) = self.own.waiting.front() {
                let transaction =
                    Transaction::decode(&admitted.bytes).expect("admission decoded it");
                if !sealer.push(&transaction, &admitted.id) {
                    break;
                }
                bytes += admitted.bytes.len();
                self.own.waiting.pop_front();
            }
            self.config.meter.charge(Cost::Copy);
            self.own.waiting_bytes -= bytes;
            self.own.since = now;
            lower(&self.config.waiting_bytes, bytes);

            let previous = self.lanes[me as usize].acked;
            let place = BatchPlace {
                network: self.config.network,
                epoch: self.epoch,
                lane: me,
                sequence: previous.sequence + 1,
                previous: previous.digest,
            };
            let sign = |message: &[u8; 47]| {
                // What is signed of a batch ends in its digest.
                let digest = Digest(*message.last_chunk().expect("32 of 47 bytes"));
                let BatchPlace { epoch, lane, sequence, .. } = place;
                let place = LanePlace { epoch, lane, sequence, digest };
                self.config.signer.place(Statement::Batch, &place, message)
            };
            let batch = sealer
                .seal_batch(&place, sign)
                .expect("a batch of at least one transaction at the lane's next place");
            let digest = batch.digest();
            let held = Arc::new(Held::sealed(batch));
            self.config.meter.charge(Cost::Hash);
            let tip = Tip { sequence: place.sequence, digest };
            let ack = self.sign_ack(me, &tip);
            self.lanes[me as usize].acked = tip;
            let records = vec![batch_record(&held), ack_record(&ack)];
            self.actions.push(Action::Append(records, Durable::Own(self.epoch, tip.sequence)));
            self.insert(held.clone());
            self.own.flight_bytes += held.size();
            let acks = BTreeMap::from([(me, ack)]);
            self.own.flight.push_back(Flight {
                held,
                durable: false,
                sealed: Some(now),
                sent: now,
                acks,
                unchecked: BTreeMap::new(),
            });
        }
    }

    /// The own batch is durable: its first byte may leave.
    pub(super) fn own_durable(&mut self, now: u64, sequence: u64) {
        let same = |flight: &&mut Flight| flight.held.header().sequence == sequence;
        let Some(flight) = self.own.flight.iter_mut().find(same) else { return };
        flight.durable = true;
        flight.sent = now;
        self.actions.push(Action::SendBatch(To::All, flight.held.clone()));
        self.own_certify(sequence);
    }

    /// A validator acknowledges an own batch.
    pub(super) fn own_ack(&mut self, from: u32, ack: &Ack) {
        // Of an epoch that is over, or has begun for others only.
        if ack.epoch != self.epoch {
            return;
        }
        if Some(ack.lane) != self.me || ack.validator != from {
            return self.blame(from, Fault::Unasked);
        }
        let me = ack.lane;
        let same = |flight: &&mut Flight| flight.held.header().sequence == ack.sequence;
        // Acks of what was committed meanwhile are late, not wrong.
        let Some(flight) = self.own.flight.iter_mut().find(same) else { return };
        if flight.held.digest() != ack.digest {
            let known = flight.acks.get(&from).or_else(|| flight.unchecked.get(&from)).copied();
            if let Some(known) = known {
                self.accuse_ack(&known, ack);
            }
            return self.blame(from, Fault::BadAck);
        }
        // One more than a quorum has nothing to add.
        let certified = self.lanes[me as usize].certificate.as_ref();
        let is_certified = certified.is_some_and(|newest| newest.sequence >= ack.sequence);
        if is_certified || flight.has(from) {
            return;
        }
        flight.unchecked.insert(from, *ack);
        if flight.acks.len() + flight.unchecked.len() >= self.set.quorum() {
            self.own_check(ack.sequence);
            self.own_certify(ack.sequence);
        }
    }

    /// Checks the acks of an own batch that wait for it, together; a bad one costs its sender a hearing.
    fn own_check(&mut self, sequence: u64) {
        let same = |flight: &&mut Flight| flight.held.header().sequence == sequence;
        let Some(flight) = self.own.flight.iter_mut().find(same) else { return };
        let unchecked = std::mem::take(&mut flight.unchecked);
        let lane = flight.held.header().lane;
        let (epoch, digest) = (self.epoch, flight.held.digest());
        // All sign the same: what they acknowledge was compared when they came.
        let message = ack_signing_message(&self.config.network, epoch, lane, sequence, &digest);
        let items: Vec<_> = unchecked
            .iter()
            .map(|(from, ack)| {
                let key = self.set.key(*from).expect("a peer is in the set");
                SignedItem::new(key, &message, &ack.signature)
            })
            .collect();
        let verdicts = self.config.signatures.verify(&items);
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (entry, holds) in unchecked.into_iter().zip(verdicts) {
            if holds { good.push(entry) } else { bad.push(entry.0) }
        }
        flight.acks.extend(good);
        for from in bad {
            self.blame(from, Fault::BadAck);
        }
    }

    /// Makes the certificate of an own batch once a quorum holds it.
    fn own_certify(&mut self, sequence: u64) {
        let same = |flight: &&Flight| flight.held.header().sequence == sequence;
        let Some(flight) = self.own.flight.iter().find(same) else { return };
        let lane = &mut self.lanes[flight.held.header().lane as usize];
        let newest = lane.certificate.as_ref().map_or(0, |certificate| certificate.sequence);
        if !flight.durable || flight.acks.len() < self.set.quorum() || sequence <= newest {
            return;
        }
        let acks: Vec<Ack> = flight.acks.values().copied().collect();
        let certificate = AvailabilityCertificate::assemble(&acks)
            .expect("acks of one batch by distinct validators, in order");
        let shared = Arc::new(certificate);
        lane.certificate = Some(shared.clone());
        let control = Control::Certificate((*shared).clone());
        self.actions.push(Action::Send(To::All, control));
        self.actions.push(Action::Certified(shared));
    }

    /// Forgets own batches that a finalized cut covers.
    pub(super) fn own_committed(&mut self, now: u64) {
        let Some(committed) = self.own_lane().map(|lane| lane.committed.sequence) else { return };
        while let Some(flight) = self.own.flight.front() {
            if flight.held.header().sequence > committed {
                break;
            }
            let size = flight.held.size();
            if let Some(sealed) = flight.sealed {
                self.own.pace.committed(now, sealed, size);
            }
            self.own.flight_bytes -= size;
            self.own.flight.pop_front();
        }
        self.own_seal(now);
    }

    pub(super) fn own_tick(&mut self, now: u64) {
        self.own_seal(now);
        let Some(me) = self.me else { return };
        let validators = self.set.len();
        let newest = self.lanes[me as usize].certificate.clone();
        let certified = newest.as_ref().map_or(0, |certificate| certificate.sequence);
        // The oldest batch that lacks a quorum blocks the others: repeat that one only.
        let stuck = |flight: &&mut Flight| {
            flight.durable
                && flight.held.header().sequence > certified
                && now >= flight.sent + RETRY_NS
        };
        if let Some(flight) = self.own.flight.iter_mut().find(stuck) {
            flight.sent = now;
            for index in (0..validators).filter_map(|index| u32::try_from(index).ok()) {
                if !flight.has(index) {
                    let held = flight.held.clone();
                    self.actions.push(Action::SendBatch(To::One(index), held));
                }
            }
        }
        let committed = self.lanes[me as usize].committed.sequence;
        if let Some(certificate) = newest
            && certificate.sequence > committed
            && now >= self.own.certificate_sent + RETRY_NS
        {
            self.own.certificate_sent = now;
            let control = Control::Certificate((*certificate).clone());
            self.actions.push(Action::Send(To::All, control));
        }
    }
}
