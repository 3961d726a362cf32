//! Packets from UDP sockets and AF_XDP rings, many a system call, into memory that is made once;
//! and answers back.
//!
//! A [`Receiver`] is one socket. An [`Ingress`] is that socket together with the [`Ring`]s of an
//! interface, from which packets come that a kernel program let past the kernel's stack.
//!
//! Two ways to receive give the same packets: `recvmmsg`, up to [`BATCH_PACKETS_MAX`] packets a
//! call, and its plain twin `recv_from`, one packet a call, used when the first is not permitted.
//! The buffers are longer than any packet of the protocol, so a packet that was cut is too long
//! anyway.
//!
//! Measured on two shared cores (`measure_both_methods` in the tests): CPU time per packet of 560
//! bytes, the last and empty call included. With 512 packets waiting 0.58 us against 0.88 of the
//! plain twin, with 16 waiting 0.77 against 0.95, with 4 the same, with one alone 3.2 against 2.0.
//! What matters is the cost under load, so batches are the default.

mod frame;
mod ingress;
mod ring;
mod sys;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::Ipv4PacketInfo, sockopt::Ipv6RecvPacketInfo};
use rustix::net::{AddressFamily, RecvFlags, SocketType, recvfrom, socket, sockopt};

use crate::{Error, abi};

pub use frame::Fault;
pub use ingress::Ingress;
pub(crate) use ring::channels;
pub use ring::{FRAME_SIZE, FRAMES_COUNT, Ring, RingDropped, RingOptions};

/// The most packets that one call receives or sends: the call's own cost, about 1 us, is spread
/// over 64 packets of 0.6 us each, and its arrays (5 KiB) still lie on the stack.
pub const BATCH_PACKETS_MAX: usize = 64;
/// The size of a buffer for one packet.
pub const BUFFER_SIZE: usize = 1_280;
// A packet cut to the buffer is still longer than a packet may be.
const _: () = assert!(BUFFER_SIZE > abi::PACKET_SIZE_MAX);

/// The receive buffer asked of the kernel: 4 MiB, which holds 3,640 packets of the largest size or
/// 6,553 of 560 bytes and less (measured) while the thread is away.
pub const KERNEL_BUFFER_BYTES: usize = 4 << 20;

/// How packets are taken from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `recvmmsg`: up to [`BATCH_PACKETS_MAX`] packets a call.
    Batched,
    /// `recv_from`: one packet a call.
    Plain,
}

impl Method {
    /// The name of the method's system call.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batched => "recvmmsg",
            Self::Plain => "recv_from",
        }
    }
}

/// What may be chosen about a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How packets are taken; [`Method::Batched`] gives way to [`Method::Plain`] where the kernel
    /// does not permit it.
    pub method: Method,
    /// The receive buffer asked of the kernel, which may give less.
    pub kernel_buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { method: Method::Batched, kernel_buffer_bytes: KERNEL_BUFFER_BYTES }
    }
}

/// What a receiver has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Calls that brought at least one packet.
    pub calls: u64,
    /// Packets received.
    pub packets: u64,
    /// Bytes in those packets.
    pub bytes: u64,
}

/// One packet, unparsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Where it says it comes from, in the form in which the socket can answer it.
    pub address: SocketAddr,
    /// Where it was sent to: one of this machine's addresses, IPv4 always in its own form, or the
    /// address that the socket is bound to where the kernel does not tell.
    pub destination: SocketAddr,
    /// Its bytes, cut at [`BUFFER_SIZE`].
    pub bytes: &'a [u8],
}

/// The packets that one call brought: none to [`BATCH_PACKETS_MAX`] of the socket, and as many of
/// each ring.
///
/// They lie in the receiver's and the rings' own memory until they are asked for more.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    buffers: &'a [[u8; BUFFER_SIZE]],
    arrivals: &'a [Arrival],
    rings: &'a [Ring],
}

impl<'a> Batch<'a> {
    /// How many packets there are.
    pub fn len(&self) -> usize {
        self.arrivals.len() + self.rings.iter().map(Ring::len).sum::<usize>()
    }

