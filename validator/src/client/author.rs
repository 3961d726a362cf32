//! Authors of the load: keys from a seed, so that a genesis can fund them, and their transactions.

use crate::key::Secret;
use ledger::{Digest, Draft, Height, Kind, PublicKey, Transfer};

/// Separates the authors' keys from every other use of the hash.
const KEY_CONTEXT: &str = "althing 2026 load author key v1";
/// Separates the bodies of records from it.
const BODY_CONTEXT: &str = "althing 2026 load record body v1";
/// What a transfer of the load moves: enough to be one, little enough to go on for years.
const AMOUNT: u64 = 1;

/// Returns the key of an author of the load.
pub fn secret(seed: u64, index: u32) -> Secret {
    let mut material = [0; 12];
    material[..8].copy_from_slice(&seed.to_le_bytes());
    material[8..].copy_from_slice(&index.to_le_bytes());
    Secret::from_seed(&blake3::derive_key(KEY_CONTEXT, &material))
}

/// Makes the keys of the first `count` authors.
pub fn secrets(seed: u64, count: u32) -> Vec<Secret> {
    (0..count).map(|index| secret(seed, index)).collect()
}

/// The place that an author's next transaction takes in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its sequence.
    pub sequence: u64,
    /// The id of the one before; zero for the first.
    pub previous: Digest,
}

impl Link {
    /// The first place.
    pub const FIRST: Self = Self { sequence: 0, previous: Digest::ZERO };

    /// The place after the transaction `id` at this one.
    pub fn after(self, id: Digest) -> Self {
        let sequence = self.sequence.checked_add(1).expect("no author signs 2^64 transactions");
        Self { sequence, previous: id }
    }
}

/// What the load's transactions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Names the authors and, with an author's place, every body.
    pub seed: u64,
    /// Bytes of a record, header and signature counted.
    pub size: usize,
    /// Share of transfers among all, in percent.
    pub transfers_percent: u8,
}

impl Workload {
    /// Signs the transaction of an author at a place in its chain; a seed gives the same bytes again.
    ///
    /// Shape: `to` receives, if it is a transfer.
    pub fn sign(
        &self,
        network: &Digest,
        author: &Secret,
        link: Link,
        to: &PublicKey,
    ) -> (Vec<u8>, Digest) {
        let mut hasher = blake3::Hasher::new_derive_key(BODY_CONTEXT);
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(author.public().as_bytes());
        hasher.update(&link.sequence.to_le_bytes());
        let mut random = hasher.finalize_xof();
        let mut lot = [0; 1];
        random.fill(&mut lot);
        // A byte has 256 values: the share is right to half a percent.
        let is_transfer = u32::from(lot[0]) * 100 < u32::from(self.transfers_percent) * 256;
        let body = if is_transfer {
            Transfer { to: *to, amount: AMOUNT }.encode().to_vec()
        } else {
            let mut body = vec![0; self.size - ledger::limits::TRANSACTION_OVERHEAD];
            random.fill(&mut body);
            body
        };
        let draft = Draft {
            kind: if is_transfer { Kind::Transfer } else { Kind::Record },
            author: author.public(),
            sequence: link.sequence,
            previous: link.previous,
            // A load that expires would be rejected for another reason than the one it measures.
            valid_until: Height(u64::MAX),
            body: &body,
        };
        draft
            .sign(network, |message| author.sign(message))
            .expect("the size was checked against the limits of the format")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::Transaction;
    use std::collections::BTreeSet;

    const NETWORK: Digest = Digest([3; 32]);

    #[test]
    fn authors_differ_by_seed_and_place_and_come_back() {
        let keys: BTreeSet<PublicKey> = [(1, 0), (1, 1), (2, 0), (2, 1)]
            .map(|(seed, index)| secret(seed, index).public())
            .into();
        assert_eq!(keys.len(), 4);
        assert_eq!(secrets(1, 2)[1].public(), secret(1, 1).public());
    }

    #[test]
    fn a_chain_is_signed_and_linked_and_of_the_right_size() {
        let workload = Workload { seed: 5, size: 512, transfers_percent: 0 };
        let (author, other) = (secret(5, 0), secret(5, 1).public());
        let mut link = Link::FIRST;
        for sequence in 0..3 {
            let (bytes, id) = workload.sign(&NETWORK, &author, link, &other);
            assert_eq!((bytes.clone(), id), workload.sign(&NETWORK, &author, link, &other));
            let transaction = Transaction::decode(&bytes).unwrap();
            assert_eq!(bytes.len(), 512);
            assert_eq!(transaction.sequence(), sequence);
            assert_eq!(transaction.previous(), link.previous);
            assert_eq!(transaction.id(&NETWORK), id);
            let message = ledger::signing_message(&id);
            let item = sigverify::Item {
                key: transaction.author_bytes(),
                message: &message,
                signature: transaction.signature_bytes(),
            };
            assert!(sigverify::verify_one(&item).is_valid());
            link = link.after(id);
        }
    }

    #[test]
    fn the_share_of_transfers_is_as_asked() {
        let (author, other) = (secret(5, 0), secret(5, 1).public());
        for (percent, least, most) in [(0, 0, 0), (100, 1_000, 1_000), (30, 250, 350)] {
            let workload = Workload { seed: 5, size: 200, transfers_percent: percent };
            let mut link = Link::FIRST;
            let mut transfers = 0;
            for _ in 0..1_000 {
                let (bytes, id) = workload.sign(&NETWORK, &author, link, &other);
                let transfer = Transaction::decode(&bytes).unwrap().transfer();
                transfers += u32::from(transfer.is_some_and(|transfer| transfer.to == other));
                link = link.after(id);
            }
            assert!((least..=most).contains(&transfers), "{percent}%: {transfers}");
        }
    }
}
