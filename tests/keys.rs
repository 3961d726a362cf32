//! A key that is encrypted: a validator runs with its passphrase, and is refused in one line without it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;
use tests::{
    cluster::{Cluster, alone},
    process::{Finished, command, finish, free_ports},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
const WITHOUT: &str = env!("CARGO_BIN_EXE_without");
/// Time to refuse, also for a debug build that tries a passphrase.
const LIMIT: Duration = Duration::from_secs(60);
const PASSPHRASE: &str = "a passphrase of the tests";
/// Runs a program with two files as its descriptors 3 and 4.
const WITH_FILES: &str = r#"three=$1 four=$2; shift 2; exec "$@" 3< "$three" 4< "$four""#;
/// Gives what follows less memory than a key file may ask for.
const WITH_LITTLE_MEMORY: &str = r#"ulimit -v 786432; exec "$@""#;

/// A network of one validator whose key is encrypted, and two files with passphrases.
struct Place {
    cluster: Cluster,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let cluster = Cluster::create_at(PROGRAM, 0, free_ports(1));
        let folder = TempDir::with_prefix("althing-tests-").expect("a temporary folder");
        let place = Self { cluster, folder };
        fs::write(place.file("right"), format!("{PASSPHRASE}\n")).expect("our file");
        fs::write(place.file("wrong"), "another passphrase\n").expect("our file");
        let done =
            place.with_files("right", "wrong", &["key", "encrypt"], &["--passphrase-fd", "3"]);
        assert!(done.expect_code(0).text().starts_with("encrypted: "));
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self) -> PathBuf {
        self.cluster.network().member_folder(0).join("validator.key")
    }

    /// Runs a command on the key file, with two of the files as descriptors 3 and 4.
    fn with_files(&self, three: &str, four: &str, line: &[&str], flags: &[&str]) -> Finished {
        let mut command = shell(&self.file(three), &self.file(four), &[PROGRAM]);
        finish(command.args(line).arg(self.key()).args(flags), LIMIT)
    }

    /// The command that starts the validator, with one of the files as descriptor 3.
    fn start(&self, three: &str) -> Command {
        let files = shell_line(&self.file(three), Path::new("/dev/null"));
        let line: Vec<&str> = files.iter().map(String::as_str).chain([PROGRAM]).collect();
        self.cluster.start_command(0, &line)
    }

    /// Starts the validator, which must refuse in one line.
    fn refused(&self, mut command: Command, flags: &[&str], parts: &[&str]) {
        let ended = finish(command.args(["--log-filter", "off"]).args(flags), LIMIT);
        ended.expect_refusal(3, &[parts, &["validator.key"]].concat());
        assert!(!ended.stderr.contains(PASSPHRASE) && !ended.stderr.contains("another passphrase"));
    }
}

fn shell_line(three: &Path, four: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let fixed = ["sh", "-c", WITH_FILES, "sh"].map(str::to_owned);
    fixed.into_iter().chain([path(three), path(four)]).collect()
}

fn shell(three: &Path, four: &Path, program: &[&str]) -> Command {
    let line = shell_line(three, four);
    let (first, rest) = line.split_first().expect("a program");
    let mut command = command(first);
    command.args(rest).args(program);
    command
}

#[test]
fn a_validator_with_an_encrypted_key_runs_by_its_passphrase_and_not_without() {
    let _machine = alone();
    let mut place = Place::new();
    let without = place.cluster.start_command(0, &[PROGRAM]);
    place.refused(without, &[], &["is encrypted", "--passphrase-fd N", "key_passphrase"]);
    let closed = place.cluster.start_command(0, &[PROGRAM]);
    let parts = ["file descriptor 3", "Bad file descriptor"];
    place.refused(closed, &["--passphrase-fd", "3"], &parts);
    let parts = ["the passphrase is wrong, or the file is damaged"];
    place.refused(place.start("wrong"), &["--passphrase-fd", "3"], &parts);
    let credential = |name: &str| {
        let mut command = place.cluster.start_command(0, &[PROGRAM]);
        command.env("ALTHING_KEY_PASSPHRASE", name);
        command
    };
    place.refused(credential("credential:right"), &[], &["$CREDENTIALS_DIRECTORY is not set"]);
    let mut wrong = credential("credential:wrong");
    wrong.env("CREDENTIALS_DIRECTORY", place.folder.path());
    place.refused(wrong, &[], &["the passphrase is wrong"]);

    // Where the kernel leaves huge pages to the asker, this process starts itself again, and reads after that.
    place.cluster.set(0, "ALTHING_CORES_HUGE_PAGES", "on");
    let mut by_descriptor = place.start("right");
    by_descriptor.args(["--passphrase-fd", "3"]);
    place.cluster.start_with(0, &mut by_descriptor);
    place.cluster.wait_ready();
    place.cluster.wait_height(2, LIMIT);
    assert!(place.cluster.log(0).contains("huge pages"), "{}", place.cluster.log(0));
    submit_with_an_encrypted_key(&place);
    place.cluster.stop_all();

    let mut by_credential = place.cluster.start_command(0, &[PROGRAM]);
    by_credential.env("CREDENTIALS_DIRECTORY", place.folder.path());
    by_credential.env("ALTHING_KEY_PASSPHRASE", "credential:right");
    place.cluster.start_with(0, &mut by_credential);
    place.cluster.wait_ready();
    place.cluster.stop_all();
    place.cluster.verify(0).expect_code(0);
    assert!(!place.cluster.log(0).contains(PASSPHRASE));
}

