//! The load: transactions at a constant rate, timed from when each should have left.
//!
//! ```text
//!   schedule ─▶ core ── submit ──▶ connection (one for each validator) ──▶
//!              ▲ │ ▲                    │ answers
//!       signed │ │ └────────────────────┘
//!              │ └─ sign ─▶ signer (threads)
//!              └──────────────┘
//! ```
//!
//! The schedule never waits for an answer (an open loop): a transaction whose time has come and that
//! cannot leave goes on ageing, and its latency tells. Each author has at most one transaction under
//! way, since the next one names it; so the authors take turns. What cannot be sent in time makes the
//! run invalid, and the report says whose fault it was.
//!
//! What is sent is a mix. A transaction with a wrong signature must be refused for it, and one that goes to
//! two validators at once must be executed once: anything else is an error of the run. Where some authors
//! are hot, they send their share as long as one of them is free; otherwise others do, and the report says
//! which share was reached.
//!
//! Over UDP each validator has a session beside its connection. The session carries the transactions
//! and brings the first answers; the connection tells of finality, and carries what the session cannot
//! take: while none stands, and when the validator waits for no further counter yet. So a transaction
//! leaves when its time has come, whatever the session does, and the report says how many went which
//! way. One that is lost under way has no answer in time and is sent again, as over TCP. Wrong signatures
//! go over the connection, since a session ends by the first of them.

mod ahead;
mod connection;
mod core;
mod datagrams;
mod kinds;
mod report;
mod shell;
mod signer;

pub use kinds::Kinds;
pub use report::{Latency, Report, Verdict};

use super::Url;
use super::workload::Workload;
use crate::refusal::Refusal;
use ahead::Ahead;
use ledger::{Digest, Height, Outcome, PublicKey};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A transaction that leaves later than this after its time was not sent on schedule.
pub const LATE_MAX: Duration = Duration::from_millis(50);
/// Time for the answers that are under way when the last transaction has left.
pub const DRAIN: Duration = Duration::from_secs(10);
/// Transactions a second at most: far above what one machine signs.
pub const RATE_MAX: u64 = 1_000_000;
/// Memory for transactions that are signed before the start.
pub const PRESIGNED_BYTES_MAX: f64 = 8e9;
/// Authors at most; each takes some 700 bytes with its signed transaction.
pub const AUTHORS_MAX: u32 = 4_000_000;

/// How many authors a rate needs when the validators take up to four seconds to finalize.
pub fn authors_for(rate: u64) -> u32 {
    let wanted = rate.saturating_mul(4).max(4_096);
    u32::try_from(wanted).unwrap_or(AUTHORS_MAX).min(AUTHORS_MAX)
}

/// One validator that takes the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its TCP way in.
    pub tcp: SocketAddr,
    /// Its UDP way in, for [`Transport::Udp`].
    pub udp: Option<UdpTarget>,
}

/// A validator's UDP way in, and what it takes to open a session there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpTarget {
    /// Where its datagrams go.
    pub address: SocketAddr,
    /// Where it publishes the key towards which sessions are opened.
    pub http: Url,
    /// Its public key, which signs that key.
    pub key: PublicKey,
}

/// How transactions travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Over the connection.
    Tcp,
    /// In datagrams of a session; the connection tells of finality, and helps out.
    Udp,
}

/// What to offer, to whom, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The validators; authors are spread over them.
    pub targets: Vec<Target>,
    /// The genesis digest.
    pub network: Digest,
    /// Transactions a second.
    pub rate: u64,
    /// How long to offer; none for until [`Control::stop`].
    pub duration: Option<Duration>,
    /// What the transactions are.
    pub workload: Workload,
    /// Authors that take turns; all must be funded.
    pub authors: u32,
    /// Whether all transactions are signed before the first is due, so that signing takes nothing from
    /// what is measured; it takes a duration, and memory for all of them.
    pub presigned: bool,
    /// How transactions travel.
    pub transport: Transport,
    /// Time for the last answers.
    pub drain: Duration,
}

/// Stops a load, and restarts its measure of pauses, from another thread.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    mark: AtomicBool,
}

impl Control {
    /// Offers nothing more; the run ends when the last answers are there.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Measures the longest pause of each validator from now on.
    pub fn mark(&self) {
        self.mark.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn take_mark(&self) -> bool {
        self.mark.swap(false, Ordering::Relaxed)
    }
}

/// A transaction that a validator said is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its id.
    pub id: Digest,
    /// The height that executed it.
    pub height: Height,
    /// What became of it.
    pub outcome: Outcome,
}

