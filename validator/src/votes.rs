//! Judges of signatures: the ledger's rule by `sigverify`, the engine's by the engine's own code.

use crate::cost::{Cost, Meter};
use commonware_codec::{Copying, DecodeExt as _, ReadExt as _, varint::UInt};
use commonware_cryptography::{
    BatchEntry, BatchVerifier as _, Verifier as _,
    ed25519::{PublicKey, Signature},
};
use commonware_parallel::Sequential;
use ledger::{Signatures, SignedItem};
use rand_core::{TryCryptoRng, TryRng};
use sigverify::{Item, Source, Verdict, Verifier};
use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

/// Signatures of acks and certificates that are remembered as good: an ack is seen by its lane, in
/// a certificate and in every cut until the lane is finalized.
const KNOWN_MAX: usize = 8_192;
/// Larger calls are batches of transactions, each of which is seen once.
const KNOWN_ITEMS_MAX: usize = 128;

/// Judges votes by the rule of the consensus engine (pure ZIP 215), with the engine's own code.
///
/// Shape: verdict `i` answers `items[i]`. A message is what the engine signs: the length of the
/// namespace as a varint, the namespace, the message proper (`commonware_utils::union_unique`).
///
/// All together first, which says the same by the same code's own rule, but for a chance of 2^-128.
pub fn verify_votes(items: &[SignedItem<'_>]) -> Vec<bool> {
    let votes: Vec<Option<Vote<'_>>> = items.iter().map(Vote::read).collect();
    let all: Option<Vec<&Vote<'_>>> = votes.iter().map(Option::as_ref).collect();
    if let Some(all) = all.filter(|all| all.len() > 1)
        && let Ok(mut random) = Random::new()
        && PublicKey::verify_batch(&mut random, &all, |_, vote| vote.entry(), &Sequential)
    {
        return vec![true; items.len()];
    }
    votes.iter().map(|vote| vote.as_ref().is_some_and(Vote::holds)).collect()
}

/// A vote whose key and signature are read.
struct Vote<'a> {
    key: PublicKey,
    signature: Signature,
    namespace: &'a [u8],
    message: &'a [u8],
}

impl<'a> Vote<'a> {
    fn read(item: &SignedItem<'a>) -> Option<Self> {
        let key = PublicKey::decode(Copying(item.key)).ok()?;
        let signature = Signature::decode(Copying(item.signature)).ok()?;
        let mut message = Copying(item.message);
        let length: u32 = UInt::read(&mut message).ok()?.into();
        let (namespace, message) = message.0.split_at_checked(usize::try_from(length).ok()?)?;
        Some(Self { key, signature, namespace, message })
    }

    fn holds(&self) -> bool {
        self.key.verify(self.namespace, self.message, &self.signature)
    }

    fn entry(&self) -> BatchEntry<'_, PublicKey> {
        let Self { key, signature, namespace, message } = self;
        BatchEntry { namespace, message, public_key: key, signature }
    }
}

/// Random numbers for the coefficients of a batch: BLAKE3 of a seed from the operating system.
struct Random(blake3::OutputReader);

impl Random {
    fn new() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let mut hasher = blake3::Hasher::new_derive_key("althing vote batch v1");
        Ok(Self(hasher.update(&seed).finalize_xof()))
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Random {}

/// The judge that every stage shares.
pub struct Judge {
    verifier: Arc<Verifier>,
    meter: Meter,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    digests: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Judge {
    /// Judges with this verifier; nobody counts what that costs.
    pub fn new(verifier: Arc<Verifier>) -> Self {
        Self::metered(verifier, Meter::OFF)
    }

    /// Judges with this verifier, and counts what that costs.
    pub fn metered(verifier: Arc<Verifier>, meter: Meter) -> Self {
        Self { verifier, meter, known: Mutex::default() }
    }

    /// The verifier, for a judge that knows other signatures.
    pub fn verifier(&self) -> Arc<Verifier> {
        self.verifier.clone()
    }

    /// What counts the costs of whoever has its signatures judged here.
    pub const fn meter(&self) -> Meter {
        self.meter
    }

    /// Judges the items of one source, by the ledger's rule; nothing is remembered of them.
    ///
    /// Shape: verdict `i` answers `items[i]`.
    pub fn verify_from(&self, source: &Source, items: &[SignedItem<'_>]) -> Vec<Verdict> {
        if cfg!(feature = "unverified") {
            return vec![Verdict::Valid; items.len()];
        }
        self.meter.aside(Cost::Verify, || {
            let items: Vec<Item<'_>> = items.iter().map(sigverify_item).collect();
            self.verifier.verify_from(source, &items)
        })
    }

    fn verify_all(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
        let items: Vec<Item<'_>> = items.iter().map(sigverify_item).collect();
        let verdicts = self.verifier.verify_many(&items);
        verdicts.into_iter().map(sigverify::Verdict::is_valid).collect()
    }

    fn verify_few(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
        let digests: Vec<_> = items.iter().map(digest).collect();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut verdicts: Vec<bool> =
            digests.iter().map(|digest| known.digests.contains(digest)).collect();
        drop(known);
        let open: Vec<usize> = (0..items.len()).filter(|index| !verdicts[*index]).collect();
        if open.is_empty() {
            return verdicts;
        }
        let asked: Vec<SignedItem<'_>> = open.iter().map(|index| items[*index]).collect();
        let answers = self.verify_all(&asked);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, valid) in open.into_iter().zip(answers) {
            verdicts[index] = valid;
            if valid && known.digests.insert(digests[index]) {
                known.order.push_back(digests[index]);
            }
        }
        while known.order.len() > KNOWN_MAX {
            if let Some(oldest) = known.order.pop_front() {
                known.digests.remove(&oldest);
            }
        }
        verdicts
    }
}

const fn sigverify_item<'a>(item: &SignedItem<'a>) -> Item<'a> {
    Item { key: item.key, message: item.message, signature: item.signature }
}

