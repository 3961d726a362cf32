//! Proofs of what a running network executed, held to two verifiers that share nothing but the format.

use ledger::{
    Digest, Genesis, Proof, Proved, PublicKey, Trusted,
    history::{node_place, nodes_before},
};
use std::{
    collections::HashSet,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tests::{
    cluster::{COMMAND, Cluster, SEED, alone},
    load::{Load, Offer},
    process::{command, finish},
};
use validator::{
    client::{Api, author},
    votes::Judge,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
const AUTHORS: u32 = 400;
/// Time for all transactions, on a machine that does other things too.
const TIME: Duration = Duration::from_secs(240);
/// The history root that the header of a proof declares, and the state root.
const HISTORY_ROOT: Range<usize> = 8 + 112..8 + 144;
const STATE_ROOT: Range<usize> = 8 + 144..8 + 176;
/// Who signed its certificate.
const SIGNERS: Range<usize> = 280..296;

/// Where the claim of a proof begins: with the key, where it is one of a key.
fn claim(proof: &[u8]) -> usize {
    let signers =
        proof.get(SIGNERS).map_or(0, |bits| bits.iter().map(|byte| byte.count_ones()).sum());
    312 + 64 * signers as usize
}

/// `ALTHING_PROOFS=10000` makes as many, and ten times as many that are changed.
fn count() -> usize {
    let count = std::env::var("ALTHING_PROOFS").ok();
    count.map_or(2_000, |count| count.parse().expect("ALTHING_PROOFS is a number"))
}

fn web(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../validator/web/dist").join(file)
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = (self.0 >> 33) as usize;
        high % end
    }
}

/// The verifier of this workspace.
struct Ours {
    trusted: Trusted,
    judge: Judge,
}

impl Ours {
    fn new(genesis: &Genesis) -> Self {
        let options = sigverify::Options { backend: None, threads: 1 };
        let verifier = sigverify::Verifier::new(&options).expect("one backend runs everywhere");
        Self { trusted: Trusted::genesis(genesis), judge: Judge::new(Arc::new(verifier)) }
    }

    /// What a proof says, in the words of the other verifier.
    fn says(&self, bytes: &[u8]) -> Option<String> {
        let proof = Proof::decode(bytes).ok()?;
        Some(match proof.check(&self.trusted, &self.judge).ok()? {
            Proved::Transaction { id, outcome, height, .. } => {
                format!("ok transaction {id} height {height} outcome {outcome}")
            }
            Proved::Account { key, account, .. } => {
                let ledger::Account { balance, sequence, .. } = account;
                format!("ok account {key} balance {balance} sequence {sequence}")
            }
            Proved::Absence { key, .. } => format!("ok absence {key}"),
        })
    }
}

/// What the other verifier says of each; nothing where there is no Node.js to run it.
fn others(genesis: &Path, proofs: &[Vec<u8>]) -> Option<Vec<String>> {
    let mut command = Command::new("node");
    command.arg(web("check.mjs")).arg(genesis).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("the other verifier: skipped: node: {error}");
            return None;
        }
    };
    let (mut stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
    let lines = thread::spawn(move || {
        BufReader::new(stdout).lines().map(|line| line.expect("it writes text")).collect()
    });
    for proof in proofs {
        let length = u32::try_from(proof.len()).expect("a proof is short").to_le_bytes();
        stdin.write_all(&[&length, proof.as_slice()].concat()).expect("it reads all");
    }
    drop(stdin);
    let lines: Vec<String> = lines.join().expect("it writes one line for each");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(lines.len(), proofs.len());
    Some(lines)
}

