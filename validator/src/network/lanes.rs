//! Lane messages over any network: from the stage to peers, from peers to the stage.

use crate::{
    cost::{Cost, Meter},
    held::{Held, SharedBytes},
    message::Control,
};
use bytes::Bytes;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::Spawner;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::mpsc;

/// Channels of the lane network: batches, and small messages about them.
pub struct Channels<S, R> {
    /// Batches.
    pub batches: (S, R),
    /// Acks, certificates, requests.
    pub control: (S, R),
}

/// Who is meant: every peer, or the one with this key.
pub type Recipient = Option<ledger::PublicKey>;

/// A message from the lane stage to peers.
pub enum Outgoing {
    /// A small message.
    Control(Recipient, Control),
    /// A batch.
    Batch(Recipient, Arc<Held>),
    /// A batch for one peer, as the store has it.
    Stored(ledger::PublicKey, Vec<u8>),
}

/// Takes what peers send; must not wait.
pub trait Incoming: Clone + Send + 'static {
    /// What counts the costs of handing it over.
    fn meter(&self) -> Meter {
        Meter::OFF
    }
    /// A batch from the peer with this key.
    fn batch(&self, from: ledger::PublicKey, bytes: Vec<u8>);
    /// A small message.
    fn control(&self, from: ledger::PublicKey, bytes: Vec<u8>);
}

/// Moves messages both ways until either side ends.
pub fn start<E, S, R>(
    context: &E,
    channels: Channels<S, R>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    incoming: impl Incoming,
) where
    E: Spawner,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (mut batch_sender, mut batch_receiver) = channels.batches;
    let (mut control_sender, mut control_receiver) = channels.control;
    context.child("lane_send").spawn(move |_| async move {
        let mut known = Known::default();
        // What cannot be sent now is sent again by the stage, or fetched by the peer.
        while let Some(message) = outgoing.recv().await {
            match message {
                Outgoing::Control(to, control) => {
                    let Some(to) = known.recipients(to) else { continue };
                    // Nothing waits for evidence, and it is long.
                    let is_urgent = !matches!(control, Control::Evidence(_));
                    let _ = control_sender.send(to, Bytes::from(control.encode()), is_urgent);
                }
                Outgoing::Stored(to, bytes) => {
                    let Some(to) = known.recipients(Some(to)) else { continue };
                    let _ = batch_sender.send(to, Bytes::from(bytes), false);
                }
                Outgoing::Batch(to, held) => {
                    let Some(to) = known.recipients(to) else { continue };
                    let _ = batch_sender.send(to, Bytes::from_owner(SharedBytes(held)), false);
                }
            }
        }
    });
    let sink = incoming.clone();
    context.child("lane_batches").spawn(move |_| async move {
        while let Ok((from, message)) = batch_receiver.recv().await {
            let bytes = sink.meter().aside(Cost::Copy, || message.as_ref().to_vec());
            sink.batch(key_of(&from), bytes);
        }
    });
    context.child("lane_control").spawn(move |_| async move {
        while let Ok((from, message)) = control_receiver.recv().await {
            incoming.control(key_of(&from), message.as_ref().to_vec());
        }
    });
}

/// Keys that were decoded: as many as there may be peers, and some that were.
const KNOWN_MAX: usize = 1_024;

/// Decoded keys of peers, since decoding one costs as much as a third of a signature check.
#[derive(Default)]
struct Known(HashMap<ledger::PublicKey, PublicKey>);

impl Known {
    fn recipients(&mut self, to: Recipient) -> Option<Recipients<PublicKey>> {
        let Some(key) = to else { return Some(Recipients::All) };
        if let Some(known) = self.0.get(&key) {
            return Some(Recipients::One(known.clone()));
        }
        let decoded = PublicKey::decode(Copying(key.as_bytes())).ok()?;
        if self.0.len() >= KNOWN_MAX {
            self.0.clear();
        }
        self.0.insert(key, decoded.clone());
        Some(Recipients::One(decoded))
    }
}

fn key_of(key: &PublicKey) -> ledger::PublicKey {
    ledger::PublicKey(*key.as_ref().first_chunk().expect("a key has 32 bytes"))
}

/// Moves messages about stored records both ways until either side ends.
pub fn start_records<E, S, R>(
    context: &E,
    keys: Arc<[PublicKey]>,
    (mut sender, mut receiver): (S, R),
    mut outgoing: mpsc::Receiver<(u32, Vec<u8>)>,
    incoming: impl Fn(u32, Vec<u8>) + Send + 'static,
) where
    E: Spawner,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let peers = keys.clone();
    context.child("records_send").spawn(move |_| async move {
        while let Some((to, bytes)) = outgoing.recv().await {
            let Some(to) = peers.get(to as usize).cloned() else { continue };
            // What cannot be sent is asked for again.
            let _ = sender.send(Recipients::One(to), Bytes::from(bytes), false);
        }
    });
    context.child("records").spawn(move |_| async move {
        while let Ok((from, message)) = receiver.recv().await {
            if let Some(from) = index(&keys, &from) {
                incoming(from, message.as_ref().to_vec());
            }
        }
    });
}

/// The place of a validator in the set.
fn index(keys: &[PublicKey], from: &PublicKey) -> Option<u32> {
    keys.binary_search(from).ok().and_then(|index| u32::try_from(index).ok())
}
