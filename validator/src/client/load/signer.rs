//! Threads that sign ahead of the schedule: each author's next transaction as soon as it can be, or all
//! chains before anything is due.

use super::Error;
use super::ahead::Ahead;
use super::core::Signed;
use crate::client::author::{self, Turn};
use crate::client::workload::{Treatment, Workload, Writer};
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
    jobs: Option<Sender<(u32, Turn)>>,
    /// What was signed before the start, by author; each is the next of its chain.
    chains: Vec<VecDeque<(Turn, Signed)>>,
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

    /// Signs the first transactions of every author, on all cores, and keeps them.
    ///
    /// Errors: a thread that panicked.
    pub(super) fn presign(
        &mut self,
        ahead: &Ahead,
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
                let links = ahead.links(author);
                if links > 0 {
                    chains.push((place, shared.sign_chain(author, links)));
                }
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
    pub(super) fn sign(&mut self, author: u32, turn: Turn) {
        let place = usize::try_from(author).expect("a place in memory has at least 32 bits");
        if let Some(chain) = self.chains.get_mut(place) {
            if chain.front().is_some_and(|(at, _)| *at == turn) {
                let (_, signed) = chain.pop_front().expect("the front was just seen");
                if chain.is_empty() {
                    // It gives its memory back: there may be millions of them.
                    *chain = VecDeque::new();
                }
                self.done_sender.send(signed).expect("this value holds the receiver");
                return;
            }
            // The chain went another way: nothing that was signed for it fits any more.
            chain.clear();
        }
        let jobs = self.jobs.as_ref().expect("only dropping closes the queue");
        jobs.send((author, turn)).expect("the threads live as long as their queue");
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

fn sign_all(shared: &Shared, jobs: &Receiver<(u32, Turn)>, done: &Sender<Signed>) {
    for (author, turn) in jobs {
        if done.send(shared.sign(author, turn)).is_err() {
            return;
        }
    }
}

impl Shared {
    fn sign(&self, author: u32, turn: Turn) -> Signed {
        let place = usize::try_from(author).expect("a place in memory has at least 32 bits");
        let writer = Writer { secret: &self.secrets[place], place, authors: &self.publics };
        let made = self.workload.sign(&self.network, &writer, turn);
        Signed { author, id: made.id, bytes: made.bytes.into(), class: made.class }
    }

    /// Signs an author's first transactions, as if each of them were taken or refused as it should be.
    fn sign_chain(&self, author: u32, links: u64) -> VecDeque<(Turn, Signed)> {
        let mut chain = VecDeque::with_capacity(usize::try_from(links).unwrap_or_default());
        let mut turn = Turn::FIRST;
        for _ in 0..links {
            let signed = self.sign(author, turn);
            let after = match signed.class.treatment {
                Treatment::Invalid => turn.again(),
                Treatment::Plain | Treatment::Duplicate => turn.after(signed.id),
            };
            chain.push_back((turn, signed));
            turn = after;
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::author::Link;
    use crate::client::load::tests::options;
    use crate::client::workload::Share;
    use std::time::Duration;

    fn start(workload: Workload) -> Signer {
        Signer::start(Digest([1; 32]), workload, 8, 1_000_000).unwrap()
    }

    /// Four transactions of each of the eight authors: a share of two, and two to spare.
    fn ahead() -> Ahead {
        let mut options = options(&[]);
        (options.authors, options.rate, options.presigned) = (8, 8, true);
        options.duration = Some(Duration::from_secs(2));
        let ahead = Ahead::of(&options);
        assert_eq!((ahead.links(7), ahead.links(8)), (4, 0));
        ahead
    }

    #[test]
    fn what_is_asked_for_comes_back_signed() {
        let mut signer = start(Workload::plain(1, 256, 50));
        for author in 0..8 {
            signer.sign(author, Turn::FIRST);
        }
        let mut authors: Vec<u32> = (0..8).map(|_| signer.wait().author).collect();
        authors.sort_unstable();
        assert_eq!(authors, (0..8).collect::<Vec<_>>());
        assert!(signer.take().is_none());
    }

    #[test]
    fn what_was_signed_before_is_what_would_be_signed_now() {
        let mut workload = Workload::plain(1, 256, 50);
        workload.mix.invalid = Share::percent(30);
        workload.mix.duplicates = Share::percent(30);
        let (mut before, mut now) = (start(workload.clone()), start(workload));
        before.presign(&ahead(), || false).unwrap();
        let mut invalid = 0;
        for author in 0..8 {
            let mut turn = Turn::FIRST;
            // The fifth is signed when it is asked for.
            for link in 0..5 {
                let kept = before.chains[usize::try_from(author).unwrap()].len();
                assert_eq!(kept, 4_usize.saturating_sub(link), "none was signed in vain");
                before.sign(author, turn);
                now.sign(author, turn);
                let (before, now) = (before.wait(), now.wait());
                assert_eq!(before, now);
                let is_invalid = now.class.treatment == Treatment::Invalid;
                invalid += u32::from(is_invalid);
                turn = if is_invalid { turn.again() } else { turn.after(now.id) };
            }
        }
        assert!((4..25).contains(&invalid), "{invalid} of 40");
        // A chain that goes another way is signed as it goes.
        before.presign(&ahead(), || false).unwrap();
        let other = Link { sequence: 1, previous: Digest([9; 32]) };
        for turn in [Turn::FIRST, Turn::at(other), Turn::at(other.after(Digest([8; 32])))] {
            before.sign(5, turn);
            now.sign(5, turn);
            assert_eq!(before.wait(), now.wait());
        }
    }
}
