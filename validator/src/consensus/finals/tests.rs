//! Both stores over a ledger that grows: what is asked for comes from either, and nothing is promised twice.

use super::*;
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::{
    Digestible as _, Signer as _,
    certificate::{Signers, Verifier},
    ed25519::{PrivateKey, certificate::Certificate},
};
use commonware_runtime::{
    Runner as _, Supervisor as _,
    buffer::paged::CacheRef,
    deterministic::{Context, Runner},
};
use commonware_utils::{NZU16, NZU64, NZUsize, Participant};
use ledger::{Cut, Height as LedgerHeight};
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

fn block(height: u64) -> Block {
    let digest = |byte: u64| ledger::Digest([u8::try_from(byte % 251).unwrap(); 32]);
    Block::new(Cut {
        network: digest(1),
        epoch: 0,
        height: LedgerHeight(height),
        view: ledger::View(height),
        parent: digest(height),
        time_ms: height,
        executed: LedgerHeight(0),
        history_root: digest(2),
        state_root: digest(3),
        set: ledger::Digest::ZERO,
        next_set: ledger::Digest::ZERO,
        lanes: Vec::new(),
    })
}

fn finalization(height: u64) -> Finalization {
    let signature = PrivateKey::from_seed(1).sign(b"test", &height.to_le_bytes());
    let round = Round::new(Epoch::new(0), View::new(height));
    let payload = block(height).digest();
    let proposal = types::Proposal::new(round, View::new(height.saturating_sub(1)), payload);
    let signers = Signers::new(1, [Participant::new(0)]).unwrap();
    Finalization {
        proposal,
        certificate: Certificate { signers, signatures: vec![signature.into()] },
    }
}

/// A ledger up to a height, in which some records cannot be read.
#[derive(Default)]
struct Fake {
    end: AtomicU64,
    damaged: Mutex<Vec<u64>>,
    /// Heights without a certificate of their own.
    bare: Mutex<Vec<u64>>,
}

impl Fake {
    fn has(&self, height: u64) -> bool {
        // A record may stand there before all of its height does.
        height <= self.end.load(Ordering::Relaxed) + 1
    }

    fn can_read(&self, height: u64) -> bool {
        self.has(height) && !self.damaged.lock().unwrap().contains(&height)
    }
}

impl Ledger for Fake {
    fn height(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    fn block(&self, height: u64) -> Option<Block> {
        self.can_read(height).then(|| block(height))
    }

    fn block_by_digest(&self, digest: &Digest) -> Option<Block> {
        (0..=self.height() + 1).map(block).find(|block| block.digest() == *digest)
    }

    fn has_certificate(&self, height: u64) -> bool {
        self.has(height) && height > 0 && !self.bare.lock().unwrap().contains(&height)
    }

    fn certificate(&self, height: u64) -> Option<Finalization> {
        (self.has_certificate(height) && self.can_read(height)).then(|| finalization(height))
    }
}

fn config<C>(name: &str, codec_config: C) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{name}-metadata"),
        key_partition: format!("{name}-key"),
        key_page_cache: CacheRef::new(NZU16!(1_024), NZUsize!(64)),
        value_partition: format!("{name}-value"),
        compression: None,
        codec_config,
        items_per_section: NZU64!(64),
        key_write_buffer: NZUsize!(1_024),
        value_write_buffer: NZUsize!(1_024),
        replay_buffer: NZUsize!(1_024),
    }
}

async fn blocks(context: &Context, ledger: &Arc<Fake>) -> FinalBlocks<Context> {
    let config = config("blocks", ());
    let archive = prunable::Archive::init(context.child("blocks"), config).await.unwrap();
    FinalBlocks::new(archive, ledger.clone())
}

async fn certificates(context: &Context, ledger: &Arc<Fake>) -> FinalCertificates<Context> {
    let codec = <Scheme as Verifier>::certificate_codec_config_unbounded();
    let config = config("certificates", codec);
    let archive = prunable::Archive::init(context.child("certificates"), config).await.unwrap();
    FinalCertificates::new(archive, ledger.clone())
}

fn at(height: u64) -> Height {
    Height::new(height)
}

async fn put(store: FinalBlocks<Context>, height: u64) -> FinalBlocks<Context> {
    let block = Arc::new(block(height));
    Blocks::put(store, block.digest(), &block).await.unwrap()
}

async fn found(store: &FinalBlocks<Context>, height: u64) -> bool {
    let by_height = Blocks::get(store, Identifier::Index(height)).await.unwrap();
    let digest = block(height).digest();
    let by_digest = Blocks::get(store, Identifier::Key(&digest)).await.unwrap();
    let right = |found: &Option<Arc<Block>>| found.as_ref().is_none_or(|it| it.digest() == digest);
    assert!(right(&by_height) && right(&by_digest));
    assert_eq!(by_height.is_some(), by_digest.is_some(), "height {height}");
    by_height.is_some()
}

