//! Golden bytes, every single damage to them, and round trips.

use super::*;
use proptest::prelude::*;

const TAG: [u8; 16] = [
    0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff,
];

fn session() -> Session {
    Session::new(0xabcde, 0x123)
}

fn request() -> Submit<'static> {
    Submit {
        session: session(),
        counter: 0x0807_0605_0403_0201,
        token: 0x8877_6655_4433_2211,
        tag: TAG,
        transaction: &[0xab; TRANSACTION_SIZE_MIN],
    }
}

fn answer() -> Answer {
    let outcome = Outcome {
        status: Status::Refused(9),
        id: [0x11; 32],
        expected_sequence: 0x0102_0304_0506_0708,
        expected_previous: [0x22; 32],
    };
    Answer { session: session(), counter: 7, installed: 0x0400, tag: TAG, outcome }
}

fn encoded(submit: &Submit<'_>) -> Vec<u8> {
    let mut packet = [0xee; PACKET_SIZE_MAX];
    let size = submit.encode(&mut packet);
    packet[..size].to_vec()
}

/// A header of these fields: kind, session, counter, token, and a tag or none.
fn golden(kind: u8, session: u32, counter: u64, token: u64, has_tag: bool) -> Vec<u8> {
    let mut bytes = vec![b'a', b'l', 1, kind];
    bytes.extend(session.to_le_bytes());
    bytes.extend(counter.to_le_bytes());
    bytes.extend(token.to_le_bytes());
    bytes.extend(if has_tag { TAG } else { [0; 16] });
    bytes.extend([0; 8]);
    assert_eq!(bytes.len(), HEADER_SIZE);
    bytes
}

const SESSION: u32 = 0x123a_bcde;

#[test]
fn a_request_has_these_bytes() {
    let mut bytes = golden(1, SESSION, 0x0807_0605_0403_0201, 0x8877_6655_4433_2211, true);
    assert_eq!(bytes[4..16], [0xde, 0xbc, 0x3a, 0x12, 1, 2, 3, 4, 5, 6, 7, 8]);
    bytes.resize(SUBMIT_SIZE_MIN, 0xab);
    assert_eq!(bytes.len(), 204);
    assert_eq!(encoded(&request()), bytes);
    assert_eq!(Submit::decode(&bytes), Ok(request()));
}

#[test]
fn an_answer_has_these_bytes() {
    let mut bytes = golden(2, SESSION, 7, 0x0400, true);
    bytes.extend([2, 9]);
    bytes.extend([0x11; 32]);
    bytes.extend([8, 7, 6, 5, 4, 3, 2, 1]);
    bytes.extend([0x22; 32]);
    assert_eq!(bytes.len(), 122);
    assert_eq!(answer().encode().as_slice(), bytes);
    assert_eq!(Answer::decode(&bytes), Ok(answer()));
}

#[test]
fn a_hello_and_a_cookie_have_these_bytes() {
    let bytes = golden(3, 0, 5, 0, false);
    assert_eq!(Hello { nonce: 5 }.encode().as_slice(), bytes);
    assert_eq!(Hello::decode(&bytes), Ok(Hello { nonce: 5 }));
    let bytes = golden(4, 0, 5, 0x0102_0304, false);
    let cookie = Cookie { nonce: 5, cookie: 0x0102_0304 };
    assert_eq!(cookie.encode().as_slice(), bytes);
    assert_eq!(Cookie::decode(&bytes), Ok(cookie));
    // One cookie in 2^64 is zero, and as good as any.
    let zero = golden(4, 0, 5, 0, false);
    assert_eq!(Cookie::decode(&zero), Ok(Cookie { nonce: 5, cookie: 0 }));
}

#[test]
fn a_handshake_has_these_bytes() {
    let mut bytes = golden(5, 0, 5, 6, false);
    bytes.extend([0x33; 8]);
    bytes.extend([0x44; 48]);
    bytes.extend([0; 56]);
    assert_eq!(bytes.len(), 160);
    let handshake = Handshake { nonce: 5, cookie: 6, key_id: [0x33; 8], message: [0x44; 48] };
    assert_eq!(handshake.encode().as_slice(), bytes);
    assert_eq!(Handshake::decode(&bytes), Ok(handshake));
}

