//! A client's side towards one validator: gets a session, numbers and seals submits, reads replies.

use zeroize::Zeroizing;

use super::{TagKey, TokenKey, key, noise::Initiator, random::Generator};
use crate::{
    Reject,
    abi::{
        Answer, Cookie, Grant, HANDSHAKE_SIZE, Handshake, Header, Hello, Kind, PACKET_SIZE_MAX,
        Session, Submit, Welcome, Window,
    },
};

const MILLISECOND_NS: u64 = 1_000_000;
/// The first and the longest wait for a cookie or a welcome.
const WAIT_MIN_NS: u64 = 250 * MILLISECOND_NS;
const WAIT_MAX_NS: u64 = 4_000 * MILLISECOND_NS;
/// Nothing authentic for so long, although something was sent: the session is taken for dead.
const SILENCE_NS: u64 = 2_000 * MILLISECOND_NS;
/// Or for so long, when no counter is left.
const DRY_NS: u64 = 1_000 * MILLISECOND_NS;
/// Handshakes without a welcome after which the key is taken for an old one.
const SILENT_HANDSHAKES_MAX: u32 = 3;

/// What became of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A cookie came: [`Client::poll`] has the handshake now.
    Cookie,
    /// A session stands: submits can be sealed.
    Established,
    /// A submit was answered.
    Answer(Answer),
    /// More counters may be used.
    WindowGrew,
    /// It changed nothing, for this reason.
    Ignored(Reject),
}

/// A datagram to be sent to the validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    bytes: [u8; HANDSHAKE_SIZE],
    size: usize,
}

impl Outgoing {
    fn new(packet: &[u8]) -> Self {
        let mut bytes = [0; HANDSHAKE_SIZE];
        bytes[..packet.len()].copy_from_slice(packet);
        Self { bytes, size: packet.len() }
    }

    /// The bytes of the datagram.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

/// A client of one validator.
///
/// Time is a monotonic clock in nanoseconds. The caller sends what [`Self::poll`] and
/// [`Self::seal`] give, hands every datagram from the validator to [`Self::receive`], and calls
/// `poll` again when [`Self::next_wake`] says.
pub struct Client {
    network: [u8; 32],
    key: [u8; 32],
    generator: Generator,
    phase: Phase,
    wait_ns: u64,
    silent_handshakes: u32,
    open: Option<Open>,
}

/// How far the next session is.
enum Phase {
    /// None is asked for.
    Idle,
    /// A hello was sent.
    Hello { nonce: u64, until_ns: u64 },
    /// A cookie came.
    Cookie { nonce: u64, cookie: u64 },
    /// A handshake was sent.
    Handshake { nonce: u64, until_ns: u64, noise: Box<Initiator> },
}

/// The present session.
struct Open {
    session: Session,
    token_key: TokenKey,
    tag_key: TagKey,
    /// The next counter, and the highest that may be used.
    next: u64,
    installed: u64,
    /// When the first submit since the last authentic datagram was sent.
    waiting_since_ns: Option<u64>,
    /// When the last counter was used, or the last authentic datagram came after that.
    dry_since_ns: Option<u64>,
}

impl Client {
    /// A client of the validator that has this admission key.
    ///
    /// `seed` is 32 random bytes that nobody else knows and no other client was made from.
    pub fn new(network: [u8; 32], key: [u8; 32], seed: [u8; 32]) -> Self {
        Self {
            network,
            key,
            generator: Generator::new(seed),
            phase: Phase::Idle,
            wait_ns: WAIT_MIN_NS,
            silent_handshakes: 0,
            open: None,
        }
    }

    /// Says that the admission key should be fetched anew: three handshakes had no reply.
    pub fn needs_key(&self) -> bool {
        self.silent_handshakes >= SILENT_HANDSHAKES_MAX
    }

    /// Takes the validator's present admission key. A handshake under way starts again; a session
    /// that stands stays.
    pub fn set_key(&mut self, key: [u8; 32]) {
        self.key = key;
        self.silent_handshakes = 0;
        self.wait_ns = WAIT_MIN_NS;
        self.phase = Phase::Idle;
    }

