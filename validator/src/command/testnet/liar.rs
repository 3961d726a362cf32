//! A peer that lies about old blocks: it passes on what an honest one answers, and changes a byte of every batch.

use crate::history::wire::{Kind, PART_BYTES, Part};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Listens until the process ends; answers where.
///
/// Errors: the machine's.
pub fn start(honest: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Whoever goes away is no error.
            thread::spawn(move || drop(pass(client, honest)));
        }
    });
    Ok(address)
}

fn pass(client: TcpStream, honest: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(honest)?;
    let (mut questions, mut asked) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || drop(io::copy(&mut questions, &mut asked)));
    let (mut server, mut client) = (server, client);
    loop {
        let mut head = [0; PART_BYTES];
        server.read_exact(&mut head)?;
        let part = Part::decode(&head).ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = vec![0; part.bytes];
        server.read_exact(&mut bytes)?;
        if let (Kind::Batch, Some(last)) = (part.kind, bytes.last_mut()) {
            *last ^= 1;
        }
        client.write_all(&head)?;
        client.write_all(&bytes)?;
    }
}
