//! The cut block: what consensus orders, a header and the newest certified batch of each lane that
//! advanced.
//!
//! ```text
//!   0  version      u8 = 2
//!   1  reserved     3    zero
//!   4  lanes        u32  how many availability certificates follow
//!   8  network      32   genesis digest
//!  40  epoch        u64
//!  48  height       u64
//!  56  view         u64  in which it was proposed
//!  64  parent       32   digest of the block before
//!  96  time_ms      u64  informational, never before the parent's
//! 104  executed     u64  the height whose execution the next two roots declare
//! 112  history_root 32   mountain range over the records up to `executed`
//! 144  state_root   32   at the last checkpoint height at or below `executed`
//! 176  set          32   digest of the validator set of the epoch
//! 208  next_set     32   digest of the set that decides the next height: another only in the last block of an epoch
//! 240  certificates      one after the other, see `ack`
//! ```
//!
//! The digest is that of the 240 bytes and the digest of the certificates (domains `althing 2026
//! cut v2` and `althing 2026 cut lanes v1`), so a proof carries 272 bytes of a block. Lanes stand
//! in the order `(lane + n - height mod n) mod n`: who goes first rotates with the height.

use crate::ack::{self, AvailabilityCertificate};
use crate::codec::{Reader, count_u32, index};
use crate::digest::{Digest, Height, View, domain};
use crate::epochs::Epochs;
use crate::genesis::Genesis;
use crate::history;
use crate::limits::{CUT_BYTES_MAX, CUT_HEADER_BYTES, EXECUTION_LAG_MAX, VALIDATORS_MAX};
use crate::reject::Reject;
use crate::set::ValidatorSet;
use crate::signatures::Signatures;
use crate::state::State;

const VERSION: u8 = 2;

/// The newest batch of a lane: its place and its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The place in the lane; 0 before the first.
    pub sequence: u64,
    /// The digest of the batch; zero before the first.
    pub digest: Digest,
}

impl Tip {
    /// The tip of a lane without batches.
    pub const EMPTY: Self = Self { sequence: 0, digest: Digest::ZERO };
}

/// The newest tip of every lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tips(pub Vec<Tip>);

impl Tips {
    /// Returns the tips of `lanes` lanes without batches.
    pub fn genesis(lanes: usize) -> Self {
        Self(vec![Tip::EMPTY; lanes])
    }

    /// Returns the tip of a lane.
    pub fn get(&self, lane: u32) -> Option<&Tip> {
        self.0.get(index(lane))
    }

    /// Returns how many lanes there are.
    pub fn lanes(&self) -> usize {
        self.0.len()
    }

    /// Returns the tips after a cut.
    ///
    /// Errors: [`Reject::UnknownValidator`], [`Reject::TipNotAdvanced`].
    pub fn after(&self, cut: &Cut) -> Result<Self, Reject> {
        let mut tips = self.clone();
        for certificate in &cut.lanes {
            let tip = tips.0.get_mut(index(certificate.lane)).ok_or(Reject::UnknownValidator)?;
            if certificate.sequence <= tip.sequence {
                return Err(Reject::TipNotAdvanced);
            }
            *tip = Tip { sequence: certificate.sequence, digest: certificate.digest };
        }
        Ok(tips)
    }
}

/// Returns the lanes in the order in which a cut of this height lists and executes them.
pub fn rotation(height: Height, lanes: u32) -> impl Iterator<Item = u32> {
    let count = u64::from(lanes);
    (0..count).map(move |place| {
        let lane = (height.0 % count + place) % count;
        u32::try_from(lane).expect("smaller than the number of lanes")
    })
}

/// The place of a lane in the rotation of a height.
fn place(height: Height, lane: u32, lanes: u32) -> u64 {
    let count = u64::from(lanes);
    (u64::from(lane) + count - height.0 % count) % count
}

