//! Eight points of edwards25519 at once, one in each lane, and the rows they are kept in.
//!
//! Formulas: Hisil, Wong, Carter, Dawson, "Twisted Edwards Curves Revisited", 2008, sections 3.1
//! (addition, complete here since d is no square) and 3.3 (doubling), a = −1. Coordinates stay
//! uncarried where the next formula only adds them.

use super::field::{
    Element, Wide, add, canonical, carry, constant, from_bytes, is_odd, is_zero, mul, negate, one,
    product, select, square, sub, twice, zero,
};
use super::power::power_p58;
use super::vector::{Lanes, Mask, load, splat, store, transpose};

/// The curve's constant d = −121665/121666.
const D: [u64; 5] = [
    0x3_4dca_1359_78a3,
    0x1_a828_3b15_6ebd,
    0x5_e7a2_6001_c029,
    0x7_39c6_63a0_3cbb,
    0x5_2036_cee2_b6ff,
];
/// 2d.
pub(super) const TWICE_D: [u64; 5] = [
    0x6_9b94_26b2_f159,
    0x3_5050_762a_dd7a,
    0x3_cf44_c003_8052,
    0x6_738c_c740_7977,
    0x2_406d_9dc5_6dff,
];
/// 1/d.
const INVERSE_D: [u64; 5] = [
    0xf276_cdc9_f843,
    0x3_084f_2a85_c4bc,
    0x6_e73d_982d_775a,
    0x7_2195_8b10_8a66,
    0x4_0907_ed21_4d5c,
];
/// A square root of −1.
const ROOT_OF_MINUS_1: [u64; 5] = [
    0x6_1b27_4a0e_a0b0,
    0xd5a5_fc8f_189d,
    0x7_ef5e_9cbd_0c60,
    0x7_8595_a680_4c9e,
    0x2_b832_4804_fc1d,
];

/// Extended coordinates: x = X/Z, y = Y/Z, T = XY/Z.
#[derive(Clone, Copy)]
pub(super) struct Extended {
    pub(super) x: Wide,
    pub(super) y: Wide,
    pub(super) z: Wide,
    pub(super) t: Element,
}

/// Extended coordinates without T: enough for doubling.
#[derive(Clone, Copy)]
pub(super) struct Projective {
    x: Wide,
    y: Wide,
    z: Wide,
}

/// The four factors of a result: X = EF, Y = GH, Z = FG, T = EH.
pub(super) struct Completed {
    e: Element,
    f: Element,
    g: Element,
    h: Element,
}

/// A point to be added often: Y + X, Y − X, 2dT, 2Z.
#[derive(Clone, Copy)]
pub(super) struct Cached {
    sum: Element,
    difference: Element,
    t2d: Element,
    z2: Element,
}

/// An affine point to be added often: y + x, y − x, 2dxy.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    sum: Element,
    difference: Element,
    t2d: Element,
}

/// One [`Affine`] point in memory: three times five limbs and one word of padding.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct AffineRow(pub(super) [[u64; 8]; 2]);

/// One [`Extended`] or [`Cached`] point in memory: four times five limbs and four words of padding.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Row(pub(super) [[u64; 8]; 3]);

impl AffineRow {
    /// The neutral point: 1, 1, 0.
    pub(super) const IDENTITY: Self = Self([[1, 0, 0, 0, 0, 1, 0, 0], [0; 8]]);
}

impl Row {
    /// The neutral point as an [`Extended`] one: X = 0, Y = 1, Z = 1, T = 0.
    pub(super) const IDENTITY: Self =
        Self([[0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0], [0; 8]]);
}

impl Extended {
    vector! {
        /// The neutral point.
        pub(super) fn identity() -> Self {
            Self { x: zero().into(), y: one().into(), z: one().into(), t: zero() }
        }
    }

    vector! {
        /// `self + other`.
        pub(super) fn add(&self, other: &Cached) -> Completed {
            let b = mul(&add(self.y, self.x), &other.sum);
            let a = mul(&sub(self.y, self.x), &other.difference);
            let c = mul(&self.t, &other.t2d);
            let d = mul(&carry(self.z), &other.z2);
            Completed { e: sub(b, a), f: sub(d, c), g: add(d, c), h: add(b, a) }
        }
    }

    vector! {
        /// `self + other`, with one multiplication less.
        pub(super) fn add_affine(&self, other: &Affine) -> Completed {
            let b = mul(&add(self.y, self.x), &other.sum);
            let a = mul(&sub(self.y, self.x), &other.difference);
            let c = mul(&self.t, &other.t2d);
            let d = twice(self.z);
            Completed { e: sub(b, a), f: sub(d, c), g: add(d, c), h: add(b, a) }
        }
    }

    vector! {
        /// `2^count·self`, for a count of one or more.
        pub(super) fn double_times(&self, count: usize) -> Self {
            let mut point = self.projective();
            for _ in 1..count {
                point = point.double().projective();
            }
            point.double().extended()
        }
    }

