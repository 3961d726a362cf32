//! The history range: one root over the records of all executed heights, grown by appending.
//!
//! ```text
//!   peaks      n2                root = H(count, peaks from the left)
//!           ┌──┴──┐
//!           n0    n1     n3
//!          ┌┴┐   ┌┴┐   ┌─┴─┐
//!          1 2   3 4   5   6   7      heights; height h is leaf h - 1
//! ```
//!
//! A mountain range: perfect trees whose sizes are the powers of two in the count, the largest
//! first. Appending touches the peaks alone. The genesis block has no record: its header declares
//! the root of the empty range, which therefore need not contain that header's digest.

use crate::codec::{index, length_u64};
use crate::digest::{Digest, Height, domain};
use crate::reject::Reject;

// Counts have 64 bits, so there are at most 64 peaks and as many levels.
const LEVELS_MAX: usize = 64;

/// What the history keeps of a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRecord {
    /// The height.
    pub height: Height,
    /// The digest of its block.
    pub cut: Digest,
    /// The Merkle root of id and outcome in the order of execution.
    pub outcomes_root: Digest,
}

impl HistoryRecord {
    /// Computes the leaf of the record.
    pub fn leaf(&self) -> Digest {
        domain::RECORD_LEAF.digest(&[
            &self.height.0.to_le_bytes(),
            &self.cut.0,
            &self.outcomes_root.0,
        ])
    }
}

/// The peaks of the range: enough to append and to compute the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    count: u64,
    peaks: Vec<Digest>,
}

impl History {
    /// Starts the empty range.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on from the peaks over `count` records.
    pub(crate) fn of_peaks(count: u64, peaks: Vec<Digest>) -> Self {
        assert_eq!(
            index(count.count_ones()),
            peaks.len(),
            "one peak for each one bit of the count"
        );
        Self { count, peaks }
    }

    /// Returns the peaks from the left.
    pub(crate) fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Returns how many records there are: the height of the last one.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Appends the leaf of the next height.
    pub fn append(&mut self, leaf: &Digest) {
        let mut digest = *leaf;
        // Each trailing one of the count is a peak that the new leaf completes to a larger one.
        for _ in 0..self.count.trailing_ones() {
            let left = self.peaks.pop().expect("one peak for each one bit of the count");
            digest = node(&left, &digest);
        }
        self.peaks.push(digest);
        self.count += 1;
    }

    /// Computes the root.
    pub fn root(&self) -> Digest {
        bag(self.count, &self.peaks)
    }
}

/// Shows that the record of one height stands in the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryProof {
    /// The height of the record.
    pub height: Height,
    /// How many records the range has.
    pub count: u64,
    /// The other children on the way up to the leaf's peak.
    pub siblings: Vec<Digest>,
    /// All peaks but the leaf's own, from the left.
    pub peaks: Vec<Digest>,
}

/// Returns the place, in a file of all nodes, of the node over the `1 << level` leaves up to and with height `last`.
///
/// The nodes stand in the order in which they come to be: each leaf, then the nodes that it completes, from
/// below. So a file of them only grows, and has the nodes of every shorter range at its start.
pub fn node_place(last: u64, level: u32) -> u64 {
    nodes_before(last) + u64::from(level)
}

/// Returns how many nodes stand before the leaf of `height`: two for each leaf before, but for its peaks.
pub fn nodes_before(height: u64) -> u64 {
    let leaves = height - 1;
    2 * leaves - u64::from(leaves.count_ones())
}

/// Appends the nodes that the leaf of the next height makes: itself and what it completes.
///
/// `node` reads the node at a place; all before are there.
///
/// Errors: those of `node`.
pub fn new_nodes<E>(
    height: u64,
    leaf: &Digest,
    mut node_at: impl FnMut(u64) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    let mut nodes = vec![*leaf];
    let mut digest = *leaf;
    for level in 0..(height - 1).trailing_ones() {
        let left = node_at(node_place(height - (1 << level), level))?;
        digest = node(&left, &digest);
        nodes.push(digest);
    }
    Ok(nodes)
}

/// Makes the proof for a height in a range of `count` records from stored nodes, or none when it is outside.
///
/// Errors: those of `node_at`, which reads the node at a place.
pub fn prove_from<E>(
    height: Height,
    count: u64,
    mut node_at: impl FnMut(u64) -> Result<Digest, E>,
) -> Result<Option<HistoryProof>, E> {
    let Some(place) = height.0.checked_sub(1).filter(|place| *place < count) else {
        return Ok(None);
    };
    let (mut siblings, mut peaks) = (Vec::new(), Vec::new());
    let mut start = 0;
    for size in mountains(count) {
        if (start..start + size).contains(&place) {
            let within = place - start;
            for level in 0..size.trailing_zeros() {
                let sibling = (within >> level) ^ 1;
                siblings.push(node_at(node_place(start + ((sibling + 1) << level), level))?);
            }
        } else {
            peaks.push(node_at(node_place(start + size, size.trailing_zeros()))?);
        }
        start += size;
    }
    Ok(Some(HistoryProof { height, count, siblings, peaks }))
}

