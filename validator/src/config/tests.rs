//! Checks of the configuration: layers, errors with their place, identity and data folder.

use super::*;
use crate::command::Code;
use crate::key::{KeyFile, Secret, testing};
use layers::{Origin, Value};
use ledger::Genesis;
use proptest::prelude::*;

fn load(text: &str, environment: &[(&str, &str)], flags: &Flags) -> Result<Loaded, Exit> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    let find = |name: &str| {
        let found = environment.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.to_string())
    };
    Config::load_with(&file, &find, flags)
}

fn refusal(text: &str) -> String {
    let exit = load(text, &[], &[]).unwrap_err();
    assert_eq!(exit.code(), Code::Config);
    assert!(!exit.message().contains('\n'), "one line: {exit}");
    exit.message().split_once(": ").unwrap().1.to_string()
}

#[test]
fn the_default_text_reads_back_as_the_default() {
    let text = schema::default_text();
    let loaded = load(&text, &[], &[]).unwrap();
    let empty = load("", &[], &[]).unwrap();
    for key in &schema::KEYS {
        assert_eq!(loaded.layers.entry(key.dotted).value, empty.layers.entry(key.dotted).value);
        assert!(
            matches!(loaded.layers.entry(key.dotted).origin, Origin::File(_)),
            "{}",
            key.dotted
        );
        assert_eq!(empty.layers.entry(key.dotted).origin, Origin::Default);
    }
    assert_eq!(Config::default_in(Path::new("/x")).data, Path::new("/x/data"));
    assert_eq!(Config::default_in(Path::new("")).consensus.view_timeout_ms, 700);
}

#[test]
fn flags_stand_above_the_environment_that_above_the_file_that_above_the_default() {
    let text = "[storage]\nbackend = \"portable\"\n[consensus]\nheartbeat_ms = 300\n\
                view_timeout_ms = 700\n";
    let environment =
        [("ALTHING_STORAGE_BACKEND", "io_uring"), ("ALTHING_CONSENSUS_HEARTBEAT_MS", "200")];
    let flags = [("storage.backend", "auto".to_string()), ("net.xdp", "eth7".to_string())];
    let loaded = load(text, &environment, &flags).unwrap();
    assert_eq!(loaded.config.storage.backend, StorageBackend::Auto);
    assert_eq!(loaded.config.consensus.heartbeat_ms, 200);
    assert_eq!(loaded.config.consensus.view_timeout_ms, 700);
    assert_eq!(loaded.config.consensus.batch_delay_ms, 25);
    assert_eq!(loaded.config.net.xdp.as_deref(), Some("eth7"));
    let origin = |dotted| loaded.layers.entry(dotted).origin.to_string();
    assert_eq!(origin("storage.backend"), "flag");
    assert_eq!(origin("consensus.heartbeat_ms"), "$ALTHING_CONSENSUS_HEARTBEAT_MS");
    assert_eq!(origin("consensus.view_timeout_ms"), "line 5");
    assert_eq!(origin("consensus.batch_delay_ms"), "default");
    assert_eq!(loaded.layers.entry("net.xdp").value, Value::Text("eth7".into()));
}

