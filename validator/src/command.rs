//! The command line: what can be asked for, and how a command ends.

pub mod exit;
pub mod terminal;

pub use exit::{Code, Exit};
