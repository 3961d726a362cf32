//! Asks for a passphrase at the terminal, which shows nothing of it.

use super::Passphrase;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use zeroize::Zeroizing;

/// The longest line that a terminal hands over at once (`N_TTY_BUF_SIZE` of the kernel).
const LINE_BYTES_MAX: usize = 4_096;

/// Whether there is somebody to ask: both ends of the conversation are a terminal.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for the passphrase of a key; for a new one twice.
///
/// Errors: a sentence without the key's name.
pub(super) fn ask(key: &Path, is_new: bool) -> Result<Passphrase, String> {
    let terminal = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let terminal = terminal.map_err(|error| error.to_string())?;
    ask_on(&terminal, &mut io::stderr(), key, is_new)
}

fn ask_on(
    terminal: &File,
    screen: &mut dyn Write,
    key: &Path,
    is_new: bool,
) -> Result<Passphrase, String> {
    let new = if is_new { "new " } else { "" };
    let key = key.display();
    let passphrase = line(terminal, screen, &format!("{new}passphrase of key {key}: "))?;
    if is_new && line(terminal, screen, "the same again: ")? != passphrase {
        return Err("the two passphrases differ".to_string());
    }
    Ok(passphrase)
}

/// Asks for one line.
fn line(terminal: &File, screen: &mut dyn Write, question: &str) -> Result<Passphrase, String> {
    let failed = |error: io::Error| format!("the terminal cannot be asked: {error}");
    let quiet = Quiet::new(terminal.as_fd()).map_err(failed)?;
    screen.write_all(question.as_bytes()).and_then(|()| screen.flush()).map_err(failed)?;
    let mut bytes = Zeroizing::new(vec![0; LINE_BYTES_MAX]);
    // One read is one line, which the terminal has edited.
    let length = (&*terminal).read(&mut bytes).map_err(failed)?;
    bytes.truncate(length);
    if bytes.last() != Some(&b'\n') {
        // Cancelled, or the end of input: the cursor still stands behind the question.
        let _ = screen.write_all(b"\n");
        return Err("no passphrase was typed".to_string());
    }
    drop(quiet);
    let passphrase = Passphrase::new(bytes).map_err(|why| format!("the passphrase {why}"))?;
    // Typed by mistake, and never seen again.
    if passphrase.bytes().iter().any(u8::is_ascii_control) {
        return Err("the passphrase has a control character".to_string());
    }
    Ok(passphrase)
}

/// A terminal that shows nothing but the end of a line; as before when this is dropped.
struct Quiet<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        // No signals: one would end the process and leave the terminal silent. What sends the
        // interrupt ends the line instead.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        quiet.local_modes |= LocalModes::ICANON | LocalModes::ECHONL;
        let interrupt = before.special_codes[SpecialCodeIndex::VINTR];
        quiet.special_codes[SpecialCodeIndex::VEOL] = interrupt;
        // What was typed before was shown: it is thrown away.
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests;
