//! One question to the kernel's routing socket: what it knows of one interface.
//!
//! ```text
//!  request   nlmsghdr 16 | ifinfomsg 16 | attribute: no statistics, they would fill the answer
//!  answer    nlmsghdr 16 | ifinfomsg 16 | attributes: size 2 | kind 2 | value | up to a multiple of 4
//! ```
//!
//! Source: `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h`; RFC 3549, section 2.3.
#![expect(clippy::host_endian_bytes, reason = "netlink speaks the machine's own byte order")]

use std::{io, time::Duration};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket, sockopt, sockopt::Timeout,
};

use super::Device;

const HEADER_SIZE: usize = 16;
const LINK_SIZE: usize = 16;
const ATTRIBUTE_SIZE: usize = 4;
const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const REQUEST: u16 = 1;
const MTU: u16 = 4;
const EXTRA_MASK: u16 = 29;
const SKIP_STATISTICS: u32 = 8;
const RX_QUEUES: u16 = 32;
const PARENT_NAME: u16 = 56;
const PARENT_BUS: u16 = 57;
/// The answer without statistics takes about 1 KiB; one that does not fit is an error.
const ANSWER_SIZE_MAX: usize = 32 << 10;
/// The kernel answers before `send` returns; this only keeps a start from hanging.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the kernel says of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) mtu: u32,
    /// Queues that receive, in use or not.
    pub(super) queues_count: u32,
    pub(super) device: Option<Device>,
}

/// Asks for the interface with a number.
///
/// Errors: those of the system calls and the kernel's own; `InvalidData` when it answers something
/// else.
pub(super) fn read(index: u32) -> io::Result<Link> {
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(TIMEOUT))?;
    send(&socket, &request(index), SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_SIZE_MAX];
    let (size, _) = recv(&socket, &mut answer[..], RecvFlags::TRUNC)?;
    parse(answer.get(..size).ok_or(io::ErrorKind::InvalidData)?, index)
}

fn request(index: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_SIZE + LINK_SIZE + 8);
    let size = HEADER_SIZE + LINK_SIZE + ATTRIBUTE_SIZE + 4;
    bytes.extend(u32::try_from(size).expect("40").to_ne_bytes());
    bytes.extend(GET_LINK.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // Sequence and sender: there is one question and one answer.
    bytes.extend([0; 8]);
    // Family, type of hardware, then the number, flags and their mask.
    bytes.extend([0; 4]);
    bytes.extend(index.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(u16::try_from(ATTRIBUTE_SIZE + 4).expect("8").to_ne_bytes());
    bytes.extend(EXTRA_MASK.to_ne_bytes());
    bytes.extend(SKIP_STATISTICS.to_ne_bytes());
    assert_eq!(bytes.len(), size, "the size in the header is the true one");
    bytes
}

/// Reads the one message of an answer.
fn parse(answer: &[u8], index: u32) -> io::Result<Link> {
    let broken = io::ErrorKind::InvalidData;
    let size = usize::try_from(word(answer, 0).ok_or(broken)?).map_err(|_| broken)?;
    let message = answer.get(..size).ok_or(broken)?;
    match half(message, 4).ok_or(broken)? {
        ERROR => {
            let code = word(message, HEADER_SIZE).ok_or(broken)?.cast_signed();
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        }
        NEW_LINK if word(message, HEADER_SIZE + 4) == Some(index) => {
            let attributes = message.get(HEADER_SIZE + LINK_SIZE..).ok_or(broken)?;
            Ok(link(attributes).ok_or(broken)?)
        }
        _ => Err(broken.into()),
    }
}

/// Reads the attributes of a link.
fn link(mut attributes: &[u8]) -> Option<Link> {
    let (mut mtu, mut queues_count) = (None, 1);
    let [mut name, mut bus] = [None, None];
    while !attributes.is_empty() {
        let size = usize::from(half(attributes, 0)?);
        let value = attributes.get(ATTRIBUTE_SIZE..size)?;
        match half(attributes, 2)? {
            MTU => mtu = Some(word(value, 0)?),
            RX_QUEUES => queues_count = word(value, 0)?,
            PARENT_NAME => name = Some(text(value)),
            PARENT_BUS => bus = Some(text(value)),
            _ => {}
        }
        attributes = attributes.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    let device = name.map(|name| Device { name, bus: bus.unwrap_or_default() });
    Some(Link { mtu: mtu?, queues_count, device })
}

/// The text in front of the first zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer of one message with these attributes.
    fn answer(kind: u16, index: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(u16::try_from(ATTRIBUTE_SIZE + value.len()).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let size = u32::try_from(HEADER_SIZE + LINK_SIZE + body.len()).unwrap();
        let mut bytes = size.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 14]);
        bytes.extend(index.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn attributes_are_found_among_others() {
        let (mtu, queues) = (1_500_u32.to_ne_bytes(), 4_u32.to_ne_bytes());
        let attributes: [(u16, &[u8]); 5] = [
            (3, b"wire\0"),
            (MTU, &mtu),
            (RX_QUEUES, &queues),
            (PARENT_BUS, b"pci\0"),
            (PARENT_NAME, b"0000:01:00.0\0"),
        ];
        let link = parse(&answer(NEW_LINK, 7, &attributes), 7).unwrap();
        let device = Device { name: "0000:01:00.0".to_owned(), bus: "pci".to_owned() };
        assert_eq!(link, Link { mtu: 1_500, queues_count: 4, device: Some(device) });
        let link = parse(&answer(NEW_LINK, 7, &attributes[..2]), 7).unwrap();
        assert_eq!(link, Link { mtu: 1_500, queues_count: 1, device: None });
    }

    #[test]
    fn other_answers_are_errors() {
        let mtu = 1_500_u32.to_ne_bytes();
        let attributes: [(u16, &[u8]); 1] = [(MTU, &mtu)];
        for bytes in [
            answer(NEW_LINK, 8, &attributes),
            answer(NEW_LINK, 7, &[]),
            answer(NEW_LINK, 7, &[(MTU, &[1])]),
            answer(3, 7, &attributes),
        ] {
            assert_eq!(parse(&bytes, 7).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let whole = answer(NEW_LINK, 7, &attributes);
        for size in 0..whole.len() {
            assert!(parse(&whole[..size], 7).is_err(), "{size} bytes");
        }
    }

    #[test]
    fn the_kernels_own_error_is_passed_on() {
        assert_eq!(read(u32::MAX >> 1).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&bytes, 1));
            drop(link(&bytes));
        }
    }
}
