//! The vault against a model, over crashes that tear writes, and against a damaged log.

use super::{log::FRAME_BYTES, *};
use commonware_runtime::{
    Runner as _, Supervisor as _,
    deterministic::{Config, Context, FaultConfig, PartialWriteMode, Runner, WriteConfig},
};
use commonware_utils::probability;
use std::sync::Arc as Shared;

const PREFIX: &str = "engine";
const PARTITIONS: [&str; 3] =
    ["engine-simplex", "engine-marshal-cache-notarizations-key", "engine-marshal-a-metadata"];

/// Partitions, blobs, bytes.
type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

fn config(seed: u64) -> Config {
    // A crash keeps any of the bytes that were not synced.
    let torn = WriteConfig {
        failure_rate: probability!(0.0),
        retention_rate: probability!(0.5),
        mode: PartialWriteMode::Subset,
    };
    Config::default().with_seed(seed).with_storage_fault_config(FaultConfig::default().write(torn))
}

async fn open(context: &Context) -> Result<Vault, Error> {
    let patient = Patient::new(context.child("test"), Shared::new(()));
    Vault::open(patient, PREFIX).await
}

fn versions() -> RangeInclusive<BlobVersion> {
    BlobVersion::new(1)..=BlobVersion::new(1)
}

/// What a vault holds, read through its blobs.
async fn contents(context: &Context, vault: &Vault) -> Model {
    let mut model = Model::new();
    for partition in PARTITIONS {
        let Ok(names) = vault.scan(context, partition).await else { continue };
        let blobs = model.entry(partition.to_owned()).or_default();
        for name in names {
            let (blob, length, _) = vault.open_versioned(partition, &name, versions()).unwrap();
            let length = usize::try_from(length).unwrap();
            let bytes = blob.read_at(0, length, ReadOptions::default()).await.unwrap();
            blobs.insert(name, bytes.coalesce().as_ref().to_vec());
        }
    }
    model
}

/// Xorshift64 (Marsaglia, "Xorshift RNGs", section 3).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn place(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

/// Does something at random to a vault and to the model; whether all of it is durable then.
async fn step(context: &Context, vault: &Vault, model: &mut Model, random: &mut Random) -> bool {
    let partition = PARTITIONS[random.place(3)];
    let name = vec![u8::try_from(random.below(4)).unwrap()];
    if random.below(60) == 0 {
        let removed = vault.remove(context, partition, None).await;
        assert_eq!(removed.is_ok(), model.remove(partition).is_some());
        return false;
    }
    if random.below(12) == 0 {
        let removed = vault.remove(context, partition, Some(&name)).await;
        let known = model.get_mut(partition).and_then(|blobs| blobs.remove(&name));
        assert_eq!(removed.is_ok(), known.is_some());
        return false;
    }
    let (blob, length, _) = vault.open_versioned(partition, &name, versions()).unwrap();
    let again = vault.open_versioned(partition, &name, versions());
    assert!(matches!(again, Err(Error::BlobAlreadyOpen(..))));
    let known = model.entry(partition.to_owned()).or_default().entry(name).or_default();
    assert_eq!(known.len() as u64, length);
    match random.below(8) {
        0 => {
            let length = random.place(200);
            blob.resize(length as u64).await.unwrap();
            known.resize(length, 0);
            false
        }
        1 | 2 => {
            blob.sync().await.unwrap();
            // Only what concerns this blob is promised; the log orders everything before it too.
            false
        }
        3 => {
            // Nobody waits for this one.
            drop(blob.start_sync().await);
            false
        }
        _ => {
            let bytes = vec![u8::try_from(random.below(256)).unwrap(); 1 + random.place(300)];
            let offset = random.place(known.len() + 20);
            let options =
                if random.below(3) == 0 { WriteOptions::SYNC } else { WriteOptions::default() };
            blob.write_at(offset as u64, bytes.clone(), options).await.unwrap();
            known.resize(known.len().max(offset + bytes.len()), 0);
            known[offset..offset + bytes.len()].copy_from_slice(&bytes);
            // Only whoever syncs votes waits until they, and all before them, are durable.
            options.contains(WriteOptions::SYNC) && partition == PARTITIONS[0]
        }
    }
}

