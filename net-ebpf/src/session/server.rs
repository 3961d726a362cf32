//! A validator's side: opens sessions, accepts their submits, moves their windows, ends them.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use zeroize::Zeroizing;

use super::{
    AdmissionKey, Standing, TagKey, Ticket, TokenKey, Tokens, WINDOW,
    networks::{Network, Networks},
    noise::Responder,
    random::Generator,
    ranks::Ranks,
    slot,
    window::Window,
};
use crate::{
    Error, Reject, abi,
    abi::{Grant, Handshake, Session, Submit, WELCOME_SIZE, WINDOW_SIZE, Welcome},
    policy::{Pace, Rate},
};

/// The fewest sessions that a table may have: each network's share is at least 4.
pub const SESSIONS_MIN: u32 = 64;
/// How long the admission key before the present one is good for handshakes.
const KEY_OVERLAP_NS: u64 = 3_600 * 1_000_000_000;
/// The CPU time that handshakes can save up: a crowd of 500 or so at once.
const CREDIT_MAX_NS: i64 = 100_000_000;
/// A window is told again when it grew by so many counters.
const TELL_AFTER: u64 = WINDOW / 4;
/// A client with no more counters than this left is told of any growth, but no more often than
/// [`TELL_PAUSE_NS`]: it takes a second of silence for a dead session.
const TELL_EARLY: u64 = WINDOW / 8;
const TELL_PAUSE_NS: u64 = 250_000_000;
/// Sessions whose held-back window one tick moves: at most 64 times 512 tokens, a millisecond.
const HELD_PER_TICK: usize = 64;

/// How a server is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many sessions there may be: 64 to 2^20. Each holds 8 KiB of tokens and some 500 bytes.
    pub sessions: u32,
    /// The id of the network, which both sides of a handshake must agree on.
    pub network: [u8; 32],
    /// How fast the window of one session moves in the long run, and how far at once; the burst is
    /// at least what the rate yields between two ticks.
    pub rate: Rate,
    /// The share of one CPU that handshakes may take, in percent: 1 to 100.
    pub handshake_cpu_percent: u32,
}

/// What a submit that was let in carries.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// The transaction, its bytes not looked at.
    pub transaction: &'a [u8],
    /// The right to answer.
    pub ticket: Ticket,
    /// A window datagram to be sent to where the submit came from.
    pub window: Option<[u8; WINDOW_SIZE]>,
}

/// What the caller of [`Server::tick`] is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To send this datagram.
    Send {
        /// Where the session was last heard from.
        to: SocketAddr,
        /// A window datagram.
        packet: [u8; WINDOW_SIZE],
    },
    /// To listen to this address, or for IPv6 its /64, no more for a while: it proved to be the
    /// holder of a session that was then ended for hostile transactions.
    Block(IpAddr),
}

/// All sessions of a validator.
///
/// Time is a monotonic clock in nanoseconds; a step back counts as standing still.
pub struct Server {
    network: [u8; 32],
    pace: Pace,
    now_ns: u64,
    key: AdmissionKey,
    /// The key before, and until when it is good.
    previous: Option<(AdmissionKey, u64)>,
    generator: Generator,
    credit: Credit,
    entries: Box<[Entry]>,
    standing: Arc<Standing>,
    ranks: Ranks,
    networks: Networks,
    free: Vec<u32>,
    /// Sessions whose window the rate holds back; each at most once.
    held: VecDeque<u32>,
}

/// One place in the table of sessions.
#[derive(Clone)]
struct Entry {
    is_live: bool,
    /// Whether it waits in `held`.
    is_held: bool,
    generation: u32,
    token_key: TokenKey,
    tag_key: TagKey,
    window: Window,
    bucket: u64,
    /// The installed counter that the client was last told, and when.
    told: u64,
    told_ns: u64,
    /// The address that the cookie proved.
    origin: IpAddr,
    /// Where the last authentic submit came from.
    source: SocketAddr,
}

