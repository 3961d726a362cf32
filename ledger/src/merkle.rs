//! Binary Merkle trees: roots, inclusion proofs, proof check.
//!
//! ```text
//!              root = H(count, top)
//!                      top
//!                 ┌─────┴────┐
//!                 n          │        an odd node is promoted as it is
//!              ┌──┴──┐       │
//!             l0     l1      l2       leaves: digests made in a domain of their own
//! ```
//!
//! Nodes have another hash domain than every leaf, so a node never passes for a leaf. The root
//! covers the count, so a proof's index is bound: with the count, the shape of the path is known.
//! The root of no leaves has the zero digest as its top.

use crate::codec::{count_u32, index};
use crate::digest::{Digest, domain};
use crate::limits::MERKLE_PATH_MAX;
use crate::reject::Reject;

/// Computes the root over the leaves in their order.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = parents(&level);
    }
    finish(count_u32(leaves.len()), level.first().unwrap_or(&Digest::ZERO))
}

/// Shows that one leaf stands at one place among all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The place of the leaf; the first is 0.
    pub index: u32,
    /// How many leaves there are.
    pub count: u32,
    /// The other children on the way up, from the leaf's own on.
    pub siblings: Vec<Digest>,
}

/// Makes the proof for the leaf at `position`, or none when there is no such leaf.
pub fn prove(leaves: &[Digest], position: usize) -> Option<Proof> {
    if position >= leaves.len() {
        return None;
    }
    let mut siblings = Vec::new();
    let mut level = leaves.to_vec();
    let mut place = position;
    while level.len() > 1 {
        siblings.extend(level.get(place ^ 1));
        level = parents(&level);
        place /= 2;
    }
    Some(Proof { index: count_u32(position), count: count_u32(leaves.len()), siblings })
}

impl Proof {
    /// Checks that `leaf` stands at the proof's place under `root`.
    ///
    /// Errors: [`Reject::ProofShape`], [`Reject::ProofRoot`].
    pub fn check(&self, leaf: &Digest, root: &Digest) -> Result<(), Reject> {
        if self.root(leaf)? == *root { Ok(()) } else { Err(Reject::ProofRoot) }
    }

    /// Computes the root under which `leaf` stands at the proof's place.
    ///
    /// Errors: [`Reject::ProofShape`].
    pub(crate) fn root(&self, leaf: &Digest) -> Result<Digest, Reject> {
        if self.index >= self.count || self.siblings.len() > MERKLE_PATH_MAX {
            return Err(Reject::ProofShape);
        }
        let mut siblings = self.siblings.iter();
        let mut digest = *leaf;
        let (mut place, mut width) = (index(self.index), index(self.count));
        while width > 1 {
            if place ^ 1 < width {
                let sibling = siblings.next().ok_or(Reject::ProofShape)?;
                digest = match place % 2 {
                    0 => node(&digest, sibling),
                    _ => node(sibling, &digest),
                };
            }
            place /= 2;
            width = width.div_ceil(2);
        }
        if siblings.next().is_some() {
            return Err(Reject::ProofShape);
        }
        Ok(finish(self.count, &digest))
    }
}

/// Returns how many siblings the leaf at `position` has on its way up, among `count`.
pub(crate) fn siblings(position: u32, count: u32) -> u32 {
    let (mut place, mut width, mut siblings) = (index(position), index(count), 0);
    while width > 1 {
        siblings += u32::from(place ^ 1 < width);
        place /= 2;
        width = width.div_ceil(2);
    }
    siblings
}

fn parents(level: &[Digest]) -> Vec<Digest> {
    let (pairs, odd) = level.as_chunks::<2>();
    let mut parents = Vec::with_capacity(pairs.len() + odd.len());
    nodes(pairs.len(), |place| &pairs[place], |_, digest| parents.push(digest));
    parents.extend(odd);
    parents
}

