//! Packets past the kernel's stack: one AF_XDP socket for one receive queue of an interface.
//!
//! ```text
//!                 fill ring: frames that may be written ◀──────────┐
//!   card's queue ─▶ XDP program ─▶ frames of memory shared with us │ given back with the next call
//!                 rx ring: frames that hold a packet ──▶ Ring ─────┘
//! ```
//!
//! Each frame is in one place at a time: in the fill ring or with the kernel, in the rx ring, or
//! here. Both rings hold all frames, so neither can be too full for one. The kernel's indexes are
//! believed only within these bounds, and a place that it names only within the memory.
//!
//! Measured on two busy shared cores over a virtual wire, where the kernel copies
//! (`measure_rings_and_sockets` in the tests): the receiving thread's time for a packet of 560
//! bytes, parsed and its checksum summed, is 0.4 us with 128 packets waiting, against 0.9 us of
//! `recvmmsg` and 1.6 us of the plain twin; with one alone 3.5, 4.9 and 3.7 us. The sender, in whose
//! time the kernel brings the packet to either, is a sixth faster with the ring.
//!
//! Everything that needs a privilege happens in [`Ring::open`]. After it, only the socket's own
//! calls and its memory are used.

mod ethtool;
mod memory;
mod queue;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use memmap2::{MmapOptions, MmapRaw};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt,
    xdp::{
        SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_RX_RING, XDP_UMEM_PGOFF_FILL_RING,
        XdpMmapOffsets, XdpOptionsFlags, XdpUmemReg, XdpUmemRegFlags,
    },
};

pub(crate) use ethtool::channels;

use super::{
    Arrival, BATCH_PACKETS_MAX, BUFFER_SIZE, Packet, Traffic,
    frame::{self, Fault, Rules},
};
use crate::Error;
use memory::Memory;
use queue::{FillQueue, Queue, RxQueue};

/// The frames of a ring: as many packets as wait in a socket's buffer of 4 MiB (3,640 of the
/// largest size), rounded up to a power of two, which the rings demand.
pub const FRAMES_COUNT: u32 = 4_096;
/// The size of a frame: 256 bytes that the kernel keeps for itself in front, and 1,792 for a
/// packet, where an Ethernet frame of 1,500 bytes and two tags takes 1,522. The kernel allows 2,048
/// and 4,096 only.
pub const FRAME_SIZE: u32 = 2_048;
const _: () = assert!(FRAMES_COUNT.is_power_of_two());
const _: () = assert!(FRAME_SIZE as usize - 256 >= 1_522);
/// The ring for sent frames, which the kernel demands although nothing is sent: the smallest.
const COMPLETIONS_COUNT: u32 = 1;
const MEMORY_SIZE: usize = FRAMES_COUNT as usize * FRAME_SIZE as usize;

/// What is asked of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOptions {
    /// The number of the interface.
    pub interface_index: u32,
    /// The receive queue, from 0.
    pub queue: u32,
    /// Whether the card may write into the frames itself, where its driver can; otherwise the
    /// kernel copies. A program attached in generic mode reaches only rings that copy.
    pub zero_copy: bool,
    /// Whether the interface leaves checksums unfinished: see
    /// [`Interface::leaves_checksums_partial`](crate::interface::Interface::leaves_checksums_partial).
    pub checksum_partial: bool,
}

/// Packets that the kernel lost between the program and the ring. Units: packets since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingDropped {
    /// Dropped for any other reason: too long for a frame, or no frame free while copying.
    pub other: u64,
    /// Dropped because the rx ring was full.
    pub rx_full: u64,
    /// Times that no free frame was in the fill ring. While the kernel copies, each of these is
    /// counted in `other` too.
    pub fill_empty: u64,
}

/// One AF_XDP socket with its memory.
pub struct Ring {
    socket: OwnedFd,
    options: RingOptions,
    is_zero_copy: bool,
    failure: Option<io::Error>,
    rx: RxQueue,
    fill: FillQueue,
    memory: Memory,
    /// The frames of the last call, given back by the next: `frames[..frames_count]`.
    frames: Box<[u64; BATCH_PACKETS_MAX]>,
    frames_count: usize,
    /// The packets of the last call, and where each starts in the memory.
    arrivals: Box<[Arrival; BATCH_PACKETS_MAX]>,
    starts: Box<[usize; BATCH_PACKETS_MAX]>,
    arrivals_count: usize,
    traffic: Traffic,
    faults: [u64; Fault::ALL.len()],
}

