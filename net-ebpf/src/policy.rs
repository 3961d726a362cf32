//! Who is let in: one function over a packet and the tables, the twin of the kernel program.
//!
//! ```text
//!   frame ─▶ for one of our ports? ──no──▶ Other: passes untouched, later fragments too
//!   options, extension headers, first fragment: dropped
//!              │ UDP                            │ TCP
//!              ▼                                ▼
//!   lengths, magic, version, kind,          SYN? ─no─▶ Other
//!   reserved, source                        a known peer's or anybody's budget for its prefix
//!              │
//!     submit ──┼── the session's generation? ─▶ its slot holds this token? clear it ─▶ Submit
//!     hello ───┼── this CPU's budget? ─▶ source's bucket ─▶ listed? ─▶ Cookie, sent back
//!     handshake┴── this CPU's budget? ─▶ listed? ─▶ cookie right? ─▶ source's bucket ─▶ Handshake
//! ```
//!
//! The checks run cheapest first and stop at the first that fails. What a packet may cost grows
//! only with what its sender has proved: a token needs a session, a session a handshake, a handshake a
//! cookie, and a cookie that its address receives what is sent there. Sources that proved nothing meet in
//! direct-mapped buckets of fixed number, placed by a keyed hash: forged addresses push nobody out.
//!
//! The same tables serve both sides (see [`tables`]). In user space every packet
//! is judged again: the kernel filter drops earlier by the same rules, never by others, and nothing it says
//! is believed.

mod bucket;
pub(crate) mod hash;

pub(crate) use bucket::Pace;
pub use bucket::{BURST_PACKETS_MAX, PACKETS_PER_SECOND_MAX, Rate};

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    Counters, Error, Reject, Verdict,
    abi::{
        COOKIE_SIZE, Cookie, HANDSHAKE_SIZE, HEADER_SIZE, HELLO_SIZE, Kind, MAGIC, PACKET_SIZE_MAX,
        SUBMIT_SIZE_MIN, Session, VERSION,
    },
    frame::{self, Flow, Frame, Parsed},
    session,
    tables::{self, Tables, host_of, network_of},
};

const SUBMIT: u8 = Kind::Submit as u8;
const HELLO: u8 = Kind::Hello as u8;
const HANDSHAKE: u8 = Kind::Handshake as u8;

/// Turns that CPUs which meet in a bucket take; who loses all of them is above any rate.
const TURNS: usize = 4;

/// How much is let in from those who have no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Hellos of one source: an IPv4 address or an IPv6 /64.
    pub hello: Rate,
    /// Handshakes of one source.
    pub handshake: Rate,
    /// Hellos that one CPU looks at, and as many handshakes: cookies that it makes and compares.
    pub reply: Rate,
    /// Attempts of one known peer's address to connect to a validators' port.
    pub peer_syn: Rate,
    /// Attempts of one other network, an IPv4 /24 or an IPv6 /48.
    pub syn: Rate,
}

impl Default for Limits {
    /// The limits of a public validator.
    ///
    /// * hello 50/s, burst 100: a client needs one in hours; behind one address stand many.
    /// * handshake 4/s, burst 16: a quarter of what its network may ([`session`]), so
    ///   that one host cannot spend it all.
    /// * reply 100,000/s, burst 10,000: 100 Mb/s of cookies and a percent of a core for each CPU.
    /// * peer_syn 1,000/s, burst 1,000: a peer dials a few times a second while it is away; who forges its
    ///   address must send more than that to keep it from coming back, and SYN cookies stand behind.
    /// * syn 5/s, burst 20: nobody but peers has business at these ports.
    fn default() -> Self {
        let rate = |packets_per_second, burst_packets| Rate { packets_per_second, burst_packets };
        Self {
            hello: rate(50, 100),
            handshake: rate(4, 16),
            reply: rate(100_000, 10_000),
            peer_syn: rate(1_000, 1_000),
            syn: rate(5, 20),
        }
    }
}

/// Places of the paces in the tables.
const HELLO_PACE: usize = 0;
const HANDSHAKE_PACE: usize = 1;
const REPLY_PACE: usize = 2;
const PEER_SYN_PACE: usize = 3;
const SYN_PACE: usize = 4;

impl Limits {
    /// The rates in the order of the tables.
    ///
    /// Errors: [`Error::Limit`].
    pub(crate) fn paces(&self) -> Result<[Pace; 5], Error> {
        Ok([
            Pace::new(self.hello, ["hello.packets_per_second", "hello.burst_packets"])?,
            Pace::new(self.handshake, ["handshake.packets_per_second", "handshake.burst_packets"])?,
            Pace::new(self.reply, ["reply.packets_per_second", "reply.burst_packets"])?,
            Pace::new(self.peer_syn, ["peer_syn.packets_per_second", "peer_syn.burst_packets"])?,
            Pace::new(self.syn, ["syn.packets_per_second", "syn.burst_packets"])?,
        ])
    }
}