impl Server {
    /// Makes a server without sessions.
    ///
    /// `seed` is 32 random bytes that nobody else knows, from which everything random is drawn.
    ///
    /// Errors: [`Error::Limit`] when the rate is out of range. Panics: when another option is.
    pub fn new(options: &Options, key: AdmissionKey, seed: [u8; 32]) -> Result<Self, Error> {
        assert!(options.sessions >= SESSIONS_MIN, "a network's share would be too small");
        assert!(options.sessions <= Session::INDEX_COUNT, "a session index has 20 bits");
        let fields = ["session.packets_per_second", "session.burst_packets"];
        let sessions = usize::try_from(options.sessions).expect("20 bits");
        let mut generator = Generator::new(seed);
        let entry = |generation| Entry {
            is_live: false,
            is_held: false,
            generation,
            token_key: TokenKey::new([0; 16]),
            tag_key: TagKey::new([0; 32]),
            window: Window::new(),
            bucket: 0,
            told: 0,
            told_ns: 0,
            origin: IpAddr::from([0; 4]),
            source: SocketAddr::from(([0; 4], 0)),
        };
        Ok(Self {
            network: options.network,
            pace: Pace::new(options.rate, fields)?,
            now_ns: 0,
            key,
            previous: None,
            credit: Credit::new(options.handshake_cpu_percent),
            // Each place starts its generations anywhere: a stranger must guess them.
            entries: (0..sessions).map(|_| entry(first_generation(generator.word()))).collect(),
            standing: Arc::new(Standing::new(sessions)),
            ranks: Ranks::new(sessions),
            networks: Networks::new(sessions, generator.draw()),
            free: (0..options.sessions).rev().collect(),
            held: VecDeque::with_capacity(sessions),
            generator,
        })
    }

    /// What other threads report to.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// The present admission key.
    pub fn key(&self) -> &AdmissionKey {
        &self.key
    }

