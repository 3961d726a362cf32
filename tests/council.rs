//! A council that governs itself: members come and go and change their keys by votes, under load, and whoever was cut
//! short at a turn comes back.

use ledger::{Digest, PublicKey};
use std::{fs, time::Duration};
use tests::{
    cluster::{COMMAND, Cluster, alone, reached},
    load::{Load, Offer, Read},
    process::{command, finish},
};
use validator::{api::document::council::Council, handle::Status, signer::Guard};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// Time for anything, on a machine that does other things too.
const TIME: Duration = Duration::from_secs(180);
/// Heights of an epoch: as few as may be, and enough for votes in between.
const EPOCH: u64 = 256;

fn offer() -> Offer {
    Offer { rate: 300, size: 300, drain: Duration::from_secs(30) }
}

/// What is voted, with everything that goes after it on the command line.
fn vote(cluster: &Cluster, who: usize, what: &[&str]) -> String {
    let key = cluster.network().config(who).with_file_name("validator.key");
    let to = [cluster.url(1).to_string(), cluster.url(2).to_string()].join(",");
    let key = key.to_str().expect("a path of the tests");
    let arguments = [&["council"], what, &["--key-file", key, "--to", &to]].concat();
    let done = finish(command(PROGRAM).args(arguments), COMMAND);
    done.expect_code(0).text()
}

fn council(cluster: &Cluster) -> Council {
    cluster.api(1).council().expect("it answers")
}

fn keys(cluster: &Cluster) -> Vec<PublicKey> {
    council(cluster).members.iter().map(|member| member.key).collect()
}

fn key(cluster: &Cluster, place: usize) -> PublicKey {
    cluster.network().validators[place].key
}

fn epoch(views: &[Option<Status>]) -> u64 {
    views[1].as_ref().map_or(0, |status| status.epoch)
}

/// Waits until the epoch is over that now lasts; where votes were too late for it, one more.
fn turn(cluster: &mut Cluster, until: impl Fn(&Cluster) -> bool) {
    for _ in 0..2 {
        let now = epoch(&cluster.views());
        cluster.wait("the epoch turns", TIME, |views| epoch(views) > now);
        if until(cluster) {
            return;
        }
    }
    panic!("it was not decided: {:?}", council(cluster));
}

fn pay(cluster: &Cluster, to: &PublicKey) -> String {
    let (url, key) = (cluster.url(1).to_string(), cluster.network().client_key());
    let (to, key) = (to.to_string(), key.to_str().expect("a path of the tests").to_owned());
    let arguments =
        ["submit", "--transfer", &to, "--amount", "1000000", "--to", &url, "--key", &key, "--json"];
    cluster.run(&arguments).expect_code(0).text()
}

/// Starts a validator that is none yet, and has it say that it is ready when it is where the others are.
fn join(cluster: &mut Cluster, approve: impl Fn(&Cluster, &[&str], &[&str])) -> usize {
    let (place, listen) = cluster.join();
    let new = key(cluster, place);
    pay(cluster, &new);
    let [consensus, lanes, history] =
        [listen.consensus, listen.lanes, listen.history].map(|at| at.to_string());
    let new = new.to_string();
    let at = ["--consensus", &consensus, "--lanes", &lanes, "--history", &history];
    approve(cluster, &[&new], &at);
    cluster.start(place);
    let height = cluster.views()[1].as_ref().expect("it answers").executed_height;
    cluster.wait("the newcomer follows", TIME, |views| reached(&views[place], height + 20));
    let status = cluster.views()[place].clone().expect("it answers");
    assert_eq!(status.validator, None);
    assert!(
        status.reasons.iter().any(|why| why.contains("no validator of this epoch")),
        "{status:?}"
    );
    vote(cluster, place, &["ready"]);
    place
}