/// A cut block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The genesis digest.
    pub network: Digest,
    /// The epoch whose set numbers lanes and validators.
    pub epoch: u64,
    /// The number of the block.
    pub height: Height,
    /// The view in which it was proposed.
    pub view: View,
    /// The digest of the block before.
    pub parent: Digest,
    /// When the proposer says that it proposed; nothing depends on it.
    pub time_ms: u64,
    /// The height whose execution is declared.
    pub executed: Height,
    /// The history root after `executed`.
    pub history_root: Digest,
    /// The state root of the last checkpoint at or below `executed`.
    pub state_root: Digest,
    /// The digest of the validator set of the epoch.
    pub set: Digest,
    /// The digest of the set that decides the next height.
    pub next_set: Digest,
    /// The newest certified batch of each lane that advanced, in rotation.
    pub lanes: Vec<AvailabilityCertificate>,
}

impl Cut {
    /// Returns the block that every validator of the network starts with; nobody signs it.
    pub fn genesis(genesis: &Genesis) -> Self {
        Self {
            network: genesis.digest(),
            epoch: 0,
            height: Height::ZERO,
            view: View::ZERO,
            parent: Digest::ZERO,
            time_ms: 0,
            executed: Height::ZERO,
            history_root: history::History::new().root(),
            state_root: State::genesis(genesis).root(),
            set: genesis.set().digest(),
            next_set: genesis.set().digest(),
            lanes: Vec::new(),
        }
    }

