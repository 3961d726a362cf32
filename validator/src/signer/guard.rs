//! The guard: a file beside the key that knows what the key may have signed, whatever becomes of the data folder.
//!
//! It is leased ahead: before anything is signed for a view or a place in a lane, the guard says durably that so
//! much, and a little more, may have been signed. So it costs one sync for many signatures, and whoever finds
//! nothing but the guard knows above what nothing was signed.
//!
//! ```text
//! file     two slots of 4,096 bytes, written in turn and in place: that needs no room; the greater generation counts
//!
//! slot    0     8  magic "althgrd\n"
//!         8     8  generation
//!        16    32  network, zero until the key is first used
//!        48    32  identity of the data folder with the memory of this key, zero until then
//!        80    32  identity that the folder is about to get, or zero
//!       112     8  epoch that the marks belong to
//!       120     8  in epochs below this one nothing is signed
//!       128     8  lease: newest view that may have been signed in
//!       136     8  floor: newest view whose votes may be forgotten
//!       144     8  1 where others are to be listened to before anything is signed, otherwise 0
//!       152   800  lease of each lane: newest place of which a batch or ack may have been signed
//!       952   800  floor of each lane
//!      1752    32  BLAKE3 (derive_key, "althing guard v1") of bytes 0 to 1,752
//!      1784        zeros
//! ```

use crate::command::Exit;
use ledger::{Digest, limits::VALIDATORS_MAX};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"althgrd\n";
const CONTEXT: &str = "althing guard v1";
const SLOT_BYTES: usize = 4_096;
/// Views, and places of each lane, that a lease is ahead of what is signed: a second or so of both, so that it is
/// renewed once a second, and that who has lost all else is silent for no longer.
pub const AHEAD: u64 = 64;
/// In place of an epoch below which nothing is signed: nobody knows yet which that is.
pub const NOBODY_KNOWS: u64 = u64::MAX;
/// Bytes that the hash covers.
const BODY_BYTES: usize = 152 + 2 * 8 * VALIDATORS_MAX;
const _: () = assert!(VALIDATORS_MAX == 100 && BODY_BYTES + 32 <= SLOT_BYTES);

/// Names a data folder, drawn anew at every start: a copy of the folder from before is none of it.
pub type Identity = [u8; 32];

/// The newest view and, lane by lane, the newest place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The view.
    pub view: u64,
    /// The places; those of lanes beyond are 0.
    pub lanes: Vec<u64>,
}

impl Marks {
    /// The place of a lane.
    pub fn lane(&self, lane: u32) -> u64 {
        self.lanes.get(lane as usize).copied().unwrap_or(0)
    }

    /// Raises the place of a lane.
    pub(super) fn raise(&mut self, lane: u32, sequence: u64) {
        let lane = lane as usize;
        if self.lanes.len() <= lane {
            self.lanes.resize(lane + 1, 0);
        }
        self.lanes[lane] = self.lanes[lane].max(sequence);
    }

    /// Whether a mark is above another's by more than a slot that was lost is made up for.
    pub(super) fn is_far_above(&self, other: &Self) -> bool {
        let is_far = |mark: u64, other: u64| mark > other.saturating_add(2 * AHEAD);
        let mut lanes = (0..).zip(&self.lanes);
        is_far(self.view, other.view) || lanes.any(|(lane, mark)| is_far(*mark, other.lane(lane)))
    }

    /// Raises every mark to another's.
    pub fn raise_to(&mut self, other: &Self) {
        self.view = self.view.max(other.view);
        for (lane, sequence) in (0..).zip(&other.lanes) {
            self.raise(lane, *sequence);
        }
    }
}

/// What the guard says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The network that the key signed for; none as long as it signed nothing.
    pub network: Option<Digest>,
    /// The data folder that remembers all that was signed above the floor.
    pub folder: Option<Identity>,
    /// The name that it is about to get.
    pub next: Option<Identity>,
    /// The epoch of the marks.
    pub epoch: u64,
    /// Nothing is signed in epochs below: nobody knows what was.
    pub silent_until: u64,
    /// Whether others are to be listened to before anything is signed: something that was may be forgotten, and
    /// nobody has looked yet whether another process signs with this key.
    pub watch: bool,
    /// What may have been signed.
    pub lease: Marks,
    /// What may have been signed and is forgotten: only above it is signed again.
    pub floor: Marks,
}

/// The open file; one process at a time holds it.
#[derive(Debug)]
pub struct Guard {
    file: File,
    generation: u64,
    state: State,
}