    /// The session that submits are sealed for.
    pub fn session(&self) -> Option<Session> {
        self.open.as_ref().map(|open| open.session)
    }

    /// How many submits can be sealed before the validator must be heard from.
    pub fn counters_left(&self) -> u64 {
        self.open.as_ref().map_or(0, Open::left)
    }

    /// The hello or handshake that is due now, if one is.
    pub fn poll(&mut self, now_ns: u64) -> Option<Outgoing> {
        match self.phase {
            Phase::Idle if self.silent_at_ns().is_some_and(|at| at <= now_ns) => {
                let nonce = self.generator.word();
                Some(self.hello(now_ns, nonce))
            }
            // The label stays: a cookie that comes late is as good.
            Phase::Hello { nonce, until_ns } if until_ns <= now_ns => {
                Some(self.hello(now_ns, nonce))
            }
            Phase::Cookie { nonce, cookie } => Some(self.shake(now_ns, nonce, cookie)),
            Phase::Handshake { until_ns, .. } if until_ns <= now_ns => {
                self.silent_handshakes = self.silent_handshakes.saturating_add(1);
                let nonce = self.generator.word();
                Some(self.hello(now_ns, nonce))
            }
            Phase::Idle | Phase::Hello { .. } | Phase::Handshake { .. } => None,
        }
    }

    /// When [`Self::poll`] has something next, if nothing comes before; a time that has passed
    /// means at once.
    pub fn next_wake(&self) -> Option<u64> {
        match self.phase {
            Phase::Idle => self.silent_at_ns(),
            Phase::Hello { until_ns, .. } | Phase::Handshake { until_ns, .. } => Some(until_ns),
            Phase::Cookie { .. } => Some(0),
        }
    }

    /// Puts a transaction into the front of `packet` as a submit, and returns its size; `None`
    /// while there is no session or no counter left.
    ///
    /// Panics: when the transaction is smaller or larger than a datagram may carry.
    pub fn seal(
        &mut self,
        now_ns: u64,
        transaction: &[u8],
        packet: &mut [u8; PACKET_SIZE_MAX],
    ) -> Option<usize> {
        let open = self.open.as_mut().filter(|open| open.left() > 0)?;
        let counter = open.next;
        open.next += 1;
        let token = open.token_key.token(counter);
        let submit = Submit { session: open.session, counter, token, tag: [0; 16], transaction };
        let size = submit.encode(packet);
        open.tag_key.seal(&mut packet[..size]);
        open.waiting_since_ns.get_or_insert(now_ns);
        if open.left() == 0 {
            open.dry_since_ns = Some(now_ns);
        }
        Some(size)
    }

    /// Reads a datagram from the validator. Only one that is authentic, or a cookie with the label
    /// of the last hello, changes anything.
    pub fn receive(&mut self, now_ns: u64, packet: &[u8]) -> Event {
        let event = match Header::decode(packet).map(|header| header.kind) {
            Ok(Kind::Answer) => self.receive_answer(now_ns, packet),
            Ok(Kind::Window) => self.receive_window(now_ns, packet),
            Ok(Kind::Cookie) => self.receive_cookie(packet),
            Ok(Kind::Welcome) => self.receive_welcome(packet),
            Ok(Kind::Submit | Kind::Hello | Kind::Handshake) => Err(Reject::Kind),
            Err(reject) => Err(reject),
        };
        event.unwrap_or_else(Event::Ignored)
    }

    fn receive_answer(&mut self, now_ns: u64, packet: &[u8]) -> Result<Event, Reject> {
        let answer = Answer::decode(packet)?;
        let open = self.open_of(answer.session)?;
        if answer.counter >= open.next {
            return Err(Reject::Counter);
        }
        open.tag_key.open(packet)?;
        open.hear(now_ns, answer.installed);
        Ok(Event::Answer(answer))
    }

