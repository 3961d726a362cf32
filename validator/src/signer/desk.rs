//! The rules of signing: no two statements for one place, none where the guard is not ahead.

use super::guard::{AHEAD, Guard, Marks, State};
use crate::key::Secret;
use ledger::{Digest, Signature};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// Views, and places of each lane, that are remembered one by one; nothing is signed below them.
const REMEMBERED: usize = 4_096;

/// A vote: what it is for, and the digest of the signed message where there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// For a block in a view.
    Notarize(Digest),
    /// For ending a view without a block.
    Nullify,
    /// That a block is final.
    Finalize(Digest),
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Whoever has this key may have signed something else there.
    #[error("what was signed there is forgotten")]
    Forgotten,
    /// Something else was signed there.
    #[error("it contradicts what was signed")]
    Contradiction,
    /// This process has said its last.
    #[error("the validator is stopping")]
    Closed,
    /// The guard cannot be written.
    #[error("the guard: {0}")]
    Guard(#[from] io::Error),
}

/// What was voted in a view.
#[derive(Default)]
struct Voted {
    notarize: Option<Digest>,
    nullify: bool,
    finalize: Option<Digest>,
}

/// What was signed for the lanes: at each place of each lane one digest.
type Placed = BTreeMap<u64, Digest>;

/// The file, which is written while others sign.
pub(super) type SharedGuard = Arc<Mutex<Guard>>;

/// Key, guard, and the memory of this process.
pub(super) struct Desk {
    secret: Secret,
    /// None in simulations: what they sign convicts nobody.
    guard: Option<SharedGuard>,
    /// What the guard is known to say.
    state: State,
    /// Whether the guard says already what was signed, and no more.
    closed: bool,
    /// The epoch of everything below.
    epoch: u64,
    votes: BTreeMap<u64, Voted>,
    acks: BTreeMap<u32, Placed>,
    batches: Placed,
    /// The newest of what was signed.
    signed: Marks,
    /// What may have been signed before this process, in the same epoch.
    before: Marks,
}

impl Desk {
    pub(super) fn new(secret: Secret, guard: Option<Guard>) -> Self {
        let state = guard.as_ref().map(|guard| guard.state().clone()).unwrap_or_default();
        let before = state.lease.clone();
        Self {
            secret,
            guard: guard.map(|guard| Arc::new(Mutex::new(guard))),
            closed: false,
            epoch: state.epoch,
            state,
            votes: BTreeMap::new(),
            acks: BTreeMap::new(),
            batches: Placed::new(),
            signed: Marks::default(),
            before,
        }
    }

    /// Signs what has no place: it contradicts nothing.
    pub(super) fn plain(&self, message: &[u8]) -> Signature {
        self.secret.sign(message)
    }

    /// Signs a vote.
    pub(super) fn vote(
        &mut self,
        (epoch, view): (u64, u64),
        vote: Vote,
        message: &[u8],
    ) -> Result<Signature, Refused> {
        self.enter(epoch)?;
        if view <= self.state.floor.view || is_below(&self.votes, view) {
            return Err(Refused::Forgotten);
        }
        let known = self.votes.entry(view).or_default();
        let contradicts =
            |known: &Option<Digest>, new: &Digest| known.as_ref().is_some_and(|known| known != new);
        let is_bad = match &vote {
            Vote::Notarize(digest) => contradicts(&known.notarize, digest),
            Vote::Nullify => known.finalize.is_some(),
            Vote::Finalize(digest) => known.nullify || contradicts(&known.finalize, digest),
        };
        if is_bad {
            return Err(Refused::Contradiction);
        }
        match vote {
            Vote::Notarize(digest) => known.notarize = Some(digest),
            Vote::Nullify => known.nullify = true,
            Vote::Finalize(digest) => known.finalize = Some(digest),
        }
        forget(&mut self.votes);
        self.signed.view = self.signed.view.max(view);
        if view > self.state.lease.view {
            self.lease()?;
        }
        Ok(self.secret.sign(message))
    }

    /// Signs an own batch, given by its digest.
    pub(super) fn batch(
        &mut self,
        epoch: u64,
        (lane, sequence): (u32, u64),
        digest: Digest,
        message: &[u8],
    ) -> Result<Signature, Refused> {
        self.place(epoch, (lane, sequence), digest, |desk| &mut desk.batches)?;
        Ok(self.secret.sign(message))
    }

    /// Signs an ack of a batch, given by its digest.
    pub(super) fn ack(
        &mut self,
        epoch: u64,
        (lane, sequence): (u32, u64),
        digest: Digest,
        message: &[u8],
    ) -> Result<Signature, Refused> {
        self.place(epoch, (lane, sequence), digest, |desk| desk.acks.entry(lane).or_default())?;
        Ok(self.secret.sign(message))
    }

