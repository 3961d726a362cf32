//! Eight scalars modulo the group order L at once, and the digits that multiplications take.
//!
//! A scalar is Σ limb\[i\]·2^(52·i), five limbs below 2^52: the radix of `vpmadd52`. Products are
//! Montgomery's, with R = 2^260. Nothing is reduced below L: a multiple of L too much changes a
//! product with a point by a point of small order, which the factor 8 of the rule removes.
//!
//! Source: P. Montgomery, "Modular Multiplication Without Trial Division", 1985.

use std::arch::x86_64::{
    _mm512_abs_epi64, _mm512_add_epi64, _mm512_and_si512, _mm512_cmplt_epu64_mask,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_or_si512, _mm512_setzero_si512,
    _mm512_slli_epi64, _mm512_sllv_epi64, _mm512_srli_epi64, _mm512_srlv_epi64, _mm512_sub_epi64,
};

use super::digits::Digits;
use super::vector::{Lanes, Mask, load, splat, store, store_short, transpose};

/// One scalar in each lane, below 2^255.
#[derive(Clone, Copy)]
pub(super) struct Scalars(pub(super) [Lanes; 5]);

const MASK: u64 = (1 << 52) - 1;
/// The group order L.
const ORDER: [u64; 5] = [0x2_631a_5cf5_d3ed, 0xd_ea2f_79cd_6581, 0x14_def9, 0x0, 0x1000_0000_0000];
/// −1/L modulo 2^52.
const FACTOR: u64 = 0x5_1da3_1254_7e1b;
/// R² modulo L.
const R2: [u64; 5] = [
    0x9_d265_e952_d13b,
    0xd_63c7_15be_a69f,
    0x5_be65_cb68_7604,
    0x3_dcee_c73d_217f,
    0x941_1b7c_309a,
];
/// R³ modulo L.
const R3: [u64; 5] = [
    0x4_f516_a4e3_0429,
    0xd_71e6_3305_a553,
    0x5_b651_4d3c_593a,
    0x7_8065_dc6c_04ec,
    0xb7_7359_9cec,
];

vector! {
    /// `a·b / R` modulo L.
    ///
    /// Bounds: the result is below `a·b / R + L`; with a below 2^260 and b below 2^254 that is below
    /// 2^255.
    fn product(a: &Scalars, b: &Scalars) -> Scalars {
        let (a, b) = (&a.0, &b.0);
        let mut columns = [_mm512_setzero_si512(); 10];
        for i in 0..5 {
            for j in 0..5 {
                columns[i + j] = _mm512_madd52lo_epu64(columns[i + j], a[i], b[j]);
                columns[i + j + 1] = _mm512_madd52hi_epu64(columns[i + j + 1], a[i], b[j]);
            }
        }
        let factor = splat(FACTOR);
        for i in 0..5 {
            let multiple = _mm512_madd52lo_epu64(_mm512_setzero_si512(), columns[i], factor);
            for (j, limb) in ORDER.into_iter().enumerate().filter(|(_, limb)| *limb != 0) {
                let limb = splat(limb);
                columns[i + j] = _mm512_madd52lo_epu64(columns[i + j], multiple, limb);
                columns[i + j + 1] = _mm512_madd52hi_epu64(columns[i + j + 1], multiple, limb);
            }
            // The low 52 bits are zero now.
            let carry = _mm512_srli_epi64::<52>(columns[i]);
            columns[i + 1] = _mm512_add_epi64(columns[i + 1], carry);
        }
        normalize([columns[5], columns[6], columns[7], columns[8], columns[9]])
    }
}

vector! {
    /// Limbs of up to 64 bits to limbs of 52; the top one keeps what is left.
    fn normalize(mut limbs: [Lanes; 5]) -> Scalars {
        let mask = splat(MASK);
        for limb in 0..4 {
            let carry = _mm512_srli_epi64::<52>(limbs[limb]);
            limbs[limb] = _mm512_and_si512(limbs[limb], mask);
            limbs[limb + 1] = _mm512_add_epi64(limbs[limb + 1], carry);
        }
        Scalars(limbs)
    }
}

vector! {
    /// The same scalar in every lane.
    fn constant(limbs: [u64; 5]) -> Scalars {
        Scalars(limbs.map(|limb| splat(limb)))
    }
}

vector! {
    /// `a + b`, below 2^256.
    fn sum(a: &Scalars, b: &Scalars) -> Scalars {
        normalize(std::array::from_fn(|limb| _mm512_add_epi64(a.0[limb], b.0[limb])))
    }
}

impl Scalars {
    vector! {
        /// From 64-bit words, the lowest first; the value must be below 2^256.
        pub(super) fn from_words(words: [Lanes; 4]) -> Self {
            let [w0, w1, w2, w3] = words;
            let mask = splat(MASK);
            let limb = |low: Lanes, high: Lanes| _mm512_and_si512(_mm512_or_si512(low, high), mask);
            Self([
                _mm512_and_si512(w0, mask),
                limb(_mm512_srli_epi64::<52>(w0), _mm512_slli_epi64::<12>(w1)),
                limb(_mm512_srli_epi64::<40>(w1), _mm512_slli_epi64::<24>(w2)),
                limb(_mm512_srli_epi64::<28>(w2), _mm512_slli_epi64::<36>(w3)),
                _mm512_srli_epi64::<16>(w3),
            ])
        }
    }

