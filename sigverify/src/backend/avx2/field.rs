//! Eight elements of the field of 2^255 − 19 at once, as two halves of four lanes.
//!
//! An element is Σ limb\[i\]·2^⌈25.5·i⌉, ten limbs of 26 and 25 bits in turn, since `vpmuludq`
//! multiplies the low 32 bits of two lanes. As with the other backend, what comes out of a
//! multiplication is carried only when it is multiplied again:
//!
//! | type | limbs below | made by | may be |
//! | --- | --- | --- | --- |
//! | [`Element`] | 2^27, 2^26 in turn | [`carry`], [`add`], [`sub`], [`negate`] | multiplied, and all of below |
//! | [`Wide`] | 2^61.2 | [`mul`], [`square`], [`twice`] of one | carried, added, subtracted |
//!
//! Bounds of a product: one factor at least has limbs of 26 and 25 bits and little more, the other
//! may be a negation with one bit more. A term is then below 2·19·2^51 or 19·2^53, and ten of them
//! below 2^60.7.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_castsi256_pd, _mm256_cmpeq_epi64,
    _mm256_movemask_pd, _mm256_mul_epu32, _mm256_or_si256, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_sub_epi64,
};

use super::vector::{Lanes, Mask, half_mask, load, select_half, transpose};

/// Ten limbs of four elements.
type Half = [__m256i; 10];

/// Limbs that may be multiplied.
#[derive(Clone, Copy)]
pub(super) struct Element([Half; 2]);

/// Limbs of a product, or of twice one.
#[derive(Clone, Copy)]
pub(super) struct Wide([Half; 2]);

/// The low 51, 26 and 25 bits.
const MASK_51: u64 = (1 << 51) - 1;
const MASK_26: u64 = (1 << 26) - 1;
const MASK_25: u64 = (1 << 25) - 1;
/// p, limb by limb.
const P: [u64; 10] =
    [MASK_26 - 18, MASK_25, MASK_26, MASK_25, MASK_26, MASK_25, MASK_26, MASK_25, MASK_26, MASK_25];
/// p is subtracted from so many times in a negation, and in a difference of products.
const TWICE: u64 = 1;
const LARGE: u64 = 36;
/// Limbs of 51 bits of what was carried are below this.
#[cfg(test)]
pub(super) const CARRIED_BELOW: u64 = (1 << 51) + (1 << 44);

vector! {
    /// The same word in four lanes.
    fn word(word: u64) -> __m256i {
        _mm256_set1_epi64x(word.cast_signed())
    }
}

impl Element {
    vector! {
        /// From limbs of 51 bits, of which each may be as large as 2^52.
        pub(super) fn of_limbs(limbs: [Lanes; 5]) -> Self {
            let mut halves = [[_mm256_setzero_si256(); 10]; 2];
            for (half, out) in halves.iter_mut().enumerate() {
                for limb in 0..5 {
                    let both = limbs[limb].0[half];
                    out[2 * limb] = _mm256_and_si256(both, word(MASK_26));
                    out[2 * limb + 1] = _mm256_srli_epi64::<26>(both);
                }
            }
            Self(halves)
        }
    }

    vector! {
        /// Limbs of 51 bits and perhaps a little more.
        pub(super) fn limbs(self) -> [Lanes; 5] {
            let mut limbs = [Lanes([_mm256_setzero_si256(); 2]); 5];
            for (limb, lanes) in limbs.iter_mut().enumerate() {
                *lanes = Lanes([limb_51(&self.0[0], limb), limb_51(&self.0[1], limb)]);
            }
            limbs
        }
    }
}

#[cfg(test)]
impl Wide {
    vector! {
        /// From limbs as large as a product's.
        pub(super) fn of_limbs(limbs: [Lanes; 5]) -> Self {
            Self([0, 1].map(|half| {
                std::array::from_fn(|index| match index % 2 {
                    0 => limbs[index / 2].0[half],
                    _ => _mm256_setzero_si256(),
                })
            }))
        }
    }

