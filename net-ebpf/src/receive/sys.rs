//! The system calls that have no safe form without an allocation per call.
#![expect(unsafe_code, reason = "these calls are reached through libc alone")]

use std::{
    io,
    mem::{offset_of, zeroed},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd as _, BorrowedFd, RawFd},
    ptr::{null, null_mut},
    time::Duration,
};

use super::{BATCH_PACKETS_MAX, BUFFER_SIZE, Outgoing};

/// Room for the kernel's form of an address of either family.
///
/// An IPv4 address has its family, port and address at the same places, the address where IPv6 has
/// the flow label.
pub(super) type Name = libc::sockaddr_in6;

const _: () = assert!(offset_of!(Name, sin6_family) == offset_of!(libc::sockaddr_in, sin_family));
const _: () = assert!(offset_of!(Name, sin6_port) == offset_of!(libc::sockaddr_in, sin_port));
const _: () = assert!(offset_of!(Name, sin6_flowinfo) == offset_of!(libc::sockaddr_in, sin_addr));

/// An address of no family.
pub(super) const NAME_EMPTY: Name = Name {
    sin6_family: 0,
    sin6_port: 0,
    sin6_flowinfo: 0,
    sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
    sin6_scope_id: 0,
};

const NAME_SIZE: libc::socklen_t = 28;
const NAME_SIZE_V4: libc::socklen_t = 16;
const _: () = assert!(size_of::<Name>() == NAME_SIZE as usize);
const _: () = assert!(size_of::<libc::sockaddr_in>() == NAME_SIZE_V4 as usize);

const FAMILY_V4: libc::sa_family_t = 2;
const FAMILY_V6: libc::sa_family_t = 10;
const _: () = assert!(FAMILY_V4 as libc::c_int == libc::AF_INET);
const _: () = assert!(FAMILY_V6 as libc::c_int == libc::AF_INET6);

/// The words that `SO_MEMINFO` fills. Source: `linux/sock_diag.h`, `SK_MEMINFO_VARS`.
const MEMINFO_WORDS: usize = 9;
/// The word that counts dropped packets (`SK_MEMINFO_DROPS`).
const MEMINFO_DROPS: usize = 8;
const MEMINFO_SIZE: libc::socklen_t = 36;
const _: () = assert!(MEMINFO_SIZE as usize == MEMINFO_WORDS * size_of::<u32>());

/// Room for the one control message that a socket is set to attach: where the packet was sent to.
///
/// Shape: the bytes of `struct in6_pktinfo`, of which the address is the first 16, or those of
/// `struct in_pktinfo`, of which the address is bytes 8 to 11; what follows rounds them up.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Control {
    header: libc::cmsghdr,
    data: [u8; 24],
}

// SAFETY: the header is plain data of the C library, for which all zeros is a value; it cannot be
// written out because some C libraries have hidden padding fields in it.
pub(super) const CONTROL_EMPTY: Control = Control { header: unsafe { zeroed() }, data: [0; 24] };

// The data of a control message starts at the first aligned place behind its header.
const _: () = assert!(size_of::<libc::cmsghdr>().is_multiple_of(align_of::<usize>()));
const _: () = assert!(size_of::<libc::cmsghdr>() == offset_of!(Control, data));
const _: () = assert!(size_of::<Control>() == size_of::<libc::cmsghdr>() + 24);
const _: () = assert!(size_of::<libc::in6_pktinfo>() <= 24);
const _: () = assert!(offset_of!(libc::in6_pktinfo, ipi6_addr) == 0);
const _: () = assert!(offset_of!(libc::in_pktinfo, ipi_addr) == 8);

const EMPTY_VECTOR: libc::iovec = libc::iovec { iov_base: null_mut(), iov_len: 0 };
// SAFETY: the type is plain data of the C library, and all zeros is its documented empty state; it
// cannot be written out because some C libraries have hidden padding fields in it.
const EMPTY_HEADER: libc::mmsghdr = unsafe { zeroed() };

