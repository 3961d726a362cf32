//! Heights in order into the state and the store, as execution does it with what the engine finalizes.

use super::{Error, Own, Round, Setup, State, bodies::Bodied};
use crate::{
    consensus::remember,
    execute::{self, Action},
    held::Held,
    lane::{Finalized, Ready, batch_record},
    record,
};
use ledger::{Chain, Cut, Height};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use storage::Store;

/// What the storage thread says, which never waits for this one.
struct Durable {
    /// Newest height whose append is durable, or why none is any more.
    state: Mutex<Result<Height, storage::Error>>,
    news: Condvar,
}

impl Durable {
    fn tell(&self, result: Result<Height, storage::Error>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_ok() {
            *state = result;
        }
        self.news.notify_all();
    }

    fn look(&self) -> Result<Height, storage::Error> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wait(&self, height: Height) -> Result<Height, storage::Error> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_early = |state: &mut Result<Height, _>| state.as_ref().is_ok_and(|it| *it < height);
        let state = self.news.wait_while(state, is_early);
        state.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Replays heights that are checked.
pub(super) struct Replay<'a> {
    state: &'a mut State,
    store: &'a Store,
    parent: Cut,
    own: Own,
    durable: Arc<Durable>,
    /// Newest height whose append is durable, and newest that was appended.
    heights: (Height, Height),
    transactions: u64,
    /// What was found by somebody else and ends the replay.
    pub(super) broken: Option<Error>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(setup: &'a Setup<'_>, state: &'a mut State) -> Result<Self, Error> {
        let height = state.execute.chain().height();
        let broken = |what: &str| Error::Broken { height: height.get(), what: what.to_owned() };
        let parent = match height {
            Height::ZERO => Cut::genesis(setup.genesis),
            height => {
                let place = setup.store.at_height(record::CUT, height.get());
                let place = place.ok_or_else(|| broken("its cut is not in the store"))?;
                let cut = Cut::decode(&setup.store.read(place)?);
                cut.map_err(|reject| broken(&reject.to_string()))?
            }
        };
        Ok(Self {
            state,
            store: setup.store,
            parent,
            own: setup.own,
            durable: Arc::new(Durable { state: Mutex::new(Ok(height)), news: Condvar::new() }),
            heights: (height, height),
            transactions: 0,
            broken: None,
        })
    }

    pub(super) const fn parent(&self) -> &Cut {
        &self.parent
    }

    pub(super) const fn execute(&self) -> &execute::Core {
        &self.state.execute
    }

    pub(super) const fn chain(&self) -> &Chain {
        self.state.execute.chain()
    }

    /// The newest epoch and view.
    pub(super) const fn round(&self) -> Round {
        self.state.round
    }

    /// Transactions replayed so far.
    pub(super) const fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Executes a height and appends it.
    pub(super) fn height(&mut self, bodied: Bodied) -> Result<(), Error> {
        let Bodied { planned, batches } = bodied;
        let cut = planned.cut;
        let height = cut.height.get();
        let broken = |what: String| Error::Broken { height, what };
        let declared = (cut.history_root, cut.state_root);
        if self.chain().roots_at(cut.executed) != Some(declared) {
            return Err(broken("the declared roots are not those of the execution".to_owned()));
        }
        if let Some(certificate) = &planned.certificate
            && let Some(view) = self.own.used(self.state.execute.terms(), certificate)
        {
            return Err(Error::Used { view });
        }
        // Some it has held and acknowledged before it was away.
        let is_new =
            |held: &&Arc<Held>| self.store.find(record::BATCH, held.digest().as_bytes()).is_none();
        let new: Vec<_> = batches.iter().flatten().filter(is_new).map(batch_record).collect();
        if !new.is_empty() {
            self.store.append(new, None)?;
        }
        self.state.round = self.state.round.max((cut.epoch, cut.view.get()));
        self.parent = (*cut).clone();
        let certificate = planned.certificate;
        let finalized = Finalized { cut, digest: planned.digest, certificate, token: 0 };
        let ready = Ready { finalized, batches };
        self.state
            .execute
            .ready(ready)
            .map_err(|reject| broken(format!("it does not follow: {reject}")))?;
        self.act()?;
        let height = self.durable.look()?;
        if height > self.heights.0 { self.durable(height) } else { Ok(()) }
    }

    fn act(&mut self) -> Result<(), Error> {
        for action in self.state.execute.take_actions() {
            match action {
                Action::Executed(progress) => remember(&mut self.state.recent, *progress),
                Action::Append(records, height) => {
                    self.heights.1 = height;
                    let durable = self.durable.clone();
                    let done = move |result: Result<(), storage::Error>| {
                        durable.tell(result.map(|()| height));
                    };
                    self.store.append(records, Some(Box::new(done)))?;
                }
                Action::Final(done) => {
                    self.transactions += done.outcomes.len() as u64;
                    for (number, ..) in done.accounts.iter() {
                        self.state.changed.insert(*number);
                    }
                }
            }
        }
        Ok(())
    }

    fn durable(&mut self, height: Height) -> Result<(), Error> {
        self.heights.0 = height;
        self.state.execute.durable(height);
        self.act()
    }

    /// Waits until everything that was appended is durable; answers the newest height.
    pub(super) fn finish(&mut self) -> Result<u64, Error> {
        let height = self.durable.wait(self.heights.1)?;
        self.durable(height)?;
        Ok(self.chain().height().get())
    }
}