impl Guard {
    /// The guard's path beside a key file.
    pub fn path(key: &Path) -> PathBuf {
        let mut name = key.as_os_str().to_owned();
        name.push(".guard");
        PathBuf::from(name)
    }

    /// Makes the guard of a key file and makes it durable; never replaces one.
    ///
    /// Errors: host unfit, where it cannot be written; config, where there is one.
    pub fn create(key: &Path, state: &State) -> Result<(), Exit> {
        let path = Self::path(key);
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Exit::config(format!("guard {}: it exists, and is never replaced", path.display()))
            }
            _ => unfit(&path, &error),
        };
        // Whole before it has its name: half a guard would say that less was signed.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(fail)?;
        file.set_len(2 * SLOT_BYTES as u64).map_err(fail)?;
        file.write_all_at(&encode(state, 1), 0).map_err(fail)?;
        file.write_all_at(&[0; SLOT_BYTES], SLOT_BYTES as u64).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        std::fs::hard_link(&unfinished, &path).map_err(fail)?;
        std::fs::remove_file(&unfinished).map_err(fail)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(fail)
    }

    /// Opens the guard of a key file, for this process alone; none where there is none.
    ///
    /// Errors: unsafe to sign, where it is damaged or another process signs with this key; host unfit, where it
    /// cannot be read.
    pub fn open(key: &Path) -> Result<Option<Self>, Exit> {
        let path = Self::path(key);
        let fail = |error: io::Error| unfit(&path, &error);
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            options
        };
        let file = match options().open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        use rustix::fs::{FlockOperation, flock};
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Exit::unsafe_to_sign(format!(
                "{}: another process signs with this key; stop it first",
                path.display()
            )));
        }
        let mut slots = [0; 2 * SLOT_BYTES];
        // Whatever is missing at its end is no slot.
        let mut filled = 0;
        while filled < slots.len() {
            match file.read_at(&mut slots[filled..], filled as u64).map_err(fail)? {
                0 => break,
                count => filled += count,
            }
        }
        let (one, other) = slots.split_at(SLOT_BYTES);
        let newest = [one, other].into_iter().filter_map(decode).max_by_key(|slot| slot.0);
        let is_torn = |slot: &[u8]| slot.iter().any(|byte| *byte != 0) && decode(slot).is_none();
        let torn = is_torn(one) || is_torn(other) || filled < slots.len();
        let Some((generation, mut state)) = newest else {
            return Err(Exit::unsafe_to_sign(format!(
                "{}: damaged, so nobody knows what this key has signed; give it back from where it was copied \
                 while the validator stood still, or remove it to follow without a vote until the next epoch",
                path.display()
            )));
        };
        if torn {
            // A write that was cut short allowed nothing yet, but rot looks the same: then the lease was newer.
            let Marks { view, lanes } = &mut state.lease;
            for mark in lanes.iter_mut().chain([view]) {
                *mark = mark.saturating_add(2 * AHEAD);
            }
        }
        Ok(Some(Self { file, generation, state }))
    }

    /// What it says.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Replaces what it says; durable when this returns.
    ///
    /// Errors: the disk's. What it says is then that of before or the new one.
    pub fn write(&mut self, state: State) -> io::Result<()> {
        let generation = self.generation + 1;
        let slot = if generation % 2 == 1 { 0 } else { SLOT_BYTES as u64 };
        self.file.write_all_at(&encode(&state, generation), slot)?;
        self.file.sync_data()?;
        self.generation = generation;
        self.state = state;
        Ok(())
    }
}

fn unfit(path: &Path, error: &io::Error) -> Exit {
    Exit::host_unfit(format!("guard {}: {error}", path.display()))
}

fn encode(state: &State, generation: u64) -> [u8; SLOT_BYTES] {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&state.network.map_or([0; 32], |network| *network.as_bytes()));
    bytes.extend_from_slice(&state.folder.unwrap_or_default());
    bytes.extend_from_slice(&state.next.unwrap_or_default());
    let State { epoch, silent_until, watch, lease, floor, .. } = state;
    for number in [*epoch, *silent_until, lease.view, floor.view, u64::from(*watch)] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for marks in [&state.lease, &state.floor] {
        for lane in (0..).take(VALIDATORS_MAX) {
            bytes.extend_from_slice(&marks.lane(lane).to_le_bytes());
        }
    }
    let hash = blake3::derive_key(CONTEXT, &bytes);
    bytes.extend_from_slice(&hash);
    let mut slot = [0; SLOT_BYTES];
    slot[..bytes.len()].copy_from_slice(&bytes);
    slot
}

