//! The backend for AVX2: eight items side by side, in two registers of four 64-bit lanes.
//!
//! The modules in `lanes` are those of the backend for AVX-512, compiled once more on top of this
//! one's vectors, field and scalars.

/// A function with this backend's CPU features.
macro_rules! vector {
    ($($function:tt)*) => {
        #[inline]
        #[target_feature(enable = "avx2")]
        $($function)*
    };
}

/// Sixteen steps of a hash in a loop: little fits into registers, and written out it is slower.
macro_rules! sixteen {
    ($step:ident) => {
        for number in 0..16 {
            $step!(number);
        }
    };
}

#[path = "lanes/alone.rs"]
mod alone;
#[path = "lanes/base.rs"]
mod base;
#[path = "lanes/cache.rs"]
mod cache;
#[path = "lanes/chunk.rs"]
mod chunk;
#[path = "lanes/digits.rs"]
mod digits;
mod few;
mod field;
#[path = "lanes/hot.rs"]
mod hot;
#[path = "lanes/point.rs"]
mod point;
#[path = "lanes/power.rs"]
mod power;
mod scalar;
#[path = "lanes/sha512.rs"]
mod sha512;
#[cfg(test)]
#[path = "lanes/tests.rs"]
mod tests;
#[path = "lanes/together.rs"]
mod together;
mod vector;

pub(crate) use chunk::Backend;

use crate::batch::{Price, Prices};

/// Of a Zen 5 core, once decoded.
const PRICES: Prices = Prices {
    alone: 19_000,
    together: &[
        Price { items: 24, each: 14_500 },
        Price { items: 64, each: 10_300 },
        Price { items: 256, each: 6_700 },
        Price { items: 1_024, each: 4_700 },
    ],
};

/// A group of eight costs as much as five and a half of the oracle's.
const ORACLE_ITEMS_MAX: usize = 5;

/// Whether the CPU has what [`vector!`] enables.
fn has_features() -> bool {
    is_x86_feature_detected!("avx2")
}
