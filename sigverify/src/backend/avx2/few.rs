//! Entries that are dearer in one group than one by one: none, once they are decoded. Calls of so few
//! items do not come this far, the oracle judges them.

use super::alone::{self, Equations};
use super::chunk::{Claim, Decoded};
use super::scalar::Scalars;
use super::vector::splat;

/// Most entries that are judged one by one.
pub(super) const MAX: usize = 0;

vector! {
    /// Judges one entry.
    pub(super) fn holds(decoded: &Decoded, claim: &Claim) -> bool {
        let [w0, w1, w2, w3, ..] = claim.response.map(|word| splat(word));
        let equations = Equations {
            keys: [decoded.key(claim); 8],
            commitments: [decoded.commitment(claim); 8],
            challenges: Scalars::from_rows([&claim.challenge_times_r; 8]).without_r(),
            responses: Scalars::from_words([w0, w1, w2, w3]),
        };
        alone::hold(&equations) & 1 == 1
    }
}