impl Ring {
    /// Makes the memory and the socket and binds it to its queue; it receives what a program's
    /// XSKMAP sends to it.
    ///
    /// Errors: [`Error::Ring`]; without `CAP_NET_RAW` there is no socket, and without `CAP_IPC_LOCK`
    /// the memory (8 MiB) must fit the process's limit of locked memory.
    pub fn open(options: RingOptions) -> Result<Self, Error> {
        let failed = |operation| {
            move |source| Error::Ring {
                interface_index: options.interface_index,
                queue: options.queue,
                operation,
                source,
            }
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::XDP, SocketType::RAW, flags, None)
            .map_err(io::Error::from)
            .map_err(failed("making an AF_XDP socket"))?;
        let memory = Memory::new(MEMORY_SIZE, FRAME_SIZE as usize)
            .map_err(failed("making the frames' memory"))?;
        register(&socket, &memory).map_err(failed("registering the frames' memory"))?;
        let (rx, mut fill) = make_queues(&socket).map_err(failed("making the rings"))?;
        fill.push((0..FRAMES_COUNT).map(|frame| u64::from(frame) * u64::from(FRAME_SIZE)));
        let is_zero_copy = bind_queue(&socket, options).map_err(failed("binding to the queue"))?;
        Ok(Self {
            socket,
            options,
            is_zero_copy,
            failure: None,
            rx,
            fill,
            memory,
            frames: Box::new([0; BATCH_PACKETS_MAX]),
            frames_count: 0,
            arrivals: Box::new([Arrival::NONE; BATCH_PACKETS_MAX]),
            starts: Box::new([0; BATCH_PACKETS_MAX]),
            arrivals_count: 0,
            traffic: Traffic::default(),
            faults: [0; Fault::ALL.len()],
        })
    }

    /// The receive queue that it is bound to: its place in the program's XSKMAP.
    pub fn queue(&self) -> u32 {
        self.options.queue
    }

    /// Whether the card writes into the frames itself.
    pub fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// Asks the kernel why nothing comes any more, where that is so: the interface is gone.
    ///
    /// A packet on its way shows nothing of it, so whoever publishes counters asks now and then.
    pub fn failure(&mut self) -> Option<&io::Error> {
        if self.failure.is_none()
            && let Ok(Err(error)) | Err(error) = sockopt::socket_error(&self.socket)
        {
            self.failure = Some(error.into());
        }
        self.failure.as_ref()
    }

    /// What the ring has brought.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Frames that came and were no packet, for this reason.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults[fault.index()]
    }

    /// The memory of the ring: frames, both rings, and what is known of the last packets.
    pub fn memory_bytes(&self) -> usize {
        MEMORY_SIZE
            + self.rx.memory_bytes()
            + self.fill.memory_bytes()
            + size_of_val(&*self.frames)
            + size_of_val(&*self.arrivals)
            + size_of_val(&*self.starts)
    }

    /// Reads what the kernel dropped on the way into the ring.
    ///
    /// Errors: [`Error::Ring`] when the kernel does not tell.
    pub fn dropped(&self) -> Result<RingDropped, Error> {
        let statistics = sockopt::xdp_statistics(&self.socket).map_err(|error| Error::Ring {
            interface_index: self.options.interface_index,
            queue: self.options.queue,
            operation: "reading the drop counters",
            source: error.into(),
        })?;
        Ok(RingDropped {
            other: statistics.rx_dropped,
            rx_full: statistics.rx_ring_full.unwrap_or(0),
            fill_empty: statistics.rx_fill_ring_empty_descs.unwrap_or(0),
        })
    }

    /// Gives the frames of the last call back and takes the packets that are there, without
    /// waiting: those for this port.
    pub(super) fn take(&mut self, port: u16) -> usize {
        self.fill.push(self.frames[..self.frames_count].iter().copied());
        self.arrivals_count = 0;
        self.frames_count = self.rx.available().min(BATCH_PACKETS_MAX);
        for place in 0..self.frames_count {
            if let Err(fault) = self.take_one(place, port) {
                self.faults[fault.index()] += 1;
            }
        }
        self.rx.release(self.frames_count);
        if self.fill.needs_wakeup() {
            // A driver that ran out of frames looks for them again. Its answer does not matter: the
            // next call asks again.
            let _ = recv(&self.socket, &mut [0; 0], RecvFlags::DONTWAIT);
        }
        self.traffic.calls += u64::from(self.arrivals_count > 0);
        self.traffic.packets += self.arrivals_count as u64;
        self.arrivals_count
    }

    /// Takes one frame out of the rx ring, and keeps it as a packet where it is one.
    fn take_one(&mut self, place: usize, port: u16) -> Result<(), Fault> {
        let descriptor = self.rx.read(place);
        let (frame, start) = self.memory.locate(descriptor);
        self.frames[place] = frame;
        let rules = Rules {
            scope: self.options.interface_index,
            checksum_partial: self.options.checksum_partial,
        };
        let datagram = frame::parse(self.memory.bytes(start, descriptor.size), rules)?;
        if datagram.destination.port() != port {
            return Err(Fault::Foreign);
        }
        let arrival = Arrival {
            address: datagram.source,
            destination: datagram.destination,
            size: datagram.size.min(BUFFER_SIZE),
        };
        self.arrivals[self.arrivals_count] = arrival;
        self.starts[self.arrivals_count] = start + datagram.payload;
        self.arrivals_count += 1;
        self.traffic.bytes += arrival.size as u64;
        Ok(())
    }

    /// How many packets the last call took.
    pub(super) fn len(&self) -> usize {
        self.arrivals_count
    }

    /// The packets that the last call took.
    pub(super) fn packets(&self) -> impl ExactSizeIterator<Item = Packet<'_>> {
        let taken = self.arrivals[..self.arrivals_count].iter().zip(&*self.starts);
        taken.map(|(arrival, &start)| arrival.packet(self.memory.bytes(start, arrival.size)))
    }

    /// Whether it is worth waiting for.
    pub(super) fn is_alive(&self) -> bool {
        self.failure.is_none()
    }

    /// Leaves the ring out of waiting: the kernel says that nothing comes any more.
    pub(super) fn fail(&mut self) {
        if self.failure().is_none() {
            self.failure = Some(io::Error::other("the socket was shut"));
        }
    }
}

