//! Checks of the encrypted key: kept samples, every changed byte, hostile costs.

use super::*;
use crate::key::testing::{CHEAP, golden, passphrase};

/// The seed of the kept samples.
const SEED: [u8; 32] = [7; 32];
/// The passphrase of the small one, which is not ASCII.
const SMALL: &str = "Þing völlr";

fn sample(name: &str) -> String {
    std::fs::read_to_string(golden(name)).unwrap()
}

/// Whether these bytes, as a file, give any key.
fn opens(bytes: &[u8], passphrase: &Passphrase) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    Sealed::parse(text).is_ok_and(|sealed| sealed.open(passphrase).is_ok())
}

#[test]
fn kept_samples_keep_opening() {
    // Made by other implementations: the reference C code of Argon2, and libsodium.
    for (name, text, cost) in [
        ("v2.key", "correct horse battery staple", Cost::DEFAULT),
        ("v2_small.key", SMALL, Cost { memory_kib: 16, passes: 2, lanes: 2 }),
    ] {
        let sealed = Sealed::parse(&sample(name)).unwrap();
        assert_eq!(sealed.cost(), cost);
        let secret = sealed.open(&passphrase(text)).unwrap();
        assert_eq!(*secret.seed(), SEED, "{name}");
        assert_eq!(sealed.public(), secret.public());
        let (salt, nonce) = (sealed.salt, sealed.nonce);
        let again = Sealed::seal_with(&secret, &passphrase(text), cost, salt, nonce).unwrap();
        assert_eq!(again.text(), sample(name), "the same is written");
    }
}

#[test]
fn a_key_comes_back_and_no_two_files_are_alike() {
    let key = Secret::generate().unwrap();
    for text in ["x", "a longer one, with spaces\nand lines", &"y".repeat(1_024)] {
        let one = Sealed::seal(&key, &passphrase(text), CHEAP).unwrap();
        let other = Sealed::seal(&key, &passphrase(text), CHEAP).unwrap();
        assert!(one.salt != other.salt && one.nonce != other.nonce && one.sealed != other.sealed);
        let read = Sealed::parse(&one.text()).unwrap();
        assert_eq!(read, one);
        assert_eq!(*read.open(&passphrase(text)).unwrap().seed(), *key.seed());
    }
}

