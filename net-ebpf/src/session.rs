//! Sessions: who proved an address and shook hands, and the one-time tokens that admit packets.
//!
//! ```text
//!  Client                                             Server
//!    │ hello ────────────────────────────▶ (policy)     │
//!    │ ◀──────────────────────────── cookie             │
//!    │ handshake: cookie, Noise message 1 ────────────▶ handshake: quotas, CPU share, Noise,
//!    │ ◀─────── welcome: Noise message 2, keys          │  a place in the table, tokens 1..=1024
//!    │                                                  │  ──▶ Tokens (what the filter compares)
//!    │ submit: counter, token(counter), tag ─▶ (policy: compares the token, clears it)
//!    │                                        ────────▶ accept: counter, token, tag; the window
//!    │                                                  │  moves on ──▶ Ticket
//!    │ ◀─────── answer: installed counter, tag ◀─────── Ticket::answer, on any thread
//!    │ ◀─────── window: installed counter, tag ◀─────── accept and tick
//!    │                                        Standing: accepted and blamed, from any thread
//! ```
//!
//! Both sides are pure state machines: time and randomness are passed in, datagrams come out. The
//! handshake is `Noise_NK_25519_ChaChaPoly_BLAKE2s` with network, version and cookie in its
//! prologue: the client knows whom it talks to, the validator knows nothing but a proved address.
//!
//! # Window
//!
//! A session's counters start at 1, and each is used once. The validator waits for those in
//! `(installed - 1024, installed]`; counter `c` has the slot `index * 1024 + c % 1024`, which
//! holds its token until it is spent or overwritten by that of `c + 1024`. With `highest` the
//! highest accepted counter, `installed` becomes `highest + 512` as the session's rate allows, so
//! a client that lost packets or slept goes on, and no packet is late for being overtaken by fewer
//! than 512 others. A client learns `installed` from every answer, and from a window datagram
//! after each 256 that it grew.
//!
//! # Who keeps a place
//!
//! See `ranks`: sessions are kept for the transactions that were accepted from them. Handshakes
//! alone push out only sessions without such transactions.

mod client;
mod key;
mod lists;
mod networks;
mod noise;
mod random;
mod ranks;
mod server;
mod standing;
mod tag;
mod window;

pub use client::{Client, Event, Outgoing};
pub use key::AdmissionKey;
pub use server::{Accepted, Action, Options, SESSIONS_MIN, Server};
pub use standing::{BLAMES_MAX, Standing, Ticket};
pub use tag::{TagKey, TokenKey};

use crate::abi::Session;

/// How many counters of a session a validator waits for: one slot each.
///
/// 1,024 tokens are 8 KiB a session, and let a client have 512 packets under way: 5,000 packets
/// a second over a path of 100 ms.
pub const WINDOW: u64 = 1_024;

/// Where the tokens that a validator waits for are put, and whose they are.
pub trait Tokens {
    /// Says which session holds its place from now on: packets of another generation are not
    /// compared with its tokens.
    fn open(&mut self, session: Session);

    /// Puts a token into a slot, in the place of what it held; 0 clears it.
    ///
    /// Shape: `slot` lies below [`WINDOW`] times the number of sessions.
    fn put(&mut self, slot: usize, token: u64);
}

/// The slot of one counter of a session.
pub fn slot(session: Session, counter: u64) -> usize {
    let slot = u64::from(session.index()) * WINDOW + counter % WINDOW;
    usize::try_from(slot).expect("at most 2^30")
}

#[cfg(test)]
mod tests;