#[test]
fn paths_are_relative_to_the_file() {
    let loaded = load("data = \"/abs\"\nkey = \"../k\"\n", &[], &[]).unwrap();
    assert_eq!(loaded.config.data, Path::new("/abs"));
    assert!(loaded.config.key.ends_with("../k") && loaded.config.key.is_absolute());
    assert!(loaded.config.ledger_folder().ends_with("abs/ledger"));
    assert!(loaded.config.consensus_folder().ends_with("abs/consensus"));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_likely_one() {
    let cases = [
        ("genesys = \"x\"\n", "line 1: unknown key genesys; did you mean genesis?"),
        (
            "\n[consensus]\nview_timeout = 5\n",
            "line 3: unknown key consensus.view_timeout; did you mean view_timeout_ms?",
        ),
        ("[lisen]\nudp = \"x\"\n", "line 2: unknown table [lisen]; did you mean [listen]?"),
        ("[lisen]\n", "line 1: unknown table [lisen]; did you mean [listen]?"),
        ("[log]\nhttp = \"x\"\n", "line 2: unknown key log.http; did you mean listen.http?"),
        (
            "[log]\nqqqqqqq = 1\n",
            "line 2: unknown key log.qqqqqqq; `validator config default` shows all",
        ),
        ("[[peers]]\nkeys = \"x\"\n", "line 1: unknown key peers.keys; did you mean key?"),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn a_wrong_value_is_named_with_what_it_must_be() {
    let cases = [
        (
            "[consensus]\nview_timeout_ms = 1\n",
            "line 2: consensus.view_timeout_ms must be a whole number from 50 to 60000, found 1",
        ),
        (
            "[consensus]\nview_timeout_ms = \"fast\"\n",
            "line 2: consensus.view_timeout_ms must be a whole number from 50 to 60000, found a text",
        ),
        (
            "[consensus]\nview_timeout_ms = -5\n",
            "line 2: consensus.view_timeout_ms must be a whole number from 50 to 60000, found -5",
        ),
        (
            "[listen]\nudp = \"localhost\"\n",
            "line 2: listen.udp must be an address such as \"127.0.0.1:4000\", found \"localhost\"",
        ),
        (
            "[storage]\nbackend = \"iouring\"\n",
            "line 2: storage.backend must be one of auto, io_uring, portable, found \"iouring\"; \
             did you mean \"io_uring\"?",
        ),
        (
            "[storage]\nsegment_bytes = 100000000\n",
            "line 2: storage.segment_bytes must be a multiple of 4096 from 2097152 to 4294963200, \
             found 100000000",
        ),
        (
            "[cores]\nverify = \"3-1\"\n",
            "line 2: cores.verify must be a list of CPUs such as \"0-3,8\", or empty, found \"3-1\"",
        ),
        (
            "[cores]\nnetwork = 3\n",
            "line 2: cores.network must be a list of CPUs such as \"0-3,8\", or empty, found a number",
        ),
        (
            "[cores]\nbusy_poll_us = 1001\n",
            "line 2: cores.busy_poll_us must be a whole number from 0 to 1000, found 1001",
        ),
        (
            "[cores]\nhuge_pages = true\n",
            "line 2: cores.huge_pages must be one of off, on, found true or false",
        ),
        ("data = 5\n", "line 1: data must be a path, found a number"),
        ("data = \"\"\n", "line 1: data must be a path, found an empty text"),
        ("log = true\n", "line 1: unknown key log; `validator config default` shows all"),
        (
            "peers = 5\n",
            "line 1: peers are written as [[peers]], each with key, consensus and lanes",
        ),
        (
            "[[peers]]\nkey = \"x\"\n",
            "line 1: the entry at line 1 lacks one of key, consensus, lanes",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected);
    }
    assert!(refusal("a = = 1\n").starts_with("line 1: "));
    let wrong = [("ALTHING_SIGVERIFY_THREADS", "many")];
    let exit = load("", &wrong, &[]).unwrap_err();
    assert!(exit.message().contains("ALTHING_SIGVERIFY_THREADS must be a whole number"), "{exit}");
}

#[test]
fn a_passphrase_in_the_wrong_place_is_refused_and_not_shown() {
    let expected = "key_passphrase must be \"fd:N\", \"credential:NAME\" or empty, and never the passphrase itself, \
                    found something else";
    assert_eq!(refusal("key_passphrase = \"hunter2\"\n"), format!("line 1: {expected}"));
    for text in
        ["key_passphrase = hunter2\n", "key_passphrase = 22222\n", "key_passphrase = \"hunter2\n"]
    {
        let said = refusal(text);
        assert!(!said.contains("hunter2") && !said.contains("22222"), "{said}");
    }
    let exit = load("", &[("ALTHING_KEY_PASSPHRASE", "hunter2")], &[]).unwrap_err();
    assert!(exit.message().contains("ALTHING_KEY_PASSPHRASE must be"), "{exit}");
    assert!(!exit.message().contains("hunter2"), "{exit}");
    for (text, source) in [
        ("", Source::Terminal),
        ("key_passphrase = \"\"\n", Source::Terminal),
        ("key_passphrase = \"fd:3\"\n", Source::Descriptor(3)),
        ("key_passphrase = \"credential:a\"\n", Source::Credential("a".into())),
    ] {
        assert_eq!(load(text, &[], &[]).unwrap().config.key_passphrase, source);
    }
    let flags = [("key_passphrase", "fd:5".to_string())];
    let loaded = load("key_passphrase = \"fd:3\"\n", &[], &flags).unwrap();
    assert_eq!(loaded.config.key_passphrase, Source::Descriptor(5));
}

#[test]
fn an_encrypted_key_is_opened_when_all_else_fits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, _, secrets) = network(folder.path(), "one");
    std::fs::remove_file(&config.key).unwrap();
    let passphrase = testing::passphrase("open");
    let sealed = KeyFile::seal(&secrets[0], &passphrase, testing::CHEAP).unwrap();
    sealed.create(&config.key).unwrap();
    let (_file, source) = testing::given("open\n");
    config.key_passphrase = source;
    let lonely = Config { peers: Vec::new(), ..config.clone() };
    assert!(lonely.identity().unwrap_err().message().contains("has no [[peers]] entry"));
    // The refusal above has not read the descriptor, which gives the passphrase only once.
    assert_eq!(config.identity().unwrap().secret.public(), secrets[0].public());
    let exit = config.identity().unwrap_err();
    assert!(exit.message().ends_with("is empty"), "{exit}");
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    assert!(refusal("[consensus]\nheartbeat_ms = 700\n").contains("must be below"));
    assert!(refusal("[consensus]\nbatch_delay_ms = 1000\n").contains("must be below"));
    assert!(refusal("[consensus]\ncut_delay_ms = 351\n").contains("cut_delay_ms (351) must be"));
    assert!(load("[consensus]\ncut_delay_ms = 350\n", &[], &[]).is_ok());
    let same = refusal("[listen]\ntcp = \"127.0.0.1:9\"\nhttp = \"127.0.0.1:9\"\n");
    assert_eq!(same, "listen.tcp and listen.http are both 127.0.0.1:9");
    let key = "ab".repeat(32);
    let peer = format!(
        "[[peers]]\nkey = \"{key}\"\nconsensus = \"127.0.0.1:1\"\nlanes = \"127.0.0.1:2\"\n"
    );
    assert_eq!(load(&peer, &[], &[]).unwrap().config.peers.len(), 1);
    assert!(refusal(&peer.repeat(2)).contains("two [[peers]] entries"));
    let bad = peer.replace("127.0.0.1:2", "nowhere");
    assert!(refusal(&bad).starts_with("line 1: peers.lanes must be an address"));
    assert!(refusal(&peer.replace("abab", "zz")).starts_with("line 1: peers.key is not a key"));
}

#[test]
fn cores_are_free_unless_the_file_says_otherwise() {
    assert_eq!(load("", &[], &[]).unwrap().config.cores, Cores::default());
    let text = "[cores]\nstages = \"0\"\nbusy_poll_us = 50\nhuge_pages = \"on\"\n";
    let cores = load(text, &[], &[]).unwrap().config.cores;
    let stages = Cpus::parse("0").unwrap();
    assert_eq!(cores, Cores { stages, busy_poll_us: 50, huge_pages: true, ..Cores::default() });
    let environment = [("ALTHING_CORES_STORAGE", "0,0-0")];
    let cores = load(text, &environment, &[]).unwrap().config.cores;
    assert_eq!(cores.storage.to_string(), "0");
}

#[test]
fn a_cpu_that_this_machine_lacks_is_refused_before_anything_starts() {
    if Path::new("/sys/devices/system/cpu/cpu1023").exists() {
        eprintln!("skipped: this machine has a thousand CPUs");
        return;
    }
    let why = refusal("[cores]\nstorage = \"0,1023\"\n");
    assert!(why.starts_with("cores.storage must be CPUs that this machine has"), "{why}");
    assert!(why.ends_with("found 1023"), "{why}");
}

#[test]
fn a_missing_or_huge_file_is_one_line() {
    let exit = Config::load(Path::new("/nowhere/config.toml"), &[]).unwrap_err();
    assert!(exit.message().starts_with("config /nowhere/config.toml: cannot be opened"), "{exit}");
    assert!(refusal(&"#".repeat(2 << 20)).contains("is longer than"));
}

/// A network of two validators in a folder; the config is of the first.
fn network(folder: &Path, name: &str) -> (Config, Genesis, Vec<Secret>) {
    let mut secrets: Vec<Secret> = (0..2).map(|_| Secret::generate().unwrap()).collect();
    secrets.sort_by_key(Secret::public);
    let keys = secrets.iter().map(Secret::public).collect();
    let genesis =
        Genesis::new(name.into(), keys, Vec::new(), ledger::Parameters::default(), |_| true)
            .unwrap();
    let mut config = Config::default_in(folder);
    std::fs::write(&config.genesis, genesis.to_json()).unwrap();
    let _ = std::fs::remove_file(&config.key);
    secrets[0].create(&config.key).unwrap();
    config.peers = vec![Peer {
        key: secrets[1].public(),
        consensus: "127.0.0.1:1".parse().unwrap(),
        lanes: "127.0.0.1:2".parse().unwrap(),
        history: None,
    }];
    (config, genesis, secrets)
}

#[test]
fn key_genesis_and_peers_must_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let (config, genesis, secrets) = network(folder.path(), "one");
    let identity = config.identity().unwrap();
    assert_eq!(identity.index, Some(0));
    assert_eq!(identity.genesis.digest(), genesis.digest());
    assert_eq!(identity.secret.public(), secrets[0].public());

    let lonely = Config { peers: Vec::new(), ..config.clone() };
    assert!(lonely.identity().unwrap_err().message().contains("has no [[peers]] entry"));
    let mut stranger = config.clone();
    stranger.peers.push(Peer { key: PublicKey([2; 32]), ..stranger.peers[0].clone() });
    assert!(stranger.identity().unwrap_err().message().contains("which is no validator's key"));
    // One that was voted in since.
    stranger.peers[1].key = Secret::generate().unwrap().public();
    assert_eq!(stranger.identity().unwrap().index, Some(0));
    std::fs::remove_file(&config.key).unwrap();
    Secret::generate().unwrap().create(&config.key).unwrap();
    let exit = config.identity().unwrap_err();
    assert!(exit.message().contains("has no [[peers]] entry"), "who follows knows all: {exit}");
    let first = Peer { key: secrets[0].public(), ..config.peers[0].clone() };
    let follower = Config { peers: vec![first, config.peers[0].clone()], ..config.clone() };
    assert_eq!(follower.identity().unwrap().index, None);
    std::fs::write(&config.genesis, "{}").unwrap();
    let exit = config.identity().unwrap_err();
    assert!(exit.message().starts_with("genesis "), "{exit}");
    assert_eq!(exit.code(), Code::Config);
}

