//! The engine's ed25519 scheme, with a signer that may refuse: certificates and rules are commonware's own.

use crate::{
    signer::{Signer, Vote},
    terms::Terms,
};
use commonware_codec::{Copying, DecodeExt as _, Read};
use commonware_consensus::{
    simplex::{scheme::Namespace, types::Subject},
    types::Epoch,
};
use commonware_cryptography::{
    Digest,
    certificate::{
        self, AssemblyError, Attestation, Membership, Scoped, Subject as _, Verification, Verifier,
        verify_then_assemble,
    },
    ed25519::{
        self, PublicKey,
        certificate::{Certificate, Generic},
    },
};
use commonware_parallel::Strategy;
use commonware_utils::{
    N3f1, Participant,
    iter::NonEmpty,
    ordered::{Quorum as _, Set},
    union_unique,
};
use ledger::ValidatorSet;
use rand_core::CryptoRng;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// Who votes here.
#[derive(Clone, Debug)]
enum Voter {
    /// Somebody who only checks.
    Nobody,
    /// A validator that follows and votes not.
    Silent(Participant),
    /// A validator whose signer decides vote by vote.
    Signer(Participant, Signer),
}

/// Checks and makes the votes of one set of validators.
#[derive(Clone, Debug)]
pub struct Scheme {
    generic: Generic<Namespace>,
    voter: Voter,
}

impl Scheme {
    /// Checks, and votes as this signer allows; one that is silent in the epoch follows without a vote.
    ///
    /// Shape: none where its key is not in the set.
    pub fn signer(
        namespace: &[u8],
        validators: Set<PublicKey>,
        signer: Signer,
        epoch: u64,
    ) -> Option<Self> {
        let key = PublicKey::decode(Copying(signer.public().as_bytes())).ok()?;
        let me = validators.index(&key)?;
        let generic = Generic::verifier(namespace, validators);
        let voter =
            if signer.is_silent(epoch) { Voter::Silent(me) } else { Voter::Signer(me, signer) };
        Some(Self { generic, voter })
    }

    /// Checks only.
    pub fn verifier(namespace: &[u8], validators: Set<PublicKey>) -> Self {
        Self { generic: Generic::verifier(namespace, validators), voter: Voter::Nobody }
    }
}

/// The keys of a set for the engine, in the same order.
pub fn keys(set: &ValidatorSet) -> Set<PublicKey> {
    let key = |key: &ledger::PublicKey| {
        PublicKey::decode(Copying(key.as_bytes())).expect("keys of a set were checked")
    };
    let keys: Vec<PublicKey> = set.keys().iter().map(key).collect();
    keys.try_into().expect("the keys of a set are distinct")
}

/// Schemes that check, one for each epoch whose set is settled.
#[derive(Clone)]
pub struct Schemes {
    namespace: Vec<u8>,
    terms: Terms,
    /// The newest, by the digest of their sets.
    made: Arc<Mutex<Made>>,
}

/// Schemes by the digest of their set.
type Made = VecDeque<(ledger::Digest, Arc<Scheme>)>;

/// Schemes that are kept: to make one, every key is decoded.
const MADE_MAX: usize = 4;

impl Schemes {
    /// Starts with none.
    pub fn new(namespace: Vec<u8>, terms: Terms) -> Self {
        Self { namespace, terms, made: Arc::default() }
    }
}

impl certificate::Provider for Schemes {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, epoch: Epoch) -> Option<Scoped<Scheme>> {
        let set = self.terms.set(epoch.get())?;
        let digest = set.digest();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, scheme)) = made.iter().find(|(other, _)| *other == digest) {
            return Some(Scoped::scheme(scheme.clone()));
        }
        let scheme = Arc::new(Scheme::verifier(&self.namespace, keys(&set)));
        made.push_front((digest, scheme.clone()));
        made.truncate(MADE_MAX);
        Some(Scoped::scheme(scheme))
    }
}

