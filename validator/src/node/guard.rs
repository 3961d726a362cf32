//! Decides at a start what this validator remembers of what its key signed, and binds the key to its data folder.
//!
//! ```text
//! <key>.guard          what the key may have signed, beside the key, outside the data folder
//! <data>/identity      64 hexadecimal digits, drawn anew at every start; the guard knows them
//! <data>/began         there once the ledger has had records
//! ```
//!
//! | guard | data folder | means |
//! |---|---|---|
//! | new | any | the key has signed nothing: go on |
//! | knows its identity | whole | it remembers every vote, batch and ack: go on |
//! | knows its identity | journal or ledger is gone | forgotten: sign only above what the guard says |
//! | knows another, or it has none | any | gone, or a copy from before: sign only above what the guard says |
//! | of another network | any | refused |
//! | none | any | nobody knows: nothing is signed before the next epoch |
//!
//! Whoever has forgotten also listens for a while before it signs: should another process use the key, as when guard
//! and key were copied to a second machine, then its votes are seen, and this one ends.

use crate::{
    command::Exit,
    signer::{
        NOBODY_KNOWS,
        guard::{Guard, Identity, State},
    },
};
use ledger::Digest;
use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const IDENTITY_DIGITS: usize = 2 * size_of::<Identity>();

/// Binds the key to the data folder; `has_records` says whether the folder's ledger is not empty. Answers the guard,
/// which names this data folder by now.
///
/// What is of no use without what was lost is removed: the engine's files without the ledger.
///
/// Errors: unsafe to sign, where the guard is damaged, held by another process or of another network; host unfit,
/// where files cannot be read or written.
pub(super) fn bind(
    key: &Path,
    data: &Path,
    network: Digest,
    has_records: bool,
) -> Result<Guard, Exit> {
    let journal = data.join("consensus");
    let has_journal = journal.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let identity = read(&data.join("identity"))?;
    let mut guard = match Guard::open(key)? {
        Some(guard) => guard,
        None => {
            tracing::warn!(
                guard = %Guard::path(key).display(),
                "the guard is gone, so nobody knows what this key has signed: this validator follows without a \
                 vote until the next epoch"
            );
            let silent_until = NOBODY_KNOWS;
            let state = State { network: Some(network), silent_until, ..State::default() };
            Guard::create(key, &state)?;
            Guard::open(key)?.ok_or_else(|| unfit(&Guard::path(key), &gone()))?
        }
    };
    let mut state = guard.state().clone();
    if state.network.is_some_and(|known| known != network) {
        return Err(Exit::unsafe_to_sign(format!(
            "{} says that this key signs for another network: use a key for each",
            Guard::path(key).display()
        )));
    }
    // Not where something was done here with another guard of this key.
    let is_new = state.network.is_none() && identity.is_none() && !has_records && !has_journal;
    let is_known = identity.is_some_and(|it| [state.folder, state.next].contains(&Some(it)));
    let ledger_lost = !has_records && (began(data).exists() || (has_journal && !is_known));
    let journal_lost = has_records && !has_journal;
    let has_forgotten = !is_new && (!is_known || ledger_lost || journal_lost);
    if has_forgotten {
        let lease = state.lease.clone();
        state.floor.raise_to(&lease);
        // Until that is done, whatever is cut short.
        state.watch = true;
        tracing::warn!(
            ledger_lost,
            journal_lost,
            another_folder = !is_known,
            view = lease.view,
            "what this key has signed is forgotten: it signs only above what the guard says"
        );
    }
    if ledger_lost && has_journal {
        // It would go on from where the ledger was.
        std::fs::remove_dir_all(&journal).map_err(|error| unfit(&journal, &error))?;
    }
    let mut next: Identity = [0; 32];
    getrandom::fill(&mut next)
        .map_err(|error| Exit::host_unfit(format!("no randomness: {error}")))?;
    state.network = Some(network);
    state.folder = identity.filter(|_| is_known && !has_forgotten);
    state.next = Some(next);
    // First the guard, which then knows both names, whatever is cut short; at last only the new one.
    let failed = |error| unfit(&Guard::path(key), &error);
    guard.write(state.clone()).map_err(failed)?;
    write(&data.join("identity"), &hex::encode(next))?;
    guard.write(State { folder: Some(next), next: None, ..state }).map_err(failed)?;
    Ok(guard)
}

