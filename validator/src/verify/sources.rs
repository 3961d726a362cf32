//! Who sends signatures, and which of them are checked together.

use super::checked::{Checked, Origin};
use crate::{held::Signed, votes::Judge};
use ledger::SignedItem;
use sigverify::{Source, Verdict};
use std::{collections::HashMap, ops::Range};

/// Who is checked together with whom: all that are not suspected, in one; forgeries of one source make no
/// other's checks dearer but for the round that finds them.
#[derive(Default)]
pub struct Sources {
    /// All clients: a forgery costs its sender nothing, and one more address neither.
    pub(super) clients: Source,
    /// The validators that sent a bad signature of late: each is checked by itself, as are the clients
    /// while they are suspected.
    pub(super) suspects: HashMap<u32, Source>,
    /// What was found good of late.
    checked: Checked,
}

/// A sender of a round, and which of the round's signatures are its own.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// The validator; none for all clients.
    pub(super) from: Option<u32>,
    pub(super) items: Range<usize>,
}

/// What a round's signatures are.
pub(super) struct Judged {
    /// Whether each of them is good.
    pub(super) verdicts: Vec<bool>,
    pub(super) signatures: Counts,
}

/// Signatures of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that were checked.
    pub checked: u64,
    /// Of the checked ones, those that are good.
    pub valid: u64,
    /// Those that stand in the round, or stood in one before, a second time.
    pub repeated: u64,
}

impl Sources {
    /// Judges the signatures of a round, each once.
    ///
    /// Shape: the shares lie one after the other, without gaps, over all of `signed`; verdict `i` answers
    /// `signed[i]`.
    pub(super) fn judge(&mut self, judge: &Judge, signed: &[Signed], shares: &[Share]) -> Judged {
        let origins = self.checked.ask(signed);
        // The first of equal ones is checked, for whoever sent it.
        let mut items = Vec::with_capacity(signed.len());
        let mut first = Vec::with_capacity(shares.len() + 1);
        for share in shares {
            first.push(items.len());
            for (signed, origin) in
                signed[share.items.clone()].iter().zip(&origins[share.items.clone()])
            {
                if matches!(origin, Origin::Check(check) if *check as usize == items.len()) {
                    items.push(item(signed));
                }
            }
        }
        first.push(items.len());
        let checks = origins.iter().filter_map(|origin| match origin {
            Origin::Known => None,
            Origin::Check(check) => Some(*check as usize + 1),
        });
        assert_eq!(items.len(), checks.max().unwrap_or(0), "every signature is in a share");
        let of =
            |share: &Share, index: usize| Share { items: first[index]..first[index + 1], ..*share };
        let shares: Vec<Share> =
            shares.iter().enumerate().map(|(index, share)| of(share, index)).collect();
        let found = self.check(judge, &items, &shares);
        let is_good = |check: u32| found[check as usize].is_valid();
        let verdict = |origin: &Origin| match origin {
            Origin::Known => true,
            Origin::Check(check) => is_good(*check),
        };
        let verdicts = origins.iter().map(verdict).collect();
        self.checked.settle(is_good);
        let valid = found.iter().filter(|verdict| verdict.is_valid()).count();
        let signatures = Counts {
            checked: found.len() as u64,
            valid: valid as u64,
            repeated: (signed.len() - found.len()) as u64,
        };
        Judged { verdicts, signatures }
    }

    /// Checks signatures, each share's as its sender deserves.
    fn check(&mut self, judge: &Judge, items: &[SignedItem<'_>], shares: &[Share]) -> Vec<Verdict> {
        let (alone, trusted): (Vec<_>, Vec<_>) =
            shares.iter().partition(|share| self.suspect(share).is_some());
        // Nobody in here is known for forgeries, and whoever turns out to be is counted below.
        let unsuspected = Source::new();
        let mut verdicts = if alone.is_empty() {
            judge.verify_from(&unsuspected, items)
        } else {
            let mut verdicts = vec![Verdict::Invalid; items.len()];
            let together: Vec<_> =
                trusted.iter().flat_map(|share| &items[share.items.clone()]).copied().collect();
            let mut found = judge.verify_from(&unsuspected, &together).into_iter();
            for share in &trusted {
                let next = || found.next().expect("one verdict for every item");
                verdicts[share.items.clone()].fill_with(next);
            }
            verdicts
        };
        for Share { from, items } in trusted {
            let verdicts = &verdicts[items.clone()];
            if !verdicts.iter().all(|verdict| verdict.is_valid()) {
                match from {
                    None => self.clients.count(verdicts),
                    Some(from) => self.suspects.entry(*from).or_default().count(verdicts),
                }
            }
        }
        for share in alone {
            let source = self.suspect(share).expect("it was one above");
            let found = judge.verify_from(source, &items[share.items.clone()]);
            verdicts[share.items.clone()].copy_from_slice(&found);
        }
        self.suspects.retain(|_, source| source.is_suspected());
        verdicts
    }

    /// The source of a share, if it is suspected.
    fn suspect(&self, share: &Share) -> Option<&Source> {
        match &share.from {
            None => Some(&self.clients).filter(|clients| clients.is_suspected()),
            Some(from) => self.suspects.get(from),
        }
    }

    /// Whether the clients, or this validator, are suspected.
    #[cfg(test)]
    pub(super) fn is_suspected(&self, from: Option<u32>) -> bool {
        self.suspect(&Share { from, items: 0..0 }).is_some()
    }
}

const fn item((key, message, signature): &Signed) -> SignedItem<'_> {
    SignedItem { key, message, signature }
}
