//! What goes wrong before anything runs: one clear line and an exit code, or a named fallback.

use std::{
    fs::{self, OpenOptions, Permissions},
    net::{TcpListener, UdpSocket},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    process::Command,
    time::Duration,
};
use tests::{
    cluster::{Cluster, alone},
    process::{Finished, command, finish},
};
use validator::{
    handle::{BackendStatus, Status},
    signer::Guard,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
const WITHOUT: &str = env!("CARGO_BIN_EXE_without");
/// Time to refuse.
const LIMIT: Duration = Duration::from_secs(30);

fn cluster() -> Cluster {
    Cluster::create(PROGRAM, 0)
}

/// Starts a validator that must refuse, and log nothing before it does.
fn refused(cluster: &Cluster, flags: &[&str]) -> Finished {
    refused_by(cluster.start_command(0, &[PROGRAM]), flags)
}

fn refused_by(mut command: Command, flags: &[&str]) -> Finished {
    finish(command.args(["--log-filter", "off"]).args(flags), LIMIT)
}

/// Changes a text file of a network.
fn edit(file: &std::path::Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("a file of the network");
    assert!(text.contains(from), "{from:?} is not in\n{text}");
    fs::write(file, text.replacen(from, to, 1)).expect("a file of the network");
}

#[test]
fn a_command_line_that_makes_no_sense_is_2() {
    for line in [&["start"][..], &["strat"], &["start", "--confg", "x"], &["ledger", "show", "."]] {
        let ended = finish(command(PROGRAM).args(line), LIMIT);
        assert_eq!(ended.code, Some(2), "{line:?}: {ended:#?}");
        assert!(ended.stderr.starts_with("error: "), "{line:?}: {}", ended.stderr);
    }
}

#[test]
fn a_wrong_genesis_is_3() {
    let (cluster, other) = (cluster(), cluster());
    let genesis = cluster.network().folder().join("genesis.json");
    let path = "genesis.json";
    let theirs = fs::read(other.network().folder().join(path)).expect("a genesis");
    fs::write(&genesis, theirs).expect("a genesis");
    refused(&cluster, &[]).expect_refusal(3, &["is not a validator of genesis", path]);
    fs::write(&genesis, "{}").expect("a genesis");
    refused(&cluster, &[]).expect_refusal(3, &["validator: genesis", path]);
    fs::remove_file(&genesis).expect("a genesis");
    refused(&cluster, &[]).expect_refusal(3, &["validator: genesis", path, "No such file"]);
}

#[test]
fn a_key_that_others_can_read_is_3() {
    let cluster = cluster();
    let key = cluster.network().member_folder(0).join("validator.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("our file");
    refused(&cluster, &[]).expect_refusal(3, &["is open to others (mode 0644)", "chmod 600"]);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("our file");
    fs::write(&key, "no key").expect("our file");
    refused(&cluster, &[]).expect_refusal(3, &["is not a key file"]);
    fs::remove_file(&key).expect("our file");
    refused(&cluster, &[]).expect_refusal(3, &["validator.key", "No such file"]);
}

#[test]
fn a_wrong_config_is_3_with_the_line_and_what_was_meant() {
    let cluster = cluster();
    let config = cluster.network().config(0);
    let refused_and_checked = |parts: &[&str]| {
        refused(&cluster, &[]).expect_refusal(3, parts);
        let check = cluster.run(&["config", "check", &config.display().to_string()]);
        check.expect_refusal(3, parts);
    };
    cluster.run(&["config", "check", &config.display().to_string()]).expect_code(0);
    edit(&config, "udp = ", "upd = ");
    let meant = ["config.toml", "line 9", "unknown key listen.upd", "did you mean udp?"];
    refused_and_checked(&meant);
    edit(&config, "upd = ", "udp = ");
    edit(&config, "[storage]", "[storge]");
    refused_and_checked(&["unknown table [storge]", "did you mean [storage]?"]);
    edit(&config, "[storge]", "[storage]");
    edit(&config, "segment_bytes = 8388608", "segment_bytes = 1");
    refused_and_checked(&["storage.segment_bytes must be", "found 1"]);
    fs::remove_file(&config).expect("our file");
    refused_and_checked(&["config.toml", "No such file"]);
}

#[test]
fn a_backend_that_does_not_exist_is_3() {
    let cluster = cluster();
    let refused = |flags: &[&str]| refused(&cluster, flags);
    refused(&["--storage", "io-uring"]).expect_refusal(3, &["did you mean \"io_uring\"?"]);
    refused(&["--sigverify", "abacus"]).expect_refusal(3, &["sigverify.backend", "abacus"]);
    let mut command = cluster.start_command(0, &[PROGRAM]);
    let filter = finish(command.args(["--log-filter", "a=b=c"]), LIMIT);
    filter.expect_refusal(3, &["log.filter \"a=b=c\""]);
}

#[test]
fn a_port_in_use_is_7_and_named() {
    let cluster = cluster();
    let config = validator::config::Config::load(&cluster.network().config(0), &[]);
    let listen = config.expect("a good config").config.listen;
    let sockets = [
        ("listen.consensus", listen.consensus),
        ("listen.lanes", listen.lanes),
        ("listen.tcp", listen.tcp),
        ("listen.http", listen.http),
    ];
    for (name, address) in sockets {
        let taken = TcpListener::bind(address).expect("a free port");
        let refused = refused(&cluster, &[]);
        refused.expect_refusal(7, &[name, &address.to_string(), "in use"]);
        drop(taken);
    }
    let taken = UdpSocket::bind(listen.udp).expect("a free port");
    refused(&cluster, &[]).expect_refusal(7, &["listen.udp", &listen.udp.to_string(), "in use"]);
    drop(taken);
}

#[test]
fn a_data_folder_of_another_network_is_3() {
    let cluster = cluster();
    // This start gets as far as tying the folder to its network.
    let taken = TcpListener::bind(cluster.network().validators[0].http).expect("a free port");
    refused(&cluster, &[]).expect_refusal(7, &["listen.http"]);
    drop(taken);
    // The same validators under another name are another network.
    let genesis = cluster.network().folder().join("genesis.json");
    edit(&genesis, "\"tests\"", "\"other\"");
    let network = cluster.network().network.to_string();
    refused(&cluster, &[]).expect_refusal(3, &["data folder", "belongs to network", &network]);
}

#[test]
fn an_interface_that_does_not_exist_is_4() {
    let refused = refused(&cluster(), &["--xdp", "nosuch0"]);
    refused.expect_refusal(4, &["--xdp", "no network interface \"nosuch0\"", "lo"]);
}

#[test]
fn io_uring_that_is_demanded_and_forbidden_is_4() {
    let cluster = cluster();
    let command = cluster.start_command(0, &[WITHOUT, "io_uring", PROGRAM]);
    refused_by(command, &["--storage", "io_uring"]).expect_refusal(4, &["io_uring"]);
}

/// What a validator says of one of its backends.
fn backend<'a>(view: &'a Option<Status>, stage: &str) -> &'a BackendStatus {
    let backends = &view.as_ref().expect("it answers").backends;
    backends.iter().find(|backend| backend.stage == stage).expect("every stage is named")
}

