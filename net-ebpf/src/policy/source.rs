//! Where a packet says it comes from, and the prefixes that are not listened to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use crate::Error;

/// The most prefixes that a deny list holds: a lookup is at most 13 steps in 128 KiB.
pub const RULES_MAX: usize = 4_096;

/// The most memory that a deny list holds.
pub(super) const RULES_BYTES_MAX: usize = RULES_MAX * size_of::<Range>();

/// The sender of a packet, as its header states it. It is not proved.
///
/// An IPv4 address in IPv6 form (`::ffff:a.b.c.d`) becomes IPv4, so that one host is one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    ip: IpAddr,
    port: u16,
}

impl From<SocketAddr> for Source {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip().to_canonical(), port: address.port() }
    }
}

impl Source {
    /// The address, never an IPv4 address in IPv6 form.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says whether a packet can have been sent from here, and an answer be sent back.
    pub(super) fn is_valid(&self) -> bool {
        let valid_ip = match self.ip {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        };
        valid_ip && self.port != 0
    }

    /// What a source counts as in the tables: the one holder of an IPv4 address or an IPv6 /64.
    pub(super) fn host(&self) -> (u64, u64) {
        match self.ip {
            IpAddr::V4(ip) => (0x0420, u64::from(ip.to_bits())),
            IpAddr::V6(ip) => (0x0640, top_half(ip)),
        }
    }

    /// What its network counts as: the /24 or /48 around it.
    pub(super) fn network(&self) -> (u64, u64) {
        match self.ip {
            IpAddr::V4(ip) => (0x0418, u64::from(ip.to_bits() >> 8)),
            IpAddr::V6(ip) => (0x0630, top_half(ip) >> 16),
        }
    }
}

/// The first 64 bits of an address: what one customer line holds.
fn top_half(ip: Ipv6Addr) -> u64 {
    u64::try_from(ip.to_bits() >> 64).expect("a shift by 64 leaves 64 bits")
}

/// A range of addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Makes a prefix. One of IPv4 addresses in IPv6 form becomes an IPv4 prefix.
    ///
    /// Errors: [`Error::Prefix`] when the length is above 32 or 128, or when the address has bits
    /// set after it.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, Error> {
        let refuse = |reason| Error::Prefix { text: format!("{address}/{length}"), reason };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length > bits {
            return Err(refuse(format!("the length is at most {bits}")));
        }
        let prefix = match address.to_canonical() {
            IpAddr::V4(_) if address.is_ipv6() && length < 96 => {
                return Err(refuse("it holds IPv4 and other addresses".to_owned()));
            }
            IpAddr::V4(ip) if address.is_ipv6() => Self { address: ip.into(), length: length - 96 },
            canonical => Self { address: canonical, length },
        };
        let first = prefix.range().first;
        if first != bits_of(prefix.address) {
            let start = match prefix.address {
                IpAddr::V4(ip) => {
                    let host = u32::MAX.checked_shr(u32::from(prefix.length)).unwrap_or(0);
                    IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & !host))
                }
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(first)),
            };
            return Err(refuse(format!("write {start}/{}", prefix.length)));
        }
        Ok(prefix)
    }

    /// The addresses as numbers.
    fn range(self) -> Range {
        let bits: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let host_bits = bits - u32::from(self.length);
        let host = if host_bits == 128 { u128::MAX } else { (1 << host_bits) - 1 };
        let address = bits_of(self.address);
        Range { first: address & !host, last: address | host }
    }
}

impl FromStr for Prefix {
    type Err = Error;

    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address alone.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Prefix { text: text.to_owned(), reason: reason.into() };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| refuse("it does not start with an IP address"))?;
        let length = match length {
            Some(length) if length.starts_with('+') => Err(refuse("the length is no number")),
            Some(length) => length.parse().map_err(|_| refuse("the length is no number")),
            None => Ok(if address.is_ipv4() { 32 } else { 128 }),
        }?;
        Self::new(address, length)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

/// Addresses from first to last, both included, as numbers of one family.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u128,
    last: u128,
}

/// An address as a number; the two families are never mixed.
fn bits_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The sources that are not listened to; empty by default.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Ranges in order, none touching another, so that one binary search decides.
    v4: Box<[Range]>,
    v6: Box<[Range]>,
}

impl Rules {
    /// Makes a deny list; prefixes may overlap and repeat.
    ///
    /// Errors: [`Error::RulesCount`] when there are more than [`RULES_MAX`].
    pub fn new(denied: &[Prefix]) -> Result<Self, Error> {
        if denied.len() > RULES_MAX {
            return Err(Error::RulesCount { count: denied.len(), max: RULES_MAX });
        }
        let ranges = |v4: bool| {
            let family = denied.iter().filter(|prefix| prefix.address.is_ipv4() == v4);
            merge(family.map(|prefix| prefix.range()).collect())
        };
        Ok(Self { v4: ranges(true), v6: ranges(false) })
    }

