//! `ledger verify`: replays a stored ledger from genesis and names the first thing that is wrong.

use super::store::{Ledger, Location, StoredBlock, exit_of};
use crate::command::Exit;
use crate::command::terminal::{
    self, Paint, Side, StatusLine, Table, per_second, say, say_json, thousands,
};
use crate::votes::Judge;
use ledger::{AuditBlock, Auditor, Cut, Genesis, Outcome, Signatures, Summary};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A progress line is written this often.
const PROGRESS: Duration = Duration::from_millis(200);

/// A ledger in which everything holds.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What the bytes contain.
    pub storage: storage::Verified,
    /// What the blocks contain.
    pub ledger: Summary,
    /// How long it took.
    pub time: Duration,
}

/// Runs the command.
///
/// Errors: data corrupt, with segment and offset or with height and part.
pub fn run(folder: &Path, genesis: Option<&Path>, threads: usize, json: bool) -> Result<(), Exit> {
    let location = Location::find(folder)?;
    let genesis = location.load_genesis(genesis)?;
    let options = sigverify::Options { backend: None, threads };
    let verifier =
        sigverify::Verifier::new(&options).map_err(|error| Exit::host_unfit(error.to_string()))?;
    let backend = verifier.backend().name.to_string();
    let judge = Judge::new(Arc::new(verifier));
    let mut progress = Progress::new(!json);
    let result = verify(&location, &genesis, &judge, &mut |done| progress.show(done));
    progress.clear();
    match &result {
        Ok(verified) if json => say_json(&document(&genesis, verified)),
        Ok(verified) => say(&render(&location, &genesis, &backend, verified, Paint::stdout())),
        Err(exit) if json => {
            let code = exit.code() as u8;
            say_json(&json!({ "good": false, "exit": code, "why": exit.message() }));
        }
        Err(_) => {}
    }
    result.map(drop)
}

/// How far an audit has come.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Blocks checked.
    pub blocks: u64,
    /// Blocks in all.
    pub blocks_total: u64,
    /// Signatures checked.
    pub signatures: u64,
}

/// Checks every byte of the segments, then every block from genesis on.
///
/// Errors: data corrupt, with the first thing that is wrong.
pub fn verify(
    location: &Location,
    genesis: &Genesis,
    signatures: &dyn Signatures,
    on_block: &mut dyn FnMut(Done),
) -> Result<Verified, Exit> {
    let start = Instant::now();
    let network = genesis.digest();
    let storage = storage::verify(&location.segments, Some(*network.as_bytes()))
        .map_err(|error| exit_of(&location.segments, &error))?;
    let stored = Ledger::open(location, Some(&network))?;
    let summary = audit(&stored, genesis, signatures, on_block)?;
    Ok(Verified { storage, ledger: summary, time: start.elapsed() })
}

/// Checks every block from genesis on.
///
/// Errors: data corrupt, with the height and what is wrong there.
pub fn audit(
    stored: &Ledger,
    genesis: &Genesis,
    signatures: &dyn Signatures,
    on_block: &mut dyn FnMut(Done),
) -> Result<Summary, Exit> {
    let mut auditor = Auditor::new(genesis, signatures);
    let blocks_total = stored.last_height_of_any();
    let mut checked = 0;
    for height in 1..=blocks_total {
        let Some(block) = stored.block(height)? else {
            return Err(stored.damaged(height, "cut", "missing, although later records exist"));
        };
        let batches = committed(stored, &auditor, &block)?;
        let batches: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
        let StoredBlock { cut, certificate, outcomes } = &block;
        let block =
            AuditBlock { cut, certificate: certificate.as_deref(), outcomes, batches: &batches };
        let summary = auditor.block(&block).map_err(|finding| wrong(stored, &finding))?;
        checked += summary.signatures;
        on_block(Done { blocks: height, blocks_total, signatures: checked });
    }
    auditor.finish().map_err(|finding| wrong(stored, &finding))
}

fn wrong(stored: &Ledger, finding: &ledger::Finding) -> Exit {
    stored.damaged(finding.height.get(), &finding.place.to_string(), &finding.what.to_string())
}

