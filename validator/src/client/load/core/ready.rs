//! Transactions that can leave, those of hot authors apart.

use super::Signed;
use std::collections::VecDeque;

/// Signed transactions in the order in which they came, of hot authors and of the others.
pub(super) struct Ready {
    /// The first authors are hot.
    hot_authors: u32,
    hot: VecDeque<Signed>,
    others: VecDeque<Signed>,
}

impl Ready {
    pub(super) fn new(hot_authors: u32) -> Self {
        Self { hot_authors, hot: VecDeque::new(), others: VecDeque::new() }
    }

    pub(super) fn is_hot(&self, author: u32) -> bool {
        author < self.hot_authors
    }

    pub(super) fn push(&mut self, signed: Signed) {
        let is_hot = self.is_hot(signed.author);
        let queue = if is_hot { &mut self.hot } else { &mut self.others };
        queue.push_back(signed);
    }

    /// Takes one of the wanted kind, or one of the other: the schedule waits for nobody in particular.
    pub(super) fn pop(&mut self, wants_hot: bool) -> Option<Signed> {
        let (first, second) = match wants_hot {
            true => (&mut self.hot, &mut self.others),
            false => (&mut self.others, &mut self.hot),
        };
        first.pop_front().or_else(|| second.pop_front())
    }
}
