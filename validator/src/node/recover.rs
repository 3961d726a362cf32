//! What a restart finds in the store: the executed chain, acks given, batches not yet final.

use crate::{
    archive::Archive,
    catch_up::{Numbers, Round},
    consensus::{PROGRESS_MAX, Recent, Turn, remember},
    execute::{Core, Done, INDEX_TRANSACTIONS_MAX},
    held::Held,
    lane::{Finalized, Ready, Recovered, WINDOW_BATCHES},
    record,
    saved::{Entry, Folder, Loaded, Mark},
    terms::Terms,
};
use ledger::{Ack, Chain, Cut, Digest, Genesis, Height, OutcomeList, Tip};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use storage::Store;

/// Heights whose outcomes a start reads for the clients that ask for them.
const RECALLED_HEIGHTS_MAX: usize = 1 << 13;

/// What the stages start from.
pub struct State {
    /// Execution, after the newest stored height.
    pub execute: Core,
    /// What the lane stage had acknowledged and held.
    pub lanes: Recovered,
    /// Roots and tips of the newest heights.
    pub recent: Recent,
    /// Newest epoch and view.
    pub round: Round,
    /// The height of the saved state that it was started from; none from genesis.
    pub loaded: Option<u64>,
    /// What changed since then, oldest first; every account, where it was started from none.
    pub changed: Vec<Entry>,
}

impl State {
    /// What it is after more heights were executed and stored, which changed these accounts.
    ///
    /// Errors: [`Error`].
    pub(super) fn moved(
        self,
        moved: &Numbers,
        store: &Store,
        network: &Digest,
    ) -> Result<Self, Error> {
        let lanes = above(store, network, self.execute.chain())?;
        let mut numbers: BTreeSet<u32> = self.changed.iter().map(|(number, ..)| *number).collect();
        // Without a saved state all of it is to be saved, and it stands there already where any of it does.
        numbers.extend(moved.iter());
        let table = self.execute.chain().state().table();
        let entry = |number| {
            let (key, account) = table.get(number);
            (number, *key, *account)
        };
        let changed = numbers.into_iter().map(entry).collect();
        Ok(Self { lanes, changed, ..self })
    }
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or damage that its checksums show.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A record that should be there is not, or does not decode.
    #[error("height {height}: {what}")]
    Record {
        /// The height.
        height: Height,
        /// What is wrong.
        what: String,
    },
}

/// Replays the stored heights after the newest saved state, or all, and collects what stands above.
///
/// Errors: [`Error::Record`] where a stored height does not lead to its stored outcome.
pub fn recover(store: &Store, genesis: &Genesis, saved: &Folder) -> Result<State, Error> {
    let network = genesis.digest();
    let mut last = store.last_height(record::CUT).unwrap_or(0);
    // The cuts of an append that a crash parted were told to nobody: the engine delivers them again.
    while last > 0 && store.at_height(record::OUTCOMES, last).is_none() {
        last -= 1;
    }
    let archive = Archive { store: store.clone(), network };
    let wrong = |_| Error::Record {
        height: Height(last),
        what: "a stored validator set cannot be read".to_owned(),
    };
    let terms = Terms::stored(genesis, &archive, Height(last)).map_err(wrong)?;
    let restored = restore(store, genesis, saved, last, &terms)?;
    let loaded = restored.as_ref().map(|core| core.chain().height());
    let mut core = restored.unwrap_or_else(|| {
        let backlog = vec![VecDeque::new(); genesis.set().len()];
        Core::new(Chain::genesis(genesis), backlog, terms)
    });
    let mut recent = Recent::from([core.progress()]);
    let (mut round, mut changed) = ((0, 0), BTreeSet::new());
    for height in (core.chain().height().get() + 1..=last).map(Height) {
        let replay = Replay { store, network: &network, height };
        let (at, done) = replay.height(&mut core)?;
        round = round.max(at);
        if loaded.is_some() {
            changed.extend(done.accounts.iter().map(|(number, ..)| *number));
        }
        remember(&mut recent, core.progress());
    }
    let table = core.chain().state().table();
    let entry = |number| {
        let (key, account) = table.get(number);
        (number, *key, *account)
    };
    let changed = match loaded {
        None if saved.is_kept() => (0..).take(table.len()).map(entry).collect(),
        None => Vec::new(),
        Some(_) => changed.into_iter().map(entry).collect(),
    };
    for certificate in written_once(store, last)? {
        core.written_once(certificate);
    }
    let lanes = above(store, &network, core.chain())?;
    Ok(State { execute: core, lanes, recent, round, loaded: loaded.map(Height::get), changed })
}

