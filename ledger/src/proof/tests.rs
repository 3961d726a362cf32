//! Tests of whole proofs: of everything in a small ledger, and that every bit of one matters.

use super::*;
use crate::block::Cut;
use crate::history;
use crate::outcome::OutcomeList;
use crate::testing::{
    AUTHORS, Author, Builder, Dalek, Network, Numbers, Stored, author, digest, golden,
};

/// A ledger with everything that was executed, by height.
struct Ledger {
    builder: Builder,
    leaves: Vec<Digest>,
    lists: Vec<OutcomeList>,
    transactions: Vec<Vec<u8>>,
    absent: Vec<PublicKey>,
}

impl Ledger {
    fn new(heights: u64) -> Self {
        let network = Network::new();
        let mut ledger = Self {
            builder: Builder::new(&network),
            leaves: Vec::new(),
            lists: Vec::new(),
            transactions: Vec::new(),
            absent: vec![PublicKey([0; 32]), PublicKey([255; 32]), Author::new(7).public()],
        };
        let mut authors: Vec<Author> = (0..AUTHORS).map(author).collect();
        let mut numbers = Numbers::new(3);
        for height in 0..heights {
            for lane in 0..4 {
                let count = numbers.below(4);
                let transactions: Vec<Vec<u8>> = (0..count)
                    .map(|_| {
                        let who = index(numbers.below(u32::from(AUTHORS)));
                        let to = Author::new(u8::try_from(10 + numbers.below(60)).unwrap());
                        if numbers.below(2) == 0 {
                            authors[who].record(&network.digest(), b"some words")
                        } else {
                            authors[who].transfer(&network.digest(), to.public(), 5 + height)
                        }
                    })
                    .collect();
                if !transactions.is_empty() {
                    ledger.builder.batch(lane, &transactions);
                    ledger.transactions.extend(transactions);
                }
            }
            ledger.close();
        }
        ledger
    }

    fn close(&mut self) -> Stored {
        let (stored, executed) = self.builder.block();
        self.leaves.push(executed.record.leaf());
        self.lists.push(OutcomeList::decode(&stored.outcomes).unwrap());
        stored
    }

    fn network(&self) -> Digest {
        self.builder.network.digest()
    }

    /// The next block and its certificate, under which all before is proved.
    fn top(&self) -> (Cut, Finality) {
        let cut = self.builder.cut();
        let finality = self.builder.network.finalize(&cut);
        (cut, finality)
    }

    fn prove(&self, claim: Claim) -> Proof {
        let (cut, finality) = self.top();
        Proof::new(Vec::new(), cut.header(), finality, claim).unwrap()
    }

    fn claim(&self, height: u64, place: usize) -> TransactionProof {
        let list = &self.lists[usize::try_from(height - 1).unwrap()];
        let (id, outcome) = list.outcomes[place];
        let mut known = self.transactions.iter();
        let bytes =
            known.find(|bytes| Transaction::decode(bytes).unwrap().id(&self.network()) == id);
        let leaves: Vec<Digest> =
            list.outcomes.iter().map(|(id, outcome)| outcome_leaf(id, *outcome)).collect();
        TransactionProof {
            transaction: bytes.unwrap().clone(),
            outcome,
            place: merkle::prove(&leaves, place).unwrap(),
            cut: list.cut,
            history: history::prove(&self.leaves, Height(height)).unwrap(),
        }
    }

    fn check<'a>(&self, proof: &'a Proof) -> Result<Proved<'a>, Reject> {
        proof.check(&Trusted::genesis(&self.builder.network.genesis), &Dalek)
    }
}

#[test]
fn everything_in_a_ledger_is_proved_by_its_newest_certificate() {
    let ledger = Ledger::new(21);
    let mut proved = 0;
    for (height, list) in (1..).zip(&ledger.lists) {
        for (place, (id, outcome)) in list.outcomes.iter().enumerate() {
            let proof = ledger.prove(Claim::Transaction(ledger.claim(height, place)));
            let again = Proof::decode(&proof.encode()).unwrap();
            assert_eq!(again, proof);
            let Proved::Transaction { id: found, outcome: became, height: at, .. } =
                ledger.check(&again).unwrap()
            else {
                panic!("another kind");
            };
            assert_eq!((found, became, at), (*id, *outcome, Height(height)));
            proved += 1;
        }
    }
    assert_eq!(proved, ledger.transactions.len());
    let state = ledger.builder.chain.state();
    // The state of the checkpoint at height 20, not what height 21 made of it.
    for (key, _) in state.accounts() {
        let proof = ledger.prove(Claim::State(ledger.builder.chain.prove(key)));
        let again = Proof::decode(&proof.encode()).unwrap();
        match ledger.check(&again).unwrap() {
            Proved::Account { key: found, height, .. } | Proved::Absence { key: found, height } => {
                assert_eq!((found, height), (*key, Height(20)));
            }
            Proved::Transaction { .. } => panic!("another kind"),
        }
    }
    for key in &ledger.absent {
        let proof = ledger.prove(Claim::State(ledger.builder.chain.prove(key)));
        let expected = Proved::Absence { key: *key, height: Height(20) };
        assert_eq!(ledger.check(&Proof::decode(&proof.encode()).unwrap()), Ok(expected));
    }
}