    vector! {
        /// Its limbs, carried so that 51 bits hold them.
        pub(super) fn limbs(self) -> [Lanes; 5] {
            carry(self).limbs()
        }
    }
}

impl From<Element> for Wide {
    fn from(element: Element) -> Self {
        Self(element.0)
    }
}

vector! {
    /// Two neighbouring limbs as one of 51 bits.
    fn limb_51(half: &Half, limb: usize) -> __m256i {
        _mm256_add_epi64(half[2 * limb], _mm256_slli_epi64::<26>(half[2 * limb + 1]))
    }
}

vector! {
    /// The same element in every lane.
    pub(super) fn constant(limbs: [u64; 5]) -> Element {
        let mut half = [_mm256_setzero_si256(); 10];
        for limb in 0..5 {
            half[2 * limb] = word(limbs[limb] & MASK_26);
            half[2 * limb + 1] = word(limbs[limb] >> 26);
        }
        Element([half; 2])
    }
}

vector! {
    /// Zero.
    pub(super) fn zero() -> Element {
        constant([0; 5])
    }
}

vector! {
    /// One.
    pub(super) fn one() -> Element {
        constant([1, 0, 0, 0, 0])
    }
}

vector! {
    /// Carries every limb into the next, from 0 and from 4 on at the same time.
    ///
    /// Bounds: limbs below 2^63 in; out below 2^26 and 2^25 + 2^17 in turn, since the last carry, of
    /// limb 9's 19 times, is below 2^17.
    fn carry_half(mut limbs: Half) -> Half {
        for from in [0, 4, 1, 5, 2, 6, 3, 7, 4, 8] {
            carry_into_next(&mut limbs, from);
        }
        let over = _mm256_srli_epi64::<25>(limbs[9]);
        limbs[9] = _mm256_and_si256(limbs[9], word(MASK_25));
        let three = _mm256_add_epi64(over, _mm256_slli_epi64::<1>(over));
        let nineteen = _mm256_add_epi64(three, _mm256_slli_epi64::<4>(over));
        limbs[0] = _mm256_add_epi64(limbs[0], nineteen);
        carry_into_next(&mut limbs, 0);
        limbs
    }
}

vector! {
    fn carry_into_next(limbs: &mut Half, from: usize) {
        let (over, mask) = if from.is_multiple_of(2) {
            (_mm256_srli_epi64::<26>(limbs[from]), MASK_26)
        } else {
            (_mm256_srli_epi64::<25>(limbs[from]), MASK_25)
        };
        limbs[from] = _mm256_and_si256(limbs[from], word(mask));
        limbs[from + 1] = _mm256_add_epi64(limbs[from + 1], over);
    }
}

vector! {
    /// Ready to be multiplied.
    pub(super) fn carry(wide: Wide) -> Element {
        Element([carry_half(wide.0[0]), carry_half(wide.0[1])])
    }
}

vector! {
    fn add_half(a: &Half, b: &Half) -> Half {
        let mut sum = *a;
        for limb in 0..10 {
            sum[limb] = _mm256_add_epi64(a[limb], b[limb]);
        }
        carry_half(sum)
    }
}

vector! {
    fn sub_half(a: &Half, b: &Half) -> Half {
        let mut difference = *a;
        for limb in 0..10 {
            let raised = _mm256_add_epi64(a[limb], word(P[limb] << LARGE));
            difference[limb] = _mm256_sub_epi64(raised, b[limb]);
        }
        carry_half(difference)
    }
}

vector! {
    /// `a + b`.
    pub(super) fn add(a: impl Into<Wide>, b: impl Into<Wide>) -> Element {
        let (a, b) = (a.into().0, b.into().0);
        Element([add_half(&a[0], &b[0]), add_half(&a[1], &b[1])])
    }
}

vector! {
    /// `a − b`.
    pub(super) fn sub(a: impl Into<Wide>, b: impl Into<Wide>) -> Element {
        let (a, b) = (a.into().0, b.into().0);
        Element([sub_half(&a[0], &b[0]), sub_half(&a[1], &b[1])])
    }
}

