//! How many receive queues an interface uses, asked of its driver.
#![expect(unsafe_code, reason = "SIOCETHTOOL is reached through libc alone")]

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::net::{AddressFamily, SocketType, socket};

/// Source: `linux/ethtool.h`.
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_channels` of `linux/ethtool.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Channels {
    command: u32,
    rx_max: u32,
    tx_max: u32,
    other_max: u32,
    combined_max: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

const _: () = assert!(size_of::<Channels>() == 36);

/// Asks the driver of an interface of this process's network namespace how many queues receive.
///
/// Errors: `Unsupported` (`EOPNOTSUPP`) when the driver does not tell, `ENODEV` when there is none
/// of that name.
pub(crate) fn channels(name: &str) -> io::Result<u32> {
    let socket: OwnedFd = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    // SAFETY: the type is plain data of the C library, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero: the end of the name.
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_le_bytes([byte]);
    }
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // SAFETY: the request names the interface, ended by a zero, and points to a value of the type
    // that its command demands; the kernel reads and writes these two, which outlive the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(channels.rx.saturating_add(channels.combined))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_does_not_tell_and_no_interface_at_all_are_errors() {
        let error = channels("lo").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        let error = channels("no-such-wire").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        for name in ["", "a-name-that-is-too-long"] {
            assert_eq!(channels(name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
