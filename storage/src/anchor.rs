//! Where a pruned store begins: what the first segment that is left must link to.

use crate::error::Error;
use crate::segment::Opening;

/// The encoded length.
const BYTES: usize = 8 + 8 + 8 + 8 + 32 + 32;
const MAGIC: [u8; 8] = *b"althfst\n";

/// The beginning of a store; zero for one that was never pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// The first segment that belongs to the store; earlier files are leftovers.
    pub(crate) segment: u64,
    pub(crate) first_record: u64,
    /// Where the seal before is, and its hash.
    pub(crate) link: u64,
    pub(crate) previous: [u8; 32],
}

impl Anchor {
    /// The beginning of a store whose first segment will be this one.
    pub(crate) fn new(first: &Opening) -> Self {
        let Opening { number, first_record, link, previous, .. } = *first;
        Self { segment: number, first_record, link, previous }
    }

    /// Shape: magic 8, segment 8, first record 8, link 8, previous 32, BLAKE3 of all that 32.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&MAGIC);
        for field in [self.segment, self.first_record, self.link] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.previous);
        let hash = digest(&bytes);
        bytes.extend_from_slice(&hash);
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote; none was never pruned.
    ///
    /// Errors: [`Error::Anchor`] for anything else.
    pub(crate) fn decode(bytes: Option<&[u8]>) -> Result<Self, Error> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let (content, hash) = bytes.split_at_checked(BYTES - 32).ok_or(Error::Anchor)?;
        if hash != digest(content) || content[..8] != MAGIC {
            return Err(Error::Anchor);
        }
        let field = |at: usize| {
            let bytes = content[at..].first_chunk().expect("eight of the bytes above");
            u64::from_le_bytes(*bytes)
        };
        let previous = *content.last_chunk().expect("32 of the bytes above");
        Ok(Self { segment: field(8), first_record: field(16), link: field(24), previous })
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_derive_key("althing storage first v1").update(bytes).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_reads_back_and_no_changed_byte_passes() {
        let anchor = Anchor { segment: 7, first_record: 900, link: 4096, previous: [3; 32] };
        let bytes = anchor.encode();
        assert_eq!(Anchor::decode(Some(&bytes)).unwrap(), anchor);
        assert_eq!(Anchor::decode(None).unwrap(), Anchor::default());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(matches!(Anchor::decode(Some(&flipped)), Err(Error::Anchor)), "{at} {bit}");
            }
            assert!(matches!(Anchor::decode(Some(&bytes[..at])), Err(Error::Anchor)), "{at}");
        }
    }
}
