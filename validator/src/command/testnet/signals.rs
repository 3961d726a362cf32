//! Ctrl-C and SIGTERM: the first asks to stop, the second stops at once.

use crate::command::Exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::thread;

/// What a shell reports for a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Calls `stop` at the first signal; ends the process at the second.
///
/// Errors: host unfit, when the system gives no thread or no handler.
pub fn on_stop(stop: impl FnOnce() + Send + 'static) -> Result<(), Exit> {
    let unfit = |error: std::io::Error| Exit::host_unfit(format!("cannot catch signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(unfit)?;
    let wait = move || {
        let mut stop = Some(stop);
        for _ in signals.forever() {
            match stop.take() {
                Some(stop) => stop(),
                None => signal_hook::low_level::exit(INTERRUPTED),
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map_err(unfit)?;
    Ok(())
}
