//! The key by which clients know a validator when they ask for a session.

use snow::{
    params::DHChoice,
    resolvers::{CryptoResolver as _, DefaultResolver},
};
use std::fmt;
use zeroize::Zeroizing;

use super::random::Generator;

/// An X25519 key pair, wiped when dropped.
///
/// A validator makes one when it starts and hands the public half out over its other, signed ways.
pub struct AdmissionKey {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl AdmissionKey {
    /// Makes a pair from 32 random bytes that nobody else knows.
    ///
    /// Source: RFC 7748, section 5.
    pub fn generate(seed: [u8; 32]) -> Self {
        let private = Zeroizing::new(Generator::new(seed).draw());
        let mut curve =
            DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("the build has Curve25519");
        curve.set(&*private);
        let public = curve.pubkey().try_into().expect("a point has 32 bytes");
        Self { private, public }
    }

    /// The half that clients know.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The first 8 bytes of the public half, by which a handshake names it.
    pub fn id(&self) -> [u8; 8] {
        id(&self.public)
    }

    pub(super) fn private(&self) -> &[u8; 32] {
        &self.private
    }
}

impl fmt::Debug for AdmissionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionKey").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// The name of a public half.
pub(super) fn id(public: &[u8; 32]) -> [u8; 8] {
    *public.first_chunk().expect("32 bytes hold 8")
}
