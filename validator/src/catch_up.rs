//! A validator that is far behind rebuilds itself from whoever is honest, before it takes part.
//!
//! ```text
//! tips ─▶ cuts, in order ─▶ skeleton ─▶ jobs ─▶ workers, some for each peer ─▶ bodies ─▶ replay, in order ─▶ store
//!         (any one peer)    certificates,       batches by digest, every
//!                           links, tips         signature, all cores
//! ```
//!
//! Nothing is believed. The cuts are linked by their digests up to one that 2f+1 validators certified, so no peer can
//! invent one; a cut names its batches by digest, and a batch's header all its transactions, so no peer can change
//! one. What is wrong is found before any of it is used, and whoever sent it is named and asked no more: one honest
//! peer is enough. What is stored is just what a validator stores that was there, in the same order of certainty; so
//! a start that was cut short goes on where the ledger ends.

mod bodies;
mod own;
mod peer;
mod progress;
mod replay;
mod skeleton;
#[cfg(test)]
mod tests;
mod work;

use crate::{consensus::Recent, execute, handle::Stop, terms::Terms, votes::Judge};
use crossbeam::channel::{Receiver, Sender, bounded};
use ledger::{Digest, Genesis, PublicKey};
pub use own::{Own, Round, Watch};
use peer::{Fault, Peer};
use progress::Progress;
use replay::Replay;
use skeleton::{Planned, Skeleton};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use storage::Store;
use work::{Job, Worked};

/// Heights behind the others that the engine's own way bridges: less than a few seconds of them.
const NEAR: u64 = 64;
/// Heights that are left to the engine in the end: it has the others send them beside what they have to do.
const LEFT: u64 = 16;
/// Heights by which validators that keep up differ.
pub const LEVEL: u64 = 4;
/// Connections to each peer: one is answered while what another brought is checked, and together they are as many as
/// there are cores, as far as peers admit so many.
const WORKERS_OF_ONE: std::ops::RangeInclusive<usize> = 2..=6;
/// Batches in a job, about; a job may have more where one height has.
const JOB_BATCHES: u64 = 48;
/// Heights in a job.
const JOB_HEIGHTS: usize = 256;
/// Jobs beyond one for each worker that may be under way or wait for their turn, in memory: 6 MiB each at full load.
const JOBS_AHEAD: usize = 2;
/// Planned heights below which more cuts are asked for.
const PLANNED_MIN: usize = 1_024;
/// Without any progress in this time the engine's own way is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two questions how far the others are.
const ASK: Duration = Duration::from_millis(200);
/// Others that have made nothing final for so long do not move: then there is nothing to wait for.
const STANDSTILL: Duration = Duration::from_secs(10);
/// What all wait for is asked of another peer after this time.
const SLOW: Duration = Duration::from_secs(3);
/// How long a peer rests that was of no help, the first time.
const REST: Duration = Duration::from_secs(3);
/// How long to wait for work when there is nothing to do.
const IDLE: Duration = Duration::from_millis(20);

/// Where old blocks can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The validator, for whoever reads that it lied.
    pub key: PublicKey,
    /// Its history socket.
    pub address: SocketAddr,
}

/// What is known here, and is to be brought up to date.
pub struct State {
    /// Execution after the newest stored height.
    pub execute: execute::Core,
    /// Roots and tips of the newest heights.
    pub recent: Recent,
    /// The newest epoch and view.
    pub round: Round,
    /// Accounts that changed.
    pub changed: Numbers,
}

/// Numbers of accounts, each a bit: millions of them change again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(Vec<u64>);

impl Numbers {
    fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let bits = |(place, word): (u32, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| 64 * place + bit)
        };
        (0..).zip(&self.0).flat_map(bits)
    }
}

/// What is needed besides.
pub struct Setup<'a> {
    /// The network.
    pub genesis: &'a Genesis,
    /// The ledger.
    pub store: &'a Store,
    /// Judges signatures, on all cores.
    pub judge: Arc<Judge>,
    /// Who is asked.
    pub sources: Vec<Source>,
    /// What is known of the own key.
    pub own: Own,
    /// When to end early.
    pub stop: &'a Stop,
}

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than f validators signed what does not hold, or this program is wrong.
    #[error("height {height} is final and does not hold: {what}")]
    Broken {
        /// The height.
        height: u64,
        /// What is wrong.
        what: String,
    },
    /// The store.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// Somebody else has signed with this validator's key.
    #[error(
        "the ledger has a vote of this key in view {view}, which its guard does not know: another process signs with \
         it, or the guard is an old copy; use a new key"
    )]
    Used {
        /// The view.
        view: u64,
    },
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaughtUp {
    /// How many heights were added.
    pub heights: u64,
    /// Who sent false history.
    pub liars: Vec<Source>,
    /// Whether the others went on meanwhile: what is missing comes by the engine.
    pub is_behind: bool,
    /// Whether others were listened to for as long as was asked for, and none of them has a vote of the own key that
    /// nobody here has made.
    pub is_watched: bool,
}

