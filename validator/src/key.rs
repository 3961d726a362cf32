//! The key file: one Ed25519 key pair, readable by its owner alone.

use crate::command::Exit;
use ed25519_dalek::{Signer, SigningKey};
use ledger::{PublicKey, Signature};
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The first line of a key file.
const VERSION_LINE: &str = "althing-key-v1";
/// A key file has three short lines; anything longer is not one.
const FILE_BYTES_MAX: u64 = 1_024;
/// Owner reads and writes, nobody else does anything.
const MODE: u32 = 0o600;

/// A secret key, wiped from memory when it is dropped.
///
/// The file that holds it:
///
/// ```text
/// althing-key-v1
/// public <64 hexadecimal digits>
/// secret <64 hexadecimal digits: the seed of RFC 8032, section 5.1.5>
/// ```
pub struct Secret {
    signing: SigningKey,
}

impl Secret {
    /// Makes a new key from the operating system's randomness.
    ///
    /// Errors: host unfit, when the system gives none.
    pub fn generate() -> Result<Self, Exit> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)
            .map_err(|error| Exit::host_unfit(format!("no random numbers: {error}")))?;
        Ok(Self::from_seed(&seed))
    }

    /// Makes the key of a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(seed) }
    }

    /// Reads a key file.
    ///
    /// Errors: config, when the file is missing, not a plain file, owned by another user, open to
    /// group or others, or not a key.
    pub fn load(path: &Path) -> Result<Self, Exit> {
        let refuse = |why: String| Exit::config(format!("key {}: {why}", path.display()));
        // Opened without following a link and judged through the open file, so that what is judged
        // is what is read; not blocking, so that a pipe in its place cannot hold the start.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(|error| refuse(format!("cannot be opened: {error}")))?;
        check_owner(&file, path).map_err(refuse)?;
        let mut text = Zeroizing::new(String::with_capacity(512));
        file.take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        Self::parse(&text).map_err(|why| refuse(why.to_string()))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut lines = text.lines();
        if lines.next() != Some(VERSION_LINE) {
            return Err("is not a key file of this version (first line `althing-key-v1`)");
        }
        let public = lines.next().and_then(|line| line.strip_prefix("public "));
        let secret = lines.next().and_then(|line| line.strip_prefix("secret "));
        let (Some(public), Some(secret), None) = (public, secret, lines.next()) else {
            return Err("must have exactly the lines `public ..` and `secret ..` after its first");
        };
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(secret, &mut *seed)
            .map_err(|_| "its secret is not 64 hexadecimal digits")?;
        let key = Self::from_seed(&seed);
        if public.parse() != Ok(key.public()) {
            return Err("its public key does not belong to its secret; restore it from a copy");
        }
        Ok(key)
    }

    /// Writes a new key file with mode 0600, whatever the umask; never replaces a file.
    ///
    /// Errors: config, when the file exists or cannot be written.
    pub fn create(&self, path: &Path) -> Result<(), Exit> {
        let refuse = |error: std::io::Error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    " (a key is never replaced: move it away first)"
                }
                _ => "",
            };
            Exit::config(format!("key {}: {error}{hint}", path.display()))
        };
        let secret = Zeroizing::new(hex::encode(self.signing.as_bytes()));
        let text = Zeroizing::new(format!(
            "{VERSION_LINE}\npublic {}\nsecret {}\n",
            self.public(),
            *secret
        ));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(path)
            .map_err(refuse)?;
        file.set_permissions(Permissions::from_mode(MODE)).map_err(refuse)?;
        file.write_all(text.as_bytes()).map_err(refuse)?;
        file.sync_all().map_err(refuse)?;
        // The name is durable only once its folder is.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(refuse)
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

