//! Published vectors, and the verdict the rule implies, worked out without the oracle.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity, IsIdentity};
use serde::Deserialize;
use sha2::{Digest, Sha512};

use crate::{Item, Verdict};

/// Wycheproof: <https://github.com/C2SP/wycheproof>, testvectors_v1/ed25519_test.json.
const WYCHEPROOF: &str = include_str!("../../../vectors/wycheproof-ed25519_test.json");
/// CCTV: <https://github.com/C2SP/CCTV>, ed25519/ed25519vectors.json.
const CCTV: &str = include_str!("../../../vectors/cctv-ed25519vectors.json");
/// "Taming the many EdDSAs", 2020: <https://github.com/novifinancial/ed25519-speccheck>,
/// cases.json.
const SPECCHECK: &str = include_str!("../../../vectors/speccheck-cases.json");
/// ZIP 215: the 14 x 14 small-order encodings of
/// <https://github.com/ZcashFoundation/ed25519-zebra>.
const SMALL_ORDER: &str = include_str!("../../../vectors/zip215-smallorder-196.json");

/// The group order L = 2^252 + 27742317777372353535851937790883648493, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// One owned item with its name and the verdict it must get.
#[derive(Clone, Debug)]
pub(super) struct Vector {
    pub(super) name: String,
    pub(super) key: [u8; 32],
    pub(super) message: Vec<u8>,
    pub(super) signature: [u8; 64],
    pub(super) expected: Verdict,
}

impl Vector {
    /// Makes a vector whose verdict is the implied one.
    pub(super) fn new(name: String, key: [u8; 32], message: Vec<u8>, signature: [u8; 64]) -> Self {
        let expected = implied(&key, &message, &signature);
        Self { name, key, message, signature, expected }
    }

    pub(super) fn item(&self) -> Item<'_> {
        Item { key: &self.key, message: &self.message, signature: &self.signature }
    }
}

/// The rule, by other means than the oracle's: encodings by decoding and encoding again, S by
/// comparing bytes, k as a number of 512 bits that is never reduced, and no variable-time
/// multiplication.
pub(super) fn implied(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Verdict {
    let (commitment, response) = signature.split_at(32);
    let response: [u8; 32] = response.try_into().unwrap();
    let (Some(key_point), Some(commitment_point)) =
        (large_order_point(key), large_order_point(commitment.try_into().unwrap()))
    else {
        return Verdict::Invalid;
    };
    if response.iter().rev().ge(ORDER.iter().rev()) {
        return Verdict::Invalid;
    }
    let challenge = Sha512::digest([commitment, key, message].concat());
    let sum = ED25519_BASEPOINT_POINT * Scalar::from_bytes_mod_order(response)
        - multiply_unreduced(&challenge, key_point)
        - commitment_point;
    Verdict::of(sum.mul_by_cofactor().is_identity())
}

fn large_order_point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    let point = CompressedEdwardsY(*bytes).decompress()?;
    (point.compress().to_bytes() == *bytes && !point.is_small_order()).then_some(point)
}

/// Multiplies by a little-endian number of any length, doubling and adding.
fn multiply_unreduced(number: &[u8], point: EdwardsPoint) -> EdwardsPoint {
    let bits = number.iter().rev().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    bits.fold(EdwardsPoint::identity(), |sum, bit| {
        let doubled = sum + sum;
        if bit == 1 { doubled + point } else { doubled }
    })
}

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[derive(Deserialize)]
struct CctvCase {
    number: u32,
    key: String,
    sig: String,
    msg: String,
    flags: Option<Vec<String>>,
}