/// Computes the root of a range of `count` records from stored nodes.
///
/// Errors: those of `node_at`, which reads the node at a place.
pub fn root_from<E>(
    count: u64,
    mut node_at: impl FnMut(u64) -> Result<Digest, E>,
) -> Result<Digest, E> {
    let mut start = 0;
    let peaks = mountains(count).map(|size| {
        start += size;
        node_at(node_place(start, size.trailing_zeros()))
    });
    Ok(bag(count, &peaks.collect::<Result<Vec<_>, E>>()?))
}

/// Makes the proof for a height from the leaves of all heights from 1 on, or none when it is
/// outside.
pub fn prove(leaves: &[Digest], height: Height) -> Option<HistoryProof> {
    let place = height.0.checked_sub(1)?;
    let count = length_u64(leaves.len());
    if place >= count {
        return None;
    }
    let (mut siblings, mut peaks) = (Vec::new(), Vec::new());
    let mut rest = leaves;
    let mut start = 0;
    for size in mountains(count) {
        let (mountain, after) = rest.split_at(usize::try_from(size).expect("at most the leaves"));
        if (start..start + size).contains(&place) {
            let within = usize::try_from(place - start).expect("less than the mountain's size");
            siblings = path(mountain, within);
        } else {
            peaks.push(peak(mountain));
        }
        start += size;
        rest = after;
    }
    Some(HistoryProof { height, count, siblings, peaks })
}

impl HistoryProof {
    /// Checks that `leaf` stands at the proof's height under `root`.
    ///
    /// Errors: [`Reject::ProofShape`], [`Reject::ProofRoot`].
    pub fn check(&self, leaf: &Digest, root: &Digest) -> Result<(), Reject> {
        let place = self.height.0.checked_sub(1).filter(|place| *place < self.count);
        let place = place.ok_or(Reject::ProofShape)?;
        let others = index(self.count.count_ones()) - 1;
        if self.peaks.len() != others || self.siblings.len() >= LEVELS_MAX {
            return Err(Reject::ProofShape);
        }
        let mut start = 0;
        for (position, size) in mountains(self.count).enumerate() {
            if place - start < size {
                let own = climb(leaf, place - start, size, &self.siblings)?;
                let mut peaks = self.peaks.clone();
                peaks.insert(position, own);
                let matches = bag(self.count, &peaks) == *root;
                return if matches { Ok(()) } else { Err(Reject::ProofRoot) };
            }
            start += size;
        }
        unreachable!("the mountains hold as many leaves as the count")
    }
}

/// Returns how many siblings and how many other peaks the proof for a height has in a range of `count` records,
/// or none when it is outside.
pub(crate) fn shape(height: Height, count: u64) -> Option<(u32, u32)> {
    let place = height.0.checked_sub(1).filter(|place| *place < count)?;
    let mut start = 0;
    let own = mountains(count).find(|size| {
        start += size;
        place < start
    })?;
    Some((own.trailing_zeros(), count.count_ones() - 1))
}

/// The sizes of the mountains from the left: the powers of two in the count, falling.
fn mountains(count: u64) -> impl Iterator<Item = u64> {
    (0..u64::BITS).rev().map(|level| 1 << level).filter(move |size| count & size != 0)
}

/// Computes the peak above a leaf from its place in a mountain and its siblings.
fn climb(leaf: &Digest, place: u64, size: u64, siblings: &[Digest]) -> Result<Digest, Reject> {
    if index(size.trailing_zeros()) != siblings.len() {
        return Err(Reject::ProofShape);
    }
    let mut digest = *leaf;
    for (level, sibling) in siblings.iter().enumerate() {
        digest = match (place >> level) & 1 {
            0 => node(&digest, sibling),
            _ => node(sibling, &digest),
        };
    }
    Ok(digest)
}

fn path(mountain: &[Digest], place: usize) -> Vec<Digest> {
    let mut siblings = Vec::new();
    let mut level = mountain.to_vec();
    let mut place = place;
    while level.len() > 1 {
        siblings.push(level[place ^ 1]);
        level = parents(&level);
        place /= 2;
    }
    siblings
}

fn peak(mountain: &[Digest]) -> Digest {
    let mut level = mountain.to_vec();
    while level.len() > 1 {
        level = parents(&level);
    }
    level[0]
}

fn parents(level: &[Digest]) -> Vec<Digest> {
    let (pairs, odd) = level.as_chunks::<2>();
    assert!(odd.is_empty(), "a mountain is a perfect tree");
    pairs.iter().map(|[left, right]| node(left, right)).collect()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    domain::HISTORY_NODE.digest(&[&left.0, &right.0])
}