#[test]
fn a_data_folder_stays_with_its_network() {
    let folder = tempfile::tempdir().unwrap();
    let (config, genesis, _) = network(folder.path(), "one");
    assert_eq!(identity::network_of(&config.data), Ok(None));
    config.adopt_data_folder(&genesis).unwrap();
    config.adopt_data_folder(&genesis).unwrap();
    assert_eq!(identity::network_of(&config.data), Ok(Some(genesis.digest())));
    let (_, other, _) = network(folder.path(), "two");
    let exit = config.adopt_data_folder(&other).unwrap_err();
    assert_eq!(exit.code(), Code::Config);
    assert!(exit.message().contains("belongs to network"), "{exit}");
}

/// Tables and keys that look like a config file's, most of them wrong.
const NEARLY_A_CONFIG: &str = concat!(
    "(\\[{0,2}(peers|listen|log|x)\\]{0,2}\n",
    "|(key|udp|genesis|x) = (1|-1|1.5|\"a\"|\\[\\]|\\{\\}|0x1F|true)\n){0,12}",
);

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = Layers::read(&text, &|_| None, &[]);
    }

    #[test]
    fn no_toml_like_text_makes_the_reader_panic(
        text in NEARLY_A_CONFIG
    ) {
        let _ = Layers::read(&text, &|_| None, &[]);
    }
}
