//! The handshake's cryptography: `Noise_NK_25519_ChaChaPoly_BLAKE2s`, one message each way.
//!
//! Source: Perrin, "The Noise Protocol Framework", revision 34, sections 5, 7.4 and 9.

use snow::{Builder, HandshakeState};
use zeroize::{Zeroize as _, Zeroizing};

use super::{key::AdmissionKey, random::Seeded};
use crate::{
    Reject,
    abi::{Grant, Handshake, VERSION, Welcome},
};

const PARAMETERS: &str = "Noise_NK_25519_ChaChaPoly_BLAKE2s";

/// A client's side between its message and the validator's.
pub(super) struct Initiator(HandshakeState);

impl Initiator {
    /// Writes the first message to the validator of this key; the seed decides what is random in
    /// it.
    pub(super) fn start(
        network: &[u8; 32],
        cookie: u64,
        public: &[u8; 32],
        seed: Zeroizing<[u8; 32]>,
    ) -> (Self, [u8; Handshake::MESSAGE_SIZE]) {
        let prologue = prologue(network, cookie);
        let mut state = builder(seed)
            .prologue(&prologue)
            .and_then(|builder| builder.remote_public_key(public))
            .and_then(Builder::build_initiator)
            .expect("each part is set once, with 32 bytes");
        let mut message = [0; Handshake::MESSAGE_SIZE];
        // A public key of small order gives a shared secret of zeros, which snow lets pass: such a
        // key comes from nobody but the validator itself.
        let size = state.write_message(&[], &mut message).expect("it is the initiator's turn");
        assert_eq!(size, message.len());
        (Self(state), message)
    }

    /// Reads the second message. One that does not open leaves the state as it was.
    ///
    /// Errors: [`Reject::Noise`], and those of [`Grant::decode`].
    pub(super) fn finish(
        &mut self,
        message: &[u8; Welcome::MESSAGE_SIZE],
    ) -> Result<Grant, Reject> {
        let mut payload = Zeroizing::new([0; Grant::SIZE]);
        let size = self.0.read_message(message, &mut *payload).map_err(|_| Reject::Noise)?;
        assert_eq!(size, payload.len());
        Grant::decode(&payload)
    }
}

/// A validator's side between the client's message and its own.
pub(super) struct Responder(HandshakeState);

impl Responder {
    /// Reads the first message; the seed decides what will be random in the second.
    ///
    /// Errors: [`Reject::Noise`].
    pub(super) fn read(
        network: &[u8; 32],
        handshake: &Handshake,
        key: &AdmissionKey,
        seed: Zeroizing<[u8; 32]>,
    ) -> Result<Self, Reject> {
        let prologue = prologue(network, handshake.cookie);
        let mut state = builder(seed)
            .prologue(&prologue)
            .and_then(|builder| builder.local_private_key(key.private()))
            .and_then(Builder::build_responder)
            .expect("each part is set once, with 32 bytes");
        let size = state.read_message(&handshake.message, &mut []).map_err(|_| Reject::Noise)?;
        assert_eq!(size, 0);
        Ok(Self(state))
    }

    /// Writes the second message.
    pub(super) fn finish(mut self, grant: &Grant) -> [u8; Welcome::MESSAGE_SIZE] {
        let mut payload = grant.encode();
        let mut message = [0; Welcome::MESSAGE_SIZE];
        let size =
            self.0.write_message(&payload, &mut message).expect("it is the responder's turn");
        payload.zeroize();
        assert_eq!(size, message.len());
        message
    }
}

fn builder<'a>(seed: Zeroizing<[u8; 32]>) -> Builder<'a> {
    let parameters = PARAMETERS.parse().expect("a name that snow knows");
    Builder::with_resolver(parameters, Box::new(Seeded(seed)))
}

/// What both sides must agree on before a word: network 32 | version 1 | cookie 8.
fn prologue(network: &[u8; 32], cookie: u64) -> [u8; 41] {
    let mut bytes = [0; 41];
    bytes[..32].copy_from_slice(network);
    bytes[32] = VERSION;
    bytes[33..].copy_from_slice(&cookie.to_le_bytes());
    bytes
}
