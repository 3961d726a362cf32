//! Facts of the machine's network interfaces, in the network namespace of the calling thread.
//!
//! They are asked of the kernel through sockets, not read from `/sys`: that may show another
//! namespace than the process's own.

mod link;

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::{if_nameindex, if_nametoindex},
    sys::socket::SockaddrStorage,
};

use crate::{Error, receive::channels};

/// The kernel's switch for cookies in place of half-open TCP connections: 0 never, 1 when the
/// queue is full, 2 always. Source: `Documentation/networking/ip-sysctl.rst`.
const SYN_COOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";
/// Buses on which a host hands packets to its guests with checksums unfinished.
const BUSES_PARTIAL: [&str; 2] = ["virtio", "xen"];

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// The largest packet that it carries. Units: bytes.
    pub mtu: u32,
    /// How many queues receive.
    pub queues_count: u32,
    /// Who told that.
    pub queues_source: QueuesSource,
    /// The device behind it; a virtual interface (veth, bridge, loopback) has none.
    pub device: Option<Device>,
    /// Its own addresses, sorted.
    pub addresses: Vec<IpAddr>,
}

/// Who told how many queues receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuesSource {
    /// The driver: as many as are in use now.
    Driver,
    /// The kernel, which made one only; the driver does not tell.
    Single,
    /// The kernel, which made so many; the driver does not tell how many of them are in use.
    Allocated,
}

/// The device behind an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name on its bus.
    pub name: String,
    /// The bus, such as `pci` or `virtio`; empty where the kernel does not tell.
    pub bus: String,
}

impl Interface {
    /// Reads the facts of an interface.
    ///
    /// Errors: [`Error::Interface`] when there is none of that name, [`Error::Facts`] when the
    /// kernel does not tell.
    pub fn read(name: &str) -> Result<Self, Error> {
        let index = match if_nametoindex(name) {
            Ok(index) => index,
            Err(_) => return Err(Error::Interface { name: name.to_owned(), existing: names()? }),
        };
        let link = link::read(index).map_err(|source| facts(name, "reading its link", source))?;
        let (queues_count, queues_source) = match channels(name) {
            Ok(count @ 1..) => (count, QueuesSource::Driver),
            Ok(0) | Err(_) if link.queues_count <= 1 => (1, QueuesSource::Single),
            Ok(0) | Err(_) => (link.queues_count, QueuesSource::Allocated),
        };
        Ok(Self {
            name: name.to_owned(),
            index,
            mtu: link.mtu,
            queues_count,
            queues_source,
            device: link.device,
            addresses: addresses_of(Some(name))?,
        })
    }

    /// Whether a device stands behind it.
    pub fn is_hardware(&self) -> bool {
        self.device.is_some()
    }

    /// Whether packets may come whose UDP checksum the sender left to a card that they never pass:
    /// where no device stands behind the interface, or one that the host of a virtual machine
    /// feeds.
    ///
    /// A checksum authenticates nothing: whoever can send a packet can send a right one. Taking an
    /// unfinished one costs only the check against damage on the way, and here there is no way.
    pub fn leaves_checksums_partial(&self) -> bool {
        self.device.as_ref().is_none_or(|device| BUSES_PARTIAL.contains(&device.bus.as_str()))
    }
}