/// Refuses a key that someone else could have read or written.
fn check_owner(file: &File, path: &Path) -> Result<(), String> {
    let facts = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !facts.is_file() {
        return Err("is not a plain file".into());
    }
    let user = rustix::process::geteuid().as_raw();
    if facts.uid() != user {
        return Err(format!(
            "belongs to user {}, not to {user} who runs this; run as its owner",
            facts.uid()
        ));
    }
    if facts.mode() & 0o077 != 0 {
        return Err(format!(
            "is open to others (mode {:04o}); run: chmod 600 {}",
            facts.mode() & 0o7777,
            path.display()
        ));
    }
    if facts.len() > FILE_BYTES_MAX {
        return Err("is too long for a key file".into());
    }
    Ok(())
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secret({})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Code;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn refusal(path: &Path) -> String {
        let exit = Secret::load(path).unwrap_err();
        assert_eq!(exit.code(), Code::Config);
        assert!(exit.message().contains(&path.display().to_string()), "{exit}");
        exit.message().to_string()
    }

    #[test]
    fn a_key_comes_back_from_its_file_and_signs_alike() {
        let folder = folder();
        let path = folder.path().join("a.key");
        let key = Secret::generate().unwrap();
        key.create(&path).unwrap();
        let loaded = Secret::load(&path).unwrap();
        assert_eq!(loaded.public(), key.public());
        assert_eq!(loaded.sign(b"m"), key.sign(b"m"));
        assert_eq!(*loaded.seed(), *key.seed());
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

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
    fn an_existing_file_is_never_replaced() {
        let folder = folder();
        let path = folder.path().join("a.key");
        std::fs::write(&path, "precious").unwrap();
        let exit = Secret::generate().unwrap().create(&path).unwrap_err();
        assert_eq!(exit.code(), Code::Config);
        assert!(exit.message().contains("never replaced"), "{exit}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_file_open_to_others_is_refused_with_the_remedy() {
        let folder = folder();
        let path = folder.path().join("a.key");
        Secret::generate().unwrap().create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let why = refusal(&path);
            assert!(why.contains(&format!("{mode:04o}")) && why.contains("chmod 600"), "{why}");
        }
    }

    #[test]
    fn links_folders_and_absent_files_are_refused() {
        let folder = folder();
        let path = folder.path().join("a.key");
        Secret::generate().unwrap().create(&path).unwrap();
        let link = folder.path().join("link.key");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refusal(&link).contains("cannot be opened"));
        assert!(refusal(folder.path()).contains("is not a plain file"));
        assert!(refusal(&folder.path().join("none")).contains("cannot be opened"));
    }

    #[test]
    fn another_owner_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give a file away");
            return;
        }
        let folder = folder();
        let path = folder.path().join("a.key");
        Secret::generate().unwrap().create(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(1), None).unwrap();
        assert!(refusal(&path).contains("belongs to user 1"));
    }

    #[test]
    fn every_broken_file_is_refused_and_never_shown() {
        let key = Secret::from_seed(&[7; 32]);
        let (public, secret) = (key.public(), hex::encode([7; 32]));
        let wrong = [
            String::new(),
            format!("althing-key-v2\npublic {public}\nsecret {secret}\n"),
            format!("althing-key-v1\npublic {public}\n"),
            format!("althing-key-v1\nsecret {secret}\npublic {public}\n"),
            format!("althing-key-v1\npublic {public}\nsecret {secret}\nmore\n"),
            format!("althing-key-v1\npublic {public}\nsecret {}\n", &secret[1..]),
            format!("althing-key-v1\npublic {public}\nsecret {}\n", hex::encode([8; 32])),
        ];
        let folder = folder();
        for (place, text) in wrong.iter().enumerate() {
            let path = folder.path().join(format!("{place}.key"));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert!(!refusal(&path).contains(&secret[1..]), "{place}");
        }
        let path = folder.path().join("long.key");
        std::fs::write(&path, "x".repeat(2_000)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(refusal(&path).contains("too long"));
        assert!(!format!("{key:?}").contains(&secret));
    }
}