/// Brings a validator to within a few seconds of the others.
///
/// Where nobody answers, or nobody is ahead, nothing happens.
///
/// Errors: [`Error`].
pub fn run(setup: &Setup<'_>, state: &mut State) -> Result<CaughtUp, Error> {
    let start = state.execute.chain().height().get();
    let peers = Peers::new(setup, state.execute.terms());
    let mut newest = peers.newest(&setup.judge);
    let has_watch = setup.own.watch.is_some() && !peers.sources.is_empty();
    if has_watch {
        tracing::info!("following the others first: what this key signed is forgotten");
        let end = Instant::now() + PATIENCE;
        // They may be starting, too.
        while newest == Tip::default() && Instant::now() < end && !setup.stop.is_stopped() {
            std::thread::sleep(ASK);
            newest = peers.newest(&setup.judge);
        }
    }
    if let Some(view) = newest.used {
        return Err(Error::Used { view });
    }
    if newest.height > start + NEAR {
        let newest = newest.height;
        tracing::info!(height = start, newest, "far behind: catching up from the other validators");
    } else if !has_watch {
        let is_behind = newest.height > start + LEVEL;
        return Ok(CaughtUp { is_behind, ..CaughtUp::default() });
    }
    let mut session = Session::new(setup, state, peers, newest)?;
    let is_watched = session.run()?;
    let height = session.replay.finish()?;
    session.progress.end(height);
    let liars = session.liars.iter().map(|place| session.peers.sources[*place].clone()).collect();
    let is_behind = height > start || session.newest > height + LEVEL;
    Ok(CaughtUp { heights: height - start, liars, is_behind, is_watched })
}

/// The newest that anybody has proved to be final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tip {
    /// The height; 0 where nobody answers.
    height: u64,
    /// A view with a vote of the own key that nobody here has made.
    used: Option<u64>,
}

/// Who is asked.
#[derive(Clone)]
struct Peers {
    network: Digest,
    terms: Terms,
    own: Own,
    sources: Vec<Source>,
}

impl Peers {
    fn new(setup: &Setup<'_>, terms: &Terms) -> Self {
        Self {
            network: setup.genesis.digest(),
            terms: terms.clone(),
            own: setup.own,
            sources: setup.sources.clone(),
        }
    }

    /// The newest that anybody can prove to be final.
    fn newest(&self, judge: &Judge) -> Tip {
        let ask = |source: &Source| {
            let mut peer = Peer::connect(source.address, self.network).ok()?;
            match peer.tip(&self.terms, judge) {
                Ok(tip) => tip,
                Err(fault) => {
                    fault.tell(source);
                    None
                }
            }
        };
        std::thread::scope(|scope| {
            let asked: Vec<_> =
                self.sources.iter().map(|source| scope.spawn(move || ask(source))).collect();
            let answers = asked.into_iter().filter_map(|it| it.join().ok().flatten());
            answers.fold(Tip::default(), |newest, (height, finality)| {
                let used = finality.and_then(|finality| self.own.used(&self.terms, &finality));
                Tip { height: newest.height.max(height), used: newest.used.or(used) }
            })
        })
    }
}

/// Asks again and again, beside everything else, how far the others are.
struct Look(Arc<Mutex<(u64, Tip)>>);

impl Look {
    fn start(peers: Peers, judge: Arc<Judge>, newest: Tip) -> Self {
        let seen = Arc::new(Mutex::new((0, newest)));
        let told = Arc::downgrade(&seen);
        let run = move || {
            crate::node::give_way();
            // Until nobody looks any more.
            while told.strong_count() > 0 {
                let tip = peers.newest(&judge);
                let Some(seen) = told.upgrade() else { return };
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let before = seen.1;
                let newest =
                    Tip { height: before.height.max(tip.height), used: before.used.or(tip.used) };
                *seen = (seen.0 + 1, newest);
                drop(seen);
                std::thread::sleep(ASK);
            }
        };
        // Where there is no thread for it, the newest is that of the start.
        let _ = std::thread::Builder::new().name("catch-up-tip".to_owned()).spawn(run);
        Self(seen)
    }

