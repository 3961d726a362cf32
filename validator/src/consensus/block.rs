//! A cut block as the engine sees it: something with a digest, a height, a parent and an encoding.

use commonware_codec::{Buf, EncodeSize, Error, Read, Write};
use commonware_consensus::{BoundedBlock, Heightable, types};
use commonware_cryptography::{Digestible, blake3};
use ledger::{Cut, limits::CUT_BYTES_MAX};
use std::sync::Arc;

/// The engine's digest type; it carries ours.
pub type Digest = blake3::Digest;

/// Bytes of the length before the cut.
const LENGTH_BYTES: usize = 4;

/// A cut with its encoding and digest.
///
/// Shape: a little-endian `u32` length, then the cut's canonical encoding.
#[derive(Clone, Debug)]
pub struct Block {
    cut: Arc<Cut>,
    bytes: Arc<[u8]>,
    digest: ledger::Digest,
}

impl Block {
    /// Wraps a cut.
    pub fn new(cut: Cut) -> Self {
        let bytes: Arc<[u8]> = cut.encode().into();
        let digest = cut.digest();
        Self { cut: Arc::new(cut), bytes, digest }
    }

    /// The cut.
    pub const fn cut(&self) -> &Arc<Cut> {
        &self.cut
    }

    /// The cut's digest.
    pub const fn cut_digest(&self) -> ledger::Digest {
        self.digest
    }
}

/// Our digest as the engine's.
pub const fn engine_digest(digest: ledger::Digest) -> Digest {
    blake3::Digest(digest.0)
}

impl Write for Block {
    fn write(&self, buffer: &mut impl bytes::BufMut) {
        let length = u32::try_from(self.bytes.len()).expect("a cut has at most 64 KiB");
        buffer.put_u32_le(length);
        buffer.put_slice(&self.bytes);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        LENGTH_BYTES + self.bytes.len()
    }
}

impl Read for Block {
    type Cfg = ();

    fn read_cfg(buffer: &mut impl Buf, (): &()) -> Result<Self, Error> {
        if buffer.remaining() < LENGTH_BYTES {
            return Err(Error::EndOfBuffer);
        }
        let length = buffer.get_u32_le() as usize;
        if length > CUT_BYTES_MAX {
            return Err(Error::InvalidLength(length));
        }
        if buffer.remaining() < length {
            return Err(Error::EndOfBuffer);
        }
        let mut bytes = vec![0; length];
        buffer.copy_to_slice(&mut bytes);
        let cut = Cut::decode(&bytes).map_err(|_| Error::Invalid("cut", "does not decode"))?;
        let digest = cut.digest();
        Ok(Self { cut: Arc::new(cut), bytes: bytes.into(), digest })
    }
}

impl Digestible for Block {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        engine_digest(self.digest)
    }
}

impl Heightable for Block {
    fn height(&self) -> types::Height {
        types::Height::new(self.cut.height.get())
    }
}

impl commonware_consensus::Block for Block {
    fn parent(&self) -> Digest {
        engine_digest(self.cut.parent)
    }
}

impl BoundedBlock for Block {
    fn max_encode_size((): &()) -> usize {
        LENGTH_BYTES + CUT_BYTES_MAX
    }
}
