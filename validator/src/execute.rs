//! The execute stage: finalized cuts in order become outcomes, durable before anyone is told.
//!
//! ```text
//! cut + batches ─▶ ledger::Chain ─▶ roots to consensus at once (they depend on nothing else)
//!                        └─▶ records wait for a covering certificate ─▶ append ─▶ durable:
//!                            finals to clients, accounts to admission, acknowledgement to the engine
//! ```
//!
//! A plain state machine like the lane stage.

mod index;

pub use index::{INDEX_BYTES_MAX, INDEX_TRANSACTIONS_MAX, Location};

use crate::{
    cost::{Cost, Meter},
    held::Held,
    lane::Ready,
    record,
    saved::Mark,
    terms::{Terms, set_record},
};
use index::Index;
use ledger::{Account, Batch, Chain, Digest, Height, Outcome, Parameters, PublicKey, Reject, Tips};
use std::{collections::VecDeque, sync::Arc};
use storage::Record;

/// Heights whose executed batches are kept in memory, the newest with any.
pub const EXECUTED_HEIGHTS_MAX: usize = 1 << 16;

/// Heights that wait for a certificate that covers them, at most: half of what the engine delivers
/// without an acknowledgement.
const UNCOVERED_MAX: usize = 32;

/// What the shell must do, in this order.
pub enum Action {
    /// Roots that a header may declare from now on.
    Executed(Box<Progress>),
    /// Write records; when they are durable call [`Core::durable`] with the height.
    Append(Vec<Record>, Height),
    /// A height is final and durable.
    Final(Box<Done>),
}

/// What consensus learns from an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The executed height.
    pub height: Height,
    /// Digest of its cut.
    pub digest: Digest,
    /// Committed tips after it.
    pub tips: Tips,
    /// Executed tips after it: below the committed ones while a lane's quota holds it back.
    pub executed: Tips,
    /// History root after it.
    pub history_root: Digest,
    /// State root of the last checkpoint at or below it.
    pub state_root: Digest,
    /// Epoch of the next height, whose tips these are.
    pub epoch: u64,
    /// Digest of the set that decides the epoch after that, once it is settled.
    pub next_set: Option<Digest>,
    /// Whether committed batches wait for a later cut because of a lane's quota.
    pub backlog: bool,
    /// Newest height that advanced a lane or executed something: its roots are worth a cut.
    pub content: Height,
}

/// A height that is durable.
#[derive(Debug)]
pub struct Done {
    /// The height.
    pub height: Height,
    /// Time that its cut declares, in milliseconds.
    pub time_ms: u64,
    /// Id and outcome of each transaction, in order of execution.
    pub outcomes: Vec<(Digest, Outcome)>,
    /// Accounts that changed, by number, as they are now.
    pub accounts: Arc<[(u32, PublicKey, Account)]>,
    /// What things cost from the next height on, where an epoch ended.
    pub parameters: Option<Box<Parameters>>,
    /// The chain, at a checkpoint height.
    pub mark: Option<Box<Mark>>,
    /// History root after it.
    pub history_root: Digest,
    /// Its leaf in the history range.
    pub leaf: Digest,
    /// Names the delivery of the engine.
    pub token: u64,
}

/// The state machine.
pub struct Core {
    chain: Chain,
    terms: Terms,
    /// Per lane the committed batches that are not executed yet.
    backlog: Vec<VecDeque<Arc<Held>>>,
    /// Executed heights whose certificate has not come.
    uncovered: Vec<(Vec<Record>, Done)>,
    /// Certificates that stand in the store once, oldest first.
    once: VecDeque<Record>,
    /// Newest height whose append is durable.
    stored: Height,
    /// Appended heights that are not durable yet.
    appended: VecDeque<Done>,
    index: Index,
    /// Per recent height the executed batches in order, each with its number of transactions.
    executed: VecDeque<(Height, Vec<(Digest, u32)>)>,
    actions: Vec<Action>,
    transactions: u64,
    content: Height,
    meter: Meter,
}

