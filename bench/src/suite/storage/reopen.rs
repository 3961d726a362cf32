//! Opening a large store again, after it was closed and after it was not; and the check of every byte.
//!
//! The store is written once, in batches as a validator's lanes carry them. What opening reads is in
//! the page cache, as after a restart of the process alone.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use storage::{Body, Options, Record, Store};
use tempfile::TempDir;

use super::random_bytes;
use crate::suite::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Scale, Settings,
};

/// A batch.
const BODY_BYTES: usize = 512 << 10;
/// Any kind that is no other record's.
const KIND: u8 = 1;

const TIME: [Metric; 1] = [Metric { name: "time_ms", unit: "ms", better: Better::Lower }];
const BANDWIDTH: [Metric; 1] = [Metric { name: "bandwidth", unit: "MB/s", better: Better::Higher }];

/// What is done, and to a store of how many bytes.
fn cases(scale: Scale) -> [(&'static [Way], u64); 2] {
    [
        (&[Way::Closed, Way::Killed], scale.pick(10 << 30, 1 << 30, 4 << 20)),
        (&[Way::Verify], scale.pick(2 << 30, 512 << 20, 4 << 20)),
    ]
}

/// Bytes of a run, zeros and spare segments included.
pub(super) fn bytes_written(scale: Scale) -> u64 {
    cases(scale).iter().map(|(_, bytes)| 2 * bytes + (1 << 30)).sum()
}

/// Plans the groups.
pub(super) fn plans(settings: &Settings, rounds: Rounds) -> Vec<Plan> {
    let plan = |(ways, bytes): (&'static [Way], u64)| {
        let (data, seed, scale) = (settings.data.clone(), settings.seed, settings.scale);
        let parameters = vec![("store", format!("{}MiB", bytes >> 20))];
        let open = move || open(&data, seed, scale, rounds, (ways, bytes));
        Plan { parameters, open: Box::new(open) }
    };
    cases(settings.scale).into_iter().map(plan).collect()
}

fn open(
    data: &Path,
    seed: u64,
    scale: Scale,
    rounds: Rounds,
    (ways, bytes): (&'static [Way], u64),
) -> Result<Group, Failure> {
    let folder =
        tempfile::tempdir_in(data).map_err(|error| Failure::machine("make a folder", error))?;
    let segment_bytes = scale.pick(storage::SEGMENT_BYTES, storage::SEGMENT_BYTES, 2 << 20);
    let options = Options { segment_bytes, ..Options::new([0xbe; 32]) };
    let written = Rc::new(Written { folder, options, body: random_bytes(seed, 9, BODY_BYTES) });
    let records = written.write(bytes)?;
    let contenders = ways
        .iter()
        .map(|way| {
            let written = Rc::clone(&written);
            Box::new(Reopen { written, records, way: *way }) as Box<dyn Contender>
        })
        .collect();
    Ok(Group { rounds, contenders, skipped: Vec::new() })
}

struct Written {
    folder: TempDir,
    options: Options,
    body: Vec<u8>,
}

impl Written {
    fn open(&self) -> Result<(Store, storage::Recovery), Failure> {
        Store::open(self.folder.path(), &self.options)
            .map_err(|error| Failure::machine("open a store", error))
    }

    /// Writes batches and closes the store; answers how many.
    fn write(&self, bytes: u64) -> Result<u64, Failure> {
        let failed = |error| Failure::machine("write a store", error);
        let (store, _) = self.open()?;
        let body = Body::from(self.body.clone());
        let records = bytes / u64::try_from(BODY_BYTES).expect("64 bits");
        for number in 0..records {
            let mut key = [1; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            let record = Record { kind: KIND, height: number, key, body: body.clone() };
            store.append(vec![record], None).map_err(failed)?;
        }
        store.close().map_err(failed)?;
        Ok(records)
    }
}

/// What is done with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is opened; before, it was closed in good order.
    Closed,
    /// It is opened; before, its last handle went without a word, as when a process is killed.
    Killed,
    /// Every byte is checked, on one thread.
    Verify,
}

struct Reopen {
    written: Rc<Written>,
    records: u64,
    way: Way,
}

impl Reopen {
    /// Opens, checks that all is there, and leaves the store as the next round wants it.
    fn reopen(&self) -> Result<Duration, Failure> {
        let began = Instant::now();
        let (store, recovery) = self.written.open()?;
        let elapsed = began.elapsed();
        if recovery.records < self.records || store.find(KIND, &[1; 32]).is_some() {
            return Err(Failure::Wrong(format!("{} records are there", recovery.records)));
        }
        if self.way == Way::Killed {
            let body = Body::from(vec![1]);
            let record = Record { kind: 2, height: 0, key: [0; 32], body };
            let failed = |error| Failure::machine("append", error);
            let ticket = store.append(vec![record], None).map_err(failed)?;
            store.wait(ticket).map_err(failed)?;
            drop(store);
        } else {
            store.close().map_err(|error| Failure::machine("close a store", error))?;
        }
        Ok(elapsed)
    }
}

impl Contender for Reopen {
    fn label(&self) -> Label {
        match self.way {
            Way::Closed => Label::new("storage::open").with("before", "closed"),
            Way::Killed => Label::new("storage::open").with("before", "killed"),
            Way::Verify => Label::new("storage::verify"),
        }
    }

    fn metrics(&self) -> &'static [Metric] {
        if self.way == Way::Verify { &BANDWIDTH } else { &TIME }
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.reopen().map(|_| ())
    }

    fn round(&mut self) -> Result<Round, Failure> {
        if self.way != Way::Verify {
            return Ok(Round::valid(vec![self.reopen()?.as_secs_f64() * 1e3]));
        }
        let began = Instant::now();
        let verified = storage::verify(self.written.folder.path(), None)
            .map_err(|error| Failure::Wrong(format!("a whole store is damaged: {error}")))?;
        let elapsed_s = began.elapsed().as_secs_f64();
        Ok(Round::valid(vec![verified.bytes as f64 / 1e6 / elapsed_s]))
    }
}
