//! One honest peer among liars is enough; what is stored is what the others have, and audits.

use super::*;
use crate::{
    command::ledger::{fixture::Fixture, store::Location, verify},
    history::{self, wire::Kind},
    node::recover,
    record,
    saved::Folder,
};
use std::{net::TcpListener, path::Path, thread::JoinHandle};
use storage::Options;

const BLOCKS: u64 = 300;

fn judge() -> Arc<Judge> {
    let options = sigverify::Options { backend: None, threads: 1 };
    Arc::new(Judge::new(Arc::new(sigverify::Verifier::new(&options).unwrap())))
}

fn open(folder: &Path, genesis: &Genesis) -> Store {
    let mut options = Options::new(*genesis.digest().as_bytes());
    options.segment_bytes = 64 * 1024;
    options.backend = storage::Backend::Portable;
    Store::open(&folder.join("ledger"), &options).unwrap().0
}

/// A peer whose ledger is what a fixture says.
struct Served {
    source: Source,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

fn serve(number: u8, fixture: &Fixture) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &fixture.genesis);
    fixture.append(&store);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = Source { key: PublicKey([number; 32]), address: listener.local_addr().unwrap() };
    let stop = Stop::new();
    let settings = history::Settings {
        network: fixture.genesis.digest(),
        store,
        bytes_per_second: 1 << 30,
        validators: BTreeSet::new(),
        stop: stop.clone(),
    };
    // Every other one is of each kind.
    let wanted =
        if number.is_multiple_of(2) { storage::Backend::Auto } else { storage::Backend::Portable };
    let run = move || history::serve(listener, settings, wanted, |_| {}).unwrap();
    Served { source, stop, thread: Some(std::thread::spawn(run)), _folder: folder }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A validator that has nothing, or what it had.
struct Late {
    folder: tempfile::TempDir,
    genesis: Genesis,
}

impl Late {
    fn new(fixture: &Fixture) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("genesis.json"), fixture.genesis.to_json()).unwrap();
        Self { folder, genesis: fixture.genesis.clone() }
    }

    /// Recovers, catches up and ends.
    fn run(&self, sources: &[&Served], own: Own) -> (Result<CaughtUp, Error>, u64, Digest) {
        let store = open(self.folder.path(), &self.genesis);
        let saved = Folder::none(self.genesis.digest());
        let recovered = recover::recover(&store, &self.genesis, &saved).unwrap();
        let recover::State { execute, recent, round, .. } = recovered;
        let mut state = State { execute, recent, round, changed: Numbers::default() };
        let setup = Setup {
            genesis: &self.genesis,
            store: &store,
            judge: judge(),
            sources: sources.iter().map(|served| served.source.clone()).collect(),
            own,
            stop: &Stop::new(),
        };
        let result = run(&setup, &mut state);
        let (height, root) =
            (state.execute.chain().height().get(), state.execute.chain().history_root());
        store.close().unwrap();
        (result, height, root)
    }

    /// The audit's word on what is stored: heights and history root.
    fn audit(&self) -> (u64, Digest) {
        let location = Location::find(self.folder.path()).unwrap();
        let judge = judge();
        let verified = verify::verify(&location, &self.genesis, &*judge, 2, &mut |_| {}).unwrap();
        (verified.ledger.blocks, verified.ledger.history_root)
    }
}

/// Votes of nobody here are in the certificates.
const NOBODY: Own = Own { key: PublicKey([0; 32]), known: (0, 0), watch: None };

/// Validator 0, which has voted in every certificate.
fn voter(fixture: &Fixture) -> Own {
    Own { key: fixture.genesis.set().keys()[0], ..NOBODY }
}

