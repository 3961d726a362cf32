//! The thread around evidence: what was found and told in, what is new out to everyone.

use crate::{
    evidence::Core, lane::To, message::Control, metrics::Metrics, network::lanes::Outgoing,
};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use ledger::Evidence;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How often something of what is kept is told again.
const REPEAT: Duration = Duration::from_secs(10);

/// What comes in.
#[derive(Debug)]
pub enum Witness {
    /// It was found here.
    Found(Box<Evidence>),
    /// Another validator told it.
    Told(Vec<u8>),
}

/// The stage and its queues.
pub struct Stage {
    /// The state machine.
    pub core: Core,
    /// `witnesses`: dropped when full, whoever has more tells it again.
    pub witnesses: Receiver<Witness>,
    /// `lane_peers`.
    pub outgoing: mpsc::Sender<Outgoing>,
    /// Counters of the process.
    pub metrics: Arc<Metrics>,
}

impl Stage {
    /// Runs until nobody is left who could find anything.
    pub fn run(mut self) {
        loop {
            let taken = match self.witnesses.recv_timeout(REPEAT) {
                Ok(Witness::Found(evidence)) => self.core.found(*evidence),
                Ok(Witness::Told(bytes)) => self.core.told(&bytes),
                Err(RecvTimeoutError::Timeout) => Ok(self.core.repeat()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match taken {
                Ok(None) => {}
                Ok(Some(bytes)) => self.tell(bytes),
                Err(reject) => self.metrics.count_dropped("evidence", reject.as_str()),
            }
        }
    }

    fn tell(&self, bytes: Vec<u8>) {
        let control = Outgoing::Control(To::All, Control::Evidence(bytes));
        // It is told again.
        if self.outgoing.try_send(control).is_err() {
            self.metrics.count_dropped("evidence", "network_full");
        }
    }
}
