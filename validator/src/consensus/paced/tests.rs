//! What leaves when, over a sender that notes it, in virtual time.

use super::*;
use crate::consensus::block::Digest;
use commonware_codec::Encode as _;
use commonware_consensus::{
    simplex::types::{Finalization, Notarization, Nullification, Proposal},
    types::{Epoch, Round},
};
use commonware_cryptography::{
    Signer as _,
    certificate::Signers,
    ed25519::{self, PrivateKey, PublicKey},
};
use commonware_runtime::{
    Runner as _, Supervisor as _,
    deterministic::{Context, Runner},
};
use commonware_utils::Participant;

const PACE: Duration = Duration::from_millis(100);

/// Notes what is sent.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Sent>>>);

/// A message, whether to all, whether with priority.
type Sent = (Vec<u8>, bool, bool);

impl LimitedSender for Notes {
    type PublicKey = PublicKey;
    type Checked<'a> = Note<'a>;

    fn check(&mut self, recipients: Recipients<PublicKey>) -> Result<Note<'_>, SystemTime> {
        Ok(Note(self, matches!(recipients, Recipients::All)))
    }
}

struct Note<'a>(&'a Notes, bool);

impl CheckedSender for Note<'_> {
    type PublicKey = PublicKey;

    fn recipients(&self) -> Vec<PublicKey> {
        vec![PrivateKey::from_seed(0).public_key()]
    }

    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        let bytes = message.into().coalesce().as_ref().to_vec();
        self.0.0.lock().unwrap().push((bytes, self.1, priority));
        Unreliable::new(Feedback::Ok)
    }
}

/// Three of four, whose signatures nobody looks at here.
fn signed() -> ed25519::certificate::Certificate {
    let signature = PrivateKey::from_seed(1).sign(b"test", b"test");
    let signers = Signers::new(4, [0, 1, 2].map(Participant::new)).unwrap();
    let signatures = std::iter::repeat_n(signature.into(), 3).collect();
    ed25519::certificate::Certificate { signers, signatures }
}

fn round(view: u64) -> Round {
    Round::new(Epoch::new(0), View::new(view))
}

fn proposal(view: u64) -> Proposal<Digest> {
    let payload = commonware_cryptography::blake3::Digest([7; 32]);
    Proposal::new(round(view), View::new(view.saturating_sub(1)), payload)
}

fn notarization(view: u64) -> Vec<u8> {
    let one = Notarization::<Scheme, _> { proposal: proposal(view), certificate: signed() };
    Certificate::Notarization(one).encode().to_vec()
}

fn finalization(view: u64) -> Vec<u8> {
    let one = Finalization::<Scheme, _> { proposal: proposal(view), certificate: signed() };
    Certificate::Finalization(one).encode().to_vec()
}

fn nullification(view: u64) -> Vec<u8> {
    let one = Nullification::<Scheme> { round: round(view), certificate: signed() };
    Certificate::<Scheme, Digest>::Nullification(one).encode().to_vec()
}

struct Bench {
    context: Context,
    sender: Paced<Notes, Context>,
    notes: Notes,
}

impl Bench {
    fn new(context: Context) -> Self {
        let notes = Notes::default();
        let (task, clock) = (context.child("paced"), context.child("clock"));
        let sender = Paced::start(task, clock, notes.clone(), PACE, Arc::new(|| false));
        Self { context, sender, notes }
    }

    fn send(&mut self, message: &[u8]) {
        self.sender.send(Recipients::All, message.to_vec(), true);
    }

    /// What has left when so much time has passed, all of it to all with priority.
    async fn after(&self, milliseconds: u64) -> Vec<Vec<u8>> {
        let noted = self.noted(milliseconds).await;
        assert!(noted.iter().all(|(_, is_for_all, priority)| *is_for_all && *priority));
        noted.into_iter().map(|(bytes, ..)| bytes).collect()
    }

    async fn noted(&self, milliseconds: u64) -> Vec<Sent> {
        self.context.sleep(Duration::from_millis(milliseconds)).await;
        std::mem::take(&mut *self.notes.0.lock().unwrap())
    }
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F + Send) {
    Runner::default().start(async |context| test(Bench::new(context)).await);
}

