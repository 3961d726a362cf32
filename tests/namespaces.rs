//! What goes wrong: a validator is cut off from the network, and joined again. Needs root and `ip`.

use std::{fs, time::Duration};
use tests::{
    cluster::{Cluster, executed, reached},
    namespace::{Namespaces, address},
    process::{command, finish},
};
use validator::{command::network::listen_from, handle::Status};

const PROGRAM: &str = env!("CARGO_BIN_EXE_althing-validator");
/// First of a validator's ports; each has its own address.
const PORT: u16 = 4_000;
/// The one that is cut off.
const CUT: usize = 3;
/// Heights that the others must finalize without it: each of them leads several times.
const HEIGHTS: u64 = 12;
/// Time for anything: a leader that is away costs a view timeout each time.
const PATIENCE: Duration = Duration::from_secs(90);

/// Asks the validators that the bridge reaches; the one that is cut off would only cost time.
fn ask(cluster: &Cluster, namespaces: &Namespaces, but: Option<usize>) -> Vec<Option<Status>> {
    namespaces.reach(|| {
        let ask = |index| cluster.api(index).status().ok();
        (0..cluster.size())
            .map(|index| if but == Some(index) { None } else { ask(index) })
            .collect()
    })
}

fn newest(views: &[Option<Status>]) -> u64 {
    views.iter().map(executed).max().unwrap_or(0)
}

/// Hands a record in from the bridge's namespace, and waits until it is final.
fn submit(cluster: &Cluster, namespaces: &Namespaces, validator: usize, text: &str) -> u64 {
    let file = cluster.network().folder().join("record");
    fs::write(&file, text).expect("our folder");
    let [ip, arguments @ ..] = namespaces.exec_bridge();
    let mut command = command(ip);
    command.args(arguments).arg(PROGRAM).arg("submit").arg("--file").arg(file);
    command.arg("--key").arg(cluster.network().client_key());
    command.args(["--to", &cluster.url(validator).to_string(), "--json"]);
    let text = finish(&mut command, PATIENCE).expect_code(0).text();
    let known: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(known["outcome"], "applied", "{text}");
    known["height"].as_u64().expect("a height")
}

#[test]
fn the_others_go_on_and_one_that_returns_catches_up() {
    let namespaces = match Namespaces::create(4) {
        Ok(namespaces) => namespaces,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let listen = (0..4).map(|index| listen_from(address(index), PORT)).collect();
    let mut cluster = Cluster::create_at(PROGRAM, 0, listen);
    for index in 0..cluster.size() {
        let [ip, netns, exec, name] = namespaces.exec(index);
        let mut command = cluster.start_command(index, &[ip, netns, exec, name, PROGRAM]);
        cluster.start_with(index, &mut command);
    }
    let all = |cluster: &Cluster| ask(cluster, &namespaces, None);
    let others = |cluster: &Cluster| ask(cluster, &namespaces, Some(CUT));
    cluster.wait_through("all are ready", PATIENCE, all, |views| {
        views.iter().all(|view| view.as_ref().is_some_and(|status| status.ready))
    });
    submit(&cluster, &namespaces, 0, "before the cut");

    namespaces.set_joined(CUT, false);
    let at_cut = newest(&others(&cluster));
    let goal = at_cut + HEIGHTS;
    cluster.wait_through("the others go on", PATIENCE, others, |views| {
        let count = views.iter().filter(|view| reached(view, goal)).count();
        count == 3
    });
    let without = submit(&cluster, &namespaces, 1, "while it is cut off");
    // It runs, and what it has not heard of it does not claim.
    let alone = namespaces.reach_from(CUT, || cluster.api(CUT).status());
    let alone = alone.expect("it answers in its own namespace");
    assert!(alone.executed_height < goal, "cut off, and at height {}", alone.executed_height);

    namespaces.set_joined(CUT, true);
    let goal = newest(&others(&cluster)).max(without) + 1;
    cluster.wait_through("it catches up", PATIENCE, all, |views| {
        views.iter().all(|view| reached(view, goal))
    });
    let after = submit(&cluster, &namespaces, CUT, "through the one that returned");
    cluster.wait_through("all have it", PATIENCE, all, |views| {
        views.iter().all(|view| reached(view, after))
    });
    println!("cut at {at_cut}, {without} without it, {goal} caught up, {after} through it");
    cluster.stop_all();
    for index in 0..cluster.size() {
        cluster.verify(index).expect_code(0);
    }
}
