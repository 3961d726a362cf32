//! Choices that need no privileges; `tests/flood.rs` looks at the others in network namespaces.

use super::*;
use crate::policy::tests::setup;

const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const BPF: u64 = 1 << 39;

fn open(interface: Option<&str>, wanted: Wanted) -> Result<Opened, Error> {
    let setup = setup();
    Gate::open(&Request { interface, wanted, action: Action::Enforce, sessions: 64, setup: &setup })
}

#[test]
fn each_lack_is_named() {
    assert_eq!(missing(0).unwrap(), "CAP_NET_ADMIN and CAP_BPF");
    assert_eq!(missing(!(NET_ADMIN | SYS_ADMIN | BPF)).unwrap(), "CAP_NET_ADMIN and CAP_BPF");
    assert_eq!(missing(BPF).unwrap(), "CAP_NET_ADMIN");
    assert_eq!(missing(NET_ADMIN).unwrap(), "CAP_BPF");
    assert_eq!((missing(NET_ADMIN | BPF), missing(SYS_ADMIN)), (None, None));
}

#[test]
fn an_unknown_interface_is_an_error_that_lists_the_others() {
    let error = open(Some("eth9:none"), Wanted::Auto).err().unwrap().to_string();
    assert!(error.starts_with("no network interface \"eth9:none\"; this machine has: "), "{error}");
    assert!(error.contains("lo"), "{error}");
    assert!(matches!(open(Some(""), Wanted::Auto), Err(Error::Interface { .. })));
}

#[test]
fn what_is_not_wanted_is_not_tried() {
    for (interface, wanted, line) in [
        (None, Wanted::Auto, "socket (xdp: not asked for)"),
        (Some("eth9:none"), Wanted::Off, "socket (xdp: turned off)"),
    ] {
        let opened = open(interface, wanted).unwrap();
        assert_eq!(opened.choice.to_string(), line);
        assert!(opened.attached.is_none() && opened.rings.is_empty());
    }
}

#[test]
fn a_status_without_capabilities_is_noticed() {
    let status = "Name:\tx\nCapEff:\t000001ffffffffff\n";
    assert_eq!(parse_capabilities(status), Some(0x1ff_ffff_ffff));
    assert_eq!(parse_capabilities("Name:\tx\nCapEff:\tno\n"), None);
    assert_eq!(parse_capabilities("Name:\tx\n"), None);
}

#[test]
fn every_mode_has_its_name() {
    let mut names: Vec<&str> = Mode::ALL.iter().map(|mode| mode.name()).collect();
    names.dedup();
    assert_eq!(names.len(), Mode::ALL.len());
}