#[test]
fn a_wrong_passphrase_opens_nothing() {
    let sealed = Sealed::parse(&sample("v2_small.key")).unwrap();
    for wrong in ["thing", "Þing völl", "Þing völlr ", " Þing völlr", "Þing Völlr", "Thing vollr"]
    {
        assert_eq!(sealed.open(&passphrase(wrong)).unwrap_err(), Error::Closed, "{wrong}");
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let text = sample("v2_small.key");
    let right = passphrase(SMALL);
    assert!(opens(text.as_bytes(), &right));
    let mut bytes = text.clone().into_bytes();
    for place in 0..bytes.len() {
        let before = bytes[place];
        for other in (0..=u8::MAX).filter(|other| *other != before) {
            bytes[place] = other;
            assert!(!opens(&bytes, &right), "byte {place} as {other:#04x}");
        }
        bytes[place] = before;
    }
}

#[test]
fn every_other_length_and_order_is_refused() {
    let text = sample("v2_small.key");
    let right = passphrase(SMALL);
    let bytes = text.as_bytes();
    for place in 0..bytes.len() {
        assert!(!opens(&bytes[..place], &right), "the first {place} bytes");
        let without = [&bytes[..place], &bytes[place + 1..]].concat();
        assert!(!opens(&without, &right), "without byte {place}");
    }
    for place in 0..=bytes.len() {
        for extra in *b"\n\r\t 0+-a\0" {
            let with = [&bytes[..place], &[extra], &bytes[place..]].concat();
            assert!(!opens(&with, &right), "{extra:#04x} before byte {place}");
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    for first in 0..lines.len() {
        for second in 0..lines.len() {
            let mut other = lines.clone();
            if first == second {
                other.insert(first, lines[first]);
            } else {
                other.swap(first, second);
            }
            assert!(!opens(format!("{}\n", other.join("\n")).as_bytes(), &right));
        }
    }
    let windows = text.replace('\n', "\r\n");
    assert!(!opens(windows.as_bytes(), &right));
}

#[test]
fn what_the_tag_covers_cannot_be_taken_from_another_file() {
    // Two files of one passphrase: no line of one can stand in the other.
    let right = passphrase("p");
    let (one, other) = (Secret::from_seed(&[1; 32]), Secret::from_seed(&[2; 32]));
    let dear = Cost { memory_kib: 16, ..CHEAP };
    let (salt, nonce) = ([1; SALT_BYTES], [1; NONCE_BYTES]);
    let one = Sealed::seal_with(&one, &right, CHEAP, salt, nonce).unwrap();
    let other = Sealed::seal_with(&other, &right, dear, [2; SALT_BYTES], [2; NONCE_BYTES]).unwrap();
    let mixed = [
        Sealed { public: other.public, ..one.clone() },
        Sealed { cost: other.cost, ..one.clone() },
        Sealed { salt: other.salt, ..one.clone() },
        Sealed { nonce: other.nonce, ..one.clone() },
        Sealed { sealed: other.sealed, ..one.clone() },
    ];
    assert!(one.open(&right).is_ok() && other.open(&right).is_ok());
    for mixed in mixed {
        assert_eq!(mixed.open(&right).unwrap_err(), Error::Closed);
    }
}

#[test]
fn a_file_that_names_another_key_than_it_holds_is_refused() {
    // Only who knows the passphrase can make one: the tag is right.
    let right = passphrase("p");
    let secret = Secret::from_seed(&[1; 32]);
    let mut lying = Sealed::seal(&secret, &right, CHEAP).unwrap();
    lying.public = Secret::from_seed(&[2; 32]).public();
    let cipher = lying.cipher(&right).unwrap();
    let mut seed = secret.seed();
    let nonce = XNonce::from(lying.nonce);
    let tag = cipher
        .encrypt_inout_detached(&nonce, lying.head().as_bytes(), (&mut seed[..]).into())
        .unwrap();
    lying.sealed[..SEED_BYTES].copy_from_slice(&*seed);
    lying.sealed[SEED_BYTES..].copy_from_slice(&tag);
    assert_eq!(lying.open(&right).unwrap_err(), Error::Closed);
}

#[test]
fn hostile_costs_are_refused_by_the_reader() {
    let text = sample("v2_small.key");
    let with = |cost: &str| Sealed::parse(&text.replace("memory_kib=16 passes=2 lanes=2", cost));
    for allowed in [
        "memory_kib=8 passes=1 lanes=1",
        "memory_kib=1048576 passes=16 lanes=16",
        "memory_kib=128 passes=1 lanes=16",
    ] {
        assert!(with(allowed).is_ok(), "{allowed}");
    }
    for hostile in [
        "memory_kib=0 passes=1 lanes=1",
        "memory_kib=7 passes=1 lanes=1",
        "memory_kib=127 passes=1 lanes=16",
        "memory_kib=1048577 passes=1 lanes=1",
        "memory_kib=4294967295 passes=1 lanes=1",
        "memory_kib=64 passes=0 lanes=1",
        "memory_kib=64 passes=17 lanes=1",
        "memory_kib=64 passes=4294967295 lanes=1",
        "memory_kib=64 passes=1 lanes=0",
        "memory_kib=1048576 passes=1 lanes=17",
        "memory_kib=1048576 passes=1 lanes=16777215",
        "memory_kib=1048576 passes=1 lanes=4294967295",
    ] {
        assert!(with(hostile).unwrap_err().contains("out of bounds"), "{hostile}");
    }
    for broken in [
        "memory_kib=4294967296 passes=1 lanes=1",
        "memory_kib=-8 passes=1 lanes=1",
        "memory_kib=+8 passes=1 lanes=1",
        "memory_kib=08 passes=1 lanes=1",
        "memory_kib= passes=1 lanes=1",
        "memory_kib=8 lanes=1 passes=1",
        "memory_kib=8 passes=1",
        "memory_kib=8 passes=1 lanes=1 lanes=1",
    ] {
        assert!(with(broken).unwrap_err().contains("is damaged"), "{broken}");
    }
}
