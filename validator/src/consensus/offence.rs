//! What the engine shows of a validator that contradicts itself, as the ledger's evidence.

use super::{block::Digest as EngineDigest, scheme::Scheme};
use commonware_codec::{DecodeExt as _, Encode, types::lazy::Lazy};
use commonware_consensus::{
    Epochable as _, Viewable as _,
    simplex::types::{Activity, Attributable as _, Finalize, Notarize, Nullify, Proposal},
};
use commonware_cryptography::{certificate::Attestation, ed25519};
use ledger::{Digest, Evidence, Offence, Signature, View, Vote};

/// The evidence in an activity, if there is any.
pub(super) fn evidence(
    network: &Digest,
    activity: &Activity<Scheme, EngineDigest>,
) -> Option<Evidence> {
    let view = View(activity.view().get());
    let (signer, epoch, offence) = match activity {
        Activity::ConflictingNotarize(conflict) => {
            let votes =
                pair(conflict, |vote: &Notarize<_, _>| vote_of(&vote.proposal, &vote.attestation))?;
            (conflict.signer(), conflict.epoch(), Offence::Notarize(view, votes))
        }
        Activity::ConflictingFinalize(conflict) => {
            let votes =
                pair(conflict, |vote: &Finalize<_, _>| vote_of(&vote.proposal, &vote.attestation))?;
            (conflict.signer(), conflict.epoch(), Offence::Finalize(view, votes))
        }
        Activity::NullifyFinalize(conflict) => {
            // The two votes stand one behind the other.
            let bytes = conflict.encode();
            let (nullify, finalize) = (0..bytes.len()).rev().find_map(|at| {
                let nullify = Nullify::<Scheme>::decode(bytes.slice(..at)).ok()?;
                let finalize = Finalize::<Scheme, EngineDigest>::decode(bytes.slice(at..)).ok()?;
                Some((nullify, finalize))
            })?;
            let finalize = vote_of(&finalize.proposal, &finalize.attestation);
            let nullify = signature(&nullify.attestation.signature);
            (conflict.signer(), conflict.epoch(), Offence::NullifyFinalize(view, nullify, finalize))
        }
        Activity::Notarize(_)
        | Activity::Notarization(_)
        | Activity::Certification(_)
        | Activity::Nullify(_)
        | Activity::Nullification(_)
        | Activity::Finalize(_)
        | Activity::Finalization(_) => return None,
    };
    Some(Evidence::new(*network, epoch.get(), signer.get(), offence))
}

/// The two votes of a conflict, which stand one behind the other in its encoding.
fn pair<T>(conflict: &impl Encode, vote: impl Fn(&T) -> Vote) -> Option<[Vote; 2]>
where
    T: commonware_codec::Decode<Cfg = ()>,
{
    let bytes = conflict.encode();
    (0..bytes.len()).find_map(|at| {
        let one = T::decode(bytes.slice(..at)).ok()?;
        let other = T::decode(bytes.slice(at..)).ok()?;
        Some([vote(&one), vote(&other)])
    })
}

fn vote_of(proposal: &Proposal<EngineDigest>, attestation: &Attestation<Scheme>) -> Vote {
    Vote {
        parent_view: View(proposal.parent.get()),
        payload: Digest(proposal.payload.0),
        signature: signature(&attestation.signature),
    }
}

fn signature(lazy: &Lazy<ed25519::Signature>) -> Signature {
    let bytes = lazy.encode();
    Signature(*bytes.first_chunk().expect("a signature has 64 bytes"))
}

#[cfg(test)]
mod tests {
    use super::super::{block::engine_digest, engine::Observer};
    use super::*;
    use crate::key::Secret;
    use crate::signer::Signer;
    use crate::stage::evidence::{REPEAT, Stage, witnesses};
    use crate::{terms::Terms, votes::Judge};
    use commonware_consensus::Reporter as _;
    use commonware_consensus::{
        simplex::types::{ConflictingFinalize, ConflictingNotarize, NullifyFinalize},
        types::{Epoch, Round, View as EngineView},
    };
    use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
    use commonware_utils::ordered::Set;
    use ledger::{Reject, ValidatorSet, engine_namespace};
    use std::sync::Arc;

    const NETWORK: Digest = Digest([6; 32]);