impl Verifier for Scheme {
    type Subject<'a, D: Digest> = Subject<'a, D>;
    type Faults = N3f1;
    type PublicKey = PublicKey;
    type Certificate = Certificate;

    fn verify_certificate<R: CryptoRng, D: Digest>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        certificate: &Certificate,
        strategy: &impl Strategy,
    ) -> bool {
        self.generic.verify_certificate::<Self, _>(rng, subject, certificate, strategy)
    }

    fn verify_certificates<'a, R, D, I>(
        &self,
        rng: &mut R,
        certificates: NonEmpty<I>,
        strategy: &impl Strategy,
    ) -> bool
    where
        R: CryptoRng,
        D: Digest,
        I: Iterator<Item = (Subject<'a, D>, &'a Certificate)>,
    {
        self.generic.verify_certificates::<Self, _, _, _>(rng, certificates, strategy)
    }

    fn is_batchable() -> bool {
        Generic::<Namespace>::is_batchable()
    }

    fn max_certificate_size(participants: u32) -> usize {
        Generic::<Namespace>::max_certificate_size(participants)
    }

    fn certificate_codec_config(&self) -> <Certificate as Read>::Cfg {
        self.generic.certificate_codec_config()
    }

    fn certificate_codec_config_unbounded() -> <Certificate as Read>::Cfg {
        Generic::<Namespace>::certificate_codec_config_unbounded()
    }
}

impl certificate::Scheme for Scheme {
    type Signature = ed25519::Signature;

    fn me(&self) -> Option<Membership> {
        match &self.voter {
            Voter::Nobody => None,
            Voter::Silent(me) => Some(Membership::Member(*me)),
            Voter::Signer(me, _) => Some(Membership::Signer(*me)),
        }
    }

    fn participants(&self) -> &Set<PublicKey> {
        &self.generic.participants
    }

    fn sign<D: Digest>(&self, subject: Subject<'_, D>) -> Option<Attestation<Self>> {
        let Voter::Signer(me, signer) = &self.voter else { return None };
        let message = subject.message();
        let digest = || ledger::Digest(blake3::derive_key("althing vote v1", &message));
        let (round, vote) = match subject {
            Subject::Notarize { proposal } => (proposal.round, Vote::Notarize(digest())),
            Subject::Nullify { round } => (round, Vote::Nullify),
            Subject::Finalize { proposal } => (proposal.round, Vote::Finalize(digest())),
        };
        let signed = union_unique(subject.namespace(&self.generic.namespace), &message);
        let place = (round.epoch().get(), round.view().get());
        let signature = signer.vote(place, vote, &signed)?;
        let signature = ed25519::Signature::decode(Copying(&signature.0)).ok()?;
        Some(Attestation { signer: *me, signature: signature.into() })
    }

    fn verify_attestation<R: CryptoRng, D: Digest>(
        &self,
        _: &mut R,
        subject: Subject<'_, D>,
        attestation: &Attestation<Self>,
        _: &impl Strategy,
    ) -> bool {
        self.generic.verify_attestation(subject, attestation)
    }

