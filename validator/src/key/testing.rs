//! What the tests of keys share: a cheap cost, passphrases and their descriptors, the kept samples.

use super::{Cost, Passphrase, Source};
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The least that the format takes.
pub(crate) const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

/// Returns a passphrase.
pub(crate) fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

/// Returns a source that gives a text once, and the file behind it, which must be kept until then.
pub(crate) fn given(text: &str) -> (std::fs::File, Source) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    let source = Source::Descriptor(file.as_raw_fd());
    (file, source)
}

/// Returns the path of a kept sample.
pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/golden")).join(name)
}
