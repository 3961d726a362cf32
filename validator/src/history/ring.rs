//! Answers by io_uring: sealed segments are read into registered buffers and sent from them.
//!
//! Nothing that is under way is ever cancelled: the kernel would go on using the buffer. What takes too long has its
//! socket shut down, and ends by itself.

use super::{
    answer::{Answer, Step},
    serve::{LOOK, Limits, PART_TIME, QUESTION_TIME, Settings},
    wire::{Head, PART_BYTES, QUESTION_BYTES, Question, refusal},
};
use ledger::{Digest, batch::HEADER_BYTES, limits::BATCH_BYTES_MAX};
use std::{
    cell::RefCell,
    collections::VecDeque,
    io, iter,
    net::Shutdown,
    rc::Rc,
    time::{Duration, Instant},
};
use storage::{Place, Store};
use tokio_uring::{
    buf::{
        BoundedBuf as _, BoundedBufMut as _,
        fixed::{FixedBuf, FixedBufPool},
    },
    fs::File,
    net::{TcpListener, TcpStream},
};

/// Buffers that the kernel knows: 2.1 MiB, since all processes of a user may lock 8 MiB together, as kernels come.
const BUFFERS: usize = 4;
const BUFFER_BYTES: usize = PART_BYTES + BATCH_BYTES_MAX;
/// Entries of the ring: one operation for each connection, and one that accepts.
const ENTRIES: u32 = 64;
/// Segments whose files are kept open.
const FILES_MAX: usize = 8;
/// How long connections may take to end.
const STOP: Duration = Duration::from_secs(1);

type Pool = FixedBufPool<Vec<u8>>;

/// What all connections share, on one thread.
struct Shared {
    network: Digest,
    store: Store,
    /// None where they could not be registered.
    pool: Option<Pool>,
    limits: RefCell<Limits<Rc<TcpStream>>>,
    files: RefCell<VecDeque<(u64, Rc<File>)>>,
}

/// A ring, and buffers that it knows, where the kernel lets them be locked.
pub(super) struct Ring {
    runtime: tokio_uring::Runtime,
    pool: Option<Pool>,
}

impl Ring {
    /// Opens a ring for this thread.
    ///
    /// Errors: why this machine does not permit it.
    pub(super) fn open() -> io::Result<Self> {
        let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(ENTRIES))?;
        let pool =
            FixedBufPool::new(iter::repeat_with(|| Vec::with_capacity(BUFFER_BYTES)).take(BUFFERS));
        let registered = runtime.block_on(async { pool.register() });
        Ok(Self { runtime, pool: registered.is_ok().then_some(pool) })
    }

    /// What there is of it.
    pub(super) const fn reason(&self) -> &'static str {
        match self.pool {
            Some(_) => "registered buffers",
            None => "buffers not registered: no more memory may be locked",
        }
    }

    /// Answers until told to stop.
    ///
    /// Errors: the machine's.
    pub(super) fn serve(
        self,
        listener: std::net::TcpListener,
        settings: Settings,
    ) -> io::Result<()> {
        let Settings { network, store, bytes_per_second, validators, stop } = settings;
        let Self { runtime, pool } = self;
        let shared = Rc::new(Shared {
            network,
            store,
            pool,
            limits: RefCell::new(Limits::new(bytes_per_second, validators)),
            files: RefCell::default(),
        });
        // The ring itself waits for connections.
        listener.set_nonblocking(false)?;
        let door = listener.try_clone()?;
        let left = runtime.block_on(async move {
            let watched = shared.clone();
            let ending = stop.clone();
            tokio_uring::spawn(async move {
                while !ending.is_stopped() {
                    watched.limits.borrow().overdue(false).for_each(|it| end(it));
                    tokio::time::sleep(LOOK).await;
                }
                watched.limits.borrow().overdue(true).for_each(|it| end(it));
                // Whoever waits for a connection is told that none comes.
                let _ = rustix::net::shutdown(&door, rustix::net::Shutdown::Both);
            });
            let listener = TcpListener::from_std(listener);
            while !stop.is_stopped() {
                let Ok((stream, from)) = listener.accept().await else {
                    tokio::time::sleep(LOOK).await;
                    continue;
                };
                if stop.is_stopped() {
                    break;
                }
                let stream = Rc::new(stream);
                let admitted = shared.limits.borrow_mut().admit(from.ip(), stream.clone());
                let Some(id) = admitted else { continue };
                let shared = shared.clone();
                tokio_uring::spawn(async move {
                    // Whoever goes away, or is shut out, is no error.
                    let _ = shared.connection(&stream, id).await;
                    end(&stream);
                    shared.limits.borrow_mut().end(id);
                });
            }
            let patience = Instant::now() + STOP;
            while shared.limits.borrow().len() > 0 && Instant::now() < patience {
                shared.limits.borrow().overdue(true).for_each(|it| end(it));
                tokio::time::sleep(LOOK / 10).await;
            }
            shared.limits.borrow().len()
        });
        if left > 0 {
            // Something is still under way, and its buffer with it: the process ends soon, the memory stays until then.
            std::mem::forget(runtime);
        }
        Ok(())
    }
}

