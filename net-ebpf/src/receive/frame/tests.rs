//! Frames put together by a plain writer, taken apart again, and damaged in every place.

use super::{checksum::tests::sum_plain, *};
use proptest::prelude::*;

const STRICT: Rules = Rules { scope: 7, checksum_partial: false };
const LENIENT: Rules = Rules { scope: 7, checksum_partial: true };

/// How the checksum of a made frame is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    Whole,
    Partial,
    Zero,
}

/// Writes a frame as a sender's kernel would.
fn write(
    tags: &[u16],
    source: SocketAddr,
    destination: SocketAddr,
    body: &[u8],
    sum: Sum,
) -> Vec<u8> {
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let size = u16::try_from(UDP_SIZE + body.len()).unwrap();
    let mut udp = [source.port(), destination.port(), size, 0].map(u16::to_be_bytes).concat();
    udp.extend(body);
    let mut pseudo = [octets(source), octets(destination)].concat();
    pseudo.extend([0, UDP]);
    pseudo.extend(size.to_be_bytes());
    let checksum = match sum {
        Sum::Zero => 0,
        Sum::Partial => sum_plain(&pseudo),
        // RFC 768: a sum that comes out as zero is sent as all ones.
        Sum::Whole => match !sum_plain(&[&*pseudo, &*udp].concat()) {
            0 => u16::MAX,
            sum => sum,
        },
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend([tag.to_be_bytes(), [0x20, 5]].concat());
    }
    if source.is_ipv4() {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + size).to_be_bytes());
        frame.extend([1, 2, 0x40, 0, 64, UDP, 0, 0]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(size.to_be_bytes());
        frame.extend([UDP, 64]);
    }
    frame.extend([octets(source), octets(destination), udp].concat());
    frame
}

fn ends(v6: bool) -> [SocketAddr; 2] {
    let ends = if v6 {
        ["[2001:db8::1]:4000", "[2001:db8::2]:9000"]
    } else {
        ["192.0.2.1:4000", "198.51.100.2:9000"]
    };
    ends.map(|end| end.parse().unwrap())
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + 7).to_le_bytes()[0]).collect()
}

#[track_caller]
fn assert_parses(frame: &[u8], rules: Rules, [source, destination]: [SocketAddr; 2], body: &[u8]) {
    let datagram = parse(frame, rules).unwrap();
    assert_eq!((datagram.source, datagram.destination), (source, destination));
    assert_eq!(&frame[datagram.payload..][..datagram.size], body);
}

#[test]
fn both_families_parse_with_and_without_tags() {
    for v6 in [false, true] {
        let [from, to] = ends(v6);
        for tags in [&[][..], &[TYPE_VLAN], &[TYPE_QINQ, TYPE_VLAN], &[TYPE_VLAN, TYPE_VLAN]] {
            for size in [0, 1, 2, 7, 8, 9, 48, 203, 204, 1_231, 1_232, 1_452] {
                let body = body(size);
                let frame = write(tags, from, to, &body, Sum::Whole);
                assert_parses(&frame, STRICT, [from, to], &body);
                // Short frames are filled up on the wire.
                let padded = [&*frame, &[0xa5; 40]].concat();
                assert_parses(&padded, STRICT, [from, to], &body);
            }
        }
        let three = write(&[TYPE_QINQ, TYPE_VLAN, TYPE_VLAN], from, to, b"hello", Sum::Whole);
        assert_eq!(parse(&three, LENIENT), Err(Fault::Foreign));
    }
}

