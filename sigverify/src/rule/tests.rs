//! Tests of the oracle's parts against curve25519-dalek's primitives, which share no table.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

use super::*;

/// All that the rule asks of an encoding, by decoding and encoding again.
fn allowed_by_primitives(bytes: &[u8; 32]) -> bool {
    CompressedEdwardsY(*bytes)
        .decompress()
        .is_some_and(|point| point.compress().to_bytes() == *bytes && !point.is_small_order())
}

/// 2^255 − 19 + `offset`, with the sign bit as given.
fn near_prime(offset: i8, sign: bool) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed_u8.wrapping_add_signed(offset);
    bytes[31] = if sign { 0xff } else { 0x7f };
    bytes
}

/// A small number as an encoding, with the sign bit as given.
fn small(number: u8, sign: bool) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = number;
    bytes[31] = if sign { 0x80 } else { 0 };
    bytes
}

#[test]
fn the_table_holds_the_small_orders_and_nothing_else() {
    let mut found = Vec::new();
    for point in EIGHT_TORSION {
        let mut bytes = point.compress().to_bytes();
        for sign in [0, 0x80] {
            bytes[31] = bytes[31] & 0x7f | sign;
            assert!(!encoding_is_allowed(&bytes), "{}", hex::encode(bytes));
        }
        bytes[31] &= 0x7f;
        found.push(bytes);
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), SMALL_ORDER_Y.len());
}

#[test]
fn encodings_around_zero_and_around_the_prime_follow_the_primitives() {
    let mut decoded = 0;
    for sign in [false, true] {
        let near = (-100..=18).map(|offset| near_prime(offset, sign));
        for bytes in near.chain((0..=255).map(|number| small(number, sign))) {
            let expected = allowed_by_primitives(&bytes);
            assert_eq!(decode_point(&bytes).is_some(), expected, "{}", hex::encode(bytes));
            decoded += usize::from(expected);
        }
        assert!(encoding_is_allowed(&near_prime(-2, sign)), "p − 2 is a plain number");
        for offset in -1..=18 {
            assert!(!encoding_is_allowed(&near_prime(offset, sign)), "p − 1 is small, then y >= p");
        }
    }
    assert!(decoded > 100, "about half of all y are on the curve");
}

#[test]
fn one_smaller_byte_anywhere_puts_y_below_the_prime() {
    for index in 0..32 {
        let mut bytes = near_prime(0, false);
        bytes[index] -= 1;
        let small_order = index == 0;
        assert_eq!(encoding_is_allowed(&bytes), !small_order, "byte {index}");
    }
}

#[test]
fn the_response_must_be_below_the_order() {
    let signing = SigningKey::from_bytes(&[9; 32]);
    let key = signing.verifying_key().to_bytes();
    let signature = signing.sign(b"order").to_bytes();
    assert!(verify_one(&Item { key: &key, message: b"order", signature: &signature }).is_valid());
    // S + L gives the same point S·B, and must be refused all the same. L is one more than the
    // scalar −1.
    let mut carry = 1;
    let mut raised = signature;
    for (byte, order) in raised[32..].iter_mut().zip((-Scalar::ONE).to_bytes()) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    let item = Item { key: &key, message: b"order", signature: &raised };
    assert!(!verify_one(&item).is_valid());
}

#[test]
fn every_flipped_bit_makes_an_item_invalid() {
    let signing = SigningKey::from_bytes(&[10; 32]);
    let key = signing.verifying_key().to_bytes();
    let message = *b"a message";
    let signature = signing.sign(&message).to_bytes();
    assert!(verify_one(&Item { key: &key, message: &message, signature: &signature }).is_valid());
    for bit in 0..8 * (32 + 64 + message.len()) {
        let (mut key, mut signature, mut message) = (key, signature, message);
        let mask = 1 << (bit % 8);
        match bit / 8 {
            index @ 0..32 => key[index] ^= mask,
            index @ 32..96 => signature[index - 32] ^= mask,
            index => message[index - 96] ^= mask,
        }
        let item = Item { key: &key, message: &message, signature: &signature };
        assert!(!verify_one(&item).is_valid(), "bit {bit}");
    }
}

#[test]
fn the_first_vectors_of_the_standard_are_valid() {
    // RFC 8032, section 7.1, tests 1 and 2.
    let vectors = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ];
    for (key, message, signature) in vectors {
        let key = hex::decode(key).unwrap().try_into().unwrap();
        let signature = hex::decode(signature).unwrap().try_into().unwrap();
        let message = hex::decode(message).unwrap();
        let item = Item { key: &key, message: &message, signature: &signature };
        assert!(verify_one(&item).is_valid());
        assert!(key_is_sound(&key));
    }
}

#[test]
fn a_sound_key_is_canonical_and_has_no_torsion() {
    let point = ED25519_BASEPOINT_POINT * Scalar::from(0x00c0_ffee_u64);
    assert!(key_is_sound(&point.compress().to_bytes()));
    for (order, torsion) in EIGHT_TORSION.iter().enumerate().skip(1) {
        let mixed = (point + torsion).compress().to_bytes();
        assert!(decode_point(&mixed).is_some(), "mixed order {order} is allowed for signatures");
        assert!(!key_is_sound(&mixed), "mixed order {order} is not for validators");
        assert!(!key_is_sound(&torsion.compress().to_bytes()));
    }
    assert!(!key_is_sound(&[0; 32]), "small order");
    assert!(!key_is_sound(&small(1, false)), "the identity");
    assert!(!key_is_sound(&small(1, true)), "a sign bit on zero");
    assert!(!key_is_sound(&near_prime(3, false)), "y = 3 written as p + 3");
    assert!(!key_is_sound(&small(2, false)), "not on the curve");
}

proptest! {
    #[test]
    fn random_encodings_follow_the_primitives(bytes: [u8; 32]) {
        prop_assert_eq!(decode_point(&bytes).is_some(), allowed_by_primitives(&bytes));
    }

    #[test]
    fn junk_never_panics_and_never_passes(
        key: [u8; 32],
        halves: [[u8; 32]; 2],
        message: Vec<u8>,
    ) {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&halves[0]);
        signature[32..].copy_from_slice(&halves[1]);
        let item = Item { key: &key, message: &message, signature: &signature };
        prop_assert_eq!(verify_one(&item), Verdict::Invalid);
    }
}
