//! Files through every way that they are written, merged, damaged and read again.

use super::{
    file::{Entry, Mark},
    *,
};
use crate::{held::Held, key::Secret};
use ledger::{
    Account, BatchPlace, Chain, Cut, Digest, Draft, Genesis, GenesisAccount, Height, Kind,
    Parameters, PublicKey, Sealer, Transaction, Transfer,
};
use std::{fs, path::Path, sync::Arc};

/// Nanoseconds of a period, and of a bit more.
const LATER: u64 = 11_000_000_000;

/// A ledger of one validator, whose accounts grow by transfers.
struct World {
    genesis: Genesis,
    chain: Chain,
    author: Secret,
    link: (u64, Digest),
    tip: (u64, Digest),
}

impl World {
    /// Every second height is a checkpoint.
    fn new() -> Self {
        let (validator, author) = (Secret::from_seed(&[1; 32]), Secret::from_seed(&[2; 32]));
        let accounts =
            (0..20_u8).map(|number| PublicKey([number + 60; 32])).chain([author.public()]);
        let mut accounts: Vec<_> =
            accounts.map(|key| GenesisAccount { key, balance: 1 << 40 }).collect();
        accounts.sort_by_key(|account| account.key);
        let parameters = Parameters { checkpoint_interval: 2, ..Parameters::default() };
        let keys = vec![validator.public()];
        let genesis = Genesis::new("saved".into(), keys, accounts, parameters, |_| true).unwrap();
        let chain = Chain::genesis(&genesis);
        Self { genesis, chain, author, link: (0, Digest::ZERO), tip: (0, Digest::ZERO) }
    }

    fn network(&self) -> Digest {
        self.genesis.digest()
    }

    /// Executes a height with transfers to these; answers what it changed.
    fn execute(&mut self, to: &[u8]) -> Change {
        let network = self.network();
        let mut sealer = Sealer::new();
        for number in to {
            let body = Transfer { to: PublicKey([*number; 32]), amount: 5 }.encode();
            let draft = Draft {
                kind: Kind::Transfer,
                author: self.author.public(),
                sequence: self.link.0,
                previous: self.link.1,
                valid_until: Height(u64::MAX),
                body: &body,
            };
            let (bytes, id) = draft.sign(&network, |message| self.author.sign(message)).unwrap();
            assert!(sealer.push(&Transaction::decode(&bytes).unwrap(), &id));
            self.link = (self.link.0 + 1, id);
        }
        let place = BatchPlace {
            network,
            epoch: 0,
            lane: 0,
            sequence: self.tip.0 + 1,
            previous: self.tip.1,
        };
        let (bytes, digest) =
            sealer.seal(&place, |message| Secret::from_seed(&[1; 32]).sign(message)).unwrap();
        self.tip = (place.sequence, digest);
        let held = Held::decode(bytes, &network).unwrap();
        let ack = ledger::Ack {
            epoch: 0,
            lane: 0,
            sequence: place.sequence,
            digest,
            validator: 0,
            signature: ledger::Signature([0; 64]),
        };
        let certificate = ledger::AvailabilityCertificate::assemble(&[ack]).unwrap();
        let cut = Cut {
            height: self.chain.height().next(),
            parent: self.chain.cut_digest(),
            lanes: vec![certificate],
            ..Cut::genesis(&self.genesis)
        };
        let executed = self.chain.execute(&cut, &cut.digest(), &[vec![held.batch()]]).unwrap();
        let table = self.chain.state().table();
        let entry = |number: &u32| {
            let (key, account) = table.get(*number);
            (*number, *key, *account)
        };
        let mark = self.chain.checkpoint().map(|checkpoint| {
            Box::new(Mark { checkpoint, transactions: self.link.0, content: self.chain.height() })
        });
        Change { accounts: executed.changed.iter().map(entry).collect(), mark }
    }

    fn all(&self) -> Vec<Entry> {
        let accounts = self.chain.state().accounts();
        (0..).zip(accounts).map(|(number, (key, account))| (number, *key, *account)).collect()
    }
}

