//! What the tests share: keys, a network of four validators, a builder of ledgers, golden samples.

use std::collections::VecDeque;
use std::path::Path;

use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};

use crate::ack::{Ack, AvailabilityCertificate, ack_signing_message};
use crate::batch::{Batch, BatchPlace, Sealer};
use crate::block::{Cut, Tip, Tips, rotation};
use crate::codec::{count_u32, index};
use crate::council::Ballot;
use crate::digest::{Digest, Height, PublicKey, Signature, View};
use crate::execute::{Chain, Executed};
use crate::finality::{Finality, finalize_message};
use crate::genesis::{Genesis, GenesisAccount, Parameters};
use crate::reject::Reject;
use crate::set::{Bitmap, ValidatorSet};
use crate::signatures::{Signatures, SignedItem};
use crate::transaction::{Draft, Kind, Transaction, Transfer};

/// The judge of the tests: strict for the ledger's rule, plain for votes.
pub(crate) struct Dalek;

impl Signatures for Dalek {
    fn verify(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
        judge(items, |key, message, signature| key.verify_strict(message, signature).is_ok())
    }

    fn verify_votes(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
        judge(items, |key, message, signature| key.verify(message, signature).is_ok())
    }
}

fn judge(
    items: &[SignedItem<'_>],
    rule: impl Fn(&VerifyingKey, &[u8], &ed25519_dalek::Signature) -> bool,
) -> Vec<bool> {
    let verdict = |item: &SignedItem<'_>| {
        let signature = ed25519_dalek::Signature::from_bytes(item.signature);
        VerifyingKey::from_bytes(item.key).is_ok_and(|key| rule(&key, item.message, &signature))
    };
    items.iter().map(verdict).collect()
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

pub(crate) fn sign(key: &SigningKey, message: &[u8]) -> Signature {
    Signature(key.sign(message).to_bytes())
}

/// Any signature will do where nobody checks it.
pub(crate) fn unsigned(_: &[u8; 47]) -> Signature {
    Signature([0; 64])
}

/// An author with its chain.
#[derive(Clone)]
pub(crate) struct Author {
    pub(crate) key: SigningKey,
    pub(crate) sequence: u64,
    pub(crate) previous: Digest,
    pub(crate) valid_until: Height,
}

impl Author {
    pub(crate) fn new(seed: u8) -> Self {
        Self { key: key(seed), sequence: 0, previous: Digest::ZERO, valid_until: Height(1_000) }
    }

    pub(crate) fn public(&self) -> PublicKey {
        public(&self.key)
    }

    fn next(&mut self, network: &Digest, kind: Kind, body: &[u8]) -> (Vec<u8>, Digest) {
        let draft = Draft {
            kind,
            author: self.public(),
            sequence: self.sequence,
            previous: self.previous,
            valid_until: self.valid_until,
            body,
        };
        let (bytes, id) = draft.sign(network, |message| sign(&self.key, message)).unwrap();
        self.sequence += 1;
        self.previous = id;
        (bytes, id)
    }

    pub(crate) fn record(&mut self, network: &Digest, body: &[u8]) -> Vec<u8> {
        self.next(network, Kind::Record, body).0
    }

    pub(crate) fn say(&mut self, network: &Digest, ballot: &Ballot) -> Vec<u8> {
        self.next(network, Kind::Council, &ballot.encode()).0
    }

    pub(crate) fn transfer(&mut self, network: &Digest, to: PublicKey, amount: u64) -> Vec<u8> {
        self.next(network, Kind::Transfer, &Transfer { to, amount }.encode()).0
    }
}

/// Four validators, some funded authors, and everything that their keys can sign.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) genesis: Genesis,
    pub(crate) validators: Vec<SigningKey>,
}

pub(crate) const AUTHORS: u8 = 5;
pub(crate) const BALANCE: u64 = 1_000_000;

/// The seed of the author with this number.
pub(crate) fn author(number: u8) -> Author {
    assert!(number < AUTHORS, "only the first authors have accounts");
    Author::new(100 + number)
}

impl Network {
    pub(crate) fn new() -> Self {
        Self::with(Parameters { checkpoint_interval: 2, ..Parameters::default() })
    }

    pub(crate) fn with(parameters: Parameters) -> Self {
        let mut validators: Vec<SigningKey> = (1..=4).map(key).collect();
        validators.sort_by_key(public);
        let mut accounts: Vec<GenesisAccount> = (0..AUTHORS)
            .map(|number| GenesisAccount { key: author(number).public(), balance: BALANCE })
            .collect();
        accounts.sort_by_key(|account| account.key);
        let keys = validators.iter().map(public).collect();
        let genesis = Genesis::new("test".into(), keys, accounts, parameters, |_| true).unwrap();
        Self { genesis, validators }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.genesis.digest()
    }

    /// What the first validators can sign.
    pub(crate) fn seats(&self) -> Seats {
        Seats { network: self.digest(), epoch: 0, keys: self.validators.clone() }
    }

