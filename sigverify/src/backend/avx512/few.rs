//! Entries that are dearer in one group than one by one.

use std::arch::x86_64::_mm512_mask_mov_epi64;

use super::chunk::{Claim, Decoded};
use super::point::Extended;
use super::scalar::Scalars;
use super::vector::splat;
use super::{alone, single};
use crate::Verdict;

/// Most entries that are judged one by one: a group costs as much as two and a half.
const MAX: usize = 2;

vector! {
    /// Judges the entries if they are few, and then takes them away; the verdict of entry `n` is
    /// number `n - start`.
    pub(super) fn judge(
        decoded: &Decoded,
        entries: &mut &[usize],
        start: usize,
        verdicts: &mut [Verdict],
    ) {
        if entries.len() <= MAX {
            for entry in std::mem::take(entries) {
                verdicts[entry - start] = Verdict::of(holds(decoded, &decoded.claims[*entry]));
            }
        }
    }
}

vector! {
    fn holds(decoded: &Decoded, claim: &Claim) -> bool {
        let Scalars(mut scalars) = Scalars::from_rows([&claim.challenge_times_r; 8]).without_r();
        let [w0, w1, w2, w3, ..] = claim.response.map(|word| splat(word));
        let Scalars(responses) = Scalars::from_words([w0, w1, w2, w3]);
        for (scalar, response) in scalars.iter_mut().zip(responses) {
            *scalar = _mm512_mask_mov_epi64(*scalar, 0b10, response);
        }
        let row = single::recompute(decoded.key(claim), &Scalars(scalars));
        let found = Extended::from_rows([&row; 8]);
        alone::agree(&found, [decoded.commitment(claim); 8]) & 1 == 1
    }
}
