//! Where the processor's time goes: each stage's share, counted on the threads that spend it.
//!
//! ```text
//! threads of a stage:   open ─▶ work ─▶ charge(decode) ─▶ work ─▶ charge(verify) ─▶ ...
//!                              aside(verify, ..) inside any work counts for itself alone
//! threads of libraries: read from /proc by name, less what was set aside on them
//! ```
//!
//! A charge reads the thread's own clock, a system call of some 200 ns: once for a piece of work of many
//! transactions. Nothing is sampled or estimated but the split of the engine's threads into user and
//! kernel mode, which is the kernel's. What all rows leave of the process's time is shown as such.

mod threads;

use rustix::time::{ClockId, clock_gettime};
use std::{
    cell::Cell,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What processor time is spent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Cost {
    /// Taking bytes of clients from sockets into the node's memory.
    Receive,
    /// Looking at form and length of transactions and batches.
    Decode,
    /// Digests and Merkle roots of transactions and batches.
    Hash,
    /// Signatures, of whatever.
    Verify,
    /// Links, funds and pending heads of clients' transactions.
    Admit,
    /// Moving bytes from one buffer to another.
    Copy,
    /// Acks, certificates, and what is under way in the lanes.
    Lane,
    /// The transport's cipher, both ways, on messages of 4 KiB and more; shorter ones count as consensus.
    Encrypt,
    /// The kernel's work for the engine: sockets towards validators, and the log of votes.
    Network,
    /// The engine's own work: votes, blocks, and the transport around the cipher.
    Consensus,
    /// The block store: framing, hashing and writing groups.
    Persist,
    /// Applying transactions to accounts.
    Execute,
    /// Roots of outcomes, history and state.
    Roots,
    /// Telling clients.
    Client,
    /// Status, metrics, scrubbing, checkpoints.
    Upkeep,
    /// Looking at empty queues instead of sleeping.
    Spin,
}

impl Cost {
    /// All of them: those that a transaction meets in that order, then the others.
    pub const ALL: [Self; 16] = [
        Self::Receive,
        Self::Decode,
        Self::Hash,
        Self::Verify,
        Self::Admit,
        Self::Copy,
        Self::Lane,
        Self::Encrypt,
        Self::Network,
        Self::Consensus,
        Self::Persist,
        Self::Execute,
        Self::Roots,
        Self::Client,
        Self::Upkeep,
        Self::Spin,
    ];

    /// The stable name, a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Decode => "decode",
            Self::Hash => "hash",
            Self::Verify => "verify",
            Self::Admit => "admit",
            Self::Copy => "copy",
            Self::Lane => "lane",
            Self::Encrypt => "encrypt",
            Self::Network => "network",
            Self::Consensus => "consensus",
            Self::Persist => "persist",
            Self::Execute => "execute",
            Self::Roots => "roots",
            Self::Client => "client",
            Self::Upkeep => "upkeep",
            Self::Spin => "spin",
        }
    }
}

/// Nanoseconds by [`Cost`], of the whole process.
static SPENT: [AtomicU64; Cost::ALL.len()] = [const { AtomicU64::new(0) }; Cost::ALL.len()];
/// Nanoseconds that were set aside on threads without an account.
static BORROWED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static ACCOUNT: Account = const { Account::closed() };
}

/// What a thread has spent and not charged.
struct Account {
    is_open: Cell<bool>,
    /// The thread's time at the last charge.
    charged: Cell<u64>,
    /// What was set aside since then.
    aside: Cell<u64>,
}

impl Account {
    const fn closed() -> Self {
        Self { is_open: Cell::new(false), charged: Cell::new(0), aside: Cell::new(0) }
    }
}

/// Counts, or does not: a simulated node knows no clock but its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    is_on: bool,
}

impl Meter {
    /// Reads no clock and counts nothing.
    pub const OFF: Self = Self { is_on: false };
    /// Counts for the process.
    pub const ON: Self = Self { is_on: true };

    /// Opens an account for the calling thread: from now on all its time is charged.
    pub fn open(self) {
        if self.is_on {
            ACCOUNT.with(|account| {
                account.is_open.set(true);
                account.charged.set(thread_time());
                account.aside.set(0);
            });
        }
    }

    /// Charges what the thread has spent since its last charge, less what was set aside.
    pub fn charge(self, cost: Cost) {
        if !self.is_on {
            return;
        }
        ACCOUNT.with(|account| {
            // A thread without an account is read from outside: what it does counts once.
            if account.is_open.get() {
                let now = thread_time();
                let spent = now.saturating_sub(account.charged.replace(now));
                add(cost, spent.saturating_sub(account.aside.take()));
            }
        });
    }

    /// Does some work, on any thread, and charges it apart from what is around it.
    pub fn aside<T>(self, cost: Cost, work: impl FnOnce() -> T) -> T {
        if !self.is_on {
            return work();
        }
        let (before, outer) = (thread_time(), ACCOUNT.with(|account| account.aside.take()));
        let done = work();
        ACCOUNT.with(|account| {
            let all = thread_time().saturating_sub(before);
            // What the work itself has set aside is charged already.
            let spent = all.saturating_sub(account.aside.get());
            add(cost, spent);
            account.aside.set(outer + all);
            if !account.is_open.get() {
                BORROWED.fetch_add(spent, Ordering::Relaxed);
            }
        });
        done
    }
}

fn add(cost: Cost, nanoseconds: u64) {
    SPENT[cost as usize].fetch_add(nanoseconds, Ordering::Relaxed);
}

/// The threads of libraries, as they were seen last.
static THREADS: Mutex<threads::Threads> = Mutex::new(threads::Threads::new());

/// Brings the counters up to what the threads of libraries have spent; one that has ended since the last
/// look keeps what was seen of it.
pub fn look() {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner).look();
}

/// Returns the nanoseconds charged so far.
pub fn spent(cost: Cost) -> u64 {
    SPENT[cost as usize].load(Ordering::Relaxed)
}

/// Processor time of the calling thread, in nanoseconds.
pub fn thread_time() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

/// Processor time of the process, in nanoseconds.
pub fn process_time() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let parts = u64::try_from(time.tv_sec).ok().zip(u64::try_from(time.tv_nsec).ok());
    let (seconds, rest) = parts.expect("processor time is not negative");
    seconds * 1_000_000_000 + rest
}

#[cfg(test)]
mod tests;