vector! {
    /// `2·a` of an element or a product.
    pub(super) fn twice(a: impl Into<Wide>) -> Wide {
        let mut twice = a.into().0;
        for limb in twice.as_flattened_mut() {
            *limb = _mm256_add_epi64(*limb, *limb);
        }
        Wide(twice)
    }
}

vector! {
    /// `−a`, for an element that came from [`carry`] or a canonical one.
    pub(super) fn negate(a: &Element) -> Element {
        let mut negated = a.0;
        for half in &mut negated {
            for limb in 0..10 {
                half[limb] = _mm256_sub_epi64(word(P[limb] << TWICE), half[limb]);
            }
        }
        Element(negated)
    }
}

vector! {
    /// Σ a·b.
    fn dot<const N: usize>(terms: [(__m256i, __m256i); N]) -> __m256i {
        let mut sum = _mm256_mul_epu32(terms[0].0, terms[0].1);
        for (a, b) in &terms[1..] {
            sum = _mm256_add_epi64(sum, _mm256_mul_epu32(*a, *b));
        }
        sum
    }
}

vector! {
    /// `count` times every limb, which must stay below 2^32.
    fn times(half: &Half, count: u64) -> Half {
        let mut times = *half;
        for limb in &mut times {
            *limb = _mm256_mul_epu32(*limb, word(count));
        }
        times
    }
}

vector! {
    /// Limb k of a product is Σ f\[i\]·g\[j\] over i + j = k, twice where both are odd, since two half
    /// bits make one, and 19 times what goes beyond limb 9.
    #[rustfmt::skip]
    fn mul_half(f: &Half, g: &Half) -> Half {
        let (f2, g19) = (times(f, 2), times(g, 19));
        [
            dot([
                (f[0], g[0]), (f2[1], g19[9]), (f[2], g19[8]), (f2[3], g19[7]), (f[4], g19[6]),
                (f2[5], g19[5]), (f[6], g19[4]), (f2[7], g19[3]), (f[8], g19[2]), (f2[9], g19[1]),
            ]),
            dot([
                (f[0], g[1]), (f[1], g[0]), (f[2], g19[9]), (f[3], g19[8]), (f[4], g19[7]),
                (f[5], g19[6]), (f[6], g19[5]), (f[7], g19[4]), (f[8], g19[3]), (f[9], g19[2]),
            ]),
            dot([
                (f[0], g[2]), (f2[1], g[1]), (f[2], g[0]), (f2[3], g19[9]), (f[4], g19[8]),
                (f2[5], g19[7]), (f[6], g19[6]), (f2[7], g19[5]), (f[8], g19[4]), (f2[9], g19[3]),
            ]),
            dot([
                (f[0], g[3]), (f[1], g[2]), (f[2], g[1]), (f[3], g[0]), (f[4], g19[9]),
                (f[5], g19[8]), (f[6], g19[7]), (f[7], g19[6]), (f[8], g19[5]), (f[9], g19[4]),
            ]),
            dot([
                (f[0], g[4]), (f2[1], g[3]), (f[2], g[2]), (f2[3], g[1]), (f[4], g[0]),
                (f2[5], g19[9]), (f[6], g19[8]), (f2[7], g19[7]), (f[8], g19[6]), (f2[9], g19[5]),
            ]),
            dot([
                (f[0], g[5]), (f[1], g[4]), (f[2], g[3]), (f[3], g[2]), (f[4], g[1]),
                (f[5], g[0]), (f[6], g19[9]), (f[7], g19[8]), (f[8], g19[7]), (f[9], g19[6]),
            ]),
            dot([
                (f[0], g[6]), (f2[1], g[5]), (f[2], g[4]), (f2[3], g[3]), (f[4], g[2]),
                (f2[5], g[1]), (f[6], g[0]), (f2[7], g19[9]), (f[8], g19[8]), (f2[9], g19[7]),
            ]),
            dot([
                (f[0], g[7]), (f[1], g[6]), (f[2], g[5]), (f[3], g[4]), (f[4], g[3]),
                (f[5], g[2]), (f[6], g[1]), (f[7], g[0]), (f[8], g19[9]), (f[9], g19[8]),
            ]),
            dot([
                (f[0], g[8]), (f2[1], g[7]), (f[2], g[6]), (f2[3], g[5]), (f[4], g[4]),
                (f2[5], g[3]), (f[6], g[2]), (f2[7], g[1]), (f[8], g[0]), (f2[9], g19[9]),
            ]),
            dot([
                (f[0], g[9]), (f[1], g[8]), (f[2], g[7]), (f[3], g[6]), (f[4], g[5]),
                (f[5], g[4]), (f[6], g[3]), (f[7], g[2]), (f[8], g[1]), (f[9], g[0]),
            ]),
        ]
    }
}

