//! When to look at transactions again: two delays that never change, and all others.

use super::{ANSWER_TIME, FINAL_TIME, Micros};
use ledger::Digest;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Times and transactions. What waits for one fixed delay comes in the order in which it is due: a queue
/// is enough for it, where a heap of a million would take a tenth of the generator's time.
#[derive(Default)]
pub(super) struct Timers {
    answers: VecDeque<(Micros, Digest)>,
    finals: VecDeque<(Micros, Digest)>,
    others: BinaryHeap<Reverse<(Micros, Digest)>>,
}

impl Timers {
    /// Adds one that is due after `delay`.
    pub(super) fn add(&mut self, now: Micros, delay: Micros, id: Digest) {
        let due = now + delay;
        let queue = match delay {
            ANSWER_TIME => Some(&mut self.answers),
            FINAL_TIME => Some(&mut self.finals),
            _ => None,
        };
        match queue.filter(|queue| queue.back().is_none_or(|(last, _)| *last <= due)) {
            Some(queue) => queue.push_back((due, id)),
            None => self.others.push(Reverse((due, id))),
        }
    }

    /// The time of the first that is due.
    pub(super) fn next(&self) -> Option<Micros> {
        let queues = [self.answers.front(), self.finals.front()];
        let others = self.others.peek().map(|Reverse((due, _))| *due);
        queues.into_iter().flatten().map(|(due, _)| *due).chain(others).min()
    }

    /// Takes the first that is due by now.
    pub(super) fn pop(&mut self, now: Micros) -> Option<(Micros, Digest)> {
        let due = self.next().filter(|due| *due <= now)?;
        for queue in [&mut self.answers, &mut self.finals] {
            if let Some(first) = queue.pop_front_if(|(first, _)| *first == due) {
                return Some(first);
            }
        }
        self.others.pop().map(|Reverse(first)| first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_whatever_its_delay() {
        let mut timers = Timers::default();
        let mut expected = Vec::new();
        let mut random = 1_u64;
        for step in 0..2_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            let delay = [ANSWER_TIME, FINAL_TIME, 100_000, random >> 40][(random >> 62) as usize];
            // Now and then the time goes back.
            let now = if step % 97 == 0 { step / 2 } else { step } * 1_000;
            let mut id = [0; 32];
            id[..8].copy_from_slice(&step.to_le_bytes());
            timers.add(now, delay, Digest(id));
            expected.push((now + delay, Digest(id)));
        }
        expected.sort_unstable_by_key(|(due, _)| *due);
        assert_eq!(timers.next(), Some(expected[0].0));
        assert_eq!(timers.pop(expected[0].0 - 1), None);
        let mut found: Vec<_> = std::iter::from_fn(|| timers.pop(Micros::MAX)).collect();
        assert!(found.is_sorted_by_key(|(due, _)| *due));
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(timers.next(), None);
    }
}
