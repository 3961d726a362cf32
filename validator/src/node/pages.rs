//! Has the allocator ask for huge pages, which the C library decides before the program's first line.
//!
//! So the process starts itself again with the C library told: the same process id, parent, arguments
//! and open files, before anything is done that would have to be done twice.
//!
//! Source: glibc manual, "Memory Allocation Tunables" (`glibc.malloc.hugetlb`, since 2.35);
//! Documentation/admin-guide/mm/transhuge.rst.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::process::CommandExt as _,
    process::{self, Command},
};

/// Where the C library is told, and what; a setting that is there already stays.
const VARIABLE: &str = "GLIBC_TUNABLES";
const SETTING: &str = "glibc.malloc.hugetlb";
/// Holds the process id of one that has started itself again, so that it does so once.
const AGAIN: &str = "ALTHING_STARTED_AGAIN";
/// When the kernel gives huge pages.
const KERNEL: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing, and why.
    Stay(&'static str),
    /// Start again with these tunables.
    Again(String),
}

/// Starts the process again unless the allocator asks for huge pages already, or asking is in vain; then
/// returns, after a line of the log.
pub(super) fn ask() {
    let kernel = crate::config::read_text(KERNEL.as_ref(), 4_096).unwrap_or_default();
    let tunables = env::var(VARIABLE).ok();
    let is_again = env::var(AGAIN).is_ok_and(|id| id == process::id().to_string());
    match plan(cfg!(target_env = "gnu"), &kernel, tunables.as_deref(), is_again) {
        Plan::Stay(why) => tracing::info!(why, "huge pages"),
        Plan::Again(tunables) => {
            // It only returns when it has failed.
            let error = again(env::args_os().skip(1), &tunables);
            tracing::warn!(%error, "huge pages: the process cannot start itself again");
        }
    }
}

fn plan(is_glibc: bool, kernel: &str, tunables: Option<&str>, is_again: bool) -> Plan {
    let tunables = tunables.unwrap_or_default();
    if kernel.contains("[always]") {
        return Plan::Stay("the kernel gives them to everybody");
    }
    if !kernel.contains("[madvise]") {
        return Plan::Stay("none: the kernel gives them to nobody");
    }
    if !is_glibc {
        return Plan::Stay("none: the allocator of this build cannot ask for them");
    }
    if tunables.split(':').any(|one| one.split('=').next() == Some(SETTING)) {
        return Plan::Stay("the allocator asks for them, as GLIBC_TUNABLES says");
    }
    if is_again {
        return Plan::Stay("none: a process with raised rights loses GLIBC_TUNABLES");
    }
    let colon = if tunables.is_empty() { "" } else { ":" };
    Plan::Again(format!("{tunables}{colon}{SETTING}=1"))
}

/// Replaces this process by a new start of its program.
fn again<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, tunables: &str) -> io::Error {
    // Not /proc/self/exe: the kernel would name the process after that.
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut command = Command::new(&program);
    command.arg0(env::args_os().next().unwrap_or_else(|| program.into_os_string()));
    command.args(arguments).env(VARIABLE, tunables).env(AGAIN, process::id().to_string()).exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_starts_again_only_where_that_helps() {
        let kernel = "always [madvise] never\n";
        let again = |tunables: &str| Plan::Again(tunables.to_owned());
        let asks = again("glibc.malloc.hugetlb=1");
        assert_eq!(plan(true, kernel, None, false), asks);
        assert_eq!(plan(true, kernel, Some(""), false), asks);
        let others = "glibc.malloc.arena_max=2";
        let both = again("glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1");
        assert_eq!(plan(true, kernel, Some(others), false), both);
        for (is_glibc, kernel, tunables, is_again, why) in [
            (true, "[always] madvise never\n", None, false, "everybody"),
            (true, "always madvise [never]\n", None, false, "nobody"),
            (true, "", None, false, "nobody"),
            (false, kernel, None, false, "of this build"),
            (true, kernel, Some("glibc.malloc.hugetlb=1"), false, "asks"),
            (true, kernel, Some("a=b:glibc.malloc.hugetlb=2"), true, "asks"),
            (true, kernel, None, true, "raised rights"),
        ] {
            let Plan::Stay(said) = plan(is_glibc, kernel, tunables, is_again) else {
                panic!("{why}");
            };
            assert!(said.contains(why), "{said}");
        }
    }

    /// Tells a process of the next test from that test itself.
    const CHILD: &str = "ALTHING_TEST_STARTS_AGAIN";
    const NAME: &str = "node::pages::tests::a_process_starts_itself_again_as_the_same_process";

    #[test]
    fn a_process_starts_itself_again_as_the_same_process() {
        let arguments = [NAME, "--exact", "--nocapture"];
        let tunables = "glibc.malloc.hugetlb=1";
        if env::var_os(CHILD).is_none() {
            let mut child = Command::new(env::current_exe().unwrap());
            child
                .args(arguments)
                .env(CHILD, "1")
                .env_remove(VARIABLE)
                .stdout(process::Stdio::piped());
            let child = child.spawn().unwrap();
            let id = child.id();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{said}");
            assert!(said.contains(&format!("again {id} {tunables}")), "{said}");
            return;
        }
        if env::var(AGAIN).is_err() {
            panic!("{}", again(arguments, tunables));
        }
        assert_eq!(env::var(AGAIN).unwrap(), process::id().to_string());
        println!("again {} {}", process::id(), env::var(VARIABLE).unwrap());
        // Once is enough: told by the C library's own setting, it stays.
        ask();
    }
}
