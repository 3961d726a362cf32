//! Builds cut blocks when leading, checks those of other leaders.
//!
//! A leader proposes when a lane advanced, when batches wait for execution, or when an executed height
//! with content has to be declared; otherwise it waits for a heartbeat, so that an idle network is
//! quiet. Every block costs each validator the same, however much is in it: so while the newest block is
//! young, a leader lets all lanes that are busy advance first.
//!
//! A check needs certificates and tips, never batch bodies, and waits while
//! the executed height that a block declares has not been executed here: data that is merely late
//! is no reason to vote no.

use super::{Block, Board, Recent, block::Digest, known::Known, newest, scheme::Scheme};
use crate::{execute::Progress, terms::Terms};
use commonware_consensus::{
    Epochable as _, Viewable, marshal::ancestry::Ancestry, simplex::types::Context,
};
use commonware_cryptography::{Digested, Digestible, ed25519::PublicKey};
use commonware_runtime::Clock;
use futures::StreamExt as _;
use ledger::{
    AvailabilityCertificate, Cut, Height, Signatures, Tip, Tips, View,
    limits::{CUT_BYTES_MAX, CUT_HEADER_BYTES, EXECUTION_LAG_MAX},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Ancestors walked to find known tips, at most: beyond it this validator is catching up and waits
/// until execution has come closer.
const WALK_MAX: usize = 128;
/// What the callbacks need.
#[derive(Clone)]
pub struct Application {
    network: ledger::Digest,
    terms: Terms,
    signatures: Arc<dyn Signatures>,
    board: Board,
    pace: Pace,
    known: Arc<Mutex<Known>>,
}

/// How long a leader waits.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For anything to propose, before it proposes an empty block.
    pub heartbeat: Duration,
    /// For busy lanes to advance, after the newest block was seen.
    pub cut_delay: Duration,
}

