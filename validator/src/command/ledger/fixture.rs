//! A small stored ledger for tests: four validators, signed and certified as in a real one.

use crate::client::author::Link;
use crate::key::Secret;
use crate::record;
use ledger::block::rotation;
use ledger::{
    Ack, AvailabilityCertificate, Batch, BatchPlace, Bitmap, Chain, Cut, Digest, Draft, Finality,
    Genesis, GenesisAccount, Height, Kind, Parameters, Sealer, Tip, Tips, Transaction, View,
    ack_signing_message, finalize_message,
};
use std::path::{Path, PathBuf};
use storage::{NO_HEIGHT, Options, Record, Store};

/// A ledger whose records are made and not stored yet, so that a test can change them.
pub(crate) struct Fixture {
    pub(crate) genesis: Genesis,
    pub(crate) records: Vec<Record>,
    /// Every transaction as id, body and height.
    pub(crate) transactions: Vec<(Digest, Vec<u8>, u64)>,
    validators: Vec<Secret>,
    /// The height of a block with a transaction that its author did not sign.
    forged: Option<u64>,
}

impl Fixture {
    /// Makes a ledger of `blocks` blocks with a batch in two lanes each.
    pub(crate) fn new(blocks: u64) -> Self {
        Self::with(blocks, None)
    }

    /// The same, and in one block a transaction that its author did not sign.
    pub(crate) fn with_forgery(blocks: u64, height: u64) -> Self {
        Self::with(blocks, Some(height))
    }

    fn with(blocks: u64, forged: Option<u64>) -> Self {
        let mut validators: Vec<Secret> =
            (1..=4).map(|seed| Secret::from_seed(&[seed; 32])).collect();
        validators.sort_by_key(Secret::public);
        let mut authors: Vec<Secret> =
            (10..12).map(|seed| Secret::from_seed(&[seed; 32])).collect();
        authors.sort_by_key(Secret::public);
        let account = |author: &Secret| GenesisAccount { key: author.public(), balance: 1_000_000 };
        let genesis = Genesis::new(
            "fixture".into(),
            validators.iter().map(Secret::public).collect(),
            authors.iter().map(account).collect(),
            Parameters::default(),
            sigverify::key_is_sound,
        )
        .unwrap();
        let (records, transactions) = (Vec::new(), Vec::new());
        let mut fixture = Self { genesis, records, transactions, validators, forged };
        fixture.fill(blocks, &authors);
        fixture
    }

    /// Appends the records to a store.
    pub(crate) fn append(&self, store: &Store) {
        for record in &self.records {
            store.append(vec![record.clone()], None).unwrap();
        }
    }

    /// Stores the records below `folder` as a validator would, and closes the store.
    pub(crate) fn store(&self, folder: &Path) -> PathBuf {
        let data = folder.join("data");
        std::fs::create_dir_all(data.join("ledger")).unwrap();
        std::fs::write(data.join("genesis.json"), self.genesis.to_json()).unwrap();
        let mut options = Options::new(*self.genesis.digest().as_bytes());
        options.segment_bytes = 64 * 1024;
        options.backend = storage::Backend::Portable;
        let (store, _) = Store::open(&data.join("ledger"), &options).unwrap();
        self.append(&store);
        store.close().unwrap();
        data
    }

    /// The place of the nth record of a kind.
    pub(crate) fn nth(&self, kind: u8, nth: usize) -> usize {
        let mut places = (0..).zip(&self.records).filter(|(_, record)| record.kind == kind);
        places.nth(nth).unwrap().0
    }

    /// Changes the body of a record.
    pub(crate) fn change(&mut self, place: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let record = &mut self.records[place];
        let mut body = record.body.bytes().to_vec();
        change(&mut body);
        record.body = body.into();
    }

    /// Replaces the body of the one record of a kind and height.
    pub(crate) fn replace(&mut self, kind: u8, height: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let same = |record: &Record| (record.kind, record.height) == (kind, height);
        let place = self.records.iter().position(same).unwrap();
        self.change(place, change);
    }