/// A client's key is a key like another.
fn submit_with_an_encrypted_key(place: &Place) {
    let right = place.file("right");
    let run = |line: &[&str]| {
        let mut command = shell(&right, &right, &[PROGRAM]);
        finish(command.args(line).args(["--passphrase-fd", "3"]), LIMIT)
    };
    let key = place.cluster.network().client_key().display().to_string();
    run(&["key", "encrypt", &key]).expect_code(0);
    let (file, url) = (right.display().to_string(), place.cluster.url(0).to_string());
    let submit = ["submit", "--file", &file, "--to", &url, "--key", &key];
    run(&submit).expect_code(0);
    let refused = place.cluster.run(&submit);
    refused.expect_refusal(3, &["client.key: is encrypted", "--passphrase-fd N"]);
}

#[test]
fn a_key_file_changes_its_passphrase_and_its_kind() {
    let place = Place::new();
    let shown = place.with_files("right", "wrong", &["key", "show"], &[]).expect_code(0).text();
    assert!(shown.contains("encrypted   yes: argon2id, 64.0 MiB, 3 passes, 4 lanes"), "{shown}");
    let both = ["--passphrase-fd", "3", "--new-passphrase-fd", "4"];
    place.with_files("right", "wrong", &["key", "passphrase"], &both).expect_code(0);
    let three = ["--passphrase-fd", "3"];
    let refused = place.with_files("right", "wrong", &["key", "decrypt"], &three);
    refused.expect_refusal(3, &["the passphrase is wrong"]);
    place.with_files("wrong", "right", &["key", "decrypt"], &three).expect_code(0);
    let text = fs::read_to_string(place.key()).expect("our file");
    assert!(text.starts_with("althing-key-v1\n"), "it is plain");
    let config = place.cluster.network().config(0).display().to_string();
    place.cluster.run(&["config", "check", &config]).expect_code(0);
    let mut surplus = place.start("right");
    let ended = finish(surplus.args(three).args(["--log-filter", "off"]), LIMIT);
    ended.expect_refusal(3, &["is not encrypted", "validator key encrypt"]);
    // Nobody to ask, nothing given.
    let alone = finish(command(PROGRAM).args(["key", "encrypt"]).arg(place.key()), LIMIT);
    alone.expect_refusal(3, &["--passphrase-fd N"]);
}

#[test]
fn a_descriptor_is_read_also_where_it_cannot_be_copied() {
    let place = Place::new();
    let right = place.file("right");
    let decrypt = ["key", "decrypt", "--passphrase-fd"];
    let mut open = shell(&right, &right, &[WITHOUT, "pidfd", PROGRAM]);
    finish(open.args(decrypt).arg("3").arg(place.key()), LIMIT).expect_code(0);
    let mut encrypt = shell(&right, &right, &[WITHOUT, "pidfd", PROGRAM]);
    encrypt.args(["key", "encrypt", "--passphrase-fd", "7"]).arg(place.key());
    finish(&mut encrypt, LIMIT).expect_refusal(3, &["file descriptor 7"]);
}

#[test]
fn a_new_key_is_encrypted_from_the_start() {
    let place = Place::new();
    let new = place.file("new");
    let init = ["init", &new.display().to_string()].map(str::to_owned);
    let mut refused = shell(&place.file("right"), &place.file("wrong"), &[PROGRAM]);
    refused.args(&init).arg("--encrypt");
    finish(&mut refused, LIMIT).expect_refusal(3, &["--passphrase-fd N"]);
    let mut done = shell(&place.file("right"), &place.file("wrong"), &[PROGRAM]);
    done.args(&init).args(["--encrypt", "--passphrase-fd", "3"]);
    let said = finish(&mut done, LIMIT).expect_code(0).text();
    assert!(said.contains("key_passphrase"), "{said}");
    let text = fs::read_to_string(new.join("validator.key")).expect("a new key");
    assert!(text.starts_with("althing-key-v2\n"), "it is encrypted");
}

#[test]
fn a_file_that_asks_for_more_memory_than_there_is_is_4() {
    let place = Place::new();
    let text = fs::read_to_string(place.key()).expect("our file");
    let hostile = text.replace("memory_kib=65536", "memory_kib=1048576");
    fs::write(place.key(), hostile).expect("our file");
    let mut command = command("sh");
    command
        .args(["-c", WITH_LITTLE_MEMORY, "sh"])
        .args(shell_line(&place.file("right"), &place.file("right")));
    command.args([PROGRAM, "key", "decrypt"]).arg(place.key()).args(["--passphrase-fd", "3"]);
    finish(&mut command, LIMIT).expect_refusal(4, &["there are no 1048576 KiB of memory"]);
}
