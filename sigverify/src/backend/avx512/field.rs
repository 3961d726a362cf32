//! Eight elements of the field of 2^255 − 19 at once, one in each lane.
//!
//! An element is Σ limb\[i\]·2^(51·i), five limbs. `vpmadd52` multiplies the low 52 bits of two
//! limbs and adds the low or the high 52 bits of the product, so what is multiplied has limbs below
//! 2^52; what comes out of a multiplication is larger, and is carried only when it is multiplied
//! again. Two types hold the bounds:
//!
//! | type | limbs below | made by | may be |
//! | --- | --- | --- | --- |
//! | [`Element`] | 2^52 | [`carry`], [`add`], [`sub`], [`negate`] | multiplied, and all of below |
//! | [`Wide`] | 2^61.2 | [`mul`], [`square`], [`twice`] of one | carried, added, subtracted |
//!
//! Bounds of a product: the five low and five high halves of a column are below 2^52 each, high
//! ones count twice since 2^52 = 2·2^51; so a column is below 15·2^52, and folding the upper five
//! columns by 2^255 = 19 gives less than (1 + 19·14)·2^52 < 2^60.1.

use std::arch::x86_64::{
    _mm512_add_epi64, _mm512_and_si512, _mm512_cmpeq_epi64_mask, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_mov_epi64, _mm512_mullo_epi64, _mm512_or_si512,
    _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_sub_epi64,
    _mm512_test_epi64_mask,
};

use super::vector::{Lanes, Mask, load, splat, transpose};

/// Limbs below 2^52.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Element(pub(super) [Lanes; 5]);

/// Limbs below 2^61.2: a product, or twice one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Wide(pub(super) [Lanes; 5]);

/// The low 51 bits.
const MASK: u64 = (1 << 51) - 1;
/// Limbs of what was carried are below this.
#[cfg(test)]
pub(super) const CARRIED_BELOW: u64 = (1 << 51) + (1 << 17);
/// 2p, limb by limb at least any limb of a carried element: what an element is subtracted from.
const TWICE_P: [u64; 5] = [2 * (MASK - 18), 2 * MASK, 2 * MASK, 2 * MASK, 2 * MASK];
/// 2^11·p, limb by limb at least any limb of a [`Wide`]: 2^62 and a little less.
pub(super) const LARGE_P: [u64; 5] =
    [(MASK - 18) << 11, MASK << 11, MASK << 11, MASK << 11, MASK << 11];

impl Element {
    /// From limbs of 51 bits, of which each may be as large as 2^52.
    pub(super) const fn of_limbs(limbs: [Lanes; 5]) -> Self {
        Self(limbs)
    }

    /// Limbs of 51 bits and perhaps a little more.
    pub(super) const fn limbs(self) -> [Lanes; 5] {
        self.0
    }
}

#[cfg(test)]
impl Wide {
    /// From limbs as large as a product's.
    pub(super) const fn of_limbs(limbs: [Lanes; 5]) -> Self {
        Self(limbs)
    }

    /// Its limbs.
    pub(super) const fn limbs(self) -> [Lanes; 5] {
        self.0
    }
}

impl From<Element> for Wide {
    fn from(element: Element) -> Self {
        Self(element.0)
    }
}

vector! {
    /// The same element in every lane.
    pub(super) fn constant(limbs: [u64; 5]) -> Element {
        Element(limbs.map(|limb| splat(limb)))
    }
}

vector! {
    /// Zero.
    pub(super) fn zero() -> Element {
        Element([_mm512_setzero_si512(); 5])
    }
}

vector! {
    /// One.
    pub(super) fn one() -> Element {
        constant([1, 0, 0, 0, 0])
    }
}

vector! {
    /// One carry of every limb into the next at once.
    ///
    /// Bounds: limbs below 2^63 in; out below 2^51 + 2^17, since a carry is below 2^12 and the top one
    /// comes back 19 times.
    pub(super) fn carry(wide: Wide) -> Element {
        let (limbs, mask) = (wide.0, splat(MASK));
        let kept = limbs.map(|limb| _mm512_and_si512(limb, mask));
        let over = limbs.map(|limb| _mm512_srli_epi64::<51>(limb));
        Element([
            _mm512_madd52lo_epu64(kept[0], over[4], splat(19)),
            _mm512_add_epi64(kept[1], over[0]),
            _mm512_add_epi64(kept[2], over[1]),
            _mm512_add_epi64(kept[3], over[2]),
            _mm512_add_epi64(kept[4], over[3]),
        ])
    }
}

