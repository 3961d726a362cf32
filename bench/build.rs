//! Hands facts about this build to the program, so that a report can name what was measured.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "unknown".to_owned());
    tell("RUSTC", version.trim());
    for name in ["TARGET", "PROFILE", "OPT_LEVEL"] {
        tell(name, &env::var(name).unwrap_or_else(|_| "unknown".to_owned()));
    }
    // Separated by the unit separator, which no flag contains.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    tell("RUSTFLAGS", &flags.replace('\u{1f}', " "));
}

fn tell(name: &str, value: &str) {
    println!("cargo::rustc-env=BENCH_{name}={value}");
}