    fn verify_attestations<R, D, I>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        attestations: I,
        strategy: &impl Strategy,
    ) -> Verification<Self>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
    {
        self.generic.verify_attestations(rng, subject, attestations, strategy)
    }

    fn optimistic_assemble<'a, R, D, I, J>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        pending: I,
        verified: J,
        strategy: &impl Strategy,
    ) -> Result<Certificate, Verification<Self>>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: ExactSizeIterator + Send,
        J: IntoIterator<Item = &'a Attestation<Self>>,
        J::IntoIter: Send,
    {
        verify_then_assemble::<Self, _, D, _, _>(self, rng, subject, pending, verified, strategy)
    }

    fn assemble<I>(
        &self,
        attestations: NonEmpty<I>,
        _: &impl Strategy,
    ) -> Result<Certificate, AssemblyError>
    where
        I: Iterator<Item = Attestation<Self>> + Send,
    {
        self.generic.assemble::<Self, _>(attestations)
    }

    fn is_attributable() -> bool {
        Generic::<Namespace>::is_attributable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        consensus::block::engine_digest,
        key::Secret,
        signer::{Guard, guard::State},
    };
    use commonware_codec::Encode as _;
    use commonware_consensus::{
        simplex::{
            scheme::ed25519::Scheme as Plain,
            types::{Finalize, Notarize, Nullify, Proposal},
        },
        types::{Epoch, Round, View},
    };
    use commonware_cryptography::{
        Signer as _, certificate::Scheme as _, ed25519::PrivateKey, sha256,
    };

    const NAMESPACE: &[u8] = b"test";

    fn set() -> Set<PublicKey> {
        let keys: Vec<PublicKey> =
            (0..4).map(|seed| PrivateKey::from_seed(seed).public_key()).collect();
        keys.try_into().unwrap()
    }

    fn secret(key: &PrivateKey) -> Secret {
        Secret::from_seed(&key.encode().as_ref().try_into().unwrap())
    }

    fn proposal(view: u64, byte: u8) -> Proposal<crate::consensus::block::Digest> {
        let round = Round::new(Epoch::zero(), View::new(view));
        Proposal::new(round, View::new(view - 1), engine_digest(ledger::Digest([byte; 32])))
    }

    #[test]
    fn votes_are_those_of_the_engines_own_scheme() {
        let key = PrivateKey::from_seed(2);
        let signer = Signer::unguarded(secret(&key));
        let ours = Scheme::signer(NAMESPACE, set(), signer, 0).unwrap();
        let plain = Plain::signer(NAMESPACE, set(), key).unwrap();
        assert_eq!(certificate::Scheme::me(&ours), certificate::Scheme::me(&plain));
        for view in [1, 300, 70_000] {
            let made = Notarize::sign(&ours, proposal(view, 1)).unwrap().encode();
            assert_eq!(made, Notarize::sign(&plain, proposal(view, 1)).unwrap().encode());
            let made = Finalize::sign(&ours, proposal(view, 1)).unwrap().encode();
            assert_eq!(made, Finalize::sign(&plain, proposal(view, 1)).unwrap().encode());
            let round = Round::new(Epoch::zero(), View::new(view + 1));
            let made = Nullify::sign::<sha256::Digest>(&ours, round).unwrap().encode();
            assert_eq!(made, Nullify::sign::<sha256::Digest>(&plain, round).unwrap().encode());
            // Nothing that contradicts them.
            assert!(Notarize::sign(&ours, proposal(view, 2)).is_none());
            assert!(Finalize::sign(&ours, proposal(view, 2)).is_none());
            let round = Round::new(Epoch::zero(), View::new(view));
            assert!(Nullify::sign::<sha256::Digest>(&ours, round).is_none());
        }
        assert!(
            Scheme::signer(NAMESPACE, set(), Signer::unguarded(Secret::from_seed(&[9; 32])), 0)
                .is_none()
        );
        assert_eq!(Scheme::verifier(NAMESPACE, set()).me(), None);
    }

    #[test]
    fn whoever_lost_its_guard_is_a_member_without_a_vote() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.key");
        Guard::create(&file, &State { silent_until: 1, ..State::default() }).unwrap();
        let guard = Guard::open(&file).unwrap().unwrap();
        let signer = Signer::guarded(secret(&PrivateKey::from_seed(2)), guard);
        let scheme = Scheme::signer(NAMESPACE, set(), signer.clone(), 0).unwrap();
        assert!(matches!(scheme.me(), Some(Membership::Member(_))));
        assert!(Notarize::sign(&scheme, proposal(9, 1)).is_none());
        let next = Scheme::signer(NAMESPACE, set(), signer, 1).unwrap();
        assert!(matches!(next.me(), Some(Membership::Signer(_))));
    }
}