    fn place(
        &mut self,
        epoch: u64,
        (lane, sequence): (u32, u64),
        digest: Digest,
        placed: impl Fn(&mut Self) -> &mut Placed,
    ) -> Result<(), Refused> {
        self.enter(epoch)?;
        if sequence <= self.state.floor.lane(lane) || is_below(placed(self), sequence) {
            return Err(Refused::Forgotten);
        }
        let known = placed(self);
        if *known.entry(sequence).or_insert(digest) != digest {
            return Err(Refused::Contradiction);
        }
        forget(known);
        self.signed.raise(lane, sequence);
        if sequence > self.state.lease.lane(lane) {
            self.lease()?;
        }
        Ok(())
    }

    /// What the guard is to say next, where the lease is so short that it is time to renew it before anybody has to
    /// wait for that.
    pub(super) fn renewal(&self) -> Option<(SharedGuard, State)> {
        let lease = &self.state.lease;
        let is_short = |signed: u64, lease: u64| signed > 0 && signed + AHEAD / 2 > lease;
        let mut lanes = (0..).zip(&self.signed.lanes);
        let is_due = is_short(self.signed.view, lease.view)
            || lanes.any(|(lane, signed)| is_short(*signed, lease.lane(lane)));
        let guard = self.guard.as_ref().filter(|_| is_due)?;
        Some((guard.clone(), self.next()))
    }

    /// Signs nothing any more; what the guard is to say of all that was signed, where it was in this process's epoch.
    pub(super) fn close(&mut self) -> Option<(SharedGuard, State)> {
        self.closed = true;
        let guard = self.guard.as_ref().filter(|_| self.state.epoch == self.epoch)?;
        let mut state = self.state.clone();
        state.lease = self.before.clone();
        state.lease.raise_to(&self.signed);
        Some((guard.clone(), state))
    }

    /// It is known by now in which epochs something may have been signed that is forgotten.
    pub(super) fn silent_until(&mut self, epoch: u64) -> io::Result<()> {
        self.state.silent_until = epoch;
        self.lease()
    }

    /// Others were listened to, and nobody else signs with this key.
    pub(super) fn watched(&mut self) -> io::Result<()> {
        self.state.watch = false;
        self.lease()
    }

    /// The guard says this by now.
    pub(super) fn renewed(&mut self, state: &State) {
        if state.epoch == self.state.epoch {
            self.state.lease.raise_to(&state.lease);
        }
    }

    /// Has the guard say that what was signed may have been, and some more.
    fn lease(&mut self) -> io::Result<()> {
        let state = self.next();
        self.state = match &self.guard {
            Some(guard) => write(guard, state)?,
            None => state,
        };
        Ok(())
    }

    /// What the guard has to say of what was signed.
    fn next(&self) -> State {
        let mut state = self.state.clone();
        if state.epoch != self.epoch {
            state.epoch = self.epoch;
            (state.lease, state.floor) = Default::default();
        }
        let above = |signed: u64| if signed == 0 { 0 } else { signed.saturating_add(AHEAD) };
        state.lease.raise_to(&Marks {
            view: above(self.signed.view),
            lanes: self.signed.lanes.iter().map(|signed| above(*signed)).collect(),
        });
        state
    }

    /// Turns to an epoch: places are its own, and nobody goes back.
    fn enter(&mut self, epoch: u64) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        if epoch < self.epoch || epoch < self.state.silent_until {
            return Err(Refused::Forgotten);
        }
        if epoch > self.epoch {
            self.epoch = epoch;
            self.votes.clear();
            self.acks.clear();
            self.batches.clear();
            (self.signed, self.before) = Default::default();
            self.lease()?;
        }
        Ok(())
    }
}

/// Has the guard say just this, unless it has turned to another epoch.
pub(super) fn settle(guard: &Mutex<Guard>, state: State) -> io::Result<()> {
    let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.state().epoch != state.epoch {
        return Ok(());
    }
    guard.write(state)
}

/// Has the guard say this, and never less than it says: who has waited for another writer knows less. Answers what it
/// says then, durably.
pub(super) fn write(guard: &Mutex<Guard>, mut state: State) -> io::Result<State> {
    let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
    let says = guard.state();
    if says.epoch > state.epoch {
        return Ok(says.clone());
    }
    // Rot of the newer slot leaves the older one, which is taken for a little more than it says: never much less.
    let jumps = says.epoch != state.epoch || state.lease.is_far_above(&says.lease);
    if says.epoch == state.epoch {
        state.lease.raise_to(&says.lease);
        // Whether it was watched is said by one who knows.
        state.watch &= says.watch;
    }
    guard.write(state.clone())?;
    if jumps {
        guard.write(state.clone())?;
    }
    Ok(state)
}

