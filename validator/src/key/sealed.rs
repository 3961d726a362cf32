//! The encrypted key: a passphrase makes a key by Argon2id, and that opens the seed by XChaCha20-Poly1305.
//!
//! ```text
//! althing-key-v2
//! public <64 hexadecimal digits>
//! argon2id memory_kib=<8 for each lane to 1048576> passes=<1 to 16> lanes=<1 to 16>
//! salt <32 hexadecimal digits>
//! nonce <48 hexadecimal digits>
//! sealed <96 hexadecimal digits: the seed of RFC 8032, section 5.1.5, encrypted, and its tag>
//! ```
//!
//! The tag covers the seed and every byte before `sealed`. Each value has one way to be written, so that a file
//! with any other byte is refused. Salt and nonce are drawn anew whenever a key is sealed: no two files share a
//! key, and knowing one file is no head start for another.
//!
//! Source: RFC 9106 (Argon2id, version 1.3); draft-irtf-cfrg-xchacha-03, section 2; RFC 8439, section 2.8.

use super::{Passphrase, Secret, fill};
use crate::command::Exit;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::{AeadInOut as _, Key, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use ledger::PublicKey;
use std::str::SplitTerminator;
use zeroize::Zeroizing;

/// The first line of an encrypted key file.
pub(super) const VERSION_LINE: &str = "althing-key-v2";
/// 1 GiB, half of what RFC 9106 recommends first: a file must not make a start take all memory.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// The standard wants eight blocks of 1 KiB in each lane (RFC 9106, section 3.1).
const MEMORY_KIB_PER_LANE_MIN: u32 = 8;
/// With the most memory some half a minute of one core.
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// 128 bits, as RFC 9106, section 4, recommends.
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const SEED_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

const _: () = assert!(MEMORY_KIB_PER_LANE_MIN * LANES_MAX <= MEMORY_KIB_MAX);

/// What one try of a passphrase costs.
///
/// Source: RFC 9106, section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB: 8 for each lane, to 1 GiB.
    pub memory_kib: u32,
    /// How often it is gone through: 1 to 16.
    pub passes: u32,
    /// Parts that could be filled at once: 1 to 16.
    pub lanes: u32,
}

impl Cost {
    /// What new files have: 64 MiB, some tenths of a second of one core.
    ///
    /// Source: RFC 9106, section 4, the second recommended option.
    pub const DEFAULT: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };

    /// Whether it is within the bounds of the format.
    const fn is_allowed(self) -> bool {
        let Self { memory_kib, passes, lanes } = self;
        1 <= lanes
            && lanes <= LANES_MAX
            && 1 <= passes
            && passes <= PASSES_MAX
            && MEMORY_KIB_PER_LANE_MIN * lanes <= memory_kib
            && memory_kib <= MEMORY_KIB_MAX
    }
}

const _: () = assert!(Cost::DEFAULT.is_allowed());

/// Why an encrypted key does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The tag does not match: which of the two it is cannot be told, by design.
    #[error("the passphrase is wrong, or the file is damaged")]
    Closed,
    /// The machine does not give the memory that the file asks for, in KiB.
    #[error("there are no {0} KiB of memory to open it")]
    Memory(u32),
}

/// An encrypted key: all that its file holds, within the bounds of the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    public: PublicKey,
    cost: Cost,
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_BYTES],
    /// The seed, encrypted, then its tag.
    sealed: [u8; SEED_BYTES + TAG_BYTES],
}

