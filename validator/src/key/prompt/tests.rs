//! Checks of the prompt on a terminal of our own, with somebody who types.

use super::*;
use crate::key::testing::passphrase;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use std::thread;
use std::time::{Duration, Instant};

/// Time for one answer.
const LIMIT: Duration = Duration::from_secs(20);

/// Lets somebody type these answers, each at its question, and returns what came of it and what was seen.
fn typed(answers: &[&str], is_new: bool) -> (Result<Passphrase, String>, String) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let controller = openpt(flags).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let terminal = File::from(ioctl_tiocgptpeer(&controller, flags).unwrap());
    let before = tcgetattr(&terminal).unwrap();
    assert!(before.local_modes.contains(LocalModes::ECHO), "a terminal shows what is typed");
    let mut keyboard = File::from(controller);
    let mut screen = terminal.try_clone().unwrap();
    let asked = thread::scope(|scope| {
        let asked =
            scope.spawn(|| ask_on(&terminal, &mut screen, Path::new("/some/a.key"), is_new));
        let mut seen = String::new();
        for answer in answers {
            let end = Instant::now() + LIMIT;
            // A question is asked once the terminal is silent.
            while !seen.ends_with(": ") {
                assert!(Instant::now() < end, "no question: {seen:?}");
                seen.push_str(&show(&mut keyboard));
            }
            assert!(!tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO));
            keyboard.write_all(answer.as_bytes()).unwrap();
            seen.push('|');
        }
        let asked = asked.join().unwrap();
        (asked, seen)
    });
    let after = tcgetattr(&terminal).unwrap();
    assert_eq!(after.local_modes, before.local_modes, "as it was before");
    assert_eq!(
        after.special_codes[SpecialCodeIndex::VEOL],
        before.special_codes[SpecialCodeIndex::VEOL]
    );
    // What is still on the screen; the mark at the end keeps the read from waiting.
    screen.write_all(b"#").unwrap();
    let (asked, mut seen) = asked;
    while !seen.ends_with('#') {
        seen.push_str(&show(&mut keyboard));
    }
    (asked, seen)
}

fn show(keyboard: &mut File) -> String {
    let mut bytes = [0; 4_096];
    let length = keyboard.read(&mut bytes).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[test]
fn what_is_typed_is_taken_and_not_shown() {
    let (asked, seen) = typed(&["old secret\n"], false);
    assert_eq!(asked, Ok(passphrase("old secret")));
    assert_eq!(seen, "passphrase of key /some/a.key: |\r\n#");
    // The terminal edits the line: the erase character takes the letter before it.
    let (asked, seen) = typed(&["secrez\u{7f}t\n"], false);
    assert_eq!(asked, Ok(passphrase("secret")));
    assert!(!seen.contains("sec"), "{seen:?}");
}

#[test]
fn a_new_one_is_asked_for_twice() {
    let (asked, seen) = typed(&["one\n", "one\n"], true);
    assert_eq!(asked, Ok(passphrase("one")));
    assert_eq!(seen, "new passphrase of key /some/a.key: |\r\nthe same again: |\r\n#");
    let (asked, _) = typed(&["one\n", "two\n"], true);
    assert!(asked.unwrap_err().contains("differ"));
}

#[test]
fn who_types_nothing_or_cancels_gets_the_terminal_back() {
    for (answer, why) in [
        ("\n", "is empty"),
        ("\u{4}", "no passphrase was typed"),
        ("half\u{3}", "no passphrase was typed"),
        ("\u{3}", "no passphrase was typed"),
        ("a\u{1a}b\n", "has a control character"),
    ] {
        let (asked, seen) = typed(&[answer], false);
        let said = asked.unwrap_err();
        assert!(said.contains(why), "{said}");
        assert!(seen.ends_with("\r\n#") && !seen.contains("half"), "{seen:?}");
    }
    let long = format!("{}\n", "x".repeat(1_025));
    assert!(typed(&[&long], false).0.unwrap_err().contains("is longer than 1024 bytes"));
}