    /// Takes another admission key. The one before is good for handshakes for one hour more;
    /// sessions stay.
    pub fn rotate(&mut self, now_ns: u64, key: AdmissionKey) {
        let now_ns = self.advance(now_ns);
        let previous = std::mem::replace(&mut self.key, key);
        self.previous = Some((previous, now_ns.saturating_add(KEY_OVERLAP_NS)));
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The most memory that the server holds, in bytes, without the tokens that it installs.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.entries)
            + self.standing.memory_bytes()
            + self.ranks.memory_bytes()
            + self.networks.memory_bytes()
            + (self.free.capacity() + self.held.capacity()) * size_of::<u32>()
    }

    /// Opens a session for a handshake whose cookie was right for its source, and installs its
    /// first tokens.
    ///
    /// The caller measures the CPU time that the call takes, and [charges](Self::charge) it.
    ///
    /// Errors, cheapest first: those of [`Handshake::decode`], [`Reject::KeyId`],
    /// [`Reject::HandshakeCpu`], [`Reject::HandshakeRate`], [`Reject::SessionShare`],
    /// [`Reject::SessionsFull`] and [`Reject::Noise`].
    pub fn handshake<T: Tokens + ?Sized>(
        &mut self,
        now_ns: u64,
        source: SocketAddr,
        packet: &[u8],
        tokens: &mut T,
    ) -> Result<[u8; WELCOME_SIZE], Reject> {
        let now_ns = self.advance(now_ns);
        let handshake = Handshake::decode(packet)?;
        self.find_key(now_ns, handshake.key_id)?;
        if !self.credit.is_positive(now_ns) {
            return Err(Reject::HandshakeCpu);
        }
        let network = Network::from(source.ip());
        if !self.networks.take(now_ns, network) {
            return Err(Reject::HandshakeRate);
        }
        let index = self.find_room(now_ns, network)?;
        let secret = Zeroizing::new(self.generator.draw());
        let key = self.find_key(now_ns, handshake.key_id)?;
        let responder = Responder::read(&self.network, &handshake, key, secret)?;
        if self.entries[index].is_live {
            self.close(index);
        } else {
            self.free.pop();
        }
        let grant = self.open(now_ns, index, source, tokens);
        let message = responder.finish(&grant);
        Ok(Welcome { nonce: handshake.nonce, message }.encode())
    }

    /// Takes the CPU time of a handshake, in nanoseconds, from the share of all handshakes.
    pub fn charge(&mut self, cost_ns: u64) {
        self.credit.charge(cost_ns);
    }

    /// Accepts a submit whose token was found in its slot and cleared there, and moves the window.
    ///
    /// Everything is checked again: a filter that lets through what it should not harms nothing.
    /// A token that was cleared for a packet that is refused here is lost, and nobody is blamed:
    /// who sees a packet under way can copy its token in front of other bytes.
    ///
    /// Errors: those of [`Submit::decode`], then [`Reject::Session`], [`Reject::Counter`],
    /// [`Reject::Token`] and [`Reject::Tag`].
    pub fn accept<'a, T: Tokens + ?Sized>(
        &mut self,
        now_ns: u64,
        source: SocketAddr,
        packet: &'a [u8],
        tokens: &mut T,
    ) -> Result<Accepted<'a>, Reject> {
        let now_ns = self.advance(now_ns);
        let Submit { session, counter, token, tag: _, transaction } = Submit::decode(packet)?;
        let index = usize::try_from(session.index()).expect("20 bits");
        let entry = self.entries.get_mut(index).ok_or(Reject::Session)?;
        if !entry.is_live || entry.generation != session.generation() {
            return Err(Reject::Session);
        }
        if !entry.window.holds(counter) {
            return Err(Reject::Counter);
        }
        if entry.token_key.token(counter) != token || entry.window.is_spent(counter) {
            return Err(Reject::Token);
        }
        entry.tag_key.open(packet)?;
        entry.window.spend(counter);
        entry.source = source;
        let window = self.move_window(now_ns, index, tokens);
        if window.is_some() {
            self.ranks.refresh(index, self.standing.accepted_count(index));
        }
        let entry = &self.entries[index];
        let ticket = Ticket::new(session, counter, entry.window.installed(), entry.tag_key.clone());
        Ok(Accepted { transaction, ticket, window })
    }

    /// Moves windows that the rate held back, and ends sessions that were blamed too often; what is
    /// to be done about it is appended to `actions`.
    ///
    /// Call it every few milliseconds. Work is bounded: 64 windows a call, and for blamed sessions
    /// one look at the table.
    pub fn tick<T: Tokens + ?Sized>(
        &mut self,
        now_ns: u64,
        tokens: &mut T,
        actions: &mut Vec<Action>,
    ) {
        let now_ns = self.advance(now_ns);
        for _ in 0..self.held.len().min(HELD_PER_TICK) {
            let number = self.held.pop_front().expect("counted");
            let index = usize::try_from(number).expect("20 bits");
            let entry = &mut self.entries[index];
            entry.is_held = false;
            if !entry.is_live {
                continue;
            }
            let to = entry.source;
            if let Some(packet) = self.move_window(now_ns, index, tokens) {
                actions.push(Action::Send { to, packet });
            }
        }
        let standing = Arc::clone(&self.standing);
        standing.take_blamed(|index| {
            let (session, origin) = (self.session(index), self.entries[index].origin);
            self.close(index);
            for counter in 0..WINDOW {
                tokens.put(slot(session, counter), 0);
            }
            self.free.push(session.index());
            actions.push(Action::Block(origin));
        });
    }

    /// Moves the clock and what depends on it.
    fn advance(&mut self, now_ns: u64) -> u64 {
        self.now_ns = self.now_ns.max(now_ns);
        self.ranks.advance(self.now_ns);
        self.now_ns
    }

    /// The admission key of this name, while it is good for handshakes.
    fn find_key(&self, now_ns: u64, id: [u8; 8]) -> Result<&AdmissionKey, Reject> {
        if id == self.key.id() {
            return Ok(&self.key);
        }
        let previous = self.previous.as_ref().filter(|&&(_, until_ns)| now_ns < until_ns);
        let previous = previous.filter(|(key, _)| key.id() == id);
        previous.map(|(key, _)| key).ok_or(Reject::KeyId)
    }

    /// The place for a new session of a network: the free one that is next, or one whose session
    /// gives way.
    fn find_room(&mut self, now_ns: u64, network: Network) -> Result<usize, Reject> {
        let Self { networks, ranks, standing, free, .. } = self;
        if networks.is_full(network) {
            let worth = |index| ranks.refresh(index, standing.accepted_count(index));
            return networks.least(network, worth).ok_or(Reject::SessionShare);
        }
        if let Some(&number) = free.last() {
            return Ok(usize::try_from(number).expect("20 bits"));
        }
        let accepted = |index| standing.accepted_count(index);
        ranks.least(now_ns, accepted).ok_or(Reject::SessionsFull)
    }

    /// Starts the next session at a free place.
    fn open<T: Tokens + ?Sized>(
        &mut self,
        now_ns: u64,
        index: usize,
        source: SocketAddr,
        tokens: &mut T,
    ) -> Grant {
        let (token_key, tag_key) = (self.generator.draw(), self.generator.draw());
        let entry = &mut self.entries[index];
        assert!(!entry.is_live);
        entry.is_live = true;
        // Zero is left out: the first session of place 0 would be no session.
        entry.generation = entry.generation % (Session::GENERATION_COUNT - 1) + 1;
        entry.token_key = TokenKey::new(token_key);
        entry.tag_key = TagKey::new(tag_key);
        entry.window = Window::new();
        entry.bucket = 0;
        (entry.told, entry.told_ns) = (WINDOW, now_ns);
        (entry.origin, entry.source) = (source.ip().to_canonical(), source);
        let session = self.session(index);
        let entry = &self.entries[index];
        for counter in 1..=WINDOW {
            tokens.put(slot(session, counter), entry.token_key.token(counter));
        }
        tokens.open(session);
        self.standing.open(session);
        self.ranks.insert(now_ns, index);
        self.networks.insert(Network::from(entry.origin), index);
        Grant { session, installed: WINDOW, token_key, tag_key }
    }

    /// Ends the session at a place and forgets its keys. Its tokens are the caller's to overwrite.
    fn close(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        assert!(entry.is_live);
        entry.is_live = false;
        entry.token_key = TokenKey::new([0; 16]);
        entry.tag_key = TagKey::new([0; 32]);
        self.standing.close(index);
        self.ranks.remove(index);
        self.networks.remove(Network::from(entry.origin), index);
    }

    /// Moves a session's window as far as its rate allows; returns what the client is to be told.
    fn move_window<T: Tokens + ?Sized>(
        &mut self,
        now_ns: u64,
        index: usize,
        tokens: &mut T,
    ) -> Option<[u8; WINDOW_SIZE]> {
        let session = self.session(index);
        let entry = &mut self.entries[index];
        for _ in 0..entry.window.behind() {
            let Some(bucket) = self.pace.take(entry.bucket, now_ns) else {
                if !entry.is_held {
                    entry.is_held = true;
                    self.held.push_back(session.index());
                }
                break;
            };
            entry.bucket = bucket;
            let counter = entry.window.install();
            tokens.put(slot(session, counter), entry.token_key.token(counter));
        }
        let (installed, highest) = (entry.window.installed(), entry.window.highest());
        let is_due = installed - entry.told >= TELL_AFTER
            || (installed > entry.told
                && highest + TELL_EARLY >= entry.told
                && now_ns.saturating_sub(entry.told_ns) >= TELL_PAUSE_NS);
        if !is_due {
            return None;
        }
        (entry.told, entry.told_ns) = (installed, now_ns);
        let mut packet = abi::Window { session, installed, tag: [0; 16] }.encode();
        entry.tag_key.seal(&mut packet);
        Some(packet)
    }

    /// The session at a place.
    fn session(&self, index: usize) -> Session {
        let number = u32::try_from(index).expect("20 bits");
        Session::new(number, self.entries[index].generation)
    }
}