#[test]
fn from_nothing_to_what_the_others_have() {
    let fixture = Fixture::new(BLOCKS);
    let peers = [serve(1, &fixture), serve(2, &fixture)];
    for peer in &peers {
        let late = Late::new(&fixture);
        let (result, height, root) = late.run(&[peer], NOBODY);
        assert_eq!(
            result.unwrap(),
            CaughtUp { heights: BLOCKS, liars: vec![], is_behind: true, is_watched: true }
        );
        assert_eq!(height, BLOCKS);
        assert_eq!(late.audit(), (BLOCKS, root));
        // And it is just the others' ledger.
        let store = open(late.folder.path(), &late.genesis);
        for record in &fixture.records {
            let place = match record.kind {
                record::BATCH => store.find(record.kind, &record.key),
                kind => store.at_height(kind, record.height),
            };
            assert_eq!(store.read(place.unwrap()).unwrap(), record.body.bytes());
        }
        // A start that has all does nothing.
        drop(store);
        assert_eq!(late.run(&[peer], NOBODY).0.unwrap(), CaughtUp::default());
    }
}

#[test]
fn it_goes_on_where_it_was_cut_short() {
    let fixture = Fixture::new(BLOCKS);
    let half = Fixture::new(BLOCKS / 2);
    assert_eq!(half.genesis.digest(), fixture.genesis.digest());
    let late = Late::new(&fixture);
    let (result, height, _) = late.run(&[&serve(1, &half)], NOBODY);
    assert_eq!((result.unwrap().heights, height), (BLOCKS / 2, BLOCKS / 2));
    let (result, height, root) = late.run(&[&serve(2, &fixture)], NOBODY);
    assert_eq!((result.unwrap().heights, height), (BLOCKS / 2, BLOCKS));
    assert_eq!(late.audit(), (BLOCKS, root));
}

