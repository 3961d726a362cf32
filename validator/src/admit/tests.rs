//! Admission against what clients may send: every refusal, chains within a round, and forgeries.

use super::*;
use crate::{handle::Submission, held::SignedMessages};
use ed25519_dalek::{Signer as _, SigningKey};
use ledger::{Draft, Outcome, Signature, Transfer};
use net_ebpf::{abi::Session, session::Standing};
use tokio::sync::mpsc;

const NETWORK: Digest = Digest([3; 32]);
const BALANCE: u64 = 100_000;

fn author(number: u8) -> (SigningKey, PublicKey) {
    let key = SigningKey::from_bytes(&[number; 32]);
    let public = PublicKey(key.verifying_key().to_bytes());
    (key, public)
}

fn core() -> Core {
    let account = Account { balance: BALANCE, sequence: 0, head: Digest::ZERO };
    let poor = Account { balance: 5, ..account };
    let accounts = [(author(1).1, account), (author(2).1, account), (author(3).1, poor)];
    let room = Arc::new(AtomicUsize::new(0));
    let accounts = accounts.into_iter();
    Core::new(NETWORK, Parameters::default(), Height(10), &accounts.collect(), room, 10_000)
}

struct Link {
    author: u8,
    sequence: u64,
    previous: Digest,
    valid_until: u64,
    network: Digest,
    body: Vec<u8>,
    kind: Kind,
}

fn link(author: u8, sequence: u64, previous: Digest) -> Link {
    let body = b"record".to_vec();
    let network = NETWORK;
    Link { author, sequence, previous, valid_until: 1_000, network, body, kind: Kind::Record }
}

impl Link {
    fn sign(&self) -> (Vec<u8>, Digest) {
        let (key, public) = author(self.author);
        let draft = Draft {
            kind: self.kind,
            author: public,
            sequence: self.sequence,
            previous: self.previous,
            valid_until: Height(self.valid_until),
            body: &self.body,
        };
        draft.sign(&self.network, |m: &[u8; 47]| Signature(key.sign(m).to_bytes())).unwrap()
    }
}

struct Client(mpsc::Receiver<Answer>);

impl Client {
    fn next(&mut self) -> Option<Answer> {
        self.0.try_recv().ok()
    }
}

fn request(bytes: Vec<u8>) -> (Request, Client) {
    let (reply, answers) = Reply::http(true);
    (Request::Submit(Submission::new(bytes, reply)), Client(answers))
}

/// A request that came by a session of its own, whose standing can be looked at.
fn in_session(bytes: Vec<u8>) -> (Request, (Arc<Standing>, Session)) {
    let mut pair = crate::handle::tests::Pair::new();
    let (ticket, standing) = pair.ticket();
    let session = ticket.session();
    let (answers, _) = crossbeam::channel::bounded(4);
    let dropped = prometheus_client::metrics::counter::Counter::default();
    let reply =
        crate::handle::UdpReply::new(pair.address, ticket, standing.clone(), answers, dropped);
    let submission = Submission::new(bytes, Reply::Udp(Arc::new(reply)));
    (Request::Submit(submission), (standing, session))
}

/// One round in which every signature is judged by whether its last byte is even: a stand-in that
/// lets a test forge.
fn round(
    core: &mut Core,
    now: u64,
    all: Vec<Vec<u8>>,
    valid: impl Fn(usize) -> bool,
) -> (Vec<Digest>, Vec<Answer>) {
    let (requests, mut clients): (Vec<_>, Vec<_>) = all.into_iter().map(request).unzip();
    let mut messages = SignedMessages::default();
    let candidates = core.sift(now, requests, &mut messages);
    assert_eq!(candidates.len(), messages.len());
    let verdicts: Vec<bool> = (0..candidates.len()).map(valid).collect();
    let admitted = core.settle(now, candidates, &verdicts);
    let answers = clients.iter_mut().map(|client| client.next().expect("one answer at once"));
    let answers = answers.collect();
    (admitted.into_iter().map(|admitted| admitted.id).collect(), answers)
}

