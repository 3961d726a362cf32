//! Which session gives way when a new one needs a place.
//!
//! A session is worth the transactions accepted from it, halved every [`HALVING_NS`]. Sessions
//! stand in lists by the number of bits of their worth, so the least worthy is found in a step,
//! exact to a factor of two; halving moves each list down by one, also in a step. New sessions
//! wait in a list of their own for [`GRACE_NS`], time to send something.
//!
//! Whoever gives way is worth nothing: past its grace if there is one, else the oldest within. And
//! there always is one when the table is full: the worthy hold at most 15 of 16 places, and where
//! one more would rise above nothing, the least of them is put back to nothing. So handshakes push
//! out only the worthless, however many come; a worthy session loses its place to worthier ones.

use super::lists::{Links, List};

/// The time in which worth halves: a session that had one transaction accepted is safe for up to
/// 10 minutes, one with a thousand for up to two hours.
pub(super) const HALVING_NS: u64 = 600 * 1_000_000_000;
/// The time in which a new session is spared if there is another: ten attempts to be heard.
pub(super) const GRACE_NS: u64 = 10 * 1_000_000_000;

/// Numbers of bits that a worth of 32 bits can have.
const CLASSES: usize = 33;
/// Sessions looked at for one that gives way. Each that is passed over has risen since it was last
/// looked at, or was young: nobody is passed over twice for the same reason.
const STEPS_MAX: usize = 256;
/// Of how many places one is kept for sessions that are worth nothing yet.
const RESERVE: usize = 16;

/// The order of all sessions.
pub(super) struct Ranks {
    nodes: Box<[Node]>,
    links: Links,
    classes: [List; CLASSES],
    /// New sessions, oldest first.
    fresh: List,
    /// How often worth was halved.
    epoch: u64,
    worthy_max: usize,
}

#[derive(Clone, Copy, Default)]
struct Node {
    /// The worth at the time of `epoch`.
    worth: u32,
    is_fresh: bool,
    epoch: u64,
    /// The accepted transactions that `worth` counts.
    seen: u64,
    born_ns: u64,
}

impl Ranks {
    pub(super) fn new(sessions: usize) -> Self {
        Self {
            nodes: vec![Node::default(); sessions].into_boxed_slice(),
            links: Links::new(sessions),
            classes: [List::default(); CLASSES],
            fresh: List::default(),
            epoch: 0,
            worthy_max: sessions - sessions / RESERVE,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.nodes) + self.links.memory_bytes()
    }

    /// Halves what time has halved.
    pub(super) fn advance(&mut self, now_ns: u64) {
        let epoch = now_ns / HALVING_NS;
        // After as many halvings as there are classes nothing is left to halve.
        for _ in 0..(epoch - self.epoch).min(CLASSES as u64) {
            let [nothing, one, ..] = &mut self.classes;
            self.links.prepend(nothing, std::mem::take(one));
            self.classes[1..].rotate_left(1);
        }
        self.epoch = epoch;
    }

    /// Enters a new session.
    pub(super) fn insert(&mut self, now_ns: u64, index: usize) {
        let epoch = self.epoch;
        self.nodes[index] = Node { worth: 0, is_fresh: true, epoch, seen: 0, born_ns: now_ns };
        self.links.push_back(&mut self.fresh, index);
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, index: usize) {
        let list = if self.nodes[index].is_fresh {
            &mut self.fresh
        } else {
            &mut self.classes[class(self.worth(index))]
        };
        self.links.remove(list, index);
    }

    /// Counts what was accepted from a session since it was last looked at; returns its worth.
    pub(super) fn refresh(&mut self, index: usize, accepted: u64) -> u32 {
        let node = self.nodes[index];
        let gained = u32::try_from(accepted - node.seen).unwrap_or(u32::MAX);
        if gained == 0 {
            return self.worth(index);
        }
        let worth = self.worth(index).saturating_add(gained);
        self.remove(index);
        let epoch = self.epoch;
        self.nodes[index] = Node { worth, is_fresh: false, epoch, seen: accepted, ..node };
        self.links.push_back(&mut self.classes[class(worth)], index);
        self.keep_reserve();
        self.worth(index)
    }

    /// The session that gives way to a new one; it stays until it is removed.
    ///
    /// `accepted` tells what was accepted from a session so far. `None` when every session looked
    /// at has risen; the next call looks at others.
    pub(super) fn least(&mut self, now_ns: u64, accepted: impl Fn(usize) -> u64) -> Option<usize> {
        self.settle(now_ns, &accepted);
        for _ in 0..STEPS_MAX {
            let index = self.classes[0].first().or(self.fresh.first())?;
            if self.refresh(index, accepted(index)) > 0 {
                continue;
            }
            let node = &mut self.nodes[index];
            if !node.is_fresh && now_ns.saturating_sub(node.born_ns) < GRACE_NS {
                // It rose within its grace and was halved to nothing: it is spared once more.
                node.is_fresh = true;
                self.links.remove(&mut self.classes[0], index);
                self.links.push_front(&mut self.fresh, index);
                continue;
            }
            return Some(index);
        }
        None
    }

    /// Moves sessions whose grace is over to where they belong.
    fn settle(&mut self, now_ns: u64, accepted: impl Fn(usize) -> u64) {
        for _ in 0..STEPS_MAX {
            let Some(index) = self.fresh.first() else { return };
            if now_ns.saturating_sub(self.nodes[index].born_ns) < GRACE_NS {
                return;
            }
            self.refresh(index, accepted(index));
            if self.nodes[index].is_fresh {
                self.links.remove(&mut self.fresh, index);
                self.nodes[index].is_fresh = false;
                self.links.push_back(&mut self.classes[0], index);
            }
        }
    }

    /// Puts the least of the worthy back to nothing when there are too many.
    fn keep_reserve(&mut self) {
        let worthy: usize = self.classes[1..].iter().map(List::count).sum();
        if worthy <= self.worthy_max {
            return;
        }
        let least = self.classes[1..].iter_mut().find(|list| list.count() > 0);
        let list = least.expect("some are worthy");
        let index = list.first().expect("a list with members has a first");
        self.links.remove(list, index);
        self.nodes[index].worth = 0;
        self.links.push_front(&mut self.classes[0], index);
    }

    /// What a session is worth, as far as it was looked at.
    fn worth(&self, index: usize) -> u32 {
        let node = &self.nodes[index];
        let halvings = u32::try_from(self.epoch - node.epoch).unwrap_or(u32::MAX);
        node.worth.checked_shr(halvings).unwrap_or(0)
    }
}

/// The number of bits of a worth.
fn class(worth: u32) -> usize {
    usize::try_from(u32::BITS - worth.leading_zeros()).expect("at most 32")
}
