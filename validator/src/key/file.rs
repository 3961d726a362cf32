//! The key file: one key pair, plain or encrypted, readable by its owner alone and never replaced by accident.
//!
//! ```text
//! althing-key-v1
//! public <64 hexadecimal digits>
//! secret <64 hexadecimal digits: the seed of RFC 8032, section 5.1.5>
//! ```
//!
//! is plain; an encrypted one begins with `althing-key-v2` and is drawn in [`super::sealed`]. A file changes
//! from one to the other in four steps, so that a crash at any of them leaves a file that opens:
//!
//! ```text
//! write FILE.new, sync ─▶ read it back, open it ─▶ rename it to FILE ─▶ sync the folder
//! ```

use super::{Cost, Passphrase, Sealed, Secret, Source, sealed};
use crate::command::Exit;
use ledger::PublicKey;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The first line of a plain key file.
const VERSION_LINE: &str = "althing-key-v1";
/// An encrypted key file takes 340 bytes; anything much longer is not one.
const FILE_BYTES_MAX: u64 = 1_024;
/// Owner reads and writes, nobody else does anything.
const MODE: u32 = 0o600;

/// What a key file holds.
#[derive(Debug)]
pub enum KeyFile {
    /// A key as it is.
    Plain(Secret),
    /// A key that a passphrase opens.
    Sealed(Sealed),
}

impl KeyFile {
    /// Reads a key file; one that is encrypted stays closed.
    ///
    /// Errors: config, when the file is missing, not a plain file, owned by another user, open to
    /// group or others, or not a key.
    pub fn read(path: &Path) -> Result<Self, Exit> {
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
        // As much as may be read, so that it never grows and leaves a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(2_048));
        file.take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        Self::parse(&text).map_err(|why| refuse(why.to_string()))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        match text.lines().next() {
            Some(VERSION_LINE) => parse_plain(text).map(Self::Plain),
            Some(sealed::VERSION_LINE) => Sealed::parse(text).map(Self::Sealed),
            _ => Err("is not a key file (its first line is `althing-key-v1` or `althing-key-v2`)"),
        }
    }

    fn text(&self) -> Zeroizing<String> {
        match self {
            Self::Plain(secret) => {
                let seed = Zeroizing::new(hex::encode(secret.signing.as_bytes()));
                let public = secret.public();
                let seed = seed.as_str();
                Zeroizing::new(format!("{VERSION_LINE}\npublic {public}\nsecret {seed}\n"))
            }
            Self::Sealed(sealed) => Zeroizing::new(sealed.text()),
        }
    }

    /// Encrypts a key under a passphrase, at a cost for whoever tries passphrases.
    ///
    /// Errors: those of [`Sealed::seal`].
    pub fn seal(secret: &Secret, passphrase: &Passphrase, cost: Cost) -> Result<Self, Exit> {
        Sealed::seal(secret, passphrase, cost).map(Self::Sealed)
    }

    /// Returns the public key; what an encrypted file says of it is only proved when it is opened.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Plain(secret) => secret.public(),
            Self::Sealed(sealed) => sealed.public(),
        }
    }

    /// Returns the key, for which an encrypted file asks the source for its passphrase.
    ///
    /// Shape: `path` is where the file was read, for messages.
    /// Errors: config, when the passphrase is missing or wrong, or one is given for a plain key: whoever set
    /// it believes that the key is encrypted; host unfit, when there is no memory.
    pub fn open(self, path: &Path, source: &Source) -> Result<Secret, Exit> {
        match self {
            Self::Plain(secret) if *source == Source::Terminal => Ok(secret),
            Self::Plain(_) => Err(Exit::config(format!(
                "key {0}: is not encrypted, but a passphrase is given for it: run `validator key encrypt {0}`, \
                 or give none",
                path.display()
            ))),
            Self::Sealed(sealed) => open_sealed(&sealed, path, &source.read(path)?),
        }
    }

    /// Writes a new key file with mode 0600, whatever the umask; never replaces a file.
    ///
    /// Errors: config, when the file exists or cannot be written.
    pub fn create(&self, path: &Path) -> Result<(), Exit> {
        let hint = " (a key is never replaced: move it away first)";
        self.write(path).and_then(|()| sync_folder(path)).map_err(refusal(path, hint))
    }

    /// Puts this in the place of a file that holds the same key: the new file stands beside the old one, and has
    /// been opened with the passphrase, before it takes its name.
    ///
    /// Shape: `passphrase` is the one that opens this; none where this is plain.
    /// Errors: config, when a file cannot be written, or an earlier change was cut short; the old file is whole.
    pub fn replace(&self, path: &Path, passphrase: Option<&Passphrase>) -> Result<(), Exit> {
        let unfinished = beside(path);
        let hint = " (left by a change that was cut short; the key itself is whole: remove this file and try again)";
        self.write(&unfinished).map_err(refusal(&unfinished, hint))?;
        let finish = || {
            let written = match (Self::read(&unfinished)?, passphrase) {
                (Self::Plain(secret), None) => secret,
                (Self::Sealed(sealed), Some(passphrase)) => {
                    open_sealed(&sealed, &unfinished, passphrase)?
                }
                _ => return Err(Exit::config(format!("key {}: changed", unfinished.display()))),
            };
            assert!(written.public() == self.public(), "what was written is this key");
            std::fs::rename(&unfinished, path).map_err(refusal(path, ""))
        };
        finish().inspect_err(|_| {
            // The old file is whole: what was to take its place is only in the way of the next attempt.
            let _ = std::fs::remove_file(&unfinished);
        })?;
        sync_folder(path).map_err(refusal(path, ""))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()
    }
}

fn open_sealed(sealed: &Sealed, path: &Path, passphrase: &Passphrase) -> Result<Secret, Exit> {
    sealed.open(passphrase).map_err(|error| {
        let line = format!("key {}: {error}", path.display());
        match error {
            sealed::Error::Closed => Exit::config(line),
            sealed::Error::Memory(_) => Exit::host_unfit(line),
        }
    })
}

fn parse_plain(text: &str) -> Result<Secret, &'static str> {
    let mut lines = text.lines().skip(1);
    let public = lines.next().and_then(|line| line.strip_prefix("public "));
    let secret = lines.next().and_then(|line| line.strip_prefix("secret "));
    let (Some(public), Some(secret), None) = (public, secret, lines.next()) else {
        return Err("must have exactly the lines `public ..` and `secret ..` after its first");
    };
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(secret, &mut *seed)
        .map_err(|_| "its secret is not 64 hexadecimal digits")?;
    let key = Secret::from_seed(&seed);
    if public.parse() != Ok(key.public()) {
        return Err("its public key does not belong to its secret; restore it from a copy");
    }
    Ok(key)
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

/// Where the next content of a file stands until it is whole.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// A name is durable only once its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}

/// Says what went wrong with a file, and the hint where it exists already.
fn refusal<'a>(path: &'a Path, hint: &'a str) -> impl Fn(io::Error) -> Exit + 'a {
    move |error| {
        let hint = if error.kind() == io::ErrorKind::AlreadyExists { hint } else { "" };
        Exit::config(format!("key {}: {error}{hint}", path.display()))
    }
}

#[cfg(test)]
mod tests;