#[test]
fn members_come_and_go_and_change_their_keys_by_votes_under_load() {
    let _machine = alone();
    let mut cluster = Cluster::create_with(PROGRAM, 600, EPOCH);
    cluster.start_all();
    cluster.wait_ready();
    let first = pay(&cluster, &PublicKey([7; 32]));
    let load = Load::start(&cluster, offer());
    load.wait_for(300, TIME);

    // Two approvals of three that it takes, whoever is ready: nothing happens, however long it lasts.
    let fifth = join(&mut cluster, |cluster, new, at| {
        for member in [0, 1] {
            vote(cluster, member, &[&["add"], new, at].concat());
        }
    });
    let four = keys(&cluster);
    turn(&mut cluster, |_| true);
    turn(&mut cluster, |_| true);
    assert_eq!(keys(&cluster), four);
    let motions = council(&cluster).motions;
    assert_eq!((motions.len(), motions[0].ready), (1, Some(true)));
    assert_eq!(motions[0].approvals.len(), 2);

    let motion = motions[0].joins.clone().expect("somebody would join");
    let [consensus, lanes, history] = [motion.consensus, motion.lanes, motion.history]
        .map(|at| at.expect("it was voted on").to_string());
    let new = motion.key.to_string();
    let add = ["add", &new, "--consensus", &consensus, "--lanes", &lanes, "--history", &history];
    vote(&cluster, 2, &add);
    turn(&mut cluster, |cluster| keys(cluster).len() == 5);
    cluster.wait("the fifth takes part", TIME, |views| {
        views[fifth].as_ref().is_some_and(|status| status.ready && status.validator.is_some())
    });
    load.wait_for(300, TIME);

    // Now four of five decide, and the fifth is one of them.
    let gone = key(&cluster, 3).to_string();
    for member in [0, 1, 2, fifth] {
        vote(&cluster, member, &["remove", &gone]);
    }
    turn(&mut cluster, |cluster| keys(cluster).len() == 4);
    let status = cluster.views()[3].clone().expect("it runs");
    assert!(!status.ready, "{status:?}");
    cluster.kill(3);
    load.wait_for(300, TIME);

    let old = key(&cluster, 0);
    let sixth = join(&mut cluster, |cluster, new, at| {
        let old = old.to_string();
        let by = [&["replace", old.as_str(), "--by"], new, at].concat();
        for member in [1, 2, fifth] {
            vote(cluster, member, &by);
        }
    });
    turn(&mut cluster, |cluster| !keys(cluster).contains(&old));
    assert!(keys(&cluster).contains(&key(&cluster, sixth)));
    cluster.kill(0);
    cluster.wait("the sixth takes part", TIME, |views| {
        views[sixth].as_ref().is_some_and(|status| status.ready)
    });
    load.wait_for(300, TIME);

    // Fees of the next epoch.
    for member in [1, 2, fifth] {
        vote(&cluster, member, &["rates", "--base-fee", "11"]);
    }
    turn(&mut cluster, |cluster| council(cluster).rates.base_fee == 11);
    load.wait_for(100, TIME);

    // What was executed first of all, under the newest certificate: whoever has the genesis checks it.
    let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    let file = cluster.network().folder().join("first.proof");
    let (url, file) = (cluster.url(sixth).to_string(), file.to_str().expect("a path").to_owned());
    let (id, height) = (first["id"].as_str().expect("an id"), first["height"].to_string());
    let genesis = cluster.network().genesis();
    let genesis = genesis.to_str().expect("a path").to_owned();
    let prove = ["prove", "transaction", id, "--height", &height, "--to", &url, "--out", &file];
    cluster.run(&[&prove[..], &["--genesis", &genesis]].concat()).expect_code(0);
    let verified = cluster.run(&["verify-proof", &file, "--genesis", &genesis]);
    assert!(verified.expect_code(0).text().contains("applied"));
    let links = fs::read(&file).expect("it was just written")[4];
    assert_eq!(links, 3, "the set has changed three times");

    let (_, told) = load.stop();
    let running = [1, 2, fifth, sixth];
    let newest = cluster.views().into_iter().flatten().map(|view| view.height).max();
    let newest = newest.expect("they answer");
    cluster
        .wait("all have it", TIME, |views| running.iter().all(|it| reached(&views[*it], newest)));
    for place in running {
        let kept = cluster.api(place).evidence().expect("it answers");
        assert!(kept.is_empty(), "{kept:?}");
    }
    cluster.stop_all();
    let network = cluster.network().network;
    let mut ledgers: Vec<Read> =
        running.iter().map(|place| Read::open(&cluster.data(*place), &network)).collect();
    let roots: Vec<Digest> = ledgers.iter().map(|ledger| ledger.history_root(newest)).collect();
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
    for known in &told {
        assert!(ledgers[3].holds(known), "{known:?}");
    }
    for place in [0, 1, 3, sixth] {
        cluster.verify(place).expect_code(0);
    }
}