#[test]
fn a_welcome_and_its_grant_have_these_bytes() {
    let mut bytes = golden(6, 0, 5, 0, false);
    bytes.extend([0x55; 112]);
    assert_eq!(bytes.len(), 160);
    let welcome = Welcome { nonce: 5, message: [0x55; 112] };
    assert_eq!(welcome.encode().as_slice(), bytes);
    assert_eq!(Welcome::decode(&bytes), Ok(welcome));

    let mut bytes = vec![0xde, 0xbc, 0x3a, 0x12, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0];
    bytes.extend([0x66; 16]);
    bytes.extend([0x77; 32]);
    let grant =
        Grant { session: session(), installed: 1_024, token_key: [0x66; 16], tag_key: [0x77; 32] };
    assert_eq!(grant.encode().as_slice(), bytes);
    let mut bytes: [u8; Grant::SIZE] = bytes.try_into().unwrap();
    assert!(Grant::decode(&bytes) == Ok(grant));
    bytes[7] = 1;
    assert!(Grant::decode(&bytes) == Err(Reject::Reserved));
    bytes[..8].fill(0);
    assert!(Grant::decode(&bytes) == Err(Reject::Session));
}

#[test]
fn a_window_has_these_bytes() {
    let bytes = golden(7, SESSION, 1_280, 0, true);
    let window = Window { session: session(), installed: 1_280, tag: TAG };
    assert_eq!(window.encode().as_slice(), bytes);
    assert_eq!(Window::decode(&bytes), Ok(window));
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
    encoded(&Submit { transaction: &[0; TRANSACTION_SIZE_MAX + 1], ..request() });
}

#[test]
#[should_panic(expected = "no transaction is this small")]
fn a_transaction_below_its_limit_is_our_mistake() {
    encoded(&Submit { transaction: &[0; TRANSACTION_SIZE_MIN - 1], ..request() });
}

#[test]
#[should_panic(expected = "a refusal has a reason")]
fn a_refusal_without_reason_is_our_mistake() {
    let outcome = Outcome { status: Status::Refused(0), ..answer().outcome };
    Answer { outcome, ..answer() }.encode();
}

/// One kind of datagram: a good one, and how it is read; what was read is written back.
struct Sample {
    packet: Vec<u8>,
    read: fn(&[u8]) -> Result<Vec<u8>, Reject>,
    inside: bool,
    token: bool,
}

fn samples() -> Vec<Sample> {
    let sample = |packet: &[u8], read, inside, token| Sample {
        packet: packet.to_vec(),
        read,
        inside,
        token,
    };
    let handshake = Handshake { nonce: 5, cookie: 6, key_id: [0x33; 8], message: [0x44; 48] };
    let window = Window { session: session(), installed: 1_280, tag: TAG };
    vec![
        sample(&encoded(&request()), |p| Submit::decode(p).map(|s| encoded(&s)), true, true),
        sample(&answer().encode(), |p| Answer::decode(p).map(|a| a.encode().into()), true, true),
        sample(
            &Hello { nonce: 5 }.encode(),
            |p| Hello::decode(p).map(|h| h.encode().into()),
            false,
            false,
        ),
        sample(
            &Cookie { nonce: 5, cookie: 6 }.encode(),
            |p| Cookie::decode(p).map(|c| c.encode().into()),
            false,
            true,
        ),
        sample(
            &handshake.encode(),
            |p| Handshake::decode(p).map(|h| h.encode().into()),
            false,
            true,
        ),
        sample(
            &Welcome { nonce: 5, message: [0x55; 112] }.encode(),
            |p| Welcome::decode(p).map(|w| w.encode().into()),
            false,
            false,
        ),
        sample(&window.encode(), |p| Window::decode(p).map(|w| w.encode().into()), true, false),
    ]
}

/// The reason that a damaged byte is refused for; `None` when it is only seen.
fn reject(sample: &Sample, at: usize) -> Option<Reject> {
    let kind = sample.packet[KIND_AT];
    match at {
        0..2 => Some(Reject::Magic),
        2 => Some(Reject::Version),
        3 => Some(Reject::Kind),
        4..8 if !sample.inside => Some(Reject::Session),
        16..24 if !sample.token => Some(Reject::Token),
        24..40 if !sample.inside => Some(Reject::Token),
        40..48 => Some(Reject::Reserved),
        // A status 2 becomes 3 by one bit, which has no reason; 9 becomes no 0 by one.
        48 if kind == 2 => Some(Reject::Body),
        104.. if kind == 5 => Some(Reject::Reserved),
        _ => None,
    }
}

#[test]
fn every_flipped_bit_is_refused_or_seen() {
    for sample in samples() {
        assert_eq!((sample.read)(&sample.packet).as_ref(), Ok(&sample.packet));
        for bit in 0..sample.packet.len() * 8 {
            let mut damaged = sample.packet.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match reject(&sample, bit / 8) {
                Some(reject) => assert_eq!((sample.read)(&damaged), Err(reject), "bit {bit}"),
                None => assert_eq!((sample.read)(&damaged), Ok(damaged), "bit {bit}"),
            }
        }
    }
}

