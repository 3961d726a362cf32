//! Reads of sealed segments from the page cache: by place, in order with every hash checked, and
//! plain `pread` of the same files.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use storage::{Body, NO_HEIGHT, Options, Place, Record, Store};
use tempfile::TempDir;

use super::{random_bytes, size_name};
use crate::suite::{
    Better, Contender, Failure, Group, Label, Metric, Plan, Round, Rounds, Scale, Settings,
};

const METRICS: [Metric; 1] = [Metric { name: "bandwidth", unit: "MB/s", better: Better::Higher }];

/// About a small batch of transactions.
const BODY_BYTES: usize = 64 << 10;
/// Any kind that is no other record's.
const KIND: u8 = 1;
/// A record is written once as zeros and once for good.
const WRITTEN_TIMES: u64 = 2;

/// How much is written to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    records: u32,
    segment_bytes: u64,
}

impl Size {
    /// What the group writes, zeros and the spare segment included.
    pub(super) fn bytes_written(self) -> u64 {
        let body_bytes = u64::try_from(BODY_BYTES).expect("a usize has at most 64 bits");
        u64::from(self.records) * body_bytes * WRITTEN_TIMES + 3 * self.segment_bytes
    }
}

/// The size of a run.
pub(super) fn size(scale: Scale) -> Size {
    let (records, segment_bytes) = scale.pick((1_024, 16 << 20), (96, 2 << 20), (12, 512 << 10));
    Size { records, segment_bytes }
}

/// Plans the group.
pub(super) fn plan(settings: &Settings, size: Size, rounds: Rounds) -> Plan {
    let (data, seed) = (settings.data.clone(), settings.seed);
    let parameters = vec![("body", size_name(BODY_BYTES)), ("cache", "warm".to_owned())];
    Plan { parameters, open: Box::new(move || open(&data, seed, size, rounds)) }
}

fn open(data: &Path, seed: u64, size: Size, rounds: Rounds) -> Result<Group, Failure> {
    let written = Rc::new(Written::new(data, seed, size)?);
    let contenders = [Way::Pread, Way::PreadHash, Way::Places, Way::Records, Way::Sum, Way::Views];
    let contenders = contenders
        .into_iter()
        .map(|way| Box::new(Reading { written: Rc::clone(&written), way }) as Box<dyn Contender>)
        .collect();
    Ok(Group { rounds, contenders, skipped: Vec::new() })
}

/// A store whose sealed segments are read.
struct Written {
    store: Store,
    /// The records in sealed segments, in order.
    places: Vec<Place>,
    /// Those segments' files.
    files: Vec<File>,
    body: Vec<u8>,
    /// As many bytes as all records have.
    memory: Vec<u8>,
    _folder: TempDir,
}

impl Written {
    fn new(data: &Path, seed: u64, size: Size) -> Result<Self, Failure> {
        let folder =
            tempfile::tempdir_in(data).map_err(|error| Failure::machine("make a folder", error))?;
        let options = Options { segment_bytes: size.segment_bytes, ..Options::new([0xbe; 32]) };
        let failed = |error| Failure::machine("write a store", error);
        let (store, _) = Store::open(folder.path(), &options).map_err(failed)?;
        let body = random_bytes(seed, 0, BODY_BYTES);
        let shared = Body::from(body.clone());
        for _ in 0..size.records {
            let body = shared.clone();
            let record = Record { kind: KIND, height: NO_HEIGHT, key: [0; 32], body };
            store.append(vec![record], None).map_err(failed)?;
        }
        let ticket = store.append(Vec::new(), None).map_err(failed)?;
        store.wait(ticket).map_err(failed)?;
        let mut places = Vec::new();
        for record in store.records() {
            places.push(record.map_err(failed)?.0);
        }
        let newest = places.last().map_or(0, |place| place.segment);
        places.retain(|place| place.segment < newest);
        let files = segments(folder.path(), newest)
            .map_err(|error| Failure::machine("open a segment", error))?;
        if files.is_empty() {
            return Err(Failure::Wrong("no segment was sealed".to_owned()));
        }
        let memory = body.repeat(places.len());
        Ok(Self { store, places, files, body, memory, _folder: folder })
    }
}

/// The files of all segments below one, in order; their names are their numbers.
fn segments(folder: &Path, below: u64) -> std::io::Result<Vec<File>> {
    let mut paths: Vec<_> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    let below = usize::try_from(below).expect("there are few segments");
    paths.iter().take(below).map(File::open).collect()
}

