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
    alone: 8_000,
    together: &[
        Price { items: 24, each: 6_000 },
        Price { items: 64, each: 4_000 },
        Price { items: 256, each: 2_800 },
        Price { items: 1_024, each: 2_200 },
    ],
};

/// A group of eight costs as much as two of the oracle's.
const ORACLE_ITEMS_MAX: usize = 2;

/// Whether the CPU has what [`vector!`] enables.
fn has_features() -> bool {
    is_x86_feature_detected!("avx2")
}
