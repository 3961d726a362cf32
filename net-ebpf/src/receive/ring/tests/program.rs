//! The smallest program that sends every frame to the ring of its queue, loaded without an object.
#![expect(unsafe_code, reason = "bpf(2) is reached through libc alone")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const PROGRAM_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const QUEUES_MAX: u32 = 4;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attach {
    /// In the stack, on copies of its packets (`XDP_FLAGS_SKB_MODE`).
    Generic = 1 << 1,
    /// In the driver (`XDP_FLAGS_DRV_MODE`).
    Driver = 1 << 2,
}

/// An attached program, gone when it is dropped; frames for queues without a ring go on to the
/// kernel's stack.
pub(super) struct Program {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Program {
    /// Loads it and attaches it to an interface of the thread's network namespace.
    pub(super) fn attach(interface_index: u32, attach: Attach) -> io::Result<Self> {
        let map = owned(bpf(MAP_CREATE, &[MAP_TYPE_XSKMAP, 4, 4, QUEUES_MAX, 0])?);
        let fd = u64::from(number(map.as_raw_fd()));
        let instructions: [u64; 6] = [
            0x10_1261,         // r2 = context's queue
            0x1118 | fd << 32, // r1 = map, in two words
            0,
            0x2_0000_03b7,  // r3 = XDP_PASS, where the map has no ring
            0x33_0000_0085, // call redirect_map
            0x95,           // exit
        ];
        let license = c"GPL";
        let [text, code] = [license.as_ptr().addr(), instructions.as_ptr().addr()];
        let [text, code] = [text, code].map(|address| halves(address as u64));
        let load = [PROGRAM_TYPE_XDP, 6, code[0], code[1], text[0], text[1]];
        let program = owned(bpf(PROGRAM_LOAD, &load)?);
        let program = number(program.as_raw_fd());
        let link = [program, interface_index, ATTACH_XDP, attach as u32];
        Ok(Self { map, _link: owned(bpf(LINK_CREATE, &link)?) })
    }

    /// Sends the frames of a queue to a ring.
    pub(super) fn set(&self, queue: u32, ring: impl AsFd) -> io::Result<()> {
        let value = number(ring.as_fd().as_raw_fd());
        self.call(MAP_UPDATE, queue, value)
    }

    /// Sends them to the stack again.
    pub(super) fn clear(&self, queue: u32) -> io::Result<()> {
        self.call(MAP_DELETE, queue, 0)
    }

    fn call(&self, command: libc::c_int, key: u32, value: u32) -> io::Result<()> {
        let [key_at, value_at] =
            [&raw const key, &raw const value].map(|at| halves(at.addr() as u64));
        let map = number(self.map.as_raw_fd());
        let value_at = if command == MAP_UPDATE { value_at } else { [0; 2] };
        bpf(command, &[map, 0, key_at[0], key_at[1], value_at[0], value_at[1], 0, 0]).map(drop)
    }
}

fn halves(word: u64) -> [u32; 2] {
    let [low, high] = [word & 0xffff_ffff, word >> 32].map(|half| u32::try_from(half).unwrap());
    if cfg!(target_endian = "little") { [low, high] } else { [high, low] }
}

fn number(fd: RawFd) -> u32 {
    u32::try_from(fd).unwrap()
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Calls with the first words of `union bpf_attr`.
fn bpf(command: libc::c_int, words: &[u32]) -> io::Result<RawFd> {
    // The union demands 8 bytes of alignment.
    let mut attribute = [0_u64; 16];
    for (at, pair) in words.chunks(2).enumerate() {
        let [low, high] = [pair[0], pair.get(1).copied().unwrap_or(0)].map(u64::from);
        let little = cfg!(target_endian = "little");
        attribute[at] = if little { low | high << 32 } else { low << 32 | high };
    }
    let at = attribute.as_mut_ptr();
    // SAFETY: the attribute and what it points to outlive the call, and are as long as the command
    // reads; it writes nothing there.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, at, size_of_val(&attribute)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(RawFd::try_from(answer).unwrap()) }
}
