//! Four validators as processes of their own, under constant loads.

use super::{Plan, Settings, Suite};

/// The suite.
pub struct Cluster;

impl Suite for Cluster {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn about(&self) -> &'static str {
        "four validator processes under an open load: rates, latency, processor time a transaction"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        if !settings.validator.is_file() {
            return Err("build it with cargo build --release".to_owned());
        }
        Ok(Vec::new())
    }
}