impl Core {
    /// Starts from a chain whose heights are all durable, with its unexecuted batches.
    pub fn new(chain: Chain, backlog: Vec<VecDeque<Arc<Held>>>, terms: Terms) -> Self {
        assert_eq!(chain.tips().lanes(), backlog.len(), "one backlog for every lane");
        terms.update(chain.state().council());
        Self {
            stored: chain.height(),
            chain,
            terms,
            backlog,
            uncovered: Vec::new(),
            once: VecDeque::new(),
            appended: VecDeque::new(),
            index: Index::default(),
            executed: VecDeque::new(),
            actions: Vec::new(),
            transactions: 0,
            content: Height::ZERO,
            meter: Meter::OFF,
        }
    }

    /// Has its costs counted.
    pub fn measure(&mut self, meter: Meter) {
        self.meter = meter;
    }

    /// What counts its costs.
    pub const fn meter(&self) -> Meter {
        self.meter
    }

    /// Who decides when, as far as was executed.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The chain after the newest executed height.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Transactions executed with a final outcome since the start of the ledger, as far as known.
    pub const fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Takes what is to be done.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Where a recent transaction was executed.
    pub fn locate(&self, id: &Digest) -> Option<Location> {
        self.index.locate(id)
    }

    /// The batch that holds an executed transaction, and its place in there.
    pub fn batch_of(&self, location: &Location) -> Option<(Digest, usize)> {
        let place = self.executed.binary_search_by_key(&location.height, |(height, _)| *height);
        let mut index = location.index;
        for (digest, count) in &self.executed[place.ok()?].1 {
            if index < *count {
                return Some((*digest, usize::try_from(index).ok()?));
            }
            index -= count;
        }
        None
    }

    /// What consensus needs to know of the newest executed height.
    pub fn progress(&self) -> Progress {
        Progress {
            height: self.chain.height(),
            digest: self.chain.cut_digest(),
            tips: self.chain.tips(),
            executed: self.chain.executed_tips(),
            history_root: self.chain.history_root(),
            state_root: self.chain.state_root(),
            epoch: self.chain.epoch(),
            next_set: self.chain.next_set(),
            backlog: self.chain.has_backlog(),
            content: self.content,
        }
    }

    /// Replays a stored height while starting.
    ///
    /// Errors: the chain's [`Reject`] when the stored cut does not follow.
    pub fn replay(&mut self, ready: Ready) -> Result<Done, Reject> {
        let (_, mut done) = self.execute(ready)?;
        self.remember(&mut done);
        Ok(done)
    }

    /// Goes on while starting from what was kept beside a restored chain.
    pub const fn resume(&mut self, transactions: u64, content: Height) {
        self.transactions = transactions;
        self.content = content;
    }

    /// Says while starting what became of transactions before the restored chain's height.
    pub fn recall(&mut self, height: Height, outcomes: &[(Digest, Outcome)]) {
        for (index, (id, outcome)) in outcomes.iter().enumerate() {
            self.place(height, index, id, *outcome);
        }
    }

    /// Executes a finalized cut.
    ///
    /// Errors: a [`Reject`] where the cut does not follow: the engine finalized what no honest
    /// validator would have voted for.
    pub fn ready(&mut self, ready: Ready) -> Result<(), Reject> {
        let certificate = ready.finalized.certificate.as_ref().map(ledger::Finality::encode);
        let (height, key) = (ready.finalized.cut.height, *ready.finalized.digest.as_bytes());
        let (mut records, done) = self.execute(ready)?;
        let progress = self.progress();
        self.actions.push(Action::Executed(Box::new(progress)));
        // A long run of blocks without a certificate of their own must not stop the engine, which
        // waits for acknowledgements; the next certificate covers them all the same.
        let covered = certificate.is_some() || self.uncovered.len() >= UNCOVERED_MAX;
        if let Some(bytes) = certificate {
            let (kind, height) = (record::CERTIFICATE, height.get());
            let certificate = Record { kind, height, key, body: bytes.into() };
            records.push(certificate.clone());
            self.repeat(&mut records);
            self.once.push_back(certificate);
        }
        self.uncovered.push((records, done));
        if covered {
            self.append(height);
        }
        Ok(())
    }

    /// Writes certificates a second time whose first is durable: never into the same group.
    fn repeat(&mut self, records: &mut Vec<Record>) {
        while let Some(before) = self.once.pop_front_if(|it| it.height <= self.stored.get()) {
            records.push(Record { kind: record::CERTIFICATE_AGAIN, ..before });
        }
    }