/// Finds the batches that a cut commits: from each of its tips back to the tip before.
fn committed(
    stored: &Ledger,
    auditor: &Auditor<'_>,
    block: &StoredBlock,
) -> Result<Vec<Vec<u8>>, Exit> {
    // What cannot be decoded commits nothing; the auditor names it.
    let Ok(cut) = Cut::decode(&block.cut) else {
        return Ok(Vec::new());
    };
    let tips = auditor.chain().tips();
    let mut batches = Vec::new();
    for lane in &cut.lanes {
        if let Some(tip) = tips.get(lane.lane) {
            let count = lane.sequence.saturating_sub(tip.sequence);
            batches.extend(stored.lane(&lane.digest, tip, count)?);
        }
    }
    Ok(batches)
}

fn render(
    location: &Location,
    genesis: &Genesis,
    backend: &str,
    verified: &Verified,
    paint: Paint,
) -> String {
    let Verified { storage, ledger, time } = verified;
    let mut table = Table::new(&[Side::Left, Side::Left]);
    table.row(["ledger".to_string(), location.segments.display().to_string()]);
    table.row(["network".to_string(), format!("{} ({})", genesis.digest(), genesis.name())]);
    let bytes = format!(
        "{} in {}, every byte checked",
        terminal::bytes(storage.bytes),
        terminal::counted(storage.segments, "segment")
    );
    table.row(["bytes".to_string(), bytes]);
    table.row(["blocks".to_string(), thousands(ledger.blocks)]);
    let outcomes: Vec<String> = Outcome::ALL
        .into_iter()
        .map(|outcome| (outcome, ledger.outcomes[usize::from(outcome.code())]))
        .filter(|(_, count)| *count > 0)
        .map(|(outcome, count)| format!("{} {}", thousands(count), outcome.as_str()))
        .collect();
    let mut transactions = thousands(ledger.transactions);
    if !outcomes.is_empty() {
        transactions.push_str(&format!(": {}", outcomes.join(", ")));
    }
    table.row(["transactions".to_string(), transactions]);
    let signatures = format!("{} checked ({backend})", thousands(ledger.signatures));
    table.row(["signatures".to_string(), signatures]);
    table.row(["history root".to_string(), ledger.history_root.to_string()]);
    table.row(["state root".to_string(), ledger.state_root.to_string()]);
    let speed = format!(
        "{}: {} transactions/s, {} signatures/s",
        terminal::duration(*time),
        thousands(per_second(ledger.transactions, *time)),
        thousands(per_second(ledger.signatures, *time))
    );
    table.row(["time".to_string(), speed]);
    if !storage.clean {
        table.row(["note", "the validator was not stopped in good order; nothing final is lost"]);
    }
    format!("{}{}\n", table.render(), paint.good("good: everything holds"))
}

fn document(genesis: &Genesis, verified: &Verified) -> serde_json::Value {
    let Verified { storage, ledger, time } = verified;
    json!({
        "good": true,
        "network": genesis.digest().to_string(),
        "segments": storage.segments,
        "groups": storage.groups,
        "records": storage.records,
        "bytes": storage.bytes,
        "clean": storage.clean,
        "blocks": ledger.blocks,
        "transactions": ledger.transactions,
        "signatures": ledger.signatures,
        "history_root": ledger.history_root.to_string(),
        "state_root": ledger.state_root.to_string(),
        "time_us": u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        "transactions_per_second": per_second(ledger.transactions, *time),
        "signatures_per_second": per_second(ledger.signatures, *time),
    })
}

/// How far the check is, on a terminal.
struct Progress {
    line: Option<StatusLine>,
    start: Instant,
    next: Instant,
}

impl Progress {
    fn new(wanted: bool) -> Self {
        let now = Instant::now();
        let line = wanted.then(StatusLine::stderr).flatten();
        Self { line, start: now, next: now + PROGRESS }
    }

    fn show(&mut self, done: Done) {
        let now = Instant::now();
        let Some(line) = self.line.as_mut().filter(|_| now >= self.next) else { return };
        self.next = now + PROGRESS;
        let time = self.start.elapsed();
        let left = done.blocks_total - done.blocks;
        let rest = time.checked_div(u32::try_from(done.blocks).unwrap_or(u32::MAX));
        let rest = rest.unwrap_or_default().saturating_mul(u32::try_from(left).unwrap_or(u32::MAX));
        line.write(&format!(
            "{} of {} blocks  {} signatures/s  {} s left",
            thousands(done.blocks),
            thousands(done.blocks_total),
            thousands(per_second(done.signatures, time)),
            rest.as_secs()
        ));
    }

    fn clear(&mut self) {
        if let Some(line) = &mut self.line {
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests;
