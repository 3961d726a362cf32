//! A socket without rings; those with rings are in the tests of [`Ring`].

use super::*;
use crate::receive::Options;
use std::{net::UdpSocket, time::Instant};

const SOON: Duration = Duration::from_secs(5);

fn ingress() -> Ingress {
    let receiver = Receiver::bind("127.0.0.1:0".parse().unwrap(), &Options::default()).unwrap();
    Ingress::new(receiver, Vec::new())
}

#[test]
fn without_rings_it_is_the_socket() {
    let mut ingress = ingress();
    let to = ingress.receiver().address();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..3 {
        client.send_to(b"hello", to).unwrap();
    }
    let mut count = 0;
    while count < 3 {
        let batch = ingress.receive(SOON).unwrap();
        assert!(!batch.is_empty());
        count += batch.len();
        for packet in batch.iter() {
            assert_eq!((packet.destination, packet.bytes), (to, &b"hello"[..]));
        }
    }
    assert_eq!(ingress.receiver_mut().kernel_dropped().unwrap(), 0);
    assert_eq!(ingress.memory_bytes(), ingress.receiver().memory_bytes());
    assert!(ingress.rings().is_empty());
    assert!(ingress.receive(Duration::ZERO).unwrap().is_empty());
}

#[test]
fn waiting_ends_with_the_time_or_a_packet() {
    let start = Instant::now();
    let timeout = Duration::from_millis(30);
    let mut places = [sys::Waited::new(None)];
    sys::wait(&mut places, timeout).unwrap();
    assert!(start.elapsed() >= timeout);
    assert!(!places[0].is_broken());
    let ingress = ingress();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"hello", ingress.receiver().address()).unwrap();
    let mut places = [None, Some(ingress.receiver.socket.as_fd())].map(sys::Waited::new);
    sys::wait(&mut places, Duration::from_secs(60)).unwrap();
    assert!(places.iter().all(|place| !place.is_broken()));
    assert!(start.elapsed() < SOON);
}
