//! The application behind the filter: a thread that receives datagrams and lets in those that are
//! honest, each once, as a validator's ingest does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net_ebpf::abi::{PACKET_SIZE_MAX, Session, Submit};
use net_ebpf::policy::{Admitted, Policy};
use net_ebpf::receive::{Ingress, Outgoing};
use net_ebpf::session::{TagKey, TokenKey, Tokens, slot};

use super::frame::{Header, SUBMIT_SIZE};
use super::host::{CPU_RECEIVER, pin, schedule, this_thread};
use super::program::{SESSIONS, WINDOW};
use super::stage::thread_time;
use crate::suite::Failure;

/// How long the thread waits before it looks whether it is to end.
const WAIT: Duration = Duration::from_millis(10);

/// All sessions, both ends' view of them.
pub(super) struct Sessions {
    keys: Vec<(TokenKey, TagKey)>,
    /// The tokens of every slot, as a server installs them.
    installed: Vec<u64>,
}

impl Sessions {
    /// Makes the keys that this seed gives, and so many tokens of each session.
    pub(super) fn new(seed: u64, counters: u32) -> Self {
        assert!(counters <= WINDOW, "a session has no more tokens");
        let key = |index: u32| {
            let bytes = random_bytes(seed, index);
            let (token, tag) = bytes.split_at(16);
            let token = TokenKey::new(token.try_into().expect("split at 16"));
            (token, TagKey::new(tag.try_into().expect("48 less 16 bytes")))
        };
        let keys: Vec<_> = (0..SESSIONS).map(key).collect();
        let mut installed = vec![0; SESSIONS as usize * WINDOW as usize];
        for (index, (token, _)) in (0..).zip(&keys) {
            for counter in 1..=u64::from(counters) {
                installed[slot(session(index), counter)] = token.token(counter);
            }
        }
        Self { keys, installed }
    }

    /// The headers of honest submits with bodies of zeros, in the order in which they are sent:
    /// one from each session, and again.
    pub(super) fn submits(&self, count: u32) -> Vec<Header> {
        assert!(count < SESSIONS * WINDOW, "each token admits once");
        (0..count).map(|place| self.submit(place % SESSIONS, place / SESSIONS + 1)).collect()
    }

    fn submit(&self, index: u32, counter: u32) -> Header {
        let (token, tag) = &self.keys[index as usize];
        let counter = u64::from(counter);
        let transaction = [0; SUBMIT_SIZE - 48];
        let token = token.token(counter);
        let submit = Submit {
            session: session(index),
            counter,
            token,
            tag: [0; 16],
            transaction: &transaction,
        };
        let mut packet = [0; PACKET_SIZE_MAX];
        let size = submit.encode(&mut packet);
        tag.seal(&mut packet[..size]);
        std::array::from_fn(|word| {
            let bytes = &packet[8 * word..8 * word + 8];
            u64::from_le_bytes(bytes.try_into().expect("eight bytes of a range of eight"))
        })
    }

    /// Puts every session's tokens in place.
    pub(super) fn install(&self, tokens: &mut impl Tokens) {
        for index in (0..).take(self.keys.len()) {
            tokens.open(session(index));
        }
        for (slot, token) in self.installed.iter().enumerate() {
            tokens.put(slot, *token);
        }
    }

    /// What the application itself waits for.
    pub(super) fn door(&self) -> Door<'_> {
        Door { sessions: self, waiting: self.installed.clone() }
    }
}

/// The bytes of a session's keys, decided by the seed.
fn random_bytes(seed: u64, session: u32) -> [u8; 48] {
    let mut hasher = blake3::Hasher::new_derive_key("althing bench sessions v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&session.to_le_bytes());
    let mut bytes = [0; 48];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn session(index: u32) -> Session {
    Session::new(index, 1)
}

/// The application's own judgement, which believes no filter.
pub(super) struct Door<'a> {
    sessions: &'a Sessions,
    /// Like a filter's tokens: what each slot waits for, 0 once it came.
    waiting: Vec<u64>,
}

impl Door<'_> {
    /// Whether a datagram is an honest submit that has not come before.
    pub(super) fn opens(&mut self, datagram: &[u8]) -> bool {
        let Ok(submit) = Submit::decode(datagram) else {
            return false;
        };
        let keys = self.sessions.keys.get(submit.session.index() as usize);
        let Some((_, tag)) = keys.filter(|_| submit.session.generation() == 1) else {
            return false;
        };
        let waiting = &mut self.waiting[slot(submit.session, submit.counter)];
        if *waiting != submit.token || tag.open(datagram).is_err() {
            return false;
        }
        *waiting = 0;
        true
    }
}

/// What the application saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    /// Datagrams of any kind.
    pub(super) packets: u64,
    /// Honest submits, each once.
    pub(super) accepted: u64,
    /// Processor time of its thread.
    pub(super) time: Duration,
}

/// Receives until it is told to stop, then takes what is still there; `ready` is set once it
/// listens.
///
/// Errors: the machine's.
pub(super) fn serve(
    mut ingress: Ingress,
    mut door: Door<'_>,
    mut twin: Option<Policy>,
    ready: &AtomicBool,
    stop: &AtomicBool,
) -> Result<Received, Failure> {
    let failed = |error| Failure::machine("receive", error);
    pin(None, CPU_RECEIVER)?;
    schedule(this_thread(), "-r", 10)?;
    let mut sender = ingress.receiver().sender().map_err(failed)?;
    let (clock, began) = (Instant::now(), thread_time());
    let mut received = Received::default();
    ready.store(true, Ordering::Release);
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        let batch = ingress.receive(if stopped { Duration::ZERO } else { WAIT }).map_err(failed)?;
        if batch.is_empty() && stopped {
            break;
        }
        let now_ns = u64::try_from(clock.elapsed().as_nanos()).expect("centuries");
        let mut cookies = Vec::new();
        for packet in batch.iter() {
            received.packets += 1;
            if let Some(twin) = &mut twin {
                match twin.admit(now_ns, packet.address, packet.destination, packet.bytes) {
                    Ok(Admitted::Submit) => {}
                    Ok(Admitted::Cookie(cookie)) => {
                        cookies.push((packet.address, cookie));
                        continue;
                    }
                    Ok(Admitted::Handshake) | Err(_) => continue,
                }
            }
            received.accepted += u64::from(door.opens(packet.bytes));
        }
        for (address, cookie) in &cookies {
            sender.send(&[Outgoing { address: *address, bytes: cookie }]);
        }
    }
    received.time = thread_time().saturating_sub(began);
    Ok(received)
}
