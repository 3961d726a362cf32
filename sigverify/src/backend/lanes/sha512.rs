//! SHA-512 of eight messages at once, for the challenges k = SHA-512(R ‖ A ‖ M).
//!
//! Source: FIPS 180-4, section 6.4.

use super::vector::{
    Lanes, Mask, add, choose, load, majority, rotate_right, select, shift_right, splat, swap_bytes,
    transpose, xor,
};
use crate::Item;
use crate::rule::challenge_digest;

/// A block in bytes.
const BLOCK: usize = 128;
/// R and A, which stand before the message.
const PREFIX: usize = 64;
/// The padding's first byte and the length: 17 bytes at least.
const PADDING_MIN: usize = 17;

/// The first 64 bits of the fractional parts of the square roots of the first eight primes.
const START: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// The first 64 bits of the fractional parts of the cube roots of the first eighty primes.
const ROUNDS: [u64; 80] = [
    0x428a_2f98_d728_ae22,
    0x7137_4491_23ef_65cd,
    0xb5c0_fbcf_ec4d_3b2f,
    0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538,
    0x59f1_11f1_b605_d019,
    0x923f_82a4_af19_4f9b,
    0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242,
    0x1283_5b01_4570_6fbe,
    0x2431_85be_4ee4_b28c,
    0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f,
    0x80de_b1fe_3b16_96b1,
    0x9bdc_06a7_25c7_1235,
    0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2,
    0xefbe_4786_384f_25e3,
    0x0fc1_9dc6_8b8c_d5b5,
    0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275,
    0x4a74_84aa_6ea6_e483,
    0x5cb0_a9dc_bd41_fbd4,
    0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab,
    0xa831_c66d_2db4_3210,
    0xb003_27c8_98fb_213f,
    0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2,
    0xd5a7_9147_930a_a725,
    0x06ca_6351_e003_826f,
    0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc,
    0x2e1b_2138_5c26_c926,
    0x4d2c_6dfc_5ac4_2aed,
    0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de,
    0x766a_0abb_3c77_b2a8,
    0x81c2_c92e_47ed_aee6,
    0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364,
    0xa81a_664b_bc42_3001,
    0xc24b_8b70_d0f8_9791,
    0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218,
    0xd699_0624_5565_a910,
    0xf40e_3585_5771_202a,
    0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8,
    0x1e37_6c08_5141_ab53,
    0x2748_774c_df8e_eb99,
    0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63,
    0x4ed8_aa4a_e341_8acb,
    0x5b9c_ca4f_7763_e373,
    0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc,
    0x78a5_636f_4317_2f60,
    0x84c8_7814_a1f0_ab72,
    0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28,
    0xa450_6ceb_de82_bde9,
    0xbef9_a3f7_b2c6_7915,
    0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c,
    0xd186_b8c7_21c0_c207,
    0xeada_7dd6_cde0_eb1e,
    0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba,
    0x0a63_7dc5_a2c8_98a6,
    0x113f_9804_bef9_0dae,
    0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84,
    0x32ca_ab7b_40c7_2493,
    0x3c9e_be0a_15c9_bebc,
    0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6,
    0x597f_299c_fc65_7e2a,
    0x5fcb_6fab_3ad6_faec,
    0x6c44_198c_4a47_5817,
];