    /// Whether the time passed without a packet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The packets: those of each ring and then those of the socket, in the order of their arrival
    /// there.
    pub fn iter(&self) -> impl Iterator<Item = Packet<'a>> + use<'a> {
        let socket = self.buffers.iter().zip(self.arrivals);
        let socket = socket.map(|(buffer, arrival)| arrival.packet(&buffer[..arrival.size]));
        self.rings.iter().flat_map(Ring::packets).chain(socket)
    }
}

/// What is known of a received packet beside its bytes.
#[derive(Clone, Copy)]
struct Arrival {
    address: SocketAddr,
    destination: SocketAddr,
    size: usize,
}

impl Arrival {
    const NONE: Self = Self { address: NOWHERE, destination: NOWHERE, size: 0 };

    fn packet(self, bytes: &[u8]) -> Packet<'_> {
        Packet { address: self.address, destination: self.destination, bytes }
    }
}

/// Stands where an address is missing; the policy refuses it.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A bound UDP socket with the memory that its packets are put into.
pub struct Receiver {
    socket: UdpSocket,
    address: SocketAddr,
    method: Method,
    /// Why the method is not the one asked for.
    method_fallback: Option<io::Error>,
    kernel_buffer_asked_bytes: usize,
    kernel_buffer_bytes: usize,
    /// The time-out that the socket has now; `None` is for ever.
    timeout: Option<Duration>,
    buffers: Box<[[u8; BUFFER_SIZE]]>,
    names: Box<[sys::Name]>,
    /// Room for the destinations of packets; none where the socket has one address.
    controls: Box<[sys::Control]>,
    arrivals: Box<[Arrival]>,
    traffic: Traffic,
    /// The kernel's counter of 32 bits as last read, and the sum of its steps.
    kernel_dropped_last: u32,
    kernel_dropped: u64,
}

impl Receiver {
    /// Binds a socket and makes its memory. Port 0 takes a free port; `[::]` takes IPv4 too, where
    /// the system allows it.
    ///
    /// Errors: [`Error::Bind`] when the address cannot be had (a port is never shared);
    /// [`Error::Socket`] when the socket cannot be set up.
    pub fn bind(address: SocketAddr, options: &Options) -> Result<Self, Error> {
        let (method, method_fallback) = choose_method(options.method, address);
        let socket = UdpSocket::bind(address).map_err(|source| Error::Bind { address, source })?;
        let failed = |operation| move |source| Error::Socket { address, operation, source };
        let address = socket.local_addr().map_err(failed("reading its address"))?;
        let kernel_buffer_bytes = grow_kernel_buffer(&socket, options.kernel_buffer_bytes)
            .map_err(failed("sizing the receive buffer"))?;
        let is_wildcard = address.ip().is_unspecified();
        if is_wildcard {
            ask_destination(&socket, address).map_err(failed("asking for destinations"))?;
        }
        let slots = match method {
            Method::Batched => BATCH_PACKETS_MAX,
            Method::Plain => 1,
        };
        Ok(Self {
            socket,
            address,
            method,
            method_fallback,
            kernel_buffer_asked_bytes: options.kernel_buffer_bytes,
            kernel_buffer_bytes,
            timeout: None,
            buffers: vec![[0; BUFFER_SIZE]; slots].into_boxed_slice(),
            names: vec![sys::NAME_EMPTY; slots].into_boxed_slice(),
            controls: vec![sys::CONTROL_EMPTY; if is_wildcard { slots } else { 0 }]
                .into_boxed_slice(),
            arrivals: vec![Arrival::NONE; slots].into_boxed_slice(),
            traffic: Traffic::default(),
            kernel_dropped_last: 0,
            kernel_dropped: 0,
        })
    }

    /// The address that the socket is bound to, with its true port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How packets are taken from the socket.
    pub fn method(&self) -> Method {
        self.method
    }

    /// What the receiver has done.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The memory that packets can take: the buffers here, and the kernel's, which holds twice the
    /// nominal size, its bookkeeping included.
    pub fn memory_bytes(&self) -> usize {
        2 * self.kernel_buffer_bytes
            + size_of_val(&*self.buffers)
            + size_of_val(&*self.names)
            + size_of_val(&*self.controls)
            + size_of_val(&*self.arrivals)
    }

