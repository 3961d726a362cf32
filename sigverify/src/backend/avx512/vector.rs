//! Eight 64-bit lanes in one register: to memory and back, and rows of eight lanes turned over.
//!
//! The backend's only unsafe loads and stores are here; each moves one whole `[u64; 8]`.

#![expect(unsafe_code, reason = "vector loads and stores through pointers")]

use std::arch::x86_64::{
    __m512i, __mmask8, _mm_storeu_si128, _mm512_add_epi64, _mm512_cvtepi64_epi16,
    _mm512_loadu_si512, _mm512_mask_mov_epi64, _mm512_ror_epi64, _mm512_set_epi64,
    _mm512_set1_epi64, _mm512_shuffle_epi8, _mm512_shuffle_i64x2, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

/// One word of each of eight independent computations.
pub(super) type Lanes = __m512i;
/// One bit for each lane.
pub(super) type Mask = __mmask8;

vector! {
    /// The same word in every lane.
    pub(super) fn splat(word: u64) -> Lanes {
        _mm512_set1_epi64(word.cast_signed())
    }
}

vector! {
    /// Word `n` into lane `n`.
    pub(super) fn load(words: &[u64; 8]) -> Lanes {
        // SAFETY: the reference is valid for the 64 bytes that are read; no alignment is needed.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }
}

vector! {
    /// Lane `n` as word `n`.
    pub(super) fn store(lanes: Lanes) -> [u64; 8] {
        let mut words = [0; 8];
        // SAFETY: the array is valid for the 64 bytes that are written; no alignment is needed.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), lanes) };
        words
    }
}

vector! {
    /// The low 16 bits of lane `n` as number `n`.
    pub(super) fn store_short(lanes: Lanes) -> [i16; 8] {
        let mut numbers = [0; 8];
        let short = _mm512_cvtepi64_epi16(lanes);
        // SAFETY: the array is valid for the 16 bytes that are written; no alignment is needed.
        unsafe { _mm_storeu_si128(numbers.as_mut_ptr().cast(), short) };
        numbers
    }
}

vector! {
    /// Lane `j` of row `i` becomes lane `i` of row `j`.
    pub(super) fn transpose(rows: [Lanes; 8]) -> [Lanes; 8] {
        // Pairs of words, then pairs of pairs, then halves: 24 shuffles.
        let pair = |low: usize| {
            (
                _mm512_unpacklo_epi64(rows[low], rows[low + 1]),
                _mm512_unpackhi_epi64(rows[low], rows[low + 1]),
            )
        };
        let ((e0, o0), (e2, o2), (e4, o4), (e6, o6)) = (pair(0), pair(2), pair(4), pair(6));
        // Block b of `eN` holds column 2b of rows N and N + 1; 0x88 takes blocks 0 and 2 of both
        // operands, 0xdd blocks 1 and 3.
        let columns_04 = (_mm512_shuffle_i64x2::<0x88>(e0, e2), _mm512_shuffle_i64x2::<0x88>(e4, e6));
        let columns_26 = (_mm512_shuffle_i64x2::<0xdd>(e0, e2), _mm512_shuffle_i64x2::<0xdd>(e4, e6));
        let columns_15 = (_mm512_shuffle_i64x2::<0x88>(o0, o2), _mm512_shuffle_i64x2::<0x88>(o4, o6));
        let columns_37 = (_mm512_shuffle_i64x2::<0xdd>(o0, o2), _mm512_shuffle_i64x2::<0xdd>(o4, o6));
        let first = |(upper, lower)| _mm512_shuffle_i64x2::<0x88>(upper, lower);
        let second = |(upper, lower)| _mm512_shuffle_i64x2::<0xdd>(upper, lower);
        [
            first(columns_04),
            first(columns_15),
            first(columns_26),
            first(columns_37),
            second(columns_04),
            second(columns_15),
            second(columns_26),
            second(columns_37),
        ]
    }
}

vector! {
    /// `a + b`.
    pub(super) fn add(a: Lanes, b: Lanes) -> Lanes {
        _mm512_add_epi64(a, b)
    }
}

vector! {
    /// `b` in the lanes of the mask, `a` in the others.
    pub(super) fn select(mask: Mask, a: Lanes, b: Lanes) -> Lanes {
        _mm512_mask_mov_epi64(a, mask, b)
    }
}

vector! {
    /// Each lane shifted right.
    pub(super) fn shift_right<const COUNT: u32>(a: Lanes) -> Lanes {
        _mm512_srli_epi64::<COUNT>(a)
    }
}

vector! {
    /// Each lane rotated right.
    pub(super) fn rotate_right<const COUNT: i32>(a: Lanes) -> Lanes {
        _mm512_ror_epi64::<COUNT>(a)
    }
}

vector! {
    /// `a ^ b ^ c`.
    pub(super) fn xor(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        _mm512_ternarylogic_epi64::<0x96>(a, b, c)
    }
}

vector! {
    /// `b` where `a` is set, `c` elsewhere, bit by bit.
    pub(super) fn choose(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        _mm512_ternarylogic_epi64::<0xca>(a, b, c)
    }
}

vector! {
    /// What at least two of three have, bit by bit.
    pub(super) fn majority(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        _mm512_ternarylogic_epi64::<0xe8>(a, b, c)
    }
}

vector! {
    /// Turns the bytes of each lane around.
    pub(super) fn swap_bytes(lanes: Lanes) -> Lanes {
        let (even, odd) = (0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
        _mm512_shuffle_epi8(lanes, _mm512_set_epi64(odd, even, odd, even, odd, even, odd, even))
    }
}