#[test]
fn what_is_durable_is_a_prefix_that_holds_all_that_was_synced() {
    let seeds = std::env::var("ALTHING_SEEDS").ok().and_then(|text| text.parse().ok());
    let mut torn = 0;
    for seed in 1..=seeds.unwrap_or(20_u64) {
        let mut runner = Runner::new(config(seed));
        let mut expected: Vec<Model> = vec![Model::new()];
        for crash in 0..6 {
            let run = |context: Context| async move {
                let vault = open(&context).await.unwrap();
                let found = contents(&context, &vault).await;
                assert!(expected.contains(&found), "seed {seed}, crash {crash}");
                let lost = expected.last() != Some(&found);
                let mut random = Random(seed * 1_000 + crash);
                let mut history = vec![found.clone()];
                let mut model = found;
                for _ in 0..1 + random.below(80) {
                    if step(&context, &vault, &mut model, &mut random).await {
                        history.clear();
                    }
                    history.push(model.clone());
                }
                assert_eq!(contents(&context, &vault).await, model);
                (history, lost)
            };
            let ((history, lost), checkpoint) = runner.start_and_recover(run);
            (expected, torn) = (history, torn + u32::from(lost));
            runner = Runner::from(checkpoint);
        }
    }
    assert!(torn > 10, "some crashes lost what was not synced: {torn}");
}

#[test]
fn a_full_file_is_left_for_the_other() {
    let written = |context: Context| async move {
        let vault = open(&context).await.unwrap();
        let (blob, ..) = vault.open_versioned(PARTITIONS[0], b"votes", versions()).unwrap();
        // Five files' worth, of which little stays.
        for round in 0..50_u8 {
            blob.write_at(0, vec![round; LOG_BYTES / 10], WriteOptions::SYNC).await.unwrap();
        }
        contents_of(&context, &vault, PARTITIONS[0]).await
    };
    let (before, checkpoint) = Runner::new(config(1)).start_and_recover(written);
    let found = |context: Context| async move {
        contents_of(&context, &open(&context).await.unwrap(), PARTITIONS[0]).await
    };
    let after = Runner::from(checkpoint).start(found);
    assert_eq!(before, after);
    assert_eq!(after[&b"votes"[..].to_vec()], vec![49; LOG_BYTES / 10]);
}

async fn contents_of(
    context: &Context,
    vault: &Vault,
    partition: &str,
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut blobs = BTreeMap::new();
    for name in vault.scan(context, partition).await.unwrap() {
        // A blob that is still open is read by its holder alone.
        let state = vault.shared.lock();
        let bytes = state.partitions[partition][&name].kept.lock().bytes.clone();
        drop(state);
        blobs.insert(name, bytes);
    }
    blobs
}

#[test]
fn more_than_a_file_holds_makes_the_files_longer() {
    let written = |context: Context| async move {
        let vault = open(&context).await.unwrap();
        let (blob, ..) = vault.open_versioned(PARTITIONS[0], b"large", versions()).unwrap();
        for part in 0..3_u8 {
            let at = u64::from(part) * LOG_BYTES as u64;
            blob.write_at(at, vec![part; LOG_BYTES], WriteOptions::SYNC).await.unwrap();
        }
    };
    let ((), checkpoint) = Runner::new(config(1)).start_and_recover(written);
    let found = |context: Context| async move {
        contents_of(&context, &open(&context).await.unwrap(), PARTITIONS[0]).await
    };
    let after = Runner::from(checkpoint).start(found);
    let large = &after[&b"large"[..].to_vec()];
    assert_eq!((large.len(), large[LOG_BYTES], large[3 * LOG_BYTES - 1]), (3 * LOG_BYTES, 1, 2));
}

#[test]
fn a_removed_blob_stays_readable_and_a_new_one_is_another() {
    Runner::default().start(|context| async move {
        let vault = open(&context).await.unwrap();
        let (old, ..) = vault.open_versioned(PARTITIONS[0], b"a", versions()).unwrap();
        old.write_at(0, b"old", WriteOptions::default()).await.unwrap();
        vault.remove(&context, PARTITIONS[0], Some(b"a")).await.unwrap();
        let (new, length, _) = vault.open_versioned(PARTITIONS[0], b"a", versions()).unwrap();
        assert_eq!(length, 0);
        old.write_at(0, b"for its holder", WriteOptions::SYNC).await.unwrap();
        new.write_at(0, b"new", WriteOptions::SYNC).await.unwrap();
        let read = old.read_at(0, 3, ReadOptions::default()).await.unwrap();
        assert_eq!(read.coalesce().as_ref(), b"for");
        drop(new);
        assert_eq!(contents(&context, &vault).await[PARTITIONS[0]][&b"a"[..].to_vec()], b"new");
        let short = old.read_at(12, 3, ReadOptions::default()).await;
        assert!(matches!(short, Err(Error::BlobInsufficientLength)));
        let missing = vault.remove(&context, "engine-marshal-none", None).await;
        assert!(matches!(missing, Err(Error::PartitionMissing(_))));
        let other =
            vault.open_versioned(PARTITIONS[0], b"a", BlobVersion::new(2)..=BlobVersion::new(3));
        assert!(matches!(other, Err(Error::BlobVersionMismatch { .. })));
    });
}

