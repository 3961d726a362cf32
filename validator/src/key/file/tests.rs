//! Checks of key files, plain and encrypted: who may read them, what is refused, how one becomes the other.

use super::*;
use crate::command::Code;
use crate::key::testing::{CHEAP, given, golden, passphrase};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn refusal(path: &Path) -> String {
    let exit = Secret::load(path).unwrap_err();
    assert_eq!(exit.code(), Code::Config);
    assert!(exit.message().contains(&path.display().to_string()), "{exit}");
    exit.message().to_string()
}

#[test]
fn a_key_comes_back_from_its_file_and_signs_alike() {
    let folder = folder();
    let path = folder.path().join("a.key");
    let key = Secret::generate().unwrap();
    key.create(&path).unwrap();
    let loaded = Secret::load(&path).unwrap();
    assert_eq!(loaded.public(), key.public());
    assert_eq!(loaded.sign(b"m"), key.sign(b"m"));
    assert_eq!(*loaded.seed(), *key.seed());
    let mode = std::fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn an_existing_file_is_never_replaced() {
    let folder = folder();
    let path = folder.path().join("a.key");
    std::fs::write(&path, "precious").unwrap();
    let exit = Secret::generate().unwrap().create(&path).unwrap_err();
    assert_eq!(exit.code(), Code::Config);
    assert!(exit.message().contains("never replaced"), "{exit}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_file_open_to_others_is_refused_with_the_remedy() {
    let folder = folder();
    let path = folder.path().join("a.key");
    Secret::generate().unwrap().create(&path).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let why = refusal(&path);
        assert!(why.contains(&format!("{mode:04o}")) && why.contains("chmod 600"), "{why}");
    }
}

#[test]
fn links_folders_and_absent_files_are_refused() {
    let folder = folder();
    let path = folder.path().join("a.key");
    Secret::generate().unwrap().create(&path).unwrap();
    let link = folder.path().join("link.key");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(refusal(&link).contains("cannot be opened"));
    assert!(refusal(folder.path()).contains("is not a plain file"));
    assert!(refusal(&folder.path().join("none")).contains("cannot be opened"));
}

#[test]
fn another_owner_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    let folder = folder();
    let path = folder.path().join("a.key");
    Secret::generate().unwrap().create(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(1), None).unwrap();
    assert!(refusal(&path).contains("belongs to user 1"));
}

#[test]
fn every_broken_file_is_refused_and_never_shown() {
    let key = Secret::from_seed(&[7; 32]);
    let (public, secret) = (key.public(), hex::encode([7; 32]));
    let wrong = [
        String::new(),
        format!("althing-key-v2\npublic {public}\nsecret {secret}\n"),
        format!("althing-key-v3\npublic {public}\nsecret {secret}\n"),
        format!("althing-key-v1\npublic {public}\n"),
        format!("althing-key-v1\nsecret {secret}\npublic {public}\n"),
        format!("althing-key-v1\npublic {public}\nsecret {secret}\nmore\n"),
        format!("althing-key-v1\npublic {public}\nsecret {}\n", &secret[1..]),
        format!("althing-key-v1\npublic {public}\nsecret {}\n", hex::encode([8; 32])),
    ];
    let folder = folder();
    for (place, text) in wrong.iter().enumerate() {
        let path = folder.path().join(format!("{place}.key"));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(!refusal(&path).contains(&secret[1..]), "{place}");
    }
    let path = folder.path().join("long.key");
    std::fs::write(&path, "x".repeat(2_000)).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(refusal(&path).contains("too long"));
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// An encrypted key in a file of its own.
fn encrypted(folder: &Path) -> (PathBuf, Secret) {
    let path = folder.join("sealed.key");
    let key = Secret::generate().unwrap();
    KeyFile::seal(&key, &passphrase("open"), CHEAP).unwrap().create(&path).unwrap();
    (path, key)
}

#[test]
fn kept_samples_of_both_versions_are_one_key() {
    let folder = folder();
    let path = folder.path().join("a.key");
    let seed = Zeroizing::new([7; 32]);
    for (name, text) in [("v1.key", None), ("v2_small.key", Some("Þing völlr\n"))] {
        let kept = std::fs::read_to_string(golden(name)).unwrap();
        write(&path, &kept);
        let file = KeyFile::read(&path).unwrap();
        assert_eq!(*file.text(), kept, "the same is written");
        let given = text.map(given);
        let source = given.map_or((None, Source::Terminal), |(file, source)| (Some(file), source));
        assert_eq!(file.open(&path, &source.1).unwrap().seed(), seed);
    }
}

#[test]
fn an_encrypted_file_has_the_same_owner_mode_and_life() {
    let folder = folder();
    let (path, key) = encrypted(folder.path());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let file = KeyFile::read(&path).unwrap();
    assert_eq!(file.public(), key.public(), "known without the passphrase");
    let (_given, source) = given("open\n");
    assert_eq!(*file.open(&path, &source).unwrap().seed(), *key.seed());
    for mode in [0o640, 0o604, 0o644] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(refusal(&path).contains("chmod 600"));
    }
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let other = KeyFile::seal(&key, &passphrase("other"), CHEAP).unwrap();
    assert!(other.create(&path).unwrap_err().message().contains("never replaced"));
    let (_given, source) = given("open");
    assert!(KeyFile::read(&path).unwrap().open(&path, &source).is_ok());
}