/// What stands before a place's first generation: any but the one that is left out.
fn first_generation(random: u64) -> u32 {
    let count = u64::from(Session::GENERATION_COUNT - 1);
    1 + u32::try_from(random % count).expect("12 bits")
}

/// The CPU time that handshakes may take: it grows with time, and they use it up.
struct Credit {
    percent: u64,
    /// Hundredths of a nanosecond, so that no call is too short to earn; below zero after a
    /// handshake that took more than there was.
    hundredths: i64,
    last_ns: u64,
}

impl Credit {
    fn new(percent: u32) -> Self {
        assert!((1..=100).contains(&percent), "a share of one CPU");
        Self { percent: u64::from(percent), hundredths: CREDIT_MAX_NS * 100, last_ns: 0 }
    }

    fn is_positive(&mut self, now_ns: u64) -> bool {
        let earned = (now_ns - self.last_ns).saturating_mul(self.percent);
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        self.hundredths = self.hundredths.saturating_add(earned).min(CREDIT_MAX_NS * 100);
        self.last_ns = now_ns;
        self.hundredths > 0
    }

    fn charge(&mut self, cost_ns: u64) {
        let cost = i64::try_from(cost_ns.saturating_mul(100)).unwrap_or(i64::MAX);
        self.hundredths = self.hundredths.saturating_sub(cost);
    }
}
