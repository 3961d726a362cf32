//! The backend for AVX-512 with IFMA: eight items side by side, one in each 64-bit lane.
//!
//! The modules in `lanes` are compiled once for each backend with lanes, on top of its own vectors,
//! field and scalars, with its CPU features in every function.

/// A function with this backend's CPU features.
macro_rules! vector {
    ($($function:tt)*) => {
        #[inline]
        #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
        $($function)*
    };
}

/// Sixteen steps of a hash written out: the state and the message fit into registers.
macro_rules! sixteen {
    ($step:ident) => {
        sixteen!($step 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    };
    ($step:ident $($number:literal)*) => {
        $($step!($number);)*
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
mod single;
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
    alone: 2_900,
    together: &[
        Price { items: 24, each: 2_400 },
        Price { items: 64, each: 1_450 },
        Price { items: 256, each: 950 },
        Price { items: 1_024, each: 710 },
    ],
};

/// One item has a kernel of its own.
const ORACLE_ITEMS_MAX: usize = 0;

/// Whether the CPU has what [`vector!`] enables.
fn has_features() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512ifma")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
}
