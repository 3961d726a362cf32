//! Threads that sign ahead of the schedule: each author's next transaction as soon as it can be.

use super::core::Signed;
use crate::client::author::{self, Link, Workload};
use crate::key::Secret;
use crossbeam::channel::{Receiver, Sender, bounded};
use ledger::{Digest, PublicKey};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// One core signs some 50,000 transactions a second when it has nothing else to do; half of that on a
/// machine that also validates them.
const RATE_PER_THREAD: u64 = 20_000;

/// The running threads; they end when this is dropped.
pub(super) struct Signer {
    jobs: Option<Sender<(u32, Link)>>,
    done: Receiver<Signed>,
    threads: Vec<JoinHandle<()>>,
}

/// What every thread shares.
struct Shared {
    network: Digest,
    workload: Workload,
    secrets: Vec<Secret>,
    publics: Vec<PublicKey>,
}

impl Signer {
    /// Makes the authors' keys and starts as many threads as the rate asks for.
    ///
    /// Errors: the system gives no thread.
    pub(super) fn start(
        network: Digest,
        workload: Workload,
        authors: u32,
        rate: u64,
    ) -> io::Result<Self> {
        let secrets = author::secrets(workload.seed, authors);
        let publics = secrets.iter().map(Secret::public).collect();
        let shared = Arc::new(Shared { network, workload, secrets, publics });
        // No author has two transactions, so neither queue ever fills.
        let room = shared.secrets.len();
        let (jobs, jobs_receiver) = bounded(room);
        let (done_sender, done) = bounded(room);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let wanted = usize::try_from(rate.div_ceil(RATE_PER_THREAD)).unwrap_or(cores);
        let mut threads = Vec::new();
        for index in 0..wanted.clamp(1, cores) {
            let (shared, jobs, done) = (shared.clone(), jobs_receiver.clone(), done_sender.clone());
            let thread = thread::Builder::new().name(format!("signer-{index}"));
            threads.push(thread.spawn(move || sign_all(&shared, &jobs, &done))?);
        }
        Ok(Self { jobs: Some(jobs), done, threads })
    }

    /// Asks for an author's next transaction.
    pub(super) fn sign(&self, author: u32, link: Link) {
        let jobs = self.jobs.as_ref().expect("only dropping closes the queue");
        jobs.send((author, link)).expect("the threads live as long as their queue");
    }

    /// Returns a transaction that is done, without waiting.
    pub(super) fn take(&self) -> Option<Signed> {
        self.done.try_recv().ok()
    }

    /// Waits for a transaction.
    pub(super) fn wait(&self) -> Signed {
        self.done.recv().expect("the threads live as long as their queue")
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic of the thread has been printed; there is nothing to add on the way out.
            let _ = thread.join();
        }
    }
}

fn sign_all(shared: &Shared, jobs: &Receiver<(u32, Link)>, done: &Sender<Signed>) {
    let Shared { network, workload, secrets, publics } = shared;
    for (author, link) in jobs {
        let place = usize::try_from(author).expect("a place in memory has at least 32 bits");
        let to = &publics[(place + 1) % publics.len()];
        let (bytes, id) = workload.sign(network, &secrets[place], link, to);
        if done.send(Signed { author, id, bytes: bytes.into() }).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_comes_back_signed() {
        let workload = Workload { seed: 1, size: 256, transfers_percent: 50 };
        let signer = Signer::start(Digest([1; 32]), workload, 8, 1_000_000).unwrap();
        for author in 0..8 {
            signer.sign(author, Link::FIRST);
        }
        let mut authors: Vec<u32> = (0..8).map(|_| signer.wait().author).collect();
        authors.sort_unstable();
        assert_eq!(authors, (0..8).collect::<Vec<_>>());
        assert!(signer.take().is_none());
    }
}
