//! The packet path: what each verdict of the filter costs, what a flood leaves of honest traffic, and
//! ways to receive, side by side.

mod application;
mod control;
mod flood;
mod frame;
mod generator;
mod host;
mod ingress;
mod program;
mod stage;
mod sys;
mod twin;

use super::{Plan, Rounds, Settings, Suite};

/// The suite.
pub struct Net;

impl Suite for Net {
    fn name(&self) -> &'static str {
        "net"
    }

    fn about(&self) -> &'static str {
        "packets: the filter's cost, honest traffic under floods, ways to receive"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        host::fit()?;
        let rounds = settings.scale.pick(
            Rounds { min: 6, max: 9 },
            Rounds { min: 3, max: 3 },
            Rounds { min: 1, max: 1 },
        );
        let mut plans = vec![stage::plan(settings, rounds)];
        plans.extend(flood::plans(settings));
        plans.extend(ingress::plans(settings));
        Ok(plans)
    }
}

#[cfg(test)]
mod tests;
