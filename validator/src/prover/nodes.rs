//! The nodes of the history range on disk, so that a proof of any height is some forty reads.
//!
//! ```text
//!   file: 32 bytes a node, in the order in which they come to be (see `ledger::history::node_place`)
//! ```
//!
//! Everything in it is made again from the outcomes in the store, so nothing waits for it and it is never
//! synced: after a power cut its end may be anything. A start keeps what has the history roots that the
//! store knows, and whoever makes a proof checks it, so that what is damaged in the middle is noticed, too.

use ledger::{Digest, Height, HistoryProof, history};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

const NODE: usize = 32;
const NODE_BYTES: u64 = 32;

/// The file and how many heights it has.
#[derive(Debug)]
pub struct Nodes {
    path: PathBuf,
    file: Option<File>,
    heights: u64,
    /// Whether the last try failed; it is said once.
    is_failing: bool,
}

impl Nodes {
    /// Opens the file, which is made if there is none, and keeps the heights whose history root is the one that
    /// `root_of` knows, up to `newest`.
    pub fn open(
        path: PathBuf,
        newest: u64,
        mut root_of: impl FnMut(u64) -> Option<Digest>,
    ) -> Self {
        let mut nodes = Self { path, file: None, heights: 0, is_failing: false };
        let metadata = nodes.file().and_then(File::metadata);
        let Ok(metadata) = nodes.noted(metadata) else { return nodes };
        let length = metadata.len() / NODE_BYTES;
        // As many as the file may have; those at the end may be wrong, and what is before them is not.
        let fits = |height: &u64| history::nodes_before(height + 1) <= length;
        let most = partition(0, newest, |height| fits(&height));
        let mut holds = |height| match root_of(height) {
            Some(root) => nodes.root(height).is_ok_and(|own| own == root),
            None => false,
        };
        nodes.heights = if holds(most) { most } else { partition(0, most, holds) };
        nodes
    }

    /// Returns how many heights it has: the newest of them.
    pub const fn heights(&self) -> u64 {
        self.heights
    }

    /// Adds the leaf of the next height.
    ///
    /// Errors: the system does not take it, and it can be tried again; or it does not give what was written, and
    /// everything is to be made anew.
    pub fn append(&mut self, leaf: &Digest) -> io::Result<()> {
        let height = self.heights + 1;
        let opened = self.file().map(drop);
        self.noted(opened)?;
        let nodes = history::new_nodes(height, leaf, |place| self.node(place));
        let nodes = match nodes {
            Ok(nodes) => nodes,
            Err(error) => {
                self.clear();
                return self.noted(Err(error));
            }
        };
        let bytes: Vec<u8> = nodes.iter().flat_map(|node| *node.as_bytes()).collect();
        let at = history::nodes_before(height) * NODE_BYTES;
        let written = self.file().and_then(|file| file.write_all_at(&bytes, at));
        self.noted(written)?;
        self.heights = height;
        Ok(())
    }

    /// Makes the proof for a height in a range of `count` records, or none where it is not there.
    ///
    /// Errors: the system does not read it.
    pub fn prove(&self, height: Height, count: u64) -> io::Result<Option<HistoryProof>> {
        if count > self.heights {
            return Ok(None);
        }
        history::prove_from(height, count, |place| self.node(place))
    }

    /// Forgets everything: it was found damaged.
    pub const fn clear(&mut self) {
        self.heights = 0;
    }

    fn root(&self, count: u64) -> io::Result<Digest> {
        history::root_from(count, |place| self.node(place))
    }

