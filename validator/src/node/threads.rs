//! What a node needs of its machine: sockets, threads, signals, capabilities, and how it ends badly.

use super::cores;
use crate::{
    command::Exit,
    config::{Config, StorageBackend},
    cost::Meter,
    handle::{Budget, Hold, Stop},
    lane::Finalized,
    metrics::Metrics,
    network::lanes,
    stage::FromPeer,
};
use crossbeam::channel::{Sender, TrySendError};
use ledger::PublicKey;
use sigverify::Verifier;
use std::{
    fmt::Display,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Ends the process because the machine failed it: the one tested way back is recovery.
pub fn fatal(error: &dyn Display) -> ! {
    end(error, crate::command::Code::HostUnfit)
}

/// Ends the process because what it signed cannot be read: it must not sign without knowing.
pub(super) fn damaged(error: &dyn Display) -> ! {
    end(&format!("the engine's votes: {error}"), crate::command::Code::DataCorrupt)
}

/// Ends the process with an exit code of the documented ones.
pub(crate) fn end(error: &dyn Display, code: crate::command::Code) -> ! {
    tracing::error!(%error, "the validator cannot go on");
    eprintln!("validator: cannot go on: {error}");
    std::process::exit(code as i32)
}

/// Threads by name, waited for at the end.
#[derive(Default)]
pub(super) struct Threads(Vec<(&'static str, JoinHandle<()>)>);

impl Threads {
    /// Starts a thread that has much to do and may wait a little: where cores are short, those that
    /// move votes and batches on come first.
    pub(super) fn start_bulk(&mut self, name: &'static str, run: impl FnOnce() + Send + 'static) {
        self.start(name, move || {
            give_way();
            run();
        });
    }

    /// Starts a thread.
    pub(super) fn start(&mut self, name: &'static str, run: impl FnOnce() + Send + 'static) {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        match thread {
            Ok(thread) => self.0.push((name, thread)),
            Err(error) => fatal(&format!("cannot start thread {name}: {error}")),
        }
    }

    /// Waits for all of them, but not longer than `limit` in all.
    pub(super) fn join(self, limit: Duration) {
        let end = Instant::now() + limit;
        for (name, thread) in self.0 {
            while !thread.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                tracing::warn!(thread = name, "left behind");
            }
        }
    }
}

/// Makes the signature verifier that the configuration asks for.
///
/// Errors: config, where a backend is named that does not exist; host unfit, where this machine
/// cannot run it.
pub(super) fn verifier(config: &Config) -> Result<Arc<Verifier>, Exit> {
    let options = sigverify::Options {
        backend: config.sigverify.backend.clone(),
        threads: config.sigverify.threads,
    };
    let made = apart(|| {
        cores::pin(&config.cores.verify);
        give_way();
        Verifier::new(&options)
    });
    let verifier = made.map_err(|error| Exit::config(format!("sigverify.backend: {error}")))?;
    Ok(Arc::new(verifier))
}

/// Keeps a build that checks no client's signature out of every network but those of a machine's own tests.
///
/// Errors: unsafe to sign.
pub(super) fn refuse_unverified(network: &str, config: &Config) -> Result<(), Exit> {
    let is_here = config.peers.iter().all(|peer| peer.consensus.ip().is_loopback());
    if cfg!(feature = "unverified") && !(is_here && TEST_NETWORKS.contains(&network)) {
        return Err(Exit::unsafe_to_sign(format!(
            "this build checks no signatures of clients and is for measurements: it does not take part in {network:?}"
        )));
    }
    if cfg!(feature = "unverified") {
        tracing::warn!("this build checks no signatures of clients: for measurements only");
    }
    Ok(())
}

/// Networks that `testnet` and `pipeline` make.
const TEST_NETWORKS: [&str; 2] = ["testnet", "pipeline"];

/// Makes something on a thread that ends here: as nice as that thread, and on the same CPUs, are
/// those that it starts.
pub(super) fn apart<T: Send>(make: impl FnOnce() -> T + Send) -> T {
    let made = std::thread::scope(|scope| scope.spawn(make).join());
    made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// How much a thread with bulk work gives way: a third of the weight of others.
const BULK_NICENESS: i32 = 5;

/// How much a thread gives way that nobody waits for: it takes what is left over.
const LEFT_OVER_NICENESS: i32 = 19;

/// Lets others come before the calling thread.
pub(crate) fn give_way() {
    // Where it may not, it is as important as the others.
    let _ = rustix::process::setpriority_process(None, BULK_NICENESS);
}

/// Has the calling thread take what is left over, also by other processes of this machine.
pub(crate) fn take_what_is_left() {
    let _ = rustix::process::setpriority_process(None, LEFT_OVER_NICENESS);
}

impl From<StorageBackend> for storage::Backend {
    fn from(backend: StorageBackend) -> Self {
        match backend {
            StorageBackend::Auto => Self::Auto,
            StorageBackend::IoUring => Self::IoUring,
            StorageBackend::Portable => Self::Portable,
        }
    }
}

/// A store that cannot be opened, as one line and an exit code.
pub(super) fn store_error(error: storage::Error) -> Exit {
    use storage::Error;
    let line = format!("ledger: {error}");
    match error {
        Error::Corrupt { .. } | Error::TornTail { .. } | Error::Anchor => Exit::data_corrupt(line),
        Error::OtherNetwork { .. } | Error::Options { .. } => Exit::config(line),
        _ => Exit::host_unfit(line),
    }
}

/// A store that does not replay, as one line and an exit code.
pub(super) fn corrupt(error: super::recover::Error) -> Exit {
    match error {
        super::recover::Error::Storage(error) => store_error(error),
        super::recover::Error::Record { .. } => Exit::data_corrupt(format!("ledger: {error}")),
    }
}

/// Gives up every capability but one for good, for this thread and those that it starts; a process
/// without any is not touched.
///
/// Errors: host unfit, where the kernel does not let go of them.
pub(super) fn drop_capabilities() -> Result<(), Exit> {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let unfit = |error| Exit::host_unfit(format!("cannot drop capabilities: {error}"));
    let held = capabilities(None).map_err(unfit)?;
    if held.effective.is_empty() && held.permitted.is_empty() {
        return Ok(());
    }
    // Root keeps the right to its own files only: what it must read belongs to it or to others
    // who let it. DAC_OVERRIDE stays for those who start it with sudo in a user's folder.
    let keep = held.effective.intersection(CapabilitySet::DAC_OVERRIDE);
    let sets =
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(unfit)?;
    // Nor does any program that this process should ever start get them back.
    rustix::thread::set_no_new_privs(true).map_err(unfit)?;
    tracing::info!("capabilities dropped");
    Ok(())
}

/// Turns SIGTERM and SIGINT into a stop.
///
/// Errors: host unfit, where handlers cannot be set.
pub(super) fn watch_signals(stop: &Stop) -> Result<(), Exit> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Exit::host_unfit(format!("cannot handle signals: {error}")))?;
    // The thread ends with the process. More signals change nothing: a stop is bounded in time.
    let on_signal = stop.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            on_signal.stop();
        }
    });
    Ok(())
}