/// Whether the tests run with what a program needs to load a packet filter.
fn is_powerful() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    let needed = CapabilitySet::NET_ADMIN | CapabilitySet::BPF;
    capabilities(None).is_ok_and(|held| held.effective.contains(needed))
}

#[test]
fn what_is_denied_falls_back_says_so_and_the_network_works() {
    let _machine = alone();
    let mut cluster = cluster();
    let mut forbidden = cluster.start_command(0, &[WITHOUT, "io_uring", PROGRAM]);
    cluster.start_with(0, &mut forbidden);
    let mut asked = cluster.start_command(1, &[PROGRAM]);
    cluster.start_with(1, asked.args(["--xdp", "lo"]));
    let mut powerless = cluster.start_command(2, &[WITHOUT, "capabilities", PROGRAM]);
    cluster.start_with(2, powerless.args(["--xdp", "lo"]));
    let mut portable = cluster.start_command(3, &[PROGRAM]);
    cluster.start_with(3, portable.args(["--storage", "portable"]));
    cluster.wait_ready();

    let views = cluster.views();
    let storage = backend(&views[0], "storage");
    assert_eq!(storage.backend, "portable", "{storage:?}");
    assert!(storage.reason.contains("io_uring"), "{storage:?}");
    assert!(storage.reason.contains("not permitted"), "{storage:?}");
    let asked = backend(&views[1], "net");
    if is_powerful() {
        // The loopback interface has no driver that could run a program itself.
        assert_eq!(asked.backend, "xdp_generic", "{asked:?}");
        assert!(asked.reason.starts_with("xdp on lo: enforce, "), "{asked:?}");
    } else {
        assert_eq!(asked.backend, "socket", "{asked:?}");
        println!("skipped: --xdp with privileges: these tests have none");
    }
    let powerless = backend(&views[2], "net");
    assert_eq!(powerless.backend, "socket", "{powerless:?}");
    assert_eq!(powerless.reason, "xdp on lo: no CAP_NET_ADMIN and CAP_BPF");
    let portable = backend(&views[3], "storage");
    assert_eq!(portable.backend, "portable", "{portable:?}");
    // The log names each, too, in one line.
    for (index, stage) in [(0, "storage"), (1, "net"), (2, "net"), (3, "storage")] {
        let BackendStatus { backend, reason, .. } = backend(&views[index], stage);
        let log = cluster.log(index);
        let line = log.lines().find(|line| {
            line.contains(stage) && line.contains(backend) && line.contains(reason.as_str())
        });
        assert!(line.is_some(), "{stage} {backend} {reason:?} is not in\n{log}");
    }

    let file = cluster.network().folder().join("genesis.json").display().to_string();
    let key = cluster.network().client_key().display().to_string();
    let url = cluster.url(0).to_string();
    let submit = ["submit", "--file", &file, "--to", &url, "--key", &key, "--json"];
    let text = cluster.run(&submit).expect_code(0).text();
    let known: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(known["outcome"], "applied", "{text}");
    cluster.wait_height(known["height"].as_u64().expect("a height"), LIMIT);
    cluster.stop_all();
    for index in 0..4 {
        cluster.verify(index).expect_code(0);
    }

    a_damaged_guard_is_6(&cluster);
    damaged_data_is_5(&cluster);
}

fn a_damaged_guard_is_6(cluster: &Cluster) {
    let guard = Guard::path(&cluster.network().config(0).with_file_name("validator.key"));
    let whole = fs::read(&guard).expect("it is beside the key");
    fs::write(&guard, vec![1; whole.len()]).expect("our file");
    let parts = ["validator.key.guard: damaged", "without a vote until the next epoch"];
    refused(cluster, &[]).expect_refusal(6, &parts);
    fs::write(&guard, &whole).expect("our file");
    // Nor do two processes sign with one key.
    let held = Guard::open(&guard.with_extension("")).expect("it is whole again");
    refused(cluster, &[]).expect_refusal(6, &["another process signs with this key"]);
    drop(held);
}

fn damaged_data_is_5(cluster: &Cluster) {
    let first = cluster.data(0).join("ledger/0000000000000000.seg");
    let file = OpenOptions::new().read(true).write(true).open(first).expect("a segment");
    // The second group: the first follows from its neighbours, and is put back.
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4_096 + 60).expect("a group's header");
    file.write_all_at(&[byte[0] ^ 1], 4_096 + 60).expect("our file");
    let place = "segment 0000000000000000 offset 4096: hash does not match";
    refused(cluster, &[]).expect_refusal(5, &[place]);
}
