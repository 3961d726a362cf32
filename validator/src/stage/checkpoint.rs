//! The thread that keeps the state on disk: changes in, files out, behind everything else.

use super::Clock;
use crate::saved::{Change, Saver};
use crossbeam::channel::{Receiver, TryRecvError};

/// The stage and its queue.
pub struct Stage {
    /// The state machine.
    pub saver: Saver,
    /// The node's clock.
    pub clock: Clock,
    /// `execute_checkpoint`.
    pub changes: Receiver<Change>,
}

impl Stage {
    /// Runs until execution is gone.
    pub fn run(mut self) {
        loop {
            let change = if self.saver.is_busy() {
                match self.changes.try_recv() {
                    Ok(change) => change,
                    Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => {
                        self.saver.work();
                        continue;
                    }
                }
            } else {
                let Ok(change) = self.changes.recv() else { return };
                change
            };
            self.saver.changed(self.clock.now(), &change);
        }
    }
}
