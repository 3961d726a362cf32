//! The thread around evidence: what was found and told in, what is new out to everyone.

use crate::{evidence::Core, message::Control, metrics::Metrics, network::lanes::Outgoing};
use crossbeam::channel::{Receiver, Sender, bounded, select_biased};
use ledger::Evidence;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// How often something of what is kept is told again.
pub const REPEAT: Duration = Duration::from_secs(10);

/// What comes in.
#[derive(Debug)]
pub enum Witness {
    /// It was found here.
    Found(Box<Evidence>),
    /// Another validator told it.
    Told(Vec<u8>),
}

/// The ways in: what others tell does not stand in the way of what is found here.
#[derive(Clone, Debug)]
pub struct Witnesses {
    found: Sender<Box<Evidence>>,
    told: Sender<Vec<u8>>,
}

/// What they lead to.
#[derive(Debug)]
pub struct Witnessed {
    found: Receiver<Box<Evidence>>,
    told: Receiver<Vec<u8>>,
}

/// Makes both ends.
pub fn witnesses() -> (Witnesses, Witnessed) {
    let (found, found_here) = bounded(super::WITNESSES_FOUND);
    let (told, told_here) = bounded(super::WITNESSES_TOLD);
    (Witnesses { found, told }, Witnessed { found: found_here, told: told_here })
}

impl Witnesses {
    /// Hands something on; answers whether there was room.
    pub fn send(&self, witness: Witness) -> bool {
        match witness {
            Witness::Found(evidence) => self.found.try_send(evidence).is_ok(),
            Witness::Told(bytes) => self.told.try_send(bytes).is_ok(),
        }
    }
}

/// The stage and its queues.
pub struct Stage {
    /// The state machine.
    pub core: Core,
    /// `witnesses`: dropped when full, whoever has more tells it again.
    pub witnessed: Witnessed,
    /// `lane_peers`.
    pub outgoing: mpsc::Sender<Outgoing>,
    /// How often something is told again.
    pub repeat: Duration,
    /// Counters of the process.
    pub metrics: Arc<Metrics>,
}

impl Stage {
    /// Runs until nobody is left who could find anything.
    pub fn run(mut self) {
        let mut due = Instant::now() + self.repeat;
        loop {
            let taken = select_biased! {
                recv(self.witnessed.found) -> found => match found {
                    Ok(evidence) => self.core.found(*evidence),
                    Err(_) => return,
                },
                recv(self.witnessed.told) -> told => match told {
                    Ok(bytes) => self.core.told(&bytes),
                    Err(_) => return,
                },
                default(due.saturating_duration_since(Instant::now())) => Ok(None),
            };
            match taken {
                Ok(None) => {}
                Ok(Some(bytes)) => self.tell(bytes),
                Err(reject) => self.metrics.count_dropped("evidence", reject.as_str()),
            }
            // Whatever comes in between: who was away hears it.
            if Instant::now() >= due {
                due = Instant::now() + self.repeat;
                if let Some(bytes) = self.core.repeat() {
                    self.tell(bytes);
                }
            }
        }
    }

    fn tell(&self, bytes: Vec<u8>) {
        let control = Outgoing::Control(None, Control::Evidence(bytes));
        // It is told again.
        if self.outgoing.try_send(control).is_err() {
            self.metrics.count_dropped("evidence", "network_full");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Board, core_for_tests, forks_for_tests};
    use std::thread;

    /// Longer than anything that a test waits for.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn told(outgoing: &mut mpsc::Receiver<Outgoing>) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        loop {
            match outgoing.try_recv() {
                Ok(Outgoing::Control(None, Control::Evidence(bytes))) => return bytes,
                Ok(_) => panic!("it speaks of evidence alone"),
                Err(_) => assert!(Instant::now() < end, "nothing is told"),
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn what_is_found_is_told_and_told_again_whatever_others_send() {
        let folder = tempfile::tempdir().unwrap();
        let board = Arc::new(Board::default());
        let (outgoing, mut sent) = mpsc::channel(64);
        let (witnesses, witnessed) = witnesses();
        let repeat = Duration::from_millis(200);
        let (core, metrics) = (core_for_tests(folder.path(), &board), Arc::new(Metrics::new()));
        let stage = Stage { core, witnessed, outgoing, repeat, metrics };
        let thread = thread::spawn(move || stage.run());
        let [first, second] = forks_for_tests();
        assert!(witnesses.send(Witness::Found(Box::new(first.clone()))));
        assert_eq!(told(&mut sent), first.encode());
        assert!(witnesses.send(Witness::Told(second.encode())));
        while told(&mut sent) != second.encode() {}
        assert_eq!(board.all().len(), 2);
        // Junk more often than anything is told again.
        let start = Instant::now();
        while start.elapsed() < 2 * repeat {
            witnesses.send(Witness::Told(vec![1, 2, 3]));
            thread::sleep(repeat / 20);
        }
        let again = [told(&mut sent), told(&mut sent)];
        assert!(again.contains(&first.encode()) && again.contains(&second.encode()));
        drop(witnesses);
        thread.join().unwrap();
    }

    #[test]
    fn what_others_tell_leaves_room_for_what_is_found() {
        let (witnesses, witnessed) = witnesses();
        while witnesses.send(Witness::Told(Vec::new())) {}
        let [fork, _] = forks_for_tests();
        assert!(witnesses.send(Witness::Found(Box::new(fork))));
        assert_eq!(
            (witnessed.found.len(), witnessed.told.len()),
            (1, crate::stage::WITNESSES_TOLD)
        );
    }
}
