//! Cuts in order, each proved to be final, and what each of them commits.

use super::{
    Setup,
    peer::{Fault, Received},
};
use crate::{execute, history::wire::Kind, lane::SharedCut, terms::Terms, votes::Judge};
use ledger::{Cut, Digest, Finality, Height, Signatures, SignedItem, Tip, Tips};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// A lane's batches that a cut commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) lane: u32,
    /// The tip before.
    pub(super) from: Tip,
    /// The tip after.
    pub(super) to: Tip,
}

/// A final cut whose batches are to be fetched.
#[derive(Clone)]
pub(super) struct Planned {
    pub(super) cut: SharedCut,
    pub(super) digest: Digest,
    pub(super) certificate: Option<Finality>,
    pub(super) stretches: Vec<Stretch>,
}

impl Planned {
    /// Whether only a later one's certificate covers it.
    pub(super) const fn is_uncovered(&self) -> bool {
        self.certificate.is_none()
    }

    /// How many batches it commits.
    pub(super) fn batches(&self) -> u64 {
        self.stretches.iter().map(|it| it.to.sequence - it.from.sequence).sum()
    }
}

/// The newest proved cut, its digest, and the tips after it.
type Newest = (SharedCut, Digest, Tips);

/// Cuts that are proved and not handed out yet.
pub(super) struct Skeleton {
    network: Digest,
    terms: Terms,
    judge: Arc<Judge>,
    newest: Newest,
    planned: VecDeque<Planned>,
}

impl Skeleton {
    /// Starts after what is stored.
    pub(super) fn new(setup: &Setup<'_>, parent: Cut, execute: &execute::Core) -> Self {
        let chain = execute.chain();
        Self {
            network: setup.genesis.digest(),
            terms: execute.terms().clone(),
            judge: setup.judge.clone(),
            newest: (Arc::new(parent), chain.cut_digest(), chain.tips()),
            planned: VecDeque::new(),
        }
    }

    /// Whether it is settled who decides the next height.
    pub(super) fn may_extend(&self) -> bool {
        self.terms.at(Height(self.height() + 1)).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.planned.len()
    }

    /// The newest proved height.
    pub(super) fn height(&self) -> u64 {
        self.newest.0.height.get()
    }

    pub(super) fn take(&mut self) -> Option<Planned> {
        self.planned.pop_front()
    }

    /// Takes the cuts of an answer up to the last one with a certificate, of epochs whose sets are settled.
    ///
    /// Errors: a lie, and then none of them is taken; silence, where there is nothing to take.
    pub(super) fn extend(&mut self, parts: &[Received]) -> Result<(), Fault> {
        // All signatures of all cuts together, which costs a fifth; where not all hold, one after the other.
        let later = Later::default();
        let (found, newest) = match self.read(parts, &later) {
            Ok(read) if later.hold(&self.judge) => read,
            Ok(_) | Err(_) => self.read(parts, &*self.judge)?,
        };
        self.planned.extend(found);
        self.newest = newest;
        Ok(())
    }

    fn read(
        &self,
        parts: &[Received],
        signatures: &dyn Signatures,
    ) -> Result<(Vec<Planned>, Newest), Fault> {
        let mut found: Vec<Planned> = Vec::new();
        let (mut parent, mut parent_digest, mut tips) = self.newest.clone();
        // How many are covered by a certificate, and what is after them.
        let mut covered = (0, self.newest.clone());
        for Received { kind, height, bytes } in parts {
            let wrong = |reject| Fault::Lie(format!("height {height}: {reject}"));
            match *kind {
                Kind::Cut => {
                    let cut = Arc::new(Cut::decode(bytes).map_err(wrong)?);
                    let digest = cut.digest();
                    let epochs = self.terms.epochs();
                    let Some(set) = self.terms.at(parent.height.next()) else { break };
                    if epochs.of(parent.height.next()) != parent.epoch {
                        tips = Tips::genesis(set.len());
                    }
                    let after = cut
                        .check(&parent, &parent_digest, &tips, (epochs, &set), signatures)
                        .map_err(wrong)?;
                    let stretch = |(lane, (from, to)): (u32, (&Tip, &Tip))| Stretch {
                        lane,
                        from: *from,
                        to: *to,
                    };
                    let lanes = (0..).zip(tips.0.iter().zip(&after.0));
                    let moved = lanes.filter(|(_, (from, to))| from != to);
                    let stretches = moved.map(stretch).collect();
                    found.push(Planned { cut: cut.clone(), digest, certificate: None, stretches });
                    (parent, parent_digest, tips) = (cut, digest, after);
                }
                Kind::Certificate => {
                    let finality = Finality::decode(bytes).map_err(wrong)?;
                    let Some(last) = found.last_mut().filter(|it| it.digest == finality.payload)
                    else {
                        return Err(Fault::Lie(format!(
                            "height {height}: a certificate of another block"
                        )));
                    };
                    if finality.epoch != last.cut.epoch {
                        return Err(Fault::Lie(format!(
                            "height {height}: a certificate of another epoch"
                        )));
                    }
                    let set = self.terms.set(finality.epoch).expect("its cut was just checked");
                    finality.check(&self.network, &set, signatures).map_err(wrong)?;
                    last.certificate = Some(finality);
                    covered = (found.len(), (parent.clone(), parent_digest, tips.clone()));
                }
                Kind::Batch | Kind::End | Kind::Refused => {
                    return Err(Fault::lie("something else than cuts"));
                }
            }
        }
        if covered.0 == 0 {
            return Err(Fault::Silent("it has no more cuts".to_owned()));
        }
        found.truncate(covered.0);
        Ok((found, covered.1))
    }
}

/// A signed message, kept.
type Signed = ([u8; 32], Vec<u8>, [u8; 64]);

/// Says of every signature that it holds, and remembers it: whether that was so is asked later, of all together.
#[derive(Default)]
struct Later {
    items: Mutex<Vec<Signed>>,
    votes: Mutex<Vec<Signed>>,
}

impl Later {
    fn keep(kept: &Mutex<Vec<Signed>>, items: &[SignedItem<'_>]) -> Vec<bool> {
        let signed = items.iter().map(|it| (*it.key, it.message.to_vec(), *it.signature));
        kept.lock().unwrap_or_else(PoisonError::into_inner).extend(signed);
        vec![true; items.len()]
    }

    /// Whether all of them hold.
    fn hold(&self, judge: &Judge) -> bool {
        let all = |kept: &Mutex<Vec<Signed>>, ask: &dyn Fn(&[SignedItem<'_>]) -> Vec<bool>| {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let items: Vec<SignedItem<'_>> = kept
                .iter()
                .map(|(key, message, signature)| SignedItem { key, message, signature })
                .collect();
            ask(&items).into_iter().all(|holds| holds)
        };
        all(&self.items, &|items| judge.verify(items))
            && all(&self.votes, &|items| judge.verify_votes(items))
    }
}

impl Signatures for Later {
    fn verify(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
        Self::keep(&self.items, items)
    }

    fn verify_votes(&self, items: &[SignedItem<'_>]) -> Vec<bool> {
        Self::keep(&self.votes, items)
    }
}