/// What a liar changes in its ledger: a name, and the change.
type Lie = (&'static str, fn(&mut Fixture));

fn flip(fixture: &mut Fixture, kind: u8, nth: usize, byte: impl Fn(usize) -> usize) {
    let place = fixture.nth(kind, nth);
    fixture.change(place, |body| {
        let at = byte(body.len());
        body[at] ^= 1;
    });
}

const LIES: [Lie; 7] = [
    ("a cut's root", |it| flip(it, record::CUT, 100, |_| 100)),
    ("a cut's last byte", |it| flip(it, record::CUT, 100, |bytes| bytes - 1)),
    ("a certificate's signature", |it| flip(it, record::CERTIFICATE, 50, |bytes| bytes - 1)),
    ("a certificate of another block", |it| {
        let (one, other) = (it.nth(record::CERTIFICATE, 50), it.nth(record::CERTIFICATE, 51));
        it.records[one].body = it.records[other].body.clone();
    }),
    ("a transaction", |it| flip(it, record::BATCH, 250, |bytes| bytes - 70)),
    ("a transaction's signature", |it| flip(it, record::BATCH, 250, |bytes| bytes - 1)),
    ("an owner's signature", |it| {
        flip(it, record::BATCH, 250, |_| ledger::batch::HEADER_BYTES + 9)
    }),
];

#[test]
fn one_honest_peer_among_liars_is_enough_and_liars_are_named() {
    let fixture = Fixture::new(BLOCKS);
    let honest = serve(1, &fixture);
    for (turn, (what, lie)) in LIES.into_iter().enumerate() {
        let mut false_one = Fixture::new(BLOCKS);
        lie(&mut false_one);
        let liars = [serve(2 + u8::try_from(turn % 2).unwrap(), &false_one), serve(9, &false_one)];
        let late = Late::new(&fixture);
        // Nobody but liars: what was true of it is kept.
        let (result, height, root) = late.run(&[&liars[0], &liars[1]], NOBODY);
        let named: Vec<Source> = liars.iter().map(|liar| liar.source.clone()).collect();
        let told = result.unwrap().liars;
        assert_eq!(told, named, "{what}");
        assert!(height < BLOCKS, "{what}");
        if height > 0 {
            assert_eq!(late.audit(), (height, root), "{what}");
        }
        // The honest one last, so that liars come before it.
        let (result, height, root) = late.run(&[&liars[0], &liars[1], &honest], NOBODY);
        let told = result.unwrap().liars;
        assert!(told.iter().all(|liar| named.contains(liar)), "{what}: {told:?}");
        assert_eq!(height, BLOCKS, "{what}");
        assert_eq!(late.audit(), (BLOCKS, root), "{what}");
    }
}

#[test]
fn peers_without_all_of_it_are_no_liars() {
    let fixture = Fixture::new(BLOCKS);
    let mut poor = Fixture::new(BLOCKS);
    // Its disk has lost a batch, and of another a header's byte.
    let lost = poor.nth(record::BATCH, 300);
    poor.records.remove(lost);
    flip(&mut poor, record::BATCH, 100, |_| 20);
    let (poor, silent) = (serve(2, &poor), TcpListener::bind("127.0.0.1:0").unwrap());
    let honest = serve(1, &fixture);
    let mute = Served {
        source: Source { key: PublicKey([7; 32]), address: silent.local_addr().unwrap() },
        stop: Stop::new(),
        thread: Some(std::thread::spawn(|| {})),
        _folder: tempfile::tempdir().unwrap(),
    };
    let late = Late::new(&fixture);
    let (result, height, root) = late.run(&[&poor, &mute, &honest], NOBODY);
    assert_eq!(
        result.unwrap(),
        CaughtUp { heights: BLOCKS, liars: vec![], is_behind: true, is_watched: true }
    );
    assert_eq!((height, late.audit()), (BLOCKS, (BLOCKS, root)));
}

#[test]
fn a_tip_of_an_epoch_that_nobody_knows_holds_nobody_up() {
    let fixture = Fixture::new(BLOCKS);
    let mut boasting = Fixture::new(BLOCKS);
    let newest = |kind| {
        let found = boasting.records.iter().rposition(|it| (it.kind, it.height) == (kind, BLOCKS));
        found.unwrap()
    };
    let (cut, certificate) = (newest(record::CUT), newest(record::CERTIFICATE));
    let mut claimed = ledger::Cut::decode(boasting.records[cut].body.bytes()).unwrap();
    let body = boasting.records[certificate].body.bytes();
    let mut finality = ledger::Finality::decode(body).unwrap();
    claimed.epoch = u64::MAX;
    (finality.epoch, finality.payload) = (u64::MAX, claimed.digest());
    boasting.records[cut].body = claimed.encode().into();
    boasting.records[certificate].body = finality.encode().into();
    let (boasting, honest) = (serve(2, &boasting), serve(1, &fixture));
    let late = Late::new(&fixture);
    let watch = Some(Watch { time: Duration::ZERO, above: (0, 0) });
    let own = Own { watch, ..NOBODY };
    let begin = Instant::now();
    let (result, height, _) = late.run(&[&boasting, &honest], own);
    assert!(begin.elapsed() < PATIENCE, "it waited for what nobody has proved");
    let CaughtUp { heights, is_watched, .. } = result.unwrap();
    assert_eq!((heights, height, is_watched), (BLOCKS, BLOCKS, true));
    // And whoever has it all goes on at once.
    let (result, ..) = late.run(&[&boasting, &honest], NOBODY);
    assert_eq!(result.unwrap(), CaughtUp::default());
}

#[test]
fn a_vote_of_the_own_key_that_the_guard_does_not_know_ends_it() {
    let fixture = Fixture::new(BLOCKS);
    let honest = serve(1, &fixture);
    // Validator 0 has voted in every certificate, the newest one in view 300.
    let late = Late::new(&fixture);
    let (result, height, _) = late.run(&[&honest], Own { known: (0, 100), ..voter(&fixture) });
    // The tip shows it before anything is fetched.
    assert!(matches!(result, Err(Error::Used { view: BLOCKS })), "{result:?}");
    assert_eq!(height, 0);
    let (result, height, _) = late.run(&[&honest], Own { known: (0, BLOCKS), ..voter(&fixture) });
    assert_eq!((result.unwrap().liars, height), (vec![], BLOCKS));
}

#[test]
fn a_signature_that_all_vouched_for_and_does_not_hold_ends_it() {
    // What more than f validators together could do: a batch with a forged transaction, in a final block.
    let fixture = Fixture::with_forgery(BLOCKS, 150);
    let late = Late::new(&fixture);
    let (result, ..) = late.run(&[&serve(1, &fixture)], NOBODY);
    let error = result.unwrap_err();
    let is_named = matches!(&error, Error::Broken { height: 150, what }
        if what.contains("signature of transaction 0"));
    assert!(is_named, "{error}");
}

#[test]
fn whoever_has_forgotten_follows_for_a_while_even_if_it_is_near() {
    let fixture = Fixture::new(BLOCKS);
    let honest = serve(1, &fixture);
    let watch = |above| Some(Watch { time: Duration::from_secs(2), above: (0, above) });
    let late = Late::new(&fixture);
    for (heights, own) in [
        (BLOCKS, Own { watch: watch(BLOCKS - 1), ..NOBODY }),
        (0, Own { watch: watch(BLOCKS - 1), ..NOBODY }),
    ] {
        let start = Instant::now();
        let (result, height, _) = late.run(&[&honest], own);
        let caught_up = result.unwrap();
        assert!(caught_up.is_watched);
        assert_eq!((caught_up.heights, height), (heights, BLOCKS));
        assert!(start.elapsed() >= Duration::from_secs(2));
    }
    // Somebody votes with this key, and nobody here knows of it.
    let (result, ..) = late.run(&[&honest], Own { watch: watch(0), ..voter(&fixture) });
    assert!(matches!(result, Err(Error::Used { view: BLOCKS })), "{result:?}");
}

/// A peer that begins to answer and then sends a byte a second.
fn trickle() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = Source { key: PublicKey([8; 32]), address: listener.local_addr().unwrap() };
    std::thread::spawn(move || {
        use std::io::Write as _;
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let head = history::wire::Part { kind: Kind::Cut, bytes: 60_000, height: 1 };
                let _ = client.write_all(&head.encode());
                while client.write_all(&[0]).is_ok() {
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
        }
    });
    let (stop, thread) = (Stop::new(), Some(std::thread::spawn(|| {})));
    Served { source, stop, thread, _folder: tempfile::tempdir().unwrap() }
}

