//! The way of a packet from the network card to the first queue, and who is let in.
//!
//! ```text
//!   card ─▶ XDP program ──▶ AF_XDP ring ──┐
//!            │ tables: tokens, keys,      ├─▶ receive::Ingress ─▶ policy::Policy ─▶ session::Server ─▶ node
//!            │ lists, budgets, counters   │    up to 64 packets    judged again,     token, tag,
//!            └──▶ kernel's UDP socket ────┘    of each a call      hello answered    window, ticket
//!                 (or all there is)
//!
//!   filter::Gate: what carries the packets, and why; all that needs privileges, before anything starts
//!   filter.h and policy.rs: the same rules twice, held together by a test on a million frames
//! ```
//!
//! What a caller may rely on:
//! * The program drops earlier by the rules of [`policy`], never by others, and nothing it says is
//!   believed: every packet is judged again. Traffic of the host that is not for our ports passes
//!   untouched.
//! * [`policy::Policy`], [`session::Server`] and [`session::Client`] are pure state machines: time
//!   and randomness are passed in, and their memory is fixed when they are made.
//! * A packet that becomes a [`session::Accepted`] came from the holder of a session, once, as it
//!   was sent. The transaction inside is still opaque bytes from a stranger.
//! * A datagram sent back is never longer than the one it answers: a forged source gains nothing.
//! * No call allocates once receivers, senders, policies and servers are made.
//! * A missing privilege, driver or system call is a named fallback, never a stop.
//!
//! What it does not do: it knows no transaction, signature or validator, reads no clock and starts no
//! thread. It runs on Linux only. The wire format is specified in `PROTOCOL.md`.

mod error;
mod frame;
mod reject;

pub mod abi;
pub mod filter;
pub mod interface;
pub mod policy;
pub mod receive;
pub mod session;
pub mod tables;

pub use error::Error;
pub use reject::{Counters, Reject, Verdict};