/// Takes the packets that are there, one into each buffer, and returns how many.
///
/// With `wait` it waits for the first, at most the socket's timeout. `names[i]` and `sizes[i]`
/// belong to `buffers[i]`; the shortest of the three slices limits the batch. `controls[i]` takes
/// the control message of `buffers[i]`, where there is such a place.
///
/// Errors: those of the system call; `WouldBlock` when there was no packet.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffers: &mut [[u8; BUFFER_SIZE]],
    names: &mut [Name],
    controls: &mut [Control],
    sizes: &mut [usize],
    wait: bool,
) -> io::Result<usize> {
    let capacity = buffers.len().min(names.len()).min(sizes.len()).min(BATCH_PACKETS_MAX);
    let capacity_word = u32::try_from(capacity).expect("at most BATCH_PACKETS_MAX");
    let mut vectors = [EMPTY_VECTOR; BATCH_PACKETS_MAX];
    let mut headers = [EMPTY_HEADER; BATCH_PACKETS_MAX];
    let places = buffers[..capacity].iter_mut().zip(&mut names[..capacity]);
    let calls = vectors.iter_mut().zip(&mut headers);
    for ((buffer, name), (vector, header)) in places.zip(calls) {
        *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER_SIZE };
        header.msg_hdr.msg_name = (&raw mut *name).cast();
        header.msg_hdr.msg_namelen = NAME_SIZE;
        header.msg_hdr.msg_iov = &raw mut *vector;
        header.msg_hdr.msg_iovlen = 1;
    }
    for (control, header) in controls.iter_mut().zip(&mut headers) {
        *control = CONTROL_EMPTY;
        header.msg_hdr.msg_control = (&raw mut *control).cast();
        header.msg_hdr.msg_controllen = size_of::<Control>() as _;
    }
    let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
    let (fd, first) = (socket.as_raw_fd(), headers.as_mut_ptr());
    // SAFETY: the first `capacity` headers point to vectors, names, buffers and controls that this
    // function borrows mutably until it returns, with their true sizes; the kernel writes nowhere
    // else.
    let count = unsafe { libc::recvmmsg(fd, first, capacity_word, flags as _, null_mut()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    assert!(count <= capacity, "the kernel filled more than it was given");
    for (size, header) in sizes.iter_mut().zip(&headers[..count]) {
        *size = header.msg_len as usize;
        assert!(*size <= BUFFER_SIZE, "the kernel wrote past a buffer");
    }
    Ok(count)
}

/// Takes one packet and its control message, and returns its size.
///
/// With `wait` it waits for it, at most the socket's timeout.
///
/// Errors: those of the system call; `WouldBlock` when there was no packet.
pub(super) fn receive_one(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8; BUFFER_SIZE],
    name: &mut Name,
    control: &mut Control,
    wait: bool,
) -> io::Result<usize> {
    *control = CONTROL_EMPTY;
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER_SIZE };
    let mut header = EMPTY_HEADER.msg_hdr;
    header.msg_name = (&raw mut *name).cast();
    header.msg_namelen = NAME_SIZE;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut *control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: the header points to a vector, name, buffer and control that this function borrows
    // mutably until it returns, with their true sizes; the kernel writes nowhere else.
    let size = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let size = usize::try_from(size).map_err(|_| io::Error::last_os_error())?;
    assert!(size <= BUFFER_SIZE, "the kernel wrote past a buffer");
    Ok(size)
}

/// Reads where a packet was sent to; `None` when the kernel did not say.
pub(super) fn destination(control: &Control) -> Option<IpAddr> {
    match (control.header.cmsg_level, control.header.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let address: [u8; 4] = *control.data[8..].first_chunk()?;
            Some(Ipv4Addr::from(address).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let address: [u8; 16] = *control.data.first_chunk()?;
            Some(Ipv6Addr::from(address).to_canonical())
        }
        _ => None,
    }
}

/// A socket that is waited for.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Waited(libc::pollfd);

