//! The packets that are measured, and what each must be answered.

use net_ebpf::{Reject, Verdict};

use super::super::frame::{
    CLIENT, HANDSHAKE, HANDSHAKE_SIZE, HEADER_SIZE, HELLO, SUBMIT, SUBMIT_SIZE, datagram, header,
    session, syn, udp, udp_v6,
};
use super::super::program::{Action, SESSIONS};
use super::{COUNTER, TCP_PORT, TOKEN};
use crate::suite::Label;

/// How packets differ from run to run; the numbers are those of `enum change`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Change {
    Session = 0,
    Slot = 1,
    Source = 2,
    /// Nothing differs, but the answer stands where the packet was.
    Hello = 3,
    HelloSource = 4,
    Generation = 5,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A program without the filter.
    Alone(&'static str),
    Filter(Option<Change>),
}

/// Budgets that are used up, so that a packet which needs one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    Nothing,
    /// Those of sources.
    Sources,
    /// That for answers.
    Replies,
}

/// One row.
pub(super) struct Case {
    pub(super) label: Label,
    pub(super) subject: Subject,
    pub(super) packet: Vec<u8>,
    pub(super) spent: Spent,
    pub(super) action: Action,
    /// The verdict that is counted, where the filter gives one.
    pub(super) verdict: Option<Verdict>,
}

impl Case {
    fn alone(name: &str, program: &'static str, packet: &[u8], action: Action) -> Self {
        Self {
            label: Label::new(name),
            subject: Subject::Alone(program),
            packet: packet.to_vec(),
            spent: Spent::Nothing,
            action,
            verdict: None,
        }
    }

    fn filter(what: &str, packet: &[u8], verdict: Verdict) -> Self {
        let action = match verdict {
            Verdict::Cookie => Action::Transmit,
            Verdict::Drop(_) => Action::Drop,
            Verdict::Other
            | Verdict::Submit
            | Verdict::Handshake
            | Verdict::PeerSyn
            | Verdict::Syn
            | Verdict::Hello => Action::Pass,
        };
        Self {
            label: Label::new("net::filter").with("packet", what),
            subject: Subject::Filter(None),
            packet: packet.to_vec(),
            spent: Spent::Nothing,
            action,
            verdict: Some(verdict),
        }
    }

    fn changed(self, change: Change) -> Self {
        let label = match change {
            Change::Session => self.label.with("sessions", SESSIONS.to_string()),
            Change::Slot | Change::Generation => self.label.with("slots", "random"),
            Change::Source | Change::HelloSource => self.label.with("sources", "random"),
            Change::Hello => self.label,
        };
        Self { label, subject: Subject::Filter(Some(change)), ..self }
    }

    fn spent(self, spent: Spent) -> Self {
        let label = match spent {
            Spent::Nothing => self.label,
            Spent::Sources => self.label.with("rate", "exceeded"),
            Spent::Replies => self.label.with("replies", "exceeded"),
        };
        Self { label, spent, ..self }
    }
}

/// All of them; the first is the baseline.
pub(super) fn all() -> Vec<Case> {
    let mut cases = vec![
        Case::alone("net::empty", "empty_drop", &accepted(), Action::Drop),
        Case::alone("net::empty_pass", "empty_pass", &accepted(), Action::Pass),
        Case::alone("net::ideal", "ideal", &accepted(), Action::Pass),
    ];
    cases.extend(others());
    cases.extend(submits());
    cases.extend(unproved());
    cases
}

fn submit(token: u64) -> Vec<u8> {
    datagram(&header(SUBMIT, session(1), COUNTER, token), SUBMIT_SIZE)
}

fn accepted() -> Vec<u8> {
    udp(CLIENT, &submit(TOKEN))
}

/// What is not ours, and what is no datagram of the protocol.
fn others() -> Vec<Case> {
    let mut arp = vec![0xff; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut other_port = accepted();
    other_port[37] ^= 1;
    let short = udp(CLIENT, &[0; 18]);
    let garbage = udp(CLIENT, &datagram(&[0x9e37_79b9_7f4a_7c15; 6], SUBMIT_SIZE));
    vec![
        Case::filter("arp", &arp, Verdict::Other),
        Case::filter("other_port", &other_port, Verdict::Other),
        Case::filter("short", &short, Verdict::Drop(Reject::TooShort)),
        Case::filter("garbage", &garbage, Verdict::Drop(Reject::Magic)),
    ]
}

/// What comes from sessions, or says so.
fn submits() -> Vec<Case> {
    let forged = || {
        let packet = udp(CLIENT, &submit(!TOKEN));
        Case::filter("forged", &packet, Verdict::Drop(Reject::Token))
    };
    let guessed = udp(CLIENT, &submit(!TOKEN));
    let guessed = Case::filter("forged_session", &guessed, Verdict::Drop(Reject::Session));
    let accepted = || Case::filter("accepted", &accepted(), Verdict::Submit);
    let v6 = Case::filter("accepted", &udp_v6(&submit(TOKEN)), Verdict::Submit);
    vec![
        forged(),
        forged().changed(Change::Session),
        forged().changed(Change::Slot),
        guessed.changed(Change::Generation),
        accepted(),
        accepted().changed(Change::Session),
        accepted().changed(Change::Slot),
        Case { label: v6.label.clone().with("family", "ipv6"), ..v6 },
    ]
}

/// What comes from sources that have proved nothing.
fn unproved() -> Vec<Case> {
    let hello = |verdict| {
        let packet = udp(CLIENT, &datagram(&header(HELLO, 0, 7, 0), HEADER_SIZE));
        Case::filter("hello", &packet, verdict)
    };
    let handshake = || {
        let bytes = datagram(&header(HANDSHAKE, 0, 7, !TOKEN), HANDSHAKE_SIZE);
        Case::filter("handshake", &udp(CLIENT, &bytes), Verdict::Drop(Reject::Cookie))
    };
    let syn = |verdict| Case::filter("syn", &syn(CLIENT, TCP_PORT), verdict);
    let (rate, replies) = (Verdict::Drop(Reject::SourceRate), Verdict::Drop(Reject::ReplyRate));
    vec![
        hello(Verdict::Cookie).changed(Change::Hello),
        hello(Verdict::Cookie).changed(Change::HelloSource),
        hello(rate).changed(Change::Hello).spent(Spent::Sources),
        hello(rate).changed(Change::HelloSource).spent(Spent::Sources),
        hello(replies).changed(Change::HelloSource).spent(Spent::Replies),
        handshake(),
        handshake().changed(Change::Source),
        syn(Verdict::Syn),
        syn(Verdict::Syn).changed(Change::Source),
        syn(Verdict::Drop(Reject::SynRate)).spent(Spent::Sources),
    ]
}
