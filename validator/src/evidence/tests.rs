//! Checks of what is kept, told and forgotten, with forks that a validator's key makes at will.

use super::*;
use crate::votes::Judge;
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::{BatchHeader, Offence, PublicKey, Signature, SignedHeader, batch_signing_message};
use tempfile::TempDir;

const NETWORK: Digest = Digest([6; 32]);
const ME: u32 = 0;

struct Setup {
    keys: Vec<SigningKey>,
    terms: Terms,
    folder: TempDir,
}

impl Setup {
    fn new() -> Self {
        let public = |key: &SigningKey| PublicKey(key.verifying_key().to_bytes());
        let mut keys: Vec<SigningKey> =
            (1..=4).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
        keys.sort_by_key(public);
        let terms = Terms::of(&keys.iter().map(public).collect::<Vec<_>>());
        Self { keys, terms, folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Core {
        self.open_in(&self.folder.path().join("evidence"), Arc::default())
    }

    fn open_in(&self, folder: &Path, board: Arc<Board>) -> Core {
        let options = sigverify::Options { backend: None, threads: 1 };
        let judge = Judge::new(Arc::new(sigverify::Verifier::new(&options).unwrap()));
        let me = PublicKey(self.keys[ME as usize].verifying_key().to_bytes());
        Core::open(folder.into(), NETWORK, self.terms.clone(), me, Arc::new(judge), board)
    }

    fn header(&self, lane: u32, sequence: u64, root: u8) -> SignedHeader {
        let header = BatchHeader {
            network: NETWORK,
            epoch: 0,
            lane,
            sequence,
            previous: Digest([9; 32]),
            root: Digest([root; 32]),
            count: 1,
            bytes: 200,
        };
        let message = batch_signing_message(&header.digest());
        let signature = self.keys[lane as usize].sign(&message).to_bytes();
        SignedHeader { header, signature: Signature(signature) }
    }

    fn fork(&self, lane: u32, sequence: u64) -> Evidence {
        let batches = [self.header(lane, sequence, 1), self.header(lane, sequence, 2)];
        Evidence::new(NETWORK, 0, lane, Offence::Fork(Box::new(batches)))
    }
}

/// A state machine whose validators made [`forks_for_tests`].
pub(crate) fn core_for_tests(folder: &Path, board: &Arc<Board>) -> Core {
    Setup::new().open_in(folder, board.clone())
}

/// Two forks, of two validators.
pub(crate) fn forks_for_tests() -> [Evidence; 2] {
    [Setup::new().fork(1, 4), Setup::new().fork(2, 7)]
}

/// Puts a fork onto a board.
pub(crate) fn fork_for_tests(board: &Board) -> Evidence {
    let evidence = Setup::new().fork(2, 7);
    let (digest, bytes) = (evidence.digest(), evidence.encode());
    board.push(Arc::new(Kept { digest, evidence: evidence.clone(), bytes }));
    evidence
}

#[test]
fn what_is_new_is_kept_and_told_once() {
    let setup = Setup::new();
    let mut core = setup.open();
    assert_eq!(core.repeat(), None);
    let fork = setup.fork(2, 7);
    let told = core.found(fork.clone()).unwrap().expect("it is new");
    assert_eq!(told, fork.encode());
    assert_eq!(core.found(fork.clone()), Ok(None));
    assert_eq!(core.told(&told), Ok(None));
    let mut other = Setup { folder: tempfile::tempdir().unwrap(), ..Setup::new() }.open();
    assert_eq!(other.told(&told), Ok(Some(told.clone())), "it goes on from there");
    for core in [&core, &other] {
        let all = core.board.all();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].digest, &all[0].evidence), (fork.digest(), &fork));
    }
}

#[test]
fn a_start_finds_what_was_kept_and_passes_over_what_is_damaged() {
    let setup = Setup::new();
    let mut core = setup.open();
    for lane in 1..4 {
        core.found(setup.fork(lane, 3)).unwrap();
    }
    let files = files(&setup.folder.path().join("evidence"));
    assert_eq!(files.len(), 3);
    let mut bytes = fs::read(&files[1]).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&files[1], bytes).unwrap();
    fs::write(files[0].with_extension("new"), b"a part").unwrap();
    let mut core = setup.open();
    assert_eq!(core.board.all().len(), 2);
    let repeated: HashSet<Vec<u8>> = (0..4).map(|_| core.repeat().unwrap()).collect();
    assert_eq!(repeated.len(), 2, "each in turn");
}

#[test]
fn nothing_that_does_not_hold_is_kept() {
    let setup = Setup::new();
    let mut core = setup.open();
    let bytes = setup.fork(2, 7).encode();
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(core.told(&flipped).is_err(), "bit {bit}");
    }
    assert!(core.told(&bytes[1..]).is_err() && core.told(&[]).is_err());
    let honest = [setup.header(1, 4, 1), setup.header(1, 5, 2)];
    let honest = Evidence::new(NETWORK, 0, 1, Offence::Fork(Box::new(honest)));
    assert_eq!(core.found(honest), Err(Reject::NoOffence));
    assert!(core.board.all().is_empty() && files(&setup.folder.path().join("evidence")).is_empty());
}

#[test]
fn who_makes_any_number_of_them_fills_nobodys_disk() {
    let setup = Setup::new();
    let mut core = setup.open();
    for sequence in 1..100 {
        let is_kept = core.found(setup.fork(3, sequence + 1)).unwrap().is_some();
        assert_eq!(is_kept, usize::try_from(sequence).unwrap() <= KEPT_MAX);
    }
    assert!(core.found(setup.fork(1, 5)).unwrap().is_some(), "another's are kept");
    assert_eq!(core.board.all().len(), KEPT_MAX + 1);
    // Also what is said of the own key, which another process must have.
    assert!(core.found(setup.fork(ME, 5)).unwrap().is_some());
}
