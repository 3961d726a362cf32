//! `ledger verify`: replays a stored ledger from genesis and names the first thing that is wrong.

use super::store::{Ledger, Location, StoredBlock, exit_of};
use crate::command::Exit;
use crate::command::terminal::{
    self, Paint, Side, StatusLine, Table, per_second, say, say_json, thousands,
};
use crate::votes::Judge;
use crossbeam::channel::{Receiver, Sender, bounded};
use ledger::{
    AuditBlock, Auditor, Bodies, Cut, Epochs, Genesis, Outcome, Signatures, Summary, Tip, Tips,
    ValidatorSet,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
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
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    // Each thread does all for its blocks, so that nobody waits for the slowest of many.
    let options = sigverify::Options { backend: None, threads: 1 };
    let verifier =
        sigverify::Verifier::new(&options).map_err(|error| Exit::host_unfit(error.to_string()))?;
    let backend = verifier.backend().name.to_string();
    let judge = Judge::new(Arc::new(verifier));
    let mut progress = Progress::new(!json);
    let result = verify(&location, &genesis, &judge, threads, &mut |done| progress.show(done));
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

/// Checks every byte of the segments and every block from genesis on.
///
/// Errors: data corrupt, with the first thing that is wrong: with the bytes before the blocks.
pub fn verify(
    location: &Location,
    genesis: &Genesis,
    signatures: &dyn Signatures,
    threads: usize,
    on_block: &mut dyn FnMut(Done),
) -> Result<Verified, Exit> {
    let start = Instant::now();
    let network = genesis.digest();
    std::thread::scope(|scope| {
        let bytes = scope.spawn(|| storage::verify(&location.segments, Some(*network.as_bytes())));
        let audited = Ledger::open(location, Some(&network))
            .and_then(|stored| audit(&stored, genesis, signatures, threads, on_block));
        let storage = bytes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let storage = storage.map_err(|error| exit_of(&location.segments, &error))?;
        Ok(Verified { storage, ledger: audited?, time: start.elapsed() })
    })
}

/// Transactions, about, that are checked together: enough for the verifier to gain all that bulk gains.
const GROUP_TRANSACTIONS: u64 = 8_192;
/// Blocks that are checked together at most.
const GROUP_BLOCKS: usize = 512;

/// Blocks on their way to the auditor.
struct Group {
    number: u64,
    blocks: Vec<StoredBlock>,
    batches: Vec<Vec<Vec<u8>>>,
}

/// Blocks with their batches checked.
struct Checked {
    blocks: Vec<StoredBlock>,
    bodies: Vec<Bodies>,
}

/// Checks every block from genesis on: one thread reads, `threads` check what no other block has to do with, and
/// this one does the rest in order.
///
/// Errors: data corrupt, with the height and what is wrong there.
pub fn audit(
    stored: &Ledger,
    genesis: &Genesis,
    signatures: &dyn Signatures,
    threads: usize,
    on_block: &mut dyn FnMut(Done),
) -> Result<Summary, Exit> {
    let (read, groups) = bounded::<Group>(threads);
    let (check, checked) = bounded::<(u64, Checked)>(threads);
    // Groups that are further on than the next one wait for it in memory; no more are begun than so many.
    let (permits, permitted) = bounded::<()>(2 * threads + 2);
    for _ in 0..2 * threads + 2 {
        permits.send(()).expect("there is room for all of them");
    }
    let auditor = Auditor::new(genesis, signatures);
    let sets = RwLock::new(auditor.sets());
    std::thread::scope(|scope| {
        // Gone with this closure, however that ends, so that nobody waits for what never comes.
        let permits = permits;
        let reader = scope.spawn(move || read_groups(stored, genesis, &read, &permitted));
        for _ in 0..threads {
            let (groups, check, sets) = (groups.clone(), check.clone(), &sets);
            scope.spawn(move || {
                for Group { number, blocks, batches } in groups {
                    // Owners of an epoch that the auditor has not come near to are left to it.
                    let known = sets.read().unwrap_or_else(PoisonError::into_inner).clone();
                    let bodies = Bodies::check(&genesis.digest(), &known, batches, signatures);
                    if check.send((number, Checked { blocks, bodies })).is_err() {
                        return;
                    }
                }
            });
        }
        drop((groups, check));
        let mut auditor = auditor;
        let (mut waiting, mut next, mut count) = (BTreeMap::new(), 0, 0);
        let blocks_total = stored.last_height_of_any();
        for (number, group) in checked {
            waiting.insert(number, group);
            while let Some(Checked { blocks, bodies }) = waiting.remove(&next) {
                next += 1;
                for (block, bodies) in blocks.iter().zip(bodies) {
                    let StoredBlock { cut, certificate, outcomes, set } = block;
                    let (certificate, set) = (certificate.as_deref(), set.as_deref());
                    let block = AuditBlock { cut, certificate, outcomes, batches: &[], set };
                    let summary = auditor
                        .block_checked(&block, bodies)
                        .map_err(|finding| wrong(stored, &finding))?;
                    count += summary.signatures;
                    let blocks = summary.height.get();
                    on_block(Done { blocks, blocks_total, signatures: count });
                }
                let now = auditor.sets();
                let is_new = *sets.read().unwrap_or_else(PoisonError::into_inner) != now;
                if is_new {
                    *sets.write().unwrap_or_else(PoisonError::into_inner) = now;
                }
                // The reader may have come to the end.
                let _ = permits.try_send(());
            }
        }
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        auditor.finish().map_err(|finding| wrong(stored, &finding))
    })
}

/// Reads all blocks and the batches that they commit, some at a time.
///
/// Errors: what cannot be read; all before it is handed on.
fn read_groups(
    stored: &Ledger,
    genesis: &Genesis,
    read: &Sender<Group>,
    permitted: &Receiver<()>,
) -> Result<(), Exit> {
    // As the cuts say it, which nobody has checked yet: what is not so is found by the auditor.
    let mut tips = Tips::genesis(genesis.set().len());
    let epochs = genesis.parameters().epochs();
    let mut height = 0;
    let last = stored.last_height_of_any();
    for number in 0.. {
        let mut group = Group { number, blocks: Vec::new(), batches: Vec::new() };
        let mut transactions = 0;
        let mut end = if height < last { Ok(()) } else { return Ok(()) };
        while height < last
            && transactions < GROUP_TRANSACTIONS
            && group.blocks.len() < GROUP_BLOCKS
        {
            let block = stored.block(height + 1).and_then(|block| {
                let missing = "missing, although later records exist";
                let block = block.ok_or_else(|| stored.damaged(height + 1, "cut", missing))?;
                let batches = committed(stored, &mut tips, &block)?;
                turn(&epochs, &mut tips, &block);
                Ok((block, batches))
            });
            match block {
                Ok((block, batches)) => {
                    height += 1;
                    // An outcome takes 33 bytes, which is how many transactions there are, about.
                    transactions += (block.outcomes.len() / 33) as u64;
                    group.blocks.push(block);
                    group.batches.push(batches);
                }
                Err(exit) => {
                    end = Err(exit);
                    break;
                }
            }
        }
        // Whoever checks may have found something and gone.
        if permitted.recv().is_err() || read.send(group).is_err() {
            return Ok(());
        }
        end?;
    }
    Ok(())
}

fn wrong(stored: &Ledger, finding: &ledger::Finding) -> Exit {
    stored.damaged(finding.height.get(), &finding.place.to_string(), &finding.what.to_string())
}

/// Begins with the lanes of the next epoch where a block is the last of one.
fn turn(epochs: &Epochs, tips: &mut Tips, block: &StoredBlock) {
    let Ok(cut) = Cut::decode(&block.cut) else { return };
    if epochs.is_last(cut.height) {
        let next = block.set.as_deref().and_then(|set| ValidatorSet::decode(set).ok());
        *tips = Tips::genesis(next.map_or(tips.lanes(), |set| set.len()));
    }
}

/// Finds the batches that a cut commits, from each of its tips back to the tip before, and moves the tips.
fn committed(stored: &Ledger, tips: &mut Tips, block: &StoredBlock) -> Result<Vec<Vec<u8>>, Exit> {
    // What cannot be decoded commits nothing; the auditor names it.
    let Ok(cut) = Cut::decode(&block.cut) else {
        return Ok(Vec::new());
    };
    let mut batches = Vec::new();
    for lane in &cut.lanes {
        if let Some(tip) = tips.0.get_mut(lane.lane as usize) {
            let count = lane.sequence.saturating_sub(tip.sequence);
            batches.extend(stored.lane(&lane.digest, tip, count)?);
            *tip = Tip { sequence: lane.sequence, digest: lane.digest };
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
