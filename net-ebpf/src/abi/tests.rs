//! Golden bytes, every single damage to them, and round trips.

use super::*;
use proptest::prelude::*;

const REQUEST: Submit<'static> =
    Submit { counter: 0x0807_0605_0403_0201, transaction: &[0xab; TRANSACTION_SIZE_MIN] };

const ANSWER: Answer = Answer {
    counter: 7,
    status: Status::Refused(9),
    id: [0x11; 32],
    expected_sequence: 0x0102_0304_0506_0708,
    expected_previous: [0x22; 32],
};

fn encoded(submit: &Submit<'_>) -> Vec<u8> {
    let mut packet = [0xee; PACKET_SIZE_MAX];
    let size = submit.encode(&mut packet);
    packet[..size].to_vec()
}

#[test]
fn a_request_has_these_bytes() {
    let mut golden = vec![b'a', b'l', 1, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    golden.resize(HEADER_SIZE, 0);
    golden.resize(SUBMIT_SIZE_MIN, 0xab);
    assert_eq!(encoded(&REQUEST), golden);
    assert_eq!(Submit::decode(&golden), Ok(REQUEST));
}

#[test]
fn an_answer_has_these_bytes() {
    let mut golden = vec![b'a', b'l', 1, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
    golden.resize(HEADER_SIZE, 0);
    golden.extend([2, 9]);
    golden.extend([0x11; 32]);
    golden.extend([8, 7, 6, 5, 4, 3, 2, 1]);
    golden.extend([0x22; 32]);
    assert_eq!(golden.len(), 122);
    assert_eq!(ANSWER.encode().as_slice(), golden);
    assert_eq!(Answer::decode(&golden), Ok(ANSWER));
}

#[test]
fn a_header_with_every_field_has_these_bytes() {
    let header = Header {
        kind: Kind::Submit,
        session: Session::new(0xabcde, 0x123),
        counter: 1,
        token: 0x8877_6655_4433_2211,
        tag: std::array::from_fn(|index| 0xf0 + index.to_le_bytes()[0]),
    };
    let bytes = header.encode();
    assert_eq!(bytes[..8], [b'a', b'l', 1, 1, 0xde, 0xbc, 0x3a, 0x12]);
    assert_eq!(bytes[16..24], [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    assert_eq!((bytes[24], bytes[39]), (0xf0, 0xff));
    assert_eq!(bytes[40..], [0; 8]);
    assert_eq!(Header::decode(&bytes), Ok(header));
    assert_eq!((header.session.index(), header.session.generation()), (0xabcde, 0x123));
}

#[test]
fn a_session_keeps_both_parts_at_their_largest() {
    let session = Session::new(Session::INDEX_COUNT - 1, Session::GENERATION_COUNT - 1);
    assert_eq!(session.index(), 0xfffff);
    assert_eq!(session.generation(), 0xfff);
    assert_eq!(Session::new(0, 0), Session::NONE);
}

#[test]
#[should_panic(expected = "20 bits")]
fn a_session_index_past_its_bits_is_our_mistake() {
    Session::new(Session::INDEX_COUNT, 0);
}

#[test]
#[should_panic(expected = "12 bits")]
fn a_session_generation_past_its_bits_is_our_mistake() {
    Session::new(0, Session::GENERATION_COUNT);
}

#[test]
#[should_panic(expected = "too large for a datagram")]
fn a_transaction_past_its_limit_is_our_mistake() {
    encoded(&Submit { counter: 0, transaction: &[0; TRANSACTION_SIZE_MAX + 1] });
}

#[test]
#[should_panic(expected = "a refusal has a reason")]
fn a_refusal_without_reason_is_our_mistake() {
    Answer { status: Status::Refused(0), ..ANSWER }.encode();
}

/// The reason that belongs to a damaged byte of a header.
fn header_reject(at: usize) -> Option<Reject> {
    match at {
        0..2 => Some(Reject::Magic),
        2 => Some(Reject::Version),
        3 => Some(Reject::Kind),
        4..8 => Some(Reject::Session),
        8..16 => None,
        16..40 => Some(Reject::Token),
        40..48 => Some(Reject::Reserved),
        _ => None,
    }
}

#[test]
fn every_flipped_bit_of_a_request_is_refused_or_seen() {
    let packet = encoded(&REQUEST);
    for bit in 0..packet.len() * 8 {
        let mut damaged = packet.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match header_reject(bit / 8) {
            Some(reject) => assert_eq!(Submit::decode(&damaged), Err(reject), "bit {bit}"),
            None => assert_ne!(Submit::decode(&damaged).unwrap(), REQUEST, "bit {bit}"),
        }
    }
}

#[test]
fn every_flipped_bit_of_an_answer_is_refused_or_seen() {
    let packet = ANSWER.encode();
    for bit in 0..packet.len() * 8 {
        let mut damaged = packet;
        damaged[bit / 8] ^= 1 << (bit % 8);
        match header_reject(bit / 8) {
            Some(reject) => assert_eq!(Answer::decode(&damaged), Err(reject), "bit {bit}"),
            // A status 2 becomes 3 by one bit, which has no reason.
            None if bit / 8 == STATUS_AT => assert_eq!(Answer::decode(&damaged), Err(Reject::Body)),
            None => assert_ne!(Answer::decode(&damaged).unwrap(), ANSWER, "bit {bit}"),
        }
    }
}

#[test]
fn status_and_reason_must_agree() {
    let mut packet = ANSWER.encode();
    for status in 0..=255 {
        for reason in [0, 1, 255] {
            (packet[STATUS_AT], packet[REASON_AT]) = (status, reason);
            let expected = match (status, reason) {
                (1, 0) => Ok(Status::Accepted),
                (2, 1..) => Ok(Status::Refused(reason)),
                (3, 0) => Ok(Status::Final),
                _ => Err(Reject::Body),
            };
            assert_eq!(Answer::decode(&packet).map(|answer| answer.status), expected);
        }
    }
}

#[test]
fn every_other_length_is_refused() {
    let long = [0xcd; TRANSACTION_SIZE_MAX];
    let mut packet = encoded(&Submit { counter: 1, transaction: &long });
    assert_eq!(packet.len(), PACKET_SIZE_MAX);
    for size in 0..SUBMIT_SIZE_MIN {
        assert_eq!(Submit::decode(&packet[..size]), Err(Reject::TooShort));
    }
    for size in SUBMIT_SIZE_MIN..=PACKET_SIZE_MAX {
        let transaction = Submit::decode(&packet[..size]).unwrap().transaction;
        assert_eq!(transaction.len(), size - HEADER_SIZE);
    }
    packet.push(0xcd);
    assert_eq!(Submit::decode(&packet), Err(Reject::TooLong));

    let mut packet = ANSWER.encode().to_vec();
    for size in 0..ANSWER_SIZE {
        assert_eq!(Answer::decode(&packet[..size]), Err(Reject::TooShort));
    }
    packet.push(0);
    assert_eq!(Answer::decode(&packet), Err(Reject::TooLong));
    for size in 0..HEADER_SIZE {
        assert_eq!(Header::decode(&packet[..size]), Err(Reject::TooShort));
    }
}

#[test]
fn each_side_refuses_what_only_it_sends() {
    let mut packet = encoded(&REQUEST);
    packet[KIND_AT] = Kind::Answer as u8;
    assert_eq!(Submit::decode(&packet), Err(Reject::Kind));
    let mut packet = ANSWER.encode();
    packet[KIND_AT] = Kind::Submit as u8;
    assert_eq!(Answer::decode(&packet), Err(Reject::Kind));
}

proptest! {
    #[test]
    fn any_request_is_read_as_it_was_written(
        counter: u64,
        transaction in prop::collection::vec(
            any::<u8>(), TRANSACTION_SIZE_MIN..=TRANSACTION_SIZE_MAX),
    ) {
        let submit = Submit { counter, transaction: &transaction };
        let packet = encoded(&submit);
        prop_assert_eq!(Submit::decode(&packet), Ok(submit));
    }

    #[test]
    fn any_answer_is_read_as_it_was_written(
        counter: u64, number: u8, id: [u8; 32], expected_sequence: u64, previous: [u8; 32],
    ) {
        let status = match number {
            0 => Status::Accepted,
            255 => Status::Final,
            reason => Status::Refused(reason),
        };
        let answer = Answer { counter, status, id, expected_sequence, expected_previous: previous };
        prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn any_bytes_are_refused_or_written_back_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..1_400),
        good_bytes in 0..=HEADER_SIZE,
        kind in 1..=2_u8,
    ) {
        let mut bytes = bytes;
        let mut good = Header::new(Kind::Submit, 5).encode();
        good[KIND_AT] = kind;
        let front = good_bytes.min(bytes.len());
        bytes[..front].copy_from_slice(&good[..front]);
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(&header.encode()[..], &bytes[..HEADER_SIZE]);
        }
        if let Ok(submit) = Submit::decode(&bytes) {
            prop_assert_eq!(&encoded(&submit), &bytes);
        }
        if let Ok(answer) = Answer::decode(&bytes) {
            prop_assert_eq!(&answer.encode()[..], &bytes[..]);
        }
    }
}