/// Whether a place is so old that what was signed there is remembered no more.
fn is_below<T>(remembered: &BTreeMap<u64, T>, place: u64) -> bool {
    remembered.len() >= REMEMBERED
        && remembered.first_key_value().is_some_and(|(oldest, _)| place < *oldest)
}

fn forget<T>(remembered: &mut BTreeMap<u64, T>) {
    while remembered.len() > REMEMBERED {
        remembered.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Place {
        _folder: tempfile::TempDir,
        key: PathBuf,
    }

    fn place(state: &State) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("a.key");
        Guard::create(&key, state).unwrap();
        Place { _folder: folder, key }
    }

    fn desk(place: &Place) -> Desk {
        let guard = Guard::open(&place.key).unwrap().unwrap();
        Desk::new(Secret::from_seed(&[1; 32]), Some(guard))
    }

    fn lease(place: &Place) -> Marks {
        Guard::open(&place.key).unwrap().unwrap().state().lease.clone()
    }

    const ONE: Digest = Digest([1; 32]);
    const OTHER: Digest = Digest([2; 32]);

    fn allows(result: Result<Signature, Refused>) -> bool {
        match result {
            Ok(_) => true,
            Err(Refused::Forgotten | Refused::Contradiction | Refused::Closed) => false,
            Err(Refused::Guard(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn no_two_votes_of_a_view_contradict_each_other() {
        use Vote::{Finalize, Notarize, Nullify};
        // What was voted, what then is asked for, and whether it is signed.
        let cases = [
            (Notarize(ONE), Notarize(ONE), true),
            (Notarize(ONE), Notarize(OTHER), false),
            (Notarize(ONE), Nullify, true),
            (Notarize(ONE), Finalize(ONE), true),
            (Nullify, Nullify, true),
            (Nullify, Finalize(ONE), false),
            (Finalize(ONE), Nullify, false),
            (Finalize(ONE), Finalize(ONE), true),
            (Finalize(ONE), Finalize(OTHER), false),
        ];
        for (first, second, allowed) in cases {
            let place = place(&State::default());
            let mut desk = desk(&place);
            assert!(allows(desk.vote((0, 5), first, b"m")));
            assert_eq!(allows(desk.vote((0, 5), second, b"m")), allowed, "{first:?} {second:?}");
            // Another view is another place.
            assert!(allows(desk.vote((0, 6), second, b"m")));
        }
    }

    #[test]
    fn one_digest_is_signed_for_each_place_of_a_lane() {
        let place = place(&State::default());
        let mut desk = desk(&place);
        assert!(allows(desk.ack(0, (1, 7), ONE, b"m")));
        assert!(allows(desk.ack(0, (1, 7), ONE, b"m")));
        assert!(!allows(desk.ack(0, (1, 7), OTHER, b"m")));
        assert!(allows(desk.ack(0, (2, 7), OTHER, b"m")));
        assert!(allows(desk.batch(0, (1, 7), OTHER, b"m")));
        assert!(!allows(desk.batch(0, (1, 7), ONE, b"m")));
    }

    #[test]
    fn the_guard_is_ahead_of_everything_that_is_signed() {
        let place = place(&State::default());
        let mut random = 1_u64;
        for _ in 0..20 {
            let mut desk = desk(&place);
            let floor = lease_of(&desk);
            let mut newest = Marks::default();
            for _ in 0..200 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let step = random >> 59;
                let lane = u32::try_from((random >> 40) % 3).unwrap();
                if random >> 63 == 0 {
                    let view = floor.view.max(newest.view) + 1 + step;
                    newest.view = view;
                    assert!(allows(desk.vote((0, view), Vote::Nullify, b"m")));
                } else {
                    let sequence = floor.lane(lane).max(newest.lane(lane)) + 1 + step;
                    newest.raise(lane, sequence);
                    assert!(allows(desk.ack(0, (lane, sequence), ONE, b"m")));
                }
                if random >> 62 == 1 {
                    renew(&mut desk);
                }
            }
            // As after a crash: nothing but the file is left.
            drop(desk);
            let lease = lease(&place);
            assert!(lease.view >= newest.view && lease.view <= newest.view.max(floor.view) + AHEAD);
            for lane in 0..3 {
                assert!(lease.lane(lane) >= newest.lane(lane), "{lane}");
            }
        }
    }

    fn lease_of(desk: &Desk) -> Marks {
        desk.state.lease.clone()
    }

    fn renew(desk: &mut Desk) -> bool {
        let Some((guard, state)) = desk.renewal() else { return false };
        let state = write(&guard, state).unwrap();
        desk.renewed(&state);
        true
    }

    #[test]
    fn a_renewal_that_comes_late_takes_nothing_back() {
        let place = place(&State::default());
        let mut desk = desk(&place);
        assert!(allows(desk.vote((0, 100), Vote::Nullify, b"m")));
        assert!(allows(desk.vote((0, 140), Vote::Nullify, b"m")));
        let (guard, late) = desk.renewal().unwrap();
        assert!(allows(desk.vote((0, 1_000), Vote::Nullify, b"m")));
        desk.renewed(&write(&guard, late.clone()).unwrap());
        assert_eq!(lease_of(&desk).view, 1_000 + AHEAD);
        // Nor does one of an epoch that is over.
        assert!(allows(desk.vote((1, 9), Vote::Nullify, b"m")));
        desk.renewed(&write(&guard, late).unwrap());
        assert_eq!((desk.state.epoch, lease_of(&desk).view), (1, 9 + AHEAD));
        drop((desk, guard));
        assert_eq!(lease(&place).view, 9 + AHEAD);
    }

    #[test]
    fn after_an_orderly_end_the_guard_says_what_was_signed_and_no_more() {
        let place = place(&State::default());
        for (view, sequence, says) in [(100, 7, (100, 7)), (90, 8, (100, 8)), (101, 1, (101, 8))] {
            let mut desk = desk(&place);
            assert!(allows(desk.vote((0, view), Vote::Nullify, b"m")));
            assert!(allows(desk.ack(0, (2, sequence), ONE, b"m")));
            let (guard, state) = desk.close().unwrap();
            assert!(!allows(desk.vote((0, view + 1), Vote::Nullify, b"m")));
            settle(&guard, state).unwrap();
            drop((desk, guard));
            assert_eq!((lease(&place).view, lease(&place).lane(2)), says);
        }
    }

    #[test]
    fn a_lease_that_is_half_used_is_short() {
        let place = place(&State::default());
        let mut desk = desk(&place);
        assert!(!renew(&mut desk));
        assert!(allows(desk.vote((0, 100), Vote::Nullify, b"m")));
        assert!(!renew(&mut desk));
        assert!(allows(desk.vote((0, 100 + AHEAD / 2), Vote::Nullify, b"m")));
        assert!(!renew(&mut desk));
        assert!(allows(desk.vote((0, 101 + AHEAD / 2), Vote::Nullify, b"m")));
        assert!(renew(&mut desk));
        assert!(!renew(&mut desk));
    }

    #[test]
    fn nothing_is_signed_where_it_is_forgotten_what_was() {
        let floor = Marks { view: 50, lanes: vec![10, 20] };
        let place = place(&State { floor, lease: Marks::default(), ..State::default() });
        let mut desk = desk(&place);
        assert!(!allows(desk.vote((0, 50), Vote::Nullify, b"m")));
        assert!(allows(desk.vote((0, 51), Vote::Nullify, b"m")));
        assert!(!allows(desk.ack(0, (1, 20), ONE, b"m")));
        assert!(allows(desk.ack(0, (1, 21), ONE, b"m")));
        assert!(!allows(desk.batch(0, (0, 10), ONE, b"m")));
        assert!(allows(desk.batch(0, (0, 11), ONE, b"m")));
        // An epoch has views and places of its own, and there is no way back.
        assert!(allows(desk.vote((1, 1), Vote::Nullify, b"m")));
        assert!(allows(desk.ack(1, (1, 1), ONE, b"m")));
        assert!(!allows(desk.vote((0, 60), Vote::Nullify, b"m")));
        drop(desk);
        let guard = Guard::open(&place.key).unwrap().unwrap();
        assert_eq!((guard.state().epoch, guard.state().floor.view), (1, 0));
        assert_eq!(guard.state().lease.view, 1 + AHEAD);
    }

    #[test]
    fn whoever_lost_the_guard_is_silent_until_an_epoch_turns() {
        let place = place(&State { silent_until: 2, ..State::default() });
        let mut desk = desk(&place);
        for epoch in [0, 1] {
            assert!(!allows(desk.vote((epoch, 9), Vote::Nullify, b"m")));
            assert!(!allows(desk.ack(epoch, (0, 9), ONE, b"m")));
        }
        assert!(allows(desk.vote((2, 1), Vote::Nullify, b"m")));
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_signed_below_it() {
        let place = place(&State::default());
        let mut desk = desk(&place);
        let last = REMEMBERED as u64 + 10;
        for view in 1..=last {
            assert!(allows(desk.vote((0, view), Vote::Nullify, b"m")));
        }
        assert_eq!(desk.votes.len(), REMEMBERED);
        assert!(!allows(desk.vote((0, 10), Vote::Finalize(ONE), b"m")));
        assert!(!allows(desk.vote((0, 11), Vote::Finalize(ONE), b"m")));
        assert!(allows(desk.vote((0, last + 1), Vote::Finalize(ONE), b"m")));
    }
}