fn heights(folder: &Path) -> Vec<u64> {
    let mut heights: Vec<u64> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_prefix("state-")?.parse().ok()
        })
        .collect();
    heights.sort_unstable();
    heights
}

/// Loads, and holds what was loaded against a chain at its height.
fn loads(folder: &Folder, genesis: &Genesis, expected: &Chain) {
    let loaded = folder.load(|_| true).expect("a state is there");
    assert_eq!(loaded.mark.checkpoint.height(), expected.height());
    let accounts: Vec<(PublicKey, Account)> =
        expected.state().accounts().map(|(key, account)| (*key, *account)).collect();
    assert!(loaded.accounts == accounts, "height {}", expected.height());
    let chain = Chain::restore(genesis, loaded.mark.checkpoint, loaded.accounts).unwrap();
    assert_eq!(chain.state_root(), expected.state_root());
    assert_eq!(chain.history_root(), expected.history_root());
}

#[test]
fn what_is_written_in_pieces_comes_back_whole_through_merges_and_restarts() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("state");
    let mut world = World::new();
    let folder = Folder::new(path.clone(), world.network());
    assert!(folder.load(|_| true).is_none(), "there is not even a folder");
    let mut now = 0;
    let mut saver = Saver::new(folder.clone(), now, None, world.all());
    let (mut merges, mut files_most) = (0, 0);
    for round in 0..60_u8 {
        now += LATER;
        // Some are new, some are changed again; only every second height has a mark.
        let first = world.execute(&[round, round / 2, 60 + round % 20]);
        assert!(first.mark.is_none());
        saver.changed(now, &first);
        let second = world.execute(&[round.wrapping_mul(7) % 50]);
        saver.changed(now, &second);
        files_most = files_most.max(heights(&path).len());
        while saver.is_busy() {
            saver.work();
            merges += usize::from(!saver.is_busy());
        }
        loads(&folder, &world.genesis, &world.chain);
        if round % 20 == 19 {
            // A start goes on from the newest file, and keeps those that it needs.
            let height = world.chain.height().get();
            saver = Saver::new(folder.clone(), now, Some(height), Vec::new());
            loads(&folder, &world.genesis, &world.chain);
        }
    }
    assert!(merges >= 2, "{merges}");
    assert!((3..=40).contains(&files_most), "{files_most}");
    assert!(fs::read_dir(&path).unwrap().count() == heights(&path).len(), "nothing is left behind");
}

#[test]
fn without_a_mark_or_before_its_time_nothing_is_written() {
    let place = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let folder = Folder::new(place.path().to_owned(), world.network());
    let mut saver = Saver::new(folder, 0, None, world.all());
    let unmarked = world.execute(&[1]);
    saver.changed(2 * LATER, &unmarked);
    let early = world.execute(&[2]);
    saver.changed(LATER / 2, &early);
    assert_eq!(heights(place.path()), [] as [u64; 0]);
    world.execute(&[3]);
    let due = world.execute(&[4]);
    // What came between is part of it, whoever brought it.
    saver.changed(2 * LATER, &Change { accounts: world.all().into(), mark: due.mark });
    assert_eq!(heights(place.path()), [4]);
}

#[test]
fn a_damaged_file_is_passed_over_for_an_older_one() {
    let place = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let folder = Folder::new(place.path().to_owned(), world.network());
    let mut saver = Saver::new(folder.clone(), 0, None, world.all());
    let mut now = 0;
    let mut chains = Vec::new();
    for number in 0..3 {
        now += LATER;
        let first = world.execute(&[number]);
        saver.changed(now, &first);
        let second = world.execute(&[number + 10]);
        saver.changed(now, &second);
        chains.push(world.chain.clone());
    }
    assert_eq!(heights(place.path()), [2, 4, 6]);
    let newest = place.path().join("state-6");
    let whole = fs::read(&newest).unwrap();
    // Every byte counts: head, checkpoint, entries, digest.
    for at in (0..whole.len()).step_by(37).chain([whole.len() - 1]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&newest, bytes).unwrap();
        loads(&folder, &world.genesis, &chains[1]);
    }
    for size in [0, 10, 96, whole.len() - 1] {
        fs::write(&newest, &whole[..size]).unwrap();
        loads(&folder, &world.genesis, &chains[1]);
    }
    fs::write(&newest, &whole).unwrap();
    loads(&folder, &world.genesis, &chains[2]);
    // One that nobody vouches for, and one whose beginning is gone.
    let older = folder.load(|mark| mark.checkpoint.height() < Height(6)).unwrap();
    assert_eq!(older.mark.checkpoint.height(), Height(4));
    fs::remove_file(place.path().join("state-4")).unwrap();
    loads(&folder, &world.genesis, &chains[0]);
    let other = Folder::new(place.path().to_owned(), Digest([9; 32]));
    assert!(other.load(|_| true).is_none(), "another network's");
}