    vector! {
        /// The same point, without T.
        pub(super) fn projective(&self) -> Projective {
            Projective { x: self.x, y: self.y, z: self.z }
        }
    }

    vector! {
        /// The same point, ready to be added often.
        pub(super) fn cached(&self) -> Cached {
            Cached {
                sum: add(self.y, self.x),
                difference: sub(self.y, self.x),
                t2d: product(&self.t, &constant(TWICE_D)),
                z2: carry(twice(self.z)),
            }
        }
    }

    vector! {
        /// The lanes in which this is the same point.
        pub(super) fn equals(&self, other: &Affine) -> Mask {
            // x = X/Z, and the other's 2x and 2y are a difference and a sum.
            let z = carry(self.z);
            let x = mul(&sub(other.sum, other.difference), &z);
            let y = mul(&add(other.sum, other.difference), &z);
            is_zero(sub(twice(carry(self.x)), x)) & is_zero(sub(twice(carry(self.y)), y))
        }
    }

    vector! {
        /// Each lane as one row.
        pub(super) fn to_rows(self) -> [Row; 8] {
            rows([carry(self.x), carry(self.y), carry(self.z), self.t])
        }
    }

    vector! {
        /// What [`Extended::to_rows`] of several points gave, one row for each lane.
        pub(super) fn from_rows(rows: [&Row; 8]) -> Self {
            let [x, y, z, t] = from_rows(rows);
            Self { x: x.into(), y: y.into(), z: z.into(), t }
        }
    }
}

impl Projective {
    vector! {
        /// `2·self`.
        pub(super) fn double(&self) -> Completed {
            let (x, y, z) = (carry(self.x), carry(self.y), carry(self.z));
            let (xx, yy, zz) = (square(&x), square(&y), square(&z));
            let both = square(&add(x, y));
            let h = add(yy, xx);
            let g = sub(yy, xx);
            Completed { e: sub(both, h), f: sub(twice(zz), g), g, h }
        }
    }

    vector! {
        /// The lanes in which this is the neutral point.
        pub(super) fn is_identity(&self) -> Mask {
            is_zero(self.x) & is_zero(sub(self.y, self.z))
        }
    }
}

impl Completed {
    vector! {
        /// Multiplied out: four multiplications.
        pub(super) fn extended(&self) -> Extended {
            let Self { e, f, g, h } = self;
            Extended { x: mul(e, f), y: mul(g, h), z: mul(f, g), t: product(e, h) }
        }
    }

    vector! {
        /// Multiplied out without T: three multiplications.
        pub(super) fn projective(&self) -> Projective {
            let Self { e, f, g, h } = self;
            Projective { x: mul(e, f), y: mul(g, h), z: mul(f, g) }
        }
    }
}

impl Cached {
    vector! {
        /// The neutral point.
        pub(super) fn identity() -> Self {
            Self { sum: one(), difference: one(), t2d: zero(), z2: carry(twice(one())) }
        }
    }

    vector! {
        /// Negated in the lanes of the mask.
        pub(super) fn negate_lanes(&self, mask: Mask) -> Self {
            Self {
                sum: select(mask, &self.sum, &self.difference),
                difference: select(mask, &self.difference, &self.sum),
                t2d: select(mask, &self.t2d, &negate(&self.t2d)),
                z2: self.z2,
            }
        }
    }

    vector! {
        /// Each lane as one row.
        pub(super) fn to_rows(self) -> [Row; 8] {
            rows([self.sum, self.difference, self.t2d, self.z2])
        }
    }

    vector! {
        /// What [`Cached::to_rows`] of several points gave, one row for each lane.
        pub(super) fn from_rows(rows: [&Row; 8]) -> Self {
            let [sum, difference, t2d, z2] = from_rows(rows);
            Self { sum, difference, t2d, z2 }
        }
    }
}

impl Affine {
    vector! {
        /// Negated in the lanes of the mask.
        pub(super) fn negate_lanes(&self, mask: Mask) -> Self {
            Self {
                sum: select(mask, &self.sum, &self.difference),
                difference: select(mask, &self.difference, &self.sum),
                t2d: select(mask, &self.t2d, &negate(&self.t2d)),
            }
        }
    }

    vector! {
        /// The same point in extended coordinates with Z = 2: one multiplication.
        pub(super) fn extended(&self) -> Extended {
            Extended {
                x: sub(self.sum, self.difference).into(),
                y: add(self.sum, self.difference).into(),
                z: twice(one()),
                t: product(&self.t2d, &constant(INVERSE_D)),
            }
        }
    }

    vector! {
        /// Each lane as one row.
        pub(super) fn to_rows(self) -> [AffineRow; 8] {
            let (a, b, c) = (self.sum.limbs(), self.difference.limbs(), self.t2d.limbs());
            let first = transpose([a[0], a[1], a[2], a[3], a[4], b[0], b[1], b[2]]);
            let second = transpose([b[3], b[4], c[0], c[1], c[2], c[3], c[4], splat(0)]);
            std::array::from_fn(|lane| AffineRow([store(first[lane]), store(second[lane])]))
        }
    }