vector! {
    /// `a + b`.
    pub(super) fn add(a: impl Into<Wide>, b: impl Into<Wide>) -> Element {
        let (a, b) = (a.into().0, b.into().0);
        carry(Wide(std::array::from_fn(|limb| _mm512_add_epi64(a[limb], b[limb]))))
    }
}

vector! {
    /// `a − b`.
    pub(super) fn sub(a: impl Into<Wide>, b: impl Into<Wide>) -> Element {
        let (a, b) = (a.into().0, b.into().0);
        carry(Wide(std::array::from_fn(|limb| {
            _mm512_sub_epi64(_mm512_add_epi64(a[limb], splat(LARGE_P[limb])), b[limb])
        })))
    }
}

vector! {
    /// `2·a` of an element or a product.
    pub(super) fn twice(a: impl Into<Wide>) -> Wide {
        let a = a.into().0;
        Wide(a.map(|limb| _mm512_add_epi64(limb, limb)))
    }
}

vector! {
    /// `−a`, for an element that came from [`carry`] or a canonical one.
    ///
    /// Bounds: 2p covers limbs up to 2^51 + 2^17, and 2p itself stays below 2^52: no carry.
    pub(super) fn negate(a: &Element) -> Element {
        Element(std::array::from_fn(|limb| _mm512_sub_epi64(splat(TWICE_P[limb]), a.0[limb])))
    }
}

vector! {
    /// Folds ten columns onto five: 2^255 = 19.
    fn fold(columns: [Lanes; 10]) -> Wide {
        Wide(std::array::from_fn(|limb| {
            // Measured: shifts and additions instead take 11% more in a chain of squarings.
            _mm512_add_epi64(columns[limb], _mm512_mullo_epi64(columns[limb + 5], splat(19)))
        }))
    }
}

vector! {
    /// `a·b`, not carried: 50 multiply-adds.
    pub(super) fn mul(a: &Element, b: &Element) -> Wide {
        let (a, b) = (&a.0, &b.0);
        // Two sums for each column: one alone would be a chain twice as long.
        let mut low = [_mm512_setzero_si512(); 10];
        let mut high = [_mm512_setzero_si512(); 10];
        for i in 0..5 {
            for j in 0..5 {
                low[i + j] = _mm512_madd52lo_epu64(low[i + j], a[i], b[j]);
                high[i + j + 1] = _mm512_madd52hi_epu64(high[i + j + 1], a[i], b[j]);
            }
        }
        fold(std::array::from_fn(|column| add_twice(low[column], high[column])))
    }
}

vector! {
    /// `a²`, not carried: 30 multiply-adds.
    pub(super) fn square(a: &Element) -> Wide {
        let a = &a.0;
        let mut columns = [_mm512_setzero_si512(); 10];
        // Weights: high halves off the diagonal 4, on it 2, low halves off the diagonal 2, on it 1.
        for i in 0..5 {
            for j in i + 1..5 {
                columns[i + j + 1] = _mm512_madd52hi_epu64(columns[i + j + 1], a[i], a[j]);
            }
        }
        for column in &mut columns[2..9] {
            *column = _mm512_add_epi64(*column, *column);
        }
        for i in 0..5 {
            columns[2 * i + 1] = _mm512_madd52hi_epu64(columns[2 * i + 1], a[i], a[i]);
            for j in i + 1..5 {
                columns[i + j] = _mm512_madd52lo_epu64(columns[i + j], a[i], a[j]);
            }
        }
        for column in &mut columns[1..] {
            *column = _mm512_add_epi64(*column, *column);
        }
        for i in 0..5 {
            columns[2 * i] = _mm512_madd52lo_epu64(columns[2 * i], a[i], a[i]);
        }
        fold(columns)
    }
}

vector! {
    /// `a + 2·b`.
    fn add_twice(a: Lanes, b: Lanes) -> Lanes {
        _mm512_add_epi64(a, _mm512_add_epi64(b, b))
    }
}

