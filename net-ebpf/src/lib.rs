//! The way of a packet from the network card to the first queue, and who is let in.
//!
//! ```text
//!   card ─▶ kernel socket ─▶ receive::Receiver ─▶ policy::Policy ─▶ abi::Submit ─▶ ingest
//!              │ buffer full:     recvmmsg into       │ one verdict     a decoded, checked
//!              ▼ kernel drops,    a fixed pool        ▼ a packet        request
//!            counted                                Drop(Reject),
//!                                                   counted per reason
//!                                 receive::Sender ◀── abi::Answer ◀───────────────┘
//!
//!   filter::Gate: says what carries the packets, and why, before anything starts
//! ```
//!
//! What a caller may rely on:
//! * [`policy::Policy`] is a pure state machine: the same seed, times, sources and packets give the
//!   same verdicts, and its memory is fixed when it is made ([`policy::MEMORY_BYTES_MAX`]).
//! * A packet that passes is a [`abi::Submit`]: nothing about its frame needs checking again. The
//!   transaction inside is still opaque bytes from a stranger.
//! * An answer is never longer than the request it answers: a forged source address gains nothing.
//! * No call allocates once a receiver, a sender and a policy are made.
//! * A missing privilege or system call is a named fallback, never a stop.
//!
//! What it does not do: it knows no transaction, signature or validator; the policy reads no clock
//! and draws no randomness (the caller passes both in); it starts no thread. It runs on Linux only.

mod error;
mod reject;

pub mod abi;
pub mod filter;
pub mod policy;
pub mod receive;

pub use error::Error;
pub use reject::{Counters, Reject, Verdict};
