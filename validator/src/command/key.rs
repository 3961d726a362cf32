//! `key`: what a key file is, and its passphrase: set, changed, taken away.

use super::Exit;
use super::terminal::{bytes, say};
use crate::key::{Cost, KeyFile, Source};
use clap::Subcommand;
use clap::builder::RangedI64ValueParser;
use std::path::{Path, PathBuf};

/// The arguments of `key`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the public key, and whether the file is encrypted; no passphrase is needed
    Show {
        /// The key file
        file: PathBuf,
    },
    /// Encrypt a plain key file under a passphrase
    Encrypt {
        /// The key file
        file: PathBuf,
        /// Read the passphrase from this open file descriptor; the terminal is asked without it
        #[arg(long, value_name = "N", value_parser = descriptor())]
        passphrase_fd: Option<i32>,
    },
    /// Make an encrypted key file a plain one
    Decrypt {
        /// The key file
        file: PathBuf,
        /// Read the passphrase from this open file descriptor; the terminal is asked without it
        #[arg(long, value_name = "N", value_parser = descriptor())]
        passphrase_fd: Option<i32>,
    },
    /// Change the passphrase of an encrypted key file; an old copy of it still opens with the old one
    Passphrase {
        /// The key file
        file: PathBuf,
        /// Read the passphrase as it is from this open file descriptor; the terminal is asked without it
        #[arg(long, value_name = "N", value_parser = descriptor())]
        passphrase_fd: Option<i32>,
        /// Read the new one from this, another, open file descriptor; the terminal is asked without it
        #[arg(long, value_name = "N", value_parser = descriptor())]
        new_passphrase_fd: Option<i32>,
    },
}

/// Reads the number of an open file descriptor from the command line.
pub(super) fn descriptor() -> RangedI64ValueParser<i32> {
    clap::value_parser!(i32).range(0..)
}

/// Runs the command.
///
/// Errors: usage and config, with what is wrong; the file is then as it was.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    match &arguments.command {
        Command::Show { file } => show(file),
        Command::Encrypt { file, passphrase_fd } => {
            encrypt(file, &Source::of_flag(*passphrase_fd), Cost::DEFAULT)
        }
        Command::Decrypt { file, passphrase_fd } => decrypt(file, &Source::of_flag(*passphrase_fd)),
        Command::Passphrase { file, passphrase_fd, new_passphrase_fd } => {
            if passphrase_fd.is_some() && passphrase_fd == new_passphrase_fd {
                return Err(Exit::usage(
                    "--passphrase-fd and --new-passphrase-fd are one descriptor, which is read only once",
                ));
            }
            let (old, new) = (Source::of_flag(*passphrase_fd), Source::of_flag(*new_passphrase_fd));
            change(file, &old, &new, Cost::DEFAULT)
        }
    }
}

fn show(file: &Path) -> Result<(), Exit> {
    let key = KeyFile::read(file)?;
    let public = key.public();
    let how = match &key {
        KeyFile::Plain(_) => "no: whoever reads the file has the key".to_string(),
        KeyFile::Sealed(sealed) => {
            let Cost { memory_kib, passes, lanes } = sealed.cost();
            let memory = bytes(u64::from(memory_kib) << 10);
            format!("yes: argon2id, {memory}, {passes} passes, {lanes} lanes")
        }
    };
    say(&format!("public key  {public}\nencrypted   {how}\n"));
    Ok(())
}

fn encrypt(file: &Path, source: &Source, cost: Cost) -> Result<(), Exit> {
    let KeyFile::Plain(secret) = KeyFile::read(file)? else {
        return Err(refuse(
            file,
            "is encrypted already: `validator key passphrase` changes its passphrase",
        ));
    };
    let passphrase = source.choose(file)?;
    KeyFile::seal(&secret, &passphrase, cost)?.replace(file, Some(&passphrase))?;
    say(&format!(
        "encrypted: {}\nwhat the disk and copies had of the plain file may still be read from them\n",
        file.display()
    ));
    Ok(())
}

fn decrypt(file: &Path, source: &Source) -> Result<(), Exit> {
    let secret = sealed(file)?.open(file, source)?;
    KeyFile::Plain(secret).replace(file, None)?;
    say(&format!("no longer encrypted: {}\n", file.display()));
    Ok(())
}

fn change(file: &Path, old: &Source, new: &Source, cost: Cost) -> Result<(), Exit> {
    let secret = sealed(file)?.open(file, old)?;
    let passphrase = new.choose(file)?;
    KeyFile::seal(&secret, &passphrase, cost)?.replace(file, Some(&passphrase))?;
    say(&format!("changed: {}\n", file.display()));
    Ok(())
}

/// Reads a key file that must be encrypted.
fn sealed(file: &Path) -> Result<KeyFile, Exit> {
    match KeyFile::read(file)? {
        KeyFile::Plain(_) => Err(refuse(file, "is not encrypted")),
        sealed @ KeyFile::Sealed(_) => Ok(sealed),
    }
}

fn refuse(file: &Path, why: &str) -> Exit {
    Exit::config(format!("key {}: {why}", file.display()))
}

#[cfg(test)]
mod tests;