#[test]
fn a_damaged_log_is_refused_and_a_torn_end_is_not() {
    let written = |context: Context| async move {
        let vault = open(&context).await.unwrap();
        let (blob, ..) = vault.open_versioned(PARTITIONS[0], b"votes", versions()).unwrap();
        for vote in 0..10_u8 {
            blob.write_at(u64::from(vote), vec![vote], WriteOptions::SYNC).await.unwrap();
        }
        let state = vault.shared.lock();
        assert_eq!((state.newest, state.durable), (11, 11), "all is durable");
    };
    // Where the newest file's frames end: the first is empty, as the log had just been begun.
    let mut ends = vec![FRAME_BYTES];
    let mut payload = Vec::new();
    for vote in 0..10_u8 {
        payload.clear();
        if vote == 0 {
            let (partition, name) = (PARTITIONS[0], &b"votes"[..]);
            Change::Make { id: 0, version: 1, partition, name }.encode(&mut payload);
        }
        Change::Write { id: 0, offset: u64::from(vote), bytes: &[vote] }.encode(&mut payload);
        ends.push(ends.last().unwrap() + FRAME_BYTES + payload.len());
    }
    let (last_start, end) = (ends[9], ends[10]);
    for at in (0..end).step_by(7).chain([last_start, end - 1]) {
        let ((), checkpoint) = Runner::new(config(1)).start_and_recover(written);
        let damaged = |context: Context| async move {
            let (file, _) = context.open("engine-log", FILES[0]).await.unwrap();
            let byte = file.read_at(at as u64, 1, ReadOptions::default()).await.unwrap();
            let byte = byte.coalesce().as_ref()[0] ^ 4;
            file.write_at(at as u64, vec![byte], WriteOptions::SYNC).await.unwrap();
            drop(file);
            match open(&context).await {
                Ok(vault) => Some(
                    contents(&context, &vault).await[PARTITIONS[0]][&b"votes"[..].to_vec()].len(),
                ),
                Err(Error::PartitionCorrupt(_)) => None,
                Err(error) => panic!("{error}"),
            }
        };
        let votes = Runner::from(checkpoint).start(damaged);
        // The last commit may be one that a crash tore; before it, a vote would be forgotten.
        let expected = (at >= last_start).then_some(9);
        assert_eq!(votes, expected, "byte {at} of {end}");
    }
}

#[test]
fn a_log_that_lost_its_key_or_its_beginning_is_not_begun_anew() {
    for lost in [KEY, BEGUN] {
        let written = |context: Context| async move {
            let vault = open(&context).await.unwrap();
            let (blob, ..) = vault.open_versioned(PARTITIONS[0], b"votes", versions()).unwrap();
            blob.write_at(0, b"vote", WriteOptions::SYNC).await.unwrap();
        };
        let ((), checkpoint) = Runner::new(config(1)).start_and_recover(written);
        Runner::from(checkpoint).start(|context| async move {
            context.remove("engine-log", Some(lost)).await.unwrap();
            assert!(matches!(open(&context).await, Err(Error::PartitionCorrupt(_))));
        });
    }
}

#[test]
fn votes_in_files_of_an_earlier_version_are_not_forgotten() {
    Runner::default().start(|context| async move {
        let (file, _) = context.open("engine-simplex", b"1").await.unwrap();
        file.write_at(0, b"vote", WriteOptions::SYNC).await.unwrap();
        assert!(matches!(open(&context).await, Err(Error::PartitionCorrupt(_))));
    });
}

