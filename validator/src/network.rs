//! Authenticated peers: two networks of commonware's lookup kind, and the cipher they use.
//!
//! Votes, certificates and cut blocks travel on one network, batches and acks on another with its
//! own port: a receiver's throttle works per connection, so bulk data on the same connection would
//! delay votes.

pub mod cipher;
pub mod lanes;

use crate::{
    consensus::engine::{Channels, payload_bytes_max},
    terms::GUESTS_MAX,
};
use cipher::Aes256Gcm;
use commonware_cryptography::{
    Signer as _,
    ed25519::{PrivateKey, PublicKey},
};
use commonware_p2p::{
    Address, AddressableManager as _, AddressableTrackedPeers,
    authenticated::lookup::{self, Network, Oracle, Receiver, Sender},
    utils::mux::prefixed,
};
use commonware_runtime::{Handle, Quota, Supervisor as _, tokio::Context};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZU32, NZUsize, ordered::Map};
use ledger::{
    Digest,
    council::APPROVALS_MAX,
    limits::{BATCH_BYTES_MAX, VALIDATORS_MAX},
};
use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

/// Messages a peer may send on a channel of small messages, a second.
///
/// A quota's burst also sizes the channel's mailbox, for each peer that there may be: a second's worth of every
/// one would fill gigabytes.
const SMALL_PER_SECOND: Quota = Quota::per_second(NZU32!(4_096)).allow_burst(NZU32!(128));
/// Blocks and finalized blocks a peer may send, a second: of 64 KiB at most.
const BLOCKS_PER_SECOND: Quota = Quota::per_second(NZU32!(512)).allow_burst(NZU32!(64));
/// Batches a peer may send, a second: its own small ones, and those that we fetch from it. What is
/// received is taken at once and counted against a budget in bytes, so that a mailbox stays short.
const BATCHES_PER_SECOND: Quota = Quota::per_second(NZU32!(1_024)).allow_burst(NZU32!(128));
/// Pieces of stored records a peer may send or ask for, a second: 16 MiB of them.
const RECORDS_PER_SECOND: Quota = Quota::per_second(NZU32!(256)).allow_burst(NZU32!(32));
/// Peers at a time at most: a whole set, and those who follow.
pub const PEERS_MAX: usize = VALIDATORS_MAX + GUESTS_MAX;
// Members of two epochs are all among them: a quorum is two thirds, so a turn changes half as much again at most.
const _: () = assert!(APPROVALS_MAX * 3 / 2 < GUESTS_MAX);
/// Messages between the actors of a network.
const MAILBOX: NonZeroUsize = NZUsize!(1_024);

/// A validator and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its key.
    pub key: PublicKey,
    /// Its address on the consensus network.
    pub consensus: SocketAddr,
    /// Its address on the lane network.
    pub lanes: SocketAddr,
}

/// Sending half of a channel over sockets.
pub type SocketSender = Sender<PublicKey, Context>;
/// Receiving half of a channel over sockets.
pub type SocketReceiver = Receiver<PublicKey>;

/// The lane network's channels.
pub struct Lanes {
    /// For batches and for small messages about them.
    pub lanes: lanes::Channels<SocketSender, SocketReceiver>,
    /// For stored records.
    pub records: (SocketSender, SocketReceiver),
}

/// Both networks, running.
pub struct Networks {
    /// Channels for the engine.
    pub consensus: Channels<SocketSender, SocketReceiver>,
    /// Who is a peer of the consensus network, and who is blocked.
    pub oracle: Oracle<PublicKey>,
    /// Channels of the lane network.
    pub lanes: Lanes,
    /// Says who the peers are.
    pub trackers: Trackers,
    /// End when a network does.
    pub handles: Vec<Handle<()>>,
}

/// Keeps both networks to the peers of the time.
pub struct Trackers {
    consensus: Oracle<PublicKey>,
    lanes: Oracle<PublicKey>,
    /// How often they were told.
    count: u64,
}

impl Trackers {
    /// Talks to these from now on: validators, and others who may follow.
    pub fn track(&mut self, validators: &[Peer], guests: &[Peer]) {
        let at = |address: fn(&Peer) -> SocketAddr| AddressableTrackedPeers {
            primary: addresses(validators, address),
            secondary: addresses(guests, address),
        };
        let _ = self.consensus.track(self.count, at(|peer| peer.consensus));
        let _ = self.lanes.track(self.count, at(|peer| peer.lanes));
        self.count += 1;
    }
}

