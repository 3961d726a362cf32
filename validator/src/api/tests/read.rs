//! Checks of what is read: accounts, transactions, blocks.

use super::*;
use crate::handle::tests::BLOCK_UNREADABLE;

#[test]
fn accounts_are_told_with_the_link_that_comes_next() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let document: document::Account = server.get(&format!("/account/{KNOWN_KEY}")).json(200);
    let expected = document::Account {
        key: KNOWN_KEY,
        balance: ACCOUNT.balance,
        sequence: ACCOUNT.sequence,
        head: ACCOUNT.head,
        pending_sequence: ACCOUNT.pending_sequence,
        pending_head: ACCOUNT.pending_head,
    };
    assert_eq!(document, expected);
    server.get(&format!("/account/{}", "ff".repeat(32))).problem(404, "not_found");
    let problem = server.get("/account/xyz").problem(400, "bad_request");
    assert_eq!(problem.detail, "key: expected 64 hexadecimal digits, found 3");
}

#[test]
fn a_transaction_is_told_with_its_place_and_what_it_says() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let (bytes, id) = stored();
    let document: document::Transaction = server.get(&format!("/transaction/{id}")).json(200);
    let place = document::Place { height: 8, index: 1, outcome: "failed".to_owned() };
    assert_eq!((document.id, document.status.as_str(), document.place), (id, "final", Some(place)));
    let content = document.content.unwrap();
    assert_eq!((content.kind.as_str(), content.sequence, content.valid_until), ("record", 6, 77));
    assert_eq!((content.size, content.body_bytes), (bytes.len() as u64, 5));
    assert_eq!(content.transfer, None);
    let body = server.get(&format!("/transaction/{id}/body"));
    assert_eq!((body.status, body.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(body.header("content-type"), Some("application/octet-stream"));
    assert_eq!(body.header("x-content-type-options"), Some("nosniff"));

    let unknown = "ee".repeat(32);
    let document: document::Transaction = server.get(&format!("/transaction/{unknown}")).json(200);
    assert_eq!(
        (document.status.as_str(), document.place, document.content),
        ("unknown", None, None)
    );
    server.get(&format!("/transaction/{unknown}/body")).problem(404, "not_found");
    let document: document::Transaction = server.get(&format!("/transaction/{PRUNED}")).json(200);
    assert!(document.place.is_some() && document.content.is_none());
    server.get(&format!("/transaction/{PRUNED}/body")).problem(410, "pruned");
    server.get(&format!("/transaction/{DAMAGED}")).problem(500, "internal");
    server.get("/transaction/12").problem(400, "bad_request");
}

#[test]
fn a_transfer_tells_who_receives_how_much() {
    let transfer = ledger::Transfer { to: KNOWN_KEY, amount: u64::MAX };
    let draft = ledger::Draft {
        kind: ledger::Kind::Transfer,
        author: KNOWN_KEY,
        sequence: 0,
        previous: Digest::ZERO,
        valid_until: ledger::Height(1),
        body: &transfer.encode(),
    };
    let (bytes, _) = draft.sign(&PRUNED, |_| ledger::Signature([0; 64])).unwrap();
    let content = crate::api::read::content(&ledger::Transaction::decode(&bytes).unwrap());
    let json = serde_json::to_value(&content).unwrap();
    assert_eq!(json["to"], KNOWN_KEY.to_string());
    assert_eq!(json["amount"], u64::MAX);
    assert_eq!(serde_json::from_value::<document::Content>(json).unwrap(), content);
}

#[test]
fn a_block_is_told_in_pages_that_join() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let block: document::Block = server.get("/block/3").json(200);
    assert_eq!((block.height, block.digest, block.view), (3, cut().digest(), 5));
    assert_eq!((block.executed_height, block.history_root), (2, cut().history_root));
    assert_eq!((block.size, block.certificate), (cut().encode().len() as u64, true));
    let lane = document::Lane { lane: 3, sequence: 17, digest: Digest([8; 32]), signers: 3 };
    assert_eq!(block.lanes, [lane]);
    assert_eq!(block.transactions_count as usize, BLOCK_TRANSACTIONS);
    assert_eq!((block.outcomes["stale"], block.outcomes["applied"]), (1, 2_499));
    let (mut indices, mut next) = (Vec::new(), Some(0));
    while let Some(first) = next {
        let path = format!("/block/latest?first={first}&count=700");
        let page: document::Block = server.get(&path).json(200);
        assert!(page.transactions.len() <= 700);
        indices.extend(page.transactions.iter().map(|one| one.index));
        next = page.next;
    }
    assert_eq!(indices, (0..2_500).collect::<Vec<u32>>());
    let past: document::Block = server.get("/block/3?first=4294967295").json(200);
    assert!(past.transactions.is_empty() && past.next.is_none());
}

#[test]
fn a_block_that_is_not_there_or_not_asked_for_rightly_is_a_problem() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    server.get("/block/99").problem(404, "not_found");
    server.get(&format!("/block/{BLOCK_DAMAGED}")).problem(500, "internal");
    let problem = server.get(&format!("/block/{BLOCK_UNREADABLE}")).problem(503, "unreadable");
    assert!(problem.retry_ms.is_some(), "{problem:?}");
    for path in ["/block/x", "/block/-1", "/block/18446744073709551616", "/block/3?count=0"] {
        server.get(path).problem(400, "bad_request");
    }
    server.get("/block/3?count=1001").problem(400, "bad_request");
    let problem = server.get("/block/3?frist=2").problem(400, "bad_request");
    assert!(problem.detail.contains("frist"), "{problem:?}");
    let problem = server.ask("POST", "/transaction?wait=soon", b"").problem(400, "bad_request");
    assert!(problem.detail.contains("soon"), "{problem:?}");
}

#[test]
fn evidence_is_listed_and_each_is_a_file() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let none: Vec<document::Evidence> = server.get("/evidence").json(200);
    assert_eq!(none, []);
    server.get(&format!("/evidence/{}", "ee".repeat(32))).problem(404, "not_found");
    server.get("/evidence/12").problem(400, "bad_request");
    let fork = crate::evidence::fork_for_tests(&node.handle.evidence);
    let listed: Vec<document::Evidence> = server.get("/evidence").json(200);
    assert_eq!(listed, [document::Evidence::new(fork.digest(), &fork)]);
    assert_eq!((listed[0].kind.as_str(), listed[0].sequence), ("fork", Some(7)));
    let reply = server.get(&format!("/evidence/{}", fork.digest()));
    assert_eq!((reply.status, reply.body), (200, fork.encode()));
}