/// Counts of what became of the transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions whose time came.
    pub offered: u64,
    /// Those that left.
    pub sent: u64,
    /// Those that a validator accepted, or that it knew already.
    pub accepted: u64,
    /// Those that are final, by outcome.
    pub finalized: [u64; Outcome::ALL.len()],
    /// Those that were refused for good, by reason.
    pub rejected: BTreeMap<Refusal, u64>,
    /// Those without an answer at the end.
    pub lost: u64,
    /// Those for which the validator's connection had no room: it takes no more for now.
    pub held_back: u64,
    /// Those that never left.
    pub unsent: u64,
    /// Times that one was sent to another validator, or again.
    pub resubmitted: u64,
    /// Times that one was signed again because its author's chain had gone on elsewhere.
    pub resigned: u64,
    /// What they were. Those that were refused as asked are neither rejected nor lost.
    pub kinds: Kinds,
}

impl Counts {
    /// Returns the number of final transactions, whatever became of them.
    pub fn finalized_total(&self) -> u64 {
        self.finalized.iter().sum()
    }

    /// Returns the number of refused transactions.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// Counts of what went by UDP, of all targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Handshakes that were sent.
    pub handshakes: u64,
    /// Sessions that were opened.
    pub opened: u64,
    /// Submits that left in a session.
    pub datagrams: u64,
    /// Submits that left over the connection, since no session stood or it had no counter left.
    pub held_back: u64,
}

impl Sessions {
    fn json(&self) -> serde_json::Value {
        let Self { handshakes, opened, datagrams, held_back } = self;
        serde_json::json!({
            "handshakes": handshakes,
            "opened": opened,
            "datagrams": datagrams,
            "held_back": held_back,
        })
    }
}

/// The state of a run after a second of it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Time since the first transaction was due.
    pub elapsed: Duration,
    /// Totals so far.
    pub counts: Counts,
    /// Transactions under way.
    pub in_flight: u64,
    /// Final transactions since the last snapshot.
    pub finalized_recently: u64,
    /// The length of that time.
    pub interval: Duration,
    /// Their latency, if there was one.
    pub latency: Option<Latency>,
    /// Each target.
    pub targets: Vec<TargetSnapshot>,
}

/// The state of the connection to a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetSnapshot {
    /// Whether there is a connection.
    pub is_connected: bool,
    /// The longest time without news of a final transaction since the start or the last mark.
    pub longest_pause: Duration,
}

/// Why a load could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option makes no sense.
    #[error("{0}")]
    Options(String),
    /// No validator answered.
    #[error("no validator can be reached: {0}")]
    Unreachable(String),
    /// A validator is not what was expected.
    #[error("{target}: {what}")]
    Target {
        /// Which validator.
        target: SocketAddr,
        /// What is wrong.
        what: String,
    },
    /// The system denies what a client needs.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs a load to its end.
///
/// Shape: `on_tick` is called about once a second, `on_final` for every transaction that a validator
/// says is final, also twice for one that was sent to two.
/// Errors: every [`Error`]; what happens once transactions flow is in the report.
pub fn run(
    options: &Options,
    control: &Arc<Control>,
    on_tick: &mut dyn FnMut(&Snapshot),
    on_final: &mut dyn FnMut(&Acknowledged),
) -> Result<Report, Error> {
    options.check()?;
    shell::run(options, control, on_tick, on_final)
}

impl Options {
    /// Returns how many transactions a run offers in all.
    fn offers(&self) -> u64 {
        let Some(duration) = self.duration else {
            return u64::MAX;
        };
        let offers = duration.as_micros() * u128::from(self.rate) / 1_000_000;
        u64::try_from(offers).unwrap_or(u64::MAX)
    }

    fn check(&self) -> Result<(), Error> {
        let size_max = match self.transport {
            Transport::Tcp => ledger::limits::TRANSACTION_BYTES_MAX,
            Transport::Udp => ledger::limits::DATAGRAM_TRANSACTION_BYTES_MAX,
        };
        let wrong = |what: String| Err(Error::Options(what));
        if self.targets.is_empty() {
            return wrong("a load needs a validator to go to".into());
        }
        if self.rate == 0 || self.rate > RATE_MAX {
            return wrong(format!("the rate must be 1 to {RATE_MAX} transactions a second"));
        }
        if self.authors == 0 || self.authors > AUTHORS_MAX {
            return wrong(format!("there must be 1 to {AUTHORS_MAX} authors"));
        }
        self.workload.check(self.authors, self.targets.len(), size_max).map_err(Error::Options)?;
        if self.presigned && self.duration.is_none() {
            return wrong("signing everything before the start needs a duration".into());
        }
        let bytes = Ahead::of(self).total() as f64 * self.workload.mix.bytes_mean();
        if self.presigned && bytes > PRESIGNED_BYTES_MAX {
            let gigabytes = bytes / 1e9;
            return wrong(format!(
                "signing everything before the start would take {gigabytes:.1} GB of memory: \
                 at most {:.0} are taken",
                PRESIGNED_BYTES_MAX / 1e9
            ));
        }
        let unknown = self.targets.iter().find(|target| target.udp.is_none());
        if let Some(target) = unknown.filter(|_| self.transport == Transport::Udp) {
            return wrong(format!("the UDP address of {} is not known", target.tcp));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