fn digest(item: &SignedItem<'_>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(item.key).update(item.signature).update(item.message);
    *hasher.finalize().as_bytes()
}

impl Signatures for Judge {
    fn verify(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
        self.meter.aside(Cost::Verify, || {
            if items.len() > KNOWN_ITEMS_MAX {
                self.verify_all(items)
            } else {
                self.verify_few(items)
            }
        })
    }

    fn verify_votes(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
        verify_votes(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        consensus::{Scheme, block::engine_digest},
        key::Secret,
        node::certificate,
        signer::Signer,
    };
    use commonware_codec::Encode as _;
    use commonware_consensus::{
        simplex::types::{Finalization, Finalize, Proposal},
        types::{Epoch, Round, View},
    };
    use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
    use commonware_utils::{non_empty, ordered::Set};
    use curve25519_dalek::{EdwardsPoint, Scalar, traits::Identity as _};
    use ledger::{Digest, Finality, ValidatorSet, engine_namespace};
    use sha2::{Digest as _, Sha512};

    const NETWORK: Digest = Digest([6; 32]);

    fn judge() -> Judge {
        let options = sigverify::Options { backend: None, threads: 1 };
        Judge::new(Arc::new(Verifier::new(&options).unwrap()))
    }

    fn schemes() -> (Vec<Scheme>, ValidatorSet) {
        let keys: Vec<PrivateKey> = (0..4).map(PrivateKey::from_seed).collect();
        let public: Vec<PublicKey> = keys.iter().map(PrivateKey::public_key).collect();
        let set: Set<PublicKey> = public.try_into().unwrap();
        let bytes = |key: &PublicKey| ledger::PublicKey(*key.as_ref().first_chunk().unwrap());
        let ours = ValidatorSet::new(set.iter().map(bytes).collect()).unwrap();
        let scheme = |key: &PrivateKey| {
            let secret = Secret::from_seed(&key.encode().as_ref().try_into().unwrap());
            let signer = Signer::unguarded(secret);
            Scheme::signer(&engine_namespace(&NETWORK), set.clone(), signer, 0).unwrap()
        };
        (keys.iter().map(scheme).collect(), ours)
    }

    fn finalization(schemes: &[Scheme]) -> Finalization<Scheme, crate::consensus::block::Digest> {
        let round = Round::new(Epoch::zero(), View::new(300));
        let proposal = Proposal::new(round, View::new(299), engine_digest(Digest([8; 32])));
        let votes: Vec<_> =
            schemes[..3].iter().map(|s| Finalize::sign(s, proposal.clone()).unwrap()).collect();
        Finalization::from_finalizes(&schemes[0], non_empty![@&votes], &Sequential).unwrap()
    }

    #[test]
    fn the_engines_certificate_is_judged_alike_by_engine_and_ledger() {
        let (schemes, set) = schemes();
        let made = finalization(&schemes);
        let ours = certificate(&made);
        assert_eq!((ours.view.0, ours.parent_view.0, ours.payload), (300, 299, Digest([8; 32])));
        ours.check(&NETWORK, &set, &judge()).unwrap();
        assert_eq!(Finality::decode(&ours.encode()).unwrap(), ours);

        let other = Finality { view: ledger::View(301), ..ours.clone() };
        assert!(other.check(&NETWORK, &set, &judge()).is_err());
        assert!(ours.check(&Digest([7; 32]), &set, &judge()).is_err(), "another network");
        for byte in 0..64 {
            let mut changed = ours.clone();
            changed.signatures[1].0[byte] ^= 1;
            assert!(changed.check(&NETWORK, &set, &judge()).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn many_votes_get_the_verdicts_that_each_gets_alone() {
        let (schemes, _) = schemes();
        let mut certificates: Vec<Finality> = Vec::new();
        for view in 1..40 {
            let round = Round::new(Epoch::zero(), View::new(view));
            let proposal =
                Proposal::new(round, View::new(view - 1), engine_digest(Digest([8; 32])));
            let votes: Vec<_> =
                schemes[..3].iter().map(|s| Finalize::sign(s, proposal.clone()).unwrap()).collect();
            let made = Finalization::from_finalizes(&schemes[0], non_empty![@&votes], &Sequential);
            certificates.push(certificate(&made.unwrap()));
        }
        let messages: Vec<_> = certificates.iter().map(|it| it.signing_message(&NETWORK)).collect();
        let set = schemes[0].clone();
        let keys: Vec<ledger::PublicKey> = {
            use commonware_cryptography::certificate::Scheme as _;
            let bytes = |key: &PublicKey| ledger::PublicKey(*key.as_ref().first_chunk().unwrap());
            set.participants().iter().map(bytes).collect()
        };
        let items: Vec<SignedItem<'_>> = certificates
            .iter()
            .zip(&messages)
            .flat_map(|(it, message)| {
                let signers = it.signers.iter().zip(&it.signatures);
                signers.map(|(signer, signature)| {
                    SignedItem::new(&keys[signer as usize], message, signature)
                })
            })
            .collect();
        assert_eq!(verify_votes(&items), vec![true; items.len()]);
        assert!(verify_votes(&[]).is_empty());
        for bad in [0, 1, items.len() / 2, items.len() - 1] {
            for byte in [0, 31, 32, 63] {
                let mut signature = *items[bad].signature;
                signature[byte] ^= 1;
                let mut changed = items.clone();
                changed[bad].signature = &signature;
                let expected: Vec<bool> = (0..items.len()).map(|place| place != bad).collect();
                assert_eq!(verify_votes(&changed), expected, "{bad} {byte}");
            }
            let mut changed = items.clone();
            changed[bad].message = b"";
            assert!(!verify_votes(&changed)[bad]);
            let mut changed = items.clone();
            changed[bad].key = &[255; 32];
            assert!(!verify_votes(&changed)[bad]);
        }
    }

    /// Signs so that R is the identity: pure ZIP 215 accepts it, the ledger's own rule does not.
    fn small_order_signature(seed: &[u8; 32], message: &[u8]) -> [u8; 64] {
        let expanded = Sha512::digest(seed);
        let mut secret: [u8; 32] = *expanded[..32].first_chunk().unwrap();
        secret[0] &= 248;
        secret[31] = (secret[31] & 127) | 64;
        let secret = Scalar::from_bytes_mod_order(secret);
        let key = EdwardsPoint::mul_base(&secret).compress();
        let r = EdwardsPoint::identity().compress();
        let hash = Sha512::new().chain_update(r.0).chain_update(key.0).chain_update(message);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r.0);
        signature[32..].copy_from_slice((k * secret).as_bytes());
        signature
    }

    #[test]
    fn a_vote_with_a_small_order_r_gets_one_verdict_from_engine_and_ledger() {
        let seed = [5; 32];
        let private = PrivateKey::decode(Copying(&seed)).unwrap();
        let key: [u8; 32] = *private.public_key().as_ref().first_chunk().unwrap();
        let namespace = engine_namespace(&NETWORK);
        let payload = commonware_utils::union_unique(&namespace, b"vote");
        let signature = small_order_signature(&seed, &payload);
        let engine = private.public_key().verify(
            &namespace,
            b"vote",
            &Signature::decode(Copying(&signature)).unwrap(),
        );
        let item = SignedItem { key: &key, message: &payload, signature: &signature };
        assert!(engine, "the engine's rule accepts it");
        assert_eq!(judge().verify_votes(&[item]), [engine]);
        assert_eq!(judge().verify(&[item]), [false], "the ledger's own rule does not");
    }

    #[test]
    fn messages_that_are_no_votes_are_refused() {
        let private = PrivateKey::from_seed(1);
        let key: [u8; 32] = *private.public_key().as_ref().first_chunk().unwrap();
        let signature = [0; 64];
        for message in [&b""[..], &[0x80], &[9, 1, 2], &[0xff; 12]] {
            let item = SignedItem { key: &key, message, signature: &signature };
            assert_eq!(verify_votes(&[item]), [false]);
        }
    }

    #[test]
    fn known_signatures_are_remembered_and_bad_ones_are_not() {
        let judge = judge();
        let private = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let key = private.verifying_key().to_bytes();
        let message = [4; 47];
        let good = ed25519_dalek::Signer::sign(&private, &message).to_bytes();
        let mut bad = good;
        bad[1] ^= 1;
        let item = |signature| SignedItem { key: &key, message: &message, signature };
        for _ in 0..3 {
            assert_eq!(judge.verify(&[item(&good), item(&bad), item(&good)]), [true, false, true]);
        }
        assert_eq!(judge.known.lock().unwrap().digests.len(), 1);
        // Another message under a remembered signature is another question.
        let other = SignedItem { message: &[5; 47], ..item(&good) };
        assert_eq!(judge.verify(&[other]), [false]);
    }
}