/// The epoch to start in, and the block that it comes after.
pub fn turn(store: &Store, genesis: &Genesis, chain: &Chain) -> Turn {
    let epoch = chain.epoch();
    let after = match epoch.checked_sub(1) {
        None => Cut::genesis(genesis).digest(),
        Some(before) => {
            let last = genesis.parameters().epochs().last(before);
            let archive = Archive { store: store.clone(), network: genesis.digest() };
            match archive.cut(last) {
                Ok(Some(cut)) => cut.digest(),
                // Repaired by then.
                Ok(None) | Err(_) => {
                    super::fatal(&format!("height {last} cannot be read: start again"))
                }
            }
        }
    };
    Turn { epoch, after }
}

/// Goes on from the newest saved state that the ledger vouches for, if there is one.
fn restore(
    store: &Store,
    genesis: &Genesis,
    saved: &Folder,
    last: u64,
    terms: &Terms,
) -> Result<Option<Core>, Error> {
    let mut below = u64::MAX;
    while let Some(Loaded { mark, accounts }) = saved
        .load(|mark| mark.checkpoint.height().get() < below && is_vouched_for(store, mark, last))
    {
        let height = mark.checkpoint.height();
        below = height.get();
        match Chain::restore(genesis, mark.checkpoint, accounts) {
            Ok(chain) => {
                let network = genesis.digest();
                let backlog = backlog(&Replay { store, network: &network, height }, &chain)?;
                let mut core = Core::new(chain, backlog, terms.clone());
                recall(store, height, &mut core)?;
                core.resume(mark.transactions, mark.content);
                return Ok(Some(core));
            }
            Err(reject) => {
                tracing::warn!(%height, %reject, "a saved state is passed over");
            }
        }
    }
    Ok(None)
}

/// Whether enough of the ledger follows a saved state, and a final block declares the roots that it has.
fn is_vouched_for(store: &Store, mark: &Mark, last: u64) -> bool {
    let checkpoint = &mark.checkpoint;
    let height = checkpoint.height().get();
    // Consensus needs the roots of so many heights, and they come from replaying them.
    if last < height.saturating_add(PROGRESS_MAX as u64) {
        return false;
    }
    let cut = |height| {
        let place = store.at_height(record::CUT, height)?;
        Cut::decode(&store.read(place).ok()?).ok()
    };
    let outcomes = |height| {
        let place = store.at_height(record::OUTCOMES, height)?;
        OutcomeList::decode(&store.read(place).ok()?).ok()
    };
    let is_stored = outcomes(height).is_some_and(|outcomes| {
        outcomes.cut == checkpoint.cut_digest()
            && outcomes.history_root == checkpoint.history_root()
    });
    let declared = (height + 1..=last)
        .map(cut)
        .find(|cut| cut.as_ref().is_none_or(|cut| cut.executed.get() >= height));
    let agrees = |cut: Cut| {
        let is_same = cut.executed.get() > height || cut.history_root == checkpoint.history_root();
        // A block long after declares the next checkpoint's state, but blocks are never so far behind.
        is_same && cut.state_root == checkpoint.state_root()
    };
    is_stored && declared.flatten().is_some_and(agrees)
}

/// The committed batches that are still to be executed, lane by lane.
fn backlog(replay: &Replay<'_>, chain: &Chain) -> Result<Vec<VecDeque<Arc<Held>>>, Error> {
    let (executed, committed) = (chain.executed_tips(), chain.tips());
    let lanes = executed.0.iter().zip(committed.0);
    lanes.map(|(from, tip)| replay.chain(from, tip).map(VecDeque::from)).collect()
}

/// Tells execution what became of the newest transactions up to a height: clients ask for them.
fn recall(store: &Store, height: Height, core: &mut Core) -> Result<(), Error> {
    let mut lists = Vec::new();
    let mut count = 0;
    for height in (1..=height.get()).rev().map(Height) {
        let Some(place) = store.at_height(record::OUTCOMES, height.get()) else { break };
        let list = OutcomeList::decode(&store.read(place)?)
            .map_err(|reject| Error::Record { height, what: format!("its outcomes: {reject}") })?;
        count += list.outcomes.len();
        lists.push((height, list.outcomes));
        if count >= INDEX_TRANSACTIONS_MAX / 2 || lists.len() >= RECALLED_HEIGHTS_MAX {
            break;
        }
    }
    for (height, outcomes) in lists.into_iter().rev() {
        core.recall(height, &outcomes);
    }
    Ok(())
}

