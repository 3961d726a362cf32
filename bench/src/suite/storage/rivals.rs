//! The stores that others use: one record after the other, each durable before the next begins.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Instant;

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
    let open: [Open; 3] = [
        |path| Ok(Box::new(Redb::open(path)?)),
        |path| Ok(Box::new(Fjall::open(path)?)),
        |path| Ok(Box::new(TokioUring::open(path)?)),
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
