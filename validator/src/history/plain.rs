//! The portable twin: a thread for each connection, plain reads and writes.

use super::{
    answer::{Answer, Step},
    serve::{LOOK, Limits, PART_TIME, QUESTION_TIME, Settings},
    wire::{Head, QUESTION_BYTES, Question, refusal},
};
use ledger::Digest;
use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};
use storage::Store;

type Shared = Arc<Mutex<Limits<TcpStream>>>;

/// Answers until told to stop.
///
/// Errors: the machine's.
pub(super) fn serve(listener: TcpListener, settings: Settings) -> io::Result<()> {
    let Settings { network, store, bytes_per_second, validators, stop } = settings;
    let shared: Shared = Arc::new(Mutex::new(Limits::new(bytes_per_second, validators)));
    listener.set_nonblocking(true)?;
    while !stop.is_stopped() {
        lock(&shared).overdue(false).for_each(end);
        match listener.accept() {
            Ok((stream, from)) => {
                let (stored, limits) = (store.clone(), shared.clone());
                // Where the machine is short of something, this one goes without.
                let Ok(()) = stream.set_nonblocking(false) else { continue };
                let Ok(other) = stream.try_clone() else { continue };
                let Some(id) = lock(&shared).admit(from.ip(), other) else { continue };
                let run = move || {
                    // Whoever goes away, or is shut out, is no error.
                    let _ = connection(&stream, id, network, &stored, &limits);
                    end(&stream);
                    lock(&limits).end(id);
                };
                let thread = std::thread::Builder::new().name("history-answer".to_owned());
                if thread.spawn(run).is_err() {
                    lock(&shared).end(id);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK / 5),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
    lock(&shared).overdue(true).for_each(end);
    Ok(())
}

fn end(stream: &TcpStream) {
    // It may have ended by itself.
    let _ = stream.shutdown(Shutdown::Both);
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Limits<TcpStream>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connection(
    mut stream: &TcpStream,
    id: u64,
    network: Digest,
    store: &Store,
    limits: &Shared,
) -> io::Result<()> {
    loop {
        lock(limits).allow(id, QUESTION_TIME);
        let mut head = [0; QUESTION_BYTES];
        stream.read_exact(&mut head)?;
        let question = match Question::decode(&head, &network) {
            Ok(Head::Whole(question)) => Ok(question),
            Ok(Head::Walks(bytes)) => {
                let mut walks = vec![0; bytes];
                stream.read_exact(&mut walks)?;
                Question::decode_walks(&walks)
            }
            Err(wrong) => Err(wrong),
        };
        let question = match question {
            Ok(question) => question,
            Err(wrong) => return stream.write_all(&refusal(&wrong.to_string())),
        };
        let mut answer = Answer::new(store.clone(), question);
        loop {
            let (bytes, is_last) = match answer.step() {
                Step::Send(bytes) => (bytes, false),
                Step::End(bytes) => (bytes, true),
                Step::Read(place, header) => {
                    let body = store.read(place).unwrap_or_default();
                    if !answer.have_read(&body) {
                        continue;
                    }
                    ([&header[..], &body].concat(), false)
                }
            };
            let wait = lock(limits).pay(bytes.len());
            lock(limits).allow(id, PART_TIME + wait);
            std::thread::sleep(wait);
            stream.write_all(&bytes)?;
            if is_last {
                break;
            }
        }
    }
}
