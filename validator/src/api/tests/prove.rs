//! Checks of proofs over HTTP, and of the page that checks them.

use super::*;
use crate::handle::tests::{LATE_HEIGHT, UNCOVERED_HEIGHT};

#[test]
fn a_proof_comes_as_a_file_as_soon_as_a_block_covers_it() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let (bytes, id) = stored();
    let own = server.get(&format!("/proof/transaction/{id}"));
    assert_eq!((own.status, own.body.as_slice()), (200, bytes.as_slice()));
    for height in [3, LATE_HEIGHT.get()] {
        let reply = server.get(&format!("/proof/transaction/{id}?height={height}"));
        assert_eq!((reply.status, reply.body.as_slice()), (200, id.as_bytes().as_slice()));
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let name = format!("attachment; filename=\"transaction-{id}.proof\"");
        assert_eq!(reply.header("content-disposition"), Some(name.as_str()));
    }
}

#[test]
fn a_proof_that_there_is_not_is_told_with_its_reason() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let id = stored().1;
    let at = |height: u64| server.get(&format!("/proof/transaction/{id}?height={height}"));
    at(UNCOVERED_HEIGHT.get()).problem(503, "uncovered");
    at(5).problem(503, "unreadable");
    at(99).problem(404, "not_found");
    at(8).problem(410, "pruned");
    server.get(&format!("/proof/transaction/{}", "ee".repeat(32))).problem(404, "not_found");
    server.get("/proof/transaction/12").problem(400, "bad_request");
    server.get(&format!("/proof/transaction/{id}?height=x")).problem(400, "bad_request");
    server.get(&format!("/proof/transaction/{id}?depth=1")).problem(400, "bad_request");
}

#[test]
fn an_account_and_its_absence_are_not_taken_for_each_other() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let absent = ledger::PublicKey([0xee; 32]);
    let reply = server.get(&format!("/proof/account/{KNOWN_KEY}"));
    assert_eq!((reply.status, reply.body.as_slice()), (200, KNOWN_KEY.0.as_slice()));
    let reply = server.get(&format!("/proof/absence/{absent}"));
    assert_eq!((reply.status, reply.body.as_slice()), (200, absent.0.as_slice()));
    server.get(&format!("/proof/account/{absent}")).problem(404, "not_found");
    server.get(&format!("/proof/absence/{KNOWN_KEY}")).problem(404, "not_found");
    server.get("/proof/account/xyz").problem(400, "bad_request");
    server.get("/proof/absence/xyz").problem(400, "bad_request");
}

#[test]
fn the_page_runs_its_own_script_alone() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let page = server.get("/verify");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let text = String::from_utf8(page.body.clone()).unwrap();
    for (element, source) in [("script", "script-src"), ("style", "style-src")] {
        let (open, close) = (format!("<{element}"), format!("</{element}>"));
        assert_eq!(text.matches(&open).count(), 1, "one {element}");
        let start = text.find(&open).unwrap();
        let start = start + text[start..].find('>').unwrap() + 1;
        let end = start + text[start..].find(&close).unwrap();
        let hash = <sha2::Sha256 as sha2::Digest>::digest(&text.as_bytes()[start..end]);
        let expected = format!("{source} 'sha256-{}'", base64(&hash));
        assert!(policy.contains(&expected), "{expected} is not in {policy}");
    }
}

/// Source: RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    let letters: Vec<char> =
        ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        for place in 0..4 {
            let letter = letters[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { letter } else { '=' });
        }
    }
    text
}

#[test]
fn the_genesis_is_served_as_it_lies_on_disk() {
    let mut node = FakeNode::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("genesis.json");
    // Several pieces of it.
    let text = "{".repeat(180_000);
    std::fs::write(&file, &text).unwrap();
    node.handle.genesis = Arc::from(file.clone());
    let server = Server::start(&node.handle);
    let reply = server.get("/genesis");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("content-length"), Some("180000"));
    assert_eq!(reply.body, text.as_bytes());
    std::fs::remove_file(file).unwrap();
    server.get("/genesis").problem(500, "internal");
}
