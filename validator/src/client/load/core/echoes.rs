//! What the first validator said of a transaction that went to two, until the second says the same.

use super::{Acknowledged, FINAL_TIME, Micros};
use ledger::{Digest, Keyed};
use std::collections::{HashMap, VecDeque};

/// Kept at most: what two validators say within seconds, at any rate that one machine signs. Beyond it the
/// oldest is forgotten, and is not compared.
const ECHOES_MAX: usize = 1 << 20;

/// First answers, for as long as the second may come.
#[derive(Default)]
pub(super) struct Echoes {
    known: HashMap<Digest, (usize, Acknowledged), Keyed>,
    order: VecDeque<(Micros, Digest)>,
}

impl Echoes {
    /// Remembers what a validator said.
    pub(super) fn add(&mut self, target: usize, known: Acknowledged, now: Micros) {
        while self.order.front().is_some_and(|(until, _)| *until <= now)
            || self.order.len() >= ECHOES_MAX
        {
            if let Some((_, oldest)) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        self.order.push_back((now + FINAL_TIME, known.id));
        self.known.insert(known.id, (target, known));
    }

    /// Returns what another validator said before, once.
    pub(super) fn take(&mut self, target: usize, id: &Digest) -> Option<Acknowledged> {
        let (from, _) = self.known.get(id)?;
        if *from == target {
            return None;
        }
        self.known.remove(id).map(|(_, known)| known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{Height, Outcome};

    #[test]
    fn an_echo_is_compared_once_and_forgotten_in_time() {
        let known = |number: u8| Acknowledged {
            id: Digest([number; 32]),
            height: Height(1),
            outcome: Outcome::Applied,
        };
        let mut echoes = Echoes::default();
        echoes.add(0, known(1), 0);
        echoes.add(0, known(2), 5);
        assert_eq!(echoes.take(0, &known(1).id), None, "the same validator says it again");
        assert_eq!(echoes.take(1, &known(1).id), Some(known(1)));
        assert_eq!(echoes.take(1, &known(1).id), None);
        echoes.add(0, known(3), FINAL_TIME + 5);
        assert_eq!(echoes.take(1, &known(2).id), None, "too old");
        assert_eq!(echoes.take(1, &known(3).id), Some(known(3)));
        assert_eq!(echoes.order.len(), 1);
    }
}