#[test]
fn the_ledger_and_the_archive_are_one_range() {
    Runner::default().start(|context| async move {
        let ledger = Arc::new(Fake::default());
        let mut store = blocks(&context, &ledger).await;
        assert_eq!(store.last_index(), Some(at(0)), "genesis");
        assert_eq!(store.next_gap(at(0)), (Some(at(0)), None));
        ledger.end.store(5, Ordering::Relaxed);
        // What the ledger has is not stored again.
        store = put(store, 3).await;
        assert!(Blocks::get(&store.archive, Identifier::Index(3)).await.unwrap().is_none());
        for height in [6, 7, 10, 11, 14] {
            store = put(store, height).await;
        }
        for height in 0..16 {
            let expected = height <= 7 || [10, 11, 14].contains(&height);
            assert_eq!(found(&store, height).await, expected, "height {height}");
        }
        assert_eq!(store.next_gap(at(0)), (Some(at(7)), Some(at(10))));
        assert_eq!(store.next_gap(at(5)), (Some(at(7)), Some(at(10))));
        assert_eq!(store.next_gap(at(7)), (Some(at(7)), Some(at(10))));
        assert_eq!(store.next_gap(at(8)), (None, Some(at(10))));
        assert_eq!(store.next_gap(at(12)), (None, Some(at(14))));
        assert_eq!(store.next_gap(at(15)), (None, None));
        assert_eq!(store.missing_items(at(0), 2), [at(8), at(9)]);
        assert_eq!(store.missing_items(at(1), 9), [at(8), at(9), at(12), at(13)]);
        assert_eq!(store.last_index(), Some(at(14)));
        // The ledger passes a gap, and what is stored already.
        ledger.end.store(10, Ordering::Relaxed);
        assert_eq!(store.next_gap(at(8)), (Some(at(11)), Some(at(14))));
        assert_eq!(store.missing_items(at(0), 9), [at(12), at(13)]);
        ledger.end.store(20, Ordering::Relaxed);
        assert_eq!(store.next_gap(at(2)), (Some(at(20)), None));
        assert_eq!(store.last_index(), Some(at(20)));
        assert!(store.missing_items(at(0), 9).is_empty());
        // A record of a height that is not whole is not there yet, by height or digest.
        assert!(!found(&store, 21).await);
        ledger.damaged.lock().unwrap().push(20);
        assert!(Blocks::get(&store, Identifier::Index(20)).await.unwrap().is_none());
    });
}

#[test]
fn archives_are_pruned_behind_the_ledger_and_nothing_is_lost() {
    Runner::default().start(|context| async move {
        let ledger = Arc::new(Fake::default());
        let (mut blocks, mut certificates) =
            (blocks(&context, &ledger).await, certificates(&context, &ledger).await);
        for height in 1..=1_000 {
            blocks = put(blocks, height).await;
            let (digest, finalization) = (block(height).digest(), finalization(height));
            let stored = Certificates::put(certificates, at(height), digest, &finalization).await;
            certificates = stored.unwrap();
            if height % 3 == 0 {
                blocks = Blocks::sync(blocks).await.unwrap();
                certificates = Certificates::sync(certificates).await.unwrap();
            } else {
                let (first, second);
                (blocks, first) = Blocks::start_sync(blocks).await.unwrap();
                (certificates, second) = Certificates::start_sync(certificates).await.unwrap();
                first.await.unwrap();
                second.await.unwrap();
            }
            ledger.end.store(height.saturating_sub(10), Ordering::Relaxed);
        }
        let in_archive = async |height| {
            let block = Blocks::get(&blocks.archive, Identifier::Index(height)).await.unwrap();
            let has = Certificates::has(&certificates.archive, at(height)).await.unwrap();
            assert_eq!(block.is_some(), has);
            has
        };
        assert!(!in_archive(700).await && in_archive(990 - KEPT).await && in_archive(1_000).await);
        for height in [1, 2, 500, 700, 862, 990, 991, 1_000] {
            assert!(found(&blocks, height).await);
            assert!(Certificates::has(&certificates, at(height)).await.unwrap());
            let digest = block(height).digest();
            for id in [Identifier::Index(height), Identifier::Key(&digest)] {
                let found = Certificates::get(&certificates, id).await.unwrap().unwrap();
                assert_eq!(found.proposal.payload, digest);
            }
        }
        assert_eq!(blocks.next_gap(at(1)), (Some(at(1_000)), None));
    });
}

#[test]
fn after_a_restart_the_newest_certificate_is_one_that_can_be_read() {
    Runner::default().start(|context| async move {
        let ledger = Arc::new(Fake::default());
        ledger.end.store(50, Ordering::Relaxed);
        ledger.bare.lock().unwrap().push(50);
        ledger.damaged.lock().unwrap().push(49);
        let mut store = certificates(&context, &ledger).await;
        assert_eq!(store.last_index(), Some(at(48)));
        assert_eq!(store.ranges_from(at(0)).collect::<Vec<_>>(), [(at(48), at(48))]);
        assert_eq!(store.ranges_from(at(49)).count(), 0);
        let newest = Certificates::get(&store, Identifier::Index(48)).await.unwrap();
        assert_eq!(newest.unwrap().proposal.payload, block(48).digest());
        assert!(!Certificates::has(&store, at(50)).await.unwrap());
        assert!(!Certificates::has(&store, at(51)).await.unwrap(), "not whole yet");
        store =
            Certificates::put(store, at(53), block(53).digest(), &finalization(53)).await.unwrap();
        assert_eq!(store.last_index(), Some(at(53)));
        let ranges: Vec<_> = store.ranges_from(at(0)).collect();
        assert_eq!(ranges, [(at(48), at(48)), (at(53), at(53))]);
    });
}
