//! Who decides in which epoch, as far as is known here: told by execution, asked by whoever checks or makes votes.
//!
//! Of every epoch so far the set is known, and of the next one from the deciding height on. Sets change only by votes,
//! so that all of them together are few.

use crate::{archive::Archive, handle::Unreadable, record};
use ledger::{Council, Epochs, Genesis, Height, Member, PublicKey, ValidatorSet};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Shared by all who ask.
#[derive(Clone)]
pub struct Terms {
    epochs: Epochs,
    state: Arc<Mutex<State>>,
    /// Counts what is new, for whoever waits for it.
    news: watch::Sender<u64>,
}

struct State {
    /// The first epoch of each set, up to the newest that is settled.
    sets: BTreeMap<u64, Arc<ValidatorSet>>,
    settled: u64,
    /// As execution left it last.
    council: Council,
    /// Who was a member before the newest turn.
    before: Vec<Member>,
}

impl std::fmt::Debug for Terms {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Terms(settled to epoch {})", self.settled())
    }
}

impl Terms {
    /// Starts with the genesis.
    pub fn genesis(genesis: &Genesis) -> Self {
        Self::new(genesis, [])
    }

    /// Starts with the genesis and the sets that came after it, each with its first epoch.
    fn new(genesis: &Genesis, later: impl IntoIterator<Item = (u64, ValidatorSet)>) -> Self {
        let first = (0, Arc::new(genesis.set().clone()));
        let later = later.into_iter().map(|(epoch, set)| (epoch, Arc::new(set)));
        let state = State {
            sets: [first].into_iter().chain(later).collect(),
            settled: 0,
            council: Council::genesis(genesis),
            before: Vec::new(),
        };
        let epochs = genesis.parameters().epochs();
        Self { epochs, state: Arc::new(Mutex::new(state)), news: watch::Sender::new(0) }
    }

    /// Starts with what the ledger has up to a height.
    ///
    /// Errors: a stored set is damaged.
    pub fn stored(genesis: &Genesis, archive: &Archive, last: Height) -> Result<Self, Unreadable> {
        let epochs = genesis.parameters().epochs();
        let turns = archive.sets(last)?;
        let terms =
            Self::new(genesis, turns.into_iter().map(|(height, set)| (epochs.of(height) + 1, set)));
        // Whoever stored a height knew who decides it.
        {
            let mut state = terms.state();
            state.settled = state.settled.max(epochs.of(last));
        }
        Ok(terms)
    }

    /// How heights fall into epochs.
    pub const fn epochs(&self) -> Epochs {
        self.epochs
    }

    /// Takes what execution has made of the council.
    pub fn update(&self, council: &Council) {
        let mut state = self.state();
        if state.council == *council {
            return;
        }
        let epoch = council.epoch();
        if epoch == state.council.epoch() + 1 {
            state.before = state.council.term().members().to_vec();
        } else if epoch > state.council.epoch() {
            state.before = state.members(epoch - 1);
        }
        state.add(epoch, council.term().set());
        if let Some(next) = council.next() {
            state.add(epoch + 1, next.set());
        }
        state.council = council.clone();
        drop(state);
        self.news.send_modify(|count| *count += 1);
    }

    /// The set that decides in an epoch; none where that is not settled.
    pub fn set(&self, epoch: u64) -> Option<Arc<ValidatorSet>> {
        let state = self.state();
        let (_, set) = state.sets.range(..=epoch).next_back()?;
        (epoch <= state.settled).then(|| set.clone())
    }

    /// The set that decides a height; none where that is not settled.
    pub fn at(&self, height: Height) -> Option<Arc<ValidatorSet>> {
        self.set(self.epochs.of(height))
    }

    /// The newest epoch whose set is settled.
    pub fn settled(&self) -> u64 {
        self.state().settled
    }

    /// The first epoch of every set that came after the genesis, and the set, up to an epoch.
    pub fn changes(&self, epoch: u64) -> Vec<(u64, Arc<ValidatorSet>)> {
        let state = self.state();
        let later = state.sets.range(1..=epoch.max(1)).filter(|(first, _)| **first <= epoch);
        later.map(|(first, set)| (*first, set.clone())).collect()
    }

    /// The council after the newest executed height.
    pub fn council(&self) -> Council {
        self.state().council.clone()
    }

    /// Those who are no members, and whom members talk to: who would be one, and who was one until the last turn.
    pub fn guests(&self) -> Vec<Member> {
        let state = self.state();
        let (council, mut guests) = (&state.council, Vec::<Member>::new());
        let is_member = |key: &PublicKey| council.term().set().index_of(key).is_some();
        for member in council.newcomers().chain(&state.before) {
            if !is_member(&member.key) && guests.iter().all(|guest| guest.key != member.key) {
                guests.push(*member);
            }
        }
        guests.truncate(GUESTS_MAX);
        guests
    }

    /// Tells of every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Terms {
    /// Validators with these keys, for ever.
    pub(crate) fn of(keys: &[PublicKey]) -> Self {
        let parameters = ledger::Parameters::default();
        let genesis = Genesis::new("of".into(), keys.to_vec(), Vec::new(), parameters, |_| true);
        Self::genesis(&genesis.expect("keys that ascend"))
    }

    /// It is settled who decides in an epoch.
    pub(crate) fn settle(&self, epoch: u64, set: &ValidatorSet) {
        self.state().add(epoch, set);
    }
}

/// Guests that are listened to at most: connections cost memory.
pub const GUESTS_MAX: usize = 28;

impl State {
    /// Who decided in an epoch, without addresses.
    fn members(&self, epoch: u64) -> Vec<Member> {
        let set = self.sets.range(..=epoch).next_back().map(|(_, set)| set.clone());
        let keys = set.iter().flat_map(|set| set.keys());
        keys.map(|key| Member { key: *key, addresses: None }).collect()
    }

    fn add(&mut self, epoch: u64, set: &ValidatorSet) {
        self.settled = self.settled.max(epoch);
        let is_known = self.sets.range(..=epoch).next_back().is_some_and(|(_, it)| **it == *set);
        if !is_known {
            self.sets.insert(epoch, Arc::new(set.clone()));
        }
    }
}

/// The record of a set that decides from the next height on.
pub(crate) fn set_record(height: Height, cut: &[u8; 32], set: &ValidatorSet) -> storage::Record {
    storage::Record {
        kind: record::SET,
        height: height.get(),
        key: *cut,
        body: set.encode().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_before_a_jump_is_who_decided_then() {
        let key = |seed: u8| crate::key::Secret::from_seed(&[seed; 32]).public();
        let sorted = |seeds: &[u8]| {
            let mut keys: Vec<PublicKey> = seeds.iter().map(|seed| key(*seed)).collect();
            keys.sort_unstable();
            keys
        };
        let terms = Terms::of(&sorted(&[1, 2, 3, 4]));
        let later = ValidatorSet::new(sorted(&[2, 3, 4, 5])).unwrap();
        terms.settle(7, &later);
        let before = |epoch| {
            let members = terms.state().members(epoch);
            members.iter().map(|member| member.key).collect::<Vec<_>>()
        };
        assert_eq!((before(6), before(7)), (sorted(&[1, 2, 3, 4]), sorted(&[2, 3, 4, 5])));
        assert_eq!(before(90), sorted(&[2, 3, 4, 5]), "sets change only by votes");
    }
}
