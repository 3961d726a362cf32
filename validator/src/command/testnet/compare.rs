//! Reads every validator's ledger from its files and compares them.

use crate::command::Exit;
use crate::command::ledger::store::{Ledger, Location};
use crate::command::network::Network;
use ledger::Digest;

/// What a validator's files say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The newest height.
    pub(super) height: u64,
    /// The history root after it.
    pub(super) history_root: Digest,
}

/// What the comparison has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    /// Each validator; none for one whose files cannot be read.
    pub(super) written: Vec<Option<Written>>,
    /// The newest height that all have.
    pub(super) common_height: u64,
    /// The history root after it, when all agree.
    pub(super) history_root: Option<Digest>,
    /// What is wrong, a sentence each.
    pub(super) problems: Vec<String>,
}

/// Reads and compares all ledgers.
pub(super) fn read(network: &Network) -> Compared {
    let mut problems = Vec::new();
    let mut ledgers = Vec::new();
    for index in 0..network.validators.len() {
        let opened = Location::find(&network.data(index))
            .and_then(|location| Ledger::open(&location, Some(&network.network)))
            .and_then(|stored| Ok((end_of(&stored)?, stored)));
        match opened {
            Ok(ledger) => ledgers.push(Some(ledger)),
            Err(exit) => {
                problems.push(format!("validator {index}: {exit}"));
                ledgers.push(None);
            }
        }
    }
    let written: Vec<Option<Written>> =
        ledgers.iter().map(|ledger| ledger.as_ref().map(|(written, _)| *written)).collect();
    let common_height = written.iter().flatten().map(|written| written.height).min().unwrap_or(0);
    let mut roots: Vec<(usize, Digest)> = Vec::new();
    for (index, ledger) in ledgers.iter().enumerate() {
        if let Some((_, stored)) = ledger {
            match root_at(stored, common_height) {
                Ok(root) => roots.push((index, root)),
                Err(exit) => problems.push(format!("validator {index}: {exit}")),
            }
        }
    }
    let history_root = agreed(&roots, common_height, &mut problems);
    Compared { written, common_height, history_root, problems }
}

/// Returns the root that all have, or says who differs.
fn agreed(roots: &[(usize, Digest)], height: u64, problems: &mut Vec<String>) -> Option<Digest> {
    let (_, first) = roots.first()?;
    if roots.iter().all(|(_, root)| root == first) {
        return problems.is_empty().then_some(*first);
    }
    let roots: Vec<String> =
        roots.iter().map(|(index, root)| format!("{index} has {root}")).collect();
    problems.push(format!("the validators disagree after height {height}: {}", roots.join(", ")));
    None
}

fn end_of(stored: &Ledger) -> Result<Written, Exit> {
    let height = stored.last_height();
    Ok(Written { height, history_root: root_at(stored, height)? })
}

/// Returns the history root after a height.
fn root_at(stored: &Ledger, height: u64) -> Result<Digest, Exit> {
    if height == 0 {
        return Ok(Digest::ZERO);
    }
    match stored.outcomes(height)? {
        Some(outcomes) => Ok(outcomes.history_root),
        None => Err(stored.damaged(height, "outcomes", "missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_differs_is_named_with_its_root() {
        let roots = [(0, Digest([1; 32])), (2, Digest([1; 32]))];
        let mut problems = Vec::new();
        assert_eq!(agreed(&roots, 5, &mut problems), Some(Digest([1; 32])));
        assert!(problems.is_empty());
        let roots = [(0, Digest([1; 32])), (2, Digest([3; 32]))];
        assert_eq!(agreed(&roots, 5, &mut problems), None);
        assert!(problems[0].contains("disagree after height 5"), "{problems:?}");
        assert!(problems[0].contains("2 has 0303"), "{problems:?}");
    }
}