    /// How often the others were asked since the start, and the newest that they have proved.
    fn look(&self) -> (u64, Tip) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One way from behind to near.
struct Session<'a, 'b> {
    setup: &'a Setup<'b>,
    peers: Peers,
    look: Look,
    /// The newest height that the others have proved so far.
    newest: u64,
    skeleton: Skeleton,
    replay: Replay<'a>,
    progress: Progress,
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    worked: (Sender<Worked>, Receiver<Worked>),
    /// Workers for each source, and those that run by its place.
    workers_of_one: usize,
    workers: BTreeMap<usize, usize>,
    /// Sources that lied, and when others are tried again that did not answer.
    liars: BTreeSet<usize>,
    again: BTreeMap<usize, Instant>,
    /// How often they did not, up to five.
    times: BTreeMap<usize, u32>,
    /// Numbers of the next job, and of the next that is replayed.
    next: (u64, u64),
    /// Jobs that are handed out, and since when.
    handed: BTreeMap<u64, (Job, Instant)>,
    ready: BTreeMap<u64, Vec<bodies::Bodied>>,
    /// A connection for cuts, and whose turn it is.
    cuts: Option<(usize, Peer)>,
    turn: usize,
}

impl<'a, 'b> Session<'a, 'b> {
    fn new(
        setup: &'a Setup<'b>,
        state: &'a mut State,
        peers: Peers,
        newest: Tip,
    ) -> Result<Self, Error> {
        let replay = Replay::new(setup, state)?;
        let skeleton = Skeleton::new(setup, replay.parent().clone(), replay.execute());
        let progress = Progress::new(replay.chain().height().get(), newest.height);
        // Room for all that may be under way, so that nobody waits to hand over.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = cores.div_ceil(peers.sources.len().max(1));
        let workers_of_one = share.clamp(*WORKERS_OF_ONE.start(), *WORKERS_OF_ONE.end());
        let room = 2 * (peers.sources.len() * workers_of_one + JOBS_AHEAD);
        let (jobs, waiting) = bounded(room);
        Ok(Self {
            setup,
            look: Look::start(peers.clone(), setup.judge.clone(), newest),
            peers,
            newest: newest.height,
            skeleton,
            replay,
            progress,
            jobs,
            waiting,
            worked: bounded(room),
            workers_of_one,
            workers: BTreeMap::new(),
            liars: BTreeSet::new(),
            again: BTreeMap::new(),
            times: BTreeMap::new(),
            next: (0, 0),
            handed: BTreeMap::new(),
            ready: BTreeMap::new(),
            cuts: None,
            turn: 0,
        })
    }