fn refusal(core: &mut Core, bytes: Vec<u8>) -> (Refusal, Option<Expected>) {
    let (admitted, answers) = round(core, 0, vec![bytes], |_| true);
    assert!(admitted.is_empty());
    match answers[0] {
        Answer::Refused { refusal, expected, .. } => (refusal, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_cheap_refusal_has_its_reason() {
    let mut core = core();
    let first = Some(Expected { sequence: 0, previous: Digest::ZERO });
    let good = link(1, 0, Digest::ZERO);
    let cases = [
        (vec![1, 2, 3], Refusal::Malformed, None),
        (
            Link { network: Digest([9; 32]), ..link(1, 0, Digest::ZERO) }.sign().0,
            Refusal::WrongNetwork,
            None,
        ),
        (Link { valid_until: 10, ..link(1, 0, Digest::ZERO) }.sign().0, Refusal::Expired, None),
        (link(7, 0, Digest::ZERO).sign().0, Refusal::UnknownAuthor, None),
        (link(3, 0, Digest::ZERO).sign().0, Refusal::Unfunded, first),
        (link(1, 1, Digest::ZERO).sign().0, Refusal::Ahead, first),
        (link(1, 0, Digest([1; 32])).sign().0, Refusal::Forked, first),
        (Link { body: vec![0; 20_000], ..good }.sign().0, Refusal::LaneFull, first),
    ];
    for (bytes, reason, expected) in cases {
        assert_eq!(refusal(&mut core, bytes), (reason, expected));
    }
    let refused: u64 = core.take_refused().iter().map(|(_, count)| count).sum();
    assert_eq!(refused, 8);
    assert!(core.take_refused().is_empty());
}

#[test]
fn a_transfer_must_be_covered_whole() {
    let mut core = core();
    let transfer = |amount| {
        let body = Transfer { to: author(2).1, amount }.encode().to_vec();
        Link { kind: Kind::Transfer, body, ..link(1, 0, Digest::ZERO) }.sign().0
    };
    assert_eq!(refusal(&mut core, transfer(BALANCE)).0, Refusal::Unfunded);
    let (admitted, _) = round(&mut core, 0, vec![transfer(BALANCE / 2)], |_| true);
    assert_eq!(admitted.len(), 1);
}

#[test]
fn links_of_one_round_build_on_each_other() {
    let mut core = core();
    let (first, a) = link(1, 0, Digest::ZERO).sign();
    let (second, b) = link(1, 1, a).sign();
    let (third, _) = link(1, 2, Digest([8; 32])).sign();
    let (admitted, answers) = round(&mut core, 0, vec![first, second, third.clone()], |_| true);
    assert_eq!(admitted, [a, b]);
    // Nothing that was checked speaks against the third yet; then it does.
    assert!(matches!(answers[2], Answer::Refused { refusal: Refusal::Ahead, .. }));
    let head = Expected { sequence: 2, previous: b };
    assert_eq!(refusal(&mut core, third), (Refusal::Forked, Some(head)));
    let view = core.account(&author(1).1).unwrap();
    assert_eq!((view.sequence, view.pending_sequence, view.pending_head), (0, 2, b));
}

#[test]
fn a_forged_link_moves_nothing_and_drags_down_only_what_builds_on_it() {
    let mut core = core();
    let (forged, a) = link(1, 0, Digest::ZERO).sign();
    let (after, _) = link(1, 1, a).sign();
    let (other, b) = link(2, 0, Digest::ZERO).sign();
    let (admitted, answers) = round(&mut core, 0, vec![forged, after, other], |index| index != 0);
    assert_eq!(admitted, [b]);
    assert!(matches!(answers[0], Answer::Refused { refusal: Refusal::InvalidSignature, .. }));
    assert!(matches!(answers[1], Answer::Refused { refusal: Refusal::Ahead, .. }));
    let honest = Link { body: b"honest".to_vec(), ..link(1, 0, Digest::ZERO) }.sign();
    let (admitted, _) = round(&mut core, 0, vec![honest.0], |_| true);
    assert_eq!(admitted, [honest.1]);
}

#[test]
fn a_forged_link_in_front_of_an_honest_one_does_not_accuse_it() {
    let mut core = core();
    let fill = |text: &str| Link { body: text.into(), ..link(1, 0, Digest::ZERO) }.sign();
    let ((forged, _), (honest, a), (other, _)) = (fill("forged"), fill("honest"), fill("other"));
    let (after, b) = link(1, 1, a).sign();
    let all = vec![forged, honest, other, after];
    let (admitted, answers) = round(&mut core, 0, all, |index| index != 0);
    assert_eq!(admitted, [a, b]);
    assert!(matches!(answers[0], Answer::Refused { refusal: Refusal::InvalidSignature, .. }));
    // Its author signed two links to one head: the first stands, the second is told so.
    let head = Expected { sequence: 1, previous: a };
    assert!(matches!(answers[2], Answer::Refused { refusal: Refusal::Forked, expected, .. }
        if expected == Some(head)));
}

#[test]
fn a_copy_with_a_forged_signature_is_its_senders_alone() {
    let (honest, id) = link(1, 0, Digest::ZERO).sign();
    let mut forged = honest.clone();
    *forged.last_mut().unwrap() ^= 1;
    for honest_place in [0, 1] {
        let mut core = core();
        let mut all = vec![forged.clone(), forged.clone()];
        all[honest_place] = honest.clone();
        let (requests, standings): (Vec<_>, Vec<_>) = all.into_iter().map(in_session).unzip();
        let mut messages = SignedMessages::default();
        let candidates = core.sift(0, requests, &mut messages);
        assert_eq!(messages.len(), 2, "each is checked for itself");
        let verdicts = [honest_place == 0, honest_place == 1];
        let admitted = core.settle(0, candidates, &verdicts);
        assert_eq!(admitted.into_iter().map(|one| one.id).collect::<Vec<_>>(), [id]);
        for (place, (standing, session)) in standings.into_iter().enumerate() {
            let refused = place != honest_place;
            // One blame was counted for the forger already, or none for the other.
            (0..net_ebpf::session::BLAMES_MAX - 1).for_each(|_| standing.blamed(session));
            assert_eq!(standing.has_ended(session), refused, "{place} of {honest_place}");
        }
    }
}

#[test]
fn one_transaction_signed_twice_is_admitted_once_and_nobody_is_refused() {
    let mut core = core();
    let (bytes, id) = link(1, 0, Digest::ZERO).sign();
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    // As if both signatures held: a signer may draw its nonce.
    let (admitted, answers) = round(&mut core, 0, vec![bytes, other], |_| true);
    assert_eq!(admitted, [id]);
    assert_eq!(answers, [Answer::Accepted { id }, Answer::Accepted { id }]);
}

#[test]
fn forged_links_of_one_round_are_bounded_for_each_author() {
    let mut core = core();
    let forged = |number: usize| {
        Link { body: number.to_le_bytes().into(), ..link(1, 0, Digest::ZERO) }.sign().0
    };
    let all: Vec<_> = (0..PENDING_LINKS_MAX + 3).map(forged).collect();
    let (admitted, answers) = round(&mut core, 0, all, |_| false);
    assert!(admitted.is_empty());
    let busy = |answer: &&Answer| matches!(answer, Answer::Refused { refusal: Refusal::Busy, .. });
    assert_eq!(answers.iter().filter(busy).count(), 3);
}

#[test]
fn the_same_bytes_twice_in_a_round_are_checked_once_and_both_senders_told() {
    let (bytes, id) = link(1, 0, Digest::ZERO).sign();
    for valid in [true, false] {
        let mut core = core();
        let (requests, mut clients): (Vec<_>, Vec<_>) =
            (0..WAITERS_MAX + 3).map(|_| request(bytes.clone())).unzip();
        let mut messages = SignedMessages::default();
        let candidates = core.sift(0, requests, &mut messages);
        assert_eq!((candidates.len(), messages.len()), (1, 1));
        assert_eq!(core.settle(0, candidates, &[valid]).len(), usize::from(valid));
        let answers: Vec<_> = clients.iter_mut().map_while(Client::next).collect();
        assert_eq!(answers.len(), WAITERS_MAX + 3);
        let is_busy =
            |answer: &Answer| matches!(answer, Answer::Refused { refusal: Refusal::Busy, .. });
        assert_eq!(answers.iter().filter(|answer| is_busy(answer)).count(), 2);
        for answer in answers.into_iter().filter(|answer| !is_busy(answer)) {
            let is_right = match answer {
                Answer::Accepted { id: told } => valid && told == id,
                Answer::Refused { refusal, .. } => !valid && refusal == Refusal::InvalidSignature,
                Answer::Final { .. } | Answer::Unknown { .. } => false,
            };
            assert!(is_right, "{answer:?}");
        }
        if valid {
            let done = done(11, vec![(id, Outcome::Applied)], vec![]);
            core.executed(0, &done);
            let told = clients.iter_mut().filter_map(Client::next).count();
            assert_eq!(told, WAITERS_MAX, "as many as may wait");
        }
    }
}

#[test]
fn the_same_bytes_again_are_accepted_and_not_admitted_twice() {
    let mut core = core();
    let (bytes, id) = link(1, 0, Digest::ZERO).sign();
    assert_eq!(round(&mut core, 0, vec![bytes.clone()], |_| true).0, [id]);
    let (admitted, answers) = round(&mut core, 1, vec![bytes], |_| true);
    assert!(admitted.is_empty());
    assert_eq!(answers, [Answer::Accepted { id }]);
}

#[test]
fn pending_links_are_limited_and_forgotten_in_time() {
    let mut core = core();
    let mut previous = Digest::ZERO;
    for sequence in 0..PENDING_LINKS_MAX as u64 {
        let (bytes, id) = link(1, sequence, previous).sign();
        assert_eq!(round(&mut core, 0, vec![bytes], |_| true).0, [id]);
        previous = id;
    }
    let (more, _) = link(1, PENDING_LINKS_MAX as u64, previous).sign();
    assert_eq!(refusal(&mut core, more).0, Refusal::Busy);
    let (again, id) = Link { body: b"later".to_vec(), ..link(1, 0, Digest::ZERO) }.sign();
    let (admitted, _) = round(&mut core, PENDING_NS + 1, vec![again], |_| true);
    assert_eq!(admitted, [id]);
}

fn done(
    height: u64,
    outcomes: Vec<(Digest, Outcome)>,
    accounts: Vec<(u32, PublicKey, Account)>,
) -> Done {
    let history_root = Digest::ZERO;
    let (accounts, mark) = (accounts.into(), None);
    let (height, leaf) = (Height(height), Digest::ZERO);
    let parameters = None;
    Done { height, time_ms: 0, outcomes, accounts, parameters, mark, history_root, leaf, token: 0 }
}

#[test]
fn execution_moves_accounts_and_tells_who_waits() {
    let mut core = core();
    let (first, a) = link(1, 0, Digest::ZERO).sign();
    let (second, b) = link(1, 1, a).sign();
    let (request, mut client) = request(first);
    let candidates = core.sift(0, vec![request], &mut SignedMessages::default());
    core.settle(0, candidates, &[true]);
    round(&mut core, 0, vec![second.clone()], |_| true);
    let key = author(1).1;
    let account = Account { balance: 90_000, sequence: 1, head: a };
    core.executed(0, &done(11, vec![(a, Outcome::Applied)], vec![(0, key, account)]));
    assert_eq!(client.next(), Some(Answer::Accepted { id: a }));
    let told = Answer::Final { id: a, height: Height(11), outcome: Outcome::Applied };
    assert_eq!(client.next(), Some(told));
    let view = core.account(&key).unwrap();
    assert_eq!((view.sequence, view.pending_sequence, view.pending_head), (1, 2, b));
    // Another validator executed another link: what was pending here came to nothing.
    let account = Account { balance: 80_000, sequence: 2, head: Digest([7; 32]) };
    core.executed(0, &done(12, vec![], vec![(0, key, account)]));
    let view = core.account(&key).unwrap();
    assert_eq!((view.pending_sequence, view.pending_head), (2, Digest([7; 32])));
    assert_eq!(refusal(&mut core, second).0, Refusal::Stale);
}

#[test]
fn a_new_account_can_send_as_soon_as_it_exists() {
    let mut core = core();
    let (bytes, id) = link(7, 0, Digest::ZERO).sign();
    assert_eq!(refusal(&mut core, bytes.clone()).0, Refusal::UnknownAuthor);
    let account = Account { balance: BALANCE, sequence: 0, head: Digest::ZERO };
    core.executed(0, &done(11, vec![], vec![(3, author(7).1, account)]));
    assert_eq!(round(&mut core, 0, vec![bytes], |_| true).0, [id]);
}

#[test]
fn an_outcome_that_is_not_final_tells_nobody() {
    let mut core = core();
    let (request, mut client) = request(link(1, 0, Digest::ZERO).sign().0);
    let id = link(1, 0, Digest::ZERO).sign().1;
    let candidates = core.sift(0, vec![request], &mut SignedMessages::default());
    core.settle(0, candidates, &[true]);
    client.next();
    core.executed(0, &done(11, vec![(id, Outcome::Ahead)], vec![]));
    assert_eq!(client.next(), None);
    core.executed(0, &done(12, vec![(id, Outcome::Applied)], vec![]));
    assert!(matches!(client.next(), Some(Answer::Final { .. })));
}

#[test]
fn waits_are_bounded() {
    let mut core = core();
    let (reply, _answers) = Reply::http(true);
    for number in 0..WAITS_MAX as u64 + 10 {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        core.wait(Digest(id), reply.clone());
    }
    assert_eq!(core.waits.len(), WAITS_MAX);
    assert_eq!(core.waits_order.len(), WAITS_MAX);
}

#[test]
fn what_waited_while_its_session_was_ended_is_not_checked() {
    let mut core = core();
    let (before, _) = in_session(link(1, 0, Digest::ZERO).sign().0);
    let (after, (standing, session)) = in_session(link(2, 0, Digest::ZERO).sign().0);
    let mut messages = SignedMessages::default();
    assert_eq!(core.sift(0, vec![before], &mut messages).len(), 1);
    (0..net_ebpf::session::BLAMES_MAX).for_each(|_| standing.blamed(session));
    assert!(core.sift(0, vec![after], &mut messages).is_empty());
    assert_eq!(messages.len(), 1, "no signature more is looked at");
}

#[test]
fn an_account_is_found_by_its_number_whatever_its_key() {
    let mut core = core();
    let moved = |sequence| Account { balance: 5, sequence, head: Digest([9; 32]) };
    // More than are brought near together, the last two new.
    let keys: Vec<PublicKey> = (10..90).map(|byte| author(byte).1).collect();
    let new = (3..).zip(&keys).map(|(number, key)| (number, *key, moved(1))).collect();
    core.executed(0, &done(11, vec![], new));
    let again = (3..).zip(&keys).step_by(2).map(|(number, key)| (number, *key, moved(2)));
    core.executed(0, &done(12, vec![], again.collect()));
    for (place, key) in keys.iter().enumerate() {
        let sequence = core.account(key).unwrap().sequence;
        assert_eq!(sequence, if place % 2 == 0 { 2 } else { 1 });
    }
}

#[test]
#[should_panic(expected = "both tables grow in one order")]
fn another_key_under_a_number_is_a_mistake() {
    let account = Account { balance: 5, sequence: 1, head: Digest([9; 32]) };
    core().executed(0, &done(11, vec![], vec![(0, author(2).1, account)]));
}

#[test]
fn what_is_skipped_takes_no_other_s_id_or_account() {
    let mut core = core();
    let (skipped, (standing, session)) = in_session(link(2, 0, Digest::ZERO).sign().0);
    (0..net_ebpf::session::BLAMES_MAX).for_each(|_| standing.blamed(session));
    let (honest, id) = link(1, 0, Digest::ZERO).sign();
    let (honest, _client) = request(honest);
    let mut messages = SignedMessages::default();
    let candidates = core.sift(0, vec![skipped, honest], &mut messages);
    assert_eq!(messages.entries()[0].1, ledger::signing_message(&id));
    let admitted = core.settle(0, candidates, &[true]);
    assert_eq!(admitted[0].id, id);
    let pending = |byte| core.account(&author(byte).1).unwrap().pending_sequence;
    assert_eq!((pending(1), pending(2)), (1, 0));
}
