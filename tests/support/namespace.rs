//! Network namespaces joined by a bridge in one more; all of them go when this is dropped.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd as _,
    process::{Command, Stdio},
    thread,
};

/// The name of the interface in each namespace.
pub const WIRE: &str = "wire";
/// The folder in which `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// Namespaces with one interface each, and the one that holds the bridge between them.
pub struct Namespaces {
    bridge: String,
    ends: Vec<String>,
}

impl Namespaces {
    /// Makes them, with addresses 10.77.0.1 and on; the bridge has 10.77.0.254.
    ///
    /// Errors: why this machine or user cannot have them.
    pub fn create(count: u8) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        let unique = std::process::id();
        let name = |end: String| format!("althing-{unique}-{end}");
        let ends = (0..count).map(|index| name(index.to_string())).collect();
        // Whatever fails below, what was made before it goes.
        let namespaces = Self { bridge: name("bridge".to_owned()), ends };
        namespaces.make()?;
        Ok(namespaces)
    }

    fn make(&self) -> Result<(), String> {
        let bridge = &self.bridge;
        ip(&format!("netns add {bridge}"))?;
        ip(&format!("-n {bridge} link add joint type bridge"))?;
        ip(&format!("-n {bridge} addr add 10.77.0.254/24 dev joint"))?;
        ip(&format!("-n {bridge} link set joint up"))?;
        for (index, end) in self.ends.iter().enumerate() {
            let address = address(index);
            ip(&format!("netns add {end}"))?;
            ip(&format!(
                "-n {bridge} link add port{index} type veth peer name {WIRE} netns {end}"
            ))?;
            ip(&format!("-n {bridge} link set port{index} master joint up"))?;
            ip(&format!("-n {end} addr add {address}/24 dev {WIRE}"))?;
            ip(&format!("-n {end} link set {WIRE} up"))?;
            ip(&format!("-n {end} link set lo up"))?;
        }
        Ok(())
    }

    /// The words that run a program in a namespace.
    pub fn exec(&self, index: usize) -> [&str; 4] {
        ["ip", "netns", "exec", &self.ends[index]]
    }

    /// The words that run a program where all are reached.
    pub fn exec_bridge(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.bridge]
    }

    /// Calls something where all are reached.
    pub fn reach<T: Send>(&self, call: impl FnOnce() -> T + Send) -> T {
        inside(&self.bridge, call)
    }

    /// Calls something in a namespace.
    pub fn reach_from<T: Send>(&self, index: usize, call: impl FnOnce() -> T + Send) -> T {
        inside(&self.ends[index], call)
    }

    /// What `ip` says of the interface in a namespace, details included.
    pub fn describe(&self, index: usize) -> String {
        ip_text(&format!("-n {} -d link show {WIRE}", self.ends[index])).expect("it is there")
    }

    /// Cuts a namespace off, or joins it again.
    pub fn set_joined(&self, index: usize, joined: bool) {
        let state = if joined { "up" } else { "down" };
        ip(&format!("-n {} link set port{index} {state}", self.bridge)).expect("its port is there");
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in self.ends.iter().chain([&self.bridge]) {
            // One that was never made is no error.
            drop(ip(&format!("netns delete {name}")));
        }
    }
}

/// The address of a namespace.
pub fn address(index: usize) -> IpAddr {
    let last = u8::try_from(index + 1).expect("few namespaces");
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, last))
}

/// A thread of its own enters the namespace, and ends in it.
fn inside<T: Send>(name: &str, call: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            let file = File::open(format!("{NAMES}/{name}")).expect("the namespace has a name");
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root enters a namespace");
            call()
        });
        entered.join().expect("what is called in a namespace does not panic")
    })
}

fn ip(line: &str) -> Result<(), String> {
    ip_text(line).map(drop)
}

fn ip_text(line: &str) -> Result<String, String> {
    let arguments = line.split_whitespace();
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
