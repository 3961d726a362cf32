//! The validator set, its quorum, and the bitmap that names signers.

use crate::codec::{Reader, count_u32, index};
use crate::digest::{Digest, PublicKey, Signature, domain};
use crate::limits::VALIDATORS_MAX;
use crate::reject::Reject;

/// The validators of one epoch, by strictly ascending key: the place is the engine's participant
/// index, the lane and the bit in every bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet {
    keys: Vec<PublicKey>,
}

impl ValidatorSet {
    /// Takes the keys in their order.
    ///
    /// Errors: [`Reject::ValidatorOrder`] for no keys, too many, or keys that do not strictly
    /// ascend.
    pub fn new(keys: Vec<PublicKey>) -> Result<Self, Reject> {
        let ascending = keys.windows(2).all(|pair| pair[0] < pair[1]);
        if keys.is_empty() || keys.len() > VALIDATORS_MAX || !ascending {
            return Err(Reject::ValidatorOrder);
        }
        Ok(Self { keys })
    }

    /// Returns how many validators there are: at least one.
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the number of lanes: one for each validator.
    pub fn lanes(&self) -> u32 {
        count_u32(self.keys.len())
    }

    /// Returns the key of the validator at this index.
    pub fn key(&self, validator: u32) -> Option<&PublicKey> {
        self.keys.get(index(validator))
    }

    /// Returns all keys in their order.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Returns the index of the validator with this key.
    pub fn index_of(&self, key: &PublicKey) -> Option<u32> {
        self.keys.binary_search(key).ok().map(count_u32)
    }

    /// Returns how many validators may fail in any way.
    pub fn faults_max(&self) -> usize {
        (self.keys.len() - 1) / 3
    }

    /// Returns how many must sign: any two quorums share an honest validator.
    pub fn quorum(&self) -> usize {
        self.keys.len() - self.faults_max()
    }

    /// Writes the set: validators u32, key 32 each.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = count_u32(self.keys.len()).to_le_bytes().to_vec();
        self.keys.iter().for_each(|key| bytes.extend_from_slice(&key.0));
        bytes
    }

    /// Reads what [`ValidatorSet::encode`] writes, and nothing else.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::TrailingBytes`], [`Reject::ValidatorOrder`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let mut reader = Reader::new(bytes);
        let set = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(set)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let count = index(reader.u32()?);
        if count > VALIDATORS_MAX {
            return Err(Reject::ValidatorOrder);
        }
        let keys = (0..count).map(|_| reader.array().map(|key| PublicKey(*key)));
        Self::new(keys.collect::<Result<_, _>>()?)
    }

    /// Computes the digest that names the set.
    pub fn digest(&self) -> Digest {
        let mut hasher = domain::VALIDATOR_SET.hasher();
        for key in &self.keys {
            hasher.update(&key.0);
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

/// Which validators signed: bit i stands for index i.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bitmap(pub u128);

impl Bitmap {
    /// Adds a validator; returns false when it was there already.
    pub fn insert(&mut self, validator: u32) -> bool {
        assert!(index(validator) < VALIDATORS_MAX, "validator {validator} has no bit");
        let bit = 1 << validator;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// Takes a validator out; returns whether it was there.
    pub fn remove(&mut self, validator: u32) -> bool {
        let was_there = self.contains(validator);
        if was_there {
            self.0 &= !(1 << validator);
        }
        was_there
    }

    /// Returns whether the validator is there.
    pub fn contains(self, validator: u32) -> bool {
        self.0.checked_shr(validator).is_some_and(|bits| bits & 1 == 1)
    }

    /// Returns how many validators are there.
    pub fn count(self) -> usize {
        index(self.0.count_ones())
    }

    /// Returns the validators by rising index.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..u128::BITS).filter(move |validator| self.contains(*validator))
    }

    /// Refuses signers outside the set and fewer than a quorum.
    ///
    /// Errors: [`Reject::UnknownValidator`], [`Reject::QuorumMissing`].
    pub fn check_quorum(self, set: &ValidatorSet) -> Result<(), Reject> {
        if self.bits() > set.len() {
            return Err(Reject::UnknownValidator);
        }
        if self.count() < set.quorum() {
            return Err(Reject::QuorumMissing);
        }
        Ok(())
    }

    /// Returns one more than the highest index.
    fn bits(self) -> usize {
        index(u128::BITS - self.0.leading_zeros())
    }

    /// Reads one signature for each signer.
    ///
    /// Errors: [`Reject::UnknownValidator`], [`Reject::Truncated`].
    pub(crate) fn read_signatures(self, reader: &mut Reader<'_>) -> Result<Vec<Signature>, Reject> {
        if self.bits() > VALIDATORS_MAX {
            return Err(Reject::UnknownValidator);
        }
        (0..self.count()).map(|_| reader.signature()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u8) -> Vec<PublicKey> {
        (0..count).map(|number| PublicKey([number; 32])).collect()
    }

    #[test]
    fn quorums_are_those_of_the_engine() {
        let expected = [(1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 1, 3), (7, 2, 5), (100, 33, 67)];
        for (count, faults, quorum) in expected {
            let set = ValidatorSet::new(keys(count)).unwrap();
            assert_eq!((set.faults_max(), set.quorum()), (faults, quorum), "{count} validators");
        }
    }

    #[test]
    fn keys_ascend_strictly() {
        assert_eq!(ValidatorSet::new(vec![]), Err(Reject::ValidatorOrder));
        assert_eq!(ValidatorSet::new(keys(101)), Err(Reject::ValidatorOrder));
        let twice = vec![PublicKey([1; 32]); 2];
        assert_eq!(ValidatorSet::new(twice), Err(Reject::ValidatorOrder));
        let falling = keys(4).into_iter().rev().collect();
        assert_eq!(ValidatorSet::new(falling), Err(Reject::ValidatorOrder));
    }

    #[test]
    fn places_and_keys_match() {
        let set = ValidatorSet::new(keys(4)).unwrap();
        assert_eq!(set.lanes(), 4);
        for validator in 0..4 {
            assert_eq!(set.index_of(set.key(validator).unwrap()), Some(validator));
        }
        assert_eq!(set.key(4), None);
        assert_eq!(set.index_of(&PublicKey([9; 32])), None);
        assert_eq!(set.keys().len(), set.len());
        assert_ne!(set.digest(), ValidatorSet::new(keys(5)).unwrap().digest());
    }

    #[test]
    fn a_bitmap_counts_and_lists_its_bits() {
        let mut bitmap = Bitmap::default();
        for validator in [99, 0, 64] {
            assert!(bitmap.insert(validator));
            assert!(!bitmap.insert(validator));
        }
        assert_eq!(bitmap.iter().collect::<Vec<u32>>(), [0, 64, 99]);
        assert_eq!((bitmap.count(), bitmap.bits()), (3, 100));
        assert!(bitmap.contains(64) && !bitmap.contains(65) && !bitmap.contains(200));
    }

    #[test]
    fn signers_are_a_quorum_of_the_set() {
        let set = ValidatorSet::new(keys(4)).unwrap();
        assert_eq!(Bitmap(0b0111).check_quorum(&set), Ok(()));
        assert_eq!(Bitmap(0b0110).check_quorum(&set), Err(Reject::QuorumMissing));
        assert_eq!(Bitmap(0b1_0111).check_quorum(&set), Err(Reject::UnknownValidator));
        let mut reader = Reader::new(&[]);
        let beyond = Bitmap(1 << 100).read_signatures(&mut reader);
        assert_eq!(beyond, Err(Reject::UnknownValidator));
    }
}
