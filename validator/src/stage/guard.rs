//! The thread that keeps the guard beside the key ahead of what is signed, and a validator that is behind quiet.

use crate::{
    catch_up::LEVEL,
    consensus::{Turn, engine::Observer},
    handle::Stop,
    node::Delivered,
    signer::Signer,
    terms::Terms,
};
use ledger::Height;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often the lease is looked at: half of it lasts ten times as long at a hundred views a second.
const LOOK: Duration = Duration::from_millis(30);
/// How long a validator keeps quiet at most: should many be behind at once, nobody goes on without them.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// What there is to watch.
pub struct Stage {
    /// Who signs.
    pub signer: Signer,
    /// What is known to be final.
    pub observer: Observer,
    /// What is durable here.
    pub delivered: Delivered,
    /// Who decides.
    pub terms: Terms,
    /// The epoch that it is in.
    pub turns: watch::Receiver<Turn>,
}

impl Stage {
    /// Runs until told to stop.
    pub fn run(self, stop: &Stop) {
        let start = Instant::now();
        let first = self.delivered.durable().get();
        while !stop.is_stopped() {
            self.signer.renew();
            if self.signer.is_quiet() || self.signer.is_lost() {
                let tip = self.observer.observed().tip;
                let is_level = tip > first && self.delivered.durable().get() + LEVEL >= tip;
                let epoch = self.turns.borrow().epoch;
                if is_level && self.signer.is_lost() && self.is_newest(epoch, Height(tip)) {
                    self.signer.found(epoch);
                    tracing::info!(epoch, "where the others are: voting from the next epoch on");
                }
                if self.signer.is_quiet() && (is_level || start.elapsed() > QUIET_MAX) {
                    self.signer.keep_quiet(false);
                    let time_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(height = tip, time_ms, "where the others are: voting");
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether no epoch after this one has begun.
    ///
    /// Of epochs whose validators are not known here nothing can be proved: a validator that is epochs behind sees the
    /// end of the newest one it knows and nothing more. So a quorum has to be heard in this one, by themselves, and
    /// well before its end.
    fn is_newest(&self, epoch: u64, tip: Height) -> bool {
        let epochs = self.terms.epochs();
        let is_within = epochs.of(tip) == epoch && tip < epochs.deciding(epoch);
        let set = self.terms.set(epoch);
        let heard = self.observer.heard();
        is_within
            && !self.signer.stays_silent()
            && set.is_some_and(|it| heard.is_quorum(&it, epoch))
    }
}
