//! Reads and writes fixed little-endian fields: the one place where bytes are cut into pieces.

use crate::digest::{Digest, Signature};
use crate::reject::Reject;

/// A cursor over untrusted bytes; every read checks the length first.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Returns what was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Takes the next `N` bytes.
    ///
    /// Errors: [`Reject::Truncated`].
    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Reject> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or(Reject::Truncated)?;
        self.bytes = rest;
        Ok(head)
    }

    /// Takes the next `length` bytes.
    ///
    /// Errors: [`Reject::Truncated`].
    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], Reject> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(Reject::Truncated)?;
        self.bytes = rest;
        Ok(head)
    }

    /// Takes one byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Reject> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    /// Takes a 32-bit integer.
    pub(crate) fn u32(&mut self) -> Result<u32, Reject> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// Takes a 64-bit integer.
    pub(crate) fn u64(&mut self) -> Result<u64, Reject> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Takes a 128-bit integer.
    pub(crate) fn u128(&mut self) -> Result<u128, Reject> {
        self.array().map(|bytes| u128::from_le_bytes(*bytes))
    }

    /// Takes a digest.
    pub(crate) fn digest(&mut self) -> Result<Digest, Reject> {
        self.array().map(|bytes| Digest(*bytes))
    }

    /// Takes a signature.
    pub(crate) fn signature(&mut self) -> Result<Signature, Reject> {
        self.array().map(|bytes| Signature(*bytes))
    }

    /// Takes `N` bytes that this version leaves zero, so that every value has one encoding.
    ///
    /// Errors: [`Reject::ReservedNotZero`].
    pub(crate) fn zeros<const N: usize>(&mut self) -> Result<(), Reject> {
        let bytes = self.array::<N>()?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(Reject::ReservedNotZero);
        }
        Ok(())
    }

    /// Takes the version byte.
    ///
    /// Errors: [`Reject::UnknownVersion`].
    pub(crate) fn version(&mut self, expected: u8) -> Result<(), Reject> {
        if self.u8()? != expected {
            return Err(Reject::UnknownVersion);
        }
        Ok(())
    }

    /// Ends the reading.
    ///
    /// Errors: [`Reject::TrailingBytes`] when something is left.
    pub(crate) fn finish(self) -> Result<(), Reject> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Reject::TrailingBytes) }
    }
}

/// Converts a count that a limit keeps small.
pub(crate) fn count_u32(count: usize) -> u32 {
    u32::try_from(count).expect("every list of the ledger is capped far below 2^32")
}

/// Converts a length in memory, which never exceeds 64 bits.
pub(crate) fn length_u64(length: usize) -> u64 {
    u64::try_from(length).expect("usize has at most 64 bits")
}

/// Converts a 32-bit index or count to one that indexes memory.
pub(crate) fn index(value: u32) -> usize {
    usize::try_from(value).expect("usize has at least 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_the_end_is_checked() {
        let mut reader = Reader::new(&[1, 2, 0, 0, 0, 0, 9, 7]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u32(), Ok(2));
        assert_eq!(reader.zeros::<1>(), Ok(()));
        assert_eq!(reader.rest(), &[9, 7]);
        assert_eq!(reader.u64(), Err(Reject::Truncated));
        assert_eq!(reader.slice(3), Err(Reject::Truncated));
        assert_eq!(reader.zeros::<1>(), Err(Reject::ReservedNotZero));
        assert_eq!(reader.version(1), Err(Reject::UnknownVersion));
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(Reader::new(&[0]).finish(), Err(Reject::TrailingBytes));
    }
}
