//! Validators that lost everything: they come back by whoever is honest, and sign nothing that contradicts what they
//! have signed.

use std::{fs, path::Path, time::Duration};
use tests::{
    cluster::{Cluster, alone, reached},
    load::{Load, Offer, Read},
    process::{finish, free_ports},
};
use validator::{command::testnet::liar, handle::Status, signer::Guard};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// Time for anything, on a machine that does other things too.
const TIME: Duration = Duration::from_secs(120);
const WIPED: usize = 3;

fn offer() -> Offer {
    Offer { rate: 400, size: 300, drain: Duration::from_secs(20) }
}

fn wipe(cluster: &Cluster) {
    fs::remove_dir_all(cluster.data(WIPED)).expect("the folder is ours");
}

fn guard(cluster: &Cluster) -> std::path::PathBuf {
    Guard::path(&cluster.network().config(WIPED).with_file_name("validator.key"))
}

/// Whether another validator hears the votes of the wiped one.
fn votes(view: &Option<Status>) -> bool {
    let peers = view.as_ref().map(|status| status.peers.as_slice()).unwrap_or_default();
    peers.iter().any(|peer| peer.index as usize == WIPED && peer.connected)
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("a file of the network");
    assert!(text.contains(from), "{from:?} is not in\n{text}");
    fs::write(file, text.replacen(from, to, 1)).expect("a file of the network");
}

/// The history address that a config names for the validator with this place.
fn history_of(cluster: &Cluster, place: usize) -> String {
    let text = fs::read_to_string(cluster.network().config(WIPED)).expect("a config");
    let key = cluster.network().validators[place].key.to_string();
    let (_, entry) = text.split_once(&format!("key = \"{key}\"")).expect("an entry of each");
    let (_, history) = entry.split_once("history = \"").expect("testnets name it");
    history.split_once('"').expect("it ends").0.to_owned()
}

#[test]
fn a_wiped_validator_comes_back_by_the_honest_and_votes_above_what_it_signed() {
    let _machine = alone();
    let mut cluster = Cluster::create(PROGRAM, 800);
    cluster.start_all();
    cluster.wait_ready();
    let load = Load::start(&cluster, offer());
    load.wait_for(2_000, TIME);
    cluster.kill(WIPED);
    wipe(&cluster);
    load.wait_for(1_000, TIME);
    let honest = history_of(&cluster, 0);
    let liar = liar::start(honest.parse().expect("an address")).expect("a free port").to_string();
    edit(&cluster.network().config(WIPED), &honest, &liar);
    cluster.start(WIPED);
    let height = cluster.views()[0].as_ref().expect("it answers").executed_height;
    cluster.wait("it is back", TIME, |views| reached(&views[WIPED], height));
    cluster.wait("it votes again", TIME, |views| (0..WIPED).all(|place| votes(&views[place])));
    let log = cluster.log(WIPED);
    let named = format!("{}", cluster.network().validators[0].key);
    let is_named = |line: &str| line.contains("it sends false history") && line.contains(&named);
    assert!(log.lines().any(is_named), "nobody is named:\n{log}");
    for part in
        ["what this key has signed is forgotten", "caught up", "where the others are: voting"]
    {
        assert!(log.contains(part), "{part:?} is not in\n{log}");
    }
    // Its lane has places that it may have signed for: until the next epoch clients are sent elsewhere.
    let status = cluster.views()[WIPED].clone().expect("it answers");
    assert!(status.reasons.iter().any(|why| why.contains("until the next epoch")), "{status:?}");
    load.wait_for(500, TIME);
    let (_, told) = load.stop();
    let newest = cluster.views().into_iter().flatten().map(|view| view.height).max();
    cluster.wait_height(newest.expect("they answer"), TIME);
    for place in 0..cluster.size() {
        let kept = cluster.api(place).evidence().expect("it answers");
        assert!(kept.is_empty(), "it contradicted itself: {kept:?}");
    }
    cluster.stop_all();
    let network = cluster.network().network;
    let mut ledgers: Vec<Read> =
        (0..cluster.size()).map(|place| Read::open(&cluster.data(place), &network)).collect();
    let common = ledgers.iter().map(Read::height).min().expect("four of them");
    let roots: Vec<_> = ledgers.iter().map(|ledger| ledger.history_root(common)).collect();
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
    for known in &told {
        assert!(ledgers[WIPED].holds(known), "{known:?}");
    }
    cluster.verify(WIPED).expect_code(0);
}