/// Computes nodes side by side: `take(n, node)` gets the one over `pair(n)`, in ascending order.
pub(crate) fn nodes<'a>(
    count: usize,
    pair: impl Fn(usize) -> &'a [Digest; 2],
    take: impl FnMut(usize, Digest),
) {
    let write = |place, bytes: &mut [u8; 64]| {
        let [left, right] = pair(place);
        bytes[..32].copy_from_slice(&left.0);
        bytes[32..].copy_from_slice(&right.0);
    };
    domain::MERKLE_NODE.digests_of_blocks(count, write, take);
}

fn node(left: &Digest, right: &Digest) -> Digest {
    domain::MERKLE_NODE.digest(&[&left.0, &right.0])
}

/// Computes the root of a tree from its top.
pub(crate) fn finish(count: u32, top: &Digest) -> Digest {
    domain::MERKLE_ROOT.digest(&[&count.to_le_bytes(), &top.0])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|number| domain::OUTCOME_LEAF.digest(&[&number.to_le_bytes()])).collect()
    }

    /// The tree by its definition: split at the largest power of two below the count.
    fn top(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::ZERO,
            [leaf] => *leaf,
            _ => {
                let left = leaves.len().next_power_of_two() / 2;
                node(&top(&leaves[..left]), &top(&leaves[left..]))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        for count in 0..70 {
            let leaves = leaves(count);
            assert_eq!(root(&leaves), finish(count_u32(count), &top(&leaves)), "{count} leaves");
        }
    }

    #[test]
    fn every_leaf_of_every_small_tree_has_a_proof() {
        for count in 1..40 {
            let leaves = leaves(count);
            let root = root(&leaves);
            for (position, leaf) in leaves.iter().enumerate() {
                let proof = prove(&leaves, position).unwrap();
                assert_eq!(proof.check(leaf, &root), Ok(()));
                let expected = siblings(count_u32(position), count_u32(count));
                assert_eq!(count_u32(proof.siblings.len()), expected);
            }
            assert_eq!(prove(&leaves, count), None);
        }
        assert_eq!(prove(&[], 0), None);
    }

    #[test]
    fn a_proof_holds_for_its_leaf_index_and_count_alone() {
        let leaves = leaves(11);
        let root = root(&leaves);
        for position in 0..leaves.len() {
            let proof = prove(&leaves, position).unwrap();
            for (other, leaf) in leaves.iter().enumerate() {
                assert_eq!(proof.check(leaf, &root).is_ok(), other == position);
            }
            for count in 0..24 {
                for index in 0..24 {
                    let moved = Proof { index, count, ..proof.clone() };
                    let expected = (index, count) == (proof.index, proof.count);
                    assert_eq!(moved.check(&leaves[position], &root).is_ok(), expected);
                }
            }
        }
    }

    #[test]
    fn a_path_of_another_length_has_no_shape() {
        let leaves = leaves(6);
        let root = root(&leaves);
        let proof = prove(&leaves, 2).unwrap();
        let mut short = proof.clone();
        short.siblings.pop();
        assert_eq!(short.check(&leaves[2], &root), Err(Reject::ProofShape));
        let mut long = proof.clone();
        long.siblings.push(Digest::ZERO);
        assert_eq!(long.check(&leaves[2], &root), Err(Reject::ProofShape));
        long.siblings.resize(MERKLE_PATH_MAX + 1, Digest::ZERO);
        assert_eq!(long.check(&leaves[2], &root), Err(Reject::ProofShape));
        let mut bent = proof;
        bent.siblings[0].0[0] ^= 1;
        assert_eq!(bent.check(&leaves[2], &root), Err(Reject::ProofRoot));
    }

    proptest! {
        #[test]
        fn a_changed_leaf_changes_the_root(
            count in 1_usize..200,
            seed: usize,
            bit in 0_usize..256,
        ) {
            let mut leaves = leaves(count);
            let before = root(&leaves);
            leaves[seed % count].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(root(&leaves), before);
        }
    }
}
