//! Checks of passphrases: their bounds, and each place they come from.

use super::*;
use crate::command::Code;
use crate::key::testing::{given, passphrase};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

const KEY: &str = "/some/a.key";

fn refusal(source: &Source) -> String {
    let exit = source.read(Path::new(KEY)).unwrap_err();
    assert_eq!(exit.code(), Code::Config);
    assert!(exit.message().starts_with("key /some/a.key: "), "{exit}");
    assert!(!exit.message().contains('\n'), "{exit}");
    exit.message().to_string()
}

#[test]
fn one_newline_at_the_end_is_none_of_it() {
    for (read, is) in [("a", "a"), ("a\n", "a"), ("a\n\n", "a\n"), ("\na", "\na"), ("a\r\n", "a\r")]
    {
        let (_file, source) = given(read);
        assert_eq!(source.read(Path::new(KEY)).unwrap().bytes(), is.as_bytes());
    }
}

#[test]
fn too_little_and_too_much_are_refused() {
    for (read, why) in [
        ("", "file descriptor"),
        ("", "is empty"),
        ("\n", "is empty"),
        (&"x".repeat(1_025), "is longer than 1024 bytes"),
        (&format!("{}\n", "x".repeat(1_025)), "is longer than 1024 bytes"),
        (&"x".repeat(1 << 20), "is longer than 1024 bytes"),
    ] {
        let (_file, source) = given(read);
        let said = refusal(&source);
        assert!(said.contains(why) && !said.contains("xx"), "{said}");
    }
    let longest = "x".repeat(1_024);
    let (_file, source) = given(&format!("{longest}\n"));
    assert_eq!(source.choose(Path::new(KEY)).unwrap(), passphrase(&longest));
}

#[test]
fn a_source_is_written_in_one_way() {
    let credential = |name: &str| Some(Source::Credential(name.to_string()));
    for (text, source) in [
        ("", Some(Source::Terminal)),
        ("fd:0", Some(Source::Descriptor(0))),
        ("fd:3", Some(Source::Descriptor(3))),
        ("fd:2147483647", Some(Source::Descriptor(i32::MAX))),
        ("fd:2147483648", None),
        ("fd:", None),
        ("fd:-1", None),
        ("fd:+3", None),
        ("fd:03", None),
        ("fd: 3", None),
        ("FD:3", None),
        ("3", None),
        ("hunter2", None),
        ("credential:key", credential("key")),
        ("credential:althing.key-1", credential("althing.key-1")),
        ("credential:", None),
        ("credential:.", None),
        ("credential:..", None),
        ("credential:../../etc/passwd", None),
        ("credential:/etc/passwd", None),
        ("credential:a/b", None),
        ("credential:a:b", None),
        ("credential:a\nb", None),
        ("credential:þ", None),
    ] {
        assert_eq!(Source::parse(text), source, "{text:?}");
    }
    assert!(Source::parse(&format!("credential:{}", "x".repeat(255))).is_some());
    assert!(Source::parse(&format!("credential:{}", "x".repeat(256))).is_none());
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let (reader, mut writer) = io::pipe().unwrap();
    let source = Source::Descriptor(reader.as_raw_fd());
    let thread = std::thread::spawn(move || {
        use std::io::Write as _;
        for part in ["in ", "three ", "parts\n"] {
            writer.write_all(part.as_bytes()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    assert_eq!(source.read(Path::new(KEY)).unwrap(), passphrase("in three parts"));
    thread.join().unwrap();
}

#[test]
fn a_descriptor_that_is_closed_or_cannot_be_read_is_refused() {
    let why = refusal(&Source::Descriptor(i32::MAX));
    assert!(why.contains("from file descriptor 2147483647: Bad file descriptor"), "{why}");
    let (_reader, writer) = io::pipe().unwrap();
    let why = refusal(&Source::Descriptor(writer.as_raw_fd()));
    assert!(why.contains("Bad file descriptor"), "{why}");
    let folder = File::open("/").unwrap();
    assert!(refusal(&Source::Descriptor(folder.as_raw_fd())).contains("Is a directory"));
    // Typed there, it would be on the screen.
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let terminal = ioctl_tiocgptpeer(&controller, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let why = refusal(&Source::Descriptor(terminal.as_raw_fd()));
    assert!(why.contains("it is a terminal"), "{why}");
}

#[test]
fn a_credential_is_a_plain_file_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "from systemd\n").unwrap();
    std::os::unix::fs::symlink("key", folder.path().join("link")).unwrap();
    let read = |name: &str| credential(Some(folder.path()), name).and_then(Passphrase::read);
    assert_eq!(read("key").unwrap().unwrap(), passphrase("from systemd"));
    assert_eq!(read("none").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(read("link").is_err());
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    assert!(read("folder").unwrap_err().to_string().contains("not a plain file"));
    let error = credential(None, "key").unwrap_err().to_string();
    assert!(
        error.contains("$CREDENTIALS_DIRECTORY is not set") && error.contains("LoadCredential=")
    );
}

#[test]
fn a_passphrase_is_never_shown() {
    assert_eq!(format!("{:?}", passphrase("secret")), "Passphrase(..)");
}
