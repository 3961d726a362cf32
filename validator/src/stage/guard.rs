//! The thread that keeps the guard beside the key ahead of what is signed.

use super::Clock;
use crate::{handle::Stop, signer::Signer};
use std::time::Duration;

/// How often the lease is looked at: half of it lasts ten times as long at a hundred views a second.
const LOOK: Duration = Duration::from_millis(30);

/// The stage.
pub struct Stage {
    /// Who signs.
    pub signer: Signer,
    /// The node's clock.
    pub clock: Clock,
    /// How long others are listened for who vote with the same key, where it is not known that nobody does.
    pub watch: Duration,
}

impl Stage {
    /// Runs until told to stop.
    pub fn run(self, stop: &Stop) {
        let start = self.clock.now();
        let watch = u64::try_from(self.watch.as_nanos()).expect("a few seconds");
        while !stop.is_stopped() {
            self.signer.renew();
            if !self.signer.is_open() && self.clock.now() >= start + watch {
                self.signer.release();
                tracing::info!("nobody else votes with this key: signing");
            }
            std::thread::sleep(LOOK);
        }
    }
}