impl Application {
    /// Takes what the callbacks need.
    pub fn new(
        network: ledger::Digest,
        terms: Terms,
        signatures: Arc<dyn Signatures>,
        board: Board,
        pace: Pace,
    ) -> Self {
        Self { network, terms, signatures, board, pace, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_tips(&self, block: &Block) -> Option<Tips> {
        let (height, digest) = (block.cut().height, block.cut_digest());
        let epochs = self.terms.epochs();
        if epochs.is_last(height) {
            // What follows is of new lanes.
            return Some(Tips::genesis(self.terms.set(epochs.of(height) + 1)?.len()));
        }
        if let Some(tips) = self.known().tips(height, digest) {
            return Some(tips.clone());
        }
        let recent = self.board.progress.borrow();
        let same = |progress: &&Progress| (progress.height, progress.digest) == (height, digest);
        recent.iter().rev().find(same).map(|progress| progress.tips.clone())
    }

    fn remember(&self, block: &Block, tips: Tips, now: SystemTime) {
        self.known().remember(block.cut().height, block.cut_digest(), tips, now);
    }

    /// Until when a leader on `parent` lets others advance, and which lanes it waits for.
    fn gathering(&self, parent: &Block, tips: &Tips, now: SystemTime) -> (SystemTime, Vec<usize>) {
        let height = parent.cut().height;
        let known = self.known();
        // A clock that was set back must not make a leader late.
        let seen = known.seen(height, parent.cut_digest()).filter(|seen| *seen <= now);
        let end = seen.map_or(now, |seen| seen + self.pace.cut_delay);
        (end, known.busy(height, tips))
    }

    /// Whether all of `lanes` have a certificate above their tips.
    fn advanced(&self, lanes: &[usize], tips: &Tips) -> bool {
        let certificates = self.board.certificates.borrow();
        lanes.iter().all(|lane| {
            let newest = certificates.get(*lane).and_then(Option::as_ref);
            newest.is_some_and(|certificate| certificate.sequence > tips.0[*lane].sequence)
        })
    }

    /// Cumulative tips after `block`; `ancestry` yields its parent next.
    async fn tips_after(
        &self,
        block: &Block,
        mut ancestry: impl Ancestry<Block>,
        now: SystemTime,
    ) -> Option<Tips> {
        let mut above = Vec::new();
        let mut oldest = block.clone();
        let mut tips = loop {
            if let Some(tips) = self.known_tips(&oldest) {
                break tips;
            }
            above.push(oldest);
            if above.len() > 2 * WALK_MAX {
                return None;
            }
            oldest = ancestry.next().await?.inner().clone();
        };
        for block in above.into_iter().rev() {
            tips = advance(tips, block.cut());
            self.remember(&block, tips.clone(), now);
        }
        Some(tips)
    }

    /// A cut on `parent`; with [`Build::Wait`] none is worth a view yet.
    fn build(&self, parent: &Block, tips: &Tips, view: View, now_ms: u64, force: bool) -> Build {
        let before = parent.cut();
        let height = before.height.next();
        let recent = self.board.progress.borrow();
        let known = newest(&recent);
        if known.height > before.height {
            return Build::Moot;
        }
        let (executed, history_root, state_root) = if known.height >= before.executed {
            (known.height, known.history_root, known.state_root)
        } else {
            (before.executed, before.history_root, before.state_root)
        };
        if height.get() - executed.get() > EXECUTION_LAG_MAX {
            return Build::Wait;
        }
        let epoch = self.terms.epochs().of(height);
        let Some(set) = self.terms.set(epoch).map(|set| set.digest()) else { return Build::Wait };
        let next_set = match self.terms.epochs().is_last(height) {
            // Whoever has not executed the deciding height does not know who follows.
            true => match known.next_set.filter(|_| known.epoch == epoch) {
                Some(next_set) => next_set,
                None => return Build::Wait,
            },
            false => set,
        };
        let lanes = self.lanes(height, tips);
        let declare = before.executed < known.content && known.content <= executed;
        if lanes.is_empty() && !declare && !known.backlog && !force {
            return Build::Wait;
        }
        Build::Cut(Box::new(Cut {
            network: self.network,
            epoch,
            height,
            view,
            parent: parent.cut_digest(),
            time_ms: now_ms.max(before.time_ms),
            executed,
            history_root,
            state_root,
            set,
            next_set,
            lanes,
        }))
    }

    /// Certificates above the tips, in the order that the height sets, as many as fit.
    fn lanes(&self, height: Height, tips: &Tips) -> Vec<AvailabilityCertificate> {
        let epoch = self.terms.epochs().of(height);
        let certificates = self.board.certificates.borrow();
        let count = tips.lanes();
        let first = usize::try_from(height.get() % count as u64).expect("less than the count");
        let mut bytes = CUT_HEADER_BYTES;
        let mut lanes = Vec::new();
        for index in (first..count).chain(0..first) {
            let newest = certificates.get(index).and_then(Option::as_ref);
            // An engine may outlive its lanes for a moment.
            let Some(certificate) = newest.filter(|it| it.epoch == epoch) else { continue };
            if certificate.sequence <= tips.0[index].sequence {
                continue;
            }
            bytes += certificate.encoded_bytes();
            if bytes > CUT_BYTES_MAX {
                break;
            }
            lanes.push((**certificate).clone());
        }
        lanes
    }

    /// Whether the declared roots, and in the last block of an epoch who follows, are those executed here; nothing
    /// while that is not known.
    fn roots_match(&self, cut: &Cut, recent: &Recent) -> Option<bool> {
        if newest(recent).height < cut.executed {
            return None;
        }
        let same = |progress: &&Progress| progress.height == cut.executed;
        let known = recent.iter().find(same)?;
        let follows =
            !self.terms.epochs().is_last(cut.height) || known.next_set == Some(cut.next_set);
        let roots = (known.history_root, known.state_root) == (cut.history_root, cut.state_root);
        Some(follows && roots)
    }
}

/// What a leader has to propose.
enum Build {
    /// This cut.
    Cut(Box<Cut>),
    /// Nothing yet.
    Wait,
    /// Nothing ever: the parent is below what was executed here.
    Moot,
}

/// How far a cut's time may be ahead of the own clock: clocks of servers differ by far less.
const TIME_AHEAD_MAX: Duration = Duration::from_secs(60);

impl<E: Clock> commonware_consensus::Application<E> for Application {
    type SigningScheme = Scheme;
    type Context = Context<Digest, PublicKey>;
    type Block = Block;
    type Input = ();

    async fn propose(
        &mut self,
        (runtime, context): (E, Self::Context),
        mut ancestry: impl Ancestry<Block>,
        (): (),
    ) -> Option<Digested<Block>> {
        let parent = ancestry.next().await?.inner().clone();
        // Far behind, a leader passes: the others need not wait for its time to run out.
        if !is_near(&parent, &self.board.progress.borrow()) {
            return None;
        }
        let tips = self.tips_after(&parent, ancestry, runtime.current()).await?;
        let view = View(context.view().get());
        let deadline = runtime.current() + self.pace.heartbeat;
        let (mut certificates, mut progress) = self.board.watch();
        let (gathered, busy) = self.gathering(&parent, &tips, runtime.current());
        while runtime.current() < gathered && !self.advanced(&busy, &tips) {
            commonware_macros::select! {
                changed = certificates.changed() => changed.ok()?,
                // A clock that is set back meanwhile must not make it wait again.
                _ = runtime.sleep_until(gathered) => break,
            }
        }
        loop {
            certificates.mark_unchanged();
            progress.mark_unchanged();
            let now = runtime.current();
            let now_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
            match self.build(&parent, &tips, view, now_ms, now >= deadline) {
                Build::Cut(cut) => {
                    let block = Block::new(*cut);
                    self.remember(&block, advance(tips, block.cut()), now);
                    let digest = block.digest();
                    return Some(Digested::precomputed(block, digest));
                }
                Build::Moot => return None,
                // Due, yet execution lags too far: only execution can change that.
                Build::Wait if now >= deadline => progress.changed().await.ok()?,
                Build::Wait => {
                    commonware_macros::select! {
                        changed = certificates.changed() => changed.ok()?,
                        changed = progress.changed() => changed.ok()?,
                        _ = runtime.sleep_until(deadline) => {},
                    }
                }
            }
        }
    }

    async fn verify(
        &mut self,
        (runtime, context): (E, Self::Context),
        mut ancestry: impl Ancestry<Block>,
    ) -> bool {
        let (Some(block), Some(parent)) = (ancestry.next().await, ancestry.next().await) else {
            return std::future::pending().await;
        };
        let (block, parent) = (block.inner().clone(), parent.inner().clone());
        let cut = block.cut();
        if cut.network != self.network
            || cut.epoch != context.epoch().get()
            || cut.view.get() != context.view().get()
        {
            return false;
        }
        // Time only rises from cut to cut: one leader must not take it away from all that follow.
        let seen = runtime.current();
        let latest = seen.duration_since(UNIX_EPOCH).unwrap_or_default() + TIME_AHEAD_MAX;
        if u128::from(cut.time_ms) > latest.as_millis() {
            return false;
        }
        let (_, mut progress) = self.board.watch();
        if progress.wait_for(|recent| is_near(&parent, recent)).await.is_err() {
            return std::future::pending().await;
        }
        let Some(tips) = self.tips_after(&parent, ancestry, seen).await else {
            return std::future::pending().await;
        };
        let digest = parent.cut_digest();
        let epochs = self.terms.epochs();
        let Some(set) = self.terms.set(cut.epoch).filter(|set| set.len() == tips.lanes()) else {
            return std::future::pending().await;
        };
        let checked = cut.check(parent.cut(), &digest, &tips, (epochs, &set), &*self.signatures);
        let Ok(after) = checked else { return false };
        let matches = loop {
            let known = self.roots_match(cut, &progress.borrow_and_update());
            if let Some(matches) = known {
                break matches;
            }
            if progress.changed().await.is_err() {
                return std::future::pending().await;
            }
        };
        if matches {
            self.remember(&block, after, seen);
        }
        matches
    }
}

/// Whether execution is close enough to a block to know the tips below it.
fn is_near(block: &Block, recent: &Recent) -> bool {
    block.cut().height.get() <= newest(recent).height.get() + WALK_MAX as u64
}

/// Tips after a cut whose certificates were checked.
fn advance(mut tips: Tips, cut: &Cut) -> Tips {
    for certificate in &cut.lanes {
        tips.0[certificate.lane as usize] =
            Tip { sequence: certificate.sequence, digest: certificate.digest };
    }
    tips
}

#[cfg(test)]
mod tests;
