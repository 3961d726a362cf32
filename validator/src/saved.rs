//! The state on disk as it was at some heights, so that a restart replays little.
//!
//! ```text
//! execution ─changed accounts─▶ Saver: newest value of each ─every 10 s, at a checkpoint height─▶ file
//!                                 └─ when what changed is as much as what there is: one whole file,
//!                                    merged from those before, piece by piece
//! restart: newest file that enough of the ledger follows and vouches for ─▶ Chain::restore ─▶ replay
//! ```
//!
//! A file has the accounts that changed since the file before it; the first has all. Nothing depends on
//! them: they are made again from the ledger, and what is damaged, or does not have the state root that the
//! validators have finalized, is passed over for an older one, and at last for the genesis. So a failure to
//! write one costs the next start some time, and this run nothing.

mod file;
mod folder;
mod merge;
mod saver;

pub use file::{Entry, Mark};
pub use folder::{Folder, Loaded};
pub use saver::{CHANGES_BYTES_MAX, Change, Saver};

/// Why a file cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system does not read or write it.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what was written.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
}

impl Error {
    fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }

    fn damaged(path: &std::path::Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.display().to_string(), what: what.into() }
    }
}

#[cfg(test)]
mod tests;
