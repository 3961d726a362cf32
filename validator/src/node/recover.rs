//! What a restart finds in the store: the executed chain, acks given, batches not yet final.

use crate::{
    consensus::{Recent, remember},
    execute::Core,
    held::Held,
    lane::{Finalized, Ready, Recovered, WINDOW_BATCHES},
    record,
};
use ledger::{Ack, Chain, Cut, Digest, Genesis, Height, OutcomeList, Tip};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use storage::Store;

/// What the stages start from.
pub struct State {
    /// Execution, after the newest stored height.
    pub execute: Core,
    /// What the lane stage had acknowledged and held.
    pub lanes: Recovered,
    /// Roots and tips of the newest heights.
    pub recent: Recent,
    /// Newest view, for the log.
    pub view: u64,
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

/// Replays every stored height and collects what stands above.
///
/// Errors: [`Error::Record`] where a stored height does not lead to its stored outcome.
pub fn recover(store: &Store, genesis: &Genesis) -> Result<State, Error> {
    let network = genesis.digest();
    let lanes = genesis.set().len();
    let mut core = Core::new(Chain::genesis(genesis), vec![VecDeque::new(); lanes]);
    let mut recent = Recent::from([core.progress()]);
    let mut view = 0;
    let mut last = store.last_height(record::CUT).unwrap_or(0);
    // The cuts of an append that a crash parted were told to nobody: the engine delivers them again.
    while last > 0 && store.at_height(record::OUTCOMES, last).is_none() {
        last -= 1;
    }
    for height in (1..=last).map(Height) {
        let replay = Replay { store, network: &network, height };
        view = view.max(replay.height(&mut core)?);
        remember(&mut recent, core.progress());
    }
    for certificate in written_once(store, last)? {
        core.written_once(certificate);
    }
    let tips = core.chain().tips();
    let mut recovered = Recovered::default();
    for entry in store.records() {
        let (_, header, body) = entry?;
        match header.kind {
            record::ACK => {
                let what = |reject| Error::Record {
                    height: core.chain().height(),
                    what: format!("an ack of the store does not decode: {reject}"),
                };
                let ack = Ack::decode(&body).map_err(what)?;
                if ack.sequence > tips.0[ack.lane as usize].sequence {
                    let acks: &mut BTreeMap<_, _> = recovered.acked.entry(ack.lane).or_default();
                    acks.insert(ack.sequence, ack.digest);
                }
            }
            record::BATCH => {
                // Most are final and need no look at their transactions.
                let header =
                    body.get(..ledger::batch::HEADER_BYTES).map(ledger::BatchHeader::decode);
                let Some(Ok(header)) = header else { continue };
                let tip = tips.0[header.lane as usize].sequence;
                if (tip + 1..=tip + WINDOW_BATCHES).contains(&header.sequence)
                    && let Ok(held) = Held::decode(body, &network)
                {
                    recovered.held.push(Arc::new(held));
                }
            }
            _ => {}
        }
    }
    Ok(State { execute: core, lanes: recovered, recent, view })
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

    fn height(&self, core: &mut Core) -> Result<u64, Error> {
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
        let (digest, view) = (cut.digest(), cut.view.get());
        // Its certificate is stored already; whether it holds is the audit's question.
        let finalized = Finalized { cut: Arc::new(cut), digest, certificate: None, token: 0 };
        let root = core
            .replay(Ready { finalized, batches })
            .map_err(|reject| self.wrong(format!("it does not follow: {reject}")))?;
        if root != outcomes.history_root {
            return Err(self.wrong("its outcomes are not those that were stored"));
        }
        Ok(view)
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