    /// Says while starting which stored certificate was not written a second time.
    pub fn written_once(&mut self, certificate: Record) {
        self.once.push_back(certificate);
    }

    /// Appends every height that waits, in one piece.
    fn append(&mut self, height: Height) {
        let mut records = Vec::new();
        for (own, done) in self.uncovered.drain(..) {
            records.extend(own);
            self.appended.push_back(done);
        }
        self.actions.push(Action::Append(records, height));
    }

    /// Everything up to `height` is durable.
    pub fn durable(&mut self, height: Height) {
        self.stored = height;
        while self.appended.front().is_some_and(|done| done.height <= height) {
            let mut done = self.appended.pop_front().expect("the front was just seen");
            self.remember(&mut done);
            self.actions.push(Action::Final(Box::new(done)));
        }
    }

    fn execute(&mut self, ready: Ready) -> Result<(Vec<Record>, Done), Reject> {
        let Ready { finalized, batches } = ready;
        let advanced = !finalized.cut.lanes.is_empty();
        for (lane, new) in self.backlog.iter_mut().zip(batches) {
            lane.extend(new);
        }
        let lanes = self.backlog.iter();
        let views: Vec<Vec<&Batch<'static>>> =
            lanes.map(|lane| lane.iter().map(|held| held.batch()).collect()).collect();
        let applied = self.chain.apply(&finalized.cut, &finalized.digest, &views)?;
        self.meter.charge(Cost::Execute);
        let executed = self.chain.seal(applied);
        self.meter.charge(Cost::Roots);
        drop(views);
        if advanced || !executed.outcomes.is_empty() {
            self.content = finalized.cut.height;
        }
        let mut batches = Vec::new();
        for lane in &executed.lanes {
            let backlog = &mut self.backlog[lane.lane as usize];
            while let Some(held) = backlog.pop_front_if(|held| held.header().sequence <= lane.last)
            {
                batches.push((held.digest(), held.header().count));
            }
        }
        if !batches.is_empty() {
            self.executed.push_back((finalized.cut.height, batches));
            if self.executed.len() > EXECUTED_HEIGHTS_MAX {
                self.executed.pop_front();
            }
        }
        if executed.turned {
            // What they left is void.
            self.backlog = vec![VecDeque::new(); self.chain.set().len()];
        }
        self.terms.update(self.chain.state().council());
        let key = *finalized.digest.as_bytes();
        let height = finalized.cut.height;
        let record =
            |kind, bytes: Vec<u8>| Record { kind, height: height.get(), key, body: bytes.into() };
        let mut records = vec![
            record(record::CUT, finalized.cut.encode()),
            record(record::OUTCOMES, executed.encode_outcomes()),
        ];
        if finalized.cut.next_set != finalized.cut.set {
            records.push(set_record(height, &key, self.chain.set()));
        }
        let table = self.chain.state().table();
        let account = |number: &u32| {
            let (key, account) = table.get(*number);
            (*number, *key, *account)
        };
        let accounts = executed.changed.iter().map(account).collect();
        let mark = self.chain.checkpoint().map(|checkpoint| {
            // The count is that of the height once it is durable.
            Box::new(Mark { checkpoint, transactions: 0, content: self.content })
        });
        let done = Done {
            height,
            time_ms: finalized.cut.time_ms,
            outcomes: executed.outcomes,
            accounts,
            parameters: executed.turned.then(|| Box::new(*self.chain.state().parameters())),
            mark,
            history_root: self.chain.history_root(),
            leaf: executed.record.leaf(),
            token: finalized.token,
        };
        Ok((records, done))
    }

    fn remember(&mut self, done: &mut Done) {
        for (index, (id, outcome)) in done.outcomes.iter().enumerate() {
            if !outcome.is_final() {
                continue;
            }
            self.transactions += 1;
            self.place(done.height, index, id, *outcome);
        }
        if let Some(mark) = &mut done.mark {
            mark.transactions = self.transactions;
        }
    }

    fn place(&mut self, height: Height, index: usize, id: &Digest, outcome: Outcome) {
        if outcome.is_final() {
            let index = u32::try_from(index).expect("outcomes of a block fit 32 bits");
            self.index.insert(id, &Location { height, index, outcome });
        }
    }
}