    pub(crate) fn seal(&self, lane: u32, tip: &Tip, transactions: &[Vec<u8>]) -> (Vec<u8>, Tip) {
        self.seats().seal(lane, tip, transactions)
    }

    pub(crate) fn ack(&self, lane: u32, tip: &Tip, validator: u32) -> Ack {
        self.seats().ack(lane, tip, validator)
    }

    pub(crate) fn certify(&self, lane: u32, tip: &Tip) -> AvailabilityCertificate {
        self.seats().certify(lane, tip)
    }

    pub(crate) fn finalize(&self, cut: &Cut) -> Finality {
        self.seats().finalize(cut)
    }
}

/// The keys of an epoch's validators, by index.
pub(crate) struct Seats {
    network: Digest,
    epoch: u64,
    keys: Vec<SigningKey>,
}

impl Seats {
    /// Those of a set, all of whom have keys of small seeds.
    pub(crate) fn of(network: Digest, epoch: u64, set: &ValidatorSet) -> Self {
        let find =
            |wanted: &PublicKey| (1..=40).map(key).find(|key| public(key) == *wanted).unwrap();
        Self { network, epoch, keys: set.keys().iter().map(find).collect() }
    }

    fn faults(&self) -> usize {
        (self.keys.len() - 1) / 3
    }

    pub(crate) fn seal(&self, lane: u32, tip: &Tip, transactions: &[Vec<u8>]) -> (Vec<u8>, Tip) {
        let network = self.network;
        let mut sealer = Sealer::new();
        for bytes in transactions {
            let transaction = Transaction::decode(bytes).unwrap();
            assert!(sealer.push(&transaction, &transaction.id(&network)), "the batch has room");
        }
        let sequence = tip.sequence + 1;
        let place = BatchPlace { network, epoch: self.epoch, lane, sequence, previous: tip.digest };
        let owner = &self.keys[index(lane)];
        let (bytes, digest) = sealer.seal(&place, |message| sign(owner, message)).unwrap();
        (bytes, Tip { sequence, digest })
    }

    pub(crate) fn ack(&self, lane: u32, tip: &Tip, validator: u32) -> Ack {
        let Self { network, epoch, keys } = self;
        let message = ack_signing_message(network, *epoch, lane, tip.sequence, &tip.digest);
        Ack {
            epoch: *epoch,
            lane,
            sequence: tip.sequence,
            digest: tip.digest,
            validator,
            signature: sign(&keys[index(validator)], &message),
        }
    }

    /// By a quorum that is not the same as that of [`Seats::finalize`], nor in order.
    pub(crate) fn certify(&self, lane: u32, tip: &Tip) -> AvailabilityCertificate {
        let away = 1..=self.faults();
        let acks: Vec<Ack> = (0..self.keys.len())
            .rev()
            .filter(|validator| !away.contains(validator))
            .map(|validator| self.ack(lane, tip, count_u32(validator)))
            .collect();
        AvailabilityCertificate::assemble(&acks).unwrap()
    }

    pub(crate) fn finalize(&self, cut: &Cut) -> Finality {
        let parent_view = View(cut.view.0 - 1);
        let payload = cut.digest();
        let message = finalize_message(&self.network, cut.epoch, cut.view, parent_view, &payload);
        let mut signers = Bitmap::default();
        let there = self.faults()..self.keys.len();
        there.clone().for_each(|signer| {
            signers.insert(count_u32(signer));
        });
        Finality {
            epoch: cut.epoch,
            view: cut.view,
            parent_view,
            payload,
            signers,
            signatures: self.keys[there].iter().map(|key| sign(key, &message)).collect(),
        }
    }
}

/// The stored parts of a block, owned.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) cut: Vec<u8>,
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) outcomes: Vec<u8>,
    pub(crate) batches: Vec<Vec<u8>>,
    pub(crate) set: Option<Vec<u8>>,
}

/// Makes a ledger block by block, as honest validators would.
#[derive(Clone)]
pub(crate) struct Builder {
    pub(crate) network: Network,
    pub(crate) chain: Chain,
    pub(crate) parent: Cut,
    tips: Tips,
    pending: Vec<VecDeque<Batch<'static>>>,
}

impl Builder {
    pub(crate) fn new(network: &Network) -> Self {
        let lanes = network.validators.len();
        Self {
            chain: Chain::genesis(&network.genesis),
            parent: Cut::genesis(&network.genesis),
            tips: Tips::genesis(lanes),
            pending: vec![VecDeque::new(); lanes],
            network: network.clone(),
        }
    }

    /// What the validators of the next height can sign.
    pub(crate) fn seats(&self) -> Seats {
        Seats::of(self.network.digest(), self.chain.epoch(), self.chain.set())
    }

    pub(crate) fn tip(&self, lane: u32) -> Tip {
        *self.tips.get(lane).unwrap()
    }

    /// Seals the next batch of a lane; the next cut commits it.
    pub(crate) fn batch(&mut self, lane: u32, transactions: &[Vec<u8>]) -> Vec<u8> {
        let (bytes, _) = self.seats().seal(lane, &self.tip(lane), transactions);
        self.add(lane, bytes.clone());
        bytes
    }

