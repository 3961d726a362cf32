//! What whole-system tests share: a simulated cluster, real processes, data folders to damage.

pub mod cluster;
pub mod disk;
pub mod inline;
pub mod load;
pub mod namespace;
pub mod process;
pub mod segments;
pub mod simulation;
