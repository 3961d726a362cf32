//! Runs a program without something that a machine may deny: `without WHAT PROGRAM ARGUMENT..`.
//!
//! `io_uring`, `bpf`, `pidfd`: a system call filter answers EPERM, as container runtimes do. `capabilities`:
//! root without any of its powers, as an ordinary user.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::{
    collections::BTreeMap,
    error::Error,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(what), Some(program)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: without io_uring|bpf|pidfd|capabilities PROGRAM ARGUMENT..");
        return ExitCode::from(2);
    };
    let denied = match what.to_str() {
        Some("io_uring") => {
            deny(&[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register])
        }
        Some("bpf") => deny(&[libc::SYS_bpf]),
        Some("pidfd") => deny(&[libc::SYS_pidfd_getfd]),
        Some("capabilities") => deny_capabilities(),
        _ => Err("nothing of this name can be denied".into()),
    };
    let error = match denied {
        Ok(()) => Command::new(program).args(arguments).exec().into(),
        Err(error) => error,
    };
    eprintln!("without: {error}");
    ExitCode::FAILURE
}

fn deny(calls: &[i64]) -> Result<(), Box<dyn Error>> {
    let rules: BTreeMap<i64, Vec<_>> =
        calls.iter().copied().map(|call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

fn deny_capabilities() -> Result<(), Box<dyn Error>> {
    let held = capabilities(None)?;
    if held.permitted.contains(CapabilitySet::SETPCAP) {
        // What is not in the bounding set does not come back to root with the next program.
        for capability in CapabilitySet::all().iter() {
            if rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
                rustix::thread::remove_capability_from_bounding_set(capability)?;
            }
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}
