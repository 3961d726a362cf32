//! Two network namespaces with a wire between them; both go when this is dropped.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::File,
    net::UdpSocket,
    os::fd::AsFd as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

/// The folder in which `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";
/// The name of the interface at both ends.
pub(super) const NAME: &str = "wire";
pub(super) const SERVER: &str = "10.78.0.1";
pub(super) const SERVER_V6: &str = "fd78::1";
const CLIENT: &str = "10.78.0.2";
const CLIENT_V6: &str = "fd78::2";
/// Hardware addresses: nobody asks for them, since the program takes every frame.
const MACS: [&str; 2] = ["02:78:00:00:00:01", "02:78:00:00:00:02"];

pub(super) struct Wire {
    ends: [String; 2],
}

impl Wire {
    /// Makes one with so many queues, or says why this machine or user cannot have it.
    pub(super) fn create(queues: u32) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        let unique = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let ends = ["s", "c"].map(|end| format!("althing-{}-{}-{end}", unique.0, unique.1));
        // Whatever fails below, what was made before it goes.
        let wire = Self { ends };
        match wire.make(queues) {
            Ok(()) => Some(wire),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }

    fn make(&self, queues: u32) -> Result<(), String> {
        let [server, client] = &self.ends;
        for end in &self.ends {
            ip(&format!("netns add {end}"))?;
            ip(&format!("-n {end} link set lo up"))?;
        }
        let count = format!("numtxqueues {queues} numrxqueues {queues}");
        ip(&format!(
            "-n {server} link add {NAME} {count} address {} type veth \
             peer name {NAME} {count} address {} netns {client}",
            MACS[0], MACS[1]
        ))?;
        let addresses = [[SERVER, SERVER_V6], [CLIENT, CLIENT_V6]];
        for (at, end) in self.ends.iter().enumerate() {
            let [v4, v6] = addresses[at];
            ip(&format!("-n {end} addr add {v4}/24 dev {NAME}"))?;
            ip(&format!("-n {end} addr add {v6}/64 dev {NAME} nodad"))?;
            ip(&format!("-n {end} link set {NAME} up"))?;
        }
        for (at, end) in self.ends.iter().enumerate() {
            for address in addresses[1 - at] {
                let mac = MACS[1 - at];
                ip(&format!("-n {end} neigh replace {address} lladdr {mac} dev {NAME}"))?;
            }
        }
        Ok(())
    }

    /// Calls something at the server's end.
    pub(super) fn server<T: Send>(&self, call: impl FnOnce() -> T + Send) -> T {
        inside(&self.ends[0], call)
    }

    /// A socket at the client's end: it stays there wherever it is used.
    pub(super) fn client(&self, v6: bool) -> UdpSocket {
        let address = if v6 { CLIENT_V6 } else { CLIENT };
        inside(&self.ends[1], || UdpSocket::bind((address, 0)).unwrap())
    }

    /// Takes the interface away at both ends.
    pub(super) fn cut(&self) {
        ip(&format!("-n {} link delete {NAME}", self.ends[0])).unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for end in &self.ends {
            // One that was never made is no error.
            drop(ip(&format!("netns delete {end}")));
        }
    }
}

/// A thread of its own enters the namespace, and ends in it.
fn inside<T: Send>(name: &str, call: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            let file = File::open(format!("{NAMES}/{name}")).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            call()
        });
        entered.join().unwrap()
    })
}

fn ip(line: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(line.split_whitespace()).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
