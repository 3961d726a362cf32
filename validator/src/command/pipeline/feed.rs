//! Hands transactions in and counts what comes back, with a bounded number under way.

use super::result::{Mark, Measured};
use crate::handle::{Admission, Answer, Budget, NodeHandle, Outbox, OutboxCounters, Reply};
use crate::wire::{self, Frames};
use ledger::Digest;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Answers that may wait: far more than what is under way.
const ANSWERS_BYTES: usize = 64 << 20;
/// Handed in before answers are looked at again.
const TURN: usize = 256;
/// How long to wait where nothing has come.
const PAUSE: Duration = Duration::from_micros(200);
/// Time until the node takes transactions.
const READY: Duration = Duration::from_secs(30);
/// A node that says nothing for this long does not go on.
const SILENT: Duration = Duration::from_secs(20);
/// This share of all is not measured: queues fill, memory is touched for the first time.
const WARM_UP_PERCENT: usize = 20;

/// Hands all of them in, in their order, and measures from the end of the warm-up until the last has left.
///
/// Errors: a sentence, when the node refuses one or stops answering.
pub(super) fn run(
    handle: &NodeHandle,
    transactions: Vec<(Vec<u8>, Digest)>,
    window: usize,
) -> Result<Measured, String> {
    wait_until_ready(handle)?;
    let all = transactions.len();
    let budget = Arc::new(Budget::new(ANSWERS_BYTES));
    let outbox = Arc::new(Outbox::new(ANSWERS_BYTES, budget, OutboxCounters::default()));
    let mut answers = Answers {
        outbox: Arc::clone(&outbox),
        frames: Frames::new(wire::ANSWER_BYTES_MAX),
        bytes: Vec::new(),
        open: HashSet::with_capacity(window),
        told_final: 0,
    };
    let (mut first, mut last) = (None, None);
    let mut waiting = transactions.into_iter();
    let mut heard = Instant::now();
    loop {
        // What is not taken now would be refused.
        let is_congested = handle.is_congested();
        let room = if is_congested { 0 } else { window - answers.open.len() };
        for (bytes, id) in waiting.by_ref().take(room.min(TURN)) {
            answers.open.insert(id);
            handle.take(bytes, Reply::Tcp(Arc::clone(&outbox)));
        }
        let count = answers.take()?;
        if answers.told_final >= all * WARM_UP_PERCENT / 100 {
            first.get_or_insert_with(|| Mark::now(answers.told_final));
        }
        if waiting.len() == 0 {
            last.get_or_insert_with(|| Mark::now(answers.told_final));
            if answers.open.is_empty() {
                break;
            }
        }
        if count > 0 {
            heard = Instant::now();
        } else if heard.elapsed() > SILENT {
            let open = answers.open.len();
            return Err(format!("no answer for {} s, {open} are under way", SILENT.as_secs()));
        }
        // Whoever waits leaves the cores to the node.
        if is_congested || answers.open.len() == window || (count == 0 && waiting.len() == 0) {
            std::thread::sleep(PAUSE);
        }
    }
    let marks = first.zip(last).filter(|(first, last)| first.told_final < last.told_final);
    let marks =
        marks.ok_or("too few transactions to measure anything: --transactions must be more")?;
    let told_final = u64::try_from(answers.told_final).unwrap_or(u64::MAX);
    Ok(Measured::between(&marks.0, &marks.1, told_final))
}

fn wait_until_ready(handle: &NodeHandle) -> Result<(), String> {
    let until = Instant::now() + READY;
    // The first block says that the engine runs.
    while handle.status.admission() != Admission::Open || handle.status.snapshot().height == 0 {
        if Instant::now() > until {
            return Err(format!("the node is not ready after {} s", READY.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What comes back.
struct Answers {
    outbox: Arc<Outbox>,
    frames: Frames,
    bytes: Vec<u8>,
    open: HashSet<Digest>,
    told_final: usize,
}

impl Answers {
    /// Takes what waits; returns how many answers it was.
    fn take(&mut self) -> Result<usize, String> {
        self.outbox.take(&mut self.bytes);
        let Self { outbox, frames, bytes, open, told_final } = self;
        let (mut count, mut refused) = (0, None);
        let read = frames.feed(bytes, |frame| {
            count += 1;
            match wire::decode_answer(frame)? {
                Answer::Final { id, outcome, .. } if outcome.pays() && open.remove(&id) => {
                    *told_final += 1;
                }
                Answer::Accepted { .. } => {}
                other => refused = Some(other),
            }
            Ok(())
        });
        read.map_err(|reject| format!("an answer cannot be read: {reject}"))?;
        outbox.written(bytes.len());
        bytes.clear();
        match refused {
            None => Ok(count),
            Some(answer) => Err(format!("a transaction was not taken: {answer:?}")),
        }
    }
}
