//! Old blocks for whoever asks: a port of its own, where everything that is told proves itself.
//!
//! ```text
//! tip       ─▶ the newest block with a certificate
//! cuts      ─▶ blocks from a height on, to one with a certificate, which covers all before it
//! batches   ─▶ walks: from a batch back through its lane, as many as the asker knows there must be
//! ```
//!
//! Nobody is asked who it is, and nothing is secret: whoever asks knows digests and keys, and checks all of it. So
//! the answers come as they lie on the disk. A sealed segment is read into buffers that the kernel knows, and sent
//! from them (`ring`); where io_uring is not permitted, plain calls do the same (`plain`). One thread gives way to
//! all others, and no more than so many bytes leave in a second, so that serving slows nothing.

mod answer;
mod limit;
mod plain;
mod ring;
mod serve;
#[cfg(test)]
mod tests;
pub mod wire;

pub use serve::{Backend, Settings, serve};