/// Starts both networks of the validator with this key; they talk to nobody before they are told to.
pub fn start(context: &Context, network: &Digest, key: &PrivateKey, me: &Peer) -> Networks {
    assert_eq!(key.public_key(), me.key, "the key is that of this validator");
    let validators = u32::try_from(VALIDATORS_MAX).expect("at most 100 validators");
    let payload = prefixed(payload_bytes_max(validators));
    let payload = u32::try_from(payload).expect("far below 4 GiB");
    let consensus = config(network, b"consensus", key, me.consensus, payload);
    let (mut consensus, oracle) = Network::new(context.child("consensus_network"), consensus);
    let channels = Channels {
        votes: consensus.register(0, SMALL_PER_SECOND),
        certificates: consensus.register(1, SMALL_PER_SECOND),
        resolver: consensus.register(2, SMALL_PER_SECOND),
        backfill: consensus.register(3, BLOCKS_PER_SECOND),
        blocks: consensus.register(4, BLOCKS_PER_SECOND),
    };
    let (lanes, lane_oracle, lanes_handle) = start_lanes(context, network, key, me);
    let handles = vec![consensus.start(), lanes_handle];
    let trackers = Trackers { consensus: oracle.clone(), lanes: lane_oracle, count: 0 };
    Networks { consensus: channels, oracle, lanes, trackers, handles }
}

const _: () = assert!(crate::repair::message::MESSAGE_BYTES_MAX <= BATCH_BYTES_MAX);

/// Starts the lane network alone; it talks to nobody before its oracle is told to.
pub fn start_lanes(
    context: &Context,
    network: &Digest,
    key: &PrivateKey,
    me: &Peer,
) -> (Lanes, Oracle<PublicKey>, Handle<()>) {
    let batch = u32::try_from(BATCH_BYTES_MAX).expect("half a MiB");
    let lanes = config(network, b"lanes", key, me.lanes, batch);
    let (mut lanes, oracle) = Network::new(context.child("lane_network"), lanes);
    let channels = Lanes {
        lanes: lanes::Channels {
            batches: lanes.register(0, BATCHES_PER_SECOND),
            control: lanes.register(1, SMALL_PER_SECOND),
        },
        records: lanes.register(2, RECORDS_PER_SECOND),
    };
    (channels, oracle, lanes.start())
}

/// Talks to these and to nobody else.
pub fn track(oracle: &mut Oracle<PublicKey>, peers: &[Peer], address: fn(&Peer) -> SocketAddr) {
    let _ = oracle.track(0, addresses(peers, address));
}

fn addresses(peers: &[Peer], address: impl Fn(&Peer) -> SocketAddr) -> Map<PublicKey, Address> {
    let pairs: Vec<_> = peers.iter().map(|peer| (peer.key.clone(), address(peer).into())).collect();
    pairs.try_into().expect("the keys of peers are distinct")
}

fn config(
    network: &Digest,
    purpose: &[u8],
    key: &PrivateKey,
    listen: SocketAddr,
    payload: u32,
) -> lookup::Config<Cups<Sake<PrivateKey>, Aes256Gcm>> {
    let handshake = Cups::new(
        Sake {
            signer: key.clone(),
            synchrony_bound: Duration::from_secs(5),
            max_handshake_age: Duration::from_secs(10),
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let namespace = [b"althing/p2p/v1/", purpose, b"/", network.as_bytes()].concat();
    let peers = NZUsize!(PEERS_MAX);
    // `local` allows private addresses and quick reconnects; peers are authenticated either way.
    let mut config = lookup::Config::local(handshake, &namespace, listen, peers, payload, MAILBOX);
    if purpose == b"lanes" {
        // Batches are large: a peer that does not read holds few of them in memory.
        config.mailbox_size = NZUsize!(512);
    }
    // The newest and the one before: connections outlive a change, and mailboxes are sized for as many as may be
    // tracked.
    config.tracked_peer_sets = NZUsize!(2);
    config
}