#[test]
fn a_wrong_passphrase_is_one_line_that_says_no_more() {
    let folder = folder();
    let (path, _) = encrypted(folder.path());
    let (_given, source) = given("wrong");
    let exit = KeyFile::read(&path).unwrap().open(&path, &source).unwrap_err();
    let text = format!("key {}: the passphrase is wrong, or the file is damaged", path.display());
    assert_eq!((exit.code(), exit.message()), (Code::Config, text.as_str()));
}

#[test]
fn a_passphrase_for_a_plain_key_is_a_mistake() {
    let folder = folder();
    let path = folder.path().join("a.key");
    Secret::generate().unwrap().create(&path).unwrap();
    let (_given, source) = given("open");
    let exit = KeyFile::read(&path).unwrap().open(&path, &source).unwrap_err();
    assert_eq!(exit.code(), Code::Config);
    assert!(exit.message().contains("is not encrypted") && exit.message().contains("key encrypt"));
}

#[test]
fn a_file_becomes_encrypted_and_plain_again_in_its_place() {
    let folder = folder();
    let path = folder.path().join("a.key");
    let key = Secret::generate().unwrap();
    key.create(&path).unwrap();
    let plain = std::fs::read_to_string(&path).unwrap();
    let open = passphrase("open");
    KeyFile::seal(&key, &open, CHEAP).unwrap().replace(&path, Some(&open)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("althing-key-v2\n"));
    let (_given, source) = given("open");
    let opened = KeyFile::read(&path).unwrap().open(&path, &source).unwrap();
    KeyFile::Plain(opened).replace(&path, None).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), plain);
    let names: Vec<_> =
        folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a.key"], "nothing is left beside it");
}

#[test]
fn a_change_that_does_not_open_leaves_the_old_file() {
    let folder = folder();
    let path = folder.path().join("a.key");
    let key = Secret::generate().unwrap();
    key.create(&path).unwrap();
    let sealed = KeyFile::seal(&key, &passphrase("open"), CHEAP).unwrap();
    let exit = sealed.replace(&path, Some(&passphrase("another"))).unwrap_err();
    assert!(exit.message().contains("the passphrase is wrong"), "{exit}");
    assert_eq!(Secret::load(&path).unwrap().public(), key.public());
    assert!(!beside(&path).exists(), "the next attempt has room");
    // A folder that takes no new file.
    let nowhere = folder.path().join("none/a.key");
    assert_eq!(sealed.replace(&nowhere, None).unwrap_err().code(), Code::Config);
}

#[test]
fn a_change_that_was_cut_short_is_said_and_loses_nothing() {
    let folder = folder();
    let path = folder.path().join("a.key");
    let key = Secret::generate().unwrap();
    key.create(&path).unwrap();
    let open = passphrase("open");
    let sealed = KeyFile::seal(&key, &open, CHEAP).unwrap();
    let whole = sealed.text();
    // Whatever had been written when the machine stopped.
    for length in [0, 1, whole.len() / 2, whole.len()] {
        write(&beside(&path), &whole[..length]);
        let exit = sealed.replace(&path, Some(&open)).unwrap_err();
        assert_eq!(exit.code(), Code::Config);
        assert!(
            exit.message().contains("a.key.new") && exit.message().contains("cut short"),
            "{exit}"
        );
        assert_eq!(Secret::load(&path).unwrap().public(), key.public());
        std::fs::remove_file(beside(&path)).unwrap();
    }
    sealed.replace(&path, Some(&open)).unwrap();
}