    vector! {
        /// What [`Affine::to_rows`] of several points gave, one row for each lane.
        pub(super) fn from_rows(rows: [&AffineRow; 8]) -> Self {
            let a = transpose(rows.map(|row| load(&row.0[0])));
            let b = transpose(rows.map(|row| load(&row.0[1])));
            Self {
                sum: Element::of_limbs([a[0], a[1], a[2], a[3], a[4]]),
                difference: Element::of_limbs([a[5], a[6], a[7], b[0], b[1]]),
                t2d: Element::of_limbs([b[2], b[3], b[4], b[5], b[6]]),
            }
        }
    }
}

vector! {
    /// Four coordinates of eight points as eight rows.
    fn rows(coordinates: [Element; 4]) -> [Row; 8] {
        let [a, b, c, d] = coordinates.map(|coordinate| coordinate.limbs());
        let none = splat(0);
        let first = transpose([a[0], a[1], a[2], a[3], a[4], b[0], b[1], b[2]]);
        let second = transpose([b[3], b[4], c[0], c[1], c[2], c[3], c[4], d[0]]);
        let third = transpose([d[1], d[2], d[3], d[4], none, none, none, none]);
        std::array::from_fn(|lane| Row([store(first[lane]), store(second[lane]), store(third[lane])]))
    }
}

vector! {
    /// Eight rows as four coordinates.
    fn from_rows(rows: [&Row; 8]) -> [Element; 4] {
        let part = |part: usize| -> [Lanes; 8] { transpose(rows.map(|row| load(&row.0[part]))) };
        let (a, b, c) = (part(0), part(1), part(2));
        [
            Element::of_limbs([a[0], a[1], a[2], a[3], a[4]]),
            Element::of_limbs([a[5], a[6], a[7], b[0], b[1]]),
            Element::of_limbs([b[2], b[3], b[4], b[5], b[6]]),
            Element::of_limbs([b[7], c[0], c[1], c[2], c[3]]),
        ]
    }
}

/// Affine coordinates as they were decoded; what is negated once may be negated again only after a carry.
#[derive(Clone, Copy)]
pub(super) struct Decoded {
    pub(super) x: Element,
    pub(super) y: Element,
}

impl Decoded {
    vector! {
        /// Ready to be added often: two multiplications.
        pub(super) fn affine(&self) -> Affine {
            Affine {
                sum: add(self.y, self.x),
                difference: sub(self.y, self.x),
                t2d: product(&product(&self.x, &self.y), &constant(TWICE_D)),
            }
        }
    }
}

vector! {
    /// Finds x for each of `N` groups of encodings; the mask has the lanes where there is one.
    ///
    /// Shape: y is taken modulo 2^255 and not checked against p, and x = 0 with a sign bit passes: both
    /// are for the byte checks of the rule. Lanes without a point hold anything.
    ///
    /// Source: RFC 8032, section 5.1.3.
    pub(super) fn decompress<const N: usize>(
        encodings: &[[[u8; 32]; 8]; N],
    ) -> [(Decoded, Mask); N] {
        let ys: [Element; N] = std::array::from_fn(|n| from_bytes(&encodings[n]));
        let mut numerators = ys;
        let mut denominators = ys;
        let mut starts = ys;
        let mut inner = ys;
        for n in 0..N {
            let yy = carry(square(&ys[n]));
            // x² = (y² − 1) / (d·y² + 1) = u / v; the root of a ratio is u·v³·(u·v⁷)^((p−5)/8), up to
            // a square root of −1.
            let u = sub(yy, one());
            let v = add(mul(&yy, &constant(D)), one());
            let vvv = product(&carry(square(&v)), &v);
            let v7 = product(&carry(square(&vvv)), &v);
            inner[n] = product(&u, &v7);
            starts[n] = product(&u, &vvv);
            numerators[n] = u;
            denominators[n] = v;
        }
        let powers = power_p58(&inner);
        std::array::from_fn(|n| {
            let root = product(&starts[n], &powers[n]);
            let ratio = mul(&denominators[n], &carry(square(&root)));
            let is_root = is_zero(sub(ratio, numerators[n]));
            let is_turned = is_zero(add(ratio, numerators[n]));
            let turned = product(&root, &constant(ROOT_OF_MINUS_1));
            let x = canonical(select(is_turned, &root, &turned));
            let mut signs = 0;
            for (lane, encoding) in encodings[n].iter().enumerate() {
                signs |= (encoding[31] >> 7) << lane;
            }
            let x = select(is_odd(&x) ^ signs, &x, &negate(&x));
            (Decoded { x, y: ys[n] }, is_root | is_turned)
        })
    }
}
