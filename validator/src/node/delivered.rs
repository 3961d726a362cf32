//! Blocks between the engine and the stages: in order once, acknowledged when durable.

use crate::{
    consensus::{
        Scheme,
        engine::{Deliver, Delivery},
    },
    lane::Finalized,
};
use commonware_consensus::simplex::types::Finalization;
use commonware_utils::{Acknowledgement as _, acknowledgement::Exact};
use ledger::{Bitmap, Digest, Finality, Height, Signature, View};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Deliveries of the engine that wait until their block is durable here.
#[derive(Clone)]
pub struct Delivered(Arc<Mutex<State>>);

struct State {
    /// Newest height handed to the stages.
    handed: Height,
    /// Newest height that is durable.
    durable: Height,
    waiting: BTreeMap<Height, Vec<Exact>>,
}

impl Delivered {
    /// Everything up to `height` is durable from before.
    pub fn new(height: Height) -> Self {
        let state = State { handed: height, durable: height, waiting: BTreeMap::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Newest height handed to the stages.
    pub fn handed(&self) -> Height {
        self.lock().handed
    }

    /// Newest height that is durable here.
    pub fn durable(&self) -> Height {
        self.lock().durable
    }

    /// A height is durable: tells the engine.
    pub fn acknowledge(&self, height: Height) {
        let mut state = self.lock();
        state.durable = height;
        let later = state.waiting.split_off(&height.next());
        let done = std::mem::replace(&mut state.waiting, later);
        drop(state);
        for acknowledgement in done.into_values().flatten() {
            acknowledgement.acknowledge();
        }
    }

    /// Takes a delivery; true if the stages have not had its block.
    fn take(&self, height: Height, acknowledgement: Exact) -> bool {
        let mut state = self.lock();
        if height <= state.durable {
            drop(state);
            acknowledgement.acknowledge();
            return false;
        }
        state.waiting.entry(height).or_default().push(acknowledgement);
        if height <= state.handed {
            return false;
        }
        if height != state.handed.next() {
            // The engine acknowledged below this height what is not in the ledger: it was lost.
            super::fatal(&format!(
                "the ledger ends at height {}, but the engine goes on at {height}: part of the data \
                 folder is missing",
                state.handed
            ));
        }
        state.handed = height;
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands new blocks to a function, once each.
pub struct Handover<F> {
    delivered: Delivered,
    hand: F,
}

impl<F: FnMut(Finalized) + Send + 'static> Handover<F> {
    /// Hands to `hand` what `delivered` has not seen.
    pub const fn new(delivered: Delivered, hand: F) -> Self {
        Self { delivered, hand }
    }
}

impl<F: FnMut(Finalized) + Send + 'static> Deliver for Handover<F> {
    fn deliver(&mut self, delivery: Delivery) {
        let Delivery { block, finalization, acknowledgement } = delivery;
        let height = block.cut().height;
        if self.delivered.take(height, acknowledgement) {
            (self.hand)(Finalized {
                cut: block.cut().clone(),
                digest: block.cut_digest(),
                certificate: finalization.as_ref().map(certificate),
                token: height.get(),
            });
        }
    }
}

/// The engine's certificate in the ledger's own encoding.
pub fn certificate(
    finalization: &Finalization<Scheme, crate::consensus::block::Digest>,
) -> Finality {
    use commonware_codec::Encode as _;
    use commonware_consensus::{Epochable as _, Viewable as _};
    let mut signers = Bitmap::default();
    for signer in finalization.certificate.signers.iter() {
        let fresh = signers.insert(signer.get());
        assert!(fresh, "a certificate names each signer once");
    }
    let signature = |lazy: &commonware_codec::types::lazy::Lazy<
        commonware_cryptography::ed25519::Signature,
    >| {
        let bytes = lazy.encode();
        Signature(*bytes.first_chunk().expect("a signature has 64 bytes"))
    };
    let proposal = &finalization.proposal;
    Finality {
        epoch: proposal.epoch().get(),
        view: View(proposal.view().get()),
        parent_view: View(proposal.parent.get()),
        payload: Digest(proposal.payload.0),
        signers,
        signatures: finalization.certificate.signatures.iter().map(signature).collect(),
    }
}
