//! The instrument: runs contenders over equal inputs, in turns, and says how sure the figures are.
//!
//! # The picture
//!
//! ```text
//!   suite ──▶ groups, one after the other: equal inputs, a baseline, its rivals
//!               │
//!               ▼ for each contender: check the result, then one warm-up round
//!             rounds in turns: baseline, rival, ours, baseline, rival, ours, ...
//!               │ until no row is noisy, or the group's limit is reached
//!               ▼
//!             rows: medians, intervals, variation, ratios of the same round ──▶ table, JSON
//! ```
//!
//! # Promises
//!
//! * Contenders of a group do the same work on the same inputs, which the seed decides.
//! * A result is checked before time is taken; a wrong one gives no figure at all.
//! * Every figure is a median with an interval and the interval's own confidence. Ratios are taken
//!   within a round, so that what slows the machine slows both sides.
//! * A row says for itself when it is not to be believed: `noisy`, `invalid` (something else than
//!   the contender set the pace, and what), `failed`, `skipped` (and why).
//! * A written report follows `schema.md`: the writer checks that, and the reader too.
//!
//! # What it does not do
//!
//! It sets nothing on the machine (no governor, no affinity, no privileges): it reads, and says
//! what it has read.

pub mod comparison;
pub mod hardware;
pub mod native;
pub mod report;
pub mod runner;
pub mod statistics;
pub mod suite;
pub mod unverified;
