//! Checks of `submit` against validators that answer from a script.

use super::*;
use crate::api::document::Account;
use crate::command::Code;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

const NETWORK: Digest = Digest([5; 32]);
const AUTHOR: PublicKey = PublicKey([6; 32]);

/// What a validator answers to the next `POST`; without one it breaks the connection.
type Script = Vec<Box<dyn Fn(&Digest) -> (u16, String) + Send>>;

#[derive(Default)]
struct Seen {
    /// Bodies of all `POST`s.
    posts: Vec<Vec<u8>>,
    /// Transactions that `GET /transaction` finds.
    known: Vec<Digest>,
    /// The author's chain, as `GET /account` tells it.
    sequence: u64,
}

/// Serves one request on each connection.
fn serve(script: Script) -> (Url, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::from(listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    thread::spawn(move || {
        let mut script = script.into_iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap_or("0").parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            let mut seen = shared.lock().unwrap();
            let path = head.split(' ').nth(1).unwrap();
            let (status, answer) = if head.starts_with("POST") {
                let id = Digest(blake3::hash(&body).into());
                seen.posts.push(body);
                match script.next() {
                    Some(step) => step(&id),
                    None => continue,
                }
            } else if path == "/status" {
                let status = crate::command::status::tests::status();
                let status = crate::handle::Status { network: NETWORK, ..status };
                (200, serde_json::to_string(&status).unwrap())
            } else if path.starts_with("/account/") {
                let (sequence, head) =
                    (seen.sequence, Digest([u8::try_from(seen.sequence).unwrap(); 32]));
                let (pending_sequence, pending_head) = (sequence, head);
                let key = AUTHOR;
                let account =
                    Account { key, balance: 1, sequence, head, pending_sequence, pending_head };
                (200, serde_json::to_string(&account).unwrap())
            } else {
                let id = path.rsplit('/').next().unwrap().to_string();
                let status = match seen.known.iter().any(|known| known.to_string() == id) {
                    true => "\"final\",\"height\":9,\"index\":0,\"outcome\":\"applied\"",
                    false => "\"unknown\"",
                };
                (200, format!("{{\"id\":\"{id}\",\"status\":{status}}}"))
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    (url, seen)
}

fn is_final(id: &Digest) -> (u16, String) {
    (200, format!(r#"{{"id":"{id}","status":"final","height":7,"outcome":"applied"}}"#))
}

fn is_accepted(id: &Digest) -> (u16, String) {
    (202, format!(r#"{{"id":"{id}","status":"accepted"}}"#))
}

fn refusal(refusal: Refusal) -> impl Fn(&Digest) -> (u16, String) {
    move |_| {
        let (status, code, detail) = (refusal.http_status(), refusal.as_str(), refusal.help());
        let document = json!({
            "type": "about:blank", "title": "x", "status": status, "detail": detail, "code": code,
        });
        (status, document.to_string())
    }
}

/// Hands in "bytes" that name their place, whose id is their plain hash.
fn submit(urls: Vec<Url>, pinned: Option<Digest>) -> Result<Final, Exit> {
    let sign = |network: &Digest, link: Link| {
        assert_eq!(*network, NETWORK);
        let bytes = link.sequence.to_le_bytes().to_vec();
        let id = Digest(blake3::hash(&bytes).into());
        Ok((bytes, id))
    };
    Door::new(urls, Duration::from_secs(4)).submit(pinned, &sign, &AUTHOR)
}

#[test]
fn a_final_answer_is_the_end() {
    let (url, seen) = serve(vec![Box::new(is_final)]);
    let known = submit(vec![url], Some(NETWORK)).unwrap();
    assert_eq!((known.height, known.outcome), (7, Outcome::Applied));
    assert_eq!(seen.lock().unwrap().posts.len(), 1);
}

#[test]
fn the_same_bytes_are_handed_in_until_they_are_final() {
    let (url, seen) =
        serve(vec![Box::new(is_accepted), Box::new(refusal(Refusal::Busy)), Box::new(is_final)]);
    assert_eq!(submit(vec![url], None).unwrap().height, 7);
    let posts = &seen.lock().unwrap().posts;
    assert!(posts.len() == 3 && posts.iter().all(|post| *post == posts[0]));
}

#[test]
fn a_validator_that_breaks_off_is_replaced_by_the_next() {
    let (first, _) = serve(Vec::new());
    let (second, seen) = serve(vec![Box::new(is_final)]);
    assert_eq!(submit(vec![first, second], None).unwrap().height, 7);
    assert_eq!(seen.lock().unwrap().posts.len(), 1);
}

#[test]
fn what_is_final_already_is_found() {
    for reason in [Refusal::Stale, Refusal::Duplicate] {
        let (url, seen) = serve(vec![Box::new(refusal(reason))]);
        seen.lock().unwrap().known.push(Digest(blake3::hash(&0_u64.to_le_bytes()).into()));
        assert_eq!(submit(vec![url], None).unwrap().height, 9);
    }
}

#[test]
fn a_place_that_others_took_is_left_and_the_next_is_signed() {
    let (url, seen) = serve(vec![Box::new(refusal(Refusal::Forked)), Box::new(is_final)]);
    seen.lock().unwrap().sequence = 3;
    assert_eq!(submit(vec![url], None).unwrap().height, 7);
    assert_eq!(seen.lock().unwrap().posts.len(), 2);
}

#[test]
fn a_refusal_for_good_says_why() {
    let (url, _) = serve(vec![Box::new(refusal(Refusal::Unfunded))]);
    let exit = submit(vec![url], None).unwrap_err();
    assert_eq!(exit.code(), Code::CheckFailed);
    assert!(exit.message().contains("fund the author first"), "{exit}");
}

#[test]
fn another_network_and_nobody_there_are_network_errors() {
    let (url, _) = serve(Vec::new());
    let exit = submit(vec![url], Some(Digest([1; 32]))).unwrap_err();
    assert_eq!(exit.code(), Code::Network);
    assert!(exit.message().contains("it serves network"), "{exit}");
    let exit = submit(vec!["127.0.0.1:1".parse().unwrap()], None).unwrap_err();
    assert_eq!(exit.code(), Code::Network);
    assert!(exit.message().contains("is the validator running?"), "{exit}");
}

#[test]
fn what_never_gets_final_ends_in_time_with_the_id() {
    let (url, _) = serve((0..20).map(|_| Box::new(is_accepted) as _).collect());
    let exit = submit(vec![url], None).unwrap_err();
    let id = Digest(blake3::hash(&0_u64.to_le_bytes()).into());
    assert!(exit.message().contains(&id.to_string()), "{exit}");
}

#[test]
fn a_record_that_is_too_long_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    let most = ledger::limits::TRANSACTION_BODY_BYTES_MAX;
    std::fs::write(&file, vec![1; most]).unwrap();
    assert_eq!(read_record(&file).unwrap().len(), most);
    std::fs::write(&file, vec![1; most + 1]).unwrap();
    assert!(read_record(&file).unwrap_err().message().contains("split it"));
    assert!(read_record(folder.path()).is_err());
}