/// Notes that the ledger has records, so that a later start misses them.
///
/// Errors: the file cannot be written; it can be tried again.
pub(super) fn begin(data: &Path) -> io::Result<()> {
    let file = began(data);
    if !file.exists() {
        File::create(&file)?.sync_all()?;
        File::open(data)?.sync_all()?;
    }
    Ok(())
}

fn began(data: &Path) -> PathBuf {
    data.join("began")
}

fn gone() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn unfit(file: &Path, error: &io::Error) -> Exit {
    Exit::host_unfit(format!("{}: {error}", file.display()))
}

fn read(file: &Path) -> Result<Option<Identity>, Exit> {
    let mut text = String::new();
    match File::open(file) {
        Ok(open) => open
            .take(2 * IDENTITY_DIGITS as u64)
            .read_to_string(&mut text)
            .map_err(|error| unfit(file, &error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unfit(file, &error)),
    };
    let mut identity = [0; 32];
    // A file that was cut short names nothing.
    Ok(hex::decode_to_slice(text.trim_end(), &mut identity).is_ok().then_some(identity))
}

/// Writes and syncs the file and its folder, so that it survives what follows; it is never half there.
fn write(file: &Path, digits: &str) -> Result<(), Exit> {
    let fail = |error: io::Error| unfit(file, &error);
    let unfinished = file.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut open = options.open(&unfinished).map_err(fail)?;
    writeln!(open, "{digits}").map_err(fail)?;
    open.sync_all().map_err(fail)?;
    std::fs::rename(&unfinished, file).map_err(fail)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command::Code, signer::Marks};

    const NETWORK: Digest = Digest([1; 32]);

    struct Place {
        _folder: tempfile::TempDir,
        key: PathBuf,
        data: PathBuf,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            key: folder.path().join("validator.key"),
            data: folder.path().join("data"),
            _folder: folder,
        };
        std::fs::create_dir(&place.data).unwrap();
        Guard::create(&place.key, &State::default()).unwrap();
        place
    }

    impl Place {
        fn journal(&self) {
            std::fs::create_dir_all(self.data.join("consensus/votes")).unwrap();
        }

        /// Starts, signs up to a view and a place, and is killed.
        fn run(&self, has_records: bool, view: u64) -> (bool, Marks) {
            let mut guard = bind(&self.key, &self.data, NETWORK, has_records).unwrap();
            let floor = guard.state().floor.clone();
            let mut state = guard.state().clone();
            // As when it has listened.
            let has_forgotten = std::mem::take(&mut state.watch);
            state.lease.raise_to(&Marks { view, lanes: vec![view] });
            guard.write(state).unwrap();
            (has_forgotten, floor)
        }

        fn remembers(&self, has_records: bool, view: u64) -> bool {
            let before = floor(self);
            let (has_forgotten, floor) = self.run(has_records, view);
            assert!(floor == before || has_forgotten);
            !has_forgotten
        }
    }

    fn floor(place: &Place) -> Marks {
        Guard::open(&place.key).unwrap().unwrap().state().floor.clone()
    }

    #[test]
    fn whoever_has_all_goes_on_and_whoever_has_lost_something_signs_above_it() {
        let whole = || {
            let place = place();
            assert!(place.remembers(false, 0));
            // A first start that was cut short before anything was durable.
            assert!(place.remembers(false, 5));
            place.journal();
            begin(&place.data).unwrap();
            begin(&place.data).unwrap();
            assert!(place.remembers(true, 100));
            assert!(place.remembers(true, 100));
            assert_eq!(floor(&place).view, 0);
            place
        };
        let (forgets, keeps) = (100, 0);
        type Loss = fn(&Place);
        let losses: [(&str, Loss, bool, u64); 7] = [
            ("nothing", |_| {}, true, keeps),
            (
                "the journal",
                |it| std::fs::remove_dir_all(it.data.join("consensus")).unwrap(),
                true,
                forgets,
            ),
            ("the ledger", |_| {}, false, forgets),
            (
                "ledger and journal",
                |it| std::fs::remove_dir_all(it.data.join("consensus")).unwrap(),
                false,
                forgets,
            ),
            (
                "the name",
                |it| std::fs::remove_file(it.data.join("identity")).unwrap(),
                true,
                forgets,
            ),
            (
                "half the name",
                |it| std::fs::write(it.data.join("identity"), "01").unwrap(),
                true,
                forgets,
            ),
            (
                "all",
                |it| {
                    std::fs::remove_dir_all(&it.data).unwrap();
                    std::fs::create_dir(&it.data).unwrap();
                },
                false,
                forgets,
            ),
        ];
        for (what, lose, has_records, view) in losses {
            let place = whole();
            lose(&place);
            let (has_forgotten, above) = place.run(has_records, 0);
            assert_eq!(has_forgotten, view == forgets, "{what}");
            assert_eq!((above.view, above.lane(0)), (view, view), "{what}");
            if what == "the ledger" {
                assert!(
                    !place.data.join("consensus").exists(),
                    "it goes on where there is nothing"
                );
            }
            // Whatever comes later, that stays forgotten.
            place.journal();
            let (_, again) = place.run(true, 500);
            assert_eq!(again, above, "{what}");
        }
    }

    #[test]
    fn who_has_forgotten_listens_even_if_a_start_is_cut_short_before() {
        let place = place();
        assert!(place.remembers(false, 0));
        place.journal();
        assert!(place.remembers(true, 10));
        std::fs::remove_file(place.data.join("identity")).unwrap();
        for _ in 0..3 {
            assert!(bind(&place.key, &place.data, NETWORK, true).unwrap().state().watch);
        }
    }

    #[test]
    fn a_guard_of_a_new_key_beside_what_it_signed_is_none() {
        for what in ["identity", "consensus/votes", "nothing"] {
            let place = place();
            let has_records = what == "nothing";
            if what == "identity" {
                std::fs::write(place.data.join("identity"), "11".repeat(32)).unwrap();
            } else if !has_records {
                place.journal();
            }
            let guard = bind(&place.key, &place.data, NETWORK, has_records).unwrap();
            assert!(guard.state().watch, "{what}");
        }
    }

    #[test]
    fn a_folder_from_before_is_no_memory() {
        let place = place();
        assert!(place.remembers(false, 0));
        place.journal();
        assert!(place.remembers(true, 10));
        let backup = std::fs::read(place.data.join("identity")).unwrap();
        assert!(place.remembers(true, 700));
        std::fs::write(place.data.join("identity"), backup).unwrap();
        let (has_forgotten, floor) = place.run(true, 700);
        assert!(has_forgotten);
        assert_eq!(floor.view, 700);
    }

    #[test]
    fn a_start_that_was_cut_short_between_the_two_files_is_no_loss() {
        let place = place();
        assert!(place.remembers(false, 0));
        place.journal();
        assert!(place.remembers(true, 10));
        let before = read(&place.data.join("identity")).unwrap();
        let mut guard = Guard::open(&place.key).unwrap().unwrap();
        assert_eq!(guard.state().folder, before);
        let next = Some([9; 32]);
        let state = guard.state().clone();
        guard.write(State { next, ..state }).unwrap();
        drop(guard);
        assert!(place.remembers(true, 10));
        let mut guard = Guard::open(&place.key).unwrap().unwrap();
        let state = guard.state().clone();
        guard.write(State { folder: Some([8; 32]), next: state.folder, ..state }).unwrap();
        drop(guard);
        assert!(place.remembers(true, 10));
    }

    #[test]
    fn without_its_guard_a_key_is_silent_until_the_next_epoch() {
        let place = place();
        assert!(place.remembers(false, 0));
        place.journal();
        assert!(place.remembers(true, 10));
        std::fs::remove_file(Guard::path(&place.key)).unwrap();
        for _ in 0..2 {
            let guard = bind(&place.key, &place.data, NETWORK, true).unwrap();
            assert_eq!(guard.state().silent_until, NOBODY_KNOWS);
        }
    }

    #[test]
    fn a_key_signs_for_one_network() {
        let place = place();
        assert!(place.remembers(false, 0));
        let exit = bind(&place.key, &place.data, Digest([2; 32]), false).unwrap_err();
        assert_eq!(exit.code(), Code::UnsafeToSign);
        assert!(exit.message().contains("another network"), "{exit}");
    }
}