#[test]
fn without_its_guard_too_it_follows_and_does_not_vote() {
    let _machine = alone();
    let mut cluster = Cluster::create(PROGRAM, 800);
    cluster.start_all();
    cluster.wait_ready();
    let load = Load::start(&cluster, offer());
    load.wait_for(1_000, TIME);
    cluster.kill(WIPED);
    wipe(&cluster);
    fs::remove_file(guard(&cluster)).expect("it is beside the key");
    load.wait_for(1_000, TIME);
    cluster.start(WIPED);
    for _ in 0..2 {
        let height = cluster.views()[0].as_ref().expect("it answers").executed_height;
        cluster.wait("it follows", TIME, |views| reached(&views[WIPED], height));
        load.wait_for(500, TIME);
        let views = cluster.views();
        assert!((0..WIPED).all(|place| !votes(&views[place])), "it votes: {views:?}");
        let status = views[WIPED].as_ref().expect("it answers");
        let is_told = status.reasons.iter().any(|why| why.contains("without a vote"));
        assert!(!status.ready && is_told, "{status:?}");
        // Nor after another start: a guard that was made anew knows nothing more.
        cluster.kill(WIPED);
        cluster.start(WIPED);
    }
    let (_, _) = load.stop();
    let height = cluster.views()[0].as_ref().expect("it answers").executed_height;
    cluster.wait("it follows", TIME, |views| reached(&views[WIPED], height));
    cluster.stop_all();
    cluster.verify(WIPED).expect_code(0);
}

#[test]
fn a_second_machine_with_the_same_key_and_guard_ends_by_itself() {
    let _machine = alone();
    let mut cluster = Cluster::create(PROGRAM, 800);
    cluster.start_all();
    cluster.wait_ready();
    let load = Load::start(&cluster, offer());
    load.wait_for(500, TIME);
    // Copied while the first one runs, and started elsewhere, at once and later.
    let twin = cluster.network().folder().join("twin");
    fs::create_dir(&twin).expect("the folder is ours");
    let first = cluster.network().member_folder(WIPED);
    for file in ["config.toml", "validator.key", "validator.key.guard"] {
        fs::copy(first.join(file), twin.join(file)).expect("the files are there");
    }
    let text = fs::read_to_string(twin.join("config.toml")).expect("a config");
    let (head, peers) = text.split_once("\n[[peers]]").expect("a network has peers");
    let listen = free_ports(1).remove(0);
    let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
    let sockets = [
        ("consensus", listen.consensus),
        ("lanes", listen.lanes),
        ("udp", listen.udp),
        ("tcp", listen.tcp),
        ("http", listen.http),
        ("history", listen.history),
    ];
    for (name, socket) in sockets {
        let line = lines.iter_mut().find(|line| line.starts_with(&format!("{name} = ")));
        *line.expect("every socket is named") = format!("{name} = \"{socket}\"");
    }
    let text = format!("{}\n\n[[peers]]{peers}", lines.join("\n"));
    fs::write(twin.join("config.toml"), text).expect("the folder is ours");
    for _ in 0..2 {
        let mut start = tests::process::command(PROGRAM);
        start.arg("start").arg("--config").arg(twin.join("config.toml"));
        let ended = finish(start.args(["--log-filter", "off"]), TIME);
        assert_eq!(ended.code, Some(6), "{ended:?}");
        assert!(ended.stderr.contains("another process"), "{ended:?}");
        load.wait_for(500, TIME);
    }
    let (_, told) = load.stop();
    for place in 0..cluster.size() {
        let kept = cluster.api(place).evidence().expect("it answers");
        assert!(kept.is_empty(), "they contradicted each other: {kept:?}");
    }
    let newest = cluster.views().into_iter().flatten().map(|view| view.height).max();
    cluster.wait_height(newest.expect("they answer"), TIME);
    cluster.stop_all();
    let mut ledger = Read::open(&cluster.data(WIPED), &cluster.network().network);
    for known in &told {
        assert!(ledger.holds(known), "{known:?}");
    }
}