    /// Takes a batch as the next one of a lane.
    pub(crate) fn add(&mut self, lane: u32, bytes: Vec<u8>) {
        let batch = Batch::decode_owned(bytes, &self.network.digest()).unwrap();
        self.tips.0[index(lane)] =
            Tip { sequence: batch.header().sequence, digest: batch.digest() };
        self.pending[index(lane)].push_back(batch);
    }

    /// The cut over everything that was added since the last one.
    pub(crate) fn cut(&self) -> Cut {
        let height = self.parent.height.next();
        let committed = self.chain.tips();
        let executed = self.chain.height();
        let (history_root, state_root) = self.chain.roots_at(executed).unwrap();
        let lanes = rotation(height, count_u32(self.tips.lanes()))
            .filter(|lane| committed.get(*lane) != self.tips.get(*lane))
            .map(|lane| self.seats().certify(lane, &self.tip(lane)))
            .collect();
        let set = self.chain.set().digest();
        let is_last = self.chain.state().council().epochs().is_last(height);
        let next_set = if is_last { self.chain.next_set().unwrap() } else { set };
        let view = if self.chain.epoch() == self.parent.epoch { self.parent.view.0 } else { 0 };
        Cut {
            network: self.network.digest(),
            epoch: self.chain.epoch(),
            height,
            view: View(view + 2),
            parent: self.parent.digest(),
            time_ms: self.parent.time_ms + 250,
            executed,
            history_root,
            state_root,
            set,
            next_set,
            lanes,
        }
    }

    /// Executes a cut and returns what would be stored of it.
    pub(crate) fn close(&mut self, cut: Cut) -> (Stored, Executed) {
        let digest = cut.digest();
        let committed = self.chain.tips();
        let new = self.pending.iter().zip(&committed.0).flat_map(|(lane, tip)| {
            lane.iter().filter(|batch| batch.header().sequence > tip.sequence)
        });
        let batches: Vec<Vec<u8>> = new.map(|batch| batch.bytes().to_vec()).collect();
        let pending: Vec<Vec<&Batch<'static>>> =
            self.pending.iter().map(|lane| lane.iter().collect()).collect();
        let certificate = self.seats().finalize(&cut).encode();
        let executed = self.chain.execute(&cut, &digest, &pending).unwrap();
        if executed.turned {
            self.tips = Tips::genesis(self.chain.set().len());
            self.pending = vec![VecDeque::new(); self.chain.set().len()];
        }
        for (lane, tip) in self.pending.iter_mut().zip(&self.chain.executed_tips().0) {
            lane.retain(|batch| batch.header().sequence > tip.sequence);
        }
        let stored = Stored {
            cut: cut.encode(),
            certificate: Some(certificate),
            outcomes: executed.encode_outcomes(),
            batches,
            set: (cut.next_set != cut.set).then(|| self.chain.set().encode()),
        };
        self.parent = cut;
        (stored, executed)
    }

    /// Makes and executes the next cut.
    pub(crate) fn block(&mut self) -> (Stored, Executed) {
        let cut = self.cut();
        self.close(cut)
    }
}

/// Holds a format against its golden sample, every prefix of it and every flipped bit.
///
/// `read` decodes and checks the bytes, signatures included where the format has them, and encodes
/// what it decoded again. A flipped bit must be refused or give another digest. With `GOLDEN_WRITE`
/// in the environment the sample is written anew: a change of format is then seen in the commit.
pub(crate) fn golden(
    name: &str,
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<(Vec<u8>, Digest), Reject>,
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.hex"));
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(&path, wrap(&hex::encode(bytes))).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let sample = hex::decode(text.replace('\n', "")).unwrap();
    assert_eq!(wrap(&hex::encode(bytes)), text, "{name}: the format has changed");
    let read = |bytes: &[u8]| {
        let result = read(bytes);
        if let Ok((again, _)) = &result {
            assert_eq!(again, bytes, "{name}: two encodings of one value");
        }
        result.map(|(_, digest)| digest)
    };
    let digest = read(&sample).unwrap();
    for length in 0..sample.len() {
        assert!(read(&sample[..length]).is_err(), "{name}: {length} bytes pass");
    }
    let longer = [&sample[..], &[0]].concat();
    assert!(read(&longer).is_err(), "{name}: a byte too many passes");
    for bit in 0..8 * sample.len() {
        let mut flipped = sample.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(read(&flipped), Ok(digest), "{name}: bit {bit} does not matter");
    }
}

fn wrap(text: &str) -> String {
    let lines = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
    lines.map(|line| format!("{line}\n")).collect()
}

/// Numbers that look random and are the same in every run: a xorshift generator.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper bits: the lower ones are weaker.
        u32::try_from(((self.0 >> 32) * u64::from(end)) >> 32).unwrap()
    }
}

/// A digest that is different for every number.
pub(crate) fn digest(number: u8) -> Digest {
    Digest([number; 32])
}
