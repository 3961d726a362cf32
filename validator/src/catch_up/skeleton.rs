//! Cuts in order, each proved to be final, and what each of them commits.

use super::{
    Setup,
    peer::{Fault, Received},
};
use crate::{history::wire::Kind, lane::SharedCut, votes::Judge};
use ledger::{Chain, Cut, Digest, Finality, Tip, Tips, ValidatorSet};
use std::{collections::VecDeque, sync::Arc};

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
    /// How many batches it commits.
    pub(super) fn batches(&self) -> u64 {
        self.stretches.iter().map(|it| it.to.sequence - it.from.sequence).sum()
    }
}

/// Cuts that are proved and not handed out yet.
pub(super) struct Skeleton {
    network: Digest,
    set: ValidatorSet,
    judge: Arc<Judge>,
    /// The newest proved cut, its digest, and the tips after it.
    newest: (SharedCut, Digest, Tips),
    planned: VecDeque<Planned>,
}

impl Skeleton {
    /// Starts after what is stored.
    pub(super) fn new(setup: &Setup<'_>, parent: Cut, chain: &Chain) -> Self {
        Self {
            network: setup.genesis.digest(),
            set: setup.genesis.set().clone(),
            judge: setup.judge.clone(),
            newest: (Arc::new(parent), chain.cut_digest(), chain.tips()),
            planned: VecDeque::new(),
        }
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

    /// Takes the cuts of an answer up to the last one with a certificate.
    ///
    /// Errors: a lie, and then none of them is taken; silence, where there is nothing to take.
    pub(super) fn extend(&mut self, parts: Vec<Received>) -> Result<(), Fault> {
        let mut found: Vec<Planned> = Vec::new();
        let (mut parent, mut parent_digest, mut tips) = self.newest.clone();
        // How many are covered by a certificate, and what is after them.
        let mut covered = (0, self.newest.clone());
        for Received { kind, height, bytes } in parts {
            let wrong = |reject| Fault::Lie(format!("height {height}: {reject}"));
            match kind {
                Kind::Cut => {
                    let cut = Arc::new(Cut::decode(&bytes).map_err(wrong)?);
                    let digest = cut.digest();
                    let after = cut
                        .check(&parent, &parent_digest, &tips, &self.set, &*self.judge)
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
                    let finality = Finality::decode(&bytes).map_err(wrong)?;
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
                    finality.check(&self.network, &self.set, &*self.judge).map_err(wrong)?;
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
        self.planned.extend(found);
        self.newest = covered.1;
        Ok(())
    }
}
