//! Load from a thread of its own, what it was told is final, and a look into ledgers for it.

use crate::cluster::{Cluster, SEED};
use ledger::{Digest, Outcome};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use validator::{
    client::{
        load::{self, Acknowledged, Control, Options, Report, Transport},
        workload::Workload,
    },
    command::{
        ledger::store::{Ledger, Location},
        network::Member,
    },
};

/// What a load offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Transactions a second.
    pub rate: u64,
    /// Bytes of a record, header and signature counted.
    pub size: usize,
    /// Time for the last answers.
    pub drain: Duration,
}

/// A load that runs.
pub struct Load {
    control: Arc<Control>,
    told: Arc<Mutex<Vec<Acknowledged>>>,
    thread: Option<JoinHandle<Report>>,
}

impl Load {
    /// Offers records and some transfers to all validators over connections until it is stopped.
    pub fn start(cluster: &Cluster, offer: Offer) -> Self {
        Self::start_over(Transport::Tcp, cluster, offer)
    }

    /// Offers them this way.
    pub fn start_over(transport: Transport, cluster: &Cluster, offer: Offer) -> Self {
        let Offer { rate, size, drain } = offer;
        let network = cluster.network();
        let options = Options {
            targets: network.validators.iter().map(Member::target).collect(),
            network: network.network,
            rate,
            duration: None,
            workload: Workload::plain(SEED, size, 10),
            authors: network.authors,
            presigned: false,
            transport,
            drain,
        };
        let control = Arc::new(Control::default());
        let told = Arc::new(Mutex::new(Vec::new()));
        let (steer, hears) = (control.clone(), told.clone());
        let thread = thread::spawn(move || {
            let mut on_final = |known: &Acknowledged| hears.lock().expect("no panic").push(*known);
            load::run(&options, &steer, &mut |_| {}, &mut on_final).expect("the validators answer")
        });
        Self { control, told, thread: Some(thread) }
    }

    /// Everything that it was told is final so far.
    pub fn told(&self) -> Vec<Acknowledged> {
        self.told.lock().expect("no panic").clone()
    }

    /// Waits until it was told that this many more transactions are final.
    #[track_caller]
    pub fn wait_for(&self, more: usize, limit: Duration) {
        let count = || self.told.lock().expect("no panic").len();
        let (first, end) = (count(), Instant::now() + limit);
        while count() < first + more {
            let is_over = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            let seen = count() - first;
            assert!(!is_over && Instant::now() < end, "{seen} of {more} are final in {limit:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it; answers its report and everything that it was told.
    pub fn stop(mut self) -> (Report, Vec<Acknowledged>) {
        self.control.stop();
        let thread = self.thread.take().expect("it is stopped once");
        let report = thread.join().expect("the load does not panic");
        (report, self.told())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.control.stop();
    }
}

/// A validator's ledger, read from its files while it does not run.
pub struct Read {
    ledger: Ledger,
    heights: HashMap<u64, HashMap<Digest, Outcome>>,
}

impl Read {
    /// Opens the ledger of a data folder.
    pub fn open(data: &Path, network: &Digest) -> Self {
        let location = Location::find(data).expect("a data folder");
        let ledger = Ledger::open(&location, Some(network)).expect("a ledger without damage");
        Self { ledger, heights: HashMap::new() }
    }

    /// Its newest height.
    pub fn height(&self) -> u64 {
        self.ledger.last_height()
    }

    /// The history root after a height.
    pub fn history_root(&self, height: u64) -> Digest {
        let outcomes = self.ledger.outcomes(height).expect("a ledger without damage");
        outcomes.expect("every height has outcomes").history_root
    }

    /// Whether it says of a transaction what a client was told: the same height and outcome.
    pub fn holds(&mut self, known: &Acknowledged) -> bool {
        let height = known.height.get();
        let outcomes = self.heights.entry(height).or_insert_with(|| {
            let list = self.ledger.outcomes(height).expect("a ledger without damage");
            let list = list.map(|list| list.outcomes).unwrap_or_default();
            let mut outcomes = HashMap::new();
            for (id, outcome) in list.into_iter().filter(|(_, outcome)| outcome.is_final()) {
                // The first time counts: a second copy is stale.
                outcomes.entry(id).or_insert(outcome);
            }
            outcomes
        });
        outcomes.get(&known.id) == Some(&known.outcome)
    }
}
