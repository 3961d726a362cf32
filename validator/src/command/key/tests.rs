//! Checks of the commands on key files.

use super::*;
use crate::command::Code;
use crate::key::Secret;
use crate::key::testing::{CHEAP, given};

fn plain(folder: &Path) -> (PathBuf, String) {
    let file = folder.join("a.key");
    Secret::generate().unwrap().create(&file).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    (file, text)
}

#[test]
fn a_key_is_encrypted_gets_another_passphrase_and_is_plain_again() {
    let folder = tempfile::tempdir().unwrap();
    let (file, text) = plain(folder.path());
    show(&file).unwrap();
    let (_one, first) = given("first\n");
    encrypt(&file, &first, CHEAP).unwrap();
    show(&file).unwrap();
    let ((_one, first), (_two, second)) = (given("first"), given("second"));
    change(&file, &first, &second, CHEAP).unwrap();
    let (_one, first) = given("first");
    assert!(decrypt(&file, &first).unwrap_err().message().contains("the passphrase is wrong"));
    let (_two, second) = given("second");
    decrypt(&file, &second).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, text) = plain(folder.path());
    for exit in [
        decrypt(&file, &given("x").1),
        change(&file, &given("x").1, &given("y").1, CHEAP),
        encrypt(&file, &given("").1, CHEAP),
        encrypt(&file, &Source::Descriptor(i32::MAX), CHEAP),
        encrypt(&folder.path().join("none"), &given("x").1, CHEAP),
    ] {
        assert_eq!(exit.unwrap_err().code(), Code::Config);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    let (_given, source) = given("x");
    encrypt(&file, &source, CHEAP).unwrap();
    let exit = encrypt(&file, &given("x").1, CHEAP).unwrap_err();
    assert!(exit.message().contains("is encrypted already"), "{exit}");
}

#[test]
fn one_descriptor_cannot_give_two_passphrases() {
    let command = Command::Passphrase {
        file: "a.key".into(),
        passphrase_fd: Some(3),
        new_passphrase_fd: Some(3),
    };
    assert_eq!(run(&Arguments { command }).unwrap_err().code(), Code::Usage);
}
