//! The stores that others use: one record after the other, each durable before the next begins.

use std::fs::OpenOptions;
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use commonware_runtime::{Runner as _, buffer::paged::CacheRef, tokio};
use commonware_storage::journal::contiguous::{Contiguous as _, variable};

use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, TableDefinition};
use tempfile::TempDir;

use super::append::{METRICS, Meter, Size};
use crate::suite::{Contender, Failure, Label, Metric, Round};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

/// Every rival that can be opened here.
///
/// Errors: the machine's.
pub(super) fn all(
    data: &Path,
    size: Size,
    body: &[u8],
) -> Result<Vec<Box<dyn Contender>>, Failure> {
    let open: &[Open] = &[
        |path| Ok(Box::new(Redb::open(path)?)),
        |path| Ok(Box::new(Fjall::open(path)?)),
        |path| Ok(Box::new(TokioUring::open(path)?)),
        |path| Ok(Box::new(Commonware::open(path)?)),
        #[cfg(feature = "rocksdb")]
        |path| Ok(Box::new(RocksDb::open(path)?)),
    ];
    let rival = |open: &Open| {
        let folder = tempfile::tempdir_in(data);
        let folder = folder.map_err(|error| Failure::machine("make a folder", error))?;
        let log = open(folder.path())?;
        let body = body.to_vec();
        Ok(Box::new(Rival { log, size, body, written: 0, _folder: folder }) as Box<dyn Contender>)
    };
    open.iter().map(rival).collect()
}

/// Opens one in a folder.
type Open = fn(&Path) -> Result<Box<dyn Log>, Failure>;

/// A store that makes one record after the other durable.
trait Log {
    fn name(&self) -> &'static str;

    /// Appends records from a number on and tells when each is durable.
    fn append(
        &mut self,
        from: u64,
        count: u32,
        body: &[u8],
        durable: &mut dyn FnMut(),
    ) -> Result<(), Failure>;

    fn read(&self, number: u64, bytes: usize) -> Result<Vec<u8>, Failure>;
}

struct Rival {
    log: Box<dyn Log>,
    size: Size,
    body: Vec<u8>,
    written: u64,
    /// Goes after the log, which is dropped first.
    _folder: TempDir,
}

impl Contender for Rival {
    fn label(&self) -> Label {
        Label::new(self.log.name()).with("depth", "1")
    }

    fn metrics(&self) -> &'static [Metric] {
        &METRICS
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.round()?;
        if self.log.read(self.written - 1, self.body.len())? == self.body {
            Ok(())
        } else {
            Err(Failure::Wrong("other bytes were read than were written".to_owned()))
        }
    }

    fn round(&mut self) -> Result<Round, Failure> {
        let mut meter = Meter::start(self.size);
        let mut began = Instant::now();
        let durable = &mut || {
            meter.record(began.elapsed());
            began = Instant::now();
        };
        self.log.append(self.written, self.size.groups, &self.body, durable)?;
        self.written += u64::from(self.size.groups);
        Ok(meter.finish())
    }
}

/// redb: a transaction for each record, durable when it is committed.
struct Redb(redb::Database);

impl Redb {
    fn open(path: &Path) -> Result<Self, Failure> {
        let database = redb::Database::create(path.join("redb"));
        database.map(Self).map_err(|error| Failure::machine("open redb", error))
    }

    fn put(&self, number: u64, body: &[u8]) -> Result<(), redb::Error> {
        let transaction = self.0.begin_write()?;
        transaction.open_table(TABLE)?.insert(number, body)?;
        transaction.commit()?;
        Ok(())
    }

    fn get(&self, number: u64) -> Result<Option<Vec<u8>>, redb::Error> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        Ok(table.get(number)?.map(|found| found.value().to_vec()))
    }
}

impl Log for Redb {
    fn name(&self) -> &'static str {
        "redb::insert"
    }

    fn append(
        &mut self,
        from: u64,
        count: u32,
        body: &[u8],
        durable: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        for number in from..from + u64::from(count) {
            self.put(number, body).map_err(|error| Failure::machine("write to redb", error))?;
            durable();
        }
        Ok(())
    }

    fn read(&self, number: u64, _bytes: usize) -> Result<Vec<u8>, Failure> {
        let found = self.get(number).map_err(|error| Failure::machine("read redb", error))?;
        found.ok_or_else(|| Failure::Wrong("a durable record is lost".to_owned()))
    }
}

