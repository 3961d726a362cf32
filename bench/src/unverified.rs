//! A validator that checks no client's signature: for parity with systems that check none.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where that build goes; not the usual folder, where its binary would take the real one's place.
const TARGET: &str = "target/unverified";

/// Builds it in the current folder's workspace, and returns where it is.
///
/// Errors: `cargo` cannot be started, or does not build it.
pub fn build() -> Result<PathBuf> {
    let status = command(Path::new(TARGET))
        .status()
        .context("cannot start cargo, which --unverified needs")?;
    ensure!(status.success(), "cargo does not build a validator without signature checks");
    Ok(Path::new(TARGET).join("release").join("validator"))
}

fn command(target: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--package", "validator", "--features", "unverified"]);
    command.arg("--target-dir").arg(target);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_takes_the_real_ones_place() {
        let command = command(Path::new("elsewhere"));
        let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
        assert_eq!(
            arguments[arguments.len() - 4..],
            ["--features", "unverified", "--target-dir", "elsewhere"]
        );
    }
}