    fn node(&self, place: u64) -> io::Result<Digest> {
        let mut bytes = [0; NODE];
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(&mut bytes, place * NODE_BYTES)?;
        Ok(Digest(bytes))
    }

    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            self.file = Some(open(&self.path)?);
        }
        Ok(self.file.as_ref().expect("it was just opened"))
    }

    /// Says that something failed, once until something succeeds.
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && !self.is_failing
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the history's nodes are not kept: what is newer has no proofs");
        }
        self.is_failing = result.is_err();
        result
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// The largest of `least..=most` for which `holds`, which does for all up to some; `least` always does.
fn partition(least: u64, most: u64, mut holds: impl FnMut(u64) -> bool) -> u64 {
    let (mut low, mut high) = (least, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::History;

    fn index(count: u64) -> usize {
        usize::try_from(count).unwrap()
    }

    struct Known {
        leaves: Vec<Digest>,
        roots: Vec<Digest>,
    }

    impl Known {
        fn new(count: u8) -> Self {
            let leaves: Vec<Digest> = (1..=count).map(|byte| Digest([byte; 32])).collect();
            let mut history = History::new();
            let mut roots = vec![history.root()];
            for leaf in &leaves {
                history.append(leaf);
                roots.push(history.root());
            }
            Self { leaves, roots }
        }

        fn open(&self, path: &Path, newest: u64) -> Nodes {
            Nodes::open(path.into(), newest, |height| self.roots.get(index(height)).copied())
        }

        fn check(&self, nodes: &Nodes) {
            for count in 0..=nodes.heights() {
                for height in 1..=count {
                    let proof = nodes.prove(Height(height), count).unwrap().unwrap();
                    let leaf = &self.leaves[index(height - 1)];
                    assert_eq!(proof.check(leaf, &self.roots[index(count)]), Ok(()));
                }
            }
            assert_eq!(nodes.prove(Height(1), nodes.heights() + 1).unwrap(), None);
        }
    }

    #[test]
    fn what_is_written_is_there_after_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let known = Known::new(60);
        for from in [0, 1, 7, 8, 31] {
            let mut nodes = known.open(&path, from);
            assert_eq!(nodes.heights(), from);
            for leaf in &known.leaves[index(from)..] {
                nodes.append(leaf).unwrap();
            }
            known.check(&nodes);
        }
        assert_eq!(known.open(&path, 1_000).heights(), 60, "as many as it has");
    }

    #[test]
    fn an_end_that_a_power_cut_left_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let known = Known::new(60);
        let mut nodes = known.open(&path, 0);
        known.leaves.iter().for_each(|leaf| nodes.append(leaf).unwrap());
        let whole = std::fs::read(&path).unwrap();
        for kept in 0..=60_u64 {
            let end = index(history::nodes_before(kept + 1) * NODE_BYTES);
            let mut torn = whole.clone();
            torn[end..].fill(0);
            std::fs::write(&path, &torn).unwrap();
            let mut nodes = known.open(&path, 60);
            assert_eq!(nodes.heights(), kept);
            std::fs::write(&path, &torn[..(end + 13).min(torn.len())]).unwrap();
            assert_eq!(known.open(&path, 60).heights(), kept);
            known.leaves[index(kept)..].iter().for_each(|leaf| nodes.append(leaf).unwrap());
            known.check(&known.open(&path, 60));
        }
    }

    #[test]
    fn a_folder_that_is_not_there_costs_the_proofs_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("history");
        let known = Known::new(3);
        let mut nodes = known.open(&path, 3);
        assert!(nodes.append(&known.leaves[0]).is_err());
        std::fs::create_dir(folder.path().join("absent")).unwrap();
        known.leaves.iter().for_each(|leaf| nodes.append(leaf).unwrap());
        known.check(&nodes);
    }

    #[test]
    fn a_file_that_lost_its_end_while_it_was_used_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let known = Known::new(9);
        for there in 1..=8_usize {
            let mut nodes = known.open(&path, 0);
            known.leaves[..there].iter().for_each(|leaf| nodes.append(leaf).unwrap());
            File::create(&path).unwrap();
            // An even height needs what was there before; an odd one is noticed when it is proved.
            if there % 2 == 1 {
                assert!(nodes.append(&known.leaves[there]).is_err());
                assert_eq!(nodes.heights(), 0);
            } else {
                assert!(nodes.prove(Height(1), nodes.heights()).is_err());
                nodes.clear();
            }
            known.leaves.iter().for_each(|leaf| nodes.append(leaf).unwrap());
            known.check(&nodes);
        }
    }
}