#[test]
fn one_that_sends_byte_by_byte_holds_nobody_up() {
    let fixture = Fixture::new(BLOCKS);
    let (slow, honest) = (trickle(), serve(1, &fixture));
    let late = Late::new(&fixture);
    let start = Instant::now();
    let (result, height, root) = late.run(&[&slow, &honest], NOBODY);
    assert_eq!((result.unwrap().heights, height, late.audit()), (BLOCKS, BLOCKS, (BLOCKS, root)));
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
}

#[test]
fn who_could_listen_to_nobody_has_not_watched() {
    let fixture = Fixture::new(BLOCKS);
    let late = Late::new(&fixture);
    let own = Own { watch: Some(Watch { time: Duration::ZERO, above: (0, 0) }), ..NOBODY };
    let (result, ..) = late.run(&[], own);
    assert_eq!(result.unwrap(), CaughtUp::default());
}

#[test]
fn a_ledger_without_a_certificate_at_a_jobs_border_is_stored_to_the_last_that_is_covered() {
    // Every other height has none of its own, and jobs end after 24 heights of two batches.
    let fixture = Fixture::new(BLOCKS - 1);
    let late = Late::new(&fixture);
    let (result, height, root) = late.run(&[&serve(1, &fixture)], NOBODY);
    assert_eq!((result.unwrap().heights, height), (BLOCKS - 1, BLOCKS - 1));
    assert_eq!(late.audit(), (BLOCKS - 1, root));
}

#[test]
fn numbers_come_back_once_each_and_in_order() {
    let mut numbers = Numbers::default();
    for number in [700, 0, 63, 64, 65, 700, 6_399, 128] {
        numbers.insert(number);
    }
    assert_eq!(numbers.iter().collect::<Vec<_>>(), [0, 63, 64, 65, 128, 700, 6_399]);
}

#[test]
fn whoever_is_near_leaves_it_to_the_engine() {
    let fixture = Fixture::new(NEAR);
    let late = Late::new(&fixture);
    let (result, height, _) = late.run(&[&serve(1, &fixture)], NOBODY);
    let near = CaughtUp { is_behind: true, ..CaughtUp::default() };
    assert_eq!((result.unwrap(), height), (near, 0));
}
