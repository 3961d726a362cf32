//! AES-256-GCM of aws-lc as the transport's cipher: over twice the default's speed with AES-NI.

use crate::cost::{Cost, Meter};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use commonware_cryptography::Cipher;
use commonware_math::algebra::Random;
use commonware_utils::sequence::FixedBytes;
use rand_core::CryptoRng;

const TAG_BYTES: usize = 16;
/// Shorter messages cost less than asking the clock what they cost: they count with the work around them.
const METERED_BYTES_MIN: usize = 4_096;

/// Does the work of a message of this length; what it costs is counted as encryption if it is long.
fn metered<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < METERED_BYTES_MIN {
        return work();
    }
    Meter::ON.aside(Cost::Encrypt, work)
}

/// One direction of one connection: a key used once, a nonce that counts.
pub struct Aes256Gcm {
    next: u128,
    key: LessSafeKey,
}

impl Aes256Gcm {
    fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("the key has 32 bytes");
        Self { next: 0, key: LessSafeKey::new(key) }
    }

    /// The next nonce, never the same twice; none once 2^96 are spent.
    fn nonce(&mut self) -> Option<Nonce> {
        if self.next >> (8 * NONCE_LEN) != 0 {
            return None;
        }
        let nonce = *self.next.to_le_bytes().first_chunk::<NONCE_LEN>()?;
        self.next += 1;
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

impl Random for Aes256Gcm {
    fn random(mut rng: impl CryptoRng) -> Self {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *key);
        Self::new(&key)
    }
}

impl Cipher for Aes256Gcm {
    type Tag = FixedBytes<TAG_BYTES>;

    fn seal(mut self, associated: &[u8], data: &mut [u8]) -> Option<(Self, Self::Tag)> {
        let (nonce, bytes) = (self.nonce()?, data.len());
        let seal = || self.key.seal_in_place_separate_tag(nonce, Aad::from(associated), data);
        let tag = metered(bytes, seal).ok()?;
        let tag = <[u8; TAG_BYTES]>::try_from(tag.as_ref()).ok()?;
        Some((self, FixedBytes::new(tag)))
    }

    fn open(mut self, associated: &[u8], data: &mut [u8], tag: &Self::Tag) -> Option<Self> {
        let (nonce, bytes) = (self.nonce()?, data.len());
        let aad = Aad::from(associated);
        let open = || self.key.open_in_place_separate_tag(nonce, aad, tag.as_ref(), data).map(drop);
        metered(bytes, open).ok()?;
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 14 of the GCM specification (McGrew and Viega): zero key, zero nonce, 16 zero bytes.
    #[test]
    fn first_message_is_that_of_the_specification() {
        let mut data = [0; 16];
        let (_, tag) = Aes256Gcm::new(&[0; 32]).seal(&[], &mut data).expect("a fresh key");
        assert_eq!(hex::encode(data), "cea7403d4d606b6e074ec5d3baf39d18");
        assert_eq!(hex::encode(tag.as_ref()), "d0d1c8a799996bf0265b98b5d48ab919");
    }

    #[test]
    fn what_was_sealed_opens_in_order_and_nothing_else_does() {
        let (mut seal, mut open) = (Aes256Gcm::new(&[7; 32]), Aes256Gcm::new(&[7; 32]));
        for length in [0usize, 1, 15, 16, 17, 4_096] {
            let mut data = vec![9; length];
            let (next, tag) = seal.seal(b"header", &mut data).expect("nonces are left");
            seal = next;
            let mut other = data.clone();
            open = open.open(b"header", &mut data, &tag).expect("in order");
            assert_eq!(data, vec![9; length]);
            // The same bytes a second time meet the next nonce.
            assert!(
                Aes256Gcm { next: open.next, key: Aes256Gcm::new(&[7; 32]).key }
                    .open(b"header", &mut other, &tag)
                    .is_none()
            );
        }
    }

    #[test]
    fn a_changed_byte_does_not_open() {
        let mut data = [1; 32];
        let (_, tag) = Aes256Gcm::new(&[3; 32]).seal(b"a", &mut data).expect("a fresh key");
        for index in 0..data.len() {
            let mut changed = data;
            changed[index] ^= 1;
            assert!(Aes256Gcm::new(&[3; 32]).open(b"a", &mut changed, &tag).is_none());
        }
        assert!(Aes256Gcm::new(&[3; 32]).open(b"b", &mut data, &tag).is_none());
    }

    #[test]
    fn nonces_end() {
        let cipher = Aes256Gcm { next: 1 << 96, key: Aes256Gcm::new(&[0; 32]).key };
        assert!(cipher.seal(&[], &mut [0; 4]).is_none());
    }
}