/// The 914 vectors of CCTV, each with the verdict that its flags imply.
///
/// The flags say which allowances a rule needs to accept. Ours makes two of them, for the factor 8:
/// components of low order beside a large one, and a residue of low order.
pub(super) fn cctv() -> Vec<Vector> {
    let cases: Vec<CctvCase> = serde_json::from_str(CCTV).unwrap();
    assert_eq!(cases.len(), 914);
    let allowed = ["low_order_component_A", "low_order_component_R", "low_order_residue"];
    let forbidden =
        ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R", "reencoded_k"];
    let vector = |case: CctvCase| {
        let flags = case.flags.unwrap_or_default();
        assert!(flags.iter().all(|flag| {
            allowed.contains(&flag.as_str()) || forbidden.contains(&flag.as_str())
        }));
        let expected = Verdict::of(!flags.iter().any(|flag| forbidden.contains(&flag.as_str())));
        Vector {
            name: format!("CCTV {}", case.number),
            key: bytes(&case.key),
            message: case.msg.into_bytes(),
            signature: bytes(&case.sig),
            expected,
        }
    };
    cases.into_iter().map(vector).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wycheproof {
    test_groups: Vec<WycheproofGroup>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WycheproofGroup {
    public_key: WycheproofKey,
    tests: Vec<WycheproofCase>,
}

#[derive(Deserialize)]
struct WycheproofKey {
    pk: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WycheproofCase {
    tc_id: u32,
    msg: String,
    sig: String,
    result: String,
}

/// The Wycheproof vectors whose signature has 64 bytes, each with Wycheproof's own verdict: 139 of
/// 151.
///
/// The rule differs from Wycheproof's nowhere. The other 12 have signatures of another length,
/// which an item cannot hold, and Wycheproof calls every one of them invalid.
pub(super) fn wycheproof() -> Vec<Vector> {
    let file: Wycheproof = serde_json::from_str(WYCHEPROOF).unwrap();
    let mut vectors = Vec::new();
    let mut other_lengths = 0;
    for group in file.test_groups {
        for case in group.tests {
            if case.sig.len() != 128 {
                assert_eq!(case.result, "invalid", "Wycheproof {}", case.tc_id);
                other_lengths += 1;
                continue;
            }
            vectors.push(Vector {
                name: format!("Wycheproof {}", case.tc_id),
                key: bytes(&group.public_key.pk),
                message: hex::decode(case.msg).unwrap(),
                signature: bytes(&case.sig),
                expected: Verdict::of(case.result == "valid"),
            });
        }
    }
    assert_eq!((vectors.len(), other_lengths), (139, 12));
    vectors
}

#[derive(Deserialize)]
struct SpeccheckCase {
    message: String,
    pub_key: String,
    signature: String,
}

/// The 12 cases of the paper, each with the verdict that its description in the paper implies.
///
/// Source: Chalkias, Garillot, Nikolaenko: "Taming the many EdDSAs", section 5 and table 5.
pub(super) fn speccheck() -> Vec<Vector> {
    let accepted = [
        false, // 0: A and R of small order
        false, // 1: A of small order
        false, // 2: R of small order
        true,  // 3: A and R mixed; holds with and without the factor 8
        true,  // 4: A and R mixed; holds only with the factor 8
        true,  // 5: A mixed; holds with the factor 8, but not where 8k is reduced first
        false, // 6: S above L
        false, // 7: S far above L
        false, // 8: R not canonical
        false, // 9: R not canonical, reduced for the hash
        false, // 10: A not canonical
        false, // 11: A not canonical, reduced for the hash
    ];
    let cases: Vec<SpeccheckCase> = serde_json::from_str(SPECCHECK).unwrap();
    assert_eq!(cases.len(), accepted.len());
    let vector = |(number, (case, accepted)): (usize, (SpeccheckCase, bool))| Vector {
        name: format!("speccheck {number}"),
        key: bytes(&case.pub_key),
        message: hex::decode(case.message).unwrap(),
        signature: bytes(&case.signature),
        expected: Verdict::of(accepted),
    };
    cases.into_iter().zip(accepted).enumerate().map(vector).collect()
}

#[derive(Deserialize)]
struct SmallOrderCase {
    pk: String,
    sig: String,
    msg: String,
    zip215: bool,
}

/// The 196 pairs of small-order A and R: ZIP 215 accepts them all, the rule none.
pub(super) fn small_order() -> Vec<Vector> {
    let cases: Vec<SmallOrderCase> = serde_json::from_str(SMALL_ORDER).unwrap();
    assert_eq!(cases.len(), 196);
    let vector = |(number, case): (usize, SmallOrderCase)| {
        assert!(case.zip215);
        Vector {
            name: format!("ZIP 215 {number}"),
            key: bytes(&case.pk),
            message: hex::decode(case.msg).unwrap(),
            signature: bytes(&case.sig),
            expected: Verdict::Invalid,
        }
    };
    cases.into_iter().enumerate().map(vector).collect()
}

/// All published vectors, 1,261 in number.
pub(super) fn published() -> Vec<Vector> {
    [cctv(), wycheproof(), speccheck(), small_order()].concat()
}

#[test]
fn published_verdicts_are_those_that_the_rule_implies() {
    let vectors = published();
    for vector in &vectors {
        let implied = implied(&vector.key, &vector.message, &vector.signature);
        assert_eq!(implied, vector.expected, "{}", vector.name);
    }
    let valid = vectors.iter().filter(|vector| vector.expected.is_valid()).count();
    assert!(valid > 100, "{valid} valid: the vectors test both sides");
}
