//! The thread that keeps the guard beside the key ahead of what is signed.

use crate::{handle::Stop, signer::Signer};
use std::time::Duration;

/// How often the lease is looked at: half of it lasts ten times as long at a hundred views a second.
const LOOK: Duration = Duration::from_millis(30);

/// Renews the lease until told to stop.
pub fn run(signer: &Signer, stop: &Stop) {
    while !stop.is_stopped() {
        signer.renew();
        std::thread::sleep(LOOK);
    }
}