vector! {
    /// [`mul_half`] of equal factors, with each pair of terms that are alike as one.
    #[rustfmt::skip]
    fn square_half(f: &Half) -> Half {
        let (f2, f4, f19) = (times(f, 2), times(f, 4), times(f, 19));
        [
            dot([
                (f[0], f[0]), (f4[1], f19[9]), (f2[2], f19[8]),
                (f4[3], f19[7]), (f2[4], f19[6]), (f2[5], f19[5]),
            ]),
            dot([(f2[0], f[1]), (f2[2], f19[9]), (f2[3], f19[8]), (f2[4], f19[7]), (f2[5], f19[6])]),
            dot([
                (f2[0], f[2]), (f2[1], f[1]), (f4[3], f19[9]),
                (f2[4], f19[8]), (f4[5], f19[7]), (f[6], f19[6]),
            ]),
            dot([(f2[0], f[3]), (f2[1], f[2]), (f2[4], f19[9]), (f2[5], f19[8]), (f2[6], f19[7])]),
            dot([
                (f2[0], f[4]), (f4[1], f[3]), (f[2], f[2]),
                (f4[5], f19[9]), (f2[6], f19[8]), (f2[7], f19[7]),
            ]),
            dot([(f2[0], f[5]), (f2[1], f[4]), (f2[2], f[3]), (f2[6], f19[9]), (f2[7], f19[8])]),
            dot([
                (f2[0], f[6]), (f4[1], f[5]), (f2[2], f[4]),
                (f2[3], f[3]), (f4[7], f19[9]), (f[8], f19[8]),
            ]),
            dot([(f2[0], f[7]), (f2[1], f[6]), (f2[2], f[5]), (f2[3], f[4]), (f2[8], f19[9])]),
            dot([(f2[0], f[8]), (f4[1], f[7]), (f2[2], f[6]), (f4[3], f[5]), (f[4], f[4]), (f2[9], f19[9])]),
            dot([(f2[0], f[9]), (f2[1], f[8]), (f2[2], f[7]), (f2[3], f[6]), (f2[4], f[5])]),
        ]
    }
}

vector! {
    /// `a·b`, not carried.
    pub(super) fn mul(a: &Element, b: &Element) -> Wide {
        Wide([mul_half(&a.0[0], &b.0[0]), mul_half(&a.0[1], &b.0[1])])
    }
}

vector! {
    /// `a²`, not carried.
    pub(super) fn square(a: &Element) -> Wide {
        Wide([square_half(&a.0[0]), square_half(&a.0[1])])
    }
}

vector! {
    /// [`square`]: there is no shorter way here.
    pub(super) fn square_soon(a: &Element) -> Wide {
        square(a)
    }
}

vector! {
    /// `a·b`, carried.
    pub(super) fn product(a: &Element, b: &Element) -> Element {
        carry(mul(a, b))
    }
}