/// What a datagram that was not dropped asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// To take its transaction: the token was right, and is spent.
    Submit,
    /// To shake hands: the address is proved.
    Handshake,
    /// To send this back to where it came from.
    Cookie([u8; COOKIE_SIZE]),
}

/// The admission policy with its tables and counters.
pub struct Policy {
    tables: Tables,
    counters: Counters,
}

impl Policy {
    /// Judges by these tables.
    pub fn new(tables: Tables) -> Self {
        Self { tables, counters: Counters::default() }
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The tables, to put tokens in.
    pub fn tables_mut(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// What was judged since the policy was made.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Judges a datagram that the kernel has taken out of its frame, and counts the verdict.
    ///
    /// `now_ns` is a monotonic clock. `destination` is the address that the packet was sent to:
    /// the cookie is bound to it.
    ///
    /// Errors: the first [`Reject`] that applies, in the order of the module's text.
    pub fn admit(
        &mut self,
        now_ns: u64,
        source: SocketAddr,
        destination: SocketAddr,
        datagram: &[u8],
    ) -> Result<Admitted, Reject> {
        let flow = Flow {
            source: source.ip().to_canonical(),
            destination: destination.ip().to_canonical(),
            source_port: source.port(),
            destination_port: destination.port(),
        };
        let judged = judge_datagram(&self.tables, now_ns, 0, &flow, datagram);
        self.counters.count(match &judged {
            Ok(Admitted::Submit) => Verdict::Submit,
            Ok(Admitted::Handshake) => Verdict::Handshake,
            Ok(Admitted::Cookie(_)) => Verdict::Cookie,
            Err(reject) => Verdict::Drop(*reject),
        });
        judged
    }

    /// Counts a reason that was found after the policy had let a packet in.
    pub fn count(&mut self, reject: Reject) {
        self.counters.count(Verdict::Drop(reject));
    }

    /// Judges a frame as the kernel program does on this CPU, counts the verdict, and turns a
    /// hello into its answer in place.
    pub fn judge_frame(&mut self, now_ns: u64, cpu: usize, frame: &mut [u8]) -> Verdict {
        let verdict = judge_frame(&self.tables, now_ns, cpu, frame);
        self.counters.count(verdict);
        verdict
    }
}

fn judge_frame(tables: &Tables, now_ns: u64, cpu: usize, frame: &mut [u8]) -> Verdict {
    let parsed = match frame::parse(frame) {
        Frame::Opaque => return Verdict::Other,
        Frame::Crowded(to) if tables.local_ports(to) != 0 => return Verdict::Drop(Reject::Header),
        Frame::Crowded(_) => return Verdict::Other,
        Frame::Packet(parsed) => parsed,
    };
    let flow = &parsed.flow;
    let port = match parsed.protocol {
        frame::UDP => tables.udp_port(flow.destination_port),
        frame::TCP => tables.tcp_port(flow.destination_port),
        _ => 0,
    };
    if port == 0 || tables.local_ports(flow.destination) & port == 0 {
        return Verdict::Other;
    }
    if !parsed.is_plain {
        return Verdict::Drop(Reject::Header);
    }
    if parsed.is_cut {
        return Verdict::Drop(Reject::Fragment);
    }
    let judged = if parsed.protocol == frame::UDP {
        judge_udp(tables, now_ns, cpu, &parsed, frame)
    } else {
        judge_tcp(tables, now_ns, &parsed, frame)
    };
    judged.unwrap_or_else(Verdict::Drop)
}

fn judge_udp(
    tables: &Tables,
    now_ns: u64,
    cpu: usize,
    parsed: &Parsed,
    frame: &mut [u8],
) -> Result<Verdict, Reject> {
    let size = frame::be16(frame, parsed.transport + 4).map(usize::from);
    let size = size.filter(|&size| size == parsed.size).ok_or(Reject::Length)?;
    let body = frame.get(parsed.transport..parsed.transport + size).ok_or(Reject::Length)?;
    let datagram = body.get(frame::UDP_SIZE..).ok_or(Reject::TooShort)?;
    match judge_datagram(tables, now_ns, cpu, &parsed.flow, datagram)? {
        Admitted::Submit => Ok(Verdict::Submit),
        Admitted::Handshake => Ok(Verdict::Handshake),
        Admitted::Cookie(_) if !tables.answers() => Ok(Verdict::Hello),
        Admitted::Cookie(answer) => {
            if tables.enforces() {
                send_back(frame, parsed, &answer);
            }
            Ok(Verdict::Cookie)
        }
    }
}

/// Only attempts to connect have a budget.
fn judge_tcp(
    tables: &Tables,
    now_ns: u64,
    parsed: &Parsed,
    frame: &[u8],
) -> Result<Verdict, Reject> {
    let header = frame.get(parsed.transport..parsed.transport + 20).ok_or(Reject::TooShort)?;
    // SYN without ACK.
    if header[13] & 0x12 != 0x02 {
        return Ok(Verdict::Other);
    }
    let source = parsed.flow.source;
    let hash = tables.mix(host_of(source));
    if tables.is_peer(hash) {
        let slot = slot(hash, tables::PEER_SYN_SLOTS);
        let bucket = &tables.state[tables::PEER_SYN_AT + slot];
        let taken = take(bucket, tables.pace(PEER_SYN_PACE), now_ns);
        return taken.then_some(Verdict::PeerSyn).ok_or(Reject::PeerSynRate);
    }
    let hash = tables.mix(network_of(source));
    let bucket = &tables.state[tables::SYN_AT + slot(hash, tables::SYN_SLOTS)];
    take(bucket, tables.pace(SYN_PACE), now_ns).then_some(Verdict::Syn).ok_or(Reject::SynRate)
}

/// Judges a datagram to our port.
fn judge_datagram(
    tables: &Tables,
    now_ns: u64,
    cpu: usize,
    flow: &Flow,
    datagram: &[u8],
) -> Result<Admitted, Reject> {
    if datagram.len() > PACKET_SIZE_MAX {
        return Err(Reject::TooLong);
    }
    let header: &[u8; HEADER_SIZE] = datagram.first_chunk().ok_or(Reject::TooShort)?;
    if header[..2] != MAGIC.to_le_bytes() {
        return Err(Reject::Magic);
    }
    if header[2] != VERSION {
        return Err(Reject::Version);
    }
    let kind = header[3];
    if ![SUBMIT, HELLO, HANDSHAKE].contains(&kind) {
        return Err(Reject::Kind);
    }
    if word(header, 40) != 0 {
        return Err(Reject::Reserved);
    }
    if flow.source_port == 0 || !can_send(flow.source) {
        return Err(Reject::SourceInvalid);
    }
    let session = u32::from_le_bytes(*header[4..].first_chunk().expect("48 bytes"));
    let (counter, token) = (word(header, 8), word(header, 16));
    if kind == SUBMIT {
        if datagram.len() < SUBMIT_SIZE_MIN {
            return Err(Reject::TooShort);
        }
        let session = Session::from_bits(session);
        if session.generation() == 0 {
            return Err(Reject::Session);
        }
        if token == 0 {
            return Err(Reject::Token);
        }
        return spend(tables, session, counter, token).map(|()| Admitted::Submit);
    }
    if session != 0 {
        return Err(Reject::Session);
    }
    if header[24..40] != [0; 16] {
        return Err(Reject::Token);
    }
    let epoch = now_ns >> 35;
    // What this CPU does for strangers has a budget, looked at before anything that costs; who sends
    // wrong cookies takes nothing from those who ask for one.
    let budgets = if kind == HELLO { tables::REPLY_AT } else { tables::CHECK_AT };
    let budget = &tables.state[budgets + cpu % tables::CPUS];
    let spent = tables.pace(REPLY_PACE).take(budget.load(Relaxed), now_ns);
    if kind == HELLO {
        if datagram.len() != HELLO_SIZE {
            return Err(Reject::TooLong);
        }
        if token != 0 {
            return Err(Reject::Token);
        }
        let spent = spent.ok_or(Reject::ReplyRate)?;
        let hash = tables.mix(host_of(flow.source));
        // One source's flood ends here and leaves the budget to others.
        let bucket = &tables.state[slot(hash, tables::HELLO_SLOTS)];
        if !take(bucket, tables.pace(HELLO_PACE), now_ns) {
            return Err(Reject::SourceRate);
        }
        if tables.is_blocked(hash, now_ns) {
            return Err(Reject::SourceDenied);
        }
        budget.store(spent, Relaxed);
        let cookie = cookie(tables, flow, epoch);
        return Ok(Admitted::Cookie(Cookie { nonce: counter, cookie }.encode()));
    }
    if datagram.len() < HANDSHAKE_SIZE {
        return Err(Reject::TooShort);
    }
    if datagram.len() > HANDSHAKE_SIZE {
        return Err(Reject::TooLong);
    }
    let spent = spent.ok_or(Reject::ReplyRate)?;
    let hash = tables.mix(host_of(flow.source));
    if tables.is_blocked(hash, now_ns) {
        return Err(Reject::SourceDenied);
    }
    budget.store(spent, Relaxed);
    let is_right = [epoch, epoch.wrapping_sub(1)]
        .into_iter()
        .any(|epoch| token == cookie(tables, flow, epoch));
    if !is_right {
        return Err(Reject::Cookie);
    }
    let bucket = &tables.state[tables::HANDSHAKE_AT + slot(hash, tables::HANDSHAKE_SLOTS)];
    if !take(bucket, tables.pace(HANDSHAKE_PACE), now_ns) {
        return Err(Reject::SourceRate);
    }
    Ok(Admitted::Handshake)
}

/// Clears the slot that waits for this token.
fn spend(tables: &Tables, session: Session, counter: u64, token: u64) -> Result<(), Reject> {
    if tables.generation(session.index()) != Some(session.generation()) {
        return Err(Reject::Session);
    }
    let slot = tables.tokens.get(session::slot(session, counter)).ok_or(Reject::Session)?;
    if slot.load(Relaxed) != token {
        return Err(Reject::Token);
    }
    // Of copies on several threads one passes.
    slot.compare_exchange(token, 0, Relaxed, Relaxed).map(drop).map_err(|_| Reject::Token)
}

/// Whether a packet can have been sent from here, and an answer be sent back.
fn can_send(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// The place of a bucket: bits of the hash that the lists do not use first.
fn slot(hash: u64, slots: usize) -> usize {
    usize::try_from(hash >> 8 & (slots as u64 - 1)).expect("below the number of slots")
}

fn take(bucket: &AtomicU64, pace: Pace, now_ns: u64) -> bool {
    for _ in 0..TURNS {
        let old = bucket.load(Relaxed);
        let Some(next) = pace.take(old, now_ns) else {
            return false;
        };
        if bucket.compare_exchange(old, next, Relaxed, Relaxed).is_ok() {
            return true;
        }
    }
    false
}

/// The cookie of addresses, ports and an epoch, as the program computes it from a frame.
fn cookie(tables: &Tables, flow: &Flow, epoch: u64) -> u64 {
    let key = hash::Key::from_words(tables.cookie_key());
    let ports = u64::from(flow.source_port.to_be())
        | u64::from(flow.destination_port.to_be()) << 16
        | epoch << 32;
    match (flow.source, flow.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (tables::wire_v4(source), tables::wire_v4(destination));
            key.hash([u64::from(source) | u64::from(destination) << 32, ports])
        }
        (source, destination) => {
            let [a, b] = tables::wire_v6(in_v6(source));
            let [c, d] = tables::wire_v6(in_v6(destination));
            key.hash([a, b, c, d, ports])
        }
    }
}

/// A pair of addresses is of one family on the wire; this is for what no wire carries.
fn in_v6(ip: IpAddr) -> std::net::Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Turns a frame around and puts the answer in the place of the request, which is as long.
fn send_back(frame: &mut [u8], parsed: &Parsed, answer: &[u8; COOKIE_SIZE]) {
    let Parsed { network, transport, .. } = *parsed;
    let (to, from) = frame.split_at_mut(6);
    to.swap_with_slice(&mut from[..6]);
    let body = transport + frame::UDP_SIZE;
    frame[body..body + COOKIE_SIZE].copy_from_slice(answer);
    let (source, destination) = frame[transport..].split_at_mut(2);
    source.swap_with_slice(&mut destination[..2]);
    let addresses = match parsed.flow.source {
        IpAddr::V4(_) => {
            frame[network + 8] = 64;
            network + 12..network + 20
        }
        IpAddr::V6(_) => {
            frame[network + 7] = 64;
            network + 8..network + 40
        }
    };
    let (source, destination) = frame[addresses.clone()].split_at_mut(addresses.len() / 2);
    source.swap_with_slice(destination);
    if parsed.flow.source.is_ipv4() {
        frame[network + 10..network + 12].fill(0);
        let sum = frame::checksum(frame[network..network + 20].iter().copied());
        frame[network + 10..network + 12].copy_from_slice(&sum.to_be_bytes());
    }
    frame[transport + 6..transport + 8].fill(0);
    let pseudo = [0, frame::UDP].into_iter().chain(frame[transport + 4..transport + 6].to_vec());
    let whole = frame[transport..body + COOKIE_SIZE].iter();
    let sum = frame::checksum(pseudo.chain(frame[addresses].iter().chain(whole).copied()));
    // Zero means that there is none (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    frame[transport + 6..transport + 8].copy_from_slice(&sum.to_be_bytes());
}

/// The word at this place of a header.
fn word(header: &[u8; HEADER_SIZE], at: usize) -> u64 {
    u64::from_le_bytes(*header[at..].first_chunk().expect("a place inside the header"))
}

#[cfg(test)]
pub(crate) mod tests;