impl Waited {
    /// Waits for something to receive on a socket, or for nothing in the place of one.
    pub(super) fn new(socket: Option<BorrowedFd<'_>>) -> Self {
        let fd: RawFd = socket.map_or(-1, |socket| socket.as_raw_fd());
        Self(libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
    }

    /// Whether the kernel says that nothing comes on it any more.
    pub(super) fn is_broken(&self) -> bool {
        self.0.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
    }
}

/// Waits until one of the sockets has something, a signal comes or the time has passed.
///
/// Errors: those of the system call; `Interrupted` when a signal came.
pub(super) fn wait(sockets: &mut [Waited], timeout: Duration) -> io::Result<()> {
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let first = sockets.as_mut_ptr().cast::<libc::pollfd>();
    let count = libc::nfds_t::try_from(sockets.len()).expect("few sockets");
    // SAFETY: `Waited` is a `pollfd` and nothing else, and the kernel writes only the answers of
    // the `count` that this function borrows mutably. A socket that was closed in the meantime is
    // an answer, not an access to memory.
    let answer = unsafe { libc::ppoll(first, count, &raw const time, null()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends packets without waiting and returns how many the kernel took: at least one. There must be
/// one to send.
///
/// A socket of the IPv6 family reaches IPv4 addresses in their IPv6 form.
///
/// Errors: those of the system call for the first packet.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    packets: &[Outgoing<'_>],
    is_v6: bool,
) -> io::Result<usize> {
    let count = packets.len().min(BATCH_PACKETS_MAX);
    let count_word = u32::try_from(count).expect("at most BATCH_PACKETS_MAX");
    let mut names = [NAME_EMPTY; BATCH_PACKETS_MAX];
    let mut vectors = [EMPTY_VECTOR; BATCH_PACKETS_MAX];
    let mut headers = [EMPTY_HEADER; BATCH_PACKETS_MAX];
    let calls = names.iter_mut().zip(&mut vectors).zip(&mut headers);
    for (packet, ((name, vector), header)) in packets.iter().zip(calls) {
        let name_size;
        (*name, name_size) = self::name(packet.address, is_v6);
        let bytes = packet.bytes;
        *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        header.msg_hdr.msg_name = (&raw mut *name).cast();
        header.msg_hdr.msg_namelen = name_size;
        header.msg_hdr.msg_iov = &raw mut *vector;
        header.msg_hdr.msg_iovlen = 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let (fd, first) = (socket.as_raw_fd(), headers.as_mut_ptr());
    // SAFETY: the first `count` headers point to vectors and names of this function and to bytes
    // that the caller lends until it returns, with their true sizes; the kernel only reads those
    // bytes, and writes only the lengths in the headers.
    let taken = unsafe { libc::sendmmsg(fd, first, count_word, flags as _) };
    let taken = usize::try_from(taken).map_err(|_| io::Error::last_os_error())?;
    assert!((1..=count).contains(&taken), "the kernel sends one packet at least, or fails");
    Ok(taken)
}

/// Reads how many packets the kernel has dropped on a socket, modulo 2^32.
///
/// Errors: those of the system call.
pub(super) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut words = [0_u32; MEMINFO_WORDS];
    let mut size = MEMINFO_SIZE;
    let (fd, value) = (socket.as_raw_fd(), (&raw mut words).cast());
    // SAFETY: `value` points to `size` bytes of this function, and the kernel writes at most those.
    let answer =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, value, &raw mut size) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    if size < MEMINFO_SIZE {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(words[MEMINFO_DROPS])
}

/// Reads an address that the kernel wrote; `None` when it is of neither family.
pub(super) fn address(name: &Name) -> Option<SocketAddr> {
    let port = u16::from_be(name.sin6_port);
    match name.sin6_family {
        FAMILY_V4 => {
            let ip = Ipv4Addr::from_bits(u32::from_be(name.sin6_flowinfo));
            Some(SocketAddr::new(ip.into(), port))
        }
        FAMILY_V6 => {
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Writes an address for the kernel, for a socket of the IPv6 or the IPv4 family, with its size.
fn name(address: SocketAddr, is_v6: bool) -> (Name, libc::socklen_t) {
    let port = address.port().to_be();
    let v6 = |ip: Ipv6Addr, scope| Name {
        sin6_family: FAMILY_V6,
        sin6_port: port,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
        sin6_scope_id: scope,
    };
    match address {
        SocketAddr::V4(address) if is_v6 => (v6(address.ip().to_ipv6_mapped(), 0), NAME_SIZE),
        SocketAddr::V4(address) => {
            let flowinfo = address.ip().to_bits().to_be();
            let name = Name { sin6_family: FAMILY_V4, sin6_port: port, ..NAME_EMPTY };
            (Name { sin6_flowinfo: flowinfo, ..name }, NAME_SIZE_V4)
        }
        SocketAddr::V6(address) => (v6(*address.ip(), address.scope_id()), NAME_SIZE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["192.0.2.1:4000", "255.255.255.255:65535", "[2001:db8::1]:1", "[::1]:9"] {
            let given: SocketAddr = text.parse().unwrap();
            let (name, size) = name(given, given.is_ipv6());
            assert_eq!(size, if given.is_ipv6() { 28 } else { 16 });
            assert_eq!(address(&name), Some(given));
        }
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, 3).into();
        assert_eq!(address(&name(scoped, true).0), Some(scoped));
    }

    #[test]
    fn an_ipv6_socket_gets_ipv4_addresses_in_their_ipv6_form() {
        let (name, _) = name("192.0.2.1:4000".parse().unwrap(), true);
        assert_eq!(address(&name), Some("[::ffff:192.0.2.1]:4000".parse().unwrap()));
    }

    #[test]
    fn other_families_are_no_address() {
        assert_eq!(address(&NAME_EMPTY), None);
        assert_eq!(address(&Name { sin6_family: 1, ..NAME_EMPTY }), None);
    }
}