#[test]
fn after_a_failed_sync_nothing_is_durable() {
    let failing = WriteConfig {
        failure_rate: probability!(0.03),
        retention_rate: probability!(0.5),
        mode: PartialWriteMode::Subset,
    };
    let mut failures = 0;
    for seed in 0..40 {
        let config = Config::default()
            .with_seed(seed)
            .with_storage_fault_config(FaultConfig::default().write(failing));
        failures += Runner::new(config).start(|context| async move {
            // Some fail before they have begun.
            let Ok(vault) = open(&context).await else { return 0 };
            let (blob, ..) = vault.open_versioned(PARTITIONS[0], b"votes", versions()).unwrap();
            let mut failed = false;
            for vote in 0..30_u8 {
                let written = blob.write_at(u64::from(vote), vec![vote], WriteOptions::SYNC).await;
                assert!(written.is_err() || !failed, "a later sync does not bring back an earlier");
                failed |= written.is_err();
                assert_eq!(blob.start_sync().await.await.is_err(), failed);
            }
            u32::from(failed)
        });
    }
    assert!(failures > 5, "{failures} of 40 failed after they had begun");
}

#[test]
fn what_nobody_waits_for_is_durable_before_a_later_vote_and_soon() {
    let [votes, _, values] = PARTITIONS;
    for waits in [true, false] {
        let written = move |context: Context| async move {
            let vault = open(&context).await.unwrap();
            let (value, ..) = vault.open_versioned(values, b"a", versions()).unwrap();
            value.write_at(0, b"value", WriteOptions::SYNC).await.unwrap();
            let is_durable = || {
                let state = vault.shared.lock();
                state.durable == state.newest
            };
            assert!(!is_durable(), "it did not wait");
            if waits {
                context.sleep(2 * SETTLE).await;
            } else {
                let (vote, ..) = vault.open_versioned(votes, b"b", versions()).unwrap();
                vote.write_at(0, b"vote", WriteOptions::SYNC).await.unwrap();
            }
            assert!(is_durable());
        };
        let ((), checkpoint) = Runner::new(config(1)).start_and_recover(written);
        Runner::from(checkpoint).start(|context| async move {
            let vault = open(&context).await.unwrap();
            assert_eq!(contents_of(&context, &vault, values).await[&b"a"[..].to_vec()], b"value");
        });
    }
}

#[test]
fn beyond_the_limit_blobs_are_files_but_votes_are_not() {
    let [votes, blocks, _] = PARTITIONS;
    let written = |context: Context| async move {
        let vault = open(&context).await.unwrap();
        assert!(vault.holds(&context, blocks, b"before").await.unwrap());
        let (kept, ..) = vault.open_versioned(blocks, b"before", versions()).unwrap();
        vault.shared.lock().is_large = true;
        assert!(vault.holds(&context, blocks, b"before").await.unwrap());
        assert!(vault.holds(&context, votes, b"vote").await.unwrap());
        kept.write_at(0, b"settles", WriteOptions::SYNC).await.unwrap();
        assert!(!vault.holds(&context, blocks, b"file").await.unwrap());
        let is_durable = || {
            let state = vault.shared.lock();
            state.durable == state.newest
        };
        assert!(is_durable(), "before there is a file that may speak of it");
        let (file, _) = context.open(blocks, b"file").await.unwrap();
        file.write_at(0, b"in a file", WriteOptions::SYNC).await.unwrap();
        // A file may speak of what is kept: whoever syncs waits from now on.
        kept.write_at(0, b"kept", WriteOptions::SYNC).await.unwrap();
        assert!(is_durable());
    };
    let ((), checkpoint) = Runner::new(config(1)).start_and_recover(written);
    Runner::from(checkpoint).start(|context| async move {
        let vault = open(&context).await.unwrap();
        assert!(!vault.shared.lock().is_large);
        assert!(vault.holds(&context, blocks, b"before").await.unwrap());
        assert!(!vault.holds(&context, blocks, b"file").await.unwrap(), "it is found again");
        assert!(vault.holds(&context, blocks, b"later").await.unwrap());
        let names = vault.scan(&context, blocks).await.unwrap();
        assert_eq!(names, [b"before".to_vec(), b"file".to_vec()]);
        vault.remove(&context, blocks, Some(b"file")).await.unwrap();
        assert!(context.scan(blocks).await.unwrap().is_empty());
        // One file is left when all of the partition goes.
        vault.shared.lock().is_large = true;
        assert!(!vault.holds(&context, blocks, b"other").await.unwrap());
        drop(context.open(blocks, b"other").await.unwrap());
        vault.remove(&context, blocks, None).await.unwrap();
        for left in [context.scan(blocks).await, vault.scan(&context, blocks).await] {
            assert!(matches!(left, Err(Error::PartitionMissing(_))));
        }
    });
}