#[test]
fn validators_that_die_together_at_a_turn_come_back() {
    let _machine = alone();
    let mut cluster = Cluster::create_with(PROGRAM, 600, 128);
    cluster.start_all();
    cluster.wait_ready();
    let load = Load::start(&cluster, offer());
    load.wait_for(100, TIME);
    for round in 0..8 {
        // From some heights before the last one of an epoch to some after it.
        let offset = [3, 2, 1, 0, 127, 126, 125, 120][round];
        let is_there = |view: &Option<Status>| {
            let height = view.as_ref().map_or(0, |status| status.height);
            (127 - height % 128) <= offset && (127 - height % 128) + 4 > offset
        };
        cluster.wait("near a turn", TIME, |views| views.iter().any(is_there));
        cluster.kill_all();
        cluster.start_all();
        cluster.wait_ready();
        load.wait_for(30, TIME);
    }
    let (_, told) = load.stop();
    let newest = cluster.views().into_iter().flatten().map(|view| view.height).max();
    cluster.wait_height(newest.expect("they answer"), TIME);
    cluster.stop_all();
    let network = cluster.network().network;
    let mut ledgers: Vec<Read> =
        (0..cluster.size()).map(|place| Read::open(&cluster.data(place), &network)).collect();
    for known in &told {
        assert!(ledgers[0].holds(known), "{known:?}");
    }
    let common = ledgers.iter().map(Read::height).min().expect("four of them");
    let roots: Vec<_> = ledgers.iter().map(|ledger| ledger.history_root(common)).collect();
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
    cluster.verify(2).expect_code(0);
}

#[test]
fn who_lost_guard_and_ledger_votes_again_in_the_next_epoch() {
    const WIPED: usize = 3;
    let _machine = alone();
    let mut cluster = Cluster::create_with(PROGRAM, 600, EPOCH);
    cluster.start_all();
    cluster.wait_ready();
    let load = Load::start(&cluster, offer());
    load.wait_for(600, TIME);
    cluster.kill(WIPED);
    fs::remove_dir_all(cluster.data(WIPED)).expect("the folder is ours");
    let file = cluster.network().config(WIPED).with_file_name("validator.key");
    fs::remove_file(Guard::path(&file)).expect("it is beside the key");
    cluster.start(WIPED);
    let height = cluster.views()[0].as_ref().expect("it answers").executed_height;
    cluster.wait("it follows", TIME, |views| reached(&views[WIPED], height));
    cluster.wait("it votes again", TIME, |views| {
        let heard = |view: &Option<Status>| {
            let peers = view.as_ref().map(|status| status.peers.as_slice()).unwrap_or_default();
            peers.iter().any(|peer| peer.index as usize == WIPED && peer.connected)
        };
        (0..WIPED).all(|place| heard(&views[place]))
            && views[WIPED].as_ref().is_some_and(|status| status.ready)
    });
    let log = cluster.log(WIPED);
    for part in ["the guard is gone", "voting from the next epoch on"] {
        assert!(log.contains(part), "{part:?} is not in\n{log}");
    }
    load.wait_for(300, TIME);
    let _ = load.stop();
    for place in 0..cluster.size() {
        let kept = cluster.api(place).evidence().expect("it answers");
        assert!(kept.is_empty(), "it contradicted itself: {kept:?}");
    }
    cluster.stop_all();
    cluster.verify(WIPED).expect_code(0);
}