fn end(stream: &TcpStream) {
    // It may have ended by itself.
    let _ = stream.shutdown(Shutdown::Both);
}

impl Shared {
    async fn connection(&self, stream: &TcpStream, id: u64) -> io::Result<()> {
        loop {
            self.limits.borrow_mut().allow(id, QUESTION_TIME);
            let head = receive(stream, QUESTION_BYTES).await?;
            let head: &[u8; QUESTION_BYTES] = head.first_chunk().expect("as many were received");
            let question = match Question::decode(head, &self.network) {
                Ok(Head::Whole(question)) => Ok(question),
                Ok(Head::Walks(bytes)) => Question::decode_walks(&receive(stream, bytes).await?),
                Err(wrong) => Err(wrong),
            };
            match question {
                Ok(question) => self.answer(stream, id, question).await?,
                Err(wrong) => return stream.write_all(refusal(&wrong.to_string())).await.0,
            }
        }
    }

    async fn answer(&self, stream: &TcpStream, id: u64, question: Question) -> io::Result<()> {
        let mut answer = Answer::new(self.store.clone(), question);
        loop {
            match answer.step() {
                Step::Send(bytes) => {
                    self.wait(id, bytes.len()).await;
                    stream.write_all(bytes).await.0?;
                }
                Step::End(bytes) => {
                    self.wait(id, bytes.len()).await;
                    return stream.write_all(bytes).await.0;
                }
                Step::Read(place, header) => {
                    self.wait(id, header.len() + place.bytes as usize).await;
                    self.part(stream, &mut answer, place, &header).await?;
                }
            }
        }
    }

    /// Waits until so many bytes may leave.
    async fn wait(&self, id: u64, bytes: usize) {
        let wait = self.limits.borrow_mut().pay(bytes);
        self.limits.borrow_mut().allow(id, PART_TIME + wait);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads a body and sends it behind its header.
    async fn part(
        &self,
        stream: &TcpStream,
        answer: &mut Answer,
        place: Place,
        header: &[u8; PART_BYTES],
    ) -> io::Result<()> {
        let file = self.file(place.segment);
        let Some(file) = file else {
            // Of the newest segment the store knows what is there.
            let body = self.store.read(place).unwrap_or_default();
            if !answer.have_read(&body) {
                return Ok(());
            }
            return stream.write_all([&header[..], &body].concat()).await.0;
        };
        // Whoever is slow to take what it asked for must not keep buffers from the others.
        let buffer = self.pool.as_ref().and_then(|pool| pool.try_next(BUFFER_BYTES));
        let Some(mut buffer) = buffer else {
            let body = vec![0; place.bytes as usize];
            let (result, body) = file.read_exact_at(body, place.body_offset()).await;
            result?;
            if !answer.have_read(&body) {
                return Ok(());
            }
            return stream.write_all([&header[..], &body].concat()).await.0;
        };
        buffer.put_slice(header);
        let bytes = PART_BYTES + place.bytes as usize;
        let buffer = read(&file, buffer, bytes, place.body_offset()).await?;
        if !answer.have_read(&buffer[PART_BYTES..bytes.min(PART_BYTES + HEADER_BYTES)]) {
            return Ok(());
        }
        stream.write_fixed_all(buffer.slice(..bytes)).await.0
    }

    /// The file of a sealed segment.
    fn file(&self, segment: u64) -> Option<Rc<File>> {
        let mut files = self.files.borrow_mut();
        if let Some((_, file)) = files.iter().find(|(number, _)| *number == segment) {
            return Some(file.clone());
        }
        let file = Rc::new(File::from_std(self.store.sealed_file(segment).ok()??));
        files.push_front((segment, file.clone()));
        files.truncate(FILES_MAX);
        Some(file)
    }
}

/// Fills a registered buffer from behind the header up to a length.
async fn read(
    file: &File,
    mut buffer: FixedBuf,
    bytes: usize,
    offset: u64,
) -> io::Result<FixedBuf> {
    let mut filled = PART_BYTES;
    while filled < bytes {
        let at = offset + (filled - PART_BYTES) as u64;
        let (result, slice) = file.read_fixed_at(buffer.slice(filled..bytes), at).await;
        buffer = slice.into_inner();
        match result? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(buffer)
}

/// Receives just so many bytes.
async fn receive(stream: &TcpStream, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        let (result, slice) = stream.read(buffer.slice(filled..)).await;
        buffer = slice.into_inner();
        match result? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(buffer)
}