    fn setup() -> (Scheme, u32, ValidatorSet) {
        let keys: Vec<PrivateKey> = (0..4).map(PrivateKey::from_seed).collect();
        let public: Vec<ed25519::PublicKey> = keys.iter().map(PrivateKey::public_key).collect();
        let set: Set<ed25519::PublicKey> = public.try_into().unwrap();
        let bytes =
            |key: &ed25519::PublicKey| ledger::PublicKey(*key.as_ref().first_chunk().unwrap());
        let ours = ValidatorSet::new(set.iter().map(bytes).collect()).unwrap();
        let index = ours.index_of(&bytes(&keys[2].public_key())).unwrap();
        let secret = Secret::from_seed(&keys[2].encode().as_ref().try_into().unwrap());
        let signer = Signer::unguarded(secret);
        let scheme = Scheme::signer(&engine_namespace(&NETWORK), set, signer, 0).unwrap();
        (scheme, index, ours)
    }

    /// A proposal of view 300, or another, whose numbers have encodings of several lengths.
    fn proposal(view: u64, parent: u64, byte: u8) -> Proposal<EngineDigest> {
        let round = Round::new(Epoch::zero(), EngineView::new(view));
        Proposal::new(round, EngineView::new(parent), engine_digest(Digest([byte; 32])))
    }

    /// The engine reports it, and it arrives.
    fn assert_is_told(conflict: &Activity<Scheme, EngineDigest>, kind: &str) {
        let folder = tempfile::tempdir().unwrap();
        let board = Arc::new(crate::evidence::Board::default());
        let (witnesses, witnessed) = witnesses();
        let mut observer = Observer::telling(witnesses, NETWORK);
        observer.report(conflict.clone());
        assert_eq!(observer.observed().equivocations.len(), 1);
        drop(observer);
        let (_, _, set) = setup();
        let options = sigverify::Options { backend: None, threads: 1 };
        let judge = Arc::new(Judge::new(Arc::new(sigverify::Verifier::new(&options).unwrap())));
        let core = crate::evidence::Core::open(
            folder.path().join("evidence"),
            NETWORK,
            Terms::of(set.keys()),
            ledger::PublicKey([9; 32]),
            judge,
            board.clone(),
        );
        let (outgoing, _sent) = tokio::sync::mpsc::channel(4);
        let (repeat, metrics) = (REPEAT, Arc::new(crate::metrics::Metrics::new()));
        // It ends, since nobody is left who could find anything.
        Stage { core, witnessed, outgoing, repeat, metrics }.run();
        assert_eq!(board.all().iter().map(|kept| kept.evidence.kind()).collect::<Vec<_>>(), [kind]);
    }

    #[test]
    fn the_engines_conflicts_are_the_ledgers_evidence() {
        let (_, signer, set) = setup();
        let options = sigverify::Options { backend: None, threads: 1 };
        let judge = Judge::new(Arc::new(sigverify::Verifier::new(&options).unwrap()));
        // Each by a signer of its own: one that knows of the other vote signs no second.
        let notarize = |proposal| Notarize::sign(&setup().0, proposal).unwrap();
        let finalize = |proposal| Finalize::sign(&setup().0, proposal).unwrap();
        for (view, parent) in [(9, 8), (300, 2), (70_000, 69_999)] {
            let round = Round::new(Epoch::zero(), EngineView::new(view));
            let one = || proposal(view, parent, 1);
            // Of the same block upon another parent, too.
            for other in [proposal(view, parent, 2), proposal(view, parent - 1, 1)] {
                let conflicts = [
                    Activity::ConflictingNotarize(ConflictingNotarize::new(
                        notarize(one()),
                        notarize(other.clone()),
                    )),
                    Activity::ConflictingFinalize(ConflictingFinalize::new(
                        finalize(one()),
                        finalize(other.clone()),
                    )),
                    Activity::NullifyFinalize(NullifyFinalize::new(
                        Nullify::sign::<EngineDigest>(&setup().0, round).unwrap(),
                        finalize(one()),
                    )),
                ];
                let kinds = ["notarize", "finalize", "nullify_finalize"];
                for (conflict, kind) in conflicts.iter().zip(kinds) {
                    assert_is_told(conflict, kind);
                    let found = evidence(&NETWORK, conflict).unwrap();
                    assert_eq!((found.kind(), found.validator()), (kind, signer));
                    assert_eq!(found.check(&NETWORK, &set, &judge), Ok(()), "{kind} in {view}");
                    let foreign = evidence(&Digest([7; 32]), conflict).unwrap();
                    let verdict = foreign.check(&Digest([7; 32]), &set, &judge);
                    assert_eq!(verdict, Err(Reject::BadSignature));
                }
            }
        }
        assert_eq!(evidence(&NETWORK, &Activity::Notarize(notarize(proposal(9, 8, 1)))), None);
    }
}
