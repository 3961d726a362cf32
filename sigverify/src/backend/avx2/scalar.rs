//! Eight scalars modulo the group order L, one after the other: curve25519-dalek's arithmetic.
//!
//! Half a microsecond of an item's four or more: lanes would not gain much here. The other backend's
//! factors R are one.

use curve25519_dalek::scalar::Scalar;

use super::digits::Digits;
use super::vector::{Lanes, Mask, store};

/// One number for each lane, in words of 64 bits.
#[derive(Clone, Copy)]
pub(super) struct Scalars([[u64; 5]; 8]);

/// The low 52 bits.
const MASK_52: u64 = (1 << 52) - 1;

/// The words of a number below 2^512 as bytes.
fn bytes<const WORDS: usize, const BYTES: usize>(words: &[u64; WORDS]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    bytes
}

fn low_word(wide: u128) -> u64 {
    u64::try_from(wide & u128::from(u64::MAX)).expect("it was cut to 64 bits")
}

/// A number modulo L.
fn reduce(words: &[u64; 5]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&bytes(words))
}

fn words(scalar: &Scalar) -> [u64; 5] {
    let mut words = [0; 5];
    for (word, chunk) in words.iter_mut().zip(scalar.as_bytes().as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

impl Scalars {
    vector! {
        /// From 64-bit words, the lowest first.
        pub(super) fn from_words(words: [Lanes; 4]) -> Self {
            let [w0, w1, w2, w3] = words.map(|word| store(word));
            Self(std::array::from_fn(|lane| [w0[lane], w1[lane], w2[lane], w3[lane], 0]))
        }
    }

    vector! {
        /// A 512-bit number modulo L.
        pub(super) fn from_wide_times_r(words: [Lanes; 8]) -> Self {
            let rows = words.map(|word| store(word));
            Self(std::array::from_fn(|lane| {
                let wide: [u64; 8] = std::array::from_fn(|word| rows[word][lane]);
                self::words(&Scalar::from_bytes_mod_order_wide(&bytes(&wide)))
            }))
        }
    }

    /// `self·other`.
    pub(super) fn times(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|lane| words(&(reduce(&self.0[lane]) * reduce(&other.0[lane])))))
    }

    /// The same.
    pub(super) const fn without_r(&self) -> Self {
        *self
    }

    /// The same.
    pub(super) const fn restored(&self) -> Self {
        *self
    }

    vector! {
        /// A sum of at most 4,096 scalars, limb by limb of 52 bits in 64.
        pub(super) fn from_sums(limbs: [Lanes; 5]) -> Self {
            let rows = limbs.map(|limb| store(limb));
            Self(std::array::from_fn(|lane| {
                let mut words = [0; 5];
                let mut carry = 0_u128;
                // Limb n starts at bit 52·n; what is below the next word's start is done.
                let mut filled = 0;
                for (limb, row) in rows.iter().enumerate() {
                    carry += u128::from(row[lane]) << (52 * limb - 64 * filled);
                    if 52 * (limb + 1) >= 64 * (filled + 1) {
                        words[filled] = low_word(carry);
                        carry >>= 64;
                        filled += 1;
                    }
                }
                words[filled] = low_word(carry);
                assert!(carry >> 64 == 0, "at most 4,096 scalars");
                self::words(&reduce(&words))
            }))
        }
    }

    /// `self + other`, given as words.
    pub(super) fn plus(&self, other: [u64; 5]) -> Self {
        Self(self.0.map(|words| {
            let mut carry = false;
            std::array::from_fn(|word| {
                let (sum, over) = words[word].overflowing_add(other[word]);
                let (sum, over_too) = sum.overflowing_add(u64::from(carry));
                carry = over || over_too;
                sum
            })
        }))
    }

    /// Limbs of 52 bits of numbers below 2^256, to be added up.
    pub(super) fn limbs(&self) -> [[u64; 8]; 5] {
        std::array::from_fn(|limb| {
            self.0.map(|words| {
                let [w0, w1, w2, w3, _] = words;
                match limb {
                    0 => w0 & MASK_52,
                    1 => (w0 >> 52 | w1 << 12) & MASK_52,
                    2 => (w1 >> 40 | w2 << 24) & MASK_52,
                    3 => (w2 >> 28 | w3 << 36) & MASK_52,
                    _ => w3 >> 16,
                }
            })
        })
    }

    /// Lane `n` as row `n`, to be kept; the form is this backend's own.
    pub(super) fn to_rows(self) -> [[u64; 8]; 8] {
        self.0.map(|[w0, w1, w2, w3, w4]| [w0, w1, w2, w3, w4, 0, 0, 0])
    }

    /// What [`Scalars::to_rows`] gave.
    pub(super) fn from_rows(rows: [&[u64; 8]; 8]) -> Self {
        Self(rows.map(|[w0, w1, w2, w3, w4, ..]| [*w0, *w1, *w2, *w3, *w4]))
    }

    /// Digit `index` of what a sum with the digits' constant stands for.
    pub(super) fn signed_digit(&self, digits: Digits, index: usize) -> [i16; 8] {
        let bit = digits.width * index;
        let (word, shift) = (bit / 64, bit % 64);
        let half = i16::try_from(digits.half()).expect("a digit is small");
        self.0.map(|words| {
            let low = words[word] >> shift;
            let high = words.get(word + 1).copied().unwrap_or(0);
            let both = if shift == 0 { low } else { low | high << (64 - shift) };
            let unsigned = both & ((1 << digits.width) - 1);
            i16::try_from(unsigned).expect("a digit is small") - half
        })
    }

    /// The magnitudes of [`Scalars::signed_digit`], and the lanes where it is negative.
    pub(super) fn split_digit(&self, digits: Digits, index: usize) -> ([usize; 8], Mask) {
        let signed = self.signed_digit(digits, index);
        let mut negative = 0;
        for (lane, digit) in signed.iter().enumerate() {
            negative |= Mask::from(digit.is_negative()) << lane;
        }
        (signed.map(|digit| usize::from(digit.unsigned_abs())), negative)
    }
}
