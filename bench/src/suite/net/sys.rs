//! A receive call that never ends: io_uring's multishot `recv` into a ring of provided buffers.
#![expect(unsafe_code, reason = "the kernel writes into buffers after the call that names them")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, types};
use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;

/// Buffers that the kernel can fill before any comes back: as many packets as 4 MiB of a socket's
/// own buffer hold.
const BUFFERS: u16 = 4_096;
/// Room for any packet of the protocol.
const BUFFER_SIZE: usize = 2_048;
/// Bytes of an entry of the ring of buffers: address u64, length u32, buffer u16, reserved u16.
const ENTRY_SIZE: usize = 16;
/// Where the ring's tail lies: in the reserved bytes of its first entry.
const TAIL_AT: usize = 14;
/// The one group of buffers.
const GROUP: u16 = 1;
/// Completions that are taken before the kernel has to keep some for later.
const COMPLETIONS: u32 = 8_192;

/// A socket, and the ring through which its packets come.
pub(super) struct Multishot {
    uring: IoUring,
    socket: UdpSocket,
    is_armed: bool,
    entries: MmapRaw,
    tail: u16,
    /// Goes after the ring, which is dropped first.
    buffers: MmapRaw,
}

impl Multishot {
    /// Sets a ring up for a socket.
    ///
    /// Errors: the kernel's, where it has no such ring or refuses it.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let uring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(8)?;
        let anonymous = |size: usize| MmapOptions::new().len(size).map_anon().map(MmapRaw::from);
        let entries = anonymous(usize::from(BUFFERS) * ENTRY_SIZE)?;
        let buffers = anonymous(usize::from(BUFFERS) * BUFFER_SIZE)?;
        let address = entries.as_mut_ptr().expose_provenance() as u64;
        let mut multishot = Self { uring, socket, is_armed: false, entries, tail: 0, buffers };
        let submitter = multishot.uring.submitter();
        // SAFETY: the entries are `BUFFERS` times 16 bytes of zeros that start on a page, stay
        // where they are as long as the ring, and are written by `give` alone.
        unsafe { submitter.register_buf_ring_with_flags(address, BUFFERS, GROUP, 0) }?;
        for buffer in 0..BUFFERS {
            multishot.give(buffer);
        }
        multishot.publish();
        Ok(multishot)
    }

    /// Takes the packets that are there, or waits for the first, and returns how many came and one
    /// byte of each, added up.
    ///
    /// Errors: the kernel's.
    pub(super) fn receive(&mut self, wait: Duration) -> io::Result<(usize, u64)> {
        if !self.is_armed {
            let socket = types::Fd(self.socket.as_raw_fd());
            let receive = opcode::RecvMulti::new(socket, GROUP).build();
            // SAFETY: the entry names the socket and the group of buffers, which this value owns
            // and drops after the ring.
            unsafe { self.uring.submission().push(&receive) }.map_err(io::Error::other)?;
            self.is_armed = true;
        }
        let timeout = types::Timespec::from(wait);
        let arguments = types::SubmitArgs::new().timespec(&timeout);
        // Deferred work is done only by a call that asks for a completion.
        match self.uring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => {}
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
        let (mut count, mut sum) = (0, 0);
        let mut given = [0_u16; 256];
        let mut places = given.iter_mut();
        for completion in self.uring.completion().take(256) {
            self.is_armed &= cqueue::more(completion.flags());
            let Some(buffer) = cqueue::buffer_select(completion.flags()) else {
                continue;
            };
            count += 1;
            *places.next().expect("no more completions than places") = buffer;
        }
        for buffer in &given[..count] {
            sum += u64::from(self.first_byte(*buffer));
            self.give(*buffer);
        }
        self.publish();
        Ok((count, sum))
    }

    fn first_byte(&self, buffer: u16) -> u8 {
        let at = usize::from(buffer) * BUFFER_SIZE;
        assert!(at < self.buffers.len(), "the kernel names a buffer that it was given");
        let place = self.buffers.as_ptr().wrapping_add(at);
        // SAFETY: the place lies in the mapping, and the kernel has said that it is done with this
        // buffer.
        unsafe { place.read_volatile() }
    }

    /// Writes a buffer into the next entry; the kernel sees it after [`publish`](Self::publish).
    fn give(&mut self, buffer: u16) {
        let entry = usize::from(self.tail % BUFFERS) * ENTRY_SIZE;
        let memory = self.buffers.as_mut_ptr().wrapping_add(usize::from(buffer) * BUFFER_SIZE);
        let size = u32::try_from(BUFFER_SIZE).expect("a small constant");
        let low = u128::from(memory.expose_provenance() as u64);
        // All but the last two bytes, which are the tail in the first entry.
        let bytes = (low | u128::from(size) << 64 | u128::from(buffer) << 96).to_le_bytes();
        let place = self.entries.as_mut_ptr().wrapping_add(entry);
        // SAFETY: the entry lies in the mapping, and the kernel does not read it before the tail
        // says so.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), TAIL_AT) };
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        let place = self.entries.as_mut_ptr().wrapping_add(TAIL_AT).cast::<u16>();
        // SAFETY: the place lies in the mapping, on an even address, and the kernel reads it as one
        // word.
        let tail = unsafe { AtomicU16::from_ptr(place) };
        tail.store(self.tail, Ordering::Release);
    }
}

fn is_pause(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::TIME | Errno::INTR | Errno::BUSY))
}