/// One proof of each kind, with their names.
fn samples(ledger: &Ledger) -> [(&'static str, Proof); 3] {
    let state = |key: &PublicKey| ledger.prove(Claim::State(ledger.builder.chain.prove(key)));
    [
        ("proof_transaction", ledger.prove(Claim::Transaction(ledger.claim(3, 2)))),
        ("proof_account", state(&author(1).public())),
        ("proof_absence", state(&ledger.absent[2])),
    ]
}

#[test]
fn golden_samples_and_every_bit_of_them() {
    let ledger = Ledger::new(6);
    let genesis = ledger.builder.network.genesis.to_json();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/proof_genesis.json");
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(path, &genesis).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), genesis);
    for (name, proof) in samples(&ledger) {
        golden(name, &proof.encode(), |bytes| {
            let proof = Proof::decode(bytes)?;
            // Two neighbours show of every key between them that it is absent: the key tells them apart.
            let said = match ledger.check(&proof)? {
                Proved::Transaction { id, .. } => id,
                Proved::Account { key, .. } | Proved::Absence { key, .. } => Digest(key.0),
            };
            Ok((proof.encode(), said))
        });
    }
}

#[test]
fn parts_of_two_proofs_make_none() {
    let ledger = Ledger::new(6);
    let samples = samples(&ledger);
    let older = {
        let ledger = Ledger::new(5);
        let (cut, finality) = ledger.top();
        (cut.header(), finality)
    };
    for (name, proof) in &samples {
        let Proof { block: Finalized { header, finality }, claim, .. } = proof.clone();
        let crossed = Proof::new(Vec::new(), header.clone(), older.1.clone(), claim.clone());
        assert_eq!(crossed, Err(Reject::ProofShape), "{name}: the certificate of another block");
        let aged = Proof::new(Vec::new(), older.0.clone(), older.1.clone(), claim.clone()).unwrap();
        assert!(ledger.check(&aged).is_err(), "{name}: another block");
        let mut few = finality.clone();
        few.signers = Bitmap(0b0110);
        few.signatures.pop();
        let few = Proof::new(Vec::new(), header.clone(), few, claim.clone()).unwrap();
        assert_eq!(ledger.check(&few), Err(Reject::QuorumMissing), "{name}");
        let mut beyond = finality;
        beyond.signers = Bitmap(0b1_1100);
        let beyond = Proof::new(Vec::new(), header, beyond, claim).unwrap();
        assert_eq!(ledger.check(&beyond), Err(Reject::UnknownValidator), "{name}");
    }
}

#[test]
fn a_header_that_no_block_has_is_refused() {
    let ledger = Ledger::new(6);
    let (cut, _) = ledger.top();
    let refuse = |change: &dyn Fn(&mut Cut), expected| {
        let mut cut = cut.clone();
        change(&mut cut);
        let finality = ledger.builder.network.finalize(&cut);
        let claim = Claim::State(ledger.builder.chain.prove(&ledger.absent[0]));
        let proof = Proof::new(Vec::new(), cut.header(), finality, claim).unwrap();
        assert_eq!(ledger.check(&proof), Err(expected));
    };
    refuse(&|cut| cut.network = digest(9), Reject::WrongNetwork);
    refuse(&|cut| cut.set = digest(9), Reject::WrongSet);
    refuse(&|cut| cut.executed = cut.height, Reject::ExecutedRange);
    refuse(&|cut| cut.state_root = digest(9), Reject::ProofRoot);
}

#[test]
fn a_transaction_that_was_not_executed_so_is_refused() {
    let ledger = Ledger::new(6);
    let claim = ledger.claim(3, 2);
    let refuse = |claim: TransactionProof| {
        let proof = ledger.prove(Claim::Transaction(claim));
        ledger.check(&proof).unwrap_err()
    };
    let forged = TransactionProof { outcome: Outcome::Failed, ..claim.clone() };
    assert_eq!(refuse(forged), Reject::ProofRoot);
    let mut signature = claim.clone();
    *signature.transaction.last_mut().unwrap() ^= 1;
    assert_eq!(refuse(signature), Reject::BadSignature);
    let mut later = claim.clone();
    later.history.count += 1;
    assert_eq!(refuse(later), Reject::ProofShape);
    let mut foreign = claim;
    foreign.transaction[4] ^= 1;
    assert_eq!(refuse(foreign), Reject::WrongNetwork);
}

#[test]
fn a_kind_that_is_not_known_is_refused() {
    let (_, proof) = &samples(&Ledger::new(6))[0];
    let mut bytes = proof.encode();
    for kind in [0, 4, 255] {
        bytes[1] = kind;
        assert_eq!(Proof::decode(&bytes), Err(Reject::ProofKind));
    }
    bytes.resize(PROOF_BYTES_MAX + 1, 0);
    assert_eq!(Proof::decode(&bytes), Err(Reject::TooLong));
}
