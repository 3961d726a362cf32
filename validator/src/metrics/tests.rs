//! Checks of names, help texts and what a reader of the page sees.

use super::*;
use std::collections::BTreeSet;

/// What a name may end in: a base unit, `_info` or `_total`; else the thing that is counted.
const THINGS: [&str; 11] = [
    "_bytes",
    "_seconds",
    "_total",
    "_info",
    "_height",
    "_view",
    "_count",
    "_ready",
    "_size",
    "_connections",
    "_fds",
];

fn page() -> String {
    let metrics = Metrics::new();
    metrics.observe(&crate::handle::tests::status());
    // The two that have no rows before something happens.
    metrics.stage("verify");
    metrics.equivocation.get_or_create(&EquivocationLabel { validator: 1, kind: "ack" }).inc();
    metrics.render()
}

#[test]
fn every_name_follows_the_rules_and_stands_once() {
    let mut seen = BTreeSet::new();
    for Description { name, kind, labels, help } in names() {
        assert!(seen.insert(name), "{name} twice");
        assert!(name.starts_with("althing_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        let is_thing = THINGS.iter().any(|thing| name.ends_with(thing));
        assert!(is_thing || name == "process_threads", "{name} names no unit");
        assert!(help.starts_with(|first: char| first.is_ascii_uppercase()), "{name}: {help}");
        assert!(help.ends_with('.') && !help.ends_with(".."), "{name}: {help}");
        let distinct: BTreeSet<&&str> = labels.iter().collect();
        assert_eq!(distinct.len(), labels.len(), "{name}");
    }
    assert!(seen.len() > 30);
}

#[test]
fn the_page_holds_every_metric_with_its_type_and_help() {
    let page = page();
    for Description { name, kind, help, .. } in names() {
        let family = name.strip_suffix("_total").unwrap_or(name);
        assert!(page.contains(&format!("# TYPE {family} {kind}\n")), "{name}: {page}");
        let help = format!("# HELP {family} {help}\n");
        assert!(page.contains(&help), "{help}: {page}");
    }
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn no_metric_stands_on_the_page_that_the_reference_lacks() {
    let known: BTreeSet<&str> = names().iter().map(|row| row.name).collect();
    for line in page().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').unwrap();
        let total = format!("{family}_total");
        let name = if kind == "counter" { total.as_str() } else { family };
        assert!(known.contains(name), "{name}");
    }
}

#[test]
fn labels_of_the_reference_are_those_of_the_page() {
    let metrics = Metrics::new();
    metrics.observe(&crate::handle::tests::status());
    metrics.count_dropped("ingest", "busy");
    metrics.count_closed("tcp", "idle");
    metrics.stage("verify").busy.inc_by(0.25);
    let page = metrics.render();
    for line in [
        "althing_tx_dropped_total{stage=\"ingest\",reason=\"busy\"} 1",
        "althing_net_connections_closed_total{path=\"tcp\",reason=\"idle\"} 1",
        "althing_stage_busy_seconds_total{stage=\"verify\"} 0.25",
        "althing_stage_in_total{stage=\"verify\"} 0",
        "althing_consensus_finalized_height 12",
        "althing_execute_height 3",
        "althing_consensus_view 15",
        "althing_peer_count{state=\"connected\"} 1",
        "althing_peer_count{state=\"disconnected\"} 1",
        "althing_ready{check=\"all\"} 1",
        "althing_stage_queue_bytes{stage=\"ingest_verify\"} 3",
        "althing_stage_queue_limit_bytes{stage=\"ingest_verify\"} 10",
        "althing_uptime_seconds 1.5",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    for Description { name, labels, .. } in names() {
        for sample in page.lines().filter(|line| line.starts_with(&format!("{name}{{"))) {
            for label in labels {
                assert!(sample.contains(&format!("{label}=\"")), "{sample}");
            }
        }
    }
}

#[test]
fn a_backend_that_changes_leaves_no_old_row_and_its_text_is_escaped() {
    let metrics = Metrics::new();
    let mut status = crate::handle::tests::status();
    metrics.observe(&status);
    let page = metrics.render();
    assert!(page.contains(r#"reason="no \"avx512\"\nhere"} 1"#), "{page}");
    status.backends[0].backend = "other".to_owned();
    metrics.observe(&status);
    let page = metrics.render();
    assert_eq!(page.matches("althing_backend_info{").count(), 1, "{page}");
    assert!(page.contains("backend=\"other\""), "{page}");
}

#[test]
fn the_process_reports_itself() {
    let page = page();
    let value = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {page}")).parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_threads") >= 1.0);
    assert!(value("process_cpu_seconds_total") >= 0.0);
}

#[test]
fn counters_of_a_stage_are_the_same_however_often_they_are_asked_for() {
    let metrics = Metrics::new();
    metrics.stage("lane").taken.inc_by(2);
    metrics.stage("lane").taken.inc_by(3);
    assert_eq!(metrics.stage("lane").taken.get(), 5);
    assert_eq!(metrics.stage("verify").taken.get(), 0);
}
