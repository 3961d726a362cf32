//! The rival to beat: the batch verifier of commonware, which the consensus engine itself uses.

use std::num::NonZeroUsize;

use chacha20::ChaCha12Rng;
use chacha20::rand_core::SeedableRng;
use commonware_codec::{Copying, DecodeExt};
use commonware_cryptography_curve25519::signing::{Signature, VerifyingKey as PublicKey};
use commonware_cryptography::{BatchEntry, BatchVerifier};
use commonware_parallel::{Rayon, Sequential, Strategy};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::inputs::{Inputs, NAMESPACE};
use super::subjects::{Pass, Subject, Workers, timed};
use crate::suite::{Failure, Label};

/// `PublicKey::verify_batch`, with its own parallel strategy where there are threads.
pub(super) struct Commonware {
    /// Its coefficients; a fixed seed does for inputs that nobody chose against it.
    random: ChaCha12Rng,
    /// Its own threads, of a kind of its own.
    parallel: Option<Rayon>,
    /// The group's threads, for decoding keys.
    workers: Workers,
}

impl Commonware {
    pub(super) fn new(threads: usize, workers: Workers) -> Result<Self, Failure> {
        let failed = |error| Failure::machine("start threads", error);
        let parallel = match NonZeroUsize::new(threads) {
            Some(threads) if threads.get() > 1 => Some(Rayon::new(threads).map_err(failed)?),
            Some(_) | None => None,
        };
        Ok(Self { random: ChaCha12Rng::from_seed([7; 32]), parallel, workers })
    }

    /// Checks one call's items with keys that are decoded.
    fn hold(
        &mut self,
        inputs: &Inputs,
        start: usize,
        keys: &[PublicKey],
        signatures: &[Signature],
        strategy: &impl Strategy,
    ) -> bool {
        let project = |index: usize, public_key| BatchEntry {
            namespace: NAMESPACE,
            message: inputs.payload(start + index),
            public_key,
            signature: &signatures[start + index],
        };
        PublicKey::verify_batch(&mut self.random, keys, project, strategy)
    }

    fn pass_with(&mut self, inputs: &Inputs, strategy: &impl Strategy) -> Result<Pass, Failure> {
        let signatures = inputs.signatures.iter().map(signature).collect::<Result<Vec<_>, _>>()?;
        let workers = self.workers.clone();
        let decode = |keys: &[[u8; 32]]| -> Option<Vec<PublicKey>> {
            match &workers {
                Some(workers) => workers.install(|| keys.par_iter().map(key).collect()),
                None => keys.iter().map(key).collect(),
            }
        };
        let known = match &inputs.decoded {
            Some(_) => decode(&inputs.keys),
            None => None,
        };
        Ok(timed(inputs, |call| {
            let start = call.start;
            match &known {
                Some(known) => self.hold(inputs, start, &known[call], &signatures, strategy),
                None => decode(&inputs.keys[call])
                    .is_some_and(|keys| self.hold(inputs, start, &keys, &signatures, strategy)),
            }
        }))
    }
}

impl Subject for Commonware {
    fn label(&self) -> Label {
        Label::new("commonware-cryptography-curve25519::verify_batch")
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        match self.parallel.clone() {
            Some(parallel) => self.pass_with(inputs, &parallel),
            None => self.pass_with(inputs, &Sequential),
        }
    }
}

fn key(bytes: &[u8; 32]) -> Option<PublicKey> {
    PublicKey::decode(Copying(bytes)).ok()
}

fn signature(bytes: &[u8; 64]) -> Result<Signature, Failure> {
    Signature::decode(Copying(bytes)).map_err(|error| Failure::Wrong(error.to_string()))
}