vector! {
    /// The 512-bit digests of `R ‖ A ‖ M` of eight items: word `n` of the little-endian number in
    /// `words[n]`.
    pub(super) fn challenges(items: &[&Item<'_>; 8]) -> [Lanes; 8] {
        if std::ptr::eq(items[0], items[7]) {
            // One item in all lanes: a block of eight costs as much as two.
            let digest = challenge_digest(items[0]);
            let (words, _) = digest.as_chunks::<8>();
            return std::array::from_fn(|word| splat(u64::from_le_bytes(words[word])));
        }
        let counts = items.map(|item| blocks(item.message.len()));
        let most = counts.iter().copied().max().unwrap_or(0);
        let mut state = START.map(|word| splat(word));
        let mut bytes = [[0; BLOCK]; 8];
        for block in 0..most {
            let mut active: Mask = 0;
            for (lane, (item, bytes)) in items.iter().zip(&mut bytes).enumerate() {
                if block < counts[lane] {
                    active |= 1 << lane;
                    fill(bytes, item, block, counts[lane]);
                }
            }
            let after = compress(state, words(&bytes));
            for (word, after) in state.iter_mut().zip(after) {
                *word = select(active, *word, after);
            }
        }
        state.map(|word| swap_bytes(word))
    }
}

/// Blocks of an item whose message has so many bytes.
pub(super) fn blocks(message: usize) -> usize {
    (PREFIX + message + PADDING_MIN).div_ceil(BLOCK)
}

/// Writes one block of `R ‖ A ‖ M ‖ 0x80 ‖ 0… ‖ length in bits`.
fn fill(bytes: &mut [u8; BLOCK], item: &Item<'_>, block: usize, count: usize) {
    let end = PREFIX + item.message.len();
    let start = block * BLOCK;
    let text = end.saturating_sub(start).min(BLOCK);
    if block == 0 {
        bytes[..32].copy_from_slice(&item.signature[..32]);
        bytes[32..PREFIX].copy_from_slice(item.key);
        bytes[PREFIX..text].copy_from_slice(&item.message[..text - PREFIX]);
    } else {
        let from = (start - PREFIX).min(item.message.len());
        bytes[..text].copy_from_slice(&item.message[from..from + text]);
    }
    bytes[text..].fill(0);
    if (start..start + BLOCK).contains(&end) {
        bytes[end - start] = 0x80;
    }
    if block + 1 == count {
        let bits = 8 * u128::try_from(end).expect("a length has at most 64 bits");
        bytes[BLOCK - 16..].copy_from_slice(&bits.to_be_bytes());
    }
}

vector! {
    /// The sixteen big-endian words of eight blocks.
    fn words(blocks: &[[u8; BLOCK]; 8]) -> [Lanes; 16] {
        let half = |half: usize| {
            let rows = std::array::from_fn(|lane| {
                let (words, _) = blocks[lane].as_chunks::<8>();
                load(&std::array::from_fn(|word| u64::from_le_bytes(words[8 * half + word])))
            });
            transpose(rows)
        };
        let (first, second) = (half(0), half(1));
        std::array::from_fn(|word| swap_bytes(if word < 8 { first[word] } else { second[word - 8] }))
    }
}

vector! {
    /// One block into the state of each lane.
    fn compress(state: [Lanes; 8], mut words: [Lanes; 16]) -> [Lanes; 8] {
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        let (first, rest) = ROUNDS.as_chunks::<16>().0.split_first().expect("five times sixteen");
        let mut constants = first;
        macro_rules! step {
            ($step:expr) => {
                let large_e =
                    xor(rotate_right::<14>(e), rotate_right::<18>(e), rotate_right::<41>(e));
                let large_a =
                    xor(rotate_right::<28>(a), rotate_right::<34>(a), rotate_right::<39>(a));
                let input = add(words[$step], splat(constants[$step]));
                let first = add(add(h, input), add(choose(e, f, g), large_e));
                let second = add(majority(a, b, c), large_a);
                (h, g, f, e) = (g, f, e, add(d, first));
                (d, c, b, a) = (c, b, a, add(first, second));
            };
        }
        macro_rules! next_word {
            ($step:expr) => {
                let (old, new) = (words[($step + 1) % 16], words[($step + 14) % 16]);
                let small = xor(rotate_right::<1>(old), rotate_right::<8>(old), shift_right::<7>(old));
                let large =
                    xor(rotate_right::<19>(new), rotate_right::<61>(new), shift_right::<6>(new));
                let sum = add(words[$step], words[($step + 9) % 16]);
                words[$step] = add(sum, add(small, large));
            };
        }
        macro_rules! next_word_and_step {
            ($step:expr) => {
                next_word!($step);
                step!($step);
            };
        }
        sixteen!(step);
        for more in rest {
            constants = more;
            sixteen!(next_word_and_step);
        }
        let after = [a, b, c, d, e, f, g, h];
        std::array::from_fn(|word| add(state[word], after[word]))
    }
}
