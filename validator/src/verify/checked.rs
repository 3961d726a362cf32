//! Transactions' signatures that were found good of late: what is sent to several validators is checked once.
//!
//! Each has one place, by its transaction's id; who comes later takes it. Everything that the verdict depends on
//! is compared, byte for byte: a place that somebody aims at costs a check, and nothing else.
//!
//! A place is far from the core, so that remembering costs a twentieth of a check. While nobody sends anything
//! twice only one in sixteen is remembered: enough to notice when somebody does.

use crate::held::Signed;
use ledger::{Digest, signing_message};

/// Signatures that are remembered: half a second of them at the highest rate that a machine of two cores checks.
const PLACES: usize = 1 << 16;
/// Bytes of all.
pub const CHECKED_BYTES_MAX: usize = PLACES * (size_of::<Place>() + size_of::<State>());
/// Signatures after a repeated one, or after the start, of which all are remembered.
const ALL: usize = PLACES;
/// Of the others those whose id has zeros here.
const SAMPLE: u8 = 0x0f;
/// Where a message has its digest, after the name of what is signed.
const DIGEST_AT: usize = 15;

/// What is known of the signature that has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing: the place is free.
    Free,
    /// It is good.
    Good,
    /// It is checked in this round, as this one of those that are.
    Asked(u32),
}

/// What tells one signature from another: two lines of a cache, since a place is seldom in any.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
struct Place {
    signature: [u8; 64],
    id: [u8; 32],
    key: [u8; 32],
}

const _: () = assert!(size_of::<Place>() == 128);

/// Where the verdict on a signature comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was found good before.
    Known,
    /// From this round's check with this number.
    Check(u32),
}

/// The places, and the state of each.
pub(super) struct Checked {
    places: Box<[Place]>,
    states: Box<[State]>,
    /// What the message of a transaction begins with.
    name: [u8; DIGEST_AT],
    /// How many more signatures are all remembered.
    all: usize,
    /// The places of this round's checks that are remembered.
    asked: Vec<(usize, u32)>,
}

impl Default for Checked {
    fn default() -> Self {
        let place = Place { signature: [0; 64], id: [0; 32], key: [0; 32] };
        let message = signing_message(&Digest::ZERO);
        Self {
            places: vec![place; PLACES].into(),
            states: vec![State::Free; PLACES].into(),
            name: *message.first_chunk().expect("a message has a name"),
            all: ALL,
            asked: Vec::new(),
        }
    }
}

impl Checked {
    /// Finds out which signatures of a round have to be checked.
    ///
    /// Shape: an origin for each of `round`; checks are numbered from 0 in its order, and the first of equal
    /// ones is the one that is checked. [`Checked::settle`] must follow.
    pub(super) fn ask(&mut self, round: &[Signed]) -> Vec<Origin> {
        let mut origins = Vec::with_capacity(round.len());
        let mut checks = 0;
        for signed in round {
            let mut origin = Origin::Check(checks);
            if let Some((at, place)) = self.place(signed) {
                let (known, state) = (&mut self.places[at], &mut self.states[at]);
                origin = match *state {
                    State::Good if *known == place => Origin::Known,
                    State::Asked(check) if *known == place => Origin::Check(check),
                    _ => {
                        (*known, *state) = (place, State::Asked(checks));
                        self.asked.push((at, checks));
                        origin
                    }
                };
            }
            checks += u32::from(origin == Origin::Check(checks));
            origins.push(origin);
        }
        let is_repeated = origins.len() > checks as usize;
        self.all = if is_repeated { ALL } else { self.all.saturating_sub(round.len()) };
        origins
    }

    /// Takes what the round's checks found, each by its number.
    pub(super) fn settle(&mut self, is_good: impl Fn(u32) -> bool) {
        for (at, check) in self.asked.drain(..) {
            let state = &mut self.states[at];
            // Another one of the round may have taken the place.
            if *state == State::Asked(check) {
                *state = if is_good(check) { State::Good } else { State::Free };
            }
        }
    }

    /// The number of a transaction's place, and what belongs there; none for what is not remembered.
    fn place(&self, signed: &Signed) -> Option<(usize, Place)> {
        let (key, message, signature) = signed;
        // An owner signs a batch once: only transactions come again.
        let id: [u8; 32] = *message.strip_prefix(&self.name)?.first_chunk()?;
        let is_remembered = self.all > 0 || id[2] & SAMPLE == 0;
        let at = usize::from(u16::from_le_bytes([id[0], id[1]]));
        is_remembered.then_some((at, Place { signature: *signature, id, key: *key }))
    }
}

