//! The client's side: what submits, asks and measures, over the same ways as any other program.
//!
//! Only `node.rs` makes threads inside a validator; a client is another program that happens to live
//! in this library, and makes its own.

pub mod api;
pub mod author;
pub mod http;
pub mod load;
pub mod workload;

pub use api::Api;
pub use http::Url;