vector! {
    /// [`square`] for one that others wait for: shorter chains, more additions.
    pub(super) fn square_soon(a: &Element) -> Wide {
        let a = &a.0;
        let mut once = [_mm512_setzero_si512(); 10];
        let mut twice = [_mm512_setzero_si512(); 10];
        let mut four_times = [_mm512_setzero_si512(); 10];
        for i in 0..5 {
            once[2 * i] = _mm512_madd52lo_epu64(once[2 * i], a[i], a[i]);
            twice[2 * i + 1] = _mm512_madd52hi_epu64(twice[2 * i + 1], a[i], a[i]);
            for j in i + 1..5 {
                twice[i + j] = _mm512_madd52lo_epu64(twice[i + j], a[i], a[j]);
                four_times[i + j + 1] = _mm512_madd52hi_epu64(four_times[i + j + 1], a[i], a[j]);
            }
        }
        fold(std::array::from_fn(|column| {
            add_twice(once[column], add_twice(twice[column], four_times[column]))
        }))
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
        // Twice carried: limbs below 2^51 + 19, hence the value below 2^255 + 2^206, below 2p.
        let mut limbs = carry(carry(a.into()).into()).0;
        let mask = splat(MASK);
        // Whether it is at least p: the carry out of adding 19.
        let mut over = _mm512_srli_epi64::<51>(_mm512_add_epi64(limbs[0], splat(19)));
        for limb in &limbs[1..] {
            over = _mm512_srli_epi64::<51>(_mm512_add_epi64(*limb, over));
        }
        limbs[0] = _mm512_madd52lo_epu64(limbs[0], over, splat(19));
        for limb in 0..4 {
            let carried = _mm512_srli_epi64::<51>(limbs[limb]);
            limbs[limb] = _mm512_and_si512(limbs[limb], mask);
            limbs[limb + 1] = _mm512_add_epi64(limbs[limb + 1], carried);
        }
        limbs[4] = _mm512_and_si512(limbs[4], mask);
        Element(limbs)
    }
}

vector! {
    /// The lanes in which `a` is zero.
    pub(super) fn is_zero(a: impl Into<Wide>) -> Mask {
        let limbs = canonical(a).0;
        let low = _mm512_or_si512(limbs[0], limbs[1]);
        let any = _mm512_or_si512(_mm512_or_si512(low, limbs[2]), _mm512_or_si512(limbs[3], limbs[4]));
        _mm512_cmpeq_epi64_mask(any, _mm512_setzero_si512())
    }
}

vector! {
    /// The lanes in which a canonical element is odd.
    pub(super) fn is_odd(canonical: &Element) -> Mask {
        _mm512_test_epi64_mask(canonical.0[0], splat(1))
    }
}

vector! {
    /// `b` in the lanes of the mask, `a` in the others.
    pub(super) fn select(mask: Mask, a: &Element, b: &Element) -> Element {
        Element(std::array::from_fn(|limb| _mm512_mask_mov_epi64(a.0[limb], mask, b.0[limb])))
    }
}

vector! {
    /// The low 255 bits of eight 32-byte strings, little-endian.
    pub(super) fn from_bytes(bytes: &[[u8; 32]; 8]) -> Element {
        let rows = bytes.map(|bytes| {
            let (words, _) = bytes.as_chunks::<8>();
            let word = |index: usize| u64::from_le_bytes(words[index]);
            load(&[word(0), word(1), word(2), word(3), 0, 0, 0, 0])
        });
        let [w0, w1, w2, w3, ..] = transpose(rows);
        let mask = splat(MASK);
        let limb = |low: Lanes, high: Lanes| _mm512_and_si512(_mm512_or_si512(low, high), mask);
        Element([
            _mm512_and_si512(w0, mask),
            limb(_mm512_srli_epi64::<51>(w0), _mm512_slli_epi64::<13>(w1)),
            limb(_mm512_srli_epi64::<38>(w1), _mm512_slli_epi64::<26>(w2)),
            limb(_mm512_srli_epi64::<25>(w2), _mm512_slli_epi64::<39>(w3)),
            _mm512_and_si512(_mm512_srli_epi64::<12>(w3), mask),
        ])
    }
}