impl Sealed {
    /// Encrypts a key under a passphrase.
    ///
    /// Errors: host unfit, when the machine gives no random numbers or no memory.
    /// Bounds: `cost` is within those of [`Cost`].
    pub fn seal(secret: &Secret, passphrase: &Passphrase, cost: Cost) -> Result<Self, Exit> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        fill(&mut salt)?;
        fill(&mut nonce)?;
        Self::seal_with(secret, passphrase, cost, salt, nonce)
            .map_err(|error| Exit::host_unfit(format!("the key cannot be encrypted: {error}")))
    }

    fn seal_with(
        secret: &Secret,
        passphrase: &Passphrase,
        cost: Cost,
        salt: [u8; SALT_BYTES],
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Self, Error> {
        assert!(cost.is_allowed(), "callers stay within the bounds of the format");
        let sealed = [0; SEED_BYTES + TAG_BYTES];
        let mut new = Self { public: secret.public(), cost, salt, nonce, sealed };
        let cipher = new.cipher(passphrase)?;
        // Encrypted in a buffer of its own: the seed never stands where the file's bytes do.
        let mut seed = secret.seed();
        let tag = cipher
            .encrypt_inout_detached(
                &XNonce::from(nonce),
                new.head().as_bytes(),
                (&mut seed[..]).into(),
            )
            .expect("a seed is shorter than what the cipher takes");
        new.sealed[..SEED_BYTES].copy_from_slice(&*seed);
        new.sealed[SEED_BYTES..].copy_from_slice(&tag);
        Ok(new)
    }

    /// Reads the text of an encrypted key file.
    ///
    /// Errors: a sentence without the file's name, when a line is not as it would be written, or the cost is out of
    /// bounds; nothing has been allocated for it then.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let wrong =
            "is damaged: not what `althing-key-v2` has in its six lines; restore it from a copy";
        let mut lines = text.split_terminator('\n');
        let mut line = |name| field(&mut lines, name).ok_or(wrong);
        line(VERSION_LINE)?;
        let public = line("public ")?.parse().map_err(|_| wrong)?;
        let cost = parse_cost(line("argon2id ")?).ok_or(wrong)?;
        if !cost.is_allowed() {
            return Err(
                "asks for memory_kib, passes or lanes out of bounds (1048576, 16, 16); restore it from a copy",
            );
        }
        let mut new = Self {
            public,
            cost,
            salt: [0; SALT_BYTES],
            nonce: [0; NONCE_BYTES],
            sealed: [0; SEED_BYTES + TAG_BYTES],
        };
        hex::decode_to_slice(line("salt ")?, &mut new.salt).map_err(|_| wrong)?;
        hex::decode_to_slice(line("nonce ")?, &mut new.nonce).map_err(|_| wrong)?;
        hex::decode_to_slice(line("sealed ")?, &mut new.sealed).map_err(|_| wrong)?;
        // One way to write each value: capital digits, leading zeros and lines at the end are none.
        if new.text() != text { Err(wrong) } else { Ok(new) }
    }

    /// Returns the text of the file.
    pub fn text(&self) -> String {
        format!("{}sealed {}\n", self.head(), hex::encode(self.sealed))
    }

    /// Everything before the sealed seed: what the tag covers beside it.
    fn head(&self) -> String {
        let Cost { memory_kib, passes, lanes } = self.cost;
        format!(
            "{VERSION_LINE}\npublic {}\nargon2id memory_kib={memory_kib} passes={passes} lanes={lanes}\n\
             salt {}\nnonce {}\n",
            self.public,
            hex::encode(self.salt),
            hex::encode(self.nonce)
        )
    }

    /// Returns the public key that the file names, which is proved when it is opened.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Returns what one try of a passphrase costs.
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Opens the key.
    ///
    /// Errors: closed, for a wrong passphrase and for a damaged file alike; memory.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Secret, Error> {
        let cipher = self.cipher(passphrase)?;
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        seed.copy_from_slice(&self.sealed[..SEED_BYTES]);
        let mut tag = Tag::default();
        tag.copy_from_slice(&self.sealed[SEED_BYTES..]);
        cipher
            .decrypt_inout_detached(
                &XNonce::from(self.nonce),
                self.head().as_bytes(),
                (&mut seed[..]).into(),
                &tag,
            )
            .map_err(|_| Error::Closed)?;
        let secret = Secret::from_seed(&seed);
        // Whoever sealed it with another name for it knew the passphrase; it is not the key that was asked for.
        if secret.public() != self.public { Err(Error::Closed) } else { Ok(secret) }
    }

    /// Makes the cipher of a passphrase: the costly step.
    fn cipher(&self, passphrase: &Passphrase) -> Result<XChaCha20Poly1305, Error> {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let params = Params::new(memory_kib, passes, lanes, Some(32))
            .expect("the bounds of the format are within those of the standard");
        // Memory of our own: the library would not wipe it, and what is left of it tells guesses from the passphrase.
        let mut memory: Zeroizing<Vec<Block>> = Zeroizing::new(Vec::new());
        memory.try_reserve_exact(params.block_count()).map_err(|_| Error::Memory(memory_kib))?;
        memory.resize(params.block_count(), Block::new());
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(
                passphrase.bytes(),
                &self.salt,
                &mut *key,
                memory.as_mut_slice(),
            )
            .expect("lengths of passphrase, salt, key and memory are within those of the standard");
        let key = Zeroizing::new(Key::from(*key));
        Ok(XChaCha20Poly1305::new(&key))
    }
}

/// Takes the next line and what follows its name.
fn field<'a>(lines: &mut SplitTerminator<'a, char>, name: &str) -> Option<&'a str> {
    lines.next()?.strip_prefix(name)
}

fn parse_cost(text: &str) -> Option<Cost> {
    let mut parts = text.split(' ');
    let mut number = |name| parts.next()?.strip_prefix(name)?.parse().ok();
    let memory_kib = number("memory_kib=")?;
    let passes = number("passes=")?;
    let lanes = number("lanes=")?;
    Some(Cost { memory_kib, passes, lanes })
}

#[cfg(test)]
mod tests;
