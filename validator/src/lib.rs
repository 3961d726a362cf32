//! The whole node as a library with one entry, [`main`]: `bench` and `tests` start validators through it.
//!
//! ```text
//! client ──UDP/TCP/HTTP──▶ ingest ─▶ verify ─▶ lane ──batches──▶ every other validator
//!                                                │ certificates
//!                                                ▼
//!                                    consensus: cut blocks ─▶ lane: fetch ─▶ execute ─▶ durable ─▶ final
//! ```
//!
//! `admit`, `lane` and `execute` are plain state machines; `stage` puts them on threads, `node`
//! makes queues and threads, `consensus` and `network` connect the engine. `ARCHITECTURE.md` has
//! the map.

pub mod admission;
pub mod admit;
pub mod api;
pub mod archive;
pub mod catch_up;
pub mod client;
pub mod command;
pub mod config;
pub mod consensus;
pub mod cost;
pub mod evidence;
pub mod execute;
pub mod handle;
pub mod held;
pub mod history;
pub mod ingest;
pub mod key;
pub mod lane;
pub mod message;
pub mod metrics;
pub mod network;
pub mod node;
pub mod prover;
pub mod record;
pub mod refusal;
pub mod repair;
pub mod saved;
pub mod signer;
pub mod stage;
pub mod terms;
pub mod verify;
pub mod votes;
pub mod wire;

use std::{ffi::OsString, process::ExitCode};

/// Runs the command line of the binary.
///
/// Shape: `arguments` begins with the program's name; the answer is one of the documented exit codes.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    command::run(arguments)
}
