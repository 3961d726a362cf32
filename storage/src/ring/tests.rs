//! What the ring may do, what it does when it may not exist, and that its waits end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::*;
use crate::testing::{record, small};
use crate::{Backend, Error, Options, Store};

/// A ring, or the reason why this machine has none.
fn events() -> Option<Events> {
    Events::new(4).map_err(|reason| println!("skipped: {reason}")).ok()
}

/// Runs on a thread to which the kernel refuses one system call.
fn without<T: Send>(call: libc::c_long, errno: i32, run: impl FnOnce() -> T + Send) -> T {
    let deny = move || {
        let filter = SeccompFilter::new(
            BTreeMap::from([(call, Vec::new())]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno.unsigned_abs()),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        // For this thread and those it starts.
        seccompiler::apply_filter(&program).unwrap();
        run()
    };
    std::thread::scope(|scope| scope.spawn(deny).join().unwrap())
}

#[test]
fn without_permission_the_store_runs_portable_and_says_why() {
    let calls = [
        (libc::SYS_io_uring_setup, "io_uring_setup"),
        (libc::SYS_io_uring_register, "io_uring_register"),
        (libc::SYS_io_uring_enter, "io_uring_enter"),
    ];
    if events().is_none() {
        return;
    }
    for (call, name) in calls {
        for errno in [libc::EPERM, libc::ENOSYS] {
            without(call, errno, || {
                let directory = tempfile::tempdir().unwrap();
                let (store, _) = Store::open(directory.path(), &small()).unwrap();
                let choice = store.backend();
                assert_eq!(choice.name, "portable");
                let reason = choice.reason.unwrap();
                assert!(reason.starts_with(name), "{reason}");
                let answer = io::Error::from_raw_os_error(errno).to_string();
                assert!(reason.ends_with(&answer), "{reason}");
                let ticket = store.append(vec![record(1, 100)], None).unwrap();
                store.wait(ticket).unwrap();
                store.close().unwrap();
                let options = Options { backend: Backend::IoUring, ..small() };
                match Store::open(directory.path(), &options).err() {
                    Some(Error::Backend { backend: "io_uring", reason }) => {
                        assert!(reason.starts_with(name), "{reason}");
                    }
                    other => panic!("{other:?}"),
                }
            });
        }
    }
}

#[test]
fn where_permitted_the_ring_runs_and_gives_nothing_up() {
    if events().is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (backend, name) in [(Backend::Auto, "io_uring"), (Backend::Portable, "portable")] {
        let options = Options { backend, ..small() };
        let (store, _) = Store::open(directory.path(), &options).unwrap();
        let choice = store.backend();
        assert_eq!(choice.name, name);
        assert_eq!(choice.reason.is_some(), backend == Backend::Portable);
        store.close().unwrap();
    }
}

#[test]
fn the_ring_can_open_nothing_and_touch_no_other_file() {
    let Some(mut events) = events() else {
        return;
    };
    let path = c"/etc/hostname";
    let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build();
    let other_file = opcode::Fsync::new(types::Fd(0)).build();
    let nothing = opcode::Nop::new().build();
    for entry in [open, other_file, nothing] {
        events.push(&entry.user_data(7)).unwrap();
        events.enter(1).unwrap();
        assert_eq!(events.reap(), [(7, -libc::EACCES)]);
    }
    let registered = events.ring.submitter().register_files_sparse(4);
    assert_eq!(registered.unwrap_err().raw_os_error(), Some(libc::EACCES));
}

#[test]
fn a_waiting_completion_ends_when_it_is_woken() {
    let Some(events) = events() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let mut ring = Ring::new(Folder::new(directory.path()), events);
    for _ in 0..3 {
        let waker = ring.waker();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            waker.wake();
        });
        let began = Instant::now();
        let mut done = Vec::new();
        ring.complete(&mut done);
        assert!(done.is_empty() && began.elapsed() >= Duration::from_millis(15));
        thread.join().unwrap();
    }
}

#[test]
fn writes_in_flight_are_waited_for_when_the_ring_goes() {
    let Some(events) = events() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let mut folder = Folder::new(directory.path());
    folder.lock().unwrap();
    folder.create(0, 4 << 20).unwrap();
    let source = folder.open(0).unwrap();
    let mut ring = Ring::new(folder, events);
    for ticket in 0..4_u8 {
        let offset = u64::from(ticket) << 20;
        let bytes = vec![ticket + 1; 1 << 20];
        ring.submit(Write { ticket: ticket.into(), segment: 0, offset, bytes: bytes.into() });
    }
    drop(ring);
    for ticket in 0..4_u8 {
        let mut bytes = vec![0; 1 << 20];
        source.read(u64::from(ticket) << 20, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == ticket + 1));
    }
}
