//! Every contender on a few small groups, and the promise about bytes written.

use super::*;
use crate::suite::{Failure, Scale};

fn settings(data: &Path, scale: Scale) -> Settings {
    Settings {
        scale,
        rounds: None,
        seed: 1,
        data: data.to_owned(),
        validator: std::path::PathBuf::new(),
        unverified: None,
    }
}

#[test]
fn every_contender_is_right_measures_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let plans = Storage.plan(&settings(folder.path(), Scale::Smoke)).unwrap();
    assert_eq!(plans.len(), if cfg!(feature = "rivals") { 10 } else { 8 });
    for plan in plans {
        let group = (plan.open)().unwrap();
        let skips_fio = group.skipped.iter().any(|(label, _)| label.operation == "fio::write");
        let baseline = group.contenders[0].label().operation;
        let named = ["naive::", "fio::write", "storage::open", "storage::verify", "redb::"];
        assert!(skips_fio || named.iter().any(|name| baseline.starts_with(name)), "{baseline}");
        for mut contender in group.contenders {
            let name = contender.label().operation;
            contender.check().unwrap_or_else(|failure| panic!("{name}: {failure}"));
            for _ in 0..3 {
                let round = contender.round().unwrap();
                assert!(round.values.iter().all(|value| *value > 0.0), "{name}: {round:?}");
            }
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn both_backends_are_there_or_skipped_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let plans = Storage.plan(&settings(folder.path(), Scale::Smoke)).unwrap();
    let group = (plans.into_iter().next().unwrap().open)().unwrap();
    let backend = |parameters: &crate::suite::Parameters| {
        parameters.iter().find(|(key, _)| *key == "backend").map(|(_, name)| name.clone())
    };
    let mut names: Vec<_> =
        group.contenders.iter().filter_map(|one| backend(&one.label().parameters)).collect();
    for (label, reason) in &group.skipped {
        assert!(!reason.is_empty());
        names.extend(backend(&label.parameters));
    }
    for (name, _) in BACKENDS {
        // Ours at two depths, and both again on busy cores.
        let rows = if name == "io_uring" { 4 } else { 2 };
        assert_eq!(names.iter().filter(|found| *found == name).count(), rows, "{names:?}");
    }
}

#[test]
fn runs_stay_within_the_bytes_that_are_promised() {
    let folder = tempfile::tempdir().unwrap();
    for (scale, bytes_max) in [(Scale::Full, FULL_BYTES_MAX), (Scale::Quick, QUICK_BYTES_MAX)] {
        let settings = settings(folder.path(), scale);
        let rounds = rounds(&settings);
        let appends: u64 = append::sizes(scale).iter().map(|size| size.bytes_written(rounds)).sum();
        let bytes = appends
            + read::size(scale).bytes_written()
            + bandwidth::bytes_written(&settings)
            + reopen::bytes_written(scale);
        assert!(bytes <= bytes_max, "{scale:?}: {bytes} of {bytes_max}");
        assert!(bytes >= bytes_max / 2, "{scale:?}: the limit is used, {bytes} of {bytes_max}");
    }
}

#[test]
fn a_disk_without_room_is_a_reason_to_skip() {
    let folder = tempfile::tempdir().unwrap();
    let reason = has_room(folder.path(), u64::MAX - FREE_BYTES_MIN).unwrap_err();
    assert!(reason.contains("bytes free"), "{reason}");
    let reason = has_room(Path::new("/no/such/folder"), 1).unwrap_err();
    assert!(reason.contains("/no/such/folder"), "{reason}");
}

#[test]
fn records_are_decided_by_the_seed() {
    assert_eq!(random_bytes(1, 2, 64), random_bytes(1, 2, 64));
    assert_ne!(random_bytes(1, 2, 64), random_bytes(2, 2, 64));
    assert_ne!(random_bytes(1, 2, 64), random_bytes(1, 3, 64));
    assert_eq!((size_name(4096), size_name(1 << 20)), ("4KiB".to_owned(), "1MiB".to_owned()));
}

#[test]
fn a_folder_that_cannot_be_written_fails_and_says_so() {
    let settings = settings(Path::new("/proc"), Scale::Smoke);
    let plan = append::plan(&settings, append::sizes(Scale::Smoke)[0], rounds(&settings));
    let failure = (plan.open)().map(|_| ()).unwrap_err();
    assert!(matches!(failure, Failure::Machine(_)), "{failure}");
}
