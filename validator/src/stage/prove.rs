//! The thread around proofs: leaves of durable heights in, questions in, proofs out.

use crate::prover::{Core, Failure, Question};
use crossbeam::channel::{Receiver, never, select};
use ledger::{Digest, Height};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long it sleeps when there is nothing to do.
const LOOK: Duration = Duration::from_secs(60);

/// A question and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is to be proved.
    pub question: Question,
    /// The bytes of a proof, or why there is none.
    pub reply: oneshot::Sender<Result<Vec<u8>, Failure>>,
}

/// The stage and its queues.
pub struct Stage {
    /// What makes proofs.
    pub core: Core,
    /// `execute_prove`.
    pub leaves: Receiver<(Height, Digest)>,
    /// `api_prove`.
    pub questions: Receiver<Asked>,
}

impl Stage {
    /// Runs until execution is gone.
    pub fn run(mut self) {
        // Nothing to wait for where something is to be made.
        let nothing = Duration::ZERO;
        loop {
            let is_behind = self.core.is_behind();
            select! {
                recv(self.leaves) -> leaf => {
                    let Ok((height, leaf)) = leaf else { return };
                    self.core.leaf(height, &leaf);
                }
                recv(self.questions) -> asked => match asked {
                    // Whoever asked may have gone: then the answer is dropped.
                    Ok(Asked { question, reply }) => drop(reply.send(self.core.answer(&question))),
                    // The edge ends before this stage does.
                    Err(_) => self.questions = never(),
                },
                default(if is_behind { nothing } else { LOOK }) => {}
            }
            // Questions do not keep it from being made, nor that from being answered.
            if is_behind && self.core.is_behind() {
                self.core.catch_up();
            }
        }
    }
}