    /// Waits for packets and takes those that are there, or none when the time has passed or a
    /// signal came. A timeout of zero does not wait.
    ///
    /// Errors: [`Error::Receive`] when the socket fails; [`Error::Socket`] when the timeout cannot
    /// be set.
    pub fn receive(&mut self, timeout: Duration) -> Result<Batch<'_>, Error> {
        let wait = !timeout.is_zero();
        if wait && self.timeout != Some(timeout) {
            let (address, operation) = (self.address, "setting the timeout");
            self.socket.set_read_timeout(Some(timeout)).map_err(|source| Error::Socket {
                address,
                operation,
                source,
            })?;
            self.timeout = Some(timeout);
        }
        let taken = match self.method {
            Method::Batched => self.take_batched(wait),
            Method::Plain => self.take_plain(wait),
        };
        let count = match taken {
            Ok(count) => count,
            Err(error) if is_pause(error.kind()) => 0,
            Err(source) => {
                return Err(Error::Receive { address: self.address, source });
            }
        };
        if count > 0 {
            let bytes = self.arrivals[..count].iter().map(|one| one.size as u64).sum::<u64>();
            self.traffic.calls += 1;
            self.traffic.packets += count as u64;
            self.traffic.bytes += bytes;
        }
        Ok(self.taken(count))
    }

    /// The first packets of those that the last call took.
    fn taken(&self, count: usize) -> Batch<'_> {
        Batch { buffers: &self.buffers[..count], arrivals: &self.arrivals[..count], rings: &[] }
    }

    /// Reads how many packets the kernel has dropped on this socket because its buffer was full.
    ///
    /// This is the counter that `SO_RXQ_OVFL` attaches to packets; asking for it costs nothing per
    /// packet, and it is right also when no further packet comes. It must be read at least once
    /// every 2^32 drops.
    ///
    /// Errors: [`Error::Socket`] when the kernel does not tell.
    pub fn kernel_dropped(&mut self) -> Result<u64, Error> {
        let (address, operation) = (self.address, "reading the drop counter");
        let now = sys::dropped(self.socket.as_fd()).map_err(|source| Error::Socket {
            address,
            operation,
            source,
        })?;
        self.kernel_dropped += u64::from(now.wrapping_sub(self.kernel_dropped_last));
        self.kernel_dropped_last = now;
        Ok(self.kernel_dropped)
    }

    /// Makes a sender that answers from the receiver's own address.
    ///
    /// Errors: [`Error::Socket`] when the process has no file descriptor left.
    pub fn sender(&self) -> Result<Sender, Error> {
        let (address, operation) = (self.address, "making a sender");
        let socket = self.socket.try_clone().map_err(|source| Error::Socket {
            address,
            operation,
            source,
        })?;
        Ok(Sender { socket, is_v6: address.is_ipv6(), sent: 0, dropped: 0 })
    }

    /// The plain twin: one packet into the first buffer.
    fn take_plain(&mut self, wait: bool) -> io::Result<usize> {
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        if !self.controls.is_empty() {
            return self.take_plain_destination(wait);
        }
        let (size, _, address) = recvfrom(&self.socket, &mut self.buffers[0], flags)?;
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        let address = address.unwrap_or(NOWHERE);
        self.arrivals[0] = Arrival { address, destination: self.address, size };
        Ok(1)
    }

    /// The same with the control message that says where the packet was sent to.
    fn take_plain_destination(&mut self, wait: bool) -> io::Result<usize> {
        let (buffer, name) = (&mut self.buffers[0], &mut self.names[0]);
        let control = &mut self.controls[0];
        let size = sys::receive_one(self.socket.as_fd(), buffer, name, control, wait)?;
        self.arrivals[0] = self.arrival(0, size);
        Ok(1)
    }

    /// What the kernel told of the packet in a buffer.
    fn arrival(&self, place: usize, size: usize) -> Arrival {
        let destination = self.controls.get(place).and_then(sys::destination);
        Arrival {
            address: sys::address(&self.names[place]).unwrap_or(NOWHERE),
            destination: destination
                .map_or(self.address, |ip| SocketAddr::new(ip, self.address.port())),
            size,
        }
    }

    /// As many packets as are there, with one call.
    fn take_batched(&mut self, wait: bool) -> io::Result<usize> {
        let mut sizes = [0; BATCH_PACKETS_MAX];
        let count = sys::receive(
            self.socket.as_fd(),
            &mut self.buffers,
            &mut self.names,
            &mut self.controls,
            &mut sizes,
            wait,
        )?;
        for (place, size) in sizes[..count].iter().enumerate() {
            self.arrivals[place] = self.arrival(place, *size);
        }
        Ok(count)
    }
}

