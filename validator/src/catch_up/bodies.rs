//! The batches of planned heights: fetched by digest, and checked down to every signature.

use super::{
    peer::{Fault, Peer},
    skeleton::{Planned, Stretch},
};
use crate::{
    held::{Held, SignedMessages},
    history::wire::{BATCHES_MAX, WALKS_MAX, Walk},
    terms::Terms,
    votes::Judge,
};
use ledger::{Digest, PublicKey, Signature, Signatures as _, SignedItem, ValidatorSet};
use std::sync::Arc;

/// A height with all that it commits.
pub(super) struct Bodied {
    pub(super) planned: Planned,
    /// Per lane, oldest first.
    pub(super) batches: Vec<Vec<Arc<Held>>>,
}

/// Why there are no bodies.
pub(super) enum Failed {
    /// The peer is of no use.
    Peer(Fault),
    /// What 2f+1 validators vouched for does not hold.
    Broken {
        /// The height.
        height: u64,
        /// What is wrong.
        what: String,
    },
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Peer(fault)
    }
}

/// A stretch on its way: walked from its newest batch back.
struct Walking {
    /// Place of its height in the job.
    place: usize,
    stretch: Stretch,
    next: Digest,
    sequence: u64,
}

/// What is known of a network.
pub(super) struct Checker {
    pub(super) network: Digest,
    pub(super) terms: Terms,
    pub(super) judge: Arc<Judge>,
}

impl Checker {
    fn set(&self, planned: &Planned) -> Arc<ValidatorSet> {
        self.terms.set(planned.cut.epoch).expect("the cut was checked")
    }

    /// Fetches and checks the batches of some heights.
    pub(super) fn fetch(
        &self,
        peer: &mut Peer,
        heights: &[Planned],
    ) -> Result<Vec<Bodied>, Failed> {
        let bodied = |planned: &Planned| Bodied {
            planned: planned.clone(),
            batches: vec![Vec::new(); self.set(planned).len()],
        };
        let mut bodies: Vec<Bodied> = heights.iter().map(bodied).collect();
        let mut left: Vec<Walking> = Vec::new();
        for (place, planned) in heights.iter().enumerate().rev() {
            left.extend(planned.stretches.iter().rev().map(|stretch| Walking {
                place,
                stretch: *stretch,
                next: stretch.to.digest,
                sequence: stretch.to.sequence,
            }));
        }
        while !left.is_empty() {
            self.question(peer, &mut left, &mut bodies)?;
        }
        for bodied in &mut bodies {
            bodied.batches.iter_mut().for_each(|lane| lane.reverse());
        }
        self.signatures(&bodies)?;
        Ok(bodies)
    }

    /// Asks for as many batches as one question may, and puts them where they belong.
    fn question(
        &self,
        peer: &mut Peer,
        left: &mut Vec<Walking>,
        bodies: &mut [Bodied],
    ) -> Result<(), Failed> {
        let mut asked: Vec<(Walking, u32)> = Vec::new();
        let mut room = BATCHES_MAX;
        while room > 0 && asked.len() < WALKS_MAX {
            let Some(walking) = left.pop() else { break };
            let count = walking.sequence - walking.stretch.from.sequence;
            let count = u32::try_from(count).unwrap_or(u32::MAX).min(room);
            room -= count;
            asked.push((walking, count));
        }
        let walks =
            asked.iter().map(|(walking, count)| Walk { digest: walking.next, count: *count });
        let (mut turn, mut broken) = (0, None);
        let answered = peer.batches(walks.collect(), |bytes| {
            let Some((walking, count)) = asked.get_mut(turn) else {
                return Err(Fault::lie("a batch that nobody asked for"));
            };
            let held = self.batch(walking, bytes)?;
            if !walking.fits(&held) {
                // More than f validators vouch for what no lane can have.
                let height = heights_of(bodies, walking.place);
                broken = Some((height, format!("batch {}: out of its place", held.digest())));
                return Err(Fault::Silent("what is final does not hold".to_owned()));
            }
            bodies[walking.place].batches[walking.stretch.lane as usize].push(Arc::new(held));
            *count -= 1;
            if *count == 0 {
                turn += 1;
            }
            Ok(())
        });
        if let Some((height, what)) = broken {
            return Err(Failed::Broken { height, what });
        }
        answered?;
        if turn < asked.len() {
            return Err(Fault::Silent("it lacks batches".to_owned()).into());
        }
        // What one question had no room for goes on with the next.
        left.extend(asked.into_iter().map(|(walking, _)| walking).filter(|it| !it.is_done()).rev());
        Ok(())
    }

    /// Checks that a batch is the one that is next in a walk.
    fn batch(&self, walking: &Walking, bytes: Vec<u8>) -> Result<Held, Fault> {
        let held = Held::decode(bytes, &self.network)
            .map_err(|reject| Fault::Lie(format!("batch {}: {reject}", walking.next)))?;
        if held.digest() != walking.next {
            return Err(Fault::Lie(format!("another batch than {}", walking.next)));
        }
        Ok(held)
    }

    /// Checks all signatures at once: those of owners, which a peer can change, and of authors, which it cannot.
    fn signatures(&self, bodies: &[Bodied]) -> Result<(), Failed> {
        let mut messages = SignedMessages::default();
        // Where the messages of each batch begin: the owner's, then its transactions'.
        let mut begins = Vec::new();
        for bodied in bodies {
            for held in bodied.batches.iter().flatten() {
                let set = self.set(&bodied.planned);
                let owner = set.key(held.header().lane).expect("the cut was checked");
                begins.push((messages.len(), bodied.planned.cut.height.get(), held));
                messages.push_batch(held, owner.as_bytes());
            }
        }
        let (keys, signatures): (Vec<PublicKey>, Vec<Signature>) = messages
            .entries()
            .iter()
            .map(|(key, _, signature)| (PublicKey(*key), Signature(*signature)))
            .unzip();
        let items: Vec<SignedItem<'_>> = messages
            .entries()
            .iter()
            .zip(keys.iter().zip(&signatures))
            .map(|((_, message, _), (key, signature))| SignedItem::new(key, message, signature))
            .collect();
        let verdicts = self.judge.verify(&items);
        let Some(bad) = verdicts.iter().position(|holds| !holds) else { return Ok(()) };
        let at = begins.partition_point(|(begin, ..)| *begin <= bad) - 1;
        let (begin, height, held) = &begins[at];
        let digest = held.digest();
        if bad == *begin {
            return Err(Fault::Lie(format!("batch {digest}: its owner's signature")).into());
        }
        let transaction = bad - begin - 1;
        let what = format!("batch {digest}: the signature of transaction {transaction}");
        Err(Failed::Broken { height: *height, what })
    }
}

fn heights_of(bodies: &[Bodied], place: usize) -> u64 {
    bodies[place].planned.cut.height.get()
}

impl Walking {
    /// Goes on behind the next batch; false where that does not stand where a certified tip must lead.
    fn fits(&mut self, held: &Held) -> bool {
        let header = held.header();
        let is_here = (header.lane, header.sequence) == (self.stretch.lane, self.sequence);
        self.next = header.previous;
        self.sequence -= 1;
        is_here && (!self.is_done() || self.next == self.stretch.from.digest)
    }

    const fn is_done(&self) -> bool {
        self.sequence == self.stretch.from.sequence
    }
}
