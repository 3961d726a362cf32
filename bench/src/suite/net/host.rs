//! Two network namespaces joined by one wire, and what is set on this machine while a flood runs.
//!
//! Processor 0 makes the packets. Processor 1 is the validator's: a thread of the kernel takes the
//! packets off the receive ring (threaded NAPI), another one is the application, and both have the
//! same real-time priority, so that they share it in turns of one slice. Slices are cut to 1 ms
//! meanwhile, since the ring holds 256 packets.
//!
//! Everything is put back by a shell that waits for this process to end or to let go: it does so
//! too when the process is killed.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::Pid;
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space};

use crate::suite::Failure;

/// The folder in which `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";
const SLICE: &str = "/proc/sys/kernel/sched_rr_timeslice_ms";
/// Where the packets are made.
pub(super) const CPU_GENERATOR: usize = 0;
/// Where they are received.
pub(super) const CPU_RECEIVER: usize = 1;
/// An interface is polled by a thread, and every 20 us while packets come, as by a card that
/// gathers its interrupts: otherwise the sender would wake that thread across processors, and so
/// set the pace of the flood by how little the receiver has to do. 20 us are 80 packets of 4 million.
const SETTINGS: [(&str, u32); 3] =
    [("threaded", 1), ("gro_flush_timeout", 20_000), ("napi_defer_hard_irqs", 1_000)];
/// Programs that are needed.
const TOOLS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("ethtool", "ethtool"), ("chrt", "util-linux"), ("nft", "nftables")];

/// Says why this machine or user cannot have any of it.
pub(super) fn fit() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("kernel programs and network namespaces need root".to_owned());
    }
    for (tool, package) in TOOLS {
        let mut command = Command::new(tool);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().is_err() {
            return Err(format!("no program `{tool}` here; it comes with {package}"));
        }
    }
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    if cpus < 2 {
        return Err("one processor cannot both flood and be flooded".to_owned());
    }
    Ok(())
}

/// A namespace with one end of the wire.
#[derive(Clone, Debug)]
pub(super) struct End {
    namespace: String,
    /// The name of its interface.
    pub(super) interface: String,
}

impl End {
    /// The number of its interface.
    pub(super) fn index(&self) -> Result<u32, Failure> {
        let text = self.read("ifindex")?;
        text.trim().parse().map_err(|error| Failure::machine("read an interface's number", error))
    }

    /// The address of its interface on the wire.
    pub(super) fn mac(&self) -> Result<[u8; 6], Failure> {
        let text = self.read("address")?;
        let bytes: Option<Vec<u8>> =
            text.trim().split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
        let mac = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        mac.ok_or_else(|| Failure::Machine(format!("no address on a wire: {text}")))
    }

    fn read(&self, fact: &str) -> Result<String, Failure> {
        let path = format!("/sys/class/net/{}/{fact}", self.interface);
        run("ip", &["netns", "exec", &self.namespace, "cat", &path])
    }

    /// Runs a command here.
    ///
    /// Errors: what it said.
    pub(super) fn exec(&self, words: &[&str]) -> Result<String, Failure> {
        let mut all = vec!["netns", "exec", self.namespace.as_str()];
        all.extend(words);
        run("ip", &all)
    }

    /// Calls something on a thread that lives here.
    pub(super) fn spawn<'scope, T: Send + 'scope>(
        &self,
        scope: &'scope thread::Scope<'scope, '_>,
        call: impl FnOnce() -> Result<T, Failure> + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, Result<T, Failure>> {
        let path = format!("{NAMES}/{}", self.namespace);
        scope.spawn(move || {
            let file =
                File::open(path).map_err(|error| Failure::machine("find a namespace", error))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| Failure::machine("enter a namespace", error))?;
            call()
        })
    }

    /// Calls something here and waits for it.
    pub(super) fn call<T: Send>(
        &self,
        call: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        thread::scope(|scope| join(self.spawn(scope, call)))
    }
}

