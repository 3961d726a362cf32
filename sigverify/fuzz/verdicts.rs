//! Any bytes as a batch of items: every backend and mode says what the oracle says.
//!
//! Shape of the input: one byte for the number of items, then for each one byte, 32 and 64 bytes, and
//! a message; what is missing repeats from the start. The byte's low seven bits are the message's
//! length. With the high bit the others are key and signature; without it they are the seed of a key
//! that signs, and a place and a mask by which the signed item is changed.

#![no_main]

use std::sync::LazyLock;

use ed25519_dalek::{Signer, SigningKey};
use libfuzzer_sys::fuzz_target;
use sigverify::{BACKENDS, Item, Options, Verdict, Verifier, verify_one};

static VERIFIERS: LazyLock<Vec<Verifier>> = LazyLock::new(|| {
    let make = |name: &&str| {
        Verifier::new(&Options { backend: Some((*name).to_owned()), threads: 1 }).ok()
    };
    BACKENDS.iter().filter_map(make).collect()
});

fuzz_target!(|bytes: &[u8]| {
    if bytes.is_empty() {
        return;
    }
    let mut stream = bytes.iter().copied().cycle();
    let mut take = |count: usize| -> Vec<u8> { stream.by_ref().take(count).collect() };
    let count = usize::from(take(1)[0] % 40);
    let owned: Vec<(Vec<u8>, [u8; 32], [u8; 64])> = (0..count)
        .map(|_| {
            let kind = take(1)[0];
            let key: [u8; 32] = take(32).try_into().expect("32 bytes were taken");
            let signature: [u8; 64] = take(64).try_into().expect("64 bytes were taken");
            let message = take(usize::from(kind & 0x7f));
            if kind & 0x80 != 0 {
                return (message, key, signature);
            }
            let signer = SigningKey::from_bytes(&key);
            let (place, mask) = (usize::from(signature[0]) % 96, signature[1]);
            let mut key = signer.verifying_key().to_bytes();
            let mut signature = signer.sign(&message).to_bytes();
            match place {
                0..32 => key[place] ^= mask,
                _ => signature[place - 32] ^= mask,
            }
            (message, key, signature)
        })
        .collect();
    let items: Vec<Item<'_>> = owned
        .iter()
        .map(|(message, key, signature)| Item { key, message, signature })
        .collect();
    let expected: Vec<Verdict> = items.iter().map(verify_one).collect();
    for verifier in VERIFIERS.iter() {
        assert_eq!(verifier.verify_many(&items), expected, "{}", verifier.backend());
        let mut each = vec![Verdict::Invalid; count];
        verifier.verify_each_into(&items, &mut each);
        assert_eq!(each, expected, "each on {}", verifier.backend());
    }
});
