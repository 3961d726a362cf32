//! What goes right: a record and a transfer through one validator, seen at every other one.

use ledger::{Digest, PublicKey};
use std::{fs, time::Duration};
use tempfile::TempDir;
use tests::cluster::Cluster;
use validator::{
    client::http::{Http, Response},
    key::Secret,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// Time for a height to reach every validator.
const SPREAD: Duration = Duration::from_secs(30);

/// What `submit` prints: `height   7`, `id       ..`, `outcome  applied`.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name:?} in\n{text}")).trim()
}

/// A running network and the client that its genesis funds.
struct Place {
    cluster: Cluster,
    folder: TempDir,
    client: PublicKey,
}

impl Place {
    fn start() -> Self {
        let mut cluster = Cluster::create(PROGRAM, 0);
        cluster.start_all();
        cluster.wait_ready();
        let client = Secret::load(&cluster.network().client_key()).expect("a key").public();
        let folder = TempDir::with_prefix("althing-tests-").expect("a temporary folder");
        Self { cluster, folder, client }
    }

    /// Submits through a validator with the client's key and waits until all have executed it.
    fn submit(&mut self, validator: usize, what: &[&str]) -> (u64, Digest) {
        let (url, key) = (self.cluster.url(validator).to_string(), self.cluster.network());
        let key = key.client_key().display().to_string();
        let mut arguments = vec!["submit", "--to", &url, "--key", &key];
        arguments.extend(what);
        let text = self.cluster.run(&arguments).expect_code(0).text();
        assert_eq!(field(&text, "outcome"), "applied", "{text}");
        let height = field(&text, "height").parse().expect("a height");
        let id = field(&text, "id").parse().expect("an id");
        self.cluster.wait_height(height, SPREAD);
        (height, id)
    }

