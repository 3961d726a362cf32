//! One connection to a peer's history, with a limit on everything that it may do.

use super::Source;
use crate::{
    history::wire::{Kind, PART_BYTES, Part, Question, Walk},
    terms::Terms,
};
use ledger::{Cut, Digest, Finality, Signatures};
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(1);
/// Time without a byte.
const SILENCE: Duration = Duration::from_secs(3);
/// Time for a tip, for cuts and for batches, whatever comes meanwhile.
const TIP: Duration = Duration::from_secs(3);
const CUTS_TIME: Duration = Duration::from_secs(10);
const BATCHES_TIME: Duration = Duration::from_secs(20);
/// Bytes of cuts in one answer at most.
const CUTS_BYTES_MAX: usize = 48 << 20;
/// Cuts asked for at once.
const CUTS: u32 = 512;
/// Parts of an answer at most: cuts with their certificates, and those up to the next certificate.
const PARTS_MAX: usize = 4 * crate::history::wire::CUTS_MAX as usize;

/// Why a peer was of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It sent what no honest one sends.
    #[error("{0}")]
    Lie(String),
    /// It does not answer, or has not got it.
    #[error("{0}")]
    Silent(String),
}

impl Fault {
    pub(super) fn lie(what: impl Into<String>) -> Self {
        Self::Lie(what.into())
    }

    /// Says who it was.
    pub(super) fn tell(&self, source: &Source) {
        let Source { key, address } = source;
        match self {
            Self::Lie(what) => {
                tracing::warn!(validator = %key, %address, what,
                    "it sends false history, or its disk does: asked no more");
            }
            Self::Silent(why) => tracing::debug!(validator = %key, %address, why, "no help"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Silent(error.to_string())
    }
}

/// A part of an answer.
pub(super) struct Received {
    pub(super) kind: Kind,
    pub(super) height: u64,
    pub(super) bytes: Vec<u8>,
}

/// A connection.
pub(super) struct Peer {
    stream: TcpStream,
    network: Digest,
}

impl Peer {
    pub(super) fn connect(address: SocketAddr, network: Digest) -> Result<Self, Fault> {
        let stream = TcpStream::connect_timeout(&address, CONNECT)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, network })
    }

    /// The newest height that this peer proves to be final, and the proof; none where it has none.
    ///
    /// Of an epoch whose set is not known here nothing can be proved: then it is the newest certificate of the end of
    /// the newest known epoch, which whoever is beyond it has.
    pub(super) fn tip(
        &mut self,
        terms: &Terms,
        signatures: &dyn Signatures,
    ) -> Result<Option<(u64, Option<Finality>)>, Fault> {
        let mut parts = Vec::new();
        self.ask(&Question::Tip, TIP, |part| {
            parts.push(part);
            if parts.len() > 2 { Err(Fault::lie("more than a tip")) } else { Ok(()) }
        })?;
        let [cut, certificate] = parts.as_slice() else {
            return if parts.is_empty() { Ok(None) } else { Err(Fault::lie("half a tip")) };
        };
        if (cut.kind, certificate.kind) != (Kind::Cut, Kind::Certificate) {
            return Err(Fault::lie("no tip"));
        }
        let wrong = |reject| Fault::Lie(format!("its tip: {reject}"));
        let cut = Cut::decode(&cut.bytes).map_err(wrong)?;
        let finality = Finality::decode(&certificate.bytes).map_err(wrong)?;
        if finality.payload != cut.digest() {
            return Err(Fault::lie("its tip's certificate is of another block"));
        }
        if finality.epoch != cut.epoch {
            return Err(Fault::lie("its tip's certificate is of another epoch"));
        }
        let Some(set) = terms.set(cut.epoch) else {
            return self.end_of_known(terms, signatures).map(Some);
        };
        finality.check(&self.network, &set, signatures).map_err(wrong)?;
        Ok(Some((cut.height.get(), Some(finality))))
    }

