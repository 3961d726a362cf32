//! A validator's or author's Ed25519 key in memory; [`mod@file`] keeps it, [`sealed`] and [`passphrase`] close it.

pub mod file;
pub mod passphrase;
mod prompt;
pub mod sealed;
#[cfg(test)]
pub(crate) mod testing;

pub use file::KeyFile;
pub use passphrase::{Passphrase, Source};
pub use sealed::{Cost, Sealed};

use crate::command::Exit;
use ed25519_dalek::{Signer, SigningKey};
use ledger::{PublicKey, Signature};
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// A secret key, wiped from memory when it is dropped.
pub struct Secret {
    signing: SigningKey,
}

impl Secret {
    /// Makes a new key from the operating system's randomness.
    ///
    /// Errors: host unfit, when the system gives none.
    pub fn generate() -> Result<Self, Exit> {
        let mut seed = Zeroizing::new([0; 32]);
        fill(&mut *seed)?;
        Ok(Self::from_seed(&seed))
    }

    /// Makes the key of a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(seed) }
    }

    /// Reads a key file; the terminal is asked for the passphrase of an encrypted one.
    ///
    /// Errors: those of [`KeyFile::read`] and [`KeyFile::open`].
    pub fn load(path: &Path) -> Result<Self, Exit> {
        KeyFile::read(path)?.open(path, &Source::Terminal)
    }

    /// Writes a new key file that is not encrypted.
    ///
    /// Errors: those of [`KeyFile::create`].
    pub fn create(&self, path: &Path) -> Result<(), Exit> {
        KeyFile::Plain(Self::from_seed(&self.seed())).create(path)
    }

    /// Returns the public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key().to_bytes())
    }

    /// Returns the seed, for an engine that keeps keys of its own type.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes())
    }

    /// Signs a message.
    ///
    /// Source: RFC 8032, section 5.1.6 (PureEd25519).
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.signing.sign(message).to_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secret({})", self.public())
    }
}

/// Fills bytes from the operating system's randomness.
fn fill(bytes: &mut [u8]) -> Result<(), Exit> {
    getrandom::fill(bytes).map_err(|error| Exit::host_unfit(format!("no random numbers: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vector_of_the_standard_is_signed_as_printed() {
        // RFC 8032, section 7.1, test 1.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let mut bytes = [0; 32];
        hex::decode_to_slice(seed, &mut bytes).unwrap();
        let key = Secret::from_seed(&bytes);
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(key.public().to_string(), public);
        assert!(key.sign(b"").to_string().starts_with("e5564300c360ac72"));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let key = Secret::from_seed(&[7; 32]);
        assert!(!format!("{key:?}").contains(&hex::encode([7; 32])));
    }
}
