//! The load's thread: clock, connections, sessions and signers around the core.

use super::ahead::Ahead;
use super::connection::{self, Event, Outgoing};
use super::core::{Action, Core, Micros, Setup};
use super::datagrams::Datagrams;
use super::signer::Signer;
use super::{Acknowledged, Control, Error, Options, Report, Sessions, Snapshot, Transport};
use crate::client::workload::Share;
use crate::wire::Call;
use ledger::Digest;
use net_ebpf::abi::PACKET_SIZE_MAX;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

/// News that may wait; full: the connections wait.
const EVENTS: usize = 1_024;
/// Time for the first connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for the first session, which may be opened over a network that loses much.
const SESSION: Duration = Duration::from_secs(10);
/// Time for the others once one stands.
const SESSIONS: Duration = Duration::from_secs(2);
/// Time between two calls of `on_tick`.
const TICK: Duration = Duration::from_secs(1);
/// Looked at least this often, for what arrives without waking: signed transactions and the wish to
/// stop.
const LOOK: Duration = Duration::from_millis(5);
/// How much the load's thread goes before others, where it may.
const FIRST_NICENESS: i32 = -10;
/// Woken at most this often for the schedule: what is due within it leaves together.
const TOGETHER: Duration = Duration::from_millis(1);
/// What is due and could not leave may still leave for this long after the end.
const GRACE: Duration = Duration::from_secs(1);

/// Runs a load, on the calling thread and the signers'.
pub(super) fn run(
    options: &Options,
    control: &Arc<Control>,
    on_tick: &mut dyn FnMut(&Snapshot),
    on_final: &mut dyn FnMut(&Acknowledged),
) -> Result<Report, Error> {
    let ahead = Ahead::of(options);
    let workload = options.workload.clone();
    let mut signer = Signer::start(options.network, workload, options.authors, options.rate)?;
    // At least the first transaction of every author that begins is signed before the first is due.
    signer.presign(&ahead, || control.is_stopped())?;
    let hot_share = options.workload.mix.hot_authors.map_or(Share::NONE, |hot| hot.transactions);
    let mut core = Core::new(Setup {
        rate: options.rate,
        offers: options.offers(),
        authors: options.authors,
        beginning: ahead.beginning,
        hot_authors: ahead.hot_authors,
        hot_share,
        targets: options.targets.len(),
    });
    for action in core.take_actions() {
        if let Action::Sign { author, turn } = action {
            signer.sign(author, turn);
        }
    }
    while core.signing() > 0 && !control.is_stopped() {
        core.signed(signer.wait(), 0);
    }
    // The schedule waits for nobody, validators on the same machine included. Where the system does not let
    // it go first, it says so when it was late.
    let _ = rustix::process::setpriority_process(None, FIRST_NICENESS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let shell = Shell::connect(options, core, signer).await?;
        shell.run(options, control, on_tick, on_final).await
    });
    // A question to a validator that does not answer is not waited for.
    runtime.shutdown_background();
    report
}

struct Shell {
    core: Core,
    signer: Signer,
    links: Vec<Outgoing>,
    /// Sessions beside the connections, for [`Transport::Udp`].
    datagrams: Vec<Arc<Datagrams>>,
    events: mpsc::Receiver<Event>,
    start: Instant,
}

impl Shell {
    /// Connects to every validator, and waits until one is there.
    async fn connect(options: &Options, core: Core, signer: Signer) -> Result<Self, Error> {
        let (sender, events) = mpsc::channel(EVENTS);
        let mut links = Vec::new();
        let mut datagrams = Vec::new();
        for (index, target) in options.targets.iter().enumerate() {
            let outgoing = Outgoing::default();
            tokio::spawn(connection::keep(index, target.tcp, outgoing.clone(), sender.clone()));
            links.push(outgoing);
            if let (Transport::Udp, Some(udp)) = (options.transport, &target.udp) {
                let started = Datagrams::start(index, udp, options.network, sender.clone());
                datagrams.push(started.await?);
            }
        }
        let start = Instant::now();
        let mut shell = Self { core, signer, links, datagrams, events, start };
        shell.wait_for_connections(options).await?;
        shell.wait_for_sessions().await?;
        Ok(shell)
    }

