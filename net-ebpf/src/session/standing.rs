//! What other threads report about sessions, and the means to answer in them, without a lock.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::tag::TagKey;
use crate::abi::{ANSWER_SIZE, Answer, Outcome, Session};

/// Hostile transactions after which a session ends.
///
/// One may be a broken disk's, eight are nobody's mistake; until then the sender has paid for eight
/// checks of a signature with a handshake.
pub const BLAMES_MAX: u64 = 8;

const ACCEPTED_BITS: u32 = 48;
const ACCEPTED_MAX: u64 = (1 << ACCEPTED_BITS) - 1;
const BLAME: u64 = 1 << ACCEPTED_BITS;
const BLAMES_MASK: u64 = 0xf << ACCEPTED_BITS;
const GENERATION_SHIFT: u32 = 52;
const _: () = assert!(Session::GENERATION_COUNT as u64 == 1 << (64 - GENERATION_SHIFT));
const _: () = assert!(BLAMES_MAX * BLAME <= BLAMES_MASK);

/// Flags that say where a session has reached [`BLAMES_MAX`].
const FLAGS: usize = 64;

/// How the transactions of each session fared: written by any thread, read by the server.
///
/// Each session has one word: generation 12 bits | blames 4 | accepted 48. Reports name a session
/// with its generation, so a late one about an earlier holder of the place changes nothing.
pub struct Standing {
    words: Box<[AtomicU64]>,
    /// Bit `b` is set when a session of the `b`th of 64 equal stretches is to end.
    flags: AtomicU64,
}

impl Standing {
    pub(super) fn new(sessions: usize) -> Self {
        let words = (0..sessions).map(|_| AtomicU64::new(0)).collect();
        Self { words, flags: AtomicU64::new(0) }
    }

    /// Reports that a transaction of this session was accepted: its sender earns its place.
    pub fn accepted(&self, session: Session) {
        self.change(session, |word| (word & ACCEPTED_MAX < ACCEPTED_MAX).then_some(word + 1));
    }

    /// Reports that a transaction of this session proves a hostile sender: its signature is false
    /// or its encoding broken, although the tag was right.
    pub fn blamed(&self, session: Session) {
        let before = self.change(session, |word| {
            (word & BLAMES_MASK < BLAMES_MAX * BLAME).then_some(word + BLAME)
        });
        if before.is_some_and(|word| word & BLAMES_MASK == (BLAMES_MAX - 1) * BLAME) {
            self.flags.fetch_or(1 << (place(session) / self.stretch()), Ordering::Release);
        }
    }

    /// Whether a session has reached [`BLAMES_MAX`], or stands no more.
    pub fn has_ended(&self, session: Session) -> bool {
        let word = self.words.get(place(session)).map_or(0, |word| word.load(Ordering::Acquire));
        word >> GENERATION_SHIFT != u64::from(session.generation())
            || word & BLAMES_MASK >= BLAMES_MAX * BLAME
    }

    /// Changes the word of a session while the session lasts; returns what the word was.
    fn change(&self, session: Session, next: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let word = self.words.get(place(session))?;
        let generation = u64::from(session.generation());
        if generation == 0 {
            return None;
        }
        word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            if word >> GENERATION_SHIFT == generation { next(word) } else { None }
        })
        .ok()
    }

    /// Starts the word of a new session.
    pub(super) fn open(&self, session: Session) {
        let word = u64::from(session.generation()) << GENERATION_SHIFT;
        self.words[place(session)].store(word, Ordering::Release);
    }

    /// Ends the word of a session: later reports change nothing.
    pub(super) fn close(&self, index: usize) {
        self.words[index].store(0, Ordering::Release);
    }

    /// The transactions accepted from the session at a place.
    pub(super) fn accepted_count(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Acquire) & ACCEPTED_MAX
    }

    /// Calls `end` for each session that has reached [`BLAMES_MAX`] since the last call.
    ///
    /// Looks at nothing when there is none, else at one stretch of 64 for each flag.
    pub(super) fn take_blamed(&self, mut end: impl FnMut(usize)) {
        let flags = self.flags.swap(0, Ordering::AcqRel);
        let stretch = self.stretch();
        for flag in (0..FLAGS).filter(|flag| flags >> flag & 1 == 1) {
            for index in
                (flag * stretch..(flag + 1) * stretch).take_while(|&i| i < self.words.len())
            {
                let word = self.words[index].load(Ordering::Acquire);
                if word & BLAMES_MASK >= BLAMES_MAX * BLAME {
                    end(index);
                }
            }
        }
    }

    /// The number of sessions for which one flag stands.
    fn stretch(&self) -> usize {
        self.words.len().div_ceil(FLAGS)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Standing({} sessions)", self.words.len())
    }
}

fn place(session: Session) -> usize {
    usize::try_from(session.index()).expect("20 bits")
}

/// The right to answer one accepted submit, once, on any thread.
///
/// It carries a copy of the tag's key, so an answer is sealed without asking the server, and also
/// after the session ended. It cannot be copied: two answers to one counter would share a nonce.
#[derive(Debug)]
pub struct Ticket {
    session: Session,
    counter: u64,
    installed: u64,
    key: TagKey,
}

impl Ticket {
    pub(super) fn new(session: Session, counter: u64, installed: u64, key: TagKey) -> Self {
        Self { session, counter, installed, key }
    }

    /// The session of the submit.
    pub fn session(&self) -> Session {
        self.session
    }

    /// The counter of the submit.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Makes the answer: it tells the counters that were installed when the submit was accepted.
    ///
    /// Panics: when a refusal has the reason zero.
    pub fn answer(self, outcome: &Outcome) -> [u8; ANSWER_SIZE] {
        let mut packet = Answer {
            session: self.session,
            counter: self.counter,
            installed: self.installed,
            tag: [0; 16],
            outcome: *outcome,
        }
        .encode();
        self.key.seal(&mut packet);
        packet
    }
}
