//! What signs for this validator: one key, its guard, and never two statements for one place.
//!
//! Votes, batches and acks go through the rules of the `desk`; a new engine, lane or process that wants to sign
//! something else for a place gets nothing. The `guard` beside the key keeps that true when the data folder is lost.

pub mod guard;

mod desk;

pub use desk::{Refused, Vote};
pub use guard::{Guard, Marks, NOBODY_KNOWS};

use crate::{command::Code, key::Secret};
use desk::Desk;
use ledger::{Digest, PublicKey, Signature};
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// What is signed for a place in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// An own batch.
    Batch,
    /// An ack.
    Ack,
}

/// A place in a lane, and the digest of the batch that is to stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePlace {
    /// Epoch of the lane.
    pub epoch: u64,
    /// The lane.
    pub lane: u32,
    /// The place.
    pub sequence: u64,
    /// The batch.
    pub digest: Digest,
}

/// Signs for this validator; shared by whoever has something to say in its name.
#[derive(Clone)]
pub struct Signer {
    desk: Arc<Mutex<Desk>>,
    public: PublicKey,
    /// What the guard said when this process started.
    start: Arc<guard::State>,
    /// Whether it votes not for now.
    quiet: Arc<AtomicBool>,
    /// Whether it signs nothing as long as this process lasts.
    silent: Arc<AtomicBool>,
    /// The first epoch in which it may sign.
    silent_until: Arc<AtomicU64>,
}

impl Signer {
    /// Signs by the rules of this guard.
    pub fn guarded(secret: Secret, guard: Guard) -> Self {
        let start = Arc::new(guard.state().clone());
        Self::with(secret, Some(guard), start)
    }

    /// Signs without a guard, which is for simulations: whoever loses its memory may sign twice.
    pub fn unguarded(secret: Secret) -> Self {
        Self::with(secret, None, Arc::default())
    }

    fn with(secret: Secret, guard: Option<Guard>, start: Arc<guard::State>) -> Self {
        let public = secret.public();
        let desk = Arc::new(Mutex::new(Desk::new(secret, guard)));
        let silent_until = Arc::new(AtomicU64::new(start.silent_until));
        let (quiet, silent) = (Arc::default(), Arc::default());
        Self { desk, public, start, quiet, silent, silent_until }
    }

    /// The public key.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Where what was signed before is forgotten: nothing is signed up to there.
    pub fn floor(&self, epoch: u64) -> Marks {
        if epoch == self.start.epoch { self.start.floor.clone() } else { Marks::default() }
    }

    /// The newest epoch and view that this key was used in before, as far as the guard knows.
    pub fn known_round(&self) -> (u64, u64) {
        (self.start.epoch, self.start.lease.view)
    }

    /// The newest epoch and view whose votes may be forgotten.
    pub fn floor_round(&self) -> (u64, u64) {
        (self.start.epoch, self.start.floor.view)
    }

    /// Whether nothing at all is signed in an epoch, because the guard was lost or nobody could be listened to; nor in
    /// one before that which the guard speaks of.
    pub fn is_silent(&self, epoch: u64) -> bool {
        epoch < self.start.epoch
            || epoch < self.silent_until.load(Ordering::Relaxed)
            || self.silent.load(Ordering::Relaxed)
    }

    /// Whether nobody knows in which epochs this key has signed: not before the epoch that the others are in.
    pub fn is_lost(&self) -> bool {
        self.silent_until.load(Ordering::Relaxed) == NOBODY_KNOWS
    }

    /// The others are in this epoch: what was signed and forgotten is of it or before.
    pub fn found(&self, epoch: u64) {
        let until = epoch + 1;
        let done = self.lock().silent_until(until);
        if let Err(error) = done {
            guard_failed(&error);
        }
        self.silent_until.store(until, Ordering::Relaxed);
    }

    /// Whether others are to be listened to before anything is signed.
    pub fn is_to_watch(&self) -> bool {
        self.start.watch
    }

    /// Others were listened to: nobody else signs with this key.
    pub fn watched(&self) {
        let done = self.lock().watched();
        if let Err(error) = done {
            guard_failed(&error);
        }
    }

    /// Nobody could be listened to: nothing is signed as long as this process lasts.
    pub fn stay_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Whether nothing is signed as long as this process lasts.
    pub fn stays_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Whether it votes not for now, see [`Signer::keep_quiet`].
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Does not vote until told to: whoever shows that it is there has its turns waited for, and one that is behind
    /// has nothing to propose.
    pub fn keep_quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Relaxed);
    }

    /// Signs a vote of an epoch and view; none where that is not safe, or not wanted for now.
    pub fn vote(&self, place: (u64, u64), vote: Vote, message: &[u8]) -> Option<Signature> {
        if self.is_quiet() {
            return None;
        }
        match self.lock().vote(place, vote, message) {
            Ok(signature) => Some(signature),
            Err(Refused::Guard(error)) => guard_failed(&error),
            Err(why @ Refused::Contradiction) => {
                tracing::error!(view = place.1, ?vote, %why, "not voted");
                None
            }
            Err(why) => {
                tracing::debug!(view = place.1, %why, "not voted");
                None
            }
        }
    }

    /// Signs for a place in a lane.
    ///
    /// Ends the process where that is not safe: whoever asks knows the floor.
    pub fn place(&self, what: Statement, place: &LanePlace, message: &[u8]) -> Signature {
        let LanePlace { epoch, lane, sequence, digest } = *place;
        let mut desk = self.lock();
        let signed = match what {
            Statement::Batch => desk.batch(epoch, (lane, sequence), digest, message),
            Statement::Ack => desk.ack(epoch, (lane, sequence), digest, message),
        };
        match signed {
            Ok(signature) => signature,
            Err(Refused::Guard(error)) => guard_failed(&error),
            Err(Refused::Closed) => {
                drop(desk);
                // The process is about to end, and whoever waits for this thread gives it up in time.
                loop {
                    std::thread::park();
                }
            }
            Err(why) => crate::node::end(
                &format!("{what:?} of lane {lane} at {sequence} is not signed: {why}"),
                Code::UnsafeToSign,
            ),
        }
    }

    /// Signs what has no place, and contradicts nothing: requests and keys, each with a domain of its own.
    pub fn plain(&self, message: &[u8]) -> Signature {
        self.lock().plain(message)
    }

    /// Renews the lease when it is half used: called often, so that nobody who signs has to wait for the disk.
    pub fn renew(&self) {
        let renewal = self.lock().renewal();
        let Some((guard, state)) = renewal else { return };
        match desk::write(&guard, state) {
            Ok(state) => self.lock().renewed(&state),
            Err(error) => guard_failed(&error),
        }
    }

    /// Nothing is signed from now on: has the guard say what was, and no more.
    pub fn close(&self) {
        let closing = self.lock().close();
        if let Some((guard, state)) = closing
            && let Err(error) = desk::settle(&guard, state)
        {
            guard_failed(&error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Signer({})", self.public)
    }
}

fn guard_failed(error: &std::io::Error) -> ! {
    crate::node::fatal(&format!("the guard beside the key: {error}"))
}
