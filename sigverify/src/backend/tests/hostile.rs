//! Items made by hand: valid ones, corrupted ones, and keys and signatures of mixed order.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha512};

use super::vectors::Vector;
use crate::Verdict;

fn signing_key(number: usize) -> SigningKey {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&u64::try_from(number).unwrap().to_le_bytes());
    SigningKey::from_bytes(&seed)
}

pub(super) fn signed(number: usize, message: Vec<u8>) -> Vector {
    let key = signing_key(number);
    Vector {
        name: format!("signed {number}"),
        key: key.verifying_key().to_bytes(),
        signature: key.sign(&message).to_bytes(),
        message,
        expected: Verdict::Valid,
    }
}

/// Valid signatures, of which every third shares its key with others.
pub(super) fn valid(count: usize) -> Vec<Vector> {
    let signer = |number| {
        if number % 3 == 0 { 1_000_000 + number % 7 } else { number }
    };
    (0..count).map(|number| signed(signer(number), vec![7; 40 + number % 30])).collect()
}

/// A valid signature over a message of each length.
pub(super) fn lengths(lengths: impl Iterator<Item = usize>) -> Vec<Vector> {
    lengths.map(|length| signed(length, vec![0xa5; length])).collect()
}

/// Signatures with one bit changed in key, R, S or message; the verdict is worked out for each.
pub(super) fn corrupted() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for number in 0..64 {
        let Vector { mut key, mut message, mut signature, .. } = signed(number, vec![9; 47]);
        let (byte, bit) = (number * 7 % 32, 1 << (number % 8));
        match number % 4 {
            0 => key[byte] ^= bit,
            1 => signature[byte] ^= bit,
            2 => signature[32 + byte] ^= bit,
            _ => message[byte] ^= bit,
        }
        vectors.push(Vector::new(format!("corrupted {number}"), key, message, signature));
    }
    assert!(vectors.iter().all(|vector| !vector.expected.is_valid()));
    vectors
}

/// Signs with a known secret under the key a·B + T and with R = r·B + T'. Its plain error is of
/// small order.
pub(super) fn mixed(
    number: u64,
    key_torsion: usize,
    commitment_torsion: usize,
    error: u64,
) -> Vector {
    let secret = Scalar::from(0x1234_5678_9abc_def0_u64.wrapping_add(number)).invert();
    let nonce = Scalar::from(0x0fed_cba9_8765_4321_u64.wrapping_add(number)).invert();
    let key = (ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[key_torsion]).compress();
    let commitment =
        (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[commitment_torsion]).compress();
    let message = number.to_le_bytes().to_vec();
    let hash = Sha512::new()
        .chain_update(commitment.as_bytes())
        .chain_update(key.as_bytes())
        .chain_update(&message)
        .finalize();
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.into());
    let response = nonce + challenge * secret + Scalar::from(error);
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(commitment.as_bytes());
    signature[32..].copy_from_slice(response.as_bytes());
    Vector {
        name: format!("mixed {number}: A + {key_torsion}, R + {commitment_torsion}, S + {error}"),
        key: key.to_bytes(),
        message,
        signature,
        // By construction: 8·(S·B − k·A − R) = 8·error·B.
        expected: Verdict::of(error == 0),
    }
}

/// Every pair of torsion parts in A and R, several challenges each: valid, and once more with a
/// wrong S.
pub(super) fn mixed_orders() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for number in 0..128 {
        let index = usize::try_from(number).unwrap();
        vectors.push(mixed(number, index % 8, index / 8 % 8, 0));
        if number % 4 == 0 {
            vectors.push(mixed(number, index / 4 % 8, index / 8 % 8, 1 + number));
        }
    }
    vectors
}

/// Two signatures under one key, one with S too large by d and one with S too small by d.
pub(super) fn opposite_errors() -> (Vector, Vector) {
    let shift = |number: usize, by: Scalar| {
        let key = signing_key(77);
        let message = vec![1, number.to_le_bytes()[0]];
        let mut signature = key.sign(&message).to_bytes();
        let response: [u8; 32] = signature[32..].try_into().unwrap();
        let response = Scalar::from_canonical_bytes(response).unwrap() + by;
        signature[32..].copy_from_slice(response.as_bytes());
        let key = key.verifying_key().to_bytes();
        let vector = Vector::new(format!("opposite {number}"), key, message, signature);
        assert!(!vector.expected.is_valid());
        vector
    };
    (shift(1, Scalar::from(5_u64)), shift(2, -Scalar::from(5_u64)))
}