const _: () = assert!(PLACES == 1 << u16::BITS);

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(number: u8, place: u16, signature: u8) -> Signed {
        let mut message = signing_message(&Digest::ZERO);
        message[DIGEST_AT..DIGEST_AT + 2].copy_from_slice(&place.to_le_bytes());
        ([number; 32], message, [signature; 64])
    }

    /// One round in which all hold whose signature is even.
    fn round(checked: &mut Checked, signed: &[Signed]) -> Vec<Origin> {
        let origins = checked.ask(signed);
        let mut checks = Vec::new();
        for ((.., signature), origin) in signed.iter().zip(&origins) {
            if *origin == Origin::Check(u32::try_from(checks.len()).unwrap()) {
                checks.push(signature[0] % 2 == 0);
            }
        }
        checked.settle(|check| checks[check as usize]);
        assert!(checked.states.iter().all(|state| !matches!(state, State::Asked(_))));
        origins
    }

    #[test]
    fn what_was_good_is_known_and_what_was_not_is_checked_again() {
        use Origin::{Check, Known};
        let mut checked = Checked::default();
        let (good, bad) = (signed(1, 10, 2), signed(2, 20, 3));
        assert_eq!(round(&mut checked, &[good, bad]), [Check(0), Check(1)]);
        assert_eq!(round(&mut checked, &[bad, good, bad]), [Check(0), Known, Check(0)]);
        assert_eq!(round(&mut checked, &[good]), [Known]);
        // Whatever differs is another one, and has the place from then on.
        for other in [signed(3, 10, 2), signed(1, 10, 4), signed(1, 10, 3)] {
            assert_eq!(round(&mut checked, &[good]).len(), 1);
            assert_eq!(round(&mut checked, &[other]), [Check(0)]);
            assert_eq!(round(&mut checked, &[good]), [Check(0)]);
        }
        let mut message = good;
        message.1[46] ^= 1;
        assert_eq!(round(&mut checked, &[message]), [Check(0)]);
        // The same digest under another name is not a transaction.
        let mut named = good;
        named.1[0] ^= 1;
        for _ in 0..2 {
            assert_eq!(round(&mut checked, &[named, named]), [Check(0), Check(1)]);
        }
    }

    #[test]
    fn equal_ones_of_a_round_are_checked_once_and_those_of_one_place_each() {
        use Origin::{Check, Known};
        let mut checked = Checked::default();
        let (one, other) = (signed(1, 7, 2), signed(2, 7, 4));
        assert_eq!(
            round(&mut checked, &[one, one, signed(3, 8, 2)]),
            [Check(0), Check(0), Check(1)]
        );
        // They push each other out, within a round as well.
        let all = [other, one, other, other];
        assert_eq!(round(&mut checked, &all), [Check(0), Check(1), Check(2), Check(2)]);
        assert_eq!(round(&mut checked, &[one]), [Check(0)]);
        assert_eq!(round(&mut checked, &[one]), [Known]);
    }
    #[test]
    fn of_those_who_never_repeat_only_a_sample_is_remembered_until_one_repeats() {
        use Origin::{Check, Known};
        let mut checked = Checked::default();
        let numbered = |number: u16, sample: u8| {
            let mut one = signed(1, number, 2);
            one.1[DIGEST_AT + 2] = sample;
            one
        };
        let quiet: Vec<Signed> = (0..=u16::MAX).map(|number| numbered(number, 1)).collect();
        round(&mut checked, &quiet);
        // All of them were remembered, and from here on none is.
        assert!(checked.states.iter().all(|state| *state == State::Good));
        let (sampled, other) = (numbered(4, 0x10), numbered(5, 0x11));
        for _ in 0..3 {
            assert_eq!(round(&mut checked, &[other, other]), [Check(0), Check(1)]);
        }
        assert_eq!(round(&mut checked, &[sampled]), [Check(0)]);
        assert_eq!(round(&mut checked, &[other]), [Check(0)]);
        assert_eq!(round(&mut checked, &[sampled]), [Known]);
        assert_eq!(round(&mut checked, &[other, other]), [Check(0), Check(0)]);
        assert_eq!(round(&mut checked, &[other]), [Known]);
    }
}
