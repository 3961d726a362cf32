//! Evidence in a running network: what one validator has reaches all, is kept, and convinces anyone.

use ed25519_dalek::{Signer as _, SigningKey};
use ledger::{
    BatchHeader, Digest, Evidence, Offence, Signature, SignedHeader, View, Vote,
    batch_signing_message, notarize_message,
};
use std::{fs, time::Duration};
use tests::{
    cluster::{Cluster, alone},
    load::{Load, Offer},
};
use validator::{
    command::network::Network,
    key::Secret,
    signer::guard::{Guard, Marks, State},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// What is kept is told again every ten seconds; the rest is for a machine that does other things too.
const TIME: Duration = Duration::from_secs(90);
const GUILTY: usize = 3;

fn key(network: &Network, validator: usize) -> SigningKey {
    let file = network.config(validator).with_file_name("validator.key");
    let secret = Secret::load(&file).expect("the key of a test network");
    SigningKey::from_bytes(&secret.seed())
}

fn fork(network: &Network) -> Evidence {
    let lane = u32::try_from(GUILTY).expect("a small number");
    let key = key(network, GUILTY);
    let batch = |root| {
        let header = BatchHeader {
            network: network.network,
            epoch: 0,
            lane,
            sequence: 7,
            previous: Digest([9; 32]),
            root: Digest([root; 32]),
            count: 1,
            bytes: 200,
        };
        let signature = key.sign(&batch_signing_message(&header.digest())).to_bytes();
        SignedHeader { header, signature: Signature(signature) }
    };
    let batches = Box::new([batch(1), batch(2)]);
    Evidence::new(network.network, 0, lane, Offence::Fork(batches))
}

fn double_vote(network: &Network) -> Evidence {
    let key = key(network, GUILTY);
    let vote = |block| {
        let (parent_view, payload) = (View(4), Digest([block; 32]));
        let message = notarize_message(&network.network, 0, View(5), parent_view, &payload);
        Vote { parent_view, payload, signature: Signature(key.sign(&message).to_bytes()) }
    };
    let validator = u32::try_from(GUILTY).expect("a small number");
    let offence = Offence::Notarize(View(5), [vote(1), vote(2)]);
    Evidence::new(network.network, 0, validator, offence)
}

#[test]
fn what_one_validator_can_prove_all_keep() {
    let _machine = alone();
    let mut cluster = Cluster::create(PROGRAM, 10);
    let proved = [fork(cluster.network()), double_vote(cluster.network())];
    // As one finds it that was the only one to see it.
    let folder = cluster.data(0).join("evidence");
    fs::create_dir_all(&folder).expect("the folder is ours");
    for evidence in &proved {
        let file = folder.join(format!("{}.evidence", evidence.digest()));
        fs::write(file, evidence.encode()).expect("the folder is ours");
    }
    // And one that says of an honest validator what it never did.
    let mut lie = fork(cluster.network()).encode();
    lie[4] = 1;
    fs::write(folder.join("lie.evidence"), lie).expect("the folder is ours");
    cluster.start_all();
    cluster.wait_ready();
    let end = std::time::Instant::now() + TIME;
    let mut expected: Vec<Digest> = proved.iter().map(Evidence::digest).collect();
    expected.sort();
    for validator in 0..cluster.size() {
        loop {
            let kept = cluster.api(validator).evidence().expect("it answers");
            let mut digests: Vec<Digest> = kept.iter().map(|one| one.digest).collect();
            digests.sort();
            if digests == expected {
                break;
            }
            assert!(std::time::Instant::now() < end, "validator {validator} keeps {kept:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let told = cluster.run(&["evidence", "list", "--to", &cluster.url(2).to_string()]);
    let text = told.expect_code(0).text();
    assert!(text.contains("fork") && text.contains("lane 3 batch 7"), "{text}");
    assert!(text.contains("notarize") && text.contains("view 5"), "{text}");
    cluster.stop_all();

    // It is on their disks, and needs nobody to be believed.
    let genesis = cluster.network().genesis().display().to_string();
    for validator in 0..cluster.size() {
        let data = cluster.data(validator);
        for evidence in &proved {
            let file = data.join("evidence").join(format!("{}.evidence", evidence.digest()));
            let file = file.display().to_string();
            let checked = cluster.run(&["evidence", "verify", &file, "--genesis", &genesis]);
            let text = checked.expect_code(0).text();
            assert!(text.starts_with("verified: validator 3 has "), "{text}");
        }
        if validator > 0 {
            let data = data.display().to_string();
            let listed = cluster.run(&["evidence", "list", &data, "--json"]).expect_code(0);
            let listed: serde_json::Value =
                serde_json::from_str(&listed.text()).expect("one JSON document");
            assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
        }
    }
    let lie = folder.join("lie.evidence").display().to_string();
    let refused = cluster.run(&["evidence", "verify", &lie, "--genesis", &genesis]);
    refused.expect_refusal(1, &["lie.evidence: refused: no_offence"]);
}

/// Everything of a validator but its key is gone, its guard is forged, and it starts anew: its lane goes on where
/// batches of before still wait for their certificate. As a copy of the key does that another process uses.
#[test]
fn a_key_that_signs_without_its_memory_is_convicted_by_all_and_nothing_forks() {
    let _machine = alone();
    let mut cluster = Cluster::create(PROGRAM, 800);
    cluster.start_all();
    cluster.wait_ready();
    let load =
        Load::start(&cluster, Offer { rate: 400, size: 300, drain: Duration::from_secs(20) });
    load.wait_for(200, TIME);
    // Two that stand still acknowledge nothing, and find what was sent to them when they go on.
    (0..2).for_each(|index| cluster.pause(index, true));
    std::thread::sleep(Duration::from_millis(400));
    cluster.kill(GUILTY);
    (0..2).for_each(|index| cluster.pause(index, false));
    fs::remove_dir_all(cluster.data(GUILTY)).expect("the folder is ours");
    // With a guard that says that nothing was signed for any lane, whatever was voted: no honest one would.
    let key = cluster.network().config(GUILTY).with_file_name("validator.key");
    fs::remove_file(Guard::path(&key)).expect("it was written with the key");
    let lease = Marks { view: u64::MAX / 2, lanes: Vec::new() };
    let forged = State { lease, ..State::default() };
    Guard::create(&key, &forged).expect("our folder");
    cluster.start(GUILTY);
    let end = std::time::Instant::now() + TIME;
    let honest = [0, 1, 2];
    let forks = |cluster: &Cluster, index: usize| -> Vec<Digest> {
        let kept = cluster.api(index).evidence().expect("it answers");
        assert!(kept.iter().all(|one| one.validator == 3), "validator {index} keeps {kept:?}");
        kept.iter().filter(|one| one.kind == "fork").map(|one| one.digest).collect()
    };
    loop {
        let known = honest.map(|index| forks(&cluster, index));
        if known[0].iter().any(|fork| known.iter().all(|known| known.contains(fork))) {
            break;
        }
        assert!(std::time::Instant::now() < end, "no fork that all know: {known:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The others go on, and whoever was told that something is final was told the truth.
    load.wait_for(400, TIME);
    let (_, told) = load.stop();
    let heights = cluster.views().into_iter().flatten().map(|view| view.height);
    let newest = heights.max().expect("they answer");
    cluster.wait("the honest have executed it", TIME, |views| {
        honest.iter().all(|index| tests::cluster::reached(&views[*index], newest))
    });
    cluster.stop_all();
    let network = cluster.network().network;
    let mut ledgers = honest.map(|index| tests::load::Read::open(&cluster.data(index), &network));
    let common = ledgers.iter().map(tests::load::Read::height).min().expect("three of them");
    let roots = ledgers.each_ref().map(|ledger| ledger.history_root(common));
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
    for known in &told {
        assert!(ledgers[0].holds(known), "{known:?}");
    }
    for index in honest {
        cluster.verify(index).expect_code(0);
    }
}
