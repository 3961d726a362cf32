//! One socket and the rings of an interface, waited for together.
//!
//! Every call takes from each of them up to [`BATCH_PACKETS_MAX`](super::BATCH_PACKETS_MAX)
//! packets, whatever the others bring: none can starve another.

use std::{io, os::fd::AsFd as _, time::Duration};

use super::{Batch, Receiver, Ring, is_pause, sys};
use crate::Error;

/// A socket with rings, from which packets come that never enter the kernel's stack.
pub struct Ingress {
    receiver: Receiver,
    rings: Box<[Ring]>,
    waited: Box<[sys::Waited]>,
}

impl Ingress {
    /// Joins a socket with rings, or with none.
    pub fn new(receiver: Receiver, rings: Vec<Ring>) -> Self {
        let waited = vec![sys::Waited::new(None); rings.len() + 1].into_boxed_slice();
        Self { receiver, rings: rings.into_boxed_slice(), waited }
    }

    /// The socket.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// The socket, for its drop counter.
    pub fn receiver_mut(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// The rings.
    pub fn rings(&self) -> &[Ring] {
        &self.rings
    }

    /// The rings, to ask whether they still receive: see [`Ring::failure`].
    pub fn rings_mut(&mut self) -> &mut [Ring] {
        &mut self.rings
    }

    /// The memory that packets can take.
    pub fn memory_bytes(&self) -> usize {
        self.receiver.memory_bytes() + self.rings.iter().map(Ring::memory_bytes).sum::<usize>()
    }

    /// Waits for packets and takes those that are there, or none when the time has passed, a signal
    /// came, or what came was no packet. A timeout of zero does not wait.
    ///
    /// A ring whose interface is gone brings nothing, and the others go on.
    ///
    /// Errors: [`Error::Receive`] when the socket fails; [`Error::Socket`] when its timeout cannot
    /// be set.
    pub fn receive(&mut self, timeout: Duration) -> Result<Batch<'_>, Error> {
        if self.rings.is_empty() {
            return self.receiver.receive(timeout);
        }
        let mut count = self.take()?;
        if count == (0, 0) && !timeout.is_zero() {
            self.wait(timeout)?;
            count = self.take()?;
        }
        Ok(Batch { rings: &self.rings, ..self.receiver.taken(count.1) })
    }

    /// Takes the packets that are there: so many of the rings, so many of the socket.
    ///
    /// The socket comes first: where it fails, no packet of a ring is lost.
    fn take(&mut self) -> Result<(usize, usize), Error> {
        let socket = self.receiver.receive(Duration::ZERO)?.len();
        let port = self.receiver.address().port();
        Ok((self.rings.iter_mut().map(|ring| ring.take(port)).sum(), socket))
    }

    /// Waits for the socket or a ring.
    fn wait(&mut self, timeout: Duration) -> Result<(), Error> {
        let (socket, rings) = self.waited.split_first_mut().expect("one for the socket");
        *socket = sys::Waited::new(Some(self.receiver.socket.as_fd()));
        for (waited, ring) in rings.iter_mut().zip(&self.rings) {
            *waited = sys::Waited::new(ring.is_alive().then(|| ring.as_fd()));
        }
        let address = self.receiver.address();
        match sys::wait(&mut self.waited, timeout) {
            Err(error) if !is_pause(error.kind()) => Err(failed(address, error)),
            Err(_) => Ok(()),
            Ok(()) => {
                for (ring, waited) in self.rings.iter_mut().zip(&self.waited[1..]) {
                    if waited.is_broken() {
                        ring.fail();
                    }
                }
                Ok(())
            }
        }
    }
}

fn failed(address: std::net::SocketAddr, source: io::Error) -> Error {
    Error::Socket { address, operation: "waiting for packets", source }
}

#[cfg(test)]
mod tests;
