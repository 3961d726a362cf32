//! Looks at every validator a few times a second: up, ready, height, and since when it has moved.

use crate::client::{Api, Url};
use crate::command::network::Network;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time between two looks: fine enough to see a pause, too seldom to cost anything.
const LOOK: Duration = Duration::from_millis(200);
/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// A validator as it was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// When it was asked what it answered last.
    pub(super) asked: Option<Instant>,
    /// Whether it answered.
    pub(super) is_up: bool,
    /// Whether it keeps up and takes part.
    pub(super) is_ready: bool,
    /// Why not.
    pub(super) reasons: Vec<String>,
    /// The newest final height that it knew.
    pub(super) height: u64,
    /// Final transactions that it knew.
    pub(super) transactions: u64,
    /// How long its height has stayed.
    pub(super) still: Duration,
    /// The longest time for which it stayed since the last mark.
    pub(super) longest_still: Duration,
}

/// What a thread remembers of its validator.
#[derive(Debug)]
struct Memory {
    view: View,
    moved: Instant,
}

impl Memory {
    /// Takes in an answer to what was `asked` then; none when there was none.
    fn see(&mut self, seen: Option<(bool, Vec<String>, u64, u64)>, asked: Instant, now: Instant) {
        let Some((is_ready, reasons, height, transactions)) = seen else {
            self.view.is_up = false;
            self.view.is_ready = false;
            return;
        };
        let view = &mut self.view;
        (view.is_up, view.is_ready, view.reasons) = (true, is_ready, reasons);
        (view.asked, view.transactions) = (Some(asked), transactions);
        if view.height != height {
            let still = now.saturating_duration_since(self.moved);
            view.longest_still = view.longest_still.max(still);
            view.height = height;
            self.moved = now;
        }
    }

    fn view(&self, now: Instant) -> View {
        let still = now.saturating_duration_since(self.moved);
        View { still, longest_still: self.view.longest_still.max(still), ..self.view.clone() }
    }
}

/// One thread for each validator; they end when this is dropped.
pub(super) struct Watch {
    memories: Vec<Arc<Mutex<Memory>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Starts to look.
    pub(super) fn start(network: &Network) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut watch = Self { memories: Vec::new(), stop, threads: Vec::new() };
        for member in &network.validators {
            let memory = Memory { view: View::default(), moved: Instant::now() };
            let memory = Arc::new(Mutex::new(memory));
            watch.memories.push(Arc::clone(&memory));
            let (url, stop) = (Url::from(member.http), Arc::clone(&watch.stop));
            watch.threads.push(thread::spawn(move || look(url, &memory, &stop)));
        }
        watch
    }

    /// Returns what was seen last, by validator.
    pub(super) fn views(&self) -> Vec<View> {
        let now = Instant::now();
        self.memories.iter().map(|memory| lock(memory).view(now)).collect()
    }

    /// Measures the longest time that a height stays from now on.
    pub(super) fn mark(&self) {
        for memory in &self.memories {
            let mut memory = lock(memory);
            memory.view.longest_still = Duration::ZERO;
            memory.moved = Instant::now();
        }
    }

    /// A validator was started again: its time counts from now.
    pub(super) fn expect(&self, index: usize) {
        lock(&self.memories[index]).moved = Instant::now();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread has been printed; there is nothing to add on the way out.
            let _ = thread.join();
        }
    }
}

fn lock(memory: &Mutex<Memory>) -> std::sync::MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look(url: Url, memory: &Mutex<Memory>, stop: &AtomicBool) {
    let mut api = Api::new(url, ANSWER);
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let status = api.status().ok();
        let seen = status.map(|status| {
            (status.ready, status.reasons, status.height, status.finalized_transactions)
        });
        lock(memory).see(seen, asked, Instant::now());
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_measured_while_they_last_and_afterwards() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut memory = Memory { view: View::default(), moved: start };
        let up = |height| Some((true, Vec::new(), height, 10 * height));
        let see = |memory: &mut Memory, seen, millis| memory.see(seen, at(millis - 1), at(millis));
        see(&mut memory, up(1), 100);
        see(&mut memory, up(1), 200);
        assert_eq!(memory.view(at(900)).longest_still, Duration::from_millis(800));
        see(&mut memory, up(2), 1_000);
        see(&mut memory, up(3), 1_100);
        let view = memory.view(at(1_200));
        assert_eq!((view.height, view.transactions, view.is_ready), (3, 30, true));
        assert_eq!(view.still, Duration::from_millis(100));
        assert_eq!(view.longest_still, Duration::from_millis(900));
        assert_eq!(view.asked, Some(at(1_099)));
        see(&mut memory, None, 1_300);
        let view = memory.view(at(2_100));
        assert!(!view.is_up && !view.is_ready && view.height == 3);
        assert_eq!(view.asked, Some(at(1_099)), "it did not answer since");
        assert_eq!(view.longest_still, Duration::from_millis(1_000));
    }
}
