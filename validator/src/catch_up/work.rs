//! A worker: one connection to one peer, which takes jobs until its peer is of no use.

use super::{
    bodies::{Bodied, Checker, Failed},
    peer::{Fault, Peer},
    skeleton::Planned,
};
use crate::{terms::Terms, votes::Judge};
use crossbeam::channel::{Receiver, Sender};
use ledger::Digest;
use std::{net::SocketAddr, sync::Arc};

/// Heights whose batches are to be fetched.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) heights: Vec<Planned>,
}

/// What became of a job, or of a worker.
pub(super) enum Worked {
    /// Fetched and checked.
    Done(u64, Vec<Bodied>),
    /// The worker is gone; what it had taken is for another.
    Left {
        /// The place of its source.
        place: usize,
        job: Option<Job>,
        fault: Fault,
    },
    /// Something that is final does not hold.
    Broken { height: u64, what: String },
}

/// A worker.
pub(super) struct Worker {
    pub(super) place: usize,
    pub(super) address: SocketAddr,
    pub(super) network: Digest,
    pub(super) terms: Terms,
    pub(super) judge: Arc<Judge>,
    pub(super) jobs: Receiver<Job>,
    pub(super) worked: Sender<Worked>,
}

impl Worker {
    /// Works until there are no jobs any more, or its peer fails.
    pub(super) fn run(self) {
        crate::node::take_what_is_left();
        let Self { place, address, network, terms, judge, jobs, worked } = self;
        let leave = |job, fault| {
            // The session may be over.
            let _ = worked.send(Worked::Left { place, job, fault });
        };
        let mut peer = match Peer::connect(address, network) {
            Ok(peer) => peer,
            Err(fault) => return leave(None, fault),
        };
        let checker = Checker { network, terms, judge };
        while let Ok(job) = jobs.recv() {
            match checker.fetch(&mut peer, &job.heights) {
                Ok(bodies) => {
                    if worked.send(Worked::Done(job.number, bodies)).is_err() {
                        return;
                    }
                }
                Err(Failed::Peer(fault)) => return leave(Some(job), fault),
                Err(Failed::Broken { height, what }) => {
                    let _ = worked.send(Worked::Broken { height, what });
                    return;
                }
            }
        }
    }
}