    /// Writes the block.
    ///
    /// The proposer keeps the certificates within the limit of [`CUT_BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encode_header().to_vec();
        for certificate in &self.lanes {
            certificate.encode_into(&mut bytes);
        }
        assert!(bytes.len() <= CUT_BYTES_MAX, "the proposer keeps a cut within its limit");
        bytes
    }

    fn encode_header(&self) -> [u8; CUT_HEADER_BYTES] {
        let mut bytes = [0; CUT_HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[4..8].copy_from_slice(&count_u32(self.lanes.len()).to_le_bytes());
        bytes[8..40].copy_from_slice(&self.network.0);
        bytes[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.height.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.view.0.to_le_bytes());
        bytes[64..96].copy_from_slice(&self.parent.0);
        bytes[96..104].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[104..112].copy_from_slice(&self.executed.0.to_le_bytes());
        bytes[112..144].copy_from_slice(&self.history_root.0);
        bytes[144..176].copy_from_slice(&self.state_root.0);
        bytes[176..208].copy_from_slice(&self.set.0);
        bytes[208..240].copy_from_slice(&self.next_set.0);
        bytes
    }

    /// Returns how many bytes the block takes.
    pub fn encoded_bytes(&self) -> usize {
        let certificates = self.lanes.iter().map(AvailabilityCertificate::encoded_bytes);
        CUT_HEADER_BYTES + certificates.sum::<usize>()
    }

    /// Reads a block and checks what can be seen without its parent.
    ///
    /// Errors: [`Reject::TooLong`], [`Reject::Truncated`], [`Reject::TrailingBytes`],
    /// [`Reject::UnknownVersion`], [`Reject::ReservedNotZero`], [`Reject::CountMismatch`], and
    /// those of [`AvailabilityCertificate::decode_prefix`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > CUT_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        let mut reader = Reader::new(bytes);
        let (mut cut, count) = Self::read_header(&mut reader)?;
        let mut rest = reader.rest();
        for _ in 0..count {
            let (certificate, after) = AvailabilityCertificate::decode_prefix(rest)?;
            cut.lanes.push(certificate);
            rest = after;
        }
        if rest.is_empty() { Ok(cut) } else { Err(Reject::TrailingBytes) }
    }

    /// Reads the header; returns it as a block without lanes, and how many lanes it has.
    fn read_header(reader: &mut Reader<'_>) -> Result<(Self, usize), Reject> {
        reader.version(VERSION)?;
        reader.zeros::<3>()?;
        let count = index(reader.u32()?);
        if count > VALIDATORS_MAX {
            return Err(Reject::CountMismatch);
        }
        let cut = Self {
            network: reader.digest()?,
            epoch: reader.u64()?,
            height: Height(reader.u64()?),
            view: View(reader.u64()?),
            parent: reader.digest()?,
            time_ms: reader.u64()?,
            executed: Height(reader.u64()?),
            history_root: reader.digest()?,
            state_root: reader.digest()?,
            set: reader.digest()?,
            next_set: reader.digest()?,
            lanes: Vec::with_capacity(count),
        };
        Ok((cut, count))
    }

    /// Returns the part that a proof carries.
    pub fn header(&self) -> Header {
        let (bytes, lanes) = (self.encode_header(), self.lanes_digest());
        Header { bytes, lanes, cut: Self { lanes: Vec::new(), ..self.clone() } }
    }

    /// Computes the digest that names the block.
    pub fn digest(&self) -> Digest {
        domain::CUT.digest(&[&self.encode_header(), &self.lanes_digest().0])
    }

    fn lanes_digest(&self) -> Digest {
        let mut lanes = domain::CUT_LANES.hasher();
        let mut bytes = Vec::new();
        for certificate in &self.lanes {
            bytes.clear();
            certificate.encode_into(&mut bytes);
            lanes.update(&bytes);
        }
        Digest(*lanes.finalize().as_bytes())
    }

    /// Checks that the block may follow its parent, and returns the tips after it.
    ///
    /// `tips` are those after the parent, and `set` is that of the block's epoch. All signatures go to the
    /// verifier at once. Whether the
    /// declared roots are right is for who has executed that height to say; here they are held
    /// against the parent's when both declare the same height. The same goes for the set that follows in the last
    /// block of an epoch.
    ///
    /// Errors: [`Reject::WrongNetwork`], [`Reject::WrongEpoch`], [`Reject::WrongParent`], [`Reject::WrongSet`],
    /// [`Reject::WrongHeight`], [`Reject::WrongView`], [`Reject::TimeBackwards`],
    /// [`Reject::ExecutedRange`], [`Reject::DeclaredRoots`], [`Reject::UnknownValidator`],
    /// [`Reject::LaneOrder`], [`Reject::TipNotAdvanced`], [`Reject::QuorumMissing`],
    /// [`Reject::BadSignature`].
    pub fn check(
        &self,
        parent: &Self,
        parent_digest: &Digest,
        tips: &Tips,
        (epochs, set): (Epochs, &ValidatorSet),
        signatures: &dyn Signatures,
    ) -> Result<Tips, Reject> {
        self.check_link(parent, parent_digest, epochs)?;
        self.check_sets(parent, epochs, set)?;
        self.check_executed(parent)?;
        let tips = self.check_lanes(tips, set)?;
        let certificates: Vec<&AvailabilityCertificate> = self.lanes.iter().collect();
        ack::check_all(&certificates, &self.network, set, signatures)?;
        Ok(tips)
    }

    fn check_link(
        &self,
        parent: &Self,
        parent_digest: &Digest,
        epochs: Epochs,
    ) -> Result<(), Reject> {
        if self.network != parent.network {
            return Err(Reject::WrongNetwork);
        }
        if self.parent != *parent_digest {
            return Err(Reject::WrongParent);
        }
        if parent.height.0.checked_add(1) != Some(self.height.0) {
            return Err(Reject::WrongHeight);
        }
        if self.epoch != epochs.of(self.height) {
            return Err(Reject::WrongEpoch);
        }
        // Views begin anew with an epoch.
        let before = if self.epoch == parent.epoch { parent.view } else { View::ZERO };
        if self.view <= before {
            return Err(Reject::WrongView);
        }
        if self.time_ms < parent.time_ms {
            return Err(Reject::TimeBackwards);
        }
        Ok(())
    }

    /// Checks who decides, and that nobody else follows before the epoch ends.
    fn check_sets(&self, parent: &Self, epochs: Epochs, set: &ValidatorSet) -> Result<(), Reject> {
        let stays = self.next_set == self.set || epochs.is_last(self.height);
        if self.set == parent.next_set && self.set == set.digest() && stays {
            Ok(())
        } else {
            Err(Reject::WrongSet)
        }
    }

    fn check_executed(&self, parent: &Self) -> Result<(), Reject> {
        let lowest = parent.executed.0.max(self.height.0.saturating_sub(EXECUTION_LAG_MAX));
        if !(lowest..self.height.0).contains(&self.executed.0) {
            return Err(Reject::ExecutedRange);
        }
        let declared = (self.history_root, self.state_root);
        if self.executed == parent.executed && declared != (parent.history_root, parent.state_root)
        {
            return Err(Reject::DeclaredRoots);
        }
        Ok(())
    }

    /// Checks the rotation and that every listed lane advances; returns the tips after.
    fn check_lanes(&self, tips: &Tips, set: &ValidatorSet) -> Result<Tips, Reject> {
        assert_eq!(tips.lanes(), set.len(), "one tip for each lane");
        let lanes = set.lanes();
        let mut next_place = 0;
        for certificate in &self.lanes {
            if certificate.lane >= lanes {
                return Err(Reject::UnknownValidator);
            }
            if certificate.epoch != self.epoch {
                return Err(Reject::WrongEpoch);
            }
            let place = place(self.height, certificate.lane, lanes);
            if place < next_place {
                return Err(Reject::LaneOrder);
            }
            next_place = place + 1;
        }
        tips.after(self)
    }
}