/// Puts what peers send into the lane stage's queue, or drops and counts it.
#[derive(Clone)]
pub(super) struct Incoming {
    /// `peers_lane`.
    pub(super) queue: Sender<FromPeer>,
    /// Bytes that may wait there.
    pub(super) budget: Arc<Budget>,
    /// Counters of the process.
    pub(super) metrics: Arc<Metrics>,
}

impl Incoming {
    fn put(&self, bytes: Vec<u8>, wrap: impl FnOnce(Vec<u8>, Hold) -> FromPeer) {
        let sent = match Hold::take(&self.budget, bytes.len()) {
            Some(hold) => self.queue.try_send(wrap(bytes, hold)).is_ok(),
            None => false,
        };
        if !sent {
            self.metrics.count_dropped("lane", "peers_full");
        }
    }
}

impl lanes::Incoming for Incoming {
    fn meter(&self) -> Meter {
        Meter::ON
    }

    fn batch(&self, from: PublicKey, bytes: Vec<u8>) {
        self.put(bytes, |bytes, hold| FromPeer::Batch(from, bytes, hold));
    }

    fn control(&self, from: PublicKey, bytes: Vec<u8>) {
        self.put(bytes, |bytes, hold| FromPeer::Control(from, bytes, hold));
    }
}

/// Hands finalized blocks to the lane stage.
pub(super) fn hand_over(queue: Sender<Finalized>) -> impl FnMut(Finalized) + Send + 'static {
    move |finalized| match queue.try_send(finalized) {
        Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        Err(TrySendError::Full(_)) => {
            unreachable!("the engine waits for acknowledgements before the queue fills")
        }
    }
}
