//! Which counters of a session the validator waits for, and which of them are spent.

use super::WINDOW;

const WORDS: usize = 16;
const _: () = assert!(WORDS as u64 * 64 == WINDOW);

/// How far ahead of the highest accepted counter the window reaches: half of it, so that the other
/// half is left to packets that were overtaken.
pub(super) const AHEAD: u64 = WINDOW / 2;

/// The counters in `(installed - WINDOW, installed]`.
///
/// What is spent is kept here too, beside the filter's slots, and nothing that the kernel says is
/// believed: a counter accepted twice would be answered twice, under one nonce.
#[derive(Clone, Debug)]
pub(super) struct Window {
    installed: u64,
    highest: u64,
    /// A bit for each slot: its counter was accepted.
    spent: [u64; WORDS],
}

impl Window {
    /// The window of a new session: counters 1 to [`WINDOW`], none spent.
    pub(super) fn new() -> Self {
        Self { installed: WINDOW, highest: 0, spent: [0; WORDS] }
    }

    /// The highest counter that is waited for.
    pub(super) fn installed(&self) -> u64 {
        self.installed
    }

    /// The highest counter that was accepted; 0 at first.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Says whether a counter is waited for.
    pub(super) fn holds(&self, counter: u64) -> bool {
        counter <= self.installed && self.installed - counter < WINDOW
    }

    /// Says whether a counter of the window was accepted before.
    pub(super) fn is_spent(&self, counter: u64) -> bool {
        let (word, bit) = place(counter);
        self.spent[word] & bit != 0
    }

    /// Accepts a counter of the window that was not accepted before.
    pub(super) fn spend(&mut self, counter: u64) {
        assert!(self.holds(counter), "only a counter that is waited for");
        assert!(!self.is_spent(counter), "and only once");
        let (word, bit) = place(counter);
        self.spent[word] |= bit;
        self.highest = self.highest.max(counter);
    }

    /// How many counters more the window should reach.
    pub(super) fn behind(&self) -> u64 {
        (self.highest + AHEAD).saturating_sub(self.installed)
    }

    /// Reaches one counter further, which it returns; the one a window below is no longer waited
    /// for.
    pub(super) fn install(&mut self) -> u64 {
        self.installed += 1;
        let (word, bit) = place(self.installed);
        self.spent[word] &= !bit;
        self.installed
    }
}

/// The word and the bit of a counter's slot.
fn place(counter: u64) -> (usize, u64) {
    let slot = counter % WINDOW;
    (usize::try_from(slot / 64).expect("below 16"), 1 << (slot % 64))
}