/// How the same bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `pread` of whole files, unchecked: the floor.
    Pread,
    /// The same, and BLAKE3 over it: the floor of a checked read.
    PreadHash,
    /// Record by record; a group's hash is checked when it is first read.
    Places,
    /// All in order; every group's hash is checked every time.
    Records,
    /// As many bytes of anonymous memory added up: what memory gives.
    Sum,
    /// Record by record through the map, added up where they lie.
    Views,
}

struct Reading {
    written: Rc<Written>,
    way: Way,
}

impl Reading {
    /// Reads everything once; returns the bytes, and whether records were what was written.
    fn read(&self, check: bool) -> Result<(u64, bool), Failure> {
        let written = &self.written;
        match self.way {
            Way::Pread => pread(&written.files, |_| ()),
            Way::PreadHash => {
                let mut hasher = blake3::Hasher::new();
                let read = pread(&written.files, |piece| {
                    hasher.update(piece);
                });
                std::hint::black_box(hasher.finalize());
                read
            }
            Way::Places => {
                let read = |place: &Place| written.store.read(*place);
                sum(written.places.iter().map(read), check, &written.body)
            }
            Way::Sum => {
                let pieces = written.memory.chunks(BODY_BYTES);
                let sums: u64 = pieces.map(words_sum).fold(0, u64::wrapping_add);
                std::hint::black_box(sums);
                Ok((u64::try_from(written.memory.len()).expect("64 bits"), true))
            }
            Way::Views => {
                let (mut total, mut sums, mut equal) = (0, 0_u64, true);
                for place in &written.places {
                    let view = written.store.view(*place);
                    let view = view.map_err(|error| Failure::machine("view a record", error))?;
                    sums = sums.wrapping_add(words_sum(&view));
                    equal &= !check || *view == *written.body;
                    total += u64::from(place.bytes);
                }
                std::hint::black_box(sums);
                Ok((total, equal))
            }
            Way::Records => {
                let count = written.places.len();
                let records = written.store.records().take(count);
                let bodies = records.map(|record| record.map(|(_, _, body)| body));
                sum(bodies, check, &written.body)
            }
        }
    }
}

/// The sum of all whole words: every byte is looked at, and little else is done.
fn words_sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

/// Reads files from begin to end in pieces of a record's size.
fn pread(files: &[File], mut each: impl FnMut(&[u8])) -> Result<(u64, bool), Failure> {
    let failed = |error| Failure::machine("read a segment", error);
    let mut piece = vec![0; BODY_BYTES];
    let mut total = 0;
    for file in files {
        let mut offset = 0;
        loop {
            let count = file.read_at(&mut piece, offset).map_err(failed)?;
            if count == 0 {
                break;
            }
            each(&piece[..count]);
            std::hint::black_box(&piece);
            offset += u64::try_from(count).expect("a usize has at most 64 bits");
        }
        total += offset;
    }
    Ok((total, true))
}

fn sum(
    bodies: impl Iterator<Item = Result<Vec<u8>, storage::Error>>,
    check: bool,
    expected: &[u8],
) -> Result<(u64, bool), Failure> {
    let (mut total, mut equal) = (0, true);
    for body in bodies {
        let body = body.map_err(|error| Failure::machine("read a record", error))?;
        total += u64::try_from(body.len()).expect("a usize has at most 64 bits");
        equal &= !check || body == expected;
        std::hint::black_box(&body);
    }
    Ok((total, equal))
}

impl Contender for Reading {
    fn label(&self) -> Label {
        Label::new(match self.way {
            Way::Pread => "naive::pread",
            Way::PreadHash => "naive::pread_hash",
            Way::Places => "storage::read",
            Way::Records => "storage::records",
            Way::Sum => "memory::sum",
            Way::Views => "storage::view",
        })
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        let (total, equal) = self.read(true)?;
        let records = u64::try_from(self.written.places.len()).expect("fits");
        let body_bytes = u64::try_from(BODY_BYTES).expect("a usize has at most 64 bits");
        if equal && total >= records * body_bytes {
            Ok(())
        } else {
            Err(Failure::Wrong("other bytes were read than were written".to_owned()))
        }
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let began = Instant::now();
        let (total, _) = self.read(false)?;
        let elapsed_s = began.elapsed().as_secs_f64();
        let total = u32::try_from(total).expect("a group reads less than 4 GiB");
        Ok(Round::valid(vec![f64::from(total) / 1e6 / elapsed_s]))
    }
}
