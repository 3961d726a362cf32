//! Sends the engine's certificates at a pace: while all goes well, nobody needs them.
//!
//! Every validator sends its votes to all others, so each of them makes every certificate itself; the
//! engine still has each send each one to all: two of the four messages of a view. A certificate serves
//! whoever missed votes: it leads to the newest view all the same if it comes a little later, and a newer one
//! of its kind leads further than an older one. So the first goes out at once, and of those that follow within
//! the pace only the newest, when the pace is over. What stands for trouble never waits: a nullification, and a
//! certificate that is sent again, as the engine does when a view hangs.
//!
//! To the engine this is a network that is sometimes late and sometimes loses a certificate, which it bears
//! by design: votes decide, and views end by timeout.

use super::scheme::Scheme;
use commonware_actor::{Feedback, Unreliable};
use commonware_codec::Decode as _;
use commonware_consensus::{Viewable as _, simplex::types::Certificate, types::View};
use commonware_cryptography::certificate::Verifier as _;
use commonware_p2p::{CheckedSender, LimitedSender, Recipients, Sender};
use commonware_runtime::{Clock, IoBufs, Spawner};
use futures::future;
use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::Notify;

/// What may wait for a newer one of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Notarization,
    Finalization,
}

/// Certificates of one kind.
#[derive(Debug, Default)]
struct Queue {
    /// When one was sent last.
    sent: Option<SystemTime>,
    /// The newest view of all that came.
    seen: Option<View>,
    /// The newest since then, and whether it is urgent to the network.
    newest: Option<(IoBufs, bool)>,
}

impl Queue {
    /// When the next one may leave; now, too, if the clock was set back.
    fn due(&self, now: SystemTime, pace: Duration) -> SystemTime {
        self.sent.filter(|sent| *sent <= now).map_or(now, |sent| sent + pace)
    }

    /// Whether a certificate has to wait; what is no news never does.
    fn must_wait(&mut self, view: View, now: SystemTime, pace: Duration) -> bool {
        let is_news = self.seen.is_none_or(|seen| seen < view);
        self.seen = self.seen.max(Some(view));
        is_news && (self.newest.is_some() || self.due(now, pace) > now)
    }
}

/// One for each kind.
type Queues = [Queue; 2];

/// What all clones of a sender share.
#[derive(Default)]
struct Waiting {
    queues: Mutex<Queues>,
    /// Something waits that did not before.
    news: Notify,
}

impl Waiting {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says whether this validator shows no sign of life for now.
pub(super) type Mute = Arc<dyn Fn() -> bool + Send + Sync>;

/// A sender of certificates; see above.
pub(super) struct Paced<S, C> {
    inner: S,
    clock: Arc<C>,
    pace: Duration,
    /// Says whether nothing is sent to all.
    mute: Mute,
    waiting: Arc<Waiting>,
}

impl<S: Clone, C> Clone for Paced<S, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            clock: self.clock.clone(),
            pace: self.pace,
            mute: self.mute.clone(),
            waiting: self.waiting.clone(),
        }
    }
}

impl<S: Sender, C: Clock> Paced<S, C> {
    /// Sends at most one certificate of each kind to all within `pace`, and a last one after it; the task
    /// that sends those that waited runs in `context` and ends with it. Whoever is mute sends none to all: what it
    /// sends is a sign of life, and others would wait for blocks and votes of one that makes none.
    pub(super) fn start<E: Spawner + Clock>(
        context: E,
        clock: C,
        inner: S,
        pace: Duration,
        mute: Mute,
    ) -> Self {
        let (clock, waiting) = (Arc::new(clock), Arc::default());
        let sender = Self { inner, clock, pace, mute, waiting };
        let mut task = sender.clone();
        context.spawn(move |context| async move {
            loop {
                let due = task.flush();
                let waiting = task.waiting.clone();
                let news = pin!(waiting.news.notified());
                match due {
                    None => news.await,
                    // News may be due earlier.
                    Some(due) => {
                        future::select(pin!(context.sleep_until(due)), news).await;
                    }
                }
            }
        });
        sender
    }

    /// Sends what is due; answers when the next is, if any waits.
    fn flush(&mut self) -> Option<SystemTime> {
        let (mut ready, mut next) = (Vec::new(), None);
        {
            let mut queues = self.waiting.queues();
            let now = self.clock.current();
            for queue in queues.iter_mut().filter(|queue| queue.newest.is_some()) {
                let due = queue.due(now, self.pace);
                if due > now {
                    next = Some(next.map_or(due, |next: SystemTime| next.min(due)));
                } else {
                    ready.extend(queue.newest.take());
                    queue.sent = Some(now);
                }
            }
        }
        for (message, priority) in ready {
            self.inner.send(Recipients::All, message, priority);
        }
        next
    }
}

impl<S: Sender, C: Clock> LimitedSender for Paced<S, C> {
    type PublicKey = S::PublicKey;
    type Checked<'a> = Checked<'a, S::Checked<'a>, C>;

    fn check(
        &mut self,
        recipients: Recipients<Self::PublicKey>,
    ) -> Result<Self::Checked<'_>, SystemTime> {
        let is_for_all = matches!(recipients, Recipients::All);
        let inner = self.inner.check(recipients)?;
        let (clock, waiting) = (&*self.clock, &*self.waiting);
        let (pace, is_mute) = (self.pace, (self.mute)());
        Ok(Checked { inner, is_for_all, is_mute, clock, pace, waiting })
    }
}

/// A message whose recipients were checked.
pub(super) struct Checked<'a, I, C> {
    inner: I,
    is_for_all: bool,
    is_mute: bool,
    clock: &'a C,
    pace: Duration,
    waiting: &'a Waiting,
}

impl<I: CheckedSender, C: Clock> CheckedSender for Checked<'_, I, C> {
    type PublicKey = I::PublicKey;

    fn recipients(&self) -> Vec<Self::PublicKey> {
        self.inner.recipients()
    }

    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        if self.is_mute && self.is_for_all {
            return Unreliable::new(Feedback::Ok);
        }
        let message = message.into();
        let found = self.is_for_all.then(|| may_wait(&message)).flatten();
        let Some((kind, view)) = found else {
            return self.inner.send(message, priority);
        };
        {
            let mut queues = self.waiting.queues();
            let (now, queue) = (self.clock.current(), &mut queues[kind as usize]);
            if queue.must_wait(view, now, self.pace) {
                if queue.newest.replace((message, priority)).is_none() {
                    self.waiting.news.notify_one();
                }
                return Unreliable::new(Feedback::Ok);
            }
            queue.sent = Some(now);
        }
        self.inner.send(message, priority)
    }
}

/// The kind and view of a certificate that may wait.
fn may_wait(message: &IoBufs) -> Option<(Kind, View)> {
    let codec = Scheme::certificate_codec_config_unbounded();
    match Certificate::<Scheme, super::block::Digest>::decode_cfg(message.clone(), &codec).ok()? {
        Certificate::Notarization(one) => Some((Kind::Notarization, one.view())),
        Certificate::Finalization(one) => Some((Kind::Finalization, one.view())),
        Certificate::Nullification(_) => None,
    }
}

#[cfg(test)]
mod tests;
