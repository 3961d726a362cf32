//! Checks of the client protocol: exact bytes, every cut, every flipped bit, every way to split.

use super::*;
use proptest::prelude::*;

const ID: Digest = Digest([0xab; 32]);
const LINK: Expected = Expected { sequence: 0x0102, previous: Digest([0xcd; 32]) };

fn refused(expected: Option<Expected>) -> Answer {
    Answer::Refused { id: ID, refusal: Refusal::Forked, expected, retry_ms: 258 }
}

fn answers() -> [Answer; 5] {
    let (id, height, outcome) = (ID, Height(7), Outcome::Forked);
    [
        Answer::Accepted { id },
        refused(Some(LINK)),
        refused(None),
        Answer::Final { id, height, outcome },
        Answer::Unknown { id },
    ]
}

fn frame(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_answer(answer, &mut bytes);
    let length = u32::from_le_bytes(*bytes.first_chunk().unwrap());
    assert_eq!(length as usize, bytes.len() - LENGTH_BYTES);
    bytes.split_off(LENGTH_BYTES)
}

#[test]
fn every_frame_has_the_bytes_of_the_drawing() {
    let id = "ab".repeat(32);
    let link = "cd".repeat(32);
    let nothing = "00".repeat(32);
    let expected = [
        format!("11{id}"),
        format!("12{id}080201000000000000{link}02010000"),
        format!("12{id}08ffffffffffffffff{nothing}02010000"),
        format!("13{id}070000000000000003"),
        format!("14{id}"),
    ];
    for (answer, expected) in answers().iter().zip(expected) {
        assert_eq!(hex::encode(frame(answer)), expected, "{answer:?}");
    }
    let mut calls = Vec::new();
    Call::Submit(&[1, 2, 3]).encode_into(&mut calls);
    Call::Watch(ID).encode_into(&mut calls);
    assert_eq!(hex::encode(calls), format!("0400000001010203210000000 2{id}").replace(' ', ""));
    let welcome = Welcome { hint: [7; 8], transaction_bytes_max: 65_536 };
    let bytes = welcome.encode();
    assert_eq!(
        hex::encode(bytes),
        format!("{}{}00000100", hex::encode("ALTHING1"), "07".repeat(8))
    );
    assert_eq!(Welcome::decode(&bytes), Ok(welcome));
}

#[test]
fn every_answer_reads_back_and_no_prefix_or_extension_does() {
    for answer in answers() {
        let frame = frame(&answer);
        assert!(frame.len() <= ANSWER_BYTES_MAX);
        assert_eq!(decode_answer(&frame), Ok(answer));
        for length in 0..frame.len() {
            let expected = if length == 0 { Reject::Length } else { Reject::Size };
            assert_eq!(decode_answer(&frame[..length]), Err(expected));
        }
        let longer = [&frame[..], &[0]].concat();
        assert_eq!(decode_answer(&longer), Err(Reject::Size));
    }
}

#[test]
fn a_flipped_bit_is_refused_or_read_as_exactly_what_the_bytes_say() {
    for answer in answers() {
        let original = frame(&answer);
        for bit in 0..8 * original.len() {
            let mut bytes = original.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = decode_answer(&bytes) {
                assert_ne!(other, answer);
                assert_eq!(frame(&other), bytes, "bit {bit} of {answer:?}");
            }
        }
    }
}

#[test]
fn each_reject_is_provoked() {
    let welcome = Welcome { hint: [7; 8], transaction_bytes_max: 1 };
    let mut bytes = welcome.encode();
    bytes[7] = b'2';
    assert_eq!(Welcome::decode(&bytes), Err(Reject::Hello));
    assert_eq!(Call::decode(&[]), Err(Reject::Length));
    for kind in (0..=u8::MAX).filter(|kind| ![SUBMIT, WATCH].contains(kind)) {
        assert_eq!(Call::decode(&[kind, 1]), Err(Reject::Kind));
    }
    for kind in (0..ACCEPTED).chain(UNKNOWN + 1..=u8::MAX) {
        assert_eq!(decode_answer(&[&[kind][..], &[0; 32]].concat()), Err(Reject::Kind));
    }
    assert_eq!(Call::decode(&[&[WATCH][..], &[0; 31]].concat()), Err(Reject::Size));
    assert_eq!(Call::decode(&[&[WATCH][..], &[0; 33]].concat()), Err(Reject::Size));
    let code = |answer: &Answer, at: usize, value: u8| {
        let mut bytes = frame(answer);
        bytes[at] = value;
        decode_answer(&bytes)
    };
    assert_eq!(code(&answers()[1], 33, 0), Err(Reject::Code));
    let past = Refusal::ALL.last().expect("there are reasons").code() + 1;
    assert_eq!(code(&answers()[1], 33, past), Err(Reject::Code));
    assert_eq!(code(&answers()[2], 50, 1), Err(Reject::Code), "nothing known, but a previous");
    assert_eq!(code(&answers()[3], 41, 6), Err(Reject::Code));
    let names: std::collections::BTreeSet<&str> =
        Reject::ALL.iter().map(|reject| reject.as_str()).collect();
    assert_eq!(names.len(), Reject::ALL.len());
    assert_eq!(Reject::Length.to_string(), "length");
}