    /// The newest proved height at the end of the newest epoch whose set is known: once that is stored, and executed,
    /// the next set is known, too.
    fn end_of_known(
        &mut self,
        terms: &Terms,
        signatures: &dyn Signatures,
    ) -> Result<(u64, Option<Finality>), Fault> {
        let epoch = terms.settled();
        let last = terms.epochs().last(epoch).get();
        let set = terms.set(epoch).expect("it is settled");
        // Mostly the last block has one; the next set is settled with any from the deciding height on.
        for from in [last, terms.epochs().deciding(epoch).get()] {
            let count = u32::try_from(last + 1 - from).unwrap_or(CUTS);
            let parts = self.some_cuts(from, count)?;
            let pairs = parts.windows(2).rev().filter_map(|pair| match pair {
                [cut, next] if (cut.kind, next.kind) == (Kind::Cut, Kind::Certificate) => {
                    Some((Cut::decode(&cut.bytes).ok()?, Finality::decode(&next.bytes).ok()?))
                }
                _ => None,
            });
            let mut pairs = pairs.filter(|(cut, finality)| {
                cut.height.get() <= last
                    && (cut.epoch, finality.epoch) == (epoch, epoch)
                    && finality.payload == cut.digest()
            });
            if let Some((cut, finality)) = pairs.next() {
                let wrong = |reject| Fault::Lie(format!("the end of epoch {epoch}: {reject}"));
                finality.check(&self.network, &set, signatures).map_err(wrong)?;
                return Ok((cut.height.get(), Some(finality)));
            }
        }
        Err(Fault::Silent(format!("its tip is beyond epoch {epoch}, and it does not show its end")))
    }

    /// Cuts from a height on, and certificates.
    pub(super) fn cuts(&mut self, from: u64) -> Result<Vec<Received>, Fault> {
        self.some_cuts(from, CUTS)
    }

    fn some_cuts(&mut self, from: u64, count: u32) -> Result<Vec<Received>, Fault> {
        let mut parts = Vec::new();
        let mut bytes = 0;
        self.ask(&Question::Cuts { from, count }, CUTS_TIME, |part| {
            bytes += part.bytes.len();
            parts.push(part);
            let is_endless = parts.len() > PARTS_MAX || bytes > CUTS_BYTES_MAX;
            if is_endless { Err(Fault::lie("cuts without end")) } else { Ok(()) }
        })?;
        Ok(parts)
    }

    /// Batches; `take` gets each as it comes, and what it refuses ends the answer.
    pub(super) fn batches(
        &mut self,
        walks: Vec<Walk>,
        mut take: impl FnMut(Vec<u8>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.ask(&Question::Batches(walks), BATCHES_TIME, |part| match part.kind {
            Kind::Batch => take(part.bytes),
            _ => Err(Fault::lie("something else than batches")),
        })
    }

    fn ask(
        &mut self,
        question: &Question,
        time: Duration,
        mut take: impl FnMut(Received) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let end = Instant::now() + time;
        self.stream.write_all(&question.encode(&self.network))?;
        loop {
            let mut head = [0; PART_BYTES];
            self.read(&mut head, end)?;
            let Some(part) = Part::decode(&head) else {
                return Err(Fault::lie("what it sends is no part of an answer"));
            };
            let mut bytes = vec![0; part.bytes];
            self.read(&mut bytes, end)?;
            match part.kind {
                Kind::End => return Ok(()),
                Kind::Refused => {
                    let why = String::from_utf8_lossy(&bytes);
                    let why: String = why.chars().filter(|letter| !letter.is_control()).collect();
                    return Err(Fault::Silent(format!("it refuses: {why}")));
                }
                kind => take(Received { kind, height: part.height, bytes })?,
            }
        }
    }

    /// Fills a buffer until then: byte by byte nobody holds anything up.
    fn read(&mut self, buffer: &mut [u8], end: Instant) -> Result<(), Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::Silent("too slow".to_owned()));
            }
            self.stream.set_read_timeout(Some(left.min(SILENCE)))?;
            match self.stream.read(&mut buffer[filled..])? {
                0 => return Err(Fault::Silent("it has closed the connection".to_owned())),
                count => filled += count,
            }
        }
        Ok(())
    }
}