#[test]
fn a_merge_that_finds_damage_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let folder = Folder::new(place.path().to_owned(), world.network());
    let mut saver = Saver::new(folder.clone(), 0, None, world.all());
    for number in 1..=3 {
        let first = world.execute(&[number]);
        saver.changed(u64::from(number) * LATER, &first);
        let second = world.execute(&[number + 10]);
        saver.changed(u64::from(number) * LATER, &second);
    }
    assert!(!saver.is_busy());
    let paths = [6, 4, 2].map(|height| place.path().join(format!("state-{height}")));
    let merge = || {
        let mut merge = merge::Merge::start(&paths, &paths[0])?;
        while !merge.step(3)? {}
        merge.finish()
    };
    for damaged in 0..3 {
        let before = paths.each_ref().map(|path| fs::read(path).unwrap());
        let mut bytes = before[damaged].clone();
        // A balance: its entry reads as well as before.
        let at = bytes.len() - 32 - 48;
        bytes[at] ^= 1;
        fs::write(&paths[damaged], &bytes).unwrap();
        let error = merge().unwrap_err();
        assert!(error.to_string().contains("digest"), "{error}");
        fs::write(&paths[damaged], &before[damaged]).unwrap();
        assert!(paths.each_ref().map(|path| fs::read(path).unwrap()) == before);
    }
    loads(&folder, &world.genesis, &world.chain);
    merge().unwrap();
    fs::remove_file(&paths[1]).unwrap();
    fs::remove_file(&paths[2]).unwrap();
    loads(&folder, &world.genesis, &world.chain);
}

#[test]
fn a_folder_that_cannot_be_written_costs_the_node_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("state");
    // A file stands where the folder should be.
    fs::write(&path, b"").unwrap();
    let mut world = World::new();
    let folder = Folder::new(path.clone(), world.network());
    let mut saver = Saver::new(folder.clone(), 0, None, world.all());
    world.execute(&[1]);
    let change = world.execute(&[2]);
    saver.changed(LATER, &change);
    assert!(folder.load(|_| true).is_none());
    fs::remove_file(&path).unwrap();
    let third = world.execute(&[3]);
    let fourth = world.execute(&[4]);
    saver.changed(2 * LATER, &Change { accounts: Arc::clone(&change.accounts), mark: None });
    saver.changed(2 * LATER, &third);
    // Nothing of what changed meanwhile was forgotten but the height that nobody handed in.
    let all = Change { accounts: world.all().into(), mark: fourth.mark };
    saver.changed(2 * LATER, &all);
    loads(&folder, &world.genesis, &world.chain);
}

#[test]
fn a_file_that_a_start_would_use_is_kept_however_close_the_heights_are() {
    let place = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let folder = Folder::new(place.path().to_owned(), world.network());
    let mut saver = Saver::new(folder, 0, None, world.all());
    for round in 1..=100 {
        world.execute(&[1]);
        let mark = world.execute(&[2]).mark;
        // Every account changes, so that each file needs none before it.
        saver.changed(round * LATER, &Change { accounts: world.all().into(), mark });
        let (heights, newest) = (heights(place.path()), world.chain.height().get());
        let usable = heights.iter().any(|height| height + 128 <= newest);
        assert!(usable || newest <= 130, "{heights:?} at {newest}");
        assert!(heights.len() <= 66, "{heights:?}");
    }
}
