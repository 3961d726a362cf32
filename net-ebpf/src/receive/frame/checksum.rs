//! The checksum of UDP, summed eight bytes at a time.
//!
//! A sum in ones' complement is the same in either byte order, its bytes swapped, and in words of
//! any even size, folded at the end. So the words are loaded as they lie, and compared with values
//! that were loaded the same way.
//!
//! Source: RFC 768; RFC 1071, section 2; RFC 8200, section 8.1 (IPv6 without a checksum).

/// What the checksum of a datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It covers addresses, header and payload, and fits.
    Whole,
    /// It is zero: the sender made none.
    Absent,
    /// It is the sum over the addresses alone, which a kernel leaves for a card to complete.
    Partial,
    /// None of these.
    Wrong,
}

const PROTOCOL_UDP: u64 = 17 << 8;
const CHECKSUM_AT: usize = 6;

/// Checks a datagram.
///
/// Shape: `addresses` holds source and destination as they lie in the IP header, 8 or 32 bytes;
/// `udp` the header and the payload, of the length that the header says, at least 8 bytes.
pub(super) fn check(addresses: &[u8], udp: &[u8]) -> Verdict {
    let stored = u16::from_le_bytes([udp[CHECKSUM_AT], udp[CHECKSUM_AT + 1]]);
    if stored == 0 {
        return Verdict::Absent;
    }
    let size = u64::from(u16::from_le_bytes([udp[4], udp[5]]));
    // At most 32 bytes of addresses: no carry leaves 64 bits more than once.
    let pseudo = u64::from(sum(addresses)) + size + PROTOCOL_UDP;
    if fold(pseudo + u64::from(sum(udp))) == u16::MAX {
        Verdict::Whole
    } else if stored == fold(pseudo) {
        Verdict::Partial
    } else {
        Verdict::Wrong
    }
}

/// Sums bytes as 16-bit words in ones' complement; a last odd byte counts with a zero after it.
///
/// Bounds: any length up to 2^64 words, of which the carries fill the upper half of 128 bits.
fn sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<8>();
    let total: u128 = words.iter().map(|word| u128::from(u64::from_le_bytes(*word))).sum();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let total = total + u128::from(u64::from_le_bytes(last));
    let (low, high) = (total & u128::from(u64::MAX), total >> 64);
    let folded = low + high;
    // 2^64 is 1 modulo 2^16 - 1, and so is 2^32.
    let word = |shift: u32| u64::try_from(folded >> shift & 0xffff_ffff).expect("32 bits");
    fold(word(0) + word(32) + word(64))
}

/// Folds a sum to 16 bits; only zero becomes zero.
fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    while let high @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + high;
    }
    u16::try_from(sum).expect("16 bits")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The plain twin of [`sum`]: one word of two bytes after the other, as RFC 1071 writes it.
    pub(in super::super) fn sum_plain(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|word| {
            u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))
        });
        let mut sum = 0;
        for word in words {
            sum += word;
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes).swap_bytes(), 0xddf2);
        assert_eq!(sum_plain(&bytes), 0xddf2);
    }

    #[test]
    fn the_largest_inputs_carry_right() {
        for size in (0..70).chain([1_232, 1_500, 65_535]) {
            for value in [0xff, 0x80, 0x01, 0x00] {
                let bytes = vec![value; size];
                assert_eq!(sum(&bytes).swap_bytes(), sum_plain(&bytes), "{size} of {value:#x}");
            }
        }
    }

    proptest! {
        #[test]
        fn both_sums_agree(bytes in prop::collection::vec(any::<u8>(), 0..2_000), skip in 0..9_usize) {
            let bytes = &bytes[skip.min(bytes.len())..];
            prop_assert_eq!(sum(bytes).swap_bytes(), sum_plain(bytes));
        }

        #[test]
        fn folding_keeps_the_residue(value in any::<u64>()) {
            prop_assert_eq!(u64::from(fold(value)) % 0xffff, value % 0xffff);
            prop_assert_eq!(fold(value) == 0, value == 0);
        }
    }
}