/// The names of all interfaces, sorted.
///
/// Errors: [`Error::Facts`] when the kernel does not tell.
pub fn names() -> Result<Vec<String>, Error> {
    let all = if_nameindex().map_err(|error| facts("", "listing all interfaces", error.into()))?;
    let mut names: Vec<String> =
        all.iter().map(|one| one.name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

/// The addresses of all interfaces, sorted, each once.
///
/// Errors: [`Error::Facts`] when the kernel does not tell.
pub fn addresses() -> Result<Vec<IpAddr>, Error> {
    addresses_of(None)
}

/// Whether the kernel answers a flood of half-open TCP connections with cookies; without them a
/// flood keeps honest clients from connecting.
///
/// Errors: [`Error::Facts`] when the switch cannot be read.
pub fn has_syn_cookies() -> Result<bool, Error> {
    let failed = |source| facts("", "reading net.ipv4.tcp_syncookies", source);
    parse_syn_cookies(&fs::read_to_string(SYN_COOKIES).map_err(failed)?).map_err(failed)
}

fn parse_syn_cookies(text: &str) -> io::Result<bool> {
    let value: u32 = text.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(value != 0)
}

/// The addresses of one interface, or of all.
fn addresses_of(name: Option<&str>) -> Result<Vec<IpAddr>, Error> {
    let all = getifaddrs()
        .map_err(|error| facts(name.unwrap_or_default(), "reading its addresses", error.into()))?;
    let own = all.filter(|one| name.is_none_or(|name| one.interface_name == name));
    let mut addresses: Vec<IpAddr> = own.filter_map(|one| ip(&one.address?)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    let any = v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())));
    any.map(|address| address.ip())
}

fn facts(name: &str, operation: &'static str, source: io::Error) -> Error {
    Error::Facts { name: name.to_owned(), operation, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::tests::denied::with_denied;

    #[test]
    fn loopback_is_read() {
        let loopback = Interface::read("lo").unwrap();
        assert_eq!((loopback.name.as_str(), loopback.index), ("lo", 1));
        assert!(loopback.mtu >= 1_280, "{}", loopback.mtu);
        assert_eq!((loopback.queues_count, loopback.queues_source), (1, QueuesSource::Single));
        assert!(!loopback.is_hardware());
        assert!(loopback.leaves_checksums_partial());
        let home: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(loopback.addresses.contains(&home), "{:?}", loopback.addresses);
        assert!(addresses().unwrap().contains(&home));
        assert!(names().unwrap().contains(&"lo".to_owned()));
    }

    #[test]
    fn every_interface_of_this_machine_is_read() {
        let everywhere = addresses().unwrap();
        for name in names().unwrap() {
            let one = Interface::read(&name).unwrap();
            println!("{one:?}");
            assert!(one.index > 0 && one.mtu > 0 && one.queues_count > 0, "{one:?}");
            assert!(one.addresses.iter().all(|address| everywhere.contains(address)), "{one:?}");
        }
    }

    #[test]
    fn an_unknown_interface_is_an_error_that_lists_the_others() {
        for name in ["no-such-wire", "", "a\0b"] {
            let error = Interface::read(name).unwrap_err();
            let Error::Interface { existing, .. } = &error else { panic!("{error}") };
            assert_eq!(existing, &names().unwrap());
        }
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_an_error() {
        with_denied(libc::SYS_socket, |deny| {
            deny();
            for error in [Interface::read("lo").unwrap_err(), addresses().unwrap_err()] {
                assert!(matches!(error, Error::Facts { .. }), "{error}");
            }
            let line = names().unwrap_err().to_string();
            assert!(line.contains("listing all interfaces failed: "), "{line}");
        });
    }

    #[test]
    fn only_a_machines_own_card_has_whole_checksums() {
        let device = |bus: &str| Device { name: "0".to_owned(), bus: bus.to_owned() };
        let with = |device| {
            let addresses = Vec::new();
            let (name, queues_source) = ("wire".to_owned(), QueuesSource::Driver);
            Interface {
                name,
                index: 2,
                mtu: 1_500,
                queues_count: 1,
                queues_source,
                device,
                addresses,
            }
        };
        assert!(with(None).leaves_checksums_partial());
        assert!(with(Some(device("virtio"))).leaves_checksums_partial());
        assert!(!with(Some(device("pci"))).leaves_checksums_partial());
        assert!(!with(Some(device(""))).leaves_checksums_partial());
    }

    #[test]
    fn the_switch_of_syn_cookies_is_read() {
        for (text, expected) in [("0\n", false), ("1\n", true), ("2\n", true)] {
            assert_eq!(parse_syn_cookies(text).unwrap(), expected);
        }
        assert!(parse_syn_cookies("on\n").is_err());
        match has_syn_cookies() {
            Ok(has) => println!("cookies: {has}"),
            Err(error) => println!("skipped: {error}"),
        }
    }
}
