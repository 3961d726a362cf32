//! Who the others are, and where they listen: as the configuration says, or as they were voted in.

use super::mend;
use crate::{
    config::{Config, Identity, Peer as Listed},
    network::{PEERS_MAX, Peer, Trackers},
    terms::Terms,
};
use ledger::{Member, PublicKey};
use std::net::SocketAddr;

/// Finds everybody's addresses.
#[derive(Clone)]
pub(super) struct Directory {
    own: PublicKey,
    listen: (SocketAddr, SocketAddr),
    listed: Vec<Listed>,
    genesis: Vec<PublicKey>,
}

impl Directory {
    pub(super) fn new(config: &Config, identity: &Identity) -> Self {
        Self {
            own: identity.secret.public(),
            listen: (config.listen.consensus, config.listen.lanes),
            listed: config.peers.clone(),
            genesis: identity.genesis.set().keys().to_vec(),
        }
    }

    /// This validator.
    pub(super) fn own(&self) -> Peer {
        let (consensus, lanes) = self.listen;
        Peer { key: mend::public_key(&self.own), consensus, lanes }
    }

    /// Where a validator listens; none where nobody has said so.
    fn find(&self, key: &PublicKey, voted: Option<&Member>) -> Option<Peer> {
        if *key == self.own {
            return Some(self.own());
        }
        // What a quorum has voted for is newer than what an operator wrote down.
        let voted = voted.and_then(|member| member.addresses);
        let listed = || self.listed.iter().find(|peer| peer.key == *key);
        let voted = voted.map(|at| (at.consensus, at.lanes));
        let (consensus, lanes) = voted.or_else(|| listed().map(|it| (it.consensus, it.lanes)))?;
        Some(Peer { key: mend::public_key(key), consensus, lanes })
    }

    /// All who are known before anything is executed: by the genesis and by the configuration.
    pub(super) fn first(&self) -> Vec<Peer> {
        let mut keys: Vec<PublicKey> = self.genesis.clone();
        keys.extend(self.listed.iter().map(|peer| peer.key));
        keys.push(self.own);
        keys.sort_unstable();
        keys.dedup();
        keys.iter().filter_map(|key| self.find(key, None)).collect()
    }

    /// Validators of this epoch and, once they are settled, of the next; and those who may follow.
    fn present(&self, terms: &Terms) -> (Vec<Peer>, Vec<Peer>) {
        let council = terms.council();
        let next = council.next().into_iter().flat_map(|next| next.members());
        let mut members: Vec<Member> =
            council.term().members().iter().chain(next).copied().collect();
        members.sort_by_key(|member| member.key);
        // Of two entries that of the next epoch counts: it may have moved.
        members.reverse();
        members.dedup_by_key(|member| member.key);
        members.reverse();
        let peer = |member: &Member| self.find(&member.key, Some(member));
        let guests = terms.guests();
        let members: Vec<Peer> = members.iter().filter_map(peer).take(PEERS_MAX - 1).collect();
        // This validator is one of them, whatever it is.
        let room = PEERS_MAX - 1 - members.len();
        (members, guests.iter().filter_map(peer).take(room).collect())
    }

    /// Keeps both networks to those who are present; ends with them.
    pub(super) async fn follow(self, terms: Terms, mut trackers: Trackers) {
        let mut news = terms.subscribe();
        let mut known = (Vec::new(), Vec::new());
        loop {
            news.mark_unchanged();
            let mut present = self.present(&terms);
            // Whoever is no member yet talks to members all the same.
            let is_in = |peer: &Peer| peer.key == mend::public_key(&self.own);
            if !present.0.iter().chain(&present.1).any(is_in) {
                present.1.push(self.own());
            }
            if present != known {
                trackers.track(&present.0, &present.1);
                known = present;
            }
            if news.changed().await.is_err() {
                return;
            }
        }
    }
}
