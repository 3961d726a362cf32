//! The ledger's certificates as the engine's, there and back.

use super::*;
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::{Bitmap, Digest, Signature, View};

fn finality(signers: &[u32]) -> Finality {
    let mut bitmap = Bitmap::default();
    signers.iter().for_each(|signer| assert!(bitmap.insert(*signer)));
    let key = SigningKey::from_bytes(&[7; 32]);
    let sign = |signer: &u32| Signature(key.sign(&signer.to_le_bytes()).to_bytes());
    Finality {
        epoch: 3,
        view: View(9),
        parent_view: View(7),
        payload: Digest([5; 32]),
        signers: bitmap,
        signatures: signers.iter().map(sign).collect(),
    }
}

#[test]
fn a_certificate_comes_back_from_the_engine_s_form() {
    for signers in [&[0, 1, 2][..], &[0, 2, 3], &[0, 1, 2, 3]] {
        let stored = finality(signers);
        let engine = finalization(&stored, 4).unwrap();
        assert_eq!(crate::node::certificate(&engine), stored);
    }
}
