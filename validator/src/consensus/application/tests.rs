//! When a leader proposes: at once, when all busy lanes have advanced, or when the newest block is no longer young.

use super::*;
use crate::consensus::Turn;
use commonware_consensus::{
    Application as _,
    marshal::ancestry,
    types::{Epoch, Round},
};
use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
use commonware_runtime::{
    Runner as _, Spawner as _, Supervisor as _,
    deterministic::{Context as Runtime, Runner},
};
use ledger::{Bitmap, Digest as LedgerDigest, PublicKey as Key, Signature, SignedItem};

const LANES: u32 = 4;
const CUT_DELAY: Duration = Duration::from_millis(25);
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Nothing here is judged.
struct Nobody;

impl Signatures for Nobody {
    fn verify(&self, _: &[SignedItem<'_>]) -> Vec<bool> {
        unreachable!("a leader does not check what the lane stage has checked")
    }

    fn verify_votes(&self, _: &[SignedItem<'_>]) -> Vec<bool> {
        unreachable!("the engine checks votes")
    }
}

fn tips(sequences: [u64; 4]) -> Tips {
    Tips(sequences.map(|sequence| Tip { sequence, digest: LedgerDigest::ZERO }).into())
}

fn block(height: u64) -> Block {
    Block::new(Cut {
        network: LedgerDigest::ZERO,
        epoch: 0,
        height: Height(height),
        view: View(height),
        parent: LedgerDigest::ZERO,
        time_ms: 0,
        executed: Height(0),
        history_root: LedgerDigest::ZERO,
        state_root: LedgerDigest::ZERO,
        set: LedgerDigest::ZERO,
        next_set: LedgerDigest::ZERO,
        lanes: Vec::new(),
    })
}

fn certificate(lane: u32, sequence: u64) -> Arc<AvailabilityCertificate> {
    let (mut signers, signatures) = (Bitmap::default(), vec![Signature([0; 64]); 3]);
    (0..3).for_each(|signer| assert!(signers.insert(signer)));
    let digest = LedgerDigest::ZERO;
    Arc::new(AvailabilityCertificate { epoch: 0, lane, sequence, digest, signers, signatures })
}

fn application() -> Application {
    let progress = Progress {
        height: Height(0),
        digest: block(0).cut_digest(),
        tips: tips([0; 4]),
        executed: tips([0; 4]),
        history_root: LedgerDigest::ZERO,
        state_root: LedgerDigest::ZERO,
        epoch: 0,
        next_set: None,
        backlog: false,
        content: Height(0),
    };
    let keys: Vec<Key> = (1..=4).map(|byte| Key([byte; 32])).collect();
    let turn = Turn { epoch: 0, after: LedgerDigest::ZERO };
    let board = Board::new(LANES as usize, Recent::from([progress]), turn);
    let pace = Pace { heartbeat: HEARTBEAT, cut_delay: CUT_DELAY };
    Application::new(LedgerDigest::ZERO, Terms::of(&keys), Arc::new(Nobody), board, pace)
}

/// Two blocks, of which the second was seen now: lanes 0 and 1 advanced in it.
fn seen(runtime: &Runtime, application: &Application) -> Block {
    let now = runtime.current();
    application.remember(&block(1), tips([1, 1, 5, 0]), now);
    application.remember(&block(2), tips([2, 2, 5, 0]), now);
    block(2)
}

/// How long the leader takes, and the lanes in what it proposes; each certificate comes after a time.
async fn propose(
    runtime: Runtime,
    application: Application,
    parent: Block,
    certificates: Vec<(Duration, u32, u64)>,
) -> (Duration, Vec<u32>) {
    let start = runtime.current();
    let board = application.board.clone();
    runtime.child("lanes").spawn(move |runtime| async move {
        for (after, lane, sequence) in certificates {
            runtime.sleep_until(start + after).await;
            board.certified(certificate(lane, sequence));
        }
    });
    let round = Round::new(Epoch::new(0), commonware_consensus::types::View::new(3));
    let parent_digest = parent.digest();
    let context = Context {
        round,
        leader: PrivateKey::from_seed(1).public_key(),
        parent: (commonware_consensus::types::View::new(2), parent_digest),
    };
    let ancestry = ancestry::from_iter([Digested::precomputed(parent, parent_digest)]);
    let mut application = application;
    let proposed =
        application.propose((runtime.child("leader"), context), ancestry, ()).await.unwrap();
    let took = runtime.current().duration_since(start).unwrap();
    let lanes = proposed.inner().cut().lanes.iter().map(|lane| lane.lane).collect();
    (took, lanes)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn run(certificates: Vec<(Duration, u32, u64)>, age: Duration) -> (Duration, Vec<u32>) {
    Runner::default().start(|runtime| async move {
        let application = application();
        let parent = seen(&runtime, &application);
        runtime.sleep(age).await;
        let (took, mut lanes) = propose(runtime, application, parent, certificates).await;
        lanes.sort_unstable();
        (took, lanes)
    })
}

#[test]
fn it_waits_for_busy_lanes_and_for_no_other() {
    let (took, lanes) = run(vec![(ms(3), 0, 3), (ms(9), 1, 3)], ms(0));
    assert_eq!(lanes, [0, 1]);
    assert!((ms(9)..ms(15)).contains(&took), "{took:?}");
}

#[test]
fn a_busy_lane_that_stays_away_costs_the_delay_and_no_more() {
    let (took, lanes) = run(vec![(ms(3), 0, 3), (ms(400), 1, 3)], ms(0));
    assert_eq!(lanes, [0]);
    assert!((CUT_DELAY..CUT_DELAY + ms(5)).contains(&took), "{took:?}");
    // Another lane's certificate is taken along, but is none of those that it waits for.
    let (took, lanes) = run(vec![(ms(3), 0, 3), (ms(4), 2, 6)], ms(0));
    assert_eq!(lanes, [0, 2]);
    assert!((CUT_DELAY..CUT_DELAY + ms(5)).contains(&took), "{took:?}");
}

#[test]
fn on_an_old_block_it_proposes_at_once() {
    let (took, lanes) = run(vec![(ms(3), 0, 3)], 2 * CUT_DELAY);
    assert_eq!(lanes, [0]);
    assert!((ms(3)..ms(8)).contains(&took), "{took:?}");
}

#[test]
fn a_block_that_was_not_seen_is_not_waited_on() {
    let (took, lanes) = Runner::default().start(|runtime| async move {
        propose(runtime, application(), block(0), vec![(ms(3), 0, 1)]).await
    });
    assert_eq!(lanes, [0]);
    assert!((ms(3)..ms(8)).contains(&took), "{took:?}");
}

#[test]
fn with_nothing_to_propose_it_waits_for_its_heartbeat() {
    let (took, lanes) = run(vec![], ms(0));
    assert!(lanes.is_empty());
    assert!((HEARTBEAT..HEARTBEAT + ms(5)).contains(&took), "{took:?}");
}