impl AsFd for Ring {
    /// The socket, for the program's XSKMAP.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Gives the kernel the frames' memory, which it pins.
fn register(socket: &OwnedFd, memory: &Memory) -> io::Result<()> {
    let region = XdpUmemReg {
        addr: memory.address(),
        len: MEMORY_SIZE as u64,
        chunk_size: FRAME_SIZE,
        headroom: 0,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    Ok(sockopt::set_xdp_umem_reg(socket, region)?)
}

/// Makes the rings and maps those that are used.
fn make_queues(socket: &OwnedFd) -> io::Result<(RxQueue, FillQueue)> {
    sockopt::set_xdp_umem_fill_ring_size(socket, FRAMES_COUNT)?;
    sockopt::set_xdp_umem_completion_ring_size(socket, COMPLETIONS_COUNT)?;
    sockopt::set_xdp_rx_ring_size(socket, FRAMES_COUNT)?;
    let XdpMmapOffsets { rx, fr: fill, .. } = sockopt::xdp_mmap_offsets(socket)?;
    let rx_size = queue::size(&rx, FRAMES_COUNT, queue::RX_WORDS)?;
    let rx_map = map(socket, XDP_PGOFF_RX_RING, rx_size)?;
    let fill_size = queue::size(&fill, FRAMES_COUNT, queue::FILL_WORDS)?;
    let fill_map = map(socket, XDP_UMEM_PGOFF_FILL_RING, fill_size)?;
    Ok((
        RxQueue::new(Queue::new(rx_map, &rx, FRAMES_COUNT, queue::RX_WORDS)?),
        FillQueue::new(Queue::new(fill_map, &fill, FRAMES_COUNT, queue::FILL_WORDS)?),
    ))
}

fn map(socket: &OwnedFd, offset: u64, size: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().offset(offset).len(size).populate().map_raw(socket)
}

/// Binds the socket and says whether the card writes into its frames.
///
/// Where zero-copy is not forbidden, the kernel itself tries it first and copies where the driver
/// or the card cannot.
fn bind_queue(socket: &OwnedFd, options: RingOptions) -> io::Result<bool> {
    let copy =
        if options.zero_copy { SocketAddrXdpFlags::empty() } else { SocketAddrXdpFlags::XDP_COPY };
    let flags = copy | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
    bind(socket, &SocketAddrXdp::new(flags, options.interface_index, options.queue))?;
    Ok(sockopt::xdp_options(socket)?.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
}

#[cfg(test)]
mod tests;
