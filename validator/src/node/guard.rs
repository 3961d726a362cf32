//! Keeps a key from signing twice: it is bound to the data folder whose journal knows what it signed.
//!
//! ```text
//! <data>/identity      64 hexadecimal digits, drawn when the folder is first used
//! <key>.guard          the same digits, beside the key, outside the data folder
//! <data>/began         there once the ledger has had records
//! ```
//!
//! | guard | identity | journal | means |
//! |---|---|---|---|
//! | none | none | none | first start: both are written |
//! | none | there | none | a first start was cut short: both are written again |
//! | equal | equal | there | go on: the journal remembers every vote, the ledger every batch and ack |
//! | equal | equal | any | the ledger began and is empty: it was lost: refused |
//! | equal | equal | none | go on if the ledger is empty too, otherwise the journal was lost: refused |
//! | there | another or none | any | this key signed elsewhere: refused |
//! | none | there | there | the guard was lost, or the folder is a copy: refused |

use crate::command::Exit;
use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const IDENTITY_DIGITS: usize = 64;

/// Binds the key file to the data folder, or finds that it is bound to it; `has_records` says whether
/// the folder's ledger is not empty.
///
/// Errors: unsafe to sign, where the key may have signed what this folder's journal does not know;
/// host unfit, where the files cannot be read or written.
pub(super) fn bind(key: &Path, data: &Path, has_records: bool) -> Result<(), Exit> {
    let (guard_file, identity_file) = (guard_path(key), data.join("identity"));
    let journal = data.join("consensus");
    let has_journal = journal.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let (guard, identity) = (read(&guard_file)?, read(&identity_file)?);
    match (guard, identity) {
        (Some(guard), Some(identity))
            if guard == identity && !has_records && began(data).exists() =>
        {
            Err(Exit::unsafe_to_sign(format!(
                "the ledger in {} is gone: without it this key can sign another batch or ack for a \
                 place that it has signed for; give it back, or use a new key",
                data.display()
            )))
        }
        (Some(guard), Some(identity)) if guard == identity && (has_journal || !has_records) => {
            Ok(())
        }
        (Some(guard), Some(identity)) if guard == identity => Err(Exit::unsafe_to_sign(format!(
            "{} is gone, but the ledger beside it has records: without the journal this key can \
             sign twice; give it back, or use a new key",
            journal.display()
        ))),
        (Some(_), _) => Err(Exit::unsafe_to_sign(format!(
            "{} says that this key signed with another data folder than {}: two journals for one \
             key can sign twice; give back the old folder, or use a new key",
            guard_file.display(),
            data.display()
        ))),
        (None, Some(_)) if has_journal => Err(Exit::unsafe_to_sign(format!(
            "{} is missing, but {} has a journal: if the folder is a copy, the original may still \
             sign; give back the guard file, or use a new key",
            guard_file.display(),
            data.display()
        ))),
        (None, _) => {
            let mut identity = [0; IDENTITY_DIGITS / 2];
            getrandom::fill(&mut identity)
                .map_err(|error| Exit::host_unfit(format!("no randomness: {error}")))?;
            let digits = hex::encode(identity);
            write(&identity_file, &digits)?;
            write(&guard_file, &digits)
        }
    }
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

fn guard_path(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".guard");
    PathBuf::from(name)
}

fn unfit(file: &Path, error: &std::io::Error) -> Exit {
    Exit::host_unfit(format!("{}: {error}", file.display()))
}

fn read(file: &Path) -> Result<Option<String>, Exit> {
    let mut text = String::new();
    match File::open(file) {
        Ok(open) => open
            .take(2 * IDENTITY_DIGITS as u64)
            .read_to_string(&mut text)
            .map_err(|error| unfit(file, &error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unfit(file, &error)),
    };
    let digits = text.trim_end();
    let is_whole =
        digits.len() == IDENTITY_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A file cut short was written by a first start that did not get to sign.
    Ok(is_whole.then(|| digits.to_owned()))
}

/// Writes and syncs the file and its folder, so that it survives what follows.
fn write(file: &Path, digits: &str) -> Result<(), Exit> {
    let fail = |error: std::io::Error| unfit(file, &error);
    let mut open = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .map_err(fail)?;
    writeln!(open, "{digits}").map_err(fail)?;
    open.sync_all().map_err(fail)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Code;

    struct Place {
        _folder: tempfile::TempDir,
        key: PathBuf,
        data: PathBuf,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let (key, data) = (folder.path().join("validator.key"), folder.path().join("data"));
        std::fs::create_dir(&data).unwrap();
        Place { _folder: folder, key, data }
    }

    fn journal(data: &Path) {
        std::fs::create_dir_all(data.join("consensus/votes")).unwrap();
    }

    fn refused(result: Result<(), Exit>) -> bool {
        result.is_err_and(|exit| exit.code() == Code::UnsafeToSign)
    }

    #[test]
    fn a_first_start_binds_and_later_ones_go_on() {
        let Place { key, data, .. } = &place();
        bind(key, data, false).unwrap();
        journal(data);
        bind(key, data, false).unwrap();
    }

    #[test]
    fn a_lost_or_other_data_folder_is_refused() {
        let Place { _folder, key, data } = &place();
        bind(key, data, false).unwrap();
        let empty = _folder.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        assert!(refused(bind(key, &empty, false)));
        let other = place();
        bind(&other.key, &other.data, false).unwrap();
        assert!(refused(bind(key, &other.data, false)));
    }

    #[test]
    fn a_lost_journal_is_refused_once_there_are_records() {
        let Place { key, data, .. } = &place();
        bind(key, data, false).unwrap();
        bind(key, data, false).unwrap();
        assert!(refused(bind(key, data, true)));
        journal(data);
        bind(key, data, true).unwrap();
    }

    #[test]
    fn a_lost_ledger_is_refused_once_it_had_records() {
        let Place { key, data, .. } = &place();
        bind(key, data, false).unwrap();
        journal(data);
        // A first start that was cut short before anything was durable.
        bind(key, data, false).unwrap();
        begin(data).unwrap();
        begin(data).unwrap();
        bind(key, data, true).unwrap();
        assert!(refused(bind(key, data, false)));
        // As when everything but the guard is lost.
        std::fs::remove_file(began(data)).unwrap();
        std::fs::remove_dir_all(data.join("consensus")).unwrap();
        assert!(refused(bind(key, data, true)));
    }

    #[test]
    fn a_lost_guard_is_refused_once_there_is_a_journal() {
        let Place { key, data, .. } = &place();
        bind(key, data, false).unwrap();
        std::fs::remove_file(guard_path(key)).unwrap();
        bind(key, data, false).unwrap();
        journal(data);
        bind(key, data, false).unwrap();
        std::fs::remove_file(guard_path(key)).unwrap();
        assert!(refused(bind(key, data, false)));
    }

    #[test]
    fn a_start_that_was_cut_short_is_no_trap() {
        let Place { key, data, .. } = &place();
        std::fs::write(data.join("identity"), "0123").unwrap();
        bind(key, data, false).unwrap();
        let Place { key, data, .. } = &place();
        std::fs::write(data.join("identity"), "a".repeat(64)).unwrap();
        bind(key, data, false).unwrap();
        bind(key, data, false).unwrap();
    }
}