#[test]
fn whoever_is_mute_sends_none_to_all_and_answers_all_the_same() {
    run(async |mut bench| {
        bench.sender.mute = Arc::new(|| true);
        for message in [notarization(1), finalization(1), nullification(2)] {
            bench.send(&message);
        }
        assert!(bench.after(500).await.is_empty());
        let key = PrivateKey::from_seed(0).public_key();
        bench.sender.send(Recipients::One(key), notarization(3), true);
        assert_eq!(bench.noted(0).await.len(), 1);
    });
}

#[test]
fn the_first_leaves_at_once_and_of_others_the_newest_when_the_pace_is_over() {
    run(async |mut bench| {
        bench.send(&notarization(1));
        assert_eq!(bench.after(0).await, [notarization(1)]);
        for view in 2..6 {
            bench.send(&notarization(view));
            assert!(bench.after(20).await.is_empty(), "80 ms have passed at most");
        }
        assert_eq!(bench.after(21).await, [notarization(5)], "it alone, and no later");
        bench.send(&notarization(6));
        assert!(bench.after(90).await.is_empty(), "the pace counts from what left last");
        assert_eq!(bench.after(10).await, [notarization(6)]);
        assert!(bench.after(1_000).await.is_empty(), "nothing leaves twice");
        bench.send(&notarization(7));
        assert_eq!(bench.after(0).await, [notarization(7)], "after a pause nothing waits");
    });
}

#[test]
fn kinds_do_not_wait_for_each_other() {
    run(async |mut bench| {
        bench.send(&finalization(4));
        assert_eq!(bench.after(80).await, [finalization(4)]);
        bench.send(&notarization(4));
        bench.send(&notarization(5));
        assert_eq!(bench.after(2).await, [notarization(4)], "and the other until 180 ms");
        bench.send(&finalization(5));
        bench.send(&finalization(6));
        assert_eq!(bench.after(19).await, [finalization(6)], "at 100 ms");
        assert!(bench.after(78).await.is_empty());
        assert_eq!(bench.after(2).await, [notarization(5)]);
    });
}

#[test]
fn what_tells_of_trouble_never_waits() {
    run(async |mut bench| {
        bench.send(&notarization(7));
        assert_eq!(bench.after(0).await, [notarization(7)]);
        // The engine repeats what led into a view that hangs.
        let trouble = [nullification(8), notarization(7), nullification(8), notarization(6)];
        trouble.iter().for_each(|message| bench.send(message));
        assert_eq!(bench.after(0).await, trouble);
        bench.send(&notarization(9));
        bench.send(&notarization(8));
        assert_eq!(bench.after(0).await, [notarization(8)], "older than what waits");
        assert_eq!(bench.after(101).await, [notarization(9)]);
    });
}

#[test]
fn what_goes_to_some_or_is_no_certificate_is_passed_on_as_it_is() {
    run(async |mut bench| {
        bench.send(&notarization(1));
        let key = PrivateKey::from_seed(3).public_key();
        bench.sender.send(Recipients::One(key), notarization(2), true);
        bench.sender.send(Recipients::All, b"no certificate".to_vec(), false);
        let expected = [
            (notarization(1), true, true),
            (notarization(2), false, true),
            (b"no certificate".to_vec(), true, false),
        ];
        assert_eq!(bench.noted(0).await, expected);
        bench.sender.send(Recipients::All, notarization(3), false);
        assert_eq!(bench.noted(101).await, [(notarization(3), true, false)], "priority waits too");
    });
}

#[test]
fn clones_share_what_waits() {
    run(async |mut bench| {
        let mut other = bench.sender.clone();
        bench.send(&finalization(1));
        other.send(Recipients::All, finalization(2), true);
        bench.send(&finalization(3));
        assert_eq!(bench.after(0).await, [finalization(1)]);
        assert_eq!(bench.after(101).await, [finalization(3)]);
    });
}

#[test]
fn a_clock_that_was_set_back_delays_nothing() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    let queue = Queue { sent: Some(now), ..Queue::default() };
    assert_eq!(queue.due(now, PACE), now + PACE);
    let before = now - Duration::from_secs(50);
    assert_eq!(queue.due(before, PACE), before);
}
