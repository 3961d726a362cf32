//! What the load does when a validator does not take a transaction.

use super::hostile::is_known;
use super::{Action, BEHIND_TIME, Core, FINAL_TIME, Micros, Offer, RESIGNED_MAX, place};
use crate::client::author::{Link, Turn};
use crate::handle::Expected;
use crate::refusal::Refusal;
use ledger::Digest;

impl Core {
    pub(super) fn refused(
        &mut self,
        id: &Digest,
        target: usize,
        refusal: Refusal,
        expected: Option<Expected>,
        retry_ms: u32,
        now: Micros,
    ) {
        let link = expected.map(|link| Link { sequence: link.sequence, previous: link.previous });
        if self.refused_invalid(id, refusal, link) || self.refused_copy(id, target, refusal, link) {
            return;
        }
        let Some(flight) = self.flights.get(id).filter(|flight| flight.target == target) else {
            return;
        };
        let author = &self.authors[place(flight.signed.author)];
        // Some validator may have taken it: then nobody's refusal is the last word.
        let is_open = flight.is_accepted || flight.attempts > 1;
        let is_behind = refusal == Refusal::Ahead && author.is_settled;
        let age = now.saturating_sub(flight.offer.intended);
        let later = BEHIND_TIME.max(u64::from(retry_ms) * 1_000);
        match refusal {
            Refusal::Duplicate => self.watch(id, target, now),
            Refusal::Stale if is_known(id, refusal, link) => self.watch(id, target, now),
            Refusal::Ahead if is_behind || is_open => match age < FINAL_TIME {
                true => self.look_again(id, now, later),
                false => self.reject(id, refusal, link, true),
            },
            Refusal::Stale | Refusal::Forked | Refusal::Ahead => {
                let resigned = flight.offer.resigned;
                match link.filter(|_| !is_open && resigned < RESIGNED_MAX) {
                    Some(link) => self.resign(id, link),
                    None => self.reject(id, refusal, link, true),
                }
            }
            Refusal::NotReady | Refusal::Stopping | Refusal::StorageFull => {
                let tried_all = place(flight.attempts) >= self.targets.len();
                match (tried_all, is_open && flight.is_accepted) {
                    (false, _) => self.resubmit(id, now),
                    (true, true) => self.look_again(id, now, later),
                    (true, false) => self.reject(id, refusal, None, true),
                }
            }
            Refusal::Busy | Refusal::LaneFull | Refusal::RateLimited => match is_open {
                true => self.look_again(id, now, later),
                false => self.reject(id, refusal, None, true),
            },
            Refusal::Malformed
            | Refusal::WrongNetwork
            | Refusal::TooLarge
            | Refusal::UnknownAuthor
            | Refusal::Unfunded
            | Refusal::Expired
            | Refusal::InvalidSignature => self.reject(id, refusal, None, false),
        }
    }

    /// The validator knows the transaction: it will tell when it is final.
    fn watch(&mut self, id: &Digest, target: usize, now: Micros) {
        self.accepted(id, target, now);
        self.actions.push(Action::Watch { target, id: *id });
    }

    /// The author's chain has gone on elsewhere: the same offer is signed for the right place.
    fn resign(&mut self, id: &Digest, link: Link) {
        let flight = self.flights.remove(id).expect("the caller has seen it");
        let author = flight.signed.author;
        let resigned = flight.offer.resigned + 1;
        self.counts.resigned += 1;
        self.counts.kinds.taken_back(flight.signed.class, flight.is_doubled);
        self.authors[place(author)].turn = Turn::at(link);
        self.authors[place(author)].reoffer = Some(Offer { resigned, ..flight.offer });
        self.reoffers += 1;
        self.sign(author);
    }

    /// A refusal for good. An author whose transactions will never be taken does not come back: another
    /// begins, if there is one.
    fn reject(&mut self, id: &Digest, refusal: Refusal, link: Option<Link>, comes_back: bool) {
        let flight = self.flights.remove(id).expect("the caller has seen it");
        *self.counts.rejected.entry(refusal).or_default() += 1;
        match link {
            _ if !comes_back => self.begin(),
            None => self.ready.push(flight.signed),
            Some(link) => {
                let author = flight.signed.author;
                self.authors[place(author)].turn = Turn::at(link);
                self.sign(author);
            }
        }
    }
}
