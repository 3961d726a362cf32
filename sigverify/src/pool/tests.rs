//! Tests of the verifier: cutting into chunks, threads, options and their errors.

use std::io;
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha512};

use super::*;

/// Owned items, so that tests can change bytes.
fn signed(count: usize) -> Vec<([u8; 32], Vec<u8>, [u8; 64])> {
    (0..count)
        .map(|index| {
            let key = SigningKey::from_bytes(&[u8::try_from(index % 37).unwrap(); 32]);
            let message = format!("message {index}").into_bytes();
            (key.verifying_key().to_bytes(), message.clone(), key.sign(&message).to_bytes())
        })
        .collect()
}

fn items(owned: &[([u8; 32], Vec<u8>, [u8; 64])]) -> Vec<Item<'_>> {
    owned.iter().map(|(key, message, signature)| Item { key, message, signature }).collect()
}

fn verifier(threads: usize) -> Verifier {
    Verifier::new(&Options { backend: None, threads }).unwrap()
}

#[test]
fn any_count_on_any_number_of_threads_gets_its_verdicts_in_order() {
    let mut owned = signed(3 * CHUNK_ITEMS_MAX + 5);
    for index in (0..owned.len()).filter(|index| index % 613 == 7) {
        owned[index].2[3] ^= 1;
    }
    let items = items(&owned);
    let expected: Vec<_> = (0..items.len()).map(|index| Verdict::of(index % 613 != 7)).collect();
    for threads in [1, 2, 5] {
        let verifier = verifier(threads);
        for count in [0, 1, 2, 63, 64, 65, 127, 128, 129, 1_024, 1_025, 2_049, items.len()] {
            // The worst start: whatever is not overwritten would be wrong.
            let mut verdicts: Vec<_> =
                expected[..count].iter().map(|verdict| Verdict::of(!verdict.is_valid())).collect();
            verifier.verify_many_into(&items[..count], &mut verdicts);
            assert_eq!(verdicts, expected[..count], "{count} items on {threads} threads");
        }
        assert_eq!(verifier.verify_many(&items), expected);
    }
}

#[test]
fn the_first_bad_item_is_named() {
    let mut owned = signed(300);
    let verifier = verifier(2);
    assert_eq!(verifier.verify_all(&items(&owned)), Ok(()));
    assert_eq!(verifier.verify_all(&[]), Ok(()));
    for index in [299, 150, 149, 64, 1, 0] {
        owned[index].1.push(b'!');
        assert_eq!(verifier.verify_all(&items(&owned)), Err(index));
    }
}

#[test]
fn a_shared_verifier_answers_many_callers_at_once() {
    let verifier = Arc::new(verifier(2));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let verifier = Arc::clone(&verifier);
            std::thread::spawn(move || {
                let mut owned = signed(200);
                owned[caller * 31].2[40] ^= 4;
                (verifier.verify_all(&items(&owned)), caller * 31)
            })
        })
        .collect();
    for caller in callers {
        let (found, expected) = caller.join().unwrap();
        assert_eq!(found, Err(expected));
    }
}

#[test]
fn chunks_cover_the_items_evenly_within_their_limits() {
    for threads in [1, 2, 3, 8, 64, THREADS_MAX] {
        for items in (0..5_000).step_by(7).chain([100_000, 1_000_003]) {
            let chunk = chunk_items(items, threads);
            assert!(chunk <= CHUNK_ITEMS_MAX);
            assert!(chunk >= CHUNK_ITEMS_MIN);
            let rounds = items.div_ceil(chunk).div_ceil(threads);
            if threads > 1 && chunk > CHUNK_ITEMS_MIN {
                let longest = rounds * chunk;
                assert!(longest <= items / threads + rounds, "{items} items, {threads} threads");
            }
        }
    }
    assert_eq!(chunk_items(2_500, 2), 625, "not 1,024 + 1,024 + 452");
    assert_eq!(chunk_items(1_024, 2), 512);
    assert_eq!(chunk_items(100, 2), 128);
    assert_eq!(chunk_items(1_024, 1), 1_024);
}

#[test]
fn threads_have_names_and_one_thread_is_the_callers_own() {
    assert!(verifier(1).pool.is_none());
    let two = verifier(2);
    let names = two.pool.as_ref().unwrap().broadcast(|context| {
        let name = std::thread::current().name().map(str::to_owned);
        assert_eq!(name, Some(format!("sigverify-{}", context.index())));
    });
    assert_eq!(names.len(), 2);
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(verifier(0).threads, cores.min(THREADS_MAX));
    assert_eq!(Verifier::new(&Options::default()).unwrap().threads, cores.min(THREADS_MAX));
}

#[test]
fn the_backend_is_chosen_by_name_or_by_the_machine() {
    let forced = Options { backend: Some("portable".to_owned()), threads: 1 };
    let verifier = Verifier::new(&forced).unwrap();
    assert_eq!(verifier.backend().name, "portable");
    assert_eq!(verifier.backend().to_string(), "portable (asked for by name)");
    assert!(!self::verifier(1).backend().reason.is_empty());
    let unknown = Options { backend: Some("quantum".to_owned()), threads: 1 };
    let error = Verifier::new(&unknown).err().unwrap();
    assert!(matches!(error, Error::BackendUnknown { .. }));
}

#[test]
fn too_many_threads_are_an_error() {
    let options = Options { backend: None, threads: THREADS_MAX + 1 };
    let error = Verifier::new(&options).err().unwrap();
    assert!(matches!(error, Error::ThreadsTooMany { threads } if threads == THREADS_MAX + 1));
}

