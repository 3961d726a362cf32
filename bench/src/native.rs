//! The same run with everything built for this machine's CPU: rivals that look for features when
//! they are compiled, not when they run, then have theirs too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};

/// Where that build goes; not the usual folder, whose build it would throw away.
const TARGET: &str = "target/native";

/// Builds this program once more, in the current folder's workspace, and runs it with the same
/// arguments.
///
/// Errors: `cargo` cannot be started.
pub fn repeat(arguments: &[OsString], json: Option<&Path>) -> Result<ExitStatus> {
    let mut command = Command::new("cargo");
    command.args(["run", "--release", "--package", "bench", "--target-dir", TARGET, "--"]);
    command.args(kept(arguments));
    if let Some(path) = json {
        command.arg("--json").arg(beside(path));
    }
    command.env("RUSTFLAGS", "-C target-cpu=native");
    command.status().context("cannot start cargo, which --native needs")
}

/// The arguments without those that differ the second time.
fn kept(arguments: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        match text.as_ref() {
            "--native" => {}
            "--json" => drop(rest.next()),
            _ if text.starts_with("--json=") => {}
            _ => kept.push(argument.clone()),
        }
    }
    kept
}

/// The second report: `report.json` becomes `report.native.json`.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("native.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_has_the_first_ones_arguments_but_for_its_report() {
        let arguments =
            |text: &str| -> Vec<OsString> { text.split_whitespace().map(OsString::from).collect() };
        let given =
            arguments("run sigverify --native --json a.json --quick --json=b.json --seed 7");
        assert_eq!(kept(&given), arguments("run sigverify --quick --seed 7"));
        assert_eq!(beside(Path::new("x/a.json")), Path::new("x/a.native.json"));
    }
}
