//! Consensus: the engine's callbacks and its configuration; no agreement algorithm of our own.
//!
//! The engine is commonware's simplex with marshal in front of it. It orders [`Block`]s, which
//! are cut blocks: for each lane that advanced, its newest certified batch. [`Application`] builds
//! and checks them; [`engine::start`] wires the actors over any runtime and any network, so that
//! the same code runs over sockets and in a simulation.

pub mod application;
pub mod block;
mod conductor;
pub mod engine;
pub mod finals;
mod heard;
mod known;
mod offence;
mod paced;
pub mod patient;
pub mod scheme;
pub(crate) mod vault;

use crate::execute::Progress;
use ledger::{AvailabilityCertificate, Digest, Height, Tips, limits::EXECUTION_LAG_MAX};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

pub use application::Application;
pub use block::Block;
pub use scheme::Scheme;

/// Executed heights whose roots are kept for checking what a leader declares: a block may declare
/// any of the last 64, and the block itself may be that far ahead again.
pub(crate) const PROGRESS_MAX: usize = 128;
const _: () = assert!(PROGRESS_MAX as u64 >= 2 * EXECUTION_LAG_MAX);

/// Roots and tips of the newest executed heights, oldest first; never empty.
pub type Recent = VecDeque<Progress>;

/// The newest certificate of each lane.
type Certificates = Vec<Option<Arc<AvailabilityCertificate>>>;

/// What the lane and execute stages tell consensus: the newest certificates, the newest roots, the epoch.
#[derive(Clone)]
pub struct Board {
    certificates: watch::Sender<Certificates>,
    progress: watch::Sender<Recent>,
    turned: watch::Sender<Turn>,
    durable: Arc<AtomicU64>,
}

/// The epoch that the lanes are in: its engine may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The epoch.
    pub epoch: u64,
    /// The last block of the epoch before; the genesis block in the first.
    pub after: Digest,
}

impl Board {
    /// Starts with what recovery executed last, for `lanes` lanes of an epoch.
    ///
    /// All of it matters: after a restart of every validator each may declare what another has
    /// executed some heights ago.
    pub fn new(lanes: usize, recent: Recent, turn: Turn) -> Self {
        assert!(!recent.is_empty(), "the genesis counts as executed");
        let durable = Arc::new(AtomicU64::new(newest(&recent).height.get()));
        Self {
            durable,
            certificates: watch::Sender::new(vec![None; lanes]),
            progress: watch::Sender::new(recent),
            turned: watch::Sender::new(turn),
        }
    }

    /// A lane has a newer certificate.
    pub fn certified(&self, certificate: Arc<AvailabilityCertificate>) {
        let lane = certificate.lane as usize;
        self.certificates.send_modify(|certificates| certificates[lane] = Some(certificate));
    }

    /// A height is durable.
    pub fn stored(&self, height: Height) {
        self.durable.fetch_max(height.get(), Ordering::Release);
    }

    /// The newest durable height.
    pub fn durable(&self) -> Height {
        Height(self.durable.load(Ordering::Acquire))
    }

    /// The lanes are those of another epoch from now on.
    pub fn turned(&self, lanes: usize, turn: Turn) {
        self.certificates.send_modify(|certificates| *certificates = vec![None; lanes]);
        self.turned.send_replace(turn);
    }

    /// Follows the epoch of the lanes.
    pub fn turns(&self) -> watch::Receiver<Turn> {
        self.turned.subscribe()
    }

    /// A height was executed.
    pub fn executed(&self, progress: Progress) {
        self.progress.send_modify(|recent| remember(recent, progress));
    }

    /// The newest executed height.
    pub fn height(&self) -> Height {
        newest(&self.progress.borrow()).height
    }

    /// The executed tips after it, and the epoch whose they are.
    pub fn executed_tips(&self) -> (u64, Tips) {
        let progress = self.progress.borrow();
        let newest = newest(&progress);
        (newest.epoch, newest.executed.clone())
    }

    fn watch(&self) -> (watch::Receiver<Certificates>, watch::Receiver<Recent>) {
        (self.certificates.subscribe(), self.progress.subscribe())
    }
}

/// Adds a height and drops the oldest beyond the limit.
pub fn remember(recent: &mut Recent, progress: Progress) {
    recent.push_back(progress);
    if recent.len() > PROGRESS_MAX {
        recent.pop_front();
    }
}

/// The newest executed height.
pub(crate) fn newest(recent: &Recent) -> &Progress {
    recent.back().expect("the board starts with one entry and drops only older ones")
}