impl fmt::Display for Receiver {
    /// One line for the start of a process: what runs, and what is less than was asked for.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} on udp {}", self.method.name(), self.address)?;
        if let Some(error) = &self.method_fallback {
            write!(formatter, " (recvmmsg: {error})")?;
        }
        write!(formatter, ", receive buffer {} KiB", self.kernel_buffer_bytes >> 10)?;
        if self.kernel_buffer_bytes < self.kernel_buffer_asked_bytes {
            let asked = self.kernel_buffer_asked_bytes;
            write!(formatter, " of {} KiB asked: raise net.core.rmem_max", asked >> 10)?;
        }
        Ok(())
    }
}

/// A packet on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub address: SocketAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Sends packets from a receiver's socket without ever waiting.
pub struct Sender {
    socket: UdpSocket,
    is_v6: bool,
    sent: u64,
    dropped: u64,
}

impl Sender {
    /// Sends packets and returns how many the kernel took; the others are dropped and counted.
    ///
    /// A packet that cannot go to its address is skipped; when the socket's buffer is full, the
    /// rest is dropped, since waiting would let one slow link hold up everybody.
    pub fn send(&mut self, packets: &[Outgoing<'_>]) -> usize {
        let mut taken = 0;
        let mut rest = packets;
        while !rest.is_empty() {
            let now = &rest[..rest.len().min(BATCH_PACKETS_MAX)];
            match sys::send(self.socket.as_fd(), now, self.is_v6) {
                Ok(count) => {
                    taken += count;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => rest = &rest[1..],
            }
        }
        self.sent += taken as u64;
        self.dropped += (packets.len() - taken) as u64;
        taken
    }

    /// Packets that the kernel took.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Packets that it did not take.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Whether an error only says that there was nothing to receive this time.
fn is_pause(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Tries the batched call on a socket that no packet can reach, and gives way where it fails.
fn choose_method(asked: Method, address: SocketAddr) -> (Method, Option<io::Error>) {
    match asked {
        Method::Plain => (Method::Plain, None),
        Method::Batched => match try_batched(address) {
            Ok(()) => (Method::Batched, None),
            Err(error) => (Method::Plain, Some(error)),
        },
    }
}

/// Calls `recvmmsg` once on a socket without an address.
fn try_batched(address: SocketAddr) -> io::Result<()> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let unbound = socket(family, SocketType::DGRAM, None)?;
    let (mut buffer, mut name, mut size) = ([[0; BUFFER_SIZE]], [sys::NAME_EMPTY], [0]);
    match sys::receive(unbound.as_fd(), &mut buffer, &mut name, &mut [], &mut size, false) {
        Err(error) if !is_pause(error.kind()) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Asks the kernel to say with each packet where it was sent to.
///
/// A socket of the IPv6 family says it of IPv4 packets too, in the IPv6 form.
fn ask_destination(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// Asks for a receive buffer, past the system's limit where that is permitted, and returns what
/// there is now.
fn grow_kernel_buffer(socket: &UdpSocket, bytes: usize) -> io::Result<usize> {
    if sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, bytes)?;
    }
    // The kernel doubles what was asked for, to make room for its bookkeeping, and tells that.
    Ok(sockopt::socket_recv_buffer_size(socket)? / 2)
}

#[cfg(test)]
pub(crate) mod tests;
