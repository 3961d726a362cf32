//! Signed digits of scalars, without a carry that runs through them.

/// The group order L as words of 64 bits.
const ORDER: [u64; 5] = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0, 0x1000_0000_0000_0000, 0];

/// Signed digits of `width` bits: x = Σ digit\[i\]·2^(width·i), each at least −2^(width−1) and below
/// 2^(width−1).
///
/// A constant with every digit 2^(width−1) is added first; then the unsigned digits of the sum, each
/// less that number, are the signed ones of x: no carry runs through, the top one neither.
#[derive(Clone, Copy)]
pub(super) struct Digits {
    /// Bits of a digit.
    pub(super) width: usize,
    /// Digits of a number.
    pub(super) count: usize,
}

impl Digits {
    /// For scalars below 2^253 + 2^250: the sum with the constant does not overflow the digits.
    ///
    /// Bounds: the constant is below 2^(width·count − 1)·1.07 from width 4 on, and the scalar below
    /// a quarter of 2^(width·count).
    pub(super) const fn of_scalars(width: usize) -> Self {
        assert!(width >= 4 && width <= 12);
        Self { width, count: 255usize.div_ceil(width) }
    }

    /// For numbers below 2^128 that already are the sum: their own value is less by the constant.
    pub(super) const fn of_coefficients(width: usize) -> Self {
        assert!(width >= 4 && width <= 12);
        Self { width, count: 128usize.div_ceil(width) }
    }

    /// Half the range of a digit: its largest magnitude.
    pub(super) const fn half(self) -> usize {
        1 << (self.width - 1)
    }

    /// The constant, as words of 64 bits.
    pub(super) const fn constant(self) -> [u64; 5] {
        let mut words = [0; 5];
        let mut digit = 0;
        while digit < self.count {
            let bit = self.width * digit + self.width - 1;
            words[bit / 64] |= 1 << (bit % 64);
            digit += 1;
        }
        words
    }

    /// L less the constant of [`Digits::of_coefficients`]: what such a number takes to be its own
    /// value modulo L.
    pub(super) const fn order_less_constant(self) -> [u64; 5] {
        let constant = self.constant();
        let mut words = [0; 5];
        let mut borrow = false;
        let mut word = 0;
        while word < 5 {
            let (difference, under) = ORDER[word].overflowing_sub(constant[word]);
            let (difference, under_too) = difference.overflowing_sub(borrow as u64);
            words[word] = difference;
            borrow = under || under_too;
            word += 1;
        }
        assert!(!borrow, "the constant is below L");
        words
    }
}