    /// Hears from every validator once: connected, or not.
    async fn wait_for_connections(&mut self, options: &Options) -> Result<(), Error> {
        let until = Instant::now() + CONNECT;
        let mut heard = vec![false; options.targets.len()];
        let mut reasons = Vec::new();
        while heard.iter().any(|heard| !heard) {
            let Ok(Some(event)) = timeout_at(until, self.events.recv()).await else {
                break;
            };
            match event {
                Event::Connected(index, welcome) => {
                    check_welcome(options, index, &welcome)?;
                    self.core.connected(index, 0);
                    heard[index] = true;
                }
                Event::Gone(index, reason) => {
                    if !std::mem::replace(&mut heard[index], true) {
                        reasons.push(reason);
                    }
                }
                Event::Answers(..) => {}
            }
        }
        if self.core.is_online() {
            return Ok(());
        }
        if reasons.is_empty() {
            reasons.push(format!("no answer within {} s", CONNECT.as_secs()));
        }
        Err(Error::Unreachable(reasons.join("; ")))
    }

    /// Waits until the sessions stand, or the time is up and one does.
    async fn wait_for_sessions(&self) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let open = self.datagrams.iter().filter(|datagrams| datagrams.is_open()).count();
            let is_enough = open > 0 && start.elapsed() >= SESSIONS;
            if open == self.datagrams.len() || is_enough {
                return Ok(());
            }
            if start.elapsed() >= SESSION {
                let reasons: Vec<_> = self.datagrams.iter().map(|one| one.trouble()).collect();
                return Err(Error::Unreachable(reasons.join("; ")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn run(
        mut self,
        options: &Options,
        control: &Arc<Control>,
        on_tick: &mut dyn FnMut(&Snapshot),
        on_final: &mut dyn FnMut(&Acknowledged),
    ) -> Result<Report, Error> {
        self.start = Instant::now();
        self.core.mark(0);
        let mut next_tick = self.start + TICK;
        let mut end: Option<Instant> = options.duration.map(|duration| self.start + duration);
        let mut finalized_in_time = None;
        loop {
            let now = self.now();
            if control.take_mark() {
                self.core.mark(now);
            }
            if control.is_stopped() && end.is_none_or(|end| end > Instant::now()) {
                end = Some(Instant::now());
                self.core.close(now);
            }
            self.take_signed(now);
            for (target, link) in self.links.iter().enumerate() {
                self.core.set_full(target, link.is_full());
            }
            self.core.step(now);
            self.act().await;
            let (at, is_over) = (Instant::now(), end.is_some_and(|end| end <= Instant::now()));
            if is_over && finalized_in_time.is_none() {
                finalized_in_time = Some(self.core.finalized_total());
            }
            if let Some(end) = end.filter(|_| is_over) {
                if at >= end + GRACE {
                    self.core.close(now);
                }
                if self.core.is_done() || at >= end + GRACE + options.drain {
                    break;
                }
            }
            if at >= next_tick {
                next_tick = at.max(next_tick + TICK);
                on_tick(&self.core.snapshot(now));
            }
            self.wait(next_tick, end, options, on_final).await?;
        }
        let duration = end.map_or(Duration::ZERO, |end| end - self.start);
        let finalized_in_time = finalized_in_time.unwrap_or_default();
        let now = self.now();
        let sessions = (options.transport == Transport::Udp).then(|| self.sessions());
        Ok(Report::new(options, duration, finalized_in_time, sessions, self.core.finish(now)))
    }

    fn now(&self) -> Micros {
        u64::try_from(self.start.elapsed().as_micros()).expect("no run takes 500,000 years")
    }

    fn take_signed(&mut self, now: Micros) {
        while let Some(signed) = self.signer.take() {
            self.core.signed(signed, now);
        }
    }

    /// Waits for news, until there is something to do without any.
    async fn wait(
        &mut self,
        next_tick: Instant,
        end: Option<Instant>,
        options: &Options,
        on_final: &mut dyn FnMut(&Acknowledged),
    ) -> Result<(), Error> {
        let at = Instant::now();
        let step = self.core.next_step().map(|due| self.start + Duration::from_micros(due));
        let due = [Some(next_tick), end.filter(|end| *end > at), step, Some(at + LOOK)];
        let due = due.into_iter().flatten().min().unwrap_or(at + LOOK).max(at + TOGETHER);
        let Ok(event) = timeout_at(due, self.events.recv()).await else {
            return Ok(());
        };
        let mut event = event;
        while let Some(news) = event {
            self.hear(news, options, on_final)?;
            event = self.events.try_recv().ok();
        }
        // What arrives within it is handled together.
        sleep_until(at + TOGETHER).await;
        Ok(())
    }

    fn hear(
        &mut self,
        event: Event,
        options: &Options,
        on_final: &mut dyn FnMut(&Acknowledged),
    ) -> Result<(), Error> {
        let now = self.now();
        match event {
            Event::Connected(index, welcome) => {
                check_welcome(options, index, &welcome)?;
                self.core.connected(index, now);
                if let Some(datagrams) = self.datagrams.get(index) {
                    datagrams.doubt();
                }
            }
            Event::Gone(index, _) => self.core.disconnected(index, now),
            Event::Answers(index, answers) => {
                for answer in answers {
                    if let Some(known) = self.core.answered(index, answer, now) {
                        on_final(&known);
                    }
                }
            }
        }
        Ok(())
    }

    async fn act(&mut self) {
        for action in self.core.take_actions() {
            match action {
                Action::Sign { author, turn } => self.signer.sign(author, turn),
                Action::Watch { target, id } => self.links[target].push(&Call::Watch(id)),
                // A session ends by a wrong signature, a connection does not.
                Action::Submit { target, bytes, is_invalid: true, .. } => {
                    self.links[target].push(&Call::Submit(&bytes));
                }
                Action::Submit { target, id, bytes, is_invalid: false } => {
                    self.submit(target, &id, &bytes).await;
                }
            }
        }
        for link in &self.links {
            link.flush();
        }
    }

    async fn submit(&mut self, target: usize, id: &Digest, bytes: &[u8]) {
        let mut packet = [0; PACKET_SIZE_MAX];
        let datagrams = self.datagrams.get(target);
        let sealed =
            datagrams.and_then(|datagrams| Some((datagrams, datagrams.seal(bytes, &mut packet)?)));
        let Some((datagrams, size)) = sealed else {
            return self.links[target].push(&Call::Submit(bytes));
        };
        self.links[target].push(&Call::Watch(*id));
        datagrams.send(&packet[..size]).await;
    }

    /// What was counted of all sessions.
    fn sessions(&self) -> Sessions {
        let mut all = Sessions::default();
        for datagrams in &self.datagrams {
            let Sessions { handshakes, opened, datagrams, held_back } = datagrams.counts();
            all.handshakes += handshakes;
            all.opened += opened;
            all.datagrams += datagrams;
            all.held_back += held_back;
        }
        all
    }
}

fn check_welcome(
    options: &Options,
    index: usize,
    welcome: &crate::wire::Welcome,
) -> Result<(), Error> {
    let target = options.targets[index].tcp;
    let refuse = |what: String| Err(Error::Target { target, what });
    if welcome.hint != options.network.hint() {
        return refuse(format!(
            "it serves network {}.., not {}",
            hex::encode(welcome.hint),
            options.network
        ));
    }
    let size = u64::try_from(options.workload.mix.bytes_max()).unwrap_or(u64::MAX);
    if size > u64::from(welcome.transaction_bytes_max) {
        return refuse(format!(
            "it takes at most {} bytes, not {size}",
            welcome.transaction_bytes_max
        ));
    }
    Ok(())
}
