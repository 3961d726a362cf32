//! The passphrase of an encrypted key and where it comes from: never an argument, never a variable's value.
//!
//! Arguments and environment of a process are shown to others and inherited by its children, so they only ever
//! name a place: an open file descriptor, a credential of the service manager, or nothing, which is a terminal.

use super::prompt;
use crate::command::Exit;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Longest passphrase, in bytes: more than any that is typed, and a file given by mistake is noticed.
pub const PASSPHRASE_BYTES_MAX: usize = 1_024;
/// Where systemd tells a service's credentials from.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Longest name of a credential, in bytes: that of a file.
const CREDENTIAL_NAME_BYTES_MAX: usize = 255;

/// What to do where an encrypted key is opened and nobody can be asked.
const NOBODY_OPENS: &str = "is encrypted, and there is no terminal to ask for its passphrase: give it by \
     --passphrase-fd N, or by key_passphrase in the config file (\"fd:N\" or \"credential:NAME\")";
/// What to do where a passphrase is chosen and nobody can be asked.
const NOBODY_CHOOSES: &str = "there is no terminal to ask for its new passphrase: give it by --passphrase-fd N, or by \
     --new-passphrase-fd N where the key has one already";

/// A passphrase: 1 to 1,024 bytes, wiped from memory when it is dropped.
#[derive(PartialEq, Eq)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes what was read: one newline at the end does not belong to it.
    ///
    /// Errors: a sentence, when it is empty or too long.
    pub fn new(mut bytes: Zeroizing<Vec<u8>>) -> Result<Self, &'static str> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        match bytes.len() {
            0 => Err("is empty"),
            1..=PASSPHRASE_BYTES_MAX => Ok(Self(bytes)),
            _ => Err("is longer than 1024 bytes"),
        }
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads to the end of a file, and no further than a passphrase may be long.
    fn read(mut from: impl Read) -> io::Result<Result<Self, &'static str>> {
        // Room for a newline and one byte too many; never grows, and so leaves no copy behind.
        let mut bytes = Zeroizing::new(vec![0; PASSPHRASE_BYTES_MAX + 2]);
        let mut length = 0;
        while length < bytes.len() {
            match from.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(length);
        Ok(Self::new(bytes))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passphrase(..)")
    }
}

/// Where the passphrase of an encrypted key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// It is asked for at the terminal; without one there is none.
    #[default]
    Terminal,
    /// An open file descriptor, read to its end: `fd:3`.
    Descriptor(RawFd),
    /// A credential that systemd gives to the service, by name: `credential:NAME`.
    Credential(String),
}

impl Source {
    /// Reads what the config file says: `fd:N`, `credential:NAME`, or nothing for a terminal.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Terminal);
        }
        if let Some(number) = text.strip_prefix("fd:") {
            let is_written_once = number == "0" || !number.starts_with(['0', '+', '-']);
            let number = number.parse().ok().filter(|_| is_written_once)?;
            return Some(Self::Descriptor(number));
        }
        let name = text.strip_prefix("credential:")?;
        // What systemd takes for a name; no way out of its folder.
        let is_name = (1..=CREDENTIAL_NAME_BYTES_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'/' && byte != b':')
            && name != "."
            && name != "..";
        is_name.then(|| Self::Credential(name.to_string()))
    }

    /// Returns the source that a flag names: that descriptor, or a terminal.
    pub fn of_flag(descriptor: Option<RawFd>) -> Self {
        descriptor.map_or(Self::Terminal, Self::Descriptor)
    }

    /// Reads the passphrase that opens a key.
    ///
    /// Errors: config, when there is none, with what to do.
    pub fn read(&self, key: &Path) -> Result<Passphrase, Exit> {
        self.take(key, false)
    }

    /// Reads the passphrase that a key shall have from now on; a terminal asks twice.
    ///
    /// Errors: config, when there is none, with what to do.
    pub fn choose(&self, key: &Path) -> Result<Passphrase, Exit> {
        self.take(key, true)
    }

    fn take(&self, key: &Path, is_new: bool) -> Result<Passphrase, Exit> {
        let refuse = |why: String| Exit::config(format!("key {}: {why}", key.display()));
        let read = match self {
            Self::Terminal if !prompt::is_possible() => {
                let why = if is_new { NOBODY_CHOOSES } else { NOBODY_OPENS };
                return Err(refuse(why.to_string()));
            }
            Self::Terminal => return prompt::ask(key, is_new).map_err(refuse),
            Self::Descriptor(number) => inherited(*number).and_then(Passphrase::read),
            Self::Credential(name) => {
                let folder = std::env::var_os(CREDENTIALS);
                credential(folder.as_deref().map(Path::new), name).and_then(Passphrase::read)
            }
        };
        let place = match self {
            Self::Descriptor(number) => format!("file descriptor {number}"),
            Self::Credential(name) => format!("credential {name}"),
            Self::Terminal => unreachable!("a terminal was asked above"),
        };
        read.map_err(|error| {
            refuse(format!("its passphrase cannot be read from {place}: {error}"))
        })?
        .map_err(|why| refuse(format!("its passphrase, from {place}, {why}")))
    }
}

/// Returns a copy of a descriptor that this process was started with.
///
/// Not by the number itself, which nothing proves to be ours to close; and the name in `/proc` only where the
/// copy is forbidden, as in some containers: a file that another user has opened for us does not open again.
fn inherited(number: RawFd) -> io::Result<File> {
    let file = match copy(number) {
        Ok(copy) => File::from(copy),
        Err(Errno::BADF) => return Err(Errno::BADF.into()),
        Err(_) => File::open(format!("/proc/self/fd/{number}"))?,
    };
    if file.is_terminal() {
        return Err(io::Error::other("it is a terminal, which would show what is typed"));
    }
    Ok(file)
}

fn copy(number: RawFd) -> Result<OwnedFd, Errno> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    // A new descriptor takes the lowest free number: what was asked for was not open before.
    if this.as_raw_fd() == number {
        return Err(Errno::BADF);
    }
    pidfd_getfd(&this, number, PidfdGetfdFlags::empty())
}

/// Opens a credential of the service.
///
/// Source: systemd.exec(5), "Credentials".
fn credential(folder: Option<&Path>, name: &str) -> io::Result<File> {
    let folder = folder.ok_or_else(|| {
        io::Error::other(format!(
            "${CREDENTIALS} is not set: systemd sets it for a unit with LoadCredential= or LoadCredentialEncrypted="
        ))
    })?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(folder.join(name))?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
