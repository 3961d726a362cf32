//! Stored records for validators that ask, within a share for each.

use super::message::{Message, Name, PIECE_BYTES_MAX};
use crate::record;
use storage::Store;

/// Pieces that one validator gets in a period: 5 MiB a second, more than an honest one asks for.
const PIECES_MAX: u32 = 80;
/// Pieces that all get together: each costs reading and hashing a group, about a millisecond.
const PIECES_ALL_MAX: u32 = 240;
/// A period.
const PERIOD_NS: u64 = 1_000_000_000;

/// What every validator was served.
pub(super) struct Serving {
    since: u64,
    served: Vec<u32>,
}

impl Serving {
    pub(super) fn new(validators: usize) -> Self {
        Self { since: 0, served: vec![0; validators] }
    }

    /// The answer to a question; none beyond the asker's share: it asks again.
    pub(super) fn answer(
        &mut self,
        now: u64,
        store: &Store,
        from: u32,
        name: Name,
        offset: u32,
    ) -> Option<Message> {
        if now >= self.since + PERIOD_NS {
            self.since = now;
            self.served.fill(0);
        }
        let all: u32 = self.served.iter().sum();
        let served = &mut self.served[from as usize];
        if *served >= PIECES_MAX || all >= PIECES_ALL_MAX {
            return None;
        }
        *served += 1;
        let body = find(store, name).and_then(|place| store.read(place).ok()).unwrap_or_default();
        let total = u32::try_from(body.len()).expect("bodies are below 4 GiB");
        let begin = usize::try_from(offset).expect("32 bits").min(body.len());
        let end = body.len().min(begin + PIECE_BYTES_MAX);
        Some(Message::Piece { name, offset, total, bytes: body[begin..end].to_vec() })
    }
}

/// Where the own store has a record of this name.
fn find(store: &Store, name: Name) -> Option<storage::Place> {
    match name.kind {
        record::BATCH => store.find(name.kind, &name.key),
        _ => store.at_height(name.kind, name.height),
    }
}
