//! The answer to one question, step by step: what to send next, and what to read for it. Knows no socket.

use super::wire::{Kind, PART_BYTES, Part, Question, Walk, part};
use crate::record;
use ledger::{BatchHeader, batch::HEADER_BYTES};
use std::collections::VecDeque;
use storage::{Place, Store};

/// Cuts after the last one that is wanted, at most, to one with a certificate: a ledger has one more often.
const COVER_MAX: u64 = 256;

/// What an answer does next.
pub(super) enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Read the body at this place, send it after what comes before it, and tell what its first bytes are.
    Read(Place, [u8; PART_BYTES]),
    /// Send these bytes, the last.
    End(Vec<u8>),
}

/// An answer under way.
pub(super) struct Answer {
    store: Store,
    state: State,
}

enum State {
    Tip,
    Cuts {
        next: u64,
        /// Height after the last one that is wanted.
        until: u64,
        /// A certificate that is to follow its cut.
        certificate: Option<(u64, Place)>,
        is_covered: bool,
    },
    Batches {
        walks: VecDeque<Walk>,
    },
    /// The newest block's certificate, then the end.
    Last(Vec<u8>, u64),
    End(u64),
}

impl Answer {
    pub(super) fn new(store: Store, question: Question) -> Self {
        let state = match question {
            Question::Tip => State::Tip,
            Question::Cuts { from, count } => State::Cuts {
                next: from,
                until: from.saturating_add(u64::from(count)),
                certificate: None,
                is_covered: false,
            },
            Question::Batches(walks) => State::Batches { walks: walks.into() },
        };
        Self { store, state }
    }

    /// The next step. After [`Step::Read`], [`Answer::have_read`] comes first.
    pub(super) fn step(&mut self) -> Step {
        match &mut self.state {
            State::Tip => self.tip(),
            State::Cuts { .. } => self.cuts(),
            State::Batches { .. } => self.batches(),
            State::Last(certificate, height) => {
                let (bytes, height) = (std::mem::take(certificate), *height);
                self.state = State::End(1);
                Step::Send(part(Kind::Certificate, height, &bytes))
            }
            State::End(height) => Step::End(part(Kind::End, *height, &[])),
        }
    }

    /// What a walk read begins with this.
    ///
    /// Shape: whether it is to be sent; what is damaged on the disk ends the answer.
    pub(super) fn have_read(&mut self, bytes: &[u8]) -> bool {
        let State::Batches { walks } = &mut self.state else { return false };
        let Some(walk) = walks.front_mut() else { return false };
        let header = bytes.get(..HEADER_BYTES).and_then(|head| BatchHeader::decode(head).ok());
        match header.filter(|header| header.digest() == walk.digest) {
            Some(header) => {
                walk.digest = header.previous;
                walk.count -= 1;
                true
            }
            None => {
                self.state = State::End(0);
                false
            }
        }
    }

    fn tip(&mut self) -> Step {
        let last = self.store.last_height(record::CERTIFICATE);
        let read = |kind, height| {
            let place = self.store.at_height(kind, height)?;
            self.store.read(place).ok()
        };
        let newest = last.and_then(|height| {
            Some((height, read(record::CUT, height)?, read(record::CERTIFICATE, height)?))
        });
        match newest {
            Some((height, cut, certificate)) => {
                self.state = State::Last(certificate, height);
                Step::Send(part(Kind::Cut, height, &cut))
            }
            None => {
                self.state = State::End(1);
                self.step()
            }
        }
    }

    fn cuts(&mut self) -> Step {
        let State::Cuts { next, until, certificate, is_covered } = &mut self.state else {
            unreachable!("called for cuts");
        };
        if let Some((height, place)) = certificate.take()
            && let Ok(bytes) = self.store.read(place)
        {
            *is_covered = true;
            return Step::Send(part(Kind::Certificate, height, &bytes));
        }
        let height = *next;
        let is_done =
            height >= *until && (*is_covered || height >= until.saturating_add(COVER_MAX));
        let place = self.store.at_height(record::CUT, height).filter(|_| !is_done);
        let Some(Ok(bytes)) = place.map(|place| self.store.read(place)) else {
            self.state = State::End(height);
            return self.step();
        };
        *next += 1;
        *is_covered = false;
        let found = self.store.at_height(record::CERTIFICATE, height);
        *certificate = found.map(|place| (height, place));
        Step::Send(part(Kind::Cut, height, &bytes))
    }

    fn batches(&mut self) -> Step {
        let State::Batches { walks } = &mut self.state else {
            unreachable!("called for batches");
        };
        while walks.pop_front_if(|walk| walk.count == 0).is_some() {}
        let place = walks.front().and_then(|walk| {
            let place = self.store.find(record::BATCH, walk.digest.as_bytes())?;
            Some((place, usize::try_from(place.bytes).ok()?))
        });
        match place {
            Some((place, bytes)) => {
                Step::Read(place, Part { kind: Kind::Batch, bytes, height: 0 }.encode())
            }
            // All were sent, or the next one is not kept.
            None => {
                self.state = State::End(0);
                self.step()
            }
        }
    }
}
