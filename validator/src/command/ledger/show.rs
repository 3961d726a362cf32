//! `ledger show`: a block or a transaction as it is stored.

use super::store::{Ledger, Location};
use crate::command::Exit;
use crate::command::described::{describe, describe_json};
use crate::command::terminal::{Side, Table, say, say_json, thousands, write_bytes};
use crate::record;
use ledger::{Batch, Digest, Outcome, Tip, Transaction};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

/// Batches of each lane that are searched below a height before all batches are: what a lane's quota
/// holds back is younger.
const BATCHES_NEAR: u64 = 64;
/// Heights below in which the lanes' tips are looked for.
const HEIGHTS_NEAR: u64 = 64;

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A block.
    Height(u64),
    /// A transaction.
    Id(Digest),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() < 20
            && let Ok(height) = text.parse()
        {
            return Ok(Self::Height(height));
        }
        let wrong = |error| format!("neither a height nor the id of a transaction: {error}");
        text.parse().map(Self::Id).map_err(wrong)
    }
}

/// A stored transaction.
struct Found {
    height: u64,
    index: usize,
    outcome: Outcome,
    bytes: Option<Vec<u8>>,
}

/// Runs the command.
///
/// Errors: a check failed, when it is not there; data corrupt, with the place.
pub fn run(folder: &Path, what: &What, body: bool, limit: usize, json: bool) -> Result<(), Exit> {
    let location = Location::find(folder)?;
    let stored = Ledger::open(&location, None)?;
    match what {
        What::Height(_) if body => Err(Exit::usage("--body needs the id of a transaction")),
        What::Height(height) => show_block(&stored, *height, limit, json),
        What::Id(id) => {
            let found = find(&stored, id)?.ok_or_else(|| {
                Exit::check_failed(format!("transaction {id} is not final in this ledger"))
            })?;
            if body { write_body(&found, id) } else { show_transaction(&found, id, json) }
        }
    }
}

fn show_block(stored: &Ledger, height: u64, limit: usize, json: bool) -> Result<(), Exit> {
    let Some(cut) = stored.cut(height)? else {
        let last = thousands(stored.last_height());
        return Err(Exit::check_failed(format!("no block {height} here, the last is {last}")));
    };
    let certificate = stored.reader().at_height(record::CERTIFICATE, height).is_some();
    let outcomes = stored.outcomes(height)?;
    let transactions: &[(Digest, Outcome)] =
        outcomes.as_ref().map_or(&[], |outcomes| &outcomes.outcomes);
    if json {
        let lanes: Vec<_> = cut
            .lanes
            .iter()
            .map(|lane| {
                let digest = lane.digest.to_string();
                json!({ "lane": lane.lane, "sequence": lane.sequence, "digest": digest,
                        "signers": lane.signers.count() })
            })
            .collect();
        let shown: Vec<_> = transactions
            .iter()
            .take(limit)
            .map(|(id, outcome)| json!({ "id": id.to_string(), "outcome": outcome.as_str() }))
            .collect();
        say_json(&json!({
            "height": height,
            "digest": cut.digest().to_string(),
            "parent": cut.parent.to_string(),
            "epoch": cut.epoch,
            "view": cut.view.get(),
            "time_ms": cut.time_ms,
            "executed_height": cut.executed.get(),
            "declared_history_root": cut.history_root.to_string(),
            "declared_state_root": cut.state_root.to_string(),
            "history_root": outcomes.as_ref().map(|outcomes| outcomes.history_root.to_string()),
            "certificate": certificate,
            "lanes": lanes,
            "transactions_count": transactions.len(),
            "transactions": shown,
        }));
        return Ok(());
    }
    let mut table = Table::new(&[Side::Left, Side::Left]);
    table.row(["height".to_string(), thousands(height)]);
    table.row(["digest".to_string(), cut.digest().to_string()]);
    table.row(["parent".to_string(), cut.parent.to_string()]);
    table.row(["view".to_string(), format!("{} of epoch {}", cut.view, cut.epoch)]);
    table.row(["time".to_string(), format!("{} ms since 1970, as proposed", cut.time_ms)]);
    let declared = format!("{} after height {}", cut.history_root, cut.executed);
    table.row(["declares".to_string(), declared]);
    if let Some(outcomes) = &outcomes {
        table.row(["history root".to_string(), outcomes.history_root.to_string()]);
    }
    let covered = if certificate { "its own" } else { "of a later block" };
    table.row(["certificate".to_string(), covered.to_string()]);
    for lane in &cut.lanes {
        let text = format!(
            "batch {} {}, held by {}",
            thousands(lane.sequence),
            lane.digest,
            lane.signers.count()
        );
        table.row([format!("lane {}", lane.lane), text]);
    }
    let count = u64::try_from(transactions.len()).unwrap_or(u64::MAX);
    table.row(["transactions".to_string(), thousands(count)]);
    let mut text = table.render();
    let mut table = Table::new(&[Side::Right, Side::Left, Side::Left]).indent(2);
    for (index, (id, outcome)) in transactions.iter().take(limit).enumerate() {
        table.row([index.to_string(), id.to_string(), outcome.as_str().to_string()]);
    }
    text.push_str(&table.render());
    if transactions.len() > limit {
        text.push_str(&format!("  and {} more: --limit N\n", transactions.len() - limit));
    }
    say(&text);
    Ok(())
}