/// fjall: an insertion, then its journal synced.
struct Fjall {
    database: fjall::Database,
    records: fjall::Keyspace,
}

impl Fjall {
    fn open(path: &Path) -> Result<Self, Failure> {
        let open = || -> fjall::Result<Self> {
            let database = fjall::Database::builder(path.join("fjall")).open()?;
            let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
            Ok(Self { database, records })
        };
        open().map_err(|error| Failure::machine("open fjall", error))
    }
}

impl Log for Fjall {
    fn name(&self) -> &'static str {
        "fjall::insert"
    }

    fn append(
        &mut self,
        from: u64,
        count: u32,
        body: &[u8],
        durable: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        for number in from..from + u64::from(count) {
            self.records
                .insert(number.to_be_bytes(), body)
                .and_then(|()| self.database.persist(PersistMode::SyncData))
                .map_err(|error| Failure::machine("write to fjall", error))?;
            durable();
        }
        Ok(())
    }

    fn read(&self, number: u64, _bytes: usize) -> Result<Vec<u8>, Failure> {
        let found = self.records.get(number.to_be_bytes());
        let found = found.map_err(|error| Failure::machine("read fjall", error))?;
        let lost = || Failure::Wrong("a durable record is lost".to_owned());
        Ok(found.ok_or_else(lost)?.to_vec())
    }
}

/// tokio-uring: a file that grows, written and synced through its runtime.
struct TokioUring {
    file: std::fs::File,
}

impl TokioUring {
    fn open(path: &Path) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(path.join("log"));
        Ok(Self { file: file.map_err(|error| Failure::machine("make a file", error))? })
    }
}

impl Log for TokioUring {
    fn name(&self) -> &'static str {
        "tokio-uring::write_at"
    }

    fn append(
        &mut self,
        from: u64,
        count: u32,
        body: &[u8],
        durable: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        let failed = |error| Failure::machine("write through tokio-uring", error);
        let file = self.file.try_clone().map_err(failed)?;
        let mut buffer = body.to_vec();
        tokio_uring::start(async {
            let file = tokio_uring::fs::File::from_std(file);
            for number in from..from + u64::from(count) {
                let offset = number * buffer.len() as u64;
                let (written, back) = file.write_all_at(buffer, offset).await;
                buffer = back;
                written?;
                file.sync_data().await?;
                durable();
            }
            file.close().await
        })
        .map_err(failed)
    }

    fn read(&self, number: u64, bytes: usize) -> Result<Vec<u8>, Failure> {
        use std::os::unix::fs::FileExt;
        let mut body = vec![0; bytes];
        let offset = number * u64::try_from(bytes).expect("64 bits");
        let read = self.file.read_exact_at(&mut body, offset);
        read.map(|()| body).map_err(|error| Failure::machine("read back", error))
    }
}

/// commonware-storage: its journal of items of any length, each committed, in a runtime of its own on
/// a thread of its own.
struct Commonware {
    /// Dropped to end the thread.
    orders: Option<SyncSender<Order>>,
    answers: Receiver<Result<Option<Vec<u8>>, String>>,
    thread: Option<JoinHandle<()>>,
}

/// What the journal is to do.
enum Order {
    Append(Bytes),
    Read(u64),
}

impl Commonware {
    fn open(path: &Path) -> Result<Self, Failure> {
        let (orders, next) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let runtime = tokio::Config::new().with_storage_directory(path.join("commonware"));
        let run = move || {
            tokio::Runner::new(runtime).start(|context| serve(context, next, answer));
        };
        let thread = std::thread::spawn(run);
        Ok(Self { orders: Some(orders), answers, thread: Some(thread) })
    }

    fn ask(&self, order: Order) -> Result<Option<Vec<u8>>, Failure> {
        let orders = self.orders.as_ref().expect("it runs");
        let gone = || Failure::Wrong("commonware's journal has ended".to_owned());
        orders.send(order).map_err(|_| gone())?;
        self.answers.recv().map_err(|_| gone())?.map_err(Failure::Wrong)
    }
}