    /// Says whether this address lies in a denied prefix.
    pub fn denies(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let ranges = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        let bits = bits_of(ip);
        let after = ranges.partition_point(|range| range.first <= bits);
        after > 0 && bits <= ranges[after - 1].last
    }
}

/// Sorts ranges and joins those that overlap.
fn merge(mut ranges: Vec<Range>) -> Box<[Range]> {
    ranges.sort_unstable_by_key(|range| range.first);
    ranges.dedup_by(|later, earlier| {
        let overlaps = later.first <= earlier.last;
        if overlaps {
            earlier.last = earlier.last.max(later.last);
        }
        overlaps
    });
    ranges.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn one_host_is_one_source() {
        let plain = Source::from("192.0.2.1:9".parse::<SocketAddr>().unwrap());
        let mapped = Source::from("[::ffff:192.0.2.1]:9".parse::<SocketAddr>().unwrap());
        assert_eq!(plain, mapped);
        assert_eq!((mapped.ip(), mapped.port()), ("192.0.2.1".parse().unwrap(), 9));
    }

    #[test]
    fn hosts_and_networks_are_cut_where_one_holder_ends() {
        let source = |text: &str| Source::from(SocketAddr::new(text.parse().unwrap(), 1));
        let (a, b) = (source("192.0.2.1"), source("192.0.2.2"));
        assert_ne!(a.host(), b.host());
        assert_eq!(a.network(), b.network());
        assert_ne!(a.network(), source("192.0.3.1").network());
        let (a, b) = (source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::1"));
        assert_eq!(a.host(), b.host());
        let c = source("2001:db8:1:3::1");
        assert_ne!(a.host(), c.host());
        assert_eq!(a.network(), c.network());
        assert_ne!(a.network(), source("2001:db8:2:2::1").network());
    }

    #[test]
    fn prefixes_are_read_and_printed() {
        for (text, printed) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(prefix(text).to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused_with_what_to_write() {
        for (text, reason) in [
            ("10.1.2.3/8", "write 10.0.0.0/8"),
            ("10.1.2.3/0", "write 0.0.0.0/0"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("10.0.0.0/33", "the length is at most 32"),
            ("::/129", "the length is at most 128"),
            ("::ffff:0.0.0.0/90", "it holds IPv4 and other addresses"),
            ("10.0.0.0/", "the length is no number"),
            ("10.0.0.0/+8", "the length is no number"),
            ("example.org", "it does not start with an IP address"),
            ("", "it does not start with an IP address"),
        ] {
            let error = text.parse::<Prefix>().unwrap_err().to_string();
            assert!(error.ends_with(reason), "{error}");
        }
    }

    #[test]
    fn families_are_apart_and_edges_belong() {
        let rules = Rules::new(&[prefix("::/0"), prefix("10.0.0.0/8")]).unwrap();
        for (ip, denied) in [
            ("2001:db8::1", true),
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("::ffff:10.1.1.1", true),
            ("::ffff:11.1.1.1", false),
            ("11.0.0.0", false),
        ] {
            assert_eq!(rules.denies(ip.parse().unwrap()), denied, "{ip}");
        }
        assert!(!Rules::default().denies("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn the_list_is_bounded() {
        // Every other address, so that no two prefixes join.
        let host = |bits: u32| Prefix::new(Ipv4Addr::from_bits(bits * 2).into(), 32);
        let full: Vec<_> = (0..4_096).map(|bits| host(bits).unwrap()).collect();
        let rules = Rules::new(&full).unwrap();
        assert_eq!(size_of_val(&*rules.v4), RULES_BYTES_MAX);
        let over: Vec<_> = (0..4_097).map(|bits| host(bits).unwrap()).collect();
        let error = Rules::new(&over).unwrap_err().to_string();
        assert_eq!(error, "4097 address prefixes; the deny list holds 4096");
    }

    proptest! {
        #[test]
        fn agrees_with_a_look_at_every_prefix(
            prefixes in prop::collection::vec((0..1_u32 << 12, 20..=32_u8), 0..40),
            addresses in prop::collection::vec(0..1_u32 << 12, 1..60),
        ) {
            // A small world of 4,096 addresses, so that prefixes nest and touch.
            let prefixes: Vec<_> = prefixes.into_iter().map(|(bits, length)| {
                let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                Prefix::new(Ipv4Addr::from_bits(bits & !host).into(), length).unwrap()
            }).collect();
            let rules = Rules::new(&prefixes).unwrap();
            for address in addresses {
                let naive = prefixes.iter().any(|prefix| {
                    let range = prefix.range();
                    (range.first..=range.last).contains(&u128::from(address))
                });
                prop_assert_eq!(rules.denies(Ipv4Addr::from_bits(address).into()), naive);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            if let Ok(prefix) = text.parse::<Prefix>() {
                prop_assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
            }
        }
    }
}
