//! The threads that libraries start: their processor time, as the kernel keeps it, by name.
//!
//! Source: proc_pid_task(5), proc_pid_stat(5); `schedstat`: Documentation/scheduler/sched-stats.rst.

use super::{BORROWED, Cost, SPENT};
use std::{collections::BTreeMap, fs, path::Path, sync::atomic::Ordering};

/// What a thread's time counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It charges its own time.
    Own,
    /// All of it is for one thing.
    All(Cost),
    /// A thread of the engine: in user mode it is consensus, in the kernel network and log.
    Engine,
}

/// What a name says of a thread; names are cut at 15 bytes by the kernel.
fn kind(name: &str, is_main: bool) -> Option<Kind> {
    if is_main {
        return Some(Kind::Engine);
    }
    Some(match name {
        "verify" | "lane" | "execute" | "api" => Kind::Own,
        "udp" => Kind::All(Cost::Receive),
        "udp_answers" => Kind::All(Cost::Client),
        "status" | "repair" | "checkpoint" | "prove" | "evidence" => Kind::All(Cost::Upkeep),
        "tokio-rt-worker" => Kind::Engine,
        _ if name.starts_with("storage") || name.starts_with("iou-") => Kind::All(Cost::Persist),
        _ if name.starts_with("sigverify") => Kind::All(Cost::Verify),
        _ => return None,
    })
}

/// Nanoseconds of a thread, as last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Time {
    user: u64,
    system: u64,
}

/// Follows the threads of this process.
#[derive(Debug)]
pub(super) struct Threads {
    seen: BTreeMap<u32, Time>,
    /// What was set aside on threads without an account, as far as it is taken off.
    borrowed: u64,
}

impl Threads {
    /// Has seen none.
    pub(super) const fn new() -> Self {
        Self { seen: BTreeMap::new(), borrowed: 0 }
    }

    /// Adds what they have spent since the last look.
    pub(super) fn look(&mut self) {
        let Ok(entries) = fs::read_dir("/proc/self/task") else { return };
        let main = std::process::id();
        let mut seen = BTreeMap::new();
        let (mut user, mut system) = (0, 0);
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let Some((name, now)) = read(&entry.path()) else { continue };
            let before = self.seen.get(&thread).copied().unwrap_or_default();
            // The kernel splits by samples, and may take a little back.
            let now =
                Time { user: now.user.max(before.user), system: now.system.max(before.system) };
            let spent = (now.user - before.user, now.system - before.system);
            seen.insert(thread, now);
            match kind(&name, thread == main) {
                Some(Kind::All(cost)) => super::add(cost, spent.0 + spent.1),
                Some(Kind::Engine) => {
                    user += spent.0;
                    system += spent.1;
                }
                Some(Kind::Own) | None => {}
            }
        }
        self.seen = seen;
        super::add(Cost::Network, system);
        let borrowed = BORROWED.load(Ordering::Relaxed);
        let owed = borrowed - self.borrowed;
        // Cipher and signatures count for themselves; what is not yet covered is taken off later.
        let covered = owed.min(user);
        self.borrowed += covered;
        SPENT[Cost::Consensus as usize].fetch_add(user - covered, Ordering::Relaxed);
    }
}

/// Name and time of one thread.
fn read(folder: &Path) -> Option<(String, Time)> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let all = fs::read_to_string(folder.join("schedstat")).ok()?;
    parse(&stat, &all)
}

/// Reads `stat`, whose times are samples of 10 ms, and `schedstat`, whose sum is exact.
fn parse(stat: &str, schedstat: &str) -> Option<(String, Time)> {
    let (head, fields) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let all: u64 = schedstat.split_whitespace().next()?.parse().ok()?;
    let share = u128::from(all) * u128::from(system) / u128::from((user + system).max(1));
    let system = u64::try_from(share).ok()?;
    Some((name, Time { user: all - system, system }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{Meter, spent};

    #[test]
    fn every_thread_that_a_node_starts_is_known() {
        for (name, expected) in [
            ("verify", Kind::Own),
            ("api", Kind::Own),
            ("storage-hash", Kind::All(Cost::Persist)),
            ("storage-prepar", Kind::All(Cost::Persist)),
            ("iou-wrk-123", Kind::All(Cost::Persist)),
            ("sigverify-0", Kind::All(Cost::Verify)),
            ("tokio-rt-worker", Kind::Engine),
        ] {
            assert_eq!(kind(name, false), Some(expected), "{name}");
        }
        assert_eq!(kind("validator", true), Some(Kind::Engine));
        assert_eq!(kind("feed", false), None);
    }

    #[test]
    fn a_thread_is_read_as_the_kernel_writes_it() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 0 0 0 0 30 10 0 0 20 5 9 0 1 2 3 4";
        let time = Time { user: 300, system: 100 };
        assert_eq!(parse(stat, "400 5 6\n"), Some(("a ) b".to_owned(), time)));
        // No sample yet: all of it is user time.
        let fresh = stat.replace(" 30 10 ", " 0 0 ");
        assert_eq!(parse(&fresh, "70 5 6").unwrap().1, Time { user: 70, system: 0 });
        assert_eq!(parse("7 (a) S", "400"), None);
        assert_eq!(parse(stat, ""), None);
    }

    #[test]
    fn a_thread_of_a_library_is_charged_by_its_name_less_what_was_set_aside() {
        let (told, wait) = crossbeam::channel::bounded::<()>(1);
        let (ready, done) = crossbeam::channel::bounded(1);
        let name = |name: &str| std::thread::Builder::new().name(name.into());
        let busy = move || {
            Meter::ON.aside(Cost::Encrypt, || crate::cost::tests::burn(20));
            crate::cost::tests::burn(60);
            ready.send(()).unwrap();
            // It must be there when it is looked at.
            let _ = wait.recv();
        };
        let before = (spent(Cost::Encrypt), spent(Cost::Consensus) + spent(Cost::Network));
        let thread = name("tokio-rt-worker").spawn(busy).unwrap();
        done.recv().unwrap();
        crate::cost::look();
        let encrypt = spent(Cost::Encrypt) - before.0;
        let engine = spent(Cost::Consensus) + spent(Cost::Network) - before.1;
        assert!(encrypt >= 20_000_000, "{encrypt}");
        assert!(engine >= 60_000_000, "{engine}");
        drop(told);
        thread.join().unwrap();
    }
}
