//! Batched Ed25519 signature checks: one exact rule, one verdict per item, at any batch size.
//!
//! # The rule
//!
//! An item is a public key `A`, a signature `R ‖ S` and a message `M`. It is valid when all of
//! these hold:
//!
//! 1. `S`, read as a little-endian integer, is below the group order `L`.
//! 2. `A` and `R` are canonical encodings of curve points: `y < p`, the point exists, and no sign
//!    bit on `x = 0`.
//! 3. Neither `A` nor `R` is one of the eight points of small order.
//! 4. `8·(S·B − R − k·A) = 0`, where `k = SHA-512(R ‖ A ‖ M)` reduced modulo `L`.
//!
//! The multiplication by 8 comes **last**, and that is what makes two shortcuts safe. A key may
//! have a component of small order `T`; replacing `k` or a sum of `z·k` by its residue modulo `L`
//! changes `k·A` by a multiple of `L·T`, which is itself of small order, and so the factor 8
//! removes it. Without the factor, verdicts would change with the neighbours in a batch; with `8·k`
//! reduced before it is multiplied, it would be another rule, stricter for such keys.
//!
//! The rule differs from ZIP 215, which allows small orders and non-canonical encodings (under the
//! all-zero key anyone can forge), and from the cofactorless rule of RFC 8032 libraries, which no
//! batch can decide.
//!
//! # The picture
//!
//! ```text
//!   items ──▶ pool ──▶ chunks of at most 1,024, one core each
//!                        │
//!                        ▼ backend (the gate chose it once, at start)
//!              decode: byte checks, then all points R and unknown A at once, k      refused ──▶ Invalid
//!                        │
//!                        ▼ policy: how many together? (prices, and the share of bad items of late)
//!              together: 8·(Σ z·R + Σ (Σ z·k)·A − (Σ z·S)·B) = 0 ──yes──▶ Valid, all of the part
//!                        │ no, or too few
//!                        ▼
//!              alone:    S·B − k·A = R, or 8·(S·B − k·A − R) = 0        ──▶ Valid or Invalid, each
//! ```
//!
//! # Ways to the same verdict, and what they cost
//!
//! In microseconds of one core, an item, from bytes to verdict, messages of 47 bytes; backend
//! `avx512` on a Zen 5 core where `ed25519-dalek`'s `verify_strict` takes 36.3 and 33.0 with its key
//! decoded before. `bench run sigverify` repeats it with the rivals beside.
//!
//! | way | when | how | µs |
//! | --- | --- | --- | --- |
//! | single | 1 or 2 items | the four coordinates of a point side by side; −k·A and S·B at once | 13.1 |
//! | cold | alone, 3 or more | 8 items in the 8 lanes; doublings shared by A and B; digits of 5 and 10 bits | 3.8 |
//! | hot | alone, key with a table | multiples of 17 places of A: 10 doublings instead of 250 | 1.5 |
//! | together | 24 or more | a random linear combination, Pippenger's buckets, 8 at a time | 2.2 of 64, 1.3 of 1,024 |
//! | together, few keys | 64 keys | z·k of one key added up first | 0.69 of 1,024 |
//!
//! Of the 1.3 a hash is 0.04, decoding R and A 0.43, the sum 0.7, the rest bookkeeping. A lane
//! computes what the next lane computes: five limbs of 51 bits, products by `vpmadd52`, carried
//! only where they are multiplied again.
//!
//! What an attacker can do to it: bad items make a part fail, which costs its bulk check and each
//! item alone (5.4 together in the worst mix of the benchmark); after that the share of failures
//! makes the parts of their [`Source`] smaller, down to none (3.8), and nobody else's. Fresh keys cost
//! a decoding each and enter no cache before they come again; tables get a twentieth of the time of
//! checks alone. Long messages are hashed beside their like.
//!
//! # Promises
//!
//! * `verdicts[i]` is what [`verify_one`] says of `items[i]`, whatever stands beside it, wherever
//!   it stands, on every backend and with any number of threads. The one exception is chance: an
//!   invalid item passes with a probability of at most 2⁻¹²⁸ a bulk check, over 128-bit
//!   coefficients that are drawn from a secret stream only after the item was decoded and hashed.
//!   Nobody who writes an item can know them. [`Verifier::verify_each_into`] leaves nothing to
//!   chance.
//! * Nothing panics on hostile input; a bad signature is a verdict. Memory is bounded by
//!   [`KEYS_CACHED_MAX`], by 19 MB of tables and by [`CHUNK_ITEMS_MAX`] per thread, beside what the
//!   caller passes in.
//!
//! # What it does not do
//!
//! It knows nothing of transactions, networks or files, holds no signing keys and is not
//! constant-time: every input is public. Votes and finality certificates follow the consensus
//! engine's own rule and are judged there.

#![allow(
    clippy::duplicate_mod,
    reason = "what vector backends share is compiled once for the CPU features of each"
)]

mod backend;
mod batch;
mod coefficients;
mod keys;
mod pool;
mod rule;

pub use backend::{BACKENDS, Choice};
pub use batch::{CHUNK_ITEMS_MAX, Source};
pub use keys::KEYS_CACHED_MAX;
pub use pool::{Options, THREADS_MAX, VARIABLE, Verifier};
pub use rule::{key_is_sound, verify_one};

/// One signature to check, borrowed from wherever it lies.
///
/// Shape: `key` is the encoded point A; `signature` is R, then S; `message` has any length.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The signer's public key as it was received, unchecked.
    pub key: &'a [u8; 32],
    /// The bytes that were signed.
    pub message: &'a [u8],
    /// The signature as it was received, unchecked.
    pub signature: &'a [u8; 64],
}

/// The answer to one item: a single bit, because reasons differ between implementations and
/// verdicts must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The item satisfies the rule.
    Valid,
    /// The item breaks the rule, in whatever way.
    Invalid,
}

impl Verdict {
    /// Says whether the item satisfies the rule.
    pub const fn is_valid(self) -> bool {
        matches!(self, Self::Valid)
    }

    /// The verdict for an item of which the whole rule is known to hold, or not to.
    pub(crate) const fn of(holds: bool) -> Self {
        if holds { Self::Valid } else { Self::Invalid }
    }
}

/// Why a [`Verifier`] could not be made; checking itself has no errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The backend that was asked for is no backend of this build.
    #[error("unknown signature backend `{name}`; this build has: {known}")]
    BackendUnknown {
        /// The name that was asked for.
        name: String,
        /// The names that would do, separated by commas.
        known: String,
    },
    /// The backend that was asked for exists, but not on this machine.
    #[error("signature backend `{name}` cannot run on this machine: {reason}")]
    BackendUnavailable {
        /// The name that was asked for.
        name: String,
        /// What the machine lacks.
        reason: String,
    },
    /// More threads were asked for than [`THREADS_MAX`].
    #[error("{threads} signature threads asked for; at most {THREADS_MAX} are allowed")]
    ThreadsTooMany {
        /// The number that was asked for.
        threads: usize,
    },
    /// The operating system refused to start the threads.
    #[error("cannot start {threads} signature threads: {source}")]
    ThreadsRefused {
        /// How many were to be started.
        threads: usize,
        /// What the operating system said.
        source: rayon::ThreadPoolBuildError,
    },
    /// The operating system gave no random seed for the secret coefficients.
    #[error("the operating system gave no random seed: {0}")]
    Seed(#[from] getrandom::Error),
}