fn bag(count: u64, peaks: &[Digest]) -> Digest {
    let mut hasher = domain::HISTORY_ROOT.hasher();
    hasher.update(&count.to_le_bytes());
    for peak in peaks {
        hasher.update(&peak.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::count_u32;

    fn leaves(count: u64) -> Vec<Digest> {
        (1..=count)
            .map(|height| {
                let record = HistoryRecord {
                    height: Height(height),
                    cut: Digest([7; 32]),
                    outcomes_root: Digest::ZERO,
                };
                record.leaf()
            })
            .collect()
    }

    /// The root by its definition, from all leaves.
    fn naive(leaves: &[Digest]) -> Digest {
        let mut peaks = Vec::new();
        let mut rest = leaves;
        while !rest.is_empty() {
            let size = 1 << rest.len().ilog2();
            let (mountain, after) = rest.split_at(size);
            peaks.push(perfect(mountain));
            rest = after;
        }
        bag(length_u64(leaves.len()), &peaks)
    }

    fn perfect(leaves: &[Digest]) -> Digest {
        match leaves {
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len() / 2);
                node(&perfect(left), &perfect(right))
            }
        }
    }

    #[test]
    fn appending_gives_the_root_of_the_definition() {
        let leaves = leaves(200);
        let mut history = History::new();
        for count in 0..leaves.len() {
            assert_eq!(history.root(), naive(&leaves[..count]), "{count} records");
            history.append(&leaves[count]);
            assert_eq!(history.count(), length_u64(count + 1));
        }
    }

    #[test]
    fn every_record_has_a_proof_that_holds_for_it_alone() {
        for count in 1..35 {
            let leaves = leaves(count);
            let root = naive(&leaves);
            for height in 1..=count {
                let proof = prove(&leaves, Height(height)).unwrap();
                let lengths = (count_u32(proof.siblings.len()), count_u32(proof.peaks.len()));
                assert_eq!(shape(Height(height), count), Some(lengths));
                for (place, leaf) in (1..).zip(&leaves) {
                    assert_eq!(proof.check(leaf, &root).is_ok(), place == height);
                }
                for other in 0..count + 3 {
                    let moved = HistoryProof { height: Height(other), ..proof.clone() };
                    let leaf = &leaves[usize::try_from(height - 1).unwrap()];
                    assert_eq!(moved.check(leaf, &root).is_ok(), other == height);
                    let resized = HistoryProof { count: other, ..proof.clone() };
                    assert_eq!(resized.check(leaf, &root).is_ok(), other == count);
                }
            }
            assert_eq!((shape(Height(0), count), shape(Height(count + 1), count)), (None, None));
            assert_eq!(prove(&leaves, Height(0)), None);
            assert_eq!(prove(&leaves, Height(count + 1)), None);
        }
    }

    #[test]
    fn stored_nodes_give_the_proofs_of_every_shorter_range() {
        let leaves = leaves(70);
        let mut nodes: Vec<Digest> = Vec::new();
        for (height, leaf) in (1_u64..).zip(&leaves) {
            assert_eq!(nodes_before(height), length_u64(nodes.len()));
            let at = |place: u64| Ok::<_, ()>(nodes[usize::try_from(place).unwrap()]);
            let new = new_nodes(height, leaf, at).unwrap();
            nodes.extend(new);
        }
        let at = |place: u64| nodes.get(usize::try_from(place).unwrap()).copied().ok_or(place);
        for count in 0..=70 {
            let own = &leaves[..usize::try_from(count).unwrap()];
            assert_eq!(root_from(count, at), Ok(naive(own)));
            for height in 0..=count + 1 {
                let expected = prove(own, Height(height));
                assert_eq!(prove_from(Height(height), count, at), Ok(expected));
            }
        }
        assert_eq!(root_from(128, at), Err(nodes_before(128) + 7), "there is no such node yet");
    }

    #[test]
    fn a_path_of_another_length_has_no_shape() {
        let leaves = leaves(13);
        let root = naive(&leaves);
        let proof = prove(&leaves, Height(6)).unwrap();
        let leaf = leaves[5];
        let mut short = proof.clone();
        short.siblings.pop();
        assert_eq!(short.check(&leaf, &root), Err(Reject::ProofShape));
        let mut flat = proof.clone();
        flat.peaks.pop();
        assert_eq!(flat.check(&leaf, &root), Err(Reject::ProofShape));
        let mut long = proof.clone();
        long.siblings.resize(LEVELS_MAX, Digest::ZERO);
        assert_eq!(long.check(&leaf, &root), Err(Reject::ProofShape));
        let mut bent = proof;
        bent.peaks[0].0[31] ^= 1;
        assert_eq!(bent.check(&leaf, &root), Err(Reject::ProofRoot));
    }

    #[test]
    fn the_largest_count_is_no_overflow() {
        let proof = HistoryProof {
            height: Height(u64::MAX),
            count: u64::MAX,
            siblings: Vec::new(),
            peaks: vec![Digest::ZERO; 63],
        };
        assert_eq!(proof.check(&Digest::ZERO, &Digest::ZERO), Err(Reject::ProofRoot));
    }
}