#[test]
fn a_length_is_refused_as_soon_as_it_is_there() {
    let mut frames = Frames::new(10);
    assert_eq!(frames.feed(&[11, 0, 0], |_| Ok(())), Ok(()));
    assert!(frames.is_partial());
    assert_eq!(frames.feed(&[0], |_| Ok(())), Err(Reject::Length));
    let feed = |bytes: &[u8]| Frames::new(10).feed(bytes, |_| Ok(()));
    assert_eq!(feed(&[0; 4]), Err(Reject::Length));
    assert_eq!(feed(&[0xff; 4]), Err(Reject::Length));
    assert_eq!(feed(&[10, 0, 0, 0]), Ok(()));
}

#[test]
fn what_the_visitor_refuses_ends_the_reading() {
    let mut seen = 0;
    let two = [1, 0, 0, 0, 9, 1, 0, 0, 0, 9];
    let answer = Frames::new(10).feed(&two, |_| {
        seen += 1;
        Err(Reject::Kind)
    });
    assert_eq!((answer, seen), (Err(Reject::Kind), 1));
}

#[test]
fn a_quiet_connection_keeps_no_memory() {
    let mut frames = Frames::new(1 << 16);
    let mut stream = Vec::new();
    Call::Submit(&vec![7; 60_000]).encode_into(&mut stream);
    for piece in stream.chunks(1_000) {
        frames.feed(piece, |_| Ok(())).unwrap();
    }
    assert!(!frames.is_partial());
    assert_eq!(frames.partial.capacity(), 0);
}

#[test]
fn a_datagram_says_what_a_frame_says() {
    for answer in answers() {
        let Some(outcome) = datagram_outcome(&answer) else {
            assert_eq!(answer, Answer::Unknown { id: ID });
            continue;
        };
        let session = abi::Session::new(3, 1);
        let datagram = abi::Answer { session, counter: 5, installed: 9, tag: [7; 16], outcome };
        assert_eq!(abi::Answer::decode(&datagram.encode()), Ok(datagram));
        assert_eq!(Digest(outcome.id), ID);
        let previous = Digest(outcome.expected_previous);
        let link = expected(outcome.expected_sequence, previous).unwrap();
        match (answer, outcome.status) {
            (Answer::Accepted { .. }, abi::Status::Accepted)
            | (Answer::Final { .. }, abi::Status::Final) => assert_eq!(link, None),
            (Answer::Refused { refusal, expected, .. }, abi::Status::Refused(code)) => {
                assert_eq!((Refusal::from_code(code), link), (Some(refusal), expected));
            }
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn decoding_never_panics_and_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(answer) = decode_answer(&bytes) {
            prop_assert_eq!(frame(&answer), bytes.clone());
        }
        if let Ok(call) = Call::decode(&bytes) {
            let mut encoded = Vec::new();
            call.encode_into(&mut encoded);
            prop_assert_eq!(&encoded[LENGTH_BYTES..], &bytes[..]);
        }
    }

    #[test]
    fn frames_are_the_same_however_the_stream_is_split(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..20),
        pieces in prop::collection::vec(1_usize..30, 1..40),
    ) {
        let mut stream = Vec::new();
        for frame in &frames {
            stream.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_le_bytes());
            stream.extend_from_slice(frame);
        }
        let (mut reader, mut seen) = (Frames::new(40), Vec::new());
        let (mut rest, mut sizes) = (&stream[..], pieces.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            reader.feed(piece, |frame| {
                seen.push(frame.to_vec());
                Ok(())
            }).unwrap();
            rest = after;
        }
        prop_assert_eq!(&seen, &frames);
        prop_assert!(!reader.is_partial());
    }

    #[test]
    fn garbage_never_panics_and_never_occupies_more_than_a_frame(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
    ) {
        let mut reader = Frames::new(300);
        for piece in pieces {
            if reader.feed(&piece, |_| Ok(())).is_err() {
                return Ok(());
            }
            prop_assert!(reader.partial.len() < LENGTH_BYTES + 300);
        }
    }
}