/// A block without its certificates: enough to name it and to know what it declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; CUT_HEADER_BYTES],
    /// The digest of the certificates.
    lanes: Digest,
    /// The same fields, without lanes.
    cut: Cut,
}

impl Header {
    /// Returns the epoch.
    pub const fn epoch(&self) -> u64 {
        self.cut.epoch
    }

    /// Returns the number of the block.
    pub const fn height(&self) -> Height {
        self.cut.height
    }

    /// Returns when the proposer says that it proposed.
    pub const fn time_ms(&self) -> u64 {
        self.cut.time_ms
    }

    /// Returns the height whose execution is declared.
    pub const fn executed(&self) -> Height {
        self.cut.executed
    }

    /// Returns the history root after the executed height.
    pub const fn history_root(&self) -> Digest {
        self.cut.history_root
    }

    /// Returns the state root of the last checkpoint at or below the executed height.
    pub const fn state_root(&self) -> Digest {
        self.cut.state_root
    }

    /// Returns the digest of the set that decides the block.
    pub const fn set(&self) -> Digest {
        self.cut.set
    }

    /// Returns the digest of the set that decides the next height.
    pub const fn next_set(&self) -> Digest {
        self.cut.next_set
    }

    /// Computes the digest that names the block.
    pub fn digest(&self) -> Digest {
        domain::CUT.digest(&[&self.bytes, &self.lanes.0])
    }

    /// Checks what every block of the network is.
    ///
    /// Errors: [`Reject::WrongNetwork`], [`Reject::ExecutedRange`].
    pub(crate) fn check(&self, network: &Digest) -> Result<(), Reject> {
        if self.cut.network != *network {
            return Err(Reject::WrongNetwork);
        }
        if self.cut.executed >= self.cut.height {
            return Err(Reject::ExecutedRange);
        }
        Ok(())
    }

    /// Writes the header and the digest of the certificates.
    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.bytes);
        bytes.extend_from_slice(&self.lanes.0);
    }

    /// Reads what [`Header::encode_into`] writes.
    ///
    /// Errors: [`Reject::Truncated`], [`Reject::UnknownVersion`], [`Reject::ReservedNotZero`],
    /// [`Reject::CountMismatch`].
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Reject> {
        let bytes = *reader.array::<CUT_HEADER_BYTES>()?;
        let (mut cut, _) = Cut::read_header(&mut Reader::new(&bytes))?;
        cut.lanes = Vec::new();
        Ok(Self { bytes, lanes: reader.digest()?, cut })
    }
}

#[cfg(test)]
mod tests;