#[test]
fn a_machine_without_threads_is_an_error() {
    let built = threads_builder(2)
        .spawn_handler(|_| Err(io::Error::from(io::ErrorKind::WouldBlock)))
        .build();
    let error = refused(2, built.err().unwrap());
    assert!(matches!(error, Error::ThreadsRefused { threads: 2, .. }));
    assert!(error.to_string().starts_with("cannot start 2 signature threads: "));
}

#[test]
#[should_panic(expected = "one verdict for each item")]
fn lengths_that_differ_are_the_callers_mistake() {
    let owned = signed(2);
    verifier(1).verify_many_into(&items(&owned), &mut [Verdict::Invalid]);
}

#[test]
fn challenges_are_those_of_sha_512_on_every_backend() {
    let owned: Vec<_> = (0..300)
        .map(|length| {
            let byte = u8::try_from(length % 251).unwrap();
            ([byte; 32], vec![byte ^ 0x5a; 5 * length], [!byte; 64])
        })
        .collect();
    let items = items(&owned);
    let expected: Vec<[u8; 64]> = owned
        .iter()
        .map(|(key, message, signature)| {
            Sha512::digest([&signature[..32], key, message].concat()).into()
        })
        .collect();
    for name in crate::BACKENDS {
        let options = Options { backend: Some((*name).to_owned()), threads: 1 };
        let Ok(verifier) = Verifier::new(&options) else {
            println!("skipped: this machine does not run {name}");
            continue;
        };
        for count in [0, 1, 7, 8, 9, 300] {
            assert_eq!(verifier.challenges(&items[..count]), expected[..count], "{name}");
        }
    }
}

#[test]
fn a_verifier_that_forgets_judges_as_before() {
    let mut owned = signed(400);
    owned[17].2[40] ^= 1;
    let items = items(&owned);
    let mut verifier = verifier(2);
    let before = verifier.verify_many(&items);
    for _ in 0..3 {
        verifier.forget();
        assert_eq!(verifier.verify_many(&items), before);
    }
}

#[test]
fn a_source_answers_for_itself_alone() {
    let mut owned = signed(CHUNK_ITEMS_MAX);
    for item in owned.iter_mut().skip(5).step_by(10) {
        item.2[40] ^= 1;
    }
    let good = signed(100);
    let verifier = verifier(1);
    let (honest, forger) = (Source::new(), Source::new());
    let verdicts = verifier.verify_from(&forger, &items(&owned));
    let expected: Vec<_> = (0..owned.len()).map(|index| Verdict::of(index % 10 != 5)).collect();
    assert_eq!(verdicts, expected);
    assert_eq!(verifier.verify_from(&honest, &items(&good)), [Verdict::Valid; 100]);
    assert!(forger.is_suspected());
    assert!(!honest.is_suspected());
    assert!(!verifier.source.is_suspected(), "nor those who name none");
    honest.count(&[Verdict::Valid, Verdict::Invalid]);
    assert!(honest.is_suspected(), "a caller may count for it");
}

#[test]
fn callers_at_once_get_their_own_verdicts() {
    let mut owned = signed(2_200);
    for index in (0..owned.len()).filter(|index| index % 41 == 3) {
        owned[index].1.push(b'!');
    }
    let items = items(&owned);
    for name in crate::BACKENDS {
        for threads in [1, 3] {
            let options = Options { backend: Some((*name).to_owned()), threads };
            let Ok(verifier) = Verifier::new(&options) else { continue };
            std::thread::scope(|scope| {
                for caller in 0..4 {
                    let (verifier, items) = (&verifier, &items);
                    scope.spawn(move || {
                        for size in [1, 3, 40, 129, 700, 1_100, 2_200] {
                            let first = (caller * 531) % (items.len() - size + 1);
                            let items = &items[first..first + size];
                            let mut verdicts = vec![Verdict::Invalid; size];
                            if caller % 2 == 0 {
                                verifier.verify_each_into(items, &mut verdicts);
                            } else {
                                verifier.verify_many_into(items, &mut verdicts);
                            }
                            let expected = |index: usize| Verdict::of((first + index) % 41 != 3);
                            let expected: Vec<_> = (0..size).map(expected).collect();
                            assert_eq!(verdicts, expected, "{name}, {size} from {first}");
                        }
                    });
                }
            });
        }
    }
}

#[test]
fn long_messages_among_short_ones_are_judged_like_them() {
    let mut owned = signed(70);
    for index in (3..owned.len()).step_by(8) {
        let key = SigningKey::from_bytes(&[u8::try_from(index).unwrap(); 32]);
        let message = vec![7; 200 * index];
        let signature = key.sign(&message).to_bytes();
        owned[index] = (key.verifying_key().to_bytes(), message, signature);
    }
    owned[11].1[2_000] ^= 1;
    owned[12].1[0] ^= 1;
    let expected: Vec<_> = (0..70).map(|index| Verdict::of(!(11..=12).contains(&index))).collect();
    for name in crate::BACKENDS {
        let options = Options { backend: Some((*name).to_owned()), threads: 1 };
        let Ok(verifier) = Verifier::new(&options) else { continue };
        assert_eq!(verifier.verify_many(&items(&owned)), expected, "{name}");
        assert_eq!(verifier.verify_many(&items(&owned[11..12])), expected[11..12], "{name}");
    }
}