/// A DNS question in a frame that a Linux machine sent through a card that makes no checksums.
#[test]
fn a_frame_from_elsewhere_parses() {
    let frame = [
        0x02, 0x42, 0xac, 0x11, 0x00, 0x03, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0x08,
        0x00, // link
        0x45, 0x00, 0x00, 0x24, 0x00, 0x01, 0x00, 0x00, 0x40, 0x11, 0x66, 0xc5, // IPv4
        0x7f, 0x00, 0x00, 0x01, 0xac, 0x11, 0x00, 0x02, // from 127.0.0.1 to 172.17.0.2
        0x04, 0xd2, 0x16, 0x2e, 0x00, 0x10, 0x00, 0x00, // UDP, without a checksum
        0xde, 0xad, 0xbe, 0xef, 0x01, 0x02, 0x03, 0x04,
    ];
    let ends = ["127.0.0.1:1234", "172.17.0.2:5678"].map(|end| end.parse().unwrap());
    assert_parses(&frame, STRICT, ends, &frame[42..]);
}

#[test]
fn a_missing_checksum_is_for_ipv4_only() {
    for rules in [STRICT, LENIENT] {
        let [from, to] = ends(false);
        assert_parses(&write(&[], from, to, b"hello", Sum::Zero), rules, [from, to], b"hello");
        let [from, to] = ends(true);
        let frame = write(&[], from, to, b"hello", Sum::Zero);
        assert_eq!(parse(&frame, rules), Err(Fault::Checksum));
    }
}

#[test]
fn an_unfinished_checksum_is_for_virtual_interfaces_only() {
    for v6 in [false, true] {
        let [from, to] = ends(v6);
        let frame = write(&[], from, to, b"hello", Sum::Partial);
        assert_parses(&frame, LENIENT, [from, to], b"hello");
        assert_eq!(parse(&frame, STRICT), Err(Fault::Checksum));
    }
}

#[test]
fn a_sum_of_zero_is_sent_as_all_ones() {
    for v6 in [false, true] {
        let [from, to] = ends(v6);
        // Two bytes of payload that bring the sum of all words to all ones.
        let frame = write(&[], from, to, &[0, 0], Sum::Whole);
        let checksum = parse(&frame, STRICT).unwrap().payload - 2;
        let body = frame[checksum..checksum + 2].to_vec();
        let frame = write(&[], from, to, &body, Sum::Whole);
        assert_eq!(frame[checksum..checksum + 2], [0xff, 0xff]);
        assert_parses(&frame, STRICT, [from, to], &body);
    }
}

#[test]
fn link_local_addresses_carry_their_interface() {
    let [from, to]: [SocketAddr; 2] =
        ["[fe80::1]:4000", "[fe80::2]:9000"].map(|end| end.parse().unwrap());
    let datagram = parse(&write(&[], from, to, b"hello", Sum::Whole), STRICT).unwrap();
    assert_eq!(datagram.source, "[fe80::1%7]:4000".parse().unwrap());
    assert_eq!(datagram.destination, "[fe80::2%7]:9000".parse().unwrap());
}

#[test]
fn options_of_ipv4_are_passed_over() {
    let [from, to] = ends(false);
    let mut frame = write(&[], from, to, b"hello", Sum::Whole);
    frame[14] = 0x47;
    let total = u16::from_be_bytes([frame[16], frame[17]]) + 8;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame.splice(34..34, [1; 8]);
    assert_parses(&frame, STRICT, [from, to], b"hello");
}

#[test]
fn every_prefix_is_refused() {
    for v6 in [false, true] {
        let [from, to] = ends(v6);
        let frame = write(&[TYPE_VLAN], from, to, &body(33), Sum::Whole);
        for size in 0..frame.len() {
            assert_eq!(parse(&frame[..size], LENIENT), Err(Fault::Foreign), "{size} bytes");
        }
    }
}

