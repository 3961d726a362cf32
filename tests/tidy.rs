//! The rules of this project that no lint can check.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files that may hold unsafe code; each opens with its reason.
const UNSAFE_FILES: [&str; 9] = [
    "storage/src/ring",
    "storage/src/segment/map.rs",
    "net-ebpf/src/receive/sys.rs",
    "net-ebpf/src/receive/ring",
    "net-ebpf/src/tables/map.rs",
    "sigverify/src/backend/avx2",
    "sigverify/src/backend/avx512",
    "sigverify/src/backend/lanes",
    "bench/src/suite/net/sys.rs",
];
/// Longest file, in lines: past it two things live in one room.
const FILE_LINES_MAX: usize = 600;
/// Longest line of code, in characters.
const LINE_CHARACTERS_MAX: usize = 120;
/// Crates that know no sibling.
const LEAVES: [&str; 4] = ["ledger", "sigverify", "net-ebpf", "storage"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf()
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for crate_name in ["ledger", "sigverify", "net-ebpf", "storage", "validator", "bench", "tests"]
    {
        walk(&root().join(crate_name), &mut found);
    }
    assert!(found.len() > 100, "the walk finds the sources");
    found
}

fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry").path();
        // What a build wrote is no source: the fuzz target has a folder of its own for it.
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let name = path.strip_prefix(root()).expect("below the root");
            found.push((name.display().to_string(), text));
        }
    }
}

fn check(rule: &str, broken: impl Fn(&str, &str) -> bool) {
    let files = sources();
    let bad: Vec<&str> = files
        .iter()
        .filter(|(name, text)| broken(name, text))
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(bad.is_empty(), "{rule}: {bad:#?}");
}

#[test]
fn the_first_line_says_what_a_file_is_for() {
    check("line 1 is `//!` and one sentence", |_, text| {
        let first = text.lines().next().unwrap_or_default();
        !(first.starts_with("//! ") && first.len() > 12)
    });
}

#[test]
fn modules_with_children_are_named_after_themselves() {
    check("name.rs and name/, never name/mod.rs", |name, _| name.ends_with("/mod.rs"));
}

#[test]
fn unsafe_code_stays_where_it_is_listed() {
    // The word is put together so that this file does not contain it.
    let (block, function) = (["un", "safe {"].concat(), ["un", "safe fn"].concat());
    check("unsafe code outside the list", |name, text| {
        let listed = UNSAFE_FILES.iter().any(|file| name.starts_with(file));
        !listed && (text.contains(&block) || text.contains(&function))
    });
}

#[test]
fn files_and_lines_have_a_length() {
    check("files of at most 600 lines", |name, text| {
        !name.ends_with("tests.rs") && text.lines().count() > FILE_LINES_MAX
    });
    check("lines of at most 120 characters", |_, text| {
        text.lines().any(|line| line.chars().count() > LINE_CHARACTERS_MAX)
    });
}

#[test]
fn nothing_is_left_for_later() {
    let marks =
        [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("], ["dbg", "!("]];
    check("marks of unfinished work", |_, text| {
        marks.iter().any(|mark| text.contains(&mark.concat()))
    });
}

#[test]
fn leaves_know_no_sibling() {
    for leaf in LEAVES {
        let manifest = root().join(leaf).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).expect("a manifest");
        for sibling in LEAVES.iter().chain(&["validator"]).filter(|sibling| **sibling != leaf) {
            let depends = manifest.lines().any(|line| {
                let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
                name == *sibling
            });
            assert!(!depends, "{leaf} depends on {sibling}");
        }
    }
}

#[test]
fn every_crate_takes_the_lints_and_versions_of_the_workspace() {
    for crate_name in ["ledger", "sigverify", "net-ebpf", "storage", "validator", "bench", "tests"]
    {
        let manifest =
            fs::read_to_string(root().join(crate_name).join("Cargo.toml")).expect("a manifest");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{crate_name}");
        assert!(manifest.contains("version.workspace = true"), "{crate_name}");
    }
}
