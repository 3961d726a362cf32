//! What whole-system tests share: a simulated cluster, real processes, data folders to damage.

pub mod inline;
pub mod simulation;