fn show_transaction(found: &Found, id: &Digest, json: bool) -> Result<(), Exit> {
    let Found { height, index, outcome, bytes } = found;
    let transaction = bytes.as_deref().and_then(|bytes| Transaction::decode(bytes).ok());
    if json {
        let mut document = json!({
            "id": id.to_string(),
            "height": height,
            "index": index,
            "outcome": outcome.as_str(),
        });
        if let Some(transaction) = transaction {
            describe_json(&transaction, &mut document);
        }
        say_json(&document);
        return Ok(());
    }
    let mut table = Table::new(&[Side::Left, Side::Left]);
    table.row(["id".to_string(), id.to_string()]);
    table.row(["height".to_string(), thousands(*height)]);
    table.row(["index".to_string(), index.to_string()]);
    table.row(["outcome".to_string(), outcome.as_str().to_string()]);
    let Some(transaction) = transaction else {
        table.row(["bytes", "not kept here any more"]);
        say(&table.render());
        return Ok(());
    };
    describe(&transaction, &mut table);
    say(&table.render());
    Ok(())
}

fn write_body(found: &Found, id: &Digest) -> Result<(), Exit> {
    let transaction = found.bytes.as_deref().and_then(|bytes| Transaction::decode(bytes).ok());
    let Some(transaction) = transaction else {
        return Err(Exit::check_failed(format!("the bytes of {id} are not kept here any more")));
    };
    write_bytes(transaction.body())
}

/// Looks for a transaction in the outcomes, newest first, and for its bytes in the batches.
///
/// The same transaction may come by way of several lanes: the first time counts, and every later one
/// is stale. So one that consumed its place is the first, and otherwise the oldest is.
fn find(stored: &Ledger, id: &Digest) -> Result<Option<Found>, Exit> {
    let mut first = None;
    for height in (1..=stored.last_height()).rev() {
        let outcomes = stored.outcomes(height)?.map(|list| list.outcomes).unwrap_or_default();
        let mut entries = outcomes.iter().enumerate();
        let entry = entries.find(|(_, (found, outcome))| found == id && outcome.is_final());
        if let Some((index, (_, outcome))) = entry {
            first = Some((height, index, *outcome));
            if outcome.pays() {
                break;
            }
        }
    }
    let Some((height, index, outcome)) = first else {
        return Ok(None);
    };
    let bytes = match near(stored, id, height)? {
        Some(bytes) => Some(bytes),
        None => anywhere(stored, id)?,
    };
    Ok(Some(Found { height, index, outcome, bytes }))
}

/// Looks for the bytes in the newest batches of each lane at a height.
fn near(stored: &Ledger, id: &Digest, height: u64) -> Result<Option<Vec<u8>>, Exit> {
    let mut tips: BTreeMap<u32, Digest> = BTreeMap::new();
    for height in (height.saturating_sub(HEIGHTS_NEAR)..=height).rev() {
        let Some(cut) = stored.cut(height)? else {
            break;
        };
        for lane in &cut.lanes {
            tips.entry(lane.lane).or_insert(lane.digest);
        }
    }
    let genesis = Tip { sequence: 0, digest: Digest::ZERO };
    for tip in tips.values() {
        for batch in stored.lane(tip, &genesis, BATCHES_NEAR)? {
            if let Some(bytes) = within(stored, id, &batch) {
                return Ok(Some(bytes));
            }
        }
    }
    Ok(None)
}

/// Looks for the bytes in every batch.
fn anywhere(stored: &Ledger, id: &Digest) -> Result<Option<Vec<u8>>, Exit> {
    for entry in stored.reader().records() {
        let (_, header, body) = entry.map_err(|error| Exit::data_corrupt(error.to_string()))?;
        if header.kind == record::BATCH
            && let Some(bytes) = within(stored, id, &body)
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn within(stored: &Ledger, id: &Digest, batch: &[u8]) -> Option<Vec<u8>> {
    let batch = Batch::decode(batch, &stored.network()?).ok()?;
    let place = batch.ids().iter().position(|found| found == id)?;
    let transaction = batch.transactions().nth(place)?;
    Some(transaction.bytes().to_vec())
}

#[cfg(test)]
mod tests;