/// What a thread returned.
pub(super) fn join<T>(thread: ScopedJoinHandle<'_, Result<T, Failure>>) -> Result<T, Failure> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The two ends, until it is dropped.
pub(super) struct Wire {
    pub(super) server: End,
    pub(super) client: End,
    /// The thread that takes packets off the server's ring.
    napi: Pid,
    _guard: Guard,
}

impl Wire {
    /// Makes them, and cuts time slices where `slices` is set.
    ///
    /// Errors: [`Failure::Skipped`] with the step that is refused here.
    pub(super) fn lay(slices: bool) -> Result<Self, Failure> {
        Self::make(slices).map_err(|failure| match failure {
            Failure::Machine(reason) => Failure::Skipped(reason),
            other => other,
        })
    }

    fn make(slices: bool) -> Result<Self, Failure> {
        let id = std::process::id();
        let end = |letter: char| End {
            namespace: format!("bench-{id}-{letter}"),
            interface: format!("{letter}{id}"),
        };
        let (server, client) = (end('s'), end('c'));
        let mut guard = Guard::start(&[&server.namespace, &client.namespace], slices)?;
        for name in [&server.namespace, &client.namespace] {
            run("ip", &["netns", "add", name])?;
        }
        let (s, c) = (&server, &client);
        let queues = "numrxqueues 1 numtxqueues 1";
        ip(&format!(
            "link add {} netns {} {queues} type veth peer name {} netns {} {queues}",
            s.interface, s.namespace, c.interface, c.namespace
        ))?;
        for (end, address) in [(s, "10.77.0.1/24"), (c, "10.77.0.2/24")] {
            let End { namespace, interface } = end;
            // Without offloads nothing is put together that came as single packets; with GRO alone
            // an interface of this kind has a receive ring.
            end.exec(&["ethtool", "-K", interface, "gro", "on", "tx", "off"])?;
            ip(&format!("-n {namespace} addr add {address} dev {interface}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("-n {namespace} link set {interface} up"))?;
            for (setting, value) in SETTINGS {
                let path = format!("/sys/class/net/{interface}/{setting}");
                end.exec(&["sh", "-c", &format!("echo {value} > {path}")])?;
            }
        }
        // Nobody asks where anybody is, and answers to forged sources leave.
        let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
        for (end, other, address) in
            [(s, c, "10.77.0.2"), (s, c, "10.77.0.66"), (c, s, "10.77.0.1")]
        {
            let End { namespace, interface } = end;
            let mac = mac(other.mac()?);
            ip(&format!(
                "-n {namespace} neigh replace {address} lladdr {mac} nud permanent dev {interface}"
            ))?;
        }
        ip(&format!("-n {} route add default via 10.77.0.2", s.namespace))?;
        if slices {
            guard.cut_slices()?;
        }
        let napi = napi(&s.interface)?;
        pin(Some(napi), CPU_RECEIVER)?;
        schedule(napi, "-r", 10)?;
        // What the validator answers is taken off the wire on the other processor.
        pin(Some(self::napi(&c.interface)?), CPU_GENERATOR)?;
        Ok(Self { server, client, napi, _guard: guard })
    }

    /// Processor time of the kernel's thread behind the server's ring.
    ///
    /// Errors: where the kernel does not tell.
    pub(super) fn softirq_time(&self) -> Result<Duration, Failure> {
        let path = format!("/proc/{}/schedstat", self.napi.as_raw_nonzero());
        let text = fs::read_to_string(&path)
            .map_err(|error| Failure::machine("read softirq time", error))?;
        let ns = text.split(' ').next().and_then(|field| field.parse().ok());
        let ns = ns.ok_or_else(|| Failure::Machine(format!("{path} says {text}")))?;
        Ok(Duration::from_nanos(ns))
    }
}

/// Gives a thread, or this one, to one processor.
///
/// Errors: the kernel's.
pub(super) fn pin(thread: Option<Pid>, cpu: usize) -> Result<(), Failure> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    rustix::thread::sched_setaffinity(thread, &cpus)
        .map_err(|error| Failure::machine(format!("use processor {cpu}"), error))
}

/// Gives a thread a real-time priority: `-r` in turns, `-f` for as long as it wants.
///
/// Errors: what `chrt` said.
pub(super) fn schedule(thread: Pid, policy: &str, priority: u8) -> Result<(), Failure> {
    let thread = thread.as_raw_nonzero().to_string();
    run("chrt", &[policy, "-p", &priority.to_string(), &thread]).map(|_| ())
}

/// The thread that polls an interface.
fn napi(interface: &str) -> Result<Pid, Failure> {
    let wanted = format!("napi/{interface}-");
    let folder = fs::read_dir("/proc").map_err(|error| Failure::machine("list threads", error))?;
    for entry in folder.flatten() {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if name.starts_with(&wanted)
            && let Some(pid) = id.and_then(Pid::from_raw)
        {
            return Ok(pid);
        }
    }
    Err(Failure::Machine(format!("no thread {wanted}: the kernel has no threaded NAPI")))
}

/// Sets a flag when it is dropped, whatever the reason.
pub(super) struct SetAtEnd<'a>(pub(super) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The number of this thread.
pub(super) fn this_thread() -> Pid {
    rustix::thread::gettid()
}

fn ip(line: &str) -> Result<(), Failure> {
    run("ip", &line.split_whitespace().collect::<Vec<_>>()).map(|_| ())
}

/// Runs a program and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let line = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::machine(format!("run {line}"), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::Machine(format!("{line}: {said}")))
}

/// Puts everything back when it is dropped, or when this process is gone.
struct Guard {
    shell: Child,
    /// Held while slices are cut, so that nobody takes a cut slice for the machine's own.
    slice: Option<File>,
}

impl Guard {
    fn start(namespaces: &[&str], slices: bool) -> Result<Self, Failure> {
        // Its input ends when this process lets go of the other end of the pipe, however it ends.
        let mut script = "trap '' INT TERM HUP; cat > /dev/null".to_owned();
        let mut slice = None;
        if slices {
            let failed = |error| Failure::machine(format!("use {SLICE}"), error);
            let mut file = File::options().read(true).write(true).open(SLICE).map_err(failed)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
                .map_err(|_| Failure::Machine("another flood is being measured".to_owned()))?;
            let mut before = String::new();
            file.read_to_string(&mut before).map_err(failed)?;
            script.push_str(&format!("; echo {} > {SLICE}", before.trim()));
            slice = Some(file);
        }
        for name in namespaces {
            script.push_str(&format!("; ip netns delete {name} 2> /dev/null"));
        }
        let shell = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::machine("start a shell", error))?;
        Ok(Self { shell, slice })
    }

    fn cut_slices(&mut self) -> Result<(), Failure> {
        assert!(self.slice.is_some(), "slices are cut by whoever holds the lock");
        fs::write(SLICE, "1").map_err(|error| Failure::machine(format!("write {SLICE}"), error))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It has nobody else to wait for it.
        let _ = self.shell.wait();
        drop(self.slice.take());
    }
}