    fn get(&self, validator: usize, path: &str) -> Response {
        let mut http = Http::new(self.cluster.url(validator), Duration::from_secs(5));
        http.get(path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn json(&self, validator: usize, path: &str) -> serde_json::Value {
        let response = self.get(validator, path);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }
}

#[test]
fn records_and_transfers_are_seen_at_every_validator() {
    let mut place = Place::start();
    a_record_comes_back_byte_by_byte(&mut place);
    a_transfer_moves_balances(&mut place);
    what_makes_no_sense_is_refused(&place);
    the_probes_and_metrics_answer(&place);
    place.cluster.stop_all();
}

fn a_record_comes_back_byte_by_byte(place: &mut Place) {
    // Every byte value, and longer than a datagram.
    let record: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let file = place.folder.path().join("record");
    fs::write(&file, &record).expect("a file");
    let file = file.display().to_string();
    let (height, id) = place.submit(0, &["--file", &file]);
    for other in 1..4 {
        let data = place.cluster.data(other).display().to_string();
        let id = id.to_string();
        let shown = place.cluster.run(&["ledger", "show", &data, &id, "--body"]).expect_code(0);
        assert!(shown.stdout == record, "validator {other} shows {} bytes", shown.stdout.len());
        let shown = place.cluster.run(&["ledger", "show", &data, &id, "--json"]).expect_code(0);
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        assert_eq!(shown["height"], height);
        assert_eq!(shown["author"], place.client.to_string());
        let found = place.json(other, &format!("/transaction/{id}"));
        assert_eq!((&found["status"], &found["height"]), (&"final".into(), &height.into()));
        assert_eq!((&found["kind"], &found["outcome"]), (&"record".into(), &"applied".into()));
        let body = place.get(other, &format!("/transaction/{id}/body"));
        assert!(body.status == 200 && body.body == record, "{} bytes", body.body.len());
        let block = place.json(other, &format!("/block/{height}"));
        assert_eq!(block["height"], height);
        let listed = block["transactions"].as_array().expect("a list");
        assert!(listed.iter().any(|one| one["id"] == id && one["outcome"] == "applied"), "{block}");
    }
    let latest = place.json(0, "/block/latest");
    assert!(latest["height"].as_u64().is_some_and(|latest| latest >= height), "{latest}");
}

fn a_transfer_moves_balances(place: &mut Place) {
    let receiver = Secret::generate().expect("randomness").public();
    let balance = |place: &Place, validator, key: &PublicKey| {
        place.json(validator, &format!("/account/{key}"))["balance"].as_u64().expect("a number")
    };
    assert_eq!(place.get(0, &format!("/account/{receiver}")).status, 404);
    let before = balance(place, 0, &place.client);
    let transfer = ["--transfer", &receiver.to_string(), "--amount", "12345"];
    let (_, first) = place.submit(1, &transfer);
    let middle = balance(place, 0, &place.client);
    let (_, second) = place.submit(2, &transfer);
    assert_ne!(first, second, "each names the one before");
    for validator in 0..4 {
        assert_eq!(balance(place, validator, &receiver), 2 * 12_345);
    }
    let after = balance(place, 3, &place.client);
    let (cost_first, cost_second) = (before - middle, middle - after);
    let parameters = ledger::Parameters::default();
    // The first one also burns the deposit of the account that it opens.
    assert_eq!(cost_first, cost_second + parameters.account_deposit);
    let bytes = ledger::limits::TRANSACTION_OVERHEAD + 32 + 8;
    assert_eq!(cost_second, 12_345 + parameters.fee(bytes));
    let account = place.json(0, &format!("/account/{}", place.client));
    assert_eq!((&account["sequence"], &account["head"]), (&3.into(), &second.to_string().into()));
}

fn what_makes_no_sense_is_refused(place: &Place) {
    let url = place.cluster.url(0).to_string();
    let stranger = place.folder.path().join("stranger.key");
    Secret::generate().expect("randomness").create(&stranger).expect("a new file");
    let stranger = stranger.display().to_string();
    let file = place.folder.path().join("record").display().to_string();
    let submit = |key: &str, file: &str| {
        place.cluster.run(&["submit", "--to", &url, "--key", key, "--file", file])
    };
    submit(&stranger, &file).expect_refusal(1, &["has no account"]);
    let client = place.cluster.network().client_key().display().to_string();
    submit(&client, "/nowhere/at-all").expect_refusal(2, &["/nowhere/at-all", "No such file"]);
    let large = place.folder.path().join("large");
    fs::write(&large, vec![0; 70_000]).expect("a file");
    submit(&client, &large.display().to_string()).expect_refusal(2, &["split it"]);
    let nobody = ["submit", "--to", "http://127.0.0.1:1", "--key", &client, "--file", &file];
    let gone = place.cluster.run(&[&nobody[..], &["--timeout", "2s"]].concat());
    gone.expect_refusal(7, &["is the validator running?"]);
    let data = place.cluster.data(0).display().to_string();
    let absent = Digest([7; 32]).to_string();
    place.cluster.run(&["ledger", "show", &data, &absent]).expect_refusal(1, &["is not final"]);
    let running = place.cluster.run(&["ledger", "verify", &data]);
    running.expect_refusal(4, &["stop the validator first"]);
    let mut http = Http::new(place.cluster.url(0), Duration::from_secs(5));
    let refused = http.post("/transaction", b"no transaction").expect("an answer");
    let problem: serde_json::Value = serde_json::from_slice(&refused.body).expect("a problem");
    assert_eq!((refused.status, &problem["code"]), (400, &"malformed".into()), "{problem}");
}

fn the_probes_and_metrics_answer(place: &Place) {
    for validator in 0..4 {
        assert_eq!(place.get(validator, "/livez").status, 200);
        assert_eq!(place.json(validator, "/readyz")["ready"], true);
        let status = place.json(validator, "/status");
        assert_eq!(status["validator"], validator);
        assert_eq!(status["network"], place.cluster.network().network.to_string());
        assert_eq!(status["finalized_transactions"], 3, "{status}");
        let stages = status["backends"].as_array().expect("a list");
        let names: Vec<_> = stages.iter().filter_map(|stage| stage["stage"].as_str()).collect();
        assert_eq!(names, ["sigverify", "net", "storage", "history"], "{status}");
        let metrics = place.get(validator, "/metrics");
        let text = String::from_utf8(metrics.body).expect("text");
        assert_eq!(metrics.status, 200);
        assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
        let sample = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_whitespace().nth(1));
            value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().expect("number")
        };
        assert!(sample("althing_consensus_finalized_height ") > 0.0);
        assert!(sample("althing_tx_committed_total ") >= 3.0);
        assert!(sample("althing_storage_write_bytes_total ") > 0.0);
        // What was finalized is the same everywhere: one line of `status --data` for each.
    }
    let folder = place.cluster.network().folder().display().to_string();
    let shown = place.cluster.run(&["status", "--data", &folder, "--json"]).expect_code(0);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown.as_array().map(Vec::len), Some(4), "{shown}");
}