/// Does one order after the other until there are no more.
async fn serve(
    context: tokio::Context,
    orders: Receiver<Order>,
    answer: SyncSender<Result<Option<Vec<u8>>, String>>,
) {
    let config = variable::Config {
        partition: "records".to_owned(),
        // About the bytes of one segment of ours.
        items_per_section: NonZeroU64::new(4_096).expect("not zero"),
        compression: None,
        codec_config: (..).into(),
        page_cache: CacheRef::new(
            NonZeroU16::new(4_096).expect("not zero"),
            NonZeroUsize::new(1_024).expect("not zero"),
        ),
        write_buffer: NonZeroUsize::new(2 << 20).expect("not zero"),
        replay_buffer: NonZeroUsize::new(1 << 20).expect("not zero"),
    };
    let mut journal = match variable::Journal::<_, Bytes>::init(context, config).await {
        Ok(journal) => journal,
        Err(error) => return drop(answer.send(Err(error.to_string()))),
    };
    while let Ok(order) = orders.recv() {
        let done = match order {
            Order::Append(body) => match append(journal, &body).await {
                Ok(after) => {
                    journal = after;
                    Ok(None)
                }
                // The journal is gone with its first failure.
                Err(error) => return drop(answer.send(Err(error.to_string()))),
            },
            Order::Read(position) => {
                let read = journal.read(position).await;
                read.map(|body| Some(body.to_vec())).map_err(|error| error.to_string())
            }
        };
        if answer.send(done).is_err() {
            return;
        }
    }
}

async fn append(
    journal: variable::Journal<tokio::Context, Bytes>,
    body: &Bytes,
) -> Result<variable::Journal<tokio::Context, Bytes>, commonware_storage::journal::Error> {
    let (journal, _) = journal.append(body).await?;
    journal.commit().await
}

impl Log for Commonware {
    fn name(&self) -> &'static str {
        "commonware-storage::journal"
    }

    fn append(
        &mut self,
        _from: u64,
        count: u32,
        body: &[u8],
        durable: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        let body = Bytes::copy_from_slice(body);
        for _ in 0..count {
            self.ask(Order::Append(body.clone()))?;
            durable();
        }
        Ok(())
    }

    fn read(&self, number: u64, _bytes: usize) -> Result<Vec<u8>, Failure> {
        let found = self.ask(Order::Read(number))?;
        found.ok_or_else(|| Failure::Wrong("a durable record is lost".to_owned()))
    }
}

impl Drop for Commonware {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, was an answer that did not come.
            let _ = thread.join();
        }
    }
}

/// RocksDB: a put with its write-ahead log synced.
#[cfg(feature = "rocksdb")]
struct RocksDb(rocksdb::DB);

#[cfg(feature = "rocksdb")]
impl RocksDb {
    fn open(path: &Path) -> Result<Self, Failure> {
        let database = rocksdb::DB::open_default(path.join("rocksdb"));
        database.map(Self).map_err(|error| Failure::Wrong(format!("open RocksDB: {error}")))
    }
}

#[cfg(feature = "rocksdb")]
impl Log for RocksDb {
    fn name(&self) -> &'static str {
        "rocksdb::put"
    }

    fn append(
        &mut self,
        from: u64,
        count: u32,
        body: &[u8],
        durable: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        let mut options = rocksdb::WriteOptions::default();
        options.set_sync(true);
        for number in from..from + u64::from(count) {
            let put = self.0.put_opt(number.to_be_bytes(), body, &options);
            put.map_err(|error| Failure::Wrong(format!("write to RocksDB: {error}")))?;
            durable();
        }
        Ok(())
    }

    fn read(&self, number: u64, _bytes: usize) -> Result<Vec<u8>, Failure> {
        let found = self.0.get(number.to_be_bytes());
        let found = found.map_err(|error| Failure::Wrong(format!("read RocksDB: {error}")))?;
        found.ok_or_else(|| Failure::Wrong("a durable record is lost".to_owned()))
    }
}