#[test]
fn what_belongs_to_a_session_names_one_and_a_submit_has_a_token() {
    for sample in samples().iter().filter(|sample| sample.inside) {
        let mut packet = sample.packet.clone();
        packet[SESSION_AT..COUNTER_AT].fill(0);
        assert_eq!((sample.read)(&packet), Err(Reject::Session));
    }
    let mut packet = encoded(&request());
    packet[TOKEN_AT..TAG_AT].fill(0);
    assert_eq!(Submit::decode(&packet), Err(Reject::Token));
}

#[test]
fn every_other_length_is_refused() {
    for Sample { packet, read, .. } in samples() {
        let (min, max) =
            if packet[KIND_AT] == 1 { (204, 1_232) } else { (packet.len(), packet.len()) };
        let mut packet = packet;
        packet.resize(max + 2, 0);
        for size in 0..packet.len() {
            let expected = match size {
                size if size < min => Err(Reject::TooShort),
                size if size > max => Err(Reject::TooLong),
                size => Ok(size),
            };
            assert_eq!(read(&packet[..size]).map(|read| read.len()), expected);
        }
        for size in 0..HEADER_SIZE {
            assert_eq!(Header::decode(&packet[..size]), Err(Reject::TooShort));
        }
    }
}

#[test]
fn each_kind_is_read_as_itself_alone() {
    for sample in samples() {
        for kind in 0..=255 {
            let mut packet = sample.packet.clone();
            packet[KIND_AT] = kind;
            let is_own = kind == sample.packet[KIND_AT];
            let expected = if is_own { Ok(packet.clone()) } else { Err(Reject::Kind) };
            assert_eq!((sample.read)(&packet), expected);
            assert_eq!(Header::decode(&packet).is_ok(), (1..=7).contains(&kind));
        }
    }
}

#[test]
fn status_and_reason_must_agree() {
    let mut packet = answer().encode();
    for status in 0..=255 {
        for reason in [0, 1, 255] {
            (packet[48], packet[49]) = (status, reason);
            let expected = match (status, reason) {
                (1, 0) => Ok(Status::Accepted),
                (2, 1..) => Ok(Status::Refused(reason)),
                (3, 0) => Ok(Status::Final),
                _ => Err(Reject::Body),
            };
            assert_eq!(Answer::decode(&packet).map(|answer| answer.outcome.status), expected);
        }
    }
}

proptest! {
    #[test]
    fn any_request_is_read_as_it_was_written(
        index in 0..Session::INDEX_COUNT,
        generation in 1..Session::GENERATION_COUNT,
        counter: u64,
        token in 1..=u64::MAX,
        tag: [u8; 16],
        transaction in prop::collection::vec(
            any::<u8>(), TRANSACTION_SIZE_MIN..=TRANSACTION_SIZE_MAX),
    ) {
        let session = Session::new(index, generation);
        let submit = Submit { session, counter, token, tag, transaction: &transaction };
        let packet = encoded(&submit);
        prop_assert_eq!(Submit::decode(&packet), Ok(submit));
    }

    #[test]
    fn any_answer_is_read_as_it_was_written(
        counter: u64,
        installed: u64,
        tag: [u8; 16],
        number: u8,
        id: [u8; 32],
        expected_sequence: u64,
        expected_previous: [u8; 32],
    ) {
        let status = match number {
            0 => Status::Accepted,
            255 => Status::Final,
            reason => Status::Refused(reason),
        };
        let outcome = Outcome { status, id, expected_sequence, expected_previous };
        let answer = Answer { session: session(), counter, installed, tag, outcome };
        prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn any_bytes_are_refused_or_written_back_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..1_400),
        size in prop::option::of(prop::sample::select(vec![48_usize, 122, 160, 204])),
        good_bytes in 0..=HEADER_SIZE,
        kind in 1..=7_u8,
    ) {
        let mut bytes = bytes;
        if let Some(size) = size {
            bytes.resize(size, 0);
        }
        let good = golden(kind, if kind == 1 { SESSION } else { 0 }, 5, 0, false);
        let front = good_bytes.min(bytes.len());
        bytes[..front].copy_from_slice(&good[..front]);
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(&header.encode()[..], &bytes[..HEADER_SIZE]);
        }
        for sample in samples() {
            if let Ok(again) = (sample.read)(&bytes) {
                prop_assert_eq!(&again, &bytes);
            }
        }
    }
}