/// A proof, as soon as this validator knows what another has told.
fn ask(api: &mut Api, path: &str) -> Vec<u8> {
    let end = Instant::now() + COMMAND;
    loop {
        match api.proof(path) {
            Ok(proof) => return proof,
            Err(error) => assert!(Instant::now() < end, "{path}: {error}"),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// A cluster under load, some proofs from it, and its genesis.
struct Proved4 {
    cluster: Cluster,
    genesis: Genesis,
    proofs: Vec<Vec<u8>>,
    expected: Vec<String>,
}

fn prove_all(wanted: usize) -> Proved4 {
    let mut cluster = Cluster::create(PROGRAM, AUTHORS);
    cluster.start_all();
    cluster.wait_ready();
    let load =
        Load::start(&cluster, Offer { rate: 600, size: 300, drain: Duration::from_secs(20) });
    let transactions = wanted - wanted / 5;
    load.wait_for(transactions, TIME);
    // The last proofs are made while more transactions come in.
    let (mut proofs, mut expected) = (Vec::new(), Vec::new());
    let mut numbers = Numbers(7);
    let told = load.told();
    let start = Instant::now();
    for known in told.iter().take(transactions) {
        let (id, height, outcome) = (known.id, known.height, known.outcome);
        // Some as one asks of whom nothing is remembered.
        let at = if numbers.below(2) == 0 { format!("?height={height}") } else { String::new() };
        let mut api = cluster.api(numbers.below(4));
        proofs.push(ask(&mut api, &format!("/proof/transaction/{id}{at}")));
        expected.push(format!("ok transaction {id} height {height} outcome {outcome}"));
    }
    let took = start.elapsed();
    println!("{transactions} proofs of transactions in {:.1} s", took.as_secs_f64());
    for _ in transactions..wanted {
        let mut api = cluster.api(numbers.below(4));
        let number = u32::try_from(numbers.below(AUTHORS as usize)).expect("few authors");
        let key = author::secret(SEED, number).public();
        let (key, path) = match numbers.below(3) {
            0 => {
                let key = PublicKey(std::array::from_fn(|at| number.to_le_bytes()[at % 4]));
                (key, format!("/proof/absence/{key}"))
            }
            _ => (key, format!("/proof/account/{key}")),
        };
        proofs.push(ask(&mut api, &path));
        let kind = path.split('/').nth(2).expect("a kind");
        expected.push(format!("ok {kind} {key}"));
    }
    load.stop();
    let file = cluster.network().genesis();
    let genesis = fs::read_to_string(file).expect("the genesis is there");
    let genesis = Genesis::from_json(&genesis, sigverify::key_is_sound).expect("it is right");
    Proved4 { cluster, genesis, proofs, expected }
}

/// A proof that is not one any more, unless chance has made another of it.
fn change(proofs: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let proof = &proofs[numbers.below(proofs.len())];
    let other = &proofs[numbers.below(proofs.len())];
    let mut bytes = proof.clone();
    let at = numbers.below(bytes.len());
    match numbers.below(8) {
        0..=3 => bytes[at] ^= 1 << numbers.below(8),
        4 => {
            bytes[at] =
                bytes[at].wrapping_add(u8::try_from(1 + numbers.below(255)).expect("a byte"))
        }
        5 => bytes.truncate(at),
        6 => {
            // Two digests change places, or a field is that of another proof.
            let from = numbers.below(other.len());
            let length = 32.min(other.len() - from).min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&other[from..from + length]);
        }
        // Under one root the ends of two proofs may change places: both are true.
        _ if proof[HISTORY_ROOT] == other[HISTORY_ROOT]
            || proof[STATE_ROOT] == other[STATE_ROOT] =>
        {
            bytes[at] ^= 0x80;
        }
        _ => {
            let at = at.min(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[at..]);
        }
    }
    bytes
}

#[test]
fn what_was_executed_is_proved_to_both_verifiers_and_nothing_else_is() {
    let _machine = alone();
    let count = count();
    let Proved4 { cluster, genesis, proofs, expected } = prove_all(count);
    let ours = Ours::new(&genesis);
    let said: Vec<String> =
        proofs.iter().map(|proof| ours.says(proof).expect("it holds")).collect();
    for (said, expected) in said.iter().zip(&expected) {
        assert!(said.starts_with(expected), "{said} and not {expected}");
    }
    let file = cluster.network().genesis();
    let by_others = others(&file, &proofs);
    if let Some(others) = &by_others {
        assert_eq!(*others, said);
    }

    // Neighbours show of every key between them that it is absent: another key is another proof.
    let but_key = |bytes: &[u8]| match bytes.get(1) {
        Some(3) => {
            let first = claim(bytes).min(bytes.len());
            let key = first..bytes.len().min(first + 32);
            [&bytes[..key.start], &bytes[key.end..]].concat()
        }
        _ => bytes.to_vec(),
    };
    let known: HashSet<Vec<u8>> = proofs.iter().map(|proof| but_key(proof)).collect();
    let mut numbers = Numbers(11);
    let mut changed = Vec::with_capacity(10 * count);
    while changed.len() < 10 * count {
        let bytes = change(&proofs, &mut numbers);
        if !known.contains(&but_key(&bytes)) {
            changed.push(bytes);
        }
    }
    for bytes in &changed {
        assert_eq!(ours.says(bytes), None, "{}", hex::encode(bytes));
    }
    let mut verifiers = "one verifier";
    if let Some(others) = others(&file, &changed) {
        let accepted = others.iter().zip(&changed).find(|(line, _)| !line.starts_with("refused "));
        assert!(accepted.is_none(), "{accepted:?}");
        verifiers = "both verifiers";
    }
    println!("{count} proofs hold, {} changed ones are refused by {verifiers}", changed.len());
}

#[test]
fn a_proof_is_a_file_that_the_command_line_makes_and_checks() {
    let _machine = alone();
    let Proved4 { mut cluster, proofs, .. } = prove_all(20);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (genesis, data) = (cluster.network().genesis(), cluster.network().folder().to_owned());
    let (genesis, data) = (genesis.display().to_string(), data.display().to_string());
    let key = author::secret(SEED, 0).public().to_string();
    let file = folder.path().join("account.proof").display().to_string();
    let made = cluster.run(&["prove", "account", &key, "--data", &data, "--out", &file]);
    assert!(made.expect_code(0).text().starts_with("verified: this is the account of this key\n"));
    let again = cluster.run(&["prove", "account", &key, "--data", &data, "--out", &file]);
    again.expect_refusal(2, &["account.proof"]);
    let absent = cluster.run(&["prove", "absence", &key, "--data", &data, "--out", "-"]);
    absent.expect_refusal(1, &["The key has an account"]);
    // What is proved needs no validator.
    cluster.stop_all();
    let checked = cluster.run(&["verify-proof", &file, "--genesis", &genesis, "--json"]);
    let document: serde_json::Value =
        serde_json::from_str(&checked.expect_code(0).text()).expect("one JSON document");
    assert_eq!((&document["verified"], &document["key"]), (&true.into(), &key.clone().into()));
    let away = cluster.run(&["prove", "account", &key, "--data", &data, "--out", "-"]);
    away.expect_refusal(7, &["cannot connect"]);

    let mut bytes = fs::read(&file).expect("it was written");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).expect("it is ours");
    let refused = cluster.run(&["verify-proof", &file, "--genesis", &genesis]);
    refused.expect_refusal(1, &["refused: proof_root"]);
    let record = folder.path().join("transaction.proof").display().to_string();
    fs::write(&record, &proofs[0]).expect("the folder is ours");
    let body = cluster.run(&["verify-proof", &record, "--genesis", &genesis, "--body"]);
    assert!(!body.expect_code(0).stdout.is_empty());
}

/// Damages every node but those that a start looks at.
fn damage_below_the_peaks(nodes: &mut [u8]) {
    let (nodes, _) = nodes.as_chunks_mut::<32>();
    let count = nodes.len() as u64;
    let heights = (0..count).take_while(|heights| nodes_before(heights + 1) <= count).last();
    let heights = heights.expect("there are some");
    let mut start = 0;
    let peaks: HashSet<u64> = (0..64)
        .rev()
        .filter(|level| heights >> level & 1 == 1)
        .map(|level| {
            start += 1 << level;
            node_place(start, level)
        })
        .collect();
    for (node, place) in nodes.iter_mut().zip(0..) {
        if !peaks.contains(&place) {
            *node = [7; 32];
        }
    }
}

/// The proofs of old heights survive a loss of what they are made from, which a start makes anew.
#[test]
fn nodes_that_are_damaged_or_gone_are_made_anew_from_the_ledger() {
    let _machine = alone();
    let Proved4 { mut cluster, genesis, proofs, .. } = prove_all(400);
    let ours = Ours::new(&genesis);
    cluster.wait_height(40, TIME);
    // Of the first heights, which are damaged below, and of the last.
    let ids = [&proofs[0], &proofs[200]].map(|proof| {
        let said = ours.says(proof).expect("it holds");
        let mut words = said.split(' ').skip(2);
        (words.next().expect("an id").to_owned(), words.nth(1).expect("a height").to_owned())
    });
    cluster.stop_all();
    let nodes = cluster.data(0).join("history");
    let mut bytes = fs::read(&nodes).expect("the nodes are kept");
    assert!(bytes.len() > 32 * 16, "two nodes for each height");
    damage_below_the_peaks(&mut bytes);
    fs::write(&nodes, &bytes).expect("it is ours");
    fs::remove_file(cluster.data(1).join("history")).expect("it is ours");
    cluster.start_all();
    cluster.wait_ready();
    for index in [0, 1, 2] {
        for (id, height) in &ids {
            // The first proofs may find the damage, or come before everything is made.
            let path = format!("/proof/transaction/{id}?height={height}");
            let proof = ask(&mut cluster.api(index), &path);
            assert!(ours.says(&proof).expect("it holds").contains(id));
        }
    }
}

/// Serves the page, the genesis and one proof, which may be a changed one.
fn serve(genesis: Vec<u8>, proof: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let page = fs::read(web("verify.html")).expect("the page is in the repository");
    let policy = fs::read_to_string(web("verify.csp")).expect("beside its policy");
    let pages = Arc::new((page, policy, genesis, proof));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pages = Arc::clone(&pages);
            // A browser opens connections ahead, and says nothing on some of them.
            thread::spawn(move || {
                let (page, policy, genesis, proof) = &*pages;
                drop(answer(stream, page, policy.trim(), genesis, proof));
            });
        }
    });
    port
}

