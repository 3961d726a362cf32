//! Puts threads on the CPUs that the configuration gives them.

use super::threads::fatal;
use crate::{
    command::Exit,
    config::{Cores, Cpus},
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Checks that this process may use every CPU that its threads are given, and logs who runs where.
///
/// Errors: host unfit, with the first one that it may not use.
pub(super) fn check(cores: &Cores) -> Result<(), Exit> {
    if cores.groups().iter().any(|(_, cpus)| !cpus.is_any()) {
        let unfit = |error| Exit::host_unfit(format!("cannot read which CPUs are free: {error}"));
        let allowed = allowed().map_err(unfit)?;
        if let Some((key, cpu)) = cores.first_beyond(&allowed) {
            return Err(Exit::host_unfit(format!(
                "{key}: this process may use the CPUs \"{allowed}\" and not {cpu}: leave it out, or \
                 change what limits the process (taskset, a cpuset, a CPU that is switched off)"
            )));
        }
    }
    Ok(())
}

/// Says which group of threads runs where, once the node is sure to start.
pub(super) fn tell(cores: &Cores) {
    let Cores { verify, stages, storage, network, busy_poll_us, huge_pages: _ } = cores;
    tracing::info!(%verify, %stages, %storage, %network, busy_poll_us, "cores");
}

/// The CPUs on which the calling thread may run now.
fn allowed() -> rustix::io::Result<Cpus> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Has the calling thread, and those that it starts from now on, run on these CPUs alone.
pub(super) fn pin(cpus: &Cpus) {
    if cpus.is_any() {
        return;
    }
    let mut set = CpuSet::new();
    for cpu in cpus.iter() {
        set.set(cpu);
    }
    if let Err(error) = sched_setaffinity(None, &set) {
        fatal(&format!("cannot run on the CPUs \"{cpus}\": {error}"));
    }
}

/// The same work, done on these CPUs alone.
pub(super) fn on(
    cpus: &Cpus,
    run: impl FnOnce() + Send + 'static,
) -> impl FnOnce() + Send + 'static {
    let cpus = cpus.clone();
    move || {
        pin(&cpus);
        run();
    }
}

#[cfg(test)]
mod tests {
    use super::super::threads::{self, Threads};
    use super::*;
    use crate::{command::Code, config::Config};
    use std::{fs, sync::mpsc::sync_channel, time::Duration};

    /// Two CPUs that this process may use.
    fn two() -> Option<[usize; 2]> {
        let mut cpus = allowed().unwrap().iter().collect::<Vec<_>>().into_iter();
        let two = cpus.next().zip(cpus.next()).map(|(first, second)| [first, second]);
        if two.is_none() {
            eprintln!("skipped: this process may use one CPU alone");
        }
        two
    }

    fn one(cpu: usize) -> Cpus {
        [cpu].into_iter().collect()
    }

    /// The CPUs of the threads of this process that the kernel calls so.
    fn of_threads(is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for task in fs::read_dir("/proc/self/task").unwrap() {
            // A thread of another test may have ended.
            let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else {
                continue;
            };
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_once(':').unwrap().1.trim().to_owned()
            };
            if is_meant(&field("Name")) {
                found.push(field("Cpus_allowed_list"));
            }
        }
        found
    }

    #[test]
    fn a_thread_of_a_group_runs_where_the_group_does_and_the_others_where_they_did() {
        let Some(cpus) = two() else { return };
        let before = allowed().unwrap();
        let (send, receive) = sync_channel(3);
        let mut threads = Threads::default();
        for cpus in [one(cpus[0]), one(cpus[1]), Cpus::default()] {
            let send = send.clone();
            threads.start("pinned", on(&cpus, move || send.send(allowed().unwrap()).unwrap()));
            let expected = if cpus.is_any() { &before } else { &cpus };
            assert_eq!(receive.recv().unwrap(), *expected);
        }
        threads.join(Duration::from_secs(10));
        assert_eq!(allowed().unwrap(), before);
    }

    /// Waits until as many threads of a name have one CPU to themselves as are meant to.
    fn wait_for(count: usize, cpu: usize, is_meant: impl Fn(&str) -> bool) {
        let mut here = 0;
        for _ in 0..1_000 {
            let cpu = cpu.to_string();
            here = of_threads(&is_meant).into_iter().filter(|cpus| *cpus == cpu).count();
            if here == count {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{here} threads instead of {count}");
    }

    #[test]
    fn the_threads_that_check_signatures_are_as_many_as_their_cpus_and_stay_on_them() {
        let Some([_, second]) = two() else { return };
        let is_meant = |name: &str| name.starts_with("sigverify");
        let mut config = Config::default_in("/nowhere".as_ref());
        config.cores.verify = one(second);
        // On one CPU whoever asks checks itself.
        let _alone = threads::verifier(&config).unwrap();
        wait_for(0, second, is_meant);
        config.sigverify.threads = 3;
        let _three = threads::verifier(&config).unwrap();
        wait_for(3, second, is_meant);
    }

    #[test]
    fn the_threads_of_the_store_stay_on_their_cpus() {
        let Some([_, second]) = two() else { return };
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = threads::apart(|| {
            pin(&one(second));
            storage::Store::open(folder.path(), &storage::Options::new([7; 32])).unwrap()
        });
        wait_for(2, second, |name| name == "storage" || name == "storage-hash");
        for _ in 0..50 {
            let (kind, height, key) = (1, storage::NO_HEIGHT, [0; 32]);
            let record = storage::Record { kind, height, key, body: vec![1; 1_000].into() };
            store.wait(store.append(vec![record], None).unwrap()).unwrap();
        }
        // So do those that the kernel starts for io_uring, where it needs any.
        let helpers = of_threads(|name| name.starts_with("iou-"));
        assert!(helpers.is_empty() || helpers.contains(&second.to_string()), "{helpers:?}");
        store.close().unwrap();
    }

    #[test]
    fn a_cpu_that_the_process_may_not_use_makes_the_host_unfit() {
        let Some([first, second]) = two() else { return };
        threads::apart(move || {
            pin(&one(first));
            let network = [first, second].into_iter().collect();
            let exit = check(&Cores { network, ..Cores::default() }).unwrap_err();
            assert_eq!(exit.code(), Code::HostUnfit);
            let start = format!(
                "cores.network: this process may use the CPUs \"{first}\" and not {second}: "
            );
            assert!(exit.message().starts_with(&start), "{exit}");
            assert!(!exit.message().contains('\n'), "one line: {exit}");
            check(&Cores { network: one(first), ..Cores::default() }).unwrap();
            check(&Cores::default()).unwrap();
        });
    }
}
