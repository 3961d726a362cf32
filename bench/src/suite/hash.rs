//! Hashes: the challenges of signatures and the ids of transactions, several at a time and one
//! after the other, µs a hash.
//!
//! A challenge is SHA-512 of 64 bytes of signature and key and then the message; with 47 bytes of
//! message, as the ledger signs, it is one block. An id is BLAKE3 of a transaction. Times are
//! processor time of one thread, and every result is compared with the baseline's before it counts.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use ledger::{Digest, Draft, Height, Kind, PublicKey, Signature, Transaction};
use sha2::{Digest as _, Sha512};
use sigverify::{Item, Verifier};

use super::sigverify::subjects::{backends, cpu_time, verifier};
use super::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Scale, Settings, Suite,
};

/// Lengths of signed messages: the ledger's, and one of many blocks.
const MESSAGES_BYTES: [usize; 2] = [47, 1_024];
/// Length of a transaction: the ledger's fields and 292 bytes of body.
const TRANSACTION_BYTES: usize = 448;
/// The bytes of a transaction that are not its body.
const OVERHEAD: usize = ledger::limits::TRANSACTION_OVERHEAD;

const METRICS: [Metric; 1] = [Metric { name: "time_us", unit: "us/hash", better: Better::Lower }];

/// The suite.
pub struct Hash;

impl Suite for Hash {
    fn name(&self) -> &'static str {
        "hash"
    }

    fn about(&self) -> &'static str {
        "challenges and transaction ids, several at a time and one after the other"
    }

    fn plan(&self, settings: &Settings) -> Result<Vec<Plan>, String> {
        let scale = settings.scale;
        let challenges = MESSAGES_BYTES.map(|bytes| Plan {
            parameters: vec![("hash", "sha512".to_owned()), ("message", bytes.to_string())],
            open: Box::new(move || open(scale, bytes, challenge_subjects()?)),
        });
        let ids = Plan {
            parameters: vec![
                ("hash", "blake3".to_owned()),
                ("transaction", TRANSACTION_BYTES.to_string()),
            ],
            open: Box::new(move || open(scale, TRANSACTION_BYTES - OVERHEAD, id_subjects())),
        };
        Ok(challenges.into_iter().chain([ids]).collect())
    }
}

fn open(scale: Scale, bytes: usize, subjects: Vec<Subject>) -> Result<Group, Failure> {
    let inputs = Rc::new(Inputs::new(scale.pick(1_024, 1_024, 24), bytes));
    let time_min = Duration::from_millis(scale.pick(40, 15, 0));
    let contenders = subjects
        .into_iter()
        .map(|subject| {
            let inputs = Rc::clone(&inputs);
            Box::new(Hasher { subject, inputs, time_min }) as Box<dyn Contender>
        })
        .collect();
    let rounds = scale.pick(
        Rounds { min: 11, max: 22 },
        Rounds { min: 6, max: 9 },
        Rounds { min: 2, max: 2 },
    );
    Ok(Group { rounds, contenders, skipped: Vec::new() })
}

/// What is hashed.
struct Inputs {
    network: Digest,
    /// Transactions with a body of the length that was asked for.
    transactions: Vec<Vec<u8>>,
    /// Their bodies: the messages of signatures.
    messages: Vec<Vec<u8>>,
}

impl Inputs {
    fn new(count: usize, bytes: usize) -> Self {
        let network = Digest([7; 32]);
        let messages: Vec<Vec<u8>> = (0..count).map(|number| message(number, bytes)).collect();
        let transaction = |(number, body): (usize, &Vec<u8>)| {
            let author = PublicKey(*blake3::hash(&number.to_le_bytes()).as_bytes());
            let draft = Draft {
                kind: Kind::Record,
                author,
                sequence: 0,
                previous: Digest::ZERO,
                valid_until: Height(1_000),
                body,
            };
            // Nobody checks it here.
            let signed = draft.sign(&network, |_| Signature([9; 64]));
            signed.expect("a short body").0
        };
        let transactions = messages.iter().enumerate().map(transaction).collect();
        Self { network, transactions, messages }
    }

    fn views(&self) -> Vec<Transaction<'_>> {
        let views = self.transactions.iter().map(|bytes| Transaction::decode(bytes));
        views.map(|view| view.expect("made a moment ago")).collect()
    }

    fn items(&self) -> Vec<Item<'_>> {
        let views = self.views().into_iter().zip(&self.messages);
        views
            .map(|(view, message)| Item {
                key: view.author_bytes(),
                message,
                signature: view.signature_bytes(),
            })
            .collect()
    }
}

fn message(number: usize, bytes: usize) -> Vec<u8> {
    let mut message = vec![0; bytes];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut message);
    message
}

/// One way to hash all inputs: what it is called, and the time and digests of a pass.
struct Subject {
    label: Label,
    pass: Box<dyn Fn(&Inputs) -> Pass>,
    /// The plain way to the same digests.
    plain: fn(&Inputs) -> Pass,
}

struct Pass {
    elapsed: Duration,
    digests: Vec<Vec<u8>>,
}

/// Times the hashing alone, then writes digests of any length as bytes.
fn timed<D: AsRef<[u8]>>(hash: impl FnOnce() -> Vec<D>) -> Pass {
    let began = cpu_time();
    let digests = black_box(hash());
    let elapsed = cpu_time() - began;
    Pass { elapsed, digests: digests.iter().map(|digest| digest.as_ref().to_vec()).collect() }
}

