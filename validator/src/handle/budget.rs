//! A budget of bytes that many share, and a share of it that gives itself back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that all holders together may hold.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl Budget {
    /// Makes a budget of which nothing is used.
    pub const fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, used_bytes: AtomicUsize::new(0) }
    }

    /// The most that may be held.
    pub const fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// What is held now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Takes a share, or nothing where it is not left.
    pub fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives a share back that was taken before.
    pub fn give(&self, bytes: usize) {
        let before = self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "more is given back than was taken");
    }
}

/// A share of a budget; dropping it gives it back.
#[derive(Debug)]
pub struct Hold(Option<(Arc<Budget>, usize)>);

impl Hold {
    /// A share of nothing.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Takes a share, or none where it is not left.
    pub fn take(budget: &Arc<Budget>, bytes: usize) -> Option<Self> {
        budget.take(bytes).then(|| Self(Some((Arc::clone(budget), bytes))))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((budget, bytes)) = self.0.take() {
            budget.give(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_and_a_dropped_share_comes_back() {
        let budget = Arc::new(Budget::new(10));
        let seven = Hold::take(&budget, 7).unwrap();
        assert!(Hold::take(&budget, 4).is_none());
        assert!(Hold::take(&budget, usize::MAX).is_none());
        let three = Hold::take(&budget, 3).unwrap();
        assert_eq!(budget.used_bytes(), budget.limit_bytes());
        drop(seven);
        assert_eq!(budget.used_bytes(), 3);
        drop((three, Hold::none()));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "more is given back than was taken")]
    fn giving_back_too_much_is_our_own_mistake() {
        let budget = Budget::new(10);
        assert!(budget.take(1));
        budget.give(2);
    }
}
