//! Threads that sign ahead of the schedule: each author's next transaction as soon as it can be, or all
//! chains before anything is due.

use super::Error;
use super::core::Signed;
use crate::client::author::{self, Link, Workload};
use crate::key::Secret;
use crossbeam::channel::{Receiver, Sender, bounded};
use ledger::{Digest, PublicKey};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// One core signs some 50,000 transactions a second when it has nothing else to do; half of that on a
/// machine that also validates them.
const RATE_PER_THREAD: u64 = 20_000;

/// The running threads; they end when this is dropped.
pub(super) struct Signer {
    jobs: Option<Sender<(u32, Link)>>,
    /// What was signed before the start, by author; each is the next link of its chain.
    chains: Vec<VecDeque<(Link, Signed)>>,
    done_sender: Sender<Signed>,
    done: Receiver<Signed>,
    shared: Arc<Shared>,
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
        Ok(Self { jobs: Some(jobs), chains: Vec::new(), done_sender, done, shared, threads })
    }

    /// Signs the first so many links of every chain, on all cores, and keeps them.
    ///
    /// Errors: a thread that panicked.
    pub(super) fn presign(
        &mut self,
        links: u64,
        is_stopped: impl Fn() -> bool + Sync,
    ) -> Result<(), Error> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let shared = &*self.shared;
        let next = AtomicUsize::new(0);
        let sign = || {
            let mut chains = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= shared.secrets.len() || is_stopped() {
                    return chains;
                }
                let author = u32::try_from(place).expect("authors have 32-bit numbers");
                let mut link = Link::FIRST;
                let mut chain = VecDeque::new();
                for _ in 0..links {
                    let signed = shared.sign(author, link);
                    let after = link.after(signed.id);
                    chain.push_back((link, signed));
                    link = after;
                }
                chains.push((place, chain));
            }
        };
        let signed: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(sign)).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        self.chains.resize_with(shared.secrets.len(), VecDeque::new);
        for chains in signed {
            let chains =
                chains.map_err(|_| io::Error::other("a thread that signs ended by a panic"))?;
            for (place, chain) in chains {
                self.chains[place] = chain;
            }
        }
        Ok(())
    }

    /// Asks for an author's next transaction.
    pub(super) fn sign(&mut self, author: u32, link: Link) {
        let place = usize::try_from(author).expect("a place in memory has at least 32 bits");
        if let Some(chain) = self.chains.get_mut(place) {
            if chain.front().is_some_and(|(at, _)| *at == link) {
                let (_, signed) = chain.pop_front().expect("the front was just seen");
                self.done_sender.send(signed).expect("this value holds the receiver");
                return;
            }
            // The chain went another way: nothing that was signed for it fits any more.
            chain.clear();
        }
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
    for (author, link) in jobs {
        if done.send(shared.sign(author, link)).is_err() {
            return;
        }
    }
}

impl Shared {
    fn sign(&self, author: u32, link: Link) -> Signed {
        let place = usize::try_from(author).expect("a place in memory has at least 32 bits");
        let to = &self.publics[(place + 1) % self.publics.len()];
        let (bytes, id) = self.workload.sign(&self.network, &self.secrets[place], link, to);
        Signed { author, id, bytes: bytes.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_comes_back_signed() {
        let workload = Workload { seed: 1, size: 256, transfers_percent: 50 };
        let mut signer = Signer::start(Digest([1; 32]), workload, 8, 1_000_000).unwrap();
        for author in 0..8 {
            signer.sign(author, Link::FIRST);
        }
        let mut authors: Vec<u32> = (0..8).map(|_| signer.wait().author).collect();
        authors.sort_unstable();
        assert_eq!(authors, (0..8).collect::<Vec<_>>());
        assert!(signer.take().is_none());
    }

    #[test]
    fn what_was_signed_before_is_what_would_be_signed_now() {
        let workload = Workload { seed: 1, size: 256, transfers_percent: 50 };
        let start = || Signer::start(Digest([1; 32]), workload, 8, 1_000_000).unwrap();
        let (mut before, mut now) = (start(), start());
        before.presign(3, || false).unwrap();
        for author in 0..8 {
            let mut link = Link::FIRST;
            // The fourth is signed when it is asked for.
            for _ in 0..4 {
                before.sign(author, link);
                now.sign(author, link);
                let (before, now) = (before.wait(), now.wait());
                assert_eq!(before, now);
                link = link.after(now.id);
            }
        }
        // A chain that goes another way is signed as it goes.
        before.presign(3, || false).unwrap();
        let other = Link { sequence: 1, previous: Digest([9; 32]) };
        for link in [Link::FIRST, other, other.after(Digest([8; 32]))] {
            before.sign(5, link);
            now.sign(5, link);
            assert_eq!(before.wait(), now.wait());
        }
    }
}