    fn fill(&mut self, blocks: u64, authors: &[Secret]) {
        let network = self.genesis.digest();
        let mut chain = Chain::genesis(&self.genesis);
        let mut parent = Cut::genesis(&self.genesis);
        let mut tips = Tips::genesis(self.validators.len());
        let mut links = [Link::FIRST; 2];
        for height in 1..=blocks {
            let mut batches: Vec<Vec<Batch<'static>>> = vec![Vec::new(); self.validators.len()];
            for (lane, author) in (0_u32..).zip(authors) {
                let place = lane as usize;
                let body = format!("record {height} of author {lane}").into_bytes();
                let (mut bytes, id) = sign(&network, author, links[place], &body);
                if self.forged == Some(height) {
                    *bytes.last_mut().unwrap() ^= 1;
                }
                links[place] = links[place].after(id);
                self.transactions.push((id, body, height));
                let (bytes, tip) = self.seal(lane, &tips.0[place], &bytes);
                tips.0[place] = tip;
                self.push(record::BATCH, NO_HEIGHT, tip.digest, bytes.clone());
                batches[place].push(Batch::decode_owned(bytes, &network).unwrap());
            }
            let cut = self.cut(&chain, &parent, &tips);
            let digest = cut.digest();
            let executed = chain.execute(&cut, &digest, &batches).unwrap();
            self.push(record::CUT, height, digest, cut.encode());
            self.push(record::OUTCOMES, height, digest, executed.encode_outcomes());
            // Every other block is covered by the next one's certificate.
            if height % 2 == 0 || height == blocks {
                self.push(record::CERTIFICATE, height, digest, self.finalize(&cut).encode());
            }
            parent = cut;
        }
    }

    fn push(&mut self, kind: u8, height: u64, key: Digest, body: Vec<u8>) {
        self.records.push(Record { kind, height, key: key.0, body: body.into() });
    }

    fn seal(&self, lane: u32, tip: &Tip, transaction: &[u8]) -> (Vec<u8>, Tip) {
        let network = self.genesis.digest();
        let transaction = Transaction::decode(transaction).unwrap();
        let mut sealer = Sealer::new();
        assert!(sealer.push(&transaction, &transaction.id(&network)));
        let sequence = tip.sequence + 1;
        let place = BatchPlace { network, epoch: 0, lane, sequence, previous: tip.digest };
        let owner = &self.validators[lane as usize];
        let (bytes, digest) = sealer.seal(&place, |message| owner.sign(message)).unwrap();
        (bytes, Tip { sequence, digest })
    }

    fn certify(&self, lane: u32, tip: &Tip) -> AvailabilityCertificate {
        let Tip { sequence, digest } = *tip;
        let message = ack_signing_message(&self.genesis.digest(), 0, lane, sequence, &digest);
        let ack = |validator: u32| {
            let signature = self.validators[validator as usize].sign(&message);
            Ack { epoch: 0, lane, sequence, digest, validator, signature }
        };
        AvailabilityCertificate::assemble(&[ack(0), ack(1), ack(3)]).unwrap()
    }

    fn cut(&self, chain: &Chain, parent: &Cut, tips: &Tips) -> Cut {
        let height = parent.height.next();
        let executed = chain.height();
        let (history_root, state_root) = chain.roots_at(executed).unwrap();
        let committed = chain.tips();
        let lanes = rotation(height, 4).filter(|lane| committed.get(*lane) != tips.get(*lane));
        Cut {
            network: self.genesis.digest(),
            epoch: 0,
            height,
            view: View(parent.view.0 + 1),
            parent: parent.digest(),
            time_ms: parent.time_ms + 100,
            executed,
            history_root,
            state_root,
            set: parent.set,
            next_set: parent.set,
            lanes: lanes.map(|lane| self.certify(lane, tips.get(lane).unwrap())).collect(),
        }
    }

    fn finalize(&self, cut: &Cut) -> Finality {
        let (view, parent_view, payload) = (cut.view, View(cut.view.0 - 1), cut.digest());
        let message = finalize_message(&self.genesis.digest(), 0, view, parent_view, &payload);
        let signatures = self.validators[..3].iter().map(|secret| secret.sign(&message)).collect();
        Finality { epoch: 0, view, parent_view, payload, signers: Bitmap(0b0111), signatures }
    }
}

fn sign(network: &Digest, author: &Secret, link: Link, body: &[u8]) -> (Vec<u8>, Digest) {
    let draft = Draft {
        kind: Kind::Record,
        author: author.public(),
        sequence: link.sequence,
        previous: link.previous,
        valid_until: Height(u64::MAX),
        body,
    };
    draft.sign(network, |message| author.sign(message)).unwrap()
}
