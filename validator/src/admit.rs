//! Admission: which client transactions are worth a signature check, and who waits for what.
//!
//! Cheapest check first: form, network, expiry, author, link, funds, then the signature. Only the
//! next link after an author's pending head is admitted; everything else is refused with the link
//! that is expected. The pending head moves when the signature has been checked, never before, so
//! that no forged link stands in an honest one's way: in a round, links to any that came before them
//! are candidates side by side, and the first whose signature holds is admitted. Who forges as many
//! links of an author as may be under way in one round makes that author's next one wait for another.
//!
//! A plain state machine: [`Core::sift`] collects what to check, [`Core::settle`] takes verdicts.

use crate::{
    cost::{Cost, Meter},
    execute::Done,
    handle::{AccountView, Answer, Expected, Reply, Request},
    held::SignedMessages,
    refusal::Refusal,
};
use ledger::{
    Account, Digest, Height, Keyed, Kind, Parameters, PublicKey, Reject, Table, Transaction, table,
};
use std::{
    collections::{HashMap, VecDeque},
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Links of one author that may be under way at once.
pub const PENDING_LINKS_MAX: usize = 16;
/// Transactions that clients wait for, at most; beyond it the oldest wait is forgotten.
pub const WAITS_MAX: usize = 1 << 19;
/// Bytes of them: an entry with its id, in a table that is at least 7/16 full, and the id in the order.
pub const WAITS_BYTES_MAX: usize = WAITS_MAX * (2 * (32 + size_of::<Wait>() + 1) + 32);
/// A client is told to come back after this time when a queue is full, in milliseconds.
const RETRY_MS: u32 = 50;
/// A pending link that was not executed in this time is forgotten, so that it can be sent again.
const PENDING_NS: u64 = 10_000_000_000;
/// Clients that wait for one transaction, at most.
const WAITERS_MAX: usize = 8;

/// An author as admission sees it. Most accounts send nothing at a time, and nothing through here.
struct Author {
    account: Account,
    pending: Option<Box<Pending>>,
}

/// Links under way after the executed head.
#[derive(Default)]
struct Pending {
    /// Their ids, oldest first, and what each may cost.
    links: VecDeque<(Digest, u64)>,
    /// When the newest of them was admitted.
    since: u64,
}

impl Author {
    const fn new(account: Account) -> Self {
        Self { account, pending: None }
    }

    fn links(&self) -> impl DoubleEndedIterator<Item = &(Digest, u64)> + ExactSizeIterator {
        const NONE: &VecDeque<(Digest, u64)> = &VecDeque::new();
        self.pending.as_ref().map_or(NONE, |pending| &pending.links).iter()
    }

    fn is_pending(&self, id: &Digest) -> bool {
        self.links().any(|(pending, _)| pending == id)
    }

    fn expected(&self) -> Expected {
        let sequence = self.account.sequence + self.links().len() as u64;
        let previous = self.links().next_back().map_or(self.account.head, |(id, _)| *id);
        Expected { sequence, previous }
    }
}

/// A transaction whose signature is to be checked.
pub struct Candidate {
    bytes: Vec<u8>,
    id: Digest,
    sequence: u64,
    /// The number of its author's account.
    author: u32,
    /// The candidate of the same author before this one in the round.
    before: Option<usize>,
    reply: Reply,
    /// Who else sent the same bytes in this round.
    others: Vec<Reply>,
}

/// The links that stand in a round, before their signatures are checked.
#[derive(Default)]
struct Round {
    candidates: Vec<Candidate>,
    /// The place of each author's last candidate.
    last: HashMap<u64, usize, Keyed>,
}

impl Round {
    /// An author's candidates and their places, the last first.
    fn of(&self, author: u32) -> impl Iterator<Item = (usize, &Candidate)> {
        let mut next = self.last.get(&u64::from(author)).copied();
        std::iter::from_fn(move || {
            let place = next?;
            next = self.candidates[place].before;
            Some((place, &self.candidates[place]))
        })
    }

    fn push(&mut self, mut candidate: Candidate) {
        let place = self.candidates.len();
        candidate.before = self.last.insert(u64::from(candidate.author), place);
        self.candidates.push(candidate);
    }
}

/// A transaction on its way into a batch.
#[derive(Debug)]
pub struct Admitted {
    /// The whole transaction.
    pub bytes: Vec<u8>,
    /// Its id.
    pub id: Digest,
}

/// The state machine.
pub struct Core {
    network: Digest,
    parameters: Parameters,
    height: Height,
    /// By the numbers that the ledger gave their accounts.
    authors: Table<Author>,
    waits: HashMap<Digest, Wait, Keyed>,
    waits_order: VecDeque<Digest>,
    waiting_bytes: Arc<AtomicUsize>,
    waiting_bytes_max: usize,
    refused: Vec<(Refusal, u64)>,
    latencies: Vec<u64>,
    meter: Meter,
}

/// Who waits for a transaction, and since when it has been under way here.
#[derive(Default)]
struct Wait {
    admitted: Option<u64>,
    /// Most have one.
    first: Option<Reply>,
    others: Vec<Reply>,
}

impl Core {
    /// Starts from executed accounts, with the numbers that they have there.
    pub fn new(
        network: Digest,
        parameters: Parameters,
        height: Height,
        accounts: &Table<Account>,
        waiting_bytes: Arc<AtomicUsize>,
        waiting_bytes_max: usize,
    ) -> Self {
        Self {
            network,
            parameters,
            height,
            authors: accounts.map(|_, account| Author::new(*account)),
            waits: HashMap::default(),
            waits_order: VecDeque::new(),
            waiting_bytes,
            waiting_bytes_max,
            refused: Vec::new(),
            latencies: Vec::new(),
            meter: Meter::OFF,
        }
    }

    /// Has its costs counted.
    pub fn measure(&mut self, meter: Meter) {
        self.meter = meter;
    }

    /// Refuses what can be refused cheaply and adds the rest to `messages`.
    ///
    /// Shape: `messages` gets one entry for each candidate, in order.
    pub fn sift(
        &mut self,
        now: u64,
        requests: Vec<Request>,
        messages: &mut SignedMessages,
    ) -> Vec<Candidate> {
        let mut round = Round::default();
        let mut room =
            self.waiting_bytes_max.saturating_sub(self.waiting_bytes.load(Ordering::Relaxed));
        let mut reads = self.read_all(&requests).into_iter();
        messages.reserve(requests.len());
        for request in requests {
            let (bytes, reply) = match request {
                Request::Submit(submission) => (submission.bytes, submission.reply),
                Request::Watch { id, reply } => {
                    self.wait(id, reply);
                    continue;
                }
            };
            let read = reads.next().expect("one for each submission");
            // What waited here while its session was ended for forgeries is not worth a check.
            if reply.is_revoked() {
                continue;
            }
            match self.check(now, &bytes, read, &round, room) {
                Ok(Checked::Again(place)) => {
                    let Candidate { id, others, .. } = &mut round.candidates[place];
                    if others.len() < WAITERS_MAX {
                        others.push(reply);
                    } else {
                        self.refuse(&reply, *id, Refusal::Busy, None);
                    }
                }
                Ok(Checked::Candidate(id, author)) => {
                    room -= bytes.len().min(room);
                    let transaction =
                        Transaction::decode(&bytes).expect("it was decoded a moment ago");
                    messages.push(
                        *transaction.author_bytes(),
                        ledger::signing_message(&id),
                        *transaction.signature_bytes(),
                    );
                    let (sequence, others) = (transaction.sequence(), Vec::new());
                    let before = None;
                    round.push(Candidate { bytes, id, sequence, author, before, reply, others });
                }
                Ok(Checked::Known(id)) => self.accept(id, std::iter::once(reply)),
                Err((id, refusal, expected)) => self.refuse(&reply, id, refusal, expected),
            }
        }
        self.meter.charge(Cost::Admit);
        round.candidates
    }

    /// Admits the candidates whose signature holds and whose link still fits.
    ///
    /// Shape: `verdicts[i]` judges `candidates[i]`; answers the admitted transactions in order.
    pub fn settle(
        &mut self,
        now: u64,
        candidates: Vec<Candidate>,
        verdicts: &[bool],
    ) -> Vec<Admitted> {
        assert_eq!(candidates.len(), verdicts.len(), "one verdict for every candidate");
        let mut admitted = Vec::with_capacity(candidates.len());
        let mut bytes = 0;
        for (candidate, valid) in candidates.into_iter().zip(verdicts) {
            let Candidate { bytes: transaction, id, author, reply, others, .. } = candidate;
            if !valid {
                self.refuse_all(&reply, &others, id, Refusal::InvalidSignature, None);
                continue;
            }
            let view = Transaction::decode(&transaction).expect("a candidate decodes");
            let (sequence, previous) = (view.sequence(), view.previous());
            let cost = cost(&self.parameters, &view);
            let (_, author) = self.authors.get_mut(author);
            if author.is_pending(&id) {
                // The same transaction, signed in another way, came before it in this round.
                self.accept(id, std::iter::once(reply).chain(others));
                continue;
            }
            let expected = author.expected();
            if expected.sequence != sequence || expected.previous != previous {
                let is_ahead = sequence > expected.sequence;
                let refusal = if is_ahead { Refusal::Ahead } else { Refusal::Forked };
                self.refuse_all(&reply, &others, id, refusal, Some(expected));
                continue;
            }
            let pending = author.pending.get_or_insert_default();
            pending.links.push_back((id, cost));
            pending.since = now;
            bytes += transaction.len();
            admitted.push(Admitted { bytes: transaction, id });
            // Only what was checked and admitted just now keeps its sender's place: a copy costs nothing.
            reply.earned();
            self.note(id).admitted = Some(now);
            self.accept(id, std::iter::once(reply).chain(others));
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        admitted
    }

    /// A height is final and durable: moves accounts and tells those who wait.
    pub fn executed(&mut self, now: u64, done: &Done) {
        self.height = done.height;
        if let Some(parameters) = &done.parameters {
            self.parameters = **parameters;
        }
        // Those of many heights lie far apart: they are waited for together.
        for changed in done.accounts.chunks(table::TOGETHER) {
            self.authors.touch(changed.iter().map(|(number, ..)| *number));
            for (number, key, account) in changed {
                if usize::try_from(*number).is_ok_and(|number| number == self.authors.len()) {
                    self.authors.push(*key, Author::new(*account));
                    continue;
                }
                let (known, author) = self.authors.get_mut(*number);
                assert_eq!(known, key, "both tables grow in one order");
                author.advance(*account);
            }
        }
        for (id, outcome) in &done.outcomes {
            if !outcome.is_final() {
                continue;
            }
            let Some(wait) = self.waits.remove(id) else { continue };
            self.latencies.extend(wait.admitted.map(|admitted| now.saturating_sub(admitted)));
            for reply in wait.first.into_iter().chain(wait.others) {
                reply.send(Answer::Final { id: *id, height: done.height, outcome: *outcome });
            }
        }
    }

    /// The account as executed, and the link that is expected next.
    pub fn account(&self, key: &PublicKey) -> Option<AccountView> {
        let (_, author) = self.authors.get(self.authors.find(key)?);
        let expected = author.expected();
        Some(AccountView {
            balance: author.account.balance,
            sequence: author.account.sequence,
            head: author.account.head,
            pending_sequence: expected.sequence,
            pending_head: expected.previous,
        })
    }

    /// Refusals since the last call, by reason.
    pub fn take_refused(&mut self) -> Vec<(Refusal, u64)> {
        std::mem::take(&mut self.refused)
    }

    /// Times from admission to finality since the last call, in nanoseconds.
    pub fn take_latencies(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.latencies)
    }

    /// Someone wants to know when `id` is final.
    pub fn wait(&mut self, id: Digest, reply: Reply) {
        if !reply.wants_final() {
            return;
        }
        let wait = self.note(id);
        if wait.first.is_none() {
            wait.first = Some(reply);
        } else if wait.others.len() + 1 < WAITERS_MAX {
            wait.others.push(reply);
        }
    }

    /// The entry of a transaction; beyond the limit the oldest is forgotten.
    fn note(&mut self, id: Digest) -> &mut Wait {
        if !self.waits.contains_key(&id) {
            self.waits_order.push_back(id);
            while self.waits.len() >= WAITS_MAX {
                let Some(oldest) = self.waits_order.pop_front() else { break };
                self.waits.remove(&oldest);
            }
            // Most end before they are the oldest: drop the places of those that have ended.
            while self
                .waits_order
                .front()
                .is_some_and(|old| *old != id && !self.waits.contains_key(old))
            {
                self.waits_order.pop_front();
            }
        }
        if self.waits_order.len() > 2 * WAITS_MAX {
            let waits = &self.waits;
            self.waits_order.retain(|old| *old == id || waits.contains_key(old));
        }
        self.waits.entry(id).or_default()
    }

    /// A watched transaction turned out to be final already: nobody waits for it any more.
    pub fn located(&mut self, id: &Digest) {
        self.waits.remove(id);
    }

    fn refuse(&mut self, reply: &Reply, id: Digest, refusal: Refusal, expected: Option<Expected>) {
        match self.refused.iter_mut().find(|(known, _)| *known == refusal) {
            Some((_, count)) => *count += 1,
            None => self.refused.push((refusal, 1)),
        }
        let retry_ms = if refusal.retryable() { RETRY_MS } else { 0 };
        reply.send(Answer::Refused { id, refusal, expected, retry_ms });
    }

    /// Tells all who sent a transaction that it is under way.
    fn accept(&mut self, id: Digest, replies: impl Iterator<Item = Reply>) {
        for reply in replies {
            reply.send(Answer::Accepted { id });
            self.wait(id, reply);
        }
    }

    /// Refuses a candidate to all who sent it.
    fn refuse_all(
        &mut self,
        reply: &Reply,
        others: &[Reply],
        id: Digest,
        refusal: Refusal,
        expected: Option<Expected>,
    ) {
        for reply in std::iter::once(reply).chain(others) {
            self.refuse(reply, id, refusal, expected);
        }
    }

    /// Reads a round: the id of each submission and the number of its author's account, or why there is none.
    /// Ids are made, and accounts looked for, several at a time.
    fn read_all(&self, requests: &[Request]) -> Vec<Result<(Digest, Option<u32>), Refusal>> {
        let submissions = requests.iter().filter_map(|request| match request {
            Request::Submit(submission) => Some(&submission.bytes[..]),
            Request::Watch { .. } => None,
        });
        let submissions: Vec<&[u8]> = submissions.collect();
        let mut reads = Vec::with_capacity(submissions.len());
        for together in submissions.chunks(table::TOGETHER) {
            // Another core wrote them: head and signature of many are waited for at once.
            black_box(together.iter().fold(0_u8, |sum, bytes| {
                let parts = [0, 64, bytes.len().saturating_sub(64)];
                let near = parts.iter().filter_map(|place| bytes.get(*place));
                near.fold(sum, |sum, byte| sum.wrapping_add(*byte))
            }));
            reads.extend(together.iter().map(|bytes| self.read(bytes)));
        }
        self.meter.charge(Cost::Decode);
        let transactions: Vec<_> =
            reads.iter().filter_map(|read| read.as_ref().ok()).copied().collect();
        let keys = transactions.iter().map(Transaction::author);
        let ids = ledger::transaction::ids(&self.network, &transactions);
        self.meter.charge(Cost::Hash);
        let mut found = ids.into_iter().zip(self.authors.find_all(keys));
        let mut next = || found.next().expect("one for each that could be read");
        reads.into_iter().map(|read| read.map(|_| next())).collect()
    }

    /// A transaction of this network.
    fn read<'a>(&self, bytes: &'a [u8]) -> Result<Transaction<'a>, Refusal> {
        let transaction = Transaction::decode(bytes).map_err(|reject| match reject {
            Reject::TooLong => Refusal::TooLarge,
            _ => Refusal::Malformed,
        })?;
        match transaction.check_network(&self.network) {
            Ok(()) => Ok(transaction),
            Err(_) => Err(Refusal::WrongNetwork),
        }
    }

    /// Whether a submission, as it was read, is worth a signature check.
    fn check(
        &mut self,
        now: u64,
        bytes: &[u8],
        read: Result<(Digest, Option<u32>), Refusal>,
        round: &Round,
        room: usize,
    ) -> Result<Checked, (Digest, Refusal, Option<Expected>)> {
        let (id, number) = read.map_err(|refusal| (Digest::ZERO, refusal, None))?;
        let transaction = Transaction::decode(bytes).expect("it was read");
        let refuse = |refusal, expected| Err((id, refusal, expected));
        if transaction.valid_until() <= self.height {
            return refuse(Refusal::Expired, None);
        }
        let Some(number) = number else {
            return refuse(Refusal::UnknownAuthor, None);
        };
        let (_, author) = self.authors.get_mut(number);
        drop(author.pending.take_if(|pending| now > pending.since + PENDING_NS));
        if author.is_pending(&id) {
            return Ok(Checked::Known(id));
        }
        // An id says nothing of the signature: who sent another one answers for that one alone.
        let same = |(_, link): &(usize, &Candidate)| link.id == id && link.bytes == bytes;
        if let Some((place, _)) = round.of(number).find(same) {
            return Ok(Checked::Again(place));
        }
        let expected = author.expected();
        let (sequence, previous) = (transaction.sequence(), transaction.previous());
        if sequence < author.account.sequence {
            return refuse(Refusal::Stale, Some(expected));
        }
        if sequence < expected.sequence {
            return refuse(Refusal::Forked, Some(expected));
        }
        if sequence == expected.sequence && previous != expected.previous {
            return refuse(Refusal::Forked, Some(expected));
        }
        // What stands in the round proves nothing yet: it can let a link in, and accuse none.
        let follows =
            |(_, link): (usize, &Candidate)| link.sequence + 1 == sequence && link.id == previous;
        if sequence > expected.sequence && !round.of(number).any(follows) {
            return refuse(Refusal::Ahead, Some(expected));
        }
        if author.links().len() + round.of(number).count() >= PENDING_LINKS_MAX {
            return refuse(Refusal::Busy, Some(expected));
        }
        let pending = author.links().map(|(_, cost)| *cost);
        let cost = pending.fold(cost(&self.parameters, &transaction), u64::saturating_add);
        if author.account.balance < cost {
            return refuse(Refusal::Unfunded, Some(expected));
        }
        if bytes.len() > room {
            return refuse(Refusal::LaneFull, Some(expected));
        }
        Ok(Checked::Candidate(id, number))
    }
}

impl Author {
    fn advance(&mut self, account: Account) {
        if account.sequence != self.account.sequence {
            // What was executed is the head of ours, or another link came first: then ours failed.
            if let Some(Pending { links, .. }) = self.pending.as_deref_mut() {
                match links.iter().position(|(id, _)| *id == account.head) {
                    Some(position) => drop(links.drain(..=position)),
                    None => links.clear(),
                }
            }
        }
        self.account = account;
    }
}

enum Checked {
    /// Worth a signature check.
    Candidate(Digest, u32),
    /// The same bytes stand in this round already, at this place.
    Again(usize),
    /// Admitted before: the same bytes came again.
    Known(Digest),
}

/// What a transaction takes from its author's balance at least.
fn cost(parameters: &Parameters, transaction: &Transaction<'_>) -> u64 {
    let fee = parameters.fee(transaction.bytes().len());
    match transaction.kind() {
        Kind::Record | Kind::Council => fee,
        Kind::Transfer => fee.saturating_add(transaction.transfer().map_or(0, |t| t.amount)),
    }
}

#[cfg(test)]
mod tests;