/// Acks that were given and batches that are held above the committed tips.
fn above(store: &Store, network: &Digest, chain: &Chain) -> Result<Recovered, Error> {
    let mut recovered = Recovered::default();
    let (by_digest, by_place) = store.count(record::ACK);
    if by_digest != by_place {
        let what =
            format!("{by_digest} acks stand at {by_place} places: some cannot be told from others");
        return Err(Error::Record { height: Height(0), what });
    }
    let epoch = chain.epoch();
    for (lane, tip) in (0..).zip(&chain.tips().0) {
        let heights = record::lane_heights(epoch, lane, tip.sequence + 1);
        let mut acked = BTreeMap::new();
        for (_, place) in store.in_heights(record::ACK, heights.clone()) {
            let ack = Ack::decode(&store.read(place)?).map_err(|reject| Error::Record {
                height: Height(0),
                what: format!("an ack of the store does not decode: {reject}"),
            })?;
            // Places of far epochs share their number.
            if ack.epoch == epoch {
                acked.insert(ack.sequence, ack.digest);
            }
        }
        // An acknowledged batch is found by its digest: another one may stand at its place since.
        let mut places: Vec<_> = acked
            .values()
            .filter_map(|digest| store.find(record::BATCH, digest.as_bytes()))
            .chain(store.in_heights(record::BATCH, heights).into_iter().map(|(_, place)| place))
            .collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let Ok(held) = Held::decode(store.read(place)?, network) else { continue };
            let header = held.header();
            if header.epoch == epoch && header.sequence <= tip.sequence + WINDOW_BATCHES {
                recovered.held.push(Arc::new(held));
            }
        }
        if !acked.is_empty() {
            recovered.acked.insert(lane, acked);
        }
    }
    Ok(recovered)
}

/// The newest certificates that stand in the store once, oldest first.
fn written_once(store: &Store, last: u64) -> Result<Vec<storage::Record>, Error> {
    let mut found = Vec::new();
    for height in (1..=last).rev() {
        if store.at_height(record::CERTIFICATE_AGAIN, height).is_some() {
            break;
        }
        let place = |kind| store.at_height(kind, height);
        let (Some(certificate), Some(cut)) = (place(record::CERTIFICATE), place(record::CUT))
        else {
            continue;
        };
        let wrong =
            |reject| Error::Record { height: Height(height), what: format!("its cut: {reject}") };
        let cut = Cut::decode(&store.read(cut)?).map_err(wrong)?;
        found.push(storage::Record {
            kind: record::CERTIFICATE,
            height,
            key: *cut.digest().as_bytes(),
            body: store.read(certificate)?.into(),
        });
    }
    found.reverse();
    Ok(found)
}

struct Replay<'a> {
    store: &'a Store,
    network: &'a Digest,
    height: Height,
}

impl Replay<'_> {
    fn wrong(&self, what: impl Into<String>) -> Error {
        Error::Record { height: self.height, what: what.into() }
    }

    fn read(&self, kind: u8, name: &str) -> Result<Vec<u8>, Error> {
        let place = self.store.at_height(kind, self.height.get());
        let place = place.ok_or_else(|| self.wrong(format!("its {name} is not in the store")))?;
        Ok(self.store.read(place)?)
    }

    fn height(&self, core: &mut Core) -> Result<(Round, Done), Error> {
        let undecodable = |name| move |reject| self.wrong(format!("its {name}: {reject}"));
        let cut = Cut::decode(&self.read(record::CUT, "cut")?).map_err(undecodable("cut"))?;
        let outcomes = self.read(record::OUTCOMES, "outcomes")?;
        let outcomes = OutcomeList::decode(&outcomes).map_err(undecodable("outcomes"))?;
        let tips = core.chain().tips();
        let mut batches = vec![Vec::new(); tips.lanes()];
        for certificate in &cut.lanes {
            let lane = certificate.lane as usize;
            let tip = Tip { sequence: certificate.sequence, digest: certificate.digest };
            batches[lane] = self.chain(&tips.0[lane], tip)?;
        }
        let (digest, round) = (cut.digest(), (cut.epoch, cut.view.get()));
        // Its certificate is stored already; whether it holds is the audit's question.
        let finalized = Finalized { cut: Arc::new(cut), digest, certificate: None, token: 0 };
        let done = core
            .replay(Ready { finalized, batches })
            .map_err(|reject| self.wrong(format!("it does not follow: {reject}")))?;
        if done.history_root != outcomes.history_root {
            return Err(self.wrong("its outcomes are not those that were stored"));
        }
        Ok((round, done))
    }

    /// The batches from after `from` up to `tip`, oldest first.
    fn chain(&self, from: &Tip, tip: Tip) -> Result<Vec<Arc<Held>>, Error> {
        let mut found = Vec::new();
        let mut next = tip;
        while next.sequence > from.sequence {
            let missing = || self.wrong(format!("its batch {} is not in the store", next.digest));
            let place =
                self.store.find(record::BATCH, next.digest.as_bytes()).ok_or_else(missing)?;
            let held = Held::decode(self.store.read(place)?, self.network)
                .map_err(|reject| self.wrong(format!("its batch {}: {reject}", next.digest)))?;
            next = Tip { sequence: next.sequence - 1, digest: held.header().previous };
            found.push(Arc::new(held));
        }
        found.reverse();
        Ok(found)
    }
}