vector! {
    /// The limbs of the one representative below p.
    pub(super) fn canonical(a: impl Into<Wide>) -> Element {
        let a = carry(a.into());
        let limbs: [[__m256i; 5]; 2] = a.0.map(|half| canonical_half(&half));
        Element::of_limbs(std::array::from_fn(|limb| Lanes([limbs[0][limb], limbs[1][limb]])))
    }
}

vector! {
    /// In limbs of 51 bits, as the other backend has it.
    fn canonical_half(half: &Half) -> [__m256i; 5] {
        let mask = word(MASK_51);
        let mut limbs: [__m256i; 5] = std::array::from_fn(|limb| limb_51(half, limb));
        // Carried twice: limbs below 2^51 + 19, hence the value below 2p.
        for _ in 0..2 {
            let over = limbs.map(|limb| _mm256_srli_epi64::<51>(limb));
            let kept = limbs.map(|limb| _mm256_and_si256(limb, mask));
            limbs = std::array::from_fn(|limb| match limb {
                0 => _mm256_add_epi64(kept[0], _mm256_mul_epu32(over[4], word(19))),
                _ => _mm256_add_epi64(kept[limb], over[limb - 1]),
            });
        }
        // Whether it is at least p: the carry out of adding 19.
        let mut over = _mm256_srli_epi64::<51>(_mm256_add_epi64(limbs[0], word(19)));
        for limb in &limbs[1..] {
            over = _mm256_srli_epi64::<51>(_mm256_add_epi64(*limb, over));
        }
        limbs[0] = _mm256_add_epi64(limbs[0], _mm256_mul_epu32(over, word(19)));
        for limb in 0..4 {
            let carried = _mm256_srli_epi64::<51>(limbs[limb]);
            limbs[limb] = _mm256_and_si256(limbs[limb], mask);
            limbs[limb + 1] = _mm256_add_epi64(limbs[limb + 1], carried);
        }
        limbs[4] = _mm256_and_si256(limbs[4], mask);
        limbs
    }
}

vector! {
    /// The lanes in which `a` is zero.
    pub(super) fn is_zero(a: impl Into<Wide>) -> Mask {
        half_mask(canonical(a).0.map(|half| {
            let any = half[1..].iter().fold(half[0], |any, limb| _mm256_or_si256(any, *limb));
            let zero = _mm256_cmpeq_epi64(any, _mm256_setzero_si256());
            _mm256_movemask_pd(_mm256_castsi256_pd(zero))
        }))
    }
}

vector! {
    /// The lanes in which a canonical element is odd.
    pub(super) fn is_odd(canonical: &Element) -> Mask {
        half_mask(canonical.0.map(|half| {
            _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_slli_epi64::<63>(half[0])))
        }))
    }
}

vector! {
    /// `b` in the lanes of the mask, `a` in the others.
    pub(super) fn select(mask: Mask, a: &Element, b: &Element) -> Element {
        let mut selected = a.0;
        for (half, out) in selected.iter_mut().enumerate() {
            for (limb, other) in out.iter_mut().zip(&b.0[half]) {
                *limb = select_half(mask, half, *limb, *other);
            }
        }
        Element(selected)
    }
}

vector! {
    /// The low 255 bits of eight 32-byte strings, little-endian.
    pub(super) fn from_bytes(bytes: &[[u8; 32]; 8]) -> Element {
        let rows = bytes.map(|bytes| {
            let (words, _) = bytes.as_chunks::<8>();
            let word = |index: usize| u64::from_le_bytes(words[index]);
            let [w0, w1, w2, w3] = [word(0), word(1), word(2), word(3)];
            let limbs = [
                w0,
                w0 >> 51 | w1 << 13,
                w1 >> 38 | w2 << 26,
                w2 >> 25 | w3 << 39,
                w3 >> 12,
            ];
            let [l0, l1, l2, l3, l4] = limbs.map(|limb| limb & MASK_51);
            load(&[l0, l1, l2, l3, l4, 0, 0, 0])
        });
        let [l0, l1, l2, l3, l4, ..] = transpose(rows);
        Element::of_limbs([l0, l1, l2, l3, l4])
    }
}