/// Reads a slot: its generation and what it says; none for anything but a whole one.
fn decode(slot: &[u8]) -> Option<(u64, State)> {
    let (body, rest) = slot.split_at_checked(BODY_BYTES)?;
    let (hash, zeros) = rest.split_first_chunk::<32>()?;
    let is_whole = body.starts_with(MAGIC)
        && blake3::derive_key(CONTEXT, body) == *hash
        && zeros.iter().all(|byte| *byte == 0);
    if !is_whole {
        return None;
    }
    let name = |at: usize| {
        let name: Identity = *body[at..].first_chunk().expect("within the body");
        (name != [0; 32]).then_some(name)
    };
    let number = |at: usize| u64::from_le_bytes(*body[at..].first_chunk().expect("within it"));
    let marks = |view: usize, lanes: usize| Marks {
        view: number(view),
        lanes: (0..VALIDATORS_MAX).map(|lane| number(lanes + 8 * lane)).collect(),
    };
    let state = State {
        network: name(16).map(Digest),
        folder: name(48),
        next: name(80),
        epoch: number(112),
        silent_until: number(120),
        watch: number(144) != 0,
        lease: marks(128, 152),
        floor: marks(136, 152 + 8 * VALIDATORS_MAX),
    };
    Some((number(8), state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Code;

    fn state() -> State {
        let lanes = |from: u64| (from..from + VALIDATORS_MAX as u64).collect();
        State {
            network: Some(Digest([1; 32])),
            folder: Some([2; 32]),
            next: Some([3; 32]),
            epoch: 4,
            silent_until: 5,
            watch: true,
            lease: Marks { view: 6, lanes: lanes(100) },
            floor: Marks { view: 7, lanes: lanes(300) },
        }
    }

    #[test]
    fn what_is_written_is_read_and_each_field_counts() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("a.key");
        assert!(Guard::open(&key).unwrap().is_none());
        let fresh = State::default();
        Guard::create(&key, &fresh).unwrap();
        let mut guard = Guard::open(&key).unwrap().unwrap();
        let mut whole = fresh;
        whole.lease.lanes = vec![0; VALIDATORS_MAX];
        whole.floor.lanes = vec![0; VALIDATORS_MAX];
        assert_eq!(*guard.state(), whole);
        for generation in 0..5 {
            let mut state = state();
            state.lease.view += generation;
            guard.write(state.clone()).unwrap();
            drop(guard);
            guard = Guard::open(&key).unwrap().unwrap();
            assert_eq!(*guard.state(), state);
        }
        assert_eq!(Guard::create(&key, &state()).unwrap_err().code(), Code::Config);
    }

    #[test]
    fn one_process_at_a_time_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("a.key");
        Guard::create(&key, &state()).unwrap();
        let held = Guard::open(&key).unwrap().unwrap();
        let exit = Guard::open(&key).unwrap_err();
        assert_eq!(exit.code(), Code::UnsafeToSign);
        assert!(exit.message().contains("another process"), "{exit}");
        drop(held);
        assert!(Guard::open(&key).unwrap().is_some());
    }

    #[test]
    fn a_torn_write_leaves_what_was_there_and_more_and_damage_to_both_is_refused() {
        let ahead = |mut state: State| {
            state.lease.view += 2 * AHEAD;
            state.lease.lanes.iter_mut().for_each(|lane| *lane += 2 * AHEAD);
            state
        };
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("a.key");
        Guard::create(&key, &state()).unwrap();
        let mut guard = Guard::open(&key).unwrap().unwrap();
        let mut newer = state();
        newer.lease.view = 99;
        guard.write(newer.clone()).unwrap();
        drop(guard);
        let path = Guard::path(&key);
        let whole = std::fs::read(&path).unwrap();
        // The second slot holds the newer one: any of its bytes is torn.
        for at in (SLOT_BYTES..2 * SLOT_BYTES).step_by(7) {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(*Guard::open(&key).unwrap().unwrap().state(), ahead(state()), "{at}");
        }
        let mut torn = whole.clone();
        torn[9] ^= 1;
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(*Guard::open(&key).unwrap().unwrap().state(), ahead(newer));
        torn[SLOT_BYTES + 100] ^= 1;
        for damaged in [torn.as_slice(), &[], &whole[..100], b"0123\n"] {
            std::fs::write(&path, damaged).unwrap();
            let exit = Guard::open(&key).unwrap_err();
            assert_eq!(exit.code(), Code::UnsafeToSign);
            assert!(exit.message().contains("damaged"), "{exit}");
        }
    }
}