    /// Goes on until there is little left; answers whether others were listened to as long as was asked for.
    fn run(&mut self) -> Result<bool, Error> {
        let begin = Instant::now();
        let mut moved = begin;
        let mut arrived = None;
        while !self.setup.stop.is_stopped() {
            self.hire();
            self.plan();
            self.hand_out();
            self.hand_out_again();
            self.collect();
            let before = self.replay.chain().height().get();
            self.apply()?;
            let height = self.replay.chain().height().get();
            self.progress.show(height, self.newest, self.replay.transactions());
            if height > before {
                moved = Instant::now();
            }
            let (rounds, tip) = self.look.look();
            if let Some(view) = tip.used {
                return Err(Error::Used { view });
            }
            self.newest = self.newest.max(tip.height);
            let is_over = match self.setup.own.watch {
                None => true,
                Some(Watch { time, above }) => {
                    let is_above = self.replay.round() > above || moved.elapsed() > STANDSTILL;
                    tip.height > 0 && begin.elapsed() >= time && is_above
                }
            };
            if height >= self.newest {
                // What was said before it came so far is old: the round after the one under way counts.
                let since = *arrived.get_or_insert(rounds);
                if is_over && (rounds >= since + 2 || moved.elapsed() > PATIENCE) {
                    return Ok(true);
                }
            } else if arrived.is_some() && height + LEFT >= self.newest && is_over {
                return Ok(true);
            }
            let is_stuck = moved.elapsed() > PATIENCE && (height < self.newest || tip.height == 0);
            if is_stuck || self.liars.len() == self.peers.sources.len() {
                tracing::warn!(height, newest = self.newest, "nobody has what is missing");
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Starts workers for every source that is not known to lie and has too few.
    fn hire(&mut self) {
        for place in 0..self.peers.sources.len() {
            let rests = self.again.get(&place).is_some_and(|again| Instant::now() < *again);
            let count = self.workers.entry(place).or_default();
            if rests || self.liars.contains(&place) {
                continue;
            }
            while *count < self.workers_of_one {
                *count += 1;
                let worker = work::Worker {
                    place,
                    address: self.peers.sources[place].address,
                    network: self.peers.network,
                    terms: self.peers.terms.clone(),
                    judge: self.setup.judge.clone(),
                    jobs: self.waiting.clone(),
                    worked: self.worked.0.clone(),
                };
                // Where there is no thread for it the others work alone.
                let _ = std::thread::Builder::new()
                    .name("catch-up".to_owned())
                    .spawn(move || worker.run());
            }
        }
    }

    /// Asks for more cuts, where few are left that are not handed out.
    fn plan(&mut self) {
        let is_enough = self.skeleton.len() >= PLANNED_MIN;
        if is_enough || self.skeleton.height() >= self.newest || !self.skeleton.may_extend() {
            return;
        }
        if self.cuts.is_none() {
            self.cuts = self.connect();
        }
        let Some((place, mut peer)) = self.cuts.take() else { return };
        match peer.cuts(self.skeleton.height() + 1).and_then(|cuts| self.skeleton.extend(&cuts)) {
            Ok(()) => self.cuts = Some((place, peer)),
            Err(fault) => self.fault(place, &fault),
        }
    }

    fn connect(&mut self) -> Option<(usize, Peer)> {
        for _ in 0..self.peers.sources.len() {
            self.turn = (self.turn + 1) % self.peers.sources.len();
            let place = self.turn;
            let rests = self.again.get(&place).is_some_and(|again| Instant::now() < *again);
            if self.liars.contains(&place) || rests {
                continue;
            }
            match Peer::connect(self.peers.sources[place].address, self.peers.network) {
                Ok(peer) => return Some((place, peer)),
                Err(fault) => self.fault(place, &fault),
            }
        }
        None
    }

    fn fault(&mut self, place: usize, fault: &Fault) {
        fault.tell(&self.peers.sources[place]);
        match fault {
            Fault::Lie(_) => drop(self.liars.insert(place)),
            Fault::Silent(_) => {
                // Twice as long each time: one that is slow again and again holds up less and less.
                let times = self.times.entry(place).or_insert(0);
                let rest = REST.saturating_mul(1 << *times).min(PATIENCE);
                *times = (*times + 1).min(5);
                self.again.insert(place, Instant::now() + rest);
            }
        }
    }

    /// Makes jobs of what is planned, as many as may be under way.
    fn hand_out(&mut self) {
        let workers: usize = self.workers.values().sum();
        let (next, applied) = self.next;
        let under_way = usize::try_from(next - applied).unwrap_or(usize::MAX);
        for _ in under_way..workers + JOBS_AHEAD {
            // What was handed out again may fill it: whoever waited here could hire nobody who takes it.
            if self.jobs.is_full() {
                return;
            }
            let heights = self.take();
            if heights.is_empty() {
                return;
            }
            let job = Job { number: self.next.0, heights };
            self.next.0 += 1;
            self.handed.insert(job.number, (job.clone(), Instant::now()));
            // This session holds a receiver.
            let _ = self.jobs.send(job);
        }
    }

    /// Hands out a second time what all wait for and one peer does not bring.
    fn hand_out_again(&mut self) {
        let next = self.next.1;
        if let Some((job, since)) = self.handed.get_mut(&next)
            && !self.ready.contains_key(&next)
            && since.elapsed() > SLOW
            && self.jobs.try_send(job.clone()).is_ok()
        {
            *since = Instant::now();
        }
    }

    fn take(&mut self) -> Vec<Planned> {
        let mut heights = Vec::new();
        let mut batches = 0;
        // To a height with a certificate, which the skeleton ends with: what has none is not stored before that.
        let is_open = |heights: &Vec<Planned>| heights.last().is_some_and(Planned::is_uncovered);
        while is_open(&heights) || heights.len() < JOB_HEIGHTS && batches < JOB_BATCHES {
            let Some(planned) = self.skeleton.take() else { break };
            batches += planned.batches();
            heights.push(planned);
        }
        heights
    }

    /// Takes what workers have done.
    fn collect(&mut self) {
        let mut next = self.worked.1.recv_timeout(IDLE).ok();
        while let Some(worked) = next {
            match worked {
                // What two have brought is replayed once.
                Worked::Done(number, bodies) if number >= self.next.1 => {
                    self.ready.insert(number, bodies);
                }
                Worked::Done(..) => {}
                Worked::Left { place, job, fault } => {
                    *self.workers.entry(place).or_insert(1) -= 1;
                    self.fault(place, &fault);
                    if let Some(job) = job.filter(|job| job.number >= self.next.1) {
                        // Where there is no room it is handed out again in time.
                        let _ = self.jobs.try_send(job);
                    }
                }
                Worked::Broken { height, what } => {
                    self.replay.broken = Some(Error::Broken { height, what });
                }
            }
            next = self.worked.1.try_recv().ok();
        }
    }

    /// Replays what is next.
    fn apply(&mut self) -> Result<(), Error> {
        while let Some(bodies) = self.ready.remove(&self.next.1) {
            self.handed.remove(&self.next.1);
            self.next.1 += 1;
            for bodied in bodies {
                self.replay.height(bodied)?;
            }
            // What workers did meanwhile gives others something to do.
            self.hand_out();
        }
        self.replay.broken.take().map_or(Ok(()), Err)
    }
}
