//! Eight 64-bit lanes in two registers: to memory and back, and rows of eight lanes turned over.
//!
//! The backend's only unsafe loads and stores are here; each moves half of a `[u64; 8]`.

#![expect(unsafe_code, reason = "vector loads and stores through pointers")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_andnot_si256, _mm256_blendv_epi8,
    _mm256_cmpeq_epi64, _mm256_loadu_si256, _mm256_or_si256, _mm256_permute2x128_si256,
    _mm256_set1_epi64x, _mm256_setr_epi8, _mm256_setr_epi64x, _mm256_shuffle_epi8,
    _mm256_sllv_epi64, _mm256_srlv_epi64, _mm256_storeu_si256, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi64, _mm256_xor_si256,
};

/// One word of each of eight independent computations: lanes 0 to 3, then 4 to 7.
#[derive(Clone, Copy)]
pub(super) struct Lanes(pub(super) [__m256i; 2]);
/// One bit for each lane.
pub(super) type Mask = u8;

vector! {
    /// The same word in every lane.
    pub(super) fn splat(word: u64) -> Lanes {
        Lanes([_mm256_set1_epi64x(word.cast_signed()); 2])
    }
}

vector! {
    /// Word `n` into lane `n`.
    pub(super) fn load(words: &[u64; 8]) -> Lanes {
        let (halves, _) = words.as_chunks::<4>();
        Lanes([&halves[0], &halves[1]].map(|half| {
            // SAFETY: the reference is valid for the 32 bytes that are read; no alignment is needed.
            unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
        }))
    }
}

vector! {
    /// Lane `n` as word `n`.
    pub(super) fn store(lanes: Lanes) -> [u64; 8] {
        let mut words = [0; 8];
        let (halves, _) = words.as_chunks_mut::<4>();
        for (half, lanes) in halves.iter_mut().zip(lanes.0) {
            // SAFETY: the array is valid for the 32 bytes that are written; no alignment is needed.
            unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), lanes) };
        }
        words
    }
}

vector! {
    /// Lane `j` of row `i` becomes lane `i` of row `j`.
    pub(super) fn transpose(rows: [Lanes; 8]) -> [Lanes; 8] {
        // Four blocks of four by four; the two off the diagonal change places.
        let block = |row: usize, half: usize| {
            transpose_block(std::array::from_fn(|index| rows[row + index].0[half]))
        };
        let (upper, lower) = ([block(0, 0), block(4, 0)], [block(0, 1), block(4, 1)]);
        std::array::from_fn(|column| {
            let blocks = if column < 4 { &upper } else { &lower };
            Lanes([blocks[0][column % 4], blocks[1][column % 4]])
        })
    }
}

vector! {
    fn transpose_block([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        let (ab_even, ab_odd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        let (cd_even, cd_odd) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
        [
            _mm256_permute2x128_si256::<0x20>(ab_even, cd_even),
            _mm256_permute2x128_si256::<0x20>(ab_odd, cd_odd),
            _mm256_permute2x128_si256::<0x31>(ab_even, cd_even),
            _mm256_permute2x128_si256::<0x31>(ab_odd, cd_odd),
        ]
    }
}

/// The mask of both halves' four bits.
pub(super) fn half_mask([low, high]: [i32; 2]) -> Mask {
    u8::try_from(low | high << 4).expect("four bits and four bits")
}

vector! {
    /// `b` in the lanes of a half that the mask has, `a` in the others.
    pub(super) fn select_half(mask: Mask, half: usize, a: __m256i, b: __m256i) -> __m256i {
        let bits = _mm256_setr_epi64x(1, 2, 4, 8);
        let mask = _mm256_set1_epi64x(i64::from(mask >> (4 * half)));
        _mm256_blendv_epi8(a, b, _mm256_cmpeq_epi64(_mm256_and_si256(mask, bits), bits))
    }
}

vector! {
    /// `b` in the lanes of the mask, `a` in the others.
    pub(super) fn select(mask: Mask, a: Lanes, b: Lanes) -> Lanes {
        Lanes([0, 1].map(|half| select_half(mask, half, a.0[half], b.0[half])))
    }
}

vector! {
    /// `a + b`.
    pub(super) fn add(a: Lanes, b: Lanes) -> Lanes {
        Lanes([0, 1].map(|half| _mm256_add_epi64(a.0[half], b.0[half])))
    }
}

vector! {
    /// Each lane shifted right.
    pub(super) fn shift_right<const COUNT: i64>(a: Lanes) -> Lanes {
        Lanes(a.0.map(|half| _mm256_srlv_epi64(half, _mm256_set1_epi64x(COUNT))))
    }
}

vector! {
    /// Each lane rotated right.
    pub(super) fn rotate_right<const COUNT: i64>(a: Lanes) -> Lanes {
        Lanes(a.0.map(|half| {
            let right = _mm256_srlv_epi64(half, _mm256_set1_epi64x(COUNT));
            _mm256_or_si256(right, _mm256_sllv_epi64(half, _mm256_set1_epi64x(64 - COUNT)))
        }))
    }
}

vector! {
    /// `a ^ b ^ c`.
    pub(super) fn xor(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        Lanes([0, 1].map(|half| {
            _mm256_xor_si256(_mm256_xor_si256(a.0[half], b.0[half]), c.0[half])
        }))
    }
}

vector! {
    /// `b` where `a` is set, `c` elsewhere, bit by bit.
    pub(super) fn choose(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        Lanes([0, 1].map(|half| {
            let set = _mm256_and_si256(a.0[half], b.0[half]);
            _mm256_or_si256(set, _mm256_andnot_si256(a.0[half], c.0[half]))
        }))
    }
}

vector! {
    /// What at least two of three have, bit by bit.
    pub(super) fn majority(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        Lanes([0, 1].map(|half| {
            let (a, b, c) = (a.0[half], b.0[half], c.0[half]);
            let one = _mm256_and_si256(c, _mm256_or_si256(a, b));
            _mm256_or_si256(one, _mm256_and_si256(a, b))
        }))
    }
}

vector! {
    /// Turns the bytes of each lane around.
    pub(super) fn swap_bytes(lanes: Lanes) -> Lanes {
        let order = _mm256_setr_epi8(
            7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14,
            13, 12, 11, 10, 9, 8,
        );
        Lanes(lanes.0.map(|half| _mm256_shuffle_epi8(half, order)))
    }
}