    vector! {
        /// `self·R` of a 512-bit number, below 2^256: what [`Scalars::times`] takes on its left.
        pub(super) fn from_wide_times_r(words: [Lanes; 8]) -> Self {
            let [w0, w1, w2, w3, w4, w5, w6, w7] = words;
            let mask = splat(MASK);
            let limb = |low: Lanes, high: Lanes| _mm512_and_si512(_mm512_or_si512(low, high), mask);
            let low = Self([
                _mm512_and_si512(w0, mask),
                limb(_mm512_srli_epi64::<52>(w0), _mm512_slli_epi64::<12>(w1)),
                limb(_mm512_srli_epi64::<40>(w1), _mm512_slli_epi64::<24>(w2)),
                limb(_mm512_srli_epi64::<28>(w2), _mm512_slli_epi64::<36>(w3)),
                limb(_mm512_srli_epi64::<16>(w3), _mm512_slli_epi64::<48>(w4)),
            ]);
            let high = Self([
                _mm512_and_si512(_mm512_srli_epi64::<4>(w4), mask),
                limb(_mm512_srli_epi64::<56>(w4), _mm512_slli_epi64::<8>(w5)),
                limb(_mm512_srli_epi64::<44>(w5), _mm512_slli_epi64::<20>(w6)),
                limb(_mm512_srli_epi64::<32>(w6), _mm512_slli_epi64::<32>(w7)),
                _mm512_srli_epi64::<20>(w7),
            ]);
            sum(&product(&low, &constant(R2)), &product(&high, &constant(R3)))
        }
    }

    vector! {
        /// `self·other / R`, below 2^254: a plain product where one of the two carries a factor R.
        ///
        /// Bounds: both below 2^256.
        pub(super) fn times(&self, other: &Self) -> Self {
            product(self, other)
        }
    }

    vector! {
        /// `self / R` of a number below 2^256: takes a factor R away.
        pub(super) fn without_r(&self) -> Self {
            product(self, &constant([1, 0, 0, 0, 0]))
        }
    }

    vector! {
        /// A sum of at most 4,096 scalars, limb by limb in 64 bits, reduced below 2^253.
        pub(super) fn from_sums(limbs: [Lanes; 5]) -> Self {
            let Self(mut low) = normalize(limbs);
            let none = _mm512_setzero_si512();
            let top = _mm512_srli_epi64::<52>(low[4]);
            low[4] = _mm512_and_si512(low[4], splat(MASK));
            let high = Self([top, none, none, none, none]);
            let times_r = sum(&product(&Self(low), &constant(R2)), &product(&high, &constant(R3)));
            times_r.without_r()
        }
    }

    vector! {
        /// `self·R`, of a sum of products that each lost a factor R.
        pub(super) fn restored(&self) -> Self {
            product(self, &constant(R2))
        }
    }

    vector! {
        /// `self + other`, given as words of 64 bits, below 2^264.
        pub(super) fn plus(&self, other: [u64; 5]) -> Self {
            sum(self, &constant(const_limbs(other)))
        }
    }

    vector! {
        /// The limbs of each lane.
        pub(super) fn limbs(&self) -> [[u64; 8]; 5] {
            self.0.map(|limb| store(limb))
        }
    }

    vector! {
        /// Lane `n` as row `n`, to be kept; the form is this backend's own.
        pub(super) fn to_rows(self) -> [[u64; 8]; 8] {
            let [l0, l1, l2, l3, l4] = self.0;
            let none = splat(0);
            transpose([l0, l1, l2, l3, l4, none, none, none]).map(|row| store(row))
        }
    }

    vector! {
        /// What [`Scalars::to_rows`] gave.
        pub(super) fn from_rows(rows: [&[u64; 8]; 8]) -> Self {
            let [l0, l1, l2, l3, l4, ..] = transpose(rows.map(|row| load(row)));
            Self([l0, l1, l2, l3, l4])
        }
    }

    vector! {
        /// Unsigned digit `index` of a sum with the digits' constant.
        pub(super) fn unsigned_digit(&self, digits: Digits, index: usize) -> Lanes {
            let bit = digits.width * index;
            // The top limb holds what is above it too.
            let limb = (bit / 52).min(4);
            let shift = (bit - 52 * limb) as u64;
            let low = _mm512_srlv_epi64(self.0[limb], splat(shift));
            let both = match self.0.get(limb + 1) {
                Some(next) => _mm512_or_si512(low, _mm512_sllv_epi64(*next, splat(52 - shift))),
                None => low,
            };
            _mm512_and_si512(both, splat((1 << digits.width) - 1))
        }
    }

    vector! {
        /// Digit `index` of what a sum with the digits' constant stands for.
        pub(super) fn signed_digit(&self, digits: Digits, index: usize) -> [i16; 8] {
            let half = splat(digits.half() as u64);
            store_short(_mm512_sub_epi64(self.unsigned_digit(digits, index), half))
        }
    }

    vector! {
        /// The magnitudes of [`Scalars::signed_digit`], and the lanes where it is negative.
        pub(super) fn split_digit(&self, digits: Digits, index: usize) -> ([usize; 8], Mask) {
            let (unsigned, half) = (self.unsigned_digit(digits, index), splat(digits.half() as u64));
            let negative = _mm512_cmplt_epu64_mask(unsigned, half);
            let magnitudes = store(_mm512_abs_epi64(_mm512_sub_epi64(unsigned, half)));
            let magnitude = |word: u64| usize::try_from(word).expect("a digit is small");
            (magnitudes.map(magnitude), negative)
        }
    }
}

/// Words of 64 bits as limbs of 52; the top limb keeps what is left.
const fn const_limbs(words: [u64; 5]) -> [u64; 5] {
    [
        words[0] & MASK,
        (words[0] >> 52 | words[1] << 12) & MASK,
        (words[1] >> 40 | words[2] << 24) & MASK,
        (words[2] >> 28 | words[3] << 36) & MASK,
        words[3] >> 16 | words[4] << 48,
    ]
}
