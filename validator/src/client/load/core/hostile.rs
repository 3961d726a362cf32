//! Transactions with a wrong signature, which must be refused, and those that went to two validators,
//! which must be executed once.

use super::{Acknowledged, Core, Flight, Micros, place};
use crate::client::author::Link;
use crate::client::workload::Treatment;
use crate::refusal::Refusal;
use ledger::Digest;

impl Flight {
    pub(super) fn is_invalid(&self) -> bool {
        self.signed.class.treatment == Treatment::Invalid
    }
}

/// Whether a refusal says that the validator has the transaction.
pub(super) fn is_known(id: &Digest, refusal: Refusal, link: Option<Link>) -> bool {
    let is_behind_it = || link.is_some_and(|link| link.previous == *id);
    refusal == Refusal::Duplicate || (refusal == Refusal::Stale && is_behind_it())
}

impl Core {
    /// Sees what a refusal means for a transaction with a wrong signature.
    ///
    /// Shape: returns whether that ends it; any other is refused like an honest one.
    pub(super) fn refused_invalid(
        &mut self,
        id: &Digest,
        refusal: Refusal,
        link: Option<Link>,
    ) -> bool {
        if !self.flights.get(id).is_some_and(Flight::is_invalid) {
            return false;
        }
        if is_known(id, refusal, link) {
            self.invalid_taken(id);
            return true;
        }
        if refusal != Refusal::InvalidSignature {
            return false;
        }
        let flight = self.flights.remove(id).expect("it was just seen");
        self.counts.kinds.invalid_refused += 1;
        let author = &mut self.authors[place(flight.signed.author)];
        author.turn = author.turn.again();
        if !self.is_closed {
            self.sign(flight.signed.author);
        }
        true
    }

    /// A validator took it. Its author's chain may have gone on, or not: another author takes its place.
    pub(super) fn invalid_taken(&mut self, id: &Digest) {
        self.flights.remove(id);
        self.counts.kinds.invalid_taken += 1;
        self.begin();
    }

    /// Sees what a refusal means for a transaction that went to two validators: it removes one of the
    /// copies, and the other decides.
    ///
    /// Shape: returns whether that is all.
    pub(super) fn refused_copy(
        &mut self,
        id: &Digest,
        target: usize,
        refusal: Refusal,
        link: Option<Link>,
    ) -> bool {
        let Some(flight) = self.flights.get_mut(id) else {
            return false;
        };
        let Some(second) = flight.second.filter(|_| !is_known(id, refusal, link)) else {
            return false;
        };
        if target == flight.target {
            flight.target = second;
        } else if target != second {
            return false;
        }
        flight.second = None;
        true
    }

    /// The second validator says what became of a transaction that the first spoke of before.
    pub(super) fn echoed(&mut self, target: usize, known: &Acknowledged) {
        let before = self.echoes.take(target, &known.id);
        if before.is_some_and(|before| before != *known) {
            self.counts.kinds.duplicates_wrong += 1;
        }
    }

    /// The first final answer of a transaction that went to two.
    pub(super) fn finalized_copy(&mut self, target: usize, known: Acknowledged, now: Micros) {
        if !known.outcome.pays() {
            self.counts.kinds.duplicates_wrong += 1;
        }
        self.echoes.add(target, known, now);
    }
}
