//! The libraries that others use, each by the calls that its documentation recommends.

use std::num::NonZeroUsize;
use std::sync::Arc;

use chacha20::ChaCha12Rng;
use chacha20::rand_core::SeedableRng;
use commonware_codec::{Copying, DecodeExt};
use commonware_cryptography::{BatchEntry, BatchVerifier};
use commonware_cryptography_curve25519::signing::{Signature, VerifyingKey};
use commonware_parallel::{Rayon, Sequential, Strategy};
use ed25519_zebra::{VerificationKey, VerificationKeyBytes};
use rayon::ThreadPool;

use super::inputs::{Inputs, NAMESPACE, Shape};
use super::subjects::{Pass, Subject, Workers, by_batch, by_item, timed};
use crate::suite::{Failure, Label};

/// Every rival that checks calls of this shape.
pub(super) fn all(
    shape: Shape,
    workers: Option<&Arc<ThreadPool>>,
) -> Result<Vec<Box<dyn Subject>>, Failure> {
    let workers = workers.cloned();
    let mut rivals: Vec<Box<dyn Subject>> = vec![
        Box::new(Commonware::new(shape, workers.clone())?),
        Box::new(Zebra { workers: workers.clone(), batch: shape.items > 1 }),
    ];
    for library in [Library::AwsLc, Library::Ring] {
        rivals.push(Box::new(Single { library, workers: workers.clone() }));
    }
    Ok(rivals)
}

/// commonware-cryptography-curve25519: the one to beat. `verify_batch` with its own parallel
/// strategy where there are threads, and `verify` for single items or where a batch fails.
struct Commonware {
    /// Its coefficients; a fixed seed does for inputs that nobody chose against it.
    random: ChaCha12Rng,
    /// Its own threads, of a kind of its own.
    parallel: Option<Rayon>,
    workers: Workers,
    batch: bool,
}

impl Commonware {
    fn new(shape: Shape, workers: Workers) -> Result<Self, Failure> {
        let failed = |error| Failure::machine("start threads", error);
        let parallel = match NonZeroUsize::new(shape.threads) {
            Some(threads) if threads.get() > 1 => Some(Rayon::new(threads).map_err(failed)?),
            Some(_) | None => None,
        };
        let random = ChaCha12Rng::from_seed([7; 32]);
        Ok(Self { random, parallel, workers, batch: shape.items > 1 })
    }

    fn pass_with(&mut self, inputs: &Inputs, strategy: &impl Strategy) -> Result<Pass, Failure> {
        let signatures = inputs.signatures.iter().map(signature).collect::<Result<Vec<_>, _>>()?;
        // Reading a key decodes nothing: it does that when it verifies.
        let keys = inputs.keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let is_valid =
            |place: usize| keys[place].verify(NAMESPACE, inputs.payload(place), &signatures[place]);
        let workers = self.workers.clone();
        Ok(timed(inputs, |call, verdicts| {
            let start = call.start;
            let project = |index: usize, public_key| BatchEntry {
                namespace: NAMESPACE,
                message: inputs.payload(start + index),
                public_key,
                signature: &signatures[start + index],
            };
            let (random, keys) = (&mut self.random, &keys[call.clone()]);
            if self.batch && VerifyingKey::verify_batch(random, keys, project, strategy) {
                verdicts.fill(true);
            } else {
                by_item(workers.as_deref(), call, verdicts, is_valid);
            }
        }))
    }
}

impl Subject for Commonware {
    fn label(&self) -> Label {
        Label::new(if self.batch {
            "commonware-cryptography-curve25519::verify_batch"
        } else {
            "commonware-cryptography-curve25519::verify"
        })
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        match self.parallel.clone() {
            Some(parallel) => self.pass_with(inputs, &parallel),
            None => self.pass_with(inputs, &Sequential),
        }
    }
}

fn key(bytes: &[u8; 32]) -> Result<VerifyingKey, Failure> {
    VerifyingKey::decode(Copying(bytes)).map_err(|error| Failure::Wrong(error.to_string()))
}

fn signature(bytes: &[u8; 64]) -> Result<Signature, Failure> {
    Signature::decode(Copying(bytes)).map_err(|error| Failure::Wrong(error.to_string()))
}

/// ed25519-zebra: its batch verifier, one a thread, and single checks where a batch fails.
struct Zebra {
    workers: Workers,
    batch: bool,
}

impl Subject for Zebra {
    fn label(&self) -> Label {
        Label::new(if self.batch { "ed25519-zebra::batch" } else { "ed25519-zebra::verify" })
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        let signatures: Vec<ed25519_zebra::Signature> =
            inputs.signatures.iter().map(|bytes| (*bytes).into()).collect();
        let is_valid = |place: usize| {
            VerificationKey::try_from(inputs.keys[place])
                .and_then(|key| key.verify(&signatures[place], &inputs.messages[place]))
                .is_ok()
        };
        let hold = |piece: std::ops::Range<usize>| {
            let mut batch = ed25519_zebra::batch::Verifier::new();
            for place in piece {
                let key = VerificationKeyBytes::from(inputs.keys[place]);
                batch.queue((key, signatures[place], &inputs.messages[place]));
            }
            batch.verify(ChaCha12Rng::from_seed([9; 32])).is_ok()
        };
        let workers = self.workers.as_deref();
        Ok(timed(inputs, |call, verdicts| {
            if self.batch {
                by_batch(workers, call, verdicts, hold, is_valid);
            } else {
                by_item(workers, call, verdicts, is_valid);
            }
        }))
    }
}

/// A library that checks one signature a call.
enum Library {
    /// aws-lc-rs.
    AwsLc,
    /// ring.
    Ring,
}

struct Single {
    library: Library,
    workers: Workers,
}

impl Subject for Single {
    fn label(&self) -> Label {
        Label::new(match self.library {
            Library::AwsLc => "aws-lc-rs::verify",
            Library::Ring => "ring::verify",
        })
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        let is_valid = |place: usize| {
            let (key, message) = (&inputs.keys[place], &inputs.messages[place]);
            let signature = &inputs.signatures[place];
            match self.library {
                Library::AwsLc => {
                    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
                    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
                }
                Library::Ring => {
                    use ring::signature::{ED25519, UnparsedPublicKey};
                    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
                }
            }
        };
        let workers = self.workers.as_deref();
        Ok(timed(inputs, |call, verdicts| by_item(workers, call, verdicts, is_valid)))
    }
}