fn challenge_subjects() -> Result<Vec<Subject>, Failure> {
    let plain = Subject {
        label: Label::new("sha2::Sha512"),
        pass: Box::new(challenges_plain),
        plain: challenges_plain,
    };
    let mut subjects = vec![plain];
    #[cfg(feature = "rivals")]
    subjects.push(Subject {
        label: Label::new("aws-lc-rs::digest"),
        pass: Box::new(challenges_aws_lc),
        plain: challenges_plain,
    });
    for name in backends() {
        let verifier = verifier(name, 1)?;
        subjects.push(Subject {
            label: Label::new("sigverify::challenges").with("backend", name),
            pass: Box::new(move |inputs| challenges_ours(&verifier, inputs)),
            plain: challenges_plain,
        });
    }
    Ok(subjects)
}

fn challenges_plain(inputs: &Inputs) -> Pass {
    let items = inputs.items();
    let hash = |item: &Item<'_>| {
        let hash = Sha512::new().chain_update(&item.signature[..32]).chain_update(item.key);
        hash.chain_update(item.message).finalize()
    };
    timed(|| items.iter().map(hash).collect())
}

#[cfg(feature = "rivals")]
fn challenges_aws_lc(inputs: &Inputs) -> Pass {
    use aws_lc_rs::digest::{Context, SHA512};
    let items = inputs.items();
    let hash = |item: &Item<'_>| {
        let mut context = Context::new(&SHA512);
        for part in [&item.signature[..32], item.key, item.message] {
            context.update(part);
        }
        context.finish()
    };
    timed(|| items.iter().map(hash).collect())
}

fn challenges_ours(verifier: &Verifier, inputs: &Inputs) -> Pass {
    let items = inputs.items();
    timed(|| verifier.challenges(&items))
}

fn id_subjects() -> Vec<Subject> {
    let several = |inputs: &Inputs| {
        let views = inputs.views();
        ids_timed(|| ledger::transaction::ids(&inputs.network, &views))
    };
    vec![
        Subject {
            label: Label::new("ledger::id").with("at_a_time", "1"),
            pass: Box::new(ids_plain),
            plain: ids_plain,
        },
        Subject {
            label: Label::new("ledger::ids").with("at_a_time", "16"),
            pass: Box::new(several),
            plain: ids_plain,
        },
    ]
}

fn ids_plain(inputs: &Inputs) -> Pass {
    let views = inputs.views();
    ids_timed(|| views.iter().map(|view| view.id(&inputs.network)).collect())
}

fn ids_timed(hash: impl FnOnce() -> Vec<Digest>) -> Pass {
    timed(|| hash().into_iter().map(|digest| digest.0).collect())
}

/// A subject over the group's inputs.
struct Hasher {
    subject: Subject,
    inputs: Rc<Inputs>,
    /// A round makes passes until they have taken as long as this.
    time_min: Duration,
}

impl Contender for Hasher {
    fn label(&self) -> Label {
        self.subject.label.clone()
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        let expected = (self.subject.plain)(&self.inputs).digests;
        let found = (self.subject.pass)(&self.inputs).digests;
        match found.iter().zip(&expected).position(|(found, expected)| found != expected) {
            None if found.len() == expected.len() => Ok(()),
            None => Err(Failure::Wrong(format!("{} hashes of {}", found.len(), expected.len()))),
            Some(place) => Err(Failure::Wrong(format!("another digest at {place}"))),
        }
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let (mut elapsed, mut hashes) = (Duration::ZERO, 0_u32);
        while hashes == 0 || elapsed < self.time_min {
            let pass = (self.subject.pass)(&self.inputs);
            elapsed += pass.elapsed;
            hashes += u32::try_from(black_box(pass.digests).len()).expect("few hashes");
        }
        Ok(Round::valid(vec![elapsed.as_secs_f64() * 1e6 / f64::from(hashes)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(number: usize) -> Group {
        let settings = Settings {
            scale: Scale::Smoke,
            rounds: None,
            seed: 1,
            data: std::env::temp_dir(),
            validator: std::path::PathBuf::new(),
            unverified: None,
        };
        let plan = Hash.plan(&settings).unwrap().into_iter().nth(number).unwrap();
        (plan.open)().unwrap()
    }

    #[test]
    fn every_way_is_right_and_gives_a_time() {
        for number in 0..3 {
            for mut contender in group(number).contenders {
                let name = contender.label().operation;
                contender.check().unwrap_or_else(|failure| panic!("{name}: {failure}"));
                assert!(contender.round().unwrap().values[0] > 0.0, "{name}");
            }
        }
    }

    #[test]
    fn a_wrong_digest_and_a_missing_one_are_caught() {
        let inputs = Rc::new(Inputs::new(9, 47));
        let wrong: [fn(&Inputs) -> Pass; 2] = [
            |inputs| {
                let mut pass = ids_plain(inputs);
                pass.digests[8][31] ^= 1;
                pass
            },
            |inputs| {
                let mut pass = ids_plain(inputs);
                pass.digests.pop();
                pass
            },
        ];
        for (pass, reason) in wrong.into_iter().zip(["another digest at 8", "8 hashes of 9"]) {
            let label = Label::new("test::wrong");
            let subject = Subject { label, pass: Box::new(pass), plain: ids_plain };
            let inputs = Rc::clone(&inputs);
            let failure = Hasher { subject, inputs, time_min: Duration::ZERO }.check().unwrap_err();
            assert!(failure.to_string().contains(reason), "{failure}");
        }
    }
}