    fn receive_window(&mut self, now_ns: u64, packet: &[u8]) -> Result<Event, Reject> {
        let window = Window::decode(packet)?;
        let open = self.open_of(window.session)?;
        open.tag_key.open(packet)?;
        open.hear(now_ns, window.installed);
        Ok(Event::WindowGrew)
    }

    fn receive_cookie(&mut self, packet: &[u8]) -> Result<Event, Reject> {
        let Cookie { nonce, cookie } = Cookie::decode(packet)?;
        match self.phase {
            Phase::Hello { nonce: own, .. } if own == nonce => {
                self.phase = Phase::Cookie { nonce, cookie };
                Ok(Event::Cookie)
            }
            _ => Err(Reject::Counter),
        }
    }

    fn receive_welcome(&mut self, packet: &[u8]) -> Result<Event, Reject> {
        let Welcome { nonce, message } = Welcome::decode(packet)?;
        let grant = match &mut self.phase {
            Phase::Handshake { nonce: own, noise, .. } if *own == nonce => {
                noise.finish(&message)?
            }
            _ => return Err(Reject::Counter),
        };
        self.phase = Phase::Idle;
        self.wait_ns = WAIT_MIN_NS;
        self.silent_handshakes = 0;
        self.open = Some(Open::new(&grant));
        Ok(Event::Established)
    }

    /// The present session, if it is this one.
    fn open_of(&mut self, session: Session) -> Result<&mut Open, Reject> {
        self.open.as_mut().filter(|open| open.session == session).ok_or(Reject::Session)
    }

    /// When the session, or that there is none, is reason to ask for another.
    fn silent_at_ns(&self) -> Option<u64> {
        let Some(open) = &self.open else { return Some(0) };
        let waiting = open.waiting_since_ns.map(|since| since.saturating_add(SILENCE_NS));
        let dry = open.dry_since_ns.map(|since| since.saturating_add(DRY_NS));
        waiting.into_iter().chain(dry).min()
    }

    fn hello(&mut self, now_ns: u64, nonce: u64) -> Outgoing {
        self.phase = Phase::Hello { nonce, until_ns: self.wait_until_ns(now_ns) };
        Outgoing::new(&Hello { nonce }.encode())
    }

    fn shake(&mut self, now_ns: u64, nonce: u64, cookie: u64) -> Outgoing {
        let seed = Zeroizing::new(self.generator.draw());
        let (noise, message) = Initiator::start(&self.network, cookie, &self.key, seed);
        let handshake = Handshake { nonce, cookie, key_id: key::id(&self.key), message };
        let until_ns = self.wait_until_ns(now_ns);
        self.phase = Phase::Handshake { nonce, until_ns, noise: Box::new(noise) };
        Outgoing::new(&handshake.encode())
    }

    /// The end of the next wait: each is twice the one before, less up to a quarter, so that the
    /// clients of a validator that was away do not all come back at one moment.
    fn wait_until_ns(&mut self, now_ns: u64) -> u64 {
        let wait_ns = self.wait_ns - self.generator.word() % (self.wait_ns / 4);
        self.wait_ns = (self.wait_ns * 2).min(WAIT_MAX_NS);
        now_ns.saturating_add(wait_ns)
    }
}

impl Open {
    fn new(grant: &Grant) -> Self {
        Self {
            session: grant.session,
            token_key: TokenKey::new(grant.token_key),
            tag_key: TagKey::new(grant.tag_key),
            next: 1,
            installed: grant.installed,
            waiting_since_ns: None,
            dry_since_ns: None,
        }
    }

    fn left(&self) -> u64 {
        (self.installed + 1).saturating_sub(self.next)
    }

    /// Takes note of an authentic datagram.
    fn hear(&mut self, now_ns: u64, installed: u64) {
        self.installed = self.installed.max(installed);
        self.waiting_since_ns = None;
        self.dry_since_ns = (self.left() == 0).then_some(now_ns);
    }
}
