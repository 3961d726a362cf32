//! Where a store begins, and up to where it is known to be sealed: what no segment can say of itself.

use crate::error::Error;
use crate::frame::is_zero;
use crate::segment::Opening;

/// One of the two places in the file, each within a sector.
pub(crate) const SLOT_BYTES: usize = 512;
const MAGIC: [u8; 8] = *b"althfst\n";
const FIELDS: usize = 8 + 5 * 8 + 32;

/// The beginning of a store; zero for one that was never pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// How often it was written: of two, the greater counts.
    pub(crate) generation: u64,
    /// The first segment that belongs to the store; earlier files are leftovers.
    pub(crate) segment: u64,
    pub(crate) first_record: u64,
    /// Where the seal before is, and its hash.
    pub(crate) link: u64,
    pub(crate) previous: [u8; 32],
    /// Segments below this number are sealed: what they lack is damage, never an unfinished write.
    pub(crate) sealed: u64,
}

impl Anchor {
    /// The next state of a store whose first segment will be this one.
    pub(crate) fn next(&self, first: &Opening, sealed: u64) -> Self {
        let Opening { number, first_record, link, previous, .. } = *first;
        let generation = self.generation + 1;
        Self { generation, segment: number, first_record, link, previous, sealed }
    }

    /// The slot that it is written to: the one before stays until this one is durable.
    pub(crate) const fn slot(&self) -> usize {
        (self.generation % 2) as usize
    }

    /// Shape: one slot.
    pub(crate) fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        let fields = [self.generation, self.segment, self.first_record, self.link, self.sealed];
        for (field, place) in fields.iter().zip(bytes[8..].chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes[48..FIELDS].copy_from_slice(&self.previous);
        let hash = digest(&bytes[..FIELDS]);
        bytes[FIELDS..FIELDS + 32].copy_from_slice(&hash);
        bytes
    }

    /// Reads the file: the newest of two slots; none, or zeros, where nothing was ever pruned.
    ///
    /// Errors: [`Error::Anchor`] when both slots are something else.
    pub(crate) fn decode(file: Option<&[u8]>) -> Result<Self, Error> {
        let file = file.unwrap_or_default();
        let slots = file.chunks_exact(SLOT_BYTES);
        let whole = slots.remainder().is_empty();
        match slots.filter_map(Self::decode_slot).max_by_key(|anchor| anchor.generation) {
            Some(anchor) if whole => Ok(anchor),
            None if whole && is_zero(file) => Ok(Self::default()),
            Some(_) | None => Err(Error::Anchor),
        }
    }

    fn decode_slot(bytes: &[u8]) -> Option<Self> {
        let (content, rest) = bytes.split_at(FIELDS);
        if content[..8] != MAGIC || rest[..32] != digest(content) || !is_zero(&rest[32..]) {
            return None;
        }
        let field = |at: usize| {
            let bytes = content[8 + 8 * at..].first_chunk().expect("within the fields");
            u64::from_le_bytes(*bytes)
        };
        Some(Self {
            generation: field(0),
            segment: field(1),
            first_record: field(2),
            link: field(3),
            sealed: field(4),
            previous: *content.last_chunk().expect("the last of the fields"),
        })
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_derive_key("althing storage first v1").update(bytes).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(generation: u64) -> Anchor {
        let (segment, first_record, link, sealed) = (7, 900, 4096, 11);
        Anchor { generation, segment, first_record, link, previous: [3; 32], sealed }
    }

    #[test]
    fn the_newest_slot_counts_and_no_changed_byte_passes() {
        let (old, new) = (anchor(4), anchor(5));
        assert_eq!((old.slot(), new.slot()), (0, 1));
        let file = [old.encode(), new.encode()].concat();
        assert_eq!(Anchor::decode(Some(&file)).unwrap(), new);
        assert_eq!(Anchor::decode(None).unwrap(), Anchor::default());
        assert_eq!(Anchor::decode(Some(&[0; 2 * SLOT_BYTES])).unwrap(), Anchor::default());
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut flipped = file.clone();
                flipped[at] ^= 1 << bit;
                // What is left is the other slot.
                let expected = if at < SLOT_BYTES { new } else { old };
                assert_eq!(Anchor::decode(Some(&flipped)).unwrap(), expected, "{at} {bit}");
                let mut alone = flipped[at / SLOT_BYTES * SLOT_BYTES..].to_vec();
                alone.truncate(SLOT_BYTES);
                assert!(matches!(Anchor::decode(Some(&alone)), Err(Error::Anchor)), "{at} {bit}");
            }
        }
        for end in 1..SLOT_BYTES {
            assert!(matches!(Anchor::decode(Some(&file[..end])), Err(Error::Anchor)), "{end}");
        }
    }
}
