//! Catching up before anything else runs: what recovery found becomes what the others have by now.

use super::{Exit, guard, recover, threads};
use crate::{
    catch_up::{self, Error, Numbers, Own, Source, Watch},
    config::{Config, Identity},
    handle::Stop,
    signer::Signer,
    votes::Judge,
};
use std::{sync::Arc, time::Duration};
use storage::Store;

/// How long others are listened to, at least, where something that this key signed may be forgotten.
const WATCH: Duration = Duration::from_secs(3);

/// What is needed for it.
pub(super) struct Setup<'a> {
    pub(super) config: &'a Config,
    pub(super) identity: &'a Identity,
    pub(super) signer: &'a Signer,
    pub(super) store: &'a Store,
    pub(super) stop: &'a Stop,
}

/// Brings what was recovered to within a few seconds of the other validators.
///
/// Errors: unsafe to sign, where somebody else has signed with this key; a check failed, where what is final does not
/// hold; those of the store.
pub(super) fn catch_up(
    setup: Setup<'_>,
    recovered: recover::State,
) -> Result<recover::State, Exit> {
    let Setup { config, identity, signer, store, stop } = setup;
    let others = config.peers.iter().filter(|peer| peer.key != signer.public());
    let source =
        |peer: &crate::config::Peer| Some(Source { key: peer.key, address: peer.history? });
    // One that is silent anyway has nothing to lose.
    let known = if signer.is_lost() { (u64::MAX, u64::MAX) } else { signer.known_round() };
    let floor = signer.floor_round();
    let alone = sigverify::Options { backend: config.sigverify.backend.clone(), threads: 1 };
    let verifier = sigverify::Verifier::new(&alone)
        .map_err(|error| Exit::config(format!("sigverify.backend: {error}")))?;
    let setup = catch_up::Setup {
        genesis: &identity.genesis,
        store,
        // Each worker checks what it fetched: they are as many as there are cores.
        judge: Arc::new(Judge::new(Arc::new(verifier))),
        sources: others.filter_map(source).collect(),
        own: Own {
            key: signer.public(),
            known,
            watch: signer.is_to_watch().then_some(Watch { time: WATCH, above: floor }),
        },
        stop,
    };
    let recover::State { execute, lanes, recent, round, loaded, changed } = recovered;
    let mut state = catch_up::State { execute, recent, round, changed: Numbers::default() };
    let caught_up = threads::apart(|| {
        threads::take_what_is_left();
        catch_up::run(&setup, &mut state)
    });
    let caught_up = caught_up.map_err(|error| match error {
        Error::Broken { .. } => Exit::check_failed(format!("catching up: {error}")),
        Error::Storage(error) => threads::store_error(error),
        Error::Used { .. } => Exit::unsafe_to_sign(error.to_string()),
    })?;
    let catch_up::State { execute, recent, round, changed: moved } = state;
    let before = recover::State { execute, lanes, recent, round, loaded, changed };
    match (signer.is_to_watch(), caught_up.is_watched) {
        (false, _) => {}
        (true, true) => signer.watched(),
        (true, false) => {
            tracing::warn!(
                "nobody could be asked whether another process signs with this key: this validator follows without \
                 a vote; start it again when the history ports of others answer"
            );
            signer.stay_silent();
        }
    }
    signer.keep_quiet(caught_up.is_behind);
    if caught_up.heights == 0 {
        return Ok(before);
    }
    // A ledger that is lost from now on is missed.
    guard::begin(&config.data)
        .map_err(|error| Exit::host_unfit(format!("{}: {error}", config.data.display())))?;
    before.moved(&moved, store, &identity.genesis.digest()).map_err(threads::corrupt)
}
