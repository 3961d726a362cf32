//! `ledger info`: what is stored, at a glance.

use super::store::{Ledger, Location};
use crate::command::Exit;
use crate::command::terminal::{self, Side, Table, say, say_json, thousands};
use crate::record;
use serde_json::json;
use std::path::Path;

/// Runs the command.
///
/// Errors: config, when there is no ledger; data corrupt, with the place.
pub fn run(folder: &Path, json: bool) -> Result<(), Exit> {
    let location = Location::find(folder)?;
    let stored = Ledger::open(&location, None)?;
    let recovery = stored.reader().recovery();
    let height = stored.last_height();
    let cut = stored.cut(height)?;
    let outcomes = stored.outcomes(height)?;
    let certified = stored.reader().last_height(record::CERTIFICATE).unwrap_or(0);
    let network = stored.network().map(|network| network.to_string());
    let digest = cut.as_ref().map(|cut| cut.digest().to_string());
    let root = outcomes.as_ref().map(|outcomes| outcomes.history_root.to_string());
    if json {
        say_json(&json!({
            "segments": recovery.segments,
            "groups": recovery.groups,
            "records": recovery.records,
            "bytes": recovery.bytes,
            "clean": recovery.clean,
            "unfinished_bytes": recovery.cut.map_or(0, |cut| cut.bytes),
            "network": network,
            "height": height,
            "certified_height": certified,
            "cut": digest,
            "history_root": root,
        }));
        return Ok(());
    }
    let mut table = Table::new(&[Side::Left, Side::Left]);
    let none = || "none yet".to_string();
    table.row(["ledger".to_string(), location.segments.display().to_string()]);
    table.row(["network".to_string(), network.unwrap_or_else(none)]);
    let bytes = format!(
        "{} in {}, {}, {}",
        terminal::bytes(recovery.bytes),
        terminal::counted(recovery.segments, "segment"),
        terminal::counted(recovery.groups, "group"),
        terminal::counted(recovery.records, "record")
    );
    table.row(["bytes".to_string(), bytes]);
    let end = match (recovery.cut, recovery.clean) {
        (Some(cut), _) => format!(
            "{} of an unfinished write at segment {:016x} offset {}",
            terminal::bytes(cut.bytes),
            cut.segment,
            thousands(cut.offset)
        ),
        (None, true) => "closed in good order".into(),
        (None, false) => "open, or not closed in good order".into(),
    };
    table.row(["end".to_string(), end]);
    let heights = format!("{}, certified up to {}", thousands(height), thousands(certified));
    table.row(["height".to_string(), heights]);
    table.row(["block".to_string(), digest.unwrap_or_else(none)]);
    table.row(["history root".to_string(), root.unwrap_or_else(none)]);
    say(&table.render());
    Ok(())
}
