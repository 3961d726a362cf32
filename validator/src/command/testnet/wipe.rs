//! A validator that loses everything but its key and guard.

use super::liar;
use crate::client::{Api, Url};
use crate::command::Exit;
use crate::command::network::{Member, Network};
use crate::config::{Config, read_text};
use std::time::Duration;

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Bytes of a config file at most.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Takes a validator's ledger and journal away; where there is to be a liar, it then asks that one in place of the
/// first validator.
///
/// Errors: host unfit, where files cannot be removed or written.
pub(super) fn wipe(network: &Network, validator: usize, has_liar: bool) -> Result<(), Exit> {
    let data = network.data(validator);
    let failed = |error: std::io::Error| Exit::host_unfit(format!("{}: {error}", data.display()));
    std::fs::remove_dir_all(&data).map_err(failed)?;
    if !has_liar {
        return Ok(());
    }
    let file = network.config(validator);
    let config = Config::load_with(&file, &|_| None, &[])?.config;
    let first = config.peers.iter().find(|peer| peer.key == network.validators[0].key);
    let honest = first.and_then(|peer| peer.history).expect("a testnet names all ports");
    let lies = liar::start(honest).map_err(failed)?;
    let text = read_text(&file, CONFIG_BYTES_MAX).map_err(Exit::config)?;
    let line = |address| format!("history = \"{address}\"");
    // Its own socket is another one.
    std::fs::write(&file, text.replace(&line(honest), &line(lies))).map_err(failed)
}

/// What is wrong where others do not hear the votes of a validator.
pub(super) fn unheard(network: &Network, validator: usize) -> Option<String> {
    let hears = |member: &Member| {
        let status = Api::new(Url::from(member.http), ANSWER).status().ok()?;
        let peer = status.peers.iter().find(|peer| peer.index as usize == validator)?;
        Some(peer.connected)
    };
    let others = network.validators.iter().enumerate().filter(|(index, _)| *index != validator);
    let deaf = others.filter(|(_, member)| hears(member) != Some(true)).count();
    (deaf > 0).then(|| format!("{deaf} validators hear no votes of validator {validator}"))
}