/// Every flipped bit that the checksum, the lengths or the families cover is noticed; those of the
/// link's addresses, of the tag's number and of IP's own fields change nothing.
#[test]
fn every_flipped_bit_is_refused_or_changes_nothing() {
    for v6 in [false, true] {
        let [from, to] = ends(v6);
        let frame = write(&[TYPE_VLAN], from, to, &body(33), Sum::Whole);
        let whole = parse(&frame, LENIENT).unwrap();
        let ip = ETHERNET_SIZE + VLAN_SIZE;
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let free = match bit / 8 {
                0..12 | 14..16 => true,
                at if v6 => {
                    // Traffic class, flow label and hop limit, and a length that says more.
                    (ip..ip + 4).contains(&at) && bit != ip * 8 + bit % 8
                        || (ip..ip + 1).contains(&at) && bit % 8 < 4
                        || at == ip + 7
                }
                at => {
                    // Type of service, number, "do not fragment" and a reserved bit, time to live
                    // and the header's own checksum.
                    let fragment = at == ip + 6 && bit % 8 >= 6;
                    [1, 4, 5, 8, 10, 11].contains(&at.wrapping_sub(ip)) || fragment
                }
            };
            // A length of IP that says more than UDP's is padding.
            let length = if v6 { ip + 4 } else { ip + 2 };
            let is_length = (length..length + 2).contains(&(bit / 8));
            match parse(&flipped, LENIENT) {
                Ok(datagram) => {
                    assert!(free || is_length, "IPv6 {v6}: bit {bit} is not noticed");
                    assert_eq!(datagram, whole);
                }
                Err(_) => assert!(!free, "IPv6 {v6}: bit {bit} is refused"),
            }
        }
    }
}

#[test]
fn fragments_and_other_protocols_are_foreign() {
    let [from, to] = ends(false);
    let frame = write(&[], from, to, b"hello", Sum::Zero);
    for (at, bytes) in
        [(20, [0x20, 0]), (20, [0, 1]), (20, [0x1f, 0xff]), (22, [64, 6]), (12, [8, 6])]
    {
        let mut other = frame.clone();
        other[at..at + 2].copy_from_slice(&bytes);
        assert_eq!(parse(&other, LENIENT), Err(Fault::Foreign), "{bytes:?} at {at}");
    }
    let [from, to] = ends(true);
    let mut hops = write(&[], from, to, b"hello", Sum::Whole);
    hops[20] = 0;
    assert_eq!(parse(&hops, LENIENT), Err(Fault::Foreign));
}

#[test]
fn faults_have_distinct_names_and_places() {
    assert_eq!(Fault::ALL.map(Fault::index), [0, 1]);
    assert_eq!(Fault::ALL.map(Fault::name), ["foreign", "checksum"]);
}

fn endpoint(v6: bool) -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 16]>(), any::<u16>()).prop_map(move |(bytes, port)| {
        let ip: IpAddr = if v6 {
            Ipv6Addr::from(bytes).into()
        } else {
            Ipv4Addr::from(*bytes.first_chunk::<4>().unwrap()).into()
        };
        end(ip, port, STRICT.scope)
    })
}

fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    any::<bool>().prop_flat_map(|v6| (endpoint(v6), endpoint(v6)))
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, LENIENT);
    }

    /// Random bytes behind headers that are nearly right reach every branch.
    #[test]
    fn no_damage_makes_it_panic(
        ends in pair(),
        size in 0..64_usize,
        damage in prop::collection::vec((0..110_usize, any::<u8>()), 0..6),
        cut in 0..130_usize,
    ) {
        let mut frame = write(&[TYPE_VLAN], ends.0, ends.1, &body(size), Sum::Whole);
        for (at, byte) in damage {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        frame.truncate(cut);
        if let Ok(datagram) = parse(&frame, LENIENT) {
            prop_assert!(datagram.payload + datagram.size <= frame.len());
        }
    }

    #[test]
    fn what_is_written_is_read(
        (from, to) in pair(),
        body in prop::collection::vec(any::<u8>(), 0..1_400),
    ) {
        let frame = write(&[], from, to, &body, Sum::Whole);
        let datagram = parse(&frame, STRICT).unwrap();
        prop_assert_eq!((datagram.source, datagram.destination), (from, to));
        prop_assert_eq!(&frame[datagram.payload..][..datagram.size], &body[..]);
        let partial = write(&[], from, to, &body, Sum::Partial);
        prop_assert!(parse(&partial, LENIENT).is_ok());
    }
}