fn answer(
    mut stream: TcpStream,
    page: &[u8],
    policy: &str,
    genesis: &[u8],
    proof: &[u8],
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (kind, body) = match path.split('?').next() {
        Some("/verify") => ("text/html; charset=utf-8", page),
        Some("/genesis") => ("application/json", genesis),
        Some("/proof/it") => ("application/octet-stream", proof),
        _ => ("text/plain", b"".as_slice()),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
         content-security-policy: {policy}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// What a browser shows.
fn browse(url: &str) -> String {
    let profile = tempfile::tempdir().expect("a temporary folder");
    let mut browser = command("chromium");
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]);
    browser.arg(format!("--user-data-dir={}", profile.path().display()));
    browser.args(["--dump-dom", url]);
    finish(&mut browser, COMMAND).expect_code(0).text()
}

fn has_browser() -> bool {
    let found = Command::new("chromium").arg("--version").stdout(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    if !is_there {
        println!("skipped: no chromium to show the page with");
    }
    is_there
}

#[test]
fn the_page_verifies_a_proof_and_refuses_its_mutation() {
    let _machine = alone();
    if !has_browser() {
        return;
    }
    let Proved4 { cluster, genesis, proofs, .. } = prove_all(20);
    let network = genesis.digest().to_string();
    // As a validator serves it.
    let id: Digest = match Proof::decode(&proofs[0])
        .expect("it holds")
        .check(&Trusted::genesis(&genesis), &Ours::new(&genesis).judge)
    {
        Ok(Proved::Transaction { id, .. }) => id,
        other => panic!("{other:?}"),
    };
    let own = format!("{}/verify?proof=/proof/transaction/{id}", cluster.url(0));
    let shown = browse(&own);
    assert!(shown.contains("data-state=\"verified\""), "{shown}");
    assert!(shown.contains(&network) && shown.contains(&id.to_string()), "{shown}");

    let file = fs::read(cluster.network().genesis()).expect("the genesis is there");
    for (at, state) in
        [(None, "verified"), (Some(300), "refused"), (Some(proofs[0].len() - 1), "refused")]
    {
        let mut proof = proofs[0].clone();
        if let Some(at) = at {
            proof[at] ^= 1;
        }
        let port = serve(file.clone(), proof);
        let shown = browse(&format!("http://127.0.0.1:{port}/verify?proof=/proof/it"));
        assert!(shown.contains(&format!("data-state=\"{state}\"")), "{at:?}: {shown}");
    }
}
